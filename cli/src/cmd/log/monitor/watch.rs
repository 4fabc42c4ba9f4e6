//! What is watched for: identities and digests.

use crate::args::log::Monitor as Args;
use crate::failure::Failure;
use countersign_verify::certificate::Certificate;
use countersign_verify::encoding::{from_hex, hex};
use countersign_verify::entry::{Entry, OwnedVerifier};
use countersign_verify::key::HashAlgorithm;
use glob::Pattern;

pub(super) struct Watch {
    identities: Vec<String>,
    globs: Vec<Pattern>,
    digests: Vec<Vec<u8>>,
}

/// An entry that is watched for.
pub(super) struct Found {
    /// By which flags.
    pub(super) matched: Vec<String>,
    pub(super) identities: Vec<String>,
    pub(super) issuers: Vec<String>,
    /// Hexadecimal.
    pub(super) digests: Vec<String>,
}

impl Watch {
    pub(super) fn new(args: &Args) -> Result<Self, Failure> {
        let glob = |text: &String| {
            let unclear = |error| Failure::unclear(format!("--identity-glob {text}: {error}"));
            Pattern::new(text).map_err(unclear)
        };
        let digest = |text: &String| {
            let unclear = || {
                Failure::unclear(format!("--digest {text}: expected sha256:HEX, sha384 or sha512"))
            };
            let (name, digits) = text.split_once(':').ok_or_else(unclear)?;
            let hash = HashAlgorithm::ALL.into_iter().find(|hash| hash.short_name() == name);
            let bytes = from_hex(digits).ok().zip(hash);
            let bytes = bytes.filter(|(bytes, hash)| bytes.len() == hash.digest_len());
            Ok(bytes.ok_or_else(unclear)?.0)
        };
        Ok(Self {
            identities: args.identity.clone(),
            globs: args.identity_glob.iter().map(glob).collect::<Result<_, _>>()?,
            digests: args.digest.iter().map(digest).collect::<Result<_, Failure>>()?,
        })
    }

    /// What is found in an entry; or why it cannot be read, which may hide something.
    pub(super) fn read(&self, leaf: &[u8]) -> Result<Option<Found>, String> {
        let entry = Entry::parse(leaf).map_err(|error| error.to_string())?;
        let (mut identities, mut issuers) = (vec![], vec![]);
        for verifier in &entry.verifiers {
            if let OwnedVerifier::Certificate(der) = verifier {
                let certificate = Certificate::parse(der).map_err(|error| error.to_string())?;
                identities.extend(certificate.names());
                issuers.extend(certificate.issuers());
            }
        }
        let mut matched = vec![];
        for name in &identities {
            if self.identities.contains(name) {
                matched.push(format!("identity {name}"));
            }
            let globs = self.globs.iter().filter(|glob| glob.matches(name));
            matched.extend(globs.map(|glob| format!("identity {glob}")));
        }
        let digests = entry.digests.iter().filter(|digest| self.digests.contains(digest));
        matched.extend(digests.map(|digest| format!("digest {}", hex(digest))));
        let digests = entry.digests.iter().map(|digest| hex(digest)).collect();
        let found = Found { matched, identities, issuers, digests };
        Ok(Some(found).filter(|found| !found.matched.is_empty()))
    }
}
