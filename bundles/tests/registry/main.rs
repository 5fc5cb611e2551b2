//! The client of registries against scripted servers on 127.0.0.1.

mod auth;
mod blobs;
mod cancel;
mod failures;
mod manifests;
mod mirrors;
mod pulls;
mod support;
mod tls;
