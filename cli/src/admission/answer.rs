//! What was found about each image to one answer.

use super::Judged;
use countersign_policy::admission::{Answer, Review, Verdict};
use std::collections::BTreeMap;

/// Images that a refusal tells of; more make it no clearer.
const MAX_TOLD: usize = 5;

/// Longest reason for one image, in bytes: a table of events cuts what is longer.
const MAX_REASON: usize = 400;

/// Longest name of an image that is shown, in bytes: registries take 255 for a repository, and a digest has 71.
const MAX_NAME: usize = 384;

/// Longest value of an audit annotation, in bytes. The API server takes any; the audit log is read by people.
const MAX_ANNOTATION: usize = 2048;

/// One no is no for all; else one that is undecided is undecided for all.
pub(super) fn of(review: &Review, judged: &[Judged]) -> Answer {
    let told = |wanted: fn(&Verdict) -> Option<&str>| {
        let all = judged.iter().filter_map(|judged| Some((judged, wanted(&judged.verdict)?)));
        let all: Vec<_> = all.collect();
        let mut lines: Vec<_> =
            all.iter().take(MAX_TOLD).map(|(judged, why)| line(review, judged, why)).collect();
        if all.len() > MAX_TOLD {
            lines.push(format!("and {} more images", all.len() - MAX_TOLD));
        }
        (!lines.is_empty()).then(|| lines.join("; "))
    };
    let refused = told(|verdict| match verdict {
        Verdict::Refused(why) => Some(why),
        _ => None,
    });
    let undecided = told(|verdict| match verdict {
        Verdict::Undecided(why) => Some(why),
        _ => None,
    });
    let verdict = match (refused, undecided) {
        (Some(why), _) => Verdict::Refused(why),
        (None, Some(why)) => Verdict::Undecided(format!(
            "it could not be told whether this may come in, so it may not; try again: {why}"
        )),
        (None, None) => Verdict::Allowed,
    };
    let mut answer = Answer::new(verdict);
    for judged in judged {
        let warnings = judged.warnings.iter();
        let image = short(&judged.image);
        answer.warnings.extend(warnings.map(|warning| format!("{image}: {warning}")));
    }
    answer.audit = audit(judged);
    answer
}

/// A name in a warning, of which no more than 120 characters are sure to be shown: the beginning of its
/// digest does.
pub(super) fn short(image: &str) -> String {
    match image.split_once("@sha256:") {
        Some((name, digest)) => {
            format!("{}@sha256:{}…", cut(name, MAX_NAME), cut(digest, 12))
        }
        None => cut(image, MAX_NAME).to_owned(),
    }
}

fn cut(text: &str, longest: usize) -> &str {
    &text[..text.floor_char_boundary(longest)]
}

/// Where it stands, as Kubernetes writes paths, the image, and why.
fn line(review: &Review, judged: &Judged, why: &str) -> String {
    let place = review.places.iter().find(|place| place.image == judged.image);
    let place = place.map(|place| path(&place.pointer)).unwrap_or_default();
    format!("{place} {}: {}", cut(&judged.image, MAX_NAME), cut(why, MAX_REASON))
}

/// `/spec/containers/0/image` as `spec.containers[0].image`.
fn path(pointer: &str) -> String {
    let mut path = String::new();
    for step in pointer.split('/').skip(1) {
        match step.parse::<usize>() {
            Ok(index) => path.push_str(&format!("[{index}]")),
            Err(_) if path.is_empty() => path.push_str(step),
            Err(_) => path.push_str(&format!(".{step}")),
        }
    }
    path
}

/// For the cluster's audit log: which rule let which digest in or not, and the IDs under which the
/// decisions stand in our own log.
fn audit(judged: &[Judged]) -> BTreeMap<String, String> {
    let joined = |part: fn(&Judged) -> Option<String>| {
        let parts: Vec<_> = judged.iter().filter_map(part).collect();
        let mut text = parts.join(" | ");
        text.truncate(text.floor_char_boundary(MAX_ANNOTATION));
        text
    };
    let named = |judged: &Judged| {
        let digest = judged.digest.as_ref().map(|digest| format!("@{digest}"));
        let named = judged.image.contains('@');
        Some(format!("{}{}", judged.image, digest.filter(|_| !named).unwrap_or_default()))
    };
    let annotations = [
        ("images", joined(named)),
        ("rules", joined(|judged| judged.rule.clone())),
        ("decisions", joined(|judged| judged.id.clone())),
    ];
    let some = annotations.into_iter().filter(|(_, value)| !value.is_empty());
    some.map(|(key, value)| (key.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_policy::admission::Kinds;
    use serde_json::json;

    fn judged(image: &str, verdict: Verdict) -> Judged {
        let (digest, rule, id) = (None, Some("r".to_owned()), Some("1".to_owned()));
        Judged { image: image.to_owned(), digest, verdict, rule, id, warnings: vec!["w".into()] }
    }

    #[test]
    fn one_no_decides_then_what_is_undecided_and_each_is_told_with_its_place() {
        let containers: Vec<_> = ["a", "b", "c"].map(|image| json!({ "image": image })).into();
        let review = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "1", "operation": "CREATE", "kind": { "kind": "Pod" },
            "resource": { "resource": "pods" }, "object": { "spec": { "containers": containers } } } });
        let review = Review::parse(review.to_string().as_bytes(), &Kinds::default()).unwrap();
        let yes = || Verdict::Allowed;
        let no = |why: &str| Verdict::Refused(why.to_owned());
        let unclear = |why: &str| Verdict::Undecided(why.to_owned());
        let undecided = |why: &str| {
            unclear(&format!(
                "it could not be told whether this may come in, so it may not; try again: {why}"
            ))
        };
        for (a, b, c, expected) in [
            (yes(), yes(), yes(), yes()),
            (yes(), no("x"), yes(), no("spec.containers[1].image b: x")),
            (unclear("y"), no("x"), yes(), no("spec.containers[1].image b: x")),
            (unclear("y"), yes(), yes(), undecided("spec.containers[0].image a: y")),
            (
                no("x"),
                yes(),
                no(&"é".repeat(400)),
                no(&format!(
                    "spec.containers[0].image a: x; spec.containers[2].image c: {}",
                    "é".repeat(200)
                )),
            ),
        ] {
            let found = of(&review, &[judged("a", a), judged("b", b), judged("c", c)]);
            assert_eq!(found.verdict, expected);
            assert_eq!(found.warnings, ["a: w", "b: w", "c: w"]);
            let audit: Vec<_> = found.audit.values().map(String::as_str).collect();
            assert_eq!(audit, ["1 | 1 | 1", "a | b | c", "r | r | r"]);
        }
        assert_eq!(of(&review, &[]).verdict, Verdict::Allowed, "an object without images");
        let long = "x".repeat(1 << 20);
        let found = of(&review, &[judged(&long, no("x"))]);
        let Verdict::Refused(why) = &found.verdict else { panic!("{found:?}") };
        assert!(why.len() < 500 && found.warnings[0].len() < 500, "{}", why.len());
    }
}
