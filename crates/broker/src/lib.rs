//! The broker: listeners, connections, request handlers, partitions, timers.

pub mod config;
