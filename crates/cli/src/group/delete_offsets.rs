//! `kavka group delete-offsets`.

use kavka_client::{Error, ErrorCode, TopicPartition};

use super::{
    missing,
    plan::{self, Scope},
    seek::{no_scope, scope},
};
use crate::{
    completions,
    failure::{self, Failure},
    options::Options,
    output::{Report, Table, column},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The group
    #[arg(add = completions::groups())]
    group: String,

    /// The topic, or of it only some partitions: orders:0,2; repeatable
    #[arg(long = "topic", required = true, value_name = "TOPIC[:N,N]", value_parser = scope, add = completions::topics())]
    topics: Vec<Scope>,
}

pub(super) async fn run(options: &Options, args: Args) -> Result<(), Failure> {
    let admin = options.admin()?;
    let places = plan::within(&admin, &args.topics).await.map_err(no_scope)?;
    let outcomes = admin.delete_group_offsets(args.group.as_str(), places).await;
    let mut table =
        Table::new([column("group"), column("topic"), column("partition"), column("deleted")]);
    let mut failures = Vec::new();
    for (place, outcome) in outcomes {
        match outcome {
            Ok(()) => table.push([
                args.group.as_str().into(),
                place.topic.to_string().into(),
                place.partition.into(),
                true.into(),
            ]),
            // It is the same for all partitions.
            Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => {
                return Err(missing(&args.group));
            }
            Err(error) => failures.push(refused(&args.group, &place, error)),
        }
    }
    if !table.is_empty() {
        Report::list("kavka.group.delete-offsets", table).print(options.format())?;
    }
    failure::all(failures)
}

fn refused(group: &str, place: &TopicPartition, error: Error) -> Failure {
    let TopicPartition { topic, partition } = place;
    match error.code() {
        Some(ErrorCode::GroupSubscribedToTopic) => Failure::new(format!(
            "partition {partition} of topic {topic} keeps its offset: group {group} reads that topic"
        ))
        .advise(format!("Stop its members first; kavka group describe {group} names them.")),
        _ => Failure::from(error)
            .while_doing(format_args!("partition {partition} of topic {topic} keeps its offset")),
    }
}
