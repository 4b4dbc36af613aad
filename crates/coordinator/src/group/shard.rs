//! The machine behind one partition of `__consumer_offsets`.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use bytes::Bytes;
use kavka_mutants::mutant;
use kavka_protocol::{ByteString, ErrorCode, Uuid};

use super::{
    CommitReply, CommitRequest, DeleteOffsetsReply, DeleteOffsetsRequest, DeletionCause,
    DescribedGroup, EventKind, GroupConfig, GroupState, HardView, Input, JoinReply, JoinRequest,
    LeaveReply, LeaveRequest, LeftMember, ListReply, ListRequest, Output, Record, Reply, Request,
    RequestId, Skipped, SyncReply,
    classic::{ClassicGroup, names_a_protocol},
    context::Context,
    hard_state::HardState,
    log_record::LoggedOffset,
    member_ids::{MemberIds, UUID_LEN},
    offsets,
    timers::{Timer, Timers},
};
use crate::{Monotonic, Now};

/// The groups and offsets of one partition of `__consumer_offsets`. See [the module](super) for how it is run.
///
/// Hard state, what records say, is written by [`apply`](Self::apply) only. Everything else is soft: it is there to decide, and
/// a new shard makes it anew from the hard state.
#[derive(Clone, Debug)]
pub struct GroupShard {
    config: GroupConfig,
    phase: Phase,
    pub(super) hard: HardState,
    /// Every group that is stored, has offsets, or is being joined.
    pub(super) groups: BTreeMap<ByteString, Box<ClassicGroup>>,
    pub(super) timers: Timers,
    ids: MemberIds,
    /// The group at which the search for expired offsets goes on, if it was cut.
    expiry_goes_on_at: Option<ByteString>,
    /// Topics that were deleted and whose offsets are not all gone yet.
    deletions: VecDeque<TopicDeletion>,
}

#[derive(Clone, Debug, Hash)]
struct TopicDeletion {
    name: ByteString,
    topic_id: Uuid,
    /// The group at which it goes on.
    goes_on_at: Option<ByteString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Loading,
    Active,
    Unloaded,
}

/// The pause between two batches of a search for expired offsets, so that requests get their turn.
const BETWEEN_BATCHES: std::time::Duration = std::time::Duration::from_millis(1);

/// The longest string in a record.
const MAX_STRING: usize = i16::MAX as usize;

/// Characters of a reason that are kept (KIP-800).
const MAX_REASON: usize = 255;

impl GroupShard {
    /// An empty shard that is loading: apply the records of the partition, then hand in [`Input::Loaded`].
    ///
    /// `seed` makes the member ids: it must not be one that was used before.
    pub fn new(config: GroupConfig, seed: u64) -> Self {
        Self {
            config,
            phase: Phase::Loading,
            hard: HardState::default(),
            groups: BTreeMap::new(),
            timers: Timers::default(),
            ids: MemberIds::new(seed),
            expiry_goes_on_at: None,
            deletions: VecDeque::new(),
        }
    }

    /// Takes one step. Changes soft state only; the caller appends the records and then applies them, or drops the machine.
    pub fn handle(&mut self, now: Now, input: Input) -> Output {
        let mut output = Output::default();
        match input {
            Input::Request(id, request) => self.on_request(now, &mut output, id, request),
            Input::Deadline => self.on_deadline(now, &mut output),
            Input::Loaded => self.on_loaded(now, &mut output),
            Input::Unload { error } => self.on_unload(now, &mut output, error),
            Input::TopicDeleted { name, topic_id } => {
                self.deletions.push_back(TopicDeletion { name, topic_id, goes_on_at: None });
                self.delete_offsets_of_topics(now, &mut output);
            }
            Input::Abandoned { group, request } => {
                if let Some((group, mut ctx)) = self.group(now, &mut output, &group) {
                    group.abandoned(&mut ctx, request);
                }
            }
            Input::Configure(config) => self.config = config,
        }
        output
    }

    /// Applies one record: the only way that hard state changes, live and in replay. `offset` is the record's place in the log.
    /// Takes any record.
    pub fn apply(&mut self, offset: i64, record: &Record) {
        self.hard.apply(offset, record);
    }

    /// Applies one record as it stands in the log: as decoding it and applying it, but faster. `producer_id` is that of the
    /// transaction that it was written in, if it was.
    pub fn apply_logged(
        &mut self,
        offset: i64,
        producer_id: Option<i64>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) {
        if let (None, Some(key), Some(value)) = (producer_id, key, value)
            && let Some(logged) = LoggedOffset::read(key, value)
        {
            let LoggedOffset { group, topic, partition, value } = logged;
            self.hard.offsets.set(group, topic, partition, &value, offset);
            return;
        }
        if value.is_none() && mutant("replay-skips-tombstones") {
            return;
        }
        let (key, value) = (key.map(Bytes::copy_from_slice), value.map(Bytes::copy_from_slice));
        let record = Record::decode(key.as_ref(), value.as_ref());
        match producer_id {
            Some(producer_id) => self.apply_transactional(offset, producer_id, &record),
            None => self.apply(offset, &record),
        }
    }

    /// Applies one record of a producer's transaction, as [`apply`](Self::apply) does for others: an offset waits for the
    /// transaction's end.
    pub fn apply_transactional(&mut self, offset: i64, producer_id: i64, record: &Record) {
        self.hard.apply_transactional(offset, producer_id, record);
    }

    /// Applies the marker that ends a producer's transaction.
    pub fn end_transaction(&mut self, producer_id: i64, committed: bool) {
        self.hard.end_transaction(producer_id, committed);
    }

    /// When the shard wants to be called with [`Input::Deadline`].
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.timers.next_deadline()
    }

    /// What the applied records say, to be compared: live must equal replayed.
    pub fn hard_state(&self) -> HardView {
        self.hard.view()
    }

    /// Topics that were deleted and whose offsets are not all gone yet: name and id. A shard that takes over is to be told of them.
    pub fn deletions_under_way(&self) -> impl Iterator<Item = (&ByteString, Uuid)> {
        self.deletions.iter().map(|deletion| (&deletion.name, deletion.topic_id))
    }

    /// Records that were applied and are not for this version, and how many of each.
    pub fn skipped_records(&self) -> &BTreeMap<Skipped, u64> {
        self.hard.skipped()
    }

    /// Hashes everything but the settings and the hard state, of which [`hard_state`](Self::hard_state) tells. For tests and
    /// simulations, which compare machines by it.
    #[cfg(any(test, feature = "testing"))]
    pub fn hash_soft_state<H: std::hash::Hasher>(&self, state: &mut H) {
        use std::hash::Hash;

        let Self { config: _, phase, hard: _, groups, timers, ids, expiry_goes_on_at, deletions } =
            self;
        (phase, groups, timers, ids, expiry_goes_on_at, deletions).hash(state);
    }

    fn on_request(&mut self, now: Now, output: &mut Output, id: RequestId, request: Request) {
        match self.phase {
            Phase::Loading => {
                return output.answer(id, request.refuse(ErrorCode::CoordinatorLoadInProgress));
            }
            Phase::Unloaded => return output.answer(id, request.refuse(ErrorCode::NotCoordinator)),
            Phase::Active => {}
        }
        if let Some(group) = names_a_group(&request)
            && group.is_empty()
        {
            return output.answer(id, request.refuse(ErrorCode::InvalidGroupId));
        }
        match request {
            Request::Join(join) => self.on_join(now, output, id, join),
            Request::Sync(sync) => match self.group(now, output, &sync.group.clone()) {
                Some((group, mut ctx)) => group.sync(&mut ctx, id, sync),
                None => {
                    let refusal = SyncReply::refusal(ErrorCode::UnknownMemberId);
                    output.answer(id, Reply::Sync(refusal));
                }
            },
            Request::Heartbeat(heartbeat) => {
                let code = match self.group(now, output, &heartbeat.group) {
                    Some((group, mut ctx)) => group.heartbeat(&mut ctx, &heartbeat),
                    None => ErrorCode::UnknownMemberId,
                };
                output.answer(id, Reply::Heartbeat(code));
            }
            Request::Leave(leave) => self.on_leave(now, output, id, leave),
            Request::CommitOffsets(commit) => self.on_commit(now, output, id, &commit),
            Request::FetchOffsets(fetch) => {
                let reply = offsets::fetch_offsets(&self.hard, &fetch);
                output.answer(id, Reply::FetchOffsets(reply));
            }
            Request::DeleteOffsets(delete) => self.on_delete_offsets(output, id, &delete),
            Request::DeleteGroups(groups) => self.on_delete_groups(now, output, id, groups),
            Request::DescribeGroups(groups) => {
                let rows = groups.into_iter().map(|group| match self.groups.get(&group) {
                    Some(found) => found.describe(),
                    None => DescribedGroup::absent(group, ErrorCode::GroupIdNotFound),
                });
                output.answer(id, Reply::DescribeGroups(rows.collect()));
            }
            Request::ListGroups(list) => {
                output.answer(id, Reply::ListGroups(self.list_groups(&list)));
            }
        }
    }

    /// The group, and what a step of it needs.
    fn group<'a>(
        &'a mut self,
        now: Now,
        output: &'a mut Output,
        group: &str,
    ) -> Option<(&'a mut ClassicGroup, Context<'a>)> {
        let Self { config, groups, timers, ids, .. } = self;
        let group = groups.get_mut(group)?;
        Some((group, Context { now, config, timers, ids, output }))
    }

    fn on_join(&mut self, now: Now, output: &mut Output, id: RequestId, mut request: JoinRequest) {
        cut_reason(&mut request.reason);
        let timeout =
            u64::try_from(request.session_timeout_ms).map(std::time::Duration::from_millis);
        let allowed = self.config.min_session_timeout..=self.config.max_session_timeout;
        let refusal = if !timeout.is_ok_and(|timeout| allowed.contains(&timeout)) {
            Some(ErrorCode::InvalidSessionTimeout)
        } else if request.client_id.len() + 1 + UUID_LEN > MAX_STRING {
            // The member id that would be made of it fits into no record.
            Some(ErrorCode::InvalidRequest)
        } else if self.groups.contains_key(&request.group) {
            None
        } else if !request.member_id.is_empty() {
            Some(ErrorCode::UnknownMemberId)
        } else if !names_a_protocol(&request) {
            Some(ErrorCode::InconsistentGroupProtocol)
        } else {
            self.create_group(now, output, &request.group);
            None
        };
        if let Some(error) = refusal {
            let refusal = JoinReply::refusal(request.member_id, error);
            return output.answer(id, Reply::Join(refusal));
        }
        if let Some((group, mut ctx)) = self.group(now, output, &request.group.clone()) {
            group.join(&mut ctx, id, request);
        }
    }

    /// A group that is joined is stored at once, so that an operator sees the same groups before and after a restart.
    fn create_group(&mut self, now: Now, output: &mut Output, id: &ByteString) {
        let group = ClassicGroup::new(id.clone(), now);
        output.records.push(Record::Group { group: id.clone(), value: Some(group.to_value()) });
        output.event(id, group.generation(), EventKind::GroupCreated);
        self.groups.insert(id.clone(), Box::new(group));
    }

    fn on_leave(
        &mut self,
        now: Now,
        output: &mut Output,
        id: RequestId,
        mut request: LeaveRequest,
    ) {
        for member in &mut request.members {
            cut_reason(&mut member.reason);
        }
        let members = match self.group(now, output, &request.group.clone()) {
            Some((group, mut ctx)) => group.leave(&mut ctx, request),
            None => request
                .members
                .into_iter()
                .map(|member| LeftMember {
                    member_id: member.member_id,
                    instance_id: member.instance_id,
                    error: ErrorCode::UnknownMemberId,
                })
                .collect(),
        };
        output.answer(id, Reply::Leave(LeaveReply { error: ErrorCode::None, members }));
    }

    fn on_commit(&mut self, now: Now, output: &mut Output, id: RequestId, request: &CommitRequest) {
        let allowed = match self.group(now, output, &request.group) {
            Some((group, mut ctx)) => group.check_commit(&mut ctx, request),
            None if request.generation < 0 => Ok(()),
            None => Err(ErrorCode::GroupIdNotFound),
        };
        let (records, reply) = match allowed {
            Ok(()) => offsets::offset_records(now, &self.config, request),
            Err(error) => (Vec::new(), CommitReply::refusal(request, error)),
        };
        self.tell_failed_commits(output, request, &reply);
        if !records.is_empty() && !self.groups.contains_key(&request.group) {
            // A consumer that assigns itself, or an operator. No record: the offsets are all there is to it.
            let group = ClassicGroup::new(request.group.clone(), now);
            output.event(&request.group, group.generation(), EventKind::GroupCreated);
            self.groups.insert(request.group.clone(), Box::new(group));
        }
        output.records.extend(records);
        output.answer(id, Reply::CommitOffsets(reply));
    }

    fn tell_failed_commits(
        &self,
        output: &mut Output,
        request: &CommitRequest,
        reply: &CommitReply,
    ) {
        let mut failed: BTreeMap<i16, usize> = BTreeMap::new();
        for (_, code) in reply.topics.iter().flat_map(|topic| &topic.partitions) {
            if *code != ErrorCode::None {
                *failed.entry(code.code()).or_default() += 1;
            }
        }
        let generation = self.groups.get(&request.group).map_or(-1, |group| group.generation());
        for (code, partitions) in failed {
            let kind = EventKind::CommitFailed {
                member: request.member_id.clone(),
                generation: request.generation,
                error: ErrorCode::from(code),
                partitions,
            };
            output.event(&request.group, generation, kind);
        }
    }

    fn on_delete_offsets(
        &mut self,
        output: &mut Output,
        id: RequestId,
        request: &DeleteOffsetsRequest,
    ) {
        let Some(group) = self.groups.get(&request.group) else {
            let error = ErrorCode::GroupIdNotFound;
            let reply = DeleteOffsetsReply { error, topics: Vec::new() };
            return output.answer(id, Reply::DeleteOffsets(reply));
        };
        let (records, reply) = offsets::delete_offsets(&self.hard, group, request);
        tell_deleted(output, &request.group, group.generation(), &records, DeletionCause::Request);
        output.records.extend(records);
        output.answer(id, Reply::DeleteOffsets(reply));
    }

    fn on_delete_groups(
        &mut self,
        now: Now,
        output: &mut Output,
        id: RequestId,
        groups: Vec<ByteString>,
    ) {
        let codes = groups
            .into_iter()
            .map(|group| {
                let code = match self.groups.get(&group).map(|group| group.state()) {
                    None => ErrorCode::GroupIdNotFound,
                    Some(GroupState::Empty) => {
                        let tombstones = offsets::group_tombstones(&self.hard, &group);
                        output.records.extend(tombstones);
                        self.delete_group(now, output, &group, DeletionCause::Request);
                        ErrorCode::None
                    }
                    Some(_) => ErrorCode::NonEmptyGroup,
                };
                (group, code)
            })
            .collect();
        output.answer(id, Reply::DeleteGroups(codes));
    }

    /// Forgets a group that has no members; its offsets are deleted by the caller.
    fn delete_group(
        &mut self,
        now: Now,
        output: &mut Output,
        id: &ByteString,
        cause: DeletionCause,
    ) {
        if let Some((group, mut ctx)) = self.group(now, output, id) {
            group.forget_all_pending(&mut ctx);
            let generation = group.generation();
            self.groups.remove(id);
            if !mutant("deletion-not-stored") {
                output.records.push(Record::Group { group: id.clone(), value: None });
            }
            output.event(id, generation, EventKind::GroupDeleted { cause });
        }
    }

    fn list_groups(&self, request: &ListRequest) -> ListReply {
        let passes = |filter: &[ByteString], name: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
        };
        let groups = self
            .groups
            .values()
            .map(|group| group.list())
            .filter(|group| passes(&request.states, group.state.name()))
            .filter(|group| passes(&request.types, group.group_type))
            .collect();
        ListReply { error: ErrorCode::None, groups }
    }

    fn on_deadline(&mut self, now: Now, output: &mut Output) {
        while let Some(timer) = self.timers.pop(now.monotonic) {
            match timer {
                Timer::Group(id, timer) => {
                    if let Some((group, mut ctx)) = self.group(now, output, &id) {
                        group.on_timer(&mut ctx, &timer);
                    }
                }
                Timer::Expiry => self.expire_offsets(now, output),
                Timer::TopicDeletion => self.delete_offsets_of_topics(now, output),
            }
        }
    }

    /// Removes what has expired, as much as one batch holds; the rest shortly after.
    fn expire_offsets(&mut self, now: Now, output: &mut Output) {
        let next = match self.expiry_goes_on_at.take() {
            Some(at) => Bound::Included(at),
            None => Bound::Unbounded,
        };
        let ids: Vec<ByteString> =
            self.groups.range((next, Bound::Unbounded)).map(|(id, _)| id.clone()).collect();
        let mut room = self.config.max_batch_bytes;
        for id in ids {
            if !self.expire_group(now, output, &id, &mut room) {
                self.expiry_goes_on_at = Some(id);
                self.timers.arm(Timer::Expiry, now.monotonic + BETWEEN_BATCHES);
                return;
            }
        }
        let next =
            now.monotonic + self.config.offsets_retention_check_interval.max(BETWEEN_BATCHES);
        self.timers.arm(Timer::Expiry, next);
    }

    /// False if not everything fitted into the room.
    fn expire_group(
        &mut self,
        now: Now,
        output: &mut Output,
        id: &ByteString,
        room: &mut usize,
    ) -> bool {
        let Some(group) = self.groups.get(id) else { return true };
        let rule = offsets::ExpiryRule::of(group);
        let (mut records, some_left) = offsets::expired_offsets(
            &self.hard,
            id,
            &rule,
            self.config.offsets_retention,
            now.wall_ms,
        );
        let expired = records.len();
        let fits = take_room(&records, room);
        records.truncate(fits);
        if !records.is_empty() {
            let kind = EventKind::OffsetsExpired { partitions: partitions(&records) };
            output.event(id, group.generation(), kind);
        }
        let is_done = !some_left && group.is_idle();
        output.records.extend(records);
        if fits < expired {
            return false;
        }
        if is_done {
            self.delete_group(now, output, id, DeletionCause::Expiry);
        }
        true
    }

    /// Removes the offsets of deleted topics, as many as one batch holds; the rest shortly after, so that requests get their turn.
    ///
    /// A deletion is over when a step finds nothing more to remove: then everything that was decided before has been applied.
    fn delete_offsets_of_topics(&mut self, now: Now, output: &mut Output) {
        while let Some(deletion) = self.deletions.front_mut() {
            let next = match deletion.goes_on_at.take() {
                Some(at) => Bound::Included(at),
                None => Bound::Unbounded,
            };
            let mut room = self.config.max_batch_bytes;
            for (id, group) in self.groups.range((next, Bound::Unbounded)) {
                if mutant("topic-deletion-ignored") {
                    continue;
                }
                let TopicDeletion { name, topic_id, .. } = deletion;
                let mut records = offsets::topic_tombstones(&self.hard, id, name, *topic_id);
                if records.is_empty() {
                    continue;
                }
                deletion.goes_on_at = Some(id.clone());
                let (fits, all) = (take_room(&records, &mut room), records.len());
                records.truncate(fits);
                let cause = DeletionCause::TopicDeleted;
                tell_deleted(output, id, group.generation(), &records, cause);
                output.records.extend(records);
                if fits < all {
                    break;
                }
            }
            if deletion.goes_on_at.is_some() {
                self.timers.arm(Timer::TopicDeletion, now.monotonic + BETWEEN_BATCHES);
                return;
            }
            self.deletions.pop_front();
        }
    }

    fn on_loaded(&mut self, now: Now, output: &mut Output) {
        if self.phase != Phase::Loading {
            return;
        }
        self.phase = Phase::Active;
        for (what, count) in self.hard.skipped() {
            let kind = EventKind::RecordsSkipped { what: what.clone(), count: *count };
            output.event(&ByteString::new(), -1, kind);
        }
        let Self { config, timers, ids, hard, groups, .. } = self;
        let mut ctx = Context { now, config, timers, ids, output };
        for (id, value) in hard.groups() {
            let mut group = ClassicGroup::load(&mut ctx, id.clone(), value);
            group.after_load(&mut ctx);
            groups.insert(id.clone(), Box::new(group));
        }
        for id in hard.offsets.groups().chain(hard.pending.groups()) {
            groups
                .entry(id.clone())
                .or_insert_with(|| Box::new(ClassicGroup::new(id.clone(), now)));
        }
        let first = now.monotonic + self.config.offsets_retention_check_interval;
        self.timers.arm(Timer::Expiry, first);
    }

    fn on_unload(&mut self, now: Now, output: &mut Output, error: ErrorCode) {
        let Self { config, timers, ids, groups, .. } = self;
        let mut ctx = Context { now, config, timers, ids, output };
        for group in groups.values_mut() {
            group.abandon(&mut ctx, error);
        }
        self.groups.clear();
        self.deletions.clear();
        if !mutant("unload-keeps-timers") {
            self.timers.clear();
        }
        self.phase = Phase::Unloaded;
    }
}

/// How many of the records fit into the room, which is taken.
fn take_room(records: &[Record], room: &mut usize) -> usize {
    let fits =
        records.iter().take_while(|record| match room.checked_sub(record.approximate_size()) {
            Some(left) => {
                *room = left;
                true
            }
            None => false,
        });
    fits.count()
}

/// The group of requests for which an empty group id is an error.
fn names_a_group(request: &Request) -> Option<&ByteString> {
    match request {
        Request::Join(join) => Some(&join.group),
        Request::Sync(sync) => Some(&sync.group),
        Request::Heartbeat(heartbeat) => Some(&heartbeat.group),
        Request::Leave(leave) => Some(&leave.group),
        Request::DeleteOffsets(delete) => Some(&delete.group),
        Request::CommitOffsets(_)
        | Request::FetchOffsets(_)
        | Request::DeleteGroups(_)
        | Request::DescribeGroups(_)
        | Request::ListGroups(_) => None,
    }
}

fn cut_reason(reason: &mut Option<ByteString>) {
    if let Some(text) = reason
        && let Some((end, _)) = text.char_indices().nth(MAX_REASON)
    {
        *text = ByteString::from(&text[..end]);
    }
}

fn tell_deleted(
    output: &mut Output,
    group: &ByteString,
    generation: i32,
    records: &[Record],
    cause: DeletionCause,
) {
    if !records.is_empty() {
        let kind = EventKind::OffsetsDeleted { partitions: partitions(records), cause };
        output.event(group, generation, kind);
    }
}

fn partitions(records: &[Record]) -> Vec<(ByteString, i32)> {
    records
        .iter()
        .filter_map(|record| match record {
            Record::Offset { topic, partition, .. } => Some((topic.clone(), *partition)),
            Record::Group { .. } | Record::Skipped(_) => None,
        })
        .collect()
}
