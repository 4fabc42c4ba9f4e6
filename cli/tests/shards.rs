//! The logs of a running instance go on in new shards, and come back from a backup: nothing is refused,
//! nothing forks, and every bundle verifies with one trusted root.

mod common;

use common::{Dev, assert_fails, clean, entry_request, run, verdict};
use countersign_log::store::{Files, Sqlite};
use countersign_log::{Candidate, Format, Log, Options, Signer};
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

const EMAIL: &str = "you@example.com";
const LOG: &str = "POST /api/v2/log/entries";

/// `countersign VERB... --dir DIR FLAGS...`
fn order(dev: &Dev, verb: &[&str], flags: &[&str]) -> Output {
    let verb = verb.iter().map(OsStr::new).chain(["--dir".as_ref(), dev.dir.as_ref()]);
    run(verb.chain(flags.iter().map(OsStr::new)))
}

fn done(output: &Output) -> Value {
    assert_eq!(verdict(output), (0, String::new()));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Log ID and index that a Rekor v2 answer, or the first entry of a bundle, has.
fn place(entry: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&entry["logId"]["keyId"]), text(&entry["logIndex"]))
}

fn place_in(bundle: &Path) -> (String, String) {
    let json: Value = serde_json::from_slice(&fs::read(bundle).unwrap()).unwrap();
    place(&json["verificationMaterial"]["tlogEntries"][0])
}

/// Submits, and returns the place. No write may fail.
fn submit(dev: &Dev, request: &str) -> (String, String) {
    let (status, body) = dev.request(LOG, "", request);
    assert_eq!(status, 201, "{body}");
    place(&serde_json::from_str(&body).unwrap())
}

fn file(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, name).unwrap();
    path
}

fn bundle(file: &Path) -> PathBuf {
    PathBuf::from(format!("{}.sigstore.json", file.display()))
}

fn sign(dev: &Dev, folder: &Path, name: &str) -> PathBuf {
    let file = file(folder, name);
    let output = dev.sign(&file, EMAIL);
    assert_eq!(verdict(&output).0, 0, "{output:?}");
    file
}

fn assert_verifies(dev: &Dev, file: &Path) {
    assert_verifies_as(dev, file, &dev.url);
}

/// `issuer` is the URL of the instance when the file was signed.
fn assert_verifies_as(dev: &Dev, file: &Path, issuer: &str) {
    let (config, bundle) = (dev.config(), bundle(file));
    let output = run([
        OsStr::new("verify-blob"),
        "--trust-config".as_ref(),
        config.as_ref(),
        "--certificate-identity".as_ref(),
        EMAIL.as_ref(),
        "--certificate-oidc-issuer".as_ref(),
        issuer.as_ref(),
        "--bundle".as_ref(),
        bundle.as_ref(),
        file.as_ref(),
    ]);
    assert_eq!(verdict(&output), (0, String::new()), "{}", file.display());
}

#[test]
fn thirty_two_writers_and_signers_do_not_notice_a_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder.path().join("dev"));
    let old = folder.path().join("old.json");
    fs::copy(dev.config(), &old).unwrap();
    let before = sign(&dev, folder.path(), "before");
    let (stop, written) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (signed, places) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for writer in 0..32 {
            let (dev, stop, written, places) = (&dev, &stop, &written, &places);
            scope.spawn(move || {
                for number in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let request = entry_request(format!("{writer} {number}").as_bytes());
                    let place = submit(dev, &request);
                    assert_eq!(submit(dev, &request), place, "a repeat has the same place");
                    written.fetch_add(1, Ordering::SeqCst);
                    places.lock().unwrap().push((request, place));
                }
            });
        }
        for signer in 0..2 {
            let (dev, stop, signed, folder) = (&dev, &stop, &signed, folder.path());
            scope.spawn(move || {
                for number in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let file = sign(dev, folder, &format!("{signer}-{number}"));
                    signed.lock().unwrap().push(file);
                }
            });
        }
        // Stopped also when an assertion here fails: the scope waits for its threads.
        let _stop = Stop(&stop);
        let progress = || {
            let (writes, signatures) =
                (written.load(Ordering::SeqCst), signed.lock().unwrap().len());
            while written.load(Ordering::SeqCst) < writes + 64
                || signed.lock().unwrap().len() < signatures + 4
            {
                thread::sleep(std::time::Duration::from_millis(5));
            }
        };
        progress();
        let json = ["--output", "json"];
        let announced = done(&order(&dev, &["log", "rotate"], &["--announce", "--output", "json"]));
        assert_eq!((&announced["shard"], &announced["state"]), (&2.into(), &"announced".into()));
        let again = done(&order(&dev, &["log", "rotate"], &["--announce", "--output", "json"]));
        assert_eq!(again, announced, "the same again does no harm");
        // Whoever signs from now on has read a trusted root with both keys.
        progress();
        let begun = done(&order(&dev, &["log", "rotate"], &json));
        assert_eq!((&begun["shard"], &begun["logId"]), (&2.into(), &announced["logId"]));
        progress();
    });
    let after = sign(&dev, folder.path(), "after");
    let places = places.into_inner().unwrap();
    let logs: BTreeSet<_> = places.iter().map(|(_, (log, _))| log).collect();
    let distinct: BTreeSet<_> = places.iter().map(|(_, place)| place).collect();
    assert_eq!((logs.len(), distinct.len()), (2, places.len()));
    let mut files = signed.into_inner().unwrap();
    files.extend([before.clone(), after.clone()]);
    let of_bundles: BTreeSet<_> = files.iter().map(|file| place_in(&bundle(file)).0).collect();
    assert_eq!(of_bundles.len(), 2);
    for file in &files {
        assert_verifies(&dev, file);
    }
    // The signing config names the new shard first, the old one until then.
    let services = fs::read(dev.dir.join("trust/signing_config.json")).unwrap();
    let services: Value = serde_json::from_slice(&services).unwrap();
    let services = &services["rekorTlogUrls"];
    assert_eq!(services[0]["url"], format!("{}/shards/2", dev.url));
    assert_eq!(services[1]["validFor"]["end"], services[0]["validFor"]["start"]);

    // Frozen, the old shard refuses writers, says so in its last checkpoint, and its bundles still verify.
    assert_fails(&order(&dev, &["log", "freeze"], &["--shard", "2"]), 1, "has not ended");
    done(&order(&dev, &["log", "freeze"], &["--shard", "1", "--output", "json"]));
    let (status, body) = dev.request(LOG, "", &places[0].0);
    let frozen = "This log has been frozen, please switch to the latest log.";
    assert_eq!((status, &*body), (405, frozen));
    let (_, note) = dev.request("GET /api/v2/checkpoint", "", "");
    assert!(note.contains("\nLog frozen \u{2014} "), "{note}");
    let root = fs::read(dev.dir.join("trust/trusted_root.json")).unwrap();
    let root: Value = serde_json::from_slice(&root).unwrap();
    assert!(root["tlogs"][0]["publicKey"]["validFor"]["end"].is_string());
    assert!(root["tlogs"][1]["publicKey"]["validFor"].get("end").is_none());
    for file in [&before, &after] {
        assert_verifies(&dev, file);
    }
    // Whoever knows the keys of before is told what is known, what was found, and what to do.
    let with_old = |args: &[&OsStr]| {
        let old = [OsStr::new("--trust-config"), old.as_ref()];
        run(args.iter().chain(&old).copied())
    };
    let renewal = "old.json; if the instance has changed its keys since, get its newer";
    let (whom, by) = ("--certificate-identity".as_ref(), "--certificate-oidc-issuer".as_ref());
    let verify = [whom, EMAIL.as_ref(), by, dev.url.as_ref(), after.as_ref()];
    let refused = with_old(&[&["verify-blob".as_ref()], &verify[..]].concat());
    let id = place_in(&bundle(&after)).0;
    let unknown = format!("one of the trusted root's logs, 2 in number, found one of log {id}");
    let token = dev.token(EMAIL);
    let sign = ["sign-blob", "--identity-token", &token].map(OsStr::new);
    let frozen = with_old(&[&sign[..], &[after.as_ref()]].concat());
    for (output, expected) in [(&refused, &*unknown), (&frozen, "answered 405")] {
        assert_fails(output, 1, expected);
        assert_fails(output, 1, renewal);
    }
    // A restart finds it all, and repeats are answered by the shard that has them.
    let dir = dev.dir.clone();
    drop(dev);
    let dev = Dev::start(&dir);
    for (request, expected) in [&places[0], &places[places.len() - 1]] {
        let (status, body) = dev.request("POST /shards/2/api/v2/log/entries", "", request);
        assert_eq!(status, 201, "{body}");
        assert_eq!(place(&serde_json::from_str(&body).unwrap()), *expected);
    }
    assert_verifies(&dev, &before);
    let checked = run(["log", "fsck", "--dir", dir.to_str().unwrap()]);
    let checked = String::from_utf8(checked.stdout).unwrap();
    let whole: Vec<_> = checked.lines().map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(whole, ["whole: log", "whole: log-2", "whole: log-v1", "whole: ct", "whole: audit"]);
    // An outsider reads the newest shard, or the one that is named; all of them when all is to be whole.
    let read = |args: &[&str]| {
        let output = run([&["log"][..], args, &["--instance", &dev.url]].concat());
        assert_eq!(verdict(&output).0, 0, "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(read(&["info"]).starts_with(&format!("{}/shards/2\n", dev.url)));
    assert!(read(&["info", "--shard", "1"]).starts_with(&format!("{}\n", dev.url)));
    assert_ne!(read(&["get", "0", "--shard", "1"]), read(&["get", "0"]));
    let shards = [&*dev.url, &format!("{}/shards/2", dev.url)].map(|url| format!("whole: {url},"));
    let whole = read(&["fsck"]);
    assert!(whole.lines().zip(&shards).all(|(line, shard)| line.starts_with(shard)), "{whole}");
    assert_eq!((whole.lines().count(), read(&["fsck", "--shard", "2"]).lines().count()), (2, 1));
    let found = read(&["search", "--identity", EMAIL]);
    assert!(found.contains(&format!("  {}/shards/2\n", dev.url)), "{found}");
    assert!(found.contains(&format!("({}/shards/2), root", dev.url)), "{found}");
    assert_fails(&run(["log", "info", "--shard", "3", "--instance", &dev.url]), 1, "no shard 3");
    let shard = format!("{}/shards/2", dev.url);
    assert_fails(&run(["log", "info", "--instance", &shard]), 2, "is a shard of a log");
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_rotated_rekor_v1_log_counts_on_and_both_its_keys_verify() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder.path().join("dev"));
    let sign_v1 = |name: &str| {
        let path = dev.dir.join("trust/signing_config.json");
        let mut signing: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let logs = signing["rekorTlogUrls"].as_array_mut().unwrap();
        logs.retain(|log| log["majorApiVersion"] == 1);
        let path = folder.path().join("signing.json");
        fs::write(&path, signing.to_string()).unwrap();
        let (file, token) = (file(folder.path(), name), dev.token(EMAIL));
        let root = dev.dir.join("trust/trusted_root.json");
        let output = run([
            OsStr::new("sign-blob"),
            "--trusted-root".as_ref(),
            root.as_ref(),
            "--signing-config".as_ref(),
            path.as_ref(),
            "--identity-token".as_ref(),
            token.as_ref(),
            file.as_ref(),
        ]);
        assert_eq!(verdict(&output).0, 0, "{output:?}");
        file
    };
    let before = sign_v1("before");
    let begun = done(&order(&dev, &["log", "rotate"], &["--log", "log-v1", "--output", "json"]));
    assert_eq!((&begun["shard"], &begun["url"]), (&2.into(), &dev.url.as_str().into()));
    let after = sign_v1("after");
    let places = [&before, &after].map(|file| place_in(&bundle(file)));
    assert_ne!(places[0].0, places[1].0);
    // Two entries in the first tree, and the seed of the second.
    assert_eq!((&*places[0].1, &*places[1].1), ("1", "3"));
    done(&order(
        &dev,
        &["log", "freeze"],
        &["--log", "log-v1", "--shard", "1", "--output", "json"],
    ));
    for file in [&before, &after] {
        assert_verifies(&dev, file);
    }
}

#[test]
fn orders_are_for_the_owner_of_the_directory_and_for_a_running_instance() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(folder.path());
    let mode = fs::metadata(folder.path().join("control")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    dev.kill();
    assert_fails(&order(&dev, &["log", "rotate"], &[]), 2, "no instance runs in");
    // The socket that a killed instance left is in nobody's way.
    let dev = Dev::start(folder.path());
    done(&order(&dev, &["log", "rotate"], &["--output", "json"]));
}

#[test]
fn a_backup_under_load_is_whole_and_what_comes_back_from_it_cannot_fork() {
    let folder = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(&folder.path().join("dev"));
    let backup = folder.path().join("backup");
    let target = backup.to_str().unwrap();
    let early = sign(&dev, folder.path(), "early");
    let known = entry_request(b"known");
    let known_place = submit(&dev, &known);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..16 {
            let (dev, stop) = (&dev, &stop);
            scope.spawn(move || {
                for number in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    submit(dev, &entry_request(format!("{writer} {number}").as_bytes()));
                }
            });
        }
        let _stop = Stop(&stop);
        while dev.size() < 100 {
            thread::yield_now();
        }
        let taken = done(&order(&dev, &["backup"], &[target, "--output", "json"]));
        assert!(taken["logs"][0]["size"].as_u64().unwrap() >= 100, "{taken}");
        assert_fails(&order(&dev, &["backup"], &[target]), 2, "is there already");
    });
    // What the backup does not have.
    let late = sign(&dev, folder.path(), "late");
    let lost = entry_request(b"lost");
    let lost_place = submit(&dev, &lost);
    let (_, newest) = dev.request("GET /api/v2/checkpoint", "", "");
    let issuer = dev.url.clone();

    let back = folder.path().join("back");
    let back_dir = back.to_str().unwrap();
    assert_fails(
        &run(["restore", dev.dir.to_str().unwrap(), "--dir", back_dir]),
        1,
        "is no backup: its logs take entries",
    );
    let old = folder.path().join("old.json");
    fs::copy(dev.dir.join("trust/trusted_root.json"), &old).unwrap();
    dev.kill();
    assert_eq!(verdict(&run(["restore", target, "--dir", back_dir])), (0, String::new()));
    let old_note = fs::read(back.join("log/checkpoint")).unwrap();
    let mut dev = start_anywhere(&back);

    // Everything before and after verifies with the one trusted root of the instance that came back.
    for file in [&early, &late] {
        assert_verifies_as(&dev, file, &issuer);
    }
    let fresh = sign(&dev, folder.path(), "fresh");
    assert_verifies(&dev, &fresh);
    // With the keys of before a signature is refused in time: nothing of it is logged.
    let size = |dev: &Dev| dev.request("GET /shards/2/api/v2/checkpoint", "", "").1;
    let (before, token, signing) =
        (size(&dev), dev.token(EMAIL), back.join("trust/signing_config.json"));
    let refused = run([
        OsStr::new("sign-blob"),
        "--trusted-root".as_ref(),
        old.as_ref(),
        "--signing-config".as_ref(),
        signing.as_ref(),
        "--identity-token".as_ref(),
        token.as_ref(),
        early.as_ref(),
    ]);
    assert_fails(
        &refused,
        1,
        "nothing was logged: expected the certificate in one of the trusted root's certificate logs, 1 in number, found it in log ",
    );
    assert_fails(&refused, 1, "if the instance has changed its keys since");
    assert_eq!(size(&dev), before);
    // What the copy has it answers for; what it lacks comes to be in another log.
    assert_eq!(submit(&dev, &known), known_place);
    let again = submit(&dev, &lost);
    assert_ne!(again.0, lost_place.0);
    assert_eq!(place_in(&bundle(&late)).0, lost_place.0);
    assert_eq!(place_in(&bundle(&fresh)).0, again.0);
    for number in 0..20 {
        submit(&dev, &entry_request(format!("new {number}").as_bytes()));
    }
    // The key that signed the newest checkpoint outside has signed nothing since.
    assert_eq!(fs::read(back.join("log/checkpoint")).unwrap(), old_note);
    let (_, served) = dev.request("GET /api/v2/checkpoint", "", "");
    assert_eq!(served.as_bytes(), old_note);
    let size = |note: &str| note.lines().nth(1).unwrap().parse::<u64>().unwrap();
    assert!(size(&served) < size(&newest));
    let checked = run(["log", "fsck", "--dir", back_dir]);
    assert_eq!(verdict(&checked).0, 0, "{checked:?}");
    // To the certificate log that has ended nothing can be added, and it says where it goes on.
    let (status, answer) = dev.request("POST /ct/v1/add-chain", "", "{}");
    let detail = &serde_json::from_str::<Value>(&answer).unwrap()["details"][0];
    let next = format!("a submission to {}/shards/2/ct/v1", dev.url);
    assert_eq!((status, detail["expected"].as_str()), (410, Some(&*next)), "{answer}");
    assert_eq!(dev.request("POST /shards/2/ct/v1/add-chain", "", "{}").0, 400);
    // The record went on in another shard, too, and joins certificates in both shards of their log.
    let checked = done(&run(["audit", "verify", "--dir", back_dir, "--output", "json"]));
    let logs: Vec<_> =
        checked["logs"].as_array().unwrap().iter().map(|log| log["log"].clone()).collect();
    assert_eq!(logs, ["ct", "ct-2", "audit", "audit-2"]);
    // Two that served, and the one that a client with old keys did not use.
    assert_eq!((&checked["issued"], &checked["problems"]), (&3.into(), &serde_json::json!([])));
    dev.kill();

    // Started in place, without restore, a backup cannot go on in its logs either.
    let mut dev = start_anywhere(&backup);
    assert_ne!(submit(&dev, &lost).0, lost_place.0);
    assert_eq!(fs::read(backup.join("log/checkpoint")).unwrap(), old_note);
    dev.kill();
}

/// Starts an instance where there must be none that can; what it says.
fn assert_does_not_start(dir: &Path, expected: &str) {
    assert_fails(&run(["dev", "--dir", dir.to_str().unwrap()]), 2, expected);
}

#[test]
fn without_its_list_of_shards_or_with_an_older_one_an_instance_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("dev");
    let mut dev = Dev::start(&dir);
    let (backup, back) = (folder.path().join("backup"), folder.path().join("back"));
    let (list, settings) = (dir.join("shards.json"), dir.join("instance.json"));
    let before = fs::read(&list).unwrap();
    done(&order(&dev, &["log", "rotate"], &["--output", "json"]));
    let place = submit(&dev, &entry_request(b"in the second shard"));
    done(&order(&dev, &["backup"], &[backup.to_str().unwrap(), "--output", "json"]));
    dev.kill();
    let whole = [&list, &settings].map(|path| fs::read(path).unwrap());
    let known = "shards.json is missing, but countersign.db knows audit, ct, log, log-2, log-v1";
    let old = "does not say that log-2 has begun, but countersign.db knows 2 entries of it";
    fs::remove_file(&list).unwrap();
    assert_does_not_start(&dir, known);
    assert_fails(&run(["log", "fsck", "--dir", dir.to_str().unwrap()]), 2, "is missing");
    assert!(!list.exists(), "nothing was made");
    fs::write(&list, before).unwrap();
    assert_does_not_start(&dir, old);
    fs::write(&list, &whole[0]).unwrap();
    fs::remove_file(&settings).unwrap();
    assert_does_not_start(&dir, "instance.json is missing, but there is a countersign.db");
    fs::write(&settings, &whole[1]).unwrap();
    // Nor without its database, also when nothing but tiles says that there were logs.
    let move_database = |from: &Path, to: &Path| {
        for part in ["countersign.db", "countersign.db-wal", "countersign.db-shm"] {
            let _ = fs::remove_file(to.join(part)); // what a start made that was refused
            let _ = fs::rename(from.join(part), to.join(part)); // the latter two are not always there
        }
    };
    move_database(&dir, folder.path());
    let lost = "knows nothing of log, log-2, log-v1, ct, audit, but there are entries";
    assert_does_not_start(&dir, lost);
    fs::remove_file(dir.join("log/checkpoint")).unwrap();
    assert_does_not_start(&dir, lost);
    move_database(folder.path(), &dir);

    // What comes back from a backup would fork, so it asks for the list as well.
    let restore = ["restore", backup.to_str().unwrap(), "--dir", back.to_str().unwrap()];
    assert_eq!(verdict(&run(restore)), (0, String::new()));
    fs::remove_file(back.join("shards.json")).unwrap();
    assert_does_not_start(&back, known);
    // That of a backup is one to go on with: all that it lists has ended.
    fs::copy(backup.join("shards.json"), &list).unwrap();
    let dev = Dev::start(&dir);
    assert_ne!(submit(&dev, &entry_request(b"in the third shard")).0, place.0);
    let services = fs::read_to_string(dir.join("trust/signing_config.json")).unwrap();
    assert!(services.contains("/shards/3"), "{services}");
}

#[test]
fn a_backup_waits_for_an_order_that_lists_a_shard_and_has_not_told_clients_yet() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder.path().join("dev"));
    let root = dev.dir.join("trust/trusted_root.json");
    let before = fs::read(&root).unwrap();
    done(&order(&dev, &["log", "rotate"], &["--output", "json"]));
    let after = fs::read(&root).unwrap();
    // As it is between the two writes of the order.
    fs::write(&root, before).unwrap();
    let (backup, back) = (folder.path().join("backup"), folder.path().join("back"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.arg("backup").arg(&backup).arg("--dir").arg(&dev.dir);
    let taking = clean(&mut command).stdout(Stdio::null()).spawn().unwrap();
    let begun = || {
        fs::read_dir(folder.path()).unwrap().any(|entry| {
            let path = entry.unwrap().path();
            path.to_string_lossy().contains("/.countersign-")
                && path.join("countersign.db").exists()
        })
    };
    while !begun() {
        thread::sleep(std::time::Duration::from_millis(5));
    }
    fs::write(&root, after).unwrap();
    assert_eq!(taking.wait_with_output().unwrap().status.code(), Some(0));
    let restored = run(["restore", backup.to_str().unwrap(), "--dir", back.to_str().unwrap()]);
    assert_eq!(verdict(&restored), (0, String::new()));
    let restored = String::from_utf8(restored.stdout).unwrap();
    assert!(restored.contains("whole: log-2, 1 entries"), "{restored}");
}

#[test]
fn what_an_order_left_that_failed_is_in_no_backup_and_in_the_way_of_no_other_order() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("dev");
    let mut dev = Dev::start(&dir);
    dev.kill();
    // Made and never listed, for another host; what has its key signed one checkpoint.
    let left_over = |dir: &Path| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let (_, key) =
                der::pem::decode_vec(&fs::read(dir.join("keys/log.pem")).unwrap()).unwrap();
            let signer = Signer::ed25519("elsewhere.test", &key).unwrap();
            let database = Sqlite::open(&dir.join("countersign.db")).await.unwrap();
            let lock = Arc::new(database.lock("log-2").await.unwrap());
            let store = Arc::new(Files::open(dir.join("log-2")).unwrap());
            let log = Log::open(Options::new(Format::Entries), signer, store, lock).await.unwrap();
            log.append(Candidate::entry(b"first").unwrap()).await.unwrap();
            log.close().await;
            database.close().await;
        });
    };
    left_over(&dir);
    let (backup, back) = (folder.path().join("backup"), folder.path().join("back"));
    let restore = || {
        let _ = fs::remove_dir_all(&back); // the first time there is none
        let args = ["restore", backup.to_str().unwrap(), "--dir", back.to_str().unwrap()];
        assert_eq!(verdict(&run(args)), (0, String::new()));
    };
    // A key that lies elsewhere is in it as well, or there is none.
    let (key, elsewhere) = (dir.join("keys/log-v1.pem"), folder.path().join("elsewhere.pem"));
    std::os::unix::fs::symlink(&elsewhere, key.with_extension("link")).unwrap();
    fs::rename(&key, &elsewhere).unwrap();
    let unclear = order(&dev, &["backup"], &[backup.to_str().unwrap()]);
    fs::rename(key.with_extension("link"), &key).unwrap();
    assert_fails(&unclear, 2, "keys/log-v1.pem is not in");
    let away = elsewhere.with_extension("away");
    fs::rename(&elsewhere, &away).unwrap();
    assert_fails(&order(&dev, &["backup"], &[backup.to_str().unwrap()]), 2, "keys/log-v1.pem: No");
    fs::rename(&away, &elsewhere).unwrap();
    done(&order(&dev, &["backup"], &[backup.to_str().unwrap(), "--output", "json"]));
    let copied = backup.join("keys/log-v1.pem");
    assert_eq!(fs::read(&copied).unwrap(), fs::read(&elsewhere).unwrap());
    assert!(!copied.is_symlink());
    assert!(!backup.join("log-2").exists());
    for host in ["LocalHost", "bad host/x", "log.test:1"] {
        let args = ["restore", backup.to_str().unwrap(), "--dir", back.to_str().unwrap()];
        let refused = run(args.into_iter().chain(["--host", host]));
        assert_fails(&refused, 1, "is no host name");
        assert!(!back.exists(), "nothing was written");
    }
    restore();
    start_anywhere(&back).kill();
    // One of an older version had the row.
    restore();
    left_over(&back);
    let mut again = start_anywhere(&back);
    assert_eq!(again.request("GET /shards/2/api/v2/checkpoint", "", "").0, 200);
    again.kill();

    let dev = Dev::start(&dir);
    let begun = done(&order(&dev, &["log", "rotate"], &["--output", "json"]));
    assert_eq!((&begun["shard"], &begun["entries"]), (&2.into(), &1.into()));
    let long = format!("{}.test", "w".repeat(64));
    for (host, says) in [(&*long, "leads nowhere from here"), ("W.test", "is no host name")] {
        assert_fails(&order(&dev, &["log", "rotate"], &["--host", host]), 1, says);
    }
    assert!(!dir.join("keys/log-3.pem").exists(), "nothing was made");
}

/// Starts an instance that comes from elsewhere on a port of its own.
fn start_anywhere(dir: &Path) -> Dev {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.args(["dev", "--listen", "127.0.0.1:0", "--dir"]).arg(dir);
    Dev::spawn(clean(&mut command), dir)
}

#[test]
fn a_damaged_backup_and_an_old_log_under_a_newer_lock_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("dev");
    let mut dev = Dev::start(&dir);
    for number in 0..3_u8 {
        submit(&dev, &entry_request(&[number]));
    }
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    done(&order(&dev, &["backup"], &[first.to_str().unwrap(), "--output", "json"]));
    submit(&dev, &entry_request(b"more"));
    done(&order(&dev, &["backup"], &[second.to_str().unwrap(), "--output", "json"]));
    dev.kill();

    let tile = second.join("log/tile/0/000.part");
    let mut bytes = fs::read(&tile).unwrap();
    bytes[0] ^= 1;
    fs::write(&tile, bytes).unwrap();
    let back = folder.path().join("back");
    let refused = run(["restore", second.to_str().unwrap(), "--dir", back.to_str().unwrap()]);
    assert_fails(&refused, 1, "log: ");
    assert!(!back.exists());

    // The tiles of the first backup under the database as it is now: the lock knows of more.
    fs::remove_dir_all(dir.join("log")).unwrap();
    let copied = Command::new("cp").arg("-r").arg(first.join("log")).arg(&dir).status().unwrap();
    assert!(copied.success());
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    let command = clean(command.args(["dev", "--dir"]).arg(&dir)).stdout(Stdio::null());
    assert_fails(&command.output().unwrap(), 2, "does not open");
}
