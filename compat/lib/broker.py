"""Starting, stopping, killing and restarting a broker: Kavka, Apache Kafka, or one that runs already.

A broker keeps its port and its data folder over restarts. The port is taken from below the range that Linux hands out to
outgoing connections: a client that keeps trying to reach a dead broker could otherwise be given that very port as its own.
"""

import atexit
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import time

from lib.checks import check
from lib.paths import DATA, LOGS

SETTINGS = {"group.initial.rebalance.delay.ms": "200"}


def free_port():
    while True:
        port = random.randrange(18000, 32000, 2)
        try:
            for candidate in (port, port + 1):
                with socket.socket() as s:
                    s.bind(("127.0.0.1", candidate))
            return port
        except OSError:
            continue


class Running:
    """A broker that somebody else runs: no restarts, no look at its files."""

    controllable = False
    data_dir = None

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap

    def close(self):
        pass


class Own:
    controllable = True

    def __init__(self, name):
        self.name = name
        self.port = free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.data_dir = DATA / name
        self.log = LOGS / f"broker-{name}.log"
        shutil.rmtree(self.data_dir, ignore_errors=True)
        self.data_dir.mkdir(parents=True)
        LOGS.mkdir(parents=True, exist_ok=True)
        self.log.write_bytes(b"")
        atexit.register(self.close)
        self.start()

    def close(self):
        if self.alive():
            self.kill9()
        atexit.unregister(self.close)
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def log_tail(self, lines=15):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Kavka(Own):
    def __init__(self, name, binary, settings=None):
        self.binary = binary
        self.settings = {**SETTINGS, **(settings or {})}
        self.process = None
        super().__init__(name)

    def start(self):
        """Returns how many seconds passed until the broker said that it serves."""
        command = [self.binary, "serve", "--listen", self.bootstrap, "--data-dir", str(self.data_dir)]
        for name, value in self.settings.items():
            command += ["-X", f"{name}={value}"]
        begun = time.monotonic()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True)
        ready, _, _ = select.select([self.process.stdout], [], [], 30)
        line = self.process.stdout.readline() if ready else ""
        if line.strip() != f"listening on {self.bootstrap}":
            self.process.kill()
            code = self.process.wait()
            raise AssertionError(f"kavka did not say 'listening on {self.bootstrap}' but {line!r} (exit code {code})\n{self.log_tail()}")
        return time.monotonic() - begun

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def stop(self):
        check(self.alive(), f"the broker ended by itself with {self.process.returncode}\n{self.log_tail()}")
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=30)
        check(code == 0, f"SIGTERM: exit code {code}, not 0\n{self.log_tail()}")

    def kill9(self):
        check(self.alive(), f"the broker ended by itself with {self.process.returncode}\n{self.log_tail()}")
        self.process.kill()
        self.process.wait(timeout=30)


class ApacheKafka(Own):
    """The oracle, through the scripts beside the repository."""

    def __init__(self, name, peer, settings=None):
        self.peer = peer
        self.settings = {**SETTINGS, **(settings or {})}
        self.pid = None
        super().__init__(name)

    def start(self):
        begun = time.monotonic()
        settings = [f"{name}={value}" for name, value in self.settings.items()]
        env = {**os.environ, "KAFKA_HEAP_OPTS": "-Xms512M -Xmx512M"}
        with open(self.log, "ab") as log:
            done = subprocess.run(
                [str(self.peer / "start"), str(self.port), str(self.data_dir), *settings], stdout=subprocess.PIPE, stderr=log, text=True, env=env, check=False
            )
        check(done.returncode == 0, f"Apache Kafka did not start\n{self.log_tail()}")
        self.pid = int(done.stdout)
        return time.monotonic() - begun

    def alive(self):
        if self.pid is None:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def stop(self):
        subprocess.run([str(self.peer / "stop"), str(self.pid)], check=True)
        self.pid = None

    def kill9(self):
        os.kill(self.pid, signal.SIGKILL)
        while self.alive():
            time.sleep(0.01)
        self.pid = None
