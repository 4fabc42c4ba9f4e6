//! Managed keys and keys in certificates, of every algorithm; entries about one are none about the other.

use crate::world::{ARTIFACT, ENTRY, World, shape, with, with_entry};
use countersign_testkit::{Shape, Signer};
use countersign_verify::bundle::Content;
use countersign_verify::entry::{self, hashedrekord_v1_body};
use countersign_verify::key::{HashAlgorithm, KeyDetails, PublicKey};
use countersign_verify::{Artifact, Bundle, Error, Verifier};

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
