//! Measures what the log costs: appends, a start after a crash, and reads from the disk.
//!
//! ```text
//! cargo run --release -p kavka-log --example log_costs [DIR [MIB]]
//! ```
//!
//! In DIR (below the system's folder for temporary files), which is on the disk that is measured:
//!
//! - batches of 16 KiB appended, relaxed and synced one by one, with the processor time of the whole process for each;
//! - a process that appends MIB (100) and aborts without closing anything, and then the time to open the partition and the bytes
//!   that were read for it, with checkpoints as they are by default and without any; and again after a clean stop;
//! - the partition read from begin to end, with every checksum verified.
//!
//! Before each opening the system is asked to forget what it has in memory of the files, so that they are read from the disk.

use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kavka_log::{
    AppendOptions, Durability, LogConfig, LogError, LogId, LogListener, LogStore, PartitionLog,
    SegmentStore, StoreOptions, slices_from,
};
use kavka_protocol::Uuid;
use kavka_protocol::records::{BatchBuilder, patch_base_offset};

const BATCH: usize = 16 << 10;
const RECORDS: i64 = 148;
/// The first argument of the process that is to be killed.
const CRASH: &str = "--crash";

/// Waits for what is durable.
#[derive(Default)]
struct Waiter {
    durable: Mutex<i64>,
    moved: Condvar,
}

impl Waiter {
    fn wait(&self, offset: i64) {
        let durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.moved.wait_while(durable, |durable| *durable < offset));
    }
}

impl LogListener for Waiter {
    fn durable(&self, up_to: i64) {
        *self.durable.lock().unwrap_or_else(PoisonError::into_inner) = up_to;
        self.moved.notify_all();
    }

    fn failed(&self, error: &LogError) {
        eprintln!("{error}");
        exit(1);
    }
}

struct Opened {
    store: SegmentStore,
    log: Arc<dyn PartitionLog>,
    waiter: Arc<Waiter>,
}

fn open(dir: &Path, checkpoint_bytes: u64) -> Result<Opened, LogError> {
    let options = StoreOptions { checkpoint_bytes, reserve_bytes: 0, ..StoreOptions::default() };
    let on_fatal = Arc::new(|error: &LogError| {
        eprintln!("{error}");
        exit(1);
    });
    let store = SegmentStore::open_dir(dir, options, on_fatal)?;
    let waiter = Arc::new(Waiter::default());
    let topic_id = Uuid::from_bytes([1; 16]);
    let id = LogId { topic: "costs".into(), partition: 0, topic_id };
    let log = store.open(&id, LogConfig::default(), Arc::clone(&waiter) as _)?;
    Ok(Opened { store, log, waiter })
}

/// A batch of 16 KiB, of records of about 100 bytes, at offset 0.
fn batch() -> Result<Vec<u8>, Box<dyn Error>> {
    let mut builder = BatchBuilder::new(0).with_leader_epoch(0);
    for i in 0..RECORDS {
        let value = format!("{:099}", i * 7_919);
        builder.append(1_700_000_000_000 + i, None, Some(value.as_bytes()), &[])?;
    }
    let last = BATCH.saturating_sub(builder.size() + 70);
    builder.append(1_700_000_000_000 + RECORDS, None, Some(&vec![b'.'; last]), &[])?;
    Ok(builder.build()?.into())
}

impl Opened {
    fn append(&self, batch: &[u8], durability: Durability) -> Result<i64, LogError> {
        let mut batch = batch.to_vec();
        patch_base_offset(&mut batch, self.log.log_end_offset());
        let options = AppendOptions { durability, ..AppendOptions::default() };
        Ok(self.log.append(Bytes::from(batch), options)?.end_offset)
    }
}

/// Processor time of this process so far.
fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    let mut total = Duration::ZERO;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let schedule = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        let spent = schedule.split(' ').next().unwrap_or_default();
        total += Duration::from_nanos(spent.parse()?);
    }
    Ok(total)
}

/// Bytes that this process read so far, and how many of them the disk gave.
fn bytes_read() -> Result<(u64, u64), Box<dyn Error>> {
    let io = std::fs::read_to_string("/proc/self/io")?;
    let field = |name| -> Result<u64, Box<dyn Error>> {
        let value = io.lines().find_map(|line| line.strip_prefix(name));
        Ok(value.ok_or("a field is not in /proc/self/io")?.trim().parse()?)
    };
    Ok((field("rchar:")?, field("read_bytes:")?))
}

/// What some work took.
struct Cost {
    wall: Duration,
    cpu: Duration,
    read: u64,
    read_from_disk: u64,
}

fn measured<T>(work: impl FnOnce() -> Result<T, LogError>) -> Result<(T, Cost), Box<dyn Error>> {
    let (cpu, (read, from_disk), started) = (cpu_time()?, bytes_read()?, Instant::now());
    let done = work()?;
    let wall = started.elapsed();
    let (read_after, from_disk_after) = bytes_read()?;
    let cost = Cost {
        wall,
        cpu: cpu_time()? - cpu,
        read: read_after - read,
        read_from_disk: from_disk_after - from_disk,
    };
    Ok((done, cost))
}

fn appends(dir: &Path, batch: &[u8]) -> Result<(), Box<dyn Error>> {
    const RELAXED: u32 = 6_400;
    const SYNCED: u32 = 2_000;
    let opened = open(dir, StoreOptions::default().checkpoint_bytes)?;
    // Directories, threads and the first segment are there.
    let first = opened.append(batch, Durability::Synced)?;
    opened.waiter.wait(first);
    let ((), Cost { wall, cpu, .. }) = measured(|| {
        (0..RELAXED).try_for_each(|_| opened.append(batch, Durability::Relaxed).map(drop))
    })?;
    println!("append, relaxed: {:?} of processor, {:?} each", cpu / RELAXED, wall / RELAXED);
    let end = opened.append(batch, Durability::Synced)?;
    opened.waiter.wait(end);
    let ((), Cost { wall, cpu, .. }) = measured(|| {
        (0..SYNCED).try_for_each(|_| {
            opened.append(batch, Durability::Synced).map(|end| opened.waiter.wait(end))
        })
    })?;
    println!(
        "append, synced one by one: {:?} of processor, {:?} each",
        cpu / SYNCED,
        wall / SYNCED
    );
    opened.store.close()?;
    Ok(())
}

/// What the process does that is killed: every batch is acknowledged after its sync, of many at a time.
fn crash(dir: &Path, mib: usize, checkpoint_bytes: u64) -> Result<(), Box<dyn Error>> {
    let batch = batch()?;
    let opened = open(dir, checkpoint_bytes)?;
    for n in 0..(mib << 20) / batch.len() {
        let end = opened.append(&batch, Durability::Synced)?;
        if n % 64 == 63 {
            opened.waiter.wait(end);
        }
    }
    opened.waiter.wait(opened.log.log_end_offset());
    // Nothing is closed, flushed or dropped.
    std::process::abort();
}

/// Asks the system to forget what it holds in memory of the partition's files.
fn forget_cached(dir: &Path) -> Result<(), Box<dyn Error>> {
    for entry in std::fs::read_dir(dir.join("costs-0"))? {
        let file = File::open(entry?.path())?;
        file.sync_all()?;
        #[cfg(target_os = "linux")]
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}

fn recovery(what: &str, dir: &Path) -> Result<Opened, Box<dyn Error>> {
    forget_cached(dir)?;
    let default = StoreOptions::default().checkpoint_bytes;
    let (opened, cost) = measured(|| open(dir, default))?;
    println!(
        "open {what}: {:?}, {:?} of processor, {} bytes read ({} from the disk) of {}, {} of them verified",
        cost.wall,
        cost.cpu,
        cost.read,
        cost.read_from_disk,
        opened.log.size_bytes(),
        opened.log.recovery().scanned_bytes
    );
    Ok(opened)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mark, dir, mib, checkpoint_bytes] = &arguments[..]
        && mark == CRASH
    {
        return crash(Path::new(dir), mib.parse()?, checkpoint_bytes.parse()?);
    }
    let given = arguments.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let mib = arguments.get(1).map_or(Ok(100), |mib| mib.parse::<usize>())?;
    let dir = given.join(format!("kavka-log-costs-{}", std::process::id()));
    let batch = batch()?;
    println!("batches of {} bytes in {}", batch.len(), dir.display());
    let result = run(&dir, mib, &batch);
    std::fs::remove_dir_all(&dir)?;
    result
}

fn run(dir: &Path, mib: usize, batch: &[u8]) -> Result<(), Box<dyn Error>> {
    appends(&dir.join("appends"), batch)?;
    let default = StoreOptions::default().checkpoint_bytes;
    for (name, checkpoint_bytes) in [("never", u64::MAX), ("often", default)] {
        let dir = dir.join(name);
        let status = Command::new(std::env::current_exe()?)
            .args([CRASH.as_ref(), dir.as_os_str()])
            .args([mib.to_string(), checkpoint_bytes.to_string()])
            .status()?;
        if status.code().is_some() {
            return Err("the process that was to crash ended by itself".into());
        }
        let what = match name {
            "never" => "after a crash, no checkpoint written",
            _ => "after a crash",
        };
        let opened = recovery(what, &dir)?;
        opened.store.close()?;
        drop(opened);
        let opened = recovery("after a clean stop", &dir)?;
        if name == "often" {
            let (bytes, cost) = measured(|| {
                let slices = slices_from(&*opened.log, 0, 1 << 20);
                slices.map(|slice| slice.map(|slice| slice.len())).sum::<Result<usize, _>>()
            })?;
            let mib = bytes as f64 / f64::from(1 << 20);
            println!(
                "read: {mib:.0} MiB ({:.0} from the disk), {:.0} MiB/s, {:.2} ms of processor for each MiB",
                cost.read_from_disk as f64 / f64::from(1 << 20),
                mib / cost.wall.as_secs_f64(),
                cost.cpu.as_secs_f64() * 1e3 / mib
            );
        }
        opened.store.close()?;
    }
    Ok(())
}
