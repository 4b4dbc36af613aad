//! Configs: what names there are, what values they take, how they are described and altered.
//!
//! A [`ConfigDef`] says all there is to know about one config; [`topic`] and [`group`] hold the tables of what can be set on
//! a topic and on a group, and the broker has one of its own. Values travel and are stored as text; they are parsed when
//! they are validated, described or resolved into a struct.
//!
//! Everything here is a pure function: the store is [`crate::ClusterMeta`]'s, the wire is the broker's.

mod alter;
mod definition;
mod describe;
mod error;
pub mod group;
pub mod topic;

pub use alter::{Alteration, ConfigOp, MAX_VALUE_BYTES, apply_incremental, apply_replacement};
pub use definition::{ConfigDef, ConfigType, Effect, Importance, Valid, Value, find};
pub use describe::{BrokerValues, ConfigEntry, ConfigSource, Synonym};
pub use error::ConfigError;
pub use topic::TOPIC_CONFIGS;
