//! The edge: what a group's leader reads in the answer to its JoinGroup, and what it sends with SyncGroup.
//!
//! ```text
//! JoinGroup response ─► JoinedMembers::read ─► topics() ─► (metadata of those topics) ─► assign() ─► SyncGroup request
//! ```
//! Versions of the embedded messages live here and nowhere else in the crate. The bytes come from other clients of whatever make, so they
//! are read as Kafka reads them (a version from the future as the newest one that is known, bytes behind the end not at all), and what
//! cannot be read is an error that names the member. Each member is answered in the version it spoke.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    error::Error,
    sync::Arc,
};

use bytes::Bytes;
use bytestring::ByteString;
use kavka_protocol::{
    DecodeError, EncodeError, Message, Reader,
    messages::{
        ConsumerProtocolAssignment, ConsumerProtocolSubscription,
        consumer_protocol_assignment::TopicPartition, join_group_response::JoinGroupResponseMember,
        sync_group_request::SyncGroupRequestAssignment,
    },
    wire::DecodeErrorKind,
};

use crate::{
    assignment::{Assignment, MemberAssignment, Note},
    assignor::{Assignor, RebalanceProtocol},
    group::{Cluster, Group, GroupMember, Partition},
};

/// Why a leader cannot answer for its group. The rebalance fails; the other members wait for the next one.
#[derive(Debug, thiserror::Error)]
pub enum LeaderError {
    /// A member sent a subscription that nobody can read.
    #[error(
        "the subscription of member {member_id} cannot be read: {error}; look at the client behind that member"
    )]
    UnreadableSubscription {
        /// The member.
        member_id: ByteString,
        /// What is wrong with its bytes.
        error: DecodeError,
    },
    /// The assignor gave up.
    #[error("assignor {assignor} cannot assign: {source}")]
    Assignor {
        /// Its name.
        assignor: String,
        /// Its own words.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The assignor gave a member what it cannot have. The mistake is the assignor's.
    #[error(
        "assignor {assignor} gave partition {partition} of topic {topic} to member {member_id}, which does not subscribe to it, or there is no such partition"
    )]
    NotToBeHad {
        /// The assignor's name.
        assignor: String,
        /// The member.
        member_id: ByteString,
        /// The topic, or its number if there is none of that number in [`Group::topics`].
        topic: String,
        /// The partition.
        partition: u32,
    },
    /// The group is cooperative, and the assignor gave a member what another one has not revoked yet. The mistake is the assignor's.
    #[error(
        "assignor {assignor} gave partition {partition} of topic {topic} to member {member_id} while member {owner_id} still owns it; \
         a cooperative assignor gives it to nobody until it is revoked"
    )]
    TakenTooEarly {
        /// The assignor's name.
        assignor: String,
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The new owner.
        member_id: ByteString,
        /// The one before it.
        owner_id: String,
    },
    /// An assignment does not fit its message.
    #[error("the assignment of member {member_id} cannot be written: {error}")]
    UnwritableAssignment {
        /// The member.
        member_id: ByteString,
        /// What does not fit.
        error: EncodeError,
    },
}

/// What the leader sends with SyncGroup.
#[derive(Debug)]
pub struct Led {
    /// For each member, also for those that get nothing.
    pub assignments: Vec<SyncGroupRequestAssignment>,
    /// What the assignor passed over; for the log.
    pub notes: Vec<Note>,
}

/// The members of a group, as its leader was told of them.
#[derive(Clone, Debug)]
pub struct JoinedMembers {
    members: Vec<GroupMember>,
    /// By member id: the version that it speaks.
    versions: BTreeMap<ByteString, i16>,
}

impl JoinedMembers {
    /// Reads the members' metadata.
    ///
    /// # Errors
    /// [`LeaderError::UnreadableSubscription`], for the first member of which it is true.
    pub fn read(members: &[JoinGroupResponseMember]) -> Result<Self, LeaderError> {
        let mut versions = BTreeMap::new();
        // In a large group most members own little and send the same; it is read once.
        let mut seen: BTreeMap<&Bytes, (Arc<ConsumerProtocolSubscription>, i16)> = BTreeMap::new();
        let mut read = Vec::with_capacity(members.len());
        for member in members {
            let (subscription, version) = match seen.entry(&member.metadata) {
                Entry::Occupied(same) => same.into_mut(),
                Entry::Vacant(new) => {
                    let decoded = decode_subscription(&member.metadata);
                    let (subscription, version) = decoded.map_err(|error| {
                        let member_id = member.member_id.clone();
                        LeaderError::UnreadableSubscription { member_id, error }
                    })?;
                    new.insert((Arc::new(subscription), version))
                }
            };
            versions.insert(member.member_id.clone(), *version);
            read.push(GroupMember {
                member_id: member.member_id.clone(),
                group_instance_id: member.group_instance_id.clone(),
                subscription: Arc::clone(subscription),
            });
        }
        Ok(Self { members: read, versions })
    }

    /// The topics that anybody subscribes to: those whose metadata has to be there before [`assign`](Self::assign).
    pub fn topics(&self) -> BTreeSet<&ByteString> {
        self.members.iter().flat_map(|member| &member.subscription.topics).collect()
    }

    /// Lets the assignor decide, checks what it decided, and writes it down for SyncGroup. `protocol` is the one that this group's
    /// consumers speak. Topics that `cluster` does not know are assigned to nobody.
    ///
    /// # Errors
    /// All of [`LeaderError`] but the first.
    pub fn assign(
        self,
        assignor: &dyn Assignor,
        protocol: RebalanceProtocol,
        cluster: &Cluster,
    ) -> Result<Led, LeaderError> {
        let group = Group::new(cluster, self.members);
        let failed = |source| LeaderError::Assignor { assignor: assignor.name().into(), source };
        let assignment = assignor.assign(&group).map_err(failed)?;
        check_existence(&group, &assignment, assignor.name())?;
        if protocol == RebalanceProtocol::Cooperative {
            check_revocation(&group, &assignment, assignor.name())?;
        }

        let write = |(member, given): (&crate::group::Member, &MemberAssignment)| {
            let version = self.versions.get(member.id()).copied().unwrap_or(0);
            let message = ConsumerProtocolAssignment {
                assigned_partitions: by_topic(&group, &given.partitions),
                user_data: given.user_data.clone(),
            };
            let assignment = encode_assignment(&message, version).map_err(|error| {
                LeaderError::UnwritableAssignment { member_id: member.id().clone(), error }
            })?;
            Ok(SyncGroupRequestAssignment {
                member_id: member.id().clone(),
                assignment,
                ..Default::default()
            })
        };
        let pairs = group.members().iter().zip(assignment.members());
        let assignments = pairs.map(write).collect::<Result<_, _>>()?;
        Ok(Led { assignments, notes: assignment.notes().to_vec() })
    }
}

fn check_existence(group: &Group, assignment: &Assignment, name: &str) -> Result<(), LeaderError> {
    for (member, given) in group.members().iter().zip(assignment.members()) {
        for Partition { topic, number } in &given.partitions {
            let known = group.topics().get(*topic as usize);
            if known.is_none_or(|topic| *number >= topic.partitions())
                || !group.is_subscribed(member, *topic)
            {
                return Err(LeaderError::NotToBeHad {
                    assignor: name.to_owned(),
                    member_id: member.id().clone(),
                    topic: known
                        .map_or(format!("number {topic}"), |topic| topic.name().to_string()),
                    partition: *number,
                });
            }
        }
    }
    Ok(())
}

fn check_revocation(group: &Group, assignment: &Assignment, name: &str) -> Result<(), LeaderError> {
    let mut revoked = BTreeMap::new();
    let mut added = BTreeMap::new();
    for (member, given) in group.members().iter().zip(assignment.members()) {
        let given: BTreeSet<Partition> = given.partitions.iter().copied().collect();
        let owned: BTreeSet<Partition> = member.owned().iter().copied().collect();
        revoked.extend(owned.difference(&given).map(|partition| (*partition, member)));
        added.extend(given.difference(&owned).map(|partition| (*partition, member)));
    }
    let early = added
        .into_iter()
        .find_map(|(partition, to)| revoked.get(&partition).map(|from| (partition, to, from)));
    match early {
        None => Ok(()),
        Some((partition, to, from)) => Err(LeaderError::TakenTooEarly {
            assignor: name.to_owned(),
            topic: group.topics()[partition.topic as usize].name().to_string(),
            partition: partition.number,
            member_id: to.id().clone(),
            owner_id: from.id().to_string(),
        }),
    }
}

/// Topics in the order of their names, the partitions of each in the order they were given in.
fn by_topic(group: &Group, partitions: &[Partition]) -> Vec<TopicPartition> {
    let mut topics: BTreeMap<u32, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(partition.topic).or_default().push(partition.number as i32);
    }
    topics
        .into_iter()
        .map(|(topic, partitions)| TopicPartition {
            topic: group.topics()[topic as usize].name().clone(),
            partitions,
        })
        .collect()
}

/// Reads a member's metadata of JoinGroup, and its version; newer ones are read as the newest that is known.
///
/// # Errors
/// The version is negative, or the bytes are no subscription.
pub fn decode_subscription(
    bytes: &Bytes,
) -> Result<(ConsumerProtocolSubscription, i16), DecodeError> {
    decode(bytes, "ConsumerProtocolSubscription.version")
}

/// Reads what SyncGroup brought. No bytes at all are what the coordinator gives to a member that the leader forgot: no partitions.
///
/// # Errors
/// The version is negative, or the bytes are no assignment.
pub fn decode_assignment(bytes: &Bytes) -> Result<ConsumerProtocolAssignment, DecodeError> {
    if bytes.is_empty() {
        return Ok(ConsumerProtocolAssignment::default());
    }
    Ok(decode(bytes, "ConsumerProtocolAssignment.version")?.0)
}

/// Writes a member's metadata for JoinGroup. Equal subscriptions give equal bytes: topics are sorted, owned partitions grouped and sorted.
///
/// # Errors
/// There is no such version, or a topic's name is too long.
pub fn encode_subscription(
    subscription: &ConsumerProtocolSubscription,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let mut sorted = subscription.clone();
    sorted.topics.sort_unstable();
    let mut owned: BTreeMap<ByteString, BTreeSet<i32>> = BTreeMap::new();
    for claim in sorted.owned_partitions.drain(..) {
        owned.entry(claim.topic).or_default().extend(claim.partitions);
    }
    sorted.owned_partitions = owned
        .into_iter()
        .map(|(topic, partitions)| {
            kavka_protocol::messages::consumer_protocol_subscription::TopicPartition {
                topic,
                partitions: partitions.into_iter().collect(),
            }
        })
        .collect();
    encode(&sorted, version)
}

/// Writes a member's assignment for SyncGroup.
///
/// # Errors
/// There is no such version, or a topic's name is too long.
pub fn encode_assignment(
    assignment: &ConsumerProtocolAssignment,
    version: i16,
) -> Result<Bytes, EncodeError> {
    encode(assignment, version)
}

fn decode<M: Message>(bytes: &Bytes, field: &'static str) -> Result<(M, i16), DecodeError> {
    let mut reader = Reader::new(bytes.clone());
    let version = reader.int16(field)?;
    if version < 0 {
        return Err(DecodeError {
            field,
            at: 0,
            kind: DecodeErrorKind::UnsupportedVersion(version),
        });
    }
    let version = version.min(*M::VERSIONS.end());
    Ok((M::decode(&mut reader, version)?, version))
}

fn encode<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let body = message.to_bytes(version)?;
    let mut bytes = Vec::with_capacity(2 + body.len());
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes.into())
}

#[cfg(test)]
mod tests;
