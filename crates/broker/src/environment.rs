//! What a broker takes from the machine it runs on, besides its disk: connections, the time of day, random numbers.
//!
//! The operating system has all three. A simulation, in which a broker comes out the same each time, has an [`Environment`] of
//! its own. Timers are tokio's in any case: a runtime whose clock is paused is all that a simulation of time needs; and on a
//! runtime of one thread, what may wait for the disk runs in place.

use std::{
    fmt, io,
    net::SocketAddr,
    task::{Context, Poll},
};

pub use kavka_environment::{TimeAndChance, Transport};

/// What stands in for the operating system.
pub trait Environment: TimeAndChance {
    /// Takes connections that are made to this host and port, in place of a TCP listener.
    ///
    /// # Errors
    /// It cannot, for instance because somebody else does.
    fn listen(&self, host: &str, port: u16) -> io::Result<Box<dyn Accept>>;
}

/// Takes connections.
pub trait Accept: Send {
    /// Where.
    ///
    /// # Errors
    /// It is not known.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Waits for the next connection.
    ///
    /// # Errors
    /// It cannot be taken now; the listener goes on.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>>;
}

/// A connection that was taken.
pub struct Accepted {
    /// Its bytes.
    pub stream: Box<dyn Transport>,
    /// Who is at the other end.
    pub peer: SocketAddr,
    /// The address here that it has connected to.
    pub local: SocketAddr,
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// The environment of a broker: the operating system unless somebody says otherwise.
pub(crate) type Machine = kavka_environment::Machine<dyn Environment>;
