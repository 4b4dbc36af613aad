//! Fingerprints of states: 64 bits that are equal for states with the same future.
//!
//! Time is taken relative to the present, and names that count up (requests, commits, revocations) by the order in which they appear:
//! the machines hash the ones as `u128`, the others as `i128`, and nothing else so. Of `n` states about `n * n / 2^65` pairs fall
//! together by chance and are taken for one: for ten million states that is one chance in 370,000 that a single state was missed.

use std::{
    fmt::{self, Debug, Write},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

/// Whatever is further away than this, either way, is as good as never: longer than every timeout of a small world.
pub(super) const HORIZON_MS: u64 = 120_000;

/// See the module.
#[derive(Debug)]
pub(super) struct StateHasher {
    inner: DefaultHasher,
    now_ms: i128,
    /// Those that have appeared, in this order. `None`: numbers are hashed as they are.
    names: Option<Vec<i128>>,
}

impl StateHasher {
    /// For what is of the coordinator: its numbers mean what they are.
    pub(super) fn new(now_ms: u64) -> Self {
        Self { inner: DefaultHasher::new(), now_ms: now_ms.into(), names: None }
    }

    /// For a client: of its `u64`s, which count ownerships and seed the spread of retries, and of its names only equality counts.
    pub(super) fn of_client(now_ms: u64) -> Self {
        Self { names: Some(Vec::with_capacity(16)), ..Self::new(now_ms) }
    }

    fn name(&mut self, name: i128) {
        let Some(names) = &mut self.names else { return self.inner.write_i128(name) };
        let known = names.iter().position(|known| *known == name);
        let index = known.unwrap_or_else(|| {
            names.push(name);
            names.len() - 1
        });
        self.inner.write_usize(index);
    }
}

impl Hasher for StateHasher {
    fn finish(&self) -> u64 {
        self.inner.finish()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.inner.write(bytes);
    }

    /// An instant.
    fn write_u128(&mut self, nanos: u128) {
        let ms = i128::try_from(nanos / 1_000_000).unwrap_or(i128::MAX);
        let horizon = i128::from(HORIZON_MS);
        self.inner.write_i128((ms - self.now_ms).clamp(-horizon, horizon));
    }

    /// A name that counts up.
    fn write_i128(&mut self, name: i128) {
        self.name(name);
    }

    fn write_u64(&mut self, number: u64) {
        if self.names.is_some() {
            self.name(number.into());
        } else {
            self.inner.write_u64(number);
        }
    }

    /// How often something was tried in a row, in a client. With a backoff of zero it matters only whether it was.
    fn write_u32(&mut self, number: u32) {
        self.inner.write_u32(if self.names.is_some() { number.min(1) } else { number });
    }
}

/// Something that does not change any more, with the digest of what it says.
#[derive(Debug)]
pub(super) struct Sealed<T> {
    what: Arc<T>,
    digest: u64,
}

impl<T: Debug> Sealed<T> {
    pub(super) fn new(what: T) -> Self {
        let mut digest = Digest(DefaultHasher::new());
        // Writing to a digest does not fail.
        let _ = write!(digest, "{what:?}");
        Self { what: Arc::new(what), digest: digest.0.finish() }
    }

    pub(super) fn what(&self) -> &T {
        &self.what
    }
}

impl<T> Clone for Sealed<T> {
    fn clone(&self) -> Self {
        Self { what: Arc::clone(&self.what), digest: self.digest }
    }
}

impl<T> Hash for Sealed<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.digest.to_le_bytes());
    }
}

struct Digest(DefaultHasher);

impl Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kavka_member::RequestId;
    use kavka_protocol::Monotonic;

    use super::*;

    fn of_client(now: u64, what: impl Hash) -> u64 {
        let mut hasher = StateHasher::of_client(now);
        what.hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn the_same_at_another_time_and_after_more_requests_is_the_same() {
        let at = |now: u64, first: u64| {
            let deadline = Monotonic::from_millis(now + 300);
            of_client(now, (deadline, RequestId(first), RequestId(first + 4), RequestId(first)))
        };
        assert_eq!(at(1_000, 7), at(5_000, 90));
        let other = (Monotonic::from_millis(1_300), RequestId(7), RequestId(11), RequestId(11));
        assert_ne!(at(1_000, 7), of_client(1_000, other));
        assert_ne!(at(1_000, 7), of_client(1_001, (Monotonic::from_millis(1_300), 7)));
    }

    #[test]
    fn what_is_sealed_is_told_apart_by_what_it_says() {
        let [a, b, c] = ["a", "b", "a"].map(|what| of_client(0, Sealed::new(what)));
        assert_eq!(a, c);
        assert_ne!(a, b);
    }
}
