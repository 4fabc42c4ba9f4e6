//! Rekor v1: entries of kind `hashedrekord` 0.0.1 for artifacts and `dsse` 0.0.1 for envelopes, and the
//! log's answer brought into the form that bundles have.

use super::{Error, Submission, below};
use crate::http::{self, Http};
use countersign_verify::bundle::{Content, LogEntry, Proof};
use countersign_verify::dsse::Envelope;
use countersign_verify::encoding::{base64, from_base64, from_hex};
use countersign_verify::entry::{Verifier, hashedrekord_v1_body};
use countersign_verify::json;
use countersign_verify::merkle::Hash;
use serde::Deserialize;
use std::collections::BTreeMap;
use url::Url;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    body: String,
    integrated_time: i64,
    #[serde(rename = "logID")]
    log_id: String,
    log_index: u64,
    verification: Verification,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Verification {
    signed_entry_timestamp: String,
    inclusion_proof: InclusionProof,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InclusionProof {
    hashes: Vec<String>,
    log_index: u64,
    root_hash: String,
    tree_size: u64,
    checkpoint: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    api_version: String,
    kind: String,
}

/// Submits to the log at `base`. An entry that it has already is fetched: the log answers 409 and says
/// where it is.
pub(super) async fn submit(
    http: &Http,
    base: &Url,
    submission: &Submission<'_>,
) -> Result<LogEntry, Error> {
    let url = below(base, "api/v1/log/entries");
    let request = request(submission);
    let reply = match http.post(&url, "application/json", &request, None).await {
        Err(http::Error::Status { status: 409, location: Some(path), .. }) => {
            let entry = url.join(&path).ok().filter(|entry| entry.origin() == url.origin());
            let entry = entry.ok_or_else(|| malformed(&url))?;
            http.get(&entry).await?
        }
        reply => reply?,
    };
    read(&reply).ok_or_else(|| malformed(&url))
}

fn malformed(url: &Url) -> Error {
    Error::Reply { url: url.to_string(), expected: "a Rekor v1 entry with promise and proof" }
}

fn request(submission: &Submission<'_>) -> Vec<u8> {
    let verifier = Verifier::Certificate(submission.certificate);
    match submission.content {
        // The canonical body is a request as well.
        Content::Message(message) => {
            hashedrekord_v1_body(message.hash, &message.digest, &message.signature, verifier)
        }
        Content::Dsse(envelope) => {
            let verifiers = [base64(verifier.to_pem().as_bytes())];
            let proposed =
                serde_json::json!({ "envelope": json(envelope), "verifiers": verifiers });
            let spec = serde_json::json!({ "proposedContent": proposed });
            let entry = serde_json::json!({ "apiVersion": "0.0.1", "kind": "dsse", "spec": spec });
            entry.to_string().into_bytes()
        }
    }
}

fn json(envelope: &Envelope) -> String {
    let Envelope { payload_type, payload, signature, key_id } = envelope;
    serde_json::json!({ "payloadType": payload_type, "payload": base64(payload),
        "signatures": [{ "keyid": key_id, "sig": base64(signature) }] })
    .to_string()
}

fn read(reply: &[u8]) -> Option<LogEntry> {
    let answers: BTreeMap<String, Answer> = json::from_slice(reply).ok()?;
    let (_, answer) = answers.into_iter().next()?;
    let hash = |hex: &String| Hash::try_from(&from_hex(hex).ok()?[..]).ok();
    let proof = answer.verification.inclusion_proof;
    let body = from_base64(&answer.body).ok()?;
    let Body { api_version, kind } = json::from_slice(&body).ok()?;
    Some(LogEntry {
        log_index: answer.log_index,
        log_id: from_hex(&answer.log_id).ok()?.try_into().ok()?,
        kind,
        version: api_version,
        integrated_time: answer.integrated_time,
        promise: Some(from_base64(&answer.verification.signed_entry_timestamp).ok()?),
        proof: Some(Proof {
            log_index: proof.log_index,
            tree_size: proof.tree_size,
            root: Some(hash(&proof.root_hash)?),
            hashes: proof.hashes.iter().map(hash).collect::<Option<_>>()?,
            checkpoint: proof.checkpoint,
        }),
        body,
    })
}
