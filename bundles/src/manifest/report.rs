//! Collects the problems of one document, each with its place.

use super::path;
use super::problem::{Problem, Severity};
use super::tree::{Node, Position, shortened_to};
use super::typed::Finding;

/// Most problems of one severity that are kept of a document: nobody reads more, and a hostile one has a hundred thousand.
pub(super) const MOST: usize = 1000;

/// The problems of one document.
pub(super) struct Report<'a> {
    file: &'a str,
    root: &'a Node,
    strict: bool,
    problems: Vec<Problem>,
    /// By severity: how many problems are kept.
    counts: [usize; 3],
    /// Paths whose type is wrong: what follows from that is not reported again.
    spoiled: Vec<String>,
}

impl<'a> Report<'a> {
    pub(super) fn new(file: &'a str, root: &'a Node, strict: bool) -> Self {
        Self { file, root, strict, problems: Vec::new(), counts: [0; 3], spoiled: Vec::new() }
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

    /// A problem at a path, to be put in words and reported by the caller when it knows more.
    pub(super) fn placed(&self, path: &str, severity: Severity) -> Problem {
        let at = self.root.locate(&path::steps(path));
        let path = shortened_to(path, LONGEST_PATH);
        Problem { file: self.file.to_owned(), line: at.line, column: at.column, path, message: String::new(), severity }
    }

    /// A warning that `--strict` makes an error.
    pub(super) fn lint(&mut self, path: &str, message: impl Into<String>) {
        let severity = if self.strict { Severity::Error } else { Severity::Warning };
        self.add(severity, path, message.into());
    }

    /// Whether no further error is kept, so that none need be put in words.
    pub(super) fn is_full(&self) -> bool {
        self.counts[Severity::Error as usize] >= MOST
    }

    /// An error whose place is known.
    pub(super) fn error_at(&mut self, at: Position, path: &str, message: &str) {
        self.push(Severity::Error, at, path, message.to_owned());
    }

    /// What the types found.
    pub(super) fn findings(&mut self, findings: Vec<Finding>) {
        for finding in findings {
            let severity = if finding.unknown_field && !self.strict { Severity::Warning } else { Severity::Error };
            self.push(severity, finding.at, &finding.path, finding.message);
            if !finding.unknown_field && self.spoiled.len() < MOST {
                self.spoiled.push(finding.path);
            }
        }
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    fn add(&mut self, severity: Severity, path: &str, message: String) {
        if self.counts[severity as usize] > MOST || self.spoiled.iter().any(|spoiled| covers(spoiled, path)) {
            return;
        }
        let at = self.root.locate(&path::steps(path));
        self.push(severity, at, path, message);
    }

    fn push(&mut self, severity: Severity, at: Position, path: &str, message: String) {
        let count = self.counts[severity as usize];
        let (path, message) = match count {
            0..MOST => (shortened_to(path, LONGEST_PATH), shortened_to(&message, LONGEST_MESSAGE)),
            MOST => (String::new(), format!("there is more to say than these {MOST}: mend them first")),
            _ => return,
        };
        let problem = Problem { file: self.file.to_owned(), line: at.line, column: at.column, path, message, severity };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
            self.counts[severity as usize] = count + 1;
        }
    }
}

/// In characters: what is quoted of a manifest may have its whole length.
const LONGEST_PATH: usize = 500;
const LONGEST_MESSAGE: usize = 1000;

/// True when `path` is `above` or below it.
fn covers(above: &str, path: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| above.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']))
}
