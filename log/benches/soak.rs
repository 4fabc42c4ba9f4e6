//! Memory of a log as it grows: cheap entries, straight into the engine, and what the process then holds.
//! Argument: millions of entries (10).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use countersign_log::store::{Files, Sqlite};
use countersign_log::{Candidate, Format, Log, Options, Signer};
use std::sync::Arc;
use std::time::Instant;

const MILLION: u64 = 1_000_000;

/// Entries that wait at a time: half of what a log takes.
const AT_ONCE: u64 = 2048;

fn main() {
    // cargo adds `--bench`.
    let millions =
        std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(10);
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let signer = Signer::ed25519("log.example.test", pkcs8.as_ref()).expect("a signer");
        let store = Files::open(folder.path().join("log")).expect("a store");
        let database = Sqlite::open(&folder.path().join("log.db")).await.expect("a database");
        let lock = database.lock("log.example.test").await.expect("a lock");
        let options = Options::new(Format::Entries);
        let log = Log::open(options, signer, Arc::new(store), Arc::new(lock)).await.expect("a log");
        let (mut next, mut started) = (0, Instant::now());
        for million in 1..=millions {
            while next < million * MILLION {
                let end = (next + AT_ONCE).min(million * MILLION);
                let entries = (next..end).map(|index| {
                    let candidate = Candidate::entry(format!("entry {index}").as_bytes());
                    log.append(candidate.expect("a short entry"))
                });
                futures_util::future::try_join_all(entries).await.expect("the log takes them");
                next = end;
            }
            let body = format!("entry {}", next / 2);
            let proof = log.prove_inclusion(&log.head(), next / 2, body.as_bytes()).await;
            proof.expect("an entry in the middle is proven");
            let rate = MILLION as f64 / started.elapsed().as_secs_f64();
            let [now, most] = ["VmRSS:", "VmHWM:"].map(memory);
            println!(
                "{million:>3} million: {now} MiB resident, {most} MiB at most, {rate:.0} entries/s"
            );
            started = Instant::now();
        }
    });
}

/// MiB, as the kernel has it.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line =
        status.lines().find_map(|line| line.strip_prefix(name)).expect("each process has it");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib / 1024
}
