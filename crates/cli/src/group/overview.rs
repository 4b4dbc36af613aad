//! All that is known of a group at one moment: what it is doing, who is in it, what it committed, and where the logs end.
//!
//! Description and offsets are asked for at the same time, and the ends of all logs at once. A group that rebalances has no
//! assignment that brokers tell; its offsets are shown all the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kavka_client::{
    ByteString, Error, ErrorCode, IsolationLevel, TopicPartition,
    admin::{
        Admin, CommittedOffset, GroupDescription, GroupMember, OffsetAt, OffsetSpec, OffsetsOfGroup,
    },
};

use crate::{failure::Failure, options::Options};

/// How long the ends of logs are waited for: a partition without a leader must not hide the rest.
const PATIENCE: Duration = Duration::from_secs(5);

/// A group and its offsets.
#[derive(Debug)]
pub(crate) struct Overview {
    /// What it is doing, and who is in it.
    pub(crate) description: GroupDescription,
    /// The partitions that it has an offset of or that a member has, by topic and number.
    pub(crate) partitions: Vec<Partition>,
}

/// A partition that a group reads.
#[derive(Debug)]
pub(crate) struct Partition {
    /// Which one.
    pub(crate) place: TopicPartition,
    /// What the group committed of it.
    pub(crate) committed: Option<CommittedOffset>,
    /// Where its log ends: the high watermark.
    pub(crate) end: Result<i64, Error>,
    /// Who has it: an index into the members.
    pub(crate) owner: Option<usize>,
}

impl Partition {
    /// How many records lie between the committed offset and the end.
    pub(crate) fn lag(&self) -> Option<i64> {
        Some(self.end.as_ref().ok()? - self.committed.as_ref()?.offset)
    }
}

impl Overview {
    /// The member that has a partition.
    pub(crate) fn owner(&self, partition: &Partition) -> Option<&GroupMember> {
        self.description.members.get(partition.owner?)
    }

    /// The lag of all partitions that have one; none if none has.
    pub(crate) fn total_lag(&self) -> Option<i64> {
        let lags: Vec<i64> = self.partitions.iter().filter_map(Partition::lag).collect();
        (!lags.is_empty()).then(|| lags.iter().sum())
    }
}

/// Looks at groups. What fails is the result of the group it concerns.
pub(crate) async fn look(
    admin: &Admin,
    timeout: Option<Duration>,
    groups: &BTreeSet<ByteString>,
) -> BTreeMap<ByteString, Result<Overview, Error>> {
    let wanted = groups.iter().cloned().map(OffsetsOfGroup::all);
    let (mut described, mut offsets) = tokio::join!(
        admin.describe_groups(groups.iter().cloned()),
        admin.list_group_offsets(wanted, false),
    );
    let mut views: BTreeMap<ByteString, Result<Overview, Error>> = BTreeMap::new();
    for group in groups {
        let description = described.remove(group).unwrap_or_else(|| Err(unanswered(group)));
        let offsets = offsets.remove(group).unwrap_or_else(|| Err(unanswered(group)));
        let view = description.and_then(|description| joined(description, offsets?));
        views.insert(group.clone(), view);
    }

    let places = views.values().flatten().flat_map(|view| &view.partitions);
    let places: BTreeSet<TopicPartition> =
        places.map(|partition| partition.place.clone()).collect();
    let patience = timeout.map_or(PATIENCE, |timeout| timeout.min(PATIENCE));
    let mut ends = ends(&admin.with_timeout(patience), places, OffsetSpec::Latest).await;
    for partition in views.values_mut().flatten().flat_map(|view| &mut view.partitions) {
        if let Some(end) = ends.remove(&partition.place) {
            partition.end = end.clone();
            ends.insert(partition.place.clone(), end);
        }
    }
    views
}

/// One end of the logs of some partitions.
pub(crate) async fn ends(
    admin: &Admin,
    places: impl IntoIterator<Item = TopicPartition>,
    end: OffsetSpec,
) -> BTreeMap<TopicPartition, Result<i64, Error>> {
    let places = places.into_iter().map(|place| (place, end));
    let found = admin.list_offsets(places, IsolationLevel::ReadUncommitted).await;
    found
        .into_iter()
        .map(|(place, found)| {
            let found = found.map(|found| found.map_or(0, |OffsetAt { offset, .. }| offset));
            (place, found)
        })
        .collect()
}

fn joined(
    description: GroupDescription,
    offsets: BTreeMap<TopicPartition, Result<Option<CommittedOffset>, Error>>,
) -> Result<Overview, Error> {
    let mut owners: BTreeMap<&TopicPartition, usize> = BTreeMap::new();
    for (at, member) in description.members.iter().enumerate() {
        for place in member.assignment.iter().flatten() {
            owners.insert(place, at);
        }
    }
    let mut committed: BTreeMap<TopicPartition, CommittedOffset> = BTreeMap::new();
    for (place, offset) in offsets {
        if let Some(offset) = offset? {
            committed.insert(place, offset);
        }
    }
    let places: BTreeSet<TopicPartition> =
        committed.keys().chain(owners.keys().copied()).cloned().collect();
    let partitions = places
        .into_iter()
        .map(|place| Partition {
            committed: committed.remove(&place),
            end: Err(Error::broker(ErrorCode::UnknownTopicOrPartition, "looking for the end")),
            owner: owners.get(&place).copied(),
            place,
        })
        .collect();
    Ok(Overview { partitions, description })
}

fn unanswered(group: &ByteString) -> Error {
    let message = format!("nobody answered for group {group}");
    Error::new(kavka_client::ErrorKind::Protocol, message)
}

/// Looks at one group.
pub(super) async fn look_at(
    admin: &Admin,
    options: &Options,
    group: &str,
) -> Result<Overview, Error> {
    let group = ByteString::from(group);
    let mut views = look(admin, options.timeout, &BTreeSet::from([group.clone()])).await;
    views.remove(&group).unwrap_or_else(|| Err(unanswered(&group)))
}

/// Why a group could not be looked at.
pub(super) fn failure(group: &str, error: Error) -> Failure {
    match error.code() {
        Some(ErrorCode::GroupIdNotFound) => super::missing(group),
        _ => error.into(),
    }
}
