//! Reading a log by offset and by time.

use std::sync::Arc;

use kavka_protocol::records::{BatchHeader, Decompressor, NO_TIMESTAMP, RecordError};

use super::lock;
use super::log::{SegmentLog, State};
use super::segment::{Access, ReadError, ReadRange, Scan, Scanned, Segment, Verify};
use crate::{LogConfig, LogError, Slice, TimestampOffset};

/// What a read found without touching a file.
enum Start {
    Done(Slice),
    Segment(Found),
}

/// The segment to read first.
struct Found {
    segment: Arc<Segment>,
    /// Its readable length.
    len: u64,
    /// The base offset of the next one.
    next_base: Option<i64>,
    /// The layout that was seen.
    layout: u64,
}

impl SegmentLog {
    pub(super) fn read(&self, range: ReadRange, access: Access) -> Result<Slice, ReadError> {
        let fs = &*self.shared.fs;
        let mut from = range.from;
        loop {
            let Found { segment, len, next_base, layout } = match self.start_read(from, &range)? {
                Start::Done(slice) => return Ok(slice),
                Start::Segment(found) => found,
            };
            let interval = self.config().index_interval_bytes;
            let part = ReadRange { from, ..range };
            let result = segment.read(fs, &part, len, interval, access);
            if lock(&self.state).layout != layout {
                // The bytes were cut, deleted or replaced while they were read.
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
        Ok(match state.find(from) {
            Some(found) => Start::Segment(found),
            None => Start::Done(Slice { chunks: Vec::new(), next_offset: from }),
        })
    }

    pub(super) fn headers(
        &self,
        from: i64,
        visit: &mut dyn FnMut(&BatchHeader),
    ) -> Result<(), ReadError> {
        let fs = &*self.shared.fs;
        let up_to = lock(&self.state).log_end;
        let (mut next, mut headers, mut window) = (from, Vec::new(), Vec::new());
        'segments: while next < up_to {
            let found = {
                let state = lock(&self.state);
                self.check_readable(&state)?;
                if next < state.log_start || next > state.log_end {
                    return Err(state.out_of_range(next).into());
                }
                state.find(next)
            };
            let Some(Found { segment, len, next_base, layout }) = found else { return Ok(()) };
            let interval = self.config().index_interval_bytes;
            let first = segment.locate(fs, next, len, interval, Access::Blocking)?;
            let mut position = first.map_or(len, |(position, _)| position);
            while position < len && next < up_to {
                position = segment.headers(fs, position, len, &mut window, &mut headers)?;
                if lock(&self.state).layout != layout {
                    // The bytes were cut, deleted or replaced while they were read.
                    headers.clear();
                    continue 'segments;
                }
                for header in headers.drain(..).filter(|header| header.base_offset < up_to) {
                    next = header.next_offset();
                    visit(&header);
                }
            }
            match next_base {
                Some(base) => next = next.max(base),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    pub(super) fn offset_for_timestamp(
        &self,
        timestamp: i64,
    ) -> Result<Option<TimestampOffset>, LogError> {
        self.steady(|segments, log_start, config| {
            self.search(segments, log_start, config, timestamp)
        })
    }

    pub(super) fn max_timestamp(&self) -> Result<Option<TimestampOffset>, LogError> {
        self.steady(|segments, log_start, config| {
            let mut largest = NO_TIMESTAMP;
            for segment in segments {
                let newest =
                    segment.max_timestamp(&*self.shared.fs, config.index_interval_bytes)?;
                largest = largest.max(newest);
            }
            if largest == NO_TIMESTAMP {
                return Ok(None);
            }
            self.search(segments, log_start, config, largest)
        })
    }

    /// Looks at the segments, and again if they were cut, deleted or replaced meanwhile.
    fn steady<R>(
        &self,
        look: impl Fn(&[Arc<Segment>], i64, &LogConfig) -> Result<R, LogError>,
    ) -> Result<R, LogError> {
        loop {
            let (segments, log_start, config, layout) = {
                let state = lock(&self.state);
                self.check_readable(&state)?;
                let config = Arc::clone(&state.config);
                (state.segments.clone(), state.log_start, config, state.layout)
            };
            let result = look(&segments, log_start, &config);
            if lock(&self.state).layout == layout {
                return result;
            }
        }
    }

    fn search(
        &self,
        segments: &[Arc<Segment>],
        log_start: i64,
        config: &LogConfig,
        timestamp: i64,
    ) -> Result<Option<TimestampOffset>, LogError> {
        let (fs, interval) = (&*self.shared.fs, config.index_interval_bytes);
        let mut decompressor = None;
        for segment in segments {
            if segment.max_timestamp(fs, interval)? < timestamp {
                continue;
            }
            let position = segment.position_of_timestamp(fs, timestamp, interval)?;
            let file = segment.file(fs)?;
            let mut scan = Scan::new(&*file, &segment.path, position, segment.len());
            while let Some(batch) = scan.next(Verify::Crc)? {
                if batch.header.max_timestamp < timestamp || batch.header.last_offset() < log_start
                {
                    continue;
                }
                let decompressor = decompressor
                    .get_or_insert_with(|| Decompressor::new(config.max_decompressed_bytes));
                let found = first_record(decompressor, &batch, log_start, timestamp)
                    .map_err(|error| segment.corrupt(&batch, &error))?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }
}

impl State {
    /// The segment that holds `offset`, or would.
    fn find(&self, offset: i64) -> Option<Found> {
        let after = self.segments.partition_point(|segment| segment.base_offset <= offset);
        let index = after.saturating_sub(1);
        let segment = self.segments.get(index)?;
        Some(Found {
            segment: Arc::clone(segment),
            len: segment.len(),
            next_base: self.segments.get(index + 1).map(|next| next.base_offset),
            layout: self.layout,
        })
    }
}

/// The first record of a batch at or after `offset` and `timestamp`.
fn first_record(
    decompressor: &mut Decompressor,
    batch: &Scanned<'_>,
    offset: i64,
    timestamp: i64,
) -> Result<Option<TimestampOffset>, RecordError> {
    for record in decompressor.records(&batch.header, batch.bytes)? {
        let record = record?;
        if record.offset >= offset && record.timestamp >= timestamp {
            return Ok(Some(TimestampOffset {
                timestamp: record.timestamp,
                offset: record.offset,
                leader_epoch: batch.header.partition_leader_epoch,
            }));
        }
    }
    Ok(None)
}
