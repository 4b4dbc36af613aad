//! Events in the order of their time, and the form they have on disk: one JSON object a line.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Write},
};

use serde::{Deserialize, Serialize};

use crate::Op;

/// What happened, in the order in which it happened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// In the order of their time; events of one time in the order in which they were written.
    pub events: Vec<Event>,
}

/// Something begins, ends, or is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Nanoseconds of one monotonic clock that all clients share.
    pub time: u64,
    /// Who does one operation at a time. A client that does several at once is several processes; its polls come from one.
    pub process: u64,
    /// The client: a consumer, a producer. One that is started anew has another name.
    pub client: String,
    /// What kind of event this is.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// What it is about.
    #[serde(flatten)]
    pub op: Op,
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// An operation begins.
    Invoke,
    /// It has happened.
    Ok,
    /// It has not happened, and never will.
    Fail,
    /// Nobody knows whether it has happened, or will. The kind of all notes.
    Info,
}

/// Why something is not a history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file cannot be read.
    #[error("the history cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Not an event.
    #[error("line {line} is not an event: {source}; docs/history.md has an example of each")]
    Json {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A process does two things at once.
    #[error(
        "event {event}: process {process} invokes {op} while its {open} is open; a client that does several things at once is several processes"
    )]
    StillOpen {
        /// Counted from 0, in the order of time.
        event: usize,
        /// Which process.
        process: u64,
        /// What it begins.
        op: &'static str,
        /// What it has not ended.
        open: &'static str,
    },
    /// Something ends that was not begun.
    #[error("event {event}: process {process} completes {op}, which it has not invoked")]
    NotOpen {
        /// Counted from 0, in the order of time.
        event: usize,
        /// Which process.
        process: u64,
        /// What it ends.
        op: &'static str,
    },
    /// A note is one event.
    #[error("event {event}: {op} is a note: one event of type info")]
    NotANote {
        /// Counted from 0, in the order of time.
        event: usize,
        /// The note.
        op: &'static str,
    },
}

impl Event {
    /// An event from its parts.
    pub fn new(
        time: u64,
        process: u64,
        client: impl Into<String>,
        kind: EventKind,
        op: Op,
    ) -> Self {
        Self { time, process, client: client.into(), kind, op }
    }

    /// A note.
    pub fn note(time: u64, process: u64, client: impl Into<String>, op: Op) -> Self {
        Self::new(time, process, client, EventKind::Info, op)
    }
}

impl History {
    /// A history of these events. They are put in the order of their time; those of one time stay as they are.
    pub fn new(mut events: Vec<Event>) -> Self {
        events.sort_by_key(|event| event.time);
        Self { events }
    }

    /// Adds an event, which is later than all others or of the time of the last.
    ///
    /// # Panics
    ///
    /// If it is earlier than the last.
    pub fn push(&mut self, event: Event) {
        assert!(
            self.events.last().is_none_or(|last| last.time <= event.time),
            "events are pushed in the order of their time"
        );
        self.events.push(event);
    }

    /// Reads lines of JSON. Empty lines are skipped; the order of the lines matters only among events of one time, so that the
    /// files of several writers can be put one after the other.
    ///
    /// # Errors
    ///
    /// The first line that is not an event, or the error of the reader.
    pub fn read(mut reader: impl BufRead) -> Result<Self, HistoryError> {
        let mut events = Vec::new();
        let mut text = String::new();
        for line in 1.. {
            text.clear();
            if reader.read_line(&mut text)? == 0 {
                break;
            }
            if text.trim().is_empty() {
                continue;
            }
            let event = serde_json::from_str(&text)
                .map_err(|source| HistoryError::Json { line, source })?;
            events.push(event);
        }
        Ok(Self::new(events))
    }

    /// Writes lines of JSON, which [`History::read`] reads as the same history.
    ///
    /// # Errors
    ///
    /// The error of the writer.
    pub fn write(&self, mut writer: impl Write) -> io::Result<()> {
        for event in &self.events {
            serde_json::to_writer(&mut writer, event)?;
            writer.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Looks whether every completion has its invocation, one at a time for each process.
    ///
    /// # Errors
    ///
    /// The first event that does not fit.
    pub fn validate(&self) -> Result<(), HistoryError> {
        let mut open: BTreeMap<u64, &Op> = BTreeMap::new();
        for (event, Event { process, kind, op, .. }) in self.events.iter().enumerate() {
            let (process, name) = (*process, op.name());
            if !op.is_operation() {
                if *kind != EventKind::Info {
                    return Err(HistoryError::NotANote { event, op: name });
                }
                continue;
            }
            if *kind == EventKind::Invoke {
                if let Some(open) = open.insert(process, op) {
                    return Err(HistoryError::StillOpen {
                        event,
                        process,
                        op: name,
                        open: open.name(),
                    });
                }
            } else if open.remove(&process).is_none_or(|invoked| invoked.name() != name) {
                return Err(HistoryError::NotOpen { event, process, op: name });
            }
        }
        Ok(())
    }
}
