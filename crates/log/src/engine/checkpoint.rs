//! The checkpoint file: what recovery may rely on without reading the log.
//!
//! Two slots are written in turn and in place, so a torn write spoils only the slot that
//! holds the older state, and moving the recovery point costs one write and one sync.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut};
use kavka_protocol::records::crc32c;

use super::names;
use crate::LogError;
use crate::fs::{File, Fs, OpenMode, read_full, write_full};

const MAGIC: &[u8; 8] = b"KVKCKPT1";
/// Slots do not share a sector or page.
const SLOT_BYTES: usize = 4096;
const HEADER_BYTES: usize = 24;
const FIXED_BODY_BYTES: usize = 52;
/// Leader epochs that fit into a slot; older ones are forgotten.
pub(crate) const MAX_EPOCHS: usize = (SLOT_BYTES - HEADER_BYTES - FIXED_BODY_BYTES) / 12;

/// A place in the log below which everything is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RecoveryPoint {
    /// First offset that is not known to be synced.
    pub(crate) offset: i64,
    /// Base offset of the segment in which it lies, or would lie.
    pub(crate) segment: i64,
    /// Byte position in that segment.
    pub(crate) position: u64,
}

/// Contents of the checkpoint file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Checkpoint {
    pub(crate) log_start: i64,
    pub(crate) recovery: RecoveryPoint,
    /// Compaction has cleaned everything below it.
    pub(crate) clean_up_to: i64,
    /// Offsets may be missing below it, where compaction took them or where nobody knows. From it on
    /// each batch begins where the one before ended.
    pub(crate) gaps_below: i64,
    /// Leader epochs and their start offsets, ascending, as of the recovery point.
    pub(crate) epochs: Vec<(i32, i64)>,
}

/// The file of one log.
#[derive(Debug)]
pub(crate) struct CheckpointFile {
    path: PathBuf,
    file: Option<Arc<dyn File>>,
    exists: bool,
    /// The file's name is durable. Of a file that was found nobody knows: the process that created it
    /// may have been killed before it synced the directory.
    named: bool,
    sequence: u64,
    /// What the slots hold; the one of the sequence number's parity counts.
    slots: [Option<Checkpoint>; 2],
}

impl CheckpointFile {
    /// For a directory that holds no checkpoint yet.
    pub(crate) fn absent(dir: &Path) -> Self {
        let path = dir.join(names::CHECKPOINT);
        Self { path, file: None, exists: false, named: false, sequence: 0, slots: [None, None] }
    }

    /// Reads the newer of the two slots; damaged ones count as absent.
    pub(crate) fn load(fs: &dyn Fs, dir: &Path) -> Result<Self, LogError> {
        let mut this = Self::absent(dir);
        let io = |error| LogError::io("read", &this.path, error);
        let file = fs.open(&this.path, OpenMode::Write).map_err(io)?;
        let mut bytes = vec![0; 2 * SLOT_BYTES];
        let n = read_full(&*file, &mut bytes, 0).map_err(io)?;
        bytes.truncate(n);
        for (i, slot) in bytes.chunks(SLOT_BYTES).enumerate() {
            if let Some((sequence, checkpoint)) = decode(slot)
                && sequence % 2 == i as u64
            {
                this.sequence = this.sequence.max(sequence);
                this.slots[i] = Some(checkpoint);
            }
        }
        // Not reopened by every write, but not kept open by logs that are only read either.
        this.exists = true;
        Ok(this)
    }

    /// What the file holds.
    pub(crate) fn written(&self) -> Option<&Checkpoint> {
        self.slots[self.current()].as_ref()
    }

    fn current(&self) -> usize {
        (self.sequence % 2) as usize
    }

    /// Replaces the contents of both slots, one after the other: for changes that make the older
    /// slot wrong, so that damage to the newer one does not bring back what no longer holds.
    pub(crate) fn write_both(
        &mut self,
        fs: &dyn Fs,
        checkpoint: &Checkpoint,
    ) -> Result<(), LogError> {
        self.write(fs, checkpoint.clone())?;
        if self.slots[1 - self.current()].as_ref() == Some(checkpoint) {
            return Ok(());
        }
        self.write_slot(fs, checkpoint.clone())
    }

    /// Replaces the contents: durable when it returns. Without effect if they are equal.
    pub(crate) fn write(&mut self, fs: &dyn Fs, checkpoint: Checkpoint) -> Result<(), LogError> {
        if self.written() == Some(&checkpoint) && self.named {
            return Ok(());
        }
        self.write_slot(fs, checkpoint)
    }

    fn write_slot(&mut self, fs: &dyn Fs, checkpoint: Checkpoint) -> Result<(), LogError> {
        let io = |error| LogError::io("write", &self.path, error);
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => {
                let mode = if self.exists { OpenMode::Write } else { OpenMode::Create };
                fs.open(&self.path, mode).map_err(io)?
            }
        };
        let sequence = self.sequence + 1;
        let slot = (sequence % 2) as usize * SLOT_BYTES;
        self.exists = true;
        write_full(&*file, &encode(sequence, &checkpoint), slot as u64).map_err(io)?;
        file.sync_data().map_err(|error| LogError::io("sync", &self.path, error))?;
        if !self.named {
            let dir = self.path.parent().unwrap_or(Path::new("."));
            fs.sync_dir(dir).map_err(|error| LogError::io("sync", dir, error))?;
            self.named = true;
        }
        self.file = Some(file);
        self.sequence = sequence;
        let current = self.current();
        self.slots[current] = Some(checkpoint);
        Ok(())
    }

    /// Gives back the file handle of a log that is not written to.
    pub(crate) fn release(&mut self) {
        self.file = None;
    }
}

fn encode(sequence: u64, checkpoint: &Checkpoint) -> Vec<u8> {
    let epochs = &checkpoint.epochs[checkpoint.epochs.len().saturating_sub(MAX_EPOCHS)..];
    let mut body = Vec::with_capacity(FIXED_BODY_BYTES + 12 * epochs.len());
    body.put_i64(checkpoint.log_start);
    body.put_i64(checkpoint.recovery.offset);
    body.put_i64(checkpoint.recovery.segment);
    body.put_u64(checkpoint.recovery.position);
    body.put_i64(checkpoint.clean_up_to);
    body.put_i64(checkpoint.gaps_below);
    body.put_u32(epochs.len() as u32);
    for &(epoch, start) in epochs {
        body.put_i32(epoch);
        body.put_i64(start);
    }
    let mut slot = Vec::with_capacity(HEADER_BYTES + body.len());
    slot.put_slice(MAGIC);
    slot.put_u64(sequence);
    slot.put_u32(body.len() as u32);
    slot.put_u32(checksum(sequence, &body));
    slot.put_slice(&body);
    slot
}

fn decode(mut slot: &[u8]) -> Option<(u64, Checkpoint)> {
    if slot.len() < HEADER_BYTES + FIXED_BODY_BYTES || &slot[..8] != MAGIC {
        return None;
    }
    slot.advance(8);
    let sequence = slot.get_u64();
    let body_len = slot.get_u32() as usize;
    let crc = slot.get_u32();
    let mut body = slot.get(..body_len)?;
    if crc != checksum(sequence, body) || body_len < FIXED_BODY_BYTES {
        return None;
    }
    let log_start = body.get_i64();
    let recovery =
        RecoveryPoint { offset: body.get_i64(), segment: body.get_i64(), position: body.get_u64() };
    let clean_up_to = body.get_i64();
    let gaps_below = body.get_i64();
    let count = body.get_u32() as usize;
    if body.len() != count.checked_mul(12)? {
        return None;
    }
    let epochs = (0..count).map(|_| (body.get_i32(), body.get_i64())).collect();
    let checkpoint = Checkpoint { log_start, recovery, clean_up_to, gaps_below, epochs };
    Some((sequence, checkpoint))
}

fn checksum(sequence: u64, body: &[u8]) -> u32 {
    let mut covered = Vec::with_capacity(8 + body.len());
    covered.put_u64(sequence);
    covered.put_slice(body);
    crc32c(&covered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(epochs: usize) -> Checkpoint {
        Checkpoint {
            log_start: 3,
            recovery: RecoveryPoint { offset: 9, segment: 5, position: 700 },
            clean_up_to: 4,
            gaps_below: 6,
            epochs: (0..epochs).map(|i| (i as i32, 10 * i as i64)).collect(),
        }
    }

    #[test]
    fn slot_leads_back() {
        let slot = encode(7, &sample(2));
        assert_eq!(decode(&slot), Some((7, sample(2))));
    }

    #[test]
    fn newest_epochs_are_kept_when_they_do_not_fit() {
        let slot = encode(1, &sample(MAX_EPOCHS + 5));
        assert!(slot.len() <= SLOT_BYTES);
        let epochs = decode(&slot).map(|(_, checkpoint)| checkpoint.epochs);
        assert_eq!(epochs.as_ref().map(Vec::len), Some(MAX_EPOCHS));
        assert_eq!(epochs.and_then(|e| e.first().copied()), Some((5, 50)));
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let slot = encode(7, &sample(2));
        for bit in 0..slot.len() * 8 {
            let mut bad = slot.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bad), None, "bit {bit}");
        }
        for len in 0..slot.len() {
            assert_eq!(decode(&slot[..len]), None, "length {len}");
        }
    }
}
