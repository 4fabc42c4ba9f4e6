//! Bundles of every generation and kind that is in use.

use crate::instance::{Instance, Signer};
use countersign_verify::bundle::{Bundle, Content, LogEntry, Material, MessageSignature};
use countersign_verify::dsse::{Envelope, IN_TOTO};
use countersign_verify::encoding::{base64, hex};
use countersign_verify::entry::{
    Verifier, dsse_v2_body, hashedrekord_v1_body, hashedrekord_v2_body,
};
use countersign_verify::key::HashAlgorithm;
use serde_json::{Value, json};

/// How a bundle is made.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// A name for failures.
    pub name: &'static str,
    /// `mediaType`; empty for cosign's own bundle.
    pub media_type: &'static str,
    /// The envelope's statement type; none for a signature over the artifact itself.
    pub statement: Option<&'static str>,
    /// Kind and version of each log entry.
    pub entries: &'static [(&'static str, &'static str)],
    /// Whether Rekor v1's promise is there.
    pub promise: bool,
    /// Whether the inclusion proof is there.
    pub proof: bool,
    /// A timestamp, and whether its certificate is embedded.
    pub timestamp: Option<bool>,
}

const V01: &str = "application/vnd.dev.sigstore.bundle+json;version=0.1";
const V02: &str = "application/vnd.dev.sigstore.bundle+json;version=0.2";
const V03_OLD: &str = "application/vnd.dev.sigstore.bundle+json;version=0.3";
const V03: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const STATEMENT: Option<&str> = Some("https://in-toto.io/Statement/v1");
const OLD_STATEMENT: Option<&str> = Some("https://in-toto.io/Statement/v0.1");
const REKORD: (&str, &str) = ("hashedrekord", "0.0.1");
const REKORD_V2: (&str, &str) = ("hashedrekord", "0.0.2");
const DSSE: (&str, &str) = ("dsse", "0.0.1");
const DSSE_V2: (&str, &str) = ("dsse", "0.0.2");
const INTOTO: (&str, &str) = ("intoto", "0.0.2");
const INTOTO_BY_HASH: (&str, &str) = ("intoto", "0.0.1");

/// The plain case: what is written today.
const PLAIN: Shape = Shape {
    name: "0.3 message, Rekor v2",
    media_type: V03,
    statement: None,
    entries: &[REKORD_V2],
    promise: false,
    proof: true,
    timestamp: Some(false),
};

/// Rekor v1, whose promise tells the time.
const PROMISED: Shape = Shape {
    name: "0.3 message, Rekor v1",
    entries: &[REKORD],
    promise: true,
    timestamp: None,
    ..PLAIN
};

impl Shape {
    /// Every kind.
    pub const ALL: [Self; 21] = [
        PLAIN,
        Self {
            name: "0.3 old spelling, embedded certificate",
            media_type: V03_OLD,
            timestamp: Some(true),
            ..PLAIN
        },
        Self { name: "0.3 statement, Rekor v2", statement: STATEMENT, ..PLAIN },
        Self { name: "0.3 old statement, Rekor v2", statement: OLD_STATEMENT, ..PLAIN },
        Self {
            name: "0.3 statement, obsolete dsse of Rekor v2",
            statement: STATEMENT,
            entries: &[DSSE_V2],
            ..PLAIN
        },
        PROMISED,
        Self {
            name: "0.3 statement, dsse of Rekor v1",
            statement: STATEMENT,
            entries: &[DSSE],
            ..PROMISED
        },
        Self {
            name: "0.3 statement, intoto of Rekor v1",
            statement: STATEMENT,
            entries: &[INTOTO],
            ..PROMISED
        },
        Self { name: "0.3 statement, hashedrekord of Rekor v1", statement: STATEMENT, ..PROMISED },
        Self { name: "0.3 message, Rekor v1 with a timestamp", timestamp: Some(true), ..PROMISED },
        Self {
            name: "0.3 message, Rekor v1 without promise",
            promise: false,
            timestamp: Some(false),
            ..PROMISED
        },
        Self { name: "0.3 message, both logs", entries: &[REKORD, REKORD_V2], ..PROMISED },
        Self { name: "0.2 message", media_type: V02, ..PROMISED },
        Self {
            name: "0.2 statement, dsse",
            media_type: V02,
            statement: STATEMENT,
            entries: &[DSSE],
            ..PROMISED
        },
        Self {
            name: "0.2 old statement, intoto",
            media_type: V02,
            statement: OLD_STATEMENT,
            entries: &[INTOTO],
            ..PROMISED
        },
        Self { name: "0.1 message, promise alone", media_type: V01, proof: false, ..PROMISED },
        Self { name: "0.1 message, promise and proof", media_type: V01, ..PROMISED },
        Self {
            name: "0.1 statement, intoto, promise alone",
            media_type: V01,
            statement: OLD_STATEMENT,
            entries: &[INTOTO],
            proof: false,
            ..PROMISED
        },
        Self { name: "cosign's own, message", media_type: "", proof: false, ..PROMISED },
        Self {
            name: "cosign's own, statement",
            media_type: "",
            statement: STATEMENT,
            entries: &[DSSE],
            proof: false,
            ..PROMISED
        },
        Self {
            name: "cosign's own, statement by its hash",
            media_type: "",
            statement: OLD_STATEMENT,
            entries: &[INTOTO_BY_HASH],
            proof: false,
            ..PROMISED
        },
    ];

    /// Whether each entry is of a Rekor v1 log.
    #[must_use]
    pub fn is_v1(&self) -> bool {
        self.entries.iter().all(|&entry| [REKORD, DSSE, INTOTO, INTOTO_BY_HASH].contains(&entry))
    }

    /// Whether it is cosign's own bundle, which has other members.
    #[must_use]
    pub const fn is_legacy(&self) -> bool {
        self.media_type.is_empty()
    }
}

impl Instance {
    /// A complete bundle of this shape over `artifact`, as JSON.
    ///
    /// # Panics
    /// When the shape has no place for what the key signs, such as a hashedrekord for pure Ed25519.
    #[must_use]
    pub fn make(&self, signer: &Signer, artifact: &[u8], shape: &Shape) -> Value {
        let content = content(signer, artifact, shape);
        let signature = content.signature().to_vec();
        let entries: Vec<_> = shape
            .entries
            .iter()
            .map(|&(kind, version)| self.entry(signer, &content, kind, version, shape))
            .collect();
        if shape.is_legacy() {
            return legacy(signer, &content, &entries[0]);
        }
        let stamp = |embedded| self.timestamp_with(&signature, self.stamped(), embedded);
        let timestamps = shape.timestamp.map(stamp).into_iter().collect();
        let material = match &signer.certificate {
            Some(certificate) => Material::Certificate(certificate.clone()),
            None => {
                Material::PublicKey { hint: base64(&HashAlgorithm::Sha256.digest(&signer.spki())) }
            }
        };
        // Entries without proof are added afterwards: generation 0.3 has none such.
        let bundle = Bundle::new(material, vec![], timestamps, content).unwrap();
        let mut json: Value = serde_json::from_str(&bundle.to_json()).unwrap();
        json["mediaType"] = shape.media_type.into();
        let entries = entries.iter().map(|entry| serde_json::from_str(&entry.to_json()).unwrap());
        let material = json["verificationMaterial"].as_object_mut().unwrap();
        material.insert("tlogEntries".to_owned(), entries.collect::<Vec<Value>>().into());
        if let (V01 | V02, Some(leaf)) = (shape.media_type, material.remove("certificate")) {
            let issuer = json!({ "rawBytes": base64(&self.issuer_certificate()) });
            let chain = json!({ "certificates": [leaf, issuer] });
            material.insert("x509CertificateChain".to_owned(), chain);
        } else if let Some(certificate) = &signer.certificate {
            let certificate = json!({ "rawBytes": base64(certificate) });
            material.insert("certificate".to_owned(), certificate);
        }
        json
    }

    fn entry(
        &self,
        signer: &Signer,
        content: &Content,
        kind: &'static str,
        version: &'static str,
        shape: &Shape,
    ) -> LogEntry {
        let spki = signer.spki();
        let verifier = match &signer.certificate {
            Some(certificate) => Verifier::Certificate(certificate),
            None => Verifier::PublicKey(&spki),
        };
        let details = signer.details();
        let hash = details.scheme().hash();
        let signature = content.signature();
        let mut entry = match (content, (kind, version)) {
            (Content::Message(message), REKORD) => {
                let body = hashedrekord_v1_body(message.hash, &message.digest, signature, verifier);
                self.log_v1_as(kind, version, body)
            }
            (Content::Message(message), REKORD_V2) => {
                let (hash, digest) = (message.hash, &message.digest);
                self.log(hashedrekord_v2_body(hash, digest, signature, verifier, details))
            }
            (Content::Dsse(envelope), REKORD) => {
                let hash = hash.expect("a key that signs digests");
                let digest = envelope.pae_digest(hash);
                let body = hashedrekord_v1_body(hash, &digest, signature, verifier);
                self.log_v1_as(kind, version, body)
            }
            (Content::Dsse(envelope), REKORD_V2) => {
                let hash = hash.expect("a key that signs digests");
                let digest = envelope.pae_digest(hash);
                self.log(hashedrekord_v2_body(hash, &digest, signature, verifier, details))
            }
            (Content::Dsse(envelope), DSSE_V2) => {
                let entry = self.log(dsse_v2_body(envelope, verifier, details));
                LogEntry { kind: kind.to_owned(), ..entry }
            }
            (Content::Dsse(envelope), DSSE) => {
                self.log_v1_as(kind, version, dsse_body(envelope, verifier))
            }
            (Content::Dsse(envelope), INTOTO) => {
                self.log_v1_as(kind, version, intoto_body(envelope, verifier))
            }
            (Content::Dsse(envelope), INTOTO_BY_HASH) => {
                self.log_v1_as(kind, version, intoto_by_hash_body(envelope, verifier))
            }
            other => unreachable!("no such entry: {other:?}"),
        };
        if !shape.promise {
            (entry.promise, entry.integrated_time) = (None, 0);
        }
        if !shape.proof {
            entry.proof = None;
        }
        entry
    }
}

fn content(signer: &Signer, artifact: &[u8], shape: &Shape) -> Content {
    let Some(kind) = shape.statement else {
        let hash = signer.details().scheme().hash().unwrap_or(HashAlgorithm::Sha256);
        let (digest, signature) = (hash.digest(artifact), signer.sign(artifact));
        return Content::Message(MessageSignature { hash, digest, signature });
    };
    Content::Dsse(envelope(signer, artifact, kind))
}

/// A signed statement of type `kind` about `artifact`.
pub(crate) fn envelope(signer: &Signer, artifact: &[u8], kind: &str) -> Envelope {
    let digest = hex(&HashAlgorithm::Sha256.digest(artifact));
    let statement = json!({
        "_type": kind,
        "subject": [{ "name": "artifact", "digest": { "sha256": digest } }],
        "predicateType": "https://example.test/predicate", "predicate": {} });
    let mut envelope = Envelope {
        payload_type: IN_TOTO.to_owned(),
        payload: statement.to_string().into_bytes().into(),
        signature: vec![],
        key_id: String::new(),
    };
    envelope.signature = signer.sign(&envelope.pae());
    envelope
}

/// RFC 8785 by another hand than the verifier's: serde_json sorts, and the texts are plain.
fn dsse_body(envelope: &Envelope, verifier: Verifier<'_>) -> Vec<u8> {
    let sha256 = |bytes: &[u8]| json!({ "algorithm": "sha256", "value": hex(&HashAlgorithm::Sha256.digest(bytes)) });
    let signature = json!({ "signature": base64(&envelope.signature),
        "verifier": base64(verifier.to_pem().as_bytes()) });
    json!({ "apiVersion": "0.0.1", "kind": "dsse", "spec": {
        "envelopeHash": sha256(b"the envelope as it was sent"),
        "payloadHash": sha256(&envelope.payload), "signatures": [signature] } })
    .to_string()
    .into_bytes()
}

fn intoto_body(envelope: &Envelope, verifier: Verifier<'_>) -> Vec<u8> {
    let sha256 = |bytes: &[u8]| json!({ "algorithm": "sha256", "value": hex(&HashAlgorithm::Sha256.digest(bytes)) });
    let signature = json!({ "publicKey": base64(verifier.to_pem().as_bytes()),
        "sig": base64(base64(&envelope.signature).as_bytes()) });
    json!({ "apiVersion": "0.0.2", "kind": "intoto", "spec": { "content": {
        "envelope": { "payloadType": envelope.payload_type, "signatures": [signature] },
        "hash": sha256(b"the envelope as it was sent"),
        "payloadHash": sha256(&envelope.payload) } } })
    .to_string()
    .into_bytes()
}

/// The envelope is Go's, member by member.
fn intoto_by_hash_body(envelope: &Envelope, verifier: Verifier<'_>) -> Vec<u8> {
    let sha256 = |bytes: &[u8]| json!({ "algorithm": "sha256", "value": hex(&HashAlgorithm::Sha256.digest(bytes)) });
    let written = [
        r#"{"payloadType":""#,
        &envelope.payload_type,
        r#"","payload":""#,
        &base64(&envelope.payload),
        r#"","signatures":[{"keyid":"","sig":""#,
        &base64(&envelope.signature),
        r#""}]}"#,
    ];
    json!({ "apiVersion": "0.0.1", "kind": "intoto", "spec": {
        "content": { "hash": sha256(written.concat().as_bytes()), "payloadHash": sha256(&envelope.payload) },
        "publicKey": base64(verifier.to_pem().as_bytes()) } })
    .to_string()
    .into_bytes()
}

/// Cosign's own bundle: a signature or a whole envelope, a PEM text, and the log's answer.
fn legacy(signer: &Signer, content: &Content, entry: &LogEntry) -> Value {
    let spki = signer.spki();
    let verifier = match &signer.certificate {
        Some(certificate) => Verifier::Certificate(certificate),
        None => Verifier::PublicKey(&spki),
    };
    let signature = match content {
        Content::Message(message) => base64(&message.signature),
        Content::Dsse(envelope) => {
            let signature = json!({ "keyid": "", "sig": base64(&envelope.signature) });
            let envelope = json!({ "payloadType": envelope.payload_type,
                "payload": base64(&envelope.payload), "signatures": [signature] });
            base64(envelope.to_string().as_bytes())
        }
    };
    json!({
        "base64Signature": signature,
        "cert": base64(verifier.to_pem().as_bytes()),
        "rekorBundle": {
            "SignedEntryTimestamp": base64(entry.promise.as_ref().unwrap()),
            "Payload": { "body": base64(&entry.body), "integratedTime": entry.integrated_time,
                "logIndex": entry.log_index, "logID": hex(&entry.log_id) } } })
}
