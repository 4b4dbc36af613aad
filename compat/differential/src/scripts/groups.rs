//! Membership: who may come in, who is told what in which state, and what time does.

use std::{thread, time::Duration};

use kavka_protocol::messages::{
    DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest,
    LeaveGroupRequest, ListGroupsRequest, SyncGroupRequest,
};

use super::stage::{Join, RANGE, Stage};

type Done = anyhow::Result<()>;

pub(super) fn join_refusals(s: &mut Stage<'_>) -> Done {
    for version in [0, 3, 4, 5, 6, 7, 9] {
        s.new_group();
        let join = Join { version, ..Join::default() };
        s.join("a", &Join { id: "unknown", ..join.clone() })?;
        for session_timeout_ms in [-1, 0, 99, 1_800_001, i32::MAX] {
            s.join("a", &Join { session_timeout_ms, ..join.clone() })?;
        }
        s.pair.call(version, |_| JoinGroupRequest {
            session_timeout_ms: 600_000,
            protocol_type: "consumer".into(),
            ..Default::default()
        })?;
        s.join("a", &join)?;
        s.join("a", &Join { protocols: &[], ..join.clone() })?;
        s.join("a", &Join { protocol_type: "", ..join.clone() })?;
        s.join("a", &Join { id: "unknown", ..join.clone() })?;
        if version >= 5 {
            s.join("a", &Join { id: "unknown", instance: Some("nobody"), ..join.clone() })?;
            s.join("b", &Join { instance: Some("one"), ..join.clone() })?;
            s.join("b", &Join { id: "unknown", instance: Some("one"), ..join.clone() })?;
        }
        s.join("c", &Join { protocol_type: "connect", ..join.clone() })?;
        s.join("c", &Join { protocols: &[("roundrobin", "topic-a")], ..join.clone() })?;
    }
    Ok(())
}

pub(super) fn join_every_version(s: &mut Stage<'_>) -> Done {
    for version in 0..=9 {
        s.new_group();
        let join = Join { version, ..Join::default() };
        let answer = s.join("a", &join)?;
        let first = answer["memberId"].as_str().unwrap_or_default().to_owned();
        if version >= 4 {
            s.join("a", &Join { id: &first, ..join.clone() })?;
        }
        s.look()?;
        s.sync(version.min(5), &first, None, 1, &[&first])?;
        let (second, _) = if version >= 4 {
            s.member("b", &join)?
        } else {
            (String::new(), s.start_join("b", &join)?)
        };
        s.heartbeat(version.min(4), &first, None, 1)?;
        s.look()?;
        s.join("a", &Join { id: &first, ..join.clone() })?;
        s.sync(version.min(5), &first, None, 2, &[&first, &second])?;
        s.look()?;
    }
    Ok(())
}

pub(super) fn join_of_a_known_member(s: &mut Stage<'_>) -> Done {
    let other: &[(&str, &str)] = &[("range", "topic-b")];
    let ids = s.stable(2)?;
    // A follower with nothing new, one with something new, the leader with nothing new.
    s.join("b", &Join { id: &ids[1], ..Join::default() })?;
    s.join("b", &Join { id: &ids[1], protocols: other, ..Join::default() })?;
    s.look()?;
    s.join("a", &Join { id: &ids[0], ..Join::default() })?;
    // Before the assignment: the same again is answered again, something new begins again.
    s.join("a", &Join { id: &ids[0], ..Join::default() })?;
    s.join("b", &Join { id: &ids[1], protocols: other, ..Join::default() })?;
    s.sync(5, &ids[1], None, 3, &[])?;
    s.join("b", &Join { id: &ids[1], ..Join::default() })?;
    s.join("a", &Join { id: &ids[0], ..Join::default() })?;
    s.sync(5, &ids[0], None, 4, &[&ids[0], &ids[1]])?;
    s.sync(5, &ids[1], None, 4, &[])?;
    s.join("a", &Join { id: &ids[0], version: 3, ..Join::default() })?;
    s.heartbeat(4, &ids[1], None, 4)?;
    s.look()
}

pub(super) fn join_full_group(s: &mut Stage<'_>) -> Done {
    // group.max.size is 5.
    let ids = s.stable(5)?;
    for version in [0, 4, 9] {
        s.join("late", &Join { version, ..Join::default() })?;
    }
    s.join("late", &Join { instance: Some("late"), ..Join::default() })?;
    s.heartbeat(4, &ids[0], None, 5)?;
    s.leave(5, &[(&ids[4], None)])?;
    s.look()
}

pub(super) fn static_replacement(s: &mut Stage<'_>) -> Done {
    for version in 5..=9 {
        s.new_group();
        let join = Join { version, ..Join::default() };
        let named = |instance| Join { instance: Some(instance), ..join.clone() };
        let id = |answer: &serde_json::Value| answer["memberId"].as_str().unwrap_or("").to_owned();
        let leader = id(&s.join("a", &named("one"))?);
        let second = s.start_join("b", &named("two"))?;
        s.join("a", &Join { id: &leader, ..named("one") })?;
        let follower = id(&s.answer(second));
        s.sync(5, &follower, Some("two"), 2, &[])?;
        s.sync(5, &leader, Some("one"), 2, &[&leader, &follower])?;
        s.look()?;
        // The follower comes back, and whoever goes on as before is fenced.
        let again = id(&s.join("b", &named("two"))?);
        s.look()?;
        s.heartbeat(4, &follower, Some("two"), 2)?;
        s.heartbeat(4, &follower, None, 2)?;
        s.sync(5, &follower, Some("two"), 2, &[])?;
        s.sync(5, &again, Some("two"), 2, &[])?;
        s.leave(5, &[(&follower, Some("two"))])?;
        s.heartbeat(4, &again, Some("two"), 2)?;
        // With something to change the choice of protocol, it is a rebalance.
        s.join("b", &Join { protocols: &[("roundrobin", "topic-a")], ..named("two") })?;
        let subscription: &[(&str, &str)] = &[("range", "topic-b")];
        let third = id(&s.join("b", &Join { protocols: subscription, ..named("two") })?);
        s.look()?;
        s.delete_offsets(&[("topic-a", &[0]), ("topic-b", &[0])])?;
        // During a rebalance, before and after the assignment is asked for.
        s.join("a", &Join { id: &leader, ..named("one") })?;
        s.heartbeat(4, &third, Some("two"), 2)?;
        let fourth = id(&s.join("b", &named("two"))?);
        s.sync(5, &fourth, Some("two"), 3, &[])?;
        s.join("b", &named("two"))?;
        s.look()?;
        s.leave(3, &[("", Some("two")), ("", Some("one")), ("", Some("three"))])?;
        s.look()?;
    }
    Ok(())
}

pub(super) fn static_replacement_of_a_leader(s: &mut Stage<'_>) -> Done {
    for version in 5..=9 {
        s.new_group();
        let named = |instance| Join { version, instance: Some(instance), ..Join::default() };
        let id = |answer: &serde_json::Value| answer["memberId"].as_str().unwrap_or("").to_owned();
        let leader = id(&s.join("a", &named("one"))?);
        s.sync(5, &leader, Some("one"), 1, &[&leader])?;
        let again = id(&s.join("a", &named("one"))?);
        s.look()?;
        s.sync(5, &again, Some("one"), 1, &[])?;
        s.commit(10, (&again, 1), &[("topic-a", &[0])])?;
        s.join("a", &Join { id: &again, ..named("one") })?;
        s.look()?;
    }
    Ok(())
}

pub(super) fn sync(s: &mut Stage<'_>) -> Done {
    for version in 0..=5 {
        s.new_group();
        s.pair.call(version, |_| SyncGroupRequest {
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            ..Default::default()
        })?;
        s.sync(version, "unknown", None, 1, &[])?;
        let (leader, _) = s.member("a", &Join::default())?;
        let (follower, _) = s.member("b", &Join::default())?;
        s.sync(version, &leader, None, 1, &[&leader])?;
        s.join("a", &Join { id: &leader, ..Join::default() })?;
        s.sync_as(version, &leader, None, 2, &[], None)?;
        s.sync_as(version, &leader, None, 2, &[], Some(("connect", "range")))?;
        s.sync_as(version, &leader, None, 2, &[], Some(("consumer", "roundrobin")))?;
        for generation in [-1, 0, 1, 3] {
            s.sync(version, &leader, None, generation, &[])?;
        }
        s.sync(version, "unknown", None, 2, &[])?;
        if version >= 3 {
            s.sync(version, &leader, Some("nobody"), 2, &[])?;
        }
        s.sync(version, &follower, None, 2, &[&leader])?;
        s.look()?;
        // A member that is left out gets nothing; one that is not in the group is no matter.
        s.sync(version, &leader, None, 2, &[&leader, "unknown"])?;
        s.sync(version, &follower, None, 2, &[])?;
        s.sync(version, &leader, None, 2, &[&follower])?;
        s.look()?;
    }
    Ok(())
}

pub(super) fn heartbeat(s: &mut Stage<'_>) -> Done {
    for version in 0..=4 {
        s.new_group();
        s.pair.call(version, |_| HeartbeatRequest::default())?;
        s.heartbeat(version, "unknown", None, 1)?;
        let handed_out = s.join("p", &Join::default())?;
        s.heartbeat(version, handed_out["memberId"].as_str().unwrap_or_default(), None, 0)?;
        let ids = {
            s.new_group();
            s.stable(2)?
        };
        for generation in [-1, 0, 1, 2, 3] {
            s.heartbeat(version, &ids[0], None, generation)?;
            s.heartbeat(version, "unknown", None, generation)?;
        }
        if version >= 3 {
            s.heartbeat(version, &ids[0], Some("nobody"), 2)?;
        }
        s.join("a", &Join { id: &ids[0], ..Join::default() })?;
        s.heartbeat(version, &ids[1], None, 2)?;
        s.heartbeat(version, &ids[0], None, 2)?;
        s.join("b", &Join { id: &ids[1], ..Join::default() })?;
        s.heartbeat(version, &ids[1], None, 3)?;
        s.leave(5, &[(&ids[0], None), (&ids[1], None)])?;
        s.heartbeat(version, &ids[1], None, 4)?;
    }
    Ok(())
}

pub(super) fn leave(s: &mut Stage<'_>) -> Done {
    for version in 0..=5 {
        s.new_group();
        s.pair.call(version, |_| LeaveGroupRequest::default())?;
        s.leave(version, &[("unknown", None)])?;
        let ids = s.stable(3)?;
        s.leave(version, &[("unknown", None)])?;
        s.leave(version, &[(&ids[1], None), (&ids[1], None), ("unknown", None)])?;
        s.look()?;
        s.heartbeat(4, &ids[1], None, 3)?;
        // Whoever is parked and leaves is told.
        s.join("c", &Join { id: &ids[2], ..Join::default() })?;
        s.leave(version, &[(&ids[2], None)])?;
        s.look()?;
        // An id that was handed out holds the rebalance until it goes.
        let handed_out = s.join("p", &Join::default())?;
        s.join("a", &Join { id: &ids[0], ..Join::default() })?;
        s.leave(version, &[(handed_out["memberId"].as_str().unwrap_or_default(), None)])?;
        s.look()?;
        s.leave(version, &[(&ids[0], None)])?;
        s.look()?;
        s.leave(version, &[(&ids[0], None)])?;
        if version >= 3 {
            s.leave(version, &[])?;
            s.leave(version, &[("", Some("nobody")), ("unknown", Some("nobody")), ("", None)])?;
        }
    }
    Ok(())
}

pub(super) fn session_timeouts(s: &mut Stage<'_>) -> Done {
    let short = Join { session_timeout_ms: 1_000, rebalance_timeout_ms: 1_500, ..Join::default() };
    // A member that is silent, and is alone.
    let (id, _) = s.member("a", &short)?;
    s.sync(5, &id, None, 1, &[&id])?;
    s.await_state("Empty")?;
    s.look()?;
    s.heartbeat(4, &id, None, 1)?;
    // A static one.
    s.new_group();
    let answer = s.join("a", &Join { instance: Some("one"), ..short.clone() })?;
    let id = answer["memberId"].as_str().unwrap_or_default().to_owned();
    s.sync(5, &id, Some("one"), 1, &[&id])?;
    s.await_state("Empty")?;
    // A leader that never hands in an assignment.
    s.new_group();
    s.member("a", &Join { session_timeout_ms: 60_000, ..short.clone() })?;
    s.await_state("Empty")?;
    s.look()?;
    // One of two does not come again.
    s.new_group();
    let long = Join { session_timeout_ms: 60_000, ..short.clone() };
    let (first, _) = s.member("a", &long)?;
    s.sync(5, &first, None, 1, &[&first])?;
    let (_, parked) = s.member("b", &long)?;
    s.await_state("CompletingRebalance")?;
    s.heartbeat(4, &first, None, 1)?;
    s.heartbeat(4, &first, None, 2)?;
    let second = s.answer(parked)["memberId"].as_str().unwrap_or_default().to_owned();
    s.sync(5, &second, None, 2, &[&second])?;
    s.look()?;
    // An id that is never used holds the rebalance for its session timeout only.
    s.new_group();
    let (first, _) = s.member("a", &long)?;
    s.sync(5, &first, None, 1, &[&first])?;
    s.join("p", &short)?;
    s.join("a", &Join { id: &first, rebalance_timeout_ms: 60_000, ..long.clone() })?;
    s.await_state("CompletingRebalance")?;
    thread::sleep(Duration::from_millis(10));
    s.settle()?;
    Ok(())
}

pub(super) fn describe_and_list(s: &mut Stage<'_>) -> Done {
    s.look()?;
    let (first, _) = s.member("a", &Join::default())?;
    s.look()?;
    list_with_filters(s)?;
    s.sync(5, &first, None, 1, &[&first])?;
    s.look()?;
    list_with_filters(s)?;
    s.member("b", &Join::default())?;
    s.look()?;
    list_with_filters(s)?;
    let group = s.group();
    for names in [vec![], vec!["", "absent"], vec![group.as_str(), group.as_str()]] {
        for version in 0..=6 {
            s.pair.call(version, |_| DescribeGroupsRequest {
                groups: names.iter().map(|name| (*name).into()).collect(),
                ..Default::default()
            })?;
        }
    }
    Ok(())
}

fn list_with_filters(s: &mut Stage<'_>) -> Done {
    let states =
        ["Stable", "stable", "Empty", "PreparingRebalance", "completingrebalance", "Dead", "x", ""];
    for state in states {
        for version in [4, 5] {
            s.pair.call(version, |_| ListGroupsRequest {
                states_filter: vec![state.into()],
                ..Default::default()
            })?;
        }
    }
    for kind in ["classic", "CLASSIC", "consumer", "x", ""] {
        s.pair.call(5, |_| ListGroupsRequest {
            types_filter: vec![kind.into()],
            ..Default::default()
        })?;
    }
    Ok(())
}

pub(super) fn find_coordinator(s: &mut Stage<'_>) -> Done {
    for version in 0..=6 {
        for key_type in [0, 2, 3, -1] {
            if version == 0 && key_type != 0 {
                continue;
            }
            s.pair.call(version, |_| {
                let mut request = FindCoordinatorRequest { key_type, ..Default::default() };
                if version < 4 {
                    request.key = "one".into();
                } else {
                    request.coordinator_keys = vec!["one".into(), "".into(), "one".into()];
                }
                request
            })?;
        }
    }
    s.pair.call(5, |_| FindCoordinatorRequest::default())?;
    Ok(())
}

pub(super) fn generic_protocol_type(s: &mut Stage<'_>) -> Done {
    let connect = Join {
        protocol_type: "connect",
        protocols: &[("sessioned", "x"), ("compatible", "x"), ("default", "x")],
        ..Join::default()
    };
    let (first, _) = s.member("worker-1", &connect)?;
    s.sync_as(5, &first, None, 1, &[&first], Some(("connect", "sessioned")))?;
    s.look()?;
    let (second, _) =
        s.member("worker-2", &Join { protocols: &connect.protocols[1..], ..connect.clone() })?;
    s.join("worker-1", &Join { id: &first, ..connect.clone() })?;
    s.sync_as(5, &second, None, 2, &[], Some(("connect", "compatible")))?;
    s.sync_as(5, &first, None, 2, &[&first, &second], Some(("connect", "compatible")))?;
    s.look()?;
    s.join("consumer", &Join { protocols: RANGE, ..Join::default() })?;
    s.delete_offsets(&[("topic-a", &[0])])?;
    s.commit(9, (&first, 2), &[("topic-a", &[0])])?;
    s.leave(5, &[(&first, None), (&second, None)])?;
    s.look()
}
