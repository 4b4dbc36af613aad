//! The history that the checker judges: written while the world runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kavka_checker::{Event, EventKind, History, Op, TopicPartition as Place};
use kavka_client::TopicPartition;

use crate::trace::Trace;

/// See the module.
pub(crate) struct Notebook {
    trace: Arc<Trace>,
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    events: Vec<Event>,
    last_process: u64,
}

/// An operation under way: who does it, and what.
#[derive(Debug)]
#[must_use]
pub(crate) struct Begun {
    process: u64,
    client: String,
    op: Op,
}

/// The process of what is no operation.
const NOTES: u64 = 0;
/// Above the processes that poll, of which each client has one.
const FIRST_OPERATION: u64 = 1_000_000;

impl Notebook {
    pub(crate) fn new(trace: Arc<Trace>) -> Self {
        Self { trace, pages: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, process: u64, client: &str, kind: EventKind, op: Op) {
        let time = self.trace.now();
        self.trace.tell(|| format!("{client}: {kind:?} {op:?}"));
        self.lock().events.push(Event::new(time, process, client, kind, op));
    }

    /// Something happens at once.
    pub(crate) fn note(&self, client: &str, op: Op) {
        self.push(NOTES, client, EventKind::Info, op);
    }

    /// Something begins. What is never ended stays open: nobody knows.
    pub(crate) fn begin(&self, client: &str, op: Op) -> Begun {
        let process = {
            let mut pages = self.lock();
            pages.last_process += 1;
            FIRST_OPERATION + pages.last_process
        };
        self.push(process, client, EventKind::Invoke, op.clone());
        Begun { process, client: client.to_owned(), op }
    }

    /// It ends; `learned` adds what is known now.
    pub(crate) fn end(&self, begun: Begun, kind: EventKind, learned: impl FnOnce(&mut Op)) {
        let Begun { process, client, mut op } = begun;
        learned(&mut op);
        self.push(process, &client, kind, op);
    }

    /// A consumer's application was given a record. `poller` tells its consumers apart.
    pub(crate) fn polled(
        &self,
        client: &str,
        poller: u64,
        records: &[(TopicPartition, i64, i64)],
        last: bool,
    ) {
        let mut given = std::collections::BTreeMap::new();
        for (partition, offset, value) in records {
            let list: &mut Vec<_> = given.entry(place(partition)).or_default();
            list.push((*offset, *value).into());
        }
        let op = |records| Op::Poll { records, rebalanced: Default::default(), last };
        self.push(poller, client, EventKind::Invoke, op(Default::default()));
        self.push(poller, client, EventKind::Ok, op(given));
    }

    /// What was written so far.
    pub(crate) fn history(&self) -> History {
        History::new(self.lock().events.clone())
    }
}

/// A partition, as the checker names it.
pub(crate) fn place(partition: &TopicPartition) -> Place {
    Place::new(partition.topic.to_string(), u32::try_from(partition.partition).unwrap_or(0))
}
