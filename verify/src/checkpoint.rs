//! Checkpoints (C2SP tlog-checkpoint): a log's tree head as text.
//!
//! ```text
//! <origin> LF <size, decimal> LF <base64 root> LF [<extension line> LF]…
//! ```
//! Refused: a size with sign or leading zeros, a root that is not 32 bytes, empty lines.

use crate::encoding::from_base64;
use crate::merkle::Hash;

/// A tree head, not yet verified by itself: a signed [`Note`](crate::note::Note) carries it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// Leaves in the tree.
    pub size: u64,
    /// The tree's root.
    pub root: Hash,
    /// Further lines, opaque; signed with the rest.
    pub extensions: Vec<String>,
}

impl Checkpoint {
    /// The text that a note signs.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.origin, self.size, self.root);
        for line in &self.extensions {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// Reads the text of a note.
    ///
    /// # Errors
    /// Names the first line that departs from the grammar above.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut lines = text.strip_suffix('\n').ok_or(Error::End)?.split('\n');
        let origin = lines.next().filter(|origin| !origin.is_empty()).ok_or(Error::Origin)?;
        let size = lines.next().ok_or(Error::Size)?;
        let canonical = size == "0" || !size.starts_with(['0', '+']);
        let size = size.parse().ok().filter(|_| canonical).ok_or(Error::Size)?;
        let root = lines.next().and_then(|root| from_base64(root).ok()).ok_or(Error::Root)?;
        let root = Hash::try_from(&root[..]).map_err(|_| Error::Root)?;
        let extensions: Vec<_> = lines.map(str::to_owned).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(Error::EmptyExtension);
        }
        Ok(Self { origin: origin.to_owned(), size, root, extensions })
    }
}

/// Why a text is no checkpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The last line is not ended.
    #[error("expected the checkpoint to end in a line feed")]
    End,
    /// Line 1.
    #[error("line 1 of the checkpoint: expected the log's origin, found nothing")]
    Origin,
    /// Line 2.
    #[error("line 2 of the checkpoint: expected the tree size in decimal without leading zeros")]
    Size,
    /// Line 3.
    #[error("line 3 of the checkpoint: expected the root, 32 bytes in base64")]
    Root,
    /// A later line.
    #[error("the checkpoint has an empty extension line")]
    EmptyExtension,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "kTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0=";

    #[test]
    fn a_checkpoint_reads_and_writes_back() {
        for text in [
            format!("log.example.test\n7\n{ROOT}\n"),
            format!("rekor.example.test - 123\n0\n{ROOT}\nTimestamp: 5\nmore\n"),
        ] {
            assert_eq!(Checkpoint::parse(&text).unwrap().text(), text);
        }
    }

    #[test]
    fn each_line_has_one_spelling() {
        for (text, expected) in [
            (format!("o\n7\n{ROOT}"), Error::End),
            (format!("\n7\n{ROOT}\n"), Error::Origin),
            (format!("o\n07\n{ROOT}\n"), Error::Size),
            (format!("o\n+7\n{ROOT}\n"), Error::Size),
            (format!("o\n-7\n{ROOT}\n"), Error::Size),
            (format!("o\n18446744073709551616\n{ROOT}\n"), Error::Size),
            ("o\n7\n".to_owned(), Error::Root),
            ("o\n7\nAAAA\n".to_owned(), Error::Root),
            (format!("o\n7\n{ROOT}\n\n"), Error::EmptyExtension),
        ] {
            assert_eq!(Checkpoint::parse(&text), Err(expected), "{text:?}");
        }
    }
}
