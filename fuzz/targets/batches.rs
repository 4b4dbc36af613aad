//! libFuzzer over [`kavka_fuzz::batches`]: what a `records` field or a segment file holds.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kavka_fuzz::batches(data));
