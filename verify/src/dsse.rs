//! DSSE envelopes: a typed payload and one signature over both.

use crate::key::HashAlgorithm;
use std::sync::Arc;

/// The payload type of in-toto statements.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// An envelope with exactly one signature, not verified. Sigstore bundles allow no more: with several
/// signatures it would be unclear which of them the certificate and the log entry speak for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Envelope {
    /// What the payload is, as a media type.
    pub payload_type: String,
    /// The payload, decoded. It may be large, and whoever keeps what was verified shares it.
    pub payload: Arc<Vec<u8>>,
    /// The signature over [`pae`](Self::pae).
    pub signature: Vec<u8>,
    /// A hint at the key; empty for signatures with a certificate.
    pub key_id: String,
}

impl Envelope {
    /// The signed bytes: `DSSEv1 <length> <type> <length> <payload>`, lengths in bytes, decimal
    /// (DSSE protocol, "pre-authentication encoding").
    #[must_use]
    pub fn pae(&self) -> Vec<u8> {
        pae(&self.payload_type, &self.payload)
    }

    /// The digest of the signed bytes, as a Rekor v2 entry carries it; they are not put together for it.
    #[must_use]
    pub fn pae_digest(&self, hash: HashAlgorithm) -> Vec<u8> {
        let head = head(&self.payload_type, self.payload.len());
        hash.digest_of([head.as_bytes(), &self.payload])
    }
}

/// See [`Envelope::pae`].
#[must_use]
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    [head(payload_type, payload.len()).as_bytes(), payload].concat()
}

fn head(payload_type: &str, length: usize) -> String {
    format!("DSSEv1 {} {payload_type} {length} ", payload_type.len())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_pae_matches_the_specification() {
        // The example of the DSSE protocol text.
        let found = super::pae("http://example.com/HelloWorld", b"hello world");
        assert_eq!(found, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }
}
