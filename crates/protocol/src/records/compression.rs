//! The four codecs behind two types: [`Compressor`] and [`Decompressor`].
//!
//! **Architecture invariant:** there is no other way to decompress in this crate. A few bytes can
//! decompress to gigabytes, so the cap on the result belongs to the decompressor, and none exists without.
//!
//! Sizes that the compressed data declare about themselves are never believed: the output grows as
//! it fills, up to the cap and never past it.

mod gzip;
mod lz4;
mod snappy;
#[cfg(feature = "zstd")]
mod zstd;

use super::{Compression, RecordError};

pub(super) use lz4::HeaderChecksum;

/// A buffer larger than this is given back to the allocator instead of being kept for the next batch.
const KEPT_CAPACITY: usize = 1 << 20;

/// Decompresses the records of batches, each to at most a fixed number of bytes.
///
/// Keeps the codecs' state and the buffer from one batch to the next; make one for a thread or a
/// connection, not one for a batch.
#[derive(Debug)]
pub struct Decompressor {
    max_decompressed_bytes: usize,
    gzip: gzip::Decoder,
    snappy: snappy::Decoder,
    #[cfg(feature = "zstd")]
    zstd: zstd::Decoder,
    buffer: Vec<u8>,
}

impl Decompressor {
    /// A decompressor that refuses whatever is larger than `max_decompressed_bytes` once decompressed.
    #[must_use]
    pub fn new(max_decompressed_bytes: usize) -> Decompressor {
        Decompressor {
            max_decompressed_bytes,
            gzip: gzip::Decoder::default(),
            snappy: snappy::Decoder::default(),
            #[cfg(feature = "zstd")]
            zstd: zstd::Decoder::default(),
            buffer: Vec::new(),
        }
    }

    /// The cap, in bytes.
    #[must_use]
    pub fn max_decompressed_bytes(&self) -> usize {
        self.max_decompressed_bytes
    }

    /// Decompresses `data` into a buffer that is reused by the next call.
    ///
    /// `Compression::None` copies, under the same cap.
    ///
    /// # Errors
    ///
    /// [`RecordError::DecompressedTooLarge`] at the cap, [`RecordError::Decompression`] for broken or
    /// truncated data, [`RecordError::UnsupportedCompression`] for a codec that this build leaves out.
    pub fn decompress(&mut self, codec: Compression, data: &[u8]) -> Result<&[u8], RecordError> {
        self.decompress_frame(codec, HeaderChecksum::Checked, data)
    }

    /// As [`Decompressor::decompress`], into memory of its own, which may outlive the decompressor.
    ///
    /// # Errors
    ///
    /// As [`Decompressor::decompress`].
    pub fn decompress_owned(
        &mut self,
        codec: Compression,
        data: &[u8],
    ) -> Result<bytes::Bytes, RecordError> {
        self.buffer = Vec::new();
        self.decompress(codec, data)?;
        Ok(std::mem::take(&mut self.buffer).into())
    }

    /// As [`Decompressor::decompress`]; LZ4 frames of magic 0 carry a wrong header checksum.
    pub(super) fn decompress_frame(
        &mut self,
        codec: Compression,
        lz4_header: HeaderChecksum,
        data: &[u8],
    ) -> Result<&[u8], RecordError> {
        self.buffer.clear();
        if self.buffer.capacity() > KEPT_CAPACITY {
            self.buffer = Vec::new();
        }
        let limit = self.max_decompressed_bytes;
        let out = &mut Output { bytes: &mut self.buffer, limit };
        let result = match codec {
            Compression::None => out.append(data),
            Compression::Gzip => self.gzip.decompress(data, out),
            Compression::Snappy => self.snappy.decompress(data, out),
            Compression::Lz4 => lz4::decompress(data, lz4_header, out),
            #[cfg(feature = "zstd")]
            Compression::Zstd => self.zstd.decompress(data, out),
            #[cfg(not(feature = "zstd"))]
            Compression::Zstd => return Err(RecordError::UnsupportedCompression { codec }),
        };
        match result {
            Ok(()) => Ok(&self.buffer),
            Err(Fault::TooLarge) => Err(RecordError::DecompressedTooLarge { codec, limit }),
            Err(Fault::Corrupt(reason)) => Err(RecordError::Decompression { codec, reason }),
        }
    }
}

/// Compresses the records of batches with one codec at one level. Keeps the codec's state between batches.
#[derive(Debug)]
pub struct Compressor {
    codec: Compression,
    encoder: Encoder,
    /// What is compressed grows here, and is copied when its size is known.
    scratch: Vec<u8>,
}

#[derive(Debug)]
enum Encoder {
    None,
    Gzip(gzip::Encoder),
    Snappy(Box<snappy::Encoder>),
    Lz4(lz4::Encoder),
    #[cfg(feature = "zstd")]
    Zstd(zstd::Encoder),
}

/// Why a [`Compressor`] cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompressorError {
    /// The codec has no such level.
    #[error("{codec} has no level {level}: choose {min} to {max}, or none for the default")]
    Level {
        /// The codec.
        codec: Compression,
        /// The level asked for.
        level: i32,
        /// Lowest level.
        min: i32,
        /// Highest level.
        max: i32,
    },
    /// The codec is known, but this build leaves it out.
    #[error("this build cannot write {codec}: build with the cargo feature `{codec}`")]
    Unsupported {
        /// The codec.
        codec: Compression,
    },
}

impl Compressor {
    /// A compressor of `codec`; `level` as in Kafka's `compression.*.level`, `None` for the codec's default.
    ///
    /// Levels: gzip 1 to 9; lz4 1 to 17, which all write the same bytes, for the fast method is the
    /// only one here; zstd as the library has them (-131072 to 22). Others have no levels and take any.
    ///
    /// # Errors
    ///
    /// [`CompressorError::Level`], [`CompressorError::Unsupported`].
    pub fn new(codec: Compression, level: Option<i32>) -> Result<Compressor, CompressorError> {
        let check = |min, max| match level {
            Some(level) if !(min..=max).contains(&level) => {
                Err(CompressorError::Level { codec, level, min, max })
            }
            _ => Ok(()),
        };
        let encoder = match codec {
            Compression::None => Encoder::None,
            Compression::Gzip => {
                check(1, 9)?;
                Encoder::Gzip(gzip::Encoder::new(level))
            }
            Compression::Snappy => Encoder::Snappy(Box::default()),
            Compression::Lz4 => {
                check(1, 17)?;
                Encoder::Lz4(lz4::Encoder::default())
            }
            #[cfg(feature = "zstd")]
            Compression::Zstd => {
                let (min, max) = zstd::levels();
                check(min, max)?;
                Encoder::Zstd(zstd::Encoder::new(level))
            }
            #[cfg(not(feature = "zstd"))]
            Compression::Zstd => return Err(CompressorError::Unsupported { codec }),
        };
        Ok(Compressor { codec, encoder, scratch: Vec::new() })
    }

    /// The codec.
    #[must_use]
    pub fn codec(&self) -> Compression {
        self.codec
    }

    /// Compresses `data` and appends the result to `out`.
    pub fn compress(&mut self, data: &[u8], out: &mut Vec<u8>) {
        match &mut self.encoder {
            Encoder::None => out.extend_from_slice(data),
            Encoder::Gzip(encoder) => encoder.compress(data, out),
            Encoder::Snappy(encoder) => encoder.compress(data, out),
            Encoder::Lz4(encoder) => encoder.compress(data, out),
            #[cfg(feature = "zstd")]
            Encoder::Zstd(encoder) => encoder.compress(data, out),
        }
    }

    /// `data` compressed behind so many zero bytes, in memory of just that size.
    pub(super) fn compress_behind(&mut self, zeros: usize, data: &[u8]) -> Vec<u8> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.resize(zeros, 0);
        self.compress(data, &mut scratch);
        let compressed = scratch.as_slice().to_vec();
        if scratch.capacity() <= KEPT_CAPACITY {
            self.scratch = scratch;
        }
        compressed
    }
}

/// What a codec finds wrong; the decompressor adds the codec's name.
enum Fault {
    TooLarge,
    Corrupt(String),
}

impl Fault {
    fn corrupt(reason: impl ToString) -> Fault {
        Fault::Corrupt(reason.to_string())
    }
}

/// The end of the input came where something had to follow.
fn truncated() -> Fault {
    Fault::corrupt("the data end too early")
}

/// Decompressed bytes. Grows as it fills, by doubling, and never beyond the limit.
struct Output<'a> {
    bytes: &'a mut Vec<u8>,
    limit: usize,
}

impl Output<'_> {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes up to the limit.
    fn room(&self) -> usize {
        self.limit.saturating_sub(self.bytes.len())
    }

    fn append(&mut self, data: &[u8]) -> Result<(), Fault> {
        if data.len() > self.room() {
            return Err(Fault::TooLarge);
        }
        self.reserve(data.len());
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    /// Makes room for `additional` bytes, of which there must be so many up to the limit.
    fn reserve(&mut self, additional: usize) {
        assert!(additional <= self.room(), "output reserved past its limit");
        let needed = self.bytes.len() + additional;
        if needed > self.bytes.capacity() {
            let target = needed.max(self.bytes.capacity().saturating_mul(2).min(self.limit));
            self.bytes.reserve_exact(target - self.bytes.len());
        }
    }
}

/// Takes the first `n` bytes off `input`.
fn take<'a>(input: &mut &'a [u8], n: usize) -> Result<&'a [u8], Fault> {
    let (head, rest) = input.split_at_checked(n).ok_or_else(truncated)?;
    *input = rest;
    Ok(head)
}

/// Takes a little-endian `u32` off `input`.
fn take_u32_le(input: &mut &[u8]) -> Result<u32, Fault> {
    let (head, rest) = input.split_first_chunk::<4>().ok_or_else(truncated)?;
    *input = rest;
    Ok(u32::from_le_bytes(*head))
}

#[cfg(test)]
mod tests;
