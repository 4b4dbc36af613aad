//! A broker that lies: garbage, wrong lengths, other answers, silence, absurd numbers. No client panics, hangs past its timeout, or grows.
//!
//! A [`proxy`] stands between the clients and an honest test broker and spoils some of the answers, as a seed says: see [`lies`]. Clients
//! therefore come as far as joining groups, fetching and committing before something is wrong, and again and again.
//!
//! `KAVKA_HOSTILE_ROUNDS` (default 60) and `KAVKA_HOSTILE_SEED` (default 1) make it longer, and another.
#![allow(clippy::unwrap_used)]

mod clients;
mod lies;
mod process;
mod proxy;

use std::{sync::Arc, time::Duration};

use kavka_testkit::{NewRecord, TestBroker};
use tokio::{sync::Semaphore, task::JoinSet};

use self::{
    clients::Worst,
    lies::{Numbers, Temper},
    process::{Memory, Panics},
    proxy::Proxy,
};

/// Rounds at one time: most of each is waiting for timeouts.
const AT_ONCE: usize = 20;
/// What memory may come to above what it was after the first rounds: those that run at one time hold a few fetches each.
const MEMORY_SLACK_BYTES: u64 = 400 << 20;
/// Address space that nothing was written to yet counts too: a length that was believed shows there.
const ADDRESS_SLACK_BYTES: u64 = 2 << 30;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clients_of_a_broker_that_lies_neither_panic_nor_hang_nor_grow() {
    let panics = Panics::watch();
    let rounds = number("KAVKA_HOSTILE_ROUNDS", 60);
    let seed = number("KAVKA_HOSTILE_SEED", 1);
    let broker = TestBroker::builder().topic("in", 3).topic("out", 3).start().await;
    for partition in 0..3 {
        for batch in 0..20 {
            let value = |n| NewRecord::value(format!("{batch}-{n}")).key(format!("k{n}"));
            broker.produce("in", partition, (0..10).map(value)).await.unwrap();
        }
    }
    let worst = Arc::new(Worst::default());
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    let mut before = None;
    let mut lies = 0;
    for round in 0..rounds {
        if round == rounds / 4 {
            before = Some(Memory::now());
        }
        let permit = Arc::clone(&permits).acquire_owned().await.unwrap();
        let seed = Numbers::new(seed).skip(round).next();
        let (address, worst) = (broker.addr(), Arc::clone(&worst));
        running.spawn(async move {
            let temper = Temper::of(round);
            let proxy = Proxy::start(address, seed, temper).await;
            let servers = proxy.address().to_string();
            tokio::join!(
                clients::consume(&servers, round, &worst),
                clients::produce(&servers, round, &worst),
                clients::administrate(&servers, round, &worst),
            );
            drop(permit);
            proxy.lies()
        });
        while let Some(told) = running.try_join_next() {
            lies += told.unwrap();
        }
    }
    while let Some(told) = running.join_next().await {
        lies += told.unwrap();
    }
    panics.check();
    let after = Memory::now();
    println!("{rounds} rounds from seed {seed}: {lies} lies told; {worst}");
    if let (Some(before), Some(after)) = (before.flatten(), after) {
        println!("memory: {before} after a quarter of the rounds, {after} at the end");
        assert!(
            after.resident < before.resident + MEMORY_SLACK_BYTES / 4,
            "{before} grew to {after}"
        );
        assert!(after.peak < before.resident + MEMORY_SLACK_BYTES, "{before} rose to {after}");
        assert!(after.peak_space < before.space + ADDRESS_SLACK_BYTES, "{before} rose to {after}");
    }
    assert!(lies > rounds, "{lies} lies in {rounds} rounds: the proxy does not do its work");
    worst.check();
}

/// The same clients without a lie, so that the test above shows what lies do and not what is wrong with the test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_clients_succeed_when_nobody_lies() {
    let broker = TestBroker::builder().topic("in", 3).topic("out", 3).start().await;
    for partition in 0..3 {
        broker.produce("in", partition, ["a", "b"]).await.unwrap();
    }
    let proxy = Proxy::start(broker.addr(), 1, Temper::HONEST).await;
    let servers = proxy.address().to_string();
    let worst = Worst::default();
    let (read, written, answered) = tokio::join!(
        clients::consume(&servers, 0, &worst),
        clients::produce(&servers, 0, &worst),
        clients::administrate(&servers, 0, &worst),
    );
    assert!(read > 0 && written > 0 && answered > 0, "{read} {written} {answered}");
    assert_eq!(proxy.lies(), 0);
}

/// A broker that says nothing at all, from the first byte on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_never_says_a_word_is_given_up_in_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let servers = listener.local_addr().unwrap().to_string();
    let silent = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let worst = Worst::default();
    let done = tokio::time::timeout(Duration::from_secs(60), async {
        tokio::join!(
            clients::consume(&servers, 0, &worst),
            clients::produce(&servers, 0, &worst),
            clients::administrate(&servers, 0, &worst),
        )
    });
    assert_eq!(done.await.unwrap(), (0, 0, 0));
    worst.check();
    silent.abort();
}
