//! What Linux can do and `std` does not offer.

use std::fs::File;
use std::io::{self, IoSliceMut};

use rustix::fs::FallocateFlags;
use rustix::io::{Errno, ReadWriteFlags};

/// Reads from the page cache; `None` when the bytes are not there, or the file system or kernel
/// does not know `RWF_NOWAIT`.
pub(super) fn read_at_nowait(
    file: &File,
    buf: &mut [u8],
    offset: u64,
) -> io::Result<Option<usize>> {
    match rustix::io::preadv2(file, &mut [IoSliceMut::new(buf)], offset, ReadWriteFlags::NOWAIT) {
        Ok(n) => Ok(Some(n)),
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR | Errno::INVAL) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Reserves disk space; `false` when the file system cannot.
pub(super) fn allocate(file: &File, len: u64) -> io::Result<bool> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
