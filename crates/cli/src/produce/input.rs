//! Lines of files and of standard input, read by a thread of their own.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::failure::Failure;

/// How many lines are read ahead.
const AHEAD: usize = 1024;

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
pub(super) struct Input(Receiver<Result<Line, Failure>>);

impl Input {
    /// Begins to read; a file that cannot be opened is found out now.
    pub(super) fn open(files: &[PathBuf]) -> Result<Self, Failure> {
        let standard_input = [PathBuf::from("-")];
        let files = if files.is_empty() { &standard_input[..] } else { files };
        let mut sources: Vec<(Arc<str>, Box<dyn BufRead + Send>)> = Vec::new();
        for path in files {
            if path == Path::new("-") {
                sources.push(("standard input".into(), Box::new(BufReader::new(io::stdin()))));
            } else {
                let name = path.display().to_string();
                let file = File::open(path)
                    .map_err(|error| Failure::usage(format!("cannot read {name}: {error}")))?;
                sources.push((name.into(), Box::new(BufReader::new(file))));
            }
        }
        let (sender, receiver) = channel(AHEAD);
        // It ends with the process if nobody ends standard input.
        std::thread::spawn(move || {
            for (name, source) in sources {
                if !read(&name, source, &sender) {
                    break;
                }
            }
        });
        Ok(Self(receiver))
    }

    /// The next line; none at the end. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<Line>, Failure> {
        self.0.recv().await.transpose()
    }
}

/// Whether to go on with the next file.
fn read(name: &Arc<str>, mut source: impl BufRead, sender: &Sender<Result<Line, Failure>>) -> bool {
    for number in 1.. {
        let mut bytes = Vec::new();
        let line = match source.read_until(b'\n', &mut bytes) {
            Ok(0) => return true,
            Ok(_) => {
                if bytes.last() == Some(&b'\n') {
                    bytes.pop();
                }
                Ok(Line { place: Place { file: Arc::clone(name), number }, bytes })
            }
            Err(error) => Err(Failure::new(format!("cannot read {name}: {error}"))),
        };
        let failed = line.is_err();
        if sender.blocking_send(line).is_err() || failed {
            return false;
        }
    }
    true
}
