//! What has to come about when nothing goes wrong any more, within bounded time.

use std::collections::{BTreeMap, BTreeSet};

use kavka_checker::{FaultPhase, Op};
use kavka_coordinator::group::{
    GroupState, HardView,
    invariants::{ServedGroup, served},
};
use kavka_member::{Input, State, TopicPartition};
use kavka_protocol::ByteString;

use crate::{
    foreign::Does,
    plan::Fault,
    world::{Client, Event, Kind, World},
};

impl World {
    /// The end of a world: faults stop, everyone gets together, one thing more happens, everyone falls silent.
    pub(crate) fn check_liveness(&mut self) {
        self.heal();
        self.run_for(self.settling_time() / 3);
        self.shake_outdated_groups();
        self.run_for(self.settling_time());
        self.check_settled("L2, L3: after the faults");
        self.record_healed();
        let what = self.random.below(4);
        match what {
            0 => self.restart_unnoticed(),
            1 | 2 => self.lose_a_member(what == 2),
            _ => self.welcome_who_forgets(),
        }
        self.fall_silent();
    }

    fn run_for(&mut self, ms: u64) {
        self.run_until(self.now + ms);
    }

    fn heal(&mut self) {
        self.note(|_| "== the faults stop".into());
        self.healed = true;
        self.parted.clear();
        for node in 0..self.nodes.len() {
            if !self.nodes[node].is_up {
                self.schedule(1, Event::NodeUp { node });
            }
        }
        self.configure(|config| {
            config.max_size = 100;
            config.max_batch_bytes = 1_000_000;
        });
        for shard in 0..self.shards.len() {
            if !self.shards[shard].transactions.is_empty() {
                self.move_shard(shard, None);
            }
        }
        for topic in 0..self.plan.topics {
            self.topic_returns(crate::world::topic_name(topic));
        }
        self.tell_all_of_topics();
        for client in self.alive.clone() {
            match &mut self.clients[client].kind {
                Kind::Ours(process) => {
                    process.hangs_until = 0;
                    let paused: BTreeSet<TopicPartition> =
                        process.told.partitions().cloned().collect();
                    self.tell(client, Input::Resume(paused));
                }
                Kind::Foreign(foreign) => {
                    let garbage = matches!(foreign.quirk, Fault::Garbage | Fault::OtherKind);
                    if garbage || self.random.below(2) == 0 {
                        self.bury(client);
                    }
                }
                Kind::Operator => {}
            }
        }
        for group in 0..self.plan.groups.len() {
            self.plan.groups[group].foreign.clear();
        }
        for _ in 0..4 {
            self.replace_missing();
        }
    }

    /// Some things stay as they are until the next rebalance. A static member that comes back and wants other topics gets what it had
    /// (KIP-345). A static leader of another make that comes back by a JoinGroup before version 9 takes itself for a follower, and
    /// nobody watches the topics (before KIP-814). A leader of another make does not see that what it withheld for its owner stays with
    /// nobody, because that has nothing to let go of. Here is a rebalance for such groups.
    fn shake_outdated_groups(&mut self) {
        for group in 0..self.groups.len() {
            let ours = |client: &&usize| {
                let found = &self.clients[**client];
                found.group == group && matches!(found.kind, Kind::Ours(_))
            };
            let Some(client) = self.alive.iter().find(ours).copied() else { continue };
            let is_cooperative = self.plan.groups[group].cooperative;
            let is_foreign_to_watch = |client: &usize| match &self.clients[*client] {
                Client { group: of, kind: Kind::Foreign(foreign), .. } => {
                    *of == group
                        && (foreign.instance.is_some() || (is_cooperative && foreign.leads()))
                }
                _ => false,
            };
            if self.groups[group].is_outdated || self.alive.iter().any(is_foreign_to_watch) {
                self.close_and_leave(client);
            }
        }
        self.run_for(self.plan.session * 2);
        for _ in 0..4 {
            self.replace_missing();
        }
    }

    /// How long it may take: an application hangs, a session ends, a first join is given up, and two rebalances.
    fn settling_time(&self) -> u64 {
        let plan = &self.plan;
        let first_join =
            u64::try_from(plan.config.new_member_join_timeout.as_millis()).unwrap_or(0);
        first_join + plan.session * 5 + plan.rebalance * 4 + plan.request_timeout * 4
    }

    fn served(&self, group: usize) -> Option<ServedGroup> {
        let found = &self.groups[group];
        let host = self.shards[found.shard].serving();
        assert!(host.is_some(), "L7: shard {} has no coordinator", found.shard);
        host.and_then(|host| served(&host.machine).find(|served| served.group == found.id))
    }

    /// L2, L3, L6, L9.
    fn check_settled(&mut self, when: &str) {
        for group in 0..self.groups.len() {
            let of_group = |client: &&usize| self.clients[**client].group == group;
            let clients: Vec<usize> = self.alive.iter().filter(of_group).copied().collect();
            let id = self.groups[group].id.clone();
            let Some(served) = self.served(group) else {
                assert!(clients.is_empty(), "{when}: group {id} is not there");
                continue;
            };
            let state = if clients.is_empty() { GroupState::Empty } else { GroupState::Stable };
            assert_eq!(
                served.state, state,
                "{when}: group {id} of clients {clients:?}: {served:?}"
            );
            let mut owned: BTreeMap<TopicPartition, usize> = BTreeMap::new();
            let mut wanted: BTreeSet<ByteString> = BTreeSet::new();
            let mut members: BTreeSet<ByteString> = BTreeSet::new();
            for client in &clients {
                let (generation, member_id, partitions): (_, _, Vec<TopicPartition>) = match &self
                    .clients[*client]
                    .kind
                {
                    Kind::Ours(process) => {
                        let state = process.member.state();
                        assert_eq!(state, State::Stable, "{when}: client {client}");
                        wanted.extend(process.member.subscription().into_iter().flatten().cloned());
                        (
                            process.member.generation(),
                            process.member.member_id(),
                            process.told.partitions().cloned().collect(),
                        )
                    }
                    Kind::Foreign(foreign) => {
                        assert_eq!(foreign.does, Does::Reads, "{when}: client {client}");
                        if !foreign.is_silent {
                            wanted.extend(self.groups[group].topics.iter().cloned());
                        }
                        (
                            foreign.generation,
                            &foreign.member_id,
                            foreign.owned.iter().cloned().collect(),
                        )
                    }
                    Kind::Operator => continue,
                };
                assert_eq!(generation, served.generation, "{when}: client {client}");
                members.insert(member_id.clone());
                for partition in partitions {
                    let other = owned.insert(partition.clone(), *client);
                    assert_eq!(other, None, "{when}: S1: {partition}");
                }
            }
            let known: BTreeSet<ByteString> =
                served.members.into_iter().map(|member| member.member_id).collect();
            assert_eq!(known, members, "{when}: L6: members of {id} are those that live");
            let expected = self.topics.partitions(&wanted);
            assert!(
                owned.keys().eq(expected.iter()),
                "{when}: L3: {owned:?} in place of {expected:?}"
            );
            self.check_read(group, &expected, when);
        }
        for host in self.shards.iter().filter_map(|shard| shard.serving()) {
            assert!(host.parked.is_empty(), "{when}: L5: {:?} are not answered", host.parked);
        }
        self.coverage.check("groups settled");
    }

    /// L9: everything that was produced is read.
    fn check_read(&self, group: usize, partitions: &BTreeSet<TopicPartition>, when: &str) {
        for partition in partitions {
            let Some((_, log)) = self.topics.log(partition) else { continue };
            let read = self.groups[group].progress.get(partition);
            let read = read.map_or(0, |progress| progress.delivered_to()).max(log.start);
            assert!(read >= log.end, "{when}: L9: {partition} is read to {read} of {}", log.end);
        }
    }

    /// L10: a coordinator that is away for less than a session costs nobody anything.
    fn restart_unnoticed(&mut self) {
        self.note(|_| "== a node restarts, and nobody is to notice".into());
        self.record_of_cluster(|_| Op::Fault { kind: "restart".into(), phase: FaultPhase::Begin });
        let before: Vec<u64> = self.groups.iter().map(|group| group.rebalances).collect();
        let node = self.random.index(self.nodes.len());
        self.crash_node(node, self.plan.session / 4);
        self.run_for(self.plan.session * 2);
        let after: Vec<u64> = self.groups.iter().map(|group| group.rebalances).collect();
        assert_eq!(before, after, "L10: rebalances after a short restart");
        self.check_settled("L10: after a short restart");
        self.coverage.check("restarts unnoticed");
    }

    /// What the others need for two rounds: to hear of each, to let go, to join and to sync.
    fn two_rounds(&self) -> u64 {
        let plan = &self.plan;
        2 * (plan.session / 4 + 2_000 * plan.pace) + plan.session / 50 + 1_000
    }

    /// L1, librdkafka #5569: a client that forgets the id it was given keeps nobody waiting for a session.
    fn welcome_who_forgets(&mut self) {
        let group = self.random.index(self.groups.len());
        let before = self.groups[group].rebalances;
        self.note(|_| "== a client comes that forgets its first id".into());
        self.record_of_cluster(|_| Op::Fault { kind: "foreign".into(), phase: FaultPhase::Begin });
        let client = self.start_foreign(group, Fault::TwoHandshakes);
        if let Some(foreign) = self.foreign(client) {
            foreign.forgets = true;
        }
        // It begins within a session.
        self.run_for(self.plan.session + 2 + self.two_rounds());
        self.check_settled("L1: after a client that forgot its first id");
        let rebalances = self.groups[group].rebalances - before;
        assert!(rebalances <= 3, "L11: {rebalances} rebalances because a client came");
        self.coverage.check("forgetful clients welcomed");
    }

    /// L4, L11: what a member had is soon others'.
    fn lose_a_member(&mut self, closes: bool) {
        let ours = |client: &&usize| matches!(self.clients[**client].kind, Kind::Ours(_));
        let Some(client) = self.alive.iter().find(ours).copied() else { return };
        let group = self.clients[client].group;
        let before = self.groups[group].rebalances;
        let is_static = matches!(&self.clients[client].kind, Kind::Ours(p) if p.instance.is_some());
        let (session, rounds) = (self.plan.session, self.two_rounds());
        if closes {
            self.note(|_| format!("== client {client} closes"));
            self.close(client);
            self.run_for(if is_static { session + rounds } else { rounds });
        } else {
            self.note(|_| format!("== client {client} dies"));
            self.bury(client);
            self.run_for(session + rounds);
        }
        self.check_settled("L4: after a member is gone");
        let rebalances = self.groups[group].rebalances - before;
        assert!(rebalances <= 3, "L11: {rebalances} rebalances because a member is gone");
        self.coverage.check(if closes { "members closed" } else { "members lost" });
    }

    /// Nobody is left, and nothing is kept for ever.
    fn fall_silent(&mut self) {
        self.note(|_| "== everyone falls silent".into());
        for client in self.alive.clone() {
            self.bury(client);
        }
        self.run_for(self.settling_time());
        for group in 0..self.groups.len() {
            if let Some(served) = self.served(group) {
                assert_eq!(served.state, GroupState::Empty, "L1: {served:?} stands still");
            }
        }
        let retention = self.plan.config.offsets_retention.as_millis();
        let retention = i64::try_from(retention).unwrap_or(0) + 4 * 3_600_000 * 60;
        for node in &mut self.nodes {
            node.clock.wall_skew_ms += retention;
        }
        let check = self.plan.config.offsets_retention_check_interval.as_millis();
        self.run_for(2 * u64::try_from(check).unwrap_or(0) + 5_000);
        for shard in &self.shards {
            let host = shard.serving().expect("L7: a coordinator");
            assert_eq!(host.machine.hard_state(), HardView::default(), "nothing is kept for ever");
        }
        self.coverage.check("worlds that ended empty");
    }
}
