//! Accepting connections, within the limits on their number and rate.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kavka_environment::Socket;
use tokio::{
    net::{TcpListener, TcpSocket, lookup_host},
    sync::watch,
    task::JoinSet,
    time::Instant,
};
use tracing::warn;

use super::{
    Limits,
    budget::Budget,
    connection::Connection,
    socket::{Acceptor, set_nodelay},
};
use crate::{
    config,
    dispatch::{Dispatcher, Peer},
    environment::Machine,
};

/// A bound listener.
pub(crate) struct Listener {
    socket: Acceptor,
    number: usize,
    gate: Arc<Gate>,
    limits: Arc<Limits>,
    budget: Budget,
    /// Connections accepted so far.
    accepted: AtomicU64,
}

/// Connections that may be made: how many there are, and from where.
#[derive(Debug, Default)]
struct Gate {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// One connection's place; given back when dropped.
struct Place {
    gate: Arc<Gate>,
    source: IpAddr,
}

impl Listener {
    /// Binds to where `listener`, the one of this `number`, says; port 0 takes a free one.
    ///
    /// # Errors
    /// The address is in use, or not one of this machine.
    pub(crate) async fn bind(
        listener: &config::Listener,
        number: usize,
        limits: Arc<Limits>,
        budget: Budget,
        machine: &Machine,
    ) -> io::Result<Listener> {
        let (gate, accepted) = (Arc::default(), AtomicU64::new(0));
        if let Some(environment) = machine.environment() {
            let socket = Acceptor::Other(environment.listen(&listener.host, listener.port)?);
            return Ok(Self { socket, number, gate, limits, budget, accepted });
        }
        // An empty host is every address, as in Kafka.
        let host = if listener.host.is_empty() { "0.0.0.0" } else { &listener.host };
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in lookup_host((host, listener.port)).await? {
            match listen(address, &limits) {
                Ok(socket) => {
                    let socket = Acceptor::Tcp(socket);
                    return Ok(Self { socket, number, gate, limits, budget, accepted });
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until `stopping` turns true, then waits for the connections to end.
    pub(crate) async fn run(
        mut self,
        dispatcher: Arc<dyn Dispatcher>,
        mut stopping: watch::Receiver<bool>,
    ) {
        let mut connections = JoinSet::new();
        let mut rate = Rate::new(self.limits.max_connections_per_second);
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                _ = stopping.wait_for(|stopping| *stopping) => break,
                Some(ended) = connections.join_next() => {
                    if let Err(panic) = ended {
                        // A broken invariant: state may be wrong for everyone.
                        std::panic::resume_unwind(panic.into_panic());
                    }
                    continue;
                }
            };
            match accepted {
                Ok((stream, peer, local)) => {
                    let Some(place) = self.gate.enter(peer.ip(), &self.limits) else {
                        rate.refused(peer);
                        continue;
                    };
                    // Of a socket that is connected it is known; should it not be, the listener's is the next best.
                    let local = local.or_else(|| self.socket.local_addr().ok()).unwrap_or(peer);
                    let ends = (peer, local);
                    self.spawn(&mut connections, stream, ends, place, &dispatcher, &stopping);
                    rate.accepted().await;
                }
                Err(error) => {
                    // Mostly the limit on open files: others may close theirs.
                    warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(self.socket);
        while connections.join_next().await.is_some() {}
    }

    fn spawn(
        &self,
        connections: &mut JoinSet<()>,
        stream: Socket,
        (peer, local): (SocketAddr, SocketAddr),
        place: Place,
        dispatcher: &Arc<dyn Dispatcher>,
        stopping: &watch::Receiver<bool>,
    ) {
        if let Err(error) = set_nodelay(&stream) {
            warn!(%peer, "cannot set TCP_NODELAY: {error}");
        }
        let connection = self.accepted.fetch_add(1, Ordering::Relaxed);
        let connection = Connection::new(
            stream,
            Peer { address: peer, local, listener: self.number, connection },
            Arc::clone(dispatcher),
            Arc::clone(&self.limits),
            self.budget.clone(),
        );
        // Boxed: a future that is handed on by value has room for it at each step.
        let connection = Box::new(connection);
        let stopping = stopping.clone();
        connections.spawn(async move {
            connection.serve(stopping).await;
            drop(place);
        });
    }
}

fn listen(address: SocketAddr, limits: &Limits) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Accepted connections inherit the sizes. Windows means something else by reuse.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    if let Some(bytes) = limits.send_buffer_bytes {
        socket.set_send_buffer_size(size(bytes))?;
    }
    if let Some(bytes) = limits.receive_buffer_bytes {
        socket.set_recv_buffer_size(size(bytes))?;
    }
    socket.bind(address)?;
    socket.listen(limits.backlog)
}

/// One IPv4 address, or the /64 an IPv6 client has for itself.
fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

impl Gate {
    fn enter(self: &Arc<Self>, ip: IpAddr, limits: &Limits) -> Option<Place> {
        let source = source(ip);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let here = open.by_source.get(&source).copied().unwrap_or(0);
        let overrides = &limits.max_connections_per_ip_overrides;
        let most =
            overrides.get(&ip.to_canonical()).copied().unwrap_or(limits.max_connections_per_ip);
        if open.total >= limits.max_connections || here >= most {
            return None;
        }
        open.total += 1;
        open.by_source.insert(source, here + 1);
        Some(Place { gate: Arc::clone(self), source })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.gate.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Some(here) = open.by_source.get_mut(&self.source) {
            *here -= 1;
            if *here == 0 {
                open.by_source.remove(&self.source);
            }
        }
    }
}

/// Spreads a herd of new connections: beyond the limit of one second, accepting waits for the next.
struct Rate {
    per_second: u32,
    second: Instant,
    accepted: u32,
    refused: usize,
    reported: Option<Instant>,
}

impl Rate {
    fn new(per_second: u32) -> Self {
        Self { per_second, second: Instant::now(), accepted: 0, refused: 0, reported: None }
    }

    async fn accepted(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.accepted = 0;
        }
        self.accepted += 1;
        if self.accepted >= self.per_second {
            tokio::time::sleep_until(self.second + Duration::from_secs(1)).await;
        }
    }

    /// One line a second at most: a flood must not become a flood of logs.
    fn refused(&mut self, peer: SocketAddr) {
        self.refused += 1;
        let now = Instant::now();
        if self.reported.is_none_or(|last| now.duration_since(last) >= Duration::from_secs(1)) {
            warn!(
                %peer,
                "refused {} connection(s): max.connections or max.connections.per.ip is reached",
                self.refused
            );
            self.reported = Some(now);
            self.refused = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BrokerConfig, LoadOptions};

    #[test]
    fn one_source_cannot_take_all_places() {
        let options = LoadOptions::<[(String, String); 0]>::default();
        let config = BrokerConfig::load(options).expect("the defaults are valid");
        let mut limits = Limits::of(&config.network);
        limits.max_connections = 3;
        limits.max_connections_per_ip = 2;
        let gate = Arc::new(Gate::default());
        let one: IpAddr = [127, 0, 0, 1].into();
        let first = gate.enter(one, &limits).expect("first");
        let _second = gate.enter(one, &limits).expect("second");
        assert!(gate.enter(one, &limits).is_none(), "per address");
        let _other = gate.enter([127, 0, 0, 2].into(), &limits).expect("another address");
        assert!(gate.enter([127, 0, 0, 3].into(), &limits).is_none(), "in total");
        drop(first);
        assert!(gate.enter(one, &limits).is_some(), "places come back");
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let a: IpAddr = "2001:db8:1:2::1".parse().expect("address");
        let b: IpAddr = "2001:db8:1:2:ffff::9".parse().expect("address");
        assert_eq!(source(a), source(b));
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().expect("address");
        assert_eq!(source(mapped), IpAddr::from([10, 0, 0, 1]));
    }
}
