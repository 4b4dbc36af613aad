//! What happened, in one number; and told, if somebody wants to read it.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, PoisonError},
};

use tokio::time::Instant;

use crate::network::Side;

/// Hashes everything that happens on the network and in the history, with its time.
pub(crate) struct Trace {
    origin: Instant,
    state: Mutex<State>,
    tells: bool,
}

struct State {
    hash: DefaultHasher,
    events: u64,
}

impl Trace {
    /// Begins now. With `tells`, each event is a line on standard error.
    pub(crate) fn new(tells: bool) -> Self {
        let state = State { hash: DefaultHasher::new(), events: 0 };
        Self { origin: Instant::now(), state: Mutex::new(state), tells }
    }

    /// Nanoseconds since the world began.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn add(&self, what: impl Hash) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (self.now(), what).hash(&mut state.hash);
        state.events += 1;
        state.hash.finish()
    }

    /// Bytes crossed the border between an end of a connection and its owner.
    pub(crate) fn bytes(&self, link: u64, side: Side, verb: &str, bytes: &[u8]) {
        let hash = self.add((link, side as u8, verb, bytes));
        if self.tells {
            let (now, count) = (self.time(), bytes.len());
            eprintln!("{now} {hash:016x} link {link}: {side:?} {verb} {count} bytes");
        }
    }

    /// Something else happened.
    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        let what = what();
        let hash = self.add(&what);
        if self.tells {
            eprintln!("{} {hash:016x} {what}", self.time());
        }
    }

    fn time(&self) -> String {
        format!("{:>10.3}", self.origin.elapsed().as_secs_f64())
    }

    /// The number, and of how many events.
    pub(crate) fn finish(&self) -> (u64, u64) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.hash.finish(), state.events)
    }
}
