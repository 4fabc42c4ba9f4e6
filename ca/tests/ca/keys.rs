//! Keys and the proofs that come with them. OpenSSL makes and uses the keys.

use crate::openssl::{openssl, openssl_bytes};
use crate::world::{EMAIL, World};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_verify::certificate::Certificate;
use serde_json::{Value, json};
use std::path::Path;

#[tokio::test]
async fn a_key_that_is_not_proven_or_weak_gets_no_certificate() {
    let world = World::new().await;
    let token = world.sign(&world.claims());
    let with = |pointer: &str, value: Value| {
        let mut request = world.request(EMAIL);
        *request.pointer_mut(pointer).unwrap() = value;
        request
    };
    let content = "/publicKeyRequest/publicKey/content";
    let stranger = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let strange = stranger.sign(&SystemRandom::new(), EMAIL.as_bytes()).unwrap();
    let strange = STANDARD.encode(strange.as_ref());
    let folder = tempfile::tempdir().unwrap();
    let rsa = |name: &str, options: &[&str]| {
        let path = folder.path().join(name);
        let path = path.to_str().unwrap();
        openssl(&[&["genpkey", "-algorithm", "RSA", "-out", path][..], options].concat());
        openssl(&["pkey", "-in", path, "-pubout"])
    };
    let short = rsa("short", &["-pkeyopt", "rsa_keygen_bits:1024"]);
    let cheap =
        rsa("cheap", &["-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_keygen_pubexp:3"]);
    let odd = rsa("odd", &["-pkeyopt", "rsa_keygen_bits:2056"]);
    let ec = |curve: &str, options: &[&str]| {
        let path = folder.path().join("ec");
        let path = path.to_str().unwrap();
        openssl(&["ecparam", "-name", curve, "-genkey", "-noout", "-out", path]);
        openssl(&[&["ec", "-in", path, "-pubout"][..], options].concat())
    };
    let compressed = ec("prime256v1", &["-conv_form", "compressed"]);
    let explicit = ec("prime256v1", &["-param_enc", "explicit"]);
    let foreign = ec("secp256k1", &[]);
    let request = openssl(&[
        "req",
        "-new",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        folder.path().join("csr").to_str().unwrap(),
        "-subj",
        "/CN=admin",
    ]);
    let der = der::pem::decode_vec(request.as_bytes()).unwrap().1;
    let mut broken = der.clone();
    *broken.last_mut().unwrap() ^= 1;
    let csr = |der: &[u8]| {
        let pem =
            der::pem::encode_string("CERTIFICATE REQUEST", der::pem::LineEnding::LF, der).unwrap();
        json!({ "certificateSigningRequest": STANDARD.encode(pem) })
    };
    for (what, body, reason) in [
        ("another challenge", world.request("me@example.com"), "PROOF_OF_POSSESSION"),
        ("an empty challenge", world.request(""), "PROOF_OF_POSSESSION"),
        (
            "another key's proof",
            with("/publicKeyRequest/proofOfPossession", strange.into()),
            "PROOF_OF_POSSESSION",
        ),
        ("no key", with(content, "no key".into()), "KEY_REFUSED"),
        (
            "a certificate",
            with(content, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into()),
            "KEY_REFUSED",
        ),
        ("RSA 1024", with(content, short.into()), "KEY_WEAK"),
        ("RSA with exponent 3", with(content, cheap.into()), "KEY_WEAK"),
        ("a compressed point", with(content, compressed.into()), "KEY_REFUSED"),
        ("a curve of another kind", with(content, foreign.into()), "KEY_REFUSED"),
        ("a curve written out", with(content, explicit.into()), "KEY_REFUSED"),
        ("RSA 2056", with(content, odd.into()), "KEY_WEAK"),
        ("a broken signing request", csr(&broken), "PROOF_OF_POSSESSION"),
        ("half a signing request", csr(&der[..der.len() / 2]), "SIGNING_REQUEST_MALFORMED"),
    ] {
        world.refused(what, &token, &body, 400, reason).await;
    }
    // Nothing of a signing request but its key reaches the certificate.
    let chain = world.accepted(&token, &csr(&der)).await;
    let leaf = Certificate::parse(&chain[0]).unwrap();
    assert_eq!(
        (leaf.subject(), leaf.identity().unwrap().subject().as_str()),
        (&[0x30, 0][..], EMAIL)
    );
}

/// The kinds of keys that are certified: OpenSSL's arguments to make one, and to sign with it.
const KINDS: [(&str, &[&str], &str); 5] = [
    ("P-256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "-sha256"),
    ("P-384", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"], "-sha384"),
    ("P-521", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"], "-sha512"),
    ("RSA", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "-sha256"),
    ("Ed25519", &["-algorithm", "ED25519"], ""),
];

/// A signature of the challenge as OpenSSL makes it.
fn proof(folder: &Path, key: &str, hash: &str) -> Vec<u8> {
    let challenge = folder.join("challenge");
    std::fs::write(&challenge, EMAIL).unwrap();
    let challenge = challenge.to_str().unwrap();
    match hash {
        "" => openssl_bytes(&["pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", challenge]),
        hash => openssl_bytes(&["dgst", hash, "-sign", key, challenge]),
    }
}

#[tokio::test]
async fn every_kind_of_key_is_certified_in_either_form_with_its_own_hash_alone() {
    let world = World::new().await;
    let token = world.sign(&world.claims());
    let folder = tempfile::tempdir().unwrap();
    for (kind, make, hash) in KINDS {
        let key = folder.path().join(kind);
        let key = key.to_str().unwrap();
        openssl(&[&["genpkey", "-out", key][..], make].concat());
        let public = openssl(&["pkey", "-in", key, "-pubout"]);
        let spki = der::pem::decode_vec(public.as_bytes()).unwrap().1;
        let asked = |proof: &[u8]| {
            json!({ "publicKeyRequest": { "publicKey": { "content": public },
                "proofOfPossession": STANDARD.encode(proof) } })
        };
        let csr = |hash: &str| {
            let hash = if hash.is_empty() { None } else { Some(hash) };
            let request = ["req", "-new", "-key", key, "-subj", "/CN=x", "-addext"];
            let request = [&request[..], &["basicConstraints=CA:TRUE"]].concat();
            let request = openssl(&[&request[..], hash.as_slice()].concat());
            json!({ "certificateSigningRequest": STANDARD.encode(request) })
        };
        for body in [asked(&proof(folder.path(), key, hash)), csr(hash)] {
            let chain = world.accepted(&token, &body).await;
            let leaf = Certificate::parse(&chain[0]).unwrap();
            assert_eq!(leaf.spki(), spki, "{kind}");
            assert_eq!(leaf.basic_constraints().unwrap().map(|constraints| constraints.ca), None);
        }
        if hash.is_empty() {
            continue;
        }
        for other in ["-sha256", "-sha384", "-sha512"].into_iter().filter(|other| *other != hash) {
            for body in [asked(&proof(folder.path(), key, other)), csr(other)] {
                world.refused(kind, &token, &body, 400, "PROOF_OF_POSSESSION").await;
            }
        }
    }
}

#[tokio::test]
async fn keys_and_signatures_are_read_in_all_forms_that_clients_send() {
    let world = World::new().await;
    let token = world.sign(&world.claims());
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("rsa");
    let key = key.to_str().unwrap();
    openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key]);
    let pkcs1 = openssl(&["rsa", "-in", key, "-RSAPublicKey_out"]);
    assert!(pkcs1.contains("BEGIN RSA PUBLIC KEY"));
    let rsa_proof = proof(folder.path(), key, "-sha256");

    let pem = world.public_pem();
    let der = der::pem::decode_vec(pem.as_bytes()).unwrap().1;
    let one_line =
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", STANDARD.encode(&der));
    let ec_proof = world.client.sign(&SystemRandom::new(), EMAIL.as_bytes()).unwrap();
    let raw = raw_signature(ec_proof.as_ref());
    for (what, content, proof) in [
        ("PKCS#1", pkcs1, &rsa_proof[..]),
        ("64 columns", pem.clone(), ec_proof.as_ref()),
        ("one line", one_line, ec_proof.as_ref()),
        ("CRLF", pem.replace('\n', "\r\n"), ec_proof.as_ref()),
        ("text around", format!("my key\n{pem}\nthat is it"), ec_proof.as_ref()),
        ("r and s side by side", pem.clone(), &raw),
    ] {
        let body = json!({ "publicKeyRequest": { "publicKey": { "content": content },
            "proofOfPossession": STANDARD.encode(proof) } });
        let chain = world.accepted(&token, &body).await;
        assert!(!chain.is_empty(), "{what}");
    }
    // RSA keys come out in their one canonical form, whichever they came in.
    let spki = openssl(&["pkey", "-in", key, "-pubout"]);
    let body = json!({ "publicKeyRequest": { "publicKey": { "content": spki.clone() },
        "proofOfPossession": STANDARD.encode(&rsa_proof) } });
    let leaf = Certificate::parse(&world.accepted(&token, &body).await[0]).unwrap();
    assert_eq!(leaf.spki(), der::pem::decode_vec(spki.as_bytes()).unwrap().1);
    // Version 1 takes bare DER, too.
    let body = json!({ "publicKey": { "content": STANDARD.encode(&der), "algorithm": "ecdsa" },
        "signedEmailAddress": STANDARD.encode(ec_proof.as_ref()) });
    let (status, text) = world.post("/api/v1/signingCert", &token, body.to_string()).await;
    assert_eq!(status, 201, "{text}");
    assert!(text.starts_with("-----BEGIN") && text.ends_with("CERTIFICATE-----"), "trimmed");
}

/// r and s, 32 bytes each, out of SEQUENCE { INTEGER, INTEGER }.
fn raw_signature(der: &[u8]) -> Vec<u8> {
    let mut rest = &der[2..];
    let mut raw = Vec::new();
    for _ in 0..2 {
        let (integer, tail) = rest[2..].split_at(usize::from(rest[1]));
        let integer = &integer[integer.len().saturating_sub(32)..];
        raw.extend(std::iter::repeat_n(0, 32 - integer.len()));
        raw.extend(integer);
        rest = tail;
    }
    raw
}
