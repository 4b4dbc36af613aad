//! The coordinator of a small world: the shard's machine, its log, and a shell around it, in which every append is durable at once.
//!
//! What a crash leaves of a log that is not durable yet is left to the campaign. What it does to clients is here all the same: the
//! answer to what was stored does not arrive, or the request does not and nothing was stored.

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
};

use kavka_coordinator::group::{
    Answer, Event, GroupConfig, GroupShard, Input, Reply, RequestId,
    invariants::{Entry, History, Logged, NaiveOffsets, check_codes, live_equals_replayed},
};
use kavka_protocol::{ByteString, ErrorCode, Now};

use crate::safety::{Watch, check_decision};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Coordinator {
    config: GroupConfig,
    pub(super) machine: GroupShard,
    log: Vec<Entry>,
    /// How often the shard was loaded.
    pub(super) lives: u64,
    /// Requests that are not answered yet, and where the answer goes.
    parked: BTreeMap<usize, ReturnAddress>,
    // What the checks remember: all of it can be told from the machine and the log.
    history: History,
    naive: NaiveOffsets,
    generations: BTreeMap<ByteString, i32>,
}

/// A client's place, and its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ReturnAddress {
    pub(super) slot: usize,
    pub(super) connection: usize,
}

/// Which request this is of those that are parked, where its answer goes, and the answer.
pub(super) type Returned = (usize, ReturnAddress, Reply);

impl Coordinator {
    pub(super) fn new(config: GroupConfig, now: Now) -> Self {
        let mut this = Self {
            machine: GroupShard::new(config.clone(), FIRST_SEED),
            config,
            log: Vec::new(),
            lives: 0,
            parked: BTreeMap::new(),
            history: History::default(),
            naive: NaiveOffsets::default(),
            generations: BTreeMap::new(),
        };
        this.load(now);
        this
    }

    /// A number for a request of this client: the smallest that is free, so that it says nothing about the past.
    pub(super) fn park(&mut self, address: ReturnAddress) -> usize {
        let first = address.slot * REQUESTS_OF_A_CLIENT;
        let free = (first..).find(|number| !self.parked.contains_key(number));
        let number = free.unwrap_or(first);
        self.parked.insert(number, address);
        number
    }

    /// One input: decide, append, apply, answer.
    ///
    /// # Panics
    /// If something does not hold.
    pub(super) fn step(&mut self, now: Now, input: Input) -> (Vec<Returned>, Vec<Event>) {
        let watch = Watch::of(&self.machine, &input);
        let output = self.machine.handle(now, input);
        check_decision(&self.machine, &self.naive, &mut self.generations, &output, watch);
        if !output.records.is_empty() {
            let first = self.log.len();
            for (offset, record) in (first..).zip(&output.records) {
                let offset = i64::try_from(offset).unwrap_or(i64::MAX);
                self.log.push(Entry { offset, what: Logged::Plain(record.clone()) });
            }
            for entry in &self.log[first..] {
                entry.apply_to(&mut self.machine);
                self.naive.apply(entry);
            }
            let live = self.machine.hard_state();
            live_equals_replayed(&live, &self.config, &self.log);
            assert_eq!(live, self.replayed(0).hard_state(), "S2: live equals replayed");
        }
        self.history.check(&self.machine, &self.config);
        (self.answer(output.answers), output.events)
    }

    fn answer(&mut self, answers: Vec<Answer>) -> Vec<Returned> {
        let returned = answers.into_iter().map(|Answer { request, reply, .. }| {
            check_codes(&reply);
            let number = usize::try_from(request.0).unwrap_or(usize::MAX);
            let address = self.parked.remove(&number);
            let address = address.expect("L5: an answer to a request that waits for none");
            (number, address, reply)
        });
        returned.collect()
    }

    /// A machine that has read the log, from its bytes.
    fn replayed(&self, seed: u64) -> GroupShard {
        let mut machine = GroupShard::new(self.config.clone(), seed);
        self.log.iter().for_each(|entry| entry.replay_into(&mut machine));
        machine
    }

    /// The shard goes away and comes back. What is parked is answered.
    pub(super) fn unload(&mut self, now: Now) -> Vec<Returned> {
        let output = self.machine.handle(now, Input::Unload { error: ErrorCode::NotCoordinator });
        assert!(
            output.records.is_empty() && self.machine.next_deadline().is_none(),
            "S12: unloaded"
        );
        let returned = self.answer(output.answers);
        assert!(self.parked.is_empty(), "L5: unloaded, and {:?} are not answered", self.parked);
        returned
    }

    /// The process dies, and with it every request that it has.
    pub(super) fn crash(&mut self) {
        self.parked.clear();
    }

    /// A new machine reads the log.
    pub(super) fn load(&mut self, now: Now) {
        self.lives += 1;
        let former = self.machine.hard_state();
        self.machine = self.replayed(FIRST_SEED + self.lives);
        assert_eq!(self.machine.hard_state(), former, "S2: what is loaded is what was there");
        self.history.restarted();
        self.generations.clear();
        let (answers, _) = self.step(now, Input::Loaded);
        assert!(answers.is_empty());
    }

    /// Hashes what decides on its future. The log is not in it: S2 says that it is as the hard state.
    pub(super) fn fingerprint<H: Hasher>(&self, state: &mut H) {
        self.machine.hash_soft_state(state);
        let hard = self.machine.hard_state();
        hard.groups.hash(state);
        for (place, (value, _)) in &hard.offsets {
            // Where the record stands in the log matters to transactions only, and there are none.
            (place, value).hash(state);
        }
        assert!(hard.pending.is_empty(), "there are no transactions");
        (self.lives, &self.parked).hash(state);
    }
}

/// What a parked request is called to the machine.
pub(super) fn request_id(number: usize) -> RequestId {
    RequestId(number as u64)
}

/// More than a client ever has parked.
const REQUESTS_OF_A_CLIENT: usize = 1_000;

/// Of the ids of members. A seed is for one machine.
const FIRST_SEED: u64 = 1;
