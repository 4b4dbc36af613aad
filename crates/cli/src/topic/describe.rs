//! `kavka topic describe`.

use std::collections::BTreeMap;

use kavka_client::{
    ByteString, Error, ErrorCode, TopicPartition,
    admin::{
        ConfigEntry, ConfigResource, ConfigSource, DescribeConfigs, OffsetSpec, TopicDescription,
    },
};

use super::{Names, missing};
use crate::{
    failure::{self, Failure},
    group::overview::ends,
    options::Options,
    output::{Column, Report, Section, Table, Value, column, object, wide},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    names: Names,
}

const PARTITION: [Column; 10] = [
    column("partition"),
    column("leader"),
    wide("leader_epoch"),
    column("replicas"),
    column("in_sync_replicas"),
    wide("offline_replicas"),
    column("log_start_offset"),
    column("log_end_offset"),
    column("records"),
    wide("error"),
];

type Ends = BTreeMap<TopicPartition, Result<i64, Error>>;

pub(super) async fn run(options: &Options, args: Args) -> Result<(), Failure> {
    let admin = options.admin()?;
    let names: Vec<ByteString> =
        args.names.topics.iter().map(|name| name.as_str().into()).collect();
    let resources = names.iter().cloned().map(ConfigResource::Topic);
    let all = DescribeConfigs::default();
    let (described, mut configs) = tokio::join!(
        admin.describe_topics(names.iter().cloned()),
        admin.describe_configs(resources, &all),
    );
    let led = described.iter().flat_map(|(name, topic)| {
        let partitions = topic.iter().flat_map(|topic| &topic.partitions);
        let led = partitions.filter(|partition| partition.leader.is_some());
        led.map(|partition| TopicPartition::new(name.clone(), partition.partition))
    });
    let led: Vec<TopicPartition> = led.collect();
    let (starts, ends) = tokio::join!(
        ends(&admin, led.iter().cloned(), OffsetSpec::Earliest),
        ends(&admin, led.iter().cloned(), OffsetSpec::Latest),
    );

    let mut data = Vec::new();
    let mut sections = Vec::new();
    let mut flat_columns = vec![column("topic")];
    flat_columns.extend(PARTITION);
    let mut flat = Table::new(flat_columns);
    let mut failures = Vec::new();
    for (name, topic) in described {
        let topic = match topic {
            Ok(topic) => topic,
            Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {
                failures.push(missing(&name));
                continue;
            }
            Err(error) => {
                failures.push(error.into());
                continue;
            }
        };
        let configs = match configs.remove(&ConfigResource::Topic(name.clone())) {
            Some(Ok(configs)) => Some(set_for_topic(configs)),
            Some(Err(error)) => {
                options
                    .notes()
                    .warn(format_args!("the configs of topic {name} are missing: {error}"));
                None
            }
            None => None,
        };
        let table = partitions(&topic, &starts, &ends);
        for row in table.rows() {
            let mut cells: Vec<Value> = vec![name.to_string().into()];
            cells.extend(row.iter().cloned());
            flat.push(cells);
        }
        data.push(object([
            ("topic", name.to_string().into()),
            ("topic_id", topic.id.map(|id| id.to_string()).into()),
            ("internal", topic.is_internal.into()),
            ("configs", configs.clone().map(object::<String>).unwrap_or(Value::Null)),
            ("partitions", Value::List(table.objects())),
        ]));
        sections.push(Section { heading: Some(heading(&topic, configs)), table });
    }
    if !data.is_empty() {
        Report::nested("kavka.topic.describe", data, sections, flat).print(options.format())?;
    }
    failure::all(failures)
}

/// The configs that somebody set for the topic itself.
fn set_for_topic(configs: BTreeMap<ByteString, ConfigEntry>) -> Vec<(String, Value)> {
    let set = configs.into_iter().filter(|(_, entry)| entry.source == ConfigSource::Topic);
    set.map(|(name, entry)| (name.to_string(), entry.value.map(|value| value.to_string()).into()))
        .collect()
}

fn heading(topic: &TopicDescription, configs: Option<Vec<(String, Value)>>) -> String {
    let mut words = vec![match topic.partitions.len() {
        1 => "1 partition".to_owned(),
        many => format!("{many} partitions"),
    }];
    words.extend(topic.id.map(|id| format!("id {id}")));
    if topic.is_internal {
        words.push("internal".to_owned());
    }
    for (name, value) in configs.into_iter().flatten() {
        match value {
            Value::Text(value) => words.push(format!("{name}={value}")),
            _ => words.push(format!("{name} is secret")),
        }
    }
    format!("Topic {}: {}", topic.name, words.join(", "))
}

fn partitions(topic: &TopicDescription, starts: &Ends, ends: &Ends) -> Table {
    let mut table = Table::new(PARTITION);
    for it in &topic.partitions {
        let place = TopicPartition::new(topic.name.clone(), it.partition);
        let offset =
            |found: &Ends| found.get(&place).and_then(|found| found.as_ref().ok().copied());
        let (start, end) = (offset(starts), offset(ends));
        let error = match (it.leader, ends.get(&place)) {
            (None, _) => Some("no leader".to_owned()),
            (_, Some(Err(error))) => Some(error.to_string()),
            _ => None,
        };
        table.push([
            it.partition.into(),
            it.leader.into(),
            it.leader_epoch.into(),
            it.replicas.clone().into(),
            it.in_sync_replicas.clone().into(),
            it.offline_replicas.clone().into(),
            start.into(),
            end.into(),
            start.zip(end).map(|(start, end)| end - start).into(),
            error.into(),
        ]);
    }
    table
}
