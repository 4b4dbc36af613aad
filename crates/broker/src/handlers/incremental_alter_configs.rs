//! IncrementalAlterConfigs: changes some configs of resources. Needs ALTER_CONFIGS on each.
//!
//! # References
//! KIP-339.

use std::collections::HashMap;

use kavka_meta::{
    ConfigMap, ConfigResourceType,
    config::{Alteration, ConfigOp, apply_incremental, group::GROUP_CONFIGS, topic::TOPIC_CONFIGS},
};
use kavka_protocol::{
    ErrorCode,
    messages::{
        IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
        incremental_alter_configs_request::AlterConfigsResource,
        incremental_alter_configs_response::AlterConfigsResourceResponse,
    },
};

use super::{
    refusal::Refusal,
    resource_configs::{alter, named_twice, resource},
};
use crate::{config::BROKER_CONFIGS, dispatch::Context};

pub(crate) async fn handle(
    context: Context,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut times = HashMap::new();
    for asked in &request.resources {
        *times.entry((asked.resource_type, asked.resource_name.clone())).or_insert(0) += 1;
    }
    let mut responses = Vec::with_capacity(request.resources.len());
    for asked in request.resources {
        let (kind, name) = (asked.resource_type, asked.resource_name.clone());
        let result = match times.get(&(kind, name.clone())) {
            Some(1) => change(&context, asked, request.validate_only).await,
            _ => Err(named_twice()),
        };
        let refusal = result.err();
        responses.push(AlterConfigsResourceResponse {
            error_code: refusal.as_ref().map_or(ErrorCode::None, |refusal| refusal.code),
            error_message: refusal.and_then(|refusal| refusal.message).map(Into::into),
            resource_type: kind,
            resource_name: name,
            ..Default::default()
        });
    }
    IncrementalAlterConfigsResponse { responses, ..Default::default() }
}

async fn change(
    context: &Context,
    asked: AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    let resource =
        resource(asked.resource_type, &asked.resource_name, context.broker.config.node_id)?;
    let mut changes = Vec::with_capacity(asked.configs.len());
    for config in &asked.configs {
        let op = ConfigOp::from_id(config.config_operation).ok_or_else(|| {
            Refusal::new(
                ErrorCode::InvalidRequest,
                format!("Unknown config operation {}", config.config_operation),
            )
        })?;
        let value = config.value.as_ref().map(ToString::to_string);
        changes.push(Alteration { name: config.name.to_string(), op, value });
    }
    let definitions = match resource.kind {
        ConfigResourceType::Topic => TOPIC_CONFIGS,
        ConfigResourceType::Group => GROUP_CONFIGS,
        ConfigResourceType::Broker | ConfigResourceType::ClientMetrics => BROKER_CONFIGS,
    };
    alter(context, resource, validate_only, move |current: &ConfigMap| {
        apply_incremental(definitions, current, &changes)
    })
    .await
}
