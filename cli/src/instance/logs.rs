//! The logs of an instance, each with all its shards.

use super::shards::{LogName, Shards, folder};
use super::{Directory, Settings, audit, keys, known, trust};
use crate::failure::Failure;
use countersign_log::face::accept::Accepted;
use countersign_log::face::{rekor_v1, rekor_v2, static_ct};
use countersign_log::signer::{P256Key, Signer};
use countersign_log::store::{CheckpointLock, Files, Sqlite};
use countersign_log::witness::Witnesses;
use countersign_log::{Clock, Format, Log, Options};
use jiff::Timestamp;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The logs as they are served.
pub(crate) struct Logs {
    pub(crate) signatures: rekor_v2::Face,
    pub(crate) older: rekor_v1::Face,
    /// The shard that takes entries.
    pub(crate) certificates: static_ct::Face,
    /// All shards of the certificate log, in order.
    pub(crate) all_certificates: Vec<static_ct::Face>,
    pub(crate) audit: Arc<countersign_log::Shards<Log>>,
}

impl Logs {
    /// Opens all shards. A log of which all have ended, as those of a backup have, begins another.
    pub(super) async fn open(
        opening: &mut Opening<'_>,
        roots: &[Vec<u8>],
        chain: &[Vec<u8>],
        accepted: Accepted,
    ) -> Result<Self, Failure> {
        for log in LogName::ALL {
            if opening.shards.active(log).is_none() {
                let now = Timestamp::now();
                let mut shards = opening.shards.clone();
                if shards.announced(log).is_none() {
                    shards.announce(log, None, now);
                }
                shards.turn(log, now);
                opening.shards = shards;
                let number = opening.shards.of(log).len();
                if opening.is_taken(log, number) {
                    let message = "the witnesses have a tree of this log's name, which ended when it was restored from a backup; they do not take another";
                    return Err(Failure::unclear(message).hint("restore the backup with --host NAME, another host name of this server, by which witnesses and clients know the new shard"));
                }
                opening.clear(log, number).await?;
                opening.make_key(log, number)?;
            }
        }
        opening.shards.write(opening.directory)?;
        let (mut signatures, mut earlier) = (Vec::new(), Vec::new());
        for number in opening.numbers(LogName::Log) {
            let log = opening.signatures(number, earlier.clone()).await?;
            earlier.push(log.clone());
            signatures.push(log);
        }
        let (mut older, mut earlier) = (Vec::new(), Vec::new());
        for number in opening.numbers(LogName::LogV1) {
            let tree = opening.older(number, earlier.clone()).await?;
            earlier.push(Log::clone(tree.as_ref()));
            older.push(tree);
        }
        let mut all_certificates = Vec::new();
        for number in opening.numbers(LogName::Ct) {
            all_certificates.push(opening.certificates(number, roots, chain).await?);
        }
        let mut audit = Vec::new();
        for number in opening.numbers(LogName::Audit) {
            audit.push(opening.audit(number).await?);
        }
        let active = |log| opening.shards.active(log).expect("each log has one, see above");
        let certificates = all_certificates[active(LogName::Ct) - 1].clone();
        for ended in &all_certificates[..active(LogName::Ct) - 1] {
            ended.log().close().await;
        }
        let failed = |error| Failure::unclear(format!("an ended shard: {error}"));
        let signatures = countersign_log::Shards::new(signatures, active(LogName::Log));
        let signatures = signatures.await.map_err(failed)?;
        let older = countersign_log::Shards::new(older, active(LogName::LogV1));
        let older = older.await.map_err(failed)?;
        let audit = countersign_log::Shards::new(audit, active(LogName::Audit));
        let audit = audit.await.map_err(failed)?;
        Ok(Self {
            audit: Arc::new(audit),
            signatures: rekor_v2::Face::new(signatures).accepting(accepted.clone()),
            older: rekor_v1::Face::new(older, clock()).accepting(accepted),
            certificates,
            all_certificates,
        })
    }

    /// All shards of one log, in order.
    pub(crate) fn of(&self, log: LogName) -> Vec<Log> {
        match log {
            LogName::Log => {
                self.signatures.shards().all().iter().map(|log| (**log).clone()).collect()
            }
            LogName::LogV1 => {
                let trees = self.older.shards().all();
                trees.iter().map(|tree| Log::clone((**tree).as_ref())).collect()
            }
            LogName::Ct => self.all_certificates.iter().map(|face| face.log().clone()).collect(),
            LogName::Audit => self.audit.all().iter().map(|log| (**log).clone()).collect(),
        }
    }

    /// All shards of all logs.
    pub(crate) fn all(&self) -> Vec<Log> {
        LogName::ALL.into_iter().flat_map(|log| self.of(log)).collect()
    }

    /// Of each log the shard that takes entries.
    pub(crate) fn active(&self) -> [Log; 4] {
        let older = self.older.shards().active();
        [
            Log::clone(&self.signatures.shards().active()),
            Log::clone((*older).as_ref()),
            self.certificates.log().clone(),
            Log::clone(&self.audit.active()),
        ]
    }
}

/// What it takes to open a shard.
pub(super) struct Opening<'a> {
    pub(super) directory: &'a Directory,
    pub(super) settings: &'a Settings,
    pub(super) database: &'a Sqlite,
    /// For those keys that are encrypted, and for new ones.
    pub(super) passphrase: Option<&'a str>,
    /// Who cosigns the signature log.
    pub(super) witnesses: Option<Arc<Witnesses>>,
    pub(super) shards: Shards,
}

fn clock() -> Clock {
    Arc::new(Timestamp::now)
}

impl Opening<'_> {
    fn numbers(&self, log: LogName) -> std::ops::RangeInclusive<usize> {
        1..=self.shards.of(log).len()
    }

    /// Makes the key of a shard, unless it is there.
    pub(super) fn make_key(&self, log: LogName, number: usize) -> Result<(), Failure> {
        let name = format!("keys/{}.pem", folder(log, number));
        keys::make_for_log(self.directory, &name, log.ed25519(), self.passphrase)
    }

    pub(super) fn key(&self, log: LogName, number: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let name = format!("keys/{}.pem", folder(log, number));
        keys::read(&self.directory.file(&name), self.passphrase)
    }

    fn p256(&self, log: LogName, number: usize) -> Result<Arc<P256Key>, Failure> {
        let key = P256Key::from_pkcs8(&self.key(log, number)?);
        Ok(Arc::new(key.map_err(|error| self.failed(log, number, &error))?))
    }

    /// The host by which clients know the shard.
    pub(super) fn host(&self, log: LogName, number: usize) -> &str {
        let host = self.shards.of(log)[number - 1].host.as_deref();
        host.unwrap_or(&self.settings.log_origin)
    }

    pub(super) fn failed(
        &self,
        log: LogName,
        number: usize,
        error: &dyn std::fmt::Display,
    ) -> Failure {
        let folder = self.directory.file(&folder(log, number));
        Failure::unclear(format!("the log in {} does not open: {error}", folder.display()))
    }

    async fn open(
        &self,
        log: LogName,
        number: usize,
        options: Options,
        signer: Signer,
    ) -> Result<Log, Failure> {
        let failed = |error: &dyn std::fmt::Display| self.failed(log, number, error);
        let name = folder(log, number);
        let store = Files::open(self.directory.file(&name)).map_err(|error| failed(&error))?;
        let lock = self.database.lock(&name).await.map_err(|error| failed(&error))?;
        let lock: Arc<dyn CheckpointLock> = Arc::new(lock);
        let opened = Log::open(options, signer, Arc::new(store), lock).await;
        opened.map_err(|error| {
            let next = known::unopened(&self.directory.file(&name), &error);
            failed(&error).hint(next)
        })
    }

    pub(super) async fn signatures(
        &self,
        number: usize,
        earlier: Vec<Log>,
    ) -> Result<Log, Failure> {
        const LOG: LogName = LogName::Log;
        let failed = |error: &dyn std::fmt::Display| self.failed(LOG, number, error);
        let signer = Signer::ed25519(self.host(LOG, number), &self.key(LOG, number)?);
        let signer = signer.map_err(|error| failed(&error))?;
        let witnesses = self.witnesses.clone();
        let options = Options { earlier, witnesses, ..Options::new(Format::Entries) };
        let log = self.open(LOG, number, options, signer).await?;
        // Witnesses that do not know the key of a new shard hold its first tree, and it is not begun.
        if let Err(error) = rekor_v2::Face::seed(&log).await {
            log.close().await; // what comes next may open it again
            return Err(match log.key().verifier_key() {
                Some(key) if self.witnesses.is_some() => failed(&error)
                    .hint(format!("give the witnesses its key, {key}, and do the same again")),
                _ => failed(&error),
            });
        }
        Ok(log)
    }

    pub(super) async fn older(
        &self,
        number: usize,
        earlier: Vec<Log>,
    ) -> Result<rekor_v1::Tree, Failure> {
        const LOG: LogName = LogName::LogV1;
        let failed = |error: &dyn std::fmt::Display| self.failed(LOG, number, error);
        let key = self.p256(LOG, number)?;
        let tree_id = rekor_v1::tree_id(key.spki());
        let signer = Signer::rekor_v1(self.host(LOG, number), tree_id, Arc::clone(&key));
        let signer = signer.map_err(|error| failed(&error))?;
        let options = Options { earlier, ..Options::new(Format::Timed) };
        let tree = rekor_v1::Tree::new(self.open(LOG, number, options, signer).await?, key);
        tree.seed(&clock()).await.map_err(|error| failed(&error))?;
        Ok(tree)
    }

    async fn certificates(
        &self,
        number: usize,
        roots: &[Vec<u8>],
        chain: &[Vec<u8>],
    ) -> Result<static_ct::Face, Failure> {
        const LOG: LogName = LogName::Ct;
        let failed = |error: &dyn std::fmt::Display| self.failed(LOG, number, error);
        let key = self.p256(LOG, number)?;
        let origin = trust::certificate_origin(self.settings, number);
        let signer = Signer::rfc6962(&origin, Arc::clone(&key), clock());
        let signer = signer.map_err(|error| failed(&error))?;
        let log = self.open(LOG, number, Options::new(Format::Data), signer).await?;
        let face = static_ct::Face::new(log, key, roots, clock());
        let face = face.map_err(|error| failed(&error))?;
        face.seed(chain).await.map_err(|error| failed(&error))?;
        Ok(face)
    }

    /// The record: nobody but its operators reads it, so nobody cosigns it either.
    async fn audit(&self, number: usize) -> Result<Log, Failure> {
        const LOG: LogName = LogName::Audit;
        let failed = |error: &dyn std::fmt::Display| self.failed(LOG, number, error);
        let signer = Signer::ed25519(&audit::origin(self.settings), &self.key(LOG, number)?);
        let signer = signer.map_err(|error| failed(&error))?;
        // No two entries are the same: each has a time, and a serial number or a request's ID.
        let options = Options { table: false, ..Options::new(Format::Entries) };
        let log = self.open(LOG, number, options, signer).await?;
        audit::begin(&log, self.directory, number).await?;
        Ok(log)
    }
}
