//! How a command ends when it does not end well: an exit code, a sentence that says what happened, and what to do about it.

use std::{fmt, io};

use kavka_client::ErrorKind;

use crate::output::tell_failure;

/// What the exit code says. 0 is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Something failed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// What was asked about is not so, as `group check` finds out.
    ConditionNotMet = 3,
}

/// Why a command stops.
#[derive(Debug)]
pub(crate) enum Failure {
    /// To be told on standard error.
    Told {
        /// The exit code.
        exit: Exit,
        /// What happened and to what, without a full stop.
        message: String,
        /// What to do, in sentences.
        advice: Option<String>,
    },
    /// It has been told already: the exit code only.
    Silent(Exit),
    /// Whoever reads standard output has gone: they have what they wanted, and it is no failure.
    BrokenPipe,
}

impl Failure {
    /// Something failed.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Told { exit: Exit::Failed, message: message.into(), advice: None }
    }

    /// The command line or the configuration is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Told { exit: Exit::Usage, message: message.into(), advice: None }
    }

    /// A condition is not met.
    pub(crate) fn condition(message: impl Into<String>) -> Self {
        Self::Told { exit: Exit::ConditionNotMet, message: message.into(), advice: None }
    }

    /// The same with what to do.
    #[must_use]
    pub(crate) fn advise(self, words: impl Into<String>) -> Self {
        match self {
            Self::Told { exit, message, .. } => {
                Self::Told { exit, message, advice: Some(words.into()) }
            }
            other => other,
        }
    }

    /// The same in the course of something larger: "creating topic orders: ...".
    #[must_use]
    pub(crate) fn while_doing(self, what: impl fmt::Display) -> Self {
        match self {
            Self::Told { exit, message, advice } => {
                Self::Told { exit, message: format!("{what}: {message}"), advice }
            }
            other => other,
        }
    }
}

/// The end of a command that did several things: well if nothing failed. All but the last failure are told here.
pub(crate) fn all(mut failures: Vec<Failure>) -> Result<(), Failure> {
    let Some(last) = failures.pop() else { return Ok(()) };
    for failure in &failures {
        tell_failure(failure);
    }
    Err(last)
}

impl From<kavka_client::Error> for Failure {
    fn from(error: kavka_client::Error) -> Self {
        let exit = match error.kind() {
            ErrorKind::Config => Exit::Usage,
            _ => Exit::Failed,
        };
        Self::Told { exit, message: error.to_string(), advice: Some(error.advice().to_owned()) }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::new(format!("cannot write to standard output: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        let gone = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(matches!(Failure::from(gone), Failure::BrokenPipe));
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert!(matches!(Failure::from(full), Failure::Told { exit: Exit::Failed, .. }));
    }

    #[test]
    fn a_setting_that_cannot_be_is_a_usage_error() {
        let error = kavka_client::Error::new(ErrorKind::Config, "bootstrap.servers is empty");
        let Failure::Told { exit, message, advice } = Failure::from(error) else { panic!() };
        assert_eq!((exit, message.as_str()), (Exit::Usage, "bootstrap.servers is empty"));
        assert!(advice.is_some());
    }
}
