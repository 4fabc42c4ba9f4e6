//! The rule of today: exactly this identity, vouched for by exactly this issuer.

use countersign_policy::{Expected, Match, Pattern, Signers, flags_for};
use countersign_testkit::Instance;
use countersign_verify::{Artifact, TrustedRoot, Verified, verify};

const IDENTITY: &str = "https://git.example.test/acme/widget";
const ISSUER: &str = "https://issuer.example.test";

fn verified() -> Verified {
    let instance = Instance::new();
    let root = TrustedRoot::parse(instance.trusted_root().as_bytes()).unwrap();
    let bundle = instance.sign(&instance.certify(IDENTITY, ISSUER), b"artifact");
    verify(&bundle, &Artifact::from_bytes(b"artifact"), &root).into_result().unwrap()
}

#[test]
fn only_the_very_identity_and_issuer_are_accepted() {
    let verified = verified();
    assert!(Signers::exactly(IDENTITY, ISSUER).accept(&verified).is_ok());
    let near_misses = [
        ("", "certificate-identity"),
        ("https://git.example.test/acme", "certificate-identity"),
        ("https://git.example.test/acme/widget2", "certificate-identity"),
        ("https://git.example.test/acme/Widget", "certificate-identity"),
        ("https://git.example.test/acme/.*", "certificate-identity"),
    ];
    for (identity, rule) in near_misses {
        let refusal = Signers::exactly(identity, ISSUER).accept(&verified).unwrap_err();
        let found = (refusal.rule, refusal.expected.as_str(), refusal.found.as_str());
        assert_eq!(found, (rule, identity, IDENTITY));
    }
    for issuer in ["", "https://issuer.example.test/", "http://issuer.example.test"] {
        let refusal = Signers::exactly(IDENTITY, issuer).accept(&verified).unwrap_err();
        let found = (refusal.rule, refusal.expected.as_str(), refusal.found.as_str());
        assert_eq!(found, ("certificate-oidc-issuer", issuer, ISSUER));
    }
}

#[test]
fn the_flags_that_would_fit_are_shown() {
    let expected = format!("--certificate-identity {IDENTITY} --certificate-oidc-issuer {ISSUER}");
    assert_eq!(flags_for(verified().identity().unwrap()), expected);
}

/// GitHub's releases name no issuer.
#[test]
fn a_certificate_without_an_issuer_is_accepted_by_a_pattern_that_allows_nothing() {
    let instance = Instance::new();
    let root = TrustedRoot::parse(instance.trusted_root().as_bytes()).unwrap();
    let bundle = instance.sign(&instance.certify(IDENTITY, ""), b"artifact");
    let verified =
        verify(&bundle, &Artifact::from_bytes(b"artifact"), &root).into_result().unwrap();
    let by = |issuer| {
        let identity = Match::Exactly(IDENTITY.to_owned());
        Signers::Identities(vec![Expected::new(identity, issuer)]).accept(&verified).map(drop)
    };
    let pattern = |text| Match::Pattern(Pattern::new(text).unwrap());
    by(pattern(".*")).unwrap();
    for issuer in [
        pattern(".+"),
        pattern("https://.*"),
        Match::Exactly(String::new()),
        Match::Exactly(ISSUER.to_owned()),
        Match::Both(String::new(), Pattern::new(".*").unwrap()),
    ] {
        assert_eq!(by(issuer.clone()).unwrap_err().rule, "certificate-oidc-issuer", "{issuer:?}");
    }
    let flags = flags_for(verified.identity().unwrap());
    assert_eq!(
        flags,
        format!("--certificate-identity {IDENTITY} --certificate-oidc-issuer-regexp '.*'")
    );
}

#[test]
fn an_empty_name_is_nobodys_whatever_the_pattern() {
    let instance = Instance::new();
    let root = TrustedRoot::parse(instance.trusted_root().as_bytes()).unwrap();
    let bundle = instance.sign(&instance.certify("", ISSUER), b"artifact");
    let artifact = Artifact::from_bytes(b"artifact");
    let verified = verify(&bundle, &artifact, &root).into_result().unwrap();
    let anybody = || Match::Pattern(Pattern::new(".*").unwrap());
    let signers = Signers::Identities(vec![Expected::new(anybody(), anybody())]);
    assert_eq!(signers.accept(&verified).unwrap_err().rule, "certificate-identity");
}
