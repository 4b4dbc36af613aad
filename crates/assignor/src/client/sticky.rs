//! `sticky` and `cooperative-sticky`: as even as can be, and as little moved as that allows.
//!
//! Both find out who had what ([`claims`]), share out anew ([`equal`] where all members subscribe to the same, [`general`] otherwise), and
//! differ in how they learn of ownership and in what they do with a partition that moves: the eager one hands it over at once, since
//! everybody has revoked everything; the cooperative one gives it to nobody until its owner has let go of it.
//!
//! In both, balance goes before stickiness, as Kafka aims at; with racks (KIP-881) nearness goes between the two.

mod claims;
mod equal;
mod exchange;
mod general;
mod holdings;
mod paths;
mod problem;
mod user_data;

use std::error::Error;

use bytes::Bytes;
use bytestring::ByteString;

use self::{claims::Claims, problem::Problem, user_data::Owned};
use crate::{
    assignment::{Assignment, Note},
    assignor::{Assignor, LastAssignment, RebalanceProtocol},
    group::Group,
};

/// Eager; who had what is in the members' user data (KIP-54, KIP-341), since by the time they join they own nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sticky;

impl Assignor for Sticky {
    fn name(&self) -> &str {
        "sticky"
    }

    fn version(&self) -> i16 {
        1
    }

    /// The last assignment and its generation; nothing before the first.
    fn subscription_user_data(
        &self,
        _topics: &[ByteString],
        last: Option<LastAssignment<'_>>,
    ) -> Option<Bytes> {
        last.map(user_data::encode_owned)
    }

    fn assign(&self, group: &Group) -> Result<Assignment, Box<dyn Error + Send + Sync>> {
        let mut notes = Vec::new();
        let claims = Claims::of(group, &mut notes, |member, notes| {
            let Some(bytes) = member.user_data() else { return (Vec::new(), -1) };
            let owned = user_data::decode_owned(bytes).unwrap_or_else(|error| {
                notes.push(Note::UserDataIgnored { member_id: member.id().clone(), error });
                Owned::default()
            });
            let mut partitions = Vec::new();
            for (topic, numbers) in &owned.partitions {
                group.push_existing(topic, numbers, &mut partitions);
            }
            (partitions, owned.generation)
        });
        Ok(share_out(group, &claims, notes, false))
    }
}

/// Cooperative, and eager where the group still is; who has what is in the members' subscriptions (KIP-429).
#[derive(Clone, Copy, Debug, Default)]
pub struct CooperativeSticky;

impl Assignor for CooperativeSticky {
    fn name(&self) -> &str {
        "cooperative-sticky"
    }

    fn protocols(&self) -> &[RebalanceProtocol] {
        &[RebalanceProtocol::Eager, RebalanceProtocol::Cooperative]
    }

    fn version(&self) -> i16 {
        1
    }

    /// The generation, for leaders that know no subscription of version 2; -1 before the first assignment.
    fn subscription_user_data(
        &self,
        _topics: &[ByteString],
        last: Option<LastAssignment<'_>>,
    ) -> Option<Bytes> {
        Some(user_data::encode_generation(last.map_or(-1, |last| last.generation)))
    }

    fn assign(&self, group: &Group) -> Result<Assignment, Box<dyn Error + Send + Sync>> {
        let mut notes = Vec::new();
        let claims = Claims::of(group, &mut notes, |member, notes| {
            let generation = match member.user_data() {
                _ if member.generation() >= 0 => member.generation(),
                Some(bytes) => user_data::decode_generation(bytes).unwrap_or_else(|error| {
                    notes.push(Note::UserDataIgnored { member_id: member.id().clone(), error });
                    -1
                }),
                None => -1,
            };
            (member.owned().to_vec(), generation)
        });
        Ok(share_out(group, &claims, notes, true))
    }
}

fn share_out(group: &Group, claims: &Claims, notes: Vec<Note>, two_phases: bool) -> Assignment {
    let problem = Problem::new(group, claims.owners());
    let owners =
        if problem.is_equal() { equal::assign(&problem) } else { general::assign(&problem) };
    let mut assignment = Assignment::empty(group);
    for (partition, member) in owners.into_iter().enumerate() {
        if two_phases && claims.must_be_revoked_first(partition, member) {
            continue;
        }
        assignment.give(member as usize, [problem.partition(partition)]);
    }
    assignment.add_notes(notes);
    assignment
}

#[cfg(test)]
mod tests;
