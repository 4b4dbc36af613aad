#![allow(clippy::unwrap_used)]

use bytes::Bytes;

use super::{
    consumer_group_member_metadata_value::ClassicMemberMetadata,
    fetch_response::{FetchableTopicResponse, PartitionData},
    streams_group_current_member_assignment_value::TaskIds,
    *,
};
use crate::{
    DecodeError, EncodeError, Reader,
    wire::{Counter, DecodeErrorKind, Writer},
};

fn decode<M: Message>(bytes: &[u8], version: i16) -> Result<M, DecodeError> {
    M::decode(&mut Reader::new(Bytes::copy_from_slice(bytes)), version)
}

/// A member of which all is empty but the client's id and host.
fn member(
    classic_member_metadata: Option<ClassicMemberMetadata>,
) -> ConsumerGroupMemberMetadataValue {
    ConsumerGroupMemberMetadataValue {
        instance_id: Some("".into()),
        rack_id: Some("".into()),
        client_id: "c".into(),
        client_host: "/h".into(),
        subscribed_topic_regex: Some("".into()),
        server_assignor: Some("".into()),
        classic_member_metadata,
        ..Default::default()
    }
}

/// Everywhere else the mark before a null structure is an int8 of -1, under a tag it is a varint of 0. The group coordinator of
/// Kafka writes such a null for every member that does not use the classic protocol; the bytes are its.
#[test]
fn null_structure_under_a_tag_was_marked_minus_one() {
    let kafkas = b"\x01\x01\x02c\x03/h\x01\x01\xff\xff\xff\xff\x01\x01\x00\x01\x00";
    let none = member(None);
    assert_eq!(none.to_bytes(0).unwrap(), &kafkas[..]);
    assert_eq!(decode(kafkas, 0), Ok(none));

    let kafkas =
        b"\x01\x01\x02c\x03/h\x01\x01\xff\xff\xff\xff\x01\x01\x00\x07\x01\x00\x00\x00\x07\x01\x00";
    let some = member(Some(ClassicMemberMetadata { session_timeout_ms: 7, ..Default::default() }));
    assert_eq!(some.to_bytes(0).unwrap(), &kafkas[..]);
    assert_eq!(decode(kafkas, 0), Ok(some));
}

/// In Kafka a nullable structure without a default in the schema starts empty, not null. So an absent tag reads as an empty one,
/// and null has to be written.
#[test]
fn structure_without_default_was_taken_for_null() {
    let kafkas = b"\x01\x01\x02c\x03/h\x01\x01\xff\xff\xff\xff\x01\x00";
    let empty = member(Some(ClassicMemberMetadata::default()));
    assert_eq!(empty.to_bytes(0).unwrap(), &kafkas[..]);
    assert_eq!(decode(kafkas, 0), Ok(empty));
}

#[test]
fn array_without_default_was_taken_for_null() {
    assert_eq!(TaskIds::default().assignment_epochs, Some(Vec::new()));
}

#[test]
fn null_was_taken_in_versions_that_have_none() {
    let null = b"\xff\xff\xff\xff";
    let error = decode::<MetadataRequest>(null, 0).unwrap_err();
    assert_eq!(error.kind, DecodeErrorKind::UnexpectedNull);
    assert_eq!((error.field, error.at), ("MetadataRequest.topics", 4));
    assert_eq!(decode::<MetadataRequest>(null, 1).unwrap().topics, None);

    let null = MetadataRequest { topics: None, ..Default::default() };
    let error = EncodeError::NullNotAllowed { field: "MetadataRequest.topics", version: 0 };
    assert_eq!(null.to_bytes(0), Err(error));
    assert_eq!(null.to_bytes(1).unwrap(), &b"\xff\xff\xff\xff"[..]);
}

/// The schema has null there in version 0 only, which the message no longer has.
#[test]
fn field_that_is_null_in_removed_versions_only_was_an_option() {
    let partition = share_fetch_response::PartitionData::default();
    let _: &Bytes = &partition.records;
}

#[test]
fn unknown_tags_were_dropped_in_versions_without_tags() {
    let mut request = HeartbeatRequest::default();
    request.unknown_tagged_fields.push(7, Bytes::from_static(b"x"));
    let error = request.to_bytes(3).unwrap_err();
    let field = "HeartbeatRequest.unknown_tagged_fields";
    assert_eq!(error, EncodeError::FieldNotInVersion { field, version: 3 });
    assert_eq!(decode(&request.to_bytes(4).unwrap(), 4), Ok(request));
}

#[test]
fn known_and_unknown_tags_are_written_in_rising_order() {
    let mut response = ApiVersionsResponse { finalized_features_epoch: 7, ..Default::default() };
    response.zk_migration_ready = true;
    for tag in [100, 200, 1 << 20] {
        response.unknown_tagged_fields.push(tag, Bytes::from_static(b"x"));
    }
    let bytes = response.to_bytes(3).unwrap();
    let tags = b"\x05\x01\x08\0\0\0\0\0\0\0\x07\x03\x01\x01\x64\x01x\xc8\x01\x01x\x80\x80\x40\x01x";
    assert_eq!(&bytes[bytes.len() - tags.len()..], tags);
    assert_eq!(decode(&bytes, 3), Ok(response));
}

#[test]
fn a_value_that_the_version_lacks_is_dropped_only_where_the_schema_says_so() {
    let ignorable = JoinGroupRequest { reason: Some("why".into()), ..Default::default() };
    assert_eq!(ignorable.to_bytes(5), JoinGroupRequest::default().to_bytes(5));
    let not = JoinGroupRequest { group_instance_id: Some("i".into()), ..Default::default() };
    let field = "JoinGroupRequest.group_instance_id";
    assert_eq!(not.to_bytes(4), Err(EncodeError::FieldNotInVersion { field, version: 4 }));
}

#[test]
fn versions_that_the_schema_lacks_are_refused() {
    let error = decode::<ProduceRequest>(b"", 2).unwrap_err();
    assert_eq!(error.kind, DecodeErrorKind::UnsupportedVersion(2));
    let message = "ProduceRequest";
    let error = EncodeError::UnsupportedVersion { message, version: 99 };
    assert_eq!(ProduceRequest::default().to_bytes(99), Err(error));
}

#[test]
fn large_records_are_shared_not_copied() {
    let records = Bytes::from(vec![7; 100_000]);
    let partition = PartitionData { records: Some(records.clone()), ..Default::default() };
    let topic = FetchableTopicResponse { partitions: vec![partition], ..Default::default() };
    let response = FetchResponse { responses: vec![topic], ..Default::default() };
    let mut counter = Counter::default();
    response.encode(&mut counter, 12).unwrap();
    assert_eq!(counter.shared(), records.len());
    let mut writer = Writer::for_counted(&counter);
    response.encode(&mut writer, 12).unwrap();
    let pieces = writer.into_pieces();
    assert!(pieces.iter().any(|piece| piece.as_ptr() == records.as_ptr()));
    assert_eq!(pieces.iter().map(Bytes::len).sum::<usize>(), counter.size());

    let read: FetchResponse = decode(&pieces.concat(), 12).unwrap();
    assert_eq!(read, response);
}

#[test]
fn bytes_after_a_message_are_left_unread() {
    let mut reader = Reader::new(Bytes::from_static(b"\0\x01g\0\0\0\x07\0\x01mrest"));
    HeartbeatRequest::decode(&mut reader, 0).unwrap();
    assert_eq!(reader.remaining(), 4);
}

#[test]
fn types_are_found_by_name_and_by_api() {
    struct Name;
    impl Visitor for Name {
        type Output = &'static str;
        fn visit<M: Message>(self) -> &'static str {
            M::NAME
        }
    }
    for name in NAMES {
        assert_eq!(visit(name, Name), Some(*name));
    }
    assert_eq!(visit("NoSuchRequest", Name), None);
    for api in ApiKey::all() {
        assert_eq!(visit_request(api, Name), format!("{api}Request"));
        assert_eq!(visit_response(api, Name), format!("{api}Response"));
    }
}
