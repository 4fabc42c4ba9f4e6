//! What clients need to know of an instance: trusted root, signing config, and both in one.

use super::directory::Settings;
use super::shards::{base_url, folder};
use super::{LogName, Logs, Services, Shards, audit};
use crate::failure::Failure;
use countersign_ca::credential::Credential;
use countersign_client::trust::{
    CLIENT_TRUST_CONFIG, ClientTrustConfig, SIGNING_CONFIG, Selector, Service, ServiceConfig,
    SigningConfig,
};
use countersign_log::face::rekor_v1::tree_id;
use countersign_log::{Format, LogKey, signer};
use countersign_verify::TrustedRoot;
use countersign_verify::key::ed25519_spki;
use countersign_verify::note::VerifierKey;
use countersign_verify::trusted_root::{self, wire};
use jiff::SignedDuration;
use serde::Serialize;
use std::fs;
use std::path::Path;
use url::Url;

/// The keys of the audit log, for whoever reads the directory.
pub(super) const AUDIT_KEYS: &str = "trust/audit.keys";

/// The files that clients need, JSON.
#[derive(Clone, Default)]
pub(crate) struct TrustFiles {
    pub(crate) trusted_root: String,
    pub(crate) signing_config: String,
    pub(crate) client_trust_config: String,
    /// Of the audit log's shards in order, one a line, as C2SP writes verifier keys; not for clients.
    pub(crate) audit_keys: String,
}

pub(super) fn trust_files(
    settings: &Settings,
    logs: &Logs,
    shards: &Shards,
    services: &Services,
) -> Result<TrustFiles, Failure> {
    let created = settings.created()?;
    let start = Some(created - SignedDuration::from_hours(1));
    let window = || wire::Window { start, end: None };
    let base = settings.url.as_str().trim_end_matches('/').to_owned();
    let listed = |log: LogName, path: &str, details: &str| -> Result<Vec<wire::Log>, Failure> {
        let all = shards.of(log).iter().zip(logs.of(log));
        let listed = (1..).zip(all).map(|(number, (shard, log_of))| {
            let url = base_url(&settings.url, shard.host.as_deref(), number)?;
            let (start, end) = shards.window(log, number);
            let key = log_of.key();
            Ok(wire::Log {
                base_url: format!("{}{path}", url.as_str().trim_end_matches('/')),
                hash_algorithm: "SHA2_256".to_owned(),
                public_key: wire::PublicKey {
                    raw_bytes: key.spki().to_vec(),
                    key_details: details.to_owned(),
                    valid_for: Some(wire::Window { start: Some(start), end }),
                },
                log_id: wire::LogId { key_id: key.log_id().to_vec() },
                checkpoint_key_id: None,
                operator: None,
            })
        });
        listed.collect()
    };
    let authorities = |uri: String, all: &[Credential]| -> Vec<wire::Authority> {
        all.iter()
            .map(|credential| {
                // All stay, and their certificates say how long: what they signed stays good.
                let chain = credential.chain.iter();
                wire::Authority {
                    subject: wire::DistinguishedName {
                        organization: services.organization.clone(),
                        common_name: format!("{} root", services.organization),
                    },
                    uri: uri.clone(),
                    cert_chain: wire::CertificateChain {
                        certificates: chain
                            .map(|der| wire::Certificate { raw_bytes: der.clone() })
                            .collect(),
                    },
                    valid_for: Some(window()),
                    operator: None,
                }
            })
            .collect()
    };
    let mut older = listed(LogName::LogV1, "", "PKIX_ECDSA_P256_SHA_256")?;
    // All shards are spoken to at one place.
    older.iter_mut().for_each(|log| log.base_url.clone_from(&base));
    let mut tlogs = listed(LogName::Log, "", "PKIX_ED25519")?;
    tlogs.extend(older);
    let trusted_root = wire::TrustedRoot {
        media_type: trusted_root::MEDIA_TYPE.to_owned(),
        tlogs,
        certificate_authorities: authorities(base.clone(), &services.issuing),
        ctlogs: listed(LogName::Ct, "/ct", "PKIX_ECDSA_P256_SHA_256")?,
        timestamp_authorities: authorities(format!("{base}/api/v1/timestamp"), &services.stamping),
    };
    let service = |url: String, major_api_version| Service {
        url: Url::parse(&url).expect("a base URL with a path is one"),
        major_api_version,
        valid_for: window(),
        operator: settings.log_origin.clone(),
    };
    let any = Some(ServiceConfig { selector: Selector::Any, count: None });
    // Clients take the one that began last. Writes to a shard that has ended reach the next one; a frozen
    // one takes none.
    let mut rekor_tlog_urls = Vec::new();
    for (place, shard) in shards.of(LogName::Log).iter().enumerate().rev() {
        let number = place + 1;
        let Some(begun) = shard.begun.filter(|_| shard.frozen.is_none()) else { continue };
        let url = base_url(&settings.url, shard.host.as_deref(), number)?;
        let start = if number == 1 { start } else { Some(begun) };
        let valid_for = wire::Window { start, end: shard.ended };
        rekor_tlog_urls.push(Service { url, valid_for, ..service(base.clone(), 2) });
    }
    // Some clients take the service that began last, whatever its version.
    let start = Some(created - SignedDuration::from_hours(2));
    let valid_for = wire::Window { start, end: None };
    rekor_tlog_urls.push(Service { valid_for, ..service(base.clone(), 1) });
    let signing_config = SigningConfig {
        media_type: SIGNING_CONFIG.to_owned(),
        ca_urls: vec![service(base.clone(), 1)],
        oidc_urls: services.login.iter().map(|url| service(url.clone(), 1)).collect(),
        rekor_tlog_urls,
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
        audit_keys: logs
            .of(LogName::Audit)
            .iter()
            .filter_map(|log| log.key().verifier_key())
            .map(|key| format!("{key}\n"))
            .collect(),
    })
}

/// A shard of a log in a directory.
pub(crate) struct Stored {
    pub(crate) log: LogName,
    /// Its folder, and its lock's name.
    pub(crate) folder: String,
    pub(crate) key: LogKey,
    pub(crate) format: Format,
}

/// The shards of all logs in a directory, out of its settings and trusted root; nothing is locked.
pub(crate) fn stored_logs(path: &Path) -> Result<Vec<Stored>, Failure> {
    let broken =
        |error: &dyn std::fmt::Display| Failure::unclear(format!("{}: {error}", path.display()));
    let settings = Settings::read(path)?.ok_or_else(|| broken(&"there is no instance"))?;
    let shards = Shards::of_directory(path)?;
    let root = path.join("trust/trusted_root.json");
    let root = fs::read(&root).map_err(|error| Failure::file("read", &root, &error))?;
    let root = TrustedRoot::parse(&root).map_err(|error| broken(&error))?;
    let count = |logs: &[LogName]| logs.iter().map(|log| shards.of(*log).len()).sum::<usize>();
    let (signatures, certificates) =
        (count(&[LogName::Log, LogName::LogV1]), count(&[LogName::Ct]));
    let listed = (root.logs().len(), root.certificate_logs().len());
    if listed != (signatures, certificates) {
        return Err(broken(&format!(
            "shards.json has {signatures} signature logs and {certificates} certificate logs, trust/trusted_root.json lists {} and {}",
            listed.0, listed.1
        ))
        .hint("start the instance once: it writes trust/ anew"));
    }
    let (mut signatures, mut certificates) = (root.logs().iter(), root.certificate_logs().iter());
    let audit = audit_keys(path)?;
    let mut audit = audit.iter();
    let mut stored = Vec::new();
    // In the order in which the files were written.
    for log in LogName::ALL {
        for (number, shard) in (1..).zip(shards.of(log)) {
            let spki = match log {
                LogName::Ct => certificates.next().map(|log| log.key().spki()),
                LogName::Log | LogName::LogV1 => signatures.next().map(|log| log.key().spki()),
                LogName::Audit => audit.next().map(|key| &key[..]),
            };
            let spki = spki.ok_or_else(|| {
                broken(&format!("no key is listed for {}", folder(log, number)))
                    .hint("start the instance once: it makes what it has not yet")
            })?;
            let key = log_key(&settings, log, number, shard.host.as_deref(), spki);
            let key = key.map_err(|error| broken(&error))?;
            let format = match log {
                LogName::Log | LogName::Audit => Format::Entries,
                LogName::LogV1 => Format::Timed,
                LogName::Ct => Format::Data,
            };
            stored.push(Stored { log, folder: folder(log, number), key, format });
        }
    }
    Ok(stored)
}

/// The key of a shard with its origin. `host` is the shard's own, if it has one.
pub(super) fn log_key(
    settings: &Settings,
    log: LogName,
    number: usize,
    host: Option<&str>,
    spki: &[u8],
) -> Result<LogKey, signer::Error> {
    let host = host.unwrap_or(&settings.log_origin);
    match log {
        LogName::Log => LogKey::from_spki(host, spki),
        LogName::LogV1 => LogKey::rekor_v1(host, tree_id(spki), spki),
        LogName::Ct => LogKey::from_spki(&certificate_origin(settings, number), spki),
        LogName::Audit => LogKey::from_spki(&audit::origin(settings), spki),
    }
}

/// The keys of the audit log's shards in a directory, SubjectPublicKeyInfo; none before its first start.
fn audit_keys(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let path = path.join(AUDIT_KEYS);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        read => read.map_err(|error| Failure::file("read", &path, &error))?,
    };
    let spki = |line: &str| {
        let key = VerifierKey::parse(line).ok()?;
        Some(ed25519_spki(key.public_key().try_into().ok()?))
    };
    text.lines()
        .map(|line| {
            spki(line).ok_or_else(|| {
                let message = format!("{}: {line:?} is no Ed25519 key of a log", path.display());
                Failure::unclear(message)
            })
        })
        .collect()
}

/// The origin of a shard of the certificate log.
pub(super) fn certificate_origin(settings: &Settings, number: usize) -> String {
    match number {
        1 => settings.certificate_log_origin.clone(),
        _ => format!("{}/shards/{number}", settings.certificate_log_origin),
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("texts and numbers only")
}
