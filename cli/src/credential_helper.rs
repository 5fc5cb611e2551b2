//! Runs credential helpers: the programs `docker-credential-<name>` that keep logins for docker and podman.
//!
//! Spec: docker-credential-helpers: the server's name (or a document) on stdin, a document on stdout; a failure is an exit code
//! and its reason on stdout.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bundles::registry::{CredentialHelper, HelperError, Login, Secret};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// A helper may ask the user to unlock something, but not for ever.
const LIMIT: Duration = Duration::from_secs(30);
/// More than any answer has.
const LARGEST_ANSWER: usize = 1 << 20;
/// How a helper says that it has nothing (its whole answer, in all that are known).
const NOT_FOUND: &str = "credentials not found";

/// Starts the helpers of `PATH`.
#[derive(Debug, Clone)]
pub(crate) struct HelperPrograms {
    /// Where they are, if not in `PATH`.
    dir: Option<PathBuf>,
    limit: Duration,
}

impl Default for HelperPrograms {
    fn default() -> Self {
        Self { dir: None, limit: LIMIT }
    }
}

/// What `get` answers and `store` takes.
#[derive(Serialize, Deserialize)]
struct Document {
    #[serde(rename = "ServerURL", default)]
    server: String,
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Secret")]
    secret: String,
}

impl CredentialHelper for HelperPrograms {
    fn get(&self, helper: &str, server: &str) -> Result<Option<Login>, HelperError> {
        let answer = self.run(helper, "get", server.as_bytes())?;
        if !answer.status.success() {
            let nothing = String::from_utf8_lossy(&answer.out).trim().to_ascii_lowercase().contains(NOT_FOUND);
            return if nothing { Ok(None) } else { Err(answer.failure(helper, "get")) };
        }
        // The answer itself is not shown: there is a secret in it.
        let document: Document = serde_json::from_slice(&answer.out)
            .map_err(|error| failed(helper, format!("its answer to `get` is not what it should be (line {})", error.line())))?;
        Ok(Some(Login::from_helper(document.username, Secret::new(document.secret))))
    }

    fn store(&self, helper: &str, server: &str, login: &Login) -> Result<(), HelperError> {
        let (username, secret) = login.for_helper();
        let document = Document { server: server.into(), username: username.into(), secret: secret.reveal().into() };
        let document = serde_json::to_vec(&document).map_err(|error| failed(helper, error.to_string()))?;
        self.run(helper, "store", &document)?.check(helper, "store")
    }

    fn erase(&self, helper: &str, server: &str) -> Result<(), HelperError> {
        self.run(helper, "erase", server.as_bytes())?.check(helper, "erase")
    }
}

/// How a helper ended, and what it wrote.
struct Answer {
    status: ExitStatus,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Answer {
    fn check(self, helper: &str, action: &str) -> Result<(), HelperError> {
        if self.status.success() { Ok(()) } else { Err(self.failure(helper, action)) }
    }

    fn failure(&self, helper: &str, action: &str) -> HelperError {
        let said = [&self.out, &self.err].map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
        let said: Vec<String> = said.into_iter().filter(|text| !text.is_empty()).collect();
        let said = if said.is_empty() { "without a word".to_owned() } else { format!("and says: {}", said.join("; ")) };
        failed(helper, format!("`{action}` ended with {} {said}", self.status))
    }
}

fn failed(helper: &str, why: impl Into<String>) -> HelperError {
    HelperError { helper: helper.to_owned(), why: why.into() }
}

impl HelperPrograms {
    fn run(&self, helper: &str, action: &str, input: &[u8]) -> Result<Answer, HelperError> {
        // The name comes from a file; it must not lead to another program.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if helper.is_empty() || !helper.chars().all(plain) {
            return Err(failed(helper, "its name may have letters, digits, - and _ only"));
        }
        let name = format!("docker-credential-{helper}");
        let program = self.dir.as_ref().map_or_else(|| name.clone().into(), |dir| dir.join(&name));
        let mut command = Command::new(program);
        command.arg(action).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => failed(helper, "there is no such program in PATH: install it, or take it out of the file that names it"),
            _ => failed(helper, format!("cannot be started: {error}")),
        })?;
        let answer = self.talk(helper, &mut child, input);
        if answer.is_err() {
            // Gone already, if this fails.
            child.kill().ok();
        }
        let status = child.wait().map_err(|error| failed(helper, format!("cannot be waited for: {error}")))?;
        let (out, err) = answer?;
        Ok(Answer { status, out, err })
    }

    /// Gives it its input, and reads all it writes. Without a thread: one that outlived a helper would be in the way of a fork.
    fn talk(&self, helper: &str, child: &mut Child, input: &[u8]) -> Result<(Vec<u8>, Vec<u8>), HelperError> {
        let until = Instant::now() + self.limit;
        let broken = |e: io::Error| failed(helper, format!("cannot be talked to: {e}"));
        let mut input = Input::new(child.stdin.take(), input).map_err(broken)?;
        let (mut out, mut err) = (Output::new(child.stdout.take().map(Into::into)), Output::new(child.stderr.take().map(Into::into)));
        while out.fd.is_some() || err.fd.is_some() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(failed(helper, format!("did not end within {} s", self.limit.as_secs())));
            }
            let open = [(&input.fd, PollFlags::OUT), (&out.fd, PollFlags::IN), (&err.fd, PollFlags::IN)];
            let mut fds: Vec<PollFd<'_>> = open.iter().filter_map(|(fd, flags)| fd.as_ref().map(|fd| PollFd::new(fd, *flags))).collect();
            let limit = Timespec::try_from(left).map_err(|e| broken(io::Error::other(e)))?;
            match poll(&mut fds, Some(&limit)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(broken(e.into())),
            }
            let ready: Vec<i32> = fds.iter().filter(|fd| !fd.revents().is_empty()).map(|fd| fd.as_fd().as_raw_fd()).collect();
            let is_ready = |fd: &Option<OwnedFd>| fd.as_ref().is_some_and(|fd| ready.contains(&fd.as_raw_fd()));
            let (to_write, to_read) = (is_ready(&input.fd), [is_ready(&out.fd), is_ready(&err.fd)]);
            if to_write {
                input.write();
            }
            for (stream, _) in [&mut out, &mut err].into_iter().zip(to_read).filter(|(_, ready)| *ready) {
                stream.read().map_err(broken)?;
                if stream.bytes.len() > LARGEST_ANSWER {
                    return Err(failed(helper, format!("writes more than {LARGEST_ANSWER} bytes")));
                }
            }
        }
        Ok((out.bytes, err.bytes))
    }
}

/// What a helper is given; the pipe is closed when it has all.
struct Input<'a> {
    fd: Option<OwnedFd>,
    left: &'a [u8],
}

impl<'a> Input<'a> {
    fn new(pipe: Option<ChildStdin>, bytes: &'a [u8]) -> io::Result<Self> {
        let fd = pipe.map(OwnedFd::from);
        if let Some(fd) = &fd {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        Ok(Self { fd, left: bytes })
    }

    fn write(&mut self) {
        let Some(fd) = &self.fd else { return };
        match rustix::io::write(fd, self.left) {
            Ok(count) => self.left = &self.left[count..],
            Err(Errno::AGAIN | Errno::INTR) => {}
            // One that does not want it says so by how it ends.
            Err(_) => self.left = &[],
        }
        if self.left.is_empty() {
            self.fd = None;
        }
    }
}

/// What a helper writes; the pipe is closed at its end.
struct Output {
    fd: Option<OwnedFd>,
    bytes: Vec<u8>,
}

impl Output {
    fn new(fd: Option<OwnedFd>) -> Self {
        Self { fd, bytes: Vec::new() }
    }

    fn read(&mut self) -> io::Result<()> {
        let Some(fd) = &self.fd else { return Ok(()) };
        let mut buffer = [0; 8192];
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) => self.fd = None,
            Ok(count) => self.bytes.extend_from_slice(&buffer[..count]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Helpers that do what `script` says.
    fn helper(script: &str) -> (tempfile::TempDir, HelperPrograms) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker-credential-test");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let programs = HelperPrograms { dir: Some(dir.path().to_owned()), ..HelperPrograms::default() };
        (dir, programs)
    }

    #[test]
    fn it_is_asked_and_answers() {
        let (_dir, programs) = helper(r#"read -r server; echo "{\"ServerURL\":\"$server\",\"Username\":\"$1 $server\",\"Secret\":\"s\"}""#);
        let login = programs.get("test", "r.io").unwrap().unwrap();
        assert_eq!(login, Login::password("get r.io", "s"));
        let (_dir, programs) = helper(r#"echo '{"ServerURL":"x","Username":"<token>","Secret":"s"}'"#);
        assert!(matches!(programs.get("test", "r.io").unwrap(), Some(Login::IdentityToken { .. })));
    }

    #[test]
    fn it_stores_and_erases() {
        let (dir, programs) = helper(r#"cat > "${0%/*}/$1""#);
        programs.store("test", "r.io", &Login::password("me", "p")).unwrap();
        programs.erase("test", "r.io").unwrap();
        let stored = fs::read_to_string(dir.path().join("store")).unwrap();
        assert_eq!(stored, r#"{"ServerURL":"r.io","Username":"me","Secret":"p"}"#);
        assert_eq!(fs::read_to_string(dir.path().join("erase")).unwrap(), "r.io");
    }

    #[test]
    fn it_has_nothing_or_fails() {
        let (_dir, programs) = helper("echo credentials not found in native keychain; exit 1");
        assert_eq!(programs.get("test", "r.io").unwrap(), None);
        let (_dir, programs) = helper("echo locked; echo 'the \x1b[31mkeyring' >&2; exit 3");
        for error in [
            programs.get("test", "r.io").unwrap_err(),
            programs.store("test", "r.io", &Login::password("me", "hunter2")).unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(text.contains("locked; the") && text.contains("exit status: 3"), "{text}");
            assert!(!text.contains('\x1b') && !text.contains("hunter2"));
        }
        let (_dir, programs) = helper("echo '{\"Username\":\"me\",\"Secret\":\"hunter2'");
        let text = programs.get("test", "r.io").unwrap_err().to_string();
        assert!(text.contains("not what it should be") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn it_writes_too_much_or_never_ends() {
        let (_dir, programs) = helper("yes");
        assert!(programs.get("test", "r.io").unwrap_err().why.contains("more than"));
        let (_dir, programs) = helper("exec sleep 3600");
        let hasty = HelperPrograms { limit: Duration::from_millis(50), ..programs };
        assert!(hasty.get("test", "r.io").unwrap_err().why.contains("did not end"));
    }

    #[test]
    fn only_plain_names_and_what_is_there() {
        let (_dir, programs) = helper("exit 0");
        for name in ["", "../test", "a/b", "a b", "test\n", "t;st"] {
            assert!(programs.get(name, "r.io").unwrap_err().why.contains("its name"), "{name:?}");
        }
        assert!(programs.get("absent", "r.io").unwrap_err().why.contains("no such program"));
    }
}
