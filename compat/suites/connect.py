"""Kafka Connect: two distributed workers with a file source and a file sink, each worker killed in turn."""

import json
import re
import subprocess
import urllib.error
import urllib.request

from lib import install
from lib.broker import free_port
from lib.checks import check, equal, some, wait_until
from lib.clients import Client
from lib.paths import LOGS, RUN
from lib.scenes import ask_committed, unique

PARTITIONS = 3
# Requests to this machine only.
HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Worker:
    """A process of `org.apache.kafka.connect.cli.ConnectDistributed`; it ends by kill -9."""

    def __init__(self, suite):
        self.port = free_port()
        self.id = f"127.0.0.1:{self.port}"
        self.log = LOGS / f"connect-{self.port}.log"
        properties = RUN / f"connect-{self.port}.properties"
        settings = {**suite.settings, "listeners": f"http://{self.id}"}
        properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        self.command = [*install.connect_worker(), str(properties)]
        self.start()

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def rest(self, method, path, body=None):
        """Answers (status, JSON); (None, reason) where nobody answers."""
        check(self.process.poll() is None, f"the worker {self.id} ended by itself; see {self.log}")
        request = urllib.request.Request(f"http://{self.id}{path}", method=method, headers={"Content-Type": "application/json"})
        request.data = None if body is None else json.dumps(body).encode()
        try:
            with HTTP.open(request, timeout=20) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")
        except OSError as error:
            return None, str(error)

    def kill9(self):
        self.process.kill()
        self.process.wait()


class Suite:
    def __init__(self, broker):
        self.group, self.topic = unique("g-connect"), unique("t-connect")
        # Its own group and topics are Connect's to make.
        self.internal = {"config": f"{self.group}-configs", "offset": f"{self.group}-offsets", "status": f"{self.group}-status"}
        self.settings = {
            "bootstrap.servers": broker.bootstrap,
            "group.id": self.group,
            "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            "value.converter": "org.apache.kafka.connect.storage.StringConverter",
            "plugin.discovery": "service_load",
            "offset.flush.interval.ms": 500,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 1000,
            "scheduled.rebalance.max.delay.ms": 1000,
            "consumer.session.timeout.ms": 6000,
            "consumer.heartbeat.interval.ms": 1000,
            "offset.storage.partitions": 5,
            "status.storage.partitions": 2,
            **{f"{kind}.storage.topic": name for kind, name in self.internal.items()},
            **{f"{kind}.storage.replication.factor": 1 for kind in self.internal},
        }
        self.source, self.sink = unique("file-source"), unique("file-sink")
        self.read, self.written = RUN / f"{self.source}.txt", RUN / f"{self.sink}.txt"
        self.read.write_bytes(b"")
        self.lines = 0
        self.admin = Client("confluent-kafka", broker.bootstrap)
        self.admin.call("open_admin")
        self.admin.call("open_consumer", group=f"connect-{self.sink}")
        self.workers = []

    def close(self):
        for worker in self.workers:
            worker.kill9()
        self.admin.close()

    def put(self, worker, connector, config):
        """Makes a connector; while workers rebalance they say 409, or 500 when they waited for too long."""
        told = None

        def done():
            nonlocal told
            told = worker.rest("PUT", f"/connectors/{connector}/config", config)
            check(told[0] in (None, 201, 409, 500), f"{connector}: {told}")
            return told[0] == 201

        wait_until(done, 60, lambda: f"{connector} is made: {told}", 0.5)

    def append(self, count):
        """More lines for the source; all are of one length, so that one which a kill cut short is known."""
        with open(self.read, "a", encoding="ascii") as f:
            f.writelines(f"<line {n:07}>\n" for n in range(self.lines, self.lines + count))
        self.lines += count

    def output(self):
        data = self.written.read_text(encoding="ascii") if self.written.exists() else ""
        return [int(n) for n in re.findall(r"<line (\d{7})>", data)]

    def wait_all_written(self, timeout=60):
        missing = lambda: set(range(self.lines)) - set(self.output())  # noqa: E731
        wait_until(lambda: not missing(), timeout, lambda: f"lines that are not in the output: {some(missing())}", 0.2)
        equal(set(self.output()), set(range(self.lines)), "lines of the output")

    def status(self, worker, connector):
        """{what: (state, worker)} of a connector and its tasks, as one worker tells it."""
        code, told = worker.rest("GET", f"/connectors/{connector}/status")
        if code != 200:
            return {"answer": (code, told)}
        return {"connector": (told["connector"]["state"], told["connector"]["worker_id"]), **{f"task {t['id']}": (t["state"], t["worker_id"]) for t in told["tasks"]}}

    def wait_running(self, workers, timeout=60):
        """Waits until source and sink have their connector and one task running, and each of these workers has something to do; answers {(connector, what): worker id}."""
        told = {}

        def ready():
            told.clear()
            for connector in (self.source, self.sink):
                told.update({(connector, what): state for what, state in self.status(workers[0], connector).items()})
            running = len(told) == 4 and all(state == "RUNNING" for state, _ in told.values())
            return running and {worker for _, worker in told.values()} == {w.id for w in workers}

        wait_until(ready, timeout, lambda: f"all running on {[w.id for w in workers]}: {told}", 0.2)
        return {what: worker for what, (_, worker) in told.items()}

    def wait_committed(self, worker):
        """Waits until the source's position is the end of its file, and the sink's offsets are the ends of the topic."""
        position = lambda: worker.rest("GET", f"/connectors/{self.source}/offsets")  # noqa: E731
        whole = [{"partition": {"filename": str(self.read)}, "offset": {"position": self.read.stat().st_size}}]
        wait_until(lambda: position() == (200, {"offsets": whole}), 30, lambda: f"the source committed {whole}: {position()}", 0.2)
        ends = [self.admin.call("end_offset", topic=self.topic, partition=p) for p in range(PARTITIONS)]
        committed = lambda: [offset or 0 for offset in ask_committed(self.admin, self.topic, PARTITIONS)]  # noqa: E731
        wait_until(lambda: committed() == ends, 30, lambda: f"committed by the sink {committed()}, end offsets {ends}", 0.2)

    def kill_under_load(self, connector):
        """Kills the worker that runs the connector's task while lines flow; the other takes over all that it did, from where it had committed."""
        placed = self.wait_running(self.workers)
        self.wait_committed(self.workers[0])
        settled = self.output()
        victim = next(w for w in self.workers if w.id == placed[(connector, "task 0")])
        survivor = next(w for w in self.workers if w is not victim)
        begun = self.lines
        self.append(5000)
        wait_until(lambda: len(set(self.output())) > begun, 30, "the first of the new lines is written")
        victim.kill9()
        at_kill = len(set(self.output())) - begun
        self.append(5000)
        self.wait_running([survivor])
        self.wait_all_written()
        self.wait_committed(survivor)
        since = self.output()[len(settled) :]
        repeated = [n for n in since if n < begun]
        check(not repeated, f"lines that were committed before the kill and were written again: {some(repeated)}")
        victim.start()
        return f"killed when {at_kill} of 10000 lines were written; {len(since) - 10000} written again"


def connectors_run(s):
    s.workers = [Worker(s), Worker(s)]
    for worker in s.workers:
        wait_until(lambda worker=worker: worker.rest("GET", "/connectors") == (200, []), 90, lambda worker=worker: f"{worker.id} answers; see {worker.log}", 0.2)
    source = {
        "connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector",
        "tasks.max": 1,
        "file": str(s.read),
        "topic": s.topic,
        "topic.creation.default.partitions": PARTITIONS,
        "topic.creation.default.replication.factor": -1,
    }
    sink = {"connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector", "tasks.max": 1, "file": str(s.written), "topics": s.topic}
    # One of the two workers is not the leader, and forwards.
    s.put(s.workers[0], s.source, source)
    s.append(1000)
    # A sink that subscribes before the source wrote would have the topic made by the broker, with one partition.
    made = lambda: s.workers[0].rest("GET", f"/connectors/{s.source}/topics")  # noqa: E731
    wait_until(lambda: made() == (200, {s.source: {"topics": [s.topic]}}), 60, lambda: f"the source wrote to its topic: {made()}", 0.2)
    s.put(s.workers[1], s.sink, sink)
    s.wait_running(s.workers)
    s.wait_all_written()
    equal(sorted(s.output()), list(range(s.lines)), "lines, each written once")
    equal(s.admin.call("partition_count", topic=s.topic), PARTITIONS, "partitions of the topic that the source made")


def internal_topics_are_what_connect_asked_for(s):
    counts = {kind: s.admin.call("partition_count", topic=name) for kind, name in s.internal.items()}
    equal(counts, {"config": 1, "offset": 5, "status": 2}, "partitions")
    policies = {kind: s.admin.call("describe_configs", topic=name)["cleanup.policy"]["value"] for kind, name in s.internal.items()}
    equal(policies, dict.fromkeys(s.internal, "compact"), "cleanup.policy")


def kill_9_of_the_worker_of_the_source(s):
    return s.kill_under_load(s.source)


def kill_9_of_the_worker_of_the_sink(s):
    """The worker that was killed before is back, and has its share again."""
    return s.kill_under_load(s.sink)


def connectors_are_deleted(s):
    s.wait_running(s.workers)
    for name in (s.source, s.sink):
        wait_until(lambda name=name: s.workers[0].rest("DELETE", f"/connectors/{name}")[0] in (204, 404), 30, f"{name} is deleted", 0.5)
    for worker in s.workers:
        wait_until(lambda worker=worker: worker.rest("GET", "/connectors") == (200, []), 30, f"{worker.id} has no connectors", 0.2)


SCENARIOS = [
    connectors_run,
    internal_topics_are_what_connect_asked_for,
    kill_9_of_the_worker_of_the_source,
    kill_9_of_the_worker_of_the_sink,
    connectors_are_deleted,
]


def run(broker, report):
    LOGS.mkdir(parents=True, exist_ok=True)
    suite = Suite(broker)
    try:
        # Each begins where the one before it ended.
        for scenario in SCENARIOS:
            if not report.test(f"connect: {scenario.__name__.replace('_', ' ')}", lambda scenario=scenario: scenario(suite), timeout=200):
                break
    finally:
        suite.close()
