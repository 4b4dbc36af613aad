//! Which partitions offsets can be committed for and removed from, over a socket.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Client, start};
use kavka_protocol::{
    ErrorCode, Uuid,
    messages::{
        OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
    },
};

fn topic(topic_id: Uuid, partitions: &[i32]) -> OffsetCommitRequestTopic {
    let partition = |index: &i32| OffsetCommitRequestPartition {
        partition_index: *index,
        committed_offset: 7,
        committed_metadata: Some("".into()),
        ..Default::default()
    };
    let partitions = partitions.iter().map(partition).collect();
    OffsetCommitRequestTopic { topic_id, partitions, ..Default::default() }
}

async fn commit(
    client: &mut Client,
    topics: Vec<OffsetCommitRequestTopic>,
) -> OffsetCommitResponse {
    let request = OffsetCommitRequest { group_id: "g".into(), topics, ..Default::default() };
    client.call(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn commit_refuses_partitions_that_are_not_there_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    client.find_coordinator("g").await;
    let known = client.create_topic("t", 2).await;
    let unknown = Uuid::from_bytes([7; 16]);
    let topics = vec![topic(known, &[0, 2, 1]), topic(unknown, &[0]), topic(known, &[])];
    let response = commit(&mut client, topics).await;
    let mut rows = Vec::new();
    for topic in &response.topics {
        for partition in &topic.partitions {
            rows.push((topic.topic_id, partition.partition_index, partition.error_code));
        }
    }
    assert_eq!(
        rows,
        [
            (known, 2, ErrorCode::UnknownTopicOrPartition),
            (known, 0, ErrorCode::None),
            (known, 1, ErrorCode::None),
            (unknown, 0, ErrorCode::UnknownTopicId),
        ]
    );
    assert_eq!(response.topics.len(), 2, "a topic without partitions is in no answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_partitions_that_are_not_there_cannot_be_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    client.find_coordinator("g").await;
    let known = client.create_topic("t", 1).await;
    commit(&mut client, vec![topic(known, &[0])]).await;
    let partition = |partition_index| OffsetDeleteRequestPartition { partition_index };
    let request = OffsetDeleteRequest {
        group_id: "g".into(),
        topics: vec![OffsetDeleteRequestTopic {
            name: "t".into(),
            partitions: vec![partition(0), partition(1)],
        }],
    };
    let response = client.call(request).await;
    let rows: Vec<_> =
        response.topics[0].partitions.iter().map(|p| (p.partition_index, p.error_code)).collect();
    assert_eq!(rows, [(1, ErrorCode::UnknownTopicOrPartition), (0, ErrorCode::None)]);
}
