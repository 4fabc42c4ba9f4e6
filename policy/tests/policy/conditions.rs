//! Conditions in CEL: what they mean when they fail, what bounds them, what they can ask about.

use super::*;

#[test]
fn a_condition_that_fails_grants_nothing_and_prohibits() {
    let facts = signed(vec![signature(ana())]);
    let missing = "when: [\"signer.claims.nothing == 'x'\"]";
    let granted = simple("").replace("to: apps}", &format!("to: apps, {missing}}}"));
    refused(&facts, &policy(&granted), "not-granted");
    let never = format!("never:\n  - {{name: broken, who: release, do: sign, {missing}}}\n");
    refused(&facts, &policy(&simple(&never)), "denied-by:broken");
    // What may be absent is asked for with has().
    let has = never.replace(
        "signer.claims.nothing ==",
        "has(signer.claims.nothing) && signer.claims.nothing ==",
    );
    allowed(&facts, &policy(&simple(&has)));
}

#[test]
fn conditions_are_bounded_and_know_their_names() {
    let with = |condition: &str| {
        mistakes(&simple(&format!(
            "never:\n  - {{name: x, who: anyone, do: sign, when: [{condition}]}}\n"
        )))
    };
    for (condition, expected) in [
        ("'artefact.name == 1'", "did you mean \"artifact\"?"),
        ("'httpGet(artifact.name)'", "the function \"httpGet\" is not known"),
        ("'[1].all(x, y > 1)'", "the name \"y\" is not known"),
        ("'[1].all(a, [1].all(b, [1].all(c, [1].all(d, d > 1))))'", "at most 3 loops"),
        ("'a.b('", "this is not CEL"),
    ] {
        let found = with(condition);
        assert!(found.iter().any(|found| found.contains(expected)), "{condition}: {found:?}");
    }
    assert!(with(&format!("'1 == {}'", "1".repeat(2048)))[0].contains("at most 2048 bytes"));
    // Three loops over a thousand each would be a thousand million steps.
    let items: Vec<u32> = (0..1000).collect();
    let list =
        attestation(ana(), "https://in-toto.io/attestation/vulns/v0.2", json!({ "list": items }));
    let check =
        "predicate.list.all(a, predicate.list.all(b, predicate.list.all(c, a + b + c >= 0)))";
    let looping = policy(&simple(&format!(
        "  - {{name: loops, every: apps, needs: [attestation: {{kind: vuln-scan, by: release, check: ['{check}']}}], otherwise: refuse}}\n"
    )));
    let decision = decide(&signed(vec![signature(ana()), list]), &looping);
    assert_eq!(code(&decision), "check-failed");
    assert!(decision.reason().contains("more than 100000 items"), "{}", decision.reason());
}

/// Facts are read where they lie; an expression sees the maps, lists and numbers of CEL.
#[test]
fn facts_are_values_of_cel() {
    let predicate = json!({ "a": { "b": 1, "c": [true, null] }, "same": { "c": [true, null], "b": 1 },
        "list": [{ "x": "é" }, { "x": 2.5 }], "big": u64::MAX, "empty": {}, "n": null });
    let evidence =
        attestation(ana(), "https://in-toto.io/attestation/vulns/v0.2", predicate.clone());
    let mut facts = signed(vec![signature(ana()), evidence]);
    facts.context.labels.insert("team".to_owned(), "pay".to_owned());
    facts.context.namespace = Some("shop".to_owned());
    facts.artifact.as_mut().unwrap().version = Some("v1".to_owned());
    let answer = |that: &str| {
        let check = format!(
            "  - {{name: asks, every: apps, needs: [attestation: {{kind: vuln-scan, by: release, check: [\"{that}\"]}}], otherwise: refuse}}\n"
        );
        let decision = decide(&facts, &policy(&simple(&check)));
        let why = decision.culprit().and_then(|step| step.found.clone()).unwrap_or_default();
        match (decision.allows(), why.contains("evaluated: ")) {
            (true, _) => "yes".to_owned(),
            (false, false) => "no".to_owned(),
            (false, true) => why.split_once("evaluated: ").unwrap().1.to_owned(),
        }
    };
    for (that, expected) in [
        ("predicate.a == predicate.same && predicate.a != predicate.empty", "yes"),
        ("predicate.a == {'b': 1, 'c': [true, null]}", "yes"),
        ("{'b': 1, 'c': [true, null]} == predicate.a", "yes"),
        ("[{'x': 'é'}] == [predicate.list[0]] && predicate.list[0] in [{'x': 'é'}]", "yes"),
        ("{'b': 2, 'c': [true, null]} == predicate.a", "no"),
        ("predicate.a == {'b': 1}", "no"),
        ("predicate.a == [1]", "no"),
        ("predicate.a == artifact", "no"),
        ("predicate == statement.predicate && statement.predicate == predicate", "yes"),
        ("size(predicate.a) == 2 && predicate.a.size() == 2 && size(predicate.empty) == 0", "yes"),
        (
            "size(artifact) == 6 && size(time) == 2 && size(context) == 2 && size(signer) == 4",
            "yes",
        ),
        ("'b' in predicate.a && !('x' in predicate.a) && !(1 in predicate.a)", "yes"),
        (
            "predicate.a.all(k, k in ['b', 'c']) && predicate.a.exists(k, predicate.a[k] == 1)",
            "yes",
        ),
        ("predicate.empty.all(k, false) && !predicate.empty.exists(k, true)", "yes"),
        ("predicate.list.map(f, f.x) == ['é', 2.5]", "yes"),
        ("predicate.list.filter(f, f.x == 2.5).size() == 1", "yes"),
        ("predicate.list[1].x > 2 && predicate.big > 1u && type(predicate.a) == type({})", "yes"),
        ("has(predicate.a.b) && !has(predicate.a.z) && !has(time.never)", "yes"),
        ("predicate.?a.?z.orValue('none') == 'none' && predicate.?a.?b.orValue(0) == 1", "yes"),
        ("optional.ofNonZeroValue(predicate.empty).hasValue()", "no"),
        ("predicate.n == null && predicate.a.c[1] == null", "yes"),
        (
            "artifact.repository == artifact.name && artifact.tag == 'v1' && artifact.kind == 'image'",
            "yes",
        ),
        ("signer.role == 'release' && signer.claims.email == signer.subject", "yes"),
        ("context.labels['team'] == 'pay' && context.namespace == 'shop'", "yes"),
        ("time.signed < time.now && time.signed.getFullYear() == 2026", "yes"),
        ("predicate.z == 1", "No such key: z"),
        ("predicate.a.b.z == 1", "Found no matching overload"),
        ("predicate[1] == 1", "No such"),
        ("predicate[[1]] == 1", "Found no matching overload"),
        ("context.cluster == 'x'", "No such key: cluster"),
        ("artifact.mediaType == 'x'", "No such key: mediaType"),
        ("predicate.a < predicate.same", "Found no matching overload"),
    ] {
        let found = answer(that);
        assert!(found.to_lowercase().starts_with(&expected.to_lowercase()), "{that}: {found}");
    }
}

#[test]
fn the_hour_is_that_of_a_place_by_its_name_or_offset() {
    let at = |condition: &str| {
        let when = format!("to: apps, when: [\"time.now.{condition}\"]}}");
        policy(&simple("").replace("to: apps}", &when))
    };
    let facts = signed(vec![signature(ana())]);
    for condition in [
        "getHours() == 12",
        "getHours('') == 12",
        "getHours('Europe/Berlin') == 13",
        "getMinutes('Asia/Kathmandu') == 45",
        "getDayOfMonth('Pacific/Kiritimati') == 26",
        "getHours('-03:30') == 8",
    ] {
        allowed(&facts, &at(condition));
    }
    for condition in ["getHours('Europe/Berlin') == 12", "getHours('europe/berlin') == 13"] {
        refused(&facts, &at(condition), "not-granted");
    }
}

/// A stack that overflows would end the program. Threads have 2 MiB; the one of a test, too.
#[test]
fn the_deepest_expressions_that_are_taken_end_in_an_answer() {
    let facts = signed(vec![signature(ana())]);
    let with = |open: &str, within: &str, close: &str, deep: usize| {
        let condition = open.repeat(deep) + within + &close.repeat(deep);
        assert!(condition.len() <= 2048, "{open}");
        let when = format!("to: apps, when: [\"{condition}\"]}}");
        let rules = simple("").replace("to: apps}", &when);
        Policy::parse(&format!("policy: p\nserial: 1\n{rules}"))
    };
    for (open, within, deep) in [
        ("0>1?0>1:", "has(signer.role)", 190),
        ("1+", "size(signer.role)>0", 190),
        ("true&&", "has(signer.role)", 190),
        ("!!", "has(signer.role)", 45),
    ] {
        allowed(&facts, &with(open, within, "", deep).unwrap());
    }
    let mistakes = with("1+", "size(signer.role)>0", "", 1010).unwrap_err().to_string();
    assert!(mistakes.contains("at most 200 levels"), "{mistakes}");
    for (open, close) in
        [("!", ""), ("-", ""), ("[", "]"), ("{1:", "}"), ("size(", ")"), ("(", ")"), ("", ".a")]
    {
        for deep in [90, 190, 2036 / (open.len() + close.len())] {
            if let Ok(policy) = with(open, "signer.role", close, deep) {
                let decision = decide(&facts, &policy);
                assert!(!decision.allows(), "{open} {deep}");
            }
        }
    }
}

/// By a policy that demands `check` of a scan.
fn by_check(facts: &Facts, check: &str) -> Decision {
    let rules = simple(&format!(
        "  - {{name: checked, every: apps, needs: [attestation: {{kind: vuln-scan, by: release, check: [\"{check}\"]}}], otherwise: refuse}}\n"
    ));
    decide(facts, &policy(&rules))
}

/// Whoever writes the attestation decides how long its lists and texts are.
#[test]
fn what_a_loop_reads_is_bounded_whatever_it_makes_of_the_error() {
    let numbers: Vec<u32> = (0..50_000).collect();
    let few = &numbers[..4000];
    let text = "x".repeat(1 << 20);
    let predicate = json!({ "items": few, "allowed": numbers, "text": text, "deep": [numbers], "texts": [text] });
    let kind = "https://in-toto.io/attestation/vulns/v0.2";
    let facts = signed(vec![signature(ana()), attestation(ana(), kind, predicate)]);
    let answer = |check: &str| by_check(&facts, check);
    for check in [
        "predicate.items.all(i, !(i in predicate.allowed) || true)",
        "predicate.items.all(i, predicate.allowed.size() > 0)",
        "predicate.items.all(i, !predicate.text.contains('y'))",
        "predicate.deep.all(l, predicate.items.all(i, l.all(m, true)))",
        "predicate.deep.all(l, predicate.items.all(i, !(i in l) || true))",
        "predicate.deep.all(l, predicate.items.all(i, l == l))",
        "predicate.texts.all(t, predicate.items.all(i, !t.contains('y')))",
        "predicate.items.all(i, i != {} && (predicate.allowed == predicate.allowed || true))",
        "predicate.items.exists(i, predicate.allowed.size() == 0) || true",
    ] {
        let decision = answer(check);
        assert_eq!(code(&decision), "check-failed", "{check}");
        assert!(
            decision.reason().contains("items in all loops, or 2000000 that are read"),
            "{check}: {}",
            decision.reason()
        );
    }
    for check in [
        "predicate.allowed.all(i, i >= 0) && predicate.items.size() == 4000",
        "predicate.items.all(i, i in [1, 2] || i >= 0)",
        "predicate.items.exists(i, i in predicate.allowed)",
        "predicate.items.filter(i, i < 3).map(i, i + 1) == [1, 2, 3]",
        "predicate.items.exists_one(i, i == 7)",
    ] {
        let decision = answer(check);
        assert!(decision.allows(), "{check}: {}", decision.explain());
    }
}

/// Pieces of a text take more room than the text.
#[test]
fn what_is_made_of_a_text_is_bounded_by_its_length() {
    let text = "a,b".repeat(700_000);
    let kind = "https://in-toto.io/attestation/vulns/v0.2";
    let predicate =
        json!({ "text": text, "long": "x".repeat(65), "short": "a,b", "list": ["a", "b"] });
    let facts = signed(vec![signature(ana()), attestation(ana(), kind, predicate)]);
    let answer = |check: &str| by_check(&facts, check);
    let (much, long) = ("2000000 that are read", "has at most 64 bytes");
    for (check, expected) in [
        ("predicate.text.split('').size() > 0", much),
        ("predicate.text.split('').size() > 0 || true", much),
        ("predicate.text.replace('a', 'aaaa') != ''", much),
        ("predicate.text.indexOf('ba') >= 0", much),
        ("predicate.text.lastIndexOf('ba') >= 0", much),
        ("predicate.short.replace('a', predicate.long) != ''", long),
        ("predicate.short.indexOf(predicate.long) < 0", long),
        ("predicate.list.join(predicate.long) != ''", long),
        ("predicate.short.split(predicate.long).size() == 1", long),
    ] {
        let decision = answer(check);
        assert_eq!(code(&decision), "check-failed", "{check}");
        assert!(decision.reason().contains(expected), "{check}: {}", decision.reason());
    }
    for check in [
        "predicate.short.split(',') == ['a', 'b'] && predicate.short.split(',', 1).size() == 1",
        "predicate.short.replace(',', '') == 'ab' && predicate.short.replace('a', 'b', 0) == 'a,b'",
        "predicate.list.join('-') == 'a-b' && predicate.list.join() == 'ab'",
        "predicate.short.indexOf(',') == 1 && predicate.short.lastIndexOf('b', 2) == 2",
    ] {
        let decision = answer(check);
        assert!(decision.allows(), "{check}: {}", decision.explain());
    }
}
