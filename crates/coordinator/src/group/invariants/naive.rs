//! Committed offsets, read off the log as simply as can be: what the shard's tables must agree with.

use std::collections::BTreeMap;

use kavka_protocol::{ByteString, ErrorCode};

use super::{Entry, Logged};
use crate::group::{FetchReply, FetchRequest, OffsetValue, Record};

/// Group, topic and partition.
type Place = (ByteString, ByteString, i32);

/// The offsets that a log says are committed.
#[derive(Clone, Debug, Default)]
pub struct NaiveOffsets {
    /// The offset, and where its record stands in the log.
    committed: BTreeMap<Place, (OffsetValue, i64)>,
    /// What the open transaction of each producer has written.
    pending: BTreeMap<i64, Vec<(Place, OffsetValue, i64)>>,
}

impl NaiveOffsets {
    /// What the whole log says.
    pub fn of(log: &[Entry]) -> Self {
        let mut this = Self::default();
        log.iter().for_each(|entry| this.apply(entry));
        this
    }

    /// One more record.
    pub fn apply(&mut self, entry: &Entry) {
        match &entry.what {
            Logged::Plain(Record::Offset { group, topic, partition, value }) => {
                let place = (group.clone(), topic.clone(), *partition);
                if let Some(value) = value {
                    self.committed.insert(place, (value.clone(), entry.offset));
                } else {
                    self.committed.remove(&place);
                    for rows in self.pending.values_mut() {
                        rows.retain(|(of, ..)| *of != place);
                    }
                }
            }
            Logged::Transactional(
                producer,
                Record::Offset { group, topic, partition, value: Some(value) },
            ) => {
                let place = (group.clone(), topic.clone(), *partition);
                let row = (place, value.clone(), entry.offset);
                self.pending.entry(*producer).or_default().push(row);
            }
            Logged::Marker(producer, committed) => self.end(*producer, *committed),
            Logged::Plain(_) | Logged::Transactional(..) => {}
        }
    }

    fn end(&mut self, producer: i64, committed: bool) {
        for (place, value, log_offset) in self.pending.remove(&producer).into_iter().flatten() {
            let now = self.committed.get(&place);
            if committed && now.is_none_or(|(_, of_now)| *of_now < log_offset) {
                self.committed.insert(place, (value, log_offset));
            }
        }
    }

    /// What is committed there.
    pub fn committed(&self, place: &(ByteString, ByteString, i32)) -> Option<&OffsetValue> {
        self.committed.get(place).map(|(value, _)| value)
    }

    /// Whether a transaction is open that has an offset for that place.
    pub fn is_pending(&self, place: &(ByteString, ByteString, i32)) -> bool {
        self.pending.values().flatten().any(|(of, ..)| of == place)
    }

    /// Everything that is committed.
    pub fn all(&self) -> impl Iterator<Item = (&(ByteString, ByteString, i32), &OffsetValue)> {
        self.committed.iter().map(|(place, (value, _))| (place, value))
    }

    /// S5, S25: what is fetched is what the log says. Not for a reply that is an error as a whole.
    ///
    /// # Panics
    /// If it is not.
    pub fn check_fetch(&self, request: &FetchRequest, reply: &FetchReply) {
        let mut seen = 0;
        for topic in &reply.topics {
            for row in &topic.partitions {
                let place = (request.group.clone(), topic.name.clone(), row.partition);
                let is_same_topic = |value: &&OffsetValue| {
                    request.topics.is_none()
                        || topic.topic_id.is_zero()
                        || value.topic_id.is_zero()
                        || value.topic_id == topic.topic_id
                };
                let committed = self.committed(&place);
                seen += usize::from(committed.is_some());
                let got = (row.offset, row.leader_epoch, &*row.metadata, row.error);
                let expected = if request.require_stable && self.is_pending(&place) {
                    (-1, -1, "", ErrorCode::UnstableOffsetCommit)
                } else {
                    committed.filter(is_same_topic).map_or((-1, -1, "", ErrorCode::None), |value| {
                        (value.offset, value.leader_epoch, &*value.metadata, ErrorCode::None)
                    })
                };
                assert_eq!(got, expected, "S5: {place:?}");
            }
        }
        if request.topics.is_none() {
            let all = self.committed.keys().filter(|(group, ..)| *group == request.group).count();
            assert_eq!(seen, all, "S5: nothing is left out");
        }
    }
}
