//! Snappy in the framing of snappy-java: a 16-byte header, then blocks of a big-endian length and
//! raw snappy data. Data without that header are one raw block, as older librdkafka writes.

use super::{Fault, Output, take, truncated};

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Version and lowest compatible version of the framing, both 1.
const VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// Kafka's block size, before compression.
const BLOCK: usize = 32 * 1024;
/// The densest element copies 64 bytes and takes 3, so no block grows more than this.
const MAX_RATIO: usize = 22;

#[derive(Debug, Default)]
pub(super) struct Decoder {
    raw: snap::raw::Decoder,
}

impl Decoder {
    pub(super) fn decompress(
        &mut self,
        mut input: &[u8],
        out: &mut Output<'_>,
    ) -> Result<(), Fault> {
        if !input.starts_with(&MAGIC) || input.len() < MAGIC.len() + VERSIONS.len() {
            return self.read_block(input, out);
        }
        skip_header(&mut input)?;
        while !input.is_empty() {
            // Streams may be joined: a header stands where a block's length would.
            if input.starts_with(&MAGIC) {
                skip_header(&mut input)?;
                continue;
            }
            let (length, rest) = input.split_first_chunk::<4>().ok_or_else(truncated)?;
            input = rest;
            let block = take(&mut input, u32::from_be_bytes(*length) as usize)?;
            self.read_block(block, out)?;
        }
        Ok(())
    }

    fn read_block(&mut self, block: &[u8], out: &mut Output<'_>) -> Result<(), Fault> {
        let declared = snap::raw::decompress_len(block).map_err(Fault::corrupt)?;
        if declared > block.len().saturating_mul(MAX_RATIO) {
            return Err(Fault::corrupt("a block declares more than it can hold"));
        }
        if declared > out.room() {
            return Err(Fault::TooLarge);
        }
        let start = out.len();
        out.reserve(declared);
        out.bytes.resize(start + declared, 0);
        self.raw.decompress(block, &mut out.bytes[start..]).map_err(Fault::corrupt)?;
        Ok(())
    }
}

fn skip_header(input: &mut &[u8]) -> Result<(), Fault> {
    let header = take(input, MAGIC.len() + VERSIONS.len())?;
    // snappy-java looks at the version only, and accepts later ones.
    if header[8] & 0x80 != 0 || header[8..12] == [0; 4] {
        return Err(Fault::corrupt("version of the snappy framing is below 1"));
    }
    Ok(())
}

#[derive(Debug)]
pub(super) struct Encoder {
    raw: snap::raw::Encoder,
}

impl Default for Encoder {
    fn default() -> Encoder {
        Encoder { raw: snap::raw::Encoder::new() }
    }
}

impl Encoder {
    pub(super) fn compress(&mut self, data: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSIONS);
        for block in data.chunks(BLOCK) {
            let at = out.len();
            out.resize(at + 4 + snap::raw::max_compress_len(block.len()), 0);
            let length = match self.raw.compress(block, &mut out[at + 4..]) {
                Ok(length) => length,
                Err(error) => unreachable!("snappy into a buffer of its bound failed: {error}"),
            };
            out[at..at + 4].copy_from_slice(&(length as u32).to_be_bytes());
            out.truncate(at + 4 + length);
        }
    }
}
