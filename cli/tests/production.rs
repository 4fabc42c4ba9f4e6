//! A production instance as its operators have it: ceremony, configuration, TLS, reload, rotation.

mod common;

use common::{Dev, assert_fails, clean, run, verdict};
use countersign_verify::certificate::{AUTHORITY_KEY_ID, Certificate};
use countersign_verify::encoding::from_base64;
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const EMAIL: &str = "you@example.com";
/// Longest wait for what must come; nothing is asserted of how long it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A production instance in a folder of its own; its root beside it. A development instance is the identity
/// provider.
struct Production {
    folder: PathBuf,
    address: String,
    child: Option<Child>,
}

fn countersign(folder: &Path, args: &[&str]) -> Output {
    // Read by SoftHSM2 alone.
    let token = folder.join("softhsm2.conf");
    clean(Command::new(env!("CARGO_BIN_EXE_countersign")).current_dir(folder).args(args))
        .env("SOFTHSM2_CONF", token)
        .output()
        .unwrap()
}

/// Runs it without a network where the system lets us.
fn offline(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new("unshare");
    command.args(["-rn", env!("CARGO_BIN_EXE_countersign")]).args(args).current_dir(folder);
    clean(&mut command).output().unwrap()
}

fn done(output: Output) -> String {
    assert_eq!(verdict(&output).0, 0, "{}", verdict(&output).1);
    String::from_utf8(output.stdout).unwrap()
}

impl Production {
    fn make(folder: &Path, provider: &Dev, more: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let scheme = if more.contains(&"--tls-key") { "https" } else { "http" };
        let passphrase = folder.join("passphrase");
        fs::write(&passphrase, "correct horse\n").unwrap();
        fs::set_permissions(&passphrase, PermissionsExt::from_mode(0o600)).unwrap();
        let issuer = &provider.url;
        let issuers = format!(
            "oidc-issuers:\n  {issuer}:\n    issuer-url: {issuer}\n    client-id: sigstore\n    type: email\n"
        );
        fs::write(folder.join("issuers.yaml"), issuers).unwrap();
        let url = format!("{scheme}://{address}");
        let init = ["init", "--dir", "server", "--url", &url, "--listen", &address];
        let rest = ["--organization", "Acme", "--issuers", "issuers.yaml"];
        done(countersign(
            folder,
            &[&init[..], &rest, &["--passphrase-file", "passphrase"], more].concat(),
        ));
        fs::write(folder.join("root-passphrase"), "battery staple\n").unwrap();
        let sealed = ["--passphrase-file", "root-passphrase"];
        done(offline(
            folder,
            &["ca", "ceremony", "--out", "root", "--organization", "Acme", sealed[0], sealed[1]],
        ));
        for role in ["issuing", "timestamps"] {
            let csr = format!("server/requests/{role}.csr");
            let out = format!("{role}.crt");
            let sign = ["ca", "ceremony", "sign", "--root", "root", "--csr", &csr];
            done(offline(folder, &[&sign[..], &["--as", role, "--out", &out], &sealed].concat()));
            done(countersign(folder, &["ca", "import", "--dir", "server", &out]));
        }
        Self { folder: folder.to_owned(), address, child: None }
    }

    fn start(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.args(["serve", "--dir", "server"]).current_dir(&self.folder);
        let log = File::create(self.folder.join("log")).unwrap();
        let out = File::create(self.folder.join("out")).unwrap();
        clean(&mut command).stdout(out).stderr(log);
        command.env("SOFTHSM2_CONF", self.folder.join("softhsm2.conf"));
        self.child = Some(command.spawn().unwrap());
        self.until("it serves", |it| {
            fs::read_to_string(it.folder.join("out")).unwrap().starts_with("Serving ")
        });
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < PATIENCE, "never: {what}; {}", self.log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }

    fn told(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    fn sign(&self, token: &str, file: &Path) -> Output {
        self.sign_within("20s", token, file)
    }

    fn sign_within(&self, timeout: &str, token: &str, file: &Path) -> Output {
        fs::write(file, file.as_os_str().as_encoded_bytes()).unwrap();
        let config = self.folder.join("server/trust/client_trust_config.json");
        run([
            OsStr::new("sign-blob"),
            "--trust-config".as_ref(),
            config.as_ref(),
            "--identity-token".as_ref(),
            token.as_ref(),
            "--timeout".as_ref(),
            timeout.as_ref(),
            file.as_ref(),
        ])
    }

    fn verify(&self, issuer: &str, file: &Path) -> Output {
        let root = self.folder.join("server/trust/trusted_root.json");
        run([
            OsStr::new("verify-blob"),
            "--trusted-root".as_ref(),
            root.as_ref(),
            "--certificate-identity".as_ref(),
            EMAIL.as_ref(),
            "--certificate-oidc-issuer".as_ref(),
            issuer.as_ref(),
            file.as_ref(),
        ])
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let host = &self.address;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn chains(&self) -> usize {
        let bundle: Value = serde_json::from_str(&self.get("/api/v2/trustBundle").1).unwrap();
        bundle["chains"].as_array().unwrap().len()
    }
}

impl Drop for Production {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill(); // it may have ended
            let _ = child.wait();
        }
    }
}

fn openssl(folder: &Path, args: &[&str]) -> String {
    let mut command = Command::new("openssl");
    let output = command.current_dir(folder).args(args).stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_root_made_without_a_network_stays_away_from_the_server_that_it_certifies() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let provider = Dev::start(&folder.join("provider"));
    let mut server = Production::make(folder, &provider, &[]);
    let transcript = fs::read_to_string(folder.join("root/transcript.txt")).unwrap();
    assert_eq!(transcript.matches("Network: none is up but loopback").count(), 3, "{transcript}");
    assert!(transcript.contains("Key: ECDSA P-384, one key and whole"), "{transcript}");
    let public = |file: &str, passphrase: &str| {
        openssl(folder, &["pkey", "-passin", passphrase, "-pubout", "-in", file])
    };
    let root = public("root/root.pem", "file:root-passphrase");
    let public = |file: &str| public(file, "file:passphrase");
    assert!(root.contains("PUBLIC KEY"));
    for entry in fs::read_dir(folder.join("server/keys")).unwrap() {
        let name = format!("server/keys/{}", entry.unwrap().file_name().to_str().unwrap());
        if name.ends_with(".pem") {
            assert!(public(&name).contains("PUBLIC KEY") && public(&name) != root, "{name}");
        }
    }
    for role in ["issuing", "timestamps"] {
        let strict = ["verify", "-x509_strict", "-purpose", "any", "-CAfile", "root/root.crt"];
        let chain = format!("{role}.crt");
        assert!(openssl(folder, &[&strict[..], &[&chain]].concat()).contains(": OK"), "{role}");
    }
    let healthy = countersign(folder, &["doctor", "--dir", "server"]);
    assert!(healthy.status.success(), "{}", String::from_utf8_lossy(&healthy.stdout));

    server.start();
    assert_eq!(server.get("/readyz").0, 200);
    let token = provider.token(EMAIL);
    let file = folder.join("artifact");
    done(server.sign(&token, &file));
    done(server.verify(&provider.url, &file));
    let recorded = |args: &[&str]| {
        let search = ["audit", "search", "--dir", "server", "--output", "json"];
        done(countersign(folder, &[&search[..], args].concat())).lines().count()
    };
    assert_eq!(recorded(&["--identity", EMAIL]), 2, "begun and issued");
    assert_eq!(recorded(&["--issuer", &provider.url, "--since", "2020-01-01T00:00:00Z"]), 2);
    assert_eq!(recorded(&["--outcome", "act"]), 2, "the record begins, the instance starts");
    let nobody = ["audit", "search", "--dir", "server", "--identity", "them@example.com"];
    assert_eq!(done(countersign(folder, &nobody)), "", "a search that was answered");
    done(countersign(folder, &["audit", "verify", "--dir", "server"]));
    server.signal("-TERM");
    assert!(server.child.as_mut().unwrap().wait().unwrap().success());

    // Somebody else's certificate does not join our key.
    fs::create_dir(folder.join("other")).unwrap();
    let other = Production::make(&folder.join("other"), &provider, &[]);
    let theirs = other.folder.join("issuing.crt");
    let import =
        countersign(folder, &["ca", "import", "--dir", "server", theirs.to_str().unwrap()]);
    assert_fails(&import, 1, "found one for another key");

    // A mix-up of requests, and a file that is there.
    let sign = ["ca", "ceremony", "sign", "--root", "root", "--as", "issuing", "--csr"];
    let root_passphrase = ["--with-network-up", "--passphrase-file", "root-passphrase"];
    for (request, out, status, expected) in [
        ("timestamps", "new.crt", 1, "expected a request for issuing, found one for timestamps"),
        ("issuing", "issuing.crt", 2, "issuing.crt is there already"),
    ] {
        let request = format!("server/requests/{request}.csr");
        let args = [&sign[..], &[&request, "--out", out], &root_passphrase].concat();
        assert_fails(&countersign(folder, &args), status, expected);
    }
    fs::write(folder.join("short"), "seven 7\n").unwrap();
    let ceremony = ["ca", "ceremony", "--out", "weak", "--organization", "Acme"];
    let weak = [&ceremony[..], &["--with-network-up", "--passphrase-file", "short"]].concat();
    assert_fails(
        &countersign(folder, &weak),
        2,
        "at least 8 characters for the root's key, found 7",
    );
    assert!(!folder.join("weak").exists());

    // A rotation that cannot end well leaves nothing, and one that can says how to go on.
    let files = || {
        let names = ["keys", "requests"].map(|name| fs::read_dir(folder.join("server").join(name)));
        names.into_iter().flat_map(Result::unwrap).count()
    };
    let before = files();
    let rotate = ["ca", "rotate", "issuing", "--dir", "server", "--in", "90s"];
    let by_root = ["--with-network-up", "--root", "root", "--root-passphrase-file"];
    for (more, expected) in [
        (&["--passphrase-file", "root-passphrase"][..], "passphrase"),
        (&[&by_root[..], &["passphrase"]].concat(), "passphrase"),
    ] {
        assert_fails(&countersign(folder, &[&rotate[..], more].concat()), 2, expected);
        assert_eq!(files(), before);
    }
    let told = done(countersign(folder, &rotate));
    assert!(
        told.contains("ca import --config server/countersign.toml issuing-2.crt --in 90s"),
        "{told}"
    );
    let request = ["server/requests/issuing-2.csr", "--out", "issuing-2.crt"];
    done(countersign(folder, &[&sign[..], &request, &root_passphrase].concat()));
    let import = ["ca", "import", "--dir", "server", "issuing-2.crt", "--in", "90s"];
    assert!(done(countersign(folder, &import)).contains("in 1m 30s"));
    assert_fails(&countersign(folder, &import), 2, "has issuing-2 already");
    let sealed = fs::read_to_string(folder.join("server/keys/issuing-2.pem")).unwrap();
    assert!(sealed.contains("ENCRYPTED PRIVATE KEY"));
    // A name stays taken when its request was tidied away: nothing becomes of that key.
    fs::remove_file(folder.join("server/requests/issuing-2.csr")).unwrap();
    assert!(done(countersign(folder, &rotate)).contains("Made the key issuing-3"));
    assert_eq!(fs::read_to_string(folder.join("server/keys/issuing-2.pem")).unwrap(), sealed);
    let healthy = countersign(folder, &["doctor", "--dir", "server"]);
    assert!(
        healthy.status.success(),
        "the server opens it: {}",
        String::from_utf8_lossy(&healthy.stdout)
    );

    // Findings, each by name; each is undone before the next.
    let doctor = || {
        let output = countersign(folder, &["doctor", "--dir", "server"]);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let place = |name: &str| folder.join("server").join(name);
    for (name, mode, expected) in [
        ("", 0o777, "server: others than its owner can write to it (mode 777)"),
        ("keys", 0o777, "keys: others than its owner can write to it (mode 777)"),
        ("countersign.toml", 0o666, "countersign.toml: others than its owner can write to it"),
        ("../issuers.yaml", 0o666, "issuers.yaml: others than its owner can write to it"),
        ("keys/log.pem", 0o644, "keys/log.pem: others than its owner can read it (mode 644)"),
    ] {
        let before = fs::metadata(place(name)).unwrap().permissions();
        fs::set_permissions(place(name), PermissionsExt::from_mode(mode)).unwrap();
        let (status, text) = doctor();
        fs::set_permissions(place(name), before).unwrap();
        assert_eq!((status, text.lines().count()), (Some(1), 1), "{text}");
        assert!(text.contains(expected), "expected {expected:?} in {text}");
    }
    let other_key = fs::read(place("keys/audit.pem")).unwrap();
    let configuration = fs::read_to_string(place("countersign.toml")).unwrap();
    let elsewhere = configuration.replace("url = \"http://127.0.0.1", "url = \"http://localhost");
    let lost = Vec::new();
    for (name, content, expected) in [
        ("keys/log.pem", Some(&lost), "keys/log.pem: "),
        ("keys/log.pem", None, "keys/log.pem: No such file"),
        ("keys/log.pem", Some(&other_key), "expected the key of this log, found another"),
        ("countersign.db", Some(&b"no database".repeat(999)), "not a database"),
        ("countersign.db", None, "countersign.db: is missing"),
        ("shards.json", None, "shards.json is missing, but countersign.db knows audit, ct, log"),
        ("log/tile/0/000.part", None, "log: "),
        ("ct/checkpoint", Some(&lost), "ct: "),
        ("countersign.toml", Some(&elsewhere.into_bytes()), "cannot be served at host"),
    ] {
        let before = fs::read(place(name)).unwrap();
        match content {
            Some(content) => fs::write(place(name), content).unwrap(),
            None => fs::remove_file(place(name)).unwrap(),
        }
        let (status, text) = doctor();
        fs::write(place(name), before).unwrap();
        fs::set_permissions(place(name), PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(status, Some(1), "{name}: {text}");
        assert!(text.contains(expected), "expected {expected:?} in {text}");
    }
    fs::write(place("keys/root.pem"), "").unwrap();
    assert!(doctor().1.contains("keys/root.pem: a root's key does not belong here"));
    fs::remove_file(place("keys/root.pem")).unwrap();
    // What cannot be examined is a finding like others, and hides none.
    fs::rename(folder.join("passphrase"), folder.join("away")).unwrap();
    fs::write(place("keys/root.pem"), "").unwrap();
    let (status, text) = doctor();
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("keys/root.pem: a root's key") && text.contains("passphrase"), "{text}");
    fs::remove_file(place("keys/root.pem")).unwrap();
    fs::rename(folder.join("away"), folder.join("passphrase")).unwrap();
    // An issuer that is away may come back.
    drop(provider);
    let output = countersign(folder, &["doctor", "--dir", "server"]);
    let warned = String::from_utf8_lossy(&output.stderr).to_lowercase();
    assert!(output.status.success() && warned.contains("connection refused"), "{warned}");
}

#[test]
fn keys_change_hands_and_the_configuration_is_read_again_while_everybody_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let provider = Dev::start(&folder.join("provider"));
    let mut server = Production::make(folder, &provider, &[]);
    server.start();
    fs::copy(folder.join("server/trust/trusted_root.json"), folder.join("old.json")).unwrap();
    let token = provider.token(EMAIL);
    let (stop, made) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let number = made.fetch_add(1, Ordering::SeqCst);
                    done(server.sign(&token, &folder.join(format!("{number}.txt"))));
                }
            });
        }
        let more = |count: usize| {
            let before = made.load(Ordering::SeqCst);
            server.until("signatures", |_| made.load(Ordering::SeqCst) >= before + count);
        };
        more(4);
        let configuration = folder.join("server/countersign.toml");
        let good = fs::read_to_string(&configuration).unwrap();
        fs::write(&configuration, good.replace("organization", "organisation")).unwrap();
        server.signal("-HUP");
        server.until("it refuses", |it| it.told("did you mean \"organization\"?") == 1);
        fs::write(&configuration, good).unwrap();
        // What a restart would not open is no reload either.
        let passphrase = folder.join("passphrase");
        let log_key = folder.join("server/keys/log.pem");
        for (file, says) in [(&passphrase, "is not the one of the start"), (&log_key, "log.pem: ")]
        {
            let (whole, refused) = (fs::read(file).unwrap(), server.told("stays in use"));
            fs::write(file, "another\n").unwrap();
            server.signal("-HUP");
            server
                .until("it refuses", |it| it.told("stays in use") > refused && it.told(says) == 1);
            fs::write(file, whole).unwrap();
        }
        more(2);
        for role in ["issuing", "timestamps"] {
            let rotate = ["ca", "rotate", role, "--dir", "server", "--in", "5s", "--root", "root"];
            let sealed = ["--root-passphrase-file", "root-passphrase", "--with-network-up"];
            done(countersign(folder, &[&rotate[..], &sealed].concat()));
        }
        let expected = server.told("is in use") + 1;
        server.signal("-HUP");
        server.until("it reloads", |it| it.told("is in use") == expected);
        assert_eq!(server.chains(), 2, "the next key is published before it signs");
        let chain = |it: &Production| it.get("/api/v1/timestamp/certchain").1;
        let before = chain(&server);
        server.until("the timestamp key changes", |it| chain(it) != before);
        more(4);
        stop.store(true, Ordering::SeqCst);
    });
    // A trusted root of before does not know who signed, which is not the same as a signature that does not hold.
    let late = made.load(Ordering::SeqCst) - 1;
    let whom = ["--certificate-identity", EMAIL, "--certificate-oidc-issuer", &provider.url];
    let late = format!("{late}.txt");
    let verify = ["verify-blob", "--trusted-root", "old.json", &late];
    let refused = countersign(folder, &[&verify[..], &whom].concat());
    assert_fails(&refused, 1, "1 in number, found");
    assert_fails(&refused, 1, "old.json; if the instance has changed its keys since");
    let mut keys = BTreeSet::new();
    for number in 0..made.load(Ordering::SeqCst) {
        let file = folder.join(format!("{number}.txt"));
        done(server.verify(&provider.url, &file));
        let bundle = fs::read(folder.join(format!("{number}.txt.sigstore.json"))).unwrap();
        let bundle: Value = serde_json::from_slice(&bundle).unwrap();
        let der = bundle["verificationMaterial"]["certificate"]["rawBytes"].as_str().unwrap();
        let certificate = Certificate::parse(&from_base64(der).unwrap()).unwrap();
        keys.insert(certificate.extension(AUTHORITY_KEY_ID).unwrap().value.clone());
    }
    assert_eq!(keys.len(), 2, "certificates of both keys, and one trusted root for all");
    // The reload is on record with the keys that it brought; each of them can be searched for.
    let search = ["audit", "search", "--dir", "server", "--outcome", "act", "--output", "json"];
    let acts = done(countersign(folder, &search));
    let act: Value = serde_json::from_str(acts.lines().last().unwrap()).unwrap();
    assert_eq!(act["entry"]["act"], "reload", "{acts}");
    let about: Vec<_> = act["entry"]["about"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .collect();
    assert_eq!(about.iter().filter(|line| line.starts_with("issuing key ")).count(), 2, "{acts}");
    assert!(about[0].starts_with("configuration sha256:"), "{acts}");
    let new = about.iter().rfind(|line| line.starts_with("issuing key ")).unwrap();
    let found =
        countersign(folder, &[&search[..], &["--key", new.split(' ').nth(2).unwrap()]].concat());
    assert_eq!(done(found).lines().count(), 1, "{acts}");
    done(countersign(folder, &["audit", "verify", "--dir", "server"]));
}

#[test]
fn a_used_token_stays_used_and_the_logs_take_whom_the_configuration_names_by_the_last_reload() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let provider = Dev::start(&folder.join("provider"));
    let mut server = Production::make(folder, &provider, &[]);
    let configuration = folder.join("server/countersign.toml");
    let text = fs::read_to_string(&configuration).unwrap();
    let before_keys =
        |tables: &str| text.replacen("[[issuing]]", &format!("{tables}[[issuing]]"), 1);
    let once = "[issuance]\none-time-tokens = true\n\n";
    fs::write(&configuration, before_keys(once)).unwrap();
    server.start();
    let token = provider.token(EMAIL);
    let file = folder.join("artifact");
    done(server.sign(&token, &file));
    let reload = |tables: &str| {
        fs::write(&configuration, before_keys(tables)).unwrap();
        let expected = server.told("is in use") + 1;
        server.signal("-HUP");
        server.until("it reloads", |it| it.told("is in use") == expected);
    };
    assert_fails(&server.sign(&token, &file), 1, "was used before");
    reload(&format!("{once}[log]\ncertificates = [\"own\"]\nkeys = []\n\n"));
    assert_fails(&server.sign(&token, &file), 1, "was used before");
    // Its own certificates are taken, and nobody's keys.
    done(server.sign(&provider.token("me@example.com"), &file));
    let submit = || {
        let body = common::entry_request(b"by a bare key");
        let mut stream = TcpStream::connect(&server.address).unwrap();
        let head = format!("Host: {}\r\nConnection: close", server.address);
        let length = body.len();
        write!(
            stream,
            "POST /api/v2/log/entries HTTP/1.1\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(submit().contains("this log takes the keys it is configured with"), "{}", submit());
    reload(&format!("{once}[log]\ncertificates = []\n\n"));
    assert!(submit().starts_with("HTTP/1.1 201"), "{}", submit());
    // Tokens of one name and second are the same.
    let refused = server.sign(&provider.token("them@example.com"), &file);
    assert_fails(&refused, 1, "certificates of its authorities");
    // What decides about entries is on record.
    reload("[log]\ncertificates = [\"trust/trusted_root.json\"]\n\n");
    let acts =
        done(countersign(folder, &["audit", "search", "--dir", "server", "--outcome", "act"]));
    assert!(acts.lines().last().unwrap().contains("log certificates sha256:"), "{acts}");

    // By a policy: whoever asks must say what for.
    let issuer = &provider.url;
    let policy = format!(
        "policy: acme\nserial: 1\nwho: {{me: {{issuer: '{issuer}', email: {EMAIL}}}}}\nmay: [{{who: me, do: sign, to: anything}}]\n"
    );
    fs::write(folder.join("server/policy.yaml"), policy).unwrap();
    let by_policy = |terms: &str| {
        let terms = format!("policy = \"policy.yaml\"\n{terms}issuers =");
        fs::write(&configuration, text.replacen("issuers =", &terms, 1)).unwrap();
        let expected = server.told("is in use") + 1;
        server.signal("-HUP");
        server.until("it reloads", |it| it.told("is in use") == expected);
    };
    by_policy("require-intent = true\n");
    done(server.sign(&provider.token(EMAIL), &file));
    let url = format!("http://{}", server.address);
    let explained = |email: &str| {
        let token = provider.token(email);
        run(["ca", "explain-token", "--instance", &url, &token])
    };
    assert_fails(
        &server.sign(&provider.token("eve@example.com"), &file),
        1,
        "claim-mismatch:email",
    );
    let explained_to_me = format!("{:?}", explained(EMAIL));
    assert!(explained_to_me.contains("require-intent"), "{explained_to_me}");
    // A dry run lets everybody through, says so, and puts on record whom it would refuse.
    by_policy("policy-dry-run = true\n");
    assert_eq!(server.told("policy-dry-run: nothing is refused by policy acme serial 1"), 1);
    done(server.sign(&provider.token("eve@example.com"), &file));
    let would = [
        "audit",
        "search",
        "--dir",
        "server",
        "--outcome",
        "would-refuse",
        "--rule",
        "may: claim-mismatch:email",
    ];
    server.until("both are on record", |it| {
        let found = countersign(&it.folder, &would);
        String::from_utf8_lossy(&found.stdout).matches("eve@example.com by ").count() == 2
    });
    let explained_to_eve = format!("{:?}", explained("eve@example.com"));
    assert!(explained_to_eve.contains("claim-mismatch:email"), "{explained_to_eve}");
    let findings = countersign(folder, &["doctor", "--dir", "server"]);
    assert_eq!(verdict(&findings).0, 1);
    assert!(
        String::from_utf8_lossy(&findings.stdout).contains("policy-dry-run: nothing is refused")
    );
    done(countersign(folder, &["audit", "verify", "--dir", "server"]));
}

fn tls_pair(folder: &Path, name: &str) {
    let subject = format!("/CN={name}");
    let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
    let request =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let rest = ["-days", "2", "-subj", &subject, "-keyout", &key, "-out", &certificate];
    openssl(folder, &[&request[..], &rest].concat());
}

#[test]
fn a_new_tls_certificate_is_taken_up_and_a_broken_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let provider = Dev::start(&folder.join("provider"));
    for name in ["one", "two"] {
        tls_pair(folder, name);
    }
    let put = |name: &str| {
        for end in ["crt", "key"] {
            fs::copy(folder.join(format!("{name}.{end}")), folder.join(format!("tls.{end}")))
                .unwrap();
        }
    };
    put("one");
    let files = ["--tls-certificate", "tls.crt", "--tls-key", "tls.key"];
    let mut server = Production::make(folder, &provider, &files);
    server.start();
    let shown = |it: &Production| {
        openssl(folder, &["s_client", "-connect", &it.address, "-alpn", "h2"])
            .lines()
            .find(|line| line.starts_with("subject="))
            .map(str::to_owned)
            .unwrap_or_default()
    };
    server.until("the first", |it| shown(it).ends_with("one"));
    put("two");
    server.until("the second", |it| shown(it).ends_with("two"));
    fs::write(folder.join("tls.key"), "no key").unwrap();
    server.until("it says so", |it| it.told("the TLS certificate stays") > 0);
    assert!(shown(&server).ends_with("two"));
}

#[test]
fn a_token_that_is_pulled_is_told_of_and_used_again_when_it_is_back() {
    const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
    if !Path::new(MODULE).exists() {
        assert!(std::env::var_os("CI").is_none(), "SoftHSM2 is missing: scripts/peers installs it");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let provider = Dev::start(&folder.join("provider"));
    let tokens = folder.join("tokens");
    fs::create_dir(&tokens).unwrap();
    let conf = folder.join("softhsm2.conf");
    fs::write(&conf, format!("directories.tokendir = {}\n", tokens.display())).unwrap();
    fs::write(folder.join("pin"), "5678\n").unwrap();
    let init = Command::new("softhsm2-util")
        .env("SOFTHSM2_CONF", &conf)
        .args(["--init-token", "--free", "--label", "cs", "--so-pin", "1234", "--pin", "5678"])
        .output()
        .unwrap();
    assert!(init.status.success(), "{init:?}");
    let uri = format!(
        "pkcs11:token=cs;object=issuing?module-path={MODULE}&pin-source=file:{}",
        folder.join("pin").display()
    );
    let mut server = Production::make(folder, &provider, &["--issuing-key", &uri]);
    assert!(!folder.join("server/keys/issuing.pem").exists());
    server.start();
    let token = provider.token(EMAIL);
    thread::scope(|scope| {
        for writer in 0..3 {
            let (server, token, provider) = (&server, &token, &provider);
            scope.spawn(move || {
                for number in 0..3 {
                    let file = folder.join(format!("{writer}-{number}.txt"));
                    done(server.sign(token, &file));
                    done(server.verify(&provider.url, &file));
                }
            });
        }
    });
    fs::rename(&tokens, folder.join("pulled")).unwrap();
    let refused = server.sign(&token, &folder.join("late.txt"));
    assert_fails(&refused, 2, "the hardware token with the key does not answer");
    server.until("it is not ready", |it| it.get("/readyz").0 == 503);
    let reason = server.get("/readyz").1;
    assert!(reason.contains("the issuing CA cannot sign"), "{reason}");
    assert_eq!(server.get("/healthz").0, 200);
    fs::rename(folder.join("pulled"), &tokens).unwrap();
    server.until("it is ready", |it| it.get("/readyz").0 == 200);
    done(server.sign(&token, &folder.join("later.txt")));
    done(server.verify(&provider.url, &folder.join("later.txt")));
    // The next key is another one than that in use.
    let rotate = ["ca", "rotate", "issuing", "--dir", "server", "--key", &uri];
    assert_fails(&countersign(folder, &rotate), 2, "the token has a key of this label");
    assert!(!folder.join("server/requests/issuing-2.csr").exists());

    // A wrong PIN is tried once, however often somebody asks.
    fs::rename(&tokens, folder.join("pulled")).unwrap();
    server.until("it is not ready", |it| it.get("/readyz").0 == 503);
    fs::write(folder.join("pin"), "8765\n").unwrap();
    fs::rename(folder.join("pulled"), &tokens).unwrap();
    server.until("it is told of the PIN", |it| it.get("/readyz").1.contains("refuses the PIN"));
    for _ in 0..3 {
        let refused = server.sign_within("2s", &token, &folder.join("wrong.txt"));
        assert_fails(&refused, 2, "refuses the PIN");
    }
    assert_eq!(server.told("the token refuses the PIN"), 1, "{}", server.log());
    fs::write(folder.join("pin"), "5678\n").unwrap();
    server.until("it is ready", |it| it.get("/readyz").0 == 200);
    done(server.sign(&token, &folder.join("last.txt")));
}
