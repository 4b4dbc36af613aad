//! `kavka serve` as those who script it meet it: one line on standard output, exit codes, signals.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn kavka(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kavka"));
    command.arg("serve").args(args).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KAVKA_")) {
        command.env_remove(name);
    }
    command
}

/// A broker that printed its line.
struct Serving {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: thread::JoinHandle<String>,
    address: String,
}

fn read_all(mut stderr: ChildStderr) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).unwrap();
        text
    })
}

impl Serving {
    fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stderr = read_all(child.stderr.take().unwrap());
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").map(|rest| rest.trim_end().to_owned());
        let Some(address) = address else { panic!("{line:?}; {}", stderr.join().unwrap()) };
        Self { child, stdout, stderr, address }
    }

    fn in_dir(dir: &Path) -> Self {
        Self::start(&mut kavka(&["--listen", "127.0.0.1:0", "--data-dir", dir.to_str().unwrap()]))
    }

    fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Exit status, what else was on standard output, and standard error.
    fn wait(mut self) -> (ExitStatus, String, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
                None => {
                    self.child.kill().unwrap();
                    panic!("still running");
                }
            }
        };
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (status, rest, self.stderr.join().unwrap())
    }
}

/// A command that does not get as far as serving: its exit code and what it says.
fn refused(command: &mut Command) -> (i32, String) {
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    if !line.is_empty() {
        child.kill().unwrap();
        panic!("it serves: {line}");
    }
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn one_line_on_standard_output_and_0_after_a_clean_stop() {
    for signal in ["TERM", "INT"] {
        let dir = tempfile::tempdir().unwrap();
        let serving = Serving::in_dir(&dir.path().join("made/when/missing"));
        assert!(serving.address.starts_with("127.0.0.1:") && !serving.address.ends_with(":0"));
        TcpStream::connect(&serving.address).unwrap();
        serving.signal(signal);
        let address = serving.address.clone();
        let (status, rest, stderr) = serving.wait();
        assert_eq!(status.code(), Some(0), "{stderr}");
        assert_eq!(rest, "");
        for hint in [
            format!("kcat -b {address} -P -t demo"),
            format!("kcat -b {address} -X auto.offset.reset=earliest -G demo-group demo"),
            "made/when/missing".to_owned(),
        ] {
            assert!(stderr.contains(&hint), "{hint:?} is not in {stderr}");
        }
    }
}

#[test]
fn after_kill_9_it_serves_again_from_the_same_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut serving = Serving::in_dir(dir.path());
    serving.child.kill().unwrap();
    serving.wait();
    let serving = Serving::in_dir(dir.path());
    serving.signal("TERM");
    let (status, _, stderr) = serving.wait();
    assert_eq!(status.code(), Some(0), "{stderr}");
}

#[test]
fn usage_and_configuration_errors_are_2_and_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.toml");
    let cases: [(&[&str], &str); 7] = [
        (&["--no-such-flag"], "--no-such-flag"),
        (&["-X", "novalue"], "NAME=VALUE"),
        (&["-X", "group.initial.rebalance.delai.ms=1"], "group.initial.rebalance.delay.ms"),
        (&["-X", "num.partitions=many"], "num.partitions"),
        (&["-X", "authorizer.class.name=Some"], "authorizer.class.name"),
        (&["--listen", "127.0.0.1"], "127.0.0.1"),
        (&["--config", missing.to_str().unwrap()], "missing.toml"),
    ];
    for (args, said) in cases {
        let (code, stderr) = refused(&mut kavka(args));
        assert_eq!(code, 2, "{args:?}: {stderr}");
        assert!(stderr.contains(said), "{said:?} is not in {stderr}");
    }
    let (code, stderr) = refused(kavka(&[]).env("KAVKA_LOG", "kavka=loudest"));
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("KAVKA_LOG"), "{stderr}");
}

#[test]
fn what_fails_at_the_start_is_1_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data_dir = dir.path().join("data");
    let data_dir = data_dir.to_str().unwrap();
    let (code, stderr) = refused(&mut kavka(&["--listen", &address, "--data-dir", data_dir]));
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains(&address), "{stderr}");

    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    let (code, stderr) = refused(&mut kavka(&["--listen", "127.0.0.1:0", "--data-dir", file]));
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains(file), "{stderr}");
}

#[test]
fn a_data_directory_serves_one_broker_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let serving = Serving::in_dir(dir.path());
    let path = dir.path().to_str().unwrap();
    let (code, stderr) = refused(&mut kavka(&["--listen", "127.0.0.1:0", "--data-dir", path]));
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains(path), "{stderr}");
    serving.signal("TERM");
    assert_eq!(serving.wait().0.code(), Some(0), "the first one was not disturbed");
}

#[test]
fn a_second_signal_stops_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let serving = Serving::in_dir(dir.path());
    // A client that asks and never reads: its answers hold up the clean stop.
    let mut client = TcpStream::connect(&serving.address).unwrap();
    client.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let api_versions = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 255, 255];
    let many = api_versions.repeat(1_000);
    while client.write_all(&many).is_ok() {}
    serving.signal("TERM");
    thread::sleep(Duration::from_millis(200));
    serving.signal("TERM");
    let (status, _, stderr) = serving.wait();
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("second signal"), "{stderr}");
}

#[test]
fn settings_come_from_flags_then_x_then_environment_then_file() {
    let dir = tempfile::tempdir().unwrap();
    let data = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let file = dir.path().join("server.properties");
    fs::write(&file, format!("listeners=PLAINTEXT://127.0.0.1:0\nlog.dirs={}\n", data("file")))
        .unwrap();
    let config = ["--config", file.to_str().unwrap()];
    let by_x = format!("log.dirs={}", data("x"));
    let (x, flag) = (["-X", &by_x], ["--data-dir", &data("flag")]);
    let cases: [(&[&str], bool, &str); 4] = [
        (&[], false, "file"),
        (&[], true, "environment"),
        (&x, true, "x"),
        (&[x, flag].concat(), true, "flag"),
    ];
    for (args, environment, used) in cases {
        let mut command = kavka(&[&config, args].concat());
        if environment {
            command.env("KAVKA_LOG_DIRS", data("environment"));
        }
        assert!(!Path::new(&data(used)).exists());
        let serving = Serving::start(&mut command);
        assert!(Path::new(&data(used)).exists(), "{used}");
        serving.signal("TERM");
        assert_eq!(serving.wait().0.code(), Some(0));
    }
}
