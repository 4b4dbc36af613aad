"""Driver for confluent-kafka (librdkafka)."""

import confluent_kafka as ck
from confluent_kafka import admin as cka
from driver import Client, Driver, KafkaFailure

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
# A broker that comes back must be found at once, else a short cycle of a test sees no load.
RECONNECT = {"reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 300}


def failure(error):
    return KafkaFailure(error.code(), error.str())


class Confluent(Client):
    producer = consumer = admin = None

    def error_code(self, error):
        if isinstance(error, ck.KafkaException) and isinstance(error.args[0], ck.KafkaError):
            return error.args[0].code()
        return None

    def info(self):
        return {"client": "confluent-kafka", "version": f"{ck.__version__} (librdkafka {ck.libversion()[0]})", "codecs": CODECS}

    # producer

    def open_producer(self, bootstrap, acks="all", idempotence=False, compression="none", client_id="confluent"):
        self.producer = ck.Producer(
            {
                "bootstrap.servers": bootstrap,
                "client.id": client_id,
                "acks": acks,
                "enable.idempotence": idempotence,
                "compression.type": compression,
                "linger.ms": 5,
                "queue.buffering.max.messages": 500000,
                **RECONNECT,
            }
        )

    def send(self, topic, partition, key, value, headers, timestamp, done):
        def on_delivery(error, message):
            if error is not None:
                done(failure(error), None, None)
            else:
                done(None, message.partition(), message.offset())

        options = {} if timestamp is None else {"timestamp": timestamp}
        if partition is not None:
            options["partition"] = partition
        self.producer.produce(topic, key=key, value=value, headers=headers or None, on_delivery=on_delivery, **options)

    def service(self):
        self.producer.poll(0)

    def flush(self, timeout):
        left = self.producer.flush(timeout)
        if left:
            raise KafkaFailure(None, f"{left} records unanswered after {timeout} s")

    # consumer

    def open_consumer(self, bootstrap, group, session_timeout_ms=6000, assignor="range", client_id="confluent", instance=None):
        self.consumer = ck.Consumer(
            {
                "bootstrap.servers": bootstrap,
                "client.id": client_id,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "session.timeout.ms": session_timeout_ms,
                "heartbeat.interval.ms": 500,
                "partition.assignment.strategy": assignor,
                **({} if instance is None else {"group.instance.id": instance}),
                # A commit that waits for a coordinator which is away ends after this long, not after the default of a minute.
                "socket.timeout.ms": 10000,
                **RECONNECT,
            }
        )

    def subscribe(self, topic):
        self.consumer.subscribe([topic])

    def assign(self, partitions):
        self.consumer.assign([ck.TopicPartition(t, p, o) for t, p, o in partitions])

    def poll(self, timeout, max):
        records = []
        for m in self.consumer.consume(max, timeout):
            if m.error() is not None:
                raise failure(m.error())
            kind, timestamp = m.timestamp()
            records.append(
                {
                    "topic": m.topic(),
                    "partition": m.partition(),
                    "offset": m.offset(),
                    "timestamp": timestamp,
                    "timestamp_type": {ck.TIMESTAMP_CREATE_TIME: "create", ck.TIMESTAMP_LOG_APPEND_TIME: "append"}.get(kind, "none"),
                    "key": m.key(),
                    "value": m.value(),
                    "headers": m.headers() or [],
                }
            )
        return records

    def assignment(self):
        return [[tp.topic, tp.partition] for tp in self.consumer.assignment()]

    def seek(self, topic, partition, offset):
        self.consumer.seek(ck.TopicPartition(topic, partition, offset))

    def pause(self, topic, partition):
        self.consumer.pause([ck.TopicPartition(topic, partition)])

    def resume(self, topic, partition):
        self.consumer.resume([ck.TopicPartition(topic, partition)])

    def position(self, topic, partition):
        return self.consumer.position([ck.TopicPartition(topic, partition)])[0].offset

    def commit(self, offsets):
        for tp in self.consumer.commit(offsets=[ck.TopicPartition(t, p, o) for t, p, o in offsets], asynchronous=False):
            if tp.error is not None:
                raise failure(tp.error)

    def committed(self, partitions):
        found = self.consumer.committed([ck.TopicPartition(t, p) for t, p in partitions], timeout=20)
        for tp in found:
            if tp.error is not None:
                raise failure(tp.error)
        return [tp.offset if tp.offset >= 0 else None for tp in found]

    def beginning_offset(self, topic, partition):
        return self.consumer.get_watermark_offsets(ck.TopicPartition(topic, partition), timeout=20)[0]

    def end_offset(self, topic, partition):
        return self.consumer.get_watermark_offsets(ck.TopicPartition(topic, partition), timeout=20)[1]

    def offset_for_time(self, topic, partition, timestamp):
        found = self.consumer.offsets_for_times([ck.TopicPartition(topic, partition, timestamp)], timeout=20)[0]
        if found.error is not None:
            raise failure(found.error)
        return found.offset if found.offset >= 0 else None

    def close_consumer(self):
        self.consumer.close()

    # admin

    def open_admin(self, bootstrap):
        self.admin = cka.AdminClient({"bootstrap.servers": bootstrap, **RECONNECT})

    def create_topic(self, topic, partitions, configs):
        new = cka.NewTopic(topic, num_partitions=partitions, replication_factor=1, config=configs)
        self.admin.create_topics([new])[topic].result(20)

    def delete_topic(self, topic):
        self.admin.delete_topics([topic])[topic].result(20)

    def partition_count(self, topic):
        found = self.admin.list_topics(topic, timeout=20).topics[topic]
        if found.error is not None:
            raise failure(found.error)
        return len(found.partitions)

    def create_partitions(self, topic, total):
        self.admin.create_partitions([cka.NewPartitions(topic, total)])[topic].result(20)

    def describe_cluster(self):
        found = self.admin.describe_cluster().result(20)
        return {"cluster_id": found.cluster_id, "controller": found.controller.id, "brokers": [[n.id, n.host, n.port] for n in found.nodes]}

    def describe_configs(self, topic):
        resource = cka.ConfigResource(cka.ConfigResource.Type.TOPIC, topic)
        found = self.admin.describe_configs([resource])[resource].result(20)
        return {name: {"value": entry.value, "default": entry.is_default} for name, entry in found.items()}

    def alter_config(self, topic, name, value):
        operation = cka.AlterConfigOpType.DELETE if value is None else cka.AlterConfigOpType.SET
        entry = cka.ConfigEntry(name, value, incremental_operation=operation)
        resource = cka.ConfigResource(cka.ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        self.admin.incremental_alter_configs([resource])[resource].result(20)

    def delete_records(self, topic, partition, before):
        tp = ck.TopicPartition(topic, partition, before)
        return self.admin.delete_records([tp])[tp].result(20).low_watermark

    def list_groups(self):
        found = self.admin.list_consumer_groups().result(20)
        if found.errors:
            raise found.errors[0]
        return [g.group_id for g in found.valid]

    def describe_group(self, group):
        found = self.admin.describe_consumer_groups([group])[group].result(20)
        members = [[[tp.topic, tp.partition] for tp in m.assignment.topic_partitions] for m in found.members]
        return {"state": found.state.name.lower(), "members": members}


if __name__ == "__main__":
    Driver(Confluent()).run()
