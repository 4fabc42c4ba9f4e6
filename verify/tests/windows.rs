//! What a trusted root says of times, keys and names decides what evidence counts.

use countersign_testkit::{Instance, Shape, Signer};
use countersign_verify::encoding::{base64, from_base64};
use countersign_verify::key::{KeyDetails, PublicKey};
use countersign_verify::trusted_root::{ElementError, Error as RootError};
use countersign_verify::{Artifact, Error, Thresholds, TrustedRoot, Verified, Verifier, chain};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const ARTIFACT: &[u8] = b"artifact";
const ENTRY: &str = "/verificationMaterial/tlogEntries/0";
const STAMPS: &str = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps";

struct World {
    instance: Instance,
    signer: Signer,
    root: Value,
}

impl World {
    fn new() -> Self {
        let instance = Instance::new();
        let signer =
            instance.certify("https://git.example.test/acme", "https://issuer.example.test");
        let root = serde_json::from_str(&instance.trusted_root()).unwrap();
        Self { instance, signer, root }
    }

    fn make(&self, shape: &str) -> Value {
        self.instance.make(&self.signer, ARTIFACT, find(shape))
    }

    /// The trusted root with one member changed.
    fn root(&self, path: &str, change: impl FnOnce(&mut Value)) -> Value {
        let mut root = self.root.clone();
        change(root.pointer_mut(path).unwrap());
        root
    }

    fn verify(&self, bundle: &Value, root: &Value) -> Result<Verified, Error> {
        let root = TrustedRoot::parse(root.to_string().as_bytes()).unwrap();
        let key = PublicKey::from_spki(&self.signer.spki()).unwrap();
        let verifier = Verifier::new(&root);
        let verifier =
            if self.signer.certificate.is_none() { verifier.with_key(&key) } else { verifier };
        let artifact = Artifact::from_bytes(ARTIFACT);
        verifier.verify_json(bundle.to_string().as_bytes(), &artifact).into_result()
    }

    /// `minutes` after the certificate begins; promises and timestamps are made a minute after.
    fn at(&self, minutes: i64) -> Timestamp {
        self.instance.now + SignedDuration::from_mins(minutes)
    }

    /// The bundle with one timestamp, of that time.
    fn stamped(&self, bundle: &Value, minutes: i64) -> Value {
        let signature = bundle["messageSignature"]["signature"].as_str().unwrap();
        let signature = from_base64(signature).unwrap();
        let stamp = self.instance.timestamp_with(&signature, self.at(minutes), false);
        let mut bundle = bundle.clone();
        bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"] =
            json!([{ "signedTimestamp": base64(&stamp) }]);
        bundle
    }
}

fn find(shape: &str) -> &'static Shape {
    Shape::ALL.iter().find(|found| found.name == shape).unwrap()
}

/// The member with another window: of a log it is its key's.
fn during(member: &Value, window: &Value) -> Value {
    let mut member = member.clone();
    let at = match member.get("publicKey") {
        Some(_) => member.pointer_mut("/publicKey/validFor").unwrap(),
        None => &mut member["validFor"],
    };
    *at = window.clone();
    member
}

const V2: &str = "0.3 message, Rekor v2";
const V1: &str = "0.3 message, Rekor v1";

/// What has a window: a list and a place in it, a bundle that needs it, the minute that is compared, and the code of the
/// refusal.
const WINDOWS: [(&str, usize, &str, i64, &str); 6] = [
    ("tlogs", 0, V2, 1, "LOG_NOT_TRUSTED_THEN"),
    ("tlogs", 1, V1, 1, "LOG_NOT_TRUSTED_THEN"),
    ("tlogs", 1, "0.1 message, promise alone", 1, "LOG_NOT_TRUSTED_THEN"),
    ("ctlogs", 0, V2, 0, "SCT_INVALID"),
    ("timestampAuthorities", 0, V2, 1, "TIMESTAMP_INVALID"),
    ("certificateAuthorities", 0, V2, 1, "CERTIFICATE_NOT_VALID_THEN"),
];

#[test]
fn a_window_has_both_its_ends_and_nothing_beyond() {
    let world = World::new();
    for (list, place, shape, minute, code) in WINDOWS {
        let (bundle, name) = (world.make(shape), format!("{list}/{place} of {shape}"));
        let (time, second) = (world.at(minute), SignedDuration::from_secs(1));
        let verify = |start: Timestamp, end: Timestamp| {
            let window = json!({ "start": start.to_string(), "end": end.to_string() });
            let root = world.root(&format!("/{list}/{place}"), |member| {
                *member = during(member, &window);
            });
            world.verify(&bundle, &root).map(drop).map_err(|error| error.code())
        };
        assert_eq!(verify(time, time), Ok(()), "{name}");
        assert_eq!(verify(time + second, time + second), Err(code), "{name}: before");
        assert_eq!(verify(time - second, time - second), Err(code), "{name}: after");
    }
}

/// A key that was retired and taken up again stands in a root twice.
#[test]
fn of_one_instance_listed_twice_either_window_will_do() {
    let world = World::new();
    let window = |from, to| {
        let [start, end] = [from, to].map(|minutes| world.at(minutes).to_string());
        json!({ "start": start, "end": end })
    };
    let (then, before, after) = (window(-1, 5), window(-50, -40), window(6, 9));
    for (list, place, shape, _, code) in WINDOWS {
        let (bundle, name) = (world.make(shape), format!("{list}/{place} of {shape}"));
        let verify = |first: &Value, second: &Value| {
            let root = world.root(&format!("/{list}"), |list| {
                let list = list.as_array_mut().unwrap();
                let member = list.remove(place);
                list.insert(place, during(&member, first));
                list.insert(place, during(&member, second));
            });
            world.verify(&bundle, &root).map(drop).map_err(|error| error.code())
        };
        for other in [&before, &after] {
            assert_eq!(verify(&then, other), Ok(()), "{name}");
            assert_eq!(verify(other, &then), Ok(()), "{name}");
            assert_eq!(verify(other, other), Err(code), "{name}");
        }
    }
    // It is still one authority.
    let bundle = world.make(V2);
    let two = [world.stamped(&bundle, 1), world.stamped(&bundle, 7)];
    let two = two.each_ref().map(|bundle| bundle.pointer(STAMPS).unwrap()[0].clone());
    let mut bundle = bundle.clone();
    *bundle.pointer_mut(STAMPS).unwrap() = two.to_vec().into();
    let root = world.root("/timestampAuthorities", |list| {
        *list = json!([during(&list[0], &then), during(&list[0], &after)]);
    });
    assert_eq!(world.verify(&bundle, &root).unwrap().times().len(), 2);
    let root = TrustedRoot::parse(root.to_string().as_bytes()).unwrap();
    let verifier =
        Verifier::new(&root).with_thresholds(Thresholds { times: 2, ..Thresholds::CERTIFICATE });
    let verdict =
        verifier.verify_json(bundle.to_string().as_bytes(), &Artifact::from_bytes(ARTIFACT));
    let expected = Error::TooFewTimes { expected: 2, found: 1 };
    assert_eq!(verdict.into_result().unwrap_err(), expected);
}

/// The log is asked about the time that it promised; without promise about every trusted time and, though nobody
/// signed that, the one that the entry tells.
#[test]
fn a_log_must_have_been_trusted_when_it_took_the_entry() {
    let world = World::new();
    let verify = |bundle: &Value, from: i64, to: i64| {
        let window =
            json!({ "start": world.at(from).to_string(), "end": world.at(to).to_string() });
        let root = world.root("/tlogs/1", |log| *log = during(log, &window));
        world.verify(bundle, &root).map(drop).map_err(|error| error.code())
    };
    let refused = Err("LOG_NOT_TRUSTED_THEN");
    let promised = world.stamped(&world.make("0.3 message, Rekor v1 with a timestamp"), 5);
    assert_eq!(verify(&promised, 1, 1), Ok(()), "the timestamp came later");
    assert_eq!(verify(&promised, 2, 9), refused);
    let mut bundle = world.stamped(&world.make("0.3 message, Rekor v1 without promise"), 5);
    assert_eq!(verify(&bundle, 5, 5), Ok(()));
    assert_eq!(verify(&bundle, 1, 4), refused);
    bundle.pointer_mut(ENTRY).unwrap()["integratedTime"] =
        world.at(6).as_second().to_string().into();
    assert_eq!(verify(&bundle, 5, 5), refused);
    assert_eq!(verify(&bundle, 5, 6), Ok(()));
}

/// Whoever has the key of a log that was retired could write entries today.
#[test]
fn without_any_time_only_a_log_that_is_still_trusted_will_do() {
    let mut world = World::new();
    world.signer = Signer::with_key(KeyDetails::EcdsaP256Sha256);
    let untimed = |shape: &str| {
        let shape = Shape { timestamp: None, promise: false, ..*find(shape) };
        world.instance.make(&world.signer, ARTIFACT, &shape)
    };
    for (place, bundle) in [(0, untimed(V2)), (1, untimed(V1))] {
        let open = json!({ "start": world.at(-9).to_string() });
        let ends = json!({ "start": world.at(-9).to_string(), "end": world.at(9).to_string() });
        let path = format!("/tlogs/{place}");
        let root = |window: &Value| world.root(&path, |log| *log = during(log, window));
        assert!(world.verify(&bundle, &root(&open)).is_ok());
        let refused = world.verify(&bundle, &root(&ends)).unwrap_err();
        assert!(matches!(refused, Error::NoLogTime { .. }), "{refused}");
        assert_eq!(refused.code(), "LOG_NOT_TRUSTED_THEN");
        assert!(world.verify(&world.stamped(&bundle, 1), &root(&ends)).is_ok());
    }
    // What the entry says of its time is nobody's word, and does not do.
    let mut bundle = untimed(V1);
    let mut verify = |minutes: i64, window: Value| {
        bundle.pointer_mut(ENTRY).unwrap()["integratedTime"] =
            world.at(minutes).as_second().to_string().into();
        world.verify(&bundle, &world.root("/tlogs/1", |log| *log = during(log, &window))).err()
    };
    let [start, end] = [-9, 9].map(|minutes| world.at(minutes).to_string());
    let refused = verify(1, json!({ "start": start, "end": end }));
    assert!(matches!(refused, Some(Error::NoLogTime { .. })), "{refused:?}");
    let refused = verify(-10, json!({ "start": start }));
    assert!(matches!(refused, Some(Error::LogTime { .. })), "{refused:?}");
    assert_eq!(verify(1, json!({ "start": start })), None);
}

#[test]
fn an_index_that_nobody_signed_is_not_told() {
    let world = World::new();
    let with_index = |shape: &str, index: &str| {
        let mut bundle = world.make(shape);
        bundle.pointer_mut(ENTRY).unwrap()["logIndex"] = index.into();
        bundle
    };
    let without = "0.3 message, Rekor v1 without promise";
    for (bundle, expected) in [
        (world.make("0.3 message, Rekor v1"), 1002),
        (world.make(without), 2),
        (with_index(without, "77"), 2),
        (world.make(V2), 2),
    ] {
        assert_eq!(world.verify(&bundle, &world.root).unwrap().entries()[0].index, expected);
    }
    let promised = world.verify(&with_index("0.3 message, Rekor v1", "77"), &world.root);
    assert_eq!(promised.unwrap_err().code(), "LOG_PROMISE_INVALID");
    let mut twice = world.make(without);
    let list = twice.pointer_mut("/verificationMaterial/tlogEntries").unwrap();
    let mut again = list[0].clone();
    again["logIndex"] = "77".into();
    list.as_array_mut().unwrap().push(again);
    let refused = world.verify(&twice, &world.root).unwrap_err();
    assert_eq!(refused, Error::RepeatedEntry { place: 1 });
}

/// Version 0.2 of the trusted root.
#[test]
fn a_log_may_sign_under_another_id_than_its_own() {
    let world = World::new();
    let (bundle, own) = (world.make(V2), world.root["tlogs"][0]["logId"].clone());
    let id = from_base64(own["keyId"].as_str().unwrap()).unwrap();
    let named = |id: &[u8]| json!({ "keyId": base64(id) });
    let root = |id: &[u8]| world.root("/tlogs/0", |log| log["checkpointKeyId"] = named(id));
    for same in [&id[..], &id[..4], &[&id[..4], &[0; 28]].concat()] {
        world.verify(&bundle, &root(same)).unwrap();
    }
    let refused = world.verify(&bundle, &root(&[0; 32])).unwrap_err();
    assert!(matches!(refused, Error::NoLogSignature { .. }), "{refused}");
    let short = TrustedRoot::parse(root(&id[..3]).to_string().as_bytes()).unwrap_err();
    let reason = ElementError::CheckpointKeyId { found: 3 };
    assert_eq!(short, RootError::Element { member: "tlogs", index: 0, reason });
    // The log's ID is another, its signature under the old one.
    let (mut renamed, other) = (bundle.clone(), named(&[7; 32]));
    renamed.pointer_mut(ENTRY).unwrap()["logId"] = other.clone();
    let moved = |checkpoint: Option<&Value>| {
        world.root("/tlogs/0", |log| {
            log["logId"] = other.clone();
            checkpoint.inspect(|&id| log["checkpointKeyId"] = id.clone());
        })
    };
    world.verify(&renamed, &moved(Some(&own))).unwrap();
    let refused = world.verify(&renamed, &moved(None)).unwrap_err();
    assert!(matches!(refused, Error::NoLogSignature { .. }), "{refused}");
}

#[test]
fn null_is_absent() {
    let world = World::new();
    let (bundle, mut root) = (world.make(V1), world.root.clone());
    for path in
        ["/certificateAuthorities/0/subject", "/certificateAuthorities/0/uri", "/ctlogs/0/baseUrl"]
    {
        *root.pointer_mut(path).unwrap() = Value::Null;
    }
    root["timestampAuthorities"] = Value::Null;
    world.verify(&bundle, &root).unwrap();
}

#[test]
fn authorities_of_one_name_are_told_apart_by_their_keys() {
    let (world, other) = (World::new(), World::new());
    let bundle = world.make(V2);
    let decoy = &other.root["certificateAuthorities"][0];
    for place in [0, 1] {
        let root = world.root("/certificateAuthorities", |list| {
            list.as_array_mut().unwrap().insert(place, decoy.clone());
        });
        world.verify(&bundle, &root).unwrap();
    }
    let root = world.root("/certificateAuthorities/0", |own| *own = decoy.clone());
    assert_eq!(world.verify(&bundle, &root).unwrap_err().code(), "CERTIFICATE_AUTHORITY_UNKNOWN");
    let without = |member: &str| {
        world.root(&format!("/{member}/0/certChain/certificates"), |list| *list = json!([]))
    };
    let member = "certificateAuthorities";
    let refused = TrustedRoot::parse(without(member).to_string().as_bytes()).unwrap_err();
    let reason = ElementError::Chain(chain::Error::Empty);
    assert_eq!(refused, RootError::Element { member, index: 0, reason });
    let refused = world.verify(&bundle, &without("timestampAuthorities")).unwrap_err();
    assert_eq!(refused.code(), "TIMESTAMP_AUTHORITY_UNKNOWN");
    let left_out =
        "left out is timestampAuthorities[0]: certChain: expected at least one certificate";
    assert!(refused.to_string().contains(left_out), "{refused}");
}
