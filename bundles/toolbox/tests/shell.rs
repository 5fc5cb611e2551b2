//! The shell, feature by feature.

mod common;

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;

use common::{Image, limited, start};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Scripts, with what they write and their status.
const SCRIPTS: &[(&str, &str, i32)] = &[
    ("echo a 'b  c' \"d $((1 + 2 * 3))\" e\\ f", "a b  c d 7 e f\n", 0),
    ("for i in 1 2 3; do [ $i = 2 ] && continue; echo $i; done", "1\n3\n", 0),
    ("x=3; while [ $x -gt 0 ]; do x=$((x - 1)); [ $x -eq 1 ] && break; echo $x; done", "2\n", 0),
    ("x=; until [ -n \"$x\" ]; do x=1; echo once; done", "once\n", 0),
    ("for i in a b; do for j in c d; do break 2; done; done; echo $i$j", "ac\n", 0),
    ("x=5; cat <<END\n$x $(echo sub) \\$x \"q\" 'q'\nEND", "5 sub $x \"q\" 'q'\n", 0),
    ("cat <<'END'\n$x $(no)\nEND", "$x $(no)\n", 0),
    ("cat <<-END\n\ttabs\n\tEND", "tabs\n", 0),
    ("echo hello | tr a-z A-Z | cat", "HELLO\n", 0),
    ("f() { local y=in; echo \"$1 $y\"; return 3; }; y=out; f arg; echo $? $y", "arg in\n3 out\n", 0),
    ("echo $(echo a $(echo b)) `echo c`", "a b c\n", 0),
    ("case foo.txt in *.md) echo md;; *.txt | *.log) echo text;; *) echo other;; esac", "text\n", 0),
    ("set -- 'a b' c; for x in \"$@\"; do echo \"<$x>\"; done; echo $# \"$*\"; shift; echo $1", "<a b>\n<c>\n2 a b c\nc\n", 0),
    ("echo ${u:-def} ${u-x} ${z:=set} $z ${#z} ${z:+alt} ${u:+no}", "def x set set 3 alt\n", 0),
    ("p=/a/b.tar.gz; echo ${p##*/} ${p%.*} ${p%%.*} ${p#*/}", "b.tar.gz /a/b.tar /a/b a/b.tar.gz\n", 0),
    ("read a b <<E\none two three\nE\necho \"$a|$b\"", "one|two three\n", 0),
    ("printf 'x y\\nz w\\n' | while read -r a b; do echo $b$a; done", "yx\nwz\n", 0),
    ("IFS=:; v=a::b; set -- $v; echo $#", "3\n", 0),
    ("exec 5>out; echo five >&5; exec 5>&-; cat out; echo more >>out; wc -l <out", "five\n2\n", 0),
    ("{ echo out; echo err >&2; } 2>&1 | sort", "err\nout\n", 0),
    ("ls /nonexistent 2>/dev/null || echo failed", "failed\n", 0),
    ("(cd /; pwd; x=1); echo \"x=$x\"", "/\nx=\n", 0),
    ("(exit 7) & wait $!; echo $?", "7\n", 0),
    ("sleep 60 & kill $!; wait $!; echo $?", "143\n", 0),
    ("(sleep 60; echo no) & kill $!; wait $!; echo $?", "143\n", 0),
    ("trap 'echo bye' EXIT; echo hi; exit 4", "hi\nbye\n", 4),
    ("trap 'echo got' USR1; kill -USR1 $$; echo after", "got\nafter\n", 0),
    ("trap '' TERM; kill $$; echo alive", "alive\n", 0),
    ("set -e; if false; then :; fi; false || true; ! true; echo on; false; echo no", "on\n", 1),
    ("set -u; echo ${nope:-ok}; echo $nope; echo no", "ok\n", 2),
    ("set -o pipefail; false | true; echo $?", "1\n", 0),
    ("nosuch 2>/dev/null; echo $?; ./out 2>/dev/null; echo $?", "127\n127\n", 0),
    ("touch plain; chmod 644 plain; ./plain 2>/dev/null; echo $?", "126\n", 0),
    ("echo 'echo script $1' >s; chmod +x s; ./s arg", "script arg\n", 0),
    ("echo 'v=dotted' >d; . ./d; echo $v", "dotted\n", 0),
    ("A=1 sh -c 'echo $A'; echo \"[$A]\"; export B=2; sh -c 'echo $B'", "1\n[]\n2\n", 0),
    ("eval 'x=1; echo $x'; [[ abc == a* && -n x ]] && echo yes", "1\nyes\n", 0),
    ("touch f1 f2; echo f? 'f?' [f]1 none*", "f1 f2 f? f1 none*\n", 0),
    ("while getopts ab:c o -a -b val -c; do echo $o$OPTARG; done", "a\nbval\nc\n", 0),
    ("exec echo replaced; echo no", "replaced\n", 0),
    ("test ! -e nope -a 3 -lt 4 && [ \"$(umask)\" = 0022 -o x = x ] && echo t", "t\n", 0),
    ("i=0; i=$((i + 1)); : $((i += 5)) $((i++)); echo $i $((i > 6 && 1)) $((7 / 2)) $((-7 % 3))", "7 1 3 -1\n", 0),
    ("readonly r=1; r=2; echo no", "", 2),
    ("command -v echo; type cat | grep -c bin/cat", "echo\n1\n", 0),
];

#[test]
fn scripts_do_what_posix_says() {
    let wrong: Vec<String> = SCRIPTS
        .iter()
        .filter_map(|(script, expected, status)| {
            let (output, code) = Image::new().sh(script);
            (output != *expected || code != *status).then(|| format!("{script}\n  wrote {output:?} with status {code}, not {expected:?} with {status}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn syntax_errors_are_said_with_status_2() {
    for script in ["if true", "echo $((", "done", "echo 'open"] {
        let output = Image::new().run("sh", &["-c", script], "");
        assert_eq!(output.status.code(), Some(2), "{script}");
        assert!(!output.stderr.is_empty(), "{script}");
    }
}

#[test]
fn standard_input_is_a_script_that_its_commands_can_read() {
    let output = Image::new().run("sh", &[], "read line\nfor this\necho got $line\nif true\nthen echo joined; fi\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "got for this\njoined\n");
}

const SERVICE: &str = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 1 & wait $!; done";

#[test]
fn a_trap_interrupts_wait_at_once() {
    let image = Image::new();
    let mut child = start(image.command("sh", &["-c", SERVICE]));
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("its output")).read_line(&mut line).expect("its first line");
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), Signal::SIGTERM).expect("send SIGTERM");
    let output = limited(child);
    assert_eq!((String::from_utf8_lossy(&output.stdout).as_ref(), output.status.code()), ("bye\n", Some(3)));
}

#[test]
fn a_trap_waits_for_the_command_in_the_foreground() {
    let (output, status) = Image::new().sh("trap 'echo trapped' TERM; (kill $$; sleep 0.3; echo first); echo last");
    assert_eq!((output.as_str(), status), ("first\ntrapped\nlast\n", 0));
}

#[test]
fn without_a_trap_a_signal_ends_the_shell() {
    let output = Image::new().run("sh", &["-c", "kill $$; echo no"], "");
    assert_eq!((output.stdout.as_slice(), output.status.signal()), (&b""[..], Some(15)));
}

#[test]
fn the_last_command_takes_the_shells_place() {
    let image = Image::new();
    for script in ["exec sh -c 'echo $$'", "sh -c 'echo $$'", ":; : && sh -c 'echo $$'"] {
        let child = start(image.command("sh", &["-c", script]));
        let pid = child.id().to_string();
        assert_eq!(String::from_utf8_lossy(&limited(child).stdout).trim(), pid, "{script}");
    }
}

/// A shell as PID 1 of a new PID namespace: traps work, orphans are collected, a signal without trap does nothing.
#[test]
fn as_pid_1() {
    let image = Image::new();
    let script = "(sleep 0.1 & exec true) ; trap 'echo usr' USR1; kill -USR1 1; kill -TERM 1; sleep 0.4; wait; \
                  echo $$ zombies: $(ps -o stat | grep -c Z)";
    let unshare = |script: &str| {
        let mut command = std::process::Command::new("unshare");
        command
            .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
            .arg(image.path().join("bin/sh"))
            .args(["-c", script])
            .env("PATH", format!("{}:{}", image.path().join("bin").display(), std::env::var("PATH").unwrap_or_default()));
        common::finish(command, "")
    };
    let output = unshare(script);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text, "usr\n1 zombies: 0\n", "{}", String::from_utf8_lossy(&output.stderr));
    let output = unshare("trap 'echo bye; exit 3' TERM; (sleep 0.2; kill 1) & while :; do sleep 1 & wait $!; done");
    assert_eq!((String::from_utf8_lossy(&output.stdout).as_ref(), output.status.code()), ("bye\n", Some(3)));
}

/// A member of a pipeline that ends before its turn to be waited for keeps its status.
#[test]
fn a_pipeline_has_the_status_of_its_last_command_whoever_ends_first() {
    for _ in 0..50 {
        let run = std::process::Command::new(env!("CARGO_BIN_EXE_toolbox"))
            .args(["sh", "-c", "sleep 0.01 | true"])
            .status()
            .expect("run the shell");
        assert_eq!(run.code(), Some(0));
    }
}
