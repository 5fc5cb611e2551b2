//! The machine has a kernel, its modules and minipod: no shell, no `ip`, no `nft`, no library, no configuration.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::guest::Guest;
use testkit::{FOREVER, container, eventually, pod, with};

use super::{minipod, ok, on_minipod_alone};

/// How long what is asynchronous may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Modules that are in use as long as a pod's network or root is.
const COUNTED: [&str; 5] = ["overlay", "nft_chain_nat", "nft_masq", "nft_nat", "nft_fib"];
const LEASES: &str = "/var/lib/minipod/net/minipod0/leases.json";

/// What must be as before once the last pod is gone.
fn facts(guest: &mut Guest) -> BTreeSet<String> {
    let mut facts = BTreeSet::new();
    for pid in guest.names("/proc").into_iter().filter(|name| name.parse::<u32>().is_ok()) {
        // The kernel's own threads have no arguments; they come and go.
        let line = guest.try_read(&format!("/proc/{pid}/cmdline")).unwrap_or_default();
        facts.extend((!line.is_empty()).then(|| format!("process {pid} {line:?}")));
    }
    for line in guest.read("/proc/self/mountinfo").lines() {
        let words: Vec<&str> = line.split(' ').collect();
        facts.insert(format!("mount {} on {}", words[3], words[4]));
    }
    facts.extend(guest.names("/sys/class/net").into_iter().map(|link| format!("link {link}")));
    facts.insert(format!("routes {}", guest.read("/proc/net/route")));
    for module in COUNTED {
        facts.insert(format!("module {module} {}", guest.read(&format!("/sys/module/{module}/refcnt"))));
    }
    let cgroups = guest.walk("/sys/fs/cgroup").into_iter().filter(|path| path.ends_with("/cgroup.procs"));
    facts.extend(cgroups.map(|path| format!("cgroup {path}")));
    facts.extend(guest.walk("/").into_iter().filter(|path| !kept(path)).map(|path| format!("file {path}")));
    facts
}

/// What a removed pod leaves on purpose: unpacked images, compiled filters, a list of no leases, and files that are only ever locked.
fn kept(path: &str) -> bool {
    path == LEASES || ["/var/lib/minipod/images/", "/var/lib/minipod/seccomp/"].iter().any(|dir| path.starts_with(dir)) || path.ends_with("/lock") || path.ends_with(".lock")
}

fn json_of(guest: &mut Guest, args: &str) -> Value {
    let text = minipod(guest, args).ok();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("`minipod {args}` prints JSON: {e}\n{text}"))
}

fn wget(guest: &mut Guest, from: &str, url: &str) -> String {
    ok(guest, &format!("exec {from} -- wget -q -O - {url}"))
}

#[test]
fn one_file_is_enough() {
    let Some((mut guest, kernel)) = on_minipod_alone() else { return };
    let files = guest.walk("/");
    let ours: Vec<&String> = files.iter().filter(|path| !path.starts_with("/lib/modules/")).collect();
    assert_eq!(ours, ["/init", "/minipod"]);
    assert!(files.iter().all(|path| ours.contains(&path) || path.ends_with(".ko")), "{files:?}");
    assert_eq!(guest.read("/proc/sys/kernel/osrelease"), kernel);
    let serve = "mkdir -p /w; echo found > /w/f; echo serving; exec httpd -f -p 80 -h /w";
    let web = with(container("web", serve), json!({ "ports": [{ "containerPort": 80, "hostPort": 8080 }] }));
    let quick = json!({ "metadata": { "annotations": { "minipod.dev/restart-backoff-seconds": "0.2" } } });
    guest.write("/tmp/two.json", &with(pod("two", &[web, container("visitor", FOREVER)]), quick).to_string());
    guest.write("/tmp/other.json", &pod("other", &[container("c", FOREVER)]).to_string());
    let before = facts(&mut guest);

    ok(&mut guest, "run -d /tmp/two.json /tmp/other.json");

    let list = json_of(&mut guest, "ps -o json");
    let running = list["items"].as_array().expect("pods").iter().filter(|pod| pod["status"]["phase"] == "Running");
    let running: BTreeSet<&str> = running.filter_map(|pod| pod["metadata"]["name"].as_str()).collect();
    assert_eq!(running, BTreeSet::from(["two", "other"]));
    let address = json_of(&mut guest, "inspect two -o json")["status"]["podIP"].as_str().expect("an address").to_owned();
    eventually(PATIENCE, "web serves", || ok(&mut guest, "logs -c web two").contains("serving").then_some(()));
    let from_host = |guest: &mut Guest| guest.fetch("127.0.0.1:8080".parse().expect("an address"), "/f");
    let page = eventually(PATIENCE, "the host's port answers", || from_host(&mut guest));
    assert_eq!(page, "found\n");
    assert_eq!(wget(&mut guest, "two/visitor", "http://localhost/f"), "found\n");
    assert_eq!(wget(&mut guest, "other", &format!("http://{address}/f")), "found\n");
    assert_eq!(minipod(&mut guest, "exec two/visitor -- sh -c 'exit 42'").code(), 42);

    restarts(&mut guest, &address);
    ok(&mut guest, "stop two");
    assert_eq!(from_host(&mut guest), None);
    ok(&mut guest, "start two");
    eventually(PATIENCE, "the host's port answers again", || from_host(&mut guest));

    // Without its shim a pod is still removed by a command, another by gc.
    for name in ["two", "other"] {
        let annotations = json_of(&mut guest, &format!("inspect {name} -o json"))["metadata"]["annotations"].clone();
        let shim = annotations["minipod.dev/shim-pid"].as_str().and_then(|pid| pid.parse().ok()).expect("a pid");
        guest.kill(shim);
    }
    ok(&mut guest, "rm -f two");
    ok(&mut guest, "gc");
    ok(&mut guest, "rm -f other");
    assert_eq!(json_of(&mut guest, "ps -a -o json")["items"], json!([]));
    ok(&mut guest, "gc");
    as_before(&mut guest, &before);
    let leases: Value = serde_json::from_str(&guest.read(LEASES)).expect("leases are JSON");
    assert_eq!(leases["entries"], json!([]));
    let console = guest.power_off();
    assert!(!console.contains("Call Trace") && !console.contains("BUG:"), "{console}");
}

/// Waits for what the kernel takes down in the background.
fn as_before(guest: &mut Guest, before: &BTreeSet<String>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let after = facts(guest);
        let difference: Vec<&String> = before.symmetric_difference(&after).collect();
        if difference.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "the guest is not as before: {difference:#?}");
    }
}

/// The network stays with pause when a container's process is killed.
fn restarts(guest: &mut Guest, address: &str) {
    let before = json_of(guest, "inspect two -o json");
    let pid = before["metadata"]["annotations"]["minipod.dev/pid.web"].as_str().and_then(|pid| pid.parse().ok()).expect("a pid");
    guest.kill(pid);
    let after = eventually(PATIENCE, "web is restarted", || {
        let pod = json_of(guest, "inspect two -o json");
        let statuses = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        let back = statuses.iter().any(|status| status["name"] == "web" && status["restartCount"] == 1 && status["state"]["running"].is_object());
        back.then_some(pod)
    });
    assert_eq!(after["status"]["podIP"], address);
    let pause = |pod: &Value| pod["metadata"]["annotations"]["minipod.dev/pause-pid"].clone();
    assert_eq!(pause(&before), pause(&after));
}
