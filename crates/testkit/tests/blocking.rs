//! The test broker in tests that have no runtime.
#![allow(clippy::unwrap_used)]

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use kavka_testkit::{ApiKey, Error, GroupCondition, GroupState, TestBroker};

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(30);

#[test]
fn every_call_can_be_waited_for_on_a_thread() {
    let broker = TestBroker::builder().topic("orders", 2).start_blocking();
    broker.create_topic("t", 1).unwrap();
    broker.create_topic_with("compacted", 1, &[("cleanup.policy", "compact")]).unwrap();
    assert_eq!(broker.produce("orders", 1, ["a", "b"]).unwrap(), 0);
    assert_eq!(broker.wait_for_records("orders", 2, LONG).unwrap(), [0, 2]);
    let values: Vec<String> =
        broker.records("orders").unwrap().iter().map(kavka_testkit::Record::text).collect();
    assert_eq!(values, ["a", "b"]);
    assert!(broker.committed("g").unwrap().is_empty());
    assert_eq!(broker.group("g").unwrap().state, GroupState::Dead);
    let error = broker.wait_for_group("g", GroupCondition::stable(), SHORT).unwrap_err();
    assert!(error.to_string().contains("not Stable"), "{error}");
    let error = broker.wait_for_committed("g", "orders", 0, 1, SHORT).unwrap_err();
    assert!(matches!(error, Error::Committed { found: None, .. }), "{error}");
    broker.crash();
    assert!(!broker.is_running());
    broker.restart().unwrap();
    assert_eq!(broker.end_offsets("orders").unwrap(), [0, 2]);
    broker.power_loss().unwrap();
    broker.restart().unwrap();
    broker.stop().unwrap();
    assert!(matches!(broker.records("orders"), Err(Error::Down)));
}

#[test]
fn rules_and_their_waits_need_no_runtime() {
    let broker = TestBroker::start_blocking();
    let rule = broker.on(ApiKey::ApiVersions).close();
    let error = broker.wait_for_hits(&rule, 1, SHORT).unwrap_err();
    assert!(matches!(error, Error::Hits { found: 0, .. }), "{error}");
    let mut client = TcpStream::connect(broker.addr()).unwrap();
    client.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff]).unwrap();
    assert_eq!(broker.wait_for_hits(&rule, 1, LONG).unwrap(), 1);
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "the connection is closed");
}

#[test]
fn a_property_that_is_refused_is_an_error_or_a_panic() {
    let wrong = || TestBroker::builder().property("num.partitions", "none");
    assert!(wrong().try_start_blocking().is_err());
    assert!(std::panic::catch_unwind(|| wrong().start_blocking()).is_err());
}
