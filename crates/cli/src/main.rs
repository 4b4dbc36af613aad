//! `kavka`: the one binary.
//!
//! Exit codes: 0 after a clean stop, 1 when something failed, 2 when the command line or the configuration is wrong.

mod serve;
mod signals;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A Kafka-compatible broker whose consumer groups explain themselves.
#[derive(Debug, Parser)]
#[command(name = "kavka", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker.
    Serve(serve::Args),
}

/// The command line or the configuration is wrong.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => serve::run(args),
    }
}
