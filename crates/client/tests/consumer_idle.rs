//! A consumer that can do nothing does nothing. In a process of its own, on whose thread nothing else runs.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use kavka_client::{Consumer, consumer::OffsetReset};
use kavka_testkit::{ApiKey, ErrorCode, TestBroker};

const SECOND: Duration = Duration::from_secs(1);

/// Processor time of this thread, in hundredths of a second.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// How much of what a thread can have just now the consumer takes, in percent: a machine with much to do gives little to anybody.
async fn share_of_processor() -> u64 {
    let spinning = std::thread::spawn(|| {
        let (before, start) = (ticks(), Instant::now());
        while start.elapsed() < SECOND || ticks() < before + 20 {
            std::hint::spin_loop();
        }
        ticks() - before
    });
    let before = ticks();
    while !spinning.is_finished() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (ticks() - before) * 100 / spinning.join().unwrap()
}

/// A time in the past, at which the fetcher wanted to be woken, once woke the driver without end after it had given up.
#[tokio::test]
async fn a_consumer_that_has_failed_or_waits_uses_no_processor_time() {
    let broker = TestBroker::builder().topic("t", 2).start().await;
    broker.on(ApiKey::Fetch).fail(ErrorCode::NotLeaderOrFollower);
    let build = || {
        Consumer::builder()
            .bootstrap_servers(&broker.bootstrap_servers())
            .group_id("g")
            .group_instance_id("i")
            .auto_offset_reset(OffsetReset::Earliest)
            .session_timeout(Duration::from_secs(6))
            .heartbeat_interval(Duration::from_millis(100))
            .property("reconnect.backoff.max.ms", "100")
            .build()
            .unwrap()
    };
    let mut first = build();
    first.subscribe(["t"]).await.unwrap();
    // Partitions that cannot be fetched now are to be looked after at some time.
    assert!(tokio::time::timeout(SECOND, first.next()).await.is_err());
    let waits = share_of_processor().await;
    let second = build();
    second.subscribe(["t"]).await.unwrap();
    let error = tokio::time::timeout(SECOND * 20, first.next()).await.unwrap().unwrap();
    assert!(error.unwrap_err().is_fatal());
    drop(second);
    let failed = share_of_processor().await;
    assert!(waits < 40 && failed < 40, "{waits} and {failed} percent");
}
