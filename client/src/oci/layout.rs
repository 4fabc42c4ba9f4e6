//! An image in a folder: the OCI image layout, version 1.0.0.
//!
//! ```text
//! oci-layout            {"imageLayoutVersion":"1.0.0"}
//! index.json            every image and everything that refers to it; tags as annotations
//! blobs/sha256/HEX      manifests and blobs alike
//! ```
//!
//! `cosign save` writes one image, and beside it, without names, what its legacy tags have, told apart by their kind;
//! bundles that refer to it are blobs that the index does not list.
//!
//! Files appear whole, by renaming; `index.json` is the last to change, so that a copy which was
//! interrupted leaves blobs that nothing names, and can be made again.

use super::Error;
use super::manifest::{Descriptor, MAX_MANIFEST, Manifest, Stored};
use super::reference::{Digest, Reference};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Annotation: the tag, or the whole name, of a manifest.
const NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation by which cosign tells what a manifest is.
const KIND: &str = "kind";
pub(super) const IMAGE: &str = "dev.cosignproject.cosign/image";
pub(super) const INDEX: &str = "dev.cosignproject.cosign/imageIndex";
pub(super) const SIGNATURES: &str = "dev.cosignproject.cosign/sigs";
pub(super) const ATTESTATIONS: &str = "dev.cosignproject.cosign/atts";
const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// A folder with images.
#[derive(Clone, Debug)]
pub struct Layout {
    path: PathBuf,
    index: Arc<Mutex<Manifest>>,
}

impl Layout {
    /// Opens the layout at `path`.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = path.join("index.json");
        let bytes = read(&file, MAX_MANIFEST)?;
        let index = Manifest::parse(&file.display().to_string(), &bytes)?;
        Ok(Self { path: path.to_owned(), index: Arc::new(Mutex::new(index)) })
    }

    /// Opens the layout at `path`, or makes an empty one.
    ///
    /// # Errors
    /// When it can neither be read nor made.
    pub fn create(path: &Path) -> Result<Self, Error> {
        if path.join("index.json").exists() {
            return Self::open(path);
        }
        let blobs = path.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).map_err(|error| failed("make", &blobs, &error))?;
        write(&path.join("oci-layout"), LAYOUT.as_bytes())?;
        let index = Manifest {
            schema_version: 2,
            media_type: Some(super::media_type::INDEX.to_owned()),
            manifests: Some(Vec::new()),
            ..Manifest::default()
        };
        write(&path.join("index.json"), &index.to_json())?;
        Ok(Self { path: path.to_owned(), index: Arc::new(Mutex::new(index)) })
    }

    fn entries(&self) -> Vec<Descriptor> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner).manifests().to_vec()
    }

    /// The images in it: what refers to nothing.
    ///
    /// # Errors
    /// When a manifest cannot be read.
    pub fn images(&self) -> Result<Vec<Descriptor>, Error> {
        let mut images = Vec::new();
        for entry in self.entries() {
            let legacy = entry.annotation(NAME).is_some_and(|name| name.starts_with("sha256-"))
                || matches!(entry.annotation(KIND), Some(SIGNATURES | ATTESTATIONS));
            if !legacy && self.manifest(&entry.digest)?.manifest.subject.is_none() {
                images.push(entry);
            }
        }
        Ok(images)
    }

    /// The tag or name that an entry has.
    #[must_use]
    pub fn name(entry: &Descriptor) -> Option<&str> {
        entry.annotation(NAME)
    }

    /// What `reference` means: the digest if it has one, else whatever has the name or the tag.
    pub(super) fn resolve(&self, reference: &Reference) -> Result<Stored, Error> {
        match (reference.digest(), reference.tag()) {
            (Some(digest), _) => self.manifest(digest),
            (None, tag) => self.tagged(tag.unwrap_or("latest")),
        }
    }

    pub(super) fn tagged(&self, tag: &str) -> Result<Stored, Error> {
        let named = |entry: &Descriptor| {
            let name = entry.annotation(NAME)?;
            (name == tag || name.rsplit_once(':').is_some_and(|(_, last)| last == tag))
                .then(|| entry.digest.clone())
        };
        let digest = self.entries().iter().find_map(named).or_else(|| self.saved_beside(tag));
        let what = || format!("tag {tag} in {}", self.path.display());
        self.manifest(&digest.ok_or_else(|| Error::NotFound { what: what() })?)
    }

    /// The one image of a layout as `cosign save` writes it.
    fn saved(&self) -> Option<Digest> {
        let entries = self.entries();
        let is_image = |entry: &&Descriptor| matches!(entry.annotation(KIND), Some(IMAGE | INDEX));
        let mut images = entries.iter().filter(is_image);
        match (images.next(), images.next()) {
            (Some(image), None) if Self::name(image).is_none() => Some(image.digest.clone()),
            _ => None,
        }
    }

    /// What stands beside it in place of its legacy tag.
    fn saved_beside(&self, tag: &str) -> Option<Digest> {
        let image = self.saved()?;
        let kind = match tag.strip_prefix(&image.tag())? {
            ".sig" => SIGNATURES,
            ".att" => ATTESTATIONS,
            _ => return None,
        };
        let of_kind = |entry: &Descriptor| entry.annotation(KIND) == Some(kind);
        self.entries().into_iter().find(of_kind).map(|entry| entry.digest)
    }

    /// The blobs that are manifests which the index does not list, as far as they can be read.
    fn unlisted(&self) -> Vec<Descriptor> {
        let files = std::fs::read_dir(self.path.join("blobs/sha256")).into_iter().flatten();
        let small = files.flatten().filter(|file| {
            file.metadata().is_ok_and(|metadata| metadata.len() <= MAX_MANIFEST as u64)
        });
        let names = small.filter_map(|file| file.file_name().into_string().ok());
        let digests = names.filter_map(|name| Digest::parse(&format!("sha256:{name}")));
        let listed: Vec<_> = self.entries().into_iter().map(|entry| entry.digest).collect();
        let unlisted = digests.filter(|digest| !listed.contains(digest));
        unlisted.filter_map(|digest| Some(self.manifest(&digest).ok()?.descriptor)).collect()
    }

    pub(super) fn manifest(&self, digest: &Digest) -> Result<Stored, Error> {
        let bytes = self.bytes(digest, MAX_MANIFEST)?;
        let mut stored = Stored::new(digest.as_str(), bytes, None)?;
        stored.descriptor.digest = digest.clone();
        Ok(stored)
    }

    pub(super) fn blob(&self, descriptor: &Descriptor, limit: usize) -> Result<Vec<u8>, Error> {
        let what = descriptor.digest.to_string();
        if descriptor.size > limit as u64 {
            return Err(Error::TooLarge { what, limit, found: descriptor.size });
        }
        let bytes = self.bytes(&descriptor.digest, limit)?;
        if bytes.len() as u64 != descriptor.size {
            let (expected, found) = (descriptor.size, bytes.len() as u64);
            return Err(Error::Size { what, expected, found });
        }
        Ok(bytes)
    }

    fn bytes(&self, digest: &Digest, limit: usize) -> Result<Vec<u8>, Error> {
        let bytes = match read(&self.blob_path(digest), limit) {
            Err(Error::File { .. }) if !self.blob_path(digest).exists() => {
                let what = format!("{digest} in {}", self.path.display());
                return Err(Error::NotFound { what });
            }
            read => read?,
        };
        let expected = digest.clone();
        match digest.matches(&bytes) {
            true => Ok(bytes),
            false => Err(Error::Digest { what: digest.to_string(), expected }),
        }
    }

    /// Every entry that refers to `subject`.
    pub(super) fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        let mut found = Vec::new();
        let mut entries = self.entries();
        if self.saved().as_ref() == Some(subject) {
            entries.extend(self.unlisted());
        }
        for entry in entries {
            let Stored { manifest, .. } = self.manifest(&entry.digest)?;
            if manifest.subject.as_ref().is_some_and(|of| of.digest == *subject) {
                let artifact_type = manifest.listed_type().map(str::to_owned);
                let annotations = manifest.annotations.clone();
                found.push(Descriptor { artifact_type, annotations, ..entry });
            }
        }
        Ok(found)
    }

    /// Where a blob or manifest is.
    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path.join("blobs").join(digest.as_str().replace(':', "/"))
    }

    /// A file to write a blob into, in the folder where it will be.
    pub(super) fn begin_blob(&self, digest: &Digest) -> Result<tempfile::NamedTempFile, Error> {
        let path = self.blob_path(digest);
        let folder = path.parent().unwrap_or(&path);
        std::fs::create_dir_all(folder).map_err(|error| failed("make", folder, &error))?;
        temporary(folder)
    }

    pub(super) fn finish_blob(
        &self,
        digest: &Digest,
        file: tempfile::NamedTempFile,
    ) -> Result<(), Error> {
        persist(file, &self.blob_path(digest))
    }

    pub(super) fn put_bytes(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        let mut file = self.begin_blob(digest)?;
        file.write_all(bytes).map_err(|error| failed("write", &self.blob_path(digest), &error))?;
        self.finish_blob(digest, file)
    }

    /// Names a manifest in the index, which makes it part of the layout; `name` is its tag or whole name.
    pub(super) fn enter(
        &self,
        stored: &Stored,
        name: Option<&str>,
        kind: &str,
    ) -> Result<(), Error> {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = index.clone();
        let entries = next.manifests.get_or_insert_default();
        let mut annotations =
            std::collections::BTreeMap::from([(KIND.to_owned(), kind.to_owned())]);
        annotations.extend(name.map(|name| (NAME.to_owned(), name.to_owned())));
        let mut entry = stored.descriptor.clone();
        entry.artifact_type = stored.manifest.artifact_type.clone();
        entry.annotations = Some(annotations);
        entries.retain(|other| {
            let same_name = name.is_some() && other.annotation(NAME) == name;
            other.digest != entry.digest && !same_name
        });
        entries.push(entry);
        write(&self.path.join("index.json"), &next.to_json())?;
        *index = next;
        Ok(())
    }
}

fn failed(action: &'static str, path: &Path, error: &std::io::Error) -> Error {
    Error::File { action, path: path.display().to_string(), reason: error.to_string() }
}

fn read(path: &Path, limit: usize) -> Result<Vec<u8>, Error> {
    let file = std::fs::File::open(path).map_err(|error| failed("read", path, &error))?;
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed("read", path, &error))?;
    if bytes.len() > limit {
        let (what, found) = (path.display().to_string(), bytes.len() as u64);
        return Err(Error::TooLarge { what, limit, found });
    }
    Ok(bytes)
}

fn temporary(folder: &Path) -> Result<tempfile::NamedTempFile, Error> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".countersign-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder).map_err(|error| failed("write to", folder, &error))
}

fn persist(file: tempfile::NamedTempFile, path: &Path) -> Result<(), Error> {
    file.as_file().sync_all().map_err(|error| failed("write", path, &error))?;
    file.persist(path).map(drop).map_err(|error| failed("write", path, &error.error))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = temporary(path.parent().unwrap_or(path))?;
    file.write_all(bytes).map_err(|error| failed("write", path, &error))?;
    persist(file, path)
}
