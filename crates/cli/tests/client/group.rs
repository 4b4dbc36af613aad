//! `kavka group`.

mod change;
mod check;
mod look;
mod seek;
