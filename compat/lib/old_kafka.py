"""An Apache Kafka of an earlier year, from the jars that Maven has of it: with a ZooKeeper before 3.3, alone (KRaft) from then on."""

import re
import subprocess
import time

from lib import install
from lib.broker import SETTINGS, Own
from lib.checks import check
from lib.paths import COMPAT

# What their Java did not know yet: these doors were open then.
OPENED = ["java.base/java.lang", "java.base/java.nio", "java.base/java.util", "java.base/sun.nio.ch"]
JAVA = ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx384m", "-Dzookeeper.jmx.log4j.disable=true", *(f"--add-opens={place}=ALL-UNNAMED" for place in OPENED)]
STARTED = re.compile(r"KafkaServer id=1\] started|Kafka Server started")
PATIENCE_S = 60
# One broker, and as few partitions as tests get along with: each of them costs time when the broker starts to use it.
ALONE = {
    "offsets.topic.num.partitions": "3",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "3",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
}


def is_kraft(version):
    """Whether this version runs without ZooKeeper in production (KIP-833)."""
    return tuple(map(int, version.split("."))) >= (3, 3)


class OldKafka(Own):
    """A broker of one version, by itself."""

    def __init__(self, version):
        self.version = version
        self.path = install.old_kafka(version)
        self.keeper = self.process = None
        super().__init__(f"kafka-{version}")

    def start(self):
        begun = time.monotonic()
        # The controller's port when there is no ZooKeeper.
        beside = f"127.0.0.1:{self.port + 1}"
        settings = {**SETTINGS, **ALONE, "log.dirs": f"{self.data_dir}/log", "advertised.listeners": f"PLAINTEXT://{self.bootstrap}"}
        if is_kraft(self.version):
            settings |= {
                "process.roles": "broker,controller",
                "node.id": "1",
                "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{beside}",
                "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
                "controller.listener.names": "CONTROLLER",
                "controller.quorum.voters": f"1@{beside}",
            }
        else:
            settings |= {"broker.id": "1", "listeners": f"PLAINTEXT://{self.bootstrap}", "zookeeper.connect": beside, "zookeeper.connection.timeout.ms": "30000"}
            keeper = {"dataDir": f"{self.data_dir}/zookeeper", "clientPortAddress": "127.0.0.1", "clientPort": self.port + 1, "admin.enableServer": "false"}
            self.keeper = self.java("org.apache.zookeeper.server.quorum.QuorumPeerMain", self.file("zookeeper.properties", keeper))
        server = self.file("server.properties", settings)
        if is_kraft(self.version):
            formatting = self.java("kafka.tools.StorageTool", "format", "--cluster-id", "compat-old-brokers-000", "--config", server)
            check(formatting.wait(PATIENCE_S) == 0, f"Apache Kafka {self.version} does not format its folder\n{self.log_tail()}")
        self.process = self.java("kafka.Kafka", server)
        while not STARTED.search(self.log.read_text(errors="replace")):
            check(self.process.poll() is None, f"Apache Kafka {self.version} ended with {self.process.returncode}\n{self.log_tail()}")
            check(time.monotonic() < begun + PATIENCE_S, f"Apache Kafka {self.version} did not start within {PATIENCE_S} s\n{self.log_tail()}")
            time.sleep(0.05)
        return time.monotonic() - begun

    def java(self, *command):
        log4j = f"-Dlog4j.configuration=file:{COMPAT / 'brokers' / 'log4j.properties'}"
        with open(self.log, "ab") as log:
            return subprocess.Popen([*JAVA, log4j, "-cp", self.path, *map(str, command)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def file(self, name, settings):
        path = self.data_dir / name
        path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        return path

    def alive(self):
        return any(process is not None and process.poll() is None for process in (self.process, self.keeper))

    def kill9(self):
        for process in (self.process, self.keeper):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait(timeout=30)
