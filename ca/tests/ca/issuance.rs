//! What comes out of a request: a certificate whose receipt holds, or nothing.

use crate::world::{EMAIL, World, sha256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_verify::assertion::ASSERTION;
use countersign_verify::certificate::Certificate;
use countersign_verify::sct::{self, Sct};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::Duration;

#[tokio::test]
async fn a_good_request_gets_a_certificate_whose_receipt_holds() {
    let world = World::new().await;
    let token = world.sign(&world.claims());
    for request in [world.request(EMAIL), world.request("subject")] {
        let chain = world.accepted(&token, &request).await;
        assert_eq!(chain.len(), 3);
        let leaf = Certificate::parse(&chain[0]).unwrap();
        let identity = leaf.identity().unwrap();
        assert_eq!(
            (identity.subject().as_str(), identity.issuer()),
            (EMAIL, Some(&world.issuer[..]))
        );
        assert_eq!(identity.claims()[&24], "subject");
        assert_eq!(leaf.issuer(), world.issuing.subject());
        assert_eq!(leaf.not_after().as_second() - leaf.not_before().as_second(), 600);
        let list = leaf.extensions().last().unwrap();
        let [sct] = <[Sct; 1]>::try_from(sct::parse_list_extension(&list.value).unwrap()).unwrap();
        let tbs = sct::precertificate_tbs(&leaf).unwrap();
        let hash = sha256(world.issuing.spki());
        let signed = sct::precert_signed_data(sct.timestamp, &hash, &tbs, &sct.extensions);
        let key = countersign_verify::key::PublicKey::from_spki(&world.log_key).unwrap();
        key.verify_message(&signed, &sct.signature).unwrap();
    }
    let lines = world.lines();
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["serial", "issued", "serial", "issued"]);
    assert_eq!(lines[0]["serial"], lines[1]["serial"]);
    assert_eq!(
        (&lines[0]["identity"], &lines[0]["issuer"]),
        (&EMAIL.into(), &world.issuer[..].into())
    );
    let text = serde_json::to_string(&world.lines()).unwrap();
    assert!(!text.contains(&token) && !text.contains("eyJ"), "tokens are never on record");

    let pem = STANDARD.encode(world.public_pem());
    let request = world.request(EMAIL);
    let proof = &request["publicKeyRequest"]["proofOfPossession"];
    let legacy = json!({ "publicKey": { "content": pem }, "signedEmailAddress": proof,
        "certificateSigningRequest": null });
    let (status, text) = world.post("/api/v1/signingCert", &token, legacy.to_string()).await;
    assert_eq!((status, text.matches("BEGIN CERTIFICATE").count()), (201, 3), "{text}");
}

#[tokio::test]
async fn without_a_receipt_or_against_the_policy_there_is_no_certificate() {
    let world = World::new().await;
    let (token, request) = (world.sign(&world.claims()), world.request(EMAIL));
    world.log.fails.store(true, Ordering::Relaxed);
    let before = world.lines().len();
    let (status, text) = world.post("/api/v2/signingCert", &token, request.to_string()).await;
    assert_eq!((status, text.contains("BEGIN")), (503, false), "{text}");
    assert!(!text.contains("000.part"), "what the log said is for its operator: {text}");
    world.log.fails.store(false, Ordering::Relaxed);
    world.log.lies.store(true, Ordering::Relaxed);
    let (status, text) = world.post("/api/v2/signingCert", &token, request.to_string()).await;
    assert_eq!((status, text.contains("BEGIN")), (500, false), "{text}");
    world.log.lies.store(false, Ordering::Relaxed);
    let events: Vec<_> = world.lines()[before..].iter().map(|line| line["event"].clone()).collect();
    assert_eq!(events, ["serial", "refused", "serial", "refused"]);

    let banned = world.with("email", "banned@example.com".into());
    let request = world.request("banned@example.com");
    let answer = world.refused("banned", &banned, &request, 403, "POLICY_REFUSED").await;
    let line = world.lines().pop().unwrap();
    assert_eq!(line["identity"], "banned@example.com", "who was refused is on record");
    let detail = &answer["details"][0];
    assert_eq!((&answer["code"], &detail["rule"]), (&7.into(), &"nobody banned".into()));
    assert_eq!(
        (&detail["expected"], &detail["found"]),
        (&"anyone else".into(), &"banned@example.com".into())
    );
}

#[tokio::test]
async fn what_cannot_be_recorded_is_neither_issued_nor_signed_and_recovers_by_itself() {
    let world = World::new().await;
    let (token, request) = (world.sign(&world.claims()), world.request(EMAIL));
    world.audit.full.store(true, Ordering::Relaxed);
    let before = world.log.asked.load(Ordering::Relaxed);
    // Nor is a refusal given that is not on record: whoever asks learns that it is no answer.
    for token in [&token, &world.with("aud", "other".into())] {
        let (status, text) = world.post("/api/v2/signingCert", token, request.to_string()).await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        let reason = &answer["details"][0]["reason"];
        assert_eq!((status, reason), (503, &"AUDIT_LOG".into()), "{text}");
        assert!(!text.contains("No space") && !text.contains("BEGIN"), "{text}");
    }
    assert_eq!(world.log.asked.load(Ordering::Relaxed), before, "nothing was signed or logged");
    assert!(world.lines().is_empty());
    world.audit.full.store(false, Ordering::Relaxed);
    world.accepted(&token, &request).await;
    assert_eq!(world.lines().len(), 2);
}

#[tokio::test]
async fn a_request_that_cannot_be_read_is_refused_before_anything_is_done() {
    let world = World::new().await;
    let token = world.sign(&world.claims());
    for (what, body, status) in [
        ("nothing", String::new(), 400),
        ("text", "hello".to_owned(), 400),
        ("a list", "[]".to_owned(), 400),
        ("five megabytes", format!("{{\"a\":\"{}\"}}", "x".repeat(5 << 20)), 400),
    ] {
        let (found, text) = world.post("/api/v2/signingCert", &token, body).await;
        assert_eq!(found, status, "{what}: {text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["code"], 3, "{what}");
        assert!(!text.contains("BEGIN"), "{what}");
    }
    let body = world.request(EMAIL).to_string();
    let answer = world
        .http
        .post(format!("{}/api/v2/signingCert", world.url))
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 400, "no token");
    assert!(world.lines().is_empty());

    let answer = world.http.get(format!("{}/api/v2/signingCert", world.url)).send().await.unwrap();
    let status = answer.status().as_u16();
    let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!((status, &answer["code"]), (501, &12.into()), "another method: {answer}");
}

#[tokio::test]
async fn chains_and_configuration_are_published_as_clients_read_them() {
    let world = World::new().await;
    let get = async |path: &str| {
        let answer = world.http.get(format!("{}{path}", world.url)).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{path}");
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        (kind, answer.text().await.unwrap())
    };
    let (kind, text) = get("/api/v2/trustBundle").await;
    assert_eq!(kind, "application/json");
    let bundle: Value = serde_json::from_str(&text).unwrap();
    let chain = bundle["chains"][0]["certificates"].as_array().unwrap();
    assert_eq!(chain.len(), 2);
    assert!(chain.iter().all(|pem| pem.as_str().unwrap().ends_with("-----\n")));
    let first = der::pem::decode_vec(chain[0].as_str().unwrap().as_bytes()).unwrap().1;
    assert_eq!(first, world.issuing.der(), "the issuing CA comes first");

    let (kind, text) = get("/api/v1/rootCert").await;
    assert_eq!(kind, "application/pem-certificate-chain");
    let joined: Vec<_> = chain.iter().map(|pem| pem.as_str().unwrap()).collect();
    assert_eq!(text, joined.join("\n"), "a blank line between the certificates");

    let (_, text) = get("/api/v2/configuration").await;
    let configuration: Value = serde_json::from_str(&text).unwrap();
    let issuers = configuration["issuers"].as_array().unwrap();
    let ours = issuers.iter().find(|issuer| issuer["issuerUrl"] == world.issuer[..]).unwrap();
    assert_eq!(
        *ours,
        json!({ "issuerUrl": world.issuer, "audience": "sigstore", "challengeClaim": "email",
            "spiffeTrustDomain": "", "issuerType": "email", "subjectDomain": "",
            "skipEmailVerification": false })
    );
}

#[tokio::test]
async fn a_log_that_does_not_answer_is_not_waited_for_longer_than_clients_wait() {
    let world = World::new().await;
    let (token, request) = (world.sign(&world.claims()), world.request(EMAIL));
    world.log.stalls.store(true, Ordering::Relaxed);
    let answer = world.post("/api/v2/signingCert", &token, request.to_string());
    let answer = tokio::time::timeout(Duration::from_secs(15), answer).await;
    let (status, text) = answer.expect("clients wait 30 s");
    assert_eq!((status, text.contains("BEGIN")), (503, false), "{text}");
    assert_eq!(world.lines().pop().unwrap()["reason"], "CERTIFICATE_LOG");
}

/// Fulcio's clients state none, and their certificates are what they were.
#[tokio::test]
async fn what_a_certificate_is_for_is_in_it_if_that_was_said_and_never_critical() {
    let world = World::new().await;
    let mut request = world.request(EMAIL);
    let without = world.accepted(&world.sign(&world.claims()), &request).await;
    assert_eq!(Certificate::parse(&without[0]).unwrap().assertion(), Ok(None));
    request["intent"] = json!({ "action": "attest", "predicateType": "https://slsa.dev/provenance/v1",
        "artifact": { "kind": "blob", "name": "tool", "digest": "sha256:aa" }, "later": 1 });
    let chain = world.accepted(&world.sign(&world.claims()), &request).await;
    let certificate = Certificate::parse(&chain[0]).unwrap();
    assert!(!certificate.extension(ASSERTION).unwrap().critical);
    let intent = certificate.assertion().unwrap().unwrap().intent.unwrap();
    assert_eq!(intent.predicate_type.as_deref(), Some("https://slsa.dev/provenance/v1"));
    assert_eq!(intent.artifact.unwrap().name, "tool");
}
