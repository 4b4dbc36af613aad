//! Partitions that move from one member to another in a cooperative group: the leader's part.
//!
//! A partition goes to nobody before its owner has let go of it: in one round it is taken away, the owner revokes it and joins
//! again, and the next round gives it away. That second round is the owner's to ask for. One that has nothing to let go of does not:
//! a static member that was away during the first round and came back without a rebalance (KIP-345), or a client that lost the answer
//! to its SyncGroup. So the leader remembers that a partition is on its way, and asks itself when the owner has had its time.
//!
//! # References
//! KIP-429 (cooperative rebalance). Apache Kafka's consumer leaves such a partition with nobody until the next rebalance.

use std::collections::{BTreeMap, BTreeSet};

use kavka_mutants::mutant;
use kavka_protocol::ByteString;

use super::Classic;
use crate::{
    Assignment, Cause, Monotonic, Subscription, TopicPartition, TopicShape, Trace, context::Context,
};

/// What the members of a round say of themselves.
pub(super) type Claims = BTreeMap<ByteString, Claim>;

/// What a member says it owns.
#[derive(Clone, Debug, Hash)]
pub(super) struct Claim {
    owned: BTreeSet<TopicPartition>,
    /// In which generation.
    generation: i32,
    /// The version it speaks, and is answered in.
    version: i16,
}

/// A partition is with nobody until its owner has let go of it.
#[derive(Clone, Debug, Hash)]
pub(super) struct Unsettled {
    /// One of those.
    partition: TopicPartition,
    /// When the owner has had the time that a rebalance may take.
    until: Monotonic,
}

impl Claim {
    /// As the subscription says, which came in that version.
    pub(super) fn new(subscription: &Subscription, version: i16) -> Self {
        let Subscription { owned, generation, .. } = subscription;
        Self { owned: owned.clone(), generation: *generation, version }
    }

    pub(super) fn version(&self) -> i16 {
        self.version
    }
}

impl Unsettled {
    pub(super) fn new(ctx: &Context<'_>, partition: TopicPartition) -> Self {
        Self { partition, until: ctx.monotonic() + ctx.config.max_poll_interval }
    }
}

impl Classic {
    /// When this leader asks for the round that others did not ask for.
    pub(super) fn next_settlement(&self) -> Option<Monotonic> {
        self.unsettled.as_ref().filter(|_| self.is_at_rest()).map(|unsettled| unsettled.until)
    }

    pub(super) fn maybe_settle(&mut self, ctx: &mut Context<'_>) -> bool {
        let is_due = self.next_settlement().is_some_and(|until| until <= ctx.monotonic());
        let Some(unsettled) = self.unsettled.take_if(|_| is_due) else { return false };
        if mutant("moves-never-settled") {
            return true;
        }
        let partition = unsettled.partition;
        let reason = format!("{partition} is with nobody: its former owner did not join again");
        self.want_rejoin(ctx, &reason, Cause::Unsettled);
        true
    }
}

/// In a cooperative rebalance a partition goes to nobody before its owner has let go of it. An assignor that moves one straight
/// from member to member is corrected: the owner revokes, joins again, and the next round gives it away.
///
/// Of several claims to a partition those of the newest generation count. An old claim to which there is no newer one counts too,
/// though assignors ignore it: when a coordinator moves in the middle of a round, some members have heard of the generation that
/// was lost and some have not, and all of them still own what they had.
pub(super) fn hold_back(
    ctx: &mut Context<'_>,
    assignments: &mut BTreeMap<ByteString, Assignment>,
    claims: &Claims,
) {
    if mutant("moves-not-held-back") {
        return;
    }
    let mut owners: BTreeMap<&TopicPartition, (i32, Vec<&ByteString>)> = BTreeMap::new();
    for (member, Claim { owned, generation, .. }) in claims {
        for partition in owned {
            let (newest, owners) = owners.entry(partition).or_insert((*generation, Vec::new()));
            if *generation > *newest {
                *newest = *generation;
                owners.clear();
            }
            if *generation == *newest {
                owners.push(member);
            }
        }
    }
    for (member, share) in assignments {
        share.partitions.retain(|partition| {
            let others =
                |(_, owners): &(i32, Vec<&ByteString>)| owners.iter().any(|o| *o != member);
            let is_held_back = owners.get(partition).is_some_and(others);
            if is_held_back {
                let (partition, to) = (partition.clone(), member.clone());
                ctx.trace(Trace::MoveHeldBack { partition, to });
            }
            !is_held_back
        });
    }
}

/// A partition that somebody claims, and nobody is given.
pub(super) fn left_with_nobody(
    assignments: &BTreeMap<ByteString, Assignment>,
    claims: &Claims,
    topics: &BTreeMap<ByteString, TopicShape>,
) -> Option<TopicPartition> {
    let given: BTreeSet<&TopicPartition> =
        assignments.values().flat_map(|share| &share.partitions).collect();
    let is_there = |partition: &TopicPartition| {
        let count = topics.get(&partition.topic).map_or(0, Vec::len);
        usize::try_from(partition.partition).is_ok_and(|number| number < count)
    };
    let mut claimed = claims.values().flat_map(|claim| &claim.owned);
    claimed.find(|partition| is_there(partition) && !given.contains(partition)).cloned()
}
