//! `ipcs`, `ipcmk` and `ipcrm`: System V shared memory, semaphores and message queues of the IPC namespace.

use std::fs;

use crate::sys::{self, IpcKind};
use crate::tool::{arguments, complain, plain, print};

/// Runs `ipcs`: `-m`, `-s`, `-q`, or all.
pub(crate) fn show(args: &[std::ffi::OsString]) -> i32 {
    let args = arguments(args);
    if let Some(bad) = args.iter().find(|arg| !matches!(arg.as_str(), "-m" | "-s" | "-q" | "-a")) {
        return complain("ipcs", &format!("{bad}: unknown option (-m, -s, -q, -a)"));
    }
    let wants = |option: &str| args.is_empty() || args.iter().any(|arg| arg == option || arg == "-a");
    // Where in a line of /proc/sysvipc/* (proc_sysvipc(5)) the owner and what is shown last are.
    let tables = [
        ("-q", "msg", "Message Queues", "msqid", "used-bytes", "messages", [7, 3, 4]),
        ("-m", "shm", "Shared Memory Segments", "shmid", "bytes", "nattch", [7, 3, 6]),
        ("-s", "sem", "Semaphore Arrays", "semid", "nsems", "", [4, 3, 3]),
    ];
    let mut text = String::new();
    for (option, file, title, id, first, second, [owner, one, two]) in tables {
        if !wants(option) {
            continue;
        }
        let table = match fs::read_to_string(format!("/proc/sysvipc/{file}")) {
            Ok(table) => table,
            Err(error) => return complain("ipcs", &format!("/proc/sysvipc/{file}: {}", plain(&error))),
        };
        text.push_str(&format!("\n------ {title} --------\n{:<10} {id:<10} {:<10} {:<10} {first:<10} {second}\n", "key", "owner", "perms"));
        for line in table.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let word = |at: usize| words.get(at).copied().unwrap_or_default();
            let key = word(0).parse::<i32>().unwrap_or(0);
            let user = word(owner).parse().map_or_else(|_| word(owner).to_owned(), crate::tool::user_name);
            let last = if second.is_empty() { "" } else { word(two) };
            text.push_str(format!("0x{key:08x} {:<10} {user:<10} {:<10} {:<10} {last}", word(1), word(2), word(one)).trim_end());
            text.push('\n');
        }
    }
    print(&format!("{text}\n"))
}

/// Runs `ipcmk`: `-M BYTES`, `-S COUNT` or `-Q`, with `-p MODE`.
pub(crate) fn make(args: &[std::ffi::OsString]) -> i32 {
    let (mut kind, mut mode) = (None, 0o644);
    let mut args = arguments(args).into_iter();
    while let Some(arg) = args.next() {
        let mut number = |radix| usize::from_str_radix(&args.next().unwrap_or_default(), radix).ok();
        match arg.as_str() {
            "-M" | "--shmem" => kind = number(10).map(IpcKind::Memory),
            "-S" | "--semaphore" => kind = number(10).map(IpcKind::Semaphores),
            "-Q" | "--queue" => kind = Some(IpcKind::Queue),
            "-p" | "--mode" => mode = number(8).and_then(|mode| i32::try_from(mode).ok()).unwrap_or(0o644),
            _ => return complain("ipcmk", &format!("{arg}: unknown option")),
        }
    }
    let Some(kind) = kind else { return complain("ipcmk", "usage: ipcmk {-M BYTES|-S COUNT|-Q} [-p MODE]") };
    let what = match kind {
        IpcKind::Memory(_) => "Shared memory",
        IpcKind::Semaphores(_) => "Semaphore",
        IpcKind::Queue => "Message queue",
    };
    match sys::ipc_make(kind, mode) {
        Ok(id) => print(&format!("{what} id: {id}\n")),
        Err(error) => complain("ipcmk", &plain(&error)),
    }
}

/// Runs `ipcrm`: `-m ID`, `-s ID`, `-q ID`.
pub(crate) fn remove(args: &[std::ffi::OsString]) -> i32 {
    let mut args = arguments(args).into_iter();
    let mut status = 0;
    while let Some(option) = args.next() {
        let kind = match option.as_str() {
            "-m" => IpcKind::Memory(0),
            "-s" => IpcKind::Semaphores(0),
            "-q" => IpcKind::Queue,
            _ => return complain("ipcrm", "usage: ipcrm {-m|-s|-q} ID ..."),
        };
        let Some(id) = args.next().and_then(|text| text.parse().ok()) else { return complain("ipcrm", &format!("{option}: needs an id")) };
        if let Err(error) = sys::ipc_remove(kind, id) {
            status = complain("ipcrm", &format!("{id}: {}", plain(&error)));
        }
    }
    status
}
