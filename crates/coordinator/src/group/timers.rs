//! Deadlines as data: one ordered set for the whole shard.
//!
//! A timer is named by what it is for, so there is at most one of each, arming it again moves it, and a member that is removed
//! takes its timer along. Nothing runs by itself: the shell asks for the next deadline and comes back with
//! [`Input::Deadline`](super::Input::Deadline).

use std::collections::{BTreeMap, BTreeSet};

use kavka_protocol::ByteString;

use crate::Monotonic;

/// What a deadline is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Timer {
    /// Of a group.
    Group(ByteString, GroupTimer),
    /// Time to look for expired offsets and empty groups.
    Expiry,
    /// Time to go on with removing the offsets of deleted topics.
    TopicDeletion,
}

/// What a deadline of a group is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum GroupTimer {
    /// The rebalance waits no longer for joins. There is one if and only if the group is in `PreparingRebalance`.
    Join,
    /// The members that owe a SyncGroup are given up. There is one if and only if there are such members.
    Sync,
    /// A member has been silent too long. Each member has exactly one.
    Session(ByteString),
    /// A member id that was handed out holds the rebalance, or is good, no longer. Each such id has exactly one.
    Pending(ByteString),
}

#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Timers {
    by_time: BTreeSet<(Monotonic, Timer)>,
    by_name: BTreeMap<Timer, Monotonic>,
}

impl Timers {
    pub(crate) fn arm(&mut self, timer: Timer, deadline: Monotonic) {
        if let Some(former) = self.by_name.insert(timer.clone(), deadline) {
            if former == deadline {
                return;
            }
            let key = (former, timer);
            self.by_time.remove(&key);
            self.by_time.insert((deadline, key.1));
        } else {
            self.by_time.insert((deadline, timer));
        }
    }

    pub(crate) fn cancel(&mut self, timer: &Timer) {
        if let Some((timer, deadline)) = self.by_name.remove_entry(timer) {
            self.by_time.remove(&(deadline, timer));
        }
    }

    pub(crate) fn clear(&mut self) {
        self.by_time.clear();
        self.by_name.clear();
    }

    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        self.by_time.first().map(|(deadline, _)| *deadline)
    }

    /// Takes the earliest timer if its time has come.
    pub(crate) fn pop(&mut self, now: Monotonic) -> Option<Timer> {
        if self.next_deadline()? > now {
            return None;
        }
        let (_, timer) = self.by_time.pop_first()?;
        self.by_name.remove(&timer);
        Some(timer)
    }

    #[cfg(test)]
    pub(crate) fn deadline(&self, timer: &Timer) -> Option<Monotonic> {
        self.by_name.get(timer).copied()
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn all(&self) -> impl Iterator<Item = &Timer> {
        assert_eq!(self.by_time.len(), self.by_name.len());
        self.by_name.keys()
    }
}
