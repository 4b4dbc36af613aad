// Java's client, measured as the others are: CPU time of the whole process, JIT and garbage collection included, after a warm-up of as many
// records as count.
// java -cp 'classes:libs/*' Bench produce|consume|idle|commit BOOTSTRAP TOPIC GROUP SIZE CODEC BATCH_SIZE RECORDS

import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class Bench {
    static final int PARTITIONS = 8;

    static String what;
    static String bootstrap;
    static String topic;
    static String group;
    static int size;
    static String codec;
    static int batchSize;
    static long records;

    public static void main(String[] args) throws Exception {
        what = args[0];
        bootstrap = args[1];
        topic = args[2];
        group = args[3];
        size = Integer.parseInt(args[4]);
        codec = args[5];
        batchSize = Integer.parseInt(args[6]);
        records = Long.parseLong(args[7]);
        switch (what) {
            case "produce" -> produce();
            case "consume" -> consume();
            case "idle" -> idle();
            case "commit" -> commit();
            default -> throw new IllegalArgumentException(what);
        }
    }

    static void produce() throws Exception {
        Properties properties = properties();
        properties.put("key.serializer", ByteArraySerializer.class.getName());
        properties.put("value.serializer", ByteArraySerializer.class.getName());
        properties.put("compression.type", codec);
        properties.put("batch.size", batchSize);
        properties.put("max.request.size", Math.max(batchSize, 1_048_576) + 1024);
        byte[][] values = new byte[1024][];
        for (int n = 0; n < values.length; n++) {
            values[n] = value(n, size);
        }
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(properties)) {
            send(producer, values);
            Meter meter = new Meter();
            send(producer, values);
            meter.print("");
        }
    }

    /** Sends, and counts the deliveries. */
    static void send(KafkaProducer<byte[], byte[]> producer, byte[][] values) {
        AtomicLong delivered = new AtomicLong();
        for (long n = 0; n < records; n++) {
            byte[] value = values[(int) (n % values.length)];
            producer.send(new ProducerRecord<>(topic, value), (metadata, error) -> {
                if (error == null) {
                    delivered.incrementAndGet();
                }
            });
        }
        producer.flush();
        if (delivered.get() != records) {
            throw new IllegalStateException(delivered.get() + " of " + records + " were delivered");
        }
    }

    static void consume() throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(consumerProperties())) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (int at = 0; at < PARTITIONS; at++) {
                partitions.add(new TopicPartition(topic, at));
            }
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            read(consumer, records);
            // The topic need not be longer than what is measured.
            consumer.seekToBeginning(partitions);
            Meter meter = new Meter();
            read(consumer, records);
            meter.print("");
        }
    }

    /** Looks at each value. */
    static void read(KafkaConsumer<byte[], byte[]> consumer, long count) {
        long seen = 0;
        while (seen < count) {
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                if (record.value().length != size) {
                    throw new IllegalStateException("a value of " + record.value().length + " bytes");
                }
                seen++;
            }
        }
    }

    static void idle() throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(memberProperties())) {
            consumer.subscribe(List.of(topic));
            long until = System.nanoTime() + 2_000_000_000L;
            while (System.nanoTime() < until) {
                if (!consumer.poll(Duration.ofMillis(100)).isEmpty()) {
                    throw new IllegalStateException("the topic is not empty");
                }
            }
            if (consumer.assignment().isEmpty()) {
                throw new IllegalStateException("nothing was assigned");
            }
            System.out.println(head() + ",\"rss_kib\":" + status("VmRSS:") + "}");
        }
    }

    static void commit() throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(memberProperties())) {
            consumer.subscribe(List.of(topic));
            readAndCommit(consumer, new long[(int) records]);
            long[] latencies = new long[(int) records];
            Meter meter = new Meter();
            readAndCommit(consumer, latencies);
            Arrays.sort(latencies);
            meter.print(String.format(",\"p50_us\":%.1f,\"p99_us\":%.1f",
                latencies[(int) (records * 0.5)] / 1e3, latencies[(int) (records * 0.99)] / 1e3));
        }
    }

    /** Commits record by record. What a poll brought beyond the last is passed over. */
    static void readAndCommit(KafkaConsumer<byte[], byte[]> consumer, long[] latencies) {
        Iterator<ConsumerRecord<byte[], byte[]>> fetched = List.<ConsumerRecord<byte[], byte[]>>of().iterator();
        for (int n = 0; n < latencies.length; n++) {
            while (!fetched.hasNext()) {
                fetched = consumer.poll(Duration.ofSeconds(1)).iterator();
            }
            ConsumerRecord<byte[], byte[]> record = fetched.next();
            long began = System.nanoTime();
            consumer.commitSync(Map.of(new TopicPartition(record.topic(), record.partition()),
                new OffsetAndMetadata(record.offset() + 1)));
            latencies[n] = System.nanoTime() - began;
        }
    }

    static Properties properties() {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("enable.metrics.push", "false");
        return properties;
    }

    static Properties consumerProperties() {
        Properties properties = properties();
        properties.put("key.deserializer", ByteArrayDeserializer.class.getName());
        properties.put("value.deserializer", ByteArrayDeserializer.class.getName());
        properties.put("enable.auto.commit", "false");
        properties.put("auto.offset.reset", "earliest");
        return properties;
    }

    static Properties memberProperties() {
        Properties properties = consumerProperties();
        properties.put("group.id", group);
        return properties;
    }

    /** As the other clients' values. */
    static byte[] value(long n, int size) {
        StringBuilder text = new StringBuilder();
        long state = (n * 0x9e3779b97f4a7c15L) | 1;
        while (text.length() < size) {
            state ^= state << 13;
            state ^= state >>> 7;
            state ^= state << 17;
            text.append(String.format("{\"id\":%d,\"user\":\"u%s\",\"action\":\"click\",\"at\":%d}",
                state >>> 40, Long.remainderUnsigned(state, 5000), 1_700_000_000_000L + n));
        }
        return text.substring(0, size).getBytes(StandardCharsets.US_ASCII);
    }

    static String head() {
        return String.format(
            "{\"what\":\"%s\",\"client\":\"java\",\"size\":%d,\"codec\":\"%s\",\"batch_size\":%d,\"records\":%d",
            what, size, codec, batchSize, records);
    }

    static long status(String name) throws Exception {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith(name)) {
                return Long.parseLong(line.replaceAll("[^0-9]", ""));
            }
        }
        throw new IllegalStateException(name);
    }

    static class Meter {
        final OperatingSystemMXBean system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        final long cpu = system.getProcessCpuTime();
        final long began = System.nanoTime();

        void print(String more) throws Exception {
            double wall = (System.nanoTime() - began) / 1e9;
            double perRecord = (double) (system.getProcessCpuTime() - cpu) / records;
            System.out.printf("%s,\"cpu_ns_per_record\":%.1f,\"records_per_second\":%.0f,\"max_rss_kib\":%d%s}%n",
                head(), perRecord, records / wall, status("VmHWM:"), more);
        }
    }
}
