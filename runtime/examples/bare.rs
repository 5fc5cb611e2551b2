//! A naive runtime: libcontainer as its documentation shows it, one operation per process, nothing made safe around it.
//!
//! `tests/hostile` gives it the bundles that our engine gets too, to see what the engine is there for. It writes where a
//! bundle leads it: run it in a throw-away host only.

use std::collections::HashMap;
use std::process::ExitCode;

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::signal::Signal;
use libcontainer::syscall::syscall::SyscallType;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

type Failure = Box<dyn std::error::Error>;

/// The name of its only container.
const ID: &str = "box";

fn main() -> ExitCode {
    // As `panic = "abort"`: a panic in a clone must not run the rest of this program there.
    std::panic::set_hook(Box::new(|info| {
        eprintln!("{info}");
        std::process::abort();
    }));
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["run", bundle, state] => run(bundle, state),
        ["start", bundle, state] => start(bundle, state),
        ["kill-created", bundle, state] => kill_created(bundle, state),
        ["exec", state, ref command @ ..] => exec(state, command),
        _ => Err("bare run|start|kill-created BUNDLE STATE, or exec STATE COMMAND".into()),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprint!("bare: {error}");
            let mut next = error.source();
            while let Some(error) = next {
                eprint!(": {error}");
                next = error.source();
            }
            eprintln!();
            ExitCode::from(70)
        }
    }
}

fn builder(state: &str) -> Result<ContainerBuilder, Failure> {
    Ok(ContainerBuilder::new(ID.to_owned(), SyscallType::default()).with_root_path(state)?.validate_id()?)
}

fn create(bundle: &str, state: &str) -> Result<Container, Failure> {
    Ok(builder(state)?.as_init(bundle).with_systemd(false).build()?)
}

/// `create`, `start` and the end of the container; its exit code.
fn run(bundle: &str, state: &str) -> Result<u8, Failure> {
    let mut container = create(bundle, state)?;
    container.start()?;
    let code = wait(container.pid().map(|pid| pid.as_raw()))?;
    container.delete(true)?;
    Ok(code)
}

/// `create` and `start`; the container goes on.
fn start(bundle: &str, state: &str) -> Result<u8, Failure> {
    create(bundle, state)?.start()?;
    Ok(0)
}

/// `create`, `kill TERM`, `start`.
fn kill_created(bundle: &str, state: &str) -> Result<u8, Failure> {
    let mut container = create(bundle, state)?;
    container.kill(Signal::try_from(15)?, false)?;
    container.start()?;
    wait(container.pid().map(|pid| pid.as_raw()))
}

/// `exec` of a command line in the container, as a client without a process.json asks for it; its exit code.
fn exec(state: &str, command: &[&str]) -> Result<u8, Failure> {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    let path = HashMap::from([("PATH".to_owned(), "/bin".to_owned())]);
    let pid = builder(state)?.as_tenant().with_detach(true).with_env(path).with_container_args(command).build()?;
    wait(Some(pid.as_raw()))
}

fn wait(pid: Option<i32>) -> Result<u8, Failure> {
    match waitpid(Pid::from_raw(pid.ok_or("no pid")?), None)? {
        WaitStatus::Exited(_, code) => Ok(u8::try_from(code)?),
        WaitStatus::Signaled(_, signal, _) => Ok(128 + u8::try_from(signal as i32)?),
        other => Err(format!("{other:?}").into()),
    }
}
