//! `ps`: processes from /proc. Always all of them that one may see: in a container these are few.

use std::time::{SystemTime, UNIX_EPOCH};

use procfs::process::{Process, Stat, all_processes};

use crate::tool::{Outcome, Usage, arguments, complain, print, user_name};

const HELP: &str = "usage: ps [-e|-A|ax] [-f|u|l] [-p PID[,PID...]] [-o COLUMN[,COLUMN...]] [--no-headers]
columns: pid ppid pgid sid uid user stat tty time etime pcpu vsz rss nlwp comm args pidns netns ipcns utsns mntns
";

/// A process, looked at once.
struct Row {
    stat: Stat,
    uid: u32,
    command: String,
    process: Process,
}

/// What all rows are computed with.
struct Clock {
    ticks: u64,
    boot: u64,
    now: u64,
}

/// Runs `ps`.
pub(crate) fn main(args: &[std::ffi::OsString]) -> i32 {
    match run(arguments(args)) {
        Ok(text) => print(&text),
        Err(error) => complain("ps", &error.to_string()),
    }
}

fn run(args: Vec<String>) -> Outcome<String> {
    let mut columns = vec!["pid", "user", "time", "args"];
    let mut custom: Vec<(String, String)> = Vec::new();
    let mut pids: Option<Vec<i32>> = None;
    let mut header = true;
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        if arg == "--no-headers" || arg == "--no-heading" {
            header = false;
            continue;
        }
        if arg == "--help" {
            return Ok(HELP.to_owned());
        }
        let dashed = arg.starts_with('-');
        let letters = arg.trim_start_matches('-').to_owned();
        let mut rest = letters.chars();
        while let Some(letter) = rest.next() {
            match letter {
                'f' if dashed => columns = vec!["user", "pid", "ppid", "c", "stime", "tty", "time", "args"],
                'u' if !dashed => columns = vec!["user", "pid", "pcpu", "pmem", "vsz", "rss", "tty", "stat", "start", "time", "args"],
                'l' => columns = vec!["uid", "pid", "ppid", "stat", "tty", "time", "args"],
                'e' | 'A' | 'a' | 'x' | 'w' | 'f' => {}
                'o' | 'p' => {
                    let attached: String = rest.by_ref().collect();
                    let value = if attached.is_empty() { args.next().unwrap_or_default() } else { attached };
                    if letter == 'o' {
                        custom.extend(value.split([',', ' ']).filter(|name| !name.is_empty()).map(column_and_title));
                    } else {
                        let list: Result<Vec<i32>, _> = value.split([',', ' ']).map(str::parse).collect();
                        pids = Some(list.map_err(|_| Usage(format!("-p: \"{value}\": not process numbers")))?);
                    }
                }
                _ => return Err(Usage(format!("{arg}: unknown option\n{HELP}")).into()),
            }
        }
    }
    if custom.is_empty() {
        custom = columns.iter().map(|name| column_and_title(name)).collect();
    }
    table(&custom, pids.as_deref(), header)
}

/// `pid` and `pid=Title` of `-o`.
fn column_and_title(text: &str) -> (String, String) {
    match text.split_once('=') {
        Some((name, title)) => (name.to_owned(), title.to_owned()),
        None => (text.to_owned(), title(text)),
    }
}

fn title(name: &str) -> String {
    match name {
        "args" | "cmd" | "command" | "comm" => "COMMAND".to_owned(),
        "pcpu" | "%cpu" => "%CPU".to_owned(),
        "pmem" | "%mem" => "%MEM".to_owned(),
        "etime" => "ELAPSED".to_owned(),
        "tname" | "tty" => "TTY".to_owned(),
        other => other.to_uppercase(),
    }
}

fn table(columns: &[(String, String)], pids: Option<&[i32]>, header: bool) -> Outcome<String> {
    let clock = Clock {
        ticks: procfs::ticks_per_second().max(1),
        boot: procfs::boot_time_secs().map_err(std::io::Error::other)?,
        now: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()),
    };
    let mut lines: Vec<Vec<String>> = Vec::new();
    if header && columns.iter().any(|(_, title)| !title.is_empty()) {
        lines.push(columns.iter().map(|(_, title)| title.clone()).collect());
    }
    let titles = lines.len();
    for row in rows().map_err(std::io::Error::other)?.iter().filter(|row| pids.is_none_or(|pids| pids.contains(&row.stat.pid))) {
        lines.push(columns.iter().map(|(name, _)| cell(name, row, &clock)).collect::<Result<_, _>>()?);
    }
    if pids.is_some() && lines.len() == titles {
        return Err(Usage("no such process".to_owned()).into());
    }
    let widths: Vec<usize> = (0..columns.len()).map(|n| lines.iter().map(|line| line[n].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for line in lines {
        let mut out = String::new();
        for (n, value) in line.iter().enumerate() {
            let width = widths[n];
            out.push_str(&if is_number(&columns[n].0) { format!("{value:>width$} ") } else { format!("{value:<width$} ") });
        }
        text.push_str(out.trim_end());
        text.push('\n');
    }
    Ok(text)
}

fn is_number(column: &str) -> bool {
    matches!(column, "pid" | "ppid" | "pgid" | "sid" | "uid" | "vsz" | "rss" | "nlwp" | "c" | "pcpu" | "pmem" | "time" | "etime")
}

/// All processes; one that ends while it is looked at is not among them.
fn rows() -> procfs::ProcResult<Vec<Row>> {
    Ok(all_processes()?
        .flatten()
        .filter_map(|process| {
            let stat = process.stat().ok()?;
            let args = process.cmdline().unwrap_or_default();
            let command = if args.is_empty() { format!("[{}]", stat.comm) } else { args.join(" ") };
            Some(Row { uid: process.uid().ok()?, stat, command, process })
        })
        .collect())
}

fn cell(name: &str, row: &Row, clock: &Clock) -> Result<String, Usage> {
    let stat = &row.stat;
    let cpu = (stat.utime + stat.stime) / clock.ticks;
    let start = clock.boot + stat.starttime / clock.ticks;
    let age = clock.now.saturating_sub(start);
    Ok(match name {
        "pid" => stat.pid.to_string(),
        "ppid" => stat.ppid.to_string(),
        "pgid" | "pgrp" => stat.pgrp.to_string(),
        "sid" | "sess" => stat.session.to_string(),
        "uid" => row.uid.to_string(),
        "user" | "euser" => user_name(row.uid),
        "stat" | "s" | "state" => state(stat),
        "tty" | "tname" | "tt" => tty(stat),
        "time" => format!("{:02}:{:02}:{:02}", cpu / 3600, cpu / 60 % 60, cpu % 60),
        "etime" => elapsed(age),
        "start" | "stime" => clock_time(start, age),
        "c" => (cpu * 100).checked_div(age).unwrap_or(0).min(99).to_string(),
        "pcpu" | "%cpu" => format!("{:.1}", cpu as f64 * 100.0 / (age.max(1)) as f64),
        "pmem" | "%mem" => format!("{:.1}", stat.rss as f64 * procfs::page_size() as f64 * 100.0 / total_memory() as f64),
        "vsz" => (stat.vsize / 1024).to_string(),
        "rss" => (stat.rss * procfs::page_size() / 1024).to_string(),
        "nlwp" | "thcount" => stat.num_threads.to_string(),
        "comm" | "ucmd" => stat.comm.clone(),
        "args" | "cmd" | "command" => row.command.clone(),
        "pidns" | "netns" | "ipcns" | "utsns" | "mntns" | "userns" | "cgroupns" => namespace(row, &name[..name.len() - 2]),
        _ => return Err(Usage(format!("{name}: unknown column\n{HELP}"))),
    })
}

/// The inode of a namespace, which two processes share when they are in the same.
fn namespace(row: &Row, kind: &str) -> String {
    let inode = std::fs::read_link(format!("/proc/{}/ns/{kind}", row.process.pid)).ok();
    let text = inode.map(|link| link.to_string_lossy().into_owned()).unwrap_or_default();
    text.split(['[', ']']).nth(1).unwrap_or("-").to_owned()
}

fn total_memory() -> u64 {
    use procfs::Current as _;
    procfs::Meminfo::current().map_or(u64::MAX, |memory| memory.mem_total)
}

fn state(stat: &Stat) -> String {
    let mut text = stat.state.to_string();
    match stat.nice {
        n if n > 0 => text.push('N'),
        n if n < 0 => text.push('<'),
        _ => {}
    }
    if stat.session == stat.pid {
        text.push('s');
    }
    if stat.num_threads > 1 {
        text.push('l');
    }
    if stat.tpgid == stat.pgrp {
        text.push('+');
    }
    text
}

fn tty(stat: &Stat) -> String {
    // proc_pid_stat(5): the minor number is in bits 31 to 20 and 7 to 0, the major in 15 to 8.
    let device = stat.tty_nr as u32;
    let (major, minor) = (device >> 8 & 0xff, (device >> 12 & 0xfff00) | device & 0xff);
    match major {
        0 => "?".to_owned(),
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        _ => format!("{major},{minor}"),
    }
}

fn elapsed(seconds: u64) -> String {
    let (days, hours, minutes, seconds) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes:02}:{seconds:02}"),
        (0, hours) => format!("{hours:02}:{minutes:02}:{seconds:02}"),
        (days, hours) => format!("{days}-{hours:02}:{minutes:02}:{seconds:02}"),
    }
}

/// The time of day in UTC, or for what is older than a day how many days it is old.
fn clock_time(start: u64, age: u64) -> String {
    if age >= 86_400 { format!("{}d", age / 86_400) } else { format!("{:02}:{:02}", start / 3600 % 24, start / 60 % 60) }
}
