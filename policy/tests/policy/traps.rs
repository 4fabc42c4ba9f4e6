//! What somebody who writes a policy by the guide alone, or who means to cheat, could get through with.

use super::*;
use countersign_policy::{Intended, Intent};

/// Web and payments, each signed by its own people; `extra` goes behind it.
fn shop(extra: &str) -> String {
    format!(
        "who:
  web: {{issuer: {LOGIN}, email: ana@acme.example}}
  pay: {{issuer: {LOGIN}, email: [ana@acme.example, raj@acme.example]}}
what:
  site: {{images: registry.example/web/**, also-at: mirror.example/web/**}}
  payments: {{images: registry.example/payments/**}}
may:
  - {{who: web, do: sign, to: site}}
  - {{who: pay, do: [sign, approve, attest vuln-scan], to: payments}}
must:
  - {{name: site, every: site, needs: [signature: {{by: web}}], otherwise: refuse}}
  - {{name: payments, every: payments, needs: [signature: {{by: pay}}], otherwise: refuse}}
{extra}"
    )
}

fn by(email: &str) -> SignerFacts {
    signer(LOGIN, &[("subject", email), ("email", email)])
}

/// Signed by somebody who told the authority that it is for `name`.
fn intended(name: &str) -> Evidence {
    let (digest, kind, name) = (DIGEST.to_owned(), "image".to_owned(), name.to_owned());
    let artifact = Some(Intended { digest, kind, name });
    let intent = Intent { action: "sign".to_owned(), artifact, predicate_type: None };
    let asserted = Some(policy(&shop("")).asserts(Vec::new(), Some(intent)));
    signature(SignerFacts { asserted, ..by("ana@acme.example") })
}

fn found(name: &str, evidence: Vec<Evidence>) -> Facts {
    let context = Context::default();
    Facts { artifact: Some(image(name)), context, evidence, ..released() }
}

#[test]
fn what_was_signed_under_a_name_is_that_and_what_mirrors_it_and_nothing_else() {
    let policy = policy(&shop(""));
    for (signed, at, allows) in [
        ("registry.example/payments/site", "registry.example/payments/site", true),
        ("registry.example/payments/site:v1", "registry.example/payments/site", true),
        ("registry.example/web/site", "registry.example/payments/site", false),
        ("registry.example/web/site", "mirror.example/web/site", true),
        ("registry.example/web/site", "mirror.example/web/shop", false),
        ("mirror.example/web/site", "registry.example/web/site", false),
        ("registry.example/web/site", "mirror.example/other/site", false),
        ("", "registry.example/payments/site", true),
    ] {
        let facts = found(at, vec![intended(signed)]);
        if allows {
            allowed(&facts, &policy);
        } else if at.contains("other") {
            refused(&facts, &policy, "unmatched");
        } else {
            refused(&facts, &policy, "intent-mismatch");
            let decision = decide(&facts, &policy);
            assert!(decision.reason().contains(&format!("wanted {signed}, got {at}")));
            assert!(decision.next().unwrap().contains(&format!("--name {signed}")));
        }
    }
}

/// Stars that differ would let `reg/acme/web` pass as any image of the mirror.
#[test]
fn a_mirror_has_the_stars_of_what_it_mirrors() {
    let with = |images: &str, copies: &str| {
        shop("").replace(
            "images: registry.example/web/**, also-at: mirror.example/web/**",
            &format!("images: {images}, also-at: {copies}"),
        )
    };
    for (images, copies, wrong) in [
        ("r.example/web/*", "m.example/web/**", "m.example/web/**"),
        ("r.example/web/**", "m.example/web/*", "m.example/web/*"),
        ("r.example/web/**", "m.example/web/site", "m.example/web/site"),
        ("r.example/web/site", "m.example/web/**", "m.example/web/**"),
        ("r.example/*/web", "m.example/web/*", "m.example/web/*"),
        ("[r.example/web/**, r.example/one]", "[m.example/**, m.example/one/*]", "m.example/one/*"),
    ] {
        let mistakes = mistakes(&with(images, copies));
        let [text] = mistakes.as_slice() else { panic!("{mistakes:?}") };
        assert!(text.contains(&format!("{wrong:?} mirrors nothing")), "{text}");
        assert!(text.contains("write both with the same stars"), "{text}");
    }
    for (images, copies) in [
        ("[r.example/web/**, r.example/pay/**]", "[m.example/web/**, m.example/pay/**]"),
        ("[r.example/one, r.example/two]", "m.example/one"),
    ] {
        let mistakes = mistakes(&with(images, copies)).join("\n");
        assert!(mistakes.contains("mirrors both"), "{mistakes}");
        assert!(mistakes.contains("write a class for each of them"), "{mistakes}");
    }
    let tags = mistakes(&with("['r.example/app:v1*', 'r.example/app:v2*']", "m.example/app"));
    assert!(!tags.join("\n").contains("mirrors"), "one name, whatever its tags: {tags:?}");
    let two = "[r.example/web/**, r.example/one]";
    let policy = policy(&with(two, "[m.example/**, m.example/two]"));
    for (signed, at, allows) in [
        ("r.example/web/site", "m.example/site", true),
        ("r.example/one", "m.example/two", true),
        ("r.example/one", "m.example/one", false),
        ("r.example/web/site", "m.example/two", false),
        ("r.example/web/site", "m.example/shop", false),
    ] {
        let facts = found(at, vec![intended(signed)]);
        if allows {
            allowed(&facts, &policy);
        } else {
            refused(&facts, &policy, "intent-mismatch");
        }
    }
}

#[test]
fn where_no_context_is_given_the_demands_of_all_apply() {
    let text = shop(
        "  - {name: approved, every: payments, in: production, needs: [approvals: {by: pay, at-least: 1}], otherwise: refuse}
where:
  production: {clusters: prod}
  staging: {clusters: staging}
",
    );
    let policy = policy(&text);
    let mut facts =
        found("registry.example/payments/site", vec![signature(by("ana@acme.example"))]);
    refused(&facts, &policy, "k-of-n-short");
    let decision = decide(&facts, &policy);
    assert_eq!(decision.rule(), "must \"approved\" (in production)");
    let next = decision.next().unwrap();
    assert!(next.ends_with("--in production, --in staging"), "{next}");
    facts.context.name = Some("staging".to_owned());
    allowed(&facts, &policy);
    facts.context.name = Some("production".to_owned());
    refused(&facts, &policy, "k-of-n-short");
    assert_eq!(decide(&facts, &policy).next(), None);
}

#[test]
fn patterns_that_match_nothing_are_mistakes() {
    let class = |key: &str, pattern: &str| {
        let found = mistakes(&format!("what:\n  x: {{{key}: {pattern:?}}}\n"));
        found.first().cloned().unwrap_or_default()
    };
    for (pattern, expected) in [
        ("https://registry.example/acme/**", "does not begin with a registry's host"),
        (" registry.example/acme/**", "does not begin with a registry's host"),
        ("registry.example/acme/bad?", "repositories have a-z"),
        ("registry.example/acme/[ab]", "repositories have a-z"),
        ("registry.example/a/../b", "a segment is empty, . or .."),
        ("registry.example//b", "a segment is empty, . or .."),
        ("registry.example/b/", "a segment is empty, . or .."),
        ("registry.example/Acme/pay", "write registry.example/acme/pay"),
        ("registry.example:5000/acme/*", ""),
        ("Registry.Example/acme/**/x-*", ""),
        ("**", ""),
        ("registry.example/acme/pay:v*", ""),
    ] {
        let found = class("images", pattern);
        assert!(found.contains(expected) && found.is_empty() == expected.is_empty(), "{found}");
    }
    for (key, pattern, wrong) in [
        ("blobs", "my-tool-* ", true),
        ("blobs", "a/../b", true),
        ("packages", "npm//x", true),
        ("blobs", "dist/my tool*", false),
        ("git", "https://git.example/acme/pay", false),
    ] {
        assert_eq!(class(key, pattern).is_empty(), !wrong, "{key} {pattern}");
    }
}

#[test]
fn a_digest_that_is_never_to_be_used_is_refused_whoever_signs_and_whatever_is_excepted() {
    let never = |rest: &str| format!("never: [{{name: broken, digest: \"{DIGEST}\"{rest}}}]\n");
    let exception = format!(
        "owners: {{roles: [pay], at-least: 1}}
exceptions: [{{digest: \"{DIGEST}\", skips: [payments], until: 2026-12-15, because: incident, approved-by: pay}}]\n"
    );
    let name = "registry.example/payments/site";
    let facts = found(name, vec![signature(by("ana@acme.example"))]);
    refused(&facts, &policy(&shop(&never(""))), "denied-by:broken");
    refused(&facts, &policy(&shop(&(never("") + &exception))), "denied-by:broken");
    let named = never(", who: anyone, do: sign");
    refused(&facts, &policy(&shop(&(named.clone() + &exception))), "denied-by:broken");
    let decision = decide(&facts, &policy(&shop(&(named + &exception))));
    assert!(decision.next().unwrap().contains("never \"broken\" is about this digest"));
    // Even what no rule is about.
    let other = found("registry.example/other", Vec::new());
    let open = "unmatched: allow\n";
    allowed(&other, &policy(&shop(open)));
    refused(&other, &policy(&shop(&(never("") + open))), "denied-by:broken");
    let asked = Facts { at: Point::Issuance, ..facts };
    refused(&asked, &policy(&shop(&never(""))), "denied-by:broken");
    assert!(mistakes("never: [{name: x, digest: \"sha256:aa\", who: anyone}]\n").len() > 1);
}

#[test]
fn an_exception_reads_as_one_and_one_that_does_not_count_is_told() {
    let text = |until: &str| {
        shop(&format!(
            "owners: {{roles: [pay], at-least: 1}}
exceptions: [{{digest: \"{DIGEST}\", skips: [payments], until: {until}, because: incident 431, approved-by: pay}}]\n"
        ))
    };
    let facts = found("registry.example/payments/site", Vec::new());
    let decision = decide(&facts, &policy(&text("2026-12-15")));
    let told = "EXCEPTION until 2026-12-15T00:00:00Z: incident 431 (must \"payments\" was skipped)";
    assert!(decision.allows());
    assert_eq!((decision.rule(), decision.warnings()), (told, &[told.to_owned()][..]));
    for (until, expected) in [("2026-11-20", "it has ended"), ("2027-11-20", "more than 90 days")] {
        let policy = policy(&text(until));
        refused(&facts, &policy, "signature-missing");
        let decision = decide(&facts, &policy);
        assert!(decision.next().unwrap().contains(expected), "{:?}", decision.next());
        assert!(policy.lints(now()).iter().any(|lint| lint.message.contains(expected)));
    }
}

/// Released, or let in by two people.
fn break_glass(extra: &str) -> Policy {
    let any = "[any-of: [{all-of: [{signature: {by: pay}}, {attestation: {kind: vuln-scan, by: pay}}]}, {approvals: {by: pay, at-least: 2}}]]";
    policy(&shop(extra).replace("[signature: {by: pay}]", any))
}

#[test]
fn of_alternatives_the_one_that_held_is_named_and_else_the_nearest_is_to_blame() {
    let approval = |email: &str| attestation(by(email), APPROVAL, json!({}));
    let scan = || {
        let kind = "https://in-toto.io/attestation/vulns/v0.2";
        attestation(by("raj@acme.example"), kind, json!({}))
    };
    let name = "registry.example/payments/site";
    let at = |evidence: Vec<Evidence>| decide(&found(name, evidence), &break_glass(""));
    let (ana, raj) = (|| approval("ana@acme.example"), || approval("raj@acme.example"));
    for (evidence, expected) in [
        (vec![ana(), raj()], "payments, by 2 approvals by pay"),
        (
            vec![signature(by("ana@acme.example")), scan()],
            "payments, by signature by pay and vuln-scan by pay",
        ),
    ] {
        let decision = at(evidence);
        assert!(decision.allows(), "{}", decision.explain());
        assert_eq!(decision.rule(), expected);
    }
    assert!(at(vec![ana()]).reason().ends_with("people who approve: 1 of 2 needed"));
    for (evidence, expected) in [
        (vec![signature(by("ana@acme.example"))], "predicate-missing"),
        (vec![ana()], "k-of-n-short"),
        (vec![signature(by("eve@acme.example"))], "claim-mismatch:email"),
    ] {
        let decision = at(evidence);
        assert_eq!(code(&decision), expected, "{}", decision.explain());
    }
}

#[test]
fn two_that_are_the_same_are_not_two() {
    let need = |needs: &str| mistakes(&shop("").replace("[signature: {by: pay}]", needs));
    let twice = "[at-least: {count: 2, of: [{signature: {by: pay}}, {signature: {by: pay}}, {pinned: {digest: required}}]}]";
    assert!(need(twice)[0].contains("for two people use approvals"), "{:?}", need(twice));
    let two = "[at-least: {count: 2, of: [{signature: {by: pay}}, {signature: {by: web}}]}]";
    assert!(need(two).is_empty());
}

#[test]
fn what_could_not_be_evaluated_is_no_fact() {
    let check = "[attestation: {kind: vuln-scan, by: pay, check: [{that: predicate.none == 1, else: a critical finding is open}]}]";
    let policy = policy(&shop("").replace("[signature: {by: pay}]", check));
    let kind = "https://in-toto.io/attestation/vulns/v0.2";
    let scan = attestation(by("ana@acme.example"), kind, json!({}));
    let decision = decide(&found("registry.example/payments/site", vec![scan]), &policy);
    let why = decision.reason();
    assert!(why.contains("could not be evaluated: No such key: none"), "{why}");
    assert!(!why.contains("critical"), "{why}");
}

#[test]
fn numbers_are_integers_and_what_is_known_is_told() {
    for serial in ["\"1\"", "010", "0"] {
        let text = format!("policy: p\nserial: {serial}\n");
        let mistakes = Policy::parse(&text).unwrap_err().to_string();
        assert!(mistakes.contains("expected serial as a number from 1"), "{mistakes}");
    }
    let found = mistakes("may: [{who: x, do: sign, to: anything}]\n");
    assert!(found[0].ends_with("is not known; there are none"), "{found:?}");
}

#[test]
fn what_the_author_may_not_mean_is_told() {
    let about = |text: &str, expected: &str| {
        let lints = policy(text).lints(now());
        let told: Vec<_> = lints.iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|told| told.contains(expected)), "{expected}: {told:?}");
    };
    let role = |role: &str| format!("who:\n  x: {{issuer: {LOGIN}, {role}}}\n");
    for (text, expected) in [
        ("expires: 2026-11-01\n".to_owned(), "the policy has expired at 2026-11-01"),
        (shop("owners: {roles: [web], at-least: 2}\n"), "owners: 2 people can never agree"),
        (
            shop("").replace("[signature: {by: pay}]", "[approvals: {by: pay, at-least: 3}]"),
            "must \"payments\": 3 people can never agree",
        ),
        (role("email: '*@*'"), "email *@* excludes almost nothing"),
        (role("email: {not: ana@acme.example}"), "email not ana@acme.example is everybody else"),
        (
            role("owner-id: 7, workflow: acme/pay/.gitlab-ci.yml"),
            "GitLab writes OWNER/NAME//PATH, with two slashes",
        ),
        (shop("").replace("to: payments", "to: anything"), "for every artifact there is"),
        (shop("").replace("registry.example/payments/**", "'**'"), "images of every registry"),
    ] {
        about(&text, expected);
    }
    let enough = shop("owners: {roles: [pay], at-least: 2}\n");
    assert!(!policy(&enough).lints(now()).iter().any(|lint| lint.message.contains("never agree")));
}

#[test]
fn who_can_sign_tells_of_digests_contexts_and_exceptions() {
    let text = shop(&format!(
        "  - {{name: approved, every: payments, in: production, needs: [approvals: {{by: pay, at-least: 1}}], otherwise: refuse}}
where: {{production: {{clusters: prod}}}}
owners: {{roles: [pay], at-least: 1}}
never: [{{name: broken, digest: \"{DIGEST}\"}}]
exceptions: [{{digest: \"{DIGEST}\", skips: [payments], until: 2026-12-15, because: incident, approved-by: pay}}]\n"
    ));
    let reach = policy(&text).who_can_sign(&image("registry.example/payments/site"));
    assert_eq!(reach.demands, ["\"approved\" in production", "\"payments\""]);
    assert!(reach.prohibitions[0].ends_with(&format!(", of digest {DIGEST}")), "{reach:?}");
    let exception = format!("payments for {DIGEST} until 2026-12-15T00:00:00Z: incident");
    assert_eq!(reach.exceptions, [exception]);
}

#[test]
fn a_condition_that_cannot_be_true_or_false_is_a_mistake() {
    let check = |that: &str| {
        let needs = format!("[attestation: {{kind: vuln-scan, by: pay, check: [{that:?}]}}]");
        let found = mistakes(&shop("").replace("[signature: {by: pay}]", &needs));
        found.first().cloned().unwrap_or_default()
    };
    for (that, expected) in [
        ("1", "the same for every artifact"),
        ("true", "the same for every artifact"),
        ("[1].all(x, x == 1)", "the same for every artifact"),
        ("size(predicate.list)", "neither true nor false"),
        ("predicate", "neither true nor false"),
        ("predicate.ok ? predicate.a + 1 : predicate.b", "neither true nor false"),
        ("predicate.ok", ""),
        ("size(predicate.list) == 1", ""),
    ] {
        let found = check(that);
        assert!(
            found.contains(expected) && found.is_empty() == expected.is_empty(),
            "{that}: {found}"
        );
    }
}

/// The part of the guide that begins with this comment.
fn part(comment: &str) -> &'static str {
    let guide = include_str!("../../../docs/policy.md");
    let mut blocks = guide.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.find(|block| block.starts_with(comment)).unwrap()
}

#[test]
fn no_critical_vulnerabilities_by_each_type_of_scan() {
    let text = shop("").replace("  pay:", "  scanner:").replace("who: pay", "who: scanner");
    let text = text.replace("signature: {by: pay}", "signature: {by: scanner}");
    let demand = part("# No critical").replace("every: apps", "every: payments");
    let demand = demand.split_once("must:\n").unwrap().1;
    let policy = policy(&text.replace("must:\n", &format!("must:\n{demand}")));
    let severity = |score: &str| json!([{ "method": "nvd", "score": score }]);
    let v2 = |score: &str| json!([{ "id": "CVE-1", "severity": severity(score) }]);
    let v1 =
        |score: &str| json!([{ "vulnerability": { "id": "CVE-1", "severity": severity(score) } }]);
    let trivy = |score: &str| {
        json!({ "Results": [{ "Target": "os" },
        { "Vulnerabilities": [{ "VulnerabilityID": "CVE-1", "Severity": score }] }] })
    };
    let in_toto = "https://in-toto.io/attestation/vulns/";
    let cosign = "https://cosign.sigstore.dev/attestation/vuln/v1";
    for (kind, result, passes) in [
        (format!("{in_toto}v0.2"), v2("medium"), true),
        (format!("{in_toto}v0.2"), v2("Critical"), false),
        (format!("{in_toto}v0.2"), json!([]), true),
        (format!("{in_toto}v0.2"), trivy("LOW"), false),
        (format!("{in_toto}v0.1"), v1("medium"), true),
        (format!("{in_toto}v0.1"), v1("critical"), false),
        (format!("{in_toto}v0.1"), v2("critical"), false),
        (cosign.to_owned(), trivy("HIGH"), true),
        (cosign.to_owned(), trivy("CRITICAL"), false),
        (cosign.to_owned(), v2("medium"), false),
    ] {
        let scan =
            attestation(by("ana@acme.example"), &kind, json!({ "scanner": { "result": result } }));
        let evidence = vec![signature(by("ana@acme.example")), scan];
        let facts = found("registry.example/payments/site", evidence);
        let decision = decide(&facts, &policy);
        assert_eq!(decision.allows(), passes, "{kind} {result}\n{}", decision.explain());
    }
}

#[test]
fn the_guides_role_for_gitlab_has_the_job_that_it_means() {
    let role = part("# A role for GitLab");
    let policy = policy(&format!(
        "{role}
what: {{site: {{images: registry.example/payments/**}}}}
may: [{{who: release, do: sign, to: site}}]
must: [{{name: site, every: site, needs: [signature: {{by: release}}], otherwise: refuse}}]
"
    ));
    let lints = policy.lints(now());
    assert!(!lints.iter().any(|lint| lint.message.contains("role")), "{lints:?}");
    let project = "https://gitlab.example/payments/api/site";
    let job = |trigger: &str| {
        let workflow = format!("{project}//.gitlab-ci.yml@refs/tags/v1");
        let extensions = [
            (9, workflow.as_str()),
            (11, "self-hosted"),
            (12, project),
            (14, "refs/tags/v1"),
            (15, "4711"),
            (16, "https://gitlab.example/payments/api"),
            (17, "42"),
            (20, trigger),
            (23, "production"),
        ];
        let extensions = extensions.map(|(number, text)| (number, text.to_owned())).into();
        let subject = countersign_verify::certificate::Subject::Uri(workflow);
        SignerFacts::certified(&subject, "https://gitlab.example", &extensions)
    };
    let owner = job("push").claims["owner"].shown();
    assert_eq!(owner, "payments/api");
    let at = |signer| found("registry.example/payments/site", vec![signature(signer)]);
    allowed(&at(job("push")), &policy);
    refused(&at(job("merge_request_event")), &policy, "claim-mismatch:trigger");
    let one_slash = with(job("push"), "workflow", "payments/api/site/.gitlab-ci.yml");
    refused(&at(one_slash), &policy, "claim-mismatch:workflow");
}

#[test]
fn the_guides_break_glass_opens_by_two_people_and_closes_by_itself() {
    let demand = part("# Break-glass").replace("every: apps", "every: payments");
    let demand = demand.replace("by: release", "by: pay").replace("by: on-call", "by: pay");
    let text =
        shop("").replace("must:\n", &format!("must:\n{}", demand.split_once("must:\n").unwrap().1));
    let policy =
        policy(&text.replace("name: payments, every: payments", "name: payments, every: site"));
    let approved = |time: &str| {
        let people = ["ana@acme.example", "raj@acme.example"];
        let approvals = people.map(|email| {
            let approval = attestation(by(email), APPROVAL, json!({}));
            Evidence { signed: Some(time.parse().unwrap()), ..approval }
        });
        found("registry.example/payments/site", approvals.into())
    };
    let decision = decide(&approved("2026-11-26T11:00:00Z"), &policy);
    assert!(decision.allows(), "{}", decision.explain());
    assert!(decision.rule().ends_with(", by 2 approvals by pay"), "{}", decision.rule());
    refused(&approved("2026-11-26T07:00:00Z"), &policy, "k-of-n-short");
}
