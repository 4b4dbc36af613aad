//! `isolation.level=read_committed` (KIP-98): what was aborted is left out, and what is not decided yet waits.

use kavka_client::{IsolationLevel, consumer::SeekTo};

use crate::{
    assert_quiet, assigned, builder,
    cluster::{Cluster, Script},
    log::Log,
    place, take, within,
};

async fn cluster(log: Log, batches_per_fetch: Option<usize>) -> Cluster {
    let logs = [(0, log)].into();
    Cluster::start(Script { logs, batches_per_fetch, ..Default::default() }).await
}

/// Transactions of two producers that are mixed with each other and with records outside of any.
fn mixed() -> Log {
    let mut log = Log::default();
    log.append_in_transaction(7, &["a0", "a1"]); // 0, 1
    log.append_in_transaction(8, &["b0"]); // 2
    log.append(&["plain0"], 0); // 3
    log.append_in_transaction(7, &["a2"]); // 4
    log.commit(7); // 5
    log.append_in_transaction(8, &["b1", "b2"]); // 6, 7
    log.append_in_transaction(7, &["c0"]); // 8
    log.abort(8, 2); // 9
    log.append(&["plain1"], 0); // 10
    log.append_in_transaction(8, &["d0"]); // 11
    log.abort(7, 8); // 12
    log.commit(8); // 13
    log
}

const COMMITTED: [&str; 6] = ["a0", "a1", "plain0", "a2", "plain1", "d0"];

#[tokio::test]
async fn aborted_transactions_and_control_records_are_left_out_however_a_fetch_cuts_the_log() {
    for batches_per_fetch in [None, Some(1), Some(2), Some(3)] {
        let cluster = cluster(mixed(), batches_per_fetch).await;
        let committed = builder(&cluster).isolation_level(IsolationLevel::ReadCommitted);
        let mut consumer = assigned(committed).await;
        assert_eq!(take(&mut consumer, 6).await, COMMITTED, "{batches_per_fetch:?}");
        assert_quiet(&mut consumer).await;
        // Asking for more said that all is consumed; what lies behind, markers, is too.
        assert_eq!(within(consumer.position(&place())).await.unwrap(), 14);
        assert_eq!(within(consumer.lag(&place())).await.unwrap(), Some(0));

        let mut consumer = assigned(builder(&cluster)).await;
        let all = ["a0", "a1", "b0", "plain0", "a2", "b1", "b2", "c0", "plain1", "d0"];
        assert_eq!(take(&mut consumer, 10).await, all, "read_uncommitted, but no markers");
        assert_quiet(&mut consumer).await;
    }
}

#[tokio::test]
async fn batches_that_are_lent_leave_out_the_same() {
    let cluster = cluster(mixed(), Some(2)).await;
    let committed = builder(&cluster).isolation_level(IsolationLevel::ReadCommitted);
    let mut consumer = assigned(committed).await;
    let mut values = Vec::new();
    while values.len() < 6 {
        let batch = within(consumer.next_batch()).await.unwrap().unwrap();
        for record in &batch {
            values.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
        }
    }
    assert_eq!(values, COMMITTED);
}

#[tokio::test]
async fn who_seeks_into_an_aborted_transaction_reads_nothing_of_its_rest() {
    let cluster = cluster(mixed(), None).await;
    let committed = builder(&cluster).isolation_level(IsolationLevel::ReadCommitted);
    let mut consumer = assigned(committed).await;
    for (offset, rest) in [(1, &COMMITTED[1..]), (6, &COMMITTED[4..]), (9, &COMMITTED[4..])] {
        within(consumer.seek(&place(), SeekTo::Offset(offset))).await.unwrap();
        assert_eq!(take(&mut consumer, rest.len()).await, rest, "from {offset}");
    }
    assert_quiet(&mut consumer).await;
}

#[tokio::test]
async fn what_is_not_decided_yet_is_not_read_and_does_not_count_as_lag() {
    let mut log = Log::of(&["before"], 0);
    log.append_in_transaction(7, &["open"]);
    log.append(&["behind"], 0);
    log.last_stable_offset = Some(1);
    let cluster = cluster(log, None).await;
    let committed = builder(&cluster).isolation_level(IsolationLevel::ReadCommitted);
    let mut consumer = assigned(committed.clone()).await;
    assert_eq!(take(&mut consumer, 1).await, ["before"]);
    assert_quiet(&mut consumer).await;
    assert_eq!(within(consumer.end_offsets([place()])).await.unwrap()[&place()], 1);
    assert_eq!(within(consumer.lag(&place())).await.unwrap(), Some(0));
    within(consumer.seek(&place(), SeekTo::End)).await.unwrap();
    assert_eq!(within(consumer.position(&place())).await.unwrap(), 1);
    // Who reads everything does not wait.
    let mut uncommitted = assigned(builder(&cluster)).await;
    assert_eq!(take(&mut uncommitted, 3).await, ["before", "open", "behind"]);
    {
        let mut script = cluster.script();
        let log = script.logs.get_mut(&0).unwrap();
        log.commit(7);
        log.last_stable_offset = None;
    }
    assert_eq!(take(&mut consumer, 2).await, ["open", "behind"]);
    assert_quiet(&mut consumer).await;
    assert_eq!(within(consumer.position(&place())).await.unwrap(), 4);
}

#[tokio::test]
async fn a_partition_of_nothing_but_aborted_records_is_read_to_its_end() {
    let mut log = Log::default();
    for transaction in 0..50 {
        let first = log.end();
        log.append_in_transaction(7, &["x", "y", "z"]);
        log.abort(7, first);
        assert_eq!(log.end(), (transaction + 1) * 4);
    }
    let cluster = cluster(log, Some(3)).await;
    let committed = builder(&cluster).isolation_level(IsolationLevel::ReadCommitted);
    let mut consumer = assigned(committed).await;
    within(async {
        while consumer.position(&place()).await.unwrap() < 200 {
            assert_quiet(&mut consumer).await;
        }
    })
    .await;
}
