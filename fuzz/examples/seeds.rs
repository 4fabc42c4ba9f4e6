//! Writes the seeds of every target below a folder, as fuzzers want them: one file an input.
//!
//! `cargo run --release -p countersign-fuzz --example seeds -- FOLDER`

use countersign_fuzz::{TARGETS, seeds};

fn main() {
    let folder = std::path::PathBuf::from(std::env::args().nth(1).expect("the folder to write to"));
    for (target, _) in TARGETS {
        let folder = folder.join(target);
        std::fs::create_dir_all(&folder).expect("can make a folder");
        for (number, seed) in seeds::of(target).into_iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:03}")), seed).expect("can write");
        }
    }
}
