//! How long a test broker takes to start, to answer its first client, to come back after a crash, and to be gone.
//!
//! `cargo run --release -p kavka-testkit --example start_time -- [ROUNDS]`, on a machine that does nothing else.

use std::time::{Duration, Instant};

use kavka_protocol::messages::ApiVersionsRequest;
use kavka_testkit::{TestBroker, raw::RawClient};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rounds = std::env::args().nth(1).map_or(Ok(200), |rounds| rounds.parse())?;
    let start = Instant::now();
    drop(TestBroker::start().await);
    println!(
        "the first of a process, and gone     {:13.2} ms",
        start.elapsed().as_secs_f64() * 1000.0
    );

    let (mut plain, mut with_topic, mut answered) = (Vec::new(), Vec::new(), Vec::new());
    let (mut restarts, mut drops) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let start = Instant::now();
        let broker = TestBroker::start().await;
        plain.push(start.elapsed());
        RawClient::connect(broker.addr()).await.call(ApiVersionsRequest::default()).await;
        answered.push(start.elapsed());

        broker.crash().await;
        let start = Instant::now();
        broker.restart().await?;
        restarts.push(start.elapsed());

        let start = Instant::now();
        drop(broker);
        drops.push(start.elapsed());

        let start = Instant::now();
        let broker = TestBroker::builder().topic("orders", 6).start().await;
        with_topic.push(start.elapsed());
        drop(broker);
    }
    report("start()", &mut plain);
    report("start() to the first answer", &mut answered);
    report("start with a topic of 6 partitions", &mut with_topic);
    report("restart after a crash", &mut restarts);
    report("drop", &mut drops);
    Ok(())
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len().saturating_sub(1) * percent / 100);
    let ms = |percent| at(percent).map_or(0.0, |time| time.as_secs_f64() * 1000.0);
    println!(
        "{what:<36} median {:6.2} ms   90% {:6.2} ms   most {:6.2} ms",
        ms(50),
        ms(90),
        ms(100)
    );
}
