//! What a container's process is given: arguments, environment, directory, the pod's files.

use serde_json::{Value, json};
use testkit::{FOREVER, Minipod, container, pod, with};

/// The output of a container that ends.
fn printed(mp: &Minipod, container: Value) -> String {
    let never = json!({ "spec": { "restartPolicy": "Never" } });
    let output = mp.foreground(&with(pod("p", &[container]), never));
    let text = output.ok();
    text.lines().filter_map(|line| line.strip_prefix("[c] ")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn command_and_args_with_variables() {
    let Some(mp) = Minipod::new() else { return };
    let text = printed(
        &mp,
        json!({
            "name": "c", "image": "toolbox",
            "command": ["sh", "-c", "for a in \"$@\"; do echo \"<$a>\"; done; echo $FULL", "sh"],
            "args": ["$(GREETING)", "$$(GREETING)", "$(NOBODY)", "a b", "$(GREETING)-$(GREETING)"],
            "env": [
                { "name": "GREETING", "value": "hello" },
                { "name": "FULL", "value": "$(GREETING), $(LATER) world" },
                { "name": "LATER", "value": "x" },
            ],
        }),
    );
    assert_eq!(text, "<hello>\n<$(GREETING)>\n<$(NOBODY)>\n<a b>\n<hello-hello>\nhello, $(LATER) world\n");
}

#[test]
fn directory_environment_and_streams() {
    let Some(mp) = Minipod::new() else { return };
    let script = "pwd; echo $HOME; echo ${PATH:+path}; echo $HOSTNAME; readlink /proc/self/fd/0; id -u";
    let text = printed(&mp, with(container("c", script), json!({ "workingDir": "/tmp" })));
    assert_eq!(text, "/tmp\n/root\npath\np\n/dev/null\n0\n");
}

#[test]
fn nothing_of_the_caller_is_inherited() {
    let Some(mp) = Minipod::new() else { return };
    let script = "cat /proc/self/environ | tr '\\0' '\\n' | grep -c SECRET_OF_CALLER; ls /proc/self/fd | wc -l; grep -E '^(SigIgn|SigBlk)' /proc/1/status; umask";
    let path = mp.manifest("p.json", &with(pod("p", &[container("c", script)]), json!({ "spec": { "restartPolicy": "Never" } })).to_string());
    let text = mp.cmd().args(["run", &path]).env("SECRET_OF_CALLER", "x").run().ok();
    let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("[c] ")).collect();
    assert_eq!(lines[0], "0", "{text}");
    // 0, 1, 2 and the directory that ls reads.
    assert_eq!(lines[1], "4", "{text}");
    assert_eq!(lines[2..], ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000", "0022"], "{text}");
}

#[test]
fn the_pods_own_files() {
    let Some(mp) = Minipod::new() else { return };
    let spec = json!({ "spec": {
        "hostname": "named",
        "hostAliases": [{ "ip": "192.0.2.9", "hostnames": ["alias.example"] }],
        "dnsPolicy": "None",
        "dnsConfig": { "nameservers": ["192.0.2.53"], "searches": ["a.example"], "options": [{ "name": "ndots", "value": "2" }] },
    }});
    mp.up(&with(pod("files", &[container("a", FOREVER), container("b", FOREVER)]), spec));
    assert_eq!(mp.sh("files/a", "hostname; cat /etc/hostname"), "named\nnamed");
    let hosts = mp.sh("files/a", "cat /etc/hosts");
    let has = |ip: &str, name: &str| hosts.lines().any(|line| line.split_whitespace().next() == Some(ip) && line.split_whitespace().any(|word| word == name));
    assert!(has("127.0.0.1", "localhost") && has("::1", "localhost"), "{hosts}");
    assert!(has(&mp.ip("files"), "named") && has("192.0.2.9", "alias.example"), "{hosts}");
    let resolv = mp.sh("files/b", "cat /etc/resolv.conf");
    assert_eq!(resolv.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>(), ["search a.example", "nameserver 192.0.2.53", "options ndots:2"], "{resolv}");
}

#[test]
fn shared_memory_and_ipc_are_the_pods() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&pod("shm", &[container("a", FOREVER), container("b", FOREVER)]));
    drop(mp.sh("shm/a", "echo seen > /dev/shm/f"));
    assert_eq!(mp.sh("shm/b", "cat /dev/shm/f"), "seen");
    assert_eq!(mp.sh("shm/b", "stat -c %a /dev/shm"), "1777");
}
