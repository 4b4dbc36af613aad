//! Every admin call once, checked, against any cluster: `cargo run -p kavka-client --example admin_tour -- HOST:PORT [name=value …]`.
//!
//! Each further argument is a property by Kafka's name, `sasl.mechanism=PLAIN` say. It makes topics, groups, ACLs and users whose names
//! begin with `kavka-tour`, and removes them again. What the brokers do not have is told and skipped. The last line counts.
//! `compat/run` runs it against Kavka and Apache Kafka.

use std::{collections::BTreeMap, fmt::Debug, process::ExitCode};

use kavka_client::{
    Admin, Error, ErrorCode, ErrorKind, IsolationLevel, TopicPartition,
    admin::{
        Acl, AclFilter, Change, CommittedOffset, ConfigChange, ConfigResource, DeleteBefore,
        DescribeConfigs, GroupFilter, GroupState, MemberIdentity, NewPartitions, NewTopic,
        OffsetSpec, OffsetsOfGroup, Operation, PatternType, Permission, ResourceType, ScramChange,
        ScramMechanism, TopicDescription,
    },
    settings::Secret,
};

const TOPIC: &str = "kavka-tour";
const GROUP: &str = "kavka-tour-group";
const USER: &str = "kavka-tour-user";

/// What became of the steps.
#[derive(Default)]
struct Report {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Report {
    fn step<T: Debug>(
        &mut self,
        name: &str,
        result: Result<T, Error>,
        is_right: impl FnOnce(&T) -> bool,
    ) {
        match result {
            Ok(value) if is_right(&value) => {
                self.passed += 1;
                println!("ok    {name}");
            }
            Ok(value) => {
                self.failed += 1;
                println!("FAIL  {name}: {value:?}");
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                self.skipped += 1;
                println!("skip  {name}: {error}. {}", error.advice());
            }
            Err(error) => {
                self.failed += 1;
                println!("FAIL  {name}: {error}. {}", error.advice());
            }
        }
    }

    /// A step that has to fail with a code.
    fn refusal<T: Debug>(&mut self, name: &str, result: Result<T, Error>, code: ErrorCode) {
        let result = match result {
            Err(error) if error.kind() != ErrorKind::Unsupported => Ok(error.code()),
            Err(error) => Err(error),
            Ok(_) => Ok(None),
        };
        self.step(name, result, |found| *found == Some(code));
    }
}

/// Asks until the answer is right, for two seconds: it may take a moment until a broker sees what the controller did.
async fn settled<T>(
    ask: impl AsyncFn() -> Result<T, Error>,
    is_right: impl Fn(&T) -> bool,
) -> Result<T, Error> {
    for _ in 0..20 {
        let answer = ask().await;
        if answer.as_ref().is_ok_and(&is_right) {
            return answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    ask().await
}

/// The result of the only item.
fn only<K: Ord, T>(results: BTreeMap<K, Result<T, Error>>) -> Result<T, Error> {
    results
        .into_values()
        .next()
        .unwrap_or_else(|| Err(Error::new(ErrorKind::Protocol, "there is no result")))
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(servers) = arguments.next() else {
        eprintln!("usage: admin_tour HOST:PORT [name=value …]");
        return ExitCode::from(2);
    };
    let mut builder = Admin::builder().bootstrap_servers(&servers);
    for argument in arguments {
        let Some((name, value)) = argument.split_once('=') else {
            eprintln!("{argument} is not name=value");
            return ExitCode::from(2);
        };
        builder = builder.property(name, value);
    }
    let mut report = Report::default();
    match builder.build() {
        Ok(admin) => tour(&admin, &mut report).await,
        Err(error) => report.step("build", Err::<(), _>(error), |()| true),
    }
    println!("{} passed, {} failed, {} skipped", report.passed, report.failed, report.skipped);
    ExitCode::from(u8::from(report.failed > 0))
}

async fn tour(admin: &Admin, report: &mut Report) {
    let cluster = admin.describe_cluster().await;
    let is_there = cluster.is_ok();
    report.step("describe cluster", cluster, |cluster| {
        !cluster.brokers.is_empty() && cluster.cluster_id.is_some()
    });
    if !is_there {
        return;
    }
    clean_up(admin).await;
    topics(admin, report).await;
    configs(admin, report).await;
    groups(admin, report).await;
    partitions(admin, report).await;
    security(admin, report).await;
    clean_up(admin).await;
}

/// What an earlier tour left behind is no error, nor is that there is nothing.
async fn clean_up(admin: &Admin) {
    admin.delete_groups([GROUP]).await;
    admin.delete_topics([TOPIC]).await;
    admin.delete_acls([of_tour()]).await;
    let mechanisms = [ScramMechanism::Sha256, ScramMechanism::Sha512];
    for mechanism in mechanisms {
        admin.alter_scram_users([(USER, ScramChange::Delete(mechanism))]).await;
    }
}

async fn topics(admin: &Admin, report: &mut Report) {
    let new =
        || NewTopic::new(TOPIC).partitions(2).replication_factor(1).config("retention.ms", "60000");
    let checked = only(admin.create_topics([new()], Change::Validate).await);
    report.step("check a topic", checked, |_| true);
    let made = only(admin.create_topics([new()], Change::Apply).await);
    report.step("create a topic", made, |made| made.partitions.is_none_or(|count| count == 2));
    let again = only(admin.create_topics([new()], Change::Apply).await);
    report.refusal("create it again", again, ErrorCode::TopicAlreadyExists);
    let grown =
        only(admin.create_partitions([(TOPIC, NewPartitions::up_to(3))], Change::Apply).await);
    report.step("add partitions", grown, |()| true);
    let shrunk =
        only(admin.create_partitions([(TOPIC, NewPartitions::up_to(1))], Change::Apply).await);
    report.refusal("take partitions away", shrunk, ErrorCode::InvalidPartitions);
    let ask = async || only(admin.describe_topics([TOPIC]).await);
    let described = settled(ask, |topic: &TopicDescription| topic.partitions.len() == 3).await;
    let id = described.as_ref().ok().and_then(|topic| topic.id);
    report.step("describe a topic", described, |topic| {
        topic.partitions.len() == 3 && topic.partitions.iter().all(|row| row.leader.is_some())
    });
    if let Some(id) = id {
        let by_id = only(admin.describe_topics_by_id([id]).await);
        report.step("describe it by id", by_id, |topic| &*topic.name == TOPIC);
    }
    let missing = only(admin.describe_topics(["kavka-tour-missing"]).await);
    report.refusal("describe a missing topic", missing, ErrorCode::UnknownTopicOrPartition);
    let listed = admin.list_topics().await;
    report.step("list topics", listed, |list| list.iter().any(|topic| &*topic.name == TOPIC));
}

async fn configs(admin: &Admin, report: &mut Report) {
    let topic = ConfigResource::Topic(TOPIC.into());
    let what = DescribeConfigs { synonyms: true, documentation: true, ..Default::default() };
    let entries = only(admin.describe_configs([topic.clone()], &what).await);
    report.step("describe a topic's configs", entries, |entries| {
        entries.get("retention.ms").is_some_and(|entry| entry.value == Some("60000".into()))
    });
    let set = |value: &str| {
        let change = ConfigChange::Set(value.into());
        (topic.clone(), BTreeMap::from([("retention.ms".into(), change)]))
    };
    let altered = only(admin.alter_configs([set("70000")], Change::Apply).await);
    report.step("alter a topic's configs", altered, |()| true);
    let bad = only(admin.alter_configs([set("soon")], Change::Validate).await);
    let before_3_0 = bad.as_ref().is_err_and(|e| e.code() == Some(ErrorCode::InvalidRequest));
    let code = if before_3_0 { ErrorCode::InvalidRequest } else { ErrorCode::InvalidConfig };
    report.refusal("alter them to nonsense", bad, code);
    let Ok(cluster) = admin.describe_cluster().await else { return };
    let Some(broker) = cluster.brokers.first() else { return };
    let own = only(admin.describe_configs([ConfigResource::Broker(broker.id)], &what).await);
    report
        .step("describe a broker's configs", own, |entries| entries.contains_key("num.partitions"));
    let group = ConfigResource::Group(GROUP.into());
    let of_group = only(admin.describe_configs([group], &what).await);
    report.step("describe a group's configs", of_group, |_| true);
}

async fn groups(admin: &Admin, report: &mut Report) {
    let commit = CommittedOffset { offset: 0, leader_epoch: None, metadata: "tour".into() };
    let committed = only(admin.alter_group_offsets(GROUP, [(at(0), commit.clone())]).await);
    report.step("commit for a group", committed, |()| true);
    for require_stable in [false, true] {
        let offsets = admin.list_group_offsets([OffsetsOfGroup::all(GROUP)], require_stable).await;
        report.step("list its offsets", only(offsets), |offsets| {
            offsets
                .get(&at(0))
                .is_some_and(|row| row.as_ref().is_ok_and(|row| *row == Some(commit.clone())))
        });
    }
    let some = admin.list_group_offsets([OffsetsOfGroup::of(GROUP, [at(0), at(1)])], false).await;
    report.step("list some offsets", only(some), |offsets| {
        offsets.len() == 2 && offsets.get(&at(1)).is_some_and(|row| matches!(row, Ok(None)))
    });
    let listed = admin.list_groups(&GroupFilter::default()).await;
    report.step("list groups", listed, |list| list.groups.contains_key(GROUP));
    let described = only(admin.describe_groups([GROUP]).await);
    report.step("describe a group", described, |group| group.state == GroupState::Empty);
    let missing = only(admin.describe_groups(["kavka-tour-missing"]).await);
    report.refusal("describe a missing group", missing, ErrorCode::GroupIdNotFound);
    let nobody = MemberIdentity::Instance("nobody".into());
    let removed = only(admin.remove_group_members(GROUP, [nobody], Some("tour")).await);
    report.refusal("remove who is not there", removed, ErrorCode::UnknownMemberId);
    let deleted = only(admin.delete_group_offsets(GROUP, [at(0)]).await);
    report.step("delete its offsets", deleted, |()| true);
    // A group without offsets may be gone at once; both are right.
    only(admin.alter_group_offsets(GROUP, [(at(0), commit)]).await).ok();
    report.step("delete a group", only(admin.delete_groups([GROUP]).await), |()| true);
    let again = only(admin.delete_groups([GROUP]).await);
    report.refusal("delete it again", again, ErrorCode::GroupIdNotFound);
}

async fn partitions(admin: &Admin, report: &mut Report) {
    for (name, spec, is_found) in [
        ("earliest offset", OffsetSpec::Earliest, true),
        ("latest offset", OffsetSpec::Latest, true),
        ("offset by time", OffsetSpec::Timestamp(1), false),
        ("offset of the largest timestamp", OffsetSpec::MaxTimestamp, false),
        ("earliest local offset", OffsetSpec::EarliestLocal, true),
    ] {
        let found = only(admin.list_offsets([(at(0), spec)], IsolationLevel::ReadCommitted).await);
        report.step(name, found, |found| found.is_some() == is_found);
    }
    let deleted = only(admin.delete_records([(at(0), DeleteBefore::HighWatermark)]).await);
    report.step("delete records", deleted, |left| *left == 0);
    let beyond = only(admin.delete_records([(at(0), DeleteBefore::Offset(5))]).await);
    report.refusal("delete what is not there", beyond, ErrorCode::OffsetOutOfRange);
    let producers = only(admin.describe_producers([at(0)]).await);
    report.step("describe producers", producers, Vec::is_empty);
    let dirs = admin.describe_log_dirs([]).await.and_then(only);
    report.step("describe log directories", dirs, |dirs| {
        let mut dirs = dirs.values().filter_map(|dir| dir.as_ref().ok());
        dirs.any(|dir| dir.replicas.contains_key(&at(0)))
    });
}

fn of_tour() -> AclFilter {
    let resource_name = Some(TOPIC.into());
    AclFilter { resource_name, principal: Some(format!("User:{USER}").into()), ..AclFilter::any() }
}

async fn security(admin: &Admin, report: &mut Report) {
    let acl = Acl {
        resource_type: ResourceType::Topic,
        resource_name: TOPIC.into(),
        pattern: PatternType::Prefixed,
        principal: format!("User:{USER}").into(),
        host: "*".into(),
        operation: Operation::Read,
        permission: Permission::Allow,
    };
    match admin.describe_acls(&AclFilter::any()).await {
        Err(error) if error.code() == Some(ErrorCode::SecurityDisabled) => {
            report.skipped += 1;
            println!("skip  ACLs: {error}. {}", error.advice());
        }
        described => {
            report.step("describe all ACLs", described, |_| true);
            let created = only(admin.create_acls([acl.clone()]).await);
            report.step("create an ACL", created, |()| true);
            let ask = async || admin.describe_acls(&of_tour()).await;
            let found = settled(ask, |found: &Vec<Acl>| !found.is_empty()).await;
            report.step("describe it", found, |found| *found == [acl.clone()]);
            let bad = Acl { host: "*".into(), principal: "nobody".into(), ..acl.clone() };
            let bad = only(admin.create_acls([bad]).await);
            report.refusal("create one of nobody", bad, ErrorCode::InvalidRequest);
            let deleted = only(admin.delete_acls([of_tour()]).await);
            report.step("delete it", deleted, |deleted| *deleted == [acl]);
        }
    }
    let set = |mechanism, password: &str| ScramChange::Set {
        mechanism,
        password: Secret::new(password),
        iterations: 4096,
    };
    for mechanism in [ScramMechanism::Sha256, ScramMechanism::Sha512] {
        let altered = only(admin.alter_scram_users([(USER, set(mechanism, "secret"))]).await);
        report.step("set a SCRAM credential", altered, |()| true);
    }
    let ask = async || admin.describe_scram_users([USER]).await.and_then(only);
    let described = settled(ask, |found: &BTreeMap<ScramMechanism, u32>| found.len() == 2).await;
    report.step("describe SCRAM credentials", described, |found| {
        found.len() == 2 && found.values().all(|iterations| *iterations == 4096)
    });
    let missing = admin.describe_scram_users(["kavka-tour-missing"]).await.and_then(only);
    report.refusal("describe those of nobody", missing, ErrorCode::ResourceNotFound);
    let delete = ScramChange::Delete(ScramMechanism::Sha256);
    let deleted = only(admin.alter_scram_users([(USER, delete.clone())]).await);
    report.step("delete a SCRAM credential", deleted, |()| true);
    let again = only(admin.alter_scram_users([(USER, delete)]).await);
    report.refusal("delete it again", again, ErrorCode::ResourceNotFound);
}
