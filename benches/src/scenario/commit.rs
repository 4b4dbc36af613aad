//! Offset commits, each waited for: what one takes, next to a heartbeat and an fdatasync of the same turn, and what it costs.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use kavka_protocol::{
    ByteString,
    messages::{
        OffsetCommitRequest, OffsetFetchRequest,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch_request::{
            OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
        },
    },
};

use super::{Broker, Case, Measurement, Scenario, ping, unique_name};
use crate::{
    admin::{self, Topic},
    connection::{Connection, check},
    group::Membership,
    probe,
};

/// Options of the scenario.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "commit")]
pub(crate) struct Options {
    /// Seconds of each case of commit
    #[arg(long, default_value_t = 2.0, value_name = "S")]
    commit_seconds: f64,
    /// Connections, one case each; each commits for a group of its own
    #[arg(long, value_delimiter = ',', default_value = "1,16", value_name = "N")]
    commit_connections: Vec<usize>,
    /// Commits under way on a connection, one case each: so many are sent at once, then all answers are waited for
    #[arg(long, value_delimiter = ',', default_value = "1", value_name = "N")]
    commit_in_flight: Vec<usize>,
    /// Partitions in a commit, one case each
    #[arg(long, value_delimiter = ',', default_value = "1,50", value_name = "N")]
    commit_partitions: Vec<i32>,
    /// Who commits, one case each: simple (no group member), member (of a classic group)
    #[arg(long, value_delimiter = ',', default_value = "simple,member")]
    commit_as: Vec<Committer>,
    /// A folder on the disk of the brokers, to compare with an append and fdatasync there
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, clap::ValueEnum)]
enum Committer {
    Simple,
    Member,
}

/// The scenario.
#[derive(Debug)]
pub(crate) struct Commit {
    options: Options,
}

impl Commit {
    pub(crate) fn new(options: &Options) -> Self {
        Commit { options: options.clone() }
    }
}

impl Scenario for Commit {
    fn name(&self) -> &'static str {
        "commit"
    }

    fn measure(&mut self, broker: &Broker) -> anyhow::Result<Vec<Measurement>> {
        let mut measurements = Vec::new();
        let options = &self.options;
        let duration = Duration::from_secs_f64(options.commit_seconds);
        let partitions = options.commit_partitions.iter().copied().max().unwrap_or(1);
        let mut admin = broker.connect()?;
        let topic = admin::create_topic(&mut admin, &unique_name("commit"), partitions)?;

        let sync_us = match &options.data_dir {
            Some(folder) => {
                let mut latencies = probe::append_and_sync(folder, duration)?;
                let mut case = Case::new("append+fdatasync", &mut measurements);
                let p50 = latencies.quantile_us(0.5);
                case.add("p50", "us", p50);
                case.add("p99", "us", latencies.quantile_us(0.99));
                Some(p50)
            }
            None => None,
        };
        for &count in &options.commit_connections {
            let (_, mut latencies) = ping::heartbeats(broker, &topic, count, duration)?;
            let ping_us = latencies.quantile_us(0.5);
            for &partitions in &options.commit_partitions {
                for &committer in &options.commit_as {
                    for &in_flight in &options.commit_in_flight {
                        let mut committers = Vec::new();
                        for connection in broker.connect_times(count)? {
                            committers.push(Session::begin(connection, committer, &topic)?);
                        }
                        let (window, mut latencies, committers) =
                            ping::run(broker, committers, duration, |session| {
                                session.commit_times(in_flight, &topic, partitions)
                            })?;
                        for session in committers {
                            session.end(&topic, partitions)?;
                        }

                        let who = match committer {
                            Committer::Simple => "simple",
                            Committer::Member => "member",
                        };
                        let mut name = format!("{who} x{count}, {partitions} part.");
                        if in_flight > 1 {
                            name += &format!(", {in_flight} at once");
                        }
                        let commits = (latencies.count() * in_flight) as f64;
                        let mut case = Case::new(name, &mut measurements);
                        let p50 = latencies.quantile_us(0.5);
                        case.add("p50", "us", p50);
                        case.add("p99", "us", latencies.quantile_us(0.99));
                        case.add_cpu("broker cpu per commit", &window, commits);
                        case.add("rate", "1/s", commits / window.wall.as_secs_f64());
                        case.add_own_cpu(&window);
                        if in_flight == 1 {
                            case.add("p50 over Heartbeat", "x", p50 / ping_us);
                            if let Some(sync_us) = sync_us {
                                case.add("p50 over fdatasync", "x", p50 / sync_us);
                            }
                        }
                    }
                }
            }
        }
        admin::delete_topic(&mut admin, &topic)?;
        Ok(measurements)
    }
}

/// A connection that commits for a group of its own.
#[derive(Debug)]
pub(crate) struct Session {
    connection: Connection,
    membership: Membership,
    committed: i64,
}

impl Session {
    fn begin(
        mut connection: Connection,
        committer: Committer,
        topic: &Topic,
    ) -> anyhow::Result<Session> {
        let group = unique_name("commit");
        let membership = match committer {
            Committer::Simple => Membership::simple(&mut connection, &group)?,
            Committer::Member => Membership::join(&mut connection, &group, topic)?,
        };
        Ok(Session::of(connection, membership))
    }

    /// Commits as `membership` says.
    pub(crate) fn of(connection: Connection, membership: Membership) -> Session {
        Session { connection, membership, committed: 0 }
    }

    /// The offset of the last commit.
    pub(crate) fn committed(&self) -> i64 {
        self.committed
    }

    /// Commits the next offset for the first partitions of a topic.
    pub(crate) fn commit(&mut self, topic: &Topic, partitions: i32) -> anyhow::Result<()> {
        self.commit_times(1, topic, partitions)
    }

    /// Commits the next `times` offsets, all of them under way at once.
    fn commit_times(&mut self, times: usize, topic: &Topic, partitions: i32) -> anyhow::Result<()> {
        let first = self.committed + 1;
        let requests: Vec<_> =
            (first..).take(times).map(|offset| self.request(offset, topic, partitions)).collect();
        self.connection.send_all(requests)?;
        for _ in 0..times {
            let response = self.connection.receive::<OffsetCommitRequest>()?;
            let answered = response.topics.first().context("OffsetCommit answered nothing")?;
            ensure!(
                answered.partitions.len() == partitions as usize,
                "OffsetCommit answered for {} of {partitions} partitions",
                answered.partitions.len()
            );
            for partition in &answered.partitions {
                check(partition.error_code, "OffsetCommit")?;
            }
            self.committed += 1;
        }
        Ok(())
    }

    fn request(&self, offset: i64, topic: &Topic, partitions: i32) -> OffsetCommitRequest {
        OffsetCommitRequest {
            group_id: self.membership.group.clone(),
            generation_id_or_member_epoch: self.membership.generation,
            member_id: self.membership.member.clone(),
            topics: vec![OffsetCommitRequestTopic {
                name: topic.name.clone(),
                topic_id: topic.id,
                partitions: (0..partitions)
                    .map(|partition_index| OffsetCommitRequestPartition {
                        partition_index,
                        committed_offset: offset,
                        committed_metadata: Some(ByteString::new()),
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    /// Asks for the last commit back, and leaves.
    fn end(mut self, topic: &Topic, partitions: i32) -> anyhow::Result<()> {
        let committed =
            committed_offsets(&mut self.connection, &self.membership.group, topic, partitions)?;
        for offset in committed {
            ensure!(
                offset == self.committed,
                "offset {} was committed, the broker has {offset}",
                self.committed
            );
        }
        self.membership.leave(&mut self.connection)
    }
}

/// What a group has committed for the first partitions of a topic.
pub(crate) fn committed_offsets(
    connection: &mut Connection,
    group: &ByteString,
    topic: &Topic,
    partitions: i32,
) -> anyhow::Result<Vec<i64>> {
    let partition_indexes: Vec<i32> = (0..partitions).collect();
    let mut request = OffsetFetchRequest::default();
    if connection.version_of::<OffsetFetchRequest>()? < 8 {
        request.group_id = group.clone();
        request.topics = Some(vec![OffsetFetchRequestTopic {
            name: topic.name.clone(),
            partition_indexes,
            ..Default::default()
        }]);
        let response = connection.call(&request)?;
        check(response.error_code, "OffsetFetch")?;
        let answered = response.topics.first().context("OffsetFetch answered nothing")?;
        answered
            .partitions
            .iter()
            .map(|p| check(p.error_code, "OffsetFetch").map(|()| p.committed_offset))
            .collect()
    } else {
        request.groups = vec![OffsetFetchRequestGroup {
            group_id: group.clone(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: topic.name.clone(),
                topic_id: topic.id,
                partition_indexes,
                ..Default::default()
            }]),
            ..Default::default()
        }];
        let response = connection.call(&request)?;
        let answered = response.groups.first().context("OffsetFetch answered nothing")?;
        check(answered.error_code, "OffsetFetch")?;
        let answered = answered.topics.first().context("OffsetFetch answered no topic")?;
        answered
            .partitions
            .iter()
            .map(|p| check(p.error_code, "OffsetFetch").map(|()| p.committed_offset))
            .collect()
    }
}
