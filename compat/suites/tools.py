"""Apache Kafka's own command-line tools against the broker, and its log dumper on the broker's files."""

import json
import re
import subprocess
import tempfile

from lib import install, wire
from lib.checks import Skip, check, equal, wait_until
from lib.clients import Client
from lib.scenes import unique

OFFSETS_PARTITIONS = 50


def group_partition(group):
    """Java's `abs(hashCode) % 50`: the partition of `__consumer_offsets` that a group lives in (ASCII names)."""
    code = 0
    for byte in group.encode():
        code = (code * 31 + byte) & 0xFFFFFFFF
    code = code - (1 << 32) if code >= 1 << 31 else code
    return (0 if code == -(1 << 31) else abs(code)) % OFFSETS_PARTITIONS


class Suite:
    def __init__(self, broker, report):
        self.broker, self.report = broker, report
        self.program = install.peer() / "tool"
        self.client = Client("confluent-kafka", broker.bootstrap)
        self.client.call("open_admin")
        self.topic, self.group = unique("t-tools"), unique("g-tools")
        self.member = None

    def run(self):
        if not self.report.test("tools: a topic and a group to look at", self.prepare):
            self.client.close()
            return
        for scenario in SCENARIOS:
            self.report.test(f"tools: {scenario.__name__.replace('_', ' ')}", lambda scenario=scenario: scenario(self), timeout=300)
        self.client.close()
        if self.member is not None:
            self.member.kill9()

    def prepare(self):
        """100 zstd records in each of 3 partitions, a commit of 40, 50, 60 and one live member."""
        self.client.call("create_topic", topic=self.topic, partitions=3, configs={"retention.ms": "3600000"})
        self.client.call("open_producer", compression="zstd", idempotence=True)
        self.client.produce([{"topic": self.topic, "partition": i % 3, "key": b"k", "value": f"record {i}".encode() * 20} for i in range(300)])
        self.member = Client("confluent-kafka", self.broker.bootstrap)
        self.member.call("open_consumer", group=self.group)
        self.member.call("subscribe", topic=self.topic)
        wait_until(lambda: self.member.poll(0.5) or len(self.member.call("assignment")) == 3, 30, "the member has its partitions")
        self.member.call("commit", offsets=[[self.topic, p, 40 + 10 * p] for p in range(3)])

    def tool(self, name, *args, stdin="", connect=True, ok=True):
        command = [str(self.program), name, *(["--bootstrap-server", self.broker.bootstrap] if connect else []), *map(str, args)]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)
        output = done.stdout + done.stderr
        check((done.returncode == 0) == ok, f"{name} {args} ended with {done.returncode}\n{output[-1500:]}")
        return output

    def dump(self, *args):
        return self.tool("dump-log", *args, connect=False)

    def need(self, **apis):
        advertised = wire.api_versions(self.broker.bootstrap)
        missing = [name for name, key in apis.items() if key not in advertised]
        if missing:
            raise Skip(f"{', '.join(missing)} not advertised")

    def need_files(self):
        if not self.broker.data_dir:
            raise Skip("the files of this broker are not ours to read")


def broker_api_versions(s):
    out = s.tool("broker-api-versions")
    check(s.broker.bootstrap in out, f"{s.broker.bootstrap} not in\n{out[:800]}")
    told = {int(key): (int(low), int(high)) for key, low, high in re.findall(r"\((\d+)\): (\d+)(?: to (\d+))? \[", re.sub(r": (\d+) \[", r": \1 to \1 [", out))}
    equal(told, {k: v for k, v in wire.api_versions(s.broker.bootstrap).items() if k in told}, "versions as the tool prints them")
    check({0, 1, 3, 8, 9, 11, 14, 18} <= told.keys(), f"Produce, Fetch, Metadata, OffsetCommit, OffsetFetch, JoinGroup, SyncGroup, ApiVersions: {sorted(told)}")
    return f"{len(told)} APIs"


def topics(s):
    check(s.topic in s.tool("topics", "--list").split(), f"{s.topic} is not listed")
    out = s.tool("topics", "--describe", "--topic", s.topic)
    check("PartitionCount: 3" in out and "retention.ms=3600000" in out, out)
    equal(len(re.findall(r"Partition: \d+\s+Leader: \d+\s+Replicas: \d+\s+Isr: \d+", out)), 3, f"lines with leader, replicas and ISR\n{out}")
    made = unique("t-tools-made")
    s.tool("topics", "--create", "--topic", made, "--partitions", 4)
    s.tool("topics", "--alter", "--topic", made, "--partitions", 6)
    check("PartitionCount: 6" in s.tool("topics", "--describe", "--topic", made), "6 partitions after --alter")
    s.tool("topics", "--delete", "--topic", made)
    check(made not in s.tool("topics", "--list").split(), f"{made} is listed after --delete")


def configs(s):
    describe = lambda: s.tool("configs", "--describe", "--entity-type", "topics", "--entity-name", s.topic)  # noqa: E731
    check("retention.ms=3600000" in describe(), describe())
    s.tool("configs", "--alter", "--entity-type", "topics", "--entity-name", s.topic, "--add-config", "retention.ms=7200000,max.message.bytes=2000000")
    out = describe()
    check("retention.ms=7200000" in out and "max.message.bytes=2000000" in out, out)
    s.tool("configs", "--alter", "--entity-type", "topics", "--entity-name", s.topic, "--delete-config", "max.message.bytes")
    check("max.message.bytes" not in describe(), f"max.message.bytes after --delete-config\n{describe()}")


def get_offsets(s):
    latest = s.tool("get-offsets", "--topic", s.topic)
    equal(sorted(latest.split()), [f"{s.topic}:{p}:100" for p in range(3)], "latest")
    equal(sorted(s.tool("get-offsets", "--topic", s.topic, "--time", "earliest").split()), [f"{s.topic}:{p}:0" for p in range(3)], "earliest")


def console_producer_and_consumer(s):
    topic, group = unique("t-tools-console"), unique("g-tools-console")
    s.client.call("create_topic", topic=topic, partitions=1, configs={})
    lines = [f"line {i}" for i in range(1000)]
    s.tool("console-producer", "--topic", topic, "--compression-codec", "lz4", stdin="\n".join(lines) + "\n")
    read = lambda *more: s.tool("console-consumer", "--topic", topic, "--timeout-ms", 20000, *more)  # noqa: E731
    out = read("--from-beginning", "--max-messages", 1000, "--group", group)
    equal([line for line in out.splitlines() if line.startswith("line ")], lines, "lines read")
    s.tool("console-producer", "--topic", topic, stdin="line after\n")
    out = read("--max-messages", 1, "--group", group)
    equal([line for line in out.splitlines() if line.startswith("line ")], ["line after"], "the group goes on where it was")


def consumer_groups(s):
    s.need(ListGroups=wire.LIST_GROUPS, DescribeGroups=wire.DESCRIBE_GROUPS)
    check(s.group in s.tool("consumer-groups", "--list").split(), f"{s.group} is not listed")
    out = s.tool("consumer-groups", "--describe", "--group", s.group)
    rows = {int(r[2]): r for r in (line.split() for line in out.splitlines()) if len(r) >= 6 and r[0] == s.group}
    header = next(line.split() for line in out.splitlines() if line.startswith("GROUP"))
    at = header.index("CURRENT-OFFSET")
    # GROUP TOPIC PARTITION [LEADER-EPOCH] CURRENT-OFFSET LOG-END-OFFSET LAG ...
    equal({p: r[at : at + 3] for p, r in sorted(rows.items())}, {p: [str(40 + 10 * p), "100", str(60 - 10 * p)] for p in range(3)}, f"current, end, lag\n{out}")
    equal(len({r[header.index("CONSUMER-ID")] for r in rows.values()}), 1, "consumer ids")
    state = s.tool("consumer-groups", "--describe", "--group", s.group, "--state")
    check(re.search(rf"{s.group}\s.*Stable", state), state)


def consumer_groups_without_members(s):
    """Offsets of a group that nobody is in: reset in every form, then removed, topic by topic and as a whole."""
    s.need(ListGroups=wire.LIST_GROUPS, DescribeGroups=wire.DESCRIBE_GROUPS)
    group = unique("g-tools-reset")
    s.client.call("open_consumer", group=group)
    s.client.call("commit", offsets=[[s.topic, p, 50] for p in range(3)])
    s.client.call("close_consumer")

    def reset(*form, execute=False):
        out = s.tool("consumer-groups", "--group", group, "--reset-offsets", "--topic", s.topic, *form, "--execute" if execute else "--dry-run")
        rows = [line.split() for line in out.splitlines() if line.startswith(group)]
        return {int(row[2]): int(row[3]) for row in rows}

    forms = {
        ("--to-earliest",): 0,
        ("--to-latest",): 100,
        ("--to-current",): 50,
        ("--to-offset", 70): 70,
        ("--shift-by", -20): 30,
        ("--shift-by", 1000): 100,
        ("--to-datetime", "2020-01-01T00:00:00.000"): 0,
        ("--by-duration", "P1D"): 0,
    }
    for form, offset in forms.items():
        equal(reset(*form), dict.fromkeys(range(3), offset), f"reset {form}")
    equal(reset("--to-offset", 70, execute=True), dict.fromkeys(range(3), 70), "reset for good")
    equal(reset("--to-current"), dict.fromkeys(range(3), 70), "after the reset")
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as plan:
        # What the tool exports, with another offset for each partition; one is beyond the end.
        exported = s.tool("consumer-groups", "--group", group, "--reset-offsets", "--topic", s.topic, "--to-offset", 80, "--dry-run", "--export")
        rows = [line.replace('"', "").split(",") for line in exported.splitlines() if s.topic in line]
        equal(sorted(rows), [[s.topic, str(p), "80"] for p in range(3)], f"the exported plan\n{exported}")
        plan.writelines(f"{topic},{p},{10 + 45 * int(p)}\n" for topic, p, _ in rows if p != "2")
        plan.write(f"{s.topic},2,5000\n")
        plan.flush()
        equal(reset("--from-file", plan.name), {0: 10, 1: 55, 2: 100}, "reset from a file")
        equal(reset("--from-file", plan.name, execute=True), {0: 10, 1: 55, 2: 100}, "reset from a file for good")
    equal(reset("--to-current"), {0: 10, 1: 55, 2: 100}, "after the reset from a file")
    check(re.search(rf"{group}\s.*Empty", s.tool("consumer-groups", "--describe", "--group", group, "--state")), "the group is Empty")
    s.tool("consumer-groups", "--group", group, "--delete-offsets", "--topic", f"{s.topic}:1")
    left = s.tool("consumer-groups", "--describe", "--group", group)
    equal(sorted(line.split()[2] for line in left.splitlines() if line.startswith(group)), ["0", "2"], f"partitions with offsets\n{left}")
    s.tool("consumer-groups", "--group", group, "--delete")
    check(group not in s.tool("consumer-groups", "--list").split(), f"{group} is listed after --delete")


def consumer_groups_with_a_member(s):
    s.need(ListGroups=wire.LIST_GROUPS, DescribeGroups=wire.DESCRIBE_GROUPS)
    out = s.tool("consumer-groups", "--describe", "--group", s.group, "--members", "--verbose")
    check(re.search(rf"{s.group}\s.*rdkafka|{s.group}\s.*confluent", out) and s.topic in out, out)
    check(s.group in s.tool("consumer-groups", "--list", "--state", "Stable"), "listed among the stable ones")
    check(s.group not in s.tool("consumer-groups", "--list", "--state", "Empty"), "not listed among the empty ones")
    # The tool says so, and ends with 0.
    out = s.tool("consumer-groups", "--group", s.group, "--delete")
    check("GroupNotEmptyException" in out, out)


def dump_log_of_a_topic(s):
    s.need_files()
    for p in range(3):
        files = wire.segments(s.broker.data_dir, s.topic, p)
        check(files, f"no segment of {s.topic}-{p} below {s.broker.data_dir}")
        out = s.dump("--print-data-log", "--deep-iteration", "--files", ",".join(files))
        check("isvalid: false" not in out and "compresscodec: zstd" in out, out[:1500])
        found = re.findall(r"^\| offset: (\d+) .* key: (\S+) payload: (record \d+)", out, re.M)
        equal(found, [(str(i), "k", f"record {3 * i + p}") for i in range(100)], f"records of partition {p}")


def dump_log_of_consumer_offsets(s):
    s.need_files()
    partition = group_partition(s.group)
    files = wire.segments(s.broker.data_dir, "__consumer_offsets", partition)
    check(files, f"no segment of __consumer_offsets-{partition} below {s.broker.data_dir}")
    out = s.dump("--offsets-decoder", "--files", ",".join(files))
    check("isvalid: false" not in out, out[:1500])
    commits, generations = {}, []
    for key, payload in re.findall(r"key: (\{.*?\}) payload: (\{.*\}|<DELETE>)$", out, re.M):
        key = json.loads(key)
        if key["data"].get("group") != s.group or payload == "<DELETE>":
            continue
        data = json.loads(payload)["data"]
        if "offset" in data:
            commits[(key["data"]["topic"], key["data"]["partition"])] = data["offset"]
        else:
            generations.append(data)
    equal(commits, {(s.topic, p): 40 + 10 * p for p in range(3)}, f"commits of {s.group}\n{out[:1500]}")
    check(generations, f"no group record of {s.group}\n{out[:1500]}")
    last = generations[-1]
    equal((last["protocolType"], last["protocol"], len(last["members"])), ("consumer", "range", 1), f"the group's last record {last}")
    return f"__consumer_offsets-{partition}, generation {last['generation']}"


SCENARIOS = [
    broker_api_versions,
    topics,
    configs,
    get_offsets,
    console_producer_and_consumer,
    consumer_groups,
    consumer_groups_with_a_member,
    consumer_groups_without_members,
    dump_log_of_a_topic,
    dump_log_of_consumer_offsets,
]


def run(broker, report):
    Suite(broker, report).run()
