//! Works on records with many handlers at once: order, retries, dead letters, a graceful stop.
//!
//! Owns: which record is worked on when. Does not own: what may be committed; that is the inbox's, by the records' acknowledgement.
//!
//! **Architecture invariants:** a record is acknowledged only when its handler has succeeded, its dead letter is written, or it is skipped
//! on purpose. Records of one lane (partition, or key in a partition) are worked on one after the other, retries included.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Display,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use kavka_member::TopicPartition;
use tokio::{
    sync::watch,
    task::{Id, JoinError, JoinSet},
};

use super::{
    Consumer,
    ack::Acker,
    events::{RebalanceEvent, RebalanceEvents, Revoking},
    record::Record,
};
use crate::{Error, ErrorKind, Producer, ProducerRecord, cluster::Backoff};

/// What is worked on one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ordering {
    /// The records of a partition.
    Partition,
    /// The records of a partition that have the same key; those without a key in any order.
    Key,
    /// Nothing.
    Unordered,
}

/// How often a record is tried, and with what pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    attempts: u32,
    first: Duration,
    max: Duration,
}

impl Retry {
    /// So many attempts in all, at least one; with pauses from 100 ms, doubling, to 10 s, spread by 20 %.
    pub fn attempts(attempts: u32) -> Self {
        let (first, max) = (Duration::from_millis(100), Duration::from_secs(10));
        Self { attempts: attempts.max(1), first, max }
    }

    /// No second attempt.
    pub fn never() -> Self {
        Self::attempts(1)
    }

    /// Until it succeeds. What comes after it in its lane waits.
    pub fn forever() -> Self {
        Self::attempts(u32::MAX)
    }

    /// The first pause, and the longest.
    #[must_use]
    pub fn backoff(self, first: Duration, max: Duration) -> Self {
        Self { first, max, ..self }
    }
}

/// Where records go that could not be worked on.
///
/// A dead letter has the record's key, value and headers, and these headers more, as text: `__kavka.errors.topic`, `.partition`, `.offset`,
/// `.timestamp`, `.consumer.group`, `.attempts`, `.message`.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    producer: Producer,
    topic: String,
}

impl DeadLetter {
    /// Written by this producer to this topic. The record is acknowledged when the letter is delivered.
    pub fn to(producer: Producer, topic: impl Into<String>) -> Self {
        Self { producer, topic: topic.into() }
    }
}

/// What becomes of a record whose last attempt failed.
#[derive(Clone, Debug)]
enum LastResort {
    Stop,
    Skip,
    DeadLetter(DeadLetter),
}

/// Stops a [`Processor`], from anywhere: no more records are begun, those under way are finished and committed.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<watch::Sender<bool>>);

impl Stopper {
    /// Stops it.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }

    fn is_stopped(&self) -> bool {
        *self.0.borrow()
    }

    async fn stopped(&self) {
        // The sender is here: there will be a value.
        let _ = self.0.subscribe().wait_for(|is_stopped| *is_stopped).await;
    }
}

/// What a [`Processor`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Processed {
    /// Records whose handler succeeded.
    pub succeeded: u64,
    /// Records that became dead letters.
    pub dead_letters: u64,
    /// Records that failed and were skipped.
    pub skipped: u64,
    /// Attempts after a first one.
    pub retries: u64,
}

/// Hands each record to a handler, many at once. From [`Consumer::process`].
///
/// A record whose handler succeeded is acknowledged, and committed when all before it in its partition are: automatically, as the consumer
/// is set, before its partition is revoked, and at the end. After a crash the records that were not committed come again: handlers see
/// each record at least once.
///
/// Each handler that runs may hold 16 records. While there is room for more, records are asked for, however long handlers take; when there
/// is none, a handler has to finish every `max.poll.interval.ms`, or the partitions are given to others.
#[derive(Debug)]
#[must_use = "nothing is worked on until run is called"]
pub struct Processor {
    consumer: Consumer,
    ordering: Ordering,
    concurrency: usize,
    retry: Retry,
    last_resort: LastResort,
    stopper: Stopper,
}

const PANICKED: &str = "the handler panicked";

/// So many records are held for each handler that may run.
const HELD_PER_HANDLER: usize = 16;

impl Processor {
    pub(super) fn new(consumer: Consumer, ordering: Ordering, concurrency: usize) -> Self {
        assert!(concurrency > 0, "a processor runs at least one handler");
        Self {
            consumer,
            ordering,
            concurrency,
            retry: Retry::attempts(5),
            last_resort: LastResort::Stop,
            stopper: Stopper(Arc::new(watch::Sender::new(false))),
        }
    }

    /// How often a record is tried; five times unless set.
    pub fn retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// A record whose last attempt failed becomes a dead letter. Unless set, it stops the processor with an error.
    pub fn dead_letter(self, letters: DeadLetter) -> Self {
        Self { last_resort: LastResort::DeadLetter(letters), ..self }
    }

    /// A record whose last attempt failed is logged and counts as done.
    pub fn skip_failed(self) -> Self {
        Self { last_resort: LastResort::Skip, ..self }
    }

    /// Stops it, later.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Runs until it is stopped, then finishes what is under way, commits, and closes the consumer. The handler is called for each
    /// attempt, in a task of its own for each record; an attempt that panics has failed.
    ///
    /// Not cancel safe in this sense: dropping it aborts the handlers. Their records were not acknowledged, and come again.
    ///
    /// # Errors
    /// A record failed for the last time, its dead letter could not be written, or the consumer failed for good; what was under way is
    /// finished and committed all the same. Or the last commit failed.
    pub async fn run<H, F, E>(self, handler: H) -> Result<Processed, Error>
    where
        H: Fn(Record) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let events = self.consumer.events();
        let Self { consumer, ordering, concurrency, retry, last_resort, stopper } = self;
        let run = Run {
            consumer,
            events,
            ordering,
            concurrency,
            retry,
            last_resort,
            stopper,
            handler: Arc::new(handler),
            tasks: JoinSet::new(),
            running: HashMap::new(),
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            held: 0,
            revoking: Vec::new(),
            processed: Processed::default(),
            error: None,
            is_over: false,
        };
        run.run().await
    }
}

/// What is worked on one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Lane {
    Partition(TopicPartition),
    Key(TopicPartition, Bytes),
}

#[derive(Debug)]
struct Job {
    record: Record,
    acker: Acker,
    lane: Option<Lane>,
}

/// How an attempt after the other came out.
#[derive(Debug)]
struct Outcome {
    retries: u32,
    result: Result<(), String>,
}

struct Run<H> {
    consumer: Consumer,
    events: RebalanceEvents,
    ordering: Ordering,
    concurrency: usize,
    retry: Retry,
    last_resort: LastResort,
    stopper: Stopper,
    handler: Arc<H>,
    tasks: JoinSet<Finished>,
    running: HashMap<Id, Job>,
    /// The lanes in which something is ready or running, and what waits behind it.
    lanes: HashMap<Lane, VecDeque<Job>>,
    ready: VecDeque<Job>,
    /// Records that were taken and are not done with.
    held: usize,
    revoking: Vec<Revoking>,
    processed: Processed,
    error: Option<Error>,
    /// There will be no more records.
    is_over: bool,
}

/// What a task has done.
#[derive(Debug)]
enum Finished {
    Handled(Outcome),
    Buried(Result<(), Error>),
}

impl<H, F, E> Run<H>
where
    H: Fn(Record) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Display + Send + 'static,
{
    async fn run(mut self) -> Result<Processed, Error> {
        let limit = self.concurrency.saturating_mul(HELD_PER_HANDLER);
        loop {
            let stops = self.stopper.is_stopped() || self.is_over;
            if stops {
                // What has not begun comes again. Nothing is begun first: it may stand behind the record that failed.
                self.drop_waiting(|_| true);
            } else {
                self.start_ready();
            }
            self.let_go();
            if stops && self.running.is_empty() {
                break;
            }
            let takes_more = !stops && self.held < limit;
            let stopper = self.stopper.clone();
            tokio::select! {
                Some(finished) = self.tasks.join_next_with_id() => self.on_finished(finished),
                Some(event) = self.events.next() => self.on_event(event),
                () = stopper.stopped(), if !stops => {}
                next = self.consumer.next_unacked(), if takes_more => match next {
                    Some(Ok(unacked)) => {
                        let (record, acker) = unacked.into_parts();
                        self.take(record, acker);
                    }
                    Some(Err(error)) if error.is_retriable() => {
                        tracing::warn!(%error, "reading goes on");
                    }
                    Some(Err(error)) => self.fail(error),
                    None => self.is_over = true,
                },
            }
        }
        self.finish().await
    }

    async fn finish(mut self) -> Result<Processed, Error> {
        self.let_go();
        let committed = match self.consumer.group_id() {
            Some(_) => self.consumer.handle().commit().await.map(drop).map_err(Error::from),
            None => Ok(()),
        };
        let Self { consumer, events, error, processed, .. } = self;
        // Closing revokes everything, and a revocation that nobody takes notice of would hold it up.
        drop(events);
        let closed = consumer.close().await;
        match error {
            Some(error) => Err(error),
            None => committed.and(closed).map(|()| processed),
        }
    }

    fn fail(&mut self, error: Error) {
        tracing::error!(%error, "the processor stops");
        self.error.get_or_insert(error);
        self.stopper.stop();
    }

    fn take(&mut self, record: Record, acker: Acker) {
        self.held += 1;
        let lane = match (self.ordering, record.key()) {
            (Ordering::Unordered, _) | (Ordering::Key, None) => None,
            (Ordering::Partition, _) => Some(Lane::Partition(record.topic_partition())),
            (Ordering::Key, Some(key)) => Some(Lane::Key(record.topic_partition(), key.clone())),
        };
        let job = Job { record, acker, lane };
        match &job.lane {
            Some(lane) => match self.lanes.get_mut(lane) {
                Some(waiting) => waiting.push_back(job),
                None => {
                    self.lanes.insert(lane.clone(), VecDeque::new());
                    self.ready.push_back(job);
                }
            },
            None => self.ready.push_back(job),
        }
    }

    fn start_ready(&mut self) {
        while self.running.len() < self.concurrency
            && let Some(job) = self.ready.pop_front()
        {
            let (handler, record, retry) =
                (Arc::clone(&self.handler), job.record.clone(), self.retry);
            let stopper = self.stopper.clone();
            let seed = self.consumer.cluster().settings().machine.random();
            let task = self.tasks.spawn(async move {
                let handled = attempt(handler.as_ref(), &record, retry, seed, &stopper);
                Finished::Handled(handled.await)
            });
            self.running.insert(task.id(), job);
        }
    }

    fn on_finished(&mut self, finished: Result<(Id, Finished), JoinError>) {
        // A handler that finishes is a sign of life, though nothing may be asked for while all are busy.
        self.consumer.touch();
        let (id, finished) = match finished {
            Ok(finished) => finished,
            Err(error) => {
                let result = Err(PANICKED.to_owned());
                (error.id(), Finished::Handled(Outcome { retries: 0, result }))
            }
        };
        let Some(job) = self.running.remove(&id) else { return };
        match finished {
            Finished::Handled(outcome) => {
                self.processed.retries += u64::from(outcome.retries);
                match outcome.result {
                    Ok(()) => {
                        self.processed.succeeded += 1;
                        self.acknowledge(job);
                    }
                    Err(why) => self.on_failed(job, outcome.retries, why),
                }
            }
            Finished::Buried(Ok(())) => {
                self.processed.dead_letters += 1;
                self.acknowledge(job);
            }
            Finished::Buried(Err(error)) => {
                let what = format!("burying {}", place(&job.record));
                self.release(job);
                self.fail(error.while_doing(what));
            }
        }
    }

    fn on_failed(&mut self, job: Job, retries: u32, why: String) {
        let at = place(&job.record);
        match &self.last_resort {
            // Stopped between two attempts: it was not the last one.
            _ if self.stopper.is_stopped() && retries.saturating_add(1) < self.retry.attempts => {
                self.release(job);
            }
            LastResort::Stop => {
                self.release(job);
                self.fail(
                    Error::new(
                        ErrorKind::Record,
                        format!("the handler failed {} times at {at}: {why}", retries + 1),
                    )
                    .with_advice(
                        "Mend the handler and start again: it goes on with this record. Or give such records a dead-letter topic.",
                    ),
                );
            }
            LastResort::Skip => {
                tracing::error!(at, why, "a record is skipped");
                self.processed.skipped += 1;
                self.acknowledge(job);
            }
            LastResort::DeadLetter(letters) => {
                tracing::warn!(at, why, topic = letters.topic, "a record becomes a dead letter");
                let letters = letters.clone();
                let group = self.consumer.group_id().cloned().unwrap_or_default();
                let record = job.record.clone();
                let task = self.tasks.spawn(async move {
                    Finished::Buried(bury(&letters, &record, &group, retries + 1, &why).await)
                });
                self.running.insert(task.id(), job);
            }
        }
    }

    fn acknowledge(&mut self, job: Job) {
        let Job { acker, lane, .. } = job;
        if !acker.ack() {
            tracing::debug!("a record was finished after its partition was taken away");
        }
        self.next_in_lane(lane);
    }

    /// The record is not done with; it comes again.
    fn release(&mut self, job: Job) {
        self.next_in_lane(job.lane);
    }

    fn next_in_lane(&mut self, lane: Option<Lane>) {
        self.held -= 1;
        let Some(lane) = lane else { return };
        let Some(waiting) = self.lanes.get_mut(&lane) else { return };
        match waiting.pop_front() {
            Some(next) => self.ready.push_back(next),
            None => drop(self.lanes.remove(&lane)),
        }
    }

    // ---- rebalances ----

    fn on_event(&mut self, event: RebalanceEvent) {
        match event {
            RebalanceEvent::Revoking(revoking) => {
                let gone = revoking.partitions().to_vec();
                self.drop_waiting(|partition| gone.contains(partition));
                self.revoking.push(revoking);
            }
            RebalanceEvent::Lost { partitions, .. } => {
                self.drop_waiting(|partition| partitions.contains(partition));
            }
            RebalanceEvent::Assigned { .. } | RebalanceEvent::Revoked(_) => {}
        }
    }

    /// Records of these partitions that have not begun are given back.
    fn drop_waiting(&mut self, is_gone: impl Fn(&TopicPartition) -> bool) {
        let is_gone = |job: &Job| is_gone(&job.record.topic_partition());
        let mut dropped = 0;
        for waiting in self.lanes.values_mut() {
            let before = waiting.len();
            waiting.retain(|job| !is_gone(job));
            dropped += before - waiting.len();
        }
        let (gone, kept) =
            std::mem::take(&mut self.ready).into_iter().partition::<VecDeque<_>, _>(is_gone);
        self.ready = kept;
        dropped += gone.len();
        for job in gone {
            // Nothing of its lane runs, and what waited behind it is gone too.
            if let Some(lane) = job.lane {
                self.lanes.remove(&lane);
            }
        }
        self.held -= dropped;
    }

    /// Lets partitions go of which nothing runs any more, after what was finished is committed.
    fn let_go(&mut self) {
        let running = &self.running;
        let is_idle = |revoking: &mut Revoking| {
            let works = |job: &Job| revoking.partitions().contains(&job.record.topic_partition());
            !running.values().any(works)
        };
        for revoking in self.revoking.extract_if(.., is_idle) {
            tokio::spawn(async move {
                if let Err(error) = revoking.handle().commit().await {
                    tracing::warn!(%error, "before partitions were revoked");
                }
                revoking.finish();
            });
        }
    }
}

/// Calls the handler until it succeeds, was called as often as it may be, or the processor is stopped.
async fn attempt<H, F, E>(
    handler: &H,
    record: &Record,
    retry: Retry,
    seed: u64,
    stopper: &Stopper,
) -> Outcome
where
    H: Fn(Record) -> F,
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    let mut backoff = Backoff::new(retry.first, retry.max, seed);
    let mut retries = 0;
    loop {
        let result = call(handler, record).await;
        let is_last = retries + 1 >= retry.attempts || stopper.is_stopped();
        match result {
            Err(why) if !is_last => {
                let pause = backoff.next();
                tracing::debug!(at = place(record), why, ?pause, "the handler failed");
                tokio::select! {
                    () = tokio::time::sleep(pause) => retries += 1,
                    () = stopper.stopped() => return Outcome { retries, result: Err(why) },
                }
            }
            result => return Outcome { retries, result },
        }
    }
}

/// One attempt. A handler that panics has failed as one that returns an error has.
async fn call<H, F, E>(handler: &H, record: &Record) -> Result<(), String>
where
    H: Fn(Record) -> F,
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    // Nothing of what the panic may have left half done is used again: the future is dropped.
    let begun = catch_unwind(AssertUnwindSafe(|| handler(record.clone())));
    let Ok(future) = begun else { return Err(PANICKED.to_owned()) };
    let mut future = pin!(future);
    let result = std::future::poll_fn(|cx| {
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(polled) => polled.map(|result| result.map_err(|error| error.to_string())),
            Err(_) => Poll::Ready(Err(PANICKED.to_owned())),
        }
    });
    result.await
}

async fn bury(
    letters: &DeadLetter,
    record: &Record,
    group: &str,
    attempts: u32,
    why: &str,
) -> Result<(), Error> {
    let mut notes = vec![
        ("__kavka.errors.topic", record.topic().to_string()),
        ("__kavka.errors.partition", record.partition().to_string()),
        ("__kavka.errors.offset", record.offset().to_string()),
        ("__kavka.errors.consumer.group", group.to_owned()),
        ("__kavka.errors.attempts", attempts.to_string()),
        ("__kavka.errors.message", why.to_owned()),
    ];
    if let Some(timestamp) = record.timestamp() {
        notes.push(("__kavka.errors.timestamp", timestamp.to_string()));
    }
    let keys: Vec<String> =
        record.headers().iter().map(|header| header.key_str().into_owned()).collect();
    let mut letter = ProducerRecord::to(&letters.topic);
    if let Some(key) = record.key() {
        letter = letter.key(key);
    }
    if let Some(value) = record.value() {
        letter = letter.value(value);
    }
    for (key, header) in keys.iter().zip(record.headers()) {
        letter = letter.header(key, header.value.as_deref());
    }
    for (key, note) in &notes {
        letter = letter.header(key, Some(note.as_bytes()));
    }
    letters.producer.send(letter).await?.await.map(drop)
}

fn place(record: &Record) -> String {
    format!("{}-{} offset {}", record.topic(), record.partition(), record.offset())
}
