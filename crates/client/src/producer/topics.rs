//! The topics that a producer sends to, or was to send to, and their partitions.
//!
//! A topic is looked for with every record, so the first ones are found without a lock: taking and giving back one that nobody else has
//! costs more than the search. Knows nothing of metadata: [`Core`](super::core::Core) says what a topic has.
//!
//! **Architecture invariants:** a topic stays where it is once it is there, and so does a partition; what changes is how many partitions it has now.
//! Changes are made under the lock of the map. Who appends to a partition looks at [`Topic::count`] again under that partition's lock, and
//! who forgets a topic looks at its partitions after setting the count to 0: so nothing is appended to a topic that is forgotten.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
};

use bytestring::ByteString;
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use super::{partition::Partition, partitioner::Sticky};

/// How many topics are found without a lock.
const FIRST: usize = 8;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Topics {
    /// The first ones, in the order in which they came.
    first: [OnceLock<Arc<Topic>>; FIRST],
    /// For the few topics of most producers a tree beats a hash of the name.
    all: RwLock<BTreeMap<ByteString, Arc<Topic>>>,
}

/// A topic that is, or was to be, sent to.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: ByteString,
    pub(super) gate: Gate,
    pub(super) sticky: Sticky,
    partitions: Partitions,
    count: AtomicU32,
    /// Nobody has sent to it for `metadata.max.idle.ms`: metadata is not kept of it until somebody does.
    is_idle: AtomicBool,
}

/// Every partition a topic ever had, and, once there are more, these and the others again.
#[derive(Debug, Default)]
struct Partitions {
    known: Box<[Arc<Partition>]>,
    more: OnceLock<Box<Partitions>>,
}

/// Where those wait in line who cannot append at once, so that order is kept.
#[derive(Debug, Default)]
pub(super) struct Gate {
    pub(super) line: AsyncMutex<()>,
    pub(super) waiting: AtomicUsize,
    pub(super) beyond: Beyond,
    /// When somebody last came here, in ms of [`Core::now_ms`](super::core::Core::now_ms).
    pub(super) asked_ms: AtomicU64,
}

/// Where those wait in line whose partition the topic does not have yet: others do not wait behind them.
#[derive(Debug)]
pub(super) struct Beyond {
    pub(super) line: AsyncMutex<()>,
    /// Records for partitions from here on stay in this line as long as somebody waits in it, or they would overtake.
    from: AtomicU32,
    /// How many wait.
    waiting: Mutex<usize>,
}

impl Default for Beyond {
    fn default() -> Self {
        Self {
            line: AsyncMutex::default(),
            from: AtomicU32::new(u32::MAX),
            waiting: Mutex::default(),
        }
    }
}

impl Beyond {
    /// Whether records for a partition wait here.
    pub(super) fn has(&self, partition: u32) -> bool {
        partition >= self.from.load(Ordering::Acquire)
    }

    /// Somebody waits here who wants more than `count` partitions, until the guard is dropped.
    pub(super) fn enter(&self, count: u32) -> BeyondGuard<'_> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting += 1;
        self.from.fetch_min(count, Ordering::AcqRel);
        BeyondGuard(self)
    }

    fn is_empty(&self) -> bool {
        self.from.load(Ordering::Acquire) == u32::MAX
    }
}

/// Somebody who waits.
pub(super) struct BeyondGuard<'a>(&'a Beyond);

impl Drop for BeyondGuard<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting -= 1;
        if *waiting == 0 {
            self.0.from.store(u32::MAX, Ordering::Release);
        }
    }
}

impl Topics {
    fn all(&self) -> RwLockReadGuard<'_, BTreeMap<ByteString, Arc<Topic>>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn all_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<ByteString, Arc<Topic>>> {
        self.all.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `look` makes of the topic, if it is there.
    pub(super) fn with<T>(&self, name: &str, look: impl FnOnce(&Topic) -> T) -> Option<T> {
        let mut first = self.first.iter().map_while(OnceLock::get);
        match first.find(|topic| *topic.name == *name) {
            Some(topic) => Some(look(topic)),
            None => self.all().get(name).map(|topic| look(topic)),
        }
    }

    /// The topic, which is noted as asked for at this time, and not idle any more; `seed` is for the choice of its partitions if it is a new one.
    pub(super) fn ask(&self, name: &str, now_ms: u64, seed: impl FnOnce() -> u64) -> Arc<Topic> {
        // Under a lock, or it could become idle meanwhile.
        let asked = |topic: &Arc<Topic>| {
            topic.gate.asked_ms.store(now_ms, Ordering::Relaxed);
            Arc::clone(topic)
        };
        if let Some(known) = self.all().get(name).filter(|topic| !topic.is_idle()) {
            return asked(known);
        }
        let mut all = self.all_mut();
        let topic = match all.get(name) {
            Some(known) => Arc::clone(known),
            None => {
                let topic = Arc::new(Topic::new(name.into(), seed()));
                all.insert(topic.name.clone(), Arc::clone(&topic));
                // Taken places are passed over; without a free one it is found in the map.
                let _ = self
                    .first
                    .iter()
                    .try_fold(Arc::clone(&topic), |topic, place| place.set(topic).err());
                topic
            }
        };
        topic.is_idle.store(false, Ordering::Release);
        asked(&topic)
    }

    /// Those that somebody sends to.
    pub(super) fn active(&self) -> Vec<Arc<Topic>> {
        self.all().values().filter(|topic| !topic.is_idle()).map(Arc::clone).collect()
    }

    /// Every partition of every topic.
    pub(super) fn partitions(&self) -> Vec<Arc<Partition>> {
        self.all().values().flat_map(|topic| topic.partitions().iter().map(Arc::clone)).collect()
    }

    /// A topic has so many partitions now, which are counted in an int32.
    pub(super) fn resize(&self, topic: &Topic, count: usize) {
        if topic.count() as usize == count {
            return;
        }
        let _changing = self.all_mut();
        if topic.is_idle() {
            return;
        }
        let newest = topic.partitions.newest();
        if newest.known.len() < count {
            let new = newest.known.len()..count;
            let new = new.map(|index| Partition::new(topic.name.clone(), index as i32));
            let known = newest.known.iter().map(Arc::clone).chain(new).collect();
            // Nobody else changes anything.
            let _ = newest.more.set(Box::new(Partitions { known, more: OnceLock::new() }));
        }
        topic.count.store(count as u32, Ordering::Release);
    }

    /// Makes topics idle to which nobody has sent since then (`since_ms` in ms of [`Core::now_ms`](super::core::Core::now_ms)), and names
    /// them to `forget`.
    pub(super) fn forget_idle(
        &self,
        since: Instant,
        since_ms: u64,
        mut forget: impl FnMut(&ByteString),
    ) {
        if !self.all().values().any(|topic| topic.is_unused_since(since, since_ms)) {
            return;
        }
        for topic in self.all_mut().values() {
            if !topic.is_unused_since(since, since_ms) {
                continue;
            }
            let count = topic.count.swap(0, Ordering::AcqRel);
            // Somebody may have appended before the count was 0.
            if topic.is_unused_since(since, since_ms) {
                topic.is_idle.store(true, Ordering::Release);
                forget(&topic.name);
            } else {
                topic.count.store(count, Ordering::Release);
            }
        }
    }
}

impl Topic {
    fn new(name: ByteString, seed: u64) -> Self {
        Self {
            name,
            gate: Gate::default(),
            sticky: Sticky::new(seed),
            partitions: Partitions::default(),
            count: AtomicU32::new(0),
            is_idle: AtomicBool::new(false),
        }
    }

    /// How many partitions it has now; 0 while nothing is known.
    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// Every partition it ever had: at least as many as [`Topic::count`] was when it was looked at before.
    pub(super) fn partitions(&self) -> &[Arc<Partition>] {
        &self.partitions.newest().known
    }

    fn is_idle(&self) -> bool {
        self.is_idle.load(Ordering::Acquire)
    }

    fn is_unused_since(&self, since: Instant, since_ms: u64) -> bool {
        !self.is_idle()
            && self.gate.waiting.load(Ordering::Acquire) == 0
            && self.gate.beyond.is_empty()
            && self.gate.asked_ms.load(Ordering::Relaxed) <= since_ms
            && self.partitions().iter().all(|partition| partition.lock().is_idle_since(since))
    }
}

impl Partitions {
    fn newest(&self) -> &Self {
        let mut newest = self;
        while let Some(more) = newest.more.get() {
            newest = more;
        }
        newest
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn count(topics: &Topics, name: &str) -> Option<(u32, usize)> {
        topics.with(name, |topic| (topic.count(), topic.partitions().len()))
    }

    #[test]
    fn topics_are_found_whether_they_were_among_the_first_or_not() {
        let topics = Topics::default();
        let names: Vec<String> = (0..2 * FIRST).map(|at| format!("topic-{at}")).collect();
        for (at, name) in names.iter().enumerate() {
            assert_eq!(count(&topics, name), None);
            let topic = topics.ask(name, 0, || 1);
            topics.resize(&topic, at + 1);
            assert!(Arc::ptr_eq(&topic, &topics.ask(name, 0, || 1)));
        }
        for (at, name) in names.iter().enumerate() {
            assert_eq!(count(&topics, name), Some((at as u32 + 1, at + 1)));
        }
        assert_eq!(topics.first.iter().filter(|place| place.get().is_some()).count(), FIRST);
        assert_eq!(topics.active().len(), 2 * FIRST);
    }

    #[test]
    fn partitions_stay_the_same_when_there_are_more_or_fewer() {
        let topics = Topics::default();
        let topic = topics.ask("t", 0, || 1);
        topics.resize(&topic, 2);
        let second = Arc::clone(&topic.partitions()[1]);
        for (wanted, known) in [(5, 5), (1, 5), (9, 9)] {
            topics.resize(&topic, wanted);
            assert_eq!(count(&topics, "t"), Some((wanted as u32, known)));
            assert!(Arc::ptr_eq(&second, &topic.partitions()[1]));
        }
        assert_eq!(topics.partitions().len(), 9);
    }

    #[tokio::test]
    async fn an_idle_topic_has_no_partitions_until_it_is_asked_for_again() {
        let topics = Topics::default();
        let topic = topics.ask("t", 5, || 1);
        topics.resize(&topic, 3);
        let mut forgotten = Vec::new();
        topics.forget_idle(Instant::now(), 4, |name| forgotten.push(name.clone()));
        assert!(forgotten.is_empty(), "it was asked for after that");
        topics.forget_idle(Instant::now(), 5, |name| forgotten.push(name.clone()));
        assert_eq!(forgotten, ["t"]);
        topics.resize(&topic, 3);
        assert_eq!((topic.count(), topics.active().len()), (0, 0));
        topics.ask("t", 6, || 1);
        topics.resize(&topic, 3);
        assert_eq!((topic.count(), topics.active().len()), (3, 1));
    }
}
