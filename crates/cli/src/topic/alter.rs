//! `kavka topic alter`.

use std::collections::BTreeMap;

use kavka_client::{
    ByteString, ErrorCode,
    admin::{
        Admin, Change, ConfigChange, ConfigEntry, ConfigResource, DescribeConfigs, NewPartitions,
    },
};

use super::missing;
use crate::{
    completions,
    failure::Failure,
    options::Options,
    output::{Report, Table, Value, column},
};

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub(super) struct Args {
    /// The topic
    #[arg(add = completions::topics())]
    topic: String,

    /// How many partitions it is to have; more than it has. Keys may go to other partitions than before
    #[arg(short, long, value_name = "N", group = "change", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,

    /// Set a topic config, such as retention.ms=3600000; repeatable
    #[arg(long, value_name = "NAME=VALUE", group = "change", value_parser = crate::property)]
    set: Vec<(String, String)>,

    /// Unset a topic config, so that the broker's default is in force; repeatable
    #[arg(long, value_name = "NAME", group = "change")]
    unset: Vec<String>,

    /// Only check whether it could be done
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(options: &Options, args: Args) -> Result<(), Failure> {
    let admin = options.admin()?;
    let change = if args.dry_run { Change::Validate } else { Change::Apply };
    let topic = ByteString::from(args.topic.as_str());
    let partitions_before = partitions(&admin, &topic).await?;
    let mut table =
        Table::new([column("topic"), column("setting"), column("before"), column("after")]);
    let mut row = |setting: &str, before: Value, after: Value| {
        table.push([args.topic.as_str().into(), setting.into(), before, after]);
    };

    // Configs first: they can be set back if adding partitions fails, partitions cannot be taken back.
    let changes: BTreeMap<ByteString, ConfigChange> = args
        .set
        .iter()
        .map(|(name, value)| (name.as_str().into(), ConfigChange::Set(value.as_str().into())))
        .chain(args.unset.iter().map(|name| (name.as_str().into(), ConfigChange::Delete)))
        .collect();
    if !changes.is_empty() {
        let before = configs(&admin, &topic, &changes).await?;
        let resource = ConfigResource::Topic(topic.clone());
        let outcomes = admin.alter_configs([(resource, changes.clone())], change).await;
        outcomes.into_values().try_for_each(|outcome| outcome)?;
        let after = match change {
            Change::Apply => configs(&admin, &topic, &changes).await?,
            Change::Validate => BTreeMap::new(),
        };
        for (name, change) in &changes {
            let value = |configs: &BTreeMap<ByteString, ConfigEntry>| {
                let entry = configs.get(name);
                Value::from(entry.and_then(|entry| entry.value.as_ref()).map(ByteString::to_string))
            };
            let after = match (after.is_empty(), change) {
                (true, ConfigChange::Set(new)) => new.to_string().into(),
                _ => value(&after),
            };
            row(name, value(&before), after);
        }
    }
    if let Some(partitions) = args.partitions {
        let more = [(topic.clone(), NewPartitions::up_to(partitions))];
        let outcomes = admin.create_partitions(more, change).await;
        outcomes.into_values().try_for_each(|outcome| outcome)?;
        row("partitions", partitions_before.into(), partitions.into());
    }
    if args.dry_run {
        options.notes().say("Nothing was changed: this was a dry run.");
    }
    Report::list("kavka.topic.alter", table).print(options.format())
}

/// How many partitions the topic has.
async fn partitions(admin: &Admin, topic: &ByteString) -> Result<usize, Failure> {
    match admin.describe_topics([topic.clone()]).await.remove(topic) {
        Some(Ok(description)) => Ok(description.partitions.len()),
        Some(Err(error)) if error.code() != Some(ErrorCode::UnknownTopicOrPartition) => {
            Err(error.into())
        }
        _ => Err(missing(topic)),
    }
}

async fn configs(
    admin: &Admin,
    topic: &ByteString,
    changes: &BTreeMap<ByteString, ConfigChange>,
) -> Result<BTreeMap<ByteString, ConfigEntry>, Failure> {
    let resource = ConfigResource::Topic(topic.clone());
    let what = DescribeConfigs { names: changes.keys().cloned().collect(), ..Default::default() };
    let described = admin.describe_configs([resource.clone()], &what).await.remove(&resource);
    Ok(described.transpose()?.unwrap_or_default())
}
