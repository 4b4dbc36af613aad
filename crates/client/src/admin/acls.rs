//! ACLs: describing, creating and deleting them.
//!
//! # References
//! KIP-140 (the calls), KIP-290 (prefixes).

use std::{collections::BTreeMap, fmt};

use bytestring::ByteString;
use kavka_protocol::{
    ErrorCode,
    messages::{
        CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest,
        create_acls_request::AclCreation,
        delete_acls_request::DeleteAclsFilter,
        delete_acls_response::{DeleteAclsFilterResult, DeleteAclsMatchingAcl},
    },
};

use super::{Admin, Operation, rounds::Repeat};
use crate::{Error, ErrorKind, connection::Connection};

/// A rule: who may, or may not, do what with which resources.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Acl {
    /// The kind of the resources.
    pub resource_type: ResourceType,
    /// Their name, or what their names begin with. The cluster is `kafka-cluster`.
    pub resource_name: ByteString,
    /// How the name is meant.
    pub pattern: PatternType,
    /// Who: `User:name`, or `User:*` for everybody.
    pub principal: ByteString,
    /// From which IP address; `*` for any.
    pub host: ByteString,
    /// What.
    pub operation: Operation,
    /// May or may not.
    pub permission: Permission,
}

/// Which rules are meant; what is not said may be anything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AclFilter {
    /// The kind of the resources; [`ResourceType::Any`] for any.
    pub resource_type: ResourceType,
    /// The name.
    pub resource_name: Option<ByteString>,
    /// How the name is meant; [`PatternType::Any`] for either way, [`PatternType::Match`] for the rules that cover a resource of that
    /// name.
    pub pattern: PatternType,
    /// Who.
    pub principal: Option<ByteString>,
    /// From where.
    pub host: Option<ByteString>,
    /// What; [`Operation::Any`] for any.
    pub operation: Operation,
    /// May or may not; [`Permission::Any`] for either.
    pub permission: Permission,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ResourceType {
    /// In filters only: whatever it is.
    Any,
    /// Topics.
    Topic,
    /// Groups.
    Group,
    /// The cluster.
    Cluster,
    /// Transactional ids.
    TransactionalId,
    /// Delegation tokens.
    DelegationToken,
    /// Users, as owners of delegation tokens.
    User,
}

/// How the name of a rule is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PatternType {
    /// In filters only: either way.
    Any,
    /// In filters only: rules that cover a resource of this name.
    Match,
    /// The name, or `*` for all.
    Literal,
    /// What names begin with.
    Prefixed,
}

/// Whether a rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Permission {
    /// In filters only: either.
    Any,
    /// It forbids; that goes before all that allows.
    Deny,
    /// It allows.
    Allow,
}

/// Names as Kafka's tools print them, by the numbers of the protocol.
const RESOURCES: &[(i8, &str, ResourceType)] = &[
    (1, "ANY", ResourceType::Any),
    (2, "TOPIC", ResourceType::Topic),
    (3, "GROUP", ResourceType::Group),
    (4, "CLUSTER", ResourceType::Cluster),
    (5, "TRANSACTIONAL_ID", ResourceType::TransactionalId),
    (6, "DELEGATION_TOKEN", ResourceType::DelegationToken),
    (7, "USER", ResourceType::User),
];
const PATTERNS: &[(i8, &str, PatternType)] = &[
    (1, "ANY", PatternType::Any),
    (2, "MATCH", PatternType::Match),
    (3, "LITERAL", PatternType::Literal),
    (4, "PREFIXED", PatternType::Prefixed),
];
const PERMISSIONS: &[(i8, &str, Permission)] =
    &[(1, "ANY", Permission::Any), (2, "DENY", Permission::Deny), (3, "ALLOW", Permission::Allow)];

impl AclFilter {
    /// All rules.
    pub fn any() -> Self {
        Self {
            resource_type: ResourceType::Any,
            resource_name: None,
            pattern: PatternType::Any,
            principal: None,
            host: None,
            operation: Operation::Any,
            permission: Permission::Any,
        }
    }
}

impl From<Acl> for AclFilter {
    /// Exactly that rule.
    fn from(acl: Acl) -> Self {
        Self {
            resource_type: acl.resource_type,
            resource_name: Some(acl.resource_name),
            pattern: acl.pattern,
            principal: Some(acl.principal),
            host: Some(acl.host),
            operation: acl.operation,
            permission: acl.permission,
        }
    }
}

impl Admin {
    /// The rules that a filter means.
    ///
    /// Cancel safe: it only reads.
    ///
    /// # Errors
    /// `SECURITY_DISABLED`: the cluster has no authorizer. Authorization. [`ErrorKind::Protocol`] for a rule with a kind that is not
    /// known here: to leave it out would show less than there is.
    pub async fn describe_acls(&self, filter: &AclFilter) -> Result<Vec<Acl>, Error> {
        self.once(Repeat::Safe, |left| async move {
            let connection = self.cluster.any().await?;
            let request = DescribeAclsRequest {
                resource_type_filter: code(RESOURCES, filter.resource_type),
                resource_name_filter: filter.resource_name.clone(),
                pattern_type_filter: code(PATTERNS, filter.pattern),
                principal_filter: filter.principal.clone(),
                host_filter: filter.host.clone(),
                operation: filter.operation.code(),
                permission_type: code(PERMISSIONS, filter.permission),
                ..Default::default()
            };
            let response = self.ask(&connection, &request, i16::MAX, left).await?;
            outcome(response.error_code, response.error_message, "describing ACLs")?;
            let mut acls = Vec::new();
            for resource in response.resources {
                for row in resource.acls {
                    acls.push(Acl {
                        resource_type: known(RESOURCES, resource.resource_type)?,
                        resource_name: resource.resource_name.clone(),
                        pattern: known(PATTERNS, resource.pattern_type)?,
                        principal: row.principal,
                        host: row.host,
                        operation: known_operation(row.operation)?,
                        permission: known(PERMISSIONS, row.permission_type)?,
                    });
                }
            }
            acls.sort();
            Ok(acls)
        })
        .await
    }

    /// Adds rules. One that is there already is a success.
    ///
    /// Repeated if an answer was lost: the same rule twice is the rule once.
    ///
    /// Cancel safe only in this sense: a request that was sent is worked on.
    ///
    /// # Errors
    /// Per rule. `INVALID_REQUEST` for what is no rule, with the broker's words; `SECURITY_DISABLED`; authorization.
    pub async fn create_acls(
        &self,
        acls: impl IntoIterator<Item = Acl>,
    ) -> BTreeMap<Acl, Result<(), Error>> {
        self.rounds(acls, |acls, left| {
            let ask = move |connection, acls: Vec<Acl>| async move {
                let row = |acl: &Acl| AclCreation {
                    resource_type: code(RESOURCES, acl.resource_type),
                    resource_name: acl.resource_name.clone(),
                    resource_pattern_type: code(PATTERNS, acl.pattern),
                    principal: acl.principal.clone(),
                    host: acl.host.clone(),
                    operation: acl.operation.code(),
                    permission_type: code(PERMISSIONS, acl.permission),
                    ..Default::default()
                };
                let request = CreateAclsRequest {
                    creations: acls.iter().map(row).collect(),
                    ..Default::default()
                };
                let response = self.ask(&connection, &request, i16::MAX, left).await?;
                // The answers stand in the order of the questions.
                let rows = acls.into_iter().zip(response.results).map(|(acl, row)| {
                    let result = outcome(row.error_code, row.error_message, "creating an ACL");
                    (acl, result)
                });
                Ok(rows.collect())
            };
            self.at_controller(acls, Repeat::Safe, ask)
        })
        .await
    }

    /// Removes the rules that filters mean, and says which they were.
    ///
    /// Not repeated after an answer was lost: the second answer would not name what the first request removed.
    ///
    /// Cancel safe only in this sense: a request that was sent is worked on.
    ///
    /// # Errors
    /// Per filter. `SECURITY_DISABLED`; authorization; that one of its rules could not be removed.
    pub async fn delete_acls(
        &self,
        filters: impl IntoIterator<Item = AclFilter>,
    ) -> BTreeMap<AclFilter, Result<Vec<Acl>, Error>> {
        self.rounds(filters, |filters, left| {
            let ask = move |connection: Connection, filters: Vec<AclFilter>| async move {
                let row = |filter: &AclFilter| DeleteAclsFilter {
                    resource_type_filter: code(RESOURCES, filter.resource_type),
                    resource_name_filter: filter.resource_name.clone(),
                    pattern_type_filter: code(PATTERNS, filter.pattern),
                    principal_filter: filter.principal.clone(),
                    host_filter: filter.host.clone(),
                    operation: filter.operation.code(),
                    permission_type: code(PERMISSIONS, filter.permission),
                    ..Default::default()
                };
                let request = DeleteAclsRequest {
                    filters: filters.iter().map(row).collect(),
                    ..Default::default()
                };
                let response = self.ask(&connection, &request, i16::MAX, left).await?;
                // The answers stand in the order of the questions.
                let rows = filters.into_iter().zip(response.filter_results);
                Ok(rows.map(|(filter, row)| (filter, deleted(row))).collect())
            };
            self.at_controller(filters, Repeat::Unsafe, ask)
        })
        .await
    }
}

fn deleted(row: DeleteAclsFilterResult) -> Result<Vec<Acl>, Error> {
    outcome(row.error_code, row.error_message, "deleting ACLs")?;
    let acl = |row: DeleteAclsMatchingAcl| {
        outcome(row.error_code, row.error_message, "deleting an ACL")?;
        Ok(Acl {
            resource_type: known(RESOURCES, row.resource_type)?,
            resource_name: row.resource_name,
            pattern: known(PATTERNS, row.pattern_type)?,
            principal: row.principal,
            host: row.host,
            operation: known_operation(row.operation)?,
            permission: known(PERMISSIONS, row.permission_type)?,
        })
    };
    row.matching_acls.into_iter().map(acl).collect()
}

fn code<T: PartialEq>(table: &[(i8, &str, T)], value: T) -> i8 {
    table.iter().find(|row| row.2 == value).map_or(0, |row| row.0)
}

fn known<T: Copy>(table: &[(i8, &str, T)], code: i8) -> Result<T, Error> {
    let found = table.iter().find(|row| row.0 == code);
    found.map(|row| row.2).ok_or_else(|| unknown(code))
}

fn known_operation(code: i8) -> Result<Operation, Error> {
    Operation::from_code(code).ok_or_else(|| unknown(code))
}

fn unknown(code: i8) -> Error {
    let message = format!("the broker has ACLs of a kind that is not known here ({code})");
    Error::new(ErrorKind::Protocol, message).with_advice("Use a newer client.")
}

fn outcome(code: ErrorCode, message: Option<ByteString>, what: &str) -> Result<(), Error> {
    let error = match code {
        ErrorCode::None => return Ok(()),
        code => Error::broker(code, what).with_detail(message.as_deref().map(AsRef::as_ref)),
    };
    Err(if code == ErrorCode::SecurityDisabled {
        error
            .with_advice("The cluster has no authorizer: set authorizer.class.name on its brokers.")
    } else {
        error
    })
}

fn show<T: PartialEq>(
    table: &[(i8, &'static str, T)],
    value: &T,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    f.write_str(table.iter().find(|row| row.2 == *value).map_or("", |row| row.1))
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(RESOURCES, self, f)
    }
}

impl fmt::Display for PatternType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(PATTERNS, self, f)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(PERMISSIONS, self, f)
    }
}

impl fmt::Display for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} from {} on {} {} {}",
            self.principal,
            self.permission,
            self.operation,
            self.host,
            self.pattern,
            self.resource_type,
            self.resource_name
        )
    }
}
