//! The generator of the message structs: schema text in, Rust text out.

pub mod grammar;
pub mod names;
pub mod rust;
pub mod tables;
