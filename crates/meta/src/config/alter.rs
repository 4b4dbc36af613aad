//! AlterConfigs and IncrementalAlterConfigs: from the configs as they are to the configs as they shall be.
//!
//! These functions only move text about; whether the result is valid is asked afterwards, of the resource's own module.

use std::collections::BTreeSet;

use super::definition::{ConfigDef, ConfigType, Value, find};
use super::error::ConfigError;
use crate::image::ConfigMap;

/// The longest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 32_767;

/// What is done to one config, with Kafka's operation ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigOp {
    /// Set the value.
    Set = 0,
    /// Go back to the default. Fine if nothing was set.
    Delete = 1,
    /// Add elements to a list; those that are in it are skipped.
    Append = 2,
    /// Take elements out of a list; those that are not in it are skipped.
    Subtract = 3,
}

impl ConfigOp {
    /// The operation with this id on the wire.
    #[must_use]
    pub fn from_id(id: i8) -> Option<Self> {
        match id {
            0 => Some(Self::Set),
            1 => Some(Self::Delete),
            2 => Some(Self::Append),
            3 => Some(Self::Subtract),
            _ => None,
        }
    }
}

/// One step of an IncrementalAlterConfigs request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alteration {
    /// The config.
    pub name: String,
    /// What to do.
    pub op: ConfigOp,
    /// With what; ignored by [`ConfigOp::Delete`].
    pub value: Option<String>,
}

/// Applies an incremental change. A list that is not set starts from its default in `definitions`.
///
/// # Errors
/// A config that is named twice, a missing value, a value that is too long, or a list operation on something else.
pub fn apply_incremental(
    definitions: &'static [ConfigDef],
    current: &ConfigMap,
    changes: &[Alteration],
) -> Result<ConfigMap, ConfigError> {
    check_unique(changes.iter().map(|change| change.name.as_str()))?;
    let mut next = current.clone();
    for change in changes {
        let name = &change.name;
        if change.op == ConfigOp::Delete {
            next.remove(name);
            continue;
        }
        let value =
            change.value.as_deref().ok_or_else(|| ConfigError::NullValue { name: name.clone() })?;
        let value = match change.op {
            ConfigOp::Set | ConfigOp::Delete => value.to_owned(),
            ConfigOp::Append => {
                let mut list = current_list(definitions, current, name, "APPEND")?;
                for word in words(value) {
                    if !list.contains(&word) {
                        list.push(word);
                    }
                }
                list.join(",")
            }
            ConfigOp::Subtract => {
                let mut list = current_list(definitions, current, name, "SUBTRACT")?;
                let gone = words(value);
                list.retain(|word| !gone.contains(word));
                list.join(",")
            }
        };
        if value.len() > MAX_VALUE_BYTES {
            return Err(ConfigError::TooLong { name: name.clone(), limit: MAX_VALUE_BYTES });
        }
        next.insert(name.clone(), value);
    }
    Ok(next)
}

/// Applies an AlterConfigs request: what it does not name goes back to the default.
///
/// # Errors
/// A config that is named twice, a missing value, or a value that is too long.
pub fn apply_replacement(values: &[(String, Option<String>)]) -> Result<ConfigMap, ConfigError> {
    check_unique(values.iter().map(|(name, _)| name.as_str()))?;
    let entry = |(name, value): &(String, Option<String>)| {
        let value = value.clone().ok_or_else(|| ConfigError::NullValue { name: name.clone() })?;
        if value.len() > MAX_VALUE_BYTES {
            return Err(ConfigError::TooLong { name: name.clone(), limit: MAX_VALUE_BYTES });
        }
        Ok((name.clone(), value))
    };
    values.iter().map(entry).collect()
}

fn check_unique<'a>(mut names: impl Iterator<Item = &'a str>) -> Result<(), ConfigError> {
    let mut seen = BTreeSet::new();
    match names.find(|name| !seen.insert(*name)) {
        Some(name) => Err(ConfigError::DuplicateKey { name: name.to_owned() }),
        None => Ok(()),
    }
}

fn current_list(
    definitions: &'static [ConfigDef],
    current: &ConfigMap,
    name: &str,
    operation: &'static str,
) -> Result<Vec<String>, ConfigError> {
    let definition = find(definitions, name)
        .filter(|definition| definition.kind == ConfigType::List)
        .ok_or_else(|| ConfigError::NotAList { name: name.to_owned(), operation })?;
    let text = current.get(name).map(String::as_str).or(definition.default).unwrap_or_default();
    match definition.parse(text)? {
        Value::List(list) => Ok(list),
        other => Ok(vec![other.to_string()]),
    }
}

/// The elements of a list; an empty text has one empty element when it is to be added, so that it is refused.
fn words(value: &str) -> Vec<String> {
    value.split(',').map(|word| word.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::topic::TOPIC_CONFIGS;

    fn step(name: &str, op: ConfigOp, value: Option<&str>) -> Alteration {
        Alteration { name: name.to_owned(), op, value: value.map(str::to_owned) }
    }

    /// Applies one operation to `cleanup.policy`, starting from `before`, and gives what is set then.
    fn policy(before: Option<&str>, op: ConfigOp, value: &str) -> Option<String> {
        let mut current = ConfigMap::new();
        current.extend(before.map(|before| ("cleanup.policy".to_owned(), before.to_owned())));
        let changes = [step("cleanup.policy", op, Some(value))];
        apply_incremental(TOPIC_CONFIGS, &current, &changes).unwrap().remove("cleanup.policy")
    }

    #[test]
    fn list_operations_start_from_the_default_and_skip_what_is_there_or_not() {
        use ConfigOp::{Append, Subtract};
        let cases = [
            (None, Append, "compact", "delete,compact"),
            (Some("delete,compact"), Append, "compact", "delete,compact"),
            (Some("delete,compact"), Subtract, "delete", "compact"),
            (Some("compact"), Subtract, "delete", "compact"),
            (Some("compact"), Subtract, "compact", ""),
            (Some(""), Append, "delete,delete", "delete"),
            (Some("delete"), Append, " compact , delete", "delete,compact"),
            (Some("delete"), Append, "", "delete,"),
        ];
        for (before, op, value, after) in cases {
            assert_eq!(
                policy(before, op, value).as_deref(),
                Some(after),
                "{before:?} {op:?} {value}"
            );
        }
        assert_eq!(policy(Some("compact"), ConfigOp::Delete, ""), None);
    }

    #[test]
    fn what_cannot_be_applied_says_why() {
        let error = |changes: &[Alteration]| {
            apply_incremental(TOPIC_CONFIGS, &ConfigMap::new(), changes).unwrap_err()
        };
        let set = |value| step("retention.ms", ConfigOp::Set, value);
        assert_eq!(error(&[set(None)]).to_string(), "Null value not supported for : retention.ms");
        assert_eq!(
            error(&[set(Some("1")), set(Some("2"))]),
            ConfigError::DuplicateKey { name: "retention.ms".to_owned() }
        );
        for name in ["retention.ms", "nope"] {
            assert_eq!(
                error(&[step(name, ConfigOp::Append, Some("1"))]).to_string(),
                format!("Can't APPEND to key {name} because its type is not LIST.")
            );
        }
        let long = "1".repeat(MAX_VALUE_BYTES + 1);
        assert!(matches!(error(&[set(Some(&long))]), ConfigError::TooLong { .. }));
    }

    #[test]
    fn deleting_what_is_not_set_is_fine() {
        let changes =
            [step("retention.ms", ConfigOp::Delete, None), step("nope", ConfigOp::Delete, None)];
        assert!(apply_incremental(TOPIC_CONFIGS, &ConfigMap::new(), &changes).unwrap().is_empty());
    }

    #[test]
    fn a_replacement_forgets_what_it_does_not_name() {
        let values = [("retention.ms".to_owned(), Some("5".to_owned()))];
        assert_eq!(
            apply_replacement(&values).unwrap(),
            ConfigMap::from([("retention.ms".into(), "5".into())])
        );
        assert!(apply_replacement(&[("a".to_owned(), None)]).is_err());
        let twice = [("a".to_owned(), Some(String::new())), ("a".to_owned(), Some(String::new()))];
        assert!(apply_replacement(&twice).is_err());
    }
}
