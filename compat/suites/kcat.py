"""kcat: one process per step, as people use it. Topics are made and commits are read by confluent-kafka, as kcat cannot."""

import json
import re
import subprocess
import threading
import time

from lib import install, wire
from lib.checks import check, equal, some, wait_until
from lib.clients import Client
from lib.paths import LOGS
from lib.scenes import ask_committed, is_share, read_topic, unique


class Suite:
    def __init__(self, broker, report):
        self.broker, self.report = broker, report
        self.program = install.kcat()
        self.helper = Client("confluent-kafka", broker.bootstrap)
        self.helper.call("open_admin")
        self.children = []

    def run(self):
        for scenario in SCENARIOS:
            name = f"kcat: {scenario.__name__.replace('_', ' ')}"
            if scenario in NEED_CONTROL and not self.broker.controllable:
                self.report.skip(name, "this broker is not ours to restart")
                continue
            self.report.test(name, lambda scenario=scenario: scenario(self))
            for child in self.children:
                if child.poll() is None:
                    child.kill()
                child.wait()
            self.children = []
            if self.broker.controllable and not self.broker.alive():
                self.broker.start()
        self.helper.close()

    def topic(self, partitions=1):
        name = unique("t-kcat")
        self.helper.call("create_topic", topic=name, partitions=partitions, configs={})
        return name

    def kcat(self, *args, stdin=b"", timeout=30):
        """Output of one kcat that must end well."""
        command = [self.program, "-b", self.broker.bootstrap, *map(str, args)]
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=timeout, check=False)
        check(done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}\n{done.stderr.decode()[-800:]}")
        return done.stdout

    def produce(self, topic, lines, *args, partition=0):
        self.kcat("-P", "-t", topic, "-p", partition, *args, stdin="".join(f"{line}\n" for line in lines).encode())

    def read(self, topic, *args, partition=0):
        """[(offset, value)] up to the end."""
        out = self.kcat("-C", "-q", "-e", "-t", topic, "-p", partition, *args, "-f", "%o %s\n").decode()
        return [(int(o), v) for o, _, v in (line.partition(" ") for line in out.splitlines())]


def metadata(s):
    topic = s.topic(3)
    found = json.loads(s.kcat("-L", "-J"))
    check(s.broker.bootstrap in [b["name"] for b in found["brokers"]], f"{s.broker.bootstrap} not in {found['brokers']}")
    counts = {t["topic"]: len(t["partitions"]) for t in found["topics"]}
    equal(counts.get(topic), 3, f"partitions of {topic}")


def codecs(s):
    names = ["none", "gzip", "snappy", "lz4", "zstd"]
    for codec in names:
        topic = s.topic()
        lines = [f"{codec} {i} " + "again " * 20 for i in range(300)]
        s.produce(topic, lines, *([] if codec == "none" else ["-z", codec]))
        equal(s.read(topic, "-o", "beginning"), list(enumerate(lines)), codec)
        if s.broker.data_dir:
            found, count = wire.stored_codecs(wire.segments(s.broker.data_dir, topic, 0))
            equal((found, count), ({codec}, 300), f"{codec}: codecs and record count in the segment files")
    return ", ".join(names)


def auto_creates_the_topic(s):
    topic = unique("t-kcat-auto")
    s.produce(topic, ["first"])
    equal(s.read(topic, "-o", "beginning"), [(0, "first")], "a topic made by its first record")


def headers_keys_and_timestamps(s):
    topic = s.topic()
    before = int(time.time() * 1000)
    s.kcat("-P", "-t", topic, "-p", 0, "-k", "key", "-H", "a=1", "-H", "b=", "-H", "a=2", "-H", "null", stdin=b"with headers\n")
    s.kcat("-P", "-t", topic, "-p", 0, "-Z", "-K", ":", stdin=b"k:\n")  # an empty value is a null one
    s.kcat("-P", "-t", topic, "-p", 0, stdin=b"no key\n")
    after = int(time.time() * 1000)
    got = [json.loads(line) for line in s.kcat("-C", "-q", "-e", "-J", "-t", topic, "-p", 0, "-o", "beginning").splitlines()]
    equal([(r["key"], r["payload"]) for r in got], [("key", "with headers"), ("k", None), (None, "no key")], "keys and values")
    equal([r.get("headers", []) for r in got], [["a", "1", "b", "", "a", "2", "null", None], [], []], "headers")
    check(all(before <= r["ts"] <= after for r in got), f"timestamps {[r['ts'] for r in got]} not within {before}..{after}")


def offsets_by_time(s):
    topic, at = s.topic(), 1_600_000_000_000
    s.helper.call("open_producer")
    s.helper.produce([{"topic": topic, "partition": 0, "value": f"{i}".encode(), "timestamp": at + i * 1000} for i in range(100)])

    def query(timestamp):
        out = s.kcat("-Q", "-t", f"{topic}:0:{timestamp}").decode()
        return int(re.search(r"offset (-?\d+)", out)[1])

    # -1 is latest, -2 earliest, else a time. Past the last record kcat prints -1 (END).
    times = [-2, -1, 0, at + 49_500, at + 50_000, at + 99_001]
    equal([query(t) for t in times], [0, 100, 0, 50, 50, -1], f"offsets at {times}")
    equal(s.read(topic, "-o", f"s@{at + 90_000}"), [(i, f"{i}") for i in range(90, 100)], "from a time on")


def seek(s):
    topic = s.topic()
    lines = [f"line {i}" for i in range(50)]
    s.produce(topic, lines)
    both = list(enumerate(lines))
    equal(s.read(topic, "-o", 40), both[40:], "from 40")
    equal(s.read(topic, "-o", -5), both[-5:], "the last five")
    equal(s.read(topic, "-o", 10, "-c", 3), both[10:13], "three from 10")
    equal(s.read(topic, "-o", "end"), [], "from the end")


def members(s, topic, group, count):
    found = []
    for i in range(count):
        out, err = LOGS / f"{group}-{i}.out", LOGS / f"{group}-{i}.err"
        settings = {"auto.offset.reset": "earliest", "session.timeout.ms": 6000, "heartbeat.interval.ms": 500, "auto.commit.interval.ms": 200}
        settings["partition.assignment.strategy"] = "range"
        command = [s.program, "-b", s.broker.bootstrap, "-u", "-f", "%p %o %s\n"]
        for name, value in settings.items():
            command += ["-X", f"{name}={value}"]
        with open(out, "wb") as o, open(err, "wb") as e:
            child = subprocess.Popen([*command, "-G", group, topic], stdout=o, stderr=e)
        s.children.append(child)
        found.append((child, out, err))
    return found


def assignment(member):
    """The partitions of the last 'assigned' line, none when a 'revoked' one came after it."""
    lines = [line for line in member[2].read_text().splitlines() if "rebalanced" in line]
    if not lines or "assigned:" not in lines[-1]:
        return []
    return [int(p) for p in re.findall(r"\[(\d+)\]", lines[-1].split("assigned:")[1])]


def seen(found):
    """[(partition, offset)] of whole lines."""
    lines = [line for _, out, _ in found for line in out.read_text().splitlines(keepends=True)]
    return [tuple(map(int, line.split(" ")[:2])) for line in lines if line.endswith("\n")]


def group_of_three_and_kill_9_of_a_member(s):
    topic, group = s.topic(6), unique("g-kcat")
    found = members(s, topic, group, 3)
    shared = lambda of: is_share([assignment(m) for m in of], 6)  # noqa: E731
    wait_until(lambda: shared(found), 45, lambda: f"three members share: {[assignment(m) for m in found]}")
    for p in range(6):
        s.produce(topic, [f"before {p} {i}" for i in range(200)], partition=p)
    first = [(p, o) for p in range(6) for o in range(200)]
    wait_until(lambda: set(first) <= set(seen(found)), 20, lambda: f"not seen {some(set(first) - set(seen(found)))}")
    equal(sorted(seen(found)), first, "each record once while the group is stable")
    found[0][0].kill()
    orphans = assignment(found[0])
    for p in range(6):
        s.produce(topic, [f"after {p} {i}" for i in range(200)], partition=p)
    begun = time.monotonic()
    everything = {(p, o) for p in range(6) for o in range(400)}
    wait_until(lambda: everything <= set(seen(found)), 40, lambda: f"not seen after the kill {some(everything - set(seen(found)))}")
    takeover = time.monotonic() - begun
    wait_until(lambda: shared(found[1:]), 10, lambda: f"two members share: {[assignment(m) for m in found[1:]]}")
    check(set(orphans) <= {p for m in found[1:] for p in assignment(m)}, f"{orphans} were not taken over")
    for child, _, err in found[1:]:
        child.terminate()
        code = child.wait(timeout=20)
        check(code == 0, f"kcat -G ended with {code}\n{err.read_text()[-800:]}")
    s.helper.call("open_consumer", group=group)
    equal(ask_committed(s.helper, topic, 6), [400] * 6, "committed at the end")
    s.helper.call("close_consumer")
    return f"took over {takeover:.1f} s after the last record"


def restart_under_load_idempotent(s):
    topic = s.topic()
    err = LOGS / f"{topic}.err"
    # -E: a broker that is away is no reason to end.
    command = [s.program, "-E", "-b", s.broker.bootstrap, "-P", "-t", topic, "-p", "0", "-X", "enable.idempotence=true", "-X", "linger.ms=5"]
    command += ["-X", "reconnect.backoff.max.ms=300"]
    with open(err, "wb") as e:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=e)
    s.children.append(child)
    done, lines = threading.Event(), []

    def feed():
        while not done.is_set() and child.poll() is None:
            batch = [f"line {len(lines) + i}" for i in range(10)]
            child.stdin.write("".join(f"{line}\n" for line in batch).encode())
            child.stdin.flush()
            lines.extend(batch)
            time.sleep(0.01)
        child.stdin.close()

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    for end in (s.broker.stop, s.broker.kill9, s.broker.kill9):
        time.sleep(1)
        check(child.poll() is None, f"kcat -P ended by itself with {child.returncode}\n{err.read_text()[-800:]}")
        end()
        time.sleep(0.3)
        s.broker.start()
    time.sleep(1)
    done.set()
    feeder.join()
    code = child.wait(timeout=60)
    check(code == 0, f"kcat -P ended with {code}\n{err.read_text()[-800:]}")
    # kcat ends well only when every line was acknowledged; with idempotence each is there once and in order.
    stored = read_topic(s.broker, topic, 1)[0]
    equal(stored, list(enumerate(lines)), "the lines stored")
    return f"{len(lines)} lines, each once and in order"


NEED_CONTROL = [restart_under_load_idempotent]
SCENARIOS = [
    metadata,
    codecs,
    auto_creates_the_topic,
    headers_keys_and_timestamps,
    offsets_by_time,
    seek,
    group_of_three_and_kill_9_of_a_member,
    restart_under_load_idempotent,
]


def run(broker, report):
    Suite(broker, report).run()
