//! Bundles that others made, by services that others run: each accepted, with who signed it, or refused for its
//! very reason. `testdata/README.md` has where they come from.

use countersign_verify::bundle::{Bundle, Content, Version};
use countersign_verify::encoding::{base64, from_hex};
use countersign_verify::key::{HashAlgorithm, PublicKey};
use countersign_verify::verify::{Error, Signer, Thresholds, Verified, Verifier};
use countersign_verify::{Artifact, TrustedRoot};
use serde_json::{Value, json};
use std::path::Path;

fn file(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/wild").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root(name: &str) -> TrustedRoot {
    TrustedRoot::parse(&file(&format!("{name}.trusted_root.json"))).unwrap()
}

/// Verifies the bundle `name` of the artifact with that digest as `verifier` does.
fn verify(name: &str, digest: &str, verifier: Verifier<'_>) -> Result<Verified, Error> {
    let (hash, digest) = digest.split_once(':').unwrap();
    let named = |known: &HashAlgorithm| known.short_name() == hash;
    let hash = HashAlgorithm::ALL.into_iter().find(named).unwrap();
    let artifact = Artifact::from_digest(hash, &from_hex(digest).unwrap()).unwrap();
    verifier.verify_json(&file(&format!("{name}.sigstore.json")), &artifact).into_result()
}

fn key_of(name: &str) -> PublicKey {
    PublicKey::from_pem(&String::from_utf8(file(name)).unwrap()).unwrap()
}

const A_TXT: &str = "sha256:a0cfc71271d6e278e57cd332ff957c3f7043fdda354c4cbb190a30d56efa01bf";
const CONDA: &str = "sha256:54303491a8418fbed24344b513546182c29b43bf282ceb433af65e2299f9271f";
const NPM: &str = "sha512:bbfd372fc9beeb777fe35d05bb10c0c70a9733d366a75fed7dd18866c7391de3ee7e88ba74dd47abf3e15c845e547fcf0e5c3da80854c751554224d3a6d4e55f";
const SERVICE: &str = "untrusted-sa@sigstore-conformance.iam.gserviceaccount.com";
const BEACON: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";

#[test]
fn what_public_services_signed_is_accepted_with_who_signed_it() {
    for (name, trusted, digest, signer) in [
        // 0.1, promised by Rekor v1; the same as intoto 0.0.2
        ("beacon", "public-good", A_TXT, BEACON),
        (
            "npm",
            "public-good",
            "sha512:46d4e2f74c4877316640000a6fdf8a8b59f1e0847667973e9859f774dd31b8f1e0937813b777fb66a2ac67d50540fe34640966eee9fc2ccca387082b4c85cd3c",
            "https://github.com/sigstore/sigstore-js/.github/workflows/release.yml@refs/heads/main",
        ),
        // 0.2
        (
            "wheel",
            "public-good",
            "sha256:c4e92e9ecc828bef2aa7dba1de8ac983511f7532a0df11c770d39099a25cf201",
            "https://github.com/trailofbits/rfc8785.py/.github/workflows/release.yml@refs/tags/v0.1.2",
        ),
        // 0.3: hashedrekord 0.0.1 and a timestamp without its certificate, dsse 0.0.1, Rekor v2
        (
            "cosign",
            "public-good",
            "sha256:e194b99df6639501325c5f44da79fe3a8efae6f239bd79443a19787e06fb1764",
            "w.vollprecht@gmail.com",
        ),
        (
            "conda",
            "public-good",
            CONDA,
            "https://github.com/prefix-dev/sigstore-example/.github/workflows/action.yaml@refs/heads/main",
        ),
        ("conda-rekor-v2", "staging", CONDA, "jku@goto.fi"),
        (
            "rekor-v2",
            "staging",
            "sha256:15f67246115921bb7c1de0e7e9e9275c8016dc254a0c009888944b7ed3644aaa",
            "jku@goto.fi",
        ),
        ("rekor-v2-dsse", "staging", A_TXT, BEACON),
        ("rekor-v2-dsse-entry", "staging", A_TXT, BEACON),
        ("one-time", "staging", A_TXT, BEACON),
        (
            "dsse-as-hashedrekord",
            "public-good",
            "sha256:70ed0277251d0cf2eb5eda8b574ce012de485e39a3de1fb4b1e0717e14b02d6a",
            BEACON,
        ),
        // The timestamp's content is in pieces, and nobody knows who gave it.
        (
            "pieces",
            "pieces",
            "sha256:330a043220fa13e01d68a7db39c89e12b0c4c3b6a0346fe624b0903f1303b5b2",
            BEACON,
        ),
        // A P-384 key by SHA-256, in an entry of 2022, when certificates named the issuer by the first extension alone;
        // and by their own hashes; and RSA.
        (
            "python-release",
            "public-good",
            "sha256:9201836e2c16361b2b7408680502393737d44f227333fe2e5729c7d5f6041675",
            "lukasz@langa.pl",
        ),
        (
            "p384-sha256",
            "public-good",
            "sha256:802dd60ff88333802f2585e73043bd21c341285e1992fe5b31755e1cadeae30e",
            "jack@leightcap.com",
        ),
        (
            "p384",
            "public-good",
            "sha384:3e7f8fa6b7688559095d4a8ca4fe449dcab3f997d900ae01c54ea57737d5e63a8ef3457385947cf199533e665cfea37b",
            SERVICE,
        ),
        (
            "p521",
            "public-good",
            "sha512:d2e21657046bff108efe3963c778ed2a8033867988fc24d9f1a2fa9e9648fe1987c0f9c5cc67396eab3ee73654ccdbfdfecffaba13390b90e317c003878747fa",
            SERVICE,
        ),
        ("rsa", "public-good", A_TXT, SERVICE),
        // Cosign's own of an attestation, whose entry has its hash alone
        (
            "intoto-by-hash",
            "public-good",
            "sha256:a1e82f6a5f6dfc735165d3442e7cc5a615f72abac3db19452481f5f3c90fbfa8",
            "https://github.com/distroless/static/.github/workflows/release.yaml@refs/heads/main",
        ),
        // Intoto in 0.3; GitLab's; a model's
        (
            "intoto-v03",
            "public-good",
            "sha512:7bea9f6e7ff37f5fab0b36bf061200fff03099fd2fd696b91d04bc5e4f225eb9fd6e0cadcad54ba980f43fb352a99e8810b4e0abeb5c0ef2cf9108cd1f258b36",
            "brian@dehamer.com",
        ),
        (
            "gitlab",
            "public-good",
            "sha256:c1ca9b0d85df1606451098233018534497bf584362e10e4a8c21dfaea92c02a8",
            "https://gitlab.com/facutuesca/gitlab-oidc-project//.gitlab-ci.yml@refs/heads/main",
        ),
        (
            "model",
            "public-good",
            "sha256:61d4849d9d90076d6215f4d525f13d6574af8e3f67aef3e6f36fc40a14fdd226",
            "stefanb@us.ibm.com",
        ),
        // Two issuing CAs have one name.
        (
            "two-intermediates",
            "staging",
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "https://github.com/sigstore/root-signing-staging/.github/workflows/custom-test.yml@refs/heads/main",
        ),
        (
            "othername",
            "scaffolding",
            "sha256:bc103b4a84971ef6459b294a2b98568a2bfb72cded09d4acd1e16366a401f95b",
            "foo!oidc.local",
        ),
    ] {
        let root = root(trusted);
        let verified = verify(name, digest, Verifier::new(&root));
        let verified = verified.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(verified.identity().unwrap().subject().as_str(), signer, "{name}");
        let other = format!("sha256:{}", "0".repeat(64));
        verify(name, &other, Verifier::new(&root)).unwrap_err();
    }
}

/// GitHub's own instance has no logs, and issues by the first and by the second certificate of its chains. Its timestamps
/// are by SHA-384, or their signed data is of version 1.
#[test]
fn what_githubs_own_instance_signed_is_accepted_where_no_log_is_demanded() {
    const RELEASES: &str = "https://dotcom.releases.github.com";
    let thresholds = Thresholds { logs: 0, times: 1, certificate_logs: 0 };
    for (name, trusted, digest, signer, issuer) in [
        (
            "github-release",
            "github",
            "sha256:76f1fe8593bf227cca2c089e3c16dc95014a8d3e89c5dd220530469ca043c428",
            RELEASES,
            None,
        ),
        (
            "github-immutable-release",
            "github",
            "sha256:e15b593c6ab8d7725a3cc82226ef816cac6bf9c70eed383bd459295cc65f5ec3",
            RELEASES,
            None,
        ),
        (
            "github-provenance",
            "github",
            "sha256:ae57936def59bc4c75edd3a837d89bcefc6d3a5e31d55a6fa7a71624f92c3c3b",
            "https://github.com/actions/attest-demo/.github/workflows/build-python.yml@refs/heads/main",
            Some("https://token.actions.githubusercontent.com"),
        ),
        (
            "github-staging",
            "github-staging",
            "sha512:76176ffa33808b54602c7c35de5c6e9a4deb96066dba6533f50ac234f4f1f4c6b3527515dc17c06fbe2860030f410eee69ea20079bd3a2c6f3dcf3b329b10751",
            "cody@soyland.com",
            Some("https://github.com/login/oauth"),
        ),
    ] {
        let root = root(trusted);
        let verified = verify(name, digest, Verifier::new(&root).with_thresholds(thresholds));
        let verified = verified.unwrap_or_else(|error| panic!("{name}: {error}"));
        let identity = verified.identity().unwrap();
        assert_eq!((identity.subject().as_str(), identity.issuer()), (signer, issuer), "{name}");
        assert_eq!(verify(name, digest, Verifier::new(&root)).unwrap_err(), Error::NoSct, "{name}");
    }
}

#[test]
fn what_a_managed_key_signed_is_accepted_by_it() {
    // The second's entry has the payload's digest and not the payload.
    // The third's is npm's, and one line of base64.
    for (name, trusted, digest, key) in [
        ("managed", "public-good", A_TXT, "managed.pub"),
        ("payload-hash", "payload-hash", A_TXT, "payload-hash.pub"),
        (
            "npm-publish",
            "public-good",
            "sha512:76176ffa33808b54602c7c35de5c6e9a4deb96066dba6533f50ac234f4f1f4c6b3527515dc17c06fbe2860030f410eee69ea20079bd3a2c6f3dcf3b329b10751",
            "npm-registry.pub",
        ),
    ] {
        let (root, key) = (root(trusted), key_of(key));
        let verified = verify(name, digest, Verifier::new(&root).with_key(&key)).unwrap();
        assert!(matches!(verified.signer(), Signer::Key(by) if *by == key), "{name}");
        assert_eq!(verify(name, digest, Verifier::new(&root)).unwrap_err(), Error::KeyNeeded);
    }
    let (root, key) = (root("no-type"), key_of("no-type.pub"));
    let refused = verify("no-type", A_TXT, Verifier::new(&root).with_key(&key)).unwrap_err();
    assert!(refused.to_string().contains("missing field `_type`"), "{refused}");
}

#[test]
fn what_must_not_be_accepted_is_refused_for_its_reason() {
    for (name, trusted, digest, code) in [
        // Another signature's log entry, which older cosigns accepted.
        (
            "cve-2022-36056",
            "staging",
            "sha256:c87b5b213ab08b32970c106d0c7e4423e67f5449c2fd2d1e9b4ea6cc43b6ee7c",
            "LOG_ENTRY_MISMATCH",
        ),
        ("other-entry", "public-good", A_TXT, "LOG_ENTRY_MISMATCH"),
        ("other-promise", "public-good", A_TXT, "LOG_PROMISE_INVALID"),
        (
            "no-checkpoint",
            "staging",
            "sha256:802dd60ff88333802f2585e73043bd21c341285e1992fe5b31755e1cadeae30e",
            "BUNDLE_MALFORMED",
        ),
        (
            "no-entry",
            "public-good",
            "sha256:9b469fc9761e8b933073b62725fbc98b549c3314199ded71cc8b286ef2c6fb9b",
            "TIMESTAMP_MISSING",
        ),
        (
            "no-time",
            "public-good",
            "sha256:ca6de99a11d3d38056d838c7dc9a23a11a0c81bcace0d11eaa301a2ffb482c42",
            "TIMESTAMP_MISSING",
        ),
        (
            "no-certificate",
            "public-good",
            "sha256:1bc37d4fed3fd960bdf9d095f87283ba8ad1ab4481f38a34e8004f0c56ffe78d",
            "BUNDLE_MALFORMED",
        ),
        // npm's first provenance came with the root.
        ("root-in-chain", "public-good", NPM, "CERTIFICATE_CHAIN"),
        ("two-signatures", "public-good", NPM, "BUNDLE_MALFORMED"),
        // The second is from after the certificate's end: each must hold, not the earliest.
        ("two-times", "staging", A_TXT, "CERTIFICATE_NOT_VALID_THEN"),
        ("beacon", "staging", A_TXT, "LOG_UNKNOWN"),
        ("beacon", "other-certificate-log", A_TXT, "CERTIFICATE_LOG_UNKNOWN"),
        ("rekor-v2-dsse", "public-good", A_TXT, "TIMESTAMP_AUTHORITY_UNKNOWN"),
    ] {
        let root = root(trusted);
        let refused = verify(name, digest, Verifier::new(&root)).map(drop).unwrap_err();
        assert_eq!(refused.code(), code, "{name}: {refused}");
    }
}

/// The extended key usage of GitHub's first timestamp certificate is not critical, which RFC 3161 demands. Other clients
/// read a root that has it, and accept nothing by it.
#[test]
fn an_authority_that_is_unfit_for_timestamps_is_left_out_and_the_root_stands() {
    let root = root("other-certificate-log");
    assert!(root.timestamp_authorities().is_empty());
    let unfit: Vec<_> = root.unfit().iter().map(ToString::to_string).collect();
    let expected = "timestampAuthorities[0]: certChain: expected the critical extended key usage timeStamping and no \
                    other on the timestamp certificate";
    assert_eq!(unfit, [expected]);
    let refused = verify("rekor-v2-dsse", A_TXT, Verifier::new(&root)).unwrap_err();
    assert!(
        refused.to_string().ends_with(&format!("found none; left out is {expected}")),
        "{refused}"
    );
    // As the conformance suite has one, of which nobody may borrow the window.
    let mut json: Value = serde_json::from_slice(&file("staging.trusted_root.json")).unwrap();
    let authorities = json["timestampAuthorities"].as_array_mut().unwrap();
    let known = authorities.len();
    authorities.push(json!({ "certChain": { "certificates": [] }, "validFor": {} }));
    let root = TrustedRoot::parse(json.to_string().as_bytes()).unwrap();
    assert_eq!((root.timestamp_authorities().len(), root.unfit().len()), (known, 1));
    assert!(root.unfit()[0].to_string().contains("at least one certificate"), "{:?}", root.unfit());
}

#[test]
fn each_bundle_reads_the_same_out_of_bytes_to_keep_and_comes_back_from_its_own_json() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/wild");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    let bundles: Vec<_> = names.iter().filter(|name| name.ends_with(".sigstore.json")).collect();
    let mut read = 0;
    for name in &bundles {
        let json = file(name);
        let bundle = Bundle::parse(&json);
        assert_eq!(Bundle::parse_owned(json), bundle, "{name}");
        let Ok(bundle) = bundle else { continue };
        read += 1;
        let written = bundle.to_json();
        let again = Bundle::parse(written.as_bytes()).unwrap();
        if bundle.version() == Version::Cosign {
            assert_eq!(again.version(), Version::V01, "{name}");
            assert_eq!(again.content(), bundle.content(), "{name}");
            continue;
        }
        assert!(again == bundle, "{name}");
        let (before, after) = bundle.json_around_payload();
        match bundle.content() {
            Content::Message(_) => assert_eq!((before, after), (written, String::new()), "{name}"),
            Content::Dsse(envelope) => {
                assert_eq!(before + &base64(&envelope.payload) + &after, written, "{name}");
            }
        }
    }
    assert_eq!((bundles.len(), read), (41, 38), "three are malformed");
}

/// All members by protobuf's own names, which its JSON allows.
fn own_names(json: &Value) -> Value {
    let own = |name: &String| -> String {
        let letters = name.chars().map(|c| match c {
            'A'..='Z' => format!("_{}", c.to_ascii_lowercase()),
            c => c.to_string(),
        });
        letters.collect()
    };
    match json {
        Value::Object(members) => {
            members.iter().map(|(name, value)| (own(name), own_names(value))).collect()
        }
        Value::Array(list) => list.iter().map(own_names).collect(),
        other => other.clone(),
    }
}

#[test]
fn members_may_bear_protobufs_own_names_and_one_of_both() {
    for name in ["beacon", "managed", "conda", "pieces", "two-times"] {
        let json: Value = serde_json::from_slice(&file(&format!("{name}.sigstore.json"))).unwrap();
        let own = own_names(&json);
        assert!(own["media_type"].is_string() && own["mediaType"].is_null());
        let read = |json: &Value| Bundle::parse(json.to_string().as_bytes());
        assert_eq!(read(&own), read(&json), "{name}");
        for member in ["mediaType", "verificationMaterial"] {
            let mut both = own.clone();
            both[member] = json[member].clone();
            let refused = read(&both).unwrap_err().to_string();
            assert!(refused.contains(&format!("duplicate field `{member}`")), "{refused}");
        }
    }
    for name in ["public-good", "staging", "github"] {
        let json: Value =
            serde_json::from_slice(&file(&format!("{name}.trusted_root.json"))).unwrap();
        let read = |json: &Value| TrustedRoot::parse(json.to_string().as_bytes()).unwrap();
        assert_eq!(format!("{:?}", read(&own_names(&json))), format!("{:?}", read(&json)));
    }
}
