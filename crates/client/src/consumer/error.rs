//! Errors of the membership, as errors of the client.

use kavka_member::{ErrorKind as MemberErrorKind, MemberError, TopicPartition};

use crate::{Error, ErrorKind, error::Truncation};

/// The same error, as every call of the client returns it.
pub(super) fn of_member(error: &MemberError) -> Error {
    let kind = match &error.kind {
        MemberErrorKind::GroupAuthorization | MemberErrorKind::TopicAuthorization(_) => {
            ErrorKind::Authorization
        }
        MemberErrorKind::LostOwnership => ErrorKind::OwnershipLost,
        MemberErrorKind::Timeout => ErrorKind::TimedOut,
        MemberErrorKind::NoOffset { .. } => ErrorKind::NoOffset,
        MemberErrorKind::Truncated { .. } => ErrorKind::LogTruncated,
        MemberErrorKind::AssignorFailed(_) | MemberErrorKind::Misuse(_) => ErrorKind::Config,
        MemberErrorKind::Protocol => ErrorKind::Protocol,
        MemberErrorKind::Closed => ErrorKind::Closed,
        // A coordinator that was not reached answers nothing; trying again may help.
        MemberErrorKind::Unavailable if error.code.is_none() => ErrorKind::Disconnected,
        _ => ErrorKind::Broker,
    };
    let code = error.code.map(|code| format!(" ({} {})", code.name(), code.code()));
    let group =
        if error.group.is_empty() { String::new() } else { format!("group {}: ", error.group) };
    let message = format!("{group}{}{}", error.kind, code.unwrap_or_default());
    let told = Error::new(kind, message).with_advice(sentence(error.advice()));
    let told = match &error.kind {
        MemberErrorKind::Truncated { topic, partition, position, diverged } => told
            .with_truncation(Truncation {
                partition: TopicPartition::new(topic.clone(), *partition),
                position: *position,
                agrees_below: *diverged,
            }),
        _ => told,
    };
    match error.code {
        Some(code) => told.with_code(code),
        None => told,
    }
}

fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).chain(['.']).collect()
}

#[cfg(test)]
mod tests {
    use kavka_protocol::ErrorCode;

    use super::*;

    #[test]
    fn what_the_membership_says_is_kept() {
        let error = MemberError {
            kind: MemberErrorKind::FencedInstance,
            code: Some(ErrorCode::FencedInstanceId),
            group: "g".into(),
        };
        let told = of_member(&error);
        assert!(told.is_fatal() && !told.is_retriable());
        assert_eq!(
            told.to_string(),
            "group g: another member took over this group.instance.id (FENCED_INSTANCE_ID 82)"
        );
        assert_eq!(told.advice(), "Give each process an instance id of its own.");
    }
}
