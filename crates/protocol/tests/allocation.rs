//! What decoding may cost: bytes off the wire never make it allocate more than 8 times their length and 64 KiB, all allocations
//! added up, and never make it panic. Nor may that bound stand in the way of an honest message.

#![allow(clippy::unwrap_used)]

mod golden;

use allocation_counter::measure;
use bytes::Bytes;
use kavka_protocol::{
    ByteString, ErrorCode, Message, Reader, Uuid,
    messages::{
        self, FetchRequest, FetchResponse, JoinGroupRequest, MetadataRequest, MetadataResponse,
        OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse, Visitor,
        fetch_request::{FetchPartition, FetchTopic},
        fetch_response::{FetchableTopicResponse, PartitionData},
        join_group_request::JoinGroupRequestProtocol,
        metadata_request::MetadataRequestTopic,
        metadata_response::{MetadataResponsePartition, MetadataResponseTopic},
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch_request::{
            OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
        },
        offset_fetch_response::{
            OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
            OffsetFetchResponseTopic, OffsetFetchResponseTopics,
        },
    },
    wire::DecodeErrorKind,
};

use golden::Vector;

/// Decodes under the counting allocator, and says whether the bytes were a message.
struct Measured<'a> {
    bytes: Bytes,
    version: i16,
    label: &'a str,
}

impl Visitor for Measured<'_> {
    type Output = bool;

    fn visit<M: Message>(self) -> bool {
        let limit = 8 * self.bytes.len() as u64 + 64 * 1024;
        let mut is_message = false;
        let cost = measure(|| {
            is_message = M::decode(&mut Reader::new(self.bytes.clone()), self.version).is_ok();
        });
        assert!(
            cost.bytes_total <= limit,
            "{} v{}, {}: {} bytes allocated for {} bytes: {}",
            M::NAME,
            self.version,
            self.label,
            cost.bytes_total,
            self.bytes.len(),
            golden::hex(&self.bytes[..self.bytes.len().min(64)])
        );
        is_message
    }
}

fn decodes_within_bound(name: &str, version: i16, bytes: impl Into<Bytes>, label: &str) -> bool {
    messages::visit(name, Measured { bytes: bytes.into(), version, label }).unwrap()
}

/// A generator of numbers, the same in every run (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// Bytes of which many are small, so that counts and lengths among them often fit.
    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length)
            .map(|_| match self.below(4) {
                0 => self.next() as u8,
                1 => self.below(4) as u8,
                2 => 0,
                _ => self.below(64) as u8,
            })
            .collect()
    }
}

/// Counts and lengths as int16, int32 and varint, from just beyond to far beyond anything that fits.
const HOSTILE: &[&[u8]] = &[
    &[0x7f, 0xff],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0x80, 0x00, 0x00, 0x00],
    &[0xff, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff, 0x07],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0x00, 0x00, 0x40, 0x00],
    &[0x00, 0x00, 0x10, 0x00],
    &[0x00, 0x00, 0x04, 0x00],
    &[0x81, 0x80, 0x01],
    &[0x81, 0x20],
    &[0x81, 0x08],
];

#[test]
fn random_bytes_are_decoded_within_the_bound() {
    struct Versions;
    impl Visitor for Versions {
        type Output = std::ops::RangeInclusive<i16>;
        fn visit<M: Message>(self) -> Self::Output {
            M::VERSIONS
        }
    }

    let mut numbers = Numbers(1);
    for name in messages::NAMES {
        for version in messages::visit(name, Versions).unwrap() {
            for _ in 0..64 {
                let length = numbers.below(600);
                decodes_within_bound(name, version, numbers.bytes(length), "random bytes");
            }
        }
    }
}

#[test]
fn mutated_messages_are_decoded_within_the_bound() {
    let mut numbers = Numbers(2);
    for Vector { name, version, bytes, label, .. } in golden::vectors("messages.jsonl") {
        assert!(decodes_within_bound(&name, version, bytes.clone(), &label));
        for _ in 0..24 {
            let mut mutated = bytes.to_vec();
            for _ in 0..=numbers.below(3) {
                let at = numbers.below(mutated.len());
                match numbers.below(4) {
                    0 => mutated.truncate(at),
                    1 if at < mutated.len() => mutated[at] ^= 1 << numbers.below(8),
                    2 => {
                        let length = numbers.below(16);
                        mutated.splice(at..at, numbers.bytes(length));
                    }
                    _ => {
                        let hostile = HOSTILE[numbers.below(HOSTILE.len())];
                        let end = mutated.len().min(at + hostile.len());
                        mutated.splice(at..end, hostile.iter().copied());
                    }
                }
            }
            decodes_within_bound(&name, version, mutated, &label);
        }
    }
}

/// A count of thousands before thousands of zeros: elements as small as elements can be, in every place of every message.
#[test]
fn counts_of_empty_elements_are_decoded_within_the_bound() {
    let mut numbers = Numbers(3);
    let mut filler = vec![0; 16 * 1024];
    for Vector { name, version, bytes, label, line, .. } in golden::vectors("messages.jsonl") {
        if line["variant"] != "default" {
            continue;
        }
        for at in 0..bytes.len().min(64) {
            let hostile = HOSTILE[6 + numbers.below(6)];
            filler.fill(numbers.below(3) as u8);
            decodes_within_bound(&name, version, [&bytes[..at], hostile, &filler].concat(), &label);
        }
    }
}

/// The smallest unknown tags there can be, as many as fit.
#[test]
fn unknown_tags_are_decoded_within_the_bound() {
    let mut frame = vec![0x01, 0, 0, 0, 0, 0x01, 0x00];
    let tags = 20_000u32;
    put_varint(&mut frame, tags);
    for tag in 0..tags {
        put_varint(&mut frame, tag);
        frame.push(0);
    }
    let decoded = messages::HeartbeatRequest::decode(&mut Reader::new(frame.clone().into()), 4);
    assert_eq!(decoded.unwrap_err().kind, DecodeErrorKind::TooDense);
    assert!(!decodes_within_bound("HeartbeatRequest", 4, frame, "20,000 tags"));
}

fn put_varint(frame: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        frame.push(value as u8 | 0x80);
        value >>= 7;
    }
    frame.push(value as u8);
}

/// Encodes `message` in every version that can carry it, and reads it again.
fn assert_not_refused<M: Message>(message: &M) {
    let mut versions = 0;
    for version in M::VERSIONS {
        let Ok(bytes) = message.to_bytes(version) else { continue };
        let read = M::decode(&mut Reader::new(bytes.clone()), version);
        assert!(read.is_ok(), "{} v{version}, {} bytes: {read:?}", M::NAME, bytes.len());
        assert!(decodes_within_bound(M::NAME, version, bytes, "a large honest message"));
        versions += 1;
    }
    assert!(versions > 0, "{}: no version can carry the message", M::NAME);
}

const MANY: i32 = 10_000;

fn topic_name(i: i32) -> ByteString {
    format!("top-{i:05}").into()
}

fn topic_id(i: i32) -> Uuid {
    Uuid::from_random_bytes(i128::from(i).to_be_bytes())
}

#[test]
fn metadata_of_ten_thousand_topics_is_not_refused() {
    for by_id in [false, true] {
        let topic = |i| MetadataRequestTopic {
            name: (!by_id).then(|| topic_name(i)),
            topic_id: if by_id { topic_id(i) } else { Uuid::ZERO },
            ..Default::default()
        };
        let topics = Some((0..MANY).map(topic).collect());
        assert_not_refused(&MetadataRequest { topics, ..Default::default() });
    }
    let partition = |partition_index| MetadataResponsePartition {
        partition_index,
        leader_id: 1,
        replica_nodes: vec![1],
        isr_nodes: vec![1],
        ..Default::default()
    };
    let topic = |i| MetadataResponseTopic {
        name: Some(topic_name(i)),
        topic_id: topic_id(i),
        partitions: vec![partition(0)],
        ..Default::default()
    };
    let topics = (0..MANY).map(topic).collect();
    assert_not_refused(&MetadataResponse { topics, ..Default::default() });
}

#[test]
fn offset_fetch_of_ten_thousand_partitions_is_not_refused() {
    // The older form, one group, a topic for each partition; and one topic of them all.
    let topic = |i| OffsetFetchRequestTopic {
        name: topic_name(i),
        partition_indexes: vec![0],
        ..Default::default()
    };
    assert_not_refused(&OffsetFetchRequest {
        group_id: "group".into(),
        topics: Some((0..MANY).map(topic).collect()),
        ..Default::default()
    });
    let topic = |i| OffsetFetchRequestTopics {
        name: topic_name(i),
        partition_indexes: vec![0],
        ..Default::default()
    };
    let group = OffsetFetchRequestGroup {
        group_id: "group".into(),
        topics: Some((0..MANY).map(topic).collect()),
        ..Default::default()
    };
    assert_not_refused(&OffsetFetchRequest { groups: vec![group], ..Default::default() });

    let partition = |partition_index| OffsetFetchResponsePartition {
        partition_index,
        committed_offset: 7,
        metadata: Some(ByteString::new()),
        ..Default::default()
    };
    let topics = vec![OffsetFetchResponseTopic {
        name: topic_name(0),
        partitions: (0..MANY).map(partition).collect(),
        ..Default::default()
    }];
    assert_not_refused(&OffsetFetchResponse { topics, ..Default::default() });
    let partition = |partition_index| OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: 7,
        metadata: Some(ByteString::new()),
        ..Default::default()
    };
    let topics = vec![OffsetFetchResponseTopics {
        name: topic_name(0),
        partitions: (0..MANY).map(partition).collect(),
        ..Default::default()
    }];
    let groups = vec![OffsetFetchResponseGroup { topics, ..Default::default() }];
    assert_not_refused(&OffsetFetchResponse { groups, ..Default::default() });
}

#[test]
fn commits_of_ten_thousand_partitions_are_not_refused() {
    let partition = |partition_index| OffsetCommitRequestPartition {
        partition_index,
        committed_offset: 7,
        committed_metadata: Some(ByteString::new()),
        ..Default::default()
    };
    let topic = |i| OffsetCommitRequestTopic {
        name: topic_name(i),
        partitions: vec![partition(0)],
        ..Default::default()
    };
    let topics = (0..MANY).map(topic).collect();
    assert_not_refused(&OffsetCommitRequest {
        group_id: "group".into(),
        topics,
        ..Default::default()
    });
}

#[test]
fn fetch_of_ten_thousand_partitions_is_not_refused() {
    let partition =
        |partition| FetchPartition { partition, partition_max_bytes: 1, ..Default::default() };
    for topics in [
        vec![FetchTopic {
            topic: topic_name(0),
            partitions: (0..MANY).map(partition).collect(),
            ..Default::default()
        }],
        (0..MANY)
            .map(|i| FetchTopic {
                topic: topic_name(i),
                topic_id: topic_id(i),
                partitions: vec![partition(0)],
                ..Default::default()
            })
            .collect(),
    ] {
        assert_not_refused(&FetchRequest { topics, ..Default::default() });
    }

    let partition = |partition_index| PartitionData {
        partition_index,
        error_code: ErrorCode::None,
        high_watermark: 7,
        records: Some(Bytes::new()),
        ..Default::default()
    };
    let responses = vec![FetchableTopicResponse {
        topic: topic_name(0),
        partitions: (0..MANY).map(partition).collect(),
        ..Default::default()
    }];
    assert_not_refused(&FetchResponse { responses, ..Default::default() });
}

/// A later version of Kafka may tag every element of an array; this reader keeps such tags.
#[test]
fn an_unknown_tag_on_each_of_ten_thousand_partitions_is_not_refused() {
    let partition = |partition| {
        let mut partition = FetchPartition { partition, ..Default::default() };
        partition.unknown_tagged_fields.push(100, Bytes::from_static(&[1]));
        partition
    };
    let topics = vec![FetchTopic {
        topic: topic_name(0),
        partitions: (0..MANY).map(partition).collect(),
        ..Default::default()
    }];
    assert_not_refused(&FetchRequest { topics, ..Default::default() });
    let partition = |partition_index| {
        let mut partition = PartitionData { partition_index, ..Default::default() };
        partition.unknown_tagged_fields.push(100, Bytes::from_static(&[1]));
        partition
    };
    let responses = vec![FetchableTopicResponse {
        topic: topic_name(0),
        partitions: (0..MANY).map(partition).collect(),
        ..Default::default()
    }];
    assert_not_refused(&FetchResponse { responses, ..Default::default() });
}

#[test]
fn a_join_with_many_protocols_is_not_refused() {
    let protocol = |i| JoinGroupRequestProtocol {
        name: topic_name(i),
        metadata: Bytes::from_static(b"metadata"),
        ..Default::default()
    };
    let protocols = (0..MANY).map(protocol).collect();
    assert_not_refused(&JoinGroupRequest { protocols, ..Default::default() });
}

/// Each array at the top of each message, its elements a thousand times over.
#[test]
fn long_arrays_of_golden_elements_are_not_refused() {
    struct Grown<'a>(&'a Vector);
    impl Visitor for Grown<'_> {
        type Output = ();
        fn visit<M: Message>(self) {
            let Vector { label, version, line, .. } = self.0;
            let mut json = line["json"].clone();
            for (_, field) in json.as_object_mut().unwrap() {
                if let Some(elements) = field.as_array_mut() {
                    let times = 2_000 / elements.len().max(1);
                    *elements =
                        elements.iter().cycle().take(elements.len() * times).cloned().collect();
                }
            }
            let bytes = M::from_json(&json, *version).unwrap().to_bytes(*version).unwrap();
            let read = M::decode(&mut Reader::new(bytes), *version);
            assert!(read.is_ok(), "{label}: {:?}", read.err());
        }
    }

    for vector in golden::vectors("messages.jsonl") {
        if vector.line["variant"] == "full" {
            messages::visit(&vector.name, Grown(&vector)).unwrap();
        }
    }
}
