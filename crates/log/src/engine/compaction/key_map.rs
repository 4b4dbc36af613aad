//! The last offset of each key, in bounded memory.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

/// Bytes that an entry takes in the map, with the map's spare room.
const ENTRY_BYTES: usize = 48;

/// Maps keys to their last offsets. Keys are kept as 128 bits of two keyed hashes, which change with
/// each map, so that nobody can make two keys collide on purpose, and by chance none will.
#[derive(Debug)]
pub(super) struct KeyMap {
    hashers: (RandomState, RandomState),
    offsets: HashMap<(u64, u64), i64, BuildHasherDefault<AsItIs>>,
    capacity: usize,
}

impl KeyMap {
    pub(super) fn new(memory_bytes: usize) -> Self {
        Self {
            hashers: (RandomState::new(), RandomState::new()),
            offsets: HashMap::default(),
            capacity: (memory_bytes / ENTRY_BYTES).max(1),
        }
    }

    /// Whether `keys` more may be added. An empty map takes any number, so that there is progress.
    pub(super) fn has_room_for(&self, keys: usize) -> bool {
        self.offsets.is_empty() || self.offsets.len() + keys <= self.capacity
    }

    /// Notes a record. Offsets come in ascending order.
    pub(super) fn note(&mut self, key: &[u8], offset: i64) {
        let hash = self.hash(key);
        self.offsets.insert(hash, offset);
    }

    /// Whether no later record of that key was noted.
    pub(super) fn is_last(&self, key: &[u8], offset: i64) -> bool {
        self.offsets.get(&self.hash(key)).is_none_or(|&last| offset >= last)
    }

    fn hash(&self, key: &[u8]) -> (u64, u64) {
        (self.hashers.0.hash_one(key), self.hashers.1.hash_one(key))
    }
}

/// The hash of what is a hash already: its first half.
#[derive(Debug, Default)]
struct AsItIs(Option<u64>);

impl Hasher for AsItIs {
    fn write_u64(&mut self, half: u64) {
        self.0.get_or_insert(half);
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only pairs of u64 are hashed");
    }

    fn finish(&self) -> u64 {
        self.0.unwrap_or_default()
    }
}
