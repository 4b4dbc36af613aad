//! Every `pub async fn` of this crate is named in the tests of futures that are dropped and of brokers that lie, and says in its docs
//! what being dropped means: a new one cannot be forgotten.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Those that a broker that lies is not shown to, and why.
const NOT_HOSTILE: &[(&str, &str)] = &[
    (
        "run",
        "it closes its consumer with a timeout of 30 s; what it does beside that is next_unacked and commit",
    ),
    ("close_with", "as close"),
];

/// A public call: where it is declared, its name, its docs.
struct Call {
    place: String,
    name: String,
    docs: String,
}

fn source(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn calls() -> Vec<Call> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    files(&root, &mut paths);
    paths.sort();
    let mut calls = Vec::new();
    for path in paths {
        let mut docs = String::new();
        for line in fs::read_to_string(&path).unwrap().lines() {
            let line = line.trim_start();
            if let Some(words) = line.strip_prefix("///") {
                docs.push_str(words);
                docs.push('\n');
            } else if let Some(rest) = line.strip_prefix("pub async fn ") {
                let name = rest.split(['(', '<']).next().unwrap().to_owned();
                let place = path.strip_prefix(&root).unwrap().display().to_string();
                calls.push(Call { place, name, docs: std::mem::take(&mut docs) });
            } else if !line.starts_with("#[") {
                docs.clear();
            }
        }
    }
    assert!(calls.len() > 50, "{} calls found: this test does not see them", calls.len());
    calls
}

/// Calls whose name iterators and other types have too: where each is declared, and of what the tests call it.
const SAME_NAMES: &[(&str, &str, &[&str])] = &[
    ("next", "consumer.rs", &["consumer", "consumer()"]),
    ("next", "consumer/events.rs", &["events", "RebalanceEvents>()"]),
    ("next", "consumer/stream.rs", &["own", "stream()"]),
];

/// Whether a test calls it.
fn is_called(text: &str, place: &str, name: &str) -> bool {
    let mut same = SAME_NAMES.iter().filter(|row| row.0 == name).peekable();
    if same.peek().is_none() {
        return text.contains(&format!(".{name}("));
    }
    let (_, _, receivers) = same.find(|row| row.1 == place).expect("it is among the same names");
    receivers.iter().any(|receiver| text.contains(&format!("{receiver}.{name}(")))
}

#[test]
fn every_call_is_dropped_at_its_awaits_somewhere() {
    let tests =
        ["tests/suite/cancelled.rs", "tests/consumer/faults.rs", "tests/producer_faults.rs"];
    let text: String = tests.iter().map(|path| source(path)).collect();
    for Call { place, name, .. } in calls() {
        assert!(is_called(&text, &place, &name), "{place}: {name} is in none of {tests:?}");
    }
}

#[test]
fn every_call_is_made_of_a_broker_that_lies() {
    let text = source("tests/hostile/clients.rs");
    for Call { place, name, .. } in calls() {
        let is_left_out = NOT_HOSTILE.iter().any(|(left_out, _)| *left_out == name);
        assert!(
            is_called(&text, &place, &name) || is_left_out,
            "{place}: {name} is not in tests/hostile/clients.rs"
        );
    }
}

#[test]
fn the_future_of_every_call_is_checked_to_be_sendable() {
    let text = source("tests/futures.rs");
    for Call { place, name, .. } in calls() {
        assert!(is_called(&text, &place, &name), "{place}: {name} is not in tests/futures.rs");
    }
}

#[test]
fn every_call_says_what_being_dropped_means() {
    for Call { place, name, docs } in calls() {
        assert!(
            docs.to_lowercase().contains("cancel safe"),
            "{place}: the docs of {name} do not say whether it is cancel safe"
        );
    }
}
