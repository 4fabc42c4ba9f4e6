//! A [`TileStore`] of plain files.
//!
//! - An object is written under a temporary name, synced, renamed, and its folder synced; a new folder
//!   is synced into its parent before it is used. A reader thus sees a whole object or none.
//! - A tile or bundle grows in the file `<name>.part` and is renamed when it is full. Partial ones are
//!   read out of either: what is there of them never changes. A file for each partial one would be
//!   written whole with every batch, to be removed soon; making and removing them took most of the
//!   time of a batch. These files are synced when they settle, not with each batch.
//! - Staged batches are in the files `.staged-0` and `.staged-1`, which take turns: one takes batches, and
//!   those in the other wait for their growth to settle. Then it is written over from its beginning, which
//!   costs a disk less than a new file. Batches bear the number of their turn, so that what is left from
//!   before is not taken for one of them.
//!
//! A failed sync is not tried again on the same bytes, for the kernel may have dropped its pages: they
//! are written anew.

use super::{Growth, Source, StagedBatch, StoreError, TileStore};
use async_trait::async_trait;
use bytes::Bytes;
use countersign_verify::tile::FULL;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One log's files below one folder.
#[derive(Clone, Debug)]
pub struct Files(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// Folders known to be durable in their parents.
    durable: Mutex<HashSet<PathBuf>>,
    /// Numbers temporary files. A restart begins at 0 again and so overwrites what a crash left.
    temporary: AtomicU64,
    staging: Mutex<Staging>,
    growing: Mutex<Growing>,
}

/// The files of staged batches, one batch after the other: u64 number of the turn, u16 length of name,
/// name, u16 length of the name before it, that name, u64 length, bytes. Big endian. What follows the last
/// of a turn is left from before.
const STAGED: [&str; 2] = [".staged-0", ".staged-1"];

#[derive(Debug)]
struct Staging {
    /// From 1, never the same again; odd and even ones have a file each.
    turn: u64,
    /// It, open; `None` before the first batch and after a failure.
    file: Option<File>,
    /// Where the next batch begins.
    end: u64,
    /// Whether the growth of batches in the other one is not settled.
    unsettled: bool,
}

impl Staging {
    /// The turn after all those that left something in `root`.
    fn after(root: &Path) -> Result<Self, StoreError> {
        let mut turn = 0;
        for file in STAGED {
            let bytes = read(&root.join(file))?.unwrap_or_default();
            turn = turn.max(batches(bytes).next().map_or(0, |(turn, _)| turn));
        }
        Ok(Self { turn: turn + 1, file: None, end: 0, unsettled: false })
    }

    fn path(&self, root: &Path) -> PathBuf {
        root.join(STAGED[usize::from(self.turn.is_multiple_of(2))])
    }
}

/// What has grown since it last settled. The files stay open, so that each sync tells of every failure
/// since they were written.
#[derive(Debug, Default)]
struct Growing {
    files: BTreeMap<PathBuf, File>,
    folders: BTreeSet<PathBuf>,
}

impl Files {
    /// The store below `root`, which is made if need be.
    ///
    /// # Errors
    /// When the folder cannot be made or written.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root = root.into();
        let (durable, temporary) = (Mutex::default(), AtomicU64::default());
        let (staging, growing) = (Mutex::new(Staging::after(&root)?), Mutex::default());
        let inner = Inner { root: root.clone(), durable, temporary, staging, growing };
        inner.make_folder(&root)?;
        Ok(Self(Arc::new(inner)))
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.0);
        let task = tokio::task::spawn_blocking(move || work(&inner));
        task.await.unwrap_or_else(|error| {
            let source = Arc::new(io::Error::other(error));
            Err(StoreError::Io { operation: "run the task for", path: String::new(), source })
        })
    }
}

#[async_trait]
impl Source for Files {
    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        let path = path.to_owned();
        self.run(move |inner| get(&inner.root, &path)).await
    }
}

/// The same files for whoever only reads them. Nothing is made or locked, so the log may be running.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The log whose files are below `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }
}

#[async_trait]
impl Source for Folder {
    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        get(&self.0, path)
    }
}

#[async_trait]
impl TileStore for Files {
    async fn grow(&self, growth: &[Growth]) -> Result<(), StoreError> {
        let paths = growth.iter().map(|growth| resolve(&self.0.root, &growth.path));
        let paths = paths.collect::<Result<Vec<_>, _>>()?;
        paths.iter().zip(growth).try_for_each(|(path, growth)| self.0.grow(path, growth))
    }

    async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        let path = resolve(&self.0.root, path)?;
        self.run(move |inner| inner.put(&path, &bytes)).await
    }

    async fn stage(&self, batch: StagedBatch) -> Result<(), StoreError> {
        self.0.stage(&batch)
    }

    async fn staged(&self) -> Result<Vec<StagedBatch>, StoreError> {
        self.run(Inner::staged).await
    }

    fn settle(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        let grown = self.0.turn();
        let files = self.clone();
        async move { files.run(move |inner| inner.settle(&grown)).await }.boxed()
    }
}

impl Inner {
    fn grow(&self, full: &Path, growth: &Growth) -> Result<(), StoreError> {
        let (mut growing, part) = (self.growing.lock(), part(full));
        let told = |error| failed("write", &part, error);
        let folder = parent(&part);
        // Growth that comes again may find the file renamed.
        let path = if growing.files.contains_key(full) { full } else { &*part };
        let file = match growing.files.remove(path) {
            Some(file) => file,
            None => match open(&part, full).map_err(told)? {
                Some(file) => file,
                None if growth.offset == 0 => {
                    self.make_folder(folder)?;
                    growing.folders.insert(folder.to_owned());
                    File::create(&part).map_err(told)?
                }
                None => return Err(shrunk(&part, growth, 0)),
            },
        };
        let found = file.metadata().map_err(|error| failed("read", &part, error))?.len();
        if found < growth.offset {
            return Err(shrunk(&part, growth, found));
        }
        file.write_all_at(&growth.bytes, growth.offset).map_err(told)?;
        let mut path = path;
        if growth.width == FULL && !full.exists() {
            fs::rename(&part, full).map_err(|error| failed("rename", &part, error))?;
            growing.folders.insert(folder.to_owned());
            path = full;
        }
        growing.files.insert(path.to_owned(), file);
        // Restart finds the growth or not, and the batch that it comes from staged.
        Ok(())
    }

    /// Has batches go to the other file from now on. Returns what is to be durable before those of this
    /// one are written over.
    fn turn(&self) -> Growing {
        let mut staging = self.staging.lock();
        // When the last settling failed, both files are needed until this one is done.
        if !staging.unsettled {
            *staging = Staging { turn: staging.turn + 1, file: None, end: 0, unsettled: true };
        }
        std::mem::take(&mut self.growing.lock())
    }

    fn settle(&self, grown: &Growing) -> Result<(), StoreError> {
        for (path, file) in &grown.files {
            file.sync_data().map_err(|error| failed("sync", path, error))?;
        }
        grown.folders.iter().try_for_each(|folder| sync_folder(folder))?;
        // Restart finds all that had grown, and has no need of its batches.
        self.staging.lock().unsettled = false;
        Ok(())
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let folder = parent(path);
        self.make_folder(folder)?;
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = folder.join(format!(".{number}.tmp"));
        let written = File::create(&temporary)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&temporary, path));
        written.map_err(|error| {
            let _ = fs::remove_file(&temporary); // gives the space back; the error is told either way
            failed("write", path, error)
        })?;
        sync_folder(folder)
        // Restart finds the object from here on; before, it finds none, or the old checkpoint.
    }

    fn stage(&self, batch: &StagedBatch) -> Result<(), StoreError> {
        let mut staging = self.staging.lock();
        let path = staging.path(&self.root);
        let told = |error| failed("write", &path, error);
        let file = match staging.file.take() {
            Some(file) => file,
            None => {
                let mut options = File::options();
                let file = options.write(true).create(true).truncate(false).open(&path);
                let file = file.map_err(told)?;
                sync_folder(&self.root)?;
                file
            }
        };
        let header = header(staging.turn, batch);
        let end = staging.end + header.len() as u64;
        let written = file.write_all_at(&header, staging.end);
        let written = written.and_then(|()| file.write_all_at(&batch.bytes, end));
        written.and_then(|()| file.sync_data()).map_err(told)?;
        // Restart finds the batch, which leads nowhere unless its tree is committed.
        staging.end = end + batch.bytes.len() as u64;
        staging.file = Some(file);
        Ok(())
    }

    fn staged(&self) -> Result<Vec<StagedBatch>, StoreError> {
        let mut staged = Vec::new();
        for file in STAGED {
            staged.extend(batches(read(&self.root.join(file))?.unwrap_or_default()));
        }
        staged.sort_by_key(|(turn, _)| *turn);
        Ok(staged.into_iter().map(|(_, batch)| batch).collect())
    }

    /// Makes a folder and those above it, each synced into its parent. The mutex is held throughout,
    /// so nobody uses a folder that another task has made but not synced yet.
    fn make_folder(&self, folder: &Path) -> Result<(), StoreError> {
        let mut durable = self.durable.lock();
        let mut missing: Vec<&Path> = Vec::new();
        for ancestor in folder.ancestors().take_while(|ancestor| !durable.contains(*ancestor)) {
            // Above the root, what is there was not made by us.
            let above = !ancestor.starts_with(&self.root);
            if above && (ancestor.as_os_str().is_empty() || ancestor.is_dir()) {
                break;
            }
            missing.push(ancestor);
        }
        for folder in missing.into_iter().rev() {
            match fs::create_dir(folder) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(failed("make the folder", folder, error));
                }
                _ => {}
            }
            // A folder that was there may come from a crash before this sync.
            match folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                Some(parent) => sync_folder(parent)?,
                None => sync_folder(Path::new("."))?,
            }
            durable.insert(folder.to_owned());
        }
        Ok(())
    }
}

/// The file that grows, or what it has become.
fn open(part: &Path, full: &Path) -> io::Result<Option<File>> {
    for path in [part, full] {
        match File::options().write(true).open(path) {
            Err(error) if absent(&error) => {}
            opened => return opened.map(Some),
        }
    }
    Ok(None)
}

fn shrunk(path: &Path, growth: &Growth, found: u64) -> StoreError {
    let (path, expected) = (path.display().to_string(), growth.offset);
    StoreError::Shrunk { path, expected, found }
}

fn resolve(root: &Path, path: &str) -> Result<PathBuf, StoreError> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(letter);
    if path.split('/').all(plain) {
        Ok(root.join(path))
    } else {
        Err(StoreError::Name { path: path.to_owned() })
    }
}

/// A partial object is looked for in the full one, then in what grows to be it.
fn get(root: &Path, path: &str) -> Result<Option<Bytes>, StoreError> {
    let (path, partial) = match path.split_once(".p/") {
        Some((full, _)) => (full, true),
        None => (path, false),
    };
    let path = resolve(root, path)?;
    match read(&path)? {
        None if partial => read(&part(&path)),
        found => Ok(found),
    }
}

fn read(path: &Path) -> Result<Option<Bytes>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes.into())),
        Err(error) if absent(&error) => Ok(None),
        Err(error) => Err(failed("read", path, error)),
    }
}

/// Where a tile or bundle grows.
fn part(full: &Path) -> PathBuf {
    full.with_extension("part")
}

fn parent(path: &Path) -> &Path {
    path.parent().expect("objects lie below the root")
}

/// What stands before a batch's bytes.
fn header(turn: u64, batch: &StagedBatch) -> Vec<u8> {
    let mut header = turn.to_be_bytes().to_vec();
    for name in [&batch.name, &batch.after] {
        header.extend(u16::try_from(name.len()).expect("names are short").to_be_bytes());
        header.extend(name.as_bytes());
    }
    header.extend((batch.bytes.len() as u64).to_be_bytes());
    header
}

/// The batches of a file that are of one turn, and its number.
fn batches(bytes: Bytes) -> impl Iterator<Item = (u64, StagedBatch)> {
    let (mut rest, mut first) = (bytes, None);
    std::iter::from_fn(move || {
        let found = batch(&mut rest)?;
        (*first.get_or_insert(found.0) == found.0).then_some(found)
    })
    .fuse()
}

fn batch(rest: &mut Bytes) -> Option<(u64, StagedBatch)> {
    fn take(rest: &mut Bytes, length: u64) -> Option<Bytes> {
        let length = usize::try_from(length).ok().filter(|length| *length <= rest.len())?;
        Some(rest.split_to(length))
    }
    fn number(rest: &mut Bytes, width: u64) -> Option<u64> {
        Some(take(rest, width)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }
    fn name(rest: &mut Bytes) -> Option<String> {
        let length = number(rest, 2)?;
        String::from_utf8(take(rest, length)?.to_vec()).ok()
    }
    let turn = number(rest, 8)?;
    let (name, after) = (name(rest)?, name(rest)?);
    let length = number(rest, 8)?;
    Some((turn, StagedBatch { name, after, bytes: take(rest, length)? }))
}

fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory)
}

fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| failed("sync the folder", folder, error))
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { operation, path: path.display().to_string(), source: Arc::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_object_reads_back_and_no_temporary_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path().join("a/log")).unwrap();
        for text in ["first", "second"] {
            files.put("issuer/00", text.into()).await.unwrap();
            assert_eq!(files.get("issuer/00").await.unwrap().unwrap(), text);
        }
        assert_eq!(fs::read_dir(folder.path().join("a/log/issuer")).unwrap().count(), 1);
        for absent in ["issuer/01", "issuer", "issuer/00/8"] {
            assert_eq!(files.get(absent).await.unwrap(), None, "{absent}");
        }
    }

    #[tokio::test]
    async fn a_tile_grows_and_can_be_read_in_part_before_and_after_it_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path()).unwrap();
        let grow = async |offset, bytes: &'static str, width| {
            let (path, bytes) = ("tile/0/000".to_owned(), bytes.into());
            files.grow(&[Growth { path, offset, bytes, width }]).await
        };
        let get = async |path| files.get(path).await.unwrap();
        assert_eq!(get("tile/0/000.p/1").await, None);
        // After a crash the same growth comes again, over what is left of the first time.
        for bytes in ["on", "one"] {
            grow(0, bytes, 1).await.unwrap();
        }
        assert_eq!(get("tile/0/000.p/1").await.unwrap(), "one");
        assert!(matches!(grow(4, "x", 2).await, Err(StoreError::Shrunk { found: 3, .. })));
        assert_eq!(get("tile/0/000").await, None);
        // After a crash all of it may come again, over what was full already.
        for _ in 0..2 {
            grow(3, " more", FULL).await.unwrap();
            for path in ["tile/0/000", "tile/0/000.p/1"] {
                assert_eq!(get(path).await.unwrap(), "one more", "{path}");
            }
            files.settle().await.unwrap();
            grow(0, "one", 1).await.unwrap();
            assert_eq!(get("tile/0/000").await.unwrap(), "one more");
        }
    }

    fn staged(name: u32, bytes: &'static str) -> StagedBatch {
        let [after, name] = [name - 1, name].map(|size| size.to_string());
        StagedBatch { name, after, bytes: bytes.into() }
    }

    #[tokio::test]
    async fn batches_are_found_in_their_order_until_their_growth_is_settled() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path()).unwrap();
        let found = async || {
            // Whoever opens it anew finds the same.
            let again = Files::open(folder.path()).unwrap().staged().await.unwrap();
            assert_eq!(again, files.staged().await.unwrap());
            again.iter().map(|batch| batch.name.parse().unwrap()).collect::<Vec<u32>>()
        };
        assert_eq!(found().await, [0; 0]);
        files.stage(staged(1, "one")).await.unwrap();
        files.stage(staged(2, "a long batch")).await.unwrap();
        assert_eq!(found().await, [1, 2]);
        // What comes while others settle lies elsewhere, and comes after them.
        let settling = files.settle();
        files.stage(staged(3, "")).await.unwrap();
        assert_eq!(found().await, [1, 2, 3]);
        settling.await.unwrap();
        // Now the first two are written over.
        files.settle().await.unwrap();
        files.stage(staged(4, "short")).await.unwrap();
        assert_eq!(found().await, [3, 4]);
        // Of two for one tree the later comes later, also when the store was opened in between.
        for text in ["again", "and again", "at last"] {
            let files = Files::open(folder.path()).unwrap();
            files.stage(staged(5, text)).await.unwrap();
            let last = async || files.staged().await.unwrap().pop().unwrap();
            assert_eq!(last().await, staged(5, text));
            files.settle().await.unwrap();
            files.stage(staged(5, "elsewhere")).await.unwrap();
            assert_eq!(last().await, staged(5, "elsewhere"));
        }
    }

    #[tokio::test]
    async fn a_batch_cut_short_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path()).unwrap();
        files.stage(staged(1, "one")).await.unwrap();
        files.stage(staged(2, "two")).await.unwrap();
        let path = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let whole = Bytes::from(fs::read(path).unwrap());
        for end in 0..=whole.len() {
            let expected = 2 * end / whole.len(); // both are of one length
            assert_eq!(batches(whole.slice(..end)).count(), expected, "{end}");
        }
    }

    /// A failed sync is made with a folder that is gone.
    #[tokio::test]
    async fn what_did_not_settle_keeps_its_batches_until_it_does() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path()).unwrap();
        let growth = |path: &str| {
            let (path, bytes) = (path.to_owned(), Bytes::from_static(b"x"));
            [Growth { path, offset: 0, bytes, width: 1 }]
        };
        files.stage(staged(1, "one")).await.unwrap();
        files.grow(&growth("tile/0/000")).await.unwrap();
        fs::rename(folder.path().join("tile"), folder.path().join("away")).unwrap();
        files.settle().await.unwrap_err();
        fs::rename(folder.path().join("away"), folder.path().join("tile")).unwrap();
        files.stage(staged(2, "two")).await.unwrap();
        files.grow(&growth("tile/0/000")).await.unwrap();
        files.settle().await.unwrap();
        assert_eq!(files.staged().await.unwrap().len(), 2);
        files.stage(staged(3, "three")).await.unwrap();
        assert_eq!(files.staged().await.unwrap().len(), 3);
    }

    #[tokio::test]
    async fn names_stay_inside_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path()).unwrap();
        for name in ["", "/etc/passwd", "../up", "a/../b", "a//b", "a/", ".hidden", "a\\b", "a\0"] {
            let refused = files.put(name, Bytes::new()).await;
            assert!(matches!(refused, Err(StoreError::Name { .. })), "{name:?}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_is_told() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tile"), "in the way").unwrap();
        let files = Files::open(folder.path()).unwrap();
        let (path, bytes) = ("tile/0/000".to_owned(), Bytes::new());
        let growth = [Growth { path, offset: 0, bytes, width: 1 }];
        let refused = files.grow(&growth).await.unwrap_err();
        assert!(refused.to_string().contains("tile"), "{refused}");
    }
}
