import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.FileInputStream;
import java.io.FileWriter;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Driver for the Java client; the commands and the lines of the load logs are those of {@code ../../driver.py}. */
public final class Driver {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final PrintStream OUT = System.out;
    /** What ends a load: the next command, which may also be the end of stdin. */
    private static final Map<String, Object> EXIT = Map.of("do", "exit");

    private final BlockingQueue<Map<String, Object>> commands = new LinkedBlockingQueue<>();
    private KafkaProducer<byte[], byte[]> producer;
    private KafkaConsumer<byte[], byte[]> consumer;
    private Admin admin;

    public static void main(String[] args) throws Exception {
        new Driver().run();
    }

    private void run() throws Exception {
        Thread reader = new Thread(this::read);
        reader.setDaemon(true);
        reader.start();
        while (true) {
            Map<String, Object> args = commands.take();
            String name = (String) args.get("do");
            Map<String, Object> answer = new LinkedHashMap<>();
            try {
                answer.put("ok", execute(name, args));
            } catch (Exception e) {
                Throwable cause = e instanceof ExecutionException && e.getCause() != null ? e.getCause() : e;
                Errors error = Errors.forException(cause);
                Map<String, Object> told = new LinkedHashMap<>();
                told.put("type", cause.getClass().getSimpleName());
                told.put("code", error == Errors.UNKNOWN_SERVER_ERROR ? null : (int) error.code());
                told.put("message", String.valueOf(cause.getMessage()));
                answer.put("error", told);
                System.err.println(name + " failed");
                cause.printStackTrace();
            }
            answer(answer);
            if (name.equals("exit")) {
                Runtime.getRuntime().halt(0);
            }
        }
    }

    private void read() {
        try (BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                commands.add(JSON.readValue(line, new TypeReference<Map<String, Object>>() {}));
            }
        } catch (Exception e) {
            e.printStackTrace();
        }
        commands.add(EXIT);
    }

    private static synchronized void answer(Map<String, Object> answer) throws Exception {
        OUT.println(JSON.writeValueAsString(answer));
        OUT.flush();
    }

    private Object execute(String name, Map<String, Object> a) throws Exception {
        return switch (name) {
            case "exit" -> null;
            case "info" -> Map.of("client", "kafka-clients (Java)", "version", version(),
                "codecs", List.of("none", "gzip", "snappy", "lz4", "zstd"));
            case "open_producer" -> openProducer(a);
            case "produce" -> produce(a);
            case "produce_load" -> produceLoad(a);
            case "produce_lines" -> produceLines(a);
            case "open_consumer" -> openConsumer(a);
            case "subscribe" -> {
                consumer.subscribe(List.of(text(a, "topic")));
                yield null;
            }
            case "assign" -> assign(a);
            case "poll" -> poll(a);
            case "consume_load" -> consumeLoad(a);
            case "assignment" -> consumer.assignment().stream().map(tp -> List.of(tp.topic(), tp.partition())).toList();
            case "seek" -> {
                consumer.seek(partition(a), number(a, "offset"));
                yield null;
            }
            case "pause" -> {
                consumer.pause(List.of(partition(a)));
                yield null;
            }
            case "resume" -> {
                consumer.resume(List.of(partition(a)));
                yield null;
            }
            case "position" -> consumer.position(partition(a));
            case "commit" -> commit(a);
            case "committed" -> committed(a);
            case "beginning_offset" -> consumer.beginningOffsets(List.of(partition(a))).get(partition(a));
            case "end_offset" -> consumer.endOffsets(List.of(partition(a))).get(partition(a));
            case "offset_for_time" -> {
                OffsetAndTimestamp found =
                    consumer.offsetsForTimes(Map.of(partition(a), number(a, "timestamp"))).get(partition(a));
                yield found == null ? null : found.offset();
            }
            case "close_consumer" -> {
                consumer.close();
                yield null;
            }
            case "open_admin" -> {
                admin = Admin.create(common(a));
                yield null;
            }
            default -> executeAdmin(name, a);
        };
    }

    // producer

    private Object openProducer(Map<String, Object> a) {
        Properties p = common(a);
        p.put("acks", a.getOrDefault("acks", "all"));
        p.put("enable.idempotence", a.getOrDefault("idempotence", false));
        p.put("compression.type", a.getOrDefault("compression", "none"));
        p.put("linger.ms", 5);
        producer = new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer());
        return null;
    }

    private Object produce(Map<String, Object> a) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (Map<String, Object> r : maps(a, "records")) {
            List<Header> headers = new ArrayList<>();
            for (Object header : (List<?>) r.getOrDefault("headers", List.of())) {
                List<?> pair = (List<?>) header;
                headers.add(new RecordHeader((String) pair.get(0), bytes(pair.get(1))));
            }
            Integer partition = r.get("partition") == null ? null : (int) number(r, "partition");
            Long timestamp = r.get("timestamp") == null ? null : number(r, "timestamp");
            sent.add(producer.send(
                new ProducerRecord<>(text(r, "topic"), partition, timestamp, bytes(r.get("key")), bytes(r.get("value")), headers)));
        }
        producer.flush();
        List<Object> results = new ArrayList<>();
        for (Future<RecordMetadata> future : sent) {
            RecordMetadata meta = future.get(60, TimeUnit.SECONDS);
            results.add(List.of(meta.partition(), meta.offset()));
        }
        return results;
    }

    private Object produceLoad(Map<String, Object> a) throws Exception {
        String topic = text(a, "topic");
        int partitions = (int) number(a, "partitions");
        String name = text(a, "name");
        int perTick = Math.max(1, (int) (number(a, "rate") / 100));
        AtomicInteger acked = new AtomicInteger();
        AtomicInteger failed = new AtomicInteger();
        int sent = 0;
        answer(Map.of("ok", "started"));
        try (BufferedWriter log = new BufferedWriter(new FileWriter(text(a, "log"), true))) {
            while (commands.isEmpty()) {
                for (int i = 0; i < perTick && sent - acked.get() - failed.get() < 2000; i++) {
                    int seq = sent++;
                    byte[] value = (name + " " + seq).getBytes(StandardCharsets.UTF_8);
                    producer.send(new ProducerRecord<>(topic, seq % partitions, null, value), (meta, error) -> {
                        if (error == null) {
                            line(log, "A " + seq + " " + meta.partition() + " " + meta.offset());
                            acked.incrementAndGet();
                        } else {
                            line(log, "F " + seq + " " + oneLine(error));
                            failed.incrementAndGet();
                        }
                    });
                }
                synchronized (log) {
                    log.flush();
                }
                Thread.sleep(10);
            }
            producer.flush();
        }
        return Map.of("sent", sent, "acked", acked.get(), "failed", failed.get());
    }

    private Object produceLines(Map<String, Object> a) throws Exception {
        String topic = text(a, "topic");
        int partitions = (int) number(a, "partitions");
        double rate = number(a, "rate");
        AtomicInteger acked = new AtomicInteger();
        AtomicInteger failed = new AtomicInteger();
        int sent = 0;
        List<String> reasons = new ArrayList<>();
        long begun = System.nanoTime();
        try (BufferedReader in = new BufferedReader(
            new InputStreamReader(new FileInputStream(text(a, "path")), StandardCharsets.UTF_8))) {
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                if (sent % 500 == 0) {
                    double ahead = sent / rate - (System.nanoTime() - begun) / 1e9;
                    Thread.sleep(Math.max(0, (long) (ahead * 1000)));
                }
                producer.send(new ProducerRecord<>(topic, sent % partitions, null, line.getBytes(StandardCharsets.UTF_8)),
                    (meta, error) -> {
                        if (error == null) {
                            acked.incrementAndGet();
                        } else {
                            failed.incrementAndGet();
                            synchronized (reasons) {
                                if (reasons.size() < 3) {
                                    reasons.add(oneLine(error));
                                }
                            }
                        }
                    });
                sent++;
            }
        }
        producer.flush();
        return Map.of("sent", sent, "acked", acked.get(), "failed", failed.get(), "reasons", reasons);
    }

    // consumer

    private Object openConsumer(Map<String, Object> a) {
        Properties p = common(a);
        p.put("group.id", text(a, "group"));
        p.put("enable.auto.commit", false);
        p.put("auto.offset.reset", "earliest");
        p.put("session.timeout.ms", a.getOrDefault("session_timeout_ms", 6000));
        p.put("heartbeat.interval.ms", 500);
        p.put("max.poll.records", 2000);
        p.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer." + switch ((String) a.getOrDefault("assignor", "range")) {
            case "roundrobin" -> "RoundRobinAssignor";
            case "sticky" -> "StickyAssignor";
            case "cooperative-sticky" -> "CooperativeStickyAssignor";
            default -> "RangeAssignor";
        });
        consumer = new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        return null;
    }

    private Object assign(Map<String, Object> a) {
        Map<TopicPartition, Long> offsets = new LinkedHashMap<>();
        for (Object o : (List<?>) a.get("partitions")) {
            List<?> triple = (List<?>) o;
            offsets.put(new TopicPartition((String) triple.get(0), ((Number) triple.get(1)).intValue()), ((Number) triple.get(2)).longValue());
        }
        consumer.assign(offsets.keySet());
        offsets.forEach(consumer::seek);
        return null;
    }

    private Object poll(Map<String, Object> a) {
        Duration timeout = Duration.ofMillis((long) (((Number) a.get("timeout")).doubleValue() * 1000));
        List<Object> found = new ArrayList<>();
        for (ConsumerRecord<byte[], byte[]> r : consumer.poll(timeout)) {
            Map<String, Object> told = new HashMap<>();
            told.put("topic", r.topic());
            told.put("partition", r.partition());
            told.put("offset", r.offset());
            told.put("timestamp", r.timestamp());
            told.put("timestamp_type", switch (r.timestampType()) {
                case CREATE_TIME -> "create";
                case LOG_APPEND_TIME -> "append";
                default -> "none";
            });
            told.put("key", base64(r.key()));
            told.put("value", base64(r.value()));
            List<Object> headers = new ArrayList<>();
            for (Header h : r.headers()) {
                headers.add(Arrays.asList(h.key(), base64(h.value())));
            }
            told.put("headers", headers);
            found.add(told);
        }
        return found;
    }

    private Object commit(Map<String, Object> a) {
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        for (Object o : (List<?>) a.get("offsets")) {
            List<?> triple = (List<?>) o;
            offsets.put(new TopicPartition((String) triple.get(0), ((Number) triple.get(1)).intValue()),
                new OffsetAndMetadata(((Number) triple.get(2)).longValue()));
        }
        consumer.commitSync(offsets);
        return null;
    }

    private Object committed(Map<String, Object> a) {
        List<Object> found = new ArrayList<>();
        for (Object o : (List<?>) a.get("partitions")) {
            List<?> pair = (List<?>) o;
            TopicPartition tp = new TopicPartition((String) pair.get(0), ((Number) pair.get(1)).intValue());
            OffsetAndMetadata offset = consumer.committed(java.util.Set.of(tp)).get(tp);
            found.add(offset == null ? null : offset.offset());
        }
        return found;
    }

    private Object consumeLoad(Map<String, Object> a) throws Exception {
        int consumed = 0;
        TreeSet<Integer> assigned = null;
        answer(Map.of("ok", "started"));
        try (BufferedWriter log = new BufferedWriter(new FileWriter(text(a, "log"), true), 1 << 20)) {
            while (commands.isEmpty()) {
                ConsumerRecords<byte[], byte[]> records;
                try {
                    records = consumer.poll(Duration.ofMillis(100));
                } catch (Exception e) {
                    log.write("E poll " + oneLine(e) + "\n");
                    log.flush();
                    Thread.sleep(100);
                    continue;
                }
                TreeSet<Integer> now = new TreeSet<>();
                consumer.assignment().forEach(tp -> now.add(tp.partition()));
                if (!now.equals(assigned)) {
                    assigned = now;
                    log.write("P " + String.join(",", now.stream().map(String::valueOf).toList()) + "\n");
                    log.flush();
                }
                if (records.isEmpty()) {
                    continue;
                }
                Map<TopicPartition, OffsetAndMetadata> ends = new LinkedHashMap<>();
                for (ConsumerRecord<byte[], byte[]> r : records) {
                    String value = new String(r.value(), StandardCharsets.UTF_8);
                    log.write("R " + r.partition() + " " + r.offset() + " " + value + "\n");
                    ends.put(new TopicPartition(r.topic(), r.partition()), new OffsetAndMetadata(r.offset() + 1));
                }
                consumed += records.count();
                log.flush();
                try {
                    consumer.commitSync(ends);
                } catch (Exception e) {
                    log.write("E commit " + oneLine(e) + "\n");
                    log.flush();
                    continue;
                }
                for (Map.Entry<TopicPartition, OffsetAndMetadata> end : ends.entrySet()) {
                    log.write("C " + end.getKey().partition() + " " + end.getValue().offset() + "\n");
                }
                log.flush();
            }
        }
        return Map.of("consumed", consumed);
    }

    // admin

    private Object executeAdmin(String name, Map<String, Object> a) throws Exception {
        switch (name) {
            case "create_topic" -> {
                Map<String, String> configs = new HashMap<>();
                ((Map<?, ?>) a.get("configs")).forEach((k, v) -> configs.put((String) k, (String) v));
                NewTopic topic = new NewTopic(text(a, "topic"), (int) number(a, "partitions"), (short) 1).configs(configs);
                admin.createTopics(List.of(topic)).all().get(20, TimeUnit.SECONDS);
                return null;
            }
            case "delete_topic" -> {
                admin.deleteTopics(List.of(text(a, "topic"))).all().get(20, TimeUnit.SECONDS);
                return null;
            }
            case "partition_count" -> {
                String topic = text(a, "topic");
                return admin.describeTopics(List.of(topic)).allTopicNames().get(20, TimeUnit.SECONDS).get(topic).partitions().size();
            }
            case "create_partitions" -> {
                admin.createPartitions(Map.of(text(a, "topic"), NewPartitions.increaseTo((int) number(a, "total"))))
                    .all().get(20, TimeUnit.SECONDS);
                return null;
            }
            case "describe_cluster" -> {
                var found = admin.describeCluster();
                return Map.of(
                    "cluster_id", found.clusterId().get(20, TimeUnit.SECONDS),
                    "controller", found.controller().get(20, TimeUnit.SECONDS).id(),
                    "brokers", found.nodes().get(20, TimeUnit.SECONDS).stream().map(n -> List.of(n.id(), n.host(), n.port())).toList());
            }
            case "describe_configs" -> {
                ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, text(a, "topic"));
                Map<String, Object> told = new HashMap<>();
                for (ConfigEntry e : admin.describeConfigs(List.of(resource)).all().get(20, TimeUnit.SECONDS).get(resource).entries()) {
                    Map<String, Object> entry = new HashMap<>();
                    entry.put("value", e.value());
                    entry.put("default", e.isDefault());
                    told.put(e.name(), entry);
                }
                return told;
            }
            case "alter_config" -> {
                ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, text(a, "topic"));
                AlterConfigOp.OpType type = a.get("value") == null ? AlterConfigOp.OpType.DELETE : AlterConfigOp.OpType.SET;
                AlterConfigOp op = new AlterConfigOp(new ConfigEntry(text(a, "name"), (String) a.get("value")), type);
                admin.incrementalAlterConfigs(Map.of(resource, List.of(op))).all().get(20, TimeUnit.SECONDS);
                return null;
            }
            case "delete_records" -> {
                TopicPartition tp = partition(a);
                return admin.deleteRecords(Map.of(tp, RecordsToDelete.beforeOffset(number(a, "before"))))
                    .lowWatermarks().get(tp).get(20, TimeUnit.SECONDS).lowWatermark();
            }
            case "list_groups" -> {
                return admin.listGroups().all().get(20, TimeUnit.SECONDS).stream().map(g -> g.groupId()).toList();
            }
            case "describe_group" -> {
                String group = text(a, "group");
                var found = admin.describeConsumerGroups(List.of(group)).all().get(20, TimeUnit.SECONDS).get(group);
                return Map.of(
                    "state", found.groupState().toString().toLowerCase(),
                    "members", found.members().stream()
                        .map(m -> m.assignment().topicPartitions().stream().map(tp -> List.of(tp.topic(), tp.partition())).toList())
                        .toList());
            }
            // Only this client can; without instances all members are removed.
            case "remove_members" -> {
                List<MemberToRemove> members = ((List<?>) a.get("instances")).stream().map(i -> new MemberToRemove((String) i)).toList();
                var options = members.isEmpty() ? new RemoveMembersFromConsumerGroupOptions() : new RemoveMembersFromConsumerGroupOptions(members);
                admin.removeMembersFromConsumerGroup(text(a, "group"), options).all().get(20, TimeUnit.SECONDS);
                return null;
            }
            default -> throw new IllegalArgumentException("no command " + name);
        }
    }

    // helpers

    private static Properties common(Map<String, Object> a) {
        Properties p = new Properties();
        p.put("bootstrap.servers", text(a, "bootstrap"));
        p.put("client.id", a.getOrDefault("client_id", "java"));
        p.put("reconnect.backoff.ms", 50);
        // A broker that comes back must be found at once, else a short cycle of a test sees no load.
        p.put("reconnect.backoff.max.ms", 300);
        return p;
    }

    private static String version() throws Exception {
        Properties p = new Properties();
        try (InputStream in = KafkaConsumer.class.getResourceAsStream("/kafka/kafka-version.properties")) {
            p.load(in);
        }
        return p.getProperty("version");
    }

    private static TopicPartition partition(Map<String, Object> a) {
        return new TopicPartition(text(a, "topic"), (int) number(a, "partition"));
    }

    private static String text(Map<String, Object> a, String name) {
        return (String) a.get(name);
    }

    private static long number(Map<String, Object> a, String name) {
        return ((Number) a.get(name)).longValue();
    }

    @SuppressWarnings("unchecked")
    private static List<Map<String, Object>> maps(Map<String, Object> a, String name) {
        return (List<Map<String, Object>>) a.get(name);
    }

    private static byte[] bytes(Object text) {
        return text == null ? null : Base64.getDecoder().decode((String) text);
    }

    private static String base64(byte[] bytes) {
        return bytes == null ? null : Base64.getEncoder().encodeToString(bytes);
    }

    private static void line(BufferedWriter log, String line) {
        synchronized (log) {
            try {
                log.write(line + "\n");
            } catch (java.io.IOException e) {
                throw new java.io.UncheckedIOException(e);
            }
        }
    }

    private static String oneLine(Exception e) {
        return (e.getClass().getSimpleName() + " " + e.getMessage()).replace('\n', ' ');
    }
}
