//! Groups: who is in them, who has which share, and how far each has read.
//!
//! A shard is the state behind one partition of `__consumer_offsets`. The shell runs it so: lock the shard,
//! `handle(now, input)`, append the records of the output (as one atomic batch, see [`Output::batches`]), `apply` each with its
//! offset, unlock, and release each [`Answer`] as its [`Release`] says. After a failed append the machine is dropped: the answers of that output
//! leave as [`Reply::failed`], an [`Input::Unload`] tells who is parked, and a new machine replays the log.

mod classic;
mod config;
mod context;
mod hard_state;
mod input;
#[cfg(any(test, feature = "testing"))]
pub mod invariants;
mod log_record;
mod member_ids;
mod offsets;
mod records;
mod reply;
mod shard;
mod timeline;
mod timers;

#[cfg(test)]
mod tests;

pub use self::{
    config::GroupConfig,
    context::Output,
    hard_state::HardView,
    input::{
        CommitPartition, CommitRequest, CommitTopic, ConnectionId, DeleteOffsetsRequest,
        FetchRequest, FetchTopic, HeartbeatRequest, Input, JoinRequest, LeaveRequest,
        LeavingMember, ListRequest, Request, RequestId, SyncRequest,
    },
    records::{GroupMember, GroupValue, OffsetValue, Record, RecordError, Skipped},
    reply::{
        Answer, CommitReply, CommittedTopic, DeleteOffsetsReply, DescribedGroup, DescribedMember,
        FetchReply, FetchedPartition, FetchedTopic, GroupState, JoinReply, JoinedMember,
        LeaveReply, LeftMember, ListReply, ListedGroup, Release, Reply, SyncReply, append_error,
    },
    shard::GroupShard,
    timeline::{DeletionCause, Event, EventKind, RebalanceReason},
};
