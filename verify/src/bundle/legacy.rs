//! The bundle of cosign 1 and 2 for local files, before Sigstore had a format: a signature, a PEM text,
//! and what Rekor v1 answered, unless nobody asked it. It proves as much as a bundle of generation 0.1 and is read
//! as one.

use super::wire::{self, Error};
use super::{Bundle, Content, LogEntry, Material, MessageSignature, Version};
use crate::encoding::{self, from_base64, from_hex};
use crate::json;
use crate::key::HashAlgorithm;
use crate::limits::{MAX_CERTIFICATE, MAX_ENTRY, MAX_PAYLOAD};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
struct LocalBundle {
    base64_signature: String,
    cert: Option<String>,
    rekor_bundle: Option<RekorBundle>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct RekorBundle {
    signed_entry_timestamp: String,
    payload: Payload,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
struct Payload {
    body: String,
    integrated_time: i64,
    log_index: u64,
    #[serde(rename = "logID")]
    log_id: String,
}

/// What an entry's body says of its kind, and of the digest it is about.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    api_version: String,
    kind: String,
    spec: serde_json::Value,
}

/// Whether the JSON, which has no `mediaType`, is such a bundle.
pub(super) fn is_legacy(json: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        media_type: Option<serde::de::IgnoredAny>,
        base64_signature: Option<serde::de::IgnoredAny>,
    }
    let members: Result<Members, _> = json::from_slice(json);
    members.is_ok_and(|members| members.media_type.is_none() && members.base64_signature.is_some())
}

pub(super) fn read(json: &[u8]) -> Result<Bundle, Error> {
    let LocalBundle { base64_signature, cert, rekor_bundle } =
        json::from_slice(json).map_err(wire::json_error)?;
    let material = material(cert.as_deref())?;
    let signature = decode("base64Signature", &base64_signature, 2 * MAX_PAYLOAD)?;
    let Some(RekorBundle { signed_entry_timestamp, payload }) = rekor_bundle else {
        let content = unlogged(signature);
        let (version, entries, timestamps) = (Version::Cosign, Vec::new(), Vec::new());
        return Ok(Bundle { version, material, entries, timestamps, content });
    };
    let body = decode("rekorBundle.Payload.body", &payload.body, 4 * MAX_ENTRY)?;
    let entry: Body = json::from_slice(&body).map_err(wire::json_error)?;
    let log_id = from_hex(&payload.log_id).ok().and_then(|id| <[u8; 32]>::try_from(id).ok());
    let promise = decode("SignedEntryTimestamp", &signed_entry_timestamp, MAX_CERTIFICATE)?;
    let integrated_time = payload.integrated_time;
    if integrated_time < 0 || i64::try_from(payload.log_index).is_err() {
        return Err(Error::LegacyMember { member: "integratedTime, logIndex" });
    }
    Ok(Bundle {
        version: Version::Cosign,
        material,
        content: content(signature, &entry)?,
        timestamps: Vec::new(),
        entries: vec![LogEntry {
            log_index: payload.log_index,
            log_id: log_id.ok_or(Error::LegacyMember { member: "rekorBundle.Payload.logID" })?,
            kind: entry.kind,
            version: entry.api_version,
            integrated_time,
            promise: Some(promise),
            proof: None,
            body,
        }],
    })
}

/// The certificate; or a hint at a key, whether the PEM text holds one or is missing.
fn material(cert: Option<&str>) -> Result<Material, Error> {
    let Some(cert) = cert.filter(|cert| !cert.is_empty()) else {
        return Ok(Material::PublicKey { hint: String::new() });
    };
    let member = "cert";
    let pem = decode(member, cert, 2 * MAX_CERTIFICATE)?;
    let (label, der) = encoding::from_pem(&pem).ok_or(Error::LegacyMember { member })?;
    match label {
        "CERTIFICATE" => Ok(Material::Chain(vec![der])),
        "PUBLIC KEY" => Ok(Material::PublicKey { hint: String::new() }),
        _ => Err(Error::LegacyMember { member }),
    }
}

/// An attestation's whole envelope stands in place of a signature; the entry says which it is, for a
/// signature may begin like an envelope. A blob's digest stands in the entry only: as in other bundles it is a
/// hint, compared with the artifact and never trusted.
fn content(signature: Vec<u8>, entry: &Body) -> Result<Content, Error> {
    if ["dsse", "intoto"].contains(&entry.kind.as_str()) {
        return Ok(Content::Dsse(wire::parse_envelope(&signature)?));
    }
    let text = |path| entry.spec.pointer(path).and_then(serde_json::Value::as_str);
    let hash = HashAlgorithm::ALL
        .into_iter()
        .find(|hash| text("/data/hash/algorithm") == Some(hash.short_name()));
    let digest = text("/data/hash/value").and_then(|value| from_hex(value).ok());
    let member = "rekorBundle.Payload.body";
    let (hash, digest) = hash.zip(digest).ok_or(Error::LegacyMember { member })?;
    Ok(Content::Message(MessageSignature { hash, digest, signature }))
}

/// What is signed, where no entry says so: an envelope if it is one, which no signature is from its first byte to its
/// last; else a blob by its SHA-256, as cosign signs them, whose digest nothing claims.
fn unlogged(signature: Vec<u8>) -> Content {
    match wire::parse_envelope(&signature) {
        Ok(envelope) => Content::Dsse(envelope),
        Err(_) => {
            let (hash, digest) = (HashAlgorithm::Sha256, Vec::new());
            Content::Message(MessageSignature { hash, digest, signature })
        }
    }
}

fn decode(member: &'static str, text: &str, limit: usize) -> Result<Vec<u8>, Error> {
    let bytes = from_base64(text).map_err(|_| Error::LegacyMember { member })?;
    if bytes.is_empty() {
        return Err(Error::Empty { member });
    }
    if bytes.len() > limit {
        return Err(Error::MemberTooLong { member, limit, found: bytes.len() });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// One RSA or Ed25519 signature in 256 does.
    #[test]
    fn a_signature_that_begins_like_an_envelope_is_a_signature() {
        let digest = "00".repeat(32);
        let spec = json!({ "data": { "hash": { "algorithm": "sha256", "value": digest } } });
        let entry = |kind: &str| Body {
            api_version: "0.0.1".to_owned(),
            kind: kind.to_owned(),
            spec: spec.clone(),
        };
        let signature = b"{\x00".to_vec();
        let found = content(signature.clone(), &entry("hashedrekord"));
        assert!(matches!(found, Ok(Content::Message(found)) if found.signature == signature));
        for kind in ["dsse", "intoto"] {
            assert!(matches!(content(signature.clone(), &entry(kind)), Err(Error::Json(_))));
        }
    }
}
