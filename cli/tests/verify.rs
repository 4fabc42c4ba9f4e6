//! `verify-blob` and `verify-blob-attestation` without any server: whom they accept, many files at once,
//! attestations, managed keys, cosign's own bundles, and the conformance suite's commands.

mod common;

use common::{assert_fails, clean, verdict};
use countersign_testkit::{Instance, Shape, Signer};
use countersign_verify::encoding::hex;
use countersign_verify::key::{HashAlgorithm, KeyDetails};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const IDENTITY: &str = "https://git.example.test/acme/.ci.yml@refs/tags/v1";
const ISSUER: &str = "https://issuer.example.test";
const PREDICATE: &str = "https://example.test/predicate";
const WHOM: [&str; 4] = ["--certificate-identity", IDENTITY, "--certificate-oidc-issuer", ISSUER];

/// Files, and an instance that signed them.
struct World {
    folder: tempfile::TempDir,
    instance: Instance,
    signer: Signer,
}

impl World {
    fn new() -> Self {
        let (folder, instance) = (tempfile::tempdir().unwrap(), Instance::new());
        let signer = instance.certify(IDENTITY, ISSUER);
        let world = Self { folder, instance, signer };
        world.write("root.json", world.instance.trusted_root());
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn bundle(&self, content: &str, shape: usize) -> String {
        self.instance.make(&self.signer, content.as_bytes(), &Shape::ALL[shape]).to_string()
    }

    /// A file with its bundle beside it.
    fn signed(&self, name: &str, content: &str) -> PathBuf {
        self.write(&format!("{name}.sigstore.json"), self.bundle(content, 0));
        self.write(name, content)
    }

    /// `verb` in the folder, with the trusted root.
    fn run(&self, verb: &str, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.current_dir(self.folder.path()).args([verb, "--trusted-root", "root.json"]);
        clean(command.args(args)).output().unwrap()
    }

    fn verify(&self, args: &[&str]) -> Output {
        self.run("verify-blob", &[&WHOM, args].concat())
    }

    fn key(&self, name: &str, signer: &Signer) -> PathBuf {
        use countersign_verify::entry::Verifier;
        self.write(name, Verifier::PublicKey(&signer.spki()).to_pem())
    }
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn accepted(output: &Output) {
    assert_eq!(verdict(output).0, 0, "{output:?}");
}

/// The verdicts of many results, by file.
fn verdicts(output: &Output) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let results = report(output)["results"].as_array().unwrap().clone();
    results
        .iter()
        .map(|result| {
            let word = if result["code"].is_null() { &result["verdict"] } else { &result["code"] };
            (text(&result["file"]), text(word))
        })
        .collect()
}

fn expect(found: &Output, status: i32, expected: &[(&str, &str)]) {
    let text = |&(file, word): &(&str, &str)| (file.to_owned(), word.to_owned());
    assert_eq!(verdicts(found), expected.iter().map(text).collect::<Vec<_>>());
    assert_eq!(verdict(found).0, status);
}

#[test]
fn whom_the_flags_name_is_accepted_and_nobody_else() {
    let world = World::new();
    world.signed("file", "content");
    let run = |args: &[&str]| world.run("verify-blob", &[args, &["file"]].concat());
    let issuer = ["--certificate-oidc-issuer", ISSUER];
    for identity in [
        &["--certificate-identity", IDENTITY][..],
        &["--certificate-identity", "https://other.test", "--certificate-identity", IDENTITY],
        &["--certificate-identity-regexp", r"https://git\.example\.test/acme/.*"],
        &["--certificate-identity-regexp", r"^https://git\.example\.test/acme/.*$"],
        &["--certificate-identity", IDENTITY, "--certificate-identity-regexp", ".*"],
    ] {
        accepted(&run(&[identity, &issuer].concat()));
    }
    accepted(&run(&[
        "--certificate-identity",
        IDENTITY,
        "--certificate-oidc-issuer-regexp",
        r"https://issuer\..*",
    ]));
    let claim = ["--certificate-claim", "sourceRepositoryURI=https://git.example.test/acme/widget"];
    accepted(&run(&[&WHOM[..], &claim].concat()));

    for (identity, expected) in [
        (
            &["--certificate-identity-regexp", r"https://git\.example\.test/acme"][..],
            "must match the whole",
        ),
        (&["--certificate-identity-regexp", "nobody"], "certificate-identity: expected \"nobody\""),
        (
            &["--certificate-identity", IDENTITY, "--certificate-identity-regexp", "nobody"],
            "\"nobody\"",
        ),
        (&["--certificate-identity", "a", "--certificate-identity", "b"], "expected \"a\""),
    ] {
        assert_fails(&run(&[identity, &issuer].concat()), 1, expected);
    }
    for (flag, expected) in [
        (
            ["--certificate-claim", "sourceRepositoryURI=https://git.example.test/acme/other"],
            "found \"https://git.example.test/acme/widget\"",
        ),
        (["--certificate-github-workflow-repository", "acme/widget"], "no such claim"),
        (["--certificate-github-workflow-ref", "refs/heads/main"], "no such claim"),
        (["--certificate-github-workflow-sha", "0000"], "no such claim"),
        (["--certificate-github-workflow-name", "release"], "no such claim"),
        (["--certificate-github-workflow-trigger", "push"], "no such claim"),
    ] {
        assert_fails(&run(&[&WHOM[..], &flag].concat()), 1, expected);
    }
    let pairs = [
        "--certificate-identity",
        "a",
        "--certificate-oidc-issuer",
        ISSUER,
        "--certificate-identity",
        IDENTITY,
        "--certificate-oidc-issuer",
    ];
    assert_fails(&run(&[&pairs[..], &["https://other.test"]].concat()), 1, "certificate-");
    accepted(&run(&[&pairs[..], &[ISSUER]].concat()));
}

#[test]
fn flags_that_make_no_sense_are_usage_errors() {
    let world = World::new();
    world.signed("file", "content");
    let key = world.key("key.pub", &Signer::with_key(KeyDetails::EcdsaP256Sha256));
    let key = key.to_str().unwrap();
    for (args, expected) in [
        (
            &["--certificate-identity-regexp", "(", "--certificate-oidc-issuer", ISSUER][..],
            "not a regular expression",
        ),
        (
            &["--certificate-identity", IDENTITY, "--certificate-oidc-issuer-regexp", ""],
            "whom do you expect?",
        ),
        (&["--key", key, "--certificate-identity", IDENTITY], "exclude each other"),
        (&["--key", "missing.pub"], "cannot read"),
        (&["--key", "root.json"], "PUBLIC KEY"),
        (&["--key", "env://NOT_SET"], "not set"),
        (&["--certificate-claim", "nonsense=1", WHOM[0], WHOM[1], WHOM[2], WHOM[3]], "NAME=VALUE"),
    ] {
        assert_fails(&world.run("verify-blob", &[args, &["file"]].concat()), 2, expected);
    }
}

#[test]
fn files_patterns_and_directories_are_verified_in_one_call() {
    let world = World::new();
    for name in ["dist/a", "dist/b", "dist/deep/c"] {
        world.signed(name, name);
    }
    let all = [("dist/a", "accepted"), ("dist/b", "accepted"), ("dist/deep/c", "accepted")];
    let json = ["--output", "json"];
    expect(&world.verify(&[&["dist"][..], &json].concat()), 0, &all);
    expect(&world.verify(&[&["dist/*"][..], &json].concat()), 0, &all);
    let text = world.verify(&["dist"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.contains("3 verified, 0 refused, 0 undecided") && text.contains(IDENTITY),
        "{text}"
    );

    world.write("dist/b", "altered");
    world.write("dist/unsigned", "x");
    let mixed = [
        ("dist/a", "accepted"),
        ("dist/b", "ARTIFACT_MISMATCH"),
        ("dist/deep/c", "accepted"),
        ("dist/unsigned", "UNREADABLE"),
    ];
    expect(&world.verify(&[&["dist"][..], &json].concat()), 1, &mixed);
    fs::remove_file(world.path("dist/b")).unwrap();
    fs::remove_file(world.path("dist/b.sigstore.json")).unwrap();
    let rest = [mixed[0], mixed[2], mixed[3]];
    expect(&world.verify(&[&["dist"][..], &json].concat()), 2, &rest);
    assert_fails(&world.verify(&["nothing*"]), 2, "no file matches");
    assert_fails(&world.verify(&["dist/unsigned"]), 2, "no bundle");
}

#[test]
fn a_thousand_files_are_verified_in_one_call() {
    let world = World::new();
    let bundle = world.bundle("same", 0);
    for number in 0..1000 {
        world.write(&format!("many/{number}"), "same");
        world.write(&format!("many/{number}.sigstore.json"), &bundle);
    }
    world.write("many/500", "altered");
    let output = world.verify(&["many", "--output", "json"]);
    let report = report(&output);
    assert_eq!((&report["accepted"], &report["refused"]), (&999.into(), &1.into()));
    assert_eq!(verdict(&output).0, 1);
}

#[test]
fn a_signed_list_of_digests_covers_its_files() {
    let world = World::new();
    let line = |name: &str, content: &str| {
        format!("{}  {name}\n", hex(&HashAlgorithm::Sha256.digest(content.as_bytes())))
    };
    for name in ["a", "b"] {
        world.write(&format!("dist/{name}"), name);
    }
    let long = hex(&HashAlgorithm::Sha512.digest(b"c"));
    world.write("dist/c", "c");
    let list = [line("a", "a"), line("b", "b"), format!("{long} *c\n")].concat();
    world.signed("dist/SHA256SUMS", &list);
    let list = ["--checksums", "dist/SHA256SUMS", "--output", "json"];
    let head = ("dist/SHA256SUMS", "accepted");
    let all = [head, ("dist/a", "accepted"), ("dist/b", "accepted"), ("dist/c", "accepted")];
    expect(&world.verify(&list), 0, &all);
    expect(&world.verify(&[&list[..], &["dist/b"]].concat()), 0, &[head, all[2]]);

    // The list stands for itself where it is found among the files; a folder that is elsewhere is told.
    expect(&world.verify(&[&list[..], &["dist"]].concat()), 0, &all);
    assert_eq!(verdict(&world.verify(&[&list[..], &["./dist"]].concat())).0, 0);
    let walked = ["--checksums", "./dist/SHA256SUMS", "dist"];
    assert_eq!(verdict(&world.verify(&walked)).0, 0);
    std::os::unix::fs::symlink("..", world.path("dist/link")).unwrap();
    assert_eq!(verdict(&world.verify(&[&list[..], &["dist"]].concat())).0, 1);
    fs::remove_file(world.path("dist/link")).unwrap();
    // One listed file in another's place.
    fs::rename(world.path("dist/a"), world.path("a")).unwrap();
    std::os::unix::fs::symlink("b", world.path("dist/a")).unwrap();
    let swapped = [head, ("dist/a", "CHECKSUM_MISMATCH"), all[2], all[3]];
    expect(&world.verify(&list), 1, &swapped);
    fs::remove_file(world.path("dist/a")).unwrap();

    world.write("dist/a", "altered");
    world.write("dist/other", "x");
    fs::remove_file(world.path("dist/c")).unwrap();
    let bad = [head, ("dist/a", "CHECKSUM_MISMATCH"), all[2], ("dist/c", "UNREADABLE")];
    expect(&world.verify(&list), 1, &bad);
    let other = world.verify(&[&list[..], &["dist/other"]].concat());
    expect(&other, 1, &[head, ("dist/other", "CHECKSUM_MISSING")]);
    // A list that was altered speaks for nothing.
    world.write("dist/SHA256SUMS", line("a", "altered"));
    expect(&world.verify(&list), 1, &[("dist/SHA256SUMS", "ARTIFACT_MISMATCH")]);
    // Nor does one that somebody else signed.
    world.signed("dist/SHA256SUMS", "not a list");
    assert_fails(&world.verify(&list), 2, "line 1");
}

#[test]
fn of_a_collection_the_bundles_about_a_file_count() {
    let world = World::new();
    let other = world.instance.certify("https://git.example.test/evil", ISSUER);
    let evil = world.instance.make(&other, b"a", &Shape::ALL[0]).to_string();
    let lines =
        [evil.clone(), world.bundle("b", 2), world.bundle("a", 0), String::new()].join("\n");
    world.write("all.jsonl", &lines);
    for name in ["a", "b", "c"] {
        world.write(name, name);
    }
    let args = ["--bundle", "all.jsonl", "--output", "json"];
    let found = world.verify(&[&args[..], &["a", "b", "c"]].concat());
    let expected = [("a", "accepted"), ("b", "CONTENT_MISMATCH"), ("c", "BUNDLE_MISSING")];
    expect(&found, 1, &expected);
    assert_eq!(report(&found)["results"][0]["bundle"], "all.jsonl:3");
    let attested = [&WHOM[..], &args, &["--type", PREDICATE, "a", "b"]].concat();
    expect(
        &world.run("verify-blob-attestation", &attested),
        1,
        &[("a", "CONTENT_MISMATCH"), ("b", "accepted")],
    );
    world.write("all.jsonl", format!("{lines}\n{{\n"));
    assert_fails(&world.verify(&["--bundle", "all.jsonl", "a"]), 2, "all.jsonl:5");
    world.write("all.jsonl", "\n");
    assert_fails(&world.verify(&["--bundle", "all.jsonl", "a"]), 2, "no bundle in it");
}

#[test]
fn an_attestation_counts_for_its_type_and_subjects_only() {
    let world = World::new();
    for (place, shape) in Shape::ALL.iter().enumerate() {
        world.write("file", "content");
        world.write("file.sigstore.json", world.bundle("content", place));
        let run =
            |verb: &str, more: &[&str]| world.run(verb, &[&WHOM[..], more, &["file"]].concat());
        let attested = |kind| run("verify-blob-attestation", &["--type", kind]);
        if shape.statement.is_some() {
            accepted(&attested(PREDICATE));
            assert_fails(
                &attested("slsaprovenance1"),
                1,
                "expected an attestation of type https://slsa.dev/provenance/v1",
            );
            assert_fails(
                &run("verify-blob", &[]),
                1,
                "use verify-blob-attestation --type https://example.test/predicate",
            );
            assert_fails(
                &run("verify-blob-attestation", &[]),
                2,
                "--type https://example.test/predicate",
            );
            world.write("file", "other");
            assert_fails(&attested(PREDICATE), 1, "is about other artifacts");
        } else {
            accepted(&run("verify-blob", &[]));
            assert_fails(
                &attested(PREDICATE),
                1,
                "found a signature over the file: use verify-blob",
            );
        }
    }
    assert_fails(
        &world
            .run("verify-blob-attestation", &[&WHOM[..], &["--type", "nonsense", "file"]].concat()),
        2,
        "expected a URI or one of",
    );
}

#[test]
fn a_managed_key_verifies_what_it_signed() {
    let world = World::new();
    for details in
        [KeyDetails::EcdsaP256Sha256, KeyDetails::Ed25519Ph, KeyDetails::RsaPss2048Sha256]
    {
        let signer = Signer::with_key(details);
        world.key("key.pub", &signer);
        world.key("other.pub", &Signer::with_key(details));
        world.write("file", "content");
        let bundle = world.instance.make(&signer, b"content", &Shape::ALL[0]);
        world.write("file.sigstore.json", bundle.to_string());
        let run = |key: &str, more: &[&str]| {
            world.run("verify-blob", &[&["--key", key, "file"], more].concat())
        };
        accepted(&run("key.pub", &[]));
        let report = report(&run("key.pub", &["--output", "json"]));
        assert_eq!(report["results"][0]["signer"]["kind"], "key");
        assert_fails(&run("other.pub", &[]), 1, "the signature does not hold");
        assert_fails(&world.verify(&["file"]), 2, "the public key is needed");
        assert_fails(&world.verify(&["file"]), 2, "next: give it with --key FILE");
        // Without a log the key's word alone is taken; only when told so, and then without any trust.
        let mut alone = bundle;
        alone["verificationMaterial"]["tlogEntries"] = serde_json::json!([]);
        world.write("file.sigstore.json", alone.to_string());
        assert_fails(&run("key.pub", &[]), 1, "expected a log entry");
        accepted(&run("key.pub", &["--insecure-ignore-tlog"]));
        let path = |name: &str| world.path(name).to_str().unwrap().to_owned();
        let (key, file) = (path("key.pub"), path("file"));
        accepted(&common::run(["verify-blob", "--key", &key, "--log-threshold", "0", &file]));
    }
}

#[test]
fn a_digest_stands_for_a_file_and_is_nothing_beside_one_of_that_name() {
    let world = World::new();
    let digest = hex(&HashAlgorithm::Sha256.digest(b"content"));
    world.write("b.json", world.bundle("content", 0));
    let name = format!("sha256:{digest}");
    let verify = |name: &str| world.verify(&["--bundle", "b.json", name]);
    accepted(&verify(&name));
    assert_fails(&verify(&name.replace(&digest[..2], "00")), 1, "another artifact");
    assert_fails(&verify("sha256:00"), 2, "64 hexadecimal digits");
    assert_fails(&verify(&format!("sha512:{digest}{digest}")), 2, "digest is needed");
    let older = verify(&format!("sha1:{}", &digest[..40]));
    assert_fails(&older, 2, "as digests are taken sha256:HEX, sha384:HEX and sha512:HEX");
    // Whoever leaves a file here does not choose which of the two is verified.
    world.write(&name, "content");
    assert_fails(&verify(&name), 2, "there is a file of that name");
    accepted(&verify(&format!("./{name}")));
}

#[test]
fn checks_say_what_was_expected_and_found() {
    let world = World::new();
    world.signed("file", "content");
    let output = world.verify(&["file", "--output", "json"]);
    let result = &report(&output)["results"][0];
    let checks = result["checks"].as_array().unwrap();
    assert!(
        checks.iter().all(|check| check["expected"].is_string() && check["found"].is_string()),
        "{result}"
    );
    world.write("file", "altered");
    let output = world.verify(&["file", "--output", "json", "--explain"]);
    let result = &report(&output)["results"][0];
    let outcomes: Vec<_> = result["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| check["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes[..3], ["pass", "fail", "not-reached"]);
    assert_eq!(outcomes.len(), checks.len());
    let text = String::from_utf8(world.verify(&["file", "--explain"]).stdout).unwrap();
    assert!(
        text.contains("FAIL") && text.contains("expected: the artifact has the digest"),
        "{text}"
    );
}

/// The suite's own order of arguments.
#[test]
fn the_conformance_commands_verify() {
    let world = World::new();
    world.write("file", "content");
    world.write("b.json", world.bundle("content", 0));
    world.write("a.json", world.bundle("content", 2));
    let signer = Signer::with_key(KeyDetails::EcdsaP256Sha256);
    world.key("key.pub", &signer);
    let keyed = world.instance.make(&signer, b"content", &Shape::ALL[0]).to_string();
    world.write("k.json", &keyed);
    let digest = format!("sha256:{}", hex(&HashAlgorithm::Sha256.digest(b"content")));
    let verify = |bundle: &str, whom: &[&str], rest: &[&str]| {
        let args = ["conformance", "verify-bundle", "--bundle", bundle];
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.current_dir(world.folder.path());
        clean(command.args([&args[..], whom, rest].concat())).output().unwrap()
    };
    let root = ["--trusted-root", "root.json"];
    for bundle in ["b.json", "a.json"] {
        for file in ["file", &digest] {
            accepted(&verify(bundle, &WHOM, &[&root[..], &[file]].concat()));
        }
        let other = ["--certificate-identity", "x", "--certificate-oidc-issuer", ISSUER];
        assert_fails(
            &verify(bundle, &other, &[&root[..], &["file"]].concat()),
            1,
            "certificate-identity",
        );
        assert_fails(
            &verify(bundle, &WHOM, &[&root[..], &["root.json"]].concat()),
            1,
            "other artifact",
        );
        assert_fails(&verify(bundle, &WHOM, &["file"]), 1, "trusted root");
        assert_fails(
            &verify(bundle, &["--key", "key.pub"], &[&root[..], &["file"]].concat()),
            1,
            "certificate of its own",
        );
    }
    accepted(&verify("k.json", &["--key", "key.pub"], &[&root[..], &["file"]].concat()));
    // A key needs nobody else where the root that was given lists no log; a certificate does.
    let mut unlogged: Value = serde_json::from_str(&keyed).unwrap();
    unlogged["verificationMaterial"]["tlogEntries"] = serde_json::json!([]);
    world.write("u.json", unlogged.to_string());
    let media_type = "application/vnd.dev.sigstore.trustedroot+json;version=0.1";
    world.write("nobody.json", serde_json::json!({ "mediaType": media_type }).to_string());
    let (nobody, key) = (["--trusted-root", "nobody.json", "file"], ["--key", "key.pub"]);
    world.key("other.pub", &Signer::with_key(KeyDetails::EcdsaP256Sha256));
    accepted(&verify("u.json", &key, &nobody));
    assert_fails(&verify("u.json", &["--key", "other.pub"], &nobody), 1, "does not hold");
    assert_fails(
        &verify("u.json", &key, &["--trusted-root", "root.json", "file"]),
        1,
        "not logged",
    );
    assert_fails(&verify("b.json", &WHOM, &nobody), 1, "trusted root");
    assert_fails(
        &verify("k.json", &WHOM, &[&root[..], &["file"]].concat()),
        1,
        "the public key is needed",
    );
    assert_fails(&verify("k.json", &[], &[&root[..], &["file"]].concat()), 2, "required");
}

#[test]
fn standard_input_is_verified_with_a_bundle_named() {
    use std::io::Write as _;
    let world = World::new();
    world.write("b.json", world.bundle("content", 0));
    let verify = |content: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.current_dir(world.folder.path()).args([
            "verify-blob",
            "--trusted-root",
            "root.json",
        ]);
        clean(command.args(WHOM).args(["--bundle", "b.json", "-"]));
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
        let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(content.as_bytes()).unwrap();
        child.wait().unwrap().code()
    };
    assert_eq!((verify("content"), verify("altered")), (Some(0), Some(1)));
    assert_fails(&world.verify(&["-"]), 2, "give --bundle FILE");
}

#[test]
fn of_several_trusted_roots_each_stands_alone() {
    let (world, other) = (World::new(), World::new());
    world.signed("file", "content");
    world.write("other.json", other.instance.trusted_root());
    // In either order.
    accepted(&world.verify(&["--trusted-root", "other.json", "file"]));
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.current_dir(world.folder.path()).args(["verify-blob", "--trusted-root", "other.json"]);
    clean(command.args(WHOM).args(["--trusted-root", "root.json", "file"]));
    accepted(&command.output().unwrap());
    // Or one after the other in one file.
    let [own, foreign] = [&world, &other].map(|world| world.instance.trusted_root());
    let mut listed: Value = serde_json::from_str(&own).unwrap();
    let id = &mut listed["tlogs"][0]["logId"];
    *id = vec![id["keyId"].clone()].into();
    for (lines, expected) in [
        (listed.to_string(), 2),
        (format!("{foreign}\n{own}\n"), 0),
        (format!("{own}{foreign}"), 0),
        (format!("{foreign}\n{foreign}"), 1),
        (format!("{own}\n{{}}"), 2),
        (format!("{own}\nx"), 2),
        ("\n".to_owned(), 2),
    ] {
        world.write("lines.jsonl", &lines);
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.current_dir(world.folder.path());
        command.args(["verify-blob", "--trusted-root", "lines.jsonl"]);
        let output = clean(command.args(WHOM).arg("file")).output().unwrap();
        assert_eq!(output.status.code(), Some(expected), "{lines}: {output:?}");
    }
    // The authorities of one and the log of the other are no instance.
    let read =
        |world: &World| -> Value { serde_json::from_str(&world.instance.trusted_root()).unwrap() };
    let (mut half, mut rest) = (read(&world), read(&other));
    std::mem::swap(&mut half["tlogs"], &mut rest["tlogs"]);
    world.write("root.json", half.to_string());
    world.write("rest.json", rest.to_string());
    let refused = world.verify(&["--trusted-root", "rest.json", "file"]);
    assert_fails(&refused, 1, "expected an entry of one of the trusted root's logs");
}

/// GitHub signs each immutable release: no log, and a certificate that names no issuer.
#[test]
fn a_release_of_github_is_verified_with_the_flags_that_are_shown() {
    const TYPE: &str = "https://in-toto.io/attestation/release/v0.1";
    const ARTIFACT: &str =
        "sha256:e15b593c6ab8d7725a3cc82226ef816cac6bf9c70eed383bd459295cc65f5ec3";
    let wild = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/wild");
    let verify = |whom: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.current_dir(&wild).args(["verify-blob-attestation", "--type", TYPE]);
        command.args(["--bundle", "github-immutable-release.sigstore.json"]);
        command.args(["--trusted-root", "github.trusted_root.json", "--log-threshold", "0"]);
        command.args(["--certificate-log-threshold", "0"]).args(whom).arg(ARTIFACT);
        clean(&mut command).output().unwrap()
    };
    let shown = "--certificate-identity https://dotcom.releases.github.com --certificate-oidc-issuer-regexp '.*'";
    assert_fails(&verify(&[]), 2, shown);
    let flags = shown.replace('\'', "");
    let output = verify(&flags.split(' ').collect::<Vec<_>>());
    accepted(&output);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("according to an issuer that it does not name"), "{text}");
    let other = flags.replace(".*", "https://.*");
    assert_fails(&verify(&other.split(' ').collect::<Vec<_>>()), 1, "certificate-oidc-issuer");
}
