//! `minipod exec`.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use runtime::signal::Signals;
use runtime::client::{Client, Exec as Process, ExecIo, ExecOverrides};
use rustix::process::Signal;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe::{OpenOptions, Receiver, Sender};

use crate::args::Global;
use crate::error::Error;
use crate::exit;
use crate::pods::{self, View};
use crate::tasks::block_on;
use crate::terminal::{Input, Raw, size};

/// Run a command in a container that runs
///
/// With the container's own environment, user and directory unless they are given. The exit code is the command's; 127 when
/// it was not found, 126 when it cannot be executed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod exec web -- ls /
  minipod exec -it web/app -- sh
  tar c . | minipod exec -i -w /srv web -- tar x
  minipod exec -e DEBUG=1 -u 1000:1000 web -- env")]
pub(crate) struct Exec {
    /// Pass standard input on
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give it a terminal, of the size of this one
    #[arg(short = 't', long)]
    tty: bool,
    /// Add to the environment
    #[arg(short, long, value_name = "K=V", value_parser = variable)]
    env: Vec<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// User, by name or number
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// Name, namespace/name, uid or a unique prefix; with /CTR a container of it, else the first
    #[arg(value_name = "POD[/CTR]")]
    target: String,
    /// The command and its arguments, behind `--`
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

fn variable(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text.to_owned()),
        _ => Err(format!("`{text}` is not of the form NAME=value")),
    }
}

impl Exec {
    pub(crate) fn run(self, global: &Global) -> Result<u8, Error> {
        let (view, container) = pods::target(&global.store(), &self.target)?;
        let container = container.map_or_else(|| pods::default_container(&view), Ok)?;
        block_on(self.execute(&view, &container))
    }

    async fn execute(self, view: &View, container: &str) -> Result<u8, Error> {
        let client = Client::connect(&view.dir, &view.record).await?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let fifos = Fifos::new(&view.dir.path.join("io"), &id, self.stdin, self.tty)?;
        let mut streams = fifos.open()?;
        let overrides = ExecOverrides { args: self.command, env: self.env, cwd: self.workdir, user: self.user };
        let process = client.exec(container, &id, &overrides, &fifos.io).await?;
        // Raw before the start, so that the program's first look finds it so; back again however this ends.
        let raw = if self.tty && self.stdin {
            Raw::enter().map_err(|e| Error::System("make the terminal raw", e))?
        } else {
            None
        };
        let ended = attend(&process, &mut streams, self.tty).await;
        drop(raw);
        // It has ended, or never started; a shim that is gone has forgotten it anyway.
        if let Err(e) = process.delete().await {
            tracing::debug!(error = %e, "executed process not forgotten");
        }
        ended
    }
}

/// Starts the process, passes streams, signals and sizes on, and returns its exit code.
async fn attend(process: &Process, streams: &mut Streams, tty: bool) -> Result<u8, Error> {
    if tty && let Some((width, height)) = size() {
        process.resize(width, height).await?;
    }
    process.start().await?;
    let (stdout, stderr) = (&streams.stdout, &streams.stderr);
    let mut copying = Copying { out: Some(stdout), err: stderr.as_ref() };
    let code = tokio::select! {
        code = process.wait() => code?,
        failed = copying.run() => return Err(failed),
        failed = feed(streams.stdin.take()) => return Err(failed),
        failed = pass_signals(process, tty) => return Err(failed),
    };
    // All it wrote is in the fifos by now. Children of it may write on; nobody waits for them.
    copying.rest()?;
    Ok(u8::try_from(code).unwrap_or(exit::OWN))
}

/// Copies output to ours until something fails.
struct Copying<'a> {
    out: Option<&'a Receiver>,
    err: Option<&'a Receiver>,
}

impl Copying<'_> {
    async fn run(&mut self) -> Error {
        loop {
            let ready = tokio::select! {
                ready = readable(self.out) => ready,
                ready = readable(self.err) => ready,
            };
            if let Err(e) = ready.map_err(|e| Error::System("wait for output", e)).and_then(|()| self.rest()) {
                return e;
            }
        }
    }

    /// Copies what is there, without waiting.
    fn rest(&mut self) -> Result<(), Error> {
        if let Some(out) = self.out {
            drain(out, &mut io::stdout().lock())?;
        }
        if let Some(err) = self.err {
            drain(err, &mut io::stderr().lock())?;
        }
        Ok(())
    }
}

async fn readable(from: Option<&Receiver>) -> io::Result<()> {
    match from {
        Some(from) => from.readable().await,
        None => std::future::pending().await,
    }
}

fn drain(from: &Receiver, to: &mut impl io::Write) -> Result<(), Error> {
    let mut buffer = [0; 64 * 1024];
    loop {
        match from.try_read(&mut buffer) {
            // We hold a writing end ourselves, so that there is no end of file between two writers.
            Ok(0) => break,
            Ok(n) => to.write_all(&buffer[..n]).map_err(Error::Output)?,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::System("read output", e)),
        }
    }
    to.flush().map_err(Error::Output)
}

/// Copies our input until its end, then closes the fifo and waits for the others.
async fn feed(to: Option<Sender>) -> Error {
    if let Some(to) = to
        && let Err(e) = feed_all(to).await
    {
        return e;
    }
    std::future::pending().await
}

async fn feed_all(mut to: Sender) -> Result<(), Error> {
    let mut input = Input::new(io::stdin().as_fd()).map_err(|e| Error::System("watch standard input", e))?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = input.read(&mut buffer).await.map_err(|e| Error::System("read standard input", e))?;
        if n == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..n]).await.map_err(|e| Error::System("pass standard input on", e))?;
    }
}

/// Passes the terminal's new sizes on, and signals to us as signals to the process. (With a raw terminal, Ctrl-C is a key.)
async fn pass_signals(process: &Process, tty: bool) -> Error {
    match try_pass_signals(process, tty).await {
        Ok(never) => match never {},
        Err(e) => e,
    }
}

async fn try_pass_signals(process: &Process, tty: bool) -> Result<std::convert::Infallible, Error> {
    let failed = |e| Error::System("listen to signals", e);
    let mut signals = Signals::of(&[Signal::WINCH, Signal::INT, Signal::TERM, Signal::HUP]).map_err(failed)?;
    loop {
        let number = signals.next().await.map_err(failed)?;
        if number == Signal::WINCH {
            if tty && let Some((width, height)) = size() {
                process.resize(width, height).await?;
            }
            continue;
        }
        // One that has just ended cannot be signalled; its end is on the way to us.
        if let Err(e) = process.kill(number).await {
            tracing::debug!(error = %e, "signal not passed on");
        }
    }
}

/// The fifos between us and the shim, removed when dropped.
struct Fifos {
    /// `<pod>/io`, shared with other executions.
    parent: PathBuf,
    directory: PathBuf,
    io: ExecIo,
}

/// Our ends.
struct Streams {
    stdin: Option<Sender>,
    stdout: Receiver,
    stderr: Option<Receiver>,
}

impl Fifos {
    fn new(parent: &Path, id: &str, stdin: bool, terminal: bool) -> Result<Self, Error> {
        let directory = parent.join(id);
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(Error::file("create", &directory))?;
        // From here on a failure removes it.
        let mut fifos = Self { parent: parent.to_owned(), directory, io: ExecIo { terminal, ..ExecIo::default() } };
        if stdin {
            fifos.io.stdin = Some(fifos.make("stdin")?);
        }
        fifos.io.stdout = Some(fifos.make("stdout")?);
        if !terminal {
            fifos.io.stderr = Some(fifos.make("stderr")?);
        }
        Ok(fifos)
    }

    fn make(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.directory.join(name);
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|e| Error::file("create fifo", &path)(e.into()))?;
        Ok(path)
    }

    /// Opens our ends without waiting for the shim's: for reading and writing, as only Linux lets (fifo(7)).
    fn open(&self) -> Result<Streams, Error> {
        let mut options = OpenOptions::new();
        options.read_write(true);
        let receiver = |path: &PathBuf| options.open_receiver(path).map_err(Error::file("open", path));
        let sender = |path: &PathBuf| options.open_sender(path).map_err(Error::file("open", path));
        let Some(stdout) = self.io.stdout.as_ref().map(receiver).transpose()? else {
            return Err(Error::Usage("an execution without output".to_owned()));
        };
        Ok(Streams { stdin: self.io.stdin.as_ref().map(sender).transpose()?, stdout, stderr: self.io.stderr.as_ref().map(receiver).transpose()? })
    }
}

impl Drop for Fifos {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.directory) {
            // The whole pod may be gone by now.
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.directory.display(), error = %e, "fifos not removed");
            }
            _ => {}
        }
        // Fails while another execution has its fifos there, which then removes it.
        if let Err(e) = fs::remove_dir(&self.parent) {
            tracing::debug!(error = %e, "directory of fifos stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifos_are_private_and_go_when_dropped() {
        use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
        let dir = tempfile::tempdir().unwrap();
        let parent = dir.path().join("io");
        let first = Fifos::new(&parent, "1", true, false).unwrap();
        let second = Fifos::new(&parent, "2", false, true).unwrap();
        assert!(second.io.stdin.is_none() && second.io.stderr.is_none());
        for path in [&first.io.stdin, &first.io.stdout, &first.io.stderr] {
            let meta = fs::metadata(path.as_ref().unwrap()).unwrap();
            assert!(meta.file_type().is_fifo() && meta.permissions().mode() & 0o777 == 0o600);
        }
        drop(first);
        assert!(second.directory.is_dir());
        drop(second);
        assert!(!parent.exists());
    }

    #[test]
    fn environment_needs_a_name() {
        assert!(variable("A=").is_ok() && variable("A=b=c").is_ok());
        assert!(variable("A").is_err() && variable("=b").is_err());
    }
}
