//! Kavka's client.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::{anyhow, ensure};
use kavka_client::{Consumer, DeliveryFuture, Producer, ProducerRecord, TopicPartition};

use crate::{
    Load, PARTITIONS, payload,
    usage::{self, Measured, Meter},
};

/// Deliveries that are not looked at yet.
const WINDOW: usize = 100_000;

pub(crate) fn produce(load: &Load) -> anyhow::Result<Measured> {
    in_runtime(run(load.clone()))
}

pub(crate) fn consume(load: &Load, is_owned: bool) -> anyhow::Result<Measured> {
    in_runtime(read(load.clone(), is_owned))
}

/// Memory while it is a member.
pub(crate) fn idle(load: &Load) -> anyhow::Result<u64> {
    in_runtime(wait(load.clone()))
}

pub(crate) fn commit(load: &Load) -> anyhow::Result<(Measured, Vec<Duration>)> {
    in_runtime(read_and_commit(load.clone()))
}

fn in_runtime<T: Send + 'static>(
    work: impl Future<Output = anyhow::Result<T>> + Send + 'static,
) -> anyhow::Result<T> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async { tokio::spawn(work).await? })
}

async fn read(load: Load, is_owned: bool) -> anyhow::Result<Measured> {
    let mut consumer = Consumer::builder()
        .bootstrap_servers(&load.bootstrap)
        .property("auto.offset.reset", "earliest")
        .build()?;
    let partitions = (0..PARTITIONS).map(|at| TopicPartition::new(load.topic.as_str(), at));
    consumer.handle().assign(partitions).await?;
    let mut seen = 0;
    read_records(&mut consumer, &load, is_owned, &mut seen, load.warm_up()).await?;
    let (before, meter) = (seen, Meter::start());
    read_records(&mut consumer, &load, is_owned, &mut seen, load.warm_up() + load.records).await?;
    let mut measured = meter.stop()?;
    // Batches are read whole: what the warm-up read too much is missing here.
    let part = load.records as f64 / (seen - before) as f64;
    (measured.cpu, measured.wall) = (measured.cpu.mul_f64(part), measured.wall.mul_f64(part));
    consumer.close().await?;
    Ok(measured)
}

/// Looks at each value, until so many were seen.
async fn read_records(
    consumer: &mut Consumer,
    load: &Load,
    is_owned: bool,
    seen: &mut u64,
    until: u64,
) -> anyhow::Result<()> {
    while *seen < until {
        if is_owned {
            let record = consumer.next().await.ok_or_else(|| anyhow!("the end"))??;
            let length = record.value().map_or(0, |value| value.len());
            ensure!(length == load.size, "a value of {length} bytes");
            *seen += 1;
            continue;
        }
        let batch = consumer.next_batch().await.ok_or_else(|| anyhow!("the end"))??;
        for record in batch {
            let length = record?.value.map_or(0, <[u8]>::len);
            ensure!(length == load.size, "a value of {length} bytes");
            *seen += 1;
        }
    }
    Ok(())
}

fn member(load: &Load) -> anyhow::Result<Consumer> {
    Ok(Consumer::builder()
        .bootstrap_servers(&load.bootstrap)
        .property("group.id", &load.group)
        .property("enable.auto.commit", "false")
        .property("auto.offset.reset", "earliest")
        .build()?)
}

async fn wait(load: Load) -> anyhow::Result<u64> {
    let mut consumer = member(&load)?;
    consumer.subscribe([&load.topic]).await?;
    let nothing = tokio::time::timeout(Duration::from_secs(2), consumer.next()).await;
    ensure!(nothing.is_err(), "the topic is not empty: {nothing:?}");
    ensure!(!consumer.assignment().await?.is_empty(), "nothing was assigned");
    usage::rss_kib()
}

async fn read_and_commit(load: Load) -> anyhow::Result<(Measured, Vec<Duration>)> {
    let mut consumer = member(&load)?;
    consumer.subscribe([&load.topic]).await?;
    consumer.next().await.ok_or_else(|| anyhow!("the end"))??;
    consumer.commit().await?;
    let mut latencies = Vec::with_capacity(load.records as usize);
    let meter = Meter::start();
    for _ in 0..load.records {
        consumer.next().await.ok_or_else(|| anyhow!("the end"))??;
        let began = Instant::now();
        consumer.commit().await?;
        latencies.push(began.elapsed());
    }
    let measured = meter.stop()?;
    consumer.close().await?;
    Ok((measured, latencies))
}

async fn run(load: Load) -> anyhow::Result<Measured> {
    let producer = Producer::builder()
        .bootstrap_servers(&load.bootstrap)
        .property("compression.type", &load.codec)
        .batch_size(load.batch_size)
        .max_request_size(load.max_request_size())
        .build()?;
    let values = payload::values(load.size);
    send(&producer, &load, &values, load.warm_up()).await?;
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
