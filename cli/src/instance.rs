//! An instance: its directory, keys, logs and authorities.
//!
//! ```text
//! instance.json        its URL, the logs' names, when it was made
//! instance.lock        held by the process that runs it
//! keys/*.pem           PKCS#8, readable by the owner only
//! keys/*.crt           certificates
//! countersign.db       the logs' latest checkpoints, and which entry is where
//! shards.json          which shards the logs have; each after the first has a number in the names of its
//!                      folder and key
//! index.db             search over the signature logs; made anew if it is not there
//! log/, log-v1/, ct/   tiles and checkpoints, as they are served
//! audit/               the same of the record of issuances, refusals and administrative acts, served nowhere
//! control/             where a running instance takes orders
//! trust/*.json         what clients need
//! trust/audit.keys     the keys of the audit log's shards
//! ```
//! Logs are opened once. All that depends on the configuration alone is the [`Services`], which a reload
//! replaces as a whole. Where keys and issuers come from, [`production`] and [`development`] know.

mod accepted;
pub(crate) mod audit;
mod chain;
pub(crate) mod development;
pub(crate) mod directory;
pub(crate) mod keys;
pub(crate) mod known;
mod logs;
pub(crate) mod production;
mod readiness;
mod rotation;
mod shards;
mod trust;

pub(crate) use accepted::Signers;
pub(crate) use chain::refused_by_clients;
pub(crate) use directory::{Directory, Settings};
pub(crate) use logs::Logs;
pub(crate) use shards::{LogName, Shards, folder, named_url};
pub(crate) use trust::{Stored, TrustFiles, stored_logs};

use crate::failure::Failure;
use crate::gate::{self, InForce, LogGate};
use crate::idp::Provider;
use countersign_ca::audit::Audit;
use countersign_ca::credential::{Credential, Succession};
use countersign_ca::identity::Verifier;
use countersign_ca::issue::{Authority, CertificateLog, LogError, Parts};
use countersign_ca::limits::Limits;
use countersign_ca::timestamp::{LastGiven, TimestampAuthority};
use countersign_log::face::static_ct;
use countersign_log::index::Index;
use countersign_log::pool::AppendError;
use countersign_log::store::Sqlite;
use countersign_log::witness::Witnesses;
use countersign_verify::sct::Sct;
use jiff::Timestamp;
use logs::Opening;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use zeroize::Zeroizing;

/// The file of the logs' checkpoints and the table of their entries.
pub(crate) const DATABASE: &str = "countersign.db";

/// The file of the search index.
pub(crate) const INDEX: &str = "index.db";

/// What an instance is to be; the rest is in its directory.
pub(crate) struct Plan {
    /// Whose it is, for the trusted root.
    pub(crate) organization: String,
    /// The issuing CA's keys and certificates.
    pub(crate) issuing: Vec<Credential>,
    /// The timestamp authority's keys and certificates.
    pub(crate) timestamps: Vec<Credential>,
    /// When the last timestamp was given.
    pub(crate) stamped: LastGiven,
    /// Whose tokens are accepted.
    pub(crate) tokens: Verifier,
    /// Who is given a certificate, and whose entries the signature logs take; without one everybody.
    pub(crate) policy: Option<Arc<InForce>>,
    /// Where people log in, if anywhere.
    pub(crate) login: Option<String>,
    /// The identity provider of a development instance.
    pub(crate) provider: Option<Arc<Provider>>,
    /// Who cosigns the signature log's checkpoints.
    pub(crate) witnesses: Option<Arc<Witnesses>>,
    /// How often.
    pub(crate) limits: Limits,
    /// Whose entries the signature logs take.
    pub(crate) signers: Signers,
    /// The files that all of this was read from, each with its digest, for the record.
    pub(crate) files: Vec<String>,
}

impl Plan {
    /// Tells what whoever runs the instance should not forget.
    fn warn(&self) {
        if let Some(warning) = self.policy.as_ref().and_then(|policy| policy.warning()) {
            tracing::warn!("{warning}");
        }
    }
}

/// A running instance's parts, ready to be served.
pub(crate) struct Instance {
    pub(crate) directory: Directory,
    pub(crate) settings: Settings,
    pub(crate) logs: Logs,
    pub(crate) index: Index,
    shards: RwLock<Shards>,
    audit: Audit,
    services: RwLock<Arc<Services>>,
    log_gate: LogGate,
    /// Held while what clients need to know changes.
    publishing: Mutex<()>,
    database: Sqlite,
    passphrase: Option<Zeroizing<String>>,
    witnesses: Option<Arc<Witnesses>>,
}

/// What depends on the configuration alone, and what clients are told.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) authority: Arc<Authority>,
    pub(crate) timestamps: Arc<Succession<TimestampAuthority>>,
    pub(crate) provider: Option<Arc<Provider>>,
    pub(crate) trust: TrustFiles,
    organization: String,
    login: Option<String>,
    issuing: Vec<Credential>,
    stamping: Vec<Credential>,
    stamped: LastGiven,
    limits: Limits,
}

impl Instance {
    /// Opens the instance in `directory` by `plan`. `passphrase` is for those of the logs' keys that are
    /// encrypted.
    pub(crate) async fn open(
        directory: Directory,
        settings: Settings,
        plan: Plan,
        passphrase: Option<&str>,
    ) -> Result<Self, Failure> {
        let database = Sqlite::open(&directory.file(DATABASE)).await;
        let database = database.map_err(|error| {
            let path = directory.path().display();
            Failure::unclear(format!("the logs in {path} do not open: {error}")).hint(known::BROKEN)
        })?;
        let chain = plan.issuing.first().map(|credential| credential.chain.clone());
        let chain = chain.ok_or_else(|| Failure::unclear("there is no issuing CA"))?;
        let shards = known::shards(directory.path()).await?;
        let shards =
            shards.map_or_else(|| Ok(Shards::first(settings.created()?)), Ok::<_, Failure>)?;
        let log_gate = LogGate::default();
        let own = accepted::authorities(&plan.issuing)?;
        let (logs, shards) = {
            let (directory, settings, database) = (&directory, &settings, &database);
            let witnesses = plan.witnesses.clone();
            let mut opening =
                Opening { directory, settings, database, passphrase, witnesses, shards };
            let accepted = plan.signers.accepted(&own, &log_gate);
            let logs = Logs::open(&mut opening, &roots(&plan), &chain, accepted).await?;
            (logs, opening.shards)
        };
        let searched = [LogName::Log, LogName::LogV1].into_iter().flat_map(|log| logs.of(log));
        let searched = searched.map(|log| log.published()).collect();
        let index = Index::open(&directory.file(INDEX), searched).await;
        let index = index.map_err(|error| {
            Failure::unclear(format!("the search index does not open: {error}"))
                .hint(format!("remove {INDEX}: it is made anew"))
        })?;
        index.follow().map_err(|error| Failure::unclear(format!("the search index: {error}")))?;
        let audit = Audit::new(Arc::new(audit::Recorded(Arc::clone(&logs.audit))));
        // Before anybody is served.
        log_gate.set(plan.policy.clone(), &own, &audit);
        plan.warn();
        let files = plan.files.clone();
        let witnesses = plan.witnesses.clone();
        let services = Services::new(&settings, &logs, &shards, &audit, plan)?;
        audit::administered(&audit, "start", services.in_force(files), None).await?;
        services.publish(&directory)?;
        Ok(Self {
            witnesses,
            log_gate,
            services: RwLock::new(Arc::new(services)),
            publishing: Mutex::default(),
            logs,
            index,
            shards: RwLock::new(shards),
            audit,
            database,
            settings,
            directory,
            passphrase: passphrase.map(|passphrase| Zeroizing::new(passphrase.to_owned())),
        })
    }

    /// What serves at the moment.
    pub(crate) fn services(&self) -> Arc<Services> {
        Arc::clone(&self.services.read())
    }

    /// The record.
    pub(crate) const fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Changes over to another plan. If that cannot be, all stays as it is.
    pub(crate) async fn reload(&self, mut plan: Plan) -> Result<(), Failure> {
        let known: Vec<_> = self.logs.certificates.roots().collect();
        if roots(&plan).iter().any(|root| !known.contains(&&root[..])) {
            return Err(Failure::unclear("the certificate log does not know this root yet")
                .hint("restart the server to have its certificate log take a new root"));
        }
        self.check_keys()?;
        let own = accepted::authorities(&plan.issuing)?;
        let accepted = plan.signers.accepted(&own, &self.log_gate);
        let before = self.services();
        plan.limits = plan.limits.following(&before.limits);
        plan.stamped = before.stamped.clone();
        plan.tokens = plan.tokens.following(before.authority.tokens());
        let (files, policy) = (plan.files.clone(), plan.policy.clone());
        plan.warn();
        let shards = self.shards.read().clone();
        let mut services = Services::new(&self.settings, &self.logs, &shards, &self.audit, plan)?;
        self.on_record("reload", services.in_force(files), async {
            let _publishing = self.publishing.lock();
            // A log may have gone on meanwhile.
            services.trust =
                trust::trust_files(&self.settings, &self.logs, &self.shards.read(), &services)?;
            services.publish(&self.directory)?;
            self.log_gate.set(policy, &own, &self.audit);
            self.logs.signatures.accept(accepted.clone());
            self.logs.older.accept(accepted);
            *self.services.write() = Arc::new(services);
            Ok(())
        })
        .await
    }

    /// Whether a restart can open the logs' keys, too.
    fn check_keys(&self) -> Result<(), Failure> {
        let shards = self.shards.read();
        let passphrase = self.passphrase.as_ref().map(|text| &text[..]);
        for log in LogName::ALL {
            for number in 1..=shards.of(log).len() {
                let key = format!("keys/{}.pem", folder(log, number));
                keys::read(&self.directory.file(&key), passphrase)?;
            }
        }
        drop(shards);
        Ok(())
    }

    /// Has an act on record before it is done, and again when it failed.
    async fn on_record<T>(
        &self,
        act: &str,
        about: Vec<String>,
        done: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        audit::administered(&self.audit, act, about.clone(), None).await?;
        let done = done.await;
        if let Err(failure) = &done
            && let Err(unrecorded) =
                audit::administered(&self.audit, act, about, Some(failure.text())).await
        {
            // The operator has to know why the act failed, more than that this is not on record.
            tracing::error!(error = unrecorded.text(), "a failure is not on record");
        }
        done
    }

    /// Tells clients of the shards as they are now.
    fn retrust(&self) -> Result<(), Failure> {
        let _publishing = self.publishing.lock();
        let mut services = Services::clone(&self.services());
        services.trust =
            trust::trust_files(&self.settings, &self.logs, &self.shards.read(), &services)?;
        services.publish(&self.directory)?;
        *self.services.write() = Arc::new(services);
        Ok(())
    }

    /// Finishes what the logs have pending.
    pub(crate) async fn close(&self) {
        for log in self.logs.all() {
            log.close().await;
        }
        self.index.close().await;
        self.database.close().await;
    }
}

impl Services {
    fn new(
        settings: &Settings,
        logs: &Logs,
        shards: &Shards,
        audit: &Audit,
        plan: Plan,
    ) -> Result<Self, Failure> {
        let broken = |what: &str, error: &dyn std::fmt::Display| {
            Failure::unclear(format!("the {what} authority: {error}"))
        };
        let Plan {
            organization,
            issuing,
            timestamps: stamping,
            stamped,
            tokens,
            policy,
            login,
            provider,
            limits,
            ..
        } = plan;
        let certificates = &logs.certificates;
        let authority = Authority::new(Parts {
            tokens,
            issuing: issuing.clone(),
            log: Arc::new(InProcess(certificates.clone())),
            log_key: certificates.log().key().spki().to_vec(),
            gate: gate::at_issuance(policy, Arc::new(Timestamp::now)),
            limits: limits.clone(),
            audit: audit.clone(),
            clock: Arc::new(Timestamp::now),
        });
        let authority = authority.map_err(|error| broken("certificate", &error))?;
        let timestamps = stamping.iter().cloned().map(|credential| {
            let Credential { signer, chain, from } = credential;
            let authority = TimestampAuthority::new(signer, chain, stamped.clone());
            Ok((from, authority.map_err(|error| broken("timestamp", &error))?))
        });
        let timestamps = Succession::new(timestamps.collect::<Result<_, Failure>>()?);
        let timestamps = timestamps.ok_or_else(|| broken("timestamp", &"there is no key"))?;
        let (authority, timestamps) = (Arc::new(authority), Arc::new(timestamps));
        let trust = TrustFiles::default();
        let mut services = Self {
            authority,
            timestamps,
            provider,
            trust,
            organization,
            login,
            issuing,
            stamping,
            stamped,
            limits,
        };
        services.trust = trust::trust_files(settings, logs, shards, &services)?;
        Ok(services)
    }

    /// What the record says of them: keys, and the `files` of the configuration with their digests.
    fn in_force(&self, files: Vec<String>) -> Vec<String> {
        let keys = self.lifetimes(Timestamp::now()).into_iter();
        let key = |keys::Lifetime { role, key, from, .. }| match from > Timestamp::MIN {
            true => format!("{role} key {key} from {from}"),
            false => format!("{role} key {key} from the beginning"),
        };
        files.into_iter().chain(keys.map(key)).collect()
    }

    /// Writes what clients need into the directory.
    fn publish(&self, directory: &Directory) -> Result<(), Failure> {
        for (name, json) in [
            ("trust/trusted_root.json", &self.trust.trusted_root),
            ("trust/signing_config.json", &self.trust.signing_config),
            ("trust/client_trust_config.json", &self.trust.client_trust_config),
            (trust::AUDIT_KEYS, &self.trust.audit_keys),
        ] {
            directory.write(name, json.as_bytes())?;
        }
        Ok(())
    }
}

/// The roots above the issuing CA, each once.
fn roots(plan: &Plan) -> Vec<Vec<u8>> {
    let mut roots: Vec<_> =
        plan.issuing.iter().filter_map(|credential| credential.chain.last().cloned()).collect();
    roots.sort();
    roots.dedup();
    roots
}

/// The certificate log beside the authority, without a network between.
struct InProcess(static_ct::Face);

#[async_trait::async_trait]
impl CertificateLog for InProcess {
    async fn add_pre_chain(
        &self,
        precertificate: &[u8],
        chain: &[Vec<u8>],
    ) -> Result<Sct, LogError> {
        let chain: Vec<_> =
            std::iter::once(precertificate.to_vec()).chain(chain.iter().cloned()).collect();
        self.0.add_pre_chain(&chain).await.map_err(|error| LogError {
            retryable: match &error {
                static_ct::Error::Append(error) => passes(error),
                static_ct::Error::Store(_) => true,
                _ => false,
            },
            reason: error.to_string(),
        })
    }
}

/// Whether the same may succeed later without anybody's doing. A log that has halted waits for its operator.
const fn passes(error: &AppendError) -> bool {
    use AppendError::{Closed, Conflict, Full, Held, Store};
    matches!(error, Full { .. } | Store(_) | Conflict | Held(_) | Closed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_ca::timestamp::{Error, Query};
    use countersign_verify::key::HashAlgorithm;
    use jiff::SignedDuration;

    #[tokio::test]
    async fn the_time_of_the_last_timestamp_is_known_after_a_reload() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        let url = "http://127.0.0.1:1".parse().unwrap();
        let instance = development::open(directory, &url, vec![], None, None).await.unwrap();
        let query = Query::new(HashAlgorithm::Sha256, &[1; 32], None, false).unwrap();
        let now = Timestamp::now();
        let stamp = |time| instance.services().timestamps.at(now).stamp(&query, time).map(drop);
        stamp(now + SignedDuration::from_secs(9)).unwrap();
        let before = instance.services();
        let plan = Plan {
            organization: String::new(),
            issuing: before.issuing.clone(),
            timestamps: before.stamping.clone(),
            stamped: LastGiven::default(),
            tokens: Verifier::new([]).unwrap(),
            policy: None,
            login: None,
            provider: None,
            witnesses: None,
            limits: Limits::none(),
            signers: Signers::default(),
            files: Vec::new(),
        };
        instance.reload(plan).await.unwrap();
        assert!(matches!(stamp(now), Err(Error::Clock { seconds: 9 })));
        instance.close().await;
    }
}
