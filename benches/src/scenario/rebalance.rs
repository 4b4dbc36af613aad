//! A rebalance of a classic group: how long from the last JoinGroup to the last answered SyncGroup, by the number of members.
//!
//! Each member has a connection of its own, and all are driven by one thread, which answers for every member at once and in
//! turn: what it takes itself is part of the time, and told beside it.

use std::{
    net::{IpAddr, Ipv4Addr},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use kavka_protocol::{
    ByteString, ErrorCode,
    messages::{
        JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
        leave_group_request::MemberIdentity, sync_group_request::SyncGroupRequestAssignment,
    },
};

use super::{Broker, Case, Measurement, Scenario, unique_name};
use crate::{
    admin::{self, Topic},
    connection::{Connection, check},
    group::{Membership, assignment, join_request, sync_request},
    load::Times,
    process,
};

/// Until the joins of all members but the last one have been worked on.
const SETTLE: Duration = Duration::from_millis(300);
/// File descriptors beside those of the members.
const SPARE_FILES: u64 = 200;
/// Loopback addresses the members come from, so that no limit per address is met.
const SOURCES: usize = 100;

/// Options of the scenario.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "rebalance")]
pub(crate) struct Options {
    /// Members of the group, one case each
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000,5000", value_name = "N")]
    rebalance_members: Vec<usize>,
    /// Rebalances in a turn, of which the middle one is told
    #[arg(long, default_value_t = 3, value_name = "N")]
    rebalances: usize,
}

/// The scenario.
#[derive(Debug)]
pub(crate) struct Rebalance {
    options: Options,
}

impl Rebalance {
    pub(crate) fn new(options: &Options) -> Self {
        Rebalance { options: options.clone() }
    }
}

impl Scenario for Rebalance {
    fn name(&self) -> &'static str {
        "rebalance"
    }

    fn measure(&mut self, broker: &Broker) -> anyhow::Result<Vec<Measurement>> {
        let mut measurements = Vec::new();
        let mut admin = broker.connect()?;
        let topic = admin::create_topic(&mut admin, &unique_name("rebalance"), 1)?;
        for &count in &self.options.rebalance_members {
            ensure!(count >= 2, "a rebalance needs two members");
            let mut group = Group::form(broker, &topic, count)?;
            let before = Times::read(&broker.target)?;
            let mut times = Vec::new();
            for _ in 0..self.options.rebalances {
                times.push(group.rebalance()?);
            }
            let window = before.until(&Times::read(&broker.target)?);
            group.leave()?;
            times.sort();
            let middle = times.get(times.len() / 2).context("there was no rebalance")?;

            let joined = (count * times.len()) as f64;
            let mut case = Case::new(format!("{count} members"), &mut measurements);
            case.add("last JoinGroup to last SyncGroup", "ms", middle.as_secs_f64() * 1e3);
            case.add_cpu("broker cpu per member", &window, joined);
            let own = window.own_cpu.as_secs_f64() * 1e6 / joined;
            case.add("load program's cpu per member", "us", own);
        }
        admin::delete_topic(&mut admin, &topic)?;
        Ok(measurements)
    }
}

/// A group in which every member has joined and was assigned something.
struct Group<'a> {
    name: String,
    topic: &'a Topic,
    members: Vec<Member>,
    /// Which of them is the leader.
    leader: usize,
}

struct Member {
    connection: Connection,
    id: ByteString,
}

impl Group<'_> {
    /// Forms a group: the first member alone, then with all others.
    fn form<'a>(broker: &Broker, topic: &'a Topic, count: usize) -> anyhow::Result<Group<'a>> {
        process::raise_open_file_limit(count as u64 + SPARE_FILES)?;
        let name = unique_name("rebalance");
        let mut members = Vec::with_capacity(count);
        for index in 0..count {
            let mut connection = connect(broker, index)?;
            let id = if index == 0 {
                Membership::join(&mut connection, &name, topic)?.member
            } else {
                let invited = connection.call(&join_request(&name, topic)?)?;
                ensure!(
                    invited.error_code == ErrorCode::MemberIdRequired,
                    "member {index} was not given an id but {}",
                    invited.error_code
                );
                invited.member_id
            };
            members.push(Member { connection, id });
        }
        let mut group = Group { name, topic, members, leader: 0 };
        // The first member joins last: the others have its rebalance begun.
        let order: Vec<usize> = (1..count).chain([0]).collect();
        group.join(&order)?;
        Ok(group)
    }

    /// Has the leader begin a rebalance, and the others follow.
    fn rebalance(&mut self) -> anyhow::Result<Duration> {
        let leader = self.leader;
        self.send_join(leader)?;
        // A member that joins before the leader has begun is told what it knows already.
        thread::sleep(SETTLE);
        let others: Vec<usize> = (0..self.members.len()).filter(|index| *index != leader).collect();
        self.join(&others)
    }

    /// Joins in this order those who have not joined yet, and syncs all; the time from the last join sent to the last sync answered.
    fn join(&mut self, order: &[usize]) -> anyhow::Result<Duration> {
        let (last, others) = order.split_last().context("there is no member")?;
        for index in others {
            self.send_join(*index)?;
        }
        thread::sleep(SETTLE);
        let started = Instant::now();
        self.send_join(*last)?;
        // The last one's answer comes with the others'.
        let (count, mut generation) = (self.members.len(), None);
        for (index, member) in self.members.iter_mut().enumerate() {
            let joined = member.connection.receive::<JoinGroupRequest>()?;
            check(joined.error_code, "JoinGroup")?;
            let expected = *generation.get_or_insert(joined.generation_id);
            ensure!(joined.generation_id == expected, "members are in different generations");
            let mut request = sync_request(&self.name, joined.generation_id, &member.id);
            if joined.leader == joined.member_id {
                self.leader = index;
                request.assignments = assignments(self.topic, &joined)?;
                ensure!(request.assignments.len() == count, "the leader misses members");
            }
            member.connection.send(&request)?;
        }
        for member in &mut self.members {
            let synced = member.connection.receive::<SyncGroupRequest>()?;
            check(synced.error_code, "SyncGroup")?;
            ensure!(!synced.assignment.is_empty(), "a member was assigned nothing");
        }
        Ok(started.elapsed())
    }

    fn send_join(&mut self, index: usize) -> anyhow::Result<()> {
        let member = &mut self.members[index];
        let mut request = join_request(&self.name, self.topic)?;
        request.member_id = member.id.clone();
        member.connection.send(&request)
    }

    /// One member sends all of them away.
    fn leave(mut self) -> anyhow::Result<()> {
        let members = self
            .members
            .iter()
            .map(|member| MemberIdentity { member_id: member.id.clone(), ..Default::default() });
        let request = LeaveGroupRequest {
            group_id: self.name.as_str().into(),
            members: members.collect(),
            ..Default::default()
        };
        let first = self.members.first_mut().context("there is no member")?;
        let version = first.connection.version_of::<LeaveGroupRequest>()?;
        ensure!(version >= 3, "LeaveGroup version {version} names one member only");
        let response = first.connection.call(&request)?;
        check(response.error_code, "LeaveGroup")?;
        response.members.iter().try_for_each(|left| check(left.error_code, "LeaveGroup"))
    }
}

fn assignments(
    topic: &Topic,
    joined: &JoinGroupResponse,
) -> anyhow::Result<Vec<SyncGroupRequestAssignment>> {
    let blob = assignment(topic, 0..topic.partitions)?;
    let members = joined.members.iter().map(|member| SyncGroupRequestAssignment {
        member_id: member.member_id.clone(),
        assignment: blob.clone(),
        ..Default::default()
    });
    Ok(members.collect())
}

fn connect(broker: &Broker, index: usize) -> anyhow::Result<Connection> {
    let address = broker.target.address;
    let has_sources = matches!(address.ip(), IpAddr::V4(ip) if ip.is_loopback());
    let last = (index % SOURCES) as u8 + 2;
    let source = has_sources.then(|| Ipv4Addr::new(127, 0, 0, last));
    Connection::open(address, source, &broker.versions)
}
