//! What must hold after every event. Codes name the invariants; a check that fails panics.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use kavka_coordinator::{
    Now,
    group::{
        self, CommitReply, CommitRequest, DeletionCause, EventKind, FetchRequest, GroupShard,
        GroupState, Input, Output, Record, Reply, Request, RequestId,
        invariants::{NaiveOffsets, expected_of_commit, live_equals_replayed, membership, served},
    },
};
use kavka_member::{Member, Subscription, TopicPartition};
use kavka_protocol::{ByteString, ErrorCode, Uuid};

use crate::{
    coordinators::{Host, Shard},
    process::instance_name,
    topics::Topics,
    world::{Client, Kind, World},
};

/// How far a group has read a partition: everything before that was handed to some application of the group, or was skipped
/// on purpose.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub(crate) struct Progress {
    topic: Uuid,
    delivered_to: i64,
}

/// What is looked at before a step, to judge what comes out.
#[derive(Debug)]
pub(crate) enum Watch {
    Commit {
        request: CommitRequest,
        expected: Option<ErrorCode>,
        id: RequestId,
    },
    Fetch {
        request: FetchRequest,
        id: RequestId,
    },
    /// A heartbeat of a member, in a generation that may not be the group's.
    Heartbeat {
        id: RequestId,
        is_current: bool,
    },
    /// A client without an id, of a version that is given one first.
    FirstJoin {
        id: RequestId,
    },
    /// What is to be deleted, and what members read.
    Deletion {
        id: RequestId,
        read: BTreeSet<ByteString>,
    },
    Deadline,
}

impl Watch {
    /// What is to be looked at before a machine decides on an input.
    pub(crate) fn of(machine: &GroupShard, input: &Input) -> Option<Self> {
        Some(match input {
            Input::Request(id, Request::CommitOffsets(request)) => Watch::Commit {
                expected: expected_of_commit(machine, request),
                request: request.clone(),
                id: *id,
            },
            Input::Request(id, Request::FetchOffsets(request)) => {
                Watch::Fetch { request: request.clone(), id: *id }
            }
            Input::Request(id, Request::Join(join))
                if join.requires_known_member_id
                    && join.member_id.is_empty()
                    && join.instance_id.is_none() =>
            {
                Watch::FirstJoin { id: *id }
            }
            Input::Request(id, Request::Heartbeat(heartbeat)) => {
                match membership(machine, &heartbeat.group, &heartbeat.member_id)? {
                    (generation, true) => {
                        Watch::Heartbeat { id: *id, is_current: heartbeat.generation == generation }
                    }
                    (_, false) => return None,
                }
            }
            Input::Request(id, Request::DeleteOffsets(delete)) => {
                let group = served(machine).find(|group| group.group == delete.group)?;
                if group.state != GroupState::Stable {
                    return None;
                }
                let wanted = group.members.iter().map(|m| Subscription::decode(&m.subscription));
                let wanted: Result<Vec<Subscription>, _> = wanted.collect();
                let read = wanted.ok()?.into_iter().flat_map(|wanted| wanted.topics).collect();
                Watch::Deletion { id: *id, read }
            }
            Input::Deadline => Watch::Deadline,
            _ => return None,
        })
    }
}

/// S1: who believes to own what, of those who are in their group's generation. A partition has one owner.
#[derive(Debug, Default)]
pub(crate) struct Owners<'a> {
    owners: BTreeMap<(usize, &'a TopicPartition), usize>,
}

impl<'a> Owners<'a> {
    /// # Panics
    /// If one of them belongs to another client of the group.
    pub(crate) fn add(
        &mut self,
        group: usize,
        client: usize,
        generation: i32,
        owned: impl Iterator<Item = &'a TopicPartition>,
    ) {
        for partition in owned {
            match self.owners.entry((group, partition)) {
                Entry::Vacant(free) => {
                    free.insert(client);
                }
                Entry::Occupied(taken) => panic!(
                    "S1: {partition} in generation {generation} belongs to clients {} and {client}",
                    taken.get()
                ),
            }
        }
    }

    /// How many partitions have an owner.
    pub(crate) fn len(&self) -> usize {
        self.owners.len()
    }
}

impl Progress {
    pub(crate) fn delivered_to(&self) -> i64 {
        self.delivered_to
    }

    /// Nothing is read of this topic yet.
    pub(crate) fn of(topic: Uuid) -> Self {
        Self { topic, delivered_to: 0 }
    }

    /// S29: records were handed to an application, from this offset to before that one.
    pub(crate) fn read(
        &mut self,
        client: usize,
        partition: &TopicPartition,
        log_start: i64,
        (from, to): (i64, i64),
    ) {
        let known = self.delivered_to.max(log_start);
        if from > known {
            panic!(
                "S29: client {client} reads {partition} from {from}; {known} was read by nobody"
            );
        }
        self.delivered_to = known.max(to);
    }
}

impl World {
    /// After each event.
    pub(crate) fn check_safety(&self) {
        if self.checked {
            self.one_owner();
        }
    }

    /// S1: of those who are in the group, in its generation, no two believe that they own a partition. Who was removed and has not
    /// heard of it is not in the group.
    fn one_owner(&self) {
        let mut owners = Owners::default();
        for client in &self.alive {
            let found = &self.clients[*client];
            let (owned, member_id, generation): (&mut dyn Iterator<Item = &TopicPartition>, _, _) =
                match &found.kind {
                    Kind::Ours(process) => {
                        assert!(
                            process.told.is_empty() || process.member.generation() >= 0,
                            "partitions are owned under a generation"
                        );
                        (
                            &mut process.told.partitions(),
                            process.member.member_id(),
                            process.member.generation(),
                        )
                    }
                    Kind::Foreign(foreign) => {
                        (&mut foreign.owned.iter(), &foreign.member_id, foreign.generation)
                    }
                    Kind::Operator => continue,
                };
            let group = &self.groups[found.group];
            let Some(host) = self.shards[group.shard].serving() else { continue };
            if membership(&host.machine, &group.id, member_id) == Some((generation, true)) {
                owners.add(found.group, *client, generation, owned);
            }
        }
    }

    /// Records were handed to an application: from this offset to before that one.
    pub(crate) fn delivered(
        &mut self,
        client: usize,
        partition: &TopicPartition,
        topic: Uuid,
        from: i64,
        to: i64,
    ) {
        let start = self.topics.log(partition).map_or(0, |(_, log)| log.start);
        let progress = self.progress(self.clients[client].group, partition, topic);
        progress.read(client, partition, start, (from, to));
    }

    fn progress(&mut self, group: usize, partition: &TopicPartition, topic: Uuid) -> &mut Progress {
        let progress = self.groups[group].progress.entry(partition.clone()).or_default();
        if progress.topic != topic {
            *progress = Progress::of(topic);
        }
        progress
    }

    /// An operator may skip records.
    pub(crate) fn operator_sets(&mut self, group: usize, partition: &TopicPartition, offset: i64) {
        let Some((topic, _)) = self.topics.log(partition) else { return };
        let progress = self.progress(group, partition, topic);
        progress.delivered_to = progress.delivered_to.max(offset);
    }

    /// What members send.
    pub(crate) fn check_request(&mut self, client: usize, request: &kavka_member::Request) {
        if !self.checked {
            return;
        }
        let progress = &self.groups[self.clients[client].group].progress;
        let Kind::Ours(process) = &self.clients[client].kind else { return };
        check_member_request(&process.member, progress, &self.topics, request);
        if matches!(request, kavka_member::Request::CommitOffsets(_)) {
            self.coverage.check("commits of what was read");
        }
    }

    /// Before a step.
    pub(crate) fn watch(&self, shard: usize, host: usize, input: &Input) -> Option<Watch> {
        Watch::of(&self.shards[shard].hosts[host].machine, input)
    }

    /// After the decision, before its records are appended.
    pub(crate) fn check_output(
        &mut self,
        shard: usize,
        host: usize,
        now: Now,
        output: &Output,
        watch: Option<Watch>,
    ) {
        let found = &self.shards[shard].hosts[host];
        if found.loading.is_some() || found.is_fenced {
            // It refuses, or nobody hears what it says.
            return;
        }
        if let Some(Watch::Deadline) = watch {
            self.check_expiry(shard, host, now, output);
        }
        let Shard { hosts, naive, .. } = &mut self.shards[shard];
        let Host { machine, generations, .. } = &mut hosts[host];
        if let Some(checked) = check_decision(machine, naive, generations, output, watch) {
            self.coverage.check(checked);
        }
    }

    /// S7: an offset that expires was of no use to anybody.
    fn check_expiry(&mut self, shard: usize, host: usize, now: Now, output: &Output) {
        let expired: Vec<(ByteString, ByteString, i32)> = output
            .events
            .iter()
            .filter_map(|event| match &event.kind {
                EventKind::OffsetsExpired { partitions } => Some((&event.group, partitions)),
                _ => None,
            })
            .flat_map(|(group, partitions)| {
                partitions.iter().map(|(topic, number)| (group.clone(), topic.clone(), *number))
            })
            .collect();
        let gone = output.events.iter().filter(|event| {
            matches!(event.kind, EventKind::GroupDeleted { cause: DeletionCause::Expiry })
        });
        let gone: Vec<ByteString> = gone.map(|event| event.group.clone()).collect();
        let tombstones = output
            .records
            .iter()
            .filter(|record| matches!(record, Record::Offset { value: None, .. }));
        assert_eq!(tombstones.count(), expired.len(), "S7: what expires is told");
        if expired.is_empty() {
            return;
        }
        let found = &self.shards[shard];
        let retention = i64::try_from(found.config.offsets_retention.as_millis()).unwrap_or(0);
        let hard = found.shadow.hard_state();
        let groups: BTreeMap<ByteString, _> =
            served(&found.hosts[host].machine).map(|g| (g.group.clone(), g)).collect();
        for place in &expired {
            let (group, topic, _) = place;
            let value = found.naive.committed(place).expect("S7: only what is there expires");
            assert!(!found.naive.is_pending(place), "S7: a transaction is open for {place:?}");
            let stored = hard.groups.get(group);
            let state = groups.get(group).map_or(GroupState::Empty, |group| group.state);
            let is_simple = stored.is_none_or(|stored| stored.protocol_type.is_empty());
            let base = match (state, stored) {
                (GroupState::Empty, Some(stored))
                    if !is_simple && stored.state_timestamp_ms != -1 =>
                {
                    stored.state_timestamp_ms
                }
                _ => value.commit_timestamp_ms,
            };
            match state {
                GroupState::Stable => {
                    let reads =
                        stored.into_iter().flat_map(|stored| &stored.members).any(|member| {
                            Subscription::decode(&member.subscription)
                                .map_or(true, |wanted| wanted.topics.contains(topic))
                        });
                    assert!(!reads, "S7: members of {group} read {topic}");
                }
                state => assert!(
                    state == GroupState::Empty || is_simple && groups[group].members.is_empty(),
                    "S7: {group} is {state}"
                ),
            }
            let is_over = match value.expire_timestamp_ms {
                Some(expires) => now.wall_ms >= expires,
                None => now.wall_ms - base >= retention,
            };
            assert!(is_over, "S7: {place:?} expired before its time");
        }
        self.coverage.check("offsets expired");
        if !gone.is_empty() {
            self.coverage.check("groups expired");
        }
    }

    /// S15: a request that came twice, with nothing in between, is answered alike.
    pub(crate) fn check_twin(
        &mut self,
        own: Option<RequestId>,
        request: RequestId,
        reply: &Reply,
        failed: bool,
    ) {
        if !self.checked || own != Some(request) {
            return;
        }
        if let Some((former, of_former)) = self.twin.take()
            && former.0 + 1 == request.0
            && !failed
        {
            match (&of_former, reply) {
                (Reply::Heartbeat(_), Reply::Heartbeat(_))
                | (Reply::CommitOffsets(_), Reply::CommitOffsets(_))
                | (Reply::FetchOffsets(_), Reply::FetchOffsets(_))
                | (Reply::Sync(_), Reply::Sync(_))
                    if !is_too_large(&of_former) =>
                {
                    assert_eq!(&of_former, reply, "S15: the same request, another answer");
                    self.coverage.check("duplicates answered alike");
                }
                _ => {}
            }
        }
        if self.is_twin(request) && !failed {
            self.twin = Some((request, reply.clone()));
        }
    }

    /// S2, after each append: the machine that decided, and one that reads the bytes, agree.
    pub(crate) fn check_shadow(&mut self, shard: usize, host: usize) {
        let found = &self.shards[shard];
        let live = found.hosts[host].machine.hard_state();
        assert_eq!(live, found.shadow.hard_state(), "S2: live equals replayed");
    }

    /// S2, S16: a machine that has read the log is as the one that read it as it grew; and so is one that reads what
    /// compaction would leave.
    pub(crate) fn check_loaded(&mut self, shard: usize, host: usize) {
        let found = &self.shards[shard];
        let live = found.hosts[host].machine.hard_state();
        assert_eq!(live, found.shadow.hard_state(), "S2: what is loaded is what was there");
        live_equals_replayed(&live, &found.config, found.log.entries());
        self.coverage.check("loads compared");
    }

    /// S13: who is fenced has a successor: it does not fence itself.
    pub(crate) fn check_fenced(&mut self, client: usize) {
        let Client { group, since, kind, fenced_by_former, .. } = &self.clients[client];
        let (name, id) = match kind {
            Kind::Ours(process) => {
                let name = process.instance.map(|number| instance_name(*group, number));
                (name, &process.known_as)
            }
            Kind::Foreign(foreign) => (foreign.instance.clone(), &foreign.member_id),
            Kind::Operator => return,
        };
        let named = name.as_ref().and_then(|name| self.groups[*group].named.get(name));
        let mut others = named.into_iter().flatten().filter(|(other, _)| **other != client);
        // A return during a rebalance is not stored before its end, nor is ever the connection it came over: a coordinator that has
        // loaded in between takes the former id for the member's, as Apache Kafka's does, and a JoinGroup that was overtaken for
        // another return.
        let taken = named.and_then(|named| named.get(&client)).and_then(|own| own.taken.get(id));
        let taken = taken.copied().unwrap_or(0);
        let is_forgotten = self.shards[self.groups[*group].shard].loaded_at >= taken;
        // Or its session had ended: then the request without an id made another member of it.
        let dropped = name.as_ref().and_then(|name| self.groups[*group].dropped.get(name));
        let is_forgotten = is_forgotten || dropped.is_some_and(|at| at >= since);
        // Or a coordinator answered that did not know yet that it was none, and had not heard of the return.
        let is_forgotten = is_forgotten || *fenced_by_former;
        assert!(
            is_forgotten || others.any(|(_, joins)| joins.heard >= *since),
            "S13: client {client} is fenced, and has no successor"
        );
        self.coverage.check("members fenced by another");
    }

    /// L5: a request is answered, or its connection is given up, in time.
    pub(crate) fn check_parked(&self, shard: usize, host: usize) {
        let longest = self.plan.rebalance.max(self.plan.session);
        let bound = longest + longest / 50 + 2_000;
        let host = &self.shards[shard].hosts[host];
        if let Some((id, since)) = host.parked.first_key_value() {
            assert!(since + bound >= self.now, "L5: {id:?} waits since {since}");
        }
    }

    /// S3: what a reply stands on is durable, and has to stay.
    pub(crate) fn check_release(&mut self, shard: usize, reply: &Reply, position: i64) {
        if !self.checked {
            return;
        }
        let found = &mut self.shards[shard];
        assert!(position <= found.log.durable(), "S3: told before it is durable: {reply:?}");
        found.promised = found.promised.max(position);
        self.coverage.check("promises held until durable");
    }
}

/// What members send: S6, S8, S27.
///
/// # Panics
/// If it must not be sent.
pub(crate) fn check_member_request(
    member: &Member,
    progress: &BTreeMap<TopicPartition, Progress>,
    topics: &Topics,
    request: &kavka_member::Request,
) {
    match request {
        kavka_member::Request::Heartbeat(heartbeat) => {
            let generation = member.generation();
            assert_eq!(heartbeat.generation, generation, "S8: a heartbeat of an old generation");
        }
        kavka_member::Request::CommitOffsets(commit) => {
            let owned = member.owned();
            let ids = &commit.topic_ids;
            for (partition, row) in &commit.offsets {
                assert!(owned.contains(partition), "S27: commits {partition}, not its own");
                let id = ids.get(&partition.topic).copied().unwrap_or(Uuid::ZERO);
                let of_it = progress.get(partition).filter(|progress| progress.topic == id);
                // Where the log of a topic that is gone began, and a reset may have led, nobody knows any more; another one may
                // have its name.
                let log = topics.log(partition).filter(|(topic, _)| *topic == id);
                let Some((progress, (_, log))) = of_it.zip(log) else { continue };
                let delivered_to = progress.delivered_to.max(log.start);
                assert!(
                    row.offset <= delivered_to,
                    "S6: commits {} of {partition}, read to {delivered_to}",
                    row.offset
                );
            }
        }
        _ => {}
    }
}

/// What a machine has decided, before its records are appended; the name of what was looked at, if it was something in particular.
/// `generations`: the last one that each group made.
///
/// # Panics
/// If it must not be decided.
pub(crate) fn check_decision(
    machine: &GroupShard,
    naive: &NaiveOffsets,
    generations: &mut BTreeMap<ByteString, i32>,
    output: &Output,
    watch: Option<Watch>,
) -> Option<&'static str> {
    let reply_to = |id: RequestId| {
        output.answers.iter().find(|answer| answer.request == id).map(|answer| &answer.reply)
    };
    let mut checked = None;
    match watch {
        Some(Watch::Commit { request, expected, id }) => {
            if let Some(Reply::CommitOffsets(reply)) = reply_to(id) {
                check_commit(output, &request, expected, reply);
                checked = Some("commits decided");
            }
        }
        Some(Watch::Fetch { request, id }) => {
            if let Some(Reply::FetchOffsets(reply)) = reply_to(id) {
                naive.check_fetch(&request, reply);
                checked = Some("offsets read");
            }
        }
        Some(Watch::Heartbeat { id, is_current }) => {
            if let Some(Reply::Heartbeat(code)) = reply_to(id) {
                let is_taken = matches!(code, ErrorCode::None | ErrorCode::RebalanceInProgress);
                assert!(is_current || !is_taken, "S8: a heartbeat of another generation");
            }
        }
        Some(Watch::FirstJoin { id }) => {
            let is_refused =
                matches!(reply_to(id), Some(Reply::Join(join)) if join.error != ErrorCode::None);
            assert!(is_refused, "S14: a member that does not know its id");
        }
        Some(Watch::Deletion { id, read }) => {
            if let Some(Reply::DeleteOffsets(reply)) = reply_to(id) {
                for (topic, rows) in &reply.topics {
                    let is_kept =
                        rows.iter().all(|(_, code)| *code == ErrorCode::GroupSubscribedToTopic);
                    assert_eq!(is_kept, read.contains(topic), "S7: offsets of {topic} deleted");
                }
                checked = Some("deletions of offsets decided");
            }
        }
        Some(Watch::Deadline) | None => {}
    }
    for answer in &output.answers {
        check_promise(&answer.reply, answer.release);
    }
    check_stable(machine, generations, output);
    checked
}

/// S4.
fn check_commit(
    output: &Output,
    request: &CommitRequest,
    expected: Option<ErrorCode>,
    reply: &CommitReply,
) {
    let mut stored = 0;
    for (topic, rows) in request.topics.iter().zip(&reply.topics) {
        for (asked, (_, code)) in topic.partitions.iter().zip(&rows.partitions) {
            let too_long = asked.metadata.as_ref().is_some_and(|note| note.len() > 64);
            let of_row = if too_long { ErrorCode::OffsetMetadataTooLarge } else { ErrorCode::None };
            let expected = expected.unwrap_or(of_row);
            let too_large = *code == ErrorCode::InvalidCommitOffsetSize
                && matches!(expected, ErrorCode::None | ErrorCode::OffsetMetadataTooLarge);
            assert!(*code == expected || too_large, "S4: {code} for {expected}: {request:?}");
            stored += usize::from(*code == ErrorCode::None);
        }
    }
    let offsets = output.records.iter().filter(|r| matches!(r, Record::Offset { .. })).count();
    assert_eq!(offsets, stored, "S3, S16: a record for each offset that was taken, no more");
}

/// S3: what a crash could take back is not told before it is durable.
fn check_promise(reply: &Reply, release: group::Release) {
    let promises = match reply {
        Reply::Join(join) => join.error == ErrorCode::None,
        Reply::Sync(sync) => sync.error == ErrorCode::None,
        Reply::Heartbeat(_) => false,
        _ => true,
    };
    assert!(
        !promises || release == group::Release::Durable,
        "S3: told before it is durable: {reply:?}"
    );
}

/// S9: when the leader's assignment is there, no partition is anybody's twice, and nobody has what it did not ask for.
fn check_stable(
    machine: &GroupShard,
    generations: &mut BTreeMap<ByteString, i32>,
    output: &Output,
) {
    for event in &output.events {
        if let EventKind::StaticMemberReplaced { state, .. } = &event.kind
            && *state == GroupState::CompletingRebalance
        {
            let begins = |other: &group::Event| {
                other.group == event.group
                    && matches!(other.kind, EventKind::RebalanceStarted { .. })
            };
            assert!(
                output.events.iter().any(begins),
                "S13: the leader assigns to an id that is gone"
            );
        }
        if let EventKind::JoinCompleted { .. } = &event.kind {
            let former = generations.insert(event.group.clone(), event.generation);
            assert!(
                former.is_none_or(|former| former < event.generation),
                "S8: a rebalance of {} without a new generation",
                event.group
            );
            let leads = |answer: &group::Answer| match &answer.reply {
                Reply::Join(join) => {
                    join.generation == event.generation && join.leader == join.member_id
                }
                _ => false,
            };
            assert!(
                output.answers.iter().any(leads),
                "L1: a member that did not join is to assign for {}",
                event.group
            );
        }
        if let EventKind::GroupDeleted { .. } = &event.kind {
            generations.remove(&event.group);
        }
        if let EventKind::MembersDidNotJoin { members } = &event.kind {
            let is_dynamic = |id: &ByteString| id.starts_with("client-");
            assert!(
                members.iter().all(is_dynamic),
                "S13: a static member is removed by its session's end only: {members:?}"
            );
        }
        let EventKind::AssignmentReceived { .. } = event.kind else { continue };
        let Some(group) = served(machine).find(|found| found.group == event.group) else {
            continue;
        };
        let mut owners: BTreeMap<TopicPartition, ByteString> = BTreeMap::new();
        for member in &group.members {
            let share = kavka_member::Assignment::decode(&member.assignment);
            let Ok(share) = share else { continue };
            let wanted = Subscription::decode(&member.subscription).unwrap_or_default();
            for partition in share.partitions {
                assert!(
                    wanted.topics.contains(&partition.topic),
                    "S9: {} has {partition} and does not subscribe to it",
                    member.member_id
                );
                let other = owners.insert(partition.clone(), member.member_id.clone());
                assert_eq!(other, None, "S9: {partition} is assigned twice");
            }
        }
    }
}

/// An assignment that fits into no record is refused, and a rebalance begins: the second time it is refused for that.
fn is_too_large(reply: &Reply) -> bool {
    matches!(reply, Reply::Sync(sync) if sync.error == ErrorCode::UnknownServerError)
}
