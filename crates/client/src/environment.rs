//! What a client takes from the machine it runs on: connections, the time of day, random numbers.
//!
//! The operating system has all three. Whoever wants connections to go another way, or a client in a simulation that comes out
//! the same each time, gives a client an [`Environment`] of its own. Timers are tokio's in any case: a runtime whose clock is
//! paused is all that a simulation of time needs.

use std::{io, pin::Pin};

pub use kavka_environment::{TimeAndChance, Transport};

/// A connection being made.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send>>;

/// What stands in for the operating system.
pub trait Environment: TimeAndChance {
    /// Makes a connection to a broker, by the name or address under which it is known. It is given up after
    /// `socket.connection.setup.timeout.ms`. TLS and SASL are set up on it as the client's settings say.
    ///
    /// # Errors
    /// Nobody takes connections there, or not now: it is tried again.
    fn connect(&self, host: &str, port: u16) -> Connecting;
}

/// The environment of a client, among its settings. The operating system unless somebody says otherwise.
pub type Machine = kavka_environment::Machine<dyn Environment>;
