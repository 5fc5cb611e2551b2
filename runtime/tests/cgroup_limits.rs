//! Cgroups on the kernel that runs the tests.

mod engine_support;

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use engine_support::{Lab, block_on, cgroup_path, chain};
use runtime::cgroup::{Cgroup, CpuQuota, DeviceAccess, Hierarchy, Limits};
use runtime::process::{ProcessId, wait_exit};

fn sleeper() -> Child {
    Command::new("/bin/busybox").args(["sleep", "1000"]).spawn().unwrap()
}

fn file(hierarchy: &Hierarchy, cgroup: &Cgroup, v1: &str, v2: &str) -> PathBuf {
    let (controller, name) = v1.split_once('/').unwrap();
    let path = cgroup.path().trim_start_matches('/');
    if hierarchy.is_v2() {
        Path::new("/sys/fs/cgroup").join(path).join(v2)
    } else {
        Path::new("/sys/fs/cgroup").join(controller).join(path).join(name)
    }
}

#[test]
fn limits_are_what_the_kernel_says() {
    block_on(async {
        let limits = Limits {
            cpu_quota: Some(CpuQuota { quota_us: 50_000, period_us: 100_000 }),
            cpu_shares: Some(512),
            memory_bytes: Some(64 << 20),
            pids: Some(33),
            devices: DeviceAccess::Container(Vec::new()),
        };
        let hierarchy = Hierarchy::detect().unwrap();
        let path = cgroup_path();
        let pod = Cgroup::create(&hierarchy, &path, &Limits::default()).unwrap();
        let cgroup = Cgroup::create(&hierarchy, &format!("{path}/a"), &limits).unwrap();
        let read = |v1, v2| fs::read_to_string(file(&hierarchy, &cgroup, v1, v2)).unwrap().trim().to_owned();
        assert_eq!("33", read("pids/pids.max", "pids.max"));
        assert_eq!("67108864", read("memory/memory.limit_in_bytes", "memory.max"));
        if hierarchy.is_v2() {
            assert_eq!("50000 100000", read("/", "cpu.max"));
        } else {
            assert_eq!("50000", read("cpu/cpu.cfs_quota_us", ""));
            assert_eq!("512", read("cpu/cpu.shares", ""));
            assert!(!read("devices/devices.list", "").contains("a *:*"));
        }
        cgroup.set(&Limits { pids: Some(44), ..Limits::default() }).unwrap();
        assert_eq!("44", read("pids/pids.max", "pids.max"));
        pod.remove().await.unwrap();
        assert!(!cgroup.exists() && !pod.exists());
        pod.remove().await.unwrap(); // again: nothing to do
        assert!(cgroup.procs().unwrap().is_empty());
    });
}

#[test]
fn kill_ends_all_members_and_those_below_and_no_others() {
    block_on(async {
        let hierarchy = Hierarchy::detect().unwrap();
        let path = cgroup_path();
        let pod = Cgroup::create(&hierarchy, &path, &Limits::default()).unwrap();
        let inner = Cgroup::create(&hierarchy, &format!("{path}/inner"), &Limits::default()).unwrap();
        let mut children: Vec<Child> = (0..4).map(|_| sleeper()).collect();
        let mut bystander = sleeper();
        // On v2 only leaves have members.
        for child in &children {
            inner.add(child.id()).unwrap();
        }
        let mut found = pod.procs().unwrap();
        found.sort_unstable();
        let mut expected: Vec<u32> = children.iter().map(Child::id).collect();
        expected.sort_unstable();
        assert_eq!(expected, found);
        assert_eq!(libc::EBUSY, busy(&inner).await);

        pod.kill().await.unwrap();
        for child in &mut children {
            assert!(!child.wait().unwrap().success());
        }
        assert!(ProcessId::of(bystander.id()).unwrap().is_alive());
        pod.remove().await.unwrap();
        assert!(!pod.exists());
        bystander.kill().unwrap();
        bystander.wait().unwrap();
    });
}

async fn busy(cgroup: &Cgroup) -> i32 {
    let error = cgroup.remove().await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().downcast_ref::<std::io::Error>().unwrap();
    source.raw_os_error().unwrap_or_else(|| panic!("{}", chain(&error)))
}

/// Processes that fork all the time must not outrun us. (They never reach the limit: a shell that cannot fork ends,
/// and a bomb may burn out by itself.)
#[test]
fn what_forks_all_the_time_is_ended() {
    block_on(async {
        let lab = Lab::with_limits(Limits { pids: Some(200), ..Limits::default() });
        let script = "i=0; while [ $i -lt 40 ]; do (while true; do (true); done) & i=$((i+1)); done; echo; exec sleep 1000";
        let (mut created, pipes) = lab.create(&lab.spec(script)).await.unwrap();
        created.start().await.unwrap();
        assert_eq!(1, rustix::io::read(&pipes.stdout, &mut [0]).unwrap());
        assert!(lab.cgroup.stats().unwrap().pids > 40);
        lab.cgroup.kill().await.unwrap();
        assert!(lab.cgroup.procs().unwrap().is_empty());
        wait_exit(created.pidfd.as_fd()).await.unwrap();
    });
}

#[test]
fn an_oom_kill_is_counted() {
    block_on(async {
        let lab = Lab::with_limits(Limits { memory_bytes: Some(16 << 20), ..Limits::default() });
        assert_eq!(0, lab.cgroup.oom_kills().unwrap());
        let output = lab.run(&lab.spec("exec dd if=/dev/zero of=/dev/null bs=64M count=1")).await.unwrap();
        assert_eq!((137, Some(9)), (output.exit.code, output.exit.signal), "{}", output.stderr);
        assert!(lab.cgroup.oom_kills().unwrap() >= 1);
    });
}

#[test]
fn use_is_measured() {
    block_on(async {
        let lab = Lab::new();
        let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; exec cat";
        let (mut created, pipes) = lab.create(&lab.spec(script)).await.unwrap();
        created.start().await.unwrap();
        let mut word = [0; 5];
        assert_eq!(5, rustix::io::read(&pipes.stdout, &mut word).unwrap());
        let stats = lab.cgroup.stats().unwrap();
        assert_eq!(1, stats.pids);
        assert!(stats.cpu_ns > 1_000_000, "{stats:?}");
        assert!(stats.memory_bytes > 0, "{stats:?}");
        assert_eq!(0, pipes.finish(created.pidfd).await.exit.code);
    });
}

/// Even root with CAP_MKNOD opens only what the list has.
#[test]
fn devices_outside_the_list_cannot_be_opened() {
    block_on(async {
        let lab = Lab::with_limits(Limits { devices: DeviceAccess::Container(Vec::new()), ..Limits::default() });
        let spec = lab.spec("mknod /dev/mem2 c 1 1 && head -c 1 /dev/mem2; head -c 1 /dev/zero | wc -c");
        let caps = serde_json::json!(["CAP_MKNOD", "CAP_SYS_RAWIO"]);
        let caps = serde_json::json!({ "bounding": caps, "effective": caps, "permitted": caps });
        let output = lab.run(&engine_support::set(spec, "/process/capabilities", caps)).await.unwrap();
        assert!(output.stderr.contains("Operation not permitted"), "{} {}", output.stdout, output.stderr);
        assert_eq!("1\n", output.stdout);
    });
}

/// The unified code path on a machine whose controllers are on v1: a tree without controllers, in a mount namespace
/// of our own.
#[test]
fn the_unified_tree_creates_kills_and_removes() {
    let done = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        let slave = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
        nix::mount::mount(none, "/", none, slave, none).unwrap();
        while nix::mount::umount2("/sys/fs/cgroup", nix::mount::MntFlags::MNT_DETACH).is_ok() {}
        nix::mount::mount(Some("none"), "/sys/fs/cgroup", Some("cgroup2"), nix::mount::MsFlags::empty(), none).unwrap();
        // mountinfo of this thread, which has the mount namespace, not of the process' first.
        let text = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let hierarchy = Hierarchy::from_mountinfo(&text).unwrap();
        assert!(hierarchy.is_v2());
        block_on(async {
            let path = cgroup_path();
            let pod = Cgroup::create(&hierarchy, &path, &Limits::default()).unwrap();
            let inner = Cgroup::create(&hierarchy, &format!("{path}/c"), &Limits::default()).unwrap();
            // Twice: the second takes the first's place.
            for devices in [vec!["b *:* rw".to_owned()], Vec::new()] {
                inner.set(&Limits { devices: DeviceAccess::Container(devices), ..Limits::default() }).unwrap();
            }
            let mut child = sleeper();
            inner.add(child.id()).unwrap();
            assert_eq!(vec![child.id()], pod.procs().unwrap());
            pod.kill().await.unwrap();
            assert!(!child.wait().unwrap().success());
            assert!(inner.stats().unwrap().cpu_ns > 0, "dying takes time too");
            pod.remove().await.unwrap();
            assert!(!pod.exists());
        });
    });
    done.join().unwrap();
}
