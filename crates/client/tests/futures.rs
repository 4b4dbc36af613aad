//! Futures are spawned onto runtimes with several threads: they have to be `Send`.

use std::{collections::BTreeMap, time::Duration};

use kavka_client::{
    Consumer, ConsumerHandle, Producer, TopicPartition,
    consumer::{PartitionStream, SeekTo},
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
    check(|| handle().subscribe(["t"]));
    check(|| handle().subscribe_pattern("t"));
    check(|| handle().assign([place().clone()]));
    check(|| handle().assignment());
    check(|| handle().seek(place(), SeekTo::Beginning));
    check(|| handle().position(place()));
    check(|| handle().lag(place()));
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
