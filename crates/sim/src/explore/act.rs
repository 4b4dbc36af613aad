//! What can happen next in a small world.

use std::fmt;

/// A step. Clients are named by their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    // What happens before time passes.
    /// The first request that is on its way over this connection gets to the coordinator.
    Arrives { slot: usize, connection: usize },
    /// The first answer on its way gets to the client.
    Returns { slot: usize },
    /// The coordinator sees that a connection is closed. What is still on its way over it is lost.
    CoordinatorSees { slot: usize, connection: usize },
    /// The client sees that its connection is gone.
    ClientSees { slot: usize },
    /// The assignor is done.
    Assigns { slot: usize },
    /// The application has let go of what is revoked.
    LetsGo { slot: usize },
    /// The client hears what topics there are now.
    Learns { slot: usize },
    /// A deadline comes. If it is not due yet, time passes until then.
    Fires(Whose),
    // What may happen at any time, or not at all.
    /// A connection that was stalled goes on.
    GoesOn { slot: usize, connection: usize },
    /// An application that hung polls again.
    Wakes { slot: usize },
    /// A process that died is started again.
    Starts { slot: usize },
    // What is counted.
    /// The coordinator moves away, in peace, and comes back.
    Moves,
    /// The coordinator's process dies and comes back.
    Dies,
    /// The client's connection breaks. What it has sent may still arrive; nothing comes back.
    Breaks { slot: usize },
    /// Nothing moves on the client's connection until it goes on.
    Stalls { slot: usize },
    /// The first request on its way arrives twice.
    Doubles { slot: usize },
    /// The process dies.
    Crashes { slot: usize },
    /// The application closes its consumer.
    Leaves { slot: usize },
    /// The application commits.
    Commits { slot: usize },
    /// The application hangs.
    Hangs { slot: usize },
    /// The first topic gets one more partition.
    Grows,
}

/// Whose deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Coordinator,
    Client(usize),
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Act::Arrives { slot, .. } => write!(f, "a request of client {slot} arrives"),
            Act::Returns { slot } => write!(f, "an answer gets to client {slot}"),
            Act::CoordinatorSees { slot, .. } => {
                write!(f, "the coordinator sees that client {slot} has closed a connection")
            }
            Act::ClientSees { slot } => write!(f, "client {slot} sees that its connection is gone"),
            Act::Assigns { slot } => write!(f, "client {slot} has assigned"),
            Act::LetsGo { slot } => write!(f, "client {slot} lets go of what is revoked"),
            Act::Learns { slot } => write!(f, "client {slot} hears of the topics"),
            Act::Fires(Whose::Coordinator) => write!(f, "a deadline of the coordinator comes"),
            Act::Fires(Whose::Client(slot)) => write!(f, "a deadline of client {slot} comes"),
            Act::GoesOn { slot, .. } => write!(f, "a connection of client {slot} goes on"),
            Act::Wakes { slot } => write!(f, "the application of client {slot} polls again"),
            Act::Starts { slot } => write!(f, "client {slot} starts"),
            Act::Moves => write!(f, "the coordinator moves away and comes back"),
            Act::Dies => write!(f, "the coordinator dies and comes back"),
            Act::Breaks { slot } => write!(f, "the connection of client {slot} breaks"),
            Act::Stalls { slot } => write!(f, "the connection of client {slot} stalls"),
            Act::Doubles { slot } => write!(f, "a request of client {slot} is sent twice"),
            Act::Crashes { slot } => write!(f, "client {slot} crashes"),
            Act::Leaves { slot } => write!(f, "client {slot} closes"),
            Act::Commits { slot } => write!(f, "client {slot} commits"),
            Act::Hangs { slot } => write!(f, "the application of client {slot} hangs"),
            Act::Grows => write!(f, "a topic grows by a partition"),
        }
    }
}
