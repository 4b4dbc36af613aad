//! Gzip (RFC 1952): members walked here, deflate by flate2, so that the inflater's state can be reused.

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

use super::super::crc32;
use super::{Fault, Output, take, take_u32_le, truncated};

const MAGIC: [u8; 2] = [0x1f, 0x8b];
const DEFLATE: u8 = 8;
const UNKNOWN_SYSTEM: u8 = 255;

const HEADER_CRC: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

/// Room that the inflater gets at least.
const CHUNK: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Decoder {
    inflater: Option<Decompress>,
}

impl Decoder {
    /// Reads all members; bytes after the last that do not begin another are ignored, as Java does.
    pub(super) fn decompress(
        &mut self,
        mut input: &[u8],
        out: &mut Output<'_>,
    ) -> Result<(), Fault> {
        skip_header(&mut input)?;
        self.read_member(&mut input, out)?;
        while skip_header(&mut input).is_ok() {
            self.read_member(&mut input, out)?;
        }
        Ok(())
    }

    /// Reads deflate data and the trailer of one member.
    fn read_member(&mut self, input: &mut &[u8], out: &mut Output<'_>) -> Result<(), Fault> {
        let inflater = self.inflater.get_or_insert_with(|| Decompress::new(false));
        inflater.reset(false);
        let start = out.len();
        loop {
            let read_before = inflater.total_in();
            let written_before = inflater.total_out();
            let status = if out.room() == 0 {
                // Full: all that may come is the end of the stream.
                inflater.decompress(input, &mut [0], FlushDecompress::None)
            } else {
                if out.bytes.len() == out.bytes.capacity() {
                    let guess = CHUNK.max(input.len().saturating_mul(4));
                    out.reserve(guess.min(out.room()));
                }
                inflater.decompress_vec(input, out.bytes, FlushDecompress::None)
            }
            .map_err(Fault::corrupt)?;
            let read = (inflater.total_in() - read_before) as usize;
            let written = (inflater.total_out() - written_before) as usize;
            if written > 0
                && (out.len() > out.limit || inflater.total_out() as usize > out.len() - start)
            {
                return Err(Fault::TooLarge);
            }
            *input = &input[read..];
            match status {
                Status::StreamEnd => break,
                Status::Ok | Status::BufError if read > 0 || written > 0 => {}
                Status::Ok | Status::BufError => return Err(truncated()),
            }
        }
        let content = &out.bytes[start..];
        if take_u32_le(input)? != crc32(content) {
            return Err(Fault::corrupt("checksum of the content is wrong"));
        }
        if take_u32_le(input)? != content.len() as u32 {
            return Err(Fault::corrupt("length of the content is wrong"));
        }
        Ok(())
    }
}

fn skip_header(input: &mut &[u8]) -> Result<(), Fault> {
    let whole = *input;
    let fixed = take(input, 10)?;
    let flags = fixed[3];
    if fixed[..2] != MAGIC || fixed[2] != DEFLATE || flags & RESERVED != 0 {
        return Err(Fault::corrupt("this is no gzip header"));
    }
    if flags & EXTRA != 0 {
        let length = take(input, 2)?;
        take(input, usize::from(u16::from_le_bytes([length[0], length[1]])))?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = input.iter().position(|&byte| byte == 0).ok_or_else(truncated)?;
            take(input, end + 1)?;
        }
    }
    if flags & HEADER_CRC != 0 {
        let computed = crc32(&whole[..whole.len() - input.len()]) as u16;
        if take(input, 2)? != computed.to_le_bytes() {
            return Err(Fault::corrupt("checksum of the gzip header is wrong"));
        }
    }
    Ok(())
}

#[derive(Debug)]
pub(super) struct Encoder {
    deflater: Compress,
}

impl Encoder {
    pub(super) fn new(level: Option<i32>) -> Encoder {
        let level = match level {
            Some(level) => flate2::Compression::new(level.unsigned_abs()),
            None => flate2::Compression::default(),
        };
        Encoder { deflater: Compress::new(level, false) }
    }

    pub(super) fn compress(&mut self, data: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[DEFLATE, 0, 0, 0, 0, 0, 0, UNKNOWN_SYSTEM]);
        self.deflater.reset();
        loop {
            let read = self.deflater.total_in() as usize;
            out.reserve((data.len() - read) / 2 + CHUNK);
            let status = self.deflater.compress_vec(&data[read..], out, FlushCompress::Finish);
            match status {
                Ok(Status::StreamEnd) => break,
                Ok(Status::Ok | Status::BufError) => {}
                Err(error) => unreachable!("deflate into a growing buffer failed: {error}"),
            }
        }
        out.extend_from_slice(&crc32(data).to_le_bytes());
        out.extend_from_slice(&(data.len() as u32).to_le_bytes());
    }
}
