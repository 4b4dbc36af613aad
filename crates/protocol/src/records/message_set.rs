//! Walking what may hold batches of any magic, as a fetch response of an old topic does.

use super::header::MAGIC_AT;
use super::header::i32_at;
use super::{BatchHeader, Decompressor, LegacyMessage, RecordError, Records, verify_crc};
use super::{LOG_OVERHEAD, MAGIC_V2, legacy};

/// The batches of `bytes`, of magic 0, 1 and 2 in any mixture. An incomplete last one is left out
/// silently, for a broker may cut a response at its size limit. Checksums are not checked.
#[must_use]
pub fn message_set(bytes: &[u8]) -> MessageSet<'_> {
    MessageSet { rest: bytes }
}

/// Iterator of [`message_set`]. The first error ends it.
#[derive(Clone, Debug)]
pub struct MessageSet<'a> {
    rest: &'a [u8],
}

/// A batch of any magic. A magic 0 or 1 message that is not compressed counts as a batch of one.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum AnyBatch<'a> {
    /// Magic 0 or 1.
    Legacy(LegacyMessage<'a>),
    /// Magic 2: the header and the whole batch.
    V2(BatchHeader, &'a [u8]),
}

impl<'a> AnyBatch<'a> {
    /// Offset of the last record.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        match self {
            AnyBatch::Legacy(message) => message.offset,
            AnyBatch::V2(header, _) => header.last_offset(),
        }
    }

    /// Bytes of the batch.
    #[must_use]
    pub fn size_in_bytes(&self) -> usize {
        match self {
            AnyBatch::Legacy(message) => message.size_in_bytes(),
            AnyBatch::V2(_, batch) => batch.len(),
        }
    }

    /// Checks the batch's checksum.
    ///
    /// # Errors
    ///
    /// [`RecordError::CrcMismatch`].
    pub fn verify_crc(&self) -> Result<(), RecordError> {
        match self {
            AnyBatch::Legacy(message) => message.verify_crc(),
            AnyBatch::V2(_, batch) => verify_crc(batch),
        }
    }

    /// The records of the batch.
    ///
    /// # Errors
    ///
    /// As [`Decompressor::records`] and [`Decompressor::legacy_records`].
    pub fn records<'d>(
        &self,
        decompressor: &'d mut Decompressor,
    ) -> Result<Records<'d>, RecordError>
    where
        'a: 'd,
    {
        match self {
            AnyBatch::Legacy(message) => decompressor.legacy_records(message),
            AnyBatch::V2(header, batch) => decompressor.records(header, batch),
        }
    }
}

impl<'a> Iterator for MessageSet<'a> {
    type Item = Result<AnyBatch<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = std::mem::take(&mut self.rest);
        if bytes.len() < LOG_OVERHEAD {
            return None;
        }
        // Too small for any magic: corruption even if the magic byte is not there any more.
        let length = i32_at(bytes, 8);
        if length < legacy::MIN_SIZE {
            let magic = bytes.get(MAGIC_AT).map_or(MAGIC_V2, |&magic| magic as i8);
            return Some(Err(RecordError::InvalidBatchLength { length, magic }));
        }
        let batch = match bytes.get(MAGIC_AT)? {
            0 | 1 => LegacyMessage::parse(bytes).map(AnyBatch::Legacy),
            _ => BatchHeader::parse(bytes).and_then(|header| {
                let needed = header.size_in_bytes();
                let available = bytes.len();
                let batch =
                    bytes.get(..needed).ok_or(RecordError::Incomplete { needed, available })?;
                Ok(AnyBatch::V2(header, batch))
            }),
        };
        match batch {
            Ok(batch) => {
                self.rest = &bytes[batch.size_in_bytes()..];
                Some(Ok(batch))
            }
            Err(error) if error.is_incomplete() => None,
            Err(error) => Some(Err(error)),
        }
    }
}

impl std::iter::FusedIterator for MessageSet<'_> {}
