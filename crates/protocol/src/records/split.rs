//! Walking a concatenation of magic 2 batches by their headers.

use bytes::Bytes;

use super::{BatchHeader, RecordError};

/// The batches of `bytes`, one after the other, borrowed. Magic 2 only; checksums are not checked.
///
/// ```
/// use kavka_protocol::records::split_batches;
///
/// let bytes: &[u8] = &[];
/// for batch in split_batches(bytes) {
///     let (header, batch) = batch?;
///     println!("{} bytes up to offset {}", batch.len(), header.last_offset());
/// }
/// # Ok::<(), kavka_protocol::records::RecordError>(())
/// ```
#[must_use]
pub fn split_batches(bytes: &[u8]) -> Batches<'_> {
    Batches { bytes, walk: Walk::default() }
}

/// Like [`split_batches`], but each batch is a [`Bytes`] that shares the memory of the whole.
#[must_use]
pub fn split_bytes(bytes: Bytes) -> BatchSlices {
    BatchSlices { bytes, walk: Walk::default() }
}

/// Iterator of [`split_batches`]: header and bytes of each whole batch.
///
/// The first error ends it; [`Batches::position`] then says where the broken or torn batch begins.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    walk: Walk,
}

/// Iterator of [`split_bytes`]: header and bytes of each whole batch.
///
/// The first error ends it; [`BatchSlices::position`] then says where the broken or torn batch begins.
#[derive(Clone, Debug)]
pub struct BatchSlices {
    bytes: Bytes,
    walk: Walk,
}

impl Batches<'_> {
    /// Bytes up to the end of the last batch that was yielded.
    #[must_use]
    pub fn position(&self) -> usize {
        self.walk.position
    }
}

impl BatchSlices {
    /// Bytes up to the end of the last batch that was yielded.
    #[must_use]
    pub fn position(&self) -> usize {
        self.walk.position
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<(BatchHeader, &'a [u8]), RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.walk.position;
        let header = self.walk.advance(self.bytes)?;
        Some(header.map(|header| (header, &self.bytes[start..self.walk.position])))
    }
}

impl Iterator for BatchSlices {
    type Item = Result<(BatchHeader, Bytes), RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.walk.position;
        let header = self.walk.advance(&self.bytes)?;
        Some(header.map(|header| (header, self.bytes.slice(start..self.walk.position))))
    }
}

impl std::iter::FusedIterator for Batches<'_> {}
impl std::iter::FusedIterator for BatchSlices {}

/// How far a walk has come. `position` never passes the end of the bytes.
#[derive(Clone, Debug, Default)]
struct Walk {
    position: usize,
    failed: bool,
}

impl Walk {
    fn advance(&mut self, bytes: &[u8]) -> Option<Result<BatchHeader, RecordError>> {
        let rest = &bytes[self.position..];
        if rest.is_empty() || self.failed {
            return None;
        }
        let header = BatchHeader::parse(rest).and_then(|header| {
            let needed = header.size_in_bytes();
            if needed > rest.len() {
                Err(RecordError::Incomplete { needed, available: rest.len() })
            } else {
                Ok(header)
            }
        });
        match &header {
            Ok(header) => self.position += header.size_in_bytes(),
            Err(_) => self.failed = true,
        }
        Some(header)
    }
}
