"""Groups of Go clients: franz-go and sarama, each by itself."""

import subprocess

from lib import install
from lib.checks import some, wait_until
from lib.clients import Client
from lib.paths import LOGS
from lib.scenes import ask_committed, load_log, unique, wait_shared

PARTITIONS, RECORDS = 6, 600


class Member:
    """A process of `clients/go`; it has no commands, and ends by kill -9."""

    def __init__(self, kind, bootstrap, group, topic):
        self.log = load_log(f"{kind}-{group}")
        with open(LOGS / f"{self.log.path.stem}.err", "wb") as errors:
            command = [install.go_groups(), kind, bootstrap, group, topic, str(self.log.path)]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)

    def kill9(self):
        self.process.kill()
        self.process.wait()


def group_and_takeover(broker, kinds):
    """A share for each, each record read; after kill -9 of the first the others have everything, and commit up to the end."""
    admin = Client("confluent-kafka", broker.bootstrap)
    admin.call("open_admin")
    admin.call("open_producer")
    topic, group = unique("t-go"), unique("g-go")
    admin.call("create_topic", topic=topic, partitions=PARTITIONS, configs={})
    members = [Member(kind, broker.bootstrap, group, topic) for kind in kinds]

    def produce_and_wait(label):
        sent = admin.produce([{"topic": topic, "partition": i % PARTITIONS, "value": f"{label}-{i}".encode()} for i in range(RECORDS)])
        places = {tuple(place) for place in sent}
        seen = lambda: {(p, o) for m in members for p, o, _ in m.log.read().records}  # noqa: E731
        wait_until(lambda: places <= seen(), 60, lambda: f"{label}: not seen {some(places - seen())}")

    try:
        wait_shared([m.log for m in members], PARTITIONS, timeout=60)
        produce_and_wait("before")
        members[0].kill9()
        produce_and_wait("after")
        wait_shared([m.log for m in members[1:]], PARTITIONS, timeout=60)
        end = 2 * RECORDS // PARTITIONS
        admin.call("open_consumer", group=group)
        committed = lambda: ask_committed(admin, topic, PARTITIONS)  # noqa: E731
        wait_until(lambda: committed() == [end] * PARTITIONS, 30, lambda: f"committed up to {end}: {committed()}")
    finally:
        for member in members:
            member.kill9()
        admin.close()


def run(broker, report):
    for kinds in (["franz-go", "franz-go", "franz-go"], ["sarama", "sarama", "sarama"]):
        report.test(f"go: {kinds[0]}: group of three and kill 9 of a member", lambda kinds=kinds: group_and_takeover(broker, kinds), timeout=240)
