//! Tries each record three times, then writes it to another topic and goes on: `dead_letter HOST:PORT GROUP TOPIC DEAD_LETTER_TOPIC`.
//! Stops with Ctrl-C.
//!
//! Here a record fails if its value is no number.

use std::time::Duration;

use kavka_client::{
    Consumer, Producer,
    consumer::{DeadLetter, OffsetReset, Ordering, Record, Retry},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [servers, group, topic, dead_letter_topic] = &arguments[..] else {
        return Err("usage: dead_letter HOST:PORT GROUP TOPIC DEAD_LETTER_TOPIC".into());
    };
    let producer = Producer::builder().bootstrap_servers(servers).build()?;
    let consumer = Consumer::builder()
        .bootstrap_servers(servers)
        .group_id(group)
        .auto_offset_reset(OffsetReset::Earliest)
        .build()?;
    consumer.subscribe([topic]).await?;
    let pauses = (Duration::from_millis(100), Duration::from_secs(1));
    let processor = consumer
        .process(Ordering::Partition, 16)
        .retry(Retry::attempts(3).backoff(pauses.0, pauses.1))
        .dead_letter(DeadLetter::to(producer, dead_letter_topic));
    let stopper = processor.stopper();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stopper.stop();
        }
    });
    let processed = processor.run(parse).await?;
    println!("{} numbers, {} dead letters", processed.succeeded, processed.dead_letters);
    Ok(())
}

async fn parse(record: Record) -> Result<(), String> {
    let value = record.value().ok_or("there is no value")?;
    let text = std::str::from_utf8(value).map_err(|error| error.to_string())?;
    let number: f64 = text.trim().parse().map_err(|error| format!("\"{text}\": {error}"))?;
    println!("{number}");
    Ok(())
}
