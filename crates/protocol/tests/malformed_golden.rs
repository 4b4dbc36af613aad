//! Broken bytes: what Kafka's reader refuses is refused here, and what it takes is taken, but for what is named in [`STRICTER`].

#![allow(clippy::unwrap_used)]

mod golden;

use std::collections::BTreeMap;

use kavka_protocol::{
    DecodeError, Message, Reader,
    messages::{self, Visitor},
    wire::DecodeErrorKind,
};
use serde_json::Value;

use golden::Vector;

struct Decode<'a>(&'a Vector);

struct Decoded {
    json: Value,
    remaining: usize,
}

impl Visitor for Decode<'_> {
    type Output = Result<Decoded, DecodeError>;

    fn visit<M: Message>(self) -> Self::Output {
        let mut reader = Reader::new(self.0.bytes.clone());
        let message = M::decode(&mut reader, self.0.version)?;
        Ok(Decoded { json: message.to_json(self.0.version), remaining: reader.remaining() })
    }
}

/// The kinds of bytes that Kafka takes and this reader refuses: see `Reader`.
const STRICTER: &[&str] =
    &["text that is not UTF-8", "tags repeated or out of order", "a known tag of a wrong size"];

/// Which of [`STRICTER`] an error is, if it is one.
fn stricter_kind(error: &DecodeError) -> Option<&'static str> {
    match error.kind {
        DecodeErrorKind::InvalidUtf8 => Some(STRICTER[0]),
        DecodeErrorKind::TagOrder(_) => Some(STRICTER[1]),
        DecodeErrorKind::TagSize { .. } => Some(STRICTER[2]),
        _ => None,
    }
}

#[test]
fn broken_bytes_are_refused_and_taken_as_by_kafka() {
    let vectors = golden::vectors("malformed.jsonl");
    let (mut refused, mut taken) = (0, 0);
    let mut stricter: BTreeMap<&str, usize> = BTreeMap::new();
    for vector in &vectors {
        let Vector { label, line, .. } = vector;
        if line["prefix"].is_string() && vector.prefix.is_none() {
            // Cut within the int16 before the message: there is nothing for the message's reader to read.
            assert_ne!(line["result"], "ok", "{label}");
            refused += 1;
            continue;
        }
        let ours = messages::visit(&vector.name, Decode(vector))
            .unwrap_or_else(|| panic!("{label}: no such message"));
        let kafka_takes_it = line["result"] == "ok";
        match ours {
            Ok(_) if !kafka_takes_it => panic!("{label}: taken, Kafka: {}", line["result"]),
            Ok(decoded) => {
                assert_eq!(Some(decoded.remaining as u64), line["remaining"].as_u64(), "{label}");
                if let Some(expected) = line.get("json") {
                    assert_eq!(&decoded.json, expected, "{label}");
                }
                taken += 1;
            }
            Err(_) if !kafka_takes_it => refused += 1,
            Err(error) => {
                let kind = stricter_kind(&error).unwrap_or_else(|| panic!("{label}: {error}"));
                println!("stricter than Kafka: {label}: {error}");
                *stricter.entry(kind).or_default() += 1;
            }
        }
    }
    println!("{refused} refused by both, {taken} taken by both, stricter: {stricter:?}");
    assert_eq!(refused + taken + stricter.values().sum::<usize>(), vectors.len());
    assert!(refused > 100 && taken > 50, "{refused} refused, {taken} taken: not the whole file");
}
