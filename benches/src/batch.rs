//! Record batches built once and sent many times.

use anyhow::Context;
use bytes::Bytes;
use kavka_protocol::records::BatchBuilder;

/// A batch as a producer sends it, base offset 0, uncompressed, and how many records it has.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) bytes: Bytes,
    pub(crate) records: i64,
}

impl Batch {
    /// As many records with values of `value_bytes` as go into `batch_bytes`, one at least. `timestamp_ms` is that of all.
    ///
    /// The values are pseudo-random bytes, so that nothing on the way can win by finding them equal.
    pub(crate) fn build(
        batch_bytes: usize,
        value_bytes: usize,
        timestamp_ms: i64,
    ) -> anyhow::Result<Batch> {
        let mut builder = BatchBuilder::new(0);
        let mut value = vec![0; value_bytes];
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let record_bytes = BatchBuilder::record_size_bound(0, value_bytes, 0, 0);
        while builder.record_count() == 0 || builder.size() + record_bytes <= batch_bytes {
            for byte in &mut value {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                *byte = random as u8;
            }
            builder.append(timestamp_ms, None, Some(&value), &[])?;
        }
        let records = i64::try_from(builder.record_count())?;
        let bytes = builder.build().context("cannot build a batch")?;
        Ok(Batch { bytes, records })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kavka_protocol::records::{BatchHeader, LOG_OVERHEAD, verify_crc};

    use super::*;

    #[test]
    fn a_batch_is_valid_and_as_full_as_it_can_be() {
        let batch = Batch::build(16 * 1024, 100, 1_700_000_000_000).unwrap();
        verify_crc(&batch.bytes).unwrap();
        let header = BatchHeader::parse(&batch.bytes).unwrap();
        assert_eq!(header.batch_length as usize + LOG_OVERHEAD, batch.bytes.len());
        assert_eq!(i64::from(header.record_count), batch.records);
        assert!((16 * 1024 - 130..=16 * 1024).contains(&batch.bytes.len()));
    }

    #[test]
    fn a_record_larger_than_the_batch_still_goes_in() {
        assert_eq!(Batch::build(100, 1000, 0).unwrap().records, 1);
    }
}
