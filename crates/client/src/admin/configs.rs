//! Configs of topics, brokers and groups: describing and altering them.
//!
//! # References
//! KIP-133 (describing), KIP-226 (dynamic broker configs), KIP-339 (altering one by one), KIP-569 (types and documentation).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use bytestring::ByteString;
use kavka_protocol::{
    ApiKey, ErrorCode,
    messages::{
        DescribeConfigsRequest, IncrementalAlterConfigsRequest,
        describe_configs_request::DescribeConfigsResource,
        describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult},
        incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig},
    },
};

use super::{
    Admin, Change,
    rounds::{Answered, Fared, Left, Repeat, all_failed, fared, unsupported},
};
use crate::{Error, ErrorKind, cluster::Purpose, connection::Connection};

/// From this version of DescribeConfigs on types and documentation are told (KIP-569; Kafka 2.6).
const DOCUMENTATION: i16 = 3;

/// Something that has configs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ConfigResource {
    /// A topic, by name.
    Topic(ByteString),
    /// A broker, by id.
    Broker(i32),
    /// What holds for all brokers that do not say otherwise.
    BrokerDefaults,
    /// The log levels of a broker, by id (KIP-412).
    BrokerLogger(i32),
    /// A group, by id; it need not exist (KIP-1043).
    Group(ByteString),
    /// A subscription to clients' metrics, by name (KIP-714).
    ClientMetrics(ByteString),
}

/// A config of a resource, as it is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// The value; none if it is secret or not set.
    pub value: Option<ByteString>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it is secret.
    pub is_sensitive: bool,
    /// Whether it can be changed only by restarting the broker with another file.
    pub is_read_only: bool,
    /// What it is; brokers before 2.6 do not tell.
    pub config_type: Option<ConfigType>,
    /// The values that would be in force one after the other if those before were not set, this one first; if asked for.
    pub synonyms: Vec<ConfigSynonym>,
    /// What it is for, if asked for; brokers before 2.6 do not tell.
    pub documentation: Option<ByteString>,
}

/// A value that stands behind another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSynonym {
    /// The name it goes by there: for `retention.ms` of a topic the broker's is `log.retention.ms`.
    pub name: ByteString,
    /// The value; none if it is secret.
    pub value: Option<ByteString>,
    /// Where it comes from.
    pub source: ConfigSource,
}

/// Where the value of a config comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ConfigSource {
    /// Set for the topic.
    Topic,
    /// Set for the broker while it runs.
    DynamicBroker,
    /// Set for all brokers while they run.
    DynamicDefaultBroker,
    /// In the broker's file.
    StaticBroker,
    /// Nobody set it.
    Default,
    /// Set for a broker's logger.
    DynamicBrokerLogger,
    /// Set for the subscription to clients' metrics.
    ClientMetrics,
    /// Set for the group.
    Group,
    /// A number that is not known here.
    Unknown(i8),
}

/// What the value of a config is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConfigType {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// 32 bits.
    Int,
    /// 16 bits.
    Short,
    /// 64 bits.
    Long,
    /// A fraction.
    Double,
    /// Several, with commas between.
    List,
    /// A Java class.
    Class,
    /// A secret.
    Password,
}

/// What is asked about configs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribeConfigs {
    /// Only these; empty: all.
    pub names: BTreeSet<ByteString>,
    /// Whether [`ConfigEntry::synonyms`] are wanted.
    pub synonyms: bool,
    /// Whether [`ConfigEntry::documentation`] is wanted.
    pub documentation: bool,
}

/// A change of one config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// It gets this value.
    Set(ByteString),
    /// It is not set any more: what stands behind it is in force.
    Delete,
    /// The elements of this list are added, those that are there already left out. For lists only.
    Append(ByteString),
    /// The elements of this list are taken out, where they are. For lists only.
    Subtract(ByteString),
}

impl Admin {
    /// The configs in force, by name.
    ///
    /// Cancel safe: it only reads.
    ///
    /// # Errors
    /// Per resource. `UNKNOWN_TOPIC_OR_PARTITION` for a topic that is not there, and authorization.
    pub async fn describe_configs(
        &self,
        resources: impl IntoIterator<Item = ConfigResource>,
        what: &DescribeConfigs,
    ) -> BTreeMap<ConfigResource, Result<BTreeMap<ByteString, ConfigEntry>, Error>> {
        self.rounds(resources, |resources, left| {
            let ask = move |connection, resources: Vec<ConfigResource>| async move {
                self.describe_configs_at(&connection, &resources, what, left).await
            };
            self.at_owners(resources, Repeat::Safe, false, ask)
        })
        .await
    }

    /// Changes configs, or checks whether it could. The configs of one resource change together or not at all; what is not named
    /// stays (KIP-339; Kafka 2.3).
    ///
    /// Repeated if an answer was lost: the same change twice is the change once.
    ///
    /// Cancel safe only in this sense: a request that was sent is worked on.
    ///
    /// # Errors
    /// Per resource. `INVALID_CONFIG` with the broker's words, `INVALID_REQUEST` for what cannot be changed while the broker runs,
    /// `UNKNOWN_TOPIC_OR_PARTITION`, and authorization.
    pub async fn alter_configs(
        &self,
        changes: impl IntoIterator<Item = (ConfigResource, BTreeMap<ByteString, ConfigChange>)>,
        change: Change,
    ) -> BTreeMap<ConfigResource, Result<(), Error>> {
        let changes: BTreeMap<_, _> = changes.into_iter().collect();
        let changes = &changes;
        self.rounds(changes.keys().cloned(), |resources, left| {
            let ask = move |connection: Connection, resources: Vec<ConfigResource>| async move {
                let rows = resources.iter().filter_map(|resource| {
                    let configs = changes.get(resource)?;
                    Some(AlterConfigsResource {
                        resource_type: resource.code(),
                        resource_name: resource.name(),
                        configs: configs.iter().map(alterable).collect(),
                        ..Default::default()
                    })
                });
                let request = IncrementalAlterConfigsRequest {
                    resources: rows.collect(),
                    validate_only: change == Change::Validate,
                    ..Default::default()
                };
                let response = self.ask(&connection, &request, i16::MAX, left).await?;
                let release = release_of(&connection);
                let rows = response.responses.into_iter().filter_map(|row| {
                    let (kind, code) = (row.resource_type, row.error_code);
                    let about = About::of(kind, code, &row.resource_name, &resources, release)?;
                    let what = "altering configs of";
                    let result =
                        |resource: &_| outcome(row.error_code, row.error_message, what, resource);
                    Some(about.told(result))
                });
                Ok(rows.collect())
            };
            self.at_owners(resources, Repeat::Safe, true, ask)
        })
        .await
    }

    /// One round: a broker's own configs are asked of that broker, the others of any or of the controller.
    async fn at_owners<T, F>(
        &self,
        resources: Vec<ConfigResource>,
        repeat: Repeat,
        is_change: bool,
        ask: impl Fn(Connection, Vec<ConfigResource>) -> F,
    ) -> Vec<(ConfigResource, Fared<T>)>
    where
        F: Future<Output = Answered<ConfigResource, T>>,
    {
        let mut rows = Vec::new();
        let mut by_owner: BTreeMap<Option<i32>, Vec<ConfigResource>> = BTreeMap::new();
        for resource in resources {
            by_owner.entry(resource.owner()).or_default().push(resource);
        }
        for (owner, resources) in by_owner {
            let Some(id) = owner else {
                rows.extend(if is_change {
                    self.at_controller(resources, repeat, &ask).await
                } else {
                    self.at_any(resources, repeat, &ask).await
                });
                continue;
            };
            rows.extend(match self.broker(id).await {
                Ok(connection) => {
                    fared(&resources, ask(connection, resources.clone()).await, repeat)
                }
                Err(error) => all_failed(resources, &error),
            });
        }
        rows
    }

    /// A connection to a broker. One that the cluster does not name is looked for once more.
    async fn broker(&self, id: i32) -> Result<Connection, Error> {
        let mut metadata = self.cluster.metadata();
        if !metadata.nodes.contains_key(&id) {
            metadata = self.cluster.refresh().await?;
        }
        if !metadata.nodes.contains_key(&id) {
            let ids: Vec<String> = metadata.nodes.keys().map(i32::to_string).collect();
            let message =
                format!("there is no broker {id} in the cluster; there are {}", ids.join(", "));
            return Err(Error::new(ErrorKind::Config, message));
        }
        self.cluster.node(id, Purpose::Requests).await
    }

    async fn describe_configs_at(
        &self,
        connection: &Connection,
        resources: &[ConfigResource],
        what: &DescribeConfigs,
        left: Left,
    ) -> Answered<ConfigResource, BTreeMap<ByteString, ConfigEntry>> {
        let version = Self::version::<DescribeConfigsRequest>(connection)?;
        let names =
            Some(what.names.iter().cloned().collect::<Vec<_>>()).filter(|names| !names.is_empty());
        let row = |resource: &ConfigResource| DescribeConfigsResource {
            resource_type: resource.code(),
            resource_name: resource.name(),
            configuration_keys: names.clone(),
            ..Default::default()
        };
        let request = DescribeConfigsRequest {
            resources: resources.iter().map(row).collect(),
            include_synonyms: what.synonyms,
            include_documentation: what.documentation && version >= DOCUMENTATION,
            ..Default::default()
        };
        let response = self.ask(connection, &request, version, left).await?;
        let release = release_of(connection);
        let rows = response.results.into_iter().filter_map(|row| {
            let (kind, code) = (row.resource_type, row.error_code);
            let about = About::of(kind, code, &row.resource_name, resources, release)?;
            Some(about.told(|resource| described(row, resource)))
        });
        Ok(rows.collect())
    }
}

/// What a row of an answer is about.
enum About {
    /// This resource.
    Resource(ConfigResource),
    /// One of a kind that the broker does not know.
    UnknownKind(ConfigResource),
}

/// What brokers put in the place of a kind of resource that they do not know.
const UNKNOWN_KIND: i8 = 0;

impl About {
    fn of(
        kind: i8,
        code: ErrorCode,
        name: &ByteString,
        asked: &[ConfigResource],
        release: (u8, u8),
    ) -> Option<Self> {
        if kind != UNKNOWN_KIND {
            let resource = ConfigResource::of(kind, name)?;
            // Since 2.8 they name the kind that they do not know.
            let is_unknown = code == ErrorCode::InvalidRequest && resource.since() > release;
            return Some(match is_unknown {
                true => About::UnknownKind(resource),
                false => About::Resource(resource),
            });
        }
        let mut newer = asked.iter().filter(|resource| resource.since() > OLDEST);
        newer.find(|resource| resource.name() == *name).cloned().map(About::UnknownKind)
    }

    fn told<T>(
        self,
        result: impl FnOnce(&ConfigResource) -> Result<T, Error>,
    ) -> (ConfigResource, Result<T, Error>) {
        match self {
            About::Resource(resource) => {
                let result = result(&resource);
                (resource, result)
            }
            About::UnknownKind(resource) => {
                let what = format!("tell or change configs of {resource}");
                let (major, minor) = resource.since();
                let error = unsupported(&what, &format!("{major}.{minor}"));
                (resource, Err(error))
            }
        }
    }
}

/// The oldest release that is spoken with.
const OLDEST: (u8, u8) = (2, 1);
/// Releases since which there are more kinds of resources, by versions of other APIs that came with them; the newest first.
const RELEASES: [(ApiKey, i16, (u8, u8)); 3] =
    [(ApiKey::Produce, 12, (4, 0)), (ApiKey::Fetch, 16, (3, 7)), (ApiKey::Metadata, 9, (2, 4))];

/// The release of Apache Kafka that a broker is like, as far as kinds of resources are concerned.
fn release_of(connection: &Connection) -> (u8, u8) {
    let has =
        |api, version| connection.versions().newest(api, version).is_ok_and(|has| has == version);
    let found = RELEASES.iter().find(|(api, version, _)| has(*api, *version));
    found.map_or(OLDEST, |(_, _, release)| *release)
}

impl ConfigResource {
    /// The release of Apache Kafka that has this kind first.
    fn since(&self) -> (u8, u8) {
        match self {
            ConfigResource::Topic(_)
            | ConfigResource::Broker(_)
            | ConfigResource::BrokerDefaults => OLDEST,
            ConfigResource::BrokerLogger(_) => (2, 4),
            ConfigResource::ClientMetrics(_) => (3, 7),
            ConfigResource::Group(_) => (4, 0),
        }
    }

    fn code(&self) -> i8 {
        match self {
            ConfigResource::Topic(_) => 2,
            ConfigResource::Broker(_) | ConfigResource::BrokerDefaults => 4,
            ConfigResource::BrokerLogger(_) => 8,
            ConfigResource::ClientMetrics(_) => 16,
            ConfigResource::Group(_) => 32,
        }
    }

    fn name(&self) -> ByteString {
        match self {
            ConfigResource::Topic(name)
            | ConfigResource::Group(name)
            | ConfigResource::ClientMetrics(name) => name.clone(),
            ConfigResource::Broker(id) | ConfigResource::BrokerLogger(id) => id.to_string().into(),
            ConfigResource::BrokerDefaults => ByteString::new(),
        }
    }

    /// The resource of a row that a broker sent.
    fn of(code: i8, name: &ByteString) -> Option<Self> {
        Some(match code {
            2 => ConfigResource::Topic(name.clone()),
            4 if name.is_empty() => ConfigResource::BrokerDefaults,
            4 => ConfigResource::Broker(name.parse().ok()?),
            8 => ConfigResource::BrokerLogger(name.parse().ok()?),
            16 => ConfigResource::ClientMetrics(name.clone()),
            32 => ConfigResource::Group(name.clone()),
            _ => return None,
        })
    }

    /// The only broker that knows.
    fn owner(&self) -> Option<i32> {
        match self {
            ConfigResource::Broker(id) | ConfigResource::BrokerLogger(id) => Some(*id),
            _ => None,
        }
    }
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigResource::Topic(name) => write!(f, "topic {name}"),
            ConfigResource::Broker(id) => write!(f, "broker {id}"),
            ConfigResource::BrokerDefaults => f.write_str("all brokers"),
            ConfigResource::BrokerLogger(id) => write!(f, "the loggers of broker {id}"),
            ConfigResource::Group(name) => write!(f, "group {name}"),
            ConfigResource::ClientMetrics(name) => write!(f, "metrics subscription {name}"),
        }
    }
}

impl ConfigSource {
    fn of(code: i8) -> Self {
        match code {
            1 => ConfigSource::Topic,
            2 => ConfigSource::DynamicBroker,
            3 => ConfigSource::DynamicDefaultBroker,
            4 => ConfigSource::StaticBroker,
            5 => ConfigSource::Default,
            6 => ConfigSource::DynamicBrokerLogger,
            7 => ConfigSource::ClientMetrics,
            8 => ConfigSource::Group,
            other => ConfigSource::Unknown(other),
        }
    }
}

impl ConfigType {
    fn of(code: i8) -> Option<Self> {
        Some(match code {
            1 => ConfigType::Boolean,
            2 => ConfigType::String,
            3 => ConfigType::Int,
            4 => ConfigType::Short,
            5 => ConfigType::Long,
            6 => ConfigType::Double,
            7 => ConfigType::List,
            8 => ConfigType::Class,
            9 => ConfigType::Password,
            _ => return None,
        })
    }
}

fn alterable((name, change): (&ByteString, &ConfigChange)) -> AlterableConfig {
    let (config_operation, value) = match change {
        ConfigChange::Set(value) => (0, Some(value)),
        ConfigChange::Delete => (1, None),
        ConfigChange::Append(value) => (2, Some(value)),
        ConfigChange::Subtract(value) => (3, Some(value)),
    };
    AlterableConfig {
        name: name.clone(),
        config_operation,
        value: value.cloned(),
        ..Default::default()
    }
}

fn outcome(
    code: ErrorCode,
    message: Option<ByteString>,
    doing: &str,
    resource: &ConfigResource,
) -> Result<(), Error> {
    match code {
        ErrorCode::None => Ok(()),
        code => Err(Error::broker(code, format_args!("{doing} {resource}"))
            .with_detail(message.as_deref().map(AsRef::as_ref))),
    }
}

fn described(
    row: DescribeConfigsResult,
    resource: &ConfigResource,
) -> Result<BTreeMap<ByteString, ConfigEntry>, Error> {
    outcome(row.error_code, row.error_message, "describing configs of", resource)?;
    let entry = |row: DescribeConfigsResourceResult| {
        let synonyms = row.synonyms.into_iter().map(|row| ConfigSynonym {
            name: row.name,
            value: row.value,
            source: ConfigSource::of(row.source),
        });
        let entry = ConfigEntry {
            value: row.value,
            source: ConfigSource::of(row.config_source),
            is_sensitive: row.is_sensitive,
            is_read_only: row.read_only,
            config_type: ConfigType::of(row.config_type),
            synonyms: synonyms.collect(),
            documentation: row.documentation.filter(|text| !text.is_empty()),
        };
        (row.name, entry)
    };
    Ok(row.configs.into_iter().map(entry).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_kind_that_an_old_broker_does_not_know_is_unsupported_and_not_missing() {
        let name = ByteString::from("n");
        let asked = [ConfigResource::Topic(name.clone()), ConfigResource::Group(name.clone())];
        let refused = ErrorCode::InvalidRequest;
        let about = About::of(UNKNOWN_KIND, refused, &name, &asked, OLDEST).unwrap();
        let (resource, result) = about.told(|_| Ok(()));
        assert_eq!(resource, asked[1]);
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.advice().contains("4.0"), "{}", error.advice());
        let about = About::of(32, refused, &name, &asked, (3, 9)).unwrap();
        assert!(matches!(about, About::UnknownKind(_)));
        let about = About::of(32, refused, &name, &asked, (4, 0)).unwrap();
        assert!(matches!(about, About::Resource(_)), "it is refused for another reason");
        let about = About::of(2, refused, &name, &asked, OLDEST).unwrap();
        assert_eq!(about.told(|_| Ok(())).0, asked[0]);
        let other = "other".into();
        assert!(About::of(UNKNOWN_KIND, refused, &other, &asked, OLDEST).is_none());
    }
}
