//! `log monitor`: what it finds, how it is told, and what it says when the log lies or is away.

mod common;

use common::{Dev, assert_fails, run, verdict};
use countersign_log::store::{CheckpointLock, Files, Sqlite};
use countersign_log::{Candidate, Format, Log, Options, Signer};
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, mpsc};
use tempfile::TempDir;

const EMAIL: &str = "you@example.com";

struct Case {
    folder: TempDir,
    dev: Dev,
    files: usize,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dev = Dev::start(&folder.path().join("dev"));
        Self { folder, dev, files: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Signs a new file.
    fn sign(&mut self, email: &str) -> PathBuf {
        self.files += 1;
        let file = self.path(&format!("file-{}", self.files));
        fs::write(&file, format!("{email} {}", self.files)).unwrap();
        assert_eq!(verdict(&self.dev.sign(&file, email)).0, 0);
        file
    }

    /// One look, with these flags more.
    fn look(&self, flags: &[&str]) -> Output {
        let (config, state) = (self.dev.config(), self.path("state"));
        let (config, state) = (config.to_str().unwrap(), state.to_str().unwrap());
        let base = ["log", "monitor", "--once", "--output", "json"];
        run([&base[..], &["--trust-config", config, "--state", state], flags].concat())
    }

    /// One look that finds the log consistent; what is told.
    fn consistent(&self, flags: &[&str]) -> Vec<Value> {
        let output = self.look(flags);
        assert_eq!(verdict(&output), (0, String::new()), "{output:?}");
        events(&output)
    }

    fn state(&self) -> String {
        fs::read_to_string(self.path("state")).unwrap()
    }

    fn evidence(&self) -> Value {
        let json = fs::read(self.path("state.evidence-1.json")).unwrap();
        serde_json::from_slice(&json).unwrap()
    }

    /// The instance's directory, while it stands still, under another name.
    fn copy(&mut self, name: &str) {
        assert!(self.dev.terminate());
        self.copy_from("dev", name);
        self.dev = Dev::start(&self.dev.dir.clone());
    }

    fn copy_from(&self, from: &str, to: &str) {
        let (from, to) = (self.path(from), self.path(to));
        let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
        assert!(copied.success());
    }
}

fn events(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn new_entries_are_looked_at_once_and_what_is_watched_for_is_told() {
    let mut case = Case::new();
    let file = case.sign(EMAIL);
    case.sign("other@example.org");
    let bundle: Value =
        serde_json::from_slice(&fs::read(file.with_extension("sigstore.json")).unwrap()).unwrap();
    let digest = &bundle["messageSignature"]["messageDigest"]["digest"];
    let digest = base64_to_hex(digest.as_str().unwrap());
    let flags = ["--identity", EMAIL, "--identity-glob", "*@example.???"];
    let prefixed = format!("sha256:{digest}");
    let flags = [&flags[..], &["--digest", &prefixed]].concat();
    let found = case.consistent(&flags);
    let [first, second, checked] = &found[..] else { panic!("{found:?}") };
    assert_eq!((&first["event"], &first["index"]), (&"match".into(), &1.into()));
    assert_eq!(first["identities"][0], EMAIL);
    assert_eq!(first["issuers"][0], case.dev.url);
    let by: Vec<_> = first["matched"].as_array().unwrap().iter().collect();
    let digest = format!("digest {digest}");
    assert_eq!(by, [&*format!("identity {EMAIL}"), "identity *@example.???", &digest]);
    assert_eq!((&second["index"], &second["matched"][0]), (&2.into(), &by[1].clone()));
    assert_eq!((&checked["event"], &checked["entries"]), (&"checked".into(), &3.into()));
    // Nothing new: nothing told, and the state is as it was.
    let before = case.state();
    let again = case.consistent(&flags);
    assert_eq!((again.len(), &again[0]["from"], &again[0]["entries"]), (1, &3.into(), &0.into()));
    assert_eq!(case.state(), before);
    case.sign(EMAIL);
    let later = case.consistent(&flags);
    assert_eq!((later.len(), &later[0]["index"]), (2, &3.into()));
    for (flags, says) in [
        (&["--identity-glob", "a[b"][..], "--identity-glob a[b"),
        (&["--digest", "sha256:00"], "expected sha256:HEX"),
        (&["--digest", "md5:00"], "expected sha256:HEX"),
    ] {
        assert_fails(&case.look(flags), 2, says);
    }
}

fn base64_to_hex(text: &str) -> String {
    let bytes = countersign_verify::encoding::from_base64(text).unwrap();
    countersign_verify::encoding::hex(&bytes)
}

#[test]
fn a_log_that_is_away_is_not_a_log_that_lies() {
    let mut case = Case::new();
    case.consistent(&[]);
    let before = case.state();
    case.dev.kill();
    let output = case.look(&[]);
    assert_fails(&output, 2, "could not reach");
    assert!(output.stdout.is_empty());
    assert_eq!(case.state(), before);
    assert!(!case.path("state.evidence-1.json").exists());
    fs::write(case.path("state"), before.replace("\"read\": 1", "\"read\": 3")).unwrap();
    assert_fails(&case.look(&[]), 2, "do not fit together");
}

#[test]
fn a_rewritten_entry_is_a_lie() {
    let mut case = Case::new();
    case.consistent(&[]);
    let before = case.state();
    case.sign(EMAIL);
    let bundle = case.dev.dir.join("log/tile/entries/000.part");
    let mut bytes = fs::read(&bundle).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&bundle, bytes).unwrap();
    let output = case.look(&["--identity", EMAIL]);
    assert_fails(&output, 1, "lied");
    let told = events(&output);
    assert_eq!(
        (told.len(), &told[0]["event"]),
        (1, &"alarm".into()),
        "what is not proven is not told"
    );
    let evidence = case.evidence();
    assert_eq!(evidence["shown"], told[0]["shown"]);
    let state: Value = serde_json::from_str(&before).unwrap();
    assert_eq!(evidence["seen"], state["shards"][0]["checkpoint"]);
    assert_eq!(case.state(), before);
}

#[test]
fn a_tree_put_back_and_a_fork_are_lies_with_both_checkpoints_as_evidence() {
    let mut case = Case::new();
    case.sign(EMAIL);
    case.copy("old");
    case.sign(EMAIL);
    case.sign(EMAIL);
    case.consistent(&[]);
    let before = case.state();
    case.dev.kill();
    fs::rename(case.path("dev"), case.path("true")).unwrap();
    case.copy_from("old", "dev");
    case.dev = Dev::start(&case.path("dev"));
    assert_fails(&case.look(&[]), 1, "it shows a tree of 2 entries, after one of 4");
    let key = fs::read_to_string(case.path("dev/trust/trusted_root.json")).unwrap();
    for (more, says) in [(2, "it signed two trees of 4 entries"), (1, "does not contain the one")] {
        for _ in 0..more {
            case.sign("fork@example.com");
        }
        assert_fails(&case.look(&[]), 1, says);
    }
    let evidence = case.evidence();
    let state: Value = serde_json::from_str(&before).unwrap();
    assert_eq!(evidence["seen"], state["shards"][0]["checkpoint"]);
    assert!(evidence["shown"].as_str().unwrap().contains("\n2\n"));
    assert!(key.contains(evidence["logKey"].as_str().unwrap()), "the evidence names the key");
    assert!(case.path("state.evidence-3.json").exists(), "one file a lie");
    assert_eq!(case.state(), before, "what was seen is never written over");
}

#[test]
fn after_a_restore_the_alarm_stays_until_it_is_accepted_and_the_other_shards_are_followed() {
    let mut case = Case::new();
    let (dev, backup) = (case.path("dev"), case.path("backup"));
    let (dev, backup) = (dev.to_str().unwrap(), backup.to_str().unwrap());
    case.sign(EMAIL);
    assert_eq!(verdict(&run(["backup", backup, "--dir", dev])).0, 0);
    case.sign(EMAIL);
    case.sign(EMAIL);
    case.consistent(&[]);
    case.dev.kill();
    fs::remove_dir_all(dev).unwrap();
    assert_eq!(verdict(&run(["restore", backup, "--dir", dev])).0, 0);
    case.dev = Dev::start(&case.path("dev"));
    case.sign(EMAIL);
    let url = case.dev.url.clone();
    for (from, found) in [(0, 1), (2, 0)] {
        let output = case.look(&["--identity", EMAIL]);
        assert_fails(
            &output,
            1,
            &format!("{url} lied: it shows a tree of 2 entries, after one of 4"),
        );
        let told = events(&output);
        let checked = told.last().unwrap();
        assert_eq!(told[0]["event"], "alarm");
        assert_eq!(
            (&checked["log"], &checked["event"]),
            (&format!("{url}/shards/2").into(), &"checked".into())
        );
        assert_eq!((&checked["from"], &checked["matches"]), (&from.into(), &found.into()));
    }
    assert!(!case.path("state.evidence-2.json").exists(), "the same is in evidence already");
    assert_fails(&case.look(&["--accept-shorter", "https://other.test"]), 2, "there is no log");
    let accepted = case.consistent(&["--accept-shorter", &url]);
    assert_eq!((&accepted[0]["from"], &accepted[0]["size"]), (&0.into(), &2.into()));
    case.consistent(&[]);
    assert!(case.path("state.evidence-1.json").exists());
}

#[test]
fn an_entry_that_cannot_be_read_is_told_and_stops_nothing() {
    let mut case = Case::new();
    case.consistent(&[]);
    assert!(case.dev.terminate());
    append(&case.dev.dir, b"no JSON");
    case.dev = Dev::start(&case.dev.dir.clone());
    case.sign(EMAIL);
    let told = case.consistent(&["--identity", EMAIL]);
    let [unreadable, found, checked] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&unreadable["event"], &unreadable["index"]), (&"unreadable".into(), &1.into()));
    assert_eq!((&found["event"], &found["index"]), (&"match".into(), &2.into()));
    assert_eq!((&checked["matches"], &checked["unreadable"]), (&1.into(), &1.into()));
}

/// Appends past the faces, which would not take it.
fn append(dir: &Path, body: &[u8]) {
    let settings: Value =
        serde_json::from_slice(&fs::read(dir.join("instance.json")).unwrap()).unwrap();
    let pem = fs::read(dir.join("keys/log.pem")).unwrap();
    let (_, der) = der::pem::decode_vec(&pem).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let signer = Signer::ed25519(settings["log_origin"].as_str().unwrap(), &der).unwrap();
        let database = Sqlite::open(&dir.join("countersign.db")).await.unwrap();
        let lock: Arc<dyn CheckpointLock> = Arc::new(database.lock("log").await.unwrap());
        let store = Arc::new(Files::open(dir.join("log")).unwrap());
        let log = Log::open(Options::new(Format::Entries), signer, store, lock).await.unwrap();
        log.append(Candidate::entry(body).unwrap()).await.unwrap();
        log.close().await;
        database.close().await;
    });
}

#[test]
fn what_a_webhook_does_not_take_is_told_again() {
    let mut case = Case::new();
    case.sign(EMAIL);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/secret", listener.local_addr().unwrap());
    let (sender, bodies) = mpsc::channel();
    std::thread::spawn(move || {
        for status in ["403 Forbidden", "204 No Content"] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let line = line.to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            sender.send(body).unwrap();
            let reply =
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(reply.as_bytes()).unwrap();
        }
    });
    let flags = ["--identity", EMAIL, "--webhook", &url];
    let refused = case.look(&flags);
    assert_fails(&refused, 2, "does not take what was found");
    assert!(!verdict(&refused).1.contains("secret"), "a webhook's URL is often its secret");
    let told = case.consistent(&flags);
    assert_eq!(told.len(), 2, "{told:?}");
    for body in [bodies.recv().unwrap(), bodies.recv().unwrap()] {
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&body["schema"], &body["log"]),
            (&"countersign.monitor/1".into(), &case.dev.url.clone().into())
        );
        assert_eq!(
            (&body["events"][0]["event"], &body["events"][0]["index"]),
            (&"match".into(), &1.into())
        );
    }
}

#[test]
fn the_log_that_speaks_rekor_v1_is_followed_as_well() {
    let mut case = Case::new();
    let sign = older_signer(&case);
    (0..11).for_each(&sign);
    let told = case.consistent(&["--rekor-v1", "--identity", EMAIL]);
    assert_eq!((told.len(), &told[11]["size"], &told[11]["matches"]), (12, &12.into(), &11.into()));
    sign(11);
    let told = case.consistent(&["--rekor-v1", "--identity", EMAIL]);
    assert_eq!((told.len(), &told[0]["index"], &told[1]["from"]), (2, &12.into(), &12.into()));
    assert_fails(&case.look(&[]), 2, "it is of another log");
    // An older state of it is put back.
    case.copy("old");
    let sign = older_signer(&case);
    sign(12);
    case.consistent(&["--rekor-v1"]);
    case.dev.kill();
    fs::remove_dir_all(case.path("dev")).unwrap();
    case.copy_from("old", "dev");
    case.dev = Dev::start(&case.path("dev"));
    let says = "it shows a tree of 13 entries, after one of 14";
    assert_fails(&case.look(&["--rekor-v1"]), 1, says);
}

#[test]
fn a_log_is_followed_into_its_next_shard_and_the_old_one_is_watched_on() {
    let mut case = Case::new();
    let sign = older_signer(&case);
    for (log, flags) in
        [("log", &["--identity", EMAIL][..]), ("log-v1", &["--identity", EMAIL, "--rekor-v1"])]
    {
        match log {
            "log" => drop(case.sign(EMAIL)),
            _ => sign(1),
        }
        let dir = case.path("dev");
        let rotated = run(["log", "rotate", "--dir", dir.to_str().unwrap(), "--log", log]);
        assert_eq!(verdict(&rotated).0, 0, "{rotated:?}");
        let _ = fs::remove_file(case.path("state"));
        let seen = |told: &[Value]| -> Vec<(String, u64)> {
            let each = told.iter().map(|event| {
                let number = &event[if event["event"] == "match" { "index" } else { "entries" }];
                (event["event"].as_str().unwrap().to_owned(), number.as_u64().unwrap())
            });
            each.collect()
        };
        let expected = |seen: Vec<(String, u64)>, expected: &[(&str, u64)]| {
            let expected: Vec<_> = expected.iter().map(|(it, n)| ((*it).to_owned(), *n)).collect();
            assert_eq!(seen, expected, "{log}");
        };
        let told = seen(&case.consistent(flags));
        expected(told, &[("match", 1), ("checked", 2), ("checked", 1)]);
        match log {
            "log" => drop(case.sign(EMAIL)),
            _ => sign(2),
        }
        let told = seen(&case.consistent(flags));
        expected(told, &[("checked", 0), ("match", 1), ("checked", 1)]);
        let state: Value = serde_json::from_str(&case.state()).unwrap();
        let sizes = state["shards"].as_array().unwrap().iter().map(|shard| shard["read"].clone());
        assert_eq!(sizes.collect::<Vec<_>>(), [2, 2], "{log}");
    }
}

#[test]
fn the_log_that_speaks_rekor_v1_is_read_by_its_tiles_as_well() {
    let case = Case::new();
    let sign = older_signer(&case);
    (0..3).for_each(sign);
    let config = case.dev.config();
    let evidence = case.path("evidence");
    let evidence = evidence.to_str().unwrap();
    for (args, says) in [
        (&["get", "1", "--rekor-v1"][..], r#""kind":"hashedrekord""#),
        (&["prove", "1", "--rekor-v1"], "c2sp.org/tlog-proof@v1\nindex 1\n"),
        (&["consistency", "--from", "2", "--rekor-v1"], "is the beginning of that of 4 "),
        (&["info", "--rekor-v1"], "size 4"),
        (&["fsck", "--rekor-v1"], "4 entries"),
        (&["export", "--from", "1", "--rekor-v1", evidence], "exported 3 entries"),
        (&["verify-export", evidence], "from 1 to before 4"),
    ] {
        let trust = ["--trust-config", config.to_str().unwrap()];
        let output = run([&["log"], args, &trust].concat());
        assert_eq!(verdict(&output).0, 0, "{args:?}: {output:?}");
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(shown.contains(says), "{args:?}: {says:?} in {shown}");
    }
}

/// Signs file after file with the log that speaks Rekor v1.
fn older_signer(case: &Case) -> impl Fn(usize) + use<> {
    let signing = fs::read(case.dev.dir.join("trust/signing_config.json")).unwrap();
    let mut signing: Value = serde_json::from_slice(&signing).unwrap();
    let logs = signing["rekorTlogUrls"].as_array_mut().unwrap();
    logs.retain(|log| log["majorApiVersion"] == 1);
    let config = case.path("signing.json");
    fs::write(&config, signing.to_string()).unwrap();
    let root = case.dev.dir.join("trust/trusted_root.json");
    let (token, folder) = (case.dev.token(EMAIL), case.folder.path().to_owned());
    move |number| {
        let file = folder.join(format!("older-{number}"));
        fs::write(&file, number.to_string()).unwrap();
        let output = run([
            "sign-blob",
            "--trusted-root",
            root.to_str().unwrap(),
            "--signing-config",
            config.to_str().unwrap(),
            "--identity-token",
            &token,
            file.to_str().unwrap(),
        ]);
        assert_eq!(verdict(&output).0, 0, "{output:?}");
    }
}
