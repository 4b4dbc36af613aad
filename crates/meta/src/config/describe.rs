//! What DescribeConfigs tells about one config, and where broker-level values come from.

use super::definition::{ConfigDef, ConfigType};
use crate::image::ConfigMap;

/// Where a value comes from, with Kafka's source ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
#[allow(missing_docs)]
pub enum ConfigSource {
    Topic = 1,
    DynamicBroker = 2,
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
    ClientMetrics = 7,
    Group = 8,
}

impl ConfigSource {
    /// The id on the wire.
    #[must_use]
    pub fn id(self) -> i8 {
        self as i8
    }
}

/// One place a value could come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synonym {
    /// The config in that place.
    pub name: &'static str,
    /// Its value there; `None` when it is a secret.
    pub value: Option<String>,
    /// Which place.
    pub source: ConfigSource,
}

/// One described config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// The config.
    pub name: &'static str,
    /// The value in effect; `None` when it has none or is a secret.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// The places the value could come from, the one that wins first.
    pub synonyms: Vec<Synonym>,
    /// The type of the value.
    pub kind: ConfigType,
    /// Whether it takes a restart to change it.
    pub read_only: bool,
    /// Whether the value is a secret.
    pub sensitive: bool,
    /// What the config means.
    pub documentation: &'static str,
}

/// What is set for a broker, in the three places where it can be set. Defaults are not here.
#[derive(Debug, Clone, Copy)]
pub struct BrokerValues<'a> {
    /// Set by AlterConfigs on this broker.
    pub dynamic: &'a ConfigMap,
    /// Set by AlterConfigs for all brokers.
    pub dynamic_default: &'a ConfigMap,
    /// Set at the start: flags, environment, file.
    pub fixed: &'a ConfigMap,
}

impl<'a> BrokerValues<'a> {
    /// Nothing set anywhere.
    #[must_use]
    pub fn none() -> BrokerValues<'static> {
        static NONE: ConfigMap = ConfigMap::new();
        BrokerValues { dynamic: &NONE, dynamic_default: &NONE, fixed: &NONE }
    }

    /// The value in effect, if one is set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.all(name).next().map(|(value, _)| value)
    }

    /// Each place where the config is set, the one that wins first.
    pub fn all(&self, name: &str) -> impl Iterator<Item = (&'a str, ConfigSource)> + use<'a> {
        let places = [
            (self.dynamic, ConfigSource::DynamicBroker),
            (self.dynamic_default, ConfigSource::DynamicDefaultBroker),
            (self.fixed, ConfigSource::StaticBroker),
        ];
        let found = places.map(|(map, source)| map.get(name).map(|value| (value.as_str(), source)));
        found.into_iter().flatten()
    }
}

impl ConfigDef {
    /// The value in effect for a topic or group config, as text, and not yet checked: the override, else what the broker
    /// has for it, else the default.
    pub(crate) fn effective(
        &self,
        overrides: &ConfigMap,
        broker: &BrokerValues<'_>,
    ) -> Option<String> {
        let own = overrides.get(self.name).map(String::as_str);
        let text = own.or_else(|| self.broker_key.and_then(|key| broker.get(key)));
        if let Some(text) = text {
            return Some(text.to_owned());
        }
        for (key, factor) in self.fallbacks {
            if let Some(number) = broker.get(key).and_then(|text| text.trim().parse::<i64>().ok()) {
                return Some(number.saturating_mul(*factor).max(-1).to_string());
            }
        }
        self.default.map(str::to_owned)
    }

    /// Describes a topic or group config. `own` is the source of an override.
    pub(crate) fn describe(
        &self,
        overrides: &ConfigMap,
        broker: &BrokerValues<'_>,
        own: ConfigSource,
    ) -> ConfigEntry {
        let show = |text: &str| {
            (!self.sensitive()).then(|| self.normalize(text).unwrap_or_else(|_| text.to_owned()))
        };
        let mut synonyms = Vec::new();
        if let Some(text) = overrides.get(self.name) {
            synonyms.push(Synonym { name: self.name, value: show(text), source: own });
        }
        if let Some(key) = self.broker_key {
            for (text, source) in broker.all(key) {
                synonyms.push(Synonym { name: key, value: show(text), source });
            }
            if let (Some(text), []) = (self.default, self.fallbacks) {
                synonyms.push(Synonym {
                    name: key,
                    value: show(text),
                    source: ConfigSource::Default,
                });
            }
        }
        ConfigEntry {
            name: self.name,
            value: self.effective(overrides, broker).as_deref().and_then(show),
            source: synonyms.first().map_or(ConfigSource::Default, |first| first.source),
            synonyms,
            kind: self.kind,
            read_only: false,
            sensitive: self.sensitive(),
            documentation: self.doc,
        }
    }
}
