//! Every generation and kind of bundle: accepted as it is, and refused for the very reason when one thing
//! about it is wrong.

mod choices;
mod keys;
mod unusual;
mod world;

use countersign_testkit::Shape;
use countersign_verify::bundle::{Bundle, Content};
use countersign_verify::encoding::{base64, from_base64, hex};
use countersign_verify::entry::{Kind, Verifier};
use countersign_verify::key::HashAlgorithm;
use countersign_verify::verify::TrustedTime;
use serde_json::{Value, json};
use world::{ARTIFACT, ENTRY, ISSUER, URI, World, flipped, with, with_entry};

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

/// The bundle with an entry, promised and proven as it must be, whose body has other texts in place of some; `None`
/// where it has none of them.
fn logged_otherwise(
    world: &World,
    shape: &Shape,
    bundle: &Value,
    texts: &[(String, String)],
) -> Option<Value> {
    let path = match shape.is_legacy() {
        true => "/rekorBundle/Payload/body".to_owned(),
        false => format!("{ENTRY}/canonicalizedBody"),
    };
    let body = from_base64(bundle.pointer(&path).unwrap().as_str().unwrap()).unwrap();
    let body = String::from_utf8(body).unwrap();
    let forged = texts.iter().fold(body.clone(), |body, (own, other)| body.replace(own, other));
    if forged == body {
        return None;
    }
    let (kind, version) = shape.entries[0];
    let mut entry = match Kind::named(kind, version).unwrap().is_v1() {
        true => world.instance.log_v1_as(kind, version, forged.into_bytes()),
        false => world.instance.log(forged.into_bytes()),
    };
    if !shape.promise {
        (entry.promise, entry.integrated_time) = (None, 0);
    }
    if !shape.proof {
        entry.proof = None;
    }
    Some(match shape.is_legacy() {
        true => with(bundle, "/rekorBundle", |_| {
            json!({ "SignedEntryTimestamp": base64(entry.promise.as_ref().unwrap()), "Payload": {
                "body": base64(&entry.body), "integratedTime": entry.integrated_time,
                "logIndex": entry.log_index, "logID": hex(&entry.log_id) } })
        }),
        false => with_entry(bundle, &entry),
    })
}

/// The entry of this very signature that names another certificate, of the same identity, or another payload.
#[test]
fn every_kind_is_refused_with_an_entry_of_this_signature_by_or_over_another() {
    let world = World::new();
    let other = world.instance.certify(URI, ISSUER);
    let texts = |der: &[u8]| [base64(Verifier::Certificate(der).to_pem().as_bytes()), base64(der)];
    let (own, others) = (texts(world.signer.certificate()), texts(other.certificate()));
    let certificates: Vec<_> = own.into_iter().zip(others).collect();
    let mut over = 0;
    for shape in &Shape::ALL {
        let bundle = world.make(shape);
        let forged = logged_otherwise(&world, shape, &bundle, &certificates);
        let forged = forged.unwrap_or_else(|| panic!("{} names no certificate", shape.name));
        assert_eq!(world.code(&forged), "LOG_ENTRY_MISMATCH", "{}", shape.name);

        let read = Bundle::parse(bundle.to_string().as_bytes()).unwrap();
        let Content::Dsse(envelope) = read.content() else { continue };
        let [own, others] = [&envelope.payload[..], b"another"]
            .map(|payload| HashAlgorithm::Sha256.digest(payload));
        let hashes = [(hex(&own), hex(&others)), (base64(&own), base64(&others))];
        let Some(forged) = logged_otherwise(&world, shape, &bundle, &hashes) else { continue };
        assert_eq!(world.code(&forged), "LOG_ENTRY_MISMATCH", "{}", shape.name);
        over += 1;
    }
    assert_eq!(over, 8, "all whose entry has the payload's hash");
}

/// Logs may keep the payload in the entry, base64 twice over.
#[test]
fn an_intoto_entry_with_a_payload_has_this_one() {
    let world = World::new();
    let shape = world::shape("0.3 statement, intoto of Rekor v1");
    let bundle = world.make(shape);
    let payload = bundle.pointer("/dsseEnvelope/payload").unwrap().as_str().unwrap();
    let with_payload = |payload: &str| {
        let member = format!("\"envelope\":{{\"payload\":\"{}\",", base64(payload.as_bytes()));
        let texts = [("\"envelope\":{".to_owned(), member)];
        logged_otherwise(&world, shape, &bundle, &texts).unwrap()
    };
    assert!(world.verify(&with_payload(payload)).is_ok());
    for other in ["", "AAAA", &payload.replacen('e', "f", 1), &format!("{payload}AAAA")] {
        assert_eq!(world.code(&with_payload(other)), "LOG_ENTRY_MISMATCH", "{other}");
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
