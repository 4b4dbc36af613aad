//! Worlds in which one thing is to be seen, again and again: what was reported of others (`docs/regressions.md`). Everything that is
//! checked in any world is checked in these.

use crate::{
    Coverage, Plan,
    plan::{Case, Fault, GroupPlan},
    world::{Mode, World},
};

/// The worlds of these seeds, with plans that were changed so, and what they have seen together.
fn worlds(seeds: std::ops::Range<u64>, change: impl Fn(&mut Plan)) -> Coverage {
    let mut seen = Coverage::default();
    for seed in seeds {
        let mut plan = Plan::of(&Case::new(seed));
        change(&mut plan);
        let mut world = World::with_plan(plan, seed, Mode::Checked);
        world.run();
        seen.add(world.coverage());
    }
    seen
}

fn group(members: usize, static_members: usize, cooperative: bool) -> Vec<GroupPlan> {
    let dealt = false;
    vec![GroupPlan { members, foreign: Vec::new(), cooperative, dealt, static_members }]
}

/// Timeouts that leave room for several rounds between two faults.
fn brisk(plan: &mut Plan, members: usize, static_members: usize, cooperative: bool) {
    plan.pace = 1;
    plan.session = 10_000;
    plan.heartbeat = 1_000;
    plan.rebalance = 10_000;
    plan.request_timeout = 5_000;
    plan.poll_every = 400;
    plan.faults_end_at = 120_000;
    plan.groups = group(members, static_members, cooperative);
    plan.topics = 2;
    plan.partitions = 4;
    let ms = std::time::Duration::from_millis;
    plan.config.initial_rebalance_delay = ms(500);
    plan.config.new_member_join_timeout = ms(60_000);
    plan.config.max_batch_bytes = 1_048_588;
}

fn codes(seen: &Coverage, api: &'static str, code: &'static str) -> u64 {
    seen.codes.get(&(api, code)).copied().unwrap_or(0)
}

fn checks(seen: &Coverage, what: &'static str) -> u64 {
    seen.checks.get(what).copied().unwrap_or(0)
}

/// Cooperative members are told by SyncGroup, over and over, that the round came to nothing, and go on claiming what they have. No
/// partition has two owners (S1), and at the end none has none (L3).
#[test]
fn kafka_12984_rounds_that_come_to_nothing_in_a_storm() {
    let seen = worlds(0..12, |plan| {
        brisk(plan, 4, 0, true);
        plan.act_every = 300;
        plan.only(&[
            (Fault::Enforce, 1_000),
            (Fault::Resubscribe, 300),
            (Fault::Slow, 200),
            (Fault::LostAnswer, 20),
        ]);
    });
    assert!(codes(&seen, "SyncGroup", "REBALANCE_IN_PROGRESS") > 100, "{}", seen.report());
}

/// Static members are cut off while the group goes on without them, and come back with claims of a generation that is long over.
#[test]
fn kafka_14639_claims_of_a_generation_that_was_missed() {
    let seen = worlds(0..12, |plan| {
        brisk(plan, 4, 4, true);
        plan.rebalance = 4_000;
        plan.session = 20_000;
        plan.request_timeout = 4_000;
        plan.act_every = 2_000;
        plan.only(&[
            (Fault::Partition, 1_000),
            (Fault::Enforce, 1_000),
            (Fault::LostRequest, 40),
            (Fault::Overtaken, 40),
        ]);
    });
    assert!(checks(&seen, "generations missed") > 10, "{}", seen.report());
}

/// A consumer hears that it is no member any more, or that its generation is over, at any moment of a rebalance. It gets in again
/// (L2), and does not go on joining for ever (L11).
#[test]
fn kafka_8104_consumer_that_is_removed_in_a_rebalance_gets_in_again() {
    let seen = worlds(0..12, |plan| {
        brisk(plan, 3, 3, false);
        plan.act_every = 1_000;
        plan.only(&[
            (Fault::Hang, 1_000),
            (Fault::Partition, 1_000),
            (Fault::Enforce, 1_000),
            (Fault::MemberRemoved, 1_000),
            (Fault::Slow, 200),
        ]);
    });
    for api in ["JoinGroup", "SyncGroup", "Heartbeat"] {
        assert!(codes(&seen, api, "UNKNOWN_MEMBER_ID") > 0, "{api}: {}", seen.report());
    }
    assert!(codes(&seen, "Heartbeat", "UNKNOWN_MEMBER_ID") > 5);
}

/// Topics grow while the leader, a static member, is away for less than its session. It is told to leave the assignment alone
/// when it is back, and finds what is nobody's (L3).
#[test]
fn kafka_13435_partitions_that_come_while_the_static_leader_is_away_are_assigned() {
    let seen = worlds(0..12, |plan| {
        brisk(plan, 2, 2, false);
        plan.act_every = 700;
        plan.only(&[(Fault::ClientCrash, 1_000), (Fault::TopicGrown, 1_000)]);
    });
    assert!(checks(&seen, "leaders that came back and looked") > 20, "{}", seen.report());
}

/// Offsets and ends of transactions come into the log while a shard reads it. It serves only when it has read them too (S2, S5).
#[test]
fn kafka_16973_what_is_written_while_a_shard_loads_is_loaded() {
    let seen = worlds(0..12, |plan| {
        brisk(plan, 3, 0, false);
        plan.nodes = 2;
        plan.act_every = 1_500;
        plan.only(&[(Fault::Move, 1_000), (Fault::SlowLoad, 1_000), (Fault::Transaction, 1_000)]);
    });
    assert!(checks(&seen, "writes during a load") > 100, "{}", seen.report());
    assert!(codes(&seen, "JoinGroup", "COORDINATOR_LOAD_IN_PROGRESS") > 0);
    assert!(codes(&seen, "OffsetFetch", "COORDINATOR_LOAD_IN_PROGRESS") > 0);
}
