//! Brokers, topics, partitions and their leaders, as the cluster told.

use std::collections::BTreeMap;

use bytestring::ByteString;
use kavka_protocol::{ErrorCode, Uuid, messages::MetadataResponse};

use super::Wanted;
use crate::settings::Address;

/// A snapshot of what is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Metadata {
    /// The cluster's id, if it has told.
    pub(crate) cluster_id: Option<ByteString>,
    /// The broker to ask for administration.
    pub(crate) controller: Option<i32>,
    /// The brokers, by id.
    pub(crate) nodes: BTreeMap<i32, Node>,
    /// The topics that were asked for, by name.
    pub(crate) topics: BTreeMap<ByteString, TopicInfo>,
}

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Its id.
    pub(crate) id: i32,
    /// Where it listens.
    pub(crate) address: Address,
    /// Where it stands.
    pub(crate) rack: Option<ByteString>,
}

/// A topic.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TopicInfo {
    /// Its id; zero from brokers older than 2.8.
    pub(crate) id: Uuid,
    /// Why there is nothing to know, if so.
    pub(crate) error: ErrorCode,
    /// Whether the cluster keeps its own affairs in it.
    pub(crate) is_internal: bool,
    /// The partitions, by index, without gaps.
    pub(crate) partitions: Vec<PartitionInfo>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PartitionInfo {
    /// Why it has no leader, if so.
    pub(crate) error: ErrorCode,
    /// The broker to produce to and fetch from.
    pub(crate) leader: Option<i32>,
    /// The leader's epoch; -1 if the broker is too old to tell.
    pub(crate) leader_epoch: i32,
    /// Who has a copy.
    pub(crate) replicas: Vec<i32>,
    /// Whose copies are complete.
    pub(crate) in_sync_replicas: Vec<i32>,
    /// Whose copies cannot be reached.
    pub(crate) offline_replicas: Vec<i32>,
}

impl Node {
    /// A broker; `None` if the port is none.
    pub(crate) fn new(
        id: i32,
        host: ByteString,
        port: i32,
        rack: Option<ByteString>,
    ) -> Option<Node> {
        let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
        Some(Node { id, address: Address { host, port }, rack })
    }
}

impl Metadata {
    /// A partition.
    pub(crate) fn partition(&self, topic: &str, partition: i32) -> Option<&PartitionInfo> {
        let topic = self.topics.get(topic)?;
        topic.partitions.get(usize::try_from(partition).ok()?)
    }

    /// The same topics, but nobody to ask.
    pub(super) fn without_brokers(&self) -> Metadata {
        Metadata { controller: None, nodes: BTreeMap::new(), ..self.clone() }
    }

    /// What is known after a response. A leader with an older epoch than the known one is not taken: the broker that answered was
    /// behind. A topic that failed for the moment keeps what is known of it. A topic that is not wanted any more is forgotten.
    pub(super) fn updated(&self, response: MetadataResponse, wanted: &Wanted) -> Metadata {
        let nodes: BTreeMap<i32, Node> = response
            .brokers
            .into_iter()
            .filter_map(|row| Node::new(row.node_id, row.host, row.port, row.rack))
            .map(|node| (node.id, node))
            .collect();
        let mut topics: BTreeMap<ByteString, TopicInfo> = match wanted {
            Wanted::Topics(wanted) => {
                self.topics.iter().filter(|(name, _)| wanted.contains(*name)).map(cloned).collect()
            }
            Wanted::Nothing | Wanted::Everything => BTreeMap::new(),
        };
        for row in response.topics {
            let Some(name) = row.name else { continue };
            let known = self.topics.get(&name);
            let is_passing = row.error_code.is_retriable()
                && row.error_code != ErrorCode::UnknownTopicOrPartition;
            if let (true, Some(known)) = (is_passing, known) {
                topics.insert(name, known.clone());
                continue;
            }
            let known =
                known.filter(|known| known.id == row.topic_id || row.topic_id == Uuid::ZERO);
            let mut partitions: Vec<(i32, PartitionInfo)> = row
                .partitions
                .into_iter()
                .map(|row| {
                    let fresh = PartitionInfo {
                        error: row.error_code,
                        leader: Some(row.leader_id).filter(|id| *id >= 0),
                        leader_epoch: row.leader_epoch,
                        replicas: row.replica_nodes,
                        in_sync_replicas: row.isr_nodes,
                        offline_replicas: row.offline_replicas,
                    };
                    let index = usize::try_from(row.partition_index).ok();
                    let known = index.and_then(|index| known?.partitions.get(index));
                    let newer = known.filter(|known| {
                        row.leader_epoch >= 0 && known.leader_epoch > row.leader_epoch
                    });
                    (row.partition_index, newer.cloned().unwrap_or(fresh))
                })
                .collect();
            partitions.sort_by_key(|(index, _)| *index);
            // Brokers list all partitions of a topic. One that does not is not believed beyond the gap.
            let whole = partitions
                .into_iter()
                .enumerate()
                .take_while(|(at, (index, _))| i32::try_from(*at).is_ok_and(|at| at == *index))
                .map(|(_, (_, partition))| partition)
                .collect();
            topics.insert(
                name,
                TopicInfo {
                    id: row.topic_id,
                    error: row.error_code,
                    is_internal: row.is_internal,
                    partitions: whole,
                },
            );
        }
        Metadata {
            cluster_id: response.cluster_id,
            controller: Some(response.controller_id).filter(|id| *id >= 0),
            nodes,
            topics,
        }
    }

    /// The same with another leader, if that is news.
    pub(super) fn with_leader(
        &self,
        topic: &ByteString,
        partition: i32,
        leader: i32,
        leader_epoch: i32,
        endpoint: Option<Node>,
    ) -> Option<Metadata> {
        let known = self.partition(topic, partition)?;
        if leader_epoch <= known.leader_epoch || leader < 0 {
            return None;
        }
        let mut changed = self.clone();
        if let Some(node) = endpoint.filter(|node| node.id == leader) {
            changed.nodes.insert(leader, node);
        }
        if !changed.nodes.contains_key(&leader) {
            return None;
        }
        let index = usize::try_from(partition).ok()?;
        let info = changed.topics.get_mut(topic)?.partitions.get_mut(index)?;
        info.leader = Some(leader);
        info.leader_epoch = leader_epoch;
        info.error = ErrorCode::None;
        Some(changed)
    }
}

fn cloned((name, topic): (&ByteString, &TopicInfo)) -> (ByteString, TopicInfo) {
    (name.clone(), topic.clone())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kavka_protocol::messages::metadata_response::{
        MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    };

    use super::*;

    fn response(epoch: i32, leader: i32, code: ErrorCode) -> MetadataResponse {
        MetadataResponse {
            brokers: (1..=2)
                .map(|id| MetadataResponseBroker {
                    node_id: id,
                    host: "h".into(),
                    port: 9000 + id,
                    ..Default::default()
                })
                .collect(),
            controller_id: 1,
            topics: vec![MetadataResponseTopic {
                name: Some("t".into()),
                error_code: code,
                partitions: vec![MetadataResponsePartition {
                    partition_index: 0,
                    leader_id: leader,
                    leader_epoch: epoch,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn wanted() -> Wanted {
        Wanted::Topics(BTreeSet::from(["t".into()]))
    }

    #[test]
    fn a_broker_that_is_behind_does_not_bring_an_old_leader_back() {
        let first = Metadata::default().updated(response(5, 1, ErrorCode::None), &wanted());
        let second = first.updated(response(4, 2, ErrorCode::None), &wanted());
        assert_eq!(second.partition("t", 0).and_then(|info| info.leader), Some(1));
        let third = second.updated(response(6, 2, ErrorCode::None), &wanted());
        assert_eq!(third.partition("t", 0).and_then(|info| info.leader), Some(2));
    }

    #[test]
    fn a_passing_error_keeps_what_is_known_and_a_missing_topic_does_not() {
        let first = Metadata::default().updated(response(5, 1, ErrorCode::None), &wanted());
        let second = first.updated(response(-1, -1, ErrorCode::LeaderNotAvailable), &wanted());
        assert_eq!(second.topics, first.topics);
        let third = second.updated(response(-1, -1, ErrorCode::UnknownTopicOrPartition), &wanted());
        assert_eq!(third.topics["t"].error, ErrorCode::UnknownTopicOrPartition);
        let none = third.updated(MetadataResponse::default(), &Wanted::Topics(BTreeSet::new()));
        assert!(none.topics.is_empty());
    }

    #[test]
    fn a_leader_named_with_an_error_is_taken_if_its_epoch_is_newer() {
        let first = Metadata::default().updated(response(5, 1, ErrorCode::None), &wanted());
        let topic = ByteString::from("t");
        assert_eq!(first.with_leader(&topic, 0, 2, 5, None), None);
        assert_eq!(first.with_leader(&topic, 0, 9, 6, None), None, "nobody knows where 9 is");
        let node = Node::new(9, "n".into(), 1, None);
        let second = first.with_leader(&topic, 0, 9, 6, node).expect("news");
        assert_eq!(second.partition("t", 0).and_then(|info| info.leader), Some(9));
        assert!(second.nodes.contains_key(&9));
    }
}
