//! `sh`: a POSIX shell on brush's grammar.
//!
//! Why not brush's own interpreter is told in docs/decisions/0003-toolbox-shell.md. No arrays, aliases, job control or history.
//! Text that is not UTF-8 is read with replacement characters.

mod arith;
mod builtins;
mod condition;
mod exec;
mod expand;
mod jobs;
mod pattern;
mod redirect;
mod state;

use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal};

use brush_parser::ast::Program;
use brush_parser::{ParseError, Parser, TokenizerError};

use self::exec::Position;
use self::state::{Jump, Run, Shell, grammar, say};
use crate::sys;

/// Why a script was not understood.
struct SyntaxError {
    message: String,
    /// More lines could make it right.
    incomplete: bool,
}

fn parse(script: &str) -> Result<Program, SyntaxError> {
    Parser::new(script.as_bytes(), &grammar()).parse_program().map_err(|error| SyntaxError {
        message: error.to_string(),
        incomplete: match &error {
            ParseError::ParsingAtEndOfInput => true,
            ParseError::Tokenizing { inner, .. } => {
                !matches!(inner, TokenizerError::FailedDecoding)
            }
            ParseError::ParsingNear(_) => false,
        },
    })
}

impl Shell {
    /// Runs a program; its last command may take the process over at [`Position::Last`].
    fn program(&mut self, program: &Program, position: Position) -> Run {
        let last = program.complete_commands.len().saturating_sub(1);
        for (n, list) in program.complete_commands.iter().enumerate() {
            self.list(list, if n == last { position } else { Position::Inner })?;
        }
        Ok(())
    }

    /// Runs text as `eval` does.
    fn evaluate(&mut self, text: &str) -> Run {
        self.evaluate_at(text, Position::Inner)
    }

    fn evaluate_at(&mut self, text: &str, position: Position) -> Run {
        match parse(text) {
            Ok(program) if self.options.noexec => {
                drop(program);
                Ok(())
            }
            Ok(program) => {
                if program.complete_commands.is_empty() {
                    self.status = 0;
                }
                self.program(&program, position)
            }
            Err(error) => Err(self.error(&error.message)),
        }
    }

    /// Runs standard input line by line, so that its commands can read what follows them.
    fn interact(&mut self) -> Run {
        let prompts = self.options.interactive;
        let mut text = String::new();
        loop {
            if prompts {
                self.collect();
                let prompt = self.get(if text.is_empty() { "PS1" } else { "PS2" }).unwrap_or_default().to_owned();
                let prompt = self.here_document(&prompt).unwrap_or(prompt);
                say(&prompt);
            }
            let line = match self.read_line() {
                Ok(line) => line,
                Err(jump) if prompts && jump == Jump::Error => {
                    say("\n");
                    text.clear();
                    continue;
                }
                Err(jump) => return Err(jump),
            };
            let Some(line) = line else {
                if prompts {
                    say("exit\n");
                }
                return if text.is_empty() { Ok(()) } else { self.evaluate(&text) };
            };
            if self.options.verbose {
                say(&line);
            }
            text.push_str(&line);
            let run = match parse(&text) {
                Ok(program) => self.program(&program, Position::Inner),
                Err(error) if error.incomplete => continue,
                Err(error) => Err(self.error(&error.message)),
            };
            text.clear();
            match run {
                Ok(()) => {}
                Err(Jump::Exit) => return run,
                Err(_) if prompts => {}
                Err(_) => return run,
            }
        }
    }

    /// A line of standard input, read byte by byte: what follows belongs to others. `None` at the end.
    fn read_line(&mut self) -> Run<Option<String>> {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            match sys::read(0, &mut byte) {
                Ok(0) if line.is_empty() => return Ok(None),
                Ok(0) => break,
                Ok(_) => {
                    line.push(byte[0]);
                    if byte[0] == b'\n' {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    self.collect();
                    self.run_traps()?;
                }
                Err(error) => return Err(self.error(&format!("read: {}", redirect::plain(&error)))),
            }
        }
        Ok(Some(String::from_utf8_lossy(&line).into_owned()))
    }
}

/// Where the commands come from.
enum Source {
    Text(String),
    Input,
}

/// Runs the shell with its arguments, `argv[0]` included; the exit status.
pub(crate) fn main(args: &[OsString]) -> i32 {
    let mut args: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let mut shell = Shell::new("sh".to_owned());
    let name = if args.is_empty() { "sh".to_owned() } else { args.remove(0) };
    let source = match source(&mut shell, &name, args) {
        Ok(source) => source,
        Err(status) => return status,
    };
    if matches!(source, Source::Input) && std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        shell.options.interactive = true;
    }
    shell.listen();
    let run = match source {
        Source::Text(text) => shell.evaluate_at(&text, Position::Last),
        Source::Input => shell.interact(),
    };
    shell.finish(run)
}

/// Reads the options and finds the commands (POSIX sh: `-c TEXT [NAME [ARG...]]`, `FILE [ARG...]`, `-s [ARG...]`).
fn source(shell: &mut Shell, name: &str, args: Vec<String>) -> Result<Source, i32> {
    let mut args = args.into_iter().peekable();
    while let Some(arg) = args.peek().filter(|arg| arg.len() > 1 && arg.starts_with(['-', '+'])).cloned() {
        args.next();
        if arg == "--" {
            break;
        }
        if matches!(arg.as_str(), "--login" | "--norc" | "--noprofile" | "--posix") {
            continue;
        }
        let value = arg.starts_with('-');
        for letter in arg[1..].chars() {
            let option = match letter {
                'o' => args.next().and_then(|name| shell.options.named(&name)),
                // A login shell reads profiles; the lab image has none.
                'l' => continue,
                _ => shell.options.letter(letter),
            };
            match option {
                Some(option) => *option = value,
                None => {
                    shell.complain(&format!("{arg}: unknown option"));
                    return Err(2);
                }
            }
        }
    }
    if shell.options.command {
        let Some(text) = args.next() else {
            shell.complain("-c: needs a command");
            return Err(2);
        };
        shell.name = args.next().unwrap_or_else(|| name.rsplit('/').next().unwrap_or("sh").to_owned());
        shell.positional = args.collect();
        return Ok(Source::Text(text));
    }
    if shell.options.stdin || args.peek().is_none() {
        shell.name = name.to_owned();
        shell.positional = args.collect();
        return Ok(Source::Input);
    }
    let file = args.next().unwrap_or_default();
    match std::fs::read(&file) {
        Ok(text) => {
            shell.name = file;
            shell.positional = args.collect();
            Ok(Source::Text(String::from_utf8_lossy(&text).into_owned()))
        }
        Err(error) => {
            shell.complain(&format!("{file}: {}", redirect::plain(&error)));
            Err(127)
        }
    }
}
