//! CreateTopics. Needs CREATE on the cluster or on the topic.
//!
//! Topics succeed or fail each by itself. One that was created is served before the answer.
//!
//! # References
//! KIP-4, KIP-525 (configs in the response), KIP-464 (defaults), KIP-599.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use bytestring::ByteString;
use kavka_meta::{
    ConfigMap, MetadataImage, NewTopic, Topic, TopicError, check_new_topic,
    config::{BrokerValues, ConfigEntry, topic as topic_config},
};
use kavka_protocol::{
    ErrorCode, Uuid,
    messages::{
        CreateTopicsRequest, CreateTopicsResponse,
        create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig},
        create_topics_response::{CreatableTopicConfigs, CreatableTopicResult},
    },
};
use tracing::error;

use super::refusal::{Refusal, check_replicas};
use crate::{dispatch::Context, internal_topics::is_internal, topic_changes::MAX_NEW_PARTITIONS};

/// A name that belongs to what a Kafka cluster keeps about itself.
const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";
/// Asks for the broker's default.
const DEFAULT: i32 = -1;

/// What a topic gets that does not say.
#[derive(Clone, Copy)]
struct Defaults {
    node_id: i32,
    partitions: i32,
    replication_factor: i16,
}

pub(crate) async fn handle(context: Context, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let broker = &context.broker;
    let defaults = Defaults {
        node_id: broker.config.node_id,
        partitions: broker.config.topics.default_partitions,
        replication_factor: broker.config.topics.default_replication_factor,
    };
    let mut rows = Vec::new();
    let mut wanted = Vec::new();
    let image = broker.meta.image();
    let too_many = too_many_partitions(&request.topics, defaults);
    let mut times = count_names(&request.topics);
    for topic in &request.topics {
        let name = topic.name.clone();
        let checked = match times.remove(&name) {
            // Refused when it came first.
            None => continue,
            Some(1) if too_many => Err(excessive()),
            Some(1) => broker.with_broker_values(|values| check(&image, values, defaults, topic)),
            Some(_) => Err(duplicate_name()),
        };
        match checked {
            Ok(topic) => {
                rows.push(Row::Wanted(wanted.len()));
                wanted.push(topic);
            }
            Err(refusal) => rows.push(Row::Refused(name, refusal)),
        }
    }
    let results = if request.validate_only {
        wanted.into_iter().map(|topic| Ok(not_created(&topic))).collect()
    } else if wanted.is_empty() {
        Vec::new()
    } else {
        create(&context, wanted).await
    };
    let row = |row| match row {
        Row::Refused(name, refusal) => refused(name, refusal),
        Row::Wanted(index) => match results[index].clone() {
            Ok(created) => succeeded(&context, created),
            Err((name, refusal)) => refused(name.into(), refusal),
        },
    };
    CreateTopicsResponse { topics: rows.into_iter().map(row).collect(), ..Default::default() }
}

/// A row of the response: a refusal, or an index into what is to be created.
enum Row {
    Refused(ByteString, Refusal),
    Wanted(usize),
}

type Results = Vec<Result<Arc<Topic>, (String, Refusal)>>;

async fn create(context: &Context, topics: Vec<NewTopic>) -> Results {
    let names: Vec<_> = topics.iter().map(|topic| topic.name.clone()).collect();
    match context.broker.create_topics(topics).await {
        Ok(results) => results
            .into_iter()
            .zip(names)
            .map(|(result, name)| result.map_err(|refused| (name, refused.into())))
            .collect(),
        Err(failed) => {
            error!("cannot create topics: {failed}");
            names.into_iter().map(|name| Err((name, Refusal::from(&failed)))).collect()
        }
    }
}

/// What `validate_only` answers with; no topic, so no topic id.
fn not_created(topic: &NewTopic) -> Arc<Topic> {
    Arc::new(Topic {
        name: topic.name.as_str().into(),
        id: Uuid::ZERO,
        partitions: topic.partitions,
        replication_factor: topic.replication_factor,
        configs: Arc::new(topic.configs.clone()),
        created_at_ms: 0,
        internal: topic.internal,
    })
}

fn succeeded(context: &Context, topic: Arc<Topic>) -> CreatableTopicResult {
    let described =
        context.broker.with_broker_values(|values| topic_config::describe(&topic.configs, values));
    let config = |entry: ConfigEntry| CreatableTopicConfigs {
        name: entry.name.into(),
        value: entry.value.map(Into::into),
        read_only: entry.read_only,
        config_source: entry.source.id(),
        is_sensitive: entry.sensitive,
        ..Default::default()
    };
    CreatableTopicResult {
        name: ByteString::from(&*topic.name),
        topic_id: topic.id,
        error_message: None,
        num_partitions: topic.partitions,
        replication_factor: topic.replication_factor,
        configs: Some(described.into_iter().map(config).collect()),
        ..Default::default()
    }
}

fn refused(name: ByteString, refusal: Refusal) -> CreatableTopicResult {
    CreatableTopicResult {
        name,
        error_code: refusal.code,
        error_message: refusal.message.map(Into::into),
        configs: Some(Vec::new()),
        ..Default::default()
    }
}

fn count_names(topics: &[CreatableTopic]) -> HashMap<ByteString, usize> {
    let mut times = HashMap::new();
    for topic in topics {
        *times.entry(topic.name.clone()).or_insert(0) += 1;
    }
    times
}

fn duplicate_name() -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name.")
}

fn excessive() -> Refusal {
    Refusal::new(ErrorCode::PolicyViolation, "Excessively large number of partitions per request.")
}

fn too_many_partitions(topics: &[CreatableTopic], defaults: Defaults) -> bool {
    let partitions = |topic: &CreatableTopic| match topic.num_partitions {
        _ if !topic.assignments.is_empty() => topic.assignments.len() as i64,
        DEFAULT => i64::from(defaults.partitions),
        partitions => i64::from(partitions.max(0)),
    };
    topics.iter().map(partitions).sum::<i64>() > MAX_NEW_PARTITIONS
}

/// The topic as it is to be created, or the first of Kafka's rules that it breaks.
fn check(
    image: &MetadataImage,
    values: &BrokerValues<'_>,
    defaults: Defaults,
    topic: &CreatableTopic,
) -> Result<NewTopic, Refusal> {
    if topic.name == CLUSTER_METADATA_TOPIC {
        return Err(Refusal::new(
            ErrorCode::InvalidRequest,
            format!("Creation of internal topic {CLUSTER_METADATA_TOPIC} is prohibited."),
        ));
    }
    let mut new = NewTopic {
        name: topic.name.to_string(),
        partitions: 1,
        replication_factor: 1,
        configs: ConfigMap::new(),
        internal: is_internal(&topic.name),
    };
    // The name comes first, the counts after the configs: so the counts are not the request's yet.
    check_new_topic(image, &new)?;
    new.configs = configs(topic)?;
    topic_config::validate(&new.configs, values)?;
    if topic.assignments.is_empty() {
        (new.partitions, new.replication_factor) = counts(topic, defaults)?;
    } else {
        (new.partitions, new.replication_factor) = assigned(topic, defaults.node_id)?;
    }
    Ok(new)
}

fn configs(topic: &CreatableTopic) -> Result<ConfigMap, Refusal> {
    let nulls: Vec<_> = topic
        .configs
        .iter()
        .filter(|config| config.value.is_none())
        .map(|config| &*config.name)
        .collect();
    if !nulls.is_empty() {
        return Err(Refusal::new(
            ErrorCode::InvalidConfig,
            format!("Null value not supported for topic configs: {}", nulls.join(",")),
        ));
    }
    // Of a config that is named twice, the last value counts.
    let entry = |config: &CreatableTopicConfig| {
        Some((config.name.to_string(), config.value.as_ref()?.to_string()))
    };
    Ok(topic.configs.iter().filter_map(entry).collect())
}

fn counts(topic: &CreatableTopic, defaults: Defaults) -> Result<(i32, i16), Refusal> {
    let replication_factor = match topic.replication_factor {
        // There is one broker, whatever the default asks for.
        -1 => defaults.replication_factor.min(1),
        given => given,
    };
    let partitions = match topic.num_partitions {
        DEFAULT => defaults.partitions,
        given => given,
    };
    let topic = || topic.name.to_string();
    if replication_factor < 1 {
        return Err(TopicError::InvalidReplicationFactor { topic: topic() }.into());
    }
    if partitions < 1 {
        return Err(TopicError::InvalidPartitions { topic: topic() }.into());
    }
    if replication_factor > 1 {
        return Err(Refusal::new(
            ErrorCode::InvalidReplicationFactor,
            format!(
                "Unable to replicate the partition {replication_factor} time(s): The target replication factor of {replication_factor} cannot be reached because only 1 broker(s) are registered."
            ),
        ));
    }
    Ok((partitions, replication_factor))
}

/// The counts that follow from replicas that were assigned by hand.
fn assigned(topic: &CreatableTopic, node_id: i32) -> Result<(i32, i16), Refusal> {
    let given = match () {
        () if topic.replication_factor != -1 => Some("replication factor"),
        () if topic.num_partitions != DEFAULT => Some("numPartitions"),
        () => None,
    };
    if let Some(given) = given {
        return Err(Refusal::new(
            ErrorCode::InvalidRequest,
            format!("A manual partition assignment was specified, but {given} was not set to -1."),
        ));
    }
    let invalid = |message: String| Refusal::new(ErrorCode::InvalidReplicaAssignment, message);
    let mut indexes: Vec<i32> = Vec::with_capacity(topic.assignments.len());
    let mut seen = BTreeSet::new();
    for CreatableReplicaAssignment { partition_index, broker_ids, .. } in &topic.assignments {
        if !seen.insert(*partition_index) {
            return Err(invalid(format!(
                "Found multiple manual partition assignments for partition {partition_index}"
            )));
        }
        // One broker and no duplicates: all lists have one length.
        check_replicas(broker_ids, node_id)?;
        indexes.push(*partition_index);
    }
    indexes.sort_unstable();
    if !indexes.iter().copied().eq(0..indexes.len() as i32) {
        return Err(invalid(
            "partitions should be a consecutive 0-based integer sequence".to_owned(),
        ));
    }
    Ok((indexes.len() as i32, 1))
}

#[cfg(test)]
mod tests;
