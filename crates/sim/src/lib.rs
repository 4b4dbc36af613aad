//! Both halves of the group protocol, the log and the network in one thread under one seed.
//!
//! One seed is one [`World`]: nodes that coordinate, members that are the real machines of `kavka-member`, clients of other make
//! by script, operators, and everything that goes wrong between them. After each event the invariants are checked; at the end,
//! when nothing goes wrong any more, that everything comes to rest. `docs/simulation.md` says what is in it and how to use it.
//!
//! * [`plan`]: what a seed decides.
//! * [`world`]: events and time. `network`, `coordinators`, `shard_log`, `process`, `foreign`, `acts`, `topics`: who lives in it.
//! * `safety`, `liveness`: what must hold. [`coverage`]: what was seen. `history`: what clients saw, for `kavka-checker`.
//! * [`mod@campaign`]: many worlds. [`mutants`]: bugs that it has to find.
//! * [`case`]: a seed, less what a failure does not need. [`mod@shrink`]: smaller failures. [`ledger`]: what campaigns came to.
//!   [`Random`]: chances under a seed. `panics`: failures. The worlds of `kavka-fullsim` take these, and how campaigns run, from here.
//! * [`explore`](mod@explore): small worlds, in which everything happens in every order.

mod acts;
pub mod campaign;
pub mod case;
mod clock;
mod coordinators;
pub mod coverage;
pub mod explore;
mod foreign;
mod history;
pub mod ledger;
mod liveness;
pub mod mutants;
mod network;
mod panics;
pub mod plan;
mod process;
mod random;
mod safety;
#[cfg(test)]
mod scenarios;
mod shard_log;
pub mod shrink;
mod told;
mod topics;
mod translate;
pub mod world;

pub use self::{
    campaign::{Failure, campaign, run, run_twice, smallest},
    coverage::Coverage,
    panics::{caught, first_panic, keep_panics},
    plan::{Case, Fault, Plan},
    random::Random,
    world::{Mode, World},
};
