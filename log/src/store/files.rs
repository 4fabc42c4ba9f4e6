//! A [`TileStore`] of plain files, as any file server can serve them.
//!
//! An object is written under a temporary name, synced, renamed, and its folder synced; a new folder
//! is synced into its parent before it is used. A reader thus sees a whole object or none. A failed
//! sync is not tried again on the same file, for the kernel may have dropped its pages.
//!
//! The staged batch is one file, `.staged`, overwritten in place: making, renaming and removing a file
//! for each batch costs more than writing it. Its name stands before it, so one cut short by a crash
//! is not taken for the one before.

use super::{Source, StoreError, TileStore};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Seek as _, Write as _};
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
        let path = self.0.resolve(path)?;
        self.run(move |_| match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(failed("read", &path, error)),
        })
        .await
    }
}

#[async_trait]
impl TileStore for Files {
    async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        let path = self.0.resolve(path)?;
        self.run(move |inner| inner.put(&path, &bytes)).await
    }

    async fn discard(&self, path: &str) -> Result<(), StoreError> {
        let path = self.0.resolve(path)?;
        self.run(move |inner| inner.discard(&path)).await
    }

    async fn stage(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.run(move |inner| inner.stage(&name, &bytes)).await
    }

    async fn staged(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        let name = name.to_owned();
        self.run(move |inner| {
            let path = inner.root.join(STAGED);
            match fs::read(&path) {
                Ok(bytes) => Ok(read_staged(&name, &bytes.into())),
                Err(error) if absent(&error) => Ok(None),
                Err(error) => Err(failed("read", &path, error)),
            }
        })
        .await
    }

    /// In one blocking task: each file is synced, but each folder once.
    async fn put_all(&self, objects: &[(String, Bytes)]) -> Result<(), StoreError> {
        let resolved = |(path, bytes): &(String, Bytes)| Ok((self.0.resolve(path)?, bytes.clone()));
        let objects = objects.iter().map(resolved).collect::<Result<Vec<_>, _>>()?;
        self.run(move |inner| {
            let mut folders = HashSet::new();
            for (path, bytes) in &objects {
                folders.insert(inner.write(path, bytes)?);
            }
            folders.iter().try_for_each(|folder| sync_folder(folder))
        })
        .await
    }
}

impl Inner {
    fn resolve(&self, path: &str) -> Result<PathBuf, StoreError> {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
        let plain =
            |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(letter);
        if path.split('/').all(plain) {
            Ok(self.root.join(path))
        } else {
            Err(StoreError::Name { path: path.to_owned() })
        }
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let folder = self.write(path, bytes)?;
        sync_folder(&folder)
        // Restart finds the object from here on; before, it finds none, or the old checkpoint.
    }

    /// All of a put but the sync of its folder, which is returned.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<PathBuf, StoreError> {
        let folder = path.parent().expect("objects lie below the root").to_owned();
        self.make_folder(&folder)?;
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = folder.join(format!(".{number}.tmp"));
        let written = File::create(&temporary)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&temporary, path));
        written.map_err(|error| {
            let _ = fs::remove_file(&temporary); // gives the space back; the error is told either way
            failed("write", path, error)
        })?;
        Ok(folder)
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
        let written = file
            .rewind()
            .and_then(|()| file.write_all(&header))
            .and_then(|()| file.write_all(bytes))
            .and_then(|()| file.sync_data());
        written.map_err(told)?;
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

    fn discard(&self, path: &Path) -> Result<(), StoreError> {
        // The mutex keeps a folder from going away between its making and its first file.
        let mut durable = self.durable.lock();
        durable.retain(|folder| !folder.starts_with(path));
        let removed = match fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::IsADirectory => fs::remove_dir_all(path),
            // What macOS and the BSDs say of a folder.
            Err(error) if error.kind() == ErrorKind::PermissionDenied && path.is_dir() => {
                fs::remove_dir_all(path)
            }
            other => other,
        };
        match removed {
            Err(error) if !absent(&error) => Err(failed("remove", path, error)),
            _ => Ok(()),
        }
    }
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
            files.put("tile/0/000.p/7", text.into()).await.unwrap();
            assert_eq!(files.get("tile/0/000.p/7").await.unwrap().unwrap(), text);
        }
        let inside = fs::read_dir(folder.path().join("a/log/tile/0/000.p")).unwrap();
        assert_eq!(inside.count(), 1);
        for absent in ["tile/0/001", "tile/0", "tile/0/000.p/7/8"] {
            assert_eq!(files.get(absent).await.unwrap(), None, "{absent}");
        }
        files.discard("tile/0/000.p").await.unwrap();
        files.discard("tile/0/000.p").await.unwrap();
        assert_eq!(files.get("tile/0/000.p/7").await.unwrap(), None);
        files.put("tile/0/000.p/7", "again".into()).await.unwrap();
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
        let refused = files.put("tile/0/000", Bytes::new()).await.unwrap_err();
        assert!(refused.to_string().contains("tile"), "{refused}");
    }
}
