//! `kavka-check FILE`: exit codes and output.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use kavka_checker::{FaultPhase, History};

use crate::story::*;

fn run(args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kavka-check"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended without reading anything.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn lines(story: &Story) -> Vec<u8> {
    let mut lines = Vec::new();
    History::new(story.events.clone()).write(&mut lines).unwrap();
    lines
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn exit_codes_tell_the_verdict() {
    let mut story = Story::default();
    story.did(1, Ok, sent("x", 1, 0)).did(2, Ok, poll(&[("x", &[(0, 1)])]));
    let output = run(&["-"], &lines(&story));
    assert_eq!(code(&output), 3);
    assert!(String::from_utf8_lossy(&output.stdout).contains("in doubt: 0 faults landed"));
    assert_eq!(code(&run(&["--min-faults", "0", "-"], &lines(&story))), 0);
    story.note(9, fault(FaultPhase::Once));
    let output = run(&["-"], &lines(&story));
    assert_eq!((code(&output), output.stdout.ends_with(b"\nvalid\n")), (0, true));
    story.did(3, Ok, poll(&[("x", &[(0, 7)])]));
    let output = run(&["-"], &lines(&story));
    assert_eq!((code(&output), output.stdout.ends_with(b"\ninvalid\n")), (1, true));
}

#[test]
fn what_is_wrong_is_shown_with_its_events() {
    let mut story = Story::default();
    story.did(1, Ok, sent("x", 641, 537)).did(2, Ok, sent("x", 645, 537));
    let text = String::from_utf8(run(&["-"], &lines(&story)).stdout).unwrap();
    assert!(
        text.contains("inconsistent-offsets: x-0: offset 537 holds 641 and 645\n  event 1: {"),
        "{text}"
    );
    assert!(text.contains("\"value\":645"), "{text}");

    let json: serde_json::Value =
        serde_json::from_slice(&run(&["--json", "-"], &lines(&story)).stdout).unwrap();
    assert_eq!(json["verdict"], "invalid");
    assert_eq!(json["anomalies"][0]["kind"], "inconsistent-offsets");
    assert_eq!(json["anomalies"][0]["events"], serde_json::json!([1, 3]));
    assert_eq!(json["events"]["3"]["value"], 645);
    assert_eq!(json["metrics"]["acknowledged"], 2);
}

#[test]
fn wrong_use_is_told() {
    for args in [
        &[][..],
        &["--jsn", "-"],
        &["--min-ok", "101", "-"],
        &["--min-faults", "-"],
        &["a", "b"],
        &["/there/is/no/such/file"],
    ] {
        let output = run(args, b"");
        assert_eq!(code(&output), 2, "{args:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{args:?}");
    }
    assert_eq!(code(&run(&["-"], b"{}\n")), 2);
    let output = run(&["--help"], b"");
    assert_eq!(code(&output), 0);
    assert!(String::from_utf8_lossy(&output.stdout).contains("Exit codes"));
}
