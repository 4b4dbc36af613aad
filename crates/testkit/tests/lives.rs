//! Starting, crashing, restarting and ending a broker, and what it keeps.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use kavka_protocol::ErrorCode;
use kavka_testkit::{
    Error, GroupCondition, Storage, TestBroker,
    raw::{
        self, RawClient, batch,
        groups::{commit, commit_request, join, stable_group},
    },
};

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(20);

#[tokio::test]
async fn a_broker_serves_its_topics_as_soon_as_it_is_started() {
    let broker = TestBroker::builder().topic("orders", 3).topic("bills", 1).start().await;
    assert_eq!(broker.end_offsets("orders").unwrap(), [0, 0, 0]);
    let mut client = RawClient::connect(broker.addr()).await;
    let topic_id = client.topic_id("orders").await;
    assert_eq!(client.produce(topic_id, 1, batch(&["a", "b"])).await.error_code, ErrorCode::None);
    assert_eq!(broker.wait_for_records("orders", 2, LONG).await.unwrap(), [0, 2, 0]);
    assert_eq!(client.fetch_values(topic_id, 1, 0).await, ["a", "b"]);
}

#[tokio::test]
async fn brokers_side_by_side_know_nothing_of_each_other() {
    let start = |number: usize| async move {
        let broker = TestBroker::builder().topic("orders", 1).start().await;
        broker.produce("orders", 0, vec!["x"; number]).await.unwrap();
        broker
    };
    let starting: Vec<_> = (1..=16).map(|number| tokio::spawn(start(number))).collect();
    let mut brokers = Vec::new();
    for broker in starting {
        brokers.push(broker.await.unwrap());
    }
    for (broker, number) in brokers.iter().zip(1..) {
        assert_eq!(broker.end_offsets("orders").unwrap(), [number]);
    }
    let mut ports: Vec<_> = brokers.iter().map(|broker| broker.addr().port()).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 16);
}

#[tokio::test]
async fn a_topic_created_later_has_its_configs() {
    let broker = TestBroker::start().await;
    let configs = [("cleanup.policy", "compact")];
    let id = broker.create_topic_with("state", 2, &configs).await.unwrap();
    assert_eq!(RawClient::connect(broker.addr()).await.topic_id("state").await, id);
    let again = broker.create_topic("state", 2).await.unwrap_err();
    assert!(again.to_string().contains("state"), "{again}");
    let wrong = broker.create_topic_with("x", 1, &[("cleanup.policy", "burn")]).await.unwrap_err();
    assert!(wrong.to_string().contains("cleanup.policy"), "{wrong}");
}

#[tokio::test]
async fn a_topic_that_was_not_made_is_not_made_by_asking() {
    let broker = TestBroker::start().await;
    RawClient::connect(broker.addr()).await.topic_id("misspelt").await;
    let missing = broker.end_offsets("misspelt").unwrap_err();
    assert_eq!(missing.to_string(), "topic misspelt does not exist");

    let broker = TestBroker::builder().auto_create_topics(true).start().await;
    RawClient::connect(broker.addr()).await.topic_id("wanted").await;
    assert_eq!(broker.end_offsets("wanted").unwrap(), [0]);
}

#[tokio::test]
async fn properties_go_by_their_kafka_names() {
    let broker = TestBroker::builder().property("group.max.size", 1).start().await;
    let mut client = RawClient::connect(broker.addr()).await;
    stable_group(&mut client, "g").await;
    let mut second = RawClient::connect(broker.addr()).await;
    second.find_coordinator("g").await;
    let refused = second.call(join("g", &"".into())).await;
    assert_eq!(refused.error_code, ErrorCode::GroupMaxSizeReached);

    let unknown = TestBroker::builder().property("group.max.sise", 1).try_start().await;
    assert!(unknown.unwrap_err().to_string().contains("group.max.size"));
    let reserved = TestBroker::builder().property("log.dirs", "/tmp/x").try_start().await;
    assert!(matches!(reserved.unwrap_err(), Error::Reserved { .. }));
}

#[tokio::test]
async fn a_group_is_waited_for_and_told_if_it_does_not_come() {
    let broker = TestBroker::builder().topic("orders", 1).start().await;
    let stable = GroupCondition::stable().with_members(1);
    let absent = broker.wait_for_group("g", stable, SHORT).await.unwrap_err();
    assert_eq!(
        absent.to_string(),
        "group g was not Stable with 1 member within 20ms: it is not there"
    );

    let (mut first, mut second) =
        (RawClient::connect(broker.addr()).await, RawClient::connect(broker.addr()).await);
    let member = stable_group(&mut first, "g").await;
    let group = broker.wait_for_group("g", stable, LONG).await.unwrap();
    assert_eq!(group.members[0].id, *member.member_id);
    assert_eq!(group.members[0].client_id, "raw");

    // The second joins, and nobody answers for the first: the group waits for it.
    second.find_coordinator("g").await;
    let required = second.call(join("g", &"".into())).await;
    second.send(&join("g", &required.member_id), 9).await;
    let rebalancing = GroupCondition::members(2);
    broker.wait_for_group("g", rebalancing, LONG).await.unwrap();
    let both = GroupCondition::stable().with_members(2);
    let error = broker.wait_for_group("g", both, SHORT).await.unwrap_err().to_string();
    assert!(error.contains("it is PreparingRebalance with 2 members: "), "{error}");
}

async fn what_was_acknowledged_survives(storage: Storage) {
    let broker = TestBroker::builder().storage(storage).topic("orders", 2).start().await;
    let address = broker.addr();
    let mut client = RawClient::connect(address).await;
    let topic_id = client.topic_id("orders").await;
    client.produce(topic_id, 1, batch(&["a", "b", "c"])).await;
    let member = stable_group(&mut client, "g").await;
    assert_eq!(commit(&mut client, "g", Some(&member), topic_id, 2).await, ErrorCode::None);

    for life in 0..4 {
        match life {
            0 | 1 => broker.crash().await,
            2 if storage == Storage::Memory => broker.power_loss().await.unwrap(),
            _ => broker.stop().await.unwrap(),
        }
        assert!(!broker.is_running());
        assert!(matches!(broker.end_offsets("orders"), Err(Error::Down)));
        assert!(matches!(broker.committed("g").await, Err(Error::Down)));
        assert!(client.receive_frame().await.is_none(), "connections end with the broker");
        let refused = tokio::net::TcpStream::connect(address).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

        broker.restart().await.unwrap();
        assert_eq!(broker.addr(), address);
        assert_eq!(broker.end_offsets("orders").unwrap(), [0, 3]);
        let stable = GroupCondition::stable().with_members(1);
        broker.wait_for_group("g", stable, LONG).await.unwrap();
        let committed = broker.committed("g").await.unwrap();
        assert_eq!(committed, [(("orders".to_owned(), 0), 2)].into());
        client = RawClient::connect(address).await;
        assert_eq!(client.fetch_values(topic_id, 1, 0).await, ["a", "b", "c"]);
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash_in_memory() {
    what_was_acknowledged_survives(Storage::Memory).await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash_on_disk() {
    what_was_acknowledged_survives(Storage::Disk).await;
}

#[tokio::test]
async fn what_was_not_synced_is_lost_with_the_power() {
    let relaxed = TestBroker::builder()
        .property("kavka.sync.policy", "interval")
        .property("kavka.sync.interval.ms", 3_600_000);
    let broker = relaxed.topic("orders", 1).start().await;
    let mut client = RawClient::connect(broker.addr()).await;
    let topic_id = client.topic_id("orders").await;
    assert_eq!(client.produce(topic_id, 0, batch(&["a", "b"])).await.error_code, ErrorCode::None);

    // A process that dies loses nothing that was written.
    broker.crash().await;
    broker.restart().await.unwrap();
    assert_eq!(broker.end_offsets("orders").unwrap(), [2]);

    let mut client = RawClient::connect(broker.addr()).await;
    assert_eq!(client.produce(topic_id, 0, batch(&["c"])).await.error_code, ErrorCode::None);
    assert_eq!(broker.end_offsets("orders").unwrap(), [3]);
    broker.power_loss().await.unwrap();
    broker.restart().await.unwrap();
    // The restart after the crash synced what it found.
    assert_eq!(broker.end_offsets("orders").unwrap(), [2]);
}

/// Appends numbers, one after the other, until the broker is gone. How many were acknowledged.
async fn produce_until_it_ends(address: std::net::SocketAddr, from: u64) -> u64 {
    let mut client = RawClient::connect(address).await;
    let topic_id = client.topic_id("numbers").await;
    let mut next = from;
    loop {
        let request = raw::produce_request(topic_id, 0, batch(&[&next.to_string()]));
        let Some(answer) = client.try_call(request).await else { return next };
        let partition = &answer.responses[0].partition_responses[0];
        // An append that the end of the disk came before.
        if partition.error_code != ErrorCode::None {
            return next;
        }
        next += 1;
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_however_a_busy_broker_ends() {
    let broker = TestBroker::builder().topic("numbers", 1).start().await;
    for round in 0..12 {
        let start = broker.end_offsets("numbers").unwrap()[0].unsigned_abs();
        let producing = tokio::spawn(produce_until_it_ends(broker.addr(), start));
        broker.wait_for_records("numbers", start + 1, LONG).await.unwrap();
        tokio::time::sleep(Duration::from_millis(round)).await;
        match round % 3 {
            0 => broker.crash().await,
            1 => broker.power_loss().await.unwrap(),
            _ => broker.stop().await.unwrap(),
        }
        let end = producing.await.unwrap();
        broker.restart().await.unwrap();
        let found = broker.end_offsets("numbers").unwrap()[0].unsigned_abs();
        // One more may be there: written, and its answer not sent.
        assert!((end..=end + 1).contains(&found), "{end} acknowledged, {found} there");
    }
    let mut client = RawClient::connect(broker.addr()).await;
    let topic_id = client.topic_id("numbers").await;
    let kept = client.fetch_values(topic_id, 0, 0).await;
    assert_eq!(broker.end_offsets("numbers").unwrap(), [kept.len() as i64]);
    for (offset, value) in kept.iter().enumerate() {
        assert_eq!(*value, offset.to_string(), "what is there is what was sent, in order");
    }
}

/// Commits one offset after the other until the broker is gone. The last one that was acknowledged.
async fn commit_until_it_ends(address: std::net::SocketAddr, group: String, from: i64) -> i64 {
    let mut client = RawClient::connect(address).await;
    client.find_coordinator(&group).await;
    let topic_id = client.topic_id("numbers").await;
    let mut last = from;
    loop {
        let request = commit_request(&group, None, topic_id, last + 1);
        let Some(answer) = client.try_call(request).await else { return last };
        match answer.topics[0].partitions[0].error_code {
            ErrorCode::None => last += 1,
            // The life has just begun.
            ErrorCode::CoordinatorLoadInProgress => {}
            _ => return last,
        }
    }
}

#[tokio::test]
async fn no_acknowledged_commit_is_lost_however_a_busy_broker_ends() {
    let broker = TestBroker::builder().topic("numbers", 1).start().await;
    broker.produce("numbers", 0, ["x"]).await.unwrap();
    // Groups of several shards, which commit at the same time.
    let groups: Vec<_> = (0..6).map(|number| format!("group-{number}")).collect();
    let mut last = vec![0; groups.len()];
    for round in 0..12 {
        let commit = |(group, last): (&String, &i64)| {
            tokio::spawn(commit_until_it_ends(broker.addr(), group.clone(), *last))
        };
        let committing: Vec<_> = groups.iter().zip(&last).map(commit).collect();
        for (group, last) in groups.iter().zip(&last) {
            broker.wait_for_committed(group, "numbers", 0, last + 1, LONG).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(round)).await;
        match round % 3 {
            0 => broker.crash().await,
            1 => broker.power_loss().await.unwrap(),
            _ => broker.stop().await.unwrap(),
        }
        broker.restart().await.unwrap();
        for ((group, last), committing) in groups.iter().zip(&mut last).zip(committing) {
            let acknowledged = committing.await.unwrap();
            let found = broker.committed(group).await.unwrap()[&("numbers".to_owned(), 0)];
            // One more may be there: written, and its answer not sent.
            let possible = acknowledged..=acknowledged + 1;
            assert!(
                possible.contains(&found),
                "{group}: {acknowledged} acknowledged, {found} there"
            );
            *last = found;
        }
    }
}

#[tokio::test]
async fn the_power_of_a_real_disk_is_not_cut() {
    let broker = TestBroker::builder().storage(Storage::Disk).start().await;
    assert!(matches!(broker.power_loss().await, Err(Error::NoPowerLoss)));
    assert!(broker.is_running());
}

#[tokio::test]
async fn a_broker_that_runs_is_restarted_cleanly() {
    let broker = TestBroker::builder().topic("orders", 1).start().await;
    broker.restart().await.unwrap();
    assert_eq!(broker.end_offsets("orders").unwrap(), [0]);
}

#[test]
fn a_broker_works_without_the_tests_runtime() {
    // No timer, no I/O driver, and a thread that is blocked while the broker works.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let broker = TestBroker::builder().topic("orders", 1).start().await;
        let error = broker.wait_for_records("orders", 1, SHORT).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "orders did not have 1 records within 20ms: it has 0, its partitions end at [0]"
        );
        broker.crash().await;
        broker.restart().await.unwrap();
    });
}

#[tokio::test]
async fn a_dropped_broker_ends_quickly_and_leaves_nothing() {
    let broker = TestBroker::builder().storage(Storage::Disk).topic("orders", 1).start().await;
    let mut client = RawClient::connect(broker.addr()).await;
    let topic_id = client.topic_id("orders").await;
    client.produce(topic_id, 0, batch(&["a"])).await;
    let dir = broker.data_dir().unwrap().to_owned();
    assert!(dir.is_dir());
    let start = Instant::now();
    drop(broker);
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(!dir.exists());
    assert!(client.receive_frame().await.is_none());
}
