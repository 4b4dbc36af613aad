"""One client against a broker, scenario by scenario; the same for every client that has a driver."""

import time

from lib import clients, install, wire
from lib.checks import Skip, check, equal, some, wait_until
from lib.clients import Client, ClientError
from lib.scenes import ask_committed, check_contiguous, check_load, collect, load_log, read_topic, unique, wait_shared

TOPIC_ALREADY_EXISTS, UNKNOWN_TOPIC, INVALID_PARTITIONS, INVALID_CONFIG, INVALID_TOPIC, OUT_OF_RANGE = 36, 3, 37, 40, 17, 1


class Suite:
    def __init__(self, broker, kind, report):
        self.broker, self.kind, self.report = broker, kind, report
        self.open = []
        self.main = None

    def run(self):
        for scenario in SCENARIOS:
            name = f"{self.kind}: {scenario.__name__.replace('_', ' ')}"
            if scenario in NEED_CONTROL and not self.broker.controllable:
                self.report.skip(name, "this broker is not ours to restart")
                continue
            fine = self.report.test(name, lambda scenario=scenario: scenario(self), timeout=150)
            # A client that a failure left half way is not reused.
            for client in self.open if not fine else [c for c in self.open if c is not self.main]:
                client.kill9()
            self.open = [self.main] if fine and self.main else []
            self.main = self.main if fine else None
            if self.broker.controllable and not self.broker.alive():
                self.broker.start()
        for client in self.open:
            client.close()

    def client(self, kind=None):
        client = Client(kind or self.kind, self.broker.bootstrap)
        self.open.append(client)
        return client

    def shared(self):
        """One process for the scenarios that need no second one, with its admin part open."""
        if self.main is None:
            self.main = self.client()
            self.main.call("open_admin")
        return self.main

    def topic(self, partitions=1, configs=None):
        name = unique(f"t-{self.kind}")
        self.shared().call("create_topic", topic=name, partitions=partitions, configs=configs or {})
        return name

    def reader(self, client, assign=None, **options):
        client.call("open_consumer", group=unique(f"g-{self.kind}"), **options)
        if assign:
            client.call("assign", partitions=assign)

    def produce_values(self, topic, partition, values, **fields):
        c = self.shared()
        c.call("open_producer")
        return c.produce([{"topic": topic, "partition": partition, "value": v.encode(), **fields} for v in values])


def next_kind(kind):
    """The client that reads what this one wrote; one that can be had here."""
    kinds = clients.KINDS[clients.KINDS.index(kind) + 1 :] + clients.KINDS
    try:
        install.java_driver()
    except install.Missing:
        kinds = [k for k in kinds if k != "java"]
    return kinds[0]


def codecs(s):
    """Each codec: written by this client, stored so, read by this client and by the next one."""
    c = s.shared()
    other = s.client(next_kind(s.kind))
    names = c.call("info")["codecs"]
    for codec in names:
        topic = s.topic()
        sent = [{"topic": topic, "partition": 0, "key": f"key-{i}".encode(), "value": f"{codec} {i} ".encode() * 20} for i in range(300)]
        c.call("open_producer", compression=codec)
        places = c.produce(sent)
        equal(places, [[0, i] for i in range(300)], f"{codec}: acknowledged places")
        for reader in (c, other):
            s.reader(reader, [[topic, 0, 0]])
            got = collect(reader, 300)
            equal([(r["offset"], r["key"], r["value"]) for r in got], [(i, m["key"], m["value"]) for i, m in enumerate(sent)], f"{codec} read by {reader.kind}")
            reader.call("close_consumer")
        if s.broker.data_dir:
            found, count = wire.stored_codecs(wire.segments(s.broker.data_dir, topic, 0))
            equal((found, count), ({codec}, 300), f"{codec}: codecs and record count in the segment files")
    other.close()
    return f"{', '.join(names)}, also read by {other.kind}"


def headers_keys_and_timestamps(s):
    topic = s.topic()
    at = 1_600_000_000_123
    sent = [
        {"key": None, "value": b"no key"},
        {"key": b"k", "value": None},
        {"key": b"", "value": b""},
        {"key": "schlüssel".encode(), "value": bytes(range(256))},
        {"key": b"h", "value": b"headers", "headers": [("a", b"1"), ("b", b""), ("a", b"2"), ("null", None), ("näme", b"\x00\xff")]},
        {"key": b"big", "value": b"x" * 500_000},
    ]
    for i, r in enumerate(sent):
        r.update(topic=topic, partition=0, timestamp=at + i * 1000)
    c = s.shared()
    note = None
    if "null header" in c.call("info").get("cannot", []):
        sent[4]["headers"].remove(("null", None))
        note = "without a null header, which this client refuses to send"
    c.call("open_producer")
    c.produce(sent)
    s.reader(c, [[topic, 0, 0]])
    got = collect(c, len(sent))
    c.call("close_consumer")
    fields = ("key", "value", "timestamp")
    equal([[r[f] for f in fields] for r in got], [[r[f] for f in fields] for r in sent], "keys, values, timestamps")
    equal([r["headers"] for r in got], [r.get("headers", []) for r in sent], "headers")
    equal({r["timestamp_type"] for r in got}, {"create"}, "timestamp types")
    return note


def log_append_time(s):
    topic = s.topic(configs={"message.timestamp.type": "LogAppendTime"})
    before = int(time.time() * 1000)
    s.produce_values(topic, 0, ["a", "b"], timestamp=1_600_000_000_000)
    after = int(time.time() * 1000)
    c = s.shared()
    s.reader(c, [[topic, 0, 0]])
    got = collect(c, 2)
    c.call("close_consumer")
    equal({r["timestamp_type"] for r in got}, {"append"}, "timestamp types")
    check(all(before <= r["timestamp"] <= after for r in got), f"timestamps {[r['timestamp'] for r in got]} not within {before}..{after}")


def offsets_by_time_and_ends(s):
    topic = s.topic(2)
    c = s.shared()
    c.call("open_producer")
    at = 1_600_000_000_000
    # In batches of ten, each a second apart, then a batch that is older than its predecessors.
    for batch in range(10):
        c.produce([{"topic": topic, "partition": 0, "value": b"v", "timestamp": at + (batch * 10 + i) * 1000} for i in range(10)])
    c.produce([{"topic": topic, "partition": 0, "value": b"v", "timestamp": at + t} for t in (5_000, 200_000, 150_000, 300_000)])
    s.reader(c)
    ask = lambda what, partition=0, **more: c.call(what, topic=topic, partition=partition, **more)  # noqa: E731
    found = {
        "beginning": ask("beginning_offset"),
        "end": ask("end_offset"),
        "beginning of the empty one": ask("beginning_offset", 1),
        "end of the empty one": ask("end_offset", 1),
    }
    times = [0, at, at + 1, at + 49_500, at + 50_000, at + 99_000, at + 99_001, at + 200_000, at + 200_001, at + 300_000, at + 300_001]
    for t in times:
        found[f"at {t - at:+}"] = ask("offset_for_time", timestamp=t)
    found["in the empty one"] = ask("offset_for_time", 1, timestamp=at)
    c.call("close_consumer")
    expected = [0, 104, 0, 0, 0, 0, 1, 50, 50, 99, 101, 101, 103, 103, None, None]
    equal(found, dict(zip(found, expected, strict=True)), "offsets")


def seek_and_position(s):
    topic = s.topic(2)
    for p in (0, 1):
        s.produce_values(topic, p, [f"{p}-{i}" for i in range(50)])
    c = s.shared()
    s.reader(c, [[topic, 0, 0], [topic, 1, 0]])
    got = collect(c, 100)
    equal(sorted((r["partition"], r["offset"]) for r in got), [(p, o) for p in (0, 1) for o in range(50)], "both partitions")
    c.call("seek", topic=topic, partition=0, offset=40)
    equal([(r["partition"], r["offset"]) for r in collect(c, 10)], [(0, o) for o in range(40, 50)], "after a seek to 40")
    equal(c.call("position", topic=topic, partition=0), 50, "position")
    c.call("close_consumer")


def pause_and_resume(s):
    # In a consumer that never sought: kafka-python 3.0.12 gets nothing after seek, pause and resume of a partition.
    topic = s.topic(2)
    c = s.shared()
    for p in (0, 1):
        s.produce_values(topic, p, [f"{p}-{i}" for i in range(50)])
    s.reader(c, [[topic, 0, 0], [topic, 1, 0]])
    collect(c, 100)
    c.call("pause", topic=topic, partition=0)
    for p in (0, 1):
        s.produce_values(topic, p, [f"more-{p}-{i}" for i in range(10)])
    got = collect(c, 10)
    for _ in range(4):
        got += c.poll(0.25)
    equal([(r["partition"], r["offset"]) for r in got], [(1, o) for o in range(50, 60)], "while partition 0 is paused")
    c.call("resume", topic=topic, partition=0)
    equal([(r["partition"], r["offset"]) for r in collect(c, 10)], [(0, o) for o in range(50, 60)], "after resume")
    # A long poll sees what is produced while it waits.
    begun = time.monotonic()
    s.produce_values(topic, 1, ["late"])
    equal([r["value"] for r in collect(c, 1)], [b"late"], "produced while a fetch waits")
    check(time.monotonic() - begun < 5, f"a record took {time.monotonic() - begun:.1f} s to a waiting consumer")
    c.call("close_consumer")


def commit_and_committed(s):
    topic, group = s.topic(2), unique(f"g-{s.kind}")
    s.produce_values(topic, 0, [f"{i}" for i in range(100)])
    c = s.shared()
    c.call("open_consumer", group=group)
    c.call("subscribe", topic=topic)
    collect(c, 100)
    equal(c.call("committed", partitions=[[topic, 0], [topic, 1]]), [None, None], "before a commit")
    c.call("commit", offsets=[[topic, 0, 40]])
    equal(c.call("committed", partitions=[[topic, 0], [topic, 1]]), [40, None], "after a commit of 40")
    c.call("commit", offsets=[[topic, 0, 30], [topic, 1, 0]])
    equal(c.call("committed", partitions=[[topic, 0], [topic, 1]]), [30, 0], "after a commit of 30 and 0")
    c.call("close_consumer")
    c.call("open_consumer", group=group)
    c.call("subscribe", topic=topic)
    equal([r["offset"] for r in collect(c, 70)], list(range(30, 100)), "a new member starts at the commit")
    c.call("close_consumer")
    # Without membership.
    simple = unique(f"g-simple-{s.kind}")
    c.call("open_consumer", group=simple)
    c.call("assign", partitions=[[topic, 0, 0]])
    collect(c, 100)
    c.call("commit", offsets=[[topic, 0, 77]])
    c.call("close_consumer")
    c.call("open_consumer", group=simple)
    equal(c.call("committed", partitions=[[topic, 0]]), [77], "committed without membership")
    c.call("close_consumer")


def idempotent_producer(s):
    topic = s.topic(3)
    c = s.shared()
    for round_ in range(2):
        c.call("open_producer", idempotence=True)
        for batch in range(5):
            places = c.produce([{"topic": topic, "partition": i % 3, "value": f"x {round_} {batch} {i}".encode()} for i in range(300)])
            equal(sorted(places), [[p, (round_ * 5 + batch) * 100 + o] for p in range(3) for o in range(100)], f"places of batch {batch}")
    stored = read_topic(s.broker, topic, 3)
    check_contiguous(stored, topic)
    expected = {p: [f"x {r} {b} {i}" for r in range(2) for b in range(5) for i in range(p, 300, 3)] for p in range(3)}
    for p in range(3):
        equal([value for _, value in stored[p]], expected[p], f"partition {p}")


def start_group(s, topic, group, partitions, members=3):
    """Members in processes of their own, each with its log, once they share the partitions."""
    found = []
    for _ in range(members):
        c, log = s.client(), load_log(f"group-{s.kind}")
        c.call("open_consumer", group=group)
        c.call("subscribe", topic=topic)
        c.start("consume_load", log=str(log.path))
        found.append((c, log))

    wait_shared([log for _, log in found], partitions)
    return found


def seen(logs):
    return [record for log in logs for record in log.read().records]


def wait_seen(logs, places, what, timeout=40):
    wait_until(lambda: places <= {(p, o) for p, o, _ in seen(logs)}, timeout, lambda: f"{what}: not seen {some(places - {(p, o) for p, o, _ in seen(logs)})}")


def group_of_three_and_kill_9_of_a_member(s):
    partitions, topic, group = 6, s.topic(6), unique(f"g-{s.kind}")
    c = s.shared()
    c.call("open_producer")
    members = start_group(s, topic, group, partitions)
    logs = [log for _, log in members]

    def produce(label):
        return {tuple(x) for x in c.produce([{"topic": topic, "partition": i % 6, "value": f"{label}-{i}".encode()} for i in range(1200)])}

    first = produce("before")
    wait_seen(logs, first, "before the kill")
    records = [(p, o) for p, o, _ in seen(logs)]
    equal(sorted(records), sorted(first), "each record once while the group is stable")
    for log in logs:
        strangers = {p for p, _, _ in log.records} - set(log.assignment)
        check(not strangers, f"a member with {log.assignment} got records of {strangers}")

    victim, victim_log = members.pop()
    orphans = set(victim_log.assignment)
    victim.kill9()
    second = produce("after")
    begun = time.monotonic()
    wait_seen(logs, second, "after kill -9 of a member")
    takeover = time.monotonic() - begun
    survivors = [log for _, log in members]
    wait_shared(survivors, partitions)
    check(orphans <= {p for log in survivors for p in log.assignment}, f"{orphans} were not taken over")
    # What the victim had committed is not handed out again; what it had not may be.
    committed = {p: victim_log.read().commits.get(p, 0) for p in orphans}
    again = [(p, o) for log in survivors for p, o, _ in log.records if p in orphans and o < committed[p]]
    check(not again, f"handed out again although committed: {some(again)}")

    for member, _ in members:
        member.finish()
        member.call("close_consumer")
    c.call("open_consumer", group=group)
    equal(c.call("committed", partitions=[[topic, p] for p in range(6)]), [400] * 6, "committed at the end")
    c.call("close_consumer")
    return f"took over {takeover:.1f} s after the kill"


def restart_under_load(s, idempotence):
    partitions, topic, group, name = 4, s.topic(4), unique(f"g-{s.kind}"), f"load-{s.kind}"
    # Asked of one client that tells every error: aiokafka 0.14 takes a coordinator that still loads for "nothing committed".
    watcher = s.client("confluent-kafka")
    watcher.call("open_consumer", group=group)
    producer, sent = s.client(), load_log(f"produce-{s.kind}")
    producer.call("open_producer", idempotence=idempotence, acks="all")
    consumer, got = s.client(), load_log(f"consume-{s.kind}")
    consumer.call("open_consumer", group=group)
    consumer.call("subscribe", topic=topic)
    consumer.start("consume_load", log=str(got.path))
    producer.start("produce_load", topic=topic, partitions=partitions, name=name, rate=1000, log=str(sent.path))

    def more(count):
        goal = len(sent.read().acks) + count
        wait_until(lambda: len(sent.read().acks) >= goal, 40, lambda: f"{goal} acknowledged; {len(sent.acks)} are")

    for end in (s.broker.stop, s.broker.kill9, s.broker.kill9):
        more(500)
        committed_before = dict(got.read().commits)
        end()
        time.sleep(0.3)
        s.broker.start()
        committed = ask_committed(watcher, topic, partitions)
        back = [(p, at, committed[p]) for p, at in committed_before.items() if (committed[p] or 0) < at]
        check(not back, f"(partition, acknowledged commit, committed after the restart) went back: {back}")
    more(500)
    counts = producer.finish()
    equal(counts["failed"], 0, f"records the producer gave up on ({counts}, {sent.read().failures[:3]})")
    equal(counts["acked"], counts["sent"], "acknowledged records against sent ones")
    stored = read_topic(s.broker, topic, partitions)
    check_contiguous(stored, topic)
    duplicates = check_load(stored, name, sent.read().acks, idempotence)
    places = {(p, o) for p, records in stored.items() for o, _ in records}
    wait_seen([got], places, "every stored record seen by the group", 60)
    wrong = [(p, o, v) for p, o, v in got.records if stored[p][o] != (o, v)]
    check(not wrong, f"the group was handed what is not stored: {some(wrong)}")
    ends = [len(stored[p]) for p in range(partitions)]
    wait_until(lambda: ask_committed(watcher, topic, partitions) == ends, 20, lambda: f"committed {ask_committed(watcher, topic, partitions)}, end offsets {ends}", 0.5)
    consumer.finish()
    consumer.call("close_consumer")
    return f"{len(sent.acks)} acknowledged, {duplicates} duplicates, {len(got.records) - len(places)} handed out again"




def restart_under_load_acks_all(s):
    return restart_under_load(s, idempotence=False)


def restart_under_load_idempotent(s):
    return restart_under_load(s, idempotence=True)


def fails(code, call, what):
    try:
        call()
    except ClientError as error:
        equal(error.code, code, f"error code of {what} ({error})")
        return
    raise AssertionError(f"{what} did not fail")


def admin(s):
    c = s.shared()
    topic = s.topic(2, {"retention.ms": "3600000"})

    def count():
        try:
            return c.call("partition_count", topic=topic)
        except ClientError as error:
            # Creation is answered before every client's metadata shows it.
            equal(error.code, UNKNOWN_TOPIC, f"error code of describing a new topic ({error})")
            return None

    fails(TOPIC_ALREADY_EXISTS, lambda: c.call("create_topic", topic=topic, partitions=1, configs={}), "creating it twice")
    fails(INVALID_TOPIC, lambda: c.call("create_topic", topic="no/slash", partitions=1, configs={}), "a bad name")
    fails(INVALID_CONFIG, lambda: c.call("create_topic", topic=unique("t"), partitions=1, configs={"no.such.setting": "1"}), "an unknown setting")
    wait_until(lambda: count() == 2, 10, lambda: f"2 partitions, {count()} found")
    c.call("create_partitions", topic=topic, total=5)
    wait_until(lambda: count() == 5, 10, lambda: f"5 partitions, {count()} found")
    fails(INVALID_PARTITIONS, lambda: c.call("create_partitions", topic=topic, total=3), "fewer partitions")
    s.produce_values(topic, 4, ["in a new partition"])

    cluster = c.call("describe_cluster")
    host, port = s.broker.bootstrap.rsplit(":", 1)
    check([host, int(port)] in [[h, p] for _, h, p in cluster["brokers"]], f"{s.broker.bootstrap} not in {cluster}")
    check(cluster["cluster_id"], f"no cluster id in {cluster}")
    check(cluster["controller"] in [b for b, _, _ in cluster["brokers"]], f"the controller is no broker: {cluster}")

    setting = lambda: c.call("describe_configs", topic=topic)["retention.ms"]  # noqa: E731
    equal(setting(), {"value": "3600000", "default": False}, "retention.ms as created")
    c.call("alter_config", topic=topic, name="retention.ms", value="7200000")
    wait_until(lambda: setting() == {"value": "7200000", "default": False}, 5, lambda: f"retention.ms altered: {setting()}")
    c.call("alter_config", topic=topic, name="retention.ms", value=None)
    wait_until(lambda: setting() == {"value": "604800000", "default": True}, 5, lambda: f"retention.ms back at its default: {setting()}")
    fails(INVALID_CONFIG, lambda: c.call("alter_config", topic=topic, name="retention.ms", value="many"), "a setting that is no number")

    s.produce_values(topic, 0, [str(i) for i in range(100)])
    equal(c.call("delete_records", topic=topic, partition=0, before=30), 30, "low watermark")
    s.reader(c, [[topic, 0, 30]])
    equal(c.call("beginning_offset", topic=topic, partition=0), 30, "beginning offset")
    equal([r["offset"] for r in collect(c, 70)], list(range(30, 100)), "records left")
    c.call("close_consumer")
    fails(OUT_OF_RANGE, lambda: c.call("delete_records", topic=topic, partition=0, before=101), "deleting past the end")

    c.call("delete_topic", topic=topic)
    fails(UNKNOWN_TOPIC, lambda: c.call("delete_topic", topic=topic), "deleting it twice")
    again = s.shared()
    again.call("create_topic", topic=topic, partitions=1, configs={})
    wait_until(lambda: count() == 1, 10, lambda: f"created again with 1 partition, {count()} found")
    s.produce_values(topic, 0, ["new"])
    s.reader(c, [[topic, 0, 0]])
    equal([(r["offset"], r["value"]) for r in collect(c, 1)], [(0, b"new")], "the topic of the same name is empty")
    c.call("close_consumer")


def group_listing(s):
    advertised = wire.api_versions(s.broker.bootstrap)
    missing = [name for name, key in (("ListGroups", wire.LIST_GROUPS), ("DescribeGroups", wire.DESCRIBE_GROUPS)) if key not in advertised]
    if missing:
        raise Skip(f"{', '.join(missing)} not advertised")
    topic, group = s.topic(4), unique(f"g-{s.kind}")
    members = start_group(s, topic, group, 4, members=2)
    c = s.shared()
    check(group in c.call("list_groups"), f"{group} is not listed")
    found = c.call("describe_group", group=group)
    equal(found["state"], "stable", "state of the group")
    equal(sorted(sorted(p for _, p in m) for m in found["members"]), sorted(log.assignment for _, log in members), "assignments")
    for member, _ in members:
        member.finish()
        member.call("close_consumer")
    equal(c.call("describe_group", group=group), {"state": "empty", "members": []}, "after all left")


NEED_CONTROL = [restart_under_load_acks_all, restart_under_load_idempotent]
SCENARIOS = [
    codecs,
    headers_keys_and_timestamps,
    log_append_time,
    offsets_by_time_and_ends,
    seek_and_position,
    pause_and_resume,
    commit_and_committed,
    idempotent_producer,
    admin,
    group_listing,
    group_of_three_and_kill_9_of_a_member,
    restart_under_load_acks_all,
    restart_under_load_idempotent,
]


def run(kind, broker, report):
    Suite(broker, kind, report).run()
