//! Forks shims and shows how pods come up.

use std::cell::RefCell;
use std::io::IsTerminal as _;
use std::rc::Rc;

use futures::future::join_all;
use indicatif::ProgressBar;
use runtime::pods::NewPod;
use runtime::shim::{self, Progress, ShimHandle};
use runtime::step::Timed;
use runtime::store::Store;

use crate::args::{Global, LogFormat};
use crate::error::Error;
use crate::exit;
use crate::output;
use crate::pods::short_name;
use crate::stopping::{self, Pod, Then};
use crate::tasks::block_on;

/// A pod whose shim was forked.
#[derive(Debug)]
pub(crate) struct Starting {
    /// The pod.
    pub(crate) pod: Pod,
    handle: ShimHandle,
}

/// How a start went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every app container has executed its entry point.
    Started,
    /// It did not start; whether anything of it is left.
    Failed {
        /// The chain of causes.
        message: String,
        /// minipod's exit code for it.
        exit_code: u8,
        /// Whether the pod is on disk still.
        left: Left,
    },
}

/// Whether a pod that failed is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing is.
    Nothing,
    /// The pod, phase Failed.
    Pod,
}

/// Forks a shim for every pod; all of them, or none is left. This process has one thread and no runtime here.
pub(crate) fn spawn(store: &Store, pods: Vec<NewPod>) -> Result<Vec<Starting>, Error> {
    let mut started: Vec<Starting> = Vec::new();
    let mut waiting = pods.into_iter();
    while let Some(new) = waiting.next() {
        let pod = (new.dir().clone(), new.record().clone());
        match shim::spawn(store, new) {
            Ok(handle) => started.push(Starting { pod, handle }),
            Err(e) => {
                let mut failures = vec![Error::from(e)];
                failures.extend(waiting.filter_map(|new| new.discard(store).err()).map(Error::from));
                let undo = block_on(async {
                    let gone = started.iter().map(|s| stopping::stop(store, &s.pod, Some(std::time::Duration::ZERO), Then::Remove));
                    Ok(join_all(gone).await)
                });
                match undo {
                    Ok(results) => failures.extend(results.into_iter().filter_map(Result::err)),
                    Err(e) => failures.push(e),
                }
                return Err(Error::Several(failures));
            }
        }
    }
    Ok(started)
}

/// Shows steps: a spinner on a terminal, lines with `-v`. Moves only when something happens; has no thread.
#[derive(Debug, Clone)]
pub(crate) struct Display {
    bar: ProgressBar,
    steps: Steps,
    pending: Rc<RefCell<usize>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Steps {
    Quiet,
    Told(LogFormat),
}

impl Display {
    /// For so many pods.
    pub(crate) fn new(global: &Global, pods: usize) -> Self {
        let steps = if global.verbose > 0 { Steps::Told(global.log_format) } else { Steps::Quiet };
        let spins = steps == Steps::Quiet && std::io::stderr().is_terminal();
        let bar = if spins { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        Self { bar, steps, pending: Rc::new(RefCell::new(pods)) }
    }

    fn step(&self, pod: &str, step: &Timed) {
        match self.steps {
            Steps::Told(format) => output::step(format, pod, step),
            Steps::Quiet => {
                self.bar.set_message(format!("{pod}: {} {}", step.name, step.subject));
                self.bar.tick();
            }
        }
    }

    /// One pod is through.
    fn done(&self) {
        let mut pending = self.pending.borrow_mut();
        *pending = pending.saturating_sub(1);
        if *pending == 0 {
            self.bar.finish_and_clear();
        }
    }

    /// Takes the spinner off the screen: something else is going to be shown.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Starting {
    /// Follows the shim's progress until the pod has started or failed.
    pub(crate) async fn outcome(&mut self, display: &Display) -> Result<Outcome, Error> {
        let name = short_name(&self.pod.1);
        let outcome = loop {
            match self.handle.next().await? {
                Some(Progress::Step(step)) => display.step(&name, &step),
                Some(Progress::Started) => break Outcome::Started,
                Some(Progress::Failed { message, exit_code, removed }) => {
                    let left = if removed { Left::Nothing } else { Left::Pod };
                    break Outcome::Failed { message, exit_code, left };
                }
                None => {
                    self.handle.ended().await?;
                    let log = self.pod.0.path.join("shim.log");
                    let message = format!("pod {}: its shim died while it started; see {}", self.pod.1.label(), log.display());
                    break Outcome::Failed { message, exit_code: exit::OWN, left: Left::Pod };
                }
            }
        };
        display.done();
        Ok(outcome)
    }
}

/// Waits until every pod has started; the failures of those that did not.
pub(crate) async fn all_started(starting: &mut [Starting], display: &Display) -> Result<(), Error> {
    let outcomes = join_all(starting.iter_mut().map(|one| one.outcome(display))).await;
    let failures = outcomes.into_iter().filter_map(|outcome| match outcome {
        Ok(Outcome::Started) => None,
        Ok(Outcome::Failed { message, exit_code, .. }) => Some(Error::Told { message, code: exit_code }),
        Err(e) => Some(e),
    });
    Error::all(failures.collect())
}
