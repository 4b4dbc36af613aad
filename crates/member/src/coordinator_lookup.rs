//! Who coordinates the group: found by asking any broker, forgotten when it does not answer or says that it is another one.

use kavka_protocol::ErrorCode;

use crate::{
    Coordinator, ErrorKind, Failure, MemberError, Monotonic, Request, RequestId, Target, Trace,
    backoff::Attempts, context::Context, output::Trouble,
};

/// See the module.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct CoordinatorLookup {
    known: Option<Coordinator>,
    request: Option<RequestId>,
    /// Failed lookups, and coordinators that turned out to be none, in a row.
    attempts: Attempts,
    retry_at: Option<Monotonic>,
}

impl CoordinatorLookup {
    pub(crate) fn known(&self) -> Option<&Coordinator> {
        self.known.as_ref()
    }

    /// Asks, unless that is under way or it is too early.
    pub(crate) fn advance(&mut self, ctx: &mut Context<'_>) -> bool {
        let too_early = self.retry_at.is_some_and(|at| at > ctx.monotonic());
        if self.known.is_some() || self.request.is_some() || too_early {
            return false;
        }
        self.retry_at = None;
        let request = Request::FindCoordinator { group: ctx.group() };
        self.request = Some(ctx.send(Target::AnyBroker, ctx.config.request_timeout, request));
        true
    }

    /// When a lookup that is wanted would be tried again.
    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        if self.known.is_some() || self.request.is_some() { None } else { self.retry_at }
    }

    /// # Errors
    /// A code that no retry helps against.
    pub(crate) fn on_response(
        &mut self,
        ctx: &mut Context<'_>,
        result: Result<Coordinator, ErrorCode>,
    ) -> Result<(), MemberError> {
        self.request = None;
        match result {
            Ok(found) => {
                ctx.trace(Trace::CoordinatorFound(found.clone()));
                self.known = Some(found);
                Ok(())
            }
            Err(code) if code.is_retriable() => {
                self.retry(ctx, Trouble::Code(code));
                Ok(())
            }
            Err(code) => {
                let kind = match code {
                    ErrorCode::GroupAuthorizationFailed => ErrorKind::GroupAuthorization,
                    ErrorCode::InvalidGroupId => ErrorKind::Refused,
                    _ => ErrorKind::Protocol,
                };
                Err(ctx.error(kind, Some(code)))
            }
        }
    }

    pub(crate) fn on_failure(&mut self, ctx: &mut Context<'_>, failure: Failure) {
        if kavka_mutants::mutant("lookup-not-retried") {
            return;
        }
        self.request = None;
        self.retry(ctx, Trouble::Failure(failure));
    }

    fn retry(&mut self, ctx: &mut Context<'_>, why: Trouble) {
        ctx.trace(Trace::WillRetry { what: "FindCoordinator", why });
        self.retry_at = Some(ctx.retry_at(&mut self.attempts));
    }

    /// Forgets the coordinator. The next lookup waits if this comes in a row: a broker that is pointed at and says that it is
    /// not the coordinator must not be asked in a circle. The connection is closed, so that nothing asked of it happens later
    /// than what is asked next.
    pub(crate) fn forget(&mut self, ctx: &mut Context<'_>, why: Trouble) {
        let Some(former) = self.known.take() else { return };
        if self.attempts.count() > 0 {
            self.retry_at = Some(ctx.retry_at(&mut self.attempts));
        } else {
            // The first time, at once; but a second time will wait.
            let _ = ctx.retry_at(&mut self.attempts);
        }
        ctx.output.disconnect.push(former.clone());
        ctx.trace(Trace::CoordinatorUnknown { former, why });
    }

    /// The coordinator works.
    pub(crate) fn confirm(&mut self) {
        self.attempts.succeed();
    }
}
