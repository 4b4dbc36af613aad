//! The network: connections of bytes between hosts, with what goes wrong on them.
//!
//! A connection keeps its order; connections overtake each other, since each byte takes a time of its own. A direction has a
//! window: who writes more than the other end reads has to wait. Bytes may come in the smallest pieces.
//!
//! Faults: latency; partitions, in which bytes and connection attempts wait until they are over; connections that are reset, in the
//! middle of a frame where it is to be; connections whose other end is silently gone; ends that do not read for a while; hosts that
//! are gone for ever.
//!
//! Owns the bytes under way. Does not know what they mean: [`wire`](crate::wire) looks at those that clients write and read.

mod end;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use kavka_broker::{Accept, Accepted};
use kavka_sim::Random;
use tokio::time::{Instant, sleep_until};

use self::end::End;
use crate::{
    coverage::Seen,
    plan::{Kind, Wires},
    trace::Trace,
    wire::Observer,
};

/// A machine on the network: the broker is 0, clients come after.
pub(crate) type Host = u8;

/// The broker's.
pub(crate) const BROKER: Host = 0;
/// Where the broker listens.
pub(crate) const PORT: u16 = 9092;

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Broker,
}

/// See the module. Clones are the same network.
#[derive(Clone)]
pub(crate) struct Network(Arc<Mutex<Inner>>);

struct Inner {
    random: Random,
    wires: Wires,
    trace: Arc<Trace>,
    seen: Arc<Seen>,
    observer: Arc<Observer>,
    links: BTreeMap<u64, Link>,
    last_link: u64,
    /// The broker's queue of connections, while it listens.
    listener: Option<Queue>,
    /// What nobody hears anything of: a connection attempt waits for ever.
    unplugged: BTreeSet<Host>,
    /// Until when a client and the broker do not reach each other.
    partitions: BTreeMap<Host, Instant>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Accepted>,
    waker: Option<Waker>,
}

/// A connection.
struct Link {
    host: Host,
    /// From the client, and from the broker.
    ways: [Way; 2],
    /// Which ends were dropped.
    dropped: [bool; 2],
    is_reset: bool,
    latency: Duration,
    /// The most that is written or read at a time, as long as `dribbles` bytes have not passed.
    piece: usize,
    dribbles: usize,
}

/// One direction of a connection.
#[derive(Default)]
struct Way {
    under_way: VecDeque<Segment>,
    /// Bytes under way or not read.
    unread: usize,
    window: usize,
    last_due: Option<Instant>,
    /// When the other end hears that no more comes.
    end: Option<Instant>,
    /// After so many more bytes the connection is reset, by a fault of this kind.
    reset_after: Option<(usize, Kind)>,
    /// What is written here goes nowhere.
    is_silent: bool,
    /// Until then nothing is read.
    frozen_until: Option<Instant>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct Segment {
    due: Instant,
    bytes: VecDeque<u8>,
}

/// So many bytes of a connection come in the smallest pieces, if any do: more would show nothing more.
const DRIBBLED: usize = 6_000;

/// What a fault picks connections by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Host(Host),
    Any,
}

pub(crate) fn address(host: Host, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, host + 1)), port)
}

impl Network {
    pub(crate) fn new(
        random: Random,
        wires: Wires,
        trace: Arc<Trace>,
        seen: Arc<Seen>,
        observer: Arc<Observer>,
    ) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            random,
            wires,
            trace,
            seen,
            observer,
            links: BTreeMap::new(),
            last_link: 0,
            listener: None,
            unplugged: BTreeSet::new(),
            partitions: BTreeMap::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects a host to the broker.
    ///
    /// # Errors
    /// Nobody listens.
    pub(crate) async fn connect(&self, host: Host) -> io::Result<End> {
        let latency = {
            let mut inner = self.lock();
            let latency = inner.latency();
            latency * 2
        };
        tokio::time::sleep(latency).await;
        loop {
            let heals = {
                let inner = self.lock();
                let is_gone = inner.unplugged.contains(&host) || inner.unplugged.contains(&BROKER);
                // It may be plugged in again: looked at now and then.
                let later = Instant::now() + Duration::from_millis(500);
                match inner.partitions.get(&host) {
                    Some(heals) if *heals > Instant::now() => Some(*heals),
                    _ => is_gone.then_some(later),
                }
            };
            match heals {
                Some(time) => sleep_until(time).await,
                None => break,
            }
        }
        let mut inner = self.lock();
        inner.open(self, host)
    }

    /// Takes connections for the broker, in place of who did before.
    pub(crate) fn listen(&self) -> Box<dyn Accept> {
        // Dropped outside of the lock: ends of connections take it.
        let before = self.lock().listener.replace(Queue::default());
        drop(before);
        Box::new(Acceptor { network: self.clone() })
    }

    /// From now on nothing goes wrong by itself, and what was partitioned is not.
    pub(crate) fn heal(&self) {
        let mut inner = self.lock();
        // Through a small window a large answer takes longer than anybody waits for it.
        inner.wires = Wires { resets: 0, slow: 0, tiny_windows: 0, ..inner.wires };
        inner.partitions.clear();
        let now = Instant::now();
        let unplugged = inner.unplugged.clone();
        for link in inner.links.values_mut() {
            if !unplugged.contains(&link.host) && link.ways.iter().any(|way| way.is_silent) {
                // Who is there again does not know this connection, and says so.
                link.reset();
            }
            for way in &mut link.ways {
                way.reset_after = None;
                way.frozen_until = way.frozen_until.map(|time| time.min(now));
                way.wake();
            }
        }
    }

    /// A client and the broker do not reach each other for a while.
    pub(crate) fn partition(&self, host: Host, time: Duration) {
        let mut inner = self.lock();
        inner.seen.fault(Kind::Partition);
        inner.partitions.insert(host, Instant::now() + time);
    }

    /// Resets one connection, now or after some bytes more. Whether there was one.
    pub(crate) fn reset_one(&self, whose: Whose) -> bool {
        let mut inner = self.lock();
        let Some(id) = inner.choose(whose) else { return false };
        let (in_a_while, side, after) = {
            let random = &mut inner.random;
            (random.happens(700), random.below(2) as usize, random.between(1, 200) as usize)
        };
        if let Some(link) = inner.links.get_mut(&id) {
            if in_a_while {
                link.ways[side].reset_after = Some((after, Kind::Reset));
            } else {
                link.reset();
                inner.seen.fault(Kind::Reset);
            }
        }
        true
    }

    /// One connection, or one direction of it, goes nowhere any more, and nobody is told.
    pub(crate) fn silence_one(&self, whose: Whose) -> bool {
        let mut inner = self.lock();
        let Some(id) = inner.choose(whose) else { return false };
        inner.seen.fault(Kind::HalfOpen);
        let which = inner.random.below(3);
        if let Some(link) = inner.links.get_mut(&id) {
            link.ways[0].is_silent |= which != 0;
            link.ways[1].is_silent |= which != 1;
        }
        true
    }

    /// One end of a connection does not read for a while.
    pub(crate) fn freeze_one(&self, whose: Whose, time: Duration) -> bool {
        let mut inner = self.lock();
        let Some(id) = inner.choose(whose) else { return false };
        inner.seen.fault(Kind::ReaderStops);
        let side = inner.random.below(2) as usize;
        if let Some(link) = inner.links.get_mut(&id) {
            link.ways[side].frozen_until = Some(Instant::now() + time);
        }
        true
    }

    /// A host loses its power: what it had said and is under way arrives, and nobody hears of it any more.
    pub(crate) fn unplug(&self, host: Host) {
        if host == BROKER {
            self.stop_listening();
        }
        let mut inner = self.lock();
        inner.unplugged.insert(host);
        for link in inner.links.values_mut() {
            if host == BROKER || link.host == host {
                link.ways.iter_mut().for_each(|way| way.is_silent = true);
            }
        }
    }

    /// A host is there again; what it had is not.
    pub(crate) fn plug_in(&self, host: Host) {
        let mut inner = self.lock();
        inner.unplugged.remove(&host);
        if host == BROKER {
            // It knows nothing of these connections, and says so to whoever writes to it.
            for link in inner.links.values_mut() {
                if link.dropped[Side::Broker as usize] {
                    link.reset();
                }
            }
        }
    }

    /// All connections of a host break: its process is gone, its kernel says so.
    pub(crate) fn reset_all(&self, host: Host) {
        let mut inner = self.lock();
        for link in inner.links.values_mut() {
            if host == BROKER || link.host == host {
                link.reset();
            }
        }
    }

    /// The broker listens no more.
    pub(crate) fn stop_listening(&self) {
        let queue = self.lock().listener.take();
        drop(queue);
    }

    /// Ends of connections that the broker has.
    pub(crate) fn broker_ends(&self) -> usize {
        self.lock().links.values().filter(|link| !link.dropped[Side::Broker as usize]).count()
    }

    /// Ends of connections that somebody has.
    pub(crate) fn ends(&self) -> usize {
        let inner = self.lock();
        inner.links.values().flat_map(|link| link.dropped).filter(|dropped| !dropped).count()
    }
}

impl Inner {
    fn latency(&mut self) -> Duration {
        let Wires { latency_ms: (low, high), .. } = self.wires;
        let slow = self.random.happens(self.wires.slow);
        let latency = self.random.millis(low, high);
        if slow {
            self.seen.fault(Kind::Slow);
            latency * 20
        } else {
            latency
        }
    }

    fn choose(&mut self, whose: Whose) -> Option<u64> {
        let ids: Vec<u64> = self
            .links
            .iter()
            .filter(|(_, link)| !link.is_reset && !link.dropped[0] && !link.dropped[1])
            .filter(|(_, link)| whose == Whose::Any || whose == Whose::Host(link.host))
            .map(|(id, _)| *id)
            .collect();
        (!ids.is_empty()).then(|| *self.random.pick(&ids))
    }

    fn open(&mut self, network: &Network, host: Host) -> io::Result<End> {
        if self.listener.is_none() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.last_link += 1;
        let id = self.last_link;
        let wires = self.wires;
        let latency = self.latency();
        let is_tiny = self.random.happens(wires.tiny_windows);
        let window = |random: &mut Random| match is_tiny {
            true => random.between(64, 512) as usize,
            false => random.between(16 << 10, 128 << 10) as usize,
        };
        let is_dribbling = self.random.happens(wires.dribbling);
        let few = self.random.between(1, 9) as usize;
        let piece = if is_dribbling { few } else { usize::MAX };
        let mut ways = [Way::default(), Way::default()];
        for way in &mut ways {
            way.window = window(&mut self.random);
            let (breaks, after) =
                (self.random.happens(wires.resets), self.random.between(1, 4_000) as usize);
            way.reset_after = breaks.then_some((after, Kind::BrokenFrames));
        }
        for (kind, is_on) in [(Kind::TinyWindows, is_tiny), (Kind::Dribbling, is_dribbling)] {
            if is_on {
                self.seen.fault(kind);
            }
        }
        let link = Link {
            host,
            ways,
            dropped: [false; 2],
            is_reset: false,
            latency,
            piece,
            dribbles: DRIBBLED,
        };
        self.links.insert(id, link);
        let (client, broker) = (address(host, 1_024 + (id % 60_000) as u16), address(BROKER, PORT));
        self.trace.tell(|| format!("connection {id} of host {host}"));
        let accepted = Accepted {
            stream: Box::new(End::new(network.clone(), id, Side::Broker)),
            peer: client,
            local: broker,
        };
        let Some(listener) = &mut self.listener else {
            unreachable!("somebody listened a moment ago")
        };
        listener.waiting.push_back(accepted);
        if let Some(waker) = listener.waker.take() {
            waker.wake();
        }
        Ok(End::new(network.clone(), id, Side::Client))
    }
}

impl Link {
    /// The most that is written or read now.
    fn piece(&self) -> usize {
        if self.dribbles > 0 { self.piece } else { usize::MAX }
    }

    fn reset(&mut self) {
        self.is_reset = true;
        self.ways.iter_mut().for_each(Way::wake);
    }
}

impl Way {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// The broker's listener.
struct Acceptor {
    network: Network,
}

impl Accept for Acceptor {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(address(BROKER, PORT))
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        let mut inner = self.network.lock();
        let Some(queue) = &mut inner.listener else { return Poll::Pending };
        match queue.waiting.pop_front() {
            Some(accepted) => Poll::Ready(Ok(accepted)),
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
