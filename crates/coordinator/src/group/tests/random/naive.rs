//! Committed offsets, read off the log as simply as can be: what the shard's tables must agree with.

use std::collections::BTreeMap;

use kavka_protocol::ByteString;

use crate::group::{
    Record,
    tests::context::{Entry, Logged},
};

/// The offsets of one group.
#[derive(Default)]
pub(super) struct NaiveOffsets {
    /// Topic and partition; the offset, and where its record stands in the log.
    pub(super) committed: BTreeMap<(ByteString, i32), (i64, i64)>,
    /// What the open transaction of each producer has written.
    pub(super) pending: BTreeMap<i64, Vec<Pending>>,
}

pub(super) struct Pending {
    pub(super) topic: ByteString,
    pub(super) partition: i32,
    offset: i64,
    log_offset: i64,
}

impl NaiveOffsets {
    pub(super) fn of(log: &[Entry], group: &str) -> Self {
        let mut this = Self::default();
        for entry in log {
            match &entry.what {
                Logged::Plain(Record::Offset { group: of, topic, partition, value })
                    if of == group =>
                {
                    let key = (topic.clone(), *partition);
                    if let Some(value) = value {
                        this.committed.insert(key, (value.offset, entry.offset));
                    } else {
                        this.committed.remove(&key);
                        for rows in this.pending.values_mut() {
                            rows.retain(|row| (&row.topic, row.partition) != (topic, *partition));
                        }
                    }
                }
                Logged::Transactional(
                    producer,
                    Record::Offset { group: of, topic, partition, value: Some(value) },
                ) if of == group => {
                    let (topic, partition) = (topic.clone(), *partition);
                    let (offset, log_offset) = (value.offset, entry.offset);
                    let row = Pending { topic, partition, offset, log_offset };
                    this.pending.entry(*producer).or_default().push(row);
                }
                Logged::Marker(producer, committed) => this.end(*producer, *committed),
                Logged::Plain(_) | Logged::Transactional(..) => {}
            }
        }
        this
    }

    fn end(&mut self, producer: i64, committed: bool) {
        for row in self.pending.remove(&producer).into_iter().flatten() {
            let key = (row.topic, row.partition);
            let now = self.committed.get(&key);
            if committed && now.is_none_or(|(_, of_now)| *of_now < row.log_offset) {
                self.committed.insert(key, (row.offset, row.log_offset));
            }
        }
    }
}
