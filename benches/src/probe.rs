//! What the operating system takes for the least that a broker has to do: the floor below its figures.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use rustix::time::{ClockId, clock_gettime};

use crate::{scenario::unique_name, stats::Latencies};

/// Bytes appended before each sync: about what the batch of a small commit takes.
const APPENDED_BYTES: usize = 200;
/// Bytes of each write to a socket.
const WRITTEN_BYTES: usize = 1 << 20;

/// CPU time of a thread that writes `mib` MiB of memory to a loopback connection, 1 MiB at a time, and does nothing else.
///
/// The kernel copies them, and carries them to the receiver's queue in the sender's name.
pub(crate) fn loopback_write(mib: usize) -> anyhow::Result<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::scope(|scope| {
        let reader = scope.spawn(move || -> std::io::Result<()> {
            let mut stream = TcpStream::connect(address)?;
            let mut buffer = vec![0; WRITTEN_BYTES];
            while stream.read(&mut buffer)? > 0 {}
            Ok(())
        });
        let writer = scope.spawn(move || -> std::io::Result<Duration> {
            let (mut stream, _) = listener.accept()?;
            let bytes = vec![0x5a; WRITTEN_BYTES];
            let before = thread_cpu_time();
            for _ in 0..mib {
                stream.write_all(&bytes)?;
            }
            Ok(thread_cpu_time().saturating_sub(before))
        });
        let cpu = writer.join().map_err(|_| anyhow!("the loopback probe panicked"))??;
        reader.join().map_err(|_| anyhow!("the loopback probe panicked"))??;
        Ok(cpu)
    })
}

fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Appends a few bytes to a file and waits for the disk to have them, in a loop, as a log that syncs each commit must.
pub(crate) fn append_and_sync(folder: &Path, duration: Duration) -> anyhow::Result<Latencies> {
    let path = folder.join(unique_name("fdatasync"));
    let mut file = OpenOptions::new()
        .create_new(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("cannot create {}", path.display()))?;
    let latencies = sync_loop(&mut file, duration)
        .with_context(|| format!("cannot write and sync {}", path.display()));
    std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    latencies
}

fn sync_loop(file: &mut File, duration: Duration) -> std::io::Result<Latencies> {
    let bytes = [0x5a; APPENDED_BYTES];
    let mut latencies = Latencies::default();
    let started = Instant::now();
    while started.elapsed() < duration {
        let before = Instant::now();
        file.write_all(&bytes)?;
        file.sync_data()?;
        latencies.push(before.elapsed());
    }
    Ok(latencies)
}
