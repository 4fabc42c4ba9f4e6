//! Lists of logs for a witness, as the witness network publishes them:
//!
//! ```text
//! # comment
//! logs/v0
//! vkey <verifier key>
//! origin <origin>|none      (another one than the key's name)
//! …                         (qpd, bastion, contact: passed over)
//! ```
//! Refused: another first line, an origin before any key, keys that sign no checkpoints.

use crate::limits::MAX_WITNESS_LOGS;
use crate::note::{KeyError, KeyType, VerifierKey};

/// A log whose checkpoints a witness cosigns.
#[derive(Clone, Debug)]
pub struct Log {
    /// The first line of its checkpoints.
    pub origin: String,
    /// Its key.
    pub key: VerifierKey,
}

impl Log {
    /// The log of that key, whose name is its origin.
    ///
    /// # Errors
    /// When the text is no verifier key, or of a type that signs no checkpoints.
    pub fn parse(key: &str) -> Result<Self, LogError> {
        let key = VerifierKey::parse(key)?;
        match key.key_type() {
            KeyType::Ed25519 | KeyType::MlDsa44 => Ok(Self { origin: key.name().to_owned(), key }),
            KeyType::Cosignature => Err(LogError::KeyType),
        }
    }

    /// The logs of a list.
    ///
    /// # Errors
    /// Names the first line that departs from the grammar above.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, ListError> {
        let mut logs: Vec<Self> = Vec::new();
        let mut begun = false;
        if text.len() > MAX_WITNESS_LOGS {
            return Err(ListError { line: 1, reason: LogError::TooLong });
        }
        for (number, line) in text.split('\n').enumerate() {
            let refused = |reason| ListError { line: number + 1, reason };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once([' ', '\t']).map(|(word, rest)| (word, rest.trim_start())) {
                None if !begun && line == "logs/v0" => begun = true,
                _ if !begun => return Err(refused(LogError::Header)),
                Some(("vkey", key)) => logs.push(Self::parse(key).map_err(refused)?),
                Some(("origin", origin)) => {
                    let log = logs.last_mut().ok_or_else(|| refused(LogError::NoKey))?;
                    if origin != "none" {
                        origin.clone_into(&mut log.origin);
                    }
                }
                _ => {}
            }
        }
        if begun { Ok(logs) } else { Err(ListError { line: 1, reason: LogError::Header }) }
    }
}

/// Why a text is no list of logs.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ListError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: LogError,
}

/// Why a line names no log.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Larger than any list that is read.
    #[error("a list of logs has at most {MAX_WITNESS_LOGS} bytes")]
    TooLong,
    /// Not a list of this version.
    #[error("expected `logs/v0` before all else")]
    Header,
    /// An origin that belongs to no key.
    #[error("expected a vkey before the origin")]
    NoKey,
    /// Not a verifier key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A witness's key.
    #[error("expected a log's key, of type 0x01 or 0x06, found a witness's")]
    KeyType,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "log.example.test+af1bd9d7+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
    const WITNESS: &str =
        "witness.example.test+9ac572ef+BCFS+NGbeR0kRTJC4V8uq2y3z/p7al7TAJeWDgaYgdsS";

    #[test]
    fn a_list_names_keys_and_their_origins() {
        let list = format!(
            "# List: 10qps\nlogs/v0\n\nvkey {LOG}\norigin none\nqpd 86400\nbastion none\ncontact a b\n\nvkey {LOG}\norigin another one\n"
        );
        let logs = Log::parse_list(&list).unwrap();
        assert_eq!(logs.len(), 2);
        assert_eq!((&*logs[0].origin, &*logs[1].origin), ("log.example.test", "another one"));
        assert_eq!(logs[1].key.to_string(), LOG);
        assert!(Log::parse_list("logs/v0").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for (list, line, reason) in [
            (String::new(), 1, LogError::Header),
            (format!("vkey {LOG}\n"), 1, LogError::Header),
            ("\nlogs/v1".to_owned(), 2, LogError::Header),
            ("logs/v0\norigin a".to_owned(), 2, LogError::NoKey),
            ("logs/v0\nvkey a".to_owned(), 2, LogError::Key(KeyError::Shape)),
            (format!("logs/v0\nvkey {WITNESS}"), 2, LogError::KeyType),
        ] {
            let refused = Log::parse_list(&list).unwrap_err();
            assert_eq!(refused, ListError { line, reason }, "{list:?}");
        }
    }
}
