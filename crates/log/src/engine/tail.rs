//! The recently appended batches, kept in memory, so that consumers which keep up cause no reads.

use std::collections::VecDeque;

use bytes::Bytes;
use kavka_protocol::records::split_batches;

use crate::Slice;

/// What an entry costs beside its bytes, roughly.
const ENTRY_OVERHEAD: usize = 96;

#[derive(Debug)]
struct Entry {
    base_offset: i64,
    end_offset: i64,
    batches: Bytes,
}

/// A contiguous run of appends that ends at the log end.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Tail {
    /// Memory in use.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds an append, and drops the oldest ones beyond the budget.
    pub(crate) fn push(
        &mut self,
        base_offset: i64,
        end_offset: i64,
        batches: Bytes,
        budget: usize,
    ) {
        self.bytes += batches.len() + ENTRY_OVERHEAD;
        self.entries.push_back(Entry { base_offset, end_offset, batches });
        while self.bytes > budget {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.batches.len() + ENTRY_OVERHEAD;
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Reads as [`PartitionLog::read`](crate::PartitionLog::read) does; `None` if `from` is older
    /// than the tail.
    pub(crate) fn read(
        &self,
        from: i64,
        up_to: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Option<Slice> {
        if self.entries.front()?.base_offset > from {
            return None;
        }
        let first = self.entries.partition_point(|entry| entry.end_offset <= from);
        let mut slice = Slice { chunks: Vec::new(), next_offset: from };
        let mut bytes = 0;
        for entry in self.entries.range(first..) {
            let whole = entry.base_offset >= from
                && entry.end_offset <= up_to
                && bytes + entry.batches.len() <= max_bytes;
            let chunk = if whole {
                slice.next_offset = entry.end_offset;
                entry.batches.clone()
            } else {
                part(entry, from, up_to, max_bytes, bytes, at_least_one, &mut slice.next_offset)
            };
            bytes += chunk.len();
            if !chunk.is_empty() {
                slice.chunks.push(chunk);
            }
            if slice.next_offset < entry.end_offset {
                break;
            }
        }
        Some(slice)
    }
}

/// The batches of an entry that a read may return, when it is not all of them.
fn part(
    entry: &Entry,
    from: i64,
    up_to: i64,
    max_bytes: usize,
    bytes_before: usize,
    at_least_one: bool,
    next_offset: &mut i64,
) -> Bytes {
    let (mut start, mut end) = (None, 0);
    let mut position = 0;
    for (header, batch) in split_batches(&entry.batches).flatten() {
        let after = position + batch.len();
        if header.last_offset() < from {
            position = after;
            continue;
        }
        let begin = *start.get_or_insert(position);
        let first = bytes_before == 0 && begin == position;
        let fits = bytes_before + after - begin <= max_bytes || (first && at_least_one);
        if header.last_offset() >= up_to || !fits {
            break;
        }
        *next_offset = header.next_offset();
        end = after;
        position = after;
    }
    let begin = start.unwrap_or(0);
    if end > begin { entry.batches.slice(begin..end) } else { Bytes::new() }
}
