//! What has happened in a world, or in many: faults that landed, and what clients did under each.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kavka_sim::named;

use crate::{
    plan::{Kind, Mode},
    trace::Trace,
};

named! {
    /// What clients do and are told; each has to be seen.
    pub enum Deed {
        /// A member was given partitions.
        Assigned = "assigned",
        /// A member let go of partitions.
        Revoked = "revoked",
        /// Partitions were taken away from a member.
        Lost = "lost",
        /// A commit was acknowledged.
        Committed = "committed",
        /// A commit was refused.
        CommitRefused = "commit-refused",
        /// A record was acknowledged.
        Delivered = "delivered",
        /// A record was given up by its producer.
        NotDelivered = "not-delivered",
        /// A `send` was given up before it was ready.
        SendGivenUp = "send-given-up",
        /// The group is done with a record.
        WorkedOn = "worked-on",
        /// A producer was killed.
        ProducerKilled = "producer-killed",
        /// The operator was answered.
        OperatorAnswered = "operator-answered",
    }
}

named! {
    /// How a consumer ends.
    pub enum Ending {
        /// It is closed.
        Close = "close",
        /// Closing it is not waited for.
        CloseAndForget = "close-and-forget",
        /// It is dropped.
        Drop = "drop",
        /// Its host loses its power.
        PowerLoss = "power-loss",
        /// Its process is killed.
        Killed = "killed",
    }
}

/// What has to be seen under each kind of fault: a group that rebalances and commits, records that are written and worked on.
const UNDER: &[Deed] = &[Deed::Assigned, Deed::Committed, Deed::Delivered, Deed::WorkedOn];

/// A deed is done under a fault within this time of it.
const AFTERMATH: Duration = Duration::from_secs(10);

/// How often each kind of fault has to be seen in a campaign.
const FAULTS_AT_LEAST: u64 = 50;
/// How often each deed, each of [`UNDER`] under each kind, and each application ending in each way.
const AT_LEAST: u64 = 10;

/// Counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// How often each kind of fault did something.
    pub faults: BTreeMap<Kind, u64>,
    /// How often what was done.
    pub deeds: BTreeMap<Deed, u64>,
    /// How often what was done within ten seconds of which fault.
    pub under: BTreeMap<(Kind, Deed), u64>,
    /// How often which application ended in which way.
    pub endings: BTreeMap<(Mode, Ending), u64>,
}

impl Coverage {
    /// Adds what another world has seen.
    pub fn add(&mut self, other: &Self) {
        fn add<K: Ord + Copy>(to: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
            from.iter().for_each(|(key, count)| *to.entry(*key).or_default() += count);
        }
        add(&mut self.faults, &other.faults);
        add(&mut self.deeds, &other.deeds);
        add(&mut self.under, &other.under);
        add(&mut self.endings, &other.endings);
    }

    /// How many faults landed.
    pub fn faults_landed(&self) -> u64 {
        self.faults.values().sum()
    }

    /// What a campaign should have seen and has not, or not often enough.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let mut ask = |what: String, count: Option<&u64>, least: u64| {
            let count = count.copied().unwrap_or(0);
            if count < least {
                missing.push(format!("{what}: {count} times, and not {least}"));
            }
        };
        for kind in Kind::ALL {
            ask(format!("fault {kind}"), self.faults.get(kind), FAULTS_AT_LEAST);
            for deed in UNDER {
                let count = self.under.get(&(*kind, *deed));
                ask(format!("{deed} under {kind}"), count, AT_LEAST);
            }
        }
        for deed in Deed::ALL {
            ask(deed.to_string(), self.deeds.get(deed), AT_LEAST);
        }
        for mode in Mode::ALL {
            for ending in Ending::ALL {
                let count = self.endings.get(&(*mode, *ending));
                ask(format!("{mode} that ends by {ending}"), count, AT_LEAST);
            }
        }
        missing
    }

    /// As tables.
    pub fn report(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = write!(text, "{:<16}{:>10}", "faults", "landed");
        for deed in UNDER {
            let _ = write!(text, "{:>12}", deed.name());
        }
        let _ = writeln!(text, "   within {AFTERMATH:?}");
        for kind in Kind::ALL {
            let landed = self.faults.get(kind).unwrap_or(&0);
            let _ = write!(text, "{:<16}{landed:>10}", kind.name());
            for deed in UNDER {
                let _ = write!(text, "{:>12}", self.under.get(&(*kind, *deed)).unwrap_or(&0));
            }
            text.push('\n');
        }
        let _ = writeln!(text, "deeds");
        for deed in Deed::ALL {
            let count = self.deeds.get(deed).unwrap_or(&0);
            let _ = writeln!(text, "  {:<24}{count:>10}", deed.name());
        }
        let _ = write!(text, "{:<16}", "applications");
        for ending in Ending::ALL {
            let _ = write!(text, "{:>18}", ending.name());
        }
        for mode in Mode::ALL {
            let _ = write!(text, "\n{:<16}", mode.name());
            for ending in Ending::ALL {
                let _ = write!(text, "{:>18}", self.endings.get(&(*mode, *ending)).unwrap_or(&0));
            }
        }
        text.push('\n');
        text
    }
}

/// What a world has seen so far.
pub(crate) struct Seen {
    trace: Arc<Trace>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    coverage: Coverage,
    /// When each kind landed last, in nanoseconds since the world began.
    landed: BTreeMap<Kind, u64>,
}

impl Seen {
    pub(crate) fn new(trace: Arc<Trace>) -> Self {
        Self { trace, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fault landed.
    pub(crate) fn fault(&self, kind: Kind) {
        let now = self.trace.now();
        self.trace.tell(|| format!("fault: {kind}"));
        let mut state = self.lock();
        *state.coverage.faults.entry(kind).or_default() += 1;
        state.landed.insert(kind, now);
    }

    /// Something was done.
    pub(crate) fn deed(&self, deed: Deed) {
        let mut state = self.lock();
        let State { coverage, landed } = &mut *state;
        *coverage.deeds.entry(deed).or_default() += 1;
        if UNDER.contains(&deed) {
            let since = self.trace.now().saturating_sub(AFTERMATH.as_nanos() as u64);
            for (kind, _) in landed.iter().filter(|(_, at)| **at >= since) {
                *coverage.under.entry((*kind, deed)).or_default() += 1;
            }
        }
    }

    /// A consumer ended while things went wrong.
    pub(crate) fn ending(&self, mode: Mode, ending: Ending) {
        *self.lock().coverage.endings.entry((mode, ending)).or_default() += 1;
    }

    pub(crate) fn coverage(&self) -> Coverage {
        self.lock().coverage.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Telling;

    #[test]
    fn what_was_not_seen_is_named() {
        let mut seen = Coverage::default();
        for kind in Kind::ALL {
            seen.faults.insert(*kind, FAULTS_AT_LEAST);
            seen.under.extend(UNDER.iter().map(|deed| ((*kind, *deed), AT_LEAST)));
        }
        seen.deeds.extend(Deed::ALL.iter().map(|deed| (*deed, AT_LEAST)));
        for mode in Mode::ALL {
            for ending in Ending::ALL {
                seen.endings.insert((*mode, *ending), AT_LEAST);
            }
        }
        assert!(seen.missing().is_empty(), "{:?}", seen.missing());
        seen.faults.insert(Kind::HalfOpen, 3);
        seen.under.remove(&(Kind::PowerLoss, Deed::Committed));
        seen.endings.remove(&(Mode::Acks, Ending::Killed));
        assert_eq!(
            seen.missing(),
            [
                "fault half-open: 3 times, and not 50",
                "committed under power-loss: 0 times, and not 10",
                "acks that ends by killed: 0 times, and not 10",
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_done_long_after_a_fault_is_not_done_under_it() {
        let seen = Seen::new(Arc::new(Trace::new(Telling::Nowhere)));
        seen.deed(Deed::Committed);
        seen.fault(Kind::Reset);
        seen.deed(Deed::Committed);
        tokio::time::advance(AFTERMATH + Duration::from_millis(1)).await;
        seen.deed(Deed::Committed);
        let coverage = seen.coverage();
        assert_eq!(coverage.under, [((Kind::Reset, Deed::Committed), 1)].into());
        assert_eq!(coverage.deeds, [(Deed::Committed, 3)].into());
    }
}
