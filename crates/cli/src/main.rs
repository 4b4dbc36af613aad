//! `kavka`: the one binary.
//!
//! Exit codes: 0 after success or a clean stop, 1 when something failed, 2 when the command line or the configuration is
//! wrong, 3 when a condition that was asked for is not met. Data goes to standard output, everything else to standard error.

mod compat;
mod completions;
mod consume;
mod failure;
mod group;
mod man;
mod options;
mod output;
mod produce;
mod record;
mod serve;
mod signals;
mod time;
mod topic;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::failure::Exit;

/// A Kafka-compatible broker whose consumer groups explain themselves, and the tools to work with it and with any Kafka.
#[derive(Debug, Parser)]
#[command(name = "kavka", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker
    Serve(serve::Args),
    /// Look at topics and change them
    Topic(topic::Args),
    /// Look at consumer groups and change them
    Group(group::Args),
    /// Send records, a line each
    Produce(produce::Args),
    /// Read records
    Consume(consume::Args),
    /// Do as a tool of Apache Kafka does
    Compat(compat::Args),
    /// Print the line that gives a shell completions, with the names of topics and groups that are there
    Completions(completions::Args),
    /// Write manual pages
    Man(man::Args),
}

/// The command line or the configuration is wrong.
const USAGE: u8 = Exit::Usage as u8;

fn main() -> ExitCode {
    completions::answer_shell();
    let matches = command().get_matches();
    let parsed = options::gather(&matches)
        .and_then(|options| Ok((Cli::from_arg_matches(&matches)?, options)));
    let (cli, options) = parsed.unwrap_or_else(|wrong| wrong.exit());
    let done = match cli.command {
        Command::Serve(args) => return serve::run(args),
        Command::Topic(args) => topic::run(args, &options),
        Command::Group(args) => group::run(args, &options),
        Command::Produce(args) => produce::run(args, &options),
        Command::Consume(args) => consume::run(args, &options),
        Command::Compat(args) => match compat::run(args) {
            Ok(code) => return code,
            Err(failure) => Err(failure),
        },
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(output::tell_failure(&failure)),
    }
}

/// The definition of every command and option.
fn command() -> clap::Command {
    options::allow_everywhere(Cli::command())
}

/// `NAME=VALUE` on the command line.
fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.to_owned()))
        }
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}
