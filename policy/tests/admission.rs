//! Reviews as an API server sends them: no image is overlooked, and answers are what it understands.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_policy::admission::{
    Answer, Error, Kinds, KindsError, MAX_IMAGES, MAX_REVIEW, Operation, Place, Review, Verdict,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Group, kind, resource, and the way to the pod spec, of all that Kubernetes has (API reference 1.36).
const KINDS: [(&str, &str, &str, &str); 9] = [
    ("", "Pod", "pods", "/spec"),
    ("", "ReplicationController", "replicationcontrollers", "/spec/template/spec"),
    ("", "PodTemplate", "podtemplates", "/template/spec"),
    ("apps", "Deployment", "deployments", "/spec/template/spec"),
    ("apps", "ReplicaSet", "replicasets", "/spec/template/spec"),
    ("apps", "StatefulSet", "statefulsets", "/spec/template/spec"),
    ("apps", "DaemonSet", "daemonsets", "/spec/template/spec"),
    ("batch", "Job", "jobs", "/spec/template/spec"),
    ("batch", "CronJob", "cronjobs", "/spec/jobTemplate/spec/template/spec"),
];

/// Puts `inner` at the end of a way of members.
fn at(way: &str, inner: Value) -> Value {
    way.rsplit('/')
        .filter(|step| !step.is_empty())
        .fold(inner, |value, step| json!({ step: value }))
}

fn review(group: &str, kind: &str, resource: &str, operation: &str, object: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": { "group": group, "version": "v1", "kind": kind },
            "resource": { "group": group, "version": "v1", "resource": resource },
            "requestKind": { "group": group, "version": "v1", "kind": kind },
            "requestResource": { "group": group, "version": "v1", "resource": resource },
            "name": "",
            "namespace": "apps",
            "operation": operation,
            "userInfo": { "username": "system:serviceaccount:kube-system:replicaset-controller" },
            "object": object,
            "oldObject": null,
            "dryRun": false,
            "options": { "apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions" },
        }
    })
}

fn parse(review: &Value) -> Result<Review, Error> {
    Review::parse(review.to_string().as_bytes(), &Kinds::default())
}

fn pod(spec: Value) -> Value {
    review("", "Pod", "pods", "CREATE", &at("/spec", spec))
}

fn everywhere() -> Value {
    json!({
        "initContainers": [{ "name": "a", "image": "r.example/init" }],
        "containers": [
            { "name": "b", "image": "r.example/one:v1" },
            { "name": "c", "image": "r.example/two", "env": [{ "name": "image", "value": "no" }] },
        ],
        "ephemeralContainers": [{ "name": "d", "image": "r.example/debug" }],
        "volumes": [
            { "name": "e", "image": { "reference": "r.example/data", "pullPolicy": "Always" } },
            { "name": "f", "rbd": { "image": "a-block-device", "monitors": [] } },
            { "name": "g", "image": null, "emptyDir": {} },
        ],
        "nodeSelector": { "image": "no" },
        "imagePullSecrets": [{ "name": "no" }],
        "restartPolicy": "Always",
    })
}

#[test]
fn every_kind_shows_every_image_at_its_place() {
    let expected =
        ["init", "one:v1", "two", "debug", "data"].map(|name| format!("r.example/{name}"));
    for (group, kind, resource, way) in KINDS {
        let object = at(way, everywhere());
        for operation in ["CREATE", "UPDATE"] {
            let review = parse(&review(group, kind, resource, operation, &object)).unwrap();
            let mut images: Vec<_> = review.places.iter().map(|place| &place.image).collect();
            let mut expected: Vec<_> = expected.iter().collect();
            images.sort();
            expected.sort();
            assert_eq!(images, expected, "{kind}");
            for Place { pointer, image } in &review.places {
                assert_eq!(object.pointer(pointer).unwrap(), image, "{kind} {pointer}");
            }
            assert!(review.unknown.is_empty(), "{:?}", review.unknown);
            assert!(!review.places.iter().any(|place| review.is_unchanged(place)));
        }
        for operation in ["DELETE", "CONNECT"] {
            let review = parse(&review(group, kind, resource, operation, &object)).unwrap();
            assert!(review.places.is_empty(), "{kind} {operation}");
        }
    }
}

#[test]
fn a_kind_of_which_nobody_knows_is_refused_until_it_is_configured() {
    let object = at("/spec/template/spec", everywhere());
    let rollout = review("argoproj.io", "Rollout", "rollouts", "CREATE", &object);
    let kind = "Rollout.argoproj.io".to_owned();
    assert_eq!(parse(&rollout).unwrap_err(), Error::UnknownKind { kind });
    let kinds = Kinds::new(&[], [("rollouts.argoproj.io", "spec.template.spec")]).unwrap();
    let review = Review::parse(rollout.to_string().as_bytes(), &kinds).unwrap();
    assert_eq!(review.places.len(), 5);
    assert!(Kinds::new(&[], [("rollouts.argoproj.io", "spec..template")]).is_err());
    // Of Kubernetes' own those that are not meant are let through; pods are always meant.
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let kinds = Kinds::new(&names(&["pods"]), []).unwrap();
    for (kind, resource, group, found) in
        [("Deployment", "deployments", "apps", 0), ("Pod", "pods", "", 5)]
    {
        let object = if kind == "Pod" { at("/spec", everywhere()) } else { object.clone() };
        let review = self::review(group, kind, resource, "CREATE", &object);
        let review = Review::parse(review.to_string().as_bytes(), &kinds).unwrap();
        assert_eq!(review.places.len(), found, "{kind}");
    }
    assert_eq!(Kinds::new(&names(&["jobs"]), []).unwrap_err(), KindsError::WithoutPods);
    let found = "pod".to_owned();
    assert_eq!(Kinds::new(&names(&["pod"]), []).unwrap_err(), KindsError::Resource { found });
    assert_eq!(Kinds::resources().collect::<Vec<_>>(), KINDS.map(|kind| (kind.0, kind.2)));
    // Scaling names no image, though it arrives by way of a kind that does.
    let scale = self::review("autoscaling", "Scale", "deployments", "UPDATE", &json!({}));
    assert!(parse(&scale).unwrap().places.is_empty());
}

#[test]
fn images_that_an_update_leaves_as_they_are_are_unchanged() {
    let spec = |images: &[&str]| {
        let containers: Vec<_> = images.iter().map(|image| json!({ "image": image })).collect();
        at("/spec", json!({ "containers": containers }))
    };
    for (before, after, unchanged) in [
        (&["a", "b"][..], &["b", "a"][..], &[true, true][..]),
        (&["a"], &["a", "c"], &[true, false]),
        (&["a"], &["a", "a"], &[false, false]),
        (&["a", "a"], &["a"], &[true]),
    ] {
        let mut review = review("", "Pod", "pods", "UPDATE", &spec(after));
        review["request"]["oldObject"] = spec(before);
        let update = parse(&review).unwrap();
        let found: Vec<_> = update.places.iter().map(|place| update.is_unchanged(place)).collect();
        assert_eq!(found, unchanged, "{before:?} to {after:?}");
        // A new object has no past, whatever stands in the review.
        review["request"]["operation"] = "CREATE".into();
        let create = parse(&review).unwrap();
        assert!(!create.places.iter().any(|place| create.is_unchanged(place)));
    }
}

#[test]
fn what_is_no_review_or_hides_an_image_is_refused() {
    let whole = pod(everywhere());
    assert!(parse(&whole).is_ok());
    let with = |pointer: &str, value: Value| {
        let mut review = whole.clone();
        let (parent, member) = pointer.rsplit_once('/').unwrap();
        let parent = review.pointer_mut(parent).unwrap();
        match parent.as_array_mut() {
            Some(list) => list[member.parse::<usize>().unwrap()] = value,
            None => parent[member] = value,
        }
        parse(&review).map(|review| review.places.len())
    };
    let type_error =
        |pointer: &str, expected| Err(Error::Type { pointer: pointer.to_owned(), expected });
    let object = "/request/object/spec";
    assert_eq!(
        with("/apiVersion", "admission.k8s.io/v1beta1".into()),
        Err(Error::Version { found: "admission.k8s.io/v1beta1 AdmissionReview".into() })
    );
    assert_eq!(with("/request", Value::Null), Err(Error::NoRequest));
    assert_eq!(with(object, json!([])), type_error("/spec", "an object"));
    assert_eq!(with(object, Value::Null), type_error("/spec", "an object"));
    for list in ["initContainers", "containers", "ephemeralContainers", "volumes"] {
        let (place, member) = (format!("{object}/{list}"), format!("/spec/{list}"));
        assert_eq!(with(&place, json!({ "0": {} })), type_error(&member, "a list"));
        let first = type_error(&format!("{member}/0"), "an object");
        assert_eq!(with(&format!("{place}/0"), "r.example/one".into()), first);
    }
    let image = "/request/object/spec/containers/0/image";
    let nothing = Err(Error::NoImage { pointer: "/spec/containers/0/image".into() });
    assert_eq!(with(image, Value::Null), nothing);
    assert_eq!(with(image, "".into()), nothing);
    assert_eq!(
        with(image, json!({})),
        type_error("/spec/containers/0/image", "the name of an image")
    );
    let volume = "/request/object/spec/volumes/0/image";
    assert_eq!(with(volume, "x".into()), type_error("/spec/volumes/0/image", "an object"));
    for (pointer, value) in [
        ("/request/uid", json!(7)),
        ("/request/operation", "PATCH".into()),
        ("/request/kind", "Pod".into()),
        ("/request/dryRun", "no".into()),
    ] {
        assert!(matches!(with(pointer, value), Err(Error::Json(_))), "{pointer}");
    }
    let many = vec![json!({ "image": "a" }); MAX_IMAGES + 1];
    assert_eq!(with(&format!("{object}/containers"), many.into()), Err(Error::TooMany));
    let long = vec![b' '; MAX_REVIEW + 1];
    let refused = Review::parse(&long, &Kinds::default()).unwrap_err();
    assert_eq!(refused, Error::TooLong { limit: MAX_REVIEW, found: MAX_REVIEW + 1 });
    let deep = "[".repeat(100_000);
    assert!(matches!(Review::parse(deep.as_bytes(), &Kinds::default()), Err(Error::Json(_))));
}

#[test]
fn a_template_may_leave_its_image_open() {
    let object =
        at("/spec/template/spec", json!({ "containers": [{ "name": "a" }], "volumes": null }));
    let review = parse(&review("apps", "Deployment", "deployments", "CREATE", &object)).unwrap();
    assert!(review.places.is_empty());
    let bare = self::review("", "ReplicationController", "x", "CREATE", &json!({ "spec": {} }));
    assert!(parse(&bare).unwrap().places.is_empty(), "its template is optional");
}

#[test]
fn a_name_at_an_unexpected_place_is_noted_and_an_unknown_list_is_taken_for_containers() {
    let mut spec = everywhere();
    spec["sidecarContainers"] = json!([{ "name": "x", "image": "r.example/sidecar" }]);
    spec["runtime"] = json!({ "baseImage": "r.example/base" });
    let review = parse(&pod(spec)).unwrap();
    assert!(review.places.iter().any(|place| place.image == "r.example/sidecar"));
    assert_eq!(review.unknown, ["/spec/runtime/baseImage"]);
}

#[test]
fn an_answer_is_what_an_api_server_understands() {
    let review = parse(&pod(json!({ "containers": [{ "image": "r.example/a~b/c:v1" }] }))).unwrap();
    assert_eq!((review.operation, review.dry_run), (Operation::Create, false));
    assert_eq!((review.namespace.as_deref(), review.name.as_deref()), (Some("apps"), None));
    let answer = Answer {
        warnings: vec!["é".repeat(200), "short".into()],
        audit: BTreeMap::from([("decision".into(), "refused".into())]),
        ..Answer::new(Verdict::Refused("no role".into()))
    };
    let json: Value = serde_json::from_str(&answer.to_json(&review.uid)).unwrap();
    assert_eq!(
        json,
        json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "response": {
                "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
                "allowed": false,
                "status": { "code": 403, "reason": "Forbidden", "message": "no role" },
                "warnings": ["é".repeat(128), "short"],
                "auditAnnotations": { "decision": "refused" },
            }
        })
    );
    let undecided = Answer::new(Verdict::Undecided("the registry is away".into()));
    let json: Value = serde_json::from_str(&undecided.to_json(&review.uid)).unwrap();
    assert_eq!(json["response"]["allowed"], false);
    assert_eq!(json["response"]["status"]["code"], 503);
    let chatty = Answer { warnings: vec!["w".repeat(256); 100], ..Answer::new(Verdict::Allowed) };
    let json: Value = serde_json::from_str(&chatty.to_json(&review.uid)).unwrap();
    assert_eq!(json["response"]["warnings"].as_array().unwrap().len(), 16);
    assert!(json["response"].get("patch").is_none());
}

/// Any pod spec: lists of containers known and unknown, volumes, and much else. Each image has a name of
/// its own, which begins as nothing else does.
fn any_spec() -> impl Strategy<Value = Value> {
    let filler = prop_oneof![
        Just(json!(null)),
        Just(json!(7)),
        Just(json!("text")),
        Just(json!({ "image~/name": ["text"] })),
        Just(json!([{ "name": "x" }])),
    ];
    let container = prop::collection::btree_map("[a-z/~]{1,8}", filler.clone(), 0..4);
    let list = (prop::collection::vec(container, 0..4), any::<bool>());
    let named = prop_oneof![
        Just("initContainers"),
        Just("containers"),
        Just("ephemeralContainers"),
        Just("volumes"),
        Just("futureContainers"),
    ];
    let lists = prop::collection::btree_map(named, list, 0..5);
    let rest = prop::collection::btree_map("[A-Za-z/~]{1,8}", filler, 0..4);
    (lists, rest).prop_map(|(lists, rest)| {
        let mut spec = json!(rest);
        let mut count = 0;
        for (name, (items, volume_too)) in lists {
            let items = items.into_iter().map(|item| {
                let mut item = json!(item);
                count += 1;
                let image = json!(format!("r.example/{count}"));
                item["image"] = match name {
                    "volumes" if !volume_too => json!(null),
                    "volumes" => json!({ "reference": image }),
                    _ => image,
                };
                item
            });
            spec[name] = items.collect();
        }
        spec
    })
}

proptest! {
    #[test]
    fn no_image_is_overlooked_and_the_patch_pins_each(spec in any_spec(), kind in 0..KINDS.len()) {
        let (group, kind, resource, way) = KINDS[kind];
        let object = at(way, spec);
        let review = parse(&review(group, kind, resource, "CREATE", &object)).unwrap();
        let text = object.to_string();
        // The oracle knows nothing of places: it counts names in the text.
        prop_assert_eq!(review.places.len(), text.matches("r.example/").count());
        let pinned = review.places.iter().map(|Place { image, .. }| {
            (image.clone(), format!("{image}@sha256:00"))
        });
        let patch = review.patch(&pinned.collect());
        let answer = Answer { patch, ..Answer::new(Verdict::Allowed) }.to_json(&review.uid);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let mut patched = object.clone();
        if let Some(patch) = answer["response"]["patch"].as_str() {
            let patch: json_patch::Patch = serde_json::from_slice(&STANDARD.decode(patch).unwrap()).unwrap();
            json_patch::patch(&mut patched, &patch).unwrap();
        }
        let patched = patched.to_string();
        prop_assert_eq!(patched.matches("@sha256:00\"").count(), review.places.len());
        prop_assert_eq!(patched.replace("@sha256:00", ""), text);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Review::parse(&bytes, &Kinds::default());
    }
}
