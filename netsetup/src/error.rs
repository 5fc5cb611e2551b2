//! The crate's one error.

use crate::{BadNetwork, Conflict, Step};
use ipnet::Ipv4Net;
use std::{fmt, io, path::PathBuf};

/// Why the network is not as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// Nothing was done: the request collides with what is there. All collisions at once.
    #[error("{}", listed(.0))]
    Conflicts(Vec<Conflict>),
    /// Nothing was done: the network cannot exist.
    #[error(transparent)]
    BadNetwork(#[from] BadNetwork),
    /// Nothing was done: this owner has a lease. Detach it first.
    #[error("{owner} is attached to {bridge} already")]
    AlreadyAttached {
        /// Who.
        owner: String,
        /// Where.
        bridge: String,
    },
    /// Nothing was done: the bridge serves leases of another subnet.
    #[error("bridge {bridge} is in use with subnet {current}, not {wanted}")]
    OtherSubnet {
        /// Which bridge.
        bridge: String,
        /// The subnet of the leases that exist.
        current: Ipv4Net,
        /// The subnet asked for.
        wanted: Ipv4Net,
    },
    /// Nothing was done: a link of that name exists and is no bridge.
    #[error("link {0} exists and is not a bridge")]
    NotABridge(String),
    /// A file of the network (leases, lock) or of the kernel (/proc) failed.
    #[error("{operation} {}", path.display())]
    File {
        /// What was tried, such as "lock".
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The lease file is not what this program writes.
    #[error("read leases {}", path.display())]
    LeaseFormat {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A kernel setting could not be made.
    #[error("set {name} to {value:?}")]
    Sysctl {
        /// sysctl(8) name.
        name: String,
        /// Wanted value.
        value: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The namespace could not be entered.
    #[error("enter the network namespace")]
    EnterNetns(#[source] io::Error),
    /// The kernel refused a change of links, addresses, routes or rules.
    #[error("{operation} {subject}")]
    Netlink {
        /// What was tried, such as "create bridge".
        operation: &'static str,
        /// On what.
        subject: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Every range has a route of this host in it.
    #[error("no subnet like {wanted} is free of this host's routes")]
    NoSubnet {
        /// The subnet asked for.
        wanted: Ipv4Net,
    },
    /// The caller's [`Watch`](crate::Watch) forbade a step.
    #[error("step {:?}: {why}", step.name())]
    Stopped {
        /// Which.
        step: Step,
        /// In the caller's words.
        why: String,
    },
    /// An attach failed, and undoing it failed as well; the lease stays so that a detach can finish the work.
    #[error("attach failed, and so did undoing it ({})", chains(failures))]
    Undo {
        /// Why the attach failed.
        #[source]
        cause: Box<NetError>,
        /// What could not be undone.
        failures: Vec<NetError>,
    },
    /// Several steps of a tear-down failed, the others were done.
    #[error("{}", chains(.0))]
    Several(Vec<NetError>),
}

impl NetError {
    pub(crate) fn netlink(
        operation: &'static str,
        subject: impl fmt::Display,
    ) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Netlink {
            operation,
            subject: subject.to_string(),
            source,
        }
    }
}

fn listed<T: fmt::Display>(items: &[T]) -> String {
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Like [`listed`], with every error's causes: a list has no single source that a caller could follow.
fn chains(errors: &[NetError]) -> String {
    let one = |error: &NetError| {
        let mut text = error.to_string();
        let mut next = std::error::Error::source(error);
        while let Some(cause) = next {
            text = format!("{text}: {cause}");
            next = cause.source();
        }
        text
    };
    errors.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Failures of a tear-down that goes on past them.
#[derive(Default)]
pub(crate) struct Failures(Vec<NetError>);

impl Failures {
    pub(crate) fn note<T>(&mut self, result: Result<T, NetError>) -> Option<T> {
        result.map_err(|error| self.0.push(error)).ok()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_vec(self) -> Vec<NetError> {
        self.0
    }

    pub(crate) fn into_result(mut self) -> Result<(), NetError> {
        match self.0.len() {
            0 => Ok(()),
            1 => Err(self.0.remove(0)),
            _ => Err(NetError::Several(self.0)),
        }
    }
}
