//! Works on records and commits after every so many: `at_least_once HOST:PORT GROUP TOPIC`.
//!
//! Nothing is lost: what was not committed before a crash is read again. Commits under way are not waited for, except for the last one.

use kavka_client::{Consumer, consumer::OffsetReset};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [servers, group, topic] = &arguments[..] else {
        return Err("usage: at_least_once HOST:PORT GROUP TOPIC".into());
    };
    let mut consumer = Consumer::builder()
        .bootstrap_servers(servers)
        .group_id(group)
        .auto_offset_reset(OffsetReset::Earliest)
        .enable_auto_commit(false)
        .build()?;
    consumer.subscribe([topic]).await?;
    let mut done = 0_u64;
    loop {
        let record = tokio::select! {
            record = consumer.next() => record,
            _ = tokio::signal::ctrl_c() => break,
        };
        let Some(record) = record else { break };
        let record = record?;
        println!(
            "{}-{}: {} bytes",
            record.partition(),
            record.offset(),
            record.value().map_or(0, |v| v.len())
        );
        done += 1;
        if done.is_multiple_of(1000) {
            // A later commit makes up for one that fails.
            drop(consumer.commit_async());
        }
    }
    // Nothing comes after this one: it has to succeed.
    consumer.commit().await?;
    consumer.close().await?;
    Ok(())
}
