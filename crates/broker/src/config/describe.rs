//! DescribeConfigs and AlterConfigs for brokers.

use kavka_meta::ConfigMap;
use kavka_meta::config::{
    BrokerValues, ConfigDef, ConfigEntry, ConfigError, ConfigSource, Effect, Synonym,
};

use super::BrokerConfig;
use super::table::{BROKER_CONFIGS, documentation, find_setting, is_dynamic};

impl BrokerConfig {
    /// What is set for this broker, with what AlterConfigs has set for it and for all brokers.
    #[must_use]
    pub fn values<'a>(
        &'a self,
        dynamic: &'a ConfigMap,
        dynamic_default: &'a ConfigMap,
    ) -> BrokerValues<'a> {
        BrokerValues { dynamic, dynamic_default, fixed: &self.fixed }
    }

    /// Describes all settings of this broker, sorted by name; internal ones only where they are set.
    #[must_use]
    pub fn describe(&self, dynamic: &ConfigMap, dynamic_default: &ConfigMap) -> Vec<ConfigEntry> {
        let values = self.values(dynamic, dynamic_default);
        BROKER_CONFIGS
            .iter()
            .filter(|definition| !definition.internal || values.get(definition.name).is_some())
            .map(|definition| entry(definition, values.all(definition.name), true))
            .collect()
    }

    /// Describes what AlterConfigs has set for all brokers, sorted by name.
    #[must_use]
    pub fn describe_cluster_default(dynamic_default: &ConfigMap) -> Vec<ConfigEntry> {
        let set = |definition: &'static ConfigDef| {
            let value = dynamic_default.get(definition.name)?;
            let places = [(value.as_str(), ConfigSource::DynamicDefaultBroker)];
            Some(entry(definition, places.into_iter(), false))
        };
        BROKER_CONFIGS.iter().filter_map(set).collect()
    }
}

/// Checks what AlterConfigs is to set for one broker or for all.
///
/// # Errors
/// A setting that is unknown, that needs a restart, or whose value does not fit.
pub fn validate_dynamic(configs: &ConfigMap) -> Result<(), ConfigError> {
    for (name, value) in configs {
        let unknown = || ConfigError::Unknown { resource: "broker", name: name.clone() };
        let definition = find_setting(name)
            .filter(|definition| !matches!(definition.effect, Effect::Refused(_)))
            .ok_or_else(unknown)?;
        if !is_dynamic(name) {
            return Err(ConfigError::NotDynamic { name: name.clone() });
        }
        definition.parse(value).map_err(|error| ConfigError::Broker(Box::new(error)))?;
    }
    Ok(())
}

fn entry<'a>(
    definition: &'static ConfigDef,
    places: impl Iterator<Item = (&'a str, ConfigSource)>,
    with_default: bool,
) -> ConfigEntry {
    let show = |text: &str| {
        (!definition.sensitive())
            .then(|| definition.normalize(text).unwrap_or_else(|_| text.to_owned()))
    };
    let name = definition.name;
    let mut synonyms: Vec<Synonym> =
        places.map(|(text, source)| Synonym { name, value: show(text), source }).collect();
    if let Some(default) = definition.default.filter(|_| with_default) {
        synonyms.push(Synonym { name, value: show(default), source: ConfigSource::Default });
    }
    let first = synonyms.first();
    ConfigEntry {
        name,
        value: first.and_then(|first| first.value.clone()),
        source: first.map_or(ConfigSource::Default, |first| first.source),
        kind: definition.kind,
        read_only: !is_dynamic(name),
        sensitive: definition.sensitive(),
        documentation: documentation(definition),
        synonyms,
    }
}
