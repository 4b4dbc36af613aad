//! The task behind a producer that sees to what belongs to no broker: new metadata, batches that are late, and the end.

use std::sync::{Arc, atomic::Ordering};

use tokio::time::{Instant, sleep_until};

use super::core::Core;
use crate::{Error, ErrorKind};

/// Says what becomes of records when the task ends, or the runtime under it.
struct LastWord(Arc<Core>);

impl Drop for LastWord {
    fn drop(&mut self) {
        self.0.close();
        self.0.abandon_all(
            &Error::new(
                ErrorKind::Closed,
                "the producer's tasks ended before the record was delivered",
            )
            .with_advice("Keep the runtime until close() has returned."),
        );
    }
}

/// Runs until the producer is over.
pub(super) async fn run(core: Arc<Core>) {
    let _last_word = LastWord(Arc::clone(&core));
    let mut states = core.cluster.watch();
    let mut next_look = Instant::now() + core.settings.delivery_timeout;
    loop {
        tokio::select! {
            changed = states.changed() => {
                if changed.is_err() {
                    return;
                }
                let metadata = Arc::clone(&states.borrow_and_update().metadata);
                core.apply_metadata(&metadata);
                core.forget_idle_topics(Instant::now());
            }
            () = sleep_until(next_look) => next_look = core.expire(Instant::now()),
            () = core.reroute.notified() => core.schedule_all(),
            () = drained(&core) => {
                core.end();
                return;
            }
        }
    }
}

/// Until nobody has the producer any more and everything is delivered or has failed.
async fn drained(core: &Core) {
    loop {
        let none = core.outstanding.none().notified();
        if core.is_dropped.load(Ordering::Acquire) && core.outstanding.count() == 0 {
            return;
        }
        none.await;
    }
}
