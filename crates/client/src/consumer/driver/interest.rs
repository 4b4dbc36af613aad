//! What the application wants to read, and what metadata says of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytestring::ByteString;
use kavka_member::{Input, TopicPartition};
use kavka_protocol::ErrorCode;
use regex_lite::Regex;
use tokio::time::Instant;

use super::Driver;
use crate::{
    Error, ErrorKind,
    cluster::{State, Wanted},
    consumer::fetcher::for_member,
};

/// What is subscribed to.
#[derive(Debug, Default)]
pub(super) enum Interest {
    #[default]
    Nothing,
    Topics(BTreeSet<ByteString>),
    Pattern {
        pattern: Regex,
        /// `None` until metadata was there for the first time.
        matching: Option<BTreeSet<ByteString>>,
        /// The refresh that knows.
        attempt: u64,
    },
    Partitions(BTreeSet<TopicPartition>),
}

impl Driver {
    /// Says what metadata is kept of.
    pub(super) fn want(&self) {
        let own: BTreeSet<ByteString> = match &self.interest {
            Interest::Nothing => BTreeSet::new(),
            Interest::Topics(topics) => topics.clone(),
            Interest::Pattern { .. } => return self.cluster.want(Wanted::Everything),
            Interest::Partitions(partitions) => {
                partitions.iter().map(|partition| partition.topic.clone()).collect()
            }
        };
        let all: BTreeSet<ByteString> = own.union(&self.group_topics).cloned().collect();
        let nothing = all.is_empty();
        self.cluster.want(if nothing { Wanted::Nothing } else { Wanted::Topics(all) });
    }

    pub(super) fn on_metadata(&mut self, state: &State) {
        if let Some(error) = &state.error
            && matches!(error.kind(), ErrorKind::Authentication | ErrorKind::Unsupported)
            && !self.has_failed
        {
            self.shared.lock().fail(error.clone());
            self.fail();
        }
        if !Arc::ptr_eq(&self.metadata, &state.metadata) {
            self.metadata = Arc::clone(&state.metadata);
            self.note_refused_topics();
            self.step(Input::Metadata(for_member(&state.metadata)));
        }
        self.match_topics(state);
        if self.misses_topics() {
            let pause = self.cluster.settings().retry_backoff_max;
            self.look_again_at.get_or_insert(Instant::now() + pause);
        }
        if let Some((task, _)) = self.to_assign.take_if(|(_, attempt)| *attempt <= state.attempts) {
            self.assign(&task);
        }
    }

    /// The topics that the application has named.
    fn topics_by_name(&self) -> BTreeSet<&ByteString> {
        match &self.interest {
            Interest::Nothing | Interest::Pattern { .. } => BTreeSet::new(),
            Interest::Topics(topics) => topics.iter().collect(),
            Interest::Partitions(partitions) => {
                partitions.iter().map(|partition| &partition.topic).collect()
            }
        }
    }

    /// Whether something that is to be read is not there, and may be soon.
    fn misses_topics(&self) -> bool {
        self.topics_by_name().into_iter().chain(&self.group_topics).any(|topic| {
            let error = self.metadata.topics.get(topic).map(|topic| topic.error);
            error.is_none_or(|code| code != ErrorCode::None && code.is_retriable())
        })
    }

    /// Tells the application of topics that it cannot read, once.
    fn note_refused_topics(&mut self) {
        let topics = self.topics_by_name();
        let refused = topics.into_iter().filter_map(|topic| {
            let code = self.metadata.topics.get(topic)?.error;
            let is_refused = matches!(
                code,
                ErrorCode::TopicAuthorizationFailed | ErrorCode::InvalidTopicException
            );
            is_refused.then(|| (topic.clone(), code))
        });
        let refused: BTreeMap<ByteString, ErrorCode> = refused.collect();
        let former = std::mem::replace(&mut self.refused_topics, refused);
        let mut inbox = self.shared.lock();
        for (topic, code) in &self.refused_topics {
            if former.get(topic) != Some(code) {
                inbox.fail(Error::broker(*code, format_args!("reading {topic}")));
            }
        }
    }

    fn match_topics(&mut self, state: &State) {
        let excludes_internal = self.excludes_internal_topics;
        let Interest::Pattern { pattern, matching, attempt } = &mut self.interest else { return };
        let is_late = matching.is_none() && (state.attempts < *attempt || state.error.is_some());
        if is_late {
            return;
        }
        let topics = state.metadata.topics.iter().filter(|(name, topic)| {
            let is_visible = !(excludes_internal && topic.is_internal);
            is_visible && topic.error == ErrorCode::None && pattern.is_match(name)
        });
        let topics: BTreeSet<ByteString> = topics.map(|(name, _)| name.clone()).collect();
        if matching.as_ref() != Some(&topics) {
            *matching = Some(topics.clone());
            self.step(Input::Subscribe(topics));
        }
    }
}
