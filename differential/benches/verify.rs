//! One verification within a process, ours beside the crate `sigstore-verify`, on the same bundles.
//!
//! `cargo bench -p countersign-differential --bench verify`; see docs/performance.md.

use countersign_testkit::{Instance, Shape};
use countersign_verify::{Artifact, TrustedRoot, verify_json};
use std::hint::black_box;
use std::time::{Duration, Instant};

const ARTIFACT: &[u8] = b"artifact";

fn main() {
    let instance = Instance::new();
    let root = instance.trusted_root();
    let ours = TrustedRoot::parse(root.as_bytes()).unwrap();
    let theirs = sigstore_trust_root::TrustedRoot::from_json(&root).unwrap();
    let theirs = sigstore_verify::Verifier::new(&theirs).unwrap();
    let policy = sigstore_verify::VerificationPolicy::any_identity();
    let artifact = Artifact::from_bytes(ARTIFACT);
    let signer = instance.certify("https://git.example.test/acme", "https://issuer.example.test");
    println!("from JSON to verdict, one thread; best of ten turns\n");
    for shape in &Shape::ALL {
        let json = instance.make(&signer, ARTIFACT, shape).to_string();
        let by_theirs = || {
            let bundle = sigstore_types::Bundle::from_json(black_box(&json));
            bundle.is_ok_and(|bundle| theirs.verify(ARTIFACT, &bundle, &policy).is_ok())
        };
        let by_ours = || {
            black_box(verify_json(black_box(json.as_bytes()), &artifact, &ours)).result().is_ok()
        };
        let name = shape.name;
        if !by_theirs() {
            let (found, _) = in_turns(by_ours, by_ours);
            println!("{name:42} {}   not accepted by sigstore-verify", shown(found));
            continue;
        }
        let (found, peer) = in_turns(by_ours, by_theirs);
        let ratio = peer.as_secs_f64() / found.as_secs_f64();
        println!("{name:42} {}   sigstore-verify {} = {ratio:.2}x ours", shown(found), shown(peer));
    }
}

/// The time of one round of each, the best of ten turns: what else the machine does only adds to it.
fn in_turns(first: impl Fn() -> bool, second: impl Fn() -> bool) -> (Duration, Duration) {
    const ROUNDS: u32 = 100;
    let run = |round: &dyn Fn() -> bool| {
        let start = Instant::now();
        (0..ROUNDS).for_each(|_| assert!(round()));
        start.elapsed() / ROUNDS
    };
    let turns = (0..10).map(|_| (run(&first), run(&second)));
    turns
        .fold((Duration::MAX, Duration::MAX), |best, turn| (best.0.min(turn.0), best.1.min(turn.1)))
}

fn shown(time: Duration) -> String {
    format!("{:7.3} ms", time.as_secs_f64() * 1000.0)
}
