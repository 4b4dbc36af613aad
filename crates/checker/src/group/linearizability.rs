//! Whether there is one order of the writes and reads of a register that explains all reads.
//!
//! The search of Wing and Gong, with the memory of Lowe: operations are put in order one after the other, each only if no other
//! that is not in order yet was over before it began; what was tried with the same operations in order and the same value
//! in the register is not tried again. A write of which nobody knows whether it happened stays open for ever: it may come at any time
//! after it was asked for, or never. So it is put right before a look that finds its value, if nothing else explains that look, and of several
//! with one value it does not matter which. They take no place among the others: what is in order is known by a short window, however
//! long the history and however many writes stay open.

use std::collections::{BTreeMap, BTreeSet};

use crate::Committed;

use super::registers::{Read, Register};

/// What a search came to.
#[derive(Debug)]
pub(crate) enum Search<'r, 'h> {
    /// There is an order.
    Linearizable,
    /// There is none. The longest that could be built fails at this read.
    Not { stuck_at: &'r Read<'h> },
    /// It took too long to tell.
    Undecided,
}

/// A write or a read that was over at some time, in the order of the beginnings.
struct Call<'r, 'h> {
    start: u64,
    end: u64,
    value: u32,
    read: Option<&'r Read<'h>>,
}

/// Looks for an order, in at most so many steps.
pub(crate) fn search<'r, 'h>(register: &'r Register<'h>, max_steps: u64) -> Search<'r, 'h> {
    if register.reads.is_empty() {
        return Search::Linearizable;
    }
    let mut values: BTreeMap<Option<&Committed>, u32> = BTreeMap::from([(None, 0)]);
    for read in &register.reads {
        let next = values.len() as u32;
        values.entry(read.value).or_insert(next);
    }
    // No read found these; they differ from all that were found, and need not differ from each other.
    let other = values.len() as u32;
    let mut calls: Vec<Call<'_, '_>> = register
        .reads
        .iter()
        .map(|read| Call {
            start: read.start,
            end: read.end,
            value: values[&read.value],
            read: Some(read),
        })
        .collect();
    let mut open: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for write in register.writes.iter().filter(|write| write.event.is_some()) {
        let value = values.get(&write.value).copied();
        if write.end < u64::MAX {
            let value = value.unwrap_or(other);
            calls.push(Call { start: write.start, end: write.end, value, read: None });
        } else if let Some(value) = value {
            // In the order of their starts, as all writes are.
            open.entry(value).or_default().push(write.start);
        }
    }
    calls.sort_by_key(|call| (call.start, call.end, call.read.is_some()));
    Searcher::new(&calls, open, max_steps).run()
}

/// The operations that are in order, without the long beginning that all of them share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Done {
    /// All before this one.
    all_before: usize,
    /// Of those from there on.
    rest: BTreeSet<usize>,
    /// How many open writes of each value, as far as it may be found again.
    open: BTreeMap<u32, usize>,
}

impl Done {
    fn contains(&self, call: usize) -> bool {
        call < self.all_before || self.rest.contains(&call)
    }

    fn count(&self) -> usize {
        self.all_before + self.rest.len()
    }
}

struct Searcher<'c, 'r, 'h> {
    calls: &'c [Call<'r, 'h>],
    /// For each value, the starts of the writes of which nobody knows whether they happened.
    open: BTreeMap<u32, Vec<u64>>,
    /// The last look that found a value.
    last_read: BTreeMap<u32, usize>,
    tried: BTreeSet<(Done, u32)>,
    steps_left: u64,
    /// The most operations that could be put in order, and a read that did not fit then.
    longest: Option<(usize, &'r Read<'h>)>,
}

impl<'c, 'r, 'h> Searcher<'c, 'r, 'h> {
    fn new(calls: &'c [Call<'r, 'h>], open: BTreeMap<u32, Vec<u64>>, max_steps: u64) -> Self {
        let reads = calls.iter().enumerate().filter(|(_, call)| call.read.is_some());
        let last_read = reads.map(|(index, call)| (call.value, index)).collect();
        let (tried, steps_left) = (BTreeSet::new(), max_steps);
        Self { calls, open, last_read, tried, steps_left, longest: None }
    }

    fn run(mut self) -> Search<'r, 'h> {
        // Each entry is a state and the operations that may come next in it.
        let start = Done { all_before: 0, rest: BTreeSet::new(), open: BTreeMap::new() };
        let mut stack = vec![(start, 0)];
        while let Some((done, value)) = stack.pop() {
            if done.count() == self.calls.len() {
                return Search::Linearizable;
            }
            // A step costs what it remembers.
            let cost = 1 + (done.rest.len() + done.open.len()) as u64;
            if self.steps_left < cost {
                return Search::Undecided;
            }
            self.steps_left -= cost;
            let mut next = Vec::new();
            let mut earliest_end = u64::MAX;
            for (index, call) in self.calls.iter().enumerate().skip(done.all_before) {
                if done.contains(index) {
                    continue;
                }
                if call.start > earliest_end {
                    break;
                }
                earliest_end = earliest_end.min(call.end);
                next.push(index);
            }
            // Whatever was over before something else began comes before it.
            next.retain(|index| self.calls[*index].start <= earliest_end);
            // A read that fits now can be put here: it changes nothing, and what it waits for is done.
            let fitting = next.iter().copied().find(|index| {
                self.calls[*index].read.is_some() && self.calls[*index].value == value
            });
            if let Some(index) = fitting {
                self.push(&mut stack, self.with(&done, index), value);
                continue;
            }
            let mut wanted = BTreeSet::new();
            for index in &next {
                let call = &self.calls[*index];
                let Some(read) = call.read else { continue };
                wanted.insert(call.value);
                if self.longest.is_none_or(|(longest, _)| done.count() > longest) {
                    self.longest = Some((done.count(), read));
                }
            }
            for wanted in wanted {
                let used = done.open.get(&wanted).copied().unwrap_or(0);
                let write = self.open.get(&wanted).and_then(|starts| starts.get(used));
                if write.is_some_and(|start| *start <= earliest_end) {
                    let mut done = done.clone();
                    done.open.insert(wanted, used + 1);
                    self.push(&mut stack, done, wanted);
                }
            }
            for index in next.into_iter().rev() {
                let call = &self.calls[index];
                if call.read.is_none() {
                    let value = call.value;
                    self.push(&mut stack, self.with(&done, index), value);
                }
            }
        }
        let (_, stuck_at) = self.longest.expect("without reads that do not fit there is an order");
        Search::Not { stuck_at }
    }

    /// One more operation is in order.
    fn with(&self, done: &Done, call: usize) -> Done {
        let mut done = done.clone();
        done.rest.insert(call);
        while done.rest.remove(&done.all_before) {
            done.all_before += 1;
        }
        let all_before = done.all_before;
        done.open.retain(|value, _| self.last_read.get(value).is_some_and(|at| *at >= all_before));
        done
    }

    fn push(&mut self, stack: &mut Vec<(Done, u32)>, done: Done, value: u32) {
        if self.tried.insert((done.clone(), value)) {
            stack.push((done, value));
        }
    }
}
