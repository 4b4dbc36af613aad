//! What an assignor is: a name, the protocols it can serve, and a pure function from a [`Group`] to an [`Assignment`].
//!
//! It also holds the list of those that come with the crate. It owns no bytes: see [`crate::leader`].

use std::{error::Error, fmt};

use bytes::Bytes;
use bytestring::ByteString;
use kavka_protocol::messages::consumer_protocol_assignment::TopicPartition;

use crate::{
    assignment::Assignment,
    client::{CooperativeSticky, Range, RoundRobin, Sticky},
    group::Group,
};

/// How members give up partitions when a group rebalances (KIP-429).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RebalanceProtocol {
    /// All of them, before they join.
    Eager,
    /// Only those that an assignment takes away, after they have it; what moves between members takes a second rebalance.
    Cooperative,
}

/// What a member was last assigned, and in which generation.
#[derive(Clone, Copy, Debug)]
pub struct LastAssignment<'a> {
    /// The generation of the group, at least 0.
    pub generation: i32,
    /// What the member got. An eager member has revoked it by the time it joins; its assignor may say all the same where it has been.
    pub partitions: &'a [TopicPartition],
}

/// A way to share out partitions. Implement it for one's own; give the group's members all the same.
///
/// # Contract
/// [`assign`](Self::assign) is a function: equal groups give equal assignments, so that a test can replay what a leader decided. Members
/// get partitions only of topics they subscribe to. If it supports [`RebalanceProtocol::Cooperative`] it gives nobody a partition that
/// somebody else still owns; the leader checks that ([`crate::leader::LeaderError::TakenTooEarly`]).
///
/// What it learns between two calls it keeps behind a lock of its own: several consumers may share one instance. No call may block.
///
/// # Example
/// Everything to the first member, the others stand by:
/// ```
/// use std::error::Error;
///
/// use kavka_assignor::{Assignment, Assignor, Group, Partition};
///
/// #[derive(Debug)]
/// struct Failover;
///
/// impl Assignor for Failover {
///     fn name(&self) -> &str {
///         "failover"
///     }
///
///     fn assign(&self, group: &Group) -> Result<Assignment, Box<dyn Error + Send + Sync>> {
///         let mut assignment = Assignment::empty(group);
///         for (topic, subscribers) in (0..).zip(group.subscribers()) {
///             let partitions = group.topics()[topic as usize].partitions();
///             let all = (0..partitions).map(|number| Partition { topic, number });
///             assignment.give(subscribers[0] as usize, all);
///         }
///         Ok(assignment)
///     }
/// }
/// ```
pub trait Assignor: fmt::Debug + Send + Sync {
    /// The name by which members agree on it: the protocol name in JoinGroup.
    fn name(&self) -> &str;

    /// The rebalance protocols it can serve.
    fn protocols(&self) -> &[RebalanceProtocol] {
        &[RebalanceProtocol::Eager]
    }

    /// The version of its user data and of its algorithm, for its own use; it is not on the wire.
    fn version(&self) -> i16 {
        0
    }

    /// What a member sends beside its subscription, to the instance at the leader: there it is in
    /// [`Member::user_data`](crate::group::Member::user_data). Asked for each time the member joins.
    fn subscription_user_data(
        &self,
        _topics: &[ByteString],
        _last: Option<LastAssignment<'_>>,
    ) -> Option<Bytes> {
        None
    }

    /// Decides. Runs at the leader only.
    ///
    /// # Errors
    /// Whatever the assignor cannot decide; the leader then leaves the rebalance to the others, and its consumer reports the error.
    fn assign(&self, group: &Group) -> Result<Assignment, Box<dyn Error + Send + Sync>>;

    /// Hears, at each member of a group that chose this assignor, what the member was given, and what the leader's instance put beside
    /// it ([`Assignment::set_user_data`]). The application hears of the assignment after that.
    fn on_assignment(&self, _assignment: LastAssignment<'_>, _user_data: Option<&Bytes>) {}
}

/// The assignor of this name that comes with the crate: `range`, `roundrobin`, `sticky` or `cooperative-sticky`.
pub fn by_name(name: &str) -> Option<Box<dyn Assignor>> {
    let known: [Box<dyn Assignor>; 4] =
        [Box::new(Range), Box::new(RoundRobin), Box::new(Sticky), Box::new(CooperativeSticky)];
    known.into_iter().find(|assignor| assignor.name() == name)
}

/// The rebalance protocol of a member with these assignors: the highest that all of them support (KIP-429). `None` if they have none in
/// common, which is a mistake in the configuration; so is an empty list.
pub fn rebalance_protocol<'a>(
    assignors: impl IntoIterator<Item = &'a dyn Assignor>,
) -> Option<RebalanceProtocol> {
    let mut common: Option<Vec<RebalanceProtocol>> = None;
    for assignor in assignors {
        let supported = assignor.protocols();
        match &mut common {
            Some(common) => common.retain(|protocol| supported.contains(protocol)),
            None => common = Some(supported.to_vec()),
        }
    }
    common?.into_iter().max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_speaks_the_highest_protocol_that_all_its_assignors_support() {
        let highest = |list: &[&dyn Assignor]| rebalance_protocol(list.iter().copied());
        assert_eq!(highest(&[&Range, &CooperativeSticky]), Some(RebalanceProtocol::Eager));
        assert_eq!(highest(&[&CooperativeSticky]), Some(RebalanceProtocol::Cooperative));
        assert_eq!(highest(&[]), None);
    }

    #[test]
    fn assignors_are_found_by_the_names_kafka_gave_them() {
        for name in ["range", "roundrobin", "sticky", "cooperative-sticky"] {
            assert_eq!(by_name(name).map(|a| a.name().to_owned()).as_deref(), Some(name));
        }
        assert!(by_name("uniform").is_none());
    }
}
