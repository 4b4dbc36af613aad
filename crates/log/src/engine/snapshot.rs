//! Snapshots: state of the layer above as of an offset, kept as checksummed cache files.

use std::path::Path;

use bytes::{Buf, BufMut, Bytes};
use kavka_protocol::records::crc32c;

use super::names;
use crate::LogError;
use crate::fs::{Fs, OpenMode, read_full, write_full};

const MAGIC: &[u8; 8] = b"KVKSNAP1";
const HEADER_BYTES: usize = 28;
/// Snapshots kept: the newest, and one more in case that is damaged.
const KEPT: usize = 2;
/// A file larger than this is no snapshot.
const MAX_BYTES: u64 = 1 << 30;

/// Writes a snapshot, and removes all but the newest few.
pub(crate) fn put(fs: &dyn Fs, dir: &Path, offset: i64, state: &[u8]) -> Result<(), LogError> {
    let path = names::file(dir, offset, names::SNAPSHOT);
    let temporary = names::file(dir, offset, names::TEMPORARY);
    let io = |action| {
        let path = path.clone();
        move |error| LogError::io(action, &path, error)
    };
    let file = fs.open(&temporary, OpenMode::Create).map_err(io("create"))?;
    write_full(&*file, &encode(offset, state), 0).map_err(io("write"))?;
    // Synced before it gets its name, so that the name never stands for less than the whole.
    file.sync_data().map_err(io("sync"))?;
    fs.rename(&temporary, &path).map_err(io("rename"))?;
    let kept = offsets(fs, dir)?.into_iter().rev().skip(KEPT);
    for old in kept {
        remove(fs, dir, old)?;
    }
    Ok(())
}

/// The newest undamaged snapshot at or below `up_to`.
pub(crate) fn latest(
    fs: &dyn Fs,
    dir: &Path,
    up_to: i64,
) -> Result<Option<(i64, Bytes)>, LogError> {
    for offset in offsets(fs, dir)?.into_iter().rev().filter(|&offset| offset <= up_to) {
        let path = names::file(dir, offset, names::SNAPSHOT);
        let io = |error| LogError::io("read", &path, error);
        let file = fs.open(&path, OpenMode::Read).map_err(io)?;
        let len = file.size().map_err(io)?;
        let mut bytes = vec![0; usize::try_from(len.min(MAX_BYTES)).unwrap_or(0)];
        let n = read_full(&*file, &mut bytes, 0).map_err(io)?;
        bytes.truncate(n);
        match decode(offset, bytes.into()) {
            Some(state) => return Ok(Some((offset, state))),
            None => tracing::warn!("snapshot {} is damaged and not used", path.display()),
        }
    }
    Ok(None)
}

/// Removes the snapshots beyond `log_end`; `true` if there were any.
pub(crate) fn remove_beyond(fs: &dyn Fs, dir: &Path, log_end: i64) -> Result<bool, LogError> {
    let mut any = false;
    for offset in offsets(fs, dir)?.into_iter().filter(|&offset| offset > log_end) {
        remove(fs, dir, offset)?;
        any = true;
    }
    Ok(any)
}

fn remove(fs: &dyn Fs, dir: &Path, offset: i64) -> Result<(), LogError> {
    let path = names::file(dir, offset, names::SNAPSHOT);
    fs.remove_file(&path).map_err(|error| LogError::io("remove", &path, error))
}

fn offsets(fs: &dyn Fs, dir: &Path) -> Result<Vec<i64>, LogError> {
    let entries = fs.list(dir).map_err(|error| LogError::io("list", dir, error))?;
    let parse = |name: &str| names::parse(name, names::SNAPSHOT);
    let mut offsets: Vec<i64> = entries.iter().filter_map(|e| parse(&e.name)).collect();
    offsets.sort_unstable();
    Ok(offsets)
}

fn encode(offset: i64, state: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + state.len());
    bytes.put_slice(MAGIC);
    bytes.put_u32(0);
    bytes.put_i64(offset);
    bytes.put_u64(state.len() as u64);
    bytes.put_slice(state);
    let crc = crc32c(&bytes[12..]);
    bytes[8..12].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn decode(offset: i64, mut bytes: Bytes) -> Option<Bytes> {
    if bytes.len() < HEADER_BYTES || &bytes[..8] != MAGIC {
        return None;
    }
    let actual = crc32c(&bytes[12..]);
    bytes.advance(8);
    let crc = bytes.get_u32();
    let stored_offset = bytes.get_i64();
    let len = bytes.get_u64();
    let whole = crc == actual && stored_offset == offset && len == bytes.len() as u64;
    whole.then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_is_noticed() {
        let good = encode(17, b"state");
        assert_eq!(decode(17, good.clone().into()).as_deref(), Some(&b"state"[..]));
        assert_eq!(decode(18, good.clone().into()), None, "renamed");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(17, bad.into()), None, "bit {bit}");
        }
    }
}
