//! Policies by the public door: the examples load, each rule of the language holds, and so do its laws.

mod cases;
mod conditions;
mod kept_out;
mod laws;
mod publishing;
mod rules;
mod traps;

use countersign_policy::{
    Artifact, Cases, ClaimFact, Content, Context, Decision, Evidence, Facts, Kind, Point, Policy,
    SignerFacts, Statement, decide,
};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(crate) const EXAMPLES: [(&str, &str); 4] = [
    ("acme-pay", include_str!("../policies/acme-pay.yaml")),
    ("acme-apps", include_str!("../policies/acme-apps.yaml")),
    ("acme-releases", include_str!("../policies/acme-releases.yaml")),
    ("prod-cluster", include_str!("../policies/prod-cluster.yaml")),
];

pub(crate) const GITHUB: &str = "https://token.actions.githubusercontent.com";
pub(crate) const LOGIN: &str = "https://login.acme.example";
pub(crate) const DIGEST: &str =
    "sha256:9f2c000000000000000000000000000000000000000000000000000000000000";
pub(crate) const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
pub(crate) const SBOM: &str = "https://spdx.dev/Document";
pub(crate) const APPROVAL: &str = countersign_policy::APPROVAL;

pub(crate) fn example(name: &str) -> Policy {
    let (_, text) = EXAMPLES.iter().find(|(known, _)| *known == name).unwrap();
    Policy::parse(text).unwrap_or_else(|mistakes| panic!("{name}:\n{mistakes}"))
}

pub(crate) fn now() -> Timestamp {
    "2026-11-26T12:00:00Z".parse().unwrap()
}

pub(crate) fn signer(issuer: &str, claims: &[(&str, &str)]) -> SignerFacts {
    let claims = claims.iter();
    let claims = claims.map(|&(name, text)| (name.to_owned(), ClaimFact::One(text.to_owned())));
    SignerFacts { issuer: issuer.to_owned(), claims: claims.collect(), ..SignerFacts::default() }
}

/// A run of the shared release workflow for acme/pay, of the policy acme-apps.
pub(crate) fn pipeline() -> SignerFacts {
    signer(
        GITHUB,
        &[
            (
                "subject",
                "https://github.com/acme/pipelines/.github/workflows/release.yml@refs/tags/v4",
            ),
            ("repository", "acme/pay"),
            ("repository-name", "pay"),
            ("repository-id", "7714"),
            ("owner-id", "5551234"),
            ("workflow", "acme/pipelines/.github/workflows/release.yml"),
            ("workflow-ref", "refs/tags/v4"),
            ("ref", "refs/tags/v1.2.0"),
            ("environment", "production"),
            ("runner", "github-hosted"),
            ("trigger", "push"),
        ],
    )
}

pub(crate) fn with(mut signer: SignerFacts, claim: &str, text: &str) -> SignerFacts {
    signer.claims.insert(claim.to_owned(), ClaimFact::One(text.to_owned()));
    signer
}

pub(crate) fn evidence(signer: SignerFacts, content: Content) -> Evidence {
    Evidence {
        source: String::new(),
        signer,
        content,
        digest: DIGEST.to_owned(),
        signed_name: None,
        signed: Some("2026-11-26T11:00:00Z".parse().unwrap()),
        timestamped: true,
        logged: true,
        logged_at: None,
        witnesses: 2,
        bundled: true,
    }
}

pub(crate) fn signature(signer: SignerFacts) -> Evidence {
    evidence(signer, Content::Signature)
}

pub(crate) fn attestation(signer: SignerFacts, kind: &str, predicate: Value) -> Evidence {
    let statement = Statement::new(json!({ "predicateType": kind, "predicate": predicate }));
    evidence(signer, Content::Attestation { predicate_type: kind.to_owned(), statement })
}

pub(crate) fn provenance(signer: SignerFacts) -> Evidence {
    let builder = json!({ "id": "https://github.com/actions/runner/github-hosted" });
    attestation(signer, PROVENANCE, json!({ "runDetails": { "builder": builder } }))
}

/// By somebody of whom the CA of acme-apps has said that they are in these roles.
pub(crate) fn approval(email: &str, roles: &[&str]) -> Evidence {
    let mut signer = signer(LOGIN, &[("subject", email), ("email", email)]);
    let roles = roles.iter().map(|role| (*role).to_owned()).collect();
    signer.asserted = Some(example("acme-apps").asserts(roles, None));
    attestation(signer, APPROVAL, json!({}))
}

pub(crate) fn image(name: &str) -> Artifact {
    Artifact {
        kind: Kind::Image,
        name: name.to_owned(),
        digest: DIGEST.to_owned(),
        pinned: true,
        ..Artifact::default()
    }
}

/// acme/pay, released as acme-apps wants it.
pub(crate) fn released() -> Facts {
    let approvals = ["ana@acme.example", "raj@acme.example"];
    let approvals = approvals.map(|email| approval(email, &["release-managers"]));
    let mut evidence = vec![
        signature(pipeline()),
        provenance(pipeline()),
        attestation(pipeline(), SBOM, json!({})),
    ];
    evidence.extend(approvals);
    Facts {
        at: Point::Use,
        now: now(),
        artifact: Some(image("registry.example/acme/apps/pay")),
        context: Context { name: Some("production".to_owned()), ..Context::default() },
        evidence,
        incomplete: None,
    }
}

pub(crate) fn code(decision: &Decision) -> String {
    decision.code().map_or("none".to_owned(), ToString::to_string)
}

/// The policy as `head` with the rest that every policy needs.
pub(crate) fn policy(rest: &str) -> Policy {
    let text = format!("policy: p\nserial: 1\n{rest}");
    Policy::parse(&text).unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"))
}

pub(crate) fn mistakes(rest: &str) -> Vec<String> {
    let text = format!("policy: p\nserial: 1\n{rest}");
    match Policy::parse(&text) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.0.iter().map(ToString::to_string).collect(),
    }
}

#[track_caller]
pub(crate) fn refused(facts: &Facts, policy: &Policy, expected: &str) {
    let decision = decide(facts, policy);
    assert!(!decision.allows(), "expected {expected}\n{}", decision.explain());
    assert_eq!(code(&decision), expected, "{}", decision.explain());
}

#[track_caller]
pub(crate) fn allowed(facts: &Facts, policy: &Policy) {
    let decision = decide(facts, policy);
    assert!(decision.allows(), "{}", decision.explain());
}

/// One role by e-mail, one class, one grant, one demand; `extra` goes behind it.
pub(crate) fn simple(extra: &str) -> String {
    format!(
        "who:
  release: {{issuer: {LOGIN}, email: '*@acme.example'}}
what:
  apps: {{images: registry.example/acme/**}}
may:
  - {{who: release, do: [sign, attest vuln-scan, attest slsa-provenance], to: apps}}
must:
  - name: signed
    every: apps
    needs: [signature: {{by: release}}]
    otherwise: refuse
{extra}"
    )
}

pub(crate) fn ana() -> SignerFacts {
    signer(LOGIN, &[("subject", "ana@acme.example"), ("email", "ana@acme.example")])
}

pub(crate) fn signed(evidence: Vec<Evidence>) -> Facts {
    let artifact = Some(image("registry.example/acme/pay"));
    Facts { artifact, context: Context::default(), evidence, ..released() }
}
