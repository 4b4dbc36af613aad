//! AlterConfigs: replaces all configs of resources. Needs ALTER_CONFIGS on each.
//!
//! # References
//! KIP-133.

use std::collections::HashMap;

use kavka_meta::{ConfigMap, config::apply_replacement};
use kavka_protocol::{
    ErrorCode,
    messages::{
        AlterConfigsRequest, AlterConfigsResponse, alter_configs_request::AlterConfigsResource,
        alter_configs_response::AlterConfigsResourceResponse,
    },
};

use super::{
    refusal::Refusal,
    resource_configs::{alter, named_twice, resource},
};
use crate::dispatch::Context;

pub(crate) async fn handle(context: Context, request: AlterConfigsRequest) -> AlterConfigsResponse {
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
    AlterConfigsResponse { responses, ..Default::default() }
}

async fn change(
    context: &Context,
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
    alter(context, resource, validate_only, move |_: &ConfigMap| apply_replacement(&values)).await
}
