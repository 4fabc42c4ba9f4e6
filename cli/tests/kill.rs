//! `kill -9` at random moments while several clients sign: whatever was handed out still verifies, the
//! logs read whole, and no place in them is used twice.

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{Dev, run, verdict};
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const EMAIL: &str = "you@example.com";
const CLIENTS: usize = 4;

#[test]
fn nothing_that_was_acknowledged_is_lost_however_often_the_server_is_killed() {
    let rounds = std::env::var("COUNTERSIGN_KILL_ROUNDS");
    let rounds: usize = rounds.map_or(8, |rounds| rounds.parse().expect("a number of rounds"));
    let folder = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(&folder.path().join("dev"));
    let signed = AtomicUsize::new(0);
    for round in 0..rounds {
        let stop = AtomicBool::new(false);
        let token = dev.token(EMAIL);
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (dev, stop, token, signed) = (&dev, &stop, &token, &signed);
                let folder = folder.path();
                scope.spawn(move || {
                    for number in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let file = folder.join(format!("{round}-{client}-{number}"));
                        fs::write(&file, format!("{round} {client} {number}")).unwrap();
                        let mut child =
                            std::process::Command::new(env!("CARGO_BIN_EXE_countersign"));
                        let child = common::clean(&mut child)
                            .args(["sign-blob", "--trust-config"])
                            .arg(dev.config())
                            .args(["--identity-token", token])
                            .arg(&file)
                            .stdout(std::process::Stdio::null())
                            .stderr(std::process::Stdio::null());
                        let mut child = child.spawn().unwrap();
                        // A client whose server is gone would wait for it: it goes, too.
                        loop {
                            if let Some(status) = child.try_wait().unwrap() {
                                signed.fetch_add(usize::from(status.success()), Ordering::Relaxed);
                                break;
                            }
                            if stop.load(Ordering::Relaxed) {
                                let _ = child.kill(); // it may just have ended
                                child.wait().unwrap();
                                return;
                            }
                            std::thread::sleep(Duration::from_millis(2));
                        }
                    }
                });
            }
            // Moments from 30 to 300 ms after the start, at no step in particular.
            let moment = 30 + (round * 7919 + usize::try_from(std::process::id()).unwrap()) % 270;
            std::thread::sleep(Duration::from_millis(moment as u64));
            let id = dev.child.id().to_string();
            let killed = std::process::Command::new("kill").args(["-KILL", &id]).status().unwrap();
            assert!(killed.success());
            stop.store(true, Ordering::Relaxed);
        });
        dev.kill();
        dev = Dev::start(&dev.dir.clone());
        let dir = dev.dir.to_str().unwrap();
        let checked = run(["log", "fsck", "--dir", dir]);
        assert_eq!(verdict(&checked).0, 0, "round {round}: {checked:?}");
    }

    let mut places: HashMap<String, PathBuf> = HashMap::new();
    let mut bundles = 0;
    for entry in fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let Some(file) = path.to_str().unwrap().strip_suffix(".sigstore.json").map(PathBuf::from)
        else {
            continue;
        };
        bundles += 1;
        let output = dev.verify(&file, &path, EMAIL);
        assert_eq!(verdict(&output).0, 0, "{}: {output:?}", path.display());
        let json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let entry = &json["verificationMaterial"]["tlogEntries"][0];
        let index = entry["logIndex"].as_str().unwrap();
        if let Some(other) = places.insert(index.to_owned(), path.clone()) {
            panic!("index {index} is in {} and in {}", path.display(), other.display());
        }
        // A bundle proves its place in the tree of its day; the entry must be in today's as well.
        let config = dev.config();
        let found = run(["log", "get", index, "--trust-config", config.to_str().unwrap()]);
        let body = String::from_utf8(found.stdout).unwrap();
        let expected = entry["canonicalizedBody"].as_str().unwrap();
        assert_eq!(STANDARD.encode(body.trim_end()), expected, "entry {index} of today's tree");
    }
    let signed = signed.into_inner();
    assert!(
        signed > 0 && bundles >= signed,
        "{signed} signatures reported, {bundles} bundles written"
    );
    assert!(
        dev.size() > bundles as u64,
        "each bundle has its entry, beside the first one of the log"
    );
    println!("{rounds} rounds, {bundles} bundles, {} entries", dev.size());
}
