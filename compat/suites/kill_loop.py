"""kill -9 of the broker again and again, under load from two foreign producers and a group of two foreign consumers."""

import random
import statistics
import sys
import time

from lib.checks import check, equal, some, wait_until
from lib.clients import Client
from lib.scenes import ask_committed, check_contiguous, check_load, load_log, read_topic, unique

PARTITIONS = 6
PRODUCERS = ["confluent-kafka", "java"]
CONSUMERS = ["confluent-kafka", "kafka-python"]
RATE = 1500  # records a second and producer


def run(broker, report, cycles, seed):
    seed = random.randrange(2**32) if seed is None else seed
    report.test(f"kill-loop: {cycles} cycles, seed {seed}", lambda: loop(broker, cycles, random.Random(seed)), timeout=300 + 30 * cycles)


def loop(broker, cycles, chance):
    topic, group = unique("kill-loop"), unique("g-kill-loop")
    watcher = Client("confluent-kafka", broker.bootstrap)
    watcher.call("open_admin")
    watcher.call("create_topic", topic=topic, partitions=PARTITIONS, configs={})
    watcher.call("open_consumer", group=group)

    consumers = []
    for kind in CONSUMERS:
        client, log = Client(kind, broker.bootstrap), load_log(f"kill-loop-consume-{kind}")
        client.call("open_consumer", group=group, session_timeout_ms=10000)
        client.call("subscribe", topic=topic)
        client.start("consume_load", log=str(log.path))
        consumers.append((client, log))
    producers = []
    for kind in PRODUCERS:
        client, log = Client(kind, broker.bootstrap), load_log(f"kill-loop-produce-{kind}")
        client.call("open_producer", idempotence=True, acks="all")
        client.start("produce_load", topic=topic, partitions=PARTITIONS, name=kind, rate=RATE, log=str(log.path))
        producers.append((client, log))

    floor = [0] * PARTITIONS  # what was acknowledged as committed, or read as committed
    looks, startups, answers = 0, [], []
    for cycle in range(cycles):
        goals = [len(log.read().acks) + 1 for _, log in producers]
        wait_until(
            lambda goals=goals: all(len(log.read().acks) >= goal for (_, log), goal in zip(producers, goals, strict=True)),
            60,
            lambda cycle=cycle: f"cycle {cycle}: both producers go on; acknowledged {[len(log.acks) for _, log in producers]}",
        )
        time.sleep(chance.uniform(0.3, 1.5))
        broker.kill9()
        for _, log in consumers:
            for partition, offset in log.read().commits.items():
                floor[partition] = max(floor[partition], offset)
        startups.append(broker.start())
        begun = time.monotonic()
        committed = ask_committed(watcher, topic, PARTITIONS)
        answers.append(time.monotonic() - begun)
        back = [(p, floor[p], committed[p]) for p in range(PARTITIONS) if (committed[p] or 0) < floor[p]]
        check(not back, f"cycle {cycle}: committed offsets went back: (partition, before, after) {back}")
        floor = [at or 0 for at in committed]
        looks += PARTITIONS
        if cycle % 10 == 9:
            print(f"     cycle {cycle + 1}: {[len(log.acks) for _, log in producers]} acknowledged, committed {sum(floor)}", file=sys.stderr, flush=True)

    sent = 0
    for client, log in producers:
        counts = client.finish()
        equal((counts["failed"], counts["acked"]), (0, counts["sent"]), f"{client.kind}: (failed, acknowledged) of {counts['sent']} sent {log.read().failures[:3]}")
        sent += counts["sent"]
        client.close()
    stored = read_topic(broker, topic, PARTITIONS, timeout=180)
    check_contiguous(stored, topic)
    for client, log in producers:
        check_load(stored, client.kind, log.read().acks, idempotent=True)
    total = sum(len(records) for records in stored.values())
    equal(total, sent, "records stored against records sent by idempotent producers")

    ends = [len(stored[p]) for p in range(PARTITIONS)]
    wait_until(lambda: ask_committed(watcher, topic, PARTITIONS) == ends, 90, lambda: f"committed {ask_committed(watcher, topic, PARTITIONS)}, end offsets {ends}", 0.5)
    handed, wrong, commits = set(), [], 0
    for client, log in consumers:
        client.finish()
        for partition, offset, value in log.read().records:
            handed.add((partition, offset))
            if stored[partition][offset] != (offset, value):
                wrong.append((partition, offset, value))
        commits += log.commit_count
        client.call("close_consumer")
        client.close()
    watcher.close()
    check(not wrong, f"consumers were handed what is not stored: {some(wrong)}")
    missing = {(p, o) for p in stored for o, _ in stored[p]} - handed
    check(not missing, f"committed, but handed to nobody: {some(missing)}")
    check(commits >= cycles, f"only {commits} commits acknowledged in {cycles} cycles")
    again = sum(len(log.records) for _, log in consumers) - total
    return (
        f"{total} records acknowledged, 0 lost, 0 duplicates, order kept; {commits} commits acknowledged, {looks} offsets read back, 0 went back; "
        f"{again} records handed out again; serving after kill -9 in {times(startups)}, "
        f"commits readable {times(answers)} later"
    )


def times(seconds):
    return f"{statistics.median(seconds) * 1000:.0f} ms (most {max(seconds) * 1000:.0f} ms)"
