//! The file system as the log sees it: a small trait, so that tests can fail the n-th call, drop
//! unsynced bytes and tear writes.
//!
//! What is assumed of an implementation, and of the disk below it, is written in
//! `docs/storage.md`: bytes are durable after [`File::sync_data`], names after
//! [`Fs::sync_dir`], and nothing is before.

#[cfg(target_os = "linux")]
mod linux;
mod memory;
mod std_fs;

use std::any::Any;
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub use memory::MemoryDisk;
pub use std_fs::StdFs;

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    Write,
    /// For reading and writing; created, or emptied when it exists.
    Create,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, without the directory's path. Names that are not UTF-8 are not listed.
    pub name: String,
    /// Whether it names a directory.
    pub is_dir: bool,
}

/// Names and directories.
pub trait Fs: Send + Sync + Debug {
    /// Creates a directory and its missing parents. Existing is no error.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Length of a file in bytes, without opening it.
    fn file_len(&self, path: &Path) -> io::Result<u64>;
    /// Lists a directory, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;
    /// Renames a file or directory; an existing file is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable. Without effect where the platform has no such call.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes free for this process on the disk of `path`; `u64::MAX` when the platform cannot tell.
    fn free_space(&self, path: &Path) -> io::Result<u64>;
    /// Takes the directory for this process until the guard is dropped;
    /// [`io::ErrorKind::WouldBlock`] when another process has it.
    fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn Any + Send + Sync>>;
}

/// An open file.
pub trait File: Send + Sync + Debug {
    /// Reads at `offset`; may return less than asked for, 0 only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Like `read_at`, but only if no wait for the disk is needed; `None` when it is, or when the
    /// platform cannot tell.
    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>>;
    /// Writes at `offset`; may write less than given.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;
    /// Makes the file's bytes and length durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Length in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves disk space for the first `len` bytes.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Time of last modification, in milliseconds since 1970.
    fn modified_ms(&self) -> io::Result<i64>;
}

/// Fills `buf` from `offset`, as far as the file goes. Returns the bytes read.
pub(crate) fn read_full(file: &dyn File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Writes all of `buf` at `offset`.
pub(crate) fn write_full(file: &dyn File, buf: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < buf.len() {
        match file.write_at(&buf[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
