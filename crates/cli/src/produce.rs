//! `kavka produce`: records from lines of text or JSON.
//!
//! A thread reads, because standard input cannot be waited for otherwise; records are sent as they come, and many are under
//! way before the first delivery is looked at.

mod input;

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    pin::pin,
    time::Duration,
};

use kavka_client::{
    Delivery, DeliveryFuture, Error, Producer, ProducerBuilder, ProducerRecord,
    producer::Compression,
};

use self::input::{Input, Place};
use crate::{
    completions,
    failure::Failure,
    options::Options,
    output::{Report, Table, column},
    record::{Record, unescape},
    signals::Signals,
    time,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The topic
    #[arg(add = completions::topics())]
    topic: String,

    /// Where to read; without it, or for -, standard input
    files: Vec<PathBuf>,

    /// What a line is: text, a value; jsonl, a record as kavka consume -o jsonl writes it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    format: LineFormat,

    /// In a line of text, what stands between key and value, such as : or \t
    #[arg(short, long, value_name = "TEXT", value_parser = delimiter)]
    key_delimiter: Option<Delimiter>,

    /// In a line of text, the key or value that stands for null
    #[arg(long, value_name = "TEXT")]
    null: Option<String>,

    /// A header for every record; repeatable
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = crate::property)]
    headers: Vec<(String, String)>,

    /// Send everything to this partition
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,

    /// Send each record to the partition that its line of JSON names
    #[arg(long, conflicts_with = "partition")]
    keep_partitions: bool,

    /// The timestamp of every record, such as 2026-11-21T18:30Z or milliseconds since 1970 [default: that of its line of JSON, else now]
    #[arg(long, value_name = "TIME", value_parser = timestamp)]
    timestamp: Option<i64>,

    /// How batches are compressed: none, gzip, snappy, lz4 or zstd
    #[arg(short = 'z', long, value_name = "CODEC", value_parser = compression)]
    compression: Option<Compression>,
}

/// What lines are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum LineFormat {
    /// Values, with keys if there is a key delimiter
    #[default]
    Text,
    /// Records as JSON objects
    Jsonl,
}

/// Bytes between key and value.
#[derive(Clone, Debug)]
struct Delimiter(Vec<u8>);

fn delimiter(text: &str) -> Result<Delimiter, String> {
    let bytes = unescape(text)?;
    if bytes.is_empty() { Err("it is empty".to_owned()) } else { Ok(Delimiter(bytes)) }
}

fn timestamp(text: &str) -> Result<i64, String> {
    let ms = text.parse().ok().or_else(|| time::parse_datetime(text));
    ms.filter(|ms| *ms >= 0).ok_or_else(|| {
        "expected a time such as 2026-11-21T18:30Z, or milliseconds since 1970".to_owned()
    })
}

fn compression(text: &str) -> Result<Compression, String> {
    let names = || Compression::ALL.map(|codec| codec.name()).join(", ");
    let found = Compression::ALL.into_iter().find(|codec| codec.name() == text);
    found.ok_or_else(|| format!("expected one of {}", names()))
}

/// Of `batch.size`, unless it is set: fewer requests for the same records.
const BATCH_BYTES: usize = 256 << 10;
/// How many deliveries are waited for at most before more is read.
const UNDER_WAY: usize = 20_000;

/// How long the last deliveries may take before it is told that they are waited for.
const QUIET_WAIT: Duration = Duration::from_secs(2);

/// What became of the records of a partition.
#[derive(Debug, Default)]
struct Written {
    records: usize,
    first: Option<i64>,
    last: Option<i64>,
}

pub(crate) fn run(args: Args, options: &Options) -> Result<(), Failure> {
    options.run(async |options| produce(&options, args).await)
}

async fn produce(options: &Options, args: Args) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(|error| Failure::new(error.to_string()))?;
    let mut run = Run {
        producer: producer(options, &args)?,
        input: Input::open(&args.files)?,
        under_way: VecDeque::new(),
        written: BTreeMap::new(),
        undelivered: None,
    };
    if let Some(partition) = args.partition {
        let named = has_partition(&run.producer, &args.topic, partition);
        tokio::select! {
            named = options.asked(named) => named?,
            _ = signals.next() => {
                return Err(Failure::new("interrupted: nothing was read or sent"));
            }
        }
    }
    let read = run.send_all(&args, options, &mut signals).await;
    let delivered = run.settle(options, &mut signals).await;
    if delivered.is_ok() {
        // Nothing is left to be delivered: this only ends connections.
        drop(run.producer.close(Duration::from_secs(1)).await);
    }
    // A line that was not delivered is told before what came of it: that the rest was not read.
    let lost = run.undelivered.map_or(Ok(()), |lost| Err(lost.failure(&run.input)));
    let done = lost.and(read).and(delivered);
    let mut table = Table::new([
        column("topic"),
        column("partition"),
        column("records"),
        column("first_offset"),
        column("last_offset"),
    ]);
    for (partition, written) in run.written {
        table.push([
            args.topic.as_str().into(),
            partition.into(),
            written.records.into(),
            written.first.into(),
            written.last.into(),
        ]);
    }
    if table.is_empty() && done.is_ok() {
        options.notes().say("There was nothing to send.");
    }
    if !table.is_empty() || done.is_ok() {
        Report::list("kavka.produce", table).print(options.format())?;
    }
    done
}

/// A command under way.
struct Run {
    producer: Producer,
    input: Input,
    /// What was sent and not acknowledged when it was last looked at, in order.
    under_way: VecDeque<(Place, DeliveryFuture)>,
    written: BTreeMap<i32, Written>,
    undelivered: Option<Undelivered>,
}

/// Records that were refused.
struct Undelivered {
    /// The first of them.
    place: Place,
    error: Error,
    /// How many came after it.
    more: usize,
}

impl Run {
    /// Sends what comes until it ends, a record fails, or a signal comes.
    async fn send_all(
        &mut self,
        args: &Args,
        options: &Options,
        signals: &mut Signals,
    ) -> Result<(), Failure> {
        let mut is_first = true;
        loop {
            let block = tokio::select! {
                biased;
                _ = signals.next() => return match self.input.waiting() {
                    Some(place) => Err(self.interrupted(place)),
                    None => Ok(()),
                },
                block = self.input.next() => block?,
            };
            let Some(block) = block else { return Ok(()) };
            for (place, line) in block.lines() {
                let record;
                let sent = match args.format {
                    LineFormat::Text => args.text(line),
                    LineFormat::Jsonl if line.trim_ascii().is_empty() => continue,
                    LineFormat::Jsonl => {
                        record =
                            args.record(line).map_err(|wrong| self.no_record(place, &wrong))?;
                        args.sent(&record)
                    }
                };
                // A signal is looked for only where there is waiting to do.
                let sent = tokio::select! {
                    biased;
                    sent = self.send(sent, is_first, options) => sent,
                    _ = signals.next() => return Err(self.interrupted(place)),
                };
                is_first = false;
                match sent {
                    Ok(delivery) => self.under_way.push_back((place, delivery)),
                    Err(error) => {
                        self.lose(place, error);
                        return Ok(());
                    }
                }
                if self.under_way.len() > UNDER_WAY {
                    tokio::select! {
                        biased;
                        () = self.settle_one() => {}
                        _ = signals.next() => return Err(self.interrupted(place.next())),
                    }
                    if self.undelivered.is_some() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The first record waits for the cluster, which may not be there; later ones for room.
    async fn send(
        &self,
        record: ProducerRecord<'_>,
        is_first: bool,
        options: &Options,
    ) -> Result<DeliveryFuture, Error> {
        if is_first {
            options.asked(self.producer.send(record)).await
        } else {
            self.producer.send(record).await
        }
    }

    /// Waits for what is under way. A signal ends that.
    async fn settle(&mut self, options: &Options, signals: &mut Signals) -> Result<(), Failure> {
        let quiet = tokio::time::sleep(QUIET_WAIT);
        let mut quiet = pin!(quiet);
        let mut is_told = false;
        while !self.under_way.is_empty() {
            tokio::select! {
                biased;
                () = self.settle_one() => {}
                _ = signals.next() => return self.give_up().await,
                () = &mut quiet, if !is_told => {
                    is_told = true;
                    let left = self.under_way.len();
                    options.notes().say(format_args!(
                        "Waiting for {left} records to be acknowledged; an interrupt ends that."
                    ));
                }
            }
        }
        Ok(())
    }

    /// Waits for the oldest record that is under way. Cancel safe.
    async fn settle_one(&mut self) {
        let Some((_, delivery)) = self.under_way.front_mut() else { return };
        let delivery = delivery.await;
        if let Some((place, _)) = self.under_way.pop_front() {
            self.settled(place, delivery);
        }
    }

    /// Counts what is acknowledged by now, and names the rest.
    async fn give_up(&mut self) -> Result<(), Failure> {
        let (mut unknown, mut first) = (0_usize, None);
        for (place, delivery) in std::mem::take(&mut self.under_way) {
            match tokio::time::timeout(Duration::ZERO, delivery).await {
                Ok(delivery) => self.settled(place, delivery),
                Err(_) => {
                    unknown += 1;
                    first = first.or(Some(place));
                }
            }
        }
        let Some(first) = first else { return Ok(()) };
        let first = self.input.shown(first);
        Err(Failure::new(format!(
            "interrupted: {unknown} records, the first of {first}, were not acknowledged, and may be in the topic or not"
        ))
        .advise("Look into the topic before sending them again."))
    }

    fn settled(&mut self, place: Place, delivery: Result<Delivery, Error>) {
        match delivery {
            Ok(delivery) => {
                let partition = self.written.entry(delivery.partition).or_default();
                partition.records += 1;
                partition.first =
                    partition.first.min(delivery.offset).or(partition.first).or(delivery.offset);
                partition.last = partition.last.max(delivery.offset);
            }
            Err(error) => self.lose(place, error),
        }
    }

    fn lose(&mut self, place: Place, error: Error) {
        match &mut self.undelivered {
            // The line that could not be taken any more comes after those that were.
            Some(lost) if lost.place <= place => lost.more += 1,
            Some(lost) => {
                *lost = Undelivered { place, error, more: lost.more + 1 };
            }
            None => self.undelivered = Some(Undelivered { place, error, more: 0 }),
        }
    }

    fn interrupted(&self, place: Place) -> Failure {
        let place = self.input.shown(place);
        Failure::new(format!("interrupted: {place} and what follows was not sent"))
    }

    fn no_record(&self, place: Place, wrong: &str) -> Failure {
        Failure::usage(format!("{}: {wrong}", self.input.shown(place)))
            .advise("See docs/cli.md for what a line of JSON has; lines before this one were sent.")
    }
}

impl Undelivered {
    fn failure(self, input: &Input) -> Failure {
        let place = input.shown(self.place);
        let what = match self.more {
            0 => format!("{place} was not delivered"),
            more => format!("{place} and {more} later records were not delivered"),
        };
        Failure::from(self.error).while_doing(what)
    }
}

/// A topic that lacks the partition would be waited for: it may be about to get it. Whoever names one by hand means one that is there.
async fn has_partition(producer: &Producer, topic: &str, partition: i32) -> Result<(), Failure> {
    let count = producer.partition_count(topic).await?;
    if u32::try_from(partition).is_ok_and(|partition| partition < count) {
        Ok(())
    } else {
        Err(crate::topic::no_partition(topic, partition, count as usize))
    }
}

fn producer(options: &Options, args: &Args) -> Result<Producer, Failure> {
    let mut properties = options.client_properties()?;
    if let Some(timeout) = options.timeout {
        let ms = |time: Duration| time.as_millis().to_string();
        let request = timeout.min(Duration::from_secs(30)).max(Duration::from_millis(1));
        properties.set_default("max.block.ms", ms(timeout));
        properties.set_default("request.timeout.ms", ms(request));
        properties.set_default("linger.ms", "5");
        properties.set_default(
            "delivery.timeout.ms",
            ms(timeout.max(request) + Duration::from_millis(5)),
        );
    } else {
        properties.set_default("max.block.ms", "30000");
    }
    // Much comes at once here. What does not is sent after linger.ms all the same.
    properties.set_default("batch.size", BATCH_BYTES.to_string());
    if let Some(compression) = args.compression {
        properties.set("compression.type", compression.name());
    }
    let mut builder = Producer::builder();
    for (name, value) in properties.known_to(ProducerBuilder::knows) {
        builder = builder.property(name, value);
    }
    Ok(builder.build()?)
}

impl Args {
    /// The record of a line of JSON.
    fn record(&self, line: &[u8]) -> Result<Record, String> {
        let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
        let mut record = crate::record::from_json(text)?;
        record.partition = record.partition.filter(|_| self.keep_partitions);
        Ok(record)
    }

    /// The record of a line of text, which is not copied.
    fn text<'a>(&'a self, line: &'a [u8]) -> ProducerRecord<'a> {
        let (key, value) = match &self.key_delimiter {
            None => (None, line),
            Some(Delimiter(delimiter)) => {
                match line.windows(delimiter.len()).position(|window| window == delimiter) {
                    Some(at) => (Some(&line[..at]), &line[at + delimiter.len()..]),
                    None => (None, line),
                }
            }
        };
        let not_null =
            |bytes: &&[u8]| self.null.as_ref().is_none_or(|null| null.as_bytes() != *bytes);
        let mut sent = ProducerRecord::to(&self.topic);
        if let Some(key) = key.filter(not_null) {
            sent = sent.key(key);
        }
        if let Some(value) = Some(value).filter(not_null) {
            sent = sent.value(value);
        }
        self.with_options(sent, None, None)
    }

    fn sent<'a>(&'a self, record: &'a Record) -> ProducerRecord<'a> {
        let mut sent = ProducerRecord::to(&self.topic);
        if let Some(key) = &record.key {
            sent = sent.key(key);
        }
        if let Some(value) = &record.value {
            sent = sent.value(value);
        }
        for (name, value) in &record.headers {
            sent = sent.header(name, value.as_deref());
        }
        self.with_options(sent, record.partition, record.timestamp)
    }

    /// The record with what the options say of all; partition and timestamp are its own.
    fn with_options<'a>(
        &'a self,
        mut sent: ProducerRecord<'a>,
        partition: Option<i32>,
        timestamp: Option<i64>,
    ) -> ProducerRecord<'a> {
        for (name, value) in &self.headers {
            sent = sent.header(name, Some(value.as_bytes()));
        }
        if let Some(partition) = self.partition.or(partition) {
            sent = sent.partition(partition);
        }
        match self.timestamp.or(timestamp) {
            Some(timestamp) => sent.timestamp_ms(timestamp),
            None => sent,
        }
    }
}
