//! `kavka topic create`.

use kavka_client::{
    ErrorCode,
    admin::{Change, NewTopic},
};

use crate::{
    failure::{self, Failure},
    options::Options,
    output::{Report, Table, Value, column, wide},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,

    /// How many partitions each gets [default: the broker's num.partitions]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,

    /// How many copies of each partition there are [default: the broker's default.replication.factor]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,

    /// A topic config, such as retention.ms=3600000; repeatable
    #[arg(short, long = "config", value_name = "NAME=VALUE", value_parser = crate::property)]
    configs: Vec<(String, String)>,

    /// Let topics that exist already be, whatever their partitions and configs are
    #[arg(long)]
    if_not_exists: bool,

    /// Only check whether it could be done
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(options: &Options, args: Args) -> Result<(), Failure> {
    let topics = args.topics.iter().map(|name| {
        let mut topic = NewTopic::new(name.as_str());
        if let Some(partitions) = args.partitions {
            topic = topic.partitions(partitions);
        }
        if let Some(replication_factor) = args.replication_factor {
            topic = topic.replication_factor(replication_factor);
        }
        args.configs
            .iter()
            .fold(topic, |topic, (name, value)| topic.config(name.as_str(), value.as_str()))
    });
    let change = if args.dry_run { Change::Validate } else { Change::Apply };
    let outcomes = options.admin()?.create_topics(topics, change).await;

    let mut table = Table::new([
        column("topic"),
        column("partitions"),
        column("replication_factor"),
        column("created"),
        wide("topic_id"),
    ]);
    let mut failures = Vec::new();
    for (name, outcome) in outcomes {
        match outcome {
            Ok(topic) => table.push([
                name.to_string().into(),
                topic.partitions.into(),
                topic.replication_factor.map(i32::from).into(),
                (!args.dry_run).into(),
                topic.id.map(|id| id.to_string()).into(),
            ]),
            Err(error) if is_there(&error) && args.if_not_exists => table.push([
                name.to_string().into(),
                Value::Null,
                Value::Null,
                false.into(),
                Value::Null,
            ]),
            Err(error) if is_there(&error) => failures.push(
                Failure::new(format!("topic {name} exists already"))
                    .advise("Pass --if-not-exists to take it as it is."),
            ),
            Err(error) => failures.push(error.into()),
        }
    }
    if args.dry_run && failures.is_empty() {
        options.notes().say("Nothing was created: this was a dry run.");
    }
    if !table.is_empty() {
        Report::list("kavka.topic.create", table).print(options.format())?;
    }
    failure::all(failures)
}

fn is_there(error: &kavka_client::Error) -> bool {
    error.code() == Some(ErrorCode::TopicAlreadyExists)
}
