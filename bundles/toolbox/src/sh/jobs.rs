//! Children and signals: waiting, traps, and what a forked copy of the shell must forget.
//!
//! Whatever child ends is collected, also those that were never ours: as PID 1 of a container this shell inherits the
//! orphans of all others.

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::state::{Jump, Run, Shell};
use crate::sys::{self, Disposition};

impl Shell {
    /// Makes the end of a child interrupt what waits.
    pub(crate) fn listen(&self) {
        set(Signal::SIGCHLD, Disposition::Note);
        if self.options.interactive {
            // A person's Ctrl-C ends the command, not the shell; SIGTERM, Ctrl-\ and Ctrl-Z do nothing to it.
            set(Signal::SIGINT, Disposition::Note);
            for signal in [Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGTSTP] {
                set(signal, Disposition::Ignore);
            }
        }
    }

    /// What a subshell is without: traps, jobs, the interactive shell's deafness (POSIX 2.12).
    pub(crate) fn become_subshell(&mut self) {
        if self.options.interactive {
            self.options.interactive = false;
            for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT] {
                set(signal, Disposition::Default);
            }
        }
        for (signal, _) in self.traps.iter().filter(|(_, action)| !action.is_empty()) {
            if let Ok(signal) = Signal::try_from(*signal) {
                set(signal, Disposition::Default);
            }
        }
        self.traps.retain(|_, action| action.is_empty());
        sys::forget_pending();
        self.children.clear();
        self.subshell = true;
        self.loops = 0;
    }

    /// Before another program takes over: it knows nothing of our handlers, but an ignored signal would stay ignored.
    pub(crate) fn before_exec(&self) {
        set(Signal::SIGCHLD, Disposition::Default);
        if self.options.interactive {
            set(Signal::SIGTSTP, Disposition::Default);
        }
    }

    /// A background job of a script hears neither Ctrl-C nor the terminal's input (POSIX 2.11).
    pub(crate) fn detach_from_terminal(&self) {
        set(Signal::SIGINT, Disposition::Ignore);
        set(Signal::SIGQUIT, Disposition::Ignore);
        if let Ok(null) = OpenOptions::new().read(true).open("/dev/null") {
            // Without it the job reads what the script would: worse, but no reason to not start it.
            drop(sys::dup_to(null.as_raw_fd(), 0));
        }
    }

    /// Waits for a command in the foreground; traps wait until it has ended.
    pub(crate) fn await_child(&mut self, child: i32) -> i32 {
        self.children.entry(child).or_insert(None);
        loop {
            if let Some(Some(status)) = self.children.get(&child).copied() {
                self.children.remove(&child);
                return status;
            }
            match waitpid(None, None) {
                Ok(status) => self.note_end(status),
                Err(nix::errno::Errno::EINTR) => {}
                // No children at all: whoever collected this one did not tell.
                Err(_) => {
                    self.children.remove(&child);
                    return 127;
                }
            }
        }
    }

    /// Collects every child that has ended by now.
    pub(crate) fn collect(&mut self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                break;
            }
            self.note_end(status);
        }
    }

    fn note_end(&mut self, status: WaitStatus) {
        let (pid, code) = match status {
            WaitStatus::Exited(pid, code) => (pid, code),
            WaitStatus::Signaled(pid, signal, _) => (pid, 128 + signal as i32),
            _ => return,
        };
        if let Some(known) = self.children.get_mut(&pid.as_raw()) {
            *known = Some(code);
        }
    }

    /// Waits until `done` says a status, or a signal with a trap comes: its number and 128 then.
    ///
    /// Signals are blocked but while asleep, so that none can come between the look and the sleep.
    pub(crate) fn wait_until(&mut self, mut done: impl FnMut(&mut Self) -> Option<i32>) -> i32 {
        let mut before = SigSet::empty();
        if let Err(error) = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), Some(&mut before)) {
            self.complain(&format!("wait: {}", error.desc()));
            return 2;
        }
        let status = loop {
            self.collect();
            if let Some(status) = done(self) {
                break status;
            }
            if let Some(signal) = sys::pending() {
                break 128 + signal as i32;
            }
            sys::sleep_until_signal(&before);
        };
        if let Err(error) = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None) {
            self.complain(&format!("wait: {}", error.desc()));
        }
        status
    }

    /// Runs the actions of the signals that have come.
    pub(crate) fn run_traps(&mut self) -> Run {
        while let Some(signal) = sys::take_pending() {
            match self.traps.get(&(signal as i32)).cloned() {
                Some(action) => {
                    let status = self.status;
                    self.evaluate(&action)?;
                    self.status = status;
                }
                None if self.options.interactive && signal == Signal::SIGINT => {
                    self.status = 130;
                    return Err(Jump::Error);
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Runs the EXIT trap, once.
    pub(crate) fn exit_trap(&mut self) {
        let Some(action) = self.traps.remove(&0) else { return };
        let status = self.status;
        match self.evaluate(&action) {
            Err(Jump::Exit) => {}
            _ => self.status = status,
        }
    }

    /// Sets the action of a signal: `None` for the default, empty to ignore.
    pub(crate) fn trap(&mut self, signal: i32, action: Option<&str>) {
        match action {
            Some(action) => self.traps.insert(signal, action.to_owned()),
            None => self.traps.remove(&signal),
        };
        let Ok(signal) = Signal::try_from(signal) else { return };
        if signal == Signal::SIGCHLD {
            return;
        }
        set(
            signal,
            match action {
                Some("") => Disposition::Ignore,
                Some(_) => Disposition::Note,
                None if self.options.interactive && signal == Signal::SIGINT => Disposition::Note,
                None => Disposition::Default,
            },
        );
    }

    /// Sends a signal for `kill`.
    ///
    /// # Errors
    /// As kill(2).
    pub(crate) fn kill(&self, pid: i32, signal: Option<Signal>) -> nix::Result<()> {
        nix::sys::signal::kill(Pid::from_raw(pid), signal)
    }
}

fn set(signal: Signal, what: Disposition) {
    // Only SIGKILL and SIGSTOP are refused: nothing can be done about them, and no shell says so.
    sys::on_signal(signal, what).ok();
}
