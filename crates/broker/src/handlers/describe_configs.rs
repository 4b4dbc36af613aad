//! DescribeConfigs: the values in effect, and where they come from. Needs DESCRIBE_CONFIGS on each resource.
//!
//! # References
//! KIP-133, KIP-226 (synonyms), KIP-569 (types and documentation), KIP-848 (groups).

use std::collections::BTreeSet;

use kavka_meta::{
    ConfigResource, ConfigResourceType, check_topic_name,
    config::{ConfigEntry, group, topic},
};
use kavka_protocol::{
    ErrorCode,
    messages::{
        DescribeConfigsRequest, DescribeConfigsResponse,
        describe_configs_request::DescribeConfigsResource,
        describe_configs_response::{
            DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
        },
    },
};

use super::refusal::Refusal;
use crate::{broker::Broker, config::BrokerConfig, dispatch::Context};

pub(crate) async fn handle(
    context: Context,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let (synonyms, docs) = (request.include_synonyms, request.include_documentation);
    let describe = |asked: DescribeConfigsResource| {
        let (entries, refusal) =
            match describe(&context.broker, asked.resource_type, &asked.resource_name) {
                Ok(entries) => (entries, None),
                Err(refusal) => (Vec::new(), Some(refusal)),
            };
        let keys: Option<BTreeSet<_>> = asked
            .configuration_keys
            .filter(|keys| !keys.is_empty())
            .map(|keys| keys.into_iter().collect());
        let named =
            |entry: &ConfigEntry| keys.as_ref().is_none_or(|keys| keys.contains(entry.name));
        let row = |entry| row(entry, synonyms, docs);
        DescribeConfigsResult {
            configs: entries.into_iter().filter(named).map(row).collect(),
            error_code: refusal.as_ref().map_or(ErrorCode::None, |refusal| refusal.code),
            error_message: Some(
                refusal.and_then(|refusal| refusal.message).unwrap_or_default().into(),
            ),
            resource_type: asked.resource_type,
            resource_name: asked.resource_name,
            ..Default::default()
        }
    };
    DescribeConfigsResponse {
        results: request.resources.into_iter().map(describe).collect(),
        ..Default::default()
    }
}

fn row(entry: ConfigEntry, synonyms: bool, docs: bool) -> DescribeConfigsResourceResult {
    let synonym = |synonym: kavka_meta::config::Synonym| DescribeConfigsSynonym {
        name: synonym.name.into(),
        value: synonym.value.map(Into::into),
        source: synonym.source.id(),
        ..Default::default()
    };
    let shown = if synonyms { entry.synonyms } else { Vec::new() };
    DescribeConfigsResourceResult {
        name: entry.name.into(),
        value: entry.value.map(Into::into),
        read_only: entry.read_only,
        config_source: entry.source.id(),
        is_sensitive: entry.sensitive,
        synonyms: shown.into_iter().map(synonym).collect(),
        config_type: entry.kind.id(),
        documentation: docs.then(|| entry.documentation.into()),
        ..Default::default()
    }
}

fn describe(broker: &Broker, kind: i8, name: &str) -> Result<Vec<ConfigEntry>, Refusal> {
    let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    let image = broker.meta.image();
    let node_id = broker.config.node_id;
    match ConfigResourceType::from_id(kind) {
        Some(ConfigResourceType::Topic) => {
            check_topic_name(name)
                .map_err(|reason| Refusal::new(ErrorCode::InvalidTopicException, reason))?;
            let Some(found) = image.topic(name) else {
                return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, ""));
            };
            Ok(broker.with_broker_values(|values| topic::describe(&found.configs, values)))
        }
        Some(ConfigResourceType::Broker) => {
            let default = image.configs(&ConfigResource::cluster_default());
            if name.is_empty() {
                return Ok(BrokerConfig::describe_cluster_default(&default));
            }
            match name.parse::<i32>() {
                Ok(id) if id == node_id => {
                    let own = image.configs(&ConfigResource::broker(node_id));
                    Ok(broker.config.describe(&own, &default))
                }
                Ok(id) => invalid(&format!(
                    "Unexpected broker id, expected {node_id} or empty string, but received {id}"
                )),
                Err(_) => invalid(&format!("Broker id must be an integer, but it is: {name}")),
            }
        }
        Some(ConfigResourceType::Group) if name.is_empty() => {
            invalid("Group name must not be empty")
        }
        Some(ConfigResourceType::Group) => {
            let own = image.configs(&ConfigResource::group(name));
            Ok(broker.with_broker_values(|values| group::describe(&own, values)))
        }
        Some(ConfigResourceType::ClientMetrics) | None => {
            Err(Refusal::plain(ErrorCode::InvalidRequest))
        }
    }
}
