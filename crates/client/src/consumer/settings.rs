//! The settings of a consumer, by Kafka's names, with Kafka's defaults, ranges and rules; except that the system sizes the receive buffer
//! unless `receive.buffer.bytes` is set.

use std::{fmt, sync::Arc, time::Duration};

use bytestring::ByteString;
use kavka_assignor::{Assignor, RebalanceProtocol};
use kavka_member::{IsolationLevel, MemberConfig, OffsetReset, UserData};

use crate::{
    Error, ErrorKind,
    settings::{
        CommonSettings, Outcome, bool_value, common_names, duration_ms, integer, one_of,
        unknown_property,
    },
};

/// What a consumer is told before it starts.
#[derive(Clone)]
pub(super) struct ConsumerSettings {
    pub(super) common: CommonSettings,
    pub(super) group_id: Option<ByteString>,
    pub(super) group_instance_id: Option<ByteString>,
    pub(super) group_protocol: GroupProtocol,
    /// `None`: range and cooperative-sticky, Kafka's default.
    pub(super) assignors: Option<Vec<NamedAssignor>>,
    pub(super) session_timeout: Option<Duration>,
    pub(super) heartbeat_interval: Option<Duration>,
    pub(super) max_poll_interval: Duration,
    pub(super) drain_timeout: Option<Duration>,
    /// `None`: as the presence of a group has it.
    pub(super) enable_auto_commit: Option<bool>,
    pub(super) auto_commit_interval: Duration,
    pub(super) offset_reset: OffsetReset,
    pub(super) isolation_level: IsolationLevel,
    pub(super) fetch: FetchSettings,
    pub(super) exclude_internal_topics: bool,
    pub(super) client_id: Option<ByteString>,
    pub(super) remote_assignor: Option<ByteString>,
}

/// How records are fetched.
#[derive(Clone, Copy, Debug)]
pub(super) struct FetchSettings {
    pub(super) min_bytes: i32,
    pub(super) max_bytes: i32,
    pub(super) partition_max_bytes: i32,
    pub(super) max_wait: Duration,
    pub(super) check_crcs: bool,
}

/// `group.protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupProtocol {
    /// JoinGroup and SyncGroup.
    Classic,
    /// KIP-848.
    Consumer,
}

/// An assignor; one of a name that Kafka has, or the application's own.
#[derive(Clone)]
pub(super) enum NamedAssignor {
    /// Comes with the assignor crate.
    Known(&'static str),
    /// The application's.
    Own(Arc<dyn Assignor>),
}

const MAX_MS: u64 = i32::MAX as u64;

/// Every name that [`ConsumerSettings::set`] knows beside the common ones.
const NAMES: &[&str] = &[
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "check.crcs",
    "enable.auto.commit",
    "exclude.internal.topics",
    "fetch.max.bytes",
    "fetch.max.wait.ms",
    "fetch.min.bytes",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.remote.assignor",
    "heartbeat.interval.ms",
    "isolation.level",
    "key.deserializer",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "max.poll.records",
    "partition.assignment.strategy",
    "session.timeout.ms",
    "share.acknowledgement.mode",
    "share.acquire.mode",
    "value.deserializer",
];

/// The assignors that Kafka ships, by what users write: the protocol's name, or the class of Java's client.
const ASSIGNORS: &[(&str, &str)] = &[
    ("range", "range"),
    ("roundrobin", "roundrobin"),
    ("sticky", "sticky"),
    ("cooperative-sticky", "cooperative-sticky"),
    ("org.apache.kafka.clients.consumer.RangeAssignor", "range"),
    ("org.apache.kafka.clients.consumer.RoundRobinAssignor", "roundrobin"),
    ("org.apache.kafka.clients.consumer.StickyAssignor", "sticky"),
    ("org.apache.kafka.clients.consumer.CooperativeStickyAssignor", "cooperative-sticky"),
];

impl Default for ConsumerSettings {
    fn default() -> Self {
        Self {
            // On Linux it begins as large as Kafka's 64 KiB come out there, and grows. Of a fixed one every 95 kB are waited for and
            // read apart, which costs a third more CPU for every byte that is fetched.
            common: CommonSettings { receive_buffer_bytes: None, ..CommonSettings::default() },
            group_id: None,
            group_instance_id: None,
            group_protocol: GroupProtocol::Classic,
            assignors: None,
            session_timeout: None,
            heartbeat_interval: None,
            max_poll_interval: Duration::from_secs(300),
            drain_timeout: None,
            enable_auto_commit: None,
            auto_commit_interval: Duration::from_secs(5),
            offset_reset: OffsetReset::Latest,
            isolation_level: IsolationLevel::ReadUncommitted,
            fetch: FetchSettings {
                min_bytes: 1,
                max_bytes: 50 << 20,
                partition_max_bytes: 1 << 20,
                max_wait: Duration::from_millis(500),
                check_crcs: true,
            },
            exclude_internal_topics: true,
            client_id: None,
            remote_assignor: None,
        }
    }
}

impl fmt::Debug for ConsumerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerSettings")
            .field("common", &self.common)
            .field("group_id", &self.group_id)
            .finish_non_exhaustive()
    }
}

impl ConsumerSettings {
    /// Takes a property of any name a consumer has.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<Outcome, Error> {
        match name {
            "group.id" => self.group_id = Some(value.into()),
            "group.instance.id" => self.group_instance_id = Some(value.into()),
            "group.protocol" => {
                let words =
                    [("classic", GroupProtocol::Classic), ("consumer", GroupProtocol::Consumer)];
                self.group_protocol = one_of(name, value, &words)?;
            }
            "group.remote.assignor" => self.remote_assignor = Some(value.into()),
            "partition.assignment.strategy" => {
                let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
                let known = names.map(|word| one_of(name, word, ASSIGNORS));
                let known: Result<Vec<&'static str>, Error> = known.collect();
                self.assignors = Some(known?.into_iter().map(NamedAssignor::Known).collect());
            }
            "session.timeout.ms" => {
                self.session_timeout = Some(duration_ms(name, value, 1..=MAX_MS)?);
            }
            "heartbeat.interval.ms" => {
                self.heartbeat_interval = Some(duration_ms(name, value, 1..=MAX_MS)?);
            }
            "max.poll.interval.ms" => {
                self.max_poll_interval = duration_ms(name, value, 1..=MAX_MS)?;
            }
            "enable.auto.commit" => self.enable_auto_commit = Some(bool_value(name, value)?),
            "auto.commit.interval.ms" => {
                self.auto_commit_interval = duration_ms(name, value, 0..=MAX_MS)?;
            }
            "auto.offset.reset" => self.offset_reset = offset_reset(name, value)?,
            "isolation.level" => {
                let words = [
                    ("read_uncommitted", IsolationLevel::ReadUncommitted),
                    ("read_committed", IsolationLevel::ReadCommitted),
                ];
                self.isolation_level = one_of(name, value, &words)?;
            }
            "fetch.min.bytes" => self.fetch.min_bytes = integer(name, value, 0..=i32::MAX)?,
            "fetch.max.bytes" => self.fetch.max_bytes = integer(name, value, 0..=i32::MAX)?,
            "max.partition.fetch.bytes" => {
                self.fetch.partition_max_bytes = integer(name, value, 0..=i32::MAX)?;
            }
            "fetch.max.wait.ms" => self.fetch.max_wait = duration_ms(name, value, 0..=MAX_MS)?,
            "check.crcs" => self.fetch.check_crcs = bool_value(name, value)?,
            "exclude.internal.topics" => self.exclude_internal_topics = bool_value(name, value)?,
            "client.id" => {
                self.client_id = Some(value.into()).filter(|id: &ByteString| !id.is_empty())
            }
            _ => return self.set_other(name, value),
        }
        Ok(Outcome::Taken)
    }

    /// Names without an effect, and those of all clients.
    fn set_other(&mut self, name: &str, value: &str) -> Result<Outcome, Error> {
        Ok(Outcome::NoEffect(match name {
            "max.poll.records" => {
                integer(name, value, 1..=i32::MAX)?;
                "records are handed over one at a time, or as they were written in batches"
            }
            "key.deserializer" | "value.deserializer" => "keys and values are bytes here",
            "share.acknowledgement.mode" | "share.acquire.mode" => "this is not a share consumer",
            _ => return self.common.set(name, value),
        }))
    }

    /// Whether there is a property of this name.
    pub(super) fn knows(name: &str) -> bool {
        NAMES.iter().copied().chain(common_names()).any(|known| known == name)
    }

    /// The names a consumer has.
    pub(super) fn unknown(name: &str) -> Error {
        unknown_property(name, NAMES.iter().copied().chain(common_names()))
    }

    /// Checks what no single property shows, and fills in what depends on others.
    pub(super) fn check(&self) -> Result<(), Error> {
        let bad = |message: &str| Err(Error::new(ErrorKind::Config, message));
        if self.group_protocol == GroupProtocol::Consumer {
            let classic_only = [
                ("partition.assignment.strategy", self.assignors.is_some()),
                ("heartbeat.interval.ms", self.heartbeat_interval.is_some()),
                ("session.timeout.ms", self.session_timeout.is_some()),
            ];
            if let Some((name, _)) = classic_only.iter().find(|(_, is_set)| *is_set) {
                return bad(&format!("{name} cannot be set with group.protocol=consumer"));
            }
            return Err(Error::new(
                ErrorKind::Unsupported,
                "group.protocol=consumer (KIP-848) is not there yet",
            )
            .with_advice("Use group.protocol=classic, which every broker speaks."));
        }
        if self.remote_assignor.is_some() {
            return bad("group.remote.assignor needs group.protocol=consumer");
        }
        if self.group_id.is_none() {
            if self.enable_auto_commit == Some(true) {
                return bad("enable.auto.commit=true needs a group.id");
            }
            if self.group_instance_id.is_some() {
                return bad("group.instance.id needs a group.id");
            }
        }
        Ok(())
    }

    /// The settings of the membership.
    pub(super) fn member_config(&self, assignors: &[Box<dyn Assignor>]) -> MemberConfig {
        let auto_commit = self.enable_auto_commit.unwrap_or(self.group_id.is_some());
        let defaults = MemberConfig::new("");
        MemberConfig {
            group_id: self.group_id.clone(),
            group_instance_id: self.group_instance_id.clone(),
            client_rack: self.common.client_rack.clone(),
            assignors: assignors.iter().map(|assignor| described(assignor.as_ref())).collect(),
            session_timeout: self.session_timeout.unwrap_or(defaults.session_timeout),
            heartbeat_interval: self.heartbeat_interval.unwrap_or(defaults.heartbeat_interval),
            max_poll_interval: self.max_poll_interval,
            drain_timeout: self.drain_timeout,
            auto_commit_interval: auto_commit.then_some(self.auto_commit_interval),
            offset_reset: self.offset_reset,
            isolation_level: self.isolation_level,
            request_timeout: self.common.request_timeout,
            retry_backoff: self.common.retry_backoff,
            retry_backoff_max: self.common.retry_backoff_max,
        }
    }

    /// The assignors, in the order they are preferred.
    pub(super) fn assignors(&self) -> Vec<Box<dyn Assignor>> {
        let default = [NamedAssignor::Known("range"), NamedAssignor::Known("cooperative-sticky")];
        let chosen = self.assignors.as_deref().unwrap_or(&default);
        let made = chosen.iter().filter_map(|assignor| match assignor {
            NamedAssignor::Known(name) => kavka_assignor::by_name(name),
            NamedAssignor::Own(own) => Some(Box::new(Shared(Arc::clone(own))) as Box<dyn Assignor>),
        });
        made.collect()
    }
}

/// An assignor of the application's, which several consumers may share.
#[derive(Debug)]
struct Shared(Arc<dyn Assignor>);

impl Assignor for Shared {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn protocols(&self) -> &[RebalanceProtocol] {
        self.0.protocols()
    }

    fn version(&self) -> i16 {
        self.0.version()
    }

    fn subscription_user_data(
        &self,
        topics: &[ByteString],
        last: Option<kavka_assignor::LastAssignment<'_>>,
    ) -> Option<bytes::Bytes> {
        self.0.subscription_user_data(topics, last)
    }

    fn assign(
        &self,
        group: &kavka_assignor::Group,
    ) -> Result<kavka_assignor::Assignment, Box<dyn std::error::Error + Send + Sync>> {
        self.0.assign(group)
    }

    fn on_assignment(
        &self,
        assignment: kavka_assignor::LastAssignment<'_>,
        user_data: Option<&bytes::Bytes>,
    ) {
        self.0.on_assignment(assignment, user_data);
    }
}

fn described(assignor: &dyn Assignor) -> kavka_member::Assignor {
    match assignor.name() {
        "range" => kavka_member::Assignor::range(),
        "roundrobin" => kavka_member::Assignor::round_robin(),
        "sticky" => kavka_member::Assignor::sticky(),
        "cooperative-sticky" => kavka_member::Assignor::cooperative_sticky(),
        name => kavka_member::Assignor {
            name: name.into(),
            is_cooperative: assignor.protocols().contains(&RebalanceProtocol::Cooperative),
            // The driver asks it when the member joins.
            user_data: UserData::None,
        },
    }
}

/// `earliest`, `latest`, `none`, `by_duration:P3DT4H`.
fn offset_reset(name: &str, value: &str) -> Result<OffsetReset, Error> {
    if let Some(text) = value.trim().strip_prefix("by_duration:") {
        return iso_duration(text).map(OffsetReset::ByDuration).ok_or_else(|| {
            Error::new(
                ErrorKind::Config,
                format!("{name} is \"{value}\": expected an ISO 8601 duration such as by_duration:P3DT4H"),
            )
        });
    }
    let words = [
        ("earliest", OffsetReset::Earliest),
        ("latest", OffsetReset::Latest),
        ("none", OffsetReset::None),
    ];
    one_of(name, value, &words)
}

/// Days, hours, minutes and seconds as Java's `Duration.parse` takes them, but for signs.
fn iso_duration(text: &str) -> Option<Duration> {
    let text = text.to_ascii_uppercase();
    let rest = text.strip_prefix('P')?;
    let (days, time) = rest.split_once('T').map_or((rest, None), |(days, time)| (days, Some(time)));
    let mut seconds = 0.0;
    let mut has_part = false;
    if !days.is_empty() {
        seconds += days.strip_suffix('D')?.parse::<u32>().ok().map(f64::from)? * 86_400.0;
        has_part = true;
    }
    if let Some(mut time) = time {
        for (unit, factor) in [('H', 3600.0), ('M', 60.0), ('S', 1.0)] {
            if let Some((number, rest)) = time.split_once(unit) {
                let is_plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
                seconds += number.parse::<f64>().ok().filter(|_| is_plain)? * factor;
                has_part = true;
                time = rest;
            }
        }
        if !time.is_empty() {
            return None;
        }
    }
    has_part.then(|| Duration::try_from_secs_f64(seconds).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_in_the_list_is_known() {
        let mut settings = ConsumerSettings::default();
        for name in NAMES {
            let outcome = settings.set(name, "x");
            assert!(!matches!(outcome, Ok(Outcome::Unknown)), "{name}");
        }
        let error = ConsumerSettings::unknown("max.poll.interval");
        assert!(error.to_string().contains("did you mean max.poll.interval.ms?"), "{error}");
    }

    #[test]
    fn the_system_sizes_the_receive_buffer_unless_it_is_set() {
        let mut settings = ConsumerSettings::default();
        assert_eq!(settings.common.receive_buffer_bytes, None);
        settings.set("receive.buffer.bytes", "65536").expect("a good value");
        assert_eq!(settings.common.receive_buffer_bytes, Some(65_536));
    }

    #[test]
    fn assignors_are_known_by_their_names_and_by_javas_classes() {
        let mut settings = ConsumerSettings::default();
        let java = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor, roundrobin";
        settings.set("partition.assignment.strategy", java).expect("both are known");
        let names: Vec<String> =
            settings.assignors().iter().map(|assignor| assignor.name().to_owned()).collect();
        assert_eq!(names, ["cooperative-sticky", "roundrobin"]);
        assert!(settings.set("partition.assignment.strategy", "fair").is_err());
    }

    #[test]
    fn rules_across_properties_are_those_of_kafka() {
        let with = |properties: &[(&str, &str)]| {
            let mut settings = ConsumerSettings::default();
            for (name, value) in properties {
                settings.set(name, value).expect("a good value");
            }
            settings.check().map_err(|error| error.kind())
        };
        assert_eq!(with(&[("group.id", "g")]), Ok(()));
        assert_eq!(with(&[]), Ok(()));
        assert_eq!(with(&[("enable.auto.commit", "true")]), Err(ErrorKind::Config));
        assert_eq!(with(&[("group.remote.assignor", "uniform")]), Err(ErrorKind::Config));
        let consumer = ("group.protocol", "Consumer");
        assert_eq!(with(&[consumer]), Err(ErrorKind::Unsupported));
        assert_eq!(with(&[consumer, ("session.timeout.ms", "1")]), Err(ErrorKind::Config));
    }

    #[test]
    fn resets_are_words_or_durations() {
        let parse = |text| offset_reset("auto.offset.reset", text).ok();
        assert_eq!(parse("Earliest"), Some(OffsetReset::Earliest));
        assert_eq!(parse("none"), Some(OffsetReset::None));
        let by = |seconds| Some(OffsetReset::ByDuration(Duration::from_secs(seconds)));
        assert_eq!(parse("by_duration:P3DT4H"), by(3 * 86_400 + 4 * 3600));
        assert_eq!(parse("by_duration:PT90S"), by(90));
        assert_eq!(parse("by_duration:P1D"), by(86_400));
        for bad in [
            "soon",
            "by_duration:",
            "by_duration:P",
            "by_duration:PT",
            "by_duration:-PT1S",
            "by_duration:PT1X",
            "by_duration:PT-1S",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_consumer_without_a_group_commits_nothing() {
        let mut settings = ConsumerSettings::default();
        let assignors = settings.assignors();
        assert_eq!(settings.member_config(&assignors).auto_commit_interval, None);
        settings.group_id = Some("g".into());
        let every = settings.member_config(&assignors).auto_commit_interval;
        assert_eq!(every, Some(Duration::from_secs(5)));
    }
}
