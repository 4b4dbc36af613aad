//! A client of a small world: the member's machine, and an application that reads at once whatever it can.

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
};

use kavka_member::{AssignTask, CommitId, DrainId, Member, TopicPartition};
use kavka_protocol::ByteString;

use super::{digest::Sealed, network::Connection};
use crate::{told::Told, translate::ClientName};

/// A place for processes, one after the other, with the connections they have made.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) process: Option<Process>,
    /// The process died, and may be started again.
    pub(super) may_start: bool,
    /// Processes so far.
    pub(super) lives: usize,
    pub(super) connections: Vec<Connection>,
    /// The number of the latest connection.
    connected: usize,
}

/// A process.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) member: Member,
    pub(super) told: Told,
    /// What the assignor works on.
    pub(super) to_assign: Option<Sealed<AssignTask>>,
    /// What the application has not let go of yet.
    pub(super) to_drain: Option<DrainId>,
    pub(super) commits: BTreeMap<CommitId, BTreeMap<TopicPartition, i64>>,
    pub(super) last_commit: CommitId,
    /// The version of the topics that it has heard of.
    pub(super) knows: u64,
    pub(super) is_closing: bool,
    /// The application does not poll, and lets go of nothing.
    pub(super) hangs: bool,
    /// When it polled last; the member knows it too.
    pub(super) polled_ms: u64,
}

/// More connections than a client ever makes.
const CONNECTIONS_OF_A_CLIENT: usize = 100_000;

impl Client {
    pub(super) fn new(slot: usize) -> Self {
        Self {
            process: None,
            may_start: true,
            lives: 0,
            connections: Vec::new(),
            connected: slot * CONNECTIONS_OF_A_CLIENT,
        }
    }

    /// The connection that it uses, a new one if there is none.
    pub(super) fn connect(&mut self) -> &mut Connection {
        if !self.connections.last().is_some_and(|connection| connection.is_open) {
            self.connected += 1;
            self.connections.push(Connection::new(self.connected));
        }
        let last = self.connections.len() - 1;
        &mut self.connections[last]
    }

    /// The connection that it uses.
    pub(super) fn connection(&self) -> Option<&Connection> {
        self.connections.last().filter(|connection| connection.is_open)
    }

    pub(super) fn numbered(&mut self, number: usize) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.number == number)
    }

    /// Closes the connection that it uses.
    pub(super) fn disconnect(&mut self) {
        if let Some(connection) = self.connections.last_mut().filter(|found| found.is_open) {
            connection.close();
        }
        self.tidy();
    }

    pub(super) fn tidy(&mut self) {
        self.connections.retain(|connection| !connection.is_done());
    }

    pub(super) fn fingerprint<H: Hasher>(&self, state: &mut H) {
        let Self { process, may_start, lives, connections, connected } = self;
        process.is_some().hash(state);
        if let Some(process) = process {
            process.fingerprint(state);
        }
        (may_start, lives, connections, connected).hash(state);
    }
}

impl Process {
    fn fingerprint<H: Hasher>(&self, state: &mut H) {
        let Self {
            member,
            told,
            to_assign,
            to_drain,
            commits,
            last_commit,
            knows,
            is_closing,
            hangs,
            polled_ms: _,
        } = self;
        (member, told, to_assign, to_drain, commits, last_commit).hash(state);
        // As it is: `u64`s of a client count as names.
        (*knows as usize, is_closing, hangs).hash(state);
    }
}

/// All clients have one name, as those of an application often do, and one host.
pub(super) fn client_name() -> ClientName {
    ClientName { client_id: "client-0".into(), host: "/10.0.0.1".into() }
}

pub(super) fn instance_name(slot: usize) -> ByteString {
    format!("instance-{slot}").into()
}
