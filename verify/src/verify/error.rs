//! Why a bundle does not prove what it claims: one variant a reason, each with a stable code.

use crate::key::{HashAlgorithm, KeyKind};
use crate::{
    bundle, certificate, chain, checkpoint, key, merkle, note, sct, statement, timestamp,
    trusted_root, witness,
};
use jiff::Timestamp;

/// The reason of a refusal. `Display` says what was expected and what was found.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum Error {
    /// The verifier has no trusted root.
    #[error("expected a trusted root to verify by, found none")]
    NoRoot,
    /// The file is no bundle.
    #[error(transparent)]
    Bundle(bundle::Error),
    /// Signed with a managed key, which the caller must name.
    #[error(
        "the bundle is signed with a key and carries no certificate: the public key is needed to verify it"
    )]
    KeyNeeded,
    /// A key was given for a signature with a certificate.
    #[error("expected a signature by the key given, found one by a certificate of its own")]
    CertificateFound,
    /// A trust anchor among the bundle's certificates.
    #[error(
        "certificate {place} of the bundle's chain is issued by itself: trust anchors come from the trusted root alone"
    )]
    RootInChain { place: usize },
    /// The certificate does not parse, or names nobody.
    #[error(transparent)]
    CertificateFormat(certificate::Error),
    /// The certificate's key is not accepted.
    #[error("the signing certificate's key: {0}")]
    P256Key(key::Error),
    /// The key signs messages only.
    #[error(
        "a key of kind {kind} signs whole messages: its signature over a digest of this hash, and a log entry of one, cannot be verified"
    )]
    NoPrehash { kind: KeyKind },
    /// A key without a name in log entries.
    #[error("Rekor v2 has no entries of {kind} keys")]
    NoKeyDetails { kind: KeyKind },
    /// The caller knows the artifact by other digests.
    #[error("the artifact's {} digest is needed to verify this bundle", hash.short_name())]
    DigestNeeded { hash: HashAlgorithm },
    /// The bundle is for another artifact.
    #[error("the bundle is for another artifact: expected {}:{expected}, found {}:{found}", hash.short_name(), hash.short_name())]
    OtherArtifact { hash: HashAlgorithm, expected: String, found: String },
    /// The digest is not of the hash that the key signs.
    #[error("the signing key signs {} digests, found a {} digest", expected.name(), found.name())]
    DigestHash { expected: HashAlgorithm, found: HashAlgorithm },
    /// The envelope holds something else than a statement.
    #[error("expected payload type application/vnd.in-toto+json, found {found:?}")]
    PayloadType { found: String },
    /// The payload is no statement.
    #[error(transparent)]
    Statement(statement::Error),
    /// The statement is about other artifacts.
    #[error(
        "the statement is about other artifacts: none of its subjects has this artifact's digest"
    )]
    NotASubject,
    /// Nothing says when the signature was made.
    #[error("expected a timestamp of the signature or a log's promise, found neither")]
    NoTimestamp,
    /// Fewer authorities than demanded.
    #[error("expected times by {expected} different authorities, found {found}")]
    TooFewTimes { expected: usize, found: usize },
    /// Only authorities that are not trusted. Of those in the trusted root, some may be unfit.
    #[error(
        "expected a timestamp by one of the trusted root's timestamp authorities, {known} in number, found none{}",
        listed(unfit)
    )]
    UnknownTimestampAuthority { known: usize, unfit: Vec<trusted_root::Error> },
    /// The same timestamp again.
    #[error("timestamp {place} repeats an earlier one")]
    RepeatedTimestamp { place: usize },
    /// A timestamp does not hold.
    #[error("timestamp {place}: {reason}")]
    Timestamp { place: usize, reason: timestamp::Error },
    /// By an authority that is not trusted, or by a key that it did not have when the trusted root was made.
    #[error(
        "expected a certificate by one of the trusted root's certificate authorities, {known} in number, found one by {found}"
    )]
    UnknownAuthority { known: usize, found: String },
    /// No path to a trusted authority.
    #[error(transparent)]
    Chain(chain::Error),
    /// The certificate was not logged.
    #[error("expected a signed certificate timestamp in the certificate, found none")]
    NoSct,
    /// Fewer certificate logs than demanded.
    #[error("expected the certificate in {expected} certificate logs, found it in {found}")]
    TooFewCertificateLogs { expected: usize, found: usize },
    /// The list does not parse.
    #[error(transparent)]
    Sct(sct::Error),
    /// Only logs that are not trusted.
    #[error(
        "expected the certificate in one of the trusted root's certificate logs, {known} in number, found it in log {found}"
    )]
    UnknownCertificateLog { known: usize, found: String },
    /// The log's signature does not hold.
    #[error("the certificate log's receipt does not hold: {0}")]
    SctSignature(key::Error),
    /// Outside the log's time.
    #[error("the certificate log was not trusted at {time}: expected {valid}")]
    SctTime { time: String, valid: String },
    /// Not logged.
    #[error("expected a log entry, found none: the signature is not logged, or not yet")]
    NoEntry,
    /// Fewer logs than demanded.
    #[error("expected entries in {expected} different logs, found {found}")]
    TooFewLogs { expected: usize, found: usize },
    /// Only logs that are not trusted.
    #[error(
        "expected an entry of one of the trusted root's logs, {known} in number, found one of log {found}"
    )]
    UnknownLog { known: usize, found: String },
    /// The same entry again.
    #[error("log entry {place} repeats an earlier one")]
    RepeatedEntry { place: usize },
    /// A kind that is not verified.
    #[error(
        "expected a log entry of kind hashedrekord, dsse or intoto in a version in use, found {found:?}"
    )]
    EntryKind { found: String },
    /// An entry about an envelope beside a message signature.
    #[error("the log entry is of a kind for other content than the bundle has")]
    EntryForOtherContent,
    /// The entry is about another envelope, signature or certificate.
    #[error("the {kind} log entry is not about this envelope, its signature and its certificate")]
    OtherEnvelope { kind: &'static str },
    /// The log's promise does not hold.
    #[error("log entry {place}: the log's promise of inclusion does not hold: {reason}")]
    Promise { place: usize, reason: key::Error },
    /// A promise without a time.
    #[error("log entry {place}: expected an integrated time with the promise, found none")]
    NoIntegratedTime { place: usize },
    /// An unsigned time that contradicts the certificate.
    #[error("the log entry's integrated time {time} is outside the signing certificate's validity")]
    IntegratedTime { time: Timestamp },
    /// A time or promise where the log signs none.
    #[error(
        "log entry {place}: a Rekor v2 entry has neither integrated time nor promise, found one"
    )]
    UnsignedTime { place: usize },
    /// No proof.
    #[error("log entry {index}: expected an inclusion proof, found none")]
    NoProof { index: u64 },
    /// The entry is about another signature.
    #[error("the log entry has another {member}: expected {expected}, found {found}")]
    OtherEntry { member: &'static str, expected: String, found: String },
    /// The entry's bytes are not canonical.
    #[error("the log entry is not the canonical encoding of this signature")]
    EntryEncoding,
    /// Outside the log's time.
    #[error("the log was not trusted at {time}: expected {valid}")]
    LogTime { time: Timestamp, valid: String },
    /// Nothing says that the log was trusted when it took the entry.
    #[error(
        "the log was trusted {valid} and no longer: expected a timestamp that says when the signature was made, found none"
    )]
    NoLogTime { valid: String },
    /// Not a signed note.
    #[error("checkpoint: {0}")]
    Note(note::Error),
    /// Not a tree head.
    #[error("checkpoint: {0}")]
    Checkpoint(checkpoint::Error),
    /// The tree head of another log.
    #[error("the checkpoint is of another log: expected origin {expected:?}, found {found:?}")]
    OtherOrigin { expected: String, found: String },
    /// The log's line is missing.
    #[error(
        "expected a signature by {name} with key ID {key_id} on the checkpoint (log {log_id}), found none"
    )]
    NoLogSignature { name: String, key_id: String, log_id: String },
    /// The log's line does not hold.
    #[error("the checkpoint's signature does not hold: {0}")]
    CheckpointSignature(key::Error),
    /// What the bundle says of the tree is not what the log signed.
    #[error("the inclusion proof's {member} is not the {of}'s: expected {expected}, found {found}")]
    ProofDiffers { member: &'static str, of: &'static str, expected: String, found: String },
    /// The path leads elsewhere.
    #[error(transparent)]
    Inclusion(merkle::InclusionError),
    /// Witnesses are demanded, and there is no entry whose tree they could have cosigned.
    #[error("expected a log entry whose tree witnesses cosigned, found no entry")]
    NothingWitnessed,
    /// Witnesses are demanded of a log that has none.
    #[error(
        "expected cosignatures of witnesses on the tree head of {log}: a Rekor v1 log has none"
    )]
    NeverWitnessed { log: String },
    /// The witnesses demanded did not cosign.
    #[error("the tree head of {log}: {reason}")]
    Witnesses { log: String, reason: witness::Refusal },
    /// The signature does not hold, or is of the other sort that such keys make.
    #[error(
        "the signature does not hold over the artifact's digest: {reason}; a bundle has no place for a signature by an {kind} key over the whole artifact"
    )]
    SignatureOverDigest { kind: KeyKind, reason: key::Error },
    /// The signature does not hold.
    #[error("the signature does not hold: {0}")]
    Signature(key::Error),
}

impl Error {
    /// A stable code for machines, `UPPER_SNAKE_CASE`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoRoot => "TRUSTED_ROOT_MISSING",
            Self::Bundle(_) => "BUNDLE_MALFORMED",
            Self::KeyNeeded => "KEY_NEEDED",
            Self::CertificateFound => "CERTIFICATE_NOT_EXPECTED",
            Self::RootInChain { .. } => "CERTIFICATE_CHAIN",
            Self::CertificateFormat(_) | Self::P256Key(_) => "CERTIFICATE_MALFORMED",
            Self::NoPrehash { .. } | Self::NoKeyDetails { .. } | Self::DigestHash { .. } => {
                "ALGORITHM_UNSUPPORTED"
            }
            Self::DigestNeeded { .. } => "DIGEST_NEEDED",
            Self::OtherArtifact { .. } => "ARTIFACT_MISMATCH",
            Self::PayloadType { .. } => "PAYLOAD_TYPE",
            Self::Statement(_) => "STATEMENT_MALFORMED",
            Self::NotASubject => "ARTIFACT_NOT_A_SUBJECT",
            Self::NoTimestamp | Self::TooFewTimes { .. } => "TIMESTAMP_MISSING",
            Self::UnknownTimestampAuthority { .. } => "TIMESTAMP_AUTHORITY_UNKNOWN",
            Self::RepeatedTimestamp { .. } | Self::Timestamp { .. } => "TIMESTAMP_INVALID",
            Self::UnknownAuthority { .. } => "CERTIFICATE_AUTHORITY_UNKNOWN",
            Self::Chain(chain::Error::OutsideValidity { .. }) => "CERTIFICATE_NOT_VALID_THEN",
            Self::Chain(_) => "CERTIFICATE_INVALID",
            Self::NoSct | Self::TooFewCertificateLogs { .. } => "SCT_MISSING",
            Self::Sct(_) | Self::SctSignature(_) | Self::SctTime { .. } => "SCT_INVALID",
            Self::UnknownCertificateLog { .. } => "CERTIFICATE_LOG_UNKNOWN",
            Self::NoEntry | Self::TooFewLogs { .. } => "LOG_ENTRY_MISSING",
            Self::UnknownLog { .. } => "LOG_UNKNOWN",
            Self::RepeatedEntry { .. }
            | Self::UnsignedTime { .. }
            | Self::IntegratedTime { .. } => "LOG_ENTRY_INVALID",
            Self::Promise { .. } | Self::NoIntegratedTime { .. } => "LOG_PROMISE_INVALID",
            Self::EntryKind { .. } => "LOG_ENTRY_KIND",
            Self::OtherEntry { .. }
            | Self::EntryEncoding
            | Self::EntryForOtherContent
            | Self::OtherEnvelope { .. } => "LOG_ENTRY_MISMATCH",
            Self::LogTime { .. } | Self::NoLogTime { .. } => "LOG_NOT_TRUSTED_THEN",
            Self::Note(_)
            | Self::Checkpoint(_)
            | Self::OtherOrigin { .. }
            | Self::NoLogSignature { .. }
            | Self::CheckpointSignature(_) => "CHECKPOINT_INVALID",
            Self::NoProof { .. } | Self::ProofDiffers { .. } | Self::Inclusion(_) => {
                "INCLUSION_INVALID"
            }
            Self::Witnesses { reason: witness::Refusal::Signature { .. }, .. } => {
                "COSIGNATURE_INVALID"
            }
            Self::NothingWitnessed | Self::NeverWitnessed { .. } | Self::Witnesses { .. } => {
                "WITNESSES_MISSING"
            }
            Self::Signature(_) | Self::SignatureOverDigest { .. } => "SIGNATURE_INVALID",
        }
    }
}

/// Those of the trusted root that are left out, each with its reason.
fn listed(unfit: &[trusted_root::Error]) -> String {
    unfit.iter().map(|reason| format!("; left out is {reason}")).collect()
}
