//! Group commit: which log is synced when, and by whom.
//!
//! A log is in the queue at most once. A thread takes it, syncs everything written so far, tells the
//! listener, and looks whether more was written meanwhile. So one sync serves all who wait,
//! appends gather while a sync is in flight, and different logs sync side by side. The journal is in the queue like a log, at its
//! front, since many wait for it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::lock;
use super::log::SegmentLog;
use super::store;
use crate::SyncerMode;

/// Stack of a sync thread: it runs a few frames and the listener.
const STACK_BYTES: usize = 512 << 10;

/// What there is to sync.
enum Work {
    Log(Arc<SegmentLog>),
    /// The journal of a store.
    Journal(Arc<store::Shared>),
}

/// Where a log, or the journal, stands with the syncer.
#[derive(Debug, Default)]
pub(crate) struct SyncFlag(AtomicU8);

const IDLE: u8 = 0;
/// Written in relaxed mode: waits for its time.
const LATER: u8 = 1;
const QUEUED: u8 = 2;
const RUNNING: u8 = 3;
/// Written to while its sync runs.
const RUNNING_DIRTY: u8 = 4;

/// The queue and its threads.
pub(crate) struct Syncer {
    shared: Arc<Shared>,
    mode: SyncerMode,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    ready: VecDeque<Work>,
    /// In the order of their times, since all logs wait equally long.
    later: VecDeque<(Instant, Arc<SegmentLog>)>,
    waiting_threads: usize,
    stop: bool,
}

impl fmt::Debug for Syncer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Syncer").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl Syncer {
    pub(crate) fn new(mode: SyncerMode) -> Self {
        let shared = Shared { queue: Mutex::default(), wake: Condvar::new() };
        Self { shared: Arc::new(shared), mode, threads: Mutex::default() }
    }

    /// Has the log synced as soon as a thread is free.
    pub(crate) fn now(&self, log: &Arc<SegmentLog>) {
        if log.sync_flag.must_be_queued() {
            self.enqueue(Work::Log(Arc::clone(log)));
        }
    }

    /// Has what the journal gathered made durable as soon as a thread is free.
    pub(super) fn journal(&self, shared: &Arc<store::Shared>) {
        if shared.journal.flag.must_be_queued() {
            self.enqueue(Work::Journal(Arc::clone(shared)));
        }
    }

    /// Has the log synced within `delay`.
    pub(crate) fn later(&self, log: &Arc<SegmentLog>, delay: Duration) {
        let flag = &log.sync_flag.0;
        let seen = flag.load(Ordering::Acquire);
        if seen == RUNNING {
            // The round that runs may have started before this write.
            self.now(log);
        } else if seen == IDLE
            && flag.compare_exchange(IDLE, LATER, Ordering::AcqRel, Ordering::Acquire).is_ok()
        {
            let mut queue = lock(&self.shared.queue);
            queue.later.push_back((Instant::now() + delay, Arc::clone(log)));
            let busy = queue.waiting_threads == 0;
            drop(queue);
            self.wake(busy);
        }
    }

    fn enqueue(&self, work: Work) {
        let mut queue = lock(&self.shared.queue);
        queue.push(work);
        let busy = queue.ready.len() > queue.waiting_threads;
        drop(queue);
        self.wake(busy);
    }

    /// Wakes a thread, or starts one more when all of them have something to do.
    fn wake(&self, busy: bool) {
        self.shared.wake.notify_one();
        if !busy {
            return;
        }
        let SyncerMode::Threads(most) = self.mode else { return };
        let mut threads = lock(&self.threads);
        if threads.len() >= most.max(1) || lock(&self.shared.queue).stop {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let spawned = thread::Builder::new()
            .name(format!("log-sync-{}", threads.len()))
            .stack_size(STACK_BYTES)
            .spawn(move || shared.run());
        match spawned {
            Ok(thread) => threads.push(thread),
            // With at least one thread the queue is still worked off.
            Err(error) => tracing::error!("cannot start a sync thread: {error}"),
        }
    }

    /// Runs everything that is due or waits for its time, on this thread.
    pub(crate) fn run_all(&self) {
        loop {
            let next = {
                let mut queue = lock(&self.shared.queue);
                queue.ready.pop_front().or_else(|| queue.pop_later(None))
            };
            let Some(work) = next else { return };
            self.shared.run_round(work);
        }
    }

    /// Lets the threads end after the rounds they run, without waiting.
    pub(crate) fn stop(&self) {
        lock(&self.shared.queue).stop = true;
        self.shared.wake.notify_all();
    }

    /// Lets the threads end after what is queued, and forgets what nobody would ever sync.
    pub(crate) fn abandon(&self) {
        let forgotten = {
            let mut queue = lock(&self.shared.queue);
            queue.stop = true;
            let ready = match self.mode {
                SyncerMode::Threads(_) => VecDeque::new(),
                SyncerMode::Manual => std::mem::take(&mut queue.ready),
            };
            (ready, std::mem::take(&mut queue.later))
        };
        self.shared.wake.notify_all();
        drop(forgotten);
    }

    /// Waits until the threads ended. Not to be called on one of them.
    pub(crate) fn join(&self) {
        let threads: Vec<_> = lock(&self.threads).drain(..).collect();
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a sync thread panicked");
            }
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        // Not joined: the last log, and with it the syncer, may be dropped by a sync thread.
        self.stop();
    }
}

impl SyncFlag {
    /// Notes that there is something to sync; whether that has to be queued now.
    fn must_be_queued(&self) -> bool {
        loop {
            let seen = self.0.load(Ordering::Acquire);
            let next = match seen {
                QUEUED | RUNNING_DIRTY => return false,
                RUNNING => RUNNING_DIRTY,
                _ => QUEUED,
            };
            if self.0.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return next == QUEUED;
            }
        }
    }
}

impl Work {
    fn flag(&self) -> &SyncFlag {
        match self {
            Work::Log(log) => &log.sync_flag,
            Work::Journal(shared) => &shared.journal.flag,
        }
    }

    fn run(&self) {
        match self {
            Work::Log(log) => log.sync_round(),
            Work::Journal(shared) => shared.journal.round(shared),
        }
    }
}

impl Queue {
    fn push(&mut self, work: Work) {
        match work {
            Work::Log(_) => self.ready.push_back(work),
            Work::Journal(_) => self.ready.push_front(work),
        }
    }

    /// The first log whose time has come (any, without a time), unless it was synced meanwhile.
    fn pop_later(&mut self, now: Option<Instant>) -> Option<Work> {
        while let Some((due, _)) = self.later.front() {
            if now.is_some_and(|now| *due > now) {
                return None;
            }
            let (_, log) = self.later.pop_front()?;
            let flag = &log.sync_flag.0;
            if flag.compare_exchange(LATER, QUEUED, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return Some(Work::Log(log));
            }
        }
        None
    }
}

impl Shared {
    fn run(&self) {
        let mut queue = lock(&self.queue);
        loop {
            let now = Instant::now();
            if let Some(work) = queue.ready.pop_front().or_else(|| queue.pop_later(Some(now))) {
                drop(queue);
                self.run_round(work);
                queue = lock(&self.queue);
                continue;
            }
            if queue.stop {
                return;
            }
            queue.waiting_threads += 1;
            let wait = queue.later.front().map(|(due, _)| due.saturating_duration_since(now));
            queue = match wait {
                None => self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(wait) => {
                    let waited = self.wake.wait_timeout(queue, wait);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            queue.waiting_threads -= 1;
        }
    }

    fn run_round(&self, work: Work) {
        let flag = &work.flag().0;
        flag.store(RUNNING, Ordering::Release);
        work.run();
        let done = flag.compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire);
        if done.is_err() {
            flag.store(QUEUED, Ordering::Release);
            lock(&self.queue).push(work);
        }
    }
}
