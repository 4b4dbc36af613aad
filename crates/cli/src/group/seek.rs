//! `kavka group seek`: moves the committed offsets of a group that is not active. Shows what would change; changes it with
//! `--execute`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    path::PathBuf,
};

use kavka_client::{
    ByteString, Error, ErrorCode, ErrorKind, TopicPartition,
    admin::{Admin, CommittedOffset, GroupDescription, OffsetsOfGroup},
};

use super::{
    offsets_file,
    plan::{self, NoPlan, NoScope, Scope, Step, Target},
};
use crate::{
    completions,
    failure::{self, Failure},
    options::Options,
    output::{Report, Table, column},
    time,
};

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("target").required(true))]
pub(super) struct Args {
    /// The group; it may not have members
    #[arg(add = completions::groups())]
    group: String,

    /// Where to: earliest, latest, current, a time such as 2026-11-21T18:30Z, or one in the past such as -2h
    #[arg(long, value_name = "WHERE", group = "target", value_parser = target, allow_hyphen_values = true)]
    to: Option<Target>,

    /// To this offset in every partition
    #[arg(long, value_name = "OFFSET", group = "target", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,

    /// So many records forward, or back if negative
    #[arg(long, value_name = "N", group = "target", allow_hyphen_values = true)]
    shift_by: Option<i64>,

    /// To the first offset there is
    #[arg(long, group = "target")]
    to_earliest: bool,

    /// To the end, so that all there is now is skipped
    #[arg(long, group = "target")]
    to_latest: bool,

    /// To where it is; to the end where nothing is committed
    #[arg(long, group = "target")]
    to_current: bool,

    /// To the first record with this timestamp or a later one, such as 2026-11-21T18:30:00.000; UTC unless a zone is given
    #[arg(long, value_name = "TIME", group = "target", value_parser = datetime)]
    to_datetime: Option<i64>,

    /// To the first record that is not older, as ISO 8601 says it, such as PT2H or P1D
    #[arg(long, value_name = "DURATION", group = "target", value_parser = duration)]
    by_duration: Option<i64>,

    /// To the offsets in a file, one line topic,partition,offset for each, as --export writes it
    #[arg(long, value_name = "FILE", group = "target")]
    from_file: Option<PathBuf>,

    /// Only this topic, or of it only some partitions: orders:0,2; repeatable [default: all that has a committed offset]
    #[arg(long = "topic", value_name = "TOPIC[:N,N]", value_parser = scope, conflicts_with = "from_file", add = completions::topics())]
    topics: Vec<Scope>,

    /// All that has a committed offset; this is the default
    #[arg(long, conflicts_with_all = ["topics", "from_file"])]
    all_topics: bool,

    /// Do it
    #[arg(long, conflicts_with = "dry_run")]
    execute: bool,

    /// Only show what would be done; this is the default
    #[arg(long)]
    dry_run: bool,

    /// Write lines topic,partition,offset, which --from-file reads, instead of a report
    #[arg(long)]
    export: bool,
}

/// `--to`.
fn target(text: &str) -> Result<Target, String> {
    match text {
        "earliest" => return Ok(Target::Earliest),
        "latest" => return Ok(Target::Latest),
        "current" => return Ok(Target::Current),
        _ => {}
    }
    let point = match text.strip_prefix('-') {
        Some(span) => time::parse_span(span).map(|span| time::now_ms() - span),
        None => time::parse_datetime(text),
    };
    point.map(Target::Time).ok_or_else(|| {
        "expected earliest, latest, current, a time such as 2026-11-21T18:30Z, or one in the past such as -2h"
            .to_owned()
    })
}

fn datetime(text: &str) -> Result<i64, String> {
    time::parse_datetime(text)
        .ok_or_else(|| "expected a time such as 2026-11-21T18:30:00.000".to_owned())
}

fn duration(text: &str) -> Result<i64, String> {
    time::parse_iso_duration(text)
        .ok_or_else(|| "expected a duration such as PT2H or P1DT12H".to_owned())
}

pub(super) fn scope(text: &str) -> Result<Scope, String> {
    Scope::parse(text).map_err(|wrong| format!("\"{wrong}\" is not the number of a partition"))
}

/// What is committed now.
type Committed = BTreeMap<TopicPartition, Option<i64>>;

/// What the group has committed. Brokers from 2.5 on wait for transactions that are about to commit offsets; older ones cannot be asked to.
async fn committed_offsets(
    admin: &Admin,
    group: &ByteString,
) -> Result<BTreeMap<TopicPartition, Result<Option<CommittedOffset>, Error>>, Error> {
    let ask = async |require_stable| {
        let all = [OffsetsOfGroup::all(group.clone())];
        let offsets = admin.list_group_offsets(all, require_stable).await;
        offsets.into_values().next().transpose().map(Option::unwrap_or_default)
    };
    match ask(true).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => ask(false).await,
        offsets => offsets,
    }
}

pub(super) async fn run(options: &Options, args: Args) -> Result<(), Failure> {
    let target = args.target()?;
    let admin = options.admin()?;
    let group = ByteString::from(args.group.as_str());
    let (described, committed) =
        tokio::join!(admin.describe_groups([group.clone()]), committed_offsets(&admin, &group));
    match described.into_values().next() {
        Some(Ok(description)) => refuse_if_active(&description)?,
        // A group that does not exist can be given offsets before its first member comes.
        Some(Err(error)) if error.code() == Some(ErrorCode::GroupIdNotFound) => {}
        Some(Err(error)) => return Err(error.into()),
        None => {}
    }
    let mut committed_now = Committed::new();
    for (place, offset) in committed? {
        committed_now.insert(place, offset?.map(|committed| committed.offset));
    }
    let committed = chosen(&admin, &args, &target, committed_now).await?;
    let steps = plan::plan(&admin, &target, &committed)
        .await
        .map_err(|no_plan| refused(&args.group, no_plan))?;

    for (place, step) in &steps {
        let Step { offset, wanted, is_end_instead } = step;
        let TopicPartition { topic, partition } = place;
        if let Some(wanted) = wanted {
            options.notes().warn(format_args!(
                "partition {partition} of topic {topic} has no offset {wanted}: {offset} is the nearest"
            ));
        }
        if *is_end_instead {
            options.notes().warn(format_args!(
                "partition {partition} of topic {topic} has no record as young: its end, {offset}, is taken"
            ));
        }
    }
    let failures =
        if args.execute { execute(&admin, &group, &steps).await } else { BTreeMap::new() };
    if args.export {
        let mut out = io::stdout().lock();
        for (place, step) in &steps {
            writeln!(out, "{}", offsets_file::line(None, place, step.offset))?;
        }
    } else {
        report(&args, &committed, &steps, &failures).print(options.format())?;
    }
    match (args.execute, failures.is_empty()) {
        (false, _) => options.notes().say("Nothing was changed: pass --execute to do it."),
        (true, true) => options.notes().say(format_args!("Group {group} was moved.")),
        (true, false) => {}
    }
    failure::all(failures.into_values().collect())
}

impl Args {
    fn target(&self) -> Result<Target, Failure> {
        if let Some(path) = &self.from_file {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::usage(format!("cannot read {}: {error}", path.display()))
            })?;
            let mut groups = offsets_file::parse(&text, &self.group).map_err(|bad| {
                let (path, line, text) = (path.display(), bad.line, bad.text);
                Failure::usage(format!(
                    "{path}, line {line}: \"{text}\" is not topic,partition,offset"
                ))
                .advise("Write one line for each partition, without a header.")
            })?;
            let offsets = groups.remove(&*self.group).ok_or_else(|| {
                Failure::usage(format!("{} has no offsets of group {}", path.display(), self.group))
                    .advise("In lines of four fields the first is the group.")
            })?;
            return Ok(Target::Each(offsets));
        }
        let now = time::now_ms();
        let target = self
            .to
            .clone()
            .or(self.to_offset.map(Target::Offset))
            .or(self.shift_by.map(Target::ShiftBy))
            .or(self.to_earliest.then_some(Target::Earliest))
            .or(self.to_latest.then_some(Target::Latest))
            .or(self.to_current.then_some(Target::Current))
            .or(self.to_datetime.map(Target::Time))
            .or(self.by_duration.map(|duration| Target::Time(now - duration)));
        target.ok_or_else(|| {
            Failure::usage("nothing says where the group is to go").advise("Pass --to.")
        })
    }
}

/// Members would overwrite what is set, or not notice it.
fn refuse_if_active(group: &GroupDescription) -> Result<(), Failure> {
    if group.members.is_empty() {
        return Ok(());
    }
    const NAMED: usize = 5;
    let mut names: Vec<String> = group
        .members
        .iter()
        .take(NAMED)
        .map(|member| {
            let host = member.client_host.trim_start_matches('/');
            format!("{} (client {} on {host})", member.member_id, member.client_id)
        })
        .collect();
    if group.members.len() > NAMED {
        names.push(format!("{} more", group.members.len() - NAMED));
    }
    let (group, state) = (&group.group_id, &group.state);
    Err(Failure::new(format!("group {group} is active ({state}): {}", names.join(", ")))
        .advise("Stop its members first; a member that crashed leaves when its session times out, or with kavka group remove-members."))
}

/// The partitions that move, with what is committed of each.
async fn chosen(
    admin: &Admin,
    args: &Args,
    target: &Target,
    committed: Committed,
) -> Result<Committed, Failure> {
    let places: BTreeSet<TopicPartition> = match target {
        Target::Each(offsets) => offsets.keys().cloned().collect(),
        _ if args.topics.is_empty() => {
            if committed.is_empty() {
                return Err(Failure::new(format!("group {} has no committed offsets", args.group))
                    .advise("Name topics with --topic."));
            }
            return Ok(committed);
        }
        _ => plan::within(admin, &args.topics).await.map_err(no_scope)?.into_iter().collect(),
    };
    let now = |place: TopicPartition| {
        let offset = committed.get(&place).copied().flatten();
        (place, offset)
    };
    Ok(places.into_iter().map(now).collect())
}

/// Why the partitions that were named are not known.
pub(super) fn no_scope(NoScope { topic, error }: NoScope) -> Failure {
    match error.code() {
        Some(ErrorCode::UnknownTopicOrPartition) => crate::topic::missing(&topic),
        _ => error.into(),
    }
}

/// Why there is no plan, in a sentence.
fn refused(group: &str, no_plan: NoPlan) -> Failure {
    let named = |places: &[TopicPartition]| {
        let names: Vec<String> =
            places.iter().map(|place| format!("{}:{}", place.topic, place.partition)).collect();
        names.join(", ")
    };
    match no_plan {
        NoPlan::Missing(places) => {
            Failure::new(format!("there are no such partitions: {}", named(&places)))
                .advise("See kavka topic list.")
        }
        NoPlan::Leaderless(places) => {
            Failure::new(format!("nobody leads these partitions: {}", named(&places)))
                .advise("Try again when a broker with a copy runs.")
        }
        NoPlan::Uncommitted(places) => {
            let places = named(&places);
            Failure::new(format!("group {group} has no committed offset to shift in {places}"))
                .advise("Seek to an offset or a time there, or leave them out with --topic.")
        }
        NoPlan::Failed(error) => error.into(),
    }
}

async fn execute(
    admin: &Admin,
    group: &ByteString,
    steps: &BTreeMap<TopicPartition, Step>,
) -> BTreeMap<TopicPartition, Failure> {
    let offsets =
        steps.iter().map(|(place, step)| (place.clone(), CommittedOffset::new(step.offset)));
    let outcomes = admin.alter_group_offsets(group.clone(), offsets).await;
    let failed = outcomes.into_iter().filter_map(|(place, outcome)| {
        let failure = Failure::from(outcome.err()?).while_doing(format_args!(
            "partition {} of topic {} was not moved",
            place.partition, place.topic
        ));
        Some((place, failure))
    });
    failed.collect()
}

fn report(
    args: &Args,
    committed: &Committed,
    steps: &BTreeMap<TopicPartition, Step>,
    failures: &BTreeMap<TopicPartition, Failure>,
) -> Report {
    let mut table = Table::new([
        column("group"),
        column("topic"),
        column("partition"),
        column("before"),
        column("after"),
        column("skipped"),
        column("replayed"),
        column("executed"),
    ]);
    for (place, step) in steps {
        let before = committed.get(place).copied().flatten();
        let distance = before.map(|before| step.offset - before);
        table.push([
            args.group.as_str().into(),
            place.topic.to_string().into(),
            place.partition.into(),
            before.into(),
            step.offset.into(),
            distance.map(|distance| distance.max(0)).into(),
            distance.map(|distance| (-distance).max(0)).into(),
            (args.execute && !failures.contains_key(place)).into(),
        ]);
    }
    Report::list("kavka.group.seek", table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_word_or_a_time() {
        assert_eq!(target("earliest"), Ok(Target::Earliest));
        assert_eq!(target("1970-01-01T00:00:01Z"), Ok(Target::Time(1000)));
        let Ok(Target::Time(ms)) = target("-2h") else { panic!("no time") };
        assert!((time::now_ms() - 7_200_000 - ms).abs() < 60_000);
        for text in ["", "2h", "-", "-2", "yesterday", "5"] {
            assert!(target(text).is_err(), "{text}");
        }
    }
}
