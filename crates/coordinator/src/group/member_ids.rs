//! Member ids: a name and a random UUID, from a generator that the shell seeds.

use std::fmt::Write;

use kavka_protocol::ByteString;

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough for ids that need to be unique and not secret.
#[derive(Clone, Debug, Hash)]
pub(crate) struct MemberIds {
    state: u64,
}

impl MemberIds {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `prefix-xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx`.
    pub(crate) fn generate(&mut self, prefix: &str) -> ByteString {
        let high = (self.next() & !0xf000) | 0x4000;
        let low = (self.next() & !(0b11 << 62)) | (0b10 << 62);
        let mut id = String::with_capacity(prefix.len() + UUID_LEN + 1);
        id.push_str(prefix);
        // Writing to a string cannot fail.
        let _ = write!(
            id,
            "-{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        );
        ByteString::from(id)
    }
}

/// Characters of a UUID with its hyphens.
pub(crate) const UUID_LEN: usize = 36;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_4_uuids_and_the_seed_decides() {
        let mut ids = MemberIds::new(1);
        let first = ids.generate("consumer-1");
        let uuid = first.strip_prefix("consumer-1-").expect("the prefix");
        assert_eq!(uuid.len(), UUID_LEN);
        assert_eq!(uuid.as_bytes()[14], b'4');
        assert!(matches!(uuid.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        assert_ne!(first, ids.generate("consumer-1"));
        assert_eq!(first, MemberIds::new(1).generate("consumer-1"));
    }
}
