//! What a seed decides before anything happens: who is there, what may go wrong, how often.

use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

use kavka_sim::Random;

/// A world, and which kinds of faults it is to go without.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// Decides everything.
    pub seed: u64,
    /// Kinds of faults that are left out.
    pub without: BTreeSet<String>,
}

/// Chances on connections, in a thousand, and how long bytes take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wires {
    pub(crate) latency_ms: (u64, u64),
    /// Connections that are twenty times slower.
    pub(crate) slow: u64,
    /// Directions that hold a few hundred bytes at most.
    pub(crate) tiny_windows: u64,
    /// Connections on which bytes come a few at a time.
    pub(crate) dribbling: u64,
    /// Directions that break within their first bytes.
    pub(crate) resets: u64,
}

/// What goes wrong now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A client and the broker do not reach each other for a while.
    Partition,
    /// A connection breaks, in the middle of a frame mostly.
    Reset,
    /// A connection whose other end is silently gone, or one direction of it.
    HalfOpen,
    /// An end of a connection does not read for a while.
    ReaderStops,
    /// The broker is killed; the disk has what was written.
    BrokerKilled,
    /// The broker and its disk lose their power.
    PowerLoss,
    /// The broker stops and starts again.
    BrokerRestart,
    /// Syncs take seconds.
    SlowSyncs,
}

/// All of them, with their names and how likely each is beside the others.
const FAULTS: &[(Fault, &str, u64)] = &[
    (Fault::Partition, "partition", 4),
    (Fault::Reset, "reset", 6),
    (Fault::HalfOpen, "half-open", 4),
    (Fault::ReaderStops, "reader-stops", 4),
    (Fault::BrokerKilled, "broker-killed", 2),
    (Fault::PowerLoss, "power-loss", 2),
    (Fault::BrokerRestart, "broker-restart", 2),
    (Fault::SlowSyncs, "slow-syncs", 3),
];

/// What a member's application is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Record by record; commits are automatic.
    Stream,
    /// Batch by batch; commits are asked for, not always waited for, and given up halfway.
    Batches,
    /// Many records in hand, acknowledged in any order.
    Acks,
    /// Many handlers, one after the other by key.
    ByKey,
    /// Many handlers, one after the other by partition.
    ByPartition,
}

const MODES: &[Mode] = &[Mode::Stream, Mode::Batches, Mode::Acks, Mode::ByKey, Mode::ByPartition];

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) wires: Wires,
    pub(crate) faults: Vec<(Fault, u64)>,
    /// From one fault to the next, at most.
    pub(crate) fault_gap: Duration,
    /// Members come and go.
    pub(crate) restarts: bool,
    /// Applications that hang for longer than they may.
    pub(crate) hangs: bool,
    /// Futures are dropped before they are ready.
    pub(crate) cancels: bool,
    pub(crate) members: usize,
    pub(crate) producers: usize,
    pub(crate) partitions: i32,
    pub(crate) offsets_partitions: i32,
    pub(crate) modes: Vec<Mode>,
    pub(crate) assignors: &'static [&'static str],
    pub(crate) session: Duration,
    pub(crate) heartbeat: Duration,
    pub(crate) max_poll: Duration,
    pub(crate) initial_delay_ms: u64,
    /// From one record of a producer to its next, at most.
    pub(crate) send_gap: Duration,
    pub(crate) max_value: u64,
}

/// How long things go wrong.
pub(crate) const FAULTY: Duration = Duration::from_secs(120);

impl Plan {
    pub(crate) fn of(case: &Case) -> Self {
        let mut random = Random::of(case.seed, "plan");
        let random = &mut random;
        // Each takes its chance whether or not it is left out, so that the rest of the world stays as it is.
        let is_on =
            |name: &str, random: &mut Random| random.happens(500) && !case.without.contains(name);
        let rate = |on: bool, random: &mut Random, most: u64| {
            let rate = random.between(1, most);
            if on { rate } else { 0 }
        };
        let low = random.between(0, 5);
        let wires = Wires {
            latency_ms: (low, low + random.between(0, 20)),
            slow: rate(is_on("slow", random), random, 50),
            tiny_windows: rate(is_on("tiny-windows", random), random, 400),
            dribbling: rate(is_on("dribbling", random), random, 400),
            resets: rate(is_on("broken-frames", random), random, 300),
        };
        let faults = FAULTS
            .iter()
            .filter_map(|(fault, name, weight)| is_on(name, random).then_some((*fault, *weight)))
            .collect();
        let session = random.between(6, 12);
        let all_modes = random.happens(500);
        let one = *random.pick(MODES);
        Self {
            seed: case.seed,
            wires,
            faults,
            fault_gap: random.millis(1_500, 12_000),
            restarts: is_on("restarts", random),
            hangs: is_on("hangs", random),
            cancels: is_on("cancels", random),
            members: random.between(2, 4) as usize,
            producers: random.between(1, 2) as usize,
            partitions: random.between(1, 5) as i32,
            offsets_partitions: random.between(1, 3) as i32,
            modes: if all_modes { MODES.to_vec() } else { vec![one, Mode::Stream] },
            assignors: *random.pick(&[
                &["range", "cooperative-sticky"] as &[&str],
                &["cooperative-sticky"],
                &["roundrobin"],
                &["sticky"],
            ]),
            session: Duration::from_secs(session),
            heartbeat: random.millis(800, session * 1_000 / 4),
            max_poll: Duration::from_secs(random.between(8, 20)),
            initial_delay_ms: *random.pick(&[0, 0, 500, 3_000]),
            send_gap: random.millis(40, 400),
            max_value: *random.pick(&[20, 200, 3_000]),
        }
    }
}

/// Every name that can be left out.
pub fn kinds() -> Vec<&'static str> {
    let wires = ["slow", "tiny-windows", "dribbling", "broken-frames"];
    let acts = ["restarts", "hangs", "cancels"];
    wires.into_iter().chain(FAULTS.iter().map(|(_, name, _)| *name)).chain(acts).collect()
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seed)?;
        self.without.iter().try_for_each(|kind| write!(f, "~{kind}"))
    }
}

impl FromStr for Case {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, anyhow::Error> {
        let mut parts = text.split('~');
        let seed = parts.next().unwrap_or_default().parse()?;
        let without: BTreeSet<String> = parts.map(str::to_owned).collect();
        for name in &without {
            anyhow::ensure!(
                kinds().contains(&name.as_str()),
                "{name} is none of {}",
                kinds().join(", ")
            );
        }
        Ok(Self { seed, without })
    }
}

impl From<u64> for Case {
    fn from(seed: u64) -> Self {
        Self { seed, without: BTreeSet::new() }
    }
}
