//! Metadata: brokers, topics and partition leaders. Needs DESCRIBE on each topic; CREATE to have one created.
//!
//! A topic that is created because someone asked about it is there before the answer: no client has to ask again.
//!
//! # References
//! KIP-361 (auto-create), KIP-430 (authorized operations), KIP-516 (topic ids).

use std::{collections::BTreeSet, sync::Arc};

use bytestring::ByteString;
use kavka_meta::check_topic_name;
use kavka_protocol::{
    ErrorCode, Uuid,
    messages::{
        MetadataRequest, MetadataResponse,
        metadata_request::MetadataRequestTopic,
        metadata_response::{
            MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
        },
    },
};

use super::operations::{ALL_CLUSTER_OPERATIONS, ALL_TOPIC_OPERATIONS, if_asked};
use crate::{broker::Broker, dispatch::Context, topics::TopicPartitions};

/// What is asked about.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    All,
    Names(Vec<ByteString>),
    Ids(Vec<Uuid>),
}

pub(crate) async fn handle(context: Context, request: MetadataRequest) -> MetadataResponse {
    let (host, port) = context.advertised();
    let Context { broker, version, .. } = context;
    let asked = match read(version, request.topics) {
        Ok(asked) => asked,
        Err(refused) => return refuse(version, &refused),
    };
    let operations = if_asked(request.include_topic_authorized_operations, ALL_TOPIC_OPERATIONS);
    let topics = match asked {
        Asked::All => {
            let mut topics = broker.topics.all();
            topics.sort_by(|a, b| a.topic.name.cmp(&b.topic.name));
            topics.iter().map(|topic| describe(&broker, topic, operations)).collect()
        }
        Asked::Names(names) => {
            let create = request.allow_auto_topic_creation && broker.config.topics.auto_create;
            by_name(&broker, names, create, operations).await
        }
        Asked::Ids(ids) => {
            let by_id = |id| match broker.topics.by_id(id) {
                Some(topic) => describe(&broker, &topic, operations),
                None => missing(ErrorCode::UnknownTopicId, None, id, operations),
            };
            ids.into_iter().map(by_id).collect()
        }
    };
    MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id: broker.config.node_id,
            host,
            port,
            rack: broker.config.rack.as_deref().map(Into::into),
            ..Default::default()
        }],
        cluster_id: Some(broker.meta.image().cluster_id().to_string().into()),
        controller_id: broker.config.node_id,
        topics,
        cluster_authorized_operations: if_asked(
            request.include_cluster_authorized_operations,
            ALL_CLUSTER_OPERATIONS,
        ),
        ..Default::default()
    }
}

/// What the request asks about, each thing once.
///
/// # Errors
/// The topics of a request that makes no sense in its version.
fn read(
    version: i16,
    topics: Option<Vec<MetadataRequestTopic>>,
) -> Result<Asked, Vec<MetadataRequestTopic>> {
    let topics = match topics {
        None => return Ok(Asked::All),
        Some(topics) if version == 0 && topics.is_empty() => return Ok(Asked::All),
        Some(topics) => topics,
    };
    let any_id = topics.iter().any(|topic| !topic.topic_id.is_zero());
    if any_id && version >= 12 {
        // Names are not looked at then.
        let mut seen = BTreeSet::new();
        let ids = topics.iter().map(|topic| topic.topic_id);
        return Ok(Asked::Ids(ids.filter(|id| !id.is_zero() && seen.insert(*id)).collect()));
    }
    // Versions 10 and 11 have the field, but never worked by id (KAFKA-10774).
    if any_id || topics.iter().any(|topic| topic.name.is_none()) {
        return Err(topics);
    }
    let mut seen = BTreeSet::new();
    let names = topics.into_iter().filter_map(|topic| topic.name);
    Ok(Asked::Names(names.filter(|name| seen.insert(name.clone())).collect()))
}

/// The answer to a request that makes no sense: no brokers, and the error wherever this version has a place for it.
fn refuse(version: i16, topics: &[MetadataRequestTopic]) -> MetadataResponse {
    let error_code = ErrorCode::InvalidRequest;
    let refused = |topic: &MetadataRequestTopic| MetadataResponseTopic {
        error_code,
        name: topic.name.clone().or_else(|| (version < 12).then(ByteString::new)),
        topic_id: topic.topic_id,
        ..Default::default()
    };
    MetadataResponse {
        error_code,
        topics: topics.iter().map(refused).collect(),
        ..Default::default()
    }
}

async fn by_name(
    broker: &Arc<Broker>,
    names: Vec<ByteString>,
    create: bool,
    operations: i32,
) -> Vec<MetadataResponseTopic> {
    let absent = |name: &&ByteString| broker.topics.by_name(name).is_none();
    let mut wanted = Vec::new();
    if create {
        let creatable = |name: &&ByteString| check_topic_name(name).is_ok();
        wanted = names.iter().filter(absent).filter(creatable).map(ToString::to_string).collect();
    }
    let mut refused = Vec::new();
    if !wanted.is_empty() {
        let results = broker.auto_create_topics(wanted.clone()).await;
        let errors = wanted.into_iter().zip(results);
        refused.extend(errors.filter_map(|(name, result)| Some((name, result.err()?))));
    }
    let row = |name: ByteString| match broker.topics.by_name(&name) {
        Some(topic) => describe(broker, &topic, operations),
        None => {
            let reason = refused.iter().find(|(refused, _)| *refused == *name);
            let error_code = match reason {
                Some((_, error_code)) => *error_code,
                None if check_topic_name(&name).is_err() => ErrorCode::InvalidTopicException,
                None => ErrorCode::UnknownTopicOrPartition,
            };
            missing(error_code, Some(name), Uuid::ZERO, operations)
        }
    };
    names.into_iter().map(row).collect()
}

fn missing(
    error_code: ErrorCode,
    name: Option<ByteString>,
    topic_id: Uuid,
    topic_authorized_operations: i32,
) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code,
        name,
        topic_id,
        topic_authorized_operations,
        ..Default::default()
    }
}

fn describe(
    broker: &Broker,
    topic: &TopicPartitions,
    topic_authorized_operations: i32,
) -> MetadataResponseTopic {
    let node_id = broker.config.node_id;
    let image = broker.meta.image();
    let partition = |partition_index: i32| {
        let online = topic.partition(partition_index);
        MetadataResponsePartition {
            // A partition whose log cannot be opened has no leader until someone repairs it.
            error_code: if online.is_ok() {
                ErrorCode::None
            } else {
                ErrorCode::LeaderNotAvailable
            },
            partition_index,
            leader_id: if online.is_ok() { node_id } else { -1 },
            leader_epoch: image.leader_epoch(&topic.topic, partition_index).unwrap_or(-1),
            replica_nodes: vec![node_id],
            isr_nodes: vec![node_id],
            offline_replicas: if online.is_ok() { Vec::new() } else { vec![node_id] },
            ..Default::default()
        }
    };
    MetadataResponseTopic {
        name: Some(ByteString::from(&*topic.topic.name)),
        topic_id: topic.topic.id,
        is_internal: topic.topic.internal,
        partitions: (0..topic.topic.partitions).map(partition).collect(),
        topic_authorized_operations,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn topic(name: Option<&str>, id: u8) -> MetadataRequestTopic {
        MetadataRequestTopic {
            name: name.map(Into::into),
            topic_id: Uuid::from_bytes([id; 16]),
            ..Default::default()
        }
    }

    #[test]
    fn an_empty_list_means_all_topics_in_version_0_only() {
        assert_eq!(read(0, Some(Vec::new())), Ok(Asked::All));
        assert_eq!(read(1, Some(Vec::new())), Ok(Asked::Names(Vec::new())));
        assert_eq!(read(13, None), Ok(Asked::All));
    }

    #[test]
    fn ids_count_from_version_12_on_and_shadow_names() {
        let mixed = || Some(vec![topic(Some("a"), 0), topic(None, 7), topic(None, 7)]);
        assert_eq!(read(12, mixed()), Ok(Asked::Ids(vec![Uuid::from_bytes([7; 16])])));
        assert_eq!(read(11, mixed()).unwrap_err().len(), 3);
        assert!(read(12, Some(vec![topic(None, 0)])).is_err());
    }

    #[test]
    fn a_name_is_answered_once() {
        let twice = Some(vec![topic(Some("b"), 0), topic(Some("a"), 0), topic(Some("b"), 0)]);
        assert_eq!(read(9, twice), Ok(Asked::Names(vec!["b".into(), "a".into()])));
    }

    #[test]
    fn a_refusal_can_be_encoded_in_every_version_that_can_be_refused() {
        use kavka_protocol::Message;
        for version in 10..=13 {
            let response = refuse(version, &[topic(None, 7), topic(Some("a"), 0)]);
            let bytes = response.to_bytes(version).unwrap();
            let mut reader = kavka_protocol::Reader::new(bytes);
            let back = MetadataResponse::decode(&mut reader, version).unwrap();
            assert!(back.topics.iter().all(|topic| topic.error_code == ErrorCode::InvalidRequest));
        }
    }
}
