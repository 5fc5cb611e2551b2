//! A YAML or JSON document as a tree in which every key and value knows its place, so that a problem found much
//! later (a port used twice) still names line and column.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::path::Step;

/// Longest input read, in bytes. A manifest of Kubernetes is at most 1.5 MiB (etcd's limit); a stream holds many.
pub(super) const MAX_INPUT: usize = 32 << 20;

/// Line and column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Position {
    pub(super) line: u64,
    pub(super) column: u64,
}

/// One value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) value: Value,
}

/// What a [`Node`] holds.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Unsigned(u64),
    Float(f64),
    String(String),
    Seq(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a map with its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: Position,
    pub(super) node: Node,
}

/// Why a text is no document: the place and the parser's words.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) at: Position,
    pub(super) message: String,
}

/// All documents of a text; empty ones are left out.
pub(super) fn documents(text: &str) -> Result<Vec<Node>, SyntaxError> {
    if text.len() > MAX_INPUT {
        let message = format!("the input has {} bytes, at most {MAX_INPUT} are read", text.len());
        return Err(SyntaxError { at: Position::default(), message });
    }
    // The defaults bound nodes, depth and how often aliases are expanded; text that aliases repeat counts each time. Octal as in `defaultMode: 0644` is YAML 1.1, which is
    // what Kubernetes reads. Of its booleans (`yes`, `off`, `y`) only boolean fields take the words: an environment
    // variable named Y is no mistake.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_total_scalar_bytes: MAX_INPUT,
        },
        with_snippet: false,
        emit_comments: false,
        legacy_octal_numbers: true,
        strict_booleans: true,
    };
    serde_saphyr::from_multiple_with_options::<Node>(text, options).map_err(|error| SyntaxError {
        at: error.location().map(Position::from).unwrap_or_default(),
        message: message_of(&error),
    })
}

/// The parser's words without the place, which [`SyntaxError`] has, and without advice to programmers.
fn message_of(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or(&text);
    let text = text.split(", set DuplicateKeyPolicy").next().unwrap_or(text).trim_end();
    match text.strip_prefix("budget breached: ") {
        Some(limit) => format!("the document is too large, or its aliases expand too far ({limit})"),
        // It may quote a scalar whole.
        None => shortened_to(text, 500),
    }
}

impl From<serde_saphyr::Location> for Position {
    fn from(at: serde_saphyr::Location) -> Self {
        Self { line: at.line(), column: at.column() }
    }
}

impl Node {
    /// The value of a key, when this is a map that has it and it is not null.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node).filter(|node| !matches!(node.value, Value::Null))
    }

    /// The text of a key's value.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// Where a path leads, or where its nearest existing ancestor is.
    pub(super) fn locate(&self, steps: &[Step]) -> Position {
        let mut node = self;
        let mut at = self.at;
        for step in steps {
            match (step, &node.value) {
                (Step::Key(key), Value::Map(_)) => {
                    let Some(entry) = node.entry(key) else { return at };
                    // A block map starts on the line below its key: the key is the better place to point at.
                    at = match entry.node.value {
                        Value::Map(_) | Value::Seq(_) | Value::Null => entry.at,
                        _ => entry.node.at,
                    };
                    node = &entry.node;
                }
                (Step::Index(index), Value::Seq(items)) => {
                    let Some(item) = items.get(*index) else { return at };
                    (node, at) = (item, item.at);
                }
                _ => return at,
            }
        }
        at
    }

    /// Where a path leads; `None` when it leads nowhere.
    pub(super) fn find(&self, steps: &[Step]) -> Option<&Node> {
        steps.iter().try_fold(self, |node, step| match (step, &node.value) {
            (Step::Key(key), Value::Map(_)) => node.entry(key).map(|entry| &entry.node),
            (Step::Index(index), Value::Seq(items)) => items.get(*index),
            _ => None,
        })
    }

    /// About the bytes it takes in memory.
    pub(super) fn weight(&self) -> usize {
        size_of::<Self>()
            + match &self.value {
                Value::String(text) => text.len(),
                Value::Seq(items) => items.iter().map(Self::weight).sum(),
                Value::Map(entries) => entries.iter().map(|entry| entry.key.len() + entry.node.weight()).sum(),
                _ => 0,
            }
    }

    /// True for null, `{}` and `[]`.
    pub(super) fn is_empty(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::Seq(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
            _ => false,
        }
    }
}

impl Value {
    /// The value in words, for messages.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Bool(value) => format!("the boolean {value}"),
            Self::Int(value) => format!("the number {value}"),
            Self::Unsigned(value) => format!("the number {value}"),
            Self::Float(value) => format!("the number {value}"),
            Self::String(value) => format!("the string {:?}", shortened(value)),
            Self::Seq(_) => "a list".to_owned(),
            Self::Map(_) => "a map".to_owned(),
        }
    }

    /// A scalar as it would stand in a string.
    pub(super) fn scalar_text(&self) -> Option<String> {
        match self {
            Self::Bool(value) => Some(value.to_string()),
            Self::Int(value) => Some(value.to_string()),
            Self::Unsigned(value) => Some(value.to_string()),
            Self::Float(value) => Some(value.to_string()),
            Self::String(value) => Some(value.clone()),
            Self::Null | Self::Seq(_) | Self::Map(_) => None,
        }
    }
}

/// At most 40 characters of a text, so that a message stays a line.
pub(super) fn shortened(text: &str) -> String {
    shortened_to(text, 40)
}

/// At most so many characters of a text.
pub(super) fn shortened_to(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { at: spanned.referenced.into(), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Unsigned(value), Value::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Node>()? {
            items.push(item);
        }
        Ok(Value::Seq(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        // As a string: `n: 1` is a label named n, not a boolean.
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            entries.push(Entry { key: key.value, at: key.referenced.into(), node: map.next_value()? });
        }
        Ok(Value::Map(entries))
    }
}
