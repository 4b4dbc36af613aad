//! What can be wrong with a history.

use std::fmt;

use serde::{Serialize, Serializer};

/// Something that should not have happened, or that one wants to know of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Anomaly {
    /// What it is.
    pub kind: AnomalyKind,
    /// Whether Kafka's design, or what the history promises, allows it. It is told then, but does no harm to the verdict.
    pub allowed: bool,
    /// The partition, or the group and partition, it is about.
    pub subject: String,
    /// What happened, in a sentence.
    pub message: String,
    /// The events that show it, as positions in [`History::events`](crate::History::events).
    pub events: Vec<usize>,
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $name:literal,)+) => {
        /// The anomalies this crate looks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum AnomalyKind { $($(#[doc = $doc])+ $kind,)+ }

        impl AnomalyKind {
            /// All of them.
            pub const ALL: &[AnomalyKind] = &[$(AnomalyKind::$kind,)+];

            /// What it is called in reports.
            pub fn name(self) -> &'static str {
                match self { $(AnomalyKind::$kind => $name,)+ }
            }
        }
    };
}

kinds! {
    /// Two values at one offset of a partition.
    InconsistentOffsets = "inconsistent-offsets",
    /// One value at two offsets of a partition.
    Duplicate = "duplicate",
    /// A value was read that nobody sent.
    UnknownValue = "unknown-value",
    /// A value was read whose write failed or was aborted (G1a).
    AbortedRead = "aborted-read",
    /// A transaction read what it had sent itself.
    PrecommittedRead = "precommitted-read",
    /// A value was stored, one behind it was read, but the value never was.
    LostWrite = "lost-write",
    /// An acknowledged value that not even the final polls found.
    Unseen = "unseen",
    /// A consumer left out a value between two polls.
    PollSkip = "poll-skip",
    /// A consumer went back between two polls.
    NonmonotonicPoll = "nonmonotonic-poll",
    /// A consumer left out a value within one operation.
    IntPollSkip = "int-poll-skip",
    /// A consumer went back within one operation.
    IntNonmonotonicPoll = "int-nonmonotonic-poll",
    /// A process sent twice, and the second came before the first.
    NonmonotonicSend = "nonmonotonic-send",
    /// What a transaction sent was stored in another order.
    IntNonmonotonicSend = "int-nonmonotonic-send",
    /// Something of somebody else lies between what a transaction sent.
    IntSendSkip = "int-send-skip",
    /// A cycle of writes that follow writes.
    G0 = "G0",
    /// A cycle of reads of what others wrote, and maybe of writes that follow writes.
    G1c = "G1c",
    /// The same with the order within processes.
    G0Process = "G0-process",
    /// The same with the order within processes.
    G1cProcess = "G1c-process",
    /// The same with the order of time.
    G0Realtime = "G0-realtime",
    /// The same with the order of time.
    G1cRealtime = "G1c-realtime",
    /// Transactions that commit offsets for a group consumed a value more than once.
    ConsumeCounts = "consume-counts",
    /// A consumer began before what was committed, without a reset.
    CommittedTooFar = "committed-too-far",
    /// Two clients owned a partition at one time.
    DualOwnership = "dual-ownership",
    /// An acknowledged commit was not found afterwards.
    CommitLost = "commit-lost",
    /// A committed offset was found that nobody had committed.
    CommitPhantom = "commit-phantom",
    /// A later look at a committed offset found an older one.
    CommitRegress = "commit-regress",
    /// The commits and looks at a committed offset have no common order.
    CommitNotLinearizable = "commit-not-linearizable",
    /// A commit was taken from somebody who was no member in that generation any more.
    CommitFromFenced = "commit-from-fenced",
    /// A consumer committed more than the application was given.
    CommitOverrun = "commit-overrun",
    /// A consumer was reset although there was a committed offset.
    SpuriousReset = "spurious-reset",
    /// A rebalance did not end.
    StuckRebalance = "stuck-rebalance",
    /// A partition was owned by nobody.
    OrphanPartition = "orphan-partition",
    /// A client saw a generation that was lower than one before.
    GenerationRegress = "generation-regress",
    /// A sticky assignor moved a partition for no reason.
    NeedlessMove = "needless-move",
}

impl fmt::Display for AnomalyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for AnomalyKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
