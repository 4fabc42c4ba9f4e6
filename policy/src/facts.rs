//! What a decision is made from: facts that were verified before, and the time. Recorded as JSON they
//! replay the decision.

use crate::claims::{Claims, claims};
use crate::document::Policy;
use crate::pattern::{image_name, is_host};
use crate::rule::Action;
use countersign_verify::assertion::{Assertion, Intended, Intent};
use countersign_verify::certificate::{Certificate, Identity, Subject};
use countersign_verify::encoding::hex;
use countersign_verify::key::HashAlgorithm;
use countersign_verify::{Signer, Verified};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Largest statement that is kept for conditions, in bytes: as JSON values it takes ten times as much. GitHub's
/// attestations end there; what is larger is a bill of material, whose kind and signer still count.
pub const MAX_STATEMENT: usize = 16 << 20;

/// Where the question is asked.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Point {
    /// At the CA: may this identity have a certificate?
    Issuance,
    /// At the log: may this entry be made?
    Log,
    /// Before use: does this artifact show what it must?
    #[default]
    Use,
}

/// All that a decision depends on, but for the policy.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Facts {
    /// Where it is asked.
    #[serde(default)]
    pub at: Point,
    /// The time of the decision.
    pub now: Timestamp,
    /// What it is about; at the CA and the log perhaps not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
    /// Where the artifact is to be used.
    #[serde(default, skip_serializing_if = "Context::is_nowhere")]
    pub context: Context,
    /// Signatures and attestations, each verified. At the CA and the log the one that is asked for.
    #[serde(default)]
    pub evidence: Vec<Evidence>,
    /// Why there may be more evidence than is here: `network`, `limit`. What is missing is then undecided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
}

/// An artifact's kind.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A container image.
    Image,
    /// A file.
    #[default]
    Blob,
    /// A package: `npm/@acme/pay`.
    Package,
    /// A Git repository.
    Git,
    /// A model.
    Model,
}

impl Kind {
    /// As facts and intents have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Blob => "blob",
            Self::Package => "package",
            Self::Git => "git",
            Self::Model => "model",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Image, Self::Blob, Self::Package, Self::Git, Self::Model];
        all.into_iter().find(|kind| kind.name() == name)
    }
}

/// An artifact.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Artifact {
    /// Its kind.
    #[serde(default)]
    pub kind: Kind,
    /// Its name: of an image host and repository, as [`image_name`](crate::pattern::image_name) writes
    /// them. Empty if only the digest is known.
    #[serde(default)]
    pub name: String,
    /// An image's tag or a package's version, as whoever asks gives it: not proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `sha256:` and hexadecimal digits; of another hash if only that is known, empty if none is.
    #[serde(default)]
    pub digest: String,
    /// The media type, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The image was named by its digest, so that nobody can exchange it after the decision.
    #[serde(default)]
    pub pinned: bool,
    /// Of an image for several platforms: the digests of the image for each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
}

impl Artifact {
    /// Whether its digest can be compared with a policy's, which are all `sha256:`.
    pub(crate) fn has_known_digest(&self) -> bool {
        self.digest.strip_prefix("sha256:").is_some_and(|digits| !digits.is_empty())
    }

    /// What a name that somebody writes most likely is: an image if it has a host, else a package of a known
    /// ecosystem, else a file.
    #[must_use]
    pub fn named(text: &str) -> Self {
        let host = text.split_once('/').is_some_and(|(host, _)| is_host(host));
        if let Some(image) = image_name(text).ok().filter(|_| host) {
            return Self {
                kind: Kind::Image,
                name: image.repository,
                version: image.tag,
                digest: image.digest.unwrap_or_default(),
                ..Self::default()
            };
        }
        let ecosystems = ["npm/", "cargo/", "maven/", "pypi/", "go/", "gem/", "nuget/", "oci/"];
        if !ecosystems.iter().any(|ecosystem| text.starts_with(ecosystem)) {
            return Self { name: text.to_owned(), ..Self::default() };
        }
        let (name, version) = package_name(text);
        Self { kind: Kind::Package, name, version, ..Self::default() }
    }

    /// What somebody is about to sign.
    #[must_use]
    pub fn intended(Intended { digest, kind, name }: &Intended) -> Self {
        let kind = Kind::named(kind).unwrap_or_default();
        let (name, version) = match kind {
            Kind::Image => match image_name(name) {
                Ok(image) => (image.repository, image.tag),
                Err(_) => (name.clone(), None),
            },
            Kind::Package => package_name(name),
            _ => (name.clone(), None),
        };
        Self { kind, name, version, digest: digest.clone(), ..Self::default() }
    }
}

/// Name and version of `npm/@acme/pay@1.2.0`: an @ at the beginning of a segment belongs to the name.
#[must_use]
pub fn package_name(text: &str) -> (String, Option<String>) {
    match text.rsplit_once('@').filter(|(before, _)| !before.ends_with('/')) {
        Some((name, version)) => (name.to_owned(), Some(version.to_owned())),
        None => (text.to_owned(), None),
    }
}

/// Where an artifact is to be used.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Context {
    /// A context of the policy, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The namespace's labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Context {
    /// Nothing is known of the place.
    #[must_use]
    pub fn is_nowhere(&self) -> bool {
        *self == Self::default()
    }
}

/// A signature or attestation that was verified: cryptography, chain, log and times hold.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Evidence {
    /// Where it was found, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Who signed.
    pub signer: SignerFacts,
    /// What was signed.
    pub content: Content,
    /// The digest that it is about, `sha256:…`; empty if it is not known.
    #[serde(default)]
    pub digest: String,
    /// The name that the signer gave the artifact: an image reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_name: Option<String>,
    /// The earliest time at which it is proven to have existed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<Timestamp>,
    /// A timestamp authority's word is among the evidence.
    #[serde(default)]
    pub timestamped: bool,
    /// It is proven to be in a log.
    #[serde(default)]
    pub logged: bool,
    /// When the log took it, if the log says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logged_at: Option<Timestamp>,
    /// Witnesses that have cosigned the log's tree.
    #[serde(default)]
    pub witnesses: u64,
    /// All of it came in the bundle: nothing was asked of a log.
    #[serde(default)]
    pub bundled: bool,
}

/// Who signed.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignerFacts {
    /// The trust root that it was verified by, by its name in the policy; `None` is our own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<String>,
    /// The OIDC issuer; empty for a managed key.
    #[serde(default)]
    pub issuer: String,
    /// What the certificate says.
    #[serde(default)]
    pub claims: Claims,
    /// A managed key: `sha256:` and the digest of its SubjectPublicKeyInfo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What our CA's policy found at signing time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asserted: Option<Assertion>,
}

/// What was signed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Content {
    /// At the CA: not said.
    Unknown,
    /// The artifact itself.
    Signature,
    /// A statement about it.
    #[serde(rename_all = "camelCase")]
    Attestation {
        /// Its predicate type, a URI.
        predicate_type: String,
        /// The statement, if it is known; conditions about one that is not are undecided.
        #[serde(default, skip_serializing_if = "Statement::is_unknown")]
        statement: Statement,
    },
}

/// A statement as JSON. Clones share it: it may be large, and a decision has evidence of its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statement(Arc<Value>);

impl Statement {
    /// A statement that was verified.
    #[must_use]
    pub fn new(json: Value) -> Self {
        Self(Arc::new(json))
    }

    /// What it says; null if that is not known.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.0
    }

    pub(crate) fn is_unknown(&self) -> bool {
        self.0.is_null()
    }

    /// How much memory it takes, in bytes, about.
    #[must_use]
    pub fn size(&self) -> usize {
        // An entry of a map has its name beside it, and room for others.
        const ENTRY: usize = 2 * size_of::<String>();
        fn of(value: &Value) -> usize {
            size_of::<Value>()
                + match value {
                    Value::String(text) => text.len(),
                    Value::Array(values) => values.iter().map(of).sum(),
                    Value::Object(members) => {
                        members.iter().map(|(name, value)| ENTRY + name.len() + of(value)).sum()
                    }
                    Value::Null | Value::Bool(_) | Value::Number(_) => 0,
                }
        }
        of(&self.0)
    }
}

impl Serialize for Statement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Statement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::new)
    }
}

impl Evidence {
    /// What is asked for at the CA or the log at the time `now`: nothing is signed yet.
    #[must_use]
    pub fn asked(signer: SignerFacts, content: Content, now: Timestamp) -> Self {
        Self {
            source: String::new(),
            signer,
            content,
            digest: String::new(),
            signed_name: None,
            signed: Some(now),
            timestamped: false,
            logged: false,
            logged_at: None,
            witnesses: 0,
            bundled: false,
        }
    }

    /// What the signer told our CA to get the certificate, where this is something else: what was told, and
    /// what this is.
    pub(crate) fn strays(&self) -> Option<(String, String)> {
        let asserted = self.signer.asserted.as_ref().filter(|_| self.signer.trust.is_none());
        let intent = asserted?.intent.as_ref()?;
        let told = Content::of(intent);
        let same = match (&told, &self.content) {
            (_, Content::Unknown) => true,
            (Content::Signature, found) => Action::Sign.covers(found) == Some(true),
            (
                Content::Attestation { predicate_type: told, .. },
                Content::Attestation { predicate_type: found, .. },
            ) => told == found,
            _ => false,
        };
        if !same {
            return Some((told.shown(), self.content.shown()));
        }
        let digest = intent.artifact.as_ref().map_or("", |artifact| artifact.digest.as_str());
        let other = !digest.is_empty() && !self.digest.is_empty() && digest != self.digest;
        other.then(|| (digest.to_owned(), self.digest.clone()))
    }

    /// The name of the artifact that the signer told our CA, as policies know it; `None` if none was told.
    pub(crate) fn told_name(&self) -> Option<String> {
        let asserted = self.signer.asserted.as_ref().filter(|_| self.signer.trust.is_none());
        let told = asserted?.intent.as_ref()?.artifact.as_ref()?;
        Some(Artifact::intended(told).name).filter(|name| !name.is_empty())
    }
}

impl Content {
    /// What somebody is about to sign. An action that is not known is an attestation of that type, which
    /// nothing fits.
    #[must_use]
    pub fn of(intent: &Intent) -> Self {
        match intent.action.as_str() {
            "sign" => Self::Signature,
            other => Self::Attestation {
                predicate_type: intent.predicate_type.as_deref().unwrap_or(other).to_owned(),
                statement: Statement::default(),
            },
        }
    }

    /// For people.
    fn shown(&self) -> String {
        match self {
            Self::Unknown => "something".to_owned(),
            Self::Signature => "a signature".to_owned(),
            Self::Attestation { predicate_type, .. } => {
                format!("an attestation of type {predicate_type:?}")
            }
        }
    }
}

impl SignerFacts {
    /// Of a certificate with this subject, issuer and Fulcio extensions.
    #[must_use]
    pub fn certified(subject: &Subject, issuer: &str, extensions: &BTreeMap<u8, String>) -> Self {
        let (issuer, claims) = (issuer.to_owned(), claims(subject, extensions));
        Self { issuer, claims, ..Self::default() }
    }

    /// Of a certificate by the trust root of this name in the policy; `None` is our own, whose word about its
    /// policy counts. A word of it that cannot be read stands for an intent that nothing fits.
    #[must_use]
    pub fn of(certificate: &Certificate, identity: &Identity, trust: Option<&str>) -> Self {
        let issuer = identity.issuer().unwrap_or_default();
        let mut signer = Self::certified(identity.subject(), issuer, identity.claims());
        signer.trust = trust.map(str::to_owned);
        if trust.is_none() {
            let unreadable = |_| {
                let intent = Some(Intent::default());
                Some(Assertion { intent, ..Assertion::default() })
            };
            signer.asserted = certificate.assertion().unwrap_or_else(unreadable);
        }
        signer
    }

    /// For people: the subject, or the key.
    #[must_use]
    pub fn shown(&self) -> String {
        self.name().unwrap_or_else(|| "nobody".to_owned())
    }

    /// The subject, or the key.
    pub(crate) fn name(&self) -> Option<String> {
        let subject = self.claims.get("subject").map(crate::claims::Claim::shown);
        subject.or_else(|| self.key.clone())
    }
}

/// The facts of one bundle that was verified, by the trust root of this name in the policy; `None` is our
/// own. A statement is kept only where `policy` may look at it: whoever may push to a registry could fill the
/// memory otherwise.
#[must_use]
pub fn facts_from(
    verified: &Verified,
    trust: Option<&str>,
    source: &str,
    policy: &Policy,
) -> Evidence {
    let signer = match verified.signer() {
        Signer::Certificate { certificate, identity } => {
            SignerFacts::of(certificate, identity, trust)
        }
        Signer::Key(key) => {
            let digest = HashAlgorithm::Sha256.digest(key.spki());
            let (key, trust) = (Some(format!("sha256:{}", hex(&digest))), trust.map(str::to_owned));
            SignerFacts { key, trust, ..SignerFacts::default() }
        }
    };
    let content = verified.statement().map_or(Content::Signature, |statement| {
        let payload = verified.payload().filter(|payload| payload.len() <= MAX_STATEMENT);
        let payload = payload.filter(|_| policy.reads_statements_of(&signer));
        let json = payload.and_then(|payload| serde_json::from_slice(payload).ok());
        let predicate_type = statement.predicate_type().to_owned();
        Content::Attestation { predicate_type, statement: Statement::new(json.unwrap_or_default()) }
    });
    let (hash, digest) = verified.artifact();
    let subject = verified.statement().and_then(|statement| statement.subject(hash, digest));
    let signed_name = subject.map(|subject| subject.name.clone()).filter(|name| !name.is_empty());
    let from_log = |authority: &str| verified.entries().iter().any(|entry| entry.log == authority);
    let times = verified.times();
    Evidence {
        source: source.to_owned(),
        signer,
        content,
        digest: format!("{}:{}", hash.short_name(), hex(digest)),
        signed_name,
        signed: times.iter().map(|trusted| trusted.time).min(),
        timestamped: times.iter().any(|trusted| !from_log(&trusted.authority)),
        logged: !verified.entries().is_empty(),
        logged_at: times.iter().find(|time| from_log(&time.authority)).map(|time| time.time),
        witnesses: verified.witnesses() as u64,
        bundled: true,
    }
}
