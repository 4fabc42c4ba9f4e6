//! Which algorithm each kind of key signs by, and no other; and the texts that keys come in.

use aws_lc_rs::digest::Digest;
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature as lc;
use aws_lc_rs::signature::{EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RsaKeyPair};
use const_oid::ObjectIdentifier;
use countersign_testkit::{SigningKey, tlv};
use countersign_verify::encoding::base64;
use countersign_verify::key::HashAlgorithm::{Sha256, Sha384, Sha512};
use countersign_verify::key::{Error, HashAlgorithm, KeyDetails, KeyKind, PublicKey};

const MESSAGE: &[u8] = b"what is signed";
const HASHES: [HashAlgorithm; 3] = [Sha256, Sha384, Sha512];

/// Signature algorithms of X.509 and CMS by the kind of key that signs so, and the hash; RFC 5758, RFC 4055, RFC 8410.
const ALGORITHMS: [(&str, &str, Option<HashAlgorithm>); 7] = [
    ("1.2.840.10045.4.3.2", "EC", Some(Sha256)),
    ("1.2.840.10045.4.3.3", "EC", Some(Sha384)),
    ("1.2.840.10045.4.3.4", "EC", Some(Sha512)),
    ("1.2.840.113549.1.1.11", "RSA", Some(Sha256)),
    ("1.2.840.113549.1.1.12", "RSA", Some(Sha384)),
    ("1.2.840.113549.1.1.13", "RSA", Some(Sha512)),
    ("1.3.101.112", "Ed25519", None),
];

/// With SHA-1, by RSASSA-PSS, and the identifiers of the keys themselves.
const OTHERS: [&str; 6] = [
    "1.2.840.10045.4.1",
    "1.2.840.113549.1.1.5",
    "1.2.840.113549.1.1.10",
    "1.2.840.10045.2.1",
    "1.2.840.113549.1.1.1",
    "2.16.840.1.101.3.4.3.17",
];

/// A key, and its signature with each hash that it signs; with no hash, over the message as it is.
struct Signed {
    family: &'static str,
    key: PublicKey,
    signatures: Vec<(Option<HashAlgorithm>, Vec<u8>)>,
}

/// The library signs with one hash on each curve. ECDSA takes a digest as a number of as many bits as the curve has
/// (FIPS 186-5, section 6.4.1), so other digests are cut, or begin with zeros.
fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm, own: HashAlgorithm) -> Signed {
    let pair = EcdsaKeyPair::generate(algorithm).unwrap();
    let sign = |hash: HashAlgorithm| {
        let (mut digest, length) = (hash.digest(MESSAGE), own.digest(b"").len());
        digest.truncate(length);
        digest.splice(..0, vec![0; length - digest.len()]);
        let algorithm = match own {
            Sha256 => &aws_lc_rs::digest::SHA256,
            Sha384 => &aws_lc_rs::digest::SHA384,
            Sha512 => &aws_lc_rs::digest::SHA512,
        };
        let digest = Digest::import_less_safe(&digest, algorithm).unwrap();
        (Some(hash), pair.sign_digest(&digest).unwrap().as_ref().to_vec())
    };
    let spki = pair.public_key().as_der().unwrap();
    let key = PublicKey::from_spki(spki.as_ref()).unwrap();
    Signed { family: "EC", key, signatures: HASHES.map(sign).into() }
}

fn rsa() -> (Signed, Vec<u8>) {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let encodings: [&'static dyn lc::RsaEncoding; 3] =
        [&lc::RSA_PKCS1_SHA256, &lc::RSA_PKCS1_SHA384, &lc::RSA_PKCS1_SHA512];
    let sign = |(hash, encoding)| {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), MESSAGE, &mut signature).unwrap();
        (Some(hash), signature)
    };
    let signatures = HASHES.into_iter().zip(encodings).map(sign).collect();
    let spki = pair.public_key().as_der().unwrap();
    let key = PublicKey::from_spki(spki.as_ref()).unwrap();
    // As the library shows a key of its own: RSAPublicKey of RFC 8017.
    let pkcs1 = pair.public_key().as_ref().to_vec();
    (Signed { family: "RSA", key, signatures }, pkcs1)
}

fn whole(details: KeyDetails, family: &'static str) -> Signed {
    let pair = SigningKey::generate(details);
    let key = PublicKey::from_spki(&pair.spki()).unwrap();
    Signed { family, key, signatures: vec![(None, pair.sign(MESSAGE))] }
}

#[test]
fn an_identifier_is_of_one_family_of_keys_and_one_hash() {
    for Signed { family, key, signatures } in [
        ecdsa(&lc::ECDSA_P256_SHA256_ASN1_SIGNING, Sha256),
        ecdsa(&lc::ECDSA_P384_SHA384_ASN1_SIGNING, Sha384),
        ecdsa(&lc::ECDSA_P521_SHA512_ASN1_SIGNING, Sha512),
        rsa().0,
        whole(KeyDetails::Ed25519, "Ed25519"),
        whole(KeyDetails::MlDsa44, "ML-DSA"),
    ] {
        let kind = key.kind();
        for (hash, signature) in &signatures {
            for (algorithm, of, by) in ALGORITHMS {
                let algorithm = ObjectIdentifier::new_unwrap(algorithm);
                let expected = match (of == family, by == *hash) {
                    (true, true) => Ok(()),
                    (true, false) => Err(Error::Signature { kind }),
                    (false, _) => Err(Error::Algorithm { algorithm }),
                };
                let found = key.verify_with_oid(algorithm, MESSAGE, signature);
                assert_eq!(found, expected, "{kind}, {hash:?}, {algorithm}");
                let other = key.verify_with_oid(algorithm, b"something else", signature);
                assert!(other.is_err(), "{kind}, {hash:?}, {algorithm}");
            }
            for algorithm in OTHERS.map(ObjectIdentifier::new_unwrap) {
                let refused = Err(Error::Algorithm { algorithm });
                assert_eq!(key.verify_with_oid(algorithm, MESSAGE, signature), refused, "{kind}");
            }
        }
    }
}

#[test]
fn a_key_comes_in_pem_of_either_form_alone() {
    let (Signed { key, .. }, pkcs1) = rsa();
    let pem = |label: &str, der: &[u8]| {
        let text = base64(der);
        let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    };
    let spki = pem("PUBLIC KEY", key.spki());
    assert_eq!(PublicKey::from_pem(&spki), Ok(key.clone()));
    assert_eq!(PublicKey::from_pem(&pem("RSA PUBLIC KEY", &pkcs1)), Ok(key.clone()));
    for label in ["EC PUBLIC KEY", "PRIVATE KEY", "CERTIFICATE"] {
        let found = label.to_owned();
        assert_eq!(PublicKey::from_pem(&pem(label, key.spki())), Err(Error::OtherPem { found }));
    }
    for other in [spki.repeat(2), base64(key.spki()), String::new()] {
        assert_eq!(PublicKey::from_pem(&other), Err(Error::Pem), "{other}");
    }
    for (label, der) in [("PUBLIC KEY", &pkcs1[..]), ("RSA PUBLIC KEY", key.spki())] {
        assert!(PublicKey::from_pem(&pem(label, der)).is_err(), "one form under the other's name");
    }
}

#[test]
fn keys_are_one_by_their_bytes() {
    let [one, other] = [0, 1].map(|_| whole(KeyDetails::EcdsaP256Sha256, "EC").key);
    assert_eq!(one, PublicKey::from_spki(one.spki()).unwrap());
    assert_ne!(one, other);
}

#[test]
fn a_kind_has_its_name_and_its_hash() {
    for (details, kind, name, hash) in [
        (KeyDetails::EcdsaP256Sha256, KeyKind::P256, "ECDSA P-256", Some(Sha256)),
        (KeyDetails::EcdsaP384Sha384, KeyKind::P384, "ECDSA P-384", Some(Sha384)),
        (KeyDetails::EcdsaP521Sha512, KeyKind::P521, "ECDSA P-521", Some(Sha512)),
        (KeyDetails::Rsa3072Sha256, KeyKind::Rsa { bits: 3072 }, "RSA 3072", Some(Sha256)),
        (KeyDetails::Ed25519, KeyKind::Ed25519, "Ed25519", None),
        (KeyDetails::MlDsa44, KeyKind::MlDsa44, "ML-DSA-44", None),
        (KeyDetails::MlDsa65, KeyKind::MlDsa65, "ML-DSA-65", None),
        (KeyDetails::MlDsa87, KeyKind::MlDsa87, "ML-DSA-87", None),
    ] {
        let pair = SigningKey::generate(details);
        let key = PublicKey::from_spki(&pair.spki()).unwrap();
        assert_eq!((key.kind(), key.kind().to_string().as_str()), (kind, name));
        assert_eq!((key.hash(), key.details()), (hash, Some(details)));
        assert_eq!(details.kind(), kind);
        key.verify_message(MESSAGE, &pair.sign(MESSAGE)).unwrap();
    }
}

#[test]
fn a_key_on_another_curve_is_told_as_that() {
    let [ec, curve] = ["1.2.840.10045.2.1", "1.3.132.0.10"].map(ObjectIdentifier::new_unwrap); // secp256k1
    let algorithm = [ec, curve].map(|id| tlv(0x06, id.as_bytes())).concat();
    let point = [&[0, 4][..], &[7; 64]].concat();
    let spki = tlv(0x30, &[tlv(0x30, &algorithm), tlv(0x03, &point)].concat());
    assert_eq!(PublicKey::from_spki(&spki), Err(Error::Curve { curve }));
}
