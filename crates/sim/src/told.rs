//! What a member tells its application, and whether it may: which partitions it has, and where each begins.

use std::collections::BTreeMap;

use kavka_member::{Event, Input, Position, Response, TopicPartition};
use kavka_protocol::ErrorCode;

/// See the module.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Told {
    /// What is owned: whether it is about to go.
    owned: BTreeMap<TopicPartition, bool>,
    /// For each partition: what may be found as a position.
    may_find: BTreeMap<TopicPartition, MayFind>,
}

/// What a broker has said that a position may come of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum MayFind {
    Nothing,
    Committed(i64),
    Reset,
    /// Anywhere, once; what was asked before that says nothing any more.
    Sought,
}

/// What is being handed in, for checks of what comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Because {
    Fetched,
    Listed,
    Other,
}

impl Because {
    pub(crate) fn of(input: &Input) -> Self {
        match input {
            Input::Response(_, Response::FetchOffsets(_)) => Because::Fetched,
            Input::Response(_, Response::ListOffsets(_)) => Because::Listed,
            _ => Because::Other,
        }
    }
}

impl Told {
    /// The partitions that the application has, those that are about to go as well.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.owned.keys()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.owned.is_empty()
    }

    /// S27: what is about to go is not fetched from.
    ///
    /// # Panics
    /// If it is, or if it is not owned.
    pub(crate) fn check_read(&self, partition: &TopicPartition) {
        assert!(self.owned.get(partition) == Some(&false), "S27: {partition} is not to be read");
    }

    /// The next position of the partition may be anywhere: its log ends before it, or the application asked for that.
    pub(crate) fn may_be_reset(&mut self, partition: TopicPartition) {
        self.may_find.insert(partition, MayFind::Sought);
    }

    /// What a broker says here is what a position may come of.
    pub(crate) fn foresee(&mut self, input: &Input) {
        let Input::Response(_, Response::FetchOffsets(Ok(rows))) = input else { return };
        for (partition, row) in rows {
            let may_find = match (row.error, row.offset) {
                (ErrorCode::None, 0..) => MayFind::Committed(row.offset),
                (ErrorCode::None, _) => MayFind::Reset,
                // An error says nothing about what is committed.
                _ => continue,
            };
            if self.may_find.get(partition) != Some(&MayFind::Sought) {
                self.may_find.insert(partition.clone(), may_find);
            }
        }
    }

    /// The application is told: S32, S28.
    ///
    /// # Panics
    /// If that must not be said now.
    pub(crate) fn hear(&mut self, event: &Event, because: Because) {
        match event {
            Event::Assigned { added, owned, .. } => {
                for partition in added {
                    let former = self.owned.insert(partition.clone(), false);
                    assert_eq!(former, None, "S32: assigned after revoked or lost");
                    self.may_find.insert(partition.clone(), MayFind::Nothing);
                }
                let is_told = |partition| self.owned.contains_key(partition);
                assert!(owned.iter().all(is_told), "S32: what is owned was assigned");
            }
            Event::Revoking { partitions, .. } => {
                for partition in partitions {
                    let former = self.owned.insert(partition.clone(), true);
                    assert_eq!(former, Some(false), "S32: revoking once, after assigned");
                }
            }
            Event::Revoked { partitions } => {
                for partition in partitions {
                    let former = self.owned.remove(partition);
                    assert_eq!(former, Some(true), "S32: revoked after revoking");
                }
            }
            Event::Lost { partitions, .. } => {
                for partition in partitions {
                    assert!(self.owned.remove(partition).is_some(), "S32: lost after assigned");
                }
            }
            Event::PositionFound { partition, position } => {
                self.check_position(partition, *position, because);
            }
            _ => {}
        }
    }

    /// S28.
    fn check_position(&mut self, partition: &TopicPartition, position: Position, because: Because) {
        let may_find = self.may_find.get(partition).copied().unwrap_or(MayFind::Nothing);
        match because {
            Because::Fetched | Because::Listed if may_find == MayFind::Sought => {
                let found = match because {
                    Because::Fetched => MayFind::Committed(position.offset),
                    _ => MayFind::Reset,
                };
                self.may_find.insert(partition.clone(), found);
            }
            Because::Fetched => assert_eq!(
                may_find,
                MayFind::Committed(position.offset),
                "S28: {partition} starts at {position}"
            ),
            Because::Listed => {
                assert_eq!(may_find, MayFind::Reset, "S28: {partition} was reset to {position}");
            }
            Because::Other => {}
        }
    }
}
