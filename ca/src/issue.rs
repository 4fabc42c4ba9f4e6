//! The issuance cycle.
//!
//! ```text
//! token -> Identity -> policy -> possession -> serial on record -> Prepared -> precertificate
//!       -> certificate log -> receipt verified -> certificate -> both correspond -> on record -> reply
//! ```
//! Each step consumes what the step before has made. A failure after the precertificate leaves nothing
//! valid behind: only a precertificate in the log, and a serial number on record.

use crate::Clock;
use crate::audit::{self, Audit, Event, Who};
use crate::credential::{Credential, Succession};
use crate::identity::{Identity, TokenError, Verifier};
use crate::limits::{self, Limits, Taken};
use crate::possession::{self, Request};
use crate::precert;
use crate::profile::{self, Prepared};
use crate::signer::{self, Signer};
use async_trait::async_trait;
use countersign_verify::assertion::{Assertion, Intent};
use countersign_verify::certificate::{CODE_SIGNING, Certificate};
use countersign_verify::chain::{self, CertificateAuthority};
use countersign_verify::key::{HashAlgorithm, PublicKey};
use countersign_verify::sct::{self, Sct};
use countersign_verify::trusted_root::Window;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for the log's receipt. Clients give up after 30 s; an embedded log takes milliseconds,
/// one that waits for its next checkpoint 1.5 s.
const RECEIPT: Duration = Duration::from_secs(5);

/// Where precertificates are logged.
#[async_trait]
pub trait CertificateLog: Send + Sync {
    /// Logs a precertificate; `chain` is the certificates above it, the issuing one first. Both DER. The
    /// receipt may be given only when the entry is durable.
    ///
    /// # Errors
    /// When the log does not take it; nothing is issued then.
    async fn add_pre_chain(
        &self,
        precertificate: &[u8],
        chain: &[Vec<u8>],
    ) -> Result<Sct, LogError>;
}

/// Why a log gave no receipt.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct LogError {
    /// What the log said.
    pub reason: String,
    /// Whether the same may succeed later.
    pub retryable: bool,
}

impl LogError {
    fn late() -> Self {
        let reason = format!("no receipt within {} s", RECEIPT.as_secs());
        Self { reason, retryable: true }
    }
}

/// A policy's no to a certificate.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("policy rule {rule:?} refuses this certificate: expected {expected}, found {found}")]
pub struct Refusal {
    /// The rule.
    pub rule: String,
    /// What it expects.
    pub expected: String,
    /// What it found.
    pub found: String,
}

/// A policy's yes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Passed {
    /// What the certificate says of it.
    pub assertion: Option<Assertion>,
    /// In a dry run the no that it would have been.
    pub despite: Option<Refusal>,
}

/// Decides whether an identity may have a certificate, for what it says that it will sign if it says so.
pub type Gate = Arc<dyn Fn(&Identity, Option<&Intent>) -> Result<Passed, Refusal> + Send + Sync>;

/// What an authority is made of.
pub struct Parts {
    /// Checks identity tokens.
    pub tokens: Verifier,
    /// The issuing CA's keys and certificates, one at least.
    pub issuing: Vec<Credential>,
    /// The certificate log.
    pub log: Arc<dyn CertificateLog>,
    /// The certificate log's key, SubjectPublicKeyInfo, DER.
    pub log_key: Vec<u8>,
    /// The policy.
    pub gate: Gate,
    /// How often.
    pub limits: Limits,
    /// The record.
    pub audit: Audit,
    /// The time.
    pub clock: Clock,
}

/// A certificate authority.
pub struct Authority {
    parts: Parts,
    issuing: Succession<Issuing>,
    log_key: PublicKey,
    log_id: [u8; 32],
}

/// One of the issuing CA's keys, and what of its certificates goes into each one that it signs. A request
/// has one from beginning to end, so that a rotation in between mixes nothing.
struct Issuing {
    signer: Arc<dyn Signer>,
    chain: Vec<Vec<u8>>,
    issuer: profile::Issuer,
    key_hash: [u8; 32],
}

impl Issuing {
    fn new(credential: Credential) -> Result<Self, Error> {
        let any_time = Window { start: None, end: None };
        let Credential { signer, chain, .. } = credential;
        let ders = chain.iter().map(Vec::as_slice).collect();
        let authority = CertificateAuthority::new(ders, any_time)?;
        let (issuing, above) = authority.chain().split_first().expect("a chain is not empty");
        if issuing.spki() != signer.spki() {
            return Err(Error::OtherKey);
        }
        // Fulcio's rule: an intermediate that may issue anything is not one to issue with.
        let usages = issuing.extended_key_usage().map_err(chain::Error::from)?;
        if !above.is_empty() && usages.is_none_or(|usages| !usages.contains(&CODE_SIGNING)) {
            return Err(Error::NotForCodeSigning);
        }
        let issuer = profile::Issuer::new(issuing, above)?;
        Ok(Self { key_hash: sha256(issuing.spki()), issuer, signer, chain })
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = HashAlgorithm::Sha256.digest(bytes);
    digest[..].try_into().expect("SHA-256 has 32 bytes")
}

/// What is known of a request when it fails, for the record, and what it has taken.
#[derive(Default)]
struct Asked<'a> {
    who: Option<Who>,
    serial: Option<String>,
    taken: Option<Taken<'a>>,
}

/// An issued certificate with those above it, DER.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The signing certificate first, the root last.
    pub chain: Vec<Vec<u8>>,
}

impl Authority {
    /// An authority out of its parts.
    ///
    /// # Errors
    /// When the certificates form no chain for code signing, the key is not the issuing one's, or the
    /// log's key is none.
    pub fn new(mut parts: Parts) -> Result<Self, Error> {
        let issuing = std::mem::take(&mut parts.issuing)
            .into_iter()
            .map(|credential| Ok::<_, Error>((credential.from, Issuing::new(credential)?)));
        let issuing = Succession::new(issuing.collect::<Result<_, _>>()?).ok_or(Error::NoKey)?;
        let log_key = PublicKey::from_spki(&parts.log_key).map_err(Error::LogKey)?;
        Ok(Self { log_id: sha256(&parts.log_key), log_key, issuing, parts })
    }

    /// Chains of certificates, DER, each with the issuing CA's first and the root last: of the key in use,
    /// of those that follow it, and of those before it.
    #[must_use]
    pub fn chains(&self) -> Vec<&[Vec<u8>]> {
        let current: *const Issuing = self.issuing.at((self.parts.clock)());
        let mut all: Vec<_> = self.issuing.all().rev().collect();
        all.sort_by_key(|issuing| !std::ptr::eq(*issuing, current));
        all.into_iter().map(|issuing| &issuing.chain[..]).collect()
    }

    /// The issuers whose tokens are accepted.
    #[must_use]
    pub const fn tokens(&self) -> &Verifier {
        &self.parts.tokens
    }

    /// Issues a certificate to the identity in `token`, for the key in `request` and perhaps for one intent
    /// alone. Refusals go on record, too.
    ///
    /// # Errors
    /// Names the step that refused or failed.
    pub async fn issue(
        &self,
        token: &str,
        request: &Request,
        intent: Option<&Intent>,
        request_id: &str,
    ) -> Result<Issued, Error> {
        let mut asked = Asked::default();
        let result = self.cycle(token, request, intent, request_id, &mut asked).await;
        match &result {
            Ok(_) => metrics::counter!("countersign_certificates_issued_total").increment(1),
            Err(error) => {
                let code = [("code", error.code())];
                metrics::counter!("countersign_certificates_refused_total", &code).increment(1);
            }
        }
        if let Err(error) = &result {
            let Asked { who, serial, taken } = asked;
            if let Some(taken) = taken {
                taken.give_back();
            }
            let rule = match error {
                Error::Policy(refusal) => Some(refusal.rule.clone()),
                _ => None,
            };
            let (reason, message) = (error.code().to_owned(), error.to_string());
            let event = Event::Refused { reason, message, rule, serial, who };
            self.parts.audit.record((self.parts.clock)(), request_id, event).await?;
        }
        result
    }

    /// What `token` would get: whom a certificate would name, and what policy says. Nothing is issued and
    /// nothing recorded.
    ///
    /// # Errors
    /// When the token names nobody.
    pub async fn explain(
        &self,
        token: &str,
    ) -> Result<(Identity, Result<(), Refusal>), TokenError> {
        let identity = self.parts.tokens.verify(token, (self.parts.clock)()).await?;
        let decision = (self.parts.gate)(&identity, None);
        Ok((identity, decision.and_then(|passed| passed.despite.map_or(Ok(()), Err))))
    }

    async fn cycle<'a>(
        &'a self,
        token: &str,
        request: &Request,
        intent: Option<&Intent>,
        request_id: &str,
        asked: &mut Asked<'a>,
    ) -> Result<Issued, Error> {
        let Parts { tokens, log, gate, limits, audit, clock, .. } = &self.parts;
        // 1. Who asks?
        let identity = tokens.verify(token, clock()).await?;
        let who = Who {
            identity: identity.san().as_str().to_owned(),
            issuer: identity.issuer().to_owned(),
        };
        asked.who = Some(who.clone());
        // 2. May they?
        let Passed { assertion, despite } = gate(&identity, intent)?;
        if let Some(refusal) = despite {
            // Whom, the record says: names do not belong into the program's log.
            let rule = &refusal.rule;
            tracing::warn!(
                request_id,
                rule,
                "policy-dry-run: the policy would refuse a certificate"
            );
            let (message, rule, who) = (refusal.to_string(), refusal.rule, Some(who.clone()));
            audit.record(clock(), request_id, Event::WouldRefuse { message, rule, who }).await?;
        }
        // 3. Do they hold the key?
        let key = possession::check(request, &identity)?;
        // Nothing below is the asker's fault; what fails there gives the token back.
        asked.taken = Some(limits.take(token, &identity, clock())?);
        // 4. The serial number is on record before anything is signed under it.
        let serial = profile::serial()?;
        let event = Event::Serial {
            serial: hex::encode(serial),
            key_sha256: Some(hex::encode(sha256(key.spki()))),
            who: who.clone(),
        };
        audit.record(clock(), request_id, event).await?;
        asked.serial = Some(hex::encode(serial));
        // 5. Everything but the receipt is decided.
        let now = clock();
        let Issuing { signer, chain, issuer, key_hash } = self.issuing.at(now);
        let prepared =
            Prepared::new(&identity, assertion.as_ref(), key.spki(), &serial, issuer, now)?;
        // 6. The precertificate goes to the log.
        let (precertificate, precertified) = prepared.sign_precertificate(&**signer)?;
        let sct = tokio::time::timeout(RECEIPT, log.add_pre_chain(&precertificate, chain));
        let sct = sct.await.unwrap_or_else(|_| Err(LogError::late())).map_err(Error::Log)?;
        // 7. The receipt must be the log's, for exactly this.
        let precertificate = Certificate::parse(&precertificate).map_err(precert::Error::from)?;
        let logged = self.check_receipt(&precertificate, key_hash, &sct)?;
        let (log_id, log_index) = (Some(hex::encode(sct.log_id)), sct.leaf_index());
        // 8. The certificate.
        let certificate = precertified.sign(sct, &**signer)?;
        precert::corresponds(&precertificate, &logged, &certificate)?;
        // 9. On record, then out.
        let certificate_sha256 = hex::encode(HashAlgorithm::Sha256.digest(&certificate));
        let serial = hex::encode(serial);
        let event = Event::Issued { serial, who, certificate_sha256, log_id, log_index };
        audit.record(clock(), request_id, event).await?;
        if let Some(taken) = asked.taken.take() {
            taken.keep();
        }
        Ok(Issued { chain: std::iter::once(certificate).chain(chain.iter().cloned()).collect() })
    }

    /// Returns the body that the receipt is for.
    fn check_receipt(
        &self,
        precertificate: &Certificate,
        issuer_key_hash: &[u8; 32],
        sct: &Sct,
    ) -> Result<Vec<u8>, Error> {
        let tbs = sct::precertificate_tbs(precertificate)?;
        let signed =
            sct::precert_signed_data(sct.timestamp, issuer_key_hash, &tbs, &sct.extensions);
        let holds = self.log_key.verify_message(&signed, &sct.signature).is_ok();
        if holds && sct.log_id == self.log_id { Ok(tbs) } else { Err(Error::Receipt) }
    }
}

/// The step that refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The policy.
    #[error(transparent)]
    Policy(#[from] Refusal),
    /// The key or its proof.
    #[error(transparent)]
    Possession(#[from] possession::Error),
    /// Too often.
    #[error(transparent)]
    Limit(#[from] limits::Error),
    /// The certificate could not be made.
    #[error(transparent)]
    Profile(#[from] profile::Error),
    /// The certificate log.
    #[error("the certificate log did not take the precertificate: {0}")]
    Log(LogError),
    /// The certificate log's receipt.
    #[error("the certificate log's receipt is not by its key over this precertificate")]
    Receipt,
    /// The receipt cannot be checked.
    #[error(transparent)]
    Sct(#[from] sct::Error),
    /// Precertificate and certificate.
    #[error(transparent)]
    Correspondence(#[from] precert::Error),
    /// The record.
    #[error("nothing is issued that cannot be recorded: {0}")]
    Audit(#[from] audit::Error),
    /// The authority's own certificates.
    #[error(transparent)]
    Chain(#[from] chain::Error),
    /// The authority has no key.
    #[error("expected at least one key of the issuing CA, found none")]
    NoKey,
    /// The authority's own key.
    #[error("expected the key of the issuing CA, the first in the chain; found another")]
    OtherKey,
    /// The authority's own certificate.
    #[error("expected the extended key usage codeSigning in the issuing CA's certificate")]
    NotForCodeSigning,
    /// The certificate log's key.
    #[error("the certificate log's key: {0}")]
    LogKey(countersign_verify::key::Error),
}

impl Error {
    /// A stable code for machines.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Token(error) => error.code(),
            Self::Policy(_) => "POLICY_REFUSED",
            Self::Possession(error) => error.code(),
            Self::Limit(error) => error.code(),
            Self::Log(_) | Self::Receipt => "CERTIFICATE_LOG",
            Self::Audit(_) => "AUDIT_LOG",
            Self::Profile(profile::Error::Signer(
                signer::Error::Token | signer::Error::TokenPin,
            )) => "SIGNER_UNAVAILABLE",
            Self::Profile(profile::Error::IssuerValidity { .. }) => "ISSUER_VALIDITY",
            Self::Profile(_)
            | Self::Sct(_)
            | Self::Correspondence(_)
            | Self::Chain(_)
            | Self::NoKey
            | Self::OtherKey
            | Self::NotForCodeSigning
            | Self::LogKey(_) => "INTERNAL",
        }
    }
}
