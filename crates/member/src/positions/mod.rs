//! What each owned partition has to read next, and what is committed of it.
//!
//! Owns: positions, seek, pause, offset reset, validation by leader epoch (KIP-320), [commits](commit). Does not own: who is in
//! the group (`classic`), and what is fetched: the shell fetches ahead from [`Fetchable`]s, and says what was consumed.
//!
//! **Invariants.** A position moves on by [`Input::Consumed`](crate::Input::Consumed) only, and by that of the current
//! [`PositionEpoch`] only: what was fetched before a seek, or under a former ownership, never counts. A position is reset only
//! when a broker says that there is no committed offset, or that it is out of range: never on an error.

pub(crate) mod commit;
pub(crate) mod lookup;
pub(crate) mod reactions;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use kavka_mutants::mutant;
use kavka_protocol::{ByteString, ErrorCode, Uuid};

use crate::{
    CommitOffset, Consumed, ErrorKind, Event, MemberError, Monotonic, OffsetReset, RequestId,
    TopicMetadata, TopicPartition, TopicShape, backoff::Attempts, context::Context,
};

/// Where to read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The next offset.
    pub offset: i64,
    /// The leader epoch of the record before it; -1 if it is not known.
    pub leader_epoch: i32,
}

/// Tells apart what was fetched before and after a seek, a reset, or a change of ownership. Rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PositionEpoch(pub u64);

/// A partition that can be fetched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetchable {
    /// The partition.
    pub partition: TopicPartition,
    /// To be handed back with what was consumed. When it differs from that of a running fetch, what the fetch brings is void.
    pub epoch: PositionEpoch,
    /// The position. A fetcher that is ahead of it in the same epoch goes on where it is.
    pub position: Position,
}

/// Where to seek to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OffsetTarget {
    /// This position.
    At(Position),
    /// The first record.
    Earliest,
    /// After the last record.
    Latest,
    /// The first record with this timestamp, in milliseconds since the Unix epoch, or a later one; after the last record if there
    /// is none.
    Timestamp(i64),
}

/// See the module.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Positions {
    partitions: BTreeMap<TopicPartition, Partition>,
    last_epoch: PositionEpoch,
    last_ownership: u64,
    topics: BTreeMap<ByteString, TopicMetadata>,
    /// The one OffsetFetch under way.
    fetch: Option<RequestId>,
}

#[derive(Clone, Debug, Hash)]
struct Partition {
    /// Which time of owning it this is.
    ownership: u64,
    epoch: PositionEpoch,
    status: Status,
    /// In [`Status::Ready`] and [`Status::Validating`].
    position: Option<Position>,
    /// What the broker last took, or said.
    committed: Option<i64>,
    paused: bool,
    /// On its way out: not to be fetched from.
    revoking: bool,
    /// The request whose answer is waited for.
    asked: Option<RequestId>,
    attempts: Attempts,
    retry_at: Option<Monotonic>,
    /// The leader epoch up to which the position is known to be good; -1 for none.
    validated_epoch: i32,
    /// The log was compared with this position because a broker said that it is out of range.
    is_doubted: bool,
    /// The topic's id when the partition was taken.
    topic_id: Uuid,
    /// In [`Status::Stuck`]: what the application was told.
    trouble: Option<MemberError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Status {
    /// The committed offset has to be looked up; without a group there is none.
    Unknown,
    /// The position has to be found by time.
    Resetting(OffsetTarget),
    /// The position has to be compared with the log.
    Validating,
    /// Known.
    Ready,
    /// The application has been told that it has to seek.
    Stuck,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (leader epoch {})", self.offset, self.leader_epoch)
    }
}

impl Positions {
    pub(crate) fn owned(&self) -> BTreeSet<TopicPartition> {
        self.partitions.keys().cloned().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// Which time of owning the partition this is; `None` if it is not owned.
    pub(crate) fn ownership(&self, partition: &TopicPartition) -> Option<u64> {
        self.partitions.get(partition).map(|found| found.ownership)
    }

    pub(crate) fn fetchable(&self) -> impl Iterator<Item = Fetchable> + '_ {
        self.partitions.iter().filter_map(|(partition, found)| {
            let position = found.position?;
            let goes = found.status == Status::Ready && !found.paused && !found.revoking;
            goes.then(|| Fetchable { partition: partition.clone(), epoch: found.epoch, position })
        })
    }

    pub(crate) fn position(&self, partition: &TopicPartition) -> Option<Position> {
        self.partitions.get(partition).and_then(|found| found.position)
    }

    /// Why the partition gets no position, if the application has to do something about it.
    pub(crate) fn trouble(&self, partition: &TopicPartition) -> Option<&MemberError> {
        self.partitions.get(partition).and_then(|found| found.trouble.as_ref())
    }

    pub(crate) fn committed(&self, partition: &TopicPartition) -> Option<i64> {
        self.partitions.get(partition).and_then(|found| found.committed)
    }

    /// Takes partitions that are not owned yet.
    pub(crate) fn take(&mut self, added: impl IntoIterator<Item = TopicPartition>) {
        for partition in added {
            self.last_ownership += 1;
            let taken = Partition {
                ownership: self.last_ownership,
                epoch: self.next_epoch(),
                status: Status::Unknown,
                position: None,
                committed: None,
                paused: false,
                revoking: false,
                asked: None,
                attempts: Attempts::default(),
                retry_at: None,
                validated_epoch: -1,
                is_doubted: false,
                topic_id: self.topic_id(&partition.topic),
                trouble: None,
            };
            let former = self.partitions.insert(partition, taken);
            assert!(former.is_none(), "a partition is taken once");
        }
    }

    /// Nothing more is to be fetched of these; they are about to go.
    pub(crate) fn hold(&mut self, partitions: &BTreeSet<TopicPartition>) {
        for partition in partitions {
            if let Some(found) = self.partitions.get_mut(partition)
                && !mutant("reads-what-it-gives-up")
            {
                found.revoking = true;
            }
        }
    }

    /// Gives partitions up. Those that were owned.
    pub(crate) fn give_up(&mut self, partitions: &BTreeSet<TopicPartition>) -> Vec<TopicPartition> {
        let owned =
            partitions.iter().filter(|partition| self.partitions.remove(partition).is_some());
        owned.cloned().collect()
    }

    pub(crate) fn give_up_all(&mut self) -> Vec<TopicPartition> {
        std::mem::take(&mut self.partitions).into_keys().collect()
    }

    fn next_epoch(&mut self) -> PositionEpoch {
        self.last_epoch.0 += 1;
        self.last_epoch
    }

    /// Whether the metadata has it.
    pub(crate) fn is_known(&self, partition: &TopicPartition) -> bool {
        let topic = self.topics.get(&partition.topic);
        topic.and_then(|topic| topic.partition(partition.partition)).is_some()
    }

    pub(crate) fn topics(&self) -> &BTreeMap<ByteString, TopicMetadata> {
        &self.topics
    }

    pub(crate) fn shapes(&self, topics: BTreeSet<ByteString>) -> BTreeMap<ByteString, TopicShape> {
        let shape = |topic: &ByteString| {
            self.topics.get(topic).map(TopicMetadata::shape).unwrap_or_default()
        };
        topics.into_iter().map(|topic| (topic.clone(), shape(&topic))).collect()
    }

    fn topic_id(&self, topic: &ByteString) -> Uuid {
        self.topics.get(topic).map_or(Uuid::ZERO, |topic| topic.id)
    }

    pub(crate) fn topic_ids<'a>(
        &self,
        partitions: impl Iterator<Item = &'a TopicPartition>,
    ) -> BTreeMap<ByteString, Uuid> {
        let ids = partitions.map(|partition| {
            // The id under which the partition is owned, so that an offset of a topic that is gone is not taken for its successor.
            let id = match self.partitions.get(partition) {
                Some(owned) => owned.topic_id,
                None => self.topic_id(&partition.topic),
            };
            (partition.topic.clone(), id)
        });
        ids.filter(|(_, id)| *id != Uuid::ZERO).collect()
    }

    pub(crate) fn on_consumed(&mut self, consumed: Vec<Consumed>) {
        for row in consumed {
            let Some(found) = self.partitions.get_mut(&row.partition) else { continue };
            let Some(position) = found.position else { continue };
            if found.epoch == row.epoch && row.next_offset > position.offset {
                let leader_epoch = row.leader_epoch;
                found.position = Some(Position { offset: row.next_offset, leader_epoch });
                found.is_doubted = false;
                if found.status == Status::Validating {
                    // What the log is asked about is the former position: its epoch may have ended below this one, and that is
                    // no truncation. It is asked again.
                    found.asked = None;
                }
            }
        }
    }

    pub(crate) fn on_seek(
        &mut self,
        ctx: &mut Context<'_>,
        partition: &TopicPartition,
        to: OffsetTarget,
    ) {
        let epoch = self.next_epoch();
        let Some(found) = self.partitions.get_mut(partition) else {
            let kind = ErrorKind::Misuse("seek in a partition that this member does not own");
            let error = ctx.error(kind, None);
            return ctx.event(Event::Error(error));
        };
        found.start_over(epoch);
        match to {
            OffsetTarget::At(position) => {
                found.position = Some(position);
                found.status = Status::Ready;
                self.maybe_validate(partition);
            }
            target => found.status = Status::Resetting(target),
        }
    }

    pub(crate) fn on_out_of_range(
        &mut self,
        ctx: &mut Context<'_>,
        partition: &TopicPartition,
        epoch: PositionEpoch,
    ) {
        let Some(found) = self.partitions.get_mut(partition) else { return };
        let Some(position) = found.position else { return };
        if found.epoch != epoch || found.status != Status::Ready {
            return;
        }
        if position.leader_epoch >= 0 && !std::mem::replace(&mut found.is_doubted, true) {
            // Perhaps the log was truncated: then reading goes on where it still is as it was read, and not at an end of it. If the
            // log agrees, the position is out of range for another reason, and the next answer says so again.
            return found.validate();
        }
        self.reset(ctx, partition);
    }

    pub(crate) fn pause(&mut self, partitions: &BTreeSet<TopicPartition>, paused: bool) {
        for partition in partitions {
            if let Some(found) = self.partitions.get_mut(partition) {
                found.paused = paused;
            }
        }
    }

    /// By `auto.offset.reset`.
    fn reset(&mut self, ctx: &mut Context<'_>, partition: &TopicPartition) {
        let epoch = self.next_epoch();
        let Some(found) = self.partitions.get_mut(partition) else { return };
        found.start_over(epoch);
        match default_reset(ctx) {
            Some(target) => found.status = Status::Resetting(target),
            None => {
                let kind = ErrorKind::NoOffset {
                    topic: partition.topic.clone(),
                    partition: partition.partition,
                };
                found.stick(ctx, kind, None);
            }
        }
    }

    pub(crate) fn on_metadata(
        &mut self,
        topics: BTreeMap<ByteString, TopicMetadata>,
        has_group: bool,
    ) {
        self.topics = topics;
        let owned: Vec<TopicPartition> = self.partitions.keys().cloned().collect();
        for partition in owned {
            let id = self.topic_id(&partition.topic);
            let (epoch, ownership) = (self.next_epoch(), self.last_ownership + 1);
            let Some(found) = self.partitions.get_mut(&partition) else { continue };
            if found.topic_id == Uuid::ZERO {
                found.topic_id = id;
            } else if id != Uuid::ZERO
                && id != found.topic_id
                && has_group
                && !mutant("position-outlives-topic")
            {
                // The topic was deleted and made anew: what was consumed is of another log. The broker knows whether something is
                // committed for this one.
                found.topic_id = id;
                found.start_over(epoch);
                // A commit that still waits is of the log that is gone too, and would be sent under the id of this one.
                if !mutant("commit-outlives-topic") {
                    found.ownership = ownership;
                    self.last_ownership = ownership;
                }
                found.committed = None;
                found.validated_epoch = -1;
                found.status = Status::Unknown;
                continue;
            }
            self.maybe_validate(&partition);
        }
    }

    /// If the leader has changed since the position was good, the log has to be asked whether it still is (KIP-320).
    fn maybe_validate(&mut self, partition: &TopicPartition) {
        let metadata = self
            .topics
            .get(&partition.topic)
            .and_then(|topic| topic.partition(partition.partition));
        let Some((current, found)) = metadata.zip(self.partitions.get_mut(partition)) else {
            return;
        };
        let Some(position) = found.position else { return };
        if found.status != Status::Ready || current.leader_epoch <= found.validated_epoch {
            return;
        }
        if position.leader_epoch < 0 || position.leader_epoch == current.leader_epoch {
            // Nothing to compare with, or nobody has taken over since that record was read.
            found.validated_epoch = current.leader_epoch;
        } else {
            found.validate();
        }
    }

    /// The offsets to commit of these: where their positions have moved since the last commit.
    pub(crate) fn uncommitted(
        &self,
        of: Option<&BTreeSet<TopicPartition>>,
    ) -> BTreeMap<TopicPartition, CommitOffset> {
        let wanted = |partition: &TopicPartition| of.is_none_or(|set| set.contains(partition));
        self.consumed_positions()
            .filter(|(partition, _)| wanted(partition))
            .filter(|(partition, at)| self.committed(partition) != Some(at.offset))
            .collect()
    }

    /// The position of every partition that has one.
    pub(crate) fn consumed_positions(
        &self,
    ) -> impl Iterator<Item = (TopicPartition, CommitOffset)> + '_ {
        self.partitions.iter().filter_map(|(partition, found)| {
            let Position { offset, leader_epoch } = found.position?;
            let offset = if mutant("commits-ahead") { offset + 1 } else { offset };
            Some((partition.clone(), CommitOffset { offset, leader_epoch, metadata: None }))
        })
    }

    pub(crate) fn note_committed(
        &mut self,
        partition: &TopicPartition,
        ownership: u64,
        offset: i64,
    ) {
        if let Some(found) = self.partitions.get_mut(partition)
            && found.ownership == ownership
        {
            found.committed = Some(offset);
        }
    }
}

impl Partition {
    /// What was asked and fetched so far does not count any more.
    fn start_over(&mut self, epoch: PositionEpoch) {
        self.epoch = epoch;
        self.position = None;
        self.asked = None;
        self.attempts.succeed();
        self.retry_at = None;
        self.validated_epoch = -1;
        self.is_doubted = false;
        self.trouble = None;
    }

    /// It gets no position until the application does something.
    fn stick(&mut self, ctx: &mut Context<'_>, kind: ErrorKind, code: Option<ErrorCode>) {
        self.status = Status::Stuck;
        self.asked = None;
        let error = ctx.error(kind, code);
        self.trouble = Some(error.clone());
        ctx.event(Event::Error(error));
    }

    /// The log has to be asked whether it is still as it was read.
    fn validate(&mut self) {
        self.status = Status::Validating;
        self.asked = None;
        self.retry_at = None;
    }

    fn found(&mut self, position: Position) {
        self.position = Some(position);
        self.status = Status::Ready;
        self.asked = None;
        self.attempts.succeed();
        self.retry_at = None;
    }

    fn retry(&mut self, ctx: &mut Context<'_>) {
        self.asked = None;
        self.retry_at = Some(ctx.retry_at(&mut self.attempts));
    }
}

/// Where `auto.offset.reset` says to start.
fn default_reset(ctx: &Context<'_>) -> Option<OffsetTarget> {
    match ctx.config.offset_reset {
        OffsetReset::Earliest if !mutant("resets-to-latest") => Some(OffsetTarget::Earliest),
        OffsetReset::Earliest => Some(OffsetTarget::Latest),
        OffsetReset::Latest => Some(OffsetTarget::Latest),
        OffsetReset::None => None,
        OffsetReset::ByDuration(back) => {
            let back = i64::try_from(back.as_millis()).unwrap_or(i64::MAX);
            Some(OffsetTarget::Timestamp(ctx.now.wall_ms.saturating_sub(back).max(0)))
        }
    }
}
