//! Stories over the example policies.

use super::*;

#[test]
fn the_example_policies_load() {
    for (name, _) in EXAMPLES {
        assert_eq!(example(name).name, name);
    }
}

#[test]
fn the_cases_beside_a_policy_pass_and_tell_what_they_would_not_miss() {
    let policy = example("acme-apps");
    let text = include_str!("../policies/acme-apps.test.yaml");
    let cases = Cases::parse(text, &policy, now()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    for case in cases.cases() {
        case.check(&policy).unwrap_or_else(|why| panic!("{}: {why}", case.name));
    }
    let unneeded = cases.unneeded(&policy);
    let named = |rule: &str| unneeded.iter().any(|name| name == rule);
    assert!(named("must \"scans are fresh\"") && named("owner-id of role \"release-pipeline\""));
    assert!(
        !named("ref of role \"release-pipeline\"")
            && !named("never \"nothing from pull requests\"")
    );
    let wrong = text.replace("expect: pass", "expect: refuse");
    let cases = Cases::parse(&wrong, &policy, now()).unwrap();
    let miss = cases.cases()[0].check(&policy).unwrap_err();
    assert_eq!((&*miss.expected, &*miss.got), ("refuse", "pass"));
    assert!(miss.why.starts_with("allowed by acme-apps serial 12\n"), "{miss}");
    let other = text.replace("{refuse: \"claim-mismatch:ref\"}", "{refuse: no-role}");
    let cases = Cases::parse(&other, &policy, now()).unwrap();
    let misses: Vec<_> =
        cases.cases().iter().filter_map(|case| case.check(&policy).err()).collect();
    assert!(misses[0].why.contains("\n      signature 1 ..."), "{}", misses[0]);
    let misses = misses.into_iter();
    let told: Vec<_> = misses.map(|miss| (miss.expected, miss.got)).collect();
    assert_eq!(told, [("refuse: no-role".to_owned(), "refuse: claim-mismatch:ref".to_owned())]);
    for (code, expected) in [
        ("claim-mismatch:reff", "did you mean \"ref\"?"),
        ("not-grantd", "did you mean \"not-granted\"?"),
        ("denied-by:nobody", "the prohibition \"nobody\" is not known"),
    ] {
        let unknown = text.replace("claim-mismatch:ref\"", &format!("{code}\""));
        let mistakes = Cases::parse(&unknown, &policy, now()).unwrap_err().to_string();
        assert!(mistakes.contains(expected), "{mistakes}");
    }
}

/// Written by the guide alone, for a need that none of the examples has.
#[test]
fn a_policy_written_by_the_guide_loads_without_a_lint_and_its_cases_pass() {
    let text = include_str!("../policies/acme-npm.yaml");
    let policy = Policy::parse(text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(policy.lints(now()), []);
    let text = include_str!("../policies/acme-npm.test.yaml");
    let cases = Cases::parse(text, &policy, now()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(cases.cases().len(), 4);
    for case in cases.cases() {
        case.check(&policy).unwrap_or_else(|why| panic!("{}: {why}", case.name));
    }
}

/// Whoever reads the guide begins with it.
#[test]
fn the_first_policy_of_the_guide_loads_and_its_cases_pass() {
    let guide = include_str!("../../../docs/policy.md");
    let blocks: Vec<&str> =
        guide.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let policy = Policy::parse(blocks[0]).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let cases = blocks.iter().find(|block| block.starts_with("tests-for:")).unwrap();
    let cases = Cases::parse(cases, &policy, now()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(cases.cases().len(), 3);
    for case in cases.cases() {
        case.check(&policy).unwrap_or_else(|why| panic!("{}: {why}", case.name));
    }
}

#[test]
fn a_release_as_the_policy_wants_it_passes_and_names_its_rule() {
    let decision = decide(&released(), &example("acme-apps"));
    assert!(decision.allows(), "{}", decision.explain());
    assert_eq!(decision.rule(), "production images are released");
    // The scan is wanted from 1 December on; before it is not even a warning.
    assert!(decision.warnings().is_empty(), "{:?}", decision.warnings());
}

/// One thing off, one refusal.
#[test]
fn near_misses_of_a_release_are_refused_with_their_reason() {
    let policy = example("acme-apps");
    let all = |change: fn(&mut Evidence)| {
        let mut facts = released();
        facts.evidence.iter_mut().take(3).for_each(change);
        facts
    };
    let claim = |name: &'static str, text: &'static str| {
        let mut facts = released();
        for evidence in facts.evidence.iter_mut().take(3) {
            evidence.signer = with(evidence.signer.clone(), name, text);
        }
        facts
    };
    let without = |place: usize| {
        let mut facts = released();
        facts.evidence.remove(place);
        facts
    };
    for (facts, expected) in [
        (claim("ref", "refs/heads/main"), "claim-mismatch:ref"),
        (claim("environment", "staging"), "claim-mismatch:environment"),
        (claim("owner-id", "666"), "claim-mismatch:owner-id"),
        (claim("runner", "self-hosted"), "claim-mismatch:runner"),
        (claim("workflow-ref", "refs/heads/v4"), "claim-mismatch:workflow-ref"),
        (claim("workflow", "acme/pay/.github/workflows/release.yml"), "claim-mismatch:workflow"),
        (claim("trigger", "pull_request"), "denied-by:nothing from pull requests"),
        (claim("repository-name", "other"), "not-granted"),
        (without(0), "signature-missing"),
        (without(1), "predicate-missing"),
        (without(3), "k-of-n-short"),
        (all(|evidence| evidence.logged = false), "not-logged"),
        (all(|evidence| evidence.witnesses = 1), "witness-short"),
        (all(|evidence| evidence.timestamped = false), "not-timestamped"),
        (all(|evidence| evidence.signer.issuer = "https://evil.example".to_owned()), "no-role"),
        (all(|evidence| evidence.signer.trust = Some("public-good".to_owned())), "no-role"),
        (
            all(|evidence| evidence.digest = evidence.digest.replace("9f2c", "9f2d")),
            "signature-missing",
        ),
    ] {
        refused(&facts, &policy, expected);
    }
}

#[test]
fn one_person_approving_twice_is_one_approval() {
    let mut facts = released();
    facts.evidence[4] = approval("Ana@acme.example", &["release-managers"]);
    refused(&facts, &example("acme-apps"), "k-of-n-short");
}

#[test]
fn the_authority_refuses_the_wrong_run_and_lets_the_right_one_through() {
    let policy = example("acme-apps");
    let ask = |signer: SignerFacts, content: Content, artifact: Option<Artifact>| {
        let evidence = vec![Evidence { digest: String::new(), ..evidence(signer, content) }];
        Facts { at: Point::Issuance, artifact, evidence, ..released() }
    };
    let pay = || Some(image("registry.example/acme/apps/pay"));
    for (facts, expected) in [
        (ask(pipeline(), Content::Unknown, None), None),
        (ask(pipeline(), Content::Signature, pay()), None),
        (
            ask(pipeline(), Content::Signature, Some(image("registry.example/acme/apps/other"))),
            Some("not-granted"),
        ),
        (
            ask(
                pipeline(),
                Content::Signature,
                Some(image("registry.example/acme/apps/sandbox/pay")),
            ),
            Some("not-granted"),
        ),
        (
            ask(with(pipeline(), "trigger", "pull_request"), Content::Unknown, None),
            Some("denied-by:nothing from pull requests"),
        ),
        (
            ask(with(pipeline(), "trigger", "pull_request"), Content::Signature, pay()),
            Some("denied-by:nothing from pull requests"),
        ),
        (
            ask(with(pipeline(), "ref", "refs/heads/main"), Content::Unknown, None),
            Some("claim-mismatch:ref"),
        ),
        (
            ask(with(pipeline(), "repository", "fork/pay"), Content::Unknown, None),
            Some("claim-mismatch:repository"),
        ),
        (
            ask(signer(LOGIN, &[("email", "ana@acme.example")]), Content::Unknown, None),
            Some("claim-mismatch:groups"),
        ),
    ] {
        match expected {
            None => allowed(&facts, &policy),
            Some(expected) => refused(&facts, &policy, expected),
        }
    }
}

#[test]
fn a_freeze_stops_the_authority_and_not_what_was_signed_before() {
    let policy = example("acme-releases");
    let library = |signed: &str| {
        let mut one = evidence(
            signer(
                GITHUB,
                &[
                    ("repository", "acme/lib-a"),
                    ("owner-id", "5551234"),
                    ("workflow", "acme/lib-a/.github/workflows/publish.yml"),
                    ("workflow-ref", "refs/tags/v2.0.0"),
                    ("environment", "packages"),
                    ("ref", "refs/tags/v2.0.0"),
                ],
            ),
            Content::Signature,
        );
        one.signed = Some(signed.parse().unwrap());
        one
    };
    let at = |time: &str, content| Facts {
        at: Point::Issuance,
        now: time.parse().unwrap(),
        artifact: None,
        evidence: vec![Evidence { content, ..library(time) }],
        ..released()
    };
    allowed(&at("2026-12-21T23:59:59Z", Content::Signature), &policy);
    refused(&at("2026-12-22T00:00:00Z", Content::Signature), &policy, "denied-by:winter freeze");
    // Provenance may still be attested, so without a word about what is wanted something is left.
    allowed(&at("2026-12-22T00:00:00Z", Content::Unknown), &policy);
}

#[test]
fn a_vendor_signs_by_key_and_upstream_by_its_own_root() {
    let policy = example("prod-cluster");
    let vendor = SignerFacts {
        trust: Some("vendor-key".to_owned()),
        key: Some(DIGEST.to_owned()),
        ..SignerFacts::default()
    };
    let mut facts = released();
    facts.context = Context::default();
    facts.artifact = Some(image("registry.example/vendors/db/main"));
    facts.evidence = vec![signature(vendor.clone())];
    allowed(&facts, &policy);
    facts.evidence = vec![signature(SignerFacts { trust: None, ..vendor })];
    refused(&facts, &policy, "no-role");
    facts.artifact = Some(image("registry.example/mirror/mesh/proxy"));
    let mesh = SignerFacts {
        trust: Some("public-good".to_owned()),
        ..signer(
            GITHUB,
            &[
                ("repository", "MeshProject/Mesh"),
                ("owner-id", "990011"),
                ("workflow", "MeshProject/mesh/.github/workflows/release.yml"),
                ("workflow-ref", "refs/tags/v3"),
            ],
        )
    };
    facts.evidence = vec![signature(mesh)];
    allowed(&facts, &policy);
}
