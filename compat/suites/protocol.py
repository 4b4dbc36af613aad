"""Users of the group protocol beyond plain consumers: static members that are restarted, cooperative rebalancing."""

import time

from lib.checks import Skip, check, equal, wait_until
from lib.clients import Client, ClientError
from lib.install import Missing
from lib.scenes import is_share, load_log, unique, wait_shared

# So long that nobody is given up while it is restarted.
SESSION_TIMEOUT_MS = 45_000
UNKNOWN_MEMBER_ID = 25


class Suite:
    def __init__(self, broker, report):
        self.broker, self.report = broker, report
        self.admin = Client("confluent-kafka", broker.bootstrap)
        self.admin.call("open_admin")
        self.admin.call("open_producer")

    def topic(self, partitions):
        name = unique("t-protocol")
        self.admin.call("create_topic", topic=name, partitions=partitions, configs={})
        return name

    def member(self, group, topic, log, **options):
        client = Client("confluent-kafka", self.broker.bootstrap)
        client.call("open_consumer", group=group, session_timeout_ms=SESSION_TIMEOUT_MS, **options)
        client.call("subscribe", topic=topic)
        client.start("consume_load", log=str(log.path))
        return client

    def rebalances(self, group):
        """How many rebalances of the group the broker's log tells of; Kavka and Apache Kafka use the same words."""
        if not self.broker.data_dir:
            return None
        server_log = self.broker.data_dir / "server.log"
        log = server_log if server_log.exists() else self.broker.log
        count = log.read_text(errors="replace").count(f"Preparing to rebalance group {group} ")
        check(count > 0, f"no rebalance of {group} in {log}")
        return count

    def produce(self, topic, partitions, label):
        """One record to each partition."""
        self.admin.call("open_producer")
        self.admin.produce([{"topic": topic, "partition": p, "value": f"{label}-{p}".encode()} for p in range(partitions)])


def rolling_restart_of_five_static_members(s):
    """Each is killed and started again; the others keep what they have, and nobody is given anything new."""
    count, group = 5, unique("g-protocol-static")
    topic = s.topic(count)
    logs = [load_log(f"static-{i}") for i in range(count)]
    members = [s.member(group, topic, logs[i], instance=f"worker-{i}") for i in range(count)]
    wait_shared(logs, count, timeout=60)
    # A group that has just been made may rebalance once more for the last that joined.
    time.sleep(3)
    shares = [log.read().assignment for log in logs]
    changes = [len(log.assignments) for log in logs]
    begun = s.rebalances(group)
    try:
        for i in range(count):
            members[i].kill9()
            logs[i] = load_log(f"static-again-{i}")
            members[i] = s.member(group, topic, logs[i], instance=f"worker-{i}")
            wait_until(lambda i=i: logs[i].read().assignment == shares[i], 40, lambda i=i: f"worker-{i} has {shares[i]} again: {logs[i].assignment}")
            changes[i] = len(logs[i].assignments)
            s.produce(topic, count, f"round-{i}")
            wait_until(lambda i=i: all(any(v.startswith(f"round-{i}-") for _, _, v in log.read().records) for log in logs), 30, f"each reads on after restart {i}")
            equal([len(log.read().assignments) for log in logs], changes, f"changes of assignment after restart {i}")
            equal(s.rebalances(group), begun, f"rebalances that the broker tells of after restart {i}")
    finally:
        for member in members:
            member.kill9()


def cooperative_sticky_partitions_that_do_not_move_never_stop(s):
    partitions, group = 6, unique("g-protocol-cooperative")
    topic = s.topic(partitions)
    logs, members = [], []
    try:
        for i in range(3):
            logs.append(load_log(f"cooperative-{i}"))
            members.append(s.member(group, topic, logs[i], assignor="cooperative-sticky"))
            before = [len(log.read().assignments) for log in logs[:-1]]
            wait_until(lambda: is_share([log.read().assignment for log in logs], partitions), 60, lambda: f"shared by {len(logs)}: {[log.assignment for log in logs]}")
            s.produce(topic, partitions, f"with-{i}")
            wait_until(lambda i=i: sum(v.startswith(f"with-{i}-") for log in logs for _, _, v in log.read().records) >= partitions, 30, f"all read by {len(logs)}")
            for log, seen in zip(logs[:-1], before, strict=True):
                kept = set(log.assignment)
                check(kept, "everyone keeps something")
                # Never without what it has in the end, not for a moment of the rebalance.
                lost = [a for a in log.assignments[max(seen - 1, 0) :] if not kept <= set(a)]
                check(not lost, f"a member that keeps {kept} had only {lost} for a while")
        records = sorted(v for log in logs for _, _, v in log.records)
        equal(records, sorted(f"with-{i}-{p}" for i in range(3) for p in range(partitions)), "each record once")
    finally:
        for member in members:
            member.kill9()


def static_members_are_removed_by_an_admin(s):
    """The broker would keep the place of a dead static member for its session timeout; an admin gives it away at once."""
    try:
        java = Client("java", s.broker.bootstrap)
    except Missing as reason:
        raise Skip(str(reason)) from reason
    count, group = 3, unique("g-protocol-removed")
    topic = s.topic(count)
    logs = [load_log(f"removed-{i}") for i in range(count)]
    members = [s.member(group, topic, logs[i], instance=f"worker-{i}") for i in range(count)]
    try:
        java.call("open_admin")
        wait_shared(logs, count, timeout=60)
        try:
            java.call("remove_members", group=group, instances=["worker-9"])
            raise AssertionError("a member that the group does not have was removed")
        except ClientError as error:
            equal(error.code, UNKNOWN_MEMBER_ID, f"code of {error}")

        members[0].kill9()
        begun = time.monotonic()
        java.call("remove_members", group=group, instances=["worker-0"])
        wait_shared(logs[1:], count, timeout=30)
        taken = time.monotonic() - begun
        check(taken < SESSION_TIMEOUT_MS / 1000 / 2, f"the others took over only after {taken:.0f} s")

        for member in members[1:]:
            member.kill9()
        equal(len(java.call("describe_group", group=group)["members"]), 2, "dead members that the group still has")
        java.call("remove_members", group=group, instances=[])
        equal(java.call("describe_group", group=group), {"state": "empty", "members": []}, "the group without members")
    finally:
        for client in [*members, java]:
            client.kill9()
    return f"taken over after {taken:.1f} s"


SCENARIOS = [rolling_restart_of_five_static_members, cooperative_sticky_partitions_that_do_not_move_never_stop, static_members_are_removed_by_an_admin]


def run(broker, report):
    suite = Suite(broker, report)
    for scenario in SCENARIOS:
        report.test(f"protocol: {scenario.__name__.replace('_', ' ')}", lambda scenario=scenario: scenario(suite), timeout=300)
    suite.admin.close()
