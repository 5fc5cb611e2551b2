//! As much of `runtime::error` as logs use.

use std::io;
use std::path::PathBuf;

#[derive(Debug)]
#[allow(dead_code, reason = "shown when a check fails")]
pub enum Error {
    File { operation: &'static str, path: PathBuf, source: io::Error },
    System(&'static str, io::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Error {}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    error.to_string()
}

impl Error {
    pub(crate) fn file(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }
}
