//! What happens by itself: deadlines of groups, retention, compaction, snapshots, forgotten producers.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};
use tracing::{debug, error, warn};

use crate::{
    broker::Broker,
    partition::{Partition, blocking},
    topics::TopicPartitions,
};

/// How often partitions are asked whether their producer state should be saved, and producers are counted.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(2);

/// Runs until it is dropped.
pub(crate) async fn run(broker: Arc<Broker>) {
    tokio::join!(
        broker.groups.run_deadlines(),
        snapshots(&broker),
        producers(&broker),
        logs(&broker, Kind::Compacted),
        logs(&broker, Kind::Deleted),
    );
}

async fn snapshots(broker: &Arc<Broker>) {
    let mut tick = interval(SNAPSHOT_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let broker = Arc::clone(broker);
        blocking(move || {
            bound_producers(&broker);
            for_each_partition(
                &broker,
                |_| true,
                |partition| {
                    if let Err(failed) = partition.maybe_snapshot(false) {
                        // A cache: without it a restart reads more.
                        error!("{}: producer snapshot not written: {failed}", partition.id());
                    }
                },
            );
        })
        .await;
    }
}

/// Forgets the producers that were idle longest while there are more than `kavka.producer.ids.max`.
fn bound_producers(broker: &Broker) {
    let max = broker.config.log.producer_ids_max;
    let mut count = 0;
    for_each_partition(broker, |_| true, |partition| count += partition.producer_count());
    if count <= max {
        return;
    }
    let mut seen = Vec::with_capacity(count);
    for_each_partition(
        broker,
        |_| true,
        |partition| seen.extend(partition.producers_last_seen_ms()),
    );
    let Some(cutoff_ms) = oldest_to_go(&mut seen, max) else { return };
    warn!(
        "{} producer ids are remembered, more than kavka.producer.ids.max={max}; the oldest are forgotten",
        seen.len()
    );
    for_each_partition(
        broker,
        |_| true,
        |partition| partition.forget_producers_idle_since(cutoff_ms),
    );
}

/// The time up to which producers have to be forgotten so that at most `max` stay.
fn oldest_to_go(seen: &mut [i64], max: usize) -> Option<i64> {
    let last = seen.len().checked_sub(max)?.checked_sub(1)?;
    Some(*seen.select_nth_unstable(last).1)
}

/// Forgets producers after `producer.id.expiration.ms`.
async fn producers(broker: &Arc<Broker>) {
    let log = &broker.config.log;
    let every = log.producer_id_expiration_check_interval;
    let mut tick = interval_at(Instant::now() + every, every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let cutoff_ms = broker.clock.wall_ms().saturating_sub(log.producer_id_expiration_ms);
        for_each_partition(
            broker,
            |_| true,
            |partition| partition.forget_producers_idle_since(cutoff_ms),
        );
    }
}

/// Compacted topics are looked after more often than those that only forget what is old.
#[derive(Clone, Copy)]
enum Kind {
    Compacted,
    Deleted,
}

async fn logs(broker: &Arc<Broker>, kind: Kind) {
    let every = match kind {
        Kind::Compacted => broker.config.log.cleaner_backoff,
        Kind::Deleted => broker.config.log.retention_check_interval,
    };
    let mut tick =
        interval_at(Instant::now() + every.min(broker.config.log.initial_task_delay), every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let broker = Arc::clone(broker);
        blocking(move || maintain(&broker, kind)).await;
    }
}

fn maintain(broker: &Broker, kind: Kind) {
    let now_ms = broker.clock.wall_ms();
    let wanted = |topic: &TopicPartitions| {
        let compacted = topic
            .online()
            .next()
            .is_some_and(|partition| partition.config().cleanup_policy.compact);
        compacted == matches!(kind, Kind::Compacted)
    };
    for_each_partition(broker, wanted, |partition| match partition.maintain(now_ms) {
        Ok(report) if report.deleted_segments > 0 || report.compaction.is_some() => {
            debug!("{}: {report:?}", partition.id());
        }
        Ok(_) => {}
        Err(failed) => error!("{}: maintenance failed: {failed}", partition.id()),
    });
}

fn for_each_partition(
    broker: &Broker,
    wanted: impl Fn(&TopicPartitions) -> bool,
    mut work: impl FnMut(&Partition),
) {
    for topic in broker.topics.all() {
        if wanted(&topic) {
            topic.online().for_each(|partition| work(partition));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::oldest_to_go;

    #[test]
    fn those_idle_longest_go_first() {
        assert_eq!(oldest_to_go(&mut [5, 1, 4, 2, 3], 3), Some(2), "1 and 2 go");
        assert_eq!(oldest_to_go(&mut [7, 7, 7], 2), Some(7));
        assert_eq!(oldest_to_go(&mut [1, 2], 2), None);
        assert_eq!(oldest_to_go(&mut [], 0), None);
    }
}
