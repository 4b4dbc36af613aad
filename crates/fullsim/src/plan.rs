//! What a seed decides before anything happens: who is there, what may go wrong, how often.

use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

use kavka_sim::{Random, case, named};

/// A seed, and what is left out of its world: `7~half-open~member-1~strike-4@30000`.
pub type Case = case::Case<Part>;

/// What can be left out of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Everything of a kind that goes wrong.
    Kind(Kind),
    /// One of the strikes of a kind that comes now and then.
    Strike(usize),
    /// A place in the group. One stays.
    Member(usize),
    /// A producer.
    Producer(usize),
    /// Who looks at everything.
    Operator,
}

named! {
    /// What goes wrong.
    pub enum Kind {
        /// Connections that are twenty times slower.
        Slow = "slow",
        /// Directions that hold a few hundred bytes at most.
        TinyWindows = "tiny-windows",
        /// Connections on which bytes come a few at a time.
        Dribbling = "dribbling",
        /// Connections that break within their first bytes.
        BrokenFrames = "broken-frames",
        /// A client and the broker do not reach each other for a while.
        Partition = "partition",
        /// A connection breaks, in the middle of a frame mostly.
        Reset = "reset",
        /// A connection whose other end is silently gone, or one direction of it.
        HalfOpen = "half-open",
        /// An end of a connection does not read for a while.
        ReaderStops = "reader-stops",
        /// The broker is killed; the disk has what was written.
        BrokerKilled = "broker-killed",
        /// The broker and its disk lose their power.
        PowerLoss = "power-loss",
        /// The broker stops and starts again.
        BrokerRestart = "broker-restart",
        /// Syncs take seconds.
        SlowSyncs = "slow-syncs",
        /// Clients end in every way, and others come.
        Restarts = "restarts",
        /// Applications hang for longer than they may.
        Hangs = "hangs",
        /// Futures are dropped before they are ready.
        Cancels = "cancels",
    }
}

/// Those that come now and then, and how likely each is beside the others.
const STRIKES: &[(Kind, u64)] = &[
    (Kind::Partition, 4),
    (Kind::Reset, 6),
    (Kind::HalfOpen, 4),
    (Kind::ReaderStops, 4),
    (Kind::BrokerKilled, 2),
    (Kind::PowerLoss, 2),
    (Kind::BrokerRestart, 2),
    (Kind::SlowSyncs, 3),
];

/// One of those.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strike {
    /// After the last one was over.
    pub(crate) gap: Duration,
    pub(crate) kind: Kind,
    /// How long the broker is down, if it is to be.
    pub(crate) down: Duration,
    /// Decides the rest.
    pub(crate) seed: u64,
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

named! {
    /// What a member's application is like.
    pub enum Mode {
        /// Record by record; commits are automatic.
        Stream = "stream",
        /// Batch by batch; commits are asked for, not always waited for, and given up halfway.
        Batches = "batches",
        /// Many records in hand, acknowledged in any order.
        Acks = "acks",
        /// Many handlers, one after the other by key.
        ByKey = "by-key",
        /// Many handlers, one after the other by partition.
        ByPartition = "by-partition",
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    without: BTreeSet<Part>,
    /// What goes wrong in this world, and is not left out.
    kinds: BTreeSet<Kind>,
    /// How long things go wrong.
    pub(crate) faulty: Duration,
    pub(crate) wires: Wires,
    /// Also those that are left out.
    pub(crate) strikes: Vec<Strike>,
    /// Clients come and go.
    pub(crate) restarts: bool,
    pub(crate) hangs: bool,
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
    /// A bug made by hand: a disk that is empty after its power was lost.
    #[cfg(test)]
    pub(crate) disk_forgets: bool,
}

/// How long things go wrong in a whole world.
const FAULTY: Duration = Duration::from_secs(120);

impl Plan {
    pub(crate) fn of(case: &Case) -> Self {
        let mut random = Random::of(case.seed, "plan");
        let random = &mut random;
        // Each takes its chance whether or not it is left out, so that the rest of the world stays as it is.
        let mut kinds = BTreeSet::new();
        let mut is_on = |kind: Kind, random: &mut Random| {
            let is_drawn = random.happens(500);
            let is_on = is_drawn && !case.without.contains(&Part::Kind(kind));
            if is_on {
                kinds.insert(kind);
            }
            (is_drawn, is_on)
        };
        let rate = |(_, is_on): (bool, bool), random: &mut Random, most: u64| {
            let rate = random.between(1, most);
            if is_on { rate } else { 0 }
        };
        let low = random.between(0, 5);
        let wires = Wires {
            latency_ms: (low, low + random.between(0, 20)),
            slow: rate(is_on(Kind::Slow, random), random, 50),
            tiny_windows: rate(is_on(Kind::TinyWindows, random), random, 400),
            dribbling: rate(is_on(Kind::Dribbling, random), random, 400),
            resets: rate(is_on(Kind::BrokenFrames, random), random, 300),
        };
        let drawn: Vec<(Kind, u64)> =
            STRIKES.iter().copied().filter(|(kind, _)| is_on(*kind, random).0).collect();
        let session = random.between(6, 12);
        let all_modes = random.happens(500);
        let one = *random.pick(Mode::ALL);
        let strikes = strikes(case.seed, &drawn, random.between(1_500, 12_000));
        let restarts = is_on(Kind::Restarts, random).1;
        let hangs = is_on(Kind::Hangs, random).1;
        let cancels = is_on(Kind::Cancels, random).1;
        Self {
            seed: case.seed,
            without: case.without.clone(),
            kinds,
            faulty: case.faults_end_at.map_or(FAULTY, Duration::from_millis),
            wires,
            strikes,
            restarts,
            hangs,
            cancels,
            members: random.between(2, 4) as usize,
            producers: random.between(1, 2) as usize,
            partitions: random.between(1, 5) as i32,
            offsets_partitions: random.between(1, 3) as i32,
            modes: if all_modes { Mode::ALL.to_vec() } else { vec![one, Mode::Stream] },
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
            #[cfg(test)]
            disk_forgets: false,
        }
    }

    /// Whether this is in the world.
    pub(crate) fn has(&self, part: Part) -> bool {
        let is_there = match part {
            Part::Kind(kind) => self.kinds.contains(&kind),
            Part::Strike(number) => {
                self.strikes.get(number).is_some_and(|strike| self.kinds.contains(&strike.kind))
            }
            Part::Member(slot) => slot < self.members,
            Part::Producer(slot) => slot < self.producers,
            Part::Operator => true,
        };
        is_there && !self.without.contains(&part)
    }
}

/// What strikes within the time of a whole world; no two are more than `gap_ms` apart.
fn strikes(seed: u64, kinds: &[(Kind, u64)], gap_ms: u64) -> Vec<Strike> {
    let mut random = Random::of(seed, "nemesis");
    let total: u64 = kinds.iter().map(|(_, weight)| weight).sum();
    let mut strikes = Vec::new();
    let mut at = Duration::ZERO;
    while total > 0 && at < FAULTY {
        let gap = random.millis(gap_ms / 4, gap_ms);
        let mut left = random.below(total);
        let kind = kinds.iter().find(|(_, weight)| {
            let is_it = left < *weight;
            left = left.saturating_sub(*weight);
            is_it
        });
        let Some((kind, _)) = kind else { unreachable!("a weight below their sum is of one") };
        let (down, seed) = (random.millis(1, 6_000), random.draw());
        strikes.push(Strike { gap, kind: *kind, down, seed });
        at += gap;
    }
    strikes
}

impl case::Part for Part {
    fn all_in(case: &Case) -> Vec<Self> {
        let plan = Plan::of(case);
        let kinds = Kind::ALL.iter().copied().map(Part::Kind);
        let producers = (0..plan.producers).map(Part::Producer);
        let strikes = (0..plan.strikes.len()).map(Part::Strike);
        let members: Vec<Self> =
            (0..plan.members).map(Part::Member).filter(|part| plan.has(*part)).collect();
        let others = if members.len() > 1 { members } else { Vec::new() };
        let rest = [Part::Operator].into_iter().chain(producers).chain(strikes);
        let rest = kinds.chain(rest).filter(|part| plan.has(*part));
        rest.chain(others).collect()
    }

    fn faults_end_at(case: &Case) -> u64 {
        Plan::of(case).faulty.as_millis() as u64
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Kind(kind) => kind.fmt(f),
            Part::Strike(number) => write!(f, "strike-{number}"),
            Part::Member(slot) => write!(f, "member-{slot}"),
            Part::Producer(slot) => write!(f, "producer-{slot}"),
            Part::Operator => f.write_str("operator"),
        }
    }
}

impl FromStr for Part {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, anyhow::Error> {
        Ok(match text.rsplit_once('-') {
            Some(("strike", number)) => Part::Strike(number.parse()?),
            Some(("member", slot)) => Part::Member(slot.parse()?),
            Some(("producer", slot)) => Part::Producer(slot.parse()?),
            _ if text == "operator" => Part::Operator,
            _ => Part::Kind(text.parse()?),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kavka_sim::case::Part as _;

    use super::*;

    #[test]
    fn a_case_is_one_word() {
        for text in ["7", "7~half-open~strike-4~member-1~producer-0~operator@30000"] {
            assert_eq!(text.parse::<Case>().unwrap().to_string(), text);
        }
        assert!("7~nonsense".parse::<Case>().is_err() && "7~member-x".parse::<Case>().is_err());
    }

    #[test]
    fn what_is_left_out_changes_nothing_else_of_the_plan() {
        for seed in 0..50 {
            let whole = Plan::of(&Case::new(seed));
            let parts = Part::all_in(&Case::new(seed));
            for part in &parts {
                let case = Case { without: [*part].into(), ..Case::new(seed) };
                let less = Plan::of(&case);
                assert!(whole.has(*part) && !less.has(*part), "{part}");
                assert_eq!(less.strikes.len(), whole.strikes.len());
                assert_eq!((whole.session, whole.members), (less.session, less.members));
            }
            let all = Case { without: parts.into_iter().collect(), ..Case::new(seed) };
            let plan = Plan::of(&all);
            assert!(plan.kinds.is_empty() && !plan.restarts && plan.wires.resets == 0);
        }
    }

    #[test]
    fn one_member_stays() {
        let mut case = Case::new(0);
        loop {
            let parts = Part::all_in(&case);
            let Some(member) = parts.iter().find(|part| matches!(part, Part::Member(_))) else {
                break;
            };
            case.without.insert(*member);
        }
        let plan = Plan::of(&case);
        let members = (0..plan.members).filter(|slot| plan.has(Part::Member(*slot)));
        assert_eq!(members.count(), 1);
    }
}
