//! Every line of `hashing.jsonl`: hashes, partitions and checksums that Apache Kafka's own classes computed.
//!
//! `GOLDEN_DIR` may name a directory with another file of that name, not compressed.

#![allow(clippy::unwrap_used)]

mod golden;

use kavka_protocol::{hash, records};
use serde_json::Value;

#[test]
fn every_line_hashes_as_in_apache_kafka() {
    let lines = golden::lines("hashing.jsonl");
    assert!(!lines.is_empty());
    for line in &lines {
        match line["kind"].as_str().unwrap() {
            "murmur2" => {
                let key = golden::bytes(&line["key_hex"]);
                assert_eq!(Value::from(hash::murmur2(&key)), line["murmur2"], "{line}");
                let positive = hash::to_positive(hash::murmur2(&key));
                assert_eq!(Value::from(positive), line["to_positive"], "{line}");
                check_partitions(line, |partitions| hash::key_partition(&key, partitions));
            }
            "group" => {
                let group_id = line["group_id"].as_str().unwrap();
                let hash_code = hash::java_hash_code(group_id);
                assert_eq!(Value::from(hash_code), line["hash_code"], "{line}");
                check_partitions(line, |partitions| hash::group_partition(group_id, partitions));
            }
            "crc" => {
                let bytes = golden::bytes(&line["bytes_hex"]);
                assert_eq!(Value::from(records::crc32c(&bytes)), line["crc32c"], "{line}");
                assert_eq!(Value::from(records::crc32(&bytes)), line["crc32"], "{line}");
            }
            kind => panic!("kind {kind} is not known to this test"),
        }
    }
}

fn check_partitions(line: &Value, partition: impl Fn(u32) -> u32) {
    let expected = line["partition_of"].as_object().unwrap();
    assert!(!expected.is_empty());
    for (partitions, expected) in expected {
        assert_eq!(Value::from(partition(partitions.parse().unwrap())), *expected, "{line}");
    }
}
