//! The program that the engine's tests use as launcher: what every program of ours does first in its `main`.

fn main() {
    if std::env::args_os().next().is_some_and(|name| name == runtime::engine::LAUNCHER_ARGV0) {
        runtime::engine::launcher_main();
    }
    eprintln!("this is started by the tests of the engine");
    std::process::exit(2);
}
