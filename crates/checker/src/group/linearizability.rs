//! Whether there is one order of the writes and reads of a register that explains all reads.
//!
//! The search of Wing and Gong, with the memory of Lowe: operations are put in order one after the other, each only if no other
//! that is not in order yet was over before it began; what was tried with the same operations in order and the same value
//! in the register is not tried again. A write of which nobody knows whether it happened stays open for ever: it may come at any time
//! after it was asked for, or at the very end, where nobody looks. Only those whose value was found take part.

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

/// A write or a read, in the order of the beginnings.
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
    for write in register.writes.iter().filter(|write| write.event.is_some()) {
        let value = values.get(&write.value).copied();
        if value.is_some() || write.end < u64::MAX {
            let value = value.unwrap_or(other);
            calls.push(Call { start: write.start, end: write.end, value, read: None });
        }
    }
    calls.sort_by_key(|call| (call.start, call.end, call.read.is_some()));
    Searcher::new(&calls, max_steps).run()
}

/// The operations that are in order, without the long beginning that all of them share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Done {
    /// All before this one.
    all_before: usize,
    /// Of those from there on.
    rest: BTreeSet<usize>,
}

impl Done {
    fn contains(&self, call: usize) -> bool {
        call < self.all_before || self.rest.contains(&call)
    }

    fn with(&self, call: usize) -> Self {
        let mut done = self.clone();
        done.rest.insert(call);
        while done.rest.remove(&done.all_before) {
            done.all_before += 1;
        }
        done
    }
}

struct Searcher<'c, 'r, 'h> {
    calls: &'c [Call<'r, 'h>],
    tried: BTreeSet<(Done, u32)>,
    steps_left: u64,
    /// The most operations that could be put in order, and a read that did not fit then.
    longest: Option<(usize, &'r Read<'h>)>,
}

impl<'c, 'r, 'h> Searcher<'c, 'r, 'h> {
    fn new(calls: &'c [Call<'r, 'h>], max_steps: u64) -> Self {
        Self { calls, tried: BTreeSet::new(), steps_left: max_steps, longest: None }
    }

    fn run(mut self) -> Search<'r, 'h> {
        // Each entry is a state and the operations that may come next in it.
        let start = (Done { all_before: 0, rest: BTreeSet::new() }, 0);
        let mut stack = vec![start];
        while let Some((done, value)) = stack.pop() {
            if done.all_before + done.rest.len() == self.calls.len() || self.only_open_left(&done) {
                return Search::Linearizable;
            }
            // A step costs what it remembers.
            let cost = 1 + done.rest.len() as u64;
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
                self.push(&mut stack, done.with(index), value);
                continue;
            }
            let count = done.all_before + done.rest.len();
            for index in next.into_iter().rev() {
                let call = &self.calls[index];
                match call.read {
                    None => self.push(&mut stack, done.with(index), call.value),
                    Some(read) => {
                        if self.longest.is_none_or(|(longest, _)| count > longest) {
                            self.longest = Some((count, read));
                        }
                    }
                }
            }
        }
        let (_, stuck_at) = self.longest.expect("without reads that do not fit there is an order");
        Search::Not { stuck_at }
    }

    fn push(&mut self, stack: &mut Vec<(Done, u32)>, done: Done, value: u32) {
        if self.tried.insert((done.clone(), value)) {
            stack.push((done, value));
        }
    }

    /// Whether nothing is left that must have happened.
    fn only_open_left(&self, done: &Done) -> bool {
        let mut left = (done.all_before..self.calls.len()).filter(|call| !done.contains(*call));
        left.all(|call| self.calls[call].end == u64::MAX && self.calls[call].read.is_none())
    }
}
