//! Connections: what is sent over one arrives in order, each way, and answers leave in the order of the requests; connections
//! overtake each other. A connection that loses something is gone.

use std::collections::VecDeque;

use kavka_coordinator::group::{self, Input, Reply, Request, invariants::check_codes};
use kavka_protocol::ErrorCode;

use crate::{
    coverage::each_code,
    plan::Fault,
    world::{Event, Kind, World},
};

/// Index of a connection.
pub(crate) type ConnectionNumber = usize;

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: usize,
    pub(crate) node: usize,
    /// The client sends and listens.
    pub(crate) is_open: bool,
    /// The node listens and sends.
    pub(crate) is_served: bool,
    /// Nothing gets through any more, either way, and nobody is told.
    pub(crate) is_dead: bool,
    /// When what was sent last arrives, each way.
    up_at: u64,
    down_at: u64,
    /// Requests that the node has, in their order, with their replies as far as there are any.
    unanswered: VecDeque<Unanswered>,
    /// Requests the client waits for.
    pub(crate) outstanding: Vec<u64>,
}

#[derive(Debug)]
struct Unanswered {
    asked: group::RequestId,
    tag: u64,
    reply: Option<Reply>,
    join_in: Option<kavka_protocol::ByteString>,
}

impl World {
    /// Sends a request over the client's connection to a node.
    pub(crate) fn send(&mut self, client: usize, node: usize, tag: u64, request: Request) {
        self.record_request(client, tag, &request);
        let connection = self.connect(client, node);
        self.connections[connection].outstanding.push(tag);
        let delay = self.delay();
        let half_open = self.faulty(Fault::HalfOpen);
        let lost = self.faulty(Fault::LostRequest);
        let overtaken = self.faulty(Fault::Overtaken);
        let duplicate = self.faulty(Fault::Duplicate);
        let later = self.random.below(4_000);
        let is_parted = self.parted.contains(&(client, node));
        let found = &mut self.connections[connection];
        if half_open || is_parted {
            found.is_dead = true;
        }
        if found.is_dead {
            return;
        }
        if lost {
            found.is_dead = true;
            return self.schedule(delay, Event::Breaks { connection });
        }
        let mut at = (self.now + delay).max(found.up_at);
        if overtaken {
            // The client gives the connection up; what it sent is on its way all the same.
            at += later;
            self.schedule(delay, Event::Breaks { connection });
        }
        self.connections[connection].up_at = at;
        if duplicate {
            let request = Box::new(request.clone());
            self.schedule_at(at, Event::Arrives { connection, tag: u64::MAX, request });
        }
        let request = Box::new(request);
        self.schedule_at(at, Event::Arrives { connection, tag, request });
    }

    fn connect(&mut self, client: usize, node: usize) -> ConnectionNumber {
        if let Some(connection) = self.clients[client].connections.get(&node) {
            return *connection;
        }
        let connection = self.connections.len();
        self.connections.push(Connection {
            client,
            node,
            is_open: true,
            is_served: true,
            is_dead: false,
            up_at: 0,
            down_at: 0,
            unanswered: VecDeque::new(),
            outstanding: Vec::new(),
        });
        self.clients[client].connections.insert(node, connection);
        connection
    }

    pub(crate) fn delay(&mut self) -> u64 {
        let (slow, long, short) =
            (self.faulty(Fault::Slow), self.random.below(4_000), self.random.below(20));
        if slow { 100 + long } else { 1 + short }
    }

    /// A request arrives.
    pub(crate) fn arrive(&mut self, connection: ConnectionNumber, tag: u64, request: Request) {
        let Connection { node, is_served, is_open, .. } = self.connections[connection];
        if !is_served || !self.nodes[node].is_up {
            // Nobody takes it. Whether the sender is told depends on whether only the process is gone, or the machine.
            if is_open && self.healed {
                let delay = self.delay();
                self.schedule(delay, Event::Breaks { connection });
            }
            return;
        }
        self.last_asked += 1;
        let asked = group::RequestId(self.last_asked);
        let join_in = match &request {
            Request::Join(join) => {
                self.note_named(connection, node, join);
                Some(join.group.clone())
            }
            _ => None,
        };
        let unanswered = Unanswered { asked, tag, reply: None, join_in };
        self.connections[connection].unanswered.push_back(unanswered);
        self.asked.insert(asked, (connection, tag));
        self.ask_shard(node, asked, request);
    }

    /// A coordinator hears of a static member. A node that is none, or is only loading, has not heard of anybody.
    fn note_named(&mut self, connection: ConnectionNumber, node: usize, join: &group::JoinRequest) {
        let mut hosts = self.shards[self.shard_of(&join.group)].hosts.iter();
        if !hosts.any(|host| host.node == node && host.loading.is_none()) {
            return;
        }
        let (client, now) = (self.connections[connection].client, self.now);
        let group = self.groups.iter_mut().find(|group| group.id == join.group);
        if let (Some(group), Some(name)) = (group, &join.instance_id) {
            let clients = group.named.entry(name.clone()).or_default();
            clients.entry(client).or_default().heard = now;
        }
    }

    /// What a coordinator answers that is none any more, and does not know it.
    pub(crate) fn note_former(&mut self, asked: group::RequestId, reply: &Reply) {
        let Some((connection, _)) = self.asked.get(&asked) else { return };
        let client = self.connections[*connection].client;
        each_code(reply, |_, code| {
            self.clients[client].fenced_by_former |= code == ErrorCode::FencedInstanceId;
        });
    }

    /// Whether this is the first of two that are the same.
    pub(crate) fn is_twin(&self, asked: group::RequestId) -> bool {
        self.asked.get(&asked).is_some_and(|(_, tag)| *tag == u64::MAX)
    }

    /// A reply is made: it leaves when those before it have left.
    pub(crate) fn answer(&mut self, asked: group::RequestId, reply: Reply) {
        let Some((connection, _)) = self.asked.remove(&asked) else { return };
        self.coverage.reply(&reply);
        if self.checked {
            check_codes(&reply);
        }
        self.mix_reply(&reply);
        self.note(|_| format!("   answer to {asked:?}: {reply:?}"));
        let found = &mut self.connections[connection];
        if let Reply::Join(join) = &reply
            && join.error == ErrorCode::None
        {
            for clients in self.groups.iter_mut().flat_map(|group| group.named.values_mut()) {
                if let Some(joins) = clients.get_mut(&found.client) {
                    joins.taken.insert(join.member_id.clone(), self.now);
                }
            }
        }
        if let Some(row) = found.unanswered.iter_mut().find(|row| row.asked == asked) {
            row.reply = Some(reply);
        }
        loop {
            let found = &mut self.connections[connection];
            if found.unanswered.front().is_none_or(|first| first.reply.is_none()) {
                return;
            }
            let Some(Unanswered { tag, reply: Some(reply), .. }) = found.unanswered.pop_front()
            else {
                return;
            };
            if tag != u64::MAX {
                self.send_back(connection, tag, reply);
            }
        }
    }

    fn send_back(&mut self, connection: ConnectionNumber, tag: u64, reply: Reply) {
        let delay = self.delay();
        let lost = self.faulty(Fault::LostAnswer);
        let Connection { client, node, is_dead, is_served, .. } = self.connections[connection];
        let is_parted = self.parted.contains(&(client, node));
        let found = &mut self.connections[connection];
        if is_parted {
            found.is_dead = true;
        }
        if is_dead || is_parted || !is_served {
            return;
        }
        if lost {
            found.is_dead = true;
            return self.schedule(delay, Event::Breaks { connection });
        }
        let at = (self.now + delay).max(found.down_at);
        found.down_at = at;
        self.schedule_at(at, Event::Answers { connection, tag, reply: Box::new(reply) });
    }

    /// An answer arrives at its client.
    pub(crate) fn hear(&mut self, connection: ConnectionNumber, tag: u64, reply: Reply) {
        let found = &mut self.connections[connection];
        if !found.is_open || found.is_dead {
            return;
        }
        found.outstanding.retain(|of| *of != tag);
        let client = found.client;
        match &self.clients[client].kind {
            Kind::Ours(_) => self.process_hears(client, tag, reply),
            Kind::Foreign(_) => self.foreign_hears(client, tag, reply),
            Kind::Operator => {}
        }
    }

    /// A client closes its connection to a node; the node sees it sooner or later.
    pub(crate) fn disconnect(&mut self, client: usize, node: usize) {
        let Some(connection) = self.clients[client].connections.remove(&node) else { return };
        let found = &mut self.connections[connection];
        found.is_open = false;
        found.outstanding.clear();
        let delay = 1 + self.random.below(3_000);
        self.schedule(delay, Event::ClientIsGone { connection });
    }

    pub(crate) fn disconnect_all(&mut self, client: usize) {
        let nodes: Vec<usize> = self.clients[client].connections.keys().copied().collect();
        for node in nodes {
            self.disconnect(client, node);
        }
    }

    /// A client sees that its connection is gone: whatever it waited for has failed.
    pub(crate) fn broken(&mut self, connection: ConnectionNumber) {
        let Connection { client, node, is_open, .. } = self.connections[connection];
        if !is_open {
            return;
        }
        let outstanding = std::mem::take(&mut self.connections[connection].outstanding);
        self.disconnect(client, node);
        for tag in outstanding {
            match &self.clients[client].kind {
                Kind::Ours(_) => self.process_fails(client, tag),
                Kind::Foreign(_) => self.foreign_fails(client, tag),
                Kind::Operator => {}
            }
        }
    }

    /// The node sees that nobody is at the other end: parked joins are given up.
    pub(crate) fn client_is_gone(&mut self, connection: ConnectionNumber) {
        let Connection { node, is_served, .. } = self.connections[connection];
        if !is_served {
            return;
        }
        let found = &mut self.connections[connection];
        found.is_served = false;
        let rows = std::mem::take(&mut found.unanswered);
        for Unanswered { asked, reply, join_in, .. } in rows {
            let was_parked = reply.is_none() && self.asked.remove(&asked).is_some();
            if let Some(group) = join_in.filter(|_| was_parked) {
                let input = Input::Abandoned { group: group.clone(), request: asked };
                self.input_of_group(node, &group, input);
            }
        }
    }

    /// Every connection to a node is gone. If only its process is, clients notice at once; if the machine is, some only when
    /// they have waited long enough.
    pub(crate) fn node_is_gone(&mut self, node: usize) {
        for connection in 0..self.connections.len() {
            let Connection { node: of, is_served, is_open, .. } = self.connections[connection];
            if of != node || !(is_served || is_open) {
                continue;
            }
            let found = &mut self.connections[connection];
            found.is_served = false;
            found.is_dead = true;
            for row in std::mem::take(&mut found.unanswered) {
                self.asked.remove(&row.asked);
            }
            let notices = self.random.below(2) == 0 || self.healed;
            if is_open && notices {
                let delay = self.random.below(200);
                self.schedule(delay, Event::Breaks { connection });
            }
        }
    }

    fn mix_reply(&mut self, reply: &Reply) {
        match reply {
            Reply::Join(join) => {
                self.mix(0x10_0000 + join.error.code().cast_unsigned() as u64);
                self.mix(join.generation.cast_unsigned().into());
                self.mix_text(&join.member_id.clone());
            }
            Reply::Sync(sync) => {
                self.mix(0x20_0000 + sync.error.code().cast_unsigned() as u64);
                for byte in &sync.assignment {
                    self.mix(u64::from(*byte));
                }
            }
            Reply::Heartbeat(code) => self.mix(0x30_0000 + code.code().cast_unsigned() as u64),
            Reply::Leave(leave) => {
                for member in &leave.members {
                    self.mix(0x40_0000 + member.error.code().cast_unsigned() as u64);
                }
            }
            Reply::CommitOffsets(commit) => {
                for (partition, code) in commit.topics.iter().flat_map(|topic| &topic.partitions) {
                    self.mix(partition.cast_unsigned().into());
                    self.mix(0x50_0000 + code.code().cast_unsigned() as u64);
                }
            }
            Reply::FetchOffsets(fetch) => {
                for row in fetch.topics.iter().flat_map(|topic| &topic.partitions) {
                    self.mix(row.offset.cast_unsigned());
                }
            }
            Reply::DeleteOffsets(_)
            | Reply::DeleteGroups(_)
            | Reply::DescribeGroups(_)
            | Reply::ListGroups(_) => self.mix(0x60_0000),
        }
    }
}
