//! The embedded engine: one redb file in the data directory, or memory.
//!
//! What is stored (format 1): `state` holds the format, the session epoch and the next producer id; `ids` the cluster id;
//! `topics` one row for each topic id; `configs` one row for each config that is set. Further kinds of
//! metadata (credentials, ACLs, quotas) get tables of their own; a change to a table here raises the format.
//!
//! Every commit is a two-phase commit: redb then never takes damage for an interrupted write, so a
//! damaged file is reported and not rolled back to an older state. Opening verifies the checksum of every page.
//!
//! A new file is built under another name and renamed when it is complete, so a crash leaves either no file or a good one.

mod draft;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use kavka_protocol::Uuid;
use redb::backends::InMemoryBackend;
use redb::{
    Builder, Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
    WriteTransaction,
};

use self::draft::Draft;
use crate::cluster::{
    ClusterMeta, NewPartitions, NewTopic, PRODUCER_ID_BLOCK, TopicRef, check_new_partitions,
    check_new_topic,
};
use crate::config::ConfigError;
use crate::error::{AlterConfigsError, MetaError, TopicError};
use crate::image::{ConfigMap, ConfigResource, ConfigResourceType, MetadataImage, Topic};
use crate::topic_name::check_topic_name;

/// The name of the file inside the data directory.
pub const FILE_NAME: &str = "meta.redb";

/// Fills a buffer with random bytes: [`os_random`], or a seeded generator in tests.
pub type RandomSource = Box<dyn FnMut(&mut [u8]) -> io::Result<()> + Send>;

/// Random bytes from the operating system.
#[must_use]
pub fn os_random() -> RandomSource {
    Box::new(|bytes| getrandom::fill(bytes).map_err(io::Error::other))
}

/// [`ClusterMeta`] in one redb file.
///
/// At most one process has the file open: it is locked while this lives.
pub struct EmbeddedMeta {
    image: RwLock<Arc<MetadataImage>>,
    writer: Mutex<Writer>,
}

/// What only writes need; its lock serializes them.
struct Writer {
    database: Database,
    store: String,
    next_producer_id: i64,
    random: RandomSource,
    /// A write failed: what the file holds is unknown until it is opened again.
    poisoned: bool,
}

impl std::fmt::Debug for EmbeddedMeta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedMeta").field("image", &self.image()).finish_non_exhaustive()
    }
}

impl EmbeddedMeta {
    /// Opens the store in `data_dir`, which exists, and starts a session. Makes the store if there is none.
    ///
    /// Blocks on the disk. Ids are made of bytes from `random`.
    ///
    /// # Errors
    /// When another process has the store open; when the file is damaged or of another format; when the disk fails.
    pub fn open(data_dir: &Path, random: RandomSource) -> Result<Self, MetaError> {
        let path = data_dir.join(FILE_NAME);
        let store = path.display().to_string();
        let exists = path.try_exists().map_err(|source| MetaError::Io {
            store: store.clone(),
            action: "look for",
            source,
        })?;
        if exists {
            return Self::guarded(&store, || {
                let database = builder().open(&path)?;
                // We have the lock, so whoever is making another file is too late anyway.
                remove_drafts(data_dir)?;
                Self::start(database, store.clone(), random, true)
            });
        }

        let draft_path = data_dir.join(format!("{FILE_NAME}.{}.new", std::process::id()));
        let mut publisher = None;
        let meta = Self::guarded(&store, || {
            remove_if_there(&draft_path)?;
            let (draft, made) = Draft::create(&draft_path)?;
            publisher = Some(made);
            let database = builder().create_with_backend(draft)?;
            Self::start(database, store.clone(), random, false)
        })?;
        let Some(publisher) = publisher else { unreachable!("a store was made in a draft") };
        match publisher.publish(&draft_path, &path, data_dir) {
            Ok(()) => Ok(meta),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(MetaError::Locked { store })
            }
            Err(source) => Err(MetaError::Io { store, action: "create", source }),
        }
    }

    /// A store in memory, empty, gone when dropped.
    ///
    /// # Errors
    /// When `random` fails.
    pub fn in_memory(random: RandomSource) -> Result<Self, MetaError> {
        Self::open_on(InMemoryBackend::new(), "(in memory)", random)
    }

    /// Opens the store that `backend` holds, and starts a session. Makes the store if there are no bytes. `name` is what errors
    /// call it.
    ///
    /// Whoever has the backend sees to it that nobody else has, and that a store is not half made when its power fails.
    ///
    /// # Errors
    /// When the bytes are damaged or of another format; when the backend fails.
    pub fn open_on(
        backend: impl StorageBackend,
        name: &str,
        random: RandomSource,
    ) -> Result<Self, MetaError> {
        let io = |source| MetaError::Io { store: name.to_owned(), action: "look into", source };
        let exists = backend.len().map_err(io)? > 0;
        Self::guarded(name, || {
            let database = builder().create_with_backend(backend)?;
            Self::start(database, name.to_owned(), random, exists)
        })
    }

    /// Runs something that reads a file which may be damaged. redb checks what it reads in most
    /// places, but asserts in some, and a damaged file must not take the process down.
    fn guarded(
        store: &str,
        open: impl FnOnce() -> Result<Self, Failure>,
    ) -> Result<Self, MetaError> {
        match catch_unwind(AssertUnwindSafe(open)) {
            Ok(result) => result.map_err(|failure| failure.into_meta(store)),
            Err(_) => Err(MetaError::Corrupt {
                store: store.to_owned(),
                detail: "its structure is inconsistent".to_owned(),
            }),
        }
    }

    /// Loads the image, and commits the start of a session.
    fn start(
        mut database: Database,
        store: String,
        mut random: RandomSource,
        existing: bool,
    ) -> Result<Self, Failure> {
        let (mut image, next_producer_id) = if existing {
            database.check_integrity()?;
            load(&database, &store)?
        } else {
            let image = MetadataImage {
                version: 0,
                cluster_id: random_id(&mut random).map_err(Failure::Meta)?,
                session_epoch: -1,
                topics: Arc::default(),
                topics_by_id: Arc::default(),
                configs: Arc::default(),
            };
            (image, 0)
        };
        image.session_epoch =
            image.session_epoch.checked_add(1).ok_or(Failure::Meta(MetaError::Exhausted {
                store: store.clone(),
                what: "session epochs",
            }))?;

        let transaction = begin(&database)?;
        {
            let mut state = transaction.open_table(STATE)?;
            state.insert(SESSION_EPOCH, i64::from(image.session_epoch))?;
            if !existing {
                state.insert(FORMAT, FORMAT_VERSION)?;
                state.insert(NEXT_PRODUCER_ID, next_producer_id)?;
                let mut ids = transaction.open_table(IDS)?;
                ids.insert(CLUSTER_ID, to_number(image.cluster_id))?;
                // Tables exist from the start, so that a missing one is damage and not emptiness.
                transaction.open_table(TOPICS)?;
                transaction.open_table(CONFIGS)?;
            }
        }
        transaction.commit()?;

        let writer = Writer { database, store, next_producer_id, random, poisoned: false };
        Ok(Self { image: RwLock::new(Arc::new(image)), writer: Mutex::new(writer) })
    }

    fn writer(&self) -> Result<MutexGuard<'_, Writer>, MetaError> {
        let writer = self.writer.lock().unwrap_or_else(|poisoned| {
            // A panic in the middle of a write is like a failed write.
            let mut writer = poisoned.into_inner();
            writer.poisoned = true;
            writer
        });
        if writer.poisoned {
            return Err(MetaError::Poisoned { store: writer.store.clone() });
        }
        Ok(writer)
    }

    fn publish_image(&self, change: impl FnOnce(&mut MetadataImage)) {
        let mut next = (*self.image()).clone();
        change(&mut next);
        next.version += 1;
        *self.image.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }
}

impl Writer {
    /// Runs `fill` in one durable transaction.
    fn commit(
        &mut self,
        fill: impl FnOnce(&WriteTransaction) -> Result<(), Failure>,
    ) -> Result<(), MetaError> {
        let written = begin(&self.database).and_then(|transaction| {
            fill(&transaction)?;
            transaction.commit()?;
            Ok(())
        });
        written.map_err(|failure| {
            self.poisoned = true;
            failure.into_meta(&self.store)
        })
    }
}

impl ClusterMeta for EmbeddedMeta {
    fn image(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.image.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn create_topics(
        &self,
        topics: &[NewTopic],
        now_ms: i64,
    ) -> Result<Vec<Result<Arc<Topic>, TopicError>>, MetaError> {
        let mut writer = self.writer()?;
        let mut next = Topics::of(&self.image());
        let mut created = Vec::new();
        let mut results = Vec::with_capacity(topics.len());
        for new in topics {
            // Checked against what this batch has made so far, too.
            let result = check_new_topic(&next.image, new);
            let result = match result {
                Ok(()) => {
                    let mut id = random_id(&mut writer.random)?;
                    while next.image.topics_by_id.contains_key(&id) {
                        id = random_id(&mut writer.random)?;
                    }
                    let topic = Arc::new(Topic {
                        name: Arc::from(new.name.as_str()),
                        id,
                        partitions: new.partitions,
                        replication_factor: new.replication_factor,
                        configs: Arc::new(new.configs.clone()),
                        created_at_ms: now_ms,
                        internal: new.internal,
                    });
                    next.insert(&topic);
                    created.push(Arc::clone(&topic));
                    Ok(topic)
                }
                Err(error) => Err(error),
            };
            results.push(result);
        }
        if !created.is_empty() {
            writer.commit(|transaction| {
                let mut rows = transaction.open_table(TOPICS)?;
                let mut configs = transaction.open_table(CONFIGS)?;
                for topic in &created {
                    rows.insert(to_number(topic.id), to_row(topic))?;
                    for (name, value) in topic.configs.iter() {
                        let key = (ConfigResourceType::Topic.id(), &*topic.name, name.as_str());
                        configs.insert(key, value.as_str())?;
                    }
                }
                Ok(())
            })?;
            self.publish_image(|image| next.store_in(image));
        }
        Ok(results)
    }

    fn delete_topics(
        &self,
        topics: &[TopicRef<'_>],
    ) -> Result<Vec<Result<Arc<Topic>, TopicError>>, MetaError> {
        let mut writer = self.writer()?;
        let mut next = Topics::of(&self.image());
        let mut deleted = Vec::new();
        let mut results = Vec::with_capacity(topics.len());
        for topic in topics {
            let found = match *topic {
                TopicRef::Name(name) => next
                    .image
                    .topic(name)
                    .ok_or_else(|| TopicError::UnknownTopic { topic: name.to_owned() }),
                TopicRef::Id(id) => {
                    next.image.topic_by_id(id).ok_or(TopicError::UnknownTopicId { id })
                }
            };
            let result = found.cloned();
            if let Ok(topic) = &result {
                next.remove(topic);
                deleted.push(Arc::clone(topic));
            }
            results.push(result);
        }
        if !deleted.is_empty() {
            writer.commit(|transaction| {
                let mut rows = transaction.open_table(TOPICS)?;
                let mut configs = transaction.open_table(CONFIGS)?;
                for topic in &deleted {
                    rows.remove(to_number(topic.id))?;
                    for name in topic.configs.keys() {
                        let key = (ConfigResourceType::Topic.id(), &*topic.name, name.as_str());
                        configs.remove(key)?;
                    }
                }
                Ok(())
            })?;
            self.publish_image(|image| next.store_in(image));
        }
        Ok(results)
    }

    fn create_partitions(
        &self,
        requests: &[NewPartitions<'_>],
    ) -> Result<Vec<Result<Arc<Topic>, TopicError>>, MetaError> {
        let mut writer = self.writer()?;
        let mut next = Topics::of(&self.image());
        let mut grown = BTreeMap::new();
        let mut results = Vec::with_capacity(requests.len());
        for request in requests {
            let result = check_new_partitions(&next.image, request)
                .map(|topic| Arc::new(Topic { partitions: request.count, ..Topic::clone(topic) }));
            if let Ok(topic) = &result {
                next.insert(topic);
                grown.insert(topic.id, Arc::clone(topic));
            }
            results.push(result);
        }
        if !grown.is_empty() {
            writer.commit(|transaction| {
                let mut rows = transaction.open_table(TOPICS)?;
                for topic in grown.values() {
                    rows.insert(to_number(topic.id), to_row(topic))?;
                }
                Ok(())
            })?;
            self.publish_image(|image| next.store_in(image));
        }
        Ok(results)
    }

    fn alter_configs(
        &self,
        resource: &ConfigResource,
        change: &mut dyn FnMut(&ConfigMap) -> Result<ConfigMap, ConfigError>,
    ) -> Result<Arc<ConfigMap>, AlterConfigsError> {
        let mut writer = self.writer()?;
        let image = self.image();
        let before = image.configs(resource);
        // Values are looked at before existence, as Kafka does.
        let after = Arc::new(change(&before)?);
        let topic = match resource.kind {
            ConfigResourceType::Topic => {
                let unknown = || TopicError::UnknownTopic { topic: resource.name.clone() };
                Some(image.topic(&resource.name).ok_or_else(unknown)?)
            }
            _ => None,
        };
        if after == before {
            return Ok(before);
        }
        writer.commit(|transaction| {
            let mut configs = transaction.open_table(CONFIGS)?;
            let kind = resource.kind.id();
            for name in before.keys().filter(|name| !after.contains_key(*name)) {
                configs.remove((kind, resource.name.as_str(), name.as_str()))?;
            }
            for (name, value) in
                after.iter().filter(|(name, value)| before.get(*name) != Some(value))
            {
                configs.insert((kind, resource.name.as_str(), name.as_str()), value.as_str())?;
            }
            Ok(())
        })?;
        self.publish_image(|image| match topic {
            Some(topic) => {
                let mut next = Topics::of(image);
                next.insert(&Arc::new(Topic {
                    configs: Arc::clone(&after),
                    ..Topic::clone(topic)
                }));
                next.store_in(image);
            }
            None => {
                let configs = Arc::make_mut(&mut image.configs);
                if after.is_empty() {
                    configs.remove(resource);
                } else {
                    configs.insert(resource.clone(), Arc::clone(&after));
                }
            }
        });
        Ok(after)
    }

    fn allocate_producer_ids(&self) -> Result<Range<i64>, MetaError> {
        let mut writer = self.writer()?;
        let start = writer.next_producer_id;
        let end = start.checked_add(PRODUCER_ID_BLOCK).ok_or_else(|| MetaError::Exhausted {
            store: writer.store.clone(),
            what: "producer ids",
        })?;
        writer.commit(|transaction| {
            transaction.open_table(STATE)?.insert(NEXT_PRODUCER_ID, end)?;
            Ok(())
        })?;
        writer.next_producer_id = end;
        Ok(start..end)
    }
}

/// The topics of an image, being changed.
struct Topics {
    image: MetadataImage,
}

impl Topics {
    fn of(image: &MetadataImage) -> Self {
        Self { image: image.clone() }
    }

    fn insert(&mut self, topic: &Arc<Topic>) {
        Arc::make_mut(&mut self.image.topics).insert(Arc::clone(&topic.name), Arc::clone(topic));
        Arc::make_mut(&mut self.image.topics_by_id).insert(topic.id, Arc::clone(topic));
    }

    fn remove(&mut self, topic: &Topic) {
        Arc::make_mut(&mut self.image.topics).remove(&topic.name);
        Arc::make_mut(&mut self.image.topics_by_id).remove(&topic.id);
    }

    fn store_in(self, image: &mut MetadataImage) {
        image.topics = self.image.topics;
        image.topics_by_id = self.image.topics_by_id;
    }
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    // Reads are answered from the image; redb only needs room for the pages of one write.
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn begin(database: &Database) -> Result<WriteTransaction, Failure> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    Ok(transaction)
}

/// Removes what starts that crashed have left.
fn remove_drafts(data_dir: &Path) -> Result<(), redb::StorageError> {
    for entry in std::fs::read_dir(data_dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(FILE_NAME) && name.ends_with(".new")) {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<(), redb::StorageError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Reads everything; whatever does not fit together is damage.
fn load(database: &Database, store: &str) -> Result<(MetadataImage, i64), Failure> {
    let corrupt =
        |detail: String| Failure::Meta(MetaError::Corrupt { store: store.to_owned(), detail });
    let transaction = database.begin_read()?;
    let state = transaction.open_table(STATE)?;
    let number = |key: &'static str| -> Result<i64, Failure> {
        let value = state.get(key)?.ok_or_else(|| corrupt(format!("it has no '{key}'")))?;
        Ok(value.value())
    };
    let format = number(FORMAT)?;
    if format != FORMAT_VERSION {
        return Err(Failure::Meta(MetaError::UnsupportedFormat {
            store: store.to_owned(),
            found: format,
            supported: FORMAT_VERSION,
        }));
    }
    let session_epoch = number(SESSION_EPOCH)?;
    let session_epoch = i32::try_from(session_epoch)
        .ok()
        .filter(|epoch| *epoch >= 0)
        .ok_or_else(|| corrupt(format!("its session epoch is {session_epoch}")))?;
    let next_producer_id = number(NEXT_PRODUCER_ID)?;
    if next_producer_id < 0 {
        return Err(corrupt(format!("its next producer id is {next_producer_id}")));
    }
    let cluster_id = transaction
        .open_table(IDS)?
        .get(CLUSTER_ID)?
        .map(|id| from_number(id.value()))
        .ok_or_else(|| corrupt(format!("it has no '{CLUSTER_ID}'")))?;

    let mut configs = BTreeMap::<ConfigResource, ConfigMap>::new();
    for row in transaction.open_table(CONFIGS)?.iter()? {
        let (key, value) = row?;
        let (kind, resource, name) = key.value();
        let kind = ConfigResourceType::from_id(kind).ok_or_else(|| {
            corrupt(format!("config '{name}' belongs to unknown resource type {kind}"))
        })?;
        configs
            .entry(ConfigResource { kind, name: resource.to_owned() })
            .or_default()
            .insert(name.to_owned(), value.value().to_owned());
    }

    let mut topics = BTreeMap::new();
    let mut topics_by_id = BTreeMap::new();
    for row in transaction.open_table(TOPICS)?.iter()? {
        let (id, value) = row?;
        let (name, partitions, replication_factor, created_at_ms, internal) = value.value();
        check_topic_name(name).map_err(&corrupt)?;
        if partitions < 1 || replication_factor < 1 {
            return Err(corrupt(format!(
                "topic '{name}' has {partitions} partitions and replication factor {replication_factor}"
            )));
        }
        let topic_configs = configs.remove(&ConfigResource::topic(name)).unwrap_or_default();
        let topic = Arc::new(Topic {
            name: Arc::from(name),
            id: from_number(id.value()),
            partitions,
            replication_factor,
            configs: Arc::new(topic_configs),
            created_at_ms,
            internal,
        });
        topics_by_id.insert(topic.id, Arc::clone(&topic));
        if topics.insert(Arc::clone(&topic.name), topic).is_some() {
            return Err(corrupt(format!("there are two topics '{name}'")));
        }
    }
    if let Some(resource) =
        configs.keys().find(|resource| resource.kind == ConfigResourceType::Topic)
    {
        return Err(corrupt(format!("there are configs of {resource}, which does not exist")));
    }

    let image = MetadataImage {
        version: 0,
        cluster_id,
        session_epoch,
        topics: Arc::new(topics),
        topics_by_id: Arc::new(topics_by_id),
        configs: Arc::new(
            configs.into_iter().map(|(resource, map)| (resource, Arc::new(map))).collect(),
        ),
    };
    Ok((image, next_producer_id))
}

/// A new id that neither is reserved nor begins with a dash, which command lines would take for an option.
fn random_id(random: &mut RandomSource) -> Result<Uuid, MetaError> {
    loop {
        let mut bytes = [0; 16];
        random(&mut bytes).map_err(|source| MetaError::Random { source })?;
        let id = Uuid::from_random_bytes(bytes);
        if !id.to_string().starts_with('-') {
            return Ok(id);
        }
    }
}

fn to_number(id: Uuid) -> u128 {
    u128::from_be_bytes(*id.as_bytes())
}

fn from_number(number: u128) -> Uuid {
    Uuid::from_bytes(number.to_be_bytes())
}

fn to_row(topic: &Topic) -> TopicRow<'_> {
    (&topic.name, topic.partitions, topic.replication_factor, topic.created_at_ms, topic.internal)
}

/// What can go wrong inside a transaction.
enum Failure {
    Redb(redb::Error),
    Meta(MetaError),
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Redb(error.into())
    }
}

impl Failure {
    fn into_meta(self, store: &str) -> MetaError {
        let store = store.to_owned();
        match self {
            Self::Meta(error) => error,
            Self::Redb(redb::Error::DatabaseAlreadyOpen) => MetaError::Locked { store },
            // Of a file that is no redb file, redb says invalid data; of one that was cut, unexpected end.
            Self::Redb(redb::Error::Io(source))
                if !matches!(
                    source.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                MetaError::Io { store, action: "read or write", source }
            }
            Self::Redb(redb::Error::PreviousIo) => MetaError::Poisoned { store },
            Self::Redb(error) => MetaError::Corrupt { store, detail: error.to_string() },
        }
    }
}

type TopicRow<'a> = (&'a str, i32, i16, i64, bool);

const STATE: TableDefinition<'_, &str, i64> = TableDefinition::new("state");
const IDS: TableDefinition<'_, &str, u128> = TableDefinition::new("ids");
const TOPICS: TableDefinition<'_, u128, TopicRow<'static>> = TableDefinition::new("topics");
const CONFIGS: TableDefinition<'_, (i8, &str, &str), &str> = TableDefinition::new("configs");

const FORMAT: &str = "format";
const FORMAT_VERSION: i64 = 1;
const SESSION_EPOCH: &str = "session_epoch";
const NEXT_PRODUCER_ID: &str = "next_producer_id";
const CLUSTER_ID: &str = "cluster_id";

const CACHE_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests;
