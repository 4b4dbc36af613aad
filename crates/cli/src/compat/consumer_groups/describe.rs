//! `--describe`: offsets, members or state.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
};

use kavka_client::{
    ByteString, ErrorCode, TopicPartition,
    admin::{Admin, GroupMember, GroupState},
};

use super::{Flags, Name, Output, Stop, chosen, table::Table};
use crate::group::overview::{self, Overview, Partition};

const NONE: &str = "-";

pub(super) async fn run<W: Write>(
    admin: &Admin,
    flags: &Flags,
    output: &mut Output<W>,
) -> Result<(), Stop> {
    let groups = chosen(admin, flags).await?;
    let mut views = BTreeMap::new();
    for (group, view) in overview::look(admin, None, &groups).await {
        let view = view.map_err(|error| match error.code() {
            Some(ErrorCode::GroupIdNotFound) => Stop::Failed(format!(
                "org.apache.kafka.common.errors.GroupIdNotFoundException: Group {group} not found."
            )),
            _ => error.into(),
        })?;
        views.insert(group, view);
    }
    let verbose = flags.has(Name::Verbose);
    for (group, view) in &views {
        let text = if flags.has(Name::Members) {
            Some(members(group, view, verbose))
        } else if flags.has(Name::State) {
            Some(state(group, view, verbose))
        } else {
            offsets(group, view, verbose)
        };
        announce(group, view, output)?;
        if let Some(text) = text {
            output.line(format_args!("\n{text}"))?;
        }
    }
    Ok(())
}

/// What the tool says of the state before it prints anything.
fn announce<W: Write>(group: &str, view: &Overview, output: &mut Output<W>) -> Result<(), Stop> {
    match &view.description.state {
        GroupState::Empty => {
            output.aside(format_args!("\nConsumer group '{group}' has no active members."))
        }
        state if state.is_rebalancing() => {
            output.aside(format_args!("\nWarning: Consumer group '{group}' is rebalancing."))
        }
        _ => Ok(()),
    }
}

fn or_none(value: Option<impl ToString>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| value.to_string())
}

/// None if there is nothing to show.
fn offsets(group: &ByteString, view: &Overview, verbose: bool) -> Option<String> {
    let mut columns = vec![("GROUP", 15), ("TOPIC", 15), ("PARTITION", 10)];
    if verbose {
        columns.push(("LEADER-EPOCH", 15));
    }
    columns.extend([("CURRENT-OFFSET", 15), ("LOG-END-OFFSET", 15), ("LAG", 15)]);
    let consumer = columns.len();
    columns.extend([("CONSUMER-ID", 15), ("HOST", 15), ("CLIENT-ID", 0)]);
    let mut table = Table::new(&columns);
    for partition in in_order(view) {
        let owner = view.owner(partition);
        let committed = partition.committed.as_ref();
        let mut cells = vec![
            group.to_string(),
            partition.place.topic.to_string(),
            partition.place.partition.to_string(),
        ];
        if verbose {
            cells.push(or_none(committed.and_then(|committed| committed.leader_epoch)));
        }
        cells.extend([
            or_none(committed.map(|committed| committed.offset)),
            or_none(partition.end.as_ref().ok()),
            or_none(partition.lag()),
            or_none(owner.map(|owner| &owner.member_id)),
            or_none(owner.map(|owner| &owner.client_host)),
            or_none(owner.map(|owner| &owner.client_id)),
        ]);
        table.row(cells);
    }
    (!view.partitions.is_empty()).then(|| table.text(false, &[0, 1, consumer, consumer + 1]))
}

/// First what members have, those with most first; then what nobody has.
fn in_order(view: &Overview) -> Vec<&Partition> {
    let size = |partition: &Partition| {
        let owner = view.owner(partition);
        owner.and_then(|owner| owner.assignment.as_ref()).map_or(0, BTreeSet::len)
    };
    let mut partitions: Vec<&Partition> = view.partitions.iter().collect();
    partitions.sort_by_key(|partition| {
        (partition.owner.is_none(), std::cmp::Reverse(size(partition)), partition.owner)
    });
    partitions
}

fn members(group: &ByteString, view: &Overview, verbose: bool) -> String {
    let members = &view.description.members;
    let has_instances = members.iter().any(|member| member.group_instance_id.is_some());
    let is_mixed = verbose
        && members.iter().any(|member| member.is_classic == Some(true))
        && members.iter().any(|member| member.is_classic == Some(false));
    let mut columns = vec![("GROUP", 15), ("CONSUMER-ID", 15)];
    if has_instances {
        columns.push(("GROUP-INSTANCE-ID", 17));
    }
    columns.extend([("HOST", 15), ("CLIENT-ID", 15), ("#PARTITIONS", 15)]);
    if verbose {
        columns.extend([
            ("CURRENT-EPOCH", 15),
            ("CURRENT-ASSIGNMENT", 20),
            ("TARGET-EPOCH", 15),
            ("TARGET-ASSIGNMENT", 20),
        ]);
    } else {
        // The tool's format has a place left for a column that is not there.
        columns.push(("", 0));
    }
    if is_mixed {
        columns.push(("UPGRADED", 0));
    }
    let mut table = Table::new(&columns);
    for member in members {
        let mut cells = vec![group.to_string(), member.member_id.to_string()];
        if has_instances {
            cells.push(or_none(member.group_instance_id.as_ref()));
        }
        cells.extend([
            member.client_host.to_string(),
            member.client_id.to_string(),
            member.assignment.as_ref().map_or(0, BTreeSet::len).to_string(),
        ]);
        if verbose {
            cells.extend([
                or_none(member.member_epoch),
                assignment(member.assignment.as_ref()),
                or_none(target_epoch(view, member)),
                assignment(member.target_assignment.as_ref()),
            ]);
        } else {
            cells.push(String::new());
        }
        if is_mixed {
            cells.push((member.is_classic == Some(false)).to_string());
        }
        table.row(cells);
    }
    let growing: Vec<usize> = (0..columns.len()).filter(|at| columns[*at].1 > 0).collect();
    table.text(true, &growing)
}

fn target_epoch(view: &Overview, member: &GroupMember) -> Option<i32> {
    member.target_assignment.as_ref().and(view.description.assignment_epoch)
}

/// `topicA:0,1;topicB:2`.
fn assignment(places: Option<&BTreeSet<TopicPartition>>) -> String {
    let mut topics: BTreeMap<&ByteString, Vec<String>> = BTreeMap::new();
    for place in places.into_iter().flatten() {
        topics.entry(&place.topic).or_default().push(place.partition.to_string());
    }
    if topics.is_empty() {
        return NONE.to_owned();
    }
    let topics: Vec<String> = topics
        .iter()
        .map(|(topic, partitions)| format!("{topic}:{}", partitions.join(",")))
        .collect();
    topics.join(";")
}

fn state(group: &ByteString, view: &Overview, verbose: bool) -> String {
    let it = &view.description;
    let mut columns =
        vec![("GROUP", 15), ("COORDINATOR (ID)", 25), ("ASSIGNMENT-STRATEGY", 20), ("STATE", 20)];
    if verbose {
        columns.extend([("GROUP-EPOCH", 15), ("TARGET-ASSIGNMENT-EPOCH", 25)]);
    }
    columns.push(("#MEMBERS", 0));
    let mut table = Table::new(&columns);
    let mut cells = vec![
        group.to_string(),
        format!("{}:{}  ({})", it.coordinator.host, it.coordinator.port, it.coordinator.id),
        or_none(it.assignor.as_ref()),
        it.state.to_string(),
    ];
    if verbose {
        cells.extend([or_none(it.group_epoch), or_none(it.assignment_epoch)]);
    }
    cells.push(it.members.len().to_string());
    table.row(cells);
    table.text(false, &[0, 1])
}
