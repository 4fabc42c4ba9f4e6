//! An artifact as verification sees it: its digests.

use crate::key::HashAlgorithm;
use std::collections::BTreeMap;

/// The digests of one artifact. Whoever holds the artifact computes them, from a stream if it is
/// large; [`Bundle::artifact_hashes`](crate::bundle::Bundle::artifact_hashes) says which ones are needed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Artifact(BTreeMap<HashAlgorithm, Vec<u8>>);

impl Artifact {
    /// An artifact known by one digest; `None` when the digest's length is not that of `hash`.
    #[must_use]
    pub fn from_digest(hash: HashAlgorithm, digest: &[u8]) -> Option<Self> {
        let fits = digest.len() == hash.digest_len();
        fits.then(|| Self(BTreeMap::from([(hash, digest.to_vec())])))
    }

    /// An artifact known by several digests; `None` when one has not the length of its hash.
    #[must_use]
    pub fn from_digests(
        digests: impl IntoIterator<Item = (HashAlgorithm, Vec<u8>)>,
    ) -> Option<Self> {
        let digests: BTreeMap<_, _> = digests.into_iter().collect();
        let fit = digests.iter().all(|(hash, digest)| digest.len() == hash.digest_len());
        fit.then_some(Self(digests))
    }

    /// An artifact in memory; all digests are computed.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(HashAlgorithm::ALL.into_iter().map(|hash| (hash, hash.digest(bytes))).collect())
    }

    /// Its digest under `hash`, if that one was computed.
    #[must_use]
    pub fn digest(&self, hash: HashAlgorithm) -> Option<&[u8]> {
        self.0.get(&hash).map(Vec::as_slice)
    }

    /// The digests there are.
    pub fn digests(&self) -> impl Iterator<Item = (HashAlgorithm, &[u8])> {
        self.0.iter().map(|(hash, digest)| (*hash, digest.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_has_the_length_of_its_hash() {
        use HashAlgorithm::{Sha256, Sha384};
        let digests = |second: usize| [(Sha256, vec![1; 32]), (Sha384, vec![2; second])];
        let artifact = Artifact::from_digests(digests(48)).unwrap();
        assert!(artifact.digests().eq([(Sha256, &[1; 32][..]), (Sha384, &[2; 48][..])]));
        for length in [0, 47, 49] {
            assert_eq!(Artifact::from_digests(digests(length)), None, "{length}");
        }
        let one = Artifact::from_digest(Sha256, &[1; 32]).unwrap();
        assert_eq!((one.digest(Sha256), one.digest(Sha384)), (Some(&[1; 32][..]), None));
        assert_eq!(Artifact::from_digest(Sha256, &[1; 31]), None);
    }
}
