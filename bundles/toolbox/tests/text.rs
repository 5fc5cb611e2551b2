//! grep, find, xargs and sed, which are other people's crates: that they behave as people's scripts expect, since an
//! update of a crate could change that. And the options of free, hostname and ps.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The commands' files: `a` with four lines, `d/b.txt` and an empty `d/c.log`.
struct Files(PathBuf);

impl Files {
    fn new(test: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("toolbox-text-{}-{test}", std::process::id()));
        fs::create_dir_all(dir.join("d")).expect("make the directory");
        fs::write(dir.join("a"), "alpha\nBeta beta\ngamma x.y\nalphabet\n").expect("write a");
        fs::write(dir.join("d/b.txt"), "beta here\n").expect("write b.txt");
        fs::write(dir.join("d/c.log"), "").expect("write c.log");
        Self(dir)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("remove the files");
    }
}

/// Standard output and status of `toolbox ARGS` in `dir`; what hangs is ended by timeout(1) with status 124.
fn run(dir: &Path, args: &[&str], input: &str) -> (String, i32) {
    let mut child = Command::new("timeout")
        .args(["20", env!("CARGO_BIN_EXE_toolbox")])
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("start the toolbox");
    // A command that reads nothing may be gone already; the few bytes fit the pipe otherwise.
    drop(child.stdin.take().expect("its input").write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("its output");
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code().expect("a status"))
}

/// Arguments, input, output and status.
type Case<'a> = (&'a [&'a str], &'a str, &'a str, i32);

fn check(test: &str, cases: &[Case<'_>]) {
    let files = Files::new(test);
    for (args, input, output, status) in cases {
        assert_eq!(run(&files.0, args, input), ((*output).to_owned(), *status), "{args:?}");
    }
}

#[test]
fn grep_selects_lines_and_tells_by_status() {
    check(
        "grep",
        &[
            (&["grep", "-E", "a(m|lphab)", "a"], "", "gamma x.y\nalphabet\n", 0),
            (&["grep", "-F", "x.y", "a"], "", "gamma x.y\n", 0),
            (&["grep", "-F", "x*y", "a"], "", "", 1),
            (&["grep", "-v", "alpha", "a"], "", "Beta beta\ngamma x.y\n", 0),
            (&["grep", "-ic", "BETA", "a"], "", "1\n", 0),
            (&["grep", "-n", "beta", "a"], "", "2:Beta beta\n", 0),
            (&["grep", "-rl", "gamma", "."], "", "./a\n", 0),
            (&["grep", "-r", "here", "d"], "", "d/b.txt:beta here\n", 0),
            (&["grep", "-o", "a[lm]", "a"], "", "al\nam\nal\n", 0),
            (&["grep", "-w", "alpha", "a"], "", "alpha\n", 0),
            (&["grep", "-H", "gamma", "a"], "", "a:gamma x.y\n", 0),
            (&["grep", "-h", "eta", "a", "d/b.txt"], "", "Beta beta\nbeta here\n", 0),
            (&["grep", "-e", "gamma", "-e", "bet$", "a"], "", "gamma x.y\nalphabet\n", 0),
            (&["grep", "-A1", "Beta", "a"], "", "Beta beta\ngamma x.y\n", 0),
            (&["grep", "-B1", "Beta", "a"], "", "alpha\nBeta beta\n", 0),
            (&["grep", "al\\(pha\\)\\{1\\}b\\|x", "a"], "", "gamma x.y\nalphabet\n", 0),
            (&["grep", "a+"], "a+b\naab\n", "a+b\n", 0),
            (&["grep", "-q", "alpha", "a"], "", "", 0),
            (&["grep", "-q", "nothing", "a"], "", "", 1),
            (&["grep", "alpha", "absent"], "", "", 2),
            (&["grep", "-E", "(", "a"], "", "", 2),
        ],
    );
}

#[test]
fn find_selects_files_and_acts_on_them() {
    check(
        "find",
        &[
            (&["find", ".", "-name", "*.txt"], "", "./d/b.txt\n", 0),
            (&["find", ".", "-iname", "*.TXT", "-type", "f", "-print"], "", "./d/b.txt\n", 0),
            (&["find", ".", "-maxdepth", "1", "-type", "d", "-name", "d"], "", "./d\n", 0),
            (&["find", ".", "-mindepth", "2", "-name", "?.t*"], "", "./d/b.txt\n", 0),
            (&["find", "d", "-name", "b*", "-exec", "echo", "got", "{}", ";"], "", "got d/b.txt\n", 0),
            (&["find", "d", "-name", "c.log", "-delete"], "", "", 0),
            (&["find", "d", "-type", "f"], "", "d/b.txt\n", 0),
            (&["find", "absent"], "", "", 1),
        ],
    );
}

#[test]
fn xargs_makes_command_lines() {
    check(
        "xargs",
        &[
            (&["xargs", "echo"], "a b\n'c d'\n", "a b c d\n", 0),
            (&["xargs", "-n", "2", "echo", "x"], "1 2 3\n", "x 1 2\nx 3\n", 0),
            (&["xargs", "-I", "{}", "echo", "<{}>"], "a b\nc\n", "<a b>\n<c>\n", 0),
            (&["xargs", "-0", "-n1", "echo"], "a b\0c", "a b\nc\n", 0),
            (&["xargs", "-r", "echo", "none"], "", "", 0),
            (&["xargs", "echo", "once"], "", "once\n", 0),
            (&["xargs", "false"], "1\n", "", 123),
            (&["xargs", "/absent/command"], "1\n", "", 127),
        ],
    );
}

#[test]
fn sed_edits_lines() {
    check(
        "sed",
        &[
            (&["sed", "s/a/A/g", "a"], "", "AlphA\nBetA betA\ngAmmA x.y\nAlphAbet\n", 0),
            (&["sed", "s/B/_/Ig"], "Bb\n", "__\n", 0),
            (&["sed", "s/a/Q/2"], "aaa\n", "aQa\n", 0),
            (&["sed", "-n", "s/beta/B/p", "a"], "", "Beta B\n", 0),
            (&["sed", "-n", "2,3p", "a"], "", "Beta beta\ngamma x.y\n", 0),
            (&["sed", "-n", "/gamma/,$p", "a"], "", "gamma x.y\nalphabet\n", 0),
            (&["sed", "1d;$d", "a"], "", "Beta beta\ngamma x.y\n", 0),
            (&["sed", "/alpha/!d", "a"], "", "alpha\nalphabet\n", 0),
            (&["sed", "1q", "a"], "", "alpha\n", 0),
            (&["sed", "y/ab/xy/"], "cab\n", "cxy\n", 0),
            (&["sed", "-e", "s/a/1/", "-e", "s/b/2/"], "ab\n", "12\n", 0),
            (&["sed", "-E", "s/(a+)(b)/\\2\\1/"], "aab\n", "baa\n", 0),
            (&["sed", "s/\\(a\\)\\(b\\)/[&]\\2/"], "ab\n", "[ab]b\n", 0),
            (&["sed", "1i before\n1a after"], "x\n", "before\nx\nafter\n", 0),
            (&["sed", "1c changed"], "x\ny\n", "changed\ny\n", 0),
            (&["sed", "-i", "s/gamma/delta/", "a"], "", "", 0),
            (&["sed", "-n", "3p", "a"], "", "delta x.y\n", 0),
            (&["sed", "s/a"], "a\n", "", 1),
        ],
    );
}

#[test]
fn free_counts_in_the_unit_asked_for() {
    let total = |unit: &str| {
        let (text, status) = run(Path::new("/"), &["free", unit], "");
        assert_eq!(status, 0, "free {unit}");
        let line = text.lines().find(|line| line.starts_with("Mem:")).expect("a line for memory").to_owned();
        line.split_whitespace().nth(1).expect("the total").parse::<u64>().expect("a number")
    };
    let bytes = total("-b");
    assert_eq!(total("-k"), bytes / 1024);
    assert_eq!(total("-m"), bytes / 1024 / 1024);
}

#[test]
fn hostname_is_the_kernels() {
    let known = fs::read_to_string("/proc/sys/kernel/hostname").expect("the name");
    assert_eq!(run(Path::new("/"), &["hostname"], ""), (known.clone(), 0));
    assert_eq!(run(Path::new("/"), &["hostname", "-f"], ""), (known, 0));
}

#[test]
fn ps_shows_the_columns_asked_for() {
    let me = std::process::id();
    let (text, status) = run(Path::new("/"), &["ps", "-o", "pid=,ppid=", "-p", &me.to_string()], "");
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!((words, status), (vec![me.to_string().as_str(), std::os::unix::process::parent_id().to_string().as_str()], 0));
    let comm = fs::read_to_string("/proc/self/comm").expect("own name");
    assert_eq!(run(Path::new("/"), &["ps", "-o", "user=,comm=", "-p", &me.to_string()], "").0.split_whitespace().nth(1), Some(comm.trim_end()));
    for all in [&["ps"][..], &["ps", "aux"], &["ps", "-ef"]] {
        let (text, status) = run(Path::new("/"), all, "");
        assert_eq!(status, 0, "{all:?}");
        let listed = text.lines().any(|line| line.split_whitespace().any(|word| word == me.to_string()));
        assert!(listed, "{all:?}: {text}");
        let title = if all.len() == 1 { "PID" } else { "USER" };
        assert_eq!(text.split_whitespace().next(), Some(title), "{all:?}");
    }
    assert_eq!(run(Path::new("/"), &["ps", "-p", &i32::MAX.to_string()], "").1, 1);
    assert_ne!(run(Path::new("/"), &["ps", "-o", "nonsense"], "").1, 0);
}
