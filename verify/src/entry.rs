//! Entries of signature logs: the canonical body that is hashed into the tree.
//!
//! A body is RFC 8785 JSON. A verifier does not pick an entry apart: it writes the body that the
//! bundle implies and compares bytes, so that no field can be overlooked.

use crate::encoding::base64;
use crate::key::{HashAlgorithm, KeyDetails};

/// Who verifies the signature of an entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verifier<'a> {
    /// A signing certificate, DER.
    Certificate(&'a [u8]),
    /// SubjectPublicKeyInfo, DER.
    PublicKey(&'a [u8]),
}

/// The body of a `hashedrekord` 0.0.2 entry (Rekor v2): a signature over a digest, and its verifier.
/// Members stand in RFC 8785 order and every value is base64 or a fixed name, so that plain
/// formatting gives the canonical bytes.
#[must_use]
pub fn hashedrekord_v2_body(
    hash: HashAlgorithm,
    digest: &[u8],
    signature: &[u8],
    verifier: Verifier<'_>,
    details: KeyDetails,
) -> Vec<u8> {
    let (hash, digest, signature) = (hash.name(), base64(digest), base64(signature));
    let (kind, bytes) = match verifier {
        Verifier::Certificate(der) => ("x509Certificate", base64(der)),
        Verifier::PublicKey(spki) => ("publicKey", base64(spki)),
    };
    let details = details.name();
    format!(
        r#"{{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{{"hashedRekordV002":{{"data":{{"algorithm":"{hash}","digest":"{digest}"}},"signature":{{"content":"{signature}","verifier":{{"keyDetails":"{details}","{kind}":{{"rawBytes":"{bytes}"}}}}}}}}}}}}"#
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::from_base64;
    use crate::merkle::leaf_hash;

    /// The P-256 key with private scalar 1, content 3006020101020102, SHA-256 of `hello` LF; the leaf
    /// hash was computed with an independent implementation.
    #[test]
    fn a_hashedrekord_body_matches_the_known_answer() {
        let spki = from_base64("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==").unwrap();
        let body = hashedrekord_v2_body(
            HashAlgorithm::Sha256,
            &HashAlgorithm::Sha256.digest(b"hello\n"),
            &[0x30, 6, 2, 1, 1, 2, 1, 2],
            Verifier::PublicKey(&spki),
            KeyDetails::EcdsaP256Sha256,
        );
        assert_eq!(body.len(), 405);
        assert_eq!(
            format!("{:?}", leaf_hash(&body)),
            "f065f71220f8ce46e193663f1bf779067be20bff5089265358225e7709c6fcc0"
        );
    }
}
