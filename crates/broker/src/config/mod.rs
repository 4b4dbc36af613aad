//! The broker's settings: where they come from, what they are, and how they are described.
//!
//! A setting has Kafka's own property name (`group.initial.rebalance.delay.ms`), or, where it is Kavka's own, a name that
//! begins with `kavka.`. It can be made in four places; the first of these that has it wins:
//!
//! 1. `-X NAME=VALUE` on the command line; of two for the same name, the later one.
//! 2. The environment variable `KAVKA_` and the name in upper case with `_` for `.`: `KAVKA_LOG_DIRS`,
//!    `KAVKA_GROUP_MAX_SIZE`; for Kavka's own settings without doubling: `KAVKA_SYNC_POLICY` is `kavka.sync.policy`.
//! 3. A file, TOML or Java properties by its extension. In TOML, dots are nested tables or part of quoted
//!    keys; a list is an array or comma-separated text.
//! 4. The default, see [`BROKER_CONFIGS`].
//!
//! Every setting of Kafka is known: it is honoured, or it gives a warning that it has no effect, or it is refused with the
//! reason. Anything else is an error. `auto.create.topics.enable` is true by default, as in Kafka.
//!
//! [`BrokerConfig::load`] looks at nothing but its arguments and the file. This module does not act on any setting.

mod describe;
mod error;
mod file;
mod listener;
mod load;
mod table;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use kavka_meta::ConfigMap;

pub use describe::validate_dynamic;
pub use error::{ConfigError, Origin};
pub use file::{Line, SyntaxError, parse_properties, parse_toml};
pub use listener::Listener;
pub use load::{LoadOptions, environment_name};
pub use table::{BROKER_CONFIGS, documentation, find_setting, is_dynamic};

/// All settings of a broker, checked. Field by field the setting named in its documentation.
#[derive(Debug, Clone, PartialEq)]
pub struct BrokerConfig {
    /// `node.id`, or `broker.id`.
    pub node_id: i32,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// `kavka.worker.threads`; `None`: one for each processor.
    pub worker_threads: Option<usize>,
    /// Connections and requests.
    pub network: NetworkConfig,
    /// How topics are made and removed. How they are kept: see [`BrokerConfig::fixed`].
    pub topics: TopicsConfig,
    /// Fetch and listings.
    pub fetch: FetchConfig,
    /// The data directory and background work on logs.
    pub log: LogConfig,
    /// Classic groups.
    pub group: GroupConfig,
    /// Committed offsets.
    pub offsets: OffsetsConfig,
    /// Every setting that was made, as text. Topic configs ([`kavka_meta::config::topic::TopicConfig`]) and group configs
    /// ([`kavka_meta::config::group::ConsumerGroupConfig`]) resolve their defaults from here, as
    /// [`kavka_meta::config::BrokerValues::fixed`].
    pub fixed: ConfigMap,
    /// Sentences for the log at start: settings without effect, and listeners that are open to everybody.
    pub warnings: Vec<String>,
}

/// Connections, requests and what bounds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// `listeners` with `advertised.listeners`; at least one.
    pub listeners: Vec<Listener>,
    /// `socket.request.max.bytes`: the largest request.
    pub max_request_bytes: usize,
    /// `kavka.budget.bytes`: all requests and responses together; at least `max_request_bytes`.
    pub budget_bytes: usize,
    /// `kavka.connection.max.in.flight`: requests of one connection worked on at the same time.
    pub max_in_flight: usize,
    /// `socket.send.buffer.bytes`; `None` leaves it to the system.
    pub send_buffer_bytes: Option<usize>,
    /// `socket.receive.buffer.bytes`; `None` leaves it to the system.
    pub receive_buffer_bytes: Option<usize>,
    /// `socket.listen.backlog.size`.
    pub backlog: u32,
    /// `max.connections`.
    pub max_connections: usize,
    /// `max.connections.per.ip`: for each IPv4 address or IPv6 /64 network.
    pub max_connections_per_ip: usize,
    /// `max.connections.per.ip.overrides`.
    pub max_connections_per_ip_overrides: BTreeMap<IpAddr, usize>,
    /// `max.connection.creation.rate`, per second.
    pub max_connection_rate: u32,
    /// `connections.max.idle.ms`; `None`: never.
    pub idle_timeout: Option<Duration>,
    /// `kavka.connection.first.frame.timeout.ms`.
    pub first_frame_timeout: Duration,
    /// `kavka.connection.frame.min.rate`, in bytes per second; 0: no limit.
    pub frame_min_rate: u32,
    /// `kavka.connection.frame.grace.ms`.
    pub frame_grace: Duration,
    /// `kavka.connection.slow.reader.timeout.ms`.
    pub slow_reader_timeout: Duration,
    /// `kavka.connection.slow.reader.budget.percent` of `budget_bytes`, in bytes.
    pub slow_reader_budget_bytes: usize,
}

/// How topics are made and removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicsConfig {
    /// `auto.create.topics.enable`.
    pub auto_create: bool,
    /// `delete.topic.enable`.
    pub delete_enable: bool,
    /// `num.partitions`.
    pub default_partitions: i32,
    /// `default.replication.factor`.
    pub default_replication_factor: i16,
}

/// Fetch and listings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchConfig {
    /// `fetch.max.bytes`: the largest response.
    pub max_bytes: i32,
    /// `max.incremental.fetch.session.cache.slots`.
    pub session_slots: usize,
    /// `max.request.partition.size.limit`: partitions in one DescribeTopicPartitions response.
    pub describe_partition_limit: i32,
}

/// When acknowledged records are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Before the acknowledgement.
    Always,
    /// At the latest this long afterwards: a crash of the machine can lose them.
    Interval(Duration),
}

/// The data directory and background work on logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `log.dirs`, or `log.dir`.
    pub data_dir: PathBuf,
    /// `kavka.sync.policy` and `kavka.sync.interval.ms`.
    pub sync: SyncPolicy,
    /// `kavka.disk.floor.bytes`.
    pub disk_floor_bytes: u64,
    /// `kavka.disk.reserve.bytes`.
    pub disk_reserve_bytes: u64,
    /// `log.initial.task.delay.ms`.
    pub initial_task_delay: Duration,
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
    /// `log.cleaner.enable`.
    pub cleaner_enable: bool,
    /// `log.cleaner.backoff.ms`.
    pub cleaner_backoff: Duration,
    /// `log.cleaner.dedupe.buffer.size`.
    pub cleaner_dedupe_buffer_bytes: usize,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: i64,
    /// `producer.id.expiration.check.interval.ms`.
    pub producer_id_expiration_check_interval: Duration,
    /// `kavka.producer.ids.max`.
    pub producer_ids_max: usize,
}

/// Classic groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.size`.
    pub max_size: usize,
    /// `kavka.group.member.max.metadata.bytes`.
    pub member_max_metadata_bytes: usize,
    /// `kavka.group.max.metadata.bytes`.
    pub max_metadata_bytes: usize,
}

/// Committed offsets and their topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetsConfig {
    /// `offset.metadata.max.bytes`.
    pub metadata_max_bytes: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
    /// `offsets.commit.timeout.ms`.
    pub commit_timeout: Duration,
    /// `offsets.load.buffer.size`.
    pub load_buffer_bytes: usize,
    /// `offsets.topic.num.partitions`.
    pub topic_partitions: i32,
    /// `offsets.topic.segment.bytes`.
    pub topic_segment_bytes: i32,
}

#[cfg(test)]
mod tests;
