//! What makes containers a pod: shared namespaces that pause holds.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use serde_json::json;
use testkit::process::Process;
use testkit::{FOREVER, LIMIT, Minipod, container, eventually, pod, with};

const SHARED: [&str; 3] = ["net", "ipc", "uts"];

#[test]
fn containers_are_in_the_namespaces_of_pause() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&pod("two", &[container("a", FOREVER), container("b", FOREVER)]));
    let (pause, a, b) = (mp.pause("two"), mp.container("two", "a"), mp.container("two", "b"));
    let own = Process(std::process::id());
    for name in SHARED {
        let of_pause = pause.namespace(name).expect("pause lives");
        assert_eq!(a.namespace(name).ok(), Some(of_pause), "{name} of a");
        assert_eq!(b.namespace(name).ok(), Some(of_pause), "{name} of b");
        assert_ne!(own.namespace(name).ok(), Some(of_pause), "{name} of the host");
    }
    for name in ["mnt", "pid"] {
        let all: BTreeSet<u64> = [pause, a, b].into_iter().map(|p| p.namespace(name).expect("they live")).collect();
        assert_eq!(all.len(), 3, "{name} namespaces are each one's own");
    }
}

#[test]
fn pause_has_no_rights() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&pod("one", &[container("a", FOREVER)]));
    let pause = mp.pause("one");
    assert_eq!(pause.cmdline(), ["/pause"]);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(pause.status(set).as_deref(), Some("0000000000000000"), "{set}");
    }
    assert_eq!(pause.status("NoNewPrivs").as_deref(), Some("1"));
    assert_eq!(pause.status("Seccomp").as_deref(), Some("2"), "a filter");
    let root = fs::read_dir(format!("/proc/{}/root", pause.0)).expect("look into its root");
    assert_eq!(root.count(), 0, "its root is empty");
    let resident = pause.status("VmRSS").expect("it has memory");
    let kib: u32 = resident.trim_end_matches(" kB").parse().expect("a number of KiB");
    assert!(kib < 100, "pause has {kib} KiB");
    assert!(pause.cgroups().contains(mp.instance()), "it is in the pod's cgroup:\n{}", pause.cgroups());
}

#[test]
fn the_netns_link_leads_to_the_pod_and_pins_nothing() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&pod("linked", &[container("a", FOREVER)]));
    let link = format!("/run/netns/{}-linked", mp.instance());
    assert_eq!(mp.annotation("linked", "netns"), link);
    assert!(fs::symlink_metadata(&link).expect("the link").is_symlink());
    assert_eq!(Some(fs::metadata(&link).expect("follow it").ino()), mp.pause("linked").namespace("net").ok());
    let name = format!("{}-linked", mp.instance());
    let shown = testkit::Cmd::new("ip").args(["netns", "exec", &name, "ip", "-4", "-o", "addr", "show", "eth0"]).run().ok();
    assert!(shown.contains(&mp.ip("linked")), "{shown}");
}

#[test]
fn containers_meet_on_localhost() {
    let Some(mp) = Minipod::new() else { return };
    let serve = "mkdir -p /w; echo found > /w/f; exec httpd -f -p 8080 -h /w";
    mp.up(&pod("local", &[container("web", serve), container("visitor", FOREVER)]));
    let seen = eventually(LIMIT, "the page is served", || {
        let got = mp.run(&["exec", "local/visitor", "--", "wget", "-q", "-O", "-", "http://localhost:8080/f"]);
        (got.code() == 0).then_some(got.stdout)
    });
    assert_eq!(seen, "found\n");
}

#[test]
fn a_port_can_be_bound_once_in_a_pod_and_in_each_pod() {
    let Some(mp) = Minipod::new() else { return };
    let hold = "exec nc -l -p 7000";
    let second = container("second", FOREVER);
    mp.up(&pod("x", &[container("first", hold), second.clone()]));
    mp.up(&pod("y", &[container("first", hold), second]));
    for name in ["x", "y"] {
        eventually(LIMIT, "the port is bound", || {
            let inside = mp.container(name, "first");
            let table = String::from_utf8(inside.file("net/tcp").unwrap_or_default()).expect("a table");
            let any = String::from_utf8(inside.file("net/tcp6").unwrap_or_default()).expect("a table");
            // 7000 is 1B58; 0A is LISTEN.
            (table + &any).lines().any(|line| line.contains(":1B58") && line.contains(" 0A ")).then_some(())
        });
    }
    let denied = mp.run(&["exec", "x/second", "--", "nc", "-l", "-p", "7000"]);
    let said = denied.fails(1).to_lowercase();
    assert!(said.contains("address already in use") || said.contains("address in use"), "{said}");
}

#[test]
fn the_network_outlives_a_killed_container() {
    let Some(mp) = Minipod::new() else { return };
    let quick = json!({ "metadata": { "annotations": { "minipod.dev/restart-backoff-seconds": "0.2" } } });
    mp.up(&with(pod("keeps", &[container("a", FOREVER), container("b", FOREVER)]), quick));
    let (ip, netns, other) = (mp.ip("keeps"), mp.pause("keeps").namespace("net").expect("pause"), mp.container("keeps", "b"));
    let victim = mp.container("keeps", "a");
    victim.kill();
    let status = eventually(LIMIT, "a restarts", || {
        let status = mp.status("keeps", "a");
        (status["restartCount"] == 1 && status["state"]["running"].is_object()).then_some(status)
    });
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 137);
    assert_ne!(mp.container("keeps", "a"), victim);
    assert_eq!(mp.ip("keeps"), ip);
    assert_eq!(mp.pause("keeps").namespace("net").ok(), Some(netns));
    assert_eq!(mp.container("keeps", "a").namespace("net").ok(), Some(netns));
    assert_eq!(mp.container("keeps", "b"), other, "the other container was not touched");
    let table = mp.ok(&["ps"]);
    let row: Vec<&str> = table.lines().find(|line| line.starts_with("keeps")).expect("a row").split_whitespace().collect();
    assert_eq!(row[3], "1", "RESTARTS in {table}");
}

#[test]
fn shared_processes_have_pause_first_and_leave_no_zombies() {
    let Some(mp) = Minipod::new() else { return };
    let share = json!({ "spec": { "shareProcessNamespace": true } });
    mp.up(&with(pod("shared", &[container("a", FOREVER), container("b", FOREVER)]), share));
    assert_eq!(mp.sh("shared/a", "tr '\\0' ' ' < /proc/1/cmdline").trim(), "/pause");
    let pid = mp.pause("shared").namespace("pid").expect("pause");
    for name in ["a", "b"] {
        assert_eq!(mp.container("shared", name).namespace("pid").ok(), Some(pid));
    }
    // A child whose parent has ended becomes pause's.
    let orphan = mp.sh("shared/a", "sh -c 'sleep 0.3 & echo $!'");
    let state = |pid: &str| mp.run(&["exec", "shared/b", "--", "sh", "-c", &format!("cat /proc/{pid}/stat")]);
    let seen = state(&orphan);
    if seen.code() == 0 {
        let parent = seen.stdout.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).map(ToOwned::to_owned);
        assert_eq!(parent.as_deref(), Some("1"), "{}", seen.stdout);
    }
    eventually(LIMIT, "pause reaps the orphan", || (state(&orphan).code() != 0).then_some(()));
}

#[test]
fn host_namespaces_are_the_hosts() {
    let Some(mp) = Minipod::new() else { return };
    let host = json!({ "spec": { "hostNetwork": true, "hostIPC": true, "hostPID": true } });
    mp.up(&with(pod("host", &[container("a", FOREVER)]), host));
    let inside = mp.container("host", "a");
    let net = fs::metadata("/proc/thread-self/ns/net").expect("own network").ino();
    assert_eq!(inside.namespace("net").ok(), Some(net));
    for name in ["ipc", "pid", "uts"] {
        assert_eq!(inside.namespace(name).ok(), Process(std::process::id()).namespace(name).ok(), "{name}");
    }
    assert_eq!(mp.sh("host/a", "hostname"), fs::read_to_string("/proc/sys/kernel/hostname").expect("host name").trim());
    assert!(!testkit::Cmd::new("ip").args(["-o", "link"]).run().ok().contains(mp.bridge()), "no bridge for nobody");
}

#[test]
fn a_pod_without_a_network_has_only_loopback() {
    let Some(mp) = Minipod::new() else { return };
    let path = mp.manifest("none.json", &pod("none", &[container("a", FOREVER)]).to_string());
    drop(mp.ok(&["run", "-d", "--network", "none", &path]));
    let devices = mp.sh("none/a", "cat /proc/net/dev");
    let names: Vec<&str> = devices.lines().skip(2).filter_map(|line| line.split(':').next()).map(str::trim).collect();
    assert_eq!(names, ["lo"]);
    let inside = mp.container("none", "a");
    assert_ne!(inside.namespace("net").ok(), Some(fs::metadata("/proc/thread-self/ns/net").expect("own network").ino()));
    assert!(mp.run(&["exec", "none", "--", "ping", "-c", "1", "127.0.0.1"]).code() == 0, "lo is up");
}

#[test]
fn pods_reach_each_other_and_the_outside_behind_the_hosts_address() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&pod("p", &[container("a", FOREVER)]));
    mp.up(&pod("q", &[container("a", "mkdir /w; echo q > /w/f; exec httpd -f -p 80 -h /w")]));
    let address = mp.ip("q");
    let got = eventually(LIMIT, "q serves", || {
        let got = mp.run(&["exec", "p", "--", "wget", "-q", "-O", "-", &format!("http://{address}/f")]);
        (got.code() == 0).then_some(got.stdout)
    });
    assert_eq!(got, "q\n");

    let outside = mp.outside();
    let listener = outside.enter(|| std::net::TcpListener::bind((outside.address(), 9000)).expect("listen outside"));
    listener.set_nonblocking(true).expect("not to wait for ever");
    let target = outside.address().to_string();
    let client = mp.cmd().args(["exec", "p", "--", "nc", "-w", "5", &target, "9000"]).spawn();
    let from = eventually(Duration::from_secs(10), "the pod's connection arrives", || listener.accept().ok());
    assert_eq!(from.1.ip(), std::net::IpAddr::V4(outside.host()), "masqueraded");
    drop((from, client));
}

#[test]
fn eight_pods_started_side_by_side_have_addresses_of_their_own() {
    let Some(mp) = Minipod::new() else { return };
    let names: Vec<String> = (0..8).map(|n| format!("p{n}")).collect();
    let running: Vec<_> = names
        .iter()
        .map(|name| {
            let path = mp.manifest(&format!("{name}.json"), &pod(name, &[container("a", FOREVER)]).to_string());
            mp.cmd().args(["run", "-d", &path]).spawn()
        })
        .collect();
    for command in running {
        let _progress = command.finish(LIMIT).ok();
    }
    let addresses: BTreeSet<String> = names.iter().map(|name| mp.ip(name)).collect();
    assert_eq!(addresses.len(), names.len());
    assert!(!addresses.contains(&mp.gateway()));
    let first: Vec<_> = mp.inspect("p0")["metadata"]["annotations"]["minipod.dev/host-veth"].as_str().into_iter().map(ToOwned::to_owned).collect();
    let links = testkit::Cmd::new("ip").args(["-o", "link", "show", "master", mp.bridge()]).run().ok();
    assert_eq!(links.lines().count(), 8, "{links}");
    assert!(links.contains(&first[0]), "{first:?} in {links}");
}

#[test]
fn the_machines_own_network_is_left_as_it_was() {
    let Some(mp) = Minipod::on_the_machine() else { return };
    mp.up(&pod("real", &[container("a", FOREVER)]));
    assert!(mp.sh("real", "ip -o -4 addr show eth0").contains(&mp.ip("real")));
    mp.ok(&["rm", "-f", "real"]);
    mp.assert_clean();
}
