//! The producer's settings: names, defaults, ranges, and the rules between them.

use std::{sync::Arc, time::Duration};

use kavka_protocol::records::{Compression, Compressor};

use super::partitioner::{Partitioner, RoundRobin};
use crate::{
    Error, ErrorKind,
    settings::{CommonSettings, Outcome, bool_value, duration_ms, integer, one_of},
};

/// Which answers a record waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// None: what is lost on the way is not noticed.
    None,
    /// The leader's.
    Leader,
    /// The leader's, once all replicas in sync have it.
    #[default]
    All,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct ProducerSettings {
    pub(super) common: CommonSettings,
    pub(super) acks: Acks,
    pub(super) is_idempotent: bool,
    pub(super) retries: u32,
    pub(super) max_in_flight: usize,
    pub(super) linger: Duration,
    pub(super) batch_size: usize,
    pub(super) buffer_memory: usize,
    pub(super) max_request_size: usize,
    pub(super) max_block: Duration,
    pub(super) delivery_timeout: Duration,
    pub(super) compression: Compression,
    pub(super) compression_level: Option<i32>,
    pub(super) partitioner: Option<Arc<dyn Partitioner>>,
    pub(super) adaptive_partitioning: bool,
    pub(super) availability_timeout: Duration,
    pub(super) ignore_keys: bool,
    pub(super) rack_aware: bool,
    pub(super) metadata_max_idle: Duration,
}

/// What was set, before the rules between settings are applied.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub(super) common: CommonSettings,
    pub(super) acks: Option<Acks>,
    pub(super) idempotence: Option<bool>,
    pub(super) retries: Option<u32>,
    pub(super) max_in_flight: Option<usize>,
    pub(super) linger: Option<Duration>,
    pub(super) batch_size: Option<usize>,
    pub(super) buffer_memory: Option<usize>,
    pub(super) max_request_size: Option<usize>,
    pub(super) max_block: Option<Duration>,
    pub(super) delivery_timeout: Option<Duration>,
    pub(super) compression: Compression,
    pub(super) gzip_level: Option<i32>,
    pub(super) lz4_level: Option<i32>,
    pub(super) zstd_level: Option<i32>,
    pub(super) partitioner: Option<Arc<dyn Partitioner>>,
    pub(super) no_adaptive_partitioning: bool,
    pub(super) availability_timeout: Duration,
    pub(super) ignore_keys: bool,
    pub(super) rack_aware: bool,
    metadata_max_idle: Option<Duration>,
    transactional_id: Option<String>,
}

/// Every name that only the producer takes.
pub(super) const NAMES: &[&str] = &[
    "acks",
    "batch.size",
    "buffer.memory",
    "buffer.memory.allocation.strategy",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "delivery.timeout.ms",
    "enable.idempotence",
    "key.serializer",
    "linger.ms",
    "max.block.ms",
    "max.in.flight.requests.per.connection",
    "max.request.size",
    "metadata.max.idle.ms",
    "partitioner.adaptive.partitioning.enable",
    "partitioner.availability.timeout.ms",
    "partitioner.class",
    "partitioner.ignore.keys",
    "partitioner.rack.aware",
    "retries",
    "transaction.timeout.ms",
    "transaction.two.phase.commit.enable",
    "transactional.id",
    "value.serializer",
];

/// Most requests in flight with which order holds over retries: brokers remember the last five batches of a producer.
const MAX_IN_FLIGHT_IN_ORDER: usize = 5;
const MAX_MS: u64 = i32::MAX as u64;
const MAX_LONG_MS: u64 = i64::MAX as u64;
/// A batch cannot be larger.
const MAX_BYTES: usize = i32::MAX as usize;

impl Draft {
    pub(super) fn new() -> Self {
        let common =
            CommonSettings { receive_buffer_bytes: Some(32_768), ..CommonSettings::default() };
        Self { common, ..Self::default() }
    }

    /// Takes a property.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<Outcome, Error> {
        match name {
            "acks" => {
                let words =
                    [("all", Acks::All), ("-1", Acks::All), ("0", Acks::None), ("1", Acks::Leader)];
                self.acks = Some(one_of(name, value, &words)?);
            }
            "enable.idempotence" => self.idempotence = Some(bool_value(name, value)?),
            "retries" => {
                self.retries = Some(integer(name, value, 0..=i32::MAX)?.unsigned_abs());
            }
            "max.in.flight.requests.per.connection" => {
                self.max_in_flight = Some(integer(name, value, 1..=MAX_BYTES)?);
            }
            "linger.ms" => self.linger = Some(duration_ms(name, value, 0..=MAX_LONG_MS)?),
            "batch.size" => self.batch_size = Some(integer(name, value, 0..=MAX_BYTES)?),
            "buffer.memory" => {
                self.buffer_memory = Some(integer(name, value, 0..=usize::MAX >> 3)?);
            }
            "max.request.size" => {
                self.max_request_size = Some(integer(name, value, 0..=MAX_BYTES)?);
            }
            "max.block.ms" => self.max_block = Some(duration_ms(name, value, 0..=MAX_LONG_MS)?),
            "delivery.timeout.ms" => {
                self.delivery_timeout = Some(duration_ms(name, value, 0..=MAX_MS)?);
            }
            "compression.type" => {
                let words = Compression::ALL.map(|codec| (codec.name(), codec));
                self.compression = one_of(name, value, &words)?;
            }
            "compression.gzip.level" => {
                self.gzip_level = match value.trim() {
                    "-1" => None,
                    _ => Some(integer(name, value, 1..=9)?),
                };
            }
            "compression.lz4.level" => self.lz4_level = Some(integer(name, value, 1..=17)?),
            "compression.zstd.level" => {
                self.zstd_level = Some(integer(name, value, -131_072..=22)?);
            }
            "partitioner.class" => self.partitioner = partitioner_class(name, value)?,
            "partitioner.adaptive.partitioning.enable" => {
                self.no_adaptive_partitioning = !bool_value(name, value)?;
            }
            "partitioner.availability.timeout.ms" => {
                self.availability_timeout = duration_ms(name, value, 0..=MAX_LONG_MS)?;
            }
            "partitioner.ignore.keys" => self.ignore_keys = bool_value(name, value)?,
            "partitioner.rack.aware" => self.rack_aware = bool_value(name, value)?,
            "metadata.max.idle.ms" => {
                self.metadata_max_idle = Some(duration_ms(name, value, 5000..=MAX_LONG_MS)?);
            }
            "transactional.id" => self.transactional_id = Some(value.to_owned()),
            _ => return self.without_effect(name, value),
        }
        Ok(Outcome::Taken)
    }

    /// Properties that are the producer's and change nothing here, and those of all clients.
    fn without_effect(&mut self, name: &str, value: &str) -> Result<Outcome, Error> {
        Ok(Outcome::NoEffect(match name {
            "key.serializer" | "value.serializer" => "keys and values are bytes here",
            "buffer.memory.allocation.strategy" => {
                one_of(name, value, &[("full", ()), ("incremental", ())])?;
                "the memory of a batch is taken when it is begun"
            }
            "transaction.timeout.ms" => {
                duration_ms(name, value, 0..=MAX_MS)?;
                "there are no transactions without transactional.id"
            }
            "transaction.two.phase.commit.enable" => {
                bool_value(name, value)?;
                "there are no transactions without transactional.id"
            }
            _ => return self.common.set(name, value),
        }))
    }

    /// The settings, after the rules between them.
    pub(super) fn finish(self) -> Result<ProducerSettings, Error> {
        let wrong = |message: String| Error::new(ErrorKind::Config, message);
        self.common.check()?;
        if let Some(id) = &self.transactional_id {
            return Err(match id.is_empty() {
                true => wrong("transactional.id is empty: leave it out, or name one".into()),
                false => Error::new(
                    ErrorKind::Unsupported,
                    format!("transactional.id is \"{id}\", but this client does not write transactions yet"),
                )
                .with_advice("Leave transactional.id out; the producer is idempotent without."),
            });
        }
        let acks = self.acks.unwrap_or_default();
        let retries = self.retries.unwrap_or(i32::MAX.unsigned_abs());
        let max_in_flight = self.max_in_flight.unwrap_or(MAX_IN_FLIGHT_IN_ORDER);
        let is_idempotent = match self.idempotence {
            Some(false) => false,
            // Not asked for: what contradicts it turns it off, except more requests in flight, as in Kafka.
            None if acks != Acks::All || retries == 0 => false,
            Some(true) if acks != Acks::All => {
                return Err(wrong("enable.idempotence needs acks=all".into()));
            }
            Some(true) if retries == 0 => {
                return Err(wrong("enable.idempotence needs retries above 0".into()));
            }
            _ if max_in_flight > MAX_IN_FLIGHT_IN_ORDER => {
                return Err(wrong(format!(
                    "max.in.flight.requests.per.connection is {max_in_flight}: at most \
                     {MAX_IN_FLIGHT_IN_ORDER} with idempotence; set enable.idempotence=false to have more"
                )));
            }
            _ => true,
        };
        let linger = self.linger.unwrap_or(Duration::from_millis(5));
        let least = linger.saturating_add(self.common.request_timeout);
        let delivery_timeout = match self.delivery_timeout {
            Some(timeout) if timeout < least => {
                return Err(wrong(format!(
                    "delivery.timeout.ms is {}: it has to be at least linger.ms + request.timeout.ms, which is {}",
                    timeout.as_millis(),
                    least.as_millis()
                )));
            }
            Some(timeout) => timeout,
            None => least.max(Duration::from_secs(120)).min(Duration::from_millis(MAX_MS)),
        };
        let compression_level = match self.compression {
            Compression::Gzip => self.gzip_level,
            Compression::Lz4 => self.lz4_level,
            Compression::Zstd => self.zstd_level,
            Compression::None | Compression::Snappy => None,
        };
        Compressor::new(self.compression, compression_level)
            .map_err(|error| Error::new(ErrorKind::Unsupported, error.to_string()))?;
        Ok(ProducerSettings {
            common: self.common,
            acks,
            is_idempotent,
            retries,
            max_in_flight,
            linger,
            batch_size: self.batch_size.unwrap_or(16_384),
            buffer_memory: self.buffer_memory.unwrap_or(33_554_432),
            max_request_size: self.max_request_size.unwrap_or(1_048_576),
            max_block: self.max_block.unwrap_or(Duration::from_secs(60)),
            delivery_timeout,
            compression: self.compression,
            compression_level,
            partitioner: self.partitioner,
            adaptive_partitioning: !self.no_adaptive_partitioning,
            availability_timeout: self.availability_timeout,
            ignore_keys: self.ignore_keys,
            rack_aware: self.rack_aware,
            metadata_max_idle: self.metadata_max_idle.unwrap_or(Duration::from_secs(300)),
        })
    }
}

fn partitioner_class(name: &str, value: &str) -> Result<Option<Arc<dyn Partitioner>>, Error> {
    match value.trim() {
        "" | "null" => Ok(None),
        "round_robin"
        | "RoundRobinPartitioner"
        | "org.apache.kafka.clients.producer.RoundRobinPartitioner" => {
            Ok(Some(Arc::new(RoundRobin::default())))
        }
        other => Err(Error::new(
            ErrorKind::Config,
            format!(
                "{name} is \"{other}\": expected org.apache.kafka.clients.producer.RoundRobinPartitioner, or nothing"
            ),
        )
        .with_advice("Hand one's own partitioner to ProducerBuilder::partitioner.")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn finish(properties: &[(&str, &str)]) -> Result<ProducerSettings, Error> {
        let mut draft = Draft::new();
        draft.set("bootstrap.servers", "a:1").unwrap();
        for (name, value) in properties {
            draft.set(name, value)?;
        }
        draft.finish()
    }

    #[test]
    fn every_name_is_known() {
        let mut draft = Draft::new();
        for name in NAMES {
            assert!(!matches!(draft.set(name, ""), Ok(Outcome::Unknown)), "{name}");
        }
        assert_eq!(draft.set("group.id", "g").unwrap(), Outcome::Unknown);
    }

    #[test]
    fn defaults_are_those_of_kafka_4() {
        let settings = finish(&[]).unwrap();
        assert_eq!(settings.acks, Acks::All);
        assert!(settings.is_idempotent);
        assert_eq!(settings.retries, 2_147_483_647);
        assert_eq!(settings.max_in_flight, 5);
        assert_eq!(settings.linger, Duration::from_millis(5));
        assert_eq!(settings.batch_size, 16_384);
        assert_eq!(settings.buffer_memory, 33_554_432);
        assert_eq!(settings.max_request_size, 1_048_576);
        assert_eq!(settings.max_block, Duration::from_secs(60));
        assert_eq!(settings.delivery_timeout, Duration::from_secs(120));
        assert_eq!(settings.metadata_max_idle, Duration::from_secs(300));
        assert_eq!(settings.common.request_timeout, Duration::from_secs(30));
        assert_eq!(settings.common.receive_buffer_bytes, Some(32_768));
        assert_eq!(settings.compression, Compression::None);
        assert!(settings.adaptive_partitioning && !settings.ignore_keys && !settings.rack_aware);
    }

    #[test]
    fn conflicts_turn_idempotence_off_unless_it_was_asked_for() {
        for conflict in [("acks", "1"), ("acks", "0"), ("retries", "0")] {
            assert!(!finish(&[conflict]).unwrap().is_idempotent, "{conflict:?}");
            let error = finish(&[conflict, ("enable.idempotence", "true")]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(conflict.0), "{error}");
        }
        let many = ("max.in.flight.requests.per.connection", "6");
        assert!(
            finish(&[many]).is_err(),
            "more in flight is an error even where idempotence is only the default"
        );
        assert!(!finish(&[many, ("enable.idempotence", "false")]).unwrap().is_idempotent);
        assert!(!finish(&[many, ("acks", "1")]).unwrap().is_idempotent);
    }

    #[test]
    fn delivery_timeout_covers_lingering_and_one_request() {
        let explicit = [("delivery.timeout.ms", "30004")];
        let error = finish(&explicit).unwrap_err();
        assert!(error.to_string().contains("30005"), "{error}");
        assert!(finish(&[("delivery.timeout.ms", "30005")]).is_ok());
        let raised = finish(&[("request.timeout.ms", "200000"), ("linger.ms", "10")]).unwrap();
        assert_eq!(raised.delivery_timeout, Duration::from_millis(200_010));
    }

    #[test]
    fn a_transactional_id_is_refused_and_says_so() {
        let error = finish(&[("transactional.id", "t")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(finish(&[("transactional.id", "")]).unwrap_err().kind(), ErrorKind::Config);
    }

    #[test]
    fn levels_belong_to_their_codec() {
        let levels = [("compression.gzip.level", "9"), ("compression.zstd.level", "-7")];
        let with = |codec| finish(&[levels[0], levels[1], ("compression.type", codec)]).unwrap();
        assert_eq!(with("gzip").compression_level, Some(9));
        assert_eq!(with("zstd").compression_level, Some(-7));
        assert_eq!(with("snappy").compression_level, None);
        for bad in [
            ("compression.gzip.level", "0"),
            ("compression.lz4.level", "18"),
            ("compression.zstd.level", "23"),
            ("compression.type", "brotli"),
            ("partitioner.class", "org.apache.kafka.clients.producer.UniformStickyPartitioner"),
        ] {
            assert!(finish(&[bad]).is_err(), "{bad:?}");
        }
    }
}
