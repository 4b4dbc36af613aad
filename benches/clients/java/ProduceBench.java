// Java's client, measured as the others are: CPU time of the whole process, JIT and garbage collection included, after a warm-up.
// java -cp 'libs/*' ProduceBench.java BOOTSTRAP TOPIC SIZE CODEC BATCH_SIZE RECORDS

import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class ProduceBench {
    public static void main(String[] args) throws Exception {
        String topic = args[1];
        int size = Integer.parseInt(args[2]);
        int batchSize = Integer.parseInt(args[4]);
        long records = Long.parseLong(args[5]);
        Properties properties = new Properties();
        properties.put("bootstrap.servers", args[0]);
        properties.put("key.serializer", ByteArraySerializer.class.getName());
        properties.put("value.serializer", ByteArraySerializer.class.getName());
        properties.put("compression.type", args[3]);
        properties.put("batch.size", batchSize);
        properties.put("max.request.size", Math.max(batchSize, 1_048_576) + 1024);
        properties.put("enable.metrics.push", "false");
        byte[][] values = new byte[1024][];
        for (int n = 0; n < values.length; n++) {
            values[n] = value(n, size);
        }
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(properties)) {
            send(producer, topic, values, records);
            OperatingSystemMXBean system =
                (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
            long cpu = system.getProcessCpuTime();
            long began = System.nanoTime();
            send(producer, topic, values, records);
            double wall = (System.nanoTime() - began) / 1e9;
            double perRecord = (double) (system.getProcessCpuTime() - cpu) / records;
            System.out.printf(
                "{\"what\":\"produce\",\"client\":\"java\",\"size\":%d,\"codec\":\"%s\",\"batch_size\":%d,\"records\":%d,"
                    + "\"cpu_ns_per_record\":%.1f,\"records_per_second\":%.0f,\"max_rss_kib\":%d}%n",
                size, args[3], batchSize, records, perRecord, records / wall, maxRss());
        }
    }

    /** Sends, and counts the deliveries. */
    static void send(KafkaProducer<byte[], byte[]> producer, String topic, byte[][] values, long records) {
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

    static long maxRss() throws Exception {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith("VmHWM:")) {
                return Long.parseLong(line.replaceAll("[^0-9]", ""));
            }
        }
        return 0;
    }
}
