//! Laws that hold for every policy and all facts, over small ones in which everything collides.

use super::*;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const ROLES: [&str; 3] = ["alpha", "beta", "gamma"];
const VULNS: &str = "https://in-toto.io/attestation/vulns/v0.2";

const MAY: [&str; 7] = [
    "{who: alpha, do: sign, to: apps}",
    "{who: [alpha, beta], do: [sign, attest vuln-scan], to: pay}",
    "{who: beta, do: attest anything, to: [apps, pay]}",
    "{who: gamma, do: approve, to: apps}",
    "{who: [beta, gamma], do: [approve, attest vuln-scan], to: pay}",
    "{who: gamma, do: sign, to: pay, when: [\"artifact.name.endsWith('pay')\"]}",
    "{who: alpha, do: [sign, attest sbom], to: apps, when: {visibility: public}}",
];

const NEVER: [&str; 6] = [
    "{name: n1, who: alpha, do: sign, to: pay}",
    "{name: n2, who: anyone, do: attest vuln-scan, to: apps, when: [\"predicate.result == 'bad'\"]}",
    "{name: n3, who: beta, do: [approve, attest sbom]}",
    "{name: n4, who: anyone, do: [sign, attest anything], when: {visibility: private}}",
    "{name: n5, who: [alpha, gamma], do: sign, when: [\"time.signed > timestamp('2026-11-20T00:00:00Z')\"]}",
    "{name: n6, who: gamma, do: attest anything, to: apps, when: [\"signer.claims.missing == 'x'\"]}",
];

const MUST: [&str; 8] = [
    "{name: m1, every: apps, needs: [signature: {by: [alpha, beta]}], otherwise: refuse}",
    "{name: m2, every: pay, needs: [attestation: {kind: vuln-scan, by: [beta, gamma], check: [\"predicate.result == 'good'\"]}], otherwise: refuse}",
    "{name: m3, every: [apps, pay], needs: [approvals: {by: gamma, at-least: 2}], otherwise: warn}",
    "{name: m4, every: apps, needs: [any-of: [{signature: {by: gamma}}, {attestation: {kind: sbom, by: alpha}}]], proof: {logged: true}, otherwise: refuse}",
    "{name: m5, every: pay, needs: [signature: {by: gamma}], otherwise: refuse, from: 2026-12-01}",
    "{name: m6, every: apps, in: production, needs: [signature: {by: alpha, younger-than: 3d}], otherwise: refuse}",
    "{name: m7, every: apps, needs: [signature: {by: anyone}], otherwise: record, covers: true}",
    "{name: m8, every: pay, needs: [pinned: {digest: required}], otherwise: refuse}",
];

fn text(may: &[&str], never: &[&str], must: &[&str], unmatched: &str) -> String {
    let list = |key: &str, items: &[&str]| match items {
        [] => String::new(),
        items => format!("{key}:\n  - {}\n", items.join("\n  - ")),
    };
    let roles =
        ROLES.map(|role| format!("  {role}: {{issuer: https://{role}.example, email: '*@*'}}\n"));
    format!(
        "policy: p\nserial: 1\nwho:\n{}what:\n  apps: {{images: r.example/**}}\n  pay: {{images: r.example/acme/*}}\nwhere:\n  production: {{namespaces: shop}}\n{}{}{}unmatched: {unmatched}\n",
        roles.concat(),
        list("may", may),
        list("never", never),
        list("must", must),
    )
}

fn parsed(text: &str) -> Policy {
    Policy::parse(text).unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"))
}

fn some(rules: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    subsequence(rules, 0..=rules.len()).prop_shuffle()
}

fn any_evidence() -> impl Strategy<Value = Evidence> {
    let who = (
        select(&ROLES[..]),
        select(&["ana@a", "raj@a", "eve@b"][..]),
        select(&["public", "private", ""][..]),
    );
    let what = select(&["", VULNS, SBOM, APPROVAL][..]);
    let when = prop_oneof![Just(None), (1..=26_i8).prop_map(Some)];
    let proof = (any::<bool>(), select(&["good", "bad"][..]), any::<bool>());
    (who, what, when, proof).prop_map(
        |((role, email, visibility), kind, day, (logged, result, ours))| {
            let claims = [("email", email), ("visibility", visibility)];
            let claims: Vec<_> = claims.into_iter().filter(|(_, text)| !text.is_empty()).collect();
            let signer = signer(&format!("https://{role}.example"), &claims);
            let mut evidence = match kind {
                "" => signature(signer),
                kind => attestation(signer, kind, json!({ "result": result })),
            };
            evidence.signed = day.map(|day| format!("2026-11-{day:02}T00:00:00Z").parse().unwrap());
            evidence.logged = logged;
            if !ours {
                evidence.digest = evidence.digest.replace("9f2c", "9f2d");
            }
            evidence
        },
    )
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let name =
        select(&["r.example/acme/pay", "r.example/acme/x/y", "r.example/z", "other.example/z"][..]);
    let namespace = select(&["", "shop", "test"][..]);
    let incomplete = select(&[None, None, Some("network")][..]);
    let evidence = prop::collection::vec(any_evidence(), 0..6);
    let at = select(&[Point::Use, Point::Use, Point::Use, Point::Issuance, Point::Log][..]);
    (name, namespace, incomplete, evidence, any::<bool>(), at).prop_map(
        |(name, namespace, incomplete, mut evidence, pinned, at)| {
            if at != Point::Use {
                evidence.truncate(1);
            }
            let namespace = Some(namespace.to_owned()).filter(|name| !name.is_empty());
            Facts {
                at,
                now: now(),
                artifact: Some(Artifact { pinned, ..image(name) }),
                context: Context { namespace, ..Context::default() },
                evidence,
                incomplete: incomplete.map(str::to_owned),
            }
        },
    )
}

fn verdict(facts: &Facts, text: &str) -> (countersign_policy::Outcome, String, String) {
    let decision = decide(facts, &parsed(text));
    (decision.outcome(), decision.rule().to_owned(), code(&decision))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// Where something is demanded already: an artifact that nothing covers may well be let in by a demand
    /// that it meets.
    #[test]
    fn another_must_never_turns_a_no_into_a_yes(
        (may, never, must) in (some(&MAY), some(&NEVER), some(&MUST)),
        more in select(&MUST[..]),
        facts in any_facts(),
    ) {
        let decision = decide(&facts, &parsed(&text(&may, &never, &must, "refuse")));
        let covered = code(&decision) != "unmatched";
        prop_assume!(!decision.allows() && covered && !must.contains(&more));
        let stricter = [must, vec![more]].concat();
        let after = decide(&facts, &parsed(&text(&may, &never, &stricter, "refuse")));
        prop_assert!(!after.allows(), "{}\n{}", decision.explain(), after.explain());
    }

    #[test]
    fn another_never_never_turns_a_no_into_a_yes(
        (may, never, must) in (some(&MAY), some(&NEVER), some(&MUST)),
        more in select(&NEVER[..]),
        facts in any_facts(),
    ) {
        let decision = decide(&facts, &parsed(&text(&may, &never, &must, "refuse")));
        prop_assume!(!decision.allows() && !never.contains(&more));
        let stricter = [never, vec![more]].concat();
        let after = decide(&facts, &parsed(&text(&may, &stricter, &must, "refuse")));
        prop_assert!(!after.allows(), "{more}\n{}\n{}", decision.explain(), after.explain());
    }

    #[test]
    fn the_order_of_rules_never_matters(
        (may, never, must) in (some(&MAY), some(&NEVER), some(&MUST)),
        facts in any_facts(),
    ) {
        let reversed = |rules: &[&'static str]| rules.iter().rev().copied().collect::<Vec<_>>();
        let one = text(&may, &never, &must, "warn");
        let other = text(&reversed(&may), &reversed(&never), &reversed(&must), "warn");
        prop_assert_eq!(verdict(&facts, &one), verdict(&facts, &other));
    }

    /// Also of evidence: whoever lists it decides nothing by how.
    #[test]
    fn the_order_of_evidence_never_matters(
        (may, never, must) in (some(&MAY), some(&NEVER), some(&MUST)),
        facts in any_facts(),
    ) {
        let mut other = facts.clone();
        other.evidence.reverse();
        let text = text(&may, &never, &must, "refuse");
        let (one, other) = (verdict(&facts, &text), verdict(&other, &text));
        prop_assert_eq!((one.0, one.1), (other.0, other.1));
    }

    #[test]
    fn the_name_of_a_role_never_matters(
        (may, never, must) in (some(&MAY), some(&NEVER), some(&MUST)),
        facts in any_facts(),
    ) {
        let one = text(&may, &never, &must, "refuse");
        let names = |text: &str| {
            let text = text.replace("alpha", "zeta").replace("zeta.example", "alpha.example");
            text.replace("gamma", "aaa").replace("aaa.example", "gamma.example")
        };
        let (one, other) = (verdict(&facts, &one), verdict(&facts, &names(&one)));
        prop_assert_eq!((one.0, one.2.replace("gamma", "aaa")), (other.0, other.2));
    }

    #[test]
    fn the_same_recorded_facts_give_the_same_decision(
        (may, never, must) in (some(&MAY), some(&NEVER), some(&MUST)),
        facts in any_facts(),
    ) {
        let policy = parsed(&text(&may, &never, &must, "refuse"));
        let recorded = serde_json::to_vec(&facts).unwrap();
        let replayed: Facts = serde_json::from_slice(&recorded).unwrap();
        prop_assert_eq!(decide(&facts, &policy), decide(&replayed, &policy));
    }

    /// A stranger's signature, which anybody who may push can put beside an artifact.
    #[test]
    fn a_strangers_signature_never_changes_the_answer(
        (may, never, must) in (some(&MAY), some(&NEVER), some(&MUST)),
        facts in any_facts(),
        mut stranger in any_evidence(),
    ) {
        prop_assume!(facts.at == Point::Use);
        stranger.signer.issuer = "https://evil.example".to_owned();
        let text = text(&may, &never, &must, "refuse");
        let mut with = facts.clone();
        with.evidence.push(stranger);
        let (without, with) = (decide(&facts, &parsed(&text)), decide(&with, &parsed(&text)));
        prop_assert_eq!(without.allows(), with.allows(), "{}\n{}", without.explain(), with.explain());
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[a-z:\\[\\]{}&*!|>'\" \n-]{0,200}") {
        let _ = Policy::parse(&text);
    }
}
