//! What there is in a small world, and how much may happen in it.

use std::time::Duration;

use kavka_coordinator::group::GroupConfig;
use kavka_member::{Assignor, MemberConfig, OffsetReset};
use kavka_protocol::ByteString;

use super::client::instance_name;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Rules {
    /// Members of the group.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=4))]
    pub members: u8,
    /// Topics that all of them read.
    #[arg(long, default_value_t = 2)]
    pub topics: u8,
    /// Partitions of each topic.
    #[arg(long, default_value_t = 2)]
    pub partitions: u8,
    /// Perturbations: a connection breaks or stalls, a request comes twice, a member crashes, leaves, commits, or hangs, a topic grows.
    #[arg(long, default_value_t = 2)]
    pub perturbations: u8,
    /// Restarts of the coordinator.
    #[arg(long, default_value_t = 1)]
    pub restarts: u8,
    /// Cooperative rebalances in place of eager ones.
    #[arg(long)]
    pub cooperative: bool,
    /// Static members in place of dynamic ones. No topic grows then.
    #[arg(long = "static")]
    pub is_static: bool,
    /// Members commit by themselves before they give something up.
    #[arg(long)]
    pub auto_commit: bool,
    /// Begin when the group is stable, and not before its first member joins.
    #[arg(long)]
    pub settled: bool,
}

/// The group.
pub(super) const GROUP: ByteString = ByteString::from_static("group");

const SESSION: Duration = Duration::from_secs(9);
const HEARTBEAT: Duration = Duration::from_secs(3);
const REBALANCE: Duration = Duration::from_secs(12);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(6);
/// How long a close may take.
pub(super) const CLOSE: Duration = Duration::from_secs(6);
/// How long a commit is tried.
pub(super) const COMMIT: Duration = Duration::from_secs(6);
/// By then everything has come to rest that is left alone.
pub(super) const SETTLES_WITHIN: Duration = Duration::from_secs(90);

impl Default for Rules {
    /// Three members, two topics of two partitions, two perturbations, one restart: dynamic members, eager rebalances.
    fn default() -> Self {
        Self {
            members: 3,
            topics: 2,
            partitions: 2,
            perturbations: 2,
            restarts: 1,
            cooperative: false,
            is_static: false,
            auto_commit: false,
            settled: false,
        }
    }
}

impl Rules {
    /// On a command line; what is as by default is left out.
    pub(super) fn arguments(&self) -> String {
        let default = Self::default();
        let numbers = [
            ("--members", self.members, default.members),
            ("--topics", self.topics, default.topics),
            ("--partitions", self.partitions, default.partitions),
            ("--perturbations", self.perturbations, default.perturbations),
            ("--restarts", self.restarts, default.restarts),
        ];
        let numbers = numbers.into_iter().filter(|(_, value, default)| value != default);
        let flags = [
            ("--cooperative", self.cooperative),
            ("--static", self.is_static),
            ("--auto-commit", self.auto_commit),
            ("--settled", self.settled),
        ];
        let flags = flags.into_iter().filter(|(_, is_set)| *is_set);
        numbers
            .map(|(name, value, _)| format!(" {name} {value}"))
            .chain(flags.map(|(name, _)| format!(" {name}")))
            .collect()
    }

    /// Nothing expires: the wall clock stands still, and what has to be done by it is too far away.
    pub(super) fn group_config(&self) -> GroupConfig {
        GroupConfig {
            min_session_timeout: Duration::from_secs(1),
            initial_rebalance_delay: Duration::from_secs(1),
            new_member_join_timeout: Duration::from_secs(20),
            superseded_member_grace: Duration::from_millis(500),
            offsets_retention_check_interval: Duration::from_secs(1_000_000_000),
            ..GroupConfig::default()
        }
    }

    pub(super) fn member_config(&self, slot: usize) -> MemberConfig {
        MemberConfig {
            group_instance_id: self.is_static.then(|| instance_name(slot)),
            assignors: vec![if self.cooperative {
                Assignor::cooperative_sticky()
            } else {
                Assignor::range()
            }],
            session_timeout: SESSION,
            heartbeat_interval: HEARTBEAT,
            max_poll_interval: REBALANCE,
            // Far away: what matters is that members commit what they give up.
            auto_commit_interval: self.auto_commit.then(|| Duration::from_secs(1_000_000_000)),
            offset_reset: OffsetReset::Earliest,
            request_timeout: REQUEST_TIMEOUT,
            // A millisecond each time, whatever the jitter.
            retry_backoff: Duration::ZERO,
            retry_backoff_max: Duration::ZERO,
            ..MemberConfig::new(GROUP)
        }
    }
}
