//! What goes wrong in a client, told so that the caller knows what to do next.

use std::{fmt, sync::Arc};

use kavka_member::TopicPartition;
use kavka_protocol::ErrorCode;

/// Something went wrong. Cheap to clone.
///
/// `Display` says what happened and to what; [`Error::advice`] what to do about it.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    code: Option<ErrorCode>,
    message: String,
    advice: Option<String>,
    truncation: Option<Truncation>,
}

/// Where a log was cut below what a consumer had read of it ([`ErrorKind::LogTruncated`], KIP-320).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// The partition.
    pub partition: TopicPartition,
    /// Where the consumer was to read next.
    pub position: i64,
    /// Up to here the log is as it was read; to go on, seek here. `None`: that is not known.
    pub agrees_below: Option<i64>,
}

/// What sort of thing went wrong; shaped by what the caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting, or an argument of a call, cannot work. Fix it.
    Config,
    /// No connection could be made. Retriable.
    Connect,
    /// The connection went away before the answer; the request may or may not have been worked on. Retriable.
    Disconnected,
    /// Time ran out; the request may or may not have been worked on. Retriable.
    TimedOut,
    /// A broker sent what is no answer in this protocol. Trying again rarely helps.
    Protocol,
    /// The broker does not have the API, or no version of it that can carry the request.
    Unsupported,
    /// The broker does not believe that we are who we say, or its certificate was not accepted.
    Authentication,
    /// The broker refuses: an ACL is missing.
    Authorization,
    /// The broker answered with an error code; see [`Error::code`].
    Broker,
    /// The partition, or the membership in the group, has been lost to somebody else. What was not committed will be seen again.
    OwnershipLost,
    /// There is no offset to start from, and `auto.offset.reset` is `none`. Seek.
    NoOffset,
    /// A log was cut below the position, and `auto.offset.reset` is `none`: records that were read are not there any more. See
    /// [`Error::truncation`]; seek.
    LogTruncated,
    /// A record cannot be read or written: too large, corrupt, or not decodable.
    Record,
    /// A buffer has no room for now, and the caller did not want to wait. Retriable.
    BufferFull,
    /// The client was closed, or is closing.
    Closed,
}

impl Error {
    /// An error of a kind, with a sentence that says what happened and to what.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self(Arc::new(Inner { kind, code: None, message, advice: None, truncation: None }))
    }

    /// A broker's error code. `what` names what was asked for: "creating topic orders".
    pub fn broker(code: ErrorCode, what: impl fmt::Display) -> Self {
        let kind = match code {
            ErrorCode::TopicAuthorizationFailed
            | ErrorCode::GroupAuthorizationFailed
            | ErrorCode::ClusterAuthorizationFailed
            | ErrorCode::TransactionalIdAuthorizationFailed
            | ErrorCode::DelegationTokenAuthorizationFailed => ErrorKind::Authorization,
            ErrorCode::SaslAuthenticationFailed
            | ErrorCode::UnsupportedSaslMechanism
            | ErrorCode::IllegalSaslState => ErrorKind::Authentication,
            ErrorCode::UnsupportedVersion => ErrorKind::Unsupported,
            _ => ErrorKind::Broker,
        };
        Self(Arc::new(Inner {
            kind,
            code: Some(code),
            message: format!("{what}: the broker answered {} ({})", code.name(), code.code()),
            advice: None,
            truncation: None,
        }))
    }

    /// The same, with the broker's own words added if it sent some.
    #[must_use]
    pub fn with_detail(self, detail: Option<&str>) -> Self {
        let Some(detail) = detail.filter(|detail| !detail.is_empty()) else { return self };
        let message = format!("{}: {detail}", self.0.message);
        Self(Arc::new(Inner { message, ..Arc::unwrap_or_clone(self.0) }))
    }

    /// The same, with a sentence of what to do.
    #[must_use]
    pub fn with_advice(self, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self(Arc::new(Inner { advice, ..Arc::unwrap_or_clone(self.0) }))
    }

    /// The same, with a code.
    #[must_use]
    pub fn with_code(self, code: ErrorCode) -> Self {
        Self(Arc::new(Inner { code: Some(code), ..Arc::unwrap_or_clone(self.0) }))
    }

    /// The same, with where the log was cut.
    #[must_use]
    pub(crate) fn with_truncation(self, truncation: Truncation) -> Self {
        let truncation = Some(truncation);
        Self(Arc::new(Inner { truncation, ..Arc::unwrap_or_clone(self.0) }))
    }

    /// The same, as what happened in the course of something larger: "reading metadata: ...".
    #[must_use]
    pub fn while_doing(self, what: impl fmt::Display) -> Self {
        let message = format!("{what}: {}", self.0.message);
        Self(Arc::new(Inner { message, ..Arc::unwrap_or_clone(self.0) }))
    }

    /// What sort of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The broker's code, if it sent one.
    pub fn code(&self) -> Option<ErrorCode> {
        self.0.code
    }

    /// Where the log was cut, of [`ErrorKind::LogTruncated`].
    pub fn truncation(&self) -> Option<&Truncation> {
        self.0.truncation.as_ref()
    }

    /// Whether the same call can succeed later without anything being changed.
    pub fn is_retriable(&self) -> bool {
        match self.0.kind {
            ErrorKind::Connect
            | ErrorKind::Disconnected
            | ErrorKind::TimedOut
            | ErrorKind::BufferFull => true,
            ErrorKind::Broker => self.0.code.is_some_and(ErrorCode::is_retriable),
            _ => false,
        }
    }

    /// Whether the client that reported it is of no use any more: close it and, where it makes sense, make a new one.
    pub fn is_fatal(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Closed | ErrorKind::Authentication)
            || matches!(
                self.0.code,
                Some(
                    ErrorCode::FencedInstanceId
                        | ErrorCode::ProducerFenced
                        | ErrorCode::InvalidProducerEpoch
                        | ErrorCode::UnsupportedForMessageFormat
                )
            )
    }

    /// What to do about it, in a sentence.
    pub fn advice(&self) -> &str {
        if let Some(advice) = &self.0.advice {
            return advice;
        }
        match self.0.kind {
            ErrorKind::Config => "Correct the setting and start again.",
            ErrorKind::Connect => {
                "Check that the brokers run, that bootstrap.servers names a listener this machine can reach, and that \
                 security.protocol fits that listener."
            }
            ErrorKind::Disconnected | ErrorKind::TimedOut => {
                "Try again; if it goes on, look at the broker's log and at the network between."
            }
            ErrorKind::Protocol => {
                "Check that the address is a Kafka listener and that security.protocol fits it; else report it as a bug."
            }
            ErrorKind::Unsupported => "Upgrade the broker, or do without this call.",
            ErrorKind::Authentication => "Check user, password, mechanism and certificates.",
            ErrorKind::Authorization => "Have the missing ACL granted to this principal.",
            ErrorKind::Broker if self.is_retriable() => "Try again.",
            ErrorKind::Broker => {
                "Look up the code; the request has to be changed before it can succeed."
            }
            ErrorKind::OwnershipLost => {
                "Go on: another member reads these partitions now. Poll more often if it happens again and again."
            }
            ErrorKind::NoOffset => "Seek to an offset, or set auto.offset.reset.",
            ErrorKind::LogTruncated => {
                "Take back what was made of the records that are gone, and seek to where the log agrees."
            }
            ErrorKind::Record => "Skip the record by seeking past it, or fix what writes it.",
            ErrorKind::BufferFull => "Try again when some records are delivered.",
            ErrorKind::Closed => "Make a new client.",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug.field("kind", &self.0.kind);
        if let Some(code) = self.0.code {
            debug.field("code", &code);
        }
        debug.field("message", &self.0.message).finish()
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_happened_and_what_to_do() {
        let error = Error::broker(ErrorCode::TopicAuthorizationFailed, "creating topic orders")
            .with_detail(Some("no ACL"));
        assert_eq!(error.kind(), ErrorKind::Authorization);
        assert_eq!(
            error.to_string(),
            "creating topic orders: the broker answered TOPIC_AUTHORIZATION_FAILED (29): no ACL"
        );
        assert!(!error.is_retriable() && !error.is_fatal());
        assert_eq!(error.advice(), "Have the missing ACL granted to this principal.");
        assert_eq!(error.with_advice("Ask.").advice(), "Ask.");
    }

    #[test]
    fn codes_that_pass_are_retriable_and_fencing_is_fatal() {
        assert!(Error::broker(ErrorCode::NotLeaderOrFollower, "x").is_retriable());
        assert!(!Error::broker(ErrorCode::InvalidRequest, "x").is_retriable());
        assert!(Error::new(ErrorKind::TimedOut, "x").is_retriable());
        assert!(Error::broker(ErrorCode::FencedInstanceId, "x").is_fatal());
    }
}
