//! Witnesses as processes: three of our own binary beside a development instance, two of them required.

mod common;

use common::{Dev, assert_fails, clean, run, verdict};
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const EMAIL: &str = "you@example.com";

/// A running `countersign witness`; killed when dropped.
struct Witness {
    child: Child,
    dir: PathBuf,
    address: String,
    key: String,
}

impl Witness {
    /// `logs` are verifier keys, with spaces between.
    fn start(dir: &Path, listen: &str, logs: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.arg("witness").arg("--dir").arg(dir).args(["--listen", listen]);
        for log in logs.split(' ') {
            command.args(["--log", log]);
        }
        if !dir.join("witness.vkey").exists() {
            let name = dir.file_name().unwrap().to_str().unwrap();
            command.args(["--name", &format!("{name}.example.test")]);
        }
        let mut child = clean(&mut command).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        // `  witness NAME VKEY URL`
        let line =
            lines.find(|line| line.starts_with("  witness ")).expect("it says how to use it");
        let words: Vec<_> = line.split_whitespace().collect();
        let address = words[3].strip_prefix("http://").unwrap().to_owned();
        Self { child, dir: dir.to_owned(), address, key: words[2].to_owned() }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// At the same address, from what it has kept.
    fn start_again(&mut self, log: &str) {
        *self = Self::start(&self.dir, &self.address, log);
    }

    /// Status and body of the answer.
    fn add(&self, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let request = format!(
            "POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

/// An instance with three witnesses, of which two are required.
struct Case {
    folder: TempDir,
    dev: Dev,
    witnesses: Vec<Witness>,
    log: String,
    files: usize,
}

impl Case {
    fn new(lacking: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("dev");
        let mut dev = Dev::start(&dir);
        let info = run(["log", "info", "--output", "json", "--instance", &dev.url]);
        let info: Value = serde_json::from_slice(&info.stdout).unwrap();
        let log = info["key"].as_str().unwrap().to_owned();
        assert!(dev.terminate());
        let witnesses: Vec<_> = ["w1", "w2", "w3"]
            .map(|name| Witness::start(&folder.path().join(name), "127.0.0.1:0", &log))
            .into();
        let mut policy = String::new();
        for (witness, number) in witnesses.iter().zip(1..) {
            policy += &format!("witness W{number} {} http://{}\n", witness.key, witness.address);
        }
        policy += "group two 2 W1 W2 W3\nquorum two\n";
        fs::write(folder.path().join("policy"), policy).unwrap();
        let dev = Self::start(&dir, &folder.path().join("policy"), lacking);
        Self { folder, dev, witnesses, log, files: 0 }
    }

    fn start(dir: &Path, policy: &Path, lacking: &str) -> Dev {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.arg("dev").arg("--dir").arg(dir).arg("--witness-policy").arg(policy);
        command.args(["--witness-lacking", lacking, "--witness-timeout", "5s"]);
        if !dir.join("instance.json").exists() {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        Dev::spawn(clean(&mut command), dir)
    }

    fn policy(&self) -> PathBuf {
        self.folder.path().join("policy")
    }

    /// Signs a new file; its name.
    fn sign(&mut self) -> (PathBuf, std::process::Output) {
        self.files += 1;
        let file = self.folder.path().join(format!("file-{}", self.files));
        fs::write(&file, format!("{}", self.files)).unwrap();
        let (token, config) = (self.dev.token(EMAIL), self.dev.config());
        let output = run([
            "sign-blob",
            "--timeout",
            "2s",
            "--trust-config",
            config.to_str().unwrap(),
            "--identity-token",
            &token,
            file.to_str().unwrap(),
        ]);
        (file, output)
    }

    fn verify(&self, file: &Path) -> std::process::Output {
        let (policy, config) = (self.policy(), self.dev.config());
        run([
            "verify-blob",
            "--witness-policy",
            policy.to_str().unwrap(),
            "--trust-config",
            config.to_str().unwrap(),
            "--certificate-identity",
            EMAIL,
            "--certificate-oidc-issuer",
            &self.dev.url,
            "--explain",
            file.to_str().unwrap(),
        ])
    }
}

#[test]
fn one_dead_witness_of_three_changes_nothing_and_two_are_published_without() {
    let mut case = Case::new("publish");
    let accepted = |case: &mut Case, by: &str| {
        let (file, signed) = case.sign();
        assert_eq!(verdict(&signed).0, 0, "{signed:?}");
        let verified = case.verify(&file);
        let text = String::from_utf8_lossy(&verified.stdout).into_owned();
        assert_eq!(verdict(&verified).0, 0, "{verified:?}");
        assert!(text.contains(&format!("{by} cosigned the tree")), "{text}");
    };
    case.witnesses[0].kill();
    accepted(&mut case, "W2, W3");
    case.witnesses[0].start_again(&case.log);
    case.witnesses[1].kill();
    accepted(&mut case, "W1, W3");
    case.witnesses[2].kill();
    let (file, signed) = case.sign();
    assert_eq!(verdict(&signed).0, 0, "{signed:?}");
    assert_fails(&case.verify(&file), 1, "found W1; missing W2, W3");
    case.witnesses[2].start_again(&case.log);
    accepted(&mut case, "W1, W3");
}

#[test]
fn two_dead_witnesses_hold_the_log_until_one_is_back_and_a_fork_is_refused() {
    let mut case = Case::new("hold");
    let (file, signed) = case.sign();
    assert_eq!(verdict(&signed).0, 0, "{signed:?}");
    assert_eq!(verdict(&case.verify(&file)).0, 0);
    case.witnesses[0].kill();
    case.witnesses[1].kill();
    let size = case.dev.size();
    let (file, held) = case.sign();
    assert_fails(&held, 2, "waits for its witnesses");
    assert_eq!(case.dev.size(), size, "what is held is not to be seen");
    let (status, reason) = case.dev.request("GET /readyz", "", "");
    assert!(status == 503 && reason.contains("waits for its witnesses"), "{status} {reason}");
    case.dev.kill();
    case.dev = Case::start(&case.dev.dir, &case.policy(), "hold");
    assert_eq!(case.dev.size(), size, "a restart holds it as well, and is read all the same");
    // That it asks again and again is no batch that failed.
    let metric = |series: &str| {
        let (_, text) = case.dev.request("GET /metrics", "", "");
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        value.unwrap_or(0.0)
    };
    let asked = "countersign_log_witness_failures_total{log=\"127.0.0.1\",witness=\"W1\"}";
    while metric(asked) < 3.0 {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(metric("countersign_log_batches_failed_total{log=\"127.0.0.1\"}"), 0.0);
    case.witnesses[0].start_again(&case.log);
    let (later, signed) = case.sign();
    assert_eq!(verdict(&signed).0, 0, "{signed:?}");
    assert_eq!(verdict(&case.verify(&later)).0, 0);
    // An answer about readiness holds for a second; whoever asked last has asked before.
    assert_eq!(case.dev.request("GET /readyz", "", "").0, 200);
    assert!(!file.with_extension("sigstore.json").exists());

    // What a witness has kept survives kill -9.
    let (_, note) = case.dev.request("GET /api/v2/checkpoint", "", "");
    let size = case.dev.size();
    let conflict = (409, format!("{size}\n"));
    assert_eq!(case.witnesses[0].add(&format!("old 0\n\n{note}")), conflict);
    case.witnesses[0].kill();
    case.witnesses[0].start_again(&case.log);
    assert_eq!(case.witnesses[0].add(&format!("old 0\n\n{note}")), conflict);

    // The same key signs another tree, as after a theft or with a database put back.
    let dir = case.folder.path().join("fork");
    fs::create_dir_all(dir.join("keys")).unwrap();
    fs::copy(case.dev.dir.join("keys/log.pem"), dir.join("keys/log.pem")).unwrap();
    let mut fork = Dev::start(&dir);
    while fork.size() < size {
        let file = case.folder.path().join(format!("forked-{}", fork.size()));
        fs::write(&file, b"forked").unwrap();
        assert_eq!(verdict(&fork.sign(&file, EMAIL)).0, 0);
    }
    let (_, forked) = fork.request("GET /api/v2/checkpoint", "", "");
    assert_eq!(fork.size(), size);
    let (status, answer) = case.witnesses[0].add(&format!("old {size}\n\n{forked}"));
    assert_eq!(status, 422, "{answer}");
    assert!(answer.contains("not shown to contain the tree cosigned last"), "{answer}");
    assert!(fork.terminate());
    let fork = Case::start(&dir, &case.policy(), "hold");
    let token = fork.token(EMAIL);
    let file = case.folder.path().join("never");
    fs::write(&file, b"never").unwrap();
    let config = fork.config();
    let refused = run([
        "sign-blob",
        "--timeout",
        "2s",
        "--trust-config",
        config.to_str().unwrap(),
        "--identity-token",
        &token,
        file.to_str().unwrap(),
    ]);
    assert_fails(&refused, 2, "waits for its witnesses");
}

#[test]
fn a_log_with_witnesses_goes_on_under_another_host_name_after_an_order_and_after_a_restore() {
    let mut case = Case::new("hold");
    let dir = case.dev.dir.clone();
    let rotate = |host: &[&str]| {
        run([&["log", "rotate", "--dir", dir.to_str().unwrap()][..], host].concat())
    };
    let settings =
        "url = \"http://127.0.0.1:1\"\norganization = \"Acme\"\nlisten = \"127.0.0.1:1\"\n
        [witnesses]\npolicy = \"p\"\n[[issuing]]\nkey = \"k\"\ncertificates = \"c\"\n
        [[timestamps]]\nkey = \"k\"\ncertificates = \"c\"\n";
    fs::write(dir.join("countersign.toml"), settings).unwrap();
    let taken = "needs a host name that no shard before it has";
    for host in [&[][..], &["--host", "127.0.0.1"]] {
        assert_fails(&rotate(host), 1, taken);
    }
    assert!(!dir.join("keys/log-2.pem").exists(), "nothing was made");
    // Until the witnesses have the key that is told, the order fails; with another host it is another key.
    let told = |output: &std::process::Output| {
        let text = verdict(output).1;
        let key = text.split("give the witnesses its key, ").nth(1).expect(&text);
        key.split(", and").next().unwrap().to_owned()
    };
    assert!(told(&rotate(&["--host", "127.0.0.2"])).starts_with("127.0.0.2+"));
    let key = told(&rotate(&["--host", "127.0.0.3"]));
    assert!(key.starts_with("127.0.0.3+"), "{key}");
    case.log += &format!(" {key}");
    let give = |case: &mut Case| {
        for witness in &mut case.witnesses {
            witness.kill();
            witness.start_again(&case.log);
        }
    };
    give(&mut case);
    let rotated = rotate(&["--host", "127.0.0.3"]);
    assert_eq!(verdict(&rotated), (0, String::new()));
    let seeded = case.dev.request("GET /shards/2/api/v2/checkpoint", "", "").1;
    assert!(seeded.starts_with("127.0.0.3\n1\n"), "an order that comes again seeds once: {seeded}");
    let text = String::from_utf8(rotated.stdout).unwrap();
    assert!(text.contains("begun: shard 2 at http://127.0.0.3:"), "{text}");

    let (backup, back) = (case.folder.path().join("backup"), case.folder.path().join("back"));
    let backup = backup.to_str().unwrap();
    assert_eq!(verdict(&run(["backup", backup, "--dir", dir.to_str().unwrap()])).0, 0);
    assert!(case.dev.terminate());
    let restore = |back: &Path, host: &[&str]| {
        run([&["restore", backup, "--dir", back.to_str().unwrap()][..], host].concat())
    };
    assert_fails(&restore(&back, &[]), 1, "give --host NAME, another host name of the server");
    let policy = case.policy();
    let refused = |dir: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.arg("dev").arg("--dir").arg(dir).arg("--witness-policy").arg(&policy);
        clean(command.args(["--witness-lacking", "hold", "--witness-timeout", "5s"]))
            .stdout(Stdio::null())
            .output()
            .unwrap()
    };
    // Without a configuration only the start knows that there are witnesses.
    fs::remove_file(Path::new(backup).join("countersign.toml")).unwrap();
    let without = case.folder.path().join("without");
    assert_eq!(verdict(&restore(&without, &[])).0, 0);
    assert_fails(&refused(&without), 2, "restore the backup with --host NAME");
    assert_eq!(verdict(&restore(&back, &["--host", "127.0.0.4"])).0, 0);
    case.log += &format!(" {}", told(&refused(&back)));
    give(&mut case);
    let dev = Case::start(&back, &policy, "hold");
    assert_eq!(dev.request("GET /readyz", "", "").0, 200);
    let (_, note) = dev.request("GET /shards/3/api/v2/checkpoint", "", "");
    assert!(note.starts_with("127.0.0.4\n1\n"), "{note}");
    assert!(note.lines().filter(|line| line.contains(".example.test ")).count() >= 2, "{note}");
}

#[test]
fn a_witness_keeps_its_name_and_refuses_what_it_cannot_use() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("w");
    let log = "log.example.test+af1bd9d7+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
    let witness = |extra: &[&str]| {
        let dir = dir.to_str().unwrap();
        run([&["witness", "--dir", dir, "--listen", "127.0.0.1:0"][..], extra].concat())
    };
    assert_fails(&witness(&["--name", "w.example"]), 2, "a witness without logs cosigns nothing");
    assert_fails(&witness(&["--log", log]), 2, "a new witness needs a name");
    assert_fails(&witness(&["--log", log, "--name", "w example"]), 2, "without white space");
    assert_fails(&witness(&["--log", "log.example.test"]), 2, "expected a verifier key");
    let list = folder.path().join("logs");
    fs::write(&list, format!("logs/v1\nvkey {log}\n")).unwrap();
    assert_fails(&witness(&["--logs", list.to_str().unwrap()]), 2, "expected `logs/v0`");
    fs::remove_dir_all(&dir).unwrap();
    let first = Witness::start(&dir, "127.0.0.1:0", log);
    let key = first.key.clone();
    assert_fails(&witness(&["--log", log]), 2, "is in use by process");
    drop(first);
    assert_eq!(Witness::start(&dir, "127.0.0.1:0", log).key, key);
    assert_fails(
        &witness(&["--log", log, "--name", "other"]),
        2,
        "is named \"w.example.test\" for good",
    );
    fs::remove_file(dir.join("witness.pem")).unwrap();
    assert_fails(&witness(&["--log", log]), 2, "is not the one it began with");
}
