//! Changes the files with credentials: `image login`, `image logout`.

use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::credentials::{CredentialHelper, CredentialsError, HelperError, LARGEST_FILE};
use super::docker_config::{DockerConfig, HUB_SERVER, is_hub, key_host};
use super::secret::Login;

/// Where a login went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// Into the file itself.
    File,
    /// To the helper the file names.
    Helper(String),
}

/// Whether there was something to forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// It was there.
    Removed,
    /// There was no login for that registry.
    Nothing,
}

/// Keeps `login` for `registry` in the file, or with the helper the file names for it. What else the file says stays.
///
/// The file is replaced whole and can be read by its owner only; missing directories are made with mode 0700.
///
/// # Errors
/// [`CredentialsError`] when the file is there and cannot be read, cannot be written, or the helper fails.
pub fn store(path: &Path, registry: &str, login: &Login, helper: &dyn CredentialHelper) -> Result<Stored, CredentialsError> {
    let (mut document, config) = read(path)?;
    if let Some((name, server)) = config.helper(registry) {
        helper.store(name, &server, login).map_err(failed(path))?;
        return Ok(Stored::Helper(name.to_owned()));
    }
    let auths = document.entry("auths").or_insert_with(|| Value::Object(Map::new()));
    let Value::Object(auths) = auths else { return Err(not_an_object(path)) };
    auths.retain(|key, _| !names(key, registry));
    auths.insert(key_for(path, registry), entry(login));
    write(path, &document)?;
    Ok(Stored::File)
}

/// Forgets the logins for `registry`, in the file and with the helper it names.
///
/// # Errors
/// [`CredentialsError`] when the file cannot be read or written, or the helper fails.
pub fn remove(path: &Path, registry: &str, helper: &dyn CredentialHelper) -> Result<Forgotten, CredentialsError> {
    let (mut document, config) = read(path)?;
    let mut forgotten = Forgotten::Nothing;
    if let Some((name, server)) = config.helper(registry)
        && helper.get(name, &server).map_err(failed(path))?.is_some()
    {
        helper.erase(name, &server).map_err(failed(path))?;
        forgotten = Forgotten::Removed;
    }
    if let Some(Value::Object(auths)) = document.get_mut("auths") {
        let before = auths.len();
        auths.retain(|key, _| !names(key, registry));
        if auths.len() < before {
            forgotten = Forgotten::Removed;
            write(path, &document)?;
        }
    }
    Ok(forgotten)
}

fn failed(path: &Path) -> impl Fn(HelperError) -> CredentialsError {
    let file = path.display().to_string();
    move |source| CredentialsError::Helper { file: file.clone(), source }
}

/// The file as it is, and as it is understood. A missing one is empty.
fn read(path: &Path) -> Result<(Map<String, Value>, DockerConfig), CredentialsError> {
    let bytes = match super::read_file(path, LARGEST_FILE) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Zeroizing::new(Vec::new()),
        Err(source) => return Err(CredentialsError::File { op: "read credentials", path: path.to_owned(), source }),
    };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok((Map::new(), DockerConfig::default()));
    }
    let config = DockerConfig::parse(&bytes).map_err(|source| CredentialsError::Parse { path: path.to_owned(), source })?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(document)) => Ok((document, config)),
        _ => Err(not_an_object(path)),
    }
}

fn not_an_object(path: &Path) -> CredentialsError {
    let source = io::Error::new(io::ErrorKind::InvalidData, "it is not a JSON object of objects");
    CredentialsError::File { op: "read credentials", path: path.to_owned(), source }
}

/// Whether `key` means that registry (or, when it has a path, exactly that).
fn names(key: &str, registry: &str) -> bool {
    if key == registry {
        return true;
    }
    let path = key.trim_start_matches("https://").trim_start_matches("http://").split_once('/').map_or("", |(_, path)| path);
    let whole = matches!(path.trim_end_matches('/'), "" | "v1" | "v2");
    let host = key_host(key);
    whole && (host == registry || (is_hub(host) && is_hub(registry)))
}

/// docker looks for its hub under this name only; all others take the host.
fn key_for(path: &Path, registry: &str) -> String {
    let of_docker = path.file_name().is_some_and(|name| name == "config.json");
    if is_hub(registry) && of_docker { HUB_SERVER.to_owned() } else { registry.to_owned() }
}

fn entry(login: &Login) -> Value {
    let mut entry = Map::new();
    let (username, password) = match login {
        Login::Password { username, password } => (username, password.reveal()),
        Login::IdentityToken { username, token } => {
            entry.insert("identitytoken".into(), token.reveal().into());
            (username, "")
        }
    };
    let plain = Zeroizing::new(format!("{username}:{password}"));
    entry.insert("auth".into(), BASE64_STANDARD.encode(plain.as_bytes()).into());
    Value::Object(entry)
}

fn write(path: &Path, document: &Map<String, Value>) -> Result<(), CredentialsError> {
    // Through a link: the file it leads to is replaced, not the link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    replace(&target, document).map_err(|source| CredentialsError::File { op: "write credentials", path: target, source })
}

fn replace(target: &Path, document: &Map<String, Value>) -> io::Result<()> {
    let dir: PathBuf = target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
    DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    let text = Zeroizing::new(serde_json::to_string_pretty(document)?);
    // Mode 0600 from its first moment: see tempfile::Builder.
    let mut file = tempfile::NamedTempFile::new_in(&dir)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist(target).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Mutex;

    use super::*;
    use crate::registry::NoHelper;

    fn json(path: &Path) -> Value {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn a_new_file_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/deep/auth.json");
        assert_eq!(store(&path, "r.io", &Login::password("me", "p"), &NoHelper).unwrap(), Stored::File);
        assert_eq!(json(&path)["auths"]["r.io"]["auth"], "bWU6cA==");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for made in [dir.path().join("new"), dir.path().join("new/deep")] {
            assert_eq!(fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o700);
        }
        assert_eq!(remove(&path, "r.io", &NoHelper).unwrap(), Forgotten::Removed);
        assert_eq!(remove(&path, "r.io", &NoHelper).unwrap(), Forgotten::Nothing);
    }

    #[test]
    fn what_else_is_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real.json");
        let path = dir.path().join("config.json");
        std::os::unix::fs::symlink(&real, &path).unwrap();
        let before = r#"{"HttpHeaders":{"X":"1"},"auths":{"q.io/org":{"auth":"YTpi"},"https://r.io/v1/":{"auth":"YTpi"}}}"#;
        fs::write(&real, before).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o644)).unwrap();
        let token = Login::IdentityToken { username: "me".into(), token: crate::registry::Secret::new("tok".into()) };
        store(&path, "r.io", &token, &NoHelper).unwrap();
        store(&path, "docker.io", &Login::password("me", "p"), &NoHelper).unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
        let after = json(&real);
        assert_eq!(after["HttpHeaders"]["X"], "1");
        let keys: Vec<_> = after["auths"].as_object().unwrap().keys().collect();
        assert_eq!(keys, [HUB_SERVER, "q.io/org", "r.io"]);
        assert_eq!(after["auths"]["r.io"]["identitytoken"], "tok");
        assert_eq!(remove(&path, "docker.io", &NoHelper).unwrap(), Forgotten::Removed);
        assert_eq!(remove(&path, "q.io", &NoHelper).unwrap(), Forgotten::Nothing);
    }

    #[test]
    fn a_broken_file_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth.json");
        for text in ["{", "[]", r#"{"auths":[]}"#] {
            fs::write(&path, text).unwrap();
            assert!(store(&path, "r.io", &Login::password("me", "p"), &NoHelper).is_err(), "{text}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    struct Keeping(Mutex<Vec<String>>);

    impl CredentialHelper for Keeping {
        fn get(&self, _: &str, _: &str) -> Result<Option<Login>, HelperError> {
            Ok(Some(Login::password("me", "p")))
        }

        fn store(&self, helper: &str, server: &str, login: &Login) -> Result<(), HelperError> {
            self.0.lock().unwrap().push(format!("store {helper} {server} {}", login.username()));
            Ok(())
        }

        fn erase(&self, helper: &str, server: &str) -> Result<(), HelperError> {
            self.0.lock().unwrap().push(format!("erase {helper} {server}"));
            Ok(())
        }
    }

    #[test]
    fn the_helper_of_the_file_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth.json");
        let before = r#"{"credHelpers":{"r.io":"one"},"credsStore":"two"}"#;
        fs::write(&path, before).unwrap();
        let helper = Keeping(Mutex::default());
        let login = Login::password("me", "p");
        assert_eq!(store(&path, "r.io", &login, &helper).unwrap(), Stored::Helper("one".into()));
        store(&path, "docker.io", &login, &helper).unwrap();
        remove(&path, "r.io", &helper).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), before);
        let calls = helper.0.into_inner().unwrap();
        assert_eq!(calls, ["store one r.io me", "store two https://index.docker.io/v1/ me", "erase one r.io"]);
    }
}
