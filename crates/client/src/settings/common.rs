//! The settings that consumer, producer and admin share.

use std::{fmt, time::Duration};

use bytestring::ByteString;

use super::{Outcome, SecuritySettings, bool_value, duration_ms, integer, one_of};
use crate::{Error, ErrorKind, environment::Machine};

/// Where brokers are, how to reach them, how long to wait and how often to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommonSettings {
    /// `bootstrap.servers`: where to ask for the cluster first. Required.
    pub bootstrap_servers: Vec<Address>,
    /// `client.id`: shows up in the broker's logs, metrics and quotas. "kavka" unless set.
    pub client_id: ByteString,
    /// `client.rack`: where this client runs; for fetching from the nearest replica and rack aware assignment.
    pub client_rack: Option<ByteString>,
    /// `security.protocol`.
    pub security_protocol: SecurityProtocol,
    /// `ssl.*` and `sasl.*`.
    pub security: SecuritySettings,
    /// `request.timeout.ms`, 30 s: how long an answer may take.
    pub request_timeout: Duration,
    /// `default.api.timeout.ms`, 60 s: how long a call that takes no timeout of its own may take, retries included.
    pub default_api_timeout: Duration,
    /// `retry.backoff.ms`, 100 ms: the first wait before trying again; it doubles, with 20 % of jitter (KIP-580).
    pub retry_backoff: Duration,
    /// `retry.backoff.max.ms`, 1 s.
    pub retry_backoff_max: Duration,
    /// `reconnect.backoff.ms`, 50 ms: the same for connections.
    pub reconnect_backoff: Duration,
    /// `reconnect.backoff.max.ms`, 1 s.
    pub reconnect_backoff_max: Duration,
    /// `metadata.max.age.ms`, 5 min: after this, metadata is asked for again even if nothing failed.
    pub metadata_max_age: Duration,
    /// `allow.auto.create.topics`, true: whether asking for a topic may create it, where the broker allows it.
    pub allow_auto_create_topics: bool,
    /// `connections.max.idle.ms`, 9 min: after this, a connection nobody uses is closed.
    pub connections_max_idle: Duration,
    /// `metadata.recovery.strategy`, `rebootstrap`: what to do when no known broker is of use (KIP-899).
    pub metadata_recovery: MetadataRecovery,
    /// `metadata.recovery.rebootstrap.trigger.ms`, 5 min: so long metadata may be wanted in vain before the known brokers are given up
    /// for the bootstrap servers (KIP-1102).
    pub rebootstrap_trigger: Duration,
    /// `socket.connection.setup.timeout.ms`, 10 s: how long connecting, TLS and authentication may take for each address. It doubles
    /// with every failure in a row, with 20 % of jitter (KIP-601).
    pub connection_setup_timeout: Duration,
    /// `socket.connection.setup.timeout.max.ms`, 30 s: up to which it doubles.
    pub connection_setup_timeout_max: Duration,
    /// `send.buffer.bytes`, 128 KiB; `None` (-1): what the system chooses.
    pub send_buffer_bytes: Option<usize>,
    /// `receive.buffer.bytes`, 64 KiB, 32 KiB for producers; `None` (-1): what the system chooses, as for consumers unless it is set.
    pub receive_buffer_bytes: Option<usize>,
    /// `receive.message.max.bytes` (librdkafka's name), 100,000,000: a larger answer closes the connection.
    pub receive_message_max_bytes: usize,
    /// What the client takes from the machine it runs on.
    pub machine: Machine,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// A name or an IP address; without brackets for IPv6.
    pub host: ByteString,
    /// The port.
    pub port: u16,
}

/// What a client does that can reach none of the brokers it knows of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetadataRecovery {
    /// It tries them again and again.
    None,
    /// It begins anew with the bootstrap servers, whose names are looked up again.
    #[default]
    Rebootstrap,
}

/// How a connection is protected and authenticated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecurityProtocol {
    /// Neither.
    #[default]
    Plaintext,
    /// TLS, with or without a client certificate.
    Ssl,
    /// SASL without encryption.
    SaslPlaintext,
    /// SASL over TLS.
    SaslSsl,
}

const MAX_MS: u64 = i32::MAX as u64;
const MAX_LONG_MS: u64 = i64::MAX as u64;

/// Every name that [`CommonSettings::set`] knows.
pub(crate) const NAMES: &[&str] = &[
    "allow.auto.create.topics",
    "bootstrap.resolve.timeout.ms",
    "bootstrap.servers",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "config.providers",
    "connections.max.idle.ms",
    "default.api.timeout.ms",
    "enable.metrics.push",
    "interceptor.classes",
    "metadata.cluster.check.enable",
    "metadata.max.age.ms",
    "metadata.recovery.rebootstrap.trigger.ms",
    "metadata.recovery.strategy",
    "metric.reporters",
    "metrics.num.samples",
    "metrics.recording.level",
    "metrics.sample.window.ms",
    "receive.buffer.bytes",
    "receive.message.max.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "retries",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "security.protocol",
    "send.buffer.bytes",
    "socket.connection.setup.timeout.max.ms",
    "socket.connection.setup.timeout.ms",
];

impl Default for CommonSettings {
    fn default() -> Self {
        Self {
            bootstrap_servers: Vec::new(),
            client_id: ByteString::from_static("kavka"),
            client_rack: None,
            security_protocol: SecurityProtocol::Plaintext,
            security: SecuritySettings::default(),
            request_timeout: Duration::from_secs(30),
            default_api_timeout: Duration::from_secs(60),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            reconnect_backoff: Duration::from_millis(50),
            reconnect_backoff_max: Duration::from_secs(1),
            metadata_max_age: Duration::from_secs(300),
            allow_auto_create_topics: true,
            connections_max_idle: Duration::from_secs(540),
            metadata_recovery: MetadataRecovery::Rebootstrap,
            rebootstrap_trigger: Duration::from_secs(300),
            connection_setup_timeout: Duration::from_secs(10),
            connection_setup_timeout_max: Duration::from_secs(30),
            send_buffer_bytes: Some(131_072),
            receive_buffer_bytes: Some(65_536),
            receive_message_max_bytes: 100_000_000,
            machine: Machine::default(),
        }
    }
}

impl CommonSettings {
    /// Takes a property, if it is one of these.
    ///
    /// # Errors
    /// The value cannot be.
    pub fn set(&mut self, name: &str, value: &str) -> Result<Outcome, Error> {
        match name {
            "bootstrap.servers" => self.bootstrap_servers = Address::parse_list(value)?,
            "client.id" => self.client_id = value.into(),
            "client.rack" => {
                self.client_rack = Some(value).filter(|rack| !rack.is_empty()).map(Into::into);
            }
            "security.protocol" => {
                let words = [
                    ("PLAINTEXT", SecurityProtocol::Plaintext),
                    ("SSL", SecurityProtocol::Ssl),
                    ("SASL_PLAINTEXT", SecurityProtocol::SaslPlaintext),
                    ("SASL_SSL", SecurityProtocol::SaslSsl),
                ];
                self.security_protocol = one_of(name, value, &words)?;
            }
            "request.timeout.ms" => self.request_timeout = duration_ms(name, value, 1..=MAX_MS)?,
            "default.api.timeout.ms" => {
                self.default_api_timeout = duration_ms(name, value, 0..=MAX_MS)?;
            }
            "retry.backoff.ms" => self.retry_backoff = duration_ms(name, value, 0..=MAX_LONG_MS)?,
            "retry.backoff.max.ms" => {
                self.retry_backoff_max = duration_ms(name, value, 0..=MAX_LONG_MS)?;
            }
            "reconnect.backoff.ms" => {
                self.reconnect_backoff = duration_ms(name, value, 0..=MAX_LONG_MS)?;
            }
            "reconnect.backoff.max.ms" => {
                self.reconnect_backoff_max = duration_ms(name, value, 0..=MAX_LONG_MS)?;
            }
            "metadata.max.age.ms" => {
                self.metadata_max_age = duration_ms(name, value, 0..=MAX_LONG_MS)?;
            }
            "allow.auto.create.topics" => self.allow_auto_create_topics = bool_value(name, value)?,
            "connections.max.idle.ms" => {
                self.connections_max_idle = duration_ms(name, value, 0..=MAX_LONG_MS)?;
            }
            "socket.connection.setup.timeout.ms" => {
                self.connection_setup_timeout = duration_ms(name, value, 1..=MAX_LONG_MS)?;
            }
            "socket.connection.setup.timeout.max.ms" => {
                self.connection_setup_timeout_max = duration_ms(name, value, 1..=MAX_LONG_MS)?;
            }
            "metadata.recovery.strategy" => {
                let words = [
                    ("none", MetadataRecovery::None),
                    ("rebootstrap", MetadataRecovery::Rebootstrap),
                ];
                self.metadata_recovery = one_of(name, value, &words)?;
            }
            "metadata.recovery.rebootstrap.trigger.ms" => {
                self.rebootstrap_trigger = duration_ms(name, value, 0..=MAX_LONG_MS)?;
            }
            "client.dns.lookup" => return dns_lookup(name, value),
            "send.buffer.bytes" => self.send_buffer_bytes = buffer(name, value)?,
            "receive.buffer.bytes" => self.receive_buffer_bytes = buffer(name, value)?,
            "receive.message.max.bytes" => {
                self.receive_message_max_bytes = integer(name, value, 1000..=2_147_483_647)?;
            }
            _ => {
                return match self.security.set(name, value)? {
                    Outcome::Unknown => no_effect(name, value),
                    known => Ok(known),
                };
            }
        }
        Ok(Outcome::Taken)
    }

    /// Checks what no single property shows.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.bootstrap_servers.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "bootstrap.servers is missing: name at least one broker as host:port",
            ));
        }
        if self.security_protocol.has_sasl() {
            self.security.sasl.check()?;
        }
        Ok(())
    }
}

impl SecurityProtocol {
    /// Whether connections are encrypted.
    pub fn has_tls(self) -> bool {
        matches!(self, SecurityProtocol::Ssl | SecurityProtocol::SaslSsl)
    }

    /// Whether clients say who they are by SASL.
    pub fn has_sasl(self) -> bool {
        matches!(self, SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl)
    }
}

/// Properties that are Kafka's and change nothing here, with the reason.
fn no_effect(name: &str, value: &str) -> Result<Outcome, Error> {
    Ok(Outcome::NoEffect(match name {
        "metadata.cluster.check.enable" => {
            bool_value(name, value)?;
            "brokers are not asked which cluster they belong to"
        }
        "bootstrap.resolve.timeout.ms" => {
            duration_ms(name, value, 0..=MAX_LONG_MS)?;
            "names are looked up whenever a connection is made"
        }
        "config.providers" => "values are taken as they are",
        "retries" => "what can pass is tried again until its timeout",
        "enable.metrics.push"
        | "metric.reporters"
        | "metrics.num.samples"
        | "metrics.recording.level"
        | "metrics.sample.window.ms" => "metrics are read from the client, not pushed by it",
        "interceptor.classes" => "there are no Java classes here",
        _ => return Ok(Outcome::Unknown),
    }))
}

/// Every address of a name is tried. Names in place of addresses are what Kerberos needs, which is not supported.
fn dns_lookup(name: &str, value: &str) -> Result<Outcome, Error> {
    let canonical = Outcome::NoEffect(
        "every address of a name is tried; names are not looked up backwards, which only Kerberos needs",
    );
    let words = [
        ("use_all_dns_ips", Outcome::Taken),
        ("resolve_canonical_bootstrap_servers_only", canonical),
    ];
    one_of(name, value, &words)
}

fn buffer(name: &str, value: &str) -> Result<Option<usize>, Error> {
    Ok(usize::try_from(integer(name, value, -1..=i32::MAX)?).ok())
}

impl Address {
    /// `host:port`, `[v6]:port`, several of them with commas between; a protocol in front (`PLAINTEXT://`) is ignored, as by Kafka.
    fn parse_list(list: &str) -> Result<Vec<Address>, Error> {
        let mut addresses = Vec::new();
        for text in list.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            let address = Self::parse(text)?;
            if addresses.contains(&address) {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!("bootstrap.servers names {address} twice"),
                ));
            }
            addresses.push(address);
        }
        if addresses.is_empty() {
            return Err(Error::new(ErrorKind::Config, "bootstrap.servers is empty"));
        }
        Ok(addresses)
    }

    fn parse(text: &str) -> Result<Address, Error> {
        let bad = || {
            Error::new(
                ErrorKind::Config,
                format!("bootstrap.servers names \"{text}\": expected host:port"),
            )
        };
        let plain = text.split_once("://").map_or(text, |(_, rest)| rest);
        let (host, port) = plain.rsplit_once(':').ok_or_else(bad)?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or_else(bad)?,
            None if host.contains(':') => return Err(bad()),
            None => host,
        };
        let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(bad)?;
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(bad());
        }
        Ok(Address { host: host.into(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_in_the_list_is_known_and_others_are_not() {
        let mut settings = CommonSettings::default();
        for name in NAMES {
            let outcome = settings.set(name, "");
            assert!(!matches!(outcome, Ok(Outcome::Unknown)), "{name}");
        }
        assert_eq!(settings.set("group.id", "g").ok(), Some(Outcome::Unknown));
    }

    #[test]
    fn bootstrap_servers_are_hosts_and_ports() {
        let mut settings = CommonSettings::default();
        assert!(settings.check().is_err());
        settings.set("bootstrap.servers", "a:1, [::1]:2,PLAINTEXT://b:3").expect("a good list");
        let shown: Vec<String> =
            settings.bootstrap_servers.iter().map(Address::to_string).collect();
        assert_eq!(shown, ["a:1", "[::1]:2", "b:3"]);
        assert!(settings.check().is_ok());
        for bad in ["", ",", "a", "a:0", "a:x", ":1", "::1:2", "[::1:2", "a:1,a:1", "a b:1"] {
            let error = settings.set("bootstrap.servers", bad).expect_err(bad);
            assert!(error.to_string().contains("bootstrap.servers"), "{error}");
        }
    }

    #[test]
    fn minus_one_leaves_socket_buffers_to_the_system() {
        let mut settings = CommonSettings::default();
        settings.set("send.buffer.bytes", "-1").expect("a good value");
        assert_eq!(settings.send_buffer_bytes, None);
        assert!(settings.set("send.buffer.bytes", "-2").is_err());
    }
}
