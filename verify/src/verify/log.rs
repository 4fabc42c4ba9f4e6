//! The two steps about the log: the entry is about this bundle, and it is in the log.

use super::{Error, LoggedEntry, Signed, Signer, TrustedTime};
use crate::bundle::{Bundle, Content, LogEntry, Version};
use crate::checkpoint::Checkpoint;
use crate::encoding::{base64, hex};
use crate::entry::{self, Kind, Verifier};
use crate::key::PublicKey;
use crate::merkle::InclusionProof;
use crate::note::Note;
use crate::trusted_root::{Log, TrustedRoot};
use crate::witness::Policy;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeSet;

/// What an entry must be about.
pub(super) struct Signature<'a> {
    pub(super) bundle: &'a Bundle,
    pub(super) signer: &'a Signer,
    pub(super) key: &'a PublicKey,
    pub(super) signed: &'a Signed,
}

/// An entry of a trusted log that is about this bundle; not yet known to be in the log.
pub(super) struct Matching<'a> {
    entry: &'a LogEntry,
    kind: Kind,
    log: &'a Log,
    /// Generation 0.1: the log's promise, verified with the trusted times, may stand for the proof.
    promise_suffices: bool,
}

/// Times out of the promises of Rekor v1 logs, and by how many logs. A promise of a trusted log that does not hold is
/// refused; a time without promise is nobody's word and is passed over.
pub(super) fn promised_times(
    bundle: &Bundle,
    root: &TrustedRoot,
) -> Result<(Vec<TrustedTime>, usize), Error> {
    let (mut times, mut logs) = (Vec::new(), BTreeSet::new());
    for (place, entry) in bundle.entries().iter().enumerate() {
        let time = integrated_time(entry);
        let Some(log) = Log::find(root.logs(), &entry.log_id, time.as_slice()) else { continue };
        let v1 = Kind::named(&entry.kind, &entry.version).is_some_and(Kind::is_v1);
        let Some(promise) = entry.promise.as_ref().filter(|_| v1) else { continue };
        let signed = entry::promise_signed_data(
            &entry.body,
            entry.integrated_time,
            &entry.log_id,
            entry.log_index,
        );
        log.verify(&signed, promise).map_err(|reason| Error::Promise { place, reason })?;
        let time = time.ok_or(Error::NoIntegratedTime { place })?;
        if !log.valid_for().contains(time) {
            return Err(Error::LogTime { time, valid: log.valid_for().to_string() });
        }
        times.push(TrustedTime { time, authority: log.base_url().to_owned() });
        logs.insert(entry.log_id);
    }
    Ok((times, logs.len()))
}

/// When the log says that it took the entry, for which there may be nobody's word.
fn integrated_time(entry: &LogEntry) -> Option<Timestamp> {
    Timestamp::from_second(entry.integrated_time).ok().filter(|_| entry.integrated_time != 0)
}

/// The entry's place, as far as it is proven: the promise covers the one that counts over all shards of a v1 log, the
/// proof that in the tree, and of a v2 log both are the same.
fn proven_index(entry: &LogEntry) -> u64 {
    match (&entry.promise, &entry.proof) {
        (None, Some(proof)) => proof.log_index,
        _ => entry.log_index,
    }
}

/// When the log must have been trusted for its word about this entry to count: the time that it promised; without
/// promise every trusted time, and the one it is said to have taken the entry at.
fn log_times(entry: &LogEntry, trusted: &[TrustedTime]) -> Vec<Timestamp> {
    let integrated = integrated_time(entry).into_iter();
    match &entry.promise {
        Some(_) => integrated.collect(),
        None => trusted.iter().map(|trusted| trusted.time).chain(integrated).collect(),
    }
}

/// Every entry by a trusted log must be about this very signature; entries of unknown logs are passed
/// over. The body is not read: the one that this bundle implies is written and compared to the byte.
pub(super) fn matching_entries<'a>(
    signature: &Signature<'a>,
    root: &'a TrustedRoot,
    trusted: &[TrustedTime],
    expected: usize,
) -> Result<(Vec<Matching<'a>>, String), Error> {
    let (bundle, mut matching) = (signature.bundle, Vec::new());
    for (place, entry) in bundle.entries().iter().enumerate() {
        let same = |other: &LogEntry| {
            other.log_id == entry.log_id && proven_index(other) == proven_index(entry)
        };
        if bundle.entries()[..place].iter().any(same) {
            return Err(Error::RepeatedEntry { place });
        }
        let times = log_times(entry, trusted);
        let Some(log) = Log::find(root.logs(), &entry.log_id, &times) else { continue };
        let kind = known_kind(place, entry)?;
        check_body(kind, &entry.body, signature)?;
        // A time that nobody signed must at least not contradict the certificate.
        let time = Timestamp::from_second(entry.integrated_time)
            .map_err(|_| Error::UnsignedTime { place })?;
        if let (Signer::Certificate { certificate, .. }, 1..) =
            (signature.signer, entry.integrated_time)
            && !certificate.valid_at(time)
        {
            return Err(Error::IntegratedTime { time });
        }
        let promise_suffices = bundle.version() <= Version::V01 && entry.promise.is_some();
        matching.push(Matching { entry, kind, log, promise_suffices });
    }
    let logs: BTreeSet<_> = matching.iter().map(|matching| matching.entry.log_id).collect();
    match logs.len() {
        0 if expected == 0 => return Ok((matching, "none, and none was demanded".to_owned())),
        0 if bundle.entries().is_empty() => return Err(Error::NoEntry),
        0 => return Err(unknown(bundle, root)),
        found if found < expected => return Err(Error::TooFewLogs { expected, found }),
        _ => {}
    }
    let found: Vec<_> = matching
        .iter()
        .map(|Matching { entry, kind, log, .. }| {
            let obsolete = if *kind == Kind::DsseV2 { ", an obsolete kind," } else { "" };
            format!("{} {}{obsolete} in {}", entry.kind, entry.version, log.base_url())
        })
        .collect();
    Ok((matching, found.join(", ")))
}

fn known_kind(place: usize, entry: &LogEntry) -> Result<Kind, Error> {
    let kind = Kind::named(&entry.kind, &entry.version).ok_or_else(|| Error::EntryKind {
        found: format!("{} {}", entry.kind, entry.version).chars().take(100).collect(),
    })?;
    // Rekor v2 makes no promises and tells no time; what stands there has no signature.
    if !kind.is_v1() && (entry.promise.is_some() || entry.integrated_time != 0) {
        return Err(Error::UnsignedTime { place });
    }
    Ok(kind)
}

/// Why none of the bundle's promises counts: of a trusted log's entry its kind, else that no log is trusted.
pub(super) fn unpromised(bundle: &Bundle, root: &TrustedRoot) -> Error {
    let entries = bundle.entries().iter().enumerate();
    let mut of_trusted =
        entries.filter(|(_, entry)| Log::find(root.logs(), &entry.log_id, &[]).is_some());
    let refused = of_trusted.find_map(|(place, entry)| known_kind(place, entry).err());
    refused.unwrap_or_else(|| unknown(bundle, root))
}

/// That an entry of a trusted log is about another signature, which says more than a time that it tells.
pub(super) fn of_another(
    signature: &Signature<'_>,
    root: &TrustedRoot,
    times: &[TrustedTime],
) -> Option<Error> {
    let refused = matching_entries(signature, root, times, 0).err()?;
    (refused.code() == "LOG_ENTRY_MISMATCH").then_some(refused)
}

/// That none of the bundle's entries is of a trusted log.
fn unknown(bundle: &Bundle, root: &TrustedRoot) -> Error {
    let found = named(bundle.entries().iter().map(|entry| &entry.log_id));
    Error::UnknownLog { known: root.logs().len(), found }
}

/// Log IDs in base64, as trusted roots have them.
pub(super) fn named<'a>(ids: impl Iterator<Item = &'a [u8; 32]>) -> String {
    ids.map(|id| base64(id)).collect::<Vec<_>>().join(", ")
}

fn check_body(kind: Kind, body: &[u8], of: &Signature<'_>) -> Result<(), Error> {
    compare(kind, body, of).map_err(|refused| other_kind(kind, body).unwrap_or(refused))
}

/// That the body is of another kind than the bundle says.
fn other_kind(kind: Kind, body: &[u8]) -> Option<Error> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let found = format!("{} {}", body["kind"].as_str()?, body["apiVersion"].as_str()?);
    let (member, expected) = ("kind", kind.name().to_owned());
    let found: String = found.chars().take(100).collect();
    (found != expected).then_some(Error::OtherEntry { member, expected, found })
}

fn compare(kind: Kind, body: &[u8], of: &Signature<'_>) -> Result<(), Error> {
    let verifier = match of.signer {
        Signer::Certificate { certificate, .. } => Verifier::Certificate(certificate.der()),
        Signer::Key(key) => Verifier::PublicKey(key.spki()),
    };
    let key = of.key.kind();
    let digest = || {
        let digest = of.signed.digest.as_ref().ok_or(Error::NoPrehash { kind: key })?;
        Ok((digest.0, &digest.1[..]))
    };
    let details = || of.key.details_with(of.signed.scheme).ok_or(Error::NoKeyDetails { kind: key });
    let signature = of.bundle.content().signature();
    let expected = match (kind, of.bundle.content()) {
        (Kind::HashedRekordV2, _) => {
            let (hash, digest) = digest()?;
            entry::hashedrekord_v2_body(hash, digest, signature, verifier, details()?)
        }
        (Kind::HashedRekordV1, _) => {
            let (hash, digest) = digest()?;
            entry::hashedrekord_v1_body(hash, digest, signature, verifier)
        }
        (Kind::DsseV2, Content::Dsse(envelope)) => {
            entry::dsse_v2_body(envelope, verifier, details()?)
        }
        (Kind::DsseV1, Content::Dsse(envelope)) => {
            let same = entry::dsse_v1_matches(body, envelope, verifier);
            return if same { Ok(()) } else { Err(Error::OtherEnvelope { kind: "dsse" }) };
        }
        (Kind::Intoto, Content::Dsse(envelope)) => {
            let same = entry::intoto_matches(body, envelope, verifier);
            return if same { Ok(()) } else { Err(Error::OtherEnvelope { kind: "intoto" }) };
        }
        (Kind::IntotoByHash, Content::Dsse(envelope)) => {
            let same = entry::intoto_by_hash_matches(body, envelope, verifier);
            return if same { Ok(()) } else { Err(Error::OtherEnvelope { kind: "intoto" }) };
        }
        (Kind::DsseV1 | Kind::DsseV2 | Kind::Intoto | Kind::IntotoByHash, Content::Message(_)) => {
            return Err(Error::EntryForOtherContent);
        }
    };
    if body == expected { Ok(()) } else { Err(difference(kind, &expected, body)) }
}

/// Names the first member in which two bodies differ; both are compared as text, so that a body
/// which is no JSON, or other JSON of the same meaning, is told apart as well.
fn difference(kind: Kind, expected: &[u8], found: &[u8]) -> Error {
    let read = |body| serde_json::from_slice::<Value>(body).unwrap_or(Value::Null);
    let (expected, found) = (read(expected), read(found));
    let members: &[(&str, &str)] = match kind {
        Kind::HashedRekordV1 => &[
            ("digest", "/spec/data/hash/value"),
            ("digest algorithm", "/spec/data/hash/algorithm"),
            ("signature", "/spec/signature/content"),
            ("certificate or key", "/spec/signature/publicKey/content"),
        ],
        Kind::HashedRekordV2 => &[
            ("digest", "/spec/hashedRekordV002/data/digest"),
            ("digest algorithm", "/spec/hashedRekordV002/data/algorithm"),
            ("signature", "/spec/hashedRekordV002/signature/content"),
            ("certificate", "/spec/hashedRekordV002/signature/verifier/x509Certificate/rawBytes"),
            ("public key", "/spec/hashedRekordV002/signature/verifier/publicKey/rawBytes"),
            ("key details", "/spec/hashedRekordV002/signature/verifier/keyDetails"),
        ],
        Kind::DsseV2 => &[
            ("payload digest", "/spec/dsseV002/payloadHash/digest"),
            ("signature", "/spec/dsseV002/signatures/0/content"),
            ("certificate", "/spec/dsseV002/signatures/0/verifier/x509Certificate/rawBytes"),
            ("public key", "/spec/dsseV002/signatures/0/verifier/publicKey/rawBytes"),
        ],
        Kind::DsseV1 | Kind::Intoto | Kind::IntotoByHash => &[],
    };
    for &(member, path) in members {
        let at = |body: &Value| {
            let text = body.pointer(path).and_then(Value::as_str);
            text.map_or_else(|| "nothing".to_owned(), |text| text.chars().take(120).collect())
        };
        let (expected, found) = (at(&expected), at(&found));
        if expected != found {
            return Error::OtherEntry { member, expected, found };
        }
    }
    Error::EntryEncoding
}

/// Each entry must be in the tree of a checkpoint that its log signed.
pub(super) fn included_entries(
    entries: &[Matching<'_>],
    trusted: &[TrustedTime],
) -> Result<(Vec<LoggedEntry>, String), Error> {
    let (mut included, mut found) = (Vec::with_capacity(entries.len()), Vec::new());
    for Matching { entry, kind, log, promise_suffices } in entries {
        let valid = log.valid_for();
        let outside = |time: &Timestamp| !valid.contains(*time);
        if let Some(time) = log_times(entry, trusted).into_iter().find(outside) {
            return Err(Error::LogTime { time, valid: valid.to_string() });
        }
        // What time an entry is said to have been taken at is nobody's word.
        if trusted.is_empty() && valid.end.is_some() {
            return Err(Error::NoLogTime { valid: valid.to_string() });
        }
        let proof = match &entry.proof {
            Some(proof) if !(*promise_suffices && proof.checkpoint.is_empty()) => proof,
            _ if *promise_suffices => {
                let (log, index) = (log.base_url().to_owned(), proven_index(entry));
                found.push(format!("entry {index}, promised by {log}"));
                included.push(LoggedEntry { log, index, tree_size: None });
                continue;
            }
            _ => return Err(Error::NoProof { index: entry.log_index }),
        };
        let checkpoint = if kind.is_v1() {
            v1_checkpoint(&proof.checkpoint, log)?
        } else {
            signed_checkpoint(&proof.checkpoint, log)?
        };
        let same = |member, of, expected: String, found: String| {
            if expected == found {
                Ok(())
            } else {
                Err(Error::ProofDiffers { member, of, expected, found })
            }
        };
        // A v1 log counts its entries over all shards and proves them within one.
        if !kind.is_v1() {
            same("log index", "entry", entry.log_index.to_string(), proof.log_index.to_string())?;
        }
        // Rekor v2 may leave root and size out; the checkpoint's are the signed ones.
        if proof.root.is_some() || kind.is_v1() {
            let found = proof.root.map_or_else(|| "nothing".to_owned(), |root| root.to_string());
            same("root hash", "checkpoint", checkpoint.root.to_string(), found)?;
        }
        if proof.tree_size != 0 || kind.is_v1() {
            same(
                "tree size",
                "checkpoint",
                checkpoint.size.to_string(),
                proof.tree_size.to_string(),
            )?;
        }
        InclusionProof::new(proof.log_index, checkpoint.size, proof.hashes.clone())
            .and_then(|path| path.verify(&entry.body, &checkpoint.root))
            .map_err(Error::Inclusion)?;
        let (log, index) = (log.base_url().to_owned(), proven_index(entry));
        // The index counts over all shards of a v1 log, the place within one.
        let (place, size) = (proof.log_index, checkpoint.size);
        let shard = if place == index { String::new() } else { format!("leaf {place} ") };
        found.push(format!("entry {index}, {shard}in a tree of {size}, of {log}"));
        included.push(LoggedEntry { log, index, tree_size: Some(size) });
    }
    if included.is_empty() {
        return Ok((included, "none, and none was demanded".to_owned()));
    }
    Ok((included, found.join(", ")))
}

/// The tree head of each entry must satisfy `policy`, and one entry must be there at least. Counts the
/// witnesses, of several entries the fewest.
pub(super) fn witnessed_entries(
    entries: &[Matching<'_>],
    policy: &Policy,
) -> Result<(usize, String), Error> {
    if entries.is_empty() {
        return Err(Error::NothingWitnessed);
    }
    let (mut found, mut fewest) = (Vec::new(), usize::MAX);
    for Matching { entry, kind, log, .. } in entries {
        let log = log.base_url().to_owned();
        let proof = entry.proof.as_ref().filter(|_| !kind.is_v1());
        let Some(proof) = proof else { return Err(Error::NeverWitnessed { log }) };
        let note = Note::parse(&proof.checkpoint).map_err(Error::Note)?;
        let witnesses = policy.check(&note);
        let witnesses =
            witnesses.map_err(|reason| Error::Witnesses { log: log.clone(), reason })?;
        fewest = fewest.min(witnesses.len());
        found.push(match &witnesses[..] {
            [] => format!("none, and the policy demands none, of {log}"),
            names => format!("{} cosigned the tree of {log}", names.join(", ")),
        });
    }
    Ok((fewest, found.join("; ")))
}

/// Reads a Rekor v2 checkpoint and checks the log's own signature on it. Lines by keys that are not the
/// log's, of witnesses for instance, are passed over.
///
/// # Errors
/// When it is no checkpoint, names another log, or has no line by the log that holds.
pub fn signed_checkpoint(envelope: &str, log: &Log) -> Result<Checkpoint, Error> {
    let (note, checkpoint) = read_checkpoint(envelope)?;
    if !is_own_name(&checkpoint.origin, log) {
        let (expected, found) = (log.host().to_owned(), checkpoint.origin);
        return Err(Error::OtherOrigin { expected, found });
    }
    check_log_signature(&note, &checkpoint.origin, log)?;
    Ok(checkpoint)
}

/// The host alone as sigstore-go has it, or the URL without its scheme as C2SP recommends.
fn is_own_name(origin: &str, log: &Log) -> bool {
    origin == log.host() || origin == log.schemeless_url()
}

/// A Rekor v1 tree head: its origin is `<name> - <tree ID>`, where the name is the log's own choice; or, of
/// logs that are no Trillian trees, the name alone, which must then be the one in the trusted root.
fn v1_checkpoint(envelope: &str, log: &Log) -> Result<Checkpoint, Error> {
    let (note, checkpoint) = read_checkpoint(envelope)?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let origin = &checkpoint.origin[..];
    let name = match origin.rsplit_once(" - ").filter(|(_, tree)| digits(tree)) {
        Some((name, _)) => name,
        None if is_own_name(origin, log) => origin,
        None => {
            let expected = format!("<name> - <tree ID> or {}", log.host());
            return Err(Error::OtherOrigin { expected, found: checkpoint.origin });
        }
    };
    check_log_signature(&note, name, log)?;
    Ok(checkpoint)
}

fn read_checkpoint(envelope: &str) -> Result<(Note, Checkpoint), Error> {
    let note = Note::parse(envelope).map_err(Error::Note)?;
    let checkpoint = Checkpoint::parse(note.text()).map_err(Error::Checkpoint)?;
    Ok((note, checkpoint))
}

/// At least one line under `name` and the log's key ID must hold.
fn check_log_signature(note: &Note, name: &str, log: &Log) -> Result<(), Error> {
    let mut reason = None;
    for line in note.signatures() {
        if line.name != name || line.key_id != log.checkpoint_key_id() {
            continue;
        }
        match log.verify(note.text().as_bytes(), &line.signature) {
            Ok(()) => return Ok(()),
            Err(error) => reason = Some(error),
        }
    }
    Err(reason.map_or_else(
        || Error::NoLogSignature {
            name: name.to_owned(),
            key_id: hex(&log.checkpoint_key_id()),
            log_id: base64(log.id()),
        },
        Error::CheckpointSignature,
    ))
}
