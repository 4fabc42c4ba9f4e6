//! Reading an artifact: its digests, streamed.
//!
//! Two buffers pass between a thread that reads and this one that hashes, so that a large file goes at
//! the speed of SHA-256 and takes the memory of two buffers.

use crate::failure::Failure;
use countersign_verify::Artifact;
use countersign_verify::encoding::from_hex;
use countersign_verify::key::HashAlgorithm;
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc;

/// Bytes of a buffer: large enough that switching between two costs nothing.
const BUFFER: usize = 1 << 20;

/// Files from this size on show their progress, bytes: about half a second's work.
const LONG: u64 = 1 << 29;

/// The digests of the file at `path` under `hashes`. `-` is standard input, `sha256:HEX` (or sha384, sha512)
/// the digest itself unless there is a file of that name. `progress`: whether a long file may show its own.
pub(crate) fn read(
    path: &Path,
    hashes: &BTreeSet<HashAlgorithm>,
    progress: bool,
) -> Result<Artifact, Failure> {
    if path == Path::new("-") {
        return digest(io::stdin(), hashes, None)
            .map_err(|error| Failure::unclear(format!("cannot read standard input: {error}")));
    }
    if let Some((hash, hex)) = digest_in(path) {
        let artifact = from_hex(hex).ok();
        let artifact = artifact.and_then(|digest| Artifact::from_digest(hash, &digest));
        return artifact.ok_or_else(|| {
            let (digits, name) = (2 * hash.digest_len(), hash.short_name());
            Failure::unclear(format!("expected {digits} hexadecimal digits after \"{name}:\""))
        });
    }
    let failed = |error| Failure::file("read", path, &error);
    let file = File::open(path).map_err(|error| match other_digest(path) {
        true if error.kind() == io::ErrorKind::NotFound => {
            failed(error).hint("as digests are taken sha256:HEX, sha384:HEX and sha512:HEX")
        }
        _ => failed(error),
    })?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(Failure::unclear(format!(
            "{} is a directory; expected a file",
            path.display()
        )));
    }
    let shown = progress && metadata.len() >= LONG && console::user_attended_stderr();
    let bar = shown.then(|| {
        let style = "{prefix} {bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
        let style = ProgressStyle::with_template(style).unwrap_or(ProgressStyle::default_bar());
        ProgressBar::new(metadata.len()).with_style(style).with_prefix("hashing")
    });
    digest(file, hashes, bar).map_err(failed)
}

/// The hash and the digits of an argument that stands for a file with that digest.
pub(crate) fn digest_in(path: &Path) -> Option<(HashAlgorithm, &str)> {
    written_as_digest(path).filter(|_| !path.exists())
}

/// Whether it looks like a digest of a hash that is not taken.
fn other_digest(path: &Path) -> bool {
    let parts = path.to_str().and_then(|text| text.split_once(':'));
    parts.is_some_and(|(name, hex)| {
        let named = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        named && hex.len() >= 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

fn written_as_digest(path: &Path) -> Option<(HashAlgorithm, &str)> {
    let (name, hex) = path.to_str()?.split_once(':')?;
    let hash = HashAlgorithm::ALL.into_iter().find(|hash| hash.short_name() == name)?;
    Some((hash, hex))
}

/// Refuses what may mean a digest or the file of that name: whoever can leave a file here would choose what is
/// verified.
pub(crate) fn only_one_meaning(path: &Path) -> Result<(), Failure> {
    let whole = |(hash, hex): &(HashAlgorithm, &str)| hex.len() == 2 * hash.digest_len();
    if written_as_digest(path).as_ref().is_some_and(whole) && path.exists() {
        let path = path.display();
        return Err(Failure::unclear(format!(
            "{path} is a digest, and there is a file of that name"
        ))
        .hint(format!("for the file give ./{path}; for the digest, move the file away")));
    }
    Ok(())
}

fn digest(
    mut source: impl Read + Send,
    hashes: &BTreeSet<HashAlgorithm>,
    bar: Option<ProgressBar>,
) -> io::Result<Artifact> {
    // Small files, the usual ones, are not worth a thread.
    let mut first = Vec::new();
    source.by_ref().take(BUFFER as u64).read_to_end(&mut first)?;
    let mut hasher = Hasher::new(hashes);
    hasher.update(&first);
    if first.len() == BUFFER {
        stream(source, &mut hasher, bar, first)?;
    }
    Ok(hasher.finish())
}

fn stream(
    mut source: impl Read + Send,
    hasher: &mut Hasher,
    bar: Option<ProgressBar>,
    first: Vec<u8>,
) -> io::Result<()> {
    let (full, hash) = mpsc::sync_channel::<(Vec<u8>, usize)>(1);
    let (used, free) = mpsc::sync_channel::<Vec<u8>>(2);
    for buffer in [first, vec![0; BUFFER]] {
        used.send(buffer).expect("the other end is below");
    }
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || -> io::Result<()> {
            while let Ok(mut buffer) = free.recv() {
                let mut length = 0;
                while length < buffer.len() {
                    match source.read(&mut buffer[length..]) {
                        Ok(0) => break,
                        Ok(read) => length += read,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                if length == 0 || full.send((buffer, length)).is_err() {
                    break;
                }
            }
            Ok(())
        });
        for (buffer, length) in hash {
            hasher.update(&buffer[..length]);
            if let Some(bar) = &bar {
                bar.inc(length as u64);
            }
            let _ = used.send(buffer); // the reader stops at the end of the file
        }
        drop(used);
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        reader.join().expect("the reader does not panic")
    })
}

/// Several hashes over the same bytes; nearly always it is one.
struct Hasher(Vec<(HashAlgorithm, aws_lc_rs::digest::Context)>);

impl Hasher {
    fn new(hashes: &BTreeSet<HashAlgorithm>) -> Self {
        use aws_lc_rs::digest::{Context, SHA256, SHA384, SHA512};
        let context = |hash: &HashAlgorithm| match hash {
            HashAlgorithm::Sha256 => Context::new(&SHA256),
            HashAlgorithm::Sha384 => Context::new(&SHA384),
            HashAlgorithm::Sha512 => Context::new(&SHA512),
        };
        Self(hashes.iter().map(|hash| (*hash, context(hash))).collect())
    }

    fn update(&mut self, bytes: &[u8]) {
        self.0.iter_mut().for_each(|(_, context)| context.update(bytes));
    }

    fn finish(self) -> Artifact {
        let finish = |(hash, context): (_, aws_lc_rs::digest::Context)| {
            (hash, context.finish().as_ref().to_vec())
        };
        Artifact::from_digests(self.0.into_iter().map(finish))
            .expect("a digest has its hash's length")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_of_any_length_has_the_digest_of_its_bytes() {
        for length in [0, 1, BUFFER - 1, BUFFER, BUFFER + 1, 2 * BUFFER, 5 * BUFFER + 7] {
            let bytes: Vec<u8> =
                (0..length).map(|place| u8::try_from(place % 251).unwrap()).collect();
            let hashes = BTreeSet::from(HashAlgorithm::ALL);
            let found = digest(&bytes[..], &hashes, None).unwrap();
            assert_eq!(found, Artifact::from_bytes(&bytes), "{length}");
        }
    }

    #[test]
    fn a_read_error_is_not_the_end_of_the_file() {
        struct Broken(usize);
        impl Read for Broken {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if self.0 == 0 {
                    return Err(io::Error::other("broken"));
                }
                let length = buffer.len().min(self.0);
                self.0 -= length;
                Ok(length)
            }
        }
        for length in [0, 10, BUFFER, 3 * BUFFER] {
            let hashes = BTreeSet::from([HashAlgorithm::Sha256]);
            assert!(digest(Broken(length), &hashes, None).is_err(), "{length}");
        }
    }
}
