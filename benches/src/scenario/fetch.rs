//! Reading a log from its beginning to its end: what a fetched MiB costs the broker, with and without fetch sessions.

use anyhow::{Context, ensure};
use kavka_protocol::{
    messages::{
        FetchRequest, FetchResponse,
        fetch_request::{FetchPartition, FetchTopic},
        fetch_response::PartitionData,
    },
    records::{RecordError, split_batches},
};

use super::{Broker, Case, MIB, Measurement, Scenario, produce, unique_name, wall_clock_ms};
use crate::{
    admin::{self, Topic},
    batch::Batch,
    connection::{Connection, check},
    load, probe,
};

/// The epoch of a request outside of any session, and of the one that ends a session (KIP-227).
const NO_SESSION: i32 = -1;
/// MiB that the probe of the floor writes.
const FLOOR_MIB: usize = 512;

/// Options of the scenario.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "fetch")]
pub(crate) struct Options {
    /// MiB of data in the topic
    #[arg(long, default_value_t = 256, value_name = "MIB")]
    fetch_mib: usize,
    /// Times the topic is read in a turn
    #[arg(long, default_value_t = 8, value_name = "N")]
    fetch_passes: usize,
    /// Partitions of the topic
    #[arg(long, default_value_t = 6, value_name = "N")]
    fetch_partitions: i32,
    /// Connections; each reads its share of the partitions
    #[arg(long, default_value_t = 2, value_name = "N")]
    fetch_connections: usize,
    /// Fetch sessions (KIP-227), one case each: off, on
    #[arg(long, value_delimiter = ',', default_value = "off,on", value_parser = parse_switch)]
    fetch_sessions: Vec<bool>,
    /// Bytes of an answer, at most; one case each
    #[arg(long, value_delimiter = ',', default_value = "1048576", value_name = "BYTES")]
    fetch_max_bytes: Vec<i32>,
    /// Bytes of a partition in an answer, at most
    #[arg(long, default_value_t = 1 << 20, value_name = "BYTES")]
    fetch_partition_max_bytes: i32,
    /// Time a fetch may wait for data
    #[arg(long, default_value_t = 500, value_name = "MS")]
    fetch_max_wait_ms: i32,
    /// Bytes of a batch
    #[arg(long, default_value_t = 16 * 1024, value_name = "BYTES")]
    fetch_batch_bytes: usize,
}

fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("sessions are 'on' or 'off'".to_owned()),
    }
}

/// The scenario.
#[derive(Debug)]
pub(crate) struct Fetch {
    options: Options,
    topic_name: String,
    batch: Batch,
}

impl Fetch {
    pub(crate) fn new(options: &Options) -> anyhow::Result<Self> {
        Ok(Fetch {
            options: options.clone(),
            topic_name: unique_name("fetch"),
            batch: Batch::build(options.fetch_batch_bytes, 100, wall_clock_ms())?,
        })
    }
}

impl Scenario for Fetch {
    fn name(&self) -> &'static str {
        "fetch"
    }

    fn prepare(&mut self, broker: &Broker) -> anyhow::Result<()> {
        let options = &self.options;
        let mut admin = broker.connect()?;
        let topic = admin::create_topic(&mut admin, &self.topic_name, options.fetch_partitions)?;
        let fill = produce::Load {
            topic: &topic,
            batch: &self.batch,
            batches: options.fetch_mib * (1 << 20) / self.batch.bytes.len(),
            acks: -1,
            connections: 1,
            in_flight: 16,
            batches_per_request: 1,
        };
        fill.run(broker)?;
        Ok(())
    }

    fn measure(&mut self, broker: &Broker) -> anyhow::Result<Vec<Measurement>> {
        let mut measurements = Vec::new();
        let mut admin = broker.connect()?;
        let topic = admin::wait_for_topic(&mut admin, &self.topic_name)?;
        let ends = admin::end_offsets(&mut admin, &topic)?;
        let connections = self.options.fetch_connections;
        let floor = probe::loopback_write(FLOOR_MIB)?;
        let mut case = Case::new("plain loopback write", &mut measurements);
        case.add("cpu per MiB", "us", floor.as_secs_f64() * 1e6 / FLOOR_MIB as f64);
        for &max_bytes in &self.options.fetch_max_bytes {
            for &sessions in &self.options.fetch_sessions {
                let readers = broker
                    .connect_times(connections)?
                    .into_iter()
                    .enumerate()
                    .map(|(index, connection)| {
                        let positions = ends
                            .iter()
                            .filter(|(partition, _)| **partition as usize % connections == index)
                            .map(|(&partition, &end)| Position {
                                partition,
                                end,
                                offset: 0,
                                is_changed: true,
                            })
                            .collect();
                        let mut reader =
                            Reader::new(connection, &topic, &self.options, max_bytes, positions);
                        reader.session_epoch = if sessions { 0 } else { NO_SESSION };
                        reader
                    })
                    .collect();
                let (window, totals) = load::run(&broker.target, readers, |reader| {
                    reader.read(self.options.fetch_passes)
                })?;
                let bytes: usize = totals.iter().map(|total| total.bytes).sum();
                let fetches: usize = totals.iter().map(|total| total.fetches).sum();
                let mib = bytes as f64 / MIB;
                let sessions = if sessions { "on" } else { "off" };
                let mut case = Case::new(
                    format!("sessions={sessions} max={}KiB", max_bytes / 1024),
                    &mut measurements,
                );
                case.add_cpu("broker cpu per MiB", &window, mib);
                case.add_cpu("broker cpu per fetch", &window, fetches as f64);
                case.add("throughput", "MiB/s", mib / window.wall.as_secs_f64());
                case.add("KiB per fetch", "KiB", bytes as f64 / 1024.0 / fetches as f64);
                case.add_own_cpu(&window);
            }
        }
        Ok(measurements)
    }

    fn clean_up(&mut self, broker: &Broker) -> anyhow::Result<()> {
        let mut admin = broker.connect()?;
        let topic = admin::wait_for_topic(&mut admin, &self.topic_name)?;
        admin::delete_topic(&mut admin, &topic)
    }
}

/// Where a reader stands in a partition.
#[derive(Debug)]
struct Position {
    partition: i32,
    end: i64,
    offset: i64,
    /// Whether the broker's session has another offset than this one.
    is_changed: bool,
}

#[derive(Debug, Default)]
struct Total {
    bytes: usize,
    fetches: usize,
}

/// Reads some partitions over one connection.
#[derive(Debug)]
struct Reader<'a> {
    connection: Connection,
    topic: &'a Topic,
    options: &'a Options,
    max_bytes: i32,
    positions: Vec<Position>,
    session_id: i32,
    /// [`NO_SESSION`], or the epoch of the next request.
    session_epoch: i32,
    total: Total,
}

impl<'a> Reader<'a> {
    fn new(
        connection: Connection,
        topic: &'a Topic,
        options: &'a Options,
        max_bytes: i32,
        positions: Vec<Position>,
    ) -> Self {
        Reader {
            connection,
            topic,
            options,
            max_bytes,
            positions,
            session_id: 0,
            session_epoch: NO_SESSION,
            total: Total::default(),
        }
    }

    /// Reads everything, `passes` times.
    fn read(mut self, passes: usize) -> anyhow::Result<Total> {
        for _ in 0..passes {
            for position in &mut self.positions {
                position.offset = 0;
                position.is_changed = true;
            }
            while self.positions.iter().any(|position| position.offset < position.end) {
                let request = self.request();
                self.connection.send(&request)?;
                let response = self.connection.receive::<FetchRequest>()?;
                self.take(&response)?;
            }
        }
        if self.session_id != 0 {
            let request = FetchRequest {
                session_id: self.session_id,
                session_epoch: NO_SESSION,
                max_bytes: self.max_bytes,
                ..Default::default()
            };
            let response = self.connection.call(&request)?;
            check(response.error_code, "ending a fetch session")?;
        }
        Ok(self.total)
    }

    fn request(&mut self) -> FetchRequest {
        let in_session = self.session_id != 0;
        let mut partitions = Vec::new();
        for position in &mut self.positions {
            let is_asked =
                if in_session { position.is_changed } else { position.offset < position.end };
            if !is_asked {
                continue;
            }
            position.is_changed = false;
            partitions.push(FetchPartition {
                partition: position.partition,
                fetch_offset: position.offset,
                partition_max_bytes: self.options.fetch_partition_max_bytes,
                ..Default::default()
            });
        }
        let topics = if partitions.is_empty() {
            Vec::new()
        } else {
            vec![FetchTopic {
                topic: self.topic.name.clone(),
                topic_id: self.topic.id,
                partitions,
                ..Default::default()
            }]
        };
        FetchRequest {
            max_wait_ms: self.options.fetch_max_wait_ms,
            min_bytes: 1,
            max_bytes: self.max_bytes,
            session_id: self.session_id,
            session_epoch: self.session_epoch,
            topics,
            ..Default::default()
        }
    }

    fn take(&mut self, response: &FetchResponse) -> anyhow::Result<()> {
        check(response.error_code, "Fetch")?;
        self.total.fetches += 1;
        if self.session_epoch != NO_SESSION {
            ensure!(response.session_id != 0, "the broker keeps no fetch session");
            ensure!(
                self.session_id == 0 || self.session_id == response.session_id,
                "the fetch session changed"
            );
            self.session_id = response.session_id;
            self.session_epoch += 1;
        }
        let mut progress = false;
        for partition in response.responses.iter().flat_map(|topic| &topic.partitions) {
            progress |= self.take_partition(partition)?;
        }
        ensure!(progress, "a fetch below the end of the log brought no record");
        Ok(())
    }

    /// Moves on behind the last whole batch, and tells whether there was one.
    fn take_partition(&mut self, data: &PartitionData) -> anyhow::Result<bool> {
        let name = || format!("fetching {}-{}", self.topic.name, data.partition_index);
        check(data.error_code, &name())?;
        let position = self
            .positions
            .iter_mut()
            .find(|position| position.partition == data.partition_index)
            .with_context(|| format!("{}: this partition was not asked for", name()))?;
        let Some(records) = data.records.as_ref().filter(|records| !records.is_empty()) else {
            return Ok(false);
        };
        let mut progress = false;
        for batch in split_batches(records) {
            let header = match batch {
                Ok((header, _)) => header,
                // A broker may cut the last batch where the limit of bytes is.
                Err(RecordError::Incomplete { .. }) if progress => break,
                Err(error) => return Err(error).with_context(name),
            };
            ensure!(
                header.base_offset == position.offset,
                "{}: a batch at offset {} where {} was asked for",
                name(),
                header.base_offset,
                position.offset
            );
            position.offset = header.next_offset();
            progress = true;
        }
        position.is_changed = true;
        self.total.bytes += records.len();
        Ok(progress)
    }
}
