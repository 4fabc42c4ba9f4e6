//! Whether the next version of a policy is taken in place of the one that is in force.
//!
//! As TUF does with its root: numbers only grow, each version names the one before, enough owners of the
//! old version sign and enough of the new one, and what has expired is not taken. So nobody brings an old
//! policy back, and nobody who is no owner writes a new one. What is signed is an attestation of type
//! [`POLICY`] about the very bytes of the policy.

use crate::decide::permitted;
use crate::document::Policy;
use crate::facts::{Artifact, Content, Context, Evidence, Facts, Point};
use crate::rule::POLICY;
use jiff::Timestamp;
use std::collections::BTreeSet;

/// How far a serial number may jump. Ours: whoever writes a huge one once could otherwise stop all later
/// versions for good.
pub const MAX_JUMP: u64 = 1000;

/// Accepts `new` in place of `stored`, by signatures of `new` that are verified: `by_stored` with the trust
/// roots that the stored version names, `by_new` with those that the new one names, so that a new version does
/// not say itself who the owners of the old one are. The first policy is accepted by its digest alone, `pinned`.
///
/// # Errors
/// Why it is not taken; the stored one then stays in force.
pub fn accept(
    stored: Option<&Policy>,
    new: &Policy,
    pinned: Option<&str>,
    by_stored: &[Evidence],
    by_new: &[Evidence],
    now: Timestamp,
) -> Result<(), AcceptError> {
    if let Some(pinned) = pinned.filter(|pinned| *pinned != new.digest) {
        return Err(AcceptError::Pinned { expected: pinned.to_owned(), found: new.digest.clone() });
    }
    match new.expires {
        None => return Err(AcceptError::NeverExpires),
        Some(expires) if expires <= now => return Err(AcceptError::Expired { expires }),
        Some(_) => {}
    }
    let Some(stored) = stored else {
        return if pinned.is_some() {
            owners_sign(new, new, by_new, now)
        } else {
            Err(AcceptError::FirstUse)
        };
    };
    if new.name != stored.name {
        return Err(AcceptError::Name { expected: stored.name.clone(), found: new.name.clone() });
    }
    if new.digest == stored.digest {
        return Ok(());
    }
    let (expected, found) = (stored.serial, new.serial);
    if found <= expected {
        return Err(AcceptError::Rollback { expected, found });
    }
    if found - expected > MAX_JUMP {
        return Err(AcceptError::FastForward { expected, found });
    }
    if found == expected + 1 && new.previous.as_ref() != Some(&stored.digest) {
        let found = new.previous.clone().unwrap_or_else(|| "none".to_owned());
        return Err(AcceptError::Previous { expected: stored.digest.clone(), found });
    }
    owners_sign(stored, new, by_stored, now)?;
    owners_sign(new, new, by_new, now)
}

/// Whether enough owners, as `policy` names them and lets them, sign `new`.
fn owners_sign(
    policy: &Policy,
    new: &Policy,
    signatures: &[Evidence],
    now: Timestamp,
) -> Result<(), AcceptError> {
    let owners = policy.owners.as_ref().ok_or(AcceptError::NoOwners { serial: policy.serial })?;
    let about = |evidence: &&Evidence| {
        let publishes = matches!(&evidence.content, Content::Attestation { predicate_type, .. } if predicate_type == POLICY);
        publishes && evidence.digest == new.digest && evidence.logged
    };
    let owner =
        |evidence: &&Evidence| {
            owners.roles.iter().map(|&role| &policy.roles[role]).any(|role| {
                role.has(&evidence.signer, &policy.name) && role.in_use_at(evidence.signed)
            })
        };
    let facts = Facts {
        at: Point::Use,
        now,
        artifact: Some(Artifact { digest: new.digest.clone(), ..Artifact::default() }),
        context: Context::default(),
        evidence: signatures.to_vec(),
        incomplete: None,
    };
    let people = permitted(&facts, policy).into_iter().filter(about).filter(owner);
    let people: BTreeSet<String> =
        people.filter_map(|evidence| policy.person(&evidence.signer.claims)).collect();
    let (expected, found) = (owners.at_least, people.len());
    if found < expected {
        return Err(AcceptError::Owners { serial: policy.serial, expected, found });
    }
    Ok(())
}

/// Why a policy is not taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// Another policy.
    #[error("expected the policy {expected:?}, found {found:?}")]
    Name {
        /// The stored one's name.
        expected: String,
        /// The new one's.
        found: String,
    },
    /// Not the one that was pinned.
    #[error("expected the policy with digest {expected}, found {found}")]
    Pinned {
        /// The digest given.
        expected: String,
        /// Its own.
        found: String,
    },
    /// Nothing to compare it with.
    #[error("the first policy must be told by its digest")]
    FirstUse,
    /// Older, or of the same number with another text.
    #[error("policy-rollback: expected a serial after {expected}, found {found}")]
    Rollback {
        /// The stored serial.
        expected: u64,
        /// The new one.
        found: u64,
    },
    /// A number so high that no later one could follow for long.
    #[error("expected a serial at most {MAX_JUMP} after {expected}, found {found}")]
    FastForward {
        /// The stored serial.
        expected: u64,
        /// The new one.
        found: u64,
    },
    /// It does not follow the stored one.
    #[error("expected previous: {expected}, the stored version's digest, found {found}")]
    Previous {
        /// The stored digest.
        expected: String,
        /// What it names.
        found: String,
    },
    /// No longer in force.
    #[error("policy-expired: at {expires}")]
    Expired {
        /// When.
        expires: Timestamp,
    },
    /// It has no end.
    #[error("a policy that is published needs the key \"expires\"")]
    NeverExpires,
    /// It has no owners.
    #[error("serial {serial} names no owners, so nobody can publish")]
    NoOwners {
        /// The version without them.
        serial: u64,
    },
    /// Too few people.
    #[error(
        "expected {expected} owners of serial {serial} to sign, and that to be logged; found {found}"
    )]
    Owners {
        /// Whose owners.
        serial: u64,
        /// How many are needed.
        expected: usize,
        /// How many there are.
        found: usize,
    },
}
