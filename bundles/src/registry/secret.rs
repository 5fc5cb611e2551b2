//! Credentials in memory: never shown, and wiped when dropped.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use crate::image::digest::Digest;

/// A password or token. Shown as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes it over.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The secret itself: for those who must send or store it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What proves to a registry who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// A name and a password (or personal access token).
    Password {
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// An OAuth2 refresh token, as `docker login` stores it for some registries.
    IdentityToken {
        /// The name beside it; may be empty.
        username: String,
        /// The token.
        token: Secret,
    },
}

/// What docker's files and helpers write as the name beside an identity token.
const TOKEN_USER: &str = "<token>";

impl Login {
    /// A name and a password.
    #[must_use]
    pub fn password(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Password { username: username.into(), password: Secret::new(password.into()) }
    }

    /// What a credential helper answers: the name `<token>` says that the secret is an identity token.
    #[must_use]
    pub fn from_helper(username: String, secret: Secret) -> Self {
        if username == TOKEN_USER {
            return Self::IdentityToken { username, token: secret };
        }
        Self::Password { username, password: secret }
    }

    /// The name.
    #[must_use]
    pub fn username(&self) -> &str {
        match self {
            Self::Password { username, .. } | Self::IdentityToken { username, .. } => username,
        }
    }

    /// What a credential helper is given to store: name and secret.
    #[must_use]
    pub fn for_helper(&self) -> (&str, &Secret) {
        match self {
            Self::Password { username, password } => (username, password),
            Self::IdentityToken { token, .. } => (TOKEN_USER, token),
        }
    }

    /// `name:password` in base64.
    pub(super) fn basic(&self) -> Option<Secret> {
        match self {
            Self::Password { username, password } => {
                let plain = Zeroizing::new(format!("{username}:{}", password.reveal()));
                Some(Secret::new(BASE64_STANDARD.encode(plain.as_bytes())))
            }
            Self::IdentityToken { .. } => None,
        }
    }

    /// Tells logins apart without keeping them.
    pub(super) fn fingerprint(&self) -> Digest {
        let (kind, username, secret) = match self {
            Self::Password { username, password } => ("p", username, password),
            Self::IdentityToken { username, token } => ("t", username, token),
        };
        let all = Zeroizing::new(format!("{kind}{}:{username}{}", username.len(), secret.reveal()));
        Digest::of(all.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let login = Login::password("me", "hunter2");
        let shown = format!("{login:?}");
        assert!(shown.contains("me") && !shown.contains("hunter2"), "{shown}");
        assert_eq!(login.basic().unwrap().reveal(), "bWU6aHVudGVyMg==");
        assert_ne!(login.fingerprint(), Login::password("me", "hunter3").fingerprint());
    }
}
