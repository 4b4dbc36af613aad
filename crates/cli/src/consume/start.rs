//! Where reading begins.

use std::collections::BTreeMap;

use kavka_client::{
    ByteString, Error, ErrorCode, IsolationLevel, TopicPartition,
    admin::{Admin, OffsetSpec},
};

use crate::{failure::Failure, time};

/// `--from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// The first record.
    Earliest,
    /// What is written from now on.
    Latest,
    /// This offset, or the nearest that there is.
    Offset(i64),
    /// So many before the end.
    Last(i64),
    /// The first record of that time or later, in milliseconds since 1970.
    Time(i64),
}

pub(super) fn parse(text: &str) -> Result<From, String> {
    let parsed = match (text, text.strip_prefix('-')) {
        ("earliest", _) => Some(From::Earliest),
        ("latest", _) => Some(From::Latest),
        (_, Some(rest)) => match rest.parse().ok() {
            Some(count) if count >= 0 => Some(From::Last(count)),
            _ => time::parse_span(rest).map(|span| From::Time(time::now_ms() - span)),
        },
        (_, None) => match text.parse().ok() {
            Some(offset) if offset >= 0 => Some(From::Offset(offset)),
            _ => time::parse_datetime(text).map(From::Time),
        },
    };
    parsed.ok_or_else(|| {
        "expected earliest, latest, an offset, a time such as 2026-11-21T18:30Z, one in the past such as -2h, or a number of \
         last records such as -100"
            .to_owned()
    })
}

/// The partitions of topics, all or those with these numbers.
pub(super) async fn places(
    admin: &Admin,
    topics: &[ByteString],
    partitions: &[i32],
) -> Result<Vec<TopicPartition>, Failure> {
    let mut places = Vec::new();
    for (name, topic) in admin.describe_topics(topics.iter().cloned()).await {
        let topic = topic.map_err(|error| match error.code() {
            Some(ErrorCode::UnknownTopicOrPartition) => crate::topic::missing(&name),
            _ => error.into(),
        })?;
        if let Some(wrong) =
            partitions.iter().find(|at| topic.partitions.iter().all(|it| it.partition != **at))
        {
            return Err(crate::topic::no_partition(&name, *wrong, topic.partitions.len()));
        }
        let wanted = topic.partitions.iter().map(|it| it.partition);
        let wanted = wanted.filter(|at| partitions.is_empty() || partitions.contains(at));
        places.extend(wanted.map(|at| TopicPartition::new(name.clone(), at)));
    }
    Ok(places)
}

/// An offset for each partition; the end where none is found.
pub(super) async fn look(
    admin: &Admin,
    places: &[TopicPartition],
    spec: OffsetSpec,
    isolation: IsolationLevel,
) -> Result<BTreeMap<TopicPartition, Option<i64>>, Error> {
    let wanted = places.iter().map(|place| (place.clone(), spec));
    let found = admin.list_offsets(wanted, isolation).await;
    found.into_iter().map(|(place, found)| Ok((place, found?.map(|at| at.offset)))).collect()
}

/// Where each partition begins.
pub(super) async fn offsets(
    admin: &Admin,
    places: &[TopicPartition],
    from: From,
    isolation: IsolationLevel,
) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
    let spec = match from {
        From::Time(ms) => OffsetSpec::Timestamp(ms),
        _ => OffsetSpec::Earliest,
    };
    let (found, ends) = tokio::join!(
        look(admin, places, spec, isolation),
        look(admin, places, OffsetSpec::Latest, isolation),
    );
    let (found, ends) = (found?, ends?);
    let offset = |place: &TopicPartition| {
        let end = ends.get(place).copied().flatten().unwrap_or(0);
        let found = found.get(place).copied().flatten();
        let start = found.unwrap_or(0).min(end);
        match from {
            From::Earliest => start,
            From::Latest => end,
            From::Offset(offset) => offset.clamp(start, end),
            From::Last(count) => end.saturating_sub(count).max(start),
            From::Time(_) => found.unwrap_or(end),
        }
    };
    Ok(places.iter().map(|place| (place.clone(), offset(place))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_to_begin_is_a_word_a_number_or_a_time() {
        assert_eq!(parse("earliest"), Ok(From::Earliest));
        assert_eq!(parse("7"), Ok(From::Offset(7)));
        assert_eq!(parse("-7"), Ok(From::Last(7)));
        assert_eq!(parse("1970-01-01T00:00:01Z"), Ok(From::Time(1000)));
        assert!(matches!(parse("-1h"), Ok(From::Time(_))));
        for text in ["", "-", "1h", "--1", "soon"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
