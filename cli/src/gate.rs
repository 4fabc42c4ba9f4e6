//! A policy at the gates of an instance: at the authority and at the log the same decision as before use,
//! with what is known there.
//!
//! The authority sees the token, and perhaps what the certificate is for, which it then binds into it. The log
//! sees a certificate, or a key, and derives all from it again: what an authority has certified that ignored
//! the policy is refused here. Of an entry for a digest alone the log does not see what is signed; then it is
//! what the certificate is bound to, and if to nothing, whoever signs must hold a grant for something.

use crate::failure::Failure;
use crate::policy_file::{self, Named};
use countersign_ca::Clock;
use countersign_ca::audit::{Audit, Event, Who};
use countersign_ca::identity::{Identity, San};
use countersign_ca::issue::{Gate, Passed, Refusal};
use countersign_log::face::accept::{Accepted, Asked, Denied};
use countersign_policy::{
    Artifact, ClaimFact, Code, Content, Context, Decision, Evidence, Facts, Intended, Intent,
    Outcome, Point, Policy, SignerFacts, decide,
};
use countersign_verify::certificate::{Certificate, Subject};
use countersign_verify::chain::{self, CertificateAuthority};
use countersign_verify::encoding::hex;
use countersign_verify::entry::Verifier;
use countersign_verify::key::HashAlgorithm;
use countersign_verify::statement::Statement;
use jiff::Timestamp;
use parking_lot::RwLock;
use std::path::Path;
use std::sync::Arc;

/// How a policy is in force.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terms {
    /// What it would refuse is let through, told and put on record.
    pub(crate) dry_run: bool,
    /// No certificate for whoever does not say what it is for.
    pub(crate) require_intent: bool,
}

/// A policy with the trust roots that it names.
pub(crate) struct InForce {
    policy: Policy,
    named: Vec<(String, Named)>,
    terms: Terms,
}

impl InForce {
    /// Reads it from a file, and what it names from beside it.
    pub(crate) fn read(path: &Path, terms: Terms) -> Result<Arc<Self>, Failure> {
        let policy = policy_file::read(path)?;
        let named = policy_file::trust(&policy, path)?;
        Ok(Arc::new(Self { policy, named, terms }))
    }

    /// What is to be known of it whenever it comes into force.
    pub(crate) fn warning(&self) -> Option<String> {
        let Policy { name, serial, .. } = &self.policy;
        let dry = "policy-dry-run: nothing is refused by policy";
        self.terms
            .dry_run
            .then(|| format!("{dry} {name} serial {serial}, neither certificates nor entries"))
    }
}

/// Lets those through who may sign by the policy what they say that they will, or something if they say
/// nothing; without a policy everybody. All is decided again by whoever uses it.
pub(crate) fn at_issuance(policy: Option<Arc<InForce>>, clock: Clock) -> Gate {
    let Some(in_force) = policy else { return Arc::new(|_, _| Ok(Passed::default())) };
    Arc::new(move |identity, intent| {
        let policy = &in_force.policy;
        let asked = Evidence::asked(token_facts(identity), Content::Unknown, clock());
        let decision = decided(Point::Issuance, asked, intent, policy, clock());
        let refusal = if !decision.allows() {
            refusal(&decision)
        } else if in_force.terms.require_intent && intent.is_none() {
            Refusal {
                rule: "require-intent".to_owned(),
                expected: "a request that says what is to be signed, in its member intent"
                    .to_owned(),
                found: "nothing".to_owned(),
            }
        } else {
            let assertion = policy.asserts(decision.roles().to_vec(), intent.cloned());
            return Ok(Passed { assertion: Some(assertion), despite: None });
        };
        if !in_force.terms.dry_run {
            return Err(refusal);
        }
        // The certificate does not say that anybody allowed it.
        Ok(Passed { assertion: None, despite: Some(refusal) })
    })
}

/// Decides about `asked`, of which `intent` says more.
fn decided(
    at: Point,
    mut asked: Evidence,
    intent: Option<&Intent>,
    policy: &Policy,
    now: Timestamp,
) -> Decision {
    if let (Some(intent), Content::Unknown) = (intent, &asked.content) {
        asked.content = Content::of(intent);
    }
    let intended = intent.and_then(|intent| intent.artifact.as_ref());
    if let Some(intended) = intended {
        asked.signed_name = Some(intended.name.clone());
        if asked.digest.is_empty() {
            asked.digest.clone_from(&intended.digest);
        }
    }
    let artifact = intended.map(Artifact::intended);
    let (context, incomplete) = (Context::default(), None);
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
    let expected = culprit.map(|step| match (&step.code, &step.expected) {
        (Some(Code::DeniedBy(name)), _) => format!("nobody whom never {name:?} is about"),
        (_, Some(expected)) => format!("{} {expected}", step.what),
        (_, None) => step.what.clone(),
    });
    let found = culprit.and_then(|step| step.found.clone());
    Refusal {
        rule: one_line(&format!("{}: {code}", decision.rule())),
        expected: one_line(&expected.unwrap_or_default()),
        found: one_line(&found.unwrap_or_else(|| "nothing".to_owned())),
    }
}

/// Claims are others' words: what would break a line is escaped.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

/// The signature logs' gate. A reload changes what is behind it.
#[derive(Clone, Default)]
pub(crate) struct LogGate(Arc<RwLock<Option<Deciding>>>);

/// What decides, and where a dry run's refusals go.
type Deciding = Arc<(AtLog, Audit)>;

/// What decides about entries.
pub(crate) struct AtLog {
    in_force: Arc<InForce>,
    /// The instance's own.
    authorities: Vec<CertificateAuthority>,
}

impl LogGate {
    /// From now on decides `policy`, for certificates by `own` authorities; without one everybody
    /// is let through. What a dry run would refuse goes to `audit`.
    pub(crate) fn set(
        &self,
        policy: Option<Arc<InForce>>,
        own: &[CertificateAuthority],
        audit: &Audit,
    ) {
        let gate = |in_force| Arc::new((AtLog::new(in_force, own.to_vec()), audit.clone()));
        *self.0.write() = policy.map(gate);
    }

    /// What the logs take by it.
    pub(crate) fn accepted(&self, clock: Clock) -> Accepted {
        let gate = self.clone();
        let decide = move |asked: &Asked<'_>| {
            let Some(gate) = gate.0.read().clone() else { return Ok(()) };
            let (at_log, audit) = &*gate;
            match at_log.decide(asked, clock()) {
                Err(denied) if at_log.in_force.terms.dry_run => {
                    would_refuse(&denied, audit.clone(), clock());
                    Ok(())
                }
                decided => decided,
            }
        };
        Accepted { policy: Some(Arc::new(decide)), ..Accepted::default() }
    }
}

impl AtLog {
    /// Decides by a policy, for certificates by one of `authorities`, and by those that the policy names.
    pub(crate) const fn new(
        in_force: Arc<InForce>,
        authorities: Vec<CertificateAuthority>,
    ) -> Self {
        Self { in_force, authorities }
    }

    pub(crate) fn decide(&self, asked: &Asked<'_>, now: Timestamp) -> Result<(), Box<Denied>> {
        let signer = self.signer(asked.signer)?;
        let whom = (signer.shown(), signer.issuer.clone());
        let intent = signer.asserted.as_ref().and_then(|asserted| asserted.intent.clone());
        let bound = intent.as_ref().and_then(|intent| intent.artifact.as_ref());
        let mut entry = Evidence::asked(signer, Content::Unknown, now);
        match asked.payload.and_then(|payload| Statement::parse(payload).ok()) {
            Some(statement) => {
                entry.content = Content::Attestation {
                    predicate_type: statement.predicate_type().to_owned(),
                    statement: countersign_policy::Statement::default(),
                };
                entry.digest = subject(&statement, bound);
            }
            // A signature over a file is over its digest; all other ones are over an envelope.
            None if bound.is_some_and(|bound| bound.kind == "blob")
                && intent.as_ref().is_some_and(|intent| intent.action == "sign") =>
            {
                let (hash, digest) = asked.digest;
                entry.digest = format!("{}:{}", hash.short_name(), hex(digest));
            }
            None => {}
        }
        let decision = decided(Point::Log, entry, intent.as_ref(), &self.in_force.policy, now);
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
        Ok(SignerFacts::of(&certificate, &identity, trust.as_deref()))
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
            Named::Key { .. } => false,
        });
        named.map(|(name, _)| Some(name.clone())).ok_or(reason)
    }

    fn key(&self, spki: &[u8]) -> SignerFacts {
        let named = self
            .in_force
            .named
            .iter()
            .find(|(_, named)| matches!(named, Named::Key { key, .. } if key.spki() == spki));
        SignerFacts {
            trust: named.map(|(name, _)| name.clone()),
            key: Some(format!("sha256:{}", hex(&HashAlgorithm::Sha256.digest(spki)))),
            ..SignerFacts::default()
        }
    }
}

/// Tells what a dry run lets through, and puts it on record soon: the entry need not wait for that.
fn would_refuse(denied: &Denied, audit: Audit, now: Timestamp) {
    // Whom, the record says: names do not belong into the program's log.
    tracing::warn!(rule = denied.rule, "policy-dry-run: the policy would refuse an entry");
    let event = Event::WouldRefuse {
        message: denied.to_string(),
        rule: denied.rule.clone(),
        who: who(denied),
    };
    tokio::spawn(async move {
        if let Err(error) = audit.record(now, "", event).await {
            tracing::error!(%error, "what a policy would refuse is not on record");
        }
    });
}

fn who(denied: &Denied) -> Option<Who> {
    let (identity, issuer) = denied.signer.clone();
    (!identity.is_empty()).then_some(Who { identity, issuer })
}

/// The digest that a statement is about, of several the one that a certificate is bound to.
fn subject(statement: &Statement, bound: Option<&Intended>) -> String {
    let digests = statement.subjects().iter().flat_map(|subject| &subject.digests);
    let mut digests = digests.map(|(hash, digest)| format!("{hash}:{digest}"));
    let first = digests.next().unwrap_or_default();
    let is_bound = |digest: &String| bound.is_some_and(|bound| bound.digest == *digest);
    std::iter::once(first.clone()).chain(digests).find(is_bound).unwrap_or(first)
}

/// Puts on record what the log's policy refused.
pub(crate) async fn record(audit: &Audit, id: &str, denied: &Denied) {
    let event = Event::Refused {
        reason: if denied.undecided { "POLICY_UNDECIDED" } else { "POLICY_REFUSED" }.to_owned(),
        message: denied.to_string(),
        rule: Some(denied.rule.clone()),
        serial: None,
        who: who(denied),
    };
    if let Err(error) = audit.record(Timestamp::now(), id, event).await {
        tracing::error!(%error, "a refusal is not on record");
    }
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn a_claim_breaks_no_line() {
        assert_eq!(
            one_line("refs/heads/a\nallowed\u{1b}[2J é"),
            "refs/heads/a\\nallowed\\u{1b}[2J é"
        );
    }
}
