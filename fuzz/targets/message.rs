//! libFuzzer over [`kavka_fuzz::message`]: any message of the schemas: also headers, stored records and embedded blobs.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kavka_fuzz::message(data));
