//! What somebody means to keep out stays out, under whatever name, digest, role or spelling it comes.

use super::*;
use countersign_policy::{AcceptError, Assertion, Intent, POLICY, accept};

const SHA512: &str = "sha512:00";

fn named(name: &str, evidence: Vec<Evidence>) -> Facts {
    Facts { artifact: Some(image(name)), ..signed(evidence) }
}

#[test]
fn what_a_class_leaves_out_is_spelled_as_what_it_has() {
    let with = |images: &str, except: &str| {
        simple("").replace(
            "images: registry.example/acme/**",
            &format!("images: {images}, except: {except}"),
        )
    };
    for (images, except, name) in [
        ("docker.io/**", "docker.io/busybox", "docker.io/library/busybox"),
        ("docker.io/**", "index.docker.io/evil/**", "docker.io/evil/tool"),
        (
            "'registry.example:443/acme/**'",
            "'registry.example:443/acme/secret/**'",
            "registry.example/acme/secret/x",
        ),
        (
            "registry.example/acme/**",
            "Registry.Example/acme/secret/**",
            "registry.example/acme/secret/x",
        ),
        ("'**'", "'**/secret/**'", "registry.example/acme/secret/x"),
        (
            "registry.example/acme/**, git: acme/**",
            "'registry.example:443/acme/x'",
            "registry.example/acme/x",
        ),
    ] {
        refused(&named(name, vec![signature(ana())]), &policy(&with(images, except)), "unmatched");
    }
    let kept = policy(&with("docker.io/**", "[docker.io/busybox]"));
    allowed(&named("docker.io/library/alpine", vec![signature(ana())]), &kept);
    for (except, expected) in [
        ("busybox", "except: \"busybox\" names no host; write docker.io/library/busybox"),
        ("registry.example/Acme/x", "repositories are in lower case"),
        ("'registry.example/acme/x:v1'", "except: a pattern ends before the tag"),
        ("'registry.example/acme/x@sha256:aa'", "except: a pattern ends before the digest"),
    ] {
        let found = mistakes(&with("docker.io/**", except)).join("\n");
        assert!(found.contains(expected), "{found}");
        // Where a class has other kinds, too, what has a host is an image's name.
        if except.contains('/') {
            let found = mistakes(&with("docker.io/**, blobs: tool-*", except)).join("\n");
            assert!(found.contains(expected), "{found}");
        }
    }
    // A name of another kind is no image's.
    let both = with("registry.example/acme/**, blobs: tool-*", "tool-secret");
    let tool = |name: &str| {
        let artifact = Artifact { kind: Kind::Blob, ..image(name) };
        Facts { artifact: Some(artifact), ..signed(vec![signature(ana())]) }
    };
    refused(&tool("tool-secret"), &policy(&both), "unmatched");
    allowed(&tool("tool-open"), &policy(&both));
}

#[test]
fn a_policy_speaks_for_a_host_under_all_of_its_names() {
    for (speaks_for, name) in [
        ("index.docker.io/acme/**", "docker.io/acme/pay"),
        ("docker.io/**", "docker.io/library/busybox"),
        ("'Registry.Example:443/acme/**'", "registry.example/acme/pay"),
    ] {
        let include =
            format!("include: [{{policy: q, min-serial: 1, speaks-for: {speaks_for}}}]\n");
        let text = simple(&include)
            .replace("registry.example/acme/**}", "['docker.io/**', 'registry.example/**']}");
        refused(&named(name, vec![signature(ana())]), &policy(&text), "undecided:include q");
    }
    for speaks_for in ["acme/**", "docker.io/acme/pay", "'**'", "'docker.io/*/x/**'"] {
        let include =
            format!("include: [{{policy: q, min-serial: 1, speaks-for: {speaks_for}}}]\n");
        assert_eq!(mistakes(&simple(&include)).len(), 1, "{speaks_for}");
    }
}

#[test]
fn a_digest_that_is_barred_is_so_within_an_index_and_by_another_hash_nothing_can_be_told() {
    let never = format!("never: [{{name: broken, digest: \"{DIGEST}\"}}]\nunmatched: allow\n");
    let of = |digest: &str, platforms: &[&str]| {
        let platforms = platforms.iter().map(|one| (*one).to_owned()).collect();
        let artifact =
            Artifact { digest: digest.to_owned(), platforms, ..image("registry.example/x") };
        Facts { artifact: Some(artifact), ..signed(Vec::new()) }
    };
    let barring = policy(&simple(&never));
    assert!(barring.bars_digests() && !policy(&simple("")).bars_digests());
    refused(&of("sha256:aa", &["sha256:bb", DIGEST]), &barring, "denied-by:broken");
    allowed(&of("sha256:aa", &["sha256:bb"]), &barring);
    for digest in [SHA512, "sha256:", ""] {
        refused(&of(digest, &[]), &barring, "undecided:digest");
    }
    allowed(&of(SHA512, &[]), &policy(&simple("unmatched: allow\n")));
    // A class by digests, too.
    let class = simple(
        "  - {name: known, every: bad, needs: [signature: {by: release}], otherwise: refuse}\nunmatched: allow\n",
    )
    .replace("what:\n", &format!("what:\n  bad: {{digests: \"{DIGEST}\"}}\n"));
    refused(&of(DIGEST, &[]), &policy(&class), "signature-missing");
    refused(&of(SHA512, &[]), &policy(&class), "undecided:digest");
}

#[test]
fn an_expression_excludes_whatever_the_case_of_what_is_compared_without() {
    let never = |when: &str| {
        policy(&simple(&format!(
            "never: [{{name: no, who: anyone, do: sign, when: {{{when}}}}}]\n"
        )))
    };
    for (claim, expression, text) in [
        ("repository", "acme-org/evil.*", "Acme-Org/evil-fork"),
        ("repository", "Acme-Org/evil.*", "acme-org/evil-fork"),
        ("owner", "acme-org", "Acme-Org"),
        ("repository-name", "evil.*", "Evil-fork"),
        ("workflow", "acme-org/evil/.*", "Acme-Org/Evil/x.yml"),
        ("caller-workflow", "Acme-Org/evil/.*", "acme-org/evil/x.yml"),
        ("email", ".*@evil[.]example", "eve@Evil.Example"),
    ] {
        let facts = signed(vec![signature(with(ana(), claim, text))]);
        refused(&facts, &never(&format!("{claim}: {{matches: '{expression}'}}")), "denied-by:no");
        refused(
            &facts,
            &never(&format!("{claim}: [x, {{matches: '{expression}'}}]")),
            "denied-by:no",
        );
        let not = simple("")
            .replace("who:\n", &format!("who:\n  other: {{issuer: {LOGIN}, username: x}}\n"));
        let not = not.replace(
            "email: '*@acme.example'",
            &format!("username: ana, not: {{{claim}: {{matches: '{expression}'}}}}"),
        );
        let facts = signed(vec![signature(with(with(ana(), "username", "ana"), claim, text))]);
        refused(&facts, &policy(&not), &format!("claim-mismatch:{claim}"));
    }
    let but = simple("")
        .replace("email: '*@acme.example'", "email: {not: {matches: '.*@evil[.]example'}}");
    let eve = with(ana(), "email", "eve@Evil.Example");
    refused(&signed(vec![signature(eve)]), &policy(&but), "claim-mismatch:email");
    // Of a ref case tells.
    let facts = signed(vec![signature(with(ana(), "ref", "refs/tags/V1"))]);
    allowed(&facts, &never("ref: {matches: 'refs/tags/v.*'}"));
}

#[test]
fn a_prohibition_asks_about_each_role_that_it_names() {
    let two = |who: &str| {
        let never = format!(
            "never: [{{name: no, who: {who}, do: sign, when: [\"signer.role == 'release'\"]}}]\n"
        );
        simple(&never).replace(
            "who:\n",
            &format!("who:\n  alpha: {{issuer: {LOGIN}, email: '*@acme.example'}}\n"),
        )
    };
    let facts = signed(vec![signature(ana())]);
    refused(&facts, &policy(&two("release")), "denied-by:no");
    refused(&facts, &policy(&two("[alpha, release]")), "denied-by:no");
    refused(&facts, &policy(&two("anyone")), "denied-by:no");
    allowed(&facts, &policy(&two("alpha")));
}

#[test]
fn a_pattern_of_files_keeps_its_case() {
    let never = "never: [{name: no, who: anyone, do: sign, when: {CLAIM: '**/Release.yml'}}]\n";
    for claim in ["workflow", "caller-workflow"] {
        let facts =
            signed(vec![signature(with(ana(), claim, "Acme/x/.github/workflows/Release.yml"))]);
        refused(&facts, &policy(&simple(&never.replace("CLAIM", claim))), "denied-by:no");
    }
}

#[test]
fn what_the_including_policy_prohibits_and_trusts_holds_in_the_included_one() {
    let include = "include: [{policy: q, min-serial: 1, speaks-for: registry.example/acme/**}]\n";
    let outer = |more: &str| {
        let text = simple("").replace(
            "must:\n  - name: signed\n    every: apps\n    needs: [signature: {by: release}]\n    otherwise: refuse\n",
            "",
        );
        policy(&(text + include + more))
    };
    let inner =
        |more: &str| Policy::parse(&format!("policy: q\nserial: 1\n{}", simple(more))).unwrap();
    let facts = signed(vec![signature(ana())]);
    let both = |more: &str, within: &str| outer(more).with_included(vec![inner(within)]).unwrap();
    allowed(&facts, &both("", ""));
    let never = "never: [{name: no, who: release, do: sign, to: apps}]\n";
    refused(&facts, &both(never, ""), "denied-by:no");
    assert!(countersign_policy::counted(&facts, &both(never, "")).is_empty());
    // Nor does an exception of the included one count for a digest that the including one names.
    let exception = format!("owners: {{roles: [release], at-least: 1}}
exceptions: [{{digest: \"{DIGEST}\", skips: [signed], until: 2026-12-15, because: x, approved-by: release}}]\n");
    let named = format!("never: [{{name: no, digest: \"{DIGEST}\", who: anyone, do: sign}}]\n");
    refused(&facts, &both(&named, &exception), "denied-by:no");

    let trust = |file: &str| format!("trust: {{vendor: {{key-file: {file}}}}}\n");
    let with = |outer_trust: &str, inner_trust: &str| {
        outer(outer_trust).with_included(vec![inner(inner_trust)]).map(drop)
    };
    assert!(with(&trust("vendor.pub"), &trust("vendor.pub")).is_ok());
    for outer_trust in [String::new(), trust("other.pub")] {
        let error = with(&outer_trust, &trust("vendor.pub")).unwrap_err().to_string();
        assert!(
            error.contains("its trust root \"vendor\" is not in the policy that includes it"),
            "{error}"
        );
    }
}

#[test]
fn how_old_a_keys_signature_is_nobody_can_tell() {
    let key = |mut evidence: Evidence| {
        evidence.signer = SignerFacts {
            trust: Some("vendor".to_owned()),
            key: Some("sha256:aa".to_owned()),
            ..SignerFacts::default()
        };
        evidence
    };
    let scan = |result: &str, signed: &str| {
        let kind = "https://in-toto.io/attestation/vulns/v0.2";
        let scan = attestation(ana(), kind, json!({ "result": result }));
        key(Evidence { signed: Some(signed.parse().unwrap()), ..scan })
    };
    let text = |needs: &str| {
        let text = simple("")
            .replace(&format!("issuer: {LOGIN}, email: '*@acme.example'"), "trust: vendor");
        let trust = "trust: {vendor: {key-file: vendor.pub}}\n";
        policy(&(text.replace("signature: {by: release}", needs) + trust))
    };
    let (old, new) = ("2026-11-20T00:00:00Z", "2026-11-26T11:00:00Z");
    let newest = text(
        "attestation: {kind: vuln-scan, by: release, check: [\"predicate.result == 'good'\"]}",
    );
    allowed(&signed(vec![scan("good", new)]), &newest);
    // A bad one may be the newest, whatever the timestamps say.
    refused(&signed(vec![scan("good", new), scan("bad", old)]), &newest, "check-failed");
    let fresh = text("signature: {by: release, younger-than: 7d}");
    refused(&signed(vec![key(signature(ana()))]), &fresh, "undecided:time");
    allowed(&signed(vec![key(signature(ana()))]), &text("signature: {by: release}"));
    let lints = fresh.lints(now());
    assert!(
        lints.iter().any(|lint| lint.message.contains("role \"release\" signs by a key")),
        "{lints:?}"
    );
}

#[test]
fn an_owner_who_never_may_publish_and_a_certificate_for_something_else_publish_nothing() {
    let version = |never: &str| {
        let text = format!(
            "policy: p\nserial: 1\nexpires: 2027-01-01\nowners: {{roles: [owners], at-least: 1}}
who: {{owners: {{issuer: {LOGIN}, email: ana@acme.example}}}}\n{never}"
        );
        Policy::parse(&text).unwrap()
    };
    let by = |policy: &Policy, intent: Option<Intent>| {
        let asserted = Some(Assertion { intent, ..Assertion::default() });
        let one = attestation(SignerFacts { asserted, ..ana() }, POLICY, json!({}));
        [Evidence { digest: policy.digest.clone(), ..one }]
    };
    let taken = |policy: &Policy, signatures: &[Evidence]| {
        accept(None, policy, Some(&policy.digest), &[], signatures, now())
    };
    let open = version("");
    assert_eq!(taken(&open, &by(&open, None)), Ok(()));
    let publish = Intent {
        action: "attest".to_owned(),
        predicate_type: Some(POLICY.to_owned()),
        artifact: None,
    };
    assert_eq!(taken(&open, &by(&open, Some(publish))), Ok(()));
    let nobody = Err(AcceptError::Owners { serial: 1, expected: 1, found: 0 });
    let sign = Intent { action: "sign".to_owned(), ..Intent::default() };
    assert_eq!(taken(&open, &by(&open, Some(sign))), nobody);
    let shut = version("never: [{name: no, who: owners, do: publish policy, to: anything}]\n");
    assert_eq!(taken(&shut, &by(&shut, None)), nobody);
}

#[test]
fn an_exception_by_name_is_for_artifacts_of_its_kind_in_one_spelling() {
    let text = |name: &str| {
        simple(&format!("owners: {{roles: [release], at-least: 1}}
exceptions: [{{name: \"{name}\", skips: [signed], until: 2026-12-15, because: x, approved-by: release}}]\n"))
        .replace("registry.example/acme/**}", "['docker.io/**', 'registry.example/acme/**'], blobs: '**', git: '**'}")
    };
    let of = |kind: Kind, name: &str| Facts {
        artifact: Some(Artifact { kind, ..image(name) }),
        ..signed(Vec::new())
    };
    for (exception, kind, name, expected) in [
        ("docker.io/busybox", Kind::Image, "docker.io/library/busybox", true),
        ("Registry.Example:443/acme/pay", Kind::Image, "registry.example/acme/pay", true),
        ("registry.example/acme/pay", Kind::Blob, "registry.example/acme/pay", false),
        ("registry.example/acme/pay", Kind::Git, "registry.example/acme/pay", true),
        ("tool", Kind::Blob, "tool", true),
        ("tool", Kind::Image, "docker.io/library/tool", false),
    ] {
        let decision = decide(&of(kind, name), &policy(&text(exception)));
        assert_eq!(decision.allows(), expected, "{exception} {name}\n{}", decision.explain());
    }
    for name in ["registry.example/acme/pay:v1", "npm/@acme/pay@1.2.0", "registry.example/acme/*"] {
        assert!(mistakes(&text(name))[0].contains("expected its exact name"), "{name}");
    }
}

#[test]
fn a_rule_that_covers_and_is_not_met_is_the_decisions_rule() {
    let text = simple("").replace("otherwise: refuse", "otherwise: warn\n    covers: true");
    let decision = decide(&signed(Vec::new()), &policy(&text));
    assert!(decision.allows() && decision.has_unmet());
    assert_eq!(decision.rule(), "signed (not met, which warns only)");
    let decision = decide(&signed(vec![signature(ana())]), &policy(&text));
    assert_eq!((decision.rule(), decision.has_unmet()), ("signed", false));
    // One that is only recorded could be met by evidence, too.
    let recorded = text.replace("otherwise: warn", "otherwise: record");
    assert!(decide(&signed(Vec::new()), &policy(&recorded)).has_unmet());
}

#[test]
fn a_trial_that_would_refuse_everything_and_tags_that_are_not_pinned_are_told() {
    let told = |text: &str, expected: &str| {
        let lints = policy(text).lints(now());
        lints.iter().any(|lint| lint.message.contains(expected))
    };
    let refused = "class \"apps\" is refused all the same";
    let mild = simple("").replace("otherwise: refuse", "otherwise: warn");
    let later = simple("").replace("otherwise: refuse", "otherwise: refuse\n    from: 2027-01-01");
    assert!(told(&mild, refused) && told(&later, refused));
    for text in [
        simple(""),
        mild.clone() + "unmatched: warn\n",
        mild.replace("otherwise: warn", "otherwise: warn\n    covers: true"),
    ] {
        assert!(!told(&text, refused), "{text}");
    }
    let (site, unpinned) = ("where: {prod: {clusters: prod}}\n", "tags are not pinned");
    assert!(told(&simple(site), unpinned) && !told(&simple(""), unpinned));
    assert!(!told(&(simple(site) + "admission: {pin-tags-to-digests: true}\n"), unpinned));
}

#[test]
fn the_time_in_the_log_can_be_part_of_a_case() {
    let policy = policy(
        &simple("").replace("otherwise: refuse", "proof: {log-age: 1h}\n    otherwise: refuse"),
    );
    let cases = format!("tests-for: p
cases:
  - name: long enough
    given:
      artifact: {{image: registry.example/acme/pay}}
      now: 2026-11-26T12:00:00Z
      signatures: [{{signed: '2026-11-26T10:00:00Z', role-facts: {{issuer: \"{LOGIN}\", email: ana@acme.example}}}}]
    expect: pass
  - name: not yet
    change: {{signatures.0.signed: '2026-11-26T11:30:00Z'}}
    expect: {{refuse: too-young}}\n");
    let cases =
        Cases::parse(&cases, &policy, now()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    for case in cases.cases() {
        case.check(&policy).unwrap_or_else(|why| panic!("{}: {why}", case.name));
    }
}
