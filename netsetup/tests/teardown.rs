//! Nothing is left, whatever happened before.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Host, Netns, ask_tcp, in_private_host, port, request, run, serve_tcp, snapshot};
use netsetup::{
    Conflict, Holder, IfName, Mode, NetError, Protocol, attach, check, choose_subnet, detach,
    reconcile,
};
use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    thread,
};

fn leases(host: &Host) -> serde_json::Value {
    serde_json::from_slice(&fs::read(&host.network.leases).unwrap()).unwrap()
}

fn held(host: &Host) -> usize {
    leases(host)["entries"].as_array().unwrap().len()
}

#[test]
fn detach_leaves_nothing() {
    in_private_host(|| async {
        let before = snapshot();
        let host = Host::new();
        let all = [
            port(None, 8080, 80, Protocol::Tcp),
            port(Some(Ipv4Addr::LOCALHOST), 53, 53, Protocol::Udp),
        ];
        let (a, _) = host.pod("a", &all).await;
        let (_b, at_b) = host.pod("b", &[port(None, 8081, 80, Protocol::Tcp)]).await;
        let both = snapshot();
        detach(&host.network, "a").await.unwrap();
        assert_eq!(held(&host), 1);
        assert!(
            !snapshot().contains("default/a") && snapshot().contains("default/b"),
            "{}",
            snapshot()
        );
        assert!(
            !a.enter(|| run("ip", "-o link")).contains("eth0"),
            "the other end is gone too"
        );
        common::ping(at_b.address).expect("b is not disturbed");
        assert_ne!(snapshot(), both);
        detach(&host.network, "b").await.unwrap();
        assert_eq!(snapshot(), before);
        assert_eq!(held(&host), 0);
        detach(&host.network, "b")
            .await
            .expect("twice is no failure");
        detach(&host.network, "never")
            .await
            .expect("nor is one who never was");
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn detach_works_whatever_is_gone_already() {
    in_private_host(|| async {
        let before = snapshot();
        let host = Host::new();
        let ports = [
            port(None, 8080, 80, Protocol::Tcp),
            port(None, 8081, 80, Protocol::Tcp),
        ];

        let (netns, _) = host.pod("ns", &ports).await;
        let (_keep, _) = host.pod("keep", &[]).await;
        drop(netns);
        detach(&host.network, "ns")
            .await
            .expect("the namespace was gone");

        let (_netns, _) = host.pod("elem", &ports).await;
        run(
            "nft",
            "delete element inet minipod host_ports { tcp . 8080 }",
        );
        detach(&host.network, "elem")
            .await
            .expect("one of two elements was gone");
        assert!(!snapshot().contains("8081"), "the other went");

        let (_netns, _) = host.pod("table", &ports).await;
        run("nft", "flush ruleset");
        detach(&host.network, "table")
            .await
            .expect("the rules were gone");

        run("ip", "link del minipod0");
        run("ip", "link del mp-keep");
        detach(&host.network, "keep")
            .await
            .expect("all links were gone");
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn a_flushed_ruleset_and_a_half_made_bridge_are_made_whole() {
    in_private_host(|| async {
        run("ip", "link add minipod0 type bridge"); // as an attach killed at the wrong moment leaves it
        let host = Host::new();
        let (a, _) = host.pod("a", &[port(None, 8080, 80, Protocol::Tcp)]).await;
        serve_tcp(&a, 80);
        run("nft", "flush ruleset");
        assert!(ask_tcp(Ipv4Addr::LOCALHOST, 8080).is_err());
        let (_b, _) = host.pod("b", &[]).await;
        ask_tcp(Ipv4Addr::LOCALHOST, 8080).expect("a's host port came back");
    });
}

#[test]
fn an_element_of_a_lost_lease_does_not_stand_in_the_way() {
    in_private_host(|| async {
        let host = Host::new();
        let (_keep, _) = host.pod("keep", &[]).await;
        run(
            "nft",
            "add element inet minipod host_ports { tcp . 8080 : 10.244.0.99 . 1 }",
        );
        let (a, _) = host.pod("a", &[port(None, 8080, 80, Protocol::Tcp)]).await;
        serve_tcp(&a, 80);
        ask_tcp(Ipv4Addr::LOCALHOST, 8080).expect("leads to a");
    });
}

#[test]
fn nft_shows_what_everything_is_for() {
    in_private_host(|| async {
        let host = Host::new();
        let ports = [
            port(None, 8080, 80, Protocol::Tcp),
            port(Some(Ipv4Addr::LOCALHOST), 5353, 53, Protocol::Udp),
        ];
        let (_a, _) = host.pod("web", &ports).await;
        // Newer releases of nft know a name for this priority in this chain.
        let list = || {
            run("nft", "list table inet minipod")
                .replace("hook output priority dstnat", "hook output priority -100")
        };
        let listed = list();
        let expected = include_str!("table.nft");
        assert_eq!(listed, expected, "nft list table inet minipod:\n{listed}");
        // What nft prints, nft reads: the table is plain nftables, not only our bytes.
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), format!("delete table inet minipod\n{listed}")).unwrap();
        run("nft", &format!("-f {}", file.path().display()));
        assert_eq!(list(), expected);
    });
}

#[test]
fn conflicts_come_all_at_once_and_nothing_is_made() {
    in_private_host(|| async {
        let host = Host::new();
        let taken = port(None, 8080, 80, Protocol::Tcp);
        let (_a, at) = host.pod("web", &[taken]).await;
        let listener = TcpListener::bind("127.0.0.1:9090").unwrap();
        let wanted = [
            taken,
            port(None, 9090, 80, Protocol::Tcp),
            port(None, 8080, 80, Protocol::Udp),
        ];
        let before = (snapshot(), leases(&host));
        match check(&host.network, &wanted, Some(at.address)).await {
            Err(NetError::Conflicts(conflicts)) => {
                assert_eq!(conflicts.len(), 3, "{conflicts:?}");
                assert!(
                    matches!(&conflicts[0], Conflict::PortTaken { label, .. } if label == "default/web")
                );
                assert!(
                    matches!(&conflicts[1], Conflict::AddressTaken { label, .. } if label == "default/web")
                );
                let us = std::process::id();
                assert!(
                    matches!(&conflicts[2], Conflict::PortInUse { holder: Holder::Process { pid, .. }, .. } if *pid == us)
                );
            }
            other => panic!("{other:?}"),
        }
        drop(listener);
        let netns = Netns::new();
        let error = attach(&host.network, &request("other", &netns, &[taken]))
            .await
            .expect_err("conflict");
        assert_eq!(
            error.to_string(),
            "host port 8080/tcp is taken by default/web"
        );
        let error = attach(&host.network, &request("web", &netns, &[]))
            .await
            .expect_err("the same owner");
        assert!(matches!(error, NetError::AlreadyAttached { .. }), "{error}");
        assert_eq!((snapshot(), leases(&host)), before);
        assert!(check(&host.network, &wanted[2..], None).await.is_ok());
    });
}

#[test]
fn an_exhausted_range_says_so_and_recovers() {
    in_private_host(|| async {
        let host = Host::with_subnet("10.244.9.0/30");
        let (_a, at) = host.pod("a", &[]).await;
        assert_eq!(at.address, Ipv4Addr::new(10, 244, 9, 2));
        let netns = Netns::new();
        for error in [
            check(&host.network, &[], None).await.expect_err("full"),
            attach(&host.network, &request("b", &netns, &[]))
                .await
                .expect_err("full"),
        ] {
            assert_eq!(
                error.to_string(),
                "subnet 10.244.9.0/30 is exhausted: all 1 addresses are leased"
            );
        }
        detach(&host.network, "a").await.unwrap();
        host.pod("b", &[]).await;
    });
}

#[test]
fn a_link_name_that_is_taken_is_not_ours_to_delete() {
    in_private_host(|| async {
        run("ip", "link add mp-a type veth peer name theirs");
        let before = snapshot();
        let host = Host::new();
        let netns = Netns::new();
        let error = attach(&host.network, &request("a", &netns, &[]))
            .await
            .expect_err("the name is taken");
        assert!(
            error.to_string().contains("create veth pair mp-a"),
            "{error}"
        );
        assert_eq!(
            snapshot(),
            before,
            "their link is still there, the bridge is not"
        );
        assert_eq!(held(&host), 0);
    });
}

#[test]
fn eight_at_once_get_eight_addresses() {
    in_private_host(|| async {
        let before = snapshot();
        let host = Host::new();
        let home = Netns::current();
        let names: Vec<String> = (0..8).map(|n| format!("p{n}")).collect();
        for _ in 0..3 {
            let each = |name: &str, index: usize| {
                home.enter(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .unwrap();
                    let ports = [port(
                        None,
                        9000 + u16::try_from(index).unwrap(),
                        80,
                        Protocol::Tcp,
                    )];
                    let (netns, at) = runtime.block_on(host.pod(name, &ports));
                    common::ping(at.address).expect("answers");
                    drop(netns);
                    at.address
                })
            };
            let mut addresses: Vec<Ipv4Addr> = thread::scope(|scope| {
                let all: Vec<_> = names
                    .iter()
                    .enumerate()
                    .map(|(index, name)| scope.spawn(move || each(name, index)))
                    .collect();
                all.into_iter().map(|one| one.join().unwrap()).collect()
            });
            addresses.sort_unstable();
            addresses.dedup();
            assert_eq!(addresses.len(), 8);
            assert_eq!(held(&host), 8);
            let network = &host.network;
            thread::scope(|scope| {
                for name in &names {
                    scope.spawn(|| {
                        let runtime = tokio::runtime::Builder::new_current_thread()
                            .enable_all()
                            .build()
                            .unwrap();
                        home.enter(|| runtime.block_on(detach(network, name)))
                            .expect("detach");
                    });
                }
            });
            assert_eq!(snapshot(), before);
        }
    });
}

#[test]
fn attaches_of_one_thread_do_not_wait_for_ever() {
    in_private_host(|| async {
        let host = Host::new();
        let (a, b, c) = tokio::join!(host.pod("a", &[]), host.pod("b", &[]), host.pod("c", &[]));
        let mut addresses = [a.1.address, b.1.address, c.1.address];
        addresses.sort_unstable();
        assert_eq!(addresses.map(|address| address.octets()[3]), [2, 3, 4]);
    });
}

#[test]
fn reconcile_removes_the_dead_and_spares_the_living() {
    in_private_host(|| async {
        let before = snapshot();
        let host = Host::new();
        let (_dead, _) = host
            .pod("dead", &[port(None, 8080, 80, Protocol::Tcp)])
            .await;
        let (live, at) = host
            .pod("live", &[port(None, 8081, 80, Protocol::Tcp)])
            .await;
        serve_tcp(&live, 80);
        run(
            "nft",
            "add element inet minipod host_ports { udp . 99 : 10.244.0.99 . 1 }",
        );
        let both = snapshot();
        let lives = |owner: &str| ["live", "on-host-network"].contains(&owner);
        let would = reconcile(&host.network, &lives, Mode::DryRun)
            .await
            .unwrap();
        assert_eq!(snapshot(), both, "a dry run changes nothing");
        let did = reconcile(&host.network, &lives, Mode::Apply)
            .await
            .unwrap();
        assert_eq!(would, did);
        assert_eq!(
            did,
            [
                "lease 10.244.0.2 and link mp-dead of default/dead (dead)",
                "host port 8080/tcp of default/dead",
                "host port 99/udp, which no lease has",
            ]
        );
        common::ping(at.address).expect("the living answers");
        ask_tcp(Ipv4Addr::LOCALHOST, 8081).expect("by its host port too");
        assert!(
            reconcile(&host.network, &lives, Mode::Apply)
                .await
                .unwrap()
                .is_empty(),
            "once is enough"
        );

        let would = reconcile(&host.network, &|_: &str| false, Mode::DryRun).await.unwrap();
        let did = reconcile(&host.network, &|_: &str| false, Mode::Apply).await.unwrap();
        assert_eq!(would, did);
        assert_eq!(
            did.last().unwrap(),
            "bridge minipod0 and nft table inet minipod"
        );
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn reconcile_finds_a_bridge_whose_leases_are_lost() {
    in_private_host(|| async {
        let before = snapshot();
        let host = Host::new();
        let (netns, _) = host.pod("a", &[]).await;
        fs::remove_file(&host.network.leases).unwrap();
        assert!(
            reconcile(&host.network, &|_: &str| false, Mode::Apply)
                .await
                .unwrap()
                .is_empty(),
            "a link is in use"
        );
        netns.enter(|| run("ip", "link del eth0"));
        assert_eq!(
            reconcile(&host.network, &|_: &str| false, Mode::Apply).await.unwrap(),
            ["bridge minipod0 and nft table inet minipod"]
        );
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn leases_of_another_boot_are_void() {
    in_private_host(|| async {
        let host = Host::new();
        host.pod("a", &[port(None, 8080, 80, Protocol::Tcp)]).await;
        let mut file = leases(&host);
        file["bootId"] = "another".into();
        fs::write(&host.network.leases, file.to_string()).unwrap();
        run("ip", "link del minipod0");
        run("ip", "link del mp-a");
        run("nft", "flush ruleset");
        let (_b, at) = host.pod("a", &[port(None, 8080, 80, Protocol::Tcp)]).await;
        assert_eq!(
            at.address,
            Ipv4Addr::new(10, 244, 0, 3),
            "and addresses are not reused at once"
        );
        assert_eq!(held(&host), 1);
    });
}

#[test]
fn subnets_are_chosen_around_the_hosts_routes() {
    in_private_host(|| async {
        let bridge = IfName::new("minipod0").unwrap();
        let choose = |wanted: &str| {
            let (bridge, wanted) = (bridge.clone(), wanted.parse().unwrap());
            async move {
                choose_subnet(&bridge, wanted, "10.244.0.0/16".parse().unwrap())
                    .await
                    .unwrap()
            }
        };
        run("ip", "link add up0 type veth peer name up1");
        run("ip", "address add 10.244.0.9/25 dev up0");
        run("ip", "link set up0 up");
        let choice = choose("10.244.0.0/24").await;
        assert_eq!(choice.subnet.to_string(), "10.244.1.0/24");
        assert_eq!(
            choice.why.as_deref(),
            Some(
                "this host has a route to 10.244.0.0/25, which overlaps 10.244.0.0/24: using 10.244.1.0/24"
            )
        );
        assert_eq!(choose("10.244.3.0/24").await.why, None);
        let host = Host::with_subnet("10.244.3.0/24");
        host.pod("a", &[]).await;
        assert_eq!(
            choose("10.244.3.0/24").await.why,
            None,
            "the bridge's own route is no obstacle"
        );
        let choice = choose("10.244.5.0/24").await;
        assert_eq!(
            choice.subnet.to_string(),
            "10.244.3.0/24",
            "the bridge that exists decides"
        );
        assert!(
            choice
                .why
                .unwrap()
                .contains("bridge minipod0 has 10.244.3.0/24 already")
        );
    });
}

#[test]
fn loopback_alone_can_be_brought_up() {
    in_private_host(|| async {
        let netns = Netns::new();
        netsetup::loopback_up(netns.fd()).await.unwrap();
        netns
            .enter(|| common::ping(Ipv4Addr::LOCALHOST))
            .expect("lo answers");
    });
}
