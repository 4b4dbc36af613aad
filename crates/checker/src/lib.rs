//! Judges a history: what clients of a Kafka cluster asked for and what they were answered, written down while it happened.
//!
//! * [`History`]: the events, in memory and as lines of JSON (`docs/history.md`); any client in any language can write one.
//! * [`Op`]: what an event is about: operations that take time (send, poll, commit, …) and notes of things that happen at once
//!   (a partition was assigned, a fault began, …).
//! * [`check`]: looks for every anomaly that this crate knows ([`AnomalyKind`]) and gives a [`Report`] with a [`Verdict`].
//!
//! It knows nothing of brokers and clients but what is in the history. `kavka-check FILE` is the same as a program.
//!
//! **Architecture invariants:** a valid history is never called invalid: where a history leaves open what happened (an operation
//! without an answer, a member whose removal nobody noted), the reading that is kindest to the cluster counts. Equal histories give equal
//! reports. What could not be decided is told as unknown, never as valid.

mod anomaly;
mod check;
mod context;
mod cycles;
mod evidence;
mod group;
mod history;

mod op;
mod operation;
mod records;
mod report;

pub use self::{
    anomaly::{Anomaly, AnomalyKind},
    check::{Limits, check},
    history::{Event, EventKind, History, HistoryError},
    op::{
        Commit, CommitSource, Committed, FaultPhase, GroupProtocol, GroupSettings, GroupState,
        Isolation, Member, Op, PositionCause, Record, Settings, Step, TopicPartition,
        TopicPartitionError,
    },
    report::{Metrics, Report, Verdict},
};
