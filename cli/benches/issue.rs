//! Certificates issued: token and possession verified, serial on record, precertificate logged, receipt
//! verified, certificate signed, on record. First the authority alone in this process, then a whole instance
//! with its logs, and its clients beside it.
//!
//! The floor is the cryptography that no authority of this kind can leave out, by the same library and
//! in the same run: an RSA-2048 token verified; a P-256 proof verified; two certificates and a receipt
//! signed, the receipt verified. It is measured before each run, on as many threads as that has writers, one a core
//! at most: two threads of one core slow each other down. The logs of the authority alone are in memory, where the
//! certificate log signs its receipts and the record is thrown away: what it costs to keep them is part of the
//! instance, and has a benchmark of its own. `cpu/floor` compares CPU time of the whole process, `wall/floor` the
//! time a certificate takes, all cores together. Argument: certificates in a run (default 8000).
//!
//! The instance is `countersign dev`, over HTTP, on kept connections; its record and its certificate log are
//! on disk. As many certificates as it gives to 64 clients are beside the aim, twenty times what Let's Encrypt
//! gives on average; then requests come at half that number, and at half of the aim, at even times whether or
//! not those before are answered, and what counts is the time from when a request was due. CPU is beside the floor
//! on all cores here, too: it pays for HTTP and for three entries in two logs, each durable. Beside each part a thread
//! syncs a file of its own again and again: where the disk makes that wait, no answer can be faster.

use async_trait::async_trait;
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
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
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc; // the program's

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
        let precertificate = Certificate::parse(precertificate);
        let precertificate = precertificate.map_err(|error| failed(error.to_string()))?;
        let tbs =
            sct::precertificate_tbs(&precertificate).map_err(|error| failed(error.to_string()))?;
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

fn cpu() -> Duration {
    cpu_of("self")
}

/// CPU time of a process, user and system, from the kernel's count in hundredths of a second.
fn cpu_of(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// CPU microseconds for the bare cryptography of one certificate, on so many threads at once.
fn floor(client: &Client, count: u32, threads: u32) -> f64 {
    let start = cpu();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| bare(client, count));
        }
    });
    (cpu() - start).as_secs_f64() * 1e6 / f64::from(count * threads)
}

fn bare(client: &Client, count: u32) {
    let jwk: Jwk = serde_json::from_value(client.jwk.clone()).expect("a key");
    let token_key = DecodingKey::from_jwk(&jwk).expect("a key");
    let (signed, signature) = client.token.rsplit_once('.').expect("a token");
    let spki = client.key.public_key().as_der().expect("a key");
    let Request::PublicKey { proof, .. } = &client.request else { unreachable!("made above") };
    let (authority, log) = (FileSigner::generate(), FileSigner::generate());
    let (authority, log) = (authority.expect("randomness"), log.expect("randomness"));
    let log_key = PublicKey::from_spki(log.spki()).expect("a key");
    let body = [7; 900]; // what a certificate has to be signed
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
}

/// A record that nobody keeps.
struct Record;

#[async_trait]
impl AuditLog for Record {
    async fn append(&self, entry: Vec<u8>) -> Result<(), audit::Error> {
        std::hint::black_box(entry);
        Ok(())
    }
}

#[tokio::main]
async fn main() {
    // cargo adds `--bench`.
    let count = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let count: u32 = count.unwrap_or(8_000);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let issuer = format!("http://{}", listener.local_addr().expect("a port"));
    let client = Arc::new(Client::new(&issuer));
    let discovery = json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys") });
    let keys = json!({ "keys": [client.jwk] });
    let routes = Router::new()
        .route("/.well-known/openid-configuration", get(async move || Json(discovery.clone())))
        .route("/keys", get(async move || Json(keys.clone())));
    tokio::spawn(async move { axum::serve(listener, routes).await });

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
        gate: Arc::new(|_, _| Ok(countersign_ca::issue::Passed::default())),
        limits: Limits::none(),
        audit: Audit::new(Arc::new(Record)),
        clock: Arc::new(Timestamp::now),
    });
    let authority = Arc::new(authority.expect("an authority"));

    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let mut busy = 0.0;
    for writers in [1_u32, 8, 64] {
        busy = floor(&client, count / writers.min(cores), writers.min(cores));
        let each = count / writers;
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
            "{writers:>4} writers: floor {busy:.0} us CPU; {wall:.0} us wall, {cpu:.0} us CPU, wall/floor {:.2}, cpu/floor {:.2}",
            wall / busy,
            cpu / busy,
        );
    }
    instance(&client, busy).await;
}

/// What Let's Encrypt gives a second, 10 million a day, times twenty.
const AIM: f64 = 20.0 * 116.0;

/// How long each part of the load is.
const PART: Duration = Duration::from_secs(6);

/// A development instance; killed when dropped.
struct Dev(Child);

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.0.kill(); // the end of the run
        let _ = self.0.wait();
    }
}

fn countersign(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

async fn instance(client: &Client, floor: f64) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut dev = countersign(&["dev", "--listen", "127.0.0.1:0", "--dir"]);
    let mut dev = Dev(dev.arg(folder.path()).spawn().expect("the program"));
    let mut lines = BufReader::new(dev.0.stdout.take().expect("piped")).lines();
    let url = lines.find_map(|line| {
        let line = line.ok()?;
        line.strip_prefix("Serving ").map(|rest| rest.split(' ').next().expect("a URL").to_owned())
    });
    std::thread::spawn(move || lines.for_each(drop));
    let url = url.expect("it serves");
    let token = countersign(&["token", "--instance", &url, "--email", EMAIL]).output();
    let token = String::from_utf8(token.expect("a token").stdout).expect("text");
    let Request::PublicKey { key, proof } = &client.request else { unreachable!("made above") };
    let body =
        json!({ "publicKeyRequest": { "publicKey": { "content": String::from_utf8_lossy(key) },
        "proofOfPossession": STANDARD.encode(proof) } })
        .to_string();
    let address = url.strip_prefix("http://").expect("on loopback").to_owned();
    let (token, length) = (token.trim(), body.len());
    let request = format!(
        "POST /api/v2/signingCert HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let load =
        Load { address, request, server: dev.0.id(), floor, folder: folder.path().to_owned() };
    load.run("warm", 64, None, Duration::from_secs(1)).await;
    let rate = load.run("64 clients", 64, None, PART).await;
    println!("    aim: {AIM:.0} certificates/s, found/aim {:.2}", rate / AIM);
    load.run("half of that", 128, Some(rate / 2.0), PART).await;
    load.run("half of the aim", 128, Some(AIM / 2.0), PART).await;
    println!("    aim: p99 below 20 ms");
}

struct Load {
    address: String,
    request: String,
    /// Process ID.
    server: u32,
    /// CPU microseconds.
    floor: f64,
    /// On the instance's disk.
    folder: PathBuf,
}

/// Writes 4 KiB over and syncs them, with a pause, until told to end. Returns how long each took, sorted.
fn syncs(folder: &Path, end: &AtomicBool) -> Vec<Duration> {
    let file = std::fs::File::create(folder.join("probe")).expect("a file");
    let mut times = Vec::new();
    while !end.load(Ordering::Relaxed) {
        let start = Instant::now();
        file.write_all_at(&[7; 4096], 0).and_then(|()| file.sync_data()).expect("a disk");
        times.push(start.elapsed());
        std::thread::sleep(Duration::from_millis(5));
    }
    times.sort();
    times
}

/// Milliseconds.
fn at(times: &[Duration], part: f64) -> f64 {
    times[((times.len() as f64 - 1.0) * part) as usize].as_secs_f64() * 1e3
}

impl Load {
    /// So many connections for so long, at so many requests a second, or as fast as they are answered.
    /// Returns certificates a second.
    async fn run(&self, what: &str, connections: u32, rate: Option<f64>, time: Duration) -> f64 {
        let (start, next) = (Instant::now(), Arc::new(AtomicU32::new(0)));
        let (own, server) = (cpu(), cpu_of(&self.server.to_string()));
        let (folder, end) = (self.folder.clone(), Arc::new(AtomicBool::new(false)));
        let ended = Arc::clone(&end);
        let disk = std::thread::spawn(move || syncs(&folder, &ended));
        let tasks: Vec<_> = (0..connections)
            .map(|_| {
                let (address, request) = (self.address.clone(), self.request.clone());
                let next = Arc::clone(&next);
                tokio::spawn(async move {
                    let mut stream = TcpStream::connect(address).await.expect("it listens");
                    stream.set_nodelay(true).expect("a socket");
                    let (mut buffer, mut times) = (Vec::new(), Vec::new());
                    loop {
                        let number = f64::from(next.fetch_add(1, Ordering::Relaxed));
                        let due = rate.map_or_else(Instant::now, |rate| {
                            start + Duration::from_secs_f64(number / rate)
                        });
                        if due.duration_since(start) >= time {
                            return times;
                        }
                        tokio::time::sleep_until(due.into()).await;
                        certificate(&mut stream, &request, &mut buffer).await;
                        times.push(due.elapsed());
                    }
                })
            })
            .collect();
        let mut times = Vec::new();
        for task in tasks {
            times.extend(task.await.expect("no panic"));
        }
        times.sort();
        let count = times.len() as f64;
        let seconds = start.elapsed().as_secs_f64();
        end.store(true, Ordering::Relaxed);
        let disk = disk.join().expect("no panic");
        let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / count;
        let server = each(cpu_of(&self.server.to_string()) - server);
        println!(
            "{what:>16}: {:.0} certificates/s, p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms; a sync p99 {:.1} ms, most {:.1} ms; CPU each: server {server:.0} us, {:.1} floors, clients {:.0} us",
            count / seconds,
            at(&times, 0.5),
            at(&times, 0.99),
            at(&times, 1.0),
            at(&disk, 0.99),
            at(&disk, 1.0),
            server / self.floor,
            each(cpu() - own),
        );
        count / seconds
    }
}

/// Asks for a certificate and reads the answer, which must be one.
async fn certificate(stream: &mut TcpStream, request: &str, buffer: &mut Vec<u8>) {
    stream.write_all(request.as_bytes()).await.expect("the server reads");
    buffer.clear();
    let mut whole = None;
    while whole.is_none_or(|whole| buffer.len() < whole) {
        assert!(stream.read_buf(buffer).await.expect("an answer") > 0, "the server answers");
        let text = String::from_utf8_lossy(buffer);
        let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
        assert!(head.starts_with("HTTP/1.1 200"), "{text}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|length| length.parse().ok()).expect("a length");
        whole = Some(head.len() + 4 + length);
    }
}
