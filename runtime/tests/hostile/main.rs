//! Hostile images, containers and bundles: what they do to libcontainer as it is, and what they do to our engine.
//!
//! Each test gives the same bundle to both. The first half proves that the danger is real (the day it is not, the test says which
//! work-around may go), the second that we hold. docs/security.md lists them all.

#[path = "../engine_support/mod.rs"]
mod engine_support;

mod catalogue;
mod control;
mod descriptors;
mod executed;
mod host;
mod inherited;
mod intruder;
mod links;
mod mounts;
mod privileges;
mod program;
mod stdio;
