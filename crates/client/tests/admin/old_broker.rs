//! The same calls where the broker is as old as Kafka 2.1: a proxy stands before the production broker, which still speaks those
//! versions, and says that it has no newer ones.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use kavka_client::{
    Admin, ErrorCode, ErrorKind, IsolationLevel,
    admin::{
        Change, CommittedOffset, ConfigChange, ConfigResource, DescribeConfigs, GroupFilter,
        GroupState, MemberIdentity, NewPartitions, NewTopic, OffsetSpec, OffsetsOfGroup,
    },
};
use kavka_protocol::{
    ApiKey, Message, Reader,
    messages::{ApiVersionsResponse, FindCoordinatorResponse, MetadataResponse, ResponseHeader},
};
use kavka_testkit::TestBroker;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{admin_of, at};

/// What Kafka 2.1 has, as far as clients ask for it.
const NEWEST: &[(ApiKey, i16)] = &[
    (ApiKey::Produce, 7),
    (ApiKey::Fetch, 10),
    (ApiKey::ListOffsets, 4),
    (ApiKey::Metadata, 7),
    (ApiKey::OffsetCommit, 6),
    (ApiKey::OffsetFetch, 5),
    (ApiKey::FindCoordinator, 2),
    (ApiKey::JoinGroup, 3),
    (ApiKey::Heartbeat, 2),
    (ApiKey::LeaveGroup, 2),
    (ApiKey::SyncGroup, 2),
    (ApiKey::DescribeGroups, 2),
    (ApiKey::ListGroups, 2),
    (ApiKey::ApiVersions, 2),
    (ApiKey::CreateTopics, 3),
    (ApiKey::DeleteTopics, 3),
    (ApiKey::DeleteRecords, 1),
    (ApiKey::DescribeConfigs, 2),
    (ApiKey::CreatePartitions, 1),
    (ApiKey::DeleteGroups, 1),
];

/// What was asked on a connection and is not answered yet.
type Asked = Arc<Mutex<VecDeque<(ApiKey, i16)>>>;

async fn start() -> (TestBroker, Admin) {
    let broker = TestBroker::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let behind = broker.addr();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(behind).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let asked = Asked::default();
            let waiting = Arc::clone(&asked);
            tokio::spawn(async move {
                while let Ok(frame) = read(&mut from_client).await {
                    let api = i16::from_be_bytes([frame[0], frame[1]]);
                    let version = i16::from_be_bytes([frame[2], frame[3]]);
                    let api = ApiKey::from_code(api).unwrap();
                    waiting.lock().unwrap().push_back((api, version));
                    write(&mut to_server, &frame).await;
                }
            });
            tokio::spawn(async move {
                while let Ok(frame) = read(&mut from_server).await {
                    let (api, version) = asked.lock().unwrap().pop_front().unwrap();
                    write(&mut to_client, &made_old(frame, api, version, port)).await;
                }
            });
        }
    });
    (broker, admin_of(&format!("127.0.0.1:{port}")))
}

async fn read(from: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<Bytes> {
    let length = from.read_u32().await?;
    let mut frame = vec![0; length as usize];
    from.read_exact(&mut frame).await?;
    Ok(frame.into())
}

/// Who has gone away does not get it.
async fn write(to: &mut (impl AsyncWriteExt + Unpin), frame: &[u8]) {
    if to.write_u32(frame.len() as u32).await.is_ok() {
        let _ = to.write_all(frame).await;
    }
}

/// An answer with old versions, and with the proxy's port where the broker's is.
fn made_old(frame: Bytes, api: ApiKey, version: i16, port: u16) -> Vec<u8> {
    let mut reader = Reader::new(frame.clone());
    let header_version = api.response_header_version(version);
    let header = ResponseHeader::decode(&mut reader, header_version).unwrap();
    let mut answer = Vec::new();
    header.encode(&mut answer, header_version).unwrap();
    match api {
        ApiKey::ApiVersions => {
            let mut body = ApiVersionsResponse::decode(&mut reader, version).unwrap();
            body.api_keys.retain_mut(|row| {
                let known = NEWEST.iter().find(|(api, _)| api.code() == row.api_key);
                let Some((_, newest)) = known else { return false };
                row.max_version = row.max_version.min(*newest);
                true
            });
            body.encode(&mut answer, version).unwrap();
        }
        ApiKey::Metadata => {
            let mut body = MetadataResponse::decode(&mut reader, version).unwrap();
            body.brokers.iter_mut().for_each(|row| row.port = port.into());
            body.encode(&mut answer, version).unwrap();
        }
        ApiKey::FindCoordinator => {
            let mut body = FindCoordinatorResponse::decode(&mut reader, version).unwrap();
            body.port = port.into();
            body.encode(&mut answer, version).unwrap();
        }
        _ => return frame.to_vec(),
    }
    answer
}

#[tokio::test]
async fn topics_of_an_old_broker() {
    let (_broker, admin) = start().await;
    let cluster = admin.describe_cluster().await.unwrap();
    assert_eq!((cluster.brokers.len(), cluster.authorized_operations), (1, None));
    let unsaid = admin.create_topics([NewTopic::new("t")], Change::Apply).await;
    let error = unsaid["t"].clone().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.advice().contains("2.4"), "{}", error.advice());
    let new = NewTopic::new("t").partitions(2).replication_factor(1);
    let made = admin.create_topics([new], Change::Apply).await["t"].clone().unwrap();
    assert_eq!((made.id, made.partitions, made.configs), (None, None, None));
    let more = [("t", NewPartitions::up_to(3))];
    admin.create_partitions(more, Change::Apply).await["t"].clone().unwrap();
    let topic = admin.describe_topics(["t"]).await["t"].clone().unwrap();
    assert_eq!((topic.id, topic.partitions.len()), (None, 3));
    assert_eq!(topic.authorized_operations, None);
    assert_eq!(admin.list_topics().await.unwrap().len(), 1);
    admin.delete_topics(["t"]).await["t"].clone().unwrap();
    assert!(admin.list_topics().await.unwrap().is_empty());

    let id = "AAAAAAAAAAAAAAAAAAAAAQ".parse().unwrap();
    let described = admin.describe_topics_by_id([id]).await[&id].clone();
    assert_eq!(described.unwrap_err().kind(), ErrorKind::Unsupported);
    let deleted = admin.delete_topics_by_id([id]).await[&id].clone();
    assert_eq!(deleted.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn configs_of_an_old_broker() {
    let (broker, admin) = start().await;
    broker.create_topic("t", 1).await.unwrap();
    let topic = ConfigResource::Topic("t".into());
    let what = DescribeConfigs { synonyms: true, documentation: true, ..Default::default() };
    let entries = admin.describe_configs([topic.clone()], &what).await[&topic].clone().unwrap();
    let entry = &entries["retention.ms"];
    assert_eq!((entry.config_type, &entry.documentation), (None, &None));
    let change = [("retention.ms".into(), ConfigChange::Delete)].into();
    let altered = admin.alter_configs([(topic.clone(), change)], Change::Apply).await;
    let error = altered[&topic].clone().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.advice().contains("Apache Kafka 2.3 or newer"), "{}", error.advice());
}

#[tokio::test]
async fn groups_of_an_old_broker() {
    let (broker, admin) = start().await;
    broker.create_topic("t", 2).await.unwrap();
    let commit = CommittedOffset { offset: 7, leader_epoch: Some(1), metadata: "note".into() };
    for group in ["g", "h"] {
        let committed = admin.alter_group_offsets(group, [(at("t", 0), commit.clone())]).await;
        committed[&at("t", 0)].clone().unwrap();
    }
    // Asked group by group.
    let wanted = [OffsetsOfGroup::all("g"), OffsetsOfGroup::of("h", [at("t", 0), at("t", 1)])];
    let offsets = admin.list_group_offsets(wanted, false).await;
    assert_eq!(offsets["g"].clone().unwrap()[&at("t", 0)].clone().unwrap(), Some(commit.clone()));
    assert_eq!(offsets["h"].clone().unwrap()[&at("t", 0)].clone().unwrap(), Some(commit));
    assert_eq!(offsets["h"].clone().unwrap()[&at("t", 1)].clone().unwrap(), None);
    let stable = admin.list_group_offsets([OffsetsOfGroup::all("g")], true).await;
    assert_eq!(stable["g"].clone().unwrap_err().kind(), ErrorKind::Unsupported);

    let list = admin.list_groups(&GroupFilter::default()).await.unwrap();
    assert_eq!(list.groups.len(), 2);
    assert_eq!((&list.groups["g"].state, &list.groups["g"].group_type), (&None, &None));
    let stable = GroupFilter { states: [GroupState::Stable].into(), ..Default::default() };
    let list = admin.list_groups(&stable).await.unwrap();
    let errors: Vec<ErrorKind> = list.errors.values().map(kavka_client::Error::kind).collect();
    assert_eq!(errors, [ErrorKind::Unsupported]);

    let described = admin.describe_groups(["g", "nobody"]).await;
    assert_eq!(described["g"].clone().unwrap().state, GroupState::Empty);
    let error = described["nobody"].clone().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::GroupIdNotFound), "{error}");
    let somebody = MemberIdentity::Instance("i".into());
    let removed = admin.remove_group_members("g", [somebody.clone()], None).await;
    assert_eq!(removed[&somebody].clone().unwrap_err().kind(), ErrorKind::Unsupported);
    let deleted = admin.delete_group_offsets("g", [at("t", 0)]).await;
    assert_eq!(deleted[&at("t", 0)].clone().unwrap_err().kind(), ErrorKind::Unsupported);
    admin.delete_groups(["g"]).await["g"].clone().unwrap();
}

#[tokio::test]
async fn offsets_of_an_old_broker() {
    let (broker, admin) = start().await;
    broker.create_topic("t", 2).await.unwrap();
    let specs = [(at("t", 0), OffsetSpec::Latest), (at("t", 1), OffsetSpec::MaxTimestamp)];
    let offsets = admin.list_offsets(specs, IsolationLevel::ReadCommitted).await;
    assert_eq!(offsets[&at("t", 0)].clone().unwrap().unwrap().offset, 0);
    let error = offsets[&at("t", 1)].clone().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.advice().contains("3.0"), "{}", error.advice());
}
