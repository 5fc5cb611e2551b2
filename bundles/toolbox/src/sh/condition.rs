//! `test`, `[` and `[[ ]]`.

use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use brush_parser::ast::{BinaryPredicate, ExtendedTestExpr as Expr};
use nix::unistd::AccessFlags;

use super::pattern;
use super::state::{Run, Shell};

impl Shell {
    /// `test` and `[`: 0 when it holds, 1 when not, 2 when it makes no sense.
    pub(crate) fn test(&mut self, args: &[String]) -> i32 {
        let mut words: Vec<&str> = args[1..].iter().map(String::as_str).collect();
        if args[0] == "[" && words.pop() != Some("]") {
            self.complain("[: missing ]");
            return 2;
        }
        match Test::whole(&words) {
            Ok(holds) => i32::from(!holds),
            Err(why) => {
                self.complain(&format!("{}: {why}", args[0]));
                2
            }
        }
    }

    /// `[[ ]]`.
    pub(crate) fn extended_test(&mut self, expr: &Expr) -> Run {
        self.status = i32::from(!self.holds(expr)?);
        Ok(())
    }

    fn holds(&mut self, expr: &Expr) -> Run<bool> {
        Ok(match expr {
            Expr::And(left, right) => self.holds(left)? && self.holds(right)?,
            Expr::Or(left, right) => self.holds(left)? || self.holds(right)?,
            Expr::Not(inner) => !self.holds(inner)?,
            Expr::Parenthesized(inner) => self.holds(inner)?,
            Expr::UnaryTest(predicate, word) => {
                let value = self.single(&word.value)?;
                self.test(&["test".to_owned(), predicate.to_string(), value]) == 0
            }
            Expr::BinaryTest(predicate, left, right) => {
                let value = self.single(&left.value)?;
                match predicate {
                    BinaryPredicate::StringExactlyMatchesPattern => pattern::matches(&self.pattern(&right.value)?, &value),
                    BinaryPredicate::StringDoesNotExactlyMatchPattern => !pattern::matches(&self.pattern(&right.value)?, &value),
                    BinaryPredicate::StringExactlyMatchesString => value == self.single(&right.value)?,
                    BinaryPredicate::StringDoesNotExactlyMatchString => value != self.single(&right.value)?,
                    BinaryPredicate::LeftSortsBeforeRight => value < self.single(&right.value)?,
                    BinaryPredicate::LeftSortsAfterRight => value > self.single(&right.value)?,
                    BinaryPredicate::StringContainsSubstring => value.contains(&self.single(&right.value)?),
                    BinaryPredicate::StringMatchesRegex => return Err(self.error("[[ =~ ]]: not in this shell")),
                    file_or_number => {
                        let other = self.single(&right.value)?;
                        self.test(&["test".to_owned(), value, file_or_number.to_string(), other]) == 0
                    }
                }
            }
        })
    }
}

/// The words of a `test` not looked at yet.
struct Test<'a> {
    words: &'a [&'a str],
}

impl<'a> Test<'a> {
    /// POSIX decides by the number of arguments, so that operands which look like operators are operands.
    fn whole(words: &'a [&'a str]) -> Result<bool, String> {
        match words {
            [] => Ok(false),
            [word] => Ok(!word.is_empty()),
            ["!", rest @ ..] if rest.len() < 4 => Self::whole(rest).map(|holds| !holds),
            [left, operator, right] if BINARY.contains(operator) => binary(left, operator, right),
            ["(", inner, ")"] => Ok(!inner.is_empty()),
            ["(", inner @ .., ")"] if words.len() == 4 => Self::whole(inner),
            _ => {
                let mut test = Self { words };
                let holds = test.or()?;
                match test.words {
                    [] => Ok(holds),
                    [extra, ..] => Err(format!("{extra}: unexpected")),
                }
            }
        }
    }

    fn eat(&mut self, word: &str) -> bool {
        let found = self.words.first() == Some(&word);
        if found {
            self.words = &self.words[1..];
        }
        found
    }

    fn or(&mut self) -> Result<bool, String> {
        let mut holds = self.and()?;
        while self.eat("-o") {
            holds |= self.and()?;
        }
        Ok(holds)
    }

    fn and(&mut self) -> Result<bool, String> {
        let mut holds = self.not()?;
        while self.eat("-a") {
            holds &= self.not()?;
        }
        Ok(holds)
    }

    fn not(&mut self) -> Result<bool, String> {
        if let [left, operator, right, rest @ ..] = self.words
            && BINARY.contains(operator)
        {
            self.words = rest;
            return binary(left, operator, right);
        }
        if self.eat("!") {
            return self.not().map(|holds| !holds);
        }
        if self.eat("(") {
            let holds = self.or()?;
            return if self.eat(")") { Ok(holds) } else { Err("missing )".to_owned()) };
        }
        match self.words {
            [operator, operand, rest @ ..] if operator.len() == 2 && operator.starts_with('-') && !matches!(*operand, "-a" | "-o" | ")") => {
                self.words = rest;
                unary(operator, operand)
            }
            [word, rest @ ..] => {
                self.words = rest;
                Ok(!word.is_empty())
            }
            [] => Err("argument expected".to_owned()),
        }
    }
}

const BINARY: &[&str] = &["=", "==", "!=", "<", ">", "-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-nt", "-ot", "-ef"];

fn binary(left: &str, operator: &str, right: &str) -> Result<bool, String> {
    let number = |text: &str| text.trim().parse::<i64>().map_err(|_| format!("{text}: not a number"));
    let changed = |path: &str| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    Ok(match operator {
        "=" | "==" => left == right,
        "!=" => left != right,
        "<" => left < right,
        ">" => left > right,
        "-nt" => changed(left) > changed(right),
        "-ot" => changed(left) < changed(right),
        "-ef" => match (fs::metadata(left), fs::metadata(right)) {
            (Ok(left), Ok(right)) => (left.dev(), left.ino()) == (right.dev(), right.ino()),
            _ => false,
        },
        _ => {
            let order = number(left)?.cmp(&number(right)?);
            match operator {
                "-eq" => order.is_eq(),
                "-ne" => order.is_ne(),
                "-lt" => order.is_lt(),
                "-le" => order.is_le(),
                "-gt" => order.is_gt(),
                _ => order.is_ge(),
            }
        }
    })
}

fn unary(operator: &str, operand: &str) -> Result<bool, String> {
    let is = |check: fn(&fs::Metadata) -> bool| fs::metadata(operand).is_ok_and(|meta| check(&meta));
    // As eaccess(3): what counts is the effective user.
    let may = |how| nix::unistd::eaccess(operand, how).is_ok();
    Ok(match operator {
        "-n" => !operand.is_empty(),
        "-z" => operand.is_empty(),
        "-e" | "-a" => fs::metadata(operand).is_ok(),
        "-f" => is(fs::Metadata::is_file),
        "-d" => is(fs::Metadata::is_dir),
        "-s" => is(|meta| meta.len() > 0),
        "-h" | "-L" => fs::symlink_metadata(operand).is_ok_and(|meta| meta.is_symlink()),
        "-b" => is(|meta| meta.file_type().is_block_device()),
        "-c" => is(|meta| meta.file_type().is_char_device()),
        "-p" => is(|meta| meta.file_type().is_fifo()),
        "-S" => is(|meta| meta.file_type().is_socket()),
        "-u" => is(|meta| meta.mode() & 0o4000 != 0),
        "-g" => is(|meta| meta.mode() & 0o2000 != 0),
        "-k" => is(|meta| meta.mode() & 0o1000 != 0),
        "-O" => is(|meta| meta.uid() == nix::unistd::geteuid().as_raw()),
        "-G" => is(|meta| meta.gid() == nix::unistd::getegid().as_raw()),
        "-r" => may(AccessFlags::R_OK),
        "-w" => may(AccessFlags::W_OK),
        "-x" => may(AccessFlags::X_OK),
        "-t" => match operand {
            "0" => std::io::stdin().is_terminal(),
            "1" => std::io::stdout().is_terminal(),
            "2" => std::io::stderr().is_terminal(),
            _ => false,
        },
        _ => return Err(format!("{operator}: unknown operator")),
    })
}
