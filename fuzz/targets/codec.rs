//! libFuzzer over [`kavka_fuzz::codec`]: the bytes of a compressed batch, and the codec in front.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kavka_fuzz::codec(data));
