//! `kavka group check`.

use serde_json::{Value, json};

use crate::cluster::{Cluster, Member};

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_says_what_is_not_met_and_ends_with_3() {
    let cluster = Cluster::start().await;
    cluster.produce("orders", 0, &["a", "b", "c"]).await;
    cluster.produce("orders", 1, &["a", "b"]).await;
    cluster.commit("billing", "orders", &[(0, 1)]).await;
    let member = Member::join(&cluster, "billing", None, "orders", &[0, 1]).await;
    let check = |more: &[&str]| cluster.run(&[&["group", "check", "billing"], more].concat());

    // Two records lie behind the commit, and two more that nobody committed.
    let met = check(&[
        "--max-lag",
        "2",
        "--max-total-lag",
        "4",
        "--state",
        "stable,Empty",
        "--min-members",
        "1",
    ]);
    assert_eq!(
        met.data(),
        "GROUP    CONDITION  WANTED           FOUND   MET   DETAIL\n\
         billing  state      Stable or Empty  Stable  true  -\n\
         billing  members    at least 1       1       true  -\n\
         billing  lag        at most 2        2       true  2 in partition 1 of topic orders\n\
         billing  total lag  at most 4        4       true  -\n"
    );
    let unmet = check(&["--max-lag", "1", "--state", "Empty", "-o", "json"]);
    assert_eq!(unmet.code, 3, "{unmet:?}");
    assert_eq!(
        unmet.stderr,
        "error: group billing: state is Stable, wanted Empty; lag is 2 in partition 1 of topic orders, wanted at most 1\n"
    );
    let document: Value = serde_json::from_str(&unmet.stdout).unwrap();
    crate::schema::check(&document);
    assert_eq!(document["data"][1]["met"], json!(false));
    let quiet = check(&["--max-total-lag", "3", "-q"]);
    assert_eq!((quiet.code, quiet.stderr.as_str()), (3, ""));
    assert_eq!(check(&["--min-members", "2"]).code, 3);
    drop(member);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_group_is_not_met_no_cluster_is_a_failure_no_condition_is_wrong_usage() {
    let cluster = Cluster::start().await;
    cluster.run(&["group", "check", "nobody", "--max-lag", "0"]).failed(3, "does not exist");
    cluster
        .run(&["group", "check", "x", "--max-lag", "0", "-b", "127.0.0.1:1", "--timeout", "300ms"])
        .failed(1, "127.0.0.1:1");
    cluster.run(&["group", "check", "nobody"]).failed(2, "--max-lag");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lag_that_nobody_knows_is_not_0() {
    let cluster = Cluster::start().await;
    let _first = Member::join(&cluster, "billing", None, "orders", &[0, 1, 2]).await;
    let _second = cluster.unsettle("billing").await;
    let ran = cluster.run(&["group", "check", "billing", "--max-lag", "0", "--max-total-lag", "9"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains("lag is not known while the group rebalances"), "{ran:?}");
    let document = cluster.run(&["group", "check", "billing", "--max-lag", "0", "-o", "json"]);
    let document: Value = serde_json::from_str(&document.stdout).unwrap();
    crate::schema::check(&document);
    assert_eq!(document["data"][0]["found"], "unknown");
}
