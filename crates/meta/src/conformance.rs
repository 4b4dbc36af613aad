//! What every engine of [`ClusterMeta`] must do, as functions that panic when it does not.
//!
//! Each function gets an opener. Called again after the engine it gave was dropped, it opens the same store; an engine
//! that forgets everything on drop passes [`run`] only.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;

use kavka_protocol::{ErrorCode, Uuid};

use crate::cluster::{ClusterMeta, NewPartitions, NewTopic, PRODUCER_ID_BLOCK, TopicRef};
use crate::config::ConfigError;
use crate::error::AlterConfigsError;
use crate::image::{ConfigMap, ConfigResource, ConfigResourceType, MetadataImage};

/// Opens a store, the same one each time.
pub type Opener<'a> = &'a mut dyn FnMut() -> Box<dyn ClusterMeta>;

/// A topic to create, with one partition and no configs.
#[must_use]
pub fn new_topic(name: &str) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        partitions: 1,
        replication_factor: 1,
        configs: ConfigMap::new(),
        internal: false,
    }
}

/// Everything that does not need the store to be opened twice. `open` has to give an empty store each time.
pub fn run(open: Opener<'_>) {
    topics_are_created_and_found(&*open());
    bad_topics_are_refused_one_by_one(&*open());
    colliding_names_are_refused(&*open());
    deleted_topics_are_gone_and_come_back_with_another_id(&*open());
    partitions_only_grow(&*open());
    configs_change_atomically(&*open());
    images_do_not_change(&*open());
    producer_ids_are_never_handed_out_twice(&*open());
    concurrent_writers_all_succeed(&open().into());
}

/// That what was written is there when the store is opened again.
pub fn run_reopened(open: Opener<'_>) {
    let first = open();
    first
        .create_topics(&[NewTopic { partitions: 3, ..new_topic("kept") }, new_topic("dropped")], 7)
        .unwrap();
    first.delete_topics(&[TopicRef::Name("dropped")]).unwrap();
    first.create_partitions(&[NewPartitions { topic: "kept", count: 5 }]).unwrap();
    for resource in [
        ConfigResource::topic("kept"),
        ConfigResource::broker(1),
        ConfigResource::cluster_default(),
        ConfigResource::group("g"),
    ] {
        set(&*first, &resource, "a", "1").unwrap();
        set(&*first, &resource, "b", "2").unwrap();
        first
            .alter_configs(&resource, &mut |current| {
                let mut next = current.clone();
                next.remove("a");
                Ok(next)
            })
            .unwrap();
    }
    let ids = first.allocate_producer_ids().unwrap();
    let before = first.image();
    drop(first);

    let second = open();
    let after = second.image();
    assert_eq!(after.cluster_id(), before.cluster_id(), "the cluster id is made once");
    assert_eq!(after.session_epoch(), before.session_epoch() + 1, "each open is a session");
    assert_eq!(after.topics(), before.topics());
    assert_eq!(after.topics_by_id, before.topics_by_id);
    assert_eq!(after.configs, before.configs);
    assert_eq!(after.topic("kept").unwrap().created_at_ms, 7);
    assert_eq!(after.leader_epoch(after.topic("kept").unwrap(), 4), Some(after.session_epoch()));
    assert!(second.allocate_producer_ids().unwrap().start >= ids.end, "ids are used up at once");
}

fn topics_are_created_and_found(meta: &dyn ClusterMeta) {
    let configs = ConfigMap::from([("retention.ms".to_owned(), "5".to_owned())]);
    let orders = NewTopic {
        partitions: 4,
        replication_factor: 2,
        configs: configs.clone(),
        internal: true,
        ..new_topic("orders")
    };
    let results = meta.create_topics(&[orders, new_topic("audit")], 99).unwrap();
    let created = results[0].as_ref().unwrap();
    assert_eq!((&*created.name, created.partitions, created.replication_factor), ("orders", 4, 2));
    assert_eq!((created.created_at_ms, created.internal), (99, true));
    assert_eq!(*created.configs, configs);
    assert_ne!(created.id, results[1].as_ref().unwrap().id);
    assert!(!created.id.is_zero());

    let image = meta.image();
    assert_eq!(image.topic("orders"), Some(created));
    assert_eq!(image.topic_by_id(created.id), Some(created));
    assert_eq!(image.topics().keys().map(|name| &**name).collect::<Vec<_>>(), ["audit", "orders"]);
    assert!(!image.cluster_id().is_zero());
    assert_eq!(image.leader_epoch(created, 3), Some(image.session_epoch()));
    assert_eq!(image.leader_epoch(created, 4), None);
    assert_eq!(image.leader_epoch(created, -1), None);
    assert_eq!(
        image.configured_resources(ConfigResourceType::Topic),
        [ConfigResource::topic("orders")]
    );
}

fn bad_topics_are_refused_one_by_one(meta: &dyn ClusterMeta) {
    meta.create_topics(&[new_topic("there")], 0).unwrap()[0].as_ref().unwrap();
    let batch = [
        new_topic("there"),
        new_topic(""),
        new_topic("a/b"),
        NewTopic { partitions: 0, ..new_topic("p") },
        NewTopic { replication_factor: 0, ..new_topic("r") },
        new_topic("good"),
        new_topic("good"),
    ];
    let codes: Vec<_> = meta
        .create_topics(&batch, 0)
        .unwrap()
        .iter()
        .map(|result| result.as_ref().map_or_else(|error| error.code(), |_| ErrorCode::None))
        .collect();
    assert_eq!(
        codes,
        [
            ErrorCode::TopicAlreadyExists,
            ErrorCode::InvalidTopicException,
            ErrorCode::InvalidTopicException,
            ErrorCode::InvalidPartitions,
            ErrorCode::InvalidReplicationFactor,
            ErrorCode::None,
            ErrorCode::TopicAlreadyExists,
        ]
    );
    assert_eq!(meta.image().topics().len(), 2);
}

fn colliding_names_are_refused(meta: &dyn ClusterMeta) {
    meta.create_topics(&[new_topic("a.b_c"), new_topic("a-b")], 0).unwrap();
    for name in ["a_b_c", "a.b.c", "a_b.c"] {
        let error = meta.create_topics(&[new_topic(name)], 0).unwrap().remove(0).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidTopicException);
        assert_eq!(
            error.to_string(),
            format!("Topic '{name}' collides with existing topic: a.b_c")
        );
    }
    let both = meta.create_topics(&[new_topic("x.y"), new_topic("x_y")], 0).unwrap();
    assert!(both[0].is_ok() && both[1].is_err(), "also within a batch");
    for name in ["a.b", "a_bc", "ab_c", "a"] {
        meta.create_topics(&[new_topic(name)], 0).unwrap().remove(0).unwrap();
    }
}

fn deleted_topics_are_gone_and_come_back_with_another_id(meta: &dyn ClusterMeta) {
    let create = |name: &str| meta.create_topics(&[new_topic(name)], 0).unwrap().remove(0).unwrap();
    let (by_name, by_id) = (create("by-name"), create("by-id"));
    set(meta, &ConfigResource::topic("by-name"), "k", "v").unwrap();
    let unknown = Uuid::from_bytes([9; 16]);
    let results = meta
        .delete_topics(&[
            TopicRef::Name("by-name"),
            TopicRef::Id(by_id.id),
            TopicRef::Name("by-id"),
            TopicRef::Id(unknown),
        ])
        .unwrap();
    assert_eq!(results[0].as_ref().unwrap().id, by_name.id);
    assert_eq!(results[1].as_ref().unwrap().name, by_id.name);
    assert_eq!(results[2].as_ref().unwrap_err().code(), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(results[3].as_ref().unwrap_err().code(), ErrorCode::UnknownTopicId);
    assert!(meta.image().topics().is_empty());
    assert!(meta.image().topic_by_id(by_id.id).is_none());

    let again = create("by-name");
    assert_ne!(again.id, by_name.id);
    assert!(again.configs.is_empty(), "configs do not outlive their topic");
    assert!(meta.image().configs(&ConfigResource::topic("by-name")).is_empty());
}

fn partitions_only_grow(meta: &dyn ClusterMeta) {
    meta.create_topics(&[NewTopic { partitions: 2, ..new_topic("t") }], 0).unwrap();
    let requests = [("t", 2), ("t", 1), ("t", -1), ("nope", 9), ("t", 6)]
        .map(|(topic, count)| NewPartitions { topic, count });
    let results = meta.create_partitions(&requests).unwrap();
    let codes: Vec<_> = results
        .iter()
        .map(|result| result.as_ref().map_or_else(|error| error.code(), |_| ErrorCode::None))
        .collect();
    assert_eq!(
        codes,
        [
            ErrorCode::InvalidPartitions,
            ErrorCode::InvalidPartitions,
            ErrorCode::InvalidPartitions,
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::None,
        ]
    );
    let topic = Arc::clone(meta.image().topic("t").unwrap());
    assert_eq!(topic.partitions, 6);
    assert_eq!(meta.image().topic_by_id(topic.id).unwrap().partitions, 6);
}

fn configs_change_atomically(meta: &dyn ClusterMeta) {
    meta.create_topics(&[new_topic("t")], 0).unwrap();
    let topic = ConfigResource::topic("t");
    set(meta, &topic, "a", "1").unwrap();
    let refused = meta.alter_configs(&topic, &mut |current| {
        assert_eq!(current.get("a").map(String::as_str), Some("1"));
        Err(ConfigError::Conflict("no".to_owned()))
    });
    assert!(matches!(refused, Err(AlterConfigsError::Config(_))));
    assert_eq!(*meta.image().configs(&topic), ConfigMap::from([("a".into(), "1".into())]));
    assert_eq!(*meta.image().topic("t").unwrap().configs, *meta.image().configs(&topic));

    let missing = set(meta, &ConfigResource::topic("nope"), "a", "1").unwrap_err();
    assert_eq!(missing.code(), ErrorCode::UnknownTopicOrPartition);

    set(meta, &ConfigResource::cluster_default(), "x", "default").unwrap();
    set(meta, &ConfigResource::cluster_default(), "y", "default").unwrap();
    set(meta, &ConfigResource::broker(1), "x", "own").unwrap();
    let effective = meta.image().effective_broker_configs(1);
    assert_eq!(
        effective,
        ConfigMap::from([("x".into(), "own".into()), ("y".into(), "default".into())])
    );
    assert_eq!(meta.image().effective_broker_configs(2)["x"], "default");

    let group = ConfigResource::group("g");
    set(meta, &group, "a", "1").unwrap();
    assert_eq!(
        meta.image().configured_resources(ConfigResourceType::Group),
        std::slice::from_ref(&group)
    );
    meta.alter_configs(&group, &mut |_| Ok(ConfigMap::new())).unwrap();
    assert!(meta.image().configured_resources(ConfigResourceType::Group).is_empty());
}

fn images_do_not_change(meta: &dyn ClusterMeta) {
    let old = meta.image();
    let copy = MetadataImage::clone(&old);
    meta.create_topics(&[new_topic("t")], 0).unwrap();
    assert_eq!(*old, copy);
    assert_eq!(meta.image().version(), old.version() + 1);
    meta.create_topics(&[new_topic("t")], 0).unwrap();
    assert_eq!(meta.image().version(), old.version() + 1, "nothing happened, nothing changed");
}

fn producer_ids_are_never_handed_out_twice(meta: &dyn ClusterMeta) {
    let mut next = 0;
    for _ in 0..5 {
        let block = meta.allocate_producer_ids().unwrap();
        assert_eq!(block.end - block.start, PRODUCER_ID_BLOCK);
        assert!(block.start >= next);
        next = block.end;
    }
}

fn concurrent_writers_all_succeed(meta: &Arc<dyn ClusterMeta>) {
    const WRITERS: i64 = 4;
    const EACH: i64 = 5;
    let threads: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let meta = Arc::clone(meta);
            std::thread::spawn(move || {
                (0..EACH)
                    .map(|n| {
                        meta.create_topics(&[new_topic(&format!("t-{writer}-{n}"))], 0).unwrap()[0]
                            .as_ref()
                            .unwrap();
                        set(&*meta, &ConfigResource::group("g"), &format!("{writer}-{n}"), "1")
                            .unwrap();
                        meta.allocate_producer_ids().unwrap().start
                    })
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let starts: BTreeSet<i64> =
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let all = usize::try_from(WRITERS * EACH).unwrap();
    assert_eq!(starts.len(), all);
    assert_eq!(meta.image().topics().len(), all);
    assert_eq!(meta.image().configs(&ConfigResource::group("g")).len(), all);
}

fn set(
    meta: &dyn ClusterMeta,
    resource: &ConfigResource,
    name: &str,
    value: &str,
) -> Result<(), AlterConfigsError> {
    meta.alter_configs(resource, &mut |current| {
        let mut next = current.clone();
        next.insert(name.to_owned(), value.to_owned());
        Ok(next)
    })
    .map(drop)
}
