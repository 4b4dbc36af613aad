//! What a seed decides before the world begins: how many there are of what, how fast it goes, and what goes wrong how often.
//!
//! A [`Case`] is a seed and what is taken out of its plan.

use std::time::Duration;

use kavka_coordinator::group::GroupConfig;

use crate::{case, named, random::Random};

named! {
    /// Everything that can happen beside members that read and commit.
    pub enum Fault {
        /// A request goes nowhere, and its connection with it.
        LostRequest = "lost-request",
        /// A request is worked on, its answer goes nowhere, and the connection with it.
        LostAnswer = "lost-answer",
        /// The client sees its connection break; what it has sent arrives all the same, later than what it sends next.
        Overtaken = "overtaken",
        /// A connection that swallows everything and tells nobody.
        HalfOpen = "half-open",
        /// A message takes long.
        Slow = "slow",
        /// A request arrives twice.
        Duplicate = "duplicate",
        /// A client and a node cannot reach each other for a while.
        Partition = "partition",
        /// Brokers that are no coordinator do not answer, or point at the former coordinator.
        LookupFails = "lookup-fails",
        /// A node dies and comes back; of what it did not sync some may be there.
        NodeCrash = "node-crash",
        /// A shard moves to another node, or to a new life on the same one.
        Move = "move",
        /// A shard moves, and its former node does not know it for a while.
        Zombie = "zombie",
        /// Loading takes long.
        SlowLoad = "slow-load",
        /// A sync takes long, sometimes longer than commits are waited for.
        SlowSync = "slow-sync",
        /// An append fails, at its first batch or at a later one.
        FailedAppend = "failed-append",
        /// The log is compacted.
        Compaction = "compaction",
        /// Compaction also removes tombstones.
        TombstonesGone = "tombstones-gone",
        /// Batches of the log are joined and cut elsewhere.
        Rechunk = "rechunk",
        /// Offsets of a producer's transaction, and its end, are in the log that is loaded.
        Transaction = "transaction",
        /// The wall clock of a node jumps.
        WallJump = "wall-jump",
        /// Clocks of nodes and clients do not go at one rate.
        Drift = "drift",
        /// A client dies.
        ClientCrash = "client-crash",
        /// A client closes.
        Close = "close",
        /// Everyone of a group closes or dies, and nobody comes for a while.
        Deserted = "deserted",
        /// A client leaves and comes back at once.
        Resubscribe = "resubscribe",
        /// A client subscribes to other topics.
        ChangeSubscription = "change-subscription",
        /// A client asks for a rebalance.
        Enforce = "enforce",
        /// An application does not poll in time.
        Hang = "hang",
        /// An application takes long to let go of partitions.
        SlowDrain = "slow-drain",
        /// An application seeks.
        Seek = "seek",
        /// An application pauses partitions for a while.
        Pause = "pause",
        /// A commit with a note that is too long, or a retention of its own.
        OddCommit = "odd-commit",
        /// A topic is deleted, and made again later.
        TopicDeleted = "topic-deleted",
        /// A topic gets more partitions.
        TopicGrown = "topic-grown",
        /// Old records of a partition are deleted.
        RecordsDeleted = "records-deleted",
        /// Partitions get another leader.
        LeaderEpoch = "leader-epoch",
        /// An operator sets the offsets of a group that is empty, or tries to.
        OffsetReset = "offset-reset",
        /// An operator deletes groups.
        GroupsDeleted = "groups-deleted",
        /// An operator deletes offsets.
        OffsetsDeleted = "offsets-deleted",
        /// An operator looks at groups.
        Look = "look",
        /// An operator removes static members by name.
        MemberRemoved = "member-removed",
        /// Settings of the coordinators change: sizes get small.
        Configured = "configured",
        /// A client that asks for a second member id and forgets the first (librdkafka).
        TwoHandshakes = "two-handshakes",
        /// A client that joins without an id again after it was given one (Java, KIP-394).
        HandshakeRetry = "handshake-retry",
        /// A client of JoinGroup 0 to 3: no handshake, no rebalance timeout.
        OldVersion = "old-version",
        /// A client that rejoins without saying what it subscribes to.
        NoMetadata = "no-metadata",
        /// A client that heartbeats about as often as its session ends.
        LateHeartbeats = "late-heartbeats",
        /// A client that leaves by the name of its instance.
        LeavesByName = "leaves-by-name",
        /// A client that does not wait for answers.
        Abandons = "abandons",
        /// A static client that asks without its id, loses the answer, and asks again under its former id.
        FormerId = "former-id",
        /// A client that commits before it has its assignment.
        PrematureCommit = "premature-commit",
        /// A client that is no consumer, in a group of its own kind.
        OtherKind = "other-kind",
        /// A client that makes up ids, generations and protocols.
        Garbage = "garbage",
    }
}

impl Fault {
    /// Those that are clients of foreign make.
    pub const FOREIGN: &[Fault] = &[
        Fault::TwoHandshakes,
        Fault::HandshakeRetry,
        Fault::OldVersion,
        Fault::NoMetadata,
        Fault::LateHeartbeats,
        Fault::LeavesByName,
        Fault::Abandons,
        Fault::FormerId,
        Fault::PrematureCommit,
        Fault::OtherKind,
        Fault::Garbage,
    ];

    /// Those that happen now and then, and not to a message.
    pub const ACTS: &[Fault] = &[
        Fault::Partition,
        Fault::NodeCrash,
        Fault::Move,
        Fault::Zombie,
        Fault::Compaction,
        Fault::TombstonesGone,
        Fault::Rechunk,
        Fault::WallJump,
        Fault::ClientCrash,
        Fault::Close,
        Fault::Deserted,
        Fault::Resubscribe,
        Fault::ChangeSubscription,
        Fault::Enforce,
        Fault::Hang,
        Fault::Seek,
        Fault::Pause,
        Fault::TopicDeleted,
        Fault::TopicGrown,
        Fault::RecordsDeleted,
        Fault::LeaderEpoch,
        Fault::OffsetReset,
        Fault::GroupsDeleted,
        Fault::OffsetsDeleted,
        Fault::Look,
        Fault::MemberRemoved,
        Fault::Configured,
    ];
}

/// A seed, and the faults that are left out of its world.
pub type Case = case::Case<Fault>;

impl case::Part for Fault {
    fn all_in(case: &Case) -> Vec<Self> {
        let plan = Plan::of(case);
        Fault::ALL.iter().copied().filter(|fault| plan.rate(*fault) > 0).collect()
    }

    fn faults_end_at(case: &Case) -> u64 {
        Plan::of(case).faults_end_at
    }
}

/// What a seed decided. Times are in milliseconds of the world's time.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How much slower everything goes that is a setting: timeouts, intervals, how often something happens.
    pub pace: u64,
    /// When faults stop.
    pub faults_end_at: u64,
    pub nodes: usize,
    pub shards: usize,
    pub groups: Vec<GroupPlan>,
    pub topics: usize,
    /// Of each topic, at first.
    pub partitions: i32,
    /// Between two acts.
    pub act_every: u64,
    pub session: u64,
    pub heartbeat: u64,
    pub rebalance: u64,
    pub request_timeout: u64,
    /// Between two polls.
    pub poll_every: u64,
    pub commit_timeout: u64,
    pub config: GroupConfig,
    /// Of [`Fault::ACTS`], those that the seed has drawn, also if the case leaves them out.
    acts: Vec<Fault>,
    /// How often in a thousand, by [`Fault`].
    rates: Vec<u64>,
}

/// A group of a world.
#[derive(Clone, Debug)]
pub struct GroupPlan {
    pub members: usize,
    pub foreign: Vec<Fault>,
    pub cooperative: bool,
    /// In place of the assignor of that name, one that moves everything about.
    pub dealt: bool,
    /// How many of the members are static.
    pub static_members: usize,
}

impl Plan {
    /// The plan of a case.
    pub fn of(case: &Case) -> Self {
        let mut random = Random::new(case.seed ^ 0x5eed_0fa9_1a2b);
        let pace = *random.pick(&[1, 1, 1, 1, 1, 2, 4, 10, 60]);
        let mut rates = vec![0; Fault::ALL.len()];
        let mut acts = Vec::new();
        for &fault in Fault::ALL {
            let (on, rate) = (random.below(2) == 0, 1 + random.below(max_rate(fault)));
            if on && Fault::ACTS.contains(&fault) {
                acts.push(fault);
            }
            if on && !case.without.contains(&fault) {
                rates[fault as usize] = rate;
            }
        }
        let shards = 1 + random.index(2);
        let groups = 1 + random.index(3);
        let group = |_| {
            let members = 1 + random.index(4);
            let few = random.index(4);
            let drawn = (0..few).map(|_| *random.pick(Fault::FOREIGN));
            let foreign = drawn.filter(|fault| rates[*fault as usize] > 0).collect();
            let static_members = if random.below(2) == 0 { 0 } else { random.index(members + 1) };
            let (cooperative, dealt) = (random.below(2) == 0, random.below(3) == 0);
            GroupPlan { members, foreign, cooperative, dealt, static_members }
        };
        let groups: Vec<GroupPlan> = (0..groups).map(group).collect();
        let session = (6_000 + random.below(9_000)) * pace;
        let heartbeat = session / (3 + random.below(4));
        // Who does not join in time may have a session all the same.
        let rebalance = match random.below(5) {
            0 | 1 => session / 2,
            other => session * (other - 1),
        };
        let retention = *random.pick(&[30, 120, 100_000]) * 1_000 * pace;
        let delay = *random.pick(&[0, 500, 3_000]) * pace;
        let max_batch_bytes = if random.below(8) == 0 { 1_500 } else { 1_048_588 };
        let seconds = Duration::from_secs;
        let config = GroupConfig {
            min_session_timeout: seconds(6),
            max_session_timeout: seconds(1_800),
            initial_rebalance_delay: Duration::from_millis(delay),
            max_pending_members: 5,
            new_member_join_timeout: seconds(60 * pace),
            offset_metadata_max: 64,
            max_batch_bytes,
            offsets_retention: Duration::from_millis(retention),
            offsets_retention_check_interval: Duration::from_millis(
                (retention / 8).min(60_000 * pace),
            ),
            ..GroupConfig::default()
        };
        let planned = (40 + random.below(120)) * 1_000 * pace;
        Self {
            pace,
            faults_end_at: case.faults_end_at.unwrap_or(planned),
            nodes: 1 + random.index(3),
            shards,
            groups,
            topics: 1 + random.index(2),
            partitions: 1 + i32::try_from(random.below(4)).unwrap_or(0),
            act_every: (1_000 + random.below(6_000)) * pace,
            session,
            heartbeat,
            rebalance,
            request_timeout: 3_000 * pace + random.below(session / 2),
            poll_every: (400 + random.below(1_500)) * pace,
            commit_timeout: 5_000,
            config,
            acts,
            rates,
        }
    }

    /// For a world in which one thing is to be seen: only these faults, this often.
    #[cfg(test)]
    pub(crate) fn only(&mut self, faults: &[(Fault, u64)]) {
        self.rates = vec![0; Fault::ALL.len()];
        for (fault, rate) in faults {
            self.rates[*fault as usize] = *rate;
        }
        let drawn = faults.iter().map(|(fault, _)| *fault);
        self.acts = drawn.filter(|fault| Fault::ACTS.contains(fault)).collect();
    }

    /// What happens now and then, among other things.
    pub(crate) fn acts(&self) -> &[Fault] {
        &self.acts
    }

    /// How often in a thousand such a thing happens; 0 if it is off.
    pub fn rate(&self, fault: Fault) -> u64 {
        self.rates[fault as usize]
    }
}

/// In a thousand: messages are many, appends fewer, acts are drawn from those that are on.
fn max_rate(fault: Fault) -> u64 {
    match fault {
        Fault::LostRequest | Fault::LostAnswer | Fault::Overtaken => 40,
        Fault::HalfOpen => 15,
        Fault::Slow => 100,
        Fault::Duplicate => 50,
        Fault::LookupFails | Fault::SlowLoad | Fault::Transaction => 500,
        Fault::SlowSync => 60,
        Fault::FailedAppend => 40,
        Fault::SlowDrain | Fault::OddCommit => 150,
        _ => 1_000,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_case_is_one_word() {
        for text in ["7", "7~slow~hang", "7@60000", "12~lost-request@1"] {
            let case: Case = text.parse().unwrap();
            assert_eq!(case.to_string(), text);
        }
        assert!("7~nonsense".parse::<Case>().is_err());
    }

    #[test]
    fn what_is_left_out_changes_nothing_else_of_the_plan() {
        for seed in 0..50 {
            let whole = Plan::of(&Case::new(seed));
            let case = Case { without: [Fault::Slow].into(), ..Case::new(seed) };
            let less = Plan::of(&case);
            assert_eq!(less.rate(Fault::Slow), 0);
            assert_eq!((whole.session, whole.nodes), (less.session, less.nodes));
        }
    }
}
