//! The broker in the test's process: its threads, its lives, its end.
//!
//! A broker runs on a runtime of its own. So it goes on while a test blocks its thread, a test may have any runtime (or pause its
//! clock), and a crash is the end of that runtime: whatever the broker was doing is dropped where it stood.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use kavka_broker::{
    Broker, Inspector, Interceptor, OpenEngines, RunningBroker, StartError, StartOptions,
};
use kavka_log::{LogError, fs::MemoryDisk};
use kavka_meta::{MetaError, os_random};
use kavka_protocol::Uuid;
use tokio::{
    runtime::{self, Runtime},
    sync::oneshot,
};

use crate::{
    Builder, Error,
    builder::{NewTopic, config_map},
    port::Port,
    rules::Rules,
    storage::{self, Place},
};

/// How long the threads of a broker that ends may take to leave what they are in the middle of.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a drop may take at most, where it mostly takes less than a millisecond.
const DROP_PATIENCE: Duration = Duration::from_millis(500);
/// Between two looks at whether the earlier life of a broker has let go of its files.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A Kavka broker in the process of the test, on a port of its own.
///
/// Every `async` method may be awaited on any runtime. Dropping the broker ends it as a crash does and removes its
/// files; that takes half a second at the very most.
///
/// One broker is one cluster: several brokers in one cluster are not supported. Several test brokers in one process are, each
/// a cluster of its own.
#[derive(Debug)]
pub struct TestBroker {
    builder: Builder,
    port: Port,
    rules: Arc<Rules>,
    /// Before the directory, so that nothing is removed below a broker that runs.
    life: Mutex<Option<Life>>,
    /// One crash, stop or restart at a time.
    changing: tokio::sync::Mutex<()>,
    place: Option<Place>,
}

/// A broker from its start to its end.
#[derive(Debug)]
struct Life {
    broker: Option<RunningBroker>,
    runtime: Option<Runtime>,
}

impl TestBroker {
    /// Starts a broker with [defaults](Builder#defaults) for tests: on a free port of 127.0.0.1, in memory, without topics.
    ///
    /// # Panics
    /// If it cannot be started, with the reason.
    pub async fn start() -> TestBroker {
        Self::builder().start().await
    }

    /// For a broker that is to be otherwise.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) async fn launch(mut builder: Builder) -> Result<TestBroker, Error> {
        let topics = std::mem::take(&mut builder.topics);
        let io = |action| move |source| Error::Io { action, source };
        let port = Port::take().map_err(io("take a port"))?;
        let place = Place::make(builder.storage).map_err(io("make a temporary directory"))?;
        let (rules, life, changing) = Default::default();
        let broker = TestBroker { builder, port, rules, life, changing, place: Some(place) };
        broker.begin().await?;
        if !topics.is_empty() {
            broker.create_topics(topics).await?;
        }
        Ok(broker)
    }

    /// Where the broker listens. The same for all of its lives.
    pub fn addr(&self) -> SocketAddr {
        self.port.address()
    }

    /// `host:port`, as `bootstrap.servers` wants it.
    pub fn bootstrap_servers(&self) -> String {
        self.addr().to_string()
    }

    /// The directory of the broker's files, for a test that wants to look at them; gone when the broker is dropped. `None` with
    /// [`Storage::Memory`](crate::Storage::Memory).
    pub fn data_dir(&self) -> Option<&Path> {
        match &self.place {
            Some(Place::Disk(dir)) => Some(dir.path()),
            Some(Place::Memory(_)) | None => None,
        }
    }

    /// Whether the broker runs: it was not crashed or stopped, or restarted since.
    pub fn is_running(&self) -> bool {
        self.life().is_some()
    }

    /// Creates a topic; it is served when this returns. Its id.
    ///
    /// A call that is dropped may have created it or not.
    ///
    /// # Errors
    /// The topic was refused: it exists, or its name is none.
    pub async fn create_topic(&self, name: &str, partitions: i32) -> Result<Uuid, Error> {
        self.create_topic_with(name, partitions, &[]).await
    }

    /// As [`create_topic`](Self::create_topic), with configs by their Kafka names: `("cleanup.policy", "compact")`.
    ///
    /// # Errors
    /// The topic, or one of its configs, was refused.
    pub async fn create_topic_with(
        &self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<Uuid, Error> {
        let topic = (name.to_owned(), partitions, config_map(configs));
        let ids = self.create_topics(vec![topic]).await?;
        ids.first().copied().ok_or(Error::Down)
    }

    async fn create_topics(&self, topics: Vec<NewTopic>) -> Result<Vec<Uuid>, Error> {
        self.ask(async move |inspector| Ok(inspector.create_topics(topics).await?)).await
    }

    /// The offsets that the group has committed, by topic and partition.
    ///
    /// Cancel safe: it changes nothing.
    ///
    /// # Errors
    /// The broker is down, or the group's coordinator is not ready.
    pub async fn committed(&self, group: &str) -> Result<BTreeMap<(String, i32), i64>, Error> {
        let group = group.to_owned();
        self.ask(async move |inspector| Ok(inspector.committed_offsets(&group).await?)).await
    }

    /// The offset of the next record of each partition, in the order of the partitions, as consumers see it.
    ///
    /// # Errors
    /// The broker is down, or there is no such topic.
    pub fn end_offsets(&self, topic: &str) -> Result<Vec<i64>, Error> {
        let partitions = self.inspector()?.partitions(topic)?;
        Ok(partitions.iter().map(|partition| partition.high_watermark).collect())
    }

    /// Ends the broker as `kill -9` would: requests under way are not answered, connections close, nothing is flushed and
    /// nothing is cleaned up. What it had written is what the next life finds, synced or not: the operating system keeps it.
    ///
    /// Returns when the broker is gone. Nothing happens if it is down already. A call that is dropped ends the broker all the
    /// same.
    pub async fn crash(&self) {
        let _changing = self.changing.lock().await;
        self.crash_unguarded().await;
    }

    async fn crash_unguarded(&self) {
        if let Some(life) = self.take_life() {
            life.end().await;
        }
    }

    /// Ends the broker as [`crash`](Self::crash) does, and with it the machine: what was written and not synced is lost. What
    /// was acknowledged is there, unless syncs were relaxed (`kavka.sync.policy=interval`): then consumers can find that a log
    /// ends before where they were.
    ///
    /// If the broker is down already, what it had not synced before is lost now.
    ///
    /// # Errors
    /// [`Error::NoPowerLoss`] where the storage is not [`Storage::Memory`](crate::Storage::Memory); the broker runs on then.
    pub async fn power_loss(&self) -> Result<(), Error> {
        let _changing = self.changing.lock().await;
        let disk = self.place.as_ref().and_then(Place::memory).ok_or(Error::NoPowerLoss)?;
        self.crash_unguarded().await;
        disk.power_loss();
        Ok(())
    }

    /// Stops the broker as SIGTERM does: answers under way leave, groups and logs are closed properly.
    ///
    /// Nothing happens if it is down already. A call that is dropped may end it as a crash does.
    ///
    /// # Errors
    /// A log could not be closed; what was acknowledged is there all the same.
    pub async fn stop(&self) -> Result<(), Error> {
        let _changing = self.changing.lock().await;
        self.stop_unguarded().await
    }

    async fn stop_unguarded(&self) -> Result<(), Error> {
        let Some(mut life) = self.take_life() else { return Ok(()) };
        let stopped = match (life.broker.take(), &life.runtime) {
            (Some(broker), Some(runtime)) => {
                runtime.spawn(broker.stop()).await.map_err(|failed| failed.to_string())
            }
            _ => Ok(Ok(())),
        };
        life.end().await;
        stopped.map_err(Error::Stop)?.map_err(|error| Error::Stop(error.to_string()))
    }

    /// Starts the broker again, on the same port, with what is in its files: [stops](Self::stop) it first if it runs.
    ///
    /// A call that is dropped leaves the broker down.
    ///
    /// # Errors
    /// It did not stop cleanly (then it is down), or it does not start.
    pub async fn restart(&self) -> Result<(), Error> {
        let _changing = self.changing.lock().await;
        self.stop_unguarded().await?;
        self.begin().await
    }

    async fn begin(&self) -> Result<(), Error> {
        let place = self.place.as_ref().ok_or(Error::Down)?;
        let config = self.builder.config(&self.port, place.data_dir())?;
        let disk = place.memory().cloned();
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(self.builder.worker_threads)
            .thread_name("kavka-test")
            .enable_all()
            .build()
            .map_err(|source| Error::Io { action: "start a thread", source })?;
        // From here on dropping it is in good hands.
        let mut life = Life { broker: None, runtime: Some(runtime) };
        let patience = Instant::now() + PATIENCE;
        let rules = Arc::clone(&self.rules);
        let start = async move {
            loop {
                let options = options(&rules, disk.as_ref());
                match Broker::start_with(config.clone(), options).await {
                    // Threads of the life before may still be at work.
                    Err(error) if is_held(&error) && Instant::now() < patience => {
                        tokio::time::sleep(LOOK_AGAIN).await;
                    }
                    started => return started,
                }
            }
        };
        let started = match &life.runtime {
            Some(runtime) => runtime.spawn(start).await,
            None => unreachable!("it was just made"),
        };
        match started {
            Ok(started) => life.broker = Some(started?),
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => unreachable!("nobody ends this runtime but us"),
            },
        }
        *self.life() = Some(life);
        Ok(())
    }

    /// Runs `question` on the broker's own threads.
    pub(crate) async fn ask<T, F>(&self, question: impl FnOnce(Inspector) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let asked = {
            let life = self.life();
            let life = life.as_ref().ok_or(Error::Down)?;
            let (Some(broker), Some(runtime)) = (&life.broker, &life.runtime) else {
                return Err(Error::Down);
            };
            runtime.spawn(question(broker.inspector()))
        };
        match asked.await {
            Ok(answer) => answer,
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Crashed meanwhile.
                Err(_) => Err(Error::Down),
            },
        }
    }

    pub(crate) fn inspector(&self) -> Result<Inspector, Error> {
        let life = self.life();
        let broker = life.as_ref().and_then(|life| life.broker.as_ref()).ok_or(Error::Down)?;
        Ok(broker.inspector())
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    fn life(&self) -> MutexGuard<'_, Option<Life>> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_life(&self) -> Option<Life> {
        self.life().take()
    }
}

impl Life {
    /// Ends everything that runs here and waits until it has.
    async fn end(self) {
        let (ended, end) = oneshot::channel::<()>();
        self.end_on_a_thread(PATIENCE, move || drop(ended));
        let _ = end.await;
    }

    /// Ends everything that runs here, and calls `then` when it has, or does not within `patience`.
    fn end_on_a_thread(mut self, patience: Duration, then: impl FnOnce() + Send + 'static) {
        drop(self.broker.take());
        let Some(runtime) = self.runtime.take() else { return };
        // A runtime can be waited for only on a thread that serves none. Where there is no thread to be had, what the closure
        // holds is dropped: the runtime ends in the background.
        let _ = thread::Builder::new().name("kavka-test-end".to_owned()).spawn(move || {
            runtime.shutdown_timeout(patience);
            then();
        });
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        drop(self.broker.take());
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        let Some(life) = self.take_life() else { return };
        let place = self.place.take();
        let (removed, end) = mpsc::channel::<()>();
        // The files go when nobody makes new ones any more. Waited for, because a process that ends takes its threads along;
        // not for long, because a test should not hang on a broker that does.
        life.end_on_a_thread(DROP_PATIENCE / 2, move || {
            drop(place);
            drop(removed);
        });
        let _ = end.recv_timeout(DROP_PATIENCE);
    }
}

/// What the broker gets from us.
fn options(rules: &Arc<Rules>, disk: Option<&MemoryDisk>) -> StartOptions {
    let open = |disk: MemoryDisk| -> OpenEngines {
        Box::new(move |options| {
            let (engines, _) = storage::open_on_memory(&disk, options, os_random())?;
            Ok(engines)
        })
    };
    StartOptions {
        interceptor: Some(Arc::clone(rules) as Arc<dyn Interceptor>),
        // The files may be removed while threads of the broker still end: no reason to take the test's process along.
        on_disk_failure: Some(Arc::new(storage::ignore)),
        engines: disk.cloned().map(open),
        environment: None,
    }
}

/// Whether what the broker wants may still be held by its own life before, of which nobody saw the end.
fn is_held(error: &StartError) -> bool {
    match error {
        StartError::Log(LogError::Locked { .. }) | StartError::Meta(MetaError::Locked { .. }) => {
            true
        }
        StartError::Listen { source, .. } => source.kind() == io::ErrorKind::AddrInUse,
        _ => false,
    }
}
