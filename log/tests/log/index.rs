//! Search: against what was logged, not against what was indexed.

use crate::support::Place;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use countersign_log::face::{rekor_v1, rekor_v2};
use countersign_log::index::postings::{Posting, Postings, Run};
use countersign_log::index::{Error, Facts, Index, Pace, Page, Published, Query, Resume};
use countersign_log::read::Reader;
use countersign_log::signer::P256Key;
use countersign_log::store::{Files, Sqlite};
use countersign_log::{Clock, Format, Log, Options, Signer as LogSigner, http};
use countersign_testkit::{Instance, Signer};
use countersign_verify::certificate::Certificate;
use countersign_verify::dsse::{IN_TOTO, pae};
use countersign_verify::encoding::{base64, from_base64, hex};
use countersign_verify::entry::{Verifier, promise_signed_data};
use countersign_verify::key::{HashAlgorithm, KeyDetails, PublicKey};
use countersign_verify::merkle::{Hash, InclusionProof};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;

const NOW: i64 = 1_764_000_000;
const ISSUERS: [&str; 2] = ["https://issuer.example.test", "https://other.example.test"];

/// Both signature logs of an instance, and who signs.
struct World {
    place: Place,
    instance: Instance,
    key: Signer,
    newer: rekor_v2::Face,
    older: rekor_v1::Face,
}

/// An entry that was logged, and what it must be found by.
#[derive(Clone, Debug)]
struct Logged {
    log_id: [u8; 32],
    index: u64,
    by: Vec<(&'static str, String)>,
}

impl World {
    async fn new() -> Self {
        let place = Place::new();
        let log = place.open().await;
        rekor_v2::Face::seed(&log).await.unwrap();
        let newer = rekor_v2::Face::new(log);
        let pair =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
        let key = Arc::new(P256Key::from_pkcs8(pair.unwrap().as_ref()).unwrap());
        let signer = LogSigner::rekor_v1(
            "log.example.test",
            rekor_v1::tree_id(key.spki()),
            Arc::clone(&key),
        );
        let store = Arc::new(Files::open(place.log_folder().with_file_name("log-v1")).unwrap());
        let database = Sqlite::open(&place.database()).await.unwrap();
        let lock = Arc::new(database.lock("log-v1").await.unwrap());
        let log =
            Log::open(Options::new(Format::Timed), signer.unwrap(), store, lock).await.unwrap();
        let clock: Clock = Arc::new(|| jiff::Timestamp::from_second(NOW).unwrap());
        let tree = rekor_v1::Tree::new(log, key);
        tree.seed(&clock).await.unwrap();
        let older = rekor_v1::Face::new(tree, clock);
        let key = Signer::with_key(KeyDetails::EcdsaP256Sha256);
        Self { place, instance: Instance::new(), key, newer, older }
    }

    fn published(&self) -> Vec<Published> {
        vec![self.newer_log().published(), self.older_log().published()]
    }

    fn newer_log(&self) -> Log {
        Log::clone(&self.newer.shards().active())
    }

    fn older_log(&self) -> Log {
        Log::clone((*self.older.shards().active()).as_ref())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.database().with_file_name(name)
    }

    async fn index(&self, name: &str) -> Index {
        Index::open(&self.path(name), self.published()).await.unwrap()
    }

    /// Logs the entry with that number: each kind, by certificates and by a key.
    async fn log(&self, number: u64) -> Logged {
        let uri = format!("https://github.com/Acme/w{}/x.yml@refs/tags/v{number}", number % 3);
        let issuer = ISSUERS[usize::from(number.is_multiple_of(2))];
        let certified = self.instance.certify(&uri, issuer);
        let with_key = number % 4 == 3;
        let signer = if with_key { &self.key } else { &certified };
        let message = format!("{{\"number\":{number}}}").into_bytes();
        let hash = HashAlgorithm::Sha256;
        let digest = hash.digest(&message);
        let mut by = vec![("key", hex(&hash.digest(&signer.spki())))];
        let verifier = if with_key { None } else { Some(certified.certificate().to_vec()) };
        if let Some(der) = &verifier {
            let certificate = Certificate::parse(der).unwrap();
            by.push(("serial", hex(certificate.serial())));
            by.push(("identity", uri.to_uppercase()));
            by.push(("identity", format!("{}*", &uri[..20])));
            by.push(("identity", format!("*/v{number}")));
            by.push(("issuer", issuer.to_owned()));
        }
        let borrowed = match &verifier {
            Some(der) => Verifier::Certificate(der),
            None => Verifier::PublicKey(&signer.spki()),
        };
        let pem = base64(borrowed.to_pem().as_bytes());
        let (kind, log_id, index) = match number % 5 {
            0 | 1 => {
                let (name, raw) = match borrowed {
                    Verifier::Certificate(der) => ("x509Certificate", base64(der)),
                    Verifier::PublicKey(spki) => ("publicKey", base64(spki)),
                };
                let request = json!({ "hashedRekordRequestV002": { "digest": base64(&digest),
                    "signature": { "content": base64(&signer.sign(&message)), "verifier": {
                        "keyDetails": "PKIX_ECDSA_P256_SHA_256", name: { "rawBytes": raw } } } } });
                let entry = self.newer.submit(request.to_string().as_bytes()).await.unwrap();
                by.push(("digest", format!("sha256:{}", hex(&digest))));
                ("hashedrekord 0.0.2", entry.log_id, entry.log_index)
            }
            2 => {
                let request = json!({ "apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
                    "data": { "hash": { "algorithm": "sha256", "value": hex(&digest) } },
                    "signature": { "content": base64(&signer.sign(&message)),
                        "publicKey": { "content": pem } } } });
                let entry = self.older.submit(request.to_string()).await.unwrap().entry;
                by.push(("digest", hex(&digest)));
                ("hashedrekord 0.0.1", entry.log_id, entry.log_index)
            }
            3 => {
                let envelope = json!({ "payloadType": IN_TOTO, "payload": base64(&message),
                    "signatures": [{ "sig": base64(&signer.sign(&pae(IN_TOTO, &message))) }] });
                let request = json!({ "apiVersion": "0.0.1", "kind": "dsse", "spec": {
                    "proposedContent": { "envelope": envelope.to_string(), "verifiers": [pem] } } });
                let entry = self.older.submit(request.to_string()).await.unwrap().entry;
                by.push(("digest", hex(&digest)));
                by.push(("digest", hex(&hash.digest(envelope.to_string().as_bytes()))));
                ("dsse 0.0.1", entry.log_id, entry.log_index)
            }
            _ => {
                let twice = |bytes: &[u8]| base64(base64(bytes).as_bytes());
                let signature = signer.sign(&pae(IN_TOTO, &message));
                let request = json!({ "apiVersion": "0.0.2", "kind": "intoto", "spec": { "content": {
                    "envelope": { "payloadType": IN_TOTO, "payload": twice(&message),
                        "signatures": [{ "publicKey": pem, "sig": twice(&signature) }] },
                    "hash": { "algorithm": "sha256", "value": hex(&hash.digest(&number.to_be_bytes())) } } } });
                let entry = self.older.submit(request.to_string()).await.unwrap().entry;
                by.push(("digest", hex(&digest)));
                by.push(("digest", hex(&hash.digest(&number.to_be_bytes()))));
                ("intoto 0.0.2", entry.log_id, entry.log_index)
            }
        };
        by.push(("kind", kind.to_owned()));
        by.push(("kind", kind.split(' ').next().unwrap().to_owned()));
        if kind != "hashedrekord 0.0.2" {
            by.extend([
                ("since", "2025-11-24T16:00:00Z".to_owned()),
                ("until", "2025-11-24".to_owned()),
            ]);
        } else if !with_key {
            by.extend([
                ("since", "2026-11-23".to_owned()),
                ("until", "2026-11-23T12:00:00Z".to_owned()),
            ]);
        }
        Logged { log_id, index, by }
    }
}

fn query(pairs: &[(&str, String)]) -> Query {
    let mut query = Query::default();
    pairs.iter().try_for_each(|(name, value)| query.set(name, value)).unwrap();
    query.checked().unwrap()
}

/// All pages of an answer, `limit` entries each.
async fn all(index: &Index, query: &Query, limit: usize) -> (Vec<([u8; 32], u64)>, Page) {
    let (mut found, mut resume) = (Vec::new(), Resume::default());
    loop {
        let page = index.search(query, &|_| true, &resume, limit).await.unwrap();
        assert!(page.entries.len() <= limit);
        found.extend(page.entries.iter().map(|&(tree, leaf)| (*page.trees[tree].log_id(), leaf)));
        if page.complete {
            return (found, page);
        }
        resume = Resume::parse(&page.resume.to_string()).unwrap();
        assert_eq!(resume, page.resume);
    }
}

async fn sums(index: &Index) -> Vec<Option<(u64, u128)>> {
    index.sums(&index.indexed()).await.unwrap()
}

#[tokio::test]
async fn an_entry_is_found_by_all_that_it_says_and_by_nothing_else() {
    let world = World::new().await;
    let index = world.index("index.db").await;
    let mut logged = Vec::new();
    for number in 0..40 {
        logged.push(world.log(number).await);
        if number % 7 == 0 {
            index.catch_up(Pace::Full).await.unwrap();
        }
    }
    index.catch_up(Pace::Full).await.unwrap();
    let has = |entry: &Logged, wanted: &[(&str, String)]| {
        wanted.iter().all(|pair| entry.by.contains(pair))
    };
    for entry in logged.iter().step_by(3) {
        // Each value alone, and each with each.
        for first in &entry.by {
            for second in &entry.by {
                let pairs = match first {
                    first if first == second => vec![first.clone()],
                    first if first.0 == second.0 => continue,
                    first => vec![first.clone(), second.clone()],
                };
                let (found, page) = all(&index, &query(&pairs), 7).await;
                let expected = logged.iter().filter(|entry| has(entry, &pairs));
                let mut expected: Vec<_> = expected.map(|it| (it.log_id, it.index)).collect();
                // A day or a prefix is of others too; a whole value is its entries' own.
                let wide = |(name, value): &(&str, String)| {
                    ["since", "until", "kind"].contains(name) || value.contains('*')
                };
                assert!(found.contains(&(entry.log_id, entry.index)), "{pairs:?}");
                if !pairs.iter().any(wide) {
                    let order =
                        |id: &[u8; 32]| page.trees.iter().position(|tree| tree.log_id() == id);
                    expected.sort_by_key(|(id, index)| (order(id), *index));
                    assert_eq!(found, expected, "{pairs:?}");
                }
            }
        }
    }
    for absent in [
        ("digest", "00".repeat(32)),
        ("identity", "https://github.com/acme/w1/x.yml@refs/tags/v".to_owned()),
        ("identity", "github.com/*".to_owned()),
        ("issuer", "https://issuer.example.test/".to_owned()),
        ("kind", "unknown".to_owned()),
        ("since", "2026-11-24".to_owned()),
        ("until", "2025-11-23".to_owned()),
    ] {
        let (found, _) = all(&index, &query(std::slice::from_ref(&absent)), 7).await;
        assert_eq!(found, [], "{absent:?}");
    }
    let (both, _) = all(&index, &query(&[("since", "2025-01-01".into())]), 7).await;
    let timed = logged.iter().filter(|entry| entry.by.iter().any(|(name, _)| *name == "since"));
    assert_eq!(both.len(), timed.count() + 1, "of the seeds one has a time");
    index.close().await;
}

#[tokio::test]
async fn an_answer_is_complete_up_to_its_checkpoint() {
    let world = World::new().await;
    let index = world.index("index.db").await;
    index.follow().unwrap();
    for number in 0..10 {
        let entry = world.log(number).await;
        let digest = entry.by.iter().find(|(name, _)| *name == "digest").unwrap();
        loop {
            let (found, page) = all(&index, &query(std::slice::from_ref(digest)), 7).await;
            let tree = page.trees.iter().find(|tree| tree.log_id() == &entry.log_id);
            let covered = tree.is_some_and(|tree| tree.head().checkpoint().size > entry.index);
            assert_eq!(found.contains(&(entry.log_id, entry.index)), covered);
            if covered {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    index.close().await;
}

#[tokio::test]
async fn an_index_that_was_interrupted_at_any_step_is_the_one_made_at_once() {
    let world = World::new().await;
    for number in 0..300 {
        world.log(number).await;
        if number % 20 == 0 {
            // Stopped wherever it is by now, and opened again.
            let index = world.index("stopped.db").await;
            index.follow().unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(number % 13)).await;
            index.close().await;
        }
    }
    // A run without its checkpoint is what a long catch-up leaves that was killed.
    let postings = Postings::open(&world.path("killed.db")).await.unwrap();
    let reader = Published::clone(&world.published()[0]);
    let reader = Reader::open(reader.source, &reader.key, reader.format).await.unwrap();
    let log = postings.log(reader.log_id()).await.unwrap();
    let mut run = Run { entries: 0..100, root: Hash::of(b""), postings: vec![] };
    let mut tree = countersign_verify::merkle::Frontier::new();
    for leaf in 0..100 {
        let body = reader.prove_inclusion(leaf).await.unwrap().unwrap().leaf;
        tree.push(countersign_verify::merkle::leaf_hash(&body));
        let facts = Facts::read(&body, None);
        let posting = |key| Posting { key, leaf, time: facts.time };
        run.postings.extend(facts.keys().into_iter().map(posting));
    }
    run.root = tree.root();
    assert!(postings.add(log, run.clone(), None).await.unwrap());
    assert!(!postings.add(log, run, None).await.unwrap(), "only what follows is added");
    postings.close().await;

    let fresh = world.index("fresh.db").await;
    fresh.catch_up(Pace::Full).await.unwrap();
    let expected = sums(&fresh).await;
    assert!(expected.iter().all(|sum| sum.unwrap().0 > 300), "{expected:?}");
    for name in ["stopped.db", "killed.db"] {
        let index = world.index(name).await;
        let before = index.indexed();
        if name == "killed.db" {
            assert_eq!(before[0].size, 0, "nothing is said without a checkpoint");
        }
        index.catch_up(Pace::Behind).await.unwrap();
        assert_eq!(sums(&index).await, expected, "{name}");
        assert_eq!(index.indexed(), fresh.indexed());
    }
}

#[tokio::test]
async fn entries_that_do_not_lead_to_the_signed_root_are_not_indexed() {
    let world = World::new().await;
    for number in 0..1600 {
        if number % 5 < 2 {
            world.log(number).await;
        }
    }
    let bundle = world.place.log_folder().join("tile/entries/000");
    let bytes = std::fs::read(&bundle).unwrap();
    let mut damaged = bytes.clone();
    let place = damaged.windows(10).position(|window| window == b"\"content\":").unwrap();
    damaged[place + 12] ^= 1;
    std::fs::write(&bundle, damaged).unwrap();
    let index = world.index("index.db").await;
    assert!(matches!(index.catch_up(Pace::Full).await, Err(Error::Root { .. })));
    assert_eq!(index.indexed()[0].size, 0);
    std::fs::write(&bundle, bytes).unwrap();
    index.catch_up(Pace::Full).await.unwrap();
    assert_eq!(index.indexed()[0].size, world.newer_log().head().checkpoint().size);
    // A file that is no index is no reason to fail, nor is one of another log.
    std::fs::write(world.path("other.db"), "not a database, but long enough to be one".repeat(100))
        .unwrap();
    let other = world.index("other.db").await;
    other.catch_up(Pace::Full).await.unwrap();
    assert_eq!(sums(&other).await, sums(&index).await);
    // Nor one whose tables are others than ours.
    other.close().await;
    let newer = rusqlite::Connection::open(world.path("other.db")).unwrap();
    newer.pragma_update(None, "user_version", 2).unwrap();
    drop(newer);
    let other = world.index("other.db").await;
    assert_eq!(other.indexed()[0].size, 0, "it was read all the same");
    other.catch_up(Pace::Full).await.unwrap();
    assert_eq!(sums(&other).await, sums(&index).await);
}

/// Search over HTTP.
struct Server {
    world: World,
    index: Index,
    base: String,
    client: Client,
}

impl Server {
    async fn start() -> Self {
        let world = World::new().await;
        let index = world.index("index.db").await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let router = http::search(index.clone(), world.older.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { world, index, base, client: Client::new() }
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        let reply = self.client.get(format!("{}{path}", self.base)).send().await.unwrap();
        (reply.status(), reply.text().await.unwrap())
    }

    async fn retrieve(&self, request: &Value) -> (StatusCode, Value) {
        let request = self
            .client
            .post(format!("{}/api/v1/index/retrieve", self.base))
            .header("content-type", "application/json")
            .body(request.to_string());
        let reply = request.send().await.unwrap();
        (reply.status(), reply.json().await.unwrap())
    }

    /// Checks an entry against the checkpoints beside it; its log and index.
    fn check(&self, checkpoints: &Value, entry: &Value) -> (Vec<u8>, u64) {
        let bytes = |value: &Value| from_base64(value.as_str().unwrap()).unwrap();
        let named = |it: &&Value| it["logId"] == entry["logId"];
        let checkpoint = checkpoints.as_array().unwrap().iter().find(named).unwrap();
        let (newer, older) = (self.world.newer_log(), self.world.older_log());
        let (log_id, older) = (bytes(&entry["logId"]), older.key());
        let is_older = log_id == older.log_id();
        let key = if is_older { older } else { newer.key() };
        let opened = key.open(checkpoint["checkpoint"].as_str().unwrap()).unwrap();
        assert_eq!(
            (json!(opened.size), json!(opened.origin)),
            (checkpoint["size"].clone(), checkpoint["origin"].clone())
        );
        let (body, index) = (bytes(&entry["body"]), entry["index"].as_u64().unwrap());
        let hashes = entry["hashes"].as_array().unwrap().iter();
        let hashes = hashes.map(|hash| Hash::try_from(&bytes(hash)[..]).unwrap()).collect();
        let proof = InclusionProof::new(index, opened.size, hashes).unwrap();
        proof.verify(&body, &opened.root).unwrap();
        if is_older {
            let time = entry["integratedTime"].as_i64().unwrap();
            let signed = promise_signed_data(&body, time, older.log_id(), index);
            let key = PublicKey::from_spki(older.spki()).unwrap();
            key.verify_message(&signed, &bytes(&entry["promise"])).unwrap();
        }
        (log_id, index)
    }
}

#[tokio::test]
async fn what_is_found_is_proven_page_by_page_and_line_by_line() {
    let server = Server::start().await;
    for number in 0..30 {
        server.world.log(number).await;
    }
    server.index.catch_up(Pace::Full).await.unwrap();
    let search = "identity=https://github.com/acme/*&issuer=https%3A%2F%2Fother.example.test";
    let (mut resume, mut found, mut middle) = (String::new(), Vec::new(), None);
    loop {
        let (status, page) =
            server.get(&format!("/api/search?{search}&limit=4&resume={resume}")).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        let page: Value = serde_json::from_str(&page).unwrap();
        for entry in page["entries"].as_array().unwrap() {
            found.push(server.check(&page["checkpoints"], entry));
            assert_eq!(entry["signers"][0]["issuers"], json!([ISSUERS[1]]));
            middle = middle.or_else(|| (found.len() == 6).then(|| entry["resume"].clone()));
        }
        resume = page["resume"].as_str().unwrap().to_owned();
        if page["complete"] == json!(true) {
            break;
        }
    }
    assert_eq!(found.len(), 15);
    let lines = async |resume: &str| {
        let (status, text) =
            server.get(&format!("/api/search/lines?{search}&resume={resume}")).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let (mut checkpoints, mut entries) = (Value::Null, Vec::new());
        for line in &lines[..lines.len() - 1] {
            match line.get("checkpoints") {
                Some(these) => checkpoints = these.clone(),
                None => entries.push(server.check(&checkpoints, line)),
            }
        }
        let end = lines.last().unwrap();
        assert_eq!(end["complete"], json!(true));
        (entries, end["resume"].as_str().unwrap().to_owned())
    };
    assert_eq!(lines("").await.0, found);
    let (rest, end) = lines(middle.unwrap().as_str().unwrap()).await;
    assert_eq!(rest, found[6..], "from the middle");
    assert_eq!(lines(&end).await.0, [], "nothing new");
    server.world.log(32).await;
    server.world.log(30).await;
    server.index.catch_up(Pace::Full).await.unwrap();
    assert_eq!(lines(&end).await.0.len(), 2, "what came since, in both logs");
}

#[tokio::test]
async fn searches_that_make_no_sense_are_refused_by_name() {
    let server = Server::start().await;
    let other = format!("{}.1", "00".repeat(8));
    for (query, expected) in [
        ("", "expected one of digest"),
        ("limit=5", "expected one of digest"),
        ("hash=00", "\\\"hash\\\" is nothing to search by"),
        ("digest=sha256:00", "digest: expected"),
        ("issuer=a&issuer=b", "issuer is given twice"),
        ("issuer=a&limit=0", "limit: expected a number from 1 to 100"),
        ("issuer=a&limit=101", "limit: expected"),
        ("issuer=a&limit=5&limit=5", "limit is given twice"),
        ("issuer=a&resume=x", "resume token"),
        ("issuer=a&resume=00.1", "resume token"),
        (&format!("issuer=a&resume={other}"), "resume token"),
        ("issuer=%ff", ""),
        ("identity=%00%00", ""),
    ] {
        for path in ["/api/search", "/api/search/lines"] {
            let (status, text) = server.get(&format!("{path}?{query}")).await;
            let refused = !expected.is_empty();
            let as_expected =
                (status == StatusCode::BAD_REQUEST) == refused && status.as_u16() < 500;
            assert!(as_expected && text.contains(expected), "{query}: {status} {text}");
        }
    }
}

#[tokio::test]
async fn clients_of_rekor_v1_find_the_entries_of_its_log() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for number in 0..20 {
        let entry = server.world.log(number).await;
        if number % 5 > 1 {
            let logged = server.world.older.at(entry.index).await.unwrap().unwrap();
            ids.push((number, logged.id, logged.entry.body));
        }
    }
    server.index.catch_up(Pace::Full).await.unwrap();
    let of = |wanted: &dyn Fn(u64) -> bool| {
        json!(ids.iter().filter(|it| wanted(it.0)).map(|it| &it.1).collect::<Vec<_>>())
    };
    let digest = |number: u64| {
        hex(&HashAlgorithm::Sha256.digest(format!("{{\"number\":{number}}}").as_bytes()))
    };
    let pem = base64(Verifier::PublicKey(&server.world.key.spki()).to_pem().as_bytes());
    let body: Value = serde_json::from_slice(&ids[0].2).unwrap();
    let certificate = &body["spec"]["signature"]["publicKey"]["content"];
    let subject = "https://GITHUB.com/acme/w2/x.yml@refs/tags/v2";
    for (request, expected) in [
        (json!({ "hash": format!("sha256:{}", digest(2)) }), of(&|number| number == 2)),
        (json!({ "hash": digest(4).to_uppercase() }), of(&|number| number == 4)),
        (json!({ "hash": digest(0) }), json!([])),
        (json!({ "hash": format!("sha1:{}", "00".repeat(20)) }), json!([])),
        (json!({ "email": subject }), of(&|number| number == 2)),
        (
            json!({ "subject": subject, "hash": digest(4) }),
            of(&|number| number == 2 || number == 4),
        ),
        (json!({ "subject": subject, "hash": digest(4), "operator": "and" }), json!([])),
        (
            json!({ "subject": subject, "hash": digest(2), "operator": "and" }),
            of(&|number| number == 2),
        ),
        (
            json!({ "publicKey": { "format": "x509", "content": pem } }),
            of(&|number| number % 4 == 3),
        ),
        (
            json!({ "publicKey": { "format": "x509", "content": certificate } }),
            of(&|number| number == 2),
        ),
        (json!({ "publicKey": { "format": "ssh", "content": pem } }), json!([])),
        (json!({ "subject": "https://github.com/*" }), json!([])),
    ] {
        assert_eq!(server.retrieve(&request).await, (StatusCode::OK, expected), "{request}");
    }
    for (request, expected) in [
        (json!({}), "expected one of hash"),
        (json!({ "hash": "md5:00" }), "hash: expected"),
        (json!({ "hash": digest(2), "operator": "xor" }), "operator"),
        (json!({ "digest": digest(2) }), "unknown field"),
        (
            json!({ "publicKey": { "format": "x509", "url": "http://127.0.0.1:1/" } }),
            "never fetched",
        ),
        (json!({ "publicKey": { "format": "x509", "content": "AAAA" } }), "PEM"),
        (json!({ "publicKey": { "format": "der", "content": pem } }), "publicKey.format"),
        (json!({ "email": "x".repeat(513) }), "512"),
    ] {
        let (status, answer) = server.retrieve(&request).await;
        assert_eq!((status, &answer["code"]), (StatusCode::BAD_REQUEST, &json!(400)), "{request}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(expected), "{expected:?} in {message:?}");
    }
}
