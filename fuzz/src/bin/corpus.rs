//! Writes the seeds of every target to `corpus/TARGET/`, from the golden vectors of `kavka-protocol`.

use std::{error::Error, fs, io::Read, path::Path, sync::Arc};

use flate2::read::GzDecoder;
use kavka_log::{
    AppendOptions, LogConfig, LogStore, NoListener, SegmentStore, StoreOptions, SyncerMode,
    fs::{Fs, OpenMode},
    testing::{SimFs, conformance::id, payload},
};
use kavka_protocol::messages;
use serde_json::Value;

#[path = "../recovery.rs"]
#[allow(dead_code, reason = "only the names are needed here")]
mod recovery;

fn main() -> Result<(), Box<dyn Error>> {
    for file in ["messages.jsonl", "malformed.jsonl"] {
        for (index, line) in lines(file)?.iter().enumerate() {
            let name = line["name"].as_str().ok_or("a vector has a name")?;
            let version =
                i16::try_from(line["version"].as_i64().ok_or("a version")?)?.to_be_bytes();
            let mut body = bytes(line)?;
            if line["prefix"].is_string() {
                body.drain(..body.len().min(2));
            }
            let kind = line["type"].as_str().unwrap_or_default();
            if let ("request" | "response", Some(api)) = (kind, line["api_key"].as_i64()) {
                let api = i16::try_from(api)?.to_be_bytes();
                seed(kind, file, index, &[&api, &version, &body])?;
            }
            if let Some(at) = messages::NAMES.iter().position(|known| *known == name) {
                let at = i16::try_from(at)?.to_be_bytes();
                seed("message", file, index, &[&at, &version, &body])?;
            }
        }
    }
    recovery_seeds()?;
    let file = "record_batches.jsonl";
    for (index, line) in lines(file)?.iter().enumerate() {
        let batches = bytes(line)?;
        seed("batches", file, index, &[&batches])?;
        // Behind the header of a batch of magic 2 stand the compressed records; the codec is in its attributes.
        if let (Some(2), Some(attributes), Some(records)) =
            (batches.get(16), batches.get(22), batches.get(61..))
        {
            seed("codec", file, index, &[&[attributes & 7], records])?;
        }
    }
    Ok(())
}

/// A directory as the log crate writes it, whole and with each file alone.
fn recovery_seeds() -> Result<(), Box<dyn Error>> {
    let fs = SimFs::default();
    let options = StoreOptions { syncer: SyncerMode::Manual, ..StoreOptions::default() };
    let store = SegmentStore::open_on(Arc::new(fs.clone()), "data", options, Arc::new(|_| {}))?;
    let config =
        LogConfig { segment_bytes: 600, index_interval_bytes: 100, ..LogConfig::default() };
    let log = store.open(&id("t", 0, 1), config, Arc::new(NoListener))?;
    for _ in 0..10 {
        log.append(payload(log.log_end_offset(), 2, 30, 1), AppendOptions::default())?;
    }
    log.put_snapshot(5, "state".into())?;
    store.close()?;
    let mut whole = Vec::new();
    for (i, name) in recovery::FILES.iter().enumerate() {
        let Ok(file) = fs.open(&Path::new("data/t-0").join(name), OpenMode::Read) else { continue };
        let mut bytes = vec![0; usize::try_from(file.size()?)?];
        file.read_at(&mut bytes, 0)?;
        let head = [&[u8::try_from(i)?][..], &u16::try_from(bytes.len())?.to_be_bytes()].concat();
        whole.extend_from_slice(&head);
        whole.extend_from_slice(&bytes);
        seed("recovery", name, 0, &[&head, &bytes])?;
    }
    seed("recovery", "whole", 0, &[&whole])
}

fn lines(name: &str) -> Result<Vec<Value>, Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/protocol/tests/golden");
    let mut text = String::new();
    GzDecoder::new(fs::File::open(folder.join(format!("{name}.gz")))?).read_to_string(&mut text)?;
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

fn bytes(line: &Value) -> Result<Vec<u8>, Box<dyn Error>> {
    let hex = line["hex"].as_str().ok_or("a vector has bytes")?;
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16);
    Ok((0..hex.len()).step_by(2).map(byte).collect::<Result<_, _>>()?)
}

fn seed(target: &str, file: &str, index: usize, parts: &[&[u8]]) -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("{file}-{}", index + 1)), parts.concat())?;
    Ok(())
}
