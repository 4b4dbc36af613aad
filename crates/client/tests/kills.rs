//! Work that is handed out by `process` survives rebalances and kills (`work`). Three members, each a runtime of its own that can be killed.
//!
//! A million records: `KAVKA_KILLS_RECORDS=1000000 cargo test --release -p kavka-client --test kills -- --nocapture`.
#![allow(clippy::unwrap_used)]

mod work;

use std::sync::{Arc, Mutex};

use kavka_client::{
    ConsumerHandle, Error,
    consumer::{Ordering, Processed, Record, Stopper},
};
use tokio::{runtime, sync::oneshot, task::JoinHandle};
use work::{Crew, Finished};

struct Runtimes {
    servers: String,
    finished: Arc<Mutex<Finished>>,
}

struct Member {
    runtime: runtime::Runtime,
    handle: ConsumerHandle,
    stopper: Stopper,
    run: JoinHandle<Result<Processed, Error>>,
}

impl Crew for Runtimes {
    type Member = Member;

    async fn start(&mut self) -> Member {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let (started, start) = oneshot::channel();
        let (servers, finished) = (self.servers.clone(), Arc::clone(&self.finished));
        let run = runtime.spawn(async move {
            let consumer = work::consumer(&servers).await?;
            let handle = consumer.handle();
            let processor = consumer.process(Ordering::Key, 64);
            started.send((handle, processor.stopper())).unwrap();
            processor.run(move |record| handle_record(Arc::clone(&finished), record)).await
        });
        let (handle, stopper) = start.await.unwrap();
        Member { runtime, handle, stopper, run }
    }

    fn enforce_rebalance(member: &mut Member) {
        member.handle.enforce_rebalance("the test wants one").unwrap();
    }

    fn kill(member: Member) {
        member.runtime.shutdown_background();
    }

    async fn stop(members: Vec<Member>) {
        for member in members {
            member.stopper.stop();
            member.run.await.unwrap().unwrap();
            member.runtime.shutdown_background();
        }
    }

    /// Members have said it already.
    fn read(&mut self) {}
}

async fn handle_record(finished: Arc<Mutex<Finished>>, record: Record) -> Result<(), String> {
    work::work_on(&record).await;
    finished.lock().unwrap().add(record.partition(), record.offset());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rebalances_and_kills_lose_nothing_and_commit_nothing_unfinished() {
    let crew = |servers, finished| Runtimes { servers, finished };
    work::survives_rebalances_and_kills(crew).await;
}
