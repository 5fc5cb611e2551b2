//! Taking a namespace off its network.

use crate::{
    NetError, Network, Step, Unwatched, Watch,
    error::Failures,
    leases::{Lease, Leases, Locked},
    link,
    nat::{self, Closing},
    rtnl::Rtnl,
};
use netlink_packet_route::link::InfoKind;

/// Takes an owner's namespace off the network: link pair, host ports, lease; and, with the last owner, bridge and
/// nft table. Works whatever of these is gone already, the namespace included; an owner without a lease has nothing
/// to be taken off and is no failure.
///
/// # Errors
/// Every failure, after all that could be done was done; the lease stays then, and detach can be tried again.
pub async fn detach(network: &Network, owner: &str) -> Result<(), NetError> {
    detach_watched(network, owner, &Unwatched).await
}

/// As [`detach`], with somebody who is told of every step before it is taken.
///
/// # Errors
/// As [`detach`]; a forbidden step is one that failed.
pub async fn detach_watched(
    network: &Network,
    owner: &str,
    watch: &impl Watch,
) -> Result<(), NetError> {
    release(network, owner, Links::Delete, watch)
        .await?
        .into_result()
}

/// Is the host's end of the pair the owner's to delete? An attach that failed because the name was taken must not
/// delete somebody else's link.
#[derive(Clone, Copy)]
pub(crate) enum Links {
    Delete,
    NotOurs,
}

pub(crate) async fn release(
    network: &Network,
    owner: &str,
    links: Links,
    watch: &impl Watch,
) -> Result<Failures, NetError> {
    let mut failures = Failures::default();
    let Some(lease) = Leases::read(network)?.of(owner).cloned() else {
        return Ok(failures);
    };
    let host = Rtnl::here()?;
    if matches!(links, Links::Delete) && failures.note(watch.before(Step::Unlink)).is_some() {
        // Takes milliseconds (the kernel waits for packets in flight), so not under the lock.
        failures.note(link::delete(&host, &lease.host_if, &InfoKind::Veth).await);
    }
    let mut locked = Locked::acquire(network).await?;
    let closing = release_locked(network, &host, &mut locked, &lease, &mut failures, watch).await;
    drop(locked);
    drop(closing);
    Ok(failures)
}

async fn release_locked(
    network: &Network,
    host: &Rtnl,
    locked: &mut Locked<'_>,
    lease: &Lease,
    failures: &mut Failures,
    watch: &impl Watch,
) -> Option<Closing> {
    let last = locked
        .leases
        .entries
        .iter()
        .all(|other| other.owner == lease.owner);
    let closing = if last {
        remove_shared(network, host, failures, watch).await
    } else {
        let close = || nat::remove_ports(network, lease);
        failures.note(watch.before(Step::Close).and_then(|()| close()))
    };
    // Last: until then everything that may be left can be found again.
    if failures.is_empty() && failures.note(watch.before(Step::Release)).is_some() {
        locked.leases.remove(&lease.owner);
        failures.note(locked.save());
    }
    closing
}

/// Removes what all owners share: the rules first, so that no packet is translated to nowhere.
pub(crate) async fn remove_shared(
    network: &Network,
    host: &Rtnl,
    failures: &mut Failures,
    watch: &impl Watch,
) -> Option<Closing> {
    let close = || nat::delete(network);
    let closing = failures.note(watch.before(Step::Close).and_then(|()| close()));
    if failures.note(watch.before(Step::RemoveBridge)).is_some() {
        failures.note(link::delete(host, &network.bridge, &InfoKind::Bridge).await);
    }
    closing
}
