//! The verification procedure: one function that reads as its steps, in the order of the Sigstore
//! client specification.
//!
//! Each step takes what the step before has proven. What cannot be decided here is refused: log
//! entries of unknown kinds, signatures by managed keys without the key.

mod error;
mod log;

pub use error::Error;
pub use log::signed_checkpoint;

use crate::artifact::Artifact;
use crate::bundle::{Bundle, Content};
use crate::certificate::{Certificate, Identity, SCT_LIST};
use crate::chain::{self, CertificateAuthority};
use crate::dsse::IN_TOTO;
use crate::encoding::hex;
use crate::key::{HashAlgorithm, PublicKey};
use crate::report::{Check, Recorder, Report};
use crate::sct;
use crate::statement::Statement;
use crate::timestamp;
use crate::trusted_root::TrustedRoot;
use jiff::Timestamp;

/// What verification has proven. Only [`verify`] makes one.
#[derive(Clone, Debug)]
pub struct Verified {
    certificate: Certificate,
    identity: Identity,
    times: Vec<TrustedTime>,
    entries: Vec<LoggedEntry>,
    artifact: (HashAlgorithm, Vec<u8>),
    statement: Option<Statement>,
}

/// A time at which the signature is known to have existed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrustedTime {
    /// The time.
    pub time: Timestamp,
    /// The authority that says so: its URI in the trusted root.
    pub authority: String,
}

/// A log entry that is proven to be in its log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LoggedEntry {
    /// The log: its base URL in the trusted root.
    pub log: String,
    /// The entry's place in it.
    pub index: u64,
    /// Leaves in the tree that the proof leads to; `None` where a bundle of generation 0.1 carries the
    /// log's promise alone.
    pub tree_size: Option<u64>,
}

impl Verified {
    /// The signing certificate.
    #[must_use]
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Who signed.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// When the signature existed; at least one time, each verified.
    #[must_use]
    pub fn times(&self) -> &[TrustedTime] {
        &self.times
    }

    /// Where it is logged; at least one entry, each verified.
    #[must_use]
    pub fn entries(&self) -> &[LoggedEntry] {
        &self.entries
    }

    /// The artifact's digest.
    #[must_use]
    pub fn artifact(&self) -> (HashAlgorithm, &[u8]) {
        (self.artifact.0, &self.artifact.1)
    }

    /// The signed statement, for attestations.
    #[must_use]
    pub const fn statement(&self) -> Option<&Statement> {
        self.statement.as_ref()
    }
}

/// Verifies that `bundle` proves a signature over `artifact`, to whoever trusts `root`.
///
/// Who signed is part of the result; whether that identity may sign is the policy's question.
#[must_use]
pub fn verify(bundle: &Bundle, artifact: &Artifact, root: &TrustedRoot) -> Report {
    let mut recorder = Recorder::default();
    let result = procedure(bundle, artifact, root, &mut recorder);
    recorder.finish(result)
}

/// [`verify`], beginning with the bytes of a bundle.
#[must_use]
pub fn verify_json(json: &[u8], artifact: &Artifact, root: &TrustedRoot) -> Report {
    match Bundle::parse(json) {
        Ok(bundle) => verify(&bundle, artifact, root),
        Err(error) => {
            let mut recorder = Recorder::default();
            let result = recorder.record(Check::Bundle, Err(Error::Bundle(error)));
            recorder.finish(result)
        }
    }
}

fn procedure(
    bundle: &Bundle,
    artifact: &Artifact,
    root: &TrustedRoot,
    recorder: &mut Recorder,
) -> Result<Verified, Error> {
    let signer = recorder.record(Check::Bundle, read_signer(bundle))?;
    let subject = recorder.record(Check::Artifact, match_artifact(bundle, &signer, artifact))?;
    let times = recorder.record(Check::Timestamp, trusted_times(bundle, root))?;
    let authority =
        recorder.record(Check::Certificate, issuing_authority(&signer, &times, root))?;
    recorder.record(Check::CertificateLog, logged_certificate(&signer, authority, root))?;
    let entries = log::matching_entries(bundle, &signer, &subject, root);
    let entries = recorder.record(Check::Entry, entries)?;
    let entries = recorder.record(Check::Inclusion, log::included_entries(&entries, &times))?;
    recorder.record(Check::Signature, check_signature(bundle, &signer, &subject))?;
    let Signer { certificate, identity, .. } = signer;
    let Subject { hash, digest, statement, .. } = subject;
    Ok(Verified { certificate, identity, times, entries, artifact: (hash, digest), statement })
}

/// The certificate of a bundle, read and not yet trusted.
struct Signer {
    certificate: Certificate,
    identity: Identity,
    key: PublicKey,
}

/// The artifact a signature must be over.
struct Subject {
    /// The hash that matched the artifact.
    hash: HashAlgorithm,
    digest: Vec<u8>,
    /// What the signature and the log entry cover: the artifact's digest, or that of the PAE.
    signed_hash: HashAlgorithm,
    signed_digest: Vec<u8>,
    statement: Option<Statement>,
}

fn read_signer(bundle: &Bundle) -> Result<(Signer, String), Error> {
    let der = bundle.certificate().ok_or(Error::KeyNeeded)?;
    let certificate = Certificate::parse(der).map_err(Error::CertificateFormat)?;
    let identity = certificate.identity().map_err(Error::CertificateFormat)?;
    let key = PublicKey::from_spki(certificate.spki()).map_err(Error::CertificateKey)?;
    let found = format!(
        "version {}, {}, {} log entries, {} timestamps",
        bundle.version(),
        match bundle.content() {
            Content::Message(_) => "message signature",
            Content::Dsse(_) => "DSSE envelope",
        },
        bundle.entries().len(),
        bundle.timestamps().len(),
    );
    Ok((Signer { certificate, identity, key }, found))
}

fn match_artifact(
    bundle: &Bundle,
    signer: &Signer,
    artifact: &Artifact,
) -> Result<(Subject, String), Error> {
    let signed_hash = signer.key.hash().ok_or(Error::NoPrehash)?;
    let subject = match bundle.content() {
        Content::Message(message) => {
            let hash = message.hash;
            let digest = artifact.digest(hash).ok_or(Error::DigestNeeded { hash })?;
            if digest != message.digest {
                let (expected, found) = (hex(&message.digest), hex(digest));
                return Err(Error::OtherArtifact { hash, expected, found });
            }
            // Old clients sign SHA-256 digests with keys on larger curves; no entry of Rekor v2 does.
            if hash != signed_hash && hash != HashAlgorithm::Sha256 {
                return Err(Error::DigestHash { expected: signed_hash, found: hash });
            }
            let (digest, signed_digest) = (digest.to_vec(), digest.to_vec());
            Subject { hash, signed_hash: hash, signed_digest, digest, statement: None }
        }
        Content::Dsse(envelope) => {
            if envelope.payload_type != IN_TOTO {
                let found = envelope.payload_type.chars().take(100).collect();
                return Err(Error::PayloadType { found });
            }
            let statement = Statement::parse(&envelope.payload).map_err(Error::Statement)?;
            let found = |&(hash, digest): &(_, &[u8])| statement.subject(hash, digest).is_some();
            let (hash, digest) = artifact.digests().find(found).ok_or(Error::NotASubject)?;
            Subject {
                hash,
                digest: digest.to_vec(),
                signed_hash,
                signed_digest: envelope.pae_digest(signed_hash),
                statement: Some(statement),
            }
        }
    };
    let found = format!("{}:{}", subject.hash.short_name(), hex(&subject.digest));
    Ok((subject, found))
}

/// From timestamp authorities and from the promises of Rekor v1 logs. Timestamps by authorities that
/// are not in the trusted root are passed over, as other clients do; a broken one by a trusted
/// authority is refused.
fn trusted_times(bundle: &Bundle, root: &TrustedRoot) -> Result<(Vec<TrustedTime>, String), Error> {
    let signature = bundle.content().signature();
    let mut times: Vec<TrustedTime> = Vec::new();
    for (place, response) in bundle.timestamps().iter().enumerate() {
        if bundle.timestamps()[..place].contains(response) {
            return Err(Error::RepeatedTimestamp { place });
        }
        match timestamp::verify(response, signature, root.timestamp_authorities()) {
            Ok((time, authority)) => {
                let authority = root.timestamp_authorities()[authority].uri().to_owned();
                times.push(TrustedTime { time, authority });
            }
            Err(timestamp::Error::UnknownAuthority) => {}
            Err(reason) => return Err(Error::Timestamp { place, reason }),
        }
    }
    times.extend(log::promised_times(bundle, root)?);
    let found: Vec<_> = times
        .iter()
        .map(|TrustedTime { time, authority }| format!("{time} by {authority}"))
        .collect();
    let promised = bundle.entries().iter().any(|entry| entry.promise.is_some());
    match (times.is_empty(), bundle.timestamps().is_empty()) {
        (false, _) => Ok((times, found.join(", "))),
        (true, false) => Err(Error::UnknownTimestampAuthority),
        (true, true) if promised => Err(Error::UnknownLog),
        (true, true) => Err(Error::NoTimestamp),
    }
}

fn issuing_authority<'r>(
    signer: &Signer,
    times: &[TrustedTime],
    root: &'r TrustedRoot,
) -> Result<(&'r CertificateAuthority, String), Error> {
    let times: Vec<Timestamp> = times.iter().map(|trusted| trusted.time).collect();
    // Several authorities may share a name across a key rotation: the last reason that is more
    // specific than "another issuer" is the one to tell.
    let mut reason = chain::Error::OtherIssuer;
    for authority in root.certificate_authorities() {
        match authority.verify(&signer.certificate, &times) {
            Ok(()) => {
                let identity = &signer.identity;
                let issuer = identity.issuer().unwrap_or("an issuer it does not name");
                let found = format!("{} according to {issuer}", identity.subject().as_str());
                return Ok((authority, found));
            }
            Err(chain::Error::OtherIssuer) => {}
            Err(other) => reason = other,
        }
    }
    Err(Error::Chain(reason))
}

/// At least one receipt of a trusted log; receipts of unknown logs are passed over, one of a trusted
/// log that does not hold is refused.
fn logged_certificate(
    signer: &Signer,
    authority: &CertificateAuthority,
    root: &TrustedRoot,
) -> Result<((), String), Error> {
    let list = signer.certificate.extension(SCT_LIST).ok_or(Error::NoSct)?;
    let scts = sct::parse_list_extension(&list.value).map_err(Error::Sct)?;
    let tbs = sct::precertificate_tbs(signer.certificate.der()).map_err(Error::Sct)?;
    let issuer_key_hash = HashAlgorithm::Sha256.digest(authority.issuer().spki());
    let issuer_key_hash = issuer_key_hash[..].try_into().expect("SHA-256 has 32 bytes");
    let mut found = None;
    for sct in &scts {
        let Some(log) = root.certificate_logs().iter().find(|log| *log.id() == sct.log_id) else {
            continue;
        };
        let signed =
            sct::precert_signed_data(sct.timestamp, &issuer_key_hash, &tbs, &sct.extensions);
        log.key().verify_message(&signed, &sct.signature).map_err(Error::SctSignature)?;
        let time = i64::try_from(sct.timestamp).ok();
        let time = time.and_then(|millis| Timestamp::from_millisecond(millis).ok());
        let time = time.filter(|&time| log.valid_for().contains(time));
        let time = time.ok_or_else(|| Error::SctTime {
            milliseconds: sct.timestamp,
            valid: log.valid_for().to_string(),
        })?;
        let place = sct.leaf_index().map_or(String::new(), |index| format!(" as leaf {index}"));
        found = Some(format!("recorded {time} by {}{place}", log.base_url()));
    }
    found.map(|found| ((), found)).ok_or(Error::UnknownCertificateLog)
}

fn check_signature(
    bundle: &Bundle,
    signer: &Signer,
    subject: &Subject,
) -> Result<((), String), Error> {
    let signature = bundle.content().signature();
    let mut hash = subject.signed_hash;
    let mut verdict = signer.key.verify_digest(hash, &subject.signed_digest, signature);
    if let (Err(_), Content::Dsse(envelope)) = (&verdict, bundle.content()) {
        // As for messages: keys on larger curves once signed SHA-256 digests.
        hash = HashAlgorithm::Sha256;
        verdict = signer.key.verify_digest(hash, &envelope.pae_digest(hash), signature);
    }
    verdict.map_err(Error::Signature)?;
    Ok(((), format!("{} with {}", signer.key.kind(), hash.short_name())))
}

impl Bundle {
    /// The hash under which the artifact's digest must be known; `None` for an attestation, whose
    /// subjects may use any ([`HashAlgorithm::Sha256`] nearly always).
    #[must_use]
    pub const fn artifact_hash(&self) -> Option<HashAlgorithm> {
        match self.content() {
            Content::Message(message) => Some(message.hash),
            Content::Dsse(_) => None,
        }
    }
}
