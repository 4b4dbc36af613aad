//! Where the checks put what they find.

use crate::{Anomaly, AnomalyKind};

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) anomalies: Vec<Anomaly>,
}

impl Evidence {
    /// Something that makes a history invalid.
    pub(crate) fn bad(
        &mut self,
        kind: AnomalyKind,
        subject: impl ToString,
        message: String,
        events: impl IntoIterator<Item = usize>,
    ) {
        self.add(kind, false, subject, message, events);
    }

    /// Something that is bad unless it is allowed.
    pub(crate) fn add(
        &mut self,
        kind: AnomalyKind,
        allowed: bool,
        subject: impl ToString,
        message: String,
        events: impl IntoIterator<Item = usize>,
    ) {
        let mut events: Vec<usize> = events.into_iter().collect();
        events.sort_unstable();
        events.dedup();
        self.anomalies.push(Anomaly {
            kind,
            allowed,
            subject: subject.to_string(),
            message,
            events,
        });
    }
}
