//! Committed offsets straight from the bytes of a log.
//!
//! A start reads millions of them. [`Record::decode`](super::Record::decode) shares the buffer with every name it finds, which
//! costs more than all the rest; here nothing is shared or copied before the shard knows whether it has the name already.
//!
//! Reads what is written today: key type 1, values of version 3 and 4. Everything else, and whatever is unusual in any way, is
//! left to [`Record::decode`](super::Record::decode), which says what it is.

use kavka_protocol::{ByteString, Uuid};

use super::OffsetValue;

/// A committed offset in the log.
#[derive(Debug, PartialEq)]
pub(crate) struct LoggedOffset<'a> {
    pub(crate) group: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) value: OffsetValue,
}

impl<'a> LoggedOffset<'a> {
    /// `None` for any other record.
    pub(crate) fn read(key: &'a [u8], value: &[u8]) -> Option<Self> {
        let mut key = Cursor(key);
        if key.int16()? != 1 {
            return None;
        }
        let (group, topic, partition) = (key.string()?, key.string()?, key.int32()?);
        let mut value = Cursor(value);
        let version = value.int16()?;
        if !matches!(version, 3 | 4) {
            return None;
        }
        let (offset, leader_epoch) = (value.int64()?, value.int32()?);
        let leader_epoch =
            if kavka_mutants::mutant("epoch-not-loaded") { -1 } else { leader_epoch };
        let metadata = if version == 3 { value.string()? } else { value.compact_string()? };
        let commit_timestamp_ms = value.int64()?;
        let topic_id = if version == 3 { Uuid::ZERO } else { value.topic_id()? };
        let value_is_whole = key.0.is_empty() && value.0.is_empty();
        value_is_whole.then(|| LoggedOffset {
            group,
            topic,
            partition,
            value: OffsetValue {
                offset,
                leader_epoch,
                metadata: ByteString::from(metadata),
                commit_timestamp_ms,
                expire_timestamp_ms: None,
                topic_id,
            },
        })
    }
}

/// The rest of a key or value. Reads past its end are `None`.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn int16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    fn int32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn int64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    fn text(&mut self, len: usize) -> Option<&'a str> {
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn string(&mut self) -> Option<&'a str> {
        let len = usize::try_from(self.int16()?).ok()?;
        self.text(len)
    }

    /// Up to 126 bytes, for longer ones have more than one byte of length.
    fn compact_string(&mut self) -> Option<&'a str> {
        match self.array()? {
            [len @ 1..0x80] => self.text(usize::from(len) - 1),
            _ => None,
        }
    }

    /// The tagged fields of a value of version 4: none, or tag 0 with 16 bytes.
    fn topic_id(&mut self) -> Option<Uuid> {
        match self.array()? {
            [0] => Some(Uuid::ZERO),
            [1] if self.array()? == [0, 16] => self.array().map(Uuid::from_bytes),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::group::{GroupConfig, GroupShard, Record};

    /// What the shard makes of a record as it stands in the log, and of the same record decoded first.
    fn both_ways(key: &[u8], value: Option<&[u8]>) -> [GroupShard; 2] {
        let mut shards = [1, 1].map(|seed| GroupShard::new(GroupConfig::default(), seed));
        shards[0].apply_logged(7, None, Some(key), value);
        let (key, value) = (key.to_vec().into(), value.map(|value| value.to_vec().into()));
        shards[1].apply(7, &Record::decode(Some(&key), value.as_ref()));
        shards
    }

    fn check(key: &[u8], value: Option<&[u8]>) {
        let [logged, decoded] = both_ways(key, value);
        assert_eq!(logged.hard_state(), decoded.hard_state());
        assert_eq!(logged.skipped_records(), decoded.skipped_records());
    }

    #[test]
    fn what_is_written_today_is_read_here() {
        for topic_id in [Uuid::ZERO, Uuid::from_bytes([7; 16])] {
            for metadata in ["", "a note", &"x".repeat(127)] {
                let value = OffsetValue {
                    offset: 5,
                    leader_epoch: 3,
                    metadata: metadata.into(),
                    commit_timestamp_ms: 1_000,
                    expire_timestamp_ms: None,
                    topic_id,
                };
                let (group, topic) = (ByteString::from("g"), ByteString::from("t"));
                let record =
                    Record::Offset { group, topic, partition: 9, value: Some(value.clone()) };
                let (key, bytes) = record.encode().unwrap();
                let bytes = bytes.unwrap();
                let read = LoggedOffset::read(&key, &bytes);
                let expected = LoggedOffset { group: "g", topic: "t", partition: 9, value };
                assert_eq!(read, Some(expected).filter(|_| metadata.len() < 127));
                check(&key, Some(&bytes));
            }
        }
    }

    proptest! {
        /// Whole, cut, lengthened or with any byte changed: it is the same as decoding it.
        #[test]
        fn damaged_or_not_it_is_what_decoding_makes_of_it(
            (group, topic, partition) in ("[a-zü]{0,4}", "[a-z]{0,4}", any::<i32>()),
            (offset, leader_epoch, metadata) in (any::<i64>(), any::<i32>(), "[a-z]{0,130}"),
            (expires, id) in (prop::option::weighted(0.2, 0..9_i64), any::<bool>()),
            (at, byte, how) in (any::<prop::sample::Index>(), any::<u8>(), 0..5_u8),
        ) {
            let value = OffsetValue {
                offset,
                leader_epoch,
                metadata: metadata.into(),
                commit_timestamp_ms: 1_000,
                expire_timestamp_ms: expires,
                topic_id: if id { Uuid::from_bytes([7; 16]) } else { Uuid::ZERO },
            };
            let (group, topic) = (group.into(), topic.into());
            let record = Record::Offset { group, topic, partition, value: Some(value) };
            let (key, value) = record.encode().unwrap();
            let (mut key, mut value) = (key.to_vec(), value.unwrap().to_vec());
            let bytes = if byte % 2 == 0 { &mut key } else { &mut value };
            let at = at.index(bytes.len());
            match how {
                0 => bytes.truncate(at),
                1 => bytes[at] = byte,
                2 => bytes.push(byte),
                3 => bytes.insert(at, byte),
                _ => {}
            }
            check(&key, Some(&value));
            check(&key, None);
        }
    }
}
