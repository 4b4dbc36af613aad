//! The two checksums of record batches. Both use the processor's instructions where it has them.

use crc_fast::CrcAlgorithm;

/// CRC-32C (Castagnoli), the checksum of magic 2 batches.
///
/// `crc32c(b"123456789")` is `0xe3069283`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// CRC-32 (ISO-HDLC, as in zip and Ethernet), the checksum of magic 0 and 1 messages.
///
/// `crc32(b"123456789")` is `0xcbf43926`.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32IsoHdlc, bytes) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_values_of_the_catalogue() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32c(b""), 0);
        assert_eq!(crc32(b""), 0);
    }
}
