//! Which public keys are certified: not those that could be guessed or computed.
//!
//! RSA (FIPS 186-5 and the CA/Browser Forum's baseline, section 6.1.6): 2048, 3072 or 4096 bits, exponent
//! 65537, no small factor, and not of the generator whose keys can be factored (CVE-2017-15361, "ROCA").
//! Elliptic curves: the point lies on its curve and is written out in full. Ed25519: not one of the
//! points of small order, under which signatures hold that nobody made.

use super::Error;
use countersign_verify::key::{self, KeyKind, PublicKey};
use der::asn1::UintRef;
use der::{Decode as _, Sequence};
use spki::SubjectPublicKeyInfoRef;

/// RSAPublicKey of RFC 8017, appendix A.1.1.
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

/// The end of the primes that are tried as factors: Boulder's.
const SMALL: u32 = 752;
/// The primes that CVE-2017-15361 leaves its mark in: up to this one.
const ROCA: u32 = 167;

/// The y coordinates of the points of order 1, 2, 4 and 8, with those of them that have a second
/// encoding; the sign of x, the highest bit, is 0 here.
const SMALL_ORDER: [[u8; 32]; 7] = [
    filled(0x00, 0x00, 0x00),
    filled(0x01, 0x00, 0x00),
    filled(0xec, 0xff, 0x7f),
    filled(0xed, 0xff, 0x7f),
    filled(0xee, 0xff, 0x7f),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
];

const fn filled(first: u8, between: u8, last: u8) -> [u8; 32] {
    let mut bytes = [between; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

/// Reads `spki` (DER) and returns the key in its canonical encoding.
///
/// # Errors
/// When it is no key of an accepted kind, or a weak one.
pub(super) fn accepted(spki: &[u8]) -> Result<PublicKey, Error> {
    let key = PublicKey::from_spki(spki).map_err(refused)?;
    let info = SubjectPublicKeyInfoRef::from_der(spki).map_err(|_| Error::KeyText)?;
    let bits = info.subject_public_key.raw_bytes();
    match key.kind() {
        KeyKind::P256 | KeyKind::P384 | KeyKind::P521 => match bits.first() {
            Some(4) => Ok(key),
            _ => Err(Error::Key(key::Error::Point)),
        },
        KeyKind::Rsa { bits: size } => {
            let rsa = RsaPublicKey::from_der(bits).map_err(|_| Error::KeyText)?;
            check_rsa(size, rsa.modulus.as_bytes(), rsa.exponent.as_bytes())?;
            // The parameters, which are NULL or by mistake absent, are written anew.
            if info.algorithm.parameters.is_some_and(|parameters| !parameters.is_null()) {
                return Err(Error::Key(key::Error::Encoding));
            }
            PublicKey::from_pkcs1(bits).map_err(Error::Key)
        }
        KeyKind::Ed25519 => {
            let mut point = key.ed25519_bytes().ok_or(Error::KeyText)?;
            point[31] &= 0x7f;
            match SMALL_ORDER.contains(&point) {
                true => Err(Error::Weak(Weakness::SmallOrder)),
                false => Ok(key),
            }
        }
        // Clients and logs know no such keys yet; a certificate for one could not be used.
        KeyKind::MlDsa44 | KeyKind::MlDsa65 | KeyKind::MlDsa87 => {
            Err(Error::Key(key::Error::Algorithm { algorithm: info.algorithm.oid }))
        }
    }
}

/// Why there is no key: a size is a weakness, of whatever form it is told.
pub(super) fn refused(error: key::Error) -> Error {
    match error {
        key::Error::RsaSize { bits } => Error::Weak(Weakness::Size { found: bits }),
        error => Error::Key(error),
    }
}

/// `modulus` and `exponent`: big-endian.
fn check_rsa(size: usize, modulus: &[u8], exponent: &[u8]) -> Result<(), Weakness> {
    if !matches!(size, 2048 | 3072 | 4096) {
        return Err(Weakness::Size { found: size });
    }
    if exponent != [1, 0, 1] {
        return Err(Weakness::Exponent);
    }
    let mut marked = true;
    for prime in (2..SMALL).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0)) {
        let rest = remainder(modulus, prime);
        if rest == 0 {
            return Err(Weakness::SmallFactor { factor: prime });
        }
        marked &= prime > ROCA || is_power_of_65537(rest, prime);
    }
    if marked { Err(Weakness::Roca) } else { Ok(()) }
}

fn remainder(number: &[u8], divisor: u32) -> u32 {
    let divisor = u64::from(divisor);
    // Four bytes at a step: the rest is below 2^10, so 42 bits are the most that there are.
    let rest = number.chunks(4).fold(0, |rest, bytes| {
        bytes.iter().fold(rest, |rest, byte| (rest << 8) | u64::from(*byte)) % divisor
    });
    u32::try_from(rest).expect("less than the divisor")
}

/// Moduli of the broken generator are powers of 65537 modulo each small prime.
fn is_power_of_65537(rest: u32, prime: u32) -> bool {
    let powers = std::iter::successors(Some(1 % prime), |power| {
        Some(power * (65537 % prime) % prime).filter(|power| *power != 1 % prime)
    });
    powers.take(prime as usize).any(|power| power == rest)
}

/// How a key is weak.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Weakness {
    /// Too short to trust, or a size that nobody uses.
    #[error("RSA keys of 2048, 3072 or 4096 bits are certified, found {found}")]
    Size {
        /// Bits of the modulus.
        found: usize,
    },
    /// A small exponent lets some signatures be forged.
    #[error("RSA keys with exponent 65537 are certified, found another")]
    Exponent,
    /// The modulus is no product of two large primes.
    #[error("the RSA modulus can be divided by {factor}")]
    SmallFactor {
        /// The factor.
        factor: u32,
    },
    /// Made by a generator whose keys can be factored.
    #[error("the RSA key was made by a generator whose keys can be broken (CVE-2017-15361)")]
    Roca,
    /// Signatures hold under it that nobody made.
    #[error("the Ed25519 key is a point of small order, under which anybody's signatures hold")]
    SmallOrder,
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_verify::key::ed25519_spki;

    /// A number of `size` bits that leaves the remainder 1 for each prime up to [`ROCA`].
    fn marked(size: usize) -> Vec<u8> {
        let primes = (2..=ROCA as u16).filter(|n| (2..*n).all(|d| n % d != 0));
        let mut number = vec![1_u8];
        for prime in primes {
            let mut carry = 0;
            for byte in number.iter_mut().rev() {
                let product = u16::from(*byte) * prime + carry;
                *byte = product.to_be_bytes()[1];
                carry = product >> 8;
            }
            number.insert(0, carry.to_be_bytes()[1]);
        }
        let first = number.iter().position(|byte| *byte != 0).unwrap();
        number.drain(..first);
        number.resize(size / 8, 0);
        *number.last_mut().unwrap() += 1;
        number
    }

    #[test]
    fn rsa_keys_that_can_be_broken_are_refused() {
        let exponent = [1, 0, 1];
        let mut good = [vec![0xc5; 255], vec![0x55]].concat();
        while check_rsa(2048, &good, &exponent).is_err() {
            good[100] += 1;
        }
        for size in [1024, 2047, 2056, 8192] {
            assert_eq!(check_rsa(size, &good, &exponent), Err(Weakness::Size { found: size }));
        }
        for near_miss in [&[3][..], &[1, 0, 3], &[1, 0, 0, 1], &[]] {
            assert_eq!(check_rsa(2048, &good, near_miss), Err(Weakness::Exponent));
        }
        let mut even = good.clone();
        even[255] ^= 1;
        assert_eq!(check_rsa(2048, &even, &exponent), Err(Weakness::SmallFactor { factor: 2 }));
        assert_eq!(check_rsa(2048, &marked(2048), &exponent), Err(Weakness::Roca));
    }

    #[test]
    fn ed25519_points_of_small_order_are_refused_with_either_sign() {
        for point in SMALL_ORDER {
            for sign in [0, 0x80] {
                let mut point = point;
                point[31] |= sign;
                let refused = accepted(&ed25519_spki(&point));
                assert!(
                    matches!(refused, Err(Error::Weak(Weakness::SmallOrder) | Error::Key(_))),
                    "{point:x?}"
                );
            }
        }
        let mut generator = filled(0x58, 0x66, 0x66);
        assert!(accepted(&ed25519_spki(&generator)).is_ok());
        generator[31] |= 0x80;
        assert!(accepted(&ed25519_spki(&generator)).is_ok());
    }

    #[test]
    fn an_rsa_key_without_its_parameters_gets_them_back() {
        use aws_lc_rs::encoding::AsDer as _;
        use der::Encode as _;
        let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let public = aws_lc_rs::signature::KeyPair::public_key(&pair);
        let usual: aws_lc_rs::encoding::PublicKeyX509Der<'_> = public.as_der().unwrap();
        let mut info = SubjectPublicKeyInfoRef::from_der(usual.as_ref()).unwrap();
        info.algorithm.parameters = None;
        let unusual = info.to_der().unwrap();
        assert_ne!(unusual, usual.as_ref());
        for spki in [usual.as_ref(), &unusual] {
            assert_eq!(accepted(spki).unwrap().spki(), usual.as_ref());
        }
    }
}
