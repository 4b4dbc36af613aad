//! `kavka group describe`.

use std::collections::BTreeSet;

use kavka_client::{
    ByteString, ErrorCode, TopicPartition,
    admin::{GroupFilter, GroupMember},
};

use super::overview::{self, Overview};
use crate::{
    completions,
    failure::{self, Failure},
    options::Options,
    output::{Column, Report, Section, Table, Value, column, object, wide},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The groups
    #[arg(required_unless_present = "all", value_name = "GROUP", add = completions::groups())]
    groups: Vec<String>,

    /// Every group there is
    #[arg(long, conflicts_with = "groups")]
    all: bool,
}

const MEMBER: [Column; 9] = [
    column("member_id"),
    wide("group_instance_id"),
    column("client_id"),
    column("host"),
    wide("rack"),
    wide("member_epoch"),
    wide("subscription"),
    column("partitions"),
    wide("assignment"),
];

const OFFSET: [Column; 10] = [
    column("topic"),
    column("partition"),
    column("committed_offset"),
    wide("committed_leader_epoch"),
    column("log_end_offset"),
    column("lag"),
    wide("metadata"),
    column("member_id"),
    wide("client_id"),
    wide("host"),
];

pub(super) async fn run(options: &Options, args: Args) -> Result<(), Failure> {
    let admin = options.admin()?;
    let groups: BTreeSet<ByteString> = if args.all {
        admin.list_groups(&GroupFilter::default()).await?.groups.into_keys().collect()
    } else {
        args.groups.iter().map(|group| group.as_str().into()).collect()
    };
    let views = overview::look(&admin, options.timeout, &groups).await;

    let mut data = Vec::new();
    let mut sections = Vec::new();
    let mut flat_columns = vec![column("group"), column("state")];
    flat_columns.extend(OFFSET);
    let mut flat = Table::new(flat_columns);
    let mut failures = Vec::new();
    for (group, view) in views {
        let view = match view {
            Ok(view) => view,
            // Somebody deleted it since the list was made.
            Err(error) if args.all && error.code() == Some(ErrorCode::GroupIdNotFound) => continue,
            Err(error) => {
                failures.push(overview::failure(&group, error));
                continue;
            }
        };
        if view.description.state.is_rebalancing() {
            options.notes().say(format_args!(
                "Group {group} is rebalancing: who reads which partition is not settled."
            ));
        }
        let (members, offsets) = (members(&view), offsets(&view));
        data.push(to_object(&view, &members, &offsets));
        sections.push(Section { heading: Some(heading(&view)), table: members });
        if !offsets.is_empty() {
            for row in offsets.rows() {
                let mut cells: Vec<Value> =
                    vec![group.to_string().into(), view.description.state.to_string().into()];
                cells.extend(row.iter().cloned());
                flat.push(cells);
            }
            sections.push(Section { heading: None, table: offsets });
        }
    }
    if !data.is_empty() || failures.is_empty() {
        Report::nested("kavka.group.describe", data, sections, flat).print(options.format())?;
    }
    failure::all(failures)
}

fn heading(view: &Overview) -> String {
    let it = &view.description;
    let mut words = vec![format!("{} {}", it.group_type, it.state)];
    words.extend(it.assignor.as_ref().map(|assignor| format!("assignor {assignor}")));
    words.extend(it.group_epoch.map(|epoch| format!("epoch {epoch}")));
    words.push(format!(
        "coordinator {}:{} (id {})",
        it.coordinator.host, it.coordinator.port, it.coordinator.id
    ));
    words.push(match it.members.len() {
        1 => "1 member".to_owned(),
        many => format!("{many} members"),
    });
    words.extend(view.total_lag().map(|lag| format!("lag {lag}")));
    format!("Group {}: {}", it.group_id, words.join(", "))
}

fn members(view: &Overview) -> Table {
    let mut table = Table::new(MEMBER);
    for member in &view.description.members {
        table.push([
            member.member_id.to_string().into(),
            member.group_instance_id.as_ref().map(ByteString::to_string).into(),
            member.client_id.to_string().into(),
            host(member).into(),
            member.rack.as_ref().map(ByteString::to_string).into(),
            member.member_epoch.into(),
            subscription(member),
            member.assignment.as_ref().map(BTreeSet::len).into(),
            member.assignment.as_ref().map(places).into(),
        ]);
    }
    table
}

fn offsets(view: &Overview) -> Table {
    let mut table = Table::new(OFFSET);
    for partition in &view.partitions {
        let committed = partition.committed.as_ref();
        let owner = view.owner(partition);
        table.push([
            partition.place.topic.to_string().into(),
            partition.place.partition.into(),
            committed.map(|committed| committed.offset).into(),
            committed.and_then(|committed| committed.leader_epoch).into(),
            partition.end.as_ref().ok().copied().into(),
            partition.lag().into(),
            committed
                .map(|committed| committed.metadata.to_string())
                .filter(|metadata| !metadata.is_empty())
                .into(),
            owner.map(|member| member.member_id.to_string()).into(),
            owner.map(|member| member.client_id.to_string()).into(),
            owner.map(host).into(),
        ]);
    }
    table
}

fn to_object(view: &Overview, members: &Table, offsets: &Table) -> Value {
    let it = &view.description;
    object([
        ("group", it.group_id.to_string().into()),
        ("type", it.group_type.to_string().into()),
        ("state", it.state.to_string().into()),
        ("protocol_type", it.protocol_type.to_string().into()),
        ("assignor", it.assignor.as_ref().map(ByteString::to_string).into()),
        ("group_epoch", it.group_epoch.into()),
        ("assignment_epoch", it.assignment_epoch.into()),
        (
            "coordinator",
            object([
                ("id", it.coordinator.id.into()),
                ("host", it.coordinator.host.to_string().into()),
                ("port", i32::from(it.coordinator.port).into()),
            ]),
        ),
        ("lag", view.total_lag().into()),
        ("members", Value::List(members.objects())),
        ("offsets", Value::List(offsets.objects())),
    ])
}

/// Brokers write a slash in front, as Java does.
fn host(member: &GroupMember) -> String {
    member.client_host.strip_prefix('/').unwrap_or(&member.client_host).to_owned()
}

fn subscription(member: &GroupMember) -> Value {
    match (&member.subscription, &member.subscription_pattern) {
        (_, Some(pattern)) => Value::List(vec![format!("/{pattern}/").into()]),
        (Some(topics), None) => {
            Value::List(topics.iter().map(|topic| topic.to_string().into()).collect())
        }
        (None, None) => Value::Null,
    }
}

fn places(places: &BTreeSet<TopicPartition>) -> Vec<String> {
    places.iter().map(|place| format!("{}:{}", place.topic, place.partition)).collect()
}
