//! A disk in memory, for brokers that are to be fast and to leave nothing: tests, mostly.
//!
//! It keeps what was written apart from what was synced, as a disk does, so that its power can fail. For the many ways in which a
//! disk may lose what was not synced, and for calls that fail, there is the simulated one of [`testing`](crate::testing).

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Component, Path};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{DirEntry, File, Fs, OpenMode};

/// A disk in memory. Clones are the same disk; it is gone with the last of them and of what was mounted from it.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    disk: Arc<Disk>,
}

#[derive(Default)]
struct Disk {
    tree: Mutex<Tree>,
    /// The mount that may use it.
    mounted: AtomicU64,
}

/// A disk as one life of a broker sees it.
#[derive(Clone)]
struct Mount {
    disk: Arc<Disk>,
    number: u64,
}

type Ino = u64;
const ROOT: Ino = 0;

struct Tree {
    nodes: BTreeMap<Ino, Node>,
    next_ino: Ino,
}

enum Node {
    File(Arc<Content>),
    Dir(Dir),
}

#[derive(Default)]
struct Dir {
    names: BTreeMap<String, Ino>,
    /// As of the last sync.
    synced: BTreeMap<String, Ino>,
}

/// What is in a file. Outlives its name while somebody has it open.
#[derive(Default)]
struct Content {
    data: RwLock<Data>,
}

#[derive(Default)]
struct Data {
    bytes: Vec<u8>,
    modified_ms: i64,
    /// How to get back to the last sync: the newest last.
    undo: Vec<Undo>,
}

/// Takes back one change: the file had this length, and these bytes there.
struct Undo {
    len: usize,
    at: usize,
    bytes: Vec<u8>,
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The disk for one life of a broker. Earlier lives have lost it: each of their calls fails from now on, so that threads of
    /// a broker that crashed cannot write into the next one's files.
    #[must_use]
    pub fn mount(&self) -> Arc<dyn Fs> {
        let number = self.disk.mounted.fetch_add(1, Ordering::SeqCst) + 1;
        Arc::new(Mount { disk: Arc::clone(&self.disk), number })
    }

    /// Loses what was not synced, in files and names, and takes the disk from who has mounted it.
    pub fn power_loss(&self) {
        // First, so that nothing is written behind what follows: writes look at it under the lock of their file.
        self.disk.mounted.fetch_add(1, Ordering::SeqCst);
        let mut tree = self.disk.tree();
        for node in tree.nodes.values_mut() {
            match node {
                Node::File(content) => content.write().go_back(),
                Node::Dir(dir) => dir.names.clone_from(&dir.synced),
            }
        }
        tree.forget_unreachable();
    }

    /// Bytes in all files.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        let files = |node: &Node| match node {
            Node::File(content) => content.read(|data| data.bytes.len() as u64),
            Node::Dir(_) => 0,
        };
        self.disk.tree().nodes.values().map(files).sum()
    }
}

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDisk").field("used_bytes", &self.used_bytes()).finish()
    }
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDisk").field("mount", &self.number).finish_non_exhaustive()
    }
}

impl Disk {
    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mount {
    /// Refuses calls of a life that is over. To be called with the lock of what is to be changed.
    fn check(&self) -> io::Result<()> {
        if self.disk.mounted.load(Ordering::SeqCst) == self.number {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::NotConnected, "the disk belongs to a later life"))
    }

    fn tree(&self) -> io::Result<MutexGuard<'_, Tree>> {
        let tree = self.disk.tree();
        self.check()?;
        Ok(tree)
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: BTreeMap::from([(ROOT, Node::Dir(Dir::default()))]), next_ino: ROOT + 1 }
    }
}

impl Tree {
    fn find(&self, path: &Path) -> io::Result<Ino> {
        let mut ino = ROOT;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let Some(Node::Dir(dir)) = self.nodes.get(&ino) else { return Err(not_found(path)) };
            match dir.names.get(&*name.to_string_lossy()) {
                Some(found) => ino = *found,
                None => return Err(not_found(path)),
            }
        }
        Ok(ino)
    }

    fn dir(&mut self, ino: Ino) -> io::Result<&mut Dir> {
        match self.nodes.get_mut(&ino) {
            Some(Node::Dir(dir)) => Ok(dir),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn file(&self, ino: Ino) -> io::Result<&Arc<Content>> {
        match self.nodes.get(&ino) {
            Some(Node::File(content)) => Ok(content),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// The directory that has `path`, and its name there.
    fn parent(&self, path: &Path) -> io::Result<(Ino, String)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.find(path.parent().unwrap_or(Path::new("")))?;
        Ok((dir, name.to_string_lossy().into_owned()))
    }

    fn add(&mut self, dir: Ino, name: String, node: Node) -> io::Result<Ino> {
        let ino = self.next_ino;
        self.dir(dir)?.names.insert(name, ino);
        self.next_ino += 1;
        self.nodes.insert(ino, node);
        Ok(ino)
    }

    fn remove(&mut self, path: &Path, is_removable: fn(&Node) -> io::Result<()>) -> io::Result<()> {
        let ino = self.find(path)?;
        if let Some(node) = self.nodes.get(&ino) {
            is_removable(node)?;
        }
        let (dir, name) = self.parent(path)?;
        let dir = self.dir(dir)?;
        dir.names.remove(&name);
        // A name that was synced may come back.
        if !dir.synced.values().any(|synced| *synced == ino) {
            self.nodes.remove(&ino);
        }
        Ok(())
    }

    /// Forgets what no directory names, now or as of its last sync.
    fn forget_unreachable(&mut self) {
        let mut reachable = std::collections::BTreeSet::from([ROOT]);
        let mut todo = vec![ROOT];
        while let Some(ino) = todo.pop() {
            if let Some(Node::Dir(dir)) = self.nodes.get(&ino) {
                let named = dir.names.values().chain(dir.synced.values());
                todo.extend(named.filter(|ino| reachable.insert(**ino)));
            }
        }
        self.nodes.retain(|ino, _| reachable.contains(ino));
    }
}

impl Content {
    fn read<R>(&self, read: impl FnOnce(&Data) -> R) -> R {
        read(&self.data.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self) -> RwLockWriteGuard<'_, Data> {
        self.data.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Data {
    fn write_at(&mut self, at: usize, written: &[u8]) {
        let end = at.saturating_add(written.len());
        self.remember(at, end);
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[at..end].copy_from_slice(written);
        self.touch();
    }

    fn set_len(&mut self, len: usize) {
        self.remember(len, usize::MAX);
        self.bytes.resize(len, 0);
        self.touch();
    }

    /// Before the bytes `from..to` change, or the length.
    fn remember(&mut self, from: usize, to: usize) {
        let len = self.bytes.len();
        let bytes = self.bytes.get(from..to.min(len)).unwrap_or_default().to_vec();
        // What only grows the file goes when an earlier change is taken back.
        if !bytes.is_empty() || self.undo.is_empty() {
            self.undo.push(Undo { len, at: from.min(len), bytes });
        }
    }

    fn go_back(&mut self) {
        while let Some(Undo { len, at, bytes }) = self.undo.pop() {
            self.bytes.resize(len, 0);
            self.bytes[at..at + bytes.len()].copy_from_slice(&bytes);
        }
    }

    fn touch(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.modified_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    }
}

impl Fs for Mount {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.tree()?;
        let mut dir = ROOT;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let name = name.to_string_lossy().into_owned();
            let found = tree.dir(dir)?.names.get(&name).copied();
            dir = match found {
                Some(found) => found,
                None => tree.add(dir, name, Node::Dir(Dir::default()))?,
            };
        }
        // The last one may be a file.
        tree.dir(dir).map(|_| ())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut tree = self.tree()?;
        let content = match (tree.find(path), mode) {
            (Ok(ino), _) => Arc::clone(tree.file(ino)?),
            (Err(_), OpenMode::Create) => {
                let (dir, name) = tree.parent(path)?;
                let content = Arc::<Content>::default();
                content.write().touch();
                tree.add(dir, name, Node::File(Arc::clone(&content)))?;
                content
            }
            (Err(missing), OpenMode::Read | OpenMode::Write) => return Err(missing),
        };
        if mode == OpenMode::Create {
            content.write().set_len(0);
        }
        drop(tree);
        Ok(Arc::new(MemoryFile { mount: self.clone(), content }))
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        let tree = self.tree()?;
        let content = tree.file(tree.find(path)?)?;
        Ok(content.read(|data| data.bytes.len() as u64))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut tree = self.tree()?;
        let ino = tree.find(dir)?;
        let names: Vec<_> =
            tree.dir(ino)?.names.iter().map(|(name, ino)| (name.clone(), *ino)).collect();
        let is_dir = |ino| matches!(tree.nodes.get(&ino), Some(Node::Dir(_)));
        Ok(names.into_iter().map(|(name, ino)| DirEntry { name, is_dir: is_dir(ino) }).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = self.tree()?;
        let ino = tree.find(from)?;
        let ((dir, old), (to_dir, new)) = (tree.parent(from)?, tree.parent(to)?);
        if dir != to_dir {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        let dir = tree.dir(dir)?;
        dir.names.remove(&old);
        let replaced = dir.names.insert(new, ino);
        let is_kept = |gone: &Ino| dir.synced.values().any(|synced| synced == gone) || *gone == ino;
        if let Some(gone) = replaced.filter(|gone| !is_kept(gone)) {
            tree.nodes.remove(&gone);
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.tree()?.remove(path, |node| match node {
            Node::File(_) => Ok(()),
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        })
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.tree()?.remove(path, |node| match node {
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
            Node::Dir(dir) if !dir.names.is_empty() => Err(io::ErrorKind::DirectoryNotEmpty.into()),
            Node::Dir(_) => Ok(()),
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut tree = self.tree()?;
        let ino = tree.find(dir)?;
        let dir = tree.dir(ino)?;
        let before = std::mem::replace(&mut dir.synced, dir.names.clone());
        let is_gone = |ino: &Ino| !dir.names.values().any(|named| named == ino);
        if before.values().any(is_gone) {
            tree.forget_unreachable();
        }
        Ok(())
    }

    fn free_space(&self, _path: &Path) -> io::Result<u64> {
        self.check()?;
        Ok(u64::MAX)
    }

    /// Nobody else has this mount, and there is one at a time.
    fn lock_dir(&self, _dir: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.check()?;
        Ok(Box::new(()))
    }
}

struct MemoryFile {
    mount: Mount,
    content: Arc<Content>,
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryFile").field("mount", &self.mount.number).finish_non_exhaustive()
    }
}

impl MemoryFile {
    fn look<R>(&self, look: impl FnOnce(&Data) -> R) -> io::Result<R> {
        self.content.read(|data| self.mount.check().map(|()| look(data)))
    }

    fn change<R>(&self, change: impl FnOnce(&mut Data) -> R) -> io::Result<R> {
        let mut data = self.content.write();
        self.mount.check()?;
        Ok(change(&mut data))
    }
}

impl File for MemoryFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.look(|data| {
            let at = usize::try_from(offset).unwrap_or(usize::MAX).min(data.bytes.len());
            let n = buf.len().min(data.bytes.len() - at);
            buf[..n].copy_from_slice(&data.bytes[at..at + n]);
            n
        })
    }

    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.read_at(buf, offset).map(Some)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let at = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.change(|data| data.write_at(at, buf))?;
        Ok(buf.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(|data| data.undo.clear())
    }

    fn size(&self) -> io::Result<u64> {
        self.look(|data| data.bytes.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.change(|data| data.set_len(len))
    }

    /// Memory is not reserved; only the length is as it would be.
    fn allocate(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.change(|data| {
            if data.bytes.len() < len {
                data.set_len(len);
            }
        })
    }

    fn modified_ms(&self) -> io::Result<i64> {
        self.look(|data| data.modified_ms)
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.display().to_string())
}

#[cfg(test)]
mod tests;
