//! `--reset-offsets`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
};

use kavka_client::{
    ByteString, ErrorCode, TopicPartition,
    admin::{Admin, CommittedOffset, GroupState, OffsetsOfGroup},
};

use super::{Flags, Name, Output, Stop, UNKNOWN_PARTITION, chosen, flags, scopes, table::Table};
use crate::{
    group::{
        offsets_file::{self, Offsets},
        plan::{self, NoPlan, NoScope, Step, Target},
    },
    time,
};

/// What is committed now.
type Committed = BTreeMap<TopicPartition, Option<i64>>;

pub(super) async fn run<W: Write>(
    admin: &Admin,
    flags: &Flags,
    output: &mut Output<W>,
) -> Result<(), Stop> {
    let groups = chosen(admin, flags).await?;
    let described = admin.describe_groups(groups.iter().cloned()).await;
    let mut moved: BTreeMap<ByteString, Offsets> = BTreeMap::new();
    for (group, description) in described {
        let state = match description {
            Ok(description) => description.state,
            Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => GroupState::Dead,
            Err(error) => return Err(error.into()),
        };
        let offsets = match state {
            GroupState::Empty | GroupState::Dead => {
                reset(admin, flags, &group, &groups, output).await?
            }
            state => {
                output.error(format_args!(
                    "Assignments can only be reset if the group '{group}' is inactive, but the current state is {state}."
                ))?;
                Offsets::new()
            }
        };
        moved.insert(group, offsets);
    }
    if flags.has(Name::Export) { export(flags, &moved, output) } else { print(&moved, output) }
}

/// Where a group goes; takes it there with `--execute`.
async fn reset<W: Write>(
    admin: &Admin,
    flags: &Flags,
    group: &ByteString,
    groups: &BTreeSet<ByteString>,
    output: &mut Output<W>,
) -> Result<Offsets, Stop> {
    let target = match flags.value(Name::FromFile)? {
        Some(path) => match from_file(path, group, groups)? {
            Some(offsets) => Some(Target::Each(offsets)),
            None => {
                output.error(format_args!("No reset plan for group {group} found"))?;
                return Ok(Offsets::new());
            }
        },
        None => None,
    };
    let all = admin.list_group_offsets([OffsetsOfGroup::all(group.clone())], false).await;
    let mut now = Committed::new();
    for (place, offset) in all.into_values().next().transpose()?.unwrap_or_default() {
        now.insert(place, offset?.map(|committed| committed.offset));
    }
    let committed = match &target {
        Some(Target::Each(offsets)) => of(offsets.keys().cloned(), &now),
        _ if flags.has(Name::AllTopics) => now,
        _ if flags.has(Name::Topic) => {
            let places = plan::within(admin, &scopes(flags)?).await;
            let places = places.map_err(|NoScope { error, .. }| match error.code() {
                Some(ErrorCode::UnknownTopicOrPartition) => {
                    Stop::Failed(UNKNOWN_PARTITION.to_owned())
                }
                _ => error.into(),
            })?;
            of(places, &now)
        }
        _ => {
            return Err(Stop::Usage(
                "One of the reset scopes should be defined: --all-topics, --topic.".to_owned(),
            ));
        }
    };
    let target = match target {
        Some(target) => target,
        None => scenario(flags)?,
    };
    let steps = plan::plan(admin, &target, &committed).await.map_err(no_plan)?;
    for (place, step) in &steps {
        tell_step(place, step, output)?;
    }
    let offsets: Offsets = steps.into_iter().map(|(place, step)| (place, step.offset)).collect();
    if flags.has(Name::Execute) {
        let commit = offsets.iter().map(|(place, at)| (place.clone(), CommittedOffset::new(*at)));
        let outcomes = admin.alter_group_offsets(group.clone(), commit).await;
        outcomes.into_values().try_for_each(|outcome| outcome)?;
    }
    Ok(offsets)
}

fn of(places: impl IntoIterator<Item = TopicPartition>, committed: &Committed) -> Committed {
    let now = |place: TopicPartition| {
        let offset = committed.get(&place).copied().flatten();
        (place, offset)
    };
    places.into_iter().map(now).collect()
}

/// None if the file has nothing for the group.
fn from_file(
    path: &str,
    group: &ByteString,
    groups: &BTreeSet<ByteString>,
) -> Result<Option<Offsets>, Stop> {
    let text = std::fs::read_to_string(path)
        .map_err(|_| Stop::Failed(format!("java.io.IOException: Unable to read file {path}")))?;
    let plans = offsets_file::parse(&text, group).map_err(|bad| {
        Stop::Failed(format!("Unable to read line {} of file {path}: {}", bad.line, bad.text))
    })?;
    // Lines of three fields are for the one group there is.
    let is_for_all = plans.len() == 1 && plans.contains_key(group) && groups.len() > 1;
    if is_for_all && text.lines().next().is_some_and(|line| line.matches(',').count() == 2) {
        return Ok(None);
    }
    Ok(plans.get(group).cloned())
}

fn scenario(flags: &Flags) -> Result<Target, Stop> {
    if let Some(offset) = flags.number(Name::ToOffset)? {
        return Ok(Target::Offset(offset));
    }
    if flags.has(Name::ToEarliest) {
        return Ok(Target::Earliest);
    }
    if flags.has(Name::ToLatest) {
        return Ok(Target::Latest);
    }
    if let Some(distance) = flags.number(Name::ShiftBy)? {
        return Ok(Target::ShiftBy(distance));
    }
    if let Some(text) = flags.value(Name::ToDatetime)? {
        return time::parse_kafka_datetime(text).map(Target::Time).ok_or_else(|| {
            let reason = if text.contains('T') {
                format!("Unparseable date: \"{text}\"")
            } else {
                "Error parsing timestamp. It does not contain a 'T' according to ISO8601 format"
                    .to_owned()
            };
            Stop::Failed(format!("java.text.ParseException: {reason}"))
        });
    }
    if let Some(text) = flags.value(Name::ByDuration)? {
        let span = time::parse_iso_duration(text)
            .ok_or_else(|| Stop::Failed("Text cannot be parsed to a Duration".to_owned()))?;
        return Ok(Target::Time(time::now_ms() - span));
    }
    if flags.has(Name::ToCurrent) {
        return Ok(Target::Current);
    }
    let scenarios = flags::SCENARIOS.map(|name| format!("[{}]", flags::word(name))).join(", ");
    Err(Stop::Usage(format!(
        "Option '[reset-offsets]' requires one of the following scenarios: [{scenarios}]"
    )))
}

fn no_plan(no_plan: NoPlan) -> Stop {
    let names = |places: &[TopicPartition]| {
        let names: Vec<String> =
            places.iter().map(|place| format!("{}-{}", place.topic, place.partition)).collect();
        names.join(",")
    };
    match no_plan {
        NoPlan::Missing(places) => {
            Stop::Failed(format!("The partitions \"{}\" do not exist", names(&places)))
        }
        NoPlan::Leaderless(places) => {
            Stop::Failed(format!("The partitions \"{}\" have no leader", names(&places)))
        }
        NoPlan::Uncommitted(places) => Stop::Usage(format!(
            "Cannot shift offset for partition {} since there is no current committed offset",
            names(&places[..1])
        )),
        NoPlan::Failed(error) => error.into(),
    }
}

/// Offsets that are not quite what was asked for.
fn tell_step<W: Write>(
    place: &TopicPartition,
    step: &Step,
    output: &mut Output<W>,
) -> Result<(), Stop> {
    let TopicPartition { topic, partition } = place;
    if let Some(wanted) = step.wanted {
        let now = time::format_ms(time::now_ms()).replace('T', " ").replace('.', ",");
        let bound = if wanted > step.offset { "higher than latest" } else { "lower than earliest" };
        output.aside(format_args!(
            "[{}] WARN New offset ({wanted}) is {bound} offset for topic partition {topic}-{partition}. \
             Value will be set to {} (org.apache.kafka.tools.OffsetsUtils)",
            now.trim_end_matches('Z'),
            step.offset
        ))?;
    }
    if step.is_end_instead {
        output.line(format_args!(
            "\nWarn: Partition {partition} from topic {topic} is empty. Falling back to latest known offset."
        ))?;
    }
    Ok(())
}

fn print<W: Write>(
    moved: &BTreeMap<ByteString, Offsets>,
    output: &mut Output<W>,
) -> Result<(), Stop> {
    let mut table =
        Table::new(&[("GROUP", 15), ("TOPIC", 15), ("PARTITION", 10), ("NEW-OFFSET", 0)]);
    for (group, offsets) in moved {
        for (place, offset) in offsets {
            table.row([
                group.to_string(),
                place.topic.to_string(),
                place.partition.to_string(),
                offset.to_string(),
            ]);
        }
    }
    output.line(format_args!("\n{}", table.text(false, &[0, 1])))
}

fn export<W: Write>(
    flags: &Flags,
    moved: &BTreeMap<ByteString, Offsets>,
    output: &mut Output<W>,
) -> Result<(), Stop> {
    let is_one = flags.values(Name::Group).count() == 1;
    for (group, offsets) in moved {
        for (place, offset) in offsets {
            output.line(offsets_file::line((!is_one).then_some(&**group), place, *offset))?;
        }
    }
    output.line("")
}
