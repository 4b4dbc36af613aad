//! `kavka topic delete`.

use kavka_client::ErrorCode;

use super::{Names, missing};
use crate::{
    failure::{self, Failure},
    options::Options,
    output::{Report, Table, column},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    names: Names,

    /// It is well if a topic does not exist
    #[arg(long)]
    if_exists: bool,
}

pub(super) async fn run(options: &Options, args: Args) -> Result<(), Failure> {
    let outcomes = options.admin()?.delete_topics(args.names.topics).await;
    let mut table = Table::new([column("topic"), column("deleted")]);
    let mut failures = Vec::new();
    for (name, outcome) in outcomes {
        match outcome {
            Ok(()) => table.push([name.to_string().into(), true.into()]),
            Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {
                if args.if_exists {
                    table.push([name.to_string().into(), false.into()]);
                } else {
                    failures.push(
                        missing(&name)
                            .advise("List topics with kavka topic list, or pass --if-exists."),
                    );
                }
            }
            Err(error) => failures.push(error.into()),
        }
    }
    if !table.is_empty() {
        Report::list("kavka.topic.delete", table).print(options.format())?;
    }
    failure::all(failures)
}
