//! Entries accepted, verified, durable and proven: N writers append through the Rekor v2 face.
//!
//! The floor is what no log can avoid per entry: parse the request, check one ECDSA P-256 signature,
//! write the body, hash the leaf; on one thread, in the same run. `cpu/floor` compares CPU time, that
//! of the whole process with that of the floor; `wall/floor` compares wall clock per entry, all cores
//! together. The cores of a virtual machine are often threads of one core, which are slower when all
//! are busy; so the floor is also given with all of them at work. Arguments: entries per run (default 20000), then writers of a single run.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use countersign_log::face::rekor_v2::Face;
use countersign_log::store::{Files, Sqlite};
use countersign_log::{Format, Log, Options, Signer};
use countersign_verify::certificate::Certificate;
use countersign_verify::encoding::{base64, from_base64};
use countersign_verify::entry::{Verifier, hashedrekord_v2_body};
use countersign_verify::key::{HashAlgorithm, KeyDetails, PublicKey};
use countersign_verify::merkle::{Hash, leaf_hash};
use rcgen::{CertificateParams, KeyPair, SigningKey as _};
use serde::Deserialize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn main() {
    // cargo adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let count: usize = arguments.next().unwrap_or(20_000);
    let only = arguments.next();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let requests = |run: usize| Arc::new(make_requests(run, count));
    let folder = tempfile::tempdir().expect("a folder");

    let (floor, floor_cpu) = floor(&requests(0));
    println!(
        "floor: {:.1} us CPU an entry on one thread ({:.0} entries/s), {:.1} us on all cores at once",
        floor_cpu * 1e6,
        1.0 / floor,
        floor_on_all_cores(&requests(0)) * 1e6,
    );
    let mut fastest = 0.0_f64;
    let runs = [(1, count.min(1000)), (8, count), (64, count), (256, count)];
    for (number, (writers, count)) in (1..).zip(runs) {
        if only.is_some_and(|only| only != writers) {
            continue;
        }
        let requests = requests(number);
        let place = folder.path().join(number.to_string());
        let run = runtime.block_on(async {
            let face = open(&place).await;
            measure(count, async || closed_loop(face.clone(), requests, writers, count).await).await
        });
        println!("{writers:>4} writers: {}", run.report(floor, floor_cpu));
        fastest = fastest.max(run.rate());
    }
    let rate = fastest / 2.0;
    let requests = requests(9);
    let run = runtime.block_on(async {
        let face = open(&folder.path().join("half")).await;
        measure(count, async || open_loop(face.clone(), requests, rate).await).await
    });
    println!("   half load: {}", run.report(floor, floor_cpu));
}

/// Requests with a certificate, as a signing client sends them; each over another digest.
fn make_requests(run: usize, count: usize) -> Vec<Vec<u8>> {
    let pair = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["signer.example.test".to_owned()]).expect("a name");
    let certificate = base64(params.self_signed(&pair).expect("a certificate").der());
    let request = |number: usize| {
        let message = format!("{run}/{number}");
        let signature = pair.sign(message.as_bytes()).expect("a signature");
        let digest = HashAlgorithm::Sha256.digest(message.as_bytes());
        serde_json::json!({ "hashedRekordRequestV002": {
            "digest": base64(&digest),
            "signature": { "content": base64(&signature), "verifier": {
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "x509Certificate": { "rawBytes": certificate } } } } })
        .to_string()
        .into_bytes()
    };
    (0..count).map(request).collect()
}

async fn open(place: &Path) -> Face {
    std::fs::create_dir_all(place).expect("a folder");
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
    let signer = Signer::ed25519("log.example.test", pkcs8.as_ref()).expect("a signer");
    let store = Files::open(place.join("log")).expect("a store");
    let database = Sqlite::open(&place.join("log.db")).await.expect("a database");
    let lock = database.lock("log.example.test").await.expect("a lock");
    let options = Options::new(Format::Entries);
    let log = Log::open(options, signer, Arc::new(store), Arc::new(lock)).await.expect("a log");
    Face::seed(&log).await.expect("a seed");
    Face::new(log)
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(rename = "hashedRekordRequestV002", borrow)]
    request: HashedRekord<'a>,
}

#[derive(Deserialize)]
struct HashedRekord<'a> {
    digest: &'a str,
    #[serde(borrow)]
    signature: Signature<'a>,
}

#[derive(Deserialize)]
struct Signature<'a> {
    content: &'a str,
    #[serde(borrow)]
    verifier: WireVerifier<'a>,
}

#[derive(Deserialize)]
struct WireVerifier<'a> {
    #[serde(rename = "x509Certificate", borrow)]
    certificate: Raw<'a>,
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(rename = "rawBytes")]
    bytes: &'a str,
}

fn bare(request: &[u8]) -> Hash {
    let Request { request } = serde_json::from_slice(request).expect("our own request");
    let bytes = |text| from_base64(text).expect("our own base64");
    let (digest, signature) = (bytes(request.digest), bytes(request.signature.content));
    let der = bytes(request.signature.verifier.certificate.bytes);
    let certificate = Certificate::parse(&der).expect("our own certificate");
    let key = PublicKey::from_spki(certificate.spki()).expect("our own key");
    key.verify_digest(HashAlgorithm::Sha256, &digest, &signature).expect("our own signature");
    let (hash, details) = (HashAlgorithm::Sha256, KeyDetails::EcdsaP256Sha256);
    let verifier = Verifier::Certificate(&der);
    leaf_hash(&hashedrekord_v2_body(hash, &digest, &signature, verifier, details))
}

/// Seconds an entry: wall clock and CPU.
fn floor(requests: &[Vec<u8>]) -> (f64, f64) {
    let (started, cpu) = (Instant::now(), process_cpu());
    for request in requests {
        std::hint::black_box(bare(request));
    }
    let entries = requests.len() as f64;
    (started.elapsed().as_secs_f64() / entries, (process_cpu() - cpu).as_secs_f64() / entries)
}

/// CPU seconds an entry while every core does the same.
fn floor_on_all_cores(requests: &[Vec<u8>]) -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = process_cpu();
    std::thread::scope(|scope| {
        for part in requests.chunks(requests.len().div_ceil(cores)) {
            scope.spawn(move || {
                for request in part {
                    std::hint::black_box(bare(request));
                }
            });
        }
    });
    (process_cpu() - cpu).as_secs_f64() / requests.len() as f64
}

struct Run {
    entries: usize,
    wall: Duration,
    cpu: Duration,
    latencies: Vec<Duration>,
}

impl Run {
    fn rate(&self) -> f64 {
        self.entries as f64 / self.wall.as_secs_f64()
    }

    fn report(&self, floor: f64, floor_cpu: f64) -> String {
        let entries = self.entries as f64;
        let cpu = self.cpu.as_secs_f64() / entries;
        let wall = self.wall.as_secs_f64() / entries;
        let quantile = |part: usize| {
            self.latencies[(self.latencies.len() * part / 1000).min(self.latencies.len() - 1)]
                .as_secs_f64()
                * 1e3
        };
        format!(
            "{:>6.0} entries/s, p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, \
             cpu/floor {:.2} ({:.1} us), wall/floor {:.2}",
            self.rate(),
            quantile(500),
            quantile(990),
            quantile(999),
            cpu / floor_cpu,
            cpu * 1e6,
            wall / floor,
        )
    }
}

async fn measure(entries: usize, work: impl AsyncFnOnce() -> Vec<Duration>) -> Run {
    let (started, cpu) = (Instant::now(), process_cpu());
    let mut latencies = work().await;
    let (wall, cpu) = (started.elapsed(), process_cpu() - cpu);
    latencies.sort_unstable();
    Run { entries, wall, cpu, latencies }
}

/// Each writer sends its next entry when it has the answer to the last.
async fn closed_loop(
    face: Face,
    requests: Arc<Vec<Vec<u8>>>,
    writers: usize,
    count: usize,
) -> Vec<Duration> {
    let next = Arc::new(AtomicUsize::new(0));
    let writer = || {
        let (face, requests, next) = (face.clone(), Arc::clone(&requests), Arc::clone(&next));
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return latencies;
                }
                latencies.push(append(&face, &requests[number]).await);
            }
        })
    };
    let tasks: Vec<_> = (0..writers).map(|_| writer()).collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.expect("no writer panics"));
    }
    latencies
}

/// Entries come at a fixed rate whether the log keeps up or not.
async fn open_loop(face: Face, requests: Arc<Vec<Vec<u8>>>, rate: f64) -> Vec<Duration> {
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let (started, mut tasks) = (Instant::now(), Vec::with_capacity(requests.len()));
    while tasks.len() < requests.len() {
        ticks.tick().await;
        let due = (started.elapsed().as_secs_f64() * rate) as usize;
        for number in tasks.len()..due.min(requests.len()) {
            let (face, requests) = (face.clone(), Arc::clone(&requests));
            tasks.push(tokio::spawn(async move { append(&face, &requests[number]).await }));
        }
    }
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.push(task.await.expect("no writer panics"));
    }
    latencies
}

async fn append(face: &Face, request: &[u8]) -> Duration {
    let started = Instant::now();
    let entry = face.submit(request).await.expect("the log takes the entry");
    std::hint::black_box(entry.to_json());
    started.elapsed()
}

/// User and system time of this process so far, from `/proc`; its unit is 1/100 s.
fn process_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields = stat.rsplit_once(')').expect("the name ends in a bracket").1.split_whitespace();
    let ticks = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number"));
    Duration::from_millis(10 * ticks.sum::<u64>())
}
