//! The v1 Pod as users write it: text in, defaulted pods and their plans out, and every problem with its file, line,
//! column and field path.
//!
//! ```text
//! text --tree--> Node --documents, typed--> Pod as written --support--> what is not honoured
//!                                              |
//!                                              +--defaults--> Pod --lower--> PodPlan
//! ```
//! Reads only: the sources it is given, and whether the directories that annotations name exist.

mod defaults;
mod documents;
pub mod fields;
mod lower;
mod names;
mod path;
mod problem;
mod publish;
pub mod quantity;
mod report;
#[cfg(test)]
mod schema;
mod secrets;
mod support;
mod tree;
mod typed;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

pub use problem::{Problem, Problems, Severity};
pub use publish::{publish, publish_all};
pub use secrets::{PullSecret, PullSecretKind};

use crate::plan::PodPlan;
use documents::Draft;
pub(crate) use lower::collide;
use report::Report;
use secrets::{Named, Secrets};

/// A text and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// A path, or `<stdin>`; only named in problems.
    pub name: String,
    /// YAML or JSON, one or more documents.
    pub text: String,
}

/// How strictly to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ParseOptions {
    /// Unknown fields, and names that Kubernetes would refuse, are errors.
    pub strict: bool,
}

/// What the sources hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The pods, in the order of the sources; never empty unless a workload asks for no replicas.
    pub pods: Vec<PodManifest>,
    /// What the pods do not honour, and what else is worth knowing.
    pub warnings: Vec<Problem>,
}

/// One pod.
#[derive(Debug, Clone, PartialEq)]
pub struct PodManifest {
    /// The pod, defaulted as the API server would, with namespace and a fresh uid.
    pub pod: Pod,
    /// What the runtime needs of it.
    pub plan: PodPlan,
    /// The Secrets of `spec.imagePullSecrets` that the sources hold, in the order in which the pod names them. Only here: neither
    /// `pod` nor `plan`, which are kept on disk, has more than their names.
    pub pull_secrets: Vec<PullSecret>,
}

/// Reads manifests: all documents of all sources, or all that is wrong with them.
///
/// # Errors
/// [`Problems`] with at least one error: bad syntax, a wrong type, a value that cannot be, nothing to run.
pub fn parse(sources: &[Source], options: &ParseOptions) -> Result<Manifest, Problems> {
    let mut reading = Reading {
        room: documents::MAX_COPIES,
        options: *options,
        pods: Vec::new(),
        problems: Vec::new(),
        runnable: false,
        places: BTreeMap::new(),
        secrets: Secrets::default(),
        named: Vec::new(),
    };
    for source in sources {
        reading.source(source);
    }
    reading.finish(sources)
}

struct Reading {
    /// Bytes that copies of templates may still take.
    room: usize,
    options: ParseOptions,
    pods: Vec<PodManifest>,
    problems: Vec<Problem>,
    runnable: bool,
    /// The place of each pod so far, by namespace and name.
    places: BTreeMap<(String, String), String>,
    secrets: Secrets,
    /// The secrets that pods name, in whatever source they may be.
    named: Vec<Named>,
}

impl Reading {
    fn source(&mut self, source: &Source) {
        let documents = match tree::documents(&source.text) {
            Ok(documents) => documents,
            Err(error) => {
                self.problems.push(Problem {
                    file: source.name.clone(),
                    line: error.at.line,
                    column: error.at.column,
                    path: String::new(),
                    message: error.message,
                    severity: Severity::Error,
                });
                self.runnable = true; // unknown, and the error says enough
                return;
            }
        };
        for document in &documents {
            let mut report = Report::new(&source.name, document, self.options.strict);
            support::check_nul(document, &mut String::new(), &mut report);
            let found = documents::pods(document, "", self.room, &mut report);
            self.room = found.room;
            self.runnable |= found.runnable;
            for (base, secret) in found.secrets {
                self.secrets.add(secret, &base, &mut report);
            }
            for draft in found.drafts {
                self.draft(draft, &mut report);
            }
            self.problems.extend(report.into_problems());
        }
    }

    fn draft(&mut self, draft: Draft, report: &mut Report<'_>) {
        let Draft { mut pod, base, workload } = draft;
        if let Some(node) = report.root().find(&path::steps(&base)) {
            support::check(node, &base, report);
        }
        defaults::apply(&mut pod, &uuid::Uuid::new_v4().to_string());
        let plan = lower::pod(&pod, &base, workload, report);
        self.named.extend(secrets::named(&pod, self.pods.len(), &base, report));
        let place = path::field(&path::field(&base, "metadata"), "name");
        let key = (plan.namespace.clone(), plan.name.clone());
        if let Some(first) = self.places.get(&key).filter(|_| !plan.name.is_empty()) {
            report.error(&place, format!("pod {}/{} is already defined at {first}", key.0, key.1));
        } else {
            self.places.insert(key, report.place(&place));
        }
        self.pods.push(PodManifest { pod, plan, pull_secrets: Vec::new() });
    }

    fn finish(mut self, sources: &[Source]) -> Result<Manifest, Problems> {
        let pods = &mut self.pods;
        let give = |pod: usize, secret| pods.get_mut(pod).map_or((), |pod: &mut PodManifest| pod.pull_secrets.push(secret));
        self.secrets.deal(self.named.split_off(0), give, &mut self.problems);
        if !self.runnable && self.problems.iter().all(|problem| problem.severity != Severity::Error) {
            self.nothing_to_run(sources);
        }
        // Stable: the sources stay in order, each one's problems go by line.
        let order: BTreeMap<&str, usize> = sources.iter().enumerate().map(|(index, s)| (s.name.as_str(), index)).collect();
        self.problems.sort_by_key(|p| (order.get(p.file.as_str()).copied(), p.line, p.column));
        let (errors, warnings): (Vec<_>, Vec<_>) = self.problems.into_iter().partition(|p| p.severity == Severity::Error);
        if errors.is_empty() { Ok(Manifest { pods: self.pods, warnings }) } else { Err(Problems { errors, warnings }) }
    }

    /// The kinds that were found are to blame, or the input is empty.
    fn nothing_to_run(&mut self, sources: &[Source]) {
        for problem in self.problems.iter_mut().filter(|problem| problem.path.ends_with("kind")) {
            problem.severity = Severity::Error;
            problem.message = format!("{}; there is nothing to run", problem.message.replacen(", ignored", "", 1));
        }
        if self.problems.iter().all(|problem| problem.severity != Severity::Error) {
            self.problems.push(Problem {
                file: sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", "),
                line: 0,
                column: 0,
                path: String::new(),
                message: "nothing to run: a manifest holds at least one `kind: Pod`".to_owned(),
                severity: Severity::Error,
            });
        }
    }
}
