//! The environment of a container's first process.

use std::collections::HashMap;

use super::expand::{ALL, LONGEST, TooLong, expand};
use crate::plan::ContainerPlan;

/// podman's and docker's.
pub(super) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables in the order of their first mention; a later value wins, as in a shell.
#[derive(Debug, Default)]
pub(super) struct Environment {
    variables: Vec<(String, String)>,
    /// Where each is.
    places: HashMap<String, usize>,
}

impl Environment {
    pub(super) fn set(&mut self, name: &str, value: String) {
        match self.places.get(name) {
            Some(place) => self.variables[*place].1 = value,
            None => {
                self.places.insert(name.to_owned(), self.variables.len());
                self.variables.push((name.to_owned(), value));
            }
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.places.get(name).map(|place| self.variables[*place].1.as_str())
    }

    pub(super) fn into_lines(self) -> Vec<String> {
        self.variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

/// What a manifest gives to a process, expanded.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) environment: Environment,
    pub(super) command: Option<Vec<String>>,
    pub(super) args: Option<Vec<String>>,
    /// Bytes of all of it.
    bytes: usize,
}

/// Which of a container's strings it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Env(usize),
    Command(usize),
    Args(usize),
}

/// The manifest's variables, each expanded with those before it, and its words, expanded with all.
pub(super) fn of_manifest(container: &ContainerPlan) -> Result<Given, (Word, TooLong)> {
    let mut given = Given::default();
    for (index, (name, value)) in container.env.iter().enumerate() {
        let value = given.expanded(value, name.len() + 1).map_err(|why| (Word::Env(index), why))?;
        given.environment.set(name, value);
    }
    given.command = given.words(container.command.as_deref(), Word::Command)?;
    given.args = given.words(container.args.as_deref(), Word::Args)?;
    Ok(given)
}

impl Given {
    /// A text, which shares its string with `more` bytes.
    fn expanded(&mut self, text: &str, more: usize) -> Result<String, TooLong> {
        let text = expand(text, |name| self.environment.get(name))?;
        let bytes = text.len() + more;
        self.bytes += bytes + 1;
        if bytes > LONGEST {
            return Err(TooLong::One);
        }
        if self.bytes > ALL { Err(TooLong::All) } else { Ok(text) }
    }

    fn words(&mut self, words: Option<&[String]>, word: fn(usize) -> Word) -> Result<Option<Vec<String>>, (Word, TooLong)> {
        let Some(words) = words else { return Ok(None) };
        let expanded = words.iter().enumerate().map(|(index, text)| self.expanded(text, 0).map_err(|why| (word(index), why)));
        expanded.collect::<Result<_, _>>().map(Some)
    }
}

/// What of a plan no process could be given.
pub(crate) fn too_long(container: &ContainerPlan) -> Option<(Word, TooLong)> {
    of_manifest(container).err()
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
    for (name, value) in manifest.variables {
        environment.set(&name, value);
    }
    environment.into_lines()
}
