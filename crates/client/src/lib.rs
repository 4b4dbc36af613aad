//! A client for Kafka clusters: any Apache Kafka from 2.1 on, and Kavka.
//!
//! * [`Error`]: what went wrong, whether trying again can help, and what to do.
//! * [`settings`]: every setting by the name Kafka gives it, with Kafka's defaults.
//! * [`producer`]: [`Producer`] sends records.
//! * [`consumer`]: [`Consumer`] reads topics, alone or as a member of a group.
//! * [`admin`]: [`Admin`] looks at a cluster and changes it.
//! * [`environment`]: what a client takes from the machine it runs on, and how to put something else in its place.
//! * [`metrics`]: what a consumer or producer has done, and where it stands.
//! * `cluster`: what is known of the cluster (brokers, topics, leaders), and a connection to each broker for each purpose.
//! * `connection`: one connection: TLS and authentication, pipelined requests, negotiated versions, deadlines.
//!
//! It needs a tokio runtime with time and I/O enabled. Nothing here blocks a thread, and dropping anything never waits.

pub mod admin;
mod cluster;
mod connection;
pub mod consumer;
pub mod environment;
mod error;
pub mod metrics;
pub mod producer;
pub mod settings;

pub use bytestring::ByteString;
pub use kavka_member::{IsolationLevel, TopicPartition};
pub use kavka_protocol::{ErrorCode, Uuid};

pub use self::{
    admin::{Admin, AdminBuilder},
    consumer::{Consumer, ConsumerBuilder, ConsumerHandle},
    error::{Error, ErrorKind, Truncation},
    producer::{Delivery, DeliveryFuture, Producer, ProducerBuilder, ProducerRecord},
};

/// What the README shows has to compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
