//! A group as others see it: operators, and the rules about its offsets.

use std::collections::BTreeSet;

use bytes::Bytes;
use kavka_protocol::{
    ByteString, DecodeError, ErrorCode, Message, Reader, messages::ConsumerProtocolSubscription,
};

use super::ClassicGroup;
use crate::group::{DescribedGroup, DescribedMember, GroupState, ListedGroup};

/// The protocol type of consumers.
const CONSUMER: &str = "consumer";

impl ClassicGroup {
    pub(crate) fn describe(&self) -> DescribedGroup {
        let stable = self.state == GroupState::Stable;
        let protocol = self.protocol.clone().filter(|_| stable).unwrap_or_default();
        DescribedGroup {
            error: ErrorCode::None,
            group: self.id.clone(),
            state: self.state,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol_name: protocol.clone(),
            members: self
                .members
                .iter()
                .map(|(id, member)| DescribedMember {
                    member_id: id.clone(),
                    instance_id: member.instance_id.clone(),
                    client_id: member.client_id.clone(),
                    client_host: member.client_host.clone(),
                    metadata: if stable { member.metadata(&protocol) } else { Bytes::new() },
                    // Also during a rebalance: it is what the member still works on.
                    assignment: member.assignment.clone(),
                })
                .collect(),
        }
    }

    pub(crate) fn list(&self) -> ListedGroup {
        ListedGroup {
            group: self.id.clone(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            state: self.state,
            group_type: "classic",
        }
    }

    /// Whether members read what the assignors of consumers wrote.
    pub(crate) fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// Nobody ever joined: offsets of consumers that assign themselves, or of an operator.
    pub(crate) fn is_simple(&self) -> bool {
        self.protocol_type.is_none()
    }

    pub(crate) fn state_timestamp_ms(&self) -> i64 {
        self.state_timestamp_ms
    }

    /// What the members of this generation subscribe to, in order; `None` if that cannot be told: no consumers, no generation yet, or a
    /// subscription that is not understood.
    pub(crate) fn subscribed_topics(&self) -> Option<&[ByteString]> {
        self.subscribed.as_deref()
    }

    /// What the members subscribe to as they are now, in order.
    pub(crate) fn current_subscriptions(&self) -> Option<Box<[ByteString]>> {
        if !self.is_of_consumers() {
            return None;
        }
        if self.members.is_empty() {
            return Some(Box::default());
        }
        let protocol = self.protocol.as_ref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscription_topics(&member.metadata(protocol)).ok()??);
        }
        Some(topics.into_iter().collect())
    }
}

/// The topics of a consumer's subscription. A version newer than this code is read as the newest that it knows, as consumers do
/// among themselves; `None` if there is no version at all.
fn subscription_topics(metadata: &Bytes) -> Result<Option<Vec<ByteString>>, DecodeError> {
    let Some(version) = metadata.first_chunk::<2>().map(|bytes| i16::from_be_bytes(*bytes)) else {
        return Ok(None);
    };
    let newest = *ConsumerProtocolSubscription::VERSIONS.end();
    let mut reader = Reader::new(metadata.slice(2..));
    let subscription = ConsumerProtocolSubscription::decode(&mut reader, version.min(newest))?;
    Ok(Some(subscription.topics))
}
