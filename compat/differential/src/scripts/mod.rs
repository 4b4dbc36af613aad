//! Sequences that are written down: one for each table of rules.
//!
//! A script says what is sent, not what is answered: what Apache Kafka answers is right.

mod data;
mod delayed;
mod groups;
mod known;
mod offsets;
mod stage;

#[cfg(test)]
pub(crate) use self::known::NAMES as KNOWN;
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
    ("known-refused-join", known::refused_join),
    ("known-refused-commit", known::refused_commit),
    ("known-id-that-leaves-unused", known::id_that_leaves_unused),
    ("known-static-member-of-a-full-group", known::static_member_of_a_full_group),
    ("known-described-static-member", known::described_static_member),
    ("known-second-id", known::second_id),
    ("known-member-too-large", known::member_too_large),
];

/// Scripts for brokers whose groups wait for members before the first generation.
pub(crate) static DELAYED_SCRIPTS: &[Script] = &[
    ("delayed-members-that-come-in-time", delayed::members_that_come_in_time),
    ("delayed-each-new-member-is-waited-for-anew", delayed::each_new_member_is_waited_for_anew),
    ("delayed-no-longer-than-the-rebalance-timeout", delayed::no_longer_than_the_rebalance_timeout),
    ("delayed-leaving-in-time", delayed::leaving_in_time),
    (
        "delayed-static-member-that-comes-back-in-time",
        delayed::static_member_that_comes_back_in_time,
    ),
];
