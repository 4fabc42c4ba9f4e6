//! Trusted roots: the keys and authorities that a verifier starts from, each with its window of time.
//!
//! `trusted_root.json` of sigstore/protobuf-specs. Accepted are the three spellings of its media type
//! and the members of version 0.2, by protobuf's own names, too. Refused: unknown members, keys that do
//! not parse, a log key without a start of validity, windows that end before they start, chains whose
//! certificates do not sign each other. Certificate chains are checked here, once, and not again for each
//! bundle.

pub mod wire;

use crate::chain::{CertificateAuthority, TimestampAuthority};
use crate::json;
use crate::key::{self, HashAlgorithm, KeyDetails, KeyKind, PublicKey};
use crate::limits::MAX_TRUSTED_ROOT;
use jiff::Timestamp;

/// The media type that every client reads.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.trustedroot+json;version=0.1";

const MEDIA_TYPES: [&str; 3] = [
    MEDIA_TYPE,
    "application/vnd.dev.sigstore.trustedroot.v0.1+json",
    "application/vnd.dev.sigstore.trustedroot.v0.2+json",
];

/// A time span, both ends included; without an end it is open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Window {
    /// First instant; none for authorities that do not name one.
    pub start: Option<Timestamp>,
    /// Last instant.
    pub end: Option<Timestamp>,
}

impl Window {
    /// Whether `time` lies within.
    #[must_use]
    pub fn contains(&self, time: Timestamp) -> bool {
        self.start.is_none_or(|start| start <= time) && self.end.is_none_or(|end| time <= end)
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.start, self.end) {
            (Some(start), Some(end)) => write!(f, "{start} to {end}"),
            (Some(start), None) => write!(f, "{start} onwards"),
            (None, Some(end)) => write!(f, "until {end}"),
            (None, None) => f.write_str("any time"),
        }
    }
}

/// A log of signatures or of certificates.
#[derive(Clone, Debug)]
pub struct Log {
    base_url: String,
    id: [u8; 32],
    checkpoint_key_id: [u8; 4],
    key: PublicKey,
    valid_for: Window,
}

impl Log {
    /// The log of this ID; of several, as when a key was retired and taken up again, the one that was trusted at all
    /// of `times`, if one was.
    pub(crate) fn find<'r>(
        logs: &'r [Self],
        id: &[u8; 32],
        times: &[Timestamp],
    ) -> Option<&'r Self> {
        let named = || logs.iter().filter(|log| log.id == *id);
        named().find(|log| log.trusted_at(times)).or_else(|| named().next())
    }

    /// Whether its signatures are trusted at all of `times`; without any, whether they still are.
    fn trusted_at(&self, times: &[Timestamp]) -> bool {
        let window = self.valid_for;
        times.iter().all(|&time| window.contains(time))
            && (window.end.is_none() || !times.is_empty())
    }

    /// Where it is served.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Its 32-byte ID: Rekor v1 and certificate logs SHA-256 of the key, Rekor v2 the note key's.
    #[must_use]
    pub const fn id(&self) -> &[u8; 32] {
        &self.id
    }

    /// The key ID on the lines of its checkpoints.
    #[must_use]
    pub const fn checkpoint_key_id(&self) -> [u8; 4] {
        self.checkpoint_key_id
    }

    /// Its key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// When its signatures are trusted.
    #[must_use]
    pub const fn valid_for(&self) -> Window {
        self.valid_for
    }

    /// Checks the log's signature over a checkpoint or promise. Logs with keys on larger curves may sign
    /// with SHA-256, as Go's clients take it.
    ///
    /// # Errors
    /// When it does not hold.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), key::Error> {
        let usual = self.key.verify_message(message, signature);
        match self.key.kind() {
            KeyKind::P384 | KeyKind::P521 if usual.is_err() => {
                self.key.verify_message_with(HashAlgorithm::Sha256, message, signature)
            }
            _ => usual,
        }
    }

    /// The base URL without scheme and final slash: how C2SP would have a log's origin.
    pub(crate) fn schemeless_url(&self) -> &str {
        let url = self.base_url.trim_end_matches('/');
        url.split_once("://").map_or(url, |(_, rest)| rest)
    }

    /// The host of the base URL without scheme, port and path: the origin and signature name of a
    /// Rekor v2 log, as sigstore-go derives it.
    #[must_use]
    pub fn host(&self) -> &str {
        let authority = self.schemeless_url().split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => host.split(':').next().unwrap_or_default(),
        }
    }
}

/// Everything a verifier trusts; by default nobody.
#[derive(Clone, Debug, Default)]
pub struct TrustedRoot {
    logs: Vec<Log>,
    certificate_authorities: Vec<CertificateAuthority>,
    higher_authorities: Vec<CertificateAuthority>,
    certificate_logs: Vec<Log>,
    timestamp_authorities: Vec<TimestampAuthority>,
    unfit: Vec<Error>,
}

impl TrustedRoot {
    /// Reads and checks `trusted_root.json`.
    ///
    /// # Errors
    /// Names the first member that is not as it must be.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        if json.len() > MAX_TRUSTED_ROOT {
            return Err(Error::TooLong { limit: MAX_TRUSTED_ROOT, found: json.len() });
        }
        let root: wire::TrustedRoot =
            json::from_slice(json).map_err(|error| Error::Json { message: error.to_string() })?;
        Self::from_wire(&root)
    }

    /// Checks a trusted root that was read as part of another file.
    ///
    /// A timestamp authority whose certificates are whole and break a rule is left out and named by [`unfit`](Self::unfit):
    /// roots in use have some, for the sake of other entries. Whoever it signed for finds it unknown.
    ///
    /// # Errors
    /// Names the first member that is not as it must be.
    pub fn from_wire(root: &wire::TrustedRoot) -> Result<Self, Error> {
        if !MEDIA_TYPES.contains(&root.media_type.as_str()) {
            return Err(Error::MediaType { found: root.media_type.chars().take(100).collect() });
        }
        let member = "timestampAuthorities";
        let (mut timestamp_authorities, mut unfit) = (Vec::new(), Vec::new());
        let read = each(member, &root.timestamp_authorities, |tsa| {
            let (chain, valid_for) = authority(tsa)?;
            match TimestampAuthority::new(tsa.uri.clone(), chain, valid_for) {
                Err(error) if !error.is_of_a_rule() => Err(error.into()),
                authority => Ok(authority),
            }
        })?;
        for (index, authority) in read.into_iter().enumerate() {
            match authority {
                Ok(authority) => timestamp_authorities.push(authority),
                Err(reason) => {
                    unfit.push(Error::Element { member, index, reason: reason.into() });
                }
            }
        }
        let mut higher_authorities = Vec::new();
        let certificate_authorities =
            each("certificateAuthorities", &root.certificate_authorities, |ca| {
                let (chain, valid_for) = authority(ca)?;
                let authority = CertificateAuthority::new(chain, valid_for)?;
                higher_authorities.extend(authority.higher()?);
                Ok(authority)
            })?;
        Ok(Self {
            logs: each("tlogs", &root.tlogs, log)?,
            certificate_logs: each("ctlogs", &root.ctlogs, log)?,
            certificate_authorities,
            higher_authorities,
            timestamp_authorities,
            unfit,
        })
    }

    /// The logs of signatures.
    #[must_use]
    pub fn logs(&self) -> &[Log] {
        &self.logs
    }

    /// The authorities for signing certificates, each issuing by the first certificate of its chain.
    #[must_use]
    pub fn certificate_authorities(&self) -> &[CertificateAuthority] {
        &self.certificate_authorities
    }

    /// These, and such that issue by a certificate above the first, as GitHub does.
    pub(crate) fn issuing_authorities(&self) -> impl Iterator<Item = &CertificateAuthority> {
        self.certificate_authorities.iter().chain(&self.higher_authorities)
    }

    /// The logs of certificates.
    #[must_use]
    pub fn certificate_logs(&self) -> &[Log] {
        &self.certificate_logs
    }

    /// The timestamp authorities.
    #[must_use]
    pub fn timestamp_authorities(&self) -> &[TimestampAuthority] {
        &self.timestamp_authorities
    }

    /// Which timestamp authorities of the file are not among these, and why.
    #[must_use]
    pub fn unfit(&self) -> &[Error] {
        &self.unfit
    }
}

fn each<W, T>(
    member: &'static str,
    elements: &[W],
    mut read: impl FnMut(&W) -> Result<T, ElementError>,
) -> Result<Vec<T>, Error> {
    let read =
        |(index, element)| read(element).map_err(|reason| Error::Element { member, index, reason });
    elements.iter().enumerate().map(read).collect()
}

fn log(wire: &wire::Log) -> Result<Log, ElementError> {
    let key = log_key(&wire.public_key)?;
    let valid_for = window(wire.public_key.valid_for.as_ref())?;
    if valid_for.start.is_none() {
        return Err(ElementError::NoStart);
    }
    if wire.hash_algorithm != "SHA2_256" {
        return Err(ElementError::HashAlgorithm {
            found: wire.hash_algorithm.chars().take(100).collect(),
        });
    }
    let found = wire.log_id.key_id.len();
    let id: [u8; 32] =
        wire.log_id.key_id[..].try_into().map_err(|_| ElementError::LogId { found })?;
    let checkpoint_key_id = wire.checkpoint_key_id.as_ref().map_or(&id[..], |id| &id.key_id);
    let found = checkpoint_key_id.len();
    let &checkpoint_key_id =
        checkpoint_key_id.first_chunk().ok_or(ElementError::CheckpointKeyId { found })?;
    Ok(Log { base_url: wire.base_url.clone(), id, checkpoint_key_id, key, valid_for })
}

fn log_key(wire: &wire::PublicKey) -> Result<PublicKey, ElementError> {
    if wire.key_details == wire::PKCS1 {
        return Ok(PublicKey::from_pkcs1(&wire.raw_bytes)?);
    }
    let details = KeyDetails::from_name(&wire.key_details).ok_or_else(|| {
        ElementError::KeyDetails { found: wire.key_details.chars().take(100).collect() }
    })?;
    // What a log signs with must be what its key signs with usually: no PSS, no Ed25519ph.
    let key = PublicKey::from_spki(&wire.raw_bytes)?;
    if key.details() == Some(details) {
        Ok(key)
    } else {
        Err(ElementError::OtherKey { expected: details, found: key.kind() })
    }
}

fn authority(wire: &wire::Authority) -> Result<(Vec<&[u8]>, Window), ElementError> {
    let chain = wire.cert_chain.certificates.iter();
    Ok((
        chain.map(|certificate| &certificate.raw_bytes[..]).collect(),
        window(wire.valid_for.as_ref())?,
    ))
}

fn window(wire: Option<&wire::Window>) -> Result<Window, ElementError> {
    let window = wire.map_or(Window { start: None, end: None }, |window| Window {
        start: window.start,
        end: window.end,
    });
    match (window.start, window.end) {
        (Some(start), Some(end)) if end < start => Err(ElementError::Window { start, end }),
        _ => Ok(window),
    }
}

/// Why a file is no trusted root.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Above the limit.
    #[error("a trusted root of {found} bytes is above the limit of {limit}")]
    TooLong {
        /// Bytes allowed.
        limit: usize,
        /// Bytes found.
        found: usize,
    },
    /// Not JSON, or not these members.
    #[error("not a trusted root: {message}")]
    Json {
        /// What the reader expected and found, with the place.
        message: String,
    },
    /// Another file, or a version from the future.
    #[error("expected a trusted root of version 0.1 or 0.2, found media type {found:?}")]
    MediaType {
        /// Its beginning.
        found: String,
    },
    /// One of its keys or authorities.
    #[error("{member}[{index}]: {reason}")]
    Element {
        /// The list.
        member: &'static str,
        /// Its place in the list, from 0.
        index: usize,
        /// What is wrong with it.
        reason: ElementError,
    },
}

/// What is wrong with one key or authority.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ElementError {
    /// A key type that is not supported.
    #[error("key details {found:?} are not supported")]
    KeyDetails {
        /// Its beginning.
        found: String,
    },
    /// The key is not what it is said to be.
    #[error("expected a {} key, found {found}", expected.name())]
    OtherKey {
        /// As `keyDetails` says.
        expected: KeyDetails,
        /// As the key is.
        found: crate::key::KeyKind,
    },
    /// The key does not parse.
    #[error(transparent)]
    Key(#[from] crate::key::Error),
    /// A log key without a start.
    #[error("expected publicKey.validFor.start, found none")]
    NoStart,
    /// A log of another hash.
    #[error("expected hashAlgorithm SHA2_256, found {found:?}")]
    HashAlgorithm {
        /// Its beginning.
        found: String,
    },
    /// A log ID of another length.
    #[error("logId.keyId: expected 32 bytes, found {found}")]
    LogId {
        /// Bytes found.
        found: usize,
    },
    /// A key ID that is too short.
    #[error("checkpointKeyId.keyId: expected at least 4 bytes, found {found}")]
    CheckpointKeyId {
        /// Bytes found.
        found: usize,
    },
    /// The end lies before the start.
    #[error("validFor ends ({end}) before it starts ({start})")]
    Window {
        /// The start.
        start: Timestamp,
        /// The end.
        end: Timestamp,
    },
    /// The chain does not hold.
    #[error("certChain: {0}")]
    Chain(#[from] crate::chain::Error),
}
