//! Settings for a producer, typed or by Kafka's names.

use std::{sync::Arc, time::Duration};

use kavka_protocol::records::Compression;

use super::{
    Handle, Producer,
    core::Core,
    partitioner::Partitioner,
    settings::{Acks, Draft, NAMES},
};
use crate::{
    Error,
    cluster::Cluster,
    environment::{Environment, Machine},
    settings::{Outcome, TokenProvider, TokenSource, common_names, unknown_property},
};

/// Settings for a [`Producer`]. Whatever has no method here is a [`property`](ProducerBuilder::property).
#[derive(Clone, Debug)]
#[must_use]
pub struct ProducerBuilder {
    draft: Draft,
    error: Option<Error>,
}

impl ProducerBuilder {
    pub(super) fn new() -> Self {
        Self { draft: Draft::new(), error: None }
    }

    /// `bootstrap.servers`: `host:port`, several with commas between. Required.
    pub fn bootstrap_servers(self, servers: &str) -> Self {
        self.property("bootstrap.servers", servers)
    }

    /// `client.id`: shows up in the broker's logs, metrics and quotas.
    pub fn client_id(self, id: &str) -> Self {
        self.property("client.id", id)
    }

    /// `acks`, [`Acks::All`].
    pub fn acks(mut self, acks: Acks) -> Self {
        self.draft.acks = Some(acks);
        self
    }

    /// `enable.idempotence`, on: each record is written once and in order, also over retries. Needs [`Acks::All`], retries, and at most 5
    /// requests in flight.
    pub fn idempotence(mut self, enable: bool) -> Self {
        self.draft.idempotence = Some(enable);
        self
    }

    /// `retries`, 2^31 - 1: how often a batch is sent again; `delivery.timeout.ms` bounds it anyway.
    pub fn retries(mut self, retries: u32) -> Self {
        self.draft.retries = Some(retries);
        self
    }

    /// `max.in.flight.requests.per.connection`, 5.
    pub fn max_in_flight(self, requests: usize) -> Self {
        self.property("max.in.flight.requests.per.connection", &requests.to_string())
    }

    /// `linger.ms`, 5 ms: how long a batch that is not full waits for more records.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.draft.linger = Some(linger);
        self
    }

    /// `batch.size`, 16 KiB: how large batches get, in bytes before compression. A larger record has a batch of its own. So much memory is taken
    /// for every partition that is sent to.
    pub fn batch_size(self, bytes: usize) -> Self {
        self.property("batch.size", &bytes.to_string())
    }

    /// `buffer.memory`, 32 MiB: all batches that are not delivered yet, in bytes before compression.
    pub fn buffer_memory(self, bytes: usize) -> Self {
        self.property("buffer.memory", &bytes.to_string())
    }

    /// `max.request.size`, 1 MiB: all batches of one request, before compression; no record may be larger.
    pub fn max_request_size(self, bytes: usize) -> Self {
        self.property("max.request.size", &bytes.to_string())
    }

    /// `max.block.ms`, 60 s: how long [`Producer::send`] may wait.
    pub fn max_block(mut self, time: Duration) -> Self {
        self.draft.max_block = Some(time);
        self
    }

    /// `delivery.timeout.ms`, 120 s: how long a record may take from being taken to its outcome. At least `linger.ms` and `request.timeout.ms`
    /// together.
    pub fn delivery_timeout(self, time: Duration) -> Self {
        self.property("delivery.timeout.ms", &time.as_millis().to_string())
    }

    /// `request.timeout.ms`, 30 s: how long one request may take.
    pub fn request_timeout(self, time: Duration) -> Self {
        self.property("request.timeout.ms", &time.as_millis().to_string())
    }

    /// `compression.type`, none, with its default level; other levels by `compression.gzip.level`, `compression.lz4.level` and
    /// `compression.zstd.level`.
    pub fn compression(mut self, codec: Compression) -> Self {
        self.draft.compression = codec;
        self
    }

    /// Chooses partitions for records that have none, in place of the built-in rules.
    pub fn partitioner(mut self, partitioner: impl Partitioner + 'static) -> Self {
        self.draft.partitioner = Some(Arc::new(partitioner));
        self
    }

    /// Whether a producer takes a property of this name: a file may have those of other clients too.
    pub fn knows(name: &str) -> bool {
        common_names().chain(NAMES.iter().copied()).any(|known| known == name)
    }

    /// Where tokens for OAUTHBEARER come from.
    pub fn token_provider(mut self, provider: Arc<dyn TokenProvider>) -> Self {
        self.draft.common.security.sasl.tokens = TokenSource::Provider(provider);
        self
    }

    /// What the producer takes from the machine it runs on: the operating system unless set.
    pub fn environment(mut self, environment: Arc<dyn Environment>) -> Self {
        self.draft.common.machine = Machine::new(environment);
        self
    }

    /// A property by Kafka's name. A wrong one makes [`ProducerBuilder::build`] fail.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        let error = match self.draft.set(name, value) {
            Ok(Outcome::Taken) => return self,
            Ok(Outcome::NoEffect(why)) => {
                tracing::info!(property = name, why, "the property has no effect");
                return self;
            }
            Ok(Outcome::Unknown) => {
                unknown_property(name, common_names().chain(NAMES.iter().copied()))
            }
            Err(error) => error,
        };
        self.error.get_or_insert(error);
        self
    }

    /// The producer. Does no I/O; has to be called inside a tokio runtime, which also runs the producer's tasks.
    ///
    /// # Errors
    /// The first property that cannot be; settings that contradict each other; `bootstrap.servers` is missing;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for `transactional.id`.
    pub fn build(self) -> Result<Producer, Error> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let settings = self.draft.finish()?;
        let cluster = Cluster::new(settings.common.clone())?;
        Ok(Producer { handle: Arc::new(Handle { core: Core::start(cluster, settings)? }) })
    }
}
