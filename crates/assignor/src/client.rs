//! The assignors of the classic protocol, which run in the client that leads the group.

mod range;
mod round_robin;
mod sticky;

pub use self::{
    range::Range,
    round_robin::RoundRobin,
    sticky::{CooperativeSticky, Sticky},
};
