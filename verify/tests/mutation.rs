//! Every field of a bundle and every byte of what it carries is altered, one at a time: each
//! alteration is refused, or stands in a list here with the reason why it means nothing.

use countersign_testkit::Instance;
use countersign_verify::encoding::{base64, from_base64};
use countersign_verify::{Artifact, Error, TrustedRoot, verify_json};
use serde_json::Value;

const ARTIFACT: &[u8] = b"the artifact";
const CERTIFICATE: &str = "/verificationMaterial/certificate/rawBytes";
const TIMESTAMP: &str =
    "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp";
const ENTRY: &str = "/verificationMaterial/tlogEntries/0";

struct Case {
    instance: Instance,
    root: TrustedRoot,
    bundle: Value,
}

impl Case {
    fn new(
        make: impl Fn(&Instance, &countersign_testkit::Signer) -> countersign_verify::Bundle,
    ) -> Self {
        let instance = Instance::new();
        let signer =
            instance.certify("https://git.example.test/acme/widget", "https://issuer.example.test");
        let root = TrustedRoot::parse(instance.trusted_root().as_bytes()).unwrap();
        let bundle = make(&instance, &signer).to_json();
        Self { instance, root, bundle: serde_json::from_str(&bundle).unwrap() }
    }

    fn message() -> Self {
        Self::new(|instance, signer| instance.sign(signer, ARTIFACT))
    }

    fn rekor_v1() -> Self {
        Self::new(|instance, signer| instance.sign_v1(signer, ARTIFACT))
    }

    fn all() -> [Self; 3] {
        [Self::message(), Self::attestation(), Self::rekor_v1()]
    }

    fn is_v1(&self) -> bool {
        self.bundle.pointer(&format!("{ENTRY}/inclusionPromise")).is_some()
    }

    fn attestation() -> Self {
        Self::new(|instance, signer| instance.attest(signer, ARTIFACT))
    }

    fn verdict(&self, bundle: &Value) -> Result<(), Error> {
        self.verdict_of(bundle.to_string().as_bytes())
    }

    fn verdict_of(&self, json: &[u8]) -> Result<(), Error> {
        verify_json(json, &Artifact::from_bytes(ARTIFACT), &self.root).into_result().map(drop)
    }

    /// The bundle with the base64 member at `path` replaced.
    fn with_bytes(&self, path: &str, bytes: &[u8]) -> Value {
        let mut bundle = self.bundle.clone();
        *bundle.pointer_mut(path).unwrap() = base64(bytes).into();
        bundle
    }

    fn bytes(&self, path: &str) -> Vec<u8> {
        from_base64(self.bundle.pointer(path).unwrap().as_str().unwrap()).unwrap()
    }
}

#[test]
fn an_unaltered_bundle_is_accepted() {
    for case in Case::all() {
        case.verdict(&case.bundle).unwrap();
    }
}

/// Every member, by its JSON pointer.
fn members(value: &Value, path: String, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            object.iter().for_each(|(name, value)| members(value, format!("{path}/{name}"), found));
        }
        Value::Array(array) => {
            let each = array.iter().enumerate();
            each.for_each(|(index, value)| members(value, format!("{path}/{index}"), found));
        }
        _ => {}
    }
    found.push(path);
}

/// Other values for one member: a changed text or number, another type, nothing.
fn alterations(value: &Value) -> Vec<Value> {
    let mut altered =
        vec![Value::Null, Value::Bool(true), Value::Array(vec![]), "".into(), 1.into()];
    if let Value::String(text) = value {
        if let Ok(bytes) = from_base64(text) {
            for place in [0, bytes.len() / 2, bytes.len().saturating_sub(1)] {
                let mut bytes = bytes.clone();
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= 1;
                    altered.push(base64(&bytes).into());
                }
            }
            altered.push(base64(&bytes[..bytes.len().saturating_sub(1)]).into());
            altered.push(base64(&[&bytes[..], &[0]].concat()).into());
        }
        if let Ok(number) = text.parse::<i64>() {
            altered.extend([number - 1, number + 1].map(|number| Value::from(number.to_string())));
            altered.push("-1".into());
            altered.push("18446744073709551616".into());
        }
        altered.push(format!("{text}x").into());
        altered.push(text.to_uppercase().into());
    }
    altered.retain(|altered| altered != value);
    altered
}

/// Alterations of members that mean nothing, and why.
fn without_meaning(v1: bool, path: &str, altered: &Value) -> Option<&'static str> {
    let absent = altered.is_null();
    let zero = absent || altered == "0";
    match path.strip_prefix(ENTRY).unwrap_or(path) {
        "/inclusionProof/rootHash" if absent && !v1 => {
            Some("the signed checkpoint has the root; v2 logs may leave it out")
        }
        "/inclusionProof/treeSize" if zero && !v1 => {
            Some("the signed checkpoint has the size; v2 logs may leave it out")
        }
        "/integratedTime" if zero && !v1 => Some("0 and absent are one in protobuf JSON"),
        "/verificationMaterial/publicKey" | "/verificationMaterial/x509CertificateChain"
            if absent =>
        {
            Some("null is absent in protobuf JSON")
        }
        "/messageSignature/messageDigest/algorithm" if *altered == 1 => {
            Some("the number of SHA2_256: protobuf JSON reads names and numbers")
        }
        "/mediaType" if altered == "application/vnd.dev.sigstore.bundle+json;version=0.3" => {
            Some("the other spelling of 0.3")
        }
        _ => None,
    }
}

#[test]
fn every_altered_member_is_refused_or_without_meaning() {
    for case in Case::all() {
        let mut paths = Vec::new();
        members(&case.bundle, String::new(), &mut paths);
        assert!(paths.len() > 20, "the walk finds the members");
        let (mut refused, mut meaningless) = (0, 0);
        for path in paths.iter().filter(|path| !path.is_empty()) {
            for altered in alterations(case.bundle.pointer(path).unwrap()) {
                let mut bundle = case.bundle.clone();
                *bundle.pointer_mut(path).unwrap() = altered.clone();
                match (case.verdict(&bundle), without_meaning(case.is_v1(), path, &altered)) {
                    (Err(_), None) => refused += 1,
                    (Ok(()), Some(_)) => meaningless += 1,
                    (verdict, reason) => {
                        panic!("{path} as {altered}: {verdict:?}, listed: {reason:?}")
                    }
                }
            }
        }
        assert!(
            refused > 200 && meaningless < 10,
            "{refused} refused, {meaningless} without meaning"
        );
    }
}

#[test]
fn every_member_left_out_or_added_is_refused_or_without_meaning() {
    for case in Case::all() {
        left_out_or_added(&case);
    }
}

fn left_out_or_added(case: &Case) {
    let mut paths = Vec::new();
    members(&case.bundle, String::new(), &mut paths);
    for path in paths {
        if let Some((parent, name)) = path.rsplit_once('/') {
            let mut bundle = case.bundle.clone();
            if let Some(object) = bundle.pointer_mut(parent).unwrap().as_object_mut() {
                object.remove(name);
                let expected = without_meaning(case.is_v1(), &path, &Value::Null).is_some();
                assert_eq!(case.verdict(&bundle).is_ok(), expected, "without {path}");
            }
        }
        let mut bundle = case.bundle.clone();
        if let Some(object) = bundle.pointer_mut(&path).unwrap().as_object_mut() {
            object.insert("surplus".to_owned(), Value::Null);
            assert!(case.verdict(&bundle).is_err(), "a surplus member in {path:?}");
        }
    }
}

#[test]
fn every_altered_byte_of_the_certificate_is_refused() {
    let case = Case::message();
    let bytes = case.bytes(CERTIFICATE);
    each_flip(&bytes, |altered, place| {
        assert!(case.verdict(&case.with_bytes(CERTIFICATE, altered)).is_err(), "byte {place}");
    });
}

/// The log entry carries the certificate too, so a certificate altered in both places is refused for
/// its own sake: by its issuer's signature, by the log's receipt, or by the signature over the artifact.
#[test]
fn every_altered_byte_of_a_certificate_that_was_logged_so_is_refused() {
    let case = Case::message();
    let bytes = case.bytes(CERTIFICATE);
    let body = String::from_utf8(case.bytes(&format!("{ENTRY}/canonicalizedBody"))).unwrap();
    each_flip(&bytes, |altered, place| {
        let mut bundle = case.with_bytes(CERTIFICATE, altered);
        let body = body.replace(&base64(&bytes), &base64(altered));
        let entry = case.instance.log(body.into_bytes());
        *bundle.pointer_mut(ENTRY).unwrap() = serde_json::from_str(&entry.to_json()).unwrap();
        assert!(case.verdict(&bundle).is_err(), "byte {place}");
    });
}

#[test]
fn every_altered_byte_of_the_timestamp_is_refused() {
    let case = Case::message();
    let bytes = case.bytes(TIMESTAMP);
    // The status stands outside what is signed, and granted with modifications is granted.
    let status = bytes.windows(3).position(|window| window == [2, 1, 0]).unwrap() + 2;
    each_flip(&bytes, |altered, place| {
        let granted = place == status && altered.get(place) == Some(&1);
        let verdict = case.verdict(&case.with_bytes(TIMESTAMP, altered));
        assert_eq!(verdict.is_ok(), granted, "byte {place}");
    });
}

#[test]
fn every_altered_byte_of_the_checkpoint_is_refused() {
    let path = format!("{ENTRY}/inclusionProof/checkpoint/envelope");
    for case in [Case::message(), Case::rekor_v1()] {
        let text = case.bundle.pointer(&path).unwrap().as_str().unwrap();
        each_flip(text.as_bytes(), |altered, place| {
            let Ok(altered) = std::str::from_utf8(altered) else { return };
            let mut bundle = case.bundle.clone();
            *bundle.pointer_mut(&path).unwrap() = altered.into();
            assert!(case.verdict(&bundle).is_err(), "byte {place}: {altered:?}");
        });
    }
}

/// The bytes with one bit turned over, three different bits of each byte in turn; and cut at each byte.
fn each_flip(bytes: &[u8], mut check: impl FnMut(&[u8], usize)) {
    for place in 0..bytes.len() {
        for bit in [0x01, 0x20, 0x80] {
            let mut altered = bytes.to_vec();
            altered[place] ^= bit;
            check(&altered, place);
        }
        check(&bytes[..place], place);
    }
}

#[test]
fn every_cut_of_the_file_is_refused() {
    let case = Case::message();
    let json = case.bundle.to_string();
    for end in 0..json.len() {
        assert!(case.verdict_of(&json.as_bytes()[..end]).is_err(), "cut at {end}");
    }
    assert!(case.verdict_of(format!("{json}{{}}").as_bytes()).is_err(), "trailing data");
    let twice =
        json.replacen('{', r#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","#, 1);
    assert!(case.verdict_of(twice.as_bytes()).is_err(), "a member twice");
}

#[test]
fn parts_of_another_bundle_are_refused_each_for_its_own_reason() {
    let case = Case::message();
    let code = |bundle: &Value| case.verdict(bundle).unwrap_err().code();
    let other_signer =
        case.instance.certify("https://git.example.test/other", "https://issuer.example.test");
    let other = case.instance.sign(&other_signer, ARTIFACT).to_json();
    let other: Value = serde_json::from_str(&other).unwrap();
    for (path, expected) in [
        (CERTIFICATE, "SIGNATURE_INVALID"),
        (TIMESTAMP, "TIMESTAMP_INVALID"),
        (ENTRY, "LOG_ENTRY_MISMATCH"),
        ("/messageSignature/signature", "SIGNATURE_INVALID"),
    ] {
        let mut bundle = case.bundle.clone();
        *bundle.pointer_mut(path).unwrap() = other.pointer(path).unwrap().clone();
        assert_eq!(code(&bundle), expected, "{path}");
    }
    let elsewhere = Case::message();
    assert_eq!(code(&elsewhere.bundle), "TIMESTAMP_AUTHORITY_UNKNOWN");
    let file = Artifact::from_bytes(b"another artifact");
    let json = case.bundle.to_string();
    let refused = verify_json(json.as_bytes(), &file, &case.root).into_result().unwrap_err();
    assert_eq!(refused.code(), "ARTIFACT_MISMATCH");
}

/// `critical FALSE` is the default, and DER leaves defaults out. A reader that dropped it when it
/// re-encodes would take two certificates for one.
#[test]
fn a_certificate_that_writes_a_default_out_is_refused() {
    use countersign_verify::certificate::{Certificate, Error};
    let signer =
        Instance::new().certify("https://git.example.test/acme", "https://issuer.example.test");
    let der = signer.certificate();
    Certificate::parse(der).unwrap();
    // Extended key usage, not critical: SEQUENCE 19 { OID 2.5.29.37, OCTET STRING }.
    let usage = [0x30, 0x13, 0x06, 0x03, 0x55, 0x1d, 0x25, 0x04];
    let place = der.windows(usage.len()).position(|window| window == usage).expect("it is there");
    let mut altered = der.to_vec();
    altered[place + 1] += 3;
    altered.splice(place + 7..place + 7, [0x01, 0x01, 0x00]);
    // The lengths of what is around it: certificate, body, [3] and the list of extensions.
    let extensions = der.windows(2).position(|window| window == [0xa3, 0x82]).expect("a long list");
    for length in [2, 6, extensions + 2, extensions + 6] {
        let found = u16::from_be_bytes([altered[length], altered[length + 1]]) + 3;
        altered[length..length + 2].copy_from_slice(&found.to_be_bytes());
    }
    assert_eq!(Certificate::parse(&altered), Err(Error::NotCanonical));
}
