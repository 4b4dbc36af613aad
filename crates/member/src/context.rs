//! What a step works with besides its own state: time, settings, randomness, requests under way, and the output it fills.

use std::{collections::BTreeMap, time::Duration};

use kavka_protocol::{ByteString, ErrorCode};

use crate::{
    ErrorKind, Event, MemberConfig, MemberError, Monotonic, Now, Outgoing, Output, Request,
    RequestId, Target, Trace,
    backoff::{Attempts, Random},
    request::RequestKind,
};

/// See the module.
pub(crate) struct Context<'a> {
    pub(crate) now: Now,
    pub(crate) config: &'a MemberConfig,
    pub(crate) random: &'a mut Random,
    pub(crate) requests: &'a mut Requests,
    pub(crate) output: &'a mut Output,
}

/// The requests under way: whoever is not in here any more is not listened to.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Requests {
    last: RequestId,
    under_way: BTreeMap<RequestId, UnderWay>,
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct UnderWay {
    pub(crate) kind: RequestKind,
    pub(crate) deadline: Monotonic,
    pub(crate) to_coordinator: bool,
}

impl Requests {
    pub(crate) fn take(&mut self, id: RequestId) -> Option<UnderWay> {
        self.under_way.remove(&id)
    }

    pub(crate) fn kind(&self, id: RequestId) -> Option<RequestKind> {
        self.under_way.get(&id).map(|request| request.kind)
    }

    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        self.under_way.values().map(|request| request.deadline).min()
    }

    /// A request that is out of time.
    pub(crate) fn overdue(&self, now: Monotonic) -> Option<RequestId> {
        self.under_way.iter().find(|(_, request)| request.deadline <= now).map(|(id, _)| *id)
    }

    pub(crate) fn to_coordinator(&self) -> Vec<RequestId> {
        let ids = self.under_way.iter().filter(|(_, request)| request.to_coordinator);
        ids.map(|(id, _)| *id).collect()
    }

    pub(crate) fn clear(&mut self) {
        self.under_way.clear();
    }
}

impl Context<'_> {
    pub(crate) fn monotonic(&self) -> Monotonic {
        self.now.monotonic
    }

    pub(crate) fn send(
        &mut self,
        target: Target,
        timeout: Duration,
        request: Request,
    ) -> RequestId {
        self.requests.last.0 += 1;
        let id = self.requests.last;
        let under_way = UnderWay {
            kind: request.kind(),
            deadline: self.now.monotonic + timeout,
            to_coordinator: matches!(target, Target::Coordinator(_)),
        };
        self.requests.under_way.insert(id, under_way);
        self.output.requests.push(Outgoing { id, target, timeout, request });
        id
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.output.events.push(event);
    }

    pub(crate) fn trace(&mut self, trace: Trace) {
        self.output.traces.push(trace);
    }

    /// When to try again after one more failure.
    pub(crate) fn retry_at(&mut self, attempts: &mut Attempts) -> Monotonic {
        let (initial, max) = (self.config.retry_backoff, self.config.retry_backoff_max);
        self.now.monotonic + attempts.fail(self.random, initial, max)
    }

    pub(crate) fn error(&self, kind: ErrorKind, code: Option<ErrorCode>) -> MemberError {
        MemberError { kind, code, group: self.group() }
    }

    /// The group; empty without one.
    pub(crate) fn group(&self) -> ByteString {
        self.config.group_id.clone().unwrap_or_default()
    }
}
