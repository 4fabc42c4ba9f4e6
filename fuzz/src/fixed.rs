//! An instance whose keys nobody has any more, in `testdata/instance`: what its trusted root accepts are
//! its own bundles, or the verifier is wrong.

use countersign_verify::bundle::{Bundle, Content};
use countersign_verify::verify::{LoggedEntry, TrustedTime, Verified};
use countersign_verify::{Artifact, TrustedRoot, timestamp, verify_json};
use serde_json::Value;
use std::sync::LazyLock;

/// What the bundles are about.
pub const ARTIFACT: &[u8] = b"artifact";

/// `trusted_root.json`.
pub const ROOT: &str = include_str!("../../testdata/instance/trusted_root.json");

/// A bundle of each kind.
pub const BUNDLES: [&str; 7] = [
    include_str!("../../testdata/instance/message.sigstore.json"),
    include_str!("../../testdata/instance/attestation.sigstore.json"),
    include_str!("../../testdata/instance/message-v1.sigstore.json"),
    include_str!("../../testdata/instance/dsse-v1.sigstore.json"),
    include_str!("../../testdata/instance/intoto-promised.sigstore.json"),
    include_str!("../../testdata/instance/both-logs.sigstore.json"),
    include_str!("../../testdata/instance/cosign.sigstore.json"),
];

/// A Fulcio configuration with every kind of issuer.
pub const CONFIGURATION: &str = include_str!("../../testdata/fulcio/configuration.yaml");

/// Tokens of providers, each with its claims.
pub const IDENTITIES: [&str; 5] = [
    include_str!("../../testdata/identity/github-enterprise-cloud.json"),
    include_str!("../../testdata/identity/kubernetes.json"),
    include_str!("../../testdata/identity/circleci.json"),
    include_str!("../../testdata/identity/codefresh.json"),
    include_str!("../../testdata/identity/chainguard.json"),
];

/// Members that are bytes; the others are text.
const BYTES: [&str; 14] = [
    "SignedEntryTimestamp",
    "base64Signature",
    "body",
    "cert",
    "canonicalizedBody",
    "digest",
    "keyId",
    "payload",
    "rawBytes",
    "rootHash",
    "sig",
    "signature",
    "signedEntryTimestamp",
    "signedTimestamp",
];

struct Genuine {
    json: Value,
    /// JSON pointers of the members that are texts.
    members: Vec<String>,
    bundle: Bundle,
    verified: Verified,
}

static TRUST: LazyLock<TrustedRoot> =
    LazyLock::new(|| TrustedRoot::parse(ROOT.as_bytes()).expect("a trusted root"));

static GENUINE: LazyLock<Vec<Genuine>> = LazyLock::new(|| {
    let genuine = BUNDLES.map(|text| {
        let json: Value = serde_json::from_str(text).expect("JSON");
        let mut members = Vec::new();
        texts(&json, "", &mut members);
        let bundle = Bundle::parse(text.as_bytes()).expect("a bundle");
        let report = verify_json(text.as_bytes(), &Artifact::from_bytes(ARTIFACT), &TRUST);
        Genuine { json, members, bundle, verified: report.into_result().expect("it is genuine") }
    });
    genuine.into()
});

fn texts(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| texts(value, &format!("{path}/{name}"), found));
        }
        Value::Array(list) => {
            let each = list.iter().enumerate();
            each.for_each(|(place, value)| texts(value, &format!("{path}/{place}"), found));
        }
        Value::String(_) => found.push(path.to_owned()),
        _ => {}
    }
}

fn is_bytes(path: &str) -> bool {
    let mut names = path.rsplit('/');
    let last = names.next().unwrap_or_default();
    BYTES.contains(&last) || names.next() == Some("hashes")
}

/// Reads an input: a bundle's JSON, or the number of a genuine bundle and what to write into its
/// members: each the member's number, a length in two bytes, little endian, and the bytes. So mutations
/// reach what is below base64.
fn read(data: &[u8]) -> Option<Vec<u8>> {
    let (&number, mut rest) = data.split_first()?;
    let Some(genuine) = GENUINE.get(usize::from(number)) else { return Some(data.to_vec()) };
    let mut json = genuine.json.clone();
    while let [member, low, high, bytes @ ..] = rest {
        let path = genuine.members.get(usize::from(*member))?;
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(bytes.len());
        let (bytes, others) = bytes.split_at(length);
        let text = if is_bytes(path) {
            countersign_verify::encoding::base64(bytes)
        } else {
            std::str::from_utf8(bytes).ok()?.to_owned()
        };
        *json.pointer_mut(path).expect("a member of it") = text.into();
        rest = others;
    }
    Some(json.to_string().into_bytes())
}

/// Inputs for [`check`]: every bundle as it is, and every member of each by itself.
#[must_use]
pub fn inputs() -> Vec<Vec<u8>> {
    let mut inputs: Vec<Vec<u8>> = BUNDLES.map(|text| text.as_bytes().to_vec()).into();
    for (number, genuine) in GENUINE.iter().enumerate() {
        let number = u8::try_from(number).expect("few bundles");
        for (member, path) in genuine.members.iter().enumerate() {
            let text = genuine.json.pointer(path).and_then(Value::as_str).expect("a text");
            let bytes = if is_bytes(path) {
                countersign_verify::encoding::from_base64(text).expect("base64")
            } else {
                text.as_bytes().to_vec()
            };
            let length = u16::try_from(bytes.len()).expect("small members").to_le_bytes();
            let member = u8::try_from(member).expect("few members");
            inputs.push([&[number, member], &length[..], &bytes].concat());
        }
    }
    inputs
}

/// Verifies an input. What is accepted must be one of the genuine bundles, up to JSON spelling and what
/// nothing signs.
///
/// # Panics
/// When something else is accepted.
pub fn check(data: &[u8]) {
    let Some(json) = read(data) else { return };
    let report = verify_json(&json, &Artifact::from_bytes(ARTIFACT), &TRUST);
    let Ok(verified) = report.into_result() else { return };
    let bundle = Bundle::parse(&json).expect("what is accepted is a bundle");
    let genuine = GENUINE.iter().any(|genuine| genuine.is(&bundle, &verified));
    assert!(genuine, "accepted: {}", String::from_utf8_lossy(&json));
}

/// Verifies a timestamp over each bundle's signature: what is accepted says a time that the bundle's own
/// timestamps say.
///
/// # Panics
/// When another time is accepted.
pub fn check_timestamp(data: &[u8]) {
    for genuine in GENUINE.iter() {
        let signature = genuine.bundle.content().signature();
        let verdict = timestamp::verify(data, signature, TRUST.timestamp_authorities());
        let Ok((time, _)) = verdict else { continue };
        let known = genuine.verified.times().iter().any(|known| known.time == time);
        assert!(known && !genuine.bundle.timestamps().is_empty(), "accepted: {time}");
    }
}

impl Genuine {
    /// Whether what was accepted is this bundle. Entries and times may be fewer; the proof may be left
    /// out where the log's promise suffices.
    fn is(&self, bundle: &Bundle, verified: &Verified) -> bool {
        let place = |entry: &LoggedEntry| (entry.log.clone(), entry.index);
        let places: Vec<_> = self.verified.entries().iter().map(place).collect();
        let known = |time: &TrustedTime| self.verified.times().contains(time);
        let content = match (bundle.content(), self.bundle.content()) {
            (Content::Message(found), Content::Message(own)) => found == own,
            (Content::Dsse(found), Content::Dsse(own)) => {
                (&found.payload_type, &found.payload, &found.signature)
                    == (&own.payload_type, &own.payload, &own.signature)
            }
            _ => false,
        };
        content
            && verified.signer() == self.verified.signer()
            && verified.artifact() == self.verified.artifact()
            && verified.times().iter().all(known)
            && verified.entries().iter().all(|entry| places.contains(&place(entry)))
    }
}
