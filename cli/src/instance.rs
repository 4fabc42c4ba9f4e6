//! A development instance: its directory, keys, logs and authorities.
//!
//! ```text
//! instance.json        its URL, the logs' names, when it was made
//! instance.lock        held by the process that runs it
//! keys/*.pem           PKCS#8, readable by the owner only
//! keys/*.crt           certificates: root, issuing CA, timestamps
//! countersign.db       the logs' latest checkpoints, and which entry is where
//! log/, ct/            tiles and checkpoints, as they are served
//! trust/*.json         what clients need
//! audit.jsonl          every issuance and refusal
//! ```
//! Everything of it is made the first time, and continued ever after.

use crate::failure::Failure;
use crate::idp::{self, Provider};
use countersign_ca::audit::Audit;
use countersign_ca::ceremony::{self, Ceremony};
use countersign_ca::identity::jwks::KeySource;
use countersign_ca::identity::{Issuer, Mapping, Verifier};
use countersign_ca::issue::{Authority, CertificateLog, LogError, Parts};
use countersign_ca::signer::FileSigner;
use countersign_ca::timestamp::TimestampAuthority;
use countersign_client::trust::{
    CLIENT_TRUST_CONFIG, ClientTrustConfig, SIGNING_CONFIG, Selector, Service, ServiceConfig,
    SigningConfig,
};
use countersign_log::face::{rekor_v2, static_ct};
use countersign_log::signer::{CertificateKey, LogKey, Signer};
use countersign_log::store::CheckpointLock;
use countersign_log::store::files::Files;
use countersign_log::store::sqlite::Sqlite;
use countersign_log::{Format, Options};
use countersign_verify::TrustedRoot;
use countersign_verify::key::ed25519_spki;
use countersign_verify::note::ed25519_key_id;
use countersign_verify::sct::Sct;
use countersign_verify::trusted_root::{self, Log, wire};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
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
    log_origin: String,
    /// The certificate log's origin: host and port of the URL at the time it was made.
    certificate_log_origin: String,
    /// When it was made; its keys are trusted from an hour before.
    created: String,
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
        let path = self.file("instance.json");
        match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json).map(Some).map_err(|error| {
                Failure::unclear(format!("{}: {error}", path.display()))
                    .hint("restore the file, or start with another --dir")
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::file("read", &path, &error)),
        }
    }

    /// The settings for `url`: those remembered, or new ones.
    fn settle(&self, url: &Url) -> Result<Settings, Failure> {
        let host = url.host_str().ok_or_else(|| Failure::unclear(format!("{url} has no host")))?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let settings = match self.settings()? {
            Some(settings) if settings.log_origin != host => {
                let message = format!(
                    "the log in {} is named {:?} for good; it cannot be served at host {host:?}",
                    self.path.display(),
                    settings.log_origin
                );
                return Err(Failure::unclear(message)
                    .hint("use --url with that host, or start with another --dir"));
            }
            Some(settings) => Settings { url: url.clone(), ..settings },
            None => {
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

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A file's text; if it is not there yet, `make` makes it, durably and for the owner's eyes only.
    fn secret(
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

    /// Puts a file in place whole and durably, readable by its owner only (the default of tempfile).
    fn write(&self, name: &str, content: &[u8]) -> Result<(), Failure> {
        let path = self.file(name);
        let failed = |error: std::io::Error| Failure::file("write", &path, &error);
        let folder = path.parent().unwrap_or(&self.path);
        fs::create_dir_all(folder).map_err(failed)?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        file.write_all(content).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

/// A running instance's parts, ready to be served.
pub(crate) struct Instance {
    pub(crate) directory: Directory,
    pub(crate) url: Url,
    pub(crate) signatures: rekor_v2::Face,
    pub(crate) certificates: static_ct::Face,
    pub(crate) authority: Arc<Authority>,
    pub(crate) timestamps: Arc<TimestampAuthority>,
    pub(crate) provider: Arc<Provider>,
    pub(crate) trust: TrustFiles,
    database: Sqlite,
}

/// The files that clients need, JSON.
#[derive(Clone)]
pub(crate) struct TrustFiles {
    pub(crate) trusted_root: String,
    pub(crate) signing_config: String,
    pub(crate) client_trust_config: String,
}

impl Instance {
    /// Opens the instance in `directory`, to be reached at `url`.
    pub(crate) async fn open(directory: Directory, url: &Url) -> Result<Self, Failure> {
        let settings = directory.settle(url)?;
        let ceremony = authorities(&directory)?;
        let clock: countersign_log::Clock = Arc::new(Timestamp::now);
        let log_failed = |error: &dyn std::fmt::Display| {
            Failure::unclear(format!(
                "the logs in {} do not open: {error}",
                directory.path.display()
            ))
        };
        let database = Sqlite::open(&directory.file("countersign.db")).await;
        let database = database.map_err(|error| log_failed(&error))?;

        let key = directory.secret("keys/log.pem", ed25519_key)?;
        let key = pkcs8(&key)?;
        let signer =
            Signer::ed25519(&settings.log_origin, &key).map_err(|error| log_failed(&error))?;
        let log = open_log(&directory, &database, "log", Format::Entries, signer).await?;
        let signatures = rekor_v2::Face::new(log);
        signatures.seed().await.map_err(|error| log_failed(&error))?;

        let key = directory.secret("keys/ct.pem", p256_key)?;
        let key = CertificateKey::from_pkcs8(&pkcs8(&key)?).map_err(|error| log_failed(&error))?;
        let key = Arc::new(key);
        let origin = &settings.certificate_log_origin;
        let signer = Signer::rfc6962(origin, Arc::clone(&key), Arc::clone(&clock));
        let signer = signer.map_err(|error| log_failed(&error))?;
        let log = open_log(&directory, &database, "ct", Format::Data, signer).await?;
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
        let trust = trust_files(&settings, &signatures, &key, &ceremony)?;
        let authority = Authority::new(Parts {
            tokens: issuers(&provider)?,
            signer: Box::new(ceremony.issuing.0),
            chain,
            log: Arc::new(InProcess(certificates.clone())),
            log_key: key.spki().to_vec(),
            // A development instance certifies whomever its provider names.
            gate: Arc::new(|_| Ok(())),
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
            certificates,
            authority: Arc::new(authority),
            timestamps: Arc::new(timestamps),
            provider,
            trust,
            database,
            directory,
        })
    }

    /// Finishes what the logs have pending.
    pub(crate) async fn close(&self) {
        self.signatures.log().close().await;
        self.certificates.log().close().await;
        self.database.close().await;
    }
}

async fn open_log(
    directory: &Directory,
    database: &Sqlite,
    name: &str,
    format: Format,
    signer: Signer,
) -> Result<countersign_log::Log, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        let folder = directory.file(name);
        Failure::unclear(format!("the log in {} does not open: {error}", folder.display()))
    };
    let store = Files::open(directory.file(name)).map_err(|error| failed(&error))?;
    let lock: Arc<dyn CheckpointLock> =
        Arc::new(database.lock(name).await.map_err(|error| failed(&error))?);
    let log = countersign_log::Log::open(Options::new(format), signer, Arc::new(store), lock).await;
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

fn issuers(provider: &Provider) -> Result<Verifier, Failure> {
    let issuer = |url: String, mapping| {
        let keys =
            KeySource::new(&url).map_err(|error| Failure::unclear(format!("{url}: {error}")))?;
        Ok::<_, Failure>((url, Issuer { audience: "sigstore".to_owned(), mapping, keys }))
    };
    Ok(Verifier::new(BTreeMap::from([
        issuer(provider.people(), Mapping::Email)?,
        issuer(provider.ci(), Mapping::github_actions("https://github.com"))?,
    ])))
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

fn ed25519_key() -> Result<Zeroizing<String>, Failure> {
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

fn pkcs8(pem: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    match der::pem::decode_vec(pem.as_bytes()) {
        Ok(("PRIVATE KEY", der)) => Ok(der.into()),
        _ => Err(Failure::unclear("expected a private key in PKCS#8, PEM")),
    }
}

fn trust_files(
    settings: &Settings,
    signatures: &rekor_v2::Face,
    certificates: &CertificateKey,
    ceremony: &Ceremony,
) -> Result<TrustFiles, Failure> {
    let created: Timestamp = settings
        .created
        .parse()
        .map_err(|_| Failure::unclear("instance.json: \"created\" is not a time in RFC 3339"))?;
    let start = Some(created - SignedDuration::from_hours(1));
    let window = || wire::Window { start, end: None };
    let base = settings.url.as_str().trim_end_matches('/').to_owned();
    let log = |base_url: String, spki: &[u8], details: &str, id: &[u8]| wire::Log {
        base_url,
        hash_algorithm: "SHA2_256".to_owned(),
        public_key: wire::PublicKey {
            raw_bytes: spki.to_vec(),
            key_details: details.to_owned(),
            valid_for: Some(window()),
        },
        log_id: wire::LogId { key_id: id.to_vec() },
        checkpoint_key_id: None,
        operator: None,
    };
    let authority = |uri: String, chain: [&[u8]; 2]| wire::Authority {
        subject: wire::DistinguishedName {
            organization: "Countersign development".to_owned(),
            common_name: "Countersign development root".to_owned(),
        },
        uri,
        cert_chain: wire::CertificateChain {
            certificates: chain.map(|der| wire::Certificate { raw_bytes: der.to_vec() }).into(),
        },
        valid_for: Some(window()),
        operator: None,
    };
    let spki = signatures.log().key().spki();
    let public: [u8; 32] = *spki.last_chunk().expect("an Ed25519 key ends in its 32 bytes");
    debug_assert_eq!(spki, ed25519_spki(&public));
    let id = ed25519_key_id(&settings.log_origin, &public);
    let root = &ceremony.root.1[..];
    let trusted_root = wire::TrustedRoot {
        media_type: trusted_root::MEDIA_TYPE.to_owned(),
        tlogs: vec![log(base.clone(), spki, "PKIX_ED25519", &id)],
        certificate_authorities: vec![authority(base.clone(), [&ceremony.issuing.1, root])],
        ctlogs: vec![log(
            format!("{base}/ct"),
            certificates.spki(),
            "PKIX_ECDSA_P256_SHA_256",
            certificates.log_id(),
        )],
        timestamp_authorities: vec![authority(
            format!("{base}/api/v1/timestamp"),
            [&ceremony.timestamps.1, root],
        )],
    };
    let service = |url: String, major_api_version| Service {
        url: Url::parse(&url).expect("a base URL with a path is one"),
        major_api_version,
        valid_for: window(),
        operator: settings.log_origin.clone(),
    };
    let any = Some(ServiceConfig { selector: Selector::Any, count: None });
    let signing_config = SigningConfig {
        media_type: SIGNING_CONFIG.to_owned(),
        ca_urls: vec![service(base.clone(), 1)],
        oidc_urls: vec![service(base.clone(), 1)],
        rekor_tlog_urls: vec![service(base.clone(), 2)],
        rekor_tlog_config: any,
        tsa_urls: vec![service(format!("{base}/api/v1/timestamp"), 1)],
        tsa_config: any,
    };
    let config = ClientTrustConfig {
        media_type: CLIENT_TRUST_CONFIG.to_owned(),
        trusted_root: trusted_root.clone(),
        signing_config: signing_config.clone(),
    };
    Ok(TrustFiles {
        trusted_root: json(&trusted_root),
        signing_config: json(&signing_config),
        client_trust_config: json(&config),
    })
}

/// The public keys of an instance's logs.
pub(crate) struct LogKeys {
    pub(crate) signatures: LogKey,
    pub(crate) certificates: LogKey,
}

/// The keys of the logs in a directory, out of its settings and trusted root; nothing is locked.
pub(crate) fn log_keys(path: &Path) -> Result<LogKeys, Failure> {
    let read = |name: &str| {
        let path = path.join(name);
        fs::read(&path).map_err(|error| Failure::file("read", &path, &error))
    };
    let broken =
        |error: &dyn std::fmt::Display| Failure::unclear(format!("{}: {error}", path.display()));
    let settings = serde_json::from_slice::<Settings>(&read("instance.json")?)
        .map_err(|error| broken(&error))?;
    let root =
        TrustedRoot::parse(&read("trust/trusted_root.json")?).map_err(|error| broken(&error))?;
    let key = |logs: &[Log], origin: &str| {
        let log = logs.first().ok_or_else(|| broken(&"the trusted root lists no log"))?;
        LogKey::from_spki(origin, log.key().spki()).map_err(|error| broken(&error))
    };
    Ok(LogKeys {
        signatures: key(root.logs(), &settings.log_origin)?,
        certificates: key(root.certificate_logs(), &settings.certificate_log_origin)?,
    })
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("texts and numbers only")
}
