//! A development instance: its directory, keys, logs and authorities.
//!
//! ```text
//! instance.json        its URL, the logs' names, when it was made
//! instance.lock        held by the process that runs it
//! keys/*.pem           PKCS#8, readable by the owner only
//! keys/*.crt           certificates: root, issuing CA, timestamps
//! countersign.db       the logs' latest checkpoints, and which entry is where
//! log/, log-v1/, ct/            tiles and checkpoints, as they are served
//! trust/*.json         what clients need
//! audit.jsonl          every issuance and refusal
//! ```
//! Everything of it is made the first time, and continued ever after.

mod directory;
mod trust;

pub(crate) use directory::Directory;
pub(crate) use trust::{TrustFiles, log_keys};

use crate::failure::Failure;
use crate::idp::{self, Provider};
use countersign_ca::audit::Audit;
use countersign_ca::ceremony::{self, Ceremony};
use countersign_ca::identity::{Issuer, Mapping, Verifier};
use countersign_ca::issue::{Authority, CertificateLog, LogError, Parts};
use countersign_ca::signer::FileSigner;
use countersign_ca::timestamp::TimestampAuthority;
use countersign_log::face::{rekor_v1, rekor_v2, static_ct};
use countersign_log::signer::{P256Key, Signer};
use countersign_log::store::CheckpointLock;
use countersign_log::store::files::Files;
use countersign_log::store::sqlite::Sqlite;
use countersign_log::witness::Witnesses;
use countersign_log::{Format, Log, Options};
use countersign_verify::certificate::Certificate;
use countersign_verify::sct::Sct;
use jiff::Timestamp;
use std::fs;
use std::sync::Arc;
use url::Url;
use zeroize::Zeroizing;

/// A running instance's parts, ready to be served.
pub(crate) struct Instance {
    pub(crate) directory: Directory,
    pub(crate) url: Url,
    pub(crate) signatures: rekor_v2::Face,
    pub(crate) older: rekor_v1::Face,
    pub(crate) certificates: static_ct::Face,
    pub(crate) authority: Arc<Authority>,
    pub(crate) timestamps: Arc<TimestampAuthority>,
    pub(crate) provider: Arc<Provider>,
    pub(crate) trust: TrustFiles,
    database: Sqlite,
}

impl Instance {
    /// Opens the instance in `directory`, to be reached at `url`.
    pub(crate) async fn open(
        directory: Directory,
        url: &Url,
        others: Vec<Issuer>,
        witnesses: Option<Arc<Witnesses>>,
    ) -> Result<Self, Failure> {
        let settings = directory.settle(url)?;
        let ceremony = authorities(&directory)?;
        let clock: countersign_log::Clock = Arc::new(Timestamp::now);
        let log_failed = |error: &dyn std::fmt::Display| {
            Failure::unclear(format!(
                "the logs in {} do not open: {error}",
                directory.path().display()
            ))
        };
        let database = Sqlite::open(&directory.file("countersign.db")).await;
        let database = database.map_err(|error| log_failed(&error))?;

        let key = directory.secret("keys/log.pem", ed25519_key)?;
        let key = pkcs8(&key)?;
        let signer =
            Signer::ed25519(&settings.log_origin, &key).map_err(|error| log_failed(&error))?;
        let options = Options { witnesses, ..Options::new(Format::Entries) };
        let log = open_log(&directory, &database, "log", options, signer).await?;
        rekor_v2::Face::seed(&log).await.map_err(|error| log_failed(&error))?;
        let signatures = rekor_v2::Face::new(log);

        let key = directory.secret("keys/log-v1.pem", p256_key)?;
        let key = P256Key::from_pkcs8(&pkcs8(&key)?).map_err(|error| log_failed(&error))?;
        let older_key = Arc::new(key);
        let tree_id = rekor_v1::tree_id(older_key.spki());
        let signer = Signer::rekor_v1(&settings.log_origin, tree_id, Arc::clone(&older_key));
        let signer = signer.map_err(|error| log_failed(&error))?;
        let log =
            open_log(&directory, &database, "log-v1", Options::new(Format::Timed), signer).await?;
        let tree = rekor_v1::Tree::new(log, Arc::clone(&older_key));
        tree.seed(&clock).await.map_err(|error| log_failed(&error))?;
        let older = rekor_v1::Face::new(tree, Arc::clone(&clock));

        let key = directory.secret("keys/ct.pem", p256_key)?;
        let key = P256Key::from_pkcs8(&pkcs8(&key)?).map_err(|error| log_failed(&error))?;
        let key = Arc::new(key);
        let origin = &settings.certificate_log_origin;
        let signer = Signer::rfc6962(origin, Arc::clone(&key), Arc::clone(&clock));
        let signer = signer.map_err(|error| log_failed(&error))?;
        let log = open_log(&directory, &database, "ct", Options::new(Format::Data), signer).await?;
        let chain = vec![ceremony.issuing.1.clone(), ceremony.root.1.clone()];
        let roots = [ceremony.root.1.clone()];
        let certificates = static_ct::Face::new(log, Arc::clone(&key), &roots, Arc::clone(&clock));
        let certificates = certificates.map_err(|error| log_failed(&error))?;
        certificates.seed(&chain).await.map_err(|error| log_failed(&error))?;

        let provider = directory.secret("keys/idp.pem", idp::generate_key)?;
        let provider = Arc::new(Provider::new(&settings.url, &provider)?);
        let broken = |error: &dyn std::fmt::Display| {
            Failure::unclear(format!("the certificate authority: {error}"))
        };
        let trust = trust::trust_files(&settings, &signatures, &older_key, &key, &ceremony)?;
        let authority = Authority::new(Parts {
            tokens: issuers(&provider, others)?,
            signer: Box::new(ceremony.issuing.0),
            chain,
            log: Arc::new(InProcess(certificates.clone())),
            log_key: key.spki().to_vec(),
            // A development instance certifies whomever its provider names.
            gate: Arc::new(|_| Ok(())),
            limits: countersign_ca::limits::Limits::none(),
            audit: Audit::open(&directory.file("audit.jsonl")).map_err(|error| broken(&error))?,
            clock,
        });
        let authority = authority.map_err(|error| broken(&error))?;
        let timestamps = TimestampAuthority::new(
            Box::new(ceremony.timestamps.0),
            vec![ceremony.timestamps.1, ceremony.root.1],
        );
        let timestamps = timestamps.map_err(|error| broken(&error))?;
        for (name, json) in [
            ("trust/trusted_root.json", &trust.trusted_root),
            ("trust/signing_config.json", &trust.signing_config),
            ("trust/client_trust_config.json", &trust.client_trust_config),
        ] {
            directory.write(name, json.as_bytes())?;
        }
        Ok(Self {
            url: settings.url,
            signatures,
            older,
            certificates,
            authority: Arc::new(authority),
            timestamps: Arc::new(timestamps),
            provider,
            trust,
            database,
            directory,
        })
    }

    /// All its logs.
    pub(crate) fn logs(&self) -> Vec<Log> {
        let older = self.older.shards().all();
        let signatures = self.signatures.shards().all();
        let signatures = signatures.iter().map(|log| Log::clone(log));
        let older = older.iter().map(|tree| Log::clone((**tree).as_ref()));
        signatures.chain(older).chain([self.certificates.log().clone()]).collect()
    }

    /// Its certificates, by name, and when they expire.
    pub(crate) fn expiries(&self) -> Vec<(&'static str, Timestamp)> {
        let named = |name, chain: &[Vec<u8>]| {
            let certificate = chain.first().and_then(|der| Certificate::parse(der).ok());
            certificate.map(|certificate| (name, certificate.not_after()))
        };
        let root = self.authority.chain().get(1..).unwrap_or_default();
        [
            named("issuing", self.authority.chain()),
            named("root", root),
            named("timestamps", self.timestamps.chain()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Finishes what the logs have pending.
    pub(crate) async fn close(&self) {
        for log in self.logs() {
            log.close().await;
        }
        self.database.close().await;
    }
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

fn issuers(provider: &Provider, others: Vec<Issuer>) -> Result<Verifier, Failure> {
    let own = [
        Issuer::new(&provider.people(), Mapping::EMAIL),
        Issuer::new(&provider.ci(), Mapping::github_actions("https://github.com")),
    ];
    Verifier::new(others.into_iter().chain(own))
        .map_err(|error| Failure::unclear(format!("the identity provider: {error}")))
}

/// Root, issuing CA and timestamp certificate: made together, kept as files. Of a ceremony that a crash
/// cut short nothing was used, so another begins.
fn authorities(directory: &Directory) -> Result<Ceremony, Failure> {
    let made = directory.file("keys/root.crt").exists();
    let failed =
        |error: &dyn std::fmt::Display| Failure::unclear(format!("the authorities' keys: {error}"));
    if !made {
        let ceremony = ceremony::create("Countersign development", Timestamp::now());
        let ceremony = ceremony.map_err(|error| failed(&error))?;
        let parts = [
            ("timestamps", &ceremony.timestamps),
            ("issuing", &ceremony.issuing),
            ("root", &ceremony.root),
        ];
        // The root's certificate is written last: with it the ceremony is complete.
        for (name, (key, certificate)) in parts {
            let pem = key.to_pem().map_err(|error| failed(&error))?;
            directory.write(&format!("keys/{name}.pem"), pem.as_bytes())?;
            let pem = der::pem::encode_string("CERTIFICATE", der::pem::LineEnding::LF, certificate);
            let pem = pem.map_err(|error| failed(&error))?;
            directory.write(&format!("keys/{name}.crt"), pem.as_bytes())?;
        }
        return Ok(ceremony);
    }
    let read = |name: String| {
        let path = directory.file(&name);
        fs::read_to_string(&path).map_err(|error| Failure::file("read", &path, &error))
    };
    let pair = |name: &str| {
        let key = FileSigner::from_pem(&read(format!("keys/{name}.pem"))?);
        let certificate = read(format!("keys/{name}.crt"))?;
        let certificate = der::pem::decode_vec(certificate.as_bytes());
        Ok::<_, Failure>((
            key.map_err(|error| failed(&error))?,
            certificate.map_err(|error| failed(&error))?.1,
        ))
    };
    Ok(Ceremony { root: pair("root")?, issuing: pair("issuing")?, timestamps: pair("timestamps")? })
}

pub(crate) fn ed25519_key() -> Result<Zeroizing<String>, Failure> {
    let key =
        aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new());
    let key = key.map_err(|_| Failure::unclear("cannot make a key for the log"))?;
    private_pem(key.as_ref())
}

fn p256_key() -> Result<Zeroizing<String>, Failure> {
    let key = FileSigner::generate().and_then(|key| key.to_pem());
    let key = key.map_err(|_| Failure::unclear("cannot make a key for the certificate log"))?;
    Ok(key)
}

fn private_pem(der: &[u8]) -> Result<Zeroizing<String>, Failure> {
    der::pem::encode_string("PRIVATE KEY", der::pem::LineEnding::LF, der)
        .map(Zeroizing::new)
        .map_err(|_| Failure::unclear("cannot encode a key"))
}

pub(crate) fn pkcs8(pem: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    match der::pem::decode_vec(pem.as_bytes()) {
        Ok(("PRIVATE KEY", der)) => Ok(der.into()),
        _ => Err(Failure::unclear("expected a private key in PKCS#8, PEM")),
    }
}
