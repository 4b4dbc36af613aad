//! The cluster: its brokers and its controller.

use bytestring::ByteString;

use super::Admin;
use crate::Error;

/// What a cluster consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDescription {
    /// Its id, if it has one.
    pub cluster_id: Option<ByteString>,
    /// The broker that administration goes to, if the cluster names one.
    pub controller: Option<i32>,
    /// The brokers that are alive, by id.
    pub brokers: Vec<Broker>,
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

impl Admin {
    /// The brokers and the controller, as they are now.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// No broker answers in time, or the cluster refuses.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, Error> {
        let metadata =
            self.cluster.retry(self.timeout(), async |_| self.cluster.refresh().await).await?;
        let brokers = metadata.nodes.values();
        Ok(ClusterDescription {
            cluster_id: metadata.cluster_id.clone(),
            controller: metadata.controller,
            brokers: brokers
                .map(|node| Broker {
                    id: node.id,
                    host: node.address.host.clone(),
                    port: node.address.port,
                    rack: node.rack.clone(),
                })
                .collect(),
        })
    }
}
