//! The JSON of bundles, member by member, as `sigstore_bundle.proto` and `sigstore_rekor.proto` have it.

use super::{Bundle, Content, LogEntry, Material, MessageSignature, Proof, Version};
use crate::bounded::Bounded;
use crate::dsse::Envelope;
use crate::encoding::{Spelling, base64, from_base64, read_base64};
use crate::json;
use crate::key::HashAlgorithm;
use crate::limits::{
    MAX_CERTIFICATE, MAX_CHAIN, MAX_CHECKPOINT, MAX_ENTRY, MAX_LOG_ENTRIES, MAX_PAYLOAD, MAX_PROOF,
    MAX_TIMESTAMP, MAX_TIMESTAMPS,
};
use crate::merkle::Hash;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::ser::Formatter;
use std::borrow::Cow;
use std::io;
use std::ops::Range;

const PAYLOAD: &str = "dsseEnvelope.payload";

/// Protobuf `bytes`: standard base64, padded.
#[derive(Clone, Debug)]
struct Bytes<'a>(Cow<'a, [u8]>);

impl<'de> Deserialize<'de> for Bytes<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_base64(deserializer).map(|bytes| Self(bytes.into()))
    }
}

impl<'a, T: AsRef<[u8]> + ?Sized> From<&'a T> for Bytes<'a> {
    fn from(bytes: &'a T) -> Self {
        Self(bytes.as_ref().into())
    }
}

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0) // see `Protobuf`
    }
}

/// Compact JSON with bytes as protobuf has them. Base64 needs no escapes, and a log writes much of it.
struct Protobuf;

impl Formatter for Protobuf {
    fn write_byte_array<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        bytes: &[u8],
    ) -> io::Result<()> {
        writer.write_all(b"\"")?;
        writer.write_all(base64(bytes).as_bytes())?;
        writer.write_all(b"\"")
    }
}

fn write(value: &impl Serialize, room: usize) -> String {
    let mut json = Vec::with_capacity(room);
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut json, Protobuf));
    written.expect("strings and numbers only");
    String::from_utf8(json).expect("JSON is UTF-8")
}

/// Protobuf `int64`, never negative here: written as a string, read as string or number.
#[derive(Clone, Copy, Debug, Default)]
struct Int64(i64);

impl<'de> Deserialize<'de> for Int64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = || de::Error::custom("expected a whole number from 0 to 2^63-1, in decimal");
        let number = match Spelling::deserialize(deserializer).map_err(|_| expected())? {
            Spelling::Number(number) => number,
            Spelling::Text(text) => {
                let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                text.parse().ok().filter(|_| digits).ok_or_else(expected)?
            }
        };
        if number < 0 { Err(expected()) } else { Ok(Self(number)) }
    }
}

impl Serialize for Int64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Protobuf enumeration of hash algorithms: by name, or by number.
#[derive(Clone, Copy, Debug)]
struct HashName(HashAlgorithm);

impl<'de> Deserialize<'de> for HashName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = || de::Error::custom("expected SHA2_256, SHA2_384 or SHA2_512");
        let found = match Spelling::deserialize(deserializer).map_err(|_| expected())? {
            Spelling::Number(number) => HashAlgorithm::from_number(number),
            Spelling::Text(name) => HashAlgorithm::from_name(&name),
        };
        found.map(Self).ok_or_else(expected)
    }
}

impl Serialize for HashName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a Sigstore bundle")]
struct WireBundle<'a> {
    #[serde(alias = "media_type")]
    media_type: String,
    #[serde(alias = "verification_material")]
    verification_material: WireMaterial<'a>,
    #[serde(skip_serializing_if = "Option::is_none", alias = "message_signature")]
    message_signature: Option<WireMessage<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", alias = "dsse_envelope")]
    dsse_envelope: Option<WireEnvelope<'a>>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
struct WireMaterial<'a> {
    #[serde(skip_serializing_if = "Option::is_none", alias = "public_key")]
    public_key: Option<WireKeyHint>,
    #[serde(skip_serializing_if = "Option::is_none", alias = "x509_certificate_chain")]
    x509_certificate_chain: Option<WireChain<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<WireRaw<'a>>,
    #[serde(skip_serializing_if = "Option::is_none", alias = "tlog_entries")]
    tlog_entries: Option<Bounded<WireEntry<'a>, MAX_LOG_ENTRIES>>,
    #[serde(skip_serializing_if = "Option::is_none", alias = "timestamp_verification_data")]
    timestamp_verification_data: Option<WireTimestamps<'a>>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
struct WireKeyHint {
    hint: Option<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
struct WireChain<'a> {
    certificates: Option<Bounded<WireRaw<'a>, MAX_CHAIN>>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
struct WireRaw<'a> {
    #[serde(alias = "raw_bytes")]
    raw_bytes: Bytes<'a>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
struct WireTimestamps<'a> {
    #[serde(alias = "rfc3161_timestamps")]
    rfc3161_timestamps: Option<Bounded<WireTimestamp<'a>, MAX_TIMESTAMPS>>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
struct WireTimestamp<'a> {
    #[serde(alias = "signed_timestamp")]
    signed_timestamp: Bytes<'a>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
struct WireMessage<'a> {
    #[serde(alias = "message_digest")]
    message_digest: WireDigest<'a>,
    signature: Bytes<'a>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
struct WireDigest<'a> {
    algorithm: HashName,
    digest: Bytes<'a>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
struct WireEnvelope<'a> {
    /// Base64. It may be large, so it is decoded where there is room.
    #[serde(borrow)]
    payload: Cow<'a, str>,
    #[serde(alias = "payload_type")]
    payload_type: String,
    signatures: Bounded<WireSignature<'a>, 1>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
struct WireSignature<'a> {
    sig: Bytes<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keyid: Option<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
struct WireEntry<'a> {
    #[serde(alias = "log_index")]
    log_index: Option<Int64>,
    #[serde(alias = "log_id")]
    log_id: WireLogId<'a>,
    #[serde(alias = "kind_version")]
    kind_version: WireKind<'a>,
    #[serde(alias = "integrated_time")]
    integrated_time: Option<Int64>,
    #[serde(skip_serializing_if = "Option::is_none", alias = "inclusion_promise")]
    inclusion_promise: Option<WirePromise<'a>>,
    #[serde(skip_serializing_if = "Option::is_none", alias = "inclusion_proof")]
    inclusion_proof: Option<WireProof<'a>>,
    #[serde(alias = "canonicalized_body")]
    canonicalized_body: Bytes<'a>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
struct WireLogId<'a> {
    #[serde(alias = "key_id")]
    key_id: Bytes<'a>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
struct WireKind<'a> {
    kind: Cow<'a, str>,
    version: Cow<'a, str>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
struct WirePromise<'a> {
    #[serde(alias = "signed_entry_timestamp")]
    signed_entry_timestamp: Bytes<'a>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
struct WireProof<'a> {
    #[serde(alias = "log_index")]
    log_index: Option<Int64>,
    #[serde(skip_serializing_if = "Option::is_none", alias = "root_hash")]
    root_hash: Option<Bytes<'a>>,
    #[serde(alias = "tree_size")]
    tree_size: Option<Int64>,
    hashes: Option<Bounded<Bytes<'a>, MAX_PROOF>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint: Option<WireCheckpoint<'a>>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
struct WireCheckpoint<'a> {
    envelope: Cow<'a, str>,
}

pub(super) fn read_bundle(json: &[u8]) -> Result<Bundle, Error> {
    let (mut bundle, payload) = read(json)?;
    if let (Content::Dsse(envelope), Some(text)) = (&mut bundle.content, payload) {
        envelope.payload = decode_payload(&text)?.into();
    }
    Ok(bundle)
}

/// The same out of bytes that nobody needs any more: the payload takes their place.
pub(super) fn read_owned(json: Vec<u8>) -> Result<Bundle, Error> {
    let (mut bundle, payload) = read(&json)?;
    let Content::Dsse(envelope) = &mut bundle.content else { return Ok(bundle) };
    match payload {
        Some(Cow::Borrowed(text)) => {
            let start = text.as_ptr().addr() - json.as_ptr().addr();
            let range = start..start + text.len();
            check_payload(text.len() / 4 * 3)?;
            envelope.payload = decode_in_place(json, range)?.into();
        }
        Some(Cow::Owned(text)) => envelope.payload = decode_payload(&text)?.into(),
        None => {}
    }
    Ok(bundle)
}

fn decode_payload(text: &str) -> Result<Vec<u8>, Error> {
    check_payload(text.len() / 4 * 3)?;
    from_base64(text).map_err(|_| Error::Base64 { member: PAYLOAD })
}

/// `found` may be two more than there are: padding.
fn check_payload(found: usize) -> Result<(), Error> {
    match found {
        0 => Err(Error::Empty { member: PAYLOAD }),
        found if found > MAX_PAYLOAD + 2 => {
            Err(Error::MemberTooLong { member: PAYLOAD, limit: MAX_PAYLOAD, found })
        }
        _ => Ok(()),
    }
}

/// Decodes the base64 in `range`, and keeps only that.
fn decode_in_place(mut bytes: Vec<u8>, range: Range<usize>) -> Result<Vec<u8>, Error> {
    const PIECE: usize = 16 << 10;
    let malformed = || Error::Base64 { member: PAYLOAD };
    let (mut read, mut write) = (range.start, range.start);
    while read < range.end {
        let end = range.end.min(read + PIECE);
        let text = std::str::from_utf8(&bytes[read..end]).map_err(|_| malformed())?;
        let piece = from_base64(text).map_err(|_| malformed())?;
        // Padding ends the whole text and nothing before.
        if end < range.end && piece.len() != PIECE / 4 * 3 {
            return Err(malformed());
        }
        bytes[write..write + piece.len()].copy_from_slice(&piece);
        (read, write) = (end, write + piece.len());
    }
    bytes.truncate(write);
    bytes.drain(..range.start);
    bytes.shrink_to_fit();
    Ok(bytes)
}

/// What people take for a bundle, by its first members.
fn other_file(json: &[u8]) -> Option<&'static str> {
    if json.trim_ascii_start().starts_with(b"-----BEGIN ") {
        return Some("PEM: a bundle holds certificate and signature together, in JSON");
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        payload_type: Option<IgnoredAny>,
        payload: Option<IgnoredAny>,
        attestations: Option<IgnoredAny>,
        bundle: Option<IgnoredAny>,
        predicate_type: Option<IgnoredAny>,
        #[serde(rename = "repository_id")]
        repository: Option<IgnoredAny>,
        #[serde(rename = "verification_material")]
        material: Option<IgnoredAny>,
        envelope: Option<IgnoredAny>,
    }
    let found: Members = json::from_slice(json).ok()?;
    if found.payload_type.is_some() && found.payload.is_some() {
        Some("a DSSE envelope alone: nothing in it proves who signed it, and when")
    } else if found.attestations.is_some() {
        Some("a registry's list of attestations: the member `bundle` of each is one")
    } else if found.bundle.is_some() && found.predicate_type.or(found.repository).is_some() {
        Some("one of a registry's attestations: its member `bundle` is one")
    } else if found.material.is_some() && found.envelope.is_some() {
        Some("an attestation of the Python package index (PEP 740), which other tools verify")
    } else {
        None
    }
}

/// All but an attestation's payload, which is left as text.
fn read(json: &[u8]) -> Result<(Bundle, Option<Cow<'_, str>>), Error> {
    if json.trim_ascii().is_empty() {
        return Err(Error::Nothing);
    }
    let wire: WireBundle = json::from_slice(json).map_err(|error| match other_file(json) {
        Some(found) => Error::OtherFile { found },
        None => json_error(error),
    })?;
    let version = Version::from_media_type(&wire.media_type)
        .ok_or_else(|| Error::MediaType { found: shortened(&wire.media_type) })?;
    let material = wire.verification_material;
    let mut payload = None;
    let timestamps = material.timestamp_verification_data.and_then(|data| data.rfc3161_timestamps);
    let bundle = Bundle {
        version,
        entries: all("tlogEntries", material.tlog_entries)?
            .into_iter()
            .map(entry)
            .collect::<Result<_, _>>()?,
        timestamps: all("rfc3161Timestamps", timestamps)?
            .into_iter()
            .map(|timestamp| sized("signedTimestamp", timestamp.signed_timestamp, MAX_TIMESTAMP))
            .collect::<Result<_, _>>()?,
        material: match (material.certificate, material.x509_certificate_chain, material.public_key)
        {
            (Some(certificate), None, None) => Material::Certificate(raw(certificate)?),
            (None, Some(chain), None) => {
                let member = "x509CertificateChain.certificates";
                let certificates = all(member, chain.certificates)?;
                if certificates.is_empty() {
                    return Err(Error::Empty { member });
                }
                Material::Chain(certificates.into_iter().map(raw).collect::<Result<_, _>>()?)
            }
            (None, None, Some(key)) => Material::PublicKey { hint: key.hint.unwrap_or_default() },
            (certificate, chain, key) => {
                let found = [certificate.is_some(), chain.is_some(), key.is_some()];
                let found = found.into_iter().filter(|present| *present).count();
                let members = "certificate, x509CertificateChain, publicKey";
                return Err(Error::Choice { members, found });
            }
        },
        content: match (wire.message_signature, wire.dsse_envelope) {
            (Some(message), None) => Content::Message(MessageSignature {
                hash: message.message_digest.algorithm.0,
                digest: filled("messageDigest.digest", message.message_digest.digest)?,
                signature: filled("messageSignature.signature", message.signature)?,
            }),
            (None, Some(envelope)) => {
                let (envelope, text) = read_envelope(envelope)?;
                payload = Some(text);
                Content::Dsse(envelope)
            }
            (message, _) => {
                let found = if message.is_some() { 2 } else { 0 };
                return Err(Error::Choice { members: "messageSignature, dsseEnvelope", found });
            }
        },
    };
    Ok((bundle, payload))
}

/// The envelope without its payload, and that as text.
fn read_envelope(envelope: WireEnvelope<'_>) -> Result<(Envelope, Cow<'_, str>), Error> {
    let Bounded { first, found } = envelope.signatures;
    let [signature] = match <[_; 1]>::try_from(first) {
        Ok(one) if found == 1 => one,
        _ => return Err(Error::EnvelopeSignatures { found }),
    };
    let read = Envelope {
        payload_type: envelope.payload_type,
        payload: Vec::new().into(),
        signature: filled("dsseEnvelope.signatures[0].sig", signature.sig)?,
        key_id: signature.keyid.unwrap_or_default(),
    };
    Ok((read, envelope.payload))
}

/// An envelope that stands alone, as JSON.
pub(super) fn parse_envelope(json: &[u8]) -> Result<Envelope, Error> {
    let (envelope, text) = read_envelope(json::from_slice(json).map_err(json_error)?)?;
    Ok(Envelope { payload: decode_payload(&text)?.into(), ..envelope })
}

pub(super) fn read_entry(json: &[u8]) -> Result<LogEntry, Error> {
    entry(json::from_slice(json).map_err(json_error)?)
}

fn entry(wire: WireEntry<'_>) -> Result<LogEntry, Error> {
    let log_id = wire.log_id.key_id.0;
    Ok(LogEntry {
        log_index: unsigned(wire.log_index),
        log_id: log_id[..].try_into().map_err(|_| Error::Length {
            member: "logId.keyId",
            expected: 32,
            found: log_id.len(),
        })?,
        kind: wire.kind_version.kind.into_owned(),
        version: wire.kind_version.version.into_owned(),
        integrated_time: wire.integrated_time.unwrap_or_default().0,
        promise: wire
            .inclusion_promise
            .map(|promise| filled("signedEntryTimestamp", promise.signed_entry_timestamp))
            .transpose()?,
        proof: wire.inclusion_proof.map(proof).transpose()?,
        body: sized("canonicalizedBody", wire.canonicalized_body, 4 * MAX_ENTRY)?,
    })
}

fn proof(wire: WireProof<'_>) -> Result<Proof, Error> {
    let hashes = all("inclusionProof.hashes", wire.hashes)?;
    let checkpoint = wire.checkpoint.map(|checkpoint| checkpoint.envelope.into_owned());
    let checkpoint = checkpoint.unwrap_or_default();
    if checkpoint.len() > MAX_CHECKPOINT {
        return Err(Error::TooLong { limit: MAX_CHECKPOINT, found: checkpoint.len() });
    }
    Ok(Proof {
        log_index: unsigned(wire.log_index),
        tree_size: unsigned(wire.tree_size),
        root: wire.root_hash.map(|root| hash("inclusionProof.rootHash", &root)).transpose()?,
        hashes: hashes
            .iter()
            .map(|bytes| hash("inclusionProof.hashes", bytes))
            .collect::<Result<_, _>>()?,
        checkpoint,
    })
}

fn hash(member: &'static str, bytes: &Bytes<'_>) -> Result<Hash, Error> {
    let found = bytes.0.len();
    Hash::try_from(&bytes.0[..]).map_err(|_| Error::Length { member, expected: 32, found })
}

fn all<T, const N: usize>(
    member: &'static str,
    list: Option<Bounded<T, N>>,
) -> Result<Vec<T>, Error> {
    let list = list.unwrap_or_default();
    list.all().map_err(|found| Error::TooMany { member, limit: N, found })
}

fn unsigned(number: Option<Int64>) -> u64 {
    u64::try_from(number.unwrap_or_default().0).expect("read as not negative")
}

fn raw(certificate: WireRaw<'_>) -> Result<Vec<u8>, Error> {
    sized("rawBytes", certificate.raw_bytes, MAX_CERTIFICATE)
}

fn sized(member: &'static str, bytes: Bytes<'_>, limit: usize) -> Result<Vec<u8>, Error> {
    let found = bytes.0.len();
    if found > limit {
        return Err(Error::MemberTooLong { member, limit, found });
    }
    filled(member, bytes)
}

fn filled(member: &'static str, bytes: Bytes<'_>) -> Result<Vec<u8>, Error> {
    if bytes.0.is_empty() { Err(Error::Empty { member }) } else { Ok(bytes.0.into_owned()) }
}

fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}

/// The JSON before an attestation's payload and after it; the payload is base64 between the two. Of a
/// message all of it comes first.
pub(super) fn write_around(bundle: &Bundle) -> (String, String) {
    let whole = write_but_payload(bundle);
    // Within strings each quotation mark has a backslash before it.
    const MARK: &str = r#""payload":""#;
    match whole.find(MARK) {
        Some(place) => {
            let (head, tail) = whole.split_at(place + MARK.len());
            (head.to_owned(), tail.to_owned())
        }
        None => (whole, String::new()),
    }
}

pub(super) fn write_bundle(bundle: &Bundle) -> String {
    let (mut text, tail) = write_around(bundle);
    if let Content::Dsse(envelope) = &bundle.content {
        text.push_str(&base64(&envelope.payload));
    }
    text.push_str(&tail);
    text
}

fn write_but_payload(bundle: &Bundle) -> String {
    let mut material = WireMaterial {
        public_key: None,
        x509_certificate_chain: None,
        certificate: None,
        tlog_entries: Some(bundle.entries.iter().map(wire_entry).collect()),
        timestamp_verification_data: (!bundle.timestamps.is_empty()).then(|| WireTimestamps {
            rfc3161_timestamps: Some(
                bundle
                    .timestamps
                    .iter()
                    .map(|der| WireTimestamp { signed_timestamp: der.into() })
                    .collect(),
            ),
        }),
    };
    match &bundle.material {
        Material::PublicKey { hint } => {
            material.public_key = Some(WireKeyHint { hint: Some(hint.clone()) });
        }
        Material::Certificate(der) => {
            material.certificate = Some(WireRaw { raw_bytes: der.into() });
        }
        Material::Chain(chain) => {
            let certificates = chain.iter().map(|der| WireRaw { raw_bytes: der.into() });
            material.x509_certificate_chain =
                Some(WireChain { certificates: Some(certificates.collect()) });
        }
    }
    let (message_signature, dsse_envelope) = match &bundle.content {
        Content::Message(message) => {
            let digest = Bytes::from(&message.digest);
            let algorithm = HashName(message.hash);
            let signature = Bytes::from(&message.signature);
            let message_digest = WireDigest { algorithm, digest };
            (Some(WireMessage { message_digest, signature }), None)
        }
        Content::Dsse(envelope) => {
            let keyid = (!envelope.key_id.is_empty()).then(|| envelope.key_id.clone());
            let signature = WireSignature { sig: (&envelope.signature).into(), keyid };
            let signatures = [signature].into_iter().collect();
            let payload = Cow::Borrowed("");
            let payload_type = envelope.payload_type.clone();
            (None, Some(WireEnvelope { payload, payload_type, signatures }))
        }
    };
    let wire = WireBundle {
        media_type: bundle.version.media_type().to_owned(),
        verification_material: material,
        message_signature,
        dsse_envelope,
    };
    write(&wire, 0)
}

pub(super) fn write_entry(entry: &LogEntry) -> String {
    let proof =
        entry.proof.as_ref().map_or(0, |proof| proof.checkpoint.len() + 48 * proof.hashes.len());
    write(&wire_entry(entry), 1024 + proof + 4 * entry.body.len() / 3)
}

fn wire_entry(entry: &LogEntry) -> WireEntry<'_> {
    let int = |number: u64| Some(Int64(i64::try_from(number).expect("a log's numbers fit")));
    WireEntry {
        log_index: int(entry.log_index),
        log_id: WireLogId { key_id: (&entry.log_id).into() },
        kind_version: WireKind { kind: (&entry.kind).into(), version: (&entry.version).into() },
        integrated_time: Some(Int64(entry.integrated_time)),
        inclusion_promise: entry
            .promise
            .as_ref()
            .map(|promise| WirePromise { signed_entry_timestamp: promise.into() }),
        inclusion_proof: entry.proof.as_ref().map(|proof| WireProof {
            log_index: int(proof.log_index),
            root_hash: proof.root.as_ref().map(|root| root.as_bytes().into()),
            tree_size: int(proof.tree_size),
            hashes: Some(proof.hashes.iter().map(|hash| hash.as_bytes().into()).collect()),
            checkpoint: Some(WireCheckpoint { envelope: (&proof.checkpoint).into() }),
        }),
        canonicalized_body: (&entry.body).into(),
    }
}

pub(super) fn json_error(error: serde_json::Error) -> Error {
    Error::Json(JsonError {
        line: error.line(),
        column: error.column(),
        message: error.to_string(),
    })
}

/// Where and why the JSON is not that of a bundle.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct JsonError {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in bytes.
    pub column: usize,
    /// What the reader expected and found, with the place.
    pub message: String,
}

/// Why bytes are no bundle.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No bytes.
    #[error("the file is empty; expected a Sigstore bundle")]
    Nothing,
    /// Above the limit for the whole.
    #[error("{found} bytes are above the limit of {limit}")]
    TooLong {
        /// Bytes allowed.
        limit: usize,
        /// Bytes found.
        found: usize,
    },
    /// Not JSON, or not these members.
    #[error("not a Sigstore bundle: {0}")]
    Json(JsonError),
    /// Something else that signers make.
    #[error("expected a Sigstore bundle, found {found}")]
    OtherFile {
        /// What it is, and what to do with it.
        found: &'static str,
    },
    /// Another file, or a generation from the future.
    #[error("expected a bundle of version 0.1, 0.2 or 0.3, found media type {found:?}")]
    MediaType {
        /// Its beginning.
        found: String,
    },
    /// None or several members of a choice.
    #[error("expected exactly one of {members}, found {found}")]
    Choice {
        /// The members to choose from.
        members: &'static str,
        /// How many there are.
        found: usize,
    },
    /// Not standard base64 with padding.
    #[error("{member}: expected standard base64 with padding")]
    Base64 {
        /// The member.
        member: &'static str,
    },
    /// Nothing where something is needed.
    #[error("{member} is empty")]
    Empty {
        /// The member.
        member: &'static str,
    },
    /// Another length than the type has.
    #[error("{member}: expected {expected} bytes, found {found}")]
    Length {
        /// The member.
        member: &'static str,
        /// Bytes expected.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// Above the limit for this member.
    #[error("{member}: {found} bytes are above the limit of {limit}")]
    MemberTooLong {
        /// The member.
        member: &'static str,
        /// Bytes allowed.
        limit: usize,
        /// Bytes found.
        found: usize,
    },
    /// A list that is too long.
    #[error("{member}: at most {limit} are read, found {found}")]
    TooMany {
        /// The member.
        member: &'static str,
        /// Elements allowed.
        limit: usize,
        /// Elements found.
        found: usize,
    },
    /// A member of cosign's own bundle that does not decode.
    #[error("{member} of cosign's own bundle is not what it must be")]
    LegacyMember {
        /// The member.
        member: &'static str,
    },
    /// DSSE allows many signatures, bundles one.
    #[error("expected one signature in the DSSE envelope, found {found}")]
    EnvelopeSignatures {
        /// Signatures found.
        found: usize,
    },
    /// A chain in generation 0.3.
    #[error("a bundle of version 0.3 carries one certificate, found a chain")]
    ChainInV03,
    /// A lone certificate in generations that carry chains.
    #[error("a bundle of version {version} carries a certificate chain, found a lone certificate")]
    CertificateBeforeV03 {
        /// The bundle's generation.
        version: Version,
    },
    /// Generation 0.1 without promise.
    #[error("log entry {entry}: a bundle of version 0.1 needs an inclusion promise, found none")]
    NoPromise {
        /// Its place, from 0.
        entry: usize,
    },
    /// Generations 0.2 and 0.3 without proof.
    #[error("log entry {entry}: expected an inclusion proof with a checkpoint, found none")]
    NoProof {
        /// Its place, from 0.
        entry: usize,
    },
}
