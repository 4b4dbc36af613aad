//! What a step works with besides the group: time, settings, timers, ids, and the output it fills.

use kavka_protocol::ByteString;

use super::{
    Answer, Event, EventKind, GroupConfig, Record, Reply, RequestId,
    member_ids::MemberIds,
    timers::{GroupTimer, Timer, Timers},
};
use crate::{Monotonic, Now};

/// What a step of a shard leads to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// To be appended in this order, in the batches that [`batches`](Self::batches) says, and then applied.
    pub records: Vec<Record>,
    /// What clients are told, in the order it was decided.
    pub answers: Vec<Answer>,
    /// What happened.
    pub events: Vec<Event>,
}

/// See the module.
pub(crate) struct Context<'a> {
    pub(crate) now: Now,
    pub(crate) config: &'a GroupConfig,
    pub(crate) timers: &'a mut Timers,
    pub(crate) ids: &'a mut MemberIds,
    pub(crate) output: &'a mut Output,
}

impl Output {
    /// The records in the batches they are to be appended in, none of which is larger than
    /// [`max_batch_bytes`](GroupConfig::max_batch_bytes). What has to be atomic is in one batch: requests that would need more
    /// are refused before there are records. What is cut is cleaning, tombstones of many offsets or groups, and deadlines of
    /// several groups that came together: it may stop anywhere, and is right as far as it got.
    pub fn batches(&self, max_batch_bytes: usize) -> impl Iterator<Item = &[Record]> {
        let mut rest = &self.records[..];
        std::iter::from_fn(move || {
            let first = rest.first()?;
            let mut size = first.approximate_size();
            let mut len = 1;
            for record in &rest[1..] {
                size += record.approximate_size();
                if size > max_batch_bytes {
                    break;
                }
                len += 1;
            }
            let (batch, after) = rest.split_at(len);
            rest = after;
            Some(batch)
        })
    }

    pub(crate) fn answer(&mut self, request: RequestId, reply: Reply) {
        let release = reply.release();
        self.answers.push(Answer { request, reply, release });
    }

    pub(crate) fn event(&mut self, group: &ByteString, generation: i32, kind: EventKind) {
        self.events.push(Event { group: group.clone(), generation, kind });
    }
}

impl Context<'_> {
    pub(crate) fn answer(&mut self, request: RequestId, reply: Reply) {
        self.output.answer(request, reply);
    }

    pub(crate) fn record(&mut self, record: Record) {
        self.output.records.push(record);
    }

    pub(crate) fn arm(&mut self, group: &ByteString, timer: GroupTimer, deadline: Monotonic) {
        self.timers.arm(Timer::Group(group.clone(), timer), deadline);
    }

    pub(crate) fn cancel(&mut self, group: &ByteString, timer: GroupTimer) {
        self.timers.cancel(&Timer::Group(group.clone(), timer));
    }
}
