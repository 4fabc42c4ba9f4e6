//! What a proposed entry becomes: the request read by its kind, its signatures checked, and the body as it is stored.
//! Pure: bytes in, a body or a refusal out.

use super::{Error, MAX_REQUEST};
use crate::face::OwnedVerifier;
use crate::face::accept::{Accepted, Asked, Denied};
use countersign_verify::certificate::Certificate;
use countersign_verify::dsse::pae;
use countersign_verify::encoding::{base64, from_base64, from_hex, hex};
use countersign_verify::entry;
use countersign_verify::json;
use countersign_verify::key::{self, HashAlgorithm, PublicKey};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::cell::OnceCell;

/// What a request or a stored body says of itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Named {
    pub(super) kind: String,
    pub(super) api_version: String,
}

#[derive(Deserialize)]
struct Request<S> {
    spec: S,
}

/// An entry's body, and what policy says of it.
pub(super) type Checked = (Vec<u8>, Result<(), Box<Denied>>);

/// The body that a request makes, after its signatures were checked.
pub(super) fn canonical_body(request: &[u8], accepted: &Accepted) -> Result<Checked, Error> {
    if request.len() > MAX_REQUEST {
        return Err(Error::RequestTooLong { limit: MAX_REQUEST, found: request.len() });
    }
    let Named { api_version, kind } = json::from_slice(request).map_err(malformed)?;
    match (kind.as_str(), api_version.as_str()) {
        ("hashedrekord", "0.0.1") => hashedrekord(spec(request)?, accepted),
        ("dsse", "0.0.1") => dsse(spec(request)?, accepted),
        ("intoto", "0.0.2") => intoto(spec(request)?, accepted),
        _ => Err(Error::Kind { found: format!("{kind} {api_version}").chars().take(64).collect() }),
    }
}

/// Read by its kind at once: as JSON of any shape it would take many times its memory.
fn spec<S: DeserializeOwned>(request: &[u8]) -> Result<S, Error> {
    let Request { spec } = json::from_slice(request).map_err(malformed)?;
    Ok(spec)
}

fn malformed(error: serde_json::Error) -> Error {
    Error::Json(error.to_string())
}

#[derive(Deserialize)]
struct RekordSpec {
    data: RekordData,
    signature: RekordSignature,
}

#[derive(Deserialize)]
struct RekordData {
    hash: WireHash,
}

#[derive(Deserialize)]
struct WireHash {
    algorithm: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RekordSignature {
    content: String,
    public_key: WireContent,
}

#[derive(Deserialize)]
struct WireContent {
    content: String,
}

fn hashedrekord(spec: RekordSpec, accepted: &Accepted) -> Result<Checked, Error> {
    let RekordSpec { data, signature } = spec;
    let hash = HashAlgorithm::ALL
        .into_iter()
        .find(|hash| hash.short_name() == data.hash.algorithm)
        .ok_or(Error::Member { member: "data.hash.algorithm" })?;
    let digest = from_hex(&data.hash.value).ok().filter(|digest| digest.len() == hash.digest_len());
    let digest = digest.ok_or(Error::Member { member: "data.hash.value" })?;
    let member = "signature.publicKey.content";
    let (verifier, key) = verifier(member, &signature.public_key.content, accepted)?;
    let signature = decode("signature.content", &signature.content)?;
    key.verify_digest(hash, &digest, &signature)?;
    let signer = verifier.borrow();
    let asked = Asked { signer, digest: (hash, digest.as_slice()), payload: None };
    let body = entry::hashedrekord_v1_body(hash, &digest, &signature, signer);
    Ok((body, accepted.by_policy(&asked)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DsseSpec {
    proposed_content: Proposed,
}

#[derive(Deserialize)]
struct Proposed {
    envelope: String,
    verifiers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireEnvelope {
    payload: String,
    payload_type: String,
    signatures: Vec<WireSignature>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSignature {
    sig: String,
    #[serde(default)]
    keyid: Option<String>,
    #[serde(default)]
    public_key: Option<String>,
}

/// Every signature of the envelope must be by one of the verifiers.
fn dsse(spec: DsseSpec, accepted: &Accepted) -> Result<Checked, Error> {
    let DsseSpec { proposed_content: Proposed { envelope: text, verifiers } } = spec;
    let envelope: WireEnvelope = json::from_str(&text).map_err(malformed)?;
    if envelope.signatures.is_empty() || envelope.signatures.len() > MAX_SIGNATURES {
        return Err(Error::Signatures { limit: MAX_SIGNATURES, found: envelope.signatures.len() });
    }
    // Each signature may be by each of them.
    let tries = envelope.signatures.len().saturating_mul(verifiers.len());
    if tries > MAX_TRIES {
        return Err(Error::Tries { limit: MAX_TRIES, found: tries });
    }
    let payload = decode("envelope.payload", &envelope.payload)?;
    let verifiers = verifiers
        .iter()
        .map(|pem| verifier("proposedContent.verifiers", pem, accepted))
        .collect::<Result<Vec<_>, _>>()?;
    let signed = Signed::new(&envelope.payload_type, &payload);
    let (mut signatures, mut allowed) = (Vec::new(), Ok(()));
    for WireSignature { sig, .. } in &envelope.signatures {
        let signature = decode("envelope.signatures.sig", sig)?;
        let by = verifiers.iter().find(|(_, key)| signed.verify(key, &signature).is_ok());
        let (by, _) = by.ok_or(Error::NoVerifier)?;
        allowed = allowed.and_then(|()| envelope_allowed(accepted, by, &signed, &payload));
        let pem = base64(by.borrow().to_pem().as_bytes());
        signatures.push((base64(&signature), pem));
    }
    signatures.sort();
    let signatures: Vec<_> = signatures
        .into_iter()
        .map(|(signature, verifier)| json!({ "signature": signature, "verifier": verifier }))
        .collect();
    let hash = |bytes: &[u8]| json!({ "algorithm": "sha256", "value": hex(&HashAlgorithm::Sha256.digest(bytes)) });
    let body = json!({ "apiVersion": "0.0.1", "kind": "dsse", "spec": {
        "envelopeHash": hash(text.as_bytes()), "payloadHash": hash(&payload), "signatures": signatures } });
    Ok((canonical(&body), allowed))
}

/// Most signatures of one envelope. Clients send one.
const MAX_SIGNATURES: usize = 16;

/// Most pairs of a signature and a verifier, of which a few may take a hash of the whole envelope each. Clients
/// send one.
const MAX_TRIES: usize = 16;

#[derive(Deserialize)]
struct IntotoSpec {
    content: IntotoContent,
}

#[derive(Deserialize)]
struct IntotoContent {
    envelope: WireEnvelope,
    hash: WireHash,
}

/// Payload and signatures come in base64 of base64; the payload is not kept.
fn intoto(spec: IntotoSpec, accepted: &Accepted) -> Result<Checked, Error> {
    let IntotoSpec { content: IntotoContent { envelope, hash: claimed } } = spec;
    if envelope.signatures.is_empty() || envelope.signatures.len() > MAX_SIGNATURES {
        return Err(Error::Signatures { limit: MAX_SIGNATURES, found: envelope.signatures.len() });
    }
    let digest = from_hex(&claimed.value).ok().filter(|digest| digest.len() == 32);
    if claimed.algorithm != "sha256" || digest.is_none() {
        return Err(Error::Member { member: "content.hash" });
    }
    let payload = decode_twice("envelope.payload", &envelope.payload)?;
    let signed = Signed::new(&envelope.payload_type, &payload);
    let (mut signatures, mut allowed) = (Vec::new(), Ok(()));
    for WireSignature { sig, keyid, public_key } in envelope.signatures {
        let pem = public_key.ok_or(Error::Member { member: "envelope.signatures.publicKey" })?;
        let (by, key) = verifier("envelope.signatures.publicKey", &pem, accepted)?;
        let signature = decode_twice("envelope.signatures.sig", &sig)?;
        signed.verify(&key, &signature)?;
        allowed = allowed.and_then(|()| envelope_allowed(accepted, &by, &signed, &payload));
        let mut stored =
            json!({ "publicKey": base64(by.borrow().to_pem().as_bytes()), "sig": sig });
        if let Some(keyid) = keyid.filter(|keyid| !keyid.is_empty()) {
            stored["keyid"] = keyid.into();
        }
        signatures.push(stored);
    }
    let payload_hash = hex(&HashAlgorithm::Sha256.digest(&payload));
    let body = json!({ "apiVersion": "0.0.2", "kind": "intoto", "spec": { "content": {
        "envelope": { "payloadType": envelope.payload_type, "signatures": signatures },
        "hash": { "algorithm": "sha256", "value": claimed.value.to_ascii_lowercase() },
        "payloadHash": { "algorithm": "sha256", "value": payload_hash } } } });
    Ok((canonical(&body), allowed))
}

/// RFC 8785: serde_json sorts members, writes no white space and escapes what must be; there are no numbers.
fn canonical(body: &Value) -> Vec<u8> {
    serde_json::to_vec(body).expect("texts only")
}

fn envelope_allowed(
    accepted: &Accepted,
    by: &OwnedVerifier,
    signed: &Signed,
    payload: &[u8],
) -> Result<(), Box<Denied>> {
    if accepted.policy.is_none() {
        return Ok(()); // and nothing large is hashed for it
    }
    let hash = HashAlgorithm::Sha256;
    let digest = (hash, signed.digest(hash));
    accepted.by_policy(&Asked { signer: by.borrow(), digest, payload: Some(payload) })
}

/// What an envelope's signatures are over, with its digests: each is made once, however many keys are tried.
struct Signed {
    pae: Vec<u8>,
    digests: [OnceCell<Vec<u8>>; HashAlgorithm::ALL.len()],
}

impl Signed {
    fn new(payload_type: &str, payload: &[u8]) -> Self {
        Self { pae: pae(payload_type, payload), digests: Default::default() }
    }

    fn digest(&self, hash: HashAlgorithm) -> &[u8] {
        self.digests[hash as usize].get_or_init(|| hash.digest(&self.pae))
    }

    /// Checks a signature in whatever way the key signs.
    fn verify(&self, key: &PublicKey, signature: &[u8]) -> Result<(), key::Error> {
        let mut verdict = Err(key::Error::Signature { kind: key.kind() });
        for &scheme in key.schemes() {
            verdict = match scheme.hash() {
                Some(hash) => key.verify_digest_by(scheme, self.digest(hash), signature),
                None => key.verify_message(&self.pae, signature),
            };
            if verdict.is_ok() {
                break;
            }
        }
        verdict
    }
}

/// Reads base64 of one PEM block, a certificate or a public key.
fn verifier(
    member: &'static str,
    text: &str,
    accepted: &Accepted,
) -> Result<(OwnedVerifier, PublicKey), Error> {
    let pem = decode(member, text)?;
    let (label, der) = der::pem::decode_vec(pem.trim_ascii()).map_err(|_| Error::Pem { member })?;
    match label {
        "CERTIFICATE" => {
            let certificate = Certificate::parse(&der)?;
            let key = PublicKey::from_spki(certificate.spki())?;
            accepted
                .certificate(&certificate)
                .map_err(|refused| Error::Refused { member, refused })?;
            Ok((OwnedVerifier::Certificate(der), key))
        }
        "PUBLIC KEY" => {
            let key = PublicKey::from_spki(&der)?;
            accepted.key(&der).map_err(|refused| Error::Refused { member, refused })?;
            Ok((OwnedVerifier::PublicKey(der), key))
        }
        _ => Err(Error::Pem { member }),
    }
}

fn decode(member: &'static str, text: &str) -> Result<Vec<u8>, Error> {
    from_base64(text).ok().filter(|bytes| !bytes.is_empty()).ok_or(Error::Member { member })
}

fn decode_twice(member: &'static str, text: &str) -> Result<Vec<u8>, Error> {
    let once = String::from_utf8(decode(member, text)?).map_err(|_| Error::Member { member })?;
    decode(member, &once)
}
