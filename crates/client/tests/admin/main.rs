//! Admin calls against the production broker, in this process; also through a proxy that makes it as old as Kafka 2.1.
#![allow(clippy::unwrap_used)]

mod calls;
mod members;
mod old_broker;

use kavka_client::{Admin, TopicPartition};
use kavka_testkit::TestBroker;

async fn start() -> (TestBroker, Admin) {
    let broker = TestBroker::start().await;
    let admin = admin_of(&broker.bootstrap_servers());
    (broker, admin)
}

fn admin_of(servers: &str) -> Admin {
    Admin::builder().bootstrap_servers(servers).build().expect("settings")
}

fn at(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}
