//! Reading a log by offset and by time.

use std::sync::Arc;

use kavka_protocol::records::{BatchHeader, Decompressor, NO_TIMESTAMP, RecordError};

use super::lock;
use super::log::{SegmentLog, State};
use super::segment::{Access, ReadError, ReadRange, Scan, Scanned, Segment, Verify, View};
use crate::fs::Fs;
use crate::{LogError, Slice, TimestampOffset};

/// What a read found without touching a file.
enum Start {
    Done(Slice),
    Segment(Found),
}

/// The segment to read first.
struct Found {
    segment: Arc<Segment>,
    view: View,
    /// No other segment follows.
    last: bool,
    /// The layout that was seen.
    layout: u64,
}

/// The segments of a log at one moment.
pub(super) struct Segments {
    pub(super) all: Vec<(Arc<Segment>, View)>,
    pub(super) log_start: i64,
    pub(super) log_end: i64,
    max_decompressed_bytes: usize,
    layout: u64,
}

impl Segments {
    pub(super) fn of(state: &State) -> Self {
        let segments = state.segments.iter().enumerate();
        Self {
            all: segments.map(|(i, segment)| (Arc::clone(segment), state.view(i))).collect(),
            log_start: state.log_start,
            log_end: state.log_end,
            max_decompressed_bytes: state.config.max_decompressed_bytes,
            layout: state.layout,
        }
    }
}

impl State {
    /// What must hold of a segment now.
    pub(super) fn view(&self, index: usize) -> View {
        let segment = &self.segments[index];
        View {
            len: segment.len(),
            end_offset: self.segments.get(index + 1).map_or(self.log_end, |s| s.base_offset),
            gaps_below: self.gaps_below,
            max_epoch: self.epochs.latest().map_or(-1, |(epoch, _)| epoch),
            interval: self.config.index_interval_bytes,
            cuts: segment.cuts(),
        }
    }

    /// The segment that holds `offset`, or would.
    fn find(&self, offset: i64) -> Option<Found> {
        let after = self.segments.partition_point(|segment| segment.base_offset <= offset);
        let index = after.saturating_sub(1);
        let segment = self.segments.get(index)?;
        Some(Found {
            segment: Arc::clone(segment),
            view: self.view(index),
            last: index + 1 == self.segments.len(),
            layout: self.layout,
        })
    }
}

impl SegmentLog {
    pub(super) fn read(&self, range: ReadRange, access: Access) -> Result<Slice, ReadError> {
        let fs = &*self.shared.fs;
        let mut from = range.from;
        loop {
            let Found { segment, view, last, layout } = match self.start_read(from, &range)? {
                Start::Done(slice) => return Ok(slice),
                Start::Segment(found) => found,
            };
            let part = ReadRange { from, ..range };
            let result = segment.read(fs, &part, &view, access);
            if lock(&self.state).layout != layout {
                // The bytes were cut, deleted or replaced while they were read.
                continue;
            }
            match result? {
                Some(slice) => return Ok(slice),
                None if from >= view.gaps_below => {
                    return Err(missing(&segment, &view, from).into());
                }
                None if last => return Ok(Slice { chunks: Vec::new(), next_offset: from }),
                // Compaction emptied the rest of the segment.
                None => from = view.end_offset.max(from),
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
            let Some(Found { segment, view, last, layout }) = found else { return Ok(()) };
            let mut position = None;
            while position.is_none_or(|position| position < view.len) && next < up_to {
                let read = segment.headers(fs, next, position, &view, &mut window, &mut headers);
                if lock(&self.state).layout != layout {
                    // The bytes were cut, deleted or replaced while they were read.
                    headers.clear();
                    continue 'segments;
                }
                for header in headers.drain(..).filter(|header| header.base_offset < up_to) {
                    next = header.next_offset();
                    visit(&header);
                }
                position = Some(read?);
            }
            if last {
                return Ok(());
            }
            if next < view.end_offset.min(up_to) && next >= view.gaps_below {
                return Err(missing(&segment, &view, next).into());
            }
            next = next.max(view.end_offset);
        }
        Ok(())
    }

    pub(super) fn offset_for_timestamp(
        &self,
        timestamp: i64,
    ) -> Result<Option<TimestampOffset>, LogError> {
        self.steady(|segments| self.search(segments, timestamp))
    }

    pub(super) fn max_timestamp(&self) -> Result<Option<TimestampOffset>, LogError> {
        self.steady(|segments| {
            let mut largest = NO_TIMESTAMP;
            for (segment, view) in &segments.all {
                // What lies below the log start does not count, and the index does not tell it
                // apart.
                if view.end_offset <= segments.log_start {
                    continue;
                }
                let newest = if segment.base_offset < segments.log_start {
                    largest_from(&*self.shared.fs, segment, view, segments)?
                } else {
                    segment.max_timestamp(&*self.shared.fs, view)?
                };
                largest = largest.max(newest);
            }
            if largest == NO_TIMESTAMP {
                return Ok(None);
            }
            self.search(segments, largest)
        })
    }

    /// Looks at the segments, and again if they were cut, deleted or replaced meanwhile.
    fn steady<R>(&self, look: impl Fn(&Segments) -> Result<R, LogError>) -> Result<R, LogError> {
        loop {
            let segments = {
                let state = lock(&self.state);
                self.check_readable(&state)?;
                Segments::of(&state)
            };
            let result = look(&segments);
            if lock(&self.state).layout == segments.layout {
                return result;
            }
        }
    }

    fn search(
        &self,
        segments: &Segments,
        timestamp: i64,
    ) -> Result<Option<TimestampOffset>, LogError> {
        let fs = &*self.shared.fs;
        let mut decompressor = None;
        for (segment, view) in &segments.all {
            if view.end_offset <= segments.log_start {
                // Nobody can read it, and what a crash brought back of it need not be whole.
                continue;
            }
            if segment.max_timestamp(fs, view)? < timestamp {
                continue;
            }
            let position = segment.position_of_timestamp(fs, timestamp, view)?;
            let file = segment.file(fs)?;
            let mut scan = Scan::new(&*file, &segment.path, position, view.len);
            while let Some(batch) = scan.next(Verify::Crc)? {
                let header = &batch.header;
                if header.max_timestamp < timestamp || header.last_offset() < segments.log_start {
                    continue;
                }
                let decompressor = decompressor
                    .get_or_insert_with(|| Decompressor::new(segments.max_decompressed_bytes));
                let found = first_record(decompressor, &batch, segments.log_start, timestamp)
                    .map_err(|error| segment.corrupt(&batch, &error))?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }
}

/// A segment ends too early, or the next one is gone.
fn missing(segment: &Segment, view: &View, from: i64) -> LogError {
    let reason = format!("offsets {from}..{} are missing", view.end_offset);
    segment.out_of_order(view.len, view.len, reason)
}

/// The largest timestamp of a segment's records from the log start on; -1 for none.
fn largest_from(
    fs: &dyn Fs,
    segment: &Segment,
    view: &View,
    segments: &Segments,
) -> Result<i64, LogError> {
    let mut decompressor = Decompressor::new(segments.max_decompressed_bytes);
    let mut largest = NO_TIMESTAMP;
    let file = segment.file(fs)?;
    let mut scan = Scan::new(&*file, &segment.path, 0, view.len);
    while let Some(batch) = scan.next(Verify::Crc)? {
        let header = &batch.header;
        if header.base_offset >= segments.log_start {
            if header.record_count > 0 {
                largest = largest.max(header.max_timestamp);
            }
        } else if header.last_offset() >= segments.log_start {
            let bad = |error: RecordError| segment.corrupt(&batch, &error);
            for record in decompressor.records(header, batch.bytes).map_err(bad)? {
                let record = record.map_err(bad)?;
                if record.offset >= segments.log_start {
                    largest = largest.max(record.timestamp);
                }
            }
        }
    }
    Ok(largest)
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
