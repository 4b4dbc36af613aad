//! What can go wrong for the application: kind, code, whether a retry may help, whether the member is done for, what to do.

use kavka_protocol::{ByteString, ErrorCode};

/// An error the application is told of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("group {group}: {kind}{}; {}", code_in_brackets(*code), kind.advice())]
pub struct MemberError {
    /// What kind of error.
    pub kind: ErrorKind,
    /// The code of the broker, if one gave it.
    pub code: Option<ErrorCode>,
    /// The group; empty without one.
    pub group: ByteString,
}

/// What kind of error, by what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The member may not use the group.
    #[error("not authorized for the group")]
    GroupAuthorization,
    /// The member may not use a topic.
    #[error("not authorized for the topic {0}")]
    TopicAuthorization(ByteString),
    /// Another process runs under the same `group.instance.id`.
    #[error("another member took over this group.instance.id")]
    FencedInstance,
    /// The group has members of another protocol type, or no assignor in common.
    #[error("the group's members have no protocol in common with this one")]
    InconsistentProtocol,
    /// The group has as many members as the broker allows.
    #[error("the group is full")]
    GroupFull,
    /// The broker refuses the group id, the session timeout or the version.
    #[error("the broker refuses the settings of this member")]
    Refused,
    /// The partitions of a commit are not this member's any more: what was read of them will be read again.
    #[error("the partition was revoked or lost before the commit")]
    LostOwnership,
    /// The broker refuses this commit, and would again.
    #[error("the broker refuses the commit: its metadata or the request is too large")]
    CommitTooLarge,
    /// The broker refuses this commit for a reason that clients do not foresee. The member goes on.
    #[error("the broker refuses the commit")]
    CommitRefused,
    /// A consumer that assigns itself commits under a group that has members.
    #[error("the group has members, and this consumer, which assigns itself, is none of them")]
    NotAMember,
    /// Time was up before it could be done; it may have been done all the same.
    #[error("no answer in time")]
    Timeout,
    /// The broker could not do it now.
    #[error("the coordinator could not do it now")]
    Unavailable,
    /// The topic or partition does not exist, or not yet.
    #[error("the topic {0} is not known")]
    UnknownTopic(ByteString),
    /// No committed offset, or one out of range, and `auto.offset.reset` is `none`.
    #[error("no offset to start from in {topic}-{partition}, and auto.offset.reset is none")]
    NoOffset {
        /// The topic.
        topic: ByteString,
        /// The partition.
        partition: i32,
    },
    /// The log was cut below the position (KIP-320), and `auto.offset.reset` is `none`.
    #[error(
        "{topic}-{partition} was truncated below the position {position}; {}",
        agreement(*diverged)
    )]
    Truncated {
        /// The topic.
        topic: ByteString,
        /// The partition.
        partition: i32,
        /// Where the member stood.
        position: i64,
        /// Up to where the log is as it was read; `None` if that is unknown.
        diverged: Option<i64>,
    },
    /// The assignor of the leader failed.
    #[error("the assignor failed: {0}")]
    AssignorFailed(String),
    /// The broker answered what the protocol does not foresee.
    #[error("the broker gave an answer that the protocol does not foresee")]
    Protocol,
    /// A call that makes no sense now.
    #[error("{0}")]
    Misuse(&'static str),
    /// The member is closed, or failed for good before.
    #[error("the member is closed")]
    Closed,
}

impl MemberError {
    /// Whether the same call may succeed later.
    pub fn is_retriable(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::UnknownTopic(_)
        )
    }

    /// Whether the member has given up: it takes part in nothing any more and has to be closed.
    pub fn is_fatal(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::GroupAuthorization
                | ErrorKind::FencedInstance
                | ErrorKind::InconsistentProtocol
                | ErrorKind::GroupFull
                | ErrorKind::Refused
                | ErrorKind::AssignorFailed(_)
                | ErrorKind::Protocol
        )
    }

    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        self.kind.advice()
    }
}

impl ErrorKind {
    fn advice(&self) -> &'static str {
        match self {
            ErrorKind::GroupAuthorization => "grant READ on the group, then make a new consumer",
            ErrorKind::TopicAuthorization(_) => "grant READ on the topic, or leave it out",
            ErrorKind::FencedInstance => "give each process an instance id of its own",
            ErrorKind::InconsistentProtocol => {
                "configure an assignor that all members have, or use another group"
            }
            ErrorKind::GroupFull => "run fewer members, or raise group.max.size on the broker",
            ErrorKind::Refused => {
                "change the setting that the code names, then make a new consumer"
            }
            ErrorKind::LostOwnership => {
                "do nothing: the member that owns the partition now reads these records again"
            }
            ErrorKind::CommitTooLarge => "commit less metadata, or fewer partitions at once",
            ErrorKind::CommitRefused => {
                "look up the code; the consumer goes on, and a later commit may be taken"
            }
            ErrorKind::NotAMember => "use another group.id, or subscribe",
            ErrorKind::Timeout | ErrorKind::Unavailable => {
                "try again, unless a later offset was committed since"
            }
            ErrorKind::UnknownTopic(_) => "create the topic, or leave it out",
            ErrorKind::NoOffset { .. } => "seek, or set auto.offset.reset",
            ErrorKind::Truncated { .. } => "seek to where the log agrees, or set auto.offset.reset",
            ErrorKind::AssignorFailed(_) => "fix the assignor, then make a new consumer",
            ErrorKind::Protocol => {
                "close the consumer and make a new one; report it if it comes again"
            }
            ErrorKind::Misuse(_) => "fix the program",
            ErrorKind::Closed => "make a new consumer",
        }
    }
}

fn agreement(diverged: Option<i64>) -> String {
    match diverged {
        Some(offset) => format!("below offset {offset} it is as it was read"),
        None => "up to where it is as it was read is not known".to_owned(),
    }
}

fn code_in_brackets(code: Option<ErrorCode>) -> String {
    code.map_or_else(String::new, |code| format!(" [{} {}]", code.name(), code.code()))
}
