//! The task that keeps metadata fresh: when it is asked to, when it gets old, again after a pause when it fails. It gives up brokers
//! that are of no use for the bootstrap servers.
//!
//! # References
//! KIP-899 and KIP-1102 (rebootstrapping).

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU64, Ordering},
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
    // Since when metadata is wanted and not had.
    let mut in_vain = None;
    loop {
        let is_requested = match weak.upgrade() {
            None => return,
            Some(shared) => shared.refresher.is_requested(),
        };
        let due = if is_requested { Some(not_before) } else { next };
        if due.is_none_or(|due| due > Instant::now()) {
            tokio::select! {
                () = notify.notified() => {}
                () = sleep_until(due) => {}
            }
            if weak.strong_count() == 0 {
                return;
            }
            let Some(shared) = weak.upgrade() else { return };
            let due = if shared.refresher.is_requested() { Some(not_before) } else { next };
            if due.is_none_or(|due| due > Instant::now()) {
                continue;
            }
        }
        let Some(shared) = weak.upgrade() else { return };
        let settings = Arc::clone(&shared.settings);
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
