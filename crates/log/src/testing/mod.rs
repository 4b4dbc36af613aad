//! What tests of this crate and of others need: batches to append, a file system that crashes, and the
//! suite that every engine has to pass.

mod batches;
pub mod conformance;
mod listener;
mod sim_fs;

pub use batches::{Batch, marker, payload};
pub use listener::Durable;
pub use sim_fs::{FailPlan, SimFs, Survival};
