//! Does what the test asks, one request after the other.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use testkit::Cmd;
use testkit::guest::protocol::{Reply, Request};
use testkit::process::Process;

/// The second serial port: the first is the kernel's console.
const LINE: &str = "/dev/ttyS1";
const PATH: &str = "/bin:/sbin:/usr/bin:/usr/sbin";
/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn serve() -> io::Result<()> {
    let mut line = raw(LINE)?;
    let requests = BufReader::new(line.try_clone()?).lines();
    say(&mut line, &Reply::Done)?;
    for request in requests {
        match serde_json::from_str(&request?)? {
            Request::PowerOff => break,
            request => say(&mut line, &reply(&request))?,
        }
    }
    // What was said must have left the machine before the machine stops.
    Ok(rustix::termios::tcdrain(&line)?)
}

/// A serial line without echo and translations.
fn raw(path: &str) -> io::Result<File> {
    let line = File::options().read(true).write(true).open(path)?;
    let mut settings = tcgetattr(&line)?;
    settings.make_raw();
    tcsetattr(&line, OptionalActions::Flush, &settings)?;
    Ok(line)
}

fn say(line: &mut File, reply: &Reply) -> io::Result<()> {
    let mut text = serde_json::to_string(reply)?;
    text.push('\n');
    line.write_all(text.as_bytes())
}

fn reply(request: &Request) -> Reply {
    // The test kit's commands panic when they take too long.
    let done = catch_unwind(AssertUnwindSafe(|| act(request)));
    let done = done.unwrap_or_else(|panic| Err(io::Error::other(said(&*panic))));
    done.unwrap_or_else(|error| Reply::Failed(format!("{request:?}: {error}")))
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic".to_owned())
}

fn act(request: &Request) -> io::Result<Reply> {
    Ok(match request {
        Request::Run { argv, env, seconds } => run(argv, env, Duration::from_secs(*seconds)),
        Request::Read(path) => Reply::Text(String::from_utf8_lossy(&fs::read(path)?).into_owned()),
        Request::Write(path, text) => fs::write(path, text).map(|()| Reply::Done)?,
        Request::Names(dir) => Reply::Names(names(dir)?),
        Request::Walk(dir) => Reply::Names(walk(dir)),
        Request::Fetch(server, path) => Reply::Text(fetch(*server, path)?),
        Request::Kill(pid) => {
            Process(*pid).kill();
            Reply::Done
        }
        Request::PowerOff => unreachable!("serve ends at it"),
    })
}

fn run(argv: &[String], env: &[(String, String)], limit: Duration) -> Reply {
    let (program, args) = argv.split_first().expect("a program");
    let command = Cmd::new(program).args(args).env("PATH", PATH).env("HOME", "/root");
    let command = env.iter().fold(command, |command, (name, value)| command.env(name, value));
    let output = command.run_within(limit);
    let milliseconds = output.took.as_millis().try_into().unwrap_or(u64::MAX);
    Reply::Ended { status: output.status().into_raw(), stdout: output.stdout, stderr: output.stderr, milliseconds }
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let names: io::Result<Vec<String>> = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect();
    names.map(sorted)
}

fn walk(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    testkit::walk(dir, &mut |path| {
        if path.is_symlink() || !path.is_dir() {
            found.push(path.to_string_lossy().into_owned());
        }
    });
    sorted(found)
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

fn fetch(server: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let page = answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other(format!("no HTTP answer: {answer:?}")))?;
    Ok(page.1.to_owned())
}
