//! What is wrong with a manifest, and where.

use std::fmt::{self, Write as _};

/// How much a problem matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Means something to a cluster only; nothing is lost on one host.
    Note,
    /// The pod runs, but not wholly as written.
    Warning,
    /// Nothing runs.
    Error,
}

/// One thing that is wrong (or worth knowing) about a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Name of the source: a path or `<stdin>`.
    pub file: String,
    /// Line, from 1; 0 when no place in the file is to blame.
    pub line: u64,
    /// Column, from 1; 0 when no place in the file is to blame.
    pub column: u64,
    /// Field path from the document's root, such as `spec.containers[0].image`; empty for the document itself.
    pub path: String,
    /// What is wrong and, where it is known, what to do.
    pub message: String,
    /// How much it matters.
    pub severity: Severity,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            f.write_str(": ")?;
            printable(&self.path, f)?;
        }
        f.write_str(": ")?;
        printable(&self.message, f)
    }
}

/// A manifest's own words without what would move a terminal's cursor or begin a line.
fn printable(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for c in text.chars() {
        if c.is_control() { write!(f, "{}", c.escape_default())? } else { f.write_char(c)? }
    }
    Ok(())
}

/// Everything that keeps a manifest from running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// The errors, in the order of the sources and of the lines.
    pub errors: Vec<Problem>,
    /// The warnings found beside them.
    pub warnings: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
