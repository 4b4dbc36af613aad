#![allow(clippy::unwrap_used)]
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream},
    task::JoinHandle,
};

use super::*;
use crate::config::{BrokerConfig, LoadOptions};

/// Answers each request with so many bytes, which are memory off the budget.
struct Echo {
    bytes: usize,
    budget: Budget,
}

impl Dispatcher for Echo {
    fn dispatch(&self, _: Peer, _: Bytes) -> Handling {
        let pieces = vec![Bytes::from(vec![0; self.bytes])];
        let held = self.budget.try_charge(self.bytes);
        assert!(held.is_some(), "there is memory");
        Box::pin(std::future::ready(Answer::Send { pieces, held }))
    }
}

const ANSWER_BYTES: usize = 1_000;

fn limits() -> Limits {
    let options = LoadOptions::<[(String, String); 0]>::default();
    let mut limits = Limits::of(&BrokerConfig::load(options).unwrap().network);
    limits.slow_reader_timeout = Duration::from_millis(5);
    limits
}

/// A connection that is served, with one request already asked on its other end. It has the memory of this budget.
async fn asked(
    client: &mut DuplexStream,
    stream: impl kavka_environment::Transport + 'static,
    limits: Limits,
) -> (JoinHandle<()>, Budget, watch::Sender<bool>) {
    let address = ([127, 0, 0, 1], 9092).into();
    let peer = Peer { address, local: address, listener: 0, connection: 0 };
    let budget = Budget::new(limits.budget_bytes);
    let echo = Arc::new(Echo { bytes: ANSWER_BYTES, budget: budget.clone() });
    let stream = Socket::Other(Box::new(stream));
    let connection = Connection::new(stream, peer, echo, Arc::new(limits), budget.clone());
    let (stopping, stopped) = watch::channel(false);
    let serving = tokio::spawn(Box::new(connection).serve(stopped));
    client.write_all(&[0, 0, 0, 1, 9]).await.unwrap();
    (serving, budget, stopping)
}

/// Counts how often it is asked to take bytes.
struct Counted {
    stream: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Found by the simulation of the full stack, seeds 0 and 31: an answer that nobody took for longer than the limit, while there was
/// memory, or a large request that was long under way, was looked at again and again without a pause.
#[tokio::test]
async fn an_answer_that_nobody_takes_does_not_keep_the_broker_busy() {
    let (mut client, stream) = tokio::io::duplex(64);
    let writes = Arc::new(AtomicUsize::new(0));
    let stream = Counted { stream, writes: Arc::clone(&writes) };
    let (serving, _, _stopping) = asked(&mut client, stream, limits()).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let asked = writes.load(Ordering::Relaxed);
    assert!((1..20).contains(&asked), "asked {asked} times to write where there was no room");
    // It is served all the same.
    let mut answer = vec![0; ANSWER_BYTES];
    client.read_exact(&mut answer).await.unwrap();
    drop(client);
    serving.await.unwrap();
}

/// Found by the simulation of the full stack, seed 0: a connection whose client was silently gone, or never read, was kept for ever with the
/// memory of its answers.
#[tokio::test]
async fn a_client_that_takes_nothing_is_closed_when_it_was_idle_for_long_enough() {
    let limits = Limits { idle_timeout: Some(Duration::from_millis(200)), ..limits() };
    let (mut client, stream) = tokio::io::duplex(64);
    let (serving, budget, _stopping) = asked(&mut client, stream, limits).await;
    let answered = async {
        while budget.used() < ANSWER_BYTES {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), answered).await.expect("the answer has memory");
    tokio::time::timeout(Duration::from_secs(20), serving).await.unwrap().unwrap();
    assert_eq!(budget.used(), 0);
}
