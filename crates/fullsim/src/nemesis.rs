//! What goes wrong while the world runs.

use std::sync::Arc;

use kavka_sim::Random;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    network::{Host, Whose},
    plan::{Kind, Part, Strike},
    world::World,
};

/// Breaks things until `until`, then mends them: the broker runs, and its disk is quick.
pub(crate) async fn run(world: &Arc<World>, until: Instant) {
    let mut quick_again: Option<Instant> = None;
    for (number, strike) in world.plan.strikes.iter().enumerate() {
        let next = Instant::now() + strike.gap;
        if next >= until {
            break;
        }
        sleep_until(next).await;
        if quick_again.is_some_and(|time| time <= Instant::now()) {
            quick_again = None;
            world.server.slow_syncs(None);
        }
        if !world.plan.has(Part::Strike(number)) {
            // The others strike as if this one did.
            if strike.stops_the_broker() {
                sleep(strike.down).await;
            }
            continue;
        }
        world.trace.tell(|| format!("strike {number}: {}", strike.kind));
        let mut random = Random::new(strike.seed);
        if strike.kind == Kind::SlowSyncs {
            let most = random.between(100, 4_000);
            world.server.slow_syncs(Some(most));
            world.seen.fault(Kind::SlowSyncs);
            quick_again = Some(Instant::now() + random.millis(500, 10_000));
        } else {
            execute(world, strike, &mut random).await;
        }
    }
    sleep_until(until).await;
    world.server.slow_syncs(None);
}

impl Strike {
    fn stops_the_broker(&self) -> bool {
        matches!(self.kind, Kind::BrokerKilled | Kind::PowerLoss | Kind::BrokerRestart)
    }
}

async fn execute(world: &World, strike: &Strike, random: &mut Random) {
    let network = &world.network;
    // The last few hosts are those that are there.
    let newest = u64::from(world.newest_host());
    let host = newest.saturating_sub(random.below(8)).max(1) as Host;
    let whose = if random.happens(600) { Whose::Host(host) } else { Whose::Any };
    match strike.kind {
        Kind::Partition => network.partition(host, random.millis(100, 15_000)),
        Kind::Reset => drop(network.reset_one(whose)),
        Kind::HalfOpen => drop(network.silence_one(whose)),
        Kind::ReaderStops => drop(network.freeze_one(whose, random.millis(100, 12_000))),
        Kind::BrokerKilled => {
            world.seen.fault(strike.kind);
            world.server.kill().await;
            sleep(strike.down).await;
            world.start_broker().await;
        }
        Kind::PowerLoss => {
            world.seen.fault(strike.kind);
            world.server.lose_power().await;
            sleep(strike.down).await;
            world.server.plug_in();
            world.start_broker().await;
        }
        Kind::BrokerRestart => {
            world.seen.fault(strike.kind);
            network.stop_listening();
            world.server.stop().await;
            sleep(strike.down).await;
            world.start_broker().await;
        }
        kind => unreachable!("{kind} does not strike here"),
    }
}
