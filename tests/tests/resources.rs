//! Limits, as the kernel has them.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use testkit::{FOREVER, LIMIT, Minipod, container, eventually, pod, with};

/// Where a process is in the hierarchy of a v1 controller, or in the unified one.
fn cgroup(process: testkit::process::Process, controller: &str) -> PathBuf {
    let text = process.cgroups();
    let lines: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':')).collect();
    let v1 = lines.iter().find(|(names, _)| names.split(',').any(|name| name == controller));
    let (names, path) = v1.or_else(|| lines.iter().find(|(names, _)| names.is_empty())).unwrap_or_else(|| panic!("no {controller} in {text}"));
    let root = if names.is_empty() { PathBuf::from("/sys/fs/cgroup") } else { PathBuf::from("/sys/fs/cgroup").join(names) };
    root.join(path.trim_start_matches('/'))
}

fn one_of(dir: &std::path::Path, files: [&str; 2]) -> String {
    let found = files.iter().find_map(|file| fs::read_to_string(dir.join(file)).ok());
    found.unwrap_or_else(|| panic!("neither of {files:?} in {}", dir.display())).trim().to_owned()
}

#[test]
fn cpu_and_memory_limits_reach_the_cgroup() {
    let Some(mp) = Minipod::new() else { return };
    let limits = json!({ "resources": { "limits": { "memory": "64Mi", "cpu": "250m" }, "requests": { "cpu": "100m" } } });
    mp.up(&pod("limited", &[with(container("c", FOREVER), limits), container("free", FOREVER)]));
    let process = mp.container("limited", "c");
    let memory = cgroup(process, "memory");
    assert_eq!(one_of(&memory, ["memory.limit_in_bytes", "memory.max"]), (64 << 20).to_string());
    let cpu = cgroup(process, "cpu");
    let quota = one_of(&cpu, ["cpu.cfs_quota_us", "cpu.max"]);
    assert!(["25000", "25000 100000"].contains(&&*quota), "{quota}");
    let free = cgroup(mp.container("limited", "free"), "memory");
    assert_ne!(free, memory);
    assert_eq!(free.parent(), memory.parent(), "both below the pod's");
}

#[test]
fn too_much_memory_is_oom_killed() {
    let Some(mp) = Minipod::new() else { return };
    let limits = json!({ "resources": { "limits": { "memory": "32Mi" } } });
    let never = json!({ "spec": { "restartPolicy": "Never" } });
    // tmpfs pages of /dev/shm are the container's.
    let hog = container("c", "exec dd if=/dev/zero of=/dev/null bs=200M count=1");
    mp.up(&with(pod("hog", &[with(hog, limits)]), never));
    let ended = eventually(LIMIT, "it is killed", || {
        let state = mp.status("hog", "c")["state"]["terminated"].clone();
        state.is_object().then_some(state)
    });
    assert_eq!((&ended["exitCode"], &ended["reason"]), (&json!(137), &json!("OOMKilled")), "{ended:#}");
}
