//! A [`TileStore`] of plain files.
//!
//! - An object is written under a temporary name, synced, renamed, and its folder synced; a new folder
//!   is synced into its parent before it is used. A reader thus sees a whole object or none.
//! - A tile or bundle grows in the file `<name>.part` and is renamed when it is full. Partial ones are
//!   read out of either: what is there of them never changes. A file for each partial one would be
//!   written whole with every batch, to be removed soon; making and removing them took most of the
//!   time of a batch.
//! - The staged batch is the file `.staged`, overwritten in place. Its name stands before it, so one
//!   cut short by a crash is not taken for the one before.
//!
//! A failed sync is not tried again on the same bytes, for the kernel may have dropped its pages: they
//! are written anew.

use super::{Growth, Source, StoreError, TileStore};
use async_trait::async_trait;
use bytes::Bytes;
use countersign_verify::tile::FULL;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Seek as _, SeekFrom, Write as _};
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
    /// The open file of the staged batch; `None` before the first and after a failure.
    staging: Mutex<Option<File>>,
}

/// The file of the staged batch: u16 length of name, name, u64 length, bytes. Big endian. What follows
/// is left from longer batches.
const STAGED: &str = ".staged";

impl Files {
    /// The store below `root`, which is made if need be.
    ///
    /// # Errors
    /// When the folder cannot be made or written.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root = root.into();
        let (durable, temporary, staging) =
            (Mutex::default(), AtomicU64::default(), Mutex::default());
        let inner = Inner { root: root.clone(), durable, temporary, staging };
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
        let resolved = |growth: &Growth| Ok((resolve(&self.0.root, &growth.path)?, growth.clone()));
        let growth = growth.iter().map(resolved).collect::<Result<Vec<_>, _>>()?;
        self.run(move |inner| growth.iter().try_for_each(|(path, growth)| inner.grow(path, growth)))
            .await
    }

    async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        let path = resolve(&self.0.root, path)?;
        self.run(move |inner| inner.put(&path, &bytes)).await
    }

    async fn stage(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.run(move |inner| inner.stage(&name, &bytes)).await
    }

    async fn staged(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        let name = name.to_owned();
        self.run(move |inner| {
            let path = inner.root.join(STAGED);
            Ok(read(&path)?.and_then(|bytes| read_staged(&name, &bytes)))
        })
        .await
    }
}

impl Inner {
    fn grow(&self, full: &Path, growth: &Growth) -> Result<(), StoreError> {
        let part = part(full);
        let folder = parent(&part);
        let shrunk = |found| {
            let (path, expected) = (part.display().to_string(), growth.offset);
            StoreError::Shrunk { path, expected, found }
        };
        let file = match File::options().write(true).open(&part) {
            // Growth that comes again: all was done but, maybe, to sync the renaming.
            Err(_) if full.exists() => return sync_folder(folder),
            Err(error) if absent(&error) && growth.offset == 0 => {
                self.make_folder(folder)?;
                File::create(&part).map_err(|error| failed("write", &part, error))?
            }
            Err(error) if absent(&error) => return Err(shrunk(0)),
            opened => opened.map_err(|error| failed("write", &part, error))?,
        };
        let found = file.metadata().map_err(|error| failed("read", &part, error))?.len();
        if found < growth.offset {
            return Err(shrunk(found));
        }
        let written = write_at(file, growth.offset, &growth.bytes);
        written.map_err(|error| failed("write", &part, error))?;
        if growth.width == FULL {
            fs::rename(&part, full).map_err(|error| failed("rename", &part, error))?;
        }
        // Also when the file was there: a crash may have come between its making and this.
        if growth.offset == 0 || growth.width == FULL {
            sync_folder(folder)?;
        }
        // Restart finds the growth, which the published checkpoint does not cover yet.
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

    fn stage(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.root.join(STAGED);
        let told = |error| failed("write", &path, error);
        let mut staging = self.staging.lock();
        let mut file = match staging.take() {
            Some(file) => file,
            None => {
                let mut options = File::options();
                let file = options.write(true).create(true).truncate(false).open(&path);
                let file = file.map_err(told)?;
                sync_folder(&self.root)?;
                file
            }
        };
        let length = u16::try_from(name.len()).expect("names are short").to_be_bytes();
        let size = (bytes.len() as u64).to_be_bytes();
        let header = [&length[..], name.as_bytes(), &size].concat();
        let written = file.rewind().and_then(|()| file.write_all(&header));
        let written = written.and_then(|()| file.write_all(bytes));
        written.and_then(|()| file.sync_data()).map_err(told)?;
        *staging = Some(file);
        Ok(())
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

fn write_at(mut file: File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)?;
    file.sync_data()
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

fn read_staged(name: &str, bytes: &Bytes) -> Option<Bytes> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (found, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let (size, rest) = rest.split_first_chunk::<8>()?;
    let batch = rest.get(..usize::try_from(u64::from_be_bytes(*size)).ok()?)?;
    (found == name.as_bytes()).then(|| bytes.slice_ref(batch))
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
        for _ in 0..2 {
            grow(3, " more", FULL).await.unwrap();
            for path in ["tile/0/000", "tile/0/000.p/1"] {
                assert_eq!(get(path).await.unwrap(), "one more", "{path}");
            }
        }
    }

    #[tokio::test]
    async fn the_batch_last_staged_is_found_by_its_name_only() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path()).unwrap();
        assert_eq!(files.staged("1-root").await.unwrap(), None);
        files.stage("1-root", "a long batch".into()).await.unwrap();
        files.stage("2-root", "short".into()).await.unwrap();
        let again = Files::open(folder.path()).unwrap();
        assert_eq!(again.staged("2-root").await.unwrap().unwrap(), "short");
        assert_eq!(again.staged("1-root").await.unwrap(), None);
        again.stage("3-root", "".into()).await.unwrap();
        assert_eq!(files.staged("3-root").await.unwrap().unwrap(), "");
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
