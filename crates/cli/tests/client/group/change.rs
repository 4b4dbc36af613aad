//! `kavka group delete`, `delete-offsets` and `remove-members`.

use serde_json::json;

use crate::cluster::{Cluster, Member, only};

#[tokio::test(flavor = "multi_thread")]
async fn groups_without_members_are_deleted() {
    let cluster = Cluster::start().await;
    cluster.commit("old", "orders", &[(0, 0)]).await;
    let _member = Member::join(&cluster, "billing", None, "orders", &[0]).await;
    let ran = cluster.run(&["group", "delete", "old", "billing", "nobody"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "GROUP  DELETED\nold    true\n"));
    assert!(ran.stderr.contains("group billing has members"), "{ran:?}");
    assert!(ran.stderr.contains("group nobody does not exist"), "{ran:?}");
    let ran = cluster.run(&["group", "delete", "nobody", "--if-exists", "-o", "json"]);
    assert_eq!(only(&ran.json())["deleted"], false);
    let left = cluster.run(&["group", "list", "-o", "json"]).json();
    assert_eq!(only(&left)["group"], "billing");
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_topics_that_nobody_reads_are_forgotten() {
    let cluster = Cluster::start().await;
    cluster.commit("billing", "orders", &[(0, 0), (1, 0), (2, 0)]).await;
    let ran =
        cluster.run(&["group", "delete-offsets", "billing", "--topic", "orders:0,2", "-o", "json"]);
    assert_eq!(ran.json()[1]["partition"], json!(2));
    assert_eq!(cluster.broker.committed("billing").await.unwrap().len(), 1);
    let _member = Member::join(&cluster, "billing", None, "orders", &[0]).await;
    cluster
        .run(&["group", "delete-offsets", "billing", "--topic", "orders:1"])
        .failed(1, "group billing reads that topic");
    cluster
        .run(&["group", "delete-offsets", "nobody", "--topic", "orders"])
        .failed(1, "group nobody does not exist");
    cluster
        .run(&["group", "delete-offsets", "billing", "--topic", "nope"])
        .failed(1, "topic nope does not exist");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_removed_by_instance_or_all() {
    let cluster = Cluster::start().await;
    let _member = Member::join(&cluster, "billing", Some("one"), "orders", &[0]).await;
    let remove =
        |more: &[&str]| cluster.run(&[&["group", "remove-members", "billing"], more].concat());
    remove(&["--instance", "two"]).failed(1, "member two is not in group billing");
    let ran = remove(&["--instance", "one", "--reason", "test", "-o", "json"]);
    assert_eq!(only(&ran.json())["group_instance_id"], "one");
    remove(&["--all"]).data_saying("Group billing has no members.");
    let member = Member::join(&cluster, "billing", None, "orders", &[0]).await;
    let ran = remove(&["--all", "-o", "json"]);
    assert_eq!(only(&ran.json())["member_id"], member.member_id.to_string());
    remove(&[]).failed(2, "--all");
    cluster.run(&["group", "remove-members", "nobody", "--all"]).failed(1, "does not exist");
}
