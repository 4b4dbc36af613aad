//! What AlterConfigs and IncrementalAlterConfigs have in common: which resource is meant, and how a change of it is checked.

use std::collections::HashMap;

use bytestring::ByteString;
use kavka_meta::{
    ConfigMap, ConfigResource, ConfigResourceType, TopicError, check_topic_name,
    config::{ConfigError, group, topic},
};
use kavka_protocol::ErrorCode;

use super::refusal::Refusal;
use crate::{config::validate_dynamic, dispatch::Context};

/// The resource that an alteration names.
pub(crate) fn resource(kind: i8, name: &str, node_id: i32) -> Result<ConfigResource, Refusal> {
    let invalid = |message: String| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    match ConfigResourceType::from_id(kind) {
        Some(ConfigResourceType::Topic) if name.is_empty() => {
            invalid("Default topic resources are not allowed.".to_owned())
        }
        Some(ConfigResourceType::Topic) => match check_topic_name(name) {
            Ok(()) => Ok(ConfigResource::topic(name)),
            Err(reason) => Err(Refusal::new(ErrorCode::InvalidTopicException, reason)),
        },
        Some(ConfigResourceType::Broker) if name.is_empty() => {
            Ok(ConfigResource::cluster_default())
        }
        Some(ConfigResourceType::Broker) => match name.parse::<i32>() {
            Ok(id) if id == node_id => Ok(ConfigResource::broker(node_id)),
            Ok(id) => {
                invalid(format!("Unexpected broker id, expected {node_id}, but received {id}"))
            }
            Err(_) => invalid(format!("Node id must be an integer, but it is: {name}")),
        },
        Some(ConfigResourceType::Group) if name.is_empty() => {
            invalid("Default group resources are not allowed.".to_owned())
        }
        Some(ConfigResourceType::Group) => Ok(ConfigResource::group(name)),
        // Nothing here reads client metrics.
        Some(ConfigResourceType::ClientMetrics) | None => {
            invalid(format!("Unknown resource type {kind}"))
        }
    }
}

/// Makes the change, or only checks it. Values are checked before the existence of a topic.
pub(crate) async fn alter(
    context: &Context,
    resource: ConfigResource,
    validate_only: bool,
    change: impl Fn(&ConfigMap) -> Result<ConfigMap, ConfigError> + Send + 'static,
) -> Result<(), Refusal> {
    let broker = &context.broker;
    let image = broker.meta.image();
    let checking = std::sync::Arc::clone(broker);
    let checked = resource.clone();
    let checked_change = move |current: &ConfigMap| {
        let next = change(current)?;
        match checked.kind {
            ConfigResourceType::Topic => {
                checking.with_broker_values(|values| topic::validate(&next, values))?;
            }
            ConfigResourceType::Group => checking
                .with_broker_values(|values| group::validate(&checked.name, &next, values))?,
            ConfigResourceType::Broker | ConfigResourceType::ClientMetrics => {
                validate_dynamic(&next)?;
            }
        }
        Ok(next)
    };
    checked_change(&image.configs(&resource)).map_err(Refusal::from)?;
    if resource.kind == ConfigResourceType::Topic && image.topic(&resource.name).is_none() {
        let unknown = TopicError::UnknownTopic { topic: resource.name };
        return Err(kavka_meta::AlterConfigsError::from(unknown).into());
    }
    if validate_only {
        return Ok(());
    }
    broker.alter_configs(resource, checked_change).await.map_err(Refusal::from)
}

/// What became of one resource of a request, in the columns of both responses.
pub(crate) struct Altered {
    pub(crate) kind: i8,
    pub(crate) name: ByteString,
    pub(crate) error_code: ErrorCode,
    pub(crate) error_message: Option<ByteString>,
}

/// Makes the changes of a request, one resource after the other; a resource that is named twice is not changed at all.
pub(crate) async fn alter_each<A, F>(
    asked: Vec<A>,
    named: impl Fn(&A) -> (i8, ByteString),
    change: impl Fn(A) -> F,
) -> Vec<Altered>
where
    F: Future<Output = Result<(), Refusal>>,
{
    let mut times = HashMap::new();
    for asked in &asked {
        *times.entry(named(asked)).or_insert(0) += 1;
    }
    let mut altered = Vec::with_capacity(asked.len());
    for asked in asked {
        let (kind, name) = named(&asked);
        let result = match times.get(&(kind, name.clone())) {
            Some(1) => change(asked).await,
            _ => Err(Refusal::new(
                ErrorCode::InvalidRequest,
                "Each resource must appear at most once.",
            )),
        };
        let (error_code, error_message) = match result {
            Ok(()) => (ErrorCode::None, None),
            Err(refusal) => (refusal.code, refusal.message.map(Into::into)),
        };
        altered.push(Altered { kind, name, error_code, error_message });
    }
    altered
}
