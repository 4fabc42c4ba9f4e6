//! The verification procedure: one function that reads as its steps, in the order of the Sigstore
//! client specification, but that the signature comes before what makes it trustworthy: it is cheap, and
//! its failure the most telling.
//!
//! Each step takes what the step before has proven. What cannot be decided here is refused: log
//! entries of unknown kinds, signatures by managed keys without the key.

mod error;
mod log;

pub use error::Error;
pub use log::signed_checkpoint;

use crate::artifact::Artifact;
use crate::bundle::{Bundle, Content, Material};
use crate::certificate::{Certificate, Identity, SCT_LIST};
use crate::chain::{self, CertificateAuthority};
use crate::dsse::IN_TOTO;
use crate::encoding::hex;
use crate::key::{HashAlgorithm, PublicKey, Scheme};
use crate::report::{Check, Recorder, Report};
use crate::sct;
use crate::statement::Statement;
use crate::timestamp;
use crate::trusted_root::{Log, TrustedRoot};
use crate::witness::Policy;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What verification has proven. Only a [`Verifier`] makes one.
#[derive(Clone, Debug)]
pub struct Verified {
    signer: Signer,
    times: Vec<TrustedTime>,
    entries: Vec<LoggedEntry>,
    witnesses: usize,
    artifact: (HashAlgorithm, Vec<u8>),
    statement: Option<Statement>,
    payload: Option<Arc<Vec<u8>>>,
    root: usize,
}

/// Who signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Signer {
    /// Whom a trusted authority certified.
    Certificate {
        /// The signing certificate.
        certificate: Box<Certificate>,
        /// Whom it names.
        identity: Identity,
    },
    /// The holder of the key that the caller gave.
    Key(PublicKey),
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
    /// Who signed.
    #[must_use]
    pub const fn signer(&self) -> &Signer {
        &self.signer
    }

    /// The signing certificate; `None` for a managed key.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        match &self.signer {
            Signer::Certificate { certificate, .. } => Some(certificate),
            Signer::Key(_) => None,
        }
    }

    /// Whom the certificate names; `None` for a managed key.
    #[must_use]
    pub const fn identity(&self) -> Option<&Identity> {
        match &self.signer {
            Signer::Certificate { identity, .. } => Some(identity),
            Signer::Key(_) => None,
        }
    }

    /// When the signature existed, each time verified; at least one unless a managed key signed.
    #[must_use]
    pub fn times(&self) -> &[TrustedTime] {
        &self.times
    }

    /// Where it is logged, each entry verified; at least one unless none was demanded.
    #[must_use]
    pub fn entries(&self) -> &[LoggedEntry] {
        &self.entries
    }

    /// How many of the witnesses that were asked about cosigned the tree of each entry; of several
    /// entries the fewest.
    #[must_use]
    pub const fn witnesses(&self) -> usize {
        self.witnesses
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

    /// The bytes of the signed statement, for attestations; JSON.
    #[must_use]
    pub fn payload(&self) -> Option<&[u8]> {
        self.payload.as_deref().map(Vec::as_slice)
    }

    /// Which of the verifier's trusted roots it was proven by, from 0.
    #[must_use]
    pub const fn root(&self) -> usize {
        self.root
    }
}

/// How many different authorities must bear witness. What is there by trusted ones must hold whatever
/// the number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Thresholds {
    /// Logs with an entry of the signature.
    pub logs: usize,
    /// Timestamp authorities, and logs whose promise tells the time. A certificate needs one at least:
    /// nothing else says when it must have been valid.
    pub times: usize,
    /// Certificate logs with a receipt in the certificate.
    pub certificate_logs: usize,
}

impl Thresholds {
    /// One of each, as all clients have it.
    pub const CERTIFICATE: Self = Self { logs: 1, times: 1, certificate_logs: 1 };
    /// One log: a managed key has no certificate whose validity would be in question.
    pub const KEY: Self = Self { logs: 1, times: 0, certificate_logs: 0 };
}

/// What to verify by: trusted roots, perhaps a key, and thresholds.
///
/// ```
/// use countersign_verify::{Artifact, TrustedRoot, Verifier};
/// # let instance = countersign_testkit::Instance::new();
/// # let signer = instance.certify("https://git.example.test/acme", "https://issuer.example.test");
/// # let (bundle, root) = (instance.sign(&signer, b"artifact").to_json(), instance.trusted_root());
/// let root = TrustedRoot::parse(root.as_bytes())?;
/// let report = Verifier::new(&root).verify_json(bundle.as_bytes(), &Artifact::from_bytes(b"artifact"));
/// for (check, outcome) in report.checks() {
///     println!("{}: {outcome:?}", check.name());
/// }
/// let verified = report.into_result()?;
/// let identity = verified.identity().expect("signed with a certificate");
/// assert_eq!(identity.subject().as_str(), "https://git.example.test/acme");
/// assert_eq!(identity.issuer(), Some("https://issuer.example.test"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Verifier<'a> {
    roots: &'a [TrustedRoot],
    key: Option<&'a PublicKey>,
    thresholds: Thresholds,
    witnesses: Option<&'a Policy>,
}

impl<'a> Verifier<'a> {
    /// By one trusted root: signatures with certificates, thresholds of one.
    #[must_use]
    pub const fn new(root: &'a TrustedRoot) -> Self {
        Self::any_of(std::slice::from_ref(root))
    }

    /// By any of several trusted roots. Each stands alone: the authority of one does not count with the
    /// log of another.
    #[must_use]
    pub const fn any_of(roots: &'a [TrustedRoot]) -> Self {
        Self { roots, key: None, thresholds: Thresholds::CERTIFICATE, witnesses: None }
    }

    /// For signatures by this managed key alone, which the bundle never carries.
    #[must_use]
    pub const fn with_key(self, key: &'a PublicKey) -> Self {
        Self { key: Some(key), thresholds: Thresholds::KEY, ..self }
    }

    /// With other thresholds; to be called last.
    #[must_use]
    pub const fn with_thresholds(self, thresholds: Thresholds) -> Self {
        Self { thresholds, ..self }
    }

    /// Demanding that witnesses cosigned the tree of every log entry, as `policy` has it. Its logs, if it
    /// names any, must be the trusted root's as well.
    #[must_use]
    pub const fn with_witnesses(self, policy: &'a Policy) -> Self {
        Self { witnesses: Some(policy), ..self }
    }

    /// Verifies that `bundle` proves a signature over `artifact`.
    ///
    /// Who signed is part of the result; whether that identity may sign is the policy's question. When
    /// no root proves it, the report is the one of the root that came furthest.
    #[must_use]
    pub fn verify(&self, bundle: &Bundle, artifact: &Artifact) -> Report {
        let mut furthest: Option<Report> = None;
        for place in 0..self.roots.len() {
            let mut recorder = Recorder::default();
            let result = self.procedure(bundle, artifact, place, &mut recorder);
            let report = recorder.finish(result);
            if report.result().is_ok() {
                return report;
            }
            if furthest.as_ref().is_none_or(|other| report.passed() > other.passed()) {
                furthest = Some(report);
            }
        }
        furthest.unwrap_or_else(|| Recorder::default().finish(Err(Error::NoRoot)))
    }

    /// [`verify`](Self::verify), beginning with the bytes of a bundle.
    #[must_use]
    pub fn verify_json(&self, json: &[u8], artifact: &Artifact) -> Report {
        match Bundle::parse(json) {
            Ok(bundle) => self.verify(&bundle, artifact),
            Err(error) => Report::malformed(error),
        }
    }

    fn procedure(
        &self,
        bundle: &Bundle,
        artifact: &Artifact,
        place: usize,
        recorder: &mut Recorder,
    ) -> Result<Verified, Error> {
        let root = &self.roots[place];
        let (signer, key) = recorder.record(Check::Bundle, read_signer(bundle, self.key))?;
        let subject = recorder.record(Check::Artifact, match_artifact(bundle, artifact))?;
        let signed = check_signature(bundle, &key, &subject);
        let signed = recorder.record(Check::Signature, signed)?;
        let times = self.trusted_times(bundle, &signer, root);
        let times = recorder.record(Check::Timestamp, times)?;
        let signature = log::Signature { bundle, signer: &signer, key: &key, signed: &signed };
        if let Signer::Certificate { certificate, identity } = &signer {
            let at: Vec<_> = times.iter().map(|trusted| trusted.time).collect();
            let issuer = identity.issuer().unwrap_or("an issuer it does not name");
            let authority = issuing_authority(certificate, &at, root).map(|authority| {
                (authority, format!("{} according to {issuer}", identity.subject().as_str()))
            });
            if let Err(Error::Chain(chain::Error::OutsideValidity { .. })) = authority
                && let Some(other) = log::of_another(&signature, root, &times)
            {
                return recorder.record(Check::Entry, Err(other));
            }
            let authority = recorder.record(Check::Certificate, authority)?;
            let logged = self.logged_certificate(certificate, authority, root);
            recorder.record(Check::CertificateLog, logged)?;
        } else {
            recorder.not_needed(Check::Certificate, "signed by the key given");
            recorder.not_needed(Check::CertificateLog, "signed by the key given");
        }
        let entries = log::matching_entries(&signature, root, &times, self.thresholds.logs);
        let matching = recorder.record(Check::Entry, entries)?;
        let entries = log::included_entries(&matching, &times);
        let entries = recorder.record(Check::Inclusion, entries)?;
        let witnesses = match self.witnesses {
            Some(policy) => {
                recorder.record(Check::Witnesses, log::witnessed_entries(&matching, policy))?
            }
            None => {
                recorder.not_needed(Check::Witnesses, "none were demanded");
                0
            }
        };
        let Subject { hash, digest, statement } = subject;
        let payload = match bundle.content() {
            Content::Dsse(envelope) => Some(Arc::clone(&envelope.payload)),
            Content::Message(_) => None,
        };
        let artifact = (hash, digest);
        let root = place;
        Ok(Verified { signer, times, entries, witnesses, artifact, statement, payload, root })
    }

    /// Whether a trusted authority issued a signing certificate, and trusted certificate logs have it: what can
    /// be told before anything is signed with it. `time` is one at which it must be valid.
    ///
    /// # Errors
    /// With the first check that fails; of several roots with the last one's.
    pub fn certificate(&self, certificate: &Certificate, time: Timestamp) -> Result<(), Error> {
        let mut refusal = Error::NoRoot;
        for root in self.roots {
            let logged = issuing_authority(certificate, &[time], root)
                .and_then(|authority| self.logged_certificate(certificate, authority, root));
            match logged {
                Ok(_) => return Ok(()),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    /// From timestamp authorities and from the promises of Rekor v1 logs. Timestamps by authorities that
    /// are not in the trusted root are passed over, as other clients do; a broken one by a trusted
    /// authority is refused.
    fn trusted_times(
        &self,
        bundle: &Bundle,
        signer: &Signer,
        root: &TrustedRoot,
    ) -> Result<(Vec<TrustedTime>, String), Error> {
        let signature = bundle.content().signature();
        let mut times: Vec<TrustedTime> = Vec::new();
        let mut authorities = BTreeSet::new();
        for (place, response) in bundle.timestamps().iter().enumerate() {
            if bundle.timestamps()[..place].contains(response) {
                return Err(Error::RepeatedTimestamp { place });
            }
            match timestamp::verify(response, signature, root.timestamp_authorities()) {
                Ok((time, authority)) => {
                    let authority = &root.timestamp_authorities()[authority];
                    // One authority may stand in the root several times, each time for another window.
                    authorities.insert(authority.certificate().der());
                    times.push(TrustedTime { time, authority: authority.uri().to_owned() });
                }
                Err(timestamp::Error::UnknownAuthority) => {}
                Err(reason) => return Err(Error::Timestamp { place, reason }),
            }
        }
        let (promised, logs) = log::promised_times(bundle, root)?;
        times.extend(promised);
        let found = authorities.len() + logs;
        let expected = match signer {
            Signer::Certificate { .. } => self.thresholds.times.max(1),
            Signer::Key(_) => self.thresholds.times,
        };
        if found < expected {
            let promised = bundle.entries().iter().any(|entry| entry.promise.is_some());
            return Err(match (found, bundle.timestamps().is_empty()) {
                (1.., _) => Error::TooFewTimes { expected, found },
                (0, false) => {
                    let known = root.timestamp_authorities().len();
                    Error::UnknownTimestampAuthority { known, unfit: root.unfit().to_vec() }
                }
                (0, true) if promised => log::unpromised(bundle, root),
                (0, true) => Error::NoTimestamp,
            });
        }
        let found: Vec<_> = times
            .iter()
            .map(|TrustedTime { time, authority }| format!("{time} by {authority}"))
            .collect();
        let none = "none, and a key needs none".to_owned();
        Ok((times, if found.is_empty() { none } else { found.join(", ") }))
    }

    /// Receipts of trusted logs; those of unknown logs are passed over, one of a trusted log that does
    /// not hold is refused.
    fn logged_certificate(
        &self,
        certificate: &Certificate,
        authority: &CertificateAuthority,
        root: &TrustedRoot,
    ) -> Result<((), String), Error> {
        let expected = self.thresholds.certificate_logs;
        let Some(list) = certificate.extension(SCT_LIST) else {
            let none = "none, and none was demanded".to_owned();
            return if expected == 0 { Ok(((), none)) } else { Err(Error::NoSct) };
        };
        let scts = sct::parse_list_extension(&list.value).map_err(Error::Sct)?;
        let tbs = sct::precertificate_tbs(certificate).map_err(Error::Sct)?;
        let issuer_key_hash = HashAlgorithm::Sha256.digest(authority.issuer().spki());
        let issuer_key_hash = issuer_key_hash[..].try_into().expect("SHA-256 has 32 bytes");
        let (mut found, mut logs) = (Vec::new(), BTreeSet::new());
        for sct in &scts {
            let time = i64::try_from(sct.timestamp).ok();
            let time = time.and_then(|millis| Timestamp::from_millisecond(millis).ok());
            let log = Log::find(root.certificate_logs(), &sct.log_id, time.as_slice());
            let Some(log) = log else { continue };
            let signed =
                sct::precert_signed_data(sct.timestamp, &issuer_key_hash, &tbs, &sct.extensions);
            sct.verify(log.key(), &signed).map_err(Error::SctSignature)?;
            let told = || time.map_or(format!("{} ms", sct.timestamp), |time| time.to_string());
            let time = time.filter(|&time| log.valid_for().contains(time)).ok_or_else(|| {
                Error::SctTime { time: told(), valid: log.valid_for().to_string() }
            })?;
            let place = sct.leaf_index().map_or(String::new(), |index| format!(" as leaf {index}"));
            found.push(format!("recorded {time} by {}{place}", log.base_url()));
            logs.insert(sct.log_id);
        }
        match logs.len() {
            0 if expected == 0 => {
                Ok(((), "by unknown logs only, and none was demanded".to_owned()))
            }
            0 => Err(Error::UnknownCertificateLog {
                known: root.certificate_logs().len(),
                found: log::named(scts.iter().map(|sct| &sct.log_id)),
            }),
            found if found < expected => Err(Error::TooFewCertificateLogs { expected, found }),
            _ => Ok(((), found.join(", "))),
        }
    }
}

/// [`Verifier::verify`] by one trusted root.
#[must_use]
pub fn verify(bundle: &Bundle, artifact: &Artifact, root: &TrustedRoot) -> Report {
    Verifier::new(root).verify(bundle, artifact)
}

/// [`Verifier::verify_json`] by one trusted root.
#[must_use]
pub fn verify_json(json: &[u8], artifact: &Artifact, root: &TrustedRoot) -> Report {
    Verifier::new(root).verify_json(json, artifact)
}

/// The artifact a signature must be over.
struct Subject {
    /// The hash that matched the artifact.
    hash: HashAlgorithm,
    digest: Vec<u8>,
    statement: Option<Statement>,
}

/// What the signature was found to cover.
struct Signed {
    scheme: Scheme,
    /// The artifact's digest, or that of the PAE, with its hash; none where the key signs whole messages.
    digest: Option<(HashAlgorithm, Vec<u8>)>,
}

fn read_signer(
    bundle: &Bundle,
    key: Option<&PublicKey>,
) -> Result<((Signer, PublicKey), String), Error> {
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
    let der = match (bundle.certificate(), key) {
        (Some(der), None) => der,
        (None, Some(key)) => return Ok(((Signer::Key(key.clone()), key.clone()), found)),
        (None, None) => return Err(Error::KeyNeeded),
        (Some(_), Some(_)) => return Err(Error::CertificateFound),
    };
    if let Material::Chain(chain) = bundle.material() {
        for (place, der) in chain.iter().enumerate() {
            let certificate = Certificate::parse(der).map_err(Error::CertificateFormat)?;
            if certificate.issuer() == certificate.subject() {
                return Err(Error::RootInChain { place });
            }
        }
    }
    let certificate = Certificate::parse(der).map_err(Error::CertificateFormat)?;
    let identity = certificate.identity().map_err(Error::CertificateFormat)?;
    let key = PublicKey::from_spki(certificate.spki()).map_err(Error::P256Key)?;
    Ok(((Signer::Certificate { certificate: Box::new(certificate), identity }, key), found))
}

fn match_artifact(bundle: &Bundle, artifact: &Artifact) -> Result<(Subject, String), Error> {
    let subject = match bundle.content() {
        Content::Message(message) => {
            let hash = message.hash;
            let digest = artifact.digest(hash).ok_or(Error::DigestNeeded { hash })?;
            if !message.digest.is_empty() && digest != message.digest {
                let (expected, found) = (hex(&message.digest), hex(digest));
                return Err(Error::OtherArtifact { hash, expected, found });
            }
            Subject { hash, digest: digest.to_vec(), statement: None }
        }
        Content::Dsse(envelope) => {
            if envelope.payload_type != IN_TOTO {
                let found = envelope.payload_type.chars().take(100).collect();
                return Err(Error::PayloadType { found });
            }
            let statement = Statement::parse(&envelope.payload).map_err(Error::Statement)?;
            let found = |&(hash, digest): &(_, &[u8])| statement.subject(hash, digest).is_some();
            let (hash, digest) = artifact.digests().find(found).ok_or(Error::NotASubject)?;
            Subject { hash, digest: digest.to_vec(), statement: Some(statement) }
        }
    };
    let found = format!("{}:{}", subject.hash.short_name(), hex(&subject.digest));
    Ok((subject, found))
}

fn check_signature(
    bundle: &Bundle,
    key: &PublicKey,
    subject: &Subject,
) -> Result<(Signed, String), Error> {
    let signature = bundle.content().signature();
    let mut reason = None;
    for &scheme in key.schemes() {
        let digest = match (bundle.content(), scheme.hash()) {
            (Content::Message(_), hash) if hash != Some(subject.hash) => continue,
            (Content::Message(_), _) => Some((subject.hash, subject.digest.clone())),
            (Content::Dsse(envelope), Some(hash)) => Some((hash, envelope.pae_digest(hash))),
            (Content::Dsse(_), None) => None,
        };
        let verdict = match (&digest, bundle.content()) {
            (Some((_, digest)), _) => key.verify_digest_by(scheme, digest, signature),
            (None, Content::Dsse(envelope)) => key.verify_message(&envelope.pae(), signature),
            (None, Content::Message(_)) => continue,
        };
        match verdict {
            Ok(()) => {
                let how = scheme.hash().map_or("whole message", HashAlgorithm::short_name);
                return Ok((Signed { scheme, digest }, format!("{} with {how}", key.kind())));
            }
            Err(error) => reason = reason.or(Some(error)),
        }
    }
    let usual = key.schemes().iter().find_map(|scheme| scheme.hash());
    let whole = key.schemes().iter().any(|scheme| scheme.hash().is_none());
    Err(match (reason, usual) {
        (Some(reason), _) if whole && matches!(bundle.content(), Content::Message(_)) => {
            Error::SignatureOverDigest { kind: key.kind(), reason }
        }
        (Some(reason), _) => Error::Signature(reason),
        (None, Some(expected)) if !whole => Error::DigestHash { expected, found: subject.hash },
        (None, _) => Error::NoPrehash { kind: key.kind() },
    })
}

fn issuing_authority<'r>(
    certificate: &Certificate,
    times: &[Timestamp],
    root: &'r TrustedRoot,
) -> Result<&'r CertificateAuthority, Error> {
    // Several authorities may share a name across a key rotation: a time out of bounds says more than a
    // signature by the other key, and that more than another name.
    let telling = |reason: &chain::Error| match reason {
        chain::Error::OtherIssuer => 0,
        chain::Error::Path(webpki::Error::InvalidSignatureForPublicKey) => 1,
        _ => 2,
    };
    let mut reason = chain::Error::OtherIssuer;
    for authority in root.issuing_authorities() {
        match authority.verify(certificate, times) {
            Ok(()) => return Ok(authority),
            Err(other) if telling(&other) > telling(&reason) => reason = other,
            Err(_) => {}
        }
    }
    let key = certificate.authority_key_id();
    let by = |authority: &CertificateAuthority| {
        key.is_some() && authority.issuer().subject_key_id() == key
    };
    // That an authority's signature does not hold is only said of one whose key this claims to be.
    match telling(&reason) {
        2 => Err(Error::Chain(reason)),
        1 if key.is_none() || root.issuing_authorities().any(by) => Err(Error::Chain(reason)),
        _ => Err(Error::UnknownAuthority {
            known: root.certificate_authorities().len(),
            found: match key {
                Some(key) => format!("key {}", hex(&key)),
                None => "a key without an ID".to_owned(),
            },
        }),
    }
}

impl Bundle {
    /// The hashes under which the artifact's digest may be needed, all of which whoever holds the
    /// artifact should compute: one for a message; for an attestation those of its subjects.
    #[must_use]
    pub fn artifact_hashes(&self) -> Vec<HashAlgorithm> {
        match self.content() {
            Content::Message(message) => vec![message.hash],
            Content::Dsse(envelope) => {
                let statement = Statement::parse(&envelope.payload).ok();
                let named = |hash: &HashAlgorithm| {
                    statement.as_ref().is_some_and(|statement| statement.names(*hash))
                };
                let hashes: Vec<_> = HashAlgorithm::ALL.into_iter().filter(named).collect();
                if hashes.is_empty() { vec![HashAlgorithm::Sha256] } else { hashes }
            }
        }
    }
}
