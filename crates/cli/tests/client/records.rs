//! `kavka produce` and `kavka consume`.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use kavka_testkit::{GroupCondition, GroupState, TestBroker};
use serde_json::{Value, json};

use crate::cluster::{Cluster, PATIENCE, only};

/// Reads a topic from its beginning to its end.
const ALL: [&str; 4] = ["--from", "earliest", "--until", "end"];

impl Cluster {
    fn consume(&self, more: &[&str]) -> crate::cluster::Ran {
        self.run(&[&["consume", "-q"], more].concat())
    }

    fn lines(&self, topic: &str) -> Vec<Value> {
        let ran = self.consume(&[&[topic, "-o", "jsonl"], &ALL[..]].concat());
        ran.data().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// One partition, so that records have an order.
async fn cluster() -> Cluster {
    Cluster::with(TestBroker::builder().topic("orders", 1).topic("copy", 1).topic("wide", 3)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_text_are_values_with_or_without_keys() {
    let cluster = cluster().await;
    let ran = cluster.run_with(&["produce", "orders"], b"one\n\ntwo: 2\nlast without end");
    assert_eq!(
        ran.data(),
        "TOPIC   PARTITION  RECORDS  FIRST-OFFSET  LAST-OFFSET\norders          0        4             0            3\n"
    );
    assert_eq!(
        cluster.consume(&[&["orders"], &ALL[..]].concat()).data(),
        "one\n\ntwo: 2\nlast without end\n"
    );
    let args = [
        "produce", "orders", "-q", "-k", ": ", "--null", "-", "-H", "a=1", "-H", "b=", "-o", "json",
    ];
    let ran = cluster.run_with(&args, b"k: v\nno key\n-: -\n");
    assert_eq!(only(&ran.json())["first_offset"], 4);
    let lines = cluster.lines("orders");
    let headers = json!([{"name": "a", "value": "1"}, {"name": "b", "value": ""}]);
    for (line, key, value) in [
        (&lines[4], json!("k"), json!("v")),
        (&lines[5], json!(null), json!("no key")),
        (&lines[6], json!(null), json!(null)),
    ] {
        assert_eq!((&line["key"], &line["value"], &line["headers"]), (&key, &value, &headers));
    }
    cluster.run_with(&["produce", "orders"], b"").data_saying("There was nothing to send.");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_json_come_back_as_the_same_records() {
    let cluster = cluster().await;
    let lines = concat!(
        r#"{"key":"k","value":"text é \n","headers":[{"name":"h","value":"1"},{"name":"h","value":null},{"name":"b","value_base64":"/w=="}],"timestamp":1000}"#,
        "\n",
        r#"{"key_base64":"/wAB","value_base64":"gP8="}"#,
        "\n",
        r#"{"key":null,"value":null}"#,
        "\n",
        r#"{"key":"","value":""}"#,
        "\n",
    );
    cluster.run_with(&["produce", "orders", "-f", "jsonl"], lines.as_bytes()).data();
    let first = cluster.lines("orders");
    assert_eq!(first.len(), 4);
    assert_eq!(first[0]["value"], "text é \n");
    assert_eq!(first[0]["timestamp"], 1000);
    assert_eq!(first[0]["headers"][2], json!({"name": "b", "value_base64": "/w=="}));
    assert_eq!(
        (&first[1]["key_base64"], &first[1]["value_base64"]),
        (&json!("/wAB"), &json!("gP8="))
    );
    assert_eq!((&first[2]["key"], &first[2]["value"]), (&json!(null), &json!(null)));
    assert_eq!((&first[3]["key"], &first[3]["value"]), (&json!(""), &json!("")));

    // Through a file, with all codecs.
    let file = cluster.home.path().join("records.jsonl");
    let dump = cluster.consume(&[&["orders", "-o", "jsonl"], &ALL[..]].concat());
    fs::write(&file, dump.data()).unwrap();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let args = ["produce", "copy", "-f", "jsonl", "-z", codec, file.to_str().unwrap()];
        cluster.run(&args).data();
    }
    let without_place = |lines: &[Value]| -> Vec<Value> {
        let mut lines = lines.to_vec();
        for line in &mut lines {
            let fields = line.as_object_mut().unwrap();
            fields.remove("topic").unwrap();
            fields.remove("offset").unwrap();
        }
        lines
    };
    let copies = without_place(&cluster.lines("copy"));
    assert_eq!(copies.len(), 20);
    copies.chunks(4).for_each(|copy| assert_eq!(copy, without_place(&first)));
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_are_no_records_are_named_and_those_before_are_sent() {
    let cluster = cluster().await;
    let ran = cluster.run_with(
        &["produce", "orders", "-f", "jsonl"],
        b"{\"value\":\"a\"}\n{\"vallue\":\"b\"}\n",
    );
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("standard input, line 2: unknown field `vallue`"), "{ran:?}");
    assert_eq!(cluster.lines("orders").len(), 1);
    // An empty line is no record; places are those of the input.
    let ran = cluster.run_with(
        &["produce", "orders", "-f", "jsonl"],
        b"{\"value\":\"b\"}\n\n \r\n{\"value\":\"c\"\n",
    );
    assert_eq!(ran.code, 2, "{ran:?}");
    let said = "standard input, line 4: EOF while parsing an object at column 12\n";
    assert!(ran.stderr.contains(said), "{ran:?}");
    assert_eq!(cluster.lines("orders").len(), 2);
    let args = ["produce", "nowhere", "--timeout", "300ms"];
    let ran = cluster.run_with(&args, b"a\n");
    ran.failed(1, "standard input, line 1 was not delivered");
    assert!(ran.stderr.contains("nowhere"), "{ran:?}");
    cluster.run(&["produce", "orders", "no-such-file"]).failed(2, "no-such-file");
    cluster.run(&["produce", "orders", "-k", ""]).failed(2, "it is empty");
    cluster.run(&["produce", "orders", "-z", "rar"]).failed(2, "zstd");
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_and_timestamps_are_as_asked() {
    let cluster = cluster().await;
    for command in ["produce", "consume"] {
        let ran = cluster.run_with(&[command, "wide", "-p", "3"], b"a\n");
        ran.failed(1, "topic wide has no partition 3\n  It has 3, from 0 on.\n");
    }
    let args = ["produce", "wide", "-p", "2", "--timestamp", "1970-01-01T00:00:05Z"];
    cluster.run_with(&args, b"fixed\n").data();
    let args = ["produce", "wide", "-f", "jsonl", "--keep-partitions"];
    cluster.run_with(&args, br#"{"value":"kept","partition":1}"#).data();
    let args = ["produce", "orders", "-f", "jsonl"];
    cluster.run_with(&args, br#"{"value":"dropped","partition":7}"#).data();
    let at = |partition: &str| {
        let ran =
            cluster.consume(&[&["wide", "-f", "%p %T %v;", "-p", partition], &ALL[..]].concat());
        ran.data().to_owned()
    };
    assert_eq!(at("2"), "2 5000 fixed;");
    assert!(at("1").ends_with(" kept;"));
    assert_eq!(at("0"), "");
    cluster.consume(&["wide", "-p", "3"]).failed(1, "topic wide has no partition 3");
    cluster.consume(&["nowhere"]).failed(1, "topic nowhere does not exist");
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_begins_and_ends_where_it_is_told() {
    let cluster = cluster().await;
    for at in 0..10 {
        let (line, timestamp) = (format!("{at}\n"), format!("{}", at * 1000));
        cluster
            .run_with(&["produce", "orders", "-q", "--timestamp", &timestamp], line.as_bytes())
            .data();
    }
    for (args, expected) in [
        (&["--from", "earliest", "-n", "3"][..], "0 1 2 "),
        (&["--from", "8", "--until", "end"], "8 9 "),
        (&["--from", "-2", "--until", "end"], "8 9 "),
        (&["--from", "99", "--until", "end"], ""),
        (&["--from", "latest", "--until", "end"], ""),
        (&["--from", "2", "--until", "5"], "2 3 4 "),
        (&["--from", "1970-01-01T00:00:07Z", "--until", "end"], "7 8 9 "),
        (&["--from", "1970-01-01T00:00:02Z", "--until", "1970-01-01T00:00:04Z"], "2 3 "),
        (&["--from", "-1h", "--until", "end"], ""),
        (&["--from", "earliest", "-n", "0"], ""),
    ] {
        let ran = cluster.consume(&[&["orders", "-f", "%v "], args].concat());
        assert_eq!(ran.data(), expected, "{args:?}");
    }
    cluster.consume(&["orders", "--from", "soon"]).failed(2, "expected earliest, latest");
    cluster.consume(&["orders", "-f", "%q"]).failed(2, "%q is not a part of a record");
    cluster.consume(&["orders", "-g", "g", "--from", "5"]).failed(2, "kavka group seek");
    cluster.consume(&["orders", "-g", "g", "-p", "0"]).failed(2, "--group");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_writes_records() {
    let cluster = cluster().await;
    let all = |format: &str| cluster.consume(&[&["orders", "-o", format], &ALL[..]].concat());
    assert_eq!(all("json").json(), json!([]));
    assert_eq!(all("yaml").data(), "kind: kavka.consume\nversion: 1\ndata: []\n");
    cluster
        .run_with(
            &["produce", "orders", "-q", "-k", ":", "--timestamp", "1000"],
            b"k:a,\"b\"\n:c\n",
        )
        .data();
    assert_eq!(all("json").json()[1]["value"], "c");
    assert_eq!(
        all("csv").data(),
        "topic,partition,offset,timestamp,leader_epoch,key,value,headers\n\
         orders,0,0,1000,0,k,\"a,\"\"b\"\"\",\norders,0,1,1000,0,,c,\n"
    );
    assert_eq!(
        all("wide").data().lines().next().unwrap(),
        "orders[0]@0 1970-01-01T00:00:01.000Z k: a,\"b\""
    );
    assert!(all("yaml").data().contains("- topic: orders\n  partition: 0\n  offset: 1\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_reads_on_where_it_committed() {
    let cluster = cluster().await;
    cluster.run_with(&["produce", "wide", "-q"], b"a\nb\nc\nd\ne\n").data();
    let read = |more: &[&str]| {
        cluster.consume(&[&["wide", "-g", "readers", "--from", "earliest"], more].concat())
    };
    let first = read(&["-n", "2"]);
    let offsets = cluster.broker.committed("readers").await.unwrap();
    assert_eq!(offsets.values().sum::<i64>(), 2, "{offsets:?}");
    let second = read(&["--until", "end"]);
    let mut values: Vec<&str> = first.data().lines().chain(second.data().lines()).collect();
    values.sort_unstable();
    assert_eq!(values, ["a", "b", "c", "d", "e"]);
    assert_eq!(read(&["--until", "end"]).data(), "");
    cluster.run(&["group", "check", "readers", "--max-lag", "0", "--state", "Empty"]).data();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_takes_the_properties_of_consumers() {
    let cluster = cluster().await;
    cluster.run_with(&["produce", "orders", "-q"], b"a\n").data();
    let read = |more: &[&str]| cluster.consume(&[&["orders"], &ALL[..], more].concat());
    assert_eq!(read(&["--read-committed"]).data(), "a\n");
    assert_eq!(read(&["-X", "isolation.level=read_committed"]).data(), "a\n");
    assert_eq!(read(&["-X", "fetch.min.bytes=1"]).data(), "a\n");
    read(&["-X", "acks=all"]).failed(2, "there is no property acks");
    read(&["-X", "fetch.min.byte=1"]).failed(2, "did you mean fetch.min.bytes?");
}

/// A command that goes on until it is stopped.
struct Running {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    #[cfg(unix)]
    fn give(&mut self, bytes: &[u8]) {
        let stdin = self.child.stdin.as_mut().unwrap();
        std::io::Write::write_all(stdin, bytes).unwrap();
    }

    #[cfg(unix)]
    fn interrupt(&self) {
        let kill = format!("kill -INT {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    fn wait(mut self) -> (i32, String) {
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "still running");
            thread::sleep(Duration::from_millis(5));
        }
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (self.child.wait().unwrap().code().unwrap(), stderr)
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_reading_cleanly_and_commits_what_was_written() {
    let cluster = cluster().await;
    cluster.run_with(&["produce", "orders", "-q"], b"a\nb\n").data();
    let mut command =
        cluster.command(&["consume", "orders", "-g", "readers", "--from", "earliest"]);
    let mut running = Running::start(&mut command);
    assert_eq!((running.line(), running.line()), ("a\n".to_owned(), "b\n".to_owned()));
    running.interrupt();
    let (code, stderr) = running.wait();
    assert_eq!((code, stderr.as_str()), (0, "Read 2 records.\n"));
    assert_eq!(cluster.broker.committed("readers").await.unwrap()[&("orders".to_owned(), 0)], 2);
    // The member left: nobody waits for its session.
    cluster.run(&["group", "check", "readers", "--state", "Empty"]).data();

    let mut command = cluster.command(&["consume", "orders", "-n", "9", "--from", "earliest"]);
    let mut running = Running::start(&mut command);
    assert_eq!((running.line(), running.line()), ("a\n".to_owned(), "b\n".to_owned()));
    running.interrupt();
    let (code, stderr) = running.wait();
    assert_eq!((code, stderr.as_str()), (3, "Interrupted after 2 records.\n"));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_delivers_what_was_read() {
    let cluster = cluster().await;
    let mut running = Running::start(&mut cluster.command(&["produce", "orders"]));
    let mut stdin = running.child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"a\nb\n").unwrap();
    cluster.broker.wait_for_records("orders", 2, PATIENCE).await.unwrap();
    running.interrupt();
    let mut stdout = String::new();
    running.stdout.read_to_string(&mut stdout).unwrap();
    assert!(stdout.contains("orders          0        2             0            1"), "{stdout}");
    assert_eq!(running.wait(), (0, String::new()));
    drop(stdin);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_come_later_are_read_at_once() {
    let cluster = cluster().await;
    let mut command = cluster.command(&["consume", "orders", "-n", "2", "--from", "earliest"]);
    let mut running = Running::start(&mut command);
    cluster.run_with(&["produce", "orders", "-q"], b"a\n").data();
    assert_eq!(running.line(), "a\n");
    cluster.run_with(&["produce", "orders", "-q"], b"b\n").data();
    assert_eq!(running.line(), "b\n");
    assert_eq!(running.wait().0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_ends_consuming_without_a_failure() {
    let cluster = cluster().await;
    let many = "0123456789\n".repeat(50_000);
    cluster.run_with(&["produce", "orders", "-q"], many.as_bytes()).data();
    let mut command = cluster.command(&["consume", "orders", "--from", "earliest"]);
    let mut running = Running::start(&mut command);
    running.line();
    let Running { child, stdout } = running;
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_leaves_its_group() {
    let cluster = cluster().await;
    let many = "0123456789\n".repeat(50_000);
    cluster.run_with(&["produce", "orders", "-q"], many.as_bytes()).data();
    let mut command =
        cluster.command(&["consume", "orders", "-g", "readers", "--from", "earliest"]);
    let mut running = Running::start(&mut command);
    running.line();
    let Running { child, stdout } = running;
    drop(stdout);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
    // Nobody waits for its session.
    cluster.run(&["group", "check", "readers", "--state", "Empty"]).data();
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_group_takes_away_is_committed_before_and_not_after() {
    let cluster = cluster().await;
    for partition in ["0", "1", "2"] {
        cluster.run_with(&["produce", "wide", "-q", "-p", partition], b"a\nb\n").data();
    }
    let start = || {
        let args = ["consume", "wide", "-g", "readers", "--from", "earliest"];
        Running::start(cluster.command(&args).args(["-X", "heartbeat.interval.ms=50"]))
    };
    let settled = async |members| {
        let settled = GroupCondition::state(GroupState::Stable).with_members(members);
        cluster.broker.wait_for_group("readers", settled, PATIENCE).await.unwrap();
    };
    let committed = async || {
        let offsets = cluster.broker.committed("readers").await.unwrap();
        offsets.into_values().collect::<Vec<_>>()
    };
    let mut first = start();
    (0..6).for_each(|_| drop(first.line()));
    let second = start();
    settled(2).await;
    assert_eq!(committed().await, [2, 2, 2]);
    // What was taken away is not committed again, nor is that an error at the end.
    first.interrupt();
    let (code, stderr) = first.wait();
    assert_eq!((code, stderr.as_str()), (0, "Read 6 records.\n"));
    settled(1).await;
    second.interrupt();
    let (code, stderr) = second.wait();
    assert_eq!((code, stderr.as_str()), (0, "Read 0 records.\n"));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_waiting_for_a_cluster_that_does_not_answer() {
    let cluster = cluster().await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let interrupted = |args: &[&str]| {
        let mut running = Running::start(cluster.command(args).args(["-q", "-b", &address]));
        if args[0] == "produce" {
            running.give(b"a\nb\n");
        }
        // It listens for signals before it connects.
        let _connection = silent.accept().unwrap();
        running.interrupt();
        running.wait()
    };
    let said = "error: interrupted: standard input, line 1 and what follows was not sent\n";
    assert_eq!(interrupted(&["produce", "orders"]), (1, said.to_owned()));
    for (more, code) in [(&["--until", "end"][..], 3), (&["-n", "1"], 3), (&[], 0)] {
        let ended = interrupted(&[&["consume", "orders"], more].concat());
        assert_eq!(ended, (code, String::new()), "{more:?}");
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_while_deliveries_are_waited_for_names_what_is_not_acknowledged() {
    let cluster = cluster().await;
    let mut running = Running::start(&mut cluster.command(&["produce", "orders"]));
    running.give(b"a\n");
    cluster.broker.wait_for_records("orders", 1, PATIENCE).await.unwrap();
    cluster.broker.crash().await;
    running.give(b"b\nc\n");
    drop(running.child.stdin.take());
    let mut stderr = BufReader::new(running.child.stderr.take().unwrap());
    let mut said = String::new();
    stderr.read_line(&mut said).unwrap();
    assert_eq!(said, "Waiting for 2 records to be acknowledged; an interrupt ends that.\n");
    running.interrupt();
    said.clear();
    stderr.read_line(&mut said).unwrap();
    assert_eq!(
        said,
        "error: interrupted: 2 records, the first of standard input, line 2, were not acknowledged, and may be in the topic or not\n"
    );
    let mut stdout = String::new();
    running.stdout.read_to_string(&mut stdout).unwrap();
    assert!(stdout.contains("orders          0        1             0            0"), "{stdout}");
    assert_eq!(running.child.wait().unwrap().code(), Some(1));
}
