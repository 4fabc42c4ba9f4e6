//! Signed notes (C2SP signed-note): a text, a blank line, and lines of signatures.
//!
//! ```text
//! <text, ends in LF>
//! LF
//! — <name> <base64(4-byte key ID ‖ signature)> LF        (U+2014, one or more lines)
//! ```
//! Refused: a text without its final LF, control characters other than LF, signature lines of
//! another shape, more than [`MAX_NOTE_SIGNATURES`] of them.

mod key;

pub use key::{KeyError, KeyType, SignatureError, VerifierKey, cosigned};

use crate::encoding::{base64, from_base64};
use crate::limits::{MAX_CHECKPOINT, MAX_NOTE_SIGNATURES};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// A text and the signatures below it, none of them verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

/// One signature line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Signature {
    /// The key's name: for a log's own signature, the origin.
    pub name: String,
    /// Which key of that name.
    pub key_id: [u8; 4],
    /// What follows the key ID; its shape is the key type's.
    pub signature: Vec<u8>,
}

impl Note {
    /// A note out of its parts.
    ///
    /// # Errors
    /// When the text does not end in a line feed or a name could not be read back.
    pub fn new(text: String, signatures: Vec<Signature>) -> Result<Self, Error> {
        check_text(&text)?;
        match signatures.iter().position(|signature| !valid_name(&signature.name)) {
            Some(line) => Err(Error::SignatureLine { line }),
            None => Ok(Self { text, signatures }),
        }
    }

    /// Reads a note. The last blank line divides text and signatures.
    ///
    /// # Errors
    /// When `note` departs from the grammar above.
    pub fn parse(note: &str) -> Result<Self, Error> {
        if note.len() > MAX_CHECKPOINT {
            return Err(Error::TooLong { limit: MAX_CHECKPOINT, found: note.len() });
        }
        let blank = note.rfind("\n\n").ok_or(Error::NoBlankLine)?;
        let (text, lines) = (&note[..=blank], &note[blank + 2..]);
        check_text(text)?;
        let lines = lines.strip_suffix('\n').ok_or(Error::NoSignature)?;
        let signatures = lines
            .split('\n')
            .enumerate()
            .map(|(line, content)| {
                let too_many = line >= MAX_NOTE_SIGNATURES;
                parse_line(content).filter(|_| !too_many).ok_or(Error::SignatureLine { line })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// The signed text, its final LF included.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines in their order.
    #[must_use]
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

/// The line, without its LF.
impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, key_id, signature } = self;
        write!(f, "\u{2014} {name} {}", base64(&[key_id, &signature[..]].concat()))
    }
}

fn check_text(text: &str) -> Result<(), Error> {
    if !text.ends_with('\n') {
        return Err(Error::TextEnd);
    }
    match text.chars().position(|c| c.is_control() && c != '\n') {
        Some(place) => Err(Error::ControlCharacter { place }),
        None => Ok(()),
    }
}

fn parse_line(line: &str) -> Option<Signature> {
    let (name, rest) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let bytes = from_base64(rest).ok()?;
    let (key_id, signature) = bytes.split_first_chunk::<4>()?;
    (valid_name(name) && !signature.is_empty()).then(|| Signature {
        name: name.to_owned(),
        key_id: *key_id,
        signature: signature.to_owned(),
    })
}

fn valid_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

/// SHA-256(name ‖ LF ‖ 0x01 ‖ key): the first four bytes are the note's key ID, all 32 a Rekor v2
/// log's ID (type 0x01 of C2SP signed-note, Ed25519).
#[must_use]
pub fn ed25519_key_id(name: &str, public_key: &[u8; 32]) -> [u8; 32] {
    typed_key_id(name, 0x01, public_key)
}

/// SHA-256(name ‖ LF ‖ 0x05 ‖ log ID): the first four bytes are the key ID of an RFC 6962 tree head
/// in a note (static-ct-api, type 0x05).
#[must_use]
pub fn rfc6962_key_id(name: &str, log_id: &[u8; 32]) -> [u8; 32] {
    typed_key_id(name, 0x05, log_id)
}

fn typed_key_id(name: &str, kind: u8, key: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(name).chain_update([b'\n', kind]).chain_update(key).finalize().into()
}

/// Why a text is no signed note.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Larger than any note that is read.
    #[error("a note of {found} bytes is above the limit of {limit}")]
    TooLong {
        /// Bytes allowed.
        limit: usize,
        /// Bytes found.
        found: usize,
    },
    /// Nothing divides text and signatures.
    #[error("expected a blank line between the note's text and its signatures, found none")]
    NoBlankLine,
    /// The text's last line is not ended.
    #[error("expected the note's text to end in a line feed")]
    TextEnd,
    /// A character that terminals and parsers read differently.
    #[error("the note's text has a control character at character {place}")]
    ControlCharacter {
        /// Counted in characters, from 0.
        place: usize,
    },
    /// No signature, or the last line is not ended.
    #[error("expected signature lines that end in a line feed")]
    NoSignature,
    /// A line that is no signature.
    #[error("signature line {line} of the note is not `— name base64`")]
    SignatureLine {
        /// Counted from 0, below the blank line.
        line: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seed 00..1f, origin log.example.test: the vector of an independent implementation.
    const NOTE: &str = "log.example.test\n7\nkTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0=\n\n\
        \u{2014} log.example.test rxvZ1ycB5BXE51nrYw45V4ekTSuyYFYYuCIhyFYOx/JBtmPpdi2lKc3ZVfKufyEN90u9o7w+UnkU0Xqbmr6zXBF5IwM=\n";

    #[test]
    fn a_note_reads_and_writes_back_to_the_byte() {
        let note = Note::parse(NOTE).unwrap();
        assert_eq!(note.to_string(), NOTE);
        assert_eq!(note.signatures()[0].name, "log.example.test");
        let key = crate::encoding::from_hex(
            "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8",
        )
        .unwrap();
        let id = ed25519_key_id("log.example.test", key[..].try_into().unwrap());
        assert_eq!(base64(&id), "rxvZ1yVaIydZmSdfz0YgsyKdZ5jDI+nzFoXoBYWb73E=");
        assert_eq!(note.signatures()[0].key_id, id[..4]);
    }

    #[test]
    fn what_departs_from_the_grammar_is_refused() {
        for (note, expected) in [
            ("text\n", Error::NoBlankLine),
            ("te\u{7}xt\n\n\u{2014} a AAAAAAA=\n", Error::ControlCharacter { place: 2 }),
            ("text\n\n", Error::NoSignature),
            ("text\n\n\u{2014} a AAAAAAA=", Error::NoSignature),
            ("text\n\n- a AAAAAAA=\n", Error::SignatureLine { line: 0 }),
            ("text\n\n\u{2014} a+b AAAAAAA=\n", Error::SignatureLine { line: 0 }),
            ("text\n\n\u{2014} a AAAAAA==\n", Error::SignatureLine { line: 0 }),
            ("text\n\n\u{2014}  AAAAAAA=\n", Error::SignatureLine { line: 0 }),
            ("text\n\n\u{2014} a\u{a0}b AAAAAAA=\n", Error::SignatureLine { line: 0 }),
            ("text\n\n\u{2014} a\u{7f}b AAAAAAA=\n", Error::SignatureLine { line: 0 }),
            ("text\n\n\u{2014} a AAAAAAA=\n\u{2014} a AAAAAA\n", Error::SignatureLine { line: 1 }),
        ] {
            assert_eq!(Note::parse(note), Err(expected), "{note:?}");
        }
        let named =
            |name: &str| Signature { name: name.to_owned(), key_id: [0; 4], signature: vec![0] };
        let new = |text: &str, name| Note::new(text.to_owned(), vec![named("a"), named(name)]);
        assert!(new("text\n", "b").is_ok());
        assert_eq!(new("text", "b"), Err(Error::TextEnd));
        for name in ["", "a b", "a+b", "a\tb"] {
            assert_eq!(new("text\n", name), Err(Error::SignatureLine { line: 1 }), "{name:?}");
        }
    }

    #[test]
    fn a_note_has_a_longest_length_and_a_most_of_signatures() {
        let line = "\u{2014} a AAAAAAA=\n";
        let of = |length: usize| format!("{}\n\n{line}", "t".repeat(length - 2 - line.len()));
        assert!(Note::parse(&of(MAX_CHECKPOINT)).is_ok());
        let (limit, found) = (MAX_CHECKPOINT, MAX_CHECKPOINT + 1);
        assert_eq!(Note::parse(&of(found)), Err(Error::TooLong { limit, found }));
        let of = |count| format!("text\n\n{}", line.repeat(count));
        assert_eq!(Note::parse(&of(MAX_NOTE_SIGNATURES)).unwrap().signatures().len(), 100);
        let line = MAX_NOTE_SIGNATURES;
        assert_eq!(Note::parse(&of(line + 1)), Err(Error::SignatureLine { line }));
    }
}
