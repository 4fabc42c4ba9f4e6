//! `kill -9` at random moments, while several clients sign and under the hammer's load, with faults on the
//! way there: whatever was handed out still verifies, the logs read whole, and no place in them is used
//! twice.

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

fn rounds() -> usize {
    let rounds = std::env::var("COUNTERSIGN_KILL_ROUNDS");
    rounds.map_or(8, |rounds| rounds.parse().expect("a number of rounds"))
}

/// What happens to a server before it is killed.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    /// A write beyond this many bytes of a file is cut short, and the server dies in the next.
    ShortWrites(u64),
    /// For a while no file and no connection can be opened.
    NoFiles,
    /// It stands still for a while.
    Stopped,
    /// A second server is started on its directory.
    Second,
    /// It is killed before it serves again.
    Starting,
}

impl Fault {
    const ALL: [Self; 9] = [
        Self::None,
        Self::ShortWrites(1),
        Self::NoFiles,
        Self::ShortWrites(5_000),
        Self::Starting,
        Self::Second,
        Self::ShortWrites(40_000),
        Self::Stopped,
        Self::ShortWrites(400_000),
    ];

    fn happen(self, dev: &Dev, moment: u64) {
        let pid = dev.child.id().to_string();
        let command = |name: &str, args: &[&str]| {
            // A fault that this machine cannot make is none; the server is killed in any case.
            let _ = std::process::Command::new(name).args(args).output();
        };
        let pause = || std::thread::sleep(Duration::from_millis(moment));
        match self {
            Self::None | Self::Starting => {}
            Self::ShortWrites(bytes) => {
                command("prlimit", &["--pid", &pid, &format!("--fsize={bytes}")]);
                pause();
            }
            Self::NoFiles => {
                command("prlimit", &["--pid", &pid, "--nofile=3:4096"]);
                pause();
                command("prlimit", &["--pid", &pid, "--nofile=4096:4096"]);
                pause();
            }
            Self::Stopped => {
                command("kill", &["-STOP", &pid]);
                pause();
            }
            Self::Second => {
                let second = run(["dev", "--dir", dev.dir.to_str().unwrap()]);
                assert_eq!(verdict(&second).0, 2, "{second:?}");
            }
        }
    }
}

/// The hammer writes and reads through all of it; what it was told is held to the last tree in the end.
#[test]
fn the_log_keeps_its_word_through_kills_and_faults_under_load() {
    let rounds = rounds();
    let folder = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(&folder.path().join("dev"));
    let mut hammer = std::process::Command::new(env!("CARGO_BIN_EXE_countersign"));
    let hammer = common::clean(&mut hammer)
        .args(["log", "hammer", "--instance", &dev.url, "--writers", "16", "--readers", "1"])
        .args(["--duration", "6h", "--timeout", "2m", "--output", "json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    for round in 0..rounds {
        // From 20 to 220 ms, at no step in particular.
        let random = (round * 7919 + usize::try_from(std::process::id()).unwrap()) as u64;
        let (fault, moment) = (Fault::ALL[round % Fault::ALL.len()], 20 + random % 200);
        std::thread::sleep(Duration::from_millis(100 + moment));
        fault.happen(&dev, moment);
        dev.kill();
        if matches!(fault, Fault::Starting) {
            let mut starting = std::process::Command::new(env!("CARGO_BIN_EXE_countersign"));
            let starting = common::clean(&mut starting).arg("dev").arg("--dir").arg(&dev.dir);
            let mut starting = starting.stdout(std::process::Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(moment));
            starting.kill().unwrap();
            starting.wait().unwrap();
        }
        dev = Dev::start(&dev.dir.clone());
        let checked = run(["log", "fsck", "--dir", dev.dir.to_str().unwrap()]);
        assert_eq!(verdict(&checked).0, 0, "round {round}, {fault:?}: {checked:?}");
    }
    let id = hammer.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let output = hammer.wait_with_output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{report}");
    for none in
        ["lost", "broken_proofs", "doubled", "wrongly_accepted", "wrongly_refused", "failed"]
    {
        assert_eq!(report[none], 0, "{none}: {report}");
    }
    let count = |name: &str| report[name].as_u64().unwrap();
    assert!(count("accepted") > rounds as u64, "{report}");
    assert_eq!(count("checked"), count("accepted"), "{report}");
    println!("{rounds} rounds: {report}");
}

#[test]
fn nothing_that_was_acknowledged_is_lost_however_often_the_server_is_killed() {
    let rounds = rounds();
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
