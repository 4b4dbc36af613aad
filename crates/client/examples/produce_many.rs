//! Sends many records at once, looks at what became of each without waiting for one before the next is sent, and ends
//! knowing that all are delivered.
//!
//! `cargo run -p kavka-client --example produce_many -- localhost:9092 orders`; without arguments, to a broker in this process.

use std::{collections::VecDeque, error::Error, time::Duration};

use kavka_client::{DeliveryFuture, Producer, ProducerRecord, producer::Compression};
use kavka_testkit::TestBroker;

const RECORDS: u32 = 100_000;
/// Deliveries that are not looked at yet, at most.
const WINDOW: usize = 10_000;

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
    let producer = Producer::builder()
        .bootstrap_servers(&servers)
        .compression(Compression::Lz4)
        .batch_size(64 << 10)
        .build()?;
    let mut window: VecDeque<DeliveryFuture> = VecDeque::with_capacity(WINDOW);
    let (mut delivered, mut failed) = (0, 0);
    for n in 0..RECORDS {
        if window.len() == WINDOW
            && let Some(oldest) = window.pop_front()
        {
            match oldest.await {
                Ok(_) => delivered += 1,
                Err(error) => {
                    failed += 1;
                    eprintln!("not delivered: {error}");
                }
            }
        }
        let value = format!("order {n}");
        window.push_back(producer.send(ProducerRecord::to(&topic).value(&value)).await?);
    }
    // Delivers what is left, and says what could not be.
    if let Err(undelivered) = producer.close(Duration::from_secs(30)).await {
        eprintln!("{undelivered}");
    }
    for delivery in window {
        match delivery.await {
            Ok(_) => delivered += 1,
            Err(_) => failed += 1,
        }
    }
    println!("{delivered} of {RECORDS} records delivered, {failed} not");
    Ok(())
}
