//! Every program in `examples/` runs once, as a process, against a test broker: what it prints, what it leaves behind, how it ends.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, Once},
    time::{Duration, Instant, SystemTime},
};

use kavka_testkit::{GroupCondition, NewRecord, TestBroker};

/// Longer than any of them takes.
const PATIENCE: Duration = Duration::from_secs(60);
const TOPIC: &str = "orders";
const GROUP: &str = "billing";
const SIGINT: i32 = 2;

/// A program that runs. It is killed when this is dropped.
struct Program {
    name: &'static str,
    child: Child,
    /// What it printed so far.
    out: Arc<Mutex<String>>,
    err: Arc<Mutex<String>>,
}

impl Program {
    fn start(name: &'static str, arguments: &[&str]) -> Self {
        let mut command = Command::new(executable(name));
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = collect(child.stdout.take().unwrap());
        let err = collect(child.stderr.take().unwrap());
        Self { name, child, out, err }
    }

    fn lines(&self) -> Vec<String> {
        self.out.lock().unwrap().lines().map(str::to_owned).collect()
    }

    fn errors(&self) -> String {
        self.err.lock().unwrap().clone()
    }

    async fn wait_for_lines(&self, number: usize) {
        self.wait_until(&format!("{number} lines"), || self.lines().len() >= number).await;
    }

    async fn wait_for_error(&self, words: &str) {
        self.wait_until(words, || self.errors().contains(words)).await;
    }

    async fn wait_until(&self, what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            let (name, out, err) = (self.name, self.lines(), self.errors());
            assert!(begun.elapsed() < PATIENCE, "{name}: no {what} in {out:?} {err}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// As Ctrl-C.
    fn interrupt(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    }

    /// Waits for its end, and for the rest of what it prints.
    async fn status(&mut self) -> ExitStatus {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            let (name, out, err) = (self.name, self.lines(), self.errors());
            assert!(begun.elapsed() < PATIENCE, "{name} does not end: {out:?} {err}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        while Arc::strong_count(&self.out) > 1 || Arc::strong_count(&self.err) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        status
    }

    async fn succeeds(&mut self) {
        let status = self.status().await;
        assert!(status.success(), "{}: {status}: {}", self.name, self.errors());
    }

    /// It ends well when it is interrupted.
    async fn stops(&mut self) {
        self.interrupt();
        self.succeeds().await;
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Gathers what comes, until the end of it.
fn collect(from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&text);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let mut text = into.lock().unwrap();
            text.push_str(&line.unwrap());
            text.push('\n');
        }
    });
    text
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The program of an example. `cargo test` has built it beside this one; `cargo test --test examples` has not, so that they are built here
/// if one is missing or older than what it is made of.
fn executable(name: &str) -> PathBuf {
    static BUILT: Once = Once::new();
    let deps = std::env::current_exe().unwrap();
    let profile = deps.parent().and_then(Path::parent).unwrap();
    let path = |name: &str| profile.join("examples").join(name);
    BUILT.call_once(|| {
        let sources = newest(&package().join("src")).max(newest(&package().join("examples")));
        let is_fresh = |name: &String| {
            let built = fs::metadata(path(name)).and_then(|file| file.modified());
            built.is_ok_and(|built| built >= sources)
        };
        if !names().iter().all(is_fresh) {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "-p", "kavka-client", "--examples"]);
            cargo.args(profile.ends_with("release").then_some("--release"));
            assert!(cargo.current_dir(package()).status().unwrap().success(), "they do not build");
        }
    });
    assert!(path(name).exists(), "{} was to be built", path(name).display());
    path(name)
}

/// The examples there are.
fn names() -> Vec<String> {
    let entries = fs::read_dir(package().join("examples")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// When something below a folder was last changed.
fn newest(folder: &Path) -> SystemTime {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let changed = match entry.file_type().unwrap().is_dir() {
            true => self::newest(&entry.path()),
            false => entry.metadata().unwrap().modified().unwrap(),
        };
        newest = newest.max(changed);
    }
    newest
}

async fn broker(partitions: i32) -> TestBroker {
    TestBroker::builder().topic(TOPIC, partitions).start().await
}

async fn produce(broker: &TestBroker, partition: i32, values: impl IntoIterator<Item = String>) {
    broker.produce(TOPIC, partition, values).await.unwrap();
}

async fn committed(broker: &TestBroker) -> Vec<i64> {
    broker.committed(GROUP).await.unwrap().into_values().collect()
}

async fn wait_for_members(broker: &TestBroker, members: usize) {
    let condition = match members {
        0 => GroupCondition::empty(),
        members => GroupCondition::stable().with_members(members),
    };
    broker.wait_for_group(GROUP, condition, PATIENCE).await.unwrap();
}

#[test]
fn every_example_is_run_here() {
    let this = include_str!("examples.rs");
    let names = names();
    for name in &names {
        assert!(
            this.contains(&format!("Program::start(\"{name}\"")),
            "examples/{name}.rs is not run by tests/examples.rs"
        );
    }
    assert!(names.len() >= 13, "{names:?}");
}

#[tokio::test]
async fn who_gives_no_arguments_is_told_which_there_are() {
    let names = [
        "simple_consumer",
        "at_least_once",
        "per_key",
        "dead_letter",
        "graceful_shutdown",
        "batches",
        "manual_assignment",
        "custom_assignor",
        "group_member",
        "admin_tour",
    ];
    for name in names {
        let mut program = Program::start(name, &[]);
        let status = program.status().await;
        assert!(!status.success(), "{name}: {status}");
        assert!(program.errors().contains(&format!("usage: {name} ")), "{}", program.errors());
    }
}

#[tokio::test]
async fn simple_consumer_prints_what_is_there_and_what_comes() {
    let broker = broker(2).await;
    produce(&broker, 0, ["a".into(), "b".into()]).await;
    let mut program =
        Program::start("simple_consumer", &[&broker.bootstrap_servers(), GROUP, TOPIC]);
    program.wait_for_lines(2).await;
    assert_eq!(program.lines(), ["0-0 Some(b\"a\")", "0-1 Some(b\"b\")"]);
    produce(&broker, 1, ["c".into()]).await;
    program.wait_for_lines(3).await;
    assert_eq!(program.lines()[2], "1-0 Some(b\"c\")");
    wait_for_members(&broker, 1).await;
    // It knows nothing of Ctrl-C: that ends it as it does any program.
    program.interrupt();
    assert_eq!(program.status().await.signal(), Some(SIGINT));
}

#[tokio::test]
async fn at_least_once_commits_as_it_goes_and_the_rest_at_its_end() {
    let broker = broker(1).await;
    produce(&broker, 0, (0..2500).map(|n| n.to_string())).await;
    let servers = broker.bootstrap_servers();
    let mut program = Program::start("at_least_once", &[&servers, GROUP, TOPIC]);
    program.wait_for_lines(2500).await;
    broker.wait_for_committed(GROUP, TOPIC, 0, 2000, PATIENCE).await.unwrap();
    program.stops().await;
    assert_eq!(program.lines()[2499], "0-2499: 4 bytes");
    assert_eq!(committed(&broker).await, [2500]);
    wait_for_members(&broker, 0).await;
    // The next one goes on where this one has committed.
    produce(&broker, 0, ["more".into()]).await;
    let mut program = Program::start("at_least_once", &[&servers, GROUP, TOPIC]);
    program.wait_for_lines(1).await;
    program.stops().await;
    assert_eq!(program.lines(), ["0-2500: 4 bytes"]);
}

#[tokio::test]
async fn per_key_works_on_the_records_of_a_key_in_order() {
    let broker = broker(2).await;
    for partition in 0..2 {
        let record = |n: u32| NewRecord::value(n.to_string()).key(format!("k{}", n % 7));
        broker.produce(TOPIC, partition, (0..70).map(record)).await.unwrap();
    }
    let mut program = Program::start("per_key", &[&broker.bootstrap_servers(), GROUP, TOPIC]);
    program.wait_for_lines(140).await;
    program.stops().await;
    let lines = program.lines();
    assert_eq!(lines[140], "140 records");
    let offsets = |start: &str, end: &str| -> Vec<i64> {
        let of = lines.iter().filter(|line| line.starts_with(start) && line.ends_with(end));
        of.map(|line| line[2..].split(' ').next().unwrap().parse().unwrap()).collect()
    };
    for (partition, key) in [("0-", 0_i64), ("0-", 6), ("1-", 3)] {
        let expected: Vec<i64> = (0..10).map(|n| n * 7 + key).collect();
        assert_eq!(offsets(partition, &format!("Some(b\"k{key}\")")), expected);
    }
    assert_eq!(committed(&broker).await, [70, 70]);
}

#[tokio::test]
async fn dead_letter_puts_aside_what_fails_and_goes_on() {
    let broker = broker(1).await;
    broker.create_topic("dead", 1).await.unwrap();
    produce(&broker, 0, ["1".into(), "two".into(), "3.5".into()]).await;
    let arguments = [&*broker.bootstrap_servers(), GROUP, TOPIC, "dead"];
    let mut program = Program::start("dead_letter", &arguments);
    program.wait_for_lines(2).await;
    broker.wait_for_records("dead", 1, PATIENCE).await.unwrap();
    program.stops().await;
    assert_eq!(program.lines(), ["1", "3.5", "2 numbers, 1 dead letters"]);
    let dead = broker.records("dead").await.unwrap();
    assert_eq!(dead[0].text(), "two");
    let header = |name: &str| {
        let found = dead[0].headers.iter().find(|(known, _)| known == name);
        String::from_utf8(found.unwrap().1.clone().unwrap().to_vec()).unwrap()
    };
    assert_eq!(header("__kavka.errors.offset"), "1");
    assert_eq!(header("__kavka.errors.attempts"), "3");
    assert_eq!(committed(&broker).await, [3]);
}

#[tokio::test]
async fn graceful_shutdown_hands_over_without_repeating() {
    let broker = broker(4).await;
    for partition in 0..4 {
        produce(&broker, partition, (0..5).map(|n| format!("{partition}/{n}"))).await;
    }
    let servers = broker.bootstrap_servers();
    let start = || Program::start("graceful_shutdown", &[&servers, GROUP, TOPIC]);
    let mut first = start();
    first.wait_for_lines(20).await;
    first.wait_for_error("4 partitions more, 4 in all").await;
    let mut second = start();
    first.wait_for_error("go within").await;
    second.wait_for_error("2 partitions more, 2 in all").await;
    for partition in 0..4 {
        produce(&broker, partition, [format!("{partition}/5")]).await;
    }
    let both = || [first.lines(), second.lines()].concat();
    first.wait_until("24 lines", || both().len() >= 24).await;
    second.stops().await;
    first.wait_for_error("2 partitions more, 4 in all").await;
    first.stops().await;
    let mut lines = [first.lines(), second.lines()].concat();
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), 24, "all of them");
    assert_eq!(first.lines().len() + second.lines().len(), 24, "and none twice");
    assert_eq!(committed(&broker).await, [6; 4]);
    wait_for_members(&broker, 0).await;
}

#[tokio::test]
async fn batches_reads_as_many_as_it_was_asked_to() {
    let broker = broker(3).await;
    for partition in 0..3 {
        produce(&broker, partition, (0..1000).map(|_| "x".repeat(100))).await;
    }
    let mut program = Program::start("batches", &[&broker.bootstrap_servers(), TOPIC, "3000"]);
    program.succeeds().await;
    assert!(program.lines()[0].starts_with("3000 records, 300000 bytes in "));
}

#[tokio::test]
async fn manual_assignment_reads_its_partitions_from_a_time_on() {
    let broker = broker(3).await;
    for partition in 0..3 {
        let old = NewRecord::value("old").timestamp_ms(1_000);
        broker.produce(TOPIC, partition, [old]).await.unwrap();
        produce(&broker, partition, [format!("new {partition}")]).await;
    }
    let arguments = [&*broker.bootstrap_servers(), TOPIC, "3600", "0", "2"];
    let mut program = Program::start("manual_assignment", &arguments);
    program.succeeds().await;
    let mut lines = program.lines();
    assert_eq!(lines.remove(0), "2 offsets since then");
    lines.sort();
    assert_eq!(lines, ["0-1 Some(b\"new 0\")", "2-1 Some(b\"new 2\")"]);
}

#[tokio::test]
async fn custom_assignor_gives_everything_to_the_highest_priority_and_tells_all_of_it() {
    let broker = broker(3).await;
    let servers = broker.bootstrap_servers();
    let start = |priority| Program::start("custom_assignor", &[&servers, GROUP, TOPIC, priority]);
    let mut low = start("1");
    low.wait_for_error("3 partitions for priority 1; 1 is active").await;
    let mut high = start("2");
    high.wait_for_error("3 partitions for priority 2; 2 is active").await;
    low.wait_for_error("0 partitions for priority 1; 2 is active").await;
    produce(&broker, 1, ["one".into()]).await;
    high.wait_for_lines(1).await;
    high.stops().await;
    produce(&broker, 2, ["two".into()]).await;
    low.wait_for_lines(1).await;
    low.stops().await;
    assert_eq!(
        (high.lines(), low.lines()),
        (vec!["Some(b\"one\")".into()], vec!["Some(b\"two\")".into()])
    );
    wait_for_members(&broker, 0).await;
}

#[tokio::test]
async fn group_member_writes_down_what_happens_to_it() {
    let broker = broker(2).await;
    produce(&broker, 0, ["a".into(), "b".into()]).await;
    let folder = std::env::temp_dir().join(format!("kavka-examples-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let log = folder.join("member.log");
    let arguments = [
        &*broker.bootstrap_servers(),
        GROUP,
        TOPIC,
        log.to_str().unwrap(),
        "partition.assignment.strategy=sticky",
    ];
    let mut program = Program::start("group_member", &arguments);
    let read = || fs::read_to_string(&log).unwrap_or_default();
    program.wait_until("commit", || read().contains("C 0 2")).await;
    // The end of its stdin has it leave.
    drop(program.child.stdin.take());
    program.succeeds().await;
    let lines: Vec<String> = read().lines().map(str::to_owned).collect();
    for line in ["P 0,1", "R 0 0 a", "R 0 1 b"] {
        assert_eq!(lines.iter().filter(|known| *known == line).count(), 1, "{line}: {lines:?}");
    }
    assert_eq!(lines.last().unwrap(), "P ");
    fs::remove_dir_all(folder).unwrap();
    wait_for_members(&broker, 0).await;
}

#[tokio::test]
async fn produce_tells_where_each_record_stands() {
    let broker = broker(3).await;
    let mut program = Program::start("produce", &[&broker.bootstrap_servers(), TOPIC]);
    program.succeeds().await;
    let lines = program.lines();
    assert_eq!(lines.len(), 5);
    assert!(lines[4].starts_with("4 apples stands in partition "), "{lines:?}");
    let records = broker.records(TOPIC).await.unwrap();
    assert_eq!(records.len(), 5);
    let of_one: Vec<String> = records
        .iter()
        .filter(|r| r.key.as_deref() == Some(b"customer-1"))
        .map(|r| r.text())
        .collect();
    assert_eq!(of_one, ["1 apples", "3 apples"]);
    // Without arguments it brings a broker of its own.
    let mut program = Program::start("produce", &[]);
    program.succeeds().await;
    assert_eq!(program.lines().len(), 5);
}

#[tokio::test]
async fn produce_many_delivers_everything() {
    let broker = broker(3).await;
    let mut program = Program::start("produce_many", &[&broker.bootstrap_servers(), TOPIC]);
    program.succeeds().await;
    assert_eq!(program.lines(), ["100000 of 100000 records delivered, 0 not"]);
    assert_eq!(broker.end_offsets(TOPIC).unwrap().iter().sum::<i64>(), 100_000);
}

#[tokio::test]
async fn drop_times_finds_that_dropping_never_waits() {
    let mut program = Program::start("drop_times", &[]);
    program.succeeds().await;
    let lines = program.lines();
    let of = |name: &str| lines.iter().any(|line| line.starts_with(name));
    assert!(of("consumer: ") && of("producer: ") && of("admin: "), "{lines:?}");
}

#[tokio::test]
async fn admin_tour_makes_every_call() {
    let broker = broker(1).await;
    let mut program = Program::start("admin_tour", &[&broker.bootstrap_servers()]);
    program.succeeds().await;
    let lines = program.lines();
    assert!(!lines.iter().any(|line| line.starts_with("FAIL")), "{lines:?}");
    assert!(lines.iter().filter(|line| line.starts_with("ok")).count() > 20, "{lines:?}");
}
