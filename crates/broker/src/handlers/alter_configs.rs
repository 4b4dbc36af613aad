//! AlterConfigs: replaces all configs of resources. Needs ALTER_CONFIGS on each.
//!
//! # References
//! KIP-133.

use kavka_meta::{ConfigMap, config::apply_replacement};
use kavka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, alter_configs_request::AlterConfigsResource,
    alter_configs_response::AlterConfigsResourceResponse,
};

use super::{
    refusal::Refusal,
    resource_configs::{Altered, alter, alter_each, resource},
};
use crate::dispatch::Context;

pub(crate) async fn handle(context: Context, request: AlterConfigsRequest) -> AlterConfigsResponse {
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
    AlterConfigsResponse { responses: altered.into_iter().map(row).collect(), ..Default::default() }
}

async fn change(
    context: Context,
    asked: AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    let resource =
        resource(asked.resource_type, &asked.resource_name, context.broker.config.node_id)?;
    let values: Vec<_> = asked
        .configs
        .iter()
        .map(|config| (config.name.to_string(), config.value.as_ref().map(ToString::to_string)))
        .collect();
    alter(&context, resource, validate_only, move |_: &ConfigMap| apply_replacement(&values)).await
}
