//! AdmissionReview to images, and back: Kubernetes `admission.k8s.io/v1`.
//!
//! [`Review::parse`] finds every place of an object that names an image, and says for an update which of
//! them the old object did not name. [`Answer`] is what goes back. Nothing is looked up here: which
//! digest a tag means, and what policy says of it, is for the caller.
//!
//! Refused: other versions, more than [`MAX_REVIEW`] bytes or [`MAX_IMAGES`] images, kinds whose images
//! nobody has said where to find, members of another type than Kubernetes gives them, and members that stand
//! twice, of which only one would be seen.

mod answer;
mod place;

pub use answer::{Answer, Verdict};
pub use place::{Kinds, KindsError, Place};

use countersign_verify::json::Unique;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Largest review, in bytes. An API server takes objects of up to 3 MiB, an update carries two of them,
/// and there is room for what it writes around them.
pub const MAX_REVIEW: usize = 8 << 20;

/// Most images of one object. Ours: real pods have fewer than fifty.
pub const MAX_IMAGES: usize = 1000;

/// The one version that is spoken.
const VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// A question of the API server.
#[derive(Clone, Debug)]
pub struct Review {
    /// Comes back in the answer.
    pub uid: String,
    /// What is done to the object.
    pub operation: Operation,
    /// Its kind, and the group's name behind a dot where there is one: `Deployment.apps`.
    pub kind: String,
    /// Its namespace; `None` for what lies in none.
    pub namespace: Option<String>,
    /// Its name; `None` where the server makes one up later.
    pub name: Option<String>,
    /// The labels of the object itself.
    pub labels: BTreeMap<String, String>,
    /// Nothing may be written anywhere for this review.
    pub dry_run: bool,
    /// A controller made it, as a deployment's makes replica sets, and compares it with what it wants: what is
    /// written into it makes another of it, and the controller makes one more. Never a pod.
    pub owned: bool,
    /// Every place that names an image, in the object's order.
    pub places: Vec<Place>,
    /// Members whose names end as if they named images, at places where Kubernetes has none so far: JSON
    /// pointers. For a metric; nothing is decided by them.
    pub unknown: Vec<String>,
    /// Images that the old object names as often as the new one does.
    unchanged: BTreeSet<String>,
}

/// What is done to an object.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// It is new.
    Create,
    /// It is changed.
    Update,
    /// It goes away: there is nothing to check.
    Delete,
    /// Somebody connects to it, to run a command for example: there is nothing to check.
    Connect,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireReview {
    api_version: String,
    kind: String,
    request: Option<WireRequest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireRequest {
    uid: String,
    kind: WireKind,
    resource: WireResource,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    operation: Operation,
    #[serde(default)]
    object: Unique,
    #[serde(default)]
    old_object: Unique,
    dry_run: Option<bool>,
}

#[derive(Deserialize)]
struct WireKind {
    #[serde(default)]
    group: String,
    kind: String,
}

#[derive(Deserialize)]
struct WireResource {
    #[serde(default)]
    group: String,
    resource: String,
}

impl Review {
    /// Reads a review, JSON.
    ///
    /// # Errors
    /// When it is none, or images may hide in it that cannot be found.
    pub fn parse(json: &[u8], kinds: &Kinds) -> Result<Self, Error> {
        if json.len() > MAX_REVIEW {
            return Err(Error::TooLong { limit: MAX_REVIEW, found: json.len() });
        }
        let wire: WireReview =
            serde_json::from_slice(json).map_err(|error| Error::Json(error.to_string()))?;
        if wire.api_version != VERSION || wire.kind != KIND {
            return Err(Error::Version { found: format!("{} {}", wire.api_version, wire.kind) });
        }
        let request = wire.request.ok_or(Error::NoRequest)?;
        let WireKind { group, kind } = &request.kind;
        let name = if group.is_empty() { kind.clone() } else { format!("{kind}.{group}") };
        let object = &request.object.0;
        let (mut found, mut before) = (place::Found::default(), place::Found::default());
        if matches!(request.operation, Operation::Create | Operation::Update) {
            let spec =
                kinds.pod_spec(group, kind, &request.resource.group, &request.resource.resource);
            let spec = spec.ok_or_else(|| Error::UnknownKind { kind: name.clone() })?;
            found = place::find(object, spec, true)?;
            if request.operation == Operation::Update {
                // An old object that makes no sense leaves nothing unchanged, nor does what stands at places
                // where nothing runs it.
                before = place::find(&request.old_object.0, spec, false).unwrap_or_default();
            }
        }
        let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        let owned = owners.into_iter().flatten().any(|owner| owner["controller"] == true);
        let owned = owned && name != "Pod";
        let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
        let labels = labels.into_iter().flatten();
        let labels =
            labels.filter_map(|(name, label)| Some((name.clone(), label.as_str()?.into())));
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        Ok(Self {
            uid: request.uid,
            operation: request.operation,
            kind: name,
            namespace: text(request.namespace),
            name: text(request.name),
            labels: labels.collect(),
            dry_run: request.dry_run.unwrap_or_default(),
            owned,
            unchanged: unchanged(&found.places, &before.places),
            places: found.places,
            unknown: found.unknown,
        })
    }

    /// Whether the old object names the image of `place` as often as the new one.
    #[must_use]
    pub fn is_unchanged(&self, place: &Place) -> bool {
        self.unchanged.contains(&place.image)
    }

    /// The JSON patch (RFC 6902) that writes what `pinned` has for an image into each place that names
    /// it. Each replacement stands behind a test, so that it fails where somebody else was faster.
    #[must_use]
    pub fn patch(&self, pinned: &BTreeMap<String, String>) -> Vec<Value> {
        let mut patch = Vec::new();
        for Place { pointer, image, .. } in &self.places {
            let Some(pinned) = pinned.get(image).filter(|pinned| *pinned != image) else {
                continue;
            };
            patch.push(serde_json::json!({ "op": "test", "path": pointer, "value": image }));
            patch.push(serde_json::json!({ "op": "replace", "path": pointer, "value": pinned }));
        }
        patch
    }
}

/// Images that `before` has at least as often as `now`.
fn unchanged(now: &[Place], before: &[Place]) -> BTreeSet<String> {
    let count =
        |places: &[Place], image: &str| places.iter().filter(|place| place.image == image).count();
    let images: BTreeSet<_> = now.iter().map(|place| &place.image).collect();
    let kept = images.into_iter().filter(|image| count(now, image) <= count(before, image));
    kept.cloned().collect()
}

/// Why something is no review that can be answered.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Too long.
    #[error("a review has at most {limit} bytes, found {found}")]
    TooLong {
        /// Bytes allowed.
        limit: usize,
        /// Bytes found.
        found: usize,
    },
    /// No JSON, or a member is missing or of another type.
    #[error("not an AdmissionReview: {0}")]
    Json(String),
    /// Another version, or another kind of object.
    #[error("expected {VERSION} {KIND}, found {found:?}")]
    Version {
        /// What it says it is.
        found: String,
    },
    /// An answer, or an empty review.
    #[error("expected a review with a request, found none")]
    NoRequest,
    /// Nobody has said where its images are.
    #[error(
        "where {kind} has its images is not known: name its pod spec below extra-images-at, or leave it out of the webhook's rules"
    )]
    UnknownKind {
        /// The kind, with its group.
        kind: String,
    },
    /// A member has another type than Kubernetes gives it.
    #[error("{pointer}: expected {expected}")]
    Type {
        /// Where, as a JSON pointer.
        pointer: String,
        /// What stands there in a real object.
        expected: &'static str,
    },
    /// A pod's container without an image.
    #[error("{pointer}: expected an image, found none")]
    NoImage {
        /// Where, as a JSON pointer.
        pointer: String,
    },
    /// Too many images.
    #[error("an object names at most {MAX_IMAGES} images, found more")]
    TooMany,
}
