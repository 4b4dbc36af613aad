//! Lines of files and of standard input, read by a thread of their own.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::failure::Failure;

/// How much is read at once, at most.
const BLOCK_BYTES: usize = 1 << 16;
/// How many blocks are read ahead.
const AHEAD: usize = 8;

/// Lines that were there at once: handing over each alone would take longer than sending it.
#[derive(Debug)]
pub(super) struct Block {
    /// Which of the files, and the number of the first line.
    first: Place,
    /// Whole lines; the last one's end may be that of the file.
    bytes: Vec<u8>,
}

/// The place of a line. Small, for there is one for each record that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    file: u32,
    number: u64,
}

impl Place {
    /// The line behind it.
    pub(super) fn next(self) -> Self {
        Self { number: self.number + 1, ..self }
    }
}

/// Lines that come.
#[derive(Debug)]
pub(super) struct Input {
    names: Vec<Arc<str>>,
    blocks: Receiver<Result<Block, Failure>>,
}

impl Input {
    /// Begins to read; a file that cannot be opened is found out now.
    pub(super) fn open(files: &[PathBuf]) -> Result<Self, Failure> {
        let standard_input = [PathBuf::from("-")];
        let files = if files.is_empty() { &standard_input[..] } else { files };
        let mut sources: Vec<(Arc<str>, Box<dyn BufRead + Send>)> = Vec::new();
        for path in files {
            if path == Path::new("-") {
                let stdin = BufReader::with_capacity(BLOCK_BYTES, io::stdin());
                sources.push(("standard input".into(), Box::new(stdin)));
            } else {
                let name = path.display().to_string();
                let file = File::open(path)
                    .map_err(|error| Failure::usage(format!("cannot read {name}: {error}")))?;
                let file = BufReader::with_capacity(BLOCK_BYTES, file);
                sources.push((name.into(), Box::new(file)));
            }
        }
        let names = sources.iter().map(|(name, _)| Arc::clone(name)).collect();
        let (sender, blocks) = channel(AHEAD);
        // It ends with the process if nobody ends standard input.
        std::thread::spawn(move || {
            for (file, (name, source)) in (0..).zip(sources) {
                if !read(file, &name, source, &sender) {
                    break;
                }
            }
        });
        Ok(Self { names, blocks })
    }

    /// The next lines; none at the end. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<Block>, Failure> {
        self.blocks.recv().await.transpose()
    }

    /// The first line that was read and not taken, if there is one. It is taken with it.
    pub(super) fn waiting(&mut self) -> Option<Place> {
        Some(self.blocks.try_recv().ok()?.ok()?.first)
    }

    /// A place as people say it.
    pub(super) fn shown(&self, place: Place) -> String {
        let name = self.names.get(place.file as usize).map_or("", |name| name);
        format!("{name}, line {}", place.number)
    }
}

impl Block {
    /// The lines, without their ends.
    pub(super) fn lines(&self) -> impl Iterator<Item = (Place, &[u8])> {
        let mut rest = &self.bytes[..];
        let mut place = self.first;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let line = (place, &rest[..end]);
            rest = rest.get(end + 1..).unwrap_or_default();
            place.number += 1;
            Some(line)
        })
    }
}

/// Whether to go on with the next file.
fn read(
    file: u32,
    name: &str,
    mut source: impl BufRead,
    sender: &Sender<Result<Block, Failure>>,
) -> bool {
    let mut number = 1;
    // The beginning of a line whose end is not there yet.
    let mut begun = Vec::new();
    loop {
        // Waits only while there is nothing: a line that was typed is handed over before the next one is.
        let found = match source.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let failure = Failure::new(format!("cannot read {name}: {error}"));
                let _ = sender.blocking_send(Err(failure));
                return false;
            }
        };
        let length = found.len();
        let is_end = length == 0;
        let whole = match memchr::memrchr(b'\n', found) {
            Some(last) => last + 1,
            None => 0,
        };
        let mut bytes = std::mem::take(&mut begun);
        bytes.extend_from_slice(&found[..whole]);
        if whole == 0 && !is_end {
            begun = bytes;
            begun.extend_from_slice(found);
        } else {
            begun.extend_from_slice(&found[whole..]);
            if !bytes.is_empty() {
                let block = Block { first: Place { file, number }, bytes };
                number += block.lines().count() as u64;
                if sender.blocking_send(Ok(block)).is_err() {
                    return false;
                }
            }
        }
        source.consume(length);
        if is_end {
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn lines(text: &[u8], capacity: usize) -> Vec<(u64, Vec<u8>)> {
        let (sender, mut receiver) = channel(1000);
        assert!(read(3, "f", BufReader::with_capacity(capacity, text), &sender));
        drop(sender);
        let mut all = Vec::new();
        while let Some(block) = receiver.blocking_recv() {
            let block = block.unwrap();
            assert!(block.lines().all(|(place, _)| place.file == 3));
            all.extend(block.lines().map(|(place, line)| (place.number, line.to_vec())));
        }
        all
    }

    #[test]
    fn lines_are_the_same_wherever_blocks_end() {
        let text = b"a\n\nlonger than a block\r\nlast";
        let expected: Vec<(u64, Vec<u8>)> = [&b"a"[..], b"", b"longer than a block\r", b"last"]
            .into_iter()
            .map(<[u8]>::to_vec)
            .zip(1..)
            .map(|(bytes, number)| (number, bytes))
            .collect();
        for capacity in 1..40 {
            assert_eq!(lines(text, capacity), expected, "{capacity}");
        }
        assert_eq!(lines(b"", 8), []);
        assert_eq!(lines(b"\n", 8), [(1, Vec::new())]);
    }
}
