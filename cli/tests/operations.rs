//! What operators see of a running instance: metrics, its log, request IDs; and how it stops.

mod common;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use common::{Dev, assert_fails, clean, entry_request, run, verdict};
use countersign_log::Format;
use countersign_log::record::{Certified, certified};
use countersign_log::store::{CheckpointLock as _, Sqlite};
use countersign_testkit::SigningKey;
use countersign_verify::certificate::Certificate;
use countersign_verify::encoding::{base64, from_base64, hex};
use countersign_verify::key::{HashAlgorithm, KeyDetails};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// The value of a series in Prometheus's text.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
}

#[test]
fn metrics_say_what_was_done() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(folder.path());
    let file = folder.path().join("file");
    std::fs::write(&file, "file").unwrap();
    assert!(dev.sign(&file, "you@example.com").status.success());
    assert_eq!(dev.request("POST /api/v2/signingCert", "", "{}").0, 400);
    assert_eq!(dev.request("GET /api/v2/tile/0/000.p/2", "", "").0, 200);
    let (status, text) = dev.request("GET /metrics", "", "");
    assert_eq!(status, 200);
    assert_eq!(value(&text, "countersign_log_batches_failed_total{log=\"127.0.0.1\"}"), 0.0);
    let (log, shard) = ("{log=\"127.0.0.1\"}", "{log=\"127.0.0.1\",shard=\"1\"}");
    for (series, expected) in [
        (format!("countersign_log_entries{shard}"), 2.0),
        (format!("countersign_log_waiting{shard}"), 0.0),
        (format!("countersign_log_halted{shard}"), 0.0),
        (format!("countersign_log_batch_entries_count{log}"), 1.0),
        (format!("countersign_log_commit_seconds_count{log}"), 1.0),
        ("countersign_certificates_issued_total".to_owned(), 1.0),
        ("countersign_timestamps_total".to_owned(), 1.0),
        (
            "countersign_http_requests_total{method=\"GET\",route=\"/api/v2/tile/{*path}\",status=\"200\"}"
                .to_owned(),
            1.0,
        ),
    ] {
        assert_eq!(value(&text, &series), expected, "{series}");
    }
    // The index is behind by as many as it lacks.
    let [indexed, lag] = ["entries", "lag_entries"]
        .map(|name| value(&text, &format!("countersign_index_{name}{shard}")));
    assert_eq!(indexed + lag, 2.0);
    for certificate in ["issuing", "root", "timestamps"] {
        let series = format!("countersign_expiry_days{{certificate=\"{certificate}\"}}");
        assert!(value(&text, &series) > 30.0, "{series}");
    }
}

#[test]
fn a_failure_is_one_json_line_with_the_id_that_the_client_got() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.args(["dev", "--listen", "127.0.0.1:0", "--log-format", "json", "--dir"]);
    clean(command.arg(folder.path())).env("COUNTERSIGN_LOG", "info").stderr(Stdio::piped());
    let mut dev = Dev::spawn(&mut command, folder.path());
    for (path, place) in [
        ("/api/v2/log/entries", "/details/0/request_id"),
        ("/ct/v1/add-chain", "/details/0/request_id"),
        ("/api/v2/signingCert", "/details/0/request_id"),
        ("/api/v1/timestamp", "/details/0/request_id"),
        ("/api/v1/log/entries", "/request_id"),
    ] {
        let headers = "x-request-id: my-own-7\r\nContent-Type: application/json\r\n";
        let (head, body) = dev.exchange(&format!("POST {path}"), headers, "{}");
        assert!(head.contains("\r\nx-request-id: my-own-7\r\n"), "{head}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body.pointer(place), Some(&"my-own-7".into()), "{path}: {body}");
    }
    let (head, _) = dev.exchange("GET /healthz", "", "");
    assert!(head.contains("\r\nx-request-id: "), "a request without an ID gets one: {head}");
    // The log halts, and only its own log says why.
    common::settled(folder.path(), "log", 1);
    std::fs::remove_dir_all(folder.path().join("log/tile")).unwrap();
    for staged in [".staged-0", ".staged-1"] {
        let _ = std::fs::remove_file(folder.path().join("log").join(staged)); // one may not be there yet
    }
    let id = "x-request-id: lost-1\r\n";
    let (head, _) = dev.exchange("POST /api/v2/log/entries", id, &entry_request(b"lost"));
    assert!(head.starts_with("HTTP/1.1 500"), "{head}");
    // Whoever asks for a certificate is not told to try again: it does not pass.
    let (key, token) =
        (SigningKey::generate(KeyDetails::EcdsaP256Sha256), dev.token("you@example.com"));
    for (log, size, reason) in [("ct", 1, "CERTIFICATE_LOG"), ("audit", 4, "AUDIT_LOG")] {
        common::settled(folder.path(), log, size);
        let log = folder.path().join(log);
        std::fs::remove_dir_all(log.join("tile")).unwrap();
        for staged in [".staged-0", ".staged-1"] {
            let _ = std::fs::remove_file(log.join(staged));
        }
        let (status, body) = dev.certify(&key, &token, Value::Null);
        assert_eq!(status, 500, "{body}");
        assert!(body.contains(reason) && !body.contains("tile"), "{body}");
    }
    let stderr = dev.child.stderr.take().unwrap();
    dev.kill();
    let lines = std::io::read_to_string(stderr).unwrap();
    let lines: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let mine = lines.iter().filter(|line| line["span"]["id"] == "lost-1");
    let mine: Vec<_> = mine.collect();
    assert!(mine.iter().any(|line| line["message"] == "the log is halted"), "{lines:#?}");
    let failed = mine.iter().find(|line| line["message"] == "failed").expect("one line a request");
    assert_eq!((&failed["status"], &failed["level"]), (&500.into(), &"WARN".into()));
    assert_eq!(failed["span"]["path"], "/api/v2/log/entries");
}

#[test]
fn an_instance_whose_log_cannot_write_is_not_ready_until_it_can_again() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(folder.path());
    let until_ready = |ready: bool| {
        loop {
            let (status, body) = dev.request("GET /readyz", "", "");
            if (status == 200) == ready {
                return body;
            }
            thread::sleep(std::time::Duration::from_millis(100)); // an answer holds for a second
        }
    };
    let submit =
        |message: &[u8]| dev.request("POST /api/v2/log/entries", "", &entry_request(message)).0;
    common::settled(folder.path(), "log", 1);
    let tiles = folder.path().join("log/tile");
    fs::rename(&tiles, folder.path().join("away")).unwrap();
    fs::write(&tiles, "no folder").unwrap();
    assert!(submit(b"lost") >= 500);
    let reason = until_ready(false);
    assert!(reason.contains("could not write its last batch: "), "{reason}");
    fs::remove_file(&tiles).unwrap();
    fs::rename(folder.path().join("away"), &tiles).unwrap();
    assert_eq!(submit(b"found"), 201);
    until_ready(true);
}

#[test]
fn a_server_that_stops_finishes_what_it_took_and_publishes_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(folder.path());
    let (stop, taken) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let id = dev.child.id().to_string();
    thread::scope(|scope| {
        for writer in 0..16 {
            let (dev, stop, taken) = (&dev, &stop, &taken);
            scope.spawn(move || {
                for number in 0.. {
                    let request = entry_request(format!("{writer} {number}").as_bytes());
                    // Refused connections are what a stopped server is; an answer is an answer.
                    let Some((status, body)) =
                        dev.try_request("POST /api/v2/log/entries", "", &request)
                    else {
                        assert!(stop.load(Ordering::SeqCst), "the server is there");
                        return;
                    };
                    assert_eq!(status, 201, "{body}");
                    taken.lock().unwrap().push((request, body));
                }
            });
        }
        while taken.lock().unwrap().len() < 50 {
            thread::yield_now();
        }
        stop.store(true, Ordering::SeqCst);
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    });
    assert!(dev.child.wait().unwrap().success());
    let checked = common::run(["log", "fsck", "--dir", folder.path().to_str().unwrap()]);
    assert_eq!(common::verdict(&checked).0, 0);
    let taken = taken.into_inner().unwrap();
    let dev = Dev::start(folder.path());
    let size = dev.size();
    for (request, body) in &taken {
        let index = |body: &str| serde_json::from_str::<Value>(body).unwrap()["logIndex"].clone();
        let (status, repeat) = dev.request("POST /api/v2/log/entries", "", request);
        assert_eq!((status, index(&repeat)), (201, index(body)));
    }
    assert_eq!(dev.size(), size, "nothing of it is new");
}

fn verify(dir: &Path) -> Output {
    run([OsStr::new("audit"), "verify".as_ref(), "--dir".as_ref(), dir.as_ref()])
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to); // it may not be there
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// Flips a byte of a file while `check` looks, then mends it.
fn with_flipped(file: &Path, place: usize, check: impl FnOnce()) {
    let whole = fs::read(file).unwrap();
    let mut altered = whole.clone();
    altered[place] ^= 1;
    fs::write(file, altered).unwrap();
    check();
    fs::write(file, whole).unwrap();
}

#[test]
fn whoever_alters_the_record_or_the_certificate_log_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("dev");
    let mut dev = Dev::start(&dir);
    let sign = |dev: &Dev, name: &str| {
        let file = folder.path().join(name);
        fs::write(&file, name).unwrap();
        assert!(dev.sign(&file, "you@example.com").status.success());
    };
    sign(&dev, "one");
    for (log, size) in [("audit", 4), ("ct", 2)] {
        common::settled(&dir, log, size);
        copy(&dir.join(log), &folder.path().join(format!("old-{log}")));
    }
    let asked = r#"{"publicKeyRequest":{"publicKey":{"content":"k"},"proofOfPossession":"AA=="}}"#;
    let (status, _) = dev.request("POST /api/v2/signingCert", "Authorization: Bearer x\r\n", asked);
    assert_eq!(status, 400);
    sign(&dev, "two");
    assert_eq!(verdict(&run(["log", "rotate", "--dir", dir.to_str().unwrap()])).0, 0);
    let acts: Vec<_> =
        dev.record(&["--outcome", "act"]).iter().map(|entry| entry["act"].clone()).collect();
    assert_eq!(acts, ["begin", "start", "rotate"]);
    // What is searched for, by each criterion.
    let [begun, issued] = &dev.record(&["--identity", "you@example.com"])[2..] else {
        panic!("two certificates, two entries each")
    };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (serial, key) = (text(&issued["serial"]), text(&begun["key_sha256"]));
    let both = [begun.clone(), issued.clone()];
    assert_eq!(dev.record(&["--serial", &serial.to_uppercase()]), both);
    assert_eq!(dev.record(&["--key", &key]), both[..1]);
    let time = text(&begun["time"]);
    let later = dev.record(&["--since", &time, "--issuer", &dev.url]);
    assert_eq!(later, both);
    assert_eq!(dev.record(&["--until", &time, "--outcome", "issued"]).len(), 1);
    assert!(dev.record(&["--identity", "you@example.com", "--outcome", "refused"]).is_empty());
    assert_eq!(verdict(&verify(&dir)).0, 0, "beside the running server");
    // Killed before that, it leaves files that are behind, and of those nobody knows (below).
    for (log, size) in [("audit", 8), ("ct", 3)] {
        common::settled(&dir, log, size);
    }
    dev.kill();
    let told = String::from_utf8(verify(&dir).stdout).unwrap();
    assert!(told.contains("2 issued, each in the certificate log; 1 refused, 0 begun"), "{told}");

    for (log, bundle) in [("audit", "entries"), ("ct", "data")] {
        let bundle = format!("tile/{bundle}/000.part");
        for (file, place) in [(&bundle[..], 60), ("tile/0/000.part", 40), ("checkpoint", 3)] {
            let path = dir.join(log).join(file);
            with_flipped(&path, place, || assert_fails(&verify(&dir), 1, &format!("{log}: ")));
        }
    }
    // Each as it was after the first certificate, whole in itself; the other remembers.
    let forgotten = "no issuance on record has its serial number";
    let gone = "not entry 2 of the certificate log";
    for (log, expected) in [("audit", forgotten), ("ct", gone)] {
        let (here, new) = (dir.join(log), folder.path().join(format!("new-{log}")));
        let old = folder.path().join(format!("old-{log}"));
        let note = |folder: &Path| fs::read_to_string(folder.join("checkpoint")).unwrap();
        let (old_note, new_note) = (note(&old), note(&here));
        copy(&here, &new);
        copy(&old, &here);
        // Of files that are behind the database nobody knows, for a crash leaves such, too.
        assert_fails(&verify(&dir), 2, "entries, which are not all in the files");
        swap(&dir, log, &new_note, &old_note);
        assert_fails(&verify(&dir), 1, expected);
        assert_fails(&verify(&dir), 1, &serial);
        copy(&new, &here);
        assert_fails(&verify(&dir), 1, "the files have another");
        swap(&dir, log, &old_note, &new_note);
    }
    assert_eq!(verdict(&verify(&dir)), (0, String::new()));
    // The stored checkpoint is behind, as while an instance runs, and after a crash: all the rest is there.
    fs::copy(folder.path().join("old-audit/checkpoint"), dir.join("audit/checkpoint")).unwrap();
    let told = String::from_utf8(verify(&dir).stdout).unwrap();
    assert!(told.contains("2 issued, each in the certificate log; 1 refused, 0 begun"), "{told}");
}

/// Has the database know another checkpoint of a log.
fn swap(dir: &Path, log: &str, from: &str, to: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let database = Sqlite::open(&dir.join("countersign.db")).await.unwrap();
        let lock = database.lock(log).await.unwrap();
        lock.compare_and_swap(Some(from), to, 0, &[]).await.unwrap();
        database.close().await;
    });
}

/// A DER element.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => vec![short],
        _ => [&[0x82], &u16::try_from(content.len()).unwrap().to_be_bytes()[..]].concat(),
    };
    [&[tag], &length[..], content].concat()
}

/// The certificate with another end of its validity, signed anew by `key`: same serial number, name and key.
fn until_2049(der: &[u8], key: &EcdsaKeyPair) -> Vec<u8> {
    let mut tbs = Certificate::parse(der).unwrap().tbs().to_vec();
    let algorithm = &der[4 + tbs.len()..];
    let algorithm = &algorithm[..2 + usize::from(algorithm[1])];
    let is_time = |at: &[u8]| at[..2] == [0x17, 13] && at[2..14].iter().all(u8::is_ascii_digit);
    let end = tbs.windows(15).enumerate().filter(|(_, at)| is_time(at)).nth(1).unwrap().0;
    tbs[end + 2..end + 4].copy_from_slice(b"49");
    let signature = key.sign(&SystemRandom::new(), &tbs).unwrap();
    let signature = element(3, &[&[0], signature.as_ref()].concat());
    element(0x30, &[&tbs, algorithm, &signature].concat())
}

/// The order of P-256.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6,
    0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// The certificate with the other signature that anybody can make of its own: s becomes n - s.
fn mirrored(der: &[u8]) -> Vec<u8> {
    let tbs = Certificate::parse(der).unwrap().tbs().to_vec();
    let (algorithm, bits) = der[4 + tbs.len()..].split_at(2 + usize::from(der[5 + tbs.len()]));
    let (r, s) = bits[5..].split_at(2 + usize::from(bits[6]));
    let s: Vec<u8> = s[2..].iter().copied().skip_while(|byte| *byte == 0).collect();
    let s = [vec![0; 32 - s.len()], s].concat();
    let (mut other, mut borrow) = (ORDER.to_vec(), 0);
    for (byte, s) in other.iter_mut().zip(&s).rev() {
        let difference = i16::from(*byte) - i16::from(*s) - borrow;
        (*byte, borrow) = (difference.rem_euclid(256) as u8, i16::from(difference < 0));
    }
    let mut other: Vec<u8> = other.into_iter().skip_while(|byte| *byte == 0).collect();
    if other[0] >= 0x80 {
        other.insert(0, 0);
    }
    let signature = element(0x30, &[r, &element(2, &other)].concat());
    let bits = element(3, &[&[0], &signature[..]].concat());
    element(0x30, &[&tbs, algorithm, &bits].concat())
}

#[test]
fn what_the_issuing_key_signed_past_the_record_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("dev");
    let dev = Dev::start(&dir);
    let (_, bundle) = dev.request("GET /api/v2/trustBundle", "", "");
    let bundle: Value = serde_json::from_str(&bundle).unwrap();
    let issuing = der(bundle["chains"][0]["certificates"][0].as_str().unwrap());
    let pkcs8 = der(&fs::read_to_string(dir.join("keys/issuing.pem")).unwrap());
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8).unwrap();
    let token = dev.token("you@example.com");
    let subject = SigningKey::generate(KeyDetails::EcdsaP256Sha256);
    let (status, answer) = dev.certify(&subject, &token, Value::Null);
    assert_eq!(status, 200, "{answer}");
    let issued = der(&common::signing_certificate(&answer));
    common::settled(&dir, "ct", 2);
    let entries = fs::read(dir.join("ct/tile/data/000.part")).unwrap();
    let entries = Format::Data.records(&entries).unwrap();
    let Some(Certified::Precertificate(logged, _)) = certified(entries[1].bytes) else {
        panic!("an issuance logs its precertificate")
    };
    let twins = [until_2049(&issued, &key), until_2049(logged, &key)];
    let submit = |verb: &str, certificate: &[u8]| {
        let request = json!({ "chain": [base64(certificate), base64(&issuing)] });
        let (status, answer) =
            dev.request(&format!("POST /ct/v1/{verb}"), "", &request.to_string());
        assert_eq!(status, 200, "{answer}");
    };
    // What was issued may be logged by anybody.
    submit("add-chain", &issued);
    // Also with a signature that is another one and holds as well; nobody needs the key for that.
    submit("add-chain", &mirrored(&issued));
    submit("add-pre-chain", &mirrored(logged)); // one entry with the first
    common::settled(&dir, "ct", 4);
    assert_eq!(verdict(&verify(&dir)), (0, String::new()));
    submit("add-chain", &twins[0]);
    assert_fails(&verify(&dir), 1, "ct entry 4, serial ");
    assert_fails(&verify(&dir), 1, "the record has another certificate for it");
    submit("add-pre-chain", &twins[1]);
    assert_fails(&verify(&dir), 1, "ct entry 5, serial ");
    assert_fails(&verify(&dir), 1, "a second precertificate under it");
}

/// What is in PEM.
fn der(pem: &str) -> Vec<u8> {
    let lines: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    from_base64(&lines).unwrap()
}

#[test]
fn a_record_of_before_there_was_a_tree_is_taken_over_once_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("dev");
    let mut dev = Dev::start(&dir);
    dev.kill();
    // As the version before left it, the last line cut short.
    let line = |event: &str| {
        format!(
            "{{\"time\":\"2026-01-01T00:00:00Z\",\"request_id\":\"r\",\"event\":\"{event}\",\"serial\":\"{:040x}\",\"identity\":\"a@example.com\",\"issuer\":\"i\",\"certificate_sha256\":\"00\",\"log_index\":null,\"previous\":\"\"}}\n",
            7
        )
    };
    fs::write(dir.join("audit.jsonl"), line("serial") + &line("issued") + "{\"time\":\"20")
        .unwrap();
    for _ in 0..2 {
        let mut dev = Dev::start(&dir);
        let found = dev.record(&["--identity", "a@example.com"]);
        let events: Vec<_> = found.iter().map(|entry| entry["event"].as_str().unwrap()).collect();
        assert_eq!(events, ["serial", "issued"]);
        dev.kill();
    }
    assert!(!dir.join("audit.jsonl").exists());
    let kept = fs::read_to_string(dir.join("audit-imported.jsonl")).unwrap();
    assert!(kept.ends_with("{\"time\":\"20"), "nothing of it is lost");
    // It says that one was issued that the certificate log does not have.
    assert_fails(&verify(&dir), 1, "issued by the record");
}

/// Asks for a certificate with a key of its own; what it is by its SHA-256, or status and reason.
fn certify(dev: &Dev, token: &str) -> Result<String, (u16, String)> {
    let key = SigningKey::generate(KeyDetails::EcdsaP256Sha256);
    let pem =
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", base64(&key.spki()));
    let body = json!({ "publicKeyRequest": { "publicKey": { "content": pem },
        "proofOfPossession": base64(&key.sign(b"you@example.com")) } });
    let headers = format!("Authorization: Bearer {token}\r\n");
    let (status, body) = dev.request("POST /api/v2/signingCert", &headers, &body.to_string());
    let answer: Value = serde_json::from_str(&body).unwrap();
    if status != 200 {
        assert!(!body.contains("BEGIN CERTIFICATE"), "{body}");
        return Err((status, answer["details"][0]["reason"].as_str().unwrap().to_owned()));
    }
    let chain = &answer["signedCertificateEmbeddedSct"]["chain"]["certificates"];
    let pem = chain[0].as_str().unwrap();
    Ok(hex(&HashAlgorithm::Sha256.digest(&der(pem))))
}

#[test]
fn on_a_full_disk_nothing_is_issued_and_with_room_again_it_goes_on_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    // A small disk of its own, which only this process and its children see.
    let script = "mount -t tmpfs -o size=8m tmpfs \"$1\" && exec \"$0\" dev --listen 127.0.0.1:0 --dir \"$1/dev\"";
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", script, env!("CARGO_BIN_EXE_countersign")]).arg(&disk);
    let mut dev = Dev::spawn(clean(&mut command), &disk);
    let disk = format!("/proc/{}/root{}", dev.child.id(), disk.display());
    dev.dir = Path::new(&disk).join("dev");
    let token = dev.token("you@example.com");
    let mut given = vec![certify(&dev, &token).unwrap()];
    let mut fill = fs::File::create(Path::new(&disk).join("fill")).unwrap();
    while fill.write_all(&[0; 4096]).is_ok() {}
    // What has its place already is written still.
    let refused = (0..500).find_map(|_| match certify(&dev, &token) {
        Ok(certificate) => {
            given.push(certificate);
            None
        }
        Err(refused) => Some(refused),
    });
    let (status, reason) = refused.expect("the disk is full");
    assert_eq!(status, 503);
    assert!(["AUDIT_LOG", "CERTIFICATE_LOG"].contains(&&reason[..]), "{reason}");
    let (status, body) = dev.request("GET /readyz", "", "");
    assert!(status == 503 && body.contains("No space left"), "{body}");
    assert_eq!(dev.request("GET /healthz", "", "").0, 200, "it lives");
    for _ in 0..5 {
        assert_eq!(certify(&dev, &token).unwrap_err().0, 503);
    }
    fs::remove_file(Path::new(&disk).join("fill")).unwrap();
    drop(fill);
    let mut refused = None;
    let again = (0..100).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        certify(&dev, &token).inspect_err(|error| refused = Some(error.clone())).ok()
    });
    given.push(again.unwrap_or_else(|| panic!("it does not go on by itself: {refused:?}")));
    // SQLite takes the way through /proc for one on our own disk.
    copy(&dev.dir, &folder.path().join("copy"));
    dev.dir = folder.path().join("copy");
    let issued = dev.record(&["--outcome", "issued"]);
    for certificate in &given {
        let recorded = issued.iter().any(|entry| entry["certificate_sha256"] == certificate[..]);
        assert!(recorded, "what was given is on record");
    }
    assert_eq!(verdict(&verify(&dev.dir)), (0, String::new()), "and in the certificate log");
}
