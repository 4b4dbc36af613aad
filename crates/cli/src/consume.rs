//! `kavka consume`: records of topics, as a member of a group or without one.
//!
//! Without a group, every partition is read from where `--from` says, and nothing is committed. In a group, what was written out is
//! committed, and nothing else: offsets are committed after standard output took the records.

mod end;
mod start;
mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufWriter, IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kavka_client::{
    ByteString, Consumer, ConsumerBuilder, ConsumerHandle, Error, IsolationLevel, TopicPartition,
    consumer::{
        Batch, CloseOptions, CommitOutcome, Offsets, PendingCommit, RebalanceEvent,
        RebalanceEvents, SeekTo,
    },
};
use tokio::time::{Instant, MissedTickBehavior};

use self::{
    end::{Ends, Until},
    start::From,
    writer::Writer,
};
use crate::{
    completions,
    failure::{Exit, Failure},
    options::{self, Options, Properties},
    record::{Found, Template},
    signals::Signals,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The topics
    #[arg(required = true, value_name = "TOPIC", add = completions::topics())]
    topics: Vec<String>,

    /// Read as a member of this group, and commit what was written out
    #[arg(short, long, value_name = "GROUP", add = completions::groups())]
    group: Option<String>,

    /// Where to begin: earliest, latest, an offset, a time such as 2026-11-21T18:30Z, one in the past such as -2h, or the last records
    /// of each partition such as -100; in a group earliest or latest, for what is not committed [default: latest]
    #[arg(long, value_name = "WHERE", value_parser = start::parse, allow_hyphen_values = true)]
    from: Option<From>,

    /// Where to stop: end, where the logs end now; an offset; or a time, as with --from
    #[arg(long, value_name = "WHERE", value_parser = end::parse, allow_hyphen_values = true)]
    until: Option<Until>,

    /// Stop after so many records
    #[arg(short = 'n', long, value_name = "N")]
    max_records: Option<u64>,

    /// Only these partitions, such as 0,2
    #[arg(short, long = "partition", value_name = "N", value_delimiter = ',', conflicts_with = "group", value_parser = clap::value_parser!(i32).range(0..))]
    partitions: Vec<i32>,

    /// How a record is written, such as '%t[%p]@%o %k: %v\n': %v value, %k key, %t topic, %p partition, %o offset, %T timestamp,
    /// %D the same as a date, %h headers, %S and %K lengths of value and key, \n \t \xHH [default: %v\n]
    #[arg(short, long, value_name = "TEMPLATE", value_parser = Template::parse)]
    format: Option<Template>,

    /// What is written for a key or value that is null
    #[arg(long, value_name = "TEXT", default_value = "")]
    null: String,

    /// Leave out what open and aborted transactions wrote
    #[arg(long)]
    read_committed: bool,
}

/// How often what was written is flushed, and ends are looked for.
const TICK: Duration = Duration::from_millis(50);
/// How often is committed.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// How long leaving a group may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

pub(crate) fn run(args: Args, options: &Options) -> Result<(), Failure> {
    options.run(async |options| consume(&options, args).await)
}

async fn consume(options: &Options, args: Args) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(|error| Failure::new(error.to_string()))?;
    let mut properties = options.client_properties()?;
    if args.read_committed {
        properties.set("isolation.level", "read_committed");
    }
    let is_read_committed = properties.get("isolation.level") == Some("read_committed");
    let isolation = if is_read_committed {
        IsolationLevel::ReadCommitted
    } else {
        IsolationLevel::ReadUncommitted
    };
    let admin = options::admin_beside(&properties)?;
    let consumer = consumer(&args, properties)?;
    let topics: Vec<ByteString> = args.topics.iter().map(|topic| topic.as_str().into()).collect();

    // What has to be known before the first record comes is asked for while a signal can still end it all at once.
    let prepared = async {
        let places = start::places(&admin, &topics, &args.partitions).await?;
        let starts = match args.group {
            Some(_) => BTreeMap::new(),
            None => {
                start::offsets(
                    &admin,
                    &places,
                    args.from.clone().unwrap_or(From::Latest),
                    isolation,
                )
                .await?
            }
        };
        let ends = match &args.until {
            Some(until) => Some(end::offsets(&admin, &places, until, isolation).await?),
            None => None,
        };
        Ok::<_, Failure>((starts, ends))
    };
    let (starts, ends) = tokio::select! {
        prepared = options.asked(prepared) => prepared?,
        _ = signals.next() => {
            let is_short = args.until.is_some() || args.max_records.is_some();
            return if is_short { Err(interrupted_after(0, options)) } else { Ok(()) };
        }
    };
    drop(admin);

    let events = consumer.events();
    let begun = begin(&consumer, &args, &starts).await;
    let mut run = Run {
        handle: consumer.handle(),
        events: Some(events),
        writer: Writer::new(options.format(), args.format.clone(), args.null.clone()),
        out: BufWriter::with_capacity(1 << 16, io::stdout()),
        ends: ends.map(|ends| Ends::new(ends, &starts)),
        left: args.max_records,
        read: BTreeMap::new(),
        commits: args.group.is_some(),
        committing: None,
        committed: Instant::now(),
        told: BTreeSet::new(),
        bar: None,
        records: 0,
    };
    let done = match begun {
        Ok(()) => run.all(consumer, options, &mut signals).await,
        Err(failure) => Err(failure),
    };
    if let Some(bar) = &run.bar {
        bar.finish_and_clear();
    }
    if done.is_ok() {
        options.notes().say(format_args!("Read {} records.", run.records));
    }
    done
}

fn consumer(args: &Args, mut properties: Properties) -> Result<Consumer, Failure> {
    properties.set("enable.auto.commit", "false");
    match &args.group {
        Some(group) => {
            properties.set("group.id", group);
            match &args.from {
                Some(From::Earliest) => properties.set("auto.offset.reset", "earliest"),
                Some(From::Latest) => properties.set("auto.offset.reset", "latest"),
                None => {}
                Some(_) => {
                    return Err(Failure::usage("a group begins where it has committed: --from can only be earliest or latest, for the rest")
                        .advise("Move the group with kavka group seek, or read without one."));
                }
            }
        }
        // A group in a file of properties would commit for whoever uses that group.
        None => {
            properties.remove("group.id");
            // What is deleted before it could be read is no reason to skip the rest.
            properties.set_default("auto.offset.reset", "earliest");
        }
    }
    let mut builder = Consumer::builder();
    for (name, value) in properties.known_to(ConsumerBuilder::knows) {
        builder = builder.property(name, value);
    }
    Ok(builder.build()?)
}

/// A signal came before the end that was asked for.
fn interrupted_after(records: u64, options: &Options) -> Failure {
    options.notes().say(format_args!("Interrupted after {records} records."));
    Failure::Silent(Exit::ConditionNotMet)
}

async fn begin(
    consumer: &Consumer,
    args: &Args,
    starts: &BTreeMap<TopicPartition, i64>,
) -> Result<(), Failure> {
    if args.group.is_some() {
        return Ok(consumer.subscribe(&args.topics).await?);
    }
    consumer.assign(starts.keys().cloned()).await?;
    for (place, offset) in starts {
        consumer.seek(place, SeekTo::Offset(*offset)).await?;
    }
    Ok(())
}

/// The next event; never any when there are no more.
async fn next_event(events: &mut Option<RebalanceEvents>) -> RebalanceEvent {
    let event = match events {
        Some(events) => events.next().await,
        None => None,
    };
    match event {
        Some(event) => event,
        None => std::future::pending().await,
    }
}

/// A command under way.
struct Run {
    handle: ConsumerHandle,
    /// What happens to our partitions. None at the end: nobody has to wait for us then.
    events: Option<RebalanceEvents>,
    writer: Writer,
    out: BufWriter<io::Stdout>,
    ends: Option<Ends>,
    /// How many records are wanted still.
    left: Option<u64>,
    /// The offsets after what was written, of partitions that are ours, as far as they are not committed.
    read: BTreeMap<TopicPartition, i64>,
    commits: bool,
    committing: Option<PendingCommit>,
    /// When was last begun to commit.
    committed: Instant,
    /// What was warned of.
    told: BTreeSet<String>,
    bar: Option<ProgressBar>,
    records: u64,
}

impl Run {
    async fn all(
        &mut self,
        mut consumer: Consumer,
        options: &Options,
        signals: &mut Signals,
    ) -> Result<(), Failure> {
        self.bar = self.progress(options);
        let written = self.write_all(&mut consumer, options, signals).await;
        self.events = None;
        let finished = tokio::select! {
            finished = self.finish(consumer) => finished,
            _ = signals.next() => Err(self.left_in_a_hurry()),
        };
        let is_interrupted = written?;
        finished?;
        let is_short = self.ends.is_some() || self.left.is_some();
        if is_interrupted && is_short {
            return Err(interrupted_after(self.records, options));
        }
        Ok(())
    }

    /// Reads and writes until the end, or until a signal comes: whether one did.
    async fn write_all(
        &mut self,
        consumer: &mut Consumer,
        options: &Options,
        signals: &mut Signals,
    ) -> Result<bool, Failure> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.writer.begin(&mut self.out)?;
        let mut is_interrupted = false;
        while !self.is_done() {
            tokio::select! {
                batch = consumer.next_batch() => match batch {
                    None => break,
                    Some(Ok(batch)) => self.take(batch)?,
                    // Others go on; each is worth one line.
                    Some(Err(error)) if error.is_retriable() => self.warn(options, &error),
                    Some(Err(error)) => return Err(error.into()),
                },
                event = next_event(&mut self.events) => self.rebalance(event, options).await?,
                _ = tick.tick() => self.tick(options).await?,
                _ = signals.next() => {
                    is_interrupted = true;
                    break;
                }
            }
        }
        self.writer.end(&mut self.out)?;
        self.out.flush()?;
        Ok(is_interrupted)
    }

    fn warn(&mut self, options: &Options, error: &Error) {
        if self.told.insert(error.to_string()) {
            options.notes().warn(error);
        }
    }

    /// Partitions that go are committed while they are still ours, and forgotten: their next owner commits them.
    async fn rebalance(&mut self, event: RebalanceEvent, options: &Options) -> Result<(), Failure> {
        match event {
            RebalanceEvent::Revoking(revoking) => {
                self.out.flush()?;
                let is_going = |place: &TopicPartition| revoking.partitions().contains(place);
                let going = self.offsets(is_going);
                if self.commits && !going.is_empty() {
                    let commit = self.handle.commit_offsets(going);
                    if let Ok(outcome) = tokio::time::timeout_at(revoking.deadline(), commit).await
                    {
                        self.settle(outcome, options);
                    }
                }
            }
            RebalanceEvent::Revoked(partitions) | RebalanceEvent::Lost { partitions, .. } => {
                self.read.retain(|place, _| !partitions.contains(place));
            }
            _ => {}
        }
        Ok(())
    }

    /// Forgets what is committed.
    fn settle(&mut self, outcome: CommitOutcome, options: &Options) {
        let committed = match &outcome {
            Ok(committed) => committed,
            Err(failed) => {
                self.warn(options, failed.error());
                failed.committed()
            }
        };
        for (place, offset) in committed {
            if self.read.get(place) == Some(offset) {
                self.read.remove(place);
            }
        }
    }

    /// Commits what was written, and leaves the group in any case.
    async fn finish(&mut self, consumer: Consumer) -> Result<(), Failure> {
        let is_written = self.out.flush().is_ok();
        let mut committed = Ok(());
        if self.commits && !self.read.is_empty() && is_written {
            committed = match self.handle.commit_offsets(self.offsets(|_| true)).await {
                Ok(_) => Ok(()),
                Err(failed) => Err(Failure::from(Error::from(failed))),
            };
        }
        let closed = consumer.close_with(CloseOptions::default().timeout(CLOSE_WITHIN)).await;
        committed?;
        Ok(closed?)
    }

    /// A signal came while it was finishing.
    fn left_in_a_hurry(&self) -> Failure {
        let failure = Failure::new(format!(
            "interrupted after {} records before all was committed and the group was left",
            self.records
        ));
        failure.advise("Whoever reads on in the group may read some of them again.")
    }

    fn is_done(&self) -> bool {
        self.left == Some(0) || self.ends.as_ref().is_some_and(Ends::are_reached)
    }

    /// Writes the records of a batch, as far as they are wanted.
    fn take(&mut self, batch: Batch<'_>) -> Result<(), Failure> {
        let place = batch.topic_partition();
        let limit = self.ends.as_ref().and_then(|ends| ends.limit(&place)).unwrap_or(i64::MAX);
        let (topic, partition) = (batch.topic().clone(), batch.partition());
        let leader_epoch = Some(batch.leader_epoch()).filter(|epoch| *epoch >= 0);
        let mut next_offset = batch.next_offset();
        let before = self.records;
        for record in batch {
            let record = record?;
            if record.offset >= limit || self.left == Some(0) {
                next_offset = record.offset;
                break;
            }
            let headers =
                record.headers().map(|header| (String::from_utf8_lossy(header.key), header.value));
            let found = Found {
                topic: &topic,
                partition,
                offset: record.offset,
                leader_epoch,
                timestamp: Some(record.timestamp).filter(|timestamp| *timestamp >= 0),
                key: record.key,
                value: record.value,
                headers: headers.collect(),
            };
            self.writer.write(&mut self.out, &found)?;
            self.records += 1;
            if let Some(left) = &mut self.left {
                *left -= 1;
            }
        }
        if let Some(ends) = &mut self.ends {
            ends.reach(&place, next_offset);
        }
        if let Some(bar) = &self.bar {
            match &self.ends {
                Some(ends) => bar.set_position(ends.passed()),
                None => bar.inc(self.records - before),
            }
        }
        if next_offset > 0 && self.records > before {
            self.read.insert(place, next_offset);
        }
        Ok(())
    }

    async fn tick(&mut self, options: &Options) -> Result<(), Failure> {
        self.out.flush()?;
        if let Some(committing) = &mut self.committing
            && let Ok(outcome) = tokio::time::timeout(Duration::ZERO, committing).await
        {
            self.committing = None;
            self.settle(outcome, options);
        }
        let is_due = self.committing.is_none() && self.committed.elapsed() >= COMMIT_EVERY;
        if self.commits && !self.read.is_empty() && is_due {
            // A later commit makes up for one that fails; the last one is waited for.
            self.committing = Some(self.handle.commit_offsets_async(self.offsets(|_| true)));
            self.committed = Instant::now();
        }
        if let Some(ends) = &mut self.ends {
            let owned = self.handle.assignment().await?;
            // What comes last in a log may be nothing that is handed out, such as the end of a transaction.
            for place in ends.open(&owned) {
                let position = tokio::time::timeout(TICK, self.handle.position(&place)).await;
                if let Ok(Ok(position)) = position {
                    ends.reach(&place, position);
                }
            }
            if self.commits {
                ends.keep(&owned);
            }
        }
        Ok(())
    }

    /// What is to be committed of some partitions.
    fn offsets(&self, of: impl Fn(&TopicPartition) -> bool) -> Offsets {
        let some = self.read.iter().filter(|(place, _)| of(place));
        some.fold(Offsets::new(), |offsets, (place, next)| offsets.with(place.clone(), *next))
    }

    /// A bar, where somebody sees it and knows how long it is.
    fn progress(&self, options: &Options) -> Option<ProgressBar> {
        let total = match (&self.ends, self.left) {
            (Some(ends), None) => ends.total(),
            (_, left) => left,
        };
        let is_seen = io::stderr().is_terminal() && !io::stdout().is_terminal() && !options.quiet;
        let total = total.filter(|_| is_seen)?;
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let style = "{bar:40} {human_pos}/{human_len} records, {per_sec}, {eta} left";
        bar.set_style(
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        Some(bar)
    }
}
