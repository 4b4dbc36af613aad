//! The operating system, or what stands in for it.

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
    time::SystemTime,
};

/// What stands in for the operating system where it is asked for the time of day and for random numbers.
pub trait TimeAndChance: Send + Sync {
    /// The time of day, for the timestamps of records and commits, and for what expires.
    fn now(&self) -> SystemTime;

    /// A number in which every bit is as likely 0 as 1: it spreads retries and load, and names members of groups and fetch sessions.
    /// Not for secrets.
    fn random(&self) -> u64;
}

/// The machine that something runs on: the operating system unless there is an `E` in its place.
pub struct Machine<E: ?Sized>(Option<Arc<E>>);

impl<E: ?Sized> Machine<E> {
    /// With this in the place of the operating system.
    pub fn new(environment: Arc<E>) -> Self {
        Self(Some(environment))
    }

    /// What stands in for the operating system.
    pub fn environment(&self) -> Option<&E> {
        self.0.as_deref()
    }
}

impl<E: TimeAndChance + ?Sized> Machine<E> {
    /// The time of day.
    pub fn now(&self) -> SystemTime {
        self.environment().map_or_else(SystemTime::now, E::now)
    }

    /// Of the operating system: from the keys of the standard library's hash maps, which nobody can guess and which differ for each
    /// of them, and each process.
    pub fn random(&self) -> u64 {
        match self.environment() {
            Some(environment) => environment.random(),
            None => RandomState::new().build_hasher().finish(),
        }
    }
}

/// With this in the place of the operating system, if there is one.
impl<E: ?Sized> From<Option<Arc<E>>> for Machine<E> {
    fn from(environment: Option<Arc<E>>) -> Self {
        Self(environment)
    }
}

impl<E: ?Sized> Clone for Machine<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E: ?Sized> Default for Machine<E> {
    fn default() -> Self {
        Self(None)
    }
}

impl<E: ?Sized> fmt::Debug for Machine<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Machine(replaced)" } else { "Machine" })
    }
}

/// Two are equal if they are the same.
impl<E: ?Sized> PartialEq for Machine<E> {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl<E: ?Sized> Eq for Machine<E> {}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::UNIX_EPOCH};

    use super::*;

    struct Still;

    impl TimeAndChance for Still {
        fn now(&self) -> SystemTime {
            UNIX_EPOCH
        }

        fn random(&self) -> u64 {
            4
        }
    }

    #[test]
    fn the_operating_system_gives_other_numbers_each_time() {
        let machine = Machine::<dyn TimeAndChance>::default();
        let numbers: BTreeSet<u64> = (0..100).map(|_| machine.random()).collect();
        assert_eq!(numbers.len(), 100);
    }

    #[test]
    fn what_stands_in_for_the_operating_system_is_asked_in_its_place() {
        let still: Arc<dyn TimeAndChance> = Arc::new(Still);
        let machine = Machine::new(Arc::clone(&still));
        assert_eq!((machine.now(), machine.random()), (UNIX_EPOCH, 4));
        assert_eq!(machine, machine.clone());
        assert_eq!(machine, Machine::new(still));
        let another: Arc<dyn TimeAndChance> = Arc::new(Still);
        assert_ne!(machine, Machine::new(another));
        assert_ne!(machine, Machine::default());
    }
}
