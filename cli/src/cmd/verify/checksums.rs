//! Lists of digests as `sha256sum` writes them, signed once for many files.

use crate::failure::Failure;
use countersign_verify::encoding::from_hex;
use countersign_verify::key::HashAlgorithm;
use std::path::{Path, PathBuf};

/// A list of files and their digests.
#[derive(Debug)]
pub(super) struct Checksums {
    folder: PathBuf,
    lines: Vec<Line>,
}

/// One file of the list.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Line {
    /// As it stands in the list, relative to the list's folder.
    pub(super) name: String,
    pub(super) hash: HashAlgorithm,
    pub(super) digest: Vec<u8>,
}

impl Checksums {
    /// Reads the list that lies at `path`.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, Failure> {
        let unclear = |reason: String| Failure::unclear(format!("{}: {reason}", path.display()));
        let text = std::str::from_utf8(bytes).map_err(|_| unclear("not UTF-8".to_owned()))?;
        let mut lines: Vec<Line> = Vec::new();
        for (place, text) in text.lines().enumerate() {
            if text.trim().is_empty() {
                continue;
            }
            let line = line(text).ok_or_else(|| {
                unclear(format!("line {}: expected a digest and a file name", place + 1))
            })?;
            let other = lines.iter().find(|other| other.name == line.name);
            if other.is_some_and(|other| other.hash == line.hash && other.digest != line.digest) {
                return Err(unclear(format!("two digests of {:?}", line.name)));
            }
            lines.push(line);
        }
        if lines.is_empty() {
            return Err(unclear("no digest in it".to_owned()));
        }
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Self { folder, lines })
    }

    /// All files that are listed, with their places.
    pub(super) fn all(&self) -> impl Iterator<Item = (PathBuf, &Line)> {
        self.lines.iter().map(|line| (self.folder.join(&line.name), line))
    }

    /// The line about `file`: by the very name, or by being the same file.
    pub(super) fn line(&self, file: &Path) -> Option<&Line> {
        let same = |(path, _): &(PathBuf, &Line)| {
            path == file
                || match (path.canonicalize(), file.canonicalize()) {
                    (Ok(path), Ok(file)) => path == file,
                    _ => false,
                }
        };
        self.all().find(same).map(|(_, line)| line)
    }
}

/// `HEX  name`, `HEX *name`, or BSD's `SHA256 (name) = HEX`.
fn line(text: &str) -> Option<Line> {
    let (digest, name) = match text.split_once(" (").and_then(|(hash, rest)| {
        let (name, digest) = rest.rsplit_once(") = ")?;
        hash.chars().all(|c| c.is_ascii_alphanumeric()).then_some((digest, name))
    }) {
        Some(found) => found,
        None => {
            let (digest, name) = text.split_once(' ')?;
            (digest, name.strip_prefix([' ', '*'])?)
        }
    };
    let digest = from_hex(digest).ok()?;
    let hash = HashAlgorithm::ALL.into_iter().find(|hash| hash.digest_len() == digest.len())?;
    (!name.is_empty()).then(|| Line { name: name.to_owned(), hash, digest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_sha256sum_and_bsd_read() {
        let hex = "ab".repeat(32);
        for text in [format!("{hex}  a b"), format!("{hex} *a b"), format!("SHA256 (a b) = {hex}")]
        {
            let found = line(&text).unwrap();
            assert_eq!((found.name.as_str(), found.hash), ("a b", HashAlgorithm::Sha256), "{text}");
            assert_eq!(found.digest, [0xab; 32]);
        }
        let long = "cd".repeat(64);
        assert_eq!(line(&format!("{long}  f")).unwrap().hash, HashAlgorithm::Sha512);
        // An escaped name, as GNU writes for line feeds, is not unescaped but refused.
        for text in [
            format!("\\{hex}  a\\nb"),
            hex.clone(),
            format!("{hex} a"),
            format!("{hex}  "),
            "ab  f".into(),
        ] {
            assert_eq!(line(&text), None, "{text}");
        }
    }

    #[test]
    fn two_digests_of_one_file_are_refused() {
        let [a, b] = ["ab".repeat(32), "cd".repeat(32)];
        let parse = |text: String| Checksums::parse(Path::new("d/SUMS"), text.as_bytes());
        assert!(parse(format!("{a}  f\n{b}  f\n")).is_err());
        assert!(parse(format!("{a}  f\n{a}  f\n")).is_ok());
        assert!(parse(String::new()).is_err());
        let sums = parse(format!("{a}  f\n{b}  g\n")).unwrap();
        assert_eq!(sums.line(Path::new("d/g")).unwrap().digest, [0xcd; 32]);
        assert!(sums.line(Path::new("g")).is_none(), "another folder's");
    }
}
