//! Pipelined produce of batches built once: what a batch and a MiB cost the broker.

use std::{
    collections::VecDeque,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use kavka_protocol::messages::{
    ProduceRequest,
    produce_request::{PartitionProduceData, TopicProduceData},
};

use super::{Broker, Case, MIB, Measurement, Scenario, unique_name, wall_clock_ms};
use crate::{
    admin::{self, Topic},
    batch::Batch,
    connection::{Connection, check, encode_frame},
    load::{self, Window},
};

/// How long what was acknowledged may take to be visible.
const VISIBLE_TIMEOUT: Duration = Duration::from_secs(10);
const VISIBLE_PAUSE: Duration = Duration::from_millis(5);

/// Options of the scenario.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "produce")]
pub(crate) struct Options {
    /// MiB of batches produced in a turn
    #[arg(long, default_value_t = 256, value_name = "MIB")]
    produce_mib: usize,
    /// Acknowledgements asked for, one case each: all, 1
    #[arg(long, value_delimiter = ',', default_value = "all,1", value_parser = parse_acks)]
    produce_acks: Vec<i16>,
    /// Connections
    #[arg(long, default_value_t = 2, value_name = "N")]
    produce_connections: usize,
    /// Requests in flight on each connection
    #[arg(long, default_value_t = 5, value_name = "N")]
    produce_in_flight: usize,
    /// Partitions of the topic
    #[arg(long, default_value_t = 6, value_name = "N")]
    produce_partitions: i32,
    /// Batches in a request, each for another partition
    #[arg(long, default_value_t = 1, value_name = "N")]
    produce_batches_per_request: i32,
    /// Bytes of a batch
    #[arg(long, default_value_t = 16 * 1024, value_name = "BYTES")]
    batch_bytes: usize,
    /// Bytes of a record's value
    #[arg(long, default_value_t = 100, value_name = "BYTES")]
    record_bytes: usize,
}

fn parse_acks(text: &str) -> Result<i16, String> {
    match text {
        "all" | "-1" => Ok(-1),
        "1" => Ok(1),
        _ => Err("acks are 'all' or '1'".to_owned()),
    }
}

/// The scenario.
#[derive(Debug)]
pub(crate) struct Produce {
    options: Options,
    batch: Batch,
}

impl Produce {
    pub(crate) fn new(options: &Options) -> anyhow::Result<Self> {
        let batch = Batch::build(options.batch_bytes, options.record_bytes, wall_clock_ms())?;
        Ok(Produce { options: options.clone(), batch })
    }
}

impl Scenario for Produce {
    fn name(&self) -> &'static str {
        "produce"
    }

    fn measure(&mut self, broker: &Broker) -> anyhow::Result<Vec<Measurement>> {
        let mut measurements = Vec::new();
        let options = &self.options;
        for &acks in &options.produce_acks {
            let mut admin = broker.connect()?;
            let topic = admin::create_topic(
                &mut admin,
                &unique_name("produce"),
                options.produce_partitions,
            )?;
            let load = Load {
                topic: &topic,
                batch: &self.batch,
                batches: options.produce_mib * (1 << 20) / self.batch.bytes.len(),
                acks,
                connections: options.produce_connections,
                in_flight: options.produce_in_flight,
                batches_per_request: options.produce_batches_per_request,
            };
            let (window, batches) = load.run(broker)?;
            admin::delete_topic(&mut admin, &topic)?;

            let mib = (batches * self.batch.bytes.len()) as f64 / MIB;
            let acks = if acks == -1 { "all".to_owned() } else { acks.to_string() };
            let mut case = Case::new(format!("acks={acks}"), &mut measurements);
            case.add_cpu("broker cpu per batch", &window, batches as f64);
            case.add_cpu("broker cpu per MiB", &window, mib);
            case.add("throughput", "MiB/s", mib / window.wall.as_secs_f64());
            case.add_own_cpu(&window);
        }
        Ok(measurements)
    }
}

/// A pipelined produce load.
#[derive(Debug)]
pub(crate) struct Load<'a> {
    pub(crate) topic: &'a Topic,
    pub(crate) batch: &'a Batch,
    /// Batches to send, over all connections; rounded down to whole requests on each.
    pub(crate) batches: usize,
    pub(crate) acks: i16,
    pub(crate) connections: usize,
    /// Requests sent ahead of their answers, on each connection.
    pub(crate) in_flight: usize,
    pub(crate) batches_per_request: i32,
}

impl Load<'_> {
    /// Sends the batches, waits for every answer, and asks the broker whether as many records are there as it acknowledged.
    /// Tells the number of batches.
    pub(crate) fn run(&self, broker: &Broker) -> anyhow::Result<(Window, usize)> {
        ensure!(
            (1..=self.topic.partitions).contains(&self.batches_per_request),
            "a request of {} batches needs as many partitions; there are {}",
            self.batches_per_request,
            self.topic.partitions
        );
        let requests = self.batches / self.connections / self.batches_per_request as usize;
        ensure!(requests > 0, "{} batches are less than a request per connection", self.batches);
        let mut admin = broker.connect()?;
        let before: i64 = admin::end_offsets(&mut admin, self.topic)?.values().sum();
        let version = admin.version_of::<ProduceRequest>()?;
        let mut states = Vec::new();
        for (index, connection) in broker.connect_times(self.connections)?.into_iter().enumerate() {
            // One frame for each first partition, beginning elsewhere on each connection.
            let frames = (0..self.topic.partitions)
                .map(|first| encode_frame(&self.request(first + index as i32), version))
                .collect::<anyhow::Result<VecDeque<_>>>()?;
            states.push((connection, frames));
        }
        let (window, _) = load::run(&broker.target, states, |(connection, frames)| {
            self.drive(connection, frames, requests)
        })?;
        let batches = requests * self.connections * self.batches_per_request as usize;
        let sent = batches as i64 * self.batch.records;
        // Without acks=all a broker may acknowledge what consumers cannot see yet.
        let started = Instant::now();
        let grown = loop {
            let after: i64 = admin::end_offsets(&mut admin, self.topic)?.values().sum();
            if after - before >= sent || started.elapsed() > VISIBLE_TIMEOUT {
                break after - before;
            }
            thread::sleep(VISIBLE_PAUSE);
        };
        ensure!(grown == sent, "{sent} records were acknowledged, the log grew by {grown}");
        Ok((window, batches))
    }

    fn request(&self, first_partition: i32) -> ProduceRequest {
        let partition_data = (first_partition..first_partition + self.batches_per_request)
            .map(|index| PartitionProduceData {
                index: index % self.topic.partitions,
                records: Some(self.batch.bytes.clone()),
                ..Default::default()
            })
            .collect();
        ProduceRequest {
            acks: self.acks,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: self.topic.name.clone(),
                topic_id: self.topic.id,
                partition_data,
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn drive(
        &self,
        mut connection: Connection,
        mut frames: VecDeque<Vec<u8>>,
        requests: usize,
    ) -> anyhow::Result<()> {
        let (mut sent, mut answered) = (0, 0);
        while answered < requests {
            while sent < requests && sent - answered < self.in_flight {
                if let Some(frame) = frames.front_mut() {
                    connection.send_frame(frame)?;
                }
                frames.rotate_left(1);
                sent += 1;
            }
            let response = connection.receive::<ProduceRequest>()?;
            let topic = response.responses.first().context("Produce answered nothing")?;
            for partition in &topic.partition_responses {
                check(
                    partition.error_code,
                    &format!("producing to {}-{}", self.topic.name, partition.index),
                )?;
            }
            ensure!(
                topic.partition_responses.len() == self.batches_per_request as usize,
                "Produce answered for {} of {} partitions",
                topic.partition_responses.len(),
                self.batches_per_request
            );
            answered += 1;
        }
        Ok(())
    }
}
