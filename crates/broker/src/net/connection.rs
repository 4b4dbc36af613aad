//! One connection: frames in, answers out in the same order, several requests under way at once.
//!
//! The whole connection is one task. A request is handled on the thread that read it: its future is polled as soon as the
//! frame is complete, before the next frame is looked at, so that two requests of one connection take effect in order. What
//! cannot be answered at once (a long poll, a join, a produce that waits for its sync) stays parked in the pipeline, and the
//! connection reads on, up to [`Limits::max_in_flight`].
//!
//! What arrives goes to a buffer of the thread first, so a connection holds memory only for requests under way, and none
//! while it is idle.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fmt, io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use kavka_environment::Socket;
use tokio::{
    io::{AsyncRead as _, AsyncReadExt, ReadBuf},
    sync::watch,
    time::{Instant, Sleep, sleep_until},
};
use tracing::debug;

use super::{
    Limits,
    budget::{Budget, Charge, MaybeCharge},
    socket::poll_write_vectored,
};
use crate::dispatch::{Dispatcher, Handling, Peer};

/// What becomes of a request.
pub(crate) enum Answer {
    /// The frame to send, its length in front, in pieces. `held` is memory off the budget, given back when it has left.
    Send {
        /// The bytes.
        pieces: Vec<Bytes>,
        /// The memory.
        held: Option<Charge>,
    },
    /// Nothing is sent: a produce with acks=0.
    Silent,
    /// The connection is closed without an answer.
    Close(CloseReason),
}

/// Why a connection was closed by the broker.
#[derive(Debug)]
pub(crate) enum CloseReason {
    /// A length that no frame has.
    FrameSize { size: i32, limit: usize },
    /// Bytes that are no request.
    Malformed(String),
    /// A produce with acks=0 failed, and there is no answer to say so.
    FailedWithoutAnswer(String),
    /// No complete frame in time.
    FirstFrame(Duration),
    /// No request for a long time.
    Idle(Duration),
    /// A frame that does not go on.
    SlowFrame,
    /// Answers that nobody takes.
    SlowReader,
    /// An [`Interceptor`](crate::Interceptor) said so.
    Intercepted,
    /// The broker stops.
    Stopping,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::FrameSize { size, limit } => {
                write!(
                    f,
                    "frame of {size} bytes; allowed are 1 to {limit} (socket.request.max.bytes)"
                )
            }
            CloseReason::Malformed(what) => write!(f, "malformed request: {what}"),
            CloseReason::FailedWithoutAnswer(what) => write!(f, "acks=0 request failed: {what}"),
            CloseReason::FirstFrame(after) => write!(f, "no complete request within {after:?}"),
            CloseReason::Idle(after) => write!(f, "idle for {after:?}"),
            CloseReason::SlowFrame => f.write_str("a request arrives too slowly"),
            CloseReason::SlowReader => f.write_str("answers are not read while memory is short"),
            CloseReason::Intercepted => f.write_str("a rule of a test says so"),
            CloseReason::Stopping => f.write_str("the broker stops"),
        }
    }
}

enum End {
    ByPeer,
    ByBroker(CloseReason),
}

/// A request in the pipeline, and the memory of its frame.
struct Slot {
    progress: Progress,
    charge: Charge,
}

enum Progress {
    Running(Handling),
    Done(Answer),
}

/// An answer being written.
struct Outgoing {
    pieces: VecDeque<Bytes>,
    _request: Charge,
    _held: Option<Charge>,
}

pub(crate) struct Connection {
    stream: Socket,
    peer: Peer,
    dispatcher: Arc<dyn Dispatcher>,
    limits: Arc<Limits>,
    budget: Budget,

    input: BytesMut,
    /// Budget for the frame that is being read.
    charge: MaybeCharge,
    pipeline: VecDeque<Slot>,
    output: VecDeque<Outgoing>,

    opened: Instant,
    last_frame: Option<Instant>,
    frame_started: Option<Instant>,
    last_write: Instant,
    /// When it was last asked whether something is overdue.
    last_check: Option<Instant>,
    /// Set when no more requests are read; the connection ends once all answers have left.
    closing: Option<End>,
}

/// What one read asks of the socket at most, unless a frame has begun to arrive and is larger.
const READ_SIZE: usize = 64 * 1024;
/// What stands for "never" where an instant is needed.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// Between two looks at whether something is overdue. Memory that those who do not read hold comes back one look after the other, while
/// everybody else waits for it.
const CHECK_PAUSE: Duration = Duration::from_millis(200);
/// Answers waiting for the socket beyond which no further request is read.
const OUTPUT_LIMIT: usize = 8;

thread_local! {
    /// Where a thread reads to when it does not know yet how much will come.
    static ARRIVED: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into());
}

impl Connection {
    pub(crate) fn new(
        stream: Socket,
        peer: Peer,
        dispatcher: Arc<dyn Dispatcher>,
        limits: Arc<Limits>,
        budget: Budget,
    ) -> Self {
        let now = Instant::now();
        Self {
            stream,
            peer,
            dispatcher,
            limits,
            budget,
            input: BytesMut::new(),
            charge: MaybeCharge::None,
            pipeline: VecDeque::new(),
            output: VecDeque::new(),
            opened: now,
            last_frame: None,
            frame_started: None,
            last_write: now,
            last_check: None,
            closing: None,
        }
    }

    /// Serves until either side ends it, or `stopping` turns true and the answers under way have left.
    pub(crate) async fn serve(mut self: Box<Self>, mut stopping: watch::Receiver<bool>) {
        let end = {
            let timer = sleep_until(self.opened + self.limits.first_frame_timeout);
            tokio::pin!(timer);
            let stop = stopping.wait_for(|stopping| *stopping);
            tokio::pin!(stop);
            let mut stop_seen = false;
            std::future::poll_fn(|cx| {
                if !stop_seen && stop.as_mut().poll(cx).is_ready() {
                    stop_seen = true;
                    self.closing.get_or_insert(End::ByBroker(CloseReason::Stopping));
                    timer.as_mut().reset(Instant::now() + self.limits.drain_timeout);
                }
                self.poll(cx, timer.as_mut())
            })
            .await
        };
        match end {
            Ok(End::ByPeer) => debug!(peer = %self.peer.address, "connection closed by the client"),
            Ok(End::ByBroker(CloseReason::Stopping)) => {}
            Ok(End::ByBroker(reason @ CloseReason::Idle(_))) => {
                debug!(peer = %self.peer.address, "closing connection: {reason}");
            }
            Ok(End::ByBroker(reason)) => {
                tracing::warn!(peer = %self.peer.address, "closing connection: {reason}");
            }
            Err(error) => debug!(peer = %self.peer.address, "connection lost: {error}"),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, timer: Pin<&mut Sleep>) -> Poll<io::Result<End>> {
        loop {
            let mut progress = self.poll_pipeline(cx);
            progress |= self.poll_write(cx)?;
            if self.closing.is_none() {
                progress |= self.poll_read(cx)?;
            }
            if self.closing.is_some() && (self.is_drained() || self.peer_is_gone()) {
                return Poll::Ready(Ok(self.closing.take().unwrap_or(End::ByPeer)));
            }
            if !progress {
                break;
            }
        }
        self.release_unused();
        self.poll_timer(cx, timer).map(Ok)
    }

    /// Gives back memory in which there is nothing: there may be many connections, and most of them idle.
    fn release_unused(&mut self) {
        if self.input.is_empty() && self.input.capacity() > 0 {
            self.input = BytesMut::new();
        }
        if self.is_drained() {
            self.pipeline = VecDeque::new();
            self.output = VecDeque::new();
        }
    }

    fn is_drained(&self) -> bool {
        self.pipeline.is_empty() && self.output.is_empty()
    }

    /// Nobody reads the answers any more.
    fn peer_is_gone(&self) -> bool {
        matches!(self.closing, Some(End::ByPeer))
    }

    /// Lets the requests under way go on, and moves answers from the front of the line to the output.
    fn poll_pipeline(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        for slot in &mut self.pipeline {
            progress |= slot.poll(cx);
        }
        while self.pipeline.front().is_some_and(Slot::is_done) {
            let Some(Slot { progress: Progress::Done(answer), charge }) = self.pipeline.pop_front()
            else {
                unreachable!("the front was looked at")
            };
            progress = true;
            match answer {
                Answer::Send { pieces, held } => {
                    if self.output.is_empty() {
                        self.last_write = Instant::now();
                    }
                    let pieces = pieces.into();
                    self.output.push_back(Outgoing { pieces, _request: charge, _held: held });
                }
                Answer::Silent => {}
                Answer::Close(reason) => {
                    // Answers to earlier requests still leave; later requests are forgotten.
                    self.pipeline.clear();
                    self.closing = Some(End::ByBroker(reason));
                }
            }
        }
        progress
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut progress = false;
        while !self.output.is_empty() {
            let mut slices = [io::IoSlice::new(&[]); 64];
            let mut count = 0;
            let pieces = self.output.iter().flat_map(|outgoing| &outgoing.pieces);
            for (slice, piece) in slices.iter_mut().zip(pieces) {
                *slice = io::IoSlice::new(piece);
                count += 1;
            }
            let Poll::Ready(written) = poll_write_vectored(&mut self.stream, cx, &slices[..count])
            else {
                break;
            };
            progress = true;
            self.last_write = Instant::now();
            self.consume_output(written?);
        }
        Ok(progress)
    }

    fn consume_output(&mut self, mut written: usize) {
        while let Some(outgoing) = self.output.front_mut() {
            while let Some(piece) = outgoing.pieces.front_mut() {
                if piece.len() > written {
                    piece.advance(written);
                    return;
                }
                written -= piece.len();
                outgoing.pieces.pop_front();
            }
            self.output.pop_front();
        }
        assert_eq!(written, 0, "more was written than there was");
    }

    /// Reads and dispatches frames while there is room for their answers.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut progress = false;
        while self.closing.is_none()
            && self.pipeline.len() < self.limits.max_in_flight
            && self.output.len() < OUTPUT_LIMIT
        {
            let size = match self.announced_frame() {
                Ok(size) => size,
                Err(reason) => {
                    self.closing = Some(End::ByBroker(reason));
                    return Ok(true);
                }
            };
            if let Some(size) = size {
                if self.charge.poll(&self.budget, size, cx).is_pending() {
                    return Ok(progress);
                }
                if self.input.len() >= 4 + size {
                    self.dispatch(size, cx);
                    progress = true;
                    continue;
                }
                self.input.reserve(4 + size - self.input.len());
            }
            match self.receive(size.is_some(), cx) {
                Poll::Ready(Ok(0)) => {
                    self.closing = Some(End::ByPeer);
                    return Ok(true);
                }
                Poll::Ready(Ok(_)) => {
                    progress = true;
                    self.frame_started.get_or_insert_with(Instant::now);
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(progress),
            }
        }
        Ok(progress)
    }

    /// Reads what there is to the input: directly into the room made there for a frame that has `begun`, else by way of the
    /// thread's buffer, so that no more memory is taken than came. 0 bytes are the end.
    fn receive(&mut self, begun: bool, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if begun {
            return pin!(self.stream.read_buf(&mut self.input)).poll(cx);
        }
        ARRIVED.with_borrow_mut(|arrived| {
            let mut arrived = ReadBuf::new(arrived);
            Pin::new(&mut self.stream).poll_read(cx, &mut arrived).map_ok(|()| {
                self.input.extend_from_slice(arrived.filled());
                arrived.filled().len()
            })
        })
    }

    /// The size of the frame at the front of the input, once its four bytes are there.
    fn announced_frame(&self) -> Result<Option<usize>, CloseReason> {
        let Some((head, _)) = self.input.split_first_chunk::<4>() else { return Ok(None) };
        let size = i32::from_be_bytes(*head);
        let limit = self.limits.max_frame_bytes;
        match usize::try_from(size) {
            Ok(size) if size > 0 && size <= limit => Ok(Some(size)),
            _ => Err(CloseReason::FrameSize { size, limit }),
        }
    }

    fn dispatch(&mut self, size: usize, cx: &mut Context<'_>) {
        self.input.advance(4);
        let frame = self.input.split_to(size).freeze();
        let now = Instant::now();
        self.last_frame = Some(now);
        self.frame_started = (!self.input.is_empty()).then_some(now);
        let Some(charge) = self.charge.take() else {
            unreachable!("a frame is read only after its bytes were charged")
        };
        let handling = self.dispatcher.dispatch(self.peer, frame);
        let mut slot = Slot { progress: Progress::Running(handling), charge };
        slot.poll(cx);
        self.pipeline.push_back(slot);
    }

    /// Ends the connection when it is over time, else arms the timer for the next look.
    fn poll_timer(&mut self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<End> {
        loop {
            if self.closing.is_none() {
                // A frame has begun or an answer is stuck: look sooner than an idle connection needs.
                let soonest = self.next_check();
                if soonest < timer.deadline() {
                    timer.as_mut().reset(soonest);
                }
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if let Some(end) = self.closing.take() {
                return Poll::Ready(end);
            }
            let now = Instant::now();
            if let Some(reason) = self.overdue(now) {
                return Poll::Ready(End::ByBroker(reason));
            }
            self.last_check = Some(now);
            timer.as_mut().reset(self.next_check());
        }
    }

    /// When something may be overdue at the earliest. What was late at the last check and may be (an answer that nobody takes while
    /// there is memory) is looked at again after a pause, or the connection would do nothing else.
    fn next_check(&self) -> Instant {
        let mut next = match self.last_frame {
            None => self.opened + self.limits.first_frame_timeout,
            Some(last) => last + self.limits.idle_timeout.unwrap_or(FOREVER),
        };
        if let Some(started) = self.frame_started {
            next = next.min(started + self.limits.frame_grace);
        }
        if !self.output.is_empty() {
            next = next.min(self.last_write + self.limits.slow_reader_timeout);
        }
        self.last_check.map_or(next, |last| next.max(last + CHECK_PAUSE))
    }

    fn overdue(&self, now: Instant) -> Option<CloseReason> {
        let limits = &self.limits;
        if self.last_frame.is_none() && now >= self.opened + limits.first_frame_timeout {
            return Some(CloseReason::FirstFrame(limits.first_frame_timeout));
        }
        if let Some(started) = self.frame_started {
            let after_grace = now.saturating_duration_since(started + limits.frame_grace).as_secs();
            // A frame that waits for the budget is not the client's fault.
            let waiting = matches!(self.charge, MaybeCharge::Pending(_));
            let paused =
                self.pipeline.len() >= limits.max_in_flight || self.output.len() >= OUTPUT_LIMIT;
            let too_slow = (self.input.len() as u64)
                < after_grace.saturating_mul(u64::from(limits.frame_min_rate));
            if now >= started + limits.frame_grace && !waiting && !paused && too_slow {
                return Some(CloseReason::SlowFrame);
            }
        }
        let stuck = !self.output.is_empty() && now >= self.last_write + limits.slow_reader_timeout;
        if stuck && self.budget.used() > limits.slow_reader_budget_bytes {
            return Some(CloseReason::SlowReader);
        }
        let (last, timeout) = (self.last_frame?, limits.idle_timeout?);
        // Who takes nothing of its answers for so long is as gone as who asks for nothing; who waits for an answer is not.
        let is_idle = if self.output.is_empty() {
            self.is_drained()
        } else {
            now >= self.last_write + timeout
        };
        (is_idle && now >= last + timeout).then_some(CloseReason::Idle(timeout))
    }
}

impl Slot {
    fn is_done(&self) -> bool {
        matches!(self.progress, Progress::Done(_))
    }

    /// Lets a running request go on; whether it is done now and was not before.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let Progress::Running(handling) = &mut self.progress else { return false };
        let Poll::Ready(answer) = handling.as_mut().poll(cx) else { return false };
        self.progress = Progress::Done(answer);
        true
    }
}

#[cfg(test)]
mod tests;
