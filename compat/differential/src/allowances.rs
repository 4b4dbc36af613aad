//! The differences that are meant, each as narrow as it can be told, and each explained in `docs/differences.md`.

use kavka_protocol::{Uuid, json::Value};

use crate::{
    compare::Difference,
    pair::{HELD, WHETHER_ANSWERED},
};

/// A difference that is meant.
#[derive(Debug)]
pub(crate) struct Allowance {
    /// The name under which `docs/differences.md` explains it.
    pub(crate) name: &'static str,
    /// From there on the brokers need different requests.
    pub(crate) parts_ways: bool,
    covers: fn(&Difference) -> bool,
}

/// All of them.
pub(crate) static ALLOWANCES: &[Allowance] = &[
    Allowance {
        name: "error-texts",
        parts_ways: false,
        covers: |d| {
            let told = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
            d.path.ends_with(".errorMessage") && told(&d.kavka)
        },
    },
    Allowance {
        name: "sync-of-a-member-that-left",
        parts_ways: false,
        covers: |d| {
            (d.api.as_str(), d.path.as_str()) == ("SyncGroup", WHETHER_ANSWERED)
                && d.apache == HELD
                && d.kavka["errorCode"] == UNKNOWN_MEMBER_ID
        },
    },
    Allowance {
        name: "sent-again-while-parked",
        parts_ways: false,
        covers: |d| {
            matches!(d.api.as_str(), "JoinGroup" | "SyncGroup")
                && d.path == WHETHER_ANSWERED
                && d.apache == HELD
                && d.kavka["errorCode"] == REBALANCE_IN_PROGRESS
        },
    },
    Allowance {
        name: "instance-id-on-a-pending-member",
        parts_ways: false,
        covers: |d| {
            d.api == "JoinGroup"
                && d.answers[0]["errorCode"] == UNKNOWN_SERVER_ERROR
                && (d.answers[1]["errorCode"] == UNKNOWN_MEMBER_ID
                    || d.answers[1]["errorCode"] == FENCED_INSTANCE_ID)
                && matches!(d.path.as_str(), ".errorCode" | ".memberId")
        },
    },
    Allowance {
        name: "full-group-with-absent-static-members",
        parts_ways: true,
        covers: |d| {
            let goes_on = d.answers[0] == HELD
                || OTHER_REFUSALS.contains(&d.answers[0]["errorCode"].as_i64().unwrap_or_default());
            d.api == "JoinGroup"
                && goes_on
                && d.answers[1]["errorCode"] == GROUP_MAX_SIZE_REACHED
                && matches!(d.path.as_str(), ".errorCode" | ".memberId" | WHETHER_ANSWERED)
        },
    },
    Allowance {
        name: "topic-configs-of-another-version",
        parts_ways: false,
        covers: |d| {
            let config = d.path.strip_prefix(".topics[].configs.").unwrap_or_default();
            d.api == "CreateTopics"
                && matches!(
                    config,
                    "errors.deadletterqueue.group.enable"
                        | "max.decompressed.message.bytes"
                        | "remote.copy.lag.bytes"
                        | "remote.copy.lag.ms"
                        | "min.insync.replicas.configSource"
                )
        },
    },
    Allowance {
        name: "id-of-a-topic-that-was-only-validated",
        parts_ways: false,
        covers: |d| {
            (d.api.as_str(), d.path.as_str()) == ("CreateTopics", ".topics[].topicId")
                && d.kavka == Uuid::ZERO.to_string()
        },
    },
    Allowance {
        name: "metadata-of-no-topic",
        parts_ways: false,
        covers: |d| {
            let (apache, kavka) = (&d.answers[0]["topics"][0], &d.answers[1]["topics"][0]);
            d.api == "Metadata"
                && apache["errorCode"] == UNKNOWN_SERVER_ERROR
                && kavka["errorCode"] == INVALID_REQUEST
                && matches!(
                    d.path.as_str(),
                    ".errorCode" | ".topics[].errorCode" | ".topics[].name"
                )
        },
    },
    Allowance {
        name: "append-time-of-a-duplicate",
        parts_ways: false,
        covers: |d| {
            d.api == "Produce"
                && d.path == ".responses[].partitionResponses[].logAppendTimeMs"
                && d.apache.as_i64() > Some(0)
                && d.kavka == -1
        },
    },
    Allowance {
        name: "log-start-offset-of-a-refusal",
        parts_ways: false,
        covers: |d| {
            let refused = |answer: &Value| {
                answer["responses"][0]["partitionResponses"][0]["errorCode"].as_i64() != Some(0)
            };
            d.api == "Produce"
                && d.path == ".responses[].partitionResponses[].logStartOffset"
                && d.kavka == -1
                && d.answers.iter().all(refused)
        },
    },
];

const INVALID_REQUEST: i64 = 42;
/// `INCONSISTENT_GROUP_PROTOCOL`, `UNKNOWN_MEMBER_ID`, `MEMBER_ID_REQUIRED`, `FENCED_INSTANCE_ID`.
const OTHER_REFUSALS: [i64; 4] = [23, 25, 79, 82];
const GROUP_MAX_SIZE_REACHED: i64 = 81;
const UNKNOWN_SERVER_ERROR: i64 = -1;
const FENCED_INSTANCE_ID: i64 = 82;
const UNKNOWN_MEMBER_ID: i64 = 25;
const REBALANCE_IN_PROGRESS: i64 = 27;

/// The allowance that covers a difference.
pub(crate) fn find(difference: &Difference) -> Option<&'static Allowance> {
    ALLOWANCES.iter().find(|allowance| (allowance.covers)(difference))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_allowance_is_explained_and_nothing_else_is() {
        let page = include_str!("../../../docs/differences.md");
        let explained: Vec<_> = page
            .lines()
            .filter_map(|line| line.strip_prefix("### `").and_then(|rest| rest.strip_suffix('`')))
            .collect();
        let allowed: Vec<_> = ALLOWANCES.iter().map(|allowance| allowance.name).collect();
        assert_eq!(explained, allowed);
    }

    #[test]
    fn every_known_difference_that_is_shown_is_explained() {
        let page = include_str!("../../../docs/differences.md");
        for name in crate::scripts::KNOWN {
            assert!(page.contains(&format!(" (`{name}`)")), "{name}");
        }
    }
}
