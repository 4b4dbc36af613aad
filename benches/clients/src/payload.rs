//! The same values for every client: text that compresses about as events in JSON do.

/// A value of so many bytes; differs with `n`.
pub(crate) fn value(n: u64, size: usize) -> Vec<u8> {
    let mut value = Vec::with_capacity(size + 80);
    let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while value.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let text = format!(
            "{{\"id\":{},\"user\":\"u{}\",\"action\":\"click\",\"at\":{}}}",
            state >> 40,
            state % 5000,
            1_700_000_000_000_u64 + n
        );
        value.extend_from_slice(text.as_bytes());
    }
    value.truncate(size);
    value
}

/// Enough different values to go round.
pub(crate) fn values(size: usize) -> Vec<Vec<u8>> {
    (0..1024).map(|n| value(n, size)).collect()
}
