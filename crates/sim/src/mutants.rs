//! The bugs made by hand that the campaign has to find. `docs/simulation.md` lists them with what they are taken from.

/// Of the coordinator: what the switch is called there, and where such a bug was seen.
pub const COORDINATOR: &[(&str, &str)] = &[
    ("phantom-members", "KAFKA-7610: each join without an id makes a member"),
    ("static-not-replaced", "KAFKA-8500: two members of one name"),
    ("no-size-limit", "KAFKA-9844: group.max.size is overrun"),
    ("any-protocol", "members without a protocol in common"),
    ("abandoned-id-holds", "librdkafka #5569: an id that was forgotten holds the rebalance"),
    ("static-return-not-stored", "KAFKA-10284: the new id is not there after a failover"),
    ("static-return-gets-nothing", "KAFKA-9801: a return before the assignment"),
    ("static-evicted-by-rebalance", "KAFKA-8220: evicted by the rebalance timeout"),
    ("absent-leader-leads", "KAFKA-12890: a leader that is not there has to assign"),
    ("generation-stays", "a rebalance in the same generation"),
    ("sync-not-watched", "KAFKA-12890: a member that never syncs"),
    ("empty-group-not-stored", "a group that is empty has its members back after a failover"),
    ("heartbeat-of-any-generation", "KAFKA-9823: generations not compared"),
    ("heartbeat-hides-rebalance", "members do not hear of a rebalance"),
    ("leave-without-rebalance", "what a member leaves behind is nobody's"),
    ("leave-keeps-member", "KAFKA-17116: a leave without effect"),
    ("expiry-without-rebalance", "what a dead member had is nobody's"),
    ("anonymous-commit", "an operator's commit in a group that is alive"),
    ("commit-of-any-generation", "a zombie's commit is taken"),
    ("commit-while-completing", "a commit for what may be somebody else's"),
    ("timer-of-the-dead", "KAFKA-7196: the timer of a member that was removed"),
    ("generation-not-loaded", "generations begin anew after a failover"),
    ("unload-forgets-syncs", "KAFKA-18484: unloading leaves requests without an answer"),
    ("nobody-is-fenced", "a former static member goes on"),
    ("follower-does-not-wait", "nisshi #625: SyncGroup gives an empty assignment"),
    ("assignment-not-stored", "an assignment that a failover forgets"),
    ("deletion-not-stored", "Redpanda #4900: a deleted group is back"),
    ("unload-keeps-timers", "KAFKA-19064: timers run on after the unload"),
    ("replay-skips-tombstones", "deleted offsets are back after a failover"),
    ("topic-deletion-ignored", "KAFKA-15283: offsets of a topic that is gone stay"),
    ("marker-wins", "CORE-17000: live orders by marker, replay by record"),
    ("acknowledged-too-early", "KAFKA-20634: an acknowledged commit is lost"),
    ("refused-offset-stored", "KAFKA-16371: a partition that is refused leaves something"),
    ("read-offsets-deleted", "offsets of a live group are deleted"),
    ("offset-survives-its-group", "Redpanda #5163: a deletion forgets a key"),
    ("pending-not-shown", "KIP-447: an open transaction is not seen"),
    ("offset-of-another-topic", "KAFKA-19154: offsets of a topic of the same name"),
    ("read-offsets-expire", "KAFKA-4682: offsets of an idle consumer expire"),
    ("expiry-since-commit", "KAFKA-8069: expiry counted from the wrong time"),
    ("offsets-expire-in-rebalance", "KAFKA-13636: offsets expire in a long rebalance"),
    ("pending-offset-expires", "CORE-16998: an offset with an open transaction expires"),
    ("epoch-not-loaded", "KAFKA-10401: a field that one way of loading forgets"),
    ("late-join-wins", "KAFKA-20983: a late join fences its own live member"),
    ("fences-itself", "apache/kafka #23542: a static member fenced by its own name"),
];

/// Of the member.
pub const MEMBER: &[(&str, &str)] = &[
    ("reads-what-it-gives-up", "KAFKA-14196: fetching goes on in a revocation"),
    ("commits-ahead", "KAFKA-18641: commits what nobody has read"),
    ("commit-outlives-topic", "found here: a commit that waits is sent for the topic's successor"),
    ("position-outlives-topic", "KAFKA-15283: a position in a topic that is gone"),
    ("resets-to-latest", "records are skipped for want of an offset"),
    ("commits-what-it-lost", "librdkafka #1767: a stored offset survives the revocation"),
    ("error-is-no-offset", "KAFKA-20765: an error is taken for no offset"),
    ("moves-not-held-back", "KAFKA-12984: a partition moves straight from member to member"),
    ("unborn-topic-forgotten", "found here: a topic that comes into being later is nobody's"),
    ("keeps-what-moved", "KAFKA-13419: keeps what was given to another"),
    ("keeps-after-missed-generation", "KAFKA-14639: stale owned partitions"),
    ("id-not-adopted", "KIP-394 without its second half"),
    ("leader-ignores-topics", "KAFKA-13435: partitions that were added are nobody's"),
    ("loss-not-told", "librdkafka #5604: the application does not hear of the loss"),
    ("closes-without-leaving", "KAFKA-17116: others wait for a session"),
    ("no-heartbeats", "a session that ends although the member is there"),
    ("unknown-id-kept", "KAFKA-9140: joins with an id that is gone, for ever"),
    ("rebalance-not-heard", "KAFKA-8104: a rebalance that a member takes no part in"),
    ("silence-not-noticed", "KAFKA-10793: a coordinator that is gone is waited for"),
    ("lookup-not-retried", "KAFKA-13563: a lookup that failed is waited for"),
];

/// Gives this thread's machines a bug; none if the name is empty.
#[cfg(kavka_mutants)]
pub fn activate(name: &'static str) {
    kavka_coordinator::mutants::activate(name);
    kavka_member::mutants::activate(name);
}
