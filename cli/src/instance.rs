//! An instance: its directory, keys, logs and authorities.
//!
//! ```text
//! instance.json        its URL, the logs' names, when it was made
//! instance.lock        held by the process that runs it
//! keys/*.pem           PKCS#8, readable by the owner only
//! keys/*.crt           certificates
//! countersign.db       the logs' latest checkpoints, and which entry is where
//! log/, log-v1/, ct/   tiles and checkpoints, as they are served
//! trust/*.json         what clients need
//! audit.jsonl          every issuance and refusal
//! ```
//! Logs are opened once. All that depends on the configuration alone is the [`Services`], which a reload
//! replaces as a whole. Where keys and issuers come from, [`production`] and [`development`] know.

pub(crate) mod development;
pub(crate) mod directory;
pub(crate) mod keys;
pub(crate) mod production;
mod readiness;
mod trust;

pub(crate) use directory::{Directory, Settings};
pub(crate) use trust::{TrustFiles, log_keys};

use crate::failure::Failure;
use crate::idp::Provider;
use countersign_ca::audit::Audit;
use countersign_ca::credential::{Credential, Succession};
use countersign_ca::identity::Verifier;
use countersign_ca::issue::{Authority, CertificateLog, LogError, Parts};
use countersign_ca::timestamp::TimestampAuthority;
use countersign_log::face::{rekor_v1, rekor_v2, static_ct};
use countersign_log::signer::{P256Key, Signer};
use countersign_log::store::CheckpointLock;
use countersign_log::store::files::Files;
use countersign_log::store::sqlite::Sqlite;
use countersign_log::witness::Witnesses;
use countersign_log::{Format, Log, Options};
use countersign_verify::sct::Sct;
use jiff::Timestamp;
use parking_lot::RwLock;
use std::sync::Arc;

/// What an instance is to be; the rest is in its directory.
pub(crate) struct Plan {
    /// Whose it is, for the trusted root.
    pub(crate) organization: String,
    /// The issuing CA's keys and certificates.
    pub(crate) issuing: Vec<Credential>,
    /// The timestamp authority's keys and certificates.
    pub(crate) timestamps: Vec<Credential>,
    /// Whose tokens are accepted.
    pub(crate) tokens: Verifier,
    /// Where people log in, if anywhere.
    pub(crate) login: Option<String>,
    /// The identity provider of a development instance.
    pub(crate) provider: Option<Arc<Provider>>,
    /// Who cosigns the signature log's checkpoints.
    pub(crate) witnesses: Option<Arc<Witnesses>>,
}

/// A running instance's parts, ready to be served.
pub(crate) struct Instance {
    pub(crate) directory: Directory,
    pub(crate) settings: Settings,
    pub(crate) signatures: rekor_v2::Face,
    pub(crate) older: rekor_v1::Face,
    pub(crate) certificates: static_ct::Face,
    older_key: Arc<P256Key>,
    certificates_key: Arc<P256Key>,
    audit: Audit,
    services: RwLock<Arc<Services>>,
    database: Sqlite,
}

/// What depends on the configuration alone.
pub(crate) struct Services {
    pub(crate) authority: Arc<Authority>,
    pub(crate) timestamps: Arc<Succession<TimestampAuthority>>,
    pub(crate) provider: Option<Arc<Provider>>,
    pub(crate) trust: TrustFiles,
    issuing: Vec<Credential>,
    stamping: Vec<Credential>,
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
        let clock: countersign_log::Clock = Arc::new(Timestamp::now);
        let log_failed = |error: &dyn std::fmt::Display| {
            Failure::unclear(format!(
                "the logs in {} do not open: {error}",
                directory.path().display()
            ))
        };
        let database = Sqlite::open(&directory.file("countersign.db")).await;
        let database = database.map_err(|error| log_failed(&error))?;
        let key = |name: &str| keys::read(&directory.file(name), passphrase);
        let p256 = |name: &str| {
            let key = P256Key::from_pkcs8(&key(name)?).map_err(|error| log_failed(&error))?;
            Ok::<_, Failure>(Arc::new(key))
        };

        let signer = Signer::ed25519(&settings.log_origin, &key("keys/log.pem")?)
            .map_err(|error| log_failed(&error))?;
        let witnesses = plan.witnesses.clone();
        let options = Options { witnesses, ..Options::new(Format::Entries) };
        let log = open_log(&directory, &database, "log", options, signer).await?;
        rekor_v2::Face::seed(&log).await.map_err(|error| log_failed(&error))?;
        let signatures = rekor_v2::Face::new(log);

        let older_key = p256("keys/log-v1.pem")?;
        let tree_id = rekor_v1::tree_id(older_key.spki());
        let signer = Signer::rekor_v1(&settings.log_origin, tree_id, Arc::clone(&older_key));
        let signer = signer.map_err(|error| log_failed(&error))?;
        let log =
            open_log(&directory, &database, "log-v1", Options::new(Format::Timed), signer).await?;
        let tree = rekor_v1::Tree::new(log, Arc::clone(&older_key));
        tree.seed(&clock).await.map_err(|error| log_failed(&error))?;
        let older = rekor_v1::Face::new(tree, Arc::clone(&clock));

        let certificates_key = p256("keys/ct.pem")?;
        let key = Arc::clone(&certificates_key);
        let origin = &settings.certificate_log_origin;
        let signer = Signer::rfc6962(origin, Arc::clone(&key), Arc::clone(&clock));
        let signer = signer.map_err(|error| log_failed(&error))?;
        let log = open_log(&directory, &database, "ct", Options::new(Format::Data), signer).await?;
        let certificates = static_ct::Face::new(log, key, &roots(&plan), Arc::clone(&clock));
        let certificates = certificates.map_err(|error| log_failed(&error))?;
        let first = plan.issuing.first();
        let first = first.ok_or_else(|| Failure::unclear("there is no issuing CA"))?;
        certificates.seed(&first.chain).await.map_err(|error| log_failed(&error))?;

        let audit = Audit::open(&directory.file("audit.jsonl"));
        let audit = audit.map_err(|error| Failure::unclear(error.to_string()))?;
        let keys = [&*older_key, &*certificates_key];
        let services = Services::new(&settings, &signatures, keys, &certificates, &audit, plan)?;
        services.publish(&directory)?;
        Ok(Self {
            services: RwLock::new(Arc::new(services)),
            signatures,
            older,
            certificates,
            older_key,
            certificates_key,
            audit,
            database,
            settings,
            directory,
        })
    }

    /// What serves at the moment.
    pub(crate) fn services(&self) -> Arc<Services> {
        Arc::clone(&self.services.read())
    }

    /// Changes over to another plan. If that cannot be, all stays as it is.
    pub(crate) fn reload(&self, plan: Plan) -> Result<(), Failure> {
        let known: Vec<_> = self.certificates.roots().collect();
        if roots(&plan).iter().any(|root| !known.contains(&&root[..])) {
            return Err(Failure::unclear("the certificate log does not know this root yet")
                .hint("restart the server to have its certificate log take a new root"));
        }
        let keys = [&*self.older_key, &*self.certificates_key];
        let (signatures, certificates) = (&self.signatures, &self.certificates);
        let services =
            Services::new(&self.settings, signatures, keys, certificates, &self.audit, plan)?;
        services.publish(&self.directory)?;
        *self.services.write() = Arc::new(services);
        Ok(())
    }

    /// All its logs.
    pub(crate) fn logs(&self) -> Vec<Log> {
        let older = self.older.shards().all();
        let signatures = self.signatures.shards().all();
        let signatures = signatures.iter().map(|log| Log::clone(log));
        let older = older.iter().map(|tree| Log::clone((**tree).as_ref()));
        signatures.chain(older).chain([self.certificates.log().clone()]).collect()
    }

    /// Finishes what the logs have pending.
    pub(crate) async fn close(&self) {
        for log in self.logs() {
            log.close().await;
        }
        self.database.close().await;
    }
}

impl Services {
    fn new(
        settings: &Settings,
        signatures: &rekor_v2::Face,
        [older, certificates_key]: [&P256Key; 2],
        certificates: &static_ct::Face,
        audit: &Audit,
        plan: Plan,
    ) -> Result<Self, Failure> {
        let trust = trust::trust_files(settings, signatures, older, certificates_key, &plan)?;
        let broken = |what: &str, error: &dyn std::fmt::Display| {
            Failure::unclear(format!("the {what} authority: {error}"))
        };
        let Plan { issuing, timestamps: stamping, tokens, provider, .. } = plan;
        let authority = Authority::new(Parts {
            tokens,
            issuing: issuing.clone(),
            log: Arc::new(InProcess(certificates.clone())),
            log_key: certificates_key.spki().to_vec(),
            gate: Arc::new(|_| Ok(())),
            limits: countersign_ca::limits::Limits::none(),
            audit: audit.clone(),
            clock: Arc::new(Timestamp::now),
        });
        let authority = authority.map_err(|error| broken("certificate", &error))?;
        let timestamps = stamping.iter().cloned().map(|credential| {
            let Credential { signer, chain, from } = credential;
            let authority = TimestampAuthority::new(signer, chain);
            Ok((from, authority.map_err(|error| broken("timestamp", &error))?))
        });
        let timestamps = Succession::new(timestamps.collect::<Result<_, Failure>>()?);
        let timestamps = timestamps.ok_or_else(|| broken("timestamp", &"there is no key"))?;
        let (authority, timestamps) = (Arc::new(authority), Arc::new(timestamps));
        Ok(Self { authority, timestamps, provider, trust, issuing, stamping })
    }

    /// Writes what clients need into the directory.
    fn publish(&self, directory: &Directory) -> Result<(), Failure> {
        for (name, json) in [
            ("trust/trusted_root.json", &self.trust.trusted_root),
            ("trust/signing_config.json", &self.trust.signing_config),
            ("trust/client_trust_config.json", &self.trust.client_trust_config),
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

async fn open_log(
    directory: &Directory,
    database: &Sqlite,
    name: &str,
    options: Options,
    signer: Signer,
) -> Result<Log, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        let folder = directory.file(name);
        Failure::unclear(format!("the log in {} does not open: {error}", folder.display()))
    };
    let store = Files::open(directory.file(name)).map_err(|error| failed(&error))?;
    let lock: Arc<dyn CheckpointLock> =
        Arc::new(database.lock(name).await.map_err(|error| failed(&error))?);
    let log = Log::open(options, signer, Arc::new(store), lock).await;
    log.map_err(|error| failed(&error))
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
            retryable: matches!(error, static_ct::Error::Append(_)),
            reason: error.to_string(),
        })
    }
}
