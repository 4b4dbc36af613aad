//! What is done about the error codes of OffsetCommit, OffsetFetch, ListOffsets and OffsetForLeaderEpoch.

use kavka_protocol::{ByteString, ErrorCode};

use crate::ErrorKind;

/// What to do about a code on a partition of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CommitReaction {
    Done,
    /// The same again, after a pause, if the caller wants retries.
    Retry,
    /// The same, but look for the coordinator first.
    FindCoordinator,
    /// Join; then send it with the next generation if the partition is still owned.
    Rejoin,
    /// The generation is over. With the next one, if the partition is still owned.
    ForgetGeneration,
    /// The same, and the member id is gone too.
    ForgetIdentity,
    /// This commit fails, the member goes on.
    Fail(ErrorKind),
    /// The member gives up.
    Fatal(ErrorKind),
}

/// `is_member`: it was sent under a membership, and not by a consumer that assigns itself.
pub(crate) fn on_commit(code: ErrorCode, topic: &ByteString, is_member: bool) -> CommitReaction {
    match code {
        ErrorCode::None => CommitReaction::Done,
        ErrorCode::CoordinatorLoadInProgress | ErrorCode::UnknownTopicOrPartition => {
            CommitReaction::Retry
        }
        ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator
        | ErrorCode::RequestTimedOut => CommitReaction::FindCoordinator,
        // There is no generation to wait for: others are members of this group, or were a moment ago.
        ErrorCode::UnknownMemberId
        | ErrorCode::GroupIdNotFound
        | ErrorCode::IllegalGeneration
        | ErrorCode::RebalanceInProgress
            if !is_member =>
        {
            CommitReaction::Fail(ErrorKind::NotAMember)
        }
        // OffsetCommit 9 and later say so of a group that is gone, where older ones say that the generation is over.
        ErrorCode::UnknownMemberId | ErrorCode::GroupIdNotFound => CommitReaction::ForgetIdentity,
        ErrorCode::IllegalGeneration => CommitReaction::ForgetGeneration,
        ErrorCode::RebalanceInProgress => CommitReaction::Rejoin,
        ErrorCode::FencedInstanceId => CommitReaction::Fatal(ErrorKind::FencedInstance),
        ErrorCode::GroupAuthorizationFailed => CommitReaction::Fatal(ErrorKind::GroupAuthorization),
        ErrorCode::TopicAuthorizationFailed => {
            CommitReaction::Fail(ErrorKind::TopicAuthorization(topic.clone()))
        }
        ErrorCode::OffsetMetadataTooLarge | ErrorCode::InvalidCommitOffsetSize => {
            CommitReaction::Fail(ErrorKind::CommitTooLarge)
        }
        // The ids of topics come from metadata; a refreshed one may know better.
        ErrorCode::UnknownTopicId => CommitReaction::Retry,
        code if code.is_retriable() => CommitReaction::Retry,
        // Nothing that is read depends on a commit, and the next one may be taken: Java's client too fails this one alone.
        _ => CommitReaction::Fail(ErrorKind::CommitRefused),
    }
}

/// Whether the broker does not know the topic: it was deleted, or the broker has not heard of it yet.
pub(crate) fn is_about_topic(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId)
}

/// What to do about a code on a whole OffsetFetch, or on a partition of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FetchReaction {
    Done,
    Retry,
    FindCoordinator,
    /// The partition gets no position until the application seeks or subscribes anew.
    Fail(ErrorKind),
    Fatal(ErrorKind),
}

/// **Never** is an error taken for "no offset": that would reset the position and skip or repeat records.
pub(crate) fn on_fetch(code: ErrorCode, topic: Option<&ByteString>) -> FetchReaction {
    let unknown = topic.cloned().unwrap_or_default();
    match code {
        ErrorCode::None => FetchReaction::Done,
        ErrorCode::UnstableOffsetCommit if kavka_mutants::mutant("error-is-no-offset") => {
            FetchReaction::Done
        }
        ErrorCode::CoordinatorNotAvailable | ErrorCode::NotCoordinator => {
            FetchReaction::FindCoordinator
        }
        ErrorCode::UnknownTopicOrPartition => FetchReaction::Fail(ErrorKind::UnknownTopic(unknown)),
        ErrorCode::TopicAuthorizationFailed => {
            FetchReaction::Fail(ErrorKind::TopicAuthorization(unknown))
        }
        ErrorCode::GroupAuthorizationFailed => FetchReaction::Fatal(ErrorKind::GroupAuthorization),
        // Codes of a membership that is about to change: ask again until the partition is lost or kept.
        ErrorCode::UnstableOffsetCommit
        | ErrorCode::UnknownTopicId
        | ErrorCode::StaleMemberEpoch
        | ErrorCode::UnknownMemberId
        | ErrorCode::IllegalGeneration
        | ErrorCode::RebalanceInProgress => FetchReaction::Retry,
        code if code.is_retriable() => FetchReaction::Retry,
        _ => FetchReaction::Fatal(ErrorKind::Protocol),
    }
}

/// What to do about a code on a partition of ListOffsets or OffsetForLeaderEpoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LeaderReaction {
    Done,
    /// After a pause, with newer metadata.
    Retry,
    /// The partition gets no position until the application seeks or subscribes anew.
    Fail(ErrorKind),
}

pub(crate) fn on_leader(code: ErrorCode, topic: &ByteString) -> LeaderReaction {
    match code {
        ErrorCode::None => LeaderReaction::Done,
        ErrorCode::TopicAuthorizationFailed => {
            LeaderReaction::Fail(ErrorKind::TopicAuthorization(topic.clone()))
        }
        // A leader that moves, an epoch that one side does not know yet, a log that is offline: newer metadata helps. A code that
        // no one foresaw is asked again too, rather than guessed about.
        _ => LeaderReaction::Retry,
    }
}
