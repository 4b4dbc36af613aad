//! DeleteTopics, by name or by id. Needs DELETE on each topic.
//!
//! The name is free again before the answer; a topic that is created under it has another id.
//!
//! # References
//! KIP-4, KIP-516 (topic ids), KIP-599.

use std::collections::{BTreeMap, BTreeSet};

use bytestring::ByteString;
use kavka_meta::{MetadataImage, Topic, TopicError};
use kavka_protocol::{
    ErrorCode, Uuid,
    messages::{
        DeleteTopicsRequest, DeleteTopicsResponse, delete_topics_request::DeleteTopicState,
        delete_topics_response::DeletableTopicResult,
    },
};
use tracing::{error, info};

use super::refusal::Refusal;
use crate::dispatch::Context;

/// A row of the response, and what is to be deleted for it.
#[derive(Debug)]
struct Row {
    name: Option<ByteString>,
    id: Uuid,
    plan: Result<Uuid, Refusal>,
}

pub(crate) async fn handle(context: Context, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let broker = &context.broker;
    let topics = if context.version >= 6 {
        request.topics
    } else {
        let by_name = |name| DeleteTopicState { name: Some(name), ..Default::default() };
        request.topic_names.into_iter().map(by_name).collect()
    };
    let mut rows = plan(&broker.meta.image(), topics);
    if !broker.config.topics.delete_enable {
        // Version 3 brought the code (KIP-322).
        let code = if context.version < 3 {
            ErrorCode::InvalidRequest
        } else {
            ErrorCode::TopicDeletionDisabled
        };
        rows.iter_mut().for_each(|row| row.plan = Err(Refusal::plain(code)));
    }
    let keys: Vec<_> = rows.iter().filter_map(|row| row.plan.as_ref().ok().cloned()).collect();
    if !keys.is_empty() {
        match broker.delete_topics(keys).await {
            Ok(results) => {
                let planned = rows.iter_mut().filter(|row| row.plan.is_ok());
                for (row, result) in planned.zip(results) {
                    match result {
                        Ok(topic) => {
                            info!("deleted topic {} ({})", topic.name, topic.id);
                            row.name = Some(ByteString::from(&*topic.name));
                            row.id = topic.id;
                        }
                        // Deleted by someone else meanwhile.
                        Err(refused) => row.plan = Err(unknown(&refused)),
                    }
                }
            }
            Err(failed) => {
                error!("cannot delete topics: {failed}");
                for row in rows.iter_mut().filter(|row| row.plan.is_ok()) {
                    row.plan = Err(Refusal::from(&failed));
                }
            }
        }
    }
    DeleteTopicsResponse {
        responses: rows.into_iter().map(response).collect(),
        ..Default::default()
    }
}

fn response(row: Row) -> DeletableTopicResult {
    let refusal = row.plan.err();
    DeletableTopicResult {
        name: row.name,
        topic_id: row.id,
        error_code: refusal.as_ref().map_or(ErrorCode::None, |refusal| refusal.code),
        error_message: refusal.and_then(|refusal| refusal.message).map(Into::into),
        ..Default::default()
    }
}

fn unknown(error: &TopicError) -> Refusal {
    Refusal::plain(error.code())
}

/// What is to be done for each topic of the request. What is named twice is refused, once.
fn plan(image: &MetadataImage, topics: Vec<DeleteTopicState>) -> Vec<Row> {
    let mut times: BTreeMap<(Option<ByteString>, Uuid), usize> = BTreeMap::new();
    for topic in &topics {
        *times.entry((topic.name.clone(), topic.topic_id)).or_insert(0) += 1;
    }
    let once = || times.iter().filter(|(_, times)| **times == 1).map(|(key, _)| key);
    let names: BTreeSet<_> =
        once().filter(|(_, id)| id.is_zero()).filter_map(|(name, _)| name.clone()).collect();
    let ids: BTreeSet<_> = once().filter(|(name, _)| name.is_none()).map(|(_, id)| *id).collect();
    let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    let mut rows = Vec::with_capacity(topics.len());
    for DeleteTopicState { name, topic_id: mut id, .. } in topics {
        let Some(times) = times.remove(&(name.clone(), id)) else { continue };
        let plan = match &name {
            Some(_) if !id.is_zero() => {
                invalid("You may not specify both topic name and topic id.")
            }
            None if id.is_zero() => invalid("Neither topic name nor id were specified."),
            Some(_) if times > 1 => invalid("Duplicate topic name."),
            None if times > 1 => invalid("Duplicate topic id."),
            Some(name) => match image.topic(name) {
                Some(topic) if ids.contains(&topic.id) => {
                    id = topic.id;
                    invalid("The provided topic name maps to an ID that was already supplied.")
                }
                Some(topic) => delete(topic),
                None => Err(Refusal::plain(ErrorCode::UnknownTopicOrPartition)),
            },
            None => match image.topic_by_id(id) {
                // Refused under its name.
                Some(topic) if names.contains(&*topic.name) => continue,
                Some(topic) => delete(topic),
                None => Err(Refusal::plain(ErrorCode::UnknownTopicId)),
            },
        };
        rows.push(Row { name, id, plan });
    }
    rows
}

/// By id, so that another topic that takes the name meanwhile is safe.
fn delete(topic: &Topic) -> Result<Uuid, Refusal> {
    if topic.internal {
        return Err(Refusal::new(
            ErrorCode::InvalidTopicException,
            format!("{} holds the state of groups and cannot be deleted.", topic.name),
        ));
    }
    Ok(topic.id)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kavka_meta::{ClusterMeta, ConfigMap, EmbeddedMeta, NewTopic, os_random};

    use super::*;

    /// An image with topics of these names, and their ids.
    fn image(names: &[&str]) -> (std::sync::Arc<MetadataImage>, Vec<Uuid>) {
        let dir = tempfile::tempdir().unwrap();
        let meta = EmbeddedMeta::open(dir.path(), os_random()).unwrap();
        let topic = |name: &&str| NewTopic {
            name: (*name).to_owned(),
            partitions: 1,
            replication_factor: 1,
            configs: ConfigMap::new(),
            internal: name.starts_with("__"),
        };
        let topics: Vec<_> = names.iter().map(topic).collect();
        let created = meta.create_topics(&topics, 0).unwrap();
        (meta.image(), created.into_iter().map(|topic| topic.unwrap().id).collect())
    }

    fn name(name: &str) -> DeleteTopicState {
        DeleteTopicState { name: Some(name.into()), ..Default::default() }
    }

    fn id(topic_id: Uuid) -> DeleteTopicState {
        DeleteTopicState { topic_id, ..Default::default() }
    }

    /// The code of each row, and the id of what is deleted.
    fn codes(rows: &[Row]) -> Vec<Result<Uuid, ErrorCode>> {
        rows.iter()
            .map(|row| match &row.plan {
                Ok(id) => Ok(*id),
                Err(refusal) => Err(refusal.code),
            })
            .collect()
    }

    #[test]
    fn what_is_named_twice_is_refused_once_and_the_rest_is_deleted() {
        let (image, ids) = image(&["a", "b", "c"]);
        let rows = plan(&image, vec![name("a"), id(ids[1]), name("a"), id(ids[2]), id(ids[2])]);
        let refused = Err(ErrorCode::InvalidRequest);
        assert_eq!(codes(&rows), [refused, Ok(ids[1]), refused]);
    }

    #[test]
    fn a_topic_that_is_given_by_name_and_by_id_is_kept() {
        let (image, ids) = image(&["a", "b"]);
        let rows = plan(&image, vec![id(ids[0]), name("a"), id(ids[1])]);
        assert_eq!(codes(&rows), [Err(ErrorCode::InvalidRequest), Ok(ids[1])]);
        assert_eq!((rows[0].name.as_deref(), rows[0].id), (Some("a"), ids[0]));
    }

    #[test]
    fn what_is_not_there_or_not_named_is_refused() {
        let (image, _) = image(&["a", "__own"]);
        let both = DeleteTopicState { topic_id: Uuid::from_bytes([7; 16]), ..name("a") };
        let rows = plan(
            &image,
            vec![name("x"), id(Uuid::from_bytes([7; 16])), id(Uuid::ZERO), both, name("__own")],
        );
        assert_eq!(
            codes(&rows),
            [
                Err(ErrorCode::UnknownTopicOrPartition),
                Err(ErrorCode::UnknownTopicId),
                Err(ErrorCode::InvalidRequest),
                Err(ErrorCode::InvalidRequest),
                Err(ErrorCode::InvalidTopicException),
            ]
        );
    }
}
