//! `$((...))`: brush's grammar, evaluated on a shell's variables.

use brush_parser::ast::{ArithmeticExpr as Expr, ArithmeticTarget as Target, BinaryOperator as Op, UnaryAssignmentOperator, UnaryOperator};

use super::state::{Run, Shell};

/// Variables may hold expressions with variables; so deep and no deeper.
const MAX_DEPTH: u32 = 64;

impl Shell {
    /// The value of an expression whose `$` are expanded already.
    pub(crate) fn arithmetic(&mut self, text: &str) -> Run<i64> {
        self.arithmetic_at(text, 0)
    }

    fn arithmetic_at(&mut self, text: &str, depth: u32) -> Run<i64> {
        if depth > MAX_DEPTH {
            return Err(self.error(&format!("arithmetic: {text}: too deep")));
        }
        let text = text.trim();
        if let Ok(number) = text.parse() {
            return Ok(number);
        }
        match brush_parser::arithmetic::parse(text) {
            Ok(expr) => self.eval(&expr, depth),
            Err(_) => Err(self.error(&format!("arithmetic: syntax error in \"{text}\""))),
        }
    }

    fn eval(&mut self, expr: &Expr, depth: u32) -> Run<i64> {
        Ok(match expr {
            Expr::Literal(value) => *value,
            Expr::Reference(target) => self.fetch(target, depth)?,
            Expr::UnaryOp(op, x) => {
                let x = self.eval(x, depth)?;
                match op {
                    UnaryOperator::UnaryPlus => x,
                    UnaryOperator::UnaryMinus => x.wrapping_neg(),
                    UnaryOperator::BitwiseNot => !x,
                    UnaryOperator::LogicalNot => i64::from(x == 0),
                }
            }
            Expr::BinaryOp(Op::LogicalAnd, x, y) => i64::from(self.eval(x, depth)? != 0 && self.eval(y, depth)? != 0),
            Expr::BinaryOp(Op::LogicalOr, x, y) => i64::from(self.eval(x, depth)? != 0 || self.eval(y, depth)? != 0),
            Expr::BinaryOp(op, x, y) => {
                let (x, y) = (self.eval(x, depth)?, self.eval(y, depth)?);
                self.binary(op, x, y)?
            }
            Expr::Conditional(test, yes, no) => {
                let branch = if self.eval(test, depth)? != 0 { yes } else { no };
                self.eval(branch, depth)?
            }
            Expr::Assignment(target, value) => {
                let value = self.eval(value, depth)?;
                self.store(target, value)?
            }
            Expr::BinaryAssignment(op, target, value) => {
                let (old, value) = (self.fetch(target, depth)?, self.eval(value, depth)?);
                let new = self.binary(op, old, value)?;
                self.store(target, new)?
            }
            Expr::UnaryAssignment(op, target) => {
                let old = self.fetch(target, depth)?;
                match op {
                    UnaryAssignmentOperator::PrefixIncrement => self.store(target, old.wrapping_add(1))?,
                    UnaryAssignmentOperator::PrefixDecrement => self.store(target, old.wrapping_sub(1))?,
                    UnaryAssignmentOperator::PostfixIncrement => {
                        self.store(target, old.wrapping_add(1))?;
                        old
                    }
                    UnaryAssignmentOperator::PostfixDecrement => {
                        self.store(target, old.wrapping_sub(1))?;
                        old
                    }
                }
            }
        })
    }

    fn binary(&mut self, op: &Op, x: i64, y: i64) -> Run<i64> {
        let truth = i64::from;
        Ok(match op {
            Op::Divide | Op::Modulo if y == 0 => return Err(self.error("arithmetic: division by zero")),
            Op::Power if y < 0 => return Err(self.error("arithmetic: negative exponent")),
            Op::Power => x.wrapping_pow(u32::try_from(y).unwrap_or(u32::MAX)),
            Op::Multiply => x.wrapping_mul(y),
            Op::Divide => x.wrapping_div(y),
            Op::Modulo => x.wrapping_rem(y),
            Op::Comma => y,
            Op::Add => x.wrapping_add(y),
            Op::Subtract => x.wrapping_sub(y),
            Op::ShiftLeft => x.wrapping_shl(y as u32),
            Op::ShiftRight => x.wrapping_shr(y as u32),
            Op::LessThan => truth(x < y),
            Op::LessThanOrEqualTo => truth(x <= y),
            Op::GreaterThan => truth(x > y),
            Op::GreaterThanOrEqualTo => truth(x >= y),
            Op::Equals => truth(x == y),
            Op::NotEquals => truth(x != y),
            Op::BitwiseAnd => x & y,
            Op::BitwiseXor => x ^ y,
            Op::BitwiseOr => x | y,
            // Evaluated lazily by the caller; here both sides are known.
            Op::LogicalAnd => truth(x != 0 && y != 0),
            Op::LogicalOr => truth(x != 0 || y != 0),
        })
    }

    fn fetch(&mut self, target: &Target, depth: u32) -> Run<i64> {
        let name = self.scalar(target)?;
        match self.get(&name).map(str::to_owned) {
            Some(text) if !text.trim().is_empty() => self.arithmetic_at(&text, depth + 1),
            None if self.options.nounset => Err(self.error(&format!("{name}: parameter not set"))),
            _ => Ok(0),
        }
    }

    fn store(&mut self, target: &Target, value: i64) -> Run<i64> {
        let name = self.scalar(target)?;
        self.set(&name, value.to_string())?;
        Ok(value)
    }

    fn scalar(&mut self, target: &Target) -> Run<String> {
        match target {
            Target::Variable(name) => Ok(name.clone()),
            Target::ArrayElement(name, _) => Err(self.error(&format!("{name}: this shell has no arrays"))),
        }
    }
}
