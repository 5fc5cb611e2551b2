//! Names of links.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest name of a link, in bytes: IFNAMSIZ is 16 with the NUL (netdevice(7)).
const MAX: usize = 15;

/// Name of a link: 1 to 15 bytes, no '/', ':' or white space, not "." or ".." (the kernel's `dev_valid_name`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(String);

/// A name the kernel would refuse for a link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("link name {name:?}: {why}")]
pub struct BadIfName {
    name: String,
    why: &'static str,
}

impl IfName {
    /// Checks `name` as the kernel would.
    ///
    /// # Errors
    /// [`BadIfName`] says which rule is broken.
    pub fn new(name: impl Into<String>) -> Result<Self, BadIfName> {
        let name = name.into();
        let why = if name.is_empty() {
            "is empty"
        } else if name.len() > MAX {
            "is longer than 15 bytes"
        } else if name == "." || name == ".." {
            "is a directory's name"
        } else if name
            .bytes()
            .any(|b| b == b'/' || b == b':' || b == 0 || b.is_ascii_whitespace() || b == 0x0b)
        {
            "holds '/', ':', NUL or white space"
        } else {
            return Ok(Self(name));
        };
        Err(BadIfName { name, why })
    }

    /// The name as the kernel spells it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for IfName {
    type Err = BadIfName;
    fn from_str(name: &str) -> Result<Self, BadIfName> {
        Self::new(name)
    }
}

impl TryFrom<String> for IfName {
    type Error = BadIfName;
    fn try_from(name: String) -> Result<Self, BadIfName> {
        Self::new(name)
    }
}

impl From<IfName> for String {
    fn from(name: IfName) -> Self {
        name.0
    }
}

/// The longest beginning of a text that fits into `max` bytes.
pub(crate) fn shorten(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::{IfName, shorten};

    #[test]
    fn shortens_between_characters() {
        assert_eq!(shorten("abc", 9), "abc");
        assert_eq!(shorten("aäb", 2), "a");
        assert_eq!(shorten("aäb", 3), "aä");
    }

    #[test]
    fn takes_what_the_kernel_takes() {
        for good in ["a", "eth0", "mp-1a2b3c4d", "fifteen-bytes-x", "..."] {
            assert_eq!(IfName::new(good).expect(good).as_str(), good);
        }
    }

    #[test]
    fn refuses_what_the_kernel_refuses() {
        for bad in [
            "",
            ".",
            "..",
            "sixteen-bytes-xx",
            "a/b",
            "a:1",
            "a b",
            "a\tb",
            "a\nb",
            "a\0b",
        ] {
            assert!(IfName::new(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_bad_name_does_not_deserialize() {
        assert!(serde_json::from_str::<IfName>("\"eth0\"").is_ok());
        assert!(serde_json::from_str::<IfName>("\"a/b\"").is_err());
    }
}
