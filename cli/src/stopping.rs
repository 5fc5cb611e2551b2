//! Stops and removes several pods at once.

use std::future::Future;
use std::time::Duration;

use futures::future::join_all;
use runtime::store::{PodDir, Record, Store};

use crate::error::{Error, print};
use crate::pods;

/// A pod, by its directory and record.
pub(crate) type Pod = (PodDir, Record);

/// What to do with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Only stop it.
    Keep,
    /// Remove it too.
    Remove,
}

/// Stops one pod and perhaps removes it. A pod that somebody else removes meanwhile is removed.
pub(crate) async fn stop(store: &Store, (dir, record): &Pod, grace: Option<Duration>, then: Then) -> Result<(), Error> {
    let work = async {
        let stopped = runtime::pods::stop(store, dir, record, grace).await;
        if then == Then::Keep {
            return stopped.map_err(Error::from);
        }
        // Whether its end could be recorded (a full disk!) does not matter once it is removed.
        runtime::pods::remove(store, dir, record).await.map_err(|e| Error::from(stopped.err().unwrap_or(e)))
    };
    match work.await {
        Err(e) if !dir.path.exists() && pods::is_gone(&e) => Ok(()),
        other => other,
    }
}

/// What a query that names no pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// A failure.
    Fails,
    /// As good as done.
    Fine,
}

/// Finds the pods that queries name, all before anything is done to any of them.
pub(crate) fn find(store: &Store, queries: &[String], missing: Missing) -> Result<Vec<Pod>, Error> {
    let (mut found, mut failures): (Vec<Pod>, Vec<Error>) = (Vec::new(), Vec::new());
    for query in queries {
        match store.find(query).map_err(Error::from) {
            Err(e) if missing == Missing::Fine && pods::is_gone(&e) => {}
            // Named twice, done once.
            Ok((_, record)) if found.iter().any(|(_, other)| other.uid == record.uid) => {}
            Ok(pod) => found.push(pod),
            Err(e) => failures.push(e),
        }
    }
    Error::all(failures).map(|()| found)
}

/// Does something to every pod, side by side, and prints `pod/<name> <done>` for each that succeeded.
pub(crate) async fn each<F>(all: &[Pod], done: &str, work: impl Fn(Pod) -> F) -> Result<(), Error>
where
    F: Future<Output = Result<(), Error>>,
{
    let results = join_all(all.iter().map(|pod| {
        let name = pods::short_name(&pod.1);
        let work = work(pod.clone());
        async move { work.await.and_then(|()| print(&format!("pod/{name} {done}\n"))) }
    }));
    Error::all(results.await.into_iter().filter_map(Result::err).collect())
}
