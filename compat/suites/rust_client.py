"""Kavka's own client: the tests that run on any broker, groups it shares with other clients, transactions it reads of others."""

import os
import re
import shutil
import subprocess

from lib import install
from lib.checks import Skip, check, equal, some, wait_until
from lib.clients import Client
from lib.install import Missing
from lib.paths import LOGS, ROOT
from lib.scenes import ask_committed, is_share, load_log, unique, wait_shared

PARTITIONS, RECORDS = 6, 300
ASSIGNORS = ["range", "roundrobin", "sticky", "cooperative-sticky"]
# librdkafka has no "sticky" but its cooperative one.
OF_LIBRDKAFKA = ["range", "roundrobin", "cooperative-sticky"]


def build(*what):
    if shutil.which("cargo") is None:
        raise Missing("cargo is not installed")
    # Our own source: that it does not compile is a failure, not something missing.
    subprocess.run(["cargo", "build", "--quiet", "-p", "kavka-client", *what], cwd=ROOT, check=True)


def program(name):
    build("--example", name)
    return os.path.join(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"), "debug", "examples", name)


class RustMember:
    """A process of the example `group_member`; it speaks no commands, and leaves when its stdin ends."""

    kind = "rust"

    def __init__(self, command, bootstrap, group, topic, log, **properties):
        with open(LOGS / f"{log.path.stem}.err", "wb") as errors:
            arguments = [bootstrap, group, topic, str(log.path), *(f"{name}={value}" for name, value in properties.items())]
            self.process = subprocess.Popen([command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors)
        self.log = log

    def leave(self):
        self.process.stdin.close()
        equal(self.process.wait(timeout=60), 0, "exit code of the Rust member")

    def kill9(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class OtherMember:
    """A member of another client, driven by commands."""

    def __init__(self, kind, bootstrap, group, topic, log, assignor):
        self.kind, self.log = kind, log
        self.client = Client(kind, bootstrap)
        self.client.call("open_consumer", group=group, assignor=assignor)
        self.client.call("subscribe", topic=topic)
        self.client.start("consume_load", log=str(log.path))

    def leave(self):
        self.client.finish()
        self.client.call("close_consumer")
        self.client.close()

    def kill9(self):
        self.client.kill9()


def suite_on_any_broker(broker, version=None, threads=4):
    """`cargo test` of what the client promises, with this broker in place of the test kit's; `version`: of an Apache Kafka that lacks some of it."""
    if shutil.which("cargo") is None:
        raise Skip("cargo is not installed")
    command = ["cargo", "test", "--quiet", "-p", "kavka-client", "--test", "suite", "--", "--test-threads", str(threads)]
    environment = {**os.environ, "KAVKA_TEST_BOOTSTRAP": broker.bootstrap, "RUST_BACKTRACE": "0"}
    if version:
        environment["KAVKA_TEST_KAFKA_VERSION"] = version
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    check(done.returncode == 0, (done.stdout + done.stderr)[-20_000:])
    return re.search(r"(\d+ passed).*", done.stdout)[1]


def mixed_group(broker, command, kinds, assignor):
    """Members of these kinds join in this order, the first leads; they leave in it too, so that each in turn leads what is left."""
    admin = Client("confluent-kafka", broker.bootstrap)
    admin.call("open_admin")
    admin.call("open_producer")
    topic, group = unique("t-mixed"), unique("g-mixed")
    admin.call("create_topic", topic=topic, partitions=PARTITIONS, configs={})
    sent, members = set(), []

    def produce_and_wait(label):
        places = admin.produce([{"topic": topic, "partition": i % PARTITIONS, "value": f"{label}-{i}".encode()} for i in range(RECORDS)])
        sent.update(tuple(place) for place in places)
        seen = lambda: {(p, o) for log in logs for p, o, _ in log.read().records}  # noqa: E731
        wait_until(lambda: sent <= seen(), 60, lambda: f"{label}: not seen {some(sent - seen())}; {told()}")

    def told():
        return [(m.kind, m.log.assignment, m.log.errors[-3:]) for m in members]

    logs = []
    try:
        for kind in kinds:
            log = load_log(f"mixed-{kind}")
            logs.append(log)
            if kind == "rust":
                member = RustMember(command, broker.bootstrap, group, topic, log, **{"partition.assignment.strategy": assignor})
            else:
                member = OtherMember(kind, broker.bootstrap, group, topic, log, assignor)
            members.append(member)
            # One after the other: who is alone in the group leads it.
            wait_shared([m.log for m in members], PARTITIONS, timeout=60)
        produce_and_wait("all")
        shares = [len(m.log.assignment) for m in members]
        check(max(shares) - min(shares) <= 1, f"even shares: {shares}")
        while len(members) > 1:
            gone = members.pop(0)
            gone.leave()
            check(not [e for e in gone.log.read().errors if "UnknownMember" in e], f"{gone.kind}: {gone.log.errors}")
            wait_shared([m.log for m in members], PARTITIONS, timeout=60)
            produce_and_wait(f"without-{gone.kind}")
        members[0].leave()
        admin.call("open_consumer", group=group)
        end = len(kinds) * RECORDS // PARTITIONS
        equal(ask_committed(admin, topic, PARTITIONS), [end] * PARTITIONS, "committed at the end")
        records = [(p, o) for log in logs for p, o, _ in log.records]
        again = len(records) - len(set(records))
        return f"{len(records)} records, {again} of them twice"
    finally:
        for member in members:
            member.kill9()
        admin.close()


def aborted_transactions(broker, command):
    """What another client wrote in transactions: the committed ones are read, the aborted ones are not."""
    program = f"""
import sys
from confluent_kafka import KafkaException, Producer
p = Producer({{"bootstrap.servers": sys.argv[1], "transactional.id": sys.argv[2], "transaction.timeout.ms": 10000}})
try:
    p.init_transactions(10)
except KafkaException as error:
    print(error, file=sys.stderr)
    sys.exit(3)
for number in range(12):
    p.begin_transaction()
    for n in range(5):
        p.produce(sys.argv[2], f"{{'aborted' if number % 3 == 1 else 'committed'}}-{{number}}-{{n}}", partition=n % {PARTITIONS})
    p.flush()
    p.abort_transaction(10) if number % 3 == 1 else p.commit_transaction(10)
"""
    topic, group = unique("t-transactions"), unique("g-transactions")
    admin = Client("confluent-kafka", broker.bootstrap)
    member = None
    try:
        admin.call("open_admin")
        admin.call("create_topic", topic=topic, partitions=PARTITIONS, configs={})
        done = subprocess.run([install.venv(), "-c", program, broker.bootstrap, topic], capture_output=True, text=True, check=False)
        if done.returncode == 3:
            raise Skip(f"the broker takes no transactions: {done.stderr.strip()[-200:]}")
        equal(done.returncode, 0, f"the transactional producer: {done.stderr}")
        # The last record of each partition is one that is read: what is behind is not there by mistake of time.
        admin.call("open_producer")
        admin.produce([{"topic": topic, "partition": p, "value": b"last"} for p in range(PARTITIONS)])
        log = load_log("transactions")
        member = RustMember(command, broker.bootstrap, group, topic, log, **{"isolation.level": "read_committed"})
        last = lambda: sum(value == "last" for _, _, value in log.read().records)  # noqa: E731
        wait_until(lambda: last() == PARTITIONS, 60, lambda: f"all read: {log.errors}, {len(log.records)}")
        values = sorted(value for _, _, value in log.records if value != "last")
        equal(values, sorted(f"committed-{t}-{n}" for t in range(12) if t % 3 != 1 for n in range(5)), "records of committed transactions")
        member.leave()
    finally:
        if member:
            member.kill9()
        admin.close()


def run(broker, report):
    report.test("rust: the client's suite", lambda: suite_on_any_broker(broker), timeout=900)
    command = program("group_member")
    try:
        install.java_driver()
        kinds = ["rust", "java", "confluent-kafka"]
    except Missing as reason:
        report.skip("rust: groups with Java members", str(reason))
        kinds = ["rust", "confluent-kafka"]
    for assignor in ASSIGNORS:
        members = [kind for kind in kinds if kind != "confluent-kafka" or assignor in OF_LIBRDKAFKA]
        for first in range(len(members)):
            order = members[first:] + members[:first]
            name = f"rust: {assignor}, a group of {', '.join(order)}"
            report.test(name, lambda order=order, assignor=assignor: mixed_group(broker, command, order, assignor), timeout=300)
    report.test("rust: aborted transactions", lambda: aborted_transactions(broker, command), timeout=120)
