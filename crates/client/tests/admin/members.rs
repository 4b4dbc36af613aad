//! Groups that are in use.

use std::{collections::BTreeSet, time::Duration};

use kavka_client::{
    Consumer, ErrorCode,
    admin::{CommittedOffset, GroupFilter, GroupState, GroupType, MemberIdentity, OffsetsOfGroup},
};
use kavka_testkit::{GroupCondition, TestBroker};

use crate::{at, start};

/// A member of group "g" that is stable in it; it goes when the task is aborted.
async fn member(
    broker: &TestBroker,
    instance: &str,
    members: usize,
) -> tokio::task::JoinHandle<()> {
    let mut consumer = Consumer::builder()
        .bootstrap_servers(&broker.bootstrap_servers())
        .property("group.id", "g")
        .property("group.instance.id", instance)
        .property("client.id", "tester")
        .property("client.rack", "r1")
        .property("enable.auto.commit", "false")
        .property("heartbeat.interval.ms", "100")
        .build()
        .unwrap();
    consumer.subscribe(["t"]).await.unwrap();
    let task = tokio::spawn(async move { while consumer.next().await.is_some() {} });
    broker
        .wait_for_group(
            "g",
            GroupCondition::stable().with_members(members),
            Duration::from_secs(30),
        )
        .await
        .unwrap();
    task
}

#[tokio::test]
async fn members_are_described_with_what_they_want_and_have() {
    let (broker, admin) = start().await;
    broker.create_topic("t", 3).await.unwrap();
    let _member = member(&broker, "one", 1).await;
    let group = admin.describe_groups(["g"]).await["g"].clone().unwrap();
    assert_eq!((group.state, group.group_type), (GroupState::Stable, GroupType::Classic));
    assert_eq!(
        (&*group.protocol_type, group.assignor.as_deref()),
        ("consumer", Some(&*"range".to_owned()))
    );
    let [member] = &group.members[..] else { panic!("{:?}", group.members) };
    assert_eq!(&*member.client_id, "tester");
    assert_eq!(member.group_instance_id.as_deref().map(AsRef::as_ref), Some("one"));
    assert_eq!(member.rack.as_deref().map(AsRef::as_ref), Some("r1"));
    assert_eq!(member.subscription, Some(BTreeSet::from(["t".into()])));
    assert_eq!(member.assignment, Some((0..3).map(|partition| at("t", partition)).collect()));

    let stable = GroupFilter { states: [GroupState::Stable].into(), ..Default::default() };
    assert!(admin.list_groups(&stable).await.unwrap().groups.contains_key("g"));
}

#[tokio::test]
async fn what_members_do_themselves_is_refused_while_they_are_there() {
    let (broker, admin) = start().await;
    broker.create_topic("t", 1).await.unwrap();
    let _member = member(&broker, "one", 1).await;
    let altered = admin.alter_group_offsets("g", [(at("t", 0), CommittedOffset::new(1))]).await;
    let error = altered[&at("t", 0)].clone().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownMemberId), "{error}");
    assert!(error.advice().contains("has members"), "{}", error.advice());
    let error = admin.delete_groups(["g"]).await["g"].clone().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NonEmptyGroup), "{error}");
    let deleted = admin.delete_group_offsets("g", [at("t", 0)]).await;
    let error = deleted[&at("t", 0)].clone().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::GroupSubscribedToTopic), "{error}");
    let offsets = admin.list_group_offsets([OffsetsOfGroup::all("g")], true).await;
    assert!(offsets["g"].clone().unwrap().is_empty());
}

#[tokio::test]
async fn members_are_removed_by_instance_id_and_all_of_them() {
    let (broker, admin) = start().await;
    broker.create_topic("t", 2).await.unwrap();
    for everybody in [false, true] {
        let members = [member(&broker, "one", 1).await, member(&broker, "two", 2).await];
        // Who is gone without a word stays in the group as long as its session.
        for member in members {
            member.abort();
            assert!(member.await.unwrap_err().is_cancelled());
        }
        if everybody {
            let removed = admin.remove_all_group_members("g", Some("test")).await.unwrap();
            assert_eq!(removed.len(), 2);
            assert!(removed.values().all(Result::is_ok), "{removed:?}");
        } else {
            let both = ["one", "two"].map(|name| MemberIdentity::Instance(name.into()));
            let removed = admin.remove_group_members("g", both.clone(), Some("test")).await;
            for member in &both {
                removed[member].clone().unwrap();
            }
            let again = admin.remove_group_members("g", both, None).await;
            assert!(again.values().all(Result::is_err), "{again:?}");
        }
        let group = admin.describe_groups(["g"]).await["g"].clone().unwrap();
        assert_eq!((group.state, group.members.len()), (GroupState::Empty, 0));
    }
}
