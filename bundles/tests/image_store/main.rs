//! The image store, with archives built here. Needs root: layers have owners, whiteouts are devices.
#![allow(missing_docs, clippy::unwrap_used)]

mod bombs;
mod concurrency;
mod formats;
mod hostile;
mod layers;
mod leases;
mod lies;
mod names;
mod removal;
mod saving;
mod strange_names;
mod support;
mod toolbox;
mod whiteouts;
