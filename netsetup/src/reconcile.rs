//! Removing what a crash left.

use crate::{
    NetError, Network, Unwatched,
    detach::{self, detach},
    error::Failures,
    leases::{Lease, Leases, Locked},
    link, nat,
    rtnl::Rtnl,
};
use netlink_packet_route::link::InfoKind;

/// Look, or look and do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Says what would be removed.
    DryRun,
    /// Removes it.
    Apply,
}

/// Removes the leases, links and host ports of owners that are not `live`, host ports that no lease has, and the
/// bridge and nft table when nobody is left. Returns what was (or would be) removed, one line each.
///
/// `live` is asked after the leases are read: an owner that comes meanwhile lives before it has a lease.
///
/// A link on the bridge without a lease is left alone: it lives only as long as its namespace, so somebody uses it.
///
/// # Errors
/// Every failure, after all that could be done was done.
pub async fn reconcile(
    network: &Network,
    live: &impl Fn(&str) -> bool,
    mode: Mode,
) -> Result<Vec<String>, NetError> {
    let mut failures = Failures::default();
    let mut removed = Vec::new();
    let leases = Leases::read(network)?;
    let (alive, dead): (Vec<_>, Vec<_>) = leases
        .entries
        .iter()
        .partition(|lease| live(&lease.owner));
    for lease in &dead {
        let done = match mode {
            Mode::DryRun => Ok(()),
            Mode::Apply => detach(network, &lease.owner).await,
        };
        if failures.note(done).is_some() {
            removed.push(describe(lease));
            removed.extend(
                lease
                    .ports
                    .iter()
                    .map(|port| format!("host port {port} of {}", lease.label)),
            );
        }
    }
    if alive.is_empty() && !dead.is_empty() && failures.is_empty() {
        removed.push(shared(network)); // went, or would go, with the last owner
    } else {
        failures.note(leftovers(network, mode, &mut removed).await);
    }
    failures.into_result().map(|()| removed)
}

fn describe(lease: &Lease) -> String {
    let addresses: Vec<String> = lease.addresses.iter().map(ToString::to_string).collect();
    format!(
        "lease {} and link {} of {} ({})",
        addresses.join(", "),
        lease.host_if,
        lease.label,
        lease.owner
    )
}

fn shared(network: &Network) -> String {
    format!(
        "bridge {} and nft table inet {}",
        network.bridge,
        network.table()
    )
}

/// What no lease accounts for.
async fn leftovers(
    network: &Network,
    mode: Mode,
    removed: &mut Vec<String>,
) -> Result<(), NetError> {
    let host = Rtnl::here()?;
    let mut failures = Failures::default();
    let locked = match mode {
        Mode::DryRun => None,
        Mode::Apply => Some(Locked::acquire(network).await?),
    };
    let leases = match &locked {
        Some(locked) => locked.leases.clone(),
        None => Leases::read(network)?,
    };
    for orphan in nat::orphans(network, &leases)? {
        let done = if mode == Mode::Apply {
            orphan.remove(network).map(drop)
        } else {
            Ok(())
        };
        if failures.note(done).is_some() {
            removed.push(format!("{orphan}, which no lease has"));
        }
    }
    if leases.entries.is_empty() && is_unused(network, &host).await? {
        if mode == Mode::Apply {
            drop(detach::remove_shared(network, &host, &mut failures, &Unwatched).await);
        }
        removed.push(shared(network));
    }
    drop(locked); // held until here: nobody attaches while the bridge goes
    failures.into_result()
}

/// There is a bridge or a table, and no link on the bridge.
async fn is_unused(network: &Network, host: &Rtnl) -> Result<bool, NetError> {
    match link::find(host, &network.bridge)
        .await?
        .filter(|link| link.kind == Some(InfoKind::Bridge))
    {
        Some(bridge) => Ok(link::ports(host, &bridge).await?.is_empty()),
        None => nat::exists(network),
    }
}
