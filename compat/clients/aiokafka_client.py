"""Driver for aiokafka (asyncio). Its event loop runs in a thread of its own, so that heartbeats go on between commands."""

import asyncio
import threading

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import for_code
from driver import Client, Driver, KafkaFailure

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
ASSIGNORS = {"range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor}
DEFAULT_CONFIG = 5  # ConfigSource of DescribeConfigs


def check(code, what):
    if code:
        raise KafkaFailure(code, f"{what}: {for_code(code).__name__}")


class AioKafka(Client):
    producer = consumer = admin = None

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.queued = []

    def wait(self, coroutine, timeout=60):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    def error_code(self, error):
        return getattr(error, "errno", None)

    def info(self):
        return {"client": "aiokafka", "version": aiokafka.__version__, "codecs": CODECS}

    # producer

    def open_producer(self, bootstrap, acks="all", idempotence=False, compression="none", client_id="aiokafka"):
        async def start():
            self.producer = AIOKafkaProducer(
                bootstrap_servers=bootstrap,
                client_id=client_id,
                acks=acks,
                enable_idempotence=idempotence,
                compression_type=None if compression == "none" else compression,
                linger_ms=5,
            )
            await self.producer.start()

        self.wait(start())

    def send(self, topic, partition, key, value, headers, timestamp, done):
        self.queued.append((dict(topic=topic, partition=partition, key=key, value=value, headers=headers, timestamp_ms=timestamp), done))
        if len(self.queued) >= 500:
            self.service()

    def service(self):
        """One hop to the event loop for all that was queued."""
        queued, self.queued = self.queued, []

        async def send_all():
            for record, done in queued:
                try:
                    future = await self.producer.send(**record)
                except Exception as error:  # noqa: BLE001  the client gave up on this record before it was sent
                    done(error, None, None)
                    continue
                future.add_done_callback(lambda f, done=done: on_done(f, done))

        def on_done(future, done):
            error = future.exception()
            if error is not None:
                done(error, None, None)
            else:
                done(None, future.result().partition, future.result().offset)

        if queued:
            self.wait(send_all(), 120)

    def flush(self, timeout):
        self.service()

        async def settle():
            await self.producer.flush()
            await asyncio.sleep(0)  # let the callbacks of the last futures run

        self.wait(settle(), timeout)

    # consumer

    def open_consumer(self, bootstrap, group, session_timeout_ms=6000, assignor="range", client_id="aiokafka"):
        async def start():
            self.consumer = AIOKafkaConsumer(
                bootstrap_servers=bootstrap,
                client_id=client_id,
                group_id=group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                session_timeout_ms=session_timeout_ms,
                heartbeat_interval_ms=500,
                partition_assignment_strategy=[ASSIGNORS[assignor]],
            )
            await self.consumer.start()

        self.wait(start())

    def subscribe(self, topic):
        async def subscribe():
            self.consumer.subscribe([topic])

        self.wait(subscribe())

    def assign(self, partitions):
        async def assign():
            self.consumer.assign([TopicPartition(t, p) for t, p, _ in partitions])
            for t, p, o in partitions:
                self.consumer.seek(TopicPartition(t, p), o)

        self.wait(assign())

    def poll(self, timeout, max):
        found = self.wait(self.consumer.getmany(timeout_ms=int(timeout * 1000), max_records=max))
        return [
            {
                "topic": m.topic,
                "partition": m.partition,
                "offset": m.offset,
                "timestamp": m.timestamp,
                "timestamp_type": {0: "create", 1: "append"}.get(m.timestamp_type, "none"),
                "key": m.key,
                "value": m.value,
                "headers": list(m.headers),
            }
            for batch in found.values()
            for m in batch
        ]

    def assignment(self):
        return [[tp.topic, tp.partition] for tp in self.consumer.assignment()]

    def on_loop(self, function, *args):
        async def call():
            return function(*args)

        return self.wait(call())

    def seek(self, topic, partition, offset):
        self.on_loop(self.consumer.seek, TopicPartition(topic, partition), offset)

    def pause(self, topic, partition):
        self.on_loop(self.consumer.pause, TopicPartition(topic, partition))

    def resume(self, topic, partition):
        self.on_loop(self.consumer.resume, TopicPartition(topic, partition))

    def position(self, topic, partition):
        return self.wait(self.consumer.position(TopicPartition(topic, partition)))

    def commit(self, offsets):
        self.wait(self.consumer.commit({TopicPartition(t, p): o for t, p, o in offsets}))

    def committed(self, partitions):
        return [self.wait(self.consumer.committed(TopicPartition(t, p))) for t, p in partitions]

    def beginning_offset(self, topic, partition):
        tp = TopicPartition(topic, partition)
        return self.wait(self.consumer.beginning_offsets([tp]))[tp]

    def end_offset(self, topic, partition):
        tp = TopicPartition(topic, partition)
        return self.wait(self.consumer.end_offsets([tp]))[tp]

    def offset_for_time(self, topic, partition, timestamp):
        tp = TopicPartition(topic, partition)
        found = self.wait(self.consumer.offsets_for_times({tp: timestamp}))[tp]
        return None if found is None else found.offset

    def close_consumer(self):
        self.wait(self.consumer.stop())

    # admin

    def open_admin(self, bootstrap):
        async def start():
            self.admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
            await self.admin.start()

        self.wait(start())

    def create_topic(self, topic, partitions, configs):
        found = self.wait(self.admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs)]))
        for _topic, code, *_ in found.topic_errors:
            check(code, "create_topics")

    def delete_topic(self, topic):
        found = self.wait(self.admin.delete_topics([topic]))
        for _topic, code in found.topic_error_codes:
            check(code, "delete_topics")

    def partition_count(self, topic):
        found = self.wait(self.admin.describe_topics([topic]))[0]
        check(found["error_code"], "describe_topics")
        return len(found["partitions"])

    def create_partitions(self, topic, total):
        found = self.wait(self.admin.create_partitions({topic: NewPartitions(total)}))
        for _topic, code, *_ in found.topic_errors:
            check(code, "create_partitions")

    def describe_cluster(self):
        found = self.wait(self.admin.describe_cluster())
        return {
            "cluster_id": found["cluster_id"],
            "controller": found["controller_id"],
            "brokers": [[b["node_id"], b["host"], b["port"]] for b in found["brokers"]],
        }

    def describe_configs(self, topic):
        (found,) = self.wait(self.admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))
        (resource,) = found.to_object()["resources"]
        check(resource["error_code"], "describe_configs")
        entries = resource["config_entries"]
        return {e["config_names"]: {"value": e["config_value"], "default": e["config_source"] == DEFAULT_CONFIG} for e in entries}

    def alter_config(self, topic, name, value):
        """This client has the older AlterConfigs only, which replaces the whole set of the topic's settings."""
        configs = {} if value is None else {name: value}
        for found in self.wait(self.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])):
            for resource in found.to_object()["resources"]:
                check(resource["error_code"], "alter_configs")

    def delete_records(self, topic, partition, before):
        tp = TopicPartition(topic, partition)
        return self.wait(self.admin.delete_records({tp: RecordsToDelete(before)}))[tp]

    def list_groups(self):
        return [group for group, *_ in self.wait(self.admin.list_consumer_groups())]

    def describe_group(self, group):
        (found,) = self.wait(self.admin.describe_consumer_groups([group]))
        (described,) = found.to_object()["groups"]
        check(described["error_code"], "describe_groups")
        members = []
        for member in described["members"]:
            assigned = ConsumerProtocolMemberAssignment.decode(member["member_assignment"])
            members.append([[topic, p] for topic, partitions in assigned.assignment for p in partitions])
        return {"state": described["state"].lower(), "members": members}


if __name__ == "__main__":
    Driver(AioKafka()).run()
