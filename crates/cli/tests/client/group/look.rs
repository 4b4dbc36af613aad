//! `kavka group list` and `kavka group describe`.

use crate::cluster::{Cluster, Member, only};

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_shown_with_members_offsets_and_lag_in_one_call() {
    let cluster = Cluster::start().await;
    cluster.produce("orders", 0, &["a", "b", "c"]).await;
    cluster.commit("billing", "orders", &[(0, 1), (2, 0)]).await;
    let member = Member::join(&cluster, "billing", Some("one"), "orders", &[0, 1]).await;

    assert_eq!(
        cluster.run(&["group", "list"]).data(),
        "GROUP    TYPE     STATE   COORDINATOR\nbilling  classic  Stable            1\n"
    );
    let id = member.member_id.to_string();
    let padding = " ".repeat(id.len() - "MEMBER-ID".len());
    let address = cluster.broker.bootstrap_servers();
    assert_eq!(
        cluster.run(&["group", "describe", "billing"]).data(),
        format!(
            "Group billing: classic Stable, assignor range, coordinator {address} (id 1), 1 member, lag 2\n\
             MEMBER-ID{padding}  CLIENT-ID  HOST       PARTITIONS\n\
             {id}  worker     127.0.0.1           2\n\
             \n\
             TOPIC   PARTITION  COMMITTED-OFFSET  LOG-END-OFFSET  LAG  MEMBER-ID\n\
             orders          0                 1               3    2  {id}\n\
             orders          1                 -               0    -  {id}\n\
             orders          2                 0               0    0  -\n"
        )
    );

    let group = only(&cluster.run(&["group", "describe", "billing", "-o", "json"]).json());
    assert_eq!(group["state"], "Stable");
    assert_eq!(group["lag"], 2);
    assert_eq!(group["members"][0]["group_instance_id"], "one");
    assert_eq!(group["members"][0]["subscription"], serde_json::json!(["orders"]));
    assert_eq!(group["members"][0]["assignment"], serde_json::json!(["orders:0", "orders:1"]));
    assert_eq!(group["offsets"][1]["committed_offset"], serde_json::Value::Null);
    assert_eq!(group["offsets"][0]["member_id"], id.as_str());
    let csv = cluster.run(&["group", "describe", "billing", "-o", "csv"]);
    assert_eq!(
        csv.data().lines().nth(1).unwrap(),
        format!("billing,Stable,orders,0,1,,3,2,,{id},worker,127.0.0.1")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_rebalances_is_shown_with_its_offsets() {
    let cluster = Cluster::start().await;
    cluster.produce("orders", 0, &["a", "b", "c"]).await;
    cluster.commit("billing", "orders", &[(0, 1)]).await;
    let first = Member::join(&cluster, "billing", None, "orders", &[0, 1, 2]).await;
    let _second = cluster.unsettle("billing").await;
    let ran = cluster.run(&["group", "describe", "billing", "-o", "json"]);
    assert!(ran.stderr.contains("Group billing is rebalancing"), "{ran:?}");
    let group = only(&ran.json());
    assert_eq!(group["state"], "PreparingRebalance");
    assert_eq!(group["members"].as_array().unwrap().len(), 2);
    assert_eq!(group["offsets"][0]["lag"], 2);
    drop(first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_not_there_fails_and_the_others_are_shown() {
    let cluster = Cluster::start().await;
    cluster.run(&["group", "describe", "nobody"]).failed(1, "group nobody does not exist\n");
    cluster.commit("billing", "orders", &[(0, 0)]).await;
    let ran = cluster.run(&["group", "describe", "nobody", "billing"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.starts_with("Group billing: classic Empty"), "{ran:?}");
    assert!(ran.stderr.contains("group nobody does not exist"), "{ran:?}");
    let all = only(&cluster.run(&["group", "describe", "--all", "-o", "json"]).json());
    assert_eq!(all["group"], "billing");
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_listed_by_state_and_type() {
    let cluster = Cluster::start().await;
    cluster.run(&["group", "list"]).data_saying("There are no such groups.");
    cluster.commit("empty", "orders", &[(0, 0)]).await;
    let _member = Member::join(&cluster, "full", None, "orders", &[0]).await;
    let group = |args: &[&str]| only(&cluster.run(args).json())["group"].clone();
    assert_eq!(group(&["group", "list", "--state", "stable", "-o", "json"]), "full");
    assert_eq!(group(&["group", "list", "--state", "Dead,Empty", "-o", "json"]), "empty");
    let ran = cluster.run(&["group", "list", "--type", "consumer", "-o", "json"]);
    assert_eq!(ran.json(), serde_json::json!([]));
    cluster.run(&["group", "list", "--state", "Asleep"]).failed(2, "PreparingRebalance");
}
