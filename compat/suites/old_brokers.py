"""Kavka's client and command line against Apache Kafkas of earlier years, 2.1 first: what these have works, what they lack is named."""

import json
import subprocess

from lib import install
from lib.checks import check, equal
from lib.install import Missing
from lib.old_kafka import OldKafka
from lib.scenes import unique
from suites import admin, rust_client

# The oldest that is promised, the one that many groups' calls came with, the first with ids of topics, the first without ZooKeeper, and the
# last before 4.0.
VERSIONS = ["2.1.1", "2.4.1", "2.8.2", "3.3.2", "3.9.1"]
# When a topic is deleted, 2.1 takes groups that were made and have no member yet for dead ones, and then refuses whom they were made for with
# INCONSISTENT_GROUP_PROTOCOL: tests that delete topics may not run beside others.
ALONE = {"2.1.1"}


def run(report, binary, versions):
    tour = admin.program()
    for version in versions or VERSIONS:
        try:
            install.old_kafka(version)
        except Missing as reason:
            report.skip(f"old brokers: {version}", str(reason))
            continue
        broker = None

        def start(version=version):
            nonlocal broker
            broker = OldKafka(version)

        try:
            if report.test(f"old brokers: {version} starts", start):
                report.test(f"old brokers: {version}, the client's suite", lambda: rust_client.suite_on_any_broker(broker, version, threads=1 if version in ALONE else 4), timeout=300)
                report.test(f"old brokers: {version}, every call of the admin", lambda: admin.tour(tour, broker.bootstrap))
                report.test(f"old brokers: {version}, the command line", lambda: command_line(binary, broker))
        finally:
            if broker is not None:
                broker.close()


def command_line(binary, broker):
    """A topic, records, a group that is looked at and moved."""
    topic, group = unique("t-old"), unique("g-old")

    def kavka(*arguments, stdin="", code=0):
        command = [binary, *map(str, arguments), "-b", broker.bootstrap]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)
        check(done.returncode == code, f"{' '.join(command)} ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def data(*arguments):
        return json.loads(kavka(*arguments, "-o", "json"))["data"]

    kavka("topic", "create", topic, "-p", 2, "-r", 1, "--config", "retention.ms=3600000")
    check(topic in [row["topic"] for row in data("topic", "list")], "the topic is listed")
    [described] = data("topic", "describe", topic)
    equal([row["partition"] for row in described["partitions"]], [0, 1], "partitions")
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        kavka("produce", topic, "-q", "-k", ":", "-z", codec, stdin="".join(f"{codec}{n}:value {n}\n" for n in range(20)))
    read = kavka("consume", topic, "--from", "earliest", "--until", "end", "-q", "-f", "%k\\n").split()
    equal(sorted(read), sorted(f"{codec}{n}" for codec in ("none", "gzip", "snappy", "lz4", "zstd") for n in range(20)), "keys")
    check(len(kavka("consume", topic, "-g", group, "--from", "earliest", "-n", 100, "-q").splitlines()) == 100, "the group reads everything")
    [found] = data("group", "describe", group)
    equal((found["state"], sum(row["lag"] for row in found["offsets"])), ("Empty", 0), "the group at the end")
    kavka("group", "seek", group, "--to", "earliest", "--execute", "-q")
    kavka("group", "check", group, "--max-total-lag", 99, "-q", code=3)
    kavka("group", "check", group, "--max-total-lag", 100, "--state", "Empty", "-q")
    check(group in [row["group"] for row in data("group", "list")], "the group is listed")
    kavka("group", "delete", group, "-q")
    kavka("topic", "delete", topic, "-q")
