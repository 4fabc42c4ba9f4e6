//! Rekor v2: signatures over digests, as `hashedrekord` 0.0.2 entries of a tlog-tiles log.
//!
//! ```text
//! {"hashedRekordRequestV002": {"digest": b64, "signature": {"content": b64, "verifier":
//!   {"keyDetails": name, "publicKey" | "x509Certificate": {"rawBytes": b64 DER}}}}}
//! ```
//! Checked before an entry is taken: strict protobuf JSON (lowerCamel or snake_case; unknown and
//! repeated members are refused), the key parses and is what `keyDetails` says, the digest has the
//! length of its hash, the signature holds over the digest; and what [`Accepted`] demands of the signer.
//! What is signed does not show: the digest may be an artifact's or an envelope's. Unless it is demanded, the certificate's dates, chain and issuer are not checked: whoever verifies a bundle does
//! that.
//!
//! A repeat gets the first entry, with a fresh proof, as success.

use crate::engine::Log;
use crate::face::OwnedVerifier;
use crate::face::accept::{self, Accepted, Asked, Denied};
use crate::pool::{AppendError, Candidate};
use crate::proof;
use crate::read;
use crate::shards::Shards;
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use countersign_verify::bundle::{LogEntry, Proof};
use countersign_verify::certificate::{self, Certificate};
use countersign_verify::encoding::from_base64;
use countersign_verify::entry::{self, Verifier};
use countersign_verify::json;
use countersign_verify::key::{self, HashAlgorithm, KeyDetails, KeyKind, PublicKey, Scheme};
use countersign_verify::merkle::Hash;
use countersign_verify::tile::EntryBundle;
use parking_lot::RwLock;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::sync::Arc;

/// Largest request, in bytes. An entry of 65535 bytes comes in base64 with some JSON around it; the
/// rest is for white space and for a DSSE request to arrive and be told what to send instead.
pub const MAX_REQUEST: usize = 256 << 10;

/// A signature log as clients see it. Clones are the same log.
#[derive(Clone)]
pub struct Face {
    shards: Arc<Shards<Log>>,
    accepted: Arc<RwLock<Arc<Accepted>>>,
}

impl Face {
    /// Shards of format [`Entries`](crate::Format::Entries), seen as Rekor v2. Anybody's entries are taken.
    #[must_use]
    pub fn new(shards: impl Into<Shards<Log>>) -> Self {
        Self { shards: Arc::new(shards.into()), accepted: Arc::default() }
    }

    /// The same, that takes those entries only.
    #[must_use]
    pub fn accepting(self, accepted: Accepted) -> Self {
        self.accept(accepted);
        self
    }

    /// Takes those entries only from now on.
    pub fn accept(&self, accepted: Accepted) {
        *self.accepted.write() = Arc::new(accepted);
    }

    /// Its shards.
    #[must_use]
    pub fn shards(&self) -> &Shards<Log> {
        &self.shards
    }

    /// Takes a request body and returns the entry in the log, proven.
    ///
    /// # Errors
    /// When the request is refused or the log cannot take it, see [`Error`].
    pub async fn submit(&self, request: &[u8]) -> Result<LogEntry, Error> {
        let accepted = Arc::clone(&self.accepted.read());
        let checked = Checked::read(request, &accepted)?;
        let body = checked.body();
        if let Err(denied) = accepted.by_policy(&checked.asked()) {
            // Whoever repeats what was taken gets its proof, whatever the policy says by now.
            let identity = Hash::of(&body);
            for log in self.shards.begun() {
                if log.find(identity).await.map_err(AppendError::Store)?.is_some() {
                    return self.append(body).await;
                }
            }
            return Err(denied.into());
        }
        self.append(body).await
    }

    /// Appends one entry of our own to a shard that is empty. Index 0 and empty proofs vanish in the JSON
    /// that some clients write, and others then refuse the bundle; so no client gets index 0.
    ///
    /// # Errors
    /// When the log cannot take it.
    pub async fn seed(shard: &Log) -> Result<(), AppendError> {
        if shard.head().checkpoint().size > 0 {
            return Ok(());
        }
        // In a tree that is held for its witnesses, perhaps: then it is that one which is waited for.
        let seed = EntryBundle { index: 0, width: 1 };
        let bundle = read::bundle(shard.store(), shard.format(), seed).await?.unwrap_or_default();
        if let Ok([seed]) = shard.format().records(&bundle).as_deref() {
            return shard.append(Candidate::entry(&seed.leaf())?).await.map(drop);
        }
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING);
        let pair = pair.map_err(|_| AppendError::Signing)?;
        let message = format!("first entry of log {}", shard.key().origin());
        let signature = pair.sign(&SystemRandom::new(), message.as_bytes());
        let signature = signature.map_err(|_| AppendError::Signing)?;
        let spki = pair.public_key().as_der().map_err(|_| AppendError::Signing)?;
        let hash = HashAlgorithm::Sha256;
        let digest = hash.digest(message.as_bytes());
        let (verifier, details) = (Verifier::PublicKey(spki.as_ref()), KeyDetails::EcdsaP256Sha256);
        let body =
            entry::hashedrekord_v2_body(hash, &digest, signature.as_ref(), verifier, details);
        shard.append(Candidate::entry(&body)?).await.map(drop)
    }

    async fn append(&self, body: Vec<u8>) -> Result<LogEntry, Error> {
        let (log, appended) = self.shards.append(|| Candidate::entry(&body)).await?;
        let (index, head) = (appended.index, appended.head);
        let proof = log.prove_inclusion(&head, index, &body).await?;
        let checkpoint = head.checkpoint();
        Ok(LogEntry {
            log_index: index,
            log_id: *log.key().log_id(),
            kind: "hashedrekord".to_owned(),
            version: "0.0.2".to_owned(),
            integrated_time: 0,
            promise: None,
            proof: Some(Proof {
                log_index: index,
                tree_size: checkpoint.size,
                root: Some(checkpoint.root),
                hashes: proof.path().to_vec(),
                checkpoint: head.note().to_owned(),
            }),
            body,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRequest {
    #[serde(rename = "hashedRekordRequestV002", alias = "hashed_rekord_request_v002")]
    hashed_rekord: Option<WireHashedRekord>,
    #[serde(rename = "dsseRequestV002", alias = "dsse_request_v002")]
    dsse: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireHashedRekord {
    digest: Option<String>,
    signature: Option<WireSignature>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSignature {
    content: Option<String>,
    verifier: Option<WireVerifier>,
}

/// A protobuf enumeration in JSON.
#[derive(Deserialize)]
#[serde(untagged)]
enum EnumName {
    Name(String),
    Number(i64),
}

impl std::fmt::Display for EnumName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => number.fmt(f),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WireVerifier {
    #[serde(alias = "key_details")]
    key_details: Option<EnumName>,
    #[serde(alias = "public_key")]
    public_key: Option<WireRaw>,
    #[serde(alias = "x509_certificate")]
    x509_certificate: Option<WireRaw>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WireRaw {
    #[serde(alias = "raw_bytes")]
    raw_bytes: Option<String>,
}

/// A request all of whose checks have passed.
struct Checked {
    hash: HashAlgorithm,
    digest: Vec<u8>,
    signature: Vec<u8>,
    verifier: OwnedVerifier,
    details: KeyDetails,
}

impl Checked {
    /// The checks in the order of rekor-tiles; the first that fails decides.
    fn read(request: &[u8], accepted: &Accepted) -> Result<Self, Error> {
        if request.len() > MAX_REQUEST {
            return Err(Error::RequestTooLong { limit: MAX_REQUEST, found: request.len() });
        }
        let request: WireRequest =
            json::from_slice(request).map_err(|error| Error::Json(error.to_string()))?;
        let request = match (request.hashed_rekord, request.dsse) {
            (Some(request), None) => request,
            (None, Some(_)) => return Err(Error::DsseRequest),
            (Some(_), Some(_)) => return Err(Error::TwoRequests),
            (None, None) => return Err(Error::Missing { member: "hashedRekordRequestV002" }),
        };
        let missing = |member| Error::Missing { member };
        let wire = request.signature.ok_or(missing("signature"))?;
        let signature = bytes("signature.content", wire.content)?;
        let wire = wire.verifier.ok_or(missing("signature.verifier"))?;
        let digest = bytes("digest", request.digest)?;
        let (verifier, key) = match (wire.x509_certificate, wire.public_key) {
            (Some(raw), None) => {
                let der = bytes("signature.verifier.x509Certificate.rawBytes", raw.raw_bytes)?;
                let certificate = Certificate::parse(&der)?;
                let key = PublicKey::from_spki(certificate.spki())?;
                accepted.certificate(&certificate)?;
                (OwnedVerifier::Certificate(der), key)
            }
            (None, Some(raw)) => {
                let spki = bytes("signature.verifier.publicKey.rawBytes", raw.raw_bytes)?;
                let key = PublicKey::from_spki(&spki)?;
                accepted.key(&spki)?;
                (OwnedVerifier::PublicKey(spki), key)
            }
            (Some(_), Some(_)) => return Err(Error::TwoVerifiers),
            (None, None) => return Err(missing("signature.verifier.x509Certificate")),
        };
        let name = wire.key_details.ok_or(missing("signature.verifier.keyDetails"))?;
        let details = match &name {
            EnumName::Name(name) => KeyDetails::from_name(name),
            EnumName::Number(number) => KeyDetails::from_number(*number),
        };
        // Keys that sign whole messages cannot be checked by a digest. Old pairings of curve and hash,
        // and PSS, are refused by the real log as well.
        let known = details.and_then(|known| Some((known, known.scheme().hash()?)));
        let refused = |details: &KeyDetails| {
            let old = [KeyDetails::EcdsaP384Sha256, KeyDetails::EcdsaP521Sha256];
            old.contains(details) || matches!(details.scheme(), Scheme::Pss(_))
        };
        let Some((details, hash)) = known.filter(|(details, _)| !refused(details)) else {
            return Err(Error::Algorithm { found: name.to_string().chars().take(64).collect() });
        };
        if key.kind() != details.kind() {
            return Err(Error::OtherKey { expected: details, found: key.kind() });
        }
        key.verify_digest_by(details.scheme(), &digest, &signature)?;
        Ok(Self { hash, digest, signature, verifier, details })
    }

    fn asked(&self) -> Asked<'_> {
        let digest = (self.hash, self.digest.as_slice());
        Asked { signer: self.verifier.borrow(), digest, payload: None }
    }

    fn body(&self) -> Vec<u8> {
        let (hash, details, verifier) = (self.hash, self.details, self.verifier.borrow());
        entry::hashedrekord_v2_body(hash, &self.digest, &self.signature, verifier, details)
    }
}

fn bytes(member: &'static str, text: Option<String>) -> Result<Vec<u8>, Error> {
    let text = text.filter(|text| !text.is_empty()).ok_or(Error::Missing { member })?;
    from_base64(&text).map_err(|_| Error::Base64 { member })
}

impl Error {
    /// The member of the request that is at fault, where it is one.
    #[must_use]
    pub const fn field(&self) -> Option<&'static str> {
        Some(match self {
            Self::Missing { member } | Self::Base64 { member } => member,
            Self::Certificate(_) => "signature.verifier.x509Certificate.rawBytes",
            Self::Algorithm { .. } | Self::OtherKey { .. } => "signature.verifier.keyDetails",
            Self::Key(key::Error::DigestLength { .. }) => "digest",
            Self::Key(key::Error::Signature { .. }) => "signature.content",
            Self::Key(_) | Self::Refused(_) | Self::Denied(_) | Self::TwoVerifiers => {
                "signature.verifier"
            }
            _ => return None,
        })
    }
}

/// Why a request got no entry.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Beyond [`MAX_REQUEST`].
    #[error("a request has at most {limit} bytes, found {found}")]
    RequestTooLong {
        /// Bytes allowed.
        limit: usize,
        /// Bytes found.
        found: usize,
    },
    /// Not JSON, an unknown or repeated member, or a member of another type.
    #[error("the request is not as it must be: {0}")]
    Json(String),
    /// Rekor v2 took these once.
    #[error(
        "this log takes no dsseRequestV002: send a hashedRekordRequestV002 whose digest is that of \
         the envelope's pre-authentication encoding (PAE), with the envelope's signature as content"
    )]
    DsseRequest,
    /// Both kinds of request.
    #[error("expected one request, found hashedRekordRequestV002 and dsseRequestV002")]
    TwoRequests,
    /// A member is absent or empty.
    #[error("the request has no {member}, or it is empty")]
    Missing {
        /// Its path below the request.
        member: &'static str,
    },
    /// A member is not base64.
    #[error("{member} is not standard base64 with padding")]
    Base64 {
        /// Its path below the request.
        member: &'static str,
    },
    /// Both a key and a certificate.
    #[error("expected one verifier, found publicKey and x509Certificate")]
    TwoVerifiers,
    /// The certificate does not parse.
    #[error(transparent)]
    Certificate(#[from] certificate::Error),
    /// A signer whose entries this log does not take.
    #[error(transparent)]
    Refused(#[from] accept::Refused),
    /// Whom the log's policy does not let sign.
    #[error(transparent)]
    Denied(#[from] Box<Denied>),
    /// An algorithm that is unknown, weak, or does not sign digests.
    #[error("{found:?} is no algorithm that this log takes")]
    Algorithm {
        /// The name, shortened.
        found: String,
    },
    /// The key is not what `keyDetails` says.
    #[error("keyDetails says {}, the key is {found}", expected.name())]
    OtherKey {
        /// What was announced.
        expected: KeyDetails,
        /// What the key is.
        found: KeyKind,
    },
    /// The key does not parse, the digest has another length, or the signature does not hold.
    #[error(transparent)]
    Key(#[from] key::Error),
    /// The log did not take the entry.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The entry is in the log, and the proof of that could not be made.
    #[error(transparent)]
    Proof(#[from] proof::Error),
}
