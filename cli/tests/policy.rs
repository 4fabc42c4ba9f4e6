//! Policies as people use them: what `policy` says of a file, what `verify-blob --policy` decides, and whom a
//! development instance certifies by one.

mod common;

use common::{Dev, assert_fails, certified_request, clean, run, signing_certificate, verdict};
use countersign_testkit::registry::Registry;
use countersign_testkit::{Instance, Signer, SigningKey};
use countersign_verify::encoding::hex;
use countersign_verify::key::{HashAlgorithm, KeyDetails};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const IDENTITY: &str = "https://git.example.test/acme/.ci.yml@refs/tags/v1";
const ISSUER: &str = "https://issuer.example.test";

/// What testkit attests is of its own type.
const POLICY: &str = "policy: tool
serial: 7
expires: 2099-01-01
owners: {roles: [ci], at-least: 1}
who:
  ci: {issuer: https://issuer.example.test, subject: 'https://git.example.test/acme/.ci.yml@refs/tags/v*'}
what:
  tools: {blobs: tool-*}
may:
  - {who: ci, do: [sign, attest 'https://example.test/predicate'], to: tools}
must:
  - name: tools are signed and attested
    every: tools
    needs:
      - signature: {by: ci}
      - attestation: {kind: 'https://example.test/predicate', by: ci}
    proof: {logged: true, timestamp: required}
    otherwise: refuse
";

struct World {
    folder: tempfile::TempDir,
    instance: Instance,
}

impl World {
    /// `tool-a`, signed and attested by CI; `tool-b`, signed by somebody else.
    fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap(), instance: Instance::new() };
        let ci = world.instance.certify(IDENTITY, ISSUER);
        let other =
            world.instance.certify("https://git.example.test/eve/.ci.yml@refs/tags/v1", ISSUER);
        world.write("root.json", &world.instance.trusted_root());
        world.write("policy.yaml", POLICY);
        world.signed("tool-a", &ci);
        world.write(
            "tool-a.provenance.sigstore.json",
            &world.instance.attest(&ci, b"tool-a").to_json(),
        );
        world.signed("tool-b", &other);
        world
    }

    fn signed(&self, name: &str, signer: &Signer) {
        self.write(name, name);
        let bundle = self.instance.sign(signer, name.as_bytes()).to_json();
        self.write(&format!("{name}.sigstore.json"), &bundle);
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        clean(command.current_dir(self.folder.path()).args(args)).output().unwrap()
    }

    fn verify(&self, args: &[&str]) -> Output {
        self.run(
            &[&["verify-blob", "--trusted-root", "root.json", "--policy", "policy.yaml"], args]
                .concat(),
        )
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn all_bundles_beside_a_file_are_evidence_for_one_decision() {
    let world = World::new();
    let accepted = world.verify(&["tool-a"]);
    assert_eq!(verdict(&accepted).0, 0, "{accepted:?}");
    let told = "allowed by tool serial 7: tools are signed and attested";
    assert!(stdout(&accepted).contains(told), "{accepted:?}");
    // Without the attestation, by its own bundle alone.
    let lacking = world.verify(&["--bundle", "tool-a.sigstore.json", "tool-a"]);
    assert_fails(
        &lacking,
        1,
        "must \"tools are signed and attested\": https://example.test/predicate by ci: there is none",
    );
    let other = world.verify(&["--output", "json", "tool-b"]);
    assert_eq!(verdict(&other).0, 1);
    let report: Value = serde_json::from_slice(&other.stdout).unwrap();
    let result = &report["results"][0];
    assert_eq!(result["code"], "POLICY_REFUSED");
    assert_eq!(result["policy"]["code"], "claim-mismatch:subject");
    assert_eq!(result["policy"]["rule"], "must \"tools are signed and attested\"");
    // What no rule is about is refused, whoever signed it.
    assert_fails(
        &world.verify(&["--name", "other", "tool-a"]),
        1,
        "no rule that refuses is about \"other\"",
    );
    let explained = world.run(&[
        "policy",
        "explain",
        "--trusted-root",
        "root.json",
        "--policy",
        "policy.yaml",
        "tool-b",
    ]);
    assert!(stdout(&explained).contains("REFUSED by tool serial 7"), "{explained:?}");
    assert!(stdout(&explained).contains("subject ..."), "{explained:?}");
    // Nor does the digest of another hash get by a digest that is barred.
    let of =
        |hash: HashAlgorithm| format!("{}:{}", hash.short_name(), hex(&hash.digest(b"tool-a")));
    let never = format!("never: [{{name: broken, digest: \"{}\"}}]\n", of(HashAlgorithm::Sha256));
    world.write("barred.yaml", &format!("{POLICY}{never}unmatched: allow\n"));
    for (artifact, status) in [("tool-a".to_owned(), 1), (of(HashAlgorithm::Sha512), 2)] {
        let barred = ["verify-blob", "--trusted-root", "root.json", "--policy", "barred.yaml"];
        let output = world.run(&[&barred[..], &[&artifact]].concat());
        assert_eq!(verdict(&output).0, status, "{output:?}");
    }
    // A bundle that does not hold is no evidence, and does not stop what does.
    let broken = fs::read_to_string(world.folder.path().join("tool-b.sigstore.json")).unwrap();
    world.write("tool-a.broken.sigstore.json", &broken);
    let explained = world.verify(&["--explain", "tool-a"]);
    assert_eq!(verdict(&explained).0, 0, "{explained:?}");
    assert!(
        stdout(&explained).contains("tool-a.broken.sigstore.json is no evidence"),
        "{explained:?}"
    );
}

#[test]
fn what_was_decided_is_recorded_and_replayed_by_another_policy() {
    let world = World::new();
    world.verify(&["--record-facts", "facts.jsonl", "tool-a", "tool-b"]);
    world.write("next.yaml", &POLICY.replace("refs/tags/v*'", "refs/heads/main'"));
    let replay = |new: &str| {
        stdout(&world.run(&[
            "policy",
            "replay",
            new,
            "--against",
            "policy.yaml",
            "--facts",
            "facts.jsonl",
        ]))
    };
    assert_eq!(replay("policy.yaml"), "2 decided, 0 changed\n");
    let changed = replay("next.yaml");
    assert!(changed.contains("1: allowed -> refused (claim-mismatch:subject)"), "{changed}");
    assert!(changed.ends_with("2 decided, 1 changed\n"), "{changed}");
    // A record goes on.
    world.verify(&["--record-facts", "facts.jsonl", "tool-a"]);
    assert_eq!(replay("policy.yaml"), "3 decided, 0 changed\n");
    let nothing = world.run(&["policy", "replay", "next.yaml", "--against", "policy.yaml"]);
    assert_fails(&nothing, 2, "--over log:30d");
    let image = ["policy", "explain", "--policy", "policy.yaml", "registry.example/acme/pay:v1"];
    assert_fails(&world.run(&image), 2, "countersign verify --policy FILE --explain");
}

/// Whoever wrote the folder would otherwise choose the rules.
#[test]
fn a_layout_does_not_say_itself_by_which_rules_it_is_judged() {
    let world = World::new();
    let manifest = json!({ "schemaVersion": 2, "layers": [],
        "mediaType": "application/vnd.oci.image.manifest.v1+json" });
    let manifest = manifest.to_string();
    let digest =
        countersign_verify::encoding::hex(&HashAlgorithm::Sha256.digest(manifest.as_bytes()));
    let index = json!({ "schemaVersion": 2, "manifests": [{ "size": manifest.len(),
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": format!("sha256:{digest}"),
        "annotations": { "org.opencontainers.image.ref.name": "registry.example/open/x:v1" } }] });
    fs::create_dir_all(world.folder.path().join("layout/blobs/sha256")).unwrap();
    world.write("layout/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    world.write("layout/index.json", &index.to_string());
    world.write(&format!("layout/blobs/sha256/{digest}"), &manifest);
    world.write(
        "open.yaml",
        "policy: open
serial: 1
what: {open: {images: registry.example/open/**}}
must: [{name: open, every: open, needs: [pinned: {digest: required}], otherwise: refuse, covers: true}]
",
    );
    let verify = |args: &[&str]| {
        let flags = ["verify", "--local-image", "--offline", "--trusted-root", "root.json"];
        world.run(&[&flags[..], &["--policy", "open.yaml"], args, &["layout"]].concat())
    };
    assert_fails(&verify(&[]), 1, "no rule that refuses is about \"layout\"");
    let named = verify(&["--name", "registry.example/open/x"]);
    assert_eq!(verdict(&named).0, 0, "{named:?}");
    assert_fails(&verify(&["--name", "not an image"]), 2, "--name: expected an image reference");
}

#[test]
fn mistakes_are_told_all_at_once_and_nothing_is_decided_by_them() {
    let world = World::new();
    world.write(
        "policy.yaml",
        &POLICY
            .replace("do: [sign,", "do: [sing,")
            .replace("otherwise: refuse", "otherwise: reject"),
    );
    let output = world.verify(&["tool-a"]);
    assert_fails(&output, 2, "policy.yaml has 2 mistakes, and is not taken");
    assert_fails(
        &output,
        2,
        "policy.yaml:10:20: the action \"sing\" is not known; did you mean \"sign\"?",
    );
    assert_fails(&output, 2, "policy.yaml:18:16: otherwise \"reject\" is not known");
    let unknown = world.run(&[
        "verify-blob",
        "--policy",
        "policy.yaml",
        "--certificate-identity",
        "x",
        "tool-a",
    ]);
    assert_fails(&unknown, 2, "exclude each other");
}

#[test]
fn a_policy_says_who_can_sign_what_before_anything_is_decided() {
    let world = World::new();
    let check = |args: &[&str]| world.run(&[&["policy", "check", "policy.yaml"], args].concat());
    let who = stdout(&check(&["--who-can-sign", "tool-x"]));
    for line in [
        "tool serial 7",
        "  is of class tools",
        "  ci may sign, attest https://example.test/predicate, to tools",
        "      issuer https://issuer.example.test",
    ] {
        assert!(who.contains(line), "{line}\n{who}");
    }
    assert!(stdout(&check(&["--who-can-sign", "other"])).contains("nobody's signature counts"));
    assert!(stdout(&check(&["--role", "ci"])).contains("ci may sign"));
    assert_fails(&check(&["--role", "cd"]), 2, "the policy has no role \"cd\"");
    assert_eq!(verdict(&check(&["--strict"])).0, 0);
    world.write("policy.yaml", &POLICY.replace("expires: 2099-01-01\n", ""));
    assert_fails(&check(&["--strict"]), 1, "may not be meant");
    assert!(stdout(&check(&[])).contains("policy.yaml:1:1: the policy never expires"));
}

#[test]
fn cases_are_run_and_rules_that_no_case_would_miss_are_told() {
    let world = World::new();
    let cases = "tests-for: tool
cases:
  - name: a tag passes
    given:
      artifact: {blob: tool-x}
      signatures: [{role-facts: {issuer: https://issuer.example.test, subject: 'https://git.example.test/acme/.ci.yml@refs/tags/v2'}}]
      attestations: ['https://example.test/predicate']
    expect: pass
  - name: a branch is refused
    change: {signatures.0.subject: 'https://git.example.test/acme/.ci.yml@refs/heads/main'}
    expect: {refuse: 'claim-mismatch:subject'}
";
    world.write("policy.test.yaml", cases);
    let tested = world.run(&["policy", "test", "."]);
    assert_eq!(verdict(&tested).0, 0, "{tested:?}");
    assert!(
        stdout(&tested).ends_with("2 passed, 0 failed, 0 rules that no case would miss\n"),
        "{tested:?}"
    );
    world.write("policy.test.yaml", &cases.replace("expect: pass", "expect: refuse"));
    let failed = world.run(&["policy", "test", "."]);
    assert_eq!(verdict(&failed).0, 1);
    assert!(stdout(&failed).contains("  FAILED  a tag passes"), "{failed:?}");
    assert!(stdout(&failed).contains("expected refuse, got pass"), "{failed:?}");
    assert!(stdout(&failed).ends_with("are not counted while cases fail\n"), "{failed:?}");
}

#[test]
fn a_cluster_image_policy_is_written_as_ours_with_what_changes() {
    let world = World::new();
    world.write(
        "cip.yaml",
        "apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata: {name: Apps}
spec:
  images: [{glob: 'registry.example/acme/app*'}]
  authorities: [{keyless: {url: 'https://ca.example', identities: [{issuer: https://issuer.example.test, subjectRegExp: acme}]}}]
",
    );
    let imported =
        world.run(&["policy", "import", "cip", "cip.yaml", "--name", "apps", "--to", "ours.yaml"]);
    assert_eq!(verdict(&imported).0, 0, "{imported:?}");
    assert!(verdict(&imported).1.contains("prefix-evil among them"), "{imported:?}");
    assert!(verdict(&imported).1.contains("matches a part"), "{imported:?}");
    let who =
        world.run(&["policy", "check", "ours.yaml", "--who-can-sign", "registry.example/acme/app"]);
    assert!(stdout(&who).contains("apps-authority-0 may sign, to apps"), "{who:?}");
}

/// ClusterImagePolicy is a policy wherever one is, with the meaning that it has there.
#[test]
fn a_cluster_image_policy_decides_as_it_is_or_says_what_it_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, dev) = (Registry::start(true), Dev::start(&folder.path().join("dev")));
    let (config, policy) = (dev.config(), folder.path().join("cip.yaml"));
    let image = format!("{}/acme/app:v1", registry.address);
    let _ = registry.push_image("acme/app", "v1", "app");
    let text = format!(
        "apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata: {{name: apps}}
spec:
  images: [{{glob: '{}/acme/**'}}]
  authorities:
    - keyless: {{trustRootRef: ours, identities: [{{issuer: '{}', subjectRegExp: '@acme\\.example$'}}]}}
      ctlog: {{trustRootRef: ours}}
",
        registry.address, dev.url
    );
    let verify = |text: &str| {
        fs::write(&policy, text).unwrap();
        let config = ["--trust-config", config.to_str().unwrap()];
        run([&["verify"], &config[..], &["--policy", policy.to_str().unwrap(), &image]].concat())
    };
    let sign = |email: &str| {
        let token = dev.token(email);
        let config = ["--trust-config", config.to_str().unwrap()];
        let signed = run([&["sign"], &config[..], &["--identity-token", &token, &image]].concat());
        assert_eq!(verdict(&signed).0, 0, "{signed:?}");
    };
    assert_fails(&verify(&text), 1, "there is none of this artifact");
    sign("eve@acme.example.evil.example");
    assert_fails(&verify(&text), 1, "subject: wanted matching");
    sign("ana@acme.example");
    let accepted = verify(&text);
    assert_eq!(verdict(&accepted).0, 0, "{accepted:?}");
    assert!(verdict(&accepted).1.contains("note: "), "{accepted:?}");
    let rego = format!("{text}  policy: {{type: rego, data: x}}\n");
    assert_fails(&verify(&rego), 2, "cip.yaml:9:11: policy: conditions in CUE and Rego");
}

/// The key of a certificate that was given for one file signs no other: the log compares.
#[test]
fn a_certificate_for_one_file_logs_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, policy) = (folder.path().join("instance"), folder.path().join("policy.yaml"));
    let mut first = Dev::start(&dir);
    let text = POLICY.replace("https://issuer.example.test", &first.url).replace(
        "subject: 'https://git.example.test/acme/.ci.yml@refs/tags/v*'",
        "email: '*@acme.example'",
    );
    fs::write(&policy, text).unwrap();
    assert!(first.terminate());
    let dev = Dev::governed(&dir, &policy);
    let key = SigningKey::generate(KeyDetails::EcdsaP256Sha256);
    let digest = |text: &str| HashAlgorithm::Sha256.digest(text.as_bytes());
    let intended = |name: &str| {
        json!({ "action": "sign", "artifact": { "kind": "blob",
        "name": name, "digest": format!("sha256:{}", countersign_verify::encoding::hex(&digest("one"))) } })
    };
    let ana = dev.token("ana@acme.example");
    let (status, body) = dev.certify(&key, &ana, intended("tool-a"));
    assert_eq!(status, 200, "{body}");
    let certificate = signing_certificate(&body);
    let submit = |text: &str| {
        let request = certified_request(text.as_bytes(), &key.sign(text.as_bytes()), &certificate);
        let headers = "Content-Type: application/json\r\n";
        dev.request("POST /api/v2/log/entries", headers, &request)
    };
    let (status, body) = submit("other");
    assert!(status == 403 && body.contains("intent-mismatch"), "{body}");
    assert_eq!(submit("one").0, 201);
    // Nor is there a certificate for a file that is not theirs.
    let (status, body) = dev.certify(&key, &ana, intended("other"));
    assert!(status == 403 && body.contains("not-granted"), "{body}");
    // Nor does what was signed under one name do for another; the certificate says what it is for.
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let config = dev.config();
    let (config, bundle) = (config.to_str().unwrap(), file("tool-a.sigstore.json"));
    fs::write(file("tool-a"), "a").unwrap();
    let token = dev.token("ana@acme.example");
    let signed = run([
        "sign-blob",
        "--trust-config",
        config,
        "--identity-token",
        &token,
        "--name",
        "tool-a",
        "--bundle",
        &bundle,
        &file("tool-a"),
    ]);
    assert_eq!(verdict(&signed).0, 0, "{signed:?}");
    let inspected = stdout(&run(["bundle", "inspect", &bundle]));
    for line in ["intent\n", "action: sign", "name: tool-a", "policy: tool", "roles\n"] {
        assert!(inspected.contains(line), "{line}\n{inspected}");
    }
    let verify = |name: &str| {
        let policy = policy.to_str().unwrap();
        let flags = ["verify-blob", "--trust-config", config, "--policy", policy];
        run([&flags[..], &["--name", name, "--bundle", &bundle, &file("tool-a")]].concat())
    };
    assert_fails(
        &verify("tool-b"),
        1,
        "what its certificate was asked for: wanted tool-a, got tool-b",
    );
    assert_fails(&verify("tool-b"), 1, "--name tool-a");
}

/// Enough owners sign, each version follows the one before, and nobody brings an old one back.
#[test]
fn a_published_policy_is_signed_by_its_owners_and_follows_the_one_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, at) = (folder.path().join("instance"), |name: &str| folder.path().join(name));
    let mut first = Dev::start(&dir);
    let version = |serial: u32, previous: &str| {
        let text = format!(
            "policy: p
serial: {serial}
expires: 2099-01-01
{previous}owners: {{roles: [owners], at-least: 2}}
who:
  owners: {{issuer: '{}', email: [ana@acme.example, raj@acme.example]}}
",
            first.url
        );
        let path = at(&format!("v{serial}.yaml"));
        fs::write(&path, &text).unwrap();
        (path, countersign_policy::digest(text.as_bytes()))
    };
    let (one, digest) = version(1, "");
    let (two, _) = version(2, &format!("previous: {digest}\n"));
    assert!(first.terminate());
    // The owners need no grant.
    let dev = Dev::governed(&dir, &one);
    let config = dev.config();
    let trust = ["--trust-config", config.to_str().unwrap()];
    let publish = |policy: &Path, who: &str| {
        let token = dev.token(&format!("{who}@acme.example"));
        let bundle = format!("{}.{who}.sigstore.json", policy.display());
        let args = ["policy", "publish", policy.to_str().unwrap(), "--identity-token", &token];
        run([&args[..], &trust, &["--bundle", &bundle]].concat())
    };
    let in_force = at("in-force.yaml");
    let accept = |policy: &Path, more: &[&str]| {
        let args =
            ["policy", "accept", policy.to_str().unwrap(), "--into", in_force.to_str().unwrap()];
        run([&args[..], &trust, more].concat())
    };
    assert_fails(&publish(&one, "eve"), 1, "claim-mismatch:email");
    for who in ["ana", "raj"] {
        let published = publish(&one, who);
        assert_eq!(verdict(&published).0, 0, "{published:?}");
    }
    assert_fails(&accept(&one, &[]), 1, &format!("compare {digest} with what its owners say"));
    let accepted = accept(&one, &["--digest", &digest]);
    assert_eq!(verdict(&accepted).0, 0, "{accepted:?}");
    assert_eq!(verdict(&publish(&two, "ana")).0, 0);
    assert_fails(
        &accept(&two, &[]),
        1,
        "expected 2 owners of serial 1 to sign, and that to be logged; found 1",
    );
    assert_eq!(verdict(&publish(&two, "raj")).0, 0);
    assert_eq!(verdict(&accept(&two, &[])).0, 0);
    assert_fails(&accept(&one, &[]), 1, "policy-rollback: expected a serial after 2, found 1");
    assert_eq!(fs::read(&in_force).unwrap(), fs::read(&two).unwrap());

    // Nor does a new version say itself which authority vouches for the owners of the old one.
    let other = Dev::start(&at("other"));
    let by_corp = |folder: &str, serial: u32, previous: &str, root: &Dev| {
        fs::create_dir(at(folder)).unwrap();
        fs::copy(root.dir.join("trust/trusted_root.json"), at(folder).join("corp.json")).unwrap();
        let text = format!(
            "policy: q
serial: {serial}
expires: 2099-01-01
{previous}trust: {{corp: {{trusted-root: corp.json}}}}
owners: {{roles: [owners], at-least: 2}}
who:
  owners: {{issuer: '{}', email: [ana@acme.example, raj@acme.example], trust: corp}}
",
            dev.url
        );
        let path = at(folder).join("q.yaml");
        fs::write(&path, &text).unwrap();
        (path, countersign_policy::digest(text.as_bytes()))
    };
    let (stored, digest) = by_corp("stored", 1, "", &other);
    let (next, _) = by_corp("next", 2, &format!("previous: {digest}\n"), &dev);
    for who in ["ana", "raj"] {
        assert_eq!(verdict(&publish(&next, who)).0, 0);
    }
    let config = other.config();
    let accept = || {
        run([
            Path::new("policy"),
            Path::new("accept"),
            &next,
            Path::new("--into"),
            &stored,
            Path::new("--trust-config"),
            &config,
        ])
    };
    assert_fails(
        &accept(),
        1,
        "expected 2 owners of serial 1 to sign, and that to be logged; found 0",
    );
    fs::copy(dev.dir.join("trust/trusted_root.json"), at("stored").join("corp.json")).unwrap();
    assert_eq!(verdict(&accept()).0, 0, "{:?}", accept());
}
