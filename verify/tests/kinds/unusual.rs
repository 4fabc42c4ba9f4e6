//! What other clients fail on, or did: unusual and right, or strict where a reader could be lax.

use crate::world::{ARTIFACT, ENTRY, World, with};
use countersign_testkit::{Shape, Signer};
use countersign_verify::bundle::Content;
use countersign_verify::encoding::{base64, from_base64};
use countersign_verify::key::{KeyDetails, PublicKey};
use countersign_verify::timestamp;
use countersign_verify::{Artifact, Error, Thresholds, Verifier};
use serde_json::{Value, json};

/// Other clients fail on some of these, or did.
#[test]
fn what_is_unusual_and_right_is_accepted() {
    let world = World::new();
    let bundle = world.make(&Shape::ALL[0]);
    let envelope = format!("{ENTRY}/inclusionProof/checkpoint/envelope");
    let witness = "\u{2014} witness.example.test AAAAAAAAAAAAAAAAAAAAAAAA\n";
    let text = bundle.pointer(&envelope).unwrap().as_str().unwrap();
    let (body, own) = text.split_once("\n\n").unwrap();
    let name = own.split(' ').nth(1).unwrap();
    let broken = format!("\u{2014} {name} AAAAAAAAAAAAAAAAAAAAAAAA\n");
    for lines in [
        format!("{own}{witness}"),
        format!("{witness}{own}"),
        format!("{witness}{broken}{own}{witness}"),
    ] {
        let altered = with(&bundle, &envelope, |_| format!("{body}\n\n{lines}").into());
        world.verify(&altered).unwrap_or_else(|error| panic!("{lines}: {error}"));
    }
    for lines in [witness, &broken] {
        let altered = with(&bundle, &envelope, |_| format!("{body}\n\n{lines}").into());
        assert_eq!(world.code(&altered), "CHECKPOINT_INVALID", "{lines}");
    }
    // Several timestamps, one of them by nobody known.
    let other = World::new();
    let signature = from_base64(bundle["messageSignature"]["signature"].as_str().unwrap()).unwrap();
    let foreign = json!({ "signedTimestamp": base64(&other.instance.timestamp(&signature)) });
    let list = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps";
    let two = with(&bundle, list, |list| {
        [std::slice::from_ref(&foreign), list.as_array().unwrap().as_slice()].concat().into()
    });
    world.verify(&two).unwrap();
    let alone = with(&bundle, list, |_| json!([foreign]));
    assert_eq!(world.code(&alone), "TIMESTAMP_AUTHORITY_UNKNOWN");
}

/// Of authorities other than ours.
#[test]
fn a_timestamp_may_carry_extensions_and_revocations() {
    let world = World::new();
    let bundle = world.make(&Shape::ALL[0]);
    let signature = from_base64(bundle["messageSignature"]["signature"].as_str().unwrap()).unwrap();
    let path =
        "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp";
    let verify = |extension, revocations, certificates| {
        let stamp = world.instance.stamp(&signature, |stamp| {
            (stamp.extension, stamp.revocations) = (extension, revocations);
            stamp.certificates = certificates;
        });
        world.verify(&with(&bundle, path, |_| base64(&stamp).into())).map(drop)
    };
    for (extension, revocations) in [(Some(false), false), (None, true), (Some(false), true)] {
        verify(extension, revocations, false).unwrap();
        verify(extension, revocations, true).unwrap();
        let refused = verify(Some(true), revocations, true).unwrap_err();
        let critical = matches!(
            refused,
            Error::Timestamp { reason: timestamp::Error::CriticalExtension { .. }, .. }
        );
        assert!(critical, "{refused}");
    }
}

#[test]
fn every_trusted_time_must_be_within_the_certificate() {
    let world = World::new();
    let (bundle, now) = (world.make(&Shape::ALL[0]), world.instance.now);
    let signature = from_base64(bundle["messageSignature"]["signature"].as_str().unwrap()).unwrap();
    let list = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps";
    let stamped = |seconds: &[i64]| {
        let each = seconds.iter().map(|seconds| {
            let time = now + jiff::SignedDuration::from_secs(*seconds);
            json!({ "signedTimestamp": base64(&world.instance.timestamp_with(&signature, time, false)) })
        });
        with(&bundle, list, |_| each.clone().collect())
    };
    for (seconds, accepted) in [
        (&[0][..], true),
        (&[600], true),
        (&[0, 600], true),
        (&[601], false),
        (&[60, 601], false),
        (&[601, 60], false),
    ] {
        match world.verify(&stamped(seconds)) {
            Ok(_) => assert!(accepted, "{seconds:?}"),
            Err(error) => {
                assert_eq!(
                    (accepted, error.code()),
                    (false, "CERTIFICATE_NOT_VALID_THEN"),
                    "{seconds:?}"
                );
            }
        }
    }
}

#[test]
fn cosigns_own_bundle_is_read_strictly() {
    let world = World::new();
    let shape = Shape::ALL.iter().find(|shape| shape.is_legacy()).unwrap();
    let bundle = world.make(shape);
    let removed = |member: &str| {
        let mut bundle = bundle.clone();
        bundle.as_object_mut().unwrap().remove(member);
        bundle
    };
    assert_eq!(world.verify(&removed("rekorBundle")).unwrap_err(), Error::NoTimestamp);
    assert_eq!(world.code(&removed("cert")), "KEY_NEEDED");
    assert_eq!(world.code(&removed("base64Signature")), "BUNDLE_MALFORMED");
    for path in
        ["/base64Signature", "/cert", "/rekorBundle/Payload/body", "/rekorBundle/Payload/logID"]
    {
        for wrong in ["", "%", "AAAA"] {
            let code = world.code(&with(&bundle, path, |_| wrong.into()));
            let expected = match (path, wrong) {
                ("/cert", "") => "KEY_NEEDED",
                ("/base64Signature", "AAAA") => "SIGNATURE_INVALID",
                _ => "BUNDLE_MALFORMED",
            };
            assert_eq!(code, expected, "{path} as {wrong:?}");
        }
    }
    let surplus = with(&bundle, "", |bundle| {
        let mut bundle = bundle.clone();
        bundle["surplus"] = Value::Null;
        bundle
    });
    assert_eq!(world.code(&surplus), "BUNDLE_MALFORMED");
    let both = with(&bundle, "", |bundle| {
        let mut bundle = bundle.clone();
        bundle["mediaType"] = "application/vnd.dev.sigstore.bundle.v0.3+json".into();
        bundle
    });
    assert_eq!(world.code(&both), "BUNDLE_MALFORMED", "decided by mediaType, not by what parses");
}

/// `cosign sign-blob --key --tlog-upload=false --bundle`: a key's word alone, for those who ask for no other.
#[test]
fn cosigns_own_bundle_of_what_was_not_logged_needs_a_key_and_nobody_else() {
    let world = World::new();
    let [signer, other] = [(); 2].map(|()| Signer::with_key(KeyDetails::EcdsaP256Sha256));
    let [key, other] =
        [&signer, &other].map(|signer| PublicKey::from_spki(&signer.spki()).unwrap());
    for shape in Shape::ALL.iter().filter(|shape| shape.is_legacy()) {
        let mut bundle = world.instance.make(&signer, ARTIFACT, shape);
        bundle.as_object_mut().unwrap().remove("rekorBundle");
        let json = bundle.to_string();
        let verify = |key: &PublicKey, logs: usize, artifact: &[u8]| {
            let verifier = Verifier::new(&world.root).with_key(key);
            let verifier = verifier.with_thresholds(Thresholds { logs, ..Thresholds::KEY });
            let verdict = verifier.verify_json(json.as_bytes(), &Artifact::from_bytes(artifact));
            verdict.into_result().map(drop).map_err(|error| error.code())
        };
        let another = match shape.statement {
            Some(_) => "ARTIFACT_NOT_A_SUBJECT",
            None => "SIGNATURE_INVALID",
        };
        assert_eq!(verify(&key, 0, ARTIFACT), Ok(()), "{}", shape.name);
        assert_eq!(verify(&key, 1, ARTIFACT), Err("LOG_ENTRY_MISSING"), "{}", shape.name);
        assert_eq!(verify(&key, 0, b"another"), Err(another), "{}", shape.name);
        assert_eq!(verify(&other, 0, ARTIFACT), Err("SIGNATURE_INVALID"), "{}", shape.name);
    }
}

#[test]
fn a_statement_that_was_verified_is_in_memory_once() {
    let world = World::new();
    let bundle = world.instance.attest(&world.signer, ARTIFACT);
    let report = Verifier::new(&world.root).verify(&bundle, &Artifact::from_bytes(ARTIFACT));
    let Content::Dsse(envelope) = bundle.content() else { panic!("an attestation") };
    let kept = report.result().unwrap().payload().unwrap();
    assert!(std::ptr::eq(kept, envelope.payload.as_slice()), "it may have 100 MB");
}
