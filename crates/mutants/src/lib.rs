//! A switch for bugs made by hand, for the simulation to find (`docs/simulation.md`). The pure crates ask it by name at the places
//! where such a bug would be.
//!
//! The bugs exist only in a build with `--cfg kavka_mutants`. In any other the answer is a constant no, nothing can be switched, and
//! what is behind the question is folded away: the pure crates stay pure.

#[cfg(kavka_mutants)]
mod switch {
    use std::cell::Cell;

    thread_local! {
        static ACTIVE: Cell<&'static str> = const { Cell::new("") };
    }

    /// From here on, the machines of this thread have this bug; none if empty.
    pub fn activate(name: &'static str) {
        ACTIVE.with(|active| active.set(name));
    }

    /// Whether the machines of this thread have this bug.
    #[must_use]
    pub fn mutant(name: &str) -> bool {
        ACTIVE.with(|active| active.get() == name)
    }
}

#[cfg(kavka_mutants)]
pub use self::switch::{activate, mutant};

/// No.
#[cfg(not(kavka_mutants))]
#[must_use]
pub const fn mutant(_name: &str) -> bool {
    false
}
