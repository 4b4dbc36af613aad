//! Lines of files and of standard input, read by a thread of their own.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    sync::Arc,
    vec::IntoIter,
};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::failure::Failure;

/// How much is read at once, at most.
const BLOCK_BYTES: usize = 1 << 16;
/// How many blocks are read ahead.
const AHEAD: usize = 8;

/// A line, without its end.
#[derive(Debug)]
pub(super) struct Line {
    /// Where it was.
    pub(super) place: Place,
    /// What it is.
    pub(super) bytes: Vec<u8>,
}

/// The place of a line.
#[derive(Clone, Debug)]
pub(super) struct Place {
    file: Arc<str>,
    number: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}", self.file, self.number)
    }
}

/// Lines that come.
#[derive(Debug)]
pub(super) struct Input {
    blocks: Receiver<Block>,
    lines: IntoIter<Line>,
}

/// Lines that were there at once: handing over each alone would take longer than sending it.
type Block = Result<Vec<Line>, Failure>;

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
        let (sender, blocks) = channel(AHEAD);
        // It ends with the process if nobody ends standard input.
        std::thread::spawn(move || {
            for (name, source) in sources {
                if !read(&name, source, &sender) {
                    break;
                }
            }
        });
        Ok(Self { blocks, lines: Vec::new().into_iter() })
    }

    /// The next line; none at the end. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<Line>, Failure> {
        loop {
            if let Some(line) = self.lines.next() {
                return Ok(Some(line));
            }
            match self.blocks.recv().await {
                Some(block) => self.lines = block?.into_iter(),
                None => return Ok(None),
            }
        }
    }
}

/// Whether to go on with the next file.
fn read(name: &Arc<str>, mut source: impl BufRead, sender: &Sender<Block>) -> bool {
    let mut number = 0;
    let mut line = |bytes: Vec<u8>| {
        number += 1;
        Line { place: Place { file: Arc::clone(name), number }, bytes }
    };
    // The beginning of a line whose end is not there yet.
    let mut begun = Vec::new();
    loop {
        // Waits only while there is nothing: a line that was typed is handed over before the next one is.
        let bytes = match source.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let failure = Failure::new(format!("cannot read {name}: {error}"));
                let _ = sender.blocking_send(Err(failure));
                return false;
            }
        };
        if bytes.is_empty() {
            let last = if begun.is_empty() { Vec::new() } else { vec![line(begun)] };
            return last.is_empty() || sender.blocking_send(Ok(last)).is_ok();
        }
        let length = bytes.len();
        let mut lines = Vec::new();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            begun.extend_from_slice(&rest[..end]);
            lines.push(line(std::mem::take(&mut begun)));
            rest = &rest[end + 1..];
        }
        begun.extend_from_slice(rest);
        source.consume(length);
        if !lines.is_empty() && sender.blocking_send(Ok(lines)).is_err() {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn lines(text: &[u8], capacity: usize) -> Vec<(u64, Vec<u8>)> {
        let (sender, mut receiver) = channel(1000);
        assert!(read(&"f".into(), BufReader::with_capacity(capacity, text), &sender));
        drop(sender);
        let mut all = Vec::new();
        while let Some(block) = receiver.blocking_recv() {
            all.extend(block.unwrap().into_iter().map(|line| (line.place.number, line.bytes)));
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
