//! The program that the engine's tests use as launcher: what every program of ours does first in its `main`.
//!
//! `launcher run BUNDLE STATE CGROUP` is the smallest runtime around the engine: create, start, wait. `tests/hostile` calls it
//! as carelessly as a user may call minipod.

use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use runtime::cgroup::{Cgroup, Hierarchy, Limits};
use runtime::engine::{CreateRequest, Engine, Launcher, Libcontainer, Stdio, protected};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    if std::env::args_os().next().is_some_and(|name| name == runtime::engine::LAUNCHER_ARGV0) {
        runtime::engine::launcher_main();
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let ["run", bundle, state, cgroup] = words[..] else {
        eprintln!("this is started by the tests of the engine");
        return ExitCode::from(2);
    };
    match run(Path::new(bundle), Path::new(state), cgroup) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("launcher: {error}");
            ExitCode::from(70)
        }
    }
}

fn run(bundle: &Path, state_dir: &Path, cgroup: &str) -> Result<u8, Failure> {
    let spec = serde_json::from_slice(&std::fs::read(bundle.join("config.json"))?)?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let hierarchy = Hierarchy::detect()?;
    let cgroup = Cgroup::create(&hierarchy, cgroup, &Limits::default())?;
    let launcher = Launcher::new(protected(Path::new("/proc/self/exe"))?, state_dir.join("seccomp"));
    let engine = Libcontainer::new(launcher, &hierarchy);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let stdio = Stdio::Pipes {
            stdin: stdin.as_fd().try_clone_to_owned()?,
            stdout: stdout.as_fd().try_clone_to_owned()?,
            stderr: stderr.as_fd().try_clone_to_owned()?,
        };
        let request = CreateRequest { id: "box", bundle, spec: &spec, state_dir, cgroup: &cgroup, stdio };
        let ended = match engine.create(request).await {
            Ok(mut created) => match created.start().await {
                Ok(()) => runtime::process::wait_exit(created.pidfd.as_fd()).await.map(|exit| exit.code).map_err(Failure::from),
                Err(error) => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        };
        cgroup.kill().await?;
        cgroup.remove().await?;
        ended
    })
}
