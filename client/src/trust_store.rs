//! Trust that is kept on this machine: instances, each with its latest trusted root, refreshed by TUF.
//!
//! The Update Framework, client workflow of specification 1.0, by the crate `sigstore-tuf`; here are the
//! pin, the folder, and the rules of age. Never trusted on first use: a repository needs its root, or the
//! digest of it. One folder an instance:
//!
//! ```text
//! default                the name of the instance used when none is named
//! NAME/pin.json          URL and bootstrap root; written once
//! NAME/state.json        names the files in use, versions, times; its renaming is the commit
//! NAME/HASH.json         trusted root and signing config, by their SHA-256, so that readers never lock
//! NAME/metadata.json     all TUF metadata in one file, so that it is never of two refreshes
//! NAME/failed            when a refresh last failed
//! NAME/lock              held by the one process that writes
//! ```
//!
//! Every file appears by renaming, after it was synced. A refresh that fails keeps only the roots that it
//! verified: they are what a later one has to start from.

mod files;
mod refresh;

pub use files::{Pin, Source, State, Store, Stored, Versions};
pub use refresh::{Change, Start, fetch_root, init, init_file, update};

use jiff::{SignedDuration, Timestamp};
use std::path::PathBuf;

/// The trusted root, as TUF repositories of Sigstore name it.
pub const TRUSTED_ROOT_TARGET: &str = "trusted_root.json";
/// The signing config; a repository may be without.
pub const SIGNING_CONFIG_TARGET: &str = "signing_config.v0.2.json";

/// After how long a command that may use the network refreshes first.
pub const REFRESH_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// After how long a refresh that failed is tried again, unless somebody asks for it.
pub const RETRY_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// For how long expired metadata is used, with a warning.
pub const GRACE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What age makes of stored trust.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Age {
    /// Metadata has not expired, or never does.
    Fresh,
    /// Expired, within [`GRACE`].
    Stale {
        /// When it expired.
        expired: Timestamp,
    },
    /// Expired for longer than [`GRACE`].
    Expired {
        /// When it expired.
        expired: Timestamp,
    },
}

impl State {
    /// What age makes of it at `now`.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Age {
        match self.expires {
            Some(expired) if now.duration_since(expired) > GRACE => Age::Expired { expired },
            Some(expired) if now > expired => Age::Stale { expired },
            _ => Age::Fresh,
        }
    }

    /// Whether a refresh is due at `now`: the last one is a day old, or from the future, or what it
    /// brought has expired.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        let age = now.duration_since(self.refreshed);
        let expired = self.expires.is_some_and(|expires| expires < now);
        self.expires.is_some() && (age > REFRESH_AFTER || age.is_negative() || expired)
    }
}

impl Stored {
    /// Whether a refresh is due at `now`, and none failed just before.
    #[must_use]
    pub fn should_refresh(&self, state: &State, now: Timestamp) -> bool {
        let recent = |failed| {
            let age = now.duration_since(failed);
            !age.is_negative() && age < RETRY_AFTER
        };
        state.is_due(now) && !self.last_failure().is_some_and(|f| f > state.refreshed && recent(f))
    }
}

/// Why trust could not be stored, refreshed or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file of the folder is not as it was written.
    #[error("{} is damaged: expected {expected}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
    },
    /// Another process writes.
    #[error("another process refreshes {}", path.display())]
    Busy {
        /// The instance's folder.
        path: PathBuf,
    },
    /// An instance that came from a file.
    #[error("this instance came from a file, so there is nowhere to refresh it from")]
    NoRepository,
    /// A second root for an instance that is pinned.
    #[error("{url} is pinned to another root: expected SHA-256 {expected}, found {found}")]
    OtherRoot {
        /// The repository.
        url: String,
        /// SHA-256 of the pinned root, hex.
        expected: String,
        /// SHA-256 of the given root, hex.
        found: String,
    },
    /// The repository's root is not the one asked for.
    #[error("{url}: expected a root.json with SHA-256 {expected}, found {found}")]
    Fingerprint {
        /// The repository.
        url: String,
        /// As asked for, hex.
        expected: String,
        /// As served, hex.
        found: String,
    },
    /// Not a base URL of HTTP.
    #[error("expected an http or https URL, found {url}")]
    Url {
        /// What was found.
        url: String,
    },
    /// The HTTP client could not be set up.
    #[error("TLS cannot be set up: {reason}")]
    Setup {
        /// What failed.
        reason: String,
    },
    /// Out of time.
    #[error("{url} did not bring a whole refresh within {seconds} s")]
    Slow {
        /// The repository.
        url: String,
        /// The limit.
        seconds: u64,
    },
    /// The update framework says no, or the repository is away.
    #[error("{url}: {reason}")]
    Tuf {
        /// The repository.
        url: String,
        /// The error and its causes.
        reason: String,
        /// What it is.
        source: Box<sigstore_tuf::Error>,
    },
    /// The signed trusted root, or signing config, is not one that this program can use.
    #[error("{target}: {source}")]
    Target {
        /// Its name.
        target: &'static str,
        /// What is wrong with it.
        source: crate::trust::Error,
    },
}

impl Error {
    /// Whether the repository answered, and what it answered is refused. All else may pass.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Tuf { source, .. } => !matches!(**source, sigstore_tuf::Error::Transport { .. }),
            Self::Fingerprint { .. } | Self::OtherRoot { .. } | Self::Target { .. } => true,
            _ => false,
        }
    }
}
