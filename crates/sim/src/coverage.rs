//! What has happened in a world, or in many: faults that landed, transitions of groups, codes that were given.

use std::{collections::BTreeMap, fmt::Write};

use kavka_coordinator::group::{GroupState, Reply};
use kavka_protocol::ErrorCode;

use crate::plan::Fault;

/// Counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// How often each fault did something.
    pub faults: BTreeMap<&'static str, u64>,
    /// From, to. A group that is made comes from "-".
    pub transitions: BTreeMap<(&'static str, &'static str), u64>,
    /// API and code.
    pub codes: BTreeMap<(&'static str, &'static str), u64>,
    /// Steps of the world.
    pub events: u64,
    /// Milliseconds of the world's time.
    pub simulated_ms: u64,
    /// What was checked how often, where that depends on luck.
    pub checks: BTreeMap<&'static str, u64>,
}

/// The transitions that a classic group has; each has to be seen.
pub const TRANSITIONS: &[(&str, &str)] = &[
    ("-", "Empty"),
    ("Empty", "PreparingRebalance"),
    ("PreparingRebalance", "CompletingRebalance"),
    ("PreparingRebalance", "Empty"),
    ("CompletingRebalance", "Stable"),
    ("CompletingRebalance", "PreparingRebalance"),
    ("Stable", "PreparingRebalance"),
    ("Empty", "Dead"),
    ("-", "Stable"),
];

/// The codes that a shard gives, and its shell for it; each has to be seen.
pub const CODES: &[(&str, &[ErrorCode])] = {
    use ErrorCode as E;
    &[
        (
            "JoinGroup",
            &[
                E::None,
                E::CoordinatorLoadInProgress,
                E::CoordinatorNotAvailable,
                E::NotCoordinator,
                E::InconsistentGroupProtocol,
                E::InvalidGroupId,
                E::UnknownMemberId,
                E::InvalidSessionTimeout,
                E::RebalanceInProgress,
                E::MemberIdRequired,
                E::GroupMaxSizeReached,
                E::FencedInstanceId,
                E::InvalidRequest,
            ],
        ),
        (
            "SyncGroup",
            &[
                E::None,
                E::CoordinatorNotAvailable,
                E::NotCoordinator,
                E::UnknownMemberId,
                E::IllegalGeneration,
                E::InconsistentGroupProtocol,
                E::InvalidGroupId,
                E::RebalanceInProgress,
                E::FencedInstanceId,
                E::UnknownServerError,
            ],
        ),
        (
            "Heartbeat",
            &[
                E::None,
                E::NotCoordinator,
                E::UnknownMemberId,
                E::IllegalGeneration,
                E::InvalidGroupId,
                E::RebalanceInProgress,
                E::FencedInstanceId,
            ],
        ),
        (
            "LeaveGroup",
            &[
                E::None,
                E::CoordinatorLoadInProgress,
                E::NotCoordinator,
                E::UnknownMemberId,
                E::InvalidGroupId,
                E::FencedInstanceId,
            ],
        ),
        (
            "OffsetCommit",
            &[
                E::None,
                E::CoordinatorLoadInProgress,
                E::CoordinatorNotAvailable,
                E::NotCoordinator,
                E::UnknownMemberId,
                E::IllegalGeneration,
                E::GroupIdNotFound,
                E::RebalanceInProgress,
                E::FencedInstanceId,
                E::OffsetMetadataTooLarge,
                E::InvalidCommitOffsetSize,
            ],
        ),
        (
            "OffsetFetch",
            &[
                E::None,
                E::CoordinatorLoadInProgress,
                E::CoordinatorNotAvailable,
                E::NotCoordinator,
                E::UnstableOffsetCommit,
            ],
        ),
        (
            "OffsetDelete",
            &[
                E::None,
                E::CoordinatorLoadInProgress,
                E::NotCoordinator,
                E::GroupIdNotFound,
                E::InvalidGroupId,
                E::GroupSubscribedToTopic,
                E::NonEmptyGroup,
            ],
        ),
        (
            "DeleteGroups",
            &[
                E::None,
                E::CoordinatorLoadInProgress,
                E::NotCoordinator,
                E::GroupIdNotFound,
                E::NonEmptyGroup,
            ],
        ),
        (
            "DescribeGroups",
            &[E::None, E::CoordinatorLoadInProgress, E::NotCoordinator, E::GroupIdNotFound],
        ),
        ("ListGroups", &[E::None, E::CoordinatorLoadInProgress, E::NotCoordinator]),
    ]
};

/// Every error code in a reply, with the name of its API.
pub(crate) fn each_code(reply: &Reply, mut see: impl FnMut(&'static str, ErrorCode)) {
    match reply {
        Reply::Join(join) => see("JoinGroup", join.error),
        Reply::Sync(sync) => see("SyncGroup", sync.error),
        Reply::Heartbeat(code) => see("Heartbeat", *code),
        Reply::Leave(leave) if leave.members.is_empty() => see("LeaveGroup", leave.error),
        Reply::Leave(leave) => {
            leave.members.iter().for_each(|member| see("LeaveGroup", member.error));
        }
        Reply::CommitOffsets(commit) => {
            for (_, code) in commit.topics.iter().flat_map(|topic| &topic.partitions) {
                see("OffsetCommit", *code);
            }
        }
        Reply::FetchOffsets(fetch) if fetch.error != ErrorCode::None => {
            see("OffsetFetch", fetch.error);
        }
        Reply::FetchOffsets(fetch) => {
            for row in fetch.topics.iter().flat_map(|topic| &topic.partitions) {
                see("OffsetFetch", row.error);
            }
        }
        Reply::DeleteOffsets(delete) if delete.error != ErrorCode::None => {
            see("OffsetDelete", delete.error);
        }
        Reply::DeleteOffsets(delete) => {
            for (_, code) in delete.topics.iter().flat_map(|(_, partitions)| partitions) {
                see("OffsetDelete", *code);
            }
        }
        Reply::DeleteGroups(groups) => {
            groups.iter().for_each(|(_, code)| see("DeleteGroups", *code));
        }
        Reply::DescribeGroups(groups) => {
            groups.iter().for_each(|group| see("DescribeGroups", group.error));
        }
        Reply::ListGroups(list) => see("ListGroups", list.error),
    }
}

/// How often each fault kind and each transition has to be seen in a campaign.
const AT_LEAST: u64 = 100;

impl Coverage {
    pub(crate) fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault.name()).or_default() += 1;
    }

    pub(crate) fn transition(&mut self, from: Option<GroupState>, to: GroupState) {
        let from = from.map_or("-", GroupState::name);
        *self.transitions.entry((from, to.name())).or_default() += 1;
    }

    pub(crate) fn check(&mut self, what: &'static str) {
        *self.checks.entry(what).or_default() += 1;
    }

    pub(crate) fn reply(&mut self, reply: &Reply) {
        each_code(reply, |api, code| self.code(api, code));
    }

    fn code(&mut self, api: &'static str, code: ErrorCode) {
        *self.codes.entry((api, code.name())).or_default() += 1;
    }

    /// Adds what another world has seen.
    pub fn add(&mut self, other: &Coverage) {
        for (name, count) in &other.faults {
            *self.faults.entry(name).or_default() += count;
        }
        for (name, count) in &other.transitions {
            *self.transitions.entry(*name).or_default() += count;
        }
        for (name, count) in &other.codes {
            *self.codes.entry(*name).or_default() += count;
        }
        for (name, count) in &other.checks {
            *self.checks.entry(name).or_default() += count;
        }
        self.events += other.events;
        self.simulated_ms += other.simulated_ms;
    }

    /// How many faults landed.
    pub fn faults_landed(&self) -> u64 {
        self.faults.values().sum()
    }

    /// Hours of the world's time.
    pub fn hours(&self) -> f64 {
        self.simulated_ms as f64 / 3_600_000.0
    }

    /// What a campaign should have seen and has not.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for fault in Fault::ALL {
            let count = self.faults.get(fault.name()).copied().unwrap_or(0);
            if count < AT_LEAST {
                missing.push(format!("fault {fault}: {count} times"));
            }
        }
        for (from, to) in TRANSITIONS {
            let count = self.transitions.get(&(*from, *to)).copied().unwrap_or(0);
            if count < AT_LEAST {
                missing.push(format!("transition {from} -> {to}: {count} times"));
            }
        }
        for (api, codes) in CODES {
            for code in *codes {
                if !self.codes.contains_key(&(*api, code.name())) {
                    missing.push(format!("{api} never answered {}", code.name()));
                }
            }
        }
        missing
    }

    /// As tables.
    pub fn report(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "faults:");
        for fault in Fault::ALL {
            let count = self.faults.get(fault.name()).copied().unwrap_or(0);
            let _ = writeln!(text, "  {:<22}{count:>10}", fault.name());
        }
        let _ = writeln!(text, "transitions:");
        for ((from, to), count) in &self.transitions {
            let _ = writeln!(text, "  {:<42}{count:>10}", format!("{from} -> {to}"));
        }
        let _ = writeln!(text, "codes:");
        for ((api, code), count) in &self.codes {
            let _ = writeln!(text, "  {:<42}{count:>10}", format!("{api} {code}"));
        }
        let _ = writeln!(text, "checks that depend on luck:");
        for (what, count) in &self.checks {
            let _ = writeln!(text, "  {what:<42}{count:>10}");
        }
        text
    }
}
