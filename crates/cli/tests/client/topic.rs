//! `kavka topic`.

use crate::cluster::{Cluster, only};

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_altered_described_and_deleted() {
    let cluster = Cluster::start().await;
    let ran = cluster.run(&["topic", "create", "new", "-p", "2", "-c", "retention.ms=1000"]);
    assert_eq!(
        ran.data(),
        "TOPIC  PARTITIONS  REPLICATION-FACTOR  CREATED\nnew             2                   1  true\n"
    );
    assert_eq!(
        cluster.run(&["topic", "list"]).data(),
        "TOPIC   PARTITIONS\nnew              2\norders           3\n"
    );
    assert_eq!(
        cluster
            .run(&[
                "topic",
                "alter",
                "new",
                "-p",
                "3",
                "--set",
                "retention.ms=5",
                "--unset",
                "segment.ms"
            ])
            .data(),
        "TOPIC  SETTING       BEFORE     AFTER\nnew    retention.ms  1000       5\n\
         new    segment.ms    604800000  604800000\nnew    partitions    2          3\n"
    );
    cluster.produce("new", 1, &["a", "b"]).await;
    let topic = only(&cluster.run(&["topic", "describe", "new", "-o", "json"]).json());
    assert_eq!(topic["configs"], serde_json::json!({"retention.ms": "5"}));
    let ends: Vec<i64> =
        (0..3).map(|at| topic["partitions"][at]["log_end_offset"].as_i64().unwrap()).collect();
    assert_eq!(ends, [0, 2, 0]);
    let table = cluster.run(&["topic", "describe", "new"]).data().to_owned();
    assert!(table.starts_with("Topic new: 3 partitions, id "), "{table}");
    assert!(table.contains("retention.ms=5\nPARTITION  LEADER  REPLICAS"), "{table}");
    assert_eq!(
        cluster.run(&["topic", "describe", "new", "-o", "csv"]).data().lines().nth(2).unwrap(),
        "new,1,1,0,1,1,,0,2,2,"
    );
    assert_eq!(cluster.run(&["topic", "delete", "new"]).data(), "TOPIC  DELETED\nnew    true\n");
    cluster.run(&["topic", "describe", "new"]).failed(1, "topic new does not exist");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_told_by_name_and_the_rest_is_done() {
    let cluster = Cluster::start().await;
    cluster.run(&["topic", "create", "orders"]).failed(1, "topic orders exists already");
    let ran = cluster.run(&["topic", "create", "orders", "--if-not-exists", "-o", "json"]);
    assert_eq!(only(&ran.json())["created"], false);
    cluster.run(&["topic", "delete", "gone"]).failed(1, "topic gone does not exist");
    let ran = cluster.run(&["topic", "delete", "gone", "orders"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "TOPIC   DELETED\norders  true\n"));
    assert!(ran.stderr.contains("topic gone does not exist"), "{ran:?}");
    let ran = cluster.run(&["topic", "delete", "gone", "--if-exists", "-o", "json"]);
    assert_eq!(only(&ran.json())["deleted"], false);
    cluster.run(&["topic", "alter", "gone", "-p", "9"]).failed(1, "topic gone does not exist");
    cluster.run(&["topic", "create", "a", "-c", "no.such=1"]).failed(1, "no.such");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_changes_nothing() {
    let cluster = Cluster::start().await;
    cluster
        .run(&["topic", "create", "new", "--dry-run"])
        .data_saying("Nothing was created: this was a dry run.");
    cluster
        .run(&["topic", "alter", "orders", "-p", "9", "--set", "retention.ms=5", "--dry-run"])
        .data_saying("Nothing was changed: this was a dry run.");
    let more = ["topic", "alter", "orders", "-p", "9", "--unset", "segment.ms", "--dry-run"];
    let changes = cluster.run(&[&more[..], &["-o", "json"]].concat()).json();
    assert_eq!(changes[0]["setting"], "segment.ms");
    assert_eq!(changes[0]["after"], serde_json::Value::Null);
    assert_eq!((changes[1]["before"].as_i64(), changes[1]["after"].as_i64()), (Some(3), Some(9)));
    assert_eq!(cluster.run(&["topic", "list"]).data(), "TOPIC   PARTITIONS\norders           3\n");
    let topic = only(&cluster.run(&["topic", "describe", "orders", "-o", "json"]).json());
    assert_eq!(topic["configs"], serde_json::json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clusters_own_topics_are_listed_when_asked_for() {
    let cluster = Cluster::start().await;
    cluster.commit("billing", "orders", &[(0, 0)]).await;
    let names = |ran: crate::cluster::Ran| -> Vec<String> {
        let data = ran.json();
        data.as_array()
            .unwrap()
            .iter()
            .map(|row| row["topic"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(cluster.run(&["topic", "list", "-o", "json"])), ["orders"]);
    let all = names(cluster.run(&["topic", "list", "--internal", "-o", "json"]));
    assert!(all.contains(&"__consumer_offsets".to_owned()), "{all:?}");
}
