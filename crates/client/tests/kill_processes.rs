//! Work that is handed out by `process` survives rebalances and kills (`work`). Members are processes of their own and are killed with
//! SIGKILL.
//!
//! The program starts itself as a member. A member writes each record that it has finished to a file, in one system call, before the
//! record is acknowledged: who reads the commits first and the files after them sees everything that the commits cover.
//!
//! A million records: `KAVKA_KILLS_RECORDS=1000000 cargo test --release -p kavka-client --test kill_processes`.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod work;

use std::{
    fs::{self, File},
    io::{BufRead, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use kavka_client::consumer::{Ordering, Record};
use work::{Crew, Finished};

const NAME: &str = "rebalances_and_kills_of_processes_lose_nothing_and_commit_nothing_unfinished";
/// Makes the program a member: the broker, and its file.
const MEMBER: &str = "KAVKA_KILLS_MEMBER";
/// Partition and offset of a finished record.
const ROW: usize = 12;

fn main() {
    if let Ok(servers) = std::env::var(MEMBER) {
        let file = PathBuf::from(std::env::args().nth(1).unwrap());
        return member(&servers, &file);
    }
    // As far as `cargo test` asks for it: names that are looked for, and options.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return println!("{NAME}: test");
    }
    let mut names = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
    if names.peek().is_some() && !names.any(|name| NAME.contains(name.as_str())) {
        return;
    }
    let folder = std::env::temp_dir().join(format!("kavka-kills-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let crew = |servers, finished| Processes {
        folder: folder.clone(),
        servers,
        written: vec![],
        finished,
    };
    tokio::runtime::Runtime::new().unwrap().block_on(work::survives_rebalances_and_kills(crew));
    fs::remove_dir_all(folder).unwrap();
    println!("test {NAME} ... ok");
}

// ---- a member ----

#[tokio::main(flavor = "current_thread")]
async fn member(servers: &str, file: &Path) {
    let consumer = work::consumer(servers).await.unwrap();
    let handle = consumer.handle();
    let processor = consumer.process(Ordering::Key, 64);
    let stopper = processor.stopper();
    // A line asks for a rebalance; the end of stdin has the member leave.
    std::thread::spawn(move || {
        for _ in std::io::stdin().lock().lines() {
            handle.enforce_rebalance("the test wants one").unwrap();
        }
        stopper.stop();
    });
    let finished = Arc::new(File::options().append(true).create(true).open(file).unwrap());
    let done = processor.run(move |record| handle_record(Arc::clone(&finished), record)).await;
    done.unwrap();
}

async fn handle_record(finished: Arc<File>, record: Record) -> Result<(), std::io::Error> {
    work::work_on(&record).await;
    let mut row = [0; ROW];
    row[..4].copy_from_slice(&record.partition().to_be_bytes());
    row[4..].copy_from_slice(&record.offset().to_be_bytes());
    (&*finished).write_all(&row)
}

// ---- who starts and kills them ----

struct Processes {
    folder: PathBuf,
    servers: String,
    /// What all members have written, those that were killed too.
    written: Vec<Written>,
    finished: Arc<Mutex<Finished>>,
}

struct Written {
    file: File,
    rest: Vec<u8>,
}

/// A process.
struct Member(Child);

impl Crew for Processes {
    type Member = Member;

    async fn start(&mut self) -> Member {
        let path = self.folder.join(self.written.len().to_string());
        let mut command = Command::new(std::env::current_exe().unwrap());
        let command = command.arg(&path).env(MEMBER, &self.servers).stdin(Stdio::piped());
        let process = command.spawn().unwrap();
        let file = File::options().read(true).append(true).create(true).open(&path).unwrap();
        self.written.push(Written { file, rest: Vec::new() });
        Member(process)
    }

    fn enforce_rebalance(member: &mut Member) {
        member.0.stdin.as_mut().unwrap().write_all(b"rebalance\n").unwrap();
    }

    /// SIGKILL.
    fn kill(mut member: Member) {
        member.0.kill().unwrap();
        member.0.wait().unwrap();
    }

    async fn stop(members: Vec<Member>) {
        // Waiting for a process blocks, and the broker is in this one.
        let stop = |mut member: Member| {
            drop(member.0.stdin.take());
            let status = member.0.wait().unwrap();
            assert!(status.success(), "a member ended with {status}");
        };
        tokio::task::spawn_blocking(move || members.into_iter().for_each(stop)).await.unwrap();
    }

    fn read(&mut self) {
        let mut finished = self.finished.lock().unwrap();
        for written in &mut self.written {
            written.file.read_to_end(&mut written.rest).unwrap();
            let rows = written.rest.chunks_exact(ROW);
            let rest = rows.remainder().to_vec();
            for row in rows {
                let partition = i32::from_be_bytes(row[..4].try_into().unwrap());
                finished.add(partition, i64::from_be_bytes(row[4..].try_into().unwrap()));
            }
            written.rest = rest;
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // When the test fails, nobody is left behind. One that has ended cannot be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
