//! What counts, and how often, when there are several: logs, times, receipts, authorities, roots. Which reason leads.

use crate::world::{ARTIFACT, ENTRY, ISSUER, URI, World, flipped, shape, with, with_entry};
use countersign_testkit::{Receipt, Shape, Signer};
use countersign_verify::bundle::LogEntry;
use countersign_verify::certificate::Certificate;
use countersign_verify::encoding::{base64, from_base64};
use countersign_verify::key::{HashAlgorithm, KeyDetails, PublicKey};
use countersign_verify::{
    Artifact, Bundle, Check, Error, Outcome, Thresholds, TrustedRoot, Verifier,
};
use serde_json::{Value, json};

/// By a name of its own choice and the tree's number; without number by the name in the trusted root.
#[test]
fn a_v1_tree_head_names_its_log() {
    let world = World::new();
    let signer = Signer::with_key(KeyDetails::EcdsaP256Sha256);
    let key = PublicKey::from_spki(&signer.spki()).unwrap();
    let bundle = world.instance.make(&signer, ARTIFACT, shape("0.3 statement, intoto of Rekor v1"));
    let body = bundle.pointer(&format!("{ENTRY}/canonicalizedBody")).unwrap().as_str().unwrap();
    let body = from_base64(body).unwrap();
    let verify = |origin: &str, name: &str| {
        let entry = world.instance.log_v1_with(body.clone(), |head| {
            (head.origin, head.name) = (origin.to_owned(), name.to_owned());
        });
        let entry = LogEntry { promise: None, integrated_time: 0, ..entry };
        let json = with_entry(&bundle, &entry).to_string();
        let verifier = Verifier::new(&world.root).with_key(&key);
        verifier.verify_json(json.as_bytes(), &Artifact::from_bytes(ARTIFACT)).into_result()
    };
    let (host, other) = ("rekor.example.test", "other.example.test");
    for (origin, name) in [(host, host), ("rekor.example.test - 0", host), ("own - 7", "own")] {
        verify(origin, name).unwrap_or_else(|error| panic!("{origin} by {name}: {error}"));
    }
    let wrong = [other, "REKOR.example.test", "rekor.example.test - x", "rekor.example.test - "];
    for origin in wrong {
        for name in [host, other] {
            let refused = verify(origin, name).unwrap_err();
            assert!(matches!(refused, Error::OtherOrigin { .. }), "{origin} by {name}: {refused}");
        }
    }
    for (origin, name) in [(host, other), ("own - 7", host)] {
        let refused = verify(origin, name).unwrap_err();
        assert!(matches!(refused, Error::NoLogSignature { .. }), "{origin} by {name}: {refused}");
    }
}

#[test]
fn thresholds_count_different_authorities() {
    let world = World::new();
    let artifact = Artifact::from_bytes(ARTIFACT);
    let verify = |bundle: &Value, thresholds: Thresholds| {
        let verifier = Verifier::new(&world.root).with_thresholds(thresholds);
        let verdict = verifier.verify_json(bundle.to_string().as_bytes(), &artifact).into_result();
        verdict.map(|_| ()).map_err(|error| error.code())
    };
    let (one, both) = (world.make(&Shape::ALL[0]), world.make(shape("0.3 message, both logs")));
    let usual = Thresholds::CERTIFICATE;
    let logs = |logs| Thresholds { logs, ..usual };
    assert_eq!(verify(&one, logs(2)), Err("LOG_ENTRY_MISSING"));
    assert_eq!(verify(&both, logs(2)), Ok(()));
    let none = with(&one, "/verificationMaterial/tlogEntries", |_| json!([]));
    assert_eq!(verify(&none, usual), Err("LOG_ENTRY_MISSING"));
    assert_eq!(verify(&none, logs(0)), Ok(()), "as GitHub's own instance has it");

    let times = |times| Thresholds { times, ..usual };
    let stamped = world.make(shape("0.3 message, Rekor v1 with a timestamp"));
    assert_eq!(verify(&stamped, times(2)), Ok(()), "an authority's and the log's");
    assert_eq!(verify(&one, times(2)), Err("TIMESTAMP_MISSING"));
    // The same authority a second time is still one.
    let signature = from_base64(one["messageSignature"]["signature"].as_str().unwrap()).unwrap();
    let again = world.instance.timestamp_with(&signature, world.instance.stamped(), true);
    let twice =
        with(&one, "/verificationMaterial/timestampVerificationData/rfc3161Timestamps", |list| {
            let again = json!({ "signedTimestamp": base64(&again) });
            [list.as_array().unwrap().as_slice(), &[again]].concat().into()
        });
    assert_eq!(verify(&twice, usual), Ok(()));
    assert_eq!(verify(&twice, times(2)), Err("TIMESTAMP_MISSING"));
    let untimed = with(&one, "/verificationMaterial", |material| {
        let mut material = material.clone();
        material.as_object_mut().unwrap().remove("timestampVerificationData");
        material
    });
    assert_eq!(verify(&untimed, times(0)), Err("TIMESTAMP_MISSING"), "a certificate needs a time");

    let receipts = |certificate_logs| Thresholds { certificate_logs, ..usual };
    assert_eq!(verify(&one, receipts(2)), Err("SCT_MISSING"));
    assert_eq!(verify(&one, receipts(0)), Ok(()));
    for (found, code) in
        [(vec![], "SCT_MISSING"), (vec![Receipt::OtherLog], "CERTIFICATE_LOG_UNKNOWN")]
    {
        let bundle = world.with_receipts(found.clone());
        assert_eq!(verify(&bundle, usual), Err(code), "{found:?}");
        assert_eq!(verify(&bundle, receipts(0)), Ok(()), "{found:?}");
    }
    let forged = world.with_receipts(vec![Receipt::Forged]);
    assert_eq!(verify(&forged, receipts(0)), Err("SCT_INVALID"), "what is there must hold");
}

#[test]
fn of_several_authorities_the_reason_is_that_of_the_likeliest() {
    let (world, other) = (World::new(), World::new());
    let read =
        |world: &World| -> Value { serde_json::from_str(&world.instance.trusted_root()).unwrap() };
    let (own, foreign) = (read(&world), read(&other));
    let foreign = &foreign["certificateAuthorities"][0];
    let closed = |end: &str| {
        let mut authority = own["certificateAuthorities"][0].clone();
        authority["validFor"] = json!({ "start": "2001-01-01T00:00:00Z", "end": end });
        authority
    };
    let (first, second) = (closed("2002-01-01T00:00:00Z"), closed("2003-01-01T00:00:00Z"));
    let bundle = world.make(&Shape::ALL[0]);
    let refuse = |bundle: &Value, authorities: &[&Value]| {
        let mut root = own.clone();
        root["certificateAuthorities"] = json!(authorities);
        let root = TrustedRoot::parse(root.to_string().as_bytes()).unwrap();
        let verifier = Verifier::new(&root);
        let report =
            verifier.verify_json(bundle.to_string().as_bytes(), &Artifact::from_bytes(ARTIFACT));
        report.into_result().expect_err("refused")
    };
    for authorities in [[&first, foreign], [foreign, &first]] {
        assert_eq!(refuse(&bundle, &authorities).code(), "CERTIFICATE_NOT_VALID_THEN");
    }
    for (authorities, end) in [([&first, &second], "2002"), ([&second, &first], "2003")] {
        let reason = refuse(&bundle, &authorities).to_string();
        assert!(reason.contains(end), "of two as likely the first: {reason}");
    }
    // The signature of the very key that the certificate names.
    let path = "/verificationMaterial/certificate/rawBytes";
    let broken = with(&bundle, path, flipped);
    let genuine = &own["certificateAuthorities"][0];
    assert_eq!(refuse(&broken, &[genuine]).code(), "CERTIFICATE_INVALID");
    assert_eq!(refuse(&broken, &[foreign, genuine]).code(), "CERTIFICATE_INVALID");
    assert_eq!(refuse(&broken, &[foreign]).code(), "CERTIFICATE_AUTHORITY_UNKNOWN");
}

#[test]
fn an_entry_twice_and_a_time_that_nobody_signed_are_refused() {
    let world = World::new();
    let one = world.make(shape("0.3 message, Rekor v2"));
    let entries = "/verificationMaterial/tlogEntries";
    let same = with(&one, entries, |list| json!([list[0], list[0]]));
    assert_eq!(world.verify(&same).unwrap_err(), Error::RepeatedEntry { place: 1 });
    // By a time within the certificate's, and without promise.
    let time = world.instance.stamped().as_second().to_string();
    let timed = with(&one, ENTRY, |entry| {
        let mut entry = entry.clone();
        entry["integratedTime"] = time.clone().into();
        entry
    });
    assert_eq!(world.verify(&timed).unwrap_err(), Error::UnsignedTime { place: 0 });
}

#[test]
fn reports_name_obsolete_kinds_and_unknown_logs() {
    let (world, other) = (World::new(), World::new());
    let artifact = Artifact::from_bytes(ARTIFACT);
    for shape in &Shape::ALL {
        let json = world.make(shape).to_string();
        let report = Verifier::new(&world.root).verify_json(json.as_bytes(), &artifact);
        let (_, outcome) =
            report.checks().iter().find(|(check, _)| *check == Check::Entry).unwrap();
        let told = matches!(outcome, Outcome::Pass(found) if found.contains(", an obsolete kind,"));
        assert_eq!(told, shape.entries.contains(&("dsse", "0.0.2")), "{}: {outcome:?}", shape.name);
    }
    let mut root: Value = serde_json::from_str(&world.instance.trusted_root()).unwrap();
    root["tlogs"] =
        serde_json::from_str::<Value>(&other.instance.trusted_root()).unwrap()["tlogs"].clone();
    let root = TrustedRoot::parse(root.to_string().as_bytes()).unwrap();
    let bundle = world.make(&Shape::ALL[0]);
    let report = Verifier::new(&root).verify_json(bundle.to_string().as_bytes(), &artifact);
    let Err(Error::UnknownLog { found, .. }) = report.into_result() else { panic!("accepted") };
    assert_eq!(Some(&*found), bundle.pointer(&format!("{ENTRY}/logId/keyId")).unwrap().as_str());
}

#[test]
fn a_promise_suffices_in_the_first_generation_alone() {
    let world = World::new();
    for shape in Shape::ALL.iter().filter(|shape| shape.name.starts_with("0.1")) {
        let bundle = world.make(shape);
        let proof = format!("{ENTRY}/inclusionProof");
        if bundle.pointer(&proof).is_none_or(Value::is_null) {
            assert!(world.verify(&bundle).is_ok(), "{}", shape.name);
            continue;
        }
        // Clients of then stored the proof without the checkpoint.
        let bare = with(&bundle, &proof, |proof| {
            let mut proof = proof.clone();
            proof.as_object_mut().unwrap().remove("checkpoint");
            proof
        });
        let promised = bundle.pointer(&format!("{ENTRY}/inclusionPromise")).is_some();
        let verdict = world.verify(&bare);
        assert_eq!(verdict.is_ok(), promised, "{}: {verdict:?}", shape.name);
    }
}

#[test]
fn a_bundle_says_which_digests_of_the_artifact_it_needs() {
    let world = World::new();
    let hashes =
        |bundle: &Value| Bundle::parse(bundle.to_string().as_bytes()).unwrap().artifact_hashes();
    let (sha256, sha512) = (HashAlgorithm::Sha256, HashAlgorithm::Sha512);
    assert_eq!(hashes(&world.make(&Shape::ALL[0])), [sha256]);
    let statement = Shape::ALL.iter().find(|shape| shape.name.contains("statement")).unwrap();
    let bundle = world.make(statement);
    let subjects = |digest: Value| {
        let statement = json!({ "_type": "https://in-toto.io/Statement/v1", "predicate": {},
            "predicateType": "https://example.test/", "subject": [{ "digest": digest }] });
        let payload = base64(statement.to_string().as_bytes());
        hashes(&with(&bundle, "/dsseEnvelope/payload", |_| payload.clone().into()))
    };
    let hex = |hash: HashAlgorithm| countersign_verify::encoding::hex(&hash.digest(ARTIFACT));
    assert_eq!(subjects(json!({ "sha512": hex(sha512) })), [sha512]);
    let both = json!({ "sha512": hex(sha512), "sha256": hex(sha256) });
    assert_eq!(subjects(both), [sha256, sha512]);
    assert_eq!(subjects(json!({ "gitCommit": "00" })), [sha256], "as good as any");
}

/// What can be told before anything is signed.
#[test]
fn a_certificate_is_verified_alone() {
    let (world, other) = (World::new(), World::new());
    let check = |root: &TrustedRoot, receipts: Vec<Receipt>, hours: i64| {
        let signer = world.instance.certify_with(URI, ISSUER, |leaf| leaf.receipts = receipts);
        let certificate = Certificate::parse(signer.certificate()).unwrap();
        let time = certificate.not_before() + jiff::SignedDuration::from_hours(hours);
        let verdict = Verifier::new(root).certificate(&certificate, time);
        verdict.map_err(|error| error.code())
    };
    let genuine = vec![Receipt::Genuine];
    assert_eq!(check(&world.root, genuine.clone(), 0), Ok(()));
    assert_eq!(check(&world.root, genuine.clone(), 1), Err("CERTIFICATE_NOT_VALID_THEN"));
    assert_eq!(check(&other.root, genuine, 0), Err("CERTIFICATE_AUTHORITY_UNKNOWN"));
    assert_eq!(check(&world.root, vec![], 0), Err("SCT_MISSING"));
    assert_eq!(check(&world.root, vec![Receipt::OtherLog], 0), Err("CERTIFICATE_LOG_UNKNOWN"));
    assert_eq!(check(&world.root, vec![Receipt::Forged], 0), Err("SCT_INVALID"));
}

#[test]
fn several_roots_stand_each_alone() {
    let (world, other) = (World::new(), World::new());
    let artifact = Artifact::from_bytes(ARTIFACT);
    let json = world.make(&Shape::ALL[0]).to_string();
    let verify = |roots: &[TrustedRoot]| {
        Verifier::any_of(roots).verify_json(json.as_bytes(), &artifact).into_result()
    };
    let roots = [other.root.clone(), world.root.clone()];
    assert_eq!(verify(&roots).unwrap().root(), 1);
    assert_eq!(verify(&roots[..1]).unwrap_err().code(), "TIMESTAMP_AUTHORITY_UNKNOWN");
    assert_eq!(verify(&[]).unwrap_err(), Error::NoRoot);
    // The log of one and the authorities of the other are no instance.
    let read =
        |world: &World| -> Value { serde_json::from_str(&world.instance.trusted_root()).unwrap() };
    let (mut half, mut rest) = (read(&world), read(&other));
    std::mem::swap(&mut half["tlogs"], &mut rest["tlogs"]);
    let parse = |root: &Value| TrustedRoot::parse(root.to_string().as_bytes()).unwrap();
    let refused = verify(&[parse(&half), parse(&rest)]).unwrap_err();
    assert_eq!(refused.code(), "LOG_UNKNOWN", "the report of the root that came furthest");
    // Of two that came as far, the first.
    let mut double = read(&other);
    let authorities = double["timestampAuthorities"].as_array_mut().unwrap();
    authorities.push(read(&World::new())["timestampAuthorities"][0].clone());
    let [one, two] = [&read(&other), &double].map(parse);
    for (roots, expected) in [([one.clone(), two.clone()], 1), ([two, one], 2)] {
        let refused = verify(&roots).unwrap_err();
        assert!(
            matches!(refused, Error::UnknownTimestampAuthority { known, .. } if known == expected)
        );
    }
    let verified = verify(&[world.root.clone(), other.root]).unwrap();
    assert_eq!(verified.root(), 0);
}

#[test]
fn a_digest_by_another_hash_than_the_keys_is_told_as_such() {
    let world = World::new();
    let digest = base64(&HashAlgorithm::Sha512.digest(ARTIFACT));
    let digest = json!({ "algorithm": "SHA2_512", "digest": digest });
    let bundle = world.make(&Shape::ALL[0]);
    let altered = with(&bundle, "/messageSignature/messageDigest", |_| digest.clone());
    let (expected, found) = (HashAlgorithm::Sha256, HashAlgorithm::Sha512);
    assert_eq!(world.verify(&altered).unwrap_err(), Error::DigestHash { expected, found });
}

/// What a log's word is about comes before when it was given, and whether it is read at all before whether it counts.
#[test]
fn the_reason_is_what_is_wrong_and_not_what_follows_from_it() {
    let world = World::new();
    let bundle = world.make(shape("0.3 message, Rekor v1"));
    let named = |kind: &str, version: &str| {
        let named = json!({ "kind": kind, "version": version });
        world
            .verify(&with(&bundle, &format!("{ENTRY}/kindVersion"), |_| named.clone()))
            .unwrap_err()
    };
    for (kind, version) in [("intoto", "0.0.3"), ("helm", "0.0.1"), ("dsse", "9.9.9")] {
        let found = format!("{kind} {version}");
        assert_eq!(named(kind, version), Error::EntryKind { found });
    }
    assert_eq!(named("hashedrekord", "0.0.2"), Error::UnsignedTime { place: 0 });
    let (member, found) = ("kind", "hashedrekord 0.0.1".to_owned());
    let expected = "dsse 0.0.1".to_owned();
    assert_eq!(named("dsse", "0.0.1"), Error::OtherEntry { member, expected, found });

    // Another's entry, of another hour.
    let other = world.instance.make(&world.signer, b"another", shape("0.3 message, Rekor v1"));
    let body = other.pointer(&format!("{ENTRY}/canonicalizedBody")).unwrap().as_str().unwrap();
    let entry = world.instance.log_v1_with(from_base64(body).unwrap(), |head| {
        head.integrated += 24 * 60 * 60;
    });
    let json = with_entry(&bundle, &entry).to_string();
    let report =
        Verifier::new(&world.root).verify_json(json.as_bytes(), &Artifact::from_bytes(ARTIFACT));
    let outcome = |check: Check| {
        let found = report.checks().iter().find(|(other, _)| *other == check);
        found.map(|(_, outcome)| outcome.clone()).unwrap()
    };
    assert!(matches!(outcome(Check::Timestamp), Outcome::Pass(_)));
    assert_eq!(outcome(Check::Certificate), Outcome::NotReached);
    assert!(matches!(outcome(Check::Entry), Outcome::Fail(_)));
    assert_eq!(report.checks().len(), Check::ALL.len());
    let refused = report.into_result().unwrap_err();
    assert!(matches!(refused, Error::OtherEntry { member: "digest", .. }), "{refused}");
}

#[test]
fn what_people_take_for_a_bundle_is_told_as_what_it_is() {
    let world = World::new();
    let envelope =
        world.make(shape("0.3 statement, Rekor v2")).pointer("/dsseEnvelope").unwrap().clone();
    for (file, found) in [
        (envelope.to_string(), "a DSSE envelope alone"),
        (json!({ "attestations": [] }).to_string(), "a registry's list"),
        (json!({ "predicateType": "p", "bundle": {} }).to_string(), "one of a registry's"),
        (
            json!({ "version": 1, "verification_material": {}, "envelope": {} }).to_string(),
            "PEP 740",
        ),
        ("-----BEGIN CERTIFICATE-----\n".to_owned(), "PEM"),
    ] {
        let refused = Bundle::parse(file.as_bytes()).unwrap_err();
        assert!(
            matches!(refused, countersign_verify::bundle::Error::OtherFile { .. }),
            "{refused}"
        );
        assert!(refused.to_string().contains(found), "{refused}");
    }
}
