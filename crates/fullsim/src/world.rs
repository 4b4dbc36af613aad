//! A world: one broker, its clients, the network between them, and what has to hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use kavka_checker::{
    FaultPhase, GroupSettings, History, Isolation, Op, Settings, TopicPartition as Place,
};
use kavka_client::{Consumer, TopicPartition, consumer::SeekTo};
use kavka_sim::{Random, campaign::judge, caught, first_panic};
use tokio::{
    runtime::{self, Handle},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    coverage::{Coverage, Deed, Seen},
    history::Notebook,
    machine::Machine,
    member, nemesis,
    network::{BROKER, Host, Network, PORT, address},
    operator,
    plan::{Case, Kind, Part, Plan},
    producer,
    server::Server,
    trace::{Telling, Trace},
    wire::Observer,
};

/// The topic that is written and read.
pub(crate) const TOPIC: &str = "t";
/// The group of its readers.
pub(crate) const GROUP: &str = "readers";
/// A group without members, whose offsets an operator sets.
pub(crate) const IDLE_GROUP: &str = "idle";

/// Where a world stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Things go wrong.
    Faulty,
    /// They do not any more, and everything has to come to rest.
    Healed,
    /// It has; everyone goes home.
    Over,
}

/// A record that was acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) producer: String,
    pub(crate) at: TopicPartition,
    pub(crate) value: i64,
    pub(crate) offset: Option<i64>,
}

/// See the module.
pub(crate) struct World {
    pub(crate) plan: Arc<Plan>,
    pub(crate) network: Network,
    pub(crate) server: Server,
    pub(crate) notebook: Arc<Notebook>,
    pub(crate) observer: Arc<Observer>,
    pub(crate) trace: Arc<Trace>,
    pub(crate) seen: Arc<Seen>,
    pub(crate) phases: watch::Sender<Phase>,
    began: Instant,
    last_host: AtomicU64,
    last_value: AtomicI64,
    facts: Mutex<Facts>,
}

#[derive(Default)]
struct Facts {
    sent: Vec<Sent>,
    handled: BTreeSet<(i32, i64)>,
}

/// What a world came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What did not hold, if anything did not.
    pub verdict: Result<(), String>,
    /// Of everything that happened.
    pub trace: u64,
    /// How many events that were.
    pub events: u64,
    /// Simulated time.
    pub took: Duration,
    /// Faults that landed, and what was done under them.
    pub coverage: Coverage,
    /// What clients saw.
    pub history: History,
}

/// Runs a world on this thread. [`kavka_sim::keep_panics`] has to be called before, once.
pub fn run(case: &Case, telling: &Telling) -> Outcome {
    run_plan(Plan::of(case), telling)
}

pub(crate) fn run_plan(plan: Plan, telling: &Telling) -> Outcome {
    let mut runtime = runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true);
    // tokio chooses at random whom of several it wakes or asks first.
    #[cfg(tokio_unstable)]
    runtime.rng_seed(runtime::RngSeed::from_bytes(&plan.seed.to_be_bytes()));
    let runtime = match runtime.build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("no runtime: {error}"),
    };
    // What is known of a world is known also after a panic in it.
    let (trace, notebook, seen) = {
        let _entered = runtime.enter();
        let trace = Arc::new(Trace::new(telling.clone()));
        let notebook = Arc::new(Notebook::new(Arc::clone(&trace)));
        (Arc::clone(&trace), notebook, Arc::new(Seen::new(trace)))
    };
    let witnesses = (Arc::clone(&trace), Arc::clone(&notebook), Arc::clone(&seen));
    let verdict = caught(move || {
        runtime.block_on(async {
            let world = Arc::new(World::new(plan, witnesses));
            Arc::clone(&world).run().await?;
            world.ends_without_leaks().await
        })
    });
    let (hash, events, took) = trace.finish();
    let (history, coverage) = (notebook.history(), seen.coverage());
    let verdict = verdict.and_then(|verdict| verdict).and_then(|()| judge(&history));
    Outcome { verdict, trace: hash, events, took, coverage, history }
}

/// What is in a value that was sent.
pub(crate) fn value_of(value: Option<&bytes::Bytes>) -> i64 {
    let text = value.and_then(|value| value.split(|byte| *byte == b':').next());
    let number = text.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    match number {
        Some(number) => number,
        None => panic!("a value that nobody sent: {value:?}"),
    }
}

impl World {
    fn new(plan: Plan, (trace, notebook, seen): (Arc<Trace>, Arc<Notebook>, Arc<Seen>)) -> Self {
        let plan = Arc::new(plan);
        trace.tell(|| format!("{plan:?}"));
        let observer = Arc::new(Observer::new(Arc::clone(&notebook), Arc::clone(&seen)));
        let network = Network::new(
            Random::of(plan.seed, "network"),
            plan.wires,
            Arc::clone(&trace),
            Arc::clone(&seen),
            Arc::clone(&observer),
        );
        let began = Instant::now();
        Self {
            server: Server::new(Arc::clone(&plan), network.clone(), began),
            plan,
            network,
            notebook,
            observer,
            trace,
            seen,
            phases: watch::Sender::new(Phase::Faulty),
            began,
            last_host: AtomicU64::new(u64::from(BROKER)),
            last_value: AtomicI64::new(0),
            facts: Mutex::default(),
        }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phases.borrow()
    }

    /// A time that does not come.
    pub(crate) fn far(&self) -> Instant {
        self.began + Duration::from_secs(100_000)
    }

    /// A machine for one more client.
    pub(crate) fn new_host(&self) -> Host {
        let number = self.last_host.fetch_add(1, Ordering::Relaxed) + 1;
        Host::try_from(number).unwrap_or_else(|_| panic!("{number} clients are too many"))
    }

    pub(crate) fn newest_host(&self) -> Host {
        Host::try_from(self.last_host.load(Ordering::Relaxed)).unwrap_or(Host::MAX)
    }

    pub(crate) fn machine(&self, host: Host) -> Arc<Machine> {
        let random = Random::of(self.plan.seed, &format!("host {host}"));
        Arc::new(Machine::new(self.network.clone(), host, random, self.began))
    }

    /// Settings of every client.
    pub(crate) fn common_properties(&self) -> Vec<(String, String)> {
        let properties = [
            ("bootstrap.servers", address(BROKER, PORT).to_string()),
            ("request.timeout.ms", "5000".to_owned()),
            ("default.api.timeout.ms", "15000".to_owned()),
            ("socket.connection.setup.timeout.ms", "3000".to_owned()),
            ("socket.connection.setup.timeout.max.ms", "6000".to_owned()),
            ("metadata.max.age.ms", "20000".to_owned()),
        ];
        properties.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    pub(crate) fn next_value(&self) -> i64 {
        self.last_value.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A record was acknowledged.
    pub(crate) fn sent(&self, sent: Sent) {
        self.seen.deed(Deed::Delivered);
        self.facts().sent.push(sent);
    }

    /// The group is done with a record.
    pub(crate) fn handled(&self, at: &TopicPartition, value: i64) {
        self.seen.deed(Deed::WorkedOn);
        self.facts().handled.insert((at.partition, value));
    }

    /// A future was dropped before it was ready.
    pub(crate) fn cancelled(&self) {
        // Without these, it was only that nothing came in time.
        if self.plan.cancels {
            self.seen.fault(Kind::Cancels);
        }
    }

    pub(crate) async fn start_broker(&self) {
        self.trace.tell(|| "the broker starts".to_owned());
        if let Err(error) = self.server.start().await {
            panic!("the broker does not start: {error}");
        }
    }

    // ---- its course ----

    async fn run(self: Arc<Self>) -> Result<(), String> {
        self.start_broker().await;
        self.begin_history().await?;
        let mut actors = JoinSet::new();
        for slot in (0..self.plan.members).filter(|slot| self.plan.has(Part::Member(*slot))) {
            actors.spawn(member::run(Arc::clone(&self), slot));
        }
        let mut producers = JoinSet::new();
        for slot in (0..self.plan.producers).filter(|slot| self.plan.has(Part::Producer(*slot))) {
            producers.spawn(producer::run(Arc::clone(&self), slot));
        }
        if self.plan.has(Part::Operator) {
            actors.spawn(operator::run(Arc::clone(&self)));
        }
        nemesis::run(&self, self.began + self.plan.faulty).await;
        sound()?;

        self.network.heal();
        self.trace.tell(|| "everything is mended".to_owned());
        self.notebook.note("world", Op::Fault { kind: "world".into(), phase: FaultPhase::End });
        self.phases.send_replace(Phase::Healed);
        let all_sent = async { while producers.join_next().await.is_some() {} };
        if timeout(Duration::from_secs(60), all_sent).await.is_err() {
            return Err("a producer has not come to an end a minute after all was mended".into());
        }
        sound()?;
        self.comes_to_rest().await?;
        // Who was removed from the group has heard of it then, and is in it again: only of its members a close is without an error.
        sleep(self.plan.session * 2).await;
        self.comes_to_rest().await?;

        self.phases.send_replace(Phase::Over);
        let all_gone = async { while actors.join_next().await.is_some() {} };
        if timeout(Duration::from_secs(60), all_gone).await.is_err() {
            return Err("a client cannot be closed although nothing is wrong".into());
        }
        sound()?;
        self.read_everything().await?;
        self.compare()
    }

    async fn begin_history(&self) -> Result<(), String> {
        let Some(inspector) = self.server.inspector() else { return Err("no broker".into()) };
        let topic = (TOPIC.to_owned(), self.plan.partitions, BTreeMap::new());
        let made = inspector.create_topics(vec![topic]).await;
        let ids = made.map_err(|error| format!("the topic cannot be made: {error}"))?;
        for id in ids {
            self.observer.learn_topic(id, TOPIC);
        }
        let settings = Settings { idempotent: true, isolation: Isolation::ReadUncommitted };
        self.notebook.note("world", Op::Settings(settings));
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        for group in [GROUP, IDLE_GROUP] {
            let settings = GroupSettings {
                session_timeout_ms: millis(self.plan.session),
                rebalance_timeout_ms: millis(self.plan.max_poll),
                ..GroupSettings::default()
            };
            self.notebook.note("world", Op::Group { group: group.to_owned(), settings });
        }
        let partitions = u32::try_from(self.plan.partitions).unwrap_or(0);
        self.notebook.note("world", Op::Topic { topic: TOPIC.to_owned(), partitions });
        self.notebook.note("world", Op::Fault { kind: "world".into(), phase: FaultPhase::Begin });
        Ok(())
    }

    /// All that was written is read and committed, and from one step on that way to the next is a bounded time. How long all of it takes is
    /// the applications' doing: one that waits for a commit after each record has a few dozen of them a second.
    async fn comes_to_rest(&self) -> Result<(), String> {
        let most = self.plan.session + self.plan.max_poll * 2 + Duration::from_secs(30);
        let mut deadline = Instant::now() + most;
        let mut least = u64::MAX;
        loop {
            sound()?;
            let (missing, told) = self.missing().await?;
            if missing == 0 {
                return Ok(());
            }
            if missing < least {
                least = missing;
                deadline = Instant::now() + most;
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "all was mended and nothing more was read: for {most:?}, {told}"
                ));
            }
            sleep(Duration::from_millis(250)).await;
        }
    }

    /// How many records are not committed, and where.
    async fn missing(&self) -> Result<(u64, String), String> {
        let Some(inspector) = self.server.inspector() else { return Err("no broker".into()) };
        let ends = inspector.partitions(TOPIC).map_err(|error| error.to_string())?;
        let committed = match inspector.committed_offsets(GROUP).await {
            Ok(committed) => committed,
            Err(error) => return Ok((u64::MAX, format!("no offsets: {error}"))),
        };
        let mut missing = 0;
        let mut told = Vec::new();
        for (index, ends) in (0..).zip(&ends) {
            let at = TopicPartition::new(TOPIC, index);
            let committed = committed.get(&(TOPIC.to_owned(), index)).copied().unwrap_or(0);
            // A commit that its client has given up and sent again may arrive after a later one and take the offset back: no broker
            // can tell, and who reads next begins there.
            let acknowledged = self.observer.acknowledged(GROUP, &crate::history::place(&at));
            let committed = committed.max(acknowledged);
            if committed != ends.high_watermark {
                missing += ends.high_watermark.abs_diff(committed);
                told.push(format!("{TOPIC}-{index}: {committed} of {}", ends.high_watermark));
            }
        }
        Ok((missing, told.join(", ")))
    }

    /// One more consumer reads all partitions from their beginning to their end.
    async fn read_everything(&self) -> Result<(), String> {
        let Some(inspector) = self.server.inspector() else { return Err("no broker".into()) };
        let ends = inspector.partitions(TOPIC).map_err(|error| error.to_string())?;
        let host = self.new_host();
        let consumer = Consumer::builder()
            .properties(self.common_properties())
            .client_id("last")
            .environment(self.machine(host))
            .build();
        let mut consumer = consumer.map_err(|error| error.to_string())?;
        let mut to_come: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        for (index, ends) in (0..).zip(&ends) {
            if ends.high_watermark > 0 {
                to_come.insert(TopicPartition::new(TOPIC, index), ends.high_watermark);
            }
        }
        let places: BTreeSet<Place> = to_come.keys().map(crate::history::place).collect();
        self.notebook.note("last", Op::Assign { partitions: places });
        consumer.assign(to_come.keys().cloned()).await.map_err(|error| error.to_string())?;
        for partition in to_come.keys() {
            consumer.seek(partition, SeekTo::Beginning).await.map_err(|error| error.to_string())?;
        }
        let mut records = Vec::new();
        while !to_come.is_empty() {
            let next = timeout(Duration::from_secs(30), consumer.next()).await;
            let Ok(Some(Ok(record))) = next else {
                return Err(format!("the last reader: got {next:?} in place of {to_come:?}"));
            };
            let at = record.topic_partition();
            records.push((at.clone(), record.offset(), value_of(record.value())));
            if to_come.get(&at).is_some_and(|end| record.offset() + 1 >= *end) {
                to_come.remove(&at);
            }
        }
        self.notebook.polled("last", u64::from(host), &records, true);
        consumer.close().await.map_err(|error| format!("the last reader: {error}"))
    }

    /// What the checker does not ask: each acknowledged record was worked on, and the records of a producer are in its order.
    fn compare(&self) -> Result<(), String> {
        let facts = self.facts();
        let mut last: BTreeMap<(&str, i32), (i64, i64)> = BTreeMap::new();
        let mut sent: Vec<&Sent> = facts.sent.iter().collect();
        sent.sort_by_key(|sent| sent.value);
        for Sent { producer, at, value, offset } in sent {
            if !facts.handled.contains(&(at.partition, *value)) {
                return Err(format!("a record was never worked on: {value} in {at} at {offset:?}"));
            }
            let Some(offset) = offset else { continue };
            let before = last.insert((producer, at.partition), (*value, *offset));
            if let Some((earlier, place)) = before.filter(|(_, place)| place >= offset) {
                return Err(format!(
                    "records of a producer out of order: {producer} sent {earlier} before {value}; in {at} they are at {place} and {offset}"
                ));
            }
        }
        Ok(())
    }

    /// When all clients are gone, nothing of theirs is left, and the broker stops with all it has.
    async fn ends_without_leaks(&self) -> Result<(), String> {
        // Connections whose client is silently gone go when they were idle for long enough.
        sleep(Duration::from_secs(60)).await;
        let (ends, memory) = (self.network.ends(), self.server.memory_in_use());
        if ends > 0 || memory > 0 {
            return Err(format!("something is left: {ends} ends of connections, {memory} bytes"));
        }
        self.server.stop().await;
        sleep(Duration::from_secs(1)).await;
        let tasks = Handle::current().metrics().num_alive_tasks();
        if tasks > 0 {
            return Err(format!("tasks are left: {tasks}"));
        }
        self.trace.tell(|| "it is over".to_owned());
        sound()
    }
}

/// Whether nobody has panicked.
fn sound() -> Result<(), String> {
    first_panic().map_or(Ok(()), Err)
}
