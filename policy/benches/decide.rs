//! What a decision costs: the largest of the example policies, about an image that passes all of it.
//! `cargo bench -p countersign-policy`.

use countersign_policy::{Facts, Policy, decide};
use std::hint::black_box;
use std::time::Instant;

const POLICY: &str = include_str!("../tests/policies/acme-apps.yaml");
const FACTS: &str = include_str!("facts.json");

fn main() {
    let policy = Policy::parse(POLICY).expect("the example loads");
    let facts: Facts = serde_json::from_str(FACTS).expect("recorded facts");
    let decision = decide(&facts, &policy);
    assert!(decision.allows(), "{}", decision.explain());
    let each = |work: &dyn Fn()| {
        let rounds: u32 = 2000;
        let mut best = f64::MAX;
        for _ in 0..5 {
            let begun = Instant::now();
            (0..rounds).for_each(|_| work());
            best = best.min(begun.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
        }
        best
    };
    let decided = each(&|| drop(black_box(decide(black_box(&facts), &policy))));
    let explained = each(&|| drop(black_box(decide(black_box(&facts), &policy).to_json())));
    println!(
        "policy decision, acme-apps: {decided:.1} us (budget 50), with its tree as JSON {explained:.1} us"
    );
}
