//! The field paths of a Kubernetes type, found by asking the type itself; to hold the table of fields against it.

use std::cell::RefCell;

use serde::de::value::{Error, StrDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::path;

/// Every field path of a type, lists as `[]`; found by asking the type itself.
pub(super) fn schema<T: DeserializeOwned>() -> Vec<String> {
    let found = RefCell::new(Vec::new());
    // A type that refuses the made-up values (a time) has given its fields by then.
    drop(T::deserialize(Probe { path: String::new(), found: &found, depth: 0 }));
    found.into_inner()
}

/// A deserializer that makes up one value for everything, to see what is asked for.
struct Probe<'a> {
    path: String,
    found: &'a RefCell<Vec<String>>,
    depth: usize,
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str("0")
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(false)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i32(0)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i64(0)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_f64(0.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        if matches!(name, "Time" | "MicroTime") {
            let time: StrDeserializer<'_, Error> = "1970-01-01T00:00:00.000000Z".into_deserializer();
            return visitor.visit_newtype_struct(time);
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(One(Some(self)))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Fields { fields: [].iter(), current: "", probe: self })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        // No type of a Pod is this deep; a recursive one would never end.
        let fields = if self.depth > 16 { &[] } else { fields };
        visitor.visit_map(Fields { fields: fields.iter(), current: "", probe: self })
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u32 u64 u128 f32 char str string bytes byte_buf unit unit_struct tuple tuple_struct enum
        identifier ignored_any
    }
}

struct One<'a>(Option<Probe<'a>>);

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(probe) = self.0.take() else { return Ok(None) };
        let path = format!("{}[]", probe.path);
        seed.deserialize(Probe { path, ..probe }).map(Some)
    }
}

struct Fields<'a> {
    fields: std::slice::Iter<'static, &'static str>,
    current: &'static str,
    probe: Probe<'a>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let skipped = ["apiVersion", "kind"]; // checked against constants by the top-level types
        let top = self.probe.path.is_empty();
        let Some(name) = self.fields.find(|name| !(top && skipped.contains(name))) else { return Ok(None) };
        self.current = name;
        seed.deserialize((*name).into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let path = path::field(&self.probe.path, self.current);
        self.probe.found.borrow_mut().push(path.clone());
        seed.deserialize(Probe { path, found: self.probe.found, depth: self.probe.depth + 1 })
    }
}
