//! One shard: the machine behind one partition of `__consumer_offsets`, its lock, its log and its parked requests.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytestring::ByteString;
use kavka_coordinator::group::{
    Answer, Event, GroupConfig, GroupShard, Input, Record, Release, Reply, Request, RequestId,
    append_error,
};
use kavka_protocol::{ErrorCode, Uuid};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};
use tracing::{debug, error, info, warn};

use super::{alarm::Alarm, replay::replay};
use crate::{
    clock::Clock,
    environment::Machine,
    partition::{AppendError, Partition, blocking},
};

/// How long a request waits for its shard to be loaded before it is told to come again. Loading is mostly much faster.
const LOAD_PATIENCE: Duration = Duration::from_millis(500);

/// What all shards share.
pub(super) struct ShardSettings {
    pub(super) config: GroupConfig,
    /// `offsets.load.buffer.size`: how much of the log is read at a time when a shard is loaded.
    pub(super) load_buffer_bytes: usize,
    /// `offsets.commit.timeout.ms`: how long a reply waits for the log to be durable.
    pub(super) commit_timeout: Duration,
    pub(super) clock: Clock,
    pub(super) alarm: Arc<Alarm>,
    pub(super) machine: Machine,
}

pub(super) struct Shard {
    index: usize,
    /// `None` if its log is offline: then nobody is served.
    partition: Option<Arc<Partition>>,
    settings: Arc<ShardSettings>,
    state: Mutex<State>,
    serving: watch::Sender<bool>,
}

enum State {
    /// The topics that are deleted meanwhile: their offsets go when they are known.
    Loading {
        deleted: Vec<DeletedTopic>,
    },
    Serving(Box<Serving>),
    Stopped,
}

struct DeletedTopic {
    name: ByteString,
    topic_id: Uuid,
}

struct Serving {
    machine: GroupShard,
    next_request: u64,
    /// Requests whose reply is to come: joins and syncs.
    parked: HashMap<RequestId, oneshot::Sender<Due>>,
}

/// A reply, and the offset up to which the log has to be durable before it may leave.
struct Due {
    reply: Reply,
    durable: Option<i64>,
}

/// What became of a request under the lock.
enum Outcome {
    Answered(Due),
    Parked(RequestId, oneshot::Receiver<Due>),
}

/// Waits for the answer to a parked request. Dropped while it is a JoinGroup that is not answered: the client has gone.
struct Waiting<'a> {
    shard: &'a Arc<Shard>,
    join: Option<(ByteString, RequestId)>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some((group, request)) = self.join.take() {
            self.shard.input(Input::Abandoned { group, request });
        }
    }
}

impl Shard {
    pub(super) fn new(
        index: usize,
        partition: Option<Arc<Partition>>,
        settings: Arc<ShardSettings>,
    ) -> Self {
        let state = Mutex::new(State::loading());
        Self { index, partition, settings, state, serving: watch::Sender::new(false) }
    }

    /// Handles a request. See [`super::Groups::ask`].
    pub(super) async fn ask(self: &Arc<Self>, request: Request) -> Reply {
        let Some(partition) = &self.partition else {
            return request.refuse(ErrorCode::NotCoordinator);
        };
        let joins = match &request {
            Request::Join(join) => Some(join.group.clone()),
            _ => None,
        };
        let outcome = match self.submit(partition, request) {
            Ok(outcome) => outcome,
            Err(request) => {
                let mut serving = self.serving.subscribe();
                let loaded = serving.wait_for(|serving| *serving);
                // Either way the shard is asked again: it refuses by itself if it is still loading.
                let _ = timeout(LOAD_PATIENCE, loaded).await;
                match self.submit(partition, *request) {
                    Ok(outcome) => outcome,
                    Err(request) => return request.refuse(ErrorCode::CoordinatorLoadInProgress),
                }
            }
        };
        let due = match outcome {
            Outcome::Answered(due) => due,
            Outcome::Parked(id, reply) => {
                let mut waiting = Waiting { shard: self, join: joins.map(|group| (group, id)) };
                let due = reply.await;
                waiting.join = None;
                match due {
                    Ok(due) => due,
                    // Every parked request is answered before its sender is dropped; only a panic in between gets here.
                    Err(_) => panic!("{}: a parked request was forgotten", partition.id()),
                }
            }
        };
        let Some(offset) = due.durable else { return due.reply };
        let error = match timeout(self.settings.commit_timeout, partition.durable(offset)).await {
            Ok(Ok(())) => return due.reply,
            Ok(Err(_)) => ErrorCode::KafkaStorageError,
            // What was written may become durable yet; the client asks again.
            Err(_) => ErrorCode::RequestTimedOut,
        };
        due.reply.failed(append_error(error))
    }

    /// Lets the machine handle the request; gives it back while the shard is loading.
    fn submit(
        self: &Arc<Self>,
        partition: &Arc<Partition>,
        request: Request,
    ) -> Result<Outcome, Box<Request>> {
        let mut state = self.lock();
        let serving = match &mut *state {
            State::Serving(serving) => serving,
            State::Loading { .. } => return Err(Box::new(request)),
            State::Stopped => {
                let reply = request.refuse(ErrorCode::CoordinatorNotAvailable);
                return Ok(Outcome::Answered(Due { reply, durable: None }));
            }
        };
        serving.next_request += 1;
        let id = RequestId(serving.next_request);
        let mut own = self.step(partition, &mut state, Input::Request(id, request), Some(id));
        if let Some(due) = own.take() {
            return Ok(Outcome::Answered(due));
        }
        let (sender, receiver) = oneshot::channel();
        match &mut *state {
            State::Serving(serving) => {
                serving.parked.insert(id, sender);
            }
            State::Loading { .. } | State::Stopped => {
                unreachable!("a step that drops the machine answers its request")
            }
        }
        Ok(Outcome::Parked(id, receiver))
    }

    /// One input: decide, append, apply, release. Returns the reply to `own`, if it has one already.
    fn step(
        self: &Arc<Self>,
        partition: &Arc<Partition>,
        state: &mut State,
        input: Input,
        own: Option<RequestId>,
    ) -> Option<Due> {
        let State::Serving(serving) = state else { return None };
        let now = self.settings.clock.now();
        let output = serving.machine.handle(now, input);

        let mut failed = None;
        for batch in output.batches(self.settings.config.max_batch_bytes) {
            match append(partition, batch, now.wall_ms) {
                Ok(base_offset) => {
                    for (offset, record) in (base_offset..).zip(batch) {
                        serving.machine.apply(offset, record);
                    }
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if failed.is_none() {
            output.events.iter().for_each(log_event);
        }
        let durable = partition.log_end_offset();
        let mut reply_to_own = None;
        for Answer { request, reply, release } in output.answers {
            let due = match &failed {
                Some(code) => Due { reply: reply.failed(append_error(*code)), durable: None },
                None => {
                    let durable = (release == Release::Durable).then_some(durable);
                    Due { reply, durable }
                }
            };
            if own == Some(request) {
                reply_to_own = Some(due);
            } else {
                serving.answer(request, due);
            }
        }
        if let Some(code) = failed {
            reply_to_own = self.drop_machine(state, append_error(code), own).or(reply_to_own);
            self.reload();
        } else {
            self.settings.alarm.set(self.index, serving.machine.next_deadline());
        }
        reply_to_own
    }

    /// Answers everyone who is parked, and forgets the machine.
    fn drop_machine(
        &self,
        state: &mut State,
        error: ErrorCode,
        own: Option<RequestId>,
    ) -> Option<Due> {
        let State::Serving(mut serving) = std::mem::replace(state, State::loading()) else {
            return None;
        };
        self.serving.send_replace(false);
        self.settings.alarm.set(self.index, None);
        // The machine to come finishes what this one has begun.
        if let State::Loading { deleted } = state {
            let under_way = serving.machine.deletions_under_way();
            deleted.extend(
                under_way.map(|(name, topic_id)| DeletedTopic { name: name.clone(), topic_id }),
            );
        }
        let output = serving.machine.handle(self.settings.clock.now(), Input::Unload { error });
        let mut reply_to_own = None;
        for Answer { request, reply, .. } in output.answers {
            let due = Due { reply, durable: None };
            if own == Some(request) {
                reply_to_own = Some(due);
            } else {
                serving.answer(request, due);
            }
        }
        assert!(serving.parked.is_empty(), "unloading answers every parked request");
        reply_to_own
    }

    /// A deadline of the machine has come.
    pub(super) fn deadline(self: &Arc<Self>) {
        self.input(Input::Deadline);
    }

    pub(super) fn topic_deleted(self: &Arc<Self>, name: &str, topic_id: Uuid) {
        let Some(partition) = &self.partition else { return };
        let name = ByteString::from(name);
        let mut state = self.lock();
        if let State::Loading { deleted } = &mut *state {
            deleted.push(DeletedTopic { name, topic_id });
        } else {
            self.step(partition, &mut state, Input::TopicDeleted { name, topic_id }, None);
        }
    }

    /// Hands an input to the machine, if there is one: whatever it is about ends with the machine.
    fn input(self: &Arc<Self>, input: Input) {
        if let Some(partition) = &self.partition {
            self.step(partition, &mut self.lock(), input, None);
        }
    }

    /// The broker stops: parked requests are answered, later ones refused.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        self.drop_machine(&mut state, ErrorCode::CoordinatorNotAvailable, None);
        *state = State::Stopped;
    }

    /// Replays the log into a new machine, and serves. Returns the number of records. Blocking.
    pub(super) fn load(self: &Arc<Self>) -> u64 {
        let Some(partition) = &self.partition else { return 0 };
        let began = self.settings.clock.now().monotonic;
        // For member ids. Two brokers, or two lives of one, must not hand out the same ones.
        let seed = self.settings.machine.random();
        let mut machine = GroupShard::new(self.settings.config.clone(), seed);
        let buffer_bytes = self.settings.load_buffer_bytes;
        let records = match replay(&**partition.log(), buffer_bytes, &mut machine) {
            Ok(records) => records,
            Err(damage) => {
                error!("{}: cannot load; its groups are not served: {damage}", partition.id());
                return 0;
            }
        };
        let mut state = self.lock();
        let State::Loading { deleted } = &mut *state else { return 0 };
        let deleted = std::mem::take(deleted);
        let serving = Serving { machine, next_request: 0, parked: HashMap::new() };
        *state = State::Serving(Box::new(serving));
        self.step(partition, &mut state, Input::Loaded, None);
        for DeletedTopic { name, topic_id } in deleted {
            self.step(partition, &mut state, Input::TopicDeleted { name, topic_id }, None);
        }
        drop(state);
        self.serving.send_replace(true);
        let took = self.settings.clock.now().monotonic.elapsed().saturating_sub(began.elapsed());
        debug!("{}: loaded {records} records in {took:?}", partition.id());
        records
    }

    /// Replays the log again, in the background.
    fn reload(self: &Arc<Self>) {
        let shard = Arc::clone(self);
        tokio::spawn(blocking(move || shard.load()));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        match self.state.lock() {
            Ok(state) => state,
            Err(_) => panic!("shard {}: an earlier step panicked", self.index),
        }
    }
}

impl State {
    fn loading() -> Self {
        State::Loading { deleted: Vec::new() }
    }
}

impl Serving {
    fn answer(&mut self, request: RequestId, due: Due) {
        if let Some(sender) = self.parked.remove(&request) {
            // The client may have gone; then nobody wants to know.
            let _ = sender.send(due);
        }
    }
}

/// Appends the records as one batch; the offset of the first.
fn append(partition: &Partition, records: &[Record], now_ms: i64) -> Result<i64, ErrorCode> {
    let encode = |record: &Record, key: &mut Vec<u8>, value: &mut Vec<u8>| {
        record.encode_into(key, value).map_err(|error| {
            AppendError::new(ErrorCode::UnknownServerError, format!("not written: {error}"))
        })
    };
    partition.append_records(records, encode, now_ms).map_err(|error| {
        warn!("{}: append failed: {error}", partition.id());
        error.code()
    })
}

/// Group events, in the words of Kafka's own log.
fn log_event(event: &Event) {
    info!(target: "kavka::group", "{event}");
}

#[cfg(test)]
mod tests;
