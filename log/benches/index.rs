//! The search index: how fast it answers over many entries, and how fast it is made again from tiles.
//!
//! Search: entries by certificates of so many workflows and issuers as a busy instance has, as postings
//! only. Latencies are those of one page of the index alone, from a file that the system may have in memory:
//! without the proofs and HTTP, whose cost does not depend on the number of entries.
//!
//! Reindex: a log of real entries on files; the whole index is made with all cores, every entry hashed into
//! the tree. Beside it, on one thread, what cannot be left out: an entry read, its certificate parsed, its
//! leaf hashed. Then the table of entries is compared with the tiles.
//!
//! Beside: what 64 writers get from the Rekor v2 face without an index, and with one that follows.
//!
//! Arguments: entries to search (default 10000000), entries to index (default 1000000), entries to write
//! beside the index (default 20000).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use countersign_log::face::rekor_v2;
use countersign_log::index::postings::{Posting, Postings, RUN, Run};
use countersign_log::index::{Facts, Index, Pace, Query};
use countersign_log::read::Reader;
use countersign_log::store::sqlite::SqliteLock;
use countersign_log::store::{Files, Sqlite};
use countersign_log::{Candidate, Format, Log, Options, Signer, reindex};
use countersign_verify::encoding::base64;
use countersign_verify::entry::{Verifier, hashedrekord_v2_body};
use countersign_verify::key::{HashAlgorithm, KeyDetails};
use countersign_verify::merkle::{Hash, leaf_hash};
use futures_util::StreamExt as _;
use rcgen::{CertificateParams, CustomExtension, KeyPair, SanType, SigningKey as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Workflows that sign, each at many tags.
const WORKFLOWS: u64 = 2000;
const ISSUERS: u64 = 3;

fn main() {
    // cargo adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let searched: u64 = arguments.next().unwrap_or(10_000_000);
    let indexed: u64 = arguments.next().unwrap_or(1_000_000);
    let beside: u64 = arguments.next().unwrap_or(20_000);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    runtime.block_on(async {
        if searched > 0 {
            search(&folder.path().join("search.db"), searched).await;
        }
        if indexed > 0 {
            index(folder.path(), indexed).await;
        }
        // In turns: what else the machine does is the same for both.
        for (run, follows) in [false, true, false, true].into_iter().enumerate() {
            if beside > 0 {
                write(&folder.path().join(format!("beside-{run}")), beside, follows).await;
            }
        }
    });
}

fn identity(entry: u64) -> String {
    let (workflow, tag) = (entry % WORKFLOWS, entry / WORKFLOWS / 10);
    format!(
        "https://github.com/org-{}/repo-{workflow}/.github/workflows/release.yml@refs/tags/v{tag}",
        workflow % 100
    )
}

fn issuer(entry: u64) -> String {
    format!("https://issuer-{}.example.test", entry % ISSUERS)
}

fn digest(entry: u64) -> [u8; 32] {
    *Hash::of(&entry.to_be_bytes()).as_bytes()
}

/// One every ten seconds.
fn time(entry: u64) -> i64 {
    1_700_000_000 + 10 * i64::try_from(entry).expect("not so many")
}

/// The postings of an entry by a certificate, as `Facts::keys` makes them.
fn postings(entry: u64) -> impl Iterator<Item = Posting> {
    let (digest, key) = (digest(entry), digest(entry + (1 << 40)));
    let keys = [
        [b"d", &digest[..]].concat(),
        [b"k", &key[..]].concat(),
        [b"s", &key[..20]].concat(),
        [b"i", identity(entry).as_bytes()].concat(),
        [b"o", issuer(entry).as_bytes()].concat(),
        b"thashedrekord 0.0.2".to_vec(),
    ];
    keys.into_iter().map(move |key| Posting { key, leaf: entry, time: Some(time(entry)) })
}

/// Names and values of a query.
type Wanted = Vec<(&'static str, String)>;

async fn search(path: &Path, entries: u64) {
    let index = Postings::open(path).await.expect("an index");
    let log = index.log(&[7; 32]).await.expect("a log");
    let started = Instant::now();
    let mut first = 0;
    while first < entries {
        let end = entries.min(first + RUN as u64);
        let postings = (first..end).flat_map(postings).collect();
        let run = Run { entries: first..end, root: Hash::of(b""), postings };
        index.add(log, run, Some("a checkpoint")).await.expect("a run");
        first = end;
    }
    let (wall, size) = (started.elapsed(), std::fs::metadata(path).map_or(0, |file| file.len()));
    println!(
        "search: {entries} entries, {:.0} bytes each; postings written in {:.0} s ({:.1} us an entry)",
        size as f64 / entries as f64,
        wall.as_secs_f64(),
        wall.as_secs_f64() * 1e6 / entries as f64,
    );
    let hex = |bytes: &[u8]| countersign_verify::encoding::hex(bytes);
    let at = |part: u64| entries / 200 * part; // 200 places of the log
    let searches: [(&str, &dyn Fn(u64) -> Wanted); 9] = [
        ("digest", &|part| vec![("digest", hex(&digest(at(part))))]),
        ("digest that is not there", &|part| vec![("digest", hex(&digest(at(part) + (1 << 50))))]),
        ("serial number", &|part| vec![("serial", hex(&digest(at(part) + (1 << 40))[..20]))]),
        ("identity", &|part| vec![("identity", identity(at(part)))]),
        ("identity that is not there", &|part| vec![("identity", format!("nobody-{part}"))]),
        ("identity by pattern, one workflow", &|part| {
            let name = identity(at(part));
            vec![("identity", format!("{}@*", name.split('@').next().unwrap_or_default()))]
        }),
        ("issuer", &|part| vec![("issuer", issuer(part))]),
        ("identity and issuer", &|part| {
            vec![("identity", identity(at(part))), ("issuer", issuer(at(part)))]
        }),
        ("an hour", &|part| {
            let rfc3339 = |time| jiff::Timestamp::from_second(time).expect("a time").to_string();
            let from = time(at(part));
            vec![("since", rfc3339(from)), ("until", rfc3339(from + 3600))]
        }),
    ];
    for (name, wanted) in searches {
        let (mut latencies, mut found, mut pages) = (Vec::new(), 0, 0);
        for part in 0..200 {
            let mut query = Query::default();
            for (name, value) in wanted(part) {
                query.set(name, &value).expect("our own query");
            }
            let started = Instant::now();
            let page = index.find(log, &query, 0..entries, 50).await.expect("an answer");
            latencies.push(started.elapsed());
            found += page.leaves.len();
            pages += usize::from(page.behind >= entries || page.leaves.len() == 50);
        }
        println!(
            "{name:>34}: {}, {:.1} entries a page, {pages} of 200 full or complete",
            quantiles(&mut latencies),
            found as f64 / 200.0
        );
    }
    index.close().await;
}

/// Writes through the Rekor v2 face, with or without an index that follows.
async fn write(folder: &Path, entries: u64, follows: bool) {
    const WRITERS: usize = 64;
    std::fs::create_dir_all(folder).expect("a folder");
    let log = open(folder).await.0;
    let face = rekor_v2::Face::new(log.clone());
    let index = Index::open(&folder.join("index.db"), vec![log.published()]).await;
    let index = index.expect("an index");
    if follows {
        index.follow().expect("a thread");
    }
    let pair = KeyPair::generate().expect("a key");
    let certificate = base64(&Bodies::certificate(&pair));
    let request = |entry: u64| {
        let signature = pair.sign(&entry.to_be_bytes()).expect("a signature");
        let digest = digest(entry);
        serde_json::json!({ "hashedRekordRequestV002": {
            "digest": base64(&digest),
            "signature": { "content": base64(&signature), "verifier": {
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "x509Certificate": { "rawBytes": certificate } } } } })
        .to_string()
    };
    let requests: Vec<_> = (0..entries).map(request).collect();
    let started = Instant::now();
    let submit = |request: &String| {
        let (face, request) = (face.clone(), request.clone());
        async move {
            let started = Instant::now();
            let answer = tokio::spawn(async move { face.submit(request.as_bytes()).await }).await;
            answer.expect("no writer panics").expect("the log takes the entry");
            started.elapsed()
        }
    };
    let answers = futures_util::stream::iter(requests.iter().map(submit));
    let mut latencies: Vec<_> = answers.buffer_unordered(WRITERS).collect().await;
    let rate = entries as f64 / started.elapsed().as_secs_f64();
    let behind = log.head().checkpoint().size - index.indexed()[0].size;
    let said = if follows {
        format!("with an index, {behind} behind at the end")
    } else {
        "without".to_owned()
    };
    println!("{WRITERS} writers, {said}: {rate:.0} entries/s, {}", quantiles(&mut latencies));
    index.close().await;
    log.close().await;
}

fn quantiles(latencies: &mut [Duration]) -> String {
    latencies.sort_unstable();
    let quantile = |part: usize| {
        latencies[(latencies.len() * part / 100).min(latencies.len() - 1)].as_secs_f64() * 1e3
    };
    format!("p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms", quantile(50), quantile(99), quantile(100))
}

/// Bodies by a certificate with Fulcio's issuer: the same one, over another digest each.
struct Bodies {
    certificate: Vec<u8>,
}

impl Bodies {
    fn new() -> Self {
        Self { certificate: Self::certificate(&KeyPair::generate().expect("a key")) }
    }

    fn certificate(pair: &KeyPair) -> Vec<u8> {
        let mut params = CertificateParams::default();
        let uri = identity(7).as_str().try_into().expect("ASCII");
        params.subject_alt_names = vec![SanType::URI(uri)];
        let issuer = issuer(1);
        let text =
            [&[0x0c, u8::try_from(issuer.len()).expect("short")], issuer.as_bytes()].concat();
        let arcs = [1, 3, 6, 1, 4, 1, 57264, 1, 8];
        params.custom_extensions = vec![CustomExtension::from_oid_content(&arcs, text)];
        params.self_signed(pair).expect("a certificate").der().to_vec()
    }

    fn body(&self, entry: u64) -> Vec<u8> {
        let (digest, verifier) = (digest(entry), Verifier::Certificate(&self.certificate));
        let (hash, details) = (HashAlgorithm::Sha256, KeyDetails::EcdsaP256Sha256);
        hashedrekord_v2_body(hash, &digest, &[&digest[..], &digest].concat(), verifier, details)
    }
}

async fn open(folder: &Path) -> (Log, SqliteLock) {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
    let signer = Signer::ed25519("log.example.test", pkcs8.as_ref()).expect("a signer");
    let store = Arc::new(Files::open(folder.join("log")).expect("a store"));
    let database = Sqlite::open(&folder.join("log.db")).await.expect("a database");
    let lock = database.lock("log").await.expect("a lock");
    let options = Options::new(Format::Entries);
    let log = Log::open(options, signer, store, Arc::new(lock.clone())).await.expect("a log");
    (log, lock)
}

async fn index(folder: &Path, entries: u64) {
    let bodies = Arc::new(Bodies::new());
    let (log, lock) = open(folder).await;
    let started = Instant::now();
    let append = |entry| {
        let candidate = Candidate::entry(&bodies.body(entry)).expect("a short body");
        let log = log.clone();
        async move { log.append(candidate).await.expect("the log takes the entry").index }
    };
    let appended = futures_util::stream::iter(0..entries).map(append).buffer_unordered(2048);
    assert_eq!(appended.count().await as u64, entries);
    println!("log of {entries} entries written in {:.0} s", started.elapsed().as_secs_f64());

    let sample = entries.min(20_000);
    let sample: Vec<_> = (0..sample).map(|entry| bodies.body(entry)).collect();
    let started = Instant::now();
    for body in &sample {
        std::hint::black_box((Facts::read(body, None), leaf_hash(body)));
    }
    let floor = started.elapsed().as_secs_f64() / sample.len() as f64;
    println!("floor: {:.1} us an entry on one thread", floor * 1e6);

    let index = Index::open(&folder.join("index.db"), vec![log.published()]).await;
    let index = index.expect("an index");
    let started = Instant::now();
    index.catch_up(Pace::Full).await.expect("the log holds");
    let wall = started.elapsed().as_secs_f64();
    assert_eq!(index.indexed()[0].size, entries);
    println!(
        "reindex: {entries} entries in {wall:.1} s, {:.1} us each, wall/floor {:.2}",
        wall * 1e6 / entries as f64,
        wall / entries as f64 / floor
    );
    index.close().await;
    log.close().await;
    let published = log.published();
    let reader = Reader::open(published.source, &published.key, published.format).await;
    let started = Instant::now();
    let table = reindex::table(&reader.expect("a log"), &lock).await.expect("the log holds");
    assert!(!table.differed);
    println!("table compared with the tiles in {:.1} s", started.elapsed().as_secs_f64());
}
