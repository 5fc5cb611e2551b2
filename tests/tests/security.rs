//! securityContext, as a container sees it.

use serde_json::{Value, json};
use testkit::{FOREVER, Minipod, container, pod, with};

/// Bits of capabilities(7).
const CHOWN: u32 = 0;
const NET_BIND_SERVICE: u32 = 10;
const NET_RAW: u32 = 13;
const SYS_ADMIN: u32 = 21;
const MKNOD: u32 = 27;
const AUDIT_WRITE: u32 = 29;

fn secured(name: &str, context: Value) -> Value {
    pod(name, &[with(container("c", FOREVER), json!({ "securityContext": context }))])
}

fn set(mp: &Minipod, name: &str, which: &str) -> u64 {
    let text = mp.container(name, "c").status(which).expect("a set");
    u64::from_str_radix(&text, 16).expect("a number in hex")
}

fn has(set: u64, capability: u32) -> bool {
    set & (1 << capability) != 0
}

#[test]
fn an_ordinary_container_has_few_capabilities_and_a_filter() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&secured("plain", json!({})));
    let bounding = set(&mp, "plain", "CapBnd");
    assert_eq!(set(&mp, "plain", "CapEff"), bounding);
    assert!(has(bounding, CHOWN) && has(bounding, NET_BIND_SERVICE));
    for absent in [NET_RAW, SYS_ADMIN, MKNOD, AUDIT_WRITE] {
        assert!(!has(bounding, absent), "capability {absent} in {bounding:x}");
    }
    assert_eq!(mp.container("plain", "c").status("Seccomp").as_deref(), Some("2"));
    // Masked and read-only paths.
    assert_eq!(mp.sh("plain", "cat /proc/kcore | head -c 1 | wc -c"), "0");
    let said = mp.run(&["exec", "plain", "--", "sh", "-c", "echo 1 > /proc/sys/kernel/sysrq"]);
    assert_ne!(said.code(), 0, "{said}");
    assert!(mp.run(&["exec", "plain", "--", "mount", "-t", "tmpfs", "x", "/mnt"]).code() != 0);
}

#[test]
fn capabilities_are_added_and_dropped() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&secured("caps", json!({ "capabilities": { "add": ["NET_RAW"], "drop": ["CHOWN"] } })));
    let effective = set(&mp, "caps", "CapEff");
    assert!(has(effective, NET_RAW) && !has(effective, CHOWN), "{effective:x}");
    assert!(mp.run(&["exec", "caps", "--", "chown", "7", "/tmp"]).code() != 0, "exec has the same");
    mp.up(&secured("none", json!({ "capabilities": { "drop": ["ALL"] } })));
    assert_eq!(set(&mp, "none", "CapBnd"), 0);
}

#[test]
fn user_and_group() {
    let Some(mp) = Minipod::new() else { return };
    let manifest = with(secured("user", json!({ "runAsUser": 1000, "runAsGroup": 2000 })), json!({ "spec": { "securityContext": { "supplementalGroups": [3000] } } }));
    mp.up(&manifest);
    let process = mp.container("user", "c");
    assert_eq!(process.status("Uid").as_deref(), Some("1000\t1000\t1000\t1000"));
    assert_eq!(process.status("Gid").as_deref(), Some("2000\t2000\t2000\t2000"));
    let groups = process.status("Groups").expect("groups");
    assert!(groups.split(' ').all(|group| ["2000", "3000"].contains(&group)) && groups.contains("3000"), "{groups}");
    assert_eq!(set(&mp, "user", "CapEff"), 0);
    assert_eq!(mp.sh("user", "id -u; id -g"), "1000\n2000");
    assert_ne!(mp.run(&["exec", "user", "--", "touch", "/x"]).code(), 0);
}

#[test]
fn non_root_is_checked() {
    let Some(mp) = Minipod::new() else { return };
    let manifest = mp.manifest("root.json", &secured("root", json!({ "runAsNonRoot": true })).to_string());
    let said = mp.run(&["run", "-d", &manifest]).fails(125);
    assert!(said.contains("runAsNonRoot"), "{said}");
}

#[test]
fn privileged_has_everything() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&secured("priv", json!({ "privileged": true })));
    let own = testkit::process::Process(1).status("CapBnd").expect("init's");
    assert_eq!(mp.container("priv", "c").status("CapEff"), Some(own));
    assert_eq!(mp.container("priv", "c").status("Seccomp").as_deref(), Some("0"));
    assert_eq!(mp.sh("priv", "mknod /hole c 1 3 && echo gone > /hole && echo made"), "made");
}

#[test]
fn a_read_only_root_is_read_only() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&secured("ro", json!({ "readOnlyRootFilesystem": true })));
    let said = mp.run(&["exec", "ro", "--", "touch", "/x"]).fails(1);
    assert!(said.to_lowercase().contains("read-only"), "{said}");
    assert_eq!(mp.sh("ro", "touch /dev/shm/x && echo writable"), "writable");
}

#[test]
fn escalation_can_be_refused() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&secured("may", json!({})));
    mp.up(&secured("may-not", json!({ "allowPrivilegeEscalation": false })));
    assert_eq!(mp.container("may", "c").status("NoNewPrivs").as_deref(), Some("0"));
    assert_eq!(mp.container("may-not", "c").status("NoNewPrivs").as_deref(), Some("1"));
    assert_eq!(mp.sh("may-not", "grep NoNewPrivs /proc/self/status"), "NoNewPrivs:\t1", "exec too");
}
