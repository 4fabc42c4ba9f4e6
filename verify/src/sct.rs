//! Signed certificate timestamps (RFC 6962, sections 3.2 and 3.3; static-ct-api for the leaf index).
//!
//! A certificate carries a list of them in an extension; each is the receipt of a certificate log
//! for the precertificate, that is, for the same TBSCertificate without that extension.
//! Refused: versions other than 1, bytes left over. Which algorithms hold is the verifier's question.

use crate::certificate::{Certificate, POISON, SCT_LIST};
use crate::key::{self, HashAlgorithm, KeyKind, PublicKey};
use der::asn1::{AnyRef, OctetString, OctetStringRef};
use der::{Decode as _, Encode as _, Length, Reader as _, SliceReader};

/// One receipt, not verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sct {
    /// SHA-256 of the log's SubjectPublicKeyInfo.
    pub log_id: [u8; 32],
    /// Milliseconds since the epoch.
    pub timestamp: u64,
    /// The content of CtExtensions; static logs put the leaf's index there.
    pub extensions: Vec<u8>,
    /// Hash and signature algorithm: [`SHA256_ECDSA`] or [`SHA256_RSA`].
    pub algorithm: [u8; 2],
    /// The signature; ASN.1 DER for ECDSA.
    pub signature: Vec<u8>,
}

/// Hash algorithm 4 (SHA-256), signature algorithm 3 (ECDSA), of RFC 5246, section 7.4.1.4.1.
pub const SHA256_ECDSA: [u8; 2] = [4, 3];
/// Hash algorithm 4 (SHA-256), signature algorithm 1 (RSA, PKCS#1 v1.5).
pub const SHA256_RSA: [u8; 2] = [4, 1];

impl Sct {
    /// The bytes of one element of the list, without its own length.
    ///
    /// # Panics
    /// When extensions or signature are longer than 65535 bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(self.log_id);
        bytes.extend(self.timestamp.to_be_bytes());
        bytes.extend(u16_prefixed(&self.extensions));
        bytes.extend(self.algorithm);
        bytes.extend(u16_prefixed(&self.signature));
        bytes
    }

    /// Reads one element of the list.
    ///
    /// # Errors
    /// See the module's list of refusals.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut rest = bytes;
        let [version] = take::<1>(&mut rest)?;
        if version != 0 {
            return Err(Error::Version { found: version });
        }
        let log_id = take::<32>(&mut rest)?;
        let timestamp = u64::from_be_bytes(take(&mut rest)?);
        let extensions = take_u16_prefixed(&mut rest)?.to_vec();
        let algorithm = take::<2>(&mut rest)?;
        let signature = take_u16_prefixed(&mut rest)?.to_vec();
        if !rest.is_empty() {
            return Err(Error::TrailingBytes { found: rest.len() });
        }
        Ok(Self { log_id, timestamp, extensions, algorithm, signature })
    }

    /// Checks the log's signature over `signed`, the data that this receipt is about.
    ///
    /// # Errors
    /// When it does not hold or the algorithm is not one that `key` signs with.
    pub fn verify(&self, key: &PublicKey, signed: &[u8]) -> Result<(), key::Error> {
        let fits = match self.algorithm {
            SHA256_ECDSA => matches!(key.kind(), KeyKind::P256 | KeyKind::P384 | KeyKind::P521),
            SHA256_RSA => matches!(key.kind(), KeyKind::Rsa { .. }),
            _ => false,
        };
        if !fits {
            return Err(key::Error::Scheme { kind: key.kind() });
        }
        key.verify_message_with(HashAlgorithm::Sha256, signed, &self.signature)
    }

    /// The place in a static log's tree, out of the extensions; `None` for other logs.
    #[must_use]
    pub fn leaf_index(&self) -> Option<u64> {
        let mut rest = &self.extensions[..];
        while !rest.is_empty() {
            let [kind] = take::<1>(&mut rest).ok()?;
            let data = take_u16_prefixed(&mut rest).ok()?;
            if kind == 0 {
                let index: [u8; 5] = data.try_into().ok()?;
                return Some(index.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)));
            }
        }
        None
    }
}

/// The CtExtensions content that names a leaf's index: type 0, length 5, 40 bits.
///
/// # Panics
/// When `index` needs more than 40 bits; static logs end there.
#[must_use]
pub fn leaf_index_extension(index: u64) -> [u8; 8] {
    assert!(index < 1 << 40, "a static certificate log has at most 2^40 leaves");
    let bytes = index.to_be_bytes();
    [0, 0, 5, bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]]
}

/// The content of the certificate extension: a DER OCTET STRING around the TLS list.
///
/// # Panics
/// When the list is longer than 65535 bytes.
#[must_use]
pub fn list_extension(scts: &[Sct]) -> Vec<u8> {
    let list: Vec<u8> = scts.iter().flat_map(|sct| u16_prefixed(&sct.encode())).collect();
    let octets = OctetString::new(u16_prefixed(&list)).expect("at most 64 KiB");
    octets.to_der().expect("at most 64 KiB")
}

/// Reads the content of the certificate extension.
///
/// # Errors
/// See the module's list of refusals.
pub fn parse_list_extension(value: &[u8]) -> Result<Vec<Sct>, Error> {
    let octets = <&OctetStringRef>::from_der(value).map_err(|_| Error::OctetString)?;
    let mut rest = octets.as_bytes();
    let mut list = take_u16_prefixed(&mut rest)?;
    if !rest.is_empty() {
        return Err(Error::TrailingBytes { found: rest.len() });
    }
    let mut scts = Vec::new();
    while !list.is_empty() {
        scts.push(Sct::decode(take_u16_prefixed(&mut list)?)?);
    }
    Ok(scts)
}

/// What a log signs for a precertificate; the same bytes are its Merkle leaf's entry
/// (`00 00`, timestamp, `00 01`, issuer key hash, TBS, extensions).
///
/// `issuer_key_hash` is SHA-256 of the issuing CA's SubjectPublicKeyInfo; `tbs` comes from
/// [`precertificate_tbs`]; `timestamp` is in milliseconds since the epoch.
///
/// # Panics
/// When `tbs` is longer than 2^24-1 bytes.
#[must_use]
pub fn precert_signed_data(
    timestamp: u64,
    issuer_key_hash: &[u8; 32],
    tbs: &[u8],
    extensions: &[u8],
) -> Vec<u8> {
    let mut bytes = signed_data_start(timestamp, 1);
    bytes.extend(issuer_key_hash);
    bytes.extend(u24_prefixed(tbs));
    bytes.extend(u16_prefixed(extensions));
    bytes
}

/// What a log signs for a final certificate, DER.
///
/// # Panics
/// When `certificate` is longer than 2^24-1 bytes.
#[must_use]
pub fn x509_signed_data(timestamp: u64, certificate: &[u8], extensions: &[u8]) -> Vec<u8> {
    let mut bytes = signed_data_start(timestamp, 0);
    bytes.extend(u24_prefixed(certificate));
    bytes.extend(u16_prefixed(extensions));
    bytes
}

fn signed_data_start(timestamp: u64, entry_type: u8) -> Vec<u8> {
    let mut bytes = vec![0, 0]; // version 1, certificate_timestamp
    bytes.extend(timestamp.to_be_bytes());
    bytes.extend([0, entry_type]);
    bytes
}

/// The TBSCertificate, DER, of a precertificate or of the final certificate, without poison and SCT
/// list and otherwise byte for byte: what the log signed.
///
/// # Errors
/// Never, of a certificate that was read.
pub fn precertificate_tbs(certificate: &Certificate) -> Result<Vec<u8>, Error> {
    without_receipts(certificate).map_err(|_| Error::Certificate)
}

fn without_receipts(certificate: &Certificate) -> der::Result<Vec<u8>> {
    // All of it is strict DER; what follows takes elements out and writes the lengths around them anew.
    let tbs = AnyRef::from_der(certificate.tbs())?.value();
    let extensions = match elements(tbs)?.last() {
        Some(last) if !certificate.extensions().is_empty() => *last,
        _ => return Ok(certificate.tbs().to_vec()),
    };
    let before = &tbs[..tbs.len() - extensions.len()];
    let list = AnyRef::from_der(AnyRef::from_der(extensions)?.value())?;
    let mut kept = Vec::new();
    for (bytes, extension) in elements(list.value())?.into_iter().zip(certificate.extensions()) {
        if extension.id != POISON && extension.id != SCT_LIST {
            kept.extend_from_slice(bytes);
        }
    }
    let extensions = element(extensions[0], &element(SEQUENCE, &kept)?)?;
    element(SEQUENCE, &[before, &extensions].concat())
}

const SEQUENCE: u8 = 0x30;

/// The elements of a constructed value, each with its tag and length.
fn elements(value: &[u8]) -> der::Result<Vec<&[u8]>> {
    let mut reader = SliceReader::new(value)?;
    let mut elements = Vec::new();
    while !reader.is_finished() {
        elements.push(reader.tlv_bytes()?);
    }
    Ok(elements)
}

/// An element of these bytes.
fn element(tag: u8, value: &[u8]) -> der::Result<Vec<u8>> {
    let mut encoded = vec![tag];
    Length::try_from(value.len())?.encode_to_vec(&mut encoded)?;
    encoded.extend_from_slice(value);
    Ok(encoded)
}

fn u16_prefixed(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("at most 65535 bytes");
    [&length.to_be_bytes()[..], bytes].concat()
}

fn u24_prefixed(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).ok().filter(|&length| length < 1 << 24);
    let length = length.expect("at most 2^24-1 bytes").to_be_bytes();
    [&length[1..], bytes].concat()
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Error> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(Error::Truncated)?;
    *rest = tail;
    Ok(*head)
}

fn take_u16_prefixed<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Error> {
    let length = usize::from(u16::from_be_bytes(take(rest)?));
    let (head, tail) = rest.split_at_checked(length).ok_or(Error::Truncated)?;
    *rest = tail;
    Ok(head)
}

/// Why bytes are no SCT, or a certificate has none to offer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not wrapped as RFC 6962 demands.
    #[error("expected the SCT list inside a DER OCTET STRING")]
    OctetString,
    /// The bytes end too early.
    #[error("the SCT list is cut short")]
    Truncated,
    /// Bytes after the end.
    #[error("{found} bytes follow the SCT")]
    TrailingBytes {
        /// How many.
        found: usize,
    },
    /// Not version 1.
    #[error("expected an SCT of version 1 (0 on the wire), found {found} on the wire")]
    Version {
        /// The byte found.
        found: u8,
    },
    /// Not a certificate.
    #[error("expected a certificate in DER")]
    Certificate,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::hex;

    #[test]
    fn a_leaf_index_reads_back_and_matches_known_answers() {
        assert_eq!(hex(&leaf_index_extension(112)), "0000050000000070");
        assert_eq!(hex(&leaf_index_extension(1 << 32)), "0000050100000000");
        let mut sct = Sct {
            log_id: [1; 32],
            timestamp: 5,
            extensions: vec![],
            algorithm: SHA256_ECDSA,
            signature: vec![0x30, 0],
        };
        assert_eq!(sct.leaf_index(), None);
        sct.extensions = [&[9, 0, 1, 7][..], &leaf_index_extension(1 << 39)].concat();
        assert_eq!(sct.leaf_index(), Some(1 << 39));
    }

    #[test]
    fn a_list_reads_back_and_every_cut_is_refused() {
        let sct = |log| Sct {
            log_id: [log; 32],
            timestamp: 1_768_517_364_925,
            extensions: leaf_index_extension(7).to_vec(),
            algorithm: SHA256_ECDSA,
            signature: vec![0x30, 3, 2, 1, 1],
        };
        let scts = [sct(1), sct(2)];
        let extension = list_extension(&scts);
        assert_eq!(parse_list_extension(&extension).unwrap(), scts);
        for cut in 0..extension.len() {
            assert!(parse_list_extension(&extension[..cut]).is_err(), "{cut}");
        }
        let one = scts[0].encode();
        for cut in 0..one.len() {
            assert_eq!(Sct::decode(&one[..cut]), Err(Error::Truncated), "{cut}");
        }
        assert_eq!(Sct::decode(&[&one[..], &[0]].concat()), Err(Error::TrailingBytes { found: 1 }));
    }
}
