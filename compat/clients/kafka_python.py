"""Driver for kafka-python (pure Python)."""

import re

import kafka
from driver import Client, Driver, KafkaFailure
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.structs import OffsetAndMetadata

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
ASSIGNORS = {"range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor}
RECONNECT = {"reconnect_backoff_ms": 50, "reconnect_backoff_max_ms": 300}


class KafkaPython(Client):
    producer = consumer = admin = None

    def error_code(self, error):
        return getattr(error, "errno", None)

    def info(self):
        return {"client": "kafka-python", "version": kafka.__version__, "codecs": CODECS, "cannot": ["null header"]}

    # producer

    def open_producer(self, bootstrap, acks="all", idempotence=False, compression="none", client_id="kafka-python"):
        self.producer = KafkaProducer(
            bootstrap_servers=bootstrap,
            client_id=client_id,
            acks=acks,
            enable_idempotence=idempotence,
            compression_type=None if compression == "none" else compression,
            linger_ms=5,
            **RECONNECT,
        )

    def send(self, topic, partition, key, value, headers, timestamp, done):
        future = self.producer.send(topic, value=value, key=key, headers=headers, partition=partition, timestamp_ms=timestamp)
        future.add_callback(lambda meta: done(None, meta.partition, meta.offset))
        future.add_errback(lambda error: done(error, None, None))

    def flush(self, timeout):
        self.producer.flush(timeout)

    # consumer

    def open_consumer(self, bootstrap, group, session_timeout_ms=6000, assignor="range", client_id="kafka-python"):
        self.consumer = KafkaConsumer(
            bootstrap_servers=bootstrap,
            client_id=client_id,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=session_timeout_ms,
            heartbeat_interval_ms=500,
            partition_assignment_strategy=[ASSIGNORS[assignor]],
            **RECONNECT,
        )

    def subscribe(self, topic):
        self.consumer.subscribe([topic])

    def assign(self, partitions):
        self.consumer.assign([TopicPartition(t, p) for t, p, _ in partitions])
        for t, p, o in partitions:
            self.consumer.seek(TopicPartition(t, p), o)

    def poll(self, timeout, max):
        records = []
        for batch in self.consumer.poll(timeout_ms=int(timeout * 1000), max_records=max).values():
            for m in batch:
                records.append(
                    {
                        "topic": m.topic,
                        "partition": m.partition,
                        "offset": m.offset,
                        "timestamp": m.timestamp,
                        "timestamp_type": {0: "create", 1: "append"}.get(m.timestamp_type, "none"),
                        "key": m.key,
                        "value": m.value,
                        "headers": m.headers,
                    }
                )
        return records

    def assignment(self):
        return [[tp.topic, tp.partition] for tp in self.consumer.assignment()]

    def seek(self, topic, partition, offset):
        self.consumer.seek(TopicPartition(topic, partition), offset)

    def pause(self, topic, partition):
        self.consumer.pause(TopicPartition(topic, partition))

    def resume(self, topic, partition):
        self.consumer.resume(TopicPartition(topic, partition))

    def position(self, topic, partition):
        return self.consumer.position(TopicPartition(topic, partition))

    def commit(self, offsets):
        self.consumer.commit({TopicPartition(t, p): OffsetAndMetadata(o, "", -1) for t, p, o in offsets})

    def committed(self, partitions):
        return [self.consumer.committed(TopicPartition(t, p)) for t, p in partitions]

    def beginning_offset(self, topic, partition):
        tp = TopicPartition(topic, partition)
        return self.consumer.beginning_offsets([tp])[tp]

    def end_offset(self, topic, partition):
        tp = TopicPartition(topic, partition)
        return self.consumer.end_offsets([tp])[tp]

    def offset_for_time(self, topic, partition, timestamp):
        tp = TopicPartition(topic, partition)
        found = self.consumer.offsets_for_times({tp: timestamp})[tp]
        return None if found is None else found.offset

    def close_consumer(self):
        self.consumer.close()

    # admin

    def open_admin(self, bootstrap):
        self.admin = KafkaAdminClient(bootstrap_servers=bootstrap, **RECONNECT)

    def create_topic(self, topic, partitions, configs):
        self.admin.create_topics({topic: {"num_partitions": partitions, "replication_factor": 1, "configs": configs}})

    def delete_topic(self, topic):
        self.admin.delete_topics([topic])

    def partition_count(self, topic):
        found = self.admin.describe_topics([topic])[0]
        if found["error_code"]:
            raise KafkaFailure(found["error_code"], f"describe_topics {topic}")
        return len(found["partitions"])

    def create_partitions(self, topic, total):
        self.admin.create_partitions({topic: total})

    def describe_cluster(self):
        found = self.admin.describe_cluster()
        return {
            "cluster_id": found["cluster_id"],
            "controller": found["controller_id"],
            "brokers": [[b.get("node_id", b.get("broker_id")), b["host"], b["port"]] for b in found["brokers"]],
        }

    def describe_configs(self, topic):
        found = self.admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all")
        (by_name,) = found.values()
        return {name: {"value": entry["value"], "default": entry["config_source"] == "DEFAULT_CONFIG"} for name, entry in by_name[topic].items()}

    def alter_config(self, topic, name, value):
        change = ("DELETE", None) if value is None else ("SET", value)
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {name: change})
        (by_name,) = self.admin.alter_configs([resource], raise_on_unknown=False, incremental=True).values()
        if by_name[topic] != "OK":
            # This client tells the error as text: "[Error 40] InvalidConfigurationError: ...".
            code = re.match(r"\[Error (-?\d+)\]", by_name[topic])
            raise KafkaFailure(int(code[1]) if code else None, by_name[topic])

    def delete_records(self, topic, partition, before):
        tp = TopicPartition(topic, partition)
        found = self.admin.delete_records({tp: before})[tp]
        return found["low_watermark"] if isinstance(found, dict) else found.low_watermark

    def list_groups(self):
        return [g["group_id"] for g in self.admin.list_groups()]

    def describe_group(self, group):
        found = self.admin.describe_groups([group])[group]
        members = []
        for member in found["members"]:
            assigned = member["member_assignment"]["assigned_partitions"]
            members.append([[a["topic"], p] for a in assigned for p in a["partitions"]])
        return {"state": found["group_state"].lower(), "members": members}


if __name__ == "__main__":
    Driver(KafkaPython()).run()
