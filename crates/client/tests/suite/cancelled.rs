//! Calls that are dropped at each of their awaits: nothing is lost by it, and the client goes on.
//!
//! What reading, committing and sending do when they are dropped is tested with the test kit, in `tests/consumer/faults.rs` and
//! `tests/producer_faults.rs`, at random. Here is the rest: what a handle and the admin are asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use kavka_client::{
    ErrorKind, IsolationLevel, ProducerRecord,
    admin::{
        Acl, AclFilter, Change, CommittedOffset, ConfigChange, ConfigResource, DeleteBefore,
        DescribeConfigs, GroupFilter, MemberIdentity, NewPartitions, NewTopic, OffsetSpec,
        OffsetsOfGroup, Operation, PatternType, Permission, ResourceType, ScramChange,
        ScramMechanism,
    },
    consumer::{CloseOptions, Offsets, Ordering, Record, SeekTo},
    settings::Secret,
};

use crate::context::*;

/// Polls a future so many times, each when it is woken, then drops it; its output if it was ready by then.
async fn polled<F: Future>(times: u32, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = times;
    std::future::poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Makes a call again and again, dropped after one poll more each time, until it is ready; then what it said.
macro_rules! dropped_at_each_await {
    ($call:expr) => {{
        let mut polls = 0;
        loop {
            if let Some(output) = within(polled(polls, $call)).await {
                break output;
            }
            polls += 1;
            assert!(polls < 10_000, "it waits again and again");
        }
    }};
}

#[tokio::test]
async fn calls_of_an_admin_may_be_dropped_at_each_await() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 10)).await;
    let (admin, topic, group) = (&context.admin, context.topic.as_str(), context.group.as_str());
    dropped_at_each_await!(admin.describe_cluster()).unwrap();
    dropped_at_each_await!(admin.list_topics()).unwrap();
    let another = unique("t");
    let new = || [NewTopic::new(another.as_str()).partitions(1).replication_factor(1)];
    // Those that were dropped may have made it.
    drop(dropped_at_each_await!(admin.create_topics(new(), Change::Apply)));
    let grow = || [(another.as_str(), NewPartitions::up_to(3))];
    drop(dropped_at_each_await!(admin.create_partitions(grow(), Change::Apply)));
    eventually(async || {
        let described = dropped_at_each_await!(admin.describe_topics([another.as_str()]));
        described[another.as_str()].as_ref().is_ok_and(|topic| topic.partitions.len() == 3)
    })
    .await;

    let resource = ConfigResource::Topic(topic.into());
    let set = || {
        let change = ConfigChange::Set("123456789".into());
        [(resource.clone(), BTreeMap::from([("retention.ms".into(), change)]))]
    };
    let set = dropped_at_each_await!(admin.alter_configs(set(), Change::Apply))[&resource].clone();
    let is_set = set.is_ok();
    match is_before(2, 3) {
        true => is_unsupported(set, "2.3"),
        false => set.unwrap(),
    }
    let asked = DescribeConfigs { names: ["retention.ms".into()].into(), ..Default::default() };
    eventually(async || {
        let configs = dropped_at_each_await!(admin.describe_configs([resource.clone()], &asked));
        let value = configs[&resource].clone().unwrap()["retention.ms"].value.clone();
        (value.as_deref() == Some("123456789")) == is_set
    })
    .await;

    let place = context.tp(0);
    let before = || [(place.clone(), DeleteBefore::Offset(4))];
    let deleted = dropped_at_each_await!(admin.delete_records(before()));
    assert_eq!(deleted[&place].clone().unwrap(), 4);
    let earliest = || [(place.clone(), OffsetSpec::Earliest)];
    let level = IsolationLevel::ReadUncommitted;
    let found = dropped_at_each_await!(admin.list_offsets(earliest(), level));
    assert_eq!(found[&place].clone().unwrap().unwrap().offset, 4);

    let moved = || [(place.clone(), CommittedOffset::new(7))];
    let altered = dropped_at_each_await!(admin.alter_group_offsets(group, moved()));
    altered[&place].clone().unwrap();
    let all = || [OffsetsOfGroup::all(group)];
    let offsets = dropped_at_each_await!(admin.list_group_offsets(all(), false));
    assert_eq!(offsets[group].clone().unwrap()[&place].clone().unwrap().unwrap().offset, 7);
    let listed = dropped_at_each_await!(admin.list_groups(&GroupFilter::default())).unwrap();
    assert!(listed.groups.contains_key(group));
    dropped_at_each_await!(admin.describe_groups([group]))[group].clone().unwrap();
    let nobody = || [MemberIdentity::Instance("nobody".into())];
    drop(dropped_at_each_await!(admin.remove_group_members(group, nobody(), None)));
    dropped_at_each_await!(admin.remove_all_group_members(group, None)).unwrap();
    drop(dropped_at_each_await!(admin.delete_group_offsets(group, [place.clone()])));
    let is_forgotten = context.committed_offset(0).await.is_none();
    assert_eq!(is_forgotten, !is_before(2, 4), "offsets are deleted since 2.4");
    drop(dropped_at_each_await!(admin.delete_groups([group])));
    let listed = within(admin.list_groups(&GroupFilter::default())).await.unwrap();
    assert!(!listed.groups.contains_key(group));
    let producers = dropped_at_each_await!(admin.describe_producers([place.clone()]));
    assert!(producers.contains_key(&place), "{producers:?}");
    let is_gone = async |name: &str| {
        eventually(async || {
            let listed = admin.list_topics().await.unwrap();
            listed.iter().all(|listed| *listed.name != *name)
        })
        .await;
    };
    drop(dropped_at_each_await!(admin.delete_topics([another.as_str()])));
    is_gone(&another).await;
    if is_before(3, 1) {
        // Topics have ids since 2.8, and are described by them since 3.1.
        return;
    }
    let id = within(admin.describe_topics([topic])).await[topic].clone().unwrap().id.unwrap();
    let described = dropped_at_each_await!(admin.describe_topics_by_id([id]));
    assert_eq!(*described[&id].clone().unwrap().name, *topic);
    drop(dropped_at_each_await!(admin.delete_topics_by_id([id])));
    is_gone(topic).await;
}

/// Whatever the cluster says of them (one without an authorizer has no ACLs, and some have no such API), the next call is answered.
#[tokio::test]
async fn calls_of_an_admin_about_security_and_disks_may_be_dropped_at_each_await() {
    let context = Context::new(1).await;
    let admin = &context.admin;
    let dirs = dropped_at_each_await!(admin.describe_log_dirs([])).unwrap();
    assert_eq!(dirs.len(), 1, "every broker is in it, also one that cannot say: {dirs:?}");

    let acl = || Acl {
        resource_type: ResourceType::Topic,
        resource_name: context.topic.as_str().into(),
        pattern: PatternType::Literal,
        principal: "User:nobody".into(),
        host: "*".into(),
        operation: Operation::Read,
        permission: Permission::Allow,
    };
    let filter =
        AclFilter { resource_name: Some(context.topic.as_str().into()), ..AclFilter::any() };
    let created = dropped_at_each_await!(admin.create_acls([acl()]));
    let described = dropped_at_each_await!(admin.describe_acls(&filter));
    assert_eq!(created[&acl()].is_ok(), described.is_ok(), "{created:?} {described:?}");
    drop(dropped_at_each_await!(admin.delete_acls([filter.clone()])));
    if described.is_ok() {
        eventually(async || admin.describe_acls(&filter).await.unwrap().is_empty()).await;
    }

    let user = unique("u");
    let set = || ScramChange::Set {
        mechanism: ScramMechanism::Sha256,
        password: Secret::new("p"),
        iterations: 4096,
    };
    let altered = dropped_at_each_await!(admin.alter_scram_users([(user.as_str(), set())]));
    if let Err(error) = &altered[user.as_str()] {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let described = dropped_at_each_await!(admin.describe_scram_users([user.as_str()]));
        assert_eq!(described.unwrap_err().kind(), ErrorKind::Unsupported);
        return;
    }
    eventually(async || {
        let found = dropped_at_each_await!(admin.describe_scram_users([user.as_str()])).unwrap();
        found[user.as_str()].is_ok()
    })
    .await;
    let delete = || ScramChange::Delete(ScramMechanism::Sha256);
    drop(dropped_at_each_await!(admin.alter_scram_users([(user.as_str(), delete())])));
    eventually(async || {
        let found = admin.describe_scram_users([user.as_str()]).await.unwrap();
        found[user.as_str()].is_err()
    })
    .await;
}

#[tokio::test]
async fn calls_of_a_consumer_may_be_dropped_at_each_await() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 20)).await;
    let place = context.tp(0);
    let mut consumer = context.consumer().build().unwrap();
    // Once polled, it is done.
    assert!(polled(1, consumer.subscribe([&context.topic])).await.is_none());
    assert_eq!(take(&mut consumer, 3).await, numbered(0, 0, 3));
    for offset in [15, 2, 9] {
        let to = SeekTo::Offset(i64::try_from(offset).unwrap());
        drop(polled(1, consumer.seek(&place, to)).await);
        // Calls are worked on in their order: when this one is, the one before was.
        within(consumer.assignment()).await.unwrap();
        assert_eq!(take(&mut consumer, 3).await, numbered(0, offset, offset + 3));
    }
    assert_eq!(dropped_at_each_await!(consumer.assignment()).unwrap(), [place.clone()].into());
    assert_eq!(
        dropped_at_each_await!(consumer.position(&place)).unwrap(),
        11,
        "the last is in hand"
    );
    dropped_at_each_await!(consumer.lag(&place)).unwrap();
    let metrics = dropped_at_each_await!(consumer.metrics()).unwrap();
    assert_eq!(metrics.partitions[&place].position, Some(11));
    assert_eq!(dropped_at_each_await!(consumer.end_offsets([place.clone()])).unwrap()[&place], 20);
    let begins = dropped_at_each_await!(consumer.beginning_offsets([place.clone()])).unwrap();
    assert_eq!(begins[&place], 0);
    dropped_at_each_await!(consumer.offsets_for_times([(place.clone(), 0)])).unwrap();
    assert_eq!(dropped_at_each_await!(consumer.partitions_for(&context.topic)).unwrap().len(), 1);
    let offsets = || Offsets::new().with(place.clone(), 5);
    dropped_at_each_await!(consumer.commit_offsets(offsets())).unwrap();
    assert_eq!(context.committed_offset(0).await, Some(5));
    dropped_at_each_await!(consumer.commit()).unwrap();
    assert_eq!(
        dropped_at_each_await!(consumer.committed([place.clone()])).unwrap()[&place].offset,
        12
    );
    assert_eq!(take(&mut consumer, 8).await, numbered(0, 12, 20), "nothing of it was lost");
    within(consumer.seek(&place, SeekTo::Offset(12))).await.unwrap();
    let mut own = consumer.partition_stream(&place).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 8 {
        let record = dropped_at_each_await!(own.next()).unwrap().unwrap();
        seen.push(text(&record));
    }
    assert_eq!(seen, numbered(0, 12, 20));
    drop(own);
    drop(polled(1, consumer.unsubscribe()).await);
    assert!(within(consumer.assignment()).await.unwrap().is_empty());
    assert!(polled(1, consumer.close()).await.is_none(), "it goes on in the background");
}

#[tokio::test]
async fn reading_may_be_dropped_at_each_await_however_it_is_done() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 30)).await;
    let place = context.tp(0);
    let mut consumer = context.consumer().build().unwrap();
    let mut events = consumer.events();
    let pattern = format!("{}.?", context.topic);
    assert!(polled(1, consumer.subscribe_pattern(&pattern)).await.is_none());
    let mut seen = vec![text(&dropped_at_each_await!(consumer.next()).unwrap().unwrap())];
    drop(dropped_at_each_await!(events.next()).expect("an assignment"));
    while seen.len() < 5 {
        seen.push(text(&dropped_at_each_await!(consumer.next()).unwrap().unwrap()));
    }
    for _ in 0..5 {
        let unacked = dropped_at_each_await!(consumer.next_unacked()).unwrap().unwrap();
        seen.push(text(unacked.record()));
        assert!(unacked.ack());
    }
    dropped_at_each_await!(consumer.commit()).unwrap();
    assert_eq!(context.committed_offset(0).await, Some(10));
    // By hand, from what the group has committed; with a stream that lends.
    drop(events);
    let leaves = CloseOptions::default().timeout(PATIENCE);
    assert!(polled(1, consumer.close_with(leaves)).await.is_none());
    let mut consumer = context.consumer().build().unwrap();
    assert!(polled(1, consumer.assign([place.clone()])).await.is_none());
    within(consumer.assignment()).await.unwrap();
    let mut own = consumer.partition_stream(&place).unwrap();
    while seen.len() < 20 {
        seen.push(text(&dropped_at_each_await!(own.next()).unwrap().unwrap()));
    }
    while seen.len() < 25 {
        let mut polls = 0;
        loop {
            polls += 1;
            let Some(batch) = within(polled(polls, own.next_batch())).await else { continue };
            for record in &batch.unwrap().unwrap() {
                let value = record.unwrap().value.unwrap().to_vec();
                seen.push(String::from_utf8(value).unwrap());
            }
            break;
        }
    }
    drop(own);
    while seen.len() < 30 {
        let mut polls = 0;
        loop {
            polls += 1;
            let Some(batch) = within(polled(polls, consumer.next_batch())).await else { continue };
            for record in &batch.unwrap().unwrap() {
                let value = record.unwrap().value.unwrap().to_vec();
                seen.push(String::from_utf8(value).unwrap());
            }
            break;
        }
    }
    assert_eq!(seen, numbered(0, 0, 30), "each once, in order");
    close(consumer).await;
}

/// Notes which records it has finished.
async fn finish(finished: Arc<Mutex<BTreeSet<i64>>>, record: Record) -> Result<(), Infallible> {
    tokio::task::yield_now().await;
    finished.lock().unwrap().insert(record.offset());
    Ok(())
}

/// Its handlers are aborted; what they had not finished comes again.
#[tokio::test]
async fn a_processor_that_is_dropped_at_any_await_loses_nothing() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 20)).await;
    let finished = Arc::new(Mutex::new(BTreeSet::new()));
    let processor = async || context.subscribed().await.process(Ordering::Unordered, 3);
    let handler = || {
        let finished = Arc::clone(&finished);
        move |record| finish(Arc::clone(&finished), record)
    };
    for polls in 1..=12 {
        let run = processor().await.run(handler());
        // When everything is done it is woken no more.
        let limit = Duration::from_millis(500);
        drop(tokio::time::timeout(limit, polled(polls * 3, run)).await);
        let committed = context.committed_offset(0).await.unwrap_or(0);
        let finished = finished.lock().unwrap();
        assert!((0..committed).all(|at| finished.contains(&at)), "{committed}: {finished:?}");
    }
    // What was finished without being committed is done once more.
    let left = context.committed_offset(0).await.unwrap_or(0)..20;
    finished.lock().unwrap().clear();
    let last = processor().await;
    let stopper = last.stopper();
    let all = async {
        eventually(async || finished.lock().unwrap().iter().copied().eq(left.clone())).await;
        stopper.stop();
    };
    let (processed, ()) = within(async { tokio::join!(last.run(handler()), all) }).await;
    processed.unwrap();
    assert_eq!(context.committed_offset(0).await, Some(20), "all of it was done, and is committed");
}

#[tokio::test]
async fn calls_of_a_producer_may_be_dropped_at_each_await() {
    let context = Context::new(1).await;
    let producer = context.producer().build().unwrap();
    assert_eq!(dropped_at_each_await!(producer.partition_count(&context.topic)).unwrap(), 1);
    let record = || ProducerRecord::to(&context.topic).value("once");
    let delivery = dropped_at_each_await!(producer.send(record())).unwrap();
    dropped_at_each_await!(producer.flush());
    assert_eq!(within(delivery).await.unwrap().offset, Some(0), "no dropped send was taken");
    drop(polled(1, producer.close(PATIENCE)).await);
    assert!(producer.send(record()).await.is_err(), "closed all the same");
}
