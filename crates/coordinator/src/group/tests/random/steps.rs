//! The steps of a walk, and how likely each is.

use proptest::{prelude::*, sample::Index};

use super::{CLIENTS, GROUPS, TOPICS};

/// One step of a walk. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A client does what comes next for it.
    GoOn(usize),
    /// Some of them do so every second, for some seconds; the others are silent.
    Live {
        silent: usize,
        seconds: u64,
    },
    /// A client joins, whatever it is doing.
    Join {
        client: usize,
        id: Id,
        protocols: usize,
        timeout: usize,
    },
    Sync {
        client: usize,
        id: Id,
        generation: i32,
        protocol: Option<bool>,
    },
    Heartbeat {
        client: usize,
        id: Id,
        generation: i32,
    },
    Leave {
        clients: Vec<(usize, Id)>,
        by_name: bool,
    },
    Commit(Commit),
    Fetch {
        group: usize,
        require_stable: bool,
        all: bool,
    },
    DeleteOffsets {
        group: usize,
        topic: usize,
    },
    DeleteGroups(Vec<usize>),
    Look,
    TopicDeleted {
        topic: usize,
        id: u8,
    },
    /// The connection of a client closes.
    Disconnect(usize),
    Sleep(usize),
    /// The wall clock jumps by days: offsets grow old at once, sessions do not.
    Age(i64),
    /// The shard moves away and comes back.
    Move,
    /// The broker is killed: what nobody was told may be lost.
    Crash(Index),
    /// A commit or a deletion of groups whose append fails, after so many batches.
    FailedAppend {
        batches: usize,
        commit: Option<Commit>,
    },
    MaxSize(usize),
    TransactionalOffset {
        producer: i64,
        group: usize,
        offset: i64,
    },
    EndTransaction {
        producer: i64,
        committed: bool,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Commit {
    pub(super) client: usize,
    pub(super) id: Id,
    pub(super) generation: i32,
    pub(super) topic: usize,
    pub(super) partitions: usize,
    pub(super) offset: i64,
    pub(super) long_note: bool,
    pub(super) retention_ms: Option<i64>,
}

/// Which member id a request carries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Id {
    Own,
    None,
    Unknown,
    /// That of the next client.
    OfAnother,
}

fn an_id() -> impl Strategy<Value = Id> {
    prop_oneof![
        6 => Just(Id::Own),
        1 => Just(Id::None),
        1 => Just(Id::Unknown),
        1 => Just(Id::OfAnother),
    ]
}

/// Most clients say what the others say.
fn a_protocol_list() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(0), 2 => Just(1), 1 => Just(2), 1 => Just(3)]
}

/// What is added to the generation that the client knows.
fn a_generation() -> impl Strategy<Value = i32> {
    prop_oneof![6 => Just(0), 1 => Just(-1), 1 => Just(1), 1 => Just(i32::MIN)]
}

fn a_client() -> impl Strategy<Value = usize> {
    0..CLIENTS
}

fn a_commit() -> impl Strategy<Value = Commit> {
    (
        (a_client(), an_id(), a_generation()),
        (0..TOPICS.len(), 1..4_usize, 0..100_i64, prop::bool::weighted(0.1)),
        prop::option::weighted(0.1, prop_oneof![Just(-1), Just(50_000), Just(10_000_000_000)]),
    )
        .prop_map(
            |((client, id, generation), (topic, partitions, offset, long_note), retention)| {
                let retention_ms = retention;
                Commit {
                    client,
                    id,
                    generation,
                    topic,
                    partitions,
                    offset,
                    long_note,
                    retention_ms,
                }
            },
        )
}

pub(super) fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => a_client().prop_map(Step::GoOn),
        25 => (0..2 * CLIENTS, 1..9_u64)
            .prop_map(|(silent, seconds)| Step::Live { silent, seconds }),
        6 => (a_client(), an_id(), a_protocol_list(), 0..3_usize).prop_map(
            |(client, id, protocols, timeout)| Step::Join { client, id, protocols, timeout }
        ),
        4 => (a_client(), an_id(), a_generation(), prop::option::weighted(0.3, any::<bool>()))
            .prop_map(|(client, id, generation, protocol)| {
                Step::Sync { client, id, generation, protocol }
            }),
        4 => (a_client(), an_id(), a_generation())
            .prop_map(|(client, id, generation)| Step::Heartbeat { client, id, generation }),
        3 => (prop::collection::vec((a_client(), an_id()), 1..3), any::<bool>())
            .prop_map(|(clients, by_name)| Step::Leave { clients, by_name }),
        10 => a_commit().prop_map(Step::Commit),
        2 => (0..GROUPS.len(), any::<bool>(), any::<bool>()).prop_map(
            |(group, require_stable, all)| Step::Fetch { group, require_stable, all }
        ),
        1 => (0..GROUPS.len(), 0..TOPICS.len())
            .prop_map(|(group, topic)| Step::DeleteOffsets { group, topic }),
        2 => prop::collection::vec(0..GROUPS.len(), 1..4).prop_map(Step::DeleteGroups),
        1 => Just(Step::Look),
        1 => (0..TOPICS.len(), 0..2_u8).prop_map(|(topic, id)| Step::TopicDeleted { topic, id }),
        2 => a_client().prop_map(Step::Disconnect),
        8 => prop_oneof![3 => 0..4_usize, 2 => 4..SLEEPS.len()].prop_map(Step::Sleep),
        2 => (-1..9_i64).prop_map(Step::Age),
        2 => Just(Step::Move),
        3 => any::<Index>().prop_map(Step::Crash),
        2 => (0..3_usize, prop::option::of(a_commit()))
            .prop_map(|(batches, commit)| Step::FailedAppend { batches, commit }),
        1 => (2..5_usize).prop_map(Step::MaxSize),
        2 => (0..3_i64, 0..GROUPS.len(), 0..100_i64).prop_map(|(producer, group, offset)| {
            Step::TransactionalOffset { producer, group, offset }
        }),
        2 => (0..3_i64, any::<bool>())
            .prop_map(|(producer, committed)| Step::EndTransaction { producer, committed }),
    ]
}

/// Times after which something happens: a pending id gives way, the initial delay ends, a session, a rebalance, the search for
/// expired offsets.
pub(super) const SLEEPS: [u64; 7] = [1, 100, 500, 3_000, 9_999, 30_000, 600_000];
