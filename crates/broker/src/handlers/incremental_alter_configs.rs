//! IncrementalAlterConfigs: changes some configs of resources. Needs ALTER_CONFIGS on each.
//!
//! # References
//! KIP-339.

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
    resource_configs::{Altered, alter, alter_each, resource},
};
use crate::{config::BROKER_CONFIGS, dispatch::Context};

pub(crate) async fn handle(
    context: Context,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let named = |asked: &AlterConfigsResource| (asked.resource_type, asked.resource_name.clone());
    let change = |asked| change(context.clone(), asked, request.validate_only);
    let row = |altered: Altered| AlterConfigsResourceResponse {
        error_code: altered.error_code,
        error_message: altered.error_message,
        resource_type: altered.kind,
        resource_name: altered.name,
        ..Default::default()
    };
    let altered = alter_each(request.resources, named, change).await;
    IncrementalAlterConfigsResponse {
        responses: altered.into_iter().map(row).collect(),
        ..Default::default()
    }
}

async fn change(
    context: Context,
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
    alter(&context, resource, validate_only, move |current: &ConfigMap| {
        apply_incremental(definitions, current, &changes)
    })
    .await
}
