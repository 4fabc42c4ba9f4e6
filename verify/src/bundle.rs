//! Sigstore bundles: four media types, one shape; and the older local bundle of cosign.
//!
//! Protobuf JSON, read strictly: unknown and repeated members, both members of a choice, base64 other
//! than standard with padding, numbers beyond 64 bits and files above [`MAX_BUNDLE`] are refused. A
//! missing number is 0, a missing list empty, `null` is missing, and a member may bear protobuf's own name
//! (`media_type`), as protobuf JSON has it. Nothing here is verified.

mod legacy;
mod wire;

pub use wire::{Error, JsonError};

use crate::dsse::Envelope;
use crate::key::HashAlgorithm;
use crate::limits::{MAX_BUNDLE, MAX_LOG_ENTRIES, MAX_TIMESTAMPS};
use crate::merkle::Hash;

/// What a bundle is written as.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// The generation of a bundle; it decides what must be in it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Version {
    /// Cosign's own, older than the format: one entry with a promise, no proof; or no entry.
    Cosign,
    /// 0.1: an inclusion promise is required.
    V01,
    /// 0.2: an inclusion proof with checkpoint is required.
    V02,
    /// 0.3: and the certificate stands alone, without a chain.
    V03,
}

impl Version {
    const fn media_type(self) -> &'static str {
        match self {
            Self::Cosign | Self::V01 => "application/vnd.dev.sigstore.bundle+json;version=0.1",
            Self::V02 => "application/vnd.dev.sigstore.bundle+json;version=0.2",
            Self::V03 => MEDIA_TYPE,
        }
    }

    fn from_media_type(text: &str) -> Option<Self> {
        Some(match text {
            "application/vnd.dev.sigstore.bundle+json;version=0.1" => Self::V01,
            "application/vnd.dev.sigstore.bundle+json;version=0.2" => Self::V02,
            "application/vnd.dev.sigstore.bundle+json;version=0.3" | MEDIA_TYPE => Self::V03,
            _ => return None,
        })
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cosign => "cosign's own",
            Self::V01 => "0.1",
            Self::V02 => "0.2",
            Self::V03 => "0.3",
        })
    }
}

/// A bundle whose shape is checked, and nothing else.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bundle {
    version: Version,
    material: Material,
    entries: Vec<LogEntry>,
    timestamps: Vec<Vec<u8>>,
    content: Content,
}

/// Whose signature it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Material {
    /// A signing certificate, DER.
    Certificate(Vec<u8>),
    /// A signing certificate, DER, and certificates above it; generations 0.1 and 0.2 only.
    Chain(Vec<Vec<u8>>),
    /// A key that the verifier must know; the bundle only hints at it.
    PublicKey {
        /// Free text that helps to find the key.
        hint: String,
    },
}

/// What is signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// The artifact itself.
    Message(MessageSignature),
    /// A statement about the artifact.
    Dsse(Envelope),
}

impl Content {
    /// The signature, whatever it covers.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        match self {
            Self::Message(message) => &message.signature,
            Self::Dsse(envelope) => &envelope.signature,
        }
    }
}

/// A signature over an artifact.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MessageSignature {
    /// The hash of `digest`.
    pub hash: HashAlgorithm,
    /// The artifact's digest as the bundle claims it: a hint, compared and never trusted. Empty in cosign's own
    /// bundles of signatures that were not logged, which claim none.
    pub digest: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

/// A log's answer about one entry: a member of the bundle, and the reply of a Rekor v2 log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogEntry {
    /// Place in the log; for sharded v1 logs counted over all shards.
    pub log_index: u64,
    /// Which log.
    pub log_id: [u8; 32],
    /// `hashedrekord`, `dsse` or `intoto`.
    pub kind: String,
    /// Version of the kind.
    pub version: String,
    /// Seconds since the epoch; 0 for Rekor v2. To be trusted only through `promise`.
    pub integrated_time: i64,
    /// Signed entry timestamp (Rekor v1).
    pub promise: Option<Vec<u8>>,
    /// Inclusion proof.
    pub proof: Option<Proof>,
    /// The canonical body.
    pub body: Vec<u8>,
}

/// An inclusion proof as it stands on the wire, with the checkpoint it leads to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proof {
    /// Place in the tree of the checkpoint.
    pub log_index: u64,
    /// Leaves in that tree, as the bundle says; the checkpoint decides. 0 when absent.
    pub tree_size: u64,
    /// Root of that tree, as the bundle says; the checkpoint decides.
    pub root: Option<Hash>,
    /// The siblings, leaf side first.
    pub hashes: Vec<Hash>,
    /// The signed note; empty in old 0.1 bundles.
    pub checkpoint: String,
}

impl Bundle {
    /// Reads a bundle.
    ///
    /// # Errors
    /// When it departs from the shape of its generation; names the member.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        if json.len() > MAX_BUNDLE {
            return Err(Error::TooLong { limit: MAX_BUNDLE, found: json.len() });
        }
        let bundle = match wire::read_bundle(json) {
            Err(Error::Json(_)) if legacy::is_legacy(json) => legacy::read(json)?,
            read => read?,
        };
        bundle.check_generation()?;
        Ok(bundle)
    }

    /// The same out of bytes that nobody needs any more: a large attestation is then in memory once.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_owned(json: Vec<u8>) -> Result<Self, Error> {
        if json.len() > MAX_BUNDLE {
            return Err(Error::TooLong { limit: MAX_BUNDLE, found: json.len() });
        }
        if legacy::is_legacy(&json) {
            return Self::parse(&json);
        }
        let bundle = wire::read_owned(json)?;
        bundle.check_generation()?;
        Ok(bundle)
    }

    /// A bundle of generation 0.3 out of its parts.
    ///
    /// # Errors
    /// When the parts break a rule of that generation, such as an entry without proof.
    pub fn new(
        material: Material,
        entries: Vec<LogEntry>,
        timestamps: Vec<Vec<u8>>,
        content: Content,
    ) -> Result<Self, Error> {
        let bundle = Self { version: Version::V03, material, entries, timestamps, content };
        bundle.check_generation()?;
        Ok(bundle)
    }

    /// The bundle as JSON on one line, without a line feed, in its own generation; cosign's own bundles
    /// as 0.1, which proves as much. One of these that claims no digest has an empty one then, and nobody reads that.
    #[must_use]
    pub fn to_json(&self) -> String {
        wire::write_bundle(self)
    }

    /// The JSON before an attestation's payload and after it; the payload is base64 between the two. Of a
    /// message all of it comes first. For writing what is large piece by piece.
    #[must_use]
    pub fn json_around_payload(&self) -> (String, String) {
        wire::write_around(self)
    }

    /// The generation it was read as.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Whose signature it claims to be.
    #[must_use]
    pub const fn material(&self) -> &Material {
        &self.material
    }

    /// The signing certificate, DER, unverified; `None` for a managed key.
    #[must_use]
    pub fn certificate(&self) -> Option<&[u8]> {
        match &self.material {
            Material::Certificate(der) => Some(der),
            Material::Chain(chain) => chain.first().map(Vec::as_slice),
            Material::PublicKey { .. } => None,
        }
    }

    /// The log entries.
    #[must_use]
    pub fn entries(&self) -> &[LogEntry] {
        &self.entries
    }

    /// RFC 3161 responses, DER.
    #[must_use]
    pub fn timestamps(&self) -> &[Vec<u8>] {
        &self.timestamps
    }

    /// What is signed.
    #[must_use]
    pub const fn content(&self) -> &Content {
        &self.content
    }

    fn check_generation(&self) -> Result<(), Error> {
        match (&self.material, self.version) {
            (Material::Chain(_), Version::V03) => return Err(Error::ChainInV03),
            (Material::Certificate(_), Version::Cosign | Version::V01 | Version::V02) => {
                return Err(Error::CertificateBeforeV03 { version: self.version });
            }
            _ => {}
        }
        let count = |member, limit, found| Err(Error::TooMany { member, limit, found });
        if self.entries.len() > MAX_LOG_ENTRIES {
            return count("tlogEntries", MAX_LOG_ENTRIES, self.entries.len());
        }
        if self.timestamps.len() > MAX_TIMESTAMPS {
            return count("rfc3161Timestamps", MAX_TIMESTAMPS, self.timestamps.len());
        }
        for (entry, LogEntry { promise, proof, .. }) in self.entries.iter().enumerate() {
            if self.version <= Version::V01 && promise.is_none() {
                return Err(Error::NoPromise { entry });
            }
            let proven = proof.as_ref().is_some_and(|proof| !proof.checkpoint.is_empty());
            if self.version > Version::V01 && !proven {
                return Err(Error::NoProof { entry });
            }
        }
        Ok(())
    }
}

impl LogEntry {
    /// Reads a Rekor v2 log's reply, or one element of a bundle's `tlogEntries`.
    ///
    /// # Errors
    /// Names the member that is not as it must be.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        wire::read_entry(json)
    }

    /// The same as JSON on one line; defaults are written, 64-bit numbers are strings.
    #[must_use]
    pub fn to_json(&self) -> String {
        wire::write_entry(self)
    }
}
