//! The tags of cosign 1 and 2: `sha256-HEX.sig`, `.att`, `.sbom`, in the image's repository.
//!
//! Under a tag is an image with a layer for each signature, whose annotations hold certificate and log
//! entry. A layer is read as cosign's own local bundle, which `countersign-verify` reads. Its RFC 3161
//! timestamp is left out: the log's promise tells the time.

use super::attach::Where;
use super::manifest::Descriptor;
use super::reference::Digest;
use super::registry::Repository;
use super::shared_tag::{self, Shared};
use super::{Error, media_type};
use countersign_verify::Bundle;
use countersign_verify::bundle::Content;
use countersign_verify::encoding::{base64, hex};
use countersign_verify::entry::Verifier;
use countersign_verify::limits::{MAX_BUNDLE, MAX_SIMPLE_SIGNING};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub use countersign_verify::simple_signing::Payload;

/// Annotation: the signature, base64; empty for attestations, which have it in their envelope.
pub(super) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// Annotation: the signing certificate, PEM.
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
/// Annotation: what Rekor v1 answered, JSON.
const ENTRY: &str = "dev.sigstore.cosign/bundle";
/// Annotation: the attestation's predicate type.
const PREDICATE_TYPE: &str = "predicateType";
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";

/// What is under a tag, by its ending.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Suffix {
    /// Signatures.
    Signatures,
    /// Attestations.
    Attestations,
    /// Bills of material, not signed.
    Sbom,
}

impl Suffix {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Signatures, Self::Attestations, Self::Sbom];

    /// The tag of an image.
    #[must_use]
    pub fn tag(self, subject: &Digest) -> String {
        let suffix = match self {
            Self::Signatures => "sig",
            Self::Attestations => "att",
            Self::Sbom => "sbom",
        };
        format!("{}.{suffix}", subject.tag())
    }
}

/// A legacy signature or attestation.
#[derive(Clone, Debug)]
pub struct Layer {
    /// As cosign's own local bundle, JSON.
    pub bundle: Vec<u8>,
    /// The signed payload of a signature; the envelope of an attestation.
    pub content: Vec<u8>,
    /// The layer.
    pub descriptor: Descriptor,
}

impl Descriptor {
    /// What the layer of a legacy attestation is listed as attesting; a claim.
    #[must_use]
    pub fn legacy_predicate_type(&self) -> Option<&str> {
        self.annotation(PREDICATE_TYPE)
    }

    /// Whether the layer is a legacy signature, and not an attestation.
    #[must_use]
    pub fn is_legacy_signature(&self) -> bool {
        media_type::essence(&self.media_type) == SIMPLE_SIGNING
    }
}

impl Where {
    /// The layers of a legacy tag that hold signatures or attestations; empty if there is no such tag.
    ///
    /// # Errors
    /// When something under the tag cannot be read.
    pub async fn legacy_layers(
        &self,
        subject: &Digest,
        suffix: Suffix,
    ) -> Result<Vec<Descriptor>, Error> {
        let expected = match suffix {
            Suffix::Signatures => SIMPLE_SIGNING,
            Suffix::Attestations => ENVELOPE,
            Suffix::Sbom => return Ok(Vec::new()),
        };
        let Some(stored) = self.tagged(&suffix.tag(subject)).await? else { return Ok(Vec::new()) };
        let layers = stored.manifest.layers.unwrap_or_default().into_iter();
        Ok(layers.filter(|layer| media_type::essence(&layer.media_type) == expected).collect())
    }

    /// The signature or attestation in a layer of a legacy tag.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn legacy(&self, descriptor: &Descriptor) -> Result<Layer, Error> {
        let envelope = media_type::essence(&descriptor.media_type) == ENVELOPE;
        let limit = if envelope { MAX_BUNDLE } else { MAX_SIMPLE_SIGNING };
        let content = self.blob(descriptor, limit).await?;
        let signature = match envelope {
            true => base64(&content),
            false => descriptor.annotation(SIGNATURE).unwrap_or_default().to_owned(),
        };
        let mut local = json!({ "base64Signature": signature });
        if let Some(pem) = descriptor.annotation(CERTIFICATE) {
            local["cert"] = base64(pem.as_bytes()).into();
        }
        let entry = descriptor.annotation(ENTRY).and_then(|text| serde_json::from_str(text).ok());
        local["rekorBundle"] = entry.unwrap_or(Value::Null);
        let bundle = local.to_string().into_bytes();
        Ok(Layer { bundle, content, descriptor: descriptor.clone() })
    }
}

/// Stores a bundle under the legacy tag of `subject`. A signature over an image is one over `payload`; an
/// attestation has its own. The bundle needs an entry of a Rekor v1 log, whose promise old verifiers ask for.
///
/// # Errors
/// When it has none, or the registry does not take it.
pub async fn attach_legacy(
    to: &Repository,
    subject: &Digest,
    bundle: &Bundle,
    payload: &[u8],
) -> Result<(), Error> {
    let missing = |reason: &str| Error::Manifest {
        what: "what is to be stored under a legacy tag".to_owned(),
        reason: reason.to_owned(),
    };
    let certificate = bundle.certificate().ok_or_else(|| missing("expected a certificate"))?;
    let entry = bundle.entries().iter().find_map(|entry| Some((entry, entry.promise.as_ref()?)));
    let (entry, promise) = entry.ok_or_else(|| {
        missing("expected an entry of a Rekor v1 log, whose promise old verifiers ask for; the signing config offers none")
    })?;
    let entry = json!({ "SignedEntryTimestamp": base64(promise), "Payload": {
        "body": base64(&entry.body), "integratedTime": entry.integrated_time,
        "logIndex": entry.log_index, "logID": hex(&entry.log_id) } });
    let mut annotations = BTreeMap::from([
        (CERTIFICATE.to_owned(), Verifier::Certificate(certificate).to_pem()),
        (ENTRY.to_owned(), entry.to_string()),
    ]);
    let (suffix, kind, bytes) = match bundle.content() {
        Content::Message(message) => {
            annotations.insert(SIGNATURE.to_owned(), base64(&message.signature));
            (Suffix::Signatures, SIMPLE_SIGNING, payload.to_vec())
        }
        Content::Dsse(envelope) => {
            annotations.insert(SIGNATURE.to_owned(), String::new());
            let statement = countersign_verify::statement::Statement::parse(&envelope.payload);
            if let Ok(statement) = statement {
                annotations
                    .insert(PREDICATE_TYPE.to_owned(), statement.predicate_type().to_owned());
            }
            let signature = json!({ "keyid": "", "sig": base64(&envelope.signature) });
            let json = json!({ "payloadType": envelope.payload_type,
                "payload": base64(&envelope.payload), "signatures": [signature] });
            (Suffix::Attestations, ENVELOPE, json.to_string().into_bytes())
        }
    };
    let mut layer = Descriptor::of(kind, &bytes);
    to.put_blob(&layer, &|| bytes.clone().into()).await?;
    layer.annotations = Some(annotations);
    shared_tag::add(to, &suffix.tag(subject), Shared::Layers, layer).await
}
