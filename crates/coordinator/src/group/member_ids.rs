//! Member ids: a name and a random UUID, from a generator that the shell seeds.

use std::fmt::Write;

use kavka_protocol::{ByteString, SplitMix64};

/// Ids that are unique, and not secret.
#[derive(Clone, Debug, Hash)]
pub(crate) struct MemberIds {
    random: SplitMix64,
}

impl MemberIds {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: SplitMix64::new(seed) }
    }

    /// `prefix-xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx`.
    pub(crate) fn generate(&mut self, prefix: &str) -> ByteString {
        let high = (self.random.draw() & !0xf000) | 0x4000;
        let low = (self.random.draw() & !(0b11 << 62)) | (0b10 << 62);
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
