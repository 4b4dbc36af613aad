//! Shares out partitions in a way of its own: `custom_assignor HOST:PORT GROUP TOPIC`. One member gets everything, the others stand by.

use std::{error::Error, sync::Arc};

use kavka_client::{
    Consumer,
    consumer::{
        OffsetReset, RebalanceEvent,
        assignor::{Assignment, Assignor, Group, Partition},
    },
};

/// All to the first member, in the group's order.
#[derive(Debug)]
struct Failover;

impl Assignor for Failover {
    fn name(&self) -> &str {
        "failover"
    }

    fn assign(&self, group: &Group) -> Result<Assignment, Box<dyn Error + Send + Sync>> {
        let mut assignment = Assignment::empty(group);
        for (topic, subscribers) in (0..).zip(group.subscribers()) {
            let partitions = group.topics()[topic as usize].partitions();
            let all = (0..partitions).map(|number| Partition { topic, number });
            assignment.give(subscribers[0] as usize, all);
        }
        Ok(assignment)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [servers, group, topic] = &arguments[..] else {
        return Err("usage: custom_assignor HOST:PORT GROUP TOPIC".into());
    };
    let mut consumer = Consumer::builder()
        .bootstrap_servers(servers)
        .group_id(group)
        .auto_offset_reset(OffsetReset::Earliest)
        .assignor(Arc::new(Failover))
        .build()?;
    let mut events = consumer.events();
    consumer.subscribe([topic]).await?;
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let RebalanceEvent::Assigned { owned, .. } = event {
                eprintln!("{} partitions", owned.len());
            }
        }
    });
    while let Some(record) = consumer.next().await {
        println!("{:?}", record?.value());
    }
    Ok(())
}
