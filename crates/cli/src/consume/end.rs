//! Where reading ends.

use std::collections::{BTreeMap, BTreeSet};

use kavka_client::{
    IsolationLevel, TopicPartition,
    admin::{Admin, OffsetSpec},
};

use super::start::look;
use crate::{failure::Failure, time};

/// `--until`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// Where the logs end now.
    End,
    /// This offset, not included.
    Offset(i64),
    /// The first record of that time or later, not included, in milliseconds since 1970.
    Time(i64),
}

pub(super) fn parse(text: &str) -> Result<Until, String> {
    let parsed = match (text, text.strip_prefix('-')) {
        ("end", _) => Some(Until::End),
        (_, Some(span)) => time::parse_span(span).map(|span| Until::Time(time::now_ms() - span)),
        (_, None) => match text.parse().ok() {
            Some(offset) if offset >= 0 => Some(Until::Offset(offset)),
            _ => time::parse_datetime(text).map(Until::Time),
        },
    };
    parsed.ok_or_else(|| {
        "expected end, an offset, a time such as 2026-11-21T18:30Z, or one in the past such as -2h".to_owned()
    })
}

/// Where each partition ends.
pub(super) async fn offsets(
    admin: &Admin,
    places: &[TopicPartition],
    until: &Until,
    isolation: IsolationLevel,
) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
    let spec = match until {
        Until::Time(ms) => OffsetSpec::Timestamp(*ms),
        _ => OffsetSpec::Latest,
    };
    let (found, ends) = tokio::join!(
        look(admin, places, spec, isolation),
        look(admin, places, OffsetSpec::Latest, isolation),
    );
    let (found, ends) = (found?, ends?);
    let offset = |place: &TopicPartition| match until {
        Until::Offset(offset) => *offset,
        _ => {
            let end = ends.get(place).copied().flatten();
            found.get(place).copied().flatten().or(end).unwrap_or(0)
        }
    };
    Ok(places.iter().map(|place| (place.clone(), offset(place))).collect())
}

/// How far partitions are from their ends.
#[derive(Debug)]
pub(super) struct Ends {
    ends: BTreeMap<TopicPartition, i64>,
    /// Where reading began and where it is; those whose beginning is not known are not in it.
    positions: BTreeMap<TopicPartition, (i64, i64)>,
    /// Those that are not there yet.
    open: BTreeSet<TopicPartition>,
    /// In a group: whether any partition was ever ours.
    is_any_ours: bool,
    is_group: bool,
}

impl Ends {
    /// Without starts the partitions are those of a group: it says later which are ours.
    pub(super) fn new(
        ends: BTreeMap<TopicPartition, i64>,
        starts: &BTreeMap<TopicPartition, i64>,
    ) -> Self {
        let is_open = |(place, end): &(&TopicPartition, &i64)| {
            starts.get(*place).is_none_or(|start| start < *end)
        };
        let open = ends.iter().filter(is_open).map(|(place, _)| place.clone()).collect();
        let positions =
            starts.iter().map(|(place, start)| (place.clone(), (*start, *start))).collect();
        Self { open, positions, ends, is_any_ours: false, is_group: starts.is_empty() }
    }

    /// Where a partition ends.
    pub(super) fn limit(&self, place: &TopicPartition) -> Option<i64> {
        self.ends.get(place).copied()
    }

    /// Everything up to an offset has been seen.
    pub(super) fn reach(&mut self, place: &TopicPartition, offset: i64) {
        if self.limit(place).is_none_or(|end| offset >= end) {
            self.open.remove(place);
        }
        if let Some((_, position)) = self.positions.get_mut(place) {
            *position = offset.max(*position);
        }
    }

    /// Those that are owned and not there yet.
    pub(super) fn open(&self, owned: &BTreeSet<TopicPartition>) -> Vec<TopicPartition> {
        self.open.intersection(owned).cloned().collect()
    }

    /// Only what a group has given us counts; others read the rest.
    pub(super) fn keep(&mut self, owned: &BTreeSet<TopicPartition>) {
        if !owned.is_empty() {
            self.is_any_ours = true;
            self.open.retain(|place| owned.contains(place));
        }
    }

    pub(super) fn are_reached(&self) -> bool {
        self.open.is_empty() && (!self.is_group || self.is_any_ours || self.ends.is_empty())
    }

    /// How many offsets lie between the starts and the ends, if the starts are known.
    pub(super) fn total(&self) -> Option<u64> {
        let distance = |(place, (start, _)): (&TopicPartition, &(i64, i64))| {
            let end = self.limit(place).unwrap_or(*start);
            u64::try_from(end - start).unwrap_or(0)
        };
        (!self.is_group).then(|| self.positions.iter().map(distance).sum())
    }

    /// How many of these have been passed.
    pub(super) fn passed(&self) -> u64 {
        let passed =
            self.positions.values().map(|(start, at)| u64::try_from(at - start).unwrap_or(0));
        passed.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_partitions_have_to_reach_their_ends() {
        let place = |at| TopicPartition::new("t", at);
        let ends = BTreeMap::from([(place(0), 5), (place(1), 2), (place(2), 0)]);
        let starts = BTreeMap::from([(place(0), 1), (place(1), 0), (place(2), 0)]);
        let mut ends = Ends::new(ends, &starts);
        assert_eq!(ends.total(), Some(6));
        assert!(!ends.are_reached());
        ends.reach(&place(0), 4);
        ends.reach(&place(1), 2);
        assert_eq!(ends.passed(), 5);
        assert!(!ends.are_reached());
        ends.reach(&place(0), 5);
        assert!(ends.are_reached());
    }

    #[test]
    fn in_a_group_only_what_is_owned_counts_once_something_is() {
        let place = |at| TopicPartition::new("t", at);
        let mut ends = Ends::new(BTreeMap::from([(place(0), 5), (place(1), 2)]), &BTreeMap::new());
        ends.keep(&BTreeSet::new());
        assert!(!ends.are_reached());
        ends.keep(&BTreeSet::from([place(1)]));
        assert!(!ends.are_reached());
        ends.reach(&place(1), 2);
        assert!(ends.are_reached());
    }

    #[test]
    fn a_place_to_stop_is_a_word_a_number_or_a_time() {
        assert_eq!(parse("end"), Ok(Until::End));
        assert_eq!(parse("7"), Ok(Until::Offset(7)));
        assert!(matches!(parse("-1h"), Ok(Until::Time(_))));
        assert!(parse("earliest").is_err());
    }
}
