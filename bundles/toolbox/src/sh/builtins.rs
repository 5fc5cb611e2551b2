//! The commands that are the shell's own (POSIX 2.14 and XCU 1.6).

use std::env;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};

use super::state::{Jump, Options, Run, Shell, Var};
use crate::sys;

/// A builtin: gets its name and arguments, leaves its status in [`Shell::status`].
pub(crate) type Builtin = fn(&mut Shell, &[String]) -> Run;

/// The special builtins: found before functions.
pub(crate) fn special(name: &str) -> Option<Builtin> {
    Some(match name {
        ":" => |shell, _| shell.done(0),
        "." | "source" => dot,
        "break" | "continue" => leave_loop,
        "eval" => |shell, args| {
            shell.status = 0;
            shell.evaluate(&args[1..].join(" "))
        },
        // Its redirections stay: Shell::special sees to it.
        "exec" => |shell, _| shell.done(0),
        "exit" => |shell, args| {
            shell.status = shell.number_or_status(args)?;
            Err(Jump::Exit)
        },
        "return" => |shell, args| {
            shell.status = shell.number_or_status(args)?;
            Err(Jump::Return)
        },
        "export" | "readonly" => declare,
        "set" => set,
        "shift" => shift,
        "trap" => trap,
        "unset" => unset,
        _ => return None,
    })
}

/// The others: found after functions.
pub(crate) fn regular(name: &str) -> Option<Builtin> {
    Some(match name {
        "[" | "test" => |shell, args| {
            let status = shell.test(args);
            shell.done(status)
        },
        "cd" => cd,
        "command" => command,
        "echo" => echo,
        "false" => |shell, _| shell.done(1),
        "getopts" => getopts,
        "jobs" => jobs,
        "kill" => kill,
        "local" => local,
        "pwd" => |shell, args| {
            let directory = if args.get(1).is_some_and(|arg| arg == "-P") { None } else { shell.get("PWD").map(str::to_owned) };
            let directory = directory.or_else(|| env::current_dir().ok().map(|path| path.to_string_lossy().into_owned()));
            shell.print(&format!("{}\n", directory.unwrap_or_default()))
        },
        "read" => read,
        "true" => |shell, _| shell.done(0),
        "type" => |shell, args| describe(shell, &args[1..], Describe::Sentence),
        "umask" => change_umask,
        "wait" => wait,
        _ => return None,
    })
}

impl Shell {
    fn done(&mut self, status: i32) -> Run {
        self.status = status;
        Ok(())
    }

    /// A failure that ends nothing: said, and in the status.
    fn fail(&mut self, message: &str) -> Run {
        self.complain(message);
        self.done(1)
    }

    fn print(&mut self, text: &str) -> Run {
        match sys::write_all(1, text.as_bytes()) {
            Ok(()) => self.done(0),
            Err(error) => self.fail(&format!("write: {}", super::redirect::plain(&error))),
        }
    }

    /// The number after `exit` and `return`, else the status.
    fn number_or_status(&mut self, args: &[String]) -> Run<i32> {
        match args.get(1) {
            None => Ok(self.status),
            Some(text) => match text.parse::<i32>() {
                Ok(number) => Ok(number & 0xff),
                Err(_) => Err(self.error(&format!("{}: {text}: not a number", args[0]))),
            },
        }
    }
}

fn dot(shell: &mut Shell, args: &[String]) -> Run {
    let Some(file) = args.get(1) else { return Err(shell.error(".: needs a file")) };
    let path = shell.find(file).unwrap_or_else(|| file.clone());
    let text = match std::fs::read(&path) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) => return Err(shell.error(&format!("{file}: {}", super::redirect::plain(&error)))),
    };
    let outer = (args.len() > 2).then(|| std::mem::replace(&mut shell.positional, args[2..].to_vec()));
    shell.status = 0;
    let result = shell.evaluate(&text);
    if let Some(outer) = outer {
        shell.positional = outer;
    }
    match result {
        Err(Jump::Return) => Ok(()),
        other => other,
    }
}

fn leave_loop(shell: &mut Shell, args: &[String]) -> Run {
    let levels = match args.get(1).map(|text| text.parse::<u32>()) {
        None => 1,
        Some(Ok(levels)) if levels > 0 => levels,
        Some(_) => return Err(shell.error(&format!("{}: {}: not a number of loops", args[0], args[1]))),
    };
    shell.status = 0;
    match levels.min(shell.loops) {
        0 => Ok(()),
        levels if args[0] == "break" => Err(Jump::Break(levels)),
        levels => Err(Jump::Continue(levels)),
    }
}

fn declare(shell: &mut Shell, args: &[String]) -> Run {
    let readonly = args[0] == "readonly";
    let names: Vec<&String> = args[1..].iter().filter(|arg| !matches!(arg.as_str(), "-p" | "--")).collect();
    if names.is_empty() {
        let mut lines: Vec<String> = shell
            .vars
            .iter()
            .filter(|(_, var)| if readonly { var.readonly } else { var.exported })
            .map(|(name, var)| match &var.value {
                Some(value) => format!("{} {name}={}\n", args[0], quoted(value)),
                None => format!("{} {name}\n", args[0]),
            })
            .collect();
        lines.sort();
        return shell.print(&lines.concat());
    }
    for arg in names {
        let (name, value) = split_assignment(arg);
        if !is_name(name) {
            return Err(shell.error(&format!("{}: {name}: bad variable name", args[0])));
        }
        if let Some(value) = value {
            shell.set(name, value.to_owned())?;
        }
        let var = shell.vars.entry(name.to_owned()).or_default();
        *(if readonly { &mut var.readonly } else { &mut var.exported }) = true;
    }
    shell.done(0)
}

fn local(shell: &mut Shell, args: &[String]) -> Run {
    if shell.locals.is_empty() {
        return Err(shell.error("local: not in a function"));
    }
    for arg in &args[1..] {
        let (name, value) = split_assignment(arg);
        if !is_name(name) {
            return Err(shell.error(&format!("local: {name}: bad variable name")));
        }
        let old = shell.vars.get(name).cloned();
        if let Some(hidden) = shell.locals.last_mut()
            && !hidden.iter().any(|(known, _)| known == name)
        {
            hidden.push((name.to_owned(), old));
        }
        match value {
            Some(value) => shell.set(name, value.to_owned())?,
            None => drop(shell.vars.insert(name.to_owned(), Var::default())),
        }
    }
    shell.done(0)
}

fn set(shell: &mut Shell, args: &[String]) -> Run {
    if args.len() == 1 {
        let mut lines: Vec<String> =
            shell.vars.iter().filter_map(|(name, var)| Some(format!("{name}={}\n", quoted(var.value.as_deref()?)))).collect();
        lines.sort();
        return shell.print(&lines.concat());
    }
    let mut rest = args[1..].iter();
    let mut positional = None;
    while let Some(arg) = rest.next() {
        if arg == "--" {
            positional = Some(rest.cloned().collect());
            break;
        }
        let value = arg.starts_with('-');
        if arg.len() < 2 || !(value || arg.starts_with('+')) {
            positional = Some([arg].into_iter().chain(rest).cloned().collect());
            break;
        }
        for letter in arg[1..].chars() {
            let option = if letter == 'o' {
                match rest.next() {
                    Some(name) => shell.options.named(name),
                    None => return list_options(shell),
                }
            } else {
                shell.options.letter(letter).filter(|_| !"cis".contains(letter))
            };
            match option {
                Some(option) => *option = value,
                None => return Err(shell.error(&format!("set: {arg}: unknown option"))),
            }
        }
    }
    if let Some(positional) = positional {
        shell.positional = positional;
    }
    shell.done(0)
}

fn list_options(shell: &mut Shell) -> Run {
    let mut text = String::new();
    for name in Options::NAMES.iter().map(|(name, _)| *name).chain(["pipefail"]) {
        let on = shell.options.named(name).is_some_and(|set| *set);
        text.push_str(&format!("{name:<16}{}\n", if on { "on" } else { "off" }));
    }
    shell.print(&text)
}

fn shift(shell: &mut Shell, args: &[String]) -> Run {
    match args.get(1).map_or(Ok(1), |text| text.parse::<usize>()) {
        Ok(count) if count <= shell.positional.len() => {
            shell.positional.drain(..count);
            shell.done(0)
        }
        _ => Err(shell.error("shift: can't shift that many")),
    }
}

fn trap(shell: &mut Shell, args: &[String]) -> Run {
    let args = if args.get(1).is_some_and(|arg| arg == "--") { &args[1..] } else { args };
    let Some(action) = args.get(1) else {
        let text: String = shell.traps.iter().map(|(signal, action)| format!("trap -- {} {}\n", quoted(action), signal_name(*signal))).collect();
        return shell.print(&text);
    };
    // `trap TERM` and `trap 15` reset, as `trap - TERM` does.
    let (action, signals) = match (action.as_str(), args.len()) {
        ("-", _) => (None, &args[2..]),
        (_, 2) => (None, &args[1..]),
        (action, _) => (Some(action), &args[2..]),
    };
    let mut status = 0;
    for name in signals {
        match signal_number(name) {
            Some(signal) => shell.trap(signal, action),
            None => {
                shell.complain(&format!("trap: {name}: unknown signal"));
                status = 1;
            }
        }
    }
    shell.done(status)
}

fn unset(shell: &mut Shell, args: &[String]) -> Run {
    let mut functions = false;
    for arg in &args[1..] {
        match arg.as_str() {
            "-f" => functions = true,
            "-v" => functions = false,
            name if functions => drop(shell.functions.remove(name)),
            name if shell.vars.get(name).is_some_and(|var| var.readonly) => return Err(shell.error(&format!("unset: {name}: is read only"))),
            name => {
                if shell.vars.remove(name).is_none() {
                    shell.functions.remove(name);
                }
            }
        }
    }
    shell.done(0)
}

fn cd(shell: &mut Shell, args: &[String]) -> Run {
    let operand = args[1..].iter().find(|arg| !matches!(arg.as_str(), "-L" | "-P" | "--"));
    let (target, said) = match operand.map(String::as_str) {
        None => (shell.get("HOME").unwrap_or("/").to_owned(), false),
        Some("-") => match shell.get("OLDPWD") {
            Some(old) => (old.to_owned(), true),
            None => return shell.fail("cd: OLDPWD not set"),
        },
        Some(path) => (path.to_owned(), false),
    };
    let old = shell.get("PWD").unwrap_or("/").to_owned();
    let new = if args.iter().any(|arg| arg == "-P") { None } else { Some(logical(&old, &target)) };
    if let Err(error) = env::set_current_dir(new.as_deref().unwrap_or(Path::new(&target))) {
        return shell.fail(&format!("cd: {target}: {}", super::redirect::plain(&error)));
    }
    let new = new.or_else(|| env::current_dir().ok()).unwrap_or_else(|| target.into()).to_string_lossy().into_owned();
    shell.set("OLDPWD", old)?;
    shell.set("PWD", new.clone())?;
    if said { shell.print(&format!("{new}\n")) } else { shell.done(0) }
}

/// `..` goes back the way one came, through symbolic links as well (POSIX cd -L).
fn logical(from: &str, target: &str) -> PathBuf {
    let mut path = PathBuf::from("/");
    for component in Path::new(from).join(target).components() {
        match component {
            Component::ParentDir => drop(path.pop()),
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    path
}

fn command(shell: &mut Shell, args: &[String]) -> Run {
    match args.get(1).map(String::as_str) {
        None => shell.done(0),
        Some("-v") => describe(shell, &args[2..], Describe::Path),
        Some("-V") => describe(shell, &args[2..], Describe::Sentence),
        Some(option) => {
            let args = if matches!(option, "-p" | "--") { &args[2..] } else { &args[1..] };
            let Some(name) = args.first() else { return shell.done(0) };
            if let Some(builtin) = special(name).filter(|_| name != "exec").or_else(|| regular(name)) {
                // What a special builtin would end the script with, it does not here (POSIX command).
                return match builtin(shell, args) {
                    Err(Jump::Error) => Ok(()),
                    other => other,
                };
            }
            let child = shell.fork(|shell| {
                shell.become_program(args);
                Ok(())
            })?;
            shell.status = shell.await_child(child);
            Ok(())
        }
    }
}

/// How to tell what a name stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Describe {
    Path,
    Sentence,
}

fn describe(shell: &mut Shell, names: &[String], how: Describe) -> Run {
    let mut status = 0;
    let mut text = String::new();
    for name in names {
        let (short, long) = if special(name).is_some() || regular(name).is_some() {
            (name.clone(), "is a shell builtin".to_owned())
        } else if shell.functions.contains_key(name) {
            (name.clone(), "is a function".to_owned())
        } else if let Some(path) = shell.find(name).filter(|path| Path::new(path).exists()) {
            (path.clone(), format!("is {path}"))
        } else {
            status = 127;
            if how == Describe::Sentence {
                text.push_str(&format!("{name}: not found\n"));
            }
            continue;
        };
        match how {
            Describe::Path => text.push_str(&format!("{short}\n")),
            Describe::Sentence => text.push_str(&format!("{name} {long}\n")),
        }
    }
    shell.print(&text)?;
    shell.done(status)
}

fn echo(shell: &mut Shell, args: &[String]) -> Run {
    let mut args = &args[1..];
    let (mut newline, mut escaped) = (true, false);
    while let Some(option) = args.first().filter(|arg| arg.len() > 1 && arg.starts_with('-') && arg[1..].chars().all(|c| "neE".contains(c))) {
        for letter in option[1..].chars() {
            match letter {
                'n' => newline = false,
                letter => escaped = letter == 'e',
            }
        }
        args = &args[1..];
    }
    let mut text = args.join(" ");
    if escaped {
        let (expanded, ended) = escapes(&text);
        text = expanded;
        newline &= !ended;
    }
    if newline {
        text.push('\n');
    }
    shell.print(&text)
}

/// Replaces `\n`, `\t`, `\0101`, `\x41` and the like; whether `\c` ended the text.
pub(crate) fn escapes(text: &str) -> (String, bool) {
    let mut chars = text.chars().peekable();
    let mut out = String::new();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let Some(escape) = chars.next() else {
            out.push('\\');
            break;
        };
        let mut number = |first: u32, radix: u32, max: usize| {
            let mut value = first;
            for _ in 0..max {
                let Some(digit) = chars.peek().and_then(|c| c.to_digit(radix)) else { break };
                value = value * radix + digit;
                chars.next();
            }
            char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER)
        };
        let mut kept_backslash = false;
        let replaced = match escape {
            'a' => '\x07',
            'b' => '\x08',
            'e' => '\x1b',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            'c' => return (out, true),
            'x' => number(0, 16, 2),
            '0' => number(0, 8, 3),
            '1'..='7' => number(escape as u32 - '0' as u32, 8, 2),
            '\\' | '\'' | '"' => escape,
            other => {
                kept_backslash = true;
                other
            }
        };
        if kept_backslash {
            out.push('\\');
        }
        out.push(replaced);
    }
    (out, false)
}

fn getopts(shell: &mut Shell, args: &[String]) -> Run {
    let (Some(spec), Some(name)) = (args.get(1), args.get(2)) else { return Err(shell.error("getopts: needs options and a name")) };
    let operands = if args.len() > 3 { args[3..].to_vec() } else { shell.positional.clone() };
    // Where in a group such as -abc: kept behind the index, as a script sees OPTIND only.
    let index = shell.get("OPTIND").and_then(|text| text.parse::<usize>().ok()).unwrap_or(1).max(1);
    let offset = shell.get("_OPTOFFSET").and_then(|text| text.parse::<usize>().ok()).filter(|_| index > 0).unwrap_or(1);
    let Some(arg) = operands.get(index - 1).filter(|arg| arg.len() > 1 && arg.starts_with('-') && *arg != "--") else {
        let next = index + usize::from(operands.get(index - 1).is_some_and(|arg| arg == "--"));
        shell.set("OPTIND", next.to_string())?;
        shell.set(name, "?".to_owned())?;
        return shell.done(1);
    };
    let Some(letter) = arg.chars().nth(offset) else { return Err(shell.error("getopts: OPTIND was changed within an argument")) };
    let rest: String = arg.chars().skip(offset + 1).collect();
    let takes_value = spec.find(letter).filter(|_| letter != ':').map(|at| spec[at + letter.len_utf8()..].starts_with(':'));
    let quiet = spec.starts_with(':');
    let (mut next_index, mut next_offset) = if rest.is_empty() { (index + 1, 1) } else { (index, offset + 1) };
    let mut found = letter.to_string();
    shell.vars.remove("OPTARG");
    match takes_value {
        None => {
            found = "?".to_owned();
            if quiet { shell.set("OPTARG", letter.to_string())? } else { shell.complain(&format!("illegal option -{letter}")) }
        }
        Some(false) => {}
        Some(true) => {
            let value = if rest.is_empty() { operands.get(index).cloned() } else { Some(rest.clone()) };
            (next_index, next_offset) = (index + 1 + usize::from(rest.is_empty()), 1);
            match value {
                Some(value) => shell.set("OPTARG", value)?,
                None if quiet => {
                    found = ":".to_owned();
                    shell.set("OPTARG", letter.to_string())?;
                }
                None => {
                    found = "?".to_owned();
                    shell.complain(&format!("option -{letter} needs an argument"));
                }
            }
        }
    }
    shell.set("OPTIND", next_index.to_string())?;
    shell.set("_OPTOFFSET", next_offset.to_string())?;
    shell.set(name, found)?;
    shell.done(0)
}

fn jobs(shell: &mut Shell, _: &[String]) -> Run {
    shell.collect();
    let text: String = shell
        .children
        .iter()
        .enumerate()
        .map(|(n, (pid, status))| match status {
            None => format!("[{}] {pid} Running\n", n + 1),
            Some(status) => format!("[{}] {pid} Done({status})\n", n + 1),
        })
        .collect();
    shell.print(&text)
}

fn kill(shell: &mut Shell, args: &[String]) -> Run {
    let mut args = &args[1..];
    let mut signal = Some(Signal::SIGTERM);
    if let Some(option) = args.first().filter(|arg| arg.len() > 1 && arg.starts_with('-')).cloned() {
        args = &args[1..];
        let name = match option.as_str() {
            "-l" => return list_signals(shell, args),
            "-s" | "-n" => {
                let Some(name) = args.first() else { return shell.fail("kill: -s needs a signal") };
                args = &args[1..];
                name.clone()
            }
            "--" => "TERM".to_owned(),
            option => option[1..].to_owned(),
        };
        let Some(number) = signal_number(&name) else { return shell.fail(&format!("kill: {name}: unknown signal")) };
        signal = Signal::try_from(number).ok();
    }
    let args = if args.first().is_some_and(|arg| arg == "--") { &args[1..] } else { args };
    if args.is_empty() {
        return shell.fail("kill: needs a process");
    }
    let mut status = 0;
    for arg in args {
        let sent = match job_pid(shell, arg) {
            Some(pid) => shell.kill(pid, signal).map_err(|error| error.desc()),
            None => Err("not a process"),
        };
        if let Err(why) = sent {
            shell.complain(&format!("kill: {arg}: {why}"));
            status = 1;
        }
    }
    shell.done(status)
}

/// A process's number, or that of job `%N`.
fn job_pid(shell: &Shell, text: &str) -> Option<i32> {
    match text.strip_prefix('%') {
        Some("" | "%" | "+") => shell.last_background,
        Some(number) => shell.children.keys().nth(number.parse::<usize>().ok()?.checked_sub(1)?).copied(),
        None => text.parse().ok(),
    }
}

fn list_signals(shell: &mut Shell, args: &[String]) -> Run {
    let mut text = String::new();
    if args.is_empty() {
        for signal in Signal::iterator() {
            text.push_str(&format!("{} {}\n", signal as i32, signal_name(signal as i32)));
        }
    }
    for arg in args {
        match arg.parse::<i32>() {
            // 128 and more is how a status tells the signal that ended a command.
            Ok(number) => drop(writeln!(text, "{}", signal_name(if number > 128 { number - 128 } else { number }))),
            Err(_) => drop(writeln!(text, "{}", signal_number(arg).unwrap_or(0))),
        }
    }
    shell.print(&text)
}

fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (number == 0 || Signal::try_from(number).is_ok()).then_some(number);
    }
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if bare == "EXIT" {
        return Some(0);
    }
    Signal::from_str(&format!("SIG{bare}")).ok().map(|signal| signal as i32)
}

fn signal_name(number: i32) -> String {
    match Signal::try_from(number) {
        Ok(signal) => signal.as_str().trim_start_matches("SIG").to_owned(),
        Err(_) if number == 0 => "EXIT".to_owned(),
        Err(_) => number.to_string(),
    }
}

fn read(shell: &mut Shell, args: &[String]) -> Run {
    let mut raw = false;
    let mut names = Vec::new();
    let mut rest = args[1..].iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "-r" => raw = true,
            "-p" => super::state::say(rest.next().map_or("", String::as_str)),
            "-rp" => {
                raw = true;
                super::state::say(rest.next().map_or("", String::as_str));
            }
            option if option.starts_with('-') => return Err(shell.error(&format!("read: {option}: unknown option"))),
            name => names.push(name.to_owned()),
        }
    }
    let (line, ended) = input_line(shell, raw)?;
    if names.is_empty() {
        names.push("REPLY".to_owned());
    }
    let ifs = shell.get("IFS").unwrap_or(" \t\n").to_owned();
    let values = cut(&line, &ifs, names.len());
    for (n, name) in names.iter().enumerate() {
        shell.set(name, values.get(n).cloned().unwrap_or_default())?;
    }
    shell.done(i32::from(!ended))
}

/// A line of standard input, each character with whether it was escaped; whether a newline ended it.
fn input_line(shell: &mut Shell, raw: bool) -> Run<(Vec<(char, bool)>, bool)> {
    let mut bytes = Vec::new();
    // Byte offsets of escaped characters.
    let mut escaped_at = Vec::new();
    let mut escape = false;
    let mut byte = [0];
    let ended = loop {
        match sys::read(0, &mut byte) {
            Ok(0) => break false,
            Ok(_) if escape => {
                escape = false;
                if byte[0] != b'\n' {
                    escaped_at.push(bytes.len());
                    bytes.push(byte[0]);
                }
            }
            Ok(_) if byte[0] == b'\n' => break true,
            Ok(_) if byte[0] == b'\\' && !raw => escape = true,
            Ok(_) => bytes.push(byte[0]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                shell.collect();
                shell.run_traps()?;
            }
            Err(error) => {
                shell.complain(&format!("read: {}", super::redirect::plain(&error)));
                break false;
            }
        }
    };
    let mut at = 0;
    let line = String::from_utf8_lossy(&bytes)
        .chars()
        .map(|c| {
            let escaped = escaped_at.contains(&at);
            at += c.len_utf8();
            (c, escaped)
        })
        .collect();
    Ok((line, ended))
}

/// Cuts a line at the characters of IFS into at most `count` fields, the last one having the rest (POSIX read).
fn cut(line: &[(char, bool)], ifs: &str, count: usize) -> Vec<String> {
    let is = |at: usize| line.get(at).is_some_and(|(c, escaped)| !escaped && ifs.contains(*c));
    let space = |at: usize| is(at) && line[at].0.is_whitespace();
    let mut fields = Vec::new();
    let mut at = 0;
    while space(at) {
        at += 1;
    }
    while at < line.len() {
        if fields.len() + 1 == count {
            let mut end = line.len();
            while end > at && space(end - 1) {
                end -= 1;
            }
            // A single separator at the very end ends the last field and is no part of it.
            if end > at && is(end - 1) && !(at..end - 1).any(is) {
                end -= 1;
            }
            fields.push(line[at..end].iter().map(|(c, _)| *c).collect());
            break;
        }
        let start = at;
        while at < line.len() && !is(at) {
            at += 1;
        }
        fields.push(line[start..at].iter().map(|(c, _)| *c).collect());
        while space(at) {
            at += 1;
        }
        if is(at) {
            at += 1;
            while space(at) {
                at += 1;
            }
        }
    }
    fields
}

fn change_umask(shell: &mut Shell, args: &[String]) -> Run {
    match args.get(1) {
        None => {
            let old = umask(Mode::empty());
            umask(old);
            shell.print(&format!("{:04o}\n", old.bits()))
        }
        Some(text) => match u32::from_str_radix(text, 8) {
            Ok(mode) => {
                umask(Mode::from_bits_truncate(mode));
                shell.done(0)
            }
            Err(_) => shell.fail(&format!("umask: {text}: not an octal number")),
        },
    }
}

/// `wait`: for all children, or for those named; a signal with a trap interrupts it.
fn wait(shell: &mut Shell, args: &[String]) -> Run {
    if args.len() == 1 {
        let interrupted = shell.wait_until(|shell| shell.children.values().all(Option::is_some).then_some(0));
        if interrupted == 0 {
            shell.children.clear();
        }
        return shell.done(interrupted);
    }
    let mut status = 0;
    for arg in &args[1..] {
        status = match job_pid(shell, arg) {
            Some(pid) if shell.children.contains_key(&pid) => {
                let status = shell.wait_until(|shell| shell.children.get(&pid).copied().flatten());
                if shell.children.get(&pid).is_some_and(Option::is_some) {
                    shell.children.remove(&pid);
                }
                status
            }
            _ => 127,
        };
    }
    shell.done(status)
}

/// A word that the shell reads back as `text`.
pub(crate) fn quoted(text: &str) -> String {
    let plain = !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_-./:=,+@%".contains(c));
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

fn split_assignment(text: &str) -> (&str, Option<&str>) {
    match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
