//! Fetch sessions (KIP-227): the broker remembers which partitions a consumer fetches, so that the consumer names only what
//! changes and the answer only what is new.
//!
//! Owns the sessions and their eviction. What the partitions hold is read elsewhere.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytestring::ByteString;
use kavka_coordinator::Monotonic;
use kavka_protocol::{ErrorCode, Uuid};

use crate::environment::Machine;

/// A session idle for longer than this makes room for a new one when there is none.
const EVICT_AFTER: Duration = Duration::from_secs(120);

/// The epoch that begins a session, and the one that ends it or never had one.
const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;

/// A topic as the request names it: by name until version 12, by id from 13 on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum TopicKey {
    Name(ByteString),
    Id(Uuid),
}

/// What a consumer wants of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) topic: TopicKey,
    pub(crate) partition: i32,
    pub(crate) fetch_offset: i64,
    pub(crate) max_bytes: i32,
    pub(crate) current_leader_epoch: i32,
    pub(crate) last_fetched_epoch: i32,
}

/// What an answer says of a partition, as far as the session compares it with the answer before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) high_watermark: i64,
    pub(crate) log_start_offset: i64,
    pub(crate) has_records: bool,
    pub(crate) error: ErrorCode,
}

/// A fetch request as sessions see it.
#[derive(Clone, Debug)]
pub(crate) struct SessionRequest {
    pub(crate) id: i32,
    pub(crate) epoch: i32,
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) forgotten: Vec<(TopicKey, i32)>,
    pub(crate) by_topic_id: bool,
}

/// What is to be fetched now, and how it is answered.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) wanted: Vec<Wanted>,
    session: Option<Arc<Mutex<Session>>>,
    /// The answer names only what changed.
    incremental: bool,
    /// The session id of the answer; 0 for none.
    pub(crate) session_id: i32,
}

#[derive(Debug)]
struct Session {
    id: i32,
    /// The epoch that the next request has to carry.
    next_epoch: i32,
    by_topic_id: bool,
    /// In the order in which they are served.
    order: BTreeMap<u64, (TopicKey, i32)>,
    partitions: HashMap<(TopicKey, i32), Remembered>,
    next_place: u64,
}

#[derive(Debug)]
struct Remembered {
    place: u64,
    wanted: Wanted,
    /// -1 makes the next good answer count as changed.
    high_watermark: i64,
    log_start_offset: i64,
}

/// All sessions.
#[derive(Debug)]
pub(crate) struct FetchSessions {
    slots: usize,
    machine: Machine,
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    sessions: HashMap<i32, (Monotonic, Arc<Mutex<Session>>)>,
    /// Least recently used first.
    by_use: BTreeMap<(Monotonic, i32), ()>,
}

impl FetchSessions {
    /// At most `slots` sessions at once (`max.incremental.fetch.session.cache.slots`).
    pub(crate) fn new(slots: usize, machine: Machine) -> Self {
        Self { slots, machine, cache: Mutex::default() }
    }

    /// What a request asks for, with what its session remembers.
    ///
    /// # Errors
    /// `FETCH_SESSION_ID_NOT_FOUND`, `INVALID_FETCH_SESSION_EPOCH`, or `FETCH_SESSION_TOPIC_ID_ERROR` if the request names
    /// topics otherwise than the session does.
    pub(crate) fn plan(&self, request: SessionRequest, now: Monotonic) -> Result<Plan, ErrorCode> {
        let mut cache = self.cache();
        match request.epoch {
            FINAL_EPOCH => {
                cache.remove(request.id);
                Ok(Plan::sessionless(request.wanted))
            }
            INITIAL_EPOCH => {
                cache.remove(request.id);
                Ok(self.begin(&mut cache, request, now))
            }
            epoch => {
                let session =
                    cache.get(request.id, now).ok_or(ErrorCode::FetchSessionIdNotFound)?;
                let plan = {
                    let mut open = lock(&session);
                    if open.by_topic_id != request.by_topic_id {
                        return Err(ErrorCode::FetchSessionTopicIdError);
                    }
                    if open.next_epoch != epoch {
                        return Err(ErrorCode::InvalidFetchSessionEpoch);
                    }
                    open.next_epoch = following(epoch);
                    open.update(request.wanted, &request.forgotten);
                    let wanted = open.wanted();
                    Plan {
                        wanted,
                        session: Some(Arc::clone(&session)),
                        incremental: true,
                        session_id: open.id,
                    }
                };
                if plan.wanted.is_empty() {
                    cache.remove(request.id);
                    return Ok(Plan::sessionless(Vec::new()));
                }
                Ok(plan)
            }
        }
    }

    fn begin(&self, cache: &mut Cache, request: SessionRequest, now: Monotonic) -> Plan {
        if request.wanted.is_empty() || !cache.make_room(self.slots, now) {
            return Plan::sessionless(request.wanted);
        }
        let id = loop {
            // Not guessable from another one, and never 0.
            let id = (self.machine.random() & 0x7fff_ffff) as i32;
            if id != 0 && !cache.sessions.contains_key(&id) {
                break id;
            }
        };
        let mut session = Session {
            id,
            next_epoch: following(INITIAL_EPOCH),
            by_topic_id: request.by_topic_id,
            order: BTreeMap::new(),
            partitions: HashMap::new(),
            next_place: 0,
        };
        session.update(request.wanted, &[]);
        let wanted = session.wanted();
        let session = Arc::new(Mutex::new(session));
        cache.sessions.insert(id, (now, Arc::clone(&session)));
        cache.by_use.insert((now, id), ());
        Plan { wanted, session: Some(session), incremental: false, session_id: id }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    fn sessionless(wanted: Vec<Wanted>) -> Self {
        Self { wanted, session: None, incremental: false, session_id: 0 }
    }

    /// Which of the partitions, in the order of [`Plan::wanted`], belong into the answer; remembers what it tells. Those that
    /// had records go to the end of the line, so that the next answer serves others first.
    pub(crate) fn answer(&self, told: &[Told]) -> Vec<bool> {
        let Some(session) = &self.session else { return vec![true; told.len()] };
        let mut session = lock(session);
        self.wanted
            .iter()
            .zip(told)
            .map(|(wanted, told)| {
                let news = session.tell(&(wanted.topic.clone(), wanted.partition), told);
                news || !self.incremental
            })
            .collect()
    }
}

impl Session {
    fn update(&mut self, wanted: Vec<Wanted>, forgotten: &[(TopicKey, i32)]) {
        for wanted in wanted {
            let key = (wanted.topic.clone(), wanted.partition);
            match self.partitions.get_mut(&key) {
                Some(known) => known.wanted = wanted,
                None => {
                    let place = self.next_place;
                    self.next_place += 1;
                    self.order.insert(place, key.clone());
                    let remembered =
                        Remembered { place, wanted, high_watermark: -1, log_start_offset: -1 };
                    self.partitions.insert(key, remembered);
                }
            }
        }
        for key in forgotten {
            if let Some(known) = self.partitions.remove(key) {
                self.order.remove(&known.place);
            }
        }
    }

    fn wanted(&self) -> Vec<Wanted> {
        self.order
            .values()
            .filter_map(|key| self.partitions.get(key))
            .map(|known| known.wanted.clone())
            .collect()
    }

    /// Whether this is news to the consumer.
    fn tell(&mut self, key: &(TopicKey, i32), told: &Told) -> bool {
        let Some(known) = self.partitions.get_mut(key) else { return true };
        let news = told.has_records
            || told.error != ErrorCode::None
            || known.high_watermark != told.high_watermark
            || known.log_start_offset != told.log_start_offset;
        known.high_watermark = if told.error == ErrorCode::None { told.high_watermark } else { -1 };
        known.log_start_offset = told.log_start_offset;
        if told.has_records {
            self.order.remove(&known.place);
            known.place = self.next_place;
            self.next_place += 1;
            self.order.insert(known.place, key.clone());
        }
        news
    }
}

impl Cache {
    fn get(&mut self, id: i32, now: Monotonic) -> Option<Arc<Mutex<Session>>> {
        let (used, session) = self.sessions.get_mut(&id)?;
        self.by_use.remove(&(*used, id));
        *used = now;
        self.by_use.insert((now, id), ());
        Some(Arc::clone(session))
    }

    fn remove(&mut self, id: i32) {
        if let Some((used, _)) = self.sessions.remove(&id) {
            self.by_use.remove(&(used, id));
        }
    }

    /// Whether there is a free slot, if need be one of a session that nobody uses any more.
    fn make_room(&mut self, slots: usize, now: Monotonic) -> bool {
        if self.sessions.len() < slots {
            return true;
        }
        let oldest = self.by_use.first_key_value().map(|(key, ())| *key);
        match oldest {
            Some((used, id)) if now.saturating_since(used) > EVICT_AFTER => {
                self.remove(id);
                true
            }
            _ => false,
        }
    }
}

fn following(epoch: i32) -> i32 {
    // After the last epoch comes 1: 0 would begin a new session.
    epoch.checked_add(1).unwrap_or(1)
}

fn lock(session: &Mutex<Session>) -> MutexGuard<'_, Session> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
