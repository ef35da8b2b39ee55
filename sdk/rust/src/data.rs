//! Encodes the program's data as JSON, and finds the part that JSON cannot hold.

use serde::ser::{self, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::Error;

/// Encodes `data` as JSON. Rejects NaN and infinity, which JSON does not have: serde would write
/// `null`.
pub(crate) fn encode(data: &(impl Serialize + ?Sized)) -> Result<Box<RawValue>, Error> {
    let encoded = to_raw_value(data);
    let is_good = encoded.as_ref().is_ok_and(|data| !data.get().contains("null"));
    // Check the whole value only now, so that valid values cost nothing.
    if !is_good && let Err(Fault { argument, message }) = Check::default().within("", data) {
        return Err(Error::argument(argument, message));
    }
    encoded.map_err(|error| Error::argument("data", format!("cannot be written as JSON ({error})")))
}

/// The first part of a value that JSON cannot hold.
#[derive(Debug)]
struct Fault {
    argument: String,
    message: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.argument, self.message)
    }
}

impl std::error::Error for Fault {}

impl ser::Error for Fault {
    /// Converts an error of the value's own `Serialize`; [`Check::within`] adds the path.
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Fault { argument: String::new(), message: message.to_string() }
    }
}

/// Walks through a value and tracks the path.
struct Check {
    path: String,
    /// The index of the next part. In a map, `key` is its name.
    number: usize,
    key: String,
}

impl Default for Check {
    fn default() -> Self {
        Check { path: "data".to_owned(), number: 0, key: String::new() }
    }
}

type Outcome = Result<(), Fault>;

impl Check {
    fn within(&mut self, part: &str, value: &(impl Serialize + ?Sized)) -> Outcome {
        let (length, number) = (self.path.len(), std::mem::take(&mut self.number));
        self.path.push_str(part);
        let outcome = value.serialize(&mut *self).map_err(|mut fault| {
            if fault.argument.is_empty() {
                fault.argument.clone_from(&self.path);
            }
            fault
        });
        self.path.truncate(length);
        self.number = number;
        outcome
    }

    fn item(&mut self, value: &(impl Serialize + ?Sized)) -> Outcome {
        let part = format!("[{}]", self.number);
        self.number += 1;
        self.within(&part, value)
    }

    fn field(&mut self, name: &str, value: &(impl Serialize + ?Sized)) -> Outcome {
        self.within(&format!(".{name}"), value)
    }

    fn float(&self, number: f64) -> Outcome {
        if number.is_finite() {
            return Ok(());
        }
        let message = format!("JSON has no {number}: pass `None` or a string");
        Err(Fault { argument: self.path.clone(), message })
    }
}

/// Implements the methods for values that JSON can hold.
macro_rules! good {
    ($($method:ident($($kind:ty),*);)*) => { $(fn $method(self, $(_: $kind),*) -> Outcome { Ok(()) })* };
}

impl<'a> ser::Serializer for &'a mut Check {
    type Ok = ();
    type Error = Fault;
    type SerializeSeq = &'a mut Check;
    type SerializeTuple = &'a mut Check;
    type SerializeTupleStruct = &'a mut Check;
    type SerializeTupleVariant = &'a mut Check;
    type SerializeMap = &'a mut Check;
    type SerializeStruct = &'a mut Check;
    type SerializeStructVariant = &'a mut Check;

    good! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
    }

    fn serialize_f32(self, number: f32) -> Outcome {
        self.float(number.into())
    }

    fn serialize_f64(self, number: f64) -> Outcome {
        self.float(number)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Outcome {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Outcome {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Outcome {
        self.field(variant, value)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Fault> {
        self.number = 0;
        Ok(self)
    }

    fn serialize_tuple(self, length: usize) -> Result<Self, Fault> {
        self.serialize_seq(Some(length))
    }

    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<Self, Fault> {
        self.serialize_seq(Some(length))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        length: usize,
    ) -> Result<Self, Fault> {
        self.serialize_seq(Some(length))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Fault> {
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Fault> {
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Fault> {
        Ok(self)
    }
}

/// Implements the traits for lists: the path of a part is its index.
macro_rules! items {
    ($($list:ident $method:ident;)*) => { $(impl ser::$list for &mut Check {
        type Ok = ();
        type Error = Fault;

        fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Outcome {
            self.item(value)
        }

        fn end(self) -> Outcome {
            Ok(())
        }
    })* };
}

items! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
}

/// Implements the traits for structs: the path of a part is its name.
macro_rules! fields {
    ($($kind:ident;)*) => { $(impl ser::$kind for &mut Check {
        type Ok = ();
        type Error = Fault;

        fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Outcome {
            self.field(name, value)
        }

        fn end(self) -> Outcome {
            Ok(())
        }
    })* };
}

fields! {
    SerializeStruct;
    SerializeStructVariant;
}

impl ser::SerializeMap for &mut Check {
    type Ok = ();
    type Error = Fault;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Outcome {
        self.key = match serde_json::to_value(key) {
            Ok(Value::String(text)) => text,
            Ok(key @ (Value::Number(_) | Value::Bool(_))) => key.to_string(),
            _ => {
                let message = "one of its keys is no text".to_owned();
                return Err(Fault { argument: self.path.clone(), message });
            }
        };
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Outcome {
        let key = std::mem::take(&mut self.key);
        self.field(&key, value)
    }

    fn end(self) -> Outcome {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn refused(data: impl Serialize) -> String {
        match encode(&data) {
            Err(Error::InvalidArgument { argument, .. }) => argument,
            other => panic!("{other:?}"),
        }
    }

    struct Broken;

    impl Serialize for Broken {
        fn serialize<S: ser::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(ser::Error::custom("it is broken"))
        }
    }

    #[test]
    fn value_outside_json_is_reported_by_path() {
        assert_eq!(refused(f64::NAN), "data");
        assert_eq!(refused(vec![Some(1.0), None, Some(f64::INFINITY)]), "data[2]");
        let map = BTreeMap::from([("items", vec![(1, vec![0.5]), (2, vec![0.5, f64::NAN])])]);
        assert_eq!(refused(&map), "data.items[1][1][1]");
        assert_eq!(refused(BTreeMap::from([("a", vec![f32::NEG_INFINITY])])), "data.a[0]");
        assert_eq!(refused(BTreeMap::from([(vec![1], 1)])), "data");
        assert_eq!(refused(BTreeMap::from([("when", [Broken])])), "data.when[0]");
        assert_eq!(refused(Broken), "data");
    }

    #[test]
    fn json_values_and_nulls_are_encoded_unchanged() {
        let value = json!({ "a": null, "null": [1, -2.5, true, "null", {}] });
        assert_eq!(encode(&value).unwrap().get(), value.to_string());
        assert_eq!(encode("null").unwrap().get(), "\"null\"");
        assert_eq!(encode(&(None::<u8>, Some('x'), ())).unwrap().get(), r#"[null,"x",null]"#);
        assert_eq!(encode(&BTreeMap::from([(1, None::<u8>)])).unwrap().get(), r#"{"1":null}"#);
    }
}
