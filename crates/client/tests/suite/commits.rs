//! Commits: what they cover, what stands beside them, when they are made by themselves.

use std::time::Duration;

use kavka_client::{
    ErrorKind,
    admin::{CommittedOffset, OffsetsOfGroup},
    consumer::Offsets,
};

use crate::context::*;

#[tokio::test]
async fn a_commit_covers_what_was_handed_out_and_the_next_member_begins_there() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 10)).await;
    let mut consumer = context.subscribed().await;
    assert_eq!(context.committed_offset(0).await, None);
    take(&mut consumer, 4).await;
    let committed = within(consumer.commit()).await.unwrap();
    assert_eq!(committed, [(context.tp(0), 4)].into());
    take(&mut consumer, 2).await;
    close(consumer).await;
    assert_eq!(context.committed_offset(0).await, Some(4), "auto commit is off");
    let mut consumer = context.subscribed().await;
    assert_eq!(take(&mut consumer, 6).await, numbered(0, 4, 10));
    close(consumer).await;
}

#[tokio::test]
async fn offsets_of_ones_own_are_committed_with_their_notes() {
    let context = Context::new(2).await;
    let mut consumer = context.subscribed().await;
    let handle = consumer.handle();
    let mut seen = Vec::new();
    reading_while(&mut consumer, &mut seen, owns(handle, 2)).await;
    let note = "up to the third";
    let offsets =
        Offsets::new().with(context.tp(0), 3).with_details(context.tp(1), 7, 0, Some(note));
    within(consumer.commit_offsets(offsets)).await.unwrap();
    assert_eq!(context.committed(0).await, Some((3, String::new())));
    assert_eq!(context.committed(1).await, Some((7, note.to_owned())));
    close(consumer).await;
}

#[tokio::test]
async fn commits_are_made_by_themselves_in_time_and_at_close() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 10)).await;
    let auto = context.consumer().enable_auto_commit(true);
    let builder = auto.clone().auto_commit_interval(Duration::from_millis(50));
    let mut consumer = builder.build().unwrap();
    consumer.subscribe([&context.topic]).await.unwrap();
    take(&mut consumer, 6).await;
    within(async {
        while context.committed_offset(0).await != Some(5) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    drop(consumer);
    let mut consumer = auto.auto_commit_interval(Duration::from_secs(300)).build().unwrap();
    consumer.subscribe([&context.topic]).await.unwrap();
    assert_eq!(take(&mut consumer, 3).await, numbered(0, 5, 8), "the sixth was in hand");
    close(consumer).await;
    assert_eq!(context.committed_offset(0).await, Some(7));
}

#[tokio::test]
async fn commits_that_are_not_waited_for_arrive_in_order() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 100)).await;
    let mut consumer = context.subscribed().await;
    for _ in 0..99 {
        next(&mut consumer).await;
        drop(consumer.commit_async());
    }
    next(&mut consumer).await;
    within(consumer.commit()).await.unwrap();
    assert_eq!(context.committed_offset(0).await, Some(100));
    close(consumer).await;
}

#[tokio::test]
async fn what_is_not_owned_cannot_be_committed_by_a_member() {
    let context = Context::new(2).await;
    let mut first = context.subscribed().await;
    let mut seen = Vec::new();
    let handle = first.handle();
    reading_while(&mut first, &mut seen, owns(handle, 2)).await;
    let offsets = Offsets::new().with(context.tp(9), 1);
    let error = within(first.commit_offsets(offsets)).await.unwrap_err();
    assert_eq!(error.error().kind(), ErrorKind::OwnershipLost, "{error}");
    close(first).await;
}

/// There is no generation that such a commit could wait for.
#[tokio::test]
async fn who_assigns_itself_beside_members_of_its_group_is_refused_the_commit_at_once() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 3)).await;
    let mut member = context.subscribed().await;
    take(&mut member, 3).await;
    let mut other = context.consumer().build().unwrap();
    other.assign([context.tp(0)]).await.unwrap();
    assert_eq!(take(&mut other, 3).await, numbered(0, 0, 3));
    let commit = tokio::time::timeout(std::time::Duration::from_secs(20), other.commit()).await;
    let error = commit.expect("at once").unwrap_err();
    let error = &error.failed()[&context.tp(0)];
    assert!(error.advice().contains("another group.id"), "{error}. {}", error.advice());
    within(member.commit()).await.unwrap();
    assert_eq!(context.committed_offset(0).await, Some(3));
    close(member).await;
    close(other).await;
}

#[tokio::test]
async fn an_admin_moves_the_offsets_of_a_group_without_members_only() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 10)).await;
    let mut consumer = context.subscribed().await;
    take(&mut consumer, 2).await;
    within(consumer.commit()).await.unwrap();
    let change = async || {
        let rows = [(context.tp(0), CommittedOffset::new(8))];
        let moved = within(context.admin.alter_group_offsets(context.group.as_str(), rows)).await;
        moved[&context.tp(0)].clone()
    };
    change().await.unwrap_err();
    close(consumer).await;
    change().await.unwrap();
    let mut consumer = context.subscribed().await;
    assert_eq!(take(&mut consumer, 2).await, numbered(0, 8, 10));
    close(consumer).await;
    let group = context.group.as_str();
    within(context.admin.delete_groups([group])).await[group].clone().unwrap();
    let all = within(context.admin.list_group_offsets([OffsetsOfGroup::all(group)], false)).await;
    assert!(all[group].clone().unwrap().is_empty());
}

#[tokio::test]
async fn only_a_finished_prefix_is_committed() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 4)).await;
    let mut consumer = context.subscribed().await;
    let mut ackers = Vec::new();
    for _ in 0..4 {
        let delivery = within(consumer.next_unacked()).await.unwrap().unwrap();
        ackers.push(delivery.into_parts().1);
    }
    let handle = consumer.handle();
    assert!(ackers.remove(2).ack());
    assert!(ackers.remove(0).ack());
    within(handle.commit()).await.unwrap();
    assert_eq!(context.committed_offset(0).await, Some(1));
    for acker in ackers {
        assert!(acker.ack());
    }
    within(handle.commit()).await.unwrap();
    assert_eq!(context.committed_offset(0).await, Some(4));
    close(consumer).await;
}
