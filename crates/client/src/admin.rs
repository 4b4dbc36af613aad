//! Administration: looking at a cluster and changing it.

mod cluster;

use std::time::Duration;

pub use self::cluster::{Broker, ClusterDescription};
use crate::{
    Error,
    cluster::Cluster,
    settings::{CommonSettings, Outcome, common_names, unknown_property},
};

/// Asks brokers to describe and change things. Cheap to clone; clones share connections. Dropping it never waits.
///
/// Every call retries what can pass, for at most `default.api.timeout.ms`.
#[derive(Clone, Debug)]
pub struct Admin {
    cluster: Cluster,
}

/// Settings for an [`Admin`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct AdminBuilder {
    settings: CommonSettings,
    error: Option<Error>,
}

impl Admin {
    /// Begins with Kafka's defaults.
    pub fn builder() -> AdminBuilder {
        AdminBuilder::default()
    }

    /// The time a call may take.
    fn timeout(&self) -> Duration {
        self.cluster.settings().default_api_timeout
    }
}

impl AdminBuilder {
    /// `bootstrap.servers`: `host:port`, several with commas between.
    pub fn bootstrap_servers(self, servers: &str) -> Self {
        self.property("bootstrap.servers", servers)
    }

    /// A property by Kafka's name. A wrong one makes [`AdminBuilder::build`] fail.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        let outcome = match self.settings.set(name, value) {
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

    /// The client. Does no I/O; has to be called inside a tokio runtime.
    ///
    /// # Errors
    /// The first property that cannot be, or `bootstrap.servers` is missing.
    pub fn build(self) -> Result<Admin, Error> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(Admin { cluster: Cluster::new(self.settings)? }),
        }
    }
}
