//! The Kavka broker inside your own tests.
//!
//! [`TestBroker`] is the production broker, log and group coordinator included, in the process of the test: it listens on a
//! free port of 127.0.0.1, any Kafka client can connect, and it is gone with everything it kept when it is dropped. It starts in
//! about a millisecond, so each test has one of its own. On top of that it has what tests need and no broker in production has:
//!
//! * Waits for what a group or a topic is to become, whose errors tell what it is instead: [`TestBroker::wait_for_group`],
//!   [`wait_for_records`](TestBroker::wait_for_records), [`wait_for_committed`](TestBroker::wait_for_committed).
//! * [`TestBroker::crash`] and [`restart`](TestBroker::restart), on the same port, with what the broker had written;
//!   [`power_loss`](TestBroker::power_loss), after which there is only what it had synced.
//! * Rules that delay, hold, ignore, fail or lose chosen requests: [`TestBroker::on`].
//! * Records put into topics and read from them without a client: [`TestBroker::produce`] and
//!   [`records`](TestBroker::records).
//! * A log of the requests that came: [`TestBroker::requests`].
//! * A client that speaks the protocol and nothing else: [`raw`].
//!
//! A test that is not `async` has the same with [`BlockingTestBroker`].
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//!
//! use kavka_testkit::{
//!     ApiKey, Error, ErrorCode, GroupCondition, TestBroker,
//!     raw::{RawClient, batch},
//! };
//!
//! const PATIENCE: Duration = Duration::from_secs(10);
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! // In a test of yours: #[tokio::test] async fn orders_are_kept() -> Result<(), Error> {
//! let broker = TestBroker::builder().topic("orders", 6).start().await;
//!
//! // What is tested connects to broker.bootstrap_servers(). Here it is the raw client.
//! let mut producer = RawClient::connect(broker.addr()).await;
//! let orders = producer.topic_id("orders").await;
//!
//! // The first produce fails as if the disk was in trouble; a real client tries again by itself.
//! let trouble = broker.on(ApiKey::Produce).first(1).fail(ErrorCode::KafkaStorageError);
//! let failed = producer.produce(orders, 0, batch(&["first"])).await;
//! assert_eq!(failed.error_code, ErrorCode::KafkaStorageError);
//! producer.produce(orders, 0, batch(&["first", "second"])).await;
//! assert_eq!(trouble.hits(), 1);
//! broker.wait_for_records("orders", 2, PATIENCE).await?;
//!
//! // Nobody has joined yet, and the error says so.
//! let stable = GroupCondition::stable().with_members(2);
//! let error = broker.wait_for_group("billing", stable, Duration::from_millis(5)).await.unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "group billing was not Stable with 2 members within 5ms: it is not there"
//! );
//!
//! // What was acknowledged survives.
//! broker.crash().await;
//! broker.restart().await?;
//! assert_eq!(broker.end_offsets("orders")?, [2, 0, 0, 0, 0, 0]);
//! # Ok(())
//! # }
//! ```
//!
//! # Limits
//!
//! A test broker is a cluster of one: several brokers in one cluster are not supported. Time is real: a session timeout of ten
//! seconds takes ten seconds, so give members short ones. Nothing is encrypted and nobody is authenticated.

mod blocking;
mod broker;
mod builder;
mod error;
mod port;
pub mod raw;
mod records;
mod rules;
mod storage;
mod waits;

pub use kavka_broker::PartitionOffsets;
pub use kavka_coordinator::group::GroupState;
pub use kavka_protocol::{ApiKey, ErrorCode, Uuid};

#[doc(hidden)]
pub use self::storage::open_on_memory;
pub use self::{
    blocking::BlockingTestBroker,
    broker::TestBroker,
    builder::Builder,
    error::Error,
    records::{NewRecord, Record},
    rules::{Rule, RuleBuilder, SeenRequest},
    storage::Storage,
    waits::{Group, GroupCondition, GroupMember},
};
