//! The commands as their users meet them: what they print, and their exit status, for good input and bad.

mod common;

use common::{Dev, assert_fails, clean, run, verdict};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const EMAIL: &str = "you@example.com";

/// An instance, and a file that is signed with it.
struct Signed {
    folder: tempfile::TempDir,
    dev: Dev,
    file: PathBuf,
    bundle: PathBuf,
}

impl Signed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dev = Dev::start(&folder.path().join("dev"));
        let file = folder.path().join("artifact");
        fs::write(&file, "the artifact").unwrap();
        let output = dev.sign(&file, EMAIL);
        assert_eq!(verdict(&output).0, 0, "{output:?}");
        let bundle = folder.path().join("artifact.sigstore.json");
        Self { folder, dev, file, bundle }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&fs::read(&self.bundle).unwrap()).unwrap()
    }

    /// Arguments that verify the file, and more.
    fn verify(&self, more: &[&str]) -> std::process::Output {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let mut args = vec!["verify-blob".to_owned(), "--trust-config".to_owned()];
        args.extend([text(&self.dev.config()), text(&self.file)]);
        args.extend(more.iter().map(|&arg| arg.to_owned()));
        run(args)
    }
}

#[test]
fn what_was_signed_verifies_and_says_so_for_people_and_machines() {
    let signed = Signed::new();
    let identity = ["--certificate-identity", EMAIL, "--certificate-oidc-issuer", &signed.dev.url];
    let output = signed.verify(&identity);
    assert_eq!(verdict(&output).0, 0, "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("verified") && text.contains(EMAIL), "{text}");

    let output = signed.verify(&[&identity[..], &["--output", "json"]].concat());
    assert_eq!(verdict(&output).0, 0);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["schema"], "countersign.report/1");
    assert_eq!((&report["verdict"], &report["accepted"]), (&"accepted".into(), &1.into()));
    let report = &report["results"][0];
    assert_eq!(report["verdict"], "accepted");
    assert_eq!(report["signer"]["identity"], EMAIL);
    assert_eq!(report["signer"]["issuer"], signed.dev.url);
    let checks: Vec<_> = report["checks"].as_array().unwrap().iter().collect();
    let outcome = |check: &Value| if check["name"] == "witnesses" { "not-needed" } else { "pass" };
    assert!(checks.iter().all(|check| check["outcome"] == outcome(check)), "{report}");
    let names: Vec<_> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    let expected = [
        "bundle",
        "artifact",
        "signature",
        "timestamp",
        "certificate",
        "certificate-log",
        "log-entry",
        "inclusion",
        "witnesses",
        "content",
        "policy",
    ];
    assert_eq!(names, expected);

    // The digest alone verifies as well, and nothing is written to standard error.
    let digest = report["artifact"].as_str().unwrap();
    let output = signed.dev.verify(Path::new(digest), &signed.bundle, EMAIL);
    assert_eq!(verdict(&output), (0, String::new()));
}

#[test]
fn an_inspected_bundle_is_marked_as_not_verified() {
    let signed = Signed::new();
    let bundle = signed.bundle.to_str().unwrap();
    let output = run(["bundle", "inspect", bundle]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with(&format!("{bundle} (not verified)")) && text.contains(EMAIL),
        "{text}"
    );
    let output = run(["bundle", "inspect", bundle, "--output", "json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&json["verified"], &json["signer"]["identity"]),
        (&Value::Bool(false), &EMAIL.into())
    );
}

#[test]
fn without_an_expected_identity_nothing_is_verified_and_the_flags_are_shown() {
    let signed = Signed::new();
    let url = &signed.dev.url;
    let flags = format!("--certificate-identity {EMAIL} --certificate-oidc-issuer {url}");
    assert_fails(&signed.verify(&[]), 2, &flags);
    assert_fails(&signed.verify(&["--certificate-identity", EMAIL]), 2, &flags);
    let empty = ["--certificate-identity", "", "--certificate-oidc-issuer", ""];
    assert_fails(&signed.verify(&empty), 2, &flags);
}

#[test]
fn forgeries_are_refused_each_for_its_reason() {
    let signed = Signed::new();
    let dev = &signed.dev;
    let other = signed.write("other", "another artifact");
    assert_fails(&dev.verify(&other, &signed.bundle, EMAIL), 1, "is for another artifact");
    assert_fails(
        &dev.verify(&signed.file, &signed.bundle, "me@example.com"),
        1,
        "expected \"me@example.com\"",
    );
    assert_fails(
        &dev.verify(&signed.file, &signed.bundle, "YOU@example.com"),
        1,
        "certificate-identity",
    );

    let elsewhere = Signed::new();
    let refused = dev.verify(&elsewhere.file, &elsewhere.bundle, EMAIL);
    assert_fails(&refused, 1, "if the instance has changed its keys since");

    let altered = |path: &str, value: Value| {
        let mut json = signed.json();
        *json.pointer_mut(path).unwrap() = value;
        signed.write(&format!("{}.json", path.replace('/', "-")), json.to_string())
    };
    let index = "/verificationMaterial/tlogEntries/0/logIndex";
    for (bundle, expected) in [
        (altered("/mediaType", "application/json".into()), "expected a bundle of version"),
        (altered(index, "77".into()), "log index is not the entry's"),
        (
            altered("/messageSignature/signature", "MAYCAQECAQI=".into()),
            "the signature does not hold",
        ),
        (
            signed.write("cut.json", &fs::read(&signed.bundle).unwrap()[..1000]),
            "not a Sigstore bundle: verificationMaterial.certificate.rawBytes: EOF while parsing a string",
        ),
        (signed.write("text.json", "hello"), "not a Sigstore bundle"),
        (
            signed.write("empty.json", ""),
            "empty.json: the file is empty; expected a Sigstore bundle",
        ),
    ] {
        assert_fails(&dev.verify(&signed.file, &bundle, EMAIL), 1, expected);
    }
}

#[test]
fn what_cannot_be_read_is_undecided() {
    let signed = Signed::new();
    let dev = &signed.dev;
    let large = signed.write("large.json", "");
    fs::File::options().write(true).open(&large).unwrap().set_len(200 << 20).unwrap();
    assert_fails(&dev.verify(&signed.file, &large, EMAIL), 2, "the limit for it");
    let missing = signed.folder.path().join("missing");
    assert_fails(&dev.verify(&signed.file, &missing, EMAIL), 2, "cannot read");
    assert_fails(&dev.verify(&missing, &signed.bundle, EMAIL), 2, "cannot read");
    let empty = signed.folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert_fails(&dev.verify(&empty, &signed.bundle, EMAIL), 2, "has no files in it");
    assert_fails(
        &dev.verify(Path::new("sha256:abc"), &signed.bundle, EMAIL),
        2,
        "64 hexadecimal digits",
    );
    assert_fails(&run(["verify-blob", "--nonsense"]), 2, "--nonsense");
    let identity = ["--certificate-identity", EMAIL, "--certificate-oidc-issuer", "https://x"];
    let file = signed.file.to_str().unwrap();
    assert_fails(
        &run([&["verify-blob", file][..], &identity].concat()),
        2,
        "no trust is configured",
    );
    let root = signed.write("root.json", "{}");
    let root = ["--trusted-root", root.to_str().unwrap()];
    assert_fails(
        &run([&["verify-blob", file][..], &identity, &root].concat()),
        2,
        "not a trusted root",
    );
}

#[test]
fn verifying_offline_needs_no_server() {
    let mut signed = Signed::new();
    signed.dev.kill();
    let identity = ["--certificate-identity", EMAIL, "--certificate-oidc-issuer", &signed.dev.url];
    assert_eq!(verdict(&signed.verify(&[&identity[..], &["--offline"]].concat())).0, 0);
}

#[test]
fn a_bundle_that_could_not_be_kept_is_not_logged() {
    let signed = Signed::new();
    let (size, token) = (signed.dev.size(), signed.dev.token(EMAIL));
    let config = signed.dev.config();
    let nowhere = signed.file.join("bundle.json");
    for (bundle, expected) in
        [(nowhere.as_path(), "cannot write to"), (signed.folder.path(), "is a directory")]
    {
        let output = run([
            "sign-blob",
            "--trust-config",
            config.to_str().unwrap(),
            "--identity-token",
            &token,
            "--bundle",
            bundle.to_str().unwrap(),
            signed.file.to_str().unwrap(),
        ]);
        assert_fails(&output, 2, expected);
    }
    assert_eq!(signed.dev.size(), size);
}

#[test]
fn a_token_that_is_none_or_for_others_signs_nothing() {
    let signed = Signed::new();
    let config = signed.dev.config();
    let sign = |token: &str| {
        let (config, file) = (config.to_str().unwrap(), signed.file.to_str().unwrap());
        run(["sign-blob", "--trust-config", config, "--identity-token", token, file])
    };
    assert_fails(&sign("nonsense"), 2, "neither an identity token nor a file");
    let (status, body) =
        signed.dev.request("GET /ci/actions?audience=other", "Authorization: Bearer x\r\n", "");
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    let size = signed.dev.size();
    assert_fails(
        &sign(body["value"].as_str().unwrap()),
        1,
        "expected \"sigstore\", found \"other\"",
    );
    assert_eq!(signed.dev.size(), size);
    assert_eq!(signed.dev.record(&["--rule", "WRONG_AUDIENCE"]).len(), 1, "refusals are on record");
    // In a job without the permission the message shows what to add.
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    let output =
        clean(command.arg("sign-blob").arg("--trust-config").arg(&config).arg(&signed.file))
            .env("GITHUB_ACTIONS", "true")
            .output()
            .unwrap();
    assert_fails(&output, 2, "id-token: write");
}

#[test]
fn what_a_token_would_get_is_explained_by_the_instance_or_by_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder.path().join("dev"));
    let token = dev.token("you@example.com");
    let before = dev.record(&[]);
    let explain =
        |token: &str, more: &[&str]| run([&["ca", "explain-token", token][..], more].concat());
    let asked = explain(&token, &["--instance", &dev.url]);
    let text = String::from_utf8(asked.stdout).unwrap();
    assert!(asked.status.success(), "{text}");
    assert!(
        text.contains("you@example.com (email)") && text.contains("policy        accepted"),
        "{text}"
    );
    // The same without a network: by a configuration, unverified.
    let config = folder.path().join("fulcio.yaml");
    let issuer = format!("{{client-id: sigstore, type: email, issuer-url: '{}'}}", dev.url);
    fs::write(&config, format!("oidc-issuers:\n  {}: {issuer}\n", dev.url)).unwrap();
    let by_config = ["--fulcio-config", config.to_str().unwrap(), "--output", "json"];
    let told: Value = serde_json::from_slice(&explain(&token, &by_config).stdout).unwrap();
    assert_eq!(
        (&told["schema"], &told["verified"]),
        (&"countersign.token/1".into(), &false.into())
    );
    assert_eq!(
        (&told["identity"], &told["issuer"]),
        (&"you@example.com".into(), &dev.url[..].into())
    );
    let (head, tail) = token.rsplit_once('.').unwrap();
    let forged = format!("{head}.A{tail}");
    assert_fails(&explain(&forged, &["--instance", &dev.url]), 1, "signature does not hold");
    let refused = explain("nonsense", &["--instance", &dev.url]);
    assert_fails(&refused, 2, "the value given is neither an identity token nor a file");
    assert!(!verdict(&refused).1.contains("nonsense"), "it may be a secret");
    fs::write(&config, "oidc-issuers:\n  https://a.example: {client-id: a, type: emial}\n")
        .unwrap();
    assert_fails(
        &explain(&token, &by_config),
        2,
        "line 2, oidc-issuers.https://a.example: unknown type \"emial\"",
    );
    assert_eq!(dev.record(&[]), before, "nothing was issued");
}

#[test]
fn a_job_gets_its_token_from_the_request_url() {
    let signed = Signed::new();
    let url = format!("{}/ci/actions?repository=acme/tool&ref=refs/tags/v2", signed.dev.url);
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.arg("sign-blob").arg("--trust-config").arg(signed.dev.config()).arg(&signed.file);
    command.args(["--output", "json"]);
    let output = clean(&mut command)
        .env("ACTIONS_ID_TOKEN_REQUEST_URL", url)
        .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "development")
        .output()
        .unwrap();
    assert_eq!(verdict(&output).0, 0, "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = "https://github.com/acme/tool/.github/workflows/release.yml@refs/tags/v2";
    let signer = &report["results"][0]["signer"];
    assert_eq!(signer["identity"], expected);
    assert_eq!(signer["claims"]["sourceRepositoryRef"], "refs/tags/v2");
}

#[test]
fn an_instance_continues_its_logs_and_keys_and_has_its_directory_to_itself() {
    let mut signed = Signed::new();
    let root = fs::read(signed.dev.dir.join("trust/trusted_root.json")).unwrap();
    let dir = signed.dev.dir.to_str().unwrap().to_owned();
    let started = run(["dev", "--dir", &dir, "--listen", "127.0.0.1:0"]);
    let process = format!("in use by process {}", signed.dev.child.id());
    assert_fails(&started, 2, &process);
    let size = signed.dev.size();
    assert!(signed.dev.terminate(), "stops well when asked to");

    let again = Dev::start(&signed.dev.dir);
    assert_eq!((again.size(), &again.url), (size, &signed.dev.url));
    assert_eq!(fs::read(again.dir.join("trust/trusted_root.json")).unwrap(), root);
    assert_eq!(verdict(&again.verify(&signed.file, &signed.bundle, EMAIL)).0, 0);
    assert_eq!(verdict(&again.sign(&signed.file, EMAIL)).0, 0);
    assert_eq!(again.size(), size + 1);
}

#[test]
fn an_address_that_is_taken_or_not_loopback_is_refused_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("dev");
    let dir = dir.to_str().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let output = run(["dev", "--dir", dir, "--listen", &address.to_string()]);
    assert_fails(&output, 2, &format!("port {} is taken", address.port()));
    let output = run(["dev", "--dir", dir, "--listen", "0.0.0.0:0"]);
    assert_fails(&output, 2, "is not a loopback address");
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let output =
        run(["dev", "--dir", file.join("dev").to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    assert_fails(&output, 2, "cannot write to");
}

#[test]
fn the_log_proves_its_entries_and_knows_its_end() {
    let signed = Signed::new();
    let config = signed.dev.config();
    let trust = ["--trust-config", config.to_str().unwrap()];
    let output = run([&["log", "prove", "1"][..], &trust].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nindex 1\n"), "{text}");
    let output = run([&["log", "get", "1"][..], &trust].concat());
    let entry: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(entry["kind"], "hashedrekord");
    assert_fails(&run([&["log", "get", "99"][..], &trust].concat()), 1, "has 2 entries");
    let output = run([&["log", "info", "--output", "json"][..], &trust].concat());
    let info: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&info["size"], &info["origin"]), (&2.into(), &"127.0.0.1".into()));
    common::settled(&signed.dev.dir, "log", 2);
    let dir = signed.dev.dir.to_str().unwrap();
    assert_eq!(verdict(&run(["log", "fsck", "--dir", dir])).0, 0);
    let tile = signed.dev.dir.join("log/tile/entries/000.part");
    let mut bytes = fs::read(&tile).unwrap();
    bytes[10] ^= 1;
    let _ = fs::remove_file(&tile);
    fs::write(&tile, bytes).unwrap();
    assert_fails(&run(["log", "fsck", "--dir", dir]), 1, "tile/entries/000.p/2");
}

#[test]
fn an_instance_that_is_away_is_undecided_and_health_says_so() {
    let mut signed = Signed::new();
    let url = signed.dev.url.clone();
    assert_eq!(verdict(&run(["health", "--instance", &url])).0, 0);
    signed.dev.kill();
    assert_fails(&run(["health", "--instance", &url]), 2, "cannot tell whether it is ready");
    assert_fails(
        &run(["log", "info", "--instance", "https://example.com"]),
        2,
        "not on this machine",
    );
}

#[test]
fn a_flag_about_trust_goes_before_the_environment() {
    let (signed, other) = (Signed::new(), Signed::new());
    let with_env = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        let command =
            clean(command.args(args)).env("COUNTERSIGN_TRUST_CONFIG", signed.dev.config());
        command.output().unwrap()
    };
    let file = signed.file.to_str().unwrap();
    let verify = ["verify-blob", file, "--certificate-identity", EMAIL];
    let verify = [&verify[..], &["--certificate-oidc-issuer", &signed.dev.url]].concat();
    assert_eq!(verdict(&with_env(&verify)).0, 0, "the environment's root is the bundle's");
    let root = other.dev.dir.join("trust/trusted_root.json");
    for flag in [["--trusted-root", root.to_str().unwrap()], ["--instance", &other.dev.url]] {
        let refused = with_env(&[&verify[..], &flag].concat());
        assert_fails(&refused, 1, "if the instance has changed its keys since");
    }
    // Nor does a signature land in the environment's log.
    let (size, token) = (signed.dev.size(), other.dev.token(EMAIL));
    let sign = ["sign-blob", "--instance", &other.dev.url, "--identity-token", &token, file];
    assert_eq!(verdict(&with_env(&sign)).0, 0);
    assert_eq!((signed.dev.size(), other.dev.size()), (size, 3));
    let both = ["--trusted-root", root.to_str().unwrap(), "--instance", &other.dev.url];
    assert_fails(&run([&verify[..], &both].concat()), 2, "cannot be used with");
}

#[test]
fn a_certificate_of_an_authority_that_is_not_trusted_is_not_logged() {
    let (signed, other) = (Signed::new(), Signed::new());
    let read =
        |path: PathBuf| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let mut config = read(signed.dev.config());
    let theirs = read(other.dev.config());
    let member = "/trustedRoot/certificateAuthorities";
    *config.pointer_mut(member).unwrap() = theirs.pointer(member).unwrap().clone();
    let config = signed.write("mixed.json", config.to_string());
    let (size, token) = (signed.dev.size(), signed.dev.token(EMAIL));
    let file = signed.file.to_str().unwrap();
    let config = ["--trust-config", config.to_str().unwrap(), "--identity-token", &token];
    let refused = run([&["sign-blob", file][..], &config].concat());
    assert_fails(&refused, 1, "nothing was logged");
    assert_eq!(signed.dev.size(), size);
}

#[test]
fn as_many_logs_as_the_signing_config_demands_or_no_signature() {
    let signed = Signed::new();
    let mut config: Value =
        serde_json::from_slice(&fs::read(signed.dev.config()).unwrap()).unwrap();
    config["signingConfig"]["rekorTlogConfig"] =
        serde_json::json!({ "selector": "EXACT", "count": 2 });
    let config = signed.write("two-logs.json", config.to_string());
    let (size, token) = (signed.dev.size(), signed.dev.token(EMAIL));
    let file = signed.file.to_str().unwrap();
    let config = ["--trust-config", config.to_str().unwrap(), "--identity-token", &token];
    assert_fails(&run([&["sign-blob", file][..], &config].concat()), 2, "expected 2");
    assert_eq!(signed.dev.size(), size);
}

#[test]
fn a_bundle_replaces_no_pipe_or_device_and_follows_a_link() {
    use std::os::unix::fs::FileTypeExt as _;
    let signed = Signed::new();
    let pipe = signed.folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (target, link) = (signed.write("target.json", ""), signed.folder.path().join("link.json"));
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let (config, token) = (signed.dev.config(), signed.dev.token(EMAIL));
    let sign = |bundle: &Path| {
        let (config, file) = (config.to_str().unwrap(), signed.file.to_str().unwrap());
        let bundle = bundle.to_str().unwrap();
        run([
            "sign-blob",
            "--trust-config",
            config,
            "--identity-token",
            &token,
            "--bundle",
            bundle,
            file,
        ])
    };
    assert_fails(&sign(&pipe), 2, "is not a regular file");
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo(), "still a pipe");
    assert_eq!(verdict(&sign(&link)).0, 0);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "still a link");
    assert_eq!(verdict(&signed.dev.verify(&signed.file, &target, EMAIL)).0, 0);
}

#[test]
fn a_url_that_was_given_is_kept_whatever_the_port() {
    use std::io::{BufRead as _, BufReader};
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.args(["dev", "--listen", "127.0.0.1:0", "--url", "http://localhost:9", "--dir"]);
    command.arg(folder.path().join("dev")).stdout(std::process::Stdio::piped());
    let mut child = clean(&mut command).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let serving = lines.find(|line| line.starts_with("Serving "));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        serving.as_ref().is_some_and(|line| line.contains("http://localhost:9 ")),
        "{serving:?}"
    );
}

#[test]
fn what_is_attested_verifies_for_each_file_and_its_type() {
    let signed = Signed::new();
    let (dev, folder) = (&signed.dev, signed.folder.path());
    let other = signed.write("other", "another file");
    signed.write("predicate.json", r#"{"builder":"me"}"#);
    let (config, token) = (dev.config(), dev.token(EMAIL));
    let attest = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.current_dir(folder).args(["attest-blob", "--trust-config"]).arg(&config);
        let command = clean(command.args(["--identity-token", &token]).args(args));
        // As what runs jobs hands over what is not configured.
        command.env("COUNTERSIGN_TIMEOUT", "").output().unwrap()
    };
    let predicate = ["--predicate", "predicate.json", "--type", "slsaprovenance1"];
    let both = [&predicate[..], &["--bundle", "both.json", "artifact", "other"]].concat();
    let output = attest(&both);
    assert_eq!(verdict(&output).0, 0, "{output:?}");
    let bundle = folder.join("both.json");
    let verify = |file: &Path, kind: &str| {
        let whom = ["--certificate-identity", EMAIL, "--certificate-oidc-issuer", &dev.url];
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.args(["verify-blob-attestation", "--type", kind]).args(whom);
        command.arg("--trust-config").arg(&config).arg("--bundle").arg(&bundle).arg(file);
        clean(&mut command).output().unwrap()
    };
    for file in [&signed.file, &other] {
        for kind in ["slsaprovenance1", "https://slsa.dev/provenance/v1"] {
            assert_eq!(verdict(&verify(file, kind)).0, 0);
        }
        assert_fails(
            &verify(file, "spdxjson"),
            1,
            "found one of type https://slsa.dev/provenance/v1",
        );
    }
    assert_fails(
        &verify(&folder.join("predicate.json"), "slsaprovenance1"),
        1,
        "about other artifacts",
    );

    let size = dev.size();
    for (args, expected) in [
        (
            &["--predicate", "predicate.json", "--type", "nonsense", "artifact"][..],
            "expected a URI",
        ),
        (&["--predicate", "artifact", "--type", "vuln", "other"], "not JSON"),
        (&["--predicate", "missing", "--type", "vuln", "other"], "cannot read"),
        (&[&predicate[..], &["artifact", "other"]].concat(), "give --bundle FILE"),
        (&[&predicate[..], &["missing"]].concat(), "cannot read"),
        (&[&predicate[..], &["artifact"]].concat(), "artifact.sigstore.json holds another"),
    ] {
        assert_fails(&attest(args), 2, expected);
    }
    assert_eq!(dev.size(), size, "nothing was signed");
    // The same again takes the place of the first; an attestation of another type does not.
    for (kind, status) in [("vuln", 0), ("vuln", 0), ("spdxjson", 2)] {
        let attested = attest(&["--predicate", "predicate.json", "--type", kind, "other"]);
        assert_eq!(verdict(&attested).0, status, "{attested:?}");
    }
}

#[test]
fn the_conformance_commands_sign_what_they_verify() {
    let signed = Signed::new();
    let (dev, folder) = (&signed.dev, signed.folder.path());
    let statement = r#"{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"artifact","digest":{"sha256":"DIGEST"}}],"predicateType":"https://slsa.dev/provenance/v1","predicate":{}}"#;
    let digest = signed.json()["messageSignature"]["messageDigest"]["digest"].clone();
    let digest = countersign_verify::encoding::from_base64(digest.as_str().unwrap()).unwrap();
    let statement = statement.replace("DIGEST", &countersign_verify::encoding::hex(&digest));
    signed.write("statement.json", statement);
    let token = dev.token(EMAIL);
    let conformance = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.current_dir(folder).arg("conformance");
        clean(command.args(args)).output().unwrap()
    };
    let trust = ["--trusted-root", "dev/trust/trusted_root.json"];
    for (kind, file) in [(&[][..], "artifact"), (&["--in-toto"], "statement.json")] {
        let token = ["--identity-token", &token, "--bundle", "b.json"];
        let services = ["--signing-config", "dev/trust/signing_config.json", file];
        let args = [&["sign-bundle"], kind, &token, &trust, &services].concat();
        let output = conformance(&args);
        assert_eq!(verdict(&output).0, 0, "{output:?}");
        let whom = ["--certificate-identity", EMAIL, "--certificate-oidc-issuer", &dev.url];
        let args = ["verify-bundle", "--bundle", "b.json"];
        let output = conformance(&[&args[..], &whom, &trust, &["artifact"]].concat());
        assert_eq!(verdict(&output).0, 0, "{output:?}");
        let output = conformance(&[&args[..], &whom, &trust, &["b.json"]].concat());
        assert_fails(&output, 1, "other artifact");
    }
}

#[test]
fn tokens_are_for_those_who_ask_this_host_by_its_name() {
    let signed = Signed::new();
    let address = signed.dev.url.strip_prefix("http://").unwrap().to_owned();
    let port = address.rsplit_once(':').unwrap().1.to_owned();
    let mint = |host: &str| {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        let body = r#"{"email":"you@example.com"}"#;
        write!(
            stream,
            "POST /dev/token HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\nX-Countersign-Development: 1\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    for host in [address.clone(), format!("localhost:{port}"), format!("[::1]:{port}")] {
        assert_eq!(mint(&host), 200, "{host}");
    }
    for host in ["evil.example.test", "127.0.0.1.evil.example.test", &format!("evil.test:{port}")] {
        assert_eq!(mint(host), 421, "{host}");
    }
}
