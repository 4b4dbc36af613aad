"""The shell around every Python client: one JSON command a line on stdin, one JSON answer a line on stdout.

It owns the command loop and the two long-running loads (`produce_load`, `consume_load`), so that these mean the same for
every client. It does not know any client: that is `Client`, which `confluent.py`, `kafka_python.py` and `aiokafka_client.py`
implement. `java/src/Driver.java` speaks the same commands.

A load runs until the next command arrives. What it saw goes to a log file, flushed line by line, so that it outlives a
kill -9 of this process:

    A <seq> <partition> <offset>        the broker acknowledged a record
    F <reason>                          the client gave up on a record
    P <partition,...>                   the assignment of a consumer changed to this
    R <partition> <offset> <value>      a consumer was handed a record
    C <partition> <offset>              a commit was acknowledged
    E <reason>                          a commit or a poll failed; the consumer goes on
"""

import base64
import json
import os
import queue
import sys
import threading
import time
import traceback


class KafkaFailure(Exception):
    """An error code that a broker answered, or a client's own failure (code None)."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code
        self.message = message


def b64(data):
    return None if data is None else base64.b64encode(data).decode()


def unb64(text):
    return None if text is None else base64.b64decode(text)


class Client:
    """What a client driver implements. Offsets and partitions are plain integers, keys and values bytes or None."""

    def open_producer(self, bootstrap, acks, idempotence, compression, client_id):
        raise NotImplementedError

    def send(self, topic, partition, key, value, headers, timestamp, done):
        """Queues one record; `done(error, partition, offset)` is called from `service` or another thread."""
        raise NotImplementedError

    def service(self):
        """Runs callbacks that wait, where the client wants to be asked for them."""

    def flush(self, timeout):
        raise NotImplementedError


class Driver:
    def __init__(self, client):
        self.client = client
        self.commands = queue.Queue()

    def run(self):
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            command = self.commands.get()
            if command is None:
                break
            name = command.pop("do")
            try:
                answer = {"ok": self._execute(name, command)}
            except Exception as error:  # noqa: BLE001  the harness judges every failure
                answer = {"error": describe(self.client, error)}
                print(f"{name}: {traceback.format_exc()}", file=sys.stderr, flush=True)
            self._answer(answer)
            if name == "exit":
                break
        # Clients keep threads that would delay the end; whatever mattered was closed by command.
        os._exit(0)

    def _read(self):
        for line in sys.stdin:
            self.commands.put(json.loads(line))
        self.commands.put(None)

    def _answer(self, answer):
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

    def _execute(self, name, args):
        if name == "exit":
            return None
        if name == "produce":
            return self.produce(**args)
        if name == "produce_load":
            return self.produce_load(**args)
        if name == "produce_lines":
            return self.produce_lines(**args)
        if name == "consume_load":
            return self.consume_load(**args)
        if name == "poll":
            return [encode_record(r) for r in self.client.poll(args["timeout"], args["max"])]
        return getattr(self.client, name)(**args)

    def produce(self, records):
        """Sends all, waits for all, answers [partition, offset] of each."""
        results = [None] * len(records)

        def on_done(index):
            def done(error, partition, offset):
                results[index] = error if error is not None else [partition, offset]

            return done

        for index, r in enumerate(records):
            headers = [(name, unb64(value)) for name, value in r.get("headers", [])]
            self.client.send(
                r["topic"], r.get("partition"), unb64(r.get("key")), unb64(r.get("value")), headers, r.get("timestamp"), on_done(index)
            )
        self.client.flush(60)
        for result in results:
            if isinstance(result, Exception):
                raise result
            if result is None:
                raise KafkaFailure(None, "the client returned from flush without an answer for each record")
        return results

    def produce_load(self, topic, partitions, name, rate, log):
        """Sends `<name> <seq>` to partition seq % partitions, at most `rate` a second, until the next command.

        Answers {sent, acked, failed} once everything in flight was answered.
        """
        lock = threading.Lock()
        counts = {"sent": 0, "acked": 0, "failed": 0}
        self._answer({"ok": "started"})
        with open(log, "a", buffering=1) as out:

            def on_done(seq):
                def done(error, partition, offset):
                    with lock:
                        if error is None:
                            counts["acked"] += 1
                            out.write(f"A {seq} {partition} {offset}\n")
                        else:
                            counts["failed"] += 1
                            out.write(f"F {seq} {one_line(error)}\n")

                return done

            tick = 0.01
            due = time.monotonic()
            while self.commands.empty():
                for _ in range(max(1, int(rate * tick))):
                    if counts["sent"] - counts["acked"] - counts["failed"] >= 2000:
                        break
                    seq = counts["sent"]
                    self.client.send(topic, seq % partitions, None, f"{name} {seq}".encode(), [], None, on_done(seq))
                    counts["sent"] += 1
                self.client.service()
                due = max(due + tick, time.monotonic() - 0.1)
                time.sleep(max(0.0, due - time.monotonic()))
            self.client.flush(90)
        return counts

    def produce_lines(self, topic, partitions, path, rate):
        """Sends each line of a file, in order, to partition (line number % partitions); answers how many were acknowledged."""
        counts = {"sent": 0, "acked": 0, "failed": 0}
        lock = threading.Lock()
        reasons = []

        def done(error, _partition, _offset):
            with lock:
                if error is None:
                    counts["acked"] += 1
                else:
                    counts["failed"] += 1
                    reasons[:] = [*reasons, one_line(error)][-3:]

        begun = time.monotonic()
        with open(path, "rb") as lines:
            for number, line in enumerate(lines):
                while counts["sent"] - counts["acked"] - counts["failed"] >= 50_000:
                    self.client.service()
                    time.sleep(0.005)
                if number % 500 == 0:
                    time.sleep(max(0.0, begun + number / rate - time.monotonic()))
                    self.client.service()
                self.client.send(topic, number % partitions, None, line.rstrip(b"\n"), [], None, done)
                counts["sent"] += 1
        self.client.flush(120)
        return {**counts, "reasons": reasons}

    def consume_load(self, log):
        """Reads what the open, subscribed consumer gets and commits each batch after it was logged, until the next command."""
        self._answer({"ok": "started"})
        consumed = 0
        assigned = None
        with open(log, "a", buffering=1 << 20) as out:
            while self.commands.empty():
                try:
                    records = self.client.poll(0.1, 2000)
                except Exception as error:  # noqa: BLE001  a broker that is down must not end the load
                    out.write(f"E poll {one_line(error)}\n")
                    out.flush()
                    time.sleep(0.1)
                    continue
                now = sorted(self.client.assignment())
                if now != assigned:
                    assigned = now
                    out.write("P " + ",".join(str(p) for _, p in now) + "\n")
                    out.flush()
                if not records:
                    continue
                ends = {}
                for r in records:
                    out.write(f"R {r['partition']} {r['offset']} {r['value'].decode()}\n")
                    ends[(r["topic"], r["partition"])] = r["offset"] + 1
                consumed += len(records)
                out.flush()
                try:
                    self.client.commit([[t, p, o] for (t, p), o in ends.items()])
                except Exception as error:  # noqa: BLE001  the records are handed out again after the rebalance
                    out.write(f"E commit {one_line(error)}\n")
                    out.flush()
                    continue
                out.writelines(f"C {p} {o}\n" for (_, p), o in ends.items())
                out.flush()
        return {"consumed": consumed}


def encode_record(r):
    return {
        **r,
        "key": b64(r["key"]),
        "value": b64(r["value"]),
        "headers": [[name, b64(value)] for name, value in r["headers"]],
    }


def describe(client, error):
    code = getattr(error, "code", None)
    if not isinstance(code, int):
        code = client.error_code(error)
    return {"type": type(error).__name__, "code": code, "message": str(error)}


def one_line(error):
    return f"{type(error).__name__} {error}".replace("\n", " ")[:300]
