//! Runs what was parsed. Everything that POSIX calls a subshell is a real process, so that `$!`, `kill` and `wait` mean what they say.

use std::ffi::CString;
use std::rc::Rc;
use std::time::Instant;

use brush_parser::ast::{
    AndOr, AndOrList, Assignment, AssignmentName, AssignmentValue, CaseItemPostAction, Command, CommandPrefixOrSuffixItem as Item, CompoundCommand,
    CompoundList, FunctionBody, IoRedirect, Pipeline, RedirectList, SeparatorOperator, SimpleCommand, Word,
};
use nix::errno::Errno;

use super::builtins::{self, Builtin};
use super::state::{Jump, Run, Shell, Var, say};
use crate::sys;

/// Whether the process ends with this command, so that it may become it instead of forking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    Last,
    Inner,
}

impl Shell {
    /// Runs a list.
    pub(crate) fn list(&mut self, list: &CompoundList, position: Position) -> Run {
        let last = list.0.len().saturating_sub(1);
        for (n, item) in list.0.iter().enumerate() {
            let position = if n == last { position } else { Position::Inner };
            match item.1 {
                SeparatorOperator::Async => self.background(&item.0)?,
                SeparatorOperator::Sequence => self.and_or(&item.0, position)?,
            }
            self.run_traps()?;
        }
        Ok(())
    }

    fn background(&mut self, list: &AndOrList) -> Run {
        let child = self.fork(|shell| {
            if !shell.options.interactive {
                shell.detach_from_terminal();
            }
            shell.and_or(list, Position::Last)
        })?;
        self.last_background = Some(child);
        self.children.insert(child, None);
        if self.options.interactive {
            say(&format!("[{}] {child}\n", self.children.len()));
        }
        self.status = 0;
        Ok(())
    }

    fn and_or(&mut self, list: &AndOrList, position: Position) -> Run {
        let count = list.additional.len();
        let mut failure_counts = true;
        for n in 0..=count {
            let pipeline = match n.checked_sub(1).map(|n| &list.additional[n]) {
                None => &list.first,
                Some(AndOr::And(pipeline)) if self.status == 0 => pipeline,
                Some(AndOr::Or(pipeline)) if self.status != 0 => pipeline,
                // Skipped: the status is that of a command that was tested.
                Some(_) => {
                    failure_counts = false;
                    continue;
                }
            };
            failure_counts = n == count && !pipeline.bang;
            if failure_counts {
                self.pipeline(pipeline, position)?;
            } else {
                self.tested += 1;
                let run = self.pipeline(pipeline, Position::Inner);
                self.tested -= 1;
                run?;
            }
        }
        if failure_counts && self.status != 0 && self.options.errexit && self.tested == 0 {
            return Err(Jump::Exit);
        }
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline, position: Position) -> Run {
        let started = pipeline.timed.as_ref().map(|_| Instant::now());
        let position = if pipeline.bang || started.is_some() { Position::Inner } else { position };
        match pipeline.seq.as_slice() {
            [] => self.status = 0,
            [command] => self.command(command, position)?,
            commands => self.piped(commands)?,
        }
        if pipeline.bang {
            self.status = i32::from(self.status == 0);
        }
        if let Some(started) = started {
            say(&format!("real {:.3}\n", started.elapsed().as_secs_f64()));
        }
        Ok(())
    }

    fn piped(&mut self, commands: &[Command]) -> Run {
        let mut input = None;
        let mut children = Vec::new();
        for (n, command) in commands.iter().enumerate() {
            let ends = if n + 1 < commands.len() { Some(self.pipe()?) } else { None };
            let child = self.fork(|shell| {
                for (from, to) in [(input, 0), (ends.map(|(_, write)| write), 1)] {
                    if let Some(from) = from
                        && let Err(error) = sys::dup_to(from, to)
                    {
                        return Err(shell.error(&format!("pipe: {error}")));
                    }
                }
                shell.command(command, Position::Last)
            })?;
            // Known before any of them is waited for: one that ends first is collected with the first.
            self.children.insert(child, None);
            children.push(child);
            if let Some(read) = input.take() {
                sys::close(read);
            }
            if let Some((read, write)) = ends {
                sys::close(write);
                input = Some(read);
            }
        }
        let mut status = 0;
        for child in children {
            let this = self.await_child(child);
            status = if self.options.pipefail && this == 0 { status } else { this };
        }
        self.status = status;
        Ok(())
    }

    fn pipe(&mut self) -> Run<(i32, i32)> {
        sys::pipe().map_err(|error| self.error(&format!("pipe: {error}")))
    }

    /// Runs `body` in a child that ends with its status.
    pub(crate) fn fork(&mut self, body: impl FnOnce(&mut Self) -> Run) -> Run<i32> {
        match sys::fork() {
            Err(error) => Err(self.error(&format!("fork: {}", error.desc()))),
            Ok(Some(child)) => Ok(child.as_raw()),
            Ok(None) => {
                self.become_subshell();
                let run = body(self);
                let status = self.finish(run);
                sys::exit_now(status)
            }
        }
    }

    /// What the process ends with after `run`, its EXIT trap done.
    pub(crate) fn finish(&mut self, run: Run) -> i32 {
        if run == Err(Jump::Error) && self.status == 0 {
            self.status = 2;
        }
        self.exit_trap();
        self.status
    }

    fn command(&mut self, command: &Command, position: Position) -> Run {
        match command {
            Command::Simple(simple) => self.simple(simple, position),
            Command::Compound(compound, redirects) => self.redirected(redirects.as_ref(), position, |shell, position| shell.compound(compound, position)),
            Command::Function(definition) => {
                self.functions.insert(definition.fname.value.clone(), Rc::new(definition.body.clone()));
                self.status = 0;
                Ok(())
            }
            Command::ExtendedTest(test, redirects) => self.redirected(redirects.as_ref(), position, |shell, _| shell.extended_test(&test.expr)),
        }
    }

    fn redirected(&mut self, redirects: Option<&RedirectList>, position: Position, run: impl FnOnce(&mut Self, Position) -> Run) -> Run {
        let Some(redirects) = redirects else { return run(self, position) };
        let redirects: Vec<&IoRedirect> = redirects.0.iter().collect();
        let Some(saved) = self.redirect(&redirects)? else { return Ok(()) };
        let result = run(self, position);
        saved.restore();
        result
    }

    fn compound(&mut self, compound: &CompoundCommand, position: Position) -> Run {
        match compound {
            CompoundCommand::BraceGroup(group) => self.list(&group.list, position),
            CompoundCommand::Subshell(subshell) if position == Position::Last && self.traps.is_empty() => self.list(&subshell.list, position),
            CompoundCommand::Subshell(subshell) => {
                let child = self.fork(|shell| shell.list(&subshell.list, Position::Last))?;
                self.status = self.await_child(child);
                Ok(())
            }
            CompoundCommand::IfClause(clause) => {
                if self.condition(&clause.condition)? {
                    return self.list(&clause.then, position);
                }
                for branch in clause.elses.iter().flatten() {
                    let taken = match &branch.condition {
                        Some(condition) => self.condition(condition)?,
                        None => true,
                    };
                    if taken {
                        return self.list(&branch.body, position);
                    }
                }
                self.status = 0;
                Ok(())
            }
            CompoundCommand::WhileClause(clause) => self.repeat(|shell| shell.condition(&clause.0), |_| Ok(()), &clause.1.list),
            CompoundCommand::UntilClause(clause) => self.repeat(|shell| shell.condition(&clause.0).map(|held| !held), |_| Ok(()), &clause.1.list),
            CompoundCommand::ForClause(clause) => {
                let values = match &clause.values {
                    Some(words) => self.fields(words)?,
                    None => self.positional.clone(),
                };
                let mut values = values.into_iter();
                let next = |shell: &mut Self| match values.next() {
                    Some(value) => shell.set(&clause.variable_name, value).map(|()| true),
                    None => Ok(false),
                };
                self.repeat(next, |_| Ok(()), &clause.body.list)
            }
            CompoundCommand::ArithmeticForClause(clause) => {
                let evaluate = |shell: &mut Self, expr: &Option<brush_parser::ast::UnexpandedArithmeticExpr>| match expr {
                    Some(expr) if !expr.value.trim().is_empty() => shell.arithmetic_text(&expr.value),
                    _ => Ok(1),
                };
                evaluate(self, &clause.initializer)?;
                self.repeat(
                    |shell| evaluate(shell, &clause.condition).map(|value| value != 0),
                    |shell| evaluate(shell, &clause.updater).map(drop),
                    &clause.body.list,
                )
            }
            CompoundCommand::Arithmetic(command) => {
                self.status = i32::from(self.arithmetic_text(&command.expr.value)? == 0);
                Ok(())
            }
            CompoundCommand::CaseClause(clause) => self.case(clause, position),
            CompoundCommand::Coprocess(_) => Err(self.error("coproc: not in this shell")),
        }
    }

    fn arithmetic_text(&mut self, text: &str) -> Run<i64> {
        let text = self.here_document(text)?;
        self.arithmetic(&text)
    }

    fn condition(&mut self, list: &CompoundList) -> Run<bool> {
        self.tested += 1;
        let run = self.list(list, Position::Inner);
        self.tested -= 1;
        run.map(|()| self.status == 0)
    }

    /// A loop: the status is that of the last turn's body, 0 without one.
    fn repeat(&mut self, mut next: impl FnMut(&mut Self) -> Run<bool>, mut after: impl FnMut(&mut Self) -> Run, body: &CompoundList) -> Run {
        let mut status = 0;
        self.loops += 1;
        let result = loop {
            match next(self) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(jump) => break Err(jump),
            }
            let turn = self.list(body, Position::Inner);
            status = self.status;
            match turn {
                Ok(()) | Err(Jump::Continue(0 | 1)) => {}
                Err(Jump::Break(0 | 1)) => break Ok(()),
                Err(Jump::Break(n)) => break Err(Jump::Break(n - 1)),
                Err(Jump::Continue(n)) => break Err(Jump::Continue(n - 1)),
                Err(jump) => break Err(jump),
            }
            if let Err(jump) = after(self) {
                break Err(jump);
            }
        };
        self.loops -= 1;
        if result.is_ok() {
            self.status = status;
        }
        result
    }

    fn case(&mut self, clause: &brush_parser::ast::CaseClauseCommand, position: Position) -> Run {
        let value = self.single(&clause.value.value)?;
        self.status = 0;
        let mut fall_through = false;
        for item in &clause.cases {
            let mut taken = fall_through;
            for pattern in &item.patterns {
                if taken {
                    break;
                }
                let pattern = self.pattern(&pattern.value)?;
                taken = super::pattern::matches(&pattern, &value);
            }
            if !taken {
                continue;
            }
            let ends = matches!(item.post_action, CaseItemPostAction::ExitCase);
            if let Some(list) = &item.cmd {
                self.list(list, if ends { position } else { Position::Inner })?;
            }
            if ends {
                break;
            }
            fall_through = matches!(item.post_action, CaseItemPostAction::UnconditionallyExecuteNextCaseItem);
        }
        Ok(())
    }

    fn simple(&mut self, command: &SimpleCommand, position: Position) -> Run {
        let parts = Parts::of(command);
        if parts.substitutes_processes {
            return Err(self.error("process substitution: not in this shell"));
        }
        self.substitution_status = None;
        let args = self.arguments(&parts.words)?;
        let Some(name) = args.first().cloned() else { return self.assignments_only(&parts.assignments, &parts.redirects) };
        let mut assigned = Vec::new();
        for assignment in &parts.assignments {
            assigned.push(self.assignment(assignment)?);
        }
        if self.options.xtrace {
            self.trace(&assigned, &args);
        }
        if let Some(builtin) = builtins::special(&name) {
            return self.special(builtin, assigned, &parts.redirects, &args);
        }
        if let Some(function) = self.functions.get(&name).cloned() {
            let redirects = &parts.redirects;
            return self.with_assigned(assigned, |shell| shell.redirected_refs(redirects, |shell| shell.call(&function, &args[1..])));
        }
        if let Some(builtin) = builtins::regular(&name) {
            let redirects = &parts.redirects;
            return self.with_assigned(assigned, |shell| shell.redirected_refs(redirects, |shell| builtin(shell, &args)));
        }
        self.external(assigned, &parts.redirects, &args, position)
    }

    /// The fields of a command's words. What looks like an assignment is expanded like one after `export` and its kin.
    fn arguments(&mut self, words: &[(&Word, Option<&Assignment>)]) -> Run<Vec<String>> {
        let declares = words.first().is_some_and(|(name, _)| matches!(name.value.as_str(), "export" | "readonly" | "local"));
        let mut args = Vec::new();
        for (word, assignment) in words {
            match assignment {
                Some(assignment) if declares => {
                    let (name, value) = self.assignment(assignment)?;
                    args.push(format!("{name}={value}"));
                }
                _ => args.extend(self.fields([*word])?),
            }
        }
        Ok(args)
    }

    fn redirected_refs(&mut self, redirects: &[&IoRedirect], run: impl FnOnce(&mut Self) -> Run) -> Run {
        if redirects.is_empty() {
            return run(self);
        }
        let Some(saved) = self.redirect(redirects)? else { return Ok(()) };
        let result = run(self);
        saved.restore();
        result
    }

    fn assignments_only(&mut self, assignments: &[&Assignment], redirects: &[&IoRedirect]) -> Run {
        let mut assigned = Vec::new();
        for assignment in assignments {
            let (name, value) = self.assignment(assignment)?;
            self.set(&name, value.clone())?;
            assigned.push((name, value));
        }
        if self.options.xtrace {
            self.trace(&assigned, &[]);
        }
        self.status = self.substitution_status.unwrap_or(0);
        if let Some(saved) = self.redirect(redirects)? {
            saved.restore();
        }
        Ok(())
    }

    fn assignment(&mut self, assignment: &Assignment) -> Run<(String, String)> {
        match (&assignment.name, &assignment.value) {
            (AssignmentName::VariableName(name), AssignmentValue::Scalar(word)) => {
                let value = self.assigned(&word.value)?;
                let old = if assignment.append { self.get(name).unwrap_or_default() } else { "" };
                Ok((name.clone(), format!("{old}{value}")))
            }
            (AssignmentName::VariableName(name) | AssignmentName::ArrayElementName(name, _), _) => {
                Err(self.error(&format!("{name}: this shell has no arrays")))
            }
        }
    }

    fn trace(&mut self, assigned: &[(String, String)], args: &[String]) {
        let prompt = self.get("PS4").unwrap_or("+ ").to_owned();
        let words: Vec<String> =
            assigned.iter().map(|(name, value)| format!("{name}={}", builtins::quoted(value))).chain(args.iter().map(|arg| builtins::quoted(arg))).collect();
        say(&format!("{prompt}{}\n", words.join(" ")));
    }

    /// A special builtin: assignments before it last, and its errors end a script (POSIX 2.14).
    fn special(&mut self, builtin: Builtin, assigned: Vec<(String, String)>, redirects: &[&IoRedirect], args: &[String]) -> Run {
        for (name, value) in assigned {
            self.set(&name, value)?;
        }
        let Some(saved) = self.redirect(redirects)? else {
            return Err(Jump::Error);
        };
        if args[0] == "exec" {
            saved.forget();
            return self.exec_builtin(args);
        }
        let result = builtin(self, args);
        saved.restore();
        result
    }

    fn exec_builtin(&mut self, args: &[String]) -> Run {
        let args = if args.get(1).is_some_and(|arg| arg == "--") { &args[2..] } else { &args[1..] };
        if args.is_empty() {
            self.status = 0;
            return Ok(());
        }
        self.become_program(args);
        if self.options.interactive { Ok(()) } else { Err(Jump::Exit) }
    }

    /// Runs `run` with variables set (and exported) that are then what they were before.
    fn with_assigned(&mut self, assigned: Vec<(String, String)>, run: impl FnOnce(&mut Self) -> Run) -> Run {
        if assigned.is_empty() {
            return run(self);
        }
        let mut before: Vec<(String, Option<Var>)> = Vec::new();
        for (name, value) in assigned {
            before.push((name.clone(), self.vars.get(&name).cloned()));
            self.set(&name, value)?;
            if let Some(var) = self.vars.get_mut(&name) {
                var.exported = true;
            }
        }
        let result = run(self);
        self.put_back(before);
        result
    }

    /// Makes variables what they were.
    pub(crate) fn put_back(&mut self, before: Vec<(String, Option<Var>)>) {
        for (name, var) in before.into_iter().rev() {
            match var {
                Some(var) => self.vars.insert(name, var),
                None => self.vars.remove(&name),
            };
        }
    }

    /// Calls a function.
    fn call(&mut self, function: &Rc<FunctionBody>, args: &[String]) -> Run {
        if self.locals.len() > MAX_CALLS {
            return Err(self.error("functions: too many inside each other"));
        }
        let outer = std::mem::replace(&mut self.positional, args.to_vec());
        let loops = std::mem::take(&mut self.loops);
        self.locals.push(Vec::new());
        let result = self.redirected(function.1.as_ref(), Position::Inner, |shell, position| shell.compound(&function.0, position));
        let hidden = self.locals.pop().unwrap_or_default();
        self.put_back(hidden);
        self.loops = loops;
        self.positional = outer;
        match result {
            Err(Jump::Return) => Ok(()),
            other => other,
        }
    }

    fn external(&mut self, assigned: Vec<(String, String)>, redirects: &[&IoRedirect], args: &[String], position: Position) -> Run {
        let run = |shell: &mut Self| {
            let Some(saved) = shell.redirect(redirects)? else { return Ok(()) };
            saved.forget();
            for (name, value) in assigned {
                shell.set(&name, value)?;
                if let Some(var) = shell.vars.get_mut(&name) {
                    var.exported = true;
                }
            }
            shell.become_program(args);
            Ok(())
        };
        if position == Position::Last && self.traps.is_empty() && !self.options.interactive {
            return run(self);
        }
        let child = self.fork(run)?;
        self.status = self.await_child(child);
        Ok(())
    }

    /// Becomes the program `args`; returns when that fails, with a status of 126 or 127.
    pub(crate) fn become_program(&mut self, args: &[String]) {
        let (path, error) = match self.find(&args[0]) {
            None => (args[0].clone(), Errno::ENOENT),
            Some(path) => {
                let error = self.exec_path(&path, args);
                (path, error)
            }
        };
        if error == Errno::ENOEXEC {
            self.run_script_instead(&path, args);
            return;
        }
        self.status = if error == Errno::ENOENT { 127 } else { 126 };
        let why = if error == Errno::ENOENT && !args[0].contains('/') { "not found" } else { error.desc() };
        self.complain(&format!("{}: {why}", args[0]));
    }

    fn exec_path(&self, path: &str, args: &[String]) -> Errno {
        let env = self.vars.iter().filter(|(_, var)| var.exported).filter_map(|(name, var)| Some(format!("{name}={}", var.value.as_deref()?)));
        let (Ok(path), Ok(args), Ok(env)) =
            (CString::new(path), args.iter().map(|arg| CString::new(arg.as_str())).collect::<Result<Vec<_>, _>>(), env.map(CString::new).collect::<Result<Vec<_>, _>>())
        else {
            return Errno::EINVAL;
        };
        self.before_exec();
        sys::exec(&path, &args, &env)
    }

    /// A file that is executable but no program is a script for this shell (POSIX 2.9.1.4).
    fn run_script_instead(&mut self, path: &str, args: &[String]) {
        let mut shell_args = vec![self.name.clone(), path.to_owned()];
        shell_args.extend_from_slice(&args[1..]);
        let error = self.exec_path("/proc/self/exe", &["sh".to_owned()].into_iter().chain(shell_args.into_iter().skip(1)).collect::<Vec<_>>());
        self.status = 126;
        self.complain(&format!("{path}: {}", error.desc()));
    }

    /// The file a command's name stands for.
    pub(crate) fn find(&self, name: &str) -> Option<String> {
        if name.contains('/') {
            return Some(name.to_owned());
        }
        if name.is_empty() {
            return None;
        }
        let mut refused = None;
        for directory in self.get("PATH").unwrap_or_default().split(':') {
            let path = if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
            if !std::fs::metadata(&path).is_ok_and(|meta| meta.is_file()) {
                continue;
            }
            if nix::unistd::access(path.as_str(), nix::unistd::AccessFlags::X_OK).is_ok() {
                return Some(path);
            }
            refused.get_or_insert(path);
        }
        refused
    }

    /// `$(...)`: what the script writes, without the newlines at its end.
    pub(crate) fn substitute(&mut self, script: &str) -> Run<String> {
        let program = match super::parse(script) {
            Ok(program) => program,
            Err(error) => return Err(self.error(&error.message)),
        };
        let (read, write) = self.pipe()?;
        let child = self.fork(|shell| {
            if let Err(error) = sys::dup_to(write, 1) {
                return Err(shell.error(&format!("pipe: {error}")));
            }
            shell.program(&program, Position::Last)
        })?;
        sys::close(write);
        let mut output = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match sys::read(read, &mut buffer) {
                Ok(0) => break,
                Ok(got) => output.extend_from_slice(&buffer[..got]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        sys::close(read);
        let status = self.await_child(child);
        self.substitution_status = Some(status);
        self.status = status;
        output.retain(|byte| *byte != 0);
        let text = String::from_utf8_lossy(&output);
        Ok(text.trim_end_matches('\n').to_owned())
    }
}

/// So many function calls inside each other are an endless recursion; the stack (8 MiB) holds more.
const MAX_CALLS: usize = 1000;

/// A simple command's parts.
#[derive(Default)]
struct Parts<'a> {
    assignments: Vec<&'a Assignment>,
    words: Vec<(&'a Word, Option<&'a Assignment>)>,
    redirects: Vec<&'a IoRedirect>,
    substitutes_processes: bool,
}

impl<'a> Parts<'a> {
    fn of(command: &'a SimpleCommand) -> Self {
        let mut parts = Self::default();
        for item in command.prefix.iter().flat_map(|prefix| &prefix.0) {
            parts.add(item, true);
        }
        parts.words.extend(command.word_or_name.as_ref().map(|word| (word, None)));
        for item in command.suffix.iter().flat_map(|suffix| &suffix.0) {
            parts.add(item, false);
        }
        parts
    }

    fn add(&mut self, item: &'a Item, before_name: bool) {
        match item {
            Item::IoRedirect(redirect) => self.redirects.push(redirect),
            Item::AssignmentWord(assignment, _) if before_name => self.assignments.push(assignment),
            Item::AssignmentWord(assignment, word) => self.words.push((word, Some(assignment))),
            Item::Word(word) => self.words.push((word, None)),
            Item::ProcessSubstitution(..) => self.substitutes_processes = true,
        }
    }
}
