//! Collects the problems of one document, each with its place.

use super::path;
use super::problem::{Problem, Severity};
use super::tree::{Node, Position};
use super::typed::Finding;

/// The problems of one document.
pub(super) struct Report<'a> {
    file: &'a str,
    root: &'a Node,
    strict: bool,
    problems: Vec<Problem>,
    /// Paths whose type is wrong: what follows from that is not reported again.
    spoiled: Vec<String>,
}

impl<'a> Report<'a> {
    pub(super) fn new(file: &'a str, root: &'a Node, strict: bool) -> Self {
        Self { file, root, strict, problems: Vec::new(), spoiled: Vec::new() }
    }

    /// The document's tree.
    pub(super) fn root(&self) -> &'a Node {
        self.root
    }

    /// `file:line:column` of a path.
    pub(super) fn place(&self, path: &str) -> String {
        let at = self.root.locate(&path::steps(path));
        format!("{}:{}:{}", self.file, at.line, at.column)
    }

    pub(super) fn error(&mut self, path: &str, message: impl Into<String>) {
        self.add(Severity::Error, path, message.into());
    }

    pub(super) fn warn(&mut self, path: &str, message: impl Into<String>) {
        self.add(Severity::Warning, path, message.into());
    }

    pub(super) fn note(&mut self, path: &str, message: impl Into<String>) {
        self.add(Severity::Note, path, message.into());
    }

    /// A warning that `--strict` makes an error.
    pub(super) fn lint(&mut self, path: &str, message: impl Into<String>) {
        let severity = if self.strict { Severity::Error } else { Severity::Warning };
        self.add(severity, path, message.into());
    }

    /// What the types found.
    pub(super) fn findings(&mut self, findings: Vec<Finding>) {
        for finding in findings {
            let severity = if finding.unknown_field && !self.strict { Severity::Warning } else { Severity::Error };
            self.push(severity, finding.at, finding.path.clone(), finding.message);
            if !finding.unknown_field {
                self.spoiled.push(finding.path);
            }
        }
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    fn add(&mut self, severity: Severity, path: &str, message: String) {
        if self.spoiled.iter().any(|spoiled| covers(spoiled, path)) {
            return;
        }
        let at = self.root.locate(&path::steps(path));
        self.push(severity, at, path.to_owned(), message);
    }

    fn push(&mut self, severity: Severity, at: Position, path: String, message: String) {
        let problem =
            Problem { file: self.file.to_owned(), line: at.line, column: at.column, path, message, severity };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}

/// True when `path` is `above` or below it.
fn covers(above: &str, path: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| above.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']))
}
