//! The task that keeps metadata fresh: when it is asked to, when it gets old, again after a pause when it fails. It gives up brokers
//! that are of no use for the bootstrap servers.
//!
//! # References
//! KIP-899 and KIP-1102 (rebootstrapping).

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use kavka_protocol::ErrorCode;
use kavka_protocol::messages::{
    MetadataRequest, MetadataResponse, metadata_request::MetadataRequestTopic,
};
use tokio::{
    sync::Notify,
    time::{Duration, Instant},
};

use super::{Backoff, Shared, Wanted};
use crate::{Error, ErrorKind, settings::MetadataRecovery};

/// Asks the task for a refresh.
#[derive(Debug, Default)]
pub(super) struct Refresher {
    /// The number of the attempt that was asked for last.
    requested: AtomicU64,
    /// The number of the attempt that began last.
    begun: AtomicU64,
    /// What is asked for is new: the next attempt need not be some time after one that succeeded.
    is_new: AtomicBool,
    notify: Arc<Notify>,
}

impl Refresher {
    /// See [`super::Cluster::request_refresh`].
    pub(super) fn request(&self) -> u64 {
        // An attempt under way may have asked before the caller's news: only the next one counts.
        let attempt = self.begun.load(Ordering::Acquire) + 1;
        self.requested.fetch_max(attempt, Ordering::AcqRel);
        self.notify.notify_one();
        attempt
    }

    /// As [`Refresher::request`], for something that was never asked for: as in Java, it does not wait for the pause between attempts.
    pub(super) fn request_new(&self) {
        self.is_new.store(true, Ordering::Release);
        self.request();
    }

    fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Acquire) > self.begun.load(Ordering::Acquire)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The task finds nobody left, and ends.
        self.refresher.notify.notify_one();
    }
}

/// Starts the task; it ends when the cluster is dropped.
pub(super) fn spawn(shared: &Arc<Shared>) {
    tokio::spawn(run(Arc::downgrade(shared), Arc::clone(&shared.refresher.notify)));
}

async fn run(weak: Weak<Shared>, notify: Arc<Notify>) {
    let mut backoff: Option<Backoff> = None;
    let mut next = None;
    let mut not_before = Instant::now();
    let due = |refresher: &Refresher, not_before, next, is_failing: bool| {
        if !refresher.is_requested() {
            next
        } else if refresher.is_new.load(Ordering::Acquire) && !is_failing {
            Some(Instant::now())
        } else {
            Some(not_before)
        }
    };
    // Since when metadata is wanted and not had.
    let mut in_vain = None;
    loop {
        let time = match weak.upgrade() {
            None => return,
            Some(shared) => due(&shared.refresher, not_before, next, backoff.is_some()),
        };
        if time.is_none_or(|time| time > Instant::now()) {
            tokio::select! {
                () = notify.notified() => {}
                () = sleep_until(time) => {}
            }
            if weak.strong_count() == 0 {
                return;
            }
            let Some(shared) = weak.upgrade() else { return };
            let time = due(&shared.refresher, not_before, next, backoff.is_some());
            if time.is_none_or(|time| time > Instant::now()) {
                continue;
            }
        }
        let Some(shared) = weak.upgrade() else { return };
        let settings = Arc::clone(&shared.settings);
        // Before what is wanted is looked at: what comes later is another attempt's.
        shared.refresher.is_new.store(false, Ordering::Release);
        let attempt = shared.refresher.begun.fetch_add(1, Ordering::AcqRel) + 1;
        let wanted = shared.wanted();
        let result = recovering(&shared, &wanted, &mut in_vain).await;
        let first = settings.retry_backoff;
        let pause = match &result {
            Ok(_) => {
                backoff = None;
                // Many requests in a row are one every so often.
                first
            }
            Err(_) => {
                let limit = settings.retry_backoff_max;
                let new = || Backoff::new(first, limit, settings.machine.random());
                backoff.get_or_insert_with(new).next()
            }
        };
        not_before = Instant::now() + pause;
        next = Some(match &result {
            Ok(_) => Instant::now() + settings.metadata_max_age,
            Err(_) => not_before,
        });
        shared.finish_attempt(attempt, result, &wanted);
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Asks. If the known brokers have given no metadata for too long, or say that they should not be asked, the bootstrap servers are.
async fn recovering(
    shared: &Shared,
    wanted: &Wanted,
    in_vain: &mut Option<Instant>,
) -> Result<MetadataResponse, Error> {
    let settings = &shared.settings;
    let since = *in_vain.get_or_insert_with(Instant::now);
    let recovers = settings.metadata_recovery == MetadataRecovery::Rebootstrap;
    let mut result = None;
    if recovers && !shared.known_addresses().is_empty() {
        let trigger = settings.rebootstrap_trigger;
        let asked = tokio::time::timeout_at(since + trigger, ask(shared, wanted)).await;
        let why = match &asked {
            Err(_) => Some(format!("no broker gave metadata for {trigger:?}")),
            Ok(Err(error)) => {
                (error.code() == Some(ErrorCode::RebootstrapRequired)).then(|| error.to_string())
            }
            Ok(Ok(_)) => None,
        };
        match why {
            None => result = asked.ok(),
            Some(why) => {
                shared.rebootstrap(&why);
                *in_vain = Some(Instant::now());
            }
        }
    }
    let result = match result {
        Some(result) => result,
        None => ask(shared, wanted).await,
    };
    if result.is_ok() {
        *in_vain = None;
    }
    result
}

async fn ask(shared: &Shared, wanted: &Wanted) -> Result<MetadataResponse, Error> {
    let connection = shared.any().await?;
    let topics = match wanted {
        Wanted::Nothing => Some(Vec::new()),
        Wanted::Everything => None,
        Wanted::Topics(topics) => Some(
            topics
                .iter()
                .map(|topic| MetadataRequestTopic {
                    name: Some(topic.clone()),
                    ..Default::default()
                })
                .collect(),
        ),
    };
    let request = MetadataRequest {
        topics,
        allow_auto_topic_creation: shared.settings.allow_auto_create_topics,
        ..Default::default()
    };
    let timeout: Duration = shared.settings.request_timeout;
    let response = connection.call(&request, timeout).await?;
    match response.error_code {
        // So answers a broker that is only just starting.
        ErrorCode::None if response.brokers.is_empty() => {
            let address = connection.address();
            Err(Error::new(ErrorKind::Connect, format!("{address} knows no broker yet")))
        }
        ErrorCode::None => Ok(response),
        // It passes, whatever the code says: other brokers will do.
        code @ ErrorCode::RebootstrapRequired => {
            let why =
                format!("{} sends its clients to the bootstrap servers", connection.address());
            Err(Error::new(ErrorKind::Connect, why).with_code(code))
        }
        code => Err(Error::broker(code, "reading the cluster's metadata")),
    }
}
