//! Sequences that are written down: one for each table of rules.
//!
//! A script says what is sent, not what is answered: what Apache Kafka answers is right.

mod data;
mod groups;
mod offsets;
mod stage;

pub(crate) use self::stage::Stage;

/// A script and its name.
pub(crate) type Script = (&'static str, fn(&mut Stage<'_>) -> anyhow::Result<()>);

pub(crate) static SCRIPTS: &[Script] = &[
    ("join-refusals", groups::join_refusals),
    ("join-every-version", groups::join_every_version),
    ("join-of-a-known-member", groups::join_of_a_known_member),
    ("join-full-group", groups::join_full_group),
    ("static-replacement", groups::static_replacement),
    ("static-replacement-of-a-leader", groups::static_replacement_of_a_leader),
    ("sync", groups::sync),
    ("heartbeat", groups::heartbeat),
    ("leave", groups::leave),
    ("session-timeouts", groups::session_timeouts),
    ("describe-and-list", groups::describe_and_list),
    ("find-coordinator", groups::find_coordinator),
    ("generic-protocol-type", groups::generic_protocol_type),
    ("commit-simple", offsets::commit_simple),
    ("commit-of-members", offsets::commit_of_members),
    ("commit-every-version", offsets::commit_every_version),
    ("fetch-every-version", offsets::fetch_every_version),
    ("delete-offsets", offsets::delete_offsets),
    ("delete-groups", offsets::delete_groups),
    ("deleted-topic", offsets::deleted_topic),
    ("metadata", data::metadata),
    ("create-and-delete-topics", data::create_and_delete_topics),
    ("produce", data::produce),
    ("list-offsets", data::list_offsets),
    ("leader-epochs", data::leader_epochs),
    ("producer-ids", data::producer_ids),
    ("configs", data::configs),
];
