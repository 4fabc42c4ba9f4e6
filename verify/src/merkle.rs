//! Merkle tree hashes of RFC 6962, section 2.1, over SHA-256; the proofs stand in the modules below.

mod consistency;
mod frontier;
mod inclusion;
#[cfg(test)]
pub(crate) mod oracle;

pub use consistency::{ConsistencyProof, Error as ConsistencyError};
pub use frontier::Frontier;
pub use inclusion::{Error as InclusionError, InclusionProof};

use sha2::{Digest as _, Sha256};
use std::fmt;

/// A SHA-256 value: of a leaf, of a node, or of plain bytes. `Display` is base64, padded, as in
/// checkpoints; `Debug` is lower-case hexadecimal.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Takes the 32 bytes as they are.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// SHA-256 of `data`, without a tree prefix.
    #[must_use]
    pub fn of(data: &[u8]) -> Self {
        Self(Sha256::digest(data).into())
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<&[u8]> for Hash {
    type Error = std::array::TryFromSliceError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Self)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::encoding::base64(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::encoding::hex(&self.0))
    }
}

/// SHA-256(0x00 ‖ entry).
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([0]).chain_update(entry).finalize().into())
}

/// SHA-256(0x01 ‖ left ‖ right).
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Hash(
        Sha256::new()
            .chain_update([1])
            .chain_update(left.0)
            .chain_update(right.0)
            .finalize()
            .into(),
    )
}

/// The root of a tree without leaves: SHA-256 of nothing.
#[must_use]
pub fn empty_root() -> Hash {
    Hash::of(b"")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Roots over the leaves `entry-0`, `entry-1`, …; computed with an independent implementation.
    #[test]
    fn roots_match_known_answers() {
        assert_eq!(empty_root().to_string(), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        for (size, expected) in [
            (1, "QHZrIDNCkCb1PVRQJnmoOXBrR0H43K86i7pfQbX/4HU="),
            (2, "LyelCCwdQq+kiKw1Cp/EOQwIT1T3Hs3/hZ6Y24QptHk="),
            (3, "pkvybgkSj2/i/m+LLYyAHhZrV8BHp82bK4Ceepai8cs="),
            (7, "kTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0="),
            (8, "38wTubDKkyxo3j1Z6qqP4mapyAkcAwDoQF6/6w0OWDI="),
            (255, "RdqfN0dI4Xo3L3HABCKxLiv5aELx9hxXQP5JTkvs/w8="),
            (256, "+F9OrTQIBxC00egIMBVDqquBqgTeuIWZNQ3Cak8vWN4="),
            (257, "kYsc7GTzF8duPPVcBTaEHAOe/wZ3LruIKM58F2Aotaw="),
            (70_000, "pipUvjMpT/1aXExjf9dUYwtxqJLoNW46Zmpcin/9FRg="),
        ] {
            let mut frontier = Frontier::new();
            for index in 0..size {
                frontier.push(leaf_hash(format!("entry-{index}").as_bytes()));
            }
            assert_eq!((frontier.size(), frontier.root().to_string()), (size, expected.to_owned()));
        }
    }
}
