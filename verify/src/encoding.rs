//! Strict text encodings: standard base64 with padding (RFC 4648, section 4), hexadecimal, and what protobuf JSON
//! spells in two ways.
//!
//! Refused: missing or surplus padding, the URL alphabet, white space, non-zero trailing bits. Two
//! texts for the same bytes would let a signed object be altered without breaking its signature.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use std::fmt;

/// Standard base64, padded.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Decodes standard base64, padded.
///
/// # Errors
/// When the text is not the one canonical encoding of some bytes.
pub fn from_base64(text: &str) -> Result<Vec<u8>, Error> {
    STANDARD.decode(text).map_err(|_| Error::Base64)
}

/// The label and the bytes of one PEM block (RFC 7468). Its lines are as long as the first: 64 characters by that RFC,
/// and others in keys and certificates in use.
pub(crate) fn from_pem(text: &[u8]) -> Option<(&str, Vec<u8>)> {
    let mut decoder = der::pem::Decoder::new_detect_wrap(text.trim_ascii()).ok()?;
    let mut bytes = Vec::new();
    decoder.decode_to_end(&mut bytes).ok()?;
    Some((decoder.type_label(), bytes))
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

/// Decodes hexadecimal of either case.
///
/// # Errors
/// On an odd length or any other character.
pub fn from_hex(text: &str) -> Result<Vec<u8>, Error> {
    hex::decode(text).map_err(|_| Error::Hex)
}

/// Reads a text in base64 as its bytes; the text itself is not copied.
pub(crate) fn read_base64<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<u8>, D::Error> {
    struct Base64;
    impl Visitor<'_> for Base64 {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
            from_base64(text).map_err(E::custom)
        }
    }
    source.deserialize_str(Base64)
}

/// Protobuf JSON's 64-bit numbers and enumerations: a number or a text. Serde's untagged enumerations would first
/// keep whatever stands there, at many times its length.
pub(crate) enum Spelling {
    Number(i64),
    Text(String),
}

impl<'de> Deserialize<'de> for Spelling {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct NumberOrText;
        impl Visitor<'_> for NumberOrText {
            type Value = Spelling;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a text")
            }

            fn visit_i64<E>(self, number: i64) -> Result<Spelling, E> {
                Ok(Spelling::Number(number))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Spelling, E> {
                let number = i64::try_from(number);
                number.map(Spelling::Number).map_err(|_| E::custom("a number above 2^63-1"))
            }

            fn visit_str<E>(self, text: &str) -> Result<Spelling, E> {
                Ok(Spelling::Text(text.to_owned()))
            }
        }
        source.deserialize_any(NumberOrText)
    }
}

/// The text is not what the encoding allows.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not standard base64 with padding.
    #[error("expected standard base64 with padding")]
    Base64,
    /// Not hexadecimal.
    #[error("expected pairs of hexadecimal digits")]
    Hex,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_text_of_some_bytes_is_accepted() {
        assert_eq!(from_base64("AAECAw==").unwrap(), [0, 1, 2, 3]);
        for near_miss in ["AAECAw", "AAECAw=", "AAECAx==", "AAEC Aw==", "AAECAw==\n", "__8="] {
            assert_eq!(from_base64(near_miss), Err(Error::Base64), "{near_miss:?}");
        }
    }
}
