//! `countersign trust`, and the trust that it keeps, as other commands find it.

mod common;

use common::{Dev, assert_fails, clean, verdict};
use countersign_testkit::tuf::{Behaviour, Repository, Server};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const EMAIL: &str = "you@example.com";

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

/// A development instance whose trust files are the targets of a TUF repository, and a signed file.
struct Case {
    folder: tempfile::TempDir,
    dev: Dev,
    repository: Repository,
    server: Server,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dev = Dev::start(&folder.path().join("dev"));
        let read = |name: &str| fs::read(dev.dir.join("trust").join(name)).unwrap();
        let targets = [
            ("trusted_root.json", read("trusted_root.json")),
            ("signing_config.v0.2.json", read("signing_config.json")),
        ];
        let repository = Repository::new(Timestamp::now() + hours(72), targets);
        let server = Server::start(&repository.served);
        fs::write(folder.path().join("root.json"), repository.root_json()).unwrap();
        fs::write(folder.path().join("artifact"), "the artifact").unwrap();
        Self { folder, dev, repository, server }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        clean(command.args(args)).env("COUNTERSIGN_TRUST_DIR", self.path("trust"));
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(env!("CARGO_BIN_EXE_countersign"), args).output().unwrap()
    }

    #[track_caller]
    fn good(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(verdict(&output), (0, String::new()), "{args:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn init(&self) {
        self.good(&["trust", "init", &self.server.url, "--root", &self.path("root.json")]);
    }

    fn sign(&self) {
        let token = self.dev.token(EMAIL);
        self.good(&["sign-blob", "--identity-token", &token, &self.path("artifact")]);
    }

    fn verify_args<'a>(&'a self, file: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let identity =
            ["--certificate-identity", EMAIL, "--certificate-oidc-issuer", &self.dev.url];
        [&["verify-blob", file], &identity[..], more].concat()
    }

    fn verify(&self, more: &[&str]) -> Output {
        self.run(&self.verify_args(&self.path("artifact"), more))
    }

    fn state(&self) -> PathBuf {
        let name = fs::read_to_string(self.path("trust/default")).unwrap();
        Path::new(&self.path("trust")).join(name.trim()).join("state.json")
    }

    fn member(&self, name: &str) -> Timestamp {
        let json: Value = serde_json::from_slice(&fs::read(self.state()).unwrap()).unwrap();
        json[name].as_str().unwrap().parse().unwrap()
    }

    /// As if the last refresh were two days old, and had brought metadata that expires at `expires`.
    fn age(&self, expires: Timestamp) {
        let mut json: Value = serde_json::from_slice(&fs::read(self.state()).unwrap()).unwrap();
        json["refreshed"] = (Timestamp::now() - hours(48)).to_string().into();
        json["expires"] = expires.to_string().into();
        fs::write(self.state(), json.to_string()).unwrap();
        let _ = fs::remove_file(self.state().with_file_name("failed"));
    }
}

#[test]
fn trust_that_is_kept_is_found_by_every_command() {
    let mut case = Case::new();
    case.init();
    case.sign();
    assert!(case.good(&case.verify_args(&case.path("artifact"), &[])).contains("verified"));
    let by_url = format!("{}/", case.server.url);
    assert_eq!(verdict(&case.verify(&["--instance", &by_url])).0, 0);
    assert!(case.good(&["log", "info"]).contains("size 2"));

    let shown: Value = serde_json::from_str(&case.good(&["trust", "show", "-o", "json"])).unwrap();
    assert_eq!(shown["schema"], "countersign.trust/1");
    assert_eq!(shown["source"], "root-file");
    assert_eq!(shown["instance"], by_url);
    assert_eq!(shown["versions"]["root"], 1);
    let kinds: Vec<&str> =
        shown["elements"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        ["log", "log", "certificate authority", "certificate log", "timestamp authority"]
    );
    assert!(case.good(&["trust", "show"]).contains("metadata expires"));

    let other = countersign_testkit::Instance::new().trusted_root().into_bytes();
    case.repository.files.insert("trusted_root.json".to_owned(), other);
    case.repository.rotate();
    case.repository.advance();
    case.server.serve(&case.repository.served);
    let text = case.good(&["trust", "update"]);
    for line in ["root 1 -> 2", "timestamp 1 -> 2", "targets 1 -> 2", "  + log ", "  - log "] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    assert!(case.good(&["trust", "update"]).contains("the same keys"));
    // Another instance's trust is another answer.
    assert_eq!(verdict(&case.verify(&[])).0, 1);
}

#[test]
fn whoever_names_trust_gets_no_other_and_show_tells_which() {
    let case = Case::new();
    let root = case.path("dev/trust/trusted_root.json");
    let config = case.path("dev/trust/client_trust_config.json");
    for (args, source) in [
        (["--trusted-root", &root], "trusted-root"),
        (["--trust-config", &config], "trust-config"),
        (["--instance", &case.dev.url], "development"),
    ] {
        let text = case.good(&[&["trust", "show", "-o", "json"], &args[..]].concat());
        let shown: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&shown["source"], &shown["refreshed"]), (&source.into(), &Value::Null));
    }
    let mut command = case.command(env!("CARGO_BIN_EXE_countersign"), &["trust", "show"]);
    let output = command.env("COUNTERSIGN_TRUSTED_ROOT", &root).output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("trusted root "));

    // Protobuf's own names do as well.
    let own = fs::read_to_string(&config).unwrap();
    let own = own.replace("trustedRoot", "trusted_root").replace("signingConfig", "signing_config");
    fs::write(case.path("own.json"), own).unwrap();
    let own = case.path("own.json");
    case.good(&["trust", "show", "--trust-config", &own]);
    for file in [&root, &config, &own] {
        assert!(case.good(&["trust", "init", "--file", file]).contains("never refreshed"));
        assert_fails(&case.run(&["trust", "update"]), 2, "trust init --file");
    }
    case.sign();
    assert_eq!(verdict(&case.verify(&["--offline"])).0, 0);
    assert_fails(&case.run(&["trust", "init", "--file", &case.path("artifact")]), 2, "expected a");
}

#[test]
fn show_tells_of_an_authority_that_nothing_is_verified_by() {
    let case = Case::new();
    let wild = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/wild");
    let root = wild.join("other-certificate-log.trusted_root.json").display().to_string();
    let text = case.good(&["trust", "show", "--trusted-root", &root]);
    let told = "  nothing is verified by it: certChain: expected the critical extended key usage timeStamping and no other";
    assert!(text.contains("unfit: timestamp authority") && text.contains(told), "{text}");
    let json = case.good(&["trust", "show", "--trusted-root", &root, "-o", "json"]);
    let shown: Value = serde_json::from_str(&json).unwrap();
    let elements = shown["elements"].as_array().unwrap().iter();
    let unfit: Vec<_> = elements.filter(|element| element["unfit"].is_string()).collect();
    assert_eq!((unfit.len(), &unfit[0]["status"]), (1, &"unfit".into()));
}

#[test]
fn the_token_is_not_sent_over_plain_http_beyond_this_machine() {
    let case = Case::new();
    let text = fs::read_to_string(case.path("dev/trust/client_trust_config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    // For documentation (RFC 5737): nobody is there.
    config["signingConfig"]["caUrls"][0]["url"] = "http://192.0.2.1:1".into();
    fs::write(case.path("config.json"), config.to_string()).unwrap();
    let (config, artifact) = (case.path("config.json"), case.path("artifact"));
    let token = case.dev.token(EMAIL);
    let args = ["sign-blob", "--trust-config", &config, "--timeout", "100ms"];
    let args = [&args[..], &["--identity-token", &token, &artifact]].concat();
    assert_fails(&case.run(&args), 2, "expected https for the certificate authority");
    let image = format!("127.0.0.1:1/image@sha256:{}", "0".repeat(64));
    let signed = ["sign", "--trust-config", &config, "--identity-token", &token, &image];
    assert_fails(&case.run(&signed), 2, "expected https for the certificate authority");
    let allowed = [&args[..], &["--allow-http-ca"]].concat();
    let output = case.run(&allowed);
    assert_fails(&output, 2, "192.0.2.1");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("expected https"), "{output:?}");
}

#[test]
fn without_stored_trust_the_error_names_the_command_that_makes_it() {
    let case = Case::new();
    case.init();
    case.sign();
    fs::remove_dir_all(case.path("trust")).unwrap();
    assert_fails(&case.verify(&[]), 2, "countersign trust init");
    assert_fails(&case.run(&["log", "info"]), 2, "countersign trust init");
    assert_fails(&case.run(&["trust", "update"]), 2, "countersign trust init");
    assert_fails(&case.run(&["trust", "show"]), 2, "countersign trust init");
}

#[test]
fn nothing_is_trusted_on_first_use() {
    let case = Case::new();
    let url = &case.server.url;
    assert_fails(&case.run(&["trust", "init", url]), 2, "--root FILE or --fingerprint");
    assert_eq!(case.server.requests(), 0);
    let zeros = format!("sha256:{}", "0".repeat(64));
    let wrong = case.run(&["trust", "init", url, "--fingerprint", &zeros]);
    assert_fails(&wrong, 1, "expected a root.json with SHA-256 000");
    let malformed = case.run(&["trust", "init", url, "--fingerprint", "sha256:00"]);
    assert_fails(&malformed, 2, "64 hexadecimal digits");
    assert!(!Path::new(&case.path("trust/default")).exists());

    let digest = Command::new("sha256sum").arg(case.path("root.json")).output().unwrap();
    let digest = String::from_utf8(digest.stdout).unwrap();
    let good = format!("sha256:{}", digest.split(' ').next().unwrap());
    case.good(&["trust", "init", url, "--fingerprint", &good]);
    case.good(&["trust", "show"]);
}

#[test]
fn old_trust_is_refreshed_then_warned_of_then_refused() {
    let case = Case::new();
    case.init();
    case.sign();
    let now = Timestamp::now();
    case.age(now + hours(24));
    assert_eq!(verdict(&case.verify(&[])), (0, String::new()));
    assert!(case.member("refreshed") >= now, "refreshed by the way");
    let requests = case.server.requests();
    assert_eq!(verdict(&case.verify(&[])).0, 0);
    assert_eq!(case.server.requests(), requests, "and not again within a day");

    case.server.serve(&Default::default());
    for offline in [&[][..], &["--offline"]] {
        case.age(now + hours(24));
        assert_eq!(verdict(&case.verify(offline)), (0, String::new()), "{offline:?}");
        case.age(now - hours(24));
        let (status, text) = verdict(&case.verify(offline));
        assert!(status == 0 && text.starts_with("warning: trust expired on"), "{text}");
        case.age(now - hours(8 * 24));
        assert_fails(&case.verify(offline), 2, "countersign trust update");
    }
    assert!(case.good(&["trust", "show"]).contains("refused: run"), "shown although refused");
    case.server.serve(&case.repository.served);
    assert_eq!(verdict(&case.verify(&[])), (0, String::new()), "back by itself");
}

#[test]
fn a_refresh_nobody_asked_for_is_short_and_an_attack_is_told() {
    let mut case = Case::new();
    case.repository.advance();
    case.server.serve(&case.repository.served);
    case.init();
    case.sign();
    let soon = Timestamp::now() + hours(24);
    case.age(soon);
    case.server.behave(Behaviour::Silent);
    let start = Instant::now();
    assert_eq!(verdict(&case.verify(&[])), (0, String::new()));
    assert!(start.elapsed() < Duration::from_secs(7), "{:?}", start.elapsed());
    let start = Instant::now();
    assert_eq!(verdict(&case.verify(&[])), (0, String::new()));
    assert!(start.elapsed() < Duration::from_secs(2), "not tried again at once");

    case.server.behave(Behaviour::Good);
    case.repository.timestamp -= 1;
    case.repository.publish();
    case.server.serve(&case.repository.served);
    case.age(soon);
    let (status, text) = verdict(&case.verify(&[]));
    assert!(status == 0 && text.contains("rollback detected"), "{text}");
    assert_fails(&case.run(&["trust", "update"]), 1, "rollback detected");
}

#[test]
fn no_network_call_is_made_when_none_may_be() {
    let case = Case::new();
    case.init();
    case.sign();
    let root = case.path("dev/trust/trusted_root.json");
    let config = case.path("dev/trust/client_trust_config.json");
    let isolated = Command::new("unshare").args(["-rn", "true"]).status();
    let isolated = isolated.is_ok_and(|status| status.success());
    if !isolated {
        eprintln!("skipped in part: unshare -rn does not work here");
    }
    // Long due, so that whatever may be refreshed would be.
    case.age(Timestamp::now() + hours(1));
    let requests = case.server.requests();
    let artifact = case.path("artifact");
    for trust in [&["--offline"][..], &["--trusted-root", &root], &["--trust-config", &config]] {
        let args = case.verify_args(&artifact, trust);
        assert_eq!(verdict(&case.run(&args)), (0, String::new()), "{trust:?}");
        if isolated {
            let args = [&["-rn", env!("CARGO_BIN_EXE_countersign")], &args[..]].concat();
            let output = case.command("unshare", &args).output().unwrap();
            assert_eq!(verdict(&output), (0, String::new()), "{trust:?}");
        }
    }
    assert_eq!(case.server.requests(), requests);
    assert_eq!(verdict(&case.verify(&[])).0, 0);
    assert!(case.server.requests() > requests, "without these flags it is refreshed");
}

#[test]
fn processes_at_once_and_one_that_is_killed_leave_good_trust() {
    let mut case = Case::new();
    case.init();
    case.sign();
    let update = || {
        let mut command = case.command(env!("CARGO_BIN_EXE_countersign"), &["trust", "update"]);
        command.stdout(Stdio::null()).spawn().unwrap()
    };
    let mut updates: Vec<_> = (0..4).map(|_| update()).collect();
    assert_eq!(verdict(&case.verify(&[])), (0, String::new()));
    assert!(updates.iter_mut().all(|child| child.wait().unwrap().success()));

    case.server.behave(Behaviour::Silent);
    let mut stuck = update();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(verdict(&case.verify(&[])), (0, String::new()), "readers do not wait");
    stuck.kill().unwrap();
    stuck.wait().unwrap();
    case.server.behave(Behaviour::Good);
    case.repository.advance();
    case.server.serve(&case.repository.served);
    assert!(case.good(&["trust", "update"]).contains("timestamp 1 -> 2"));
    assert_eq!(verdict(&case.verify(&[])), (0, String::new()));
}
