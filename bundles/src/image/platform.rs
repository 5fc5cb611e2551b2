//! For which machine an image is.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::error::printable;

/// Operating system, architecture (GOARCH) and variant: `linux/arm64/v8`.
///
/// Spec: image-spec `image-index.md`, `platform`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Platform {
    #[serde(default)]
    pub(super) os: String,
    #[serde(default)]
    pub(super) architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

impl Platform {
    /// This machine's.
    #[must_use]
    pub fn host() -> Self {
        Self { os: "linux".to_owned(), architecture: host_architecture().to_owned(), variant: None }
    }

    /// Of a configuration, which has no variant to go by.
    pub(super) fn new(os: &str, architecture: &str) -> Self {
        let os = if os.is_empty() { "linux" } else { os };
        Self { os: os.to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    /// Whether an image for `self` is one for `wanted`. A variant that is not asked for does not matter.
    pub(super) fn fits(&self, wanted: &Self) -> bool {
        let variant = wanted.variant.is_none() || self.plain_variant() == wanted.plain_variant();
        self.is_of(wanted) && variant
    }

    /// Whether they are of one system and architecture, whatever the variant.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        self.os == other.os && self.architecture == other.architecture
    }

    /// The variant that every machine of the architecture has is the same as none.
    fn plain_variant(&self) -> &str {
        match (&*self.architecture, self.variant.as_deref()) {
            (_, None) | ("amd64", Some("v1")) | ("arm64", Some("v8")) => "",
            (_, Some(variant)) => variant,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown = |part: &str| if part.is_empty() { "unknown".to_owned() } else { printable(part) };
        write!(f, "{}/{}", unknown(&self.os), unknown(&self.architecture))?;
        match self.variant.as_deref() {
            None | Some("") => Ok(()),
            Some(variant) => write!(f, "/{}", printable(variant)),
        }
    }
}

impl FromStr for Platform {
    type Err = String;

    /// `OS/ARCH[/VARIANT]`, or the architecture alone; `x86_64` and `aarch64` are understood.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let word = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        if parts.len() > 3 || !parts.iter().all(word) {
            return Err(format!("`{}` is not OS/ARCH[/VARIANT], such as linux/arm64", printable(text)));
        }
        let (os, architecture, variant) = match parts[..] {
            [architecture] => ("linux", architecture, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant.to_owned())),
            _ => return Err("it is empty".to_owned()),
        };
        if os != "linux" {
            return Err(format!("`{}`: minipod runs images for linux only", printable(text)));
        }
        Ok(Self { os: os.to_owned(), architecture: in_go(architecture).to_owned(), variant })
    }
}

/// The first choice among `offered` for `wanted`; `None` stands for an offer that does not say for what it is.
///
/// amd64/v3 and the like need more than every machine has: without a wish for a variant the plain one comes first.
pub(super) fn choose(offered: &[Option<Platform>], wanted: &Platform) -> Option<usize> {
    let fits = |offer: &Option<Platform>| offer.as_ref().is_some_and(|offer| offer.fits(wanted));
    let plain = |offer: &Option<Platform>| offer.as_ref().is_some_and(|offer| offer.plain_variant().is_empty());
    let plain_one = offered.iter().position(|offer| fits(offer) && plain(offer));
    plain_one.or_else(|| offered.iter().position(fits))
}

/// This machine's architecture in Go's words, as images name it.
pub(super) fn host_architecture() -> &'static str {
    in_go(std::env::consts::ARCH)
}

fn in_go(architecture: &str) -> &str {
    match architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        same => same,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn text_and_back() {
        for (given, shown) in [("linux/arm64", "linux/arm64"), ("arm64", "linux/arm64"), ("linux/arm/v7", "linux/arm/v7"), ("linux/x86_64", "linux/amd64")] {
            assert_eq!(platform(given).to_string(), shown);
        }
        for wrong in ["", "/", "linux/", "linux/arm/v7/x", "windows/amd64", "linux/a b"] {
            assert!(wrong.parse::<Platform>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_plain_variant_is_preferred_and_a_wish_is_kept() {
        let offered = ["linux/amd64/v3", "linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64/v8"].map(|text| Some(platform(text)));
        let chosen = |wanted: &str| choose(&offered, &platform(wanted));
        assert_eq!(chosen("linux/amd64"), Some(1));
        assert_eq!(chosen("linux/amd64/v1"), Some(1));
        assert_eq!(chosen("linux/amd64/v3"), Some(0));
        assert_eq!(chosen("linux/arm"), Some(2));
        assert_eq!(chosen("linux/arm/v7"), Some(3));
        assert_eq!(chosen("linux/arm64"), Some(4));
        assert_eq!(chosen("linux/s390x"), None);
        assert_eq!(choose(&[None], &platform("linux/amd64")), None);
    }
}
