//! Changes of topics and configs: written to the metadata, then brought into effect here, then answered.
//!
//! A change that has begun is finished also when the connection that asked for it is gone.

use std::sync::Arc;

use kavka_meta::{
    AlterConfigsError, ConfigMap, ConfigResource, ConfigResourceType, MetaError, NewPartitions,
    NewTopic, Topic, TopicError, TopicRef,
    config::{BrokerValues, ConfigError},
};
use kavka_protocol::{ErrorCode, Uuid};
use tracing::{error, info};

use crate::{
    broker::Broker,
    internal_topics::{ensure_offsets_topic, is_internal, offsets_topic},
    partition::blocking,
};

/// Partitions that one request may add, as in Apache Kafka.
pub(crate) const MAX_NEW_PARTITIONS: i64 = 10_000;

/// Per topic what became of it; or why the store took none of them.
pub(crate) type Changed = Result<Vec<Result<Arc<Topic>, TopicError>>, MetaError>;

/// A topic that is to have `count` partitions.
#[derive(Clone, Debug)]
pub(crate) struct Growth {
    pub(crate) topic: String,
    pub(crate) count: i32,
}

impl Broker {
    /// Creates topics. Those that were created are served when this returns.
    ///
    /// # Errors
    /// See [`kavka_meta::ClusterMeta::create_topics`].
    pub(crate) async fn create_topics(self: &Arc<Self>, topics: Vec<NewTopic>) -> Changed {
        let broker = Arc::clone(self);
        finish(async move {
            let has_internal = topics.iter().any(|topic| topic.internal);
            let making = Arc::clone(&broker);
            let created = blocking(move || {
                let created = making.meta.create_topics(&topics, making.clock.wall_ms())?;
                for topic in created.iter().flatten() {
                    info!("created topic {} with {} partitions", topic.name, topic.partitions);
                }
                // Also when none was created: another request may be between creating the same ones and opening them.
                making.topics.reconcile();
                Ok(created)
            })
            .await;
            if has_internal {
                broker.groups.start(&broker.topics);
            }
            created
        })
        .await
    }

    /// Creates topics that clients asked about, with the broker's defaults. A topic that is there by now is no error.
    pub(crate) async fn auto_create_topics(
        self: &Arc<Self>,
        names: Vec<String>,
    ) -> Vec<Result<(), ErrorCode>> {
        let (internal, plain): (Vec<_>, Vec<_>) =
            names.iter().cloned().partition(|name| is_internal(name));
        let offsets = match internal.first() {
            Some(_) => ensure_offsets_topic(self).await,
            None => Ok(()),
        };
        let topics = plain.into_iter().map(|name| self.default_topic(name)).collect();
        let mut created = match self.create_topics(topics).await {
            Ok(created) => created.into_iter(),
            Err(failed) => {
                error!("cannot create topics: {failed}");
                return vec![Err(failed.code()); names.len()];
            }
        };
        let plain = |result: Option<Result<_, TopicError>>| match result {
            Some(Ok(_) | Err(TopicError::AlreadyExists { .. })) => Ok(()),
            Some(Err(refused)) => Err(refused.code()),
            None => unreachable!("one result for each topic"),
        };
        let result =
            |name: &String| if is_internal(name) { offsets } else { plain(created.next()) };
        names.iter().map(result).collect()
    }

    /// A topic with the broker's defaults; an internal one with its own settings.
    pub(crate) fn default_topic(&self, name: String) -> NewTopic {
        if is_internal(&name) {
            return offsets_topic(self);
        }
        NewTopic {
            name,
            partitions: self.config.topics.default_partitions,
            // There is one broker, whatever the default asks for.
            replication_factor: 1,
            configs: ConfigMap::new(),
            internal: false,
        }
    }

    /// Deletes topics, their logs and the offsets committed to them.
    ///
    /// # Errors
    /// See [`kavka_meta::ClusterMeta::delete_topics`].
    pub(crate) async fn delete_topics(self: &Arc<Self>, topics: Vec<Uuid>) -> Changed {
        let broker = Arc::clone(self);
        finish(async move {
            let deleting = Arc::clone(&broker);
            let (deleted, removed) = blocking(move || {
                let refs: Vec<_> = topics.iter().map(|id| TopicRef::Id(*id)).collect();
                let deleted = deleting.meta.delete_topics(&refs)?;
                Ok::<_, MetaError>((deleted, deleting.topics.reconcile().removed))
            })
            .await?;
            broker.groups.topics_deleted(&removed).await;
            Ok(deleted)
        })
        .await
    }

    /// Adds partitions. They are served when this returns.
    ///
    /// # Errors
    /// See [`kavka_meta::ClusterMeta::create_partitions`].
    pub(crate) async fn create_partitions(self: &Arc<Self>, topics: Vec<Growth>) -> Changed {
        let broker = Arc::clone(self);
        finish(blocking(move || {
            let requests: Vec<_> = topics
                .iter()
                .map(|growth| NewPartitions { topic: &growth.topic, count: growth.count })
                .collect();
            let changed = broker.meta.create_partitions(&requests)?;
            broker.topics.reconcile();
            Ok(changed)
        }))
        .await
    }

    /// Changes the configs of one resource, and brings them into effect on open logs.
    ///
    /// # Errors
    /// See [`kavka_meta::ClusterMeta::alter_configs`].
    pub(crate) async fn alter_configs(
        self: &Arc<Self>,
        resource: ConfigResource,
        mut change: impl FnMut(&ConfigMap) -> Result<ConfigMap, ConfigError> + Send + 'static,
    ) -> Result<(), AlterConfigsError> {
        let broker = Arc::clone(self);
        finish(blocking(move || {
            broker.meta.alter_configs(&resource, &mut change)?;
            info!("configs of {resource} were altered");
            match resource.kind {
                ConfigResourceType::Topic => {
                    broker.topics.reconcile();
                }
                // The values that topics fall back to.
                ConfigResourceType::Broker => broker.topics.reconfigure(),
                ConfigResourceType::Group | ConfigResourceType::ClientMetrics => {}
            }
            Ok(())
        }))
        .await
    }

    /// Calls `with` with everything that is set for this broker.
    pub(crate) fn with_broker_values<T>(&self, with: impl FnOnce(&BrokerValues<'_>) -> T) -> T {
        let image = self.meta.image();
        let dynamic = image.configs(&ConfigResource::broker(self.config.node_id));
        let dynamic_default = image.configs(&ConfigResource::cluster_default());
        with(&self.config.values(&dynamic, &dynamic_default))
    }
}

/// Runs `work` to its end, also when the caller is dropped meanwhile.
async fn finish<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(work).await {
        Ok(value) => value,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => panic!("a change of the metadata was cancelled: {cancelled}"),
        },
    }
}
