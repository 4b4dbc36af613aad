//! The records of `__consumer_offsets`: the shard's words for them, and their bytes as Apache Kafka writes them.
//!
//! This file is the only place that knows record types and value versions. A key is an int16 record type and then the key in
//! version 0; a value is an int16 version and then the value; a deletion is a key without a value.
//!
//! Read: types 0 and 1 (offset commits, values 0 to 4) and 2 (classic groups, values 0 to 4). Written: type 1, value 4, or 1
//! where the commit carries a retention time of its own; type 2, value 3. What is not read is told as
//! [`Record::Skipped`], never half applied.

use std::fmt;

use bytes::Bytes;
use kavka_protocol::{
    ByteString, DecodeError, EncodeError, Message, Reader, Uuid,
    messages::{
        GroupMetadataKey, GroupMetadataValue, LegacyOffsetCommitKey, LegacyOffsetCommitValue,
        OffsetCommitKey, OffsetCommitValue, group_metadata_value::MemberMetadata,
    },
};

/// A record of `__consumer_offsets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A committed offset, or its removal.
    Offset {
        /// The group.
        group: ByteString,
        /// The topic.
        topic: ByteString,
        /// The partition.
        partition: i32,
        /// `None` removes it.
        value: Option<OffsetValue>,
    },
    /// A classic group, or its removal.
    Group {
        /// The group.
        group: ByteString,
        /// `None` removes it.
        value: Option<GroupValue>,
    },
    /// A record that is not for us: counted, not applied.
    Skipped(Skipped),
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OffsetValue {
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the last record read; -1 for none.
    pub leader_epoch: i32,
    /// The client's note.
    pub metadata: ByteString,
    /// When it was committed, milliseconds since the Unix epoch.
    pub commit_timestamp_ms: i64,
    /// When it expires, whatever the broker's retention is. Such a value is written in version 1, which has neither leader
    /// epoch nor topic id: they do not survive.
    pub expire_timestamp_ms: Option<i64>,
    /// The topic's id; zero if unknown.
    pub topic_id: Uuid,
}

/// A classic group as it is stored: with the members and assignments of its last finished rebalance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupValue {
    /// Empty if nobody ever joined.
    pub protocol_type: ByteString,
    /// The generation.
    pub generation: i32,
    /// The chosen protocol; `None` without members.
    pub protocol: Option<ByteString>,
    /// The leader's member id; `None` without members.
    pub leader: Option<ByteString>,
    /// When the group came into this state, milliseconds since the Unix epoch; -1 in records from before that was stored.
    pub state_timestamp_ms: i64,
    /// The members, by id.
    pub members: Vec<GroupMember>,
}

/// A member as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupMember {
    /// Its id.
    pub member_id: ByteString,
    /// Its name, if it is static.
    pub instance_id: Option<ByteString>,
    /// `client.id`.
    pub client_id: ByteString,
    /// The peer's address.
    pub client_host: ByteString,
    /// In milliseconds; -1 stands for the session timeout.
    pub rebalance_timeout_ms: i32,
    /// In milliseconds.
    pub session_timeout_ms: i32,
    /// Its subscription under the chosen protocol.
    pub subscription: Bytes,
    /// Its share.
    pub assignment: Bytes,
}

/// Why a record is not applied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skipped {
    /// A record type that this shard does not serve: groups of another protocol, or a type newer than this code.
    Type(i16),
    /// A value version newer than this code.
    ValueVersion {
        /// The record type.
        record_type: i16,
        /// The version.
        version: i16,
    },
    /// Bytes that are no such record.
    Malformed {
        /// The record type, if there were bytes enough to tell.
        record_type: Option<i16>,
    },
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Skipped::Type(record_type) => write!(f, "record type {record_type}"),
            Skipped::ValueVersion { record_type, version } => {
                write!(f, "version {version} of record type {record_type}")
            }
            Skipped::Malformed { record_type: Some(record_type) } => {
                write!(f, "malformed record of type {record_type}")
            }
            Skipped::Malformed { record_type: None } => f.write_str("malformed record key"),
        }
    }
}

const LEGACY_OFFSET_COMMIT: i16 = 0;
const OFFSET_COMMIT: i16 = 1;
const GROUP_METADATA: i16 = 2;

/// The version of offset values; [`OFFSET_VALUE_WITH_EXPIRY`] where the commit has a retention time.
const OFFSET_VALUE: i16 = 4;
const OFFSET_VALUE_WITH_EXPIRY: i16 = 1;
const GROUP_VALUE: i16 = 3;

impl Record {
    /// Reads a record. Never fails: what cannot be read becomes [`Record::Skipped`].
    pub fn decode(key: Option<&Bytes>, value: Option<&Bytes>) -> Record {
        let Some((record_type, mut key)) = key.and_then(split_prefix) else {
            return Record::Skipped(Skipped::Malformed { record_type: None });
        };
        let malformed = |_: DecodeError| Skipped::Malformed { record_type: Some(record_type) };
        let read = match record_type {
            LEGACY_OFFSET_COMMIT => LegacyOffsetCommitKey::decode(&mut key, 0)
                .map_err(malformed)
                .map(|key| (key.group, key.topic, key.partition))
                .and_then(|key| decode_offset(record_type, key, value)),
            OFFSET_COMMIT => OffsetCommitKey::decode(&mut key, 0)
                .map_err(malformed)
                .map(|key| (key.group, key.topic, key.partition))
                .and_then(|key| decode_offset(record_type, key, value)),
            GROUP_METADATA => GroupMetadataKey::decode(&mut key, 0)
                .map_err(malformed)
                .and_then(|key| decode_group(key.group, value)),
            other => Err(Skipped::Type(other)),
        };
        read.unwrap_or_else(Record::Skipped)
    }

    /// The record's key and value, as Apache Kafka writes them.
    ///
    /// # Errors
    /// A string longer than 32,767 bytes, which no request can bring in; a skipped record has no bytes and gives an error.
    pub fn encode(&self) -> Result<(Bytes, Option<Bytes>), RecordError> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let has_value = self.encode_into(&mut key, &mut value)?;
        Ok((key.into(), has_value.then(|| value.into())))
    }

    /// [`encode`](Self::encode) into buffers, whose contents are replaced. False without a value: a tombstone.
    ///
    /// # Errors
    /// As of [`encode`](Self::encode); the buffers then hold nothing of use.
    pub fn encode_into(
        &self,
        key_out: &mut Vec<u8>,
        value_out: &mut Vec<u8>,
    ) -> Result<bool, RecordError> {
        key_out.clear();
        value_out.clear();
        match self {
            Record::Offset { group, topic, partition, value } => {
                let key = OffsetCommitKey {
                    group: group.clone(),
                    topic: topic.clone(),
                    partition: *partition,
                };
                put_with_prefix(key_out, OFFSET_COMMIT, &key, 0)?;
                value.as_ref().map(|value| put_offset_value(value_out, value)).transpose()?;
                Ok(value.is_some())
            }
            Record::Group { group, value } => {
                let key = GroupMetadataKey { group: group.clone() };
                put_with_prefix(key_out, GROUP_METADATA, &key, 0)?;
                value.as_ref().map(|value| put_group_value(value_out, value)).transpose()?;
                Ok(value.is_some())
            }
            Record::Skipped(skipped) => Err(RecordError::Skipped(skipped.clone())),
        }
    }
}

/// The record cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A field is beyond what the format can carry.
    #[error("a record of __consumer_offsets cannot be written: {0}")]
    Encode(#[from] EncodeError),
    /// The record was read and skipped; only records that a shard made are written.
    #[error("a skipped record ({0}) cannot be written")]
    Skipped(Skipped),
}

fn split_prefix(bytes: &Bytes) -> Option<(i16, Reader)> {
    let prefix = bytes.first_chunk::<2>()?;
    Some((i16::from_be_bytes(*prefix), Reader::new(bytes.slice(2..))))
}

fn put_with_prefix<M: Message>(
    out: &mut Vec<u8>,
    prefix: i16,
    message: &M,
    version: i16,
) -> Result<(), EncodeError> {
    out.extend_from_slice(&prefix.to_be_bytes());
    message.encode(out, version)
}

fn decode_offset(
    record_type: i16,
    (group, topic, partition): (ByteString, ByteString, i32),
    value: Option<&Bytes>,
) -> Result<Record, Skipped> {
    let value = value.map(|value| decode_offset_value(record_type, value)).transpose()?;
    Ok(Record::Offset { group, topic, partition, value })
}

fn decode_offset_value(record_type: i16, value: &Bytes) -> Result<OffsetValue, Skipped> {
    let malformed = Skipped::Malformed { record_type: Some(record_type) };
    let (version, mut reader) = split_prefix(value).ok_or_else(|| malformed.clone())?;
    // A type 0 record is written with value version 0, but Kafka itself reads it with the schema of type 1, so
    // that a later version is no error there. We accept it as well.
    if record_type == LEGACY_OFFSET_COMMIT && version == 0 {
        let value = LegacyOffsetCommitValue::decode(&mut reader, 0).map_err(|_| malformed)?;
        return Ok(OffsetValue {
            offset: value.offset,
            leader_epoch: -1,
            metadata: value.metadata,
            commit_timestamp_ms: value.commit_timestamp,
            expire_timestamp_ms: None,
            topic_id: Uuid::ZERO,
        });
    }
    if !OffsetCommitValue::VERSIONS.contains(&version) {
        return Err(Skipped::ValueVersion { record_type, version });
    }
    let value = OffsetCommitValue::decode(&mut reader, version).map_err(|_| malformed)?;
    Ok(OffsetValue {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: value.metadata,
        commit_timestamp_ms: value.commit_timestamp,
        expire_timestamp_ms: (value.expire_timestamp != -1).then_some(value.expire_timestamp),
        topic_id: value.topic_id,
    })
}

fn put_offset_value(out: &mut Vec<u8>, value: &OffsetValue) -> Result<(), EncodeError> {
    let version = match value.expire_timestamp_ms {
        Some(_) => OFFSET_VALUE_WITH_EXPIRY,
        None => OFFSET_VALUE,
    };
    let message = OffsetCommitValue {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: value.metadata.clone(),
        commit_timestamp: value.commit_timestamp_ms,
        expire_timestamp: value.expire_timestamp_ms.unwrap_or(-1),
        topic_id: value.topic_id,
        ..Default::default()
    };
    put_with_prefix(out, version, &message, version)
}

fn decode_group(group: ByteString, value: Option<&Bytes>) -> Result<Record, Skipped> {
    let Some(value) = value else {
        return Ok(Record::Group { group, value: None });
    };
    let malformed = Skipped::Malformed { record_type: Some(GROUP_METADATA) };
    let (version, mut reader) = split_prefix(value).ok_or_else(|| malformed.clone())?;
    if !GroupMetadataValue::VERSIONS.contains(&version) {
        return Err(Skipped::ValueVersion { record_type: GROUP_METADATA, version });
    }
    let value = GroupMetadataValue::decode(&mut reader, version).map_err(|_| malformed)?;
    let members = value
        .members
        .into_iter()
        .map(|member| GroupMember {
            member_id: member.member_id,
            instance_id: member.group_instance_id,
            client_id: member.client_id,
            client_host: member.client_host,
            rebalance_timeout_ms: member.rebalance_timeout,
            session_timeout_ms: member.session_timeout,
            subscription: member.subscription,
            assignment: member.assignment,
        })
        .collect();
    let value = GroupValue {
        protocol_type: value.protocol_type,
        generation: value.generation,
        protocol: value.protocol,
        leader: value.leader,
        state_timestamp_ms: value.current_state_timestamp,
        members,
    };
    Ok(Record::Group { group, value: Some(value) })
}

fn put_group_value(out: &mut Vec<u8>, value: &GroupValue) -> Result<(), EncodeError> {
    let message = GroupMetadataValue {
        protocol_type: value.protocol_type.clone(),
        generation: value.generation,
        protocol: value.protocol.clone(),
        leader: value.leader.clone(),
        current_state_timestamp: value.state_timestamp_ms,
        members: value
            .members
            .iter()
            .map(|member| MemberMetadata {
                member_id: member.member_id.clone(),
                group_instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                rebalance_timeout: member.rebalance_timeout_ms,
                session_timeout: member.session_timeout_ms,
                subscription: member.subscription.clone(),
                assignment: member.assignment.clone(),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    put_with_prefix(out, GROUP_VALUE, &message, GROUP_VALUE)
}

impl Record {
    /// Bytes of key and value, within a few: what a batch of these records comes to.
    pub(crate) fn approximate_size(&self) -> usize {
        const OVERHEAD: usize = 24;
        match self {
            Record::Offset { group, topic, value, .. } => {
                let value = value.as_ref().map_or(0, |value| 48 + value.metadata.len());
                OVERHEAD + group.len() + topic.len() + value
            }
            Record::Group { group, value } => {
                OVERHEAD + group.len() + value.as_ref().map_or(0, GroupValue::size)
            }
            Record::Skipped(_) => 0,
        }
    }
}

impl GroupValue {
    /// Bytes of the value: exact for what is written.
    pub(crate) fn size(&self) -> usize {
        let text = |text: &ByteString| 2 + text.len();
        let maybe = |text: &Option<ByteString>| 2 + text.as_ref().map_or(0, |text| text.len());
        let members: usize = self
            .members
            .iter()
            .map(|member| {
                text(&member.member_id)
                    + maybe(&member.instance_id)
                    + text(&member.client_id)
                    + text(&member.client_host)
                    + 16
                    + member.subscription.len()
                    + member.assignment.len()
            })
            .sum();
        2 + text(&self.protocol_type)
            + 4
            + maybe(&self.protocol)
            + maybe(&self.leader)
            + 12
            + members
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// What Apache Kafka 4.4 writes.
    #[test]
    fn bytes_are_those_of_kafka() {
        let value = OffsetValue {
            offset: 5,
            leader_epoch: -1,
            metadata: ByteString::new(),
            commit_timestamp_ms: 1_000,
            expire_timestamp_ms: None,
            topic_id: Uuid::ZERO,
        };
        let encode = |value| {
            let record =
                Record::Offset { group: "g".into(), topic: "t".into(), partition: 0, value };
            let (key, value) = record.encode().unwrap();
            assert_eq!(Record::decode(Some(&key), value.as_ref()), record);
            (key, value)
        };
        let (key, bytes) = encode(Some(value.clone()));
        assert_eq!(&key[..], b"\0\x01\0\x01g\0\x01t\0\0\0\0");
        let expected = b"\0\x04\0\0\0\0\0\0\0\x05\xff\xff\xff\xff\x01\0\0\0\0\0\0\x03\xe8\0";
        assert_eq!(&bytes.unwrap()[..], expected);
        let (_, bytes) = encode(Some(OffsetValue { expire_timestamp_ms: Some(9), ..value }));
        let expected = b"\0\x01\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\0\x03\xe8\0\0\0\0\0\0\0\x09";
        assert_eq!(&bytes.unwrap()[..], expected);
        assert_eq!(encode(None).1, None);

        let group = Record::Group { group: "g".into(), value: None };
        assert_eq!(&group.encode().unwrap().0[..], b"\0\x02\0\x01g");
    }
}
