//! The user's credentials: which files hold them, and which of them a registry gets.

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::docker_config::{ConfigError, DockerConfig};
use super::secret::Login;
use crate::image::error::printable;

/// More than any such file has.
pub(super) const LARGEST_FILE: u64 = 16 << 20;

/// A program that keeps credentials, asked by its name: `docker-credential-<helper>`. This crate starts no programs.
///
/// Spec: docker-credential-helpers.
pub trait CredentialHelper: Send + Sync {
    /// The login for `server`; nothing when the helper has none.
    ///
    /// # Errors
    /// [`HelperError`] when it does not run or answer as it should.
    fn get(&self, helper: &str, server: &str) -> Result<Option<Login>, HelperError>;

    /// Stores the login for `server`.
    ///
    /// # Errors
    /// [`HelperError`] when it does not run or answer as it should.
    fn store(&self, helper: &str, server: &str, login: &Login) -> Result<(), HelperError>;

    /// Forgets the login for `server`.
    ///
    /// # Errors
    /// [`HelperError`] when it does not run or answer as it should.
    fn erase(&self, helper: &str, server: &str) -> Result<(), HelperError>;
}

/// A credential helper that did not do what it should.
#[derive(Debug, thiserror::Error)]
#[error("credential helper `docker-credential-{}`: {}", printable(.helper), printable(.why))]
pub struct HelperError {
    /// Its name, without `docker-credential-`.
    pub helper: String,
    /// What went wrong; never with a secret in it.
    pub why: String,
}

/// For those who have no helpers: says so when one is needed.
#[derive(Debug, Clone, Copy)]
pub struct NoHelper;

impl CredentialHelper for NoHelper {
    fn get(&self, helper: &str, _server: &str) -> Result<Option<Login>, HelperError> {
        Err(none(helper))
    }

    fn store(&self, helper: &str, _server: &str, _login: &Login) -> Result<(), HelperError> {
        Err(none(helper))
    }

    fn erase(&self, helper: &str, _server: &str) -> Result<(), HelperError> {
        Err(none(helper))
    }
}

fn none(helper: &str) -> HelperError {
    HelperError { helper: helper.to_owned(), why: "cannot be started from here".into() }
}

/// Credentials that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file that cannot be read or written.
    #[error("{op} {}", .path.display())]
    File {
        /// What was tried.
        op: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that does not parse.
    #[error("credentials in {}", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ConfigError,
    },
    /// A helper.
    #[error("credentials by {file}")]
    Helper {
        /// Which file names it.
        file: String,
        /// Why.
        source: HelperError,
    },
}

/// Where credentials may be: what the environment says.
///
/// Spec: containers-auth.json(5); docker's `DOCKER_CONFIG`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// `--authfile`.
    pub authfile: Option<PathBuf>,
    /// `REGISTRY_AUTH_FILE`.
    pub registry_auth_file: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub config_home: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `DOCKER_CONFIG`, a directory.
    pub docker_config: Option<PathBuf>,
    /// Who we are: the directory below `/run/containers` when there is no `XDG_RUNTIME_DIR`.
    pub uid: u32,
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Config,
    Legacy,
}

impl Places {
    /// What this process's environment says.
    #[must_use]
    pub fn from_env(authfile: Option<PathBuf>) -> Self {
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            authfile,
            registry_auth_file: path("REGISTRY_AUTH_FILE"),
            runtime_dir: path("XDG_RUNTIME_DIR"),
            config_home: path("XDG_CONFIG_HOME"),
            home: path("HOME"),
            docker_config: path("DOCKER_CONFIG"),
            uid: rustix::process::geteuid().as_raw(),
        }
    }

    /// The file that `login` and `logout` change.
    #[must_use]
    pub fn written(&self) -> PathBuf {
        self.chosen().cloned().unwrap_or_else(|| self.runtime_file())
    }

    /// The one file the user chose.
    fn chosen(&self) -> Option<&PathBuf> {
        self.authfile.as_ref().or(self.registry_auth_file.as_ref())
    }

    fn runtime_file(&self) -> PathBuf {
        match &self.runtime_dir {
            Some(dir) => dir.join("containers/auth.json"),
            None => format!("/run/containers/{}/auth.json", self.uid).into(),
        }
    }

    /// All that are looked into when the user chose none, the first to be asked first.
    fn usual(&self) -> Vec<(PathBuf, Form)> {
        let mut files = vec![(self.runtime_file(), Form::Config)];
        let config_home = self.config_home.clone().or_else(|| self.home.as_ref().map(|home| home.join(".config")));
        files.extend(config_home.map(|dir| (dir.join("containers/auth.json"), Form::Config)));
        let docker = self.docker_config.clone().or_else(|| self.home.as_ref().map(|home| home.join(".docker")));
        files.extend(docker.map(|dir| (dir.join("config.json"), Form::Config)));
        files.extend(self.home.as_ref().map(|home| (home.join(".dockercfg"), Form::Legacy)));
        files
    }
}

/// The user's credentials.
#[derive(Clone)]
pub struct Credentials {
    configs: Vec<DockerConfig>,
    helper: Arc<dyn CredentialHelper>,
    warnings: Vec<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("configs", &self.configs).finish_non_exhaustive()
    }
}

impl Credentials {
    /// No credentials at all.
    #[must_use]
    pub fn none() -> Self {
        Self { configs: Vec::new(), helper: Arc::new(NoHelper), warnings: Vec::new() }
    }

    /// Reads the file the user chose, else all the usual ones that are there.
    ///
    /// # Errors
    /// [`CredentialsError`] when the chosen file is not there, or one of them cannot be read.
    pub fn load(places: &Places, helper: Arc<dyn CredentialHelper>) -> Result<Self, CredentialsError> {
        let mut all = Self { configs: Vec::new(), helper, warnings: Vec::new() };
        if let Some(file) = places.chosen() {
            all.add(file, Form::Config)?;
            return Ok(all);
        }
        for (file, form) in places.usual() {
            match all.add(&file, form) {
                Err(CredentialsError::File { source, .. }) if is_absent(&source) => {}
                other => other?,
            }
        }
        Ok(all)
    }

    fn add(&mut self, path: &Path, form: Form) -> Result<(), CredentialsError> {
        let file = |source| CredentialsError::File { op: "read credentials", path: path.to_owned(), source };
        let bytes = zeroize::Zeroizing::new(super::read_file(path, LARGEST_FILE).map_err(file)?);
        let mode = std::fs::metadata(path).map_err(file)?.permissions().mode();
        if mode & 0o044 != 0 {
            let warning = format!("{} can be read by others: chmod 600 {}", path.display(), path.display());
            self.warnings.push(printable(&warning));
        }
        let parsed = match form {
            _ if bytes.iter().all(u8::is_ascii_whitespace) => Ok(DockerConfig::default()),
            Form::Config => DockerConfig::parse(&bytes),
            Form::Legacy => DockerConfig::parse_legacy(&bytes),
        };
        let config = parsed.map_err(|source| CredentialsError::Parse { path: path.to_owned(), source })?;
        self.configs.push(config.from_source(path.display().to_string()));
        Ok(())
    }

    /// What the user should know about the files: printable.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The login for a repository (or, with an empty path, a registry), and where it comes from. A helper is asked first, as
    /// docker and podman do.
    ///
    /// # Errors
    /// [`CredentialsError::Helper`] when a helper is needed and fails.
    pub fn find(&self, registry: &str, path: &str) -> Result<Option<(Login, String)>, CredentialsError> {
        for config in &self.configs {
            let failed = |source| CredentialsError::Helper { file: config.source().to_owned(), source };
            if let Some((helper, server)) = config.helper(registry)
                && let Some(login) = self.helper.get(helper, &server).map_err(failed)?
            {
                return Ok(Some((login, format!("docker-credential-{} ({})", helper, config.source()))));
            }
            if let Some(login) = config.longest(registry, path) {
                return Ok(Some((login.clone(), config.source().to_owned())));
            }
        }
        Ok(None)
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct OneHelper;

    impl CredentialHelper for OneHelper {
        fn get(&self, helper: &str, server: &str) -> Result<Option<Login>, HelperError> {
            assert_eq!(helper, "one");
            Ok((server == "h.io").then(|| Login::password("helper", "p")))
        }

        fn store(&self, _: &str, _: &str, _: &Login) -> Result<(), HelperError> {
            unreachable!()
        }

        fn erase(&self, _: &str, _: &str) -> Result<(), HelperError> {
            unreachable!()
        }
    }

    fn write(path: &Path, user: &str, registry: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!(r#"{{"auths":{{"{registry}":{{"username":"{user}","password":"p"}}}}}}"#)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn who(places: &Places, registry: &str) -> Option<String> {
        let all = Credentials::load(places, Arc::new(OneHelper)).unwrap();
        all.find(registry, "a/b").unwrap().map(|(login, _)| login.username().to_owned())
    }

    #[test]
    fn the_usual_files_in_order_and_the_chosen_one_alone() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mut places = Places {
            runtime_dir: Some(at("run")),
            config_home: Some(at("config")),
            home: Some(at("home")),
            ..Places::default()
        };
        assert_eq!(who(&places, "r.io"), None);
        fs::create_dir_all(at("home")).unwrap();
        fs::write(at("home/.dockercfg"), r#"{"r.io":{"username":"4","password":"p"}}"#).unwrap();
        for (file, user) in [
            ("home/.docker/config.json", "3"),
            ("config/containers/auth.json", "2"),
            ("run/containers/auth.json", "1"),
        ] {
            assert_eq!(who(&places, "r.io"), Some((user.parse::<u32>().unwrap() + 1).to_string()));
            write(&at(file), user, "r.io");
            assert_eq!(who(&places, "r.io").as_deref(), Some(user));
        }
        write(&at("run/containers/auth.json"), "x", "other.io");
        assert_eq!(who(&places, "r.io").as_deref(), Some("2"), "the next file is asked when one has no entry");

        write(&at("env.json"), "env", "e.io");
        places.registry_auth_file = Some(at("env.json"));
        assert_eq!((who(&places, "e.io").as_deref(), who(&places, "r.io")), (Some("env"), None));
        write(&at("flag.json"), "flag", "e.io");
        places.authfile = Some(at("flag.json"));
        assert_eq!(who(&places, "e.io").as_deref(), Some("flag"));
        places.authfile = Some(at("absent.json"));
        assert!(Credentials::load(&places, Arc::new(OneHelper)).is_err());
    }

    #[test]
    fn helpers_are_asked_and_open_files_reported() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.json");
        fs::write(&file, r#"{"auths":{"i.io":{"username":"file","password":"p"}},"credsStore":"one"}"#).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let places = Places { authfile: Some(file), ..Places::default() };
        assert_eq!(who(&places, "h.io").as_deref(), Some("helper"));
        assert_eq!(who(&places, "i.io").as_deref(), Some("file"));
        let all = Credentials::load(&places, Arc::new(NoHelper)).unwrap();
        assert!(all.warnings()[0].contains("chmod 600"), "{:?}", all.warnings());
        assert!(matches!(all.find("h.io", "a"), Err(CredentialsError::Helper { .. })));
    }
}
