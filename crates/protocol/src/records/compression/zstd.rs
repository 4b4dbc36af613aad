//! Zstandard, by the library's one-shot calls.
//!
//! The streaming calls allocate the window that a frame declares, up to 128 MiB for a frame of a few
//! bytes. The one-shot call needs no window but the output, at the price of a second attempt where the
//! output was guessed too small.

use zstd::zstd_safe::{self, CCtx, CParameter, DCtx};

use super::{Fault, KEPT_CAPACITY, Output, truncated};

/// The library's error code for an output that is too small. Codes below 100 never change.
const OUTPUT_TOO_SMALL: usize = 70_usize.wrapping_neg();

/// First guess of the output, in multiples of the input. Records seldom compress better.
const FIRST_RATIO: usize = 8;
/// The output grows by this much from one attempt to the next, which bounds the work lost to a third.
const GROWTH: usize = 4;
const SMALLEST_GUESS: usize = 4096;

#[derive(Default)]
pub(super) struct Decoder {
    context: Option<DCtx<'static>>,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}

impl Decoder {
    /// Reads all frames of `input`, which must end with the last of them.
    pub(super) fn decompress(&mut self, input: &[u8], out: &mut Output<'_>) -> Result<(), Fault> {
        assert_eq!(out.len(), 0, "the one-shot call writes from the start");
        if input.is_empty() {
            // To the library this is a sequence of no frames; a batch has one at least.
            return Err(truncated());
        }
        let context = self.context.get_or_insert_with(DCtx::create);
        let mut guess = input.len().saturating_mul(FIRST_RATIO).max(SMALLEST_GUESS);
        loop {
            guess = guess.min(out.limit);
            out.reserve(guess);
            // The capacity may be larger, of a buffer that is used again.
            let room = out.bytes.capacity().min(out.limit);
            match context.decompress(out.bytes, input) {
                Ok(written) if written <= out.limit => return Ok(()),
                Ok(_) => return Err(Fault::TooLarge),
                Err(OUTPUT_TOO_SMALL) if room == out.limit => return Err(Fault::TooLarge),
                Err(OUTPUT_TOO_SMALL) => {
                    // Drop before growing: what is there need not be copied.
                    out.bytes.clear();
                    guess = room.saturating_mul(GROWTH);
                }
                Err(code) => return Err(Fault::corrupt(zstd_safe::get_error_name(code))),
            }
        }
    }
}

/// Lowest and highest level.
pub(super) fn levels() -> (i32, i32) {
    (zstd_safe::min_c_level(), zstd_safe::max_c_level())
}

pub(super) struct Encoder {
    context: CCtx<'static>,
    /// What is compressed comes here first: the library writes into room of a vector that was never cleared, but only from its start.
    frame: Vec<u8>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    /// `level` must be within [`levels`].
    pub(super) fn new(level: Option<i32>) -> Encoder {
        let mut context = CCtx::create();
        let level = level.unwrap_or(zstd_safe::CLEVEL_DEFAULT);
        if let Err(code) = context.set_parameter(CParameter::CompressionLevel(level)) {
            unreachable!("level {level} refused: {}", zstd_safe::get_error_name(code));
        }
        Encoder { context, frame: Vec::new() }
    }

    pub(super) fn compress(&mut self, data: &[u8], out: &mut Vec<u8>) {
        self.frame.clear();
        self.frame.reserve(zstd_safe::compress_bound(data.len()));
        if let Err(code) = self.context.compress2(&mut self.frame, data) {
            unreachable!("zstd into its bound failed: {}", zstd_safe::get_error_name(code));
        }
        out.extend_from_slice(&self.frame);
        if self.frame.capacity() > KEPT_CAPACITY {
            self.frame = Vec::new();
        }
    }
}
