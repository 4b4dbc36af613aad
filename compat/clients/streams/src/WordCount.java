import java.time.Duration;
import java.util.Arrays;
import java.util.Properties;
import java.util.TreeSet;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.StateRestoreListener;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * One instance of a word count: {@code WordCount BOOTSTRAP APPLICATION INPUT OUTPUT STATE_DIR}.
 *
 * <p>Every update of a count goes to OUTPUT, as {@code <word> <count>}. What the instance does is told on stdout, a line each:
 *
 * <pre>
 * S &lt;state&gt;                   the state of the client changed to this
 * T &lt;task,...&gt;                its active tasks changed to these
 * L &lt;partition&gt; &lt;records&gt;     the store of this partition was restored from so many records of its changelog
 * </pre>
 *
 * It runs until it is killed.
 */
public final class WordCount {
    public static void main(String[] args) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", args[0]);
        p.put("application.id", args[1]);
        p.put("state.dir", args[4]);
        p.put("group.protocol", "classic");
        p.put("processing.guarantee", StreamsConfig.AT_LEAST_ONCE);
        p.put("commit.interval.ms", 500);
        p.put("repartition.purge.interval.ms", 500);
        // Without a cache every update is seen downstream, so that a count which is skipped or repeated shows.
        p.put("statestore.cache.max.bytes", 0);
        p.put("main.consumer.session.timeout.ms", 10_000);
        p.put("main.consumer.heartbeat.interval.ms", 500);
        p.put("reconnect.backoff.max.ms", 300);

        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(args[2], Consumed.with(Serdes.ByteArray(), Serdes.String()))
            .flatMapValues(line -> Arrays.asList(line.split(" ")))
            .groupBy((key, word) -> word, Grouped.with("counts", Serdes.String(), Serdes.String()))
            .count(Materialized.<String, Long, KeyValueStore<Bytes, byte[]>>as("counts"))
            .toStream()
            .mapValues((word, count) -> word + " " + count)
            .to(args[3], Produced.with(Serdes.String(), Serdes.String()));

        KafkaStreams streams = new KafkaStreams(builder.build(), p);
        streams.setStateListener((now, before) -> tell("S " + now));
        streams.setGlobalStateRestoreListener(new StateRestoreListener() {
            @Override
            public void onRestoreStart(TopicPartition changelog, String store, long from, long to) {}

            @Override
            public void onBatchRestored(TopicPartition changelog, String store, long last, long records) {}

            @Override
            public void onRestoreEnd(TopicPartition changelog, String store, long records) {
                tell("L " + changelog.partition() + " " + records);
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(10))));
        streams.start();

        TreeSet<String> told = new TreeSet<>();
        while (true) {
            TreeSet<String> tasks = new TreeSet<>();
            streams.metadataForLocalThreads().forEach(thread -> thread.activeTasks().forEach(task -> tasks.add(task.taskId().toString())));
            if (!tasks.equals(told)) {
                tell("T " + String.join(",", tasks));
                told = tasks;
            }
            Thread.sleep(50);
        }
    }

    private static synchronized void tell(String line) {
        System.out.println(line);
        System.out.flush();
    }
}
