//! Makes the fixed instance in `testdata/instance` anew: a trusted root and a bundle of each sort. The
//! private keys are gone when it ends.
//!
//! `cargo run --release -p countersign-fuzz --example instance -- testdata/instance`

use countersign_fuzz::fixed::ARTIFACT;
use countersign_testkit::{Instance, Shape};

/// File names, and the names of their shapes.
const BUNDLES: [(&str, &str); 7] = [
    ("message", "0.3 message, Rekor v2"),
    ("attestation", "0.3 statement, Rekor v2"),
    ("message-v1", "0.3 message, Rekor v1 with a timestamp"),
    ("dsse-v1", "0.2 statement, dsse"),
    ("intoto-promised", "0.1 statement, intoto, promise alone"),
    ("both-logs", "0.3 message, both logs"),
    ("cosign", "cosign's own, message"),
];

fn main() {
    let folder = std::path::PathBuf::from(std::env::args().nth(1).expect("the folder to write to"));
    let instance = Instance::new();
    std::fs::write(folder.join("trusted_root.json"), instance.trusted_root()).expect("can write");
    for (name, shape) in BUNDLES {
        let shape = Shape::ALL.iter().find(|known| known.name == shape).expect("a known shape");
        let signer =
            instance.certify("https://git.example.test/acme", "https://issuer.example.test");
        let bundle = instance.make(&signer, ARTIFACT, shape);
        let path = folder.join(format!("{name}.sigstore.json"));
        std::fs::write(path, bundle.to_string()).expect("can write");
    }
}
