//! `kavka group delete`.

use kavka_client::ErrorCode;

use super::missing;
use crate::{
    completions,
    failure::{self, Failure},
    options::Options,
    output::{Report, Table, column},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The groups
    #[arg(required = true, value_name = "GROUP", add = completions::groups())]
    groups: Vec<String>,

    /// It is well if a group does not exist
    #[arg(long)]
    if_exists: bool,
}

pub(super) async fn run(options: &Options, args: Args) -> Result<(), Failure> {
    let outcomes = options.admin()?.delete_groups(args.groups).await;
    let mut table = Table::new([column("group"), column("deleted")]);
    let mut failures = Vec::new();
    for (group, outcome) in outcomes {
        let error = match outcome {
            Ok(()) => {
                table.push([group.to_string().into(), true.into()]);
                continue;
            }
            Err(error) => error,
        };
        match error.code() {
            Some(ErrorCode::GroupIdNotFound) if args.if_exists => {
                table.push([group.to_string().into(), false.into()]);
            }
            Some(ErrorCode::GroupIdNotFound) => failures.push(missing(&group)),
            Some(ErrorCode::NonEmptyGroup) => failures.push(
                Failure::new(format!("group {group} has members"))
                    .advise(format!("Stop them first; kavka group describe {group} names them.")),
            ),
            _ => failures.push(error.into()),
        }
    }
    if !table.is_empty() {
        Report::list("kavka.group.delete", table).print(options.format())?;
    }
    failure::all(failures)
}
