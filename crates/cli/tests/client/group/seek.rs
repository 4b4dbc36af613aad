//! `kavka group seek`.

use std::{collections::BTreeMap, fs};

use serde_json::json;

use crate::cluster::{Cluster, Member, only};

/// Partition 0 has 5 records, 1 has 2, 2 has none; the group is at 3 and 2.
async fn cluster() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.produce("orders", 0, &["a", "b", "c", "d", "e"]).await;
    cluster.produce("orders", 1, &["a", "b"]).await;
    cluster.commit("billing", "orders", &[(0, 3), (1, 2)]).await;
    cluster
}

async fn committed(cluster: &Cluster) -> BTreeMap<i32, i64> {
    let offsets = cluster.broker.committed("billing").await.unwrap();
    offsets.into_iter().map(|((_, partition), offset)| (partition, offset)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_change_is_shown_and_done_with_execute_only() {
    let cluster = cluster().await;
    let seek = |more: &[&str]| cluster.run(&[&["group", "seek", "billing"], more].concat());
    let ran = seek(&["--to", "earliest"]);
    assert_eq!(
        ran.data_saying("Nothing was changed: pass --execute to do it."),
        "GROUP    TOPIC   PARTITION  BEFORE  AFTER  SKIPPED  REPLAYED  EXECUTED\n\
         billing  orders          0       3      0        0         3  false\n\
         billing  orders          1       2      0        0         2  false\n"
    );
    assert_eq!(committed(&cluster).await, BTreeMap::from([(0, 3), (1, 2)]));
    let ran = seek(&["--to", "latest", "--topic", "orders:0", "--execute", "-o", "json"]);
    assert_eq!(ran.stderr, "Group billing was moved.\n");
    let row = only(&ran.json());
    assert_eq!(
        (&row["skipped"], &row["replayed"], &row["executed"]),
        (&json!(2), &json!(0), &json!(true))
    );
    assert_eq!(committed(&cluster).await, BTreeMap::from([(0, 5), (1, 2)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_target_is_taken() {
    let cluster = cluster().await;
    for (target, after, warned) in [
        (&["--to-offset", "1"][..], [1, 1], ""),
        (
            &["--to-offset", "4"],
            [4, 2],
            "partition 1 of topic orders has no offset 4: 2 is the nearest",
        ),
        (&["--shift-by", "-1"], [2, 1], ""),
        (&["--shift-by", "1"], [4, 2], "has no offset 3"),
        (&["--to-earliest"], [0, 0], ""),
        (&["--to-latest"], [5, 2], ""),
        (&["--to-current"], [3, 2], ""),
        (&["--to", "-1h"], [0, 0], ""),
        (&["--to", "2100-01-01"], [5, 2], "has no record as young: its end, 5, is taken"),
        (&["--to-datetime", "1970-01-01T00:00:00.000+01:00"], [0, 0], ""),
        (&["--by-duration", "PT1H"], [0, 0], ""),
        (&["--by-duration=-PT1H"], [5, 2], "has no record as young"),
    ] {
        let ran = cluster.run(&[&["group", "seek", "billing", "-o", "json"], target].concat());
        assert!(ran.stderr.contains(warned), "{target:?}: {ran:?}");
        assert_eq!(ran.stderr.contains("warning"), !warned.is_empty(), "{target:?}: {ran:?}");
        let data = ran.json();
        assert_eq!(
            [data[0]["after"].clone(), data[1]["after"].clone()],
            after.map(|at| json!(at)),
            "{target:?}"
        );
    }
    // An empty partition without a commit, by all partitions of the topic.
    let ran = cluster.run(&[
        "group",
        "seek",
        "billing",
        "--to-current",
        "--topic",
        "orders",
        "-o",
        "json",
    ]);
    let data = ran.json();
    assert_eq!(
        (&data[2]["before"], &data[2]["after"], &data[2]["skipped"]),
        (&json!(null), &json!(0), &json!(null))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_exported_is_imported() {
    let cluster = cluster().await;
    let ran = cluster.run(&["group", "seek", "billing", "--to-current", "--export", "-q"]);
    assert_eq!(ran.data(), "orders,0,3\norders,1,2\n");
    let all =
        ["group", "seek", "billing", "--to-current", "--all-topics", "--dry-run", "--export", "-q"];
    assert_eq!(cluster.run(&all).data(), ran.data());
    let file = cluster.home.path().join("offsets.csv");
    let path = file.to_str().unwrap();
    fs::write(&file, &ran.stdout).unwrap();
    cluster.run(&["group", "seek", "billing", "--to-earliest", "--execute"]);
    assert_eq!(committed(&cluster).await, BTreeMap::from([(0, 0), (1, 0)]));
    cluster.run(&["group", "seek", "billing", "--from-file", path, "--execute"]);
    assert_eq!(committed(&cluster).await, BTreeMap::from([(0, 3), (1, 2)]));
    fs::write(&file, "other,orders,0,1\nbilling,orders,1,1\n").unwrap();
    cluster.run(&["group", "seek", "billing", "--from-file", path, "--execute"]);
    assert_eq!(committed(&cluster).await, BTreeMap::from([(0, 3), (1, 1)]));
    fs::write(&file, "orders,0,1\norders;1;1\n").unwrap();
    cluster.run(&["group", "seek", "billing", "--from-file", path]).failed(2, "line 2");
    fs::write(&file, "other,orders,0,1\n").unwrap();
    cluster
        .run(&["group", "seek", "billing", "--from-file", path])
        .failed(2, "no offsets of group billing");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_active_group_is_refused_with_its_members_named() {
    let cluster = cluster().await;
    let member = Member::join(&cluster, "billing", None, "orders", &[0]).await;
    let ran = cluster.run(&["group", "seek", "billing", "--to", "earliest", "--execute"]);
    ran.failed(1, "group billing is active (Stable): ");
    let named = format!("{} (client worker on 127.0.0.1)", member.member_id);
    assert!(ran.stderr.contains(&named), "{ran:?}");
    assert_eq!(committed(&cluster).await, BTreeMap::from([(0, 3), (1, 2)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused() {
    let cluster = cluster().await;
    let seek = |more: &[&str]| cluster.run(&[&["group", "seek"], more].concat());
    seek(&["billing"]).failed(2, "--to");
    seek(&["billing", "--to", "earliest", "--to-latest"]).failed(2, "cannot be used with");
    seek(&["billing", "--to", "yesterday"]).failed(2, "expected earliest, latest, current");
    seek(&["billing", "--to-latest", "--topic", "orders:x"]).failed(2, "\"x\" is not the number");
    seek(&["billing", "--to-latest", "--topic", "nope"]).failed(1, "topic nope does not exist");
    seek(&["billing", "--to-offset", "-1"]).failed(2, "-1 is not in 0..");
    seek(&["billing", "--to-latest", "--topic", "orders", "--all-topics"])
        .failed(2, "cannot be used with");
    seek(&["billing", "--to-latest", "--topic", "orders:7,8"])
        .failed(1, "there are no such partitions: orders:7, orders:8");
    seek(&["billing", "--shift-by", "1", "--topic", "orders"])
        .failed(1, "group billing has no committed offset to shift in orders:2");
    seek(&["fresh", "--to-latest"]).failed(1, "group fresh has no committed offsets");
    // A group can be placed before its first member comes.
    seek(&["fresh", "--to-latest", "--topic", "orders:0", "--execute"]).data_saying("was moved");
    assert_eq!(cluster.broker.committed("fresh").await.unwrap()[&("orders".to_owned(), 0)], 5);
}
