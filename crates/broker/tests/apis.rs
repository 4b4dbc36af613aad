//! Every API in every version that is advertised, and what administrators do with topics and configs.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Client, batch, fetch_request, start, start_with};
use kavka_protocol::{
    ApiKey, ErrorCode, Request,
    messages::{
        alter_configs_request::{AlterConfigsResource, AlterableConfig as LegacyConfig},
        create_partitions_request::CreatePartitionsTopic,
        create_topics_request::{CreatableTopic, CreatableTopicConfig},
        delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
        delete_topics_request::DeleteTopicState,
        describe_configs_request::DescribeConfigsResource,
        describe_configs_response::DescribeConfigsResult,
        describe_topic_partitions_request::TopicRequest,
        incremental_alter_configs_request::{
            AlterConfigsResource as IncrementalResource, AlterableConfig,
        },
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        metadata_request::MetadataRequestTopic,
        *,
    },
};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;

/// Sends an empty request in every advertised version; each has to be answered, and the answer to have that version's shape.
async fn sweep<R: Request + Default>(
    client: &mut Client,
    advertised: &mut Vec<(i16, i16, i16)>,
    prepare: impl Fn(&mut R),
) {
    let code = R::API_KEY.code();
    let at = advertised.iter().position(|row| row.0 == code).expect("an API that is advertised");
    let (_, lowest, highest) = advertised.remove(at);
    // Produce 0 to 2 are named for librdkafka's sake and not served.
    let lowest = if R::API_KEY == ApiKey::Produce { 3 } else { lowest };
    for version in lowest..=highest {
        let mut request = R::default();
        prepare(&mut request);
        client.call_version(request, version).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_advertised_version_is_answered_in_its_own_shape() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    let response = client.call_version(ApiVersionsRequest::default(), 0).await;
    let mut rows: Vec<_> = response
        .api_keys
        .iter()
        .map(|row| (row.api_key, row.min_version, row.max_version))
        .collect();
    macro_rules! sweep {
        ($($request:ident $prepare:expr;)*) => {
            $(sweep::<$request>(&mut client, &mut rows, $prepare).await;)*
        };
    }
    sweep! {
        ProduceRequest |request| request.acks = 1;
        FetchRequest |_| {};
        ListOffsetsRequest |request| request.replica_id = -1;
        MetadataRequest |_| {};
        OffsetCommitRequest |_| {};
        OffsetFetchRequest |_| {};
        FindCoordinatorRequest |_| {};
        JoinGroupRequest |_| {};
        HeartbeatRequest |_| {};
        LeaveGroupRequest |_| {};
        SyncGroupRequest |_| {};
        DescribeGroupsRequest |_| {};
        ListGroupsRequest |_| {};
        ApiVersionsRequest |_| {};
        CreateTopicsRequest |_| {};
        DeleteTopicsRequest |_| {};
        DeleteRecordsRequest |_| {};
        InitProducerIdRequest |request| request.transactional_id = None;
        OffsetForLeaderEpochRequest |request| request.replica_id = -1;
        DescribeConfigsRequest |_| {};
        AlterConfigsRequest |_| {};
        CreatePartitionsRequest |_| {};
        DeleteGroupsRequest |_| {};
        IncrementalAlterConfigsRequest |_| {};
        OffsetDeleteRequest |_| {};
        DescribeClusterRequest |request| request.endpoint_type = 1;
        DescribeTopicPartitionsRequest |_| {};
    }
    assert_eq!(rows, [], "advertised, and not tried here");
    broker.stop().await.unwrap();
}

fn topic(name: &str, partitions: i32, replicas: i16) -> CreatableTopic {
    CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: replicas,
        ..Default::default()
    }
}

fn with_config(mut topic: CreatableTopic, name: &str, value: &str) -> CreatableTopic {
    let config =
        CreatableTopicConfig { name: name.into(), value: Some(value.into()), ..Default::default() };
    topic.configs.push(config);
    topic
}

/// The error code of each topic, in the order of the request.
async fn create(
    client: &mut Client,
    topics: Vec<CreatableTopic>,
    validate_only: bool,
) -> Vec<(String, ErrorCode)> {
    let names: Vec<_> = topics.iter().map(|topic| topic.name.to_string()).collect();
    let request =
        CreateTopicsRequest { topics, validate_only, timeout_ms: 10_000, ..Default::default() };
    let response = client.call(request).await;
    let code = |name: &String| {
        let row = response.topics.iter().find(|row| *row.name == **name).unwrap();
        (name.clone(), row.error_code)
    };
    names.iter().map(code).collect()
}

/// Topics that the cluster has, with their number of partitions.
async fn listed(client: &mut Client) -> Vec<(String, usize)> {
    let response = client.call(MetadataRequest { topics: None, ..Default::default() }).await;
    let mut topics: Vec<_> = response
        .topics
        .iter()
        .map(|topic| (topic.name.as_ref().unwrap().to_string(), topic.partitions.len()))
        .collect();
    topics.sort();
    topics
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_grown_and_deleted_and_each_mistake_has_its_code() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    let cases = vec![
        (topic("good", 3, 1), ErrorCode::None),
        (topic("default", -1, -1), ErrorCode::None),
        (with_config(topic("compacted", 1, 1), "cleanup.policy", "compact"), ErrorCode::None),
        (topic("bad name", 1, 1), ErrorCode::InvalidTopicException),
        (topic("..", 1, 1), ErrorCode::InvalidTopicException),
        (topic(&"n".repeat(250), 1, 1), ErrorCode::InvalidTopicException),
        (topic("none", 0, 1), ErrorCode::InvalidPartitions),
        (topic("replicated", 1, 3), ErrorCode::InvalidReplicationFactor),
        (with_config(topic("unknown", 1, 1), "no.such.config", "1"), ErrorCode::InvalidConfig),
        (with_config(topic("wrong", 1, 1), "retention.ms", "soon"), ErrorCode::InvalidConfig),
    ];
    let (topics, codes): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    let named = |codes: &[ErrorCode]| {
        let names = topics.iter().map(|topic| topic.name.to_string());
        names.zip(codes.iter().copied()).collect::<Vec<_>>()
    };
    assert_eq!(create(&mut client, topics.clone(), true).await, named(&codes));
    assert_eq!(listed(&mut client).await, [], "only validated");
    assert_eq!(create(&mut client, topics.clone(), false).await, named(&codes));
    let made = [("compacted", 1), ("default", 1), ("good", 3)];
    let made = made.map(|(name, count)| (name.to_owned(), count));
    assert_eq!(listed(&mut client).await, made);
    let again = create(&mut client, vec![topic("good", 3, 1)], false).await;
    assert_eq!(again[0].1, ErrorCode::TopicAlreadyExists);

    let grow = |name: &str, count| CreatePartitionsTopic {
        name: name.into(),
        count,
        assignments: None,
        ..Default::default()
    };
    let request = CreatePartitionsRequest {
        topics: vec![grow("good", 5), grow("default", 1), grow("compacted", 0), grow("gone", 2)],
        timeout_ms: 10_000,
        ..Default::default()
    };
    let response = client.call(request).await;
    let codes: Vec<_> = response.results.iter().map(|row| (&*row.name, row.error_code)).collect();
    let expected = [
        ("good", ErrorCode::None),
        ("default", ErrorCode::InvalidPartitions),
        ("compacted", ErrorCode::InvalidPartitions),
        ("gone", ErrorCode::UnknownTopicOrPartition),
    ];
    for row in expected {
        assert!(codes.contains(&row), "{row:?} is not in {codes:?}");
    }
    let id = client.topic_id("good").await;
    assert_eq!(client.produce(id, 4, batch(&["in a new partition"])).await.base_offset, 0);

    let delete = |name: &str| DeleteTopicState { name: Some(name.into()), ..Default::default() };
    let request = DeleteTopicsRequest {
        topics: vec![delete("good"), delete("never")],
        timeout_ms: 10_000,
        ..Default::default()
    };
    let response = client.call(request).await;
    for (name, code) in [("good", ErrorCode::None), ("never", ErrorCode::UnknownTopicOrPartition)] {
        let row = response.responses.iter().find(|row| row.name.as_deref() == Some(name)).unwrap();
        assert_eq!(row.error_code, code, "{name}");
    }
    let row = client.produce(id, 4, batch(&["too late"])).await;
    assert_eq!(row.error_code, ErrorCode::UnknownTopicId);
    let new = client.create_topic("good", 1).await;
    assert_ne!(new, id, "a topic of the same name is another topic");
    assert!(client.fetch_values(new, 0, 0).await.is_empty());
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_made_by_asking_for_them_only_where_that_is_allowed() {
    for (setting, made) in [("true", true), ("false", false)] {
        let dir = tempfile::tempdir().unwrap();
        let settings = [("auto.create.topics.enable", setting), ("num.partitions", "2")];
        let broker = start_with(dir.path(), &settings).await;
        let mut client = Client::connect(broker.address()).await;
        for allowed in [false, true] {
            let topic = MetadataRequestTopic { name: Some("asked".into()), ..Default::default() };
            let request = MetadataRequest {
                topics: Some(vec![topic]),
                allow_auto_topic_creation: allowed,
                ..Default::default()
            };
            let response = client.call(request).await;
            let row = &response.topics[0];
            let exists = row.error_code == ErrorCode::None && row.partitions.len() == 2;
            assert_eq!(exists, made && allowed, "{setting} {allowed}: {row:?}");
        }
        broker.stop().await.unwrap();
    }
}

async fn describe(client: &mut Client, kind: i8, name: &str) -> DescribeConfigsResult {
    let resource = DescribeConfigsResource {
        resource_type: kind,
        resource_name: name.into(),
        configuration_keys: None,
        ..Default::default()
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: true,
        ..Default::default()
    };
    client.call(request).await.results.remove(0)
}

/// Value and source of one config.
async fn config(client: &mut Client, topic: &str, name: &str) -> (String, i8) {
    let result = describe(client, TOPIC, topic).await;
    let row = result.configs.iter().find(|row| *row.name == *name).unwrap();
    (row.value.as_ref().unwrap().to_string(), row.config_source)
}

async fn alter(
    client: &mut Client,
    topic: &str,
    validate_only: bool,
    changes: &[(&str, i8, Option<&str>)],
) -> ErrorCode {
    let configs = changes
        .iter()
        .map(|(name, operation, value)| AlterableConfig {
            name: (*name).into(),
            config_operation: *operation,
            value: value.map(Into::into),
            ..Default::default()
        })
        .collect();
    let resource = IncrementalResource {
        resource_type: TOPIC,
        resource_name: topic.into(),
        configs,
        ..Default::default()
    };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![resource],
        validate_only,
        ..Default::default()
    };
    client.call(request).await.responses[0].error_code
}

#[tokio::test(flavor = "multi_thread")]
async fn configs_are_set_taken_back_and_kept_over_a_restart() {
    const OF_TOPIC: i8 = 1;
    const OF_FILE: i8 = 4;
    const DEFAULT: i8 = 5;
    let dir = tempfile::tempdir().unwrap();
    let settings = [("log.retention.ms", "70000")];
    let broker = start_with(dir.path(), &settings).await;
    let mut client = Client::connect(broker.address()).await;
    client.create_topic("t", 1).await;
    let name = "retention.ms";
    assert_eq!(config(&mut client, "t", name).await, ("70000".into(), OF_FILE));
    assert_eq!(config(&mut client, "t", "segment.ms").await, ("604800000".into(), DEFAULT));

    let set = [(name, SET, Some("5000")), ("cleanup.policy", APPEND, Some("compact"))];
    assert_eq!(alter(&mut client, "t", true, &set).await, ErrorCode::None);
    assert_eq!(config(&mut client, "t", name).await.0, "70000", "only validated");
    assert_eq!(alter(&mut client, "t", false, &set).await, ErrorCode::None);
    assert_eq!(config(&mut client, "t", name).await, ("5000".into(), OF_TOPIC));
    let (policy, _) = config(&mut client, "t", "cleanup.policy").await;
    assert_eq!(policy, "delete,compact");

    for wrong in [
        (name, SET, Some("soon")),
        ("no.such.config", SET, Some("1")),
        ("cleanup.policy", SET, Some("shred")),
    ] {
        let both = [("segment.ms", SET, Some("1000")), wrong];
        assert_eq!(alter(&mut client, "t", false, &both).await, ErrorCode::InvalidConfig);
    }
    let (segment_ms, _) = config(&mut client, "t", "segment.ms").await;
    assert_eq!(segment_ms, "604800000", "all of a resource or nothing");
    let code = alter(&mut client, "gone", false, &set).await;
    assert_eq!(code, ErrorCode::UnknownTopicOrPartition);
    broker.stop().await.unwrap();

    let broker = start_with(dir.path(), &settings).await;
    let mut client = Client::connect(broker.address()).await;
    assert_eq!(config(&mut client, "t", name).await, ("5000".into(), OF_TOPIC));
    assert_eq!(alter(&mut client, "t", false, &[(name, DELETE, None)]).await, ErrorCode::None);
    assert_eq!(config(&mut client, "t", name).await, ("70000".into(), OF_FILE));

    // The older API replaces everything at once.
    let config_of = |name: &str, value: &str| LegacyConfig {
        name: name.into(),
        value: Some(value.into()),
        ..Default::default()
    };
    let resource = AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: "t".into(),
        configs: vec![config_of("segment.ms", "9000")],
        ..Default::default()
    };
    let request = AlterConfigsRequest { resources: vec![resource], ..Default::default() };
    assert_eq!(client.call(request).await.responses[0].error_code, ErrorCode::None);
    assert_eq!(config(&mut client, "t", "segment.ms").await, ("9000".into(), OF_TOPIC));
    assert_eq!(config(&mut client, "t", "cleanup.policy").await.0, "delete");
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_describes_itself() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("node.id", "7"), ("group.max.size", "77")];
    let broker = start_with(dir.path(), &settings).await;
    let mut client = Client::connect(broker.address()).await;
    let result = describe(&mut client, BROKER, "7").await;
    let row = result.configs.iter().find(|row| &*row.name == "group.max.size").unwrap();
    assert_eq!(row.value.as_deref(), Some("77"));
    assert!(row.documentation.is_some());
    assert_eq!(describe(&mut client, BROKER, "8").await.error_code, ErrorCode::InvalidRequest);

    let request = DescribeClusterRequest { endpoint_type: 1, ..Default::default() };
    let cluster = client.call(request).await;
    let [node] = &cluster.brokers[..] else { panic!("{cluster:?}") };
    assert_eq!((node.broker_id, cluster.controller_id), (7, 7));
    assert_eq!(node.port, i32::from(broker.address().port()));
    let metadata = client.call(MetadataRequest::default()).await;
    assert_eq!(metadata.cluster_id.as_deref(), Some(&*cluster.cluster_id));
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_records_are_gone_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    let id = client.create_topic("t", 1).await;
    for value in ["a", "b", "c"] {
        client.produce(id, 0, batch(&[value])).await;
    }
    let delete = |offset| {
        let partition = DeleteRecordsPartition { offset, ..Default::default() };
        let row = DeleteRecordsTopic {
            name: "t".into(),
            partitions: vec![partition],
            ..Default::default()
        };
        DeleteRecordsRequest { topics: vec![row], timeout_ms: 10_000, ..Default::default() }
    };
    let answer = client.call(delete(9)).await.topics[0].partitions[0].clone();
    assert_eq!(answer.error_code, ErrorCode::OffsetOutOfRange);
    let answer = client.call(delete(2)).await.topics[0].partitions[0].clone();
    assert_eq!((answer.error_code, answer.low_watermark), (ErrorCode::None, 2));
    broker.stop().await.unwrap();

    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    let response = client.call(fetch_request(id, 0, 1)).await;
    let row = &response.responses[0].partitions[0];
    assert_eq!(row.error_code, ErrorCode::OffsetOutOfRange);
    assert_eq!(client.fetch_values(id, 0, 2).await, ["c"]);
    let earliest = ListOffsetsPartition { timestamp: -2, ..Default::default() };
    let row =
        ListOffsetsTopic { name: "t".into(), partitions: vec![earliest], ..Default::default() };
    let request = ListOffsetsRequest { replica_id: -1, topics: vec![row], ..Default::default() };
    assert_eq!(client.call_version(request, 10).await.topics[0].partitions[0].offset, 2);
    let all = client.call(delete(-1)).await.topics[0].partitions[0].clone();
    assert_eq!(all.low_watermark, 3, "-1 is the high watermark");
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_described_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    client.create_topic("a", 3).await;
    client.create_topic("b", 2).await;
    let mut cursor = None;
    let mut seen = Vec::new();
    for _ in 0..10 {
        let topics =
            ["b", "a"].map(|name| TopicRequest { name: name.into(), ..Default::default() });
        let request = DescribeTopicPartitionsRequest {
            topics: topics.into(),
            response_partition_limit: 2,
            cursor: cursor.take(),
            ..Default::default()
        };
        let response = client.call(request).await;
        for topic in &response.topics {
            let name = topic.name.as_ref().unwrap().to_string();
            seen.extend(topic.partitions.iter().map(|row| (name.clone(), row.partition_index)));
        }
        let Some(next) = response.next_cursor else { break };
        cursor = Some(describe_topic_partitions_request::Cursor {
            topic_name: next.topic_name,
            partition_index: next.partition_index,
            ..Default::default()
        });
    }
    let expected = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)];
    assert_eq!(seen, expected.map(|(name, index)| (name.to_owned(), index)));
    broker.stop().await.unwrap();
}
