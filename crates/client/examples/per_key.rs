//! Works on 64 records at once, those of one key in order: `per_key HOST:PORT GROUP TOPIC`. Stops with Ctrl-C.

use std::{convert::Infallible, time::Duration};

use kavka_client::{
    Consumer,
    consumer::{OffsetReset, Ordering, Record},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [servers, group, topic] = &arguments[..] else {
        return Err("usage: per_key HOST:PORT GROUP TOPIC".into());
    };
    let consumer = Consumer::builder()
        .bootstrap_servers(servers)
        .group_id(group)
        .auto_offset_reset(OffsetReset::Earliest)
        .build()?;
    consumer.subscribe([topic]).await?;
    let processor = consumer.process(Ordering::Key, 64);
    let stopper = processor.stopper();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stopper.stop();
        }
    });
    let processed = processor.run(work).await?;
    println!("{} records", processed.succeeded);
    Ok(())
}

async fn work(record: Record) -> Result<(), Infallible> {
    tokio::time::sleep(Duration::from_millis(10)).await;
    println!("{}-{} {:?}", record.partition(), record.offset(), record.key());
    Ok(())
}
