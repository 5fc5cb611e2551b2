//! The steps of an attach and of a detach, and who is told of them.

use crate::NetError;

/// A step of an attach or of a detach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The lease is written before anything it describes exists, so that a detach after SIGKILL finds its work.
    Lease,
    /// Only under the lock: the first attach makes the bridge.
    Bridge,
    /// Only under the lock: the first attach makes the table, in one transaction.
    Table,
    /// Host ports become map elements; the address behind them answers later.
    Ports,
    /// Sysctls and a socket inside the namespace, before the link arrives: they are defaults for new links.
    Inside,
    /// The pair, its other end born inside.
    Veth,
    /// Alias and hairpin mode, which the kernel takes only for a link that exists, and up.
    BridgePort,
    /// `lo` up.
    Loopback,
    /// The leased address; before the link is up, so that its route appears with it.
    Address,
    /// The inner link up.
    Up,
    /// The default route needs the link up.
    Route,
    /// The pair goes; not under the lock, for the kernel waits for packets in flight.
    Unlink,
    /// Under the lock: the owner's map elements; with the last owner the whole table, so that no packet is translated
    /// to nowhere.
    Close,
    /// Under the lock, with the last owner: the bridge.
    RemoveBridge,
    /// Last: until then everything that may be left can be found again.
    Release,
}

impl Step {
    /// Those of an attach, in order.
    pub const ATTACH: &[Self] = &[
        Self::Lease,
        Self::Bridge,
        Self::Table,
        Self::Ports,
        Self::Inside,
        Self::Veth,
        Self::BridgePort,
        Self::Loopback,
        Self::Address,
        Self::Up,
        Self::Route,
    ];
    /// Those of a detach, in order.
    pub const DETACH: &[Self] = &[Self::Unlink, Self::Close, Self::RemoveBridge, Self::Release];

    /// Its name, for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Bridge => "bridge",
            Self::Table => "nft table",
            Self::Ports => "host ports",
            Self::Inside => "enter namespace",
            Self::Veth => "veth",
            Self::BridgePort => "bridge port",
            Self::Loopback => "loopback",
            Self::Address => "address",
            Self::Up => "link up",
            Self::Route => "default route",
            Self::Unlink => "remove veth",
            Self::Close => "remove host ports or table",
            Self::RemoveBridge => "remove bridge",
            Self::Release => "give lease back",
        }
    }
}

/// Is told of every step before it is taken, and may forbid it: for whoever measures, and for tests that break things.
pub trait Watch {
    /// Called before each step.
    ///
    /// # Errors
    /// [`NetError::Stopped`]: the step is not taken, and counts as failed.
    fn before(&self, step: Step) -> Result<(), NetError>;
}

/// Nobody watches.
#[derive(Clone, Copy, Debug)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn before(&self, _: Step) -> Result<(), NetError> {
        Ok(())
    }
}
