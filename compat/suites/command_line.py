"""Kavka's own command line against the broker: `kavka compat kafka-consumer-groups` beside Apache Kafka's tool, records in and out."""

import json
import re
import subprocess

from lib import install
from lib.checks import check, equal, wait_until
from lib.clients import Client
from lib.scenes import unique

# What Java adds to messages.
TRACE = re.compile(r"\tat |\t\.\.\. |Caused by: |java\.|org\.apache\.|joptsimple\.")
TIME = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\]")
# Lists that come out of hash sets.
HASHED = re.compile(r"(Valid (?:states|types) are: |following scenarios: |takes (?:one of these|the following) options: |can't be used)")


class Suite:
    def __init__(self, broker, report, binary):
        self.broker, self.report, self.binary = broker, report, binary
        self.peer = install.peer() / "tool"
        self.topic, self.other = unique("t-line"), unique("t-line-with-a-rather-long-name")
        self.idle, self.live, self.old = unique("g-idle"), unique("g-live"), unique("g-old-with-a-rather-long-name")
        self.members = []

    def run(self):
        if self.report.test("command line: topics and groups to look at", self.prepare):
            for scenario in SCENARIOS:
                self.report.test(f"command line: {scenario.__name__.replace('_', ' ')}", lambda scenario=scenario: scenario(self), timeout=600)
        for member in self.members:
            member.kill9()

    def kavka(self, *args, stdin="", code=0):
        command = [self.binary, *map(str, args)]
        if args[0] != "compat":
            command += ["-b", self.broker.bootstrap]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)
        if code is not None:
            check(done.returncode == code, f"kavka {args} ended with {done.returncode}\n{done.stdout[-800:]}{done.stderr[-800:]}")
        return done

    def prepare(self):
        """Two topics, a group with members, one of them static, and groups without."""
        self.kavka("topic", "create", self.topic, "-p", 3)
        self.kavka("topic", "create", self.other, "-p", 2)
        for partition in range(3):
            self.kavka("produce", self.topic, "-q", "-p", partition, stdin="a\nb\nc\n")
        self.kavka("produce", self.other, "-q", "-p", 0, stdin="a\nb\nc\n")
        self.restore()
        for _ in range(2):
            member = Client("confluent-kafka", self.broker.bootstrap)
            self.members.append(member)
            member.call("open_consumer", group=self.live)
            member.call("subscribe", topic=self.topic)

        def settled():
            for member in self.members:
                member.poll(0.2)
            shares = [len(member.call("assignment")) for member in self.members]
            return all(shares) and sum(shares) == 3

        wait_until(settled, 60, "the members have their partitions")

    def restore(self):
        """Groups without members are as they were, and members stay because they poll."""
        for member in self.members:
            member.poll(0)
        for group in (self.idle, self.old):
            for topic, partition, offset in ((self.topic, 0, 1), (self.topic, 1, 2), (self.other, 0, 2)):
                self.kavka("group", "seek", group, "--topic", f"{topic}:{partition}", "--to-offset", offset, "--execute", "-q")

    def same(self, *flags, connect=True):
        """Both say and do the same."""
        flags = [*(["--bootstrap-server", self.broker.bootstrap] if connect else []), *map(str, flags)]
        self.restore()
        apache = subprocess.run([str(self.peer), "consumer-groups", *flags], capture_output=True, text=True, timeout=120, check=False)
        self.restore()
        kavka = self.kavka("compat", "kafka-consumer-groups", *flags, code=None)
        what = " ".join(flags)
        equal(kavka.returncode, apache.returncode, f"{what}: exit code")
        equal(lines(kavka.stdout), lines(apache.stdout), f"{what}: standard output")
        equal(lines(kavka.stderr), lines(apache.stderr), f"{what}: standard error")


def lines(text):
    """The lines of an output, in an order that hashing does not change."""
    kept = [TIME.sub("[TIME]", line) for line in text.split("\n") if not TRACE.match(line)]
    kept = ["".join(sorted(line)) if HASHED.search(line) else line for line in kept]
    return sorted(kept)


def kafka_consumer_groups_lists_and_describes_alike(s):
    s.same("--list")
    for flags in (["--state"], ["--type"], ["--state", "Stable,empty", "--type", "classic"]):
        s.same("--list", *flags)
    for group in (s.idle, s.live, unique("g-nobody")):
        for view in ([], ["--verbose"], ["--members"], ["--members", "--verbose"], ["--state"], ["--state", "--verbose"]):
            s.same("--describe", "--group", group, *view)
    s.same("--describe", "--group", s.idle, "--group", s.live)


def kafka_consumer_groups_resets_alike(s):
    for scenario in (
        ["--to-earliest"], ["--to-latest"], ["--to-current"], ["--to-offset", 2], ["--to-offset", 99], ["--shift-by", -1], ["--shift-by", 50],
        ["--to-datetime", "2020-01-01T00:00:00.000"], ["--to-datetime", "2090-01-01T00:00:00.000+01:00"], ["--to-datetime", "2020-01-01"],
        ["--by-duration", "PT1H"], ["--by-duration", "1h"], ["--to-current", "--export"],
    ):
        s.same("--reset-offsets", "--group", s.idle, "--all-topics", *scenario, "--dry-run")
    for scope in (s.topic, f"{s.topic}:0,2", f"{s.topic}:9", f"{s.topic}:x", unique("t-none")):
        s.same("--reset-offsets", "--group", s.idle, "--topic", scope, "--to-current", "--dry-run")
    s.same("--reset-offsets", "--group", s.idle, "--topic", s.topic, "--shift-by", 1, "--dry-run")
    s.same("--reset-offsets", "--group", s.idle, "--all-topics", "--to-earliest")
    s.same("--reset-offsets", "--group", s.live, "--all-topics", "--to-earliest", "--execute")
    s.same("--reset-offsets", "--group", s.idle, "--topic", f"{s.topic}:0", "--to-latest", "--execute")
    s.same("--reset-offsets", "--group", s.idle, "--group", s.old, "--topic", s.topic, "--to-latest", "--export", "--dry-run")


def kafka_consumer_groups_deletes_alike(s):
    s.same("--delete-offsets", "--group", s.idle, "--topic", s.other)
    s.same("--delete-offsets", "--group", s.idle, "--topic", f"{s.topic}:1", "--topic", unique("t-none"))
    s.same("--delete-offsets", "--group", s.idle, "--topic", f"{s.topic}:7")
    s.same("--delete-offsets", "--group", s.live, "--topic", s.topic)
    s.same("--delete-offsets", "--group", unique("g-nobody"), "--topic", s.topic)
    s.same("--delete", "--group", s.idle)
    s.same("--delete", "--group", s.live, "--group", s.old, "--group", unique("g-nobody"))


def kafka_consumer_groups_refuses_wrong_usage_alike(s):
    s.same(connect=False)
    s.same("--list", connect=False)
    s.same("--validate-regex", "a.*", connect=False)
    for flags in (
        [], ["--list", "--describe"], ["--list", "--group", "a"], ["--list", "--members"], ["--list", "--state", "bogus"], ["--list", "--type", "bogus"],
        ["--list", "--timeout", "x"], ["--describe"], ["--describe", "--group"], ["--describe", "--group", "a", "--members", "--offsets"],
        ["--describe", "--group", "a", "--nosuch"], ["--delete", "--group", "a", "--topic", "t"], ["--delete-offsets", "--group", "a"],
        ["--reset-offsets", "--group", s.idle, "--to-earliest"], ["--reset-offsets", "--group", s.idle, "--all-topics"],
        ["--reset-offsets", "--group", s.idle, "--all-topics", "--to-earliest", "--to-latest"],
    ):
        s.same(*flags)


def records_come_back_as_they_were(s):
    copy = unique("t-line-copy")
    s.kavka("topic", "create", copy, "-p", 1)
    records = [
        {"key": "k", "value": "text é", "headers": [{"name": "h", "value": "1"}, {"name": "h", "value": None}], "timestamp": 1000},
        {"key_base64": "/wAB", "value_base64": "gP8=", "headers": [], "timestamp": 2000},
        {"key": None, "value": None, "headers": [], "timestamp": 3000},
    ]
    stdin = "".join(json.dumps(record) + "\n" for record in records)
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        s.kavka("produce", copy, "-f", "jsonl", "-z", codec, stdin=stdin)
    read = s.kavka("consume", copy, "--from", "earliest", "--until", "end", "-o", "jsonl", "-q").stdout.splitlines()
    found = [json.loads(line) for line in read]
    for record in found:
        for place in ("topic", "partition", "offset", "leader_epoch"):
            record.pop(place)
    equal(found, records * 5, "records")


def a_group_reads_on_where_it_committed(s):
    group = unique("g-line")
    first = s.kavka("consume", s.topic, "-g", group, "--from", "earliest", "-n", 4, "-q").stdout.split()
    rest = s.kavka("consume", s.topic, "-g", group, "--from", "earliest", "--until", "end", "-q").stdout.split()
    equal(sorted(first + rest), sorted(["a", "b", "c"] * 3), "values")
    s.kavka("group", "check", group, "--max-lag", 0, "--state", "Empty")
    s.kavka("group", "check", group, "--state", "Stable", code=3)


SCENARIOS = [
    kafka_consumer_groups_lists_and_describes_alike,
    kafka_consumer_groups_resets_alike,
    kafka_consumer_groups_deletes_alike,
    kafka_consumer_groups_refuses_wrong_usage_alike,
    records_come_back_as_they_were,
    a_group_reads_on_where_it_committed,
]


def run(broker, report, binary):
    Suite(broker, report, binary).run()
