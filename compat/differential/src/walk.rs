//! Random walks: up to six clients, some with an instance id, do to a group what clients do, and what they should not.
//!
//! A walk is made of episodes, each with a group of its own. At the end of an episode all leave, the records of the group are
//! compared, and the group is deleted. Timeouts are so long that nothing happens by itself: what runs out of time is for the scripts.
//!
//! When a leader goes, the brokers may choose different ones, and need different requests from there on: Apache Kafka
//! takes the new leader from a hash table of random ids. Such an episode ends early, and is counted; so is one in which an allowed
//! difference left the brokers in different states.

use bytes::Bytes;
use kavka_protocol::{
    Message,
    messages::{
        ConsumerProtocolAssignment, ConsumerProtocolSubscription, DeleteGroupsRequest,
        DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest,
        LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest,
        OffsetFetchRequest, SyncGroupRequest,
        join_group_request::JoinGroupRequestProtocol,
        leave_group_request::MemberIdentity,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
        offset_fetch_request::{
            OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
        },
        sync_group_request::SyncGroupRequestAssignment,
    },
};
use serde_json::Value;

use crate::{
    offsets_log::OffsetsLog,
    pair::{Pair, Ticket, View},
    random::Random,
    topics::{TOPICS, topic_symbol},
};

/// Steps of an episode, at most.
const EPISODE_STEPS: usize = 60;
/// How often an episode that differs is walked. The same requests give the same answers, unless it was a matter of time.
const ATTEMPTS: usize = 3;
const ACTORS: usize = 6;
/// What `group.max.size` has to be.
const MAX_SIZE: usize = 5;
const SESSION_TIMEOUT_MS: i32 = 1_200_000;
const REBALANCE_TIMEOUT_MS: i32 = 1_500_000;

/// What came out of a walk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Walked {
    pub(crate) steps: usize,
    pub(crate) episodes: usize,
    /// Episodes that ended early, see [`Pair::parted`].
    pub(crate) parted: usize,
    /// Episodes that differed, and did not when they were walked again: a machine that was busy.
    pub(crate) not_again: usize,
}

/// Walks until so many steps were made, or something differs so often that there is no point in going on.
pub(crate) fn walk(
    pair: &mut Pair,
    log: &mut OffsetsLog,
    run: &str,
    seed: u64,
    steps: usize,
    most_differences: usize,
) -> anyhow::Result<Walked> {
    let mut walked = Walked::default();
    while walked.steps < steps && pair.found.len() < most_differences {
        // Each episode has a seed of its own, so that one that fails can be walked alone.
        let episode_seed = seed.wrapping_add(walked.episodes as u64);
        let length = EPISODE_STEPS.min(steps - walked.steps);
        let before = pair.found.len();
        for attempt in 1..=ATTEMPTS {
            pair.found.truncate(before);
            let group = format!("walk-{run}-{episode_seed}-{attempt}");
            let (steps, parted) = walk_episode(pair, log, &group, episode_seed, length)?;
            walked.steps += steps;
            walked.parted += usize::from(parted);
            if pair.found.len() == before {
                walked.not_again += usize::from(attempt > 1);
                break;
            }
        }
        walked.episodes += 1;
    }
    Ok(walked)
}

/// How many steps were made, and whether the brokers had to part.
fn walk_episode(
    pair: &mut Pair,
    log: &mut OffsetsLog,
    group: &str,
    seed: u64,
    length: usize,
) -> anyhow::Result<(usize, bool)> {
    pair.look_at(group);
    let mut episode = Episode::new(pair, group, Random::new(seed));
    episode.run(length)?;
    let (steps, parted) = (episode.steps, episode.parted);
    if !episode.disputed && !parted {
        episode.end()?;
        log.compare(pair, &[group])?;
    }
    pair.forget_answers();
    Ok((steps, parted))
}

/// A client.
#[derive(Clone, Debug, Default)]
struct Actor {
    number: usize,
    /// How often it was started again.
    life: usize,
    instance: Option<String>,
    /// Every id it was given, the last one last.
    ids: Vec<String>,
    generation: i32,
    protocol: Option<String>,
    /// Of the members it has to assign for, if it leads.
    leads: Option<Vec<String>>,
    waits_for: Option<Waiting>,
}

#[derive(Clone, Copy, Debug)]
enum Waiting {
    Join(Ticket),
    Sync(Ticket),
}

impl Actor {
    /// A new one in each life: Kavka takes a client with the same name for the same client, and lets go of ids that it asked for
    /// before (see docs/differences.md), which Apache Kafka does not.
    fn client_id(&self) -> String {
        format!("client-{}.{}", self.number, self.life)
    }

    fn id(&self) -> String {
        self.ids.last().cloned().unwrap_or_default()
    }
}

struct Episode<'a> {
    pair: &'a mut Pair,
    random: Random,
    group: String,
    protocol_type: &'static str,
    actors: Vec<Actor>,
    /// Ids that were handed out and not used yet.
    handed_out: Vec<String>,
    state: String,
    members: usize,
    steps: usize,
    disputed: bool,
    parted: bool,
    found_before: usize,
}

impl<'a> Episode<'a> {
    fn new(pair: &'a mut Pair, group: &str, mut random: Random) -> Episode<'a> {
        let count = 1 + random.below(ACTORS);
        let actors = (1..=count)
            .map(|number| Actor {
                number,
                instance: random.chance(35).then(|| format!("instance-{number}")),
                generation: -1,
                ..Default::default()
            })
            .collect();
        let protocol_type = if random.chance(80) { "consumer" } else { "connect" };
        pair.note(format!("=== group {group}, {count} clients, {protocol_type}"));
        Episode {
            found_before: pair.found.len(),
            pair,
            random,
            group: group.to_owned(),
            protocol_type,
            actors,
            handed_out: Vec::new(),
            state: "Dead".to_owned(),
            members: 0,
            steps: 0,
            disputed: false,
            parted: false,
        }
    }

    fn run(&mut self, steps: usize) -> anyhow::Result<()> {
        while self.steps < steps && !self.disputed && !self.parted {
            self.steps += 1;
            self.step()?;
            self.settle()?;
        }
        Ok(())
    }

    /// Everyone leaves, and the group is deleted: nothing stays parked.
    fn end(&mut self) -> anyhow::Result<()> {
        self.pair.act_as("driver");
        let ids = self.actors.iter().flat_map(|actor| actor.ids.clone());
        // Those that never came in last, see `leave`.
        let (last, mut ids): (Vec<_>, Vec<_>) = ids.partition(|id| self.handed_out.contains(id));
        ids.extend(last);
        for id in ids {
            let group = self.group.clone();
            self.pair.call(2, |names| LeaveGroupRequest {
                group_id: group.as_str().into(),
                member_id: names.of(&id),
                ..Default::default()
            })?;
        }
        self.settle()?;
        let group = self.group.clone();
        self.pair.call(2, |_| DeleteGroupsRequest {
            groups_names: vec![group.as_str().into()],
            ..Default::default()
        })?;
        Ok(())
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        let View { state, members, disputed } = self.pair.settle(&self.group)?;
        (self.state, self.members) = (state, members);
        self.disputed |= disputed || self.pair.found.len() > self.found_before;
        for index in 0..self.actors.len() {
            match self.actors[index].waits_for {
                Some(Waiting::Join(ticket)) => {
                    if let Some(answer) = self.pair.answer(ticket).cloned() {
                        self.actors[index].waits_for = None;
                        self.joined(index, &answer);
                    }
                }
                Some(Waiting::Sync(ticket)) if self.pair.answer(ticket).is_some() => {
                    self.actors[index].waits_for = None;
                }
                _ => {}
            }
        }
        self.parted = self.pair.parted();
        Ok(())
    }

    fn joined(&mut self, index: usize, answer: &Value) {
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        let (id, error) = (text("memberId"), answer["errorCode"].as_i64());
        let actor = &mut self.actors[index];
        if id.starts_with('<') && !actor.ids.contains(&id) {
            actor.ids.push(id.clone());
        }
        if error == Some(79) {
            self.handed_out.push(id);
            return;
        }
        if error != Some(0) {
            return;
        }
        self.handed_out.retain(|handed_out| *handed_out != id);
        actor.generation = answer["generationId"].as_i64().unwrap_or(-1) as i32;
        actor.protocol = answer["protocolName"].as_str().map(str::to_owned);
        let members = answer["members"].as_array().map_or(&[][..], Vec::as_slice);
        let ids =
            members.iter().filter_map(|member| member["memberId"].as_str().map(str::to_owned));
        actor.leads = (!members.is_empty()).then(|| ids.collect());
    }

    fn step(&mut self) -> anyhow::Result<()> {
        let actor = self.random.below(self.actors.len());
        let client_id = self.actors[actor].client_id();
        self.pair.act_as(&client_id);
        let parked = self.actors[actor].waits_for.is_some();
        match self.random.below(100) {
            // What brings the group on, if this client can do it.
            0..=54 if !parked => self.go_on(actor),
            0..=59 if !parked => self.join(actor, false),
            60..=63 if !parked => self.sync(actor, false),
            64..=71 => self.heartbeat(actor),
            72..=75 => self.leave(actor),
            76..=83 => self.commit(actor),
            84..=89 => self.fetch(),
            90..=91 => self.delete_offsets(),
            92 => self.delete_group(),
            93..=95 => self.describe(),
            96..=98 => self.list(),
            99 => self.find(),
            _ => self.heartbeat(actor),
        }
    }

    /// Does what a good client would do now.
    fn go_on(&mut self, actor: usize) -> anyhow::Result<()> {
        match self.state.as_str() {
            "CompletingRebalance" if self.actors[actor].generation >= 0 => self.sync(actor, true),
            "Stable" if !self.actors[actor].ids.is_empty() && self.random.chance(70) => {
                self.commit(actor)
            }
            _ => self.join(actor, true),
        }
    }

    /// An id: its own, mostly; else one that it had, one of another client, none, or one that nobody has.
    fn some_id(&mut self, actor: usize, good: bool) -> String {
        if good || self.random.chance(70) {
            return self.actors[actor].id();
        }
        let other = self.random.below(self.actors.len());
        match self.random.below(4) {
            0 => String::new(),
            1 => "nobody".to_owned(),
            2 => self.actors[other].id(),
            _ => self.actors[actor].ids.first().cloned().unwrap_or_default(),
        }
    }

    /// An instance id: its own, mostly.
    fn some_instance(&mut self, actor: usize, good: bool) -> Option<String> {
        if good || self.random.chance(80) {
            return self.actors[actor].instance.clone();
        }
        let other = self.random.below(self.actors.len());
        match self.random.below(3) {
            0 => None,
            1 => Some("instance-nobody".to_owned()),
            _ => self.actors[other].instance.clone(),
        }
    }

    fn some_generation(&mut self, actor: usize, good: bool) -> i32 {
        let generation = self.actors[actor].generation;
        if good || self.random.chance(75) {
            return generation;
        }
        self.random.pick(&[-1, 0, generation + 1, generation - 1])
    }

    fn join(&mut self, actor: usize, good: bool) -> anyhow::Result<()> {
        // Apache Kafka lets more than that in, refuses those who were there before, and goes on to wait for them.
        if self.members > MAX_SIZE {
            return self.leave(actor);
        }
        let instance = self.some_instance(actor, good);
        let version = if instance.is_some() && self.random.chance(90) {
            self.random.version(5, 9)
        } else {
            self.random.version(0, 9)
        };
        let instance = instance.filter(|_| version >= 5);
        let mut member_id = self.some_id(actor, good);
        // A client that was started again.
        if good && self.random.chance(15) {
            member_id = String::new();
        }
        // What Apache Kafka does otherwise, and docs/differences.md explains: into a full group it does not let a static member back,
        // and waits for one that it refuses; and it goes on to name the first client that used an instance id.
        let full = self.members >= MAX_SIZE;
        let foreign = instance.is_some() && instance != self.actors[actor].instance;
        let returns = instance.is_some() && member_id.is_empty();
        if (full && (returns || self.handed_out.contains(&member_id))) || (foreign && returns) {
            member_id = "nobody".to_owned();
        }
        let own = &mut self.actors[actor];
        if member_id.is_empty() && own.instance.is_none() {
            own.life += 1;
        }
        let mut client_id = own.client_id();
        if !member_id.is_empty() && own.id() != member_id {
            client_id += "-under-another-id";
        }
        self.pair.act_as(&client_id);
        let member_id = member_id;
        // A group that is not there yet: Apache Kafka makes it although it refuses the request (see docs/differences.md).
        let protocol_type = match self.random.below(100) {
            _ if self.state == "Dead" => self.protocol_type,
            0..=1 => "",
            2..=4 => "other",
            _ => self.protocol_type,
        };
        let protocols: Vec<(&str, Bytes)> = if self.random.chance(3) && self.state != "Dead" {
            Vec::new()
        } else {
            // One favourite, so that votes tie seldom: which protocol wins a tie is not specified.
            let names: &[&str] = match self.random.below(20) {
                0 => &["roundrobin"],
                1 => &["range", "cooperative-sticky"],
                2..=5 => &["range", "roundrobin"],
                _ => &["range"],
            };
            let metadata = self.subscription(actor);
            names.iter().map(|name| (*name, metadata.clone())).collect()
        };
        let session_timeout_ms = match self.random.below(60) {
            0 => 1,
            1 => i32::MAX,
            _ => SESSION_TIMEOUT_MS,
        };
        let reason = (version >= 8 && self.random.chance(30)).then_some("because");
        let group = self.group.clone();
        let ticket = self.pair.send(version, |names| JoinGroupRequest {
            group_id: group.as_str().into(),
            session_timeout_ms,
            rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
            member_id: names.of(&member_id),
            group_instance_id: instance.as_deref().map(Into::into),
            protocol_type: protocol_type.into(),
            protocols: protocols
                .iter()
                .map(|(name, metadata)| JoinGroupRequestProtocol {
                    name: (*name).into(),
                    metadata: metadata.clone(),
                    ..Default::default()
                })
                .collect(),
            reason: reason.map(Into::into),
            ..Default::default()
        })?;
        self.actors[actor].waits_for = Some(Waiting::Join(ticket));
        Ok(())
    }

    /// What a consumer says with its protocol; now and then bytes that are no subscription. (Only too few: a count of topics that
    /// the bytes do not hold stops the whole group in Apache Kafka, see docs/differences.md.)
    fn subscription(&mut self, actor: usize) -> Bytes {
        if self.protocol_type != "consumer" || self.random.chance(2) {
            return Bytes::from_static(b"x");
        }
        let version = actor as i16 % 4;
        let topics = if self.random.chance(80) { &TOPICS[..1] } else { &TOPICS[..2] };
        let subscription = ConsumerProtocolSubscription {
            topics: topics.iter().map(|topic| (*topic).into()).collect(),
            ..Default::default()
        };
        let mut bytes = version.to_be_bytes().to_vec();
        bytes.extend_from_slice(&subscription.to_bytes(version).unwrap_or_default());
        Bytes::from(bytes)
    }

    fn sync(&mut self, actor: usize, good: bool) -> anyhow::Result<()> {
        let version = self.random.version(0, 5);
        let member_id = self.some_id(actor, good);
        let instance = self.some_instance(actor, good).filter(|_| version >= 3);
        let generation_id = self.some_generation(actor, good);
        let own = self.actors[actor].protocol.clone();
        let protocol_name = if good {
            own
        } else {
            match self.random.below(8) {
                0 => None,
                1 => Some("other".to_owned()),
                _ => own,
            }
        };
        let protocol_type =
            if !good && self.random.chance(8) { None } else { Some(self.protocol_type) };
        let mut assigned = self.actors[actor].leads.clone().unwrap_or_default();
        if self.random.chance(10) {
            assigned.pop();
        }
        if self.random.chance(5) {
            assigned.push("nobody".to_owned());
        }
        let assignment = ConsumerProtocolAssignment::default().to_bytes(0).unwrap_or_default();
        let group = self.group.clone();
        let ticket = self.pair.send(version, |names| SyncGroupRequest {
            group_id: group.as_str().into(),
            generation_id,
            member_id: names.of(&member_id),
            group_instance_id: instance.as_deref().map(Into::into),
            protocol_type: protocol_type.map(Into::into),
            protocol_name: protocol_name.as_deref().map(Into::into),
            assignments: assigned
                .iter()
                .enumerate()
                .map(|(number, member)| SyncGroupRequestAssignment {
                    member_id: names.of(member),
                    assignment: Bytes::from([&assignment[..], &[number as u8]].concat()),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        })?;
        self.actors[actor].waits_for = Some(Waiting::Sync(ticket));
        Ok(())
    }

    fn heartbeat(&mut self, actor: usize) -> anyhow::Result<()> {
        let version = self.random.version(0, 4);
        let member_id = self.some_id(actor, false);
        let instance = self.some_instance(actor, false).filter(|_| version >= 3);
        let generation_id = self.some_generation(actor, false);
        let group = self.group.clone();
        self.pair.call(version, |names| HeartbeatRequest {
            group_id: group.as_str().into(),
            generation_id,
            member_id: names.of(&member_id),
            group_instance_id: instance.as_deref().map(Into::into),
            ..Default::default()
        })?;
        Ok(())
    }

    fn leave(&mut self, actor: usize) -> anyhow::Result<()> {
        let version = self.random.version(0, 5);
        let count = if version < 3 { 1 } else { self.random.below(4) };
        let mut members = Vec::new();
        for number in 0..count {
            let who = if number == 0 { actor } else { self.random.below(self.actors.len()) };
            let mut id = self.some_id(who, false);
            let instance = self.some_instance(who, false).filter(|_| version >= 3);
            if instance.is_some() && self.random.chance(40) {
                id = String::new();
            }
            // Apache Kafka starts a rebalance when an id leaves that was handed out and not used (see docs/differences.md).
            if self.handed_out.contains(&id) && self.state != "PreparingRebalance" {
                id = "nobody".to_owned();
            }
            members.push((id, instance));
        }
        let group = self.group.clone();
        self.pair.call(version, |names| {
            let mut request =
                LeaveGroupRequest { group_id: group.as_str().into(), ..Default::default() };
            if version < 3 {
                request.member_id = names.of(&members[0].0);
            } else {
                request.members = members
                    .iter()
                    .map(|(id, instance)| MemberIdentity {
                        member_id: names.of(id),
                        group_instance_id: instance.as_deref().map(Into::into),
                        ..Default::default()
                    })
                    .collect();
            }
            request
        })?;
        Ok(())
    }

    /// Some partitions of some topics, now and then of one that is not there.
    fn some_partitions(&mut self) -> Vec<(&'static str, Vec<i32>)> {
        let mut chosen = Vec::new();
        for topic in TOPICS {
            if self.random.chance(60) {
                // Three are there.
                let count = self.random.below(5);
                chosen.push((*topic, (0..count as i32).collect()));
            }
        }
        if self.random.chance(10) {
            chosen.push(("absent-topic", vec![0, 1]));
        }
        chosen
    }

    fn commit(&mut self, actor: usize) -> anyhow::Result<()> {
        let version = self.random.version(2, 10);
        let simple = self.random.chance(15);
        let member_id = if simple { String::new() } else { self.some_id(actor, false) };
        let instance =
            if simple { None } else { self.some_instance(actor, false).filter(|_| version >= 7) };
        let generation = if simple { -1 } else { self.some_generation(actor, false) };
        let chosen = self.some_partitions();
        let retention_time_ms = if version <= 4 && self.random.chance(20) { 3_600_000 } else { -1 };
        let leader_epoch = if version >= 6 && self.random.chance(30) { 0 } else { -1 };
        // A first commit that is refused leaves a group in Apache Kafka that cannot be described (see docs/differences.md).
        let metadata: Option<String> = match self.random.below(12) {
            0 => None,
            _ if self.state == "Dead" => Some("first".to_owned()),
            1 => Some("x".repeat(4097)),
            2 => Some("ä".repeat(4096)),
            _ => Some("note".to_owned()),
        };
        let first_offset = self.random.below(1000) as i64;
        let group = self.group.clone();
        self.pair.call(version, |names| OffsetCommitRequest {
            group_id: group.as_str().into(),
            generation_id_or_member_epoch: generation,
            member_id: names.of(&member_id),
            group_instance_id: instance.as_deref().map(Into::into),
            retention_time_ms,
            topics: chosen
                .iter()
                .map(|(topic, partitions)| OffsetCommitRequestTopic {
                    name: (*topic).into(),
                    topic_id: names.uuid(&topic_symbol(topic)),
                    partitions: partitions
                        .iter()
                        .map(|index| OffsetCommitRequestPartition {
                            partition_index: *index,
                            committed_offset: first_offset + i64::from(*index),
                            committed_leader_epoch: leader_epoch,
                            committed_metadata: if *index == 0 {
                                metadata.as_deref().map(Into::into)
                            } else {
                                Some("".into())
                            },
                            ..Default::default()
                        })
                        .collect(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        })?;
        Ok(())
    }

    fn fetch(&mut self) -> anyhow::Result<()> {
        let version = self.random.version(1, 10);
        let all = version >= 2 && self.random.chance(40);
        let chosen = self.some_partitions();
        let require_stable = version >= 7 && self.random.chance(30);
        let mut groups = vec![self.group.clone()];
        if version >= 8 && self.random.chance(30) {
            groups.push("group-that-is-not-there".to_owned());
        }
        self.pair.call(version, |names| {
            let mut request = OffsetFetchRequest { require_stable, ..Default::default() };
            if version < 8 {
                request.group_id = groups[0].as_str().into();
                let topics = chosen.iter().map(|(topic, partitions)| OffsetFetchRequestTopic {
                    name: (*topic).into(),
                    partition_indexes: partitions.clone(),
                    ..Default::default()
                });
                request.topics = (!all).then(|| topics.collect());
            } else {
                for group in &groups {
                    let topics =
                        chosen.iter().map(|(topic, partitions)| OffsetFetchRequestTopics {
                            name: (*topic).into(),
                            topic_id: names.uuid(&topic_symbol(topic)),
                            partition_indexes: partitions.clone(),
                            ..Default::default()
                        });
                    request.groups.push(OffsetFetchRequestGroup {
                        group_id: group.as_str().into(),
                        topics: (!all).then(|| topics.collect()),
                        ..Default::default()
                    });
                }
            }
            request
        })?;
        Ok(())
    }

    fn delete_offsets(&mut self) -> anyhow::Result<()> {
        let chosen = self.some_partitions();
        let group = self.some_group();
        self.pair.call(0, |_| OffsetDeleteRequest {
            group_id: group.as_str().into(),
            topics: chosen
                .iter()
                .map(|(topic, partitions)| OffsetDeleteRequestTopic {
                    name: (*topic).into(),
                    partitions: partitions
                        .iter()
                        .map(|index| OffsetDeleteRequestPartition { partition_index: *index })
                        .collect(),
                })
                .collect(),
        })?;
        Ok(())
    }

    /// The group, now and then one that is not there, or the empty name.
    fn some_group(&mut self) -> String {
        match self.random.below(12) {
            0 => "group-that-is-not-there".to_owned(),
            1 => String::new(),
            _ => self.group.clone(),
        }
    }

    fn delete_group(&mut self) -> anyhow::Result<()> {
        let (first, second) = (self.some_group(), self.some_group());
        let version = self.random.version(0, 2);
        self.pair.call(version, |_| DeleteGroupsRequest {
            groups_names: if first == second {
                vec![first.as_str().into()]
            } else {
                vec![first.as_str().into(), second.as_str().into()]
            },
            ..Default::default()
        })?;
        Ok(())
    }

    fn describe(&mut self) -> anyhow::Result<()> {
        let (group, version) = (self.some_group(), self.random.version(0, 6));
        let include_authorized_operations = version >= 3 && self.random.chance(50);
        self.pair.call(version, |_| DescribeGroupsRequest {
            groups: vec![group.as_str().into()],
            include_authorized_operations,
            ..Default::default()
        })?;
        Ok(())
    }

    fn list(&mut self) -> anyhow::Result<()> {
        let version = self.random.version(0, 5);
        let states: &[&str] = if version < 4 {
            &[]
        } else {
            self.random.pick(&[
                &[][..],
                &["Stable"],
                &["stable", "EMPTY"],
                &["PreparingRebalance", "CompletingRebalance"],
                &["nonsense"],
                &["Dead"],
            ])
        };
        let types: &[&str] = if version < 5 {
            &[]
        } else {
            self.random.pick(&[
                &[][..],
                &["classic"],
                &["Classic", "consumer"],
                &["consumer"],
                &["nonsense"],
            ])
        };
        self.pair.call(version, |_| ListGroupsRequest {
            states_filter: states.iter().map(|state| (*state).into()).collect(),
            types_filter: types.iter().map(|name| (*name).into()).collect(),
            ..Default::default()
        })?;
        Ok(())
    }

    fn find(&mut self) -> anyhow::Result<()> {
        let (group, version) = (self.some_group(), self.random.version(0, 6));
        let key_type = if version >= 1 && self.random.chance(20) { 7 } else { 0 };
        self.pair.call(version, |_| {
            let mut request = FindCoordinatorRequest { key_type, ..Default::default() };
            if version < 4 {
                request.key = group.as_str().into();
            } else {
                request.coordinator_keys = vec![group.as_str().into(), "other".into()];
            }
            request
        })?;
        Ok(())
    }
}
