//! Connections of a small world: as those of the campaign, but with nothing on them that takes time.

use std::{collections::VecDeque, hash::Hash};

use kavka_coordinator::group::{Reply, Request};
use kavka_member::RequestId;

use super::digest::Sealed;

/// A connection, with what is on it in either direction.
#[derive(Clone, Debug, Hash)]
pub(super) struct Connection {
    /// Those of a client rise.
    pub(super) number: usize,
    /// The client sends and listens.
    pub(super) is_open: bool,
    /// The coordinator listens and sends.
    pub(super) is_served: bool,
    /// Nothing moves for now.
    pub(super) is_stalled: bool,
    /// Requests on their way.
    pub(super) up: VecDeque<Asked>,
    /// Requests that the coordinator has, in their order.
    pub(super) unanswered: VecDeque<Unanswered>,
    /// Answers on their way.
    pub(super) down: VecDeque<(RequestId, Sealed<Reply>)>,
    /// What the client waits for.
    pub(super) outstanding: Vec<RequestId>,
}

/// A request on its way. Of two that are the same nobody waits for the answer to the first.
#[derive(Clone, Debug, Hash)]
pub(super) struct Asked {
    pub(super) tag: Option<RequestId>,
    pub(super) request: Sealed<Request>,
}

/// A request that the coordinator has.
#[derive(Clone, Debug, Hash)]
pub(super) struct Unanswered {
    pub(super) number: usize,
    pub(super) tag: Option<RequestId>,
    pub(super) is_join: bool,
    pub(super) reply: Option<Sealed<Reply>>,
}

impl Connection {
    pub(super) fn new(number: usize) -> Self {
        Self {
            number,
            is_open: true,
            is_served: true,
            is_stalled: false,
            up: VecDeque::new(),
            unanswered: VecDeque::new(),
            down: VecDeque::new(),
            outstanding: Vec::new(),
        }
    }

    /// A reply is made: it leaves when those before it have left.
    pub(super) fn reply(&mut self, number: usize, reply: Reply) {
        if let Some(row) = self.unanswered.iter_mut().find(|row| row.number == number) {
            row.reply = Some(Sealed::new(reply));
        }
        while let Some(Unanswered { tag, reply: Some(reply), .. }) = self.unanswered.front() {
            if let Some(tag) = tag.filter(|_| self.is_open) {
                self.down.push_back((tag, reply.clone()));
            }
            self.unanswered.pop_front();
        }
    }

    /// The client closes it. What it has sent is on its way all the same.
    pub(super) fn close(&mut self) {
        self.is_open = false;
        self.down.clear();
        self.outstanding.clear();
    }

    /// The coordinator's process is gone.
    pub(super) fn break_off(&mut self) {
        self.is_served = false;
        self.is_stalled = false;
        self.up.clear();
        self.unanswered.clear();
        self.down.clear();
    }

    /// Whether nothing that happens on it can matter any more: it is closed, nothing is on its way, and the coordinator, when it
    /// sees that, has no join to give up.
    pub(super) fn is_done(&self) -> bool {
        let matters = self.is_served && (!self.up.is_empty() || self.has_parked_join());
        !self.is_open && !matters
    }

    fn has_parked_join(&self) -> bool {
        self.unanswered.iter().any(|row| row.is_join && row.reply.is_none())
    }
}
