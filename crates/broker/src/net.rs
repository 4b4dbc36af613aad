//! Sockets: accepting connections, framing requests, writing answers in order, and the limits on all of that.
//!
//! Owns bytes and time-outs; knows nothing of what a request means ([`crate::dispatch`] does).

pub(crate) mod budget;
mod connection;
mod limits;
mod listener;
mod socket;

pub(crate) use self::{
    connection::{Answer, CloseReason},
    limits::Limits,
    listener::Listener,
};
