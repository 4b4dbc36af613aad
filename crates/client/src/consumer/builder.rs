//! Building a consumer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kavka_assignor::Assignor;
use kavka_member::{IsolationLevel, Member, OffsetReset};
use tokio::sync::mpsc;

use super::{
    Consumer,
    driver::{self, Parts},
    fetcher::Fetcher,
    handle::ConsumerHandle,
    inbox::SharedInbox,
    reader::Reader,
    settings::{ConsumerSettings, NamedAssignor},
};
use crate::{
    Error, ErrorKind,
    cluster::Cluster,
    environment::{Environment, Machine},
    settings::{Outcome, TokenProvider, TokenSource},
};

/// Settings for a [`Consumer`]; Kafka's defaults unless set.
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until build is called"]
pub struct ConsumerBuilder {
    settings: ConsumerSettings,
    error: Option<Error>,
}

/// Numbers the consumers of this process, for their client ids.
static LAST_CONSUMER: AtomicU64 = AtomicU64::new(0);

impl ConsumerBuilder {
    /// `bootstrap.servers`: `host:port`, several with commas between. Required.
    pub fn bootstrap_servers(self, servers: &str) -> Self {
        self.property("bootstrap.servers", servers)
    }

    /// `group.id`: the group whose members share the partitions, and under which offsets are committed. Without one there is only
    /// [`assign`](ConsumerHandle::assign), and no commit.
    pub fn group_id(self, group: &str) -> Self {
        self.property("group.id", group)
    }

    /// `group.instance.id`: the name of a static member (KIP-345). It keeps its partitions while it restarts within
    /// `session.timeout.ms`; no two processes may have the same.
    pub fn group_instance_id(self, instance: &str) -> Self {
        self.property("group.instance.id", instance)
    }

    /// `client.id`, for the broker's logs, metrics and quotas. `consumer-<group>-<instance or number>` unless set.
    pub fn client_id(self, id: &str) -> Self {
        self.property("client.id", id)
    }

    /// `client.rack`: where this process runs. It fetches from replicas of the same rack (KIP-392).
    pub fn client_rack(self, rack: &str) -> Self {
        self.property("client.rack", rack)
    }

    /// `auto.offset.reset`: where to begin where nothing is committed; [`OffsetReset::Latest`] unless set.
    pub fn auto_offset_reset(mut self, reset: OffsetReset) -> Self {
        self.settings.offset_reset = reset;
        self
    }

    /// `isolation.level`; [`IsolationLevel::ReadUncommitted`] unless set.
    pub fn isolation_level(mut self, level: IsolationLevel) -> Self {
        self.settings.isolation_level = level;
        self
    }

    /// `enable.auto.commit`: whether what was consumed is committed every `auto.commit.interval.ms`, before partitions are revoked,
    /// and when the consumer is closed. True with a group unless set.
    pub fn enable_auto_commit(mut self, enable: bool) -> Self {
        self.settings.enable_auto_commit = Some(enable);
        self
    }

    /// `auto.commit.interval.ms`: 5 s unless set.
    pub fn auto_commit_interval(mut self, interval: Duration) -> Self {
        self.settings.auto_commit_interval = interval;
        self
    }

    /// `session.timeout.ms`: after so long without a heartbeat the member is taken for dead; 45 s unless set. The broker has limits.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.settings.session_timeout = Some(timeout);
        self
    }

    /// `heartbeat.interval.ms`: 3 s unless set; shorter than the session timeout.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.settings.heartbeat_interval = Some(interval);
        self
    }

    /// `max.poll.interval.ms`: an application that does not ask for records for so long loses its partitions; 5 min unless set. It
    /// is also how long a rebalance waits for this member.
    pub fn max_poll_interval(mut self, interval: Duration) -> Self {
        self.settings.max_poll_interval = interval;
        self
    }

    /// How long the application has to finish what it holds of partitions that are revoked; three quarters of the time the rebalance
    /// waits for this member unless set.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.settings.drain_timeout = Some(timeout);
        self
    }

    /// `partition.assignment.strategy`, by the names of Kafka's assignors: "range", "roundrobin", "sticky", "cooperative-sticky", in
    /// the order they are preferred; range and cooperative-sticky unless set.
    pub fn assignors(mut self, names: &[&str]) -> Self {
        self.settings.assignors = Some(Vec::new());
        for name in names {
            match kavka_assignor::by_name(name) {
                Some(_) => {
                    let mut one = ConsumerSettings::default();
                    let taken = one.set("partition.assignment.strategy", name);
                    self.note(taken.err());
                    self.settings
                        .assignors
                        .get_or_insert_default()
                        .extend(one.assignors.unwrap_or_default());
                }
                None => {
                    let message = format!(
                        "there is no assignor {name}; for one's own there is ConsumerBuilder::assignor"
                    );
                    self.note(Some(Error::new(ErrorKind::Config, message)));
                }
            }
        }
        self
    }

    /// An assignor of the application's own, after those that are set. All members of a group have to have one in common. It is called
    /// by the task that also heartbeats: no call may block.
    pub fn assignor(mut self, assignor: Arc<dyn Assignor>) -> Self {
        self.settings.assignors.get_or_insert_default().push(NamedAssignor::Own(assignor));
        self
    }

    /// Whether a consumer takes a property of this name: a file may have those of other clients too.
    pub fn knows(name: &str) -> bool {
        ConsumerSettings::knows(name)
    }

    /// Where tokens for OAUTHBEARER come from.
    pub fn token_provider(mut self, provider: Arc<dyn TokenProvider>) -> Self {
        self.settings.common.security.sasl.tokens = TokenSource::Provider(provider);
        self
    }

    /// What the consumer takes from the machine it runs on: the operating system unless set.
    pub fn environment(mut self, environment: Arc<dyn Environment>) -> Self {
        self.settings.common.machine = Machine::new(environment);
        self
    }

    /// A property by Kafka's name. A wrong one makes [`ConsumerBuilder::build`] fail; one that means nothing here is logged.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        let error = match self.settings.set(name, value) {
            Ok(Outcome::Taken) => None,
            Ok(Outcome::NoEffect(why)) => {
                tracing::info!(property = name, why, "the property has no effect");
                None
            }
            Ok(Outcome::Unknown) => Some(ConsumerSettings::unknown(name)),
            Err(error) => Some(error),
        };
        self.note(error);
        self
    }

    /// As [`ConsumerBuilder::property`], for several.
    pub fn properties<N: AsRef<str>, V: AsRef<str>>(
        self,
        properties: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        properties
            .into_iter()
            .fold(self, |builder, (name, value)| builder.property(name.as_ref(), value.as_ref()))
    }

    fn note(&mut self, error: Option<Error>) {
        if self.error.is_none() {
            self.error = error;
        }
    }

    /// The consumer. Does no I/O; has to be called inside a tokio runtime.
    ///
    /// # Errors
    /// The first property that cannot be, settings that do not go together, or `bootstrap.servers` is missing;
    /// [`ErrorKind::Unsupported`] for `group.protocol=consumer`.
    pub fn build(self) -> Result<Consumer, Error> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut settings = self.settings;
        settings.check()?;
        settings.common.client_id = settings.client_id.clone().unwrap_or_else(|| {
            let number = LAST_CONSUMER.fetch_add(1, Ordering::Relaxed) + 1;
            let group = settings.group_id.as_deref().unwrap_or("none");
            let name = settings.group_instance_id.as_deref();
            let name = name.map_or_else(|| number.to_string(), str::to_owned);
            format!("consumer-{group}-{name}").into()
        });
        let assignors = settings.assignors();
        let config = settings.member_config(&assignors);
        let seed = settings.common.machine.random();
        let member = Member::new(config, seed)
            .map_err(|error| Error::new(ErrorKind::Config, error.to_string()))?;
        let max_decompressed_bytes = settings.common.receive_message_max_bytes;
        let cluster = Cluster::new(settings.common)?;
        let shared = SharedInbox::default();
        let (commands, receiver) = mpsc::unbounded_channel();
        let handle = ConsumerHandle::new(
            commands,
            Arc::clone(&shared),
            cluster.clone(),
            settings.group_id,
            settings.isolation_level,
        );
        let fetcher = Fetcher::new(cluster.clone(), settings.fetch, settings.isolation_level);
        let parts = Parts {
            member,
            cluster,
            shared: Arc::clone(&shared),
            fetcher,
            handle: handle.clone(),
            assignors,
            excludes_internal_topics: settings.exclude_internal_topics,
            max_poll_interval: settings.max_poll_interval,
        };
        driver::spawn(parts, receiver);
        let reader = Reader::new(shared, max_decompressed_bytes);
        Ok(Consumer { handle, reader, max_decompressed_bytes })
    }
}
