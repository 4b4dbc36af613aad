//! What a broker or a network does wrong costs time, and neither records nor order.

use std::{collections::BTreeMap, future::poll_fn, pin::pin, task::Poll, time::Duration};

use kavka_client::{
    Consumer, ErrorKind,
    consumer::{CloseOptions, Offsets},
};
use kavka_testkit::{ApiKey, ErrorCode, GroupCondition};

use crate::context::*;

/// Everything is read once and in order, though the first answers are errors.
async fn read_through(faults: impl Fn(&Context)) {
    let context = Context::new(2).await;
    for partition in 0..2 {
        context.produce(partition, &numbered(partition, 0, 30), 4).await;
    }
    faults(&context);
    let mut consumer = context.subscribed().await;
    let values = take(&mut consumer, 60).await;
    for partition in 0..2 {
        let prefix = format!("p{partition}-");
        let of: Vec<String> = values.iter().filter(|v| v.starts_with(&prefix)).cloned().collect();
        assert_eq!(of, numbered(partition, 0, 30));
    }
    within(consumer.commit()).await.unwrap();
    assert_eq!(committed(&context).await, [(0, 30), (1, 30)].into());
    closed(consumer).await.unwrap();
}

#[tokio::test]
async fn errors_of_the_coordinator_pass() {
    let faults = [
        (ApiKey::FindCoordinator, ErrorCode::CoordinatorNotAvailable),
        (ApiKey::JoinGroup, ErrorCode::CoordinatorLoadInProgress),
        (ApiKey::JoinGroup, ErrorCode::NotCoordinator),
        (ApiKey::JoinGroup, ErrorCode::UnknownMemberId),
        (ApiKey::SyncGroup, ErrorCode::RebalanceInProgress),
        (ApiKey::SyncGroup, ErrorCode::IllegalGeneration),
        (ApiKey::OffsetFetch, ErrorCode::CoordinatorLoadInProgress),
        (ApiKey::OffsetFetch, ErrorCode::NotCoordinator),
        (ApiKey::OffsetCommit, ErrorCode::CoordinatorLoadInProgress),
        (ApiKey::OffsetCommit, ErrorCode::NotCoordinator),
        (ApiKey::OffsetCommit, ErrorCode::RebalanceInProgress),
        (ApiKey::Heartbeat, ErrorCode::NotCoordinator),
    ];
    for (api, code) in faults {
        println!("{api}: {}", code.name());
        read_through(|context| {
            // Once more, and the partitions would be revoked before the commit could be done.
            let times = if code == ErrorCode::RebalanceInProgress { 1 } else { 2 };
            context.broker.on(api).first(times).fail(code);
        })
        .await;
    }
}

#[tokio::test]
async fn errors_of_leaders_pass() {
    let faults = [
        (ApiKey::Metadata, ErrorCode::LeaderNotAvailable),
        (ApiKey::ListOffsets, ErrorCode::NotLeaderOrFollower),
        (ApiKey::ListOffsets, ErrorCode::FencedLeaderEpoch),
        (ApiKey::Fetch, ErrorCode::NotLeaderOrFollower),
        (ApiKey::Fetch, ErrorCode::UnknownTopicOrPartition),
        (ApiKey::Fetch, ErrorCode::OffsetNotAvailable),
        (ApiKey::Fetch, ErrorCode::FetchSessionIdNotFound),
        (ApiKey::Fetch, ErrorCode::InvalidFetchSessionEpoch),
    ];
    for (api, code) in faults {
        println!("{api}: {}", code.name());
        read_through(|context| {
            context.broker.on(api).first(2).fail(code);
        })
        .await;
    }
}

#[tokio::test]
async fn lost_answers_and_closed_connections_pass() {
    let apis = [
        ApiKey::FindCoordinator,
        ApiKey::JoinGroup,
        ApiKey::SyncGroup,
        ApiKey::OffsetFetch,
        ApiKey::OffsetCommit,
        ApiKey::ListOffsets,
        ApiKey::Fetch,
        ApiKey::Metadata,
    ];
    for api in apis {
        println!("{api}");
        read_through(|context| {
            context.broker.on(api).nth(1).close();
            context.broker.on(api).nth(2).close_unanswered();
        })
        .await;
    }
}

#[tokio::test]
async fn a_member_that_was_removed_comes_back_and_repeats_only_what_was_not_committed() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 30), 30).await;
    let mut consumer = context.subscribed().await;
    take(&mut consumer, 10).await;
    within(consumer.commit()).await.unwrap();
    take(&mut consumer, 3).await;
    context.broker.on(ApiKey::Heartbeat).first(1).fail(ErrorCode::UnknownMemberId);
    let values = take_all(&mut consumer, &numbered(0, 13, 30)).await;
    let again: Vec<String> =
        values.iter().filter(|v| numbered(0, 0, 10).contains(v)).cloned().collect();
    assert!(again.is_empty(), "{again:?}");
}

/// An answer that nobody foresaw costs the commit, and not the consumer.
#[tokio::test]
async fn a_commit_that_is_refused_for_an_unforeseen_reason_fails_alone() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 10), 5).await;
    let mut consumer = context.subscribed().await;
    take(&mut consumer, 5).await;
    context.broker.on(ApiKey::OffsetCommit).first(2).fail(ErrorCode::UnknownServerError);
    for commit in [consumer.commit_async(), consumer.handle().commit_async()] {
        let error = within(commit).await.unwrap_err();
        let error = &error.failed()[&tp(0)];
        assert_eq!(error.code(), Some(ErrorCode::UnknownServerError), "{error}");
        assert!(!error.is_fatal());
    }
    assert_eq!(take(&mut consumer, 5).await, numbered(0, 5, 10));
    assert_eq!(within(consumer.commit()).await.unwrap(), [(tp(0), 10)].into());
    closed(consumer).await.unwrap();
    assert_eq!(committed(&context).await, [(0, 10)].into());
}

#[tokio::test]
async fn an_automatic_commit_that_is_refused_shows_and_is_made_up_for() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 5), 5).await;
    let interval = Duration::from_millis(100);
    let mut consumer = context.builder().auto_commit_interval(interval).build().unwrap();
    let rule = context.broker.on(ApiKey::OffsetCommit).first(1).fail(ErrorCode::InvalidRequest);
    consumer.subscribe([TOPIC]).await.unwrap();
    take(&mut consumer, 5).await;
    context.broker.wait_for_hits(&rule, 1, PATIENCE).await.unwrap();
    within(async {
        while committed(&context).await != [(0, 4)].into() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let metrics = consumer.metrics().await.unwrap();
    let told = metrics.last_error.expect("the failure of the commit");
    assert_eq!(told.error.code(), Some(ErrorCode::InvalidRequest), "{told:?}");
    assert_quiet(&mut consumer, Duration::from_millis(20)).await;
}

/// It is no member, and there is no generation that it could wait for.
#[tokio::test]
async fn who_assigns_itself_beside_members_of_its_group_is_refused_the_commit_at_once() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 3), 5).await;
    let mut member = context.subscribed().await;
    take(&mut member, 3).await;
    let mut other = context.builder().enable_auto_commit(false).build().unwrap();
    other.assign([tp(0)]).await.unwrap();
    assert_eq!(take(&mut other, 3).await, numbered(0, 0, 3));
    let commit = tokio::time::timeout(Duration::from_secs(5), other.commit()).await;
    let error = commit.expect("at once").unwrap_err();
    let error = &error.failed()[&tp(0)];
    assert_eq!(error.code(), Some(ErrorCode::UnknownMemberId), "{error}");
    assert!(error.advice().contains("another group.id"), "{}", error.advice());
    within(member.commit()).await.unwrap();
}

#[tokio::test]
async fn a_commit_is_waited_for_no_longer_than_the_api_timeout_though_the_broker_is_gone() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 3), 5).await;
    let builder = context.builder().property("default.api.timeout.ms", "1000");
    let mut consumer = builder.property("request.timeout.ms", "900").build().unwrap();
    consumer.subscribe([TOPIC]).await.unwrap();
    take(&mut consumer, 3).await;
    context.broker.crash().await;
    let begun = std::time::Instant::now();
    let error = within(consumer.commit()).await.unwrap_err();
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(3), "{took:?}");
    assert_eq!(error.error().kind(), ErrorKind::TimedOut, "{error}");
    context.broker.restart().await.unwrap();
    assert_eq!(within(consumer.commit()).await.unwrap(), [(tp(0), 3)].into());
}

#[tokio::test]
async fn commits_that_are_not_waited_for_are_done_before_a_close_is_over() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 8), 4).await;
    let mut consumer = context.builder().enable_auto_commit(false).build().unwrap();
    consumer.subscribe([TOPIC]).await.unwrap();
    context.broker.on(ApiKey::OffsetCommit).delay(Duration::from_millis(40));
    let mut pending = Vec::new();
    for _ in 0..8 {
        take(&mut consumer, 1).await;
        let next_offset = i64::try_from(pending.len()).unwrap() + 1;
        let offsets = Offsets::new().with(tp(0), next_offset);
        pending.push(consumer.commit_offsets_async(offsets));
    }
    closed(consumer).await.unwrap();
    for (number, commit) in (1..).zip(pending) {
        let outcome = tokio::time::timeout(Duration::ZERO, commit).await;
        assert_eq!(outcome.expect("over before the close was").unwrap(), [(tp(0), number)].into());
    }
    assert_eq!(committed(&context).await, [(0, 8)].into());
}

#[tokio::test]
async fn a_close_takes_no_longer_than_it_may_though_the_broker_is_gone() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 8), 4).await;
    let mut consumer = context.subscribed().await;
    let handle = consumer.handle();
    take(&mut consumer, 4).await;
    context.broker.crash().await;
    let commit = handle.commit_async();
    let begun = std::time::Instant::now();
    let options = CloseOptions::default().timeout(Duration::from_millis(600));
    let error = within(consumer.close_with(options)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(within(commit).await.is_err());
}

#[tokio::test]
async fn an_instance_that_is_fenced_says_so_and_ends() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 3), 30).await;
    let make = async || {
        let consumer = context.builder().group_instance_id("i").build().unwrap();
        consumer.subscribe([TOPIC]).await.unwrap();
        consumer
    };
    let mut first = make().await;
    take(&mut first, 3).await;
    let _second = make().await;
    let error = within(first.next()).await.unwrap().unwrap_err();
    assert!(error.is_fatal(), "{error}");
    assert!(within(first.next()).await.is_none(), "an error is told once");
    let commit = within(first.commit_offsets(Offsets::new().with(tp(0), 1))).await;
    assert!(commit.is_err());
}

#[tokio::test]
async fn a_consumer_that_is_not_asked_for_records_loses_its_partitions_and_comes_back() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 10), 30).await;
    let builder = context.builder().max_poll_interval(Duration::from_millis(600));
    let mut consumer = builder.build().unwrap();
    consumer.subscribe([TOPIC]).await.unwrap();
    take(&mut consumer, 3).await;
    within(consumer.commit()).await.unwrap();
    let empty = GroupCondition::empty();
    context.broker.wait_for_group(GROUP, empty, PATIENCE).await.unwrap();
    assert_eq!(take(&mut consumer, 7).await, numbered(0, 3, 10));
    // Waiting for records is asking for them.
    assert_quiet(&mut consumer, Duration::from_millis(1500)).await;
    assert_eq!(context.broker.group(GROUP).await.unwrap().members.len(), 1);
}

/// Pseudorandom numbers from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Polls a future so many times, as it is woken, then drops it.
async fn dropped_after<F: Future>(polls: u64, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    let limited = poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(cx).map(Some)
    });
    // Some are never woken again.
    tokio::time::timeout(Duration::from_millis(20), limited).await.ok().flatten()
}

async fn cancelled_at_random(seed: u64) {
    let context = Context::new(2).await;
    for partition in 0..2 {
        context.produce(partition, &numbered(partition, 0, 200), 7).await;
    }
    let mut random = Random(seed);
    let mut next_offsets: BTreeMap<i32, i64> = [(0, 0), (1, 0)].into();
    // Each consumer is dropped after some calls; the next one goes on where it had committed.
    for _ in 0..6 {
        let builder = context.builder().auto_commit_interval(Duration::from_millis(3));
        let mut consumer = builder.build().unwrap();
        dropped_after(1 + random.below(3), consumer.subscribe([TOPIC])).await;
        let mut begun = BTreeMap::new();
        for _ in 0..120 {
            let polls = random.below(4);
            match random.below(8) {
                0..4 => {
                    if let Some(Some(Ok(record))) = dropped_after(polls, consumer.next()).await {
                        note(&mut begun, &mut next_offsets, record.partition(), record.offset());
                    }
                }
                4 | 5 => {
                    if let Some(Some(Ok(batch))) = dropped_after(polls, consumer.next_batch()).await
                    {
                        for record in &batch {
                            let (partition, offset) = (batch.partition(), record.unwrap().offset);
                            note(&mut begun, &mut next_offsets, partition, offset);
                        }
                    }
                }
                6 => drop(dropped_after(polls, consumer.commit()).await),
                _ => tokio::time::sleep(Duration::from_micros(random.below(3000))).await,
            }
        }
        dropped_after(random.below(4), consumer.close()).await;
        let empty = GroupCondition::empty();
        context.broker.wait_for_group(GROUP, empty, PATIENCE).await.unwrap();
        for (partition, offset) in committed(&context).await {
            assert!(offset <= next_offsets[&partition], "seed {seed}: a commit past what was seen");
        }
    }
    let mut consumer = context.subscribed().await;
    let mut begun = BTreeMap::new();
    while next_offsets.values().sum::<i64>() < 400 {
        let record = next(&mut consumer).await;
        note(&mut begun, &mut next_offsets, record.partition(), record.offset());
    }
}

/// Nothing is skipped: a consumer begins at most where the last one was, and goes on one by one.
fn note(
    begun: &mut BTreeMap<i32, i64>,
    next_offsets: &mut BTreeMap<i32, i64>,
    partition: i32,
    offset: i64,
) {
    let seen = next_offsets.get_mut(&partition).unwrap();
    match begun.insert(partition, offset) {
        Some(before) => assert_eq!(offset, before + 1, "one after the other"),
        None => assert!(offset <= *seen, "{offset} after {seen}: some were skipped"),
    }
    *seen = (*seen).max(offset + 1);
}

#[tokio::test]
async fn calls_that_are_dropped_at_any_poll_lose_nothing() {
    for seed in 1..=5 {
        cancelled_at_random(seed * 0x9e37_79b9).await;
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_when_the_consumer_is_built() {
    let servers = "localhost:1";
    let build = |properties: &[(&str, &str)]| {
        let builder = Consumer::builder().bootstrap_servers(servers);
        builder.properties(properties.iter().copied()).build().unwrap_err().to_string()
    };
    assert!(build(&[("fetch.mim.bytes", "1")]).contains("did you mean fetch.min.bytes?"));
    assert!(build(&[("group.id", "")]).contains("group.id is empty"));
    assert!(build(&[("group.protocol", "consumer")]).contains("KIP-848"));
    assert!(build(&[("group.protocol", "share")]).contains("group.protocol"));
    assert!(build(&[("group.remote.assignor", "uniform")]).contains("group.protocol=consumer"));
    let refused = Consumer::builder().bootstrap_servers(servers).group_id("g");
    let refused = refused.property("group.protocol", "consumer").build().unwrap_err();
    assert_eq!(refused.kind(), kavka_client::ErrorKind::Unsupported);
    assert!(refused.advice().contains("group.protocol=classic"), "{}", refused.advice());
    let classic = Consumer::builder().bootstrap_servers(servers).group_id("g");
    assert!(classic.property("group.protocol", "classic").build().is_ok());
    assert!(build(&[("group.id", "g"), ("heartbeat.interval.ms", "45000")]).contains("heartbeat"));
}
