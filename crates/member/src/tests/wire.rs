//! What goes over the wire, in every version.

use kavka_protocol::{
    ErrorCode, Message, Reader, Uuid,
    messages::{
        FindCoordinatorResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
        LeaveGroupResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest,
        OffsetFetchResponse,
        find_coordinator_response::Coordinator as CoordinatorRow,
        leave_group_response::MemberResponse,
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
        offset_fetch_response::{
            OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
            OffsetFetchResponseTopic, OffsetFetchResponseTopics,
        },
    },
};

use super::context::{at, tp};
use crate::{wire, *};

const ID: Uuid = Uuid::from_bytes([7; 16]);

fn commit() -> CommitRequest {
    CommitRequest {
        group: "g".into(),
        generation: 3,
        member_id: "m".into(),
        instance_id: None,
        offsets: [(tp(0), at(5)), (tp(1), at(6))].into(),
        topic_ids: [("t".into(), ID)].into(),
    }
}

fn fetch() -> FetchOffsetsRequest {
    let topic_ids = [("t".into(), ID)].into();
    FetchOffsetsRequest { group: "g".into(), partitions: vec![tp(0), tp(1)], topic_ids }
}

#[test]
fn topics_are_named_by_id_where_the_version_does_and_the_id_is_known() {
    let known = Request::CommitOffsets(commit());
    assert_eq!(wire::newest_version(&known), 10);
    let unknown = Request::CommitOffsets(CommitRequest { topic_ids: [].into(), ..commit() });
    assert_eq!(wire::newest_version(&unknown), 9);
    let unknown = Request::FetchOffsets(FetchOffsetsRequest { topic_ids: [].into(), ..fetch() });
    assert_eq!(wire::newest_version(&unknown), 9);
    for version in OffsetCommitRequest::VERSIONS {
        let bytes = wire::encode(&known, version).unwrap();
        let read = OffsetCommitRequest::decode(&mut Reader::new(bytes), version).unwrap();
        assert_eq!(read.generation_id_or_member_epoch, 3);
        assert_eq!(read.topics.len(), 1);
        assert_eq!(read.topics[0].partitions[1].committed_offset, 6);
        let by_id = version >= 10;
        assert_eq!(read.topics[0].topic_id == ID, by_id);
        assert_eq!(read.topics[0].name.is_empty(), by_id);
    }
}

#[test]
fn commit_response_is_read_in_every_version() {
    for version in OffsetCommitResponse::VERSIONS {
        let by_id = version >= 10;
        let row = OffsetCommitResponsePartition {
            partition_index: 1,
            error_code: ErrorCode::RebalanceInProgress,
            ..Default::default()
        };
        let message = OffsetCommitResponse {
            topics: vec![OffsetCommitResponseTopic {
                name: if by_id { "" } else { "t" }.into(),
                topic_id: if by_id { ID } else { Uuid::ZERO },
                partitions: vec![row],
                ..Default::default()
            }],
            ..Default::default()
        };
        let request = Request::CommitOffsets(commit());
        let read = wire::decode(&request, version, message.to_bytes(version).unwrap()).unwrap();
        let codes = [(tp(1), ErrorCode::RebalanceInProgress)].into();
        assert_eq!(read, Response::CommitOffsets(codes), "version {version}");
    }
}

#[test]
fn offset_fetch_is_stable_from_version_7_on_and_read_in_every_version() {
    for version in OffsetFetchRequest::VERSIONS {
        let request = Request::FetchOffsets(fetch());
        let bytes = wire::encode(&request, version).unwrap();
        let read = OffsetFetchRequest::decode(&mut Reader::new(bytes), version).unwrap();
        assert_eq!(read.require_stable, version >= 7);
        let (by_id, several) = (version >= 10, version >= 8);
        let message = if several {
            let row = OffsetFetchResponsePartitions {
                partition_index: 1,
                committed_offset: 9,
                committed_leader_epoch: 4,
                ..Default::default()
            };
            let topic = OffsetFetchResponseTopics {
                name: if by_id { "" } else { "t" }.into(),
                topic_id: if by_id { ID } else { Uuid::ZERO },
                partitions: vec![row],
                ..Default::default()
            };
            let group = OffsetFetchResponseGroup {
                group_id: "g".into(),
                topics: vec![topic],
                ..Default::default()
            };
            OffsetFetchResponse { groups: vec![group], ..Default::default() }
        } else {
            let row = OffsetFetchResponsePartition {
                partition_index: 1,
                committed_offset: 9,
                committed_leader_epoch: if version >= 5 { 4 } else { -1 },
                ..Default::default()
            };
            let topic = OffsetFetchResponseTopic {
                name: "t".into(),
                partitions: vec![row],
                ..Default::default()
            };
            OffsetFetchResponse { topics: vec![topic], ..Default::default() }
        };
        let read = wire::decode(&request, version, message.to_bytes(version).unwrap()).unwrap();
        let leader_epoch = if version >= 5 { 4 } else { -1 };
        let row = FetchedOffset { error: ErrorCode::None, offset: 9, leader_epoch };
        assert_eq!(read, Response::FetchOffsets(Ok([(tp(1), row)].into())), "version {version}");
    }
}

#[test]
fn find_coordinator_is_asked_for_one_group_in_every_version() {
    let request = Request::FindCoordinator { group: "g".into() };
    for version in FindCoordinatorResponse::VERSIONS {
        wire::encode(&request, version).unwrap();
        let row = CoordinatorRow {
            key: "g".into(),
            node_id: 3,
            host: "h".into(),
            port: 9,
            ..Default::default()
        };
        let message = if version >= 4 {
            FindCoordinatorResponse { coordinators: vec![row], ..Default::default() }
        } else {
            FindCoordinatorResponse { node_id: 3, host: "h".into(), port: 9, ..Default::default() }
        };
        let read = wire::decode(&request, version, message.to_bytes(version).unwrap()).unwrap();
        let found = Coordinator { node: 3, host: "h".into(), port: 9 };
        assert_eq!(read, Response::FindCoordinator(Ok(found)));
    }
    let nobody = FindCoordinatorResponse::default().to_bytes(4).unwrap();
    let read = wire::decode(&request, 4, nobody).unwrap();
    assert_eq!(read, Response::FindCoordinator(Err(ErrorCode::CoordinatorNotAvailable)));
}

#[test]
fn join_and_leave_carry_what_their_version_can() {
    let join = JoinRequest {
        group: "g".into(),
        member_id: "m".into(),
        instance_id: None,
        session_timeout_ms: 1,
        rebalance_timeout_ms: 2,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), "metadata".into())],
        reason: Some("because".into()),
    };
    for version in JoinGroupRequest::VERSIONS {
        let bytes = wire::encode(&Request::Join(join.clone()), version).unwrap();
        let read = JoinGroupRequest::decode(&mut Reader::new(bytes), version).unwrap();
        assert_eq!(read.reason.is_some(), version >= 8, "KIP-800");
        let response = JoinGroupResponse {
            generation_id: 4,
            protocol_name: Some("".into()),
            ..Default::default()
        };
        let body = response.to_bytes(version).unwrap();
        let Response::Join(read) =
            wire::decode(&Request::Join(join.clone()), version, body).unwrap()
        else {
            panic!("a JoinGroup response")
        };
        assert_eq!((read.generation, read.protocol_name), (4, None));
    }
    let named = JoinRequest { instance_id: Some("i".into()), ..join };
    assert!(
        wire::encode(&Request::Join(named.clone()), 4).is_err(),
        "static members need version 5"
    );
    wire::encode(&Request::Join(named), 5).unwrap();

    let leave = LeaveRequest {
        group: "g".into(),
        member_id: "m".into(),
        instance_id: None,
        reason: Some("because".into()),
    };
    for version in LeaveGroupRequest::VERSIONS {
        let bytes = wire::encode(&Request::Leave(leave.clone()), version).unwrap();
        let read = LeaveGroupRequest::decode(&mut Reader::new(bytes), version).unwrap();
        assert_eq!(read.members.len(), usize::from(version >= 3));
        assert_eq!(read.member_id.is_empty(), version >= 3);
        let error_code = ErrorCode::UnknownMemberId;
        let row = MemberResponse { member_id: "m".into(), error_code, ..Default::default() };
        let message = if version >= 3 {
            LeaveGroupResponse { members: vec![row], ..Default::default() }
        } else {
            LeaveGroupResponse { error_code, ..Default::default() }
        };
        let body = message.to_bytes(version).unwrap();
        let read = wire::decode(&Request::Leave(leave.clone()), version, body).unwrap();
        assert_eq!(read, Response::Leave(error_code));
    }
}

#[test]
fn garbage_is_an_error() {
    let request = Request::CommitOffsets(commit());
    assert!(wire::decode(&request, 8, bytes::Bytes::from_static(b"\x00\x00")).is_err());
    assert!(wire::encode(&request, 99).is_err());
}
