//! Reads as fast as it goes: `batches HOST:PORT TOPIC RECORDS`. Prints how many records and bytes came per second, and per second of
//! the processor's time.
//!
//! Batches are lent: nothing is copied or allocated for a record.

use std::time::Instant;

use kavka_client::{Consumer, consumer::OffsetReset};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [servers, topic, records] = &arguments[..] else {
        return Err("usage: batches HOST:PORT TOPIC RECORDS".into());
    };
    let wanted: u64 = records.parse()?;
    let mut consumer = Consumer::builder()
        .bootstrap_servers(servers)
        .auto_offset_reset(OffsetReset::Earliest)
        .build()?;
    let partitions = consumer.partitions_for(topic).await?;
    consumer.assign(partitions).await?;
    let (mut records, mut bytes) = (0_u64, 0_usize);
    let start = Instant::now();
    while records < wanted
        && let Some(batch) = consumer.next_batch().await
    {
        for record in batch? {
            let record = record?;
            records += 1;
            bytes += record.value.map_or(0, <[u8]>::len);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{records} records, {bytes} bytes in {seconds:.3} s");
    consumer.close().await?;
    Ok(())
}
