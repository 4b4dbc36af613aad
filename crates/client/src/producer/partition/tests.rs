//! Partitions against a model of a broker that remembers the last five batches of each producer, as Kafka's does, over connections
//! that break, hold requests back, and lose answers; thousands of walks, each from its seed.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, task::Context, task::Poll, task::Waker};

use kavka_protocol::records::{BatchHeader, Compressor, Decompressor};

use super::*;
use crate::{
    ErrorKind,
    producer::{
        delivery::{Completion, DeliveryFuture, Outstanding},
        memory::Memory,
        partitioner::Random,
        record::ProducerRecord,
    },
};

const LINGER: Duration = Duration::ZERO;
const MAX_IN_FLIGHT: usize = 5;

/// The broker's half: KIP-98's rules for one partition.
#[derive(Default)]
struct Broker {
    log: Vec<u32>,
    epoch: Option<i16>,
    next_sequence: i32,
    /// First and last sequence, and first offset, of the last batches.
    last: VecDeque<(i32, i32, i64)>,
}

#[derive(Debug)]
enum Answer {
    Written(i64),
    OutOfOrder,
    StaleEpoch,
    Refused,
    Busy,
}

impl Broker {
    fn append(&mut self, header: &BatchHeader, values: &[u32]) -> Answer {
        let (base, last) = (header.base_sequence, header.last_sequence());
        match self.epoch {
            Some(epoch) if header.producer_epoch < epoch => return Answer::StaleEpoch,
            Some(epoch) if header.producer_epoch == epoch => {
                let known = self.last.iter().find(|known| (known.0, known.1) == (base, last));
                if let Some((_, _, offset)) = known {
                    return Answer::Written(*offset);
                }
                if base != self.next_sequence {
                    return Answer::OutOfOrder;
                }
            }
            // Of a producer it knows nothing of, Kafka takes any sequence; this one is stricter, to see more.
            _ if base != 0 => return Answer::OutOfOrder,
            _ => self.last.clear(),
        }
        let offset = self.log.len() as i64;
        self.log.extend(values);
        self.epoch = Some(header.producer_epoch);
        self.next_sequence = last + 1;
        self.last.push_back((base, last, offset));
        while self.last.len() > 5 {
            self.last.pop_front();
        }
        Answer::Written(offset)
    }
}

struct World {
    random: Random,
    partition: Arc<Partition>,
    outstanding: Arc<Outstanding>,
    memory: Arc<Memory>,
    broker: Broker,
    epoch: std::cell::Cell<i16>,
    compressor: Compressor,
    decompressor: Decompressor,
    now: Instant,
    next_value: u32,
    deliveries: BTreeMap<u32, DeliveryFuture>,
    /// On the wire: what was sent, and the answer once the broker has worked on it.
    wire: VecDeque<(Batch, bytes::Bytes, Option<Answer>)>,
    /// Of connections that broke: requests that the broker may still read.
    ghosts: VecDeque<bytes::Bytes>,
    /// Whether the broker refuses batches for good. A broker that reads late and refuses what it has taken from another connection
    /// before is more than numbers can make good.
    refuses: bool,
    trace: String,
}

impl World {
    fn new(seed: u64, refuses: bool) -> Self {
        let partition = Partition::new("t".into(), 0);
        partition.set_leader(&mut partition.lock(), 1);
        Self {
            random: Random::seeded(seed),
            partition,
            outstanding: Arc::default(),
            memory: Memory::new(1 << 30, 4096),
            broker: Broker::default(),
            epoch: std::cell::Cell::new(0),
            compressor: Compressor::new(kavka_protocol::records::Compression::None, None).unwrap(),
            decompressor: Decompressor::new(1 << 20),
            now: Instant::now(),
            next_value: 0,
            deliveries: BTreeMap::new(),
            wire: VecDeque::new(),
            ghosts: VecDeque::new(),
            refuses,
            trace: String::new(),
        }
    }

    fn one_in(&self, n: u64) -> bool {
        self.random.below(n) == 0
    }

    /// The application sends a batch of a few records.
    fn produce(&mut self, timeout: Duration) {
        let completion = Completion::new("t".into(), 0);
        let promise = Promise::new(completion, &self.outstanding);
        let memory = self.memory.try_take(4096).unwrap();
        let mut batch = Batch::open(promise, 4096, memory, self.now, self.now + timeout);
        for _ in 0..=self.random.below(4) {
            let value = self.next_value.to_string();
            let record = ProducerRecord::to("t").value(&value);
            let delivery = batch.append(&record, record.size_bound(), 0).unwrap();
            self.deliveries.insert(self.next_value, delivery);
            self.next_value += 1;
        }
        self.partition.lock().push(batch);
    }

    /// The sender sends what is ready.
    fn send(&mut self) {
        while self.wire.len() < MAX_IN_FLIGHT {
            let mut state = self.partition.lock();
            if state.readiness(self.now, LINGER, 4096, true) != Readiness::Now {
                return;
            }
            let epoch = &self.epoch;
            let identity_after = |used: Option<Identity>| {
                if used.is_some_and(|used| used.epoch == epoch.get()) {
                    epoch.set(epoch.get() + 1);
                }
                Some(Identity { id: 9, epoch: epoch.get() })
            };
            let mut batch = state.take(Some(&identity_after)).unwrap();
            let bytes = batch.build(&mut self.compressor).unwrap();
            self.wire.push_back((batch, bytes, None));
        }
    }

    fn work_on(&mut self, bytes: &bytes::Bytes) -> Answer {
        let header = BatchHeader::parse(bytes).unwrap();
        kavka_protocol::records::verify_crc(bytes).unwrap();
        let records = self.decompressor.records(&header, bytes).unwrap();
        let value = |record: kavka_protocol::records::RecordView<'_>| {
            std::str::from_utf8(record.value.unwrap()).unwrap().parse().unwrap()
        };
        let values: Vec<u32> = records.map(|record| value(record.unwrap())).collect();
        let answer = self.broker.append(&header, &values);
        let (epoch, base) = (header.producer_epoch, header.base_sequence);
        self.trace += &format!("{values:?} as {epoch}/{base} {answer:?}; ");
        answer
    }

    /// The broker works on the next request, or is not in the mood.
    fn serve(&mut self, is_calm: bool) {
        let at = self.wire.iter().position(|(_, _, answer)| answer.is_none());
        let Some(at) = at else { return };
        let answer = match self.random.below(30) {
            0 if !is_calm => Answer::Busy,
            1 if !is_calm && self.refuses => Answer::Refused,
            _ => {
                let bytes = self.wire[at].1.clone();
                self.work_on(&bytes)
            }
        };
        self.wire[at].2 = Some(answer);
    }

    fn serve_ghost(&mut self) {
        if let Some(bytes) = self.ghosts.pop_front() {
            self.trace += "ghost ";
            self.work_on(&bytes);
        }
    }

    /// An answer arrives.
    fn answer(&mut self) {
        if !self.wire.front().is_some_and(|(_, _, answer)| answer.is_some()) {
            return;
        }
        let (batch, _, answer) = self.wire.pop_front().unwrap();
        let error = || Error::new(ErrorKind::Broker, "the model says so");
        self.trace += &format!("-> {answer:?}; ");
        let pause = None;
        let verdict = match answer.unwrap() {
            Answer::Written(offset) => {
                Verdict::Written { base_offset: Some(offset), log_append_time_ms: None }
            }
            Answer::OutOfOrder => Verdict::OutOfOrder { error: error(), pause, is_certain: false },
            Answer::Busy => Verdict::Retry { error: error(), pause, may_be_written: false },
            Answer::Refused if self.one_in(2) => Verdict::TooLarge(error()),
            Answer::Refused | Answer::StaleEpoch => Verdict::Failed(Outcome::Failed(error())),
        };
        self.conclude(batch, verdict);
    }

    fn conclude(&self, batch: Batch, verdict: Verdict) {
        self.partition.lock().conclude(batch, verdict, self.now, u32::MAX);
    }

    /// The connection breaks. What the broker has not read yet, it may read later, or never.
    fn break_connection(&mut self) {
        self.trace += "break; ";
        // One connection's requests are worked on in order; what an older one left is gone by now.
        while let Some((batch, bytes, answer)) = self.wire.pop_front() {
            if answer.is_none() && self.ghosts.len() < MAX_IN_FLIGHT {
                self.ghosts.push_back(bytes);
            }
            let error = Error::new(ErrorKind::Disconnected, "the model's connection broke");
            let verdict = Verdict::Retry { error, pause: None, may_be_written: true };
            self.conclude(batch, verdict);
        }
        if self.one_in(3) {
            self.ghosts.clear();
        }
    }

    fn expire(&mut self) {
        let error = |_: Option<&Error>| Error::new(ErrorKind::TimedOut, "late");
        self.partition.lock().expire(self.now, error);
    }

    /// Checks the log against what the deliveries say. Returns how many records were not delivered.
    fn check(mut self) -> usize {
        assert!(self.partition.lock().is_empty());
        assert_eq!(self.outstanding.count(), 0);
        assert_eq!(self.memory.taken(), 0);
        let log = &self.broker.log;
        let is_in_order = log.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(is_in_order, "twice or out of order: {log:?}: {}", self.trace);
        let mut failed = 0;
        for (value, delivery) in std::mem::take(&mut self.deliveries) {
            let mut delivery = std::pin::pin!(delivery);
            match delivery.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => panic!("{value} has no outcome"),
                Poll::Ready(Err(_)) => failed += 1,
                Poll::Ready(Ok(delivery)) => {
                    let offset = usize::try_from(delivery.offset.unwrap()).unwrap();
                    assert_eq!(log.get(offset), Some(&value), "not there: {log:?}: {}", self.trace);
                }
            }
        }
        failed
    }
}

fn walk(seed: u64, has_expiry: bool, has_ghosts: bool) -> usize {
    let mut world = World::new(seed, !has_ghosts);
    let timeout = Duration::from_millis(if has_expiry { 40 } else { 1_000_000 });
    for _ in 0..300 {
        world.now += Duration::from_millis(1);
        match world.random.below(20) {
            0..=4 => world.produce(timeout),
            5..=8 => world.send(),
            9..=12 => world.serve(false),
            13..=16 => world.answer(),
            17 if world.one_in(4) => world.break_connection(),
            18 if has_ghosts => world.serve_ghost(),
            _ if has_expiry => world.expire(),
            _ => {}
        }
        if !has_ghosts {
            world.ghosts.clear();
        }
    }
    // Faults end; everything comes to its end.
    for _ in 0..2_000 {
        world.serve_ghost();
        world.send();
        world.serve(true);
        world.answer();
    }
    world.check()
}

#[test]
fn what_is_delivered_stands_once_and_in_order_whatever_becomes_of_requests() {
    let failed: usize = (0..400).map(|seed| walk(seed, false, false)).sum();
    assert!(failed > 0, "the broker refused nothing");
}

#[test]
fn records_given_up_leave_no_gap_that_stops_the_others() {
    let failed: usize = (0..400).map(|seed| walk(seed, true, false)).sum();
    assert!(failed > 0, "nothing was late");
}

#[test]
fn requests_of_broken_connections_that_the_broker_reads_late_do_no_harm() {
    for seed in 0..400 {
        walk(seed, false, true);
    }
}
