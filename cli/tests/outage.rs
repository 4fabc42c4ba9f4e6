//! The log goes away in the middle of many signing jobs: none is lost, none is doubled.

mod common;

use common::{Dev, assert_fails, clean, run, verdict};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What stands between the clients and the log does with a connection.
const FORWARD: u8 = 0;
/// Forwards the request, and drops the answer: the worst moment to fail.
const SWALLOW: u8 = 1;
/// Hangs up.
const GONE: u8 = 2;
/// Answers as an overloaded front end does.
const BUSY: u8 = 3;

struct Front {
    url: String,
    mode: Arc<AtomicU8>,
    swallowed: Arc<AtomicUsize>,
}

impl Front {
    fn before(dev: &Dev) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (mode, swallowed) = (Arc::new(AtomicU8::new(FORWARD)), Arc::new(AtomicUsize::new(0)));
        let log = dev.url.strip_prefix("http://").unwrap().to_owned();
        let (now, count) = (Arc::clone(&mode), Arc::clone(&swallowed));
        thread::spawn(move || {
            for client in listener.incoming() {
                let (log, now, count) = (log.clone(), now.load(Ordering::SeqCst), count.clone());
                thread::spawn(move || serve(client.unwrap(), &log, now, &count));
            }
        });
        Self { url, mode, swallowed }
    }

    fn set(&self, mode: u8) {
        self.mode.store(mode, Ordering::SeqCst);
    }
}

/// A connection that breaks is what this test is about, so errors are not looked at.
fn serve(mut client: TcpStream, log: &str, mode: u8, swallowed: &AtomicUsize) {
    let mut bytes = [0; 1 << 14];
    match mode {
        GONE => {}
        BUSY => {
            let _ = client.read(&mut bytes);
            let _ = client.write_all(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 4\r\n\r\nbusy");
        }
        _ => {
            let mut up = TcpStream::connect(log).unwrap();
            let (mut requests, mut forward) =
                (client.try_clone().unwrap(), up.try_clone().unwrap());
            thread::spawn(move || {
                let _ = std::io::copy(&mut requests, &mut forward);
                let _ = forward.shutdown(Shutdown::Write);
            });
            if mode == FORWARD {
                let _ = std::io::copy(&mut up, &mut client);
            } else if up.read(&mut bytes).is_ok() {
                swallowed.fetch_add(1, Ordering::SeqCst);
            }
            let _ = client.shutdown(Shutdown::Both);
        }
    }
}

struct Jobs {
    dir: PathBuf,
    signing: PathBuf,
    token: String,
}

impl Jobs {
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        clean(command.current_dir(&self.dir).arg(name))
            .args(["--trusted-root", "dev/trust/trusted_root.json", "--signing-config"])
            .arg(&self.signing);
        command
    }

    fn sign(&self, file: usize, flags: &'static [&str]) -> JoinHandle<Output> {
        let name = file.to_string();
        std::fs::write(self.dir.join(&name), &name).unwrap();
        let mut command = self.command("sign-blob");
        command.args(["--identity-token", &self.token, "--output", "json"]).args(flags).arg(&name);
        thread::spawn(move || command.output().unwrap())
    }

    fn submit(&self, bundles: &[String]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        clean(command.current_dir(&self.dir).args(["log", "submit"]))
            .args(["--trusted-root", "dev/trust/trusted_root.json", "--signing-config"])
            .arg(&self.signing)
            .args(["--timeout", "2s"])
            .args(bundles);
        command.output().unwrap()
    }
}

/// Whether a finished job left its logging for later.
fn deferred(output: &Output) -> bool {
    assert_eq!(output.status.code(), Some(0), "{}", verdict(output).1);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let result = &report["results"][0];
    assert_eq!(result["verdict"], "accepted");
    assert_eq!(result["deferred"].is_string(), result["entries"].as_array().unwrap().is_empty());
    result["deferred"].is_string()
}

fn start(folder: &Path) -> (Dev, Front, Jobs) {
    let dev = Dev::start(&folder.join("dev"));
    let front = Front::before(&dev);
    let mut signing: Value = serde_json::from_slice(
        &std::fs::read(folder.join("dev/trust/signing_config.json")).unwrap(),
    )
    .unwrap();
    let logs = signing["rekorTlogUrls"].as_array_mut().unwrap();
    logs.retain(|log| log["majorApiVersion"] == 2);
    logs[0]["url"] = front.url.as_str().into();
    let path = folder.join("signing.json");
    std::fs::write(&path, signing.to_string()).unwrap();
    let token = dev.token("you@example.com");
    (dev, front, Jobs { dir: folder.to_owned(), signing: path, token })
}

#[test]
fn an_outage_of_the_log_loses_and_doubles_no_signature() {
    const PATIENT: &[&str] = &["--timeout", "5m"];
    const DEFERRING: &[&str] = &["--timeout", "3s", "--defer"];
    let folder = tempfile::tempdir().unwrap();
    let (dev, front, jobs) = start(folder.path());
    let before = dev.size();

    let early: Vec<_> = (0..5).map(|file| jobs.sign(file, DEFERRING)).collect();
    for job in early {
        assert!(!deferred(&job.join().unwrap()), "the log is there");
    }
    front.set(SWALLOW);
    let mut patient: Vec<_> = (5..10).map(|file| jobs.sign(file, PATIENT)).collect();
    let mut hasty: Vec<_> = (10..15).map(|file| jobs.sign(file, DEFERRING)).collect();
    while front.swallowed.load(Ordering::SeqCst) < 5 {
        thread::sleep(Duration::from_millis(5));
    }
    front.set(GONE);
    patient.extend((15..20).map(|file| jobs.sign(file, PATIENT)));
    hasty.extend((20..25).map(|file| jobs.sign(file, DEFERRING)));
    thread::sleep(Duration::from_secs(1));
    front.set(BUSY);
    let late: Vec<bool> = hasty.into_iter().map(|job| deferred(&job.join().unwrap())).collect();
    assert_eq!(late, [true; 10], "nobody got an answer");

    let bundle = |file: usize| format!("{file}.sigstore.json");
    let hasty: Vec<String> = (10..15).chain(20..25).map(bundle).collect();
    let output = jobs.submit(&hasty[..1]);
    assert_fails(&output, 2, "the bundle is as it was");
    let refused =
        dev.verify(&folder.path().join("10"), &folder.path().join(&hasty[0]), "you@example.com");
    assert_fails(&refused, 1, "expected a log entry, found none");
    assert_fails(
        &refused,
        1,
        &format!("countersign log submit {}", folder.path().join(&hasty[0]).display()),
    );

    front.set(FORWARD);
    for job in patient {
        assert!(!deferred(&job.join().unwrap()), "the budget outlasts the outage");
    }
    assert_eq!(verdict(&jobs.submit(&hasty)).0, 0);
    let complete = std::fs::read(folder.path().join(&hasty[0])).unwrap();
    assert_eq!(verdict(&jobs.submit(&hasty[..1])).0, 0, "once more does no harm");
    assert_eq!(std::fs::read(folder.path().join(&hasty[0])).unwrap(), complete);

    let mut indices = BTreeSet::new();
    for file in 0..25 {
        let path = folder.path().join(bundle(file));
        let verified = dev.verify(&folder.path().join(file.to_string()), &path, "you@example.com");
        assert_eq!(verdict(&verified), (0, String::new()));
        let json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let index = &json["verificationMaterial"]["tlogEntries"][0]["logIndex"];
        assert!(indices.insert(index.as_str().unwrap().to_owned()), "two jobs at {index}");
    }
    assert_eq!(dev.size(), before + 25);
}

#[test]
fn what_does_not_hold_is_not_logged_later_either() {
    let folder = tempfile::tempdir().unwrap();
    let (dev, front, jobs) = start(folder.path());
    front.set(GONE);
    assert!(deferred(&jobs.sign(0, &["--timeout", "1s", "--defer"]).join().unwrap()));
    front.set(FORWARD);
    let path = folder.path().join("0.sigstore.json");
    let whole: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let before = dev.size();
    let mut forged = whole.clone();
    let digest = base64_of_32_zero_bytes();
    forged["messageSignature"]["messageDigest"]["digest"] = digest.into();
    let mut timeless = whole.clone();
    timeless["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"] =
        Value::Array(Vec::new());
    for (bundle, reason) in
        [(forged, "signature"), (timeless, "expected a timestamp of the signature")]
    {
        std::fs::write(&path, bundle.to_string()).unwrap();
        assert_fails(&jobs.submit(&["0.sigstore.json".to_owned()]), 1, reason);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), bundle.to_string());
    }
    assert_eq!(dev.size(), before);

    // Without a timestamp nothing would keep the time of signing, so nothing is begun.
    let mut signing: Value =
        serde_json::from_slice(&std::fs::read(&jobs.signing).unwrap()).unwrap();
    let log = &mut signing["rekorTlogUrls"][0];
    log["majorApiVersion"] = 1.into();
    std::fs::write(&jobs.signing, signing.to_string()).unwrap();
    let refused = jobs.sign(1, &["--defer"]).join().unwrap();
    assert_fails(&refused, 2, "logging cannot be deferred with these services");
    std::fs::write(&path, whole.to_string()).unwrap();
    assert_fails(&jobs.submit(&["0.sigstore.json".to_owned()]), 1, "expected a Rekor v2 log");
    assert_eq!(dev.size(), before);
    assert!(run(["log", "submit"]).status.code() == Some(2), "a bundle must be named");
}

fn base64_of_32_zero_bytes() -> String {
    format!("{}=", "A".repeat(43))
}
