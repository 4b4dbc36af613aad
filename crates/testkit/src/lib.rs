//! The Kavka broker inside your own tests.
//!
//! [`TestBroker`] is the production broker, log and group coordinator included, in the process of the test: it listens on a
//! free port of 127.0.0.1, any Kafka client can connect, and it is gone with everything it kept when it is dropped. On top of
//! that it has what tests need and no broker in production has: [waits](TestBroker::wait_for_group) for what the group or a
//! topic is to become, and [crashes](TestBroker::crash) and restarts on the same port.

mod broker;
mod builder;
mod error;
mod port;
pub mod raw;
mod storage;
mod waits;

pub use kavka_broker::PartitionOffsets;
pub use kavka_coordinator::group::GroupState;
pub use kavka_protocol::{ApiKey, ErrorCode, Uuid};

pub use self::{
    broker::TestBroker,
    builder::Builder,
    error::Error,
    storage::Storage,
    waits::{Group, GroupCondition, GroupMember},
};
