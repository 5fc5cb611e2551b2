//! The embedded lab image's program: one static executable that is every command of the image.
//!
//! The name comes from `argv[0]` (`/bin/ls` is a link to the program), or from the first argument of `toolbox NAME ...`.

#![deny(unsafe_code)]

mod net;
mod sh;
#[allow(unsafe_code)] // raw calls only, no decisions
mod sys;
mod system;
mod tool;
mod uutils;

use std::ffi::OsString;
use std::path::Path;
use std::process::exit;

use nix::sys::signal::Signal;

use crate::sys::Disposition;

/// What the program answers to, one name a line; the image gets a link for each.
const APPLETS: &str = include_str!("../applets.txt");

fn main() {
    // Rust ignores SIGPIPE; commands of a pipe must die of it, and so must what they start.
    if let Err(error) = sys::on_signal(Signal::SIGPIPE, Disposition::Default) {
        eprintln!("toolbox: reset SIGPIPE: {error}");
    }
    exit(run(std::env::args_os().collect()))
}

/// Runs the command that `args[0]` names; the exit status.
fn run(mut args: Vec<OsString>) -> i32 {
    let name = args.first().map(|path| Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned());
    // A login shell's name starts with a dash (login(1)).
    let name = name.as_deref().map_or("toolbox", |name| name.strip_prefix('-').unwrap_or(name));
    if name != "toolbox" {
        return applet(name, args);
    }
    match args.get(1).and_then(|arg| arg.to_str()) {
        Some("--list") => {
            print!("{APPLETS}");
            0
        }
        Some(name) if name != "toolbox" => {
            args.remove(0);
            run(args)
        }
        _ => {
            eprintln!("usage: toolbox --list | toolbox NAME [ARGUMENT...]");
            2
        }
    }
}

fn applet(name: &str, args: Vec<OsString>) -> i32 {
    match name {
        "clear" => tool::print("\x1b[H\x1b[2J"),
        "free" => system::facts::free(&args),
        "hostname" => system::facts::hostname(&args),
        "httpd" => net::httpd::main(&args),
        "ip" => net::ip::main(&args),
        "ipcmk" => system::ipc::make(&args),
        "ipcrm" => system::ipc::remove(&args),
        "ipcs" => system::ipc::show(&args),
        "mount" => system::facts::mount(&args),
        "nc" => net::nc::main(&args),
        "nslookup" => net::resolve::nslookup(&args),
        "ping" => net::ping::main(&args),
        "ps" => system::ps::main(&args),
        "sh" => sh::main(&args),
        "ss" => net::ss::main(&args),
        "wget" => net::wget::main(&args),
        _ => uutils::run(name, args).unwrap_or_else(|| {
            eprintln!("toolbox: {name}: no such command (toolbox --list shows all)");
            127
        }),
    }
}
