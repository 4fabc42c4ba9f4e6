//! Entries about DSSE envelopes: `dsse` 0.0.1, `intoto` 0.0.2 and the obsolete `dsse` 0.0.2.

use super::Verifier;
use crate::dsse::Envelope;
use crate::encoding::{base64, from_base64, hex};
use crate::json;
use crate::key::{HashAlgorithm, KeyDetails};
use serde::Deserialize;
use serde_json::Value;

/// Whether `body` is that of a `dsse` 0.0.1 entry for this envelope and verifier. `envelopeHash` covers
/// the JSON text as it was sent, which a bundle does not keep; everything else is compared.
#[must_use]
pub fn dsse_v1_matches(body: &[u8], envelope: &Envelope, verifier: Verifier<'_>) -> bool {
    let read: Option<Value> = json::from_slice(body).ok();
    let envelope_hash = read.as_ref().and_then(|body| body.pointer("/spec/envelopeHash/value"));
    let Some(envelope_hash) = envelope_hash.and_then(Value::as_str) else { return false };
    if crate::encoding::from_hex(envelope_hash).map_or(0, |hash| hash.len()) != 32 {
        return false;
    }
    let payload_hash = hex(&HashAlgorithm::Sha256.digest(&envelope.payload));
    let (signature, pem) = (base64(&envelope.signature), base64(verifier.to_pem().as_bytes()));
    let expected = format!(
        r#"{{"apiVersion":"0.0.1","kind":"dsse","spec":{{"envelopeHash":{{"algorithm":"sha256","value":"{envelope_hash}"}},"payloadHash":{{"algorithm":"sha256","value":"{payload_hash}"}},"signatures":[{{"signature":"{signature}","verifier":"{pem}"}}]}}}}"#
    );
    body == expected.as_bytes()
}

/// The body of a `dsse` 0.0.2 entry.
#[must_use]
pub fn dsse_v2_body(envelope: &Envelope, verifier: Verifier<'_>, details: KeyDetails) -> Vec<u8> {
    let digest = base64(&HashAlgorithm::Sha256.digest(&envelope.payload));
    let (signature, details) = (base64(&envelope.signature), details.name());
    let (kind, bytes) = match verifier {
        Verifier::Certificate(der) => ("x509Certificate", base64(der)),
        Verifier::PublicKey(spki) => ("publicKey", base64(spki)),
    };
    format!(
        r#"{{"apiVersion":"0.0.2","kind":"dsse","spec":{{"dsseV002":{{"payloadHash":{{"algorithm":"SHA2_256","digest":"{digest}"}},"signatures":[{{"content":"{signature}","verifier":{{"keyDetails":"{details}","{kind}":{{"rawBytes":"{bytes}"}}}}}}]}}}}}}"#
    )
    .into_bytes()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Intoto {
    api_version: String,
    kind: String,
    spec: IntotoSpec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IntotoSpec {
    content: IntotoContent,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct IntotoContent {
    envelope: IntotoEnvelope,
    hash: Option<IntotoHash>,
    payload_hash: IntotoHash,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct IntotoEnvelope {
    payload: Option<String>,
    payload_type: String,
    signatures: Vec<IntotoSignature>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct IntotoSignature {
    public_key: String,
    sig: String,
    keyid: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IntotoHash {
    algorithm: String,
    value: String,
}

/// Whether `body` is that of an `intoto` 0.0.2 entry for this envelope and verifier. Signature and
/// payload are base64 of base64; `content.hash` is what the client claimed and is not compared.
#[must_use]
pub fn intoto_matches(body: &[u8], envelope: &Envelope, verifier: Verifier<'_>) -> bool {
    let Ok(Intoto { api_version, kind, spec }) = json::from_slice(body) else { return false };
    let IntotoContent { envelope: logged, hash, payload_hash } = spec.content;
    let [signature] = logged.signatures.as_slice() else { return false };
    let twice = |bytes: &[u8]| base64(base64(bytes).as_bytes());
    let sha256 = |hash: &IntotoHash| hash.algorithm == "sha256";
    let digest = |bytes: &[u8]| hex(&HashAlgorithm::Sha256.digest(bytes));
    // A payload may have 104 MiB, and a body never holds that: lengths are compared first.
    let is_payload = |logged: String| {
        logged.len() >= envelope.payload.len() && logged == twice(&envelope.payload)
    };
    api_version == "0.0.2"
        && kind == "intoto"
        && logged.payload_type == envelope.payload_type
        && logged.payload.is_none_or(is_payload)
        && signature.sig == twice(&envelope.signature)
        && signature.keyid.as_deref().unwrap_or_default() == envelope.key_id
        && names(&signature.public_key, verifier)
        && hash.is_none_or(|hash| sha256(&hash))
        && sha256(&payload_hash)
        // Some logs hash the payload's base64 text, one encoding short of the payload.
        && (payload_hash.value == digest(&envelope.payload)
            || payload_hash.value == digest(base64(&envelope.payload).as_bytes()))
}

/// Whether `body` is that of an `intoto` 0.0.1 entry for this envelope and verifier: the hash is over the envelope as
/// Go writes it, signature included. The payload's hash came later.
#[must_use]
pub fn intoto_by_hash_matches(body: &[u8], envelope: &Envelope, verifier: Verifier<'_>) -> bool {
    let Envelope { payload_type, payload, signature, key_id } = envelope;
    let text = |text: &str| serde_json::to_string(text).expect("a text is JSON");
    let (payload_type, key_id, signature) = (text(payload_type), text(key_id), base64(signature));
    let head = format!(r#"{{"payloadType":{payload_type},"payload":""#);
    let tail = format!(r#"","signatures":[{{"keyid":{key_id},"sig":"{signature}"}}]}}"#);
    let encoded = base64(payload);
    let whole = [head.as_bytes(), encoded.as_bytes(), tail.as_bytes()];
    let hash = |value: Vec<u8>| format!(r#"{{"algorithm":"sha256","value":"{}"}}"#, hex(&value));
    let envelope_hash = hash(HashAlgorithm::Sha256.digest_of(whole));
    let payload_hash = hash(HashAlgorithm::Sha256.digest(payload));
    let key = base64(verifier.to_pem().as_bytes());
    let is = |payload: &str| {
        let expected = format!(
            r#"{{"apiVersion":"0.0.1","kind":"intoto","spec":{{"content":{{"hash":{envelope_hash}{payload}}},"publicKey":"{key}"}}}}"#
        );
        body == expected.as_bytes()
    };
    is(&format!(r#","payloadHash":{payload_hash}"#)) || is("")
}

/// Whether base64 of a PEM text holds this very certificate or key. The log keeps the text as the
/// client sent it, so its lines may have any length.
fn names(pem: &str, verifier: Verifier<'_>) -> bool {
    let Ok(Ok(text)) = from_base64(pem).map(String::from_utf8) else { return false };
    let without_space = |text: &str| text.split_ascii_whitespace().collect::<String>();
    without_space(&text) == without_space(&verifier.to_pem())
}
