//! Shares out partitions in a way of its own: `custom_assignor HOST:PORT GROUP TOPIC PRIORITY`. The member with the highest priority gets
//! everything, the others stand by. Stops with Ctrl-C.
//!
//! Each member sends its priority to the one that leads the group, whose assignor tells all of them who is active.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use kavka_client::{
    ByteString, Consumer,
    consumer::{
        OffsetReset,
        assignor::{Assignment, Assignor, Group, LastAssignment, Partition},
    },
};

#[derive(Debug)]
struct Failover {
    priority: u8,
}

impl Assignor for Failover {
    fn name(&self) -> &str {
        "failover"
    }

    /// Goes to the leader with the subscription, each time this member joins.
    fn subscription_user_data(
        &self,
        _topics: &[ByteString],
        _last: Option<LastAssignment<'_>>,
    ) -> Option<Bytes> {
        Some(vec![self.priority].into())
    }

    /// Runs at the leader.
    fn assign(&self, group: &Group) -> Result<Assignment, Box<dyn Error + Send + Sync>> {
        let mut assignment = Assignment::empty(group);
        let priority = |member: u32| {
            let data = group.members()[member as usize].user_data();
            data.and_then(|data| data.first().copied()).unwrap_or(0)
        };
        let mut active = 0;
        for (topic, subscribers) in (0..).zip(group.subscribers()) {
            let Some(first) = subscribers.into_iter().max_by_key(|member| priority(*member)) else {
                continue;
            };
            active = active.max(priority(first));
            let partitions = group.topics()[topic as usize].partitions();
            let all = (0..partitions).map(|number| Partition { topic, number });
            assignment.give(first as usize, all);
        }
        for member in 0..group.members().len() {
            assignment.set_user_data(member, Some(vec![active].into()));
        }
        Ok(assignment)
    }

    /// Comes back from the leader with the assignment.
    fn on_assignment(&self, assignment: LastAssignment<'_>, user_data: Option<&Bytes>) {
        let active = user_data.and_then(|data| data.first().copied()).unwrap_or(0);
        let partitions: usize = assignment.partitions.iter().map(|t| t.partitions.len()).sum();
        eprintln!("{partitions} partitions for priority {}; {active} is active", self.priority);
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [servers, group, topic, priority] = &arguments[..] else {
        return Err("usage: custom_assignor HOST:PORT GROUP TOPIC PRIORITY".into());
    };
    let mut consumer = Consumer::builder()
        .bootstrap_servers(servers)
        .group_id(group)
        .auto_offset_reset(OffsetReset::Earliest)
        .assignor(Arc::new(Failover { priority: priority.parse()? }))
        .build()?;
    consumer.subscribe([topic]).await?;
    loop {
        tokio::select! {
            record = consumer.next() => match record {
                Some(record) => println!("{:?}", record?.value()),
                None => break,
            },
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    consumer.close().await?;
    Ok(())
}
