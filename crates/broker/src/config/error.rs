//! What is wrong with the broker's settings, and where it is written.

use std::fmt;
use std::io;
use std::path::PathBuf;

use kavka_meta::config::ConfigDef;
use thiserror::Error;

/// Where a setting was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// With `-X NAME=VALUE`.
    Flag,
    /// By the environment variable of this name.
    Environment(String),
    /// In a file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// Nowhere: it is the default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag -X"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Why the broker cannot start with these settings. Each names the setting and where it was made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file's name does not say what is in it.
    #[error("{}: a configuration file is called something.toml or something.properties", path.display())]
    FileType {
        /// The file.
        path: PathBuf,
    },
    /// The file is not written as its name promises.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// There is no such setting.
    #[error("{origin}: there is no setting '{name}'{}", nearest.as_ref().map(|name| format!("; did you mean '{name}'?")).unwrap_or_default())]
    Unknown {
        /// The name given.
        name: String,
        /// Where.
        origin: Origin,
        /// A setting with a similar name.
        nearest: Option<String>,
    },
    /// The value does not fit.
    #[error("{origin}: {}={value}: {reason}{}", .definition.name, allowed(.definition))]
    Invalid {
        /// The setting.
        definition: &'static ConfigDef,
        /// The value given, hidden when it is a secret.
        value: String,
        /// Where.
        origin: Origin,
        /// What is wrong with it.
        reason: String,
    },
    /// Kavka cannot do what the setting asks for.
    #[error("{origin}: {name} cannot be set: {reason}")]
    Refused {
        /// The setting.
        name: String,
        /// Where.
        origin: Origin,
        /// Why.
        reason: String,
    },
    /// Settings that are fine by themselves do not go together.
    #[error("{name} ({origin}): {reason}")]
    Conflict {
        /// The setting to look at first.
        name: String,
        /// Where it was made.
        origin: Origin,
        /// What does not fit.
        reason: String,
    },
}

fn allowed(definition: &ConfigDef) -> String {
    let range = definition.valid.to_string();
    if range.is_empty() { range } else { format!(" (allowed: {range})") }
}
