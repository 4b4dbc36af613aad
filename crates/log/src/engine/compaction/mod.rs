//! Compaction: keeping the last record of each key.
//!
//! A pass reads the dirty part (what was appended since the last pass and is decided) into a map from
//! key to last offset, then rewrites all sealed segments up to the end of the map. Offsets never
//! change. The active segment is never touched, so the log end stays where it is.
//!
//! As in Kafka's `Cleaner`; KIP-534 for when tombstones and markers go.

mod key_map;
#[cfg(test)]
mod tests;
mod transactions;

use std::path::Path;
use std::sync::Arc;

use kavka_protocol::records::{
    BatchBuilder, BatchHeader, Compression, Compressor, ControlType, Decompressor,
};

use self::key_map::KeyMap;
use self::transactions::Transactions;
use super::index::Index;
use super::log::{SegmentLog, sync_dir};
use super::read::Segments;
use super::segment::{Scan, Scanned, Segment, Verify, View};
use super::{lock, names, recovery};
use crate::fs::{File, OpenMode, write_full};
use crate::{CompactionReport, LogConfig, LogError, MaintenanceContext};

/// Bytes of a new segment that are gathered before they are written.
const WRITE_BYTES: usize = 1 << 20;

/// What is to be compacted.
struct Plan {
    /// All sealed segments, oldest first.
    sealed: Vec<(Arc<Segment>, View)>,
    log_start: i64,
    dirty_from: i64,
    dirty_end: i64,
}

impl SegmentLog {
    /// A pass, if one is due. The caller holds the maintenance lock.
    pub(super) fn compact(
        self: &Arc<Self>,
        now_ms: i64,
        context: &dyn MaintenanceContext,
        config: &LogConfig,
    ) -> Result<Option<CompactionReport>, LogError> {
        let Some(plan) = self.plan(now_ms, context, config)? else { return Ok(None) };
        if !self.is_due(&plan, now_ms, config)? {
            return Ok(None);
        }
        let aborted = context.aborted_transactions(plan.log_start, plan.dirty_end);
        let mut pass = Pass {
            now_ms,
            context,
            config,
            map: KeyMap::new(self.shared.options.compaction_map_bytes),
            map_end: plan.dirty_from,
            transactions: Transactions::new(aborted.clone()),
            decompressor: Decompressor::new(config.max_decompressed_bytes),
            report: CompactionReport::default(),
        };
        if !self.build_map(&plan, &mut pass, Transactions::new(aborted))? {
            return Ok(None);
        }
        if pass.map_end <= plan.dirty_from {
            return Ok(None);
        }
        {
            // The recovery point must be in the active segment, in both slots, since its position in
            // any other one would be wrong after the pass.
            let mut sync = lock(&self.sync);
            let gaps_below = pass.map_end;
            self.write_turning_point(&mut sync, |c| c.gaps_below = c.gaps_below.max(gaps_below))?;
            let mut state = lock(&self.state);
            state.gaps_below = state.gaps_below.max(gaps_below);
        }
        for group in group(&plan, pass.map_end, config) {
            if !self.rewrite(&group, &mut pass)? {
                return Ok(None);
            }
        }
        {
            let mut sync = lock(&self.sync);
            lock(&self.state).clean_up_to = pass.map_end;
            self.write_turning_point(&mut sync, |_| {})?;
        }
        let report = CompactionReport { clean_up_to: pass.map_end, ..pass.report };
        tracing::info!(
            "{}: compacted up to offset {}: {} of {} records, {} of {} bytes kept",
            self.id,
            report.clean_up_to,
            report.records_kept,
            report.records_read,
            report.bytes_after,
            report.bytes_before
        );
        Ok(Some(report))
    }

    /// Finds the dirty part, if there is one.
    fn plan(
        &self,
        now_ms: i64,
        context: &dyn MaintenanceContext,
        config: &LogConfig,
    ) -> Result<Option<Plan>, LogError> {
        let (segments, dirty_from) = {
            let state = lock(&self.state);
            (Segments::of(&state), state.clean_up_to.max(state.log_start))
        };
        let Segments { all: mut sealed, log_start, .. } = segments;
        let Some((active, _)) = sealed.pop() else { return Ok(None) };
        let active_base = active.base_offset;
        let mut dirty_end = context.last_stable_offset().min(active_base);
        if config.min_compaction_lag_ms > 0 {
            for (segment, view) in &sealed {
                if view.end_offset <= dirty_from {
                    continue;
                }
                let newest = segment.max_timestamp(&*self.shared.fs, view)?;
                let age = i128::from(now_ms) - i128::from(newest);
                if age < i128::from(config.min_compaction_lag_ms) {
                    dirty_end = dirty_end.min(segment.base_offset);
                    break;
                }
            }
        }
        let plan = Plan { sealed, log_start, dirty_from, dirty_end };
        Ok((plan.dirty_from < plan.dirty_end).then_some(plan))
    }

    /// Whether enough is dirty, or something is dirty for too long.
    fn is_due(&self, plan: &Plan, now_ms: i64, config: &LogConfig) -> Result<bool, LogError> {
        let (mut clean, mut dirty, mut first_dirty) = (0, 0, None);
        for (segment, view) in &plan.sealed {
            if view.end_offset <= plan.dirty_from {
                clean += segment.len();
            } else if segment.base_offset < plan.dirty_end {
                dirty += segment.len();
                first_dirty = first_dirty.or(Some(segment));
            }
        }
        if dirty == 0 {
            return Ok(false);
        }
        if dirty as f64 / (clean + dirty) as f64 > config.min_cleanable_dirty_ratio {
            return Ok(true);
        }
        let Some(segment) = first_dirty else { return Ok(false) };
        let file = segment.file(&*self.shared.fs)?;
        let mut scan = Scan::new(&*file, &segment.path, 0, segment.len());
        let Some(first) = scan.next(Verify::Header)? else { return Ok(false) };
        let age = i128::from(now_ms) - i128::from(first.header.max_timestamp);
        Ok(first.header.max_timestamp >= 0 && age > i128::from(config.max_compaction_lag_ms))
    }

    /// First reading: notes the last offset of each key in the dirty part, or in as much of it as
    /// the map holds. `false` when interrupted.
    fn build_map(
        &self,
        plan: &Plan,
        pass: &mut Pass<'_>,
        mut transactions: Transactions,
    ) -> Result<bool, LogError> {
        let fs = &*self.shared.fs;
        for (segment, view) in &plan.sealed {
            let end = view.end_offset;
            if end <= plan.dirty_from || segment.base_offset >= plan.dirty_end {
                continue;
            }
            let file = segment.file(fs)?;
            let mut scan = Scan::new(&*file, &segment.path, 0, segment.len());
            while let Some(batch) = scan.next(Verify::Crc)? {
                if self.interrupted() {
                    return Ok(false);
                }
                let header = batch.header;
                if header.last_offset() >= plan.dirty_end {
                    return Ok(true);
                }
                let is_data = !header.is_control() && !transactions.is_aborted(&header);
                if header.is_control() {
                    let commit = pass.is_commit(segment, &batch)?;
                    transactions.ends_empty(&header, commit);
                }
                if header.last_offset() < plan.dirty_from {
                    continue;
                }
                if !pass.map.has_room_for(usize::try_from(header.record_count).unwrap_or(0)) {
                    pass.report.map_full = true;
                    return Ok(true);
                }
                if is_data {
                    pass.note_keys(segment, &batch)?;
                }
                pass.map_end = header.next_offset();
            }
            pass.map_end = pass.map_end.max(end.min(plan.dirty_end));
        }
        Ok(true)
    }

    /// Second reading: writes what is kept of some neighbouring segments into one, and puts that in
    /// their place. `false` when interrupted.
    fn rewrite(self: &Arc<Self>, group: &Group, pass: &mut Pass<'_>) -> Result<bool, LogError> {
        let fs = &*self.shared.fs;
        let cleaned = names::file(&self.dir, group.base(), names::CLEANED);
        match self.write_cleaned(group, pass, &cleaned) {
            Ok(Some(new)) => {
                pass.report.bytes_after += new.len();
                self.swap(group, new, &cleaned)?;
                Ok(true)
            }
            unfinished => {
                if let Err(error) = fs.remove_file(&cleaned) {
                    tracing::debug!("{} was not removed: {error}", cleaned.display());
                }
                unfinished.map(|_| false)
            }
        }
    }

    fn write_cleaned(
        &self,
        group: &Group,
        pass: &mut Pass<'_>,
        cleaned: &Path,
    ) -> Result<Option<Segment>, LogError> {
        let fs = &*self.shared.fs;
        let io = |error| LogError::io("write", cleaned, error);
        let file = fs.open(cleaned, OpenMode::Create).map_err(io)?;
        let mut out = Output {
            file: &*file,
            index: Index::new(group.base()),
            buffer: Vec::new(),
            written: 0,
        };
        for (segment, view) in &group.segments {
            pass.report.bytes_before += segment.len();
            // Readers that already found the segment keep its file and index.
            segment.pin(fs, view)?;
            let old = segment.file(fs)?;
            let mut scan = Scan::new(&*old, &segment.path, 0, segment.len());
            while let Some(batch) = scan.next(Verify::Crc)? {
                if self.interrupted() {
                    return Ok(None);
                }
                pass.keep(segment, &batch, &mut out).map_err(|error| error.at(cleaned))?;
            }
        }
        out.flush().map_err(io)?;
        let new = Segment::compacted(&self.dir, group.base(), out.written, out.index);
        file.sync_data().map_err(|error| LogError::io("sync", cleaned, error))?;
        Ok(Some(new))
    }

    /// Replaces segments by the one in the `.cleaned` file.
    fn swap(self: &Arc<Self>, group: &Group, new: Segment, cleaned: &Path) -> Result<(), LogError> {
        let result = {
            let _sync = lock(&self.sync);
            let swap = names::swap(&self.dir, group.base(), group.up_to);
            let renamed = self.shared.fs.rename(cleaned, &swap);
            renamed.map_err(|error| LogError::io("rename", cleaned, error))?;
            let swapped = self.swap_files(group);
            if swapped.is_ok() {
                self.swap_segments(group, new);
            }
            swapped
        };
        // Half of a swap is finished by recovery, and by nobody else.
        result.map_err(|error| self.poison(error))
    }

    fn swap_files(&self, group: &Group) -> Result<(), LogError> {
        // From here on, a crash leads forward.
        sync_dir(&self.shared, &self.dir)?;
        let bases: Vec<i64> =
            group.segments.iter().map(|(segment, _)| segment.base_offset).collect();
        recovery::finish_swap(&self.shared, &self.dir, group.base(), group.up_to, &bases)
    }

    fn swap_segments(&self, group: &Group, new: Segment) {
        let before: u64 = group.segments.iter().map(|(segment, _)| segment.len()).sum();
        self.shared.space.shrank(before.saturating_sub(new.len()));
        let mut state = lock(&self.state);
        let from = state.segments.partition_point(|s| s.base_offset < group.base());
        let to = state.segments.partition_point(|s| s.base_offset < group.up_to);
        state.segments.splice(from..to, [Arc::new(new)]);
        state.layout += 1;
    }
}

/// Neighbouring segments which become one.
struct Group {
    segments: Vec<(Arc<Segment>, View)>,
    /// Base offset of the first segment after them.
    up_to: i64,
}

impl Group {
    /// Base offset of the first one, and of what they become.
    fn base(&self) -> i64 {
        self.segments[0].0.base_offset
    }
}

/// All segments that the map reaches into, in groups that fit into a segment.
fn group(plan: &Plan, map_end: i64, config: &LogConfig) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut bytes = 0;
    for (segment, view) in &plan.sealed {
        if segment.base_offset >= map_end {
            break;
        }
        let up_to = view.end_offset;
        if let Some(group) = groups.last_mut() {
            let span = up_to - group.base();
            let fits = bytes + segment.len() <= u64::from(config.segment_bytes);
            if fits && span <= i64::from(i32::MAX) {
                bytes += segment.len();
                group.up_to = up_to;
                group.segments.push((Arc::clone(segment), *view));
                continue;
            }
        }
        bytes = segment.len();
        groups.push(Group { segments: vec![(Arc::clone(segment), *view)], up_to });
    }
    groups
}

/// State of a pass.
struct Pass<'a> {
    now_ms: i64,
    context: &'a dyn MaintenanceContext,
    config: &'a LogConfig,
    map: KeyMap,
    /// The map covers everything below it.
    map_end: i64,
    transactions: Transactions,
    decompressor: Decompressor,
    report: CompactionReport,
}

/// Why a batch could not be kept.
enum KeepError {
    Log(LogError),
    Write(std::io::Error),
}

impl From<LogError> for KeepError {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl KeepError {
    fn at(self, path: &Path) -> LogError {
        match self {
            Self::Log(error) => error,
            Self::Write(error) => LogError::io("write", path, error),
        }
    }
}

impl Pass<'_> {
    fn note_keys(&mut self, segment: &Segment, batch: &Scanned<'_>) -> Result<(), LogError> {
        let bad = |error: &dyn std::fmt::Display| segment.corrupt(batch, error);
        let records = self.decompressor.records(&batch.header, batch.bytes).map_err(|e| bad(&e))?;
        for record in records {
            let record = record.map_err(|e| bad(&e))?;
            if let Some(key) = record.key {
                self.map.note(key, record.offset);
            }
        }
        Ok(())
    }

    /// Whether a control batch commits a transaction.
    fn is_commit(&mut self, segment: &Segment, batch: &Scanned<'_>) -> Result<bool, LogError> {
        Ok(self.control_type(segment, batch)? == Some(ControlType::Commit))
    }

    fn control_type(
        &mut self,
        segment: &Segment,
        batch: &Scanned<'_>,
    ) -> Result<Option<ControlType>, LogError> {
        let bad = |error: &dyn std::fmt::Display| segment.corrupt(batch, error);
        let mut records =
            self.decompressor.records(&batch.header, batch.bytes).map_err(|e| bad(&e))?;
        let Some(record) = records.next() else { return Ok(None) };
        let record = record.map_err(|e| bad(&e))?;
        ControlType::parse(&record).map(Some).map_err(|e| bad(&e))
    }

    /// Writes what is to be kept of a batch.
    fn keep(
        &mut self,
        segment: &Segment,
        batch: &Scanned<'_>,
        out: &mut Output<'_>,
    ) -> Result<(), KeepError> {
        let header = &batch.header;
        let count = u64::try_from(header.record_count).unwrap_or(0);
        self.report.records_read += count;
        if header.last_offset() >= self.map_end {
            self.report.records_kept += count;
            return out.put(header, batch.bytes);
        }
        let (drop_records, obsolete_marker) = self.judge(segment, batch)?;
        let kept = if drop_records { Kept::default() } else { self.judge_records(segment, batch)? };
        if kept.count == 0 {
            if self.keeps_empty(header) {
                let empty = BatchBuilder::rebuilding(header).build();
                let empty = empty.map_err(|error| segment.corrupt(batch, &error))?;
                out.put_built(segment, batch, &empty)?;
            }
            return Ok(());
        }
        self.report.records_kept += kept.count;
        let new_horizon =
            (kept.tombstone || obsolete_marker) && !header.attributes.has_delete_horizon();
        if kept.count == count && !new_horizon {
            return out.put(header, batch.bytes);
        }
        let horizon = new_horizon.then(|| {
            let after = i64::try_from(self.config.delete_retention_ms).unwrap_or(i64::MAX);
            self.now_ms.saturating_add(after)
        });
        let rebuilt = self.rebuild(segment, batch, horizon)?;
        out.put_built(segment, batch, &rebuilt)
    }

    /// Whether all records of a batch go, and whether it is a marker of which nothing but itself is
    /// left.
    fn judge(&mut self, segment: &Segment, batch: &Scanned<'_>) -> Result<(bool, bool), LogError> {
        let header = &batch.header;
        if !header.is_control() {
            return Ok((self.transactions.is_aborted(header), false));
        }
        let obsolete = match self.control_type(segment, batch)? {
            Some(ControlType::Commit) => self.transactions.ends_empty(header, true),
            Some(ControlType::Abort) => self.transactions.ends_empty(header, false),
            _ => false,
        };
        Ok((obsolete && self.is_past_horizon(header), obsolete))
    }

    fn is_past_horizon(&self, header: &BatchHeader) -> bool {
        header.delete_horizon_ms().is_some_and(|horizon| horizon <= self.now_ms)
    }

    fn judge_records(&mut self, segment: &Segment, batch: &Scanned<'_>) -> Result<Kept, LogError> {
        let bad = |error: &dyn std::fmt::Display| segment.corrupt(batch, error);
        let filter = self.filter(&batch.header);
        let mut kept = Kept::default();
        let records = self.decompressor.records(&batch.header, batch.bytes).map_err(|e| bad(&e))?;
        for record in records {
            let record = record.map_err(|e| bad(&e))?;
            if filter.keeps(&self.map, record.key, record.value, record.offset) {
                kept.count += 1;
                kept.tombstone |= record.value.is_none() && !filter.control;
            }
        }
        Ok(kept)
    }

    fn rebuild(
        &mut self,
        segment: &Segment,
        batch: &Scanned<'_>,
        horizon: Option<i64>,
    ) -> Result<bytes::Bytes, LogError> {
        let bad = |error: &dyn std::fmt::Display| segment.corrupt(batch, error);
        let filter = self.filter(&batch.header);
        let mut builder = BatchBuilder::rebuilding(&batch.header);
        if let Some(horizon) = horizon {
            builder = builder.with_delete_horizon(horizon);
        }
        let records = self.decompressor.records(&batch.header, batch.bytes).map_err(|e| bad(&e))?;
        for record in records {
            let record = record.map_err(|e| bad(&e))?;
            if filter.keeps(&self.map, record.key, record.value, record.offset) {
                builder.append_view(&record).map_err(|e| bad(&e))?;
            }
        }
        match batch.header.compression().map_err(|e| bad(&e))? {
            Compression::None => builder.build().map_err(|e| bad(&e)),
            codec => {
                let mut compressor = Compressor::new(codec, None).map_err(|e| bad(&e))?;
                builder.build_with(&mut compressor).map_err(|e| bad(&e))
            }
        }
    }

    fn filter(&self, header: &BatchHeader) -> Filter {
        Filter { control: header.is_control(), past_horizon: self.is_past_horizon(header) }
    }

    /// Whether the header of a batch without records stays.
    fn keeps_empty(&self, header: &BatchHeader) -> bool {
        if header.next_offset() == self.map_end {
            return true;
        }
        if !header.has_producer_id() {
            return false;
        }
        let Some(producer) = self.context.active_producer(header.producer_id) else { return false };
        match producer.last_data_offset {
            Some(offset) => header.last_offset() == offset,
            None => header.is_control() && header.producer_epoch == producer.producer_epoch,
        }
    }
}

/// What of a batch stays.
#[derive(Debug, Default)]
struct Kept {
    count: u64,
    /// A record without a value is among them.
    tombstone: bool,
}

/// Which records of a batch stay.
struct Filter {
    control: bool,
    past_horizon: bool,
}

impl Filter {
    fn keeps(&self, map: &KeyMap, key: Option<&[u8]>, value: Option<&[u8]>, offset: i64) -> bool {
        let Some(key) = key else { return false };
        self.control || (map.is_last(key, offset) && (value.is_some() || !self.past_horizon))
    }
}

/// A segment being written.
struct Output<'a> {
    file: &'a dyn File,
    index: Index,
    buffer: Vec<u8>,
    /// Bytes in the file; the buffer follows.
    written: u64,
}

impl Output<'_> {
    fn put(&mut self, header: &BatchHeader, batch: &[u8]) -> Result<(), KeepError> {
        // Each batch gets an entry; see `Segment::interval`.
        self.index.note(header, self.written + self.buffer.len() as u64, 0);
        self.buffer.extend_from_slice(batch);
        if self.buffer.len() >= WRITE_BYTES {
            self.flush().map_err(KeepError::Write)?;
        }
        Ok(())
    }

    fn put_built(
        &mut self,
        segment: &Segment,
        old: &Scanned<'_>,
        batch: &[u8],
    ) -> Result<(), KeepError> {
        let header = BatchHeader::parse(batch).map_err(|error| segment.corrupt(old, &error))?;
        self.put(&header, batch)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        write_full(self.file, &self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
