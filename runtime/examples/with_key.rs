//! `with_key NAME COMMAND ...`: executes the command in a new session keyring that holds a key which only who possesses that
//! keyring can see.

#![allow(unsafe_code)] // three raw calls

use std::ffi::CString;
use std::os::unix::process::CommandExt;

/// The possessor may do all, nobody else anything (`KEY_POS_ALL`, keyctl_setperm(3)).
const POSSESSOR_ONLY: libc::c_long = 0x3f00_0000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, command, rest @ ..] = &args[..] else { panic!("with_key NAME COMMAND ...") };
    add_key(name);
    panic!("{command}: {}", std::process::Command::new(command).args(rest).exec());
}

fn add_key(name: &str) {
    let name = CString::new(name.as_bytes()).expect("a name");
    // SAFETY: a null name asks for an anonymous keyring; the strings are NUL-terminated and outlive the calls, and the
    // payload is given with its true length.
    let key = unsafe {
        assert_ne!(-1, libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()));
        libc::syscall(libc::SYS_add_key, c"user".as_ptr(), name.as_ptr(), b"secret".as_ptr(), 6_usize, libc::KEY_SPEC_SESSION_KEYRING)
    };
    assert_ne!(-1, key, "add_key: {}", std::io::Error::last_os_error());
    // SAFETY: numbers only.
    let set = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_SETPERM, key, POSSESSOR_ONLY) };
    assert_ne!(-1, set, "KEYCTL_SETPERM: {}", std::io::Error::last_os_error());
}
