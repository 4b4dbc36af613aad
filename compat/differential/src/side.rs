//! One of the two brokers: connections to it, and requests that wait for their answers.
//!
//! A request takes a connection that has nothing else under way, so that a parked JoinGroup holds nobody up. JoinGroups come over
//! a connection of their own, which is newer than those of earlier ones: as if from a client that has reconnected, or was started
//! again. One thread for each connection reads answers into one inbox.

use std::{
    collections::{HashMap, HashSet},
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use bytes::{BufMut, Bytes};
use kavka_protocol::{ApiKey, ByteString, Message, messages::RequestHeader};

/// The largest answer that is read.
const MAX_FRAME_BYTES: usize = 64 << 20;

/// What a connection saw: the number of the connection, and a frame, or that it was closed.
type Arrival = (usize, Option<Bytes>);

/// One broker.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    streams: HashMap<usize, TcpStream>,
    next_connection: usize,
    idle: Vec<usize>,
    for_one_request: HashSet<usize>,
    /// Which request each busy connection works on.
    busy: HashMap<usize, u64>,
    inbox: Receiver<Arrival>,
    outbox: Sender<Arrival>,
}

/// A request as it goes on the wire, without its length.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) api: ApiKey,
    pub(crate) version: i16,
    pub(crate) client_id: ByteString,
    pub(crate) body: Bytes,
}

impl Side {
    pub(crate) fn new(name: &'static str, address: SocketAddr) -> Side {
        let (outbox, inbox) = channel();
        Side {
            name,
            address,
            streams: HashMap::new(),
            next_connection: 0,
            idle: Vec::new(),
            for_one_request: HashSet::new(),
            busy: HashMap::new(),
            inbox,
            outbox,
        }
    }

    /// Sends request number `request`; its answer comes out of [`Side::receive`].
    pub(crate) fn send(&mut self, request: u64, frame: &Frame) -> anyhow::Result<()> {
        let connection = match self.idle.pop() {
            Some(connection) if frame.api != ApiKey::JoinGroup => connection,
            idle => {
                self.idle.extend(idle);
                self.connect()?
            }
        };
        if frame.api == ApiKey::JoinGroup {
            self.for_one_request.insert(connection);
        }
        let header = RequestHeader {
            request_api_key: frame.api.code(),
            request_api_version: frame.version,
            correlation_id: request as i32,
            client_id: Some(frame.client_id.clone()),
            ..Default::default()
        };
        let header = header.to_bytes(frame.api.request_header_version(frame.version))?;
        let mut bytes = Vec::with_capacity(4 + header.len() + frame.body.len());
        bytes.put_i32((header.len() + frame.body.len()) as i32);
        bytes.put_slice(&header);
        bytes.put_slice(&frame.body);
        let stream =
            self.streams.get_mut(&connection).context("an idle connection has a stream")?;
        stream.write_all(&bytes).with_context(|| format!("{}: cannot send", self.name))?;
        self.busy.insert(connection, request);
        Ok(())
    }

    /// The next answer: the request's number, and the frame, or `None` if the broker closed the connection instead.
    pub(crate) fn receive(&mut self, patience: Duration) -> Option<(u64, Option<Bytes>)> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let (connection, frame) = match self.inbox.recv_timeout(left) {
                Ok(arrival) => arrival,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            };
            let request = self.busy.remove(&connection);
            if frame.is_some() && !self.for_one_request.remove(&connection) {
                self.idle.push(connection);
            } else {
                if let Some(stream) = self.streams.get(&connection) {
                    // It may be closed already.
                    stream.shutdown(Shutdown::Both).ok();
                }
                self.idle.retain(|idle| *idle != connection);
                self.streams.remove(&connection);
            }
            if let Some(request) = request {
                return Some((request, frame));
            }
        }
    }

    fn connect(&mut self) -> anyhow::Result<usize> {
        let stream = TcpStream::connect(self.address)
            .with_context(|| format!("cannot connect to {} at {}", self.name, self.address))?;
        stream.set_nodelay(true)?;
        let mut reader = stream.try_clone()?;
        let (number, outbox) = (self.next_connection, self.outbox.clone());
        thread::spawn(move || {
            loop {
                let frame = read_frame(&mut reader).ok();
                let closed = frame.is_none();
                if outbox.send((number, frame)).is_err() || closed {
                    return;
                }
            }
        });
        self.next_connection += 1;
        self.streams.insert(number, stream);
        Ok(number)
    }
}

fn read_frame(stream: &mut TcpStream) -> anyhow::Result<Bytes> {
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let size = usize::try_from(i32::from_be_bytes(size))?;
    ensure!(size <= MAX_FRAME_BYTES, "an answer of {size} bytes");
    let mut frame = vec![0; size];
    stream.read_exact(&mut frame)?;
    Ok(Bytes::from(frame))
}
