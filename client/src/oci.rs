//! Images in container registries and OCI layouts, and what refers to them: signatures and attestations.
//!
//! The distribution and image specifications of OCI, version 1.1, with the fallback tag for registries
//! without the referrers API, and the tags of cosign 1 and 2. Written on this crate's own HTTP client
//! rather than a registry library: the ones there are follow redirects by themselves, read a list's first
//! page only, and do not wait as a registry asks.
//!
//! A registry is not trusted. Every byte has the digest and size that led to it, or is refused; lists and
//! bodies are bounded; credentials go to the registry and to the token server that it names, never where
//! a redirect leads. What a registry fails to answer is an error, never an absence.

mod attach;
mod auth;
mod copy;
mod credentials;
mod layout;
mod legacy;
mod manifest;
mod mirror;
mod reference;
mod registry;
mod shared_tag;

pub use attach::{Attachment, Evidence, MAX_REFERRERS, Where, attach, detach};
pub use copy::{Copied, copy};
pub use credentials::Credential;
pub use layout::Layout;
pub use legacy::{Layer, Payload, Suffix, attach_legacy};
pub use manifest::{Descriptor, MAX_CHILDREN, MAX_MANIFEST, Manifest, Stored};
pub use mirror::Mirrors;
pub use reference::{Digest, Reference};
pub use registry::{Options, Registries, Repository};

use crate::http;
use crate::retry::Retryable as _;

/// Media types, and how they are compared: by what stands before parameters, in any case.
pub mod media_type {
    /// An image manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An index of manifests.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// Docker's image manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's index.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// The configuration of what has none: `{}`.
    pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
    /// The configuration of an image.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// How the media types of all bundles begin.
    pub const BUNDLES: &str = "application/vnd.dev.sigstore.bundle";

    /// The type without its parameters, in lower case.
    #[must_use]
    pub fn essence(text: &str) -> String {
        text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// Whether it is an image manifest, OCI's or Docker's.
    #[must_use]
    pub fn is_image(text: &str) -> bool {
        [MANIFEST, DOCKER_MANIFEST].contains(&essence(text).as_str())
    }

    /// Whether it is an index, OCI's or Docker's.
    #[must_use]
    pub fn is_index(text: &str) -> bool {
        [INDEX, DOCKER_INDEX].contains(&essence(text).as_str())
    }

    /// Whether it is a Sigstore bundle of some version.
    #[must_use]
    pub fn is_bundle(text: &str) -> bool {
        essence(text).starts_with(BUNDLES)
    }
}

/// Why an image, or what refers to it, could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a name.
    #[error("{found:?} names no image: expected {expected}")]
    Reference {
        /// As given.
        found: String,
        /// What is wrong with it.
        expected: &'static str,
    },
    /// A service that is away, throttles or fails, or cannot be spoken to.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// The registry answers that there is none.
    #[error("{what} does not exist in the registry")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// The registry demands credentials, and those there are do not do.
    #[error("{registry} refuses access to {repository}: {reason}")]
    Denied {
        /// Host, and port if there is one.
        registry: String,
        /// The repository.
        repository: String,
        /// What was tried.
        reason: String,
    },
    /// Docker's configuration, or a credential helper.
    #[error("no credentials for {registry}: {reason}")]
    Credentials {
        /// Host, and port if there is one.
        registry: String,
        /// What failed; holds no secret.
        reason: String,
    },
    /// Bytes that are not those asked for.
    #[error("{what} has other bytes than it is named by: expected digest {expected}")]
    Digest {
        /// What was asked for.
        what: String,
        /// The digest that it is named by.
        expected: Digest,
    },
    /// A descriptor that is wrong about its size.
    #[error("{what}: its descriptor says {expected} bytes, found {found}")]
    Size {
        /// What was asked for.
        what: String,
        /// As described.
        expected: u64,
        /// As found.
        found: u64,
    },
    /// Larger than is read.
    #[error("{what} has {found} bytes, above the limit of {limit}")]
    TooLarge {
        /// What was asked for.
        what: String,
        /// Bytes allowed.
        limit: usize,
        /// As described.
        found: u64,
    },
    /// Another type than it must be.
    #[error("{what}: expected type {expected}, found {found}")]
    MediaType {
        /// What was asked for.
        what: String,
        /// As demanded.
        expected: String,
        /// As found.
        found: String,
    },
    /// Not a manifest.
    #[error("{what} is no manifest: {reason}")]
    Manifest {
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A manifest that refers to something else.
    #[error("{what} refers to {found}, expected {expected}")]
    Subject {
        /// The manifest.
        what: String,
        /// What it was listed for.
        expected: Digest,
        /// What it says.
        found: String,
    },
    /// A list beyond what is read.
    #[error("{what}: more than {limit}, the most that are read")]
    TooMany {
        /// What is counted.
        what: String,
        /// The most that are read.
        limit: usize,
    },
    /// A redirect that is not followed.
    #[error("{url} redirects to {to}: {reason}")]
    Redirect {
        /// What was asked.
        url: String,
        /// Where it leads.
        to: String,
        /// Why not.
        reason: &'static str,
    },
    /// A reply that the protocol does not allow.
    #[error("{url} answered something else than {expected}")]
    Reply {
        /// What was asked.
        url: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A layout's file.
    #[error("cannot {action} {path}: {reason}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: String,
        /// What failed.
        reason: String,
    },
    /// Others wrote to the same tag all the time.
    #[error("{tag} was changed by others {rounds} times while something was added to it")]
    Contended {
        /// The tag.
        tag: String,
        /// How often.
        rounds: usize,
    },
}

impl Error {
    /// Whether what was read is wrong, as opposed to not having been read: then it is known that it does
    /// not hold.
    #[must_use]
    pub const fn is_finding(&self) -> bool {
        matches!(
            self,
            Self::Digest { .. }
                | Self::Size { .. }
                | Self::TooLarge { .. }
                | Self::MediaType { .. }
                | Self::Manifest { .. }
                | Self::Subject { .. }
        )
    }

    /// A stable name of it for machines.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Reference { .. } => "IMAGE_NAME",
            Self::Http(error) if error.retryable() => "REGISTRY_UNAVAILABLE",
            Self::Http(_) | Self::Reply { .. } => "REGISTRY_ERROR",
            Self::NotFound { .. } => "IMAGE_MISSING",
            Self::Denied { .. } | Self::Credentials { .. } => "REGISTRY_ACCESS",
            Self::Digest { .. } => "DIGEST_MISMATCH",
            Self::Size { .. } => "SIZE_MISMATCH",
            Self::TooLarge { .. } => "TOO_LARGE",
            Self::MediaType { .. } => "MEDIA_TYPE_MISMATCH",
            Self::Manifest { .. } => "MANIFEST_MALFORMED",
            Self::Subject { .. } => "SUBJECT_MISMATCH",
            Self::TooMany { .. } => "TOO_MANY",
            Self::Redirect { .. } => "REDIRECT_REFUSED",
            Self::File { .. } => "UNREADABLE",
            Self::Contended { .. } => "TAG_CONTENDED",
        }
    }
}
