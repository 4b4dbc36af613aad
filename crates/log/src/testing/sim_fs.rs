//! A file system in memory that fails and crashes on demand.
//!
//! It keeps what a disk keeps: the bytes of a file since its last sync apart from the synced ones, and
//! the names in a directory apart from the files they stand for. A crash takes the synced state and
//! applies any part of what came after, in any order that a disk may choose: writes are torn at sector
//! or page borders, and creations, renames and removals happen or do not, each for itself.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kavka_protocol::SplitMix64;

use crate::fs::{DirEntry, File, Fs, OpenMode};

type Ino = u64;
const ROOT: Ino = 0;

/// A file system in memory. Clones share it.
#[derive(Clone)]
pub struct SimFs {
    world: Arc<Mutex<World>>,
}

/// What survives a crash, chosen by a seed where there is a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survival {
    /// Only what was synced.
    Synced,
    /// Everything, and what was not synced still is not: the process is killed and the machine
    /// goes on.
    Everything,
    /// All but one of the unsynced changes, which are counted as [`SimFs::pending_changes`] does.
    AllBut(usize),
    /// Of the unsynced changes only this one.
    Only(usize),
    /// Some of the unsynced blocks of this size and some of the unsynced names.
    Some {
        /// Chooses.
        seed: u64,
        /// Bytes that a disk writes as a whole: 512 or 4096.
        block: usize,
    },
}

/// Which calls fail, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailPlan {
    /// The call that fails, counted from 0 over all calls that [`SimFs::calls`] counts.
    pub call: u64,
    /// All later calls fail too.
    pub sticky: bool,
    /// The error.
    pub kind: io::ErrorKind,
}

type Hook = Box<dyn FnMut(&SimFs) + Send>;

struct World {
    nodes: BTreeMap<Ino, Node>,
    next_ino: Ino,
    calls: u64,
    fail: Option<FailPlan>,
    reads: u64,
    fail_read: Option<FailPlan>,
    short_write: Option<u64>,
    free: u64,
    hook: Option<Hook>,
}

#[derive(Clone)]
enum Node {
    File(FileNode),
    Dir(DirNode),
}

#[derive(Clone, Default)]
struct FileNode {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Clone, Default)]
struct DirNode {
    names: BTreeMap<String, Ino>,
    synced: BTreeMap<String, Ino>,
    /// Names that changed together: one operation, done as a whole or not at all.
    pending: Vec<Vec<(String, Option<Ino>)>>,
}

impl fmt::Debug for SimFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFs").field("calls", &self.calls()).finish_non_exhaustive()
    }
}

impl Default for SimFs {
    fn default() -> Self {
        let nodes = BTreeMap::from([(ROOT, Node::Dir(DirNode::default()))]);
        Self::of(nodes, 1)
    }
}

impl SimFs {
    fn of(nodes: BTreeMap<Ino, Node>, next_ino: Ino) -> Self {
        let world = World {
            nodes,
            next_ino,
            calls: 0,
            fail: None,
            reads: 0,
            fail_read: None,
            short_write: None,
            free: u64::MAX,
            hook: None,
        };
        Self { world: Arc::new(Mutex::new(world)) }
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls so far that change something or make it durable.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Lets a call fail, or none.
    pub fn fail(&self, plan: Option<FailPlan>) {
        self.lock().fail = plan;
    }

    /// Calls so far that only look: reads, lists, lengths, opening what exists.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.lock().reads
    }

    /// Lets a call that [`reads`](Self::reads) counts fail, or none.
    pub fn fail_read(&self, plan: Option<FailPlan>) {
        self.lock().fail_read = plan;
    }

    /// Lets the write that is this call, if it is one, write only half of its bytes.
    pub fn short_write(&self, call: u64) {
        self.lock().short_write = Some(call);
    }

    /// Changes that are not synced: writes, changes of length, and of names.
    #[must_use]
    pub fn pending_changes(&self) -> usize {
        let pending = |node: &Node| match node {
            Node::File(file) => file.pending.len(),
            Node::Dir(dir) => dir.pending.len(),
        };
        self.lock().nodes.values().map(pending).sum()
    }

    /// Sets the free space. Writes that make files longer use it up, and fail beyond it.
    pub fn set_free_space(&self, bytes: u64) {
        self.lock().free = bytes;
    }

    /// Calls `hook` after each counted call, with a file system that it may look at and
    /// [`crash`](Self::crash).
    pub fn on_call(&self, hook: impl FnMut(&SimFs) + Send + 'static) {
        self.lock().hook = Some(Box::new(hook));
    }

    /// A copy as the disk would be found after a crash at this moment.
    #[must_use]
    pub fn crash(&self, survival: Survival) -> SimFs {
        if survival == Survival::Everything {
            return self.fork();
        }
        let world = self.lock();
        let mut fate = Fate::new(survival);
        let mut survive = |node: &Node| match node {
            Node::File(file) => {
                let bytes = file.after_crash(&mut fate);
                Node::File(FileNode { synced: bytes.clone(), bytes, pending: Vec::new() })
            }
            Node::Dir(dir) => {
                let names = dir.after_crash(&mut fate);
                Node::Dir(DirNode { synced: names.clone(), names, pending: Vec::new() })
            }
        };
        let nodes = world.nodes.iter().map(|(&ino, node)| (ino, survive(node))).collect();
        Self::of(nodes, world.next_ino)
    }

    /// A copy in the same state, with the same things synced and not.
    #[must_use]
    pub fn fork(&self) -> SimFs {
        let world = self.lock();
        Self::of(world.nodes.clone(), world.next_ino)
    }

    /// Overwrites bytes of a file, synced ones too, as decay of the disk would.
    ///
    /// # Panics
    /// When the file does not exist.
    pub fn corrupt(&self, path: &Path, at: usize, with: &[u8]) {
        let mut world = self.lock();
        let ino = world.find(path).expect("the file exists");
        let file = world.file(ino).expect("it is a file");
        for bytes in [&mut file.bytes, &mut file.synced] {
            let end = (at + with.len()).min(bytes.len());
            bytes[at.min(end)..end].copy_from_slice(&with[..end - at.min(end)]);
        }
    }

    /// Names and lengths of all files, for a look at the disk.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, usize> {
        let world = self.lock();
        let mut files = BTreeMap::new();
        let mut todo = vec![(String::new(), ROOT)];
        while let Some((path, ino)) = todo.pop() {
            match &world.nodes[&ino] {
                Node::File(file) => {
                    files.insert(path, file.bytes.len());
                }
                Node::Dir(dir) => {
                    let entries = dir.names.iter();
                    todo.extend(entries.map(|(name, &ino)| (format!("{path}/{name}"), ino)));
                }
            }
        }
        files
    }

    /// Does a call that only looks: refuses it if it is its turn.
    fn look(&self) -> io::Result<MutexGuard<'_, World>> {
        let mut world = self.lock();
        let read = world.reads;
        world.reads += 1;
        match world.fail_read {
            Some(plan) if read == plan.call || (plan.sticky && read > plan.call) => {
                Err(io::Error::new(plan.kind, format!("planned failure of read {read}")))
            }
            _ => Ok(world),
        }
    }

    /// Does a counted call: refuses it if it is its turn, and tells the hook afterwards.
    fn call<R>(&self, work: impl FnOnce(&mut World) -> io::Result<R>) -> io::Result<R> {
        let (result, hook) = {
            let mut world = self.lock();
            let call = world.calls;
            world.calls += 1;
            if let Some(plan) = world.fail
                && (call == plan.call || (plan.sticky && call > plan.call))
            {
                return Err(io::Error::new(plan.kind, format!("planned failure of call {call}")));
            }
            (work(&mut world), world.hook.take())
        };
        if let Some(mut hook) = hook {
            hook(self);
            self.lock().hook = Some(hook);
        }
        result
    }
}

impl World {
    fn find(&self, path: &Path) -> io::Result<Ino> {
        let mut ino = ROOT;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let Some(Node::Dir(dir)) = self.nodes.get(&ino) else { return not_found(path) };
            match dir.names.get(&*name.to_string_lossy()) {
                Some(&found) => ino = found,
                None => return not_found(path),
            }
        }
        Ok(ino)
    }

    fn dir(&mut self, ino: Ino) -> io::Result<&mut DirNode> {
        match self.nodes.get_mut(&ino) {
            Some(Node::Dir(dir)) => Ok(dir),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn file(&mut self, ino: Ino) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&ino) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// The directory of `path`, and its last component.
    fn parent(&self, path: &Path) -> io::Result<(Ino, String)> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let dir = self.find(path.parent().unwrap_or(Path::new("")))?;
        name.map(|name| (dir, name)).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    fn add(&mut self, dir: Ino, name: String, node: Node) -> io::Result<Ino> {
        let ino = self.next_ino;
        self.next_ino += 1;
        self.nodes.insert(ino, node);
        self.dir(dir)?.change(vec![(name, Some(ino))]);
        Ok(ino)
    }
}

impl FileNode {
    fn change(&mut self, change: Change) {
        apply(&mut self.bytes, &change);
        self.pending.push(change);
    }

    fn after_crash(&self, fate: &mut Fate) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        for change in &self.pending {
            let survives = fate.next();
            match (change, fate.block) {
                (Change::Write { at, bytes: written }, Some(block)) => {
                    let mut done = 0;
                    while done < written.len() {
                        // Up to the next border of a block of the disk.
                        let from = at + done;
                        let n = (block - from % block).min(written.len() - done);
                        if fate.next() {
                            let part = written[done..done + n].to_vec();
                            apply(&mut bytes, &Change::Write { at: from, bytes: part });
                        }
                        done += n;
                    }
                }
                _ if survives => apply(&mut bytes, change),
                _ => {}
            }
        }
        bytes
    }
}

/// Decides which changes survive.
struct Fate {
    survival: Survival,
    random: SplitMix64,
    /// Writes survive or not in blocks of this size; as a whole without it.
    block: Option<usize>,
    /// Changes so far.
    met: usize,
}

impl Fate {
    fn new(survival: Survival) -> Self {
        let (seed, block) = match survival {
            Survival::Some { seed, block } => (seed, Some(block)),
            _ => (0, None),
        };
        Self { survival, random: SplitMix64::new(seed), block, met: 0 }
    }

    fn next(&mut self) -> bool {
        let change = self.met;
        self.met += 1;
        match self.survival {
            Survival::Synced => false,
            Survival::Everything => true,
            Survival::AllBut(lost) => change != lost,
            Survival::Only(kept) => change == kept,
            Survival::Some { .. } => self.random.draw() & 1 == 1,
        }
    }
}

impl DirNode {
    fn change(&mut self, names: Vec<(String, Option<Ino>)>) {
        apply_names(&mut self.names, &names);
        self.pending.push(names);
    }

    fn after_crash(&self, fate: &mut Fate) -> BTreeMap<String, Ino> {
        let mut names = self.synced.clone();
        for change in &self.pending {
            // A name that never came to be cannot be renamed.
            let source = change.iter().find(|(_, ino)| ino.is_none());
            let possible =
                change.len() == 1 || source.is_none_or(|(name, _)| names.contains_key(name));
            if fate.next() && possible {
                apply_names(&mut names, change);
            }
        }
        names
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::SetLen(len) => bytes.resize(*len, 0),
        Change::Write { at, bytes: written } => {
            let end = at + written.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*at..end].copy_from_slice(written);
        }
    }
}

fn apply_names(names: &mut BTreeMap<String, Ino>, change: &[(String, Option<Ino>)]) {
    for (name, ino) in change {
        match ino {
            Some(ino) => names.insert(name.clone(), *ino),
            None => names.remove(name),
        };
    }
}

fn not_found<R>(path: &Path) -> io::Result<R> {
    Err(io::Error::new(io::ErrorKind::NotFound, path.display().to_string()))
}

impl Fs for SimFs {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.call(|world| {
            let mut dir = ROOT;
            for component in path.components() {
                let Component::Normal(name) = component else { continue };
                let name = name.to_string_lossy().into_owned();
                dir = match world.dir(dir)?.names.get(&name) {
                    Some(&found) => found,
                    None => world.add(dir, name, Node::Dir(DirNode::default()))?,
                };
            }
            Ok(())
        })
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let ino = if mode == OpenMode::Create {
            self.call(|world| match world.find(path) {
                Ok(ino) => {
                    let file = world.file(ino)?;
                    if !file.bytes.is_empty() {
                        file.change(Change::SetLen(0));
                    }
                    Ok(ino)
                }
                Err(_) => {
                    let (dir, name) = world.parent(path)?;
                    world.add(dir, name, Node::File(FileNode::default()))
                }
            })?
        } else {
            let mut world = self.look()?;
            let ino = world.find(path)?;
            world.file(ino)?;
            ino
        };
        Ok(Arc::new(SimFile { fs: self.clone(), ino }))
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        let mut world = self.look()?;
        let ino = world.find(path)?;
        Ok(world.file(ino)?.bytes.len() as u64)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut world = self.look()?;
        let ino = world.find(dir)?;
        let names: Vec<_> = world.dir(ino)?.names.clone().into_iter().collect();
        let is_dir = |ino| matches!(world.nodes.get(&ino), Some(Node::Dir(_)));
        Ok(names.into_iter().map(|(name, ino)| DirEntry { name, is_dir: is_dir(ino) }).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(|world| {
            let ino = world.find(from)?;
            let ((dir, old), (to_dir, new)) = (world.parent(from)?, world.parent(to)?);
            if dir != to_dir {
                return Err(io::ErrorKind::CrossesDevices.into());
            }
            world.dir(dir)?.change(vec![(old, None), (new, Some(ino))]);
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.call(|world| {
            let ino = world.find(path)?;
            let freed = world.file(ino)?.bytes.len() as u64;
            world.free = world.free.saturating_add(freed);
            let (dir, name) = world.parent(path)?;
            world.dir(dir)?.change(vec![(name, None)]);
            Ok(())
        })
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.call(|world| {
            let ino = world.find(path)?;
            if !world.dir(ino)?.names.is_empty() {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            let (dir, name) = world.parent(path)?;
            world.dir(dir)?.change(vec![(name, None)]);
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.call(|world| {
            let ino = world.find(dir)?;
            let dir = world.dir(ino)?;
            dir.synced = dir.names.clone();
            dir.pending.clear();
            Ok(())
        })
    }

    fn free_space(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.lock().free)
    }

    fn lock_dir(&self, _dir: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        Ok(Box::new(()))
    }
}

#[derive(Debug)]
struct SimFile {
    fs: SimFs,
    ino: Ino,
}

impl SimFile {
    fn look<R>(&self, look: impl FnOnce(&FileNode) -> R) -> io::Result<R> {
        Ok(look(self.fs.look()?.file(self.ino)?))
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.look(|file| {
            let at = usize::try_from(offset).unwrap_or(usize::MAX).min(file.bytes.len());
            let n = buf.len().min(file.bytes.len() - at);
            buf[..n].copy_from_slice(&file.bytes[at..at + n]);
            n
        })
    }

    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.read_at(buf, offset).map(Some)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.fs.call(|world| {
            let at = usize::try_from(offset).unwrap_or(usize::MAX);
            let short = world.short_write == Some(world.calls - 1) && buf.len() > 1;
            let buf = if short { &buf[..buf.len() / 2] } else { buf };
            let len = world.file(self.ino)?.bytes.len();
            let growth = (at + buf.len()).saturating_sub(len) as u64;
            let Some(free) = world.free.checked_sub(growth) else {
                // What fits is written, and the next attempt finds nothing left.
                let fits = usize::try_from(world.free).unwrap_or(0).min(buf.len());
                if fits == 0 {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                world.free = 0;
                let bytes = buf[..fits].to_vec();
                world.file(self.ino)?.change(Change::Write { at, bytes });
                return Ok(fits);
            };
            if world.free != u64::MAX {
                world.free = free;
            }
            world.file(self.ino)?.change(Change::Write { at, bytes: buf.to_vec() });
            Ok(buf.len())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fs.call(|world| {
            let file = world.file(self.ino)?;
            file.synced = file.bytes.clone();
            file.pending.clear();
            Ok(())
        })
    }

    fn size(&self) -> io::Result<u64> {
        self.look(|file| file.bytes.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.fs.call(|world| {
            let file = world.file(self.ino)?;
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            let freed = file.bytes.len().saturating_sub(len) as u64;
            file.change(Change::SetLen(len));
            world.free = world.free.saturating_add(freed);
            Ok(())
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)?;
        let mut world = self.fs.lock();
        if world.free != u64::MAX {
            world.free = world.free.saturating_sub(len);
        }
        Ok(())
    }

    fn modified_ms(&self) -> io::Result<i64> {
        Ok(0)
    }
}
