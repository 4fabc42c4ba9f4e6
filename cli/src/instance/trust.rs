//! What clients need to know of an instance: trusted root, signing config, and both in one.

use super::Plan;
use super::directory::Settings;
use crate::failure::Failure;
use countersign_ca::credential::Credential;
use countersign_client::trust::{
    CLIENT_TRUST_CONFIG, ClientTrustConfig, SIGNING_CONFIG, Selector, Service, ServiceConfig,
    SigningConfig,
};
use countersign_log::face::rekor_v1::tree_id;
use countersign_log::face::rekor_v2;
use countersign_log::signer::{LogKey, P256Key};
use countersign_verify::TrustedRoot;
use countersign_verify::key::ed25519_spki;
use countersign_verify::note::ed25519_key_id;
use countersign_verify::trusted_root::{self, Log, wire};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::fs;
use std::path::Path;
use url::Url;

/// The files that clients need, JSON.
#[derive(Clone)]
pub(crate) struct TrustFiles {
    pub(crate) trusted_root: String,
    pub(crate) signing_config: String,
    pub(crate) client_trust_config: String,
}

pub(super) fn trust_files(
    settings: &Settings,
    signatures: &rekor_v2::Face,
    older: &P256Key,
    certificates: &P256Key,
    plan: &Plan,
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
    let authorities = |uri: String, all: &[Credential]| -> Vec<wire::Authority> {
        all.iter()
            .map(|credential| {
                // All stay, and their certificates say how long: what they signed stays good.
                let chain = credential.chain.iter();
                wire::Authority {
                    subject: wire::DistinguishedName {
                        organization: plan.organization.clone(),
                        common_name: format!("{} root", plan.organization),
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
    let signatures = signatures.shards().active();
    let spki = signatures.key().spki();
    let public: [u8; 32] = *spki.last_chunk().expect("an Ed25519 key ends in its 32 bytes");
    debug_assert_eq!(spki, ed25519_spki(&public));
    let id = ed25519_key_id(&settings.log_origin, &public);
    let trusted_root = wire::TrustedRoot {
        media_type: trusted_root::MEDIA_TYPE.to_owned(),
        tlogs: vec![
            log(base.clone(), spki, "PKIX_ED25519", &id),
            log(base.clone(), older.spki(), "PKIX_ECDSA_P256_SHA_256", older.log_id()),
        ],
        certificate_authorities: authorities(base.clone(), &plan.issuing),
        ctlogs: vec![log(
            format!("{base}/ct"),
            certificates.spki(),
            "PKIX_ECDSA_P256_SHA_256",
            certificates.log_id(),
        )],
        timestamp_authorities: authorities(format!("{base}/api/v1/timestamp"), &plan.timestamps),
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
        oidc_urls: plan.login.iter().map(|url| service(url.clone(), 1)).collect(),
        rekor_tlog_urls: vec![
            service(base.clone(), 2),
            // Some clients take the service that began last, whatever its version.
            Service {
                valid_for: wire::Window {
                    start: Some(created - SignedDuration::from_hours(2)),
                    end: None,
                },
                ..service(base.clone(), 1)
            },
        ],
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
    pub(crate) older: LogKey,
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
        older: older(&root, &settings)?,
        certificates: key(root.certificate_logs(), &settings.certificate_log_origin)?,
    })
}

fn older(root: &TrustedRoot, settings: &Settings) -> Result<LogKey, Failure> {
    let log = root.logs().get(1).ok_or_else(|| {
        Failure::unclear("the trusted root lists no Rekor v1 log")
            .hint("start the instance once: it makes what it has not yet")
    })?;
    let spki = log.key().spki();
    LogKey::rekor_v1(&settings.log_origin, tree_id(spki), spki)
        .map_err(|error| Failure::unclear(error.to_string()))
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("texts and numbers only")
}
