//! Sends records and waits for each: the simplest way, and the slowest, for only one record is on its way at a time.
//!
//! `cargo run -p kavka-client --example produce -- localhost:9092 orders`; without arguments, to a broker in this process.

use std::{error::Error, time::Duration};

use kavka_client::{Producer, ProducerRecord};
use kavka_testkit::TestBroker;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (_broker, servers, topic) = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [servers, topic] => (None, servers.clone(), topic.clone()),
        _ => {
            let broker = TestBroker::builder().topic("orders", 3).start().await;
            let servers = broker.bootstrap_servers();
            (Some(broker), servers, "orders".to_owned())
        }
    };
    let producer =
        Producer::builder().bootstrap_servers(&servers).linger(Duration::ZERO).build()?;
    for n in 0..5 {
        let (key, value) = (format!("customer-{}", n % 2), format!("{n} apples"));
        let record = ProducerRecord::to(&topic).key(&key).value(&value);
        // The first await is for room in the buffer, the second for the broker.
        match producer.send(record).await?.await {
            Ok(at) => println!("{value} stands in partition {} at {:?}", at.partition, at.offset),
            Err(error) => eprintln!("{value} was not delivered: {error}. {}", error.advice()),
        }
    }
    producer.close(Duration::from_secs(10)).await?;
    Ok(())
}
