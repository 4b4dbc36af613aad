//! `kavka compat kafka-consumer-groups`.
//!
//! Held to Apache Kafka 4.3's tool, but for what its hash maps leave to chance: groups, members and partitions come in order here. Java's
//! stack traces, which it writes to standard error, are left out. As there, wrong usage ends with 1, and what fails at run time with 0.

mod describe;
mod flags;
mod reset;
mod table;

use std::{
    collections::BTreeSet,
    fmt,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use kavka_client::{
    ByteString, Error, ErrorCode,
    admin::{Admin, GroupFilter, GroupListing, GroupState, GroupType},
};

use self::{
    flags::{Flags, Name},
    table::Table,
};
use crate::{
    failure::Failure,
    group::plan::{self, NoScope, Scope},
    options,
};

/// What the tool prints with usage errors.
const USAGE: &str = include_str!("consumer_groups/usage.txt");

/// How a command of the tool ends before its end.
#[derive(Debug)]
enum Stop {
    /// A message and the usage; exit code 1.
    Usage(String),
    /// A message after which Java prints a stack trace; exit code 1.
    Uncaught(String),
    /// "Executing consumer group command failed due to"; exit code 0.
    Failed(String),
    /// Standard output cannot be written to.
    Output(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(java(&error))
    }
}

/// An error as Java's `toString` shows it, where there is a Java exception for it.
fn java(error: &Error) -> String {
    let (class, message) = match error.code() {
        Some(ErrorCode::GroupIdNotFound) => {
            ("GroupIdNotFoundException", "The group id does not exist.")
        }
        Some(ErrorCode::NonEmptyGroup) => ("GroupNotEmptyException", "The group is not empty."),
        Some(ErrorCode::GroupSubscribedToTopic) => (
            "GroupSubscribedToTopicException",
            "Deleting offsets of a topic is forbidden while the consumer group is actively subscribed to it.",
        ),
        Some(ErrorCode::UnknownTopicOrPartition) => {
            ("UnknownTopicOrPartitionException", UNKNOWN_PARTITION)
        }
        _ => return error.to_string(),
    };
    format!("org.apache.kafka.common.errors.{class}: {message}")
}

const UNKNOWN_PARTITION: &str = "This server does not host this topic-partition.";

/// What goes to standard output and to standard error.
struct Output<W> {
    out: W,
}

impl<W: Write> Output<W> {
    fn line(&mut self, words: impl fmt::Display) -> Result<(), Stop> {
        Ok(writeln!(self.out, "{words}")?)
    }

    /// `ToolsUtils.printError`.
    fn error(&mut self, words: impl fmt::Display) -> Result<(), Stop> {
        self.line(format_args!("\nError: {words}"))
    }

    fn aside(&mut self, words: impl fmt::Display) -> Result<(), Stop> {
        self.out.flush()?;
        tell(words);
        Ok(())
    }
}

/// A line on standard error; if nobody reads it, nobody misses it.
fn tell(words: impl fmt::Display) {
    drop(writeln!(io::stderr().lock(), "{words}"));
}

pub(super) fn run(flags: &[String]) -> Result<ExitCode, Failure> {
    let mut output = Output { out: io::stdout().lock() };
    let done = command(flags, &mut output).and_then(|()| Ok(output.out.flush()?));
    match done {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(Stop::Usage(message)) => {
            tell(format_args!("{message}\n{}", USAGE.trim_end_matches('\n')));
            Ok(ExitCode::FAILURE)
        }
        Err(Stop::Uncaught(message)) => {
            tell(message);
            Ok(ExitCode::FAILURE)
        }
        Err(Stop::Failed(message)) => {
            let words =
                format!("\nError: Executing consumer group command failed due to {message}\n");
            output.out.write_all(words.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(Stop::Output(error)) => Err(error.into()),
    }
}

fn command<W: Write>(words: &[String], output: &mut Output<W>) -> Result<(), Stop> {
    let flags = Flags::parse(words)?;
    if words.is_empty() || flags.has(Name::Help) {
        return Err(Stop::Usage(
            "This tool helps to list all consumer groups, describe a consumer group, delete consumer group info, \
             or reset consumer group offsets."
                .to_owned(),
        ));
    }
    if flags.has(Name::Version) {
        return output.line(env!("CARGO_PKG_VERSION"));
    }
    flags.check()?;
    if let Some(pattern) = flags.value(Name::ValidateRegex)? {
        let verdict = match regex_lite::Regex::new(pattern) {
            Ok(_) => format!("The regular expression `{pattern}` is valid."),
            Err(error) => format!("The regular expression `{pattern}` is invalid: {error}."),
        };
        return output.line(verdict);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Stop::Failed(error.to_string()))?;
    let done = runtime.block_on(act(&flags, output));
    runtime.shutdown_background();
    done
}

async fn act<W: Write>(flags: &Flags, output: &mut Output<W>) -> Result<(), Stop> {
    let admin = connect(flags)?;
    match () {
        () if flags.has(Name::List) => list(&admin, flags, output).await,
        () if flags.has(Name::Describe) => describe::run(&admin, flags, output).await,
        () if flags.has(Name::Delete) => delete(&admin, flags, output).await,
        () if flags.has(Name::ResetOffsets) => reset::run(&admin, flags, output).await,
        () => delete_offsets(&admin, flags, output).await,
    }
}

fn connect(flags: &Flags) -> Result<Admin, Stop> {
    let told = |failure: Failure| match failure {
        Failure::Told { message, .. } => Stop::Failed(message),
        other => Stop::Failed(format!("{other:?}")),
    };
    let mut properties = options::Properties::default();
    if let Some(path) = flags.value(Name::CommandConfig)? {
        if !Path::new(path).exists() {
            return Err(Stop::Failed(format!("java.nio.file.NoSuchFileException: {path}")));
        }
        properties.read(Path::new(path)).map_err(told)?;
    }
    let timeout_ms = flags.number(Name::Timeout)?.unwrap_or(30_000);
    properties.set("bootstrap.servers", flags.value(Name::BootstrapServer)?.unwrap_or_default());
    let admin = options::admin(&properties).map_err(told)?;
    Ok(admin.with_timeout(Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0))))
}

/// The groups of consumers: not those of Connect and the like.
async fn consumer_groups(admin: &Admin, filter: &GroupFilter) -> Result<Vec<GroupListing>, Stop> {
    let list = admin.list_groups(filter).await?;
    if let Some(error) = list.errors.into_values().next() {
        return Err(error.into());
    }
    let mut groups: Vec<GroupListing> = list.groups.into_values().collect();
    groups.retain(|group| {
        matches!(group.group_type, None | Some(GroupType::Classic | GroupType::Consumer))
            && matches!(&*group.protocol_type, "" | "consumer")
    });
    Ok(groups)
}

/// The groups that `--group` or `--all-groups` names, in order.
async fn chosen(admin: &Admin, flags: &Flags) -> Result<BTreeSet<ByteString>, Stop> {
    if flags.has(Name::AllGroups) {
        let groups = consumer_groups(admin, &GroupFilter::default()).await?;
        return Ok(groups.into_iter().map(|group| group.group_id).collect());
    }
    Ok(flags.values(Name::Group).map(ByteString::from).collect())
}

async fn list<W: Write>(admin: &Admin, flags: &Flags, output: &mut Output<W>) -> Result<(), Stop> {
    let (by_state, by_type) = (flags.has(Name::State), flags.has(Name::Type));
    let filter = GroupFilter {
        states: words(flags, Name::State, known_state)?.ok_or_else(|| {
            let text = flags.values(Name::State).next().unwrap_or_default();
            Stop::Usage(format!(
                "Invalid state list '{text}'. Valid states are: Assigning, CompletingRebalance, Dead, Empty, \
                 PreparingRebalance, Reconciling, Stable"
            ))
        })?,
        types: words(flags, Name::Type, known_type)?.ok_or_else(|| {
            let text = flags.values(Name::Type).next().unwrap_or_default();
            Stop::Usage(format!("Invalid types list '{text}'. Valid types are: Classic, Consumer"))
        })?,
    };
    let groups = consumer_groups(admin, &filter).await?;
    if !by_state && !by_type {
        return groups.iter().try_for_each(|group| output.line(&group.group_id));
    }
    let longest = groups.iter().map(|group| group.group_id.chars().count()).max().unwrap_or(0);
    let width = longest.max(15) + 10;
    let mut row = |group: &str, group_type: &str, state: &str| {
        let mut line = format!("{group:width$}");
        if by_type {
            line.push_str(&format!(" {group_type:20}"));
        }
        if by_state {
            line.push_str(&format!(" {state:20}"));
        }
        output.line(line)
    };
    row("GROUP", "TYPE", "STATE")?;
    for group in groups {
        let group_type = match group.group_type {
            Some(GroupType::Classic) | None => "Classic",
            Some(GroupType::Consumer) => "Consumer",
            Some(_) => "Unknown",
        };
        let state = group.state.map_or_else(|| "Unknown".to_owned(), |state| state.to_string());
        row(&group.group_id, group_type, &state)?;
    }
    Ok(())
}

/// The words of an option that may have a list; none if one of them is not known.
fn words<T: Ord>(
    flags: &Flags,
    name: Name,
    known: impl Fn(&str) -> Option<T>,
) -> Result<Option<BTreeSet<T>>, Stop> {
    let text = flags.value(name)?.unwrap_or_default();
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    Ok(words.map(known).collect())
}

fn known_state(text: &str) -> Option<GroupState> {
    text.parse().ok().filter(|state| *state != GroupState::NotReady)
}

fn known_type(text: &str) -> Option<GroupType> {
    text.parse().ok().filter(|it| matches!(it, GroupType::Classic | GroupType::Consumer))
}

async fn delete<W: Write>(
    admin: &Admin,
    flags: &Flags,
    output: &mut Output<W>,
) -> Result<(), Stop> {
    let groups = chosen(admin, flags).await?;
    let outcomes = admin.delete_groups(groups).await;
    let quoted = |names: &[&ByteString]| {
        let names: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
        names.join(", ")
    };
    let deleted: Vec<&ByteString> =
        outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(group, _)| group).collect();
    if deleted.len() == outcomes.len() {
        return output.line(format_args!(
            "Deletion of requested consumer groups ({}) was successful.",
            quoted(&deleted)
        ));
    }
    output.error("Deletion of some consumer groups failed:")?;
    for (group, outcome) in &outcomes {
        if let Err(error) = outcome {
            output.line(format_args!(
                "* Group '{group}' could not be deleted due to: {}",
                java(error)
            ))?;
        }
    }
    if !deleted.is_empty() {
        output.line(format_args!(
            "\nThese consumer groups were deleted successfully: {}",
            quoted(&deleted)
        ))?;
    }
    Ok(())
}

/// The scopes of `--topic`.
fn scopes(flags: &Flags) -> Result<Vec<Scope>, Stop> {
    let parse = |text: &str| {
        Scope::parse(text).map_err(|wrong| {
            Stop::Usage(format!("Invalid partition '{wrong}' specified in topic arg '{text}''"))
        })
    };
    flags.values(Name::Topic).map(parse).collect()
}

async fn delete_offsets<W: Write>(
    admin: &Admin,
    flags: &Flags,
    output: &mut Output<W>,
) -> Result<(), Stop> {
    let group = flags.value(Name::Group)?.unwrap_or_default();
    let mut rows: Vec<(String, String, Option<Error>)> = Vec::new();
    let mut places = Vec::new();
    for scope in scopes(flags)? {
        match plan::within(admin, std::slice::from_ref(&scope)).await {
            Ok(partitions) => places.extend(partitions),
            Err(NoScope { error, .. })
                if error.code() == Some(ErrorCode::UnknownTopicOrPartition) =>
            {
                rows.push((scope.topic.to_string(), "-".to_owned(), Some(error)));
            }
            Err(NoScope { error, .. }) => return Err(error.into()),
        }
    }
    let outcomes = admin.delete_group_offsets(group, places).await;
    let errors: Vec<&Error> =
        outcomes.values().filter_map(|outcome| outcome.as_ref().err()).collect();
    let of_group = errors.iter().find(|error| {
        !matches!(
            error.code(),
            Some(ErrorCode::UnknownTopicOrPartition | ErrorCode::GroupSubscribedToTopic)
        )
    });
    match (of_group, errors.is_empty()) {
        (Some(error), _) => {
            let message = java(error);
            output.error(
                message.rsplit_once("Exception: ").map_or(message.as_str(), |(_, rest)| rest),
            )?;
        }
        (None, true) => output
            .line(format_args!("Request succeeded for deleting offsets from group {group}."))?,
        (None, false) => {
            output.error("Encountered some partition-level error, see the follow-up details.")?;
        }
    }
    for (place, outcome) in outcomes {
        rows.push((place.topic.to_string(), place.partition.to_string(), outcome.err()));
    }
    rows.sort_by(|one, other| {
        (&one.0, one.1.parse::<i32>().ok()).cmp(&(&other.0, other.1.parse().ok()))
    });
    let mut table = Table::new(&[("TOPIC", 15), ("PARTITION", 10), ("STATUS", 15)]);
    for (topic, partition, error) in rows {
        let status = error
            .map_or_else(|| "Successful".to_owned(), |error| format!("Error: {}", java(&error)));
        table.row([topic, partition, status]);
    }
    output.line(format_args!("\n{}", table.text(true, &[0])))
}
