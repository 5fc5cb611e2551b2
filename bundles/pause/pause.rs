//! The pause program: the process that a pod's namespaces belong to.
//!
//! It waits. As PID 1 of a PID namespace it also collects what its orphans leave behind. SIGTERM or SIGINT end it with
//! status 0. It has no libc, no heap, no writable data and one loadable segment, so that it costs a page or two.
//!
//! System calls, in order (`bundles::pause::SYSCALLS` names them for the seccomp filter): `prctl` (its name in `ps -o comm`:
//! one executed from a memfd would show the descriptor's number), `rt_sigprocmask`, then for ever `wait4` and
//! `rt_sigtimedwait`, at last `exit_group`.
//!
//! Signals are blocked and fetched, not handled: the kernel drops a signal that PID 1 neither handles nor blocks
//! (signal(7), pid_namespaces(7)), and a blocked one needs neither a handler nor its stack frame. One that comes between exec and
//! `rt_sigprocmask` is lost on PID 1, so who starts this program blocks the three first: the mask survives execve(2).
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

/// Numbers of the system calls (arch/x86/entry/syscalls/syscall_64.tbl).
#[cfg(target_arch = "x86_64")]
mod nr {
    pub const RT_SIGPROCMASK: usize = 14;
    pub const WAIT4: usize = 61;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const PRCTL: usize = 157;
    pub const EXIT_GROUP: usize = 231;
}

/// Numbers of the system calls (include/uapi/asm-generic/unistd.h).
#[cfg(target_arch = "aarch64")]
mod nr {
    pub const EXIT_GROUP: usize = 94;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const PRCTL: usize = 167;
    pub const WAIT4: usize = 260;
}

const SIGINT: isize = 2;
const SIGTERM: isize = 15;
const SIGCHLD: isize = 17;
const SIG_BLOCK: usize = 0;
const PR_SET_NAME: usize = 15;
const WNOHANG: usize = 1;

/// The kernel's sigset_t: bit n-1 is signal n.
static SIGNALS: u64 = 1 << (SIGINT - 1) | 1 << (SIGTERM - 1) | 1 << (SIGCHLD - 1);
static NAME: [u8; 6] = *b"pause\0";

// The stack is aligned to 16 bytes at the entry, as a call expects before it pushes the return address.
#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start: xor ebp, ebp", "call {main}", "ud2", main = sym main);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start: mov x29, xzr", "mov x30, xzr", "b {main}", main = sym main);

extern "C" fn main() -> ! {
    // SAFETY: all pointers are to statics or null, of the sizes given; none of the calls writes to memory.
    unsafe {
        syscall(nr::PRCTL, [PR_SET_NAME, NAME.as_ptr() as usize, 0, 0]);
        syscall(nr::RT_SIGPROCMASK, [SIG_BLOCK, &raw const SIGNALS as usize, 0, size_of::<u64>()]);
        loop {
            // All of them: signals of one kind do not queue. ECHILD (not PID 1) ends the loop as well as 0 (none has ended).
            while syscall(nr::WAIT4, [usize::MAX, 0, WNOHANG, 0]) > 0 {}
            match syscall(nr::RT_SIGTIMEDWAIT, [&raw const SIGNALS as usize, 0, 0, size_of::<u64>()]) {
                SIGINT | SIGTERM => break,
                _ => {} // SIGCHLD, or EINTR after a stop and continue
            }
        }
        loop {
            syscall(nr::EXIT_GROUP, [0; 4]);
        }
    }
}

/// Makes the system call `number`; a negative result is the error number.
///
/// # Safety
/// The arguments must be what that system call takes.
#[cfg(target_arch = "x86_64")]
unsafe fn syscall(number: usize, args: [usize; 4]) -> isize {
    let result;
    // SAFETY: the kernel's calling convention; it changes rax, rcx and r11 only. What the call itself does is the caller's promise.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// Makes the system call `number`; a negative result is the error number.
///
/// # Safety
/// The arguments must be what that system call takes.
#[cfg(target_arch = "aarch64")]
unsafe fn syscall(number: usize, args: [usize; 4]) -> isize {
    let result;
    // SAFETY: the kernel's calling convention; it changes x0 only. What the call itself does is the caller's promise.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") args[0] => result, in("x1") args[1], in("x2") args[2],
            in("x3") args[3], options(nostack));
    }
    result
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
