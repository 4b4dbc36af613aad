//! Records as JSON objects.
//!
//! `key`, `value` and the values of headers are text or null. Bytes that are not UTF-8 are in `key_base64`, `value_base64`
//! instead; exactly one of the two fields is there. When read, both may be missing, which is null.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{Found, Record};
use crate::output::{Value, object};

/// The object of a record that was found.
pub(crate) fn to_value(record: &Found<'_>) -> Value {
    let headers = record.headers.iter().map(|(name, value)| {
        object([("name", name.as_ref().into()), bytes_field(["value", "value_base64"], *value)])
    });
    object([
        ("topic", record.topic.into()),
        ("partition", record.partition.into()),
        ("offset", record.offset.into()),
        ("timestamp", record.timestamp.into()),
        ("leader_epoch", record.leader_epoch.into()),
        bytes_field(["key", "key_base64"], record.key),
        bytes_field(["value", "value_base64"], record.value),
        ("headers", Value::List(headers.collect())),
    ])
}

fn bytes_field(names: [&'static str; 2], bytes: Option<&[u8]>) -> (&'static str, Value) {
    match bytes {
        None => (names[0], Value::Null),
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => (names[0], text.into()),
            Err(_) => (names[1], STANDARD.encode(bytes).into()),
        },
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
    #[serde(default)]
    headers: Vec<Header>,
    timestamp: Option<i64>,
    partition: Option<i32>,
    // What says where a record was found is not where it goes to.
    #[serde(rename = "topic")]
    _topic: Option<serde::de::IgnoredAny>,
    #[serde(rename = "offset")]
    _offset: Option<serde::de::IgnoredAny>,
    #[serde(rename = "leader_epoch")]
    _leader_epoch: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    name: String,
    value: Option<String>,
    value_base64: Option<String>,
}

/// The record of a line of JSON.
pub(crate) fn from_json(line: &str) -> Result<Record, String> {
    let line: Line = serde_json::from_str(line).map_err(|error| {
        // Which line it is, the caller knows better.
        error.to_string().replace(" at line 1 column ", " at column ")
    })?;
    let headers = line.headers.into_iter().map(|header| {
        let value = bytes_of("the header's value", header.value, header.value_base64)?;
        Ok((header.name, value))
    });
    Ok(Record {
        key: bytes_of("key", line.key, line.key_base64)?,
        value: bytes_of("value", line.value, line.value_base64)?,
        headers: headers.collect::<Result<_, String>>()?,
        timestamp: line.timestamp,
        partition: line.partition,
    })
}

fn bytes_of(
    what: &str,
    text: Option<String>,
    base64: Option<String>,
) -> Result<Option<Vec<u8>>, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(format!("{what} is there as text and as base64")),
        (Some(text), None) => Ok(Some(text.into_bytes())),
        (None, Some(base64)) => match STANDARD.decode(base64) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => Err(format!("{what} is not base64: {error}")),
        },
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_written_is_read_as_the_same_record() {
        let found = Found {
            topic: "orders",
            partition: 3,
            offset: 7,
            leader_epoch: Some(0),
            timestamp: Some(1_795_282_215_250),
            key: Some(b"\xff\x00"),
            value: None,
            headers: vec![
                ("a".into(), Some(b"1")),
                ("a".into(), None),
                ("b".into(), Some(b"\xc3")),
                ("".into(), Some(b"")),
            ],
        };
        let line = serde_json::to_string(&to_value(&found)).unwrap();
        assert_eq!(
            line,
            concat!(
                r#"{"topic":"orders","partition":3,"offset":7,"timestamp":1795282215250,"#,
                r#""leader_epoch":0,"key_base64":"/wA=","value":null,"headers":["#,
                r#"{"name":"a","value":"1"},{"name":"a","value":null},{"name":"b","value_base64":"ww=="},"#,
                r#"{"name":"","value":""}]}"#
            )
        );
        let record = Record {
            key: Some(b"\xff\x00".to_vec()),
            value: None,
            headers: vec![
                ("a".to_owned(), Some(b"1".to_vec())),
                ("a".to_owned(), None),
                ("b".to_owned(), Some(b"\xc3".to_vec())),
                (String::new(), Some(Vec::new())),
            ],
            timestamp: Some(1_795_282_215_250),
            partition: Some(3),
        };
        assert_eq!(from_json(&line).unwrap(), record);
    }

    #[test]
    fn empty_is_not_null() {
        let record = from_json(r#"{"key":"","value":null}"#).unwrap();
        assert_eq!(record.key, Some(Vec::new()));
        assert_eq!(record.value, None);
        assert_eq!(from_json("{}").unwrap(), Record::default());
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (line, said) in [
            ("", "EOF"),
            ("[]", "invalid"),
            (r#"{"vallue":"a"}"#, "vallue"),
            (r#"{"value":1}"#, "string"),
            (r#"{"value":"a","value_base64":"YQ=="}"#, "as text and as base64"),
            (r#"{"key_base64":"?"}"#, "key is not base64"),
            (r#"{"partition":99999999999}"#, "99999999999"),
        ] {
            let error = from_json(line).unwrap_err();
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
