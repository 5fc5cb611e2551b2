//! `run` in the foreground: follows its pods to their end, stops them when asked to, and removes them.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use futures::future::join_all;
use runtime::logs::Selection;
use runtime::store::Store;
use tokio::time::Instant;

use crate::error::Error;
use crate::exit;
use crate::following::{End, Follower};
use crate::output;
use crate::pods::short_name;
use crate::signals::{Held, Signals};
use crate::starting::{Display, Outcome, Starting};
use crate::status::pod_exit;
use crate::stopping::{self, Pod, Then};
use crate::streaming::{Prefix, Printer, Times};

/// Why the pods are stopped before their own end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Signal(u8),
    TimeLimit,
}

/// What is shared by those who follow and the one who stops.
#[derive(Debug, Default)]
struct Shared {
    why: Cell<Option<Why>>,
    failures: RefCell<Vec<Error>>,
}

/// Follows the pods until none of their containers will run again, and removes them.
pub(crate) async fn attach(
    store: &Store,
    mut starting: Vec<Starting>,
    display: &Display,
    held: Held,
    limit: Option<Duration>,
) -> Result<u8, Error> {
    let deadline = limit.map(|limit| Instant::now() + limit);
    let signals = held.listen()?;
    let pods: Vec<Pod> = starting.iter().map(|one| one.pod.clone()).collect();
    let shared = Shared::default();
    let followed = {
        let several = pods.len() > 1;
        let all = starting.iter_mut().enumerate().map(|(index, one)| {
            let prefix = if several { Prefix::Pod(short_name(&one.pod.1)) } else { Prefix::Container };
            follow(store, one, display, Printer::new(prefix, Times::Hidden).starting_at(index * 3), &shared)
        });
        let all = join_all(all);
        tokio::select! {
            codes = all => codes,
            () = control(store, &pods, signals, deadline, &shared) => unreachable!("goes on as long as pods do"),
        }
    };
    let mut failures = shared.failures.into_inner();
    let mut code = 0;
    for ended in followed {
        match ended {
            Ok(other) if code == 0 => code = other,
            Ok(_) => {}
            Err(e) => failures.push(e),
        }
    }
    let removed = join_all(pods.iter().map(|pod| stopping::stop(store, pod, None, Then::Remove))).await;
    let gone = |(result, pod): (Result<(), Error>, &Pod)| result.err().filter(|_| pod.0.path.exists());
    failures.extend(removed.into_iter().zip(&pods).filter_map(gone));
    Error::all(failures)?;
    match (shared.why.get(), limit) {
        (Some(Why::TimeLimit), Some(limit)) => {
            Err(Error::Timeout { what: "the pods are not finished".to_owned(), after: format!("{limit:?}") })
        }
        _ => Ok(code),
    }
}

/// Follows one pod; its exit code.
async fn follow(store: &Store, starting: &mut Starting, display: &Display, printer: Printer, shared: &Shared) -> Result<u8, Error> {
    let (dir, record) = starting.pod.clone();
    let follower = Follower::new(store, &dir, &record, Selection::default(), printer.above(display.clone()));
    // A pod that could not start may be gone before it can be followed; then its shim has said why.
    let end = async {
        match follower {
            Ok(mut follower) => follower.until_end().await.map(Some),
            Err(e) if crate::pods::is_gone(&e) => Ok(None),
            Err(e) => Err(e),
        }
    };
    let (outcome, end) = tokio::join!(starting.outcome(display), end);
    match (outcome?, end?, shared.why.get()) {
        (Outcome::Failed { .. }, _, Some(Why::Signal(number))) => Ok(exit::by_signal(number)),
        (Outcome::Failed { .. }, _, Some(Why::TimeLimit)) => Ok(exit::TIMEOUT),
        (Outcome::Failed { message, exit_code, .. }, _, None) => Err(Error::Told { message, code: exit_code }),
        (Outcome::Started, Some(End::Finished(status) | End::Removed(status)), _) => Ok(pod_exit(&status)),
        (Outcome::Started, Some(End::ShimDied) | None, _) => {
            let message = format!("pod {}: its shim died; what was left of the pod is removed", record.label());
            Err(Error::Told { message, code: exit::OWN })
        }
    }
}

/// Waits for a reason to stop the pods, and stops them: gracefully the first time, at once the second.
async fn control(store: &Store, pods: &[Pod], mut signals: Signals, deadline: Option<Instant>, shared: &Shared) {
    let why = tokio::select! {
        number = signals.next() => Why::Signal(number),
        () = over(deadline) => Why::TimeLimit,
    };
    shared.why.set(Some(why));
    output::note(match why {
        Why::Signal(_) => "stopping; once more to kill",
        Why::TimeLimit => "the time is over: stopping",
    });
    tokio::select! {
        () = stop(store, pods, None, shared) => {}
        _ = signals.next() => {
            output::note("killing");
            stop(store, pods, Some(Duration::ZERO), shared).await;
        }
    }
    std::future::pending().await
}

async fn over(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn stop(store: &Store, pods: &[Pod], grace: Option<Duration>, shared: &Shared) {
    let stopped = join_all(pods.iter().map(|pod| stopping::stop(store, pod, grace, Then::Keep))).await;
    // A pod that ended or was removed by itself at this moment is as good as stopped.
    let real = |(result, pod): (Result<(), Error>, &Pod)| result.err().filter(|_| pod.0.path.join("record.json").exists());
    shared.failures.borrow_mut().extend(stopped.into_iter().zip(pods).filter_map(real));
}
