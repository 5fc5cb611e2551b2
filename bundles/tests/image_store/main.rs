//! The image store, with archives built here. Needs root: layers have owners, whiteouts are devices.
#![allow(missing_docs, clippy::unwrap_used)]

mod concurrency;
mod formats;
mod hostile;
mod layers;
mod names;
mod removal;
mod support;
mod toolbox;
