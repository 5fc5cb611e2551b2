//! From words to arguments: tilde, parameters, commands, arithmetic, then field splitting, then file names (POSIX 2.6).

use brush_parser::ast::Word;
use brush_parser::word::{self, Parameter, ParameterExpr, ParameterTestType, SpecialParameter, SubstringMatchKind, TildeExpr, WordPiece, WordPieceWithSource};

use super::pattern;
use super::state::{Run, Shell, grammar};

/// A stretch of an expanded word.
#[derive(Debug, Clone)]
enum Part {
    Text {
        text: String,
        /// Stands for itself in patterns.
        quoted: bool,
        /// From an expansion outside quotes: split at IFS.
        split: bool,
    },
    /// The border between two positional parameters of `$@`.
    Border,
}

impl Part {
    fn literal(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), quoted: false, split: false }
    }
    fn quoted(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), quoted: true, split: false }
    }
    fn expanded(text: impl Into<String>, in_quotes: bool) -> Self {
        Self::Text { text: text.into(), quoted: in_quotes, split: !in_quotes }
    }
}

/// A field: its stretches and whether each is quoted.
type Field = Vec<(String, bool)>;

impl Shell {
    /// Expands words to fields.
    pub(crate) fn fields<'a>(&mut self, words: impl IntoIterator<Item = &'a Word>) -> Run<Vec<String>> {
        let mut fields = Vec::new();
        for word in words {
            let parts = self.parts(&word.value, false)?;
            for field in self.split(parts) {
                self.file_names(&field, &mut fields);
            }
        }
        Ok(fields)
    }

    /// Expands a word that stays one: an assignment's value, a redirection's target.
    pub(crate) fn single(&mut self, text: &str) -> Run<String> {
        let parts = self.parts(text, false)?;
        Ok(join(parts, |text, _| text))
    }

    /// As [`Self::single`], with tildes after colons as well (`PATH=~/bin:~/sbin`).
    pub(crate) fn assigned(&mut self, text: &str) -> Run<String> {
        let options = brush_parser::ParserOptions { tilde_expansion_after_colon: true, ..grammar() };
        let parts = match word::parse(text, &options) {
            Ok(pieces) => self.pieces(&pieces, false)?,
            Err(error) => return Err(self.error(&format!("{text}: {error}"))),
        };
        Ok(join(parts, |text, _| text))
    }

    /// Expands a word to a pattern, quoted characters with a backslash.
    pub(crate) fn pattern(&mut self, text: &str) -> Run<String> {
        let parts = self.parts(text, false)?;
        Ok(join(parts, |text, quoted| if quoted { pattern::escape(&text) } else { text }))
    }

    /// Expands a here-document: as between double quotes, but `"` is itself.
    pub(crate) fn here_document(&mut self, text: &str) -> Run<String> {
        let parts = match word::parse_heredoc(text, &grammar()) {
            Ok(pieces) => self.pieces(&pieces, true)?,
            Err(error) => return Err(self.error(&format!("here-document: {error}"))),
        };
        Ok(join(parts, |text, _| text))
    }

    fn parts(&mut self, text: &str, in_quotes: bool) -> Run<Vec<Part>> {
        // Most words are plain; the grammar is slow beside a look at the bytes.
        if !in_quotes && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-,:+@%*?=[]!^#".contains(&b)) {
            return Ok(vec![Part::literal(text)]);
        }
        match word::parse(text, &grammar()) {
            Ok(pieces) => self.pieces(&pieces, in_quotes),
            Err(error) => Err(self.error(&format!("{text}: {error}"))),
        }
    }

    fn pieces(&mut self, pieces: &[WordPieceWithSource], in_quotes: bool) -> Run<Vec<Part>> {
        let mut parts = Vec::new();
        for piece in pieces {
            match &piece.piece {
                WordPiece::Text(text) => parts.push(if in_quotes { Part::quoted(text) } else { Part::literal(text) }),
                WordPiece::SingleQuotedText(text) => parts.push(Part::quoted(text)),
                WordPiece::AnsiCQuotedText(text) => parts.push(Part::quoted(super::builtins::escapes(text).0)),
                WordPiece::EscapeSequence(text) => {
                    let text = text.strip_prefix('\\').unwrap_or(text);
                    // A backslash before a line's end joins the lines.
                    parts.push(Part::quoted(if text == "\n" { "" } else { text }));
                }
                WordPiece::DoubleQuotedSequence(inner) | WordPiece::GettextDoubleQuotedSequence(inner) => {
                    let inner = self.pieces(inner, true)?;
                    // "" is an empty field, but "$@" without parameters is none.
                    if inner.is_empty() && !has_all_parameters(piece) {
                        parts.push(Part::quoted(""));
                    }
                    parts.extend(inner);
                }
                WordPiece::TildeExpansion(tilde) => parts.push(Part::quoted(self.tilde(tilde))),
                WordPiece::ParameterExpansion(expr) => self.parameter_expansion(expr, in_quotes, &mut parts)?,
                WordPiece::CommandSubstitution(script) => parts.push(Part::expanded(self.substitute(script)?, in_quotes)),
                WordPiece::BackquotedCommandSubstitution(script) => {
                    parts.push(Part::expanded(self.substitute(&unbackquote(script, in_quotes))?, in_quotes));
                }
                WordPiece::ArithmeticExpression(expr) => {
                    let text = self.here_document(&expr.value)?;
                    parts.push(Part::expanded(self.arithmetic(&text)?.to_string(), in_quotes));
                }
            }
        }
        Ok(parts)
    }

    fn tilde(&self, tilde: &TildeExpr) -> String {
        match tilde {
            TildeExpr::Home => self.get("HOME").unwrap_or("/").to_owned(),
            TildeExpr::UserHome(user) => crate::tool::home_of(user).unwrap_or_else(|| format!("~{user}")),
            TildeExpr::WorkingDir => self.get("PWD").unwrap_or(".").to_owned(),
            TildeExpr::OldWorkingDir => self.get("OLDPWD").unwrap_or("~-").to_owned(),
            TildeExpr::NthDirFromTopOfDirStack { n, .. } => format!("~{n}"),
            TildeExpr::NthDirFromBottomOfDirStack { n } => format!("~-{n}"),
        }
    }

    /// The value of a parameter; `None` when unset.
    fn value(&mut self, parameter: &Parameter) -> Run<Option<String>> {
        Ok(match parameter {
            Parameter::Positional(0) => Some(self.name.clone()),
            Parameter::Positional(n) => self.positional.get(*n as usize - 1).cloned(),
            Parameter::Named(name) => self.get(name).map(str::to_owned),
            Parameter::Special(special) => match special {
                SpecialParameter::AllPositionalParameters { concatenate } => {
                    let separator = if *concatenate { self.separator() } else { " ".to_owned() };
                    (!self.positional.is_empty()).then(|| self.positional.join(&separator))
                }
                SpecialParameter::PositionalParameterCount => Some(self.positional.len().to_string()),
                SpecialParameter::LastExitStatus => Some(self.status.to_string()),
                SpecialParameter::CurrentOptionFlags => Some(self.flags()),
                SpecialParameter::ProcessId => Some(self.pid.to_string()),
                SpecialParameter::LastBackgroundProcessId => self.last_background.map(|pid| pid.to_string()),
                SpecialParameter::ShellName => Some(self.name.clone()),
            },
            Parameter::NamedWithIndex { name, .. } | Parameter::NamedWithAllIndices { name, .. } => {
                return Err(self.error(&format!("{name}: this shell has no arrays")));
            }
        })
    }

    /// What joins the parameters of `$*`: the first character of IFS.
    fn separator(&self) -> String {
        self.get("IFS").map_or_else(|| " ".to_owned(), |ifs| ifs.chars().take(1).collect())
    }

    fn flags(&mut self) -> String {
        "aefinuvxCsc".chars().filter(|letter| self.options.letter(*letter).is_some_and(|set| *set)).collect()
    }

    /// The value where one must be: empty for what is unset, an error with `set -u`.
    fn needed(&mut self, parameter: &Parameter) -> Run<String> {
        match self.value(parameter)? {
            Some(value) => Ok(value),
            None if self.options.nounset && !matches!(parameter, Parameter::Special(SpecialParameter::AllPositionalParameters { .. })) => {
                Err(self.error(&format!("{}: parameter not set", name_of(parameter))))
            }
            None => Ok(String::new()),
        }
    }

    fn parameter_expansion(&mut self, expr: &ParameterExpr, in_quotes: bool, parts: &mut Vec<Part>) -> Run {
        use ParameterExpr as E;
        if let E::Parameter { parameter: Parameter::Special(SpecialParameter::AllPositionalParameters { concatenate }), .. } = expr
            && !(*concatenate && in_quotes)
        {
            for (n, value) in self.positional.iter().enumerate() {
                if n > 0 {
                    parts.push(Part::Border);
                }
                parts.push(Part::expanded(value, in_quotes));
            }
            return Ok(());
        }
        let text = match expr {
            E::Parameter { parameter, indirect } => {
                let value = self.needed(parameter)?;
                if *indirect { self.get(&value).unwrap_or_default().to_owned() } else { value }
            }
            E::UseDefaultValues { parameter, test_type, default_value, .. } => match self.tested_value(parameter, test_type)? {
                Some(value) => value,
                None => return self.operand(default_value.as_deref(), in_quotes, parts),
            },
            E::UseAlternativeValue { parameter, test_type, alternative_value, .. } => match self.tested_value(parameter, test_type)? {
                Some(_) => return self.operand(alternative_value.as_deref(), in_quotes, parts),
                None => String::new(),
            },
            E::AssignDefaultValues { parameter, test_type, default_value, .. } => match self.tested_value(parameter, test_type)? {
                Some(value) => value,
                None => self.assign_default(parameter, default_value.as_deref(), in_quotes)?,
            },
            E::IndicateErrorIfNullOrUnset { parameter, test_type, error_message, .. } => match self.tested_value(parameter, test_type)? {
                Some(value) => value,
                None => {
                    let message = match error_message.as_deref() {
                        Some(message) if !message.is_empty() => self.single(message)?,
                        _ => "parameter not set or null".to_owned(),
                    };
                    return Err(self.error(&format!("{}: {message}", name_of(parameter))));
                }
            },
            E::ParameterLength { parameter: Parameter::Special(SpecialParameter::AllPositionalParameters { .. }), .. } => {
                self.positional.len().to_string()
            }
            E::ParameterLength { parameter, .. } => self.needed(parameter)?.chars().count().to_string(),
            E::RemoveSmallestSuffixPattern { parameter, pattern, .. } => self.trimmed(parameter, pattern.as_deref(), Trim::SHORT_SUFFIX)?,
            E::RemoveLargestSuffixPattern { parameter, pattern, .. } => self.trimmed(parameter, pattern.as_deref(), Trim::LONG_SUFFIX)?,
            E::RemoveSmallestPrefixPattern { parameter, pattern, .. } => self.trimmed(parameter, pattern.as_deref(), Trim::SHORT_PREFIX)?,
            E::RemoveLargestPrefixPattern { parameter, pattern, .. } => self.trimmed(parameter, pattern.as_deref(), Trim::LONG_PREFIX)?,
            E::Substring { parameter, offset, length, .. } => self.substring(parameter, &offset.value, length.as_ref().map(|l| l.value.as_str()))?,
            E::ReplaceSubstring { parameter, pattern, replacement, match_kind, .. } => {
                let value = self.needed(parameter)?;
                let pattern = self.pattern(pattern)?;
                let replacement = match replacement {
                    Some(text) => self.single(text)?,
                    None => String::new(),
                };
                replace(&value, &pattern, &replacement, match_kind)
            }
            E::UppercasePattern { parameter, .. } => self.needed(parameter)?.to_uppercase(),
            E::LowercasePattern { parameter, .. } => self.needed(parameter)?.to_lowercase(),
            E::UppercaseFirstChar { .. } | E::LowercaseFirstChar { .. } | E::Transform { .. } | E::VariableNames { .. } | E::MemberKeys { .. } => {
                return Err(self.error("bad substitution: not in this shell"));
            }
        };
        parts.push(Part::expanded(text, in_quotes));
        Ok(())
    }

    /// The value if it passes the test of `${x-}` or `${x:-}`.
    fn tested_value(&mut self, parameter: &Parameter, test: &ParameterTestType) -> Run<Option<String>> {
        let value = self.value(parameter)?;
        Ok(match test {
            ParameterTestType::UnsetOrNull => value.filter(|value| !value.is_empty()),
            ParameterTestType::Unset => value,
        })
    }

    fn operand(&mut self, text: Option<&str>, in_quotes: bool, parts: &mut Vec<Part>) -> Run {
        let Some(text) = text else { return Ok(()) };
        if in_quotes {
            // Quotes inside the operand of a quoted expansion are still quotes ("${x:-"a b"}"), but ' is a character.
            parts.push(Part::quoted(self.single(&format!("\"{}\"", text.replace('"', "")))?));
            return Ok(());
        }
        for part in self.parts(text, false)? {
            parts.push(match part {
                Part::Text { text, quoted: false, .. } => Part::expanded(text, false),
                other => other,
            });
        }
        Ok(())
    }

    fn assign_default(&mut self, parameter: &Parameter, text: Option<&str>, in_quotes: bool) -> Run<String> {
        let Parameter::Named(name) = parameter else {
            return Err(self.error(&format!("{}: cannot assign in this way", name_of(parameter))));
        };
        let mut parts = Vec::new();
        self.operand(text, in_quotes, &mut parts)?;
        let value = join(parts, |text, _| text);
        self.set(name, value.clone())?;
        Ok(value)
    }

    fn trimmed(&mut self, parameter: &Parameter, pattern: Option<&str>, trim: Trim) -> Run<String> {
        let value = self.needed(parameter)?;
        let pattern = self.pattern(pattern.unwrap_or_default())?;
        Ok(trim.apply(&value, &pattern).to_owned())
    }

    fn substring(&mut self, parameter: &Parameter, offset: &str, length: Option<&str>) -> Run<String> {
        let value: Vec<char> = self.needed(parameter)?.chars().collect();
        let count = i64::try_from(value.len()).unwrap_or(i64::MAX);
        let offset = self.here_document(offset)?;
        let mut from = self.arithmetic(&offset)?;
        if from < 0 {
            from += count;
        }
        let to = match length {
            None => count,
            Some(length) => {
                let length = self.here_document(length)?;
                let length = self.arithmetic(&length)?;
                if length < 0 { count + length } else { from.saturating_add(length) }
            }
        };
        let inside = |at: i64| usize::try_from(at.clamp(0, count)).unwrap_or(0);
        Ok(value[inside(from).min(inside(to))..inside(to)].iter().collect())
    }

    /// Cuts parts into fields at the characters of IFS (POSIX 2.6.5).
    fn split(&self, parts: Vec<Part>) -> Vec<Field> {
        let ifs = self.get("IFS").unwrap_or(" \t\n");
        let mut fields: Vec<Field> = Vec::new();
        let mut field: Option<Field> = None;
        // White space just ended a field: a separator that follows belongs to it.
        let mut ended_by_space = false;
        for part in parts {
            match part {
                Part::Border => fields.extend(field.take()),
                Part::Text { text, quoted, split: false } => {
                    if quoted || !text.is_empty() {
                        field.get_or_insert_default().push((text, quoted));
                        ended_by_space = false;
                    }
                }
                Part::Text { text, quoted, .. } => {
                    let mut run = String::new();
                    for c in text.chars() {
                        if !ifs.contains(c) {
                            run.push(c);
                            ended_by_space = false;
                            continue;
                        }
                        if !run.is_empty() {
                            field.get_or_insert_default().push((std::mem::take(&mut run), quoted));
                        }
                        let space = matches!(c, ' ' | '\t' | '\n');
                        match field.take() {
                            Some(done) => {
                                fields.push(done);
                                ended_by_space = space;
                            }
                            None if space => {}
                            None if ended_by_space => ended_by_space = false,
                            None => fields.push(Field::new()),
                        }
                    }
                    if !run.is_empty() {
                        field.get_or_insert_default().push((run, quoted));
                    }
                }
            }
        }
        fields.extend(field);
        fields
    }

    /// Adds the file names a field matches, or the field itself.
    fn file_names(&self, field: &Field, into: &mut Vec<String>) {
        let literal = || field.iter().map(|(text, _)| text.as_str()).collect();
        if self.options.noglob || !field.iter().any(|(text, quoted)| !quoted && text.contains(['*', '?', '['])) {
            into.push(literal());
            return;
        }
        let pattern: String = field.iter().map(|(text, quoted)| if *quoted { pattern::escape(text) } else { text.clone() }).collect();
        let found = if pattern::has_meta(&pattern) { pattern::paths(&pattern) } else { Vec::new() };
        if found.is_empty() { into.push(literal()) } else { into.extend(found) }
    }
}

/// Which end to trim, and how much of it.
#[derive(Clone, Copy)]
struct Trim {
    prefix: bool,
    longest: bool,
}

impl Trim {
    const SHORT_SUFFIX: Self = Self { prefix: false, longest: false };
    const LONG_SUFFIX: Self = Self { prefix: false, longest: true };
    const SHORT_PREFIX: Self = Self { prefix: true, longest: false };
    const LONG_PREFIX: Self = Self { prefix: true, longest: true };

    fn apply<'a>(self, value: &'a str, pattern: &str) -> &'a str {
        let mut cuts: Vec<usize> = value.char_indices().map(|(at, _)| at).chain([value.len()]).collect();
        if self.prefix == self.longest {
            cuts.reverse();
        }
        for cut in cuts {
            let (head, tail) = value.split_at(cut);
            match self.prefix {
                true if pattern::matches(pattern, head) => return tail,
                false if pattern::matches(pattern, tail) => return head,
                _ => {}
            }
        }
        value
    }
}

fn replace(value: &str, pattern: &str, replacement: &str, kind: &SubstringMatchKind) -> String {
    let bounds: Vec<usize> = value.char_indices().map(|(at, _)| at).chain([value.len()]).collect();
    let mut out = String::new();
    let mut from = 0;
    let mut at = 0;
    while at < bounds.len() {
        let longest = (at + 1..bounds.len()).rev().find(|end| {
            pattern::matches(pattern, &value[bounds[at]..bounds[*end]]) && (!matches!(kind, SubstringMatchKind::Suffix) || *end == bounds.len() - 1)
        });
        if let Some(end) = longest {
            out.push_str(&value[from..bounds[at]]);
            out.push_str(replacement);
            from = bounds[end];
            at = end;
            if !matches!(kind, SubstringMatchKind::Anywhere) {
                break;
            }
        } else {
            at += 1;
        }
        if matches!(kind, SubstringMatchKind::Prefix) {
            break;
        }
    }
    out.push_str(&value[from..]);
    out
}

fn join(parts: Vec<Part>, mut each: impl FnMut(String, bool) -> String) -> String {
    parts
        .into_iter()
        .map(|part| match part {
            Part::Text { text, quoted, .. } => each(text, quoted),
            Part::Border => " ".to_owned(),
        })
        .collect()
}

fn has_all_parameters(piece: &WordPieceWithSource) -> bool {
    let WordPiece::DoubleQuotedSequence(inner) = &piece.piece else { return false };
    inner.iter().any(|inner| {
        matches!(&inner.piece, WordPiece::ParameterExpansion(ParameterExpr::Parameter {
            parameter: Parameter::Special(SpecialParameter::AllPositionalParameters { concatenate: false }), ..
        }))
    })
}

fn name_of(parameter: &Parameter) -> String {
    match parameter {
        Parameter::Named(name) => name.clone(),
        Parameter::Positional(n) => n.to_string(),
        other => other.to_string(),
    }
}

/// Between backquotes, `\` quotes `$`, a backquote and itself, and `"` inside double quotes.
fn unbackquote(script: &str, in_quotes: bool) -> String {
    let mut chars = script.chars().peekable();
    let mut out = String::new();
    while let Some(c) = chars.next() {
        if c == '\\' && chars.peek().is_some_and(|next| matches!(next, '$' | '`' | '\\') || (in_quotes && *next == '"')) {
            out.extend(chars.next());
        } else {
            out.push(c);
        }
    }
    out
}
