//! How long it takes to drop clients whose broker is gone, in the middle of their work: `cargo run -p kavka-client --example drop_times`.
//!
//! Nothing about it waits: what is to be said to a broker is said in the background. Fails if a drop took a millisecond or longer in the
//! median.

use std::time::{Duration, Instant};

use kavka_client::{Admin, Consumer, Producer, ProducerRecord, consumer::OffsetReset};
use kavka_testkit::TestBroker;

const ROUNDS: usize = 50;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut times: [Vec<Duration>; 3] = Default::default();
    for _ in 0..ROUNDS {
        let broker = TestBroker::builder().topic("t", 3).start().await;
        let servers = broker.bootstrap_servers();
        broker.produce("t", 0, (0..1000).map(|n| n.to_string())).await?;
        let consumer = Consumer::builder().bootstrap_servers(&servers).group_id("g");
        let mut consumer = consumer.auto_offset_reset(OffsetReset::Earliest).build()?;
        consumer.subscribe(["t"]).await?;
        consumer.next().await.ok_or("the consumer ended")??;
        let admin = Admin::builder().bootstrap_servers(&servers).build()?;
        admin.list_topics().await?;
        let producer = Producer::builder().bootstrap_servers(&servers).build()?;
        producer.partition_count("t").await?;
        broker.crash().await;
        for _ in 0..1000 {
            drop(producer.send(ProducerRecord::to("t").value("not delivered")).await?);
        }
        times[0].push(time_to_drop(consumer));
        times[1].push(time_to_drop(producer));
        times[2].push(time_to_drop(admin));
    }
    for (name, times) in ["consumer", "producer", "admin"].into_iter().zip(&mut times) {
        times.sort();
        let (median, longest) = (times[ROUNDS / 2], times[ROUNDS - 1]);
        println!("{name}: {median:?} in the median, {longest:?} at most, of {ROUNDS}");
        if median >= Duration::from_millis(1) {
            return Err(format!("dropping a {name} took {median:?}").into());
        }
    }
    Ok(())
}

fn time_to_drop<T>(client: T) -> Duration {
    let begun = Instant::now();
    drop(client);
    begun.elapsed()
}
