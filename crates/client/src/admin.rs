//! Administration: looking at a cluster and changing it.

mod acls;
mod cluster;
mod configs;
mod groups;
mod log_dirs;
mod operation;
mod partitions;
mod producers;
mod rounds;
mod scram_users;
mod topic_changes;
mod topics;

use std::{sync::Arc, time::Duration};

use self::rounds::Repeat;
pub use self::{
    acls::{Acl, AclFilter, PatternType, Permission, ResourceType},
    cluster::{Broker, ClusterDescription},
    configs::{
        ConfigChange, ConfigEntry, ConfigResource, ConfigSource, ConfigSynonym, ConfigType,
        DescribeConfigs,
    },
    groups::{
        CommittedOffset, GroupDescription, GroupFilter, GroupList, GroupListing, GroupMember,
        GroupState, GroupType, MemberIdentity, OffsetsOfGroup,
    },
    log_dirs::{LogDir, ReplicaSize},
    operation::Operation,
    partitions::{DeleteBefore, OffsetAt, OffsetSpec},
    producers::ProducerState,
    scram_users::{ScramChange, ScramMechanism},
    topic_changes::{CreatedTopic, NewPartitions, NewTopic},
    topics::{PartitionDescription, TopicDescription, TopicListing},
};
use crate::{
    Error, ErrorKind,
    cluster::Cluster,
    environment::{Environment, Machine},
    settings::{
        CommonSettings, Outcome, TokenProvider, TokenSource, common_names, integer,
        unknown_property,
    },
};

/// Asks brokers to describe and change things. Cheap to clone; clones share connections. Dropping it never waits.
///
/// Every call retries what can pass and is safe to repeat, for at most `default.api.timeout.ms` or what
/// [`Admin::with_timeout`] says. Calls about several things give a result for each; a failure of the whole, such as no broker
/// being there, is then each one's result. What the broker is too old for is [`ErrorKind::Unsupported`](crate::ErrorKind), with
/// the release that has it as advice.
#[derive(Clone, Debug)]
pub struct Admin {
    cluster: Cluster,
    timeout: Option<Duration>,
    /// `retries`: how often what failed is tried again at most, if time allows.
    retries: u32,
}

/// Whether a change is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is made.
    Apply,
    /// The broker checks whether it could be made, and makes none (`validate_only`).
    Validate,
}

impl Change {
    /// Checking can be repeated, whatever the change.
    fn repeat(self, repeat: Repeat) -> Repeat {
        match self {
            Change::Apply => repeat,
            Change::Validate => Repeat::Safe,
        }
    }
}

/// Settings for an [`Admin`].
#[derive(Clone, Debug)]
#[must_use]
pub struct AdminBuilder {
    settings: CommonSettings,
    retries: u32,
    error: Option<Error>,
}

/// Kafka's.
const RETRIES: u32 = i32::MAX.unsigned_abs();

impl Default for AdminBuilder {
    fn default() -> Self {
        Self { settings: CommonSettings::default(), retries: RETRIES, error: None }
    }
}

impl Admin {
    /// Begins with Kafka's defaults.
    pub fn builder() -> AdminBuilder {
        AdminBuilder::default()
    }

    /// The same client, whose calls may take so long each instead of `default.api.timeout.ms`.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Admin {
        Admin { timeout: Some(timeout), ..self.clone() }
    }

    /// For the calls of other clients, over their connections.
    pub(crate) fn over(cluster: Cluster) -> Admin {
        Admin { cluster, timeout: None, retries: RETRIES }
    }

    /// The time a call may take.
    fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(self.cluster.settings().default_api_timeout)
    }
}

impl AdminBuilder {
    /// `bootstrap.servers`: `host:port`, several with commas between.
    pub fn bootstrap_servers(self, servers: &str) -> Self {
        self.property("bootstrap.servers", servers)
    }

    /// Whether this client takes a property of this name: a file may have those of other clients too.
    pub fn knows(name: &str) -> bool {
        common_names().any(|known| known == name)
    }

    /// A property by Kafka's name. A wrong one makes [`AdminBuilder::build`] fail.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        if name == "bootstrap.controllers" {
            let error =
                Error::new(ErrorKind::Unsupported, "bootstrap.controllers is not supported")
                    .with_advice(
                        "Name brokers in bootstrap.servers: they pass on what is for controllers.",
                    );
            self.error.get_or_insert(error);
            return self;
        }
        let set = match name {
            "retries" => integer(name, value, 0..=i32::MAX).map(|retries| {
                self.retries = retries.unsigned_abs();
                Outcome::Taken
            }),
            _ => self.settings.set(name, value),
        };
        let outcome = match set {
            Ok(Outcome::Taken) => return self,
            Ok(Outcome::NoEffect(why)) => {
                tracing::info!(property = name, why, "the property has no effect");
                return self;
            }
            Ok(Outcome::Unknown) => unknown_property(name, common_names()),
            Err(error) => error,
        };
        self.error.get_or_insert(outcome);
        self
    }

    /// Where tokens for OAUTHBEARER come from.
    pub fn token_provider(mut self, provider: Arc<dyn TokenProvider>) -> Self {
        self.settings.security.sasl.tokens = TokenSource::Provider(provider);
        self
    }

    /// What the client takes from the machine it runs on: the operating system unless set.
    pub fn environment(mut self, environment: Arc<dyn Environment>) -> Self {
        self.settings.machine = Machine::new(environment);
        self
    }

    /// The client. Reads the files of certificates and keys, if there are any, and does no other I/O; has to be called inside a tokio runtime.
    ///
    /// # Errors
    /// The first property that cannot be, or `bootstrap.servers` is missing.
    pub fn build(self) -> Result<Admin, Error> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(Admin {
                cluster: Cluster::new(self.settings)?,
                timeout: None,
                retries: self.retries,
            }),
        }
    }
}
