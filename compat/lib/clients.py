"""Handles of client processes: commands go to their stdin, answers come back from their stdout (see `clients/driver.py`)."""

import atexit
import base64
import itertools
import json
import queue
import subprocess
import threading

from lib import install
from lib.paths import COMPAT, LOGS

KINDS = ["confluent-kafka", "kafka-python", "aiokafka", "java"]
_FILES = {"confluent-kafka": "confluent.py", "kafka-python": "kafka_python.py", "aiokafka": "aiokafka_client.py"}
_numbers = itertools.count(1)


class ClientError(Exception):
    def __init__(self, command, told):
        super().__init__(f"{command}: {told['type']} (code {told['code']}): {told['message']}")
        self.code = told["code"]


class Gone(Exception):
    pass


class Client:
    def __init__(self, kind, bootstrap):
        self.kind, self.bootstrap = kind, bootstrap
        LOGS.mkdir(parents=True, exist_ok=True)
        self.stderr = LOGS / f"client-{next(_numbers):03}-{kind}.log"
        command = install.java_driver() if kind == "java" else [install.venv(), "-u", str(COMPAT / "clients" / _FILES[kind])]
        with open(self.stderr, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        self.answers = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        atexit.register(self.kill9)

    def _read(self):
        for line in self.process.stdout:
            self.answers.put(line)
        self.answers.put(None)

    def send(self, do, **args):
        if do.startswith("open_"):
            args["bootstrap"] = self.bootstrap
        self.last = do
        try:
            self.process.stdin.write(json.dumps({"do": do, **args}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise Gone(f"the {self.kind} client is gone; see {self.stderr}") from error

    def receive(self, timeout=60):
        try:
            line = self.answers.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"{self.kind}: {self.last} not answered within {timeout} s; see {self.stderr}") from None
        if line is None:
            raise Gone(f"the {self.kind} client ended in {self.last}; see {self.stderr}")
        answer = json.loads(line)
        if "error" in answer:
            raise ClientError(f"{self.kind}: {self.last}", answer["error"])
        return answer["ok"]

    def call(self, do, within=60, **args):
        self.send(do, **args)
        return self.receive(within)

    def start(self, do, **args):
        """Begins a load; `finish` ends it."""
        if self.call(do, **args) != "started":
            raise AssertionError(f"{do} did not start")

    def finish(self, timeout=100):
        """Ends the load and answers its counts."""
        self.send("info")
        counts = self.receive(timeout)
        self.receive()
        return counts

    def poll(self, timeout, most=5000):
        records = self.call("poll", timeout=timeout, max=most)
        for r in records:
            r["key"], r["value"] = unb64(r["key"]), unb64(r["value"])
            r["headers"] = [(name, unb64(value)) for name, value in r["headers"]]
        return records

    def produce(self, records):
        return self.call(
            "produce",
            records=[
                {**r, "key": b64(r.get("key")), "value": b64(r.get("value")), "headers": [[n, b64(v)] for n, v in r.get("headers", [])]}
                for r in records
            ],
        )

    def kill9(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        atexit.unregister(self.kill9)

    def close(self):
        """Ends the process without a goodbye to the group; `close_consumer` says goodbye."""
        try:
            self.call("exit", within=10)
        except Exception:  # noqa: BLE001  it goes either way
            pass
        self.kill9()


def b64(data):
    return None if data is None else base64.b64encode(data).decode()


def unb64(text):
    return None if text is None else base64.b64decode(text)


class LoadLog:
    """What a load wrote so far (see `clients/driver.py`), read on from where the last look ended."""

    def __init__(self, path):
        self.path = path
        self.at = 0
        self.acks = {}  # seq -> (partition, offset)
        self.failures = []
        self.records = []  # (partition, offset, value)
        self.commits = {}  # partition -> highest acknowledged
        self.commits_back = []
        self.commit_count = 0
        self.errors = []
        self.assignments = []
        path.write_bytes(b"")

    def read(self):
        with open(self.path, "rb") as f:
            f.seek(self.at)
            data = f.read()
        # A line that a kill -9 cut short stays unread.
        whole = data.rfind(b"\n") + 1
        self.at += whole
        for line in data[:whole].decode().splitlines():
            kind, _, rest = line.partition(" ")
            if kind == "R":
                partition, offset, value = rest.split(" ", 2)
                self.records.append((int(partition), int(offset), value))
            elif kind == "A":
                seq, partition, offset = rest.split(" ")
                self.acks[int(seq)] = (int(partition), int(offset))
            elif kind == "C":
                partition, offset = map(int, rest.split(" "))
                self.commit_count += 1
                self.commits[partition] = max(offset, self.commits.get(partition, 0))
            elif kind == "P":
                self.assignments.append([int(p) for p in rest.split(",") if p])
            elif kind == "F":
                self.failures.append(rest)
            else:
                self.errors.append(rest)
        return self

    @property
    def assignment(self):
        return self.assignments[-1] if self.assignments else []
