//! A policy at the authority's gate: the same decision as before use, with what a token says.

use countersign_ca::Clock;
use countersign_ca::identity::{Identity, San};
use countersign_ca::issue::{Gate, Refusal};
use countersign_policy::{
    ClaimFact, Content, Context, Decision, Evidence, Facts, Point, Policy, SignerFacts, decide,
};
use countersign_verify::certificate::Subject;
use std::sync::Arc;

/// Lets everybody through: a development instance certifies whomever its provider names.
pub(crate) fn open() -> Gate {
    Arc::new(|_| Ok(()))
}

/// Lets those through who may sign something by `policy`. What they will sign is not said here: that is
/// decided again by whoever uses it.
pub(crate) fn at_issuance(policy: Policy, clock: Clock) -> Gate {
    Arc::new(move |identity| {
        let now = clock();
        let evidence = vec![Evidence::asked(signer(identity), Content::Unknown, now)];
        let facts = Facts {
            at: Point::Issuance,
            now,
            artifact: None,
            context: Context::default(),
            evidence,
            incomplete: None,
        };
        let decision = decide(&facts, &policy);
        if decision.allows() { Ok(()) } else { Err(refusal(&decision)) }
    })
}

/// The authority sees the token, so the groups that no certificate carries are known here.
fn signer(identity: &Identity) -> SignerFacts {
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
