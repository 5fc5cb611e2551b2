//! Packets go where they should: real namespaces, real sockets.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{
    Host, Netns, ask_tcp, ask_udp, in_private_host, ping, port, request, run, serve_tcp, serve_udp,
};
use netsetup::{IfName, Protocol, attach};
use std::net::{Ipv4Addr, TcpListener};

const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);

#[test]
fn two_pods_reach_each_other_and_the_gateway() {
    in_private_host(|| async {
        let host = Host::new();
        let (a, at_a) = host.pod("a", &[]).await;
        let (b, at_b) = host.pod("b", &[]).await;
        assert_eq!(at_a.address, Ipv4Addr::new(10, 244, 0, 2));
        assert_eq!(at_b.address, Ipv4Addr::new(10, 244, 0, 3));
        assert_eq!(
            (at_a.prefix_len, at_a.gateway, at_a.mtu),
            (24, GATEWAY, 1500)
        );
        a.enter(|| ping(at_b.address)).expect("a pings b");
        a.enter(|| ping(GATEWAY)).expect("a pings the gateway");
        a.enter(|| ping(LOCALHOST)).expect("a pings itself");
        ping(at_a.address).expect("the host pings a");
        serve_tcp(&b, 80); // a privileged port elsewhere
        assert_eq!(
            a.enter(|| ask_tcp(at_b.address, 80)).expect("a asks b"),
            at_a.address.to_string()
        );
        assert_eq!(
            ask_tcp(at_b.address, 80).expect("the host asks b"),
            GATEWAY.to_string()
        );
    });
}

#[test]
fn everything_is_set_up_as_documented() {
    in_private_host(|| async {
        let host = Host::new();
        let (a, at) = host.pod("a", &[]).await;
        let inside = a.enter(|| {
            run("ip", "-o address") + &run("ip", "route") + &run("ip", "-o link show eth0")
        });
        assert!(inside.contains("inet 10.244.0.2/24"), "{inside}");
        assert!(
            inside.contains("default via 10.244.0.1 dev eth0"),
            "{inside}"
        );
        assert!(inside.contains("link/ether 0a:58:0a:f4:00:02"), "{inside}");
        assert!(!inside.contains("fe80:"), "{inside}");
        let read = |name: &str| {
            std::fs::read_to_string(format!("/proc/sys/{name}"))
                .unwrap()
                .trim()
                .to_owned()
        };
        assert_eq!(
            a.enter(|| read("net/ipv4/ping_group_range")),
            "0\t2147483647"
        );
        assert_eq!(a.enter(|| read("net/ipv4/ip_unprivileged_port_start")), "0");
        assert_eq!(read("net/ipv4/ip_forward"), "1");
        assert_eq!(read("net/ipv4/conf/minipod0/route_localnet"), "1");
        assert_eq!(
            read("net/ipv4/ip_unprivileged_port_start"),
            "1024",
            "the host's own settings stay"
        );
        let link = run("ip", "-d -o link show mp-a");
        assert!(
            link.contains("alias default/a")
                && link.contains("hairpin on")
                && link.contains("master minipod0"),
            "{link}"
        );
        let bridge = run("ip", "-o link show minipod0");
        assert!(
            bridge.contains("link/ether 0a:58:0a:f4:00:01") && bridge.contains("UP"),
            "{bridge}"
        );
        assert_eq!(
            (at.mac.to_string().as_str(), at.host_if.as_str()),
            ("0a:58:0a:f4:00:02", "mp-a")
        );
    });
}

/// With br_netfilter, bridged packets pass the rules as well; without it, a neighbour's answers would not come back
/// the way they must unless masqueraded. Docker and Kubernetes turn it on, other hosts have it off.
#[test]
fn host_ports_are_reached_from_everywhere_on_the_host() {
    for bridge_netfilter in ["0", "1"] {
        in_private_host(move || async move {
            let setting = std::path::Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
            if setting.exists() {
                std::fs::write(setting, bridge_netfilter).unwrap();
            }
            host_ports().await;
        });
    }
}

async fn host_ports() {
    let host = Host::new();
    let ports = [
        port(None, 8080, 80, Protocol::Tcp),
        port(None, 8053, 53, Protocol::Udp),
    ];
    let (web, at_web) = host.pod("web", &ports).await;
    let (other, _) = host.pod("other", &[]).await;
    serve_tcp(&web, 80);
    serve_udp(&web, 53);
    for to in [LOCALHOST, GATEWAY, Ipv4Addr::new(127, 0, 0, 9)] {
        assert_eq!(
            ask_tcp(to, 8080).unwrap_or_else(|e| panic!("tcp {to}: {e}")),
            GATEWAY.to_string()
        );
        assert_eq!(
            ask_udp(to, 8053).unwrap_or_else(|e| panic!("udp {to}: {e}")),
            GATEWAY.to_string()
        );
    }
    // hairpin: to itself, and to a neighbour, through the host's address
    for from in [&web, &other] {
        assert_eq!(
            from.enter(|| ask_tcp(GATEWAY, 8080)).expect("hairpin tcp"),
            GATEWAY.to_string()
        );
        assert_eq!(
            from.enter(|| ask_udp(GATEWAY, 8053)).expect("hairpin udp"),
            GATEWAY.to_string()
        );
    }
    assert!(
        ask_tcp(GATEWAY, 80).is_err(),
        "a container port alone publishes nothing"
    );
    assert_eq!(
        ask_tcp(at_web.address, 80).expect("direct"),
        GATEWAY.to_string()
    );
}

#[test]
fn what_is_asked_for_is_given() {
    in_private_host(|| async {
        let host = Host::new();
        let (pod, wanted) = (Netns::new(), Ipv4Addr::new(10, 244, 0, 77));
        let mut asked = request("a", &pod, &[]);
        asked.address = Some(wanted);
        asked.mac = Some("02:00:00:00:00:07".parse().unwrap());
        asked.mtu = Some(1300);
        asked.pod_if = IfName::new("net1").unwrap();
        let given = attach(&host.network, &asked).await.unwrap();
        assert_eq!(
            (given.address, given.mtu, given.mac.to_string().as_str()),
            (wanted, 1300, "02:00:00:00:00:07")
        );
        let link = pod.enter(|| run("ip", "-o link show net1"));
        assert!(
            link.contains("mtu 1300") && link.contains("02:00:00:00:00:07"),
            "{link}"
        );
        pod.enter(|| ping(GATEWAY)).expect("the gateway answers");
        let (_b, at_b) = host.pod("b", &[]).await;
        assert_eq!(at_b.mtu, 1500, "a neighbour's wish is the neighbour's");
        assert_eq!(at_b.address, Ipv4Addr::new(10, 244, 0, 78));
    });
}

#[test]
fn two_networks_of_one_host_do_not_mix() {
    in_private_host(|| async {
        let (first, mut second) = (Host::new(), Host::with_subnet("10.244.4.0/22"));
        second.network.bridge = IfName::new("br7").unwrap();
        let (a, _) = first.pod("a", &[]).await;
        let (b, at_b) = second
            .pod("b", &[port(None, 8080, 80, Protocol::Tcp)])
            .await;
        assert_eq!(
            (at_b.address, at_b.gateway),
            (Ipv4Addr::new(10, 244, 4, 2), Ipv4Addr::new(10, 244, 4, 1))
        );
        serve_tcp(&b, 80);
        ask_tcp(LOCALHOST, 8080).expect("from the host");
        a.enter(|| ask_tcp(GATEWAY, 8080))
            .expect("from the other network, by its gateway");
        let table = run("nft", "list table inet minipod-br7");
        assert!(
            table.contains("ip saddr 10.244.4.0/22 ip daddr != 10.244.0.0/16"),
            "{table}"
        );
        netsetup::detach(&second.network, "b").await.unwrap();
        a.enter(|| ping(GATEWAY))
            .expect("the first is not disturbed");
        assert!(!run("nft", "list tables").contains("br7"));
    });
}

#[test]
fn a_port_of_one_address_is_not_hidden_by_one_of_all() {
    in_private_host(|| async {
        run("ip", "address add 192.0.2.1/32 dev lo");
        run("ip", "address add 192.0.2.2/32 dev lo");
        let host = Host::new();
        let one = Ipv4Addr::new(192, 0, 2, 1);
        let (all, _) = host
            .pod("all", &[port(None, 8080, 80, Protocol::Tcp)])
            .await;
        let (single, _) = host
            .pod("single", &[port(Some(one), 8080, 81, Protocol::Tcp)])
            .await;
        serve_tcp(&all, 80);
        serve_tcp(&single, 81);
        assert!(
            single.enter(|| TcpListener::bind("0.0.0.0:80")).is_ok(),
            "nobody serves 80 there"
        );
        ask_tcp(one, 8080).expect("the one address leads to the one pod");
        ask_tcp(Ipv4Addr::new(192, 0, 2, 2), 8080).expect("another address leads to the other");
        netsetup::detach(&host.network, "all").await.unwrap();
        ask_tcp(one, 8080).expect("still");
        assert!(
            ask_tcp(Ipv4Addr::new(192, 0, 2, 2), 8080).is_err(),
            "nobody is left there"
        );
    });
}

#[test]
fn pods_leave_with_the_hosts_address_and_the_world_keeps_its_own() {
    in_private_host(|| async {
        let outside = Netns::new();
        run(
            "ip",
            &format!(
                "link add up0 mtu 1400 type veth peer name out0 netns {}",
                outside.path()
            ),
        );
        run("ip", "address add 198.51.100.2/24 dev up0");
        run("ip", "link set up0 up");
        outside.enter(|| {
            run("ip", "link set lo up");
            run("ip", "address add 198.51.100.1/24 dev out0");
            run("ip", "address add 10.244.7.7/32 dev out0"); // another node's pod
            run("ip", "link set out0 up");
            run("ip", "route add 10.244.0.0/24 via 198.51.100.2");
        });
        run("ip", "route add default via 198.51.100.1");
        let host = Host::new();
        let (web, at) = host
            .pod("web", &[port(None, 8080, 80, Protocol::Tcp)])
            .await;
        assert_eq!(at.mtu, 1400, "as the default route's link");
        assert!(
            web.enter(|| run("ip", "-o link show eth0"))
                .contains("mtu 1400")
        );
        serve_tcp(&outside, 9000);
        serve_tcp(&web, 80);
        let out = Ipv4Addr::new(198, 51, 100, 1);
        let node = Ipv4Addr::new(198, 51, 100, 2);
        assert_eq!(
            web.enter(|| ask_tcp(out, 9000)).expect("outside"),
            node.to_string(),
            "masqueraded"
        );
        let peer = Ipv4Addr::new(10, 244, 7, 7);
        assert_eq!(
            web.enter(|| ask_tcp(peer, 9000)).expect("cluster"),
            at.address.to_string(),
            "not masqueraded"
        );
        assert_eq!(
            outside.enter(|| ask_tcp(node, 8080)).expect("hostPort"),
            out.to_string(),
            "the client keeps its address"
        );
    });
}

#[test]
fn the_hosts_loopback_stays_the_hosts() {
    in_private_host(|| async {
        let host = Host::new();
        let (pod, _) = host.pod("a", &[]).await;
        let here = Netns::current();
        serve_tcp(&here, 7000); // on every address of the host, 127.0.0.1 included
        assert!(
            pod.enter(|| ask_tcp(GATEWAY, 7000)).is_ok(),
            "the host's real addresses can be reached"
        );
        // A hostile pod routes 127.0.0.5 to the gateway instead of its own loopback.
        pod.enter(|| {
            run("ip", "link set lo down");
            std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
            run("ip", "rule add from all lookup local pref 200");
            run("ip", "rule add to 127.0.0.5 lookup 66 pref 100");
            run("ip", "rule del pref 0");
            run("ip", "route add 127.0.0.5/32 via 10.244.0.1 table 66");
        });
        assert!(
            pod.enter(|| ask_tcp(Ipv4Addr::new(127, 0, 0, 5), 7000))
                .is_err(),
            "the host's loopback was reached"
        );
        run("nft", "flush chain inet minipod loopback_guard");
        pod.enter(|| ask_tcp(Ipv4Addr::new(127, 0, 0, 5), 7000))
            .expect("without the guard it would be reached");
    });
}
