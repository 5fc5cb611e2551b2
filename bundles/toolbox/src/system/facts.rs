//! `hostname`, `free`, `mount` (shows only) and `clear`.

use std::fs;

use procfs::{Current, Meminfo};

use crate::net::resolve::resolve;
use crate::tool::{arguments, complain, plain, print};

/// Runs `hostname`: shows the name, its addresses (`-i`), or sets it.
pub(crate) fn hostname(args: &[std::ffi::OsString]) -> i32 {
    let name = match nix::unistd::gethostname() {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(error) => return complain("hostname", error.desc()),
    };
    match arguments(args).first().map(String::as_str) {
        None | Some("-f") => print(&format!("{name}\n")),
        Some("-s") => print(&format!("{}\n", name.split('.').next().unwrap_or_default())),
        Some("-i" | "-I") => match resolve(&name) {
            Ok(addresses) => print(&format!("{}\n", addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))),
            Err(error) => complain("hostname", &error.to_string()),
        },
        Some(option) if option.starts_with('-') => complain("hostname", &format!("{option}: unknown option")),
        Some(new) => match nix::unistd::sethostname(new) {
            Ok(()) => 0,
            Err(error) => complain("hostname", &format!("set the name: {}", error.desc())),
        },
    }
}

/// Runs `free`.
pub(crate) fn free(args: &[std::ffi::OsString]) -> i32 {
    let mut unit = 1024;
    for arg in arguments(args) {
        unit = match arg.as_str() {
            "-b" => 1,
            "-k" => 1024,
            "-m" => 1024 * 1024,
            "-g" => 1024 * 1024 * 1024,
            _ => return complain("free", &format!("{arg}: unknown option (-b, -k, -m, -g)")),
        };
    }
    let memory = match Meminfo::current() {
        Ok(memory) => memory,
        Err(error) => return complain("free", &error.to_string()),
    };
    let cache = memory.buffers + memory.cached + memory.s_reclaimable.unwrap_or(0);
    let used = memory.mem_total.saturating_sub(memory.mem_free + cache);
    let columns = |values: &[u64]| values.iter().map(|value| format!("{:>12}", value / unit)).collect::<String>();
    print(&format!(
        "               total        used        free      shared  buff/cache   available\nMem:    {}\nSwap:   {}\n",
        columns(&[memory.mem_total, used, memory.mem_free, memory.shmem.unwrap_or(0), cache, memory.mem_available.unwrap_or(0)]),
        columns(&[memory.swap_total, memory.swap_total.saturating_sub(memory.swap_free), memory.swap_free])
    ))
}

/// Runs `mount` without arguments.
pub(crate) fn mount(args: &[std::ffi::OsString]) -> i32 {
    if args.len() > 1 {
        return complain("mount", "this mount shows what is mounted, and takes no argument");
    }
    match fs::read_to_string("/proc/self/mounts") {
        Ok(table) => print(&table.lines().filter_map(one_mount).collect::<String>()),
        Err(error) => complain("mount", &plain(&error)),
    }
}

/// proc_pid_mounts(5): spaces in names are octal escapes.
fn one_mount(line: &str) -> Option<String> {
    let mut words = line.split(' ').map(|word| word.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"));
    Some(format!("{} on {} type {} ({})\n", words.next()?, words.next()?, words.next()?, words.next()?))
}
