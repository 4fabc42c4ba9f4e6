//! Verifier keys (C2SP signed-note and tlog-cosignature): who signs notes, and what exactly.
//!
//! ```text
//! <name>+<key ID, 8 lower-case hexadecimal digits>+<base64(type ‖ public key)>
//! key ID = first 4 bytes of SHA-256(name ‖ LF ‖ type ‖ public key)
//!
//! type  signature                    over
//! 0x01  Ed25519                      the note's text
//! 0x04  u64 time ‖ Ed25519           "cosignature/v1" LF "time " <time> LF <the note's text>
//! 0x06  u64 time ‖ ML-DSA-44         a tree head as bytes, see `tree_head`
//! ```
//! Times are in seconds since the epoch. Refused: other types, keys of another length, a key ID that is
//! not the key's, and cosignatures without a time.

use super::{Note, typed_key_id, valid_name};
use crate::checkpoint::{self, Checkpoint};
use crate::encoding::{base64, from_base64, hex};
use crate::key::{self, PublicKey, ed25519_spki, ml_dsa_44_spki};
use std::fmt;

/// What kind of signatures a key makes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyType {
    /// Ed25519 over the text: a log's own.
    Ed25519,
    /// Ed25519 over time and text: a witness's `cosignature/v1`.
    Cosignature,
    /// ML-DSA-44 over the tree head and a time: a witness's, or a log's own.
    MlDsa44,
}

impl KeyType {
    const fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::Cosignature => 0x04,
            Self::MlDsa44 => 0x06,
        }
    }

    /// Bytes of a public key.
    const fn length(self) -> usize {
        match self {
            Self::Ed25519 | Self::Cosignature => 32,
            Self::MlDsa44 => 1312,
        }
    }
}

/// A key that signs notes, by its name.
#[derive(Clone, Debug)]
pub struct VerifierKey {
    name: String,
    key_type: KeyType,
    id: [u8; 4],
    key: PublicKey,
}

impl VerifierKey {
    /// The key of that name. `public_key` is bare: the 32 or 1312 bytes.
    ///
    /// # Errors
    /// When the name is none, or the key has another length or is no point on its curve.
    pub fn new(name: &str, key_type: KeyType, public_key: &[u8]) -> Result<Self, KeyError> {
        if !valid_name(name) {
            return Err(KeyError::Name);
        }
        let (expected, found) = (key_type.length(), public_key.len());
        let length = || KeyError::Length { expected, found };
        let spki = match key_type {
            KeyType::Ed25519 | KeyType::Cosignature => {
                ed25519_spki(public_key.try_into().map_err(|_| length())?)
            }
            KeyType::MlDsa44 => ml_dsa_44_spki(public_key.try_into().map_err(|_| length())?),
        };
        let key = PublicKey::from_spki(&spki).map_err(KeyError::Key)?;
        let id = typed_key_id(name, key_type.byte(), public_key);
        let id = *id.first_chunk().expect("32 bytes have a first four");
        Ok(Self { name: name.to_owned(), key_type, id, key })
    }

    /// Reads the text of a verifier key.
    ///
    /// # Errors
    /// When it departs from the grammar above or its key ID is another one's.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        // The name holds no plus sign, the base64 may.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::Shape);
        };
        let bytes = from_base64(key).map_err(|_| KeyError::Shape)?;
        let (&found, public_key) = bytes.split_first().ok_or(KeyError::Shape)?;
        let types = [KeyType::Ed25519, KeyType::Cosignature, KeyType::MlDsa44];
        let key_type = types.into_iter().find(|known| known.byte() == found);
        let key = Self::new(name, key_type.ok_or(KeyError::Type { found })?, public_key)?;
        let expected = hex(&key.id);
        if id != expected {
            return Err(KeyError::Id { expected, found: id.chars().take(16).collect() });
        }
        Ok(key)
    }

    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    #[must_use]
    pub const fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// Which key of that name it is.
    #[must_use]
    pub const fn id(&self) -> [u8; 4] {
        self.id
    }

    /// The bare public key, the same whatever its name and type.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        let spki = self.key.spki();
        &spki[spki.len() - self.key_type.length()..]
    }

    /// Whether this key signed `note`, and for cosignatures when: the latest time, if there are several.
    ///
    /// # Errors
    /// When a line under its name and key ID does not hold.
    pub fn signed(&self, note: &Note) -> Result<Option<u64>, SignatureError> {
        let mut signed = None;
        for line in note.signatures() {
            if line.name == self.name && line.key_id == self.id {
                signed = signed.max(Some(self.verify(note.text(), &line.signature)?));
            }
        }
        Ok(signed)
    }

    /// The time of a signature that holds; 0 for the type that has none.
    fn verify(&self, text: &str, signature: &[u8]) -> Result<u64, SignatureError> {
        if self.key_type == KeyType::Ed25519 {
            self.key.verify_message(text.as_bytes(), signature)?;
            return Ok(0);
        }
        let (time, signature) = signature.split_first_chunk().ok_or(SignatureError::NoTime)?;
        let time = u64::from_be_bytes(*time);
        if time == 0 || i64::try_from(time).is_err() {
            return Err(SignatureError::NoTime);
        }
        let message = match self.key_type {
            KeyType::MlDsa44 => tree_head(&self.name, time, &Checkpoint::parse(text)?)
                .ok_or(SignatureError::LongName)?,
            KeyType::Ed25519 | KeyType::Cosignature => cosigned(time, text).into_bytes(),
        };
        self.key.verify_message(&message, signature)?;
        Ok(time)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[self.key_type.byte()], self.public_key()].concat();
        write!(f, "{}+{}+{}", self.name, hex(&self.id), base64(&key))
    }
}

/// What a `cosignature/v1` signs: a note's text, as it was seen at `time`.
#[must_use]
pub fn cosigned(time: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// What an ML-DSA-44 cosignature signs:
///
/// ```text
/// "subtree/v1" LF 00 | u8 length, cosigner's name | u64 time | u8 length, origin | u64 start | u64 end | root[32]
/// ```
/// Of a whole tree the start is 0 and the end its size. `None` when a name is longer than 255 bytes.
fn tree_head(cosigner: &str, time: u64, checkpoint: &Checkpoint) -> Option<Vec<u8>> {
    let mut message = b"subtree/v1\n\0".to_vec();
    message.push(u8::try_from(cosigner.len()).ok()?);
    message.extend(cosigner.as_bytes());
    message.extend(time.to_be_bytes());
    message.push(u8::try_from(checkpoint.origin.len()).ok()?);
    message.extend(checkpoint.origin.as_bytes());
    message.extend(0_u64.to_be_bytes());
    message.extend(checkpoint.size.to_be_bytes());
    message.extend(checkpoint.root.as_bytes());
    Some(message)
}

/// Why a text is no verifier key that can be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not three parts, or the last is no base64.
    #[error("expected a verifier key, `name+hexadecimal+base64`")]
    Shape,
    /// The name is empty, or holds white space or a plus sign.
    #[error("expected a key's name without white space and plus signs")]
    Name,
    /// A type that is not known.
    #[error(
        "expected a key of type 0x01 (Ed25519), 0x04 (cosignature/v1) or 0x06 (ML-DSA-44), found {found:#04x}"
    )]
    Type {
        /// Its type.
        found: u8,
    },
    /// A public key of another length.
    #[error("a public key of this type has {expected} bytes, found {found}")]
    Length {
        /// Bytes it must have.
        expected: usize,
        /// Bytes it has.
        found: usize,
    },
    /// The key ID is not that of name and key: one of them was altered.
    #[error("the ID of this name and key is {expected}, found {found}")]
    Id {
        /// The ID by computation.
        expected: String,
        /// The ID in the text.
        found: String,
    },
    /// No point on its curve.
    #[error(transparent)]
    Key(key::Error),
}

/// Why a signature line does not hold.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// No time, or 0, which says that the cosigner saw nothing newest.
    #[error("the cosignature carries no time")]
    NoTime,
    /// Names that the signed form has no room for.
    #[error("the names of cosigner and log have at most 255 bytes each")]
    LongName,
    /// The note is no checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// The signature.
    #[error(transparent)]
    Signature(#[from] key::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::Signature;
    use aws_lc_rs::signature::{KeyPair as _, ML_DSA_44_SIGNING, PqdsaKeyPair};

    /// Keys of fixed seeds, and the notes they signed: by an independent implementation.
    const LOG: &str = "log.example.test+af1bd9d7+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
    const WITNESS: &str =
        "witness.example.test+9ac572ef+BCFS+NGbeR0kRTJC4V8uq2y3z/p7al7TAJeWDgaYgdsS";
    const NOTE: &str = "log.example.test\n7\nkTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0=\n\n\
        \u{2014} log.example.test rxvZ1ycB5BXE51nrYw45V4ekTSuyYFYYuCIhyFYOx/JBtmPpdi2lKc3ZVfKufyEN90u9o7w+UnkU0Xqbmr6zXBF5IwM=\n\
        \u{2014} witness.example.test msVy7wAAAABpJIEAJWhKG01Z5+VJsgBlRz9RlwWh921KR9Q4RXpENNZn3e6yRPpJgQphFrpklE68KMJx0Pk77h97a7RbvEOpjwi4BA==\n";

    #[test]
    fn known_keys_read_write_and_verify_what_they_signed() {
        let note = Note::parse(NOTE).unwrap();
        for (text, signed) in [(LOG, 0), (WITNESS, 1_764_000_000)] {
            let key = VerifierKey::parse(text).unwrap();
            assert_eq!(key.to_string(), text);
            assert_eq!(key.signed(&note), Ok(Some(signed)));
        }
        // The example of the specification.
        let example = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
        let example = VerifierKey::parse(example).unwrap();
        assert_eq!(example.signed(&note), Ok(None));
        assert_eq!(example.key_type(), KeyType::Ed25519);
    }

    #[test]
    fn a_line_of_a_known_key_that_does_not_hold_is_refused_whatever_stands_beside_it() {
        let witness = VerifierKey::parse(WITNESS).unwrap();
        let note = Note::parse(NOTE).unwrap();
        let good = note.signatures()[1].clone();
        let altered = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut line = good.clone();
            change(&mut line.signature);
            let lines = vec![good.clone(), line];
            witness.signed(&Note::new(note.text().to_owned(), lines).unwrap())
        };
        let broken =
            Err(SignatureError::Signature(key::Error::Signature { kind: key::KeyKind::Ed25519 }));
        assert_eq!(altered(&|signature| signature[7] ^= 1), broken, "another second");
        assert_eq!(altered(&|signature| signature[20] ^= 1), broken);
        assert_eq!(altered(&|signature| signature.truncate(71)), broken);
        let no_time = Err(SignatureError::NoTime);
        assert_eq!(altered(&|signature| signature[..8].fill(0)), no_time);
        assert_eq!(altered(&|signature| signature[0] = 0x80), no_time);
        assert_eq!(altered(&|signature| signature.truncate(7)), no_time);
        // Neither under another name nor under another key ID is it this witness's line.
        for (name, key_id) in [("w", good.key_id), ("witness.example.test", [0; 4])] {
            let line = Signature { name: name.to_owned(), key_id, signature: vec![1] };
            let note = Note::new(note.text().to_owned(), vec![line]).unwrap();
            assert_eq!(witness.signed(&note), Ok(None));
        }
    }

    /// No vector is at hand for this type, so the message is written out here by the specification.
    #[test]
    fn an_ml_dsa_cosignature_covers_names_time_size_and_root() {
        let pair = PqdsaKeyPair::generate(&ML_DSA_44_SIGNING).unwrap();
        let public = pair.public_key().as_ref();
        let witness = VerifierKey::new("w.example", KeyType::MlDsa44, public).unwrap();
        let text = witness.to_string();
        assert_eq!(VerifierKey::parse(&text).unwrap().id(), witness.id());
        let note = Note::parse(NOTE).unwrap();
        let root = &Checkpoint::parse(note.text()).unwrap().root;
        let parts: [&[u8]; 9] = [
            b"subtree/v1\n\0",
            b"\x09w.example",
            &[0, 0, 0, 0, 0, 0, 0, 5],
            b"\x10log.example.test",
            &[0; 8],
            &[0, 0, 0, 0, 0, 0, 0],
            &[7],
            root.as_bytes(),
            b"",
        ];
        let mut signature = vec![0; 2420];
        pair.sign(&parts.concat(), &mut signature).unwrap();
        let signature = [&[0, 0, 0, 0, 0, 0, 0, 5][..], &signature].concat();
        let line = Signature { name: "w.example".to_owned(), key_id: witness.id(), signature };
        let signed =
            |text: &str| witness.signed(&Note::new(text.to_owned(), vec![line.clone()]).unwrap());
        assert_eq!(signed(note.text()), Ok(Some(5)));
        assert_eq!(signed(&format!("{}extension\n", note.text())), Ok(Some(5)), "not covered");
        let broken =
            Err(SignatureError::Signature(key::Error::Signature { kind: key::KeyKind::MlDsa44 }));
        assert_eq!(signed(&note.text().replace("\n7\n", "\n8\n")), broken);
        assert_eq!(signed(&note.text().replacen("log", "lag", 1)), broken);
    }

    #[test]
    fn what_departs_from_the_grammar_is_refused() {
        let id = |found: &str| KeyError::Id { expected: "af1bd9d7".into(), found: found.into() };
        let key = "AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
        for (text, expected) in [
            ("log.example.test".to_owned(), KeyError::Shape),
            ("log.example.test+af1bd9d7".to_owned(), KeyError::Shape),
            (format!("log.example.test+af1bd9d7+{key}="), KeyError::Shape),
            ("log.example.test+af1bd9d7+".to_owned(), KeyError::Shape),
            (format!("+af1bd9d7+{key}"), KeyError::Name),
            (format!("a log+af1bd9d7+{key}"), KeyError::Name),
            (format!("log.example.test+AF1BD9D7+{key}"), id("AF1BD9D7")),
            (format!("log.example.test+af1bd9d8+{key}"), id("af1bd9d8")),
            (format!("log.example.test+af1bd9+{key}"), id("af1bd9")),
            ("a+00000000+BQ==".to_owned(), KeyError::Type { found: 5 }),
            ("a+00000000+AQAA".to_owned(), KeyError::Length { expected: 32, found: 2 }),
            ("a+00000000+BgAA".to_owned(), KeyError::Length { expected: 1312, found: 2 }),
        ] {
            assert_eq!(VerifierKey::parse(&text).unwrap_err(), expected, "{text:?}");
        }
    }
}
