//! Cosignatures of witnesses on the tree head of a bundle's entry, demanded by a policy.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use countersign_testkit::Instance;
use countersign_verify::note::{KeyType, Note, Signature, VerifierKey, cosigned};
use countersign_verify::witness::Policy;
use countersign_verify::{
    Artifact, Bundle, Check, Error, Outcome, Thresholds, TrustedRoot, Verifier,
};

const FILE: &[u8] = b"artifact";

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn witness(seed: u8) -> VerifierKey {
    let name = format!("w{seed}.example");
    VerifierKey::new(&name, KeyType::Cosignature, pair(seed).public_key().as_ref()).unwrap()
}

/// `bundle` with cosignatures on the checkpoint of its entry.
fn cosign(bundle: &Bundle, seeds: &[u8]) -> String {
    let mut json: serde_json::Value = serde_json::from_str(&bundle.to_json()).unwrap();
    let path = "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint/envelope";
    let envelope = json.pointer_mut(path).unwrap();
    let note = Note::parse(envelope.as_str().unwrap()).unwrap();
    let mut lines = note.signatures().to_vec();
    lines.extend(seeds.iter().map(|seed| {
        let (time, key) = (1_764_000_000_u64, witness(*seed));
        let signature = pair(*seed).sign(cosigned(time, note.text()).as_bytes());
        let signature = [&time.to_be_bytes()[..], signature.as_ref()].concat();
        Signature { name: key.name().to_owned(), key_id: key.id(), signature }
    }));
    *envelope = Note::new(note.text().to_owned(), lines).unwrap().to_string().into();
    json.to_string()
}

#[test]
fn a_bundle_is_accepted_with_enough_cosignatures_and_with_no_fewer() {
    let instance = Instance::new();
    let root = TrustedRoot::parse(instance.trusted_root().as_bytes()).unwrap();
    let signer = instance.certify("https://git.example.test/acme", "https://issuer.example.test");
    let bundle = instance.sign(&signer, FILE);
    let witnesses: String = (1..=3).map(|n| format!("witness W{n} {}\n", witness(n))).collect();
    let policy = Policy::parse(&format!("{witnesses}group G 2 W1 W2 W3\nquorum G\n")).unwrap();
    let verifier = Verifier::new(&root).with_witnesses(&policy);
    let verify = |json: &str| {
        let report = verifier.verify_json(json.as_bytes(), &Artifact::from_bytes(FILE));
        let outcome = report.checks().iter().find(|(check, _)| *check == Check::Witnesses);
        (outcome.unwrap().1.clone(), report.into_result().map(|verified| verified.witnesses()))
    };
    let log = root.logs()[0].base_url();
    for (seeds, found, count) in
        [(&[1, 3][..], "W1, W3", 2), (&[9, 2, 3], "W2, W3", 2), (&[1, 2, 3], "W1, W2, W3", 3)]
    {
        let expected = Outcome::Pass(format!("{found} cosigned the tree of {log}"));
        assert_eq!(verify(&cosign(&bundle, seeds)), (expected, Ok(count)), "{seeds:?}");
    }
    for (seeds, found, missing) in
        [(&[][..], "none", "W1, W2, W3"), (&[2], "W2", "W1, W3"), (&[2, 2, 9], "W2", "W1, W3")]
    {
        let (outcome, result) = verify(&cosign(&bundle, seeds));
        let expected = format!(
            "the tree head of {log}: expected cosignatures by 2 of W1, W2, W3, found {found}; missing {missing}"
        );
        assert_eq!(outcome, Outcome::Fail(expected), "{seeds:?}");
        assert_eq!(result.unwrap_err().code(), "WITNESSES_MISSING");
    }
    // A cosignature of another tree head counts for none, and says that something is wrong.
    let other = instance.sign(&signer, b"another artifact");
    let moved = |text: &str| {
        let json: serde_json::Value = serde_json::from_str(text).unwrap();
        let path = "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint/envelope";
        json.pointer(path).unwrap().as_str().unwrap().to_owned()
    };
    let (mine, others) = (moved(&cosign(&bundle, &[1])), moved(&cosign(&other, &[2])));
    let line = others.lines().last().unwrap();
    let spliced = serde_json::to_string(&format!("{mine}{line}\n")).unwrap();
    let plain = serde_json::to_string(&moved(&cosign(&bundle, &[]))).unwrap();
    let json = bundle.to_json();
    assert!(json.contains(&plain));
    let (_, result) = verify(&json.replace(&plain, &spliced));
    assert_eq!(result.unwrap_err().code(), "COSIGNATURE_INVALID");
}

#[test]
fn without_an_entry_whose_tree_can_be_cosigned_the_demand_is_not_met() {
    let instance = Instance::new();
    let root = TrustedRoot::parse(instance.trusted_root().as_bytes()).unwrap();
    let signer = instance.certify("https://git.example.test/acme", "https://issuer.example.test");
    let policy = Policy::parse(&format!("witness W {}\nquorum W", witness(1))).unwrap();
    let none = Thresholds { logs: 0, ..Thresholds::CERTIFICATE };
    let verifier = Verifier::new(&root).with_witnesses(&policy).with_thresholds(none);
    let result = |bundle: &Bundle| {
        verifier.verify(bundle, &Artifact::from_bytes(FILE)).into_result().map(drop)
    };
    let v1 = result(&instance.sign_v1(&signer, FILE));
    assert!(matches!(v1, Err(Error::NeverWitnessed { .. })), "{v1:?}");
    let mut json: serde_json::Value =
        serde_json::from_str(&instance.sign(&signer, FILE).to_json()).unwrap();
    json["verificationMaterial"]["tlogEntries"] = serde_json::json!([]);
    let unlogged = result(&Bundle::parse(json.to_string().as_bytes()).unwrap());
    assert_eq!(unlogged, Err(Error::NothingWitnessed));
}
