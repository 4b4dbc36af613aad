//! What a member does about each error code, as tables. The Java client's reactions, except where a comment says why not.

use kavka_protocol::ErrorCode;

use crate::ErrorKind;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// Nothing is wrong.
    None,
    /// The same again, after a pause.
    Retry,
    /// Look for the coordinator, then go on.
    FindCoordinator,
    /// The member is not known: what it owned is lost. Join without an id.
    ForgetIdentity,
    /// The generation is over: what was owned is lost. Join with the same id.
    ForgetGeneration,
    /// A rebalance is going on: join it.
    Rejoin,
    /// Join with the id that came along (KIP-394).
    AdoptId,
    /// Give up.
    Fatal(ErrorKind),
}

fn fatal(code: ErrorCode) -> Reaction {
    Reaction::Fatal(match code {
        ErrorCode::GroupAuthorizationFailed => ErrorKind::GroupAuthorization,
        ErrorCode::FencedInstanceId => ErrorKind::FencedInstance,
        ErrorCode::InconsistentGroupProtocol => ErrorKind::InconsistentProtocol,
        ErrorCode::GroupMaxSizeReached => ErrorKind::GroupFull,
        ErrorCode::InvalidGroupId
        | ErrorCode::InvalidSessionTimeout
        | ErrorCode::UnsupportedVersion => ErrorKind::Refused,
        _ => ErrorKind::Protocol,
    })
}

pub(crate) fn on_join(code: ErrorCode) -> Reaction {
    match code {
        ErrorCode::None => Reaction::None,
        ErrorCode::CoordinatorLoadInProgress => Reaction::Retry,
        ErrorCode::CoordinatorNotAvailable | ErrorCode::NotCoordinator => Reaction::FindCoordinator,
        ErrorCode::UnknownMemberId => Reaction::ForgetIdentity,
        // Java's client has no row for it; the coordinator does not give it.
        ErrorCode::IllegalGeneration => Reaction::ForgetGeneration,
        ErrorCode::RebalanceInProgress => Reaction::Rejoin,
        ErrorCode::MemberIdRequired => Reaction::AdoptId,
        code => fatal(code),
    }
}

pub(crate) fn on_sync(code: ErrorCode) -> Reaction {
    match code {
        ErrorCode::None => Reaction::None,
        // Java's client gives up on it. It comes from a coordinator that has just moved, and joining again is what helps.
        ErrorCode::CoordinatorLoadInProgress => Reaction::Retry,
        ErrorCode::CoordinatorNotAvailable | ErrorCode::NotCoordinator => Reaction::FindCoordinator,
        ErrorCode::UnknownMemberId => Reaction::ForgetIdentity,
        ErrorCode::IllegalGeneration => Reaction::ForgetGeneration,
        ErrorCode::RebalanceInProgress => Reaction::Rejoin,
        code => fatal(code),
    }
}

pub(crate) fn on_heartbeat(code: ErrorCode) -> Reaction {
    match code {
        ErrorCode::None => Reaction::None,
        // Brokers take heartbeats blindly while they load; should one not, nothing is wrong with the member.
        ErrorCode::CoordinatorLoadInProgress => Reaction::Retry,
        ErrorCode::CoordinatorNotAvailable | ErrorCode::NotCoordinator => Reaction::FindCoordinator,
        ErrorCode::UnknownMemberId => Reaction::ForgetIdentity,
        ErrorCode::IllegalGeneration => Reaction::ForgetGeneration,
        ErrorCode::RebalanceInProgress => Reaction::Rejoin,
        code => fatal(code),
    }
}

pub(crate) fn on_leave(code: ErrorCode) -> Reaction {
    match code {
        ErrorCode::CoordinatorLoadInProgress => Reaction::Retry,
        ErrorCode::CoordinatorNotAvailable | ErrorCode::NotCoordinator => Reaction::FindCoordinator,
        // Whatever else it is, the member is not in the group any more, or will be removed when its session times out.
        _ => Reaction::None,
    }
}
