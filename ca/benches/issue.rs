//! Certificates issued: token and possession verified, serial on record, precertificate logged, receipt
//! verified, certificate signed, on record.
//!
//! The floor is the cryptography that no authority of this kind can leave out, by the same library and
//! in the same run: an RSA-2048 token verified; a P-256 proof verified; two certificates and a receipt
//! signed, the receipt verified. The log signs its receipts in memory and writes nothing: what a log
//! costs is for its own benchmark. `cpu/floor` compares CPU time of the whole process, `wall/floor` the
//! time a certificate takes, all cores together; with one writer that is mostly waiting for the audit
//! log's two writes to reach the disk. Argument: certificates in a run (default 2000).

use async_trait::async_trait;
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_ca::audit::{self, Audit, AuditLog};
use countersign_ca::ceremony;
use countersign_ca::credential::Credential;
use countersign_ca::identity::{Issuer, Mapping, Verifier};
use countersign_ca::issue::{Authority, CertificateLog, LogError, Parts};
use countersign_ca::limits::Limits;
use countersign_ca::possession::Request;
use countersign_ca::signer::{FileSigner, Signer as _};
use countersign_verify::certificate::Certificate;
use countersign_verify::key::{HashAlgorithm, PublicKey};
use countersign_verify::sct::{self, Sct, leaf_index_extension};
use jiff::Timestamp;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde_json::{Value, json};
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

const EMAIL: &str = "you@example.com";

/// Signs receipts, keeps nothing.
struct Log {
    key: FileSigner,
    id: [u8; 32],
    issuer_key_hash: [u8; 32],
}

#[async_trait]
impl CertificateLog for Log {
    async fn add_pre_chain(&self, precertificate: &[u8], _: &[Vec<u8>]) -> Result<Sct, LogError> {
        let failed = |reason: String| LogError { reason, retryable: false };
        let tbs =
            sct::precertificate_tbs(precertificate).map_err(|error| failed(error.to_string()))?;
        let timestamp = Timestamp::now().as_millisecond().unsigned_abs();
        let extensions = leaf_index_extension(7).to_vec();
        let signed = sct::precert_signed_data(timestamp, &self.issuer_key_hash, &tbs, &extensions);
        let signature = self.key.sign(&signed).map_err(|error| failed(error.to_string()))?;
        let (log_id, algorithm) = (self.id, sct::SHA256_ECDSA);
        Ok(Sct { log_id, timestamp, extensions, algorithm, signature })
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    HashAlgorithm::Sha256.digest(bytes)[..].try_into().expect("SHA-256 has 32 bytes")
}

/// What a client and its provider have.
struct Client {
    token: String,
    jwk: Value,
    key: EcdsaKeyPair,
    request: Request,
}

impl Client {
    fn new(issuer: &str) -> Self {
        let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048)
            .expect("randomness");
        let pkcs8: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().expect("an RSA key");
        let pem = |label, der: &[u8]| {
            der::pem::encode_string(label, der::pem::LineEnding::LF, der).expect("short")
        };
        let provider = EncodingKey::from_rsa_pem(pem("PRIVATE KEY", pkcs8.as_ref()).as_bytes())
            .expect("an RSA key");
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let jwk = json!({ "kty": "RSA", "alg": "RS256", "use": "sig", "kid": "one",
            "n": text(pair.public_key().modulus().big_endian_without_leading_zero()),
            "e": text(pair.public_key().exponent().big_endian_without_leading_zero()) });
        let now = Timestamp::now().as_second();
        let claims = json!({ "iss": issuer, "aud": "sigstore", "sub": "subject", "email": EMAIL,
            "email_verified": true, "iat": now, "exp": now + 3600 });
        let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::RS256) };
        let token = jsonwebtoken::encode(&header, &claims, &provider).expect("claims");
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("randomness");
        let spki = key.public_key().as_der().expect("a key").as_ref().to_vec();
        let proof = key.sign(&SystemRandom::new(), EMAIL.as_bytes()).expect("a key signs");
        let request = Request::PublicKey {
            key: pem("PUBLIC KEY", &spki).into_bytes(),
            proof: proof.as_ref().to_vec(),
        };
        Self { token, jwk, key, request }
    }
}

/// CPU time of this process, user and system, from the kernel's count in hundredths of a second.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// CPU microseconds for the bare cryptography of one certificate, on one thread.
fn floor(client: &Client, count: u32) -> f64 {
    let jwk: Jwk = serde_json::from_value(client.jwk.clone()).expect("a key");
    let token_key = DecodingKey::from_jwk(&jwk).expect("a key");
    let (signed, signature) = client.token.rsplit_once('.').expect("a token");
    let spki = client.key.public_key().as_der().expect("a key");
    let Request::PublicKey { proof, .. } = &client.request else { unreachable!("made above") };
    let (authority, log) = (FileSigner::generate(), FileSigner::generate());
    let (authority, log) = (authority.expect("randomness"), log.expect("randomness"));
    let log_key = PublicKey::from_spki(log.spki()).expect("a key");
    let body = [7; 900]; // what a certificate has to be signed
    let start = cpu();
    for _ in 0..count {
        let token = jsonwebtoken::crypto::verify(
            signature,
            signed.as_bytes(),
            &token_key,
            Algorithm::RS256,
        );
        assert!(token.expect("an RSA key"));
        let key = PublicKey::from_spki(spki.as_ref()).expect("a key");
        key.verify_message(EMAIL.as_bytes(), proof).expect("a proof");
        let receipt = log.sign(&body).expect("a key signs");
        log_key.verify_message(&body, &receipt).expect("a receipt");
        for _ in 0..2 {
            authority.sign(&body).expect("a key signs");
        }
    }
    (cpu() - start).as_secs_f64() * 1e6 / f64::from(count)
}

/// Stands for the log that an instance keeps its record in: durable, and many entries a sync, as there.
struct Record(mpsc::UnboundedSender<(Vec<u8>, oneshot::Sender<()>)>);

impl Record {
    fn open(folder: &std::path::Path) -> Self {
        let mut file = std::fs::File::create(folder.join("audit")).expect("a file");
        let (sender, mut entries) = mpsc::unbounded_channel::<(Vec<u8>, oneshot::Sender<()>)>();
        std::thread::spawn(move || {
            while let Some(first) = entries.blocking_recv() {
                let mut batch = vec![first];
                while let Ok(next) = entries.try_recv() {
                    batch.push(next);
                }
                let bytes: Vec<u8> = batch.iter().flat_map(|(entry, _)| entry.clone()).collect();
                file.write_all(&bytes).and_then(|()| file.sync_data()).expect("a disk");
                for (_, written) in batch {
                    let _ = written.send(());
                }
            }
        });
        Self(sender)
    }
}

#[async_trait]
impl AuditLog for Record {
    async fn append(&self, entry: Vec<u8>) -> Result<(), audit::Error> {
        let (written, answer) = oneshot::channel();
        self.0.send((entry, written)).expect("the writer lives");
        answer.await.expect("the writer answers");
        Ok(())
    }
}

#[tokio::main]
async fn main() {
    // cargo adds `--bench`.
    let count = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let count: u32 = count.unwrap_or(2_000);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let issuer = format!("http://{}", listener.local_addr().expect("a port"));
    let client = Arc::new(Client::new(&issuer));
    let discovery = json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys") });
    let keys = json!({ "keys": [client.jwk] });
    let routes = Router::new()
        .route("/.well-known/openid-configuration", get(async move || Json(discovery.clone())))
        .route("/keys", get(async move || Json(keys.clone())));
    tokio::spawn(async move { axum::serve(listener, routes).await });

    let folder = tempfile::tempdir().expect("a folder");
    let ceremony = ceremony::create("Bench", Timestamp::now()).expect("certificates");
    let issuing = Certificate::parse(&ceremony.issuing.1).expect("a certificate");
    let key = FileSigner::generate().expect("randomness");
    let log_key = key.spki().to_vec();
    let log = Log { id: sha256(&log_key), issuer_key_hash: sha256(issuing.spki()), key };
    let tokens = Verifier::new([Issuer::new(&issuer, Mapping::EMAIL)]);
    let authority = Authority::new(Parts {
        tokens: tokens.expect("a URL"),
        issuing: vec![Credential {
            signer: Arc::new(ceremony.issuing.0),
            chain: vec![ceremony.issuing.1, ceremony.root.1],
            from: Timestamp::MIN,
        }],
        log: Arc::new(log),
        log_key,
        gate: Arc::new(|_, _| Ok(None)),
        limits: Limits::none(),
        audit: Audit::new(Arc::new(Record::open(folder.path()))),
        clock: Arc::new(Timestamp::now),
    });
    let authority = Arc::new(authority.expect("an authority"));

    let floor = floor(&client, count);
    println!("floor: {floor:.0} us CPU a certificate");
    for writers in [1_u32, 8, 64] {
        let each = count.min(writers * 250) / writers;
        let (start, start_cpu) = (Instant::now(), cpu());
        let tasks: Vec<_> = (0..writers)
            .map(|_| {
                let (authority, client) = (Arc::clone(&authority), Arc::clone(&client));
                tokio::spawn(async move {
                    for _ in 0..each {
                        let issued =
                            authority.issue(&client.token, &client.request, None, "bench").await;
                        issued.expect("a certificate");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        let issued = f64::from(each * writers);
        let wall = start.elapsed().as_secs_f64() * 1e6 / issued;
        let cpu = (cpu() - start_cpu).as_secs_f64() * 1e6 / issued;
        println!(
            "{writers:>4} writers: {wall:.0} us wall, {cpu:.0} us CPU, wall/floor {:.2}, cpu/floor {:.2}",
            wall / floor,
            cpu / floor,
        );
    }
}
