//! Bugs made by hand, for the simulation to find. They exist only when compiled with `--cfg kavka_mutants`; any other build
//! folds the question away.

#[cfg(kavka_mutants)]
mod switch {
    use std::cell::Cell;

    thread_local! {
        static ACTIVE: Cell<&'static str> = const { Cell::new("") };
    }

    /// From here on, on this thread, the machine has this bug; none if empty.
    pub fn activate(name: &'static str) {
        ACTIVE.with(|active| active.set(name));
    }

    /// Whether the machine has this bug.
    pub(crate) fn mutant(name: &str) -> bool {
        ACTIVE.with(|active| active.get() == name)
    }
}

#[cfg(kavka_mutants)]
pub use self::switch::activate;
#[cfg(kavka_mutants)]
pub(crate) use self::switch::mutant;

/// No.
#[cfg(not(kavka_mutants))]
pub(crate) const fn mutant(_name: &str) -> bool {
    false
}
