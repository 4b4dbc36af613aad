//! The task of a connection: writes the frames that come in, reads answers, hands each to who asked.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use kavka_environment::Socket;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter},
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{Frame, Reply, Shared, frames::Frames, transport::Stream};
use crate::{
    Error, ErrorKind,
    settings::{Address, CommonSettings},
};

/// Small frames are gathered up to so many bytes; larger ones are written from where they are.
const WRITE_BUFFER_BYTES: usize = 16 << 10;

/// What a connection may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    max_frame_bytes: usize,
    max_idle: Duration,
}

/// Who waits for answers, in the order of the requests.
#[derive(Debug, Default)]
struct Waiting(Mutex<VecDeque<Waiter>>);

/// A correlation id, and where its answer goes.
type Waiter = (i32, oneshot::Sender<Result<Bytes, Error>>);

impl Limits {
    pub(super) fn of(settings: &CommonSettings) -> Self {
        Self {
            max_frame_bytes: settings.receive_message_max_bytes,
            max_idle: settings.connections_max_idle,
        }
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs until the connection ends, then tells everybody who waits.
pub(super) async fn run(
    stream: Stream,
    mut queue: mpsc::UnboundedReceiver<Frame>,
    shared: Arc<Shared>,
    limits: Limits,
) {
    let waiting = Waiting::default();
    let end = match stream {
        Stream::Plain(Socket::Tcp(mut stream)) => {
            let (read, write) = stream.split();
            exchange(read, write, &mut queue, &waiting, &shared, limits).await
        }
        Stream::Plain(Socket::Other(stream)) => {
            let (read, write) = tokio::io::split(stream);
            exchange(read, write, &mut queue, &waiting, &shared, limits).await
        }
        Stream::Tls(stream) => {
            let (read, write) = tokio::io::split(stream);
            exchange(read, write, &mut queue, &waiting, &shared, limits).await
        }
    };
    tracing::debug!(broker = %shared.address, reason = %end, "connection ended");
    shared.end(end);
    queue.close();
    let why = shared.why();
    for (_, answer) in waiting.lock().drain(..) {
        // Who gave up waiting does not hear it.
        let _ = answer.send(Err(why.clone()));
    }
    while let Some(frame) = queue.recv().await {
        if let Reply::Answer(answer) = frame.reply {
            let _ = answer.send(Err(why.clone()));
        }
    }
}

/// Both directions at once, until one of them ends.
async fn exchange(
    read: impl AsyncRead + Unpin,
    write: impl AsyncWrite + Unpin,
    queue: &mut mpsc::UnboundedReceiver<Frame>,
    waiting: &Waiting,
    shared: &Shared,
    limits: Limits,
) -> Error {
    tokio::select! {
        end = write_frames(write, queue, waiting, &shared.address, limits.max_idle) => end,
        end = read_answers(read, waiting, &shared.address, limits.max_frame_bytes) => end,
        () = shared.close.notified() => shared.why(),
    }
}

async fn write_frames(
    write: impl AsyncWrite + Unpin,
    queue: &mut mpsc::UnboundedReceiver<Frame>,
    waiting: &Waiting,
    address: &Address,
    max_idle: Duration,
) -> Error {
    let mut write = BufWriter::with_capacity(WRITE_BUFFER_BYTES, write);
    let idle = tokio::time::sleep(max_idle);
    tokio::pin!(idle);
    let mut last_used = Instant::now();
    loop {
        let frame = match queue.try_recv() {
            Ok(frame) => frame,
            Err(_) => {
                if let Err(error) = write.flush().await {
                    return cannot_write(address, &error);
                }
                tokio::select! {
                    frame = queue.recv() => match frame {
                        Some(frame) => frame,
                        None => {
                            // Nobody has the connection any more. What cannot be shut down is dropped.
                            let _ = write.shutdown().await;
                            return Error::new(ErrorKind::Closed, format!("the connection to {address} was closed"));
                        }
                    },
                    () = &mut idle => {
                        if waiting.lock().is_empty() && last_used.elapsed() >= max_idle {
                            return Error::new(
                                ErrorKind::Disconnected,
                                format!("the connection to {address} was closed after {max_idle:?} without use"),
                            );
                        }
                        idle.as_mut().reset((last_used + max_idle).max(Instant::now() + max_idle / 10));
                        continue;
                    }
                }
            }
        };
        last_used = Instant::now();
        let written = match frame.reply {
            Reply::Answer(answer) => {
                // Before the first byte leaves: the answer may be quick.
                waiting.lock().push_back((frame.correlation_id, answer));
                None
            }
            Reply::Written(written) => Some(written),
        };
        if let Err(error) = write_pieces(&mut write, &frame.pieces).await {
            return cannot_write(address, &error);
        }
        if let Some(written) = written {
            // Who gave up waiting does not hear it.
            let _ = written.send(());
        }
    }
}

/// Writes pieces, together where the other end takes so much: small ones are copied into the buffer, what is larger goes from where it is.
///
/// What is left of a piece that was cut goes on alone: then tokio waits until there is room again, where it would ask the socket after each
/// write of several pieces whether it takes a few bytes more.
async fn write_pieces(
    write: &mut BufWriter<impl AsyncWrite + Unpin>,
    pieces: &[Bytes],
) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut left = slices.as_mut_slice();
    // Pieces without bytes would look like an end that takes nothing.
    IoSlice::advance_slices(&mut left, 0);
    let mut was_cut = false;
    while let Some(first) = left.first() {
        let (offered, written) = match was_cut {
            true => (first.len(), write.write(first).await?),
            false => {
                let offered = left.iter().map(|slice| slice.len()).sum();
                (offered, write.write_vectored(left).await?)
            }
        };
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        was_cut = written < offered;
        IoSlice::advance_slices(&mut left, written);
    }
    Ok(())
}

async fn read_answers(
    mut read: impl AsyncRead + Unpin,
    waiting: &Waiting,
    address: &Address,
    max_frame_bytes: usize,
) -> Error {
    let mut frames = Frames::default();
    loop {
        let frame = match frames.next(&mut read, address, max_frame_bytes).await {
            Ok(frame) => frame,
            Err(error) => return error,
        };
        let Some(id) = frame.first_chunk::<4>().map(|id| i32::from_be_bytes(*id)) else {
            return Error::new(
                ErrorKind::Protocol,
                format!("{address} sent an answer without a header"),
            );
        };
        let front = waiting.lock().pop_front();
        match front {
            Some((expected, answer)) if expected == id => {
                // Who gave up waiting does not get it.
                let _ = answer.send(Ok(frame));
            }
            front => {
                let expected = front.as_ref().map_or("none".to_owned(), |(id, _)| id.to_string());
                let error = Error::new(
                    ErrorKind::Protocol,
                    format!("{address} answered correlation id {id}; expected was {expected}"),
                );
                if let Some((_, answer)) = front {
                    let _ = answer.send(Err(error.clone()));
                }
                return error;
            }
        }
    }
}

fn cannot_write(address: &Address, error: &io::Error) -> Error {
    Error::new(ErrorKind::Disconnected, format!("{address} takes no more requests: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use super::*;

    /// Takes several pieces at once, but only so many bytes.
    struct Narrow {
        most: usize,
        written: Vec<u8>,
        writes: usize,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(context, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let this = self.get_mut();
            let before = this.written.len();
            for piece in pieces {
                let room = this.most - (this.written.len() - before);
                this.written.extend_from_slice(&piece[..piece.len().min(room)]);
            }
            this.writes += 1;
            Poll::Ready(Ok(this.written.len() - before))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn pieces_arrive_in_order_wherever_they_are_cut_and_in_one_write_if_they_fit() {
        let sizes = [0, 40, 16_000, 3, 0, 16_000, 40_000, 5, 0];
        let bytes: Vec<u8> = (0..sizes.iter().sum::<usize>()).map(|at| (at % 251) as u8).collect();
        let mut rest = Bytes::from(bytes.clone());
        let pieces: Vec<Bytes> = sizes.iter().map(|size| rest.split_to(*size)).collect();
        for most in [1, 7, 41, 16_041, 50_000, 72_047, 72_048, 1 << 20] {
            let narrow = Narrow { most, written: Vec::new(), writes: 0 };
            let mut write = BufWriter::with_capacity(WRITE_BUFFER_BYTES, narrow);
            write_pieces(&mut write, &pieces).await.unwrap();
            write.flush().await.unwrap();
            let narrow = write.into_inner();
            assert!(narrow.written == bytes, "at most {most} bytes at once");
            assert!(narrow.writes == 1 || most < bytes.len(), "{} writes", narrow.writes);
        }
        let mut nowhere = BufWriter::new(Narrow { most: 0, written: Vec::new(), writes: 0 });
        let error = write_pieces(&mut nowhere, &pieces).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }
}
