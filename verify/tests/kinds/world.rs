//! An instance of the test kit with its root and a signer, and bundles that one thing is changed in.

use countersign_testkit::{Instance, Receipt, Shape, Signer};
use countersign_verify::bundle::LogEntry;
use countersign_verify::encoding::{base64, from_base64};
use countersign_verify::{Artifact, Error, TrustedRoot, Verified, Verifier};
use serde_json::Value;

pub(crate) const ARTIFACT: &[u8] = b"artifact";
pub(crate) const URI: &str = "https://git.example.test/acme";
pub(crate) const ISSUER: &str = "https://issuer.example.test";
pub(crate) const ENTRY: &str = "/verificationMaterial/tlogEntries/0";

pub(crate) struct World {
    pub(crate) instance: Instance,
    pub(crate) root: TrustedRoot,
    pub(crate) signer: Signer,
}

impl World {
    pub(crate) fn new() -> Self {
        let instance = Instance::new();
        let root = TrustedRoot::parse(instance.trusted_root().as_bytes()).unwrap();
        let signer = instance.certify(URI, ISSUER);
        Self { instance, root, signer }
    }

    pub(crate) fn make(&self, shape: &Shape) -> Value {
        self.instance.make(&self.signer, ARTIFACT, shape)
    }

    pub(crate) fn with_receipts(&self, receipts: Vec<Receipt>) -> Value {
        let signer = self.instance.certify_with(URI, ISSUER, |leaf| leaf.receipts = receipts);
        self.instance.make(&signer, ARTIFACT, &Shape::ALL[0])
    }

    pub(crate) fn verify(&self, bundle: &Value) -> Result<Verified, Error> {
        self.verify_as(bundle, ARTIFACT)
    }

    pub(crate) fn verify_as(&self, bundle: &Value, artifact: &[u8]) -> Result<Verified, Error> {
        let artifact = Artifact::from_bytes(artifact);
        Verifier::new(&self.root)
            .verify_json(bundle.to_string().as_bytes(), &artifact)
            .into_result()
    }

    pub(crate) fn code(&self, bundle: &Value) -> &'static str {
        self.verify(bundle).expect_err("refused").code()
    }
}

pub(crate) fn shape(name: &str) -> &'static Shape {
    Shape::ALL.iter().find(|shape| shape.name == name).unwrap()
}

/// The bundle with its first entry replaced by another of the same kind.
pub(crate) fn with_entry(bundle: &Value, entry: &LogEntry) -> Value {
    let kind = bundle.pointer(&format!("{ENTRY}/kindVersion")).unwrap().clone();
    let mut entry: Value = serde_json::from_str(&entry.to_json()).unwrap();
    entry["kindVersion"] = kind;
    with(bundle, ENTRY, |_| entry.clone())
}

/// The bundle with one member changed.
pub(crate) fn with(bundle: &Value, path: &str, change: impl Fn(&Value) -> Value) -> Value {
    let mut bundle = bundle.clone();
    let member = bundle.pointer_mut(path).unwrap_or_else(|| panic!("no {path}"));
    *member = change(member);
    bundle
}

pub(crate) fn flipped(value: &Value) -> Value {
    let mut bytes = from_base64(value.as_str().unwrap()).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    base64(&bytes).into()
}
