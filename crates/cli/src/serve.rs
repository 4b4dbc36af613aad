//! `kavka serve`: reads the configuration, runs the broker, stops it on a signal.
//!
//! Standard output has one line, once the broker serves: `listening on HOST:PORT`. Logs and hints go to standard error.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, anyhow};
use kavka_broker::{
    Broker,
    config::{BrokerConfig, LoadOptions},
};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use crate::{
    options::{BOOTSTRAP_VARIABLE, PROFILE_VARIABLE},
    signals::Signals,
};

/// Threads that may wait for the disk, beside those that serve.
const MAX_BLOCKING_THREADS: usize = 32;

/// What is logged, in the syntax of `tracing`: `info`, `warn,kavka::group=info`.
const LOG_VARIABLE: &str = "KAVKA_LOG";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen; port 0 takes a free one [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,

    /// Where to keep everything [default: ./kavka-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// A configuration file: TOML, or Kafka's own if its name ends in .properties
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// A setting by its Kafka name, such as group.initial.rebalance.delay.ms=0; goes before environment and file
    #[arg(short = 'X', value_name = "NAME=VALUE", value_parser = crate::property)]
    properties: Vec<(String, String)>,
}

pub(crate) fn run(args: Args) -> ExitCode {
    if let Err(wrong) = log_to_stderr() {
        eprintln!("kavka: {wrong:#}");
        return ExitCode::from(crate::USAGE);
    }
    let config = match load(args) {
        Ok(config) => config,
        Err(wrong) => {
            error!("{wrong:#}");
            return ExitCode::from(crate::USAGE);
        }
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = config.worker_threads {
        runtime.worker_threads(threads);
    }
    let runtime = runtime
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_name("kavka")
        .build();
    let served = runtime.context("cannot start the runtime").and_then(|runtime| {
        let served = runtime.block_on(serve(config));
        // A second signal does not wait for work on the disk that is still under way.
        runtime.shutdown_background();
        served
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            error!("{failed:#}");
            ExitCode::FAILURE
        }
    }
}

fn log_to_stderr() -> anyhow::Result<()> {
    let filter = match std::env::var(LOG_VARIABLE) {
        Ok(text) => EnvFilter::try_new(&text).with_context(|| format!("{LOG_VARIABLE}={text}"))?,
        Err(std::env::VarError::NotPresent) => EnvFilter::new("info"),
        Err(wrong) => return Err(anyhow!("{LOG_VARIABLE}: {wrong}")),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .init();
    Ok(())
}

/// Flags before `-X` before environment before file before defaults.
fn load(args: Args) -> anyhow::Result<BrokerConfig> {
    let mut properties = args.properties;
    if let Some(listen) = args.listen {
        properties.push(("listeners".to_owned(), format!("PLAINTEXT://{listen}")));
    }
    if let Some(data_dir) = args.data_dir {
        let data_dir = data_dir.into_os_string().into_string();
        let data_dir =
            data_dir.map_err(|name| anyhow::anyhow!("--data-dir {}: not UTF-8", name.display()))?;
        properties.push(("log.dirs".to_owned(), data_dir));
    }
    let options = LoadOptions {
        file: args.config.as_deref(),
        properties,
        env: std::env::vars(),
        reserved_env: &[LOG_VARIABLE, BOOTSTRAP_VARIABLE, PROFILE_VARIABLE],
    };
    Ok(BrokerConfig::load(options)?)
}

async fn serve(config: BrokerConfig) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    config.warnings.iter().for_each(|warning| warn!("{warning}"));
    let data_dir = config.log.data_dir.clone();

    let broker = tokio::select! {
        started = Broker::start(config) => started?,
        signal = signals.next() => {
            info!("{signal}: stopped before it served");
            return Ok(());
        }
    };
    let address = broker.address();
    announce(&address.to_string()).context("cannot write to standard output")?;
    info!("storing in {}", data_dir.display());
    info!("produce:  echo hello | kcat -b {address} -P -t demo");
    info!("consume:  kcat -b {address} -X auto.offset.reset=earliest -G demo-group demo");

    let signal = signals.next().await;
    info!("{signal}: stopping; a second signal stops at once");
    tokio::select! {
        stopped = broker.stop() => stopped.context("cannot close the logs"),
        signal = signals.next() => Err(anyhow!("second signal, {signal}: stopped at once")),
    }
}

fn announce(address: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on {address}")?;
    stdout.flush()
}
