//! `kavka compat`: commands that take the flags of Apache Kafka's tools and print what those print, for scripts that are there.

mod consumer_groups;

use std::process::ExitCode;

use clap::Subcommand;

use crate::failure::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// As kafka-consumer-groups, with its flags, columns, messages and exit codes
    #[command(disable_help_flag = true, disable_version_flag = true)]
    KafkaConsumerGroups {
        /// See: kavka compat kafka-consumer-groups --help
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAG")]
        flags: Vec<String>,
    },
}

/// Its exit codes are those of Apache's tools.
pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.command {
        Command::KafkaConsumerGroups { flags } => consumer_groups::run(&flags),
    }
}
