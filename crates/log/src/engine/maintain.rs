//! Retention and housekeeping. Compaction has its own file.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use kavka_protocol::records::NO_TIMESTAMP;

use super::log::{SegmentLog, State, Status};
use super::read::Segments;
use super::segment::{Segment, View};
use super::{lock, snapshot};
use crate::{LogConfig, LogError, MaintenanceContext, MaintenanceReport};

impl SegmentLog {
    pub(super) fn maintain(
        self: &Arc<Self>,
        now_ms: i64,
        context: &dyn MaintenanceContext,
    ) -> Result<MaintenanceReport, LogError> {
        let _maintenance = lock(&self.maintenance);
        let config = {
            let mut state = lock(&self.state);
            self.check(&state)?;
            if !std::mem::take(&mut state.tail_used) {
                self.clear_tail(&mut state);
            }
            Arc::clone(&state.config)
        };
        let mut report = MaintenanceReport::default();
        let mut result = self.retain(now_ms, context.high_watermark(), &config, &mut report);
        if config.compact && result.is_ok() {
            let compaction = self.compact(now_ms, context, &config);
            result = compaction.map(|compaction| report.compaction = compaction);
        }
        result.map_err(|error| self.poison_if_sync(error))?;
        self.release_idle();
        self.shared.space.maintain();
        Ok(report)
    }

    /// Whether a maintenance run has to stop, since the log is about to be cut, closed or deleted.
    pub(super) fn interrupted(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }

    /// Closes files and drops indexes that nobody used since the last run.
    fn release_idle(&self) {
        let mut segments = lock(&self.state).segments.clone();
        segments.pop();
        for segment in segments {
            segment.release_idle(&*self.shared.fs);
        }
    }

    /// Deletes the segments that retention gives up, oldest first.
    fn retain(
        self: &Arc<Self>,
        now_ms: i64,
        high_watermark: i64,
        config: &LogConfig,
        report: &mut MaintenanceReport,
    ) -> Result<(), LogError> {
        let Segments { all, log_start, log_end, .. } = Segments::of(&lock(&self.state));
        let mut total: u64 = all.iter().map(|(_, view)| view.len).sum();
        let mut expired = 0;
        for (i, (segment, view)) in all.iter().enumerate() {
            let end = view.end_offset;
            let active = i + 1 == all.len();
            if end > high_watermark || (active && view.len == 0) {
                break;
            }
            let below_start = !active && end <= log_start;
            let gone = below_start
                || (config.delete
                    && (too_large(total, segment, config)
                        || self.too_old(now_ms, segment, view, config)?));
            if !gone || self.interrupted() {
                break;
            }
            total -= view.len;
            expired += 1;
        }
        if expired == 0 {
            return Ok(());
        }
        if expired == all.len() {
            // The active segment goes too, so another one has to keep the log end.
            let mut writer = lock(&self.writer);
            let state = lock(&self.state);
            if state.log_end != log_end {
                // It was appended to since: not expired.
                expired -= 1;
            } else {
                drop(state);
                self.roll(&mut writer)?;
            }
        }
        self.delete_oldest(expired, report)
    }

    /// Deletes the `count` oldest segments. The log start is moved past them first, durably.
    fn delete_oldest(&self, count: usize, report: &mut MaintenanceReport) -> Result<(), LogError> {
        let deleted: Vec<Arc<Segment>> = {
            let mut sync = lock(&self.sync);
            let Some(start) = lock(&self.state).start_after(count) else { return Ok(()) };
            self.write_turning_point(&mut sync, |checkpoint| {
                checkpoint.log_start = start;
                checkpoint.clean_up_to = checkpoint.clean_up_to.max(start);
            })?;
            let mut state = lock(&self.state);
            if state.status != Status::Open {
                return Ok(());
            }
            state.log_start = start;
            state.clean_up_to = state.clean_up_to.max(start);
            state.layout += 1;
            state.segments.drain(..count).collect()
        };
        for segment in deleted {
            report.deleted_segments += 1;
            report.deleted_bytes += segment.len();
            self.shared.space.shrank(segment.len());
            // If a crash brings it back, it is below the log start and goes in a later run.
            self.remove_segment_files(&segment.path)?;
        }
        tracing::info!("{}: deleted {count} segments, {} bytes", self.id, report.deleted_bytes);
        Ok(())
    }

    fn too_old(
        &self,
        now_ms: i64,
        segment: &Segment,
        view: &View,
        config: &LogConfig,
    ) -> Result<bool, LogError> {
        let Some(retention_ms) = config.retention_ms else { return Ok(false) };
        let fs = &*self.shared.fs;
        let newest = match segment.max_timestamp(fs, view)? {
            NO_TIMESTAMP => segment
                .file(fs)?
                .modified_ms()
                .map_err(|error| LogError::io("read", &segment.path, error))?,
            timestamp => timestamp,
        };
        let age = i128::from(now_ms) - i128::from(newest);
        Ok(age > i128::from(retention_ms))
    }

    pub(super) fn put_snapshot(
        self: &Arc<Self>,
        offset: i64,
        state: &[u8],
    ) -> Result<(), LogError> {
        let _snapshots = lock(&self.snapshots);
        {
            let state = lock(&self.state);
            self.check(&state)?;
            if state.segments.is_empty() {
                // There is no directory yet, and nothing that a snapshot could save.
                return Ok(());
            }
        }
        snapshot::put(&*self.shared.fs, &self.dir, offset, state)
            .map_err(|error| self.poison_if_sync(error))
    }

    pub(super) fn latest_snapshot(&self) -> Result<Option<(i64, Bytes)>, LogError> {
        let _snapshots = lock(&self.snapshots);
        let log_end = {
            let state = lock(&self.state);
            self.check_readable(&state)?;
            if state.segments.is_empty() {
                return Ok(None);
            }
            state.log_end
        };
        snapshot::latest(&*self.shared.fs, &self.dir, log_end)
    }
}

impl State {
    /// Where the log starts once the `count` oldest segments are gone.
    fn start_after(&self, count: usize) -> Option<i64> {
        self.segments.get(count).map(|first| first.base_offset.max(self.log_start))
    }
}

fn too_large(total: u64, segment: &Segment, config: &LogConfig) -> bool {
    config.retention_bytes.is_some_and(|most| total.saturating_sub(most) >= segment.len())
        && segment.len() > 0
}
