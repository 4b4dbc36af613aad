//! Kafka's hashes, which decide where keys, groups and transactional ids live. They are part of the
//! protocol: a client and a broker that differ lose each other.
//!
//! # References
//!
//! `Utils.murmur2`, `BuiltInPartitioner.partitionForKey`, `GroupCoordinator.partitionFor` of Apache Kafka.

/// MurmurHash2, 32 bit, with the seed of Kafka's default partitioner.
#[must_use]
pub fn murmur2(bytes: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    // Java's array length is an int32; longer keys do not exist there.
    let mut hash = SEED ^ bytes.len() as u32;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        for (i, &byte) in tail.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ (hash >> 15)) as i32
}

/// The hash without its sign bit. Not the absolute value: -1 becomes 2147483647.
#[must_use]
pub fn to_positive(hash: i32) -> u32 {
    (hash & i32::MAX) as u32
}

/// The partition that Kafka's default partitioner puts a non-null `key` in.
///
/// # Panics
///
/// If `partitions` is 0.
#[must_use]
pub fn key_partition(key: &[u8], partitions: u32) -> u32 {
    to_positive(murmur2(key)) % partitions
}

/// Java's `String.hashCode`, over UTF-16 units.
#[must_use]
pub fn java_hash_code(text: &str) -> i32 {
    text.encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// The partition of `__consumer_offsets` that holds a group, or of `__transaction_state` that holds a
/// transactional id: the absolute value of the hash code (0 for -2147483648) modulo `partitions`.
///
/// # Panics
///
/// If `partitions` is 0.
#[must_use]
pub fn group_partition(id: &str, partitions: u32) -> u32 {
    java_hash_code(id).checked_abs().unwrap_or(0) as u32 % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_hash_code_lands_in_partition_zero() {
        // The best known string of hash code -2147483648.
        assert_eq!(java_hash_code("polygenelubricants"), i32::MIN);
        assert_eq!(group_partition("polygenelubricants", 50), 0);
    }

    #[test]
    fn murmur2_of_the_java_unit_test() {
        assert_eq!(murmur2(b"21"), -973_932_308);
        assert_eq!(murmur2(b"foobar"), -790_332_482);
        assert_eq!(murmur2(b"a-little-bit-long-string"), -985_981_536);
        assert_eq!(murmur2(b"abc"), 479_470_107);
    }

    #[test]
    fn hash_code_counts_utf16_units() {
        assert_eq!(java_hash_code(""), 0);
        assert_eq!(java_hash_code("a"), 97);
        assert_eq!(java_hash_code("\u{10000}"), 0xd800 * 31 + 0xdc00);
        assert_eq!(to_positive(-1), 0x7fff_ffff);
    }
}
