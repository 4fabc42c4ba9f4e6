//! Every generation and kind of bundle: accepted as it is, and refused for the very reason when one thing
//! about it is wrong.

use countersign_testkit::{Instance, Receipt, Shape, Signer};
use countersign_verify::bundle::{Content, LogEntry};
use countersign_verify::certificate::Certificate;
use countersign_verify::encoding::{base64, from_base64};
use countersign_verify::entry::{self, hashedrekord_v1_body};
use countersign_verify::key::{HashAlgorithm, KeyDetails, PublicKey};
use countersign_verify::timestamp;
use countersign_verify::verify::TrustedTime;
use countersign_verify::{
    Artifact, Bundle, Check, Error, Outcome, Thresholds, TrustedRoot, Verified, Verifier,
};
use serde_json::{Value, json};

const ARTIFACT: &[u8] = b"artifact";
const URI: &str = "https://git.example.test/acme";
const ISSUER: &str = "https://issuer.example.test";
const ENTRY: &str = "/verificationMaterial/tlogEntries/0";

struct World {
    instance: Instance,
    root: TrustedRoot,
    signer: Signer,
}

impl World {
    fn new() -> Self {
        let instance = Instance::new();
        let root = TrustedRoot::parse(instance.trusted_root().as_bytes()).unwrap();
        let signer = instance.certify(URI, ISSUER);
        Self { instance, root, signer }
    }

    fn make(&self, shape: &Shape) -> Value {
        self.instance.make(&self.signer, ARTIFACT, shape)
    }

    fn with_receipts(&self, receipts: Vec<Receipt>) -> Value {
        let signer = self.instance.certify_with(URI, ISSUER, |leaf| leaf.receipts = receipts);
        self.instance.make(&signer, ARTIFACT, &Shape::ALL[0])
    }

    fn verify(&self, bundle: &Value) -> Result<Verified, Error> {
        self.verify_as(bundle, ARTIFACT)
    }

    fn verify_as(&self, bundle: &Value, artifact: &[u8]) -> Result<Verified, Error> {
        let artifact = Artifact::from_bytes(artifact);
        Verifier::new(&self.root)
            .verify_json(bundle.to_string().as_bytes(), &artifact)
            .into_result()
    }

    fn code(&self, bundle: &Value) -> &'static str {
        self.verify(bundle).expect_err("refused").code()
    }
}

fn shape(name: &str) -> &'static Shape {
    Shape::ALL.iter().find(|shape| shape.name == name).unwrap()
}

/// The bundle with its first entry replaced by another of the same kind.
fn with_entry(bundle: &Value, entry: &LogEntry) -> Value {
    let kind = bundle.pointer(&format!("{ENTRY}/kindVersion")).unwrap().clone();
    let mut entry: Value = serde_json::from_str(&entry.to_json()).unwrap();
    entry["kindVersion"] = kind;
    with(bundle, ENTRY, |_| entry.clone())
}

/// The bundle with one member changed.
fn with(bundle: &Value, path: &str, change: impl Fn(&Value) -> Value) -> Value {
    let mut bundle = bundle.clone();
    let member = bundle.pointer_mut(path).unwrap_or_else(|| panic!("no {path}"));
    *member = change(member);
    bundle
}

fn flipped(value: &Value) -> Value {
    let mut bytes = from_base64(value.as_str().unwrap()).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    base64(&bytes).into()
}

#[test]
fn every_kind_is_accepted() {
    let world = World::new();
    for shape in &Shape::ALL {
        let verified = world.verify(&world.make(shape));
        let verified = verified.unwrap_or_else(|error| panic!("{}: {error}", shape.name));
        let identity = verified.identity().expect("a certificate");
        assert_eq!(identity.subject().as_str(), URI, "{}", shape.name);
        assert_eq!(verified.entries().len(), shape.entries.len(), "{}", shape.name);
        let certificate = verified.certificate().expect("a certificate");
        assert_eq!(certificate.der(), world.signer.certificate(), "{}", shape.name);
        let known = |time: &TrustedTime| time.time == world.instance.stamped();
        assert!(
            !verified.times().is_empty() && verified.times().iter().all(known),
            "{}",
            shape.name
        );
        let digest = HashAlgorithm::Sha256.digest(ARTIFACT);
        assert_eq!(verified.artifact(), (HashAlgorithm::Sha256, &digest[..]), "{}", shape.name);
        assert_eq!(verified.statement().is_some(), shape.statement.is_some(), "{}", shape.name);
    }
}

#[test]
fn every_kind_is_refused_for_another_artifact() {
    let world = World::new();
    for shape in &Shape::ALL {
        let error = world.verify_as(&world.make(shape), b"another").expect_err(shape.name);
        let expected = match shape.statement {
            Some(_) => "ARTIFACT_NOT_A_SUBJECT",
            None => "ARTIFACT_MISMATCH",
        };
        assert_eq!(error.code(), expected, "{}", shape.name);
    }
}

#[test]
fn every_kind_is_refused_at_another_instance() {
    let (world, other) = (World::new(), World::new());
    for shape in &Shape::ALL {
        let expected = match shape.timestamp {
            Some(_) => "TIMESTAMP_AUTHORITY_UNKNOWN",
            None => "LOG_UNKNOWN",
        };
        assert_eq!(other.code(&world.make(shape)), expected, "{}", shape.name);
    }
}

#[test]
fn every_kind_is_refused_with_the_signature_of_other_bytes() {
    let world = World::new();
    for shape in &Shape::ALL {
        let (bundle, other) = (world.make(shape), world.make(shape));
        let path = match (shape.is_legacy(), shape.statement) {
            (true, None) => "/base64Signature",
            (true, Some(_)) => continue, // the whole envelope stands there; see below
            (false, None) => "/messageSignature/signature",
            (false, Some(_)) => "/dsseEnvelope/signatures/0/sig",
        };
        let forged = with(&bundle, path, |_| base64(&world.signer.sign(b"other bytes")).into());
        assert_eq!(world.code(&forged), "SIGNATURE_INVALID", "{}", shape.name);
        // Another signature by the same key over the same bytes is not the one that was logged.
        let other = with(&bundle, path, |_| other.pointer(path).unwrap().clone());
        let expected = match shape.timestamp {
            Some(_) => "TIMESTAMP_INVALID",
            None => "LOG_ENTRY_MISMATCH",
        };
        assert_eq!(world.code(&other), expected, "{}", shape.name);
    }
}

#[test]
fn every_kind_is_refused_with_the_certificate_of_another_signer() {
    let world = World::new();
    let other =
        world.instance.certify("https://git.example.test/evil", "https://issuer.example.test");
    for shape in &Shape::ALL {
        let bundle = world.make(shape);
        let foreign = world.instance.make(&other, ARTIFACT, shape);
        let path = match (shape.is_legacy(), bundle.pointer("/verificationMaterial/certificate")) {
            (true, _) => "/cert",
            (false, Some(_)) => "/verificationMaterial/certificate",
            (false, None) => "/verificationMaterial/x509CertificateChain",
        };
        let forged = with(&bundle, path, |_| foreign.pointer(path).unwrap().clone());
        assert_eq!(world.code(&forged), "SIGNATURE_INVALID", "{}", shape.name);
    }
}

/// The entry of another signature, with everything about it in order, proves nothing of this one.
#[test]
fn every_kind_is_refused_with_the_log_entry_of_another_signature() {
    let world = World::new();
    for shape in &Shape::ALL {
        let (bundle, other) = (world.make(shape), world.make(shape));
        let path = if shape.is_legacy() { "/rekorBundle" } else { ENTRY };
        let forged = with(&bundle, path, |_| other.pointer(path).unwrap().clone());
        assert_eq!(world.code(&forged), "LOG_ENTRY_MISMATCH", "{}", shape.name);
    }
}

#[test]
fn every_promise_is_refused_once_it_says_something_else() {
    let world = World::new();
    for shape in Shape::ALL.iter().filter(|shape| shape.promise) {
        let bundle = world.make(shape);
        let (promise, time, index) = if shape.is_legacy() {
            let payload = "/rekorBundle/Payload";
            let [time, index] =
                ["integratedTime", "logIndex"].map(|name| format!("{payload}/{name}"));
            ("/rekorBundle/SignedEntryTimestamp".to_owned(), time, index)
        } else {
            let promise = format!("{ENTRY}/inclusionPromise/signedEntryTimestamp");
            (promise, format!("{ENTRY}/integratedTime"), format!("{ENTRY}/logIndex"))
        };
        let later = |value: &Value| match value {
            Value::String(text) => (text.parse::<i64>().unwrap() + 1).to_string().into(),
            number => (number.as_i64().unwrap() + 1).into(),
        };
        for forged in [
            with(&bundle, &promise, flipped),
            with(&bundle, &time, later),
            with(&bundle, &index, later),
        ] {
            assert_eq!(world.code(&forged), "LOG_PROMISE_INVALID", "{}", shape.name);
        }
    }
}

#[test]
fn every_proof_is_refused_once_it_leads_elsewhere() {
    let world = World::new();
    for shape in Shape::ALL.iter().filter(|shape| shape.proof) {
        let bundle = world.make(shape);
        let path = |member: &str| format!("{ENTRY}/inclusionProof/{member}");
        let index = with(&bundle, &path("logIndex"), |_| "1".into());
        for (forged, expected) in [
            (with(&bundle, &path("hashes/0"), flipped), "INCLUSION_INVALID"),
            (with(&bundle, &path("hashes"), |_| json!([])), "INCLUSION_INVALID"),
            (with(&bundle, &path("rootHash"), flipped), "INCLUSION_INVALID"),
            (with(&bundle, &path("treeSize"), |_| "4".into()), "INCLUSION_INVALID"),
            (index, "INCLUSION_INVALID"),
            (
                with(&bundle, &path("checkpoint/envelope"), |text| {
                    text.as_str().unwrap().replace("\n3\n", "\n4\n").into()
                }),
                "CHECKPOINT_INVALID",
            ),
        ] {
            assert_eq!(world.code(&forged), expected, "{}", shape.name);
        }
    }
}

#[test]
fn every_generation_needs_what_it_promises() {
    let world = World::new();
    for shape in Shape::ALL.iter().filter(|shape| !shape.is_legacy()) {
        let bundle = world.make(shape);
        let without = |member: &str| {
            with(&bundle, ENTRY, |entry| {
                let mut entry = entry.clone();
                entry.as_object_mut().unwrap().remove(member);
                entry
            })
        };
        if shape.media_type.ends_with("version=0.1") {
            assert_eq!(
                world.code(&without("inclusionPromise")),
                "BUNDLE_MALFORMED",
                "{}",
                shape.name
            );
        } else {
            assert_eq!(
                world.code(&without("inclusionProof")),
                "BUNDLE_MALFORMED",
                "{}",
                shape.name
            );
        }
        for wrong in
            ["application/vnd.dev.sigstore.bundle+json;version=0.4", "", "application/json"]
        {
            let other = with(&bundle, "/mediaType", |_| wrong.into());
            assert_eq!(world.code(&other), "BUNDLE_MALFORMED", "{} as {wrong:?}", shape.name);
        }
    }
}

#[test]
fn no_trust_anchor_is_taken_from_a_bundle() {
    let world = World::new();
    for shape in &Shape::ALL {
        let bundle = world.make(shape);
        if bundle.pointer("/verificationMaterial/x509CertificateChain").is_none() {
            continue;
        }
        let root = json!({ "rawBytes": base64(&world.instance.root_certificate()) });
        let forged =
            with(&bundle, "/verificationMaterial/x509CertificateChain/certificates", |chain| {
                [chain.as_array().unwrap().as_slice(), std::slice::from_ref(&root)].concat().into()
            });
        assert_eq!(world.code(&forged), "CERTIFICATE_CHAIN", "{}", shape.name);
    }
}

/// Kinds of keys, and whether they sign digests; the others have no place in a hashedrekord.
const KEYS: [(KeyDetails, bool); 12] = {
    use KeyDetails as D;
    [
        (D::EcdsaP256Sha256, true),
        (D::EcdsaP384Sha384, true),
        (D::EcdsaP384Sha256, true),
        (D::EcdsaP521Sha512, true),
        (D::EcdsaP521Sha256, true),
        (D::Rsa2048Sha256, true),
        (D::RsaPss2048Sha256, true),
        (D::Rsa3072Sha256, true),
        (D::Ed25519, false),
        (D::Ed25519Ph, true),
        (D::MlDsa44, false),
        (D::MlDsa65, false),
    ]
};

fn fits(shape: &Shape, digests: bool) -> bool {
    let whole = shape.statement.is_some()
        && shape.entries.iter().all(|(kind, _)| *kind != "hashedrekord")
        && shape.entries.iter().all(|&entry| entry != ("dsse", "0.0.2"));
    digests || whole
}

#[test]
fn every_kind_is_accepted_with_a_managed_key_of_every_algorithm() {
    let world = World::new();
    for (details, digests) in KEYS {
        let signer = Signer::with_key(details);
        let other = Signer::with_key(details);
        let [key, other] =
            [&signer, &other].map(|signer| PublicKey::from_spki(&signer.spki()).unwrap());
        for shape in Shape::ALL.iter().filter(|shape| fits(shape, digests)) {
            let name = format!("{} with {}", shape.name, details.name());
            let bundle = world.instance.make(&signer, ARTIFACT, shape);
            let json = bundle.to_string();
            let artifact = Artifact::from_bytes(ARTIFACT);
            let verify = |verifier: Verifier<'_>| {
                verifier.verify_json(json.as_bytes(), &artifact).into_result()
            };
            let verifier = Verifier::new(&world.root);
            let verified =
                verify(verifier.with_key(&key)).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(verified.identity().is_none(), "{name}");
            let refused = verify(verifier.with_key(&other)).expect_err(&name);
            assert_eq!(refused.code(), "SIGNATURE_INVALID", "{name}");
            // Clients sign messages with such keys in another way, which the reason tells of.
            let whole = key.schemes().iter().any(|scheme| scheme.hash().is_none());
            let told = matches!(refused, Error::SignatureOverDigest { .. });
            assert_eq!(told, whole && shape.statement.is_none(), "{name}");
            assert_eq!(verify(verifier).expect_err(&name).code(), "KEY_NEEDED", "{name}");
        }
    }
}

#[test]
fn a_key_given_for_a_certificate_is_refused() {
    let world = World::new();
    let key = PublicKey::from_spki(&world.signer.spki()).unwrap();
    for shape in &Shape::ALL {
        let json = world.make(shape).to_string();
        let verifier = Verifier::new(&world.root).with_key(&key);
        let refused = verifier.verify_json(json.as_bytes(), &Artifact::from_bytes(ARTIFACT));
        assert_eq!(
            refused.into_result().unwrap_err().code(),
            "CERTIFICATE_NOT_EXPECTED",
            "{}",
            shape.name
        );
    }
}

#[test]
fn certificates_of_every_kind_of_key_are_accepted() {
    let mut world = World::new();
    for (details, digests) in KEYS {
        let known = !matches!(details, KeyDetails::MlDsa44 | KeyDetails::MlDsa65);
        if !known {
            continue; // no authority certifies them
        }
        world.signer =
            world.instance.certify_key("https://git.example.test/a", "https://i", details);
        for shape in Shape::ALL.iter().filter(|shape| fits(shape, digests)) {
            let verdict = world.verify(&world.make(shape));
            assert!(verdict.is_ok(), "{} with {}: {verdict:?}", shape.name, details.name());
        }
    }
}

#[test]
fn an_entry_of_a_key_does_not_pass_for_one_of_a_certificate_nor_the_reverse() {
    let world = World::new();
    let managed = Signer::with_key(KeyDetails::EcdsaP256Sha256);
    let key = PublicKey::from_spki(&managed.spki()).unwrap();
    for shape in Shape::ALL.iter().filter(|shape| !shape.is_legacy()) {
        let entries = "/verificationMaterial/tlogEntries";
        let bundle = world.instance.make(&managed, ARTIFACT, shape);
        let foreign = world.make(shape);
        let forged = with(&bundle, entries, |_| foreign.pointer(entries).unwrap().clone());
        let json = forged.to_string();
        let verifier = Verifier::new(&world.root).with_key(&key);
        let refused = verifier.verify_json(json.as_bytes(), &Artifact::from_bytes(ARTIFACT));
        assert_eq!(
            refused.into_result().unwrap_err().code(),
            "LOG_ENTRY_MISMATCH",
            "{}",
            shape.name
        );
        let forged = with(&foreign, entries, |_| bundle.pointer(entries).unwrap().clone());
        assert_eq!(world.code(&forged), "LOG_ENTRY_MISMATCH", "{}", shape.name);
    }
}

/// An attestation may be logged by a digest: that of its signed bytes and no other.
#[test]
fn a_hashedrekord_of_an_attestation_is_about_the_bytes_signed() {
    let world = World::new();
    let bundle = world.make(shape("0.3 statement, hashedrekord of Rekor v1"));
    let read = Bundle::parse(bundle.to_string().as_bytes()).unwrap();
    let Content::Dsse(envelope) = read.content() else { panic!("an attestation") };
    let sha256 = |bytes: &[u8]| HashAlgorithm::Sha256.digest(bytes);
    let (pae, signature) = (envelope.pae(), &envelope.signature[..]);
    let other = world.instance.certify("https://git.example.test/b", "https://issuer.example.test");
    let (own, foreign) = (world.signer.certificate(), other.certificate());
    let (key, again) = (world.signer.spki(), world.signer.sign(&pae));
    let other_type = countersign_verify::dsse::pae("text/plain", &envelope.payload);
    use entry::Verifier::{Certificate, PublicKey};
    for (digest, signature, verifier, refused) in [
        (sha256(&pae), signature, Certificate(own), None),
        (sha256(&envelope.payload), signature, Certificate(own), Some("digest")),
        (sha256(&other_type), signature, Certificate(own), Some("digest")),
        (sha256(ARTIFACT), signature, Certificate(own), Some("digest")),
        (sha256(&pae), &again, Certificate(own), Some("signature")),
        (sha256(&pae), signature, Certificate(foreign), Some("certificate or key")),
        (sha256(&pae), signature, PublicKey(&key), Some("certificate or key")),
    ] {
        let body = hashedrekord_v1_body(HashAlgorithm::Sha256, &digest, signature, verifier);
        let verdict = world.verify(&with_entry(&bundle, &world.instance.log_v1(body)));
        match (verdict, refused) {
            (Ok(_), None) => {}
            (Err(Error::OtherEntry { member, .. }), Some(expected)) => {
                assert_eq!(member, expected);
            }
            (verdict, _) => panic!("expected {refused:?}, found {verdict:?}"),
        }
    }
    // The reverse, an entry about an envelope beside a signature over the artifact, is nothing.
    let message = world.make(shape("0.3 message, Rekor v1"));
    let entry = world.make(shape("0.3 statement, dsse of Rekor v1")).pointer(ENTRY).cloned();
    let mixed = with(&message, ENTRY, |_| entry.clone().unwrap());
    assert_eq!(world.verify(&mixed).unwrap_err(), Error::EntryForOtherContent);
}

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
        assert!(matches!(refused, Error::UnknownTimestampAuthority { known } if known == expected));
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
