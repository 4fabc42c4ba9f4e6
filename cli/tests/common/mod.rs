//! A development instance as its users have it: the real binary, a directory, a port.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod https;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_testkit::SigningKey;
use countersign_verify::encoding::base64;
use countersign_verify::key::{HashAlgorithm, KeyDetails};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// A running `countersign dev`; killed when dropped.
pub(crate) struct Dev {
    pub(crate) child: Child,
    pub(crate) url: String,
    pub(crate) dir: PathBuf,
}

impl Dev {
    /// Starts in `dir`; on a free port, or where it was before.
    pub(crate) fn start(dir: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.arg("dev").arg("--dir").arg(dir);
        if !dir.join("instance.json").exists() {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        Self::spawn(clean(&mut command), dir)
    }

    /// Runs `command`, which starts an instance in `dir`.
    pub(crate) fn spawn(command: &mut Command, dir: &Path) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines.find_map(|line| {
            let line = line.unwrap();
            line.strip_prefix("Serving ").map(|rest| rest.split(' ').next().unwrap().to_owned())
        });
        // Whoever closes the pipe stops what is still printed.
        std::thread::spawn(move || lines.for_each(drop));
        let url = url.expect("the instance says where it serves");
        Self { child, url, dir: dir.to_owned() }
    }

    /// An instance with a policy.
    pub(crate) fn governed(dir: &Path, policy: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.args(["dev", "--dir"]).arg(dir).arg("--policy").arg(policy);
        Self::spawn(clean(&mut command), dir)
    }

    /// As `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As Ctrl-C; whether it ended well.
    pub(crate) fn terminate(&mut self) -> bool {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.child.wait().unwrap().success()
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.join("trust/client_trust_config.json")
    }

    pub(crate) fn token(&self, email: &str) -> String {
        let output = run(["token", "--instance", &self.url, "--email", email]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// The token of a job, as GitHub gives it.
    pub(crate) fn job(&self, repository: &str, git_ref: &str, event: &str) -> String {
        let job = ["--github", repository, "--ref", git_ref, "--event", event];
        let output = run([&["token", "--instance", &self.url][..], &job].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Asks for a certificate for `key`, for what is intended with it; status and body of the answer.
    pub(crate) fn certify(&self, key: &SigningKey, token: &str, intent: Value) -> (u16, String) {
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        let challenge = claims["email"].as_str().or(claims["sub"].as_str()).unwrap();
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            base64(&key.spki())
        );
        let request = json!({ "intent": intent, "publicKeyRequest": {
            "publicKey": { "algorithm": "ECDSA", "content": pem },
            "proofOfPossession": base64(&key.sign(challenge.as_bytes())) } });
        let headers =
            format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n");
        self.request("POST /api/v2/signingCert", &headers, &request.to_string())
    }

    pub(crate) fn sign(&self, file: &Path, email: &str) -> Output {
        let token = self.token(email);
        let config = self.config();
        run([
            OsStr::new("sign-blob"),
            "--trust-config".as_ref(),
            config.as_ref(),
            "--identity-token".as_ref(),
            token.as_ref(),
            file.as_ref(),
        ])
    }

    pub(crate) fn verify(&self, file: &Path, bundle: &Path, email: &str) -> Output {
        let config = self.config();
        run([
            OsStr::new("verify-blob"),
            "--trust-config".as_ref(),
            config.as_ref(),
            "--certificate-identity".as_ref(),
            email.as_ref(),
            "--certificate-oidc-issuer".as_ref(),
            self.url.as_ref(),
            "--bundle".as_ref(),
            bundle.as_ref(),
            file.as_ref(),
        ])
    }

    /// The entries on record that answer to `query`, in order.
    pub(crate) fn record(&self, query: &[&str]) -> Vec<Value> {
        let dir = self.dir.to_str().unwrap();
        let search = ["audit", "search", "--dir", dir, "--output", "json"];
        let output = run([&search[..], query].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let entries: Vec<_> = lines.map(|mut line| line["entry"].take()).collect();
        assert_eq!(output.status.code(), Some(0), "{text}");
        entries
    }

    /// Entries in the signature log, by its published checkpoint.
    pub(crate) fn size(&self) -> u64 {
        let (_, body) = self.request("GET /api/v2/checkpoint", "", "");
        body.lines().nth(1).unwrap().parse().unwrap()
    }

    /// A bare HTTP request; status and body of the answer.
    pub(crate) fn request(&self, line: &str, headers: &str, body: &str) -> (u16, String) {
        self.try_request(line, headers, body).expect("the server answers")
    }

    /// A bare HTTP request; head and body of the answer.
    pub(crate) fn exchange(&self, line: &str, headers: &str, body: &str) -> (String, String) {
        self.try_exchange(line, headers, body).expect("the server answers")
    }

    /// The same; `None` when there is no answer.
    pub(crate) fn try_request(
        &self,
        line: &str,
        headers: &str,
        body: &str,
    ) -> Option<(u16, String)> {
        let (head, body) = self.try_exchange(line, headers, body)?;
        Some((head.split(' ').nth(1)?.parse().unwrap(), body))
    }

    fn try_exchange(&self, line: &str, headers: &str, body: &str) -> Option<(String, String)> {
        let address = self.url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).ok()?;
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((format!("{head}\r\n"), body.to_owned()))
    }
}

/// The signing certificate that a CA answered with, PEM.
pub(crate) fn signing_certificate(answer: &str) -> String {
    let answer: Value = serde_json::from_str(answer).unwrap();
    let chain = &answer["signedCertificateEmbeddedSct"]["chain"]["certificates"];
    chain[0].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// A request to the Rekor v2 face: a signature over `message`, with its certificate, PEM.
pub(crate) fn certified_request(message: &[u8], signature: &[u8], certificate: &str) -> String {
    let der: String = certificate.lines().filter(|line| !line.starts_with("-----")).collect();
    let [digest, signature] = [&*HashAlgorithm::Sha256.digest(message), signature].map(base64);
    json!({ "hashedRekordRequestV002": { "digest": digest, "signature": { "content": signature,
        "verifier": { "keyDetails": "PKIX_ECDSA_P256_SHA_256", "x509Certificate": { "rawBytes": der } } } } })
    .to_string()
}

/// A request to the Rekor v2 face: a signature over `message` by a new key.
pub(crate) fn entry_request(message: &[u8]) -> String {
    let key = SigningKey::generate(KeyDetails::EcdsaP256Sha256);
    let [digest, signature, spki] =
        [HashAlgorithm::Sha256.digest(message), key.sign(message), key.spki()]
            .map(|bytes| base64(&bytes));
    json!({ "hashedRekordRequestV002": { "digest": digest, "signature": { "content": signature,
        "verifier": { "keyDetails": "PKIX_ECDSA_P256_SHA_256", "publicKey": { "rawBytes": spki } } } } })
    .to_string()
}

/// Waits until the files of a log below `dir` have what it answered for: they follow its answers.
pub(crate) fn settled(dir: &Path, log: &str, size: u64) {
    let checkpoint = dir.join(log).join("checkpoint");
    let size = size.to_string();
    for _ in 0..500 {
        let note = std::fs::read_to_string(&checkpoint).unwrap_or_default();
        if note.lines().nth(1) == Some(&*size) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} does not come to be of size {size}", checkpoint.display());
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

/// Runs the binary, without what the caller's environment might say.
pub(crate) fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    clean(Command::new(env!("CARGO_BIN_EXE_countersign")).args(args)).output().unwrap()
}

pub(crate) fn clean(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars() {
        let ours = ["COUNTERSIGN_", "SIGSTORE_", "ACTIONS_", "GITHUB_"];
        if ours.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    // Nor what this user keeps of whom to trust.
    command.env("COUNTERSIGN_TRUST_DIR", concat!(env!("CARGO_TARGET_TMPDIR"), "/no-trust"));
    command.stdin(Stdio::null())
}

/// Exit status, and standard error as text.
pub(crate) fn verdict(output: &Output) -> (i32, String) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().expect("never by a signal"), text)
}

/// The exit status, and that standard error says `expected`.
pub(crate) fn assert_fails(output: &Output, status: i32, expected: &str) {
    let (found, text) = verdict(output);
    assert_eq!(found, status, "{text}");
    assert!(text.contains(expected), "expected {expected:?} in {text:?}");
    assert!(!text.contains("panicked"), "{text}");
}
