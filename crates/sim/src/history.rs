//! What clients see, written down for `kavka-checker` to judge.
//!
//! The checker knows nothing of the world: it sees requests, answers and callbacks, as it would see them of real clients. A topic
//! that is made anew has another name there. What is only perhaps done (an answer was lost, an append failed that may be there)
//! is left open, which is the kindest reading.

use std::collections::{BTreeMap, BTreeSet};

use kavka_checker::{
    Commit, CommitSource, Committed, Event, EventKind, FaultPhase, GroupSettings, History,
    Isolation, Member, Op, PositionCause, Settings, TopicPartition as Place,
};
use kavka_coordinator::group::{self, GroupState, Reply, Request};
use kavka_member::TopicPartition;
use kavka_protocol::{ByteString, ErrorCode, Uuid};

use crate::world::{Kind, World};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Notebook {
    history: History,
    last_process: u64,
    /// Operations under way: by client and tag, the process and what it began.
    open: BTreeMap<(usize, u64), (u64, Op)>,
}

/// Processes above clients: one for each operation that may overlap others.
const FIRST_PROCESS: u64 = 1_000_000;

impl World {
    /// The history so far; `None` if it is not written.
    pub fn take_history(&mut self) -> Option<History> {
        self.notebook.take().map(|notebook| notebook.history)
    }

    fn push(&mut self, client: &str, process: u64, kind: EventKind, op: Op) {
        let time = self.now * 1_000_000;
        if let Some(notebook) = &mut self.notebook {
            let client = client.to_owned();
            notebook.history.events.push(Event { time, process, client, kind, op });
        }
    }

    /// Something that happens at once, to a client.
    pub(crate) fn record(&mut self, client: usize, op: impl FnOnce(&Self) -> Op) {
        if self.notebook.is_some() {
            let op = op(self);
            self.push(&format!("client-{client}"), client as u64, EventKind::Info, op);
        }
    }

    /// Something that happens at once, to the cluster.
    pub(crate) fn record_of_cluster(&mut self, op: impl FnOnce(&Self) -> Op) {
        if self.notebook.is_some() {
            let op = op(self);
            self.push("cluster", FIRST_PROCESS, EventKind::Info, op);
        }
    }

    /// Something that may happen from now on, once.
    pub(crate) fn record_possible(&mut self, op: impl FnOnce(&Self) -> Op) {
        if self.notebook.is_some() {
            let op = op(self);
            let process = self.next_process();
            self.push("cluster", process, EventKind::Invoke, op);
        }
    }

    fn next_process(&mut self) -> u64 {
        let Some(notebook) = &mut self.notebook else { return 0 };
        notebook.last_process += 1;
        FIRST_PROCESS + notebook.last_process
    }

    pub(crate) fn begin_history(&mut self) {
        let settings = Settings { idempotent: true, isolation: Isolation::ReadUncommitted };
        self.record_of_cluster(|_| Op::Settings(settings));
        for group in 0..self.groups.len() {
            self.record_of_cluster(|world| Op::Group {
                group: world.groups[group].id.to_string(),
                settings: GroupSettings {
                    session_timeout_ms: world.plan.session * 98 / 100,
                    rebalance_timeout_ms: world.plan.rebalance,
                    ..GroupSettings::default()
                },
            });
        }
        self.record_of_cluster(|_| Op::Fault { kind: "plan".into(), phase: FaultPhase::Begin });
    }

    /// From here on nothing is to be nobody's. Of clients of other make the checker does not know what they own: while there is
    /// one, it is not told.
    pub(crate) fn record_healed(&mut self) {
        let is_foreign = |client: &usize| matches!(self.clients[*client].kind, Kind::Foreign(_));
        if self.alive.iter().any(is_foreign) {
            return;
        }
        self.record_of_cluster(|_| Op::Fault { kind: "plan".into(), phase: FaultPhase::End });
    }

    /// The name of a partition of this life of its topic.
    pub(crate) fn place(&self, partition: &TopicPartition, id: Uuid) -> Place {
        let number = u32::try_from(partition.partition).unwrap_or(0);
        Place::new(format!("{}.{id}", partition.topic), number)
    }

    /// What a topic is called in its present life.
    pub(crate) fn life_of(&self, name: &ByteString) -> Option<String> {
        self.topics.get(name).map(|topic| format!("{name}.{}", topic.id))
    }

    /// The same, as a client knows it.
    pub(crate) fn place_of(&self, client: usize, partition: &TopicPartition) -> Place {
        let known = self.known_id(client, &partition.topic);
        let current = self.topics.get(&partition.topic).map(|topic| topic.id);
        self.place(partition, known.or(current).unwrap_or(Uuid::ZERO))
    }

    /// A request leaves a client.
    pub(crate) fn record_request(&mut self, client: usize, tag: u64, request: &Request) {
        if self.notebook.is_none() {
            return;
        }
        let op = match request {
            Request::CommitOffsets(commit) => {
                let is_member = !commit.member_id.is_empty();
                let member = is_member.then(|| member(&commit.member_id, commit.generation));
                let mut offsets = BTreeMap::new();
                for topic in &commit.topics {
                    let current = self.topics.get(&topic.name).map(|topic| topic.id);
                    let id = if topic.topic_id.is_zero() { current } else { Some(topic.topic_id) };
                    for row in &topic.partitions {
                        let at = TopicPartition::new(topic.name.clone(), row.partition);
                        let keeps_epoch = commit.retention_time_ms.is_none();
                        let value = Committed {
                            offset: row.offset,
                            leader_epoch: if keeps_epoch { row.leader_epoch } else { -1 },
                            metadata: row.metadata.as_deref().unwrap_or_default().to_owned(),
                        };
                        offsets.insert(self.place(&at, id.unwrap_or(Uuid::ZERO)), value);
                    }
                }
                // Of clients of other make the checker is told no callbacks, so it cannot know what they were given.
                let is_ours = matches!(self.clients[client].kind, Kind::Ours(_));
                let source = if is_ours { CommitSource::Consumed } else { CommitSource::Chosen };
                let group = commit.group.to_string();
                Op::Commit(Commit { group, member, offsets, source, ..Commit::default() })
            }
            Request::FetchOffsets(fetch) if fetch.topics.is_some() => {
                Op::FetchOffsets { group: fetch.group.to_string(), offsets: BTreeMap::new() }
            }
            Request::Heartbeat(heartbeat) => Op::Heartbeat {
                group: heartbeat.group.to_string(),
                member: member(&heartbeat.member_id, heartbeat.generation),
            },
            Request::DeleteGroups(groups) => {
                for group in groups {
                    self.record_possible(|_| Op::DeleteGroup { group: group.to_string() });
                }
                return;
            }
            Request::DeleteOffsets(delete) => {
                let topics = delete.topics.iter();
                let rows =
                    topics.flat_map(|(topic, rows)| rows.iter().map(move |row| (topic, *row)));
                let at = rows.map(|(topic, row)| {
                    let id = self.topics.get(topic).map_or(Uuid::ZERO, |topic| topic.id);
                    self.place(&TopicPartition::new(topic.clone(), row), id)
                });
                let (group, partitions) = (delete.group.to_string(), at.collect());
                self.record_possible(|_| Op::DeleteOffsets { group, partitions });
                return;
            }
            _ => return,
        };
        let process = self.next_process();
        self.push(&format!("client-{client}"), process, EventKind::Invoke, op.clone());
        if let Some(notebook) = &mut self.notebook {
            notebook.open.insert((client, tag), (process, op));
        }
    }

    /// An answer has arrived. One that leaves open whether it was done leaves the operation open.
    pub(crate) fn record_reply(&mut self, client: usize, tag: u64, reply: &Reply) {
        let Some(notebook) = &mut self.notebook else { return };
        let Some((process, op)) = notebook.open.remove(&(client, tag)) else { return };
        let (kind, op) = match (op, reply) {
            (Op::Commit(mut commit), Reply::CommitOffsets(reply)) => {
                let mut codes = Vec::new();
                for topic in &reply.topics {
                    for (number, code) in &topic.partitions {
                        let at = TopicPartition::new(topic.name.clone(), *number);
                        codes.push((self.place(&at, topic.topic_id), *code));
                    }
                }
                let is_open = |code: ErrorCode| {
                    matches!(
                        code,
                        ErrorCode::CoordinatorNotAvailable
                            | ErrorCode::NotCoordinator
                            | ErrorCode::CoordinatorLoadInProgress
                    )
                };
                if codes.iter().any(|(_, code)| is_open(*code)) {
                    return;
                }
                let done = codes.iter().filter(|(_, code)| *code == ErrorCode::None);
                let done: Vec<Place> = done.map(|(at, _)| at.clone()).collect();
                let refused = commit.offsets.keys().filter(|at| !done.contains(at));
                commit.failed = refused.cloned().collect();
                if commit.failed.len() == commit.offsets.len() {
                    commit.failed.clear();
                    (EventKind::Fail, Op::Commit(commit))
                } else {
                    (EventKind::Ok, Op::Commit(commit))
                }
            }
            (Op::FetchOffsets { group, .. }, Reply::FetchOffsets(fetch))
                if fetch.error == ErrorCode::None =>
            {
                let mut offsets = BTreeMap::new();
                for topic in fetch.topics.iter().filter(|topic| !topic.topic_id.is_zero()) {
                    for row in topic.partitions.iter().filter(|row| row.error == ErrorCode::None) {
                        let at = TopicPartition::new(topic.name.clone(), row.partition);
                        let value = (row.offset >= 0).then(|| Committed {
                            offset: row.offset,
                            leader_epoch: row.leader_epoch,
                            metadata: row.metadata.to_string(),
                        });
                        offsets.insert(self.place(&at, topic.topic_id), value);
                    }
                }
                (EventKind::Ok, Op::FetchOffsets { group, offsets })
            }
            (op @ Op::Heartbeat { .. }, Reply::Heartbeat(code)) => match code {
                ErrorCode::None | ErrorCode::RebalanceInProgress => (EventKind::Ok, op),
                _ => (EventKind::Fail, op),
            },
            (op, _) => (EventKind::Fail, op),
        };
        self.push(&format!("client-{client}"), process, kind, op);
    }

    /// Records were handed to an application.
    pub(crate) fn record_poll(
        &mut self,
        client: usize,
        at: &TopicPartition,
        id: Uuid,
        from: i64,
        to: i64,
    ) {
        if self.notebook.is_none() {
            return;
        }
        let records = (from..to).map(|offset| (offset, offset).into()).collect();
        let place = self.place(at, id);
        let is_ours = matches!(self.clients[client].kind, Kind::Ours(_));
        if !is_ours {
            // Where it starts to read is not told otherwise.
            self.record(client, |_| Op::Assign { partitions: BTreeSet::new() });
            self.record(client, |_| Op::Assign { partitions: [place.clone()].into() });
        }
        let records = BTreeMap::from([(place, records)]);
        let op = |records| Op::Poll { records, rebalanced: BTreeSet::new(), last: false };
        let name = format!("client-{client}");
        self.push(&name, client as u64, EventKind::Invoke, op(BTreeMap::new()));
        self.push(&name, client as u64, EventKind::Ok, op(records));
    }

    /// Records are in the log.
    pub(crate) fn record_sends(&mut self, at: &TopicPartition, id: Uuid, from: i64, to: i64) {
        for value in from..to {
            let place = self.place(at, id);
            let op = |offset| Op::Send { partition: place.clone(), value, offset };
            if self.notebook.is_some() {
                self.push("producer", FIRST_PROCESS - 1, EventKind::Invoke, op(None));
                self.push("producer", FIRST_PROCESS - 1, EventKind::Ok, op(Some(value)));
            }
        }
    }

    pub(crate) fn record_topic(&mut self, name: &ByteString, id: Uuid, partitions: usize) {
        self.record_of_cluster(|_| Op::Topic {
            topic: format!("{name}.{id}"),
            partitions: u32::try_from(partitions).unwrap_or(0),
        });
    }

    /// Every offset of a topic that is gone goes, sooner or later.
    pub(crate) fn record_topic_deletion(&mut self, name: &ByteString, id: Uuid, partitions: usize) {
        self.record_topic(name, id, 0);
        for group in 0..self.groups.len() {
            for number in 0..partitions {
                let at = TopicPartition::new(name.clone(), i32::try_from(number).unwrap_or(0));
                self.record_possible(|world| Op::DeleteOffsets {
                    group: world.groups[group].id.to_string(),
                    partitions: [world.place(&at, id)].into(),
                });
            }
        }
    }

    /// An offset that the log has from a transaction: it may become the committed one.
    pub(crate) fn record_transaction(&mut self, group: &ByteString, at: &TopicPartition, id: Uuid) {
        self.record_possible(|world| {
            let value = Committed { offset: 0, leader_epoch: 0, metadata: "txn".into() };
            Op::Commit(Commit {
                group: group.to_string(),
                offsets: [(world.place(at, id), value)].into(),
                source: CommitSource::Chosen,
                ..Commit::default()
            })
        });
    }

    pub(crate) fn record_position(
        &mut self,
        client: usize,
        partition: &TopicPartition,
        offset: i64,
        is_reset: bool,
    ) {
        self.record(client, |world| Op::Position {
            group: world.groups[world.clients[client].group].id.to_string(),
            partition: world.place_of(client, partition),
            offset,
            cause: if is_reset { PositionCause::Reset } else { PositionCause::Committed },
        });
    }

    pub(crate) fn record_state(&mut self, group: &ByteString, state: GroupState) {
        self.record_of_cluster(|_| Op::GroupState {
            group: group.to_string(),
            state: match state {
                GroupState::Empty => kavka_checker::GroupState::Empty,
                GroupState::PreparingRebalance => kavka_checker::GroupState::PreparingRebalance,
                GroupState::CompletingRebalance => kavka_checker::GroupState::CompletingRebalance,
                GroupState::Stable => kavka_checker::GroupState::Stable,
                GroupState::Dead => kavka_checker::GroupState::Dead,
            },
        });
    }

    /// Offsets are about to expire, if their tombstones get into the log.
    pub(crate) fn record_expiry(&mut self, event: &group::Event) {
        let group::EventKind::OffsetsExpired { partitions } = &event.kind else { return };
        for (topic, number) in partitions {
            let at = TopicPartition::new(topic.clone(), *number);
            self.record_possible(|world| {
                let id = world.topics.get(topic).map_or(Uuid::ZERO, |topic| topic.id);
                Op::DeleteOffsets {
                    group: event.group.to_string(),
                    partitions: [world.place(&at, id)].into(),
                }
            });
        }
    }
}

pub(crate) fn member(id: &ByteString, generation: i32) -> Member {
    Member { member_id: id.to_string(), generation }
}
