//! Entries of an instance's log, as its gate would decide about them: when each certificate was issued.

use crate::args::policy::Over;
use crate::cmd::log::remote::{Remote, refused};
use crate::failure::Failure;
use crate::gate::{AtLog, InForce, Terms};
use crate::runtime::block_on;
use countersign_log::face::accept::Asked;
use countersign_log::read::Proven;
use countersign_verify::TrustedRoot;
use countersign_verify::certificate::Certificate;
use countersign_verify::entry::{Entry, OwnedVerifier};
use countersign_verify::key::HashAlgorithm;
use countersign_verify::tile::FULL;
use jiff::Timestamp;
use std::path::Path;

/// What both policies say of one entry, and whose it is.
pub(super) struct Decided {
    pub(super) before: String,
    pub(super) after: String,
    pub(super) what: String,
}

/// Decides about the entries of the log that `root` names by `old` and `new`, the newest bundle first.
pub(super) fn decide(
    root: &TrustedRoot,
    over: Over,
    old: &Path,
    new: &Path,
) -> Result<Vec<Decided>, Failure> {
    let gate = |policy: &Path| {
        let authorities = root.certificate_authorities().to_vec();
        Ok::<_, Failure>(AtLog::new(InForce::read(policy, Terms::default())?, authorities))
    };
    let (old, new) = (gate(old)?, gate(new)?);
    let since = over.0;
    let reader = Remote::new(root, false)?.read()?;
    let size = reader.head().checkpoint().size;
    let mut decided = Vec::new();
    for bundle in (0..size.div_ceil(u64::from(FULL))).rev() {
        let entries = block_on(reader.prove_bundle(bundle))?.map_err(refused)?;
        let before = decided.len();
        let mut older = false;
        for proven in &entries {
            older |= one(proven, since, &old, &new, &mut decided);
        }
        // Entries come about in the order of their certificates: below nothing but older ones are older ones.
        if older && decided.len() == before {
            break;
        }
    }
    Ok(decided)
}

/// Decides about one entry. Whether it has a certificate from before `since`.
fn one(
    proven: &Proven,
    since: Option<Timestamp>,
    old: &AtLog,
    new: &AtLog,
    decided: &mut Vec<Decided>,
) -> bool {
    let index = proven.proof.leaf_index();
    let Ok(entry) = Entry::parse(&proven.leaf) else { return false };
    let [digest] = entry.digests.as_slice() else { return false };
    let hash = HashAlgorithm::ALL.into_iter().find(|hash| hash.digest_len() == digest.len());
    let Some(hash) = hash else { return false };
    let mut older = false;
    for signer in &entry.verifiers {
        // A key has no time, and index 0 is the log's own.
        let OwnedVerifier::Certificate(der) = signer else { continue };
        let Ok(certificate) = Certificate::parse(der) else { continue };
        let time = certificate.not_before();
        if since.is_some_and(|since| time < since) {
            older = true;
            continue;
        }
        let asked = Asked { signer: signer.borrow(), digest: (hash, digest), payload: None };
        let told = |gate: &AtLog| match gate.decide(&asked, time) {
            Ok(()) => "allowed".to_owned(),
            Err(denied) => format!("refused ({})", denied.rule),
        };
        let name = certificate.names().into_iter().next().unwrap_or_default();
        decided.push(Decided {
            before: told(old),
            after: told(new),
            what: format!("entry {index} by {name}"),
        });
    }
    older
}
