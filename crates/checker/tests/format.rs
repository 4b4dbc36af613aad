//! The form on disk: what `docs/history.md` shows is read, and what is written is read as the same.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, path::Path};

use kavka_checker::{AnomalyKind, Event, History, HistoryError, Limits, Op, check};

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/history.md");
    std::fs::read_to_string(path).unwrap()
}

/// The lines of JSON on the page.
fn examples() -> String {
    page().split("```").filter_map(|block| block.strip_prefix("json\n")).collect()
}

#[test]
fn every_example_of_the_page_is_an_event_and_is_written_as_it_is() {
    let examples = examples();
    for line in examples.lines() {
        let event: Event =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let written = serde_json::to_string(&event).unwrap();
        let (read, written): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(line).unwrap(), serde_json::from_str(&written).unwrap());
        // What is left out and what is written as its default are the same.
        let event_of = |value| serde_json::from_value::<Event>(value).unwrap();
        assert_eq!(event_of(read), event_of(written), "{line}");
    }
    History::read(examples.as_bytes()).unwrap().validate().unwrap();
}

#[test]
fn the_page_shows_every_kind_of_event_and_names_every_anomaly() {
    let shown: BTreeSet<&str> = examples()
        .lines()
        .map(|line| serde_json::from_str::<Event>(line).unwrap().op.name())
        .collect();
    let all = [
        "send",
        "poll",
        "txn",
        "commit",
        "fetch-offsets",
        "delete-offsets",
        "delete-group",
        "heartbeat",
        "assign",
        "subscribe",
        "seek",
        "position",
        "crash",
        "close",
        "assigned",
        "revoked",
        "lost",
        "member-removed",
        "group-state",
        "topic",
        "trimmed",
        "fault",
        "group",
        "settings",
        "debug",
    ];
    assert_eq!(shown, all.into_iter().collect());
    let page = page();
    for kind in AnomalyKind::ALL {
        let name = kind.name().trim_end_matches("-process").trim_end_matches("-realtime");
        assert!(page.contains(&format!("`{name}`")), "{name} is not on the page");
    }
}

#[test]
fn what_is_written_is_read_as_the_same() {
    let history = History::read(examples().as_bytes()).unwrap();
    let mut written = Vec::new();
    history.write(&mut written).unwrap();
    assert_eq!(History::read(written.as_slice()).unwrap(), history);
}

#[test]
fn lines_of_several_writers_are_put_in_the_order_of_time() {
    let line = |time: u64, text: &str| {
        format!(
            "{{\"time\":{time},\"process\":0,\"client\":\"c\",\"type\":\"info\",\"f\":\"debug\",\"text\":\"{text}\",\"more\":[1]}}\n"
        )
    };
    let text = format!("{}\n{}{}{}", line(2, "b"), line(3, "d"), line(1, "a"), line(2, "c"));
    let history = History::read(text.as_bytes()).unwrap();
    let texts: Vec<&str> = history
        .events
        .iter()
        .map(|event| match &event.op {
            Op::Debug { text } => text.as_str(),
            _ => panic!("not what was written"),
        })
        .collect();
    assert_eq!(texts, ["a", "b", "c", "d"]);
}

#[test]
fn what_is_no_history_is_refused() {
    let fields = "\"client\":\"c\",\"f\":\"poll\"";
    let line = |time: u64, kind: &str| {
        format!("{{\"time\":{time},\"process\":3,\"type\":\"{kind}\",{fields}}}\n")
    };
    let judge = |text: &str| check(&History::read(text.as_bytes())?, &Limits::default());
    assert!(matches!(judge("{}\n"), Err(HistoryError::Json { line: 1, .. })));
    assert!(matches!(
        judge(&format!("{}\n\n[", line(1, "invoke"))),
        Err(HistoryError::Json { line: 4, .. })
    ));
    let twice = line(1, "invoke") + &line(2, "invoke");
    assert!(matches!(judge(&twice), Err(HistoryError::StillOpen { event: 1, process: 3, .. })));
    let alone = line(1, "invoke") + &line(2, "ok") + &line(3, "info");
    assert!(matches!(judge(&alone), Err(HistoryError::NotOpen { event: 2, process: 3, .. })));
    let other = line(1, "invoke") + &line(2, "ok").replace("\"poll\"", "\"txn\",\"steps\":[]");
    assert!(matches!(judge(&other), Err(HistoryError::NotOpen { event: 1, .. })));
    let note = line(1, "ok").replace("\"poll\"", "\"crash\"");
    assert!(matches!(judge(&note), Err(HistoryError::NotANote { event: 0, op: "crash" })));
    let partition =
        line(1, "invoke").replace("\"poll\"", "\"send\",\"partition\":\"t\",\"value\":1");
    assert!(judge(&partition).unwrap_err().to_string().contains("orders-0"));
}
