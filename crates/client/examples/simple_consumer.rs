//! Prints a topic as a member of a group: `simple_consumer HOST:PORT GROUP TOPIC`.
//!
//! What was printed is committed every five seconds and when the next start asks where to go on: that is at least once.

use kavka_client::{Consumer, consumer::OffsetReset};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [servers, group, topic] = &arguments[..] else {
        return Err("usage: simple_consumer HOST:PORT GROUP TOPIC".into());
    };
    let mut consumer = Consumer::builder()
        .bootstrap_servers(servers)
        .group_id(group)
        .auto_offset_reset(OffsetReset::Earliest)
        .build()?;
    consumer.subscribe([topic]).await?;
    while let Some(record) = consumer.next().await {
        let record = record?;
        println!("{}-{} {:?}", record.partition(), record.offset(), record.value());
    }
    Ok(())
}
