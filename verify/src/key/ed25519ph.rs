//! Ed25519ph, which aws-lc does not have, by ed25519-dalek; only its digest is at hand, not the message.

use ed25519_dalek::ed25519::signature::digest::{
    FixedOutput, HashMarker, Output, OutputSizeUser, Update, typenum::U64,
};
use ed25519_dalek::{Signature, VerifyingKey};

/// Whether `signature` holds over the SHA-512 `digest`, without context. Keys and nonces of small order
/// are refused.
pub(super) fn verify(key: &[u8; 32], digest: &[u8; 64], signature: &[u8]) -> bool {
    let (Ok(key), Ok(signature)) =
        (VerifyingKey::from_bytes(key), Signature::from_slice(signature))
    else {
        return false;
    };
    key.verify_prehashed_strict(Computed(*digest), None, &signature).is_ok()
}

/// A SHA-512 state that has already come to its digest: the library asks for a state.
struct Computed([u8; 64]);

impl Default for Computed {
    fn default() -> Self {
        Self([0; 64])
    }
}

impl OutputSizeUser for Computed {
    type OutputSize = U64;
}

impl HashMarker for Computed {}

impl Update for Computed {
    fn update(&mut self, _: &[u8]) {
        unreachable!("the digest is complete; the library only finishes it")
    }
}

impl FixedOutput for Computed {
    fn finalize_into(self, out: &mut Output<Self>) {
        out.copy_from_slice(&self.0);
    }
}
