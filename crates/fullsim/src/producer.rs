//! Producers, one life after the other.

use std::{sync::Arc, time::Duration};

use kavka_checker::{EventKind, Op};
use kavka_client::{Producer, ProducerRecord, TopicPartition};
use kavka_sim::Random;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    coverage::Deed,
    history::place,
    plan::Kind,
    world::{Phase, Sent, TOPIC, World},
};

/// Records that may be on their way at once.
const UNDER_WAY: usize = 64;

/// Sends until nothing goes wrong any more, and a little longer.
pub(crate) async fn run(world: Arc<World>, slot: usize) {
    let mut random = Random::of(world.plan.seed, &format!("producer {slot}"));
    let mut deliveries = JoinSet::new();
    for number in 1.. {
        let name = format!("producer-{slot}.{number}");
        let host = world.new_host();
        let life = random.millis(10_000, 60_000);
        let until = if world.plan.restarts { Instant::now() + life } else { world.far() };
        let builder = world
            .common_properties()
            .into_iter()
            .fold(Producer::builder(), |builder, (name, value)| builder.property(&name, &value));
        let producer = builder
            .client_id(&name)
            .delivery_timeout(Duration::from_secs(30))
            .linger(random.millis(0, 30))
            .batch_size(random.between(200, 16_000) as usize)
            .max_block(Duration::from_secs(10))
            .environment(world.machine(host))
            .build();
        let producer = match producer {
            Ok(producer) => producer,
            Err(error) => panic!("a producer cannot be built: {error}"),
        };
        let mut more_after_healing = 5;
        while Instant::now() < until || world.phase() != Phase::Faulty {
            if world.phase() != Phase::Faulty {
                more_after_healing -= 1;
                if more_after_healing == 0 {
                    break;
                }
            }
            send(&world, &producer, &name, &mut random, &mut deliveries).await;
            let gap = world.plan.send_gap;
            sleep(random.millis(0, gap.as_millis() as u64)).await;
            while deliveries.try_join_next().is_some() {}
            if deliveries.len() > UNDER_WAY {
                deliveries.join_next().await;
            }
        }
        match world.phase() {
            Phase::Faulty => world.seen.fault(Kind::Restarts),
            Phase::Healed | Phase::Over => {
                if let Err(late) = producer.close(Duration::from_secs(40)).await {
                    world.trace.tell(|| format!("{name}: {late}"));
                }
                while deliveries.join_next().await.is_some() {}
                return;
            }
        }
        match random.below(3) {
            0 => {
                let patience = random.millis(0, 5_000);
                // What was not delivered says so itself.
                let _ = producer.close(patience).await;
            }
            1 => {
                world.seen.deed(Deed::ProducerKilled);
                world.network.unplug(host);
                world.network.reset_all(host);
                // Nobody hears what becomes of the rest.
                deliveries.shutdown().await;
                drop(producer);
            }
            _ => drop(producer),
        }
        sleep(random.millis(10, 2_000)).await;
    }
}

async fn send(
    world: &Arc<World>,
    producer: &Producer,
    name: &str,
    random: &mut Random,
    deliveries: &mut JoinSet<()>,
) {
    let value = world.next_value();
    let partition = random.below(world.plan.partitions as u64) as i32;
    let padding = random.below(world.plan.max_value) as usize;
    let bytes = format!("{value}:{}", "x".repeat(padding)).into_bytes();
    let key = format!("key-{}", random.below(8));
    let record = ProducerRecord::to(TOPIC).partition(partition).key(&key).value(&bytes);
    let at = TopicPartition::new(TOPIC, partition);
    let op = Op::Send { partition: place(&at), value, offset: None };
    let begun = world.notebook.begin(name, op);
    let patience = match world.plan.cancels && random.happens(50) {
        true => random.millis(0, 20),
        false => Duration::from_secs(60),
    };
    match timeout(patience, producer.send(record)).await {
        // The promise: who gives up before it is ready has sent nothing.
        Err(_) => {
            world.cancelled();
            world.seen.deed(Deed::SendGivenUp);
            world.notebook.end(begun, EventKind::Fail, |_| {});
        }
        Ok(Err(_)) => world.notebook.end(begun, EventKind::Fail, |_| {}),
        Ok(Ok(delivery)) => {
            let (world, name) = (Arc::clone(world), name.to_owned());
            deliveries.spawn(async move {
                match delivery.await {
                    Ok(delivered) => {
                        let offset = delivered.offset;
                        world.sent(Sent { producer: name, at, value, offset });
                        world.notebook.end(begun, EventKind::Ok, |op| {
                            if let Op::Send { offset: known, .. } = op {
                                *known = offset;
                            }
                        });
                    }
                    Err(error) => {
                        world.seen.deed(Deed::NotDelivered);
                        world.trace.tell(|| format!("{name}: {value} was not delivered: {error}"));
                        world.notebook.end(begun, EventKind::Info, |_| {});
                    }
                }
            });
        }
    }
}
