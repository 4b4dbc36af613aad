//! Questions about leader epochs (KIP-320), answered from a log and the current epoch.
//!
//! A log knows the epochs under which records were written. Apache Kafka also notes epochs that wrote nothing, as beginning
//! and ending where the next record went; the answers here are the same as if the log did so too.

use kavka_log::{EpochEnd, PartitionLog};
use kavka_protocol::ErrorCode;

/// Checks the epoch that a client believes to be the current one; −1 is no belief.
///
/// # Errors
/// `FENCED_LEADER_EPOCH` if there is a newer one, `UNKNOWN_LEADER_EPOCH` if there was none so new.
pub(crate) fn check(believed: i32, current: i32) -> Result<(), ErrorCode> {
    match believed {
        _ if believed < 0 || believed == current => Ok(()),
        _ if believed < current => Err(ErrorCode::FencedLeaderEpoch),
        _ => Err(ErrorCode::UnknownLeaderEpoch),
    }
}

/// Where `epoch` ends; `None` if there was no such epoch yet.
pub(crate) fn end_of(log: &dyn PartitionLog, current: i32, epoch: i32) -> Option<EpochEnd> {
    if epoch < 0 || epoch > current {
        return None;
    }
    let at = |end_offset| Some(EpochEnd { epoch, end_offset });
    match log.latest_epoch() {
        Some((newest, _)) if epoch < newest => {
            // Older than everything that is left: all of it was deleted.
            log.end_offset_for_epoch(epoch).or_else(|| at(log.log_start_offset()))
        }
        _ => at(log.log_end_offset()),
    }
}

/// The epoch under which the record at `offset` was written, or the next one will be if it is the end of the log.
pub(crate) fn epoch_at(log: &dyn PartitionLog, current: i32, offset: i64) -> i32 {
    let newest = match log.latest_epoch() {
        Some((newest, start)) if offset < log.log_end_offset() => {
            if offset >= start {
                return newest;
            }
            newest
        }
        _ => return current,
    };
    // The first epoch that ends behind the offset. Ends do not fall with rising epochs.
    let (mut below, mut above) = (-1, newest);
    while above - below > 1 {
        let middle = below + (above - below) / 2;
        match log.end_offset_for_epoch(middle) {
            Some(end) if end.end_offset > offset => above = middle,
            _ => below = middle,
        }
    }
    above
}
