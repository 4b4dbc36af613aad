"""What several suites do alike: names, topics, a whole topic read back, and what acknowledged records are held to."""

import itertools
import os
import time

from lib.checks import check, equal, some, wait_until
from lib.clients import Client, ClientError, LoadLog
from lib.paths import LOGS

_run = f"{os.getpid():x}"
_numbers = itertools.count(1)


def unique(name):
    """A name that no earlier run used, so that a broker that runs already can be tested again and again."""
    return f"{name}-{_run}-{next(_numbers)}"


def load_log(name):
    LOGS.mkdir(parents=True, exist_ok=True)
    return LoadLog(LOGS / f"load-{name}-{next(_numbers):03}.log")


def collect(client, count, timeout=20):
    """Polls until `count` records came; fails with what came when they do not."""
    records = []
    deadline = time.monotonic() + timeout
    while len(records) < count:
        check(time.monotonic() < deadline, f"{client.kind}: {len(records)} of {count} records within {timeout} s")
        records += client.poll(0.5, count - len(records))
    return records


def read_topic(broker, topic, partitions, timeout=120):
    """Everything in a topic, read by one independent client: {partition: [(offset, value)]} up to the end offsets."""
    client = Client("confluent-kafka", broker.bootstrap)
    log = load_log(f"read-{topic}")
    try:
        client.call("open_consumer", group=unique("reader"))
        ends = {p: client.call("end_offset", topic=topic, partition=p) for p in range(partitions)}
        client.call("assign", partitions=[[topic, p, 0] for p in range(partitions)])
        client.start("consume_load", log=str(log.path))
        found = {p: [] for p in range(partitions)}
        done = 0

        def complete():
            nonlocal done
            log.read()
            for partition, offset, value in log.records[done:]:
                found[partition].append((offset, value))
            done = len(log.records)
            return all(ends[p] == 0 or (found[p] and found[p][-1][0] + 1 >= ends[p]) for p in ends)

        wait_until(complete, timeout, lambda: f"{topic} read back: {({p: len(r) for p, r in found.items()})} of {ends}")
        client.finish()
    finally:
        client.kill9()
    log.path.unlink()
    return found


# Loading, not available, not coordinator, and librdkafka's own "timed out" and "transport failed": ask again.
COORDINATOR_NOT_YET = (14, 15, 16, -185, -195)


def ask_committed(client, topic, partitions, timeout=60):
    """What the open consumer's group committed, also from a coordinator that has only just come back."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return client.call("committed", partitions=[[topic, p] for p in range(partitions)])
        except ClientError as error:
            if error.code not in COORDINATOR_NOT_YET or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def check_load(stored, name, acks, idempotent):
    """Holds what is stored to what a `produce_load` named `name` was told: {seq: (partition, offset)}.

    Every acknowledged record is where it was said to be. With idempotence each record is there once and every partition
    is in the order of sending. Answers how many records are stored more than once.
    """
    at, duplicates, disorder = {}, 0, []
    lost = []
    for partition, records in stored.items():
        last = -1
        for offset, value in records:
            sender, _, text = value.rpartition(" ")
            if sender != name:
                continue
            seq = int(text)
            places = at.setdefault(seq, [])
            duplicates += bool(places)
            places.append((partition, offset))
            if seq <= last:
                disorder.append((partition, offset, f"{seq} after {last}"))
            last = seq
    for seq, place in acks.items():
        if place not in at.get(seq, []):
            lost.append((seq, place, f"stored at {at.get(seq)}"))
    check(not lost, f"{name}: acknowledged (seq, (partition, offset)) not stored there: {some(lost)}")
    if idempotent:
        check(duplicates == 0, f"{name}: {duplicates} duplicates: {some((s, p) for s, p in at.items() if len(p) > 1)}")
        check(not disorder, f"{name}: (partition, offset, seq) out of order: {some(disorder)}")
    return duplicates


def check_contiguous(stored, topic):
    """A reader from 0 to the end saw each offset once."""
    for partition, records in stored.items():
        offsets = [offset for offset, _ in records]
        if offsets != list(range(len(offsets))):
            equal(offsets, list(range(len(offsets))), f"{topic}-{partition}: offsets")


def is_share(assignments, partitions):
    """Each member has something, no partition has two owners, none has none."""
    return all(assignments) and sorted(p for a in assignments for p in a) == list(range(partitions))


def wait_shared(logs, partitions, timeout=45):
    """Waits until the members that write these logs share the partitions."""
    wait_until(
        lambda: is_share([log.read().assignment for log in logs], partitions),
        timeout,
        lambda: f"{len(logs)} members share {partitions} partitions, disjoint and complete: {[log.assignment for log in logs]}",
    )
