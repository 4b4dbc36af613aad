//! libFuzzer over [`kavka_fuzz::request`]: a request, its API and version in front.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kavka_fuzz::request(data));
