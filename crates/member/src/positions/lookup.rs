//! Finding positions: the committed offset from the coordinator; by time, and whether it is still good, from the leader.

use std::collections::{BTreeMap, BTreeSet};

use kavka_protocol::{ByteString, ErrorCode};

use super::{
    OffsetTarget, Position, Positions, Status,
    reactions::{self, FetchReaction, LeaderReaction},
};
use crate::{
    Coordinator, EpochEnd, EpochQuery, ErrorKind, Event, FetchOffsetsRequest, FetchedOffset,
    ListOffsetsQuery, ListedOffset, MemberError, Monotonic, OffsetReset, Request, RequestId,
    Target, TopicPartition, context::Context,
};

/// ListOffsets: the end of the log.
const LATEST: i64 = -1;
/// ListOffsets: its start.
const EARLIEST: i64 = -2;

/// What a failed OffsetFetch asks of the member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FetchTrouble {
    FindCoordinator(ErrorCode),
    Fatal(MemberError),
}

impl Positions {
    /// Asks for what is missing.
    pub(crate) fn advance(
        &mut self,
        ctx: &mut Context<'_>,
        coordinator: Option<&Coordinator>,
    ) -> bool {
        if ctx.config.group_id.is_none() {
            for partition in self.due(ctx.monotonic(), |status| status == Status::Unknown) {
                self.reset(ctx, &partition);
            }
        }
        let fetched = coordinator.is_some_and(|coordinator| self.fetch_committed(ctx, coordinator));
        let asked = self.ask_leaders(ctx);
        fetched || asked
    }

    /// Whether the coordinator is wanted for a committed offset.
    pub(crate) fn wants_coordinator(&self) -> bool {
        self.partitions.values().any(|found| found.status == Status::Unknown && !found.revoking)
    }

    pub(crate) fn next_deadline(&self, has_coordinator: bool) -> Option<Monotonic> {
        let can_ask =
            |status| status != Status::Unknown || (has_coordinator && self.fetch.is_none());
        let waiting = self
            .partitions
            .values()
            .filter(|found| found.asked.is_none() && found.is_searched() && can_ask(found.status));
        waiting.filter_map(|found| found.retry_at).min()
    }

    /// What is to be asked now, of those in such a status.
    fn due(&self, now: Monotonic, status: impl Fn(Status) -> bool) -> Vec<TopicPartition> {
        let due = self.partitions.iter().filter(|(_, found)| {
            let in_time = found.retry_at.is_none_or(|at| at <= now);
            status(found.status) && found.asked.is_none() && !found.revoking && in_time
        });
        due.map(|(partition, _)| partition.clone()).collect()
    }

    fn fetch_committed(&mut self, ctx: &mut Context<'_>, coordinator: &Coordinator) -> bool {
        if self.fetch.is_some() {
            return false;
        }
        let partitions = self.due(ctx.monotonic(), |status| status == Status::Unknown);
        if partitions.is_empty() {
            return false;
        }
        let request = Request::FetchOffsets(FetchOffsetsRequest {
            group: ctx.group(),
            topic_ids: self.topic_ids(partitions.iter()),
            partitions: partitions.clone(),
        });
        let target = Target::Coordinator(coordinator.clone());
        let id = ctx.send(target, ctx.config.request_timeout, request);
        self.fetch = Some(id);
        self.note_asked(&partitions, id);
        true
    }

    fn note_asked(&mut self, partitions: &[TopicPartition], id: RequestId) {
        for partition in partitions {
            if let Some(found) = self.partitions.get_mut(partition) {
                found.asked = Some(id);
                found.retry_at = None;
            }
        }
    }

    /// The partitions that wait for this answer.
    fn asked_by(&self, id: RequestId) -> Vec<TopicPartition> {
        let asked = self.partitions.iter().filter(|(_, found)| found.asked == Some(id));
        asked.map(|(partition, _)| partition.clone()).collect()
    }

    pub(crate) fn on_failure(&mut self, ctx: &mut Context<'_>, id: RequestId) {
        if self.fetch == Some(id) {
            self.fetch = None;
        }
        for partition in self.asked_by(id) {
            if let Some(found) = self.partitions.get_mut(&partition) {
                found.retry(ctx);
            }
        }
    }

    pub(crate) fn on_fetched(
        &mut self,
        ctx: &mut Context<'_>,
        id: RequestId,
        result: Result<BTreeMap<TopicPartition, FetchedOffset>, ErrorCode>,
    ) -> Option<FetchTrouble> {
        self.fetch = None;
        let rows = match result {
            Ok(rows) => rows,
            Err(code) => {
                return match reactions::on_fetch(code, None) {
                    FetchReaction::Done | FetchReaction::Retry | FetchReaction::Fail(_) => {
                        self.on_failure(ctx, id);
                        None
                    }
                    FetchReaction::FindCoordinator => {
                        self.on_failure(ctx, id);
                        Some(FetchTrouble::FindCoordinator(code))
                    }
                    FetchReaction::Fatal(kind) => {
                        Some(FetchTrouble::Fatal(ctx.error(kind, Some(code))))
                    }
                };
            }
        };
        let mut trouble = None;
        for partition in self.asked_by(id) {
            let Some(row) = rows.get(&partition) else {
                // Not answered; not the same as not committed.
                self.retry_later(ctx, &partition);
                continue;
            };
            match reactions::on_fetch(row.error, Some(&partition.topic)) {
                FetchReaction::Done if row.offset >= 0 => {
                    let position = Position { offset: row.offset, leader_epoch: row.leader_epoch };
                    self.found(ctx, &partition, position);
                    if let Some(found) = self.partitions.get_mut(&partition) {
                        found.committed = Some(row.offset);
                    }
                    self.maybe_validate(&partition);
                }
                FetchReaction::Done => self.reset(ctx, &partition),
                FetchReaction::Retry => self.retry_later(ctx, &partition),
                FetchReaction::FindCoordinator => {
                    self.retry_later(ctx, &partition);
                    trouble.get_or_insert(FetchTrouble::FindCoordinator(row.error));
                }
                FetchReaction::Fail(kind) => self.stick(ctx, &partition, kind, Some(row.error)),
                FetchReaction::Fatal(kind) => {
                    trouble = Some(FetchTrouble::Fatal(ctx.error(kind, Some(row.error))));
                }
            }
        }
        trouble
    }

    fn retry_later(&mut self, ctx: &mut Context<'_>, partition: &TopicPartition) {
        if let Some(found) = self.partitions.get_mut(partition) {
            found.retry(ctx);
        }
    }

    fn stick(
        &mut self,
        ctx: &mut Context<'_>,
        partition: &TopicPartition,
        kind: ErrorKind,
        code: Option<ErrorCode>,
    ) {
        if let Some(found) = self.partitions.get_mut(partition) {
            found.stick(ctx, kind, code);
        }
    }

    fn found(&mut self, ctx: &mut Context<'_>, partition: &TopicPartition, position: Position) {
        let epoch = self.next_epoch();
        if let Some(found) = self.partitions.get_mut(partition) {
            found.epoch = epoch;
            found.found(position);
            ctx.event(Event::PositionFound { partition: partition.clone(), position });
        }
    }

    /// ListOffsets and OffsetForLeaderEpoch, one each for each leader.
    fn ask_leaders(&mut self, ctx: &mut Context<'_>) -> bool {
        let now = ctx.monotonic();
        let due = self.due(now, |s| matches!(s, Status::Resetting(_) | Status::Validating));
        let mut lists: BTreeMap<i32, Vec<(TopicPartition, i32, i64)>> = BTreeMap::new();
        let mut epochs: BTreeMap<i32, Vec<EpochQuery>> = BTreeMap::new();
        let mut leaderless: BTreeSet<ByteString> = BTreeSet::new();
        for partition in &due {
            let topic = self.topics.get(&partition.topic);
            let metadata = topic.and_then(|topic| topic.partition(partition.partition));
            let leader = metadata.and_then(|found| Some((found.leader?, found.leader_epoch)));
            let Some(found) = self.partitions.get_mut(partition) else { continue };
            let Some((leader, epoch)) = leader else {
                leaderless.insert(partition.topic.clone());
                found.retry(ctx);
                continue;
            };
            match (found.status, found.position) {
                (Status::Resetting(target), _) => {
                    let timestamp = match target {
                        OffsetTarget::Earliest => EARLIEST,
                        OffsetTarget::Latest | OffsetTarget::At(_) => LATEST,
                        OffsetTarget::Timestamp(at) => at,
                    };
                    lists.entry(leader).or_default().push((partition.clone(), epoch, timestamp));
                }
                (_, Some(position)) => epochs.entry(leader).or_default().push(EpochQuery {
                    partition: partition.clone(),
                    current_leader_epoch: epoch,
                    leader_epoch: position.leader_epoch,
                }),
                (_, None) => {}
            }
        }
        if !leaderless.is_empty() {
            ctx.event(Event::MetadataWanted { topics: leaderless.into_iter().collect() });
        }
        for (leader, partitions) in lists {
            let asked: Vec<TopicPartition> = partitions.iter().map(|row| row.0.clone()).collect();
            let isolation_level = ctx.config.isolation_level;
            let request = Request::ListOffsets(ListOffsetsQuery { isolation_level, partitions });
            let id = ctx.send(Target::Node(leader), ctx.config.request_timeout, request);
            self.note_asked(&asked, id);
        }
        for (leader, queries) in epochs {
            let asked: Vec<TopicPartition> =
                queries.iter().map(|row| row.partition.clone()).collect();
            let request = Request::EndOfEpochs(queries);
            let id = ctx.send(Target::Node(leader), ctx.config.request_timeout, request);
            self.note_asked(&asked, id);
        }
        !due.is_empty()
    }

    pub(crate) fn on_listed(
        &mut self,
        ctx: &mut Context<'_>,
        id: RequestId,
        rows: &BTreeMap<TopicPartition, ListedOffset>,
    ) {
        for partition in self.asked_by(id) {
            let code = rows.get(&partition).map_or(ErrorCode::UnknownServerError, |row| row.error);
            match (reactions::on_leader(code, &partition.topic), rows.get(&partition)) {
                (LeaderReaction::Done, Some(row)) if row.offset >= 0 => {
                    let position = Position { offset: row.offset, leader_epoch: row.leader_epoch };
                    self.found(ctx, &partition, position);
                    self.note_validated(&partition);
                }
                (LeaderReaction::Done, _) => {
                    // No record is as young as was asked.
                    if let Some(found) = self.partitions.get_mut(&partition) {
                        let again = found.status == Status::Resetting(OffsetTarget::Latest);
                        found.status = Status::Resetting(OffsetTarget::Latest);
                        if again { found.retry(ctx) } else { found.asked = None }
                    }
                }
                (LeaderReaction::Retry, _) => self.retry_with_newer_metadata(ctx, &partition),
                (LeaderReaction::Fail(kind), _) => self.stick(ctx, &partition, kind, Some(code)),
            }
        }
    }

    fn retry_with_newer_metadata(&mut self, ctx: &mut Context<'_>, partition: &TopicPartition) {
        self.retry_later(ctx, partition);
        ctx.event(Event::MetadataWanted { topics: vec![partition.topic.clone()] });
    }

    pub(crate) fn on_epoch_ends(
        &mut self,
        ctx: &mut Context<'_>,
        id: RequestId,
        rows: &BTreeMap<TopicPartition, EpochEnd>,
    ) {
        for partition in self.asked_by(id) {
            let code = rows.get(&partition).map_or(ErrorCode::UnknownServerError, |row| row.error);
            if code == ErrorCode::ClusterAuthorizationFailed {
                // Before version 3 (Kafka 2.3) only brokers may ask. Java's client does without there, too.
                self.trust(&partition);
                continue;
            }
            match (reactions::on_leader(code, &partition.topic), rows.get(&partition)) {
                (LeaderReaction::Done, Some(end)) => self.compare(ctx, &partition, end),
                (LeaderReaction::Fail(kind), _) => self.stick(ctx, &partition, kind, Some(code)),
                (LeaderReaction::Done | LeaderReaction::Retry, _) => {
                    self.retry_with_newer_metadata(ctx, &partition);
                }
            }
        }
    }

    /// The leader has just told this position.
    fn note_validated(&mut self, partition: &TopicPartition) {
        let topic = self.topics.get(&partition.topic);
        let current = topic.and_then(|topic| topic.partition(partition.partition));
        let epoch = current.map_or(-1, |current| current.leader_epoch);
        if let Some(found) = self.partitions.get_mut(partition) {
            found.validated_epoch = epoch;
        }
    }

    /// The position is taken for good.
    fn trust(&mut self, partition: &TopicPartition) {
        let Some(found) = self.partitions.get_mut(partition) else { return };
        if let Some(position) = found.position {
            found.found(position);
            self.note_validated(partition);
        }
    }

    /// The log agrees with the position, or was truncated below it.
    fn compare(&mut self, ctx: &mut Context<'_>, partition: &TopicPartition, end: &EpochEnd) {
        let Some(found) = self.partitions.get_mut(partition) else { return };
        let Some(position) = found.position else { return };
        let is_known = end.end_offset >= 0 && end.leader_epoch >= 0;
        if is_known && end.end_offset >= position.offset {
            return self.trust(partition);
        }
        let can_reset = ctx.config.offset_reset != OffsetReset::None;
        if is_known && can_reset {
            let position = Position { offset: end.end_offset, leader_epoch: end.leader_epoch };
            self.found(ctx, partition, position);
            self.note_validated(partition);
        } else if can_reset {
            self.reset(ctx, partition);
        } else {
            let kind = ErrorKind::Truncated {
                topic: partition.topic.clone(),
                partition: partition.partition,
                position: position.offset,
                diverged: is_known.then_some(end.end_offset),
            };
            self.stick(ctx, partition, kind, None);
        }
    }
}

impl super::Partition {
    /// Whether its position is being looked for.
    fn is_searched(&self) -> bool {
        let searched =
            matches!(self.status, Status::Unknown | Status::Resetting(_) | Status::Validating);
        searched && !self.revoking
    }
}
