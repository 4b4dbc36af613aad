//! From flags, environment and file to a [`BrokerConfig`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kavka_meta::ConfigMap;
use kavka_meta::config::topic::{self, TopicConfig};
use kavka_meta::config::{BrokerValues, ConfigDef, Effect, Value};

use super::error::{ConfigError, Origin};
use super::file;
use super::listener::{Endpoint, Listener, clash};
use super::table::{BROKER_CONFIGS, documentation, find_setting};
use super::{
    BrokerConfig, FetchConfig, GroupConfig, LogConfig, NetworkConfig, OffsetsConfig, SyncPolicy,
    TopicsConfig,
};

/// Everything settings are taken from.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions<'a, E> {
    /// A file named `….toml` or `….properties`.
    pub file: Option<&'a Path>,
    /// The values of `-X`, in the order of the command line.
    pub properties: Vec<(String, String)>,
    /// The environment; only names that begin with `KAVKA_` count.
    pub env: E,
    /// Environment variables that begin with `KAVKA_` and are no settings, because the program uses them otherwise.
    pub reserved_env: &'a [&'a str],
}

impl BrokerConfig {
    /// Gathers the settings and checks them, by themselves and together.
    ///
    /// # Errors
    /// The first setting that is unknown, wrong or refused, and where it was made; or a file that cannot be read.
    pub fn load<E>(options: LoadOptions<'_, E>) -> Result<Self, ConfigError>
    where
        E: IntoIterator<Item = (String, String)>,
    {
        let mut settings = Settings::default();
        if let Some(path) = options.file {
            settings.add_file(path)?;
        }
        settings.add_environment(options.env, options.reserved_env)?;
        for (name, value) in options.properties {
            settings.add(&name, value, Origin::Flag)?;
        }
        settings.check_each()?;
        settings.check_together()?;
        settings.build()
    }
}

/// The environment variable of a setting.
#[must_use]
pub fn environment_name(setting: &str) -> String {
    let name = setting.strip_prefix("kavka.").unwrap_or(setting);
    format!("{ENVIRONMENT_PREFIX}{}", name.replace('.', "_").to_ascii_uppercase())
}

const ENVIRONMENT_PREFIX: &str = "KAVKA_";

/// One setting as it was made.
#[derive(Debug)]
struct Setting {
    value: String,
    origin: Origin,
}

/// All that were made, before they are checked.
#[derive(Debug, Default)]
struct Settings {
    made: BTreeMap<&'static str, Setting>,
    warnings: Vec<String>,
}

impl Settings {
    fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let mut lines = BTreeMap::new();
        for line in file::read(path)? {
            let origin = Origin::File { path: path.to_owned(), line: line.line };
            if let Some(first) = lines.insert(line.name.clone(), line.line) {
                let name = &line.name;
                self.warnings
                    .push(format!("{origin}: {name} is set again, line {first} does not count"));
            }
            self.add(&line.name, line.value, origin)?;
        }
        Ok(())
    }

    fn add_environment(
        &mut self,
        env: impl IntoIterator<Item = (String, String)>,
        reserved: &[&str],
    ) -> Result<(), ConfigError> {
        let mut variables: BTreeMap<String, String> = env
            .into_iter()
            .filter(|(name, _)| {
                name.starts_with(ENVIRONMENT_PREFIX)
                    && !reserved.contains(&name.as_str())
                    && !is_service_link(name)
            })
            .collect();
        if variables.is_empty() {
            return Ok(());
        }
        for definition in BROKER_CONFIGS {
            let name = environment_name(definition.name);
            if let Some(value) = variables.remove(&name) {
                self.add(definition.name, value, Origin::Environment(name))?;
            }
        }
        match variables.pop_first() {
            Some((name, _)) => {
                let names =
                    BROKER_CONFIGS.iter().map(|definition| environment_name(definition.name));
                let nearest = nearest(&name, names);
                Err(ConfigError::Unknown {
                    origin: Origin::Environment(name.clone()),
                    name,
                    nearest,
                })
            }
            None => Ok(()),
        }
    }

    fn add(&mut self, name: &str, value: String, origin: Origin) -> Result<(), ConfigError> {
        if let Some(definition) = find_setting(name) {
            self.made.insert(definition.name, Setting { value, origin });
            return Ok(());
        }
        if let Some(base) = for_one_listener(name) {
            let why = documentation(base);
            self.warnings.push(format!("{origin}: {name} has no effect. {why}"));
            return Ok(());
        }
        let names = BROKER_CONFIGS
            .iter()
            .filter(|definition| !matches!(definition.effect, Effect::Refused(_)))
            .map(|definition| definition.name.to_owned());
        let nearest = nearest(name, names);
        Err(ConfigError::Unknown { name: name.to_owned(), origin, nearest })
    }

    /// Each setting by itself.
    fn check_each(&mut self) -> Result<(), ConfigError> {
        for (name, setting) in &self.made {
            let definition = definition(name);
            let value = definition
                .parse(&setting.value)
                .map_err(|error| invalid(definition, setting, error))?;
            let is_default = definition.default.is_some_and(|default| default == value.to_string());
            match definition.effect {
                Effect::Refused(why) if !is_default => {
                    return Err(ConfigError::Refused {
                        name: (*name).to_owned(),
                        origin: setting.origin.clone(),
                        reason: why.to_owned(),
                    });
                }
                Effect::Ignored(why) if !is_default => {
                    let (origin, shown) = (&setting.origin, shown(definition, setting));
                    self.warnings.push(format!("{origin}: {name}={shown} has no effect. {why}"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What single ranges cannot say.
    fn check_together(&mut self) -> Result<(), ConfigError> {
        self.check_order("group.min.session.timeout.ms", "group.max.session.timeout.ms")?;
        self.check_order("socket.request.max.bytes", "kavka.budget.bytes")?;
        self.check_order(
            "kavka.group.member.max.metadata.bytes",
            "kavka.group.max.metadata.bytes",
        )?;
        self.check_order("log.cleaner.min.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms")?;
        for kind in ["consumer", "share", "streams"] {
            for what in ["session.timeout.ms", "heartbeat.interval.ms", "assignment.interval.ms"] {
                let value = format!("group.{kind}.{what}");
                self.check_order(&format!("group.{kind}.min.{what}"), &value)?;
                self.check_order(&value, &format!("group.{kind}.max.{what}"))?;
            }
            let (heartbeat, session) = (
                format!("group.{kind}.heartbeat.interval.ms"),
                format!("group.{kind}.session.timeout.ms"),
            );
            if self.long(&heartbeat) >= self.long(&session) {
                let reason = format!("has to be below {session}, which is {}", self.long(&session));
                return Err(self.conflict(&heartbeat, reason));
            }
        }
        for name in ["log.retention.ms", "log.retention.minutes", "log.retention.hours"] {
            if self.made.contains_key(name) && self.long(name) == 0 {
                return Err(
                    self.conflict(name, "has to be -1, for no limit, or at least 1".to_owned())
                );
            }
        }
        if self.long("log.cleaner.dedupe.buffer.size") < MIN_DEDUPE_BUFFER {
            let reason = format!("has to be at least {MIN_DEDUPE_BUFFER}");
            return Err(self.conflict("log.cleaner.dedupe.buffer.size", reason));
        }
        for name in [
            "node.id",
            "offset.metadata.max.bytes",
            "group.min.session.timeout.ms",
            "group.initial.rebalance.delay.ms",
            "request.timeout.ms",
        ] {
            if self.long(name) < 0 {
                return Err(self.conflict(name, "cannot be negative".to_owned()));
            }
        }
        for name in ["socket.send.buffer.bytes", "socket.receive.buffer.bytes"] {
            if self.long(name) < 1 && self.long(name) != -1 {
                let reason = "has to be -1, for the system's choice, or at least 1".to_owned();
                return Err(self.conflict(name, reason));
            }
        }
        for name in ["default.replication.factor", "offsets.topic.replication.factor"] {
            let factor = self.long(name);
            if !(1..=i64::from(i16::MAX)).contains(&factor) {
                return Err(self.conflict(name, "has to be from 1 to 32767".to_owned()));
            }
            if factor > 1 {
                let origin = self.origin(name);
                let warning = format!(
                    "{origin}: {name}={factor}, but there is one broker: topics that are to have more replicas cannot be created"
                );
                self.warnings.push(warning);
            }
        }
        if let (Some(_), Some(broker)) = (self.made.get("node.id"), self.made.get("broker.id"))
            && self.long("node.id") != self.long("broker.id")
        {
            let reason =
                format!("differs from broker.id={}; set node.id only", broker.value.trim());
            return Err(self.conflict("node.id", reason));
        }
        Ok(())
    }

    fn check_order(&self, low: &str, high: &str) -> Result<(), ConfigError> {
        if self.long(low) <= self.long(high) {
            return Ok(());
        }
        // Name the one that somebody wrote.
        let (name, reason) = if self.made.contains_key(low) || !self.made.contains_key(high) {
            (low, format!("{} is above {high}, which is {}", self.long(low), self.long(high)))
        } else {
            (high, format!("{} is below {low}, which is {}", self.long(high), self.long(low)))
        };
        Err(self.conflict(name, reason))
    }

    fn build(mut self) -> Result<BrokerConfig, ConfigError> {
        let listeners = self.listeners()?;
        for listener in listeners.iter().filter(|listener| !listener.is_local()) {
            self.warnings.push(format!(
                "listener {} on '{}' port {} takes connections from other machines without authentication",
                listener.name, listener.host, listener.port
            ));
        }
        let fixed: ConfigMap = self
            .made
            .iter()
            .map(|(name, setting)| ((*name).to_owned(), setting.value.clone()))
            .collect();
        self.check_topic_defaults(&fixed)?;

        let budget_bytes = self.size("kavka.budget.bytes");
        let percent = self.size("kavka.connection.slow.reader.budget.percent");
        Ok(BrokerConfig {
            node_id: match self.made.contains_key("broker.id") && !self.made.contains_key("node.id")
            {
                true if self.int("broker.id") >= 0 => self.int("broker.id"),
                _ => self.int("node.id"),
            },
            rack: self.made.get("broker.rack").map(|rack| rack.value.trim().to_owned()),
            worker_threads: Some(self.size("kavka.worker.threads")).filter(|threads| *threads > 0),
            network: NetworkConfig {
                listeners,
                max_request_bytes: self.size("socket.request.max.bytes"),
                budget_bytes,
                max_in_flight: self.size("kavka.connection.max.in.flight"),
                send_buffer_bytes: self.positive("socket.send.buffer.bytes"),
                receive_buffer_bytes: self.positive("socket.receive.buffer.bytes"),
                backlog: self.rate("socket.listen.backlog.size"),
                max_connections: self.size("max.connections"),
                max_connections_per_ip: self.size("max.connections.per.ip"),
                max_connections_per_ip_overrides: self.connection_overrides()?,
                max_connection_rate: self.rate("max.connection.creation.rate"),
                idle_timeout: self
                    .positive("connections.max.idle.ms")
                    .map(|_| self.millis("connections.max.idle.ms")),
                first_frame_timeout: self.millis("kavka.connection.first.frame.timeout.ms"),
                frame_min_rate: self.rate("kavka.connection.frame.min.rate"),
                frame_grace: self.millis("kavka.connection.frame.grace.ms"),
                slow_reader_timeout: self.millis("kavka.connection.slow.reader.timeout.ms"),
                slow_reader_budget_bytes: budget_bytes / 100 * percent,
            },
            topics: TopicsConfig {
                auto_create: self.boolean("auto.create.topics.enable"),
                delete_enable: self.boolean("delete.topic.enable"),
                default_partitions: self.int("num.partitions"),
                default_replication_factor: self.short("default.replication.factor"),
            },
            fetch: FetchConfig {
                max_bytes: self.int("fetch.max.bytes"),
                session_slots: self.size("max.incremental.fetch.session.cache.slots"),
                describe_partition_limit: self.int("max.request.partition.size.limit"),
            },
            log: LogConfig {
                data_dir: self.data_dir()?,
                sync: match self.text("kavka.sync.policy").as_str() {
                    "interval" => SyncPolicy::Interval(self.millis("kavka.sync.interval.ms")),
                    _ => SyncPolicy::Always,
                },
                disk_floor_bytes: self.unsigned("kavka.disk.floor.bytes"),
                disk_reserve_bytes: self.unsigned("kavka.disk.reserve.bytes"),
                initial_task_delay: self.millis("log.initial.task.delay.ms"),
                retention_check_interval: self.millis("log.retention.check.interval.ms"),
                cleaner_enable: self.boolean("log.cleaner.enable"),
                cleaner_backoff: self.millis("log.cleaner.backoff.ms"),
                cleaner_dedupe_buffer_bytes: self.size("log.cleaner.dedupe.buffer.size"),
                producer_id_expiration_ms: self.long("producer.id.expiration.ms"),
                producer_id_expiration_check_interval: self
                    .millis("producer.id.expiration.check.interval.ms"),
                producer_ids_max: self.size("kavka.producer.ids.max"),
            },
            group: GroupConfig {
                min_session_timeout_ms: self.int("group.min.session.timeout.ms"),
                max_session_timeout_ms: self.int("group.max.session.timeout.ms"),
                initial_rebalance_delay_ms: self.int("group.initial.rebalance.delay.ms"),
                max_size: self.size("group.max.size"),
                member_max_metadata_bytes: self.size("kavka.group.member.max.metadata.bytes"),
                max_metadata_bytes: self.size("kavka.group.max.metadata.bytes"),
            },
            offsets: OffsetsConfig {
                metadata_max_bytes: self.size("offset.metadata.max.bytes"),
                retention_ms: self.long("offsets.retention.minutes").saturating_mul(60_000),
                retention_check_interval: self.millis("offsets.retention.check.interval.ms"),
                commit_timeout: self.millis("offsets.commit.timeout.ms"),
                load_buffer_bytes: self.size("offsets.load.buffer.size"),
                topic_partitions: self.int("offsets.topic.num.partitions"),
                topic_segment_bytes: self.int("offsets.topic.segment.bytes"),
            },
            fixed,
            warnings: self.warnings,
        })
    }

    /// The defaults of topics have to be valid for topics, whose ranges are sometimes narrower.
    fn check_topic_defaults(&self, fixed: &ConfigMap) -> Result<(), ConfigError> {
        let broker = BrokerValues { fixed, ..BrokerValues::none() };
        let none = ConfigMap::new();
        let checked =
            TopicConfig::resolve(&none, &broker).and_then(|_| topic::validate(&none, &broker));
        checked.map_err(|error| {
            let key = topic::TOPIC_CONFIGS
                .iter()
                .filter(|definition| error.to_string().contains(definition.name))
                .filter_map(|definition| definition.broker_key)
                .find(|key| self.made.contains_key(key));
            self.conflict(key.unwrap_or("log.dirs"), error.to_string())
        })
    }

    fn listeners(&mut self) -> Result<Vec<Listener>, ConfigError> {
        let endpoints = self.endpoints("listeners")?;
        let advertised = self.endpoints("advertised.listeners")?;
        let protocols = self.protocols()?;
        let controllers: Vec<String> = self
            .list("controller.listener.names")
            .iter()
            .map(|name| name.to_ascii_uppercase())
            .collect();
        let mut listeners = Vec::new();
        for (index, endpoint) in endpoints.iter().enumerate() {
            let name = &endpoint.name;
            if let Some(other) = endpoints[..index]
                .iter()
                .find(|other| other.name == *name || clash(other, endpoint))
            {
                let reason = format!("{name} and {} have the same name or port", other.name);
                return Err(self.conflict("listeners", reason));
            }
            if controllers.contains(name) {
                let origin = self.origin("listeners");
                self.warnings.push(format!(
                    "{origin}: listener {name} is for controllers and is not opened"
                ));
                continue;
            }
            match protocols.get(name).map(String::as_str) {
                Some("PLAINTEXT") => {}
                Some(protocol @ ("SSL" | "SASL_PLAINTEXT" | "SASL_SSL")) => {
                    return Err(ConfigError::Refused {
                        name: format!("listener {name}"),
                        origin: self.origin("listeners"),
                        reason: format!("{protocol} is still to come; only PLAINTEXT is there"),
                    });
                }
                Some(protocol) => {
                    let reason =
                        format!("'{protocol}' is not PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL");
                    return Err(self.conflict("listener.security.protocol.map", reason));
                }
                None => {
                    let reason = format!("{name} is not in listener.security.protocol.map");
                    return Err(self.conflict("listeners", reason));
                }
            }
            let told = advertised.iter().find(|advertised| advertised.name == *name);
            listeners.push(Listener {
                name: name.clone(),
                host: endpoint.host.clone(),
                port: endpoint.port,
                advertised_host: match told {
                    Some(told) => Some(told.host.clone()).filter(|host| !host.is_empty()),
                    None => Some(endpoint.host.clone()).filter(|_| !endpoint.is_everywhere()),
                },
                advertised_port: told.map(|told| told.port).filter(|port| *port != 0),
            });
        }
        for told in &advertised {
            if matches!(told.host.as_str(), "0.0.0.0" | "::") {
                let reason = format!("nobody can connect to {}; name a host", told.host);
                return Err(self.conflict("advertised.listeners", reason));
            }
            if !endpoints.iter().any(|endpoint| endpoint.name == told.name) {
                let reason = format!("there is no listener {}", told.name);
                return Err(self.conflict("advertised.listeners", reason));
            }
        }
        if listeners.is_empty() {
            return Err(self.conflict("listeners", "there has to be at least one".to_owned()));
        }
        Ok(listeners)
    }

    fn endpoints(&self, name: &str) -> Result<Vec<Endpoint>, ConfigError> {
        let texts = self.list(name);
        texts
            .iter()
            .map(|text| Endpoint::parse(text).map_err(|reason| self.conflict(name, reason)))
            .collect()
    }

    fn protocols(&self) -> Result<BTreeMap<String, String>, ConfigError> {
        let name = "listener.security.protocol.map";
        let map = self.text(name);
        let pairs = map.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| {
                let (listener, protocol) = pair
                    .split_once(':')
                    .ok_or_else(|| self.conflict(name, format!("'{pair}' is not NAME:PROTOCOL")))?;
                Ok((listener.trim().to_ascii_uppercase(), protocol.trim().to_ascii_uppercase()))
            })
            .collect()
    }

    fn connection_overrides(&self) -> Result<BTreeMap<IpAddr, usize>, ConfigError> {
        let name = "max.connections.per.ip.overrides";
        let text = self.text(name);
        let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| {
                let parsed = pair.rsplit_once(':').and_then(|(address, limit)| {
                    let address = address.trim_start_matches('[').trim_end_matches(']');
                    Some((address.parse().ok()?, limit.parse().ok()?))
                });
                parsed.ok_or_else(|| self.conflict(name, format!("'{pair}' is not ADDRESS:LIMIT")))
            })
            .collect()
    }

    fn data_dir(&self) -> Result<PathBuf, ConfigError> {
        let name = if self.made.contains_key("log.dirs") { "log.dirs" } else { "log.dir" };
        match self.list(name).as_slice() {
            [dir] if !dir.is_empty() => Ok(PathBuf::from(dir)),
            _ => Err(self.conflict(name, "has to be exactly one directory".to_owned())),
        }
    }

    fn origin(&self, name: &str) -> Origin {
        self.made.get(name).map_or(Origin::Default, |setting| setting.origin.clone())
    }

    fn conflict(&self, name: &str, reason: String) -> ConfigError {
        ConfigError::Conflict { name: name.to_owned(), origin: self.origin(name), reason }
    }

    /// The value in effect; that it parses was checked, that there is one is up to the caller.
    fn value(&self, name: &str) -> Option<Value> {
        let definition = definition(name);
        let text =
            self.made.get(name).map(|setting| setting.value.as_str()).or(definition.default)?;
        Some(definition.parse(text).expect("settings and defaults were checked"))
    }

    fn long(&self, name: &str) -> i64 {
        match self.value(name) {
            Some(Value::Number(number)) => number,
            other => panic!("{name} is a number in the table, not {other:?}"),
        }
    }

    fn int(&self, name: &str) -> i32 {
        i32::try_from(self.long(name)).expect("the table says INT")
    }

    fn short(&self, name: &str) -> i16 {
        i16::try_from(self.long(name)).expect("checked to be small")
    }

    /// A number that the table or a check keeps from being negative.
    fn unsigned(&self, name: &str) -> u64 {
        u64::try_from(self.long(name)).expect("checked not to be negative")
    }

    fn size(&self, name: &str) -> usize {
        usize::try_from(self.unsigned(name)).unwrap_or(usize::MAX)
    }

    fn rate(&self, name: &str) -> u32 {
        u32::try_from(self.unsigned(name)).unwrap_or(u32::MAX)
    }

    fn positive(&self, name: &str) -> Option<usize> {
        usize::try_from(self.long(name)).ok().filter(|number| *number > 0)
    }

    fn millis(&self, name: &str) -> Duration {
        Duration::from_millis(self.unsigned(name))
    }

    fn boolean(&self, name: &str) -> bool {
        self.value(name) == Some(Value::Boolean(true))
    }

    fn text(&self, name: &str) -> String {
        self.value(name).map(|value| value.to_string()).unwrap_or_default()
    }

    fn list(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Some(Value::List(words)) => words,
            None => Vec::new(),
            other => panic!("{name} is a list in the table, not {other:?}"),
        }
    }
}

const MIN_DEDUPE_BUFFER: i64 = 1024 * 1024;

fn definition(name: &str) -> &'static ConfigDef {
    find_setting(name).unwrap_or_else(|| panic!("{name} is not in the table"))
}

fn shown<'a>(definition: &ConfigDef, setting: &'a Setting) -> &'a str {
    if definition.sensitive() { "[hidden]" } else { &setting.value }
}

fn invalid(
    definition: &'static ConfigDef,
    setting: &Setting,
    error: kavka_meta::config::ConfigError,
) -> ConfigError {
    let reason = match error {
        kavka_meta::config::ConfigError::InvalidValue { reason, .. } => reason,
        other => other.to_string(),
    };
    ConfigError::Invalid {
        definition,
        value: shown(definition, setting).to_owned(),
        origin: setting.origin.clone(),
        reason,
    }
}

/// `listener.name.NAME.KEY` sets a security setting for one listener.
fn for_one_listener(name: &str) -> Option<&'static ConfigDef> {
    let rest = name.strip_prefix("listener.name.")?;
    rest.match_indices('.').find_map(|(dot, _)| {
        find_setting(&rest[dot + 1..]).filter(|definition| {
            definition.name.starts_with("ssl.") || definition.name.starts_with("sasl.")
        })
    })
}

/// Kubernetes puts variables of this form into every container when there is a service called kavka.
fn is_service_link(name: &str) -> bool {
    name == "KAVKA_PORT" || name.starts_with("KAVKA_PORT_") || name.starts_with("KAVKA_SERVICE_")
}

/// The known name that is most like this one, if one is.
fn nearest(name: &str, known: impl Iterator<Item = String>) -> Option<String> {
    known
        .map(|known| (strsim::normalized_damerau_levenshtein(name, &known), known))
        .filter(|(likeness, _)| *likeness > 0.6)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}
