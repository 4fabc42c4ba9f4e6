//! The two steps about the log: the entry is about this bundle, and it is in the log.

use super::{Error, LoggedEntry, Signer, Subject, TrustedTime};
use crate::bundle::{Bundle, LogEntry, Proof};
use crate::checkpoint::Checkpoint;
use crate::encoding::{base64, hex};
use crate::entry::{Verifier, hashedrekord_v2_body};
use crate::merkle::InclusionProof;
use crate::note::Note;
use crate::trusted_root::{Log, TrustedRoot};
use serde_json::Value;

/// An entry of a trusted log that is about this bundle; not yet known to be in the log.
pub(super) struct Matching<'a> {
    entry: &'a LogEntry,
    proof: &'a Proof,
    log: &'a Log,
}

/// Every entry by a trusted log must be about this very signature; entries of unknown logs are passed
/// over. The body is not read: the one that this bundle implies is written and compared to the byte.
pub(super) fn matching_entries<'a>(
    bundle: &'a Bundle,
    signer: &Signer,
    subject: &Subject,
    root: &'a TrustedRoot,
) -> Result<(Vec<Matching<'a>>, String), Error> {
    let mut matching = Vec::new();
    for (place, entry) in bundle.entries().iter().enumerate() {
        let same =
            |other: &LogEntry| other.log_id == entry.log_id && other.log_index == entry.log_index;
        if bundle.entries()[..place].iter().any(same) {
            return Err(Error::RepeatedEntry { place });
        }
        let Some(log) = root.logs().iter().find(|log| *log.id() == entry.log_id) else { continue };
        if (entry.kind.as_str(), entry.version.as_str()) != ("hashedrekord", "0.0.2") {
            let found = format!("{} {}", entry.kind, entry.version).chars().take(100).collect();
            return Err(Error::EntryKind { found });
        }
        // Rekor v2 makes no promises and tells no time; what stands there has no signature.
        if entry.promise.is_some() || entry.integrated_time != 0 {
            return Err(Error::UnsignedTime { place });
        }
        let details = signer.key.details().ok_or(Error::NoPrehash)?;
        let expected = hashedrekord_v2_body(
            subject.signed_hash,
            &subject.signed_digest,
            bundle.content().signature(),
            Verifier::Certificate(signer.certificate.der()),
            details,
        );
        if entry.body != expected {
            return Err(difference(&expected, &entry.body));
        }
        let proof = entry.proof.as_ref().ok_or(Error::NoProof { place })?;
        matching.push(Matching { entry, proof, log });
    }
    if matching.is_empty() {
        let none = bundle.entries().is_empty();
        return Err(if none { Error::NoEntry } else { Error::UnknownLog });
    }
    let found: Vec<_> = matching
        .iter()
        .map(|Matching { entry, log, .. }| {
            format!("{} {} in {}", entry.kind, entry.version, log.base_url())
        })
        .collect();
    Ok((matching, found.join(", ")))
}

/// Names the first member in which two bodies differ; both are compared as text, so that a body
/// which is no JSON, or other JSON of the same meaning, is told apart as well.
fn difference(expected: &[u8], found: &[u8]) -> Error {
    let read = |body| serde_json::from_slice::<Value>(body).unwrap_or(Value::Null);
    let (expected, found) = (read(expected), read(found));
    let spec = "/spec/hashedRekordV002";
    for (name, path) in [
        ("digest", "/data/digest"),
        ("digest algorithm", "/data/algorithm"),
        ("signature", "/signature/content"),
        ("certificate", "/signature/verifier/x509Certificate/rawBytes"),
        ("key details", "/signature/verifier/keyDetails"),
    ] {
        let at = |body: &Value| {
            let text = body.pointer(&format!("{spec}{path}")).and_then(Value::as_str);
            text.map_or_else(|| "nothing".to_owned(), |text| text.chars().take(120).collect())
        };
        let (expected, found) = (at(&expected), at(&found));
        if expected != found {
            return Error::OtherEntry { member: name, expected, found };
        }
    }
    Error::EntryEncoding
}

/// Each entry must be in the tree of a checkpoint that its log signed.
pub(super) fn included_entries(
    entries: &[Matching<'_>],
    times: &[TrustedTime],
) -> Result<(Vec<LoggedEntry>, String), Error> {
    let mut included = Vec::with_capacity(entries.len());
    for Matching { entry, proof, log } in entries {
        for TrustedTime { time, .. } in times {
            if !log.valid_for().contains(*time) {
                return Err(Error::LogTime { time: *time, valid: log.valid_for().to_string() });
            }
        }
        let checkpoint = signed_checkpoint(&proof.checkpoint, log)?;
        let same = |member, expected: String, found: String| {
            if expected == found {
                Ok(())
            } else {
                Err(Error::ProofDiffers { member, expected, found })
            }
        };
        same("log index", entry.log_index.to_string(), proof.log_index.to_string())?;
        // Root and size may be absent (0); the checkpoint's are the signed ones.
        if let Some(root) = proof.root {
            same("root hash", checkpoint.root.to_string(), root.to_string())?;
        }
        if proof.tree_size != 0 {
            same("tree size", checkpoint.size.to_string(), proof.tree_size.to_string())?;
        }
        InclusionProof::new(entry.log_index, checkpoint.size, proof.hashes.clone())
            .and_then(|path| path.verify(&entry.body, &checkpoint.root))
            .map_err(Error::Inclusion)?;
        included.push(LoggedEntry {
            log: log.base_url().to_owned(),
            index: entry.log_index,
            tree_size: checkpoint.size,
        });
    }
    let found: Vec<_> = included
        .iter()
        .map(|entry| format!("leaf {} of {} in {}", entry.index, entry.tree_size, entry.log))
        .collect();
    Ok((included, found.join(", ")))
}

/// Reads a checkpoint and checks the log's own signature on it. Lines by keys that are not the log's,
/// of witnesses for instance, are passed over.
///
/// # Errors
/// When it is no checkpoint, names another log, or has no line by the log that holds.
pub fn signed_checkpoint(envelope: &str, log: &Log) -> Result<Checkpoint, Error> {
    let note = Note::parse(envelope).map_err(Error::Note)?;
    let checkpoint = Checkpoint::parse(note.text()).map_err(Error::Checkpoint)?;
    if checkpoint.origin != log.host() {
        let (expected, found) = (log.host().to_owned(), checkpoint.origin);
        return Err(Error::OtherOrigin { expected, found });
    }
    let mut reason = None;
    for line in note.signatures() {
        if line.name != log.host() || line.key_id != log.id()[..4] {
            continue;
        }
        match log.key().verify_message(note.text().as_bytes(), &line.signature) {
            Ok(()) => return Ok(checkpoint),
            Err(error) => reason = Some(error),
        }
    }
    Err(reason.map_or_else(
        || Error::NoLogSignature {
            name: log.host().to_owned(),
            key_id: hex(&log.id()[..4]),
            log_id: base64(log.id()),
        },
        Error::CheckpointSignature,
    ))
}
