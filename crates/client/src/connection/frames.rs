//! Answers as they arrive, one frame after the other.
//!
//! Owns: what was read ahead, the memory of frames. Does not own: what is in a frame (`io`, `handshake`).
//!
//! A small frame is cut out of what was read ahead. A large one is read into a buffer of its own, and so is a later one when nobody
//! holds anything of the first any more: memory that is new costs about as much as what is read into it.
//!
//! **Architecture invariants:** room for a frame is made as it arrives, except for as much as another one took that did arrive. What is
//! kept for later frames is at most [`KEPT_BUFFERS`] of together [`KEPT_BYTES`], and goes when answers become small.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::tls;
use crate::{Error, ErrorKind, settings::Address};

/// So much is read at once; a larger frame is a large one.
const READ_AHEAD_BYTES: usize = 16 << 10;
/// So much room is made for a frame before any of it has arrived.
const TRUSTED_BYTES: usize = 1 << 20;
/// One is walked through while another is filled.
const KEPT_BUFFERS: usize = 2;
/// Larger buffers are not kept.
const KEPT_BYTES: usize = 32 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Frames {
    ahead: BytesMut,
    /// The buffers of large frames, the oldest first, with their sizes. Others may hold what is in them.
    buffers: VecDeque<(usize, BytesMut)>,
    /// The size of the largest frame.
    largest: usize,
}

impl Frames {
    /// The next frame, without its length.
    pub(super) async fn next(
        &mut self,
        read: &mut (impl AsyncRead + Unpin),
        address: &Address,
        max_frame_bytes: usize,
    ) -> Result<Bytes, Error> {
        self.read_ahead(read, 4, address).await?;
        let mut length = [0; 4];
        length.copy_from_slice(&self.ahead.split_to(4));
        let length = i32::from_be_bytes(length);
        let Some(length) = usize::try_from(length).ok().filter(|length| *length <= max_frame_bytes)
        else {
            return Err(Error::new(
                ErrorKind::Protocol,
                format!("{address} announces an answer of {length} bytes; at most {max_frame_bytes} are taken"),
            )
            .with_advice(
                "If this is a Kafka listener, check that security.protocol fits it, or raise receive.message.max.bytes.",
            ));
        };
        if length > READ_AHEAD_BYTES {
            return self.large(read, length, address).await;
        }
        self.read_ahead(read, length, address).await?;
        self.buffers.pop_front();
        Ok(self.ahead.split_to(length).freeze())
    }

    /// Reads until `wanted` bytes are there, and what comes with them.
    async fn read_ahead(
        &mut self,
        read: &mut (impl AsyncRead + Unpin),
        wanted: usize,
        address: &Address,
    ) -> Result<(), Error> {
        while self.ahead.len() < wanted {
            if self.ahead.capacity() < wanted {
                self.ahead.reserve(READ_AHEAD_BYTES);
            }
            read_some(read, &mut self.ahead, address).await?;
        }
        Ok(())
    }

    async fn large(
        &mut self,
        read: &mut (impl AsyncRead + Unpin),
        length: usize,
        address: &Address,
    ) -> Result<Bytes, Error> {
        let (size, mut buffer) = self.buffer(length);
        buffer.put(self.ahead.split_to(self.ahead.len().min(length)));
        while buffer.len() < length {
            let missing = length - buffer.len();
            if buffer.capacity() == buffer.len() {
                buffer.reserve(missing.min(buffer.len()));
            }
            read_some(read, &mut (&mut buffer).limit(missing), address).await?;
        }
        self.largest = self.largest.max(length);
        let size = size.max(buffer.capacity());
        let frame = buffer.split().freeze();
        self.keep(size, buffer);
        Ok(frame)
    }

    /// A buffer that nobody uses any more and that is large enough; or a new one, for which one gives way that is too small.
    fn buffer(&mut self, length: usize) -> (usize, BytesMut) {
        let unused = |buffers: &mut VecDeque<(usize, BytesMut)>, wanted: Option<usize>| {
            let at = buffers
                .iter_mut()
                .position(|(size, buffer)| buffer.try_reclaim(wanted.unwrap_or(*size)));
            at.and_then(|at| buffers.remove(at))
        };
        unused(&mut self.buffers, Some(length)).unwrap_or_else(|| {
            drop(unused(&mut self.buffers, None));
            let trusted = TRUSTED_BYTES.max(self.largest);
            (0, BytesMut::with_capacity(length.min(trusted)))
        })
    }

    fn keep(&mut self, size: usize, buffer: BytesMut) {
        self.buffers.push_back((size, buffer));
        let kept = |buffers: &VecDeque<_>| buffers.iter().map(|(size, _)| *size).sum::<usize>();
        while self.buffers.len() > KEPT_BUFFERS || kept(&self.buffers) > KEPT_BYTES {
            self.buffers.pop_front();
        }
    }
}

/// Reads what is there.
async fn read_some(
    read: &mut (impl AsyncRead + Unpin),
    buffer: &mut impl BufMut,
    address: &Address,
) -> Result<(), Error> {
    match read.read_buf(buffer).await {
        Ok(0) => {
            Err(Error::new(ErrorKind::Disconnected, format!("{address} closed the connection")))
        }
        Ok(_) => Ok(()),
        Err(error) if tls::is_refusal(&error) => Err(tls::refused(address, &error)),
        Err(error) => Err(Error::new(
            ErrorKind::Disconnected,
            format!("the connection to {address} failed: {error}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    const MAX: usize = 100 << 20;

    fn address() -> Address {
        Address { host: "broker".into(), port: 9092 }
    }

    /// Has these read.
    async fn read(frames: &mut Frames, contents: &[Vec<u8>]) -> Vec<Bytes> {
        let mut bytes = Vec::new();
        for content in contents {
            bytes.extend_from_slice(&(content.len() as u32).to_be_bytes());
            bytes.extend_from_slice(content);
        }
        let mut input = bytes.as_slice();
        let mut read = Vec::new();
        for _ in contents {
            read.push(frames.next(&mut input, &address(), MAX).await.expect("a frame"));
        }
        assert_eq!(read, contents);
        read
    }

    #[tokio::test]
    async fn frames_of_any_size_arrive_as_they_were_sent_in_pieces_of_any_size() {
        let sizes = [0, 1, 100, READ_AHEAD_BYTES - 4, READ_AHEAD_BYTES, READ_AHEAD_BYTES + 1];
        let sizes = sizes.into_iter().chain([3 * READ_AHEAD_BYTES, 4, 3 * TRUSTED_BYTES + 7, 5]);
        let contents: Vec<Vec<u8>> = sizes
            .enumerate()
            .map(|(n, size)| (0..size).map(|at| (at + n) as u8).collect())
            .collect();
        for piece in [7, 1_000, 1 << 20] {
            let (mut here, mut there) = tokio::io::duplex(piece);
            let sent = contents.clone();
            let sender = tokio::spawn(async move {
                for content in sent {
                    here.write_all(&(content.len() as u32).to_be_bytes()).await.expect("a taker");
                    here.write_all(&content).await.expect("a taker");
                }
            });
            let mut frames = Frames::default();
            for content in &contents {
                let frame = frames.next(&mut there, &address(), MAX).await.expect("a frame");
                assert!(frame == content, "{} bytes in pieces of {piece}", content.len());
            }
            sender.await.expect("a sender");
            let error = frames.next(&mut there, &address(), MAX).await.expect_err("the end");
            assert_eq!(error.kind(), ErrorKind::Disconnected);
        }
    }

    #[tokio::test]
    async fn the_memory_of_a_large_frame_takes_another_when_nobody_holds_anything_of_it() {
        let mut frames = Frames::default();
        let first = read(&mut frames, &[vec![1; 3 << 20]]).await.remove(0);
        let value = first.slice(1_000..1_010);
        let place = first.as_ptr();
        drop(first);
        let second = read(&mut frames, &[vec![2; 3 << 20]]).await.remove(0);
        assert_ne!(second.as_ptr(), place);
        assert_eq!(value, vec![1; 10], "what somebody holds stays as it is");
        drop(value);
        let third = read(&mut frames, &[vec![3; 3 << 20]]).await.remove(0);
        assert_eq!(third.as_ptr(), place);
        assert_eq!(second, vec![2; 3 << 20]);
        drop(third);
        let place = second.as_ptr();
        let larger = read(&mut frames, &[vec![4; 5 << 20]]).await;
        assert_eq!(frames.buffers.len(), 2);
        drop(second);
        let fifth = read(&mut frames, &[vec![5; 3 << 20]]).await.remove(0);
        assert_eq!(fifth.as_ptr(), place, "what was too small and unused gave way");
        assert_eq!(larger[0], vec![4; 5 << 20]);
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded_and_goes_when_answers_become_small() {
        let mut frames = Frames::default();
        let held = read(&mut frames, &vec![vec![0; 100_000]; 10]).await;
        assert_eq!(frames.buffers.len(), KEPT_BUFFERS);
        drop(held);
        read(&mut frames, &vec![vec![0; 10]; KEPT_BUFFERS]).await;
        assert!(frames.buffers.is_empty(), "{:?}", frames.buffers);
        read(&mut frames, &[vec![0; KEPT_BYTES + 1]]).await;
        assert!(frames.buffers.is_empty(), "{:?}", frames.buffers);
    }

    #[tokio::test]
    async fn room_is_made_for_what_is_announced_only_if_so_much_did_arrive_before() {
        let mut frames = Frames::default();
        assert_eq!(frames.buffer(MAX).1.capacity(), TRUSTED_BYTES);
        read(&mut frames, &[vec![0; 3 * TRUSTED_BYTES]]).await;
        frames.buffers.clear();
        assert_eq!(frames.buffer(MAX).1.capacity(), 3 * TRUSTED_BYTES);
        assert_eq!(frames.buffer(20_000).1.capacity(), 20_000);
    }
}
