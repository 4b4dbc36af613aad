//! `kavka group list`.

use kavka_client::admin::{GroupFilter, GroupState, GroupType};

use crate::{
    failure::{self, Failure},
    options::Options,
    output::{Report, Table, column, wide},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only groups in one of these states, such as Stable,Empty
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',', value_parser = state)]
    states: Vec<GroupState>,

    /// Only groups of one of these types: classic, consumer, share, streams
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',', value_parser = group_type)]
    types: Vec<GroupType>,
}

pub(super) fn state(text: &str) -> Result<GroupState, String> {
    text.parse().map_err(|error: kavka_client::Error| error.to_string())
}

fn group_type(text: &str) -> Result<GroupType, String> {
    text.parse().map_err(|error: kavka_client::Error| error.to_string())
}

pub(super) async fn run(options: &Options, args: Args) -> Result<(), Failure> {
    let filter = GroupFilter {
        states: args.states.into_iter().collect(),
        types: args.types.into_iter().collect(),
    };
    let list = options.admin()?.list_groups(&filter).await?;
    let mut table = Table::new([
        column("group"),
        column("type"),
        column("state"),
        wide("protocol_type"),
        column("coordinator"),
    ]);
    for group in list.groups.into_values() {
        table.push([
            group.group_id.to_string().into(),
            group.group_type.map(|group_type| group_type.to_string()).into(),
            group.state.map(|state| state.to_string()).into(),
            group.protocol_type.to_string().into(),
            group.coordinator.into(),
        ]);
    }
    if table.is_empty() && list.errors.is_empty() {
        options.notes().say("There are no such groups.");
    }
    Report::list("kavka.group.list", table).print(options.format())?;
    // What could be seen is shown, and that it is not all is told.
    let failures = list.errors.into_iter().map(|(broker, error)| {
        Failure::from(error)
            .while_doing(format_args!("the groups that broker {broker} coordinates are missing"))
    });
    failure::all(failures.collect())
}
