//! A served authority with an issuer of its own, and a client.

use async_trait::async_trait;
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign_ca::Clock;
use countersign_ca::audit::{self, Audit, AuditLog};
use countersign_ca::ceremony::{self, Ceremony};
use countersign_ca::credential::{Credential, Succession};
use countersign_ca::identity::{Issuer, Mapping, Verifier};
use countersign_ca::issue::{Authority, CertificateLog, LogError, Parts, Passed, Refusal};
use countersign_ca::limits::Limits;
use countersign_ca::signer::{FileSigner, Signer as _};
use countersign_ca::timestamp::{LastGiven, TimestampAuthority};
use countersign_verify::assertion::{Assertion, Intent};
use countersign_verify::certificate::Certificate;
use countersign_verify::key::HashAlgorithm;
use countersign_verify::sct::{self, Sct, leaf_index_extension};
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

pub(crate) const EMAIL: &str = "you@example.com";

/// An RSA key of an issuer: for signing tokens, and as it publishes it.
pub(crate) struct IssuerKey {
    pub(crate) encoding: EncodingKey,
    pub(crate) public_pem: String,
    pub(crate) jwk: Value,
}

impl IssuerKey {
    pub(crate) fn new(id: &str) -> Self {
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
pub(crate) struct Log {
    pub(crate) key: FileSigner,
    pub(crate) fails: AtomicBool,
    pub(crate) lies: AtomicBool,
    pub(crate) stalls: AtomicBool,
    /// How often it was asked.
    pub(crate) asked: AtomicUsize,
    pub(crate) issuer_key_hash: [u8; 32],
}

#[async_trait]
impl CertificateLog for Log {
    async fn add_pre_chain(&self, precertificate: &[u8], _: &[Vec<u8>]) -> Result<Sct, LogError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.stalls.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.fails.load(Ordering::Relaxed) {
            return Err(LogError { reason: "data/000.part: full".to_owned(), retryable: true });
        }
        let precertificate = Certificate::parse(precertificate).unwrap();
        let tbs = sct::precertificate_tbs(&precertificate).unwrap();
        let timestamp = u64::try_from(Timestamp::now().as_millisecond()).unwrap();
        let extensions = leaf_index_extension(7).to_vec();
        let signed = sct::precert_signed_data(timestamp, &self.issuer_key_hash, &tbs, &extensions);
        let mut signature = self.key.sign(&signed).unwrap();
        if self.lies.load(Ordering::Relaxed) {
            signature = self.key.sign(b"something else").unwrap();
        }
        let log_id = sha256(self.key.spki());
        let algorithm = countersign_verify::sct::SHA256_ECDSA;
        Ok(Sct { log_id, timestamp, extensions, algorithm, signature })
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    HashAlgorithm::Sha256.digest(bytes)[..].try_into().unwrap()
}

/// The record, in memory.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) entries: Mutex<Vec<Value>>,
    pub(crate) full: AtomicBool,
}

#[async_trait]
impl AuditLog for Record {
    async fn append(&self, entry: Vec<u8>) -> Result<(), audit::Error> {
        if self.full.load(Ordering::Relaxed) {
            let reason = "No space left on device".to_owned();
            return Err(audit::Error { reason, retryable: true });
        }
        self.entries.lock().unwrap().push(serde_json::from_slice(&entry).unwrap());
        Ok(())
    }
}

/// An authority that is served, its issuer, and a client's key.
pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) issuer: String,
    pub(crate) key: IssuerKey,
    pub(crate) fetches: Arc<AtomicUsize>,
    pub(crate) issuer_away: Arc<AtomicBool>,
    pub(crate) log: Arc<Log>,
    pub(crate) log_key: Vec<u8>,
    pub(crate) issuing: Certificate,
    pub(crate) audit: Arc<Record>,
    /// By how many seconds the authorities' clock is wrong.
    pub(crate) wrong_by: Arc<AtomicI64>,
    pub(crate) client: EcdsaKeyPair,
    pub(crate) http: reqwest::Client,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::of(ceremony::create("Test", Timestamp::now()).unwrap()).await
    }

    pub(crate) async fn of(ceremony: Ceremony) -> Self {
        Self::limited(ceremony, Limits::none()).await
    }

    pub(crate) async fn limited(ceremony: Ceremony, limits: Limits) -> Self {
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

        let audit = Arc::<Record>::default();
        let issuing = Certificate::parse(&ceremony.issuing.1).unwrap();
        let log_key = FileSigner::generate().unwrap();
        let log_spki = log_key.spki().to_vec();
        let log = Arc::new(Log {
            key: log_key,
            fails: AtomicBool::new(false),
            lies: AtomicBool::new(false),
            stalls: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
            issuer_key_hash: sha256(issuing.spki()),
        });
        let wrong_by = Arc::new(AtomicI64::new(0));
        let clock: Clock = {
            let wrong_by = Arc::clone(&wrong_by);
            let wrong = move || SignedDuration::from_secs(wrong_by.load(Ordering::Relaxed));
            Arc::new(move || Timestamp::now() + wrong())
        };
        // Nobody listens on port 1.
        let accepted =
            [&issuer[..], "http://127.0.0.1:1"].map(|url| Issuer::new(url, Mapping::EMAIL));
        let authority = Authority::new(Parts {
            tokens: Verifier::new(accepted).unwrap(),
            issuing: vec![Credential {
                signer: Arc::new(ceremony.issuing.0),
                chain: vec![ceremony.issuing.1, ceremony.root.1.clone()],
                from: Timestamp::MIN,
            }],
            log: Arc::clone(&log) as Arc<dyn CertificateLog>,
            log_key: log_spki.clone(),
            gate: Arc::new(|identity, intent| {
                let refused = identity.san().as_str().starts_with("banned");
                let refusal = || Refusal {
                    rule: "nobody banned".to_owned(),
                    expected: "anyone else".to_owned(),
                    found: identity.san().as_str().to_owned(),
                };
                let (policy, roles) = ("world".to_owned(), vec!["anyone".to_owned()]);
                let (policy_digest, serial) = (String::new(), 1);
                let assertion = |intent: &Intent| Assertion {
                    intent: Some(intent.clone()),
                    policy,
                    policy_digest,
                    roles,
                    serial,
                };
                let passed = Passed { assertion: intent.map(assertion), despite: None };
                if refused { Err(refusal()) } else { Ok(passed) }
            }),
            limits,
            audit: Audit::new(Arc::clone(&audit) as Arc<dyn AuditLog>),
            clock: Arc::clone(&clock),
        });
        let chain = vec![ceremony.timestamps.1, ceremony.root.1];
        let timestamps =
            TimestampAuthority::new(Arc::new(ceremony.timestamps.0), chain, LastGiven::default());
        let timestamps = timestamps.unwrap();
        let timestamps = Succession::new(vec![(Timestamp::MIN, timestamps)]).unwrap();
        let router = countersign_ca::http::router(Arc::new(authority.unwrap()))
            .merge(countersign_ca::http::timestamp_router(Arc::new(timestamps), clock));
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
            wrong_by,
            client,
            http,
        }
    }

    pub(crate) fn claims(&self) -> Value {
        let now = Timestamp::now().as_second();
        json!({ "iss": self.issuer, "aud": "sigstore", "sub": "subject", "email": EMAIL,
            "email_verified": true, "iat": now, "exp": now + 600 })
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::RS256) };
        jsonwebtoken::encode(&header, claims, &self.key.encoding).unwrap()
    }

    /// A token whose claims are the usual ones with one changed; `null` takes it away.
    pub(crate) fn with(&self, name: &str, value: Value) -> String {
        let mut claims = self.claims();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value,
        }
        self.sign(&claims)
    }

    pub(crate) fn public_pem(&self) -> String {
        let spki = self.client.public_key().as_der().unwrap();
        der::pem::encode_string("PUBLIC KEY", der::pem::LineEnding::LF, spki.as_ref()).unwrap()
    }

    pub(crate) fn request(&self, challenge: &str) -> Value {
        let proof = self.client.sign(&SystemRandom::new(), challenge.as_bytes()).unwrap();
        json!({ "publicKeyRequest": { "publicKey": { "algorithm": "ECDSA", "content": self.public_pem() },
            "proofOfPossession": STANDARD.encode(proof.as_ref()) } })
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: String) -> (u16, String) {
        let request = self.http.post(format!("{}{path}", self.url)).bearer_auth(token).body(body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    pub(crate) fn lines(&self) -> Vec<Value> {
        self.audit.entries.lock().unwrap().clone()
    }

    /// Sends a request that must be refused with this status and reason, and leave one line saying so.
    pub(crate) async fn refused(
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

    pub(crate) async fn accepted(&self, token: &str, body: &Value) -> Vec<Vec<u8>> {
        let (status, text) = self.post("/api/v2/signingCert", token, body.to_string()).await;
        assert_eq!(status, 200, "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        let chain =
            answer["signedCertificateEmbeddedSct"]["chain"]["certificates"].as_array().unwrap();
        let der = |pem: &Value| der::pem::decode_vec(pem.as_str().unwrap().as_bytes()).unwrap().1;
        chain.iter().map(der).collect()
    }
}
