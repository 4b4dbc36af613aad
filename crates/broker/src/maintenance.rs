//! What happens by itself: deadlines of groups, retention, compaction, snapshots, forgotten producers.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};
use tracing::{debug, error};

use crate::{broker::Broker, partition::blocking, topics::TopicPartitions};

/// How often partitions are asked whether their producer state should be saved.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(2);

/// Runs until it is dropped.
pub(crate) async fn run(broker: Arc<Broker>) {
    tokio::join!(
        broker.groups.run_deadlines(),
        snapshots(&broker),
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
    let expiration_ms = broker.config.log.producer_id_expiration_ms;
    let wanted = |topic: &TopicPartitions| {
        let compacted = topic
            .online()
            .next()
            .is_some_and(|partition| partition.config().cleanup_policy.compact);
        compacted == matches!(kind, Kind::Compacted)
    };
    for_each_partition(broker, wanted, |partition| {
        match partition.maintain(now_ms, expiration_ms) {
            Ok(report) if report.deleted_segments > 0 || report.compaction.is_some() => {
                debug!("{}: {report:?}", partition.id());
            }
            Ok(_) => {}
            Err(failed) => error!("{}: maintenance failed: {failed}", partition.id()),
        }
    });
}

fn for_each_partition(
    broker: &Broker,
    wanted: impl Fn(&TopicPartitions) -> bool,
    mut work: impl FnMut(&crate::partition::Partition),
) {
    for topic in broker.topics.all() {
        if wanted(&topic) {
            topic.online().for_each(|partition| work(partition));
        }
    }
}
