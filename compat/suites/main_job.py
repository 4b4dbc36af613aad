"""The main job on real input: a text of a million lines through a group of three consumers, one of which is killed, as is the broker.

Produced by confluent-kafka (idempotent); consumed by two librdkafka members and one Java member in one group.
"""

import time

from lib import install
from lib.checks import check, equal, some, wait_until
from lib.clients import Client
from lib.paths import RUN
from lib.scenes import ask_committed, load_log, unique, wait_shared

PARTITIONS = 12
MEMBERS = ["confluent-kafka", "confluent-kafka", "java"]
RATE = 50_000  # lines a second, so that both kills fall into the producing


def run(broker, report, lines):
    report.test(f"main-job: at least {lines} lines", lambda: job(broker, lines), timeout=420)


def write_input(path, least):
    """`<number> <word>` a line, the whole word list again and again; answers the lines."""
    with open(install.word_list(), encoding="utf-8") as f:
        words = f.read().splitlines()
    copies = -(-least // len(words))
    lines = [f"{number} {word}" for number, word in enumerate(words * copies)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return lines


def job(broker, least):
    begun = time.monotonic()
    RUN.mkdir(parents=True, exist_ok=True)
    path = RUN / "main-job.txt"
    lines = write_input(path, least)
    topic, group = unique("main-job"), unique("g-main-job")
    watcher = Client("confluent-kafka", broker.bootstrap)
    watcher.call("open_admin")
    watcher.call("create_topic", topic=topic, partitions=PARTITIONS, configs={})
    watcher.call("open_consumer", group=group)

    members = []
    for kind in MEMBERS:
        client, log = Client(kind, broker.bootstrap), load_log(f"main-job-{kind}")
        client.call("open_consumer", group=group, assignor="range")
        client.call("subscribe", topic=topic)
        client.start("consume_load", log=str(log.path))
        members.append((client, log))
    logs = [log for _, log in members]

    wait_shared(logs, PARTITIONS)

    producer = Client("confluent-kafka", broker.bootstrap)
    producer.call("open_producer", idempotence=True, acks="all", compression="lz4")
    producer.send("produce_lines", topic=topic, partitions=PARTITIONS, path=str(path), rate=RATE)

    def consumed():
        return sum(len(log.read().records) for log in logs)

    wait_until(lambda: consumed() >= len(lines) // 5, 120, lambda: f"a fifth consumed; {consumed()} are", 0.2)
    victim, victim_log = members.pop(0)
    orphans = list(victim_log.assignment)
    victim.kill9()
    at_member_kill = consumed()
    check(producer.answers.empty(), "the producer had ended before the member was killed")

    wait_until(lambda: consumed() >= len(lines) // 2, 120, lambda: f"half consumed; {consumed()} are", 0.2)
    still_producing = producer.answers.empty()
    broker.kill9()
    at_broker_kill = consumed()
    startup = broker.start()
    counts = producer.receive(240)
    equal((counts["sent"], counts["acked"], counts["failed"]), (len(lines), len(lines), 0), f"(sent, acknowledged, failed) {counts['reasons']}")

    survivors = [log for _, log in members]
    ends = [watcher.call("end_offset", topic=topic, partition=p) for p in range(PARTITIONS)]
    equal(sum(ends), len(lines), f"sum of the end offsets {ends}")
    wait_until(lambda: ask_committed(watcher, topic, PARTITIONS) == ends, 120, lambda: f"committed {ask_committed(watcher, topic, PARTITIONS)}, end offsets {ends}", 0.5)
    wait_shared(survivors, PARTITIONS)
    check(set(orphans) <= {p for log in survivors for p in log.assignment}, f"{orphans} were not taken over")

    seen, places = {}, set()
    for log in logs:
        for partition, offset, value in log.read().records:
            number = int(value.partition(" ")[0])
            check(seen.setdefault(number, value) == value, f"line {number} was handed out as {seen[number]!r} and as {value!r}")
            check(number % PARTITIONS == partition, f"line {number} came from partition {partition}")
            places.add((partition, offset))
    missing = set(range(len(lines))) - seen.keys()
    check(not missing, f"lines that nobody saw: {some(missing)}")
    check(len(seen) == len(lines), f"lines that were never produced: {some(seen.keys() - set(range(len(lines))))}")
    changed = [(number, lines[number], value) for number, value in seen.items() if lines[number] != value]
    check(not changed, f"lines that differ (number, sent, seen): {some(changed)}")
    equal(len(places), len(lines), "distinct places in the log")

    for client, _ in members:
        client.finish()
        client.call("close_consumer")
        client.close()
    producer.close()
    watcher.close()
    path.unlink()
    shares = ", ".join(f"{kind} {len(log.records)}" for kind, log in zip(MEMBERS, logs, strict=True))
    return (
        f"{len(lines)} lines, each seen and equal; {sum(len(log.records) for log in logs) - len(lines)} handed out again; consumed by {shares}; "
        f"member killed at {at_member_kill}, broker at {at_broker_kill}{' (while producing)' if still_producing else ''}, "
        f"serving again in {startup * 1000:.0f} ms; committed = end offsets; {time.monotonic() - begun:.0f} s"
    )
