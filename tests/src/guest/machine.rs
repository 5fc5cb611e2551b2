//! The emulated machine.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::archive::Archive;
use super::kernel::Kernel;
use super::protocol::{Reply, Request};
use crate::Output;

/// What must be installed.
pub(super) const PROGRAMS: [&str; 2] = ["qemu-system-x86_64", "setpriv"];
/// Boot takes five seconds; on a machine that does much else, some times that.
const BOOT_LIMIT: Duration = Duration::from_secs(90);
/// Longest time for a request that starts no program.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// Longest time for a command, which takes ten to twenty times as long as on the host.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);
/// How much later than the agent the test loses its patience.
const GRACE: Duration = Duration::from_secs(20);
const CONSOLE: &str = "console.log";

/// A machine that runs. Ended when dropped; what its console showed is printed when the test fails.
#[derive(Debug)]
pub struct Guest {
    machine: Child,
    requests: ChildStdin,
    replies: Receiver<String>,
    dir: TempDir,
}

impl Guest {
    /// Boots `kernel` with these modules loaded and `root`, which has the program `minipod-guest` as `/init`, as its root file system,
    /// and waits until the agent listens.
    ///
    /// # Panics
    /// When it does not within a minute and a half.
    #[must_use]
    pub fn boot(kernel: &Kernel, modules: &[&str], mut root: Archive) -> Self {
        for (number, file) in kernel.modules(modules).iter().enumerate() {
            let name = file.file_name().expect("a name").to_string_lossy();
            root.copy(&format!("/lib/modules/{number:02}-{name}"), file);
        }
        let dir = tempfile::Builder::new().prefix("minipod-guest-").tempdir().expect("make a directory");
        fs::write(dir.path().join("initramfs"), root.finish()).expect("write the initramfs");
        let mut machine = command(kernel, dir.path()).spawn().expect("start qemu");
        let requests = machine.stdin.take().expect("a pipe");
        let answers = BufReader::new(machine.stdout.take().expect("a pipe"));
        let (sender, replies) = channel();
        // Ends with the machine, or when nobody wants to hear any more.
        thread::spawn(move || answers.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        let guest = Self { machine, requests, replies, dir };
        assert!(matches!(guest.reply(BOOT_LIMIT), Reply::Done), "the agent greets with Done");
        guest
    }

    /// Runs a command there, within two minutes.
    pub fn run(&mut self, argv: &[&str]) -> Output {
        self.run_within(COMMAND_LIMIT, &[], argv)
    }

    /// Runs a command there that must succeed; its standard output.
    pub fn ok(&mut self, argv: &[&str]) -> String {
        self.run(argv).ok()
    }

    /// Runs a command there, with additions to its environment and a limit of its own.
    pub fn run_within(&mut self, limit: Duration, env: &[(&str, &str)], argv: &[&str]) -> Output {
        let argv: Vec<String> = argv.iter().map(ToString::to_string).collect();
        let env = env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let line = argv.join(" ");
        match self.ask_within(limit + GRACE, &Request::Run { argv, env, seconds: limit.as_secs() }) {
            Reply::Ended { status, stdout, stderr, milliseconds } => {
                Output { line, status: ExitStatus::from_raw(status), stdout, stderr, took: Duration::from_millis(milliseconds) }
            }
            other => panic!("`{line}` in the guest: {other:?}"),
        }
    }

    /// A file's contents.
    ///
    /// # Errors
    /// What the guest's kernel said.
    pub fn try_read(&mut self, path: &str) -> Result<String, String> {
        match self.ask(&Request::Read(path.into())) {
            Reply::Text(text) => Ok(text),
            Reply::Failed(why) => Err(why),
            other => panic!("read {path} in the guest: {other:?}"),
        }
    }

    /// The contents of a file that must be there, without the last line's end.
    pub fn read(&mut self, path: &str) -> String {
        let text = self.try_read(path).unwrap_or_else(|why| panic!("in the guest: {why}"));
        text.strip_suffix('\n').unwrap_or(&text).to_owned()
    }

    /// Writes a file.
    pub fn write(&mut self, path: &str, text: &str) {
        let reply = self.ask(&Request::Write(path.into(), text.to_owned()));
        assert!(matches!(reply, Reply::Done), "write {path} in the guest: {reply:?}");
    }

    /// The names in a directory, in order; none when there is none.
    pub fn names(&mut self, dir: &str) -> Vec<String> {
        self.list(&Request::Names(dir.into()))
    }

    /// All files below a directory, in order, without directories and what is mounted there.
    pub fn walk(&mut self, dir: &str) -> Vec<String> {
        self.list(&Request::Walk(dir.into()))
    }

    fn list(&mut self, request: &Request) -> Vec<String> {
        match self.ask(request) {
            Reply::Names(names) => names,
            other => panic!("{request:?} in the guest: {other:?}"),
        }
    }

    /// The page that a server gives to a client on the guest's own network; `None` when nobody answers.
    pub fn fetch(&mut self, server: SocketAddr, path: &str) -> Option<String> {
        match self.ask(&Request::Fetch(server, path.to_owned())) {
            Reply::Text(page) => Some(page),
            Reply::Failed(_) => None,
            other => panic!("fetch {path} from {server} in the guest: {other:?}"),
        }
    }

    /// Ends a process by SIGKILL.
    pub fn kill(&mut self, pid: u32) {
        let reply = self.ask(&Request::Kill(pid));
        assert!(matches!(reply, Reply::Done), "kill {pid} in the guest: {reply:?}");
    }

    /// Turns it off; what the console showed.
    ///
    /// # Panics
    /// When it goes on.
    #[must_use]
    pub fn power_off(mut self) -> String {
        self.send(&Request::PowerOff);
        // The channel ends with the machine's standard output.
        let last = self.replies.recv_timeout(BOOT_LIMIT);
        assert_eq!(last, Err(std::sync::mpsc::RecvTimeoutError::Disconnected), "the machine turns itself off");
        let status = self.machine.wait().expect("wait for qemu");
        assert!(status.success(), "qemu: {status}");
        self.console()
    }

    fn ask(&mut self, request: &Request) -> Reply {
        self.ask_within(REQUEST_LIMIT, request)
    }

    fn ask_within(&mut self, limit: Duration, request: &Request) -> Reply {
        self.send(request);
        self.reply(limit)
    }

    fn send(&mut self, request: &Request) {
        let mut line = serde_json::to_string(request).expect("a request is JSON");
        line.push('\n');
        self.requests.write_all(line.as_bytes()).and_then(|()| self.requests.flush()).expect("speak to the guest");
    }

    fn reply(&self, limit: Duration) -> Reply {
        let line = self.replies.recv_timeout(limit).unwrap_or_else(|e| panic!("the guest does not answer: {e}"));
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("the guest says {line:?}: {e}"))
    }

    fn console(&self) -> String {
        let bytes = fs::read(self.dir.path().join(CONSOLE)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if self.machine.try_wait().expect("look at qemu").is_none() {
            self.machine.kill().expect("end qemu");
            self.machine.wait().expect("wait for qemu");
        }
        if thread::panicking() {
            eprintln!("--- the guest's console\n{}---", self.console());
        }
    }
}

/// qemu, without KVM, disk and network. It ends with the thread that started it.
fn command(kernel: &Kernel, dir: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
    command.args(["-machine", "pc", "-accel", "tcg,thread=multi", "-cpu", "Nehalem,+rdrand", "-smp", "2", "-m", "3072"]);
    command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(dir.join("initramfs"));
    // A panic restarts the machine, which ends qemu.
    command.args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"]);
    command.arg("-serial").arg(format!("file:{}", dir.join(CONSOLE).display()));
    command.args(["-chardev", "stdio,id=agent,signal=off", "-serial", "chardev:agent"]);
    let said = File::create(dir.join("qemu.log")).expect("make a log");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(said);
    command
}
