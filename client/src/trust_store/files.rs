//! The folder: what lies in it, and how it is read and written.

use super::Error;
use countersign_verify::encoding::hex;
use countersign_verify::key::HashAlgorithm;
use countersign_verify::limits::MAX_TRUSTED_ROOT;
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use url::Url;

/// What a file that is being written is called until it is whole.
const TEMPORARY: &str = ".countersign-";

/// Largest file that is read, in bytes: all TUF metadata of an instance with both targets.
const MAX_FILE: u64 = 64 << 20;

/// How often a process that waits for another one looks again.
const POLL: Duration = Duration::from_millis(50);

/// Where all instances are kept.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

/// An instance that was initialised.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stored {
    dir: PathBuf,
}

/// Where an instance's trust started.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A TUF root that is part of this program.
    Embedded,
    /// A TUF root in a file.
    RootFile,
    /// A TUF root with a digest that was given.
    Fingerprint,
    /// A trusted root or client trust config in a file; there is no repository.
    File,
}

/// What is decided once, when an instance is initialised.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Where its trust started.
    pub source: Source,
    /// The TUF repository; or the name it was given, when it came from a file.
    pub url: Option<Url>,
    /// The TUF root that a refresh starts from, JSON; none when it came from a file.
    pub root: Option<String>,
}

/// Versions of TUF metadata.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// Of the root, after rotations.
    pub root: u64,
    /// Of the timestamp.
    pub timestamp: u64,
    /// Of the snapshot.
    pub snapshot: u64,
    /// Of the targets.
    pub targets: u64,
}

/// What the last refresh brought.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// When it was.
    pub refreshed: Timestamp,
    /// When the first of root, timestamp, snapshot and targets expires; none when it came from a file.
    pub expires: Option<Timestamp>,
    /// Of the metadata; none when it came from a file.
    pub versions: Option<Versions>,
    /// SHA-256 of the trusted root, hex.
    pub trusted_root: String,
    /// SHA-256 of the signing config, hex.
    pub signing_config: Option<String>,
}

impl Store {
    /// In `dir`.
    #[must_use]
    pub const fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// As the environment says: `COUNTERSIGN_TRUST_DIR`, else `countersign/trust` below `XDG_DATA_HOME`,
    /// else below `.local/share` of `HOME`. None without any of them.
    pub fn find(env: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let path = |name| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = || Some(path("HOME")?.join(".local/share"));
        let data = || Some(path("XDG_DATA_HOME").or_else(home)?.join("countersign/trust"));
        path("COUNTERSIGN_TRUST_DIR").or_else(data).map(Self::new)
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The instance to use when none is named.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn default_instance(&self) -> Result<Option<Stored>, Error> {
        let path = self.dir.join("default");
        let Some(bytes) = read(&path)? else { return Ok(None) };
        let name = String::from_utf8(bytes).unwrap_or_default();
        let name = name.trim();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            return Err(Error::Damaged { path, expected: "the name of an instance's folder" });
        }
        self.initialised(self.dir.join(name))
    }

    /// The instance at `url`, if it was initialised; a slash at the end does not matter.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn by_url(&self, url: &Url) -> Result<Option<Stored>, Error> {
        self.initialised(self.dir.join(name(url)))
    }

    /// Where the instance of a URL is, or will be.
    pub(super) fn place(&self, url: &Url) -> Stored {
        Stored { dir: self.dir.join(name(url)) }
    }

    /// Where an instance without a URL is, or will be.
    pub(super) fn place_of_file(&self, trusted_root: &[u8]) -> Stored {
        Stored { dir: self.dir.join(format!("file-{}", &sha256(trusted_root)[..16])) }
    }

    /// Makes `stored` the instance to use when none is named.
    pub(super) fn set_default(&self, stored: &Stored) -> Result<(), Error> {
        let name = stored.name();
        replace(&self.dir.join("default"), format!("{name}\n").as_bytes())
    }

    fn initialised(&self, dir: PathBuf) -> Result<Option<Stored>, Error> {
        let state = dir.join("state.json");
        let there = state.try_exists();
        let there =
            there.map_err(|source| Error::File { action: "read", path: state.clone(), source })?;
        Ok(there.then_some(Stored { dir }))
    }
}

/// A folder's name for a URL: the host for people, the digest for the difference.
fn name(url: &Url) -> String {
    let text = url.as_str().trim_end_matches('/');
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let host: String = url.host_str().unwrap_or("host").chars().map(plain).collect();
    format!("{}-{}", host.trim_start_matches('.'), &sha256(text.as_bytes())[..16])
}

impl Stored {
    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its folder's name.
    #[must_use]
    pub fn name(&self) -> String {
        self.dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// What was decided when it was initialised.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn pin(&self) -> Result<Pin, Error> {
        self.json("pin.json", "what `trust init` wrote")
    }

    /// What the last refresh brought.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn state(&self) -> Result<State, Error> {
        self.json("state.json", "what the last refresh wrote")
    }

    /// The bytes of the trusted root in use, checked against its digest. No lock: a file that a refresh
    /// took away meanwhile is looked up anew.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged.
    pub fn trusted_root(&self) -> Result<Vec<u8>, Error> {
        let root = self.current(|state| Some(state.trusted_root.clone()))?;
        root.ok_or_else(|| self.damaged("state.json", "a trusted root's digest"))
    }

    /// The bytes of the signing config in use, if there is one; as [`trusted_root`](Self::trusted_root).
    ///
    /// # Errors
    /// When a file cannot be read or is damaged.
    pub fn signing_config(&self) -> Result<Option<Vec<u8>>, Error> {
        self.current(|state| state.signing_config.clone())
    }

    fn current(&self, digest: impl Fn(&State) -> Option<String>) -> Result<Option<Vec<u8>>, Error> {
        for _ in 0..3 {
            let Some(digest) = digest(&self.state()?) else { return Ok(None) };
            let file = format!("{digest}.json");
            match read(&self.dir.join(&file))? {
                Some(bytes) if sha256(&bytes) == digest => return Ok(Some(bytes)),
                Some(_) => return Err(self.damaged(&file, "a file with the SHA-256 of its name")),
                None => {}
            }
        }
        Err(self.damaged("state.json", "the digest of a file that is there"))
    }

    /// When a refresh last failed, if none succeeded since.
    #[must_use]
    pub fn last_failure(&self) -> Option<Timestamp> {
        let bytes = read(&self.dir.join("failed")).ok()??;
        std::str::from_utf8(&bytes).ok()?.trim().parse().ok()
    }

    /// Only spares later commands a wait, so a failure to write it is none.
    pub(super) fn note_failure(&self, now: Timestamp) {
        let _ = self.write("failed", now.to_string().as_bytes());
    }

    pub(super) fn is_initialised(&self) -> bool {
        self.dir.join("state.json").exists()
    }

    /// All TUF metadata of the last refresh, by name.
    pub(super) fn metadata(&self) -> Result<BTreeMap<String, String>, Error> {
        match read(&self.dir.join("metadata.json"))? {
            None if self.is_initialised() => {
                Err(self.damaged("metadata.json", "what the last refresh wrote"))
            }
            None => Ok(BTreeMap::new()),
            Some(bytes) => serde_json::from_slice(&bytes)
                .map_err(|_| self.damaged("metadata.json", "what the last refresh wrote")),
        }
    }

    /// Takes the writer's lock, waiting up to `wait`, and clears away what a killed writer left.
    pub(super) fn lock(&self, wait: Duration) -> Result<File, Error> {
        let path = self.dir.join("lock");
        let failed = |source| Error::File { action: "lock", path: path.clone(), source };
        fs::create_dir_all(&self.dir).map_err(failed)?;
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(failed)?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(failed(error)),
                Err(TryLockError::WouldBlock) if start.elapsed() < wait => {
                    std::thread::sleep(POLL);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Busy { path: self.dir.clone() });
                }
            }
        }
        self.remove(|name| name.starts_with(TEMPORARY));
        Ok(file)
    }

    pub(super) fn write(&self, file: &str, bytes: &[u8]) -> Result<(), Error> {
        replace(&self.dir.join(file), bytes)
    }

    /// Writes a file under its digest.
    pub(super) fn write_by_digest(&self, bytes: &[u8]) -> Result<String, Error> {
        let digest = sha256(bytes);
        self.write(&format!("{digest}.json"), bytes)?;
        Ok(digest)
    }

    /// Takes away targets that neither state names.
    pub(super) fn prune(&self, states: [Option<&State>; 2]) {
        let states = states.into_iter().flatten();
        let used: Vec<&String> = states
            .flat_map(|state| [Some(&state.trusted_root), state.signing_config.as_ref()])
            .flatten()
            .collect();
        self.remove(|name| {
            let digest = name.strip_suffix(".json").filter(|digest| digest.len() == 64);
            digest.is_some_and(|digest| !used.iter().any(|used| *used == digest))
        });
    }

    /// Nothing depends on these files, so one that stays is no error.
    fn remove(&self, unwanted: impl Fn(&str) -> bool) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(&unwanted) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn json<T: DeserializeOwned>(&self, file: &str, expected: &'static str) -> Result<T, Error> {
        let bytes = read(&self.dir.join(file))?.ok_or_else(|| self.damaged(file, expected))?;
        serde_json::from_slice(&bytes).map_err(|_| self.damaged(file, expected))
    }

    fn damaged(&self, file: &str, expected: &'static str) -> Error {
        Error::Damaged { path: self.dir.join(file), expected }
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let failed = |source| Error::File { action: "read", path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}

/// Puts a file in its place, whole and durable, or not at all.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::File { action: "write", path: path.to_owned(), source };
    let dir = path.parent().expect("a file in a folder");
    fs::create_dir_all(dir).map_err(failed)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(dir).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&HashAlgorithm::Sha256.digest(bytes))
}

// What is pruned or read by digest is at most as large as the verifier reads.
const _: () = assert!(MAX_TRUSTED_ROOT as u64 <= MAX_FILE);
