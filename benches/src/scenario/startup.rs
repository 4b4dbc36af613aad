//! How soon a broker serves: started empty, started again after kill -9 with data, and after a clean stop.
//!
//! Unlike the other scenarios this one starts the brokers itself, from the command lines it is given.

use std::{
    fs::OpenOptions,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use kavka_protocol::messages::{
    FetchRequest,
    fetch_request::{FetchPartition, FetchTopic},
};
use rustix::process::{Pid, Signal, kill_process};

use super::{Broker, Case, MIB, Measurement, commit, produce, unique_name, wall_clock_ms};
use crate::{
    admin::{self, Topic},
    batch::Batch,
    connection::{Connection, Versions, check},
    group::Membership,
    process,
    target::Target,
};

/// How long a broker may take to serve, or to end.
const PATIENCE: Duration = Duration::from_secs(120);
/// Pause between two attempts to connect: the resolution of the times.
const POLL_PAUSE: Duration = Duration::from_micros(100);
/// Until a fresh broker has settled and its memory is read.
const SETTLE: Duration = Duration::from_secs(2);
const BATCH_BYTES: usize = 16 * 1024;

/// Options of the scenario.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "startup")]
pub(crate) struct Options {
    /// MiB of data at the time of kill -9
    #[arg(long, default_value_t = 100, value_name = "MIB")]
    data_mib: usize,
    /// Partitions that the data is in
    #[arg(long, default_value_t = 6, value_name = "N")]
    data_partitions: i32,
    /// File to which the output of the brokers is appended; without it their output is dropped
    #[arg(long, value_name = "FILE")]
    spawn_log: Option<PathBuf>,
}

/// A broker that can be started.
#[derive(Debug, Clone)]
pub(crate) struct Startable {
    /// Where it will answer.
    pub(crate) target: Target,
    /// Shell command that leaves an empty, formatted data folder; not measured.
    pub(crate) prepare: Option<String>,
    /// Program and arguments, split at blanks: the broker itself and not a script, for its process is killed.
    pub(crate) spawn: String,
}

/// Measures one start after the other.
pub(crate) fn measure(options: &Options, broker: &Startable) -> anyhow::Result<Vec<Measurement>> {
    if let Some(prepare) = &broker.prepare {
        let status = Command::new("sh").arg("-c").arg(prepare).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "'{prepare}' failed: {status}");
    }
    let mut measurements = Vec::new();

    let mut running = Running::spawn(broker, options)?;
    let mut case = Case::new("started empty", &mut measurements);
    case.add("ApiVersions answered", "ms", millis(running.wait_for_api_versions()?));
    thread::sleep(SETTLE);
    case.add("resident memory", "MiB", process::resident_bytes(running.pid())? as f64 / MIB);

    let stored = Stored::store(options, &broker.target)?;
    running.end(Signal::KILL)?;

    let name = format!("after kill -9, {} MiB", options.data_mib);
    let mut running = Running::spawn(broker, options)?;
    let mut case = Case::new(name, &mut measurements);
    measure_return(&mut case, &mut running, &stored)?;

    let stopping = Instant::now();
    running.end(Signal::TERM)?;
    let name = format!("after a clean stop, {} MiB", options.data_mib);
    let mut case = Case::new(name, &mut measurements);
    case.add("stopped", "ms", millis(stopping.elapsed()));
    let mut running = Running::spawn(broker, options)?;
    measure_return(&mut case, &mut running, &stored)?;
    running.end(Signal::KILL)?;
    Ok(measurements)
}

fn measure_return(
    case: &mut Case<'_>,
    running: &mut Running,
    stored: &Stored,
) -> anyhow::Result<()> {
    case.add("ApiVersions answered", "ms", millis(running.wait_for_api_versions()?));
    case.add("records fetched", "ms", millis(running.wait_for(|target| stored.fetch(target))?));
    case.add("commit read", "ms", millis(running.wait_for(|target| stored.read_commit(target))?));
    stored.check_nothing_lost(&running.target)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// A broker that was started here. Dropping it kills it.
#[derive(Debug)]
struct Running {
    child: Child,
    target: Target,
    started: Instant,
}

impl Running {
    fn spawn(broker: &Startable, options: &Options) -> anyhow::Result<Running> {
        let mut words = broker.spawn.split_whitespace();
        let program = words.next().context("the command that starts the broker is empty")?;
        let output = || -> anyhow::Result<Stdio> {
            let Some(path) = &options.spawn_log else { return Ok(Stdio::null()) };
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .with_context(|| format!("cannot write {}", path.display()))?;
            Ok(file.into())
        };
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null()).stdout(output()?).stderr(output()?);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start '{}'", broker.spawn))?;
        Ok(Running { child, target: broker.target.clone(), started })
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Time from the start until ApiVersions is answered.
    fn wait_for_api_versions(&mut self) -> anyhow::Result<Duration> {
        self.wait_for(|target| {
            let mut connection = connect(target.address)?;
            connection.api_versions()?;
            Ok(())
        })
    }

    /// Time from the start until `attempt` succeeds.
    fn wait_for(
        &mut self,
        attempt: impl Fn(&Target) -> anyhow::Result<()>,
    ) -> anyhow::Result<Duration> {
        loop {
            match attempt(&self.target) {
                Ok(()) => return Ok(self.started.elapsed()),
                Err(error) if self.started.elapsed() > PATIENCE => {
                    return Err(error.context(format!(
                        "{} does not serve after {PATIENCE:?}",
                        self.target.name
                    )));
                }
                Err(_) => thread::sleep(POLL_PAUSE),
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended while it was waited for: {status}", self.target.name);
            }
        }
    }

    /// Sends a signal and waits until the process is gone.
    fn end(mut self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid())
            .ok()
            .and_then(Pid::from_raw)
            .context("the broker has no process id")?;
        kill_process(pid, signal).context("cannot signal the broker")?;
        let asked = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(
                asked.elapsed() < PATIENCE,
                "{} runs on {PATIENCE:?} after {signal:?}",
                self.target.name
            );
            thread::sleep(POLL_PAUSE);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(address: SocketAddr) -> anyhow::Result<Connection> {
    Connection::open(address, None, &Versions::default())
}

/// What the broker acknowledged before it was killed.
#[derive(Debug)]
struct Stored {
    topic_name: String,
    records: i64,
    membership: Membership,
    committed: i64,
}

impl Stored {
    fn store(options: &Options, target: &Target) -> anyhow::Result<Stored> {
        let broker = meet(target)?;
        let mut connection = broker.connect()?;
        let topic_name = unique_name("startup");
        let topic = admin::create_topic(&mut connection, &topic_name, options.data_partitions)?;
        let batch = Batch::build(BATCH_BYTES, 100, wall_clock_ms())?;
        let fill = produce::Load {
            topic: &topic,
            batch: &batch,
            batches: (options.data_mib * (1 << 20)).div_ceil(batch.bytes.len()),
            acks: -1,
            connections: 1,
            in_flight: 16,
            batches_per_request: 1,
        };
        let (_, batches) = fill.run(&broker)?;
        let membership = Membership::simple(&mut connection, &unique_name("startup"))?;
        let mut session = commit::Session::of(connection, membership.clone());
        for _ in 0..100 {
            session.commit(&topic, 1)?;
        }
        Ok(Stored {
            topic_name,
            records: batches as i64 * batch.records,
            membership,
            committed: session.committed(),
        })
    }

    /// Reads the beginning of each partition.
    fn fetch(&self, target: &Target) -> anyhow::Result<()> {
        let broker = meet(target)?;
        let mut connection = broker.connect()?;
        let topic = self.topic(&mut connection)?;
        for partition in 0..topic.partitions {
            let response = connection.call(&FetchRequest {
                max_wait_ms: 0,
                min_bytes: 1,
                max_bytes: BATCH_BYTES as i32,
                topics: vec![FetchTopic {
                    topic: topic.name.clone(),
                    topic_id: topic.id,
                    partitions: vec![FetchPartition {
                        partition,
                        fetch_offset: 0,
                        partition_max_bytes: BATCH_BYTES as i32,
                        ..Default::default()
                    }],
                    ..Default::default()
                }],
                ..Default::default()
            })?;
            check(response.error_code, "Fetch")?;
            let data = response
                .responses
                .first()
                .and_then(|topic| topic.partitions.first())
                .context("Fetch answered nothing")?;
            check(data.error_code, "Fetch")?;
            ensure!(
                data.records.as_ref().is_some_and(|records| !records.is_empty()),
                "Fetch brought no records of {}-{partition}",
                topic.name
            );
        }
        Ok(())
    }

    fn read_commit(&self, target: &Target) -> anyhow::Result<()> {
        let broker = meet(target)?;
        let mut connection = broker.connect()?;
        let topic = self.topic(&mut connection)?;
        let offsets =
            commit::committed_offsets(&mut connection, &self.membership.group, &topic, 1)?;
        ensure!(
            offsets == [self.committed],
            "offset {} was committed, the broker has {offsets:?}",
            self.committed
        );
        Ok(())
    }

    fn check_nothing_lost(&self, target: &Target) -> anyhow::Result<()> {
        let broker = meet(target)?;
        let mut connection = broker.connect()?;
        let topic = self.topic(&mut connection)?;
        let records: i64 = admin::end_offsets(&mut connection, &topic)?.values().sum();
        ensure!(
            records == self.records,
            "{} records were acknowledged, the log has {records}",
            self.records
        );
        Ok(())
    }

    fn topic(&self, connection: &mut Connection) -> anyhow::Result<Topic> {
        let response = admin::metadata(connection, &self.topic_name)?;
        let topic = response.topics.first().context("Metadata answered nothing")?;
        check(topic.error_code, "Metadata")?;
        for partition in &topic.partitions {
            check(partition.error_code, "Metadata")?;
        }
        Ok(Topic {
            name: self.topic_name.as_str().into(),
            id: topic.topic_id,
            partitions: i32::try_from(topic.partitions.len())?,
        })
    }
}

fn meet(target: &Target) -> anyhow::Result<Broker> {
    Broker::meet(target.clone(), &Default::default())
}
