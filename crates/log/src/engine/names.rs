//! Names of the files and directories that make up a store.

use std::path::{Path, PathBuf};

/// Segment: batches verbatim. Kafka's own suffix and layout.
pub(crate) const LOG: &str = ".log";
/// Offset and time index of a segment; a cache.
pub(crate) const INDEX: &str = ".kindex";
/// State that the layer above keeps at an offset; a cache.
pub(crate) const SNAPSHOT: &str = ".ksnapshot";
/// A segment that compaction is still writing; worthless after a crash.
pub(crate) const CLEANED: &str = ".cleaned";
/// A finished segment that replaces the ones its name spans.
pub(crate) const SWAP: &str = ".swap";
/// Any other file that is renamed once it is whole; worthless after a crash.
pub(crate) const TEMPORARY: &str = ".tmp";
/// A deleted partition directory, to be emptied.
pub(crate) const DELETED: &str = ".deleted";
/// A partition directory that belongs to another topic id than the one which was opened.
pub(crate) const STRAY: &str = ".stray";

/// Recovery point, log start, leader epochs.
pub(crate) const CHECKPOINT: &str = "kavka-checkpoint";
/// The topic id.
pub(crate) const METADATA: &str = "partition.metadata";
/// Batches of many logs, for one sync.
pub(crate) const JOURNALS: [&str; 2] = [".journal-0", ".journal-1"];
/// Disk space kept back for the coordinators.
pub(crate) const RESERVE: &str = ".reserve";

/// `<base offset, 20 digits><suffix>`.
pub(crate) fn file(dir: &Path, offset: i64, suffix: &str) -> PathBuf {
    dir.join(format!("{offset:020}{suffix}"))
}

/// `<first base>-<base of the first segment not replaced>.swap`.
pub(crate) fn swap(dir: &Path, from: i64, up_to: i64) -> PathBuf {
    dir.join(format!("{from:020}-{up_to:020}{SWAP}"))
}

/// The offset in a name of that suffix.
pub(crate) fn parse(name: &str, suffix: &str) -> Option<i64> {
    parse_offset(name.strip_suffix(suffix)?)
}

/// The two offsets in the name of a swap file.
pub(crate) fn parse_swap(name: &str) -> Option<(i64, i64)> {
    let (from, up_to) = name.strip_suffix(SWAP)?.split_once('-')?;
    Some((parse_offset(from)?, parse_offset(up_to)?))
}

fn parse_offset(digits: &str) -> Option<i64> {
    let plain = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// Topic and partition of a partition directory's name.
pub(crate) fn parse_partition(name: &str) -> Option<(&str, i32)> {
    let (topic, partition) = name.rsplit_once('-')?;
    let plain = !topic.is_empty()
        && !topic.starts_with('.')
        && partition.bytes().all(|b| b.is_ascii_digit())
        && (partition == "0" || !partition.starts_with('0'));
    if plain { Some((topic, partition.parse().ok()?)) } else { None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_lead_back() {
        let dir = Path::new("d");
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(name(file(dir, 42, LOG)), "00000000000000000042.log");
        assert_eq!(parse("00000000000000000042.log", LOG), Some(42));
        assert_eq!(parse_swap(&name(swap(dir, 0, i64::MAX))), Some((0, i64::MAX)));
        assert_eq!(parse_partition("a-b-12"), Some(("a-b", 12)));
    }

    #[test]
    fn foreign_names_are_left_alone() {
        for name in
            ["42.log", "+0000000000000000042.log", "00000000000000000042.log.deleted", ".log"]
        {
            assert_eq!(parse(name, LOG), None, "{name}");
        }
        for name in ["topic", "-1", "t-", "t-01", "t-0.deleted", ".x-1", "t-99999999999"] {
            assert_eq!(parse_partition(name), None, "{name}");
        }
    }
}
