//! Kavka's client.

use std::{collections::VecDeque, time::Duration};

use anyhow::{anyhow, ensure};
use kavka_client::{Consumer, DeliveryFuture, Producer, ProducerRecord, TopicPartition};

use crate::{
    Load, PARTITIONS, payload,
    usage::{Measured, Meter},
};

/// Deliveries that are not looked at yet.
const WINDOW: usize = 100_000;

pub(crate) fn produce(load: &Load) -> anyhow::Result<Measured> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async { tokio::spawn(run(load.clone())).await? })
}

pub(crate) fn consume(load: &Load) -> anyhow::Result<Measured> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async { tokio::spawn(read(load.clone())).await? })
}

async fn read(load: Load) -> anyhow::Result<Measured> {
    let mut consumer = Consumer::builder()
        .bootstrap_servers(&load.bootstrap)
        .property("auto.offset.reset", "earliest")
        .build()?;
    let partitions = (0..PARTITIONS).map(|at| TopicPartition::new(load.topic.as_str(), at));
    consumer.handle().assign(partitions).await?;
    read_records(&mut consumer, &load, load.records / 10).await?;
    let meter = Meter::start();
    read_records(&mut consumer, &load, load.records).await?;
    let measured = meter.stop()?;
    consumer.close().await?;
    Ok(measured)
}

/// Looks at each value.
async fn read_records(consumer: &mut Consumer, load: &Load, records: u64) -> anyhow::Result<()> {
    let mut seen = 0;
    while seen < records {
        let batch = consumer.next_batch().await.ok_or_else(|| anyhow!("the end"))??;
        for record in batch {
            let length = record?.value.map_or(0, <[u8]>::len);
            ensure!(length == load.size, "a value of {length} bytes");
            seen += 1;
        }
    }
    Ok(())
}

async fn run(load: Load) -> anyhow::Result<Measured> {
    let producer = Producer::builder()
        .bootstrap_servers(&load.bootstrap)
        .property("compression.type", &load.codec)
        .batch_size(load.batch_size)
        .max_request_size(load.batch_size.max(1_048_576) + 1024)
        .build()?;
    let values = payload::values(load.size);
    send(&producer, &load, &values, load.records / 10).await?;
    let meter = Meter::start();
    send(&producer, &load, &values, load.records).await?;
    let measured = meter.stop()?;
    producer.close(Duration::from_secs(10)).await.map_err(|error| anyhow!("{error}"))?;
    Ok(measured)
}

/// Sends, and looks at the delivery of each.
async fn send(
    producer: &Producer,
    load: &Load,
    values: &[Vec<u8>],
    records: u64,
) -> anyhow::Result<()> {
    let mut deliveries: VecDeque<DeliveryFuture> = VecDeque::with_capacity(WINDOW);
    let mut delivered = 0;
    for n in 0..records {
        let value = &values[n as usize % values.len()];
        deliveries.push_back(producer.send(ProducerRecord::to(&load.topic).value(value)).await?);
        if deliveries.len() >= WINDOW {
            while deliveries.len() > WINDOW / 2 {
                let Some(delivery) = deliveries.pop_front() else { break };
                delivery.await?;
                delivered += 1;
            }
        }
    }
    for delivery in deliveries {
        delivery.await?;
        delivered += 1;
    }
    ensure!(delivered == records, "{delivered} of {records} were delivered");
    Ok(())
}
