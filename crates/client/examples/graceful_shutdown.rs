//! Tells of every rebalance, and finishes what it holds before partitions go and before it ends: `graceful_shutdown HOST:PORT GROUP TOPIC`.
//! Stops with Ctrl-C.

use kavka_client::{
    Consumer,
    consumer::{OffsetReset, RebalanceEvent},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [servers, group, topic] = &arguments[..] else {
        return Err("usage: graceful_shutdown HOST:PORT GROUP TOPIC".into());
    };
    let mut consumer = Consumer::builder()
        .bootstrap_servers(servers)
        .group_id(group)
        .auto_offset_reset(OffsetReset::Earliest)
        .assignors(&["cooperative-sticky"])
        .build()?;
    let mut events = consumer.events();
    consumer.subscribe([topic]).await?;
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                RebalanceEvent::Assigned { added, owned, .. } => {
                    eprintln!("{} partitions more, {} in all", added.len(), owned.len());
                }
                RebalanceEvent::Revoking(revoking) => {
                    let (partitions, left) = (revoking.partitions(), revoking.time_left());
                    eprintln!("{partitions:?} go within {left:?}: {}", revoking.cause());
                    // Dropping it lets the rebalance go on, when the records in hand are done with.
                }
                RebalanceEvent::Lost { partitions, cause } => {
                    eprintln!("{partitions:?} lost: {cause}")
                }
                event => eprintln!("{event:?}"),
            }
        }
    });
    loop {
        tokio::select! {
            record = consumer.next() => match record {
                Some(record) => println!("{:?}", record?.value()),
                None => break,
            },
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    // Asking for the next record said that the last one was done with; so all of them are committed here.
    consumer.close().await?;
    Ok(())
}
