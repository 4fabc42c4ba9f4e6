//! Whose entries a Rekor v2 log takes: by algorithm as the real one, by signer as it is told.

use crate::http::{NOW, Server, check, p256, request};
use countersign_log::face::accept::{Accepted, Asked, Certificates, Denied, Keys};
use countersign_log::{Clock, Format, Options};
use countersign_testkit::SigningKey;
use countersign_verify::chain::CertificateAuthority;
use countersign_verify::encoding::base64;
use countersign_verify::entry::Verifier;
use countersign_verify::key::{HashAlgorithm, KeyDetails};
use countersign_verify::trusted_root::Window;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What rekor-tiles takes.
const ACCEPTED: [(KeyDetails, HashAlgorithm); 7] = [
    (KeyDetails::EcdsaP256Sha256, HashAlgorithm::Sha256),
    (KeyDetails::EcdsaP384Sha384, HashAlgorithm::Sha384),
    (KeyDetails::EcdsaP521Sha512, HashAlgorithm::Sha512),
    (KeyDetails::Rsa2048Sha256, HashAlgorithm::Sha256),
    (KeyDetails::Rsa3072Sha256, HashAlgorithm::Sha256),
    (KeyDetails::Rsa4096Sha256, HashAlgorithm::Sha256),
    (KeyDetails::Ed25519Ph, HashAlgorithm::Sha512),
];

fn signed(key: &SigningKey, details: &str, hash: HashAlgorithm) -> Value {
    request(details, &hash.digest(b"artifact"), &key.sign(b"artifact"), &key.spki())
}

#[tokio::test]
async fn each_algorithm_is_logged_and_proven_and_a_repeat_gets_the_same_entry() {
    let server = Server::start().await;
    let key = server.place.key();
    let requests = ACCEPTED
        .map(|(details, hash)| signed(&SigningKey::generate(details), details.name(), hash));
    for (index, request) in (1..).zip(&requests) {
        let (status, reply) = server.submit(request).await;
        assert_eq!(status, StatusCode::CREATED, "{reply}");
        let entry = check(&reply, &key);
        assert_eq!(entry.log_index, index);
        // What upstream writes, to the member.
        assert_eq!(reply["kindVersion"], json!({ "kind": "hashedrekord", "version": "0.0.2" }));
        assert_eq!(
            (&reply["logIndex"], &reply["integratedTime"]),
            (&json!(index.to_string()), &json!("0"))
        );
        let body: Value = serde_json::from_slice(&entry.body).unwrap();
        let (spec, sent) = (&body["spec"]["hashedRekordV002"], &request["hashedRekordRequestV002"]);
        assert_eq!(spec["data"]["digest"], sent["digest"]);
        assert_eq!(spec["signature"], sent["signature"]);
        assert_eq!(serde_json::to_vec(&body).unwrap(), entry.body, "sorted, without white space");
    }
    for (index, request) in (1..).zip(&requests) {
        let (status, reply) = server.submit(request).await;
        assert_eq!(status, StatusCode::CREATED);
        assert_eq!(check(&reply, &key).log_index, index);
    }
    assert_eq!(server.log.head().checkpoint().size, 8);
}

#[tokio::test]
async fn other_algorithms_are_refused_by_name_by_number_and_by_key() {
    let server = Server::start().await;
    let refused = async |request: Value, reason: &str| {
        let (status, reply) = server.submit(&request).await;
        let detail = &reply["details"][0];
        assert_eq!(
            (status, &detail["reason"]),
            (StatusCode::BAD_REQUEST, &json!(reason)),
            "{reply}"
        );
        assert_eq!(detail["field"], "signature.verifier.keyDetails", "{reply}");
    };
    let named = |details: Value| {
        let mut request = p256(b"message");
        let path = "/hashedRekordRequestV002/signature/verifier/keyDetails";
        *request.pointer_mut(path).unwrap() = details;
        request
    };
    // All other names of the protobuf enumeration, and some that are none.
    for name in "PUBLIC_KEY_DETAILS_UNSPECIFIED PKCS1_RSA_PKCS1V5 PKCS1_RSA_PSS PKIX_RSA_PKCS1V5 \
        PKIX_RSA_PSS PKIX_RSA_PSS_2048_SHA256 PKIX_RSA_PSS_3072_SHA256 PKIX_RSA_PSS_4096_SHA256 \
        PKIX_ECDSA_P256_HMAC_SHA_256 PKIX_ECDSA_P384_SHA_256 PKIX_ECDSA_P521_SHA_256 PKIX_ED25519 \
        LMS_SHA256 LMOTS_SHA256 ML_DSA_44 ML_DSA_65 ML_DSA_87 pkix_ecdsa_p256_sha_256"
        .split_whitespace()
    {
        refused(named(json!(name)), "ALGORITHM").await;
    }
    for number in [-1, 0, 1, 2, 3, 4, 6, 7, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 99] {
        refused(named(json!(number)), "ALGORITHM").await;
    }
    for number in [8, 9, 10, 11, 12, 13] {
        refused(named(json!(number)), "KEY_MISMATCH").await;
    }
    let rsa = SigningKey::generate(KeyDetails::Rsa2048Sha256);
    for name in ["PKIX_RSA_PKCS1V15_3072_SHA256", "PKIX_RSA_PKCS1V15_4096_SHA256"] {
        refused(signed(&rsa, name, HashAlgorithm::Sha256), "KEY_MISMATCH").await;
    }
    assert_eq!(server.submit(&named(json!(5))).await.0, StatusCode::CREATED);
    assert_eq!(server.log.head().checkpoint().size, 2);
}

/// Valid around [`NOW`], 24 November 2025, for these uses.
fn params(days: (u8, u8), usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["signer.example.test".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2025, 11, days.0);
    params.not_after = date_time_ymd(2025, 11, days.1);
    params.extended_key_usages = vec![usage];
    params
}

#[tokio::test]
async fn a_log_takes_those_signers_only_whom_it_is_told_to() {
    use ExtendedKeyUsagePurpose::{CodeSigning, ServerAuth};
    let listed = SigningKey::generate(KeyDetails::EcdsaP256Sha256);
    let other = SigningKey::generate(KeyDetails::EcdsaP256Sha256);
    let keys = Keys::Listed([listed.spki()].into());
    let server = Server::start_accepting(Options::new(Format::Entries), |chain| {
        let chain = chain.iter().map(Vec::as_slice).collect();
        let authority = CertificateAuthority::new(chain, Window { start: None, end: None });
        let clock: Clock = Arc::new(|| jiff::Timestamp::from_second(NOW).unwrap());
        let certificates = Certificates::IssuedBy(vec![authority.unwrap()], clock);
        Accepted { certificates, keys, policy: None }
    })
    .await;
    let certified = |params: CertificateParams, ours: bool| {
        let pair = KeyPair::generate().unwrap();
        let certificate = match ours {
            true => params.signed_by(&pair, &server.issuer).unwrap(),
            false => params.self_signed(&pair).unwrap(),
        };
        let signature = rcgen::SigningKey::sign(&pair, b"artifact").unwrap();
        let digest = HashAlgorithm::Sha256.digest(b"artifact");
        let mut request = request("", &digest, &signature, b"");
        request["hashedRekordRequestV002"]["signature"]["verifier"] = json!({
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "x509Certificate": { "rawBytes": base64(certificate.der()) } });
        request
    };
    let by_key = |key| signed(key, "PKIX_ECDSA_P256_SHA_256", HashAlgorithm::Sha256);
    let certificates = "certificates of its authorities while they are valid";
    for request in [certified(params((24, 25), CodeSigning), true), by_key(&listed)] {
        let (status, reply) = server.submit(&request).await;
        assert_eq!(status, StatusCode::CREATED, "{reply}");
    }
    for (request, expected, found) in [
        (certified(params((23, 24), CodeSigning), true), certificates, "is outside the validity"),
        (certified(params((25, 26), CodeSigning), true), certificates, "is outside the validity"),
        (certified(params((24, 25), CodeSigning), false), certificates, "no trusted"),
        (certified(params((24, 25), ServerAuth), true), certificates, "does not lead to"),
        (by_key(&other), "the keys it is configured with", "the key with SHA-256 "),
    ] {
        let (status, reply) = server.submit(&request).await;
        let detail = &reply["details"][0];
        assert_eq!(status, StatusCode::BAD_REQUEST, "{reply}");
        assert_eq!(detail["reason"], "SIGNER_NOT_ACCEPTED", "{reply}");
        assert_eq!(detail["field"], "signature.verifier", "{reply}");
        assert_eq!(detail["expected"], expected, "{reply}");
        assert!(detail["found"].as_str().unwrap().contains(found), "{reply}");
    }
    assert_eq!(server.log.head().checkpoint().size, 3, "the seed, which is ours, and two");
}

/// And whoever repeats what was taken before the policy changed is answered as ever.
#[tokio::test]
async fn a_policy_decides_about_new_entries_by_signer_and_digest() {
    let key = SigningKey::generate(KeyDetails::EcdsaP256Sha256);
    let (spki, closed) = (key.spki(), Arc::new(AtomicBool::new(false)));
    let shut = Arc::clone(&closed);
    let server = Server::start_accepting(Options::new(Format::Entries), |_| {
        let policy = move |asked: &Asked<'_>| {
            let digest = HashAlgorithm::Sha256.digest(b"artifact");
            let known = matches!(asked.signer, Verifier::PublicKey(found) if found == spki)
                && asked.digest == (HashAlgorithm::Sha256, &digest[..]);
            if known && !shut.load(Ordering::SeqCst) {
                return Ok(());
            }
            let [rule, expected, found] = ["may: no-role", "somebody", "nobody"].map(str::to_owned);
            let signer = (String::new(), String::new());
            Err(Box::new(Denied { rule, expected, found, signer, undecided: !known }))
        };
        Accepted { policy: Some(Arc::new(policy)), ..Accepted::default() }
    })
    .await;
    let taken = signed(&key, "PKIX_ECDSA_P256_SHA_256", HashAlgorithm::Sha256);
    let other = signed(
        &SigningKey::generate(KeyDetails::EcdsaP256Sha256),
        "PKIX_ECDSA_P256_SHA_256",
        HashAlgorithm::Sha256,
    );
    let (status, first) = server.submit(&taken).await;
    assert_eq!(status, StatusCode::CREATED, "{first}");
    closed.store(true, Ordering::SeqCst);
    let (status, again) = server.submit(&taken).await;
    assert_eq!((status, &again["logIndex"]), (StatusCode::CREATED, &first["logIndex"]));
    // ECDSA signs with chance, so this is another entry.
    let fresh = signed(&key, "PKIX_ECDSA_P256_SHA_256", HashAlgorithm::Sha256);
    for (request, expected, code, reason) in [
        (fresh, StatusCode::FORBIDDEN, 7, "POLICY_REFUSED"),
        (other, StatusCode::SERVICE_UNAVAILABLE, 14, "POLICY_UNDECIDED"),
    ] {
        let (status, reply) = server.submit(&request).await;
        let detail = &reply["details"][0];
        assert_eq!((status, &reply["code"]), (expected, &json!(code)), "{reply}");
        for (name, expected) in [
            ("reason", reason),
            ("rule", "may: no-role"),
            ("expected", "somebody"),
            ("found", "nobody"),
            ("field", "signature.verifier"),
        ] {
            assert_eq!(detail[name], expected, "{reply}");
        }
    }
    assert_eq!(server.log.head().checkpoint().size, 2, "the seed and the one that was taken");
}
