//! LZ4 frames: walked here, over lz4_flex's block functions.
//!
//! Reads what Kafka's `Lz4BlockInputStream` reads, and linked blocks, which it refuses. Like there,
//! what follows the end mark is ignored, and the content checksum is not checked (each batch has its own).
//!
//! # References
//!
//! [LZ4 frame format](https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md)

use lz4_flex::block::{self, CompressTable, DecompressError};
use twox_hash::XxHash32;

use super::{Fault, Output, take, take_u32_le};

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// Bit of a block's length: the block is stored as it is.
const STORED: u32 = 1 << 31;
const END_MARK: u32 = 0;

const VERSION_MASK: u8 = 0b1100_0000;
const VERSION: u8 = 0b0100_0000;
const BLOCKS_INDEPENDENT: u8 = 1 << 5;
const BLOCK_CHECKSUMS: u8 = 1 << 4;
const CONTENT_SIZE: u8 = 1 << 3;
const RESERVED: u8 = 1 << 1;
const DICTIONARY_ID: u8 = 1;

/// Block maximum size code for 64 KiB, the one that Kafka writes.
const BLOCK_64_KIB: u8 = 4 << 4;
const BLOCK: usize = 64 * 1024;
/// How far back a match of a linked block can point.
const WINDOW: usize = 64 * 1024;
/// A match grows by at most 255 bytes for each byte of its length.
const MAX_RATIO: usize = 255;

/// What to do with the checksum byte of a frame's header.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum HeaderChecksum {
    /// It must be right.
    Checked,
    /// Magic 0 messages: Kafka computed it over the wrong bytes, so it says nothing (KAFKA-3160).
    Ignored,
}

pub(super) fn decompress(
    mut input: &[u8],
    header_checksum: HeaderChecksum,
    out: &mut Output<'_>,
) -> Result<(), Fault> {
    let frame = read_header(&mut input, header_checksum)?;
    let frame_start = out.len();
    loop {
        let length = take_u32_le(&mut input)?;
        if length == END_MARK {
            return Ok(());
        }
        let stored = length & STORED != 0;
        let length = (length & !STORED) as usize;
        if length > frame.max_block {
            return Err(Fault::corrupt(format!(
                "block of {length} bytes in a frame of blocks up to {}",
                frame.max_block
            )));
        }
        let block = take(&mut input, length)?;
        if frame.block_checksums && take_u32_le(&mut input)? != XxHash32::oneshot(0, block) {
            return Err(Fault::corrupt("checksum of a block is wrong"));
        }
        if stored {
            out.append(block)?;
        } else {
            let window_start = match frame.linked {
                true => out.len().saturating_sub(WINDOW).max(frame_start),
                false => out.len(),
            };
            read_block(block, frame.max_block, window_start, out)?;
        }
    }
}

struct Frame {
    max_block: usize,
    linked: bool,
    block_checksums: bool,
}

fn read_header(input: &mut &[u8], checksum: HeaderChecksum) -> Result<Frame, Fault> {
    if take(input, MAGIC.len())? != MAGIC {
        return Err(Fault::corrupt("this is no LZ4 frame"));
    }
    let descriptor = *input;
    let fixed = take(input, 2)?;
    let (flags, block_size) = (fixed[0], fixed[1]);
    if flags & VERSION_MASK != VERSION || flags & (RESERVED | DICTIONARY_ID) != 0 {
        return Err(Fault::corrupt(format!("LZ4 frame flags {flags:#04x} are not supported")));
    }
    let max_block = match block_size {
        0x40 => 64 << 10,
        0x50 => 256 << 10,
        0x60 => 1 << 20,
        0x70 => 4 << 20,
        _ => {
            return Err(Fault::corrupt(format!(
                "LZ4 block size code {block_size:#04x} is unknown"
            )));
        }
    };
    if flags & CONTENT_SIZE != 0 {
        // A claim of the sender, of no use here.
        take(input, 8)?;
    }
    let descriptor = &descriptor[..descriptor.len() - input.len()];
    let stored = take(input, 1)?[0];
    if checksum == HeaderChecksum::Checked && stored != header_checksum(descriptor) {
        return Err(Fault::corrupt("checksum of the LZ4 frame header is wrong"));
    }
    Ok(Frame {
        max_block,
        linked: flags & BLOCKS_INDEPENDENT == 0,
        block_checksums: flags & BLOCK_CHECKSUMS != 0,
    })
}

fn header_checksum(descriptor: &[u8]) -> u8 {
    (XxHash32::oneshot(0, descriptor) >> 8) as u8
}

/// Decompresses one block, whose matches may point back to `window_start`.
fn read_block(
    block: &[u8],
    max_block: usize,
    window_start: usize,
    out: &mut Output<'_>,
) -> Result<(), Fault> {
    let start = out.len();
    let most = max_block.min(block.len().saturating_mul(MAX_RATIO));
    let room = out.room().min(most);
    out.reserve(room);
    out.bytes.resize(start + room, 0);
    let (before, after) = out.bytes.split_at_mut(start);
    let window = &before[window_start..];
    let result = if window.is_empty() {
        block::decompress_into(block, after)
    } else {
        block::decompress_into_with_dict(block, after, window)
    };
    match result {
        Ok(written) => {
            out.bytes.truncate(start + written);
            Ok(())
        }
        Err(DecompressError::OutputTooSmall { .. }) if room < most => Err(Fault::TooLarge),
        Err(error) => Err(Fault::corrupt(error)),
    }
}

pub(super) struct Encoder {
    /// The one with 32-bit entries for blocks of any size: it is found by a hash of five bytes instead of four, and
    /// looks at fewer candidates in vain.
    table: CompressTable,
    /// A block is compressed to here first, so that room for the worst case is made, and cleared, once and not for each block.
    block: Vec<u8>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { table: CompressTable::large(), block: Vec::new() }
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    /// Writes a frame as Kafka does: independent blocks of 64 KiB, no checksums but the header's.
    pub(super) fn compress(&mut self, data: &[u8], out: &mut Vec<u8>) {
        let descriptor = [VERSION | BLOCKS_INDEPENDENT, BLOCK_64_KIB];
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&descriptor);
        out.push(header_checksum(&descriptor));
        let bound = block::get_maximum_output_size(data.len().min(BLOCK));
        if self.block.len() < bound {
            self.block.resize(bound, 0);
        }
        for block in data.chunks(BLOCK) {
            match block::compress_into_with_table(block, &mut self.block, &mut self.table) {
                Ok(length) if length < block.len() => {
                    out.extend_from_slice(&(length as u32).to_le_bytes());
                    out.extend_from_slice(&self.block[..length]);
                }
                Ok(_) => {
                    out.extend_from_slice(&(block.len() as u32 | STORED).to_le_bytes());
                    out.extend_from_slice(block);
                }
                Err(error) => unreachable!("LZ4 into a buffer of its bound failed: {error}"),
            }
        }
        out.extend_from_slice(&END_MARK.to_le_bytes());
    }
}
