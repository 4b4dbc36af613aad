//! Reads given partitions from a time on, without a group: `manual_assignment HOST:PORT TOPIC SECONDS_AGO PARTITION...`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kavka_client::{
    Consumer, TopicPartition,
    consumer::{OffsetReset, SeekTo},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [servers, topic, ago, numbers @ ..] = &arguments[..] else {
        return Err("usage: manual_assignment HOST:PORT TOPIC SECONDS_AGO PARTITION...".into());
    };
    let mut consumer = Consumer::builder()
        .bootstrap_servers(servers)
        .auto_offset_reset(OffsetReset::None)
        .build()?;
    let since = SystemTime::now() - Duration::from_secs(ago.parse()?);
    let since = i64::try_from(since.duration_since(UNIX_EPOCH)?.as_millis())?;
    let partitions: Vec<TopicPartition> = numbers
        .iter()
        .map(|number| Ok(TopicPartition::new(topic.as_str(), number.parse()?)))
        .collect::<Result<_, std::num::ParseIntError>>()?;
    consumer.assign(partitions.clone()).await?;
    for partition in &partitions {
        consumer.seek(partition, SeekTo::Timestamp(since)).await?;
    }
    let ends = consumer.end_offsets(partitions).await?;
    let mut left: u64 = 0;
    for (partition, end) in &ends {
        left += u64::try_from(end - consumer.position(partition).await?)?;
    }
    println!("{left} offsets since then");
    while left > 0
        && let Some(record) = consumer.next().await
    {
        let record = record?;
        println!("{}-{} {:?}", record.partition(), record.offset(), record.value());
        left -= 1;
    }
    consumer.close().await?;
    Ok(())
}
