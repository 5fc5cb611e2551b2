//! Device rules on cgroup v2, which has no files for them: an eBPF program decides each mknod(2) and open(2) of a device.
//!
//! ```text
//! r2 = type, r3 = access, r4 = major, r5 = minor       from struct bpf_cgroup_dev_ctx in r1
//! a rule:  type, access, major and minor fit? else the next rule
//!          return 1
//! return 0
//! ```
//! Without BPF_F_ALLOW_MULTI a second program takes the place of the first, and none can be attached below.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use crate::sys::bpf;

/// `BPF_DEVCG_DEV_BLOCK`, `BPF_DEVCG_DEV_CHAR`.
const BLOCK: i32 = 1;
const CHAR: i32 = 2;
/// `BPF_DEVCG_ACC_MKNOD`, `READ`, `WRITE`.
const ACCESS: [(char, i32); 3] = [('m', 1), ('r', 2), ('w', 4)];
const ANY_ACCESS: i32 = 7;

const LOAD_U32: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const MOVE_REGISTER: u8 = 0xbc;
const MOVE: u8 = 0xb7;
const JUMP_UNLESS_EQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

/// Registers.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const TYPE: u8 = 2;
const WANTED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

type Instruction = [u8; 8];

/// `struct bpf_insn`: code, registers, jump, number.
fn instruction(code: u8, to: u8, from: u8, offset: i16, number: i32) -> Instruction {
    let (offset, number) = (offset.to_ne_bytes(), number.to_ne_bytes());
    [code, from << 4 | to, offset[0], offset[1], number[0], number[1], number[2], number[3]]
}

/// One line of what v1 calls `devices.allow`: `c 1:3 rwm`; `None` stands for any.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    kind: Option<i32>,
    major: Option<i32>,
    minor: Option<i32>,
    access: i32,
}

impl Rule {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
        let kind = match kind {
            "a" => None,
            "b" => Some(BLOCK),
            "c" | "u" => Some(CHAR),
            _ => return None,
        };
        let (major, minor) = numbers.split_once(':')?;
        let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
        let bit = |letter| ACCESS.iter().find(|(name, _)| *name == letter).map(|(_, bit)| bit);
        let access = access.chars().try_fold(0, |all, letter| Some(all | bit(letter)?))?;
        Some(Self { kind, major: number(major)?, minor: number(minor)?, access })
    }

    /// The conditions, each of which jumps behind the rule unless it holds, and the permission.
    fn instructions(&self) -> Vec<Instruction> {
        let mut body = Vec::new();
        let equal = |register, number| instruction(JUMP_UNLESS_EQUAL, register, 0, 0, number);
        body.extend(self.kind.map(|kind| equal(TYPE, kind)));
        if self.access != ANY_ACCESS {
            // The context is read by now; its register is free.
            body.push(instruction(MOVE_REGISTER, CONTEXT, WANTED, 0, 0));
            body.push(instruction(AND, CONTEXT, 0, 0, ANY_ACCESS & !self.access));
            body.push(equal(CONTEXT, 0));
        }
        body.extend(self.major.map(|major| equal(MAJOR, major)));
        body.extend(self.minor.map(|minor| equal(MINOR, minor)));
        body.extend(returning(1));
        let length = body.len();
        for (index, condition) in body.iter_mut().enumerate().filter(|(_, instruction)| instruction[0] == JUMP_UNLESS_EQUAL) {
            let behind = i16::try_from(length - index - 1).expect("a rule has few instructions").to_ne_bytes();
            condition[2..4].copy_from_slice(&behind);
        }
        body
    }
}

fn returning(value: i32) -> [Instruction; 2] {
    [instruction(MOVE, RESULT, 0, 0, value), instruction(EXIT, 0, 0, 0, 0)]
}

fn program<'a>(rules: impl Iterator<Item = &'a str>) -> io::Result<Vec<Instruction>> {
    let mut program = vec![
        instruction(LOAD_U32, TYPE, CONTEXT, 0, 0),
        instruction(AND, TYPE, 0, 0, 0xffff),
        instruction(LOAD_U32, WANTED, CONTEXT, 0, 0),
        instruction(SHIFT_RIGHT, WANTED, 0, 0, 16),
        instruction(LOAD_U32, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_U32, MINOR, CONTEXT, 8, 0),
    ];
    for text in rules {
        let rule = Rule::parse(text).ok_or_else(|| io::Error::other(format!("{text:?} is no device rule")))?;
        program.extend(rule.instructions());
    }
    program.extend(returning(0));
    Ok(program)
}

/// Allows the members of the cgroup at `dir` these devices and no others.
pub(super) fn allow<'a>(dir: &Path, rules: impl Iterator<Item = &'a str>) -> io::Result<()> {
    let program = bpf::load_device_program(&program(rules)?)?;
    bpf::attach_device_program(File::open(dir)?.as_fd(), program.as_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_v1_writes_them() {
        let rule = |kind, major, minor, access| Some(Rule { kind, major, minor, access });
        assert_eq!(Rule::parse("c 1:3 rwm"), rule(Some(CHAR), Some(1), Some(3), 7));
        assert_eq!(Rule::parse("b *:* m"), rule(Some(BLOCK), None, None, 1));
        assert_eq!(Rule::parse("a *:* rw"), rule(None, None, None, 6));
        for wrong in ["", "c", "c 1 rwm", "x 1:2 r", "c 1:x r", "c 1:2 q"] {
            assert_eq!(Rule::parse(wrong), None, "{wrong:?}");
        }
    }

    /// What the program says, by a few lines that do what the kernel does.
    fn decides(program: &[Instruction], kind: i32, access: i32, major: i32, minor: i32) -> i32 {
        let context = [access << 16 | kind, major, minor];
        let (mut registers, mut at) = ([0; 6], 0);
        loop {
            let [code, registers_of, low, high, number @ ..] = program[at];
            let (to, from) = (usize::from(registers_of & 15), usize::from(registers_of >> 4));
            let (offset, number) = (i16::from_ne_bytes([low, high]), i32::from_ne_bytes(number));
            at += 1;
            match code {
                LOAD_U32 => registers[to] = context[usize::try_from(offset).unwrap() / 4],
                AND => registers[to] &= number,
                SHIFT_RIGHT => registers[to] >>= number,
                MOVE_REGISTER => registers[to] = registers[from],
                MOVE => registers[to] = number,
                JUMP_UNLESS_EQUAL if registers[to] != number => at += usize::try_from(offset).unwrap(),
                JUMP_UNLESS_EQUAL => {}
                EXIT => return registers[0],
                other => panic!("code {other:x}"),
            }
        }
    }

    #[test]
    fn what_no_rule_allows_is_denied() {
        let program = program(["c *:* m", "c 1:3 rwm", "b 8:* r", "c 136:* rw"].into_iter()).unwrap();
        let (mknod, read, write) = (1, 2, 4);
        for (kind, access, major, minor, allowed) in [
            (CHAR, mknod, 9, 9, 1),
            (BLOCK, mknod, 9, 9, 0),
            (CHAR, read | write, 1, 3, 1),
            (CHAR, read, 1, 1, 0),
            (BLOCK, read, 1, 3, 0),
            (BLOCK, read, 8, 77, 1),
            (BLOCK, read | write, 8, 77, 0),
            (CHAR, write, 136, 5, 1),
            (CHAR, write | mknod, 136, 5, 0),
        ] {
            assert_eq!(decides(&program, kind, access, major, minor), allowed, "{kind} {access} {major}:{minor}");
        }
    }
}
