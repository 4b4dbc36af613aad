//! The test broker for tests that have no runtime.
//!
//! A broker runs on threads of its own, so nothing here needs a runtime either: the calls of [`TestBroker`] are waited for on the
//! thread that makes them.

use std::{
    collections::BTreeMap,
    ops::Deref,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use kavka_protocol::Uuid;

use crate::{Builder, Error, Group, GroupCondition, NewRecord, Record, Rule, TestBroker};

/// A [`TestBroker`] whose calls block, for tests that are not `async`.
///
/// It is one: what of `TestBroker` does not wait ([`on`](TestBroker::on), [`addr`](TestBroker::addr),
/// [`end_offsets`](TestBroker::end_offsets), …) is there as it is, and what waits has the same name, arguments and errors here.
/// Not to be used on a thread that runs other futures: it would hold them up.
///
/// ```
/// use std::time::Duration;
///
/// use kavka_testkit::{BlockingTestBroker, Error, TestBroker};
///
/// # fn main() -> Result<(), Error> {
/// let broker: BlockingTestBroker = TestBroker::builder().topic("orders", 1).start_blocking();
/// // What is tested connects to broker.bootstrap_servers(). Here the broker itself takes the records.
/// broker.produce("orders", 0, ["first", "second"])?;
/// broker.crash();
/// broker.restart()?;
/// broker.wait_for_records("orders", 2, Duration::from_secs(10))?;
/// assert_eq!(broker.records("orders")?[1].text(), "second");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct BlockingTestBroker(TestBroker);

impl Builder {
    /// As [`start`](Self::start), for tests that are not `async`.
    ///
    /// # Panics
    /// If it cannot be started, with the reason. See [`try_start_blocking`](Self::try_start_blocking).
    pub fn start_blocking(self) -> BlockingTestBroker {
        BlockingTestBroker(wait_for(self.start()))
    }

    /// As [`try_start`](Self::try_start), for tests that are not `async`.
    ///
    /// # Errors
    /// A property or topic that is refused; or no port, thread or directory could be had.
    pub fn try_start_blocking(self) -> Result<BlockingTestBroker, Error> {
        wait_for(self.try_start()).map(BlockingTestBroker)
    }
}

impl TestBroker {
    /// As [`start`](Self::start), for tests that are not `async`.
    ///
    /// # Panics
    /// If it cannot be started, with the reason.
    pub fn start_blocking() -> BlockingTestBroker {
        Self::builder().start_blocking()
    }
}

impl Deref for BlockingTestBroker {
    type Target = TestBroker;

    fn deref(&self) -> &TestBroker {
        &self.0
    }
}

#[expect(clippy::missing_errors_doc, reason = "they are those of the call it stands for")]
impl BlockingTestBroker {
    /// See [`TestBroker::create_topic`].
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<Uuid, Error> {
        wait_for(self.0.create_topic(name, partitions))
    }

    /// See [`TestBroker::create_topic_with`].
    pub fn create_topic_with(
        &self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<Uuid, Error> {
        wait_for(self.0.create_topic_with(name, partitions, configs))
    }

    /// See [`TestBroker::produce`].
    pub fn produce<R: Into<NewRecord>>(
        &self,
        topic: &str,
        partition: i32,
        records: impl IntoIterator<Item = R>,
    ) -> Result<i64, Error> {
        wait_for(self.0.produce(topic, partition, records))
    }

    /// See [`TestBroker::records`].
    pub fn records(&self, topic: &str) -> Result<Vec<Record>, Error> {
        wait_for(self.0.records(topic))
    }

    /// See [`TestBroker::committed`].
    pub fn committed(&self, group: &str) -> Result<BTreeMap<(String, i32), i64>, Error> {
        wait_for(self.0.committed(group))
    }

    /// See [`TestBroker::group`].
    pub fn group(&self, group: &str) -> Result<Group, Error> {
        wait_for(self.0.group(group))
    }

    /// See [`TestBroker::wait_for_group`].
    pub fn wait_for_group(
        &self,
        group: &str,
        condition: GroupCondition,
        timeout: Duration,
    ) -> Result<Group, Error> {
        wait_for(self.0.wait_for_group(group, condition, timeout))
    }

    /// See [`TestBroker::wait_for_records`].
    pub fn wait_for_records(
        &self,
        topic: &str,
        records: u64,
        timeout: Duration,
    ) -> Result<Vec<i64>, Error> {
        wait_for(self.0.wait_for_records(topic, records, timeout))
    }

    /// See [`TestBroker::wait_for_committed`].
    pub fn wait_for_committed(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
        offset: i64,
        timeout: Duration,
    ) -> Result<i64, Error> {
        wait_for(self.0.wait_for_committed(group, topic, partition, offset, timeout))
    }

    /// See [`TestBroker::wait_for_hits`].
    pub fn wait_for_hits(&self, rule: &Rule, hits: u64, timeout: Duration) -> Result<u64, Error> {
        wait_for(self.0.wait_for_hits(rule, hits, timeout))
    }

    /// See [`TestBroker::crash`].
    pub fn crash(&self) {
        wait_for(self.0.crash());
    }

    /// See [`TestBroker::power_loss`].
    pub fn power_loss(&self) -> Result<(), Error> {
        wait_for(self.0.power_loss())
    }

    /// See [`TestBroker::stop`].
    pub fn stop(&self) -> Result<(), Error> {
        wait_for(self.0.stop())
    }

    /// See [`TestBroker::restart`].
    pub fn restart(&self) -> Result<(), Error> {
        wait_for(self.0.restart())
    }
}

/// Wakes the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread, which sleeps while there is nothing to do.
fn wait_for<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
