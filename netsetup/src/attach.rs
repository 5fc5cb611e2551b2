//! Wiring one namespace.
//!
//! ```text
//!  under the lock    Lease   written first, so that a detach after SIGKILL finds its work
//!                    Bridge  only the first attach makes it
//!                    Table   only the first attach makes it
//!                    Ports   map elements, if any host ports
//!  side by side      Inside  sysctls, socket in the namespace
//!  with others       Veth ── BridgePort ── Loopback ── Address ── Up ── Route
//! ```

use crate::{
    Attachment, MacAddr, NetError, Network, Request, Step, Unwatched, Watch, address,
    detach::{self, Links},
    leases::{Lease, Leases, Locked},
    link, nat, netns, route,
    rtnl::Rtnl,
    sysctl,
};
use netlink_packet_route::link::InfoKind;
use std::{
    io,
    net::{IpAddr, Ipv4Addr},
};

/// Wires a namespace to a network: leases an address, makes the veth pair, its addresses, routes and host ports;
/// and, for the first owner, the bridge and the nft table.
///
/// # Errors
/// [`NetError::Conflicts`] and its neighbours before anything is made; any other after every step that was done
/// has been undone. [`NetError::Undo`] when that failed too: [`detach`](crate::detach) can be tried again. It is also
/// what is left to do when the future is dropped, or the process killed, half-way.
pub async fn attach(network: &Network, request: &Request<'_>) -> Result<Attachment, NetError> {
    attach_watched(network, request, &Unwatched).await
}

/// As [`attach`], with somebody who is told of every step before it is taken.
///
/// # Errors
/// As [`attach`]; a forbidden step is one that failed.
pub async fn attach_watched(
    network: &Network,
    request: &Request<'_>,
    watch: &impl Watch,
) -> Result<Attachment, NetError> {
    network.validate()?;
    let mut made = Made::default();
    match apply(network, request, watch, &mut made).await {
        Ok(attachment) => Ok(attachment),
        Err(cause) if made.lease => Err(undo(network, request, made, cause).await),
        Err(cause) => Err(cause),
    }
}

/// What this attach, and nobody else, has made.
#[derive(Default)]
struct Made {
    lease: bool,
    veth: bool,
}

async fn apply(
    network: &Network,
    request: &Request<'_>,
    watch: &impl Watch,
    made: &mut Made,
) -> Result<Attachment, NetError> {
    let host = Rtnl::here()?;
    let place = reserve(network, request, watch, made, &host).await?;
    watch.before(Step::Inside)?;
    let inside = Rtnl::with(netns::prepare(request.netns)?);
    let mac = request.mac.unwrap_or_else(|| MacAddr::of(place.address));
    let mtu = request.mtu.unwrap_or(place.mtu);

    watch.before(Step::Veth)?;
    let veth = link::Veth {
        host: &request.host_if,
        bridge: place.bridge,
        pod: &request.pod_if,
        netns: request.netns,
        mac,
        mtu,
    };
    link::add_veth(&host, &veth).await?;
    made.veth = true;
    watch.before(Step::BridgePort)?;
    link::set_bridge_port(&host, &request.host_if, request.label).await?;
    wire_inside(network, request, watch, &inside, place.address).await?;
    Ok(Attachment {
        address: place.address,
        prefix_len: network.subnet.prefix_len(),
        gateway: network.gateway(),
        mac,
        host_if: request.host_if.clone(),
        bridge: network.bridge.clone(),
        mtu,
    })
}

/// What was found or made under the lock.
struct Place {
    address: Ipv4Addr,
    bridge: u32,
    mtu: u32,
}

async fn reserve(
    network: &Network,
    request: &Request<'_>,
    watch: &impl Watch,
    made: &mut Made,
    host: &Rtnl,
) -> Result<Place, NetError> {
    let mut locked = Locked::acquire(network).await?;
    let (lease, address) = plan(network, request, &locked.leases)?;
    let bridge = look_for_bridge(network, host, &locked.leases).await?;

    watch.before(Step::Lease)?;
    locked.leases.insert(network, lease.clone());
    locked.leases.mtu = Some(bridge.mtu);
    locked.save()?;
    made.lease = true;

    watch.before(Step::Bridge)?;
    let index = match bridge.found {
        Some(Found { index, whole: true }) => index,
        found => complete_bridge(network, host, found.map(|half| half.index), bridge.mtu).await?,
    };

    watch.before(Step::Table)?;
    if !nat::exists(network)? {
        nat::create(network, &locked.leases)?;
    }
    watch.before(Step::Ports)?;
    nat::add_ports(network, &lease)?;
    Ok(Place {
        address,
        bridge: index,
        mtu: bridge.mtu,
    })
}

/// The lease to be written, or why there can be none.
fn plan(
    network: &Network,
    request: &Request<'_>,
    leases: &Leases,
) -> Result<(Lease, Ipv4Addr), NetError> {
    if leases.of(request.owner).is_some() {
        return Err(NetError::AlreadyAttached {
            owner: request.owner.to_owned(),
            bridge: network.bridge.to_string(),
        });
    }
    leases.check_subnet(network)?;
    match leases.plan(network, request.ports, request.address) {
        (Some(address), conflicts) if conflicts.is_empty() => {
            let lease = Lease {
                owner: request.owner.to_owned(),
                label: request.label.to_owned(),
                addresses: vec![IpAddr::V4(address)],
                host_if: request.host_if.clone(),
                ports: request.ports.to_vec(),
            };
            Ok((lease, address))
        }
        (_, conflicts) => Err(NetError::Conflicts(conflicts)),
    }
}

struct Bridge {
    found: Option<Found>,
    /// Bytes per packet of the network. Recorded with the leases, since a bridge's own follows its smallest port's.
    mtu: u32,
}

struct Found {
    index: u32,
    /// A bridge that is down is one that somebody died making: going up is its last step.
    whole: bool,
}

async fn look_for_bridge(
    network: &Network,
    host: &Rtnl,
    leases: &Leases,
) -> Result<Bridge, NetError> {
    match link::find(host, &network.bridge).await? {
        Some(link) if link.kind != Some(InfoKind::Bridge) => {
            Err(NetError::NotABridge(network.bridge.to_string()))
        }
        Some(link) if link.up => Ok(Bridge {
            found: Some(Found {
                index: link.index,
                whole: true,
            }),
            mtu: leases.mtu.unwrap_or(link.mtu),
        }),
        half => Ok(Bridge {
            found: half.map(|link| Found {
                index: link.index,
                whole: false,
            }),
            mtu: route::default_mtu(host).await?,
        }),
    }
}

/// Makes the bridge, or what is missing of it; its index.
async fn complete_bridge(
    network: &Network,
    host: &Rtnl,
    half: Option<u32>,
    mtu: u32,
) -> Result<u32, NetError> {
    let name = &network.bridge;
    let index = match half {
        Some(index) => index,
        None => {
            link::add_bridge(host, name, network.bridge_mac(), mtu).await?;
            let made = link::find(host, name).await?;
            let gone = || NetError::netlink("look up link", name)(io::ErrorKind::NotFound.into());
            made.ok_or_else(gone)?.index
        }
    };
    forward_here(network)?;
    address::add(host, index, network.gateway(), network.subnet.prefix_len()).await?;
    link::up(host, index, name).await?;
    Ok(index)
}

/// The host's settings: forwarding, and 127.0.0.1 as a source on the bridge (the nft table guards the other
/// direction). The bridge needs no IPv6 address yet; 1 is IN6_ADDR_GEN_MODE_NONE.
fn forward_here(network: &Network) -> Result<(), NetError> {
    let bridge = &network.bridge;
    sysctl::ensure("net/ipv4/ip_forward", "1")?;
    sysctl::ensure(&format!("net/ipv4/conf/{bridge}/route_localnet"), "1")?;
    sysctl::ensure_if_known(&format!("net/ipv6/conf/{bridge}/addr_gen_mode"), "1")
}

async fn wire_inside(
    network: &Network,
    request: &Request<'_>,
    watch: &impl Watch,
    inside: &Rtnl,
    address: Ipv4Addr,
) -> Result<(), NetError> {
    watch.before(Step::Loopback)?;
    let (loopback, found) = futures::future::join(
        link::loopback_up(inside),
        link::find(inside, &request.pod_if),
    )
    .await;
    loopback?;
    let gone =
        || NetError::netlink("look up link", &request.pod_if)(io::ErrorKind::NotFound.into());
    let index = found?.ok_or_else(gone)?.index;

    watch.before(Step::Address)?;
    address::add(inside, index, address, network.subnet.prefix_len()).await?;
    watch.before(Step::Up)?;
    link::up(inside, index, &request.pod_if).await?;
    watch.before(Step::Route)?;
    route::add_default(inside, network.gateway()).await
}

/// Takes back what was made, in reverse order; the lease last, and only when nothing else is left.
async fn undo(network: &Network, request: &Request<'_>, made: Made, cause: NetError) -> NetError {
    let links = if made.veth {
        Links::Delete
    } else {
        Links::NotOurs
    };
    match detach::release(network, request.owner, links, &Unwatched)
        .await
        .map(|failures| failures.into_vec())
    {
        Ok(failures) if failures.is_empty() => cause,
        Ok(failures) => NetError::Undo {
            cause: Box::new(cause),
            failures,
        },
        Err(failure) => NetError::Undo {
            cause: Box::new(cause),
            failures: vec![failure],
        },
    }
}

#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;

#[cfg(test)]
mod tests {
    use super::{attach, attach_watched, common};
    use crate::{Conflict, NetError, Protocol, Step, Watch, detach, detach_watched};
    use common::{Host, Netns, in_private_host, port, request, snapshot};
    use std::{cell::RefCell, fs};

    /// Fails before one step, and records those that came.
    struct FailBefore {
        step: Option<Step>,
        seen: RefCell<Vec<Step>>,
    }

    impl Watch for FailBefore {
        fn before(&self, step: Step) -> Result<(), NetError> {
            self.seen.borrow_mut().push(step);
            if self.step == Some(step) {
                Err(NetError::Stopped { step, why: "by a test".to_owned() })
            } else {
                Ok(())
            }
        }
    }

    fn leases(host: &Host) -> String {
        let text = fs::read_to_string(&host.network.leases).unwrap_or_default();
        text.lines()
            .filter(|line| !line.contains("\"last\""))
            .collect()
    }

    #[test]
    fn every_step_is_in_the_list_and_in_that_order() {
        in_private_host(|| async {
            let host = Host::new();
            let netns = Netns::new();
            let test = FailBefore {
                step: None,
                seen: RefCell::default(),
            };
            attach_watched(&host.network, &request("a", &netns, &[]), &test)
                .await
                .expect("attach");
            assert_eq!(*test.seen.borrow(), Step::ATTACH);
        });
    }

    /// For the first owner, who makes the bridge, and for a later one, who must leave it.
    #[test]
    fn a_failure_at_any_step_leaves_the_host_as_it_was() {
        in_private_host(|| async {
            for neighbours in [0, 1] {
                let host = Host::new();
                let mut kept = Vec::new();
                for _ in 0..neighbours {
                    kept.push(
                        host.pod("keep", &[port(None, 8079, 80, Protocol::Tcp)])
                            .await,
                    );
                }
                // The lease file outlives the leases; make it before comparing.
                let throwaway = Netns::new();
                attach(&host.network, &request("x", &throwaway, &[]))
                    .await
                    .expect("attach");
                detach(&host.network, "x").await.expect("detach");
                for step in Step::ATTACH {
                    let netns = Netns::new();
                    let before = (snapshot(), leases(&host));
                    let ports = [
                        port(None, 8080, 80, Protocol::Tcp),
                        port(None, 8081, 80, Protocol::Udp),
                    ];
                    let test = FailBefore {
                        step: Some(*step),
                        seen: RefCell::default(),
                    };
                    let error =
                        attach_watched(&host.network, &request("a", &netns, &ports), &test).await;
                    assert!(
                        matches!(error, Err(NetError::Stopped { step: at, .. }) if at == *step),
                        "{step:?}: {error:?}"
                    );
                    assert_eq!(
                        (snapshot(), leases(&host)),
                        before,
                        "left when {step:?} failed, {neighbours} neighbours"
                    );
                    assert!(
                        !netns
                            .enter(|| common::run("ip", "-o link"))
                            .contains("eth0"),
                        "left inside"
                    );
                    attach(&host.network, &request("a", &netns, &ports))
                        .await
                        .expect("the next try works");
                    detach(&host.network, "a").await.expect("detach");
                }
                for (netns, _) in kept {
                    drop(netns);
                    detach(&host.network, "keep").await.expect("detach");
                }
            }
        });
    }

    /// As after SIGKILL: no undo ran, and what is on disk must be enough.
    #[test]
    fn detach_finishes_what_was_cut_off_at_any_step() {
        in_private_host(|| async {
            let before = snapshot();
            for step in Step::ATTACH {
                let host = Host::new();
                let netns = Netns::new();
                let ports = [port(None, 8080, 80, Protocol::Tcp)];
                let test = FailBefore {
                    step: Some(*step),
                    seen: RefCell::default(),
                };
                let mut made = super::Made::default();
                super::apply(
                    &host.network,
                    &request("a", &netns, &ports),
                    &test,
                    &mut made,
                )
                .await
                .map(drop)
                .expect_err("stopped");
                detach(&host.network, "a").await.expect("detach");
                assert_eq!(snapshot(), before, "left when cut off before {step:?}");
                assert!(!leases(&host).contains("owner"));
            }
        });
    }

    /// What fails is left, and the lease with it, so that the next try finds its work; for the last owner and for another.
    #[test]
    fn a_detach_that_fails_at_any_step_can_be_repeated() {
        in_private_host(|| async {
            for neighbours in [0, 1] {
                let host = Host::new();
                let throwaway = Netns::new();
                attach(&host.network, &request("x", &throwaway, &[]))
                    .await
                    .expect("attach");
                detach(&host.network, "x").await.expect("detach");
                let mut kept = Vec::new();
                for _ in 0..neighbours {
                    kept.push(
                        host.pod("keep", &[port(None, 8079, 80, Protocol::Tcp)])
                            .await,
                    );
                }
                let before = (snapshot(), leases(&host));
                // A bridge with neighbours is not removed.
                let shared = |step: &Step| neighbours == 0 || *step != Step::RemoveBridge;
                for step in Step::DETACH.iter().filter(|step| shared(step)) {
                    let netns = Netns::new();
                    let ports = [port(None, 8080, 80, Protocol::Tcp)];
                    attach(&host.network, &request("a", &netns, &ports))
                        .await
                        .expect("attach");
                    let test = FailBefore {
                        step: Some(*step),
                        seen: RefCell::default(),
                    };
                    detach_watched(&host.network, "a", &test)
                        .await
                        .expect_err("stopped");
                    assert!(leases(&host).contains("\"a\""), "{step:?}: the lease stays");
                    detach(&host.network, "a").await.expect("the next try");
                    assert_eq!((snapshot(), leases(&host)), before, "left by {step:?}");
                }
                for (netns, _) in kept {
                    drop(netns);
                    detach(&host.network, "keep").await.expect("detach");
                }
            }
        });
    }

    #[test]
    fn a_request_with_the_same_port_twice_is_refused() {
        in_private_host(|| async {
            let host = Host::new();
            let netns = Netns::new();
            let twice = [
                port(None, 8080, 80, Protocol::Tcp),
                port(None, 8080, 81, Protocol::Tcp),
            ];
            match attach(&host.network, &request("a", &netns, &twice)).await {
                Err(NetError::Conflicts(conflicts)) => {
                    assert_eq!(conflicts, [Conflict::PortRepeated { port: twice[1] }]);
                }
                other => panic!("{other:?}"),
            }
        });
    }
}
