//! Every message in every version, against the bytes and the JSON that Kafka's own classes make of it.

#![allow(clippy::unwrap_used)]

mod golden;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kavka_protocol::{
    ApiKey, ErrorCode, Message, Reader,
    messages::{self, Visitor},
    wire::{Counter, Writer},
};
use serde_json::Value;

use golden::{Vector, hex, unhex};

struct Check<'a>(&'a Vector);

impl Visitor for Check<'_> {
    type Output = ();

    fn visit<M: Message>(self) {
        let Vector { label, version, bytes, line, .. } = self.0;
        let (version, expected) = (*version, &line["json"]);
        assert!(M::VERSIONS.contains(&version), "{label}: no such version");

        let mut reader = Reader::new(bytes.clone());
        let mut decoded =
            M::decode(&mut reader, version).unwrap_or_else(|error| panic!("{label}: {error}"));
        assert_eq!(reader.remaining(), 0, "{label}: bytes left over");
        assert_eq!(&decoded.to_json(version), expected, "{label}: read");
        check_encoding(&decoded, version, bytes, label);

        let unknown: Vec<(u32, Bytes)> =
            line["unknown_tagged_fields"].as_array().map_or_else(Vec::new, |tags| {
                let tag = |pair: &Value| u32::try_from(pair[0].as_u64().unwrap()).unwrap();
                let value = |pair: &Value| unhex(pair[1].as_str().unwrap()).into();
                tags.iter().map(|pair| (tag(pair), value(pair))).collect()
            });
        let kept: Vec<_> = decoded
            .unknown_tagged_fields_mut()
            .map_or_else(Vec::new, |tags| tags.iter().cloned().collect());
        assert_eq!(kept, unknown, "{label}: unknown tags");

        let mut built = M::from_json(expected, version).unwrap_or_else(|e| panic!("{label}: {e}"));
        for (tag, value) in unknown {
            built.unknown_tagged_fields_mut().unwrap().push(tag, value);
        }
        check_encoding(&built, version, bytes, label);
        assert_eq!(built, decoded, "{label}: from JSON");
    }
}

fn check_encoding<M: Message>(message: &M, version: i16, bytes: &Bytes, label: &str) {
    let written = message.to_bytes(version).unwrap_or_else(|error| panic!("{label}: {error}"));
    assert_eq!(hex(&written), hex(bytes), "{label}: written");
    assert_eq!(message.encoded_size(version), Ok(bytes.len()), "{label}: size");

    let mut counter = Counter::default();
    message.encode(&mut counter, version).unwrap();
    let mut writer = Writer::for_counted(&counter);
    message.encode(&mut writer, version).unwrap();
    assert_eq!(&writer.into_pieces().concat(), bytes, "{label}: written in pieces");
}

#[test]
fn every_vector_is_read_and_written_as_kafka_does() {
    let vectors = golden::vectors("messages.jsonl");
    for vector in &vectors {
        messages::visit(&vector.name, Check(vector))
            .unwrap_or_else(|| panic!("{}: no such message", vector.label));
    }
    println!("{} vectors", vectors.len());
    assert!(vectors.len() > 2_000, "{} vectors are not the whole file", vectors.len());
}

/// The int16 before a stored key or value, and before an embedded blob.
#[test]
fn prefixes_are_the_version_or_the_record_type() {
    let mut prefixed = 0;
    for Vector { label, name, version, prefix, line, .. } in golden::vectors("messages.jsonl") {
        let expected = match line["prefix"].as_str() {
            None => {
                assert_eq!(prefix, None, "{label}");
                continue;
            }
            Some("version") => version,
            Some("type") => record_type(&name).unwrap_or_else(|| panic!("{label}: no type")),
            Some(other) => panic!("{label}: prefix {other:?}"),
        };
        assert_eq!(prefix, Some(expected), "{label}");
        prefixed += 1;
    }
    assert!(prefixed > 200, "{prefixed} vectors with a prefix");
}

/// The record type of a key, by its name.
fn record_type(name: &str) -> Option<i16> {
    macro_rules! types {
        ($($key:ident)*) => { match name { $(stringify!($key) => Some(messages::$key::RECORD_TYPE),)* _ => None } };
    }
    types!(
        LegacyOffsetCommitKey OffsetCommitKey GroupMetadataKey TransactionLogKey
        ConsumerGroupMetadataKey ConsumerGroupPartitionMetadataKey ConsumerGroupMemberMetadataKey
        ConsumerGroupTargetAssignmentMetadataKey ConsumerGroupTargetAssignmentMemberKey
        ConsumerGroupCurrentMemberAssignmentKey ConsumerGroupRegularExpressionKey
        ShareGroupMetadataKey ShareGroupMemberMetadataKey ShareGroupTargetAssignmentMetadataKey
        ShareGroupTargetAssignmentMemberKey ShareGroupCurrentMemberAssignmentKey
        ShareGroupStatePartitionMetadataKey ShareSnapshotKey ShareUpdateKey
        StreamsGroupMetadataKey StreamsGroupMemberMetadataKey
        StreamsGroupTargetAssignmentMetadataKey StreamsGroupTargetAssignmentMemberKey
        StreamsGroupCurrentMemberAssignmentKey StreamsGroupTopologyKey
    )
}

/// The vectors leave out no message and no version that the schemas have.
#[test]
fn every_version_of_every_message_has_a_vector() {
    struct Versions;
    impl Visitor for Versions {
        type Output = BTreeSet<i16>;
        fn visit<M: Message>(self) -> BTreeSet<i16> {
            M::VERSIONS.collect()
        }
    }

    let mut seen: BTreeMap<String, BTreeSet<i16>> = BTreeMap::new();
    for vector in golden::vectors("messages.jsonl") {
        seen.entry(vector.name).or_default().insert(vector.version);
    }
    for name in messages::NAMES {
        let versions = messages::visit(name, Versions).unwrap();
        assert_eq!(seen.remove(*name), Some(versions), "{name}");
    }
    assert_eq!(seen, BTreeMap::new(), "vectors of unknown messages");
}

#[test]
fn headers_before_requests_and_responses_are_of_kafkas_version() {
    for Vector { label, version, line, .. } in golden::vectors("messages.jsonl") {
        let Some(header) = line["header_version"].as_i64() else { continue };
        let api = i16::try_from(line["api_key"].as_i64().unwrap()).unwrap();
        let api = ApiKey::from_code(api).unwrap_or_else(|| panic!("{label}: no API {api}"));
        let ours = match line["type"].as_str() {
            Some("request") => api.request_header_version(version),
            _ => api.response_header_version(version),
        };
        assert_eq!(i64::from(ours), header, "{label}");
        let (lo, hi) = api.versions();
        if line["type"] == "request" {
            let unstable = line["unstable"].as_bool() == Some(true);
            assert_eq!((lo..=hi).contains(&version), !unstable, "{label}: unstable");
        }
    }
}

#[test]
fn error_codes_are_kafkas() {
    let table = golden::text("error_codes.tsv");
    let mut rows = 0;
    for line in table.lines().skip(1) {
        let columns: Vec<_> = line.split('\t').collect();
        let code = ErrorCode::from_code(columns[0].parse().unwrap());
        assert_eq!(code.name(), columns[1], "{line}");
        assert_eq!(code.is_retriable(), columns[2] == "y", "{line}");
        assert_eq!(code.needs_metadata_refresh(), columns[3] == "y", "{line}");
        rows += 1;
    }
    assert_eq!(ErrorCode::all().count(), rows);
}
