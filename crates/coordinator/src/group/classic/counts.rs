//! How many members have which property.

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
};

/// A count for each key that was added. Nearly always there is one key: all members of a group are alike. It is kept in place,
/// since a map's node has room for eleven, and there are many small groups.
#[derive(Clone, Debug)]
pub(super) struct Counts<K> {
    /// `None` only if `more` is empty too, or its key went while others stay.
    one: Option<(K, usize)>,
    more: BTreeMap<K, usize>,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self { one: None, more: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Counts<K> {
    pub(super) fn add(&mut self, key: &K) {
        if let Some(count) = self.count_mut(key) {
            *count += 1;
        } else if self.one.is_none() {
            self.one = Some((key.clone(), 1));
        } else {
            self.more.insert(key.clone(), 1);
        }
    }

    /// Takes back what was added once.
    pub(super) fn remove(&mut self, key: &K) {
        let Some(count) = self.count_mut(key) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        if self.more.remove(key).is_none() {
            self.one = None;
        }
    }

    pub(super) fn get(&self, key: &K) -> usize {
        match &self.one {
            Some((one, count)) if one == key => *count,
            _ => self.more.get(key).copied().unwrap_or(0),
        }
    }

    /// The largest key.
    pub(super) fn largest(&self) -> Option<&K> {
        let one = self.one.as_ref().map(|(key, _)| key);
        one.max(self.more.last_key_value().map(|(key, _)| key))
    }

    fn count_mut(&mut self, key: &K) -> Option<&mut usize> {
        match &mut self.one {
            Some((one, count)) if one == key => Some(count),
            _ => self.more.get_mut(key),
        }
    }

    fn all(&self) -> BTreeMap<&K, usize> {
        let one = self.one.iter().map(|(key, count)| (key, *count));
        one.chain(self.more.iter().map(|(key, count)| (key, *count))).collect()
    }
}

/// Whichever key is kept in place.
impl<K: Ord + Clone> PartialEq for Counts<K> {
    fn eq(&self, other: &Self) -> bool {
        self.all() == other.all()
    }
}

impl<K: Ord + Clone + Hash> Hash for Counts<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.all().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_as_a_map_does(changes in prop::collection::vec((any::<bool>(), 0..4), 0..40)) {
            let (mut counts, mut map) = (Counts::default(), BTreeMap::<i32, usize>::new());
            for (added, key) in changes {
                if added {
                    counts.add(&key);
                    *map.entry(key).or_default() += 1;
                } else if map.get(&key).is_some_and(|count| *count > 0) {
                    counts.remove(&key);
                    *map.entry(key).or_default() -= 1;
                }
                map.retain(|_, count| *count > 0);
                prop_assert_eq!(counts.all(), map.iter().map(|(key, count)| (key, *count)).collect());
                prop_assert_eq!(counts.largest(), map.last_key_value().map(|(key, _)| key));
                for key in 0..4 {
                    prop_assert_eq!(counts.get(&key), map.get(&key).copied().unwrap_or(0));
                }
            }
        }
    }
}
