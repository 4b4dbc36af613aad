//! What a broker takes from the machine it runs on, besides its disk: connections, the time of day, random numbers.
//!
//! The operating system has all three. A simulation, in which a broker comes out the same each time, has an [`Environment`] of
//! its own. Timers are tokio's in any case: a runtime whose clock is paused is all that a simulation of time needs; and on a
//! runtime of one thread, what may wait for the disk runs in place.

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes to and from a client.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// What stands in for the operating system.
pub trait Environment: Send + Sync {
    /// Takes connections that are made to this host and port, in place of a TCP listener.
    ///
    /// # Errors
    /// It cannot, for instance because somebody else does.
    fn listen(&self, host: &str, port: u16) -> io::Result<Box<dyn Accept>>;

    /// The time of day, for the timestamps of records and what expires.
    fn now(&self) -> SystemTime;

    /// A number in which every bit is as likely 0 as 1: it names members of groups and fetch sessions.
    fn random(&self) -> u64;
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
#[derive(Clone, Default)]
pub(crate) struct Machine(pub(crate) Option<Arc<dyn Environment>>);

impl Machine {
    pub(crate) fn now(&self) -> SystemTime {
        self.0.as_ref().map_or_else(SystemTime::now, |environment| environment.now())
    }

    /// Of the operating system: from the keys of the standard library's hash maps, which nobody can guess and which differ for each
    /// of them, and each process.
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
