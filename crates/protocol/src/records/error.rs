use super::Compression;

/// Why bytes could not be read as record batches.
///
/// [`RecordError::is_incomplete`] tells a torn tail (the bytes end before the batch does; more bytes
/// could make it whole) from everything else, which no further bytes can mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The bytes end inside a batch. `needed` is how many the batch has, as far as that is known:
    /// the whole batch where its length field is there, else the bytes up to that knowledge.
    #[error("the bytes end inside a record batch: {available} of {needed} bytes are there")]
    Incomplete {
        /// Bytes from the start of the batch that must be there to go on.
        needed: usize,
        /// Bytes from the start of the batch that are there.
        available: usize,
    },
    /// The length field is smaller than the header that it must cover.
    #[error("batch length {length} is too small for a batch of magic {magic}")]
    InvalidBatchLength {
        /// The length field as read.
        length: i32,
        /// The magic byte as read.
        magic: i8,
    },
    /// The magic byte names no format that can be read here.
    #[error("magic {magic} of a record batch is not supported")]
    UnsupportedMagic {
        /// The magic byte as read.
        magic: i8,
    },
    /// The checksum does not match: the batch was changed on its way or on disk.
    #[error("checksum of the record batch is {computed:08x}, its header says {stored:08x}")]
    CrcMismatch {
        /// Checksum in the header.
        stored: u32,
        /// Checksum of the bytes.
        computed: u32,
    },
    /// The codec bits of the attributes name no codec.
    #[error("compression codec {id} is unknown")]
    UnknownCompression {
        /// The codec bits, 5 to 7.
        id: u8,
    },
    /// The codec is known, but this build leaves it out.
    #[error("this build cannot read {codec}: build with the cargo feature `{codec}`")]
    UnsupportedCompression {
        /// The codec.
        codec: Compression,
    },
    /// The compressed bytes are broken or end too early.
    #[error("{codec} data cannot be decompressed: {reason}")]
    Decompression {
        /// The codec.
        codec: Compression,
        /// What is wrong with the data.
        reason: String,
    },
    /// The records are larger than the caller allows once decompressed.
    #[error("{codec} data decompresses to more than the allowed {limit} bytes")]
    DecompressedTooLarge {
        /// The codec.
        codec: Compression,
        /// The limit that the caller set, in bytes.
        limit: usize,
    },
    /// The checksum is right but a record or its surroundings break the format's rules.
    #[error("invalid record at index {index} of its batch: {reason}")]
    InvalidRecord {
        /// Index of the record in its batch, from 0.
        index: u32,
        /// Which rule is broken.
        reason: &'static str,
    },
    /// The record count of the header is negative.
    #[error("the record batch declares {count} records")]
    InvalidRecordCount {
        /// The count as read.
        count: i32,
    },
}

impl RecordError {
    /// True if the bytes merely end too early, as at the end of a fetch response or a torn tail.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        matches!(self, RecordError::Incomplete { .. })
    }
}
