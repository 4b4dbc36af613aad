//! The in-memory image that every read is answered from.
//!
//! An image never changes; a write makes the next one. Whoever holds an `Arc<MetadataImage>` sees one consistent state
//! for as long as they hold it. All maps are ordered, so what is listed from them is sorted by name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use kavka_protocol::Uuid;

/// Config overrides of one resource: name to value, as text.
pub type ConfigMap = BTreeMap<String, String>;

/// One topic, as of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// The name, valid by [`crate::check_topic_name`].
    pub name: Arc<str>,
    /// The id; a topic that is deleted and created again under the same name gets a new one.
    pub id: Uuid,
    /// Number of partitions, at least 1; they are numbered from 0.
    pub partitions: i32,
    /// The replication factor asked for at creation, at least 1.
    pub replication_factor: i16,
    /// Config overrides set on this topic; what is not here comes from the broker.
    pub configs: Arc<ConfigMap>,
    /// When the topic was created, in milliseconds since the Unix epoch.
    pub created_at_ms: i64,
    /// Whether clients see the topic as internal (`is_internal` in Metadata).
    pub internal: bool,
}

/// The kinds of resource that carry configs here, with Kafka's resource type ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i8)]
pub enum ConfigResourceType {
    /// A topic, by name.
    Topic = 2,
    /// A broker by its decimal id, or the default of all brokers when the name is empty.
    Broker = 4,
    /// A client metrics subscription (KIP-714).
    ClientMetrics = 16,
    /// A consumer, share or streams group by id; the group need not exist.
    Group = 32,
}

impl ConfigResourceType {
    /// The type with this id on the wire, if it is one that carries configs here.
    #[must_use]
    pub fn from_id(id: i8) -> Option<Self> {
        match id {
            2 => Some(Self::Topic),
            4 => Some(Self::Broker),
            16 => Some(Self::ClientMetrics),
            32 => Some(Self::Group),
            _ => None,
        }
    }

    /// The id on the wire.
    #[must_use]
    pub fn id(self) -> i8 {
        self as i8
    }
}

/// What a set of configs belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigResource {
    /// The kind of resource.
    pub kind: ConfigResourceType,
    /// Topic name, broker id (empty: all brokers), subscription or group id.
    pub name: String,
}

impl ConfigResource {
    /// The configs of a topic.
    #[must_use]
    pub fn topic(name: impl Into<String>) -> Self {
        Self { kind: ConfigResourceType::Topic, name: name.into() }
    }

    /// The dynamic configs of one broker.
    #[must_use]
    pub fn broker(node_id: i32) -> Self {
        Self { kind: ConfigResourceType::Broker, name: node_id.to_string() }
    }

    /// The dynamic default configs of all brokers.
    #[must_use]
    pub fn cluster_default() -> Self {
        Self { kind: ConfigResourceType::Broker, name: String::new() }
    }

    /// The configs of a group.
    #[must_use]
    pub fn group(group_id: impl Into<String>) -> Self {
        Self { kind: ConfigResourceType::Group, name: group_id.into() }
    }
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ConfigResourceType::Topic => write!(f, "topic '{}'", self.name),
            ConfigResourceType::Broker if self.name.is_empty() => {
                f.write_str("the cluster-wide broker defaults")
            }
            ConfigResourceType::Broker => write!(f, "broker '{}'", self.name),
            ConfigResourceType::ClientMetrics => {
                write!(f, "client metrics subscription '{}'", self.name)
            }
            ConfigResourceType::Group => write!(f, "group '{}'", self.name),
        }
    }
}

/// Everything the cluster knows, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataImage {
    pub(crate) version: u64,
    pub(crate) cluster_id: Uuid,
    pub(crate) session_epoch: i32,
    pub(crate) topics: Arc<BTreeMap<Arc<str>, Arc<Topic>>>,
    pub(crate) topics_by_id: Arc<BTreeMap<Uuid, Arc<Topic>>>,
    pub(crate) configs: Arc<BTreeMap<ConfigResource, Arc<ConfigMap>>>,
}

impl MetadataImage {
    /// Rises by one with every change, within one process; not stored.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The cluster id, made once when the store was created.
    #[must_use]
    pub fn cluster_id(&self) -> Uuid {
        self.cluster_id
    }

    /// How many times the store was opened before this one; never equal in two runs on one data directory.
    #[must_use]
    pub fn session_epoch(&self) -> i32 {
        self.session_epoch
    }

    /// The leader epoch of a partition; `None` if the topic has no such partition.
    ///
    /// With one broker, leadership of everything starts over with each session, so this is the session epoch.
    #[must_use]
    pub fn leader_epoch(&self, topic: &Topic, partition: i32) -> Option<i32> {
        (0..topic.partitions).contains(&partition).then_some(self.session_epoch)
    }

    /// All topics by name.
    #[must_use]
    pub fn topics(&self) -> &BTreeMap<Arc<str>, Arc<Topic>> {
        &self.topics
    }

    /// The topic of this name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// The topic with this id.
    #[must_use]
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.topics_by_id.get(&id)
    }

    /// The configs set on a resource; empty when nothing is set, and for a topic that does not exist.
    #[must_use]
    pub fn configs(&self, resource: &ConfigResource) -> Arc<ConfigMap> {
        match resource.kind {
            ConfigResourceType::Topic => {
                self.topic(&resource.name).map(|topic| Arc::clone(&topic.configs))
            }
            _ => self.configs.get(resource).map(Arc::clone),
        }
        .unwrap_or_default()
    }

    /// The resources of a kind that have configs set, sorted by name; for topics: those with overrides.
    #[must_use]
    pub fn configured_resources(&self, kind: ConfigResourceType) -> Vec<ConfigResource> {
        match kind {
            ConfigResourceType::Topic => self
                .topics
                .values()
                .filter(|topic| !topic.configs.is_empty())
                .map(|topic| ConfigResource::topic(&*topic.name))
                .collect(),
            _ => self.configs.keys().filter(|resource| resource.kind == kind).cloned().collect(),
        }
    }

    /// The dynamic configs of one broker: the cluster-wide defaults, overridden by the broker's own.
    #[must_use]
    pub fn effective_broker_configs(&self, node_id: i32) -> ConfigMap {
        let mut configs = (*self.configs(&ConfigResource::cluster_default())).clone();
        let own = self.configs(&ConfigResource::broker(node_id));
        configs.extend(own.iter().map(|(name, value)| (name.clone(), value.clone())));
        configs
    }
}
