//! Commands inside a running container.

use testkit::pty::on_a_terminal;
use testkit::{FOREVER, Minipod, binary, container, pod};

fn one() -> Option<Minipod> {
    let mp = Minipod::new()?;
    mp.up(&pod("one", &[container("c", FOREVER), container("d", FOREVER)]));
    Some(mp)
}

#[test]
fn codes_and_streams_pass_through() {
    let Some(mp) = one() else { return };
    let output = mp.run(&["exec", "one/c", "--", "sh", "-c", "echo out; echo err >&2; exit 42"]);
    assert_eq!((output.code(), &*output.stdout, &*output.stderr), (42, "out\n", "err\n"));
    assert_eq!(mp.run(&["exec", "one", "--", "sh", "-c", "kill -9 $$"]).code(), 137);
    assert_eq!(mp.run(&["exec", "one", "--", "no-such-program"]).code(), 127);
    assert_eq!(mp.run(&["exec", "one", "--", "/etc/hosts"]).code(), 126);
    assert_eq!(mp.run(&["exec", "one", "--", "/no/such/path"]).code(), 127);
    mp.fails(125, &["exec", "nobody", "--", "true"]);
    let said = mp.fails(125, &["exec", "one/z", "--", "true"]);
    assert!(said.contains('z'), "{said}");
}

#[test]
fn standard_input_is_passed_with_i_only() {
    let Some(mp) = one() else { return };
    let big = "0123456789abcdef\n".repeat(20_000);
    let output = mp.cmd().args(["exec", "-i", "one/c", "--", "cat"]).stdin(big.clone()).run().ok();
    assert!(output == big, "{} of {} bytes came back", output.len(), big.len());
    let output = mp.cmd().args(["exec", "one/c", "--", "cat"]).stdin("lost").run().ok();
    assert_eq!(output, "");
}

#[test]
fn environment_directory_and_user_may_be_chosen() {
    let Some(mp) = one() else { return };
    let script = "echo $A-$B; pwd; id -u; id -g";
    let text = mp.ok(&["exec", "-e", "A=1", "-e", "B=x y", "-w", "/tmp", "-u", "1000:2000", "one/c", "--", "sh", "-c", script]);
    assert_eq!(text, "1-x y\n/tmp\n1000\n2000\n");
    assert_eq!(mp.ok(&["exec", "-u", "1000", "one/c", "--", "grep", "CapEff", "/proc/self/status"]), "CapEff:\t0000000000000000\n");
}

#[test]
fn it_is_as_confined_as_the_container() {
    let Some(mp) = one() else { return };
    let of = |which: &str| {
        let init = mp.container("one", "c").status(which).expect("the container's");
        let exec = mp.ok(&["exec", "one/c", "--", "grep", which, "/proc/self/status"]);
        (init, exec.split_whitespace().nth(1).unwrap_or_default().to_owned())
    };
    for which in ["Seccomp:", "CapEff:", "CapBnd:", "NoNewPrivs:"] {
        let (init, exec) = of(which.trim_end_matches(':'));
        assert_eq!(init, exec, "{which}");
    }
    let inside = mp.sh("one/c", "readlink /proc/self/ns/mnt; readlink /proc/1/ns/mnt");
    let two: Vec<&str> = inside.lines().collect();
    assert_eq!(two[0], two[1]);
}

#[test]
fn a_terminal_is_a_terminal() {
    let Some(mp) = one() else { return };
    let root = mp.root().to_str().expect("UTF-8").to_owned();
    let program = binary();
    let program = program.to_str().expect("UTF-8");
    let args = ["exec", "-it", "one/c", "--", "sh", "-c", "tty; stty size 2>/dev/null; read line; echo \"<$line>\"; exit 5"];
    let (code, shown) = on_a_terminal(program, &args, &[("MINIPOD_ROOT", &root)], (33, 77), "typed\n");
    assert_eq!(code, 5, "{shown}");
    assert!(shown.contains("/dev/pts/0") && shown.contains("<typed>\r\n"), "{shown}");
    let (code, shown) = on_a_terminal(program, &["exec", "-t", "one/c", "--", "sh", "-c", "test -t 1 && echo yes"], &[("MINIPOD_ROOT", &root)], (24, 80), "");
    assert_eq!((code, shown.trim()), (0, "yes"));
    assert_ne!(mp.run(&["exec", "one/c", "--", "test", "-t", "1"]).code(), 0, "none without -t");
}
