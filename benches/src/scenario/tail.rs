//! A fetch parked at the end of the log, woken by one record at a time: how long from produce to delivery, and what it costs.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use kavka_protocol::{
    messages::{
        FetchRequest, ProduceRequest,
        fetch_request::{FetchPartition, FetchTopic},
        produce_request::{PartitionProduceData, TopicProduceData},
    },
    records::split_batches,
};

use super::{Broker, Case, Measurement, Scenario, unique_name, wall_clock_ms};
use crate::{
    admin::{self, Topic},
    batch::Batch,
    connection::{Connection, check},
    load,
    stats::Latencies,
};

/// Longer than any delivery: a fetch that comes back empty is a failure.
const MAX_WAIT_MS: i32 = 30_000;

/// Options of the scenario.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "tail")]
pub(crate) struct Options {
    /// Seconds of each case of tail
    #[arg(long, default_value_t = 2.0, value_name = "S")]
    tail_seconds: f64,
}

/// The scenario.
#[derive(Debug)]
pub(crate) struct Tail {
    options: Options,
    batch: Batch,
}

impl Tail {
    pub(crate) fn new(options: &Options) -> anyhow::Result<Self> {
        Ok(Tail { options: options.clone(), batch: Batch::build(1, 100, wall_clock_ms())? })
    }
}

impl Scenario for Tail {
    fn name(&self) -> &'static str {
        "tail"
    }

    fn measure(&mut self, broker: &Broker) -> anyhow::Result<Vec<Measurement>> {
        let mut measurements = Vec::new();
        let duration = Duration::from_secs_f64(self.options.tail_seconds);
        for (acks, name) in [(-1, "acks=all"), (1, "acks=1")] {
            let mut admin = broker.connect()?;
            let topic = admin::create_topic(&mut admin, &unique_name("tail"), 1)?;
            let mut pair = Pair {
                topic: &topic,
                batch: &self.batch,
                acks,
                producer: broker.connect()?,
                consumer: broker.connect()?,
                offset: 0,
            };
            let (window, results) = load::run(&broker.target, vec![&mut pair], |pair| {
                let mut delivered = Latencies::default();
                let mut acknowledged = Latencies::default();
                let started = Instant::now();
                while started.elapsed() < duration {
                    pair.pass_on(&mut delivered, &mut acknowledged)?;
                }
                Ok((delivered, acknowledged))
            })?;
            admin::delete_topic(&mut admin, &topic)?;

            let mut case = Case::new(name, &mut measurements);
            for (mut delivered, mut acknowledged) in results {
                case.add("delivered p50", "us", delivered.quantile_us(0.5));
                case.add("delivered p99", "us", delivered.quantile_us(0.99));
                case.add("delivered and acknowledged p50", "us", acknowledged.quantile_us(0.5));
                case.add_cpu("broker cpu per record", &window, delivered.count() as f64);
            }
        }
        Ok(measurements)
    }
}

struct Pair<'a> {
    topic: &'a Topic,
    batch: &'a Batch,
    acks: i16,
    producer: Connection,
    consumer: Connection,
    offset: i64,
}

impl Pair<'_> {
    /// Parks a fetch, produces one record, and waits for it to arrive, then for its acknowledgement.
    fn pass_on(
        &mut self,
        delivered: &mut Latencies,
        acknowledged: &mut Latencies,
    ) -> anyhow::Result<()> {
        self.consumer.send(&FetchRequest {
            max_wait_ms: MAX_WAIT_MS,
            min_bytes: 1,
            max_bytes: 1 << 20,
            topics: vec![FetchTopic {
                topic: self.topic.name.clone(),
                topic_id: self.topic.id,
                partitions: vec![FetchPartition {
                    fetch_offset: self.offset,
                    partition_max_bytes: 1 << 20,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        })?;
        let request = ProduceRequest {
            acks: self.acks,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: self.topic.name.clone(),
                topic_id: self.topic.id,
                partition_data: vec![PartitionProduceData {
                    records: Some(self.batch.bytes.clone()),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let started = Instant::now();
        self.producer.send(&request)?;
        let response = self.consumer.receive::<FetchRequest>()?;
        delivered.push(started.elapsed());

        check(response.error_code, "Fetch")?;
        let data = response
            .responses
            .first()
            .and_then(|topic| topic.partitions.first())
            .context("a parked fetch came back empty")?;
        check(data.error_code, "Fetch")?;
        let records = data.records.as_ref().context("a parked fetch came back empty")?;
        let (header, _) =
            split_batches(records).next().context("a parked fetch came back empty")??;
        ensure!(
            header.base_offset == self.offset,
            "a fetch brought offset {} instead of {}",
            header.base_offset,
            self.offset
        );
        self.offset = header.next_offset();

        let response = self.producer.receive::<ProduceRequest>()?;
        acknowledged.push(started.elapsed());
        let answer = response
            .responses
            .first()
            .and_then(|topic| topic.partition_responses.first())
            .context("Produce answered nothing")?;
        check(answer.error_code, "Produce")
    }
}
