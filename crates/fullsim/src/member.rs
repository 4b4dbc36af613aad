//! A place in the group, and the consumers that take it one after the other, each with an application of its kind.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering as Atomic},
    },
    time::Duration,
};

use kavka_checker::{CommitSource, Member, Op};
use kavka_client::{
    Consumer, Error, TopicPartition,
    consumer::{
        CloseOptions, OffsetReset, Ordering, RebalanceEvent, RebalanceEvents, Record, Retry,
    },
};
use kavka_sim::Random;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    coverage::{Deed, Ending},
    history::place,
    network::Host,
    plan::{Kind, Mode},
    world::{GROUP, Phase, TOPIC, World, value_of},
};

/// Takes the place until the world is over.
pub(crate) async fn run(world: Arc<World>, slot: usize) {
    let mut random = Random::of(world.plan.seed, &format!("member {slot}"));
    sleep(random.millis(0, 3_000)).await;
    for number in 1.. {
        if world.phase() == Phase::Over {
            return;
        }
        let name = format!("member-{slot}.{number}");
        let mode = *random.pick(&world.plan.modes);
        let life = random.millis(4_000, 50_000);
        let until = if world.plan.restarts { Instant::now() + life } else { world.far() };
        let host = world.new_host();
        let is_killed = Arc::default();
        let world = Arc::clone(&world);
        let mut life = Life { world, name, host, mode, until, random, is_killed };
        life.run(u64::from(host)).await;
        random = life.random;
        sleep(random.millis(50, 4_000)).await;
    }
}

/// One consumer and its application.
struct Life {
    world: Arc<World>,
    name: String,
    host: Host,
    mode: Mode,
    /// When the application ends, if things still go wrong then.
    until: Instant,
    random: Random,
    /// It was killed: nobody hears what it is told.
    is_killed: Arc<AtomicBool>,
}

impl Life {
    async fn run(&mut self, poller: u64) {
        let world = Arc::clone(&self.world);
        let handlers = matches!(self.mode, Mode::ByKey | Mode::ByPartition);
        // The handlers of a processor are given records in an order that is not that of the log.
        let source = if handlers { CommitSource::Chosen } else { CommitSource::Consumed };
        world.observer.name(self.host, &self.name, source);
        world.trace.tell(|| format!("{} is host {}: {:?}", self.name, self.host, self.mode));
        let consumer = match self.consumer() {
            Ok(consumer) => consumer,
            Err(error) => panic!("a consumer cannot be built: {error}"),
        };
        let events = consumer.events();
        let notes = Notes {
            world: Arc::clone(&world),
            name: self.name.clone(),
            host: self.host,
            is_killed: Arc::clone(&self.is_killed),
        };
        tokio::spawn(notes.write(events));
        let topics = [TOPIC.to_owned()].into();
        world.notebook.note(&self.name, Op::Subscribe { group: GROUP.to_owned(), topics });
        if let Err(error) = consumer.subscribe([TOPIC]).await {
            panic!("subscribing is refused: {error}");
        }
        match self.mode {
            Mode::ByKey => self.process(consumer, Ordering::Key).await,
            Mode::ByPartition => self.process(consumer, Ordering::Partition).await,
            Mode::Stream => self.stream(consumer, poller).await,
            Mode::Batches => self.batches(consumer, poller).await,
            Mode::Acks => self.acks(consumer, poller).await,
        }
    }

    fn consumer(&mut self) -> Result<Consumer, Error> {
        let plan = &self.world.plan;
        let mut builder = Consumer::builder()
            .properties(self.world.common_properties())
            .client_id(&self.name)
            .group_id(GROUP)
            .auto_offset_reset(OffsetReset::Earliest)
            .session_timeout(plan.session)
            .heartbeat_interval(plan.heartbeat)
            .max_poll_interval(plan.max_poll)
            .auto_commit_interval(self.random.millis(200, 2_000))
            .enable_auto_commit(self.mode != Mode::Batches)
            .assignors(plan.assignors)
            .environment(self.world.machine(self.host));
        // Not both: what a partition may give would not be what is waited for.
        match self.random.below(4) {
            0 => {
                let most = self.random.between(500, 5_000).to_string();
                builder = builder.property("max.partition.fetch.bytes", &most);
            }
            1 => builder = builder.property("fetch.min.bytes", "2000"),
            _ => {}
        }
        builder.build()
    }

    fn is_over(&self) -> bool {
        is_over(&self.world, self.until)
    }

    /// What the application does with a record.
    async fn work(&mut self) {
        let plan = &self.world.plan;
        let healed = self.world.phase() != Phase::Faulty;
        if self.random.happens(1) && plan.hangs && !healed {
            self.world.seen.fault(Kind::Hangs);
            sleep(plan.max_poll + self.random.millis(0, 3_000)).await;
        } else if self.random.happens(100) {
            sleep(self.random.millis(1, 60)).await;
        }
    }

    /// How long the application waits for records; shortly where futures are to be given up.
    fn patience(&mut self) -> Duration {
        let short = self.random.millis(0, 400);
        if self.world.plan.cancels { short } else { Duration::from_millis(500) }
    }

    fn ending(&mut self) -> Ending {
        match self.world.phase() {
            Phase::Faulty => {
                let ending = *self.random.pick(Ending::ALL);
                self.world.seen.fault(Kind::Restarts);
                self.world.seen.ending(self.mode, ending);
                ending
            }
            Phase::Healed | Phase::Over => Ending::Close,
        }
    }

    /// The end of a life that is not yet over inside.
    async fn end(&mut self, consumer: Consumer) {
        let was_faulty = self.world.phase() == Phase::Faulty;
        let ending = self.ending();
        self.world.trace.tell(|| format!("{} ends: {ending:?}", self.name));
        if self.before_end(ending).await {
            drop(consumer);
            return;
        }
        match ending {
            Ending::CloseAndForget => {
                let patience = self.random.millis(0, 100);
                // Whatever it comes to: it goes on in the background.
                let _ = timeout(patience, consumer.close()).await;
            }
            Ending::Drop => drop(consumer),
            _ => {
                let most = Duration::from_secs(20);
                let options = CloseOptions::default().timeout(most);
                let began = Instant::now();
                let closed = consumer.close_with(options).await;
                self.world.trace.tell(|| format!("{} is closed: {closed:?}", self.name));
                let took = began.elapsed();
                assert!(took <= most + Duration::from_secs(1), "closing took {took:?}");
                if !was_faulty && let Err(error) = closed {
                    panic!("closing failed though nothing is wrong: {}: {error}", self.name);
                }
            }
        }
    }

    /// Tells of the end, and takes the host away if that is how it ends: whether it is.
    async fn before_end(&mut self, ending: Ending) -> bool {
        let world = &self.world;
        match ending {
            Ending::Killed | Ending::PowerLoss => {
                world.notebook.note(&self.name, Op::Crash {});
                self.is_killed.store(true, Atomic::Relaxed);
                world.network.unplug(self.host);
                if ending == Ending::Killed {
                    world.network.reset_all(self.host);
                }
                true
            }
            _ => {
                world.notebook.note(&self.name, Op::Close {});
                false
            }
        }
    }

    // ---- applications ----

    async fn stream(&mut self, mut consumer: Consumer, poller: u64) {
        let mut in_hand: Option<Record> = None;
        while !self.is_over() {
            let patience = self.patience();
            // What was in hand is done with, when the application comes back for more.
            if let Some(record) = in_hand.take() {
                self.world.handled(&record.topic_partition(), value_of(record.value()));
            }
            match timeout(patience, consumer.next()).await {
                Err(_) => self.world.cancelled(),
                Ok(Some(Ok(record))) => {
                    self.polled(poller, &[&record]);
                    self.work().await;
                    in_hand = Some(record);
                }
                Ok(Some(Err(error))) => self.failed(&error),
                Ok(None) => panic!("the consumer ended by itself: {}", self.name),
            }
        }
        self.end(consumer).await;
    }

    async fn batches(&mut self, mut consumer: Consumer, poller: u64) {
        let mut uncommitted = false;
        while !self.is_over() {
            let patience = self.patience();
            let mut records = Vec::new();
            match timeout(patience, consumer.next_batch()).await {
                Err(_) => self.world.cancelled(),
                Ok(Some(Ok(batch))) => {
                    let at = TopicPartition::new(batch.topic().clone(), batch.partition());
                    for record in batch {
                        match record {
                            Ok(record) => {
                                let value = record.value.map(|value| value.to_vec().into());
                                records.push((at.clone(), record.offset, value_of(value.as_ref())));
                            }
                            Err(error) => panic!("a record that was written is none: {error}"),
                        }
                    }
                    self.world.notebook.polled(&self.name, poller, &records, false);
                }
                Ok(Some(Err(error))) => self.failed(&error),
                Ok(None) => panic!("the consumer ended by itself: {}", self.name),
            }
            if !records.is_empty() {
                self.work().await;
                uncommitted = true;
            }
            for (at, _, value) in records {
                self.world.handled(&at, value);
            }
            if !uncommitted {
                continue;
            }
            match self.random.below(4) {
                0 => drop(consumer.commit_async()),
                1 if self.world.plan.cancels => {
                    let patience = self.random.millis(0, 20);
                    let outcome = timeout(patience, consumer.commit()).await;
                    self.world.cancelled();
                    uncommitted = !matches!(outcome, Ok(Ok(_)));
                }
                2 if self.random.happens(500) => {}
                _ => match consumer.commit().await {
                    Ok(_) => uncommitted = false,
                    Err(error) => self.failed(error.error()),
                },
            }
        }
        self.end(consumer).await;
    }

    async fn acks(&mut self, mut consumer: Consumer, poller: u64) {
        let mut working = JoinSet::new();
        while !self.is_over() {
            while working.try_join_next().is_some() {}
            if working.len() > 30 {
                working.join_next().await;
                continue;
            }
            let patience = self.patience();
            match timeout(patience, consumer.next_unacked()).await {
                Err(_) => self.world.cancelled(),
                Ok(Some(Ok(unacked))) => {
                    self.polled(poller, &[unacked.record()]);
                    let (work, world) = (self.random.millis(0, 150), Arc::clone(&self.world));
                    working.spawn(async move {
                        sleep(work).await;
                        let record = unacked.record();
                        world.handled(&record.topic_partition(), value_of(record.value()));
                        unacked.ack();
                    });
                }
                Ok(Some(Err(error))) => self.failed(&error),
                Ok(None) => panic!("the consumer ended by itself: {}", self.name),
            }
        }
        self.end(consumer).await;
        // What is not acknowledged by now comes again.
        working.shutdown().await;
    }

    async fn process(&mut self, consumer: Consumer, ordering: Ordering) {
        let handlers = self.random.between(1, 6) as usize;
        let retry = Retry::forever().backoff(Duration::from_millis(20), Duration::from_secs(1));
        let processor = consumer.process(ordering, handlers).retry(retry);
        let stopper = processor.stopper();
        let world = Arc::clone(&self.world);
        let chances = Random::of(self.random.draw(), "handlers");
        let chances = Arc::new(Mutex::new(chances));
        let handler = move |record: Record| {
            let (world, chances) = (Arc::clone(&world), Arc::clone(&chances));
            async move {
                let (work, fails) = {
                    let mut random = chances.lock().unwrap_or_else(PoisonError::into_inner);
                    (random.millis(0, 60), random.happens(50))
                };
                sleep(work).await;
                if fails {
                    return Err("a chance in twenty");
                }
                world.handled(&record.topic_partition(), value_of(record.value()));
                Ok(())
            }
        };
        let mut running = Box::pin(processor.run(handler));
        let result = tokio::select! {
            biased;
            result = &mut running => Some(result),
            () = over(&self.world, self.until) => None,
        };
        if let Some(result) = result {
            panic!("the processor ended by itself: {}: {result:?}", self.name);
        }
        let was_faulty = self.world.phase() == Phase::Faulty;
        let ending = self.ending();
        self.world.trace.tell(|| format!("{} ends: {ending:?}", self.name));
        if self.before_end(ending).await || ending == Ending::Drop {
            return;
        }
        stopper.stop();
        if ending == Ending::CloseAndForget {
            // Whatever it comes to.
            let _ = timeout(self.random.millis(0, 100), running).await;
            return;
        }
        let result = running.await;
        self.world.trace.tell(|| format!("{} is closed: {result:?}", self.name));
        if !was_faulty && let Err(error) = result {
            panic!("the processor failed though nothing is wrong: {}: {error}", self.name);
        }
    }

    fn polled(&self, poller: u64, records: &[&Record]) {
        let records: Vec<_> = records
            .iter()
            .map(|record| (record.topic_partition(), record.offset(), value_of(record.value())))
            .collect();
        self.world.notebook.polled(&self.name, poller, &records, false);
    }

    fn failed(&self, error: &Error) {
        self.world.trace.tell(|| format!("{} is told: {error}", self.name));
    }
}

fn is_over(world: &World, until: Instant) -> bool {
    match world.phase() {
        Phase::Faulty => Instant::now() >= until,
        Phase::Healed => false,
        Phase::Over => true,
    }
}

/// Until the life is over.
async fn over(world: &World, until: Instant) {
    let mut phases = world.phases.subscribe();
    loop {
        if is_over(world, until) {
            return;
        }
        tokio::select! {
            biased;
            changed = phases.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = sleep_until(until), if world.phase() == Phase::Faulty => {}
        }
    }
}

/// Writes down what a consumer is told of rebalances.
struct Notes {
    world: Arc<World>,
    name: String,
    host: Host,
    is_killed: Arc<AtomicBool>,
}

impl Notes {
    async fn write(self, mut events: RebalanceEvents) {
        while let Some(event) = events.next().await {
            if !self.is_killed.load(Atomic::Relaxed) {
                self.note(event);
            }
        }
    }

    fn note(&self, event: RebalanceEvent) {
        let places = |partitions: &[TopicPartition]| -> BTreeSet<_> {
            partitions.iter().map(place).collect()
        };
        let (notebook, name, group) = (&self.world.notebook, &self.name, GROUP.to_owned());
        match event {
            RebalanceEvent::Assigned { added, generation, .. } => {
                let Some(member) = self.world.observer.member(self.host) else {
                    panic!("{name} was assigned something and never asked for it")
                };
                if !added.is_empty() {
                    self.world.seen.deed(Deed::Assigned);
                }
                let member = Member { generation, ..member };
                let partitions = places(&added);
                notebook.note(name, Op::Assigned { group, member, partitions });
            }
            RebalanceEvent::Revoked(gone) => {
                self.world.seen.deed(Deed::Revoked);
                let partitions = places(&gone);
                notebook.note(name, Op::Revoked { group, partitions });
            }
            RebalanceEvent::Lost { partitions, cause } => {
                self.world.trace.tell(|| format!("{name} has lost partitions: {cause}"));
                self.world.seen.deed(Deed::Lost);
                let partitions = places(&partitions);
                notebook.note(name, Op::Lost { group, partitions });
            }
            // Records in hand hold it up; this does not.
            RebalanceEvent::Revoking(revoking) => revoking.finish(),
            _ => {}
        }
    }
}
