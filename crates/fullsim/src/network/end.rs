//! One end of a connection: what the broker or a client reads from and writes to.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::{BROKER, Inner, Network, Segment, Side};

/// See the module.
pub(crate) struct End {
    network: Network,
    id: u64,
    side: Side,
    /// When there will be something to read.
    timer: Pin<Box<Sleep>>,
}

impl End {
    pub(super) fn new(network: Network, id: u64, side: Side) -> Self {
        Self { network, id, side, timer: Box::pin(tokio::time::sleep_until(Instant::now())) }
    }

    /// The direction that is written to here, and the one that is read from.
    fn ways(&self) -> (usize, usize) {
        match self.side {
            Side::Client => (0, 1),
            Side::Broker => (1, 0),
        }
    }
}

/// What reading came to.
enum Found {
    Bytes,
    End,
    /// Not before then, if it is known.
    Later(Option<Instant>),
}

impl Inner {
    fn read(
        &mut self,
        id: u64,
        side: Side,
        way: usize,
        buf: &mut ReadBuf<'_>,
    ) -> io::Result<Found> {
        let Some(link) = self.links.get_mut(&id) else {
            return Err(io::ErrorKind::ConnectionReset.into());
        };
        if link.is_reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let (now, piece) = (Instant::now(), link.piece());
        let way = &mut link.ways[way];
        if let Some(time) = way.frozen_until.filter(|time| *time > now) {
            return Ok(Found::Later(Some(time)));
        }
        let Some(segment) = way.under_way.front_mut() else {
            return Ok(match way.end {
                Some(end) if end <= now => Found::End,
                end => Found::Later(end),
            });
        };
        if segment.due > now {
            return Ok(Found::Later(Some(segment.due)));
        }
        let most = buf.remaining().min(piece);
        let mut read = Vec::new();
        while read.len() < most {
            let Some(segment) = way.under_way.front_mut().filter(|next| next.due <= now) else {
                break;
            };
            let count = segment.bytes.len().min(most - read.len());
            read.extend(segment.bytes.drain(..count));
            if segment.bytes.is_empty() {
                way.under_way.pop_front();
            }
        }
        way.unread -= read.len();
        link.dribbles = link.dribbles.saturating_sub(read.len());
        if let Some(writer) = way.writer.take() {
            writer.wake();
        }
        buf.put_slice(&read);
        self.trace.bytes(id, side, "reads", &read);
        if side == Side::Client {
            self.observer.clone().answered(id, &read);
        }
        Ok(Found::Bytes)
    }

    fn write(
        &mut self,
        id: u64,
        side: Side,
        index: usize,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let now = Instant::now();
        let Some(link) = self.links.get_mut(&id) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        if link.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let is_heard_gone =
            |end: Option<Instant>| link.dropped[1 - index] && end.is_some_and(|end| end <= now);
        if is_heard_gone(link.ways[1 - index].end) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let (latency, piece, host) = (link.latency, link.piece(), link.host);
        let way = &mut link.ways[index];
        let room = way.window.saturating_sub(way.unread);
        if room == 0 {
            way.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut count = bytes.len().min(room).min(piece);
        let breaks = way.reset_after.filter(|(after, _)| *after <= count).map(|(_, kind)| kind);
        if let Some((after, _)) = &mut way.reset_after {
            count = count.min(*after);
            *after -= count;
        }
        way.unread += count;
        if !way.is_silent && count > 0 {
            let jitter = self.random.millis(0, latency.as_millis() as u64 / 2 + 1);
            let heals = self.partitions.get(&host).copied().filter(|heals| *heals > now);
            let mut due = now + latency + jitter;
            if let Some(heals) = heals {
                // What is lost is sent again, with growing pauses.
                due = due.max(heals + self.random.millis(0, 1_500));
            }
            due = way.last_due.map_or(due, |last| last.max(due));
            way.last_due = Some(due);
            match way.under_way.back_mut() {
                Some(last) if last.due == due => last.bytes.extend(&bytes[..count]),
                _ => {
                    let bytes = bytes[..count].iter().copied().collect();
                    way.under_way.push_back(Segment { due, bytes });
                }
            }
            if let Some(reader) = way.reader.take() {
                reader.wake();
            }
        }
        self.trace.bytes(id, side, "writes", &bytes[..count]);
        if side == Side::Client {
            self.observer.clone().asked(host, id, &bytes[..count]);
        }
        if let Some(kind) = breaks {
            if let Some(link) = self.links.get_mut(&id) {
                link.reset();
            }
            self.seen.fault(kind);
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
        }
        Poll::Ready(Ok(count))
    }

    /// No more is written.
    fn end(&mut self, id: u64, index: usize) {
        let now = Instant::now();
        let Some(link) = self.links.get_mut(&id) else { return };
        let latency = link.latency;
        let heals = self.partitions.get(&link.host).copied();
        let way = &mut link.ways[index];
        if way.is_silent || way.end.is_some() {
            return;
        }
        let due = way.last_due.map_or(now, |last| last.max(now)) + latency;
        way.end = Some(heals.map_or(due, |heals| heals.max(due)));
        way.wake();
    }

    fn close(&mut self, id: u64, side: Side, index: usize) {
        self.end(id, index);
        let is_down = side == Side::Broker && self.unplugged.contains(&BROKER);
        let Some(link) = self.links.get_mut(&id) else { return };
        link.dropped[side as usize] = true;
        // Who drops what has arrived is rude: the other end is told by a reset.
        let way = &mut link.ways[1 - index];
        let is_rude = way.unread > 0 && !is_down && !link.ways[index].is_silent;
        link.ways[1 - index].under_way.clear();
        if is_rude && self.random.happens(300) {
            link.reset();
        }
        if link.dropped == [true; 2] {
            self.links.remove(&id);
            self.observer.clone().gone(id);
        } else if let Some(writer) = link.ways[1 - index].writer.take() {
            writer.wake();
        }
    }
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (_, way) = self.ways();
        let (network, id, side) = (self.network.clone(), self.id, self.side);
        loop {
            let due = {
                let mut inner = network.lock();
                match inner.read(id, side, way, buf)? {
                    Found::Bytes | Found::End => return Poll::Ready(Ok(())),
                    Found::Later(due) => {
                        if let Some(link) = inner.links.get_mut(&id) {
                            link.ways[way].reader = Some(cx.waker().clone());
                        }
                        due
                    }
                }
            };
            let Some(due) = due else { return Poll::Pending };
            if self.timer.deadline() != due || self.timer.is_elapsed() {
                self.timer.as_mut().reset(due);
            }
            std::task::ready!(self.timer.as_mut().poll(cx));
        }
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let (way, _) = self.ways();
        self.network.lock().write(self.id, self.side, way, cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (way, _) = self.ways();
        self.network.lock().end(self.id, way);
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let (way, _) = self.ways();
        self.network.lock().close(self.id, self.side, way);
    }
}
