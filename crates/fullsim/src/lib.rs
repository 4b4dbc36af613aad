//! The whole broker and whole clients in one thread, under a seed: what pure machines cannot show.
//!
//! `kavka-sim` runs the machines of both halves of the group protocol, and has what both simulations need. Here the shells around them run as well: framing,
//! dispatch, connections, tasks, cancellation, back pressure. A seed is a world: equal seeds give equal traces.
//!
//! * [`run`]: one world. `plan`: what its seed decides.
//! * `network`: connections of bytes, and what goes wrong on them. `machine`: a host's network, clock and chances.
//! * `server`: the broker's lives on one disk. `member`, `producer`, `operator`: clients and their applications.
//! * `nemesis`: what goes wrong while the world runs.
//! * `wire`, `history`: what clients see, written down for `kavka-checker`. `trace`: everything in one number.
//! * [`campaign()`]: many worlds, and smaller failures. `coverage`: what was seen in them.
//!
//! **Architecture invariant:** nothing here, nor in what runs here, may depend on threads, on the machine's clock, or on the order
//! of a hash map.

pub mod campaign;
mod coverage;
mod history;
mod machine;
mod member;
mod nemesis;
mod network;
mod operator;
mod plan;
mod producer;
mod server;
#[cfg(test)]
mod tests;
mod trace;
mod wire;
mod world;

pub use self::{
    campaign::{campaign, smallest},
    coverage::{Coverage, Deed, Ending},
    plan::{Case, Kind, Mode, Part},
    trace::{Story, Telling},
    world::{Outcome, run},
};
