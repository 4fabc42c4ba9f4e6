//! Descriptors, manifests and indexes, as the OCI image specification 1.1 has them.
//!
//! Read leniently where it does no harm (Docker's own media types, members we do not know), and bounded:
//! [`MAX_MANIFEST`] bytes, [`MAX_CHILDREN`] descriptors. A descriptor that is rewritten keeps what others
//! wrote into it.

use super::reference::Digest;
use super::{Error, media_type};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Largest manifest or index, in bytes: what registries accept (distribution specification).
pub const MAX_MANIFEST: usize = 4 << 20;
/// Most layers of a manifest, or manifests of an index. Docker stops at 127 layers; cosign reads 1000 of
/// a legacy signature, each a signature of its own.
pub const MAX_CHILDREN: usize = 1000;

/// What leads to a manifest or blob.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Of its bytes.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// What an artifact is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Free texts; those of a referrer are its manifest's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// The content itself, base64, where it is small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// What else others wrote: platform, urls.
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_json::Value>,
}

impl Descriptor {
    /// What describes `bytes`.
    #[must_use]
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// With nothing but what every descriptor has.
    #[must_use]
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            artifact_type: None,
            annotations: None,
            data: None,
            other: BTreeMap::new(),
        }
    }

    /// One of its annotations.
    #[must_use]
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(name).map(String::as_str)
    }

    /// Whether it leads to a manifest or an index, not to a blob.
    #[must_use]
    pub fn is_manifest(&self) -> bool {
        media_type::is_image(&self.media_type) || media_type::is_index(&self.media_type)
    }

    /// The platform, `os/architecture`, if it says one.
    #[must_use]
    pub fn platform(&self) -> Option<String> {
        let platform = self.other.get("platform")?;
        let text = |name| platform.get(name).and_then(serde_json::Value::as_str);
        Some(format!("{}/{}", text("os")?, text("architecture")?))
    }
}

/// An image manifest or an index.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// What it is; old images say it in the HTTP header alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What an artifact is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// An image's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Descriptor>,
    /// An image's layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<Descriptor>>,
    /// An index's manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifests: Option<Vec<Descriptor>>,
    /// What it refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Manifest {
    /// Reads one; `what` names it in errors.
    ///
    /// # Errors
    /// When it is not JSON of this shape, is both image and index or neither, or has too many children.
    pub fn parse(what: &str, bytes: &[u8]) -> Result<Self, Error> {
        let malformed = |reason: String| Error::Manifest { what: what.to_owned(), reason };
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        if manifest.schema_version != 2 {
            let found = manifest.schema_version;
            return Err(malformed(format!("expected schema version 2, found {found}")));
        }
        let found = match (&manifest.layers, &manifest.manifests) {
            (Some(layers), None) => layers.len(),
            (None, Some(manifests)) => manifests.len(),
            _ => return Err(malformed("expected layers or manifests, and not both".to_owned())),
        };
        if found > MAX_CHILDREN {
            let what = format!("layers or manifests of {what}");
            return Err(Error::TooMany { what, limit: MAX_CHILDREN });
        }
        Ok(manifest)
    }

    /// Its own bytes, compact; for what we write.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers only")
    }

    /// An image's layers; none of an index.
    #[must_use]
    pub fn layers(&self) -> &[Descriptor] {
        self.layers.as_deref().unwrap_or_default()
    }

    /// An index's manifests; none of an image.
    #[must_use]
    pub fn manifests(&self) -> &[Descriptor] {
        self.manifests.as_deref().unwrap_or_default()
    }

    /// What a registry lists it as: its own artifact type, or else its configuration's media type.
    #[must_use]
    pub fn listed_type(&self) -> Option<&str> {
        let config = self.config.as_ref().map(|config| config.media_type.as_str());
        self.artifact_type.as_deref().filter(|kind| !kind.is_empty()).or(config)
    }
}

/// A manifest with its bytes, which have the digest of the descriptor.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Type, digest and size as they truly are.
    pub descriptor: Descriptor,
    /// As stored.
    pub bytes: Vec<u8>,
    /// As read.
    pub manifest: Manifest,
}

impl Stored {
    /// Out of its bytes; `declared` is what the registry's header says of their type.
    pub(super) fn new(what: &str, bytes: Vec<u8>, declared: Option<&str>) -> Result<Self, Error> {
        let manifest = Manifest::parse(what, &bytes)?;
        let guessed = match manifest.manifests {
            Some(_) => media_type::INDEX,
            None => media_type::MANIFEST,
        };
        let declared = declared.map(media_type::essence);
        let kind = match (manifest.media_type.as_deref(), declared) {
            (Some(own), Some(header))
                if own != header && media_type::is_index(own) != media_type::is_index(&header) =>
            {
                let (what, expected) = (what.to_owned(), own.to_owned());
                return Err(Error::MediaType { what, expected, found: header });
            }
            (Some(own), _) => own.to_owned(),
            (None, Some(header)) => header,
            (None, None) => guessed.to_owned(),
        };
        let mut descriptor = Descriptor::of(&kind, &bytes);
        descriptor.artifact_type =
            manifest.subject.as_ref().and_then(|_| manifest.listed_type().map(str::to_owned));
        Ok(Self { descriptor, bytes, manifest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_manifest_is_refused() {
        let layer =
            format!(r#"{{"mediaType":"m","digest":"sha256:{}","size":1}}"#, "ab".repeat(32));
        let many = vec![layer.as_str(); MAX_CHILDREN + 1].join(",");
        for (json, expected) in [
            ("{".to_owned(), "EOF"),
            (r#"{"schemaVersion":1,"layers":[]}"#.to_owned(), "expected schema version 2, found 1"),
            (r#"{"schemaVersion":2}"#.to_owned(), "expected layers or manifests"),
            (r#"{"schemaVersion":2,"layers":[],"manifests":[]}"#.to_owned(), "and not both"),
            (
                r#"{"schemaVersion":2,"layers":[{"mediaType":"m","digest":"sha256:ab","size":1}]}"#
                    .to_owned(),
                "expected a digest",
            ),
            (
                format!(r#"{{"schemaVersion":2,"layers":[{}]}}"#, layer.replace(":1}", ":-1}")),
                "invalid value",
            ),
            (format!(r#"{{"schemaVersion":2,"layers":[{many}]}}"#), "more than 1000"),
        ] {
            let found = Manifest::parse("a", json.as_bytes()).unwrap_err().to_string();
            assert!(found.contains(expected), "expected {expected:?} in {found:?}");
        }
    }

    #[test]
    fn a_descriptor_keeps_what_others_wrote() {
        let json = format!(
            r#"{{"mediaType":"m","digest":"sha256:{}","size":1,"platform":{{"os":"linux","architecture":"amd64"}},"urls":[]}}"#,
            "ab".repeat(32)
        );
        let read: Descriptor = serde_json::from_str(&json).unwrap();
        assert_eq!(read.platform().as_deref(), Some("linux/amd64"));
        let again: serde_json::Value = serde_json::to_value(&read).unwrap();
        assert_eq!(again, serde_json::from_str::<serde_json::Value>(&json).unwrap());
    }
}
