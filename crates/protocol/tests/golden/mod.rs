//! Reference vectors: what Apache Kafka 4.4.0's own classes read and wrote.
//!
//! The compressed copies beside this file are read, or, where the environment names a directory in `GOLDEN_DIR`, the plain files of
//! the same names there.

#![allow(dead_code, clippy::unwrap_used)]

use std::{env, fs, io::Read, path::Path};

use bytes::Bytes;
use flate2::read::GzDecoder;
use serde_json::Value;

/// The text of one file.
pub(crate) fn text(name: &str) -> String {
    if let Some(directory) = env::var_os("GOLDEN_DIR") {
        let path = Path::new(&directory).join(name);
        return fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.gz"));
    let packed = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut text = String::new();
    GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
    text
}

/// The JSON objects of one file, one a line.
pub(crate) fn lines(name: &str) -> Vec<Value> {
    text(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// One line of `messages.jsonl` or `malformed.jsonl`.
pub(crate) struct Vector {
    /// Where it stands, and what it is: for what a failed test says.
    pub(crate) label: String,
    pub(crate) name: String,
    pub(crate) version: i16,
    /// The bytes of the message, and the int16 before them where there is one.
    pub(crate) bytes: Bytes,
    pub(crate) prefix: Option<i16>,
    /// All the rest.
    pub(crate) line: Value,
}

/// The vectors of one file.
pub(crate) fn vectors(name: &str) -> Vec<Vector> {
    lines(name).into_iter().enumerate().map(|(index, line)| vector(name, index, line)).collect()
}

fn vector(file: &str, index: usize, line: Value) -> Vector {
    let name = line["name"].as_str().unwrap().to_owned();
    let version = i16::try_from(line["version"].as_i64().unwrap()).unwrap();
    let what = ["variant", "mutation"].iter().find_map(|key| line[key].as_str()).unwrap();
    let label = format!("{file}:{}: {name} v{version}, {what}", index + 1);
    let mut bytes = Bytes::from(bytes(&line["hex"]));
    let prefix = (line["prefix"].is_string() && bytes.len() >= 2).then(|| {
        let prefix = bytes.split_to(2);
        i16::from_be_bytes([prefix[0], prefix[1]])
    });
    Vector { label, name, version, bytes, prefix, line }
}

/// The bytes of a JSON string of hex digits.
pub(crate) fn bytes(hex: &Value) -> Vec<u8> {
    unhex(hex.as_str().unwrap())
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "an odd number of digits");
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
