//! Futures are spawned onto runtimes with several threads: they have to be `Send`.

use std::{collections::BTreeMap, time::Duration};

use kavka_client::{
    Admin, ByteString, Consumer, ConsumerHandle, IsolationLevel, Producer, TopicPartition, Uuid,
    admin::{
        Acl, AclFilter, Change, CommittedOffset, ConfigChange, ConfigResource, DeleteBefore,
        DescribeConfigs, GroupFilter, MemberIdentity, NewPartitions, NewTopic, OffsetSpec,
        OffsetsOfGroup, ScramChange,
    },
    consumer::{PartitionStream, Processor, RebalanceEvents, Record, SeekTo},
};

fn check<F: Future + Send>(make: impl FnOnce() -> F) {
    drop(make);
}

/// The futures are not made, only their types.
fn nobody<T>() -> T {
    unreachable!("never called")
}

#[test]
fn the_future_of_every_call_of_a_consumer_can_be_sent_to_another_thread() {
    fn consumer() -> &'static mut Consumer {
        nobody()
    }
    fn handle() -> &'static ConsumerHandle {
        nobody()
    }
    fn stream() -> &'static mut PartitionStream {
        nobody()
    }
    fn place() -> &'static TopicPartition {
        nobody()
    }
    check(|| consumer().next());
    check(|| consumer().next_batch());
    check(|| consumer().next_unacked());
    check(|| consumer().commit());
    check(|| consumer().unsubscribe());
    check(|| nobody::<Consumer>().close());
    check(|| nobody::<Consumer>().close_with(nobody()));
    check(|| nobody::<Processor>().run(async |_: Record| Ok::<(), String>(())));
    check(|| nobody::<&'static mut RebalanceEvents>().next());
    check(|| handle().subscribe(["t"]));
    check(|| handle().subscribe_pattern("t"));
    check(|| handle().assign([place().clone()]));
    check(|| handle().assignment());
    check(|| handle().seek(place(), SeekTo::Beginning));
    check(|| handle().position(place()));
    check(|| handle().lag(place()));
    check(|| handle().metrics());
    check(|| handle().commit());
    check(|| handle().commit_offsets(nobody()));
    check(|| handle().committed([place().clone()]));
    check(|| handle().offsets_for_times(BTreeMap::<TopicPartition, i64>::new()));
    check(|| handle().beginning_offsets([place().clone()]));
    check(|| handle().end_offsets([place().clone()]));
    check(|| handle().partitions_for("t"));
    check(|| stream().next());
    check(|| stream().next_batch());
}

#[test]
fn the_future_of_every_call_of_a_producer_can_be_sent_to_another_thread() {
    fn producer() -> &'static Producer {
        nobody()
    }
    check(|| producer().send(nobody()));
    check(|| async { nobody::<kavka_client::DeliveryFuture>().await });
    check(|| producer().flush());
    check(|| producer().close(Duration::ZERO));
    check(|| producer().partition_count("t"));
}

#[test]
fn the_future_of_every_call_of_an_admin_can_be_sent_to_another_thread() {
    fn admin() -> &'static Admin {
        nobody()
    }
    type Configs = BTreeMap<ByteString, ConfigChange>;
    check(|| admin().describe_cluster());
    check(|| admin().list_topics());
    check(|| admin().describe_topics(["t"]));
    check(|| admin().describe_topics_by_id([nobody::<Uuid>()]));
    check(|| admin().create_topics([nobody::<NewTopic>()], Change::Apply));
    check(|| admin().delete_topics(["t"]));
    check(|| admin().delete_topics_by_id([nobody::<Uuid>()]));
    check(|| admin().create_partitions([("t", nobody::<NewPartitions>())], Change::Apply));
    check(|| admin().describe_configs([nobody::<ConfigResource>()], nobody::<&DescribeConfigs>()));
    check(|| admin().alter_configs([nobody::<(ConfigResource, Configs)>()], Change::Apply));
    check(|| admin().list_groups(nobody::<&GroupFilter>()));
    check(|| admin().describe_groups(["g"]));
    check(|| admin().delete_groups(["g"]));
    check(|| admin().list_group_offsets([nobody::<OffsetsOfGroup>()], true));
    check(|| admin().alter_group_offsets("g", [nobody::<(TopicPartition, CommittedOffset)>()]));
    check(|| admin().delete_group_offsets("g", [nobody::<TopicPartition>()]));
    check(|| admin().remove_group_members("g", [nobody::<MemberIdentity>()], None));
    check(|| admin().remove_all_group_members("g", None));
    check(|| {
        let specs = [nobody::<(TopicPartition, OffsetSpec)>()];
        admin().list_offsets(specs, IsolationLevel::ReadCommitted)
    });
    check(|| admin().delete_records([nobody::<(TopicPartition, DeleteBefore)>()]));
    check(|| admin().describe_producers([nobody::<TopicPartition>()]));
    check(|| admin().describe_log_dirs([0]));
    check(|| admin().describe_acls(nobody::<&AclFilter>()));
    check(|| admin().create_acls([nobody::<Acl>()]));
    check(|| admin().delete_acls([nobody::<AclFilter>()]));
    check(|| admin().describe_scram_users(["u"]));
    check(|| admin().alter_scram_users([("u", nobody::<ScramChange>())]));
}
