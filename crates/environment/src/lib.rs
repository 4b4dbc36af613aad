//! What a broker or a client takes from the machine it runs on: bytes of connections, the time of day, random numbers.
//!
//! The operating system has all three. A simulation, in which everything comes out the same each time, puts something else in its
//! place. Here is what both sides of a connection have in common; how a client makes connections and a broker takes them is theirs
//! to say, in an `Environment` each. Timers are tokio's in any case: a runtime whose clock is paused is all that a simulation of
//! time needs.
//!
//! * [`Transport`], [`Socket`]: the bytes of a connection, as the operating system carries them or somebody else does.
//! * [`TimeAndChance`]: the time of day and random numbers. [`Machine`]: the operating system, or what stands in for it.

mod machine;
mod socket;

pub use self::{
    machine::{Machine, TimeAndChance},
    socket::{Socket, Transport},
};
