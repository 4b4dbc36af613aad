//! Profiles: named sets of client properties in `kavka/config.toml` in the user's configuration directory, and files of
//! client properties.
//!
//! ```toml
//! default = "local"
//!
//! [profiles.local]
//! bootstrap.servers = "127.0.0.1:9092"
//!
//! [profiles.production]
//! bootstrap.servers = ["kafka-1:9093", "kafka-2:9093"]
//! security.protocol = "SSL"
//! ```

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use kavka_broker::config::{Line, SyntaxError, parse_properties, parse_toml};

use super::{PROFILE_VARIABLE, variable};
use crate::failure::Failure;

/// The properties of the profile that is named by flag, environment or the file's own `default`; none if nothing names one.
pub(super) fn load(named: Option<&str>) -> Result<Vec<(String, String)>, Failure> {
    let named = match named {
        Some(name) => Some(name.to_owned()),
        None => variable(PROFILE_VARIABLE)?,
    };
    let Some(path) = config_file() else {
        return match named {
            None => Ok(Vec::new()),
            Some(name) => Err(Failure::usage(format!("there is no profile {name}"))
                .advise("Set HOME or XDG_CONFIG_HOME, where kavka/config.toml is looked for.")),
        };
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match named {
                None => Ok(Vec::new()),
                Some(name) => Err(Failure::usage(format!(
                    "there is no profile {name}: {} does not exist",
                    path.display()
                ))
                .advise(format!("Make it, with a section [profiles.{name}]."))),
            };
        }
        Err(error) => return Err(unreadable(&path, &error)),
    };
    let lines = parse_toml(&text).map_err(|error| bad_syntax(&path, &error))?;
    select(lines, named, &path)
}

fn select(
    lines: Vec<Line>,
    named: Option<String>,
    path: &Path,
) -> Result<Vec<(String, String)>, Failure> {
    let default = lines.iter().find(|line| line.name == "default").map(|line| line.value.clone());
    let Some(named) = named.or(default) else { return Ok(Vec::new()) };
    let prefix = format!("profiles.{named}.");
    let properties: Vec<(String, String)> = lines
        .iter()
        .filter_map(|line| Some((line.name.strip_prefix(&prefix)?.to_owned(), line.value.clone())))
        .collect();
    if properties.is_empty() {
        let names: BTreeSet<&str> = lines
            .iter()
            .filter_map(|line| line.name.strip_prefix("profiles.")?.split('.').next())
            .collect();
        let names: Vec<&str> = names.into_iter().collect();
        let advice = match names.as_slice() {
            [] => format!("Add a section [profiles.{named}]."),
            names => format!("It has these: {}.", names.join(", ")),
        };
        return Err(
            Failure::usage(format!("{} has no profile {named}", path.display())).advise(advice)
        );
    }
    Ok(properties)
}

/// A file of client properties.
pub(super) fn read_properties(path: &Path) -> Result<Vec<(String, String)>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    let is_toml = path.extension().is_some_and(|extension| extension == "toml");
    let lines = if is_toml { parse_toml(&text) } else { parse_properties(&text) };
    let lines = lines.map_err(|error| bad_syntax(path, &error))?;
    Ok(lines.into_iter().map(|line| (line.name, line.value)).collect())
}

fn config_file() -> Option<PathBuf> {
    let variable =
        |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let directory = if cfg!(windows) {
        variable("APPDATA")
    } else {
        variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")))
    };
    directory.map(|directory| directory.join("kavka").join("config.toml"))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!("cannot read {}: {error}", path.display()))
        .advise("Check the path and its permissions.")
}

fn bad_syntax(path: &Path, (line, message): &SyntaxError) -> Failure {
    Failure::usage(format!("{}, line {line}: {message}", path.display()))
        .advise("Correct that line.")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FILE: &str = "default = \"local\"\n[profiles.local]\nbootstrap.servers = \"a:1\"\n\
        [profiles.far]\n\"bootstrap.servers\" = [\"b:1\", \"b:2\"]\nclient.id = \"me\"\n";

    fn chosen(name: Option<&str>) -> Result<Vec<(String, String)>, Failure> {
        select(parse_toml(FILE).unwrap(), name.map(str::to_owned), Path::new("config.toml"))
    }

    #[test]
    fn a_profile_is_named_or_the_default() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(chosen(None).unwrap(), [pair("bootstrap.servers", "a:1")]);
        let far = chosen(Some("far")).unwrap();
        assert_eq!(far, [pair("bootstrap.servers", "b:1,b:2"), pair("client.id", "me")]);
    }

    #[test]
    fn a_profile_that_is_not_there_is_refused_with_those_that_are() {
        let Err(Failure::Told { message, advice, .. }) = chosen(Some("near")) else { panic!() };
        assert_eq!(message, "config.toml has no profile near");
        assert_eq!(advice.unwrap(), "It has these: far, local.");
    }
}
