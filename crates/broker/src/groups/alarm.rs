//! When which shard has something to do: one ordered structure, one task, no timer per group.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use kavka_coordinator::Monotonic;
use tokio::sync::Notify;

use crate::clock::Clock;

/// The next deadline of each shard.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    deadlines: Mutex<Deadlines>,
    /// Told when the earliest deadline became earlier.
    sooner: Notify,
}

#[derive(Debug, Default)]
struct Deadlines {
    ordered: BTreeSet<(Monotonic, usize)>,
    of_shard: HashMap<usize, Monotonic>,
}

impl Alarm {
    /// Sets, moves or clears the deadline of a shard.
    pub(super) fn set(&self, shard: usize, deadline: Option<Monotonic>) {
        let earlier = {
            let mut deadlines = self.deadlines.lock().unwrap_or_else(PoisonError::into_inner);
            let before = match deadline {
                Some(deadline) => deadlines.of_shard.insert(shard, deadline),
                None => deadlines.of_shard.remove(&shard),
            };
            if before == deadline {
                return;
            }
            if let Some(before) = before {
                deadlines.ordered.remove(&(before, shard));
            }
            let Some(deadline) = deadline else { return };
            deadlines.ordered.insert((deadline, shard));
            deadlines.ordered.first() == Some(&(deadline, shard))
        };
        if earlier {
            self.sooner.notify_one();
        }
    }

    /// Waits for the next deadline, takes it off, and says whose it was. Cancel safe.
    pub(super) async fn next(&self, clock: &Clock) -> usize {
        loop {
            let first = {
                let deadlines = self.deadlines.lock().unwrap_or_else(PoisonError::into_inner);
                deadlines.ordered.first().copied()
            };
            let Some((deadline, shard)) = first else {
                self.sooner.notified().await;
                continue;
            };
            if clock.now().monotonic >= deadline {
                let mut deadlines = self.deadlines.lock().unwrap_or_else(PoisonError::into_inner);
                if deadlines.ordered.remove(&(deadline, shard)) {
                    deadlines.of_shard.remove(&shard);
                    return shard;
                }
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep_until(clock.instant(deadline)) => {}
                () = self.sooner.notified() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::environment::Machine;

    #[tokio::test]
    async fn deadlines_fire_in_order_and_a_sooner_one_overtakes() {
        let (alarm, clock) = (Alarm::default(), Clock::new(Machine::default()));
        let at = |ms| Some(clock.now().monotonic + Duration::from_millis(ms));
        alarm.set(1, at(60_000));
        alarm.set(2, at(40));
        let sooner = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            alarm.set(1, at(1));
        };
        let (first, ()) = tokio::join!(alarm.next(&clock), sooner);
        assert_eq!(first, 1);
        assert_eq!(alarm.next(&clock).await, 2);
        assert!(alarm.deadlines.lock().expect("not poisoned").ordered.is_empty());
    }

    #[test]
    fn clearing_a_deadline_leaves_nothing_behind() {
        let alarm = Alarm::default();
        alarm.set(3, Some(Monotonic::from_millis(5)));
        alarm.set(3, None);
        let deadlines = alarm.deadlines.lock().expect("not poisoned");
        assert!(deadlines.ordered.is_empty() && deadlines.of_shard.is_empty());
    }
}
