//! The search: depth first, every state once, on one thread or several; and, for something that was found, breadth first for a
//! shorter way to it.
//!
//! Of a state that was visited a fingerprint is kept, and at what depth it was met: under a limit of depth it is visited again when
//! it is met earlier. The worlds themselves are kept along the current path only. A thread that has nothing left to do is given half
//! of what another one has left of its shallowest state.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use super::{act::Act, path::Path, world::SmallWorld};
use crate::panics::caught;

/// How far to search.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Not beyond so many steps.
    pub depth: Option<usize>,
    /// Not beyond so many states.
    pub states: u64,
    /// At a time.
    pub threads: usize,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Distinct states.
    pub states: u64,
    /// Steps taken from one to the next.
    pub transitions: u64,
    /// Of the states: in how many nothing was left to be done but to let time pass.
    pub calm: u64,
    /// Steps from the first state to the one that is farthest, the way the search went.
    pub max_depth: usize,
    /// Every state that can be reached was.
    pub is_exhausted: bool,
    /// What did not hold.
    pub violation: Option<Violation>,
}

/// Something that does not hold.
#[derive(Clone, Debug)]
pub struct Violation {
    /// What.
    pub message: String,
    /// How to get there.
    pub path: Path,
}

/// A fingerprint is as good as random already.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a fingerprint is hashed as one number");
    }

    fn write_u64(&mut self, fingerprint: u64) {
        self.0 = fingerprint;
    }
}

type Visited = HashMap<u64, u16, BuildHasherDefault<AsItIs>>;
type Fingerprints = HashSet<u64, BuildHasherDefault<AsItIs>>;

/// A state and what is left to be tried from it.
#[derive(Debug)]
struct Frame {
    world: SmallWorld,
    acts: Vec<Act>,
    /// Which of them.
    left: std::ops::Range<usize>,
}

/// For a thread to do: a state, and the way to it.
type Job = (Vec<u16>, Frame);

#[derive(Debug)]
struct Search {
    limits: Limits,
    visited: Vec<Mutex<Visited>>,
    /// Calm states that come to rest when they are left alone.
    settle: Mutex<Fingerprints>,
    states: AtomicU64,
    transitions: AtomicU64,
    calm: AtomicU64,
    max_depth: AtomicUsize,
    is_cut: AtomicBool,
    violation: Mutex<Option<Violation>>,
    is_over: AtomicBool,
    jobs: Mutex<Vec<Job>>,
    wakes: Condvar,
    idle: AtomicUsize,
}

/// Parts of the set of visited states, each behind a lock of its own.
const SHARDS: u64 = 64;

/// How many steps a thread takes before it looks whether another one has nothing to do.
const BETWEEN_LOOKS: u32 = 64;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Visits what can be reached. `begin` is called on each thread first.
pub(super) fn search(first: SmallWorld, limits: Limits, begin: impl Fn() + Sync) -> Seen {
    let search = Search {
        limits,
        visited: (0..SHARDS).map(|_| Mutex::default()).collect(),
        settle: Mutex::default(),
        states: AtomicU64::new(0),
        transitions: AtomicU64::new(0),
        calm: AtomicU64::new(0),
        max_depth: AtomicUsize::new(0),
        is_cut: AtomicBool::new(false),
        violation: Mutex::new(None),
        is_over: AtomicBool::new(false),
        jobs: Mutex::default(),
        wakes: Condvar::new(),
        idle: AtomicUsize::new(0),
    };
    if let Some(frame) = search.visit(first, &[]) {
        locked(&search.jobs).push((Vec::new(), frame));
    }
    std::thread::scope(|scope| {
        for _ in 0..limits.threads.max(1) {
            scope.spawn(|| {
                begin();
                search.work();
            });
        }
    });
    let violation = search.violation.into_inner().unwrap_or_else(PoisonError::into_inner);
    Seen {
        states: search.states.into_inner(),
        transitions: search.transitions.into_inner(),
        calm: search.calm.into_inner(),
        max_depth: search.max_depth.into_inner(),
        is_exhausted: !search.is_cut.into_inner() && violation.is_none(),
        violation,
    }
}

impl Search {
    fn work(&self) {
        while let Some((path, frame)) = self.next_job() {
            self.descend(path, frame);
        }
    }

    /// The next one, or nothing when everything is done.
    fn next_job(&self) -> Option<Job> {
        let mut jobs = locked(&self.jobs);
        self.idle.fetch_add(1, Ordering::SeqCst);
        loop {
            if self.is_over.load(Ordering::SeqCst) {
                break;
            }
            if let Some(job) = jobs.pop() {
                self.idle.fetch_sub(1, Ordering::SeqCst);
                return Some(job);
            }
            if self.idle.load(Ordering::SeqCst) == self.limits.threads.max(1) {
                self.is_over.store(true, Ordering::SeqCst);
                break;
            }
            jobs = self.wakes.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
        drop(jobs);
        self.wakes.notify_all();
        None
    }

    /// Everything from this state on.
    fn descend(&self, mut path: Vec<u16>, first: Frame) {
        let mut stack = vec![first];
        let mut steps = 0_u32;
        while let Some(top) = stack.last_mut() {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let Some(index) = top.left.next() else {
                stack.pop();
                path.pop();
                continue;
            };
            path.push(u16::try_from(index).unwrap_or(u16::MAX));
            let mut next = top.world.clone();
            let act = top.acts[index];
            self.transitions.fetch_add(1, Ordering::Relaxed);
            let frame = match caught(|| next.take(act)) {
                Ok(()) => self.visit(next, &path),
                Err(message) => {
                    self.violated(message, &path);
                    return;
                }
            };
            match frame {
                Some(frame) => stack.push(frame),
                None => {
                    path.pop();
                }
            }
            steps = steps.wrapping_add(1);
            if steps.is_multiple_of(BETWEEN_LOOKS) && self.idle.load(Ordering::Relaxed) > 0 {
                self.share(&path, &mut stack);
            }
        }
    }

    /// Gives half of what is left at the shallowest state to a thread that has nothing to do.
    fn share(&self, path: &[u16], stack: &mut [Frame]) {
        let depth = path.len() + 1 - stack.len();
        let Some(at) = stack.iter().position(|frame| frame.left.len() > 1) else { return };
        let mut jobs = locked(&self.jobs);
        if !jobs.is_empty() {
            return;
        }
        let Frame { world, acts, left } = &mut stack[at];
        let middle = left.start + left.len() / 2;
        let given = Frame { world: world.clone(), acts: acts.clone(), left: middle..left.end };
        left.end = middle;
        jobs.push((path[..depth + at].to_vec(), given));
        drop(jobs);
        self.wakes.notify_one();
    }

    /// What there is to be done from a state; nothing if it was visited before, or lies beyond the limits.
    fn visit(&self, mut world: SmallWorld, path: &[u16]) -> Option<Frame> {
        let fingerprint = world.fingerprint();
        let depth = u16::try_from(path.len()).unwrap_or(u16::MAX);
        let shard = usize::try_from((fingerprint >> 32) % SHARDS).unwrap_or(0);
        let is_new = match locked(&self.visited[shard]).entry(fingerprint) {
            Entry::Vacant(free) => {
                free.insert(depth);
                true
            }
            Entry::Occupied(mut taken) => {
                let is_earlier = self.limits.depth.is_some() && depth < *taken.get();
                if !is_earlier {
                    return None;
                }
                taken.insert(depth);
                false
            }
        };
        let (acts, is_calm) = world.acts();
        if is_new {
            let states = self.states.fetch_add(1, Ordering::Relaxed) + 1;
            self.max_depth.fetch_max(path.len(), Ordering::Relaxed);
            if states >= self.limits.states {
                self.is_cut.store(true, Ordering::Relaxed);
                self.is_over.store(true, Ordering::SeqCst);
                self.wakes.notify_all();
            }
            if is_calm {
                self.calm.fetch_add(1, Ordering::Relaxed);
                if let Err(message) = self.check_settles(&world) {
                    self.violated(message, path);
                    return None;
                }
            }
        }
        if self.limits.depth.is_some_and(|depth| path.len() >= depth) {
            self.is_cut.store(true, Ordering::Relaxed);
            return None;
        }
        let left = 0..acts.len();
        Some(Frame { world, acts, left })
    }

    fn check_settles(&self, world: &SmallWorld) -> Result<(), String> {
        let is_known = |fingerprint| locked(&self.settle).contains(&fingerprint);
        let way = caught(|| world.clone().settle(is_known)).and_then(|settles| settles)?;
        locked(&self.settle).extend(way);
        Ok(())
    }

    fn violated(&self, message: String, path: &[u16]) {
        let path = Path(path.to_vec());
        locked(&self.violation).get_or_insert(Violation { message, path });
        self.is_over.store(true, Ordering::SeqCst);
        self.wakes.notify_all();
    }
}

/// The shortest way to something that does not hold, among the first so many states.
pub(super) fn shortest(mut first: SmallWorld, states: usize) -> Option<Violation> {
    let mut visited = Fingerprints::default();
    visited.insert(first.fingerprint());
    // From which state each was reached, and by which of its acts.
    let mut came_from: Vec<(usize, u16)> = vec![(0, 0)];
    let mut layer = vec![(0, first)];
    let mut settle = Fingerprints::default();
    while !layer.is_empty() {
        let mut next_layer = Vec::new();
        for (from, world) in layer {
            let (acts, is_calm) = world.acts();
            if is_calm {
                let is_known = |fingerprint| settle.contains(&fingerprint);
                match caught(|| world.clone().settle(is_known)).and_then(|settles| settles) {
                    Ok(way) => settle.extend(way),
                    Err(message) => {
                        let path = way_to(&came_from, from);
                        return Some(Violation { message, path });
                    }
                }
            }
            for (index, act) in (0..).zip(acts) {
                let mut next = world.clone();
                if let Err(message) = caught(|| next.take(act)) {
                    let Path(mut path) = way_to(&came_from, from);
                    path.push(index);
                    return Some(Violation { message, path: Path(path) });
                }
                if visited.insert(next.fingerprint()) {
                    if visited.len() > states {
                        return None;
                    }
                    came_from.push((from, index));
                    next_layer.push((came_from.len() - 1, next));
                }
            }
        }
        layer = next_layer;
    }
    None
}

fn way_to(came_from: &[(usize, u16)], mut state: usize) -> Path {
    let mut path = Vec::new();
    while state != 0 {
        let (from, index) = came_from[state];
        path.push(index);
        state = from;
    }
    path.reverse();
    Path(path)
}
