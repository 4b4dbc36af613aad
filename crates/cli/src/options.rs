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
    pin::pin,
    time::Duration,
};

use clap::{ArgMatches, Args, FromArgMatches, builder::Resettable};
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
/// How long nothing is said while the cluster is waited for.
const SILENCE: Duration = Duration::from_secs(1);
/// How long a command waits for the cluster, if nobody says.
const DEFAULT_TIMEOUT_MS: &str = "30000";

/// Options of every client command. They may stand at any of its levels, see [`allow_everywhere`] and [`gather`].
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
#[command(next_help_heading = "Cluster and output")]
pub(crate) struct Options {
    /// Brokers to begin with, several with commas [env: KAVKA_BOOTSTRAP_SERVERS] [default: 127.0.0.1:9092]
    #[arg(short = 'b', long, value_name = "HOST:PORT", alias = "bootstrap-servers")]
    pub(crate) bootstrap_server: Option<String>,

    /// Take settings from this profile of kavka/config.toml in the user's configuration directory [env: KAVKA_PROFILE]
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,

    /// A client property by its Kafka name, such as security.protocol=SSL; repeatable
    #[arg(short = 'X', long = "property", value_name = "NAME=VALUE", value_parser = crate::property)]
    pub(crate) properties: Vec<(String, String)>,

    /// A file of client properties, as Kafka's tools take it; TOML if its name ends in .toml
    #[arg(long, value_name = "FILE")]
    pub(crate) command_config: Option<PathBuf>,

    /// How long a call to the cluster may take, retries included, such as 5s [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub(crate) timeout: Option<Duration>,

    /// How to write data to standard output [default: table]
    #[arg(short = 'o', id = "output", long = "output", value_name = "FORMAT", value_enum)]
    chosen_format: Option<Format>,

    /// Nothing but data and errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Log what the client does to standard error; twice for more
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// The commands that are no clients, and take none of these options.
const NO_CLIENTS: [&str; 5] = ["serve", "compat", "completions", "man", "help"];

/// Lets the options stand before a client command, behind it, and between it and the command inside it.
///
/// Clap's global arguments would do the same, but of a repeatable one they keep only what stands at one level.
pub(crate) fn allow_everywhere(command: clap::Command) -> clap::Command {
    let inner: Vec<String> = command.get_subcommands().map(name_of).collect();
    let clients = inner.into_iter().filter(|name| !NO_CLIENTS.contains(&name.as_str()));
    let command =
        clients.fold(command, |command, name| command.mut_subcommand(name, allow_everywhere));
    // Augmenting takes what the options' struct is documented with for what the command is about.
    let (about, long_about) = (command.get_about().cloned(), command.get_long_about().cloned());
    Options::augment_args(command)
        .about(Resettable::from(about))
        .long_about(Resettable::from(long_about))
}

fn name_of(command: &clap::Command) -> String {
    command.get_name().to_owned()
}

/// The options of all levels. Of one that stands at several, the innermost counts; repeatable ones add up.
pub(crate) fn gather(matches: &ArgMatches) -> Result<Options, clap::Error> {
    let mut all = Options::default();
    let mut level = Some(("", matches));
    while let Some((name, matches)) = level {
        if NO_CLIENTS.contains(&name) {
            if all == Options::default() {
                break;
            }
            let message = format!("{name} takes no options of clients: none can stand before it");
            return Err(wrong(message));
        }
        all.take(Options::from_arg_matches(matches)?);
        level = matches.subcommand();
    }
    if all.quiet && all.verbose > 0 {
        return Err(wrong("--quiet cannot be used with --verbose".to_owned()));
    }
    Ok(all)
}

fn wrong(message: String) -> clap::Error {
    let mut command = crate::command();
    command.error(clap::error::ErrorKind::ArgumentConflict, message)
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
    /// Takes those of an inner level.
    fn take(&mut self, inner: Options) {
        let Options { bootstrap_server, profile, properties, command_config, timeout, .. } = inner;
        self.bootstrap_server = bootstrap_server.or(self.bootstrap_server.take());
        self.profile = profile.or(self.profile.take());
        self.properties.extend(properties);
        self.command_config = command_config.or(self.command_config.take());
        self.timeout = timeout.or(self.timeout);
        self.chosen_format = inner.chosen_format.or(self.chosen_format);
        self.quiet |= inner.quiet;
        self.verbose = self.verbose.saturating_add(inner.verbose);
    }

    /// How data is written.
    pub(crate) fn format(&self) -> Format {
        self.chosen_format.unwrap_or_default()
    }

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

    /// Waits for what the cluster has to say, and tells whom it waits for if that takes long: a cluster that is gone is asked again
    /// and again until the time is up.
    pub(crate) async fn asked<T>(&self, question: impl Future<Output = T>) -> T {
        let mut question = pin!(question);
        tokio::select! {
            biased;
            answer = &mut question => return answer,
            () = tokio::time::sleep(SILENCE) => {}
        }
        if let Ok(properties) = self.client_properties() {
            let servers = properties.get("bootstrap.servers").unwrap_or_default();
            let within = properties.get("default.api.timeout.ms").unwrap_or_default();
            self.notes().say(format_args!(
                "Still waiting for {servers}, for at most {within} ms a call (--timeout)."
            ));
        }
        question.await
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
    build(properties.known_to(AdminBuilder::knows))
}

/// The same beside another client, whose properties these are: those that it does not know are the other's.
pub(crate) fn admin_beside(properties: &Properties) -> Result<Admin, Failure> {
    let known = properties.known_to(AdminBuilder::knows);
    build(known.filter(|(name, _)| AdminBuilder::knows(name)))
}

fn build<'a>(properties: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Admin, Failure> {
    let builder =
        properties.fold(Admin::builder(), |builder, (name, value)| builder.property(name, value));
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

    fn gathered(line: &str) -> Result<Options, clap::Error> {
        gather(&crate::command().try_get_matches_from(line.split(' '))?)
    }

    #[test]
    fn options_count_wherever_they_stand_and_the_innermost_before_others() {
        for line in [
            "kavka -b a:1 -o json topic list",
            "kavka topic -b a:1 -o json list",
            "kavka topic list -b a:1 -o json",
            "kavka -b b:2 topic -b c:3 -o csv list -b a:1 -o json",
            "kavka -b a:1 -o json consume t",
        ] {
            let options = gathered(line).unwrap();
            assert_eq!(options.bootstrap_server.as_deref(), Some("a:1"), "{line}");
            assert_eq!(options.format(), Format::Json, "{line}");
        }
        let options = gathered("kavka -X a=1 -v topic -X b=2 list -X a=3 -v").unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(options.properties, [pair("a", "1"), pair("b", "2"), pair("a", "3")]);
        assert_eq!((options.verbose, options.format()), (2, Format::Table));
    }

    #[test]
    fn options_of_clients_are_refused_where_they_have_no_effect() {
        for line in
            ["kavka -o json serve", "kavka -X a=1 serve", "kavka -q man", "kavka -q topic -v list"]
        {
            gathered(line).unwrap_err();
        }
        // The broker has one of the same letter.
        assert_eq!(gathered("kavka serve -X a=1").unwrap(), Options::default());
    }

    #[test]
    fn a_timeout_is_a_span() {
        assert_eq!(span("5s").unwrap(), Duration::from_secs(5));
        assert!(span("5").is_err());
        assert!(span("-5s").is_err());
    }
}
