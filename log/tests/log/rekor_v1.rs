//! The Rekor v1 face over real HTTP: what it answers is verified as clients verify it.

use crate::support::read_whole;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use countersign_log::face::rekor_v1::{Error, Face, Tree, tree_id};
use countersign_log::signer::P256Key;
use countersign_log::store::{Files, Folder, Sqlite};
use countersign_log::{AppendError, Clock, Format, Log, LogKey, Options, Shards, Signer, http};
use countersign_testkit::SigningKey;
use countersign_verify::dsse::{IN_TOTO, pae};
use countersign_verify::encoding::{base64, from_base64, from_hex, hex};
use countersign_verify::entry::{Verifier, hashedrekord_v1_body, promise_signed_data};
use countersign_verify::key::{HashAlgorithm, KeyDetails, PublicKey};
use countersign_verify::merkle::{ConsistencyProof, Hash, InclusionProof, leaf_hash};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const HOST: &str = "log.example.test";
const NOW: i64 = 1_764_000_000;

struct Server {
    folder: tempfile::TempDir,
    face: Option<Face>,
    base: String,
    client: Client,
    key: Arc<P256Key>,
    now: Arc<AtomicI64>,
}

impl Server {
    /// Has the log finish what it does, so that its folder has all of it.
    async fn close(&self) {
        let shard = self.face.as_ref().unwrap().shards().active();
        (*shard).as_ref().close().await;
    }

    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (key, face) = (new_key(), None);
        let now = Arc::new(AtomicI64::new(NOW));
        let mut server =
            Self { folder, face, base: String::new(), client: Client::new(), key, now };
        server.serve().await;
        server
    }

    /// Opens the log, anew or again, and serves it.
    async fn serve(&mut self) {
        let face = Face::new(self.tree("log", &self.key, vec![]).await, self.clock());
        self.face = Some(face.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.base = format!("http://{}", listener.local_addr().unwrap());
        let router = http::rekor_v1(face);
        tokio::spawn(async move { axum::serve(listener, router).await });
    }

    fn clock(&self) -> Clock {
        let now = Arc::clone(&self.now);
        Arc::new(move || jiff::Timestamp::from_second(now.load(Ordering::Relaxed)).unwrap())
    }

    async fn tree(&self, name: &str, key: &Arc<P256Key>, earlier: Vec<Log>) -> Tree {
        let signer = Signer::rekor_v1(HOST, tree_id(key.spki()), Arc::clone(key)).unwrap();
        let store = Files::open(self.folder.path().join(name)).unwrap();
        let database = Sqlite::open(&self.folder.path().join("db")).await.unwrap();
        let lock = database.lock(name).await.unwrap();
        let options = Options { earlier, ..Options::new(Format::Timed) };
        let log = Log::open(options, signer, Arc::new(store), Arc::new(lock)).await.unwrap();
        let tree = Tree::new(log, Arc::clone(key));
        tree.seed(&self.clock()).await.unwrap();
        tree
    }

    async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        let request = self.client.post(format!("{}{path}", self.base));
        let request = request.header("content-type", "application/json").body(body.to_string());
        request.send().await.unwrap()
    }

    async fn submit(&self, body: &Value) -> (StatusCode, Value) {
        let reply = self.post("/api/v1/log/entries", body).await;
        let status = reply.status();
        if status == StatusCode::CREATED {
            let id = reply.headers()["etag"].to_str().unwrap().to_owned();
            assert_eq!(reply.headers()["location"], format!("/api/v1/log/entries/{id}"));
            let answer: Value = reply.json().await.unwrap();
            assert!(answer.get(&id).is_some(), "the entry goes by the bare ETag");
            return (status, answer);
        }
        (status, reply.json().await.unwrap())
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(format!("{}{path}", self.base)).send().await.unwrap()
    }

    fn log_key(&self) -> LogKey {
        log_key(&self.key)
    }

    fn check(&self, answer: &Value) -> (String, Vec<u8>, i64, u64) {
        check(&self.key, answer)
    }
}

fn new_key() -> Arc<P256Key> {
    let rng = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &rng).unwrap();
    Arc::new(P256Key::from_pkcs8(pkcs8.as_ref()).unwrap())
}

fn log_key(key: &P256Key) -> LogKey {
    LogKey::rekor_v1(HOST, tree_id(key.spki()), key.spki()).unwrap()
}

/// Checks ID, promise, checkpoint and inclusion of an answer; returns the entry's name, body, time and
/// index.
fn check(key: &P256Key, answer: &Value) -> (String, Vec<u8>, i64, u64) {
    let (id, entry) = answer.as_object().unwrap().iter().next().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let body = from_base64(&text(&entry["body"])).unwrap();
    let (time, index) =
        (entry["integratedTime"].as_i64().unwrap(), entry["logIndex"].as_u64().unwrap());
    assert_eq!(text(&entry["logID"]), hex(key.log_id()));
    let tree = format!("{:016x}", tree_id(key.spki()));
    assert_eq!(*id, format!("{tree}{}", hex(leaf_hash(&body).as_bytes())));
    let signed = promise_signed_data(&body, time, key.log_id(), index);
    let promise = from_base64(&text(&entry["verification"]["signedEntryTimestamp"])).unwrap();
    PublicKey::from_spki(key.spki()).unwrap().verify_message(&signed, &promise).unwrap();
    let proof = &entry["verification"]["inclusionProof"];
    let checkpoint = log_key(key).open(proof["checkpoint"].as_str().unwrap()).unwrap();
    assert_eq!(checkpoint.origin, format!("{HOST} - {}", tree_id(key.spki())));
    assert_eq!(text(&proof["rootHash"]), hex(checkpoint.root.as_bytes()));
    assert_eq!(proof["treeSize"], json!(checkpoint.size));
    let hashes = hashes(&proof["hashes"]);
    let inclusion =
        InclusionProof::new(proof["logIndex"].as_u64().unwrap(), checkpoint.size, hashes);
    inclusion.unwrap().verify(&body, &checkpoint.root).unwrap();
    (id.clone(), body, time, index)
}

fn hashes(list: &Value) -> Vec<Hash> {
    let hash =
        |hash: &Value| Hash::try_from(&from_hex(hash.as_str().unwrap()).unwrap()[..]).unwrap();
    list.as_array().unwrap().iter().map(hash).collect()
}

fn pem(key: &SigningKey) -> String {
    base64(Verifier::PublicKey(&key.spki()).to_pem().as_bytes())
}

fn rekord(key: &SigningKey, message: &[u8]) -> Value {
    let hash = key.details().scheme().hash().unwrap();
    json!({ "apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
        "data": { "hash": { "algorithm": hash.short_name(), "value": hex(&hash.digest(message)) } },
        "signature": { "content": base64(&key.sign(message)), "publicKey": { "content": pem(key) } } } })
}

fn dsse(key: &SigningKey, payload: &[u8]) -> Value {
    let signature = key.sign(&pae(IN_TOTO, payload));
    let envelope = json!({ "payloadType": IN_TOTO, "payload": base64(payload),
        "signatures": [{ "keyid": "", "sig": base64(&signature) }] });
    json!({ "apiVersion": "0.0.1", "kind": "dsse", "spec": { "proposedContent": {
        "envelope": envelope.to_string(), "verifiers": [pem(key)] } } })
}

fn intoto(key: &SigningKey, payload: &[u8]) -> Value {
    let twice = |bytes: &[u8]| base64(base64(bytes).as_bytes());
    let signature = key.sign(&pae(IN_TOTO, payload));
    json!({ "apiVersion": "0.0.2", "kind": "intoto", "spec": { "content": {
        "envelope": { "payloadType": IN_TOTO, "payload": twice(payload),
            "signatures": [{ "publicKey": pem(key), "sig": twice(&signature) }] },
        "hash": { "algorithm": "sha256", "value": "ab".repeat(32) } } } })
}

#[tokio::test]
async fn each_kind_is_logged_promised_and_proven_and_a_repeat_gets_the_same_entry() {
    let mut server = Server::start().await;
    let key = SigningKey::generate(KeyDetails::EcdsaP256Sha256);
    let mut requests = vec![dsse(&key, b"{}"), intoto(&key, b"{}")];
    for details in [
        KeyDetails::EcdsaP256Sha256,
        KeyDetails::EcdsaP384Sha384,
        KeyDetails::Rsa2048Sha256,
        KeyDetails::Ed25519Ph,
    ] {
        requests.push(rekord(&SigningKey::generate(details), b"message"));
    }
    requests.push(dsse(&SigningKey::generate(KeyDetails::Ed25519), b"{}"));
    // One that is checked beside the runtime.
    requests.push(dsse(&key, &vec![b' '; 1 << 20]));
    let mut known = Vec::new();
    for (expected, request) in (1..).zip(&requests) {
        let (status, answer) = server.submit(request).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        let (id, body, time, index) = server.check(&answer);
        assert_eq!((time, index), (NOW, expected));
        let sorted: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(serde_json::to_vec(&sorted).unwrap(), body, "canonical");
        known.push((id, body));
    }
    // Later, and after a restart: the same entries with the time they came.
    server.now.store(NOW + 1000, Ordering::Relaxed);
    server.serve().await;
    for (index, (request, (id, body))) in (1..).zip(requests.iter().zip(&known)) {
        let (status, answer) = server.submit(request).await;
        assert_eq!(status, StatusCode::CREATED);
        let expected = (id.clone(), body.clone(), NOW, index);
        assert_eq!(server.check(&answer), expected);
        for path in [id.clone(), id[16..].to_owned()] {
            let reply = server.get(&format!("/api/v1/log/entries/{path}")).await;
            assert_eq!(server.check(&reply.json().await.unwrap()), expected);
        }
        let reply = server.get(&format!("/api/v1/log/entries?logIndex={index}")).await;
        assert_eq!(server.check(&reply.json().await.unwrap()), expected);
    }
    server.close().await;
    let (folder, key) = (Folder::new(server.folder.path().join("log")), server.log_key());
    assert_eq!(read_whole(Arc::new(folder), &key, Format::Timed).await.unwrap().size, 9);
}

#[tokio::test]
async fn what_is_stored_is_what_verifiers_write() {
    let server = Server::start().await;
    let key = SigningKey::generate(KeyDetails::EcdsaP256Sha256);
    let mut request = rekord(&key, b"message");
    let digest = HashAlgorithm::Sha256.digest(b"message");
    let signature = from_base64(request["spec"]["signature"]["content"].as_str().unwrap()).unwrap();
    // Surplus members, upper case and other line ends are not kept.
    request["spec"]["signature"]["format"] = "x509".into();
    request["spec"]["data"]["hash"]["value"] = hex(&digest).to_uppercase().into();
    let text = Verifier::PublicKey(&key.spki()).to_pem().replace('\n', "\r\n");
    request["spec"]["signature"]["publicKey"]["content"] = base64(text.as_bytes()).into();
    let (_, answer) = server.submit(&request).await;
    let (_, body, ..) = server.check(&answer);
    let (hash, spki) = (HashAlgorithm::Sha256, key.spki());
    assert_eq!(body, hashedrekord_v1_body(hash, &digest, &signature, Verifier::PublicKey(&spki)));
}

#[tokio::test]
async fn several_entries_are_retrieved_at_once_and_misses_left_out() {
    let server = Server::start().await;
    let key = SigningKey::generate(KeyDetails::EcdsaP256Sha256);
    let (first, unknown) = (rekord(&key, b"first"), rekord(&key, b"unknown"));
    let (_, answer) = server.submit(&first).await;
    let (id, ..) = server.check(&answer);
    for path in ["/api/v1/log/entries/retrieve", "/api/v1/log/entries/retrieve/"] {
        let request = json!({ "entryUUIDs": [id, "00".repeat(32)], "logIndexes": [0, 99],
            "entries": [first, unknown] });
        let reply = server.post(path, &request).await;
        let answers: Value = reply.json().await.unwrap();
        let indices: Vec<_> =
            answers.as_array().unwrap().iter().map(|answer| server.check(answer).3).collect();
        assert_eq!(indices, [1, 0, 1]);
    }
    // As Go clients ask for one alone.
    let request = json!({ "entryUUIDs": null, "logIndexes": null, "entries": [first] });
    let reply = server.post("/api/v1/log/entries/retrieve", &request).await;
    let answers: Value = reply.json().await.unwrap();
    assert_eq!(server.check(&answers[0]).3, 1);
    for asked in [0, 11] {
        let reply = server
            .post("/api/v1/log/entries/retrieve", &json!({ "logIndexes": vec![0; asked] }))
            .await;
        assert_eq!(reply.status(), StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(server.get("/api/v1/log/entries?logIndex=99").await.status(), StatusCode::NOT_FOUND);
    for path in ["/api/v1/log/entries", "/api/v1/log/publicKey"] {
        let reply = server.get(&format!("{path}?logIndex=1&logIndex=2&treeID=1&treeID=2")).await;
        assert_eq!(reply.status(), StatusCode::BAD_REQUEST);
        assert_eq!(reply.json::<Value>().await.unwrap()["code"], 400, "{path}");
    }
    let other = format!("{:016x}{}", 7, "00".repeat(32));
    let reply = server.get(&format!("/api/v1/log/entries/{other}")).await;
    assert_eq!(reply.status(), StatusCode::BAD_REQUEST);
    let message: Value = reply.json().await.unwrap();
    assert!(message["message"].as_str().unwrap().contains("another tree"), "{message}");
}

#[tokio::test]
async fn the_tree_head_and_its_history_are_public() {
    let server = Server::start().await;
    let key = SigningKey::generate(KeyDetails::EcdsaP256Sha256);
    let mut roots = vec![];
    for number in 0..10 {
        let info: Value = server.get("/api/v1/log").await.json().await.unwrap();
        let checkpoint = server.log_key().open(info["signedTreeHead"].as_str().unwrap()).unwrap();
        assert_eq!(info["treeSize"], json!(checkpoint.size));
        assert_eq!(info["treeID"], json!(tree_id(server.key.spki()).to_string()));
        assert_eq!(checkpoint.size, number + 1);
        roots.push(checkpoint.root);
        server.submit(&rekord(&key, &number.to_be_bytes())).await;
    }
    let id = tree_id(server.key.spki());
    for first in 1..=10_u64 {
        for last in first..=10 {
            let path = format!("/api/v1/log/proof?firstSize={first}&lastSize={last}&treeID={id}");
            let answer: Value = server.get(&path).await.json().await.unwrap();
            let proof = ConsistencyProof::new(first, last, hashes(&answer["hashes"])).unwrap();
            let root = |size: u64| &roots[usize::try_from(size).unwrap() - 1];
            proof.verify(root(first), root(last)).unwrap();
        }
    }
    for (query, status) in [
        ("firstSize=5&lastSize=4", StatusCode::BAD_REQUEST),
        ("firstSize=0", StatusCode::BAD_REQUEST),
        ("lastSize=12", StatusCode::BAD_REQUEST),
        ("treeID=1", StatusCode::BAD_REQUEST),
        ("firstSize=x", StatusCode::UNPROCESSABLE_ENTITY),
        ("firstSize=1&firstSize=2", StatusCode::BAD_REQUEST),
    ] {
        let reply = server.get(&format!("/api/v1/log/proof?{query}")).await;
        assert_eq!(reply.status(), status, "{query}");
        let reply: Value = reply.json().await.unwrap();
        assert!(reply["code"].is_u64() && reply["message"].is_string(), "{query}: {reply}");
    }
    let pem = server.get("/api/v1/log/publicKey").await.text().await.unwrap();
    assert_eq!(PublicKey::from_pem(&pem).unwrap().spki(), server.key.spki());
}

#[tokio::test]
async fn what_does_not_verify_is_not_logged() {
    let server = Server::start().await;
    let key = SigningKey::generate(KeyDetails::EcdsaP256Sha256);
    let other = SigningKey::generate(KeyDetails::EcdsaP256Sha256);
    let with = |request: &Value, path: &str, value: Value| {
        let mut request = request.clone();
        *request.pointer_mut(path).unwrap() = value;
        request
    };
    let (rekord, dsse, intoto) = (rekord(&key, b"m"), dsse(&key, b"{}"), intoto(&key, b"{}"));
    let signature = "/spec/signature/content";
    let public = "/spec/signature/publicKey/content";
    let twice_pem = base64(Verifier::PublicKey(&key.spki()).to_pem().repeat(2).as_bytes());
    for (request, expected) in [
        (json!({}), "not as it must be"),
        (with(&rekord, "/kind", "rpm".into()), "found \"rpm 0.0.1\""),
        (with(&rekord, "/apiVersion", "0.0.3".into()), "0.0.3"),
        (with(&rekord, signature, base64(&key.sign(b"other")).into()), "was not made over"),
        (with(&rekord, signature, "".into()), "signature.content"),
        (with(&rekord, public, pem(&other).into()), "was not made over"),
        (with(&rekord, public, base64(b"x").into()), "PEM"),
        (with(&rekord, public, twice_pem.into()), "PEM"),
        (with(&rekord, "/spec/data/hash/value", "ab".into()), "data.hash.value"),
        (with(&rekord, "/spec/data/hash/algorithm", "md5".into()), "data.hash.algorithm"),
        (
            with(&dsse, "/spec/proposedContent/verifiers", json!([pem(&other)])),
            "none of the verifiers",
        ),
        (with(&dsse, "/spec/proposedContent/verifiers", json!([])), "none of the verifiers"),
        (with(&dsse, "/spec/proposedContent/envelope", "{}".into()), "not as it must be"),
        (
            with(&dsse, "/spec/proposedContent/verifiers", json!(vec![pem(&key); 17])),
            "at most 16 pairs of a signature and a verifier, found 17",
        ),
        (
            with(&intoto, "/spec/content/envelope/signatures/0/publicKey", pem(&other).into()),
            "was not made over",
        ),
        (
            with(&intoto, "/spec/content/envelope/signatures", json!([])),
            "expected 1 to 16 signatures",
        ),
        (with(&intoto, "/spec/content/envelope/payload", "e30=".into()), "envelope.payload"),
        (with(&intoto, "/spec/content/hash/value", "x".into()), "content.hash"),
    ] {
        let (status, reply) = server.submit(&request).await;
        assert_eq!((status, &reply["code"]), (StatusCode::BAD_REQUEST, &json!(400)), "{request}");
        assert!(reply["message"].as_str().unwrap().contains(expected), "{expected:?} in {reply}");
    }
    let url = format!("{}/api/v1/log/entries", server.base);
    let plain =
        server.client.post(&url).header("content-type", "text/plain").body(rekord.to_string());
    assert_eq!(plain.send().await.unwrap().status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let long = server.client.post(&url).header("content-type", "application/json");
    let long = long.body(vec![b' '; (16 << 20) + 1]).send().await.unwrap();
    assert_eq!(long.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let info: Value = server.get("/api/v1/log").await.json().await.unwrap();
    assert_eq!(info["treeSize"], json!(1), "the seed alone");
}

#[tokio::test]
async fn indices_count_through_the_shards_and_proofs_stay_within_one() {
    let server = Server::start().await;
    let (key, next) = (SigningKey::generate(KeyDetails::EcdsaP256Sha256), new_key());
    let requests: Vec<_> = (0..4_u8).map(|number| rekord(&key, &[number])).collect();
    let mut known = Vec::new();
    for request in &requests[..2] {
        let (_, answer) = server.submit(request).await;
        known.push((Arc::clone(&server.key), server.check(&answer)));
    }
    let shards = server.face.as_ref().unwrap().shards();
    let first: Log = (*shards.active()).as_ref().clone();
    shards.announce(server.tree("log-2", &next, vec![first]).await);
    let info: Value = server.get("/api/v1/log").await.json().await.unwrap();
    let inactive = json!([{ "rootHash": info["rootHash"], "signedTreeHead": info["signedTreeHead"],
        "treeID": info["treeID"], "treeSize": 3 }]);
    assert_eq!(info["inactiveShards"], json!([]), "announced is not begun");
    assert!(shards.turn().await.unwrap());
    for request in &requests[2..] {
        let (_, answer) = server.submit(request).await;
        let entry = check(&next, &answer);
        let proof = &answer[&entry.0]["verification"]["inclusionProof"];
        assert_eq!(proof["logIndex"].as_u64(), Some(entry.3 - 3));
        known.push((Arc::clone(&next), entry));
    }
    let indices: Vec<_> = known.iter().map(|(_, (_, _, _, index))| *index).collect();
    assert_eq!(indices, [1, 2, 4, 5], "each tree begins with an entry of its own");
    for ((key, entry), request) in known.iter().zip(&requests) {
        let (id, _, _, index) = entry;
        let (_, repeat) = server.submit(request).await;
        assert_eq!(check(key, &repeat), *entry);
        for path in [id.clone(), id[16..].to_owned(), format!("?logIndex={index}")] {
            let reply = server.get(&format!("/api/v1/log/entries/{path}").replace("/?", "?")).await;
            assert_eq!(check(key, &reply.json().await.unwrap()), *entry, "{path}");
        }
    }
    let ids: Vec<_> = known.iter().map(|(_, (id, ..))| id).collect();
    let asked = json!({ "entryUUIDs": ids, "logIndexes": [0, 3], "entries": [requests[0]] });
    let found = server.post("/api/v1/log/entries/retrieve", &asked).await;
    assert_eq!(found.json::<Vec<Value>>().await.unwrap().len(), 7);
    assert_eq!(server.get("/api/v1/log/entries?logIndex=6").await.status(), StatusCode::NOT_FOUND);

    let info: Value = server.get("/api/v1/log").await.json().await.unwrap();
    assert_eq!(info["inactiveShards"], inactive);
    assert_eq!(
        (&info["treeSize"], &info["treeID"]),
        (&json!(3), &json!(tree_id(next.spki()).to_string()))
    );
    for (key, of) in
        [(&next, String::new()), (&next, tree(&next)), (&server.key, tree(&server.key))]
    {
        let pem = server.get(&format!("/api/v1/log/publicKey?{of}")).await.text().await.unwrap();
        assert_eq!(pem, Verifier::PublicKey(key.spki()).to_pem());
        let proof = server.get(&format!("/api/v1/log/proof?lastSize=3&{of}")).await;
        let proof: Value = proof.json().await.unwrap();
        let of_tree = if Arc::ptr_eq(key, &next) { &info } else { &inactive[0] };
        assert_eq!(proof["rootHash"], of_tree["rootHash"]);
    }
    // What Rekor v1 does not have: the tiles of each.
    for (key, head) in
        [(&next, &info["signedTreeHead"]), (&server.key, &inactive[0]["signedTreeHead"])]
    {
        let tree = tree_id(key.spki());
        let note = server.get(&format!("/v1/{tree}/checkpoint")).await.text().await.unwrap();
        assert_eq!(&json!(note), head);
        let tile = server.get(&format!("/v1/{tree}/tile/timed/000.p/3")).await;
        assert_eq!(tile.status(), StatusCode::OK);
        let others = ["7", "+7", "x"].map(|tree| format!("/v1/{tree}/checkpoint"));
        for path in others.into_iter().chain([format!("/v1/{tree}/tile/timed/000.p/4")]) {
            assert_eq!(server.get(&path).await.status(), StatusCode::NOT_FOUND, "{path}");
        }
    }
    let other = server.get("/api/v1/log/publicKey?treeID=7").await;
    assert_eq!(other.status(), StatusCode::BAD_REQUEST);
    server.close().await;
    for (key, name) in [(&server.key, "log"), (&next, "log-2")] {
        let folder = Folder::new(server.folder.path().join(name));
        assert_eq!(
            read_whole(Arc::new(folder), &log_key(key), Format::Timed).await.unwrap().size,
            3
        );
    }
}

#[tokio::test]
async fn what_a_halted_shard_has_and_cannot_show_stays_its_own_and_the_next_one_counts_it() {
    let server = Server::start().await;
    let (key, next) = (SigningKey::generate(KeyDetails::EcdsaP256Sha256), new_key());
    let [before, committed, after] = [0, 1, 2_u8].map(|number| rekord(&key, &[number]).to_string());
    let face = server.face.clone().unwrap();
    let index = async |face: &Face, request: &str| {
        face.submit(request.to_owned()).await.map(|logged| logged.entry.log_index)
    };
    assert_eq!(index(&face, &before).await.unwrap(), 1);
    let folder = server.folder.path().join("log");
    let stored = || std::fs::read_to_string(folder.join("checkpoint")).unwrap();
    while stored().lines().nth(1) != Some("2") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for staged in [".staged-0", ".staged-1"] {
        let _ = std::fs::remove_file(folder.join(staged)); // one may not be there yet
    }
    let bundle = folder.join("tile/timed/000.part");
    let whole = std::fs::read(&bundle).unwrap();
    std::fs::write(&bundle, "").unwrap();
    // It is committed, and then cannot be written beside the others.
    let refused = index(&face, &committed).await.unwrap_err();
    assert!(matches!(refused, Error::Append(AppendError::Halted(_))), "{refused}");
    let first: Log = (*face.shards().active()).as_ref().clone();
    face.shards().announce(server.tree("log-2", &next, vec![first]).await);
    assert!(face.shards().turn().await.unwrap());
    let refused = index(&face, &committed).await;
    assert!(
        matches!(refused, Err(Error::Append(AppendError::Earlier { index: 2, .. }))),
        "{refused:?}"
    );
    assert_eq!(index(&face, &after).await.unwrap(), 4, "three are in the first, and the seed");
    server.close().await;
    drop(face);

    std::fs::write(&bundle, whole).unwrap();
    let first = server.tree("log", &server.key, vec![]).await;
    let log: Log = first.as_ref().clone();
    let second = server.tree("log-2", &next, vec![log]).await;
    let face = Face::new(Shards::new(vec![first, second], 2).await.unwrap(), server.clock());
    for (request, expected) in [(&before, 1), (&committed, 2), (&after, 4)] {
        assert_eq!(index(&face, request).await.unwrap(), expected);
    }
}

fn tree(key: &P256Key) -> String {
    format!("treeID={}", tree_id(key.spki()))
}
