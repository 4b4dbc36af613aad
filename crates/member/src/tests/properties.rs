//! Any order of inputs, answers that are lost, doubled, late or wrong: what always holds, and that it ends well once the
//! coordinator behaves.

use std::time::Duration;

use kavka_protocol::ErrorCode;
use proptest::prelude::*;

use super::context::*;
use crate::{request::RequestKind, *};

/// One move of a hostile world.
#[derive(Clone, Debug)]
enum Move {
    Sleep(u16),
    Subscribe(bool),
    Unsubscribe,
    Poll,
    Consume(u8),
    Commit(bool),
    Seek(i64),
    Metadata(u8, u8),
    /// The n-th request that waits is answered as it should be, or with a code.
    Answer(u8, Option<u8>),
    /// The same, but it goes on waiting for another answer.
    AnswerTwice(u8),
    Fail(u8),
    /// An answer of one kind to a request of another.
    WrongAnswer(u8),
    Drained(u8),
    Enforce,
}

const CODES: [ErrorCode; 14] = [
    ErrorCode::CoordinatorLoadInProgress,
    ErrorCode::CoordinatorNotAvailable,
    ErrorCode::NotCoordinator,
    ErrorCode::UnknownMemberId,
    ErrorCode::IllegalGeneration,
    ErrorCode::RebalanceInProgress,
    ErrorCode::MemberIdRequired,
    ErrorCode::UnknownTopicOrPartition,
    ErrorCode::UnstableOffsetCommit,
    ErrorCode::RequestTimedOut,
    ErrorCode::OffsetMetadataTooLarge,
    ErrorCode::UnknownLeaderEpoch,
    ErrorCode::FencedLeaderEpoch,
    ErrorCode::NotLeaderOrFollower,
];

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        6 => any::<u16>().prop_map(|ms| Move::Sleep(ms % 8_000)),
        2 => any::<bool>().prop_map(Move::Subscribe),
        1 => Just(Move::Unsubscribe),
        2 => Just(Move::Poll),
        3 => any::<u8>().prop_map(Move::Consume),
        3 => any::<bool>().prop_map(Move::Commit),
        1 => (0_i64..100).prop_map(Move::Seek),
        1 => (1_u8..6, 0_u8..4).prop_map(|(partitions, epoch)| Move::Metadata(partitions, epoch)),
        12 => any::<u8>().prop_map(|which| Move::Answer(which, None)),
        4 => (any::<u8>(), any::<u8>()).prop_map(|(which, code)| Move::Answer(which, Some(code))),
        2 => any::<u8>().prop_map(Move::AnswerTwice),
        2 => any::<u8>().prop_map(Move::Fail),
        1 => any::<u8>().prop_map(Move::WrongAnswer),
        2 => any::<u8>().prop_map(Move::Drained),
        1 => Just(Move::Enforce),
    ]
}

/// A coordinator and a leader of partitions that answer anything, and give a generation to every join.
struct Peer {
    generation: i32,
    code: Option<ErrorCode>,
}

impl Peer {
    fn answer(&mut self, ctx: &Context, sent: &Outgoing) -> Response {
        let code = self.code.take();
        let error = code.unwrap_or(ErrorCode::None);
        match &sent.request {
            Request::FindCoordinator { .. } => Response::FindCoordinator(match code {
                Some(code) if code.is_retriable() => Err(code),
                _ => Ok(Coordinator { node: 1, host: "b".into(), port: 1 }),
            }),
            Request::Join(join) => match error {
                ErrorCode::None => {
                    self.generation += 1;
                    let response = JoinResponse {
                        protocol_name: Some(join.protocols[0].0.clone()),
                        leader: if self.generation % 3 == 0 { "m" } else { "x" }.into(),
                        skip_assignment: self.generation % 6 == 0,
                        members: vec![JoinedMember {
                            member_id: "m".into(),
                            instance_id: None,
                            metadata: join.protocols[0].1.clone(),
                        }],
                        ..ctx.joined(self.generation)
                    };
                    Response::Join(response)
                }
                code if is_for_groups(code) => Context::join_refusal(code, "m"),
                _ => Context::join_refusal(ErrorCode::RebalanceInProgress, "m"),
            },
            Request::Sync(_) => Response::Sync(match error {
                ErrorCode::None => {
                    let share = 0..self.generation % 4;
                    Ok(Assignment { partitions: share.map(tp).collect(), user_data: None }.encode())
                }
                code if is_for_groups(code) && code != ErrorCode::MemberIdRequired => Err(code),
                _ => Err(ErrorCode::RebalanceInProgress),
            }),
            Request::Heartbeat(_) => Response::Heartbeat(
                if is_for_groups(error) && error != ErrorCode::MemberIdRequired {
                    error
                } else {
                    ErrorCode::None
                },
            ),
            Request::Leave(_) => Response::Leave(error),
            Request::CommitOffsets(commit) => {
                let legal = !matches!(
                    error,
                    ErrorCode::MemberIdRequired
                        | ErrorCode::UnstableOffsetCommit
                        | ErrorCode::UnknownLeaderEpoch
                        | ErrorCode::FencedLeaderEpoch
                );
                let error = if legal { error } else { ErrorCode::None };
                let rows = commit.offsets.keys().map(|partition| (partition.clone(), error));
                Response::CommitOffsets(rows.collect())
            }
            Request::FetchOffsets(fetch) => {
                let legal = is_for_groups(error) && error != ErrorCode::MemberIdRequired;
                let error = if legal { error } else { ErrorCode::None };
                let row = FetchedOffset {
                    error,
                    offset: i64::from(self.generation) - 3,
                    leader_epoch: 0,
                };
                let rows =
                    fetch.partitions.iter().map(|partition| (partition.clone(), row.clone()));
                Response::FetchOffsets(Ok(rows.collect()))
            }
            Request::ListOffsets(list) => {
                let row = ListedOffset { error, offset: 1, leader_epoch: 0 };
                let rows =
                    list.partitions.iter().map(|(partition, ..)| (partition.clone(), row.clone()));
                Response::ListOffsets(rows.collect())
            }
            Request::EndOfEpochs(queries) => {
                let row = EpochEnd { error, leader_epoch: 0, end_offset: 4 };
                let rows = queries.iter().map(|query| (query.partition.clone(), row.clone()));
                Response::EndOfEpochs(rows.collect())
            }
            Request::DescribeGroup { .. } => Response::DescribeGroup(match error {
                ErrorCode::None => {
                    let share = (0..self.generation % 4).map(tp).collect();
                    let share = Assignment { partitions: share, user_data: None }.encode();
                    Ok(GroupDescription {
                        is_stable: self.generation % 2 == 0,
                        assignments: vec![share],
                    })
                }
                error => Err(error),
            }),
        }
    }
}

fn is_for_groups(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::None
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
            | ErrorCode::UnknownMemberId
            | ErrorCode::IllegalGeneration
            | ErrorCode::RebalanceInProgress
            | ErrorCode::MemberIdRequired
    )
}

fn play(ctx: &mut Context, peer: &mut Peer, what: &Move, drains: &mut Vec<DrainId>) {
    let pick = |ctx: &Context, which: u8| {
        let count = ctx.requests.len();
        (count > 0).then(|| usize::from(which) % count)
    };
    match what {
        Move::Sleep(ms) => ctx.sleep(u64::from(*ms)),
        Move::Subscribe(both) => ctx.subscribe_to(if *both { &["t", "u"] } else { &["t"] }),
        Move::Unsubscribe => ctx.step(Input::Unsubscribe),
        Move::Poll => ctx.step(Input::Poll),
        Move::Consume(more) => {
            let fetchable: Vec<Fetchable> = ctx.member.fetchable().collect();
            for found in fetchable {
                let next_offset = found.position.offset + i64::from(*more);
                let Fetchable { partition, epoch, .. } = found;
                let consumed = Consumed { partition, epoch, next_offset, leader_epoch: 0 };
                ctx.step(Input::Consumed(vec![consumed]));
            }
        }
        Move::Commit(sync) => {
            let offset = ctx.position(0).unwrap_or(3);
            let mode = if *sync {
                CommitMode::Sync { timeout: Duration::from_secs(20) }
            } else {
                CommitMode::Async
            };
            ctx.commit(&[(0, offset), (1, 1)], mode);
        }
        Move::Seek(offset) => {
            let target = OffsetTarget::At(Position { offset: *offset, leader_epoch: -1 });
            ctx.step(Input::Seek { partition: tp(0), target });
        }
        Move::Metadata(partitions, epoch) => {
            ctx.step(Input::Metadata(metadata(usize::from(*partitions), i32::from(*epoch))));
        }
        Move::Answer(which, code) => {
            let Some(index) = pick(ctx, *which) else { return };
            peer.code = code.map(|code| CODES[usize::from(code) % CODES.len()]);
            let sent = ctx.requests.remove(index);
            let response = peer.answer(ctx, &sent);
            ctx.step(Input::Response(sent.id, response));
        }
        Move::AnswerTwice(which) => {
            let Some(index) = pick(ctx, *which) else { return };
            let sent = ctx.requests.remove(index);
            let response = peer.answer(ctx, &sent);
            ctx.step(Input::Response(sent.id, response.clone()));
            ctx.step(Input::Response(sent.id, response));
        }
        Move::Fail(which) => {
            let Some(index) = pick(ctx, *which) else { return };
            let sent = ctx.requests.remove(index);
            ctx.step(Input::Failed(sent.id, Failure::Disconnected));
        }
        Move::WrongAnswer(which) => {
            let Some(index) = pick(ctx, *which) else { return };
            let sent = ctx.requests.remove(index);
            let wrong = match sent.request.kind() {
                RequestKind::Leave => Response::Heartbeat(ErrorCode::None),
                _ => Response::Leave(ErrorCode::None),
            };
            ctx.step(Input::Response(sent.id, wrong));
        }
        Move::Drained(which) => {
            let Some(index) = drains.len().checked_sub(1 + usize::from(*which % 2)) else { return };
            let drain = drains.remove(index);
            ctx.step(Input::Drained(drain));
        }
        Move::Enforce => ctx.step(Input::EnforceRebalance { reason: "test".into() }),
    }
    hand_over(ctx, drains);
}

/// What the application has to do for the member.
fn hand_over(ctx: &mut Context, drains: &mut Vec<DrainId>) {
    for event in std::mem::take(&mut ctx.events) {
        match event {
            Event::Revoking { drain, .. } => drains.push(drain),
            Event::Assign(task) => {
                let share = Assignment { partitions: [tp(0)].into(), user_data: None };
                let assignments = [("m".into(), share)].into();
                let topics = metadata(4, 0).into_iter().map(|(name, topic)| (name, topic.shape()));
                let (generation, topics) = (task.generation, topics.collect());
                ctx.step(Input::Assigned { generation, assignments, topics });
            }
            _ => {}
        }
    }
}

/// The world behaves for so long.
fn behave(ctx: &mut Context, peer: &mut Peer, drains: &mut Vec<DrainId>, ms: u64) {
    let end = ctx.now_ms + ms;
    while ctx.now_ms < end {
        for _ in 0..200 {
            for drain in std::mem::take(drains) {
                ctx.step(Input::Drained(drain));
            }
            if ctx.requests.is_empty() {
                break;
            }
            let sent = ctx.requests.remove(0);
            let response = peer.answer(ctx, &sent);
            ctx.step(Input::Response(sent.id, response));
            hand_over(ctx, drains);
        }
        assert!(ctx.requests.is_empty(), "a circle without time: {:?}", ctx.member);
        ctx.sleep(500);
        ctx.step(Input::Poll);
        hand_over(ctx, drains);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_inputs_keeps_the_invariants_and_ends_well(
        is_cooperative in any::<bool>(),
        is_static in any::<bool>(),
        commits in any::<bool>(),
        moves in prop::collection::vec(moves(), 1..120),
    ) {
        let base = if is_cooperative { cooperative() } else { config() };
        let mut ctx = Context::with(MemberConfig {
            group_instance_id: is_static.then(|| "i".into()),
            auto_commit_interval: commits.then(|| Duration::from_secs(2)),
            max_poll_interval: Duration::from_secs(20),
            ..base
        });
        ctx.drains = false;
        let mut peer = Peer { generation: 0, code: None };
        let mut drains = Vec::new();
        ctx.subscribe();
        for what in &moves {
            play(&mut ctx, &mut peer, what, &mut drains);
            prop_assert!(ctx.member.failure().is_none(), "{:?}", ctx.member.failure());
        }
        ctx.step(Input::Metadata(metadata(4, 0)));
        behave(&mut ctx, &mut peer, &mut drains, 90_000);
        ctx.subscribe();
        behave(&mut ctx, &mut peer, &mut drains, 60_000);
        prop_assert_eq!(ctx.member.state(), State::Stable);
        prop_assert_eq!(ctx.open_commits(), 0, "every commit is over");
        for partition in ctx.member.owned() {
            prop_assert!(ctx.member.position(&partition).is_some(), "{}", partition);
        }
        ctx.close();
        behave(&mut ctx, &mut peer, &mut drains, 31_000);
        prop_assert!(ctx.member.is_closed());
    }
}
