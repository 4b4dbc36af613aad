#![allow(clippy::unwrap_used)]

use super::super::crc32;
use super::*;

const CAP: usize = 1 << 20;

fn codecs() -> impl Iterator<Item = Compression> {
    Compression::ALL.into_iter().filter(|&codec| cfg!(feature = "zstd") || codec.name() != "zstd")
}

fn compress(codec: Compression, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Compressor::new(codec, None).unwrap().compress(data, &mut out);
    out
}

/// Pseudo-random bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| step()).collect()
}

fn text(length: usize) -> Vec<u8> {
    b"the group coordinator keeps the offsets, ".iter().copied().cycle().take(length).collect()
}

#[test]
fn all_sizes_come_back_from_all_codecs() {
    let mut decompressor = Decompressor::new(CAP);
    for codec in codecs() {
        for length in [0, 1, 2, 100, 4096, 32_767, 32_768, 32_769, 65_536, 65_537, 300_000, CAP] {
            for data in [text(length), noise(length), vec![0; length]] {
                let compressed = compress(codec, &data);
                let result = decompressor.decompress(codec, &compressed).unwrap();
                assert!(result == data, "{codec}, {length} bytes");
                assert_eq!(decompressor.decompress_owned(codec, &compressed).unwrap(), data);
            }
        }
    }
}

#[test]
fn one_byte_above_the_cap_is_refused_and_the_cap_itself_is_not() {
    for codec in codecs() {
        for cap in [0, 1, 1000, 65_535, 65_536, 100_000] {
            let mut decompressor = Decompressor::new(cap);
            for data in [text(cap), noise(cap)] {
                let compressed = compress(codec, &data);
                assert_eq!(decompressor.decompress(codec, &compressed), Ok(&*data), "{codec}");
            }
            for data in [text(cap + 1), noise(cap + 1)] {
                let error = decompressor.decompress(codec, &compress(codec, &data)).unwrap_err();
                assert_eq!(error, RecordError::DecompressedTooLarge { codec, limit: cap });
                assert!(decompressor.buffer.capacity() <= cap.max(8), "{codec}");
            }
        }
    }
}

#[test]
fn levels_of_each_codec() {
    let data = text(10_000);
    let mut decompressor = Decompressor::new(CAP);
    let levels: &[(Compression, i32, i32)] = &[
        (Compression::Gzip, 1, 9),
        (Compression::Lz4, 1, 17),
        #[cfg(feature = "zstd")]
        (Compression::Zstd, -131_072, 22),
    ];
    for &(codec, min, max) in levels {
        for level in [min, 1, 5, max] {
            let mut out = b"kept".to_vec();
            let mut compressor = Compressor::new(codec, Some(level)).unwrap();
            // Twice: the state of the first must not leak into the second.
            for _ in 0..2 {
                out.truncate(4);
                compressor.compress(&data, &mut out);
                assert_eq!(&out[..4], b"kept");
                assert_eq!(
                    decompressor.decompress(codec, &out[4..]),
                    Ok(&*data),
                    "{codec} {level}"
                );
            }
        }
        for level in [min - 1, max + 1] {
            let error = Compressor::new(codec, Some(level)).unwrap_err();
            assert_eq!(error, CompressorError::Level { codec, level, min, max });
        }
    }
}

#[test]
fn truncated_data_are_an_error_at_every_byte() {
    let mut decompressor = Decompressor::new(CAP);
    for codec in codecs().skip(1) {
        for data in [text(700), noise(700)] {
            let compressed = compress(codec, &data);
            for cut in 0..compressed.len() {
                let result = decompressor.decompress(codec, &compressed[..cut]);
                // The framing of snappy has no end: after its header and after each block is one.
                if codec == Compression::Snappy && cut == 16 {
                    assert_eq!(result, Ok(&[][..]));
                    continue;
                }
                let error = result.unwrap_err();
                assert!(matches!(error, RecordError::Decompression { .. }), "{codec} at {cut}");
            }
        }
    }
}

#[test]
fn any_single_bit_flip_ends_in_data_or_in_an_error() {
    let mut decompressor = Decompressor::new(4096);
    for codec in codecs().skip(1) {
        for data in [text(300), noise(60)] {
            let compressed = compress(codec, &data);
            for bit in 0..compressed.len() * 8 {
                let mut flipped = compressed.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                if let Ok(result) = decompressor.decompress(codec, &flipped) {
                    assert!(result.len() <= 4096);
                }
                assert!(decompressor.buffer.capacity() <= 4096);
            }
        }
    }
}

/// Compressed data of about a MiB, made to decompress to as much as the codec allows.
mod bombs {
    use super::*;

    const BOMB_CAP: usize = 16 << 20;

    fn assert_stops_at_the_cap(codec: Compression, bomb: &[u8]) {
        let mut decompressor = Decompressor::new(BOMB_CAP);
        let error = decompressor.decompress(codec, bomb).unwrap_err();
        assert_eq!(error, RecordError::DecompressedTooLarge { codec, limit: BOMB_CAP });
        assert!(decompressor.buffer.capacity() <= BOMB_CAP);
        // What comes next finds the decompressor in order.
        let next = compress(codec, b"next");
        assert_eq!(decompressor.decompress(codec, &next), Ok(&b"next"[..]));
        assert!(decompressor.buffer.capacity() <= KEPT_CAPACITY, "the bomb's buffer is given back");
    }

    #[test]
    fn gzip() {
        let mut deflater = flate2::Compress::new(flate2::Compression::best(), false);
        let zeros = vec![0; 1 << 20];
        let mut piece = Vec::with_capacity(1 << 16);
        let flush = flate2::FlushCompress::Full;
        deflater.compress_vec(&zeros, &mut piece, flush).unwrap();
        assert_eq!(deflater.total_in(), 1 << 20);

        let mut bomb = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
        while bomb.len() < 1 << 20 {
            bomb.extend_from_slice(&piece);
        }
        assert_stops_at_the_cap(Compression::Gzip, &bomb);
    }

    #[test]
    fn snappy() {
        let block = snap::raw::Encoder::new().compress_vec(&vec![0; 4 << 20]).unwrap();
        let mut bomb = compress(Compression::Snappy, b"");
        while bomb.len() < 1 << 20 {
            bomb.extend_from_slice(&(block.len() as u32).to_be_bytes());
            bomb.extend_from_slice(&block);
        }
        assert_stops_at_the_cap(Compression::Snappy, &bomb);
    }

    #[test]
    fn lz4() {
        let block = lz4_flex::block::compress(&vec![0; 4 << 20]);
        for flags in [0x60, 0x40] {
            let descriptor = [flags, 0x70];
            let mut bomb = vec![0x04, 0x22, 0x4d, 0x18];
            bomb.extend_from_slice(&descriptor);
            bomb.push((twox_hash::XxHash32::oneshot(0, &descriptor) >> 8) as u8);
            while bomb.len() < 1 << 20 {
                bomb.extend_from_slice(&(block.len() as u32).to_le_bytes());
                bomb.extend_from_slice(&block);
            }
            assert_stops_at_the_cap(Compression::Lz4, &bomb);
        }
    }

    /// 10 GiB in 320 KiB: blocks of one repeated byte.
    #[cfg(feature = "zstd")]
    #[test]
    fn zstd() {
        let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3];
        let blocks = (10_usize << 30) / (128 << 10);
        for block in 1..=blocks {
            let header = u32::from(block == blocks) | 1 << 1 | (128 << 10) << 3;
            bomb.extend_from_slice(&header.to_le_bytes()[..3]);
            bomb.push(0);
        }
        assert!(bomb.len() < 1 << 20);
        assert_stops_at_the_cap(Compression::Zstd, &bomb);
    }
}

/// A few bytes that claim to become a lot must not make anyone reserve it.
#[test]
fn declared_sizes_are_not_believed() {
    const LARGE_CAP: usize = 1 << 40;
    let mut decompressor = Decompressor::new(LARGE_CAP);

    // 4 GiB in a raw snappy block of ten bytes.
    let snappy = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0];
    decompressor.decompress(Compression::Snappy, &snappy).unwrap_err();
    assert!(decompressor.buffer.capacity() < 4096);

    // An LZ4 frame with a content size of 2^63 and blocks up to 4 MiB.
    let descriptor = [0x68, 0x70, 0, 0, 0, 0, 0, 0, 0, 0x80];
    let mut lz4 = vec![0x04, 0x22, 0x4d, 0x18];
    lz4.extend_from_slice(&descriptor);
    lz4.push((twox_hash::XxHash32::oneshot(0, &descriptor) >> 8) as u8);
    let block = lz4_flex::block::compress(b"small");
    lz4.extend_from_slice(&(block.len() as u32).to_le_bytes());
    lz4.extend_from_slice(&block);
    lz4.extend_from_slice(&[0; 4]);
    assert_eq!(decompressor.decompress(Compression::Lz4, &lz4), Ok(&b"small"[..]));
    assert!(decompressor.buffer.capacity() < 8192);

    // A zstd frame with a content size of 2^62 and a window as large.
    #[cfg(feature = "zstd")]
    {
        let mut zstd = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
        zstd.extend_from_slice(&(1_u64 << 62).to_le_bytes());
        zstd.extend_from_slice(&[1, 0, 0]);
        decompressor.decompress(Compression::Zstd, &zstd).unwrap_err();
        assert!(decompressor.buffer.capacity() < 8192);
    }
}

#[test]
fn gzip_with_all_optional_header_fields_and_two_members() {
    let plain = compress(Compression::Gzip, b"first ");
    let mut both = vec![0x1f, 0x8b, 8, 0b1_1110, 0, 0, 0, 0, 0, 3];
    both.extend_from_slice(&[3, 0, b'a', b'b', b'c']);
    both.extend_from_slice(b"name\0comment\0");
    let header_crc = crc32(&both) as u16;
    both.extend_from_slice(&header_crc.to_le_bytes());
    both.extend_from_slice(&plain[10..]);
    both.extend_from_slice(&compress(Compression::Gzip, b"second"));
    both.extend_from_slice(b"what Java ignores");

    let mut decompressor = Decompressor::new(CAP);
    let result = decompressor.decompress(Compression::Gzip, &both);
    assert_eq!(result, Ok(&b"first second"[..]));
    // The second member counts against the same cap.
    let error = Decompressor::new(11).decompress(Compression::Gzip, &both).unwrap_err();
    assert!(matches!(error, RecordError::DecompressedTooLarge { .. }));

    let mut broken = plain.clone();
    let crc_at = broken.len() - 8;
    broken[crc_at] ^= 1;
    let error = decompressor.decompress(Compression::Gzip, &broken).unwrap_err();
    assert!(error.to_string().contains("checksum of the content"), "{error}");
    both[30] ^= 1;
    let error = decompressor.decompress(Compression::Gzip, &both).unwrap_err();
    assert!(matches!(error, RecordError::Decompression { .. }));
}

#[test]
fn snappy_without_framing_and_joined_streams() {
    let mut decompressor = Decompressor::new(CAP);
    let raw = snap::raw::Encoder::new().compress_vec(b"raw").unwrap();
    assert_eq!(decompressor.decompress(Compression::Snappy, &raw), Ok(&b"raw"[..]));

    let mut joined = compress(Compression::Snappy, b"one, ");
    joined.extend_from_slice(&compress(Compression::Snappy, b"two"));
    assert_eq!(decompressor.decompress(Compression::Snappy, &joined), Ok(&b"one, two"[..]));
}

/// Built by hand, as no encoder here writes them: linked blocks, block checksums, a content size.
#[test]
fn lz4_linked_blocks_with_checksums() {
    let first = text(70_000)[..60_000].to_vec();
    let second = text(70_000)[60_000..].to_vec();
    let blocks =
        [lz4_flex::block::compress(&first), lz4_flex::block::compress_with_dict(&second, &first)];
    assert!(blocks[1].len() < 200, "the second block leans on the first");
    let frame = |flags: u8| {
        let mut descriptor = vec![flags, 0x40];
        if flags & 0x08 != 0 {
            descriptor.extend_from_slice(&70_000_u64.to_le_bytes());
        }
        let mut frame = vec![0x04, 0x22, 0x4d, 0x18];
        frame.extend_from_slice(&descriptor);
        frame.push((twox_hash::XxHash32::oneshot(0, &descriptor) >> 8) as u8);
        for block in &blocks {
            frame.extend_from_slice(&(block.len() as u32).to_le_bytes());
            frame.extend_from_slice(block);
            if flags & 0x10 != 0 {
                frame.extend_from_slice(&twox_hash::XxHash32::oneshot(0, block).to_le_bytes());
            }
        }
        frame.extend_from_slice(&[0; 4]);
        frame
    };
    let mut decompressor = Decompressor::new(CAP);
    for flags in [0x40, 0x48, 0x50, 0x58] {
        let result = decompressor.decompress(Compression::Lz4, &frame(flags)).unwrap();
        assert!(result == text(70_000), "flags {flags:#x}");
    }
    // The same blocks in a frame that says they are independent.
    decompressor.decompress(Compression::Lz4, &frame(0x60)).unwrap_err();

    let mut broken = frame(0x50);
    let at = broken.len() - 5;
    broken[at] ^= 1;
    let error = decompressor.decompress(Compression::Lz4, &broken).unwrap_err();
    assert!(error.to_string().contains("checksum of a block"), "{error}");
}

#[test]
fn lz4_header_checksum_counts_except_in_magic_0() {
    let mut frame = compress(Compression::Lz4, b"content");
    frame[6] ^= 0xff;
    let mut decompressor = Decompressor::new(CAP);
    let error = decompressor.decompress(Compression::Lz4, &frame).unwrap_err();
    assert!(error.to_string().contains("checksum of the LZ4 frame header"), "{error}");
    let result = decompressor.decompress_frame(Compression::Lz4, HeaderChecksum::Ignored, &frame);
    assert_eq!(result, Ok(&b"content"[..]));
}

#[cfg(feature = "zstd")]
#[test]
fn zstd_reads_joined_frames_and_frames_with_a_window_larger_than_the_cap() {
    use ::zstd::stream::raw::CParameter;
    use std::io::Write;

    let mut joined = compress(Compression::Zstd, b"one, ");
    joined.extend_from_slice(&compress(Compression::Zstd, b"two"));
    let mut decompressor = Decompressor::new(CAP);
    assert_eq!(decompressor.decompress(Compression::Zstd, &joined), Ok(&b"one, two"[..]));

    // As a Java producer at the highest level writes it: a stream without content size.
    let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.set_parameter(CParameter::WindowLog(27)).unwrap();
    for piece in text(50_000).chunks(700) {
        encoder.write_all(piece).unwrap();
        encoder.flush().unwrap();
    }
    let stream = encoder.finish().unwrap();
    assert_eq!(decompressor.decompress(Compression::Zstd, &stream), Ok(&*text(50_000)));
}

#[cfg(not(feature = "zstd"))]
#[test]
fn zstd_left_out_is_said_so() {
    let codec = Compression::Zstd;
    let error = Decompressor::new(CAP).decompress(codec, b"").unwrap_err();
    assert_eq!(error, RecordError::UnsupportedCompression { codec });
    let error = Compressor::new(codec, None).unwrap_err();
    assert_eq!(error, CompressorError::Unsupported { codec });
}
