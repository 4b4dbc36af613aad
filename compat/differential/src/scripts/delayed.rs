//! What happens while a group waits for more members before its first generation: `group.initial.rebalance.delay.ms`. Both
//! brokers have to run with that delay.

use std::{thread, time::Duration};

use super::stage::{Join, Stage};

type Done = anyhow::Result<()>;

const WAITING: &str = "PreparingRebalance";

pub(super) fn members_that_come_in_time(s: &mut Stage<'_>) -> Done {
    let (first, _) = waiting_member(s, "a", &Join::default())?;
    s.look()?;
    s.heartbeat(4, &first, None, 0)?;
    s.heartbeat(4, &first, None, 1)?;
    s.heartbeat(4, "unknown", None, 0)?;
    s.commit(9, (&first, 0), &[("topic-a", &[0])])?;
    s.delete_offsets(&[("topic-a", &[0])])?;
    let group = s.group();
    s.delete_groups(2, &[&group])?;
    // One that is not asked for an id first, one that is, a static one.
    s.send_join("b", &Join { version: 3, ..Join::default() })?;
    s.await_state(WAITING)?;
    waiting_member(s, "c", &Join::default())?;
    s.send_join("d", &Join { instance: Some("one"), ..Join::default() })?;
    s.await_state(WAITING)?;
    s.join_while_waiting(
        "e",
        &Join { protocols: &[("roundrobin", "topic-a")], ..Join::default() },
    )?;
    s.join_while_waiting("e", &Join { protocol_type: "connect", ..Join::default() })?;
    s.look()?;
    s.await_state("CompletingRebalance")?;
    s.look()?;
    s.sync(5, &first, None, 1, &[&first])?;
    s.look()
}

pub(super) fn each_new_member_is_waited_for_anew(s: &mut Stage<'_>) -> Done {
    waiting_member(s, "a", &Join::default())?;
    let delay = s.initial_delay;
    thread::sleep(delay.mul_f64(0.6));
    s.await_state(WAITING)?;
    waiting_member(s, "b", &Join::default())?;
    // After the first delay, before the end of the second.
    thread::sleep(delay.mul_f64(0.7));
    s.await_state(WAITING)?;
    s.await_state("CompletingRebalance")?;
    s.look()
}

pub(super) fn no_longer_than_the_rebalance_timeout(s: &mut Stage<'_>) -> Done {
    let rebalance_timeout_ms = s.initial_delay.as_millis() as i32 / 4;
    let (id, _) = waiting_member(s, "a", &Join { rebalance_timeout_ms, ..Join::default() })?;
    thread::sleep(s.initial_delay.mul_f64(0.25) + Duration::from_millis(20));
    s.await_state("CompletingRebalance")?;
    s.sync(5, &id, None, 1, &[&id])?;
    // The delay is for groups that begin; this one goes on.
    let (second, _) = s.member("b", &Join::default())?;
    s.join("a", &Join { id: &id, ..Join::default() })?;
    s.sync(5, &id, None, 2, &[&id, &second])?;
    s.look()
}

pub(super) fn leaving_in_time(s: &mut Stage<'_>) -> Done {
    let (first, _) = waiting_member(s, "a", &Join::default())?;
    let (second, _) = waiting_member(s, "b", &Join::default())?;
    s.leave_unsettled(5, &[(&first, None)])?;
    s.await_state(WAITING)?;
    s.look()?;
    s.await_state("CompletingRebalance")?;
    s.sync(5, &second, None, 1, &[&second])?;
    s.look()?;
    // All that there were.
    s.new_group();
    let (only, _) = waiting_member(s, "a", &Join::default())?;
    s.leave_unsettled(5, &[(&only, None)])?;
    s.await_state("Empty")?;
    waiting_member(s, "b", &Join::default())?;
    s.await_state("CompletingRebalance")?;
    s.look()
}

pub(super) fn static_member_that_comes_back_in_time(s: &mut Stage<'_>) -> Done {
    for version in [5, 9] {
        s.new_group();
        let named = Join { version, instance: Some("one"), ..Join::default() };
        s.send_join("a", &named)?;
        s.await_state(WAITING)?;
        s.send_join("a", &named)?;
        s.await_state(WAITING)?;
        s.await_state("CompletingRebalance")?;
        s.look()?;
    }
    Ok(())
}

/// A member with an id from KIP-394's handshake, whose JoinGroup is parked.
fn waiting_member(
    s: &mut Stage<'_>,
    client: &str,
    join: &Join<'_>,
) -> anyhow::Result<(String, crate::pair::Ticket)> {
    let handed_out = s.join_while_waiting(client, join)?;
    let id = handed_out["memberId"].as_str().unwrap_or_default().to_owned();
    let ticket = s.send_join(client, &Join { id: &id, ..join.clone() })?;
    s.await_state(WAITING)?;
    Ok((id, ticket))
}
