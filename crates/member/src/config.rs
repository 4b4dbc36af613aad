//! The settings of a member, under the names Kafka's consumer has for them.

use std::time::Duration;

use kavka_protocol::ByteString;

/// Settings of a member. [`MemberConfig::new`] gives Kafka's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberConfig {
    /// `group.id`; `None` for a consumer without a group, which assigns itself and commits nothing.
    pub group_id: Option<ByteString>,
    /// `group.instance.id`: the name of a static member (KIP-345).
    pub group_instance_id: Option<ByteString>,
    /// `client.rack`, for assignors that look at it (KIP-881).
    pub client_rack: Option<ByteString>,
    /// `partition.assignment.strategy`, in the order they are preferred.
    pub assignors: Vec<Assignor>,
    /// `session.timeout.ms`: how long the coordinator waits for a heartbeat.
    pub session_timeout: Duration,
    /// `heartbeat.interval.ms`; shorter than the session timeout.
    pub heartbeat_interval: Duration,
    /// `max.poll.interval.ms`: how long the application may go without [`Input::Poll`](crate::Input::Poll); also the rebalance
    /// timeout.
    pub max_poll_interval: Duration,
    /// How long the application has to finish what it holds of partitions that are revoked. `None`: three quarters of the time
    /// the coordinator waits for this member.
    pub drain_timeout: Option<Duration>,
    /// `enable.auto.commit` and `auto.commit.interval.ms`; `None` for no automatic commits.
    pub auto_commit_interval: Option<Duration>,
    /// `auto.offset.reset`: where to start in a partition without a committed offset.
    pub offset_reset: OffsetReset,
    /// `isolation.level`: what "latest" means.
    pub isolation_level: IsolationLevel,
    /// `request.timeout.ms`. JoinGroup may take longer: the rebalance timeout and 5 seconds.
    pub request_timeout: Duration,
    /// `retry.backoff.ms`.
    pub retry_backoff: Duration,
    /// `retry.backoff.max.ms`.
    pub retry_backoff_max: Duration,
}

/// An assignor that the application has; the assigning itself is the shell's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignor {
    /// Its name in the protocol: "range", "cooperative-sticky".
    pub name: ByteString,
    /// Whether it supports incremental rebalances (KIP-429). All assignors support eager ones.
    pub is_cooperative: bool,
    /// What it wants in each member's subscription.
    pub user_data: UserData,
}

/// What an assignor wants to see in the user data of a subscription. An assignor of the application's own has [`UserData::None`] here:
/// the shell asks it, and puts in what it says, when it sends the JoinGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserData {
    /// Nothing: range, round robin.
    None,
    /// The generation of the last assignment: cooperative sticky.
    Generation,
    /// The last assignment and its generation: sticky.
    Assignment,
}

/// How much is taken away in a rebalance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RebalanceProtocol {
    /// Every partition, before the member joins again.
    Eager,
    /// What moves, after the new assignment is known; then the member joins once more (KIP-429).
    Cooperative,
}

/// Where to start in a partition without a committed offset, or with one that is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetReset {
    /// At the first record.
    Earliest,
    /// After the last record.
    Latest,
    /// Nowhere: the application is told, and has to seek.
    None,
    /// At the first record of the last so much time (KIP-1106), or after the last record if there is none.
    ByDuration(Duration),
}

/// Which records a consumer sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IsolationLevel {
    /// All.
    #[default]
    ReadUncommitted,
    /// Those of transactions only after they are committed.
    ReadCommitted,
}

/// Settings that no member can work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Kafka refuses it too.
    #[error("group.id is empty: leave it out, or name a group")]
    EmptyGroupId,
    /// Kafka refuses it too.
    #[error("group.instance.id is empty: leave it out, or name the instance")]
    EmptyInstanceId,
    /// It does not fit the protocol's field.
    #[error("client.rack has {0} bytes: at most 32767 fit into a subscription")]
    RackTooLong(usize),
    /// Nobody could take part in a rebalance.
    #[error("partition.assignment.strategy is empty: name at least one assignor")]
    NoAssignor,
    /// The coordinator could not tell them apart.
    #[error("the assignor {0} is named twice in partition.assignment.strategy")]
    DuplicateAssignor(ByteString),
    /// The session would expire between two heartbeats.
    #[error(
        "heartbeat.interval.ms ({heartbeat:?}) has to be shorter than session.timeout.ms ({session:?}), and not 0"
    )]
    HeartbeatInterval {
        /// `heartbeat.interval.ms`.
        heartbeat: Duration,
        /// `session.timeout.ms`.
        session: Duration,
    },
    /// It does not fit the protocol's field, or is zero.
    #[error("{name} is {value:?}: it has to be between 1 ms and 2147483647 ms")]
    OutOfRange {
        /// The setting.
        name: &'static str,
        /// What it is.
        value: Duration,
    },
}

/// The longest string of a message before compact forms.
const MAX_STRING: usize = i16::MAX as usize;

impl Assignor {
    /// `range`.
    pub fn range() -> Self {
        Self::eager("range", UserData::None)
    }

    /// `roundrobin`.
    pub fn round_robin() -> Self {
        Self::eager("roundrobin", UserData::None)
    }

    /// `sticky`.
    pub fn sticky() -> Self {
        Self::eager("sticky", UserData::Assignment)
    }

    /// `cooperative-sticky`.
    pub fn cooperative_sticky() -> Self {
        Self {
            name: "cooperative-sticky".into(),
            is_cooperative: true,
            user_data: UserData::Generation,
        }
    }

    fn eager(name: &'static str, user_data: UserData) -> Self {
        Self { name: ByteString::from_static(name), is_cooperative: false, user_data }
    }
}

impl MemberConfig {
    /// The defaults of Kafka 4.x for a member of this group.
    pub fn new(group_id: impl Into<ByteString>) -> Self {
        Self {
            group_id: Some(group_id.into()),
            group_instance_id: None,
            client_rack: None,
            assignors: vec![Assignor::range(), Assignor::cooperative_sticky()],
            session_timeout: Duration::from_millis(45_000),
            heartbeat_interval: Duration::from_millis(3_000),
            max_poll_interval: Duration::from_millis(300_000),
            drain_timeout: None,
            auto_commit_interval: Some(Duration::from_millis(5_000)),
            offset_reset: OffsetReset::Latest,
            isolation_level: IsolationLevel::ReadUncommitted,
            request_timeout: Duration::from_millis(30_000),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_millis(1_000),
        }
    }

    /// The highest protocol that all assignors support: one that is eager only makes the whole member eager.
    pub fn rebalance_protocol(&self) -> RebalanceProtocol {
        if self.assignors.iter().all(|assignor| assignor.is_cooperative) {
            RebalanceProtocol::Cooperative
        } else {
            RebalanceProtocol::Eager
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.group_id.as_ref().is_some_and(|id| id.is_empty()) {
            return Err(ConfigError::EmptyGroupId);
        }
        if self.group_instance_id.as_ref().is_some_and(|id| id.is_empty()) {
            return Err(ConfigError::EmptyInstanceId);
        }
        if let Some(rack) = self.client_rack.as_ref().filter(|rack| rack.len() > MAX_STRING) {
            return Err(ConfigError::RackTooLong(rack.len()));
        }
        if self.assignors.is_empty() {
            return Err(ConfigError::NoAssignor);
        }
        for (index, assignor) in self.assignors.iter().enumerate() {
            if self.assignors[..index].iter().any(|other| other.name == assignor.name) {
                return Err(ConfigError::DuplicateAssignor(assignor.name.clone()));
            }
        }
        let (heartbeat, session) = (self.heartbeat_interval, self.session_timeout);
        if heartbeat.is_zero() || heartbeat >= session {
            return Err(ConfigError::HeartbeatInterval { heartbeat, session });
        }
        for (name, value) in [
            ("session.timeout.ms", session),
            ("max.poll.interval.ms", self.max_poll_interval),
            ("request.timeout.ms", self.request_timeout),
        ] {
            if !(1..=i32::MAX.cast_unsigned().into()).contains(&value.as_millis()) {
                return Err(ConfigError::OutOfRange { name, value });
            }
        }
        Ok(())
    }

    /// How long a rebalance may wait for this member's preparation, counted from when it is heard of. A heartbeat interval may
    /// have passed since the rebalance began.
    pub(crate) fn preparation_timeout(&self) -> Duration {
        let timeout = self.max_poll_interval;
        timeout.saturating_sub(self.heartbeat_interval).max(timeout / 2)
    }

    pub(crate) fn drain_timeout(&self) -> Duration {
        let all = self.preparation_timeout();
        self.drain_timeout.map_or(all * 3 / 4, |timeout| timeout.min(all))
    }

    /// How long JoinGroup may take: it waits for the slowest member.
    pub(crate) fn join_timeout(&self) -> Duration {
        self.request_timeout.max(self.max_poll_interval + Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_kafka_and_run_the_eager_protocol() {
        let config = MemberConfig::new("g");
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.rebalance_protocol(), RebalanceProtocol::Eager);
        let config = MemberConfig { assignors: vec![Assignor::cooperative_sticky()], ..config };
        assert_eq!(config.rebalance_protocol(), RebalanceProtocol::Cooperative);
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let good = MemberConfig::new("g");
        for bad in [
            MemberConfig { group_id: Some("".into()), ..good.clone() },
            MemberConfig { group_instance_id: Some("".into()), ..good.clone() },
            MemberConfig { client_rack: Some("r".repeat(40_000).into()), ..good.clone() },
            MemberConfig { assignors: Vec::new(), ..good.clone() },
            MemberConfig { assignors: vec![Assignor::range(), Assignor::range()], ..good.clone() },
            MemberConfig { heartbeat_interval: good.session_timeout, ..good.clone() },
            MemberConfig { heartbeat_interval: Duration::ZERO, ..good.clone() },
            MemberConfig { max_poll_interval: Duration::MAX, ..good.clone() },
            MemberConfig { request_timeout: Duration::ZERO, ..good.clone() },
        ] {
            let error = bad.check().expect_err("refused");
            assert!(!error.to_string().is_empty());
        }
    }
}
