//! Leaders that change, and logs that are cut (KIP-320): a position is compared with the log before reading goes on.

use kavka_client::{
    Consumer, ErrorKind, Truncation,
    consumer::{OffsetReset, SeekTo},
};

use crate::{
    PATIENCE, assert_quiet, assigned, builder,
    cluster::{Cluster, Script, Seen},
    log::Log,
    place, take, within,
};

/// Broker 0 leads in epoch 5; its log has six records, and the other replica the first four.
async fn cluster() -> Cluster {
    let mut log = Log::of(&["0", "1", "2"], 4);
    ["3", "4", "5"].iter().for_each(|value| log.append(&[value], 5));
    let mut behind = log.clone();
    behind.truncate(4);
    let logs = [(0, log), (1, behind)].into();
    Cluster::start(Script { logs, leader_epoch: 5, ..Default::default() }).await
}

/// Broker 1 leads from here on.
fn fail_over(cluster: &Cluster) {
    let mut script = cluster.script();
    script.leader = 1;
    script.leader_epoch = 6;
    script.seen.clear();
}

async fn consumer(cluster: &Cluster, reset: OffsetReset) -> Consumer {
    let mut consumer = assigned(builder(cluster).auto_offset_reset(reset)).await;
    if reset != OffsetReset::Earliest {
        within(consumer.seek(&place(), SeekTo::Beginning)).await.unwrap();
    }
    assert_eq!(take(&mut consumer, 6).await, ["0", "1", "2", "3", "4", "5"]);
    // The last one is consumed when more is asked for.
    assert_quiet(&mut consumer).await;
    consumer
}

fn append(cluster: &Cluster, broker: i32, values: &[&str], epoch: i32) {
    let mut script = cluster.script();
    let log = script.logs.get_mut(&broker).unwrap();
    values.iter().for_each(|value| log.append(&[value], epoch));
}

#[tokio::test]
async fn a_new_leader_is_asked_whether_its_log_is_the_one_that_was_read() {
    let cluster = cluster().await;
    append(&cluster, 1, &["4", "5", "6"], 5);
    let mut consumer = consumer(&cluster, OffsetReset::Earliest).await;
    fail_over(&cluster);
    assert_eq!(take(&mut consumer, 1).await, ["6"], "nothing twice");
    let seen = cluster.take_seen();
    let asked = Seen::EndOfEpoch { broker: 1, epoch: 5, current: 6 };
    let at = seen.iter().position(|seen| *seen == asked).expect("asked");
    let fetched = |seen: &Seen| matches!(seen, Seen::Fetch { broker: 1, .. });
    let first = seen.iter().position(fetched).expect("fetched");
    assert!(at < first, "not before: {seen:?}");
    assert_eq!(seen.iter().filter(|seen| **seen == asked).count(), 1, "once for each leader");
}

#[tokio::test]
async fn after_a_truncation_reading_goes_on_where_the_log_agrees() {
    for reset in [OffsetReset::Earliest, OffsetReset::Latest] {
        let cluster = cluster().await;
        let mut consumer = consumer(&cluster, reset).await;
        fail_over(&cluster);
        append(&cluster, 1, &["new 4", "new 5", "new 6"], 6);
        assert_eq!(take(&mut consumer, 3).await, ["new 4", "new 5", "new 6"]);
        let by_policy = |seen: &Seen| matches!(seen, Seen::ListOffsets { .. });
        assert!(!cluster.take_seen().iter().any(by_policy), "no reset to an end of the log");
    }
}

#[tokio::test]
async fn without_a_policy_a_truncation_is_an_error_that_names_where_the_log_agrees() {
    let cluster = cluster().await;
    let mut consumer = consumer(&cluster, OffsetReset::None).await;
    fail_over(&cluster);
    append(&cluster, 1, &["new 4"], 6);
    let error = within(consumer.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LogTruncated, "{error}");
    assert!(error.to_string().contains("below offset 4"), "{error}");
    let truncation = Truncation { partition: place(), position: 6, agrees_below: Some(4) };
    assert_eq!(error.truncation(), Some(&truncation));
    assert_quiet(&mut consumer).await;
    within(consumer.seek(&place(), SeekTo::Offset(4))).await.unwrap();
    assert_eq!(take(&mut consumer, 1).await, ["new 4"]);
}

#[tokio::test]
async fn a_log_with_nothing_in_common_is_read_as_the_policy_says() {
    let other = |cluster: &Cluster| {
        cluster.script().logs.insert(1, Log::of(&["other 0", "other 1"], 6));
        fail_over(cluster);
    };
    let cluster = cluster().await;
    let mut consumer = consumer(&cluster, OffsetReset::Earliest).await;
    other(&cluster);
    assert_eq!(take(&mut consumer, 2).await, ["other 0", "other 1"]);

    let cluster = self::cluster().await;
    let mut consumer = self::consumer(&cluster, OffsetReset::None).await;
    other(&cluster);
    let error = within(consumer.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LogTruncated, "{error}");
    assert_eq!(error.truncation().unwrap().agrees_below, None);
}

/// As after a power loss: the same leader, the same epoch, fewer records.
#[tokio::test]
async fn a_log_that_is_cut_under_the_same_leader_is_noticed_by_the_offset_out_of_range() {
    let cluster = cluster().await;
    let mut consumer = consumer(&cluster, OffsetReset::Latest).await;
    cluster.script().logs.get_mut(&0).unwrap().truncate(4);
    tokio::time::timeout(PATIENCE, async {
        while consumer.position(&place()).await.unwrap() != 4 {
            assert_quiet(&mut consumer).await;
        }
    })
    .await
    .expect("the position goes back");
    append(&cluster, 0, &["new 4", "new 5"], 5);
    assert_eq!(take(&mut consumer, 2).await, ["new 4", "new 5"], "nothing is passed over");
}

#[tokio::test]
async fn a_fetch_that_is_told_of_diverging_logs_has_the_position_compared() {
    let cluster = cluster().await;
    let mut consumer = consumer(&cluster, OffsetReset::None).await;
    {
        let mut script = cluster.script();
        let log = script.logs.get_mut(&0).unwrap();
        log.truncate(4);
        ["new 4", "new 5", "new 6"].iter().for_each(|value| log.append(&[value], 6));
        script.says_diverging = true;
    }
    let error = within(consumer.next()).await.unwrap().unwrap_err();
    assert_eq!(error.truncation().unwrap().agrees_below, Some(4), "{error}");
}

#[tokio::test]
async fn metadata_that_is_behind_costs_time_only() {
    let cluster = cluster().await;
    append(&cluster, 1, &["4", "5", "6"], 5);
    let mut consumer = consumer(&cluster, OffsetReset::Earliest).await;
    cluster.script().stale_metadata = Some((0, 5));
    fail_over(&cluster);
    // Broker 0 still leads, as far as metadata knows, but in an epoch that is over.
    assert_quiet(&mut consumer).await;
    cluster.script().stale_metadata = None;
    assert_eq!(take(&mut consumer, 1).await, ["6"]);
}

#[tokio::test]
async fn brokers_without_epochs_in_fetches_are_read_from_all_the_same() {
    let script = |newest_fetch| Script {
        logs: [(0, Log::of(&["0", "1"], 0))].into(),
        newest_fetch: Some(newest_fetch),
        ..Default::default()
    };
    // 4 is what Kafka 0.11 has, 7 the first with sessions, 9 with epochs, 12 compact, 13 with topic ids.
    for newest_fetch in [4, 6, 7, 8, 9, 11, 12, 13] {
        let cluster = Cluster::start(script(newest_fetch)).await;
        let mut consumer = assigned(builder(&cluster)).await;
        assert_eq!(take(&mut consumer, 2).await, ["0", "1"], "version {newest_fetch}");
    }
}
