//! `kavka topic`: looks at topics and changes them.

mod alter;
mod create;
mod delete;
mod describe;
mod list;

use clap::Subcommand;

use crate::{completions, failure::Failure, options::Options};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List topics
    List(list::Args),
    /// Show partitions with leaders, copies and offsets, and the configs that differ from the defaults
    Describe(describe::Args),
    /// Create topics
    Create(create::Args),
    /// Delete topics with all their records
    Delete(delete::Args),
    /// Add partitions to a topic, and set or unset its configs
    Alter(alter::Args),
}

pub(crate) fn run(args: Args, options: &Options) -> Result<(), Failure> {
    options.run(async |options| {
        let command = async {
            match args.command {
                Command::List(args) => list::run(&options, args).await,
                Command::Describe(args) => describe::run(&options, args).await,
                Command::Create(args) => create::run(&options, args).await,
                Command::Delete(args) => delete::run(&options, args).await,
                Command::Alter(args) => alter::run(&options, args).await,
            }
        };
        options.asked(command).await
    })
}

/// Names of topics on the command line.
#[derive(Debug, clap::Args)]
struct Names {
    /// The topics
    #[arg(required = true, value_name = "TOPIC", add = completions::topics())]
    topics: Vec<String>,
}

/// There is no such topic.
pub(crate) fn missing(name: &str) -> Failure {
    Failure::new(format!("topic {name} does not exist"))
        .advise("List topics with kavka topic list.")
}

/// The topic has not so many partitions.
pub(crate) fn no_partition(topic: &str, partition: i32, count: usize) -> Failure {
    Failure::new(format!("topic {topic} has no partition {partition}"))
        .advise(format!("It has {count}, from 0 on."))
}
