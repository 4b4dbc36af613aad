#![allow(clippy::unwrap_used)]

use super::*;
use crate::{CooperativeSticky, Range, Sticky, TopicMetadata};

/// A cluster of topics with so many partitions each.
fn cluster(topics: &[(&'static str, u32)]) -> Cluster {
    let topic = |(name, partitions): &(&'static str, u32)| {
        ((*name).into(), TopicMetadata { partitions: *partitions, racks: Vec::new() })
    };
    topics.iter().map(topic).collect()
}

fn joined(member_id: &'static str, metadata: Bytes) -> JoinGroupResponseMember {
    JoinGroupResponseMember { member_id: member_id.into(), metadata, ..Default::default() }
}

fn subscription(topics: &[&'static str], version: i16) -> Bytes {
    let topics = topics.iter().map(|topic| (*topic).into()).collect();
    let message = ConsumerProtocolSubscription { topics, ..Default::default() };
    encode_subscription(&message, version).unwrap()
}

fn owning(topic: &'static str, partitions: &[i32], generation: i32) -> Bytes {
    let owned = kavka_protocol::messages::consumer_protocol_subscription::TopicPartition {
        topic: topic.into(),
        partitions: partitions.to_vec(),
    };
    let message = ConsumerProtocolSubscription {
        topics: vec![topic.into()],
        owned_partitions: vec![owned],
        generation_id: generation,
        ..Default::default()
    };
    encode_subscription(&message, 3).unwrap()
}

fn led(members: &[JoinGroupResponseMember], assignor: &dyn Assignor, cluster: &Cluster) -> Led {
    let members = JoinedMembers::read(members).unwrap();
    members.assign(assignor, RebalanceProtocol::Cooperative, cluster).unwrap()
}

/// What each member got of the only topic.
fn numbers(led: &Led) -> Vec<(&str, Vec<i32>)> {
    led.assignments
        .iter()
        .map(|to| {
            let assignment = decode_assignment(&to.assignment).unwrap();
            let topics = assignment.assigned_partitions.into_iter();
            (&*to.member_id, topics.flat_map(|topic| topic.partitions).collect())
        })
        .collect()
}

#[test]
fn bytes_are_kafkas() {
    let bytes = subscription(&["t"], 3);
    let expected = b"\0\x03\0\0\0\x01\0\x01t\xff\xff\xff\xff\0\0\0\0\xff\xff\xff\xff\xff\xff";
    assert_eq!(&bytes[..], expected);
    let topic = TopicPartition { topic: "t".into(), partitions: vec![0, 1] };
    let message = ConsumerProtocolAssignment { assigned_partitions: vec![topic], user_data: None };
    let expected = b"\0\x03\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x01\xff\xff\xff\xff";
    assert_eq!(&encode_assignment(&message, 3).unwrap()[..], expected);
}

#[test]
fn subscriptions_are_written_sorted() {
    let owned = |topic: &'static str, partitions: &[i32]| {
        kavka_protocol::messages::consumer_protocol_subscription::TopicPartition {
            topic: topic.into(),
            partitions: partitions.to_vec(),
        }
    };
    let message = ConsumerProtocolSubscription {
        topics: vec!["b".into(), "a".into()],
        owned_partitions: vec![owned("b", &[2]), owned("a", &[1]), owned("b", &[0])],
        ..Default::default()
    };
    let (read, version) = decode_subscription(&encode_subscription(&message, 1).unwrap()).unwrap();
    assert_eq!(version, 1);
    assert_eq!(read.topics, ["a", "b"]);
    assert_eq!(read.owned_partitions, [owned("a", &[1]), owned("b", &[0, 2])]);
}

#[test]
fn each_member_is_answered_in_its_own_version() {
    let names = ["a", "b", "c", "d"];
    let members: Vec<_> =
        (0..).zip(names).map(|(version, id)| joined(id, subscription(&["t"], version))).collect();
    let led = led(&members, &Range, &cluster(&[("t", 5)]));
    for (version, to) in (0u8..).zip(&led.assignments) {
        assert_eq!(to.assignment[..2], [0, version], "{}", to.member_id);
    }
    let expected = [("a", vec![0, 1]), ("b", vec![2]), ("c", vec![3]), ("d", vec![4])];
    assert_eq!(numbers(&led), expected);
}

#[test]
fn a_version_from_the_future_is_read_as_the_newest_known_and_what_follows_is_left() {
    let mut bytes = subscription(&["t"], 3).to_vec();
    bytes[1] = 9;
    bytes.extend_from_slice(b"something new");
    let (read, version) = decode_subscription(&bytes.into()).unwrap();
    assert_eq!((read.topics, version), (vec!["t".into()], 3));
}

#[test]
fn a_subscription_that_cannot_be_read_names_its_member() {
    for bytes in [&b""[..], b"\xff\xff\0\0\0\0", b"\0\0\x7f\xff\xff\xff", b"\0\0\0\0\0\x01\0\x09t"]
    {
        let members =
            [joined("good", subscription(&["t"], 0)), joined("bad", Bytes::from_static(bytes))];
        let error = JoinedMembers::read(&members).unwrap_err().to_string();
        assert!(error.contains("member bad"), "{error}");
    }
}

#[test]
fn user_data_that_cannot_be_read_is_ignored_and_noted() {
    let message = ConsumerProtocolSubscription {
        topics: vec!["t".into()],
        user_data: Some(Bytes::from_static(b"\0\0\0\x05?")),
        ..Default::default()
    };
    let members = [joined("odd", encode_subscription(&message, 1).unwrap())];
    let led = led(&members, &Sticky, &cluster(&[("t", 2)]));
    assert_eq!(numbers(&led), [("odd", vec![0, 1])]);
    assert!(led.notes[0].to_string().contains("member odd"), "{:?}", led.notes);
}

#[test]
fn no_bytes_at_all_are_an_assignment_of_nothing() {
    assert_eq!(decode_assignment(&Bytes::new()).unwrap(), ConsumerProtocolAssignment::default());
    decode_assignment(&Bytes::from_static(b"\0")).unwrap_err();
}

#[test]
fn topics_without_metadata_are_assigned_to_nobody() {
    let members = [joined("a", subscription(&["gone", "t"], 3))];
    let read = JoinedMembers::read(&members).unwrap();
    assert_eq!(read.topics().len(), 2);
    assert_eq!(numbers(&led(&members, &Sticky, &cluster(&[("t", 1)]))), [("a", vec![0])]);
    assert_eq!(numbers(&led(&members, &Sticky, &cluster(&[]))), [("a", vec![])]);
}

#[test]
fn a_member_that_joins_gets_what_was_revoked_for_it_in_the_second_round() {
    let cluster = cluster(&[("t", 3)]);
    let first = [joined("c1", owning("t", &[0, 1, 2], 4)), joined("c2", subscription(&["t"], 3))];
    let led_first = led(&first, &CooperativeSticky, &cluster);
    assert_eq!(numbers(&led_first), [("c1", vec![0, 1]), ("c2", vec![])]);
    let second = [joined("c1", owning("t", &[0, 1], 5)), joined("c2", owning("t", &[], 5))];
    let led_second = led(&second, &CooperativeSticky, &cluster);
    assert_eq!(numbers(&led_second), [("c1", vec![0, 1]), ("c2", vec![2])]);
}

/// Gives everything to the last member, or nothing that exists.
#[derive(Debug)]
struct Grabber {
    partitions: u32,
}

impl Assignor for Grabber {
    fn name(&self) -> &str {
        "grabber"
    }

    fn assign(&self, group: &Group) -> Result<Assignment, Box<dyn Error + Send + Sync>> {
        if self.partitions == 0 {
            return Err("nothing to grab".into());
        }
        let mut assignment = Assignment::empty(group);
        let last = group.members().len() - 1;
        assignment.give(last, (0..self.partitions).map(|number| Partition { topic: 0, number }));
        assignment.set_user_data(last, Some(Bytes::from_static(b"mine")));
        Ok(assignment)
    }
}

#[test]
fn an_assignor_of_ones_own_may_speak_to_its_members() {
    let members = [joined("a", subscription(&["t"], 3)), joined("b", subscription(&["t"], 3))];
    let led = led(&members, &Grabber { partitions: 2 }, &cluster(&[("t", 2)]));
    assert_eq!(numbers(&led), [("a", vec![]), ("b", vec![0, 1])]);
    let to_b = decode_assignment(&led.assignments[1].assignment).unwrap();
    assert_eq!(to_b.user_data.as_deref(), Some(&b"mine"[..]));
}

#[test]
fn mistakes_of_an_assignor_are_errors_that_name_it() {
    let members = [joined("a", owning("t", &[0], 1)), joined("b", owning("t", &[1], 1))];
    let cluster = cluster(&[("t", 2)]);
    let fail = |protocol, partitions| {
        let members = JoinedMembers::read(&members).unwrap();
        members.assign(&Grabber { partitions }, protocol, &cluster).map(|led| led.notes)
    };
    let early = fail(RebalanceProtocol::Cooperative, 2).unwrap_err();
    assert!(
        matches!(&early, LeaderError::TakenTooEarly { owner_id, partition: 0, .. } if *owner_id == "a"),
        "{early}"
    );
    fail(RebalanceProtocol::Eager, 2).unwrap();
    let beyond = fail(RebalanceProtocol::Eager, 3).unwrap_err();
    assert!(matches!(&beyond, LeaderError::NotToBeHad { partition: 2, .. }), "{beyond}");
    let gave_up = fail(RebalanceProtocol::Eager, 0).unwrap_err().to_string();
    assert!(gave_up.contains("grabber cannot assign: nothing to grab"), "{gave_up}");
}
