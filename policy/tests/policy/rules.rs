//! The edge cases that the language settles, one test a rule.

use super::*;
use countersign_policy::{Assertion, Intended, Intent};

fn scan(result: &str, time: &str) -> Evidence {
    let mut scan = attestation(
        ana(),
        "https://in-toto.io/attestation/vulns/v0.2",
        json!({ "scanner": { "result": result } }),
    );
    scan.signed = Some(time.parse().unwrap());
    scan
}

#[test]
fn never_wins_over_may() {
    let facts = signed(vec![signature(ana())]);
    allowed(&facts, &policy(&simple("")));
    let never = "never:\n  - {name: no, who: release, do: sign, to: apps}\n";
    refused(&facts, &policy(&simple(never)), "denied-by:no");
}

#[test]
fn all_musts_that_match_apply_and_the_strictest_that_fails_decides() {
    let must = |otherwise: &str| {
        format!(
            "  - name: scanned\n    every: apps\n    needs: [attestation: {{kind: vuln-scan, by: release}}]\n    otherwise: {otherwise}\n"
        )
    };
    let facts = signed(vec![signature(ana())]);
    refused(&facts, &policy(&simple(&must("refuse"))), "predicate-missing");
    let decision = decide(&facts, &policy(&simple(&must("warn"))));
    assert!(decision.allows() && decision.warnings().len() == 1, "{}", decision.explain());
    let decision = decide(&facts, &policy(&simple(&must("record"))));
    assert!(decision.allows() && decision.warnings().is_empty(), "{}", decision.explain());
    let nothing = signed(Vec::new());
    refused(&nothing, &policy(&simple(&must("warn"))), "signature-missing");
}

#[test]
fn what_no_must_covers_is_refused_unless_the_policy_says_otherwise() {
    let mut facts = signed(vec![signature(ana())]);
    facts.artifact = Some(image("registry.example/other"));
    refused(&facts, &policy(&simple("")), "unmatched");
    let decision = decide(&facts, &policy(&simple("unmatched: warn\n")));
    assert!(decision.allows() && decision.warnings().len() == 1);
    assert_eq!(decision.rule(), "unmatched");
    allowed(&facts, &policy(&simple("unmatched: allow\n")));
}

/// A scan that only warns, or a demand for a digest, is nobody's word.
#[test]
fn only_a_demand_for_somebodys_word_covers() {
    for (needs, otherwise, expected) in [
        ("[pinned: {digest: required}]", "refuse", "unmatched"),
        ("[signature: {by: release}]", "warn", "unmatched"),
        (
            "[any-of: [{pinned: {digest: required}}, {signature: {by: release}}]]",
            "refuse",
            "unmatched",
        ),
        ("[all-of: [{pinned: {digest: required}}, {signature: {by: release}}]]", "refuse", "none"),
        ("[signature: {by: release}]", "refuse", "none"),
        ("[signature: {by: anyone}]", "record\n    covers: true", "none"),
    ] {
        let text = simple("").replace("[signature: {by: release}]", needs);
        let text = text.replace("otherwise: refuse", &format!("otherwise: {otherwise}"));
        let decision = decide(&signed(vec![signature(ana())]), &policy(&text));
        assert_eq!(code(&decision), expected, "{needs} {otherwise}\n{}", decision.explain());
    }
}

#[test]
fn two_policies_for_one_class_both_apply_and_an_included_one_keeps_to_its_prefix() {
    let main = || {
        policy(&simple(
            "include:\n  - {policy: q, min-serial: 2, speaks-for: registry.example/acme/**}\n",
        ))
    };
    let other = |serial: u64, email: &str, images: &str| {
        let text =
            simple("").replace("*@acme.example", email).replace("registry.example/acme/**", images);
        Policy::parse(&format!("policy: q\nserial: {serial}\n{text}")).unwrap()
    };
    let facts = signed(vec![signature(ana())]);
    refused(&facts, &main(), "undecided:include q");
    let ours = "registry.example/acme/pay";
    let with = |policy| main().with_included(vec![policy]);
    allowed(&facts, &with(other(2, "ana@acme.example", ours)).unwrap());
    refused(&facts, &with(other(2, "raj@acme.example", ours)).unwrap(), "claim-mismatch:email");
    for (policy, expected) in [
        (other(1, "ana@acme.example", ours), "expected serial 2 or later, found 1"),
        (
            other(2, "ana@acme.example", "registry.example/acme-evil/x"),
            "may speak for registry.example/acme/** only",
        ),
        (other(2, "ana@acme.example", "'**'"), "may speak for registry.example/acme/** only"),
    ] {
        let error = with(policy).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_broken_rule_is_refused_at_load_with_everything_else_that_is_wrong() {
    let found = mistakes(
        "who:
  release: {isuer: x, email: '*@acme.example'}
what:
  apps: {images: acme/pay}
may:
  - {who: relese, do: sing, to: apps}
must:
  - name: signed
    every: apps
    needs: [attestation: {kind: slsa-provenence, by: release, check: ['predicate.x ==']}]
    otherwise: refuse
",
    );
    for expected in [
        "4:13: in role \"release\" the key \"isuer\" is not known; did you mean \"issuer\"?",
        "4:12: role \"release\" names no issuer: anybody's word would do for its claims; add issuer: https://…",
        "6:18: images: \"acme/pay\" names no host; write docker.io/acme/pay, or the registry's host before it",
        "8:11: the role \"relese\" is not known; did you mean \"release\"?",
        "8:23: the action \"sing\" is not known; did you mean \"sign\"?",
        "12:33: the kind of attestation \"slsa-provenence\" is not known; did you mean \"slsa-provenance\"?",
        "12:71: this is not CEL: ",
    ] {
        let told = found.iter().any(|found| found.starts_with(expected));
        assert!(told, "{expected}\n{found:#?}");
    }
    assert_eq!(found.len(), 7, "{found:#?}");
}

#[test]
fn an_empty_list_is_refused() {
    for (from, to) in [
        ("[signature: {by: release}]", "[]"),
        ("{by: release}", "{by: []}"),
        ("who: release", "who: []"),
        ("to: apps", "to: []"),
        ("images: registry.example/acme/**", "images: []"),
        ("issuer: https://login.acme.example", "issuer: []"),
    ] {
        let found = mistakes(&simple("").replace(from, to));
        assert!(found.iter().any(|found| found.contains("found an empty list")), "{to}: {found:?}");
    }
}

#[test]
fn patterns_are_anchored_and_regular_expressions_stand_behind_matches() {
    for (pattern, email, expected) in [
        ("'*@acme.example'", "ana@acme.example", true),
        ("'*@acme.example'", "ana@acme.example.evil.io", false),
        ("{matches: '[a-z]+@acme\\.example'}", "ana@acme.example", true),
        ("{matches: '[a-z]+@acme\\.example'}", "x ana@acme.example", false),
        ("{matches: 'a|ana'}", "ana@acme.example", false),
        ("{not: 'raj@acme.example'}", "ana@acme.example", true),
        ("{not: '*@acme.example'}", "ana@acme.example", false),
        ("[raj@acme.example, ana@acme.example]", "ana@acme.example", true),
    ] {
        let text = simple("").replace("'*@acme.example'", pattern);
        let facts = signed(vec![signature(signer(LOGIN, &[("email", email)]))]);
        assert_eq!(decide(&facts, &policy(&text)).allows(), expected, "{pattern} {email}");
    }
    let (trap, suffix) = ("registry.example/acme**", "** must be a whole segment");
    let found = mistakes(&simple("").replace("registry.example/acme/**", trap));
    assert!(found[0].contains(suffix), "{found:?}");
}

#[test]
fn below_a_name_is_not_the_name_itself() {
    let mut facts = signed(vec![signature(ana())]);
    facts.artifact = Some(image("registry.example/acme"));
    refused(&facts, &policy(&simple("")), "unmatched");
}

#[test]
fn owners_and_repositories_are_compared_without_case_and_refs_with_it() {
    let role = "{issuer: https://ci.example, repository: Acme/*, workflow: acme/pay/.github/workflows/R.yml, ref: refs/tags/V1}";
    let text =
        simple("").replace("{issuer: https://login.acme.example, email: '*@acme.example'}", role);
    let run = |repository: &str, workflow: &str, git_ref: &str| {
        let claims = [("repository", repository), ("workflow", workflow), ("ref", git_ref)];
        signed(vec![signature(signer("https://ci.example", &claims))])
    };
    let policy = policy(&text);
    allowed(&run("ACME/pay", "ACME/Pay/.github/workflows/R.yml", "refs/tags/V1"), &policy);
    for (facts, claim) in [
        (run("acme/pay", "acme/pay/.github/workflows/r.yml", "refs/tags/V1"), "workflow"),
        (run("acme/pay", "acme/pay/.github/workflows/R.yml", "refs/tags/v1"), "ref"),
    ] {
        refused(&facts, &policy, &format!("claim-mismatch:{claim}"));
    }
}

#[test]
fn what_is_not_ascii_matches_nothing() {
    let homograph = signer(LOGIN, &[("email", "аna@acme.example")]);
    refused(&signed(vec![signature(homograph)]), &policy(&simple("")), "claim-mismatch:email");
    let found = mistakes(&simple("").replace("*@acme.example", "*@аcme.example"));
    assert!(found[0].contains("expected printable ASCII"), "{found:?}");
}

/// What cannot be compared may be just what is excluded.
#[test]
fn what_is_not_ascii_is_excluded_and_prohibited_as_if_it_matched() {
    let with_ref = |git_ref: &str| signed(vec![signature(with(ana(), "ref", git_ref))]);
    let role = simple("").replace("email: '*@acme.example'", "not: {ref: refs/heads/dev*}");
    let never = "never: [{name: no, who: anyone, do: sign, when: {ref: refs/heads/dev*}}]\n";
    for (git_ref, excluded) in
        [("refs/heads/main", false), ("refs/heads/dev-x", true), ("refs/heads/dev-é", true)]
    {
        let facts = with_ref(git_ref);
        for (text, expected) in [(&role, "claim-mismatch:ref"), (&simple(never), "denied-by:no")] {
            match excluded {
                true => refused(&facts, &policy(text), expected),
                false => allowed(&facts, &policy(text)),
            }
        }
    }
}

#[test]
fn port_443_is_no_port_in_names_and_patterns() {
    let mut facts = signed(Vec::new());
    let text = simple("unmatched: allow\n");
    for images in ["registry.example/acme/**", "Registry.Example:443/acme/**"] {
        for name in ["registry.example/acme/pay", "registry.example:443/acme/pay"] {
            let name = countersign_policy::image_name(name).unwrap().repository;
            facts.artifact = Some(image(&name));
            let text = text.replace("registry.example/acme/**", images);
            refused(&facts, &policy(&text), "signature-missing");
        }
    }
}

#[test]
fn a_digest_alone_is_of_no_class_that_is_chosen_by_name() {
    let mut facts = signed(vec![signature(ana())]);
    facts.artifact.as_mut().unwrap().name = String::new();
    refused(&facts, &policy(&simple("")), "unmatched");
    let by_digest = simple("")
        .replace("{images: registry.example/acme/**}", &format!("{{digests: '{DIGEST}'}}"));
    allowed(&facts, &policy(&by_digest));
}

#[test]
fn a_tag_is_a_promise_of_the_signer_and_never_the_registrys() {
    let tagged = "who:
  release: {issuer: https://login.acme.example, email: '*@acme.example'}
what:
  apps: {images: registry.example/acme/**}
  releases: {images: 'registry.example/acme/pay:v*'}
may:
  - {who: release, do: sign, to: releases}
must:
  - {name: signed, every: apps, needs: [signature: {by: release}], otherwise: refuse}
";
    let named = |name: Option<&str>| {
        let signed_name = name.map(str::to_owned);
        let mut facts = signed(vec![Evidence { signed_name, ..signature(ana()) }]);
        // What the registry calls it now is of no weight.
        facts.artifact.as_mut().unwrap().version = Some("v1".to_owned());
        facts
    };
    let policy = policy(tagged);
    allowed(&named(Some("registry.example/acme/pay:v1.2")), &policy);
    for name in [
        None,
        Some("registry.example/acme/pay"),
        Some("registry.example/acme/pay:latest"),
        Some("registry.example/acme/other:v1"),
    ] {
        refused(&named(name), &policy, "not-granted");
    }
    let found = mistakes(&tagged.replace("every: apps", "every: releases"));
    assert!(found[0].contains("says nothing about what was signed"), "{found:?}");
}

/// They carry the identity of the repository that the code was proposed to.
#[test]
fn triggers_that_may_run_foreign_code_must_be_named() {
    let role = |trigger: &str| {
        let role = format!("{{issuer: https://ci.example, repository: acme/pay{trigger}}}");
        policy(
            &simple("")
                .replace("{issuer: https://login.acme.example, email: '*@acme.example'}", &role),
        )
    };
    let run = |trigger: &str| {
        let claims = [("repository", "acme/pay"), ("trigger", trigger)];
        signed(vec![signature(signer("https://ci.example", &claims))])
    };
    allowed(&run("push"), &role(""));
    for trigger in countersign_policy::FOREIGN_TRIGGERS {
        refused(&run(trigger), &role(""), "claim-mismatch:trigger");
        refused(&run(trigger), &role(", trigger: '*'"), "claim-mismatch:trigger");
        allowed(&run(trigger), &role(&format!(", trigger: {trigger}")));
    }
}

#[test]
fn a_self_hosted_runner_must_be_named_and_an_absent_claim_matches_nothing() {
    let role = |runner: &str| {
        let role = format!("{{issuer: https://ci.example, repository: acme/pay{runner}}}");
        policy(
            &simple("")
                .replace("{issuer: https://login.acme.example, email: '*@acme.example'}", &role),
        )
    };
    let run = |claims: &[(&str, &str)]| {
        let mut all = vec![("repository", "acme/pay")];
        all.extend(claims);
        signed(vec![signature(signer("https://ci.example", &all))])
    };
    refused(&run(&[("runner", "self-hosted")]), &role(""), "claim-mismatch:runner");
    allowed(&run(&[("runner", "self-hosted")]), &role(", runner: self-hosted"));
    refused(&run(&[]), &role(", runner: {not: self-hosted}"), "claim-mismatch:runner");
    refused(&run(&[]), &role(", environment: production"), "claim-mismatch:environment");
}

#[test]
fn a_workflow_without_the_repository_it_runs_for_is_refused() {
    let role = "{issuer: https://ci.example, workflow: acme/pipelines/.github/workflows/r.yml}";
    let found = mistakes(
        &simple("").replace("{issuer: https://login.acme.example, email: '*@acme.example'}", role),
    );
    assert!(found[0].contains("anybody may call a reusable workflow"), "{found:?}");
}

#[test]
fn a_number_and_a_name_must_both_match() {
    let role = "{issuer: https://ci.example, repository: acme/pay, repository-id: 7714}";
    let policy = policy(
        &simple("").replace("{issuer: https://login.acme.example, email: '*@acme.example'}", role),
    );
    let run = |name: &str, id: &str| {
        signed(vec![signature(signer(
            "https://ci.example",
            &[("repository", name), ("repository-id", id)],
        ))])
    };
    allowed(&run("acme/pay", "7714"), &policy);
    refused(&run("acme/pay", "99"), &policy, "claim-mismatch:repository-id");
    refused(&run("acme/new-name", "7714"), &policy, "claim-mismatch:repository");
}

fn approving(people: &str, at_least: usize) -> Policy {
    policy(&format!(
        "{people}who:
  leads: {{issuer: [{LOGIN}, https://other.example], any-of: [{{email: '*'}}, {{email: '*@*'}}, {{username: '*'}}, {{subject: {{matches: '.*'}}}}]}}
  others: {{issuer: {LOGIN}, email: '*@acme.example'}}
what:
  apps: {{images: registry.example/acme/**}}
may:
  - {{who: [leads, others], do: approve, to: apps}}
must:
  - {{name: approved, every: apps, needs: [approvals: {{by: [leads, others], at-least: {at_least}}}], otherwise: refuse}}
"
    ))
}

#[test]
fn approvals_count_people_and_each_once_whatever_the_issuer_or_role() {
    let by = |issuer: &str, email: &str| {
        attestation(signer(issuer, &[("subject", email), ("email", email)]), APPROVAL, json!({}))
    };
    let service =
        attestation(signer(LOGIN, &[("subject", "spiffe://acme/bot")]), APPROVAL, json!({}));
    let ana = by(LOGIN, "ana@acme.example");
    let people = "people: {ana: [ana@acme.example, ana@home.example]}\n";
    for (evidence, people, expected) in [
        (vec![ana.clone(), by(LOGIN, "raj@acme.example")], "", true),
        (vec![ana.clone(), ana.clone()], "", false),
        (vec![ana.clone(), by("https://other.example", "ANA@acme.example")], "", false),
        (vec![ana.clone(), by("https://other.example", "ana@home.example")], "", true),
        (vec![ana.clone(), by("https://other.example", "ana@home.example")], people, false),
        (vec![ana.clone(), service], "", false),
    ] {
        let facts = signed(evidence);
        let decision = decide(&facts, &approving(people, 2));
        assert_eq!(decision.allows(), expected, "{}", decision.explain());
        if !expected {
            assert_eq!(code(&decision), "k-of-n-short");
        }
    }
}

/// Whoever may push to a registry could otherwise block a deployment.
#[test]
fn a_bad_signature_beside_a_good_one_changes_nothing() {
    let stranger = signature(signer("https://evil.example", &[("email", "eve@evil.example")]));
    let mut broken = signature(ana());
    broken.logged = false;
    let facts = signed(vec![stranger, broken, signature(ana())]);
    allowed(&facts, &policy(&simple("")));
}

#[test]
fn what_was_not_looked_at_leaves_it_undecided_and_what_is_there_decides() {
    let mut facts = signed(Vec::new());
    facts.incomplete = Some("network".to_owned());
    refused(&facts, &policy(&simple("")), "undecided:network");
    assert_eq!(
        decide(&facts, &policy(&simple(""))).outcome(),
        countersign_policy::Outcome::Undecided
    );
    facts.evidence.push(signature(ana()));
    allowed(&facts, &policy(&simple("")));
}

#[test]
fn a_signature_of_the_index_is_none_of_a_platform_unless_each_is_demanded() {
    let platform = DIGEST.replace("9f2c", "aaaa");
    let mut facts = signed(vec![signature(ana())]);
    facts.artifact.as_mut().unwrap().platforms = vec![platform.clone()];
    allowed(&facts, &policy(&simple("")));
    let each =
        policy(&simple("").replace("    otherwise", "    each-platform: true\n    otherwise"));
    refused(&facts, &each, "signature-missing");
    facts.evidence.push(Evidence { digest: platform, ..signature(ana()) });
    allowed(&facts, &each);
}

#[test]
fn of_scans_the_newest_counts_and_a_prohibition_does_not_make_an_older_one_the_newest() {
    let scanned = |extra: &str, all: &str| {
        policy(&simple(&format!(
            "  - name: scanned
    every: apps
    needs: [attestation: {{kind: vuln-scan, by: release{all}, check: [{{that: \"predicate.scanner.result == 'good'\", else: findings}}]}}]
    otherwise: refuse
{extra}"
        )))
    };
    let facts = |first: &str, second: &str| {
        let scans = [scan(first, "2026-11-20T00:00:00Z"), scan(second, "2026-11-25T00:00:00Z")];
        signed([vec![signature(ana())], scans.to_vec()].concat())
    };
    allowed(&facts("bad", "good"), &scanned("", ""));
    // One too large to be looked into is there, and what it says is not known.
    let mut large = facts("good", "good");
    for evidence in &mut large.evidence {
        if let Content::Attestation { statement, .. } = &mut evidence.content {
            *statement = Statement::default();
        }
    }
    refused(&large, &scanned("", ""), "undecided:predicate");
    // What could not be read may be newer, or bad.
    let incomplete = Some("network".to_owned());
    let unread = Facts { incomplete, ..facts("good", "good") };
    refused(&unread, &scanned("", ""), "undecided:network");
    refused(&unread, &scanned("", ", all-must-pass: true"), "undecided:network");
    refused(&facts("good", "bad"), &scanned("", ""), "check-failed");
    refused(&facts("bad", "good"), &scanned("", ", all-must-pass: true"), "check-failed");
    let never = "never:
  - {name: no bad scans, who: anyone, do: attest vuln-scan, when: [{that: \"predicate.scanner.result == 'bad'\"}]}
";
    refused(&facts("good", "bad"), &scanned(never, ""), "denied-by:no bad scans");
    allowed(&facts("bad", "good"), &scanned(never, ""));
}

#[test]
fn without_a_trusted_time_age_is_undecided_and_clocks_may_differ_by_a_minute() {
    let fresh = policy(&simple("").replace("{by: release}", "{by: release, younger-than: 7d}"));
    let at = |time: Option<&str>| {
        let signed_at = time.map(|time| time.parse().unwrap());
        signed(vec![Evidence { signed: signed_at, ..signature(ana()) }])
    };
    allowed(&at(Some("2026-11-26T11:00:00Z")), &fresh);
    allowed(&at(Some("2026-11-26T12:00:59Z")), &fresh);
    refused(&at(Some("2026-11-26T12:01:01Z")), &fresh, "undecided:clock");
    refused(&at(Some("2026-11-19T12:00:00Z")), &fresh, "too-old");
    refused(&at(None), &fresh, "undecided:time");
}

#[test]
fn an_expired_policy_warns_for_a_week_and_stops_the_authority_at_once() {
    let expiring = policy(&format!("expires: 2026-11-20\n{}", simple("")));
    let mut facts = signed(vec![signature(ana())]);
    let decision = decide(&facts, &expiring);
    assert!(decision.allows() && decision.warnings()[0].contains("expired"), "{decision:?}");
    facts.now = "2026-11-27T00:00:00Z".parse().unwrap();
    refused(&facts, &expiring, "policy-expired");
    facts.now = "2026-11-20T00:00:00Z".parse().unwrap();
    facts.at = Point::Issuance;
    refused(&facts, &expiring, "policy-expired");
    facts.now = "2026-11-19T23:59:59Z".parse().unwrap();
    allowed(&facts, &expiring);
}

#[test]
fn a_retired_role_keeps_its_past_and_a_prohibition_with_dates_kills_it() {
    let retired = simple("")
        .replace("email: '*@acme.example'", "email: '*@acme.example', retired: 2026-09-30");
    let at = |time: &str| {
        signed(vec![Evidence { signed: Some(time.parse().unwrap()), ..signature(ana()) }])
    };
    allowed(&at("2026-09-29T23:59:59Z"), &policy(&retired));
    refused(&at("2026-09-30T00:00:00Z"), &policy(&retired), "role-retired");
    let never = "never:
  - {name: stolen, who: release, do: sign, when: [{that: \"time.signed > timestamp('2026-09-01T00:00:00Z')\"}]}
";
    refused(&at("2026-09-29T23:59:59Z"), &policy(&format!("{retired}{never}")), "denied-by:stolen");
    allowed(&at("2026-08-29T23:59:59Z"), &policy(&format!("{retired}{never}")));
}

#[test]
fn an_exception_is_for_one_artifact_dated_and_approved_by_owners() {
    let exception = |digest: &str, until: &str| {
        policy(&format!(
            "owners: {{roles: [release], at-least: 1}}\n{}",
            simple(&format!(
                "exceptions:\n  - {{digest: '{digest}', skips: [signed], until: {until}, because: incident, approved-by: release}}\n"
            ))
        ))
    };
    let facts = signed(Vec::new());
    let decision = decide(&facts, &exception(DIGEST, "2026-12-15"));
    assert!(decision.allows(), "{}", decision.explain());
    assert!(decision.to_json()["because"][0]["code"] == "exception-used", "{}", decision.to_json());
    let other = DIGEST.replace("9f2c", "9f2d");
    for (digest, until) in
        [(other.as_str(), "2026-12-15"), (DIGEST, "2026-11-26"), (DIGEST, "2027-12-15")]
    {
        refused(&facts, &exception(digest, until), "signature-missing");
    }
    let found = mistakes(&simple(&format!(
        "exceptions:\n  - {{digest: '{DIGEST}', skips: [singed], until: 2026-12-15, because: x, approved-by: release}}\n"
    )));
    assert!(found[0].contains("did you mean \"signed\"?"), "{found:?}");
    assert!(found[1].contains("among the owners the role \"release\" is not known"), "{found:?}");
}

#[test]
fn contexts_choose_rules_and_what_is_not_known_of_a_place_counts_as_being_there() {
    let sites = format!(
        "where:\n  production: {{clusters: 'prod-*', namespaces: {{not: [sandbox]}}}}\n{}",
        simple("").replace("    every: apps", "    every: apps\n    in: production")
    );
    let site = |cluster: Option<&str>, namespace: Option<&str>| {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let context =
            Context { cluster: owned(cluster), namespace: owned(namespace), ..Context::default() };
        Facts { context, ..signed(Vec::new()) }
    };
    let policy = policy(&sites);
    for (facts, expected) in [
        (site(Some("prod-eu"), Some("shop")), "signature-missing"),
        (site(Some("prod-eu"), None), "signature-missing"),
        (site(None, Some("shop")), "signature-missing"),
        (site(Some("prod-eu"), Some("sandbox")), "unmatched"),
        (site(Some("test"), Some("shop")), "unmatched"),
        (site(None, None), "signature-missing"),
    ] {
        refused(&facts, &policy, expected);
    }
}

#[test]
fn a_level_is_the_builders_and_never_the_documents() {
    let policy = |level: u8, builders: &str| {
        policy(&format!(
            "{builders}who:
  ci: {{issuer: {GITHUB}, owner-id: 5551234, trigger: push, runner: [github-hosted, self-hosted]}}
what:
  apps: {{images: registry.example/acme/**}}
may:
  - {{who: ci, do: attest slsa-provenance, to: apps}}
must:
  - {{name: built, every: apps, needs: [attestation: {{kind: slsa-provenance, by: ci, min-level: {level}}}], otherwise: refuse}}
"
        ))
    };
    let own = "acme/pay/.github/workflows/release.yml";
    let builder = "https://builders.example/ours";
    let other = |signer| {
        attestation(
            signer,
            PROVENANCE,
            json!({ "runDetails": { "builder": { "id": builder, "level": 4 } } }),
        )
    };
    let named = format!("builders: [{{id: '{builder}', by: ci, level: 3}}]\n");
    for (evidence, level, builders, expected) in [
        (provenance(pipeline()), 3, "", true),
        (provenance(pipeline()), 4, "", false),
        (provenance(with(pipeline(), "workflow", own)), 2, "", true),
        (provenance(with(pipeline(), "workflow", own)), 3, "", false),
        (
            provenance(with(pipeline(), "workflow", &own.replace("acme/pay", "Acme/Pay"))),
            3,
            "",
            false,
        ),
        (provenance(with(pipeline(), "workflow", &own.replace("/pay", "/pay-ci"))), 3, "", true),
        (provenance(with(pipeline(), "runner", "self-hosted")), 2, "", false),
        (other(pipeline()), 2, "", false),
        (other(pipeline()), 3, named.as_str(), true),
    ] {
        let decision = decide(&signed(vec![evidence]), &policy(level, builders));
        assert_eq!(decision.allows(), expected, "level {level}\n{}", decision.explain());
        if !expected {
            assert_eq!(code(&decision), "level-short");
        }
    }
}

#[test]
fn at_least_so_many_of_several_needs() {
    let text = simple("").replace(
        "[signature: {by: release}]",
        "[at-least: {count: 2, of: [{signature: {by: release}}, {pinned: {digest: required}}, {attestation: {kind: vuln-scan, by: release}}]}]",
    );
    let mut facts = signed(vec![signature(ana())]);
    allowed(&facts, &policy(&text));
    facts.artifact.as_mut().unwrap().pinned = false;
    assert!(!decide(&facts, &policy(&text)).allows());
    let found = mistakes(&text.replace("count: 2", "count: 4"));
    assert!(found[0].contains("4 of 3 can never be met"), "{found:?}");
}

#[test]
fn by_anyone_is_for_rules_that_do_not_refuse() {
    let found = mistakes(&simple("").replace("by: release", "by: anyone"));
    assert!(found[0].contains("by anyone lets everybody in"), "{found:?}");
    let found = mistakes(&simple("").replace("who: release", "who: anyone"));
    assert!(found[0].contains("a grant to anyone is no rule"), "{found:?}");
}

#[test]
fn a_group_is_believed_to_our_ca_alone_and_for_this_policy() {
    let role = "{issuer: https://login.acme.example, groups: leads}";
    let policy = policy(
        &simple("").replace("{issuer: https://login.acme.example, email: '*@acme.example'}", role),
    );
    let asserted = |policy: &str, role: &str, trust: Option<&str>| {
        let (policy, roles) = (policy.to_owned(), vec![role.to_owned()]);
        let asserted = Assertion { policy, roles, serial: 1, ..Assertion::default() };
        let trust = trust.map(str::to_owned);
        signed(vec![signature(SignerFacts { asserted: Some(asserted), trust, ..ana() })])
    };
    let decision = decide(&asserted("p", "release", None), &policy);
    assert!(decision.allows());
    assert!(decision.explain().contains("groups as asserted by the CA at signing time"));
    refused(&asserted("q", "release", None), &policy, "claim-mismatch:groups");
    refused(&asserted("p", "other", None), &policy, "claim-mismatch:groups");
    refused(&asserted("p", "release", Some("x")), &policy, "no-role");
}

#[test]
fn a_signature_counts_for_what_its_certificate_was_asked_for_and_nothing_else() {
    let policy = policy(&simple(""));
    let bound = |intent: Intent| Assertion { intent: Some(intent), ..Assertion::default() };
    let artifact = |digest: &str| {
        let (kind, name) = ("image".to_owned(), "registry.example/acme/pay:v1".to_owned());
        Some(Intended { digest: digest.to_owned(), kind, name })
    };
    let sign = |digest: &str| Intent {
        action: "sign".to_owned(),
        artifact: artifact(digest),
        predicate_type: None,
    };
    let attest = |uri: &str| Intent {
        action: "attest".to_owned(),
        artifact: artifact(DIGEST),
        predicate_type: Some(uri.to_owned()),
    };
    let by = |asserted: Assertion, trust: Option<&str>| SignerFacts {
        asserted: Some(asserted),
        trust: trust.map(str::to_owned),
        ..ana()
    };
    let other = DIGEST.replace("9f2c", "9f2d");
    allowed(&signed(vec![signature(by(bound(sign(DIGEST)), None))]), &policy);
    let any = Intent { artifact: None, ..sign(DIGEST) };
    allowed(&signed(vec![signature(by(bound(any), None))]), &policy);
    for intent in [sign(&other), attest(SBOM), Intent::default()] {
        let strays = signature(by(bound(intent.clone()), None));
        refused(&signed(vec![strays.clone()]), &policy, "intent-mismatch");
        // It does not count, and it does not block.
        allowed(&signed(vec![strays.clone(), signature(ana())]), &policy);
        let at_log = Facts { at: Point::Log, ..signed(vec![strays]) };
        refused(&at_log, &policy, "intent-mismatch");
    }
    // What somebody else's authority says of its policy means nothing here.
    let decision = decide(&signed(vec![signature(by(bound(sign(&other)), Some("x")))]), &policy);
    assert_eq!(code(&decision), "no-role");
    let attested = attestation(by(bound(attest(SBOM)), None), PROVENANCE, json!({}));
    refused(&Facts { at: Point::Log, ..signed(vec![attested]) }, &policy, "intent-mismatch");
}

#[test]
fn owners_publish_without_a_grant_and_nothing_else() {
    let text = simple("")
        .replace("may:", "owners: {roles: [owner], at-least: 1}\nmay:")
        .replace(
            "who:\n",
            "who:\n  owner: {issuer: https://login.acme.example, email: 'olga@acme.example'}\n",
        )
        .replace("email: '*@acme.example'", "email: 'ana@acme.example'");
    let owned = policy(&text);
    let olga = signer(LOGIN, &[("subject", "olga@acme.example"), ("email", "olga@acme.example")]);
    let ask = |evidence: Evidence| Facts {
        at: Point::Issuance,
        artifact: None,
        ..signed(vec![evidence])
    };
    let publish = || attestation(olga.clone(), countersign_policy::POLICY, json!({}));
    allowed(&ask(publish()), &owned);
    allowed(&ask(evidence(olga.clone(), Content::Unknown)), &owned);
    refused(&ask(signature(olga.clone())), &owned, "not-granted");
    refused(&ask(attestation(ana(), countersign_policy::POLICY, json!({}))), &owned, "not-granted");
    let retired =
        policy(&text.replace("'olga@acme.example'", "'olga@acme.example', retired: 2020-01-01"));
    refused(&ask(publish()), &retired, "role-retired");
    refused(&ask(evidence(olga.clone(), Content::Unknown)), &retired, "role-retired");
}

#[test]
fn a_decision_is_replayed_from_its_recorded_facts() {
    let facts = released();
    let recorded = serde_json::to_string(&facts).unwrap();
    let replayed: Facts = serde_json::from_str(&recorded).unwrap();
    assert_eq!(replayed, facts);
    let policy = example("acme-apps");
    assert_eq!(decide(&replayed, &policy), decide(&facts, &policy));
    assert!(serde_json::from_str::<Facts>(&recorded.replace("\"now\"", "\"then\"")).is_err());
}

#[test]
fn a_demand_that_is_not_in_force_yet_only_warns_and_covers_nothing() {
    let later = policy(&simple("").replace("    otherwise", "    from: 2026-12-01\n    otherwise"));
    let mut facts = signed(Vec::new());
    refused(&facts, &later, "unmatched");
    let decision = decide(&facts, &later);
    assert!(
        decision.warnings()[0].contains("refused from 2026-12-01"),
        "{:?}",
        decision.warnings()
    );
    facts.now = "2026-12-01T00:00:00Z".parse().unwrap();
    refused(&facts, &later, "signature-missing");
}

#[test]
fn quotes_around_a_predicate_type_are_no_part_of_it() {
    let quoted = |kind: &str| simple("").replace("attest vuln-scan", &format!("attest {kind}"));
    let other = attestation(ana(), "https://acme.example/card", json!({}));
    let demand = |text: String| {
        text.replace(
            "[signature: {by: release}]",
            "[attestation: {kind: 'https://acme.example/card', by: release}]",
        )
    };
    for kind in [
        "https://acme.example/card",
        "\"https://acme.example/card\"",
        "'https://acme.example/card'",
    ] {
        allowed(&signed(vec![other.clone()]), &policy(&demand(quoted(kind))));
    }
    let found = mistakes(&quoted("'https://acme.example/card\""));
    assert!(found[0].contains("the kind of attestation"), "{found:?}");
}
