//! Both faces over real HTTP.

use crate::support::{ORIGIN, Place, read_whole};
use async_trait::async_trait;
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, KeyPair as _,
};
use bytes::Bytes;
use countersign_log::face::accept::Accepted;
use countersign_log::face::{rekor_v2, static_ct};
use countersign_log::read::Reader;
use countersign_log::signer::P256Key;
use countersign_log::store::{Files, Source, Sqlite, StoreError};
use countersign_log::{Clock, Format, Log, LogKey, Options, Signer, http};
use countersign_verify::bundle::LogEntry;
use countersign_verify::certificate::Certificate;
use countersign_verify::encoding::{base64, from_base64, hex};
use countersign_verify::key::{HashAlgorithm, PublicKey};
use countersign_verify::merkle::{Hash, InclusionProof};
use countersign_verify::sct::{self, Sct};
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

/// A server of both logs on a loopback port, and what its client needs.
pub(crate) struct Server {
    pub(crate) place: Place,
    base: String,
    client: Client,
    pub(crate) log: Log,
    certificates: Log,
    certificate_key: LogKey,
    /// Issuing CA and root, DER.
    chain: Vec<Vec<u8>>,
    pub(crate) issuer: Issuer<'static, KeyPair>,
}

pub(crate) const NOW: i64 = 1_764_000_000;

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(Options::new(Format::Entries)).await
    }

    async fn start_with(options: Options) -> Self {
        Self::start_accepting(options, |_| Accepted::default()).await
    }

    /// `accepted` is given the chain of the issuer.
    pub(crate) async fn start_accepting(
        options: Options,
        accepted: impl FnOnce(&[Vec<u8>]) -> Accepted,
    ) -> Self {
        let place = Place::new();
        let (store, lock) = place.parts().await;
        let log = Log::open(options, place.signer(), store, lock).await.unwrap();
        rekor_v2::Face::seed(&log).await.unwrap();

        let clock: Clock = Arc::new(|| jiff::Timestamp::from_second(NOW).unwrap());
        let rng = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &rng).unwrap();
        let key = Arc::new(P256Key::from_pkcs8(pkcs8.as_ref()).unwrap());
        let signer = Signer::rfc6962("127.0.0.1:8420", Arc::clone(&key), Arc::clone(&clock));
        let signer = signer.unwrap();
        let certificate_key = signer.key().clone();
        let store = Files::open(place.log_folder().with_file_name("ct")).unwrap();
        let database = Sqlite::open(&place.database()).await.unwrap();
        let lock = database.lock("127.0.0.1:8420").await.unwrap();
        let options = Options::new(Format::Data);
        let certificates =
            Log::open(options, signer, Arc::new(store), Arc::new(lock)).await.unwrap();
        let (root_key, issuer_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root_params = authority("root");
        let root = root_params.self_signed(&root_key).unwrap().der().to_vec();
        let root_issuer = Issuer::new(root_params, root_key);
        let issuer_params = authority("issuer");
        let issuing = issuer_params.signed_by(&issuer_key, &root_issuer).unwrap().der().to_vec();
        let chain = vec![issuing, root.clone()];
        let face = static_ct::Face::new(certificates.clone(), key, &[root], clock).unwrap();
        face.seed(&chain).await.unwrap();
        let signatures = rekor_v2::Face::new(log.clone()).accepting(accepted(&chain));

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let router = http::rekor_v2(signatures).merge(http::static_ct(face));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let issuer = Issuer::new(issuer_params, issuer_key);
        let client = Client::new();
        Self { place, base, client, log, certificates, certificate_key, chain, issuer }
    }

    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (StatusCode, Value) {
        let request = self.client.post(format!("{}{path}", self.base)).body(body);
        let reply = request.send().await.unwrap();
        let (status, kind) = (reply.status(), reply.headers()["content-type"].clone());
        assert_eq!(kind, "application/json");
        (status, serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap())
    }

    pub(crate) async fn submit(&self, request: &Value) -> (StatusCode, Value) {
        self.post("/api/v2/log/entries", request.to_string()).await
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(format!("{}{path}", self.base)).send().await.unwrap()
    }

    fn precertificate(&self, serial: u64, poisoned: bool) -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["signer.example.test".to_owned()]).unwrap();
        params.serial_number = Some(serial.into());
        if poisoned {
            let oid = [1, 3, 6, 1, 4, 1, 11129, 2, 4, 3];
            let mut poison = CustomExtension::from_oid_content(&oid, vec![5, 0]);
            poison.set_criticality(true);
            params.custom_extensions = vec![poison];
        }
        params.signed_by(&key, &self.issuer).unwrap().der().to_vec()
    }

    async fn add(&self, path: &str, chain: &[&[u8]]) -> (StatusCode, Value) {
        let chain: Vec<_> = chain.iter().map(|der| base64(der)).collect();
        self.post(path, json!({ "chain": chain }).to_string()).await
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

pub(crate) fn ecdsa(
    algorithm: &'static EcdsaSigningAlgorithm,
    details: &str,
    hash: HashAlgorithm,
    message: &[u8],
) -> Value {
    let pair = EcdsaKeyPair::generate(algorithm).unwrap();
    let signature = pair.sign(&SystemRandom::new(), message).unwrap();
    let spki = pair.public_key().as_der().unwrap();
    request(details, &hash.digest(message), signature.as_ref(), spki.as_ref())
}

pub(crate) fn p256(message: &[u8]) -> Value {
    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    ecdsa(algorithm, "PKIX_ECDSA_P256_SHA_256", HashAlgorithm::Sha256, message)
}

pub(crate) fn request(details: &str, digest: &[u8], signature: &[u8], spki: &[u8]) -> Value {
    json!({ "hashedRekordRequestV002": {
        "digest": base64(digest),
        "signature": { "content": base64(signature), "verifier": {
            "keyDetails": details, "publicKey": { "rawBytes": base64(spki) } } } } })
}

/// Checks a reply as a client would: signed checkpoint, inclusion, body.
pub(crate) fn check(reply: &Value, key: &LogKey) -> LogEntry {
    let entry = LogEntry::parse(reply.to_string().as_bytes()).unwrap();
    let proof = entry.proof.as_ref().unwrap();
    let checkpoint = key.open(&proof.checkpoint).unwrap();
    assert_eq!((proof.tree_size, proof.root), (checkpoint.size, Some(checkpoint.root)));
    assert_eq!((proof.log_index, &entry.log_id), (entry.log_index, key.log_id()));
    let (index, size, path) = (entry.log_index, checkpoint.size, proof.hashes.clone());
    let inclusion = InclusionProof::new(index, size, path).unwrap();
    inclusion.verify(&entry.body, &checkpoint.root).unwrap();
    entry
}

#[tokio::test]
async fn a_certificate_verifies_and_snake_case_is_understood() {
    let server = Server::start().await;
    let pair = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["signer.example.test".to_owned()]).unwrap();
    let certificate = params.signed_by(&pair, &server.issuer).unwrap();
    let signature = rcgen::SigningKey::sign(&pair, b"artifact").unwrap();
    let request = json!({ "hashed_rekord_request_v002": {
        "digest": base64(&HashAlgorithm::Sha256.digest(b"artifact")),
        "signature": { "content": base64(&signature), "verifier": {
            "key_details": "PKIX_ECDSA_P256_SHA_256",
            "x509_certificate": { "raw_bytes": base64(certificate.der()) } } } } });
    let (status, reply) = server.submit(&request).await;
    assert_eq!(status, StatusCode::CREATED, "{reply}");
    let body: Value = serde_json::from_slice(&check(&reply, &server.place.key()).body).unwrap();
    let verifier = &body["spec"]["hashedRekordV002"]["signature"]["verifier"];
    assert_eq!(verifier["x509Certificate"]["rawBytes"], json!(base64(certificate.der())));
}

#[tokio::test]
async fn a_request_that_is_off_in_one_thing_is_refused_for_that_thing() {
    let server = Server::start().await;
    let good = p256(b"message");
    let with = |path: &str, value: Value| {
        let mut request = good.clone();
        *request.pointer_mut(&format!("/hashedRekordRequestV002{path}")).unwrap() = value;
        request.to_string()
    };
    let verifier = |member: &str, value: Value| {
        let mut request = good.clone();
        let path = "/hashedRekordRequestV002/signature/verifier";
        request.pointer_mut(path).unwrap()[member] = value;
        request.to_string()
    };
    let raw = |bytes: &[u8]| json!({ "rawBytes": base64(bytes) });
    let text = good.to_string();
    let p384 = ecdsa(
        &ECDSA_P384_SHA384_ASN1_SIGNING,
        "PKIX_ECDSA_P256_SHA_256",
        HashAlgorithm::Sha256,
        b"message",
    );
    let huge = vec![b'A'; rekor_v2::MAX_REQUEST + 1];
    for (request, reason) in [
        (String::from("not JSON"), "JSON"),
        (format!("{text}x"), "JSON"),
        ("{}".to_owned(), "MISSING"),
        (text.replacen('{', r#"{"extra":1,"#, 1), "JSON"),
        (text.replacen(r#"{"digest""#, r#"{"digest":"AAAA","digest""#, 1), "JSON"),
        (text.replacen(r#""keyDetails""#, r#""key_details":"x","keyDetails""#, 1), "JSON"),
        (r#"{"dsseRequestV002":{"envelope":{}}}"#.to_owned(), "DSSE_REQUEST"),
        (text.replacen('{', r#"{"dsseRequestV002":{},"#, 1), "TWO_OF_ONE"),
        (with("/signature", Value::Null), "MISSING"),
        (with("/signature/content", json!("")), "MISSING"),
        (with("/signature/verifier", Value::Null), "MISSING"),
        (with("/digest", json!("")), "MISSING"),
        (with("/signature/verifier/publicKey", json!({})), "MISSING"),
        (with("/signature/verifier/publicKey", raw(&[0x30, 0])), "SIGNATURE"),
        (text.replacen("publicKey", "x509Certificate", 1), "CERTIFICATE"),
        (with("/digest", json!("not base64")), "BASE64"),
        (with("/digest", json!(base64(&[0; 31]))), "SIGNATURE"),
        (with("/digest", json!(base64(&[0; 32]))), "SIGNATURE"),
        (with("/signature/content", json!(base64(&[0x30, 0]))), "SIGNATURE"),
        (verifier("x509Certificate", raw(b"x")), "TWO_OF_ONE"),
        (verifier("keyDetails", json!("PKIX_ECDSA_P384_SHA_384")), "KEY_MISMATCH"),
        (verifier("keyDetails", json!("PKIX_ED25519")), "ALGORITHM"),
        (verifier("keyDetails", json!("PKIX_RSA_PSS")), "ALGORITHM"),
        (verifier("keyDetails", json!(7)), "ALGORITHM"),
        (verifier("keyDetails", json!("PKIX_ECDSA_P384_SHA_256")), "ALGORITHM"),
        (verifier("keyDetails", json!("PKIX_RSA_PSS_2048_SHA256")), "ALGORITHM"),
        (verifier("keyDetails", json!(12)), "KEY_MISMATCH"),
        (p384.to_string(), "KEY_MISMATCH"),
        (String::from_utf8(huge).unwrap(), "REQUEST_TOO_LONG"),
    ] {
        let shown: String = request.chars().take(300).collect();
        let (status, reply) = server.post("/api/v2/log/entries", request).await;
        assert_eq!((status, &reply["code"]), (StatusCode::BAD_REQUEST, &json!(3)), "{shown}");
        assert_eq!(reply["details"][0]["reason"], json!(reason), "{shown}\n{reply}");
        let field = &reply["details"][0]["field"];
        let named = !matches!(
            reason,
            "JSON" | "DSSE_REQUEST" | "REQUEST_TOO_LONG" | "TWO_OF_ONE" | "MISSING"
        );
        assert!(field.is_string() || !named, "{shown}\n{reply}");
        assert!(reply["message"].as_str().is_some_and(|message| message.len() > 10));
    }
    assert_eq!(server.log.head().checkpoint().size, 1);
}

#[tokio::test]
async fn a_busy_log_asks_to_come_back() {
    let options = Options { max_waiting: 1, ..Options::new(Format::Entries) };
    let server = Server::start_with(options).await;
    let requests: Vec<_> = (0..16_u8).map(|number| p256(&[number])).collect();
    let replies = futures_util::future::join_all(requests.iter().map(async |request| {
        let url = format!("{}/api/v2/log/entries", server.base);
        server.client.post(url).body(request.to_string()).send().await.unwrap()
    }))
    .await;
    let busy = replies.iter().filter(|reply| reply.status() == StatusCode::SERVICE_UNAVAILABLE);
    let busy: Vec<_> = busy.collect();
    assert!(!busy.is_empty(), "sixteen at once do not fit into a pool of one");
    assert!(busy.iter().all(|reply| reply.headers()["retry-after"] == "1"));
    let (status, _) = server.submit(&requests[15]).await;
    assert_eq!(status, StatusCode::CREATED);
}

#[tokio::test]
async fn the_read_side_is_files_with_types_and_lifetimes() {
    let server = Server::start().await;
    server.submit(&p256(b"another")).await;
    let binary = "application/octet-stream";
    let immutable = "public, max-age=604800, immutable";
    for (path, kind, cache) in [
        ("/api/v2/checkpoint", "text/plain; charset=utf-8", "public, max-age=1"),
        ("/api/v2/tile/0/000.p/2", binary, immutable),
        ("/api/v2/tile/entries/000.p/1", binary, immutable),
        ("/ct/checkpoint", "text/plain; charset=utf-8", "public, max-age=1"),
        ("/ct/tile/0/000.p/1", binary, immutable),
        ("/ct/tile/data/000.p/1", binary, immutable),
    ] {
        let reply = server.get(path).await;
        assert_eq!(reply.status(), StatusCode::OK, "{path}");
        assert_eq!(reply.headers()["content-type"], kind, "{path}");
        assert_eq!(reply.headers()["cache-control"], cache, "{path}");
    }
    for path in [
        "/api/v2/tile/0/000",
        "/api/v2/tile/0/000.p/3",
        "/api/v2/tile/0/0",
        "/api/v2/tile/0/000.p/0",
        "/api/v2/tile/0/000.p/256",
        "/api/v2/tile/0/000.p/257",
        "/api/v2/tile/0/000.p/70000",
        "/api/v2/tile/64/000.p/1",
        "/api/v2/tile/0/x001/000",
        "/api/v2/tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        "/api/v2/tile/data/000.p/1",
        "/api/v2/tile/..%2fcheckpoint",
        "/api/v2/tile/0/..%2f..%2f..%2fcountersign.db",
        "/ct/issuer/00",
        "/ct/tile/entries/000.p/1",
    ] {
        let reply = server.get(path).await;
        assert_eq!(reply.status(), StatusCode::NOT_FOUND, "{path}");
        let reply: Value = serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap();
        assert_eq!((&reply["code"], &reply["message"]), (&json!(5), &json!("Not Found")));
    }
    let (status, reply) = server.post("/api/v2/checkpoint", "").await;
    assert_eq!((status, &reply["code"]), (StatusCode::NOT_IMPLEMENTED, &json!(12)));
    let note = server.get("/api/v2/checkpoint").await.text().await.unwrap();
    let opened = server.place.key().open(&note).unwrap();
    assert_eq!((&opened.origin[..], opened.size), (ORIGIN, 2));
}

#[tokio::test]
async fn partial_tiles_can_be_read_after_the_full_one_has_come() {
    let server = Server::start().await;
    for number in 0..3_u8 {
        server.submit(&p256(&[number])).await;
    }
    let early = server.get("/api/v2/tile/0/000.p/2").await.bytes().await.unwrap();
    let early_entries = server.get("/api/v2/tile/entries/000.p/2").await.bytes().await.unwrap();
    crate::support::fill(&server.log, 4, 300).await;
    let late = server.get("/api/v2/tile/0/000.p/2").await;
    assert_eq!((late.status(), late.bytes().await.unwrap()), (StatusCode::OK, early));
    let late = server.get("/api/v2/tile/entries/000.p/2").await.bytes().await.unwrap();
    assert_eq!(late, early_entries);
}

fn read_sct(reply: &Value) -> Sct {
    let bytes = |member: &str| from_base64(reply[member].as_str().unwrap()).unwrap();
    let signature = bytes("signature");
    assert_eq!((&signature[..2], signature.len()), (&[4, 3][..], 4 + usize::from(signature[3])));
    Sct {
        log_id: bytes("id").try_into().unwrap(),
        timestamp: reply["timestamp"].as_u64().unwrap(),
        extensions: bytes("extensions"),
        algorithm: signature[..2].try_into().unwrap(),
        signature: signature[4..].to_vec(),
    }
}

#[tokio::test]
async fn a_precertificate_gets_a_receipt_that_holds_for_the_final_certificate() {
    let server = Server::start().await;
    let [issuing, root] = [&server.chain[0][..], &server.chain[1]];
    let key = PublicKey::from_spki(server.certificate_key.spki()).unwrap();
    let issuer_key_hash = *Hash::of(Certificate::parse(issuing).unwrap().spki()).as_bytes();
    let mut leaves = Vec::new();
    for (index, serial) in [(1, 11), (2, 12), (1, 11)] {
        let precertificate = match leaves.iter().find(|(known, _)| *known == serial) {
            Some((_, der)) => Vec::clone(der),
            None => server.precertificate(serial, true),
        };
        leaves.push((serial, precertificate.clone()));
        let chain: [&[u8]; 3] = [&precertificate, issuing, root];
        let (status, reply) = server.add("/ct/v1/add-pre-chain", &chain).await;
        assert_eq!((status, &reply["sct_version"]), (StatusCode::OK, &json!(0)), "{reply}");
        let sct = read_sct(&reply);
        assert_eq!(sct.leaf_index(), Some(index));
        assert_eq!(&sct.log_id, server.certificate_key.log_id());
        assert_eq!(sct.timestamp, 1_764_000_000_000);
        let certificate = Certificate::parse(&precertificate).unwrap();
        let tbs = sct::precertificate_tbs(&certificate).unwrap();
        let signed =
            sct::precert_signed_data(sct.timestamp, &issuer_key_hash, &tbs, &sct.extensions);
        key.verify_message(&signed, &sct.signature).unwrap();
        // The same bytes are the leaf in the tree.
        let head = server.certificates.head();
        server.certificates.prove_inclusion(&head, index, &signed).await.unwrap();
    }
    let final_certificate = server.precertificate(13, false);
    let (status, reply) = server.add("/ct/v1/add-chain", &[&final_certificate, issuing]).await;
    assert_eq!(status, StatusCode::OK, "{reply}");
    let sct = read_sct(&reply);
    let signed = sct::x509_signed_data(sct.timestamp, &final_certificate, &sct.extensions);
    key.verify_message(&signed, &sct.signature).unwrap();

    server.certificates.close().await;
    let store = Files::open(server.place.log_folder().with_file_name("ct")).unwrap();
    let report = read_whole(Arc::new(store), &server.certificate_key, Format::Data).await.unwrap();
    assert_eq!((report.size, report.repeated), (4, 0));
    for der in [issuing, root] {
        let path = format!("/ct/issuer/{}", hex(Hash::of(der).as_bytes()));
        let reply = server.get(&path).await;
        assert_eq!(reply.headers()["content-type"], "application/pkix-cert");
        assert_eq!(reply.bytes().await.unwrap(), der);
    }
    let roots: Value =
        serde_json::from_slice(&server.get("/ct/v1/get-roots").await.bytes().await.unwrap())
            .unwrap();
    assert_eq!(roots, json!({ "certificates": [base64(root)] }));
}

#[tokio::test]
async fn a_chain_that_does_not_lead_to_a_root_is_not_logged() {
    let server = Server::start().await;
    let other = Server::start().await;
    let [issuing, root] = [&server.chain[0][..], &server.chain[1]];
    let [precert, cert] = [true, false].map(|poisoned| server.precertificate(21, poisoned));
    let foreign = other.precertificate(22, true);
    let mut forged = precert.clone();
    *forged.last_mut().unwrap() ^= 1;
    let below_signer = {
        // A signing certificate that plays CA.
        let pair = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["signer.example.test".to_owned()]).unwrap();
        let signer = params.signed_by(&pair, &server.issuer).unwrap().der().to_vec();
        let lower = CertificateParams::new(vec!["lower.example.test".to_owned()]).unwrap();
        let lower = lower.signed_by(&KeyPair::generate().unwrap(), &Issuer::new(params, pair));
        (lower.unwrap().der().to_vec(), signer)
    };
    let pre = "/ct/v1/add-pre-chain";
    let add = "/ct/v1/add-chain";
    for (path, chain, reason) in [
        (pre, vec![], "CHAIN_LENGTH"),
        (pre, vec![&precert[..]; 11], "CHAIN_LENGTH"),
        (pre, vec![&b"no certificate"[..]], "CERTIFICATE"),
        (pre, vec![&cert, issuing], "POISON"),
        (add, vec![&precert, issuing], "POISON"),
        (pre, vec![&precert], "ROOT"),
        (pre, vec![&precert, root], "ISSUER"),
        (pre, vec![&foreign, &other.chain[0], &other.chain[1]], "ROOT"),
        (pre, vec![&foreign, issuing, root], "SIGNATURE"),
        (pre, vec![&forged, issuing, root], "SIGNATURE"),
        (add, vec![&below_signer.0, &below_signer.1, issuing, root], "ISSUER"),
    ] {
        let (status, reply) = server.add(path, &chain).await;
        assert_eq!((status, &reply["code"]), (StatusCode::BAD_REQUEST, &json!(3)), "{reply}");
        assert_eq!(reply["details"][0]["reason"], json!(reason), "{reply}");
    }
    for body in ["{}", r#"{"chain":"x"}"#, r#"{"chain":[],"more":1}"#, r#"{"chain":["?"]}"#] {
        let (status, _) = server.post(pre, body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    }
    assert_eq!(server.certificates.head().checkpoint().size, 1);
}

/// A log's published objects on a server.
struct Remote(Client, String);

#[async_trait]
impl Source for Remote {
    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        let fetched = async {
            let reply = self.0.get(format!("{}/{path}", self.1)).send().await?;
            if reply.status() == StatusCode::NOT_FOUND {
                return Ok(None);
            }
            reply.error_for_status()?.bytes().await.map(Some)
        };
        fetched.await.map_err(|error: reqwest::Error| StoreError::Fetch {
            path: path.to_owned(),
            source: Arc::new(error),
        })
    }
}

#[tokio::test]
async fn an_outsider_reads_both_logs_whole_over_http() {
    let server = Server::start().await;
    for number in 0..5_u8 {
        server.submit(&p256(&[number])).await;
    }
    let precertificate = server.precertificate(31, true);
    server.add("/ct/v1/add-pre-chain", &[&precertificate, &server.chain[0]]).await;
    for (prefix, key, format, size) in [
        ("/api/v2", server.place.key(), Format::Entries, 6),
        ("/ct", server.certificate_key.clone(), Format::Data, 2),
    ] {
        let source = Remote(server.client.clone(), format!("{}{prefix}", server.base));
        let source: Arc<dyn Source> = Arc::new(source);
        let report = read_whole(Arc::clone(&source), &key, format).await.unwrap();
        assert_eq!((report.size, report.repeated), (size, 0));
        let reader = Reader::open(source, &key, format).await.unwrap();
        let proven = reader.prove_inclusion(size - 1).await.unwrap().unwrap();
        proven.proof.verify(&proven.leaf, &report.root).unwrap();
    }
}
