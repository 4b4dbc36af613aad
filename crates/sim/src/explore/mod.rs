//! Small worlds, exhaustively: everything that can happen to one small group, in every order.
//!
//! The campaign runs long lives of large worlds and sees few of the orders in which things can happen. Here the world is small, and
//! the search takes every order: which message arrives next, whose deadline comes, when the application does what it has to, and, so
//! many times, a perturbation or a restart of the coordinator. It is the same code: the machines of `kavka-coordinator` and
//! `kavka-member`, the log's replay from its bytes, and the checks of `safety`.
//!
//! * `world`: a state; `act`: its steps. `coordinator`, `client`, `network`: what is in it. `rules`: how much of it there is.
//! * `digest`: when two states are one. `search`: the search. `path`: how a state is reached, to be taken again.
//!
//! **Invariants.** A state is a value, and a step depends on nothing else. What is left out of a fingerprint decides on nothing that
//! can still happen. After each step the safety invariants hold that a step can break; and wherever nothing is left to be done
//! but to let time pass, the group comes to rest when it is left alone: stable, with every partition owned once and read.

mod act;
mod client;
mod coordinator;
mod digest;
mod network;
mod path;
mod rules;
mod search;
mod world;

#[cfg(test)]
mod tests;

use self::{act::Act, world::SmallWorld};
pub use self::{
    path::Path,
    rules::Rules,
    search::{Limits, Seen, Violation},
};
use crate::panics::caught;

/// Visits every state that can be reached within the limits. `begin` is called on each thread before it does anything.
pub fn explore(rules: &Rules, limits: Limits, begin: impl Fn() + Sync) -> Seen {
    search::search(SmallWorld::new(rules), limits, begin)
}

/// The shortest way to something that does not hold, among the first so many states.
pub fn shortest(rules: &Rules, states: usize) -> Option<Violation> {
    search::shortest(SmallWorld::new(rules), states)
}

/// Takes a path again, and tells it step by step. With `in_full`, all that is said on the way.
///
/// # Errors
/// What does not hold at its end, after what was told.
pub fn replay(rules: &Rules, path: &Path, in_full: bool) -> (Vec<String>, Result<(), String>) {
    let mut world = SmallWorld::new(rules);
    if in_full {
        world.tell();
    }
    let mut lines = Vec::new();
    for (step, index) in (1..).zip(&path.0) {
        let (acts, _) = world.acts();
        let Some(act) = acts.get(usize::from(*index)).copied() else {
            let message = format!("there are {} steps to choose from, not {index}", acts.len());
            return (lines, Err(message));
        };
        let taken = caught(|| world.take(act));
        tell(&mut lines, step, &mut world, act);
        if let Err(message) = taken {
            return (lines, Err(message));
        }
    }
    let (_, is_calm) = world.acts();
    let settles = || world.clone().settle(|_| false).map(|_| ());
    let held = if is_calm { caught(settles).and_then(|settles| settles) } else { Ok(()) };
    if held.is_err() && in_full {
        lines.push("from here on it is left alone".to_owned());
        for step in path.len() + 1..path.len() + STEPS_TOLD {
            let Ok(Some(act)) = caught(|| world.take_to_rest()) else { break };
            tell(&mut lines, step, &mut world, act);
        }
    }
    (lines, held)
}

/// Of a group that does not come to rest.
const STEPS_TOLD: usize = 60;

fn tell(lines: &mut Vec<String>, step: usize, world: &mut SmallWorld, act: Act) {
    lines.push(format!("{step:>4}. {:>7} ms  {act}", world.elapsed_ms()));
    lines.extend(world.take_notes().into_iter().map(|note| format!("                   {note}")));
}

/// The arguments after `kavka-sim explore` that take this path again.
pub fn replay_arguments(rules: &Rules, path: &Path) -> String {
    format!("{} --path {path}", rules.arguments())
}
