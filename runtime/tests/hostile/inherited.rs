//! What a careless caller leaves lying about must not reach a container.

use std::fs;

use serde_json::json;

use crate::engine_support::{Lab, set, status_line};
use crate::host::{Around, Said, bare_within, expect_flaw, minipod_within};

const PROLOGUE: &str = "engine::launcher (prologue)";

/// The same script in the same surroundings, in a container of each.
fn both(script: &str, around: &Around<'_>) -> (Said, Said) {
    let lab = Lab::new();
    let naive = bare_within(&lab, &lab.spec(script), around);
    let lab = Lab::new();
    let ours = minipod_within(&lab, &lab.spec(script), around);
    for said in [&naive, &ours] {
        assert_eq!(0, said.code, "{said:#?}");
    }
    (naive, ours)
}

#[test]
fn descriptors() {
    let around = Around { before: "exec 3</etc/hostname 4</etc/hostname 9</etc/hostname", wrapper: "env LISTEN_FDS=1", after: "" };
    let (naive, ours) = both("cat <&3 2>/dev/null; for fd in 3 4 9; do test -e /proc/self/fd/$fd && echo has $fd; done; true", &around);
    expect_flaw(naive.stdout.contains("has 3") && naive.stdout.contains(fs::read_to_string("/etc/hostname").unwrap().trim()), PROLOGUE, &naive);
    assert_eq!("", ours.stdout);
}

#[test]
fn environment() {
    let around = Around { before: "exec 3</dev/null", wrapper: "env LISTEN_FDS=1 SECRET=sesame", after: "" };
    let (naive, ours) = both("env", &around);
    expect_flaw(naive.stdout.contains("LISTEN_PID="), PROLOGUE, &naive);
    assert!(!ours.stdout.contains("LISTEN") && !ours.stdout.contains("SECRET"), "{ours:?}");
}

/// libcontainer's child panics, and its caller hears "BrokenChannel".
#[test]
fn environment_that_is_not_utf_8() {
    let lab = Lab::new();
    let around = Around { wrapper: r#"env "BAD=$(printf '\377')""#, ..Around::default() };
    let naive = bare_within(&lab, &lab.spec("echo up"), &around);
    expect_flaw(naive.code != 0, PROLOGUE, &naive);
    let lab = Lab::new();
    assert_eq!("up\n", minipod_within(&lab, &lab.spec("echo up"), &around).stdout);
}

#[test]
fn supplementary_groups() {
    let around = Around { wrapper: "setpriv --groups 4,27", ..Around::default() };
    let (naive, ours) = both("cat /proc/self/status", &around);
    expect_flaw(status_line(&naive.stdout, "Groups") == "4 27", PROLOGUE, &naive);
    assert_eq!("", status_line(&ours.stdout, "Groups"));
}

#[test]
fn ignored_and_blocked_signals() {
    let around = Around { wrapper: "env --ignore-signal=INT --block-signal=USR1", ..Around::default() };
    // No shell, which has ideas of its own about signals.
    let plain = |lab: &Lab| set(lab.spec(""), "/process/args", json!(["cat", "/proc/self/status"]));
    let lab = Lab::new();
    let naive = bare_within(&lab, &plain(&lab), &around);
    let bits = |name: &str| u64::from_str_radix(status_line(&naive.stdout, name), 16).unwrap();
    // SIGPIPE (0x1000) is the Rust runtime's doing, SIGINT (2) the caller's; SIGUSR1 is 0x200.
    expect_flaw(bits("SigIgn") & 0x1002 == 0x1002 && bits("SigBlk") & 0x200 != 0, PROLOGUE, &naive);
    let lab = Lab::new();
    let ours = minipod_within(&lab, &plain(&lab), &around);
    for set in ["SigIgn", "SigBlk"] {
        assert_eq!("0000000000000000", status_line(&ours.stdout, set), "{set}");
    }
}

#[test]
fn umask() {
    let around = Around { before: "umask 007", ..Around::default() };
    let (naive, ours) = both("umask", &around);
    expect_flaw(naive.stdout == "0007\n", PROLOGUE, &naive);
    assert_eq!("0022\n", ours.stdout);
}

#[test]
fn session_keyring() {
    let around = Around { wrapper: "$WITH_KEY sesame", ..Around::default() };
    let (naive, ours) = both("cat /proc/keys", &around);
    expect_flaw(naive.stdout.contains("sesame"), "sys::new_session_keyring", &naive);
    assert!(!ours.stdout.contains("sesame"), "{ours:#?}");
}

/// Not a secret, but a starved container: bound to the processor its caller was bound to.
#[test]
fn processors() {
    let around = Around { wrapper: "taskset 1", ..Around::default() };
    let (naive, ours) = both("cat /proc/self/status", &around);
    expect_flaw(status_line(&naive.stdout, "Cpus_allowed_list") == "0", "engine::launcher (all_processors)", &naive);
    // More than "0" where there are more.
    let here = fs::read_to_string("/proc/self/status").unwrap();
    assert_eq!(status_line(&here, "Cpus_allowed_list"), status_line(&ours.stdout, "Cpus_allowed_list"));
}

/// A shim protects itself from the out-of-memory killer; what it starts must not be protected with it.
#[test]
fn protection_from_the_out_of_memory_killer() {
    // Lowering needs CAP_SYS_RESOURCE, so the caller's is raised where there is none; then only bare has something to show.
    let before = "echo -500 > /proc/self/oom_score_adj || echo 500 > /proc/self/oom_score_adj; cat /proc/self/oom_score_adj";
    let (naive, ours) = both("cat /proc/self/oom_score_adj", &Around { before, ..Around::default() });
    let lines = |said: &Said| said.stdout.lines().map(ToOwned::to_owned).collect::<Vec<_>>();
    let (theirs, ours) = (lines(&naive), lines(&ours));
    expect_flaw(theirs[0] == theirs[1] && theirs[0] != "0", "engine::launcher (give_up_oom_protection)", &naive);
    assert!(ours[1] == "0" || !ours[0].starts_with('-'), "{ours:?}");
}

/// Where the spec asks for none the caller's stay, in both, as the runtime spec has it: only that what is asked for is what counts.
#[test]
fn limits() {
    let around = Around { before: "ulimit -n 77", ..Around::default() };
    let lab = Lab::new();
    let spec = set(lab.spec("ulimit -n"), "/process/rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 50, "hard": 60 }]));
    assert_eq!("50\n", minipod_within(&lab, &spec, &around).stdout);
}
