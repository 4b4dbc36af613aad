//! Kafka's JSON form of messages: for tests, and for people who look at one.
//!
//! Names are in camel case; a field that the version lacks and a tagged field at its default are
//! absent. Bytes and records are base64 with padding, ids their text form, error codes numbers. Floats that JSON has no number for are
//! `"NaN"`, `"Infinity"` and `"-Infinity"`. Unknown tags have no JSON form.
//!
//! Reading is strict: a missing field, a name the version does not have, and a number out of range are errors, so that a misspelled
//! name in a hand-written message is found.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use bytestring::ByteString;
pub use serde_json::Value;
use serde_json::{Map, Number};

use crate::{ErrorCode, Message, Uuid};

/// A JSON value that is not the message it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The schema has no such version.
    #[error("{message}: version {version} is not supported")]
    UnsupportedVersion {
        /// The message.
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// The version has the field, the object has not.
    #[error("{field}: \"{name}\" is missing")]
    Missing {
        /// `Struct.field` of the schema.
        field: &'static str,
        /// The name looked for.
        name: &'static str,
    },
    /// The object has a field that the version has not.
    #[error("{field}: this version has no field \"{name}\"")]
    Unexpected {
        /// The structure, or the field it stands in.
        field: &'static str,
        /// The name found.
        name: String,
    },
    /// The value is of another type, or out of range.
    #[error("{field}: expected {expected}, found {found}")]
    WrongValue {
        /// `Struct.field` of the schema.
        field: &'static str,
        /// What the schema has there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
}

fn wrong_value(field: &'static str, expected: &'static str, found: &Value) -> JsonError {
    JsonError::WrongValue { field, expected, found: found.to_string() }
}

/// What can stand in a field.
pub(crate) trait JsonForm: Sized {
    fn to_value(&self, version: i16) -> Value;
    fn from_value(value: &Value, version: i16, field: &'static str) -> Result<Self, JsonError>;
}

pub(crate) fn check_version<M: Message>(version: i16) -> Result<(), JsonError> {
    if M::VERSIONS.contains(&version) {
        Ok(())
    } else {
        Err(JsonError::UnsupportedVersion { message: M::NAME, version })
    }
}

/// An object being made.
#[derive(Default)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    pub(crate) fn put(&mut self, name: &str, value: &impl JsonForm, version: i16) {
        self.0.insert(name.to_owned(), value.to_value(version));
    }

    pub(crate) fn finish(self) -> Value {
        Value::Object(self.0)
    }
}

/// An object being read.
pub(crate) struct FieldsReader<'a> {
    object: &'a Map<String, Value>,
    field: &'static str,
    taken: Vec<&'static str>,
}

impl<'a> FieldsReader<'a> {
    pub(crate) fn new(value: &'a Value, field: &'static str) -> Result<Self, JsonError> {
        match value {
            Value::Object(object) => Ok(Self { object, field, taken: Vec::new() }),
            other => Err(wrong_value(field, "an object", other)),
        }
    }

    pub(crate) fn take<T: JsonForm>(
        &mut self,
        target: &mut T,
        name: &'static str,
        field: &'static str,
        version: i16,
    ) -> Result<(), JsonError> {
        if !self.object.contains_key(name) {
            return Err(JsonError::Missing { field, name });
        }
        self.take_tagged(target, name, field, version)
    }

    /// A tagged field may be absent, and then keeps its default.
    pub(crate) fn take_tagged<T: JsonForm>(
        &mut self,
        target: &mut T,
        name: &'static str,
        field: &'static str,
        version: i16,
    ) -> Result<(), JsonError> {
        if let Some(value) = self.object.get(name) {
            self.taken.push(name);
            *target = T::from_value(value, version, field)?;
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<(), JsonError> {
        match self.object.keys().find(|name| !self.taken.contains(&name.as_str())) {
            Some(name) => Err(JsonError::Unexpected { field: self.field, name: name.clone() }),
            None => Ok(()),
        }
    }
}

impl JsonForm for bool {
    fn to_value(&self, _: i16) -> Value {
        Value::Bool(*self)
    }

    fn from_value(value: &Value, _: i16, field: &'static str) -> Result<Self, JsonError> {
        value.as_bool().ok_or_else(|| wrong_value(field, "true or false", value))
    }
}

macro_rules! integers {
    ($($type:ty: $expected:literal),*) => {$(
        impl JsonForm for $type {
            fn to_value(&self, _: i16) -> Value {
                Value::from(*self)
            }

            fn from_value(value: &Value, _: i16, field: &'static str) -> Result<Self, JsonError> {
                value
                    .as_i64()
                    .and_then(|number| number.try_into().ok())
                    .ok_or_else(|| wrong_value(field, $expected, value))
            }
        }
    )*};
}

integers!(
    i8: "an int8", i16: "an int16", u16: "a uint16", i32: "an int32", u32: "a uint32", i64: "an int64"
);

impl JsonForm for f64 {
    fn to_value(&self, _: i16) -> Value {
        match Number::from_f64(*self) {
            Some(number) => Value::Number(number),
            None if self.is_nan() => Value::from("NaN"),
            None if *self > 0.0 => Value::from("Infinity"),
            None => Value::from("-Infinity"),
        }
    }

    fn from_value(value: &Value, _: i16, field: &'static str) -> Result<Self, JsonError> {
        match value.as_str() {
            Some("NaN") => Ok(f64::NAN),
            Some("Infinity") => Ok(f64::INFINITY),
            Some("-Infinity") => Ok(f64::NEG_INFINITY),
            _ => value.as_f64().ok_or_else(|| wrong_value(field, "a float64", value)),
        }
    }
}

impl JsonForm for ErrorCode {
    fn to_value(&self, version: i16) -> Value {
        self.code().to_value(version)
    }

    fn from_value(value: &Value, version: i16, field: &'static str) -> Result<Self, JsonError> {
        i16::from_value(value, version, field).map(ErrorCode::from_code)
    }
}

impl JsonForm for ByteString {
    fn to_value(&self, _: i16) -> Value {
        Value::String(self.to_string())
    }

    fn from_value(value: &Value, _: i16, field: &'static str) -> Result<Self, JsonError> {
        let text = value.as_str().ok_or_else(|| wrong_value(field, "a string", value))?;
        Ok(ByteString::from(text))
    }
}

impl JsonForm for Bytes {
    fn to_value(&self, _: i16) -> Value {
        Value::String(STANDARD.encode(self))
    }

    fn from_value(value: &Value, _: i16, field: &'static str) -> Result<Self, JsonError> {
        value
            .as_str()
            .and_then(|text| STANDARD.decode(text).ok())
            .map(Bytes::from)
            .ok_or_else(|| wrong_value(field, "base64 with padding", value))
    }
}

impl JsonForm for Uuid {
    fn to_value(&self, _: i16) -> Value {
        Value::String(self.to_string())
    }

    fn from_value(value: &Value, _: i16, field: &'static str) -> Result<Self, JsonError> {
        value
            .as_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| wrong_value(field, "an id of 22 characters", value))
    }
}

impl<T: JsonForm> JsonForm for Vec<T> {
    fn to_value(&self, version: i16) -> Value {
        Value::Array(self.iter().map(|item| item.to_value(version)).collect())
    }

    fn from_value(value: &Value, version: i16, field: &'static str) -> Result<Self, JsonError> {
        let items = value.as_array().ok_or_else(|| wrong_value(field, "an array", value))?;
        items.iter().map(|item| T::from_value(item, version, field)).collect()
    }
}

impl<T: JsonForm> JsonForm for Option<T> {
    fn to_value(&self, version: i16) -> Value {
        self.as_ref().map_or(Value::Null, |value| value.to_value(version))
    }

    fn from_value(value: &Value, version: i16, field: &'static str) -> Result<Self, JsonError> {
        if value.is_null() { Ok(None) } else { T::from_value(value, version, field).map(Some) }
    }
}

#[cfg(test)]
mod tests;
