//! Lists of digests as `sha256sum` writes them, signed once for many files.

use crate::failure::Failure;
use crate::output::folder;
use countersign_verify::encoding::from_hex;
use countersign_verify::key::HashAlgorithm;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A list of files and their digests.
#[derive(Debug)]
pub(super) struct Checksums {
    folder: PathBuf,
    files: Vec<Listed>,
    /// Which of them is where, see [`place`].
    places: HashMap<PathBuf, usize>,
}

/// One file of the list.
#[derive(Debug)]
pub(super) struct Listed {
    /// As it stands in the list, relative to the list's folder.
    pub(super) name: String,
    /// At least one, each under another hash.
    pub(super) digests: Vec<(HashAlgorithm, Vec<u8>)>,
}

/// One line of the list.
#[derive(Debug, Eq, PartialEq)]
struct Line {
    name: String,
    hash: HashAlgorithm,
    digest: Vec<u8>,
}

impl Checksums {
    /// Reads the list that lies at `path`.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, Failure> {
        let unclear = |reason: String| Failure::unclear(format!("{}: {reason}", path.display()));
        let text = std::str::from_utf8(bytes).map_err(|_| unclear("not UTF-8".to_owned()))?;
        let mut files: Vec<Listed> = Vec::new();
        let mut named: HashMap<String, usize> = HashMap::new();
        for (place, text) in text.lines().enumerate() {
            if text.trim().is_empty() {
                continue;
            }
            let Line { name, hash, digest } = line(text).ok_or_else(|| {
                unclear(format!("line {}: expected a digest and a file name", place + 1))
            })?;
            let Some(&known) = named.get(&name) else {
                named.insert(name.clone(), files.len());
                files.push(Listed { name, digests: vec![(hash, digest)] });
                continue;
            };
            let digests = &mut files[known].digests;
            match digests.iter().find(|(other, _)| *other == hash) {
                None => digests.push((hash, digest)),
                Some((_, other)) if *other == digest => {}
                Some(_) => return Err(unclear(format!("two digests of {name:?}"))),
            }
        }
        if files.is_empty() {
            return Err(unclear("no digest in it".to_owned()));
        }
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let mut folders = HashMap::new();
        let mut places = HashMap::new();
        for (number, listed) in files.iter().enumerate() {
            let place = place(&folder.join(&listed.name), &mut folders);
            if places.insert(place, number).is_some() {
                return Err(unclear(format!(
                    "{:?} is listed under another name, too",
                    listed.name
                )));
            }
        }
        Ok(Self { folder, files, places })
    }

    /// All files that are listed, with their places.
    pub(super) fn all(&self) -> impl Iterator<Item = (PathBuf, &Listed)> {
        self.files.iter().map(|listed| (self.folder.join(&listed.name), listed))
    }

    /// What is listed about `file`.
    pub(super) fn about(&self, file: &Path) -> Option<&Listed> {
        let place = place(file, &mut HashMap::new());
        self.places.get(&place).map(|&number| &self.files[number])
    }
}

/// Where a file is, however its folder is written. Not what it leads to: a link is a file of its own, or one that is
/// listed would pass for another. `folders` are those that are known.
pub(super) fn place(file: &Path, folders: &mut HashMap<PathBuf, PathBuf>) -> PathBuf {
    let folder = folder(file);
    let known = folders.entry(folder.to_owned());
    let whole =
        known.or_insert_with(|| folder.canonicalize().unwrap_or_else(|_| folder.to_owned()));
    whole.join(file.file_name().unwrap_or(file.as_os_str()))
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
        assert_eq!(sums.about(Path::new("d/g")).unwrap().digests[0].1, [0xcd; 32]);
        assert!(sums.about(Path::new("g")).is_none(), "another folder's");
        let long = "ef".repeat(64);
        let sums = parse(format!("{a}  f\n{long}  f\n{a}  f\n")).unwrap();
        assert_eq!(sums.about(Path::new("d/f")).unwrap().digests.len(), 2);
        assert!(parse(format!("{a}  f\n{b}  ./f\n")).is_err());
    }

    #[test]
    fn a_link_to_a_listed_file_is_not_that_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("d")).unwrap();
        std::fs::write(path("d/lib"), "lib").unwrap();
        for link in ["app", "more"] {
            std::os::unix::fs::symlink("lib", path("d").join(link)).unwrap();
        }
        std::os::unix::fs::symlink("d", path("same")).unwrap();
        let [lib, app] = ["ab".repeat(32), "cd".repeat(32)];
        let text = format!("{lib}  lib\n{app}  app\n");
        let sums = Checksums::parse(&path("d/SUMS"), text.as_bytes()).unwrap();
        for (file, expected) in [
            ("d/lib", Some(0xab)),
            ("d/app", Some(0xcd)),
            ("same/app", Some(0xcd)),
            ("d/../d/app", Some(0xcd)),
            ("d/more", None),
        ] {
            let found = sums.about(&path(file)).map(|listed| listed.digests[0].1[0]);
            assert_eq!(found, expected, "{file}");
        }
    }
}
