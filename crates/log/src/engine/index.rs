//! The index of a segment: sparse, in memory while the segment is used, and on disk as a cache.
//!
//! The file is a chain of blocks, each with its own checksum and each going on where the one before
//! ended. Blocks are appended when the log's recovery point moves, and cover only synced bytes.

use bytes::{Buf, BufMut};
use kavka_protocol::records::{BatchHeader, NO_TIMESTAMP, crc32c};

const MAGIC: u32 = 0x4b49_4458; // "KIDX"
const HEADER_BYTES: usize = 52;
const ENTRY_BYTES: usize = 16;

/// Where a batch is, and what is known of the batches before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// Base offset of the batch, relative to the segment's.
    relative_offset: u32,
    /// Its position in the segment.
    position: u32,
    /// Largest timestamp of all batches before it in the segment; −1 for none.
    max_timestamp_before: i64,
}

/// Where to begin to look for a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Anchor {
    pub(crate) position: u64,
    /// Base offset of the batch at that position, if the index has an entry for it.
    pub(crate) base_offset: Option<i64>,
}

/// An index. It covers a prefix of its segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    base_offset: i64,
    entries: Vec<Entry>,
    /// Position after the last batch that was noted.
    covered: u64,
    /// Offset after that batch.
    next_offset: i64,
    max_timestamp: i64,
    /// What the file holds, for the next block to go on.
    persisted: Persisted,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Persisted {
    file_len: u64,
    covered: u64,
    entries: usize,
}

impl Index {
    pub(crate) fn new(base_offset: i64) -> Self {
        Self {
            base_offset,
            entries: Vec::new(),
            covered: 0,
            next_offset: base_offset,
            max_timestamp: NO_TIMESTAMP,
            persisted: Persisted::default(),
        }
    }

    /// Notes the batch at `position`, which is where the index ends.
    pub(crate) fn note(&mut self, header: &BatchHeader, position: u64, interval: u32) {
        assert_eq!(position, self.covered, "index of segment {}", self.base_offset);
        let due = match self.entries.last() {
            None => true,
            Some(last) => position - u64::from(last.position) > u64::from(interval),
        };
        let relative = u32::try_from(header.base_offset - self.base_offset);
        if due
            && let Ok(relative_offset) = relative
            && let Ok(position) = u32::try_from(position)
        {
            let max_timestamp_before = self.max_timestamp;
            self.entries.push(Entry { relative_offset, position, max_timestamp_before });
        }
        if header.record_count > 0 {
            self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        }
        self.covered = position + header.size_in_bytes() as u64;
        self.next_offset = header.next_offset();
    }

    pub(crate) fn covered(&self) -> u64 {
        self.covered
    }

    /// Offset after the last covered batch; the segment's before there is one.
    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Largest timestamp of the covered batches; −1 for none.
    pub(crate) fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// A batch at or before the one that contains `offset`.
    pub(crate) fn anchor_of_offset(&self, offset: i64) -> Anchor {
        let after = self
            .entries
            .partition_point(|e| self.base_offset + i64::from(e.relative_offset) <= offset);
        let entry = after.checked_sub(1).map(|i| &self.entries[i]);
        entry.map_or(Anchor { position: 0, base_offset: None }, |entry| Anchor {
            position: u64::from(entry.position),
            base_offset: Some(self.base_offset + i64::from(entry.relative_offset)),
        })
    }

    /// Base offset of the batch at `position`, if there is an entry for it.
    pub(crate) fn base_offset_at(&self, position: u64) -> Option<i64> {
        let found = self.entries.binary_search_by_key(&position, |e| u64::from(e.position)).ok()?;
        Some(self.base_offset + i64::from(self.entries[found].relative_offset))
    }

    /// A position before which all timestamps are smaller than `timestamp`.
    pub(crate) fn position_of_timestamp(&self, timestamp: i64) -> u64 {
        let after = self.entries.partition_point(|e| e.max_timestamp_before < timestamp);
        after.checked_sub(1).map_or(0, |i| u64::from(self.entries[i].position))
    }

    /// Whether the file lacks batches below `synced`.
    pub(crate) fn has_unpersisted(&self, synced: u64) -> bool {
        self.persisted.covered < self.covered.min(synced)
    }

    /// The next block, which covers the batches noted so far, and where in the file it belongs. Only
    /// for an index whose covered part is synced.
    pub(crate) fn next_block(&self) -> (u64, Vec<u8>) {
        let entries = &self.entries[self.persisted.entries..];
        let mut block = Vec::with_capacity(HEADER_BYTES + ENTRY_BYTES * entries.len());
        block.put_u32(MAGIC);
        block.put_u32(0);
        block.put_i64(self.base_offset);
        block.put_u64(self.persisted.covered);
        block.put_u64(self.covered);
        block.put_i64(self.next_offset);
        block.put_i64(self.max_timestamp);
        block.put_u32(entries.len() as u32);
        for entry in entries {
            block.put_u32(entry.relative_offset);
            block.put_u32(entry.position);
            block.put_i64(entry.max_timestamp_before);
        }
        let crc = crc32c(&block[8..]);
        block[4..8].copy_from_slice(&crc.to_be_bytes());
        (self.persisted.file_len, block)
    }

    /// Notes that the block of [`next_block`](Self::next_block), made when the index covered
    /// `covered` bytes in `entries` entries, is in the file.
    pub(crate) fn block_written(&mut self, block_len: usize, covered: u64, entries: usize) {
        self.persisted =
            Persisted { file_len: self.persisted.file_len + block_len as u64, covered, entries };
    }

    /// The file is gone, or not to be relied on.
    pub(crate) fn forget_file(&mut self) {
        self.persisted = Persisted::default();
    }

    /// Bytes of the file that hold what was read or written.
    pub(crate) fn file_len(&self) -> u64 {
        self.persisted.file_len
    }

    pub(crate) fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// Reads as many blocks as are whole and belong to a segment of `segment_len` bytes.
    pub(crate) fn decode(base_offset: i64, mut file: &[u8], segment_len: u64) -> Self {
        let mut index = Self::new(base_offset);
        while let Some((block_len, next)) = index.decode_block(file, segment_len) {
            index = next;
            file = &file[block_len..];
        }
        index
    }

    fn decode_block(&self, file: &[u8], segment_len: u64) -> Option<(usize, Self)> {
        let mut block = file;
        if block.len() < HEADER_BYTES || block.get_u32() != MAGIC {
            return None;
        }
        let crc = block.get_u32();
        let base_offset = block.get_i64();
        let start = block.get_u64();
        let covered = block.get_u64();
        let next_offset = block.get_i64();
        let max_timestamp = block.get_i64();
        let count = block.get_u32() as usize;
        let block_len = HEADER_BYTES.checked_add(count.checked_mul(ENTRY_BYTES)?)?;
        let belongs = base_offset == self.base_offset
            && start == self.covered
            && covered > start
            && covered <= segment_len
            && next_offset > self.next_offset;
        if !belongs || crc != crc32c(file.get(8..block_len)?) {
            return None;
        }
        let mut next = self.clone();
        for _ in 0..count {
            let entry = Entry {
                relative_offset: block.get_u32(),
                position: block.get_u32(),
                max_timestamp_before: block.get_i64(),
            };
            let ascends = next.entries.last().is_none_or(|last| {
                last.relative_offset < entry.relative_offset && last.position < entry.position
            });
            if !ascends || !(start..covered).contains(&u64::from(entry.position)) {
                return None;
            }
            next.entries.push(entry);
        }
        next.next_offset = next_offset;
        next.covered = covered;
        next.max_timestamp = max_timestamp;
        next.persisted = Persisted {
            file_len: self.persisted.file_len + block_len as u64,
            covered,
            entries: next.entries.len(),
        };
        Some((block_len, next))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kavka_protocol::records::Attributes;

    fn header(base_offset: i64, max_timestamp: i64) -> BatchHeader {
        BatchHeader {
            base_offset,
            batch_length: 88,
            partition_leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes: Attributes(0),
            last_offset_delta: 9,
            base_timestamp: 0,
            max_timestamp,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 10,
        }
    }

    /// Batches of 100 bytes and 10 offsets, an entry each 300 bytes.
    fn sample(batches: i64) -> Index {
        let mut index = Index::new(1000);
        for i in 0..batches {
            index.note(&header(1000 + 10 * i, 50 - (i % 7)), 100 * i as u64, 200);
        }
        index
    }

    #[test]
    fn finds_a_position_at_or_before() {
        let index = sample(10);
        for offset in 1000..1100 {
            let Anchor { position, base_offset } = index.anchor_of_offset(offset);
            let batch = (offset - 1000) as u64 / 10 * 100;
            assert_eq!(base_offset, Some(1000 + position as i64 / 10));
            assert!(position <= batch && batch - position < 300, "{offset}: {position}");
        }
        assert_eq!(index.position_of_timestamp(50), 0);
        assert_eq!(
            index.position_of_timestamp(51),
            900,
            "after the last entry with less before it"
        );
    }

    #[test]
    fn blocks_chain_and_lead_back() {
        let mut file = Vec::new();
        let mut index = Index::new(1000);
        for i in 0..20 {
            index.note(&header(1000 + 10 * i, i), 100 * i as u64, 200);
            if i % 6 == 5 {
                let (at, block) = index.next_block();
                assert_eq!(at, file.len() as u64);
                file.extend_from_slice(&block);
                index.block_written(block.len(), index.covered(), index.entry_count());
            }
        }
        let read = Index::decode(1000, &file, 2000);
        assert_eq!(read.covered(), 1800);
        assert_eq!(read.max_timestamp(), 17);
        assert_eq!(read.entries, index.entries[..read.entries.len()]);
        assert_eq!(read.persisted.file_len, file.len() as u64);
        assert!(!read.has_unpersisted(2000) && index.has_unpersisted(2000));
    }

    #[test]
    fn damage_shortens_the_chain() {
        let mut index = sample(10);
        let (_, mut file) = index.next_block();
        index.block_written(file.len(), index.covered(), index.entry_count());
        let first = file.len();
        index.note(&header(1100, 99), 1000, 200);
        file.extend_from_slice(&index.next_block().1);
        for at in 0..file.len() {
            let mut bad = file.clone();
            bad[at] ^= 0x10;
            let covered = Index::decode(1000, &bad, 1100).covered();
            assert_eq!(covered, if at < first { 0 } else { 1000 }, "byte {at}");
        }
        assert_eq!(Index::decode(0, &file, 1100).covered(), 0, "another segment's");
        assert_eq!(Index::decode(1000, &file, 1000).covered(), 1000, "beyond a cut segment");
    }
}
