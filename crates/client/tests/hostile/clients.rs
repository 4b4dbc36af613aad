//! What clients do in a round, and how long each call may take.

use std::{
    fmt,
    sync::Mutex,
    time::{Duration, Instant},
};

use kavka_client::{
    Admin, Consumer, IsolationLevel, Producer, ProducerRecord, TopicPartition,
    admin::{
        Acl, AclFilter, Change, CommittedOffset, ConfigResource, DeleteBefore, DescribeConfigs,
        GroupFilter, MemberIdentity, NewPartitions, NewTopic, OffsetSpec, OffsetsOfGroup,
        Operation, PatternType, Permission, ResourceType, ScramChange, ScramMechanism,
    },
    consumer::{CloseOptions, OffsetReset, Offsets, SeekTo},
    producer::Compression,
    settings::Secret,
};

/// What every call is given.
const TIMEOUT: Duration = Duration::from_millis(800);
/// What it may take above that.
const SLACK: Duration = Duration::from_secs(1);
/// As long as this machine does not get to run what is due, nobody else can be blamed: measured by a task that sleeps beside.
const TICK: Duration = Duration::from_millis(50);

/// The slowest calls, by how far they went past their timeout.
#[derive(Default)]
pub(crate) struct Worst(Mutex<Vec<(Duration, &'static str)>>);

impl Worst {
    fn note(&self, over: Duration, call: &'static str) {
        let mut worst = self.0.lock().unwrap();
        worst.push((over, call));
        worst.sort_by(|a, b| b.cmp(a));
        worst.truncate(5);
    }

    pub(crate) fn check(&self) {
        let worst = self.0.lock().unwrap();
        let late: Vec<_> = worst.iter().filter(|(over, _)| *over > SLACK).collect();
        assert!(late.is_empty(), "calls that went on past their timeout by: {late:?}");
    }
}

impl fmt::Display for Worst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "latest above their timeouts: {:?}", self.0.lock().unwrap())
    }
}

/// Waits for a call that has `limit`; how long it took beyond, less what this machine was late by itself, is noted.
async fn timed<T>(
    call: &'static str,
    limit: Duration,
    worst: &Worst,
    future: impl Future<Output = T>,
) -> T {
    let begun = Instant::now();
    let mut stalled = Duration::ZERO;
    tokio::pin!(future);
    let answer = loop {
        let tick = Instant::now();
        tokio::select! {
            answer = &mut future => break answer,
            () = tokio::time::sleep(TICK) => stalled += tick.elapsed().saturating_sub(TICK),
        }
        assert!(begun.elapsed() < Duration::from_secs(50), "{call} hangs");
    };
    let over = begun.elapsed().saturating_sub(limit + stalled);
    worst.note(over, call);
    answer
}

/// How many records were read.
pub(crate) async fn consume(servers: &str, round: u64, worst: &Worst) -> u64 {
    let consumer = Consumer::builder()
        .bootstrap_servers(servers)
        .group_id(&format!("g{round}"))
        .auto_offset_reset(OffsetReset::Earliest)
        .auto_commit_interval(Duration::from_millis(100))
        .session_timeout(Duration::from_secs(6))
        .heartbeat_interval(Duration::from_millis(50))
        .property("request.timeout.ms", "500")
        .property("default.api.timeout.ms", "800")
        .property("socket.connection.setup.timeout.ms", "500")
        .property("receive.message.max.bytes", "4000000")
        .property("fetch.max.wait.ms", "50")
        .property("metadata.max.age.ms", "200")
        .property("retry.backoff.ms", "10")
        .property("retry.backoff.max.ms", "100")
        .property("reconnect.backoff.ms", "10")
        .property("reconnect.backoff.max.ms", "100");
    let consumer = match round % 3 {
        0 => consumer.assignors(&["cooperative-sticky"]),
        1 => consumer.isolation_level(IsolationLevel::ReadCommitted),
        _ => consumer,
    };
    let mut consumer = consumer.build().unwrap();
    let mut events = consumer.events();
    if round.is_multiple_of(4) {
        timed("subscribe_pattern", Duration::ZERO, worst, consumer.subscribe_pattern("i."))
            .await
            .unwrap();
    } else {
        timed("subscribe", Duration::ZERO, worst, consumer.subscribe(["in"])).await.unwrap();
    }
    let mut read = 0;
    for step in 0..6 {
        // Records may not come at all from such a broker; that is what the time here is for.
        let some = tokio::time::timeout(Duration::from_millis(300), async {
            loop {
                if step % 3 == 0 {
                    match consumer.next().await {
                        Some(Ok(_)) => read += 1,
                        Some(Err(_)) => tokio::task::yield_now().await,
                        None => break,
                    }
                } else if step % 3 == 1 {
                    match consumer.next_unacked().await {
                        Some(Ok(record)) => read += u64::from(record.ack()),
                        Some(Err(_)) => tokio::task::yield_now().await,
                        None => break,
                    }
                } else {
                    match consumer.next_batch().await {
                        Some(Ok(batch)) => {
                            read += batch.records().filter(Result::is_ok).count() as u64
                        }
                        Some(Err(_)) => tokio::task::yield_now().await,
                        None => break,
                    }
                }
            }
        });
        let _ = timed("next", Duration::from_millis(300), worst, some).await;
        let _ = timed("commit", TIMEOUT, worst, consumer.commit()).await;
        let event = tokio::time::timeout(Duration::from_millis(10), events.next());
        drop(timed("events", Duration::from_millis(10), worst, event).await);
        let _ = timed("metrics", Duration::ZERO, worst, consumer.metrics()).await;
        let _ = timed("assignment", Duration::ZERO, worst, consumer.assignment()).await;
        let partition = TopicPartition::new("in", step % 3);
        let offsets = Offsets::new().with(partition.clone(), 1);
        let _ = timed("commit_offsets", TIMEOUT, worst, consumer.commit_offsets(offsets)).await;
        if let Ok(mut own) = consumer.partition_stream(&partition) {
            let some = tokio::time::timeout(Duration::from_millis(20), async {
                drop(own.next().await);
                drop(own.next_batch().await);
            });
            let _ = timed("a partition's next", Duration::from_millis(20), worst, some).await;
        }
        let _ = timed("position", TIMEOUT, worst, consumer.position(&partition)).await;
        let seek = [SeekTo::Beginning, SeekTo::Timestamp(5), SeekTo::Offset(3)]
            [usize::try_from(step % 3).unwrap()];
        let _ = timed("seek", Duration::ZERO, worst, consumer.seek(&partition, seek)).await;
        let _ = timed("lag", Duration::ZERO, worst, consumer.lag(&partition)).await;
        let one = [partition.clone()];
        let _ = timed("committed", TIMEOUT, worst, consumer.committed(one.clone())).await;
        let _ = timed("end_offsets", TIMEOUT, worst, consumer.end_offsets(one.clone())).await;
        let _ = timed("beginning_offsets", TIMEOUT, worst, consumer.beginning_offsets(one)).await;
        let times = [(partition, 5)];
        let _ = timed("offsets_for_times", TIMEOUT, worst, consumer.offsets_for_times(times)).await;
        let _ = timed("partitions_for", TIMEOUT, worst, consumer.partitions_for("in")).await;
    }
    let _ = timed("unsubscribe", Duration::ZERO, worst, consumer.unsubscribe()).await;
    let by_hand = [TopicPartition::new("in", 0)];
    let _ = timed("assign", Duration::ZERO, worst, consumer.assign(by_hand)).await;
    let options = CloseOptions::default().timeout(TIMEOUT);
    let _ = timed("close of a consumer", TIMEOUT, worst, consumer.close_with(options)).await;
    read
}

/// How many records were delivered, as far as such a broker can be believed.
pub(crate) async fn produce(servers: &str, round: u64, worst: &Worst) -> u64 {
    let producer = Producer::builder()
        .bootstrap_servers(servers)
        .max_block(TIMEOUT)
        .request_timeout(Duration::from_millis(400))
        .delivery_timeout(TIMEOUT)
        .linger(Duration::from_millis(1))
        .compression(if round.is_multiple_of(2) { Compression::None } else { Compression::Lz4 })
        .property("socket.connection.setup.timeout.ms", "400")
        .property("retry.backoff.ms", "10")
        .property("retry.backoff.max.ms", "100")
        .property("reconnect.backoff.ms", "10")
        .property("reconnect.backoff.max.ms", "100")
        .property("metadata.max.age.ms", "200")
        .property("receive.message.max.bytes", "4000000")
        .build()
        .unwrap();
    let mut delivered = 0;
    for _ in 0..4 {
        let mut deliveries = Vec::new();
        let begun = Instant::now();
        for number in 0..20u8 {
            let value = [number; 50];
            let record = ProducerRecord::to("out").value(&value);
            let sent = timed("send", TIMEOUT, worst, producer.send(record)).await;
            deliveries.extend(sent);
            if begun.elapsed() > TIMEOUT {
                break;
            }
        }
        for delivery in deliveries {
            delivered += u64::from(timed("delivery", TIMEOUT, worst, delivery).await.is_ok());
        }
        timed("flush", TIMEOUT, worst, producer.flush()).await;
        let _ = timed("partition_count", TIMEOUT, worst, producer.partition_count("out")).await;
    }
    let _ = timed("close of a producer", TIMEOUT, worst, producer.close(TIMEOUT)).await;
    delivered
}

/// How many calls were answered.
pub(crate) async fn administrate(servers: &str, round: u64, worst: &Worst) -> u64 {
    let admin = Admin::builder()
        .bootstrap_servers(servers)
        .property("request.timeout.ms", "500")
        .property("socket.connection.setup.timeout.ms", "400")
        .property("retry.backoff.ms", "10")
        .property("retry.backoff.max.ms", "100")
        .property("reconnect.backoff.ms", "10")
        .property("reconnect.backoff.max.ms", "100")
        .property("receive.message.max.bytes", "4000000")
        .build()
        .unwrap()
        .with_timeout(TIMEOUT);
    let tp = TopicPartition::new("in", 0);
    let group = format!("g{round}");
    let topic = format!("t{round}");
    let mut answered = 0;
    macro_rules! each {
        ($name:literal, $call:expr) => {
            let rows = timed($name, TIMEOUT, worst, $call).await;
            answered += rows.values().filter(|row| row.is_ok()).count() as u64;
        };
    }
    answered += u64::from(
        timed("describe_cluster", TIMEOUT, worst, admin.describe_cluster()).await.is_ok(),
    );
    answered += u64::from(timed("list_topics", TIMEOUT, worst, admin.list_topics()).await.is_ok());
    each!("describe_topics", admin.describe_topics(["in", "out"]));
    let id = kavka_client::Uuid::from_bytes([1; 16]);
    each!("describe_topics_by_id", admin.describe_topics_by_id([id]));
    each!("delete_topics_by_id", admin.delete_topics_by_id([id]));
    let new = NewTopic::new(topic.as_str()).partitions(1).replication_factor(1);
    each!("create_topics", admin.create_topics([new], Change::Apply));
    each!(
        "create_partitions",
        admin.create_partitions([(topic.as_str(), NewPartitions::up_to(2))], Change::Apply)
    );
    let specs = [(tp.clone(), OffsetSpec::Latest)];
    each!("list_offsets", admin.list_offsets(specs, IsolationLevel::ReadUncommitted));
    let resource = ConfigResource::Topic("in".into());
    each!(
        "describe_configs",
        admin.describe_configs([resource.clone()], &DescribeConfigs::default())
    );
    each!("alter_configs", admin.alter_configs([(resource, Default::default())], Change::Validate));
    let filter = GroupFilter::default();
    answered +=
        u64::from(timed("list_groups", TIMEOUT, worst, admin.list_groups(&filter)).await.is_ok());
    each!("describe_groups", admin.describe_groups([group.as_str()]));
    each!(
        "list_group_offsets",
        admin.list_group_offsets([OffsetsOfGroup::all(group.as_str())], false)
    );
    let moved = [(tp.clone(), CommittedOffset::new(3))];
    each!("alter_group_offsets", admin.alter_group_offsets("another", moved));
    each!("delete_group_offsets", admin.delete_group_offsets("another", [tp.clone()]));
    let members = timed(
        "remove_all_group_members",
        TIMEOUT,
        worst,
        admin.remove_all_group_members("another", None),
    );
    answered += u64::from(members.await.is_ok());
    let nobody = MemberIdentity::Instance("nobody".into());
    each!("remove_group_members", admin.remove_group_members("another", [nobody], None));
    each!("delete_groups", admin.delete_groups(["another"]));
    each!("describe_producers", admin.describe_producers([tp.clone()]));
    let dirs = timed("describe_log_dirs", TIMEOUT, worst, admin.describe_log_dirs([]));
    answered += u64::from(dirs.await.is_ok());
    let filter = AclFilter::any();
    let acls = timed("describe_acls", TIMEOUT, worst, admin.describe_acls(&filter));
    answered += u64::from(acls.await.is_ok());
    each!("create_acls", admin.create_acls([acl(&topic)]));
    let of_topic = AclFilter { resource_name: Some(topic.as_str().into()), ..filter };
    each!("delete_acls", admin.delete_acls([of_topic]));
    let users = timed("describe_scram_users", TIMEOUT, worst, admin.describe_scram_users(["u"]));
    answered += u64::from(users.await.is_ok());
    let password = ScramChange::Set {
        mechanism: ScramMechanism::Sha256,
        password: Secret::new("p"),
        iterations: 4096,
    };
    each!("alter_scram_users", admin.alter_scram_users([("u", password)]));
    each!("delete_records", admin.delete_records([(tp, DeleteBefore::Offset(1))]));
    each!("delete_topics", admin.delete_topics([topic.as_str()]));
    answered
}

fn acl(topic: &str) -> Acl {
    Acl {
        resource_type: ResourceType::Topic,
        resource_name: topic.into(),
        pattern: PatternType::Literal,
        principal: "User:u".into(),
        host: "*".into(),
        operation: Operation::Read,
        permission: Permission::Allow,
    }
}
