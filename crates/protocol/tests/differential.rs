//! The same messages through this codec and through that of the `kafka-protocol` crate: bytes that one writes the other reads, and
//! writes again as they were; and a message read in one version comes out of both the same, or out of neither, in any other.
//!
//! Messages are recombined from the values in the golden vectors: each field gets a value that some vector has there.

#![allow(clippy::unwrap_used)]

mod golden;

use std::{collections::BTreeMap, sync::LazyLock};

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, Message as TheirMessage};
use kavka_protocol::{EncodeError, Message, Reader, SplitMix64, messages};
use proptest::prelude::*;
use serde_json::{Map, Value};

use golden::hex;

/// The values that the vectors of one message have, by the path of the field.
#[derive(Default)]
struct Pool {
    /// The JSON of the vectors, by version.
    messages: BTreeMap<i16, Vec<Value>>,
    scalars: BTreeMap<String, Vec<Value>>,
    elements: BTreeMap<(i16, String), Vec<Value>>,
    nullable: BTreeMap<(i16, String), Value>,
}

static POOLS: LazyLock<BTreeMap<String, Pool>> = LazyLock::new(|| {
    let mut pools: BTreeMap<String, Pool> = BTreeMap::new();
    for vector in golden::vectors("messages.jsonl") {
        let pool = pools.entry(vector.name).or_default();
        pool.collect(vector.version, "", &vector.line["json"]);
        pool.messages.entry(vector.version).or_default().push(vector.line["json"].clone());
    }
    pools
});

impl Pool {
    fn collect(&mut self, version: i16, path: &str, value: &Value) {
        match value {
            Value::Null => {
                self.nullable.insert((version, path.to_owned()), Value::Null);
            }
            Value::Object(fields) => {
                for (name, field) in fields {
                    self.collect(version, &format!("{path}.{name}"), field);
                }
            }
            Value::Array(elements) => {
                for element in elements {
                    self.collect(version, &format!("{path}[]"), element);
                    let known = self.elements.entry((version, path.to_owned())).or_default();
                    known.push(element.clone());
                }
            }
            scalar => self.scalars.entry(path.to_owned()).or_default().push(scalar.clone()),
        }
    }

    /// A message of `version`, shaped like one of the vectors, its values picked by `numbers`.
    fn message(&self, version: i16, numbers: &mut Numbers) -> Value {
        let shape = numbers.pick(&self.messages[&version]);
        self.vary(version, "", shape, numbers)
    }

    fn vary(&self, version: i16, path: &str, shape: &Value, numbers: &mut Numbers) -> Value {
        if let Some(null) = self.nullable.get(&(version, path.to_owned()))
            && numbers.below(4) == 0
        {
            return null.clone();
        }
        match shape {
            Value::Object(fields) => {
                let vary = |(name, field): (&String, &Value)| {
                    let path = format!("{path}.{name}");
                    (name.clone(), self.vary(version, &path, field, numbers))
                };
                Value::Object(fields.iter().map(vary).collect::<Map<_, _>>())
            }
            Value::Array(_) => {
                let known = self.elements.get(&(version, path.to_owned()));
                let count = if known.is_some() { numbers.below(4) } else { 0 };
                let path = format!("{path}[]");
                let element = |_| self.vary(version, &path, numbers.pick(known.unwrap()), numbers);
                Value::Array((0..count).map(element).collect())
            }
            Value::Null => Value::Null,
            scalar if numbers.below(4) == 0 => scalar.clone(),
            _ => numbers.pick(&self.scalars[path]).clone(),
        }
    }
}

/// Numbers that follow from proptest's seed.
struct Numbers(SplitMix64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0.below(limit as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Tagged fields whose value they drop silently in a version without the field. Kafka's writer throws, as it does for a null
/// in a version without null, which they write as -1.
const THEY_DROP: &[&str] = &[
    "FetchRequest.replica_state",
    "FetchResponse.node_endpoints",
    "PartitionData.current_leader",
    "PartitionData.diverging_epoch",
    "PartitionData.snapshot_id",
    "PartitionProduceResponse.current_leader",
    "ProduceResponse.node_endpoints",
    "VoteResponse.node_endpoints",
];

fn their_bytes<T: Encodable>(message: &T, version: i16) -> Option<Bytes> {
    let mut buffer = BytesMut::new();
    message.encode(&mut buffer, version).ok()?;
    Some(buffer.freeze())
}

/// One message, both codecs, all versions that both know.
fn check<Ours: Message, Theirs: TheirMessage + Encodable + Decodable>(seed: u64) {
    let versions = Theirs::VERSIONS.min.max(*Ours::VERSIONS.start())
        ..=Theirs::VERSIONS.max.min(*Ours::VERSIONS.end());
    assert!(!versions.is_empty(), "{}: no version in common", Ours::NAME);
    let mut numbers = Numbers(SplitMix64::new(seed));
    for version in versions.clone() {
        let json = POOLS[Ours::NAME].message(version, &mut numbers);
        let label = || format!("{} v{version} {json}", Ours::NAME);
        let ours = Ours::from_json(&json, version).unwrap_or_else(|e| panic!("{}: {e}", label()));
        let written = ours.to_bytes(version).unwrap_or_else(|e| panic!("{}: {e}", label()));

        let mut rest = written.clone();
        let theirs = Theirs::decode(&mut rest, version)
            .unwrap_or_else(|e| panic!("{}: they do not read it: {e}", label()));
        assert!(rest.is_empty(), "{}: they leave {} bytes", label(), rest.len());

        for other in versions.clone() {
            let theirs = their_bytes(&theirs, other);
            let ours = ours.to_bytes(other);
            match (&theirs, &ours) {
                (Some(theirs), Ok(ours)) => {
                    assert_eq!(hex(theirs), hex(ours), "{} as v{other}", label());
                    let mut reader = Reader::new(theirs.clone());
                    let read = Ours::decode(&mut reader, other)
                        .unwrap_or_else(|e| panic!("{} as v{other}: {e}", label()));
                    assert_eq!(reader.remaining(), 0, "{} as v{other}", label());
                    assert_eq!(&read.to_bytes(other).unwrap(), theirs, "{} as v{other}", label());
                }
                (None, Err(_)) => {}
                (Some(_), Err(EncodeError::NullNotAllowed { .. })) => {}
                (Some(_), Err(EncodeError::FieldNotInVersion { field, .. }))
                    if THEY_DROP.contains(field) => {}
                _ => panic!("{} as v{other}: they {theirs:?}, we {ours:?}", label()),
            }
        }
    }
}

macro_rules! differential {
    ($($message:ident)*) => {
        /// The messages compared, and how.
        const CHECKS: &[(&str, fn(u64))] = &[$((
            stringify!($message),
            check::<messages::$message, kafka_protocol::messages::$message>,
        ),)*];
    };
}

differential!(
    ProduceRequest ProduceResponse FetchRequest FetchResponse ListOffsetsRequest ListOffsetsResponse
    MetadataRequest MetadataResponse OffsetCommitRequest OffsetCommitResponse OffsetFetchRequest OffsetFetchResponse
    FindCoordinatorRequest FindCoordinatorResponse JoinGroupRequest JoinGroupResponse HeartbeatRequest HeartbeatResponse
    LeaveGroupRequest LeaveGroupResponse SyncGroupRequest SyncGroupResponse DescribeGroupsRequest DescribeGroupsResponse
    ListGroupsRequest ListGroupsResponse SaslHandshakeRequest SaslHandshakeResponse ApiVersionsRequest ApiVersionsResponse
    CreateTopicsRequest CreateTopicsResponse DeleteTopicsRequest DeleteTopicsResponse DeleteRecordsRequest DeleteRecordsResponse
    InitProducerIdRequest InitProducerIdResponse OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse
    AddPartitionsToTxnRequest AddPartitionsToTxnResponse AddOffsetsToTxnRequest AddOffsetsToTxnResponse
    EndTxnRequest EndTxnResponse WriteTxnMarkersRequest WriteTxnMarkersResponse TxnOffsetCommitRequest TxnOffsetCommitResponse
    DescribeAclsRequest DescribeAclsResponse CreateAclsRequest CreateAclsResponse DeleteAclsRequest DeleteAclsResponse
    DescribeConfigsRequest DescribeConfigsResponse AlterConfigsRequest AlterConfigsResponse
    IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse AlterReplicaLogDirsRequest AlterReplicaLogDirsResponse
    DescribeLogDirsRequest DescribeLogDirsResponse SaslAuthenticateRequest SaslAuthenticateResponse
    CreatePartitionsRequest CreatePartitionsResponse CreateDelegationTokenRequest CreateDelegationTokenResponse
    RenewDelegationTokenRequest RenewDelegationTokenResponse ExpireDelegationTokenRequest ExpireDelegationTokenResponse
    DescribeDelegationTokenRequest DescribeDelegationTokenResponse DeleteGroupsRequest DeleteGroupsResponse
    ElectLeadersRequest ElectLeadersResponse AlterPartitionReassignmentsRequest AlterPartitionReassignmentsResponse
    ListPartitionReassignmentsRequest ListPartitionReassignmentsResponse OffsetDeleteRequest OffsetDeleteResponse
    DescribeClientQuotasRequest DescribeClientQuotasResponse AlterClientQuotasRequest AlterClientQuotasResponse
    DescribeUserScramCredentialsRequest DescribeUserScramCredentialsResponse
    AlterUserScramCredentialsRequest AlterUserScramCredentialsResponse DescribeQuorumRequest DescribeQuorumResponse
    UpdateFeaturesRequest UpdateFeaturesResponse DescribeClusterRequest DescribeClusterResponse
    DescribeProducersRequest DescribeProducersResponse UnregisterBrokerRequest UnregisterBrokerResponse
    DescribeTransactionsRequest DescribeTransactionsResponse ListTransactionsRequest ListTransactionsResponse
    ConsumerGroupHeartbeatRequest ConsumerGroupHeartbeatResponse ConsumerGroupDescribeRequest ConsumerGroupDescribeResponse
    GetTelemetrySubscriptionsRequest GetTelemetrySubscriptionsResponse PushTelemetryRequest PushTelemetryResponse
    ListConfigResourcesRequest ListConfigResourcesResponse
    DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse ShareGroupHeartbeatRequest ShareGroupHeartbeatResponse
    ShareGroupDescribeRequest ShareGroupDescribeResponse ShareFetchRequest ShareFetchResponse
    ShareAcknowledgeRequest ShareAcknowledgeResponse VoteRequest VoteResponse
    RequestHeader ResponseHeader ConsumerProtocolSubscription ConsumerProtocolAssignment
);

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn both_codecs_write_and_read_the_same_bytes(seed: u64) {
        for (name, check) in CHECKS {
            println!("{name}, seed {seed}");
            check(seed);
        }
    }
}
