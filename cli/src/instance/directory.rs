//! The directory of an instance: taken by one process, its files written whole.

use super::{DATABASE, known};
use crate::failure::Failure;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use url::Url;
use zeroize::Zeroizing;

/// What is remembered of an instance.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// By which clients reach it.
    #[serde(serialize_with = "without_slash")]
    pub(crate) url: Url,
    /// The signature log's origin: the host of the URL.
    pub(crate) log_origin: String,
    /// The certificate log's origin: host and port of the URL at the time it was made.
    pub(crate) certificate_log_origin: String,
    /// When it was made; its keys are trusted from an hour before.
    pub(crate) created: String,
}

impl Settings {
    /// Those in a directory; `None` when there is no instance.
    pub(crate) fn read(directory: &Path) -> Result<Option<Self>, Failure> {
        let path = directory.join("instance.json");
        match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json).map(Some).map_err(|error| {
                Failure::unclear(format!("{}: {error}", path.display())).hint(known::PUT_BACK)
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::file("read", &path, &error)),
        }
    }

    /// Whether the instance can be served at `url`.
    pub(crate) fn fit(&self, url: &Url) -> Result<(), Failure> {
        let (name, host) = (&self.log_origin, host(url)?);
        if *name == host {
            return Ok(());
        }
        let message =
            format!("its log is named {name:?} for good; it cannot be served at host {host:?}");
        Err(Failure::unclear(message)
            .hint("leave that host in the URL, or make another instance in another directory"))
    }

    pub(super) fn created(&self) -> Result<Timestamp, Failure> {
        self.created
            .parse()
            .map_err(|_| Failure::unclear("instance.json: \"created\" is not a time in RFC 3339"))
    }
}

/// The host of a URL, which names the logs.
fn host(url: &Url) -> Result<String, Failure> {
    let host = url.host_str().ok_or_else(|| Failure::unclear(format!("{url} has no host")))?;
    Ok(host.trim_matches(['[', ']']).to_owned())
}

/// As it stands in tokens and certificates, so that whoever copies it from here gets it right.
fn without_slash<S: serde::Serializer>(url: &Url, target: S) -> Result<S::Ok, S::Error> {
    target.serialize_str(url.as_str().trim_end_matches('/'))
}

/// A directory that this process alone may run.
pub(crate) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Takes the directory for this process, making it if need be.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::file("write to", path, &error);
        fs::create_dir_all(path).map_err(failed)?;
        let name = path.join("instance.lock");
        let mut options = OpenOptions::new();
        let mut lock = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(name)
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut process = String::new();
                let _ = lock.read_to_string(&mut process); // only for the message
                let process = process.trim();
                return Err(Failure::unclear(format!(
                    "the directory {} is in use by process {process}",
                    path.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id())).map_err(failed)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// What is remembered; `None` for a new instance.
    pub(crate) fn settings(&self) -> Result<Option<Settings>, Failure> {
        Settings::read(&self.path)
    }

    /// The settings for `url`: those remembered, or new ones.
    pub(crate) fn settle(&self, url: &Url) -> Result<Settings, Failure> {
        let settings = match self.settings()? {
            Some(settings) => {
                settings.fit(url)?;
                Settings { url: url.clone(), ..settings }
            }
            None if self.file(DATABASE).exists() => {
                let path = self.file("instance.json");
                let message = format!("{} is missing, but there is a {DATABASE}", path.display());
                return Err(Failure::unclear(message).hint(known::PUT_BACK));
            }
            None => {
                let host = host(url)?;
                let authority = url.as_str().split_once("://").map_or("", |(_, rest)| rest);
                Settings {
                    url: url.clone(),
                    certificate_log_origin: authority.trim_end_matches('/').to_owned(),
                    log_origin: host,
                    created: Timestamp::now().to_string(),
                }
            }
        };
        let json = serde_json::to_vec_pretty(&settings).expect("texts only");
        self.write("instance.json", &json)?;
        Ok(settings)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A file's text; if it is not there yet, `make` makes it, durably and for the owner's eyes only.
    pub(crate) fn secret(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<Zeroizing<String>, Failure>,
    ) -> Result<Zeroizing<String>, Failure> {
        let path = self.file(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.into()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let text = make()?;
                self.write(name, text.as_bytes())?;
                Ok(text)
            }
            Err(error) => Err(Failure::file("read", &path, &error)),
        }
    }

    /// Puts a file in place, see [`write`].
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<(), Failure> {
        write(&self.file(name), content)
    }
}

/// Puts a file in place whole and durably, readable by its owner only (the default of tempfile); makes its
/// folder if need be. Only a regular file is replaced: renaming would also replace `/dev/null` or a pipe.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::file("write", path, &error);
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let message = format!("{} is there and is not a regular file", path.display());
        return Err(Failure::unclear(message).hint("nothing was written; give the name of a file"));
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

#[cfg(all(test, unix))]
mod tests {
    use super::write;
    use std::os::unix::fs::FileTypeExt as _;

    #[test]
    fn a_device_or_a_pipe_is_not_replaced_by_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(write(&path, b"content").unwrap_err().text().contains("is not a regular file"));
        assert!(std::fs::metadata(&path).unwrap().file_type().is_socket());
    }
}
