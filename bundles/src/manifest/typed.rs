//! From the tree to the Kubernetes types: a serde deserializer that notes a wrong type or an unknown field with its
//! place and goes on with a default, so that one run reports them all.
//!
//! The list of known fields is what the types themselves hand to `deserialize_struct`: there is no second list to keep.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::{Error, StringDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::path;
use super::tree::{Node, Position, Value, shortened};

/// Something the types do not allow.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub(super) path: String,
    pub(super) at: Position,
    pub(super) message: String,
    pub(super) unknown_field: bool,
}

/// A node as `T`, with everything that does not fit; `None` when nothing could be made of it at all.
pub(super) fn typed<T: DeserializeOwned>(node: &Node, base: &str) -> (Option<T>, Vec<Finding>) {
    let sink = RefCell::new(Vec::new());
    let typed = T::deserialize(Typed { node, path: base.to_owned(), sink: &sink, context: Context::Field });
    let mut findings = sink.into_inner();
    match typed {
        Ok(typed) => (Some(typed), findings),
        Err(error) => {
            if findings.iter().all(|finding| finding.unknown_field) {
                let message = error.to_string();
                findings.push(Finding { path: base.to_owned(), at: node.at, message, unknown_field: false });
            }
            (None, findings)
        }
    }
}

/// Findings after which nothing is said of what may have been meant.
const MOST_HINTS: usize = 1000;

/// What a value is part of.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Context {
    Field,
    /// A value of a map: null stands for the empty string, as in Go.
    MapValue,
    /// A Quantity: a number is as good as a string.
    Quantity,
}

struct Typed<'a> {
    node: &'a Node,
    path: String,
    sink: &'a RefCell<Vec<Finding>>,
    context: Context,
}

impl Typed<'_> {
    fn note(&self, message: String) {
        let finding = Finding { path: self.path.clone(), at: self.node.at, message, unknown_field: false };
        self.sink.borrow_mut().push(finding);
    }

    fn expected(&self, what: &str) {
        let hint = match (what, self.node.value.scalar_text()) {
            ("a string", Some(text)) => format!("; put it in quotes: {text:?}"),
            ("true or false", Some(text)) if matches!(text.to_lowercase().as_str(), "true" | "false") => "; take the quotes off".to_owned(),
            ("a whole number", Some(text)) if text.parse::<i64>().is_ok() => "; take the quotes off".to_owned(),
            _ => String::new(),
        };
        self.note(format!("expected {what}, found {}{hint}", self.node.value.describe()));
    }

    fn integer(&self, min: i64, max: i64) -> i64 {
        match self.node.value {
            Value::Int(value) if (min..=max).contains(&value) => value,
            Value::Int(_) | Value::Unsigned(_) => {
                self.note(format!("{} is out of range: {min} to {max}", self.node.value.describe()));
                0
            }
            _ => {
                self.expected("a whole number");
                0
            }
        }
    }

    /// Runs a visitor on a value; its own refusal (a time, base64) is noted with the place and ends the document.
    fn visited<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.inspect_err(|error| {
            if self.sink.borrow().iter().all(|finding| finding.unknown_field) {
                self.note(error.to_string());
            }
        })
    }

    fn unknown_fields(&self, known: &'static [&'static str]) {
        let Value::Map(entries) = &self.node.value else { return };
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            // Looking for what was meant costs more than all else that is done with a field.
            let near = (self.sink.borrow().len() < MOST_HINTS).then(|| nearest(&entry.key, known)).flatten();
            let hint = near.map_or(String::new(), |name| format!(", did you mean `{name}`?"));
            self.sink.borrow_mut().push(Finding {
                path: path::field(&self.path, &shortened(&entry.key)),
                at: entry.at,
                message: format!("unknown field{hint}"),
                unknown_field: true,
            });
        }
    }
}

/// The known name nearest to a mistyped one, when it is near enough to be meant.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    if name.len() > 64 {
        return None; // no typing error; and the distance costs the product of the lengths
    }
    let allowed = (name.chars().count() / 3).clamp(1, 3);
    let lower = name.to_lowercase().replace(['_', '-'], "");
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), *candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let value = self.integer(<$type>::MIN.into(), <$type>::MAX.into());
            self.visited(visitor.visit_i64(value))
        }
    )*};
}

impl<'de> Deserializer<'de> for Typed<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.context == Context::Quantity {
            return self.deserialize_string(visitor);
        }
        match &self.node.value {
            Value::Null => self.visited(visitor.visit_unit()),
            Value::Bool(value) => self.visited(visitor.visit_bool(*value)),
            Value::Int(value) => self.visited(visitor.visit_i64(*value)),
            Value::Unsigned(value) => self.visited(visitor.visit_u64(*value)),
            Value::Float(value) => self.visited(visitor.visit_f64(*value)),
            Value::String(value) => self.visited(visitor.visit_str(value)),
            Value::Seq(_) => self.deserialize_seq(visitor),
            Value::Map(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let value = match &self.node.value {
            Value::Bool(value) => *value,
            // YAML 1.1, which Kubernetes reads.
            Value::String(word) if matches!(word.as_str(), "yes" | "Yes" | "YES" | "on" | "On" | "ON") => true,
            Value::String(word) if matches!(word.as_str(), "no" | "No" | "NO" | "off" | "Off" | "OFF") => false,
            _ => {
                self.expected("true or false");
                false
            }
        };
        self.visited(visitor.visit_bool(value))
    }

    integers!(deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64, deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32);

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let value = self.integer(0, i64::MAX);
        self.visited(visitor.visit_i64(value))
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let value = match self.node.value {
            Value::Float(value) => value,
            #[allow(clippy::cast_precision_loss)] // what a float field means
            Value::Int(value) => value as f64,
            _ => {
                self.expected("a number");
                0.0
            }
        };
        self.visited(visitor.visit_f64(value))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let value = match (&self.node.value, self.context) {
            (Value::String(value), _) => value.clone(),
            (Value::Int(_) | Value::Unsigned(_) | Value::Float(_), Context::Quantity) => {
                self.node.value.scalar_text().unwrap_or_default()
            }
            (Value::Null, Context::MapValue) => String::new(),
            _ => {
                self.expected(if self.context == Context::Quantity { "a quantity such as 500m or 128Mi" } else { "a string" });
                // A quantity that is none would be reported again as such.
                if self.context == Context::Quantity { "0".to_owned() } else { String::new() }
            }
        };
        self.visited(visitor.visit_string(value))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(mut self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        if name == "Quantity" {
            self.context = Context::Quantity;
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let items: &[Node] = match &self.node.value {
            Value::Seq(items) => items,
            _ => {
                self.expected("a list");
                &[]
            }
        };
        let mut access = Items { items: items.iter().enumerate(), path: self.path, sink: self.sink };
        visitor.visit_seq(&mut access)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_entries(visitor, Context::MapValue)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.unknown_fields(fields);
        self.visit_entries(visitor, Context::Field)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { i128 u128 char bytes byte_buf unit_struct tuple tuple_struct enum identifier }
}

impl<'a> Typed<'a> {
    fn visit_entries<'de, V: Visitor<'de>>(self, visitor: V, context: Context) -> Result<V::Value, Error> {
        let entries = match &self.node.value {
            Value::Map(entries) => entries.as_slice(),
            _ => {
                self.expected("a map");
                &[]
            }
        };
        visitor.visit_map(Entries { entries: entries.iter(), current: None, path: &self.path, sink: self.sink, context })
    }
}

struct Items<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
    path: String,
    sink: &'a RefCell<Vec<Finding>>,
}

impl<'de> SeqAccess<'de> for &mut Items<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some((index, node)) = self.items.next() else { return Ok(None) };
        let path = path::element(&self.path, index);
        seed.deserialize(Typed { node, path, sink: self.sink, context: Context::Field }).map(Some)
    }
}

struct Entries<'a, 'p> {
    entries: std::slice::Iter<'a, super::tree::Entry>,
    current: Option<&'a super::tree::Entry>,
    path: &'p str,
    sink: &'a RefCell<Vec<Finding>>,
    context: Context,
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.current = self.entries.next();
        let Some(entry) = self.current else { return Ok(None) };
        let key: StringDeserializer<Error> = entry.key.clone().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let entry = self.current.ok_or_else(|| Error::custom("a value was asked for before its key"))?;
        let path = path::field(self.path, &shortened(&entry.key));
        seed.deserialize(Typed { node: &entry.node, path, sink: self.sink, context: self.context })
    }
}

impl fmt::Debug for Typed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed").field("path", &self.path).finish_non_exhaustive()
    }
}
