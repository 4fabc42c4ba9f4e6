//! Copying an image with all that refers to it: between registries, and between registry and layout.
//!
//! Bytes stay as they are, so digests and signatures hold. Blobs go first, then the manifests that name
//! them, then the tag, then what refers to it all: at no time does the target have a manifest without its
//! parts. What is there already is not sent again, so an interrupted copy goes on where it was.

use super::attach::{Where, store_referrer};
use super::legacy::Suffix;
use super::manifest::{Descriptor, MAX_CHILDREN, Stored};
use super::reference::{Digest, Reference};
use super::registry::Repository;
use super::{Error, layout, media_type};
use crate::http;
use crate::retry::{self, Patience};
use aws_lc_rs::digest::Context;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Mutex;
use std::time::Instant;

/// How deep indexes and referrers of referrers are followed: signatures of attestations of images of
/// indexes.
const MAX_DEPTH: usize = 6;

/// What was copied.
#[derive(Clone, Debug)]
pub struct Copied {
    /// The image.
    pub image: Descriptor,
    /// Its manifests and those of what refers to it, itself included.
    pub manifests: usize,
    /// Blobs that were sent.
    pub blobs: usize,
    /// What refers to it or to a part of it, referrers and legacy tags.
    pub attachments: usize,
}

struct Copy<'a> {
    from: &'a Where,
    to: &'a Where,
    seen: Mutex<BTreeSet<Digest>>,
    copied: Mutex<Copied>,
}

/// Copies what `reference` means in `from` to the tag `tag` in `to`, with all that refers to it.
///
/// # Errors
/// When something cannot be read or written, or is not what its digest says.
pub async fn copy(
    from: &Where,
    to: &Where,
    reference: &Reference,
    tag: Option<&str>,
) -> Result<Copied, Error> {
    let image = from.resolve(reference).await?;
    let copied = Copied { image: image.descriptor.clone(), manifests: 0, blobs: 0, attachments: 0 };
    let copy = Copy { from, to, seen: Mutex::default(), copied: Mutex::new(copied) };
    copy.tree(&image, tag, MAX_DEPTH).await?;
    Ok(copy.copied.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

impl Copy<'_> {
    /// Whether `digest` was not met before; each is copied once.
    fn is_new(&self, digest: &Digest) -> Result<bool, Error> {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if seen.len() > 10 * MAX_CHILDREN {
            let what = "manifests and blobs of one image".to_owned();
            return Err(Error::TooMany { what, limit: 10 * MAX_CHILDREN });
        }
        Ok(seen.insert(digest.clone()))
    }

    fn count(&self, add: impl FnOnce(&mut Copied)) {
        add(&mut self.copied.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    /// A manifest, its parts, and what refers to it.
    async fn tree(&self, stored: &Stored, tag: Option<&str>, depth: usize) -> Result<(), Error> {
        let digest = &stored.descriptor.digest;
        if !self.is_new(digest)? {
            return Ok(());
        }
        let deeper = depth.checked_sub(1).ok_or_else(|| Error::TooMany {
            what: format!("indexes and referrers nested above {digest}"),
            limit: MAX_DEPTH,
        })?;
        for child in stored.manifest.manifests() {
            if !child.is_manifest() {
                self.blob(child).await?;
                continue;
            }
            match self.from.manifest(&child.digest).await {
                Ok(child) => Box::pin(self.tree(&child, None, deeper)).await?,
                // Of an index some platforms may never have been pushed; those that read it know.
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        for blob in stored.manifest.config.iter().chain(stored.manifest.layers()) {
            self.blob(blob).await?;
        }
        self.manifest(stored, tag).await?;
        for attachment in self.from.referrers(digest).await? {
            let referrer = self.from.manifest(&attachment.descriptor.digest).await?;
            Box::pin(self.tree(&referrer, None, deeper)).await?;
            self.count(|copied| copied.attachments += 1);
        }
        for suffix in Suffix::ALL {
            let tag = suffix.tag(digest);
            if let Some(legacy) = self.from.tagged(&tag).await? {
                Box::pin(self.tree(&legacy, Some(&tag), deeper)).await?;
                self.count(|copied| copied.attachments += 1);
            }
        }
        Ok(())
    }

    async fn manifest(&self, stored: &Stored, tag: Option<&str>) -> Result<(), Error> {
        let Stored { descriptor, bytes, manifest } = stored;
        match self.to {
            Where::Registry(to) => {
                if manifest.subject.is_some() {
                    store_referrer(to, stored).await?;
                }
                let wanted = match (tag, &manifest.subject) {
                    (Some(tag), _) => tag,
                    (None, None) => descriptor.digest.as_str(),
                    (None, Some(_)) => "", // stored above
                };
                if !wanted.is_empty() {
                    to.put_manifest(wanted, &descriptor.media_type, bytes).await?;
                }
            }
            Where::Layout(to) => {
                to.put_bytes(&descriptor.digest, bytes)?;
                let kind = match tag {
                    Some(tag) if tag.ends_with(".sig") => layout::SIGNATURES,
                    Some(tag) if tag.ends_with(".att") => layout::ATTESTATIONS,
                    _ if media_type::is_index(&descriptor.media_type) => layout::INDEX,
                    _ => layout::IMAGE,
                };
                // Parts of an index are found through it.
                if tag.is_some() || manifest.subject.is_some() {
                    to.enter(stored, tag, kind)?;
                }
            }
        }
        self.count(|copied| copied.manifests += 1);
        Ok(())
    }

    async fn blob(&self, blob: &Descriptor) -> Result<(), Error> {
        if !self.is_new(&blob.digest)? {
            return Ok(());
        }
        let sent = match (self.from, self.to) {
            (Where::Registry(from), Where::Registry(to)) => between(from, to, blob).await?,
            (Where::Registry(from), Where::Layout(to)) => {
                let path = to.blob_path(&blob.digest);
                if std::fs::metadata(&path).is_ok_and(|found| found.len() == blob.size) {
                    return Ok(());
                }
                let mut file = to.begin_blob(&blob.digest)?;
                let mut reply = from.open_blob(blob).await?;
                let mut check = Check::new(blob);
                let response = reply.rest.as_mut().expect("left unread");
                let url = response.url().clone();
                while let Some(chunk) =
                    response.chunk().await.map_err(|error| http::unreachable(&url, error))?
                {
                    check.update(&chunk)?;
                    file.write_all(&chunk).map_err(|error| Error::File {
                        action: "write",
                        path: path.display().to_string(),
                        reason: error.to_string(),
                    })?;
                }
                check.finish()?;
                to.finish_blob(&blob.digest, file)?;
                true
            }
            (Where::Layout(from), Where::Registry(to)) => {
                if to.has_blob(&blob.digest).await? {
                    return Ok(());
                }
                upload_file(&from.blob_path(&blob.digest), blob, to).await?;
                true
            }
            (Where::Layout(from), Where::Layout(to)) => {
                let limit = usize::try_from(blob.size).unwrap_or(usize::MAX);
                to.put_bytes(&blob.digest, &from.blob(blob, limit)?)?;
                true
            }
        };
        self.count(|copied| copied.blobs += usize::from(sent));
        Ok(())
    }
}

/// Whether it had to be sent.
async fn between(from: &Repository, to: &Repository, blob: &Descriptor) -> Result<bool, Error> {
    if to.has_blob(&blob.digest).await? {
        return Ok(false);
    }
    if from.beside(to) && to.mount(&blob.digest, from).await? {
        return Ok(false);
    }
    // Once through this process, piece by piece; what was read wrongly the other registry refuses, which
    // checks the digest, too. A repeat begins with a new download.
    let patience = Patience { deadline: Instant::now() + retry::BUDGET, insist: false };
    let once = async || {
        let reply = from.open_blob(blob).await.map_err(Passing)?;
        let source = Mutex::new(reply.rest);
        let body = || {
            let response = source.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            response.map_or_else(|| reqwest::Body::from(""), reqwest::Body::from)
        };
        to.put_blob(blob, &body).await.map_err(Passing)
    };
    retry::repeat(patience, |_| {}, once).await.map_err(|Passing(error)| error)?;
    Ok(true)
}

/// An error that a repeat from the beginning may mend.
struct Passing(Error);

impl retry::Retryable for Passing {
    fn retryable(&self) -> bool {
        matches!(&self.0, Error::Http(error) if error.retryable())
    }
    fn busy(&self) -> bool {
        matches!(&self.0, Error::Http(error) if error.busy())
    }
    fn retry_after(&self) -> Option<std::time::Duration> {
        match &self.0 {
            Error::Http(error) => error.retry_after(),
            _ => None,
        }
    }
}

async fn upload_file(
    path: &std::path::Path,
    blob: &Descriptor,
    to: &Repository,
) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::File {
        action: "read",
        path: path.display().to_string(),
        reason: error.to_string(),
    };
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut check = Check::new(blob);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match std::io::Read::read(&mut file, &mut buffer).map_err(failed)? {
            0 => break,
            read => check.update(&buffer[..read])?,
        }
    }
    check.finish()?;
    let body = || match std::fs::File::open(path) {
        Ok(file) => reqwest::Body::wrap_stream(pieces(file)),
        Err(_) => reqwest::Body::from(""), // the registry refuses what is not the blob
    };
    to.put_blob(blob, &body).await
}

/// A file's content, piece by piece.
fn pieces(
    file: std::fs::File,
) -> impl futures_util::Stream<Item = std::io::Result<bytes::Bytes>> + Send + 'static {
    futures_util::stream::unfold(file, |mut file| async {
        let mut buffer = vec![0; 64 << 10];
        match std::io::Read::read(&mut file, &mut buffer) {
            Ok(0) => None,
            Ok(read) => {
                buffer.truncate(read);
                Some((Ok(buffer.into()), file))
            }
            Err(error) => Some((Err(error), file)),
        }
    })
}

/// Digest and size, while the bytes go by.
struct Check<'a> {
    blob: &'a Descriptor,
    context: Context,
    size: u64,
}

impl<'a> Check<'a> {
    fn new(blob: &'a Descriptor) -> Self {
        Self { blob, context: blob.digest.context(), size: 0 }
    }

    fn update(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.size += bytes.len() as u64;
        self.context.update(bytes);
        if self.size > self.blob.size { Err(self.wrong_size()) } else { Ok(()) }
    }

    fn finish(self) -> Result<(), Error> {
        if self.size != self.blob.size {
            return Err(self.wrong_size());
        }
        let (what, expected) = (self.blob.digest.to_string(), self.blob.digest.clone());
        if expected.is(self.context) { Ok(()) } else { Err(Error::Digest { what, expected }) }
    }

    fn wrong_size(&self) -> Error {
        let (what, expected) = (self.blob.digest.to_string(), self.blob.size);
        Error::Size { what, expected, found: self.size }
    }
}
