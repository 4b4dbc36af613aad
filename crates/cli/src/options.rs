//! The options that every command with a cluster at its other end shares, and what they come to.
//!
//! A property that is set in several places is taken from the first of these: `--bootstrap-server` and `--timeout`,
//! `--property`, `--command-config`, the profile that `--profile` names, `KAVKA_BOOTSTRAP_SERVERS`, the profile that
//! `KAVKA_PROFILE` or the configuration file's `default` names, the client's default.

mod profile;

use std::{
    collections::BTreeMap,
    future::Future,
    io::IsTerminal,
    path::{Path, PathBuf},
    time::Duration,
};

use kavka_client::{Admin, AdminBuilder};

use crate::{
    failure::Failure,
    output::{Format, Notes, wants_colour},
    time,
};

/// Where brokers are, if neither flag nor file says.
pub(crate) const BOOTSTRAP_VARIABLE: &str = "KAVKA_BOOTSTRAP_SERVERS";
/// Which profile counts, if no flag says.
pub(crate) const PROFILE_VARIABLE: &str = "KAVKA_PROFILE";
/// Where brokers are, if nobody says.
const DEFAULT_SERVERS: &str = "127.0.0.1:9092";
/// How long a command waits for the cluster, if nobody says.
const DEFAULT_TIMEOUT_MS: &str = "30000";

/// Options of every client command.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Cluster and output")]
pub(crate) struct Options {
    /// Brokers to begin with, several with commas [env: KAVKA_BOOTSTRAP_SERVERS] [default: 127.0.0.1:9092]
    #[arg(short = 'b', long, global = true, value_name = "HOST:PORT", alias = "bootstrap-servers")]
    pub(crate) bootstrap_server: Option<String>,

    /// Take settings from this profile of kavka/config.toml in the user's configuration directory [env: KAVKA_PROFILE]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) profile: Option<String>,

    /// A client property by its Kafka name, such as security.protocol=SSL; repeatable
    #[arg(short = 'X', long = "property", global = true, value_name = "NAME=VALUE", value_parser = crate::property)]
    pub(crate) properties: Vec<(String, String)>,

    /// A file of client properties, as Kafka's tools take it; TOML if its name ends in .toml
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) command_config: Option<PathBuf>,

    /// How long a call to the cluster may take, retries included, such as 5s [default: 30s]
    #[arg(long, global = true, value_name = "TIME", value_parser = span)]
    pub(crate) timeout: Option<Duration>,

    /// How to write data to standard output
    #[arg(
        short = 'o',
        id = "output",
        long = "output",
        global = true,
        value_name = "FORMAT",
        value_enum,
        default_value_t
    )]
    pub(crate) format: Format,

    /// Nothing but data and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Log what the client does to standard error; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// A span on the command line.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let ms = time::parse_span(text).and_then(|ms| u64::try_from(ms).ok());
    ms.map(Duration::from_millis)
        .ok_or_else(|| "expected a time such as 500ms, 5s or 2m".to_owned())
}

/// Client properties, and whether each was given by hand: those have to fit the command, the ones of files need not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Properties(BTreeMap<String, (String, bool)>);

impl Properties {
    fn put(&mut self, name: &str, value: impl Into<String>, by_hand: bool) {
        self.0.insert(name.to_owned(), (value.into(), by_hand));
    }

    /// Puts one that counts unless the user set it.
    pub(crate) fn set_default(&mut self, name: &str, value: impl Into<String>) {
        self.0.entry(name.to_owned()).or_insert_with(|| (value.into(), true));
    }

    /// Puts one that counts whatever the user set.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.put(name, value, true);
    }

    /// One of them.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|(value, _)| value.as_str())
    }

    /// Forgets one.
    pub(crate) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Takes what a file of client properties has.
    pub(crate) fn read(&mut self, path: &Path) -> Result<(), Failure> {
        for (name, value) in profile::read_properties(path)? {
            self.put(&name, value, false);
        }
        Ok(())
    }

    /// Those for a client that says of each name whether it knows it. What a file has beyond that is for other
    /// clients; what was given by hand is for this one, and the client itself says what is wrong with it.
    pub(crate) fn known_to(
        &self,
        is_known: fn(&str) -> bool,
    ) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, (value, by_hand))| (name.as_str(), value.as_str(), *by_hand))
            .filter(move |(name, _, by_hand)| *by_hand || is_known(name))
            .map(|(name, value, _)| (name, value))
    }
}

impl Options {
    /// What is said beside the data.
    pub(crate) fn notes(&self) -> Notes {
        Notes { quiet: self.quiet }
    }

    /// The client properties that all sources together come to.
    pub(crate) fn client_properties(&self) -> Result<Properties, Failure> {
        let mut properties = Properties::default();
        properties.put("bootstrap.servers", DEFAULT_SERVERS, true);
        properties.put("default.api.timeout.ms", DEFAULT_TIMEOUT_MS, true);
        let mut take = |lines: Vec<(String, String)>| {
            lines.into_iter().for_each(|(name, value)| properties.put(&name, value, false));
        };
        match &self.profile {
            Some(_) => {
                take(environment_servers()?);
                take(profile::load(self.profile.as_deref())?);
            }
            None => {
                take(profile::load(None)?);
                take(environment_servers()?);
            }
        }
        if let Some(path) = &self.command_config {
            take(profile::read_properties(path)?);
        }
        for (name, value) in &self.properties {
            properties.set(name, value);
        }
        if let Some(servers) = &self.bootstrap_server {
            properties.set("bootstrap.servers", servers);
        }
        if let Some(timeout) = self.timeout {
            properties.set("default.api.timeout.ms", timeout.as_millis().to_string());
            let request = timeout.min(Duration::from_secs(30)).max(Duration::from_millis(1));
            properties.set_default("request.timeout.ms", request.as_millis().to_string());
        }
        Ok(properties)
    }

    /// A client for administration. Has to be called inside a runtime.
    pub(crate) fn admin(&self) -> Result<Admin, Failure> {
        admin(&self.client_properties()?)
    }

    /// Runs a command on this thread. Logs only if asked to: setting that up takes time.
    pub(crate) fn run<F: Future<Output = Result<(), Failure>>>(
        &self,
        command: impl FnOnce(Options) -> F,
    ) -> Result<(), Failure> {
        if self.verbose > 0 {
            let level =
                if self.verbose > 1 { tracing::Level::TRACE } else { tracing::Level::DEBUG };
            tracing_subscriber::fmt()
                .with_max_level(level)
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal() && wants_colour())
                .init();
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(format!("cannot start the runtime: {error}")))?;
        let done = runtime.block_on(command(self.clone()));
        runtime.shutdown_background();
        done
    }
}

/// A client for administration with these properties.
pub(crate) fn admin(properties: &Properties) -> Result<Admin, Failure> {
    let known = properties.known_to(AdminBuilder::knows);
    let mut builder = Admin::builder();
    for (name, value) in known {
        builder = builder.property(name, value);
    }
    Ok(builder.build()?)
}

fn environment_servers() -> Result<Vec<(String, String)>, Failure> {
    Ok(variable(BOOTSTRAP_VARIABLE)?
        .map(|servers| ("bootstrap.servers".to_owned(), servers))
        .into_iter()
        .collect())
}

/// A variable of the environment that is not empty.
fn variable(name: &str) -> Result<Option<String>, Failure> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Failure::usage(format!("{name} is not UTF-8")).advise("Set it anew, or unset it."))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn properties_of_a_file_are_left_out_where_the_client_does_not_know_them() {
        let mut properties = Properties::default();
        properties.put("acks", "all", false);
        properties.put("client.id", "me", false);
        properties.put("client.idd", "me", true);
        let known: Vec<_> = properties.known_to(|name| name == "client.id").collect();
        assert_eq!(known, [("client.id", "me"), ("client.idd", "me")]);
    }

    #[test]
    fn a_timeout_is_a_span() {
        assert_eq!(span("5s").unwrap(), Duration::from_secs(5));
        assert!(span("5").is_err());
        assert!(span("-5s").is_err());
    }
}
