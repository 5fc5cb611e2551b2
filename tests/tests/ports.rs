//! hostPort: who reaches what from where, and who is in the way.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{FOREVER, LIMIT, Minipod, container, eventually, pod, with};

const PATIENCE: Duration = Duration::from_secs(2);

fn serving(name: &str, page: &str, port: Value) -> Value {
    let script = format!("mkdir -p /w; echo {page} > /w/f; exec httpd -f -p 80 -h /w");
    pod(name, &[with(container("web", &script), json!({ "ports": [with(json!({ "containerPort": 80 }), port)] }))])
}

/// What a plain HTTP/1.0 client gets; `None` when nobody answers.
fn fetch(address: Ipv4Addr, port: u16) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(IpAddr::V4(address), port), PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).expect("set a limit");
    stream.write_all(b"GET /f HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.rsplit("\r\n\r\n").next().map(|page| page.trim().to_owned())
}

fn served(address: Ipv4Addr, port: u16) -> String {
    eventually(LIMIT, &format!("{address}:{port} answers"), || fetch(address, port))
}

#[test]
fn tcp_from_every_side() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&serving("web", "page", json!({ "hostPort": 8080 })));
    mp.up(&pod("client", &[container("c", FOREVER)]));
    let gateway: Ipv4Addr = mp.gateway().parse().expect("an address");
    assert_eq!(served(Ipv4Addr::LOCALHOST, 8080), "page");
    assert_eq!(served(gateway, 8080), "page");
    let outside = mp.outside();
    assert_eq!(outside.enter(|| served(outside.host(), 8080)), "page");
    // From another pod, and from itself (hairpin).
    for from in ["client", "web"] {
        for address in [gateway, outside.host()] {
            let got = mp.ok(&["exec", from, "--", "wget", "-q", "-O", "-", &format!("http://{address}:8080/f")]);
            assert_eq!(got, "page\n", "from {from} by {address}");
        }
    }
    mp.ok(&["rm", "-f", "web"]);
    assert_eq!(fetch(Ipv4Addr::LOCALHOST, 8080), None);
}

#[test]
fn a_host_ip_limits_who_reaches_it() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&serving("local", "page", json!({ "hostPort": 8081, "hostIP": "127.0.0.1" })));
    assert_eq!(served(Ipv4Addr::LOCALHOST, 8081), "page");
    let outside = mp.outside();
    assert_eq!(outside.enter(|| fetch(outside.host(), 8081)), None);
    assert_eq!(fetch(mp.gateway().parse().expect("an address"), 8081), None);
}

#[test]
fn udp() {
    let Some(mp) = Minipod::new() else { return };
    let ports = json!({ "ports": [{ "containerPort": 53, "hostPort": 5353, "protocol": "UDP" }] });
    mp.up(&pod("udp", &[with(container("c", "exec nc -u -l -p 53"), ports)]));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    // Nobody says when the other side listens: send until it has heard.
    eventually(LIMIT, "a packet arrives", || {
        socket.send_to(b"packet\n", "127.0.0.1:5353").ok()?;
        mp.ok(&["logs", "-c", "c", "udp"]).contains("packet").then_some(())
    });
}

#[test]
fn conflicts_name_the_holder_and_create_nothing() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&serving("first", "page", json!({ "hostPort": 8080 })));
    let second = mp.manifest("second.json", &serving("second", "page", json!({ "hostPort": 8080 })).to_string());
    let said = mp.fails(125, &["run", "-d", &second]);
    assert!(said.contains("8080") && said.contains("first"), "{said}");
    assert_eq!(mp.pods(), ["default/first"]);
    mp.ok(&["rm", "-f", "first"]);
    mp.assert_clean();

    let listener = TcpListener::bind("0.0.0.0:8080").expect("listen");
    let said = mp.fails(125, &["run", "-d", &second]);
    let own = std::process::id().to_string();
    assert!(said.contains("8080") && said.contains(&own), "it names process {own}: {said}");
    mp.assert_clean();
    drop(listener);
    mp.ok(&["run", "-d", &second]);
}

#[test]
fn publish_adds_ports() {
    let Some(mp) = Minipod::new() else { return };
    let path = mp.manifest("web.json", &serving("web", "page", json!({})).to_string());
    mp.ok(&["run", "-d", "--publish", "127.0.0.1:9090:80", &path]);
    assert_eq!(served(Ipv4Addr::LOCALHOST, 9090), "page");
}

#[test]
fn the_same_host_port_for_tcp_and_udp_is_no_conflict() {
    let Some(mp) = Minipod::new() else { return };
    let ports = json!({ "ports": [{ "containerPort": 53, "hostPort": 53 }, { "containerPort": 53, "hostPort": 53, "protocol": "UDP" }] });
    mp.up(&pod("both", &[with(container("c", FOREVER), ports.clone())]));
    let twice = json!({ "ports": [{ "containerPort": 53, "hostPort": 54 }, { "containerPort": 54, "hostPort": 54 }] });
    let path = mp.manifest("twice.json", &pod("twice", &[with(container("c", FOREVER), twice)]).to_string());
    let said = mp.fails(125, &["run", "-d", &path]);
    assert!(said.contains("54"), "{said}");
}

#[test]
fn an_exhausted_range_says_so() {
    let Some(mp) = Minipod::new() else { return };
    let mp = mp.with_cidr("10.177.1.0/30");
    mp.up(&pod("only", &[container("c", FOREVER)]));
    let path = mp.manifest("more.json", &pod("more", &[container("c", FOREVER)]).to_string());
    let said = mp.fails(125, &["run", "-d", &path]);
    assert!(said.contains("10.177.1.0/30"), "{said}");
    assert_eq!(mp.pods(), ["default/only"]);
    mp.ok(&["rm", "-f", "only"]);
    mp.assert_clean();
    mp.ok(&["run", "-d", &path]);
}

#[test]
fn an_address_may_be_asked_for() {
    let Some(mp) = Minipod::new() else { return };
    let mp = mp.with_cidr("10.177.2.0/24");
    let path = mp.manifest("at.json", &pod("at", &[container("c", FOREVER)]).to_string());
    mp.ok(&["run", "-d", "--ip", "10.177.2.77", &path]);
    assert_eq!(mp.ip("at"), "10.177.2.77");
    let other = mp.manifest("other.json", &pod("other", &[container("c", FOREVER)]).to_string());
    assert!(mp.fails(125, &["run", "-d", "--ip", "10.177.2.77", &other]).contains("10.177.2.77"));
    assert!(mp.fails(125, &["run", "-d", "--ip", "10.99.0.1", &other]).contains("10.99.0.1"));
}

#[test]
fn rules_carry_comments_and_go_with_the_last_pod() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&serving("web", "page", json!({ "hostPort": 8080 })));
    let rules = testkit::Cmd::new("nft").args(["list", "ruleset"]).run().ok();
    assert!(rules.contains("comment") && rules.contains("default/web") && rules.contains("8080"), "{rules}");
    let mtu = mp.sh("web", "cat /sys/class/net/eth0/mtu");
    assert_eq!(mtu, "1400", "the MTU of the default route's link");
    mp.ok(&["rm", "-f", "web"]);
    assert_eq!(testkit::Cmd::new("nft").args(["list", "ruleset"]).run().ok(), "");
}
