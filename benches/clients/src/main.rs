//! What a record costs a client: CPU time, memory and wall time of producing and consuming, for one client and one setting per process.
//!
//! `run` beside this starts it in turn for every client; see the README.

mod kavka;
mod librdkafka;
mod null_broker;
mod payload;
mod usage;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::usage::Measured;

#[derive(Parser)]
#[command(about = "Measures what a record costs a client")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A broker that answers at once and keeps nothing.
    NullBroker(null_broker::Options),
    /// Produces, and prints what it cost as one line of JSON.
    Produce(Load),
    /// Reads partitions 0 to 7 of a topic that does not end, and prints what it cost as one line of JSON.
    Consume(Load),
}

/// Partitions that are read.
pub(crate) const PARTITIONS: i32 = 8;

/// Whose code is measured.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Client {
    Kavka,
    Librdkafka,
}

/// What is produced.
#[derive(Args, Clone, Debug)]
pub(crate) struct Load {
    #[arg(long)]
    client: Client,
    #[arg(long)]
    bootstrap: String,
    #[arg(long, default_value = "bench")]
    topic: String,
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
    #[arg(long, default_value_t = 2_000_000)]
    records: u64,
    /// Appends the line to this file, too.
    #[arg(long)]
    append_to: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::NullBroker(options) => null_broker::run(&options),
        Command::Produce(load) => {
            let measured = match load.client {
                Client::Kavka => kavka::produce(&load)?,
                Client::Librdkafka => librdkafka::produce(&load)?,
            };
            report("produce", &load, &measured)
        }
        Command::Consume(load) => {
            let measured = match load.client {
                Client::Kavka => kavka::consume(&load)?,
                Client::Librdkafka => librdkafka::consume(&load)?,
            };
            report("consume", &load, &measured)
        }
    }
}

fn report(what: &str, load: &Load, measured: &Measured) -> anyhow::Result<()> {
    let line = serde_json::json!({
        "what": what,
        "client": format!("{:?}", load.client).to_lowercase(),
        "size": load.size,
        "codec": load.codec,
        "batch_size": load.batch_size,
        "records": load.records,
        "cpu_ns_per_record": measured.cpu.as_nanos() as f64 / load.records as f64,
        "records_per_second": load.records as f64 / measured.wall.as_secs_f64(),
        "max_rss_kib": measured.max_rss_kib,
    })
    .to_string();
    println!("{line}");
    if let Some(path) = &load.append_to {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
        writeln!(file, "{line}")?;
    }
    Ok(())
}
