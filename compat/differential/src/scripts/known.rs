//! Differences that are meant and leave the groups different, so that the walks cannot meet them: each is shown here once, with
//! what either broker answers. `docs/differences.md` explains them under these names.

use std::time::{Duration, Instant};

use anyhow::ensure;
use kavka_protocol::{
    ErrorCode,
    json::Value,
    messages::{DescribeGroupsRequest, JoinGroupRequest},
};
use serde_json::json;

use super::stage::{Join, Stage};

type Done = anyhow::Result<()>;

/// All that are shown here.
#[cfg(test)]
pub(crate) const NAMES: &[&str] = &[
    "refused-join",
    "refused-commit",
    "id-that-leaves-unused",
    "static-member-of-a-full-group",
    "described-static-member",
    "second-id",
    "member-too-large",
];

/// What both tell of the group: the field of its description at `path`.
fn described(s: &mut Stage<'_>, path: &str) -> anyhow::Result<[Value; 2]> {
    let group = s.group();
    let answers = s.pair.ask(5, |_| DescribeGroupsRequest {
        groups: vec![group.as_str().into()],
        ..Default::default()
    })?;
    Ok(answers.map(|answer| answer["groups"][0].pointer(path).cloned().unwrap_or_default()))
}

fn description_differs(
    s: &mut Stage<'_>,
    name: &'static str,
    path: &str,
    expected: [&str; 2],
) -> Done {
    let got = described(s, path)?;
    s.pair.expect_difference(name, path, got, expected.map(|text| json!(text)));
    Ok(())
}

/// Sends a JoinGroup that both answer at once, with other error codes.
fn join_differs(
    s: &mut Stage<'_>,
    name: &'static str,
    client: &str,
    join: &Join<'_>,
    expected: [ErrorCode; 2],
) -> anyhow::Result<[Value; 2]> {
    s.pair.act_as(client);
    let group = s.group();
    let answers = s.pair.ask(join.version, |names| join.request(&group, &names))?;
    let got = answers.each_ref().map(|answer| answer["errorCode"].clone());
    s.pair.expect_difference(name, "/errorCode", got, expected.map(|code| json!(code.code())));
    Ok(answers)
}

pub(super) fn refused_join(s: &mut Stage<'_>) -> Done {
    s.records_differ();
    let group = s.group();
    let without = Join { protocols: &[], version: 3, ..Join::default() };
    s.pair.act_as("a");
    s.pair.call(3, |names| without.request(&group, &names))?;
    description_differs(s, "refused-join", "/groupState", ["Empty", "Dead"])
}

pub(super) fn refused_commit(s: &mut Stage<'_>) -> Done {
    s.records_differ();
    let large = "x".repeat(5000);
    s.commit_with(9, ("", -1), &[("topic-a", &[0])], &large, -1)?;
    s.pair.act_as("a");
    let group = s.group();
    let join = Join { version: 3, ..Join::default() };
    s.pair.ask(3, |names| join.request(&group, &names))?;
    description_differs(s, "refused-commit", "/groupState", ["Dead", "CompletingRebalance"])
}

pub(super) fn id_that_leaves_unused(s: &mut Stage<'_>) -> Done {
    s.records_differ();
    let (id, _) = s.member("a", &Join::default())?;
    s.sync(5, &id, None, 1, &[&id])?;
    let handed_out = s.join("b", &Join::default())?;
    let unused = handed_out["memberId"].as_str().unwrap_or_default().to_owned();
    s.leave_unsettled(5, &[(&unused, None)])?;
    let expected = ["PreparingRebalance", "Stable"];
    description_differs(s, "id-that-leaves-unused", "/groupState", expected)
}

pub(super) fn static_member_of_a_full_group(s: &mut Stage<'_>) -> Done {
    s.records_differ();
    // group.max.size is 5. All join before the first assignment, each time one more comes.
    let instances = ["one", "two", "three", "four", "five"];
    let mut ids: Vec<String> = Vec::new();
    for (number, instance) in instances.iter().enumerate() {
        let join = Join { instance: Some(instance), ..Join::default() };
        let ticket = s.start_join(&format!("member-{number}"), &join)?;
        for (id, instance) in ids.iter().zip(instances) {
            let again = Join { id, instance: Some(instance), ..Join::default() };
            s.start_join("again", &again)?;
        }
        ids.push(s.answer(ticket)["memberId"].as_str().unwrap_or_default().to_owned());
    }
    let named: Vec<_> = ids.iter().map(String::as_str).collect();
    for (id, instance) in ids.iter().zip(instances).skip(1) {
        s.sync(5, id, Some(instance), 5, &[])?;
    }
    s.sync(5, &ids[0], Some("one"), 5, &named)?;
    let expected = [ErrorCode::GroupMaxSizeReached, ErrorCode::None];
    let back = Join { instance: Some("five"), ..Join::default() };
    join_differs(s, "static-member-of-a-full-group", "member-4", &back, expected)?;
    Ok(())
}

pub(super) fn described_static_member(s: &mut Stage<'_>) -> Done {
    let join = Join { instance: Some("one"), ..Join::default() };
    s.records_differ();
    let first = s.join("first-client", &join)?;
    let id = first["memberId"].as_str().unwrap_or_default().to_owned();
    s.sync(5, &id, Some("one"), 1, &[&id])?;
    s.pair.act_as("second-client");
    let group = s.group();
    s.pair.ask(join.version, |names| join.request(&group, &names))?;
    let expected = ["first-client", "second-client"];
    description_differs(s, "described-static-member", "/members/0/clientId", expected)
}

pub(super) fn second_id(s: &mut Stage<'_>) -> Done {
    s.records_differ();
    let session = Join { session_timeout_ms: 4_000, ..Join::default() };
    let (id, _) = s.member("a", &Join::default())?;
    s.sync(5, &id, None, 1, &[&id])?;
    // The answer with its first id was lost.
    s.join("b", &session)?;
    let handed_out = s.join("b", &session)?;
    let second = handed_out["memberId"].as_str().unwrap_or_default().to_owned();
    let begun = Instant::now();
    s.send_join("b", &Join { id: &second, ..session.clone() })?;
    s.send_join("a", &Join { id: &id, ..Join::default() })?;
    // Kavka waits half a second for the first id, Apache Kafka its session timeout.
    let state = "/groupState";
    let mut told = false;
    loop {
        let got = described(s, state)?;
        if !told && got[1] == "CompletingRebalance" {
            let expected = ["PreparingRebalance", "CompletingRebalance"].map(|text| json!(text));
            s.pair.expect_difference("second-id", state, got.clone(), expected);
            told = true;
        }
        if got.iter().all(|state| state == "CompletingRebalance") {
            s.settle()?;
            return Ok(());
        }
        ensure!(begun.elapsed() < Duration::from_secs(20), "the groups are in states {got:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(super) fn member_too_large(s: &mut Stage<'_>) -> Done {
    s.records_differ();
    let group = s.group();
    s.pair.act_as("a");
    let large = vec![0; 1_100_000];
    let join = Join { version: 3, ..Join::default() };
    let answers = s.pair.ask(3, |names| {
        let mut request: JoinGroupRequest = join.request(&group, &names);
        request.protocol_type = "none".into();
        request.protocols[0].metadata = large.clone().into();
        request
    })?;
    let got = answers.each_ref().map(|answer| answer["errorCode"].clone());
    let expected = [ErrorCode::None, ErrorCode::GroupMaxSizeReached];
    let expected = expected.map(|code| json!(code.code()));
    s.pair.expect_difference("member-too-large", "/errorCode", got, expected);
    Ok(())
}
