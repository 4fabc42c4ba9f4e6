//! Reading an artifact: its SHA-256, streamed.
//!
//! Two buffers pass between a thread that reads and this one that hashes, so that a large file goes at
//! the speed of SHA-256 and takes the memory of two buffers.

use crate::failure::Failure;
use countersign_verify::Artifact;
use countersign_verify::encoding::from_hex;
use countersign_verify::key::HashAlgorithm;
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc;

/// Bytes of a buffer: large enough that switching between two costs nothing.
const BUFFER: usize = 1 << 20;

/// Files from this size on show their progress, bytes: about half a second's work.
const LONG: u64 = 1 << 29;

/// The digests of the file at `path` that verify a bundle whose artifact has a digest of `hash`. `-` is
/// standard input, `sha256:HEX` the digest itself.
pub(crate) fn read(path: &Path, hash: HashAlgorithm) -> Result<Artifact, Failure> {
    if path == Path::new("-") {
        return digest(io::stdin(), hash, None)
            .map_err(|error| Failure::unclear(format!("cannot read standard input: {error}")));
    }
    if let Some(hex) = path.to_str().and_then(|text| text.strip_prefix("sha256:")) {
        let artifact = from_hex(hex).ok();
        let artifact =
            artifact.and_then(|digest| Artifact::from_digest(HashAlgorithm::Sha256, &digest));
        return artifact
            .ok_or_else(|| Failure::unclear("expected 64 hexadecimal digits after \"sha256:\""));
    }
    let failed = |error| Failure::file("read", path, &error);
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(Failure::unclear(format!(
            "{} is a directory; expected a file",
            path.display()
        )));
    }
    let bar = (metadata.len() >= LONG && console::user_attended_stderr()).then(|| {
        let style = "{prefix} {bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
        let style = ProgressStyle::with_template(style).unwrap_or(ProgressStyle::default_bar());
        ProgressBar::new(metadata.len()).with_style(style).with_prefix("hashing")
    });
    digest(file, hash, bar).map_err(failed)
}

fn digest(
    mut source: impl Read + Send,
    hash: HashAlgorithm,
    bar: Option<ProgressBar>,
) -> io::Result<Artifact> {
    // Small files, the usual ones, are not worth a thread.
    let mut first = Vec::new();
    source.by_ref().take(BUFFER as u64).read_to_end(&mut first)?;
    let mut hasher = Hasher::new(hash);
    hasher.update(&first);
    if first.len() == BUFFER {
        stream(source, &mut hasher, bar, first)?;
    }
    let digest = hasher.finish();
    Ok(Artifact::from_digest(hash, &digest).expect("a digest has its hash's length"))
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

struct Hasher(aws_lc_rs::digest::Context);

impl Hasher {
    fn new(hash: HashAlgorithm) -> Self {
        use aws_lc_rs::digest::{SHA256, SHA384, SHA512};
        Self(aws_lc_rs::digest::Context::new(match hash {
            HashAlgorithm::Sha256 => &SHA256,
            HashAlgorithm::Sha384 => &SHA384,
            HashAlgorithm::Sha512 => &SHA512,
        }))
    }

    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self) -> Vec<u8> {
        self.0.finish().as_ref().to_vec()
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
            let found = digest(&bytes[..], HashAlgorithm::Sha256, None).unwrap();
            let expected = HashAlgorithm::Sha256.digest(&bytes);
            assert_eq!(found.digest(HashAlgorithm::Sha256), Some(&expected[..]), "{length}");
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
            assert!(digest(Broken(length), HashAlgorithm::Sha256, None).is_err(), "{length}");
        }
    }
}
