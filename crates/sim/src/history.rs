//! What clients saw, to be judged afterwards: an operation begins, and ends well, badly, or nobody knows how.

use kavka_coordinator::group::Reply;
use kavka_member::{Request, TopicPartition};
use kavka_protocol::ErrorCode;

use crate::world::World;

/// Takes down what clients see.
pub trait Recorder {
    /// One more line. `process` is the client, `group` its group, `at_ms` the world's time.
    fn record(&mut self, process: usize, group: &str, outcome: Outcome, op: &Op, at_ms: u64);

    /// When faults have stopped.
    fn healed(&mut self, at_ms: u64);
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It begins.
    Invoke,
    /// It was done.
    Ok,
    /// It was not done.
    Fail,
    /// It may have been done.
    Info,
}

/// What a client does or hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Partitions are its own from here on.
    Assigned { generation: i32, partitions: Vec<TopicPartition> },
    /// Partitions are its own no more.
    Revoked { partitions: Vec<TopicPartition> },
    /// The same, without notice.
    Lost { partitions: Vec<TopicPartition> },
    /// Records were handed to the application: from this offset to before that one.
    Polled { partition: TopicPartition, from: i64, to: i64 },
    /// Offsets are committed.
    Commit { generation: i32, member_id: String, offsets: Vec<(TopicPartition, i64)> },
    /// Committed offsets are read; -1 for none.
    Fetch { offsets: Vec<(TopicPartition, i64)> },
    /// It is gone.
    Crash,
}

impl World {
    pub(crate) fn record(&mut self, client: usize, outcome: Outcome, op: impl FnOnce() -> Op) {
        if let Some(recorder) = &mut self.recorder {
            let group = &self.groups[self.clients[client].group].id;
            recorder.record(client, group, outcome, &op(), self.now);
        }
    }

    pub(crate) fn record_request(&mut self, client: usize, request: &Request) {
        let Request::CommitOffsets(commit) = request else { return };
        self.record(client, Outcome::Invoke, || Op::Commit {
            generation: commit.generation,
            member_id: commit.member_id.to_string(),
            offsets: commit.offsets.iter().map(|(tp, row)| (tp.clone(), row.offset)).collect(),
        });
    }

    pub(crate) fn record_reply(&mut self, client: usize, reply: &Reply) {
        let Reply::FetchOffsets(fetch) = reply else { return };
        if fetch.error != ErrorCode::None {
            return;
        }
        let rows = fetch.topics.iter().flat_map(|topic| {
            let good = topic.partitions.iter().filter(|row| row.error == ErrorCode::None);
            good.map(|row| (TopicPartition::new(topic.name.clone(), row.partition), row.offset))
        });
        let offsets = rows.collect();
        self.record(client, Outcome::Ok, || Op::Fetch { offsets });
    }
}
