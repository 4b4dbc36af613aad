//! Writes a valid history of about so many events, to see how long `kavka-check` takes: `long_history 520000 > history.jsonl`.
//! It comes from the generator of the checker's own tests.

#[path = "../tests/judgements/random.rs"]
mod random;
#[allow(dead_code, unused_imports, clippy::unwrap_used, reason = "written for tests")]
#[path = "../tests/judgements/story.rs"]
mod story;
#[allow(dead_code, unused_imports, clippy::unwrap_used, reason = "written for tests")]
#[path = "../tests/judgements/valid.rs"]
mod valid;

use std::io::{BufWriter, Write, stdout};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let events = std::env::args().nth(1).ok_or("how many events?")?.parse()?;
    let mut out = BufWriter::new(stdout().lock());
    valid::long_history(1, events).write(&mut out)?;
    out.flush()?;
    Ok(())
}
