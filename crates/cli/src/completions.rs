//! Shell completions. The shell asks this binary, with `COMPLETE` set, what could come next; so names of topics and groups are
//! the ones that the cluster has at that moment.

use std::{io, time::Duration};

use clap_complete::{
    CompleteEnv,
    engine::{ArgValueCandidates, CompletionCandidate},
    env::Shells,
};
use kavka_client::{Admin, admin::GroupFilter};

use crate::{failure::Failure, options::Options};

/// What makes the binary answer a shell instead of running a command.
const VARIABLE: &str = "COMPLETE";

/// How long a shell waits for names.
const PATIENCE: Duration = Duration::from_millis(1500);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// bash, elvish, fish, powershell or zsh
    #[arg(value_parser = ["bash", "elvish", "fish", "powershell", "zsh"])]
    shell: String,
}

/// Answers a shell and ends the process, if a shell asks.
pub(crate) fn answer_shell() {
    if std::env::var_os(VARIABLE).is_some() {
        CompleteEnv::with_factory(crate::command).complete();
    }
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let shells = Shells::builtins();
    let shell = shells.completer(&args.shell).ok_or_else(|| {
        Failure::usage(format!("there are no completions for {}", args.shell))
            .advise("Take one of bash, elvish, fish, powershell, zsh.")
    })?;
    shell.write_registration(VARIABLE, "kavka", "kavka", "kavka", &mut io::stdout().lock())?;
    Ok(())
}

/// The names of topics.
pub(crate) fn topics() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        names(async |admin| {
            let topics = admin.list_topics().await.ok()?;
            Some(topics.into_iter().map(|topic| topic.name.to_string()).collect())
        })
    })
}

/// The names of groups.
pub(crate) fn groups() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        names(async |admin| {
            let groups = admin.list_groups(&GroupFilter::default()).await.ok()?;
            Some(groups.groups.into_keys().map(|group| group.to_string()).collect())
        })
    })
}

/// Asks the cluster that the line names. Whatever fails, there are no names: a shell is no place for errors.
fn names(ask: impl AsyncFnOnce(Admin) -> Option<Vec<String>>) -> Vec<CompletionCandidate> {
    let asked = async || {
        let mut options = Options::default();
        take_from_line(&mut options, std::env::args());
        options.timeout = Some(PATIENCE);
        let admin = options.admin().ok()?;
        tokio::time::timeout(PATIENCE, ask(admin)).await.ok()?
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let names = runtime.ok().and_then(|runtime| runtime.block_on(asked()));
    names.unwrap_or_default().into_iter().map(CompletionCandidate::new).collect()
}

/// Takes where the cluster is from a line that is not finished, so that it cannot be parsed.
fn take_from_line(options: &mut Options, line: impl Iterator<Item = String>) {
    let mut words = line.skip_while(|word| word != "--").skip(1);
    while let Some(word) = words.next() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
            _ => (word.as_str(), None),
        };
        let mut value = || value.clone().or_else(|| words.next());
        match name {
            "-b" | "--bootstrap-server" => options.bootstrap_server = value(),
            "--profile" => options.profile = value(),
            "--command-config" => options.command_config = value().map(Into::into),
            "-X" | "--property" => {
                options.properties.extend(value().and_then(|value| crate::property(&value).ok()));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_of_an_unfinished_line_is_asked() {
        let mut options = Options::default();
        let line = "kavka -- kavka group describe -b a:1 --profile=far -X client.id=me --comma";
        take_from_line(&mut options, line.split(' ').map(str::to_owned));
        assert_eq!(options.bootstrap_server.as_deref(), Some("a:1"));
        assert_eq!(options.profile.as_deref(), Some("far"));
        assert_eq!(options.properties, [("client.id".to_owned(), "me".to_owned())]);
    }
}
