//! The client of registries against scripted servers on 127.0.0.1.
