//! The client's half of group membership as a pure state machine: no clock, no lock, no thread, no I/O, no randomness of its
//! own.
//!
//! * [`Member`]: the machine. [`Input`]s and time go in, an [`Output`] of requests, events and traces comes out.
//! * [`MemberConfig`]: its settings, named and defaulted as those of Kafka's consumer.
//! * `classic`: membership by JoinGroup and SyncGroup: states, rebalances, heartbeats, leaving. A membership by KIP-848 goes
//!   beside it, as `consumer`.
//! * `positions`: what each owned partition has to read next, what is committed, offset reset, validation, commits.
//! * [`Request`], [`Response`]: what is asked of brokers, in the member's own words; [`wire`] turns them into messages of a version.
//!
//! A shell runs it so: hand in an input, send the requests, close the connections of [`Output::disconnect`], tell the
//! application the events; come back at [`Member::next_deadline`] with [`Input::Deadline`].
//!
//! **Architecture invariants:** equal inputs give equal outputs, byte for byte. An input yields a bounded output: nothing is
//! retried without an answer, a failure or time in between. A request is answered, failed by the shell or timed out by the
//! machine itself; what comes later is ignored. The events of a partition alternate: assigned, then (revoking, then) revoked, or lost.

mod backoff;
mod classic;
mod config;
mod context;
mod coordinator_lookup;
mod error;
mod input;
mod member;
mod names;
mod output;
mod positions;
mod request;
mod subscription;
mod topic;
pub mod wire;

#[cfg(test)]
mod tests;

pub use kavka_protocol::{Monotonic, Now};

pub use self::{
    classic::State,
    config::{
        Assignor, ConfigError, IsolationLevel, MemberConfig, OffsetReset, RebalanceProtocol,
        UserData,
    },
    error::{ErrorKind, MemberError},
    input::{CommitMode, CommitOffset, Consumed, Input},
    member::Member,
    output::{AssignTask, Cause, CommitId, DrainId, Event, GroupMember, Output, Trace},
    positions::{Fetchable, OffsetTarget, Position, PositionEpoch},
    request::{
        CommitRequest, Coordinator, EpochEnd, EpochQuery, Failure, FetchOffsetsRequest,
        FetchedOffset, GroupDescription, HeartbeatRequest, JoinRequest, JoinResponse, JoinedMember,
        LeaveRequest, ListOffsetsQuery, ListedOffset, Outgoing, Request, RequestId, Response,
        SyncRequest, Target,
    },
    subscription::{Assignment, Subscription},
    topic::{PartitionMetadata, TopicMetadata, TopicPartition, TopicShape},
};
