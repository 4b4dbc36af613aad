//! `kavka group check`: a probe. Exit code 0 if all conditions are met, 3 if one is not, 1 if it could not be found out.

use std::collections::BTreeMap;

use kavka_client::{
    ErrorCode, TopicPartition,
    admin::{GroupState, OffsetSpec},
};

use super::{
    list::state,
    overview::{self, Overview},
};
use crate::{
    completions,
    failure::{Exit, Failure},
    options::Options,
    output::{Report, Table, Value, column},
};

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("condition").required(true).multiple(true))]
pub(super) struct Args {
    /// The group
    #[arg(add = completions::groups())]
    group: String,

    /// No partition may lag by more records; what is not committed counts from the start of the log
    #[arg(long, value_name = "N", group = "condition")]
    max_lag: Option<u64>,

    /// All partitions together may not lag by more records
    #[arg(long, value_name = "N", group = "condition")]
    max_total_lag: Option<u64>,

    /// The group has to be in one of these states, such as Stable,Empty
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',', value_parser = state, group = "condition")]
    states: Vec<GroupState>,

    /// At least so many members have to be in it
    #[arg(long, value_name = "N", group = "condition")]
    min_members: Option<usize>,
}

pub(super) async fn run(options: &Options, args: Args) -> Result<(), Failure> {
    let admin = options.admin()?;
    let view = match overview::look_at(&admin, options, &args.group).await {
        Ok(view) => view,
        Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => {
            return Err(Failure::condition(format!("group {} does not exist", args.group))
                .advise("A group exists once a member joined or an offset was committed."));
        }
        Err(error) => return Err(error.into()),
    };
    let mut table = Table::new([
        column("group"),
        column("condition"),
        column("wanted"),
        column("found"),
        column("met"),
        column("detail"),
    ]);
    let mut unmet = Vec::new();
    let mut check =
        |condition: &str, wanted: String, found: Value, met: bool, detail: Option<String>| {
            if !met {
                let found = detail.clone().unwrap_or_else(|| found.to_string());
                unmet.push(format!("{condition} is {found}, wanted {wanted}"));
            }
            table.push([
                args.group.as_str().into(),
                condition.into(),
                wanted.into(),
                found,
                met.into(),
                detail.into(),
            ]);
        };
    if !args.states.is_empty() {
        let wanted: Vec<String> = args.states.iter().map(GroupState::to_string).collect();
        let found = &view.description.state;
        check(
            "state",
            wanted.join(" or "),
            found.to_string().into(),
            args.states.contains(found),
            None,
        );
    }
    if let Some(wanted) = args.min_members {
        let found = view.description.members.len();
        check("members", format!("at least {wanted}"), found.into(), found >= wanted, None);
    }
    if args.max_lag.is_some() || args.max_total_lag.is_some() {
        let lags = lags(&admin, &view).await?;
        // Who reads what is not settled, and nothing is committed: that is no lag of 0.
        let is_unknown = lags.is_empty() && view.description.state.is_rebalancing();
        let found_or_unknown =
            |found: i64| if is_unknown { Value::from("unknown") } else { found.into() };
        let unknown = || Some("not known while the group rebalances".to_owned());
        if let Some(wanted) = args.max_lag {
            let worst = lags.iter().max_by_key(|(_, lag)| **lag);
            let found = worst.map_or(0, |(_, lag)| *lag);
            let detail = worst.map(|(place, lag)| {
                format!("{lag} in partition {} of topic {}", place.partition, place.topic)
            });
            let detail = detail.or_else(|| unknown().filter(|_| is_unknown));
            let met = !is_unknown && within(found, wanted);
            check("lag", format!("at most {wanted}"), found_or_unknown(found), met, detail);
        }
        if let Some(wanted) = args.max_total_lag {
            let found = lags.values().sum::<i64>();
            let met = !is_unknown && within(found, wanted);
            let detail = unknown().filter(|_| is_unknown);
            check("total lag", format!("at most {wanted}"), found_or_unknown(found), met, detail);
        }
    }
    Report::list("kavka.group.check", table).print(options.format())?;
    if unmet.is_empty() {
        return Ok(());
    }
    if options.quiet {
        return Err(Failure::Silent(Exit::ConditionNotMet));
    }
    Err(Failure::condition(format!("group {}: {}", args.group, unmet.join("; "))))
}

fn within(lag: i64, limit: u64) -> bool {
    u64::try_from(lag).is_ok_and(|lag| lag <= limit) || lag < 0
}

/// How far each partition lags. What nobody committed would be read from somewhere between start and end of the log: the worst
/// is taken.
async fn lags(
    admin: &kavka_client::Admin,
    view: &Overview,
) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
    let uncommitted = view.partitions.iter().filter(|partition| partition.committed.is_none());
    let uncommitted = uncommitted.map(|partition| partition.place.clone());
    let mut starts = overview::ends(admin, uncommitted, OffsetSpec::Earliest).await;
    let mut lags = BTreeMap::new();
    for partition in &view.partitions {
        let end = partition.end.clone().map_err(|error| unknown(&partition.place, error))?;
        let from = match &partition.committed {
            Some(committed) => committed.offset,
            None => starts
                .remove(&partition.place)
                .unwrap_or(Ok(0))
                .map_err(|error| unknown(&partition.place, error))?,
        };
        lags.insert(partition.place.clone(), end - from);
    }
    Ok(lags)
}

fn unknown(place: &TopicPartition, error: kavka_client::Error) -> Failure {
    Failure::from(error).while_doing(format_args!(
        "the lag of partition {} of topic {} is not known",
        place.partition, place.topic
    ))
}
