//! The cluster: its brokers and its controller.

use std::{collections::BTreeSet, ops::RangeInclusive};

use bytestring::ByteString;
use kavka_protocol::{
    ApiKey, ErrorCode,
    messages::{DescribeClusterRequest, MetadataRequest},
};

use super::{
    Admin, Operation,
    rounds::{Left, Repeat},
};
use crate::{Error, cluster::Node, connection::Connection};

/// The versions of Metadata that tell what may be done with the cluster (KIP-430).
const OPERATIONS: RangeInclusive<i16> = 8..=10;

/// What a cluster consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDescription {
    /// Its id, if it has one.
    pub cluster_id: Option<ByteString>,
    /// The broker that administration goes to, if the cluster names one.
    pub controller: Option<i32>,
    /// The brokers that are alive, by id.
    pub brokers: Vec<Broker>,
    /// What this client may do with the cluster (KIP-430); brokers before 2.3 do not tell.
    pub authorized_operations: Option<BTreeSet<Operation>>,
}

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its id.
    pub id: i32,
    /// Where clients reach it.
    pub host: ByteString,
    /// Where clients reach it.
    pub port: u16,
    /// Where it stands.
    pub rack: Option<ByteString>,
}

impl Broker {
    pub(super) fn of(node: &Node) -> Self {
        let address = &node.address;
        Self {
            id: node.id,
            host: address.host.clone(),
            port: address.port,
            rack: node.rack.clone(),
        }
    }
}

impl Admin {
    /// The brokers and the controller, as they are now.
    ///
    /// Cancel safe: it only reads.
    ///
    /// # Errors
    /// No broker answers in time, or the cluster refuses.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, Error> {
        self.once(Repeat::Safe, |left| async move {
            let connection = self.cluster.any().await?;
            if connection.versions().has(ApiKey::DescribeCluster) {
                self.describe_cluster_at(&connection, left).await
            } else {
                self.describe_old_cluster_at(&connection, left).await
            }
        })
        .await
    }

    async fn describe_cluster_at(
        &self,
        connection: &Connection,
        left: Left,
    ) -> Result<ClusterDescription, Error> {
        let request = DescribeClusterRequest {
            include_cluster_authorized_operations: true,
            ..Default::default()
        };
        let response = self.ask(connection, &request, i16::MAX, left).await?;
        if response.error_code != ErrorCode::None {
            return Err(Error::broker(response.error_code, "describing the cluster")
                .with_detail(response.error_message.as_deref().map(AsRef::as_ref)));
        }
        let nodes = response
            .brokers
            .into_iter()
            .filter_map(|row| Node::new(row.broker_id, row.host, row.port, row.rack));
        Ok(ClusterDescription {
            cluster_id: Some(response.cluster_id).filter(|id| !id.is_empty()),
            controller: Some(response.controller_id).filter(|id| *id >= 0),
            brokers: in_order(nodes),
            authorized_operations: Operation::set(response.cluster_authorized_operations),
        })
    }

    /// Brokers before 2.8 tell the same with their metadata.
    async fn describe_old_cluster_at(
        &self,
        connection: &Connection,
        left: Left,
    ) -> Result<ClusterDescription, Error> {
        let version = Self::version::<MetadataRequest>(connection)?;
        let request = MetadataRequest {
            topics: Some(Vec::new()),
            include_cluster_authorized_operations: OPERATIONS.contains(&version),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let response = self.ask(connection, &request, version, left).await?;
        let brokers = response.brokers.into_iter();
        let nodes = brokers.filter_map(|row| Node::new(row.node_id, row.host, row.port, row.rack));
        Ok(ClusterDescription {
            cluster_id: response.cluster_id,
            controller: Some(response.controller_id).filter(|id| *id >= 0),
            brokers: in_order(nodes),
            authorized_operations: Operation::set(response.cluster_authorized_operations),
        })
    }
}

fn in_order(nodes: impl Iterator<Item = Node>) -> Vec<Broker> {
    let mut brokers: Vec<Broker> = nodes.map(|node| Broker::of(&node)).collect();
    brokers.sort_by_key(|broker| broker.id);
    brokers
}
