//! What a client takes from the machine it runs on: connections, the time of day, random numbers.
//!
//! The operating system has all three. Whoever wants connections to go another way, or a client in a simulation that comes out
//! the same each time, gives a client an [`Environment`] of its own. Timers are tokio's in any case: a runtime whose clock is
//! paused is all that a simulation of time needs.

use std::{
    collections::hash_map::RandomState,
    fmt,
    hash::{BuildHasher, Hasher},
    io,
    pin::Pin,
    sync::Arc,
    time::SystemTime,
};

use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes to and from a broker.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A connection being made.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send>>;

/// What stands in for the operating system.
pub trait Environment: Send + Sync {
    /// Makes a connection to a broker, by the name or address under which it is known. It is given up after
    /// `socket.connection.setup.timeout.ms`. TLS and SASL are set up on it as the client's settings say.
    ///
    /// # Errors
    /// Nobody takes connections there, or not now: it is tried again.
    fn connect(&self, host: &str, port: u16) -> Connecting;

    /// The time of day, for the timestamps of records and commits.
    fn now(&self) -> SystemTime;

    /// A number in which every bit is as likely 0 as 1: it spreads retries and load, and names members of groups. Not for secrets.
    fn random(&self) -> u64;
}

/// The environment of a client, among its settings. The operating system unless somebody says otherwise.
#[derive(Clone, Default)]
pub struct Machine(Option<Arc<dyn Environment>>);

impl Machine {
    /// Puts something in the place of the operating system.
    pub fn new(environment: Arc<dyn Environment>) -> Self {
        Self(Some(environment))
    }

    /// Who makes connections in place of TCP.
    pub(crate) fn connector(&self) -> Option<&dyn Environment> {
        self.0.as_deref()
    }

    pub(crate) fn now(&self) -> SystemTime {
        self.0.as_ref().map_or_else(SystemTime::now, |environment| environment.now())
    }

    /// Of the operating system: from the keys of the standard library's hash maps, which differ for each of them.
    pub(crate) fn random(&self) -> u64 {
        match &self.0 {
            Some(environment) => environment.random(),
            None => RandomState::new().build_hasher().finish(),
        }
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Machine(replaced)" } else { "Machine" })
    }
}

/// Two are equal if they are the same.
impl PartialEq for Machine {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Eq for Machine {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operating_system_gives_other_numbers_each_time() {
        let machine = Machine::default();
        let numbers: std::collections::BTreeSet<u64> = (0..100).map(|_| machine.random()).collect();
        assert_eq!(numbers.len(), 100);
    }
}
