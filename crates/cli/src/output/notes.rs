//! What is said beside the data, on standard error.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
};

use super::{escaped, wants_colour};
use crate::failure::Failure;

/// How much is said.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Notes {
    /// Errors only.
    pub(crate) quiet: bool,
}

impl Notes {
    /// Something worth knowing; not with `--quiet`.
    pub(crate) fn say(self, words: impl fmt::Display) {
        if !self.quiet {
            tell("", &words.to_string());
        }
    }

    /// Something that may be a mistake; not with `--quiet`.
    pub(crate) fn warn(self, words: impl fmt::Display) {
        if !self.quiet {
            tell("warning: ", &words.to_string());
        }
    }
}

/// Tells a failure, and returns the exit code.
pub(crate) fn tell_failure(failure: &Failure) -> u8 {
    match failure {
        Failure::Told { exit, message, advice } => {
            tell("error: ", message);
            if let Some(advice) = advice {
                tell("", &format!("  {advice}"));
            }
            *exit as u8
        }
        Failure::Silent(exit) => *exit as u8,
        Failure::BrokenPipe => 0,
    }
}

/// A line on standard error. If nobody reads it, there is nobody to tell that either.
fn tell(label: &str, words: &str) {
    let mut stderr = io::stderr().lock();
    let words: Vec<_> = words.lines().map(escaped).collect();
    let words = words.join("\n");
    let colour = stderr.is_terminal() && wants_colour();
    let written = match (label, colour) {
        ("", _) | (_, false) => writeln!(stderr, "{label}{words}"),
        _ => writeln!(stderr, "\x1b[1;31m{label}\x1b[0m{words}"),
    };
    drop(written);
}
