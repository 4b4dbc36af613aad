//! How admin calls are tried again: in rounds, each with the items that have no result yet.
//!
//! Owns the decision what is repeated, and the ways to a controller, to coordinators and to all of some brokers at once. Knows
//! nothing of any API.
//!
//! **Architecture invariants:** every item that goes in comes out with a result. What may have been worked on already is asked
//! again only where [`Repeat::Safe`] says that twice is as good as once.

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use bytestring::ByteString;
use kavka_protocol::{ApiKey, ErrorCode, Message, Request};
use tokio::time::Instant;

use super::Admin;
use crate::{
    Error, ErrorKind,
    cluster::{Backoff, CoordinatorOf, Node, Purpose},
    connection::Connection,
};

/// Whether a request that may have been worked on may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Twice is as good as once.
    Safe,
    /// The second time would fail, or do something else. The caller is told that the outcome is not known.
    Unsafe,
}

/// What came of an item in one round.
pub(super) type Fared<T> = Result<T, Failure>;

/// An item that failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It can pass, and trying again is safe.
    Passing(Error),
    /// This is the result.
    Final(Error),
}

/// What is left of the time of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left(Duration);

impl Left {
    /// How long an answer may take.
    pub(super) fn duration(self) -> Duration {
        self.0
    }

    /// As a request's `timeout_ms`.
    pub(super) fn millis(self) -> i32 {
        i32::try_from(self.0.as_millis()).unwrap_or(i32::MAX)
    }
}

impl Failure {
    /// An item's failure after the request was sent.
    pub(super) fn after_sending(error: Error, repeat: Repeat) -> Self {
        let is_safe = repeat == Repeat::Safe;
        let is_passing = match error.kind() {
            ErrorKind::Connect => true,
            ErrorKind::Disconnected | ErrorKind::TimedOut => is_safe,
            ErrorKind::Broker => match error.code() {
                // Whoever asks for what does not exist wants to hear that.
                Some(ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId) => false,
                Some(ErrorCode::RequestTimedOut | ErrorCode::NetworkException) => is_safe,
                Some(code) => code.is_retriable(),
                None => false,
            },
            _ => false,
        };
        if is_passing { Failure::Passing(error) } else { Failure::Final(error) }
    }

    /// A failure before anything was sent.
    pub(super) fn before_sending(error: Error) -> Self {
        if error.is_retriable() { Failure::Passing(error) } else { Failure::Final(error) }
    }
}

/// What a broker answered about its items; or why it did not answer at all.
pub(super) type Answered<K, T> = Result<Vec<(K, Result<T, Error>)>, Error>;

/// Rows for all items, from what was answered about them after the request was sent.
pub(super) fn fared<K: Clone, T>(
    keys: &[K],
    answered: Answered<K, T>,
    repeat: Repeat,
) -> Vec<(K, Fared<T>)> {
    let failure = |error| Failure::after_sending(error, repeat);
    match answered {
        Ok(rows) => rows.into_iter().map(|(key, row)| (key, row.map_err(failure))).collect(),
        Err(error) => keys.iter().map(|key| (key.clone(), Err(failure(error.clone())))).collect(),
    }
}

/// The same failure before sending, for all items.
pub(super) fn all_failed<K, T>(
    keys: impl IntoIterator<Item = K>,
    error: &Error,
) -> Vec<(K, Fared<T>)> {
    keys.into_iter().map(|key| (key, Err(Failure::before_sending(error.clone())))).collect()
}

impl Admin {
    /// Runs rounds until every item has a result, the time is over or there were `retries` of them beside the first.
    ///
    /// Cancel safe as far as `round` is.
    pub(super) async fn rounds<K: Clone + Ord, T, F>(
        &self,
        items: impl IntoIterator<Item = K>,
        round: impl Fn(Vec<K>, Left) -> F,
    ) -> BTreeMap<K, Result<T, Error>>
    where
        F: Future<Output = Vec<(K, Fared<T>)>>,
    {
        let settings = self.cluster.settings();
        let timeout = self.timeout();
        let deadline = Instant::now() + timeout;
        let seed = settings.machine.random();
        let mut backoff = Backoff::new(settings.retry_backoff, settings.retry_backoff_max, seed);
        let mut pending: BTreeMap<K, Option<Error>> =
            items.into_iter().map(|key| (key, None)).collect();
        let mut results = BTreeMap::new();
        let gave_up = |error: Error| error.while_doing(format_args!("gave up after {timeout:?}"));
        let mut retries_left = self.retries;
        while !pending.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let keys: Vec<K> = pending.keys().cloned().collect();
            let answer_within = Left(left.min(settings.request_timeout));
            let Ok(rows) = tokio::time::timeout(left, round(keys, answer_within)).await else {
                let nothing = || {
                    Error::new(
                        ErrorKind::TimedOut,
                        format!("nothing came of it within {timeout:?}"),
                    )
                };
                results.extend(
                    pending
                        .into_iter()
                        .map(|(key, last)| (key, Err(last.map_or_else(nothing, gave_up)))),
                );
                break;
            };
            let mut still = BTreeMap::new();
            for (key, row) in rows {
                // A row that nobody asked for, or the second one of an item, is nobody's.
                if pending.remove(&key).is_none() {
                    continue;
                }
                match row {
                    Ok(value) => drop(results.insert(key, Ok(value))),
                    Err(Failure::Final(error)) => drop(results.insert(key, Err(error))),
                    Err(Failure::Passing(error)) => drop(still.insert(key, Some(error))),
                }
            }
            results.extend(pending.into_keys().map(|key| {
                let error = Error::new(ErrorKind::Protocol, "the broker answered without it");
                (key, Err(error))
            }));
            pending = still;
            if pending.is_empty() {
                break;
            }
            let Some(left) = retries_left.checked_sub(1) else {
                let tired = |error: Error| {
                    error.while_doing(format_args!("gave up after {} retries", self.retries))
                };
                let rest = pending.into_iter();
                results.extend(rest.filter_map(|(key, last)| Some((key, Err(tired(last?))))));
                break;
            };
            retries_left = left;
            let pause = backoff.next();
            if Instant::now() + pause >= deadline {
                let rest = pending.into_iter();
                results.extend(rest.filter_map(|(key, last)| Some((key, Err(gave_up(last?))))));
                break;
            }
            tracing::debug!(items = pending.len(), ?pause, "will try again");
            tokio::time::sleep(pause).await;
        }
        results
    }

    /// As [`Admin::rounds`], for a call that has one result.
    ///
    /// Cancel safe as far as `attempt` is.
    pub(super) async fn once<T, F>(
        &self,
        repeat: Repeat,
        attempt: impl Fn(Left) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let attempt = &attempt;
        let round = |_, left| async move {
            let failure = |error| Failure::after_sending(error, repeat);
            vec![((), attempt(left).await.map_err(failure))]
        };
        let mut results = self.rounds([()], round).await;
        results
            .remove(&())
            .unwrap_or_else(|| Err(Error::new(ErrorKind::Protocol, "a call came to nothing")))
    }

    /// Asks in the newest version that both sides have and that is at most `newest`. What the broker does not have is told with
    /// the release that has it.
    pub(super) async fn ask<R: Request>(
        &self,
        connection: &Connection,
        request: &R,
        newest: i16,
        left: Left,
    ) -> Result<R::Response, Error> {
        let answer = connection.call_up_to(request, newest, left.duration()).await;
        answer.map_err(|error| with_release(error, R::API_KEY))
    }

    /// The version in which a request would go out.
    pub(super) fn version<R: Request>(connection: &Connection) -> Result<i16, Error> {
        let newest = connection.versions().newest(R::API_KEY, *<R as Message>::VERSIONS.end());
        newest.map_err(|error| with_release(error, R::API_KEY))
    }

    /// One round at the controller.
    pub(super) async fn at_controller<K: Clone, T, F>(
        &self,
        keys: Vec<K>,
        repeat: Repeat,
        ask: impl FnOnce(Connection, Vec<K>) -> F,
    ) -> Vec<(K, Fared<T>)>
    where
        F: Future<Output = Answered<K, T>>,
    {
        let connection = match self.cluster.controller().await {
            Ok(connection) => connection,
            Err(error) => return all_failed(keys, &error),
        };
        let rows = fared(&keys, ask(connection, keys.clone()).await, repeat);
        let has_moved = rows.iter().any(|(_, row)| {
            matches!(row, Err(Failure::Passing(error)) if error.code() == Some(ErrorCode::NotController))
        });
        if has_moved {
            // The next round needs to know where it is now; if that fails, the next round finds out.
            let _ = self.cluster.refresh().await;
        }
        rows
    }

    /// One round at whichever broker answers.
    pub(super) async fn at_any<K: Clone, T, F>(
        &self,
        keys: Vec<K>,
        repeat: Repeat,
        ask: impl FnOnce(Connection, Vec<K>) -> F,
    ) -> Vec<(K, Fared<T>)>
    where
        F: Future<Output = Answered<K, T>>,
    {
        match self.cluster.any().await {
            Ok(connection) => fared(&keys, ask(connection, keys.clone()).await, repeat),
            Err(error) => all_failed(keys, &error),
        }
    }

    /// One round at the coordinators of groups, all at the same time, each asked about its own groups.
    pub(super) async fn at_coordinators<T, F>(
        &self,
        groups: Vec<ByteString>,
        repeat: Repeat,
        ask: impl Fn(Connection, Node, Vec<ByteString>) -> F,
    ) -> Vec<(ByteString, Fared<T>)>
    where
        F: Future<Output = Answered<ByteString, T>>,
    {
        let found = async {
            let connection = self.cluster.any().await?;
            self.cluster.find_coordinators(&connection, CoordinatorOf::Group, &groups).await
        };
        let found = match found.await {
            Ok(found) => found,
            Err(error) => return all_failed(groups, &with_release(error, ApiKey::FindCoordinator)),
        };
        let mut rows = Vec::new();
        let mut by_node: BTreeMap<i32, (Node, Vec<ByteString>)> = BTreeMap::new();
        for (group, node) in found {
            match node {
                Ok(node) => by_node.entry(node.id).or_insert((node, Vec::new())).1.push(group),
                Err(error) => rows.push((group, Err(Failure::after_sending(error, Repeat::Safe)))),
            }
        }
        rows.extend(self.at_nodes(by_node.into_values().collect(), repeat, ask).await);
        rows
    }

    /// One round at the coordinator of one group, about several things of it.
    pub(super) async fn at_coordinator<K: Clone, T, F>(
        &self,
        group: &ByteString,
        keys: Vec<K>,
        repeat: Repeat,
        ask: impl Fn(Connection, Vec<K>) -> F,
    ) -> Vec<(K, Fared<T>)>
    where
        F: Future<Output = Answered<K, T>>,
    {
        let found = async {
            let connection = self.cluster.any().await?;
            let groups = [group.clone()];
            let found =
                self.cluster.find_coordinators(&connection, CoordinatorOf::Group, &groups).await;
            found?.remove(group).unwrap_or_else(|| {
                let message = format!("nobody says who coordinates group {group}");
                Err(Error::new(ErrorKind::Protocol, message))
            })
        };
        match found.await {
            Ok(node) => {
                let ask = |connection, _, keys| ask(connection, keys);
                self.at_nodes(vec![(node, keys)], repeat, ask).await
            }
            Err(error) => all_failed(keys, &error),
        }
    }

    /// One round at some brokers, all at the same time, each asked about its own items.
    pub(super) async fn at_nodes<K: Clone, T, F>(
        &self,
        nodes: Vec<(Node, Vec<K>)>,
        repeat: Repeat,
        ask: impl Fn(Connection, Node, Vec<K>) -> F,
    ) -> Vec<(K, Fared<T>)>
    where
        F: Future<Output = Answered<K, T>>,
    {
        let ask = &ask;
        let calls = nodes.into_iter().map(|(node, keys)| async move {
            match self.cluster.at(&node.address, Purpose::Requests).await {
                Ok(connection) => fared(&keys, ask(connection, node, keys.clone()).await, repeat),
                Err(error) => all_failed(keys, &error),
            }
        });
        join_all(calls).await.into_iter().flatten().collect()
    }
}

/// Waits for all, at the same time; the results are in the same order.
async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut results: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (future, result) in running.iter_mut().zip(&mut results) {
            if result.is_none()
                && let Poll::Ready(value) = future.as_mut().poll(context)
            {
                *result = Some(value);
            }
        }
        if results.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}

/// Says which release of Apache Kafka has an API, where a broker does not.
fn with_release(error: Error, api: ApiKey) -> Error {
    if error.kind() != ErrorKind::Unsupported {
        return error;
    }
    let release = match api {
        ApiKey::IncrementalAlterConfigs => "2.3",
        ApiKey::OffsetDelete => "2.4",
        ApiKey::DescribeUserScramCredentials | ApiKey::AlterUserScramCredentials => "2.7",
        ApiKey::DescribeCluster | ApiKey::DescribeProducers => "2.8",
        ApiKey::ConsumerGroupDescribe => "4.0",
        _ => "2.1",
    };
    needs_release(error, release)
}

/// Says which release of Apache Kafka is needed.
pub(super) fn needs_release(error: Error, release: &str) -> Error {
    error.with_advice(format!(
        "It needs a broker of Apache Kafka {release} or newer, or one that has the same API."
    ))
}

/// An error about something that this broker's version of an API cannot say.
pub(super) fn unsupported(what: &str, release: &str) -> Error {
    needs_release(Error::new(ErrorKind::Unsupported, format!("the broker cannot {what}")), release)
}
