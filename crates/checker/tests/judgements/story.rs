//! Histories by hand: each event is a millisecond after the one before.

use std::collections::{BTreeMap, BTreeSet};

use kavka_checker::{
    Commit, Committed, Event, EventKind, FaultPhase, GroupSettings, GroupState, History, Limits,
    Member, Op, Record, Report, Step, TopicPartition, check,
};

pub(crate) const MS: u64 = 1_000_000;

pub(crate) use EventKind::{Fail, Info, Invoke, Ok};

/// A history that is being told. Process n belongs to client "cn".
#[derive(Default)]
pub(crate) struct Story {
    pub(crate) events: Vec<Event>,
    now: u64,
}

impl Story {
    pub(crate) fn event(&mut self, process: u64, kind: EventKind, op: Op) -> &mut Self {
        self.event_of(process, &format!("c{process}"), kind, op)
    }

    pub(crate) fn event_of(
        &mut self,
        process: u64,
        client: &str,
        kind: EventKind,
        op: Op,
    ) -> &mut Self {
        self.now += MS;
        self.events.push(Event::new(self.now, process, client, kind, op));
        self
    }

    pub(crate) fn wait(&mut self, ms: u64) -> &mut Self {
        self.now += ms * MS;
        self
    }

    /// An operation from its beginning to its end, with nothing in between.
    pub(crate) fn did(&mut self, process: u64, kind: EventKind, op: Op) -> &mut Self {
        self.event(process, Invoke, op.clone()).event(process, kind, op)
    }

    pub(crate) fn note(&mut self, process: u64, op: Op) -> &mut Self {
        self.event(process, Info, op)
    }

    pub(crate) fn judge(&self) -> Report {
        let limits = Limits { min_ok_percent: 0, min_faults: 0, ..Limits::default() };
        check(&History::new(self.events.clone()), &limits).unwrap()
    }

    /// What is found, by name; what is allowed in brackets.
    pub(crate) fn found(&self) -> Vec<String> {
        let report = self.judge();
        let name = |anomaly: &kavka_checker::Anomaly| match anomaly.allowed {
            true => format!("({})", anomaly.kind),
            false => anomaly.kind.to_string(),
        };
        report.anomalies.iter().map(name).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The only anomaly of that name.
    pub(crate) fn message(&self, name: &str) -> String {
        let report = self.judge();
        let mut found = report.anomalies.iter().filter(|anomaly| anomaly.kind.name() == name);
        let anomaly = found.next().unwrap_or_else(|| panic!("no {name}"));
        assert!(found.next().is_none(), "{name} was found more than once");
        assert!(!anomaly.events.is_empty(), "{name} shows no event");
        anomaly.message.clone()
    }
}

/// A row of a table: what it is called, what is told, what is to be found.
pub(crate) type Case<'a> = (&'a str, fn(&mut Story), &'a [&'a str]);

pub(crate) fn run(cases: &[Case<'_>]) {
    for (name, tell, expected) in cases {
        let mut story = Story::default();
        tell(&mut story);
        let expected: BTreeSet<String> = expected.iter().map(|name| (*name).to_owned()).collect();
        let found: BTreeSet<String> = story.found().into_iter().collect();
        assert_eq!(found, expected, "{name}: {:#?}", story.judge().anomalies);
    }
}

pub(crate) fn tp(topic: &str) -> TopicPartition {
    TopicPartition::new(topic, 0)
}

pub(crate) fn tps(topics: &[&str]) -> BTreeSet<TopicPartition> {
    topics.iter().map(|topic| tp(topic)).collect()
}

pub(crate) fn send(topic: &str, value: i64) -> Op {
    Op::Send { partition: tp(topic), value, offset: None }
}

pub(crate) fn sent(topic: &str, value: i64, offset: i64) -> Op {
    Op::Send { partition: tp(topic), value, offset: Some(offset) }
}

/// Of each topic, `(offset, value)`.
pub(crate) fn records(read: &[(&str, &[(i64, i64)])]) -> BTreeMap<TopicPartition, Vec<Record>> {
    let records = |list: &[(i64, i64)]| list.iter().copied().map(Record::from).collect();
    read.iter().map(|(topic, list)| (tp(topic), records(list))).collect()
}

pub(crate) fn poll(read: &[(&str, &[(i64, i64)])]) -> Op {
    Op::Poll { records: records(read), rebalanced: BTreeSet::new(), last: false }
}

pub(crate) fn final_poll(read: &[(&str, &[(i64, i64)])]) -> Op {
    Op::Poll { records: records(read), rebalanced: BTreeSet::new(), last: true }
}

pub(crate) fn txn(steps: impl IntoIterator<Item = Step>) -> Op {
    Op::Txn { steps: steps.into_iter().collect() }
}

pub(crate) fn sends(topic: &str, value: i64, offset: Option<i64>) -> Step {
    Step::Send { partition: tp(topic), value, offset }
}

pub(crate) fn polls(read: &[(&str, &[(i64, i64)])]) -> Step {
    Step::Poll { records: records(read) }
}

pub(crate) fn assign(topics: &[&str]) -> Op {
    Op::Assign { partitions: tps(topics) }
}

pub(crate) fn subscribe(topics: &[&str]) -> Op {
    Op::Subscribe {
        group: "g".into(),
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
    }
}

pub(crate) fn fault(phase: FaultPhase) -> Op {
    Op::Fault { kind: "cut".into(), phase }
}

pub(crate) fn group(settings: GroupSettings) -> Op {
    Op::Group { group: "g".into(), settings }
}

/// Short timeouts: it may take 5 + 10 + 5 s to settle.
pub(crate) fn noted() -> GroupSettings {
    GroupSettings {
        session_timeout_ms: 5_000,
        rebalance_timeout_ms: 10_000,
        removals_noted: true,
        ..GroupSettings::default()
    }
}

pub(crate) fn member(process: u64, generation: i32) -> Member {
    Member { member_id: format!("m{process}"), generation }
}

pub(crate) fn assigned(process: u64, generation: i32, topics: &[&str]) -> Op {
    Op::Assigned { group: "g".into(), member: member(process, generation), partitions: tps(topics) }
}

pub(crate) fn revoked(topics: &[&str]) -> Op {
    Op::Revoked { group: "g".into(), partitions: tps(topics) }
}

pub(crate) fn lost(topics: &[&str]) -> Op {
    Op::Lost { group: "g".into(), partitions: tps(topics) }
}

pub(crate) fn removed(process: u64) -> Op {
    Op::MemberRemoved { group: "g".into(), member_id: format!("m{process}") }
}

pub(crate) fn state(state: GroupState) -> Op {
    Op::GroupState { group: "g".into(), state }
}

pub(crate) fn topic(topic: &str, partitions: u32) -> Op {
    Op::Topic { topic: topic.into(), partitions }
}

/// By no member.
pub(crate) fn commit(topic: &str, offset: i64) -> Op {
    Op::Commit(commit_of(None, topic, offset))
}

pub(crate) fn commit_of(member: Option<Member>, topic: &str, offset: i64) -> Commit {
    let offsets = BTreeMap::from([(tp(topic), Committed::new(offset))]);
    Commit { group: "g".into(), member, offsets, ..Commit::default() }
}

pub(crate) fn fetch(topic: &str, offset: Option<i64>) -> Op {
    let offsets = BTreeMap::from([(tp(topic), offset.map(Committed::new))]);
    Op::FetchOffsets { group: "g".into(), offsets }
}
