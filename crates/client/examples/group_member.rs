//! A member of a group that writes down what happens to it, for tests in which clients of several kinds share a group.
//!
//! `group_member BOOTSTRAP GROUP TOPIC LOG [name=value ...]`: joins, reads, and commits what it has written down. Each `name=value` is a
//! property by Kafka's name: `partition.assignment.strategy=sticky`. Any line on stdin, or its end, has it leave the group.
//!
//! The log, a line each:
//!
//! ```text
//! P <partition,...>                   the assignment changed to this
//! R <partition> <offset> <value>      a record was handed out
//! C <partition> <offset>              a commit was acknowledged
//! E <reason>                          reading or a commit failed; it goes on
//! ```

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, LineWriter, Write},
    time::Duration,
};

use kavka_client::{
    Consumer, Error, TopicPartition,
    consumer::{OffsetReset, RebalanceEvent, RebalanceEvents},
};

/// Between two commits, at most.
const COMMIT_INTERVAL: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next =
        || arguments.next().ok_or("usage: group_member BOOTSTRAP GROUP TOPIC LOG [name=value ...]");
    let (bootstrap, group, topic, log) = (next()?, next()?, next()?, next()?);
    let mut builder = Consumer::builder()
        .bootstrap_servers(&bootstrap)
        .group_id(&group)
        .auto_offset_reset(OffsetReset::Earliest)
        .enable_auto_commit(false)
        .session_timeout(Duration::from_secs(6))
        .heartbeat_interval(Duration::from_millis(500))
        .drain_timeout(Duration::from_secs(3));
    for property in arguments {
        let (name, value) = property.split_once('=').ok_or("a property is name=value")?;
        builder = builder.property(name, value);
    }
    let log = LineWriter::new(File::options().create(true).append(true).open(log)?);
    let consumer = builder.build()?;
    let events = consumer.events();
    consumer.subscribe([topic]).await?;
    let stop = tokio::task::spawn_blocking(|| io::stdin().read_line(&mut String::new()));
    let mut member = Member { consumer, events, log, owned: BTreeSet::new(), is_dirty: false };
    member.run(stop).await?;
    member.consumer.close().await?;
    writeln!(member.log, "P ")?;
    // The thread that reads stdin ends with the process.
    std::process::exit(0);
}

struct Member {
    consumer: Consumer,
    events: RebalanceEvents,
    log: LineWriter<File>,
    owned: BTreeSet<TopicPartition>,
    /// Something was written down and is not committed.
    is_dirty: bool,
}

impl Member {
    async fn run(&mut self, stop: impl Future) -> io::Result<()> {
        let mut ticks = tokio::time::interval(COMMIT_INTERVAL);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                _ = &mut stop => {
                    return self.commit().await;
                }
                Some(event) = self.events.next() => self.note(event).await?,
                _ = ticks.tick() => if self.is_dirty {
                    self.commit().await?;
                },
                record = self.consumer.next() => match record {
                    Some(Ok(record)) => {
                        let value = record.value().map(|value| value.to_vec()).unwrap_or_default();
                        let value = String::from_utf8_lossy(&value);
                        writeln!(self.log, "R {} {} {value}", record.partition(), record.offset())?;
                        self.is_dirty = true;
                    }
                    Some(Err(error)) => self.complain("read", &error)?,
                    None => return Ok(()),
                },
            }
        }
    }

    async fn note(&mut self, event: RebalanceEvent) -> io::Result<()> {
        match event {
            RebalanceEvent::Assigned { owned, .. } => self.owned = owned.into_iter().collect(),
            RebalanceEvent::Revoking(revoking) => {
                // While the partitions are still ours.
                self.commit().await?;
                revoking.finish();
                return Ok(());
            }
            RebalanceEvent::Revoked(partitions) | RebalanceEvent::Lost { partitions, .. } => {
                self.owned.retain(|owned| !partitions.contains(owned));
            }
            _ => return Ok(()),
        }
        let partitions: Vec<String> =
            self.owned.iter().map(|owned| owned.partition.to_string()).collect();
        writeln!(self.log, "P {}", partitions.join(","))
    }

    async fn commit(&mut self) -> io::Result<()> {
        self.is_dirty = false;
        match self.consumer.commit().await {
            Ok(committed) => committed.iter().try_for_each(|(place, offset)| {
                writeln!(self.log, "C {} {offset}", place.partition)
            }),
            Err(error) => self.complain("commit", error.error()),
        }
    }

    fn complain(&mut self, what: &str, error: &Error) -> io::Result<()> {
        writeln!(self.log, "E {what} {error}")
    }
}
