//! The lies: of bytes, which need no understanding, and of what answers say.

use std::sync::LazyLock;

use bytes::{BufMut, Bytes, BytesMut};
use kavka_protocol::{
    ApiKey, ErrorCode, Uuid,
    messages::{
        ApiVersionsRequest, FetchRequest, FindCoordinatorRequest, HeartbeatRequest,
        InitProducerIdRequest, JoinGroupRequest, ListOffsetsRequest, MetadataRequest,
        OffsetCommitRequest, OffsetFetchRequest, ProduceRequest, SyncGroupRequest,
        join_group_response::JoinGroupResponseMember,
    },
    records::{BatchBuilder, Compression, Compressor, crc32c},
};

use crate::proxy::{Spoiled, change, framed, split_header};

/// Numbers from a seed (xorshift64*).
#[derive(Clone, Debug)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        let mut numbers = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        numbers.next();
        numbers
    }

    /// The generator so many numbers later.
    pub(crate) fn skip(mut self, count: u64) -> Self {
        for _ in 0..count {
            self.next();
        }
        self
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap()
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// An int64 of those that break things.
    fn long(&mut self) -> i64 {
        let any = self.next() as i64;
        self.pick(&[i64::MAX, i64::MAX - 1, i64::MIN, -1, -2, -3, 0, 1, 1 << 31, 1 << 40, any])
    }

    /// An int32 of those that break things.
    fn int(&mut self) -> i32 {
        let any = self.next() as i32;
        self.pick(&[i32::MAX, i32::MAX - 1, i32::MIN, -1, -2, 0, 1, 1 << 16, 1 << 24, any])
    }

    fn error(&mut self) -> ErrorCode {
        let code = match self.below(3) {
            0 => self.next() as i16,
            _ => i16::try_from(self.below(135)).unwrap() - 1,
        };
        ErrorCode::from(code)
    }

    fn bytes(&mut self, most: usize) -> Bytes {
        (0..self.below(most + 1)).map(|_| self.next() as u8).collect()
    }
}

/// How often and about what a broker lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Temper {
    /// So many answers in a thousand are spoiled.
    per_mille: usize,
    /// What is spoiled how.
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bytes,
    Meaning,
    Both,
}

impl Temper {
    pub(crate) const HONEST: Self = Self { per_mille: 0, kind: Kind::Both };

    /// Rounds differ, so that lies come early in the conversation and late.
    pub(crate) fn of(round: u64) -> Self {
        let per_mille = [1000, 500, 250, 120, 60, 30][usize::try_from(round % 6).unwrap()];
        let kind =
            [Kind::Bytes, Kind::Meaning, Kind::Both][usize::try_from(round / 6 % 3).unwrap()];
        Self { per_mille, kind }
    }

    pub(crate) fn lie(self, api: ApiKey, numbers: &mut Numbers) -> Option<Lie> {
        // Who never gets past the greeting sees nothing else.
        let rarer = if api == ApiKey::ApiVersions { 4 } else { 1 };
        if numbers.below(1000) >= self.per_mille / rarer {
            return None;
        }
        let of_bytes = match self.kind {
            Kind::Bytes => true,
            Kind::Meaning => false,
            Kind::Both => numbers.below(2) == 0,
        };
        Some(if of_bytes { numbers.pick(OF_BYTES) } else { Lie::Meaning })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    Garbage,
    GarbageWithoutFrame,
    Truncated,
    TooShortALength,
    TooLongALength,
    AbsurdLength,
    EmptyFrame,
    WrongCorrelation,
    NoAnswer,
    CutAndClosed,
    Closed,
    FlippedBits,
    AbsurdNumber,
    AbsurdCount,
    MoreAtTheEnd,
    Twice,
    AnotherAnswer,
    Slow,
    Meaning,
}

const OF_BYTES: &[Lie] = &[
    Lie::Garbage,
    Lie::GarbageWithoutFrame,
    Lie::Truncated,
    Lie::TooShortALength,
    Lie::TooLongALength,
    Lie::AbsurdLength,
    Lie::EmptyFrame,
    Lie::WrongCorrelation,
    Lie::NoAnswer,
    Lie::CutAndClosed,
    Lie::Closed,
    Lie::FlippedBits,
    Lie::FlippedBits,
    Lie::AbsurdNumber,
    Lie::AbsurdNumber,
    Lie::AbsurdCount,
    Lie::AbsurdCount,
    Lie::MoreAtTheEnd,
    Lie::Twice,
    Lie::AnotherAnswer,
    Lie::Slow,
];

pub(crate) fn spoil(
    lie: Lie,
    api: ApiKey,
    version: i16,
    honest: &Bytes,
    before: &Bytes,
    numbers: &mut Numbers,
) -> Spoiled {
    let (header, body) = split_header(api, version, honest);
    let with_length = |length: i32| {
        let mut bytes = BytesMut::from(&framed(honest)[..]);
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        bytes.freeze()
    };
    let length = i32::try_from(honest.len()).unwrap();
    let overwritten = |numbers: &mut Numbers, value: &[u8]| {
        let mut body = body.to_vec();
        let at = numbers.below(body.len());
        let value = &value[..value.len().min(body.len() - at)];
        body[at..at + value.len()].copy_from_slice(value);
        Spoiled::Bytes(framed(&[&header[..], &body].concat()))
    };
    match lie {
        Lie::Garbage => Spoiled::Bytes(framed(&[&header[..4], &numbers.bytes(300)].concat())),
        Lie::GarbageWithoutFrame => Spoiled::ThenSilence(numbers.bytes(300)),
        Lie::Truncated => Spoiled::Bytes(framed(&honest[..4 + numbers.below(honest.len() - 3)])),
        Lie::TooShortALength => {
            Spoiled::Bytes(with_length(length - 1 - numbers.int().rem_euclid(length)))
        }
        Lie::TooLongALength => {
            let more = i32::try_from(1 + numbers.below(3_000_000)).unwrap();
            Spoiled::ThenSilence(with_length(length + more))
        }
        Lie::AbsurdLength => Spoiled::ThenSilence(with_length(numbers.int())),
        Lie::EmptyFrame => Spoiled::Bytes(framed(&[])),
        Lie::WrongCorrelation => {
            let mut frame = honest.to_vec();
            frame[..4].copy_from_slice(&numbers.int().to_be_bytes());
            Spoiled::Bytes(framed(&frame))
        }
        Lie::NoAnswer => Spoiled::ThenSilence(Bytes::new()),
        Lie::CutAndClosed => {
            Spoiled::ThenClose(framed(honest).slice(..numbers.below(honest.len() + 4)))
        }
        Lie::Closed => Spoiled::ThenClose(Bytes::new()),
        Lie::FlippedBits if !body.is_empty() => {
            let mut body = body.to_vec();
            for _ in 0..=numbers.below(8) {
                let at = numbers.below(body.len());
                body[at] ^= 1 << numbers.below(8);
            }
            Spoiled::Bytes(framed(&[&header[..], &body].concat()))
        }
        Lie::AbsurdNumber if !body.is_empty() => match numbers.below(3) {
            0 => {
                let value = numbers.int().to_be_bytes();
                overwritten(numbers, &value)
            }
            1 => {
                let value = numbers.long().to_be_bytes();
                overwritten(numbers, &value)
            }
            _ => {
                let value = numbers.error().code().to_be_bytes();
                overwritten(numbers, &value)
            }
        },
        Lie::AbsurdCount if !body.is_empty() => match numbers.below(3) {
            0 => overwritten(numbers, &[0x7f, 0xff, 0xff, 0xff]),
            1 => overwritten(numbers, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            _ => overwritten(numbers, &[0xff, 0xff, 0x7f]),
        },
        Lie::MoreAtTheEnd => Spoiled::Bytes(framed(&[&honest[..], &numbers.bytes(300)].concat())),
        Lie::Twice => Spoiled::Bytes([framed(honest), framed(honest)].concat().into()),
        Lie::AnotherAnswer if before.len() > 4 => {
            Spoiled::Bytes(framed(&[&header[..4], &before[4..]].concat()))
        }
        Lie::Slow => Spoiled::Slowly(framed(honest)),
        Lie::Meaning => {
            let spoiled = another_meaning(api, version, honest, numbers);
            Spoiled::Bytes(framed(&spoiled.unwrap_or_else(|| honest.clone())))
        }
        Lie::FlippedBits | Lie::AbsurdNumber | Lie::AbsurdCount | Lie::AnotherAnswer => {
            Spoiled::ThenClose(Bytes::new())
        }
    }
}

/// The same kind of answer, well formed, with something in it that cannot be.
fn another_meaning(api: ApiKey, version: i16, honest: &Bytes, n: &mut Numbers) -> Option<Bytes> {
    match api {
        ApiKey::ApiVersions => {
            change::<ApiVersionsRequest>(version, honest, |answer| match n.below(4) {
                0 => answer.throttle_time_ms = n.int(),
                1 => answer.error_code = n.error(),
                2 => {
                    let at = n.below(answer.api_keys.len());
                    answer.api_keys[at].min_version = n.int() as i16;
                    answer.api_keys[at].max_version = n.int() as i16;
                }
                _ => {
                    let keep = n.below(answer.api_keys.len());
                    answer.api_keys.truncate(keep);
                }
            })
        }
        ApiKey::Metadata => change::<MetadataRequest>(version, honest, |answer| {
            let hosts = ["", "\0", "nowhere.invalid", "::1", "0.0.0.0", "255.255.255.255", "a b"];
            let long = "x".repeat(5000);
            match n.below(9) {
                0 => answer.throttle_time_ms = n.int(),
                1 => answer.controller_id = n.int(),
                2 => answer.brokers.iter_mut().for_each(|broker| broker.port = n.int()),
                3 => answer.brokers.iter_mut().for_each(|b| b.host = n.pick(&hosts).into()),
                4 => answer.brokers.iter_mut().for_each(|b| b.host = long.as_str().into()),
                5 => answer.brokers.iter_mut().for_each(|broker| broker.node_id = n.int()),
                6 => {
                    let broker = answer.brokers.first().cloned().unwrap_or_default();
                    for id in 0..2000 {
                        let mut broker = broker.clone();
                        (broker.node_id, broker.port) = (id, n.int());
                        answer.brokers.push(broker);
                    }
                }
                7 => {
                    for topic in &mut answer.topics {
                        topic.error_code = n.error();
                        topic.topic_id =
                            Uuid::from_bytes(n.next().to_be_bytes().repeat(2).try_into().unwrap());
                    }
                }
                _ => {
                    for topic in &mut answer.topics {
                        let row = topic.partitions.first().cloned().unwrap_or_default();
                        match n.below(4) {
                            0 => topic.partitions = vec![row; 20_000],
                            1 => topic.partitions.clear(),
                            2 => topic.name = Some("other".into()),
                            _ => {
                                for row in &mut topic.partitions {
                                    row.partition_index = n.int();
                                    row.leader_id = n.int();
                                    row.leader_epoch = n.int();
                                    row.error_code = n.error();
                                }
                            }
                        }
                    }
                }
            }
        }),
        ApiKey::FindCoordinator => {
            change::<FindCoordinatorRequest>(version, honest, |answer| match n.below(5) {
                0 => answer.throttle_time_ms = n.int(),
                1 => answer.coordinators.clear(),
                _ => {
                    let (id, port, error) = (n.int(), n.int(), n.error());
                    if version < 4 {
                        (answer.node_id, answer.port, answer.error_code) = (id, port, error);
                    }
                    for row in &mut answer.coordinators {
                        (row.node_id, row.port, row.error_code) = (id, port, error);
                    }
                }
            })
        }
        ApiKey::InitProducerId => {
            change::<InitProducerIdRequest>(version, honest, |answer| match n.below(3) {
                0 => answer.throttle_time_ms = n.int(),
                1 => answer.error_code = n.error(),
                _ => (answer.producer_id, answer.producer_epoch) = (n.long(), n.int() as i16),
            })
        }
        ApiKey::Produce => change::<ProduceRequest>(version, honest, |answer| {
            let throttle = n.int();
            for topic in &mut answer.responses {
                match n.below(5) {
                    0 => answer.throttle_time_ms = throttle,
                    1 => topic.partition_responses.clear(),
                    _ => {
                        for row in &mut topic.partition_responses {
                            match n.below(4) {
                                0 => row.index = n.int(),
                                1 => row.error_code = n.error(),
                                2 => row.base_offset = n.long(),
                                _ => {
                                    (row.log_append_time_ms, row.log_start_offset) =
                                        (n.long(), n.long())
                                }
                            }
                        }
                    }
                }
            }
        }),
        ApiKey::Fetch => change::<FetchRequest>(version, honest, |answer| spoil_fetch(answer, n)),
        ApiKey::ListOffsets => change::<ListOffsetsRequest>(version, honest, |answer| {
            let throttle = n.int();
            for topic in &mut answer.topics {
                for row in &mut topic.partitions {
                    match n.below(5) {
                        0 => answer.throttle_time_ms = throttle,
                        1 => row.error_code = n.error(),
                        2 => row.partition_index = n.int(),
                        _ => (row.offset, row.leader_epoch) = (n.long(), n.int()),
                    }
                }
            }
        }),
        ApiKey::OffsetFetch => {
            change::<OffsetFetchRequest>(version, honest, |answer| match n.below(4) {
                0 => answer.throttle_time_ms = n.int(),
                1 => answer.groups.clear(),
                2 => answer.groups.iter_mut().for_each(|group| group.error_code = n.error()),
                _ => {
                    let topics = answer.groups.iter_mut().flat_map(|group| &mut group.topics);
                    for row in topics.flat_map(|topic| &mut topic.partitions) {
                        row.committed_offset = n.long();
                        row.committed_leader_epoch = n.int();
                        row.partition_index = n.pick(&[0, 1, 7, -1]);
                    }
                }
            })
        }
        ApiKey::OffsetCommit => {
            change::<OffsetCommitRequest>(version, honest, |answer| match n.below(3) {
                0 => answer.topics.clear(),
                1 => answer.throttle_time_ms = n.int(),
                _ => {
                    let rows = answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
                    rows.for_each(|row| row.error_code = n.error());
                }
            })
        }
        ApiKey::JoinGroup => {
            change::<JoinGroupRequest>(version, honest, |answer| match n.below(7) {
                0 => answer.throttle_time_ms = n.int(),
                1 => answer.error_code = n.error(),
                2 => answer.generation_id = n.int(),
                3 => answer.protocol_name = Some("another".into()),
                4 => answer.member_id = "".into(),
                5 => answer.leader = "somebody".into(),
                _ => {
                    answer.leader = answer.member_id.clone();
                    for number in 0..n.below(500) {
                        let metadata = n.bytes(100);
                        let member_id = format!("m{number}").into();
                        let member =
                            JoinGroupResponseMember { member_id, metadata, ..Default::default() };
                        answer.members.push(member);
                    }
                }
            })
        }
        ApiKey::SyncGroup => {
            change::<SyncGroupRequest>(version, honest, |answer| match n.below(5) {
                0 => answer.throttle_time_ms = n.int(),
                1 => answer.error_code = n.error(),
                2 => answer.protocol_name = Some("another".into()),
                3 => answer.assignment = n.bytes(200),
                _ => answer.assignment = absurd_assignment(n),
            })
        }
        ApiKey::Heartbeat => {
            change::<HeartbeatRequest>(version, honest, |answer| match n.below(3) {
                0 => answer.throttle_time_ms = n.int(),
                _ => answer.error_code = n.error(),
            })
        }
        _ => {
            // Most answers begin with a throttle time or an error code.
            let (header, body) = split_header(api, version, honest);
            let mut body = body.to_vec();
            let value = n.int().to_be_bytes();
            let room = body.len().min(4);
            body[..room].copy_from_slice(&value[..room]);
            Some([&header[..], &body].concat().into())
        }
    }
}

/// An assignment (version 1) of partitions that there are not, or many times the same.
fn absurd_assignment(n: &mut Numbers) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(1);
    bytes.put_i32(2);
    for topic in ["in", "no-such-topic"] {
        bytes.put_i16(i16::try_from(topic.len()).unwrap());
        bytes.put_slice(topic.as_bytes());
        let rows = n.pick(&[0, 1, 3, 5000]);
        bytes.put_i32(rows);
        let same = n.pick(&[None, Some(0), Some(-5), Some(i32::MAX)]);
        for _ in 0..rows {
            bytes.put_i32(same.unwrap_or_else(|| n.int()));
        }
    }
    bytes.put_i32(-1);
    bytes.freeze()
}

fn spoil_fetch(answer: &mut kavka_protocol::messages::FetchResponse, n: &mut Numbers) {
    match n.below(12) {
        0 => answer.throttle_time_ms = n.int(),
        1 => answer.error_code = n.error(),
        2 => answer.session_id = n.int(),
        3 => {
            let rows = answer.responses.clone();
            answer.responses.extend(rows);
        }
        _ => {}
    }
    for topic in &mut answer.responses {
        if n.below(12) == 0 {
            topic.topic_id = Uuid::from_bytes([7; 16]);
        }
        for row in &mut topic.partitions {
            match n.below(12) {
                0 => row.error_code = n.error(),
                1 => row.partition_index = n.int(),
                2 => (row.high_watermark, row.last_stable_offset) = (n.long(), n.long()),
                3 => row.log_start_offset = n.long(),
                4 => row.preferred_read_replica = n.int(),
                5 => row.records = Some(n.pick(&BOMBS[..])),
                6 => row.records = Some(n.bytes(400)),
                7 => {
                    (row.diverging_epoch.epoch, row.diverging_epoch.end_offset) =
                        (n.int(), n.long());
                }
                8 => {
                    (row.current_leader.leader_id, row.current_leader.leader_epoch) =
                        (n.int(), n.int());
                }
                _ => row.records = row.records.as_ref().map(|records| spoil_batch(records, n)),
            }
        }
    }
}

/// The first batch of some, with a field that lies; where the checksum covers it, that is right again.
fn spoil_batch(records: &Bytes, n: &mut Numbers) -> Bytes {
    const HEADER_BYTES: usize = 61;
    if records.len() < HEADER_BYTES {
        return records.clone();
    }
    let mut bytes = records.to_vec();
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    match n.below(9) {
        // Base offset: backwards, far ahead, negative.
        0 | 1 => put(0, &n.long().to_be_bytes()),
        // Batch length.
        2 => put(8, &n.int().to_be_bytes()),
        // Magic.
        3 => put(16, &[n.pick(&[0, 1, 3, 127, 255])]),
        // Checksum.
        4 => put(17, &n.int().to_be_bytes()),
        // Attributes: another codec, a control batch.
        5 => put(21, &(n.next() as i16).to_be_bytes()),
        // Last offset delta.
        6 => put(23, &n.int().to_be_bytes()),
        // Number of records.
        7 => put(57, &n.int().to_be_bytes()),
        // The records themselves.
        _ => {
            let at = HEADER_BYTES + n.below(records.len() - HEADER_BYTES);
            put(at, &[n.next() as u8]);
        }
    }
    let length = i32::from_be_bytes(records[8..12].try_into().unwrap());
    let end = usize::try_from(length).unwrap() + 12;
    if end <= bytes.len() && bytes[17..21] == records[17..21] {
        let checksum = crc32c(&bytes[21..end]);
        bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
    }
    bytes.into()
}

/// Batches of some kilobytes that become 24 MiB.
static BOMBS: LazyLock<[Bytes; 4]> = LazyLock::new(|| {
    let zeros = vec![0; 24 << 20];
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd].map(|codec| {
        let mut builder = BatchBuilder::new(0).with_compression(codec);
        builder.append(1, None, Some(&zeros), &[]).unwrap();
        builder.build_with(&mut Compressor::new(codec, None).unwrap()).unwrap()
    })
});
