//! The broker: listeners, connections, request handlers, partitions, timers.
//!
//! A thin shell: the group protocol is decided in [`kavka_coordinator`], bytes are kept by [`kavka_log`], topics by
//! [`kavka_meta`], and what crosses the wire is [`kavka_protocol`]'s.
//!
//! * [`Broker::start`] opens a data directory and serves; [`RunningBroker::stop`] ends it cleanly.
//! * `net`: sockets, framing, limits. `dispatch`: headers, versions. `api`: the table of APIs. `handlers`: one file for each.
//! * `topics`, `partition`, `gate`: numbering, sequence checks, the high watermark and who waits for it.
//! * `inspect`: what the program around a broker sees of it without a connection.
//! * `intercept`: what tests put between requests and handlers.
//! * `groups`: the shell around the group coordinator.
//! * `environment`: what a broker takes from the machine it runs on, and how a simulation puts something else in its place.

mod api;
mod authorizer;
mod broker;
mod clock;
pub mod config;
mod dispatch;
mod environment;
mod fetch_session;
mod gate;
mod groups;
mod handlers;
mod inspect;
mod intercept;
mod internal_topics;
mod leader_epochs;
mod maintenance;
mod net;
mod partition;
mod producer_ids;
mod topic_changes;
mod topics;

pub use self::{
    broker::{Broker, Engines, OpenEngines, RunningBroker, StartError, StartOptions},
    config::BrokerConfig,
    environment::{Accept, Accepted, Environment, TimeAndChance, Transport},
    inspect::{InspectError, Inspector, PartitionOffsets},
    intercept::{InterceptedRequest, Interceptor, Verdict, Wait},
};
