//! The flags of the tool, read and checked as it does (joptsimple, then `ConsumerGroupCommandOptions`): no abbreviations, the same
//! messages in the same order.

use super::Stop;

/// A flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    AllGroups,
    AllTopics,
    BootstrapServer,
    ByDuration,
    CommandConfig,
    Delete,
    DeleteOffsets,
    Describe,
    DryRun,
    Execute,
    Export,
    FromFile,
    Group,
    Help,
    List,
    Members,
    Offsets,
    ResetOffsets,
    ShiftBy,
    State,
    Timeout,
    ToCurrent,
    ToDatetime,
    ToEarliest,
    ToLatest,
    ToOffset,
    Topic,
    Type,
    ValidateRegex,
    Verbose,
    Version,
}

use Name::*;

/// Whether a flag has a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    Maybe,
    Value,
}

const TABLE: [(&str, Name, Takes); 31] = [
    ("all-groups", AllGroups, Takes::Nothing),
    ("all-topics", AllTopics, Takes::Nothing),
    ("bootstrap-server", BootstrapServer, Takes::Value),
    ("by-duration", ByDuration, Takes::Value),
    ("command-config", CommandConfig, Takes::Value),
    ("delete", Delete, Takes::Nothing),
    ("delete-offsets", DeleteOffsets, Takes::Nothing),
    ("describe", Describe, Takes::Nothing),
    ("dry-run", DryRun, Takes::Nothing),
    ("execute", Execute, Takes::Nothing),
    ("export", Export, Takes::Nothing),
    ("from-file", FromFile, Takes::Value),
    ("group", Group, Takes::Value),
    ("help", Help, Takes::Nothing),
    ("list", List, Takes::Nothing),
    ("members", Members, Takes::Nothing),
    ("offsets", Offsets, Takes::Nothing),
    ("reset-offsets", ResetOffsets, Takes::Nothing),
    ("shift-by", ShiftBy, Takes::Value),
    ("state", State, Takes::Maybe),
    ("timeout", Timeout, Takes::Value),
    ("to-current", ToCurrent, Takes::Nothing),
    ("to-datetime", ToDatetime, Takes::Value),
    ("to-earliest", ToEarliest, Takes::Nothing),
    ("to-latest", ToLatest, Takes::Nothing),
    ("to-offset", ToOffset, Takes::Value),
    ("topic", Topic, Takes::Value),
    ("type", Type, Takes::Maybe),
    ("validate-regex", ValidateRegex, Takes::Value),
    ("verbose", Verbose, Takes::Nothing),
    ("version", Version, Takes::Nothing),
];

/// The flags that say where offsets are reset to.
pub(super) const SCENARIOS: [Name; 8] =
    [ToOffset, ToDatetime, ByDuration, ToEarliest, ToLatest, ShiftBy, FromFile, ToCurrent];

const ACTIONS: [Name; 6] = [List, Describe, Delete, ResetOffsets, DeleteOffsets, ValidateRegex];

pub(super) fn word(name: Name) -> &'static str {
    TABLE.iter().find(|row| row.1 == name).map_or("", |row| row.0)
}

/// `[name]`, as joptsimple shows a flag.
fn shown(name: Name) -> String {
    format!("[{}]", word(name))
}

fn joined(names: &[Name]) -> String {
    names.iter().map(|name| shown(*name)).collect::<Vec<_>>().join(", ")
}

/// What a command line has.
#[derive(Debug, Default)]
pub(super) struct Flags(Vec<(Name, Option<String>)>);

impl Flags {
    /// Reads a command line. Words that are no flags are passed over.
    pub(super) fn parse(words: &[String]) -> Result<Self, Stop> {
        let mut flags = Vec::new();
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            if word == "--" {
                break;
            }
            let name = match (word.strip_prefix("--"), word.strip_prefix('-')) {
                (Some(name), _) => name,
                (None, Some(name)) if !name.is_empty() => name,
                _ => continue,
            };
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            let row = TABLE.iter().find(|row| row.0 == name).filter(|_| word.starts_with("--"));
            let Some((_, name, takes)) = row else {
                return Err(uncaught(
                    "UnrecognizedOptionException",
                    format!("{name} is not a recognized option"),
                ));
            };
            let value = match (takes, value) {
                (Takes::Nothing, _) => None,
                (_, Some(value)) => Some(value),
                (Takes::Value, None) => Some(words.next().cloned().ok_or_else(|| {
                    uncaught(
                        "OptionMissingRequiredArgumentException",
                        format!("Option {} requires an argument", self::word(*name)),
                    )
                })?),
                (Takes::Maybe, None) => words.next_if(|word| !word.starts_with('-')).cloned(),
            };
            flags.push((*name, value));
        }
        let flags = Self(flags);
        flags.check_available()?;
        Ok(flags)
    }

    /// Flags that only go with others.
    fn check_available(&self) -> Result<(), Stop> {
        let lonely: Vec<&str> = [
            (Members, &[Describe][..]),
            (Offsets, &[Describe]),
            (State, &[Describe, List]),
            (Type, &[List]),
            (Verbose, &[Describe]),
        ]
        .iter()
        .filter(|(name, with)| self.has(*name) && !with.iter().any(|with| self.has(*with)))
        .map(|(name, _)| word(*name))
        .collect();
        if lonely.is_empty() {
            return Ok(());
        }
        Err(uncaught(
            "UnavailableOptionException",
            format!(
                "Option(s) [{}] are unavailable given other options on the command line",
                lonely.join(", ")
            ),
        ))
    }

    pub(super) fn has(&self, name: Name) -> bool {
        self.0.iter().any(|(flag, _)| *flag == name)
    }

    /// All values of a flag.
    pub(super) fn values(&self, name: Name) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(flag, _)| *flag == name)
            .filter_map(|(_, value)| value.as_deref())
    }

    /// The value of a flag that may have one only.
    pub(super) fn value(&self, name: Name) -> Result<Option<&str>, Stop> {
        let mut values = self.values(name);
        let value = values.next();
        match values.next() {
            None => Ok(value),
            Some(_) => Err(Stop::Failed(format!(
                "Found multiple arguments for option {}, but you asked for only one",
                word(name)
            ))),
        }
    }

    /// The value of a flag that has to be a number.
    pub(super) fn number(&self, name: Name) -> Result<Option<i64>, Stop> {
        let parse = |text: &str| {
            text.parse::<i64>().map_err(|_| {
                Stop::Failed(format!("Cannot parse argument '{text}' of option {}", word(name)))
            })
        };
        self.value(name)?.map(parse).transpose()
    }

    /// The tool's checks, in its order.
    pub(super) fn check(&self) -> Result<(), Stop> {
        let usage = |message: String| Err(Stop::Usage(message));
        if !self.has(BootstrapServer) && !self.has(ValidateRegex) {
            return usage(format!("Missing required argument \"{}\"", shown(BootstrapServer)));
        }
        let has_groups = self.has(Group) || self.has(AllGroups);
        let one_of_groups = |action| {
            format!(
                "Option {} takes one of these options: {}",
                shown(action),
                joined(&[Group, AllGroups])
            )
        };
        if self.has(Describe) {
            if !has_groups {
                return usage(one_of_groups(Describe));
            }
            let views = [Members, Offsets, State];
            if views.iter().filter(|view| self.has(**view)).count() > 1 {
                return usage(format!(
                    "Option {} takes at most one of these options: {}",
                    shown(Describe),
                    joined(&views)
                ));
            }
            if self.values(State).next().is_some() {
                return usage(format!(
                    "Option {} does not take a value for {}",
                    shown(Describe),
                    shown(State)
                ));
            }
        }
        if self.has(Delete) {
            if !has_groups {
                return usage(one_of_groups(Delete));
            }
            if self.has(Topic) {
                return usage(
                    "The consumer does not support topic-specific offset deletion from a consumer group."
                        .to_owned(),
                );
            }
        }
        if self.has(DeleteOffsets) && !(self.has(Group) && self.has(Topic)) {
            return usage(format!(
                "Option {} takes the following options: {}",
                shown(DeleteOffsets),
                joined(&[Group, Topic])
            ));
        }
        if self.has(ResetOffsets) {
            self.check_reset(has_groups.then_some(()).ok_or_else(|| one_of_groups(ResetOffsets)))?;
        }
        self.exclude(Group, &[AllGroups])?;
        if !(self.has(Describe)
            || self.has(Delete)
            || self.has(ResetOffsets)
            || self.has(DeleteOffsets))
        {
            self.exclude(Group, &[List])?;
        }
        if !(self.has(Delete) || self.has(ResetOffsets) || self.has(DeleteOffsets)) {
            self.exclude(Topic, &[List, Describe])?;
        }
        if ACTIONS.iter().filter(|action| self.has(**action)).count() != 1 {
            return usage(
                "Command must include exactly one action: --list, --describe, --delete, --reset-offsets, \
                 --delete-offsets, --validate-regex"
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn check_reset(&self, groups: Result<(), String>) -> Result<(), Stop> {
        if self.has(DryRun) && self.has(Execute) {
            return Err(Stop::Usage(format!(
                "Option {} only accepts one of {} and {}",
                shown(ResetOffsets),
                shown(Execute),
                shown(DryRun)
            )));
        }
        if !self.has(DryRun) && !self.has(Execute) {
            super::tell(
                "WARN: No action will be performed as the --execute option is missing. In version 5.0, this command will \
                 require either --dry-run or --execute to be specified. You should add the --dry-run option explicitly \
                 if you are scripting this command and want to keep the current default behavior without prompting.",
            );
        }
        groups.map_err(Stop::Usage)?;
        for (at, scenario) in SCENARIOS.iter().enumerate() {
            let others: Vec<Name> = SCENARIOS[at + 1..].to_vec();
            self.exclude(*scenario, &others)?;
        }
        Ok(())
    }

    /// The first flag may not be there with one of the others.
    fn exclude(&self, name: Name, others: &[Name]) -> Result<(), Stop> {
        let other = others.iter().find(|other| self.has(name) && self.has(**other));
        other.map_or(Ok(()), |other| {
            Err(Stop::Usage(format!(
                "Option \"{}\" can't be used with option \"{}\"",
                shown(name),
                shown(*other)
            )))
        })
    }
}

fn uncaught(class: &str, message: String) -> Stop {
    Stop::Uncaught(format!("Exception in thread \"main\" joptsimple.{class}: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Flags, Stop> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let flags = Flags::parse(&words)?;
        flags.check()?;
        Ok(flags)
    }

    /// What Apache Kafka 4.3.1 says to each.
    #[test]
    fn wrong_usage_is_told_in_the_tools_words() {
        for (line, said) in [
            ("--list", "Missing required argument \"[bootstrap-server]\""),
            ("--bootstrap-server b", "Command must include exactly one action: --list,"),
            (
                "--bootstrap-server b --list --describe",
                "Option [describe] takes one of these options: [group], [all-groups]",
            ),
            (
                "--bootstrap-server b --describe --group a --all-groups",
                "Option \"[group]\" can't be used with option \"[all-groups]\"",
            ),
            (
                "--bootstrap-server b --delete --group a --topic t",
                "The consumer does not support topic-specific",
            ),
            ("--bootstrap-server b --delete", "Option [delete] takes one of these options:"),
            (
                "--bootstrap-server b --delete-offsets --group a",
                "Option [delete-offsets] takes the following options: [group], [topic]",
            ),
            (
                "--bootstrap-server b --reset-offsets --all-topics --dry-run",
                "Option [reset-offsets] takes one of these options:",
            ),
            (
                "--bootstrap-server b --reset-offsets --group a --to-earliest --to-latest --dry-run",
                "Option \"[to-earliest]\" can't be used with option \"[to-latest]\"",
            ),
            (
                "--bootstrap-server b --reset-offsets --group a --execute --dry-run",
                "Option [reset-offsets] only accepts one of [execute] and [dry-run]",
            ),
            (
                "--bootstrap-server b --describe --group a --members --offsets",
                "Option [describe] takes at most one of these options: [members], [offsets], [state]",
            ),
            (
                "--bootstrap-server b --describe --group a --state Stable",
                "Option [describe] does not take a value for [state]",
            ),
            (
                "--bootstrap-server b --list --group a",
                "Option \"[group]\" can't be used with option \"[list]\"",
            ),
            (
                "--bootstrap-server b --describe --group a --topic t",
                "Option \"[topic]\" can't be used with option \"[describe]\"",
            ),
        ] {
            let Err(Stop::Usage(message)) = parsed(line) else { panic!("{line}") };
            assert!(message.starts_with(said), "{line}: {message}");
        }
        for (line, said) in [
            ("--list --members", "UnavailableOptionException: Option(s) [members] are unavailable"),
            ("--nosuch", "UnrecognizedOptionException: nosuch is not a recognized option"),
            ("--desc", "UnrecognizedOptionException: desc is not"),
            (
                "--describe --group",
                "OptionMissingRequiredArgumentException: Option group requires an argument",
            ),
        ] {
            let Err(Stop::Uncaught(message)) = parsed(line) else { panic!("{line}") };
            assert!(message.contains(said), "{line}: {message}");
        }
    }

    #[test]
    fn values_follow_or_are_joined_by_an_equals_sign() {
        let flags = parsed("extra --bootstrap-server=b --list --state --type=classic more");
        let Ok(flags) = flags else { panic!("{flags:?}") };
        assert!(flags.has(Name::State) && flags.values(Name::State).next().is_none());
        assert_eq!(flags.values(Name::Type).collect::<Vec<_>>(), ["classic"]);
        let flags = parsed(
            "--bootstrap-server b --reset-offsets --group a --group b --shift-by -5 --dry-run",
        );
        let Ok(flags) = flags else { panic!("{flags:?}") };
        assert!(matches!(flags.number(Name::ShiftBy), Ok(Some(-5))));
        assert!(matches!(flags.value(Name::Group), Err(Stop::Failed(_))));
    }
}
