//! Container images by the binary: a development instance signs, a registry in memory stores, and what verification
//! says of each way in which the two can be wrong.

mod common;

use common::{Dev, assert_fails, run, verdict};
use countersign_testkit::registry::{Registry, Reply};
use std::path::Path;
use std::process::{Command, Output};

/// Annotation of a folder's index: the name of an image.
const NAME: &str = "org.opencontainers.image.ref.name";

struct Case {
    dev: Dev,
    registry: Registry,
    folder: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dev = Dev::start(&folder.path().join("dev"));
        Self { dev, registry: Registry::start(true), folder }
    }

    fn image(&self, name: &str) -> String {
        format!("{}/acme/{name}", self.registry.address)
    }

    /// A signing command by `email`.
    fn sign(&self, email: &str, args: &[&str]) -> Output {
        let (token, config) = (self.dev.token(email), self.dev.config());
        let (verb, rest) = args.split_first().unwrap();
        let config = config.to_str().unwrap();
        let fixed = [*verb, "--trust-config", config, "--identity-token", &token];
        run(fixed.iter().chain(rest))
    }

    /// A verifying command that demands `email`.
    fn verify(&self, email: &str, args: &[&str]) -> Output {
        let config = self.dev.config();
        let (verb, rest) = args.split_first().unwrap();
        let fixed = [
            *verb,
            "--trust-config",
            config.to_str().unwrap(),
            "--certificate-identity",
            email,
            "--certificate-oidc-issuer",
            &self.dev.url,
            "--timeout",
            "0s",
        ];
        run(fixed.iter().chain(rest))
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn succeeds(output: &Output) -> String {
    let (status, errors) = verdict(output);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(status, 0, "{errors}{text}");
    text
}

/// The key of a witness that cosigned nothing, as C2SP signed-note writes it.
fn witness_key() -> String {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use base64::Engine as _;
    let pair = Ed25519KeyPair::generate().unwrap();
    let key = [&[4], pair.public_key().as_ref()].concat();
    let named = [&b"w.example\n"[..], &key].concat();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &named);
    let id: String = digest.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("w.example+{id}+{}", base64::engine::general_purpose::STANDARD.encode(key))
}

#[test]
fn images_are_signed_with_one_certificate_and_verified_by_name_and_digest() {
    let case = Case::new();
    let digests: Vec<_> = ["one", "two"]
        .map(|name| case.registry.push_image(&format!("acme/{name}"), "v1", name))
        .into();
    let (one, two) = (case.image("one:v1"), case.image("two:v1"));
    let certificates = || case.dev.record(&["--outcome", "issued"]).len();
    let before = certificates();
    let text = succeeds(&case.sign("a@example.com", &["sign", "-a", "build=7", &one, &two]));
    assert!(text.contains("2 signed, 0 refused"), "{text}");
    assert_eq!(certificates(), before + 1, "one for both");

    // An interrupted batch goes on: what is signed already is passed over.
    let three = case.registry.push_image("acme/three", "v1", "three");
    let three = format!("{}@{three}", case.image("three"));
    let entries = || {
        let lines = ["tree", "--output", "json"];
        let count = |image: &str| {
            let tree = succeeds(&run([&lines[..], &[image]].concat()));
            let tree: serde_json::Value = serde_json::from_str(&tree).unwrap();
            tree["referrers"].as_array().unwrap().len()
        };
        [one.as_str(), two.as_str(), three.as_str()].map(count)
    };
    let again = ["sign", "--resume", "-a", "build=7", &one, &two, &three];
    let text = succeeds(&case.sign("a@example.com", &again));
    assert!(text.contains("3 signed"), "{text}");
    assert_eq!(entries(), [1, 1, 1], "two were signed before");
    let (_, told) = verdict(&case.sign("a@example.com", &again));
    assert_eq!(told.matches("signed before: ").count(), 3, "{told}");
    succeeds(&case.sign("a@example.com", &["sign", "--resume", "-a", "build=8", &three]));
    succeeds(&case.sign("c@example.com", &["sign", "--resume", "-a", "build=7", &three]));
    assert_eq!(entries(), [1, 1, 3], "something else, and somebody else");

    let _ = case.registry.requests();
    let by_digest = format!("{}@{}", case.image("one"), digests[0]);
    let text = succeeds(&case.verify("a@example.com", &["verify", &by_digest]));
    assert!(text.contains(&digests[0]), "{text}");
    assert!(case.registry.requests().len() <= 3, "the budget when the digest is given");
    let config = case.dev.config();
    let unnamed = run(["verify", "--trust-config", config.to_str().unwrap(), &by_digest]);
    let flags =
        format!("--certificate-identity a@example.com --certificate-oidc-issuer {}", case.dev.url);
    assert_fails(&unnamed, 2, &flags);
    let text = succeeds(&case.verify("a@example.com", &["verify", "-a", "build=7", &one, &two]));
    assert!(text.contains("2 verified"), "{text}");
    let _ = case.registry.requests();
    let text = succeeds(&case.verify("a@example.com", &["verify", &one]));
    assert!(text.contains(&format!("{one}@{}", digests[0])), "which digest was meant: {text}");
    let requests = case.registry.requests();
    let tag = requests.iter().filter(|request| request.path.ends_with("/manifests/v1"));
    assert_eq!(tag.count(), 1, "what it means is asked once, so it cannot change meanwhile");

    // What does not hold is no, with its reason.
    let refused = |email: &str, args: &[&str], expected: &str| {
        assert_fails(&case.verify(email, args), 1, expected);
    };
    refused("b@example.com", &["verify", &one], "b@example.com");
    refused("a@example.com", &["verify", "-a", "build=8", &one], "expected \"8\", found \"7\"");
    let policy = format!("witness W {} http://127.0.0.1:9\nquorum W\n", witness_key());
    let policy = case.file("witnesses", &policy);
    refused(
        "a@example.com",
        &["verify", "--witness-policy", &policy, &one],
        "expected cosignatures by W",
    );
    let _ = case.registry.push_image("acme/one", "v1", "forged");
    refused("a@example.com", &["verify", &one], "no signature refers to this digest");
    refused("a@example.com", &["verify", &one], &format!("`countersign tree {one}@sha256:"));
    succeeds(&case.verify("a@example.com", &["verify", &by_digest]));

    // What cannot be told is neither.
    let missing = case.image("four:v1");
    let found = case.verify("a@example.com", &["verify", &missing]);
    assert_fails(&found, 2, "does not exist in the registry");
    for status in [429, 503] {
        case.registry.meddle(move |request, honest| match request.path.contains("/referrers/") {
            true => Reply::new(status, ""),
            false => honest,
        });
        let found = case.verify("a@example.com", &["verify", &by_digest]);
        assert_fails(&found, 2, &format!("answered {status}"));
    }
    case.registry.behave();
    let found = case.verify("a@example.com", &["verify", "UPPER"]);
    assert_fails(&found, 2, "names no image");
    let found = case.verify("a@example.com", &["verify", "--offline", &by_digest]);
    assert_fails(&found, 2, "--local-image");
}

#[test]
fn an_attestation_is_no_signature_and_each_part_of_an_index_is_its_own() {
    let case = Case::new();
    let parts = ["amd64", "arm64"].map(|name| case.registry.push_image("acme/app", name, name));
    let index = case.registry.push_index("acme/app", "v1", &[&parts[0], &parts[1]]);
    let image = case.image("app:v1");
    let sbom = case.file("sbom.json", r#"{"bomFormat":"CycloneDX"}"#);
    let attest = ["attest", "--type", "cyclonedx", "--predicate", &sbom, &image];
    succeeds(&case.sign("a@example.com", &attest));
    let verify = ["verify-attestation", "--type", "cyclonedx", &image];
    let text = succeeds(&case.verify("a@example.com", &verify));
    assert!(text.contains("https://cyclonedx.org/bom"), "{text}");
    let found = case.verify("a@example.com", &["verify", &image]);
    assert_fails(&found, 1, "verify-attestation --type cyclonedx");
    let found = case.verify("a@example.com", &["verify-attestation", "--type", "spdxjson", &image]);
    assert_fails(&found, 1, "no attestation of type https://spdx.dev/Document");
    // Standard input is read once, for both images.
    let (token, config) = (case.dev.token("a@example.com"), case.dev.config());
    let both = [image.clone(), case.image("app:amd64")];
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.args(["attest", "--type", "vuln", "--predicate", "-", "--identity-token", &token]);
    command.arg("--trust-config").arg(config).args(&both);
    let sbom = std::fs::File::open(sbom).unwrap();
    succeeds(&common::clean(&mut command).stdin(sbom).output().unwrap());
    for image in &both {
        let verify = ["verify-attestation", "--type", "vuln", image];
        succeeds(&case.verify("a@example.com", &verify));
    }

    succeeds(&case.sign("a@example.com", &["sign", &image]));
    succeeds(&case.verify("a@example.com", &["verify", &image]));
    let found = case.verify("a@example.com", &["verify", "--recursive", &image]);
    assert_eq!(verdict(&found).0, 1, "the parts are not signed");
    succeeds(&case.sign("a@example.com", &["sign", "--recursive", "--legacy", &image]));
    let text = succeeds(&case.verify("a@example.com", &["verify", "--recursive", &image]));
    assert!(text.contains("3 verified"), "{text}");

    // Legacy signatures alone suffice, and are about one image.
    succeeds(&run(["clean", "--type", "signature", &image]));
    let tree = succeeds(&run(["tree", &image]));
    assert!(tree.contains("cyclonedx") && !tree.contains("sha256-"), "{tree}");
    let part = format!("{}@{}", case.image("app"), parts[0]);
    let tag = format!("sha256-{}.sig", parts[0].strip_prefix("sha256:").unwrap());
    case.registry.meddle(|request, honest| match request.path.contains("/referrers/") {
        true => Reply::new(404, ""),
        false => honest,
    });
    succeeds(&case.verify("a@example.com", &["verify", &part]));
    let signature = case.registry.manifest("acme/app", &tag).unwrap();
    let other = format!("sha256-{}.sig", parts[1].strip_prefix("sha256:").unwrap());
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let _ = case.registry.push_manifest("acme/app", &other, kind, &signature);
    let part = format!("{}@{}", case.image("app"), parts[1]);
    let found = case.verify("a@example.com", &["verify", &part]);
    assert_fails(&found, 1, "the signature is over another image");
    let _ = index;
}

#[test]
fn what_is_logged_and_not_stored_is_kept() {
    let case = Case::new();
    let _ = case.registry.push_image("acme/app", "v1", "app");
    let image = case.image("app:v1");
    case.registry.meddle(|request, honest| match request.method == "PUT" {
        true => Reply::new(403, r#"{"errors":[{"code":"DENIED","message":"over\nquota"}]}"#),
        false => honest,
    });
    let (token, config) = (case.dev.token("a@example.com"), case.dev.config());
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.args(["sign", "--identity-token", &token, &image]);
    command.arg("--trust-config").arg(config).current_dir(case.folder.path());
    let output = common::clean(&mut command).output().unwrap();
    let (status, errors) = verdict(&output);
    assert_eq!(status, 2, "{errors}");
    assert!(errors.contains("knows who asks: over quota;"), "{errors}");
    case.registry.behave();
    let (_, next) = errors.split_once("`countersign attach --bundle ").expect(&errors);
    let (bundle, named) = next.split_once(' ').unwrap();
    let named = named.split('`').next().unwrap();
    let bundle = case.folder.path().join(bundle);
    succeeds(&run(["attach", "--bundle", bundle.to_str().unwrap(), named]));
    succeeds(&case.verify("a@example.com", &["verify", &image]));
}

#[test]
fn a_saved_image_verifies_without_a_network_and_a_bundle_is_attached_where_it_belongs() {
    let case = Case::new();
    let digest = case.registry.push_image("acme/app", "v1", "app");
    let _ = case.registry.push_image("acme/other", "v1", "other");
    let (image, folder) = (case.image("app:v1"), case.folder.path().join("saved"));
    let folder = folder.to_str().unwrap();
    succeeds(&case.sign("a@example.com", &["sign", &image]));
    succeeds(&run(["save", "--dir", folder, &image]));
    let offline = ["verify", "--offline", "--local-image", folder];
    let text = succeeds(&case.verify("a@example.com", &offline));
    assert!(text.contains(&digest), "{text}");
    assert_fails(&case.verify("b@example.com", &offline), 1, "b@example.com");
    let bundles = succeeds(&run(["download", "signature", &image]));
    let bundle = case.file("bundle.json", &bundles);
    let other = case.image("other:v1");
    assert_fails(&run(["attach", "--bundle", &bundle, &other]), 2, "it is not about sha256:");
    succeeds(&run(["copy", &image, &case.image("copied")]));
    succeeds(&case.verify("a@example.com", &["verify", &case.image("copied:v1")]));
    succeeds(&run(["clean", &image]));
    assert_eq!(verdict(&case.verify("a@example.com", &["verify", &image])).0, 1, "nothing is left");
    succeeds(&run(["attach", "--bundle", &bundle, &image]));
    succeeds(&case.verify("a@example.com", &["verify", &image]));
    let tree: serde_json::Value =
        serde_json::from_str(&succeeds(&run(["tree", "--output", "json", &image]))).unwrap();
    assert_eq!(tree["referrers"].as_array().unwrap().len(), 1);

    // As cosign saves it: no names, kinds for legacy tags, and no word of bundles.
    let (legacy, theirs) = (case.image("other:v1"), case.folder.path().join("theirs"));
    succeeds(&case.sign("a@example.com", &["sign", "--legacy", &legacy]));
    succeeds(&run(["save", "--dir", theirs.to_str().unwrap(), &legacy]));
    let file = theirs.join("index.json");
    let mut index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let entries = index["manifests"].as_array_mut().unwrap();
    let (mut named, bundles): (Vec<_>, Vec<_>) =
        entries.drain(..).partition(|entry| entry["annotations"].get(NAME).is_some());
    for entry in &mut named {
        entry["annotations"].as_object_mut().unwrap().remove(NAME);
    }
    let kinds: Vec<_> = named.iter().map(|entry| &entry["annotations"]["kind"]).collect();
    assert_eq!(kinds, ["dev.cosignproject.cosign/image", "dev.cosignproject.cosign/sigs"]);
    let offline = ["verify", "--offline", "--local-image", theirs.to_str().unwrap()];
    let mut verifies = |entries: &[serde_json::Value]| {
        index["manifests"] = entries.into();
        std::fs::write(&file, index.to_string()).unwrap();
        let text = succeeds(&case.verify("a@example.com", &offline));
        assert_eq!(text.matches("verified ").count(), 1, "one image: {text}");
        assert_fails(&case.verify("b@example.com", &offline), 1, "b@example.com");
    };
    verifies(&named);
    verifies(&named[..1]);
    let [bundle] = bundles.as_slice() else { panic!("{bundles:?}") };
    let blob = bundle["digest"].as_str().unwrap().replace(':', "/");
    std::fs::remove_file(theirs.join("blobs").join(blob)).unwrap();
    verifies(&named);
    index["manifests"] = named[..1].into();
    std::fs::write(&file, index.to_string()).unwrap();
    assert_fails(&case.verify("a@example.com", &offline), 1, "no signature refers");

    // Of two images in one folder the one that is named, and none when that could be either.
    let both = case.folder.path().join("both");
    let both = both.to_str().unwrap();
    for image in [&image, &case.image("other:v1")] {
        succeeds(&run(["save", "--dir", both, image]));
    }
    let loaded = succeeds(&run(["load", "--dir", both, &case.image("other:v1")]));
    assert!(!loaded.contains(&digest), "{loaded}");
    let either = run(["load", "--dir", both, &case.image("new:v1")]);
    assert_fails(&either, 2, "expected one image");
    let by_digest = format!("{}@{digest}", case.image("new:v1"));
    let loaded = succeeds(&run(["load", "--dir", both, &by_digest]));
    assert!(loaded.contains(&digest), "{loaded}");

    let other = format!("{}@sha256:{}", case.image("new:v1"), "00".repeat(32));
    for place in [both, folder] {
        assert_ne!(
            verdict(&run(["load", "--dir", place, &other])).0,
            0,
            "no image has this digest"
        );
    }

    // A changed folder is found out.
    let blobs = Path::new(folder).join("blobs/sha256");
    std::fs::write(blobs.join(digest.strip_prefix("sha256:").unwrap()), "{}").unwrap();
    let (status, _) = verdict(&case.verify("a@example.com", &offline));
    assert_eq!(status, 1);
}

#[test]
fn a_policy_decides_over_everything_that_refers_to_an_image() {
    let case = Case::new();
    let parts = ["amd64", "arm64"].map(|name| case.registry.push_image("acme/app", name, name));
    let _ = case.registry.push_index("acme/app", "v1", &[&parts[0], &parts[1]]);
    let image = case.image("app:v1");
    let (name, issuer) = (case.image("app"), &case.dev.url);
    let policy = format!(
        "policy: apps
serial: 3
expires: 2099-01-01
owners: {{roles: [release], at-least: 1}}
who:
  release: {{issuer: '{issuer}', email: release@example.com}}
  scanner: {{issuer: '{issuer}', email: scanner@example.com}}
what:
  apps: {{images: '{name}'}}
where:
  prod: {{clusters: [prod]}}
  stage: {{clusters: [stage]}}
may:
  - {{who: release, do: sign, to: apps}}
  - {{who: scanner, do: attest sbom, to: apps}}
must:
  - name: apps are released
    every: apps
    needs: [signature: {{by: release}}]
    each-platform: true
    otherwise: refuse
  - name: apps are scanned
    every: apps
    in: prod
    needs: [attestation: {{kind: sbom, by: scanner}}]
    otherwise: refuse
"
    );
    let policy = case.file("policy.yaml", &policy);
    let config = case.dev.config();
    let fixed =
        ["--trust-config", config.to_str().unwrap(), "--timeout", "0s", "--policy", &policy];
    let decide = |verb: &str, args: &[&str]| run([&[verb], &fixed[..], args].concat());
    let refused = |args: &[&str], expected: &str| {
        assert_fails(&decide("verify", args), 1, expected);
    };

    succeeds(&case.sign("release@example.com", &["sign", &image]));
    let explained = decide("verify", &["--explain", &image]);
    assert_fails(&explained, 1, "signature by release: there is none of this artifact");
    let tree = String::from_utf8(explained.stdout).unwrap();
    assert!(parts.iter().all(|part| tree.contains(&format!("platform {part}"))), "{tree}");
    succeeds(&case.sign("scanner@example.com", &["sign", "--recursive", &image]));
    refused(&[&image], "must \"apps are released\"");
    succeeds(&case.sign("release@example.com", &["sign", "--recursive", &image]));
    let text = succeeds(&decide("verify", &["--in", "stage", &image]));
    assert!(text.contains("allowed by apps serial 3: apps are released"), "{text}");
    refused(&[&image], "must \"apps are scanned\" (in prod)");
    refused(&[&image], "--in prod, --in stage");

    // What a place demands is attested, by whom it must be.
    refused(&["--in", "prod", &image], "must \"apps are scanned\"");
    let sbom = case.file("sbom.json", r#"{"bomFormat":"CycloneDX"}"#);
    let attest = ["attest", "--type", "cyclonedx", "--predicate", &sbom, &image];
    succeeds(&case.sign("release@example.com", &attest));
    refused(&["--in", "prod", &image], "wanted scanner@example.com, got release@example.com");
    let attested = ["--in", "stage", "--type", "cyclonedx", image.as_str()];
    let stranger = decide("verify-attestation", &attested);
    assert_fails(&stranger, 1, "found none that verifies and counts");
    succeeds(&case.sign("scanner@example.com", &attest));
    succeeds(&decide("verify-attestation", &attested));
    let facts = case.folder.path().join("facts.jsonl");
    let record = ["--in", "prod", "--record-facts", facts.to_str().unwrap(), &image];
    succeeds(&decide("verify", &record));
    let vuln = decide("verify-attestation", &["--type", "vuln", &image]);
    assert_fails(&vuln, 1, "expected an attestation of type");

    let recorded = std::fs::read_to_string(&facts).unwrap();
    assert!(
        recorded.contains(&format!(r#""signedName":"{image}""#)),
        "the signer's promise: {recorded}"
    );

    // What was recorded decides the same again.
    let replay =
        ["policy", "replay", &policy, "--against", &policy, "--facts", facts.to_str().unwrap()];
    assert_eq!(succeeds(&run(replay)), "1 decided, 0 changed\n");

    // What a registry fails to answer is neither yes nor no, unless what it does answer suffices.
    let scanned = ["--in", "prod", image.as_str()];
    for lacking in ["/referrers/", ".att"] {
        case.registry.meddle(move |request, honest| match request.path.contains(lacking) {
            true => Reply::new(503, ""),
            false => honest,
        });
        let found = decide("verify", &scanned);
        match lacking {
            "/referrers/" => assert_fails(&found, 2, "answered 503"),
            _ => drop(succeeds(&found)),
        }
    }
    case.registry.meddle(|request, honest| match request.path.contains("/referrers/") {
        true => {
            let mut list: serde_json::Value = serde_json::from_slice(&honest.body).unwrap();
            list["manifests"] = vec![list["manifests"][0].clone(); 10_000].into();
            Reply { body: list.to_string().into_bytes(), ..honest }
        }
        false => honest,
    });
    let junk = decide("verify", &["--output", "json", &image]);
    let report: serde_json::Value = serde_json::from_slice(&junk.stdout).unwrap();
    assert_eq!(
        (verdict(&junk).0, &report["results"][0]["policy"]["code"]),
        (2, &"undecided:limit".into())
    );
    case.registry.behave();

    // Legacy signatures and attestations are evidence, too.
    let release = ["sign", "--legacy", "--recursive", image.as_str()];
    succeeds(&case.sign("release@example.com", &release));
    succeeds(
        &case.sign("scanner@example.com", &[&attest[..1], &["--legacy"], &attest[1..]].concat()),
    );
    case.registry.meddle(|request, honest| match request.path.contains("/referrers/") {
        true => Reply::new(404, ""),
        false => honest,
    });
    succeeds(&decide("verify", &scanned));
    case.registry.behave();

    // Under the tag is something else now.
    let _ = case.registry.push_image("acme/app", "v1", "forged");
    refused(&[&image], "signature by release: there is none of this artifact");
    let flags = decide("verify", &["--certificate-identity", "a@example.com", &image]);
    assert_fails(&flags, 2, "exclude each other");
    let place = decide("verify", &["--in", "test", &image]);
    assert_fails(&place, 2, "its contexts are: prod, stage");
}
