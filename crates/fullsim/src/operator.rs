//! Who looks at everything, and makes and deletes topics that nobody reads.

use std::{sync::Arc, time::Duration};

use kavka_client::{
    Admin, IsolationLevel, TopicPartition,
    admin::{Change, CommittedOffset, GroupFilter, NewTopic, OffsetSpec, OffsetsOfGroup},
};
use kavka_sim::Random;
use tokio::time::{sleep, timeout};

use crate::{
    coverage::Deed,
    world::{GROUP, IDLE_GROUP, Phase, TOPIC, World},
};

/// Asks until the world is over.
pub(crate) async fn run(world: Arc<World>) {
    let mut random = Random::of(world.plan.seed, "operator");
    let host = world.new_host();
    world.observer.name(host, "operator", kavka_checker::CommitSource::Chosen);
    let admin = Admin::builder().property("client.id", "operator").environment(world.machine(host));
    let admin = world
        .common_properties()
        .into_iter()
        .fold(admin, |admin, (name, value)| admin.property(&name, &value))
        .build();
    let admin = match admin {
        Ok(admin) => admin,
        Err(error) => panic!("an admin client cannot be built: {error}"),
    };
    let mut made = 0;
    while world.phase() != Phase::Over {
        let patience = match world.plan.cancels && random.happens(300) {
            true => random.millis(0, 100),
            false => Duration::from_secs(60),
        };
        let act = random.below(9);
        if act == 0 {
            made += 1;
        }
        let asked = ask(&world, &admin, act, made, &mut random);
        match timeout(patience, asked).await {
            Ok(told) => {
                world.seen.deed(Deed::OperatorAnswered);
                world.trace.tell(|| format!("operator: {told}"));
            }
            Err(_) => world.cancelled(),
        }
        sleep(random.millis(200, 4_000)).await;
    }
}

async fn ask(world: &World, admin: &Admin, act: u64, made: u64, random: &mut Random) -> String {
    let partitions = (0..world.plan.partitions).map(|number| TopicPartition::new(TOPIC, number));
    match act {
        0 => {
            let topic = NewTopic::new(format!("extra-{made}")).partitions(2);
            format!("created: {:?}", admin.create_topics([topic], Change::Apply).await)
        }
        1 => {
            let name = format!("extra-{}", random.below(made + 1));
            format!("deleted: {:?}", admin.delete_topics([name]).await)
        }
        2 => format!("topics: {:?}", admin.list_topics().await),
        3 => format!("groups: {:?}", admin.list_groups(&GroupFilter::default()).await),
        4 => format!("described: {:?}", admin.describe_groups([GROUP, IDLE_GROUP]).await),
        5 | 6 => {
            let wanted = OffsetsOfGroup::of(GROUP, partitions);
            format!("offsets: {:?}", admin.list_group_offsets([wanted], false).await)
        }
        7 => {
            let specs = partitions.map(|partition| (partition, OffsetSpec::Latest));
            let ends = admin.list_offsets(specs, IsolationLevel::ReadUncommitted).await;
            format!("ends: {ends:?}")
        }
        _ => {
            let value = random.below(100) as i64;
            let offsets = partitions.map(|partition| (partition, CommittedOffset::new(value)));
            format!("reset: {:?}", admin.alter_group_offsets(IDLE_GROUP, offsets).await)
        }
    }
}
