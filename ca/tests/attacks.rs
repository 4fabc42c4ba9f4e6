//! What attackers and mistaken clients send to the certificate authority, over its HTTP face: each gets
//! a 4xx with a sentence and a code, no certificate, and one line in the audit log.

use async_trait::async_trait;
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign_ca::audit::Audit;
use countersign_ca::ceremony;
use countersign_ca::identity::jwks::KeySource;
use countersign_ca::identity::{Issuer, Mapping, Verifier};
use countersign_ca::issue::{Authority, CertificateLog, LogError, Parts, Refusal};
use countersign_ca::signer::{FileSigner, Signer as _};
use countersign_verify::certificate::Certificate;
use countersign_verify::key::HashAlgorithm;
use countersign_verify::sct::{self, Sct, leaf_index_extension};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const EMAIL: &str = "you@example.com";

/// An RSA key of an issuer: for signing tokens, and as it publishes it.
struct IssuerKey {
    encoding: EncodingKey,
    public_pem: String,
    jwk: Value,
}

impl IssuerKey {
    fn new(id: &str) -> Self {
        let pair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
        let pkcs8: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let pem = |label, der: &[u8]| {
            der::pem::encode_string(label, der::pem::LineEnding::LF, der).unwrap()
        };
        let public = pair.public_key();
        let spki: aws_lc_rs::encoding::PublicKeyX509Der<'_> = public.as_der().unwrap();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let jwk = json!({ "kty": "RSA", "alg": "RS256", "use": "sig", "kid": id,
            "n": text(public.modulus().big_endian_without_leading_zero()),
            "e": text(public.exponent().big_endian_without_leading_zero()) });
        let encoding =
            EncodingKey::from_rsa_pem(pem("PRIVATE KEY", pkcs8.as_ref()).as_bytes()).unwrap();
        Self { encoding, public_pem: pem("PUBLIC KEY", spki.as_ref()), jwk }
    }
}

/// A certificate log in memory.
struct Log {
    key: FileSigner,
    fails: AtomicBool,
    lies: AtomicBool,
    issuer_key_hash: [u8; 32],
}

#[async_trait]
impl CertificateLog for Log {
    async fn add_pre_chain(&self, precertificate: &[u8], _: &[Vec<u8>]) -> Result<Sct, LogError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(LogError { reason: "full".to_owned(), retryable: true });
        }
        let tbs = sct::precertificate_tbs(precertificate).unwrap();
        let timestamp = u64::try_from(Timestamp::now().as_millisecond()).unwrap();
        let extensions = leaf_index_extension(7).to_vec();
        let signed = sct::precert_signed_data(timestamp, &self.issuer_key_hash, &tbs, &extensions);
        let mut signature = self.key.sign(&signed).unwrap();
        if self.lies.load(Ordering::Relaxed) {
            signature = self.key.sign(b"something else").unwrap();
        }
        let log_id = sha256(self.key.spki());
        Ok(Sct { log_id, timestamp, extensions, signature })
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    HashAlgorithm::Sha256.digest(bytes)[..].try_into().unwrap()
}

/// An authority that is served, its issuer, and a client's key.
struct World {
    url: String,
    issuer: String,
    key: IssuerKey,
    fetches: Arc<AtomicUsize>,
    issuer_away: Arc<AtomicBool>,
    log: Arc<Log>,
    log_key: Vec<u8>,
    issuing: Certificate,
    audit: PathBuf,
    client: EcdsaKeyPair,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let key = IssuerKey::new("one");
        let (fetches, issuer_away) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let document = json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys"),
            "id_token_signing_alg_values_supported": ["RS256"] });
        let keys = json!({ "keys": [key.jwk] });
        let (count, away) = (Arc::clone(&fetches), Arc::clone(&issuer_away));
        let routes = Router::new()
            .route(
                "/.well-known/openid-configuration",
                get(async move || {
                    if away.load(Ordering::Relaxed) {
                        Json(json!({}))
                    } else {
                        Json(document.clone())
                    }
                }),
            )
            .route(
                "/keys",
                get(async move || {
                    count.fetch_add(1, Ordering::Relaxed);
                    Json(keys.clone())
                }),
            );
        tokio::spawn(async move { axum::serve(listener, routes).await });

        let folder = tempfile::tempdir().unwrap();
        let audit = folder.path().join("audit.jsonl");
        let ceremony = ceremony::create("Test", Timestamp::now()).unwrap();
        let issuing = Certificate::parse(&ceremony.issuing.1).unwrap();
        let log_key = FileSigner::generate().unwrap();
        let log_spki = log_key.spki().to_vec();
        let log = Arc::new(Log {
            key: log_key,
            fails: AtomicBool::new(false),
            lies: AtomicBool::new(false),
            issuer_key_hash: sha256(issuing.spki()),
        });
        let accepted = |url: &str, mapping| {
            let keys = KeySource::new(url).unwrap();
            (url.to_owned(), Issuer { audience: "sigstore".to_owned(), mapping, keys })
        };
        // Nobody listens on port 1.
        let unreachable = accepted("http://127.0.0.1:1", Mapping::Email);
        let authority = Authority::new(Parts {
            tokens: Verifier::new(BTreeMap::from([accepted(&issuer, Mapping::Email), unreachable])),
            signer: Box::new(ceremony.issuing.0),
            chain: vec![ceremony.issuing.1, ceremony.root.1],
            log: Arc::clone(&log) as Arc<dyn CertificateLog>,
            log_key: log_spki.clone(),
            gate: Arc::new(|identity| {
                let refused = identity.san().as_str().starts_with("banned");
                let refusal = || Refusal {
                    rule: "nobody banned".to_owned(),
                    expected: "anyone else".to_owned(),
                    found: identity.san().as_str().to_owned(),
                };
                if refused { Err(refusal()) } else { Ok(()) }
            }),
            audit: Audit::open(&audit).unwrap(),
            clock: Arc::new(Timestamp::now),
        });
        let router = countersign_ca::http::router(Arc::new(authority.unwrap()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let client = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let http = reqwest::Client::new();
        Self {
            url,
            issuer,
            key,
            fetches,
            issuer_away,
            log,
            log_key: log_spki,
            issuing,
            audit,
            client,
            http,
            _folder: folder,
        }
    }

    fn claims(&self) -> Value {
        let now = Timestamp::now().as_second();
        json!({ "iss": self.issuer, "aud": "sigstore", "sub": "subject", "email": EMAIL,
            "email_verified": true, "iat": now, "exp": now + 600 })
    }

    fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::RS256) };
        jsonwebtoken::encode(&header, claims, &self.key.encoding).unwrap()
    }

    /// A token whose claims are the usual ones with one changed; `null` takes it away.
    fn with(&self, name: &str, value: Value) -> String {
        let mut claims = self.claims();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value,
        }
        self.sign(&claims)
    }

    fn public_pem(&self) -> String {
        let spki = self.client.public_key().as_der().unwrap();
        der::pem::encode_string("PUBLIC KEY", der::pem::LineEnding::LF, spki.as_ref()).unwrap()
    }

    fn request(&self, challenge: &str) -> Value {
        let proof = self.client.sign(&SystemRandom::new(), challenge.as_bytes()).unwrap();
        json!({ "publicKeyRequest": { "publicKey": { "algorithm": "ECDSA", "content": self.public_pem() },
            "proofOfPossession": STANDARD.encode(proof.as_ref()) } })
    }

    async fn post(&self, path: &str, token: &str, body: String) -> (u16, String) {
        let request = self.http.post(format!("{}{path}", self.url)).bearer_auth(token).body(body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.audit).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Sends a request that must be refused with this status and reason, and leave one line saying so.
    async fn refused(
        &self,
        what: &str,
        token: &str,
        body: &Value,
        status: u16,
        reason: &str,
    ) -> Value {
        let before = self.lines().len();
        let (found, text) = self.post("/api/v2/signingCert", token, body.to_string()).await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (found, &answer["details"][0]["reason"]),
            (status, &reason.into()),
            "{what}: {text}"
        );
        assert!(answer["message"].as_str().unwrap().len() > 15, "{what}: a sentence, {text}");
        assert!(!text.contains("BEGIN CERTIFICATE"), "{what}");
        let lines = self.lines();
        let last = lines.last().unwrap();
        let expected = (before + 1, "refused", reason);
        let logged =
            (lines.len(), last["event"].as_str().unwrap(), last["reason"].as_str().unwrap());
        assert_eq!(logged, expected, "{what}");
        answer
    }

    async fn accepted(&self, token: &str, body: &Value) -> Vec<Vec<u8>> {
        let (status, text) = self.post("/api/v2/signingCert", token, body.to_string()).await;
        assert_eq!(status, 200, "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        let chain =
            answer["signedCertificateEmbeddedSct"]["chain"]["certificates"].as_array().unwrap();
        let der = |pem: &Value| der::pem::decode_vec(pem.as_str().unwrap().as_bytes()).unwrap().1;
        chain.iter().map(der).collect()
    }
}

#[tokio::test]
async fn tokens_that_are_not_what_they_must_be_get_no_certificate() {
    let world = World::new().await;
    let now = Timestamp::now().as_second();
    let request = world.request(EMAIL);
    let issuer = &world.issuer;
    let port = issuer.rsplit(':').next().unwrap();
    let encode = |header: Value, claims: &Value| {
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        format!("{}.{}", part(&header), part(claims))
    };
    let rsa = |header: Value, claims: &Value| {
        let signed = encode(header, claims);
        let signature =
            jsonwebtoken::crypto::sign(signed.as_bytes(), &world.key.encoding, Algorithm::RS256);
        format!("{signed}.{}", signature.unwrap())
    };
    let hmac = |secret: &[u8]| {
        let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, &world.claims(), &EncodingKey::from_secret(secret)).unwrap()
    };
    let good = world.sign(&world.claims());
    let parts: Vec<&str> = good.split('.').collect();
    let other = IssuerKey::new("one");
    let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::RS256) };
    let forged = jsonwebtoken::encode(&header, &world.claims(), &other.encoding).unwrap();
    let payload =
        |text: &str| format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(text), parts[2]);
    let twice = world.claims().to_string().replacen('{', r#"{"email":"x@example.com","#, 1);
    let large = world.with("padding", "x".repeat(17_000).into());
    let usual = json!({ "alg": "RS256", "kid": "one" });
    for (what, token, reason) in [
        ("expired", world.with("exp", (now - 1).into()), "TOKEN_EXPIRED"),
        ("without end", world.with("exp", Value::Null), "CLAIM_REFUSED"),
        ("an end that is text", world.with("exp", "9999999999".into()), "CLAIM_REFUSED"),
        ("an end beyond time", world.with("exp", json!(1e300)), "CLAIM_REFUSED"),
        ("not valid yet", world.with("nbf", (now + 3600).into()), "TOKEN_NOT_YET_VALID"),
        ("issued in the future", world.with("iat", (now + 3600).into()), "TOKEN_NOT_YET_VALID"),
        ("never issued", world.with("iat", Value::Null), "CLAIM_REFUSED"),
        ("another audience", world.with("aud", "other".into()), "WRONG_AUDIENCE"),
        (
            "other audiences",
            world.with("aud", json!(["a", "sigstore2", "SIGSTORE"])),
            "WRONG_AUDIENCE",
        ),
        (
            "an audience that is an object",
            world.with("aud", json!({ "sigstore": 1 })),
            "CLAIM_REFUSED",
        ),
        ("no audience", world.with("aud", Value::Null), "CLAIM_REFUSED"),
        ("no subject", world.with("sub", Value::Null), "CLAIM_REFUSED"),
        ("a subject that is a number", world.with("sub", 7.into()), "CLAIM_REFUSED"),
        ("no address", world.with("email", Value::Null), "CLAIM_REFUSED"),
        (
            "an address that nobody vouches for",
            world.with("email_verified", false.into()),
            "CLAIM_REFUSED",
        ),
        ("no issuer", world.with("iss", Value::Null), "CLAIM_REFUSED"),
        (
            "an unknown issuer",
            world.with("iss", "https://accounts.example.com".into()),
            "UNKNOWN_ISSUER",
        ),
        (
            "the issuer with a slash",
            world.with("iss", format!("{issuer}/").into()),
            "UNKNOWN_ISSUER",
        ),
        (
            "the issuer in capitals",
            world.with("iss", issuer.to_uppercase().into()),
            "UNKNOWN_ISSUER",
        ),
        (
            "the issuer as a user",
            world.with("iss", format!("http://127.0.0.1:{port}@evil.example").into()),
            "UNKNOWN_ISSUER",
        ),
        (
            "the issuer and a query",
            world.with("iss", format!("{issuer}?x").into()),
            "UNKNOWN_ISSUER",
        ),
        (
            "alg none",
            format!("{}.", encode(json!({ "alg": "none" }), &world.claims())),
            "ALGORITHM_REFUSED",
        ),
        (
            "alg None",
            format!("{}.", encode(json!({ "alg": "None" }), &world.claims())),
            "ALGORITHM_REFUSED",
        ),
        ("HMAC with the public key", hmac(world.key.public_pem.as_bytes()), "ALGORITHM_REFUSED"),
        ("HMAC with nothing", hmac(b""), "ALGORITHM_REFUSED"),
        (
            "an algorithm the issuer does not use",
            rsa(json!({ "alg": "PS256", "kid": "one" }), &world.claims()),
            "ALGORITHM_REFUSED",
        ),
        (
            "crit",
            rsa(json!({ "alg": "RS256", "kid": "one", "crit": ["b64"] }), &world.claims()),
            "TOKEN_MALFORMED",
        ),
        (
            "a key ID that is a list",
            rsa(json!({ "alg": "RS256", "kid": ["one"] }), &world.claims()),
            "TOKEN_MALFORMED",
        ),
        (
            "an unknown key",
            rsa(json!({ "alg": "RS256", "kid": "two" }), &world.claims()),
            "BAD_SIGNATURE",
        ),
        ("another's key of the same ID", forged, "BAD_SIGNATURE"),
        (
            "another payload",
            payload(&world.claims().to_string().replace(EMAIL, "ceo@example.com")),
            "BAD_SIGNATURE",
        ),
        ("no signature", format!("{}.{}.", parts[0], parts[1]), "BAD_SIGNATURE"),
        ("a claim twice", payload(&twice), "TOKEN_MALFORMED"),
        ("a payload that is a list", payload("[]"), "TOKEN_MALFORMED"),
        ("two parts", format!("{}.{}", parts[0], parts[1]), "TOKEN_MALFORMED"),
        ("five parts", format!("{good}.a.b"), "TOKEN_MALFORMED"),
        ("dots", ".".repeat(10_000), "TOKEN_MALFORMED"),
        ("17 KiB", large, "TOKEN_MALFORMED"),
        ("padded base64", format!("{}=.{}.{}", parts[0], parts[1], parts[2]), "TOKEN_MALFORMED"),
    ] {
        let answer = world.refused(what, &token, &request, 400, reason).await;
        assert_eq!(answer["code"], 3, "{what}");
    }
    let unusual = rsa(usual, &world.claims());
    world.accepted(&unusual, &request).await; // the table's own signer signs rightly
    let answer = world
        .refused("expired", &world.with("exp", (now - 1).into()), &request, 400, "TOKEN_EXPIRED")
        .await;
    assert!(!answer.to_string().contains(EMAIL), "what the token says is not repeated: {answer}");
}

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
    let openssl = |args: &[&str]| {
        let output = std::process::Command::new("openssl")
            .args(args)
            .output()
            .expect("openssl is needed here");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
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
        ("RSA 1024", with(content, short.into()), "KEY_REFUSED"),
        ("RSA with exponent 3", with(content, cheap.into()), "KEY_WEAK"),
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

#[tokio::test]
async fn a_request_that_cannot_be_read_is_refused_before_anything_is_done() {
    let world = World::new().await;
    let token = world.sign(&world.claims());
    for (what, body, status) in [
        ("nothing", String::new(), 400),
        ("text", "hello".to_owned(), 400),
        ("a list", "[]".to_owned(), 400),
        ("five megabytes", format!("{{\"a\":\"{}\"}}", "x".repeat(5 << 20)), 413),
    ] {
        let (found, text) = world.post("/api/v2/signingCert", &token, body).await;
        assert_eq!(found, status, "{what}: {text}");
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
}

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
        let tbs = sct::precertificate_tbs(&chain[0]).unwrap();
        let hash = sha256(world.issuing.spki());
        let signed = sct::precert_signed_data(sct.timestamp, &hash, &tbs, &sct.extensions);
        let key = countersign_verify::key::PublicKey::from_spki(&world.log_key).unwrap();
        key.verify_message(&signed, &sct.signature).unwrap();
    }
    let lines = world.lines();
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["serial", "issued", "serial", "issued"]);
    assert_eq!(lines[0]["serial"], lines[1]["serial"]);

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
    let detail = &answer["details"][0];
    assert_eq!((&answer["code"], &detail["rule"]), (&7.into(), &"nobody banned".into()));
    assert_eq!(
        (&detail["expected"], &detail["found"]),
        (&"anyone else".into(), &"banned@example.com".into())
    );
}

#[tokio::test]
async fn an_issuer_that_is_away_affects_itself_alone_and_unknown_keys_cost_one_fetch() {
    let world = World::new().await;
    let (token, request) = (world.sign(&world.claims()), world.request(EMAIL));
    world.accepted(&token, &request).await;
    assert_eq!(world.fetches.load(Ordering::Relaxed), 1);
    let unknown = Header { kid: Some("two".to_owned()), ..Header::new(Algorithm::RS256) };
    let unknown = jsonwebtoken::encode(&unknown, &world.claims(), &world.key.encoding).unwrap();
    for _ in 0..5 {
        world.refused("unknown key", &unknown, &request, 400, "BAD_SIGNATURE").await;
    }
    assert!(world.fetches.load(Ordering::Relaxed) <= 2, "one more at most");
    let elsewhere = world.with("iss", "http://127.0.0.1:1".into());
    world.refused("unreachable", &elsewhere, &request, 503, "ISSUER_UNREACHABLE").await;
    world.issuer_away.store(true, Ordering::Relaxed);
    world.accepted(&token, &request).await;
}
