//! `kavka compat kafka-consumer-groups` prints what Apache Kafka 4.3's tool printed for the same groups.

use crate::cluster::{Cluster, Member};

/// Partition 0 has 5 records, 1 has 2; group `idle` is at 3 of partition 0.
async fn cluster() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.produce("orders", 0, &["a", "b", "c", "d", "e"]).await;
    cluster.produce("orders", 1, &["a", "b"]).await;
    cluster.commit("idle", "orders", &[(0, 3)]).await;
    cluster
}

impl Cluster {
    fn tool(&self, flags: &str) -> crate::cluster::Ran {
        let address = self.broker.bootstrap_servers();
        let mut args = vec!["compat", "kafka-consumer-groups", "--bootstrap-server", &address];
        args.extend(flags.split_whitespace());
        self.run(&args)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_listed_and_described_in_its_columns() {
    let cluster = cluster().await;
    let member = Member::join(&cluster, "busy", Some("one"), "orders", &[0, 1]).await;
    let id = member.member_id.to_string();
    assert_eq!(cluster.tool("--list").data(), "busy\nidle\n");
    assert_eq!(
        cluster.tool("--list --state --type Classic").data(),
        "GROUP                     TYPE                 STATE               \n\
         busy                      Classic              Stable              \n\
         idle                      Classic              Empty               \n"
    );
    let pad = " ".repeat(id.len() - "CONSUMER-ID".len());
    assert_eq!(
        cluster.tool("--describe --group busy").data(),
        format!(
            "\nGROUP           TOPIC           PARTITION  CURRENT-OFFSET  LOG-END-OFFSET  LAG             CONSUMER-ID{pad} HOST            CLIENT-ID\n\
             busy            orders          0          -               5               -               {id} /127.0.0.1      worker\n\
             busy            orders          1          -               2               -               {id} /127.0.0.1      worker\n"
        )
    );
    assert_eq!(
        cluster
            .tool("--describe --group idle")
            .data_saying("\nConsumer group 'idle' has no active members.\n"),
        "\nGROUP           TOPIC           PARTITION  CURRENT-OFFSET  LOG-END-OFFSET  LAG             CONSUMER-ID     HOST            CLIENT-ID\n\
         idle            orders          0          3               5               2               -               -               -\n"
    );
    assert_eq!(
        cluster.tool("--describe --group busy --members").data(),
        format!(
            "\nGROUP           CONSUMER-ID{pad} GROUP-INSTANCE-ID HOST            CLIENT-ID       #PARTITIONS     \n\
             busy            {id} one               /127.0.0.1      worker          2               \n"
        )
    );
    assert_eq!(
        cluster.tool("--describe --group busy --members --verbose").data().lines().nth(2).unwrap(),
        format!(
            "busy            {id} one               /127.0.0.1      worker          2               -               orders:0,1           -               -                   "
        )
    );
    let address = cluster.broker.bootstrap_servers();
    let coordinator = format!("{:25}", format!("{address}  (1)"));
    assert_eq!(
        cluster.tool("--describe --group busy --state").data(),
        format!(
            "\nGROUP           COORDINATOR (ID)          ASSIGNMENT-STRATEGY  STATE                #MEMBERS\n\
             busy            {coordinator} range                Stable               1\n"
        )
    );
    assert_eq!(
        cluster.tool("--describe --group nobody").data(),
        "\nError: Executing consumer group command failed due to \
         org.apache.kafka.common.errors.GroupIdNotFoundException: Group nobody not found.\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_reset_exported_and_deleted_in_its_words() {
    let cluster = cluster().await;
    let _member = Member::join(&cluster, "busy", None, "orders", &[0, 1]).await;
    assert_eq!(
        cluster
            .tool("--reset-offsets --group idle --topic orders --to-offset 4 --dry-run")
            .data_saying(
                "WARN New offset (4) is higher than latest offset for topic partition orders-1. \
             Value will be set to 2 (org.apache.kafka.tools.OffsetsUtils)"
            ),
        "\nGROUP           TOPIC           PARTITION  NEW-OFFSET\n\
         idle            orders          0          4\nidle            orders          1          2\n\
         idle            orders          2          0\n"
    );
    assert_eq!(
        cluster.tool("--reset-offsets --group idle --group other --topic orders:0 --to-latest --export --dry-run").data(),
        "idle,orders,0,5\nother,orders,0,5\n\n"
    );
    let implied = cluster.tool("--reset-offsets --group idle --all-topics --to-latest");
    assert!(implied.stderr.starts_with("WARN: No action will be performed"), "{implied:?}");
    assert_eq!(cluster.broker.committed("idle").await.unwrap()[&("orders".to_owned(), 0)], 3);
    cluster.tool("--reset-offsets --group idle --all-topics --shift-by -1 --execute").data();
    assert_eq!(cluster.broker.committed("idle").await.unwrap()[&("orders".to_owned(), 0)], 2);
    assert_eq!(
        cluster.tool("--reset-offsets --group busy --topic orders --to-latest --execute").data(),
        "\nError: Assignments can only be reset if the group 'busy' is inactive, but the current state is Stable.\n\
         \nGROUP           TOPIC           PARTITION  NEW-OFFSET\n"
    );
    assert_eq!(
        cluster.tool("--reset-offsets --group idle --topic orders:2 --to-datetime 2090-01-01T00:00:00.000 --dry-run").data(),
        "\nWarn: Partition 2 from topic orders is empty. Falling back to latest known offset.\n\
         \nGROUP           TOPIC           PARTITION  NEW-OFFSET\nidle            orders          2          0\n"
    );
    assert_eq!(
        cluster.tool("--delete-offsets --group idle --topic orders:0 --topic nope").data(),
        "Request succeeded for deleting offsets from group idle.\n\n\
         TOPIC           PARTITION  STATUS         \n\
         nope            -          Error: org.apache.kafka.common.errors.UnknownTopicOrPartitionException: This server does not host this topic-partition.\n\
         orders          0          Successful     \n"
    );
    assert_eq!(
        cluster.tool("--delete --group busy").data(),
        "\nError: Deletion of some consumer groups failed:\n\
         * Group 'busy' could not be deleted due to: org.apache.kafka.common.errors.GroupNotEmptyException: The group is not empty.\n"
    );
    cluster.commit("old", "orders", &[(0, 0)]).await;
    assert_eq!(
        cluster.tool("--delete --group old").data(),
        "Deletion of requested consumer groups ('old') was successful.\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_is_1_with_its_usage() {
    let cluster = cluster().await;
    for (flags, said) in [
        (
            "",
            "Command must include exactly one action: --list, --describe, --delete, --reset-offsets, --delete-offsets, --validate-regex\nOption ",
        ),
        (
            "--reset-offsets --group idle --to-latest --dry-run",
            "One of the reset scopes should be defined: --all-topics, --topic.\nOption ",
        ),
        (
            "--reset-offsets --group idle --all-topics --dry-run",
            "Option '[reset-offsets]' requires one of the following scenarios: ",
        ),
        (
            "--reset-offsets --group idle --topic orders --shift-by 1 --dry-run",
            "Cannot shift offset for partition orders-1 since there is no current committed offset\nOption ",
        ),
        ("--list --state Asleep", "Invalid state list 'Asleep'. Valid states are: "),
    ] {
        let ran = cluster.tool(flags);
        ran.failed(1, said);
        assert!(ran.stderr.ends_with(
            "--version                               Display Kafka version.                 \n"
        ));
    }
    let plain = |flag: &[&str]| cluster.run(&[&["compat", "kafka-consumer-groups"], flag].concat());
    plain(&[]).failed(1, "This tool helps to list all consumer groups");
    plain(&["--help"]).failed(1, "This tool helps to list all consumer groups");
    assert_eq!(
        plain(&["--validate-regex", "a.*"]).data(),
        "The regular expression `a.*` is valid.\n"
    );
    assert!(
        plain(&["--validate-regex", "a[*"])
            .data()
            .starts_with("The regular expression `a[*` is invalid: ")
    );
}
