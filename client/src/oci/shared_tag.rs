//! Adding to a manifest under a tag that others add to at the same time: the fallback index of referrers,
//! and the manifests of legacy signatures.
//!
//! Registries have no compare-and-swap. On one machine a lock file keeps writers apart. For those on others,
//! whoever writes looks again after a while that is long beside the time from its own reading to its
//! writing, in which others may have written over it; and writes again whatever it has ever seen there
//! that is missing. A signer is lost only if one on another machine stops between reading and writing for
//! longer than that.

use super::manifest::{Descriptor, Manifest};
use super::registry::Repository;
use super::{Error, media_type};
use countersign_verify::encoding::hex;
use countersign_verify::key::HashAlgorithm;
use std::fs::{File, TryLockError};
use std::time::{Duration, Instant};

/// How often it is written before giving up: many more writers than that would have to be at it.
const ROUNDS: usize = 60;
/// The least time before looking again.
const LEAST_PAUSE: Duration = Duration::from_millis(15);
/// The most.
const MOST_PAUSE: Duration = Duration::from_secs(5);

/// How long another writer of this machine is waited for: many times what one needs.
const LONGEST_TURN: Duration = Duration::from_secs(20);

/// What is under the tag.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shared {
    /// An index of referrers.
    Referrers,
    /// An image with a layer for each legacy signature or attestation.
    Layers,
}

impl Shared {
    /// What is in it. Something else under the tag is left alone.
    fn entries(self, tag: &str, manifest: Manifest) -> Result<Vec<Descriptor>, Error> {
        let (found, expected) = match self {
            Self::Referrers => (manifest.manifests, "an index of referrers"),
            Self::Layers => (manifest.layers, "an image with legacy signatures"),
        };
        found.ok_or_else(|| Error::MediaType {
            what: format!("tag {tag}"),
            expected: expected.to_owned(),
            found: manifest.media_type.unwrap_or_default(),
        })
    }

    async fn write(
        self,
        repository: &Repository,
        tag: &str,
        entries: &[Descriptor],
    ) -> Result<(), Error> {
        let mut manifest = Manifest { schema_version: 2, ..Manifest::default() };
        let kind = match self {
            Self::Referrers => {
                manifest.manifests = Some(entries.to_vec());
                media_type::INDEX
            }
            Self::Layers => {
                // Readers count on a configuration that lists as many layers.
                let diffs: Vec<_> = entries.iter().map(|entry| &entry.digest).collect();
                let config = serde_json::json!({ "architecture": "", "os": "", "config": {},
                    "created": "0001-01-01T00:00:00Z",
                    "rootfs": { "type": "layers", "diff_ids": diffs } });
                let config = config.to_string().into_bytes();
                let descriptor = Descriptor::of(media_type::CONFIG, &config);
                repository.put_blob(&descriptor, &|| config.clone().into()).await?;
                manifest.config = Some(descriptor);
                manifest.layers = Some(entries.to_vec());
                media_type::MANIFEST
            }
        };
        manifest.media_type = Some(kind.to_owned());
        repository.put_manifest(tag, kind, &manifest.to_json()).await.map(drop)
    }
}

/// Adds `own` to what is under `tag`, and keeps what others add.
pub(super) async fn add(
    repository: &Repository,
    tag: &str,
    shared: Shared,
    own: Descriptor,
) -> Result<(), Error> {
    let mut known = vec![own];
    for round in 0..ROUNDS {
        let turn = turn(repository, tag).await;
        let begun = Instant::now();
        let found = match repository.tagged(tag).await {
            Ok(stored) => shared.entries(tag, stored.manifest)?,
            Err(Error::NotFound { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        let is_there = |entry: &&Descriptor| found.iter().any(|other| same(entry, other));
        let missing: Vec<_> = known.iter().filter(|entry| !is_there(entry)).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        known = found.into_iter().chain(missing).collect();
        // After this write a reader finds all that was there when we read, and ours. What others wrote
        // since is missing until they look again, or until we do.
        shared.write(repository, tag, &known).await?;
        drop(turn);
        let pause = (begun.elapsed() * 4).clamp(LEAST_PAUSE, MOST_PAUSE);
        tokio::time::sleep(pause + jitter(pause, round)).await;
    }
    Err(Error::Contended { tag: tag.to_owned(), rounds: ROUNDS })
}

/// Waits until no other writer of this machine is at the tag, by a lock file that is given back when the
/// process ends, however that is. Without such a file, or when somebody keeps it, there is the second look.
async fn turn(repository: &Repository, tag: &str) -> Option<File> {
    let name = format!("{}/{}:{tag}", repository.registry(), repository.name());
    let digest = hex(&HashAlgorithm::Sha256.digest(name.as_bytes()));
    let path = std::env::temp_dir().join(format!("countersign-{}.lock", &digest[..32]));
    let file = File::options().create(true).truncate(false).write(true).open(path).ok()?;
    let begun = Instant::now();
    while let Err(TryLockError::WouldBlock) = file.try_lock() {
        if begun.elapsed() > LONGEST_TURN {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(2) + jitter(Duration::from_millis(4), 0)).await;
    }
    Some(file)
}

/// Legacy signatures of one image may share the signed bytes, and so the digest.
fn same(one: &Descriptor, other: &Descriptor) -> bool {
    let signature =
        |entry: &Descriptor| entry.annotation(super::legacy::SIGNATURE).map(str::to_owned);
    one.digest == other.digest && signature(one) == signature(other)
}

/// Up to `pause` more, so that writers who met do not meet again.
fn jitter(pause: Duration, round: usize) -> Duration {
    let mut byte = [u8::try_from(round).unwrap_or_default()];
    // Without randomness writers meet more often, and lose nothing.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    pause * u32::from(byte[0]) / 256
}
