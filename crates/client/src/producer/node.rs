//! What waits to be sent to one broker: partitions that are ready, and those that will be at some time.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::{sync::Notify, time::Instant};

use super::partition::Partition;

/// A broker, as batches see it. Its task is in [`super::sender`].
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: i32,
    lists: Mutex<Lists>,
    wake: Notify,
    /// Nothing may linger from now on: what waits for its time is to be looked at again, once.
    is_pressed: AtomicBool,
    /// Since when something waits that could not be sent, in ms of [`super::core::Core::now_ms`]; 0: nothing does.
    stalled_since: AtomicU64,
}

#[derive(Debug, Default)]
struct Lists {
    ready: VecDeque<Listed>,
    /// Looked at again at a time; entries may be out of date.
    timers: BTreeMap<(Instant, u64), Arc<Partition>>,
    timers_made: u64,
}

/// A partition in the list of those that are ready, and the number of the listing that it had then: of another one by now, the entry is
/// out of date.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) partition: Arc<Partition>,
    pub(super) listing: u64,
}

impl Node {
    pub(super) fn new(id: i32) -> Arc<Self> {
        Arc::new(Self {
            id,
            lists: Mutex::default(),
            wake: Notify::new(),
            is_pressed: AtomicBool::new(false),
            stalled_since: AtomicU64::new(0),
        })
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the task.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Until [`Node::wake`].
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Lists a partition that has something to send.
    pub(super) fn push_ready(&self, partition: &Arc<Partition>, listing: u64) {
        let was_empty = {
            let mut lists = self.lists();
            let was_empty = lists.ready.is_empty();
            lists.ready.push_back(Listed { partition: Arc::clone(partition), listing });
            was_empty
        };
        if was_empty {
            self.wake();
        }
    }

    /// Lists a partition before all others.
    pub(super) fn push_next(&self, partition: &Arc<Partition>, listing: u64) {
        self.lists().ready.push_front(Listed { partition: Arc::clone(partition), listing });
    }

    pub(super) fn pop_ready(&self) -> Option<Listed> {
        self.lists().ready.pop_front()
    }

    pub(super) fn ready(&self) -> usize {
        self.lists().ready.len()
    }

    /// Has a partition looked at again at a time.
    pub(super) fn push_timer(&self, time: Instant, partition: &Arc<Partition>) {
        let is_first = {
            let mut lists = self.lists();
            lists.timers_made += 1;
            let key = (time, lists.timers_made);
            lists.timers.insert(key, Arc::clone(partition));
            lists.timers.first_key_value().is_some_and(|(first, _)| *first == key)
        };
        if is_first {
            self.wake();
        }
    }

    /// Has everything looked at again that waits for its time.
    pub(super) fn press(&self) {
        self.is_pressed.store(true, Ordering::Release);
        self.wake();
    }

    /// Takes the partitions whose time has come; all, if [`Node::press`] was called.
    pub(super) fn take_due(&self, now: Instant) -> Vec<Arc<Partition>> {
        let is_pressed = self.is_pressed.swap(false, Ordering::AcqRel);
        let mut lists = self.lists();
        if is_pressed {
            return std::mem::take(&mut lists.timers).into_values().collect();
        }
        let mut due = Vec::new();
        while let Some(entry) = lists.timers.first_entry().filter(|entry| entry.key().0 <= now) {
            due.push(entry.remove());
        }
        due
    }

    /// When the next partition is to be looked at.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.lists().timers.first_key_value().map(|((time, _), _)| *time)
    }

    /// Says whether something waits that cannot be sent.
    pub(super) fn set_stalled(&self, is_stalled: bool, now_ms: u64) {
        if !is_stalled {
            self.stalled_since.store(0, Ordering::Relaxed);
        } else if self.stalled_since.load(Ordering::Relaxed) == 0 {
            self.stalled_since.store(now_ms.max(1), Ordering::Relaxed);
        }
    }

    /// For how long something has waited that could not be sent, in ms.
    pub(super) fn stalled_ms(&self, now_ms: u64) -> u64 {
        match self.stalled_since.load(Ordering::Relaxed) {
            0 => 0,
            since => now_ms.saturating_sub(since),
        }
    }
}
