//! Credential helpers.

pub(crate) use bundles::registry::NoHelper as Programs;
