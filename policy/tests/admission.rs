//! Reviews as an API server sends them: no image is overlooked, and answers are what it understands.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_policy::admission::{
    Answer, Error, Kinds, KindsError, MAX_IMAGES, MAX_REVIEW, Operation, Place, Review, Verdict,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

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
        // What stood where nothing runs it was no image yet.
        let before = review["request"]["oldObject"]["spec"].take();
        review["request"]["oldObject"]["spec"]["later"] = before;
        let moved = parse(&review).unwrap();
        assert!(!moved.places.iter().any(|place| moved.is_unchanged(place)));
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

/// Reviews as an API server of 1.36 sends them, with its defaults: every kind with a pod spec, and the
/// subresources of pods and deployments.
static REVIEWS: LazyLock<Vec<Value>> =
    LazyLock::new(|| serde_json::from_str(include_str!("reviews.json")).unwrap());

/// A member of this name stands for one that is there already: it becomes a second one of that name.
const TWICE: &str = "second ";

/// Members whose own members are named by users; Ceph's `rbd` calls a block device an image.
const USERS: &str = " labels annotations nodeSelector selector matchLabels limits requests overhead volumeAttributes options rbd ";

/// What may stand anywhere, each with an image in it, or at a place where it is none.
fn odd(pick: usize) -> Value {
    let mut all = vec![
        json!(null),
        json!([]),
        json!({}),
        json!(7),
        json!("r.example/x"),
        json!(["r.example/x"]),
        json!({ "image": "r.example/x" }),
        json!([{ "image": "r.example/x" }]),
        json!({ "image": { "reference": "r.example/x", "image": "r.example/y" } }),
        json!({ "image": ["r.example/x", ["r.example/y"]], "labels": { "image": "r.example/z" } }),
        json!([[{ "name": "n", "image": "r.example/x" }]]),
        json!({ "containers": [{ "image": "r.example/x" }], "options": [{ "image": "r.example/y" }] }),
        json!({ "spec": { "containers": [{ "image": "r.example/x" }] } }),
    ];
    all.swap_remove(pick % all.len())
}

/// Names of images as somebody may try them.
fn spelled(pick: usize) -> String {
    let all = [
        "r.example/x",
        " r.example/x",
        "R.EXAMPLE/x:v1",
        "x",
        "",
        "r.example/x@",
        "docker.io//x",
        "é",
        "r.example/x:v1@sha256:ab",
        "r.example/x\n",
        "\"",
        "\u{0}",
    ];
    all[pick % all.len()].to_owned()
}

/// Members that are inserted: where images are, where they might be, where they are not.
const NAMES: [&str; 14] = [
    "initContainers",
    "containers",
    "ephemeralContainers",
    "volumes",
    "image",
    "reference",
    "template",
    "spec",
    "sidecarContainers",
    "Image",
    "labels",
    "rbd",
    "a/b~c",
    "metadata",
];

/// Every object and list in `value`, itself the first, by its JSON pointer.
fn inner(value: &Value, pointer: &str, found: &mut Vec<String>) {
    if value.is_object() || value.is_array() {
        found.push(pointer.to_owned());
    }
    for (name, value) in children(value) {
        let name = name.replace('~', "~0").replace('/', "~1");
        inner(value, &format!("{pointer}/{name}"), found);
    }
}

fn children(value: &Value) -> Vec<(String, &Value)> {
    match value {
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect()
        }
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), value)).collect()
        }
        _ => Vec::new(),
    }
}

/// Changes one thing about a review.
fn mutate(review: &mut Value, kind: usize, place: usize, pick: usize) {
    let request = &mut review["request"];
    let object = if pick.is_multiple_of(5) { "oldObject" } else { "object" };
    match kind {
        0 => {
            request["operation"] =
                ["CREATE", "UPDATE", "DELETE", "CONNECT", "PATCH", "create"][pick % 6].into();
        }
        1 => {
            request["oldObject"] = match pick % 3 {
                0 => Value::Null,
                1 => request["object"].clone(),
                _ => odd(place),
            };
        }
        2 => request["dryRun"] = [json!(true), json!(null), json!("true")][pick % 3].clone(),
        3 => request["subResource"] = ["", "status", "resize", "other"][pick % 4].into(),
        _ => {
            let mut places = Vec::new();
            inner(&request[object], "", &mut places);
            // Half of the time where pods have what they run.
            if place.is_multiple_of(2) {
                places.retain(|place| place.contains("ontainers") || place.ends_with("/spec"));
            }
            let Some(pointer) = places.get(place.checked_rem(places.len()).unwrap_or_default())
            else {
                return;
            };
            match request[object].pointer_mut(pointer).unwrap() {
                Value::Array(items) => match (kind, items.len()) {
                    (4, 1..) => drop(items.remove(pick % items.len())),
                    (5, 1..) => {
                        let at = pick % items.len();
                        let item = items[at].take();
                        items.push(json!([item]));
                    }
                    (_, count) => items.insert(pick % (count + 1), odd(pick)),
                },
                Value::Object(members) => {
                    let names: Vec<_> = members.keys().cloned().collect();
                    let there = names.get(pick.checked_rem(names.len()).unwrap_or_default());
                    match (kind, there) {
                        (4, Some(name)) => drop(members.remove(name)),
                        (5, Some(name)) => {
                            let value = members[name].take();
                            members.insert(name.clone(), json!([value]));
                        }
                        (6, Some(name)) => drop(members.insert(name.clone(), odd(place))),
                        (7, Some(name)) => {
                            let (twice, value) = (format!("{TWICE}{name}"), members[name].clone());
                            members.insert(
                                twice,
                                if place.is_multiple_of(2) { odd(place) } else { value },
                            );
                        }
                        (8, _) => drop(members.insert("image".into(), spelled(place / 2).into())),
                        (9, _) => {
                            let list = json!([{ "name": "n", "image": spelled(place / 2) }]);
                            members.insert(NAMES[pick % 4].to_owned(), list);
                        }
                        _ => drop(members.insert(NAMES[pick % NAMES.len()].into(), odd(pick / 7))),
                    }
                }
                _ => unreachable!("only objects and lists were asked for"),
            }
        }
    }
}

/// The images of an object by another way than ours: every text at the end of a way of names that ends in
/// `image`, or `reference` in an `image`, wherever it is.
fn texts(value: &Value, way: &[String], pointer: &str, found: &mut BTreeMap<String, String>) {
    for (name, value) in children(value) {
        let step = name.replace('~', "~0").replace('/', "~1");
        let (way, pointer) =
            ([way, std::slice::from_ref(&name)].concat(), format!("{pointer}/{step}"));
        if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
            let listed = |step: &&String| step.bytes().all(|byte| byte.is_ascii_digit());
            let named: Vec<_> =
                way.iter().filter(|step| !listed(step)).map(String::as_str).collect();
            let direct =
                way.iter().rev().nth(1).is_some_and(|above| USERS.contains(&format!(" {above} ")));
            let image = match named.as_slice() {
                [.., "image"] => true,
                [.., "image", "reference"] => name == "reference",
                _ => false,
            };
            let beside = matches!(named.first(), Some(&"metadata" | &"status"));
            if image && !direct && !beside {
                found.insert(pointer, text.to_owned());
            }
        } else {
            texts(value, &way, &pointer, found);
        }
    }
}

/// Whether a member and a second one of its name are in one object.
fn stands_twice(value: &Value) -> bool {
    let second = |name: &str| name.strip_prefix(TWICE).map(str::to_owned);
    children(value).into_iter().any(|(name, inner)| {
        stands_twice(inner) || second(&name).is_some_and(|name| value.get(name).is_some())
    })
}

fn oracle(object: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    texts(object, &[], "", &mut found);
    found
}

#[test]
fn recorded_reviews_show_all_their_images() {
    let mut kinds = Vec::new();
    for review in &*REVIEWS {
        let request = &review["request"];
        let found = parse(review).unwrap();
        kinds.push((
            request["kind"]["group"].as_str().unwrap(),
            request["kind"]["kind"].as_str().unwrap(),
        ));
        let images = match request["operation"].as_str().unwrap() {
            "CREATE" | "UPDATE" => oracle(&request["object"]).len(),
            _ => 0,
        };
        assert_eq!(found.places.len(), images, "{review}");
        let workload = KINDS.iter().any(|known| kinds.last() == Some(&(known.0, known.1)));
        let debug = request["subResource"] == "ephemeralcontainers";
        let comes = matches!(found.operation, Operation::Create | Operation::Update);
        assert_eq!(images, if workload && comes { 4 + usize::from(debug) } else { 0 }, "{review}");
        assert!(found.unknown.is_empty(), "{:?}", found.unknown);
    }
    assert!(KINDS.iter().all(|known| kinds.contains(&(known.0, known.1))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Each image is judged, or the review is refused; and an image of which there was less before is no old
    /// one. The patch pins each.
    #[test]
    fn no_image_of_a_recorded_review_is_skipped(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((0..12_usize, 0..1000_usize, 0..1000_usize), 0..5),
    ) {
        let mut review = which.get(&REVIEWS).clone();
        for (kind, place, pick) in changes {
            mutate(&mut review, kind, place, pick);
        }
        let text = review.to_string();
        let twice = stands_twice(&review);
        let read = Review::parse(text.replace(TWICE, "").as_bytes(), &Kinds::default());
        let review: Value = serde_json::from_str(&text.replace(TWICE, "")).unwrap();
        let request = &review["request"];
        let Ok(read) = read else { return Ok(()) };
        prop_assert!(!twice, "a member stands twice");
        let kind = request["kind"]["kind"].as_str().unwrap();
        let comes = matches!(request["operation"].as_str(), Some("CREATE" | "UPDATE"));
        let runs = comes && KINDS.iter().any(|known| known.1 == kind);
        let expected = if runs { oracle(&request["object"]) } else { BTreeMap::new() };
        let found = read.places.iter().map(|place| (place.pointer.clone(), place.image.clone()));
        prop_assert_eq!(found.collect::<BTreeMap<_, _>>(), expected.clone());
        let before = oracle(&request["oldObject"]);
        let count = |images: &BTreeMap<String, String>, image: &str| {
            images.values().filter(|one| *one == image).count()
        };
        for place in read.places.iter().filter(|place| read.is_unchanged(place)) {
            prop_assert_eq!(request["operation"].as_str(), Some("UPDATE"));
            prop_assert!(count(&before, &place.image) >= count(&expected, &place.image));
        }
        let pin = |image: &str| format!("{image}@sha256:00");
        let pinned = expected.values().map(|image| (image.clone(), pin(image))).collect();
        let answer = Answer { patch: read.patch(&pinned), ..Answer::new(Verdict::Allowed) };
        let answer: Value = serde_json::from_str(&answer.to_json(&read.uid)).unwrap();
        let (mut patched, mut object) = (request["object"].clone(), request["object"].clone());
        if let Some(patch) = answer["response"]["patch"].as_str() {
            let patch: json_patch::Patch = serde_json::from_slice(&STANDARD.decode(patch).unwrap()).unwrap();
            json_patch::patch(&mut patched, &patch).unwrap();
        }
        for (pointer, image) in &expected {
            *object.pointer_mut(pointer).unwrap() = pin(image).into();
        }
        prop_assert_eq!(patched, object);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Review::parse(&bytes, &Kinds::default());
    }
}
