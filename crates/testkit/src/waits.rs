//! Waiting for what a group or a topic is to become.
//!
//! Reads what the coordinator and the logs know, without a connection: no rule delays it and no request log shows it.

use std::{
    fmt,
    time::{Duration, Instant},
};

use kavka_broker::{InspectError, Inspector};
use kavka_coordinator::group::{DescribedGroup, GroupState};
use kavka_protocol::ErrorCode;

use crate::{Error, TestBroker};

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A group as it is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Group {
    /// Its id.
    pub id: String,
    /// Its state; [`GroupState::Dead`] if there is no such group.
    pub state: GroupState,
    /// The chosen assignor; empty unless the group is Stable.
    pub protocol: String,
    /// By member id.
    pub members: Vec<GroupMember>,
}

/// A member of a [`Group`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupMember {
    /// Its member id.
    pub id: String,
    /// `group.instance.id`, if it is a static member.
    pub instance_id: Option<String>,
    /// `client.id`.
    pub client_id: String,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.state == GroupState::Dead {
            return f.write_str("not there");
        }
        let count = self.members.len();
        write!(f, "{} with {count} {}", self.state, if count == 1 { "member" } else { "members" })?;
        for (index, member) in self.members.iter().enumerate() {
            write!(f, "{} {}", if index == 0 { ":" } else { "," }, member.id)?;
            if let Some(instance) = &member.instance_id {
                write!(f, " (instance {instance})")?;
            }
        }
        Ok(())
    }
}

/// What a group is waited for to be: see [`TestBroker::wait_for_group`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupCondition {
    state: Option<GroupState>,
    members: Option<usize>,
}

impl GroupCondition {
    /// Everyone has its assignment.
    pub const fn stable() -> Self {
        Self::state(GroupState::Stable)
    }

    /// Nobody is in it.
    pub const fn empty() -> Self {
        Self::state(GroupState::Empty)
    }

    /// There is no such group.
    pub const fn absent() -> Self {
        Self::state(GroupState::Dead)
    }

    /// In this state.
    pub const fn state(state: GroupState) -> Self {
        Self { state: Some(state), members: None }
    }

    /// In any state, with this many members.
    pub const fn members(members: usize) -> Self {
        Self { state: None, members: Some(members) }
    }

    /// And with this many members.
    #[must_use]
    pub const fn with_members(self, members: usize) -> Self {
        Self { members: Some(members), ..self }
    }

    /// Whether the group is so.
    pub fn holds(&self, group: &Group) -> bool {
        self.state.is_none_or(|state| state == group.state)
            && self.members.is_none_or(|members| members == group.members.len())
    }
}

impl fmt::Display for GroupCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.state {
            Some(GroupState::Dead) => f.write_str("absent")?,
            Some(state) => write!(f, "{state}")?,
            None => f.write_str("there")?,
        }
        match self.members {
            Some(1) => f.write_str(" with 1 member"),
            Some(members) => write!(f, " with {members} members"),
            None => Ok(()),
        }
    }
}

impl TestBroker {
    /// The group as it is now.
    ///
    /// Cancel safe: it changes nothing.
    ///
    /// # Errors
    /// The broker is down, or the group's coordinator is not ready.
    pub async fn group(&self, group: &str) -> Result<Group, Error> {
        let group = group.to_owned();
        self.ask(async move |inspector| look(&inspector, &group).await).await
    }

    /// Waits until the group is as `condition` says, and returns it as it is then.
    ///
    /// Cancel safe: it changes nothing.
    ///
    /// # Errors
    /// [`Error::Group`] after `timeout`: tells what the group is instead. [`Error::Down`] when the broker is down or goes down.
    pub async fn wait_for_group(
        &self,
        group: &str,
        condition: GroupCondition,
        timeout: Duration,
    ) -> Result<Group, Error> {
        let group = group.to_owned();
        self.ask(async move |inspector| {
            let deadline = Instant::now() + timeout;
            loop {
                match look(&inspector, &group).await {
                    Ok(group) if condition.holds(&group) => return Ok(group),
                    Ok(group) if Instant::now() >= deadline => {
                        return Err(Error::Group { group: Box::new(group), condition, timeout });
                    }
                    Err(error) if !is_passing(&error) || Instant::now() >= deadline => {
                        return Err(error);
                    }
                    _ => tokio::time::sleep(LOOK_AGAIN).await,
                }
            }
        })
        .await
    }

    /// Waits until the topic holds at least `records` in all its partitions together, as consumers see it, and returns where
    /// the partitions end. Records are counted by their offsets, so those that compaction removed still count.
    ///
    /// Cancel safe: it changes nothing.
    ///
    /// # Errors
    /// [`Error::Records`] after `timeout`: tells what there is instead. A topic that does not exist, or [`Error::Down`], at
    /// once.
    pub async fn wait_for_records(
        &self,
        topic: &str,
        records: u64,
        timeout: Duration,
    ) -> Result<Vec<i64>, Error> {
        let topic = topic.to_owned();
        self.ask(async move |inspector| {
            let deadline = Instant::now() + timeout;
            loop {
                let partitions = inspector.partitions(&topic)?;
                let count = |p: &kavka_broker::PartitionOffsets| {
                    u64::try_from(p.high_watermark - p.log_start_offset).unwrap_or(0)
                };
                let found = partitions.iter().map(count).sum();
                let end_offsets = partitions.iter().map(|p| p.high_watermark).collect();
                if found >= records {
                    return Ok(end_offsets);
                }
                if Instant::now() >= deadline {
                    let wanted = records;
                    return Err(Error::Records { topic, wanted, found, end_offsets, timeout });
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        })
        .await
    }

    /// Waits until the group has committed `offset`, or more, for the partition, and returns what it has committed.
    ///
    /// Cancel safe: it changes nothing.
    ///
    /// # Errors
    /// [`Error::Committed`] after `timeout`: tells what is committed instead. [`Error::Down`] when the broker is down or goes
    /// down.
    pub async fn wait_for_committed(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
        offset: i64,
        timeout: Duration,
    ) -> Result<i64, Error> {
        let (group, topic) = (group.to_owned(), topic.to_owned());
        self.ask(async move |inspector| {
            let deadline = Instant::now() + timeout;
            let place = (topic, partition);
            loop {
                let found = match inspector.committed_offsets(&group).await {
                    Ok(committed) => committed.get(&place).copied(),
                    Err(error) => {
                        let error = Error::from(error);
                        if !is_passing(&error) || Instant::now() >= deadline {
                            return Err(error);
                        }
                        None
                    }
                };
                match found {
                    Some(committed) if committed >= offset => return Ok(committed),
                    found if Instant::now() >= deadline => {
                        let (topic, partition) = place;
                        let wanted = offset;
                        return Err(Error::Committed {
                            group,
                            topic,
                            partition,
                            wanted,
                            found,
                            timeout,
                        });
                    }
                    _ => tokio::time::sleep(LOOK_AGAIN).await,
                }
            }
        })
        .await
    }
}

async fn look(inspector: &Inspector, group: &str) -> Result<Group, Error> {
    Ok(inspector.group(group).await?.into())
}

/// Whether waiting helps: a coordinator that is being loaded.
fn is_passing(error: &Error) -> bool {
    matches!(
        error,
        Error::Inspect(InspectError::Coordinator {
            error: ErrorCode::CoordinatorLoadInProgress | ErrorCode::NotCoordinator,
            ..
        })
    )
}

impl From<DescribedGroup> for Group {
    fn from(group: DescribedGroup) -> Self {
        let member = |member: kavka_coordinator::group::DescribedMember| GroupMember {
            id: member.member_id.to_string(),
            instance_id: member.instance_id.map(|id| id.to_string()),
            client_id: member.client_id.to_string(),
        };
        Self {
            id: group.group.to_string(),
            state: group.state,
            protocol: group.protocol_name.to_string(),
            members: group.members.into_iter().map(member).collect(),
        }
    }
}
