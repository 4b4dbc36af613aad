//! An assignor of the application's own: what each member sends to the leader, and what comes back.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use kavka_client::{
    ByteString, Consumer,
    consumer::assignor::{
        Assignment, Assignor, Group, LastAssignment, Partition, RebalanceProtocol,
    },
};

use crate::context::*;

/// Spreads partitions by weights that members send, and sends back to each all the weights.
#[derive(Debug)]
struct Weighted {
    weight: Mutex<u8>,
    protocols: &'static [RebalanceProtocol],
    /// What each call of `on_assignment` said: generation, number of partitions, user data.
    heard: Mutex<Vec<(i32, usize, Vec<u8>)>>,
    /// What each call of `subscription_user_data` was told.
    asked: Mutex<Vec<Asked>>,
}

/// Topics, and generation and number of partitions of the last assignment.
type Asked = (Vec<String>, Option<(i32, usize)>);

impl Weighted {
    fn new(weight: u8, protocols: &'static [RebalanceProtocol]) -> Arc<Self> {
        let weight = Mutex::new(weight);
        Arc::new(Self { weight, protocols, heard: Mutex::default(), asked: Mutex::default() })
    }

    fn last_heard(&self) -> Option<(usize, Vec<u8>)> {
        self.heard.lock().unwrap().last().map(|(_, count, data)| (*count, data.clone()))
    }
}

fn count(assignment: LastAssignment<'_>) -> usize {
    assignment.partitions.iter().map(|topic| topic.partitions.len()).sum()
}

impl Assignor for Weighted {
    fn name(&self) -> &str {
        "weighted"
    }

    fn protocols(&self) -> &[RebalanceProtocol] {
        self.protocols
    }

    fn subscription_user_data(
        &self,
        topics: &[ByteString],
        last: Option<LastAssignment<'_>>,
    ) -> Option<Bytes> {
        let topics = topics.iter().map(|topic| topic.to_string()).collect();
        let last = last.map(|last| (last.generation, count(last)));
        self.asked.lock().unwrap().push((topics, last));
        Some(vec![*self.weight.lock().unwrap()].into())
    }

    fn assign(&self, group: &Group) -> Result<Assignment, Box<dyn Error + Send + Sync>> {
        let mut assignment = Assignment::empty(group);
        let mut weights = Vec::new();
        for member in group.members() {
            weights.push(*member.user_data().and_then(|data| data.first()).ok_or("no weight")?);
        }
        let partitions = group.topics()[0].partitions();
        let mut numbers = 0..partitions;
        for (member, weight) in weights.iter().enumerate() {
            let share = numbers.by_ref().take(usize::from(*weight));
            assignment.give(member, share.map(|number| Partition { topic: 0, number }));
        }
        weights.sort_unstable();
        for member in 0..weights.len() {
            assignment.set_user_data(member, Some(weights.clone().into()));
        }
        Ok(assignment)
    }

    fn on_assignment(&self, assignment: LastAssignment<'_>, user_data: Option<&Bytes>) {
        let data = user_data.map(|data| data.to_vec()).unwrap_or_default();
        self.heard.lock().unwrap().push((assignment.generation, count(assignment), data));
    }
}

/// Runs a consumer until it is told to stop.
fn run(mut consumer: Consumer) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move { while consumer.next().await.is_some() {} })
}

async fn heard(assignor: &Weighted, partitions: usize, weights: &[u8]) {
    within(async {
        while assignor.last_heard() != Some((partitions, weights.to_vec())) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
}

async fn user_data_goes_to_the_leader_and_back(protocols: &'static [RebalanceProtocol]) {
    let context = Context::new(5).await;
    let (first, second) = (Weighted::new(2, protocols), Weighted::new(3, protocols));
    let start = async |assignor: &Arc<Weighted>| {
        let own = Arc::clone(assignor) as Arc<dyn Assignor>;
        let consumer = context.builder().assignor(own).build().unwrap();
        consumer.subscribe([TOPIC]).await.unwrap();
        consumer
    };
    let one = start(&first).await;
    let handle = one.handle();
    let _one = run(one);
    heard(&first, 2, &[2]).await;
    assert_eq!(first.asked.lock().unwrap()[0], (vec![TOPIC.to_owned()], None));
    let two = start(&second).await;
    let second_handle = two.handle();
    let _two = run(two);
    heard(&first, 2, &[2, 3]).await;
    heard(&second, 3, &[2, 3]).await;

    // What a member sends is what holds when it joins, not what held when it was made or last assigned to.
    *first.weight.lock().unwrap() = 1;
    handle.enforce_rebalance("less room").unwrap();
    heard(&first, 1, &[1, 3]).await;
    heard(&second, 3, &[1, 3]).await;
    let generation = first.heard.lock().unwrap().last().unwrap().0;
    *second.weight.lock().unwrap() = 4;
    second_handle.enforce_rebalance("more room").unwrap();
    heard(&second, 4, &[1, 4]).await;
    heard(&first, 1, &[1, 4]).await;
    let asked = first.asked.lock().unwrap();
    let (topics, last) = asked.last().unwrap();
    assert_eq!(*topics, [TOPIC]);
    let (last_generation, partitions) = last.unwrap();
    assert!(last_generation >= generation && partitions == 1, "{asked:?}");
    let heard: BTreeMap<i32, usize> =
        first.heard.lock().unwrap().iter().map(|(at, count, _)| (*at, *count)).collect();
    assert_eq!(heard.len(), first.heard.lock().unwrap().len(), "once for each generation");
}

#[tokio::test]
async fn user_data_goes_to_the_leader_and_back_in_an_eager_group() {
    user_data_goes_to_the_leader_and_back(&[RebalanceProtocol::Eager]).await;
}

#[tokio::test]
async fn user_data_goes_to_the_leader_and_back_in_a_cooperative_group() {
    let both = &[RebalanceProtocol::Eager, RebalanceProtocol::Cooperative];
    user_data_goes_to_the_leader_and_back(both).await;
}

#[tokio::test]
async fn only_the_assignor_that_the_group_chose_hears_of_the_assignment() {
    let context = Context::new(2).await;
    let own = Weighted::new(1, &[RebalanceProtocol::Eager]);
    let builder = context.builder().assignors(&["range"]);
    let consumer = builder.assignor(Arc::clone(&own) as Arc<dyn Assignor>).build().unwrap();
    consumer.subscribe([TOPIC]).await.unwrap();
    let handle = consumer.handle();
    let _running = run(consumer);
    within(async {
        while handle.assignment().await.unwrap().len() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(own.heard.lock().unwrap().is_empty());
    assert!(!own.asked.lock().unwrap().is_empty(), "it might have been chosen");
}
