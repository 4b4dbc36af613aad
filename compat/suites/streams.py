"""Kafka Streams: a word count of two instances with a repartition topic and a changelog, whose instances are killed."""

import collections
import random
import subprocess
import time

from lib import install
from lib.checks import check, equal, some, wait_until
from lib.clients import Client
from lib.paths import DATA, LOGS, RUN
from lib.scenes import ask_committed, read_topic, unique

PARTITIONS = 4
TASKS = sorted(f"{topology}_{p}" for topology in (0, 1) for p in range(PARTITIONS))


class Instance:
    """A process of `clients/streams` with a state folder of its own; it ends by kill -9."""

    def __init__(self, suite, name):
        self.name = name
        state = DATA / f"{suite.application}-{name}"
        self.told = LOGS / f"{suite.application}-{name}.out"
        command = [*install.word_count(), suite.broker.bootstrap, suite.application, suite.input, suite.output, str(state)]
        with open(self.told, "wb") as out, open(self.told.with_suffix(".err"), "wb") as err:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)

    def lines(self, kind):
        """The lines of one kind so far (see `WordCount.java`), without one that a kill cut short."""
        check(self.process.poll() is None or self.process.returncode == -9, f"{self.name} ended by itself; see {self.told.with_suffix('.err')}")
        whole = self.told.read_text().rpartition("\n")[0].splitlines()
        return [line[2:] for line in whole if line.startswith(kind + " ")]

    def tasks(self):
        return [task for task in (self.lines("T") or [""])[-1].split(",") if task]

    def running(self):
        return self.lines("S")[-1:] == ["RUNNING"]

    def kill9(self):
        self.process.kill()
        self.process.wait()


class Suite:
    def __init__(self, broker, report):
        self.broker, self.report = broker, report
        self.application, self.input, self.output = unique("g-streams"), unique("t-streams-in"), unique("t-streams-out")
        self.repartition, self.changelog = f"{self.application}-counts-repartition", f"{self.application}-counts-changelog"
        self.admin = Client("confluent-kafka", broker.bootstrap)
        self.admin.call("open_admin")
        for topic in (self.input, self.output):
            self.admin.call("create_topic", topic=topic, partitions=PARTITIONS, configs={})
        self.admin.call("open_consumer", group=self.application)
        self.producer = Client("confluent-kafka", broker.bootstrap)
        self.producer.call("open_producer", idempotence=True, acks="all")
        self.random = random.Random(7)
        self.words = [f"word{n}" for n in range(200)]
        self.truth = collections.Counter()
        self.instances = []

    def start(self, name):
        instance = Instance(self, name)
        self.instances.append(instance)
        return instance

    def close(self):
        for instance in self.instances:
            instance.kill9()
        self.admin.close()
        self.producer.close()

    def send(self, count, rate):
        """Begins to produce lines of five words, some words far more often than others; counts them in `truth`."""
        lines = []
        for _ in range(count):
            words = [self.words[min(int(self.random.expovariate(0.03)), len(self.words) - 1)] for _ in range(5)]
            self.truth.update(words)
            lines.append(" ".join(words))
        path = RUN / f"{self.input}.txt"
        path.write_text("\n".join(lines) + "\n")
        self.producer.send("produce_lines", topic=self.input, partitions=PARTITIONS, path=str(path), rate=rate)

    def sent(self, count):
        told = self.producer.receive(90)
        equal((told["sent"], told["acked"], told["failed"]), (count, count, 0), f"(sent, acknowledged, failed) {told['reasons']}")

    def ends(self, topic):
        return [self.admin.call("end_offset", topic=topic, partition=p) for p in range(PARTITIONS)]

    def committed(self, topic):
        return [offset or 0 for offset in ask_committed(self.admin, topic, PARTITIONS)]

    def wait_quiet(self, timeout=90):
        """Waits until all is counted and committed. What was counted is in the output and in the changelog before its input is committed."""
        for topic in (self.input, self.repartition):
            wait_until(
                lambda topic=topic: self.committed(topic) == self.ends(topic),
                timeout,
                lambda topic=topic: f"{topic}: committed {self.committed(topic)}, end offsets {self.ends(topic)}",
                0.2,
            )

    def wait_tasks(self, *instances):
        """Waits until these instances run all tasks, each once."""
        wait_until(
            lambda: all(i.running() and i.tasks() for i in instances) and sorted(t for i in instances for t in i.tasks()) == TASKS,
            60,
            lambda: f"{len(instances)} instances share {TASKS}: {({i.name: (i.lines('S')[-1:], i.tasks()) for i in instances})}",
        )

    def updates(self):
        """{word: every count in the order of the output}"""
        found = collections.defaultdict(list)
        for records in read_topic(self.broker, self.output, PARTITIONS).values():
            for _, value in records:
                word, _, count = value.partition(" ")
                found[word].append(int(count))
        return found

    def check_exact(self):
        """Each word was counted from one to the truth, no step left out and none repeated."""
        updates = self.updates()
        equal({w: c[-1] for w, c in sorted(updates.items())}, dict(sorted(self.truth.items())), "final counts")
        wrong = {word for word, counts in updates.items() if counts != list(range(1, len(counts) + 1))}
        check(not wrong, f"words whose counts skip or repeat a step: {some(wrong)}")


def two_instances_share_the_work(s):
    s.first, s.second = s.start("first"), s.start("second")
    s.wait_tasks(s.first, s.second)
    s.send(1000, 5000)
    s.sent(1000)
    s.wait_quiet()
    s.check_exact()
    config = {topic: s.admin.call("describe_configs", topic=topic) for topic in (s.changelog, s.repartition)}
    equal(config[s.changelog]["cleanup.policy"]["value"], "compact", "cleanup.policy of the changelog")
    equal((config[s.repartition]["cleanup.policy"]["value"], config[s.repartition]["retention.ms"]["value"]), ("delete", "-1"), "policy and retention of the repartition topic")
    beginning = lambda: [s.admin.call("beginning_offset", topic=s.repartition, partition=p) for p in range(PARTITIONS)]  # noqa: E731
    wait_until(lambda: beginning() == s.ends(s.repartition), 30, lambda: f"what was counted is deleted from {s.repartition}: {beginning()} of {s.ends(s.repartition)}")
    return f"{sum(s.truth.values())} words"


def kill_9_of_a_quiet_instance_loses_and_repeats_nothing(s):
    stored = s.ends(s.changelog)
    had = {task for line in s.second.lines("T") for task in line.split(",")}
    orphans = s.first.tasks()
    restored_before = len(s.second.lines("L"))
    s.first.kill9()
    s.send(1000, 5000)
    s.sent(1000)
    s.wait_tasks(s.second)
    restored = dict(tuple(map(int, line.split())) for line in s.second.lines("L")[restored_before:])
    # A partition that the survivor never had comes from the changelog as a whole.
    whole = {int(task[2:]): stored[int(task[2:])] for task in orphans if task.startswith("1_") and task not in had}
    equal({p: restored.get(p) for p in whole}, whole, "records restored from the changelog, for each partition that is new here")
    check(whole, f"the killed instance had no store: {orphans}")
    s.wait_quiet()
    s.check_exact()
    return f"{sum(whole.values())} records restored for {len(whole)} partitions; {sum(s.truth.values())} words, each counted once"


def kill_9_of_a_busy_instance_loses_nothing(s):
    """At-least-once to the record: what was in the changelog and not committed is counted again, and nothing else is.

    Up to here each record of the repartition topic has its one record in the changelog, at the same offset.
    """
    s.third = s.start("third")
    s.wait_tasks(s.second, s.third)
    before, count = sum(s.ends(s.input)), 12000
    s.send(count, 3000)
    wait_until(lambda: sum(s.committed(s.input)) >= before + count // 4, 60, lambda: f"a quarter of {count} lines committed: {s.committed(s.input)}")
    stores = [int(task[2:]) for task in s.second.tasks() if task.startswith("1_")]
    check(stores, f"the instance to kill has no store: {s.second.tasks()}")

    def uncommitted():
        stored, committed = s.ends(s.changelog), s.committed(s.repartition)
        return sum(max(0, stored[p] - committed[p]) for p in stores)

    wait_until(uncommitted, 30, "something is counted and not yet committed", pause=0.005)
    s.second.kill9()
    busy = s.producer.answers.empty()
    # What the killed one had sent may still arrive; that the others miss it takes the session timeout.
    time.sleep(1)
    counted_again = uncommitted()
    s.sent(count)
    s.wait_tasks(s.third)
    s.wait_quiet()
    final = {word: counts[-1] for word, counts in s.updates().items()}
    equal(sorted(final), sorted(s.truth), "words")
    lost = {(word, count, s.truth[word]) for word, count in final.items() if count < s.truth[word]}
    check(not lost, f"(word, count, truth) below the truth: {some(lost)}")
    words = sum(s.truth.values())
    repeated = sum(s.ends(s.repartition)) - words
    equal(sum(final.values()), words + repeated + counted_again, f"sum of the counts: {words} words, {repeated} of them sent again to be counted, {counted_again} counted again")
    return f"{words} words, {repeated} sent again to be counted, {counted_again} counted again; killed {'while' if busy else 'after'} producing"


def run(broker, report):
    LOGS.mkdir(parents=True, exist_ok=True)
    suite = Suite(broker, report)
    try:
        # Each begins where the one before it ended.
        for scenario in (two_instances_share_the_work, kill_9_of_a_quiet_instance_loses_and_repeats_nothing, kill_9_of_a_busy_instance_loses_nothing):
            if not report.test(f"streams: {scenario.__name__.replace('_', ' ')}", lambda scenario=scenario: scenario(suite), timeout=200):
                break
    finally:
        suite.close()
