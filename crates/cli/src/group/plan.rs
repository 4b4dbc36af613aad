//! Where a group is to go: from a target to an offset for each partition. Changes nothing.

use std::collections::BTreeMap;

use kavka_client::{
    ByteString, Error, ErrorCode, IsolationLevel, TopicPartition,
    admin::{Admin, OffsetSpec},
};

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// This offset in every partition.
    Offset(i64),
    /// So far from the committed offset.
    ShiftBy(i64),
    /// The first offset there is.
    Earliest,
    /// The end.
    Latest,
    /// Where it is; the end where nothing is committed.
    Current,
    /// The first record with this timestamp or a later one, in milliseconds since 1970.
    Time(i64),
    /// An offset for each partition.
    Each(BTreeMap<TopicPartition, i64>),
}

/// Where one partition goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The new offset.
    pub(crate) offset: i64,
    /// What was asked for, if that lies outside the log.
    pub(crate) wanted: Option<i64>,
    /// There is no record as young as asked: the end is taken.
    pub(crate) is_end_instead: bool,
}

/// Why there is no plan.
#[derive(Clone, Debug)]
pub(crate) enum NoPlan {
    /// These do not exist.
    Missing(Vec<TopicPartition>),
    /// Nobody leads these.
    Leaderless(Vec<TopicPartition>),
    /// To shift, an offset has to be committed: it is not for these.
    Uncommitted(Vec<TopicPartition>),
    /// The cluster failed.
    Failed(Error),
}

impl From<Error> for NoPlan {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Partitions as the user names them: `orders`, all of a topic, or `orders:0,2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) topic: ByteString,
    /// Empty: all.
    pub(crate) partitions: Vec<i32>,
}

impl Scope {
    /// The error names the part that is no partition.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (topic, partitions) = text.split_once(':').unwrap_or((text, ""));
        let numbers = partitions.split(',').filter(|number| !number.is_empty());
        let numbers = numbers.map(|number| {
            let number = number.trim();
            number.parse::<i32>().ok().filter(|at| *at >= 0).ok_or_else(|| number.to_owned())
        });
        Ok(Self { topic: topic.into(), partitions: numbers.collect::<Result<_, _>>()? })
    }
}

/// Why it is not known which partitions a topic has.
#[derive(Debug)]
pub(crate) struct NoScope {
    pub(crate) topic: ByteString,
    pub(crate) error: Error,
}

/// The partitions that scopes name. Those that are numbered are taken as they are.
pub(crate) async fn within(
    admin: &Admin,
    scopes: &[Scope],
) -> Result<Vec<TopicPartition>, NoScope> {
    let whole = scopes.iter().filter(|scope| scope.partitions.is_empty());
    let mut described = admin.describe_topics(whole.map(|scope| scope.topic.clone())).await;
    let mut places = Vec::new();
    for scope in scopes {
        if scope.partitions.is_empty() {
            // The same topic twice is the topic once.
            let Some(topic) = described.remove(&scope.topic) else { continue };
            let topic = topic.map_err(|error| NoScope { topic: scope.topic.clone(), error })?;
            let partitions = topic.partitions.into_iter();
            places.extend(
                partitions.map(|it| TopicPartition::new(scope.topic.clone(), it.partition)),
            );
        } else {
            let partitions = scope.partitions.iter();
            places.extend(partitions.map(|at| TopicPartition::new(scope.topic.clone(), *at)));
        }
    }
    places.sort();
    places.dedup();
    Ok(places)
}

/// Where each partition goes, given what is committed of it now.
pub(crate) async fn plan(
    admin: &Admin,
    target: &Target,
    committed: &BTreeMap<TopicPartition, Option<i64>>,
) -> Result<BTreeMap<TopicPartition, Step>, NoPlan> {
    check(admin, committed).await?;
    let (starts, ends, found) = tokio::join!(
        look(admin, committed, Some(OffsetSpec::Earliest)),
        look(admin, committed, Some(OffsetSpec::Latest)),
        look(
            admin,
            committed,
            match target {
                Target::Time(ms) => Some(OffsetSpec::Timestamp(*ms)),
                _ => None,
            }
        ),
    );
    let (starts, ends, found) = (starts?, ends?, found?);
    let bound = |at: &BTreeMap<TopicPartition, Option<i64>>, place: &TopicPartition| {
        at.get(place).copied().flatten().unwrap_or(0)
    };
    let mut steps = BTreeMap::new();
    let mut uncommitted = Vec::new();
    for (place, current) in committed {
        let (start, end) = (bound(&starts, place), bound(&ends, place));
        let clamped = |wanted: i64| {
            let offset = wanted.clamp(start, end.max(start));
            Step { offset, wanted: Some(wanted).filter(|w| *w != offset), is_end_instead: false }
        };
        let exactly = |offset| Step { offset, wanted: None, is_end_instead: false };
        let step = match target {
            Target::Offset(offset) => clamped(*offset),
            Target::ShiftBy(distance) => match current {
                Some(current) => clamped(current.saturating_add(*distance)),
                None => {
                    uncommitted.push(place.clone());
                    continue;
                }
            },
            Target::Earliest => exactly(start),
            Target::Latest => exactly(end),
            Target::Current => exactly(current.unwrap_or(end)),
            Target::Time(_) => match found.get(place).copied().flatten() {
                Some(offset) => exactly(offset),
                None => Step { offset: end, wanted: None, is_end_instead: true },
            },
            Target::Each(offsets) => match offsets.get(place) {
                Some(offset) => clamped(*offset),
                None => continue,
            },
        };
        steps.insert(place.clone(), step);
    }
    if uncommitted.is_empty() { Ok(steps) } else { Err(NoPlan::Uncommitted(uncommitted)) }
}

/// All partitions exist and have leaders.
async fn check(
    admin: &Admin,
    places: &BTreeMap<TopicPartition, Option<i64>>,
) -> Result<(), NoPlan> {
    let mut topics: Vec<ByteString> = places.keys().map(|place| place.topic.clone()).collect();
    topics.dedup();
    let described = admin.describe_topics(topics).await;
    let (mut missing, mut leaderless) = (Vec::new(), Vec::new());
    for place in places.keys() {
        let topic = match described.get(&place.topic) {
            Some(Ok(topic)) => topic,
            Some(Err(error)) if error.code() != Some(ErrorCode::UnknownTopicOrPartition) => {
                return Err(error.clone().into());
            }
            _ => {
                missing.push(place.clone());
                continue;
            }
        };
        match topic.partitions.iter().find(|partition| partition.partition == place.partition) {
            None => missing.push(place.clone()),
            Some(partition) if partition.leader.is_none() => leaderless.push(place.clone()),
            Some(_) => {}
        }
    }
    if !missing.is_empty() {
        return Err(NoPlan::Missing(missing));
    }
    if leaderless.is_empty() { Ok(()) } else { Err(NoPlan::Leaderless(leaderless)) }
}

async fn look(
    admin: &Admin,
    places: &BTreeMap<TopicPartition, Option<i64>>,
    spec: Option<OffsetSpec>,
) -> Result<BTreeMap<TopicPartition, Option<i64>>, Error> {
    let Some(spec) = spec else { return Ok(BTreeMap::new()) };
    let wanted = places.keys().map(|place| (place.clone(), spec));
    let found = admin.list_offsets(wanted, IsolationLevel::ReadUncommitted).await;
    found.into_iter().map(|(place, found)| Ok((place, found?.map(|at| at.offset)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_a_topic_are_named_with_commas() {
        let scope = |topic: &str, partitions: &[i32]| {
            Ok(Scope { topic: topic.into(), partitions: partitions.to_vec() })
        };
        assert_eq!(Scope::parse("orders"), scope("orders", &[]));
        assert_eq!(Scope::parse("orders:0,2"), scope("orders", &[0, 2]));
        assert_eq!(Scope::parse("orders:x"), Err("x".to_owned()));
        assert_eq!(Scope::parse("orders:1,-1"), Err("-1".to_owned()));
    }
}
