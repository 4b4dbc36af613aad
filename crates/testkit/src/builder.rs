//! What a test says of its broker before it starts.

use kavka_broker::config::{BrokerConfig, LoadOptions};
use kavka_meta::ConfigMap;

use crate::{Error, Storage, TestBroker, port::Port};

/// Properties that are the test kit's, and why.
const RESERVED: &[(&str, &str)] = &[
    ("listeners", "a test broker listens on a free port of 127.0.0.1, see TestBroker::addr"),
    ("advertised.listeners", "clients connect to where the broker listens"),
    ("log.dirs", "a test broker has a directory of its own, see Builder::storage"),
    ("log.dir", "a test broker has a directory of its own, see Builder::storage"),
    ("kavka.worker.threads", "use Builder::worker_threads"),
];

/// What makes a broker a test's: no waiting where production waits for others to come, little where it has much.
const DEFAULTS: &[(&str, &str)] = &[
    ("group.initial.rebalance.delay.ms", "0"),
    ("auto.create.topics.enable", "false"),
    ("offsets.topic.num.partitions", "3"),
    // Tests play with members that come and go quickly.
    ("group.min.session.timeout.ms", "1"),
    // A small disk is enough for a test, and nothing has to be kept back from it.
    ("kavka.disk.floor.bytes", "0"),
    ("kavka.disk.reserve.bytes", "0"),
];

/// A topic to be made.
pub(crate) type NewTopic = (String, i32, ConfigMap);

/// Says what the broker is to be like; see [`TestBroker::builder`].
///
/// # Defaults
/// Those of the production broker, but for these:
///
/// | Property | Here | Why |
/// |---|---|---|
/// | `group.initial.rebalance.delay.ms` | 0 | the first member of a group need not wait for others |
/// | `auto.create.topics.enable` | false | a misspelt topic is an error and not an empty topic |
/// | `offsets.topic.num.partitions` | 3 | enough for groups to have different coordinator shards; 50 take longer to make |
/// | `group.min.session.timeout.ms` | 1 | tests of members that vanish need not take six seconds |
/// | `kavka.disk.floor.bytes`, `kavka.disk.reserve.bytes` | 0 | a small disk is enough for a test |
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is started"]
pub struct Builder {
    pub(crate) storage: Storage,
    pub(crate) topics: Vec<NewTopic>,
    pub(crate) worker_threads: usize,
    properties: Vec<(String, String)>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            storage: Storage::default(),
            topics: Vec::new(),
            worker_threads: 1,
            properties: Vec::new(),
        }
    }
}

impl Builder {
    /// Where the broker keeps what it is told; [`Storage::Memory`] unless said otherwise.
    pub fn storage(mut self, storage: Storage) -> Self {
        self.storage = storage;
        self
    }

    /// A topic that is there when the broker starts.
    pub fn topic(self, name: impl Into<String>, partitions: i32) -> Self {
        self.topic_with(name, partitions, &[])
    }

    /// As [`topic`](Self::topic), with configs by their Kafka names: `("cleanup.policy", "compact")`.
    pub fn topic_with(
        mut self,
        name: impl Into<String>,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Self {
        self.topics.push((name.into(), partitions, config_map(configs)));
        self
    }

    /// Sets a property of the broker by its Kafka name, such as `group.max.size`, or by Kavka's own. A later one goes before an
    /// earlier one of the same name.
    pub fn property(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.properties.push((name.into(), value.to_string()));
        self
    }

    /// Whether topics are made when a client first asks for them, as in production. Off unless said otherwise.
    pub fn auto_create_topics(self, enable: bool) -> Self {
        self.property("auto.create.topics.enable", enable)
    }

    /// How many threads serve requests; 1 unless said otherwise, at least 1. The test's own threads are not used.
    pub fn worker_threads(mut self, threads: usize) -> Self {
        self.worker_threads = threads.max(1);
        self
    }

    /// Starts the broker. It serves, with its topics, when this returns.
    ///
    /// # Panics
    /// If it cannot be started, with the reason. See [`try_start`](Self::try_start).
    pub async fn start(self) -> TestBroker {
        match self.try_start().await {
            Ok(broker) => broker,
            Err(error) => panic!("the test broker does not start: {error}"),
        }
    }

    /// Starts the broker. It serves, with its topics, when this returns.
    ///
    /// Cancel safe: a broker that was being started when this is dropped is gone.
    ///
    /// # Errors
    /// A property or topic that is refused; or no port, thread or directory could be had.
    pub async fn try_start(self) -> Result<TestBroker, Error> {
        TestBroker::launch(self).await
    }

    /// The configuration for a broker on this port and in this directory.
    pub(crate) fn config(&self, port: &Port, dir: &std::path::Path) -> Result<BrokerConfig, Error> {
        for (name, _) in &self.properties {
            if let Some((name, reason)) = RESERVED.iter().find(|(reserved, _)| reserved == name) {
                return Err(Error::Reserved { name: (*name).to_owned(), reason });
            }
        }
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut properties: Vec<_> = DEFAULTS.iter().map(own).collect();
        properties.extend(self.properties.iter().cloned());
        properties.push(("listeners".to_owned(), format!("PLAINTEXT://{}", port.address())));
        properties.push(("log.dirs".to_owned(), dir.display().to_string()));
        let options =
            LoadOptions { file: None, properties, env: std::iter::empty(), reserved_env: &[] };
        Ok(BrokerConfig::load(options)?)
    }
}

pub(crate) fn config_map(configs: &[(&str, &str)]) -> ConfigMap {
    configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
