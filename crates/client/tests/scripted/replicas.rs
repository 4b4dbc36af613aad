//! Fetching from the nearest replica (KIP-392): the leader names it; when it is of no use the leader is asked again.

use std::time::Duration;

use kavka_protocol::ErrorCode;

use crate::{
    assigned, builder,
    cluster::{Cluster, Script, Seen},
    log::Log,
    place, take, within,
};

const LEADER: i32 = 0;
const FOLLOWER: i32 = 1;

/// The leader is in one rack, a follower in another.
async fn two_racks() -> Cluster {
    let log = Log::of(&["0", "1", "2"], 0);
    let logs = [(LEADER, log.clone()), (FOLLOWER, log)].into();
    let racks = [(LEADER, "east"), (FOLLOWER, "west")].into();
    Cluster::start(Script { logs, racks, ..Default::default() }).await
}

fn append(cluster: &Cluster, broker: i32, value: &str) {
    cluster.script().logs.get_mut(&broker).unwrap().append(&[value], 0);
}

fn fetched_from(seen: &[Seen]) -> Vec<i32> {
    let brokers = seen.iter().filter_map(|seen| match seen {
        Seen::Fetch { broker, .. } => Some(*broker),
        _ => None,
    });
    let mut brokers: Vec<i32> = brokers.collect();
    brokers.dedup();
    brokers
}

/// Waits until this broker is fetched from.
async fn fetches_from(cluster: &Cluster, wanted: i32) {
    within(async {
        while !fetched_from(&cluster.take_seen()).contains(&wanted) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_replica_in_the_same_rack_is_read_from() {
    let cluster = two_racks().await;
    let mut consumer = assigned(builder(&cluster).client_rack("west")).await;
    assert_eq!(take(&mut consumer, 3).await, ["0", "1", "2"]);
    let seen = cluster.take_seen();
    assert_eq!(fetched_from(&seen), [LEADER, FOLLOWER], "the leader says where to go");
    let has_rack = |seen: &Seen| !matches!(seen, Seen::Fetch { rack, .. } if rack != "west");
    assert!(seen.iter().all(has_rack), "{seen:?}");
    append(&cluster, FOLLOWER, "3");
    assert_eq!(take(&mut consumer, 1).await, ["3"]);
    assert_eq!(fetched_from(&cluster.take_seen()), [FOLLOWER], "and stays there");
    // What follows from a seek or a lookup goes to the leader: only it knows.
    within(consumer.end_offsets([place()])).await.unwrap();
    assert!(cluster.take_seen().contains(&Seen::ListOffsets { broker: LEADER }));
}

#[tokio::test]
async fn without_a_rack_the_leader_is_read_from() {
    let cluster = two_racks().await;
    let mut consumer = assigned(builder(&cluster)).await;
    assert_eq!(take(&mut consumer, 3).await, ["0", "1", "2"]);
    assert_eq!(fetched_from(&cluster.take_seen()), [LEADER]);
}

/// The leader serves from here on, as when no replica is in sync any more.
fn leader_serves(cluster: &Cluster) {
    let mut script = cluster.script();
    script.racks.remove(&FOLLOWER);
    script.logs.get_mut(&LEADER).unwrap().append(&["3"], 0);
}

#[tokio::test]
async fn a_replica_that_fails_is_left_for_the_leader_and_nothing_is_lost_or_read_twice() {
    let codes = [
        ErrorCode::NotLeaderOrFollower,
        ErrorCode::ReplicaNotAvailable,
        ErrorCode::OffsetOutOfRange,
        ErrorCode::OffsetNotAvailable,
        ErrorCode::KafkaStorageError,
        ErrorCode::UnknownLeaderEpoch,
        ErrorCode::UnknownTopicOrPartition,
    ];
    for code in codes {
        let cluster = two_racks().await;
        let mut consumer = assigned(builder(&cluster).client_rack("west")).await;
        assert_eq!(take(&mut consumer, 3).await, ["0", "1", "2"]);
        leader_serves(&cluster);
        cluster.script().failing.insert(FOLLOWER, code);
        assert_eq!(take(&mut consumer, 1).await, ["3"], "{}", code.name());
        assert_eq!(within(consumer.position(&place())).await.unwrap(), 3);
        let resets = |seen: &Seen| matches!(seen, Seen::ListOffsets { .. });
        // The first position was found by one.
        let seen = cluster.take_seen();
        assert_eq!(seen.iter().filter(|seen| resets(seen)).count(), 1, "{}: {seen:?}", code.name());
    }
}

#[tokio::test]
async fn a_replica_that_hangs_up_is_left_for_the_leader() {
    let cluster = two_racks().await;
    let mut consumer = assigned(builder(&cluster).client_rack("west")).await;
    assert_eq!(take(&mut consumer, 3).await, ["0", "1", "2"]);
    leader_serves(&cluster);
    cluster.script().hanging_up.insert(FOLLOWER);
    assert_eq!(take(&mut consumer, 1).await, ["3"]);
}

#[tokio::test]
async fn the_leader_is_asked_again_when_the_metadata_is_old() {
    let cluster = two_racks().await;
    let builder = builder(&cluster).client_rack("west").property("metadata.max.age.ms", "100");
    let mut consumer = assigned(builder).await;
    assert_eq!(take(&mut consumer, 3).await, ["0", "1", "2"]);
    for _ in 0..2 {
        fetches_from(&cluster, LEADER).await;
        fetches_from(&cluster, FOLLOWER).await;
    }
    leader_serves(&cluster);
    assert_eq!(take(&mut consumer, 1).await, ["3"], "the follower has none");
}

#[tokio::test]
async fn a_replica_that_lags_has_nothing_yet_and_the_position_stays() {
    let cluster = two_racks().await;
    cluster.script().logs.get_mut(&FOLLOWER).unwrap().high_watermark = Some(1);
    let mut consumer = assigned(builder(&cluster).client_rack("west")).await;
    assert_eq!(take(&mut consumer, 1).await, ["0"]);
    crate::assert_quiet(&mut consumer).await;
    cluster.script().logs.get_mut(&FOLLOWER).unwrap().high_watermark = None;
    assert_eq!(take(&mut consumer, 2).await, ["1", "2"]);
}
