//! What refers to an image: bundles as OCI 1.1 referrers, as cosign 3 stores them.
//!
//! A referrer is an image manifest with the bundle's media type as artifact type, the empty configuration,
//! one layer, and the image as subject. A registry without the referrers API keeps the list of them under
//! the fallback tag, `sha256-HEX`, which whoever writes keeps up. Beyond what cosign writes, a small
//! bundle stands in its layer's descriptor, too (`data`, which the image specification allows): that
//! saves each reader a request.

use super::layout::Layout;
use super::manifest::{Descriptor, Manifest, Stored};
use super::reference::{Digest, Reference};
use super::registry::Repository;
use super::shared_tag::{self, Shared};
use super::{Error, media_type};
use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use countersign_verify::Bundle;
use countersign_verify::bundle::{Content, MEDIA_TYPE};
use countersign_verify::encoding::base64;
use countersign_verify::limits::MAX_BUNDLE;
use countersign_verify::statement::Statement;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most referrers of one image that are listed. Each is a request; signing four times a day fills it in three
/// years.
pub const MAX_REFERRERS: usize = 4096;
/// Annotation: when it was made, RFC 3339.
const CREATED: &str = "org.opencontainers.image.created";
/// Annotation: `dsse-envelope` or `message-signature`.
const CONTENT: &str = "dev.sigstore.bundle.content";
/// Annotation: the statement's predicate type.
pub(super) const PREDICATE_TYPE: &str = "dev.sigstore.bundle.predicateType";
/// Largest bundle that stands in its descriptor, in bytes. An ordinary one has 5 KiB.
const MAX_EMBEDDED: u64 = 16 << 10;

/// Where an image is.
#[derive(Clone, Debug)]
pub enum Where {
    /// In a registry.
    Registry(Repository),
    /// In a folder of this machine.
    Layout(Layout),
}

/// Something that refers to an image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attachment {
    /// Its manifest's, as listed.
    pub descriptor: Descriptor,
}

impl Attachment {
    /// Whether it may be a bundle: it is listed as one, or without a type that says anything. Older clients list
    /// without any, and cosign under the fallback tag with its configuration's, the empty one.
    #[must_use]
    pub fn may_be_bundle(&self) -> bool {
        self.stated_type().is_none_or(media_type::is_bundle)
    }

    fn stated_type(&self) -> Option<&str> {
        let stated = self.descriptor.artifact_type.as_deref();
        stated.filter(|kind| media_type::essence(kind) != media_type::EMPTY)
    }

    /// What it is listed as attesting; a claim.
    #[must_use]
    pub fn predicate_type(&self) -> Option<&str> {
        self.descriptor.annotation(PREDICATE_TYPE)
    }
}

/// A bundle as it was found.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The referrer's digest.
    pub digest: Digest,
    /// JSON.
    pub bundle: Vec<u8>,
}

impl Where {
    /// What `reference` means here.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub async fn resolve(&self, reference: &Reference) -> Result<Stored, Error> {
        match self {
            Self::Registry(repository) => repository.resolve(reference).await,
            Self::Layout(layout) => layout.resolve(reference),
        }
    }

    /// The manifest with a digest.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub async fn manifest(&self, digest: &Digest) -> Result<Stored, Error> {
        match self {
            Self::Registry(repository) => repository.manifest(digest).await,
            Self::Layout(layout) => layout.manifest(digest),
        }
    }

    /// The manifest under a tag; none if there is no such tag.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn tagged(&self, tag: &str) -> Result<Option<Stored>, Error> {
        let found = match self {
            Self::Registry(repository) => repository.tagged(tag).await,
            Self::Layout(layout) => layout.tagged(tag),
        };
        match found {
            Ok(stored) => Ok(Some(stored)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The bytes of a blob, at most `limit`.
    ///
    /// # Errors
    /// When there are none, or they are not what the descriptor says.
    pub async fn blob(&self, descriptor: &Descriptor, limit: usize) -> Result<Vec<u8>, Error> {
        match self {
            Self::Registry(repository) => repository.blob(descriptor, limit).await,
            Self::Layout(layout) => layout.blob(descriptor, limit),
        }
    }

    /// What is listed as referring to `subject`: by the referrers API, or by a layout's index. None where there
    /// is no such list.
    ///
    /// # Errors
    /// When it cannot be read, or is too long.
    pub async fn listed(&self, subject: &Digest) -> Result<Option<Vec<Attachment>>, Error> {
        let found = match self {
            Self::Registry(repository) => repository.listed(subject).await?,
            Self::Layout(layout) => Some(layout.referrers(subject)?),
        };
        Ok(found.map(attachments))
    }

    /// What the fallback tag lists.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn listed_by_tag(&self, subject: &Digest) -> Result<Vec<Attachment>, Error> {
        let index = self.tagged(&subject.tag()).await?;
        let found = index.map(|index| index.manifest.manifests.unwrap_or_default());
        Ok(attachments(found.unwrap_or_default()))
    }

    /// Both lists in one, each once: a registry may have got the API only lately.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub async fn referrers(&self, subject: &Digest) -> Result<Vec<Attachment>, Error> {
        let mut found = self.listed(subject).await?.unwrap_or_default();
        for attachment in self.listed_by_tag(subject).await? {
            let digest = &attachment.descriptor.digest;
            if !found.iter().any(|other| other.descriptor.digest == *digest) {
                found.push(attachment);
            }
        }
        Ok(found)
    }

    /// The bundle in a referrer of `subject`; none if it turns out to hold something else.
    ///
    /// # Errors
    /// When it cannot be read, refers to something else, or is not what it is listed as.
    pub async fn bundle(
        &self,
        subject: &Digest,
        attachment: &Attachment,
    ) -> Result<Option<Evidence>, Error> {
        let Some(layer) = self.bundle_layer(subject, attachment).await? else { return Ok(None) };
        let bundle = self.blob(&layer, MAX_BUNDLE).await?;
        Ok(Some(Evidence { digest: attachment.descriptor.digest.clone(), bundle }))
    }

    /// Where the bundle in a referrer of `subject` is, for whoever has to know first how long it is; none if it
    /// turns out to hold something else.
    ///
    /// # Errors
    /// When the referrer cannot be read, refers to something else, or is not what it is listed as.
    pub async fn bundle_layer(
        &self,
        subject: &Digest,
        attachment: &Attachment,
    ) -> Result<Option<Descriptor>, Error> {
        if !attachment.may_be_bundle() {
            return Ok(None);
        }
        let descriptor = &attachment.descriptor;
        let Stored { bytes, manifest, .. } = self.manifest(&descriptor.digest).await?;
        let what = descriptor.digest.to_string();
        if bytes.len() as u64 != descriptor.size {
            let (expected, found) = (descriptor.size, bytes.len() as u64);
            return Err(Error::Size { what, expected, found });
        }
        let found = manifest.subject.as_ref().map(|subject| &subject.digest);
        if found != Some(subject) {
            let found = found.map_or("nothing".to_owned(), Digest::to_string);
            return Err(Error::Subject { what, expected: subject.clone(), found });
        }
        match manifest.layers() {
            [layer] if media_type::is_bundle(&layer.media_type) => Ok(Some(layer.clone())),
            // Listed without a type it may be anything.
            _ if attachment.stated_type().is_none() => Ok(None),
            [layer] => {
                let expected = format!("{}…", media_type::BUNDLES);
                Err(Error::MediaType { what, expected, found: layer.media_type.clone() })
            }
            layers => {
                let reason = format!("expected one layer with a bundle, found {}", layers.len());
                Err(Error::Manifest { what, reason })
            }
        }
    }
}

fn attachments(descriptors: Vec<Descriptor>) -> Vec<Attachment> {
    descriptors.into_iter().map(|descriptor| Attachment { descriptor }).collect()
}

/// Stores `bundle` as a referrer of `subject`, and returns the referrer's descriptor as it is listed.
///
/// # Errors
/// When the registry does not take it.
pub async fn attach(
    to: &Repository,
    subject: &Descriptor,
    bundle: &Arc<Bundle>,
    now: Timestamp,
) -> Result<Descriptor, Error> {
    let json = Pieces::new(bundle);
    let mut layer = json.descriptor();
    let empty = Descriptor::of(media_type::EMPTY, b"{}");
    let store_empty = async {
        match to.has_blob(&empty.digest).await? {
            true => Ok(()),
            false => to.put_blob(&empty, &|| "{}".into()).await,
        }
    };
    let body = || {
        let pieces = json.clone().map(Ok::<_, std::convert::Infallible>);
        reqwest::Body::wrap_stream(futures_util::stream::iter(pieces))
    };
    tokio::try_join!(store_empty, to.put_blob(&layer, &body))?;
    if layer.size <= MAX_EMBEDDED {
        layer.data = Some(base64(bundle.to_json().as_bytes()));
    }
    let mut annotations = BTreeMap::from([(CREATED.to_owned(), format!("{now:.0}"))]);
    let content = match bundle.content() {
        Content::Dsse(envelope) => {
            if let Ok(statement) = Statement::parse(&envelope.payload) {
                let kind = statement.predicate_type().to_owned();
                annotations.insert(PREDICATE_TYPE.to_owned(), kind);
            }
            "dsse-envelope"
        }
        Content::Message(_) => "message-signature",
    };
    annotations.insert(CONTENT.to_owned(), content.to_owned());
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.to_owned()),
        artifact_type: Some(MEDIA_TYPE.to_owned()),
        config: Some(empty),
        layers: Some(vec![layer]),
        subject: Some(Descriptor { data: None, annotations: None, ..subject.clone() }),
        annotations: Some(annotations),
        ..Manifest::default()
    };
    store_referrer(to, &Stored::new("the referrer", manifest.to_json(), None)?).await
}

/// A bundle's JSON, made piece by piece: a large attestation is in memory once, and not in base64.
#[derive(Clone)]
struct Pieces {
    bundle: Arc<Bundle>,
    head: Option<String>,
    /// Bytes of the payload that were made.
    done: usize,
    tail: Option<String>,
}

impl Pieces {
    /// Bytes of the payload in one piece, a multiple of three, so that its base64 has no padding.
    const PIECE: usize = 48 << 10;

    fn new(bundle: &Arc<Bundle>) -> Self {
        let (head, tail) = bundle.json_around_payload();
        Self { bundle: Arc::clone(bundle), head: Some(head), done: 0, tail: Some(tail) }
    }

    fn descriptor(&self) -> Descriptor {
        let (mut context, mut size) = (Context::new(&SHA256), 0);
        for piece in self.clone() {
            context.update(&piece);
            size += piece.len() as u64;
        }
        let digest = Digest::sha256(context.finish().as_ref());
        Descriptor::new(MEDIA_TYPE, digest, size)
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if let Some(head) = self.head.take() {
            return Some(head.into());
        }
        if let Content::Dsse(envelope) = self.bundle.content()
            && let Some(left) = envelope.payload.get(self.done..).filter(|left| !left.is_empty())
        {
            let piece = &left[..left.len().min(Self::PIECE)];
            self.done += piece.len();
            return Some(base64(piece).into());
        }
        self.tail.take().map(Bytes::from)
    }
}

/// Stores a manifest that refers to something, and sees to it that it is listed.
pub(super) async fn store_referrer(
    to: &Repository,
    referrer: &Stored,
) -> Result<Descriptor, Error> {
    let Stored { descriptor, bytes, manifest } = referrer;
    let taken = to.put_manifest(descriptor.digest.as_str(), &descriptor.media_type, bytes).await?;
    let mut listed = descriptor.clone();
    listed.artifact_type = manifest.listed_type().map(str::to_owned);
    listed.annotations = manifest.annotations.clone();
    let Some(subject) = &manifest.subject else { return Ok(listed) };
    // One large registry says that it lists the referrer and has no list; so it is asked.
    if !(taken.listed && to.has_list(&subject.digest).await?) {
        let tag = subject.digest.tag();
        shared_tag::add(to, &tag, Shared::Referrers, listed.clone()).await?;
    }
    Ok(listed)
}

/// Removes referrers from the registry and from the fallback tag's index.
///
/// # Errors
/// When the registry deletes nothing, or does not answer.
pub async fn detach(
    from: &Repository,
    subject: &Digest,
    referrers: &[Attachment],
) -> Result<(), Error> {
    let gone = |digest: &Digest| referrers.iter().any(|other| other.descriptor.digest == *digest);
    for referrer in referrers {
        match from.delete(referrer.descriptor.digest.as_str()).await {
            // Listed and not there: the list was not kept up.
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let index = match from.tagged(&subject.tag()).await {
        Ok(index) => index,
        Err(Error::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut manifest = index.manifest;
    let entries = manifest.manifests.take().unwrap_or_default();
    let left: Vec<_> = entries.iter().filter(|entry| !gone(&entry.digest)).cloned().collect();
    if left.len() < entries.len() {
        manifest.manifests = Some(left);
        let kind = &index.descriptor.media_type;
        from.put_manifest(&subject.tag(), kind, &manifest.to_json()).await?;
    }
    Ok(())
}
