//! What happened, in one number; and told, if somebody wants to read it.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::network::Side;

/// Where what happens is told, a line for each event.
#[derive(Clone, Debug, Default)]
pub enum Telling {
    /// Nowhere.
    #[default]
    Nowhere,
    /// On standard error.
    OnStandardError,
    /// Here, where it is still there when the world has come to a bad end.
    Into(Story),
}

/// What a world has told.
pub type Story = Arc<Mutex<String>>;

/// Hashes everything that happens on the network and in the history, with its time.
pub(crate) struct Trace {
    origin: Instant,
    state: Mutex<State>,
    telling: Telling,
}

struct State {
    hash: DefaultHasher,
    events: u64,
    /// The time of the last event, in nanoseconds.
    last: u64,
}

impl Trace {
    /// Begins now.
    pub(crate) fn new(telling: Telling) -> Self {
        let state = State { hash: DefaultHasher::new(), events: 0, last: 0 };
        Self { origin: Instant::now(), state: Mutex::new(state), telling }
    }

    /// Nanoseconds since the world began.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn add(&self, what: impl Hash) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.last = self.now();
        (state.last, what).hash(&mut state.hash);
        state.events += 1;
        state.hash.finish()
    }

    /// Bytes crossed the border between an end of a connection and its owner.
    pub(crate) fn bytes(&self, link: u64, side: Side, verb: &str, bytes: &[u8]) {
        let hash = self.add((link, side as u8, verb, bytes));
        self.line(hash, || format!("link {link}: {side:?} {verb} {} bytes", bytes.len()));
    }

    /// Something else happened.
    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        let what = what();
        let hash = self.add(&what);
        self.line(hash, || what);
    }

    fn line(&self, hash: u64, what: impl FnOnce() -> String) {
        match &self.telling {
            Telling::Nowhere => {}
            Telling::OnStandardError => eprintln!("{} {hash:016x} {}", self.time(), what()),
            Telling::Into(story) => {
                let line = format!("{} {hash:016x} {}\n", self.time(), what());
                story.lock().unwrap_or_else(PoisonError::into_inner).push_str(&line);
            }
        }
    }

    fn time(&self) -> String {
        format!("{:>10.3}", self.origin.elapsed().as_secs_f64())
    }

    /// The number, of how many events, and the time of the last one.
    pub(crate) fn finish(&self) -> (u64, u64, Duration) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.hash.finish(), state.events, Duration::from_nanos(state.last))
    }
}
