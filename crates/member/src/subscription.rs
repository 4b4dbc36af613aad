//! What members tell each other through the coordinator: subscriptions and assignments, in the member's own words. Their bytes are those
//! of [`kavka_assignor::leader`].
//!
//! # References
//! KIP-429 (owned partitions), KIP-792 (generation), KIP-881 (rack).

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use kavka_assignor::leader;
use kavka_protocol::{
    ByteString, DecodeError, Reader,
    messages::{
        ConsumerProtocolAssignment, ConsumerProtocolSubscription,
        consumer_protocol_assignment::TopicPartition as AssignedTopic,
        consumer_protocol_subscription::TopicPartition as OwnedTopic,
    },
};

use crate::{Assignor, TopicPartition, UserData};

/// The newest version of both messages.
const VERSION: i16 = 3;
const ALWAYS_WRITABLE: &str = "names of topics are bounded, and the version is a known one";

/// What a member wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The topics.
    pub topics: BTreeSet<ByteString>,
    /// What the assignor put in.
    pub user_data: Option<Bytes>,
    /// What the member owns and would like to keep.
    pub owned: BTreeSet<TopicPartition>,
    /// The generation in which it owns that; -1 for none.
    pub generation: i32,
    /// Where the member is.
    pub rack: Option<ByteString>,
}

/// A member's share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// The partitions.
    pub partitions: BTreeSet<TopicPartition>,
    /// What the assignor wants the member to know.
    pub user_data: Option<Bytes>,
}

impl Subscription {
    /// As it goes into a JoinGroup.
    pub fn encode(&self) -> Bytes {
        let message = ConsumerProtocolSubscription {
            topics: self.topics.iter().cloned().collect(),
            user_data: self.user_data.clone(),
            owned_partitions: by_topic(&self.owned)
                .into_iter()
                .map(|(topic, partitions)| OwnedTopic { topic, partitions })
                .collect(),
            generation_id: self.generation,
            rack_id: self.rack.clone(),
        };
        leader::encode_subscription(&message, VERSION).expect(ALWAYS_WRITABLE)
    }

    /// Reads one of any version.
    ///
    /// # Errors
    /// The bytes are no subscription.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let (message, _) = leader::decode_subscription(bytes)?;
        let owned = message.owned_partitions.into_iter().flat_map(|owned| {
            let topic = owned.topic;
            owned
                .partitions
                .into_iter()
                .map(move |partition| TopicPartition::new(topic.clone(), partition))
        });
        Ok(Self {
            owned: owned.collect(),
            topics: message.topics.into_iter().collect(),
            user_data: message.user_data,
            generation: message.generation_id,
            rack: message.rack_id,
        })
    }
}

impl Assignment {
    /// As it goes into a SyncGroup, in the newest version.
    pub fn encode(&self) -> Bytes {
        self.encode_as(VERSION)
    }

    /// All versions have the same fields; but each member is answered in the version it spoke.
    pub(crate) fn encode_as(&self, version: i16) -> Bytes {
        let message = ConsumerProtocolAssignment {
            assigned_partitions: by_topic(&self.partitions)
                .into_iter()
                .map(|(topic, partitions)| AssignedTopic { topic, partitions })
                .collect(),
            user_data: self.user_data.clone(),
        };
        leader::encode_assignment(&message, version).expect(ALWAYS_WRITABLE)
    }

    /// Reads one of any version. No bytes at all stand for no partitions: the leader forgot the member.
    ///
    /// # Errors
    /// The bytes are no assignment.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let message = leader::decode_assignment(bytes)?;
        let partitions = message.assigned_partitions.into_iter().flat_map(|assigned| {
            let topic = assigned.topic;
            assigned
                .partitions
                .into_iter()
                .map(move |partition| TopicPartition::new(topic.clone(), partition))
        });
        Ok(Self { partitions: partitions.collect(), user_data: message.user_data })
    }
}

/// What an assignor that comes with Kafka finds in its user data: the last assignment and its generation.
pub(crate) fn user_data(
    assignor: &Assignor,
    last: &BTreeSet<TopicPartition>,
    last_generation: i32,
) -> Option<Bytes> {
    match &assignor.user_data {
        UserData::None => None,
        UserData::Generation => Some(Bytes::copy_from_slice(&last_generation.to_be_bytes())),
        // StickyAssignorUserDataV1; null until there was an assignment.
        UserData::Assignment if last_generation < 0 => None,
        UserData::Assignment => {
            let mut bytes = BytesMut::new();
            let topics = by_topic(last);
            bytes.put_i32(count(topics.len()));
            for (topic, partitions) in topics {
                bytes.put_i16(i16::try_from(topic.len()).unwrap_or(i16::MAX));
                bytes.put_slice(topic.as_bytes());
                bytes.put_i32(count(partitions.len()));
                partitions.into_iter().for_each(|partition| bytes.put_i32(partition));
            }
            bytes.put_i32(last_generation);
            Some(bytes.freeze())
        }
    }
}

fn count(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}

fn by_topic(partitions: &BTreeSet<TopicPartition>) -> BTreeMap<ByteString, Vec<i32>> {
    let mut topics: BTreeMap<ByteString, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(partition.topic.clone()).or_default().push(partition.partition);
    }
    topics
}

/// The version of a message, as far as this codec knows it.
pub(crate) fn version_of(bytes: &Bytes) -> i16 {
    Reader::new(bytes.clone()).int16("version").unwrap_or(0).clamp(0, VERSION)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn subscription_is_written_as_kafka_writes_it() {
        let subscription =
            Subscription { topics: ["t".into()].into(), generation: -1, ..Default::default() };
        let bytes = subscription.encode();
        let expected: &[u8] = &[
            0, 3, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff,
            0xff, 0xff, 0xff,
        ];
        assert_eq!(bytes, expected);
        assert_eq!(Subscription::decode(&bytes).unwrap(), subscription);
    }

    #[test]
    fn assignment_is_written_as_kafka_writes_it() {
        let partitions = [TopicPartition::new("t", 1), TopicPartition::new("t", 0)].into();
        let assignment = Assignment { partitions, user_data: None };
        let bytes = assignment.encode();
        let expected: &[u8] = &[
            0, 3, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff,
            0xff,
        ];
        assert_eq!(bytes, expected);
        assert_eq!(Assignment::decode(&bytes).unwrap(), assignment);
        assert_eq!(Assignment::decode(&Bytes::new()).unwrap(), Assignment::default());
    }

    #[test]
    fn later_versions_are_read_as_the_newest_and_garbage_is_refused() {
        let mut bytes = BytesMut::from(&Subscription::default().encode()[..]);
        bytes[1] = 9;
        bytes.put_slice(b"more");
        assert_eq!(Subscription::decode(&bytes.freeze()).unwrap(), Subscription::default());
        for garbage in [&b""[..], &b"\x00"[..], &b"\xff\xff"[..], &b"\x00\x01\x7f\xff\xff\xff"[..]]
        {
            assert!(Subscription::decode(&Bytes::from_static(garbage)).is_err());
        }
    }

    #[test]
    fn sticky_user_data_is_the_assignment_and_its_generation() {
        let last = [TopicPartition::new("t", 4)].into();
        assert_eq!(user_data(&Assignor::sticky(), &last, -1), None);
        let bytes = user_data(&Assignor::sticky(), &last, 7).unwrap();
        assert_eq!(&bytes[..], [0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 7]);
        let bytes = user_data(&Assignor::cooperative_sticky(), &last, 7).unwrap();
        assert_eq!(&bytes[..], [0, 0, 0, 7]);
        assert_eq!(user_data(&Assignor::range(), &last, 7), None);
    }
}
