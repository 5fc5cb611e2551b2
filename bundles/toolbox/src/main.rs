//! The embedded lab image's program: one static executable that is every command of the image.
//!
//! The name comes from `argv[0]` (`/bin/ls` is a link to the program), or from the first argument of `toolbox NAME ...`.

mod uutils;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::exit;

/// What the program answers to, one name a line; the image gets a link for each.
const APPLETS: &str = include_str!("../applets.txt");

fn main() {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    exit(run(&mut args))
}
fn run(args: &mut Vec<OsString>) -> i32 {
    let name = args.first().map(|a| Path::new(a).file_name().unwrap_or_default().as_bytes().to_vec()).unwrap_or_default();
    let name = String::from_utf8_lossy(&name).into_owned();
    if name == "toolbox" { args.remove(0); return run(args); }
    uutils::run(&name, std::mem::take(args)).unwrap_or(127)
}
