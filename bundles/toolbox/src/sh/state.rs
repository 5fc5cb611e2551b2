//! What a shell knows: variables, functions, options, traps and children.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use brush_parser::ParserOptions;
use brush_parser::ast::FunctionBody;
use nix::unistd::getpid;

/// Why commands are left before their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Jump {
    /// `break N`: loops still to leave.
    Break(u32),
    /// `continue N`: loops still to leave before the next turn.
    Continue(u32),
    /// `return`.
    Return,
    /// `exit`, `set -e`.
    Exit,
    /// An error that ends a script but only the command line of a person (POSIX 2.8.1).
    Error,
}

/// How running commands went; their status is in [`Shell::status`].
pub(crate) type Run<T = ()> = Result<T, Jump>;

/// A variable.
#[derive(Debug, Clone, Default)]
pub(crate) struct Var {
    pub(crate) value: Option<String>,
    pub(crate) exported: bool,
    pub(crate) readonly: bool,
}

/// `set -e` and the like.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    pub(crate) errexit: bool,
    pub(crate) nounset: bool,
    pub(crate) xtrace: bool,
    pub(crate) noglob: bool,
    pub(crate) noexec: bool,
    pub(crate) verbose: bool,
    pub(crate) allexport: bool,
    pub(crate) noclobber: bool,
    pub(crate) pipefail: bool,
    pub(crate) interactive: bool,
    pub(crate) stdin: bool,
    pub(crate) command: bool,
}

impl Options {
    /// The option of a letter, for `set -x` and `$-`.
    pub(crate) fn letter(&mut self, letter: char) -> Option<&mut bool> {
        Some(match letter {
            'e' => &mut self.errexit,
            'u' => &mut self.nounset,
            'x' => &mut self.xtrace,
            'f' => &mut self.noglob,
            'n' => &mut self.noexec,
            'v' => &mut self.verbose,
            'a' => &mut self.allexport,
            'C' => &mut self.noclobber,
            'i' => &mut self.interactive,
            's' => &mut self.stdin,
            'c' => &mut self.command,
            _ => return None,
        })
    }

    /// The option of a name, for `set -o`.
    pub(crate) fn named(&mut self, name: &str) -> Option<&mut bool> {
        match name {
            "pipefail" => Some(&mut self.pipefail),
            _ => Self::NAMES.iter().find(|(known, _)| *known == name).and_then(|(_, letter)| self.letter(*letter)),
        }
    }

    /// Names of options, with their letters.
    pub(crate) const NAMES: &[(&str, char)] = &[
        ("allexport", 'a'),
        ("errexit", 'e'),
        ("noclobber", 'C'),
        ("noexec", 'n'),
        ("noglob", 'f'),
        ("nounset", 'u'),
        ("verbose", 'v'),
        ("xtrace", 'x'),
    ];
}

/// A shell's state; a subshell is a forked copy of it.
pub(crate) struct Shell {
    /// `$0`.
    pub(crate) name: String,
    pub(crate) vars: HashMap<String, Var>,
    /// For each running function, what its `local` hides.
    pub(crate) locals: Vec<Vec<(String, Option<Var>)>>,
    pub(crate) functions: HashMap<String, Rc<FunctionBody>>,
    pub(crate) positional: Vec<String>,
    pub(crate) options: Options,
    /// `$?`.
    pub(crate) status: i32,
    /// `$$`, the first shell's even in a subshell.
    pub(crate) pid: i32,
    /// `$!`.
    pub(crate) last_background: Option<i32>,
    /// Children not waited for: their exit status once known.
    pub(crate) children: BTreeMap<i32, Option<i32>>,
    /// Actions by signal number, 0 being EXIT; an empty action ignores.
    pub(crate) traps: BTreeMap<i32, String>,
    /// Above 0 while a failure is being tested for, so that `set -e` does not end the shell.
    pub(crate) tested: u32,
    /// Loops around the running command, for `break`.
    pub(crate) loops: u32,
    /// Status of the last command substitution, which is that of a command of assignments only.
    pub(crate) substitution_status: Option<i32>,
    /// Whether this is a forked copy.
    pub(crate) subshell: bool,
}

impl Shell {
    pub(crate) fn new(name: String) -> Self {
        let mut vars: HashMap<String, Var> = std::env::vars_os()
            .map(|(name, value)| {
                let var = Var { value: Some(value.to_string_lossy().into_owned()), exported: true, readonly: false };
                (name.to_string_lossy().into_owned(), var)
            })
            .collect();
        let mut plain = |name: &str, value: String| {
            vars.insert(name.to_owned(), Var { value: Some(value), ..Var::default() });
        };
        plain("IFS", " \t\n".to_owned());
        plain("OPTIND", "1".to_owned());
        plain("PPID", nix::unistd::getppid().to_string());
        plain("PS4", "+ ".to_owned());
        for (name, value) in [("PATH", DEFAULT_PATH), ("PS1", if nix::unistd::geteuid().is_root() { "# " } else { "$ " }), ("PS2", "> ")] {
            vars.entry(name.to_owned()).or_insert_with(|| Var { value: Some(value.to_owned()), ..Var::default() });
        }
        if let Ok(directory) = std::env::current_dir() {
            let pwd = vars.entry("PWD".to_owned()).or_default();
            pwd.value = Some(directory.to_string_lossy().into_owned());
        }
        Self {
            name,
            vars,
            locals: Vec::new(),
            functions: HashMap::new(),
            positional: Vec::new(),
            options: Options::default(),
            status: 0,
            pid: getpid().as_raw(),
            last_background: None,
            children: BTreeMap::new(),
            traps: BTreeMap::new(),
            tested: 0,
            loops: 0,
            substitution_status: None,
            subshell: false,
        }
    }

    /// The value of a variable that is set.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.vars.get(name)?.value.as_deref()
    }

    /// Sets a variable.
    ///
    /// # Errors
    /// [`Jump::Error`], said on standard error, when it is read-only.
    pub(crate) fn set(&mut self, name: &str, value: String) -> Run {
        let allexport = self.options.allexport;
        let var = self.vars.entry(name.to_owned()).or_default();
        if var.readonly {
            return Err(self.error(&format!("{name}: is read only")));
        }
        var.value = Some(value);
        var.exported |= allexport;
        Ok(())
    }

    /// Says something on standard error, with the shell's name.
    pub(crate) fn complain(&self, message: &str) {
        say(&format!("{}: {message}\n", self.name));
    }

    /// Says what is wrong; the status becomes 2 (as dash's) and the jump is for the caller to make.
    pub(crate) fn error(&mut self, message: &str) -> Jump {
        self.complain(message);
        self.status = 2;
        Jump::Error
    }
}

/// Writes to standard error. When even that fails there is nobody left to tell.
pub(crate) fn say(text: &str) {
    drop(crate::sys::write_all(2, text.as_bytes()));
}

/// Where commands are looked for when nobody says.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The grammar: POSIX, and `[[ ]]`, `&>`, `<<<` besides.
pub(crate) fn grammar() -> ParserOptions {
    ParserOptions { enable_extended_globbing: false, tilde_expansion_after_colon: false, ..ParserOptions::default() }
}
