//! Reads a command and the fields that every line has in one pass.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{CowStrDeserializer, MapAccessDeserializer};
use serde::de::{DeserializeSeed, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::Id;

/// A line: the fields that every line has, and those of a command.
pub(super) struct Tagged<'de, C> {
    /// The `type` of the line.
    pub(super) kind: Cow<'de, str>,
    /// The id of the line, which may be too long.
    pub(super) id: Option<Id>,
    /// The fields of the command.
    pub(super) command: C,
}

impl<'de, C: Deserialize<'de>> Deserialize<'de> for Tagged<'de, C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(LineVisitor(PhantomData))
    }
}

struct LineVisitor<C>(PhantomData<C>);

impl<'de, C: Deserialize<'de>> Visitor<'de> for LineVisitor<C> {
    type Value = Tagged<'de, C>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields { map, kind: None, id: None };
        let command = C::deserialize(MapAccessDeserializer::new(&mut fields))?;
        let Fields { kind, id, .. } = fields;
        let kind = kind.ok_or_else(|| A::Error::missing_field("type"))?;
        Ok(Tagged { kind, id, command })
    }
}

/// The fields of a line. Takes out those that every line has, and passes the others on.
struct Fields<'de, A> {
    map: A,
    kind: Option<Cow<'de, str>>,
    id: Option<Id>,
}

/// A string that is borrowed unless it has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Fields<'de, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        loop {
            let Some(Text(key)) = self.map.next_key()? else { return Ok(None) };
            match key.as_ref() {
                "type" if self.kind.is_none() => {
                    let Text(kind) = self.map.next_value()?;
                    self.kind = Some(kind);
                }
                "id" if self.id.is_none() => self.id = Some(self.map.next_value()?),
                "type" => return Err(A::Error::duplicate_field("type")),
                "id" => return Err(A::Error::duplicate_field("id")),
                _ => return seed.deserialize(CowStrDeserializer::new(key)).map(Some),
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}
