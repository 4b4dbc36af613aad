//! An offset that rises, and those who wait for it to reach theirs.
//!
//! The one primitive behind every wait of the data path: a produce waits for the sync that covers it, a coordinator's reply
//! for the records it stands on, a parked fetch for the high watermark to move.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Poll, Waker},
};

/// The partition is gone: deleted, or its disk failed. Nobody needs to wait any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// A rising offset.
#[derive(Debug)]
pub(crate) struct Gate {
    reached: AtomicI64,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    closed: bool,
    next: u64,
    /// By the offset waited for.
    wakers: BTreeMap<(i64, u64), Waker>,
}

impl Gate {
    pub(crate) fn new(reached: i64) -> Self {
        Self { reached: AtomicI64::new(reached), waiting: Mutex::default() }
    }

    /// The offset reached.
    pub(crate) fn reached(&self) -> i64 {
        self.reached.load(Ordering::Acquire)
    }

    /// Raises the offset and wakes who waited for it. A lower one changes nothing.
    pub(crate) fn advance(&self, to: i64) {
        if self.reached.fetch_max(to, Ordering::AcqRel) >= to {
            return;
        }
        let woken = {
            let mut waiting = self.waiting();
            let rest = waiting.wakers.split_off(&(to.saturating_add(1), 0));
            std::mem::replace(&mut waiting.wakers, rest)
        };
        woken.into_values().for_each(Waker::wake);
    }

    /// Wakes everyone with [`Closed`], now and from now on.
    pub(crate) fn close(&self) {
        let woken = {
            let mut waiting = self.waiting();
            waiting.closed = true;
            std::mem::take(&mut waiting.wakers)
        };
        woken.into_values().for_each(Waker::wake);
    }

    /// Waits until `offset` is reached. Cancel safe: a dropped wait leaves nothing behind.
    pub(crate) fn wait(&self, offset: i64) -> Wait<'_> {
        Wait { gate: self, offset, key: None }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it is held; if something did, the map is still whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Gate::wait`].
#[derive(Debug)]
pub(crate) struct Wait<'a> {
    gate: &'a Gate,
    offset: i64,
    key: Option<u64>,
}

impl Future for Wait<'_> {
    type Output = Result<(), Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        if self.gate.reached() >= self.offset {
            return Poll::Ready(Ok(()));
        }
        let mut waiting = self.gate.waiting();
        // Looked at again under the lock: `advance` raises the offset before it takes it.
        if self.gate.reached() >= self.offset {
            return Poll::Ready(Ok(()));
        }
        if waiting.closed {
            return Poll::Ready(Err(Closed));
        }
        let key = *self.key.get_or_insert_with(|| {
            waiting.next += 1;
            waiting.next
        });
        match waiting.wakers.entry((self.offset, key)) {
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                entry.get_mut().clone_from(cx.waker());
            }
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(cx.waker().clone());
            }
        }
        Poll::Pending
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.gate.waiting().wakers.remove(&(self.offset, key));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    struct Flag(std::sync::atomic::AtomicUsize);

    impl Wake for Flag {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn flag() -> std::sync::Arc<Flag> {
        std::sync::Arc::new(Flag(0.into()))
    }

    fn poll(wait: &mut Wait<'_>, flag: &std::sync::Arc<Flag>) -> Poll<Result<(), Closed>> {
        let waker = Waker::from(std::sync::Arc::clone(flag));
        Pin::new(wait).poll(&mut Context::from_waker(&waker))
    }

    #[test]
    fn only_those_whose_offset_was_reached_are_woken() {
        let gate = Gate::new(5);
        let (near, far) = (flag(), flag());
        let (mut wait_near, mut wait_far) = (gate.wait(7), gate.wait(9));
        assert!(poll(&mut wait_near, &near).is_pending());
        assert!(poll(&mut wait_far, &far).is_pending());
        gate.advance(7);
        assert_eq!(near.0.load(Ordering::SeqCst), 1);
        assert_eq!(far.0.load(Ordering::SeqCst), 0);
        assert_eq!(poll(&mut wait_near, &near), Poll::Ready(Ok(())));
        gate.advance(6);
        assert_eq!(gate.reached(), 7, "never goes back");
    }

    #[test]
    fn a_dropped_wait_leaves_nothing_behind() {
        let gate = Gate::new(0);
        let mut wait = gate.wait(1);
        assert!(poll(&mut wait, &flag()).is_pending());
        drop(wait);
        assert!(gate.waiting().wakers.is_empty());
    }

    #[test]
    fn closing_wakes_everyone_and_refuses_later_waits() {
        let gate = Gate::new(0);
        let woken = flag();
        let mut wait = gate.wait(1);
        assert!(poll(&mut wait, &woken).is_pending());
        gate.close();
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert_eq!(poll(&mut wait, &woken), Poll::Ready(Err(Closed)));
        assert_eq!(poll(&mut gate.wait(0), &woken), Poll::Ready(Ok(())));
    }
}
