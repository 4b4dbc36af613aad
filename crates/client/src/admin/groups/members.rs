//! Removing groups, and members from groups.

use std::{collections::BTreeMap, fmt};

use bytestring::ByteString;
use kavka_protocol::{
    ErrorCode,
    messages::{
        DeleteGroupsRequest, LeaveGroupRequest, leave_group_request::MemberIdentity as Row,
    },
};

use crate::{
    Error, ErrorKind,
    admin::{
        Admin,
        rounds::{Repeat, unsupported},
    },
    cluster::Node,
    connection::Connection,
};

/// From this version of LeaveGroup on several members leave at once, and static ones by instance id (KIP-345; Kafka 2.4).
const SEVERAL: i16 = 3;

/// A member of a group, by what it is known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberIdentity {
    /// A static member, by its `group.instance.id`.
    Instance(ByteString),
    /// Any member, by its member id.
    Member(ByteString),
}

impl fmt::Display for MemberIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MemberIdentity::Instance(id) | MemberIdentity::Member(id) => f.write_str(id),
        }
    }
}

impl Admin {
    /// Deletes groups and their offsets. Only groups without members can be deleted.
    ///
    /// Not repeated after an answer was lost.
    ///
    /// Cancel safe only in this sense: a request that was sent is worked on.
    ///
    /// # Errors
    /// Per group. `NON_EMPTY_GROUP`: it has members. `GROUP_ID_NOT_FOUND`, and authorization.
    pub async fn delete_groups(
        &self,
        groups: impl IntoIterator<Item = impl Into<ByteString>>,
    ) -> BTreeMap<ByteString, Result<(), Error>> {
        let groups = groups.into_iter().map(Into::into);
        self.rounds(groups, |groups, left| {
            let ask = move |connection, _: Node, groups_names| async move {
                let request = DeleteGroupsRequest { groups_names, ..Default::default() };
                let response = self.ask(&connection, &request, i16::MAX, left).await?;
                let rows = response.results.into_iter().map(|row| {
                    let what = format_args!("deleting group {}", row.group_id);
                    let message = row.error_message.as_deref().map(AsRef::as_ref);
                    let result = outcome(row.error_code, what)
                        .map_err(|error: Error| error.with_detail(message));
                    (row.group_id, result)
                });
                Ok(rows.collect())
            };
            self.at_coordinators(groups, Repeat::Unsafe, ask)
        })
        .await
    }

    /// Makes members leave a group, so that their partitions go to the others at once. A member that still runs joins again.
    /// `reason` shows in the broker's log and in the group's history (KIP-800; Kafka 3.2).
    ///
    /// Not repeated after an answer was lost.
    ///
    /// Cancel safe only in this sense: a request that was sent is worked on.
    ///
    /// # Errors
    /// Per member. `UNKNOWN_MEMBER_ID`: it is not, or no longer, in the group. Authorization.
    pub async fn remove_group_members(
        &self,
        group: impl Into<ByteString>,
        members: impl IntoIterator<Item = MemberIdentity>,
        reason: Option<&str>,
    ) -> BTreeMap<MemberIdentity, Result<(), Error>> {
        let group = &group.into();
        self.rounds(members, |members, left| {
            let ask = move |connection: Connection, members: Vec<MemberIdentity>| async move {
                let version = Self::version::<LeaveGroupRequest>(&connection)?;
                if version < SEVERAL {
                    return Err(unsupported("remove members from a group", "2.4"));
                }
                let row = |member: &MemberIdentity| {
                    let (member_id, group_instance_id) = match member {
                        MemberIdentity::Instance(id) => (ByteString::new(), Some(id.clone())),
                        MemberIdentity::Member(id) => (id.clone(), None),
                    };
                    let reason = reason.map(Into::into);
                    Row { member_id, group_instance_id, reason, ..Default::default() }
                };
                let request = LeaveGroupRequest {
                    group_id: group.clone(),
                    members: members.iter().map(row).collect(),
                    ..Default::default()
                };
                let response = self.ask(&connection, &request, version, left).await?;
                outcome(response.error_code, format_args!("removing members of group {group}"))?;
                let rows = response.members.into_iter().map(|row| {
                    let member = match row.group_instance_id {
                        Some(id) => MemberIdentity::Instance(id),
                        None => MemberIdentity::Member(row.member_id),
                    };
                    let what = format_args!("removing member {member} of group {group}");
                    let result = outcome(row.error_code, what);
                    (member, result)
                });
                Ok(rows.collect())
            };
            self.at_coordinator(group, members, Repeat::Unsafe, ask)
        })
        .await
    }

    /// Makes all members leave a group. Says whom it found and what came of each.
    ///
    /// Cancel safe only in this sense: a request that was sent is worked on.
    ///
    /// # Errors
    /// The group cannot be described; or, per member, as [`Admin::remove_group_members`].
    pub async fn remove_all_group_members(
        &self,
        group: impl Into<ByteString>,
        reason: Option<&str>,
    ) -> Result<BTreeMap<MemberIdentity, Result<(), Error>>, Error> {
        let group = group.into();
        let described = self.describe_groups([group.clone()]).await.remove(&group);
        let description = described.ok_or_else(|| {
            Error::new(ErrorKind::Protocol, format!("group {group} was not described"))
        })??;
        let members =
            description.members.into_iter().map(|member| match member.group_instance_id {
                Some(id) => MemberIdentity::Instance(id),
                None => MemberIdentity::Member(member.member_id),
            });
        Ok(self.remove_group_members(group, members, reason).await)
    }
}

fn outcome(code: ErrorCode, what: fmt::Arguments<'_>) -> Result<(), Error> {
    match code {
        ErrorCode::None => Ok(()),
        ErrorCode::NonEmptyGroup => Err(Error::broker(code, what)
            .with_advice("Stop its members, or remove them, and try again.")),
        code => Err(Error::broker(code, what)),
    }
}
