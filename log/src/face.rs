//! The protocols that the engine is spoken to in. A face checks a request, makes it a leaf, and makes
//! the answer out of what the engine returns; [`http`](crate::http) carries both.

pub mod accept;
pub mod rekor_v1;
pub mod rekor_v2;
pub mod static_ct;

use countersign_verify::entry::Verifier;

/// Who verifies an entry's signature, out of a request.
enum OwnedVerifier {
    /// DER.
    Certificate(Vec<u8>),
    /// SubjectPublicKeyInfo, DER.
    PublicKey(Vec<u8>),
}

impl OwnedVerifier {
    fn borrow(&self) -> Verifier<'_> {
        match self {
            Self::Certificate(der) => Verifier::Certificate(der),
            Self::PublicKey(spki) => Verifier::PublicKey(spki),
        }
    }
}
