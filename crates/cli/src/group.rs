//! `kavka group`: looks at consumer groups and changes them.

mod check;
mod delete;
mod delete_offsets;
mod describe;
mod list;
pub(crate) mod offsets_file;
pub(crate) mod overview;
pub(crate) mod plan;
mod remove_members;
mod seek;

use clap::Subcommand;

use crate::{failure::Failure, options::Options};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List groups with their states and types
    List(list::Args),
    /// Show state, coordinator, members, offsets and lag of groups, also while they rebalance
    Describe(describe::Args),
    /// Check conditions, as a probe: 0 if all are met, 3 if not
    Check(check::Args),
    /// Move the committed offsets of a group that has no members
    Seek(seek::Args),
    /// Delete groups that have no members, with their offsets
    Delete(delete::Args),
    /// Make a group forget what it committed of topics that no member reads
    DeleteOffsets(delete_offsets::Args),
    /// Make members leave a group, so that their partitions go to the others
    RemoveMembers(remove_members::Args),
}

pub(crate) fn run(args: Args, options: &Options) -> Result<(), Failure> {
    options.run(async |options| {
        let command = async {
            match args.command {
                Command::List(args) => list::run(&options, args).await,
                Command::Describe(args) => describe::run(&options, args).await,
                Command::Check(args) => check::run(&options, args).await,
                Command::Seek(args) => seek::run(&options, args).await,
                Command::Delete(args) => delete::run(&options, args).await,
                Command::DeleteOffsets(args) => delete_offsets::run(&options, args).await,
                Command::RemoveMembers(args) => remove_members::run(&options, args).await,
            }
        };
        options.asked(command).await
    })
}

/// There is no such group.
fn missing(group: &str) -> Failure {
    Failure::new(format!("group {group} does not exist")).advise(
        "List groups with kavka group list. A group exists once a member joined or an offset was committed.",
    )
}
