//! Which groups there are.

use std::collections::{BTreeMap, BTreeSet};

use bytestring::ByteString;
use kavka_protocol::{ErrorCode, messages::ListGroupsRequest};

use super::{GroupState, GroupType};
use crate::{
    Error,
    admin::{
        Admin,
        rounds::{Answered, Left, Repeat, unsupported},
    },
    cluster::Node,
    connection::Connection,
};

/// From these versions of ListGroups on: states (KIP-518; Kafka 2.6), types (KIP-848; Kafka 3.8).
const STATES: i16 = 4;
const TYPES: i16 = 5;

/// Which groups are wanted; the default: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupFilter {
    /// Only those in one of these states; empty: in any.
    pub states: BTreeSet<GroupState>,
    /// Only those of one of these types; empty: of any. Every group of a broker before 3.8 is taken for a classic one.
    pub types: BTreeSet<GroupType>,
}

/// The groups of a cluster.
#[derive(Clone, Debug, Default)]
pub struct GroupList {
    /// The groups, by id.
    pub groups: BTreeMap<ByteString, GroupListing>,
    /// The brokers that could not tell of theirs, and why: groups may be missing.
    pub errors: BTreeMap<i32, Error>,
}

/// A group, in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub group_id: ByteString,
    /// Its type; brokers before 3.8 do not tell.
    pub group_type: Option<GroupType>,
    /// Its state; brokers before 2.6 do not tell.
    pub state: Option<GroupState>,
    /// `consumer` for consumers; empty if nobody ever joined.
    pub protocol_type: ByteString,
    /// The broker that coordinates it.
    pub coordinator: i32,
}

impl Admin {
    /// The groups of all brokers, each asked at the same time.
    ///
    /// Cancel safe: it only reads.
    ///
    /// # Errors
    /// No broker tells which others there are. That one of these does not answer is in [`GroupList::errors`], and so is that it
    /// is too old to look at states.
    pub async fn list_groups(&self, filter: &GroupFilter) -> Result<GroupList, Error> {
        let nodes = self.once(Repeat::Safe, |left| self.brokers_now(left)).await?;
        let nodes: &BTreeMap<i32, Node> = &nodes.into_iter().map(|node| (node.id, node)).collect();
        let rows = self.rounds(nodes.keys().copied(), |ids, left| {
            let asked =
                ids.iter().filter_map(|id| Some((nodes.get(id)?.clone(), vec![*id]))).collect();
            let ask = move |connection, node: Node, _: Vec<i32>| async move {
                self.list_groups_at(&connection, node.id, filter, left).await
            };
            self.at_nodes(asked, Repeat::Safe, ask)
        });
        let mut list = GroupList::default();
        for (broker, row) in rows.await {
            match row {
                Ok(groups) => list
                    .groups
                    .extend(groups.into_iter().map(|group| (group.group_id.clone(), group))),
                Err(error) => drop(list.errors.insert(broker, error)),
            }
        }
        Ok(list)
    }

    async fn list_groups_at(
        &self,
        connection: &Connection,
        broker: i32,
        filter: &GroupFilter,
        left: Left,
    ) -> Answered<i32, Vec<GroupListing>> {
        let version = Self::version::<ListGroupsRequest>(connection)?;
        if !filter.states.is_empty() && version < STATES {
            return Err(unsupported("look for groups by state", "2.6"));
        }
        let types = filter.types.iter().filter(|_| version >= TYPES);
        let request = ListGroupsRequest {
            states_filter: filter.states.iter().map(|state| state.to_string().into()).collect(),
            types_filter: types.map(|group_type| group_type.to_string().into()).collect(),
            ..Default::default()
        };
        let response = self.ask(connection, &request, version, left).await?;
        if response.error_code != ErrorCode::None {
            let what = format_args!("listing the groups of broker {broker}");
            return Ok(vec![(broker, Err(Error::broker(response.error_code, what)))]);
        }
        let groups = response.groups.into_iter().map(|row| GroupListing {
            group_id: row.group_id,
            group_type: (version >= TYPES).then(|| GroupType::named(row.group_type)),
            state: (version >= STATES).then(|| GroupState::named(row.group_state)),
            protocol_type: row.protocol_type,
            coordinator: broker,
        });
        let is_wanted = |group: &GroupListing| {
            let group_type = group.group_type.as_ref().unwrap_or(&GroupType::Classic);
            filter.types.is_empty() || filter.types.contains(group_type)
        };
        Ok(vec![(broker, Ok(groups.filter(is_wanted).collect()))])
    }
}
