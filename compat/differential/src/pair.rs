//! Both brokers: every request goes to both, every pair of answers is compared.
//!
//! Requests that a broker may park (JoinGroup, SyncGroup) make it a question of time what was answered before the next request
//! is sent. [`Pair::settle`] takes time out of it: it goes on once both brokers have answered the same requests and describe the
//! group alike. Only when they do not within [`PATIENCE`], that is a difference.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use bytes::Bytes;
use kavka_protocol::{
    Message, Reader, Request,
    json::Value,
    messages::{DescribeGroupsRequest, MetadataRequest, ResponseHeader},
};
use serde_json::json;

use crate::{
    allowances::{self, Allowance},
    compare::{Difference, differences, sort_unordered},
    side::{Frame, Side},
    symbols::{Names, SIDES, Symbols},
};

/// How long the brokers may disagree before that is a difference. Generous, because a busy machine is no difference.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long an answer that has to come may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);
/// How many of the last steps are told with a difference.
const TOLD_STEPS: usize = 40;
/// In the place of an answer: the broker closed the connection.
const CLOSED: &str = "the connection was closed";

/// In the place of an answer: there is none yet.
pub(crate) const HELD: &str = "held back";
/// In the place of a field, where one broker answered and the other did not.
pub(crate) const WHETHER_ANSWERED: &str = "(whether it is answered)";
/// How long an answer that the other broker does not give, as an allowance says, may still come from it.
const ALLOWED_PATIENCE: Duration = Duration::from_millis(150);

/// How long a request has to be unanswered to count as parked.
const PARKED_AGE: Duration = Duration::from_millis(5);

/// A request that was sent to both.
pub(crate) type Ticket = u64;

/// A difference that no allowance covers.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) difference: Difference,
    /// The steps that led there, the last one last.
    pub(crate) steps: Vec<String>,
}

/// A group as both brokers describe it.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) state: String,
    pub(crate) members: usize,
    /// The brokers do not agree on it.
    pub(crate) disputed: bool,
}

/// The leader, as JoinGroup answers told it last.
#[derive(Debug, PartialEq)]
enum Leader {
    Unknown,
    Agreed(String),
    /// The one before is gone, and each broker took another member in its place: any will do.
    Parted,
}

#[derive(Debug)]
struct Pending {
    subject: String,
    api: String,
    version: i16,
    decode: fn(Bytes, i16) -> anyhow::Result<Value>,
    got: [Option<Value>; 2],
}

/// Both brokers.
#[derive(Debug)]
pub(crate) struct Pair {
    sides: [Side; 2],
    pub(crate) symbols: Symbols,
    client_id: String,
    /// What the names of the groups begin with that are looked at. Others are an earlier run's.
    scope: String,
    next: Ticket,
    pending: BTreeMap<Ticket, Pending>,
    answers: HashMap<Ticket, Value>,
    states: HashMap<String, String>,
    steps: VecDeque<String>,
    leader: Leader,
    /// An allowed difference was seen after which the brokers need different requests.
    parted: bool,
    pub(crate) found: Vec<Found>,
    pub(crate) allowed: BTreeMap<&'static str, usize>,
    pub(crate) compared: usize,
}

impl Pair {
    pub(crate) fn new(apache: SocketAddr, kavka: SocketAddr) -> anyhow::Result<Pair> {
        let mut pair = Pair {
            sides: [Side::new("Apache Kafka", apache), Side::new("Kavka", kavka)],
            symbols: Symbols::default(),
            client_id: "driver".to_owned(),
            scope: String::new(),
            next: 1,
            pending: BTreeMap::new(),
            answers: HashMap::new(),
            states: HashMap::new(),
            steps: VecDeque::new(),
            leader: Leader::Unknown,
            parted: false,
            found: Vec::new(),
            allowed: BTreeMap::new(),
            compared: 0,
        };
        let request = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
        let [apache, kavka] = pair.ask(4, |_| request.clone())?;
        let id = |metadata: &Value| metadata["clusterId"].as_str().unwrap_or_default().to_owned();
        pair.symbols.define("<cluster id>", [&id(&apache), &id(&kavka)]);
        Ok(pair)
    }

    /// Who sends from now on.
    pub(crate) fn act_as(&mut self, client_id: &str) {
        client_id.clone_into(&mut self.client_id);
    }

    /// From now on ListGroups is compared for groups whose names begin with this.
    pub(crate) fn look_at(&mut self, scope: &str) {
        scope.clone_into(&mut self.scope);
    }

    /// A remark among the steps.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        if self.steps.len() == TOLD_STEPS {
            self.steps.pop_front();
        }
        self.steps.push_back(text.into());
    }

    /// Sends a request to both. Its answers are compared when they are there; [`Pair::settle`] and [`Pair::call`] see to that.
    pub(crate) fn send<R: Request>(
        &mut self,
        version: i16,
        build: impl Fn(Names<'_>) -> R,
    ) -> anyhow::Result<Ticket> {
        let told = build(Symbols::default().names(0)).to_json(version);
        self.note(format!("#{} {} {} v{version} {told}", self.next, self.client_id, R::API_KEY));
        self.dispatch(version, build)
    }

    fn dispatch<R: Request>(
        &mut self,
        version: i16,
        build: impl Fn(Names<'_>) -> R,
    ) -> anyhow::Result<Ticket> {
        let ticket = self.next;
        self.next += 1;
        let pending = Pending {
            subject: format!("{} v{version}", R::API_KEY),
            api: R::API_KEY.to_string(),
            version,
            decode: decode::<R>,
            got: [None, None],
        };
        self.pending.insert(ticket, pending);
        for side in SIDES {
            let body = build(self.symbols.names(side)).to_bytes(version)?;
            let client_id = self.client_id.as_str().into();
            self.sides[side].send(ticket, &Frame { api: R::API_KEY, version, client_id, body })?;
        }
        Ok(ticket)
    }

    /// Sends a request that is answered at once, and compares the answers. What Apache Kafka answered, with symbols.
    pub(crate) fn call<R: Request>(
        &mut self,
        version: i16,
        build: impl Fn(Names<'_>) -> R,
    ) -> anyhow::Result<Value> {
        let ticket = self.send(version, build)?;
        self.wait_for(ticket)?;
        self.compare_complete()?;
        self.answers.remove(&ticket).context("the answers were compared")
    }

    /// As [`Pair::call`], but compares nothing and replaces nothing: the answers of Apache Kafka and of Kavka.
    pub(crate) fn ask<R: Request>(
        &mut self,
        version: i16,
        build: impl Fn(Names<'_>) -> R,
    ) -> anyhow::Result<[Value; 2]> {
        let ticket = self.dispatch(version, build)?;
        self.wait_for(ticket)?;
        let pending = self.pending.remove(&ticket).context("an answered request is pending")?;
        let [Some(apache), Some(kavka)] = pending.got else { bail!("an answer is missing") };
        Ok([apache, kavka])
    }

    /// Asks one of them only.
    pub(crate) fn ask_one<R: Request>(
        &mut self,
        side: usize,
        version: i16,
        request: &R,
    ) -> anyhow::Result<Value> {
        let ticket = self.next;
        self.next += 1;
        let mut got = [Some(Value::Null), Some(Value::Null)];
        got[side] = None;
        let pending = Pending {
            subject: format!("{} v{version}", R::API_KEY),
            api: R::API_KEY.to_string(),
            version,
            decode: decode::<R>,
            got,
        };
        self.pending.insert(ticket, pending);
        let (body, client_id) = (request.to_bytes(version)?, self.client_id.as_str().into());
        self.sides[side].send(ticket, &Frame { api: R::API_KEY, version, client_id, body })?;
        self.wait_for(ticket)?;
        let pending = self.pending.remove(&ticket).context("an answered request is pending")?;
        let [apache, kavka] = pending.got;
        [apache, kavka][side].clone().context("an answer")
    }

    /// The answer to a request, once both brokers gave it: what Apache Kafka answered, with symbols.
    pub(crate) fn answer(&self, ticket: Ticket) -> Option<&Value> {
        self.answers.get(&ticket)
    }

    /// Waits until both brokers answered the same requests and describe the group alike, and compares what was answered.
    ///
    /// A group that was empty does not stay in PreparingRebalance: it is waited for, too.
    pub(crate) fn settle(&mut self, group: &str) -> anyhow::Result<View> {
        let was_empty =
            self.states.get(group).is_none_or(|state| state == "Empty" || state == "Dead");
        self.settle_when(group, |state| !(was_empty && state == "PreparingRebalance"))
    }

    /// As [`Pair::settle`], and waits until the group's state is as asked for.
    pub(crate) fn settle_when(
        &mut self,
        group: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> anyhow::Result<View> {
        let begun = Instant::now();
        let newest = self.next - 1;
        let mut pause = Duration::from_millis(1);
        loop {
            let described = self.ask(5, |_| DescribeGroupsRequest {
                groups: vec![group.into()],
                ..Default::default()
            })?;
            self.collect();
            self.compare_complete()?;
            let mut described = described;
            for side in SIDES {
                self.normalise("DescribeGroups", side, &mut described[side]);
            }
            let [apache, kavka] = described;
            let group_row = &apache["groups"][0];
            let state = group_row["groupState"].as_str().unwrap_or_default().to_owned();
            let members = group_row["members"].as_array().map_or(0, Vec::len);
            let lone = |pending: &Pending| pending.got[0].is_some() != pending.got[1].is_some();
            let unbalanced = self.pending.values().any(lone);
            let differing =
                differences("the group as described", "DescribeGroups", &apache, &kavka);
            let elapsed = begun.elapsed();
            if unbalanced && elapsed > ALLOWED_PATIENCE && self.lone_part_ways() {
                self.report_unbalanced();
                return Ok(View { state, members, disputed: false });
            }
            // A broker reads from many connections at once, and may describe the group before it comes to the request.
            let young = self.pending.keys().next_back().is_some_and(|ticket| *ticket == newest)
                && elapsed < PARKED_AGE;
            let balanced =
                (!young && !unbalanced) || (elapsed > ALLOWED_PATIENCE && self.lone_are_allowed());
            let agreed = balanced && differing.is_empty() && wanted(&state);
            if agreed || elapsed > PATIENCE {
                if !agreed && differing.is_empty() && balanced {
                    self.note(format!("the group stays in state {state}"));
                }
                self.report(differing);
                self.report_unbalanced();
                self.compared += 1;
                self.states.insert(group.to_owned(), state.clone());
                return Ok(View { state, members, disputed: !agreed });
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Compares what was not an answer: records read back.
    pub(crate) fn compare_values(
        &mut self,
        subject: &str,
        api: &str,
        apache: &Value,
        kavka: &Value,
    ) {
        self.compared += 1;
        self.report(differences(subject, api, apache, kavka));
    }

    /// Counts a difference that is meant, of which it is known what either broker says; anything else is a difference found.
    pub(crate) fn expect_difference(
        &mut self,
        name: &'static str,
        path: &str,
        got: [Value; 2],
        expected: [Value; 2],
    ) {
        self.compared += 1;
        if got == expected {
            *self.allowed.entry(name).or_default() += 1;
            return;
        }
        self.note(format!(
            "expected was {} of Apache Kafka, {} of Kavka",
            expected[0], expected[1]
        ));
        let [apache, kavka] = got.clone();
        let difference = Difference {
            subject: format!("the known difference {name}"),
            api: "known".to_owned(),
            path: path.to_owned(),
            apache,
            kavka,
            answers: Arc::new(got),
        };
        let steps = self.steps.iter().cloned().collect();
        self.found.push(Found { difference, steps });
    }

    /// Forgets answers that nobody will ask for, and requests that are parked for good.
    pub(crate) fn forget_answers(&mut self) {
        self.answers.clear();
        self.states.clear();
        self.steps.clear();
        self.leader = Leader::Unknown;
        self.parted = false;
    }

    /// How many requests both brokers hold back.
    pub(crate) fn parked(&self) -> usize {
        self.pending.len()
    }

    /// Puts symbols in the place of what a broker made up, and one order where there is none.
    pub(crate) fn normalise(&self, api: &str, side: usize, value: &mut Value) {
        let port = self.sides[side].address.port();
        replace_port(value, port);
        self.symbols.canonical(side, value);
        if api == "ListGroups"
            && let Some(groups) = value["groups"].as_array_mut()
        {
            groups.retain(|group| {
                group["groupId"].as_str().is_some_and(|name| name.starts_with(&self.scope))
            });
        }
        sort_unordered(api, value);
    }

    fn wait_for(&mut self, ticket: Ticket) -> anyhow::Result<()> {
        for side in SIDES {
            let deadline = Instant::now() + ANSWER_TIMEOUT;
            while self.pending.get(&ticket).is_some_and(|pending| pending.got[side].is_none()) {
                let left = deadline.saturating_duration_since(Instant::now());
                let Some((request, frame)) = self.sides[side].receive(left) else {
                    let steps: Vec<_> = self.steps.iter().cloned().collect();
                    bail!(
                        "{} did not answer #{ticket} within {ANSWER_TIMEOUT:?}\n{}",
                        self.sides[side].name,
                        steps.join("\n")
                    );
                };
                self.take(side, request, frame)?;
            }
        }
        Ok(())
    }

    fn collect(&mut self) {
        for side in SIDES {
            while let Some((request, frame)) = self.sides[side].receive(Duration::ZERO) {
                if let Err(error) = self.take(side, request, frame) {
                    self.note(format!("{error:#}"));
                }
            }
        }
    }

    fn take(&mut self, side: usize, request: Ticket, frame: Option<Bytes>) -> anyhow::Result<()> {
        let Some(pending) = self.pending.get_mut(&request) else { return Ok(()) };
        let answer = match frame {
            None => json!(CLOSED),
            Some(frame) => (pending.decode)(frame, pending.version).with_context(|| {
                format!(
                    "{} answered {} with bytes that are none",
                    self.sides[side].name, pending.subject
                )
            })?,
        };
        pending.got[side] = Some(answer);
        Ok(())
    }

    /// Compares the requests that both answered, in the order of sending.
    fn compare_complete(&mut self) -> anyhow::Result<()> {
        let complete = |pending: &Pending| pending.got.iter().all(Option::is_some);
        let tickets: Vec<_> = self
            .pending
            .iter()
            .filter(|(_, pending)| complete(pending))
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in tickets {
            let pending = self.pending.remove(&ticket).context("a complete request is pending")?;
            let [Some(mut apache), Some(mut kavka)] = pending.got else { continue };
            self.learn(&pending.api, ticket, &mut apache, &mut kavka);
            self.normalise(&pending.api, 0, &mut apache);
            self.normalise(&pending.api, 1, &mut kavka);
            self.note(format!("   #{ticket} answered {apache}"));
            self.compared += 1;
            let mut differing = differences(&pending.subject, &pending.api, &apache, &kavka);
            if pending.api == "JoinGroup" && self.follow_leader(&apache, &kavka) {
                differing.retain(|found| !matches!(found.path.as_str(), ".leader" | ".members"));
            }
            self.report(differing);
            self.answers.insert(ticket, apache);
        }
        Ok(())
    }

    /// Whether the brokers chose different leaders where Apache Kafka takes any: one that a hash table of random ids brings
    /// first. It does so only when the leader before is gone.
    fn follow_leader(&mut self, apache: &Value, kavka: &Value) -> bool {
        let leaders = [apache, kavka].map(|answer| answer["leader"].as_str().unwrap_or_default());
        if leaders.contains(&"") {
            return false;
        }
        if leaders[0] == leaders[1] {
            self.leader = Leader::Agreed(leaders[0].to_owned());
            return false;
        }
        let any_will_do = match &self.leader {
            Leader::Unknown => false,
            Leader::Agreed(before) => !leaders.contains(&before.as_str()),
            Leader::Parted => true,
        };
        if any_will_do {
            self.leader = Leader::Parted;
        }
        any_will_do
    }

    /// Whether the brokers need different requests from here on: they have different leaders, both rightly, or an allowed
    /// difference left them in different states.
    pub(crate) fn parted(&self) -> bool {
        self.leader == Leader::Parted || self.parted
    }

    /// Finds what the brokers made up in an answer.
    fn learn(&mut self, api: &str, ticket: Ticket, apache: &mut Value, kavka: &mut Value) {
        match api {
            "JoinGroup" => {
                if let (Some(apache), Some(kavka)) =
                    (apache["memberId"].as_str(), kavka["memberId"].as_str())
                {
                    self.symbols.meet(ticket, apache, kavka);
                }
            }
            "InitProducerId" => {
                let both = [&*apache, &*kavka].map(|answer| answer["producerId"].as_i64());
                if let [Some(left @ 0..), Some(right @ 0..)] = both {
                    let symbol = format!("<producer #{ticket}>");
                    self.symbols.define(&symbol, [&left.to_string(), &right.to_string()]);
                    apache["producerId"] = json!(symbol);
                    kavka["producerId"] = json!(symbol);
                }
            }
            _ => {}
        }
    }

    fn report(&mut self, differences: Vec<Difference>) {
        for difference in differences {
            match allowances::find(&difference) {
                Some(Allowance { name, parts_ways, .. }) => {
                    *self.allowed.entry(name).or_default() += 1;
                    self.parted |= parts_ways;
                }
                None => {
                    let steps = self.steps.iter().cloned().collect();
                    self.found.push(Found { difference, steps });
                }
            }
        }
    }

    /// Requests that one broker answered and the other still holds back.
    fn report_unbalanced(&mut self) {
        let lone: Vec<_> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.got[0].is_some() != pending.got[1].is_some())
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in lone {
            let Some(pending) = self.pending.remove(&ticket) else { continue };
            let [mut apache, mut kavka] =
                pending.got.map(|answer| answer.unwrap_or_else(|| json!(HELD)));
            self.normalise(&pending.api, 0, &mut apache);
            self.normalise(&pending.api, 1, &mut kavka);
            let difference = Difference {
                subject: format!("#{ticket} {}", pending.subject),
                api: pending.api,
                path: WHETHER_ANSWERED.to_owned(),
                answers: Arc::new([apache.clone(), kavka.clone()]),
                apache,
                kavka,
            };
            self.report(vec![difference]);
        }
    }

    /// Whether an allowance covers every request that only one of them answered.
    fn lone_are_allowed(&self) -> bool {
        self.lone().all(|difference| allowances::find(&difference).is_some())
    }

    /// Whether one of those allowances leaves the brokers in different states.
    fn lone_part_ways(&self) -> bool {
        self.lone().any(|difference| allowances::find(&difference).is_some_and(|a| a.parts_ways))
    }

    fn lone(&self) -> impl Iterator<Item = Difference> {
        let lone = |pending: &&Pending| pending.got[0].is_some() != pending.got[1].is_some();
        self.pending.values().filter(lone).map(|pending| {
            let [apache, kavka] =
                pending.got.each_ref().map(|answer| answer.clone().unwrap_or_else(|| json!(HELD)));
            Difference {
                subject: pending.subject.clone(),
                api: pending.api.clone(),
                path: WHETHER_ANSWERED.to_owned(),
                answers: Arc::new([apache.clone(), kavka.clone()]),
                apache,
                kavka,
            }
        })
    }
}

fn decode<R: Request>(frame: Bytes, version: i16) -> anyhow::Result<Value> {
    let mut reader = Reader::new(frame);
    ResponseHeader::decode(&mut reader, R::API_KEY.response_header_version(version))?;
    let response = R::Response::decode(&mut reader, version)?;
    Ok(response.to_json(version))
}

fn replace_port(value: &mut Value, port: u16) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == "port" && *value == json!(port) {
                    *value = json!("<port>");
                } else {
                    replace_port(value, port);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| replace_port(value, port)),
        _ => {}
    }
}
