//! The environment of a container's first process.

use super::expand::expand;
use crate::plan::ContainerPlan;

/// podman's and docker's.
pub(super) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables in the order of their first mention; a later value wins, as in a shell.
#[derive(Debug, Default)]
pub(super) struct Environment(Vec<(String, String)>);

impl Environment {
    pub(super) fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(other, _)| other == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
    }

    pub(super) fn into_lines(self) -> Vec<String> {
        self.0.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

/// The manifest's variables, each expanded with those before it.
pub(super) fn of_manifest(container: &ContainerPlan) -> Environment {
    let mut environment = Environment::default();
    for (name, value) in &container.env {
        let value = expand(value, |name| environment.get(name));
        environment.set(name, value);
    }
    environment
}

/// The whole environment: image, defaults, manifest.
pub(super) fn whole(image: &[String], manifest: Environment, hostname: &str, home: &str, tty: bool) -> Vec<String> {
    let mut environment = Environment::default();
    environment.set("PATH", DEFAULT_PATH.to_owned());
    environment.set("HOSTNAME", hostname.to_owned());
    environment.set("HOME", home.to_owned());
    if tty {
        environment.set("TERM", "xterm".to_owned());
    }
    for line in image {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        environment.set(name, value.to_owned());
    }
    for (name, value) in manifest.0 {
        environment.set(&name, value);
    }
    environment.into_lines()
}
