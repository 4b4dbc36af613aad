//! Reads a golden file: from `GOLDEN_DIR` if that is set, else the compressed copy beside the tests.

use std::io::Read;
use std::path::Path;

use serde_json::Value;

/// The JSON objects of the file `name`, one a line.
pub(crate) fn lines(name: &str) -> Vec<Value> {
    let text = match std::env::var_os("GOLDEN_DIR") {
        Some(directory) => std::fs::read_to_string(Path::new(&directory).join(name)).unwrap(),
        None => {
            let path =
                Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.gz"));
            let mut text = String::new();
            let file = std::fs::File::open(path).unwrap();
            flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
            text
        }
    };
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The bytes of a lower case hex string.
pub(crate) fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    assert_eq!(hex.len() % 2, 0);
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}
