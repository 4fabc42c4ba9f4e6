//! A policy at the gates of an instance: at the authority and at the log the same decision as before use,
//! with what is known there.
//!
//! The authority sees the token. The log sees a certificate, or a key, and derives all from it again: what an
//! authority has certified that ignored the policy is refused here. Of an entry for a digest alone the log
//! does not see what is signed; then whoever signs must hold a grant for something.

use crate::failure::Failure;
use crate::policy_file::{self, Named};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use countersign_ca::Clock;
use countersign_ca::audit::{Audit, Event, Who};
use countersign_ca::credential::Credential;
use countersign_ca::identity::{Identity, San};
use countersign_ca::issue::{Gate, Refusal};
use countersign_log::face::accept::{Accepted, Asked, Denied};
use countersign_policy::{
    ClaimFact, Content, Context, Decision, Evidence, Facts, Outcome, Point, Policy, SignerFacts,
    decide,
};
use countersign_verify::certificate::{Certificate, Subject};
use countersign_verify::chain::{self, CertificateAuthority};
use countersign_verify::encoding::hex;
use countersign_verify::entry::Verifier;
use countersign_verify::key::HashAlgorithm;
use countersign_verify::statement::Statement;
use countersign_verify::trusted_root::Window;
use jiff::Timestamp;
use parking_lot::RwLock;
use std::path::Path;
use std::sync::Arc;

/// A policy with the trust roots that it names.
pub(crate) struct InForce {
    policy: Policy,
    named: Vec<(String, Named)>,
}

impl InForce {
    /// Reads it from a file, and what it names from beside it.
    pub(crate) fn read(path: &Path) -> Result<Arc<Self>, Failure> {
        let policy = policy_file::read(path)?;
        let named = policy_file::trust(&policy, path)?;
        Ok(Arc::new(Self { policy, named }))
    }
}

/// Lets those through who may sign something by the policy; without one everybody. What they will sign is
/// not said here: that is decided again by whoever uses it.
pub(crate) fn at_issuance(policy: Option<Arc<InForce>>, clock: Clock) -> Gate {
    let Some(in_force) = policy else { return Arc::new(|_| Ok(())) };
    Arc::new(move |identity| {
        let asked = Evidence::asked(token_facts(identity), Content::Unknown, clock());
        let decision = decided(Point::Issuance, asked, &in_force.policy, clock());
        if decision.allows() { Ok(()) } else { Err(refusal(&decision)) }
    })
}

fn decided(at: Point, asked: Evidence, policy: &Policy, now: Timestamp) -> Decision {
    let (artifact, context, incomplete) = (None, Context::default(), None);
    decide(&Facts { at, now, artifact, context, evidence: vec![asked], incomplete }, policy)
}

/// The authority sees the token, so the groups that no certificate carries are known here.
fn token_facts(identity: &Identity) -> SignerFacts {
    let subject = match identity.san() {
        San::Uri(text) => Subject::Uri(text.clone()),
        San::Email(text) => Subject::Email(text.clone()),
        San::Username(text) => Subject::Username(text.clone()),
    };
    let mut signer = SignerFacts::certified(&subject, identity.issuer(), identity.extensions());
    if let Some(groups) = identity.claims().get("groups").and_then(serde_json::Value::as_array) {
        let groups = groups.iter().filter_map(|group| Some(group.as_str()?.to_owned()));
        signer.claims.insert("groups".to_owned(), ClaimFact::Many(groups.collect()));
    }
    signer
}

/// The rule with its reason, and the one thing that is to blame: a stranger learns no more of the policy.
fn refusal(decision: &Decision) -> Refusal {
    let code = decision.code().map(ToString::to_string).unwrap_or_default();
    let culprit = decision.culprit();
    let expected = culprit.map(|step| step.expected.clone().unwrap_or_else(|| step.what.clone()));
    let found = culprit.and_then(|step| step.found.clone());
    Refusal {
        rule: format!("{}: {code}", decision.rule()),
        expected: expected.unwrap_or_default(),
        found: found.unwrap_or_else(|| "nothing".to_owned()),
    }
}

/// The signature logs' gate. A reload changes what is behind it.
#[derive(Clone, Default)]
pub(crate) struct LogGate(Arc<RwLock<Option<Arc<AtLog>>>>);

/// What decides about entries.
struct AtLog {
    in_force: Arc<InForce>,
    /// The instance's own.
    authorities: Vec<CertificateAuthority>,
}

impl LogGate {
    /// From now on decides `policy`, for certificates that the keys `issuing` signed; without one everybody
    /// is let through.
    pub(crate) fn set(
        &self,
        policy: Option<Arc<InForce>>,
        issuing: &[Credential],
    ) -> Result<(), Failure> {
        let any_time = Window { start: None, end: None };
        let authority = |credential: &Credential| {
            let chain = credential.chain.iter().map(Vec::as_slice).collect();
            CertificateAuthority::new(chain, any_time)
                .map_err(|error| Failure::unclear(format!("the certificate authority: {error}")))
        };
        let gate = policy.map(|in_force| {
            let authorities = issuing.iter().map(authority).collect::<Result<_, _>>()?;
            Ok::<_, Failure>(Arc::new(AtLog { in_force, authorities }))
        });
        *self.0.write() = gate.transpose()?;
        Ok(())
    }

    /// What the logs take by it.
    pub(crate) fn accepted(&self, clock: Clock) -> Accepted {
        let gate = self.clone();
        let decide = move |asked: &Asked<'_>| {
            let at_log = gate.0.read().clone();
            at_log.map_or(Ok(()), |at_log| at_log.decide(asked, clock()))
        };
        Accepted { policy: Some(Arc::new(decide)), ..Accepted::default() }
    }
}

impl AtLog {
    fn decide(&self, asked: &Asked<'_>, now: Timestamp) -> Result<(), Box<Denied>> {
        let signer = self.signer(asked.signer)?;
        let statement = asked.payload.and_then(|payload| Statement::parse(payload).ok());
        let content = statement.map_or(Content::Unknown, |statement| Content::Attestation {
            predicate_type: statement.predicate_type().to_owned(),
            statement: serde_json::Value::Null,
        });
        let whom = (signer.shown(), signer.issuer.clone());
        let asked = Evidence::asked(signer, content, now);
        let decision = decided(Point::Log, asked, &self.in_force.policy, now);
        if decision.allows() {
            return Ok(());
        }
        let Refusal { rule, expected, found } = refusal(&decision);
        let undecided = decision.outcome() == Outcome::Undecided;
        Err(Box::new(Denied { rule, expected, found, signer: whom, undecided }))
    }

    /// Who signed, by the instance's own authority or a trust root that the policy names. That a certificate
    /// has expired meanwhile does not matter here: whoever verifies asks for a time at which it was valid,
    /// and logging may have been deferred.
    fn signer(&self, signer: Verifier<'_>) -> Result<SignerFacts, Box<Denied>> {
        let der = match signer {
            Verifier::PublicKey(spki) => return Ok(self.key(spki)),
            Verifier::Certificate(der) => der,
        };
        let denied = |found: String| {
            let expected =
                "a certificate of this instance's authority, or of one that the policy names";
            let (rule, expected) = ("trust: no-role".to_owned(), expected.to_owned());
            let (signer, undecided) = (Default::default(), false);
            Box::new(Denied { rule, expected, found, signer, undecided })
        };
        let certificate = Certificate::parse(der).map_err(|error| denied(error.to_string()))?;
        let trust = self.trust(&certificate).map_err(|error| denied(error.to_string()))?;
        let identity = certificate.identity().map_err(|error| denied(error.to_string()))?;
        let issuer = identity.issuer().unwrap_or_default();
        let signer = SignerFacts::certified(identity.subject(), issuer, identity.claims());
        Ok(SignerFacts { trust, ..signer })
    }

    /// The trust root by its name in the policy; `None` is the instance's own.
    fn trust(&self, certificate: &Certificate) -> Result<Option<String>, chain::Error> {
        let by = |authorities: &[CertificateAuthority]| {
            let mut reason = chain::Error::OtherIssuer;
            for authority in authorities {
                match authority.verify(certificate, &[certificate.not_before()]) {
                    Ok(()) => return Ok(()),
                    Err(chain::Error::OtherIssuer) => {}
                    Err(error) => reason = error,
                }
            }
            Err(reason)
        };
        let Err(reason) = by(&self.authorities) else { return Ok(None) };
        let named = self.in_force.named.iter().find(|(_, named)| match named {
            Named::Root(root) => by(root.certificate_authorities()).is_ok(),
            Named::Key(_) => false,
        });
        named.map(|(name, _)| Some(name.clone())).ok_or(reason)
    }

    fn key(&self, spki: &[u8]) -> SignerFacts {
        let named = self
            .in_force
            .named
            .iter()
            .find(|(_, named)| matches!(named, Named::Key(key) if key.spki() == spki));
        SignerFacts {
            trust: named.map(|(name, _)| name.clone()),
            key: Some(format!("sha256:{}", hex(&HashAlgorithm::Sha256.digest(spki)))),
            ..SignerFacts::default()
        }
    }
}

/// Keeps a record of what the log's policy refuses.
pub(crate) async fn record(State(audit): State<Audit>, request: Request, next: Next) -> Response {
    let id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok());
    let id = id.unwrap_or_default().to_owned();
    let response = next.run(request).await;
    if let Some(denied) = response.extensions().get::<Denied>() {
        let (identity, issuer) = denied.signer.clone();
        let event = Event::Refused {
            reason: if denied.undecided { "POLICY_UNDECIDED" } else { "POLICY_REFUSED" }.to_owned(),
            message: denied.to_string(),
            rule: Some(denied.rule.clone()),
            serial: None,
            who: Some(Who { identity, issuer }),
        };
        if let Err(error) = audit.record(Timestamp::now(), &id, event).await {
            tracing::error!(%error, "a refusal is not on record");
        }
    }
    response
}
