//! Zig-zag varints inside records, with the limits of Kafka's `ByteUtils`: an int32 takes up to 5
//! bytes and an int64 up to 10, overlong forms included; bits beyond the width are dropped.

/// Takes an int32 off `input`; `None` if it ends early or goes on after 5 bytes.
#[inline]
pub(super) fn take_i32(input: &mut &[u8]) -> Option<i32> {
    let mut value = 0_u32;
    for shift in (0..=28).step_by(7) {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i32 ^ -((value & 1) as i32));
        }
    }
    None
}

/// Takes an int64 off `input`; `None` if it ends early or goes on after 10 bytes.
#[inline]
pub(super) fn take_i64(input: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..=63).step_by(7) {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

#[inline]
pub(super) fn put_i32(out: &mut Vec<u8>, value: i32) {
    put_i64(out, i64::from(value));
}

#[inline]
pub(super) fn put_i64(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Bytes that `value` takes.
#[inline]
pub(super) fn size(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[inline]
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read_back() {
        let edges = [0, 1, -1, 63, 64, -64, -65, 8191, 8192, 300, i64::from(i32::MAX)];
        let wide = [i64::from(i32::MIN), i64::from(i32::MAX) + 1, i64::MAX, i64::MIN];
        for value in edges.into_iter().chain(wide) {
            let mut out = Vec::new();
            put_i64(&mut out, value);
            assert_eq!(out.len(), size(value), "{value}");
            assert_eq!(take_i64(&mut out.as_slice()), Some(value));
            for cut in 0..out.len() {
                assert_eq!(take_i64(&mut &out[..cut]), None);
            }
            if let Ok(narrow) = i32::try_from(value) {
                let input = &mut out.as_slice();
                assert_eq!(take_i32(input), Some(narrow));
                assert!(input.is_empty());
            }
        }
    }

    #[test]
    fn overlong_forms_end_where_kafka_ends_them() {
        assert_eq!(take_i32(&mut [0x80, 0x80, 0x80, 0x80, 0x00].as_slice()), Some(0));
        assert_eq!(take_i32(&mut [0x80, 0x80, 0x80, 0x80, 0x80, 0x00].as_slice()), None);
        assert_eq!(take_i32(&mut [0xff, 0xff, 0xff, 0xff, 0x7f].as_slice()), Some(i32::MIN));
        let mut long = [0x80; 10];
        assert_eq!(take_i64(&mut long.as_slice()), None);
        long[9] = 0;
        assert_eq!(take_i64(&mut long.as_slice()), Some(0));
    }
}
