//! The files that describe an instance: ClientTrustConfig, trusted root, signing config v0.2.
//!
//! Read strictly: unknown members and other media types are refused. Services are chosen as the
//! specification of the signing config says: those valid now, of the highest version we speak, at most
//! one an operator, as many as the selector demands.

use crate::http::is_loopback;
use countersign_verify::TrustedRoot;
use countersign_verify::json;
use countersign_verify::trusted_root::{self, wire};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

/// Media type of a ClientTrustConfig.
pub const CLIENT_TRUST_CONFIG: &str = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json";
/// Media type of a signing config.
pub const SIGNING_CONFIG: &str = "application/vnd.dev.sigstore.signingconfig.v0.2+json";

/// One file that describes an instance: whom to trust and where to sign.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientTrustConfig {
    /// [`CLIENT_TRUST_CONFIG`].
    #[serde(alias = "media_type")]
    pub media_type: String,
    /// Whom to trust.
    #[serde(alias = "trusted_root")]
    pub trusted_root: wire::TrustedRoot,
    /// Where to sign.
    #[serde(alias = "signing_config")]
    pub signing_config: SigningConfig,
}

/// Where to sign.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SigningConfig {
    /// [`SIGNING_CONFIG`].
    #[serde(alias = "media_type")]
    pub media_type: String,
    /// Certificate authorities; their URLs are bases.
    #[serde(default, alias = "ca_urls")]
    pub ca_urls: Vec<Service>,
    /// Identity providers; their URLs are issuers.
    #[serde(default, alias = "oidc_urls")]
    pub oidc_urls: Vec<Service>,
    /// Logs; their URLs are bases.
    #[serde(default, alias = "rekor_tlog_urls")]
    pub rekor_tlog_urls: Vec<Service>,
    /// How many logs to use.
    #[serde(alias = "rekor_tlog_config")]
    pub rekor_tlog_config: Option<ServiceConfig>,
    /// Timestamp authorities; their URLs are complete.
    #[serde(default, alias = "tsa_urls")]
    pub tsa_urls: Vec<Service>,
    /// How many timestamp authorities to use.
    #[serde(alias = "tsa_config")]
    pub tsa_config: Option<ServiceConfig>,
}

/// One service.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// Where it is.
    pub url: Url,
    /// Which generation of its protocol it speaks: certificate and timestamp authorities 1, logs 1 or 2.
    #[serde(alias = "major_api_version")]
    pub major_api_version: u32,
    /// When to use it.
    #[serde(alias = "valid_for")]
    pub valid_for: wire::Window,
    /// Who runs it.
    #[serde(default)]
    pub operator: String,
}

/// How many services of a kind to use.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceConfig {
    /// All, any one, or so many.
    pub selector: Selector,
    /// How many, for [`Selector::Exact`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
}

/// How many services of a kind to use.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Selector {
    /// Every one.
    All,
    /// Any one.
    Any,
    /// Exactly `count`.
    Exact,
}

/// The services chosen for one signature.
#[derive(Clone, Debug)]
pub struct Services {
    /// The certificate authority's base.
    pub certificate_authority: Url,
    /// The logs, one at least, all of one version.
    pub logs: Vec<LogService>,
    /// The timestamp authorities.
    pub timestamp_authorities: Vec<Url>,
}

/// A log to submit to.
#[derive(Clone, Debug)]
pub struct LogService {
    /// Its base.
    pub url: Url,
    /// Which protocol it speaks.
    pub version: LogVersion,
}

/// The generations of Rekor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogVersion {
    /// Entries with a promise that tells the time.
    V1,
    /// Tiles; timestamps come from an authority.
    V2,
}

impl Services {
    /// Every URL among them.
    pub fn urls(&self) -> impl Iterator<Item = &Url> {
        [&self.certificate_authority]
            .into_iter()
            .chain(self.logs.iter().map(|log| &log.url))
            .chain(&self.timestamp_authorities)
    }

    /// The certificate authority, if the token would go to it over plain HTTP and leave this machine: whoever
    /// reads it on the way can sign as whom it names.
    #[must_use]
    pub fn exposed(&self) -> Option<&Url> {
        let authority = &self.certificate_authority;
        (authority.scheme() != "https" && !is_loopback(authority)).then_some(authority)
    }
}

impl ClientTrustConfig {
    /// Reads the file.
    ///
    /// # Errors
    /// When it is something else, or one of its parts is.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let config: Self = read("client trust config", json)?;
        expect(CLIENT_TRUST_CONFIG, &config.media_type)?;
        expect(SIGNING_CONFIG, &config.signing_config.media_type)?;
        Ok(config)
    }

    /// Checks the trusted root.
    ///
    /// # Errors
    /// When a key, window or chain in it does not hold.
    pub fn trusted_root(&self) -> Result<TrustedRoot, Error> {
        Ok(TrustedRoot::from_wire(&self.trusted_root)?)
    }
}

impl SigningConfig {
    /// Reads the file.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let config: Self = read("signing config", json)?;
        expect(SIGNING_CONFIG, &config.media_type)?;
        Ok(config)
    }

    /// Chooses the services to sign with at `now`.
    ///
    /// # Errors
    /// When there are fewer than needed: one certificate authority, and as many logs and timestamp
    /// authorities as their selectors demand, at least one of each; beside Rekor v1, which tells the
    /// time itself, there may be no timestamp authority.
    pub fn select(&self, now: Timestamp) -> Result<Services, Error> {
        let one = Some(ServiceConfig { selector: Selector::Any, count: None });
        let first = |mut urls: Vec<Url>| urls.swap_remove(0);
        let (logs, version) = self.choose_logs(now)?;
        Ok(Services {
            certificate_authority: first(choose(
                "certificate authority",
                &self.ca_urls,
                1,
                one,
                now,
            )?),
            timestamp_authorities: if version == LogVersion::V1 && self.tsa_urls.is_empty() {
                Vec::new()
            } else {
                choose("timestamp authority", &self.tsa_urls, 1, self.tsa_config, now)?
            },
            logs: logs.into_iter().map(|url| LogService { url, version }).collect(),
        })
    }

    /// Where people log in at `now`, if the config says.
    #[must_use]
    pub fn login(&self, now: Timestamp) -> Option<Url> {
        let one = Some(ServiceConfig { selector: Selector::Any, count: None });
        choose("identity provider", &self.oidc_urls, 1, one, now).ok()?.into_iter().next()
    }

    /// The same with logs of Rekor v1 alone, for verifiers that know nothing newer.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    pub fn select_v1(&self, now: Timestamp) -> Result<Services, Error> {
        let v1 = |log: &&Service| log.major_api_version == 1;
        let logs = self.rekor_tlog_urls.iter().filter(v1).cloned().collect();
        Self { rekor_tlog_urls: logs, ..self.clone() }.select(now)
    }

    /// The logs of the highest version that is offered now.
    fn choose_logs(&self, now: Timestamp) -> Result<(Vec<Url>, LogVersion), Error> {
        let choose =
            |version| choose("log", &self.rekor_tlog_urls, version, self.rekor_tlog_config, now);
        match (choose(2), choose(1)) {
            (Ok(urls), _) => Ok((urls, LogVersion::V2)),
            // Fewer than demanded of the newer version is an error, not a reason for the older one.
            (Err(Error::TooFew { found: 0, .. }), Ok(urls)) => Ok((urls, LogVersion::V1)),
            (Err(error), _) => Err(error),
        }
    }
}

fn choose(
    kind: &'static str,
    services: &[Service],
    version: u32,
    config: Option<ServiceConfig>,
    now: Timestamp,
) -> Result<Vec<Url>, Error> {
    let valid = |window: &wire::Window| {
        window.start.is_none_or(|start| start <= now) && window.end.is_none_or(|end| now <= end)
    };
    let mut usable: Vec<&Service> = services
        .iter()
        .filter(|service| service.major_api_version == version && valid(&service.valid_for))
        .collect();
    usable.sort_by_key(|service| std::cmp::Reverse(service.valid_for.start));
    let mut operators = Vec::new();
    usable.retain(|service| {
        let new = !operators.contains(&&service.operator);
        operators.push(&service.operator);
        new
    });
    let wanted = match config {
        Some(ServiceConfig { selector: Selector::All, .. }) => usable.len().max(1),
        Some(ServiceConfig { selector: Selector::Exact, count }) => {
            usize::try_from(count.unwrap_or(1)).unwrap_or(usize::MAX)
        }
        Some(ServiceConfig { selector: Selector::Any, .. }) | None => 1,
    };
    if wanted == 0 || usable.len() < wanted {
        return Err(Error::TooFew { kind, version, expected: wanted.max(1), found: usable.len() });
    }
    Ok(usable.into_iter().take(wanted).map(|service| service.url.clone()).collect())
}

fn read<'a, T: Deserialize<'a>>(what: &'static str, json: &'a [u8]) -> Result<T, Error> {
    json::from_slice(json).map_err(|error| Error::Json { what, message: error.to_string() })
}

fn expect(expected: &'static str, found: &str) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    Err(Error::MediaType { expected, found: found.chars().take(100).collect() })
}

/// Why a file does not describe an instance.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not JSON, or not these members.
    #[error("not a {what}: {message}")]
    Json {
        /// What was expected.
        what: &'static str,
        /// What the reader met, with the place.
        message: String,
    },
    /// Another file, or another version.
    #[error("expected media type {expected}, found {found:?}")]
    MediaType {
        /// The media type demanded.
        expected: &'static str,
        /// The beginning of the one found.
        found: String,
    },
    /// The trusted root does not hold.
    #[error("trusted root: {0}")]
    TrustedRoot(#[from] trusted_root::Error),
    /// Not enough services.
    #[error(
        "the signing config offers {found} usable services of kind {kind}, API version {version}; expected {expected}"
    )]
    TooFew {
        /// What is missing.
        kind: &'static str,
        /// The API version we speak.
        version: u32,
        /// How many are needed.
        expected: usize,
        /// How many there are.
        found: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(url: &str, version: u32, start: &str, end: Option<&str>, operator: &str) -> Service {
        let valid_for = wire::Window {
            start: Some(start.parse().unwrap()),
            end: end.map(|end| end.parse().unwrap()),
        };
        let url = url.parse().unwrap();
        Service { url, major_api_version: version, valid_for, operator: operator.to_owned() }
    }

    #[test]
    fn the_newest_valid_service_of_the_version_we_speak_is_chosen() {
        let now = "2026-11-23T00:00:00Z".parse().unwrap();
        let services = [
            service("http://old", 2, "2025-01-01T00:00:00Z", None, "a"),
            service("http://new", 2, "2026-01-01T00:00:00Z", None, "a"),
            service("http://v1", 1, "2026-06-01T00:00:00Z", None, "a"),
            service("http://ended", 2, "2026-06-01T00:00:00Z", Some("2026-07-01T00:00:00Z"), "b"),
            service("http://later", 2, "2027-01-01T00:00:00Z", None, "b"),
            service("http://other", 2, "2024-01-01T00:00:00Z", None, "c"),
        ];
        let chosen = |selector, count| {
            let config = Some(ServiceConfig { selector, count });
            choose("log", &services, 2, config, now)
                .map(|urls| urls.iter().map(Url::to_string).collect::<Vec<_>>())
        };
        assert_eq!(chosen(Selector::Any, None).unwrap(), ["http://new/"]);
        assert_eq!(chosen(Selector::All, None).unwrap(), ["http://new/", "http://other/"]);
        assert_eq!(chosen(Selector::Exact, Some(2)).unwrap().len(), 2);
        assert_eq!(
            chosen(Selector::Exact, Some(3)).unwrap_err(),
            Error::TooFew { kind: "log", version: 2, expected: 3, found: 2 }
        );
    }
}
