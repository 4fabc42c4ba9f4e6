//! A log goes on in another shard under load: nobody is refused, nothing is in two shards, and what an older
//! shard has it answers for.

use crate::support::{ORIGIN, body, read_whole};
use async_trait::async_trait;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use bytes::Bytes;
use countersign_log::face::rekor_v2;
use countersign_log::store::{
    CheckpointLock, Files, Growth, Source, Sqlite, StagedBatch, StoreError, SwapError, TileStore,
};
use countersign_log::{
    AppendError, Appended, Candidate, Format, Log, LogKey, Options, Shards, Signer, http,
};
use countersign_testkit::SigningKey;
use countersign_verify::encoding::base64;
use countersign_verify::key::{HashAlgorithm, KeyDetails};
use countersign_verify::merkle::InclusionProof;
use futures_util::future::BoxFuture;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// Keys and storage of several shards in one folder, all with one origin, as on one host.
struct Place {
    folder: TempDir,
    keys: Vec<Vec<u8>>,
}

impl Place {
    fn new(shards: usize) -> Self {
        let key = || Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let keys = (0..shards).map(|_| key().as_ref().to_vec()).collect();
        Self { folder: tempfile::tempdir().unwrap(), keys }
    }

    fn signer(&self, number: usize) -> Signer {
        Signer::ed25519(ORIGIN, &self.keys[number - 1]).unwrap()
    }

    fn log_folder(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("log-{number}"))
    }

    async fn lock(&self, number: usize) -> Arc<dyn CheckpointLock> {
        let database = Sqlite::open(&self.folder.path().join("db")).await.unwrap();
        Arc::new(database.lock(&format!("log-{number}")).await.unwrap())
    }

    async fn open(&self, number: usize, earlier: Vec<Log>) -> Log {
        let options = Options { earlier, ..Options::new(Format::Entries) };
        let store = Arc::new(Files::open(self.log_folder(number)).unwrap());
        Log::open(options, self.signer(number), store, self.lock(number).await).await.unwrap()
    }

    async fn fsck(&self, number: usize, key: &LogKey) -> u64 {
        let files = Files::open(self.log_folder(number)).unwrap();
        read_whole(Arc::new(files), key, Format::Entries).await.unwrap().size
    }
}

async fn prove(log: &Log, appended: &Appended, body: &[u8]) {
    let (head, index) = (&appended.head, appended.index);
    let proof = log.prove_inclusion(head, index, body).await.unwrap();
    let checkpoint = log.key().open(head.note()).expect("the shard's own key");
    let proof = InclusionProof::new(index, checkpoint.size, proof.path().to_vec()).unwrap();
    proof.verify(body, &checkpoint.root).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_writers_do_not_notice_that_the_log_turns_to_the_next_shard_and_the_next() {
    const WRITERS: u64 = 32;
    let place = Place::new(3);
    let first = place.open(1, vec![]).await;
    let shards = Arc::new(Shards::from(first.clone()));
    let (written, end) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(u64::MAX)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (shards, written, end) = (shards.clone(), written.clone(), end.clone());
            tokio::spawn(async move {
                let mut places = Vec::new();
                for round in 0.. {
                    if written.load(Ordering::SeqCst) >= end.load(Ordering::SeqCst) {
                        break;
                    }
                    // Every fourth entry is the one of the writer before as well, at the same moment.
                    let by = if round % 4 == 3 { writer / 2 * 2 } else { writer };
                    let body = body(round * WRITERS + by);
                    let (log, appended) =
                        shards.append(|| Candidate::entry(&body)).await.expect("no write fails");
                    prove(&log, &appended, &body).await;
                    written.fetch_add(1, Ordering::SeqCst);
                    places.push((body, *log.key().log_id(), appended.index));
                }
                places
            })
        })
        .collect();
    let progress = async |count| {
        let from = written.load(Ordering::SeqCst);
        while written.load(Ordering::SeqCst) < from + count {
            tokio::task::yield_now().await;
        }
    };
    let mut earlier = vec![first];
    for number in [2, 3] {
        progress(200).await;
        assert!(!shards.turn().await.unwrap(), "none is announced");
        let next = place.open(number, earlier.clone()).await;
        rekor_v2::Face::seed(&next).await.unwrap();
        shards.announce(next.clone());
        progress(100).await;
        assert_eq!(next.head().checkpoint().size, 1, "announced is not begun");
        assert!(shards.turn().await.unwrap());
        earlier.push(next);
    }
    progress(200).await;
    end.store(0, Ordering::SeqCst);
    let mut places = Vec::new();
    for writer in writers {
        places.extend(writer.await.unwrap());
    }

    let mut known = std::collections::HashMap::new();
    let mut taken = std::collections::HashMap::new();
    for (body, log, index) in &places {
        assert_eq!(
            known.entry(body).or_insert((log, index)),
            &(log, index),
            "one entry, one place"
        );
        assert_eq!(taken.entry((log, index)).or_insert(body), &body, "one place, one entry");
    }
    let begun: std::collections::HashSet<_> = places.iter().map(|(_, log, _)| log).collect();
    assert_eq!(begun.len(), 3);
    // After a restart, too, a repeat is answered by the shard that has it.
    let sizes: Vec<_> = earlier.iter().map(|log| log.head().checkpoint().size).collect();
    for log in &earlier {
        log.close().await;
    }
    let first = place.open(1, vec![]).await;
    let second = place.open(2, vec![first.clone()]).await;
    let third = place.open(3, vec![first.clone(), second.clone()]).await;
    let shards = Shards::new(vec![first, second, third], 3).await.unwrap();
    for (body, id, index) in &places {
        let (log, appended) = shards.append(|| Candidate::entry(body)).await.unwrap();
        assert_eq!((log.key().log_id(), appended.index), (id, *index));
        prove(&log, &appended, body).await;
    }
    for (number, log) in (1..).zip(shards.all()) {
        assert_eq!(place.fsck(number, log.key()).await, sizes[number - 1], "nothing was added");
    }
}

/// A store that stages no batch as long as `hold` is locked, and publishes no checkpoint if it is `crashing`, as
/// by a crash right before it.
struct Meddled {
    files: Files,
    hold: Arc<tokio::sync::Mutex<()>>,
    crashing: AtomicBool,
}

#[async_trait]
impl Source for Meddled {
    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        self.files.get(path).await
    }
}

#[async_trait]
impl TileStore for Meddled {
    async fn grow(&self, growth: &[Growth]) -> Result<(), StoreError> {
        self.files.grow(growth).await
    }
    async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        match self.crashing.load(Ordering::SeqCst) {
            true => Err(StoreError::Name { path: path.to_owned() }),
            false => self.files.put(path, bytes).await,
        }
    }
    async fn stage(&self, batch: StagedBatch) -> Result<(), StoreError> {
        let _held = self.hold.lock().await;
        self.files.stage(batch).await
    }
    async fn staged(&self) -> Result<Vec<StagedBatch>, StoreError> {
        self.files.staged().await
    }
    fn settle(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.files.settle()
    }
}

/// The same entry comes once before the turn and once in the middle of it, while the batch of the first is
/// still under way, so that the next shard could not know of it.
#[tokio::test]
async fn an_entry_under_way_when_the_log_turns_comes_to_be_in_one_shard() {
    let place = Place::new(2);
    let hold = Arc::new(tokio::sync::Mutex::new(()));
    let files = Files::open(place.log_folder(1)).unwrap();
    let hold_it = Arc::clone(&hold);
    let store = Arc::new(Meddled { files, hold: hold_it, crashing: false.into() });
    let lock = place.lock(1).await;
    let options = Options::new(Format::Entries);
    let first = Log::open(options, place.signer(1), store, lock).await.unwrap();
    let second = place.open(2, vec![first.clone()]).await;
    let shards = Arc::new(Shards::from(first.clone()));
    shards.announce(second.clone());
    let append = || {
        let shards = Arc::clone(&shards);
        tokio::spawn(async move {
            let appended = shards.append(|| Candidate::entry(&body(1))).await;
            appended.map(|(log, appended)| (*log.key().log_id(), appended.index)).unwrap()
        })
    };
    let held = hold.lock().await;
    let before = append();
    while first.load().waiting == 0 || first.load().pending > 0 {
        tokio::task::yield_now().await;
    }
    let turning = tokio::spawn({
        let shards = Arc::clone(&shards);
        async move { shards.turn().await.unwrap() }
    });
    let during = append();
    // On one thread: each has come as far as it can without the store.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!turning.is_finished(), "the old shard has a batch under way");
    drop(held);
    assert!(turning.await.unwrap());
    let place_of = (*first.key().log_id(), 0);
    assert_eq!((before.await.unwrap(), during.await.unwrap()), (place_of, place_of));
    assert_eq!(second.head().checkpoint().size, 0);
}

/// What a batch has added comes to the disk later, when nobody waits for it any more.
#[tokio::test]
async fn growth_that_does_not_settle_is_told_and_settles_by_itself_when_it_can() {
    let place = Place::new(1);
    place.open(1, vec![]).await.close().await;
    let files = Files::open(place.log_folder(1)).unwrap();
    let store = Arc::new(Meddled { files, hold: Arc::default(), crashing: true.into() });
    let (options, lock) = (Options::new(Format::Entries), place.lock(1).await);
    let log = Log::open(options, place.signer(1), store.clone(), lock).await.unwrap();
    log.append(Candidate::entry(&body(1)).unwrap()).await.unwrap();
    let until = async |failing: bool| {
        for _ in 0..1000 {
            if log.failing().is_some() == failing {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("expected failing to be {failing}, found {:?}", log.failing());
    };
    until(true).await;
    store.crashing.store(false, Ordering::SeqCst);
    until(false).await;
    assert_eq!(store.get("checkpoint").await.unwrap().unwrap(), log.head().note());
    assert_eq!(log.head().checkpoint().size, 1);
}

#[tokio::test]
async fn a_log_that_shuts_down_says_so_and_turns_nowhere() {
    let place = Place::new(1);
    let shards = Shards::from(place.open(1, vec![]).await);
    shards.active().close().await;
    let refused = shards.append(|| Candidate::entry(&body(1))).await;
    assert!(matches!(refused, Err(AppendError::Closed)));
}

#[tokio::test]
async fn a_frozen_log_says_so_in_its_last_checkpoint_also_when_it_crashes_in_between() {
    let time = "2026-11-03T10:00:00Z".parse().unwrap();
    for crash in [false, true] {
        let place = Place::new(1);
        let log = place.open(1, vec![]).await;
        log.append(Candidate::entry(&body(1)).unwrap()).await.unwrap();
        let before = log.head();
        if crash {
            log.close().await;
            let files = Files::open(place.log_folder(1)).unwrap();
            let store = Arc::new(Meddled { files, hold: Arc::default(), crashing: true.into() });
            let lock = place.lock(1).await;
            let options = Options::new(Format::Entries);
            let log = Log::open(options, place.signer(1), store, lock).await.unwrap();
            log.freeze(time).await.unwrap_err();
            assert!(!log.head().is_frozen());
        } else {
            log.freeze(time).await.unwrap();
            let head = log.head();
            log.freeze("2027-01-01T00:00:00Z".parse().unwrap()).await.unwrap();
            assert_eq!(log.head().note(), head.note(), "an end is the end");
        }
        let log = place.open(1, vec![]).await;
        let head = log.head();
        let published = Files::open(place.log_folder(1)).unwrap().get("checkpoint").await.unwrap();
        assert_eq!(published.unwrap(), head.note());
        // The signed text as rekor-tiles writes it: the day is padded as Go does.
        let text = format!(
            "{ORIGIN}\n1\n{}\nLog frozen \u{2014} Tue Nov  3 10:00:00 UTC 2026\n\n\u{2014} ",
            before.checkpoint().root
        );
        assert!(head.note().starts_with(&text), "{}", head.note());
        assert!(head.is_frozen() && !before.is_frozen());
        let refused = log.append(Candidate::entry(&body(2)).unwrap()).await;
        assert!(matches!(refused, Err(AppendError::Closed)));
        assert_eq!(log.head().checkpoint().size, 1);
        assert_eq!(place.fsck(1, log.key()).await, 1);
        let swapped = place.lock(1).await.compare_and_swap(Some(before.note()), "x", 0, &[]).await;
        assert!(matches!(swapped, Err(SwapError::Conflict)), "the lock knows of the end");
    }
}

fn request(message: &[u8]) -> Value {
    let key = SigningKey::generate(KeyDetails::EcdsaP256Sha256);
    let digest = HashAlgorithm::Sha256.digest(message);
    let [digest, signature, spki] =
        [digest, key.sign(message), key.spki()].map(|bytes| base64(&bytes));
    json!({ "hashedRekordRequestV002": { "digest": digest, "signature": { "content": signature,
        "verifier": { "keyDetails": "PKIX_ECDSA_P256_SHA_256", "publicKey": { "rawBytes": spki } } } } })
}

async fn serve(router: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    base
}

#[tokio::test]
async fn each_shard_is_read_at_its_own_place_and_a_frozen_one_sends_writers_on() {
    let place = Place::new(2);
    let first = place.open(1, vec![]).await;
    let second = place.open(2, vec![first.clone()]).await;
    for log in [&first, &second] {
        rekor_v2::Face::seed(log).await.unwrap();
    }
    let shards = Shards::from(first.clone());
    shards.announce(second.clone());
    let face = rekor_v2::Face::new(shards);
    let base = serve(http::rekor_v2(face.clone())).await;
    let client = Client::new();
    let submit = async |shard: &str, request: &Value| {
        let url = format!("{base}{shard}/api/v2/log/entries");
        let reply = client.post(url).body(request.to_string()).send().await.unwrap();
        (reply.status(), reply.text().await.unwrap())
    };
    let log_id = |body: &str| {
        let reply: Value = serde_json::from_str(body).unwrap();
        reply["logId"]["keyId"].as_str().unwrap().to_owned()
    };
    let (before, after) = (request(b"before"), request(b"after"));
    for (shard, request, log) in [("", &before, &first), ("/shards/2", &before, &first)] {
        let (status, body) = submit(shard, request).await;
        assert_eq!((status, log_id(&body)), (StatusCode::CREATED, base64(log.key().log_id())));
    }
    assert!(face.shards().turn().await.unwrap());
    for (shard, request, log) in [
        ("", &after, &second),
        ("/shards/1", &after, &second),
        ("/shards/2", &after, &second),
        ("/shards/2", &before, &first),
    ] {
        let (status, body) = submit(shard, request).await;
        assert_eq!((status, log_id(&body)), (StatusCode::CREATED, base64(log.key().log_id())));
    }
    first.freeze("2026-11-23T10:00:00Z".parse().unwrap()).await.unwrap();
    for shard in ["", "/shards/1"] {
        let frozen = "This log has been frozen, please switch to the latest log.".to_owned();
        assert_eq!(submit(shard, &before).await, (StatusCode::METHOD_NOT_ALLOWED, frozen));
    }
    let (status, body) = submit("/shards/2", &before).await;
    assert_eq!((status, log_id(&body)), (StatusCode::CREATED, base64(first.key().log_id())));
    let reply: Value = serde_json::from_str(&body).unwrap();
    let note = reply["inclusionProof"]["checkpoint"]["envelope"].as_str().unwrap();
    assert!(first.key().open(note).is_ok());

    let get = async |path: &str| {
        let reply = client.get(format!("{base}{path}")).send().await.unwrap();
        (reply.status(), reply.bytes().await.unwrap())
    };
    for (shard, log) in [("", &first), ("/shards/1", &first), ("/shards/2", &second)] {
        let (_, note) = get(&format!("{shard}/api/v2/checkpoint")).await;
        assert_eq!(note, log.head().note());
        let (status, tile) = get(&format!("{shard}/api/v2/tile/0/000.p/2")).await;
        assert_eq!((status, tile.len()), (StatusCode::OK, 64));
    }
    for shard in ["/shards/0", "/shards/3", "/shards/02", "/shards/+2", "/shards/x", "/shards/../2"]
    {
        for path in ["checkpoint", "tile/0/000.p/2"] {
            let (status, _) = get(&format!("{shard}/api/v2/{path}")).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{shard}");
        }
    }
}
