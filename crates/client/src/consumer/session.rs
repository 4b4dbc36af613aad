//! A fetch session (KIP-227): what a broker remembers of what it was asked, so that only changes have to be said.

use std::collections::BTreeMap;

use bytestring::ByteString;
use kavka_member::{IsolationLevel, TopicPartition};
use kavka_protocol::{
    ErrorCode, Uuid,
    messages::{
        FetchRequest, FetchResponse,
        fetch_request::{FetchPartition, FetchTopic, ForgottenTopic},
    },
};

/// From this version on topics are named by their ids.
pub(super) const TOPIC_IDS: i16 = 13;
/// From this version on there are sessions.
const SESSIONS: i16 = 7;
/// Kafka's consumers are replica -1.
const CONSUMER: i32 = -1;

/// What is to be fetched of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) topic_id: Uuid,
    pub(super) offset: i64,
    pub(super) current_leader_epoch: i32,
    pub(super) max_bytes: i32,
}

/// What is said of a fetch as a whole.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) max_wait_ms: i32,
    pub(super) min_bytes: i32,
    pub(super) max_bytes: i32,
    pub(super) isolation_level: IsolationLevel,
    pub(super) rack: ByteString,
}

/// The session with one broker.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// 0: none.
    id: i32,
    /// Of the next request; 0 begins a session anew.
    epoch: i32,
    version: i16,
    /// What the broker knows.
    known: BTreeMap<TopicPartition, Row>,
}

/// By topic, with its id: the partitions and what is asked of each.
type ByTopic<T> = BTreeMap<(ByteString, Uuid), Vec<T>>;

impl Session {
    /// The request that asks for these rows.
    pub(super) fn request(
        &mut self,
        version: i16,
        rows: &BTreeMap<TopicPartition, Row>,
        terms: &Terms,
    ) -> FetchRequest {
        let is_by_id = version >= TOPIC_IDS;
        if self.epoch > 0 && is_by_id != (self.version >= TOPIC_IDS) {
            self.epoch = 0;
        }
        self.version = version;
        let is_full = self.epoch == 0 || version < SESSIONS;
        let mut wanted: ByTopic<FetchPartition> = BTreeMap::new();
        let mut forgotten: ByTopic<i32> = BTreeMap::new();
        if !is_full {
            for (partition, known) in &self.known {
                // A topic that was made anew has another id, and is another topic.
                if rows.get(partition).is_none_or(|row| row.topic_id != known.topic_id) {
                    let topic = (partition.topic.clone(), known.topic_id);
                    forgotten.entry(topic).or_default().push(partition.partition);
                }
            }
        }
        for (partition, row) in rows {
            if is_full || self.known.get(partition) != Some(row) {
                wanted.entry((partition.topic.clone(), row.topic_id)).or_default().push(
                    FetchPartition {
                        partition: partition.partition,
                        current_leader_epoch: row.current_leader_epoch,
                        fetch_offset: row.offset,
                        partition_max_bytes: row.max_bytes,
                        ..Default::default()
                    },
                );
            }
        }
        self.known.clone_from(rows);
        let named = |topic: ByteString| if is_by_id { ByteString::new() } else { topic };
        let identified = |id: Uuid| if is_by_id { id } else { Uuid::ZERO };
        FetchRequest {
            replica_id: CONSUMER,
            max_wait_ms: terms.max_wait_ms,
            min_bytes: terms.min_bytes,
            max_bytes: terms.max_bytes,
            isolation_level: i8::from(terms.isolation_level == IsolationLevel::ReadCommitted),
            session_id: if version < SESSIONS { 0 } else { self.id },
            session_epoch: if version < SESSIONS { -1 } else { self.epoch },
            topics: wanted
                .into_iter()
                .map(|((topic, id), partitions)| FetchTopic {
                    topic: named(topic),
                    topic_id: identified(id),
                    partitions,
                    ..Default::default()
                })
                .collect(),
            forgotten_topics_data: forgotten
                .into_iter()
                .map(|((topic, id), partitions)| ForgottenTopic {
                    topic: named(topic),
                    topic_id: identified(id),
                    partitions,
                    ..Default::default()
                })
                .collect(),
            rack_id: terms.rack.clone(),
            ..Default::default()
        }
    }

    /// What the answer says of the session. `false`: the fetch is to be made anew.
    pub(super) fn on_response(&mut self, response: &FetchResponse) -> bool {
        match response.error_code {
            ErrorCode::None => {
                if self.epoch == 0 {
                    // 0: the broker has no room for one more session.
                    self.id = response.session_id;
                    self.epoch = i32::from(self.id != 0);
                } else {
                    self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
                }
                true
            }
            ErrorCode::FetchSessionIdNotFound => {
                *self = Self { version: self.version, ..Self::default() };
                false
            }
            _ => {
                self.epoch = 0;
                false
            }
        }
    }

    /// There was no answer: the next request closes what the broker may still have, and begins anew.
    pub(super) fn on_failure(&mut self) {
        self.epoch = 0;
    }

    /// The request that ends the session, if there is one.
    pub(super) fn close(self) -> Option<(FetchRequest, i16)> {
        (self.id != 0).then(|| {
            let request = FetchRequest {
                replica_id: CONSUMER,
                session_id: self.id,
                session_epoch: -1,
                ..Default::default()
            };
            (request, self.version)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> Terms {
        Terms {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 1000,
            isolation_level: IsolationLevel::ReadUncommitted,
            rack: ByteString::new(),
        }
    }

    fn rows(list: &[(i32, i64)]) -> BTreeMap<TopicPartition, Row> {
        let row = |(partition, offset): &(i32, i64)| {
            let row = Row {
                topic_id: Uuid::ZERO,
                offset: *offset,
                current_leader_epoch: 1,
                max_bytes: 9,
            };
            (TopicPartition::new("t", *partition), row)
        };
        list.iter().map(row).collect()
    }

    fn asked(request: &FetchRequest) -> Vec<(i32, i64)> {
        let rows = request.topics.iter().flat_map(|topic| &topic.partitions);
        rows.map(|row| (row.partition, row.fetch_offset)).collect()
    }

    fn forgotten(request: &FetchRequest) -> Vec<i32> {
        request.forgotten_topics_data.iter().flat_map(|topic| topic.partitions.clone()).collect()
    }

    fn answer(session_id: i32) -> FetchResponse {
        FetchResponse { session_id, ..Default::default() }
    }

    #[test]
    fn only_what_changed_is_said() {
        let mut session = Session::default();
        let first = session.request(12, &rows(&[(0, 5), (1, 5), (2, 5)]), &terms());
        assert_eq!((first.session_id, first.session_epoch), (0, 0));
        assert_eq!(asked(&first), [(0, 5), (1, 5), (2, 5)]);
        assert!(session.on_response(&answer(77)));
        let second = session.request(12, &rows(&[(0, 5), (1, 8)]), &terms());
        assert_eq!((second.session_id, second.session_epoch), (77, 1));
        assert_eq!((asked(&second), forgotten(&second)), (vec![(1, 8)], vec![2]));
        assert!(session.on_response(&answer(77)));
        let third = session.request(12, &rows(&[(0, 5), (1, 8)]), &terms());
        assert_eq!((third.session_epoch, asked(&third)), (2, vec![]));
    }

    #[test]
    fn a_session_that_is_gone_is_begun_anew_with_everything() {
        let mut session = Session::default();
        session.request(12, &rows(&[(0, 5)]), &terms());
        session.on_response(&answer(77));
        session.request(12, &rows(&[(0, 5)]), &terms());
        let gone =
            FetchResponse { error_code: ErrorCode::FetchSessionIdNotFound, ..Default::default() };
        assert!(!session.on_response(&gone));
        let request = session.request(12, &rows(&[(0, 5)]), &terms());
        assert_eq!((request.session_id, request.session_epoch), (0, 0));
        assert_eq!(asked(&request), [(0, 5)]);
    }

    #[test]
    fn without_an_answer_the_broker_is_told_to_close_its_session() {
        let mut session = Session::default();
        session.request(12, &rows(&[(0, 5)]), &terms());
        session.on_response(&answer(77));
        session.on_failure();
        let request = session.request(12, &rows(&[(0, 5)]), &terms());
        assert_eq!((request.session_id, request.session_epoch), (77, 0));
        assert_eq!(asked(&request), [(0, 5)]);
        session.on_response(&answer(78));
        let (close, version) = session.close().expect("there is a session");
        assert_eq!((close.session_id, close.session_epoch, version), (78, -1, 12));
    }

    #[test]
    fn a_broker_without_room_for_sessions_is_asked_for_everything_each_time() {
        let mut session = Session::default();
        for _ in 0..2 {
            let request = session.request(12, &rows(&[(0, 5)]), &terms());
            assert_eq!((request.session_id, request.session_epoch), (0, 0));
            assert_eq!(asked(&request), [(0, 5)]);
            session.on_response(&answer(0));
        }
        assert!(session.close().is_none());
    }

    #[test]
    fn a_topic_that_was_made_anew_is_forgotten_and_asked_for_by_its_new_id() {
        let mut session = Session::default();
        let id = |id: u8| {
            let mut rows = rows(&[(0, 5)]);
            rows.values_mut().for_each(|row| row.topic_id = Uuid::from_bytes([id; 16]));
            rows
        };
        session.request(13, &id(1), &terms());
        session.on_response(&answer(7));
        let request = session.request(13, &id(2), &terms());
        assert_eq!(request.forgotten_topics_data[0].topic_id, Uuid::from_bytes([1; 16]));
        assert_eq!(request.topics[0].topic_id, Uuid::from_bytes([2; 16]));
        assert_eq!(request.topics[0].topic, "");
    }
}
