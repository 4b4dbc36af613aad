//! Configs: what names there are, what values they take, and how they are described and altered.

mod error;

pub use error::ConfigError;
