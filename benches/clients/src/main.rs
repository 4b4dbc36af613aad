//! What a record costs a client: CPU time, memory and wall time of producing, consuming and committing, for one client and one setting per
//! process.
//!
//! `run` beside this starts it in turn for every client; see the README.

mod kavka;
mod librdkafka;
mod null_broker;
mod payload;
mod raw;
mod usage;

use anyhow::bail;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::usage::Measured;

#[derive(Parser)]
#[command(about = "Measures what a record costs a client; prints one line of JSON")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A broker that answers at once and keeps nothing.
    NullBroker(null_broker::Options),
    /// Produces.
    Produce(Load),
    /// Reads partitions 0 to 7 of a topic from their beginnings.
    Consume(Load),
    /// Is a member of a group that has nothing to read, for two seconds.
    Idle(Load),
    /// Reads record by record as a member of a group, and commits after each, waiting for the answer.
    Commit(Load),
}

/// Partitions that are read.
pub(crate) const PARTITIONS: i32 = 8;

/// Whose code is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Client {
    /// Its fastest way: consumed batches are lent.
    Kavka,
    /// Records are handed out one by one, and may outlive the consumer.
    KavkaOwned,
    Librdkafka,
    /// No client: requests over a blocking socket, which is what the broker and the machine take.
    Raw,
}

/// What is to be done.
#[derive(Args, Clone, Debug)]
pub(crate) struct Load {
    #[arg(long)]
    client: Client,
    #[arg(long)]
    bootstrap: String,
    #[arg(long, default_value = "bench")]
    topic: String,
    /// Of members and commits.
    #[arg(long, default_value = "bench")]
    group: String,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// none, gzip, snappy, lz4 or zstd.
    #[arg(long, default_value = "none")]
    codec: String,
    /// batch.size, in bytes.
    #[arg(long, default_value_t = 16_384)]
    batch_size: usize,
    /// Records that count; a tenth of them go before, to warm up.
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
}

impl Load {
    /// Records that do not count.
    fn warm_up(&self) -> u64 {
        self.records / 10
    }

    /// Bytes of a request with the largest batches of all partitions; never below Kafka's default.
    fn max_request_size(&self) -> usize {
        self.batch_size.max(1_048_576) + 1024
    }
}

fn main() -> anyhow::Result<()> {
    let (what, load, figures) = match Cli::parse().command {
        Command::NullBroker(options) => return null_broker::run(&options),
        Command::Produce(load) => {
            let measured = match load.client {
                Client::Kavka => kavka::produce(&load)?,
                Client::Librdkafka => librdkafka::produce(&load)?,
                other => bail!("{other:?} does not produce"),
            };
            ("produce", load.clone(), per_record(&load, &measured))
        }
        Command::Consume(load) => {
            let measured = match load.client {
                Client::Kavka => kavka::consume(&load, false)?,
                Client::KavkaOwned => kavka::consume(&load, true)?,
                Client::Librdkafka => librdkafka::consume(&load)?,
                other => bail!("{other:?} does not consume"),
            };
            ("consume", load.clone(), per_record(&load, &measured))
        }
        Command::Idle(load) => {
            let rss_kib = match load.client {
                Client::Kavka => kavka::idle(&load)?,
                Client::Librdkafka => librdkafka::idle(&load)?,
                other => bail!("{other:?} is no member"),
            };
            ("idle", load, json!({ "rss_kib": rss_kib }))
        }
        Command::Commit(load) => {
            let (measured, mut latencies) = match load.client {
                Client::Kavka => kavka::commit(&load)?,
                Client::Librdkafka => librdkafka::commit(&load)?,
                Client::Raw => raw::commit(&load)?,
                other => bail!("{other:?} does not commit"),
            };
            let mut figures = per_record(&load, &measured);
            latencies.sort_unstable();
            for (name, part) in [("p50_us", 0.5), ("p99_us", 0.99)] {
                let at = (latencies.len() as f64 * part) as usize;
                figures[name] = json!(latencies[at].as_nanos() as f64 / 1e3);
            }
            ("commit", load, figures)
        }
    };
    let mut line = json!({
        "what": what,
        "client": load.client.to_possible_value().map(|value| value.get_name().to_owned()),
        "size": load.size,
        "codec": load.codec,
        "batch_size": load.batch_size,
        "records": load.records,
    });
    if let (Value::Object(line), Value::Object(figures)) = (&mut line, figures) {
        line.extend(figures);
    }
    println!("{line}");
    Ok(())
}

fn per_record(load: &Load, measured: &Measured) -> Value {
    json!({
        "cpu_ns_per_record": measured.cpu.as_nanos() as f64 / load.records as f64,
        "records_per_second": load.records as f64 / measured.wall.as_secs_f64(),
        "max_rss_kib": measured.max_rss_kib,
    })
}
