//! What goes wrong while the world runs.

use std::sync::Arc;

use kavka_sim::Random;
use tokio::time::{Instant, sleep};

use crate::{
    network::{Host, Whose},
    plan::Fault,
    world::World,
};

/// Breaks things until `until`, then mends them: the broker runs, and its disk is quick.
pub(crate) async fn run(world: &Arc<World>, until: Instant) {
    let mut random = Random::of(world.plan.seed, "nemesis");
    let total: u64 = world.plan.faults.iter().map(|(_, weight)| weight).sum();
    let gap = world.plan.fault_gap.as_millis() as u64;
    let mut quick_again: Option<Instant> = None;
    while Instant::now() < until {
        sleep(random.millis(gap / 4, gap)).await;
        if quick_again.is_some_and(|time| time <= Instant::now()) {
            quick_again = None;
            world.server.slow_syncs(None);
        }
        if total == 0 {
            continue;
        }
        let mut left = random.below(total);
        for (fault, weight) in &world.plan.faults {
            if left < *weight {
                if *fault == Fault::SlowSyncs {
                    let most = random.between(100, 4_000);
                    world.server.slow_syncs(Some(most));
                    world.network.land("slow syncs");
                    quick_again = Some(Instant::now() + random.millis(500, 10_000));
                } else {
                    strike(world, *fault, &mut random).await;
                }
                break;
            }
            left -= *weight;
        }
    }
    world.server.slow_syncs(None);
}

async fn strike(world: &World, fault: Fault, random: &mut Random) {
    let network = &world.network;
    // The last few hosts are those that are there.
    let newest = u64::from(world.newest_host());
    let host = newest.saturating_sub(random.below(8)).max(1) as Host;
    let whose = if random.happens(600) { Whose::Host(host) } else { Whose::Any };
    match fault {
        Fault::Partition => network.partition(host, random.millis(100, 15_000)),
        Fault::Reset => drop(network.reset_one(whose)),
        Fault::HalfOpen => drop(network.silence_one(whose)),
        Fault::ReaderStops => drop(network.freeze_one(whose, random.millis(100, 12_000))),
        Fault::BrokerKilled => {
            network.land("broker killed");
            world.server.kill().await;
            sleep(random.millis(1, 6_000)).await;
            world.start_broker().await;
        }
        Fault::PowerLoss => {
            network.land("power loss");
            world.server.lose_power().await;
            sleep(random.millis(1, 6_000)).await;
            world.server.plug_in();
            world.start_broker().await;
        }
        Fault::BrokerRestart => {
            network.land("broker restart");
            network.stop_listening();
            world.server.stop().await;
            sleep(random.millis(1, 3_000)).await;
            world.start_broker().await;
        }
        Fault::SlowSyncs => unreachable!("handled by the caller"),
    }
}
