//! DescribeCluster: the brokers there are. Needs DESCRIBE on the cluster for the authorized operations.
//!
//! # References
//! KIP-700, KIP-919 (endpoint types), KIP-1073 (fenced brokers).

use kavka_protocol::{
    ErrorCode,
    messages::{
        DescribeClusterRequest, DescribeClusterResponse,
        describe_cluster_response::DescribeClusterBroker,
    },
};

use super::operations::{ALL_CLUSTER_OPERATIONS, if_asked};
use crate::dispatch::Context;

const ENDPOINT_TYPE_BROKER: i8 = 1;
const ENDPOINT_TYPE_CONTROLLER: i8 = 2;

pub(crate) async fn handle(
    context: Context,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    let refused = |error_code, message: String| DescribeClusterResponse {
        error_code,
        error_message: Some(message.into()),
        ..Default::default()
    };
    match request.endpoint_type {
        ENDPOINT_TYPE_BROKER => {}
        ENDPOINT_TYPE_CONTROLLER => {
            return refused(
                ErrorCode::MismatchedEndpointType,
                "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER"
                    .to_owned(),
            );
        }
        other => {
            return refused(
                ErrorCode::UnsupportedEndpointType,
                format!("Unsupported endpoint type {other}"),
            );
        }
    }
    let broker = &context.broker;
    let (host, port) = context.advertised();
    DescribeClusterResponse {
        cluster_id: broker.meta.image().cluster_id().to_string().into(),
        controller_id: broker.config.node_id,
        brokers: vec![DescribeClusterBroker {
            broker_id: broker.config.node_id,
            host,
            port,
            rack: broker.config.rack.as_deref().map(Into::into),
            ..Default::default()
        }],
        cluster_authorized_operations: if_asked(
            request.include_cluster_authorized_operations,
            ALL_CLUSTER_OPERATIONS,
        ),
        ..Default::default()
    }
}
