//! The leader of a cooperative group and the partitions that move.

use super::context::*;
use crate::{request::RequestKind, *};
use kavka_protocol::ByteString;

/// The default of `max.poll.interval.ms`.
const INTERVAL_MS: u64 = 300_000;

/// What a member claims, and in which generation it had it.
type Claim = (&'static str, &'static [i32], i32);
/// What the assignor gives a member.
type Share = (&'static str, &'static [i32]);

/// Two members that heard of different rounds before the coordinator moved: both still own what they had.
#[test]
fn assignment_that_ignores_an_old_but_undisputed_claim_is_corrected() {
    let mut ctx = coming_leader();
    let claims = [("m", &[0, 3][..], 9), ("x", &[1, 2, 3], 8)];
    let shares = assign(&mut ctx, 10, &claims, &[("m", &[0, 1, 3]), ("x", &[2])]);
    assert_eq!(shares, [share(&[0, 3]), share(&[2])], "1 is still with x; 3 is not");
}

/// `x` was away in the round that took 1 from it, and is back without a rebalance (KIP-345): it has nothing to let go of.
#[test]
fn partition_whose_former_owner_does_not_join_again_does_not_stay_with_nobody() {
    let mut ctx = coming_leader();
    let claims = [("m", &[0][..], 9), ("x", &[1, 2, 3], 9)];
    let shares = assign(&mut ctx, 10, &claims, &[("m", &[0, 1]), ("x", &[2, 3])]);
    assert_eq!(shares, [share(&[0]), share(&[2, 3])]);
    take(&mut ctx, &[0]);
    assert_eq!(ctx.joins_within(INTERVAL_MS - 1_000), 0, "the owner may take its time");
    assert!(ctx.joins_within(2_000) > 0);
    let Request::Join(join) = &ctx.find(RequestKind::Join).unwrap().request else { panic!() };
    let reason = join.reason.as_deref().unwrap();
    assert!(reason.contains("t-1") && reason.contains("nobody"), "{reason}");

    let claims = [("m", &[0][..], 10), ("x", &[2, 3], 10)];
    assign(&mut ctx, 11, &claims, &[("m", &[0, 1]), ("x", &[2, 3])]);
    take(&mut ctx, &[0, 1]);
    assert_eq!(ctx.member.owned(), [tp(0), tp(1)].into());
    assert_eq!(ctx.joins_within(3 * INTERVAL_MS), 0, "L11");
}

/// Its owner lets go and joins again, as most do: the leader asks for no round of its own on top.
#[test]
fn partition_that_was_let_go_of_is_not_asked_for_again() {
    let mut ctx = coming_leader();
    let claims = [("m", &[0][..], 9), ("x", &[1, 2, 3], 9)];
    assign(&mut ctx, 10, &claims, &[("m", &[0, 1]), ("x", &[2, 3])]);
    take(&mut ctx, &[0]);
    ctx.rebalance();
    let claims = [("m", &[0][..], 10), ("x", &[2, 3], 10)];
    assign(&mut ctx, 11, &claims, &[("m", &[0, 1]), ("x", &[2, 3])]);
    take(&mut ctx, &[0, 1]);
    assert_eq!(ctx.joins_within(3 * INTERVAL_MS), 0);
}

/// Who leads no more, or is on its way out, asks for nothing; and what is not there any more is nobody's by right.
#[test]
fn partition_that_moves_is_the_leaders_business_as_long_as_it_leads_and_as_it_is_there() {
    let claims = [("m", &[0][..], 9), ("x", &[1, 2, 3], 9)];
    let shares = [("m", &[0, 1][..]), ("x", &[2, 3])];
    let mut ctx = coming_leader();
    assign(&mut ctx, 10, &claims, &shares);
    take(&mut ctx, &[0]);
    ctx.rebalance();
    ctx.answer_join(11);
    take(&mut ctx, &[0]);
    assert_eq!(ctx.joins_within(3 * INTERVAL_MS), 0, "another leads");

    let mut ctx = coming_leader();
    let claims = [("m", &[0][..], 9), ("x", &[1, 2, 3, 4], 9)];
    assign(&mut ctx, 10, &claims, &[("m", &[0, 1]), ("x", &[2, 3])]);
    take(&mut ctx, &[0, 1]);
    ctx.rebalance();
    let claims = [("m", &[0, 1][..], 10), ("x", &[2, 3, 4], 10)];
    assign(&mut ctx, 11, &claims, &[("m", &[0, 1]), ("x", &[2, 3])]);
    take(&mut ctx, &[0, 1]);
    assert_eq!(ctx.joins_within(3 * INTERVAL_MS), 0, "the topic has no partition 4");
}

/// Waits for the answer to its first JoinGroup.
fn coming_leader() -> Context {
    let mut ctx = Context::with(cooperative());
    ctx.subscribe();
    ctx.answer_find();
    ctx
}

/// A round that "m", the member under test, leads: what these claim, and what the assignor gives them. What SyncGroup carries, in
/// their order.
fn assign(
    ctx: &mut Context,
    generation: i32,
    claims: &[Claim],
    shares: &[Share],
) -> Vec<bytes::Bytes> {
    let members = claims.iter().map(|(id, owned, generation)| JoinedMember {
        member_id: ByteString::from_static(id),
        instance_id: None,
        metadata: Subscription {
            topics: ["t".into()].into(),
            owned: owned.iter().map(|partition| tp(*partition)).collect(),
            generation: *generation,
            ..Default::default()
        }
        .encode(),
    });
    let members = members.collect();
    let response = JoinResponse { leader: "m".into(), members, ..ctx.joined(generation) };
    ctx.answer(RequestKind::Join, Response::Join(response));
    let assignments = shares.iter().map(|(id, partitions)| {
        let partitions = partitions.iter().map(|partition| tp(*partition)).collect();
        (ByteString::from_static(id), Assignment { partitions, user_data: None })
    });
    let assignments = assignments.collect();
    let topics = metadata(4, 0).into_iter().map(|(name, topic)| (name, topic.shape())).collect();
    ctx.step(Input::Assigned { generation, assignments, topics });
    let Request::Sync(sync) = &ctx.find(RequestKind::Sync).unwrap().request else { panic!() };
    sync.assignments.iter().map(|(_, share)| share.clone()).collect()
}

/// The answer to SyncGroup, and the committed offsets of what it adds.
fn take(ctx: &mut Context, partitions: &[i32]) {
    let adds = partitions.iter().any(|partition| !ctx.member.owned().contains(&tp(*partition)));
    ctx.answer_sync(partitions);
    if adds {
        ctx.answer_fetch(10);
    }
}

fn share(partitions: &[i32]) -> bytes::Bytes {
    let partitions = partitions.iter().map(|partition| tp(*partition)).collect();
    Assignment { partitions, user_data: None }.encode()
}
